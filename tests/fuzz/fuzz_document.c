/* Fuzz target: the bytes of a stored document. What doc_check lets through may be walked, printed, indexed,
 * updated and reshaped. */
#include <stdint.h>

#include "doc/json.h"
#include "../unit/test_doc_shape.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool
visit(void *context, const struct doc_node *node, const uint32_t *positions, size_t n)
{
    uint64_t *sum = context;

    *sum += (uint64_t) node->kind + (n > 0 ? positions[n - 1] : 0);
    return true;
}

static void
walk(struct doc doc, const struct test_shape *shape)
{
    static const char *const texts[] = {
        "tags", "parts.n", "deep.x", "tags[1]", "parts[*].n[0]", "inner.vec"
    };
    uint64_t sum = 0;

    for (size_t i = 0; i < ANX_COUNT_OF(texts); i++) {
        struct doc_path path;

        if (doc_path_parse(anx_text_of(texts[i]), shape->names, &path, NULL) != ANX_OK)
            continue;
        (void) doc_visit(doc, &path, false, visit, &sum);
        (void) doc_visit(doc, &path, true, visit, &sum);
        sum += (uint64_t) doc_find(doc, &path).kind;
    }
}

static void
print(struct doc doc, const struct test_shape *shape, struct doc_draft *draft)
{
    struct doc_path paths[2];
    struct doc_projection projection = { .all_vectors = true, .paths = paths, .n_path = 2 };
    anx_buffer out;

    anx_buffer_init(&out, NULL, 1 << 20);
    if (doc_path_parse(ANX_TEXT("deep"), shape->names, &paths[0], NULL) == ANX_OK &&
        doc_path_parse(ANX_TEXT("parts.n"), shape->names, &paths[1], NULL) == ANX_OK)
        json_print_doc(&out, doc, shape->names, &projection, test_shape_vectors, draft, false);
    projection.all_regular = true;
    json_print_doc(&out, doc, shape->names, &projection, test_shape_vectors, draft, false);
    anx_buffer_fini(&out);
}

static void
change(struct doc doc, struct test_shape *shape, const struct doc_vectors *vectors, anx_arena *arena)
{
    static const struct value five = { .type = VALUE_INT, .integer = 5 };
    struct doc_change changes[] = {
        { .path_text = ANX_TEXT("deep.y"), .values = &five, .n = 1 },
        { .path_text = ANX_TEXT("tags[0]"), .values = &five, .n = 1 },
        { .kind = CHANGE_DROP, .path_text = ANX_TEXT("opt") },
    };
    struct doc_shape none = { .ns = ANX_TEXT("t") };
    struct doc_draft out;

    for (size_t i = 0; i < ANX_COUNT_OF(changes); i++) {
        if (doc_path_parse(changes[i].path_text, shape->names, &changes[i].path, NULL) != ANX_OK)
            return;
        if (doc_update(doc, vectors, &changes[i], 1, shape->names, &shape->shape, arena, &out, NULL) ==
                ANX_OK &&
            doc_check(out.doc, shape->names, NULL) != ANX_OK)
            __builtin_trap();
    }
    if (doc_reshape(doc, &shape->shape, vectors, shape->names, &none, arena, &out, NULL) == ANX_OK &&
        doc_check(out.doc, shape->names, NULL) != ANX_OK)
        __builtin_trap();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const float floats[64]; /* what a record's tail would hold, for a few vectors */
    struct test_shape shape;
    struct doc doc = { data, size };
    struct doc_draft draft;
    anx_arena *arena;

    if (!test_shape_init(&shape))
        return 0;
    arena = anx_arena_create(NULL, 64 << 20);
    if (arena && doc_check_fields(doc, shape.names, 3, NULL) == ANX_OK) {
        walk(doc, &shape);
        if (doc_extract(doc, &shape.shape, arena, &draft, NULL) == ANX_OK) {
            for (size_t i = 0; i < draft.n_vectors; i++)
                draft.vectors[i] =
                    (struct doc_vectors){ .floats = floats, .n = 8, .dim = draft.vectors[i].dim };
            print(doc, &shape, &draft);
            change(doc, &shape, draft.vectors, arena);
        }
    }
    anx_arena_destroy(arena);
    test_shape_fini(&shape);
    return 0;
}
