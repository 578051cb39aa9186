/* The hnsw kind: creation, reading calls, and the table that makes it a kind. */
#include <string.h>

#include "ann/hnsw/check.h"
#include "ann/hnsw/hnsw_int.h"
#include "ann/hnsw/load.h"
#include "ann/hnsw/search.h"
#include "ann/hnsw/upper.h"
#include "ann/hnsw/write.h"
#include "ann/index_int.h"
#include "base/alloc.h"
#include "base/error.h"

#define SQ8_SHORT_LISTS_FROM 256 /* bytes of a code */

/* Links per node at layer 0. The classic graph has room for 2m and fills half of it; with pruning that fills
 * its lists, 3m is where search stops getting faster (48 at m = 16). Quantized indexes of many dimensions do
 * with less when they are built with more partitions: packages (384) at 2m has 1.2 times the QPS of 3m for
 * 0.003 of recall. With 128 dimensions (sift) 2m would cost 0.03. */
static size_t
degree_for(const anx_index_params *params)
{
    bool is_short =
        params->quantization == ANX_QUANTIZATION_CODES ||
        (params->quantization == ANX_QUANTIZATION_SQ8 && space_stride(params) >= SQ8_SHORT_LISTS_FROM);

    return is_short ? 2 * params->m : 3 * params->m;
}

static void
hnsw_destroy(anx_index *index)
{
    struct hnsw *h = (struct hnsw *) index;
    const anx_alloc *alloc = h->base.params.alloc;

    while (h->retired_slots) {
        struct retired_slots *r = h->retired_slots;

        h->retired_slots = r->next;
        anx_free(alloc, r);
    }
    reclaim(h);
    graph_destroy(atomic_load(&h->graph));
    scratch_destroy_all(h);
    pthread_rwlock_destroy(&h->gate);
    pthread_mutex_destroy(&h->scratch_lock);
    pthread_mutex_destroy(&h->retire_lock);
    pthread_mutex_destroy(&h->rng_lock);
    anx_free(alloc, h);
}

anx_status
hnsw_create_empty(const anx_index_params *params, const anx_kernels *kernels, struct hnsw **out,
                  anx_error *err)
{
    struct hnsw *h = anx_alloc_zeroed(params->alloc, 1, sizeof(*h));

    *out = NULL;
    if (!h)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    index_head_init(&h->base, &anx_hnsw_ops, params, kernels);
    h->m = params->m;
    h->degree = degree_for(params);
    h->rng = anx_rng_seed(params->seed + 1);
    atomic_store(&h->epoch, 1);
    pthread_rwlock_init(&h->gate, NULL);
    pthread_mutex_init(&h->scratch_lock, NULL);
    pthread_mutex_init(&h->retire_lock, NULL);
    pthread_mutex_init(&h->rng_lock, NULL);
    *out = h;
    return ANX_OK;
}

