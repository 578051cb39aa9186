/* Rows for binary clients, written straight from the stored documents. */
#include "db/result_rows.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "db/result_int.h"
#include "doc/cjson.h"

enum { ROWS_PER_CHECK = 96, RANK_MAX = 65535 };

/* ---- What is in it ---- */

static size_t
n_join(const struct part *part)
{
    return part->joins ? part->query->n_join : 0;
}

/* The namespace of a number; NULL past the last. */
static struct ns *
find_ns(const struct result *result, size_t nsid)
{
    if (result->ns)
        return nsid == 0 ? result->ns : NULL;
    if (nsid < result->n_part)
        return result->parts[nsid]->ns;
    nsid -= result->n_part;
    for (size_t i = 0; i < result->n_part; i++) {
        if (nsid < n_join(result->parts[i]))
            return result->parts[i]->joins[nsid].right->ns;
        nsid -= n_join(result->parts[i]);
    }
    return NULL;
}

/* The number of a part's first joined namespace. */
static size_t
first_joined(const struct result *result, const struct part *part)
{
    size_t nsid = result->n_part;

    for (size_t i = 0; i < result->n_part && result->parts[i] != part; i++)
        nsid += n_join(result->parts[i]);
    return nsid;
}

static bool
shows_all(const struct ns *ns, const struct doc_projection *fields)
{
    return ns->kind != NS_STATS && (ns->n_vector_field == 0 || fields->all_vectors);
}

/* Clients keep documents by row and version, and take them for answers of any later query. */
static bool
is_cacheable(const struct result *result)
{
    bool is = !result->ns && result_is_cacheable(result);

    for (size_t i = 0; is && i < result->n_part; i++) {
        const struct part *part = result->parts[i];

        is = shows_all(part->ns, &part->projection.fields);
        for (size_t j = 0; is && j < n_join(part); j++)
            is = shows_all(part->joins[j].right->ns, &part->joins[j].right->projection.fields);
    }
    return is;
}

void
result_describe(const struct result *result, struct result_description *out)
{
    *out = (struct result_description) { .count = result_count(result), .n_ns = 1, .has_docs = true };
    if (result->ns) {
        out->has_docs = result->n_item == 0 || result->items[0].doc.bytes;
        return;
    }
    out->n_ns = result->n_part;
    out->total = result->has_total ? result->total : 0;
    out->n_aggregation = aggregates_count(result->aggregates) + result->has_total;
    out->with_rank = result->parts[0]->query->with_rank;
    out->is_explained = result->exec.is_explained;
    out->is_whole = result_is_cacheable(result);
    out->is_cacheable = is_cacheable(result);
    for (size_t i = 0; i < result->n_part; i++) {
        const struct part *part = result->parts[i];

        out->is_ranked = out->is_ranked || part_is_ranked(part);
        out->has_joins = out->has_joins || n_join(part) > 0;
        out->n_ns += n_join(part);
    }
}

int32_t
result_types_version(const struct result *result, size_t nsid)
{
    return ns_types_version(find_ns(result, nsid));
}

void
result_print_types(const struct result *result, size_t nsid, anx_buffer *out)
{
    ns_print_types(find_ns(result, nsid), nsid, result->ns != NULL, out); /* a SELECT holds the locks */
}

int64_t
result_incarnation(const struct result *result, size_t nsid)
{
    return find_ns(result, nsid)->incarnation;
}

anx_status
result_print_aggregation(struct result *result, size_t i, anx_buffer *out, anx_error *err)
{
    anx_status st = ANX_OK;

    result->exec.err = err;
    if (i < aggregates_count(result->aggregates))
        st = aggregates_print_one(&result->exec, result->aggregates, i, out);
    else
        result_print_total(result, out);
    result->exec.err = NULL;
    return st;
}

void
result_print_explanation(struct result *result, anx_buffer *out)
{
    result->explain.end_ns = anx_clock_ns();
    explain_print(&result->explain, result->parts, result->n_part, out);
}

/* ---- Rows ---- */

struct printer {
    struct result *result;
    const struct result_rows *how;
    anx_buffer *out;
    bool is_beyond; /* CJSON cannot say a document */
};

/* A document has its size in front, which is known behind it. */
static size_t
begin_slice(struct printer *p)
{
    anx_buffer_le(p->out, 0, 4);
    return p->out->size;
}

static void
end_slice(struct printer *p, size_t start)
{
    if (!p->out->failed)
        anx_store_le((uint8_t *) p->out->data + start - 4, p->out->size - start, 4);
}

static void
print_head(struct printer *p, const struct ns *ns, uint32_t row, size_t nsid, float rank)
{
    const struct result_rows *how = p->how;
    uint32_t bits;

    if (how->with_id) {
        anx_buffer_varint(p->out, row);
        anx_buffer_varint(p->out, rows_version(ns->rows, row));
    }
    if (how->with_ns)
        anx_buffer_varint(p->out, nsid);
    if (how->with_rank && how->rank_is_float) {
        memcpy(&bits, &rank, sizeof(bits));
        anx_buffer_le(p->out, bits, sizeof(bits));
    } else if (how->with_rank) {
        anx_buffer_varint(p->out, rank > 0 ? (uint64_t) (rank < RANK_MAX ? rank : RANK_MAX) : 0);
    }
}

