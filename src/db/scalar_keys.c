/* Words that order like values, comparison of what does not fit into them, and blocks of values. */
#include "db/scalar_keys.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/hash.h"

#define SIGN_BIT ((uint64_t) 1 << 63)

enum key_kind
key_kind_of(enum field_type type)
{
    switch (type) {
    case FIELD_STRING:
        return KEY_TEXT;
    case FIELD_UUID:
        return KEY_UUID;
    case FIELD_COMPOSITE:
        return KEY_TUPLE;
    default:
        return KEY_WORD;
    }
}

static uint64_t
word_of_double(double value)
{
    uint64_t bits;

    if (isnan(value))
        return UINT64_MAX;
    if (value == 0)
        value = 0; /* no negative zero */
    memcpy(&bits, &value, sizeof(bits));
    return bits & SIGN_BIT ? ~bits : bits | SIGN_BIT;
}

/* False: not a number of any kind. */
static bool
word_of_number(enum field_type type, const struct value *value, uint64_t *word)
{
    bool is_double = type == FIELD_DOUBLE;

    switch (value->type) {
    case VALUE_BOOL:
        *word = is_double ? word_of_double(value->boolean) : value->boolean | SIGN_BIT;
        return true;
    case VALUE_INT:
        *word = is_double ? word_of_double((double) value->integer) : (uint64_t) value->integer ^ SIGN_BIT;
        return true;
    case VALUE_DOUBLE:
        *word = word_of_double(value->real);
        return is_double;
    default:
        return false;
    }
}

static uint64_t
word_of_bytes(const uint8_t *bytes, size_t size)
{
    uint64_t word = 0;

    for (size_t i = 0; i < 8; i++)
        word = word << 8 | (i < size ? bytes[i] : 0);
    return word;
}

/* The word by which a value of a part sorts; equal words say nothing about texts and uuids. */
static bool
part_word(const struct key_part *part, const struct value *value, uint64_t *word)
{
    switch (part->type) {
    case FIELD_STRING:
        *word = part->collation.mode == COLLATE_NONE && value->type == VALUE_STRING
                    ? word_of_bytes((const uint8_t *) value->text.data, value->text.size)
                    : 0;
        return value->type == VALUE_STRING;
    case FIELD_UUID:
        *word = word_of_bytes(value->uuid, 8);
        return value->type == VALUE_UUID;
    default:
        return word_of_number(part->type, value, word);
    }
}

bool
key_make(const struct key_type *type, const struct value *value, struct key *out)
{
    uint64_t word;

    *out = (struct key) { .items = value };
    if (type->kind != KEY_TUPLE) {
        if (!part_word(&type->parts[0], value, &out->head))
            return false;
        if (type->kind == KEY_UUID)
            out->low = word_of_bytes(value->uuid + 8, 8);
        return true;
    }
    if (value->type != VALUE_TUPLE || value->tuple.n != type->n_part)
        return false;
    for (size_t i = 0; i < type->n_part; i++)
        if (!part_word(&type->parts[i], &value->tuple.items[i], &word))
            return false;
    out->items = value->tuple.items;
    return part_word(&type->parts[0], &out->items[0], &out->head);
}

