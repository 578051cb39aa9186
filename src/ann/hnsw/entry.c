/* See entry.h. */
#include "ann/hnsw/entry.h"

#include "ann/hnsw/insert.h"
#include "ann/hnsw/upper.h"
#include "base/error.h"

#define ENTRY_EF 12
#define ISLAND_EF \
    128 /* a row that is not found with this list either lies in a region that searches do not enter */
#define CHOOSE_SAMPLE 400
#define CHOOSE_TOLERANCE 1 /* of the sample */
#define PROMOTE_SAMPLE 5000 /* 7 us each */

/* Does a short walk to a row of the graph find it? */
static anx_status
arrives(struct graph *g, struct scratch *s, uint32_t slot, size_t ef, bool *yes, anx_error *err)
{
    struct walk w;
    anx_status st = insert_nearest(g, s, slot, ef, &w, err);

    *yes = st == ANX_OK && w.n > 0 && w.dist[0] == 0;
    return st;
}

static anx_status
count_missed(struct graph *g, struct scratch *s, size_t *n_missed, anx_error *err)
{
    size_t n = atomic_load(&g->n_slot), n_sample = n < CHOOSE_SAMPLE ? n : CHOOSE_SAMPLE;
    anx_status st = ANX_OK;

    *n_missed = 0;
    for (size_t i = 0; i < n_sample && st == ANX_OK; i++) {
        uint32_t slot = (uint32_t) (i * n / n_sample);
        bool yes = true;

        if (graph_flags(g, slot) & FLAG_LINKED)
            st = arrives(g, s, slot, ENTRY_EF, &yes, err);
        *n_missed += !yes;
    }
    return st;
}

/* Puts a row, or the first neighbor of it that can be, into the layers up to the one that is scanned. */
static anx_status
promote(struct graph *g, struct scratch *s, uint32_t slot, anx_error *err)
{
    size_t level = upper_entry_level(g, upper_of(g)), n;
    uint32_t ids[ANX_HNSW_M_MAX * 4];
    anx_status st;

    n = links_read(graph_links(g, slot), g->degree, ids);
    for (size_t i = 0; i < n && (graph_flags(g, slot) & FLAG_UPPER); i++)
        slot = ids[i];
    if (graph_flags(g, slot) & FLAG_UPPER)
        return ANX_OK;
    level = level ? level : 1;
    pthread_mutex_lock(&g->upper_lock);
    st = upper_insert(g, s, slot, (unsigned) level, err);
    pthread_mutex_unlock(&g->upper_lock);
    if (st == ANX_OK) { /* it must stay the layer that is scanned */
        uint32_t size = atomic_load(&upper_layer(upper_of(g), level)->n);

        if (size > atomic_load(&g->entry_max) && size <= ENTRY_LARGEST)
            atomic_store(&g->entry_max, size);
    }
    return st;
}

static anx_status
promote_missed(struct graph *g, struct scratch *s, anx_error *err)
{
    size_t n = atomic_load(&g->n_slot), n_sample = n < PROMOTE_SAMPLE ? n : PROMOTE_SAMPLE;
    anx_status st = ANX_OK;

    for (size_t i = 0; i < n_sample && st == ANX_OK; i++) {
        uint32_t slot = (uint32_t) (i * n / n_sample);
        bool yes = true;

        if (graph_flags(g, slot) & FLAG_LINKED)
            st = arrives(g, s, slot, ENTRY_EF, &yes, err);
        if (st == ANX_OK && !yes)
            st = arrives(g, s, slot, ISLAND_EF, &yes, err);
        if (st == ANX_OK && !yes)
            st = promote(g, s, slot, err);
    }
    return st;
}

anx_status
entry_choose(struct graph *g, struct scratch *s, anx_error *err)
{
    static const uint32_t sizes[] = { ENTRY_LARGEST, ENTRY_DEFAULT, ENTRY_SMALLEST };
    uint32_t chosen = ENTRY_LARGEST;
    size_t fewest = 0;
    anx_status st = ANX_OK;

    for (size_t i = 0; i < ANX_COUNT_OF(sizes) && st == ANX_OK; i++) {
        size_t missed = 0;

        atomic_store(&g->entry_max, sizes[i]);
        st = count_missed(g, s, &missed, err);
        if (i == 0)
            fewest = missed;
        if (missed > fewest + CHOOSE_TOLERANCE)
            break;
        chosen = sizes[i];
    }
    atomic_store(&g->entry_max, chosen);
    g->entry_n = atomic_load(&g->n_slot);
    if (st == ANX_OK)
        st = promote_missed(g, s, err);
    g->entry_level = upper_entry_level(g, upper_of(g));
    return st;
}
