/* Between the files of the life cycle: making namespaces, their shape, the catalog, loading. */
#ifndef ANX_DB_NS_INT_H
#define ANX_DB_NS_INT_H

#include "db/data.h"
#include "db/ns_life.h"
#include "db/persist.h"

enum {
    INDEXES_MAX = 255, /* that are not composite */
    NS_NAME_MAX = 200  /* bytes: names are parts of paths and keys */
};

/* ---- ns.c ---- */

/* A namespace without indexes, with one reference, in no list. kind SYSTEM_* as in ns_life.h. */
ANX_NODISCARD anx_status ns_create(struct database *db, anx_text name, bool is_persistent, struct ns **out,
                                   anx_error *err);
/* Frees it whatever its references say; for those that were never in a list. */
void ns_destroy(struct ns *ns);
/* "Namespace name 'x' contains invalid character. ..."; what: "Namespace", "Database". */
ANX_NODISCARD anx_status name_check(const char *what, anx_text name, anx_error *err);
/* A reference from the list, NULL when there is none of that name. */
struct ns *list_find(struct database *db, anx_text name);
ANX_NODISCARD anx_status list_add(struct database *db, struct ns *ns,
                                  anx_error *err); /* takes the reference */
void list_remove(struct database *db, struct ns *ns);                                  /* and gives it up */
/* References to all namespaces of the list, in its order; the array is in the arena. */
ANX_NODISCARD anx_status list_all(struct database *db, anx_arena *arena, struct ns ***out, size_t *n,
                                  anx_error *err);
void list_release(struct ns **list, size_t n);

/* ---- ns_life.c ---- */

/* A namespace with its indexes, stored and in the list. life_lock held, or nobody knows the database. *out is
 * borrowed from the list. schema.data NULL: none. */
ANX_NODISCARD anx_status ns_create_listed(struct database *db, anx_text name, bool is_persistent,
                                          const struct index_def *indexes, size_t n_index, anx_text schema,
                                          struct ns **out, anx_error *err);
/* {"name":...,"storage":...,"indexes":[...],"schema":"..."}; either lock held. */
void ns_print_definition(const struct ns *ns, bool with_conditions, anx_buffer *out);

/* ---- ns_schema.c ---- */
/* Names of a schema's properties enter the dictionary. ANX_E_PARSE_JSON. */
ANX_NODISCARD anx_status schema_learn(struct ns *ns, anx_text schema, anx_error *err);

/* ---- ns_shape.c ---- */

/* What a namespace is made of besides rows; see struct ns. */
struct ns_content {
    struct ns_index *indexes; /* the array is owned, the indexes in it are not */
    size_t n_index, pk;
    struct doc_shape shape; /* fields owned */
    size_t n_vector_field;
};
#define VECTOR_FIELD_NEW UINT32_MAX
/* Orders the indexes (regular, sparse, composite; else as given), numbers vector fields that have
 * VECTOR_FIELD_NEW, and makes the shape. Names of paths enter the dictionary. ANX_E_PARAMS (paths),
 * ANX_E_NOMEM. */
ANX_NODISCARD anx_status content_make(struct ns *ns, const struct ns_index *indexes, size_t n,
                                      struct ns_content *out, anx_error *err);
void content_fini(struct ns_content *content);
/* Moves the content in and what was there out. Both locks held, or nobody knows the namespace. */
void content_swap(struct ns *ns, struct ns_content *content);
/* Definition and collation of an index; copies def. Without scalar and vector objects. */
ANX_NODISCARD anx_status index_make(const struct index_def *def, struct ns_index *out, anx_error *err);
void index_fini(struct ns_index *index);
bool index_has_scalar(const struct index_def *def);
/* The scalar, vector or text object of an index; list [n]: the indexes it is one of. */
ANX_NODISCARD anx_status index_build_empty(struct ns *ns, const struct ns_index *list, size_t n,
                                           struct ns_index *index, anx_error *err);

/* ---- ns_change.c ---- */

/* Adds an index, or replaces one. write_lock held, or nobody knows the namespace; then `is_private`: nothing
 * is stored. */
ANX_NODISCARD anx_status ns_index_set_locked(struct ns *ns, const struct index_def *def,
                                             enum db_index_action action, bool is_private, anx_error *err);

/* ---- persist.c: the catalog ---- */

/* Puts definition, indexes and schema of a namespace; content: of indexes to come, NULL for the present ones.
 */
ANX_NODISCARD anx_status catalog_put(struct ns *ns, const struct ns_content *content,
                                     struct store_batch *batch, anx_error *err);
/* persist_put for a shape to come, with so many vector fields. */
void persist_put_shaped(struct ns *ns, struct store_batch *batch, uint32_t row, struct doc doc,
                        const struct doc_vectors *vectors, size_t n_vector_field);
/* In ns->n_name_stored: the catalog has forgotten the namespace, and no name may be put there again. */
#define NAMES_GONE UINT32_MAX
/* Removes everything of a namespace from catalog and records. */
void catalog_remove(struct ns *ns, struct store_batch *batch);
ANX_NODISCARD anx_status records_table(struct database *db, uint32_t id, bool create,
                                       struct store_table **out, anx_error *err);
/* Submits and waits. Takes the batch, which may be NULL. */
ANX_NODISCARD anx_status persist_now(struct ns *ns, struct store_batch *batch, anx_error *err);
/* Reads the catalog and makes the namespaces it lists, with everything but their documents, into the list. */
ANX_NODISCARD anx_status catalog_load(struct database *db, anx_error *err);

/* ---- ns_load.c ---- */
/* Documents and indexes of a namespace from the store; nobody else knows it yet. */
ANX_NODISCARD anx_status ns_load(struct ns *ns, anx_error *err);

/* ---- One change of a definition, by name (ns.c) ---- */

/* Acquires a namespace and takes its write_lock, unless it is gone: then nothing is held. */
ANX_NODISCARD anx_status ns_change_begin(struct database *db, anx_text name, struct ns **out, anx_error *err);
/* Gives both back; after success (st) waits until the change is durable. */
ANX_NODISCARD anx_status ns_change_end(struct ns *ns, anx_status st, uint64_t ticket, anx_error *err);

/* ---- ns_meta.c ---- */
struct ns_meta *meta_create(void);
void meta_destroy(struct ns_meta *meta);
/* Loading: without the store. */
ANX_NODISCARD anx_status meta_restore(struct ns *ns, anx_text key, anx_text value, anx_error *err);
void meta_each(struct ns *ns, void (*each)(void *context, anx_text key, anx_text value), void *context);
/* Key of metadata in the catalog. */
enum { META_KEY_MAX = STORE_KEY_MAX - 5 };
size_t catalog_key(char kind, uint32_t id, anx_text rest, char out[STORE_KEY_MAX]);

/* ---- ann_cache.c: index files ---- */

/* Path of the file of an index. False: there can be none (memory only, not worth it, switched off). */
bool ann_cache_path(const struct ns *ns, const struct ns_index *index, char out[4096]);
void ann_cache_drop(struct ns *ns, const struct ns_index *index); /* removes its file */
void ann_cache_drop_all(struct ns *ns);
/* Removes files in the folder that belong to no index. */
void ann_cache_clean(struct database *db);
/* Saves what is worth saving. now: without waiting until the namespace is at rest (shutdown). */
void ann_cache_save(struct ns *ns, bool now);

/* ---- housekeeper.c, ttl.c ---- */
struct housekeeper *housekeeper_start(struct engine *engine);
void housekeeper_stop(struct housekeeper *keeper); /* NULL is fine */
void ttl_expire(struct ns *ns);

#endif
