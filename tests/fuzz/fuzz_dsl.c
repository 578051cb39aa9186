/* Fuzz target: DSL. What is read is printed as SQL and as DSL; its DSL is read again and printed the same. */
#include <stdint.h>
#include <stdlib.h>

#include "base/buffer.h"
#include "query/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
print(const struct query *query, anx_buffer *out)
{
    anx_buffer_init(out, NULL, 1 << 24);
    query_print_dsl(query, out);
    if (out->failed)
        __builtin_trap();
}

static void
check(const struct query *query, anx_arena *arena)
{
    struct query again;
    anx_buffer first, second, sql;

    print(query, &first);
    if (query_convert_dsl((anx_text) { first.data, first.size }, arena, &again, NULL) != ANX_OK)
        __builtin_trap();
    print(&again, &second);
    if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
        __builtin_trap();
    anx_buffer_init(&sql, NULL, 1 << 24);
    query_print_sql(query, false, &sql);
    query_print_sql(query, true, &sql);
    anx_buffer_fini(&first);
    anx_buffer_fini(&second);
    anx_buffer_fini(&sql);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    anx_arena *arena = anx_arena_create(NULL, 64 << 20);
    struct query query;
    anx_error err;

    if (!arena)
        return 0;
    if (query_convert_dsl((anx_text) { (const char *) data, size }, arena, &query, &err) == ANX_OK)
        check(&query, arena);
    anx_arena_destroy(arena);
    return 0;
}
