/* Fuzz target: SQL. What is read is printed in every form; its SQL is read again and printed the same, and
 * its DSL is read as well. */
#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "query/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
print(const struct query *query, anx_buffer *out)
{
    anx_buffer_init(out, NULL, 1 << 24);
    query_print_sql(query, false, out);
    if (out->failed)
        __builtin_trap();
}

static void
check(const struct query *query, anx_arena *arena)
{
    struct query again, other;
    anx_buffer first, second, text;

    print(query, &first);
    if (query_read_sql((anx_text) { first.data, first.size }, arena, &again, NULL, NULL) != ANX_OK)
        __builtin_trap();
    print(&again, &second);
    if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
        __builtin_trap();
    anx_buffer_init(&text, NULL, 1 << 24);
    query_print_sql(query, true, &text);
    anx_buffer_clear(&text);
    query_print_dsl(query, &text);
    /* A text that is not UTF-8 is no JSON. */
    if (query_convert_dsl((anx_text){ text.data, text.size }, arena, &other, NULL) == ANX_OK &&
        (other.where.n != query->where.n || other.n_field != query->n_field ||
         other.n_update != query->n_update))
        __builtin_trap();
    anx_buffer_fini(&first);
    anx_buffer_fini(&second);
    anx_buffer_fini(&text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    anx_arena *arena = anx_arena_create(NULL, 64 << 20);
    struct query_location location;
    struct query query;
    anx_error err;

    if (!arena)
        return 0;
    if (query_read_sql((anx_text) { (const char *) data, size }, arena, &query, &location, &err) == ANX_OK)
        check(&query, arena);
    anx_arena_destroy(arena);
    return 0;
}
