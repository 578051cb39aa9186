/* A scalar as it stands in queries, index keys and results, and short lists of them. Integers of 32 and 64
 * bits are one type here; what an index stores is said by its field type.
 * Memory: texts and items are borrowed (from a document, an arena, a query). */
#ifndef ANX_DOC_VALUE_H
#define ANX_DOC_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/status.h"
#include "base/arena.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

enum value_type {
    VALUE_NULL,
    VALUE_BOOL,
    VALUE_INT,
    VALUE_DOUBLE,
    VALUE_STRING,
    VALUE_UUID,
    VALUE_TUPLE /* one value of a composite index */
};

struct value;
struct values {
    struct value *items;
    size_t n;
};
struct value {
    enum value_type type;
    union {
        bool boolean;
        int64_t integer;
        double real;
        anx_text text;
        uint8_t uuid[16];
        struct values tuple;
    };
};

/* What an index declares its field to be. */
enum field_type {
    FIELD_INT,
    FIELD_INT64,
    FIELD_DOUBLE,
    FIELD_STRING,
    FIELD_BOOL,
    FIELD_UUID,
    FIELD_POINT,
    FIELD_COMPOSITE,
    FIELD_FLOAT_VECTOR,
    FIELD_TYPE_COUNT
};
const char *field_type_name(enum field_type type); /* "int", "int64", ... as in index definitions */
const char *value_type_name(enum value_type type); /* as in error texts */

/* How strings of a field compare. */
enum collate_mode { COLLATE_NONE, COLLATE_ASCII, COLLATE_UTF8, COLLATE_NUMERIC, COLLATE_CUSTOM };
struct collation {
    enum collate_mode mode;
    const uint16_t
        *custom; /* COLLATE_CUSTOM: rank of each code point below 65,536; borrowed from the index */
};
/* Reads sort_order_letters of an index definition ("a-zA-Z0-9..."); *out has 65,536 entries from the arena.
 */
ANX_NODISCARD anx_status collation_custom(anx_text letters, anx_arena *arena, const uint16_t **out,
                                          anx_error *err);
/* < 0, 0, > 0. */
int text_compare(anx_text a, anx_text b, const struct collation *collation);
/* Case-insensitive over UTF-8; % any run, _ one character. */
bool text_like(anx_text text, anx_text pattern);

/* Order of two values of the same family (numbers of any kind and bool; strings; uuids; tuples by item).
 * NULL comes before everything. *comparable false: a string against a number that it does not spell, and
 * kin. A string against a number is read as a number; a uuid against a string is compared as text. */
int value_compare(const struct value *a, const struct value *b, const struct collation *collation,
                  bool *comparable);
/* A query's value as the type of an indexed field. ANX_E_PARAMS with the text clients know ("Can't convert
 * 'abc' to number"). New texts come from the arena. Null stays null. */
ANX_NODISCARD anx_status value_convert(const struct value *in, enum field_type type, anx_arena *arena,
                                       struct value *out, anx_error *err);
bool uuid_parse(anx_text text, uint8_t out[16]);
void uuid_print(const uint8_t uuid[16], char out[36]); /* lower case, 8-4-4-4-12, not terminated */

#ifdef __cplusplus
}
#endif
#endif
