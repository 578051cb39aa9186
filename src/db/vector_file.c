/* Files of vector indexes, for a start without building. */
#include "annex/index_file.h"
#include "db/db_int.h"
#include "db/vector_int.h"

static bool
is_worth_a_file(const struct vector_index *v)
{
    anx_index_stats stats;

    if (v->def->index_type == INDEX_HNSW)
        return true;
    anx_index_get_stats(v->ann, &stats);
    return v->def->index_type == INDEX_IVF && stats.is_trained;
}

anx_status
vector_file_save(const struct vector_index *index, const char *path, anx_error *err)
{
    anx_save_params params = { .format = ANX_FILE_ANNEX };

    if (!is_worth_a_file(index))
        return anx_fail(err, ANX_E_UNSUPPORTED, "building this index is as fast as reading it from a file");
    return anx_index_save_file(index->ann, &params, path, err);
}

/* Were the two made with the same parameters? */
static bool
agrees(const anx_index_params *a, const anx_index_params *b)
{
    return a->kind == b->kind && a->metric == b->metric && a->scalar == b->scalar && a->dim == b->dim &&
           a->m == b->m &&
           (a->kind != ANX_INDEX_IVF || a->centroids == b->centroids);
}

anx_status
vector_file_load(struct vector_index *index, const char *path, anx_error *err)
{
    const anx_index_params *params = anx_index_get_params(index->ann);
    anx_index_params hints = ANX_INDEX_PARAMS_INIT;
    anx_index *loaded;
    bool is_quantized;
    anx_status st;

    if (index->n_vector > 0 || anx_index_count(index->ann) > 0)
        return anx_fail(err, ANX_E_STATE, "the index is not empty");
    hints.kind = params->kind;
    hints.metric = params->metric;
    hints.dim = params->dim;
    hints.threads = params->threads;
    hints.ef = params->ef;
    hints.fetch = params->fetch;
    hints.fetch_context = params->fetch_context;
    st = anx_index_load_file(path, &hints, &loaded, err);
    if (st != ANX_OK)
        return st;
    is_quantized = anx_index_get_params(loaded)->quantization != ANX_QUANTIZATION_NONE;
    if (!agrees(anx_index_get_params(loaded), params) || (is_quantized && !index->def->vector.is_quantized)) {
        anx_index_destroy(loaded);
        return anx_fail(err, ANX_E_VERSION, "the file was made for an index with other parameters");
    }
    anx_index_destroy(index->ann);
    index->ann = loaded;
    atomic_store(&index->is_quantized, is_quantized);
    return ANX_OK;
}
