/* The loop of walk.h for one store; no include guard. The includer defines
 *
 *     WALK_NAME     the name of the function made here: static bool WALK_NAME(WALK_GRAPH *g, struct walk *w)
 *
 *     WALK_GRAPH    the type of the store
 *
 *     WALK_EXPAND   size_t WALK_EXPAND(WALK_GRAPH *g, struct walk *w, uint32_t id): writes the not yet seen
 *                   neighbors of id to w->near, marks them seen, writes their code distances from the query
 *                   to w->near_dist, returns how many
 *
 *     WALK_AHEAD    WALK_AHEAD(g, id): id will probably be expanded next (SLOT_NONE: nothing known); may
 *                   prefetch its links
 *
 * Expands until no candidate is left. False: stopped by should_stop. */
static bool
WALK_NAME(WALK_GRAPH *g, struct walk *w)
{
    uint32_t id;

    while (walk_pop(w, &id)) {
        WALK_AHEAD(g, walk_next(w));
        walk_offer(w, WALK_EXPAND(g, w, id));
        if ((++w->n_hop & 31) == 0 && w->should_stop && w->should_stop(w->stop_context))
            return false;
    }
    return true;
}
#undef WALK_NAME
#undef WALK_GRAPH
#undef WALK_EXPAND
#undef WALK_AHEAD
