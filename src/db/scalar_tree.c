/* The directory of leaves; see the header. A leaf is one block of words: heads, then rows, then (where a key
 * has them) lows. */
#include "db/scalar_tree.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

#define LEAF_KEYS 128 /* 64 and 256 were 10 % slower to fill at a million random keys */

struct leaf {
    uint32_t n;
    uint64_t words[];
};
struct key_tree {
    const struct key_type *type;
    struct leaf **leaves; /* owned [n_leaf]; none is empty */
    uint64_t *heads;      /* owned [n_leaf]: the first head of each leaf */
    size_t n_leaf, capacity;
    size_t n_key;
    size_t n_column; /* 2, or 3 with lows */
};

static uint64_t *
heads_of(struct leaf *leaf)
{
    return leaf->words;
}

static postings *
rows_of(struct leaf *leaf)
{
    return leaf->words + LEAF_KEYS;
}

static uint64_t *
lows_of(struct leaf *leaf)
{
    return leaf->words + 2 * LEAF_KEYS; /* only with three columns */
}

static uint64_t
low_at(const struct key_tree *tree, struct leaf *leaf, uint32_t at)
{
    return tree->n_column == 3 ? lows_of(leaf)[at] : 0;
}

static void
block_free(const struct key_tree *tree, uint64_t low)
{
    if (tree->type->kind == KEY_TEXT || tree->type->kind == KEY_TUPLE)
        anx_free(NULL, (void *) (uintptr_t) low);
}

struct key_tree *
tree_create(const struct key_type *type)
{
    struct key_tree *tree = anx_alloc_zeroed(NULL, 1, sizeof(*tree));

    if (!tree)
        return NULL;
    tree->type = type;
    tree->n_column = type->kind == KEY_WORD ? 2 : 3;
    return tree;
}

void
tree_destroy(struct key_tree *tree)
{
    if (!tree)
        return;
    for (size_t l = 0; l < tree->n_leaf; l++) {
        struct leaf *leaf = tree->leaves[l];

        for (uint32_t i = 0; i < leaf->n; i++) {
            postings_free(&rows_of(leaf)[i]);
            block_free(tree, low_at(tree, leaf, i));
        }
        anx_free(NULL, leaf);
    }
    anx_free(NULL, tree->leaves);
    anx_free(NULL, tree->heads);
    anx_free(NULL, tree);
}

/* ---- Search ---- */

static int
compare_at(const struct key_tree *tree, struct leaf *leaf, uint32_t at, const struct key *key)
{
    return key_compare(tree->type, heads_of(leaf)[at], low_at(tree, leaf, at), key);
}

/* The last leaf whose first key is not above `key`; the first leaf when there is none. */
static size_t
find_leaf(const struct key_tree *tree, const struct key *key)
{
    size_t low = 0, high = tree->n_leaf;

    while (low < high) {
        size_t mid = (low + high) / 2;
        bool is_above = tree->heads[mid] > key->head;

        if (tree->heads[mid] == key->head)
            is_above = compare_at(tree, tree->leaves[mid], 0, key) > 0;
        if (is_above)
            high = mid;
        else
            low = mid + 1;
    }
    return low > 0 ? low - 1 : 0;
}

