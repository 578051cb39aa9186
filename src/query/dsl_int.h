/* The DSL reader's inside. Everything that reads returns false after the first error, which is then in status
 * and *err. */
#ifndef ANX_QUERY_DSL_INT_H
#define ANX_QUERY_DSL_INT_H

#include "doc/json.h"
#include "query/query_int.h"

struct dsl {
    anx_arena *arena;
    size_t depth; /* of filters and queries */
    /* How a value of the wrong type is complained about: in filters and their parts otherwise than elsewhere.
     */
    bool in_filter;
    anx_status status;
    anx_error *err;
};
/* Where in the document an object is, for messages: "query.filters". */
struct dsl_path {
    const struct dsl_path *parent; /* NULL: the root */
    const char *name;
};

/* ---- Objects with a closed set of keys (dsl_object.c) ---- */
enum dsl_shape { DSL_ONE, DSL_LIST }; /* may the value be an array? */
struct dsl_key {
    const char *name;
    enum dsl_shape shape;
    bool is_required;
    unsigned objects; /* kinds of objects that have it; bits */
};
enum { DSL_KEYS_MAX = 32 };
/* members[i]: the value of keys[i], NULL when absent. Refuses what is no object, unknown and repeated keys,
 * arrays in the wrong place, and absent keys that are required. kind: one bit of dsl_key.objects. */
bool dsl_members(struct dsl *d, const struct json_node *node, const struct dsl_path *path,
                 const struct dsl_key *keys, size_t n, unsigned kind, const struct json_node **members);

bool dsl_fail(struct dsl *d, anx_status status, const char *format, ...) ANX_PRINTF(3, 4);
bool dsl_spent(struct dsl *d);
bool dsl_enter(struct dsl *d); /* one level deeper; dsl_leave undoes */
void dsl_leave(struct dsl *d);
void *dsl_add(struct dsl *d, struct query_list *list); /* NULL: failed */

/* Values of one type; key names the member in the error. An absent member (NULL) leaves *out alone. */
bool dsl_text(struct dsl *d, const struct json_node *node, anx_text *out);
bool dsl_bool(struct dsl *d, const struct json_node *node, bool *out);
bool dsl_texts(struct dsl *d, const struct json_node *node, const anx_text **out, size_t *n);
bool dsl_limit(struct dsl *d, const struct json_node *node, size_t *out);  /* -1: QUERY_NO_LIMIT */
bool dsl_offset(struct dsl *d, const struct json_node *node, size_t *out);
/* A word of an enumeration; find: its number or -1. family: its name in the error. */
bool
dsl_word(struct dsl *d, const struct json_node *node, int (*find)(anx_text), const char *family, int *out);
/* The array with its elements (a long list of numbers is text until now). NULL, with an error: it is none. */
const struct json_node *dsl_list(struct dsl *d, const struct json_node *node);
/* A scalar, or an array of scalars and tuples (arrays). null: no value. */
bool dsl_values(struct dsl *d, const struct json_node *node, struct values *out);

/* ---- Queries (dsl.c) and their filters (dsl_filter.c) ---- */
struct dsl_query {
    struct query *query;
    struct query_list joins;
};
enum { DSL_ROOT = 1, DSL_JOIN = 2, DSL_SUBQUERY = 4 };
/* A query object of one of the kinds. For DSL_JOIN, *extra gets the members "type" and "on". */
struct dsl_join_members {
    const struct json_node *type, *on;
};
bool dsl_query(struct dsl *d, const struct json_node *node, const struct dsl_path *path, unsigned kind,
               struct query *out, struct dsl_join_members *extra);
bool dsl_filters(struct dsl *d, const struct json_node *node, const struct dsl_path *path,
                 struct dsl_query *q, struct query_bracket *out);

#endif
