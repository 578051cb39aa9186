/* Keys of scalar indexes: a value of the index's type as a word that orders like the value (and a second one,
 * or a block with the rest, where a word is too short), and the blocks in which values are kept.
 *
 *     int, int64, double, bool   one word says all
 *     uuid                       two words
 *     string                     a word of its first eight bytes (only without collation), and a text block
 *     composite                  the word of its first component, and a value block
 *
 * -0.0 and 0.0 are one key; every NaN is one key, above all numbers. */
#ifndef ANX_DB_SCALAR_KEYS_H
#define ANX_DB_SCALAR_KEYS_H

#include "base/arena.h"
#include "doc/value.h"

enum key_kind { KEY_WORD, KEY_UUID, KEY_TEXT, KEY_TUPLE };
struct key_part {
    enum field_type type;
    struct collation collation;
};
struct key_type {
    enum key_kind kind;
    struct key_part *parts; /* owned [n_part]; one unless KEY_TUPLE */
    size_t n_part;
};
struct key {
    uint64_t head, low; /* low: second word of a uuid */
    const struct value *items; /* KEY_TEXT, KEY_TUPLE; borrowed */
};
enum key_kind key_kind_of(enum field_type type);
/* False: the value is not of this type (or is NULL), so that no row has it. */
bool key_make(const struct key_type *type, const struct value *value, struct key *out);
/* The order of a stored key (head and low as the tree keeps them) and a key. */
int key_compare(const struct key_type *type, uint64_t head, uint64_t low, const struct key *key);
/* Order of two values of the type. NULL first. */
int key_compare_values(const struct key_type *type, const struct value *a, const struct value *b);

/* Equal values have equal hashes; collations that say little in advance make all hashes of a text 0. */
uint64_t key_hash(const struct key_type *type, const struct value *value);

struct text_block {
    uint32_t size;
    char data[];
};
struct value_block {
    uint32_t n;
    struct value items[]; /* their texts stand behind them, in the same block */
};
struct text_block *text_block_create(anx_text text); /* NULL: out of memory */
struct value_block *value_block_create(const struct value *items, size_t n);
static inline anx_text
text_block_text(const struct text_block *block)
{
    return block ? (anx_text) { block->data, block->size } : (anx_text) { NULL, 0 };
}
size_t value_block_size(const struct value_block *block);

#endif
