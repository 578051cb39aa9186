/* Saving: the foreign part if the format has one, then the container. Every size is known before the first
 * byte, so the same plan serves save and save_size. */
#include <string.h>

#include "ann/file_part.h"
#include "ann/graph_stream.h"
#include "base/error.h"

struct plan {
    const anx_index *index;
    anx_save_params params;
    const struct index_file_ops *ops;
    struct graph_view view; /* open when has_view */
    bool has_view;
    struct section_list list;
    uint64_t foreign_size;
    struct file_head head; /* unused when params.plain */
};

static void
plan_close(struct plan *plan)
{
    if (plan->has_view && plan->ops->view_close)
        plan->ops->view_close(&plan->view);
    plan->has_view = false;
}

static anx_status
plan_check(const struct plan *plan, anx_error *err)
{
    const anx_save_params *params = &plan->params;

    if ((unsigned) params->format >= ANX_FILE_FORMAT_COUNT)
        return anx_fail(err, ANX_E_INVALID, "file format is %d, must be 0..%d", (int) params->format,
                        ANX_FILE_FORMAT_COUNT - 1);
    if (params->plain && params->native)
        return anx_fail(err, ANX_E_INVALID, "a file is either plain or has native sections, not both");
    if (params->plain && params->format == ANX_FILE_ANNEX)
        return anx_fail(err, ANX_E_INVALID,
                        "an annex file cannot be plain: it has nothing but the index's own sections");
    if (plan->index->params.quantization == ANX_QUANTIZATION_CODES)
        return anx_fail(err, ANX_E_UNSUPPORTED, "an index of codes is saved as a graph only");
    if (!plan->ops)
        return anx_fail(err, ANX_E_UNSUPPORTED, "%s index cannot be saved",
                        anx_index_kind_name(plan->index->params.kind));
    return params->format == ANX_FILE_ANNEX ? ANX_OK
                                            : file_dense_can(&plan->index->params, params->format, err);
}

static anx_status
plan_view(struct plan *plan, anx_error *err)
{
    const anx_index_params *params = &plan->index->params;
    anx_status st;

    if (plan->params.format == ANX_FILE_ANNEX)
        return ANX_OK;
    if (!plan->ops->view_open)
        return anx_fail(err, ANX_E_UNSUPPORTED, "%s index has no graph to show",
                        anx_index_kind_name(params->kind));
    st = plan->ops->view_open(plan->index, &plan->view, err);
    if (st != ANX_OK)
        return st;
    plan->has_view = true;
    if (plan->view.n >= UINT32_MAX || plan->view.m0 > GRAPH_M0_MAX || plan->view.m > ANX_HNSW_M_MAX)
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "graph of %zu nodes with up to %zu links does not fit the format", plan->view.n,
                        plan->view.m0);
    plan->foreign_size = plan->params.format == ANX_FILE_USEARCH ? file_usearch_size(params, &plan->view) :
                                                                   file_lantern_size(params, &plan->view);
    return ANX_OK;
}

static void
fill_counts(const struct plan *plan, struct file_head *head)
{
    anx_index_stats stats = { 0 };
    const anx_index *index = plan->index;

    if (plan->has_view) {
        head->count = plan->view.n;
        head->m0 = plan->view.m0;
        head->max_level = plan->view.max_level;
        head->entry = plan->view.entry;
        return;
    }
    if (index->ops->stats)
        index->ops->stats(index, &stats);
    head->count = index->ops->count(index);
    head->deleted = stats.slots > head->count ? stats.slots - head->count : 0;
    head->max_level = stats.max_level;
    head->m0 = index->params.kind == ANX_INDEX_HNSW ? 2 * index->params.m : 0;
}

static anx_status
plan_head(struct plan *plan, anx_error *err)
{
    struct file_head *head = &plan->head;
    anx_status st = ANX_OK;

    if (plan->params.plain)
        return ANX_OK;
    if (plan->params.format == ANX_FILE_ANNEX || plan->params.native) {
        if (!plan->ops->sections)
            return anx_fail(err, ANX_E_UNSUPPORTED, "%s index has no sections of its own",
                            anx_index_kind_name(plan->index->params.kind));
        st = plan->ops->sections(plan->index, &plan->list, err);
        if (st != ANX_OK)
            return st;
    }
    *head = (struct file_head) { .format = plan->params.format, .params = plan->index->params };
    head->head_at = file_align(plan->foreign_size, FILE_ALIGN);
    fill_counts(plan, head);
    head->n_section = plan->list.n;
    for (size_t i = 0; i < plan->list.n; i++) {
        memcpy(head->section[i].tag, plan->list.section[i].tag, sizeof(head->section[i].tag));
        head->section[i].size = plan->list.section[i].size;
    }
    if (!file_head_layout(head))
        return anx_fail(err, ANX_E_LIMIT, "index is too large for a file");
    return st;
}

