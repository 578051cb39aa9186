/* The compact forms of models; the header has their layout. Everything that is followed as a pointer (head,
 * offsets, rows, terms) is summed and checked when a file is opened, numbers are not; the README says why.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "embedder/model_int.h"

#define SUM_AT 32
#define ALIGNMENT 64
#define NONE UINT32_MAX
#define CODE_MAX 127

static const char magic[MODEL_FORMS][8] = { { 'A', 'N', 'X', 'T', 'E', 'R', 'M', '1' },
                                            { 'A', 'N', 'X', 'T', 'E', 'R', 'M', '2' } };

/* Where things are in a file, all from the same few counts. */
struct layout {
    enum model_form form;
    uint64_t n, dim, terms_size, n_row;
    size_t head_size, offset_size, rows_at, terms_at, vectors_at, codes_at, end;
};

static size_t
align(size_t size)
{
    return (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

/* Counts are within the limits that read_counts checks, so that nothing overflows. */
static void
lay_out(struct layout *l)
{
    bool is_f32 = l->form == MODEL_F32;

    l->head_size = is_f32 ? 40 : 48;
    l->offset_size = is_f32 ? 8 : 4;
    l->rows_at = l->head_size + (size_t) (l->n + 1) * l->offset_size;
    l->terms_at = l->rows_at + (is_f32 ? 0 : (size_t) l->n * 4);
    l->vectors_at = align(l->terms_at + (size_t) l->terms_size);
    l->codes_at = l->vectors_at + (is_f32 ? 0 : (size_t) l->n_row * 4);
    l->end = l->codes_at + (size_t) (l->n_row * l->dim) * (is_f32 ? 4 : 1);
}

static uint64_t
sum_of(const uint8_t *bytes, const struct layout *l)
{
    anx_hasher *hasher = anx_hasher_create();
    size_t behind = SUM_AT + 8;
    uint64_t sum = 0;

    if (!hasher)
        return 0;
    anx_hasher_update(hasher, bytes, SUM_AT);
    anx_hasher_update(hasher, bytes + behind, l->terms_at + (size_t) l->terms_size - behind);
    sum = anx_hasher_digest(hasher);
    anx_hasher_destroy(hasher);
    return sum ? sum : 1;
}

/* ---- Reading ---- */

bool
compact_is(const void *bytes, size_t size)
{
    return size >= SUM_AT + 8 && (memcmp(bytes, magic[MODEL_F32], sizeof(magic[0])) == 0 ||
                                  memcmp(bytes, magic[MODEL_I8], sizeof(magic[0])) == 0);
}

static anx_status
read_counts(const uint8_t *bytes, size_t size, struct layout *l, uint64_t *sum, anx_error *err)
{
    anx_reader r = anx_reader_init(bytes + sizeof(magic[0]), size - sizeof(magic[0]));

    l->form = memcmp(bytes, magic[MODEL_I8], sizeof(magic[0])) == 0 ? MODEL_I8 : MODEL_F32;
    l->n = anx_read_u64(&r);
    l->dim = anx_read_u64(&r);
    l->terms_size = anx_read_u64(&r);
    *sum = anx_read_u64(&r);
    l->n_row = l->form == MODEL_I8 ? anx_read_u64(&r) : l->n;
    if (r.failed || l->n == 0 || l->n > MODEL_TERMS_MAX || l->dim == 0 || l->dim > MODEL_DIM_MAX ||
        l->n_row == 0 || l->n_row > l->n || l->terms_size > size ||
        (l->form == MODEL_I8 && l->terms_size > UINT32_MAX))
        return anx_fail(err, ANX_E_CORRUPT, "the head of the file of term vectors is damaged");
    lay_out(l);
    if (l->end > size)
        return anx_fail(err, ANX_E_CORRUPT, "the file of term vectors is cut short: %zu bytes of %zu", size,
                        l->end);
    return ANX_OK;
}

static anx_status
check_terms(const uint8_t *bytes, const struct layout *l, anx_error *err)
{
    uint64_t last = 0;

    for (size_t i = 0; i <= l->n; i++) {
        uint64_t offset = anx_load_le(bytes + l->head_size + l->offset_size * i, l->offset_size);

        if (offset < last || offset > l->terms_size)
            return anx_fail(err, ANX_E_CORRUPT, "term %zu of the file of term vectors is damaged", i);
        last = offset;
    }
    for (size_t i = 0; l->form == MODEL_I8 && i < l->n; i++)
        if (anx_load_le(bytes + l->rows_at + 4 * i, 4) >= l->n_row)
            return anx_fail(err, ANX_E_CORRUPT, "term %zu of the file of term vectors has no vector", i);
    return ANX_OK;
}

anx_status
compact_parse(const uint8_t *bytes, size_t size, struct model **out, anx_error *err)
{
    struct layout l = { 0 };
    uint64_t sum = 0;
    struct model *m;
    anx_status st = read_counts(bytes, size, &l, &sum, err);

    if (st == ANX_OK && sum_of(bytes, &l) != sum)
        st = anx_fail(err, ANX_E_CHECKSUM, "the terms in the file of term vectors are damaged");
    if (st == ANX_OK)
        st = check_terms(bytes, &l, err);
    if (st != ANX_OK)
        return st;
    m = anx_alloc_zeroed(NULL, 1, sizeof(*m));
    if (!m)
        return model_no_memory(err);
    m->n = (size_t) l.n;
    m->dim = (uint32_t) l.dim;
    m->offsets = bytes + l.head_size;
    m->offset_size = l.offset_size;
    m->terms = (const char *) bytes + l.terms_at;
    m->n_row = (size_t) l.n_row;
    if (l.form == MODEL_F32) {
        m->vectors = (const float *) (const void *) (bytes + l.vectors_at);
    } else {
        m->rows = bytes + l.rows_at;
        m->scales = bytes + l.vectors_at;
        m->codes = (const int8_t *) (bytes + l.codes_at);
    }
    st = model_index_terms(m, err);
    if (st != ANX_OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return ANX_OK;
}

/* ---- Writing ---- */

struct writing {
    const struct model *model;
    struct layout layout;
    uint32_t *rows;   /* owned [n]: row of each term's vector */
    uint32_t *firsts; /* owned [n_row]: the term that a row is written from */
    float *vector;    /* owned [2 * dim]: the one being written, the one compared with */
    int8_t *codes;    /* owned [dim] */
};

static float *
vector_of(const struct writing *w, size_t term, float *out)
{
    memset(out, 0, w->model->dim * sizeof(*out));
    model_add_vector(w->model, term, 1, out);
    return out;
}

/* Terms with the same vector (inflections of one stem) share a row. False: memory. */
static bool
share_rows(struct writing *w)
{
    size_t n = w->model->n, dim = w->model->dim, n_table = 16, n_row = 0;
    float *one = w->vector, *other = w->vector + dim;
    uint32_t *table;

    while (n_table < 2 * n)
        n_table *= 2;
    table = anx_alloc_array(NULL, n_table, sizeof(*table));
    if (!table)
        return false;
    memset(table, 0xff, n_table * sizeof(*table));
    for (size_t term = 0; term < n; term++) {
        size_t at = anx_hash(vector_of(w, term, one), dim * sizeof(*one)) & (n_table - 1);

        while (table[at] != NONE &&
               memcmp(vector_of(w, w->firsts[table[at]], other), one, dim * sizeof(*one)) != 0)
            at = (at + 1) & (n_table - 1);
        if (table[at] == NONE) {
            table[at] = (uint32_t) n_row;
            w->firsts[n_row++] = (uint32_t) term;
        }
        w->rows[term] = table[at];
    }
    anx_free(NULL, table);
    w->layout.n_row = n_row;
    return true;
}

static bool
prepare(struct writing *w, enum model_form form)
{
    const struct model *model = w->model;
    struct layout *l = &w->layout;

    l->form = form;
    l->n = l->n_row = model->n;
    l->dim = model->dim;
    l->terms_size = anx_load_le(model->offsets + model->offset_size * model->n, model->offset_size);
    w->vector = anx_alloc_array(NULL, 2 * (size_t) model->dim, sizeof(*w->vector));
    w->codes = anx_alloc_array(NULL, model->dim, sizeof(*w->codes));
    w->rows = anx_alloc_array(NULL, model->n, sizeof(*w->rows));
    w->firsts = anx_alloc_array(NULL, model->n, sizeof(*w->firsts));
    if (!w->vector || !w->codes || !w->rows || !w->firsts)
        return false;
    for (uint32_t i = 0; i < model->n; i++)
        w->rows[i] = w->firsts[i] = i;
    if (form == MODEL_I8 && !share_rows(w))
        return false;
    lay_out(l);
    return true;
}

static bool
write_head(const struct writing *w, FILE *file)
{
    const struct model *model = w->model;
    const struct layout *l = &w->layout;
    uint8_t *head = anx_alloc_zeroed(NULL, l->vectors_at, 1);
    bool ok;

    if (!head)
        return false;
    memcpy(head, magic[l->form], sizeof(magic[0]));
    anx_store_le(head + 8, l->n, 8);
    anx_store_le(head + 16, l->dim, 8);
    anx_store_le(head + 24, l->terms_size, 8);
    if (l->form == MODEL_I8)
        anx_store_le(head + SUM_AT + 8, l->n_row, 8);
    for (size_t i = 0; i <= model->n; i++)
        anx_store_le(head + l->head_size + l->offset_size * i,
                     anx_load_le(model->offsets + model->offset_size * i, model->offset_size),
                     l->offset_size);
    for (size_t i = 0; l->form == MODEL_I8 && i < model->n; i++)
        anx_store_le(head + l->rows_at + 4 * i, w->rows[i], 4);
    if (l->terms_size > 0)
        memcpy(head + l->terms_at, model->terms, (size_t) l->terms_size);
    anx_store_le(head + SUM_AT, sum_of(head, l), 8);
    ok = fwrite(head, 1, l->vectors_at, file) == l->vectors_at;
    anx_free(NULL, head);
    return ok;
}

/* The step between codes of a row: its largest component becomes CODE_MAX. */
static float
scale_of(const float *vector, size_t dim)
{
    float most = 0;

    for (size_t j = 0; j < dim; j++)
        if (isfinite(vector[j]))
            most = fmaxf(most, fabsf(vector[j]));
    return most / CODE_MAX;
}

static bool
write_vectors(const struct writing *w, FILE *file)
{
    size_t dim = w->model->dim, n_row = (size_t) w->layout.n_row;
    float *vector = w->vector;
    bool ok = true;

    for (size_t row = 0; ok && w->layout.form == MODEL_I8 && row < n_row; row++) {
        float scale = scale_of(vector_of(w, w->firsts[row], vector), dim);

        ok = fwrite(&scale, sizeof(scale), 1, file) == 1;
    }
    for (size_t row = 0; ok && row < n_row; row++) {
        float scale = scale_of(vector_of(w, w->firsts[row], vector), dim);

        for (size_t j = 0; j < dim; j++)
            w->codes[j] = scale > 0 && isfinite(vector[j]) ? (int8_t) lrintf(vector[j] / scale) : 0;
        ok = w->layout.form == MODEL_I8 ? fwrite(w->codes, 1, dim, file) == dim
                                        : fwrite(vector, sizeof(*vector), dim, file) == dim;
    }
    return ok && fflush(file) == 0 && fsync(fileno(file)) == 0;
}

anx_status
model_write(const struct model *model, enum model_form form, const char *path, anx_error *err)
{
    struct writing w = { .model = model };
    char part[4096];
    FILE *file = NULL;
    bool ok = false;
    anx_status st = ANX_OK;

    if (snprintf(part, sizeof(part), "%s.part", path) >= (int) sizeof(part))
        return anx_fail(err, ANX_E_INVALID, "the path %s is too long", path);
    if (!prepare(&w, form)) {
        st = model_no_memory(err);
        goto out;
    }
    if (form == MODEL_I8 && w.layout.terms_size > UINT32_MAX) {
        st = anx_fail(err, ANX_E_LIMIT, "more than %u bytes of terms are not for i8", UINT32_MAX);
        goto out;
    }
    file = fopen(part, "wb");
    if (!file) {
        st = anx_fail(err, ANX_E_IO, "cannot write %s: %s", part, strerror(errno));
        goto out;
    }
    errno = 0;
    ok = write_head(&w, file) && write_vectors(&w, file);
    ok = fclose(file) == 0 && ok;
    if (!ok || rename(part, path) != 0) {
        st = anx_fail(err, ANX_E_IO, "cannot write %s: %s", path, errno ? strerror(errno) : "out of memory");
        (void) unlink(part);
    }
out:
    anx_free(NULL, w.rows);
    anx_free(NULL, w.firsts);
    anx_free(NULL, w.vector);
    anx_free(NULL, w.codes);
    return st;
}