/* The first entry of the leaf that is not below the key (is_after: above it); leaf->n when there is none. */
static uint32_t
find_entry(const struct key_tree *tree, struct leaf *leaf, const struct key *key, bool is_after)
{
    uint32_t low = 0, high = leaf->n;

    while (low < high) {
        uint32_t mid = (low + high) / 2;
        int order = compare_at(tree, leaf, mid, key);

        if (order < 0 || (is_after && order == 0))
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

struct tree_place
tree_begin(const struct key_tree *tree)
{
    (void) tree;
    return (struct tree_place) { 0, 0 };
}

struct tree_place
tree_end(const struct key_tree *tree)
{
    return (struct tree_place) { tree->n_leaf, 0 };
}

struct tree_place
tree_bound(const struct key_tree *tree, const struct key *key, bool is_after)
{
    size_t l = find_leaf(tree, key);
    uint32_t at;

    if (l == tree->n_leaf)
        return tree_end(tree);
    at = find_entry(tree, tree->leaves[l], key, is_after);
    return at < tree->leaves[l]->n ? (struct tree_place) { l, at } : (struct tree_place) { l + 1, 0 };
}

bool
tree_next(const struct key_tree *tree, struct tree_place *place)
{
    if (place->leaf < tree->n_leaf && ++place->at == tree->leaves[place->leaf]->n) {
        place->leaf++;
        place->at = 0;
    }
    return place->leaf < tree->n_leaf;
}

bool
tree_previous(const struct key_tree *tree, struct tree_place *place)
{
    if (place->at > 0) {
        place->at--;
        return true;
    }
    if (place->leaf == 0)
        return false;
    place->leaf--;
    place->at = tree->leaves[place->leaf]->n - 1;
    return true;
}

postings
tree_rows(const struct key_tree *tree, struct tree_place place)
{
    return rows_of(tree->leaves[place.leaf])[place.at];
}

uint64_t
tree_low(const struct key_tree *tree, struct tree_place place)
{
    return low_at(tree, tree->leaves[place.leaf], place.at);
}

static bool
find_key(const struct key_tree *tree, const struct key *key, struct tree_place *place)
{
    place->leaf = find_leaf(tree, key);
    place->at = 0;
    if (place->leaf == tree->n_leaf)
        return false;
    place->at = find_entry(tree, tree->leaves[place->leaf], key, false);
    return place->at < tree->leaves[place->leaf]->n &&
           compare_at(tree, tree->leaves[place->leaf], place->at, key) == 0;
}

postings
tree_find(const struct key_tree *tree, const struct key *key)
{
    struct tree_place place;

    return find_key(tree, key, &place) ? tree_rows(tree, place) : 0;
}

/* ---- Change ---- */

static struct leaf *
leaf_create(const struct key_tree *tree)
{
    struct leaf *leaf = anx_alloc_array(NULL, sizeof(*leaf) / sizeof(uint64_t) + tree->n_column * LEAF_KEYS,
                                        sizeof(uint64_t));

    if (leaf)
        leaf->n = 0;
    return leaf;
}

/* Moves n entries of `from` to `to`; places may overlap in one leaf. */
static void
move_entries(const struct key_tree *tree, struct leaf *to, uint32_t to_at, struct leaf *from,
             uint32_t from_at, uint32_t n)
{
    for (size_t c = 0; c < tree->n_column; c++)
        memmove(to->words + c * LEAF_KEYS + to_at, from->words + c * LEAF_KEYS + from_at,
                n * sizeof(uint64_t));
}

static anx_status
directory_insert(struct key_tree *tree, size_t at, struct leaf *leaf, anx_error *err)
{
    if (tree->n_leaf == tree->capacity) {
        size_t capacity = tree->capacity + tree->capacity / 2 + 4;
        struct leaf **leaves = anx_realloc_array(NULL, tree->leaves, capacity, sizeof(struct leaf *));
        uint64_t *heads;

        if (leaves)
            tree->leaves = leaves;
        heads = leaves ? anx_realloc_array(NULL, tree->heads, capacity, sizeof(*heads)) : NULL;
        if (!heads)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate the directory of an index");
        tree->heads = heads;
        tree->capacity = capacity;
    }
    memmove(tree->leaves + at + 1, tree->leaves + at, (tree->n_leaf - at) * sizeof(struct leaf *));
    memmove(tree->heads + at + 1, tree->heads + at, (tree->n_leaf - at) * sizeof(*tree->heads));
    tree->leaves[at] = leaf;
    tree->heads[at] = leaf->n > 0 ? heads_of(leaf)[0] : 0;
    tree->n_leaf++;
    return ANX_OK;
}

static void
directory_remove(struct key_tree *tree, size_t at)
{
    anx_free(NULL, tree->leaves[at]);
    tree->n_leaf--;
    memmove(tree->leaves + at, tree->leaves + at + 1, (tree->n_leaf - at) * sizeof(struct leaf *));
    memmove(tree->heads + at, tree->heads + at + 1, (tree->n_leaf - at) * sizeof(*tree->heads));
}

/* Makes room for one entry at the place, which may move to another leaf. A place behind the last key of all
 * starts a new leaf, so that ascending keys leave full leaves behind; others halve theirs. */
static anx_status
make_room(struct key_tree *tree, struct tree_place *place, anx_error *err)
{
    struct leaf *old = place->leaf < tree->n_leaf ? tree->leaves[place->leaf] : NULL;
    struct leaf *leaf;
    uint32_t n_move = 0;
    anx_status st;

    if (old && old->n < LEAF_KEYS)
        return ANX_OK;
    leaf = leaf_create(tree);
    if (!leaf)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a leaf of an index");
    if (old && (place->at < LEAF_KEYS || place->leaf + 1 < tree->n_leaf))
        n_move = LEAF_KEYS / 2;
    if (n_move > 0)
        move_entries(tree, leaf, 0, old, LEAF_KEYS - n_move, n_move);
    leaf->n = n_move;
    st = directory_insert(tree, old ? place->leaf + 1 : 0, leaf, err);
    if (st != ANX_OK) {
        anx_free(NULL, leaf);
        return st;
    }
    if (!old)
        return ANX_OK;
    old->n -= n_move;
    if (place->at > old->n || old->n == LEAF_KEYS) {
        place->at -= old->n;
        place->leaf++;
    }
    return ANX_OK;
}

/* The block of a new key. */
static anx_status
low_create(const struct key_tree *tree, const struct key *key, uint64_t *low, anx_error *err)
{
    const void *block;

    *low = key->low;
    if (tree->type->kind == KEY_TEXT)
        block = text_block_create(key->items[0].text);
    else if (tree->type->kind == KEY_TUPLE)
        block = value_block_create(key->items, tree->type->n_part);
    else
        return ANX_OK;
    *low = (uint64_t) (uintptr_t) block;
    return block ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate a key of an index");
}

static anx_status
insert_key(struct key_tree *tree, struct tree_place place, const struct key *key, uint32_t row, uint64_t *low,
           anx_error *err)
{
    anx_status st = low_create(tree, key, low, err);
    postings rows = 0;
    struct leaf *leaf;

    if (st != ANX_OK)
        return st;
    st = make_room(tree, &place, err);
    if (st == ANX_OK)
        st = postings_add(&rows, row, NULL, err);
    if (st != ANX_OK) {
        block_free(tree, *low);
        return st;
    }
    leaf = tree->leaves[place.leaf];
    move_entries(tree, leaf, place.at + 1, leaf, place.at, leaf->n - place.at);
    leaf->n++;
    heads_of(leaf)[place.at] = key->head;
    rows_of(leaf)[place.at] = rows;
    if (tree->n_column == 3)
        lows_of(leaf)[place.at] = *low;
    if (place.at == 0)
        tree->heads[place.leaf] = key->head;
    tree->n_key++;
    return ANX_OK;
}

anx_status
tree_add(struct key_tree *tree, const struct key *key, uint32_t row, uint64_t *low, bool *added,
         anx_error *err)
{
    struct tree_place place;

    if (find_key(tree, key, &place)) {
        *low = tree_low(tree, place);
        return postings_add(&rows_of(tree->leaves[place.leaf])[place.at], row, added, err);
    }
    *added = true;
    return insert_key(tree, place, key, row, low, err);
}

/* Two neighbors that fit into half a leaf become one. */
static void
merge_leaves(struct key_tree *tree, size_t l)
{
    size_t left = l + 1 < tree->n_leaf ? l : l - 1;
    struct leaf *a, *b;

    if (l == 0 && tree->n_leaf == 1)
        return;
    a = tree->leaves[left];
    b = tree->leaves[left + 1];
    if (a->n + b->n > LEAF_KEYS / 2)
        return;
    move_entries(tree, a, a->n, b, 0, b->n);
    a->n += b->n;
    tree->heads[left] = heads_of(a)[0];
    directory_remove(tree, left + 1);
}

static void
remove_key(struct key_tree *tree, struct tree_place place)
{
    struct leaf *leaf = tree->leaves[place.leaf];

    block_free(tree, low_at(tree, leaf, place.at));
    move_entries(tree, leaf, place.at, leaf, place.at + 1, leaf->n - place.at - 1);
    leaf->n--;
    tree->n_key--;
    if (leaf->n == 0) {
        directory_remove(tree, place.leaf);
        return;
    }
    tree->heads[place.leaf] = heads_of(leaf)[0];
    if (leaf->n < LEAF_KEYS / 4)
        merge_leaves(tree, place.leaf);
}

void
tree_remove(struct key_tree *tree, const struct key *key, uint32_t row)
{
    struct tree_place place;
    postings *rows;

    if (!find_key(tree, key, &place))
        return;
    rows = &rows_of(tree->leaves[place.leaf])[place.at];
    postings_remove(rows, row);
    if (!*rows)
        remove_key(tree, place);
}

/* ---- Figures ---- */

size_t
tree_count(const struct key_tree *tree)
{
    return tree->n_key;
}

size_t
tree_distance(const struct key_tree *tree, struct tree_place a, struct tree_place b)
{
    size_t n_leaf = tree->n_leaf ? tree->n_leaf : 1;

    if (!tree_place_before(a, b))
        return 0;
    if (a.leaf == b.leaf)
        return b.at - a.at;
    return tree->leaves[a.leaf]->n - a.at + b.at + (b.leaf - a.leaf - 1) * (tree->n_key / n_leaf);
}

/* low 0: a key without a block. */
static size_t
block_size(const struct key_tree *tree, uint64_t low)
{
    if (!low)
        return 0;
    if (tree->type->kind == KEY_TEXT)
        return sizeof(struct text_block) + ((const struct text_block *) (uintptr_t) low)->size;
    if (tree->type->kind == KEY_TUPLE)
        return value_block_size((const struct value_block *) (uintptr_t) low);
    return 0;
}

size_t
tree_memory(const struct key_tree *tree)
{
    size_t size = sizeof(*tree) + tree->capacity * (sizeof(struct leaf *) + sizeof(*tree->heads));

    for (size_t l = 0; l < tree->n_leaf; l++) {
        struct leaf *leaf = tree->leaves[l];

        size += sizeof(*leaf) + tree->n_column * LEAF_KEYS * sizeof(uint64_t);
        for (uint32_t i = 0; i < leaf->n; i++)
            size += postings_memory(rows_of(leaf)[i]) + block_size(tree, low_at(tree, leaf, i));
    }
    return size;
}

/* Is entry `at` above the one before it? */
static bool
is_in_order(const struct key_tree *tree, size_t l, uint32_t at)
{
    struct tree_place place = { l, at }, before = { l, at };
    struct key key = { .head = heads_of(tree->leaves[l])[at], .low = tree_low(tree, place) };
    struct value text = { .type = VALUE_STRING };

    if (!tree_previous(tree, &before))
        return true;
    if (tree->type->kind == KEY_TEXT) {
        text.text = text_block_text((const struct text_block *) (uintptr_t) key.low);
        key.items = &text;
    } else if (tree->type->kind == KEY_TUPLE) {
        key.items = ((const struct value_block *) (uintptr_t) key.low)->items;
    }
    return compare_at(tree, tree->leaves[before.leaf], before.at, &key) < 0;
}

bool
tree_check(const struct key_tree *tree)
{
    size_t n_key = 0;

    for (size_t l = 0; l < tree->n_leaf; l++) {
        struct leaf *leaf = tree->leaves[l];

        if (leaf->n == 0 || leaf->n > LEAF_KEYS || tree->heads[l] != heads_of(leaf)[0])
            return false;
        for (uint32_t i = 0; i < leaf->n; i++)
            if (!rows_of(leaf)[i] || !postings_check(rows_of(leaf)[i]) || !is_in_order(tree, l, i))
                return false;
        n_key += leaf->n;
    }
    return n_key == tree->n_key;
}
