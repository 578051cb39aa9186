/* The rows that have one value: eight bytes for a single row, a small sorted array, or a bitmap. Zero is the
 * empty set. Threads: one changes, nobody reads meanwhile. */
#ifndef ANX_DB_POSTINGS_H
#define ANX_DB_POSTINGS_H

#include <roaring/roaring.h>
#include <stdbool.h>
#include <stdint.h>

#include "annex/status.h"

typedef uint64_t postings;

/* *added (may be NULL): the row was not there before. ANX_E_NOMEM: nothing changed. */
ANX_NODISCARD anx_status postings_add(postings *p, uint32_t row, bool *added, anx_error *err);
void postings_remove(postings *p, uint32_t row); /* a row that is not there is fine */
void postings_free(postings *p);                 /* becomes the empty set */
size_t postings_count(postings p);
bool postings_has(postings p, uint32_t row);
uint32_t postings_first(postings p); /* of a set that is not empty */
void postings_or(postings p, roaring_bitmap_t *out);
/* In ascending or descending order until each returns false; false then. */
typedef bool (*postings_row_fn)(void *context, uint32_t row);
bool postings_walk(postings p, bool is_descending, postings_row_fn each, void *context);
/* The same over a bitmap of rows. */
bool
postings_walk_bitmap(const roaring_bitmap_t *bitmap, bool is_descending, postings_row_fn each, void *context);
size_t postings_memory(postings p); /* beyond the eight bytes */
bool postings_check(postings p);    /* sorted, no row twice, in the smallest form allowed */

#endif
