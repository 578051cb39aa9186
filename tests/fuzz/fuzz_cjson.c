/* Fuzz target: CJSON items under a shape with every kind of field. What is accepted passes the check of
 * stored documents, and prints to CJSON that reads back as the same bytes. */
#include <stdint.h>
#include <string.h>

#include "../unit/test_doc_shape.h"
#include "doc/cjson.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct state {
    struct test_shape shape;
    struct cjson_reader *reader;
    anx_arena *arena;
    anx_buffer out;
};

static void
check(struct state *s, struct doc_draft *draft)
{
    struct doc_draft again;

    if (doc_check(draft->doc, s->shape.names, NULL) != ANX_OK)
        __builtin_trap();
    if (!cjson_print_doc(&s->out, draft->doc, NULL, test_shape_vectors, draft) || s->out.failed)
        return;
    if (cjson_read_doc(s->reader, (anx_text){ s->out.data, s->out.size }, s->shape.names, &s->shape.shape,
                       s->arena, &again, NULL) != ANX_OK)
        __builtin_trap();
    if (again.doc.size != draft->doc.size || memcmp(again.doc.bytes, draft->doc.bytes, draft->doc.size) != 0)
        __builtin_trap();
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state s;
    struct doc_draft draft;

    if (!test_shape_init(&s.shape)) /* new for every input: names must not pile up */
        return 0;
    s.reader = cjson_reader_create();
    s.arena = anx_arena_create(NULL, 64 << 20);
    anx_buffer_init(&s.out, NULL, 64 << 20);
    if (s.reader && s.arena &&
        cjson_read_doc(s.reader, (anx_text){ (const char *) data, size }, s.shape.names, &s.shape.shape,
                       s.arena, &draft, NULL) == ANX_OK)
        check(&s, &draft);
    anx_buffer_fini(&s.out);
    anx_arena_destroy(s.arena);
    cjson_reader_destroy(s.reader);
    test_shape_fini(&s.shape);
    return 0;
}