static void
print_doc(struct printer *p, const struct part *part, uint32_t row, struct doc doc)
{
    struct row_vectors vectors = { p->result, part->ns, row };
    size_t start = begin_slice(p);

    if (!cjson_print_doc(p->out, doc, &part->projection.fields, result_stored_vectors, &vectors))
        p->is_beyond = true;
    end_slice(p, start);
    if (p->result->scratch)
        anx_arena_reset(p->result->scratch);
}

static void
print_joined(struct printer *p, struct part *part, uint32_t row)
{
    size_t n = n_join(part), nsid = first_joined(p->result, part), n_found = 0;
    size_t start = p->out->size;

    if (n > 0) {
        result_attach_joins(p->result, part, row);
        anx_buffer_varint(p->out, n);
    }
    for (size_t i = 0; i < n; i++) {
        const struct vector_hit *found = NULL;
        const struct part *right = part->joins[i].right;
        size_t n_row = 0;

        if (part->joins[i].is_attached)
            found = join_rows(&p->result->exec, &part->joins[i], row, &n_row);
        anx_buffer_varint(p->out, n_row);
        n_found += n_row;
        for (size_t j = 0; j < n_row; j++) {
            print_head(p, right->ns, found[j].row, nsid + i, 0);
            print_doc(p, right, found[j].row, rows_get(right->ns->rows, found[j].row));
        }
    }
    if (n_found == 0 && !p->out->failed) { /* a row without any says so in one number */
        p->out->size = start;
        anx_buffer_varint(p->out, 0);
    }
}

static void
print_hit(struct printer *p, size_t i)
{
    const struct vector_hit *hit;
    struct part *part = result_find_hit(p->result, i, &hit);
    struct doc doc = part_doc(part, hit->row);
    size_t nsid = p->result->merged ? p->result->merged[i].part : 0, start;

    print_head(p, part->ns, hit->row, nsid, hit->rank);
    if (p->how->format == ROWS_JSON) {
        start = begin_slice(p);
        result_print_hit(p->result, part, hit, doc, p->out);
        end_slice(p, start);
    } else if (p->how->format == ROWS_CJSON) {
        print_doc(p, part, hit->row, doc);
    }
    if (p->how->with_joined)
        print_joined(p, part, hit->row);
}

static void
print_copy(struct printer *p, size_t i)
{
    static const struct doc_projection everything = { .all_regular = true, .all_vectors = true };
    const struct item_copy *item = &p->result->items[i];
    size_t start;

    if (p->how->with_ns)
        anx_buffer_varint(p->out, 0);
    if (p->how->format != ROWS_BARE) {
        start = begin_slice(p);
        if (p->how->format == ROWS_JSON)
            result_print_copy(p->result, item, p->out);
        else if (!cjson_print_doc(p->out, item->doc, &everything, result_copied_vectors,
                                  (void *) (uintptr_t) item))
            p->is_beyond = true;
        end_slice(p, start);
    }
    if (p->how->with_joined)
        anx_buffer_varint(p->out, 0);
}

/* Rows are much alike: room for all of them at once saves moving those that are there when more is needed. */
static void
make_room(struct printer *p, size_t n_left, size_t row_size)
{
    size_t need;

    if (!__builtin_mul_overflow(n_left, row_size + row_size / 8, &need) && need <= p->how->max &&
        need <= p->out->max - p->out->size)
        (void) anx_buffer_reserve(p->out, need);
}

static anx_status
print_rows(struct printer *p, size_t n)
{
    struct exec *x = &p->result->exec;
    size_t start = p->out->size, max = p->how->max;

    for (size_t i = 0; i < n && !p->out->failed && !p->is_beyond && x->status == ANX_OK; i++) {
        if (p->result->ns)
            print_copy(p, i);
        else
            print_hit(p, i);
        if (p->out->size - start > max)
            p->out->failed = true;
        if (i == 0 && n > 1 && !p->out->failed)
            make_room(p, n - 1, p->out->size - start);
        if (p->how->ends)
            p->how->ends[i] = p->out->size;
        if (!p->result->ns && i % ROWS_PER_CHECK == ROWS_PER_CHECK - 1)
            exec_latch(x, db_session_check(x->session, x->err));
    }
    if (x->status != ANX_OK)
        return x->status;
    if (p->is_beyond)
        return cjson_fail_limit(find_ns(p->result, 0)->names, x->err);
    if (!p->out->failed)
        return ANX_OK;
    if (p->out->size - start >= max / 2)
        return anx_fail(x->err, ANX_E_LOGIC, "Response is larger than the limit of %zu bytes", max);
    return anx_fail(x->err, ANX_E_NOMEM, "could not allocate memory for a response");
}

anx_status
result_print_rows(struct result *result, const struct result_rows *how, anx_buffer *out, anx_error *err)
{
    struct printer p = { .result = result, .how = how, .out = out };
    anx_status st;

    result->exec.err = err;
    result->exec.status = ANX_OK;
    st = result_open_scratch(result);
    if (st == ANX_OK)
        st = print_rows(&p, result_count(result));
    result->exec.err = NULL;
    return st;
}
