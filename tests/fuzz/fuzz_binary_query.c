/* Fuzz target: queries of the binary protocol. What is read can be printed in every form. */
#include <stdint.h>

#include "query/query.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    anx_arena *arena = anx_arena_create(NULL, 64 << 20);
    enum query_type type = size > 0 && data[size - 1] & 1 ? QUERY_UPDATE : QUERY_SELECT;
    struct query query;
    anx_buffer text;

    anx_buffer_init(&text, NULL, 64 << 20);
    if (arena &&
        query_read_binary((anx_text){ (const char *) data, size }, type, arena, &query, NULL) == ANX_OK) {
        query_print_sql(&query, false, &text);
        query_print_sql(&query, true, &text);
        query_print_dsl(&query, &text);
        (void) query_is_short(&query);
    }
    anx_buffer_fini(&text);
    anx_arena_destroy(arena);
    return 0;
}
