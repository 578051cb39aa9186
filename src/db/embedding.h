/* Automatic embedding: vectors of documents and texts of queries come from services on the network
 * (src/embed).
 *
 * Nobody waits for a service with a lock. So a write is done in rounds: documents are looked at under a lock,
 * what they need is noted in a memo, the locks are released, the memo is filled, and the write is done under
 * its locks with what the memo has. Should a document need something else by then (its index was given
 * another embedder, or somebody else changed it), nothing is written and there is another round; EMBED_ROUNDS
 * of them at most.
 *
 *     embed_memo_create(db)                      one request or transaction
 *     embed_memo_plan(memo, ns, &err)            a lock of ns: which embedders there are
 *     embed_memo_note(memo, ns, &draft, ...)     a lock of ns: what a document needs
 *     embed_memo_run(memo, session, &err)        no lock: all of it, in batches
 *     embed_memo_apply(memo, ns, ..., &draft)    write_lock: vectors into the document; what is missing is
 * noted
 *
 * Threads: a memo belongs to one; everything else may be called by any. */
#ifndef ANX_DB_EMBEDDING_H
#define ANX_DB_EMBEDDING_H

#include "db/db_int.h"
#include "db/ns.h"
#include "db/precept.h"
#include "embed/embedder.h"

enum { EMBED_ROUNDS = 16 };

/* ---- Of a database (embedding.c) ---- */

struct embedding;
struct embedding *embedding_create(struct database *db); /* NULL: out of memory */
void embedding_destroy(struct embedding *embedding);     /* waits for background work; NULL is fine */
/* Background work is told to end; before the database's data goes away. */
void embedding_stop(struct embedding *embedding);
struct embed_caches *embedding_caches(struct embedding *embedding);
/* The embedder of an index as its definition says now; a lock of the namespace held. Released by the caller.
 */
ANX_NODISCARD anx_status embedding_get(struct ns *ns, const struct index_def *def, bool is_query,
                                       struct embedder **out, anx_error *err);
/* An index, or with name.data NULL a whole namespace, is gone: so are its embedders and counters. */
void embedding_forget(struct ns *ns, anx_text name);
/* "upsert_embedder":{...},"query_embedder":{...}, with a comma behind each, for #memstats and #perfstats. */
void embedding_print_status(struct ns *ns, const struct index_def *def, anx_buffer *out);
void embedding_print_perf(struct ns *ns, const struct index_def *def, anx_buffer *out);
void embedding_reset_perf(struct database *db);
void embedding_print_metrics(struct database *db, anx_buffer *out);
/* Time limit and the like of a session, for embedder_run. session may be NULL. */
struct embed_call embedding_call(const struct db_session *session);

/* ---- Documents (embed_docs.c) ---- */

struct embed_memo;
struct embed_memo *embed_memo_create(struct database *db); /* NULL: out of memory */
void embed_memo_destroy(struct embed_memo *memo);          /* NULL is fine */
/* Are there documents here that need an embedder? A lock of the namespace held. */
bool ns_has_upsert_embedder(const struct ns *ns);
ANX_NODISCARD anx_status embed_memo_plan(struct embed_memo *memo, struct ns *ns, anx_error *err);
/* Errors: ANX_E_LOGIC (a source field that is not there), ANX_E_CONFLICT (strategy strict). */
ANX_NODISCARD anx_status embed_memo_note(struct embed_memo *memo, const struct ns *ns,
                                         const struct doc_draft *draft, const struct precept *precepts,
                                         size_t n_precept, anx_error *err);
/* Puts vectors into the draft, which moves to the arena. The failure of its service is the document's error.
 */
ANX_NODISCARD anx_status embed_memo_apply(struct embed_memo *memo, const struct ns *ns,
                                          const struct precept *precepts, size_t n_precept, anx_arena *arena,
                                          struct doc_draft *draft, anx_error *err);
/* The same after an UPDATE: only indexes of whose source fields a value changed, whatever their strategy, and
 * which the query does not set. doc: before. */
ANX_NODISCARD anx_status embed_memo_update(struct embed_memo *memo, const struct ns *ns,
                                           const struct query *query, struct doc doc, anx_arena *arena,
                                           struct doc_draft *draft, anx_error *err);
/* May the query change what an embedder reads? A lock of the namespace held. */
bool embed_touches(const struct ns *ns, const struct query *query);
/* Most inputs of a request, below what the embedder takes (0: no limit), and where answered inputs are
 * counted (may be NULL). */
void embed_memo_limit(struct embed_memo *memo, size_t n, _Atomic uint64_t *n_answered);
/* Components of the vectors of one document, all planned indexes together. */
size_t embed_memo_dims(const struct embed_memo *memo);
/* What was noted and not asked for yet. */
size_t embed_memo_pending(const struct embed_memo *memo);
void embed_memo_forget_pending(struct embed_memo *memo);
/* Asks. What services answer or fail to is kept for embed_memo_apply. ANX_E_NOMEM, ANX_E_TIMEOUT,
 * ANX_E_CANCELLED. */
ANX_NODISCARD anx_status embed_memo_run(struct embed_memo *memo, const struct db_session *session,
                                        anx_error *err);
/* "SET vec = skip_embedding()" */
bool is_skip_embedding(const struct query_update *update);
/* skip_embedding() only for vector indexes with an embedder. ANX_E_LOGIC. */
ANX_NODISCARD anx_status embed_check_precepts(const struct ns *ns, const struct precept *precepts, size_t n,
                                              anx_error *err);

/* ---- Queries (embed_query.c) ---- */

/* A query whose KNN conditions have vectors in place of texts: a copy in the arena of what had to be changed,
 * or the query itself. Conditions that cannot be embedded keep their texts, and knn.failure when a service
 * failed; whoever runs the query gives the errors. No lock held. ANX_E_NOMEM, ANX_E_TIMEOUT, ANX_E_CANCELLED.
 */
ANX_NODISCARD anx_status embed_query_texts(struct database *db, const struct query *query,
                                           const struct db_session *session, anx_arena *arena,
                                           const struct query **out, anx_error *err);

/* Why the first of its texts that a service failed for has no vector; NULL: none failed. */
const anx_error *embed_query_failure(const struct query *query);

/* ---- create_embeddings (create_embeddings.c) ---- */

struct embedding_jobs;
struct embedding_jobs *embedding_jobs_create(struct database *db); /* NULL: out of memory */
void embedding_jobs_stop(struct embedding_jobs *jobs);
void embedding_jobs_destroy(struct embedding_jobs *jobs); /* NULL is fine */
/* Starts for every namespace that is meant ("*": all); waits a moment for it to end, so that small namespaces
 * are done when the call returns, and gives their errors. batch: documents of a change, 0: the standard. */
ANX_NODISCARD anx_status embedding_jobs_start(struct database *db, anx_text ns, size_t batch, anx_error *err);
/* "create_embeddings":{...}, for #perfstats; nothing when the namespace never had such a job. */
void embedding_jobs_print(struct ns *ns, anx_buffer *out);
struct embedding_jobs *embedding_jobs_of(struct database *db);

#endif
