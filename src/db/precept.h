/* Precepts: values that the server puts into every document of a write before it is stored.
 *
 *     id=serial()   the next number of the field's counter, kept as metadata "_SERIAL_id"
 *     t=now(msec)   time since the epoch: sec (default), msec, usec, nsec
 *     n=5           a number
 *     vec=skip_embedding(), *=skip_embedding()
 */
#ifndef ANX_DB_PRECEPT_H
#define ANX_DB_PRECEPT_H

#include "db/data.h"

enum precept_kind { PRECEPT_SERIAL, PRECEPT_NOW, PRECEPT_VALUE, PRECEPT_SKIP_EMBEDDING };
struct precept {
    enum precept_kind kind;
    anx_text field;
    enum query_time_unit unit;
    struct value value;
};

/* Everything is borrowed from the text or in the arena. ANX_E_PARAMS. */
ANX_NODISCARD anx_status precepts_read(const anx_text *texts, size_t n, anx_arena *arena,
                                       struct precept **out, anx_error *err);
/* Puts the values into a draft. write_lock held; counters go into the batch. ANX_E_LOGIC (array and composite
 * fields), and the errors of an UPDATE with these values. */
ANX_NODISCARD anx_status precepts_apply(const struct precept *precepts, size_t n, struct ns *ns,
                                        struct store_batch *batch, anx_arena *arena, struct doc_draft *draft,
                                        anx_error *err);

/* The next number of a field's counter (serial() in UPDATE too). write_lock held. */
ANX_NODISCARD anx_status serial_next(struct ns *ns, anx_text field, struct store_batch *batch,
                                     anx_arena *arena, int64_t *out, anx_error *err);
int64_t time_now(enum query_time_unit unit);
/* "sec", ... or empty for sec; false: no such unit. */
bool time_unit_read(anx_text text, enum query_time_unit *out);
/* A path to a field of documents by index name or JSON path: index names with one path become that path.
 * "a[0]" and kin keep what follows. The text is in the arena when it is not `path` itself. */
ANX_NODISCARD anx_status field_path(const struct ns *ns, anx_text path, anx_arena *arena, anx_text *out,
                                    anx_error *err);

#endif
