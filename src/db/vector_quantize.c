/* When a vector index becomes one of codes alone, and back. Both indexes are built by quantize.c, beside
 * readers and writers; back is waited for by the client. A change that finds no float index built builds it
 * here, under write_lock: floats are read from the store while readers go on. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "db/db_int.h"
#include "db/quantize.h"
#include "db/vector_int.h"

void
vector_maintain(struct ns *ns, struct vector_index *index)
{
    const struct vector_def *def = &index->def->vector;
    anx_index_stats stats;

    if (!def->is_quantized || !index->source || index->is_quantizing || atomic_load(&index->is_quantized) ||
        anx_clock_ns() < index->retry_ns)
        return;
    anx_index_get_stats(index->ann, &stats);
    if (stats.slots < def->quantization_threshold)
        return;
    if (!ns->table) {
        if (!index->has_warned)
            anx_log(ANX_LOG_WARN,
                    "event=not_quantized ns=%s cause=\"Quantization available only with enabled "
                    "storage\"",
                    ns->name);
        index->has_warned = true;
        return;
    }
    index->is_quantizing = quantizer_start(ns->database->engine->quantizer, ns, index);
}

/* All floats of the rows, into `loader`. */
static anx_status
load_floats(struct vector_index *v, anx_loader *loader, anx_error *err)
{
    size_t capacity = 0;
    float *floats = NULL;
    anx_status st = ANX_OK;

    for (uint32_t row = 0; st == ANX_OK && row < chunks_end(&v->cells); row++) {
        uint32_t cell = vector_cell(v, row), n = cell >> 1;

        if (n > capacity) {
            anx_free(NULL, floats);
            capacity = n;
            floats = anx_alloc_array(NULL, n, v->dim * sizeof(*floats));
        }
        if (n > 0 && !floats)
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate %u vectors", n);
        else if (n > 0 && !vector_floats(v, row, cell, floats))
            st = anx_fail(err, ANX_E_CORRUPT, "the vectors of row %u are not in the storage", row);
        for (uint32_t p = 0; st == ANX_OK && p < n; p++) {
            uint64_t label = vector_label(v, row, cell & 1, p);

            st = anx_loader_rows(loader, 1, &label, floats + (size_t) p * v->dim, err);
        }
    }
    anx_free(NULL, floats);
    return st;
}

anx_status
vector_reconfigure_prepare(struct vector_index *index, const struct index_def *def, anx_error *err)
{
    anx_loader *loader = NULL;
    anx_status st;

    if (!atomic_load(&index->is_quantized) || def->vector.is_quantized || index->next)
        return ANX_OK;
    vector_sweep(index);
    st = vector_ann_create(index, false, index->ns->database->engine->params.n_thread, &index->next,
                           &index->next_source, err);
    if (st == ANX_OK && index->n_vector > 0)
        st = anx_loader_begin(index->next, index->n_vector, &loader, err);
    if (loader) {
        st = load_floats(index, loader, err);
        if (st == ANX_OK)
            st = anx_loader_finish(loader, NULL, NULL, err);
        else
            anx_loader_abort(loader);
    }
    if (st != ANX_OK)
        vector_reconfigure_end(index);
    return st;
}

void
vector_reconfigure(struct vector_index *index, const struct index_def *def)
{
    anx_index *ann = index->ann;
    struct vector_source *source = index->source;

    index->def = def;
    index->retry_ns = 0;
    if (!index->next)
        return;
    index->ann = index->next;
    index->source = index->next_source;
    index->next = ann;
    index->next_source = source;
    atomic_store(&index->is_quantized,
                 anx_index_get_params(index->ann)->quantization != ANX_QUANTIZATION_NONE);
}

void
vector_reconfigure_end(struct vector_index *index)
{
    anx_index_destroy(index->next);
    anx_free(NULL, index->next_source);
    index->next = NULL;
    index->next_source = NULL;
}
