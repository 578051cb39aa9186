/* Fuzz target: a body of JSON documents under a shape with every kind of field. What is accepted passes the
 * check of stored documents, and prints to JSON that reads back and prints the same. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "doc/json.h"
#include "../unit/test_doc_shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct test_shape shape;
    struct json_reader *reader;
    anx_arena *arena;
    anx_buffer first, second;
};

/* Infinities are components that print as null, which is none. */
static bool
is_finite(const struct doc_draft *draft)
{
    for (size_t v = 0; v < draft->n_vectors; v++)
        for (size_t i = 0; i < (size_t) draft->vectors[v].n * draft->vectors[v].dim; i++)
            if (!isfinite(draft->vectors[v].floats[i]))
                return false;
    return true;
}

static void
print(struct state *state, const struct doc_draft *draft, anx_buffer *out)
{
    const struct doc_projection everything = { .all_regular = true, .all_vectors = true };

    anx_buffer_clear(out);
    json_print_doc(out, draft->doc, state->shape.names, &everything, test_shape_vectors, (void *) draft,
                   false);
}

static void
check_draft(struct state *state, const struct doc_draft *draft)
{
    struct doc_draft again;
    size_t at = 0;
    bool more;

    if (doc_check(draft->doc, state->shape.names, NULL) != ANX_OK)
        __builtin_trap();
    print(state, draft, &state->first);
    if (state->first.failed || !is_finite(draft))
        return;
    if (json_read_doc(state->reader, (anx_text) { state->first.data, state->first.size }, &at, &more,
                      state->shape.names, &state->shape.shape, state->arena, &again, NULL) != ANX_OK)
        __builtin_trap();
    print(state, &again, &state->second);
    if (state->first.size != state->second.size ||
        memcmp(state->first.data, state->second.data, state->first.size) != 0)
        __builtin_trap();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state state;
    struct doc_draft draft;
    size_t at = 0;
    bool more = true;

    if (!test_shape_init(&state.shape)) /* new for every input: names must not pile up */
        return 0;
    state.reader = json_reader_create();
    state.arena = anx_arena_create(NULL, 64 << 20);
    anx_buffer_init(&state.first, NULL, 64 << 20);
    anx_buffer_init(&state.second, NULL, 64 << 20);
    while (state.reader && state.arena && more) {
        if (json_read_doc(state.reader, (anx_text){ (const char *) data, size }, &at, &more,
                          state.shape.names, &state.shape.shape, state.arena, &draft, NULL) != ANX_OK)
            break;
        if (more)
            check_draft(&state, &draft);
        anx_arena_reset(state.arena);
    }
    anx_buffer_fini(&state.second);
    anx_buffer_fini(&state.first);
    anx_arena_destroy(state.arena);
    json_reader_destroy(state.reader);
    test_shape_fini(&state.shape);
    return 0;
}