static anx_status
hnsw_create(const anx_index_params *params, const anx_kernels *kernels, anx_index **out, anx_error *err)
{
    struct hnsw *h;
    struct graph *g;
    anx_status st = hnsw_create_empty(params, kernels, &h, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    st = graph_create(h, false, true, &g, err);
    if (st != ANX_OK) {
        anx_free(params->alloc, h);
        return st;
    }
    atomic_store(&h->graph, g);
    *out = &h->base;
    return ANX_OK;
}

/* --- reading by label --- */

static struct graph *
names_lock(const anx_index *index)
{
    struct hnsw *h = (struct hnsw *) index; /* locks are not part of the value */
    struct graph *g;

    pthread_rwlock_rdlock(&h->gate);
    g = atomic_load(&h->graph);
    pthread_mutex_lock(&g->names);
    if (!g->is_named) /* a mapped file: labels are read when first asked for; what fails stays unnamed */
        (void) !graph_name(g, NULL);
    return g;
}

static void
names_unlock(struct graph *g)
{
    struct hnsw *h = g->index;

    pthread_mutex_unlock(&g->names);
    pthread_rwlock_unlock(&h->gate);
}

static bool
hnsw_contains(const anx_index *index, uint64_t label)
{
    struct graph *g = names_lock(index);
    bool found = label_find(g, label) != SLOT_NONE;

    names_unlock(g);
    return found;
}

static anx_status
hnsw_get(const anx_index *index, uint64_t label, void *vector, anx_error *err)
{
    const anx_index_params *params = &index->params;
    float *buffer = anx_alloc_array(params->alloc, params->dim + 1, sizeof(float));
    const void *fetched = NULL;
    struct graph *g;
    uint32_t id;
    anx_status st = ANX_OK;

    if (!buffer)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a row");
    if (params->quantization == ANX_QUANTIZATION_SQ8 && params->fetch && hnsw_contains(index, label))
        fetched = params->fetch(params->fetch_context, label, vector);
    if (fetched) {
        if (fetched != vector)
            memcpy(vector, fetched, index->row_size);
        goto out;
    }
    g = names_lock(index);
    id = label_find(g, label);
    if (id == SLOT_NONE) {
        st = anx_fail(err, ANX_E_NOT_FOUND, "label %llu is not present", (unsigned long long) label);
    } else {
        uint32_t slot = id & COPY_BIT ? g->copies[id & ~COPY_BIT].owner : id;

        if (g->keeps_rows)
            memcpy(vector, graph_row(g, slot), g->row_size);
        else
            space_decode(&g->space, graph_code(g, slot), vector, buffer);
    }
    names_unlock(g);
out:
    anx_free(params->alloc, buffer);
    return st;
}

static bool
hnsw_holds(const anx_index *index, uint64_t label, const void *vector)
{
    struct graph *g = names_lock(index);
    uint32_t id = label_find(g, label), slot = id;
    bool holds = id != SLOT_NONE;

    if (holds && (id & COPY_BIT))
        slot = g->copies[id & ~COPY_BIT].owner;
    if (holds && g->keeps_rows) {
        holds = memcmp(graph_row(g, slot), vector, g->row_size) == 0;
    } else if (holds) {
        size_t code_size = (g->stride + 63) / 64 * 64;
        uint8_t *code = anx_alloc_bytes(index->params.alloc, code_size);
        float *buffer = anx_alloc_array(index->params.alloc, index->params.dim + 1, sizeof(float));

        holds = code && buffer &&
                (g->space.kind != SPACE_LOSSLESS || space_row_is_bytes(&g->space, vector));
        if (holds) {
            (void) space_encode(&g->space, vector, code, buffer);
            holds = memcmp(graph_code(g, slot), code, g->stride) == 0;
        }
        anx_free(index->params.alloc, code);
        anx_free(index->params.alloc, buffer);
    }
    names_unlock(g);
    return holds;
}

static size_t
hnsw_count(const anx_index *index)
{
    struct hnsw *h = (struct hnsw *) index;
    size_t n;

    pthread_rwlock_rdlock(&h->gate);
    n = atomic_load(&atomic_load(&h->graph)->n_live);
    pthread_rwlock_unlock(&h->gate);
    return n;
}

static void
hnsw_stats(const anx_index *index, anx_index_stats *stats)
{
    struct graph *g = names_lock(index);

    stats->count = atomic_load(&g->n_live);
    stats->slots = atomic_load(&g->n_slot) + g->n_copy_used;
    stats->memory_bytes = sizeof(struct hnsw) + graph_memory(g, stats);
    stats->max_level = upper_levels(upper_of(g));
    stats->n_copies = g->n_copy_used;
    if (g->space.kind == SPACE_ROTATED) {
        stats->code_low = g->space.offset;
        stats->code_high = g->space.offset + 255 * g->space.step;
    }
    names_unlock(g);
}

static anx_status
hnsw_rebuild(anx_index *index, anx_progress_fn fn, void *context, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    struct bulk_progress progress = { .fn = fn, .context = context };
    anx_status st;

    pthread_rwlock_wrlock(&h->gate);
    st = hnsw_rebuild_locked(h, ANX_LABEL_NONE, NULL, &progress, err);
    pthread_rwlock_unlock(&h->gate);
    return st;
}

const struct index_ops anx_hnsw_ops = {
    .name = "hnsw",
    .kind = ANX_INDEX_HNSW,
    .create = hnsw_create,
    .destroy = hnsw_destroy,
    .add = hnsw_add,
    .add_batch = hnsw_add_batch,
    .loader_begin = hnsw_loader_begin,
    .loader_rows = hnsw_loader_rows,
    .loader_finish = hnsw_loader_finish,
    .loader_abort = hnsw_loader_abort,
    .remove = hnsw_remove,
    .update = hnsw_update,
    .contains = hnsw_contains,
    .get = hnsw_get,
    .holds = hnsw_holds,
    .count = hnsw_count,
    .search = hnsw_search,
    .search_range = hnsw_search_range,
    .iter_open = hnsw_iter_open,
    .iter_next = hnsw_iter_next,
    .iter_close = hnsw_iter_close,
    .rebuild = hnsw_rebuild,
    .stats = hnsw_stats,
    .check = hnsw_check,
};
