/* Keys in order, each with the rows that have it: a directory of leaves, which is a tree of two levels whose
 * root has no limit. A leaf holds up to 128 keys; the directory holds the first word of each leaf side by
 * side, so that finding a leaf is one binary search in 8 bytes per leaf (640 KB for ten million keys).
 *
 * Instead of a tree of more levels: a split moves the directory's tail, 8 bytes per leaf behind it, which at
 * ten million keys is some 0.2 us per insert on average, and nothing has to be rebalanced or kept as a
 * separator.
 *
 * Threads: one changes, nobody reads meanwhile. */
#ifndef ANX_DB_SCALAR_TREE_H
#define ANX_DB_SCALAR_TREE_H

#include "db/postings.h"
#include "db/scalar_keys.h"

struct key_tree;
struct key_tree *tree_create(const struct key_type *type); /* type is borrowed; NULL: out of memory */
void tree_destroy(struct key_tree *tree);                  /* NULL is fine */

/* Adds a row to a key; *low: what the tree keeps of it (KEY_TEXT, KEY_TUPLE: its block, alive while the key
 * has rows). *added: the row was not there. ANX_E_NOMEM: nothing changed. */
ANX_NODISCARD anx_status tree_add(struct key_tree *tree, const struct key *key, uint32_t row, uint64_t *low,
                                  bool *added, anx_error *err);
void tree_remove(struct key_tree *tree, const struct key *key, uint32_t row);

/* Places: an entry of a leaf; the end is {n leaves, 0}. Valid until the tree changes. */
struct tree_place {
    size_t leaf;
    uint32_t at;
};
struct tree_place tree_begin(const struct key_tree *tree);
struct tree_place tree_end(const struct key_tree *tree);
/* The first key that is not below `key` (is_after: that is above it). */
struct tree_place tree_bound(const struct key_tree *tree, const struct key *key, bool is_after);
bool tree_next(const struct key_tree *tree, struct tree_place *place);     /* false: it was the last */
bool tree_previous(const struct key_tree *tree, struct tree_place *place); /* false: it was the first */
static inline bool
tree_place_before(struct tree_place a, struct tree_place b)
{
    return a.leaf < b.leaf || (a.leaf == b.leaf && a.at < b.at);
}
postings tree_rows(const struct key_tree *tree, struct tree_place place);
uint64_t tree_low(const struct key_tree *tree, struct tree_place place);
/* The rows of a key, 0 for none. */
postings tree_find(const struct key_tree *tree, const struct key *key);
size_t tree_count(const struct key_tree *tree); /* keys */
/* Keys from a to b, about: leaves between are taken as equally full. */
size_t tree_distance(const struct key_tree *tree, struct tree_place a, struct tree_place b);
size_t tree_memory(const struct key_tree *tree);
bool tree_check(const struct key_tree *tree); /* order, sizes, directory, postings */

#endif
