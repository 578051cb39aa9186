/* A vector index looked at from outside of any query: to measure it, to draw it. Whoever does that reads many
 * rows and must not keep writers waiting, so the namespace's data_lock is taken for a block of rows at a
 * time, well under a millisecond each, and what lies between two blocks may have changed.
 *
 *     struct vector_view view;
 *     vector_view_open(db, ns, index, &view, &err);
 *     vector_view_sample(&view, limit, seed, session, arena, &sample, &err);
 *     if (vector_view_lock(&view, &err) == ANX_OK) {      // data_lock shared
 *         ... view.index ...
 *         vector_view_unlock(&view);
 *     }
 *     vector_view_close(&view);
 *
 * Threads: a view belongs to one. */
#ifndef ANX_DB_SAMPLE_H
#define ANX_DB_SAMPLE_H

#include "db/db_int.h"
#include "db/vector_int.h"

struct vector_view {
    struct ns *ns;              /* a reference */
    uint64_t serial;            /* of the index */
    struct vector_index *index; /* between lock and unlock; its ns_index is `place` */
    const struct ns_index *place;
    anx_text name;              /* borrowed from the caller or from the arena */
};
struct vector_sample {
    uint32_t
        *rows; /* [n], from the arena, in the order of their hashes: the first half of it is a sample too */
    size_t n;
    size_t n_row; /* rows with vectors */
};

/* name.size 0: the namespace's only vector index, whose name then goes to the arena. ANX_E_NOT_FOUND (no such
 * namespace, with the text of the API), ANX_E_PARAMS (no such index, not a vector index, not the only one;
 * the text names it). */
ANX_NODISCARD anx_status vector_view_open(struct database *db, anx_text ns, anx_text name, anx_arena *arena,
                                          struct vector_view *out, anx_error *err);
void vector_view_close(struct vector_view *view);
/* ANX_E_NOT_FOUND when the namespace or the index was dropped meanwhile; then it is not locked. */
ANX_NODISCARD anx_status vector_view_lock(struct vector_view *view, anx_error *err);
void vector_view_unlock(struct vector_view *view);
/* Rows with vectors, the `limit` with the smallest hashes of row and seed: the same as long as the same rows
 * have vectors. The view is not locked. ANX_E_NOMEM, errors of vector_view_lock and of the session. */
ANX_NODISCARD anx_status vector_view_sample(struct vector_view *view, size_t limit, uint32_t seed,
                                            const struct db_session *session, anx_arena *arena,
                                            struct vector_sample *out, anx_error *err);
/* The first vector of a row, exactly as it was written; out [dim]. False: it has none any more. Locked. */
bool vector_view_floats(const struct vector_view *view, uint32_t row, anx_buffer *room, float *out);

#endif
