/* A copy of a document with other texts at some paths. Everything else is copied as it is stored, so vectors
 * stay where they are; only containers on the way to a path get new sizes. */
#include "base/error.h"
#include "doc/doc_int.h"

#include "doc/doc.h"

enum { PATHS_MAX = 64 };

struct rewriting {
    const struct doc_path *const *paths;
    size_t n_path;
    doc_text_fn rewrite;
    void *context;
    anx_buffer *out;
    bool is_out_of_memory;
};

/* Of the paths in `from`, which begin with `step` names that lead here: those whose next name is the tag. */
static uint64_t
follow(const struct rewriting *r, uint64_t from, uint32_t step, uint32_t tag)
{
    uint64_t paths = 0;

    for (size_t i = 0; i < r->n_path; i++)
        if (from >> i & 1 && r->paths[i]->n > step && r->paths[i]->steps[step].tag == tag)
            paths |= (uint64_t) 1 << i;
    return paths;
}

/* The first path that ends after so many names; n_path: none. */
static size_t
ends_here(const struct rewriting *r, uint64_t paths, uint32_t step)
{
    size_t i = 0;

    while (i < r->n_path && !(paths >> i & 1 && r->paths[i]->n == step))
        i++;
    return i;
}

static void
put_head(struct rewriting *r, uint8_t kind, uint32_t tag)
{
    uint8_t bytes[1 + VARINT_MAX] = { kind };
    uint8_t *end = tag ? put_varint(bytes + 1, tag) : bytes + 1;

    anx_buffer_bytes(r->out, bytes, (size_t) (end - bytes));
}

static void
put_text(struct rewriting *r, size_t path, uint32_t tag, anx_text text)
{
    uint8_t size[VARINT_MAX];
    anx_text other = text;

    if (!r->rewrite(r->context, path, text, &other))
        r->is_out_of_memory = true;
    put_head(r, STORED_STRING, tag);
    anx_buffer_bytes(r->out, size, (size_t) (put_varint(size, other.size) - size));
    anx_buffer_text(r->out, other);
}

static void copy_children(struct rewriting *r, const struct doc_node *parent, uint64_t paths, uint32_t step);

static void
copy_container(struct rewriting *r, const struct doc_node *node, uint64_t paths, uint32_t step)
{
    static const uint8_t room[PADDED_SIZE] = { 0 };
    size_t start;

    put_head(r, node->kind == DOC_ARRAY ? STORED_ARRAY : STORED_OBJECT, node->tag);
    anx_buffer_bytes(r->out, room, sizeof(room));
    start = r->out->size;
    copy_children(r, node, paths, step);
    if (!r->out->failed) {
        uint64_t size = r->out->size - start;
        uint8_t *at = (uint8_t *) r->out->data + start - PADDED_SIZE;

        for (int i = 0; i < PADDED_SIZE; i++, size >>= 7)
            at[i] = (uint8_t) ((size & 0x7f) | (i < PADDED_SIZE - 1 ? 0x80 : 0));
    }
}

/* Depth: that of the document, which has a limit. Elements of an array are where the array is. */
static void
copy_children(struct rewriting *r, const struct doc_node *parent, uint64_t paths, uint32_t step)
{
    const uint8_t *at = doc_first(parent), *start = at;
    struct doc_node child;

    for (; doc_next(parent, &at, &child); start = at) {
        bool is_member = parent->kind == DOC_OBJECT;
        uint64_t here = is_member ? follow(r, paths, step, child.tag) : paths;
        uint32_t next = step + is_member;
        size_t path = ends_here(r, here, next);

        if (child.kind == DOC_STRING && path < r->n_path)
            put_text(r, path, child.tag, child.value.text);
        else if (here && !child.packed && (child.kind == DOC_ARRAY || child.kind == DOC_OBJECT))
            copy_container(r, &child, here, next);
        else
            anx_buffer_bytes(r->out, start, (size_t) (at - start));
    }
}

anx_status
doc_rewrite_texts(struct doc doc, const struct doc_path *const *paths, size_t n, doc_text_fn rewrite,
                  void *context, anx_buffer *out, anx_error *err)
{
    struct rewriting r = { paths, n < PATHS_MAX ? n : PATHS_MAX, rewrite, context, out, false };
    struct doc_node root = doc_root(doc);

    anx_buffer_clear(out);
    anx_buffer_char(out, DOC_FORMAT);
    copy_children(&r, &root, UINT64_MAX, 0);
    if (!out->failed && !r.is_out_of_memory)
        return ANX_OK;
    return anx_fail(err, ANX_E_NOMEM, "could not allocate a document");
}
