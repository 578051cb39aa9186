/* Per-thread working memory of searches and inserts: taken from a pool at the start of a call, given back at
 * its end, so that nothing is allocated per hop or per row once sizes have settled. */
#include <string.h>

#include "ann/hnsw/hnsw_int.h"
#include "ann/hnsw/prune.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

static void
scratch_destroy(struct scratch *s)
{
    const anx_alloc *alloc = s->alloc;

    anx_free(alloc, s->visited);
    anx_free(alloc, s->pool_dist);
    anx_free(alloc, s->pool_id);
    anx_free_aligned(alloc, s->query_code);
    anx_free(alloc, s->query_buffer);
    anx_free(alloc, s->row);
    anx_free(alloc, s->near);
    anx_free(alloc, s->near_code);
    anx_free(alloc, s->near_dist);
    anx_free(alloc, s->near_pick);
    anx_free(alloc, s->hit_dist);
    anx_free(alloc, s->hit_label);
    prune_destroy(s->prune);
    anx_free_aligned(alloc, s);
}

static struct scratch *
scratch_create(struct hnsw *index)
{
    const anx_index_params *params = &index->base.params;
    struct scratch *s = anx_alloc_aligned(params->alloc, 1, sizeof(*s));

    if (!s)
        return NULL;
    s->alloc = params->alloc;
    /* One hop brings at most `degree` neighbors; scans come in batches of SCAN_BATCH. */
    s->near_size = index->degree > SCAN_BATCH ? index->degree : SCAN_BATCH;
    s->query_code = anx_alloc_aligned(params->alloc, 1, space_stride(params));
    s->query_buffer = anx_alloc_array(params->alloc, params->dim + 1, sizeof(float));
    s->row = anx_alloc_bytes(params->alloc, index->base.row_size);
    s->near = anx_alloc_array(params->alloc, s->near_size, sizeof(*s->near));
    s->near_code = anx_alloc_array(params->alloc, s->near_size, sizeof(*s->near_code));
    s->near_dist = anx_alloc_array(params->alloc, s->near_size, sizeof(*s->near_dist));
    s->near_pick = anx_alloc_array(params->alloc, s->near_size, sizeof(*s->near_pick));
    if (!s->query_code || !s->query_buffer || !s->row || !s->near || !s->near_code || !s->near_dist ||
        !s->near_pick) {
        scratch_destroy(s);
        return NULL;
    }
    return s;
}

struct scratch *
scratch_acquire(struct hnsw *index, anx_error *err)
{
    struct scratch *s;

    pthread_mutex_lock(&index->scratch_lock);
    s = index->scratch_free;
    if (s)
        index->scratch_free = s->free_next;
    pthread_mutex_unlock(&index->scratch_lock);
    if (s)
        return s;
    s = scratch_create(index);
    if (!s) {
        (void) anx_fail(err, ANX_E_NOMEM, "could not allocate working memory for a search");
        return NULL;
    }
    pthread_mutex_lock(&index->scratch_lock);
    s->all_next = index->scratch_all;
    index->scratch_all = s;
    pthread_mutex_unlock(&index->scratch_lock);
    return s;
}

void
scratch_release(struct hnsw *index, struct scratch *scratch)
{
    if (!scratch)
        return;
    pthread_mutex_lock(&index->scratch_lock);
    scratch->free_next = index->scratch_free;
    index->scratch_free = scratch;
    pthread_mutex_unlock(&index->scratch_lock);
}

void
scratch_destroy_all(struct hnsw *index)
{
    while (index->scratch_all) {
        struct scratch *s = index->scratch_all;

        index->scratch_all = s->all_next;
        scratch_destroy(s);
    }
    index->scratch_free = NULL;
}

anx_status
scratch_visit(struct scratch *s, size_t n_slot, anx_error *err)
{
    if (n_slot > s->visited_size) {
        size_t size = n_slot + n_slot / 4 + 1024;
        uint8_t *bigger = anx_alloc_zeroed(s->alloc, size, 1);

        if (!bigger)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate a visited set of %zu rows", size);
        anx_free(s->alloc, s->visited);
        s->visited = bigger;
        s->visited_size = size;
        s->tag = 0;
    }
    s->n_visible = (uint32_t) n_slot;
    if (++s->tag == 0) { /* every 255 walks */
        memset(s->visited, 0, s->visited_size);
        s->tag = 1;
    }
    return ANX_OK;
}

anx_status
scratch_pool(struct scratch *s, size_t ef, anx_error *err)
{
    int32_t *dist;
    uint32_t *id;

    if (ef <= s->pool_size)
        return ANX_OK;
    dist = anx_alloc_array(s->alloc, ef, sizeof(*dist));
    id = anx_alloc_array(s->alloc, ef, sizeof(*id));
    if (!dist || !id) {
        anx_free(s->alloc, dist);
        anx_free(s->alloc, id);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a candidate list of %zu", ef);
    }
    anx_free(s->alloc, s->pool_dist);
    anx_free(s->alloc, s->pool_id);
    s->pool_dist = dist;
    s->pool_id = id;
    s->pool_size = ef;
    return ANX_OK;
}

anx_status
scratch_hits(struct scratch *s, size_t n, anx_error *err)
{
    float *dist;
    uint64_t *label;

    if (n <= s->hit_size)
        return ANX_OK;
    dist = anx_alloc_array(s->alloc, n, sizeof(*dist));
    label = anx_alloc_array(s->alloc, n, sizeof(*label));
    if (!dist || !label) {
        anx_free(s->alloc, dist);
        anx_free(s->alloc, label);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate room for %zu hits", n);
    }
    anx_free(s->alloc, s->hit_dist);
    anx_free(s->alloc, s->hit_label);
    s->hit_dist = dist;
    s->hit_label = label;
    s->hit_size = n;
    return ANX_OK;
}
