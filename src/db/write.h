/* Item writes, shared by write.c (requests) and tx.c (commits): documents from JSON text into a set of
 * changes. */
#ifndef ANX_DB_WRITE_H
#define ANX_DB_WRITE_H

#include "db/changes.h"
#include "db/ns_life.h"
#include "db/precept.h"
#include "doc/cjson.h"

struct write_source { /* where documents come from */
    enum db_write_mode mode;
    anx_text json;       /* or one document in CJSON */
    bool is_cjson;
    int32_t state_token; /* CJSON: of the dictionary that the client knows */
    size_t at; /* how far it was read */
    const struct precept *precepts;
    size_t n_precept;
    struct json_reader *reader;  /* for JSON; NULL otherwise */
    struct cjson_reader *cjson;  /* for CJSON */
    struct embed_memo *memo; /* planned for the namespace as it is; NULL: nothing is embedded */
};
struct write_sink { /* where they go */
    struct changes *changes;
    struct store_batch *batch; /* counters of serial() */
    size_t n_affected;
    anx_buffer *items; /* stored forms, separated by commas; NULL: not wanted */
    anx_buffer *doc;   /* the stored form as CJSON without vectors; NULL: not wanted */
};
/* The next document of a source under the namespace's shape. ANX_E_STALE_NAMES, ANX_E_LIMIT (names), and what
 * the readers say. Either lock held. */
ANX_NODISCARD anx_status write_read_doc(struct write_source *source, const struct ns *ns, anx_arena *arena,
                                        struct doc_draft *draft, bool *more, anx_error *err);
/* Notes what the documents from source->at on need of embedders: at most n of them, at most `bytes` of text.
 * *end: where the last one ends. A document that cannot be read ends it without an error: write_next meets
 * it. No lock held. */
ANX_NODISCARD anx_status write_look_ahead(const struct write_source *source, struct ns *ns, size_t n,
                                          size_t bytes, size_t *end, anx_error *err);
/* Reads the next document and puts what it means into the changes. *more false: there was none. The changes
 * must have room for one more. write_lock held. */
ANX_NODISCARD anx_status write_next(struct write_source *source, struct write_sink *sink, bool *more,
                                    anx_error *err);
/* Can documents be written here? ANX_E_NOT_FOUND, ANX_E_LOGIC. write_lock held. */
ANX_NODISCARD anx_status write_check_ns(const struct ns *ns, anx_error *err);
/* Prints a stored form with its vectors. */
void write_print_draft(const struct ns *ns, const struct doc_draft *draft, anx_buffer *out);

/* Largest arena of one request. */
#define WRITE_ARENA_MAX ((size_t) 16 << 30)

#endif