static anx_status
plan_open(struct plan *plan, file_ops_fn find, const anx_index *index, const anx_save_params *params,
          anx_error *err)
{
    anx_status st;

    *plan = (struct plan) { .index = index, .ops = find(index->params.kind) };
    if (params)
        plan->params = *params;
    st = plan_check(plan, err);
    if (st == ANX_OK)
        st = plan_view(plan, err);
    if (st == ANX_OK)
        st = plan_head(plan, err);
    if (st != ANX_OK)
        plan_close(plan);
    return st;
}

static anx_status
write_piece(void *context, const void *bytes, size_t size, anx_error *err)
{
    struct file_out *out = context;

    (void) err; /* the output has the caller's own */
    file_out_write(out, bytes, size);
    return out->status;
}

static void
write_container(struct file_out *out, const struct plan *plan)
{
    uint8_t bytes[FILE_HEAD_SIZE];
    anx_sink sink = { out, write_piece };

    file_out_pad(out, plan->head.head_at);
    file_head_encode(&plan->head, bytes);
    file_out_write(out, bytes, sizeof(bytes));
    for (size_t i = 0; i < plan->list.n && out->status == ANX_OK; i++) {
        const struct section_out *section = &plan->list.section[i];
        uint64_t end = plan->head.section[i].at + section->size;
        anx_status st;

        file_out_pad(out, plan->head.section[i].at);
        st = section->emit(section->context, &sink, out->err);
        if (out->status == ANX_OK)
            out->status = st;
        if (out->status == ANX_OK && file_out_at(out) != end)
            out->status = anx_fail(out->err, ANX_E_INTERNAL,
                                   "section %.8s was announced with %llu bytes, has %lld more", section->tag,
                                   (unsigned long long) section->size, (long long) (file_out_at(out) - end));
    }
    file_out_pad(out, plan->head.trailer_at);
    file_trailer_write(out);
}

/* A graph for other stores has no container around it. */
static anx_status
save_graph(const anx_index *index, const anx_sink *sink, size_t *size, anx_error *err)
{
    struct file_out out;
    uint64_t total = 0;
    anx_status st = graph_file_size(index, &total, err);

    if (st != ANX_OK)
        return st;
    file_out_init(&out, sink, index->params.alloc, total, false, err);
    st = out.status == ANX_OK ? graph_file_write(index, &out, err) : out.status;
    file_out_flush(&out);
    st = st == ANX_OK ? out.status : st;
    if (st == ANX_OK && file_out_at(&out) != total)
        st = anx_fail(err, ANX_E_INTERNAL, "%llu bytes were announced, %llu written",
                      (unsigned long long) total, (unsigned long long) file_out_at(&out));
    if (size)
        *size = (size_t) file_out_at(&out);
    file_out_fini(&out);
    return st;
}

anx_status
file_save(file_ops_fn find, const anx_index *index, const anx_save_params *params, const anx_sink *sink,
          size_t *size, anx_error *err)
{
    struct plan plan;
    struct file_out out;
    anx_status st;
    uint64_t head_at;

    if (params && params->format == ANX_FILE_GRAPH)
        return save_graph(index, sink, size, err);
    st = plan_open(&plan, find, index, params, err);
    if (st != ANX_OK)
        return st;
    head_at = plan.params.plain ? 0 : plan.head.head_at;
    file_out_init(&out, sink, index->params.alloc,
                  plan.params.plain ? plan.foreign_size : plan.head.file_size, !plan.params.plain, err);
    if (plan.params.format == ANX_FILE_USEARCH)
        file_usearch_write(&out, &index->params, &plan.view, head_at);
    else if (plan.params.format == ANX_FILE_LANTERN)
        file_lantern_write(&out, &index->params, &plan.view, head_at);
    if (out.status == ANX_OK && file_out_at(&out) != plan.foreign_size)
        out.status = anx_fail(err, ANX_E_INTERNAL, "%llu bytes were announced, %llu written",
                              (unsigned long long) plan.foreign_size, (unsigned long long) file_out_at(&out));
    if (!plan.params.plain)
        write_container(&out, &plan);
    file_out_flush(&out);
    if (size)
        *size = (size_t) file_out_at(&out);
    st = out.status;
    file_out_fini(&out);
    plan_close(&plan);
    return st;
}

anx_status
file_save_size(file_ops_fn find, const anx_index *index, const anx_save_params *params, size_t *size,
               anx_error *err)
{
    struct plan plan;
    anx_status st;

    if (params && params->format == ANX_FILE_GRAPH) {
        uint64_t total = 0;

        st = graph_file_size(index, &total, err);
        *size = (size_t) total;
        return st;
    }
    st = plan_open(&plan, find, index, params, err);
    if (st != ANX_OK)
        return st;
    *size = (size_t) (plan.params.plain ? plan.foreign_size : plan.head.file_size);
    plan_close(&plan);
    return ANX_OK;
}

anx_status
anx_index_save(const anx_index *index, const anx_save_params *params, const anx_sink *sink, size_t *size,
               anx_error *err)
{
    return file_save(index_file_ops_find, index, params, sink, size, err);
}

anx_status
anx_index_save_size(const anx_index *index, const anx_save_params *params, size_t *size, anx_error *err)
{
    return file_save_size(index_file_ops_find, index, params, size, err);
}
