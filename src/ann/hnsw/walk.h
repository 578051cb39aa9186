/* The one graph search loop: best-first walk over codes with a bounded, sorted candidate list. Written
 * against a small access interface (walk_run.h) and compiled into each file that includes that, so that
 * memory and database pages pay nothing for each other. Here: the candidate list.
 *
 * Source: arXiv 1603.09320 algorithm 2, with one sorted list in the place of two heaps (as in NSG, arXiv
 * 1707.00143): for lists of up to a few thousand an insertion is a SIMD count and two short memmoves.
 * Distances and ids are separate arrays for that reason. */
#ifndef ANX_ANN_HNSW_WALK_H
#define ANX_ANN_HNSW_WALK_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "kernel/kernel.h"

#define WALK_EXPANDED 0x80000000u

struct walk {
    const anx_kernels *kernels;
    /* candidate list, ascending by distance */
    int32_t *dist;
    uint32_t *id; /* WALK_EXPANDED set once expanded */
    size_t n, ef;
    size_t cursor; /* no unexpanded candidate before it */
    /* one hop */
    uint32_t *near;
    int32_t *near_dist;
    uint32_t *near_pick;
    size_t n_hop;
    bool (*should_stop)(void *context);
    void *stop_context;
};

static inline uint32_t
walk_id(const struct walk *w, size_t i)
{
    return w->id[i] & ~WALK_EXPANDED;
}

static inline void
walk_insert(struct walk *w, uint32_t id, int32_t dist)
{
    size_t at, tail;

    if (w->n == w->ef && dist >= w->dist[w->n - 1])
        return;
    at = w->kernels->count_below(w->dist, w->n, dist);
    tail = (w->n < w->ef ? w->n++ : w->ef - 1) - at;
    memmove(w->dist + at + 1, w->dist + at, tail * sizeof(*w->dist));
    memmove(w->id + at + 1, w->id + at, tail * sizeof(*w->id));
    w->dist[at] = dist;
    w->id[at] = id;
    if (at < w->cursor)
        w->cursor = at;
}

/* Offers n neighbors with their distances. */
static inline void
walk_offer(struct walk *w, size_t n)
{
    size_t n_pick;

    if (w->n < w->ef) {
        for (size_t i = 0; i < n; i++)
            walk_insert(w, w->near[i], w->near_dist[i]);
        return;
    }
    n_pick = w->kernels->select_below(w->near_dist, n, w->dist[w->n - 1], w->near_pick);
    for (size_t i = 0; i < n_pick; i++)
        walk_insert(w, w->near[w->near_pick[i]], w->near_dist[w->near_pick[i]]);
}

/* The candidate that is next unless this hop finds a nearer one; UINT32_MAX when there is none. */
static inline uint32_t
walk_next(const struct walk *w)
{
    for (size_t i = w->cursor + 1; i < w->n; i++)
        if (!(w->id[i] & WALK_EXPANDED))
            return w->id[i];
    return UINT32_MAX;
}

/* The nearest candidate not yet expanded, marked expanded; false when there is none. */
static inline bool
walk_pop(struct walk *w, uint32_t *id)
{
    while (w->cursor < w->n && (w->id[w->cursor] & WALK_EXPANDED))
        w->cursor++;
    if (w->cursor == w->n)
        return false;
    *id = w->id[w->cursor];
    w->id[w->cursor] |= WALK_EXPANDED;
    return true;
}

#endif
