/* Results that are not made by a SELECT: lists of documents that a change touched. They hold copies, so the
 * locks of the change can be gone by the time they are printed.
 *
 *     result_create_items(ns, &result, err);
 *     result_add_item(result, doc, vectors, err);     once per document, in the order to be shown
 *     ...
 *     result_print_json(result, NULL, &out, err);
 *     result_free(result);
 *
 * Threads: one at a time per result. */
#ifndef ANX_DB_RESULT_H
#define ANX_DB_RESULT_H

#include "db/ns.h"

/* An empty list for documents of `ns`; takes a reference to it (the dictionary of names is needed for
 * printing). ANX_E_NOMEM. */
ANX_NODISCARD anx_status result_create_items(struct ns *ns, struct result **out, anx_error *err);
/* Copies a document and its vectors: [ns->n_vector_field], by vector_field, n 0 where it has none; NULL when
 * the namespace has no vector index. They are all printed. ANX_E_NOMEM. */
ANX_NODISCARD anx_status result_add_item(struct result *result, struct doc doc,
                                         const struct doc_vectors *vectors, anx_error *err);
/* A document shown as {}, and total_items: the answer of a commit. ANX_E_NOMEM. */
ANX_NODISCARD anx_status result_add_empty(struct result *result, anx_error *err);
/* The result is that of a commit even when nothing was added: total_items is shown. */
void result_show_total(struct result *result);

#endif