static int
compare_words(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int
compare_texts(anx_text a, anx_text b, const struct collation *collation)
{
    size_t size = a.size < b.size ? a.size : b.size;
    int order;

    if (collation->mode != COLLATE_NONE)
        return text_compare(a, b, collation);
    order = size > 0 ? memcmp(a.data, b.data, size) : 0;
    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int
compare_parts(const struct key_part *part, const struct value *a, const struct value *b)
{
    uint64_t word_a = 0, word_b = 0;

    if (a->type == VALUE_NULL || b->type == VALUE_NULL)
        return (a->type != VALUE_NULL) - (b->type != VALUE_NULL);
    switch (part->type) {
    case FIELD_STRING:
        return compare_texts(a->text, b->text, &part->collation);
    case FIELD_UUID:
        return memcmp(a->uuid, b->uuid, sizeof(a->uuid));
    default:
        (void) word_of_number(part->type, a, &word_a);
        (void) word_of_number(part->type, b, &word_b);
        return compare_words(word_a, word_b);
    }
}

static int
compare_tuples(const struct key_type *type, const struct value *a, const struct value *b)
{
    for (size_t i = 0; i < type->n_part; i++) {
        int order = compare_parts(&type->parts[i], &a[i], &b[i]);

        if (order)
            return order;
    }
    return 0;
}

int
key_compare(const struct key_type *type, uint64_t head, uint64_t low, const struct key *key)
{
    int order = compare_words(head, key->head);

    if (order || type->kind == KEY_WORD)
        return order;
    if (type->kind == KEY_UUID)
        return compare_words(low, key->low);
    if (type->kind == KEY_TEXT)
        return compare_texts(text_block_text((const struct text_block *) (uintptr_t) low),
                             key->items[0].text, &type->parts[0].collation);
    return compare_tuples(type, ((const struct value_block *) (uintptr_t) low)->items, key->items);
}

int
key_compare_values(const struct key_type *type, const struct value *a, const struct value *b)
{
    if (type->kind != KEY_TUPLE)
        return compare_parts(&type->parts[0], a, b);
    if (a->type == VALUE_NULL || b->type == VALUE_NULL)
        return (a->type != VALUE_NULL) - (b->type != VALUE_NULL);
    return compare_tuples(type, a->tuple.items, b->tuple.items);
}

/* What two texts that a collation takes for equal have in common. utf8 also folds some characters above ASCII
 * to k and s (the Kelvin sign, the long s), so those two letters are left out. */
static uint64_t
hash_folded(anx_text text, enum collate_mode mode)
{
    uint64_t hash = 14695981039346656037u; /* FNV-1a, 64 bits */

    for (size_t i = 0; i < text.size; i++) {
        uint8_t c = (uint8_t) text.data[i];

        if (c >= 'A' && c <= 'Z')
            c = (uint8_t) (c + ('a' - 'A'));
        if (mode == COLLATE_UTF8 && (c >= 0x80 || c == 'k' || c == 's'))
            continue;
        hash = (hash ^ c) * 1099511628211u;
    }
    return hash;
}

static uint64_t
part_hash(const struct key_part *part, const struct value *value)
{
    uint64_t word = 0;

    switch (part->type) {
    case FIELD_UUID:
        return anx_hash(value->uuid, sizeof(value->uuid));
    case FIELD_STRING:
        if (value->type != VALUE_STRING)
            return 0;
        if (part->collation.mode == COLLATE_NONE)
            return anx_hash(value->text.data, value->text.size);
        if (part->collation.mode == COLLATE_ASCII || part->collation.mode == COLLATE_UTF8)
            return hash_folded(value->text, part->collation.mode);
        return 0;
    default:
        (void) word_of_number(part->type, value, &word);
        return anx_hash(&word, sizeof(word));
    }
}

uint64_t
key_hash(const struct key_type *type, const struct value *value)
{
    uint64_t hash = 0;

    if (type->kind != KEY_TUPLE)
        return part_hash(&type->parts[0], value);
    for (size_t i = 0; i < type->n_part && i < value->tuple.n; i++)
        hash = hash * 31 + part_hash(&type->parts[i], &value->tuple.items[i]);
    return hash;
}

struct text_block *
text_block_create(anx_text text)
{
    struct text_block *block;

    if (text.size > UINT32_MAX - sizeof(*block))
        return NULL;
    block = anx_alloc_bytes(NULL, sizeof(*block) + text.size);
    if (!block)
        return NULL;
    block->size = (uint32_t) text.size;
    if (text.size > 0)
        memcpy(block->data, text.data, text.size);
    return block;
}

struct value_block *
value_block_create(const struct value *items, size_t n)
{
    size_t size = sizeof(struct value_block) + n * sizeof(struct value);
    struct value_block *block;
    char *at;

    for (size_t i = 0; i < n; i++)
        if (items[i].type == VALUE_STRING)
            size += items[i].text.size;
    block = n <= UINT32_MAX ? anx_alloc_bytes(NULL, size) : NULL;
    if (!block)
        return NULL;
    block->n = (uint32_t) n;
    at = (char *) (block->items + n);
    for (size_t i = 0; i < n; i++) {
        block->items[i] = items[i];
        if (items[i].type != VALUE_STRING)
            continue;
        block->items[i].text.data = at;
        if (items[i].text.size > 0)
            memcpy(at, items[i].text.data, items[i].text.size);
        at += items[i].text.size;
    }
    return block;
}

size_t
value_block_size(const struct value_block *block)
{
    size_t size = sizeof(*block) + block->n * sizeof(struct value);

    for (uint32_t i = 0; i < block->n; i++)
        if (block->items[i].type == VALUE_STRING)
            size += block->items[i].text.size;
    return size;
}
