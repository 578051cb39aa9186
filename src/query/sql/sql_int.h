/* The SQL reader's inside: tokens, the parser's state, and the parts of the grammar that the files of this
 * folder give each other. See README.md of the room. */
#ifndef ANX_QUERY_SQL_SQL_INT_H
#define ANX_QUERY_SQL_SQL_INT_H

#include "query/query_int.h"

enum sql_kind {
    SQL_END,    /* the text is over, or reading it failed */
    SQL_NAME,   /* identifier or keyword */
    SQL_NUMBER, /* begins like one; may be malformed */
    SQL_STRING,
    SQL_SYMBOL /* operators and single bytes */
};
struct sql_token {
    enum sql_kind kind;
    bool is_quoted;    /* name in double quotes: never a keyword */
    bool has_escapes;  /* string: sql_text undoes them */
    anx_text text;     /* borrowed from the SQL text; without quotes */
    size_t start, end; /* the range error messages name: without quotes */
    size_t front, next; /* where it begins, quotes included, and where the next may begin */
};
/* A fault found while cutting tokens. */
struct sql_fault {
    enum { FAULT_NONE, FAULT_FIRST, FAULT_INSIDE, FAULT_OPEN } kind;
    size_t start, end;
};
/* The token at or behind `at`. With a fault the token is SQL_END. */
struct sql_token sql_cut(anx_text sql, size_t at, struct sql_fault *fault);
/* A path that may stand without quotes. */
bool is_sql_name(anx_text text);
/* One that may stand in double quotes. */
bool is_sql_quotable(anx_text text);

/* Everything that reads returns false after the first error, which is then in status and *err. */
struct sql_parser {
    anx_text sql;
    anx_arena *arena;
    struct sql_token token; /* the next one, not yet taken */
    size_t depth;           /* of brackets and nested selects */
    anx_status status;
    anx_error *err;
    struct query_location *location;
};

/* ---- Tokens ---- */
void sql_start(struct sql_parser *p, size_t at);   /* go on reading at a place of the text */
struct sql_token sql_take(struct sql_parser *p);   /* the next token */
struct sql_token sql_after(const struct sql_parser *p); /* the one behind the next */
bool sql_is(const struct sql_token *token, const char *keyword); /* a name without quotes, any case */
bool sql_is_symbol(const struct sql_token *token, const char *symbol);
bool sql_take_symbol(struct sql_parser *p, const char *symbol); /* takes it if it is next */
bool sql_take_keyword(struct sql_parser *p, const char *keyword);
bool sql_is_call(const struct sql_parser *p); /* next is a name without quotes, then an opening bracket */

/* ---- Errors: all return false, and keep the first one ---- */
/* ANX_E_PARSE_SQL. In the message, {token} stands for the token (names in lower case), {place} for "line: 1
 * column: 7 9"; the token's place is the location of the error. */
bool sql_fail(struct sql_parser *p, const struct sql_token *at, const char *format, ...) ANX_PRINTF(3, 4);
/* Another status, and no location. at: may be NULL. */
bool sql_fail_as(struct sql_parser *p, const struct sql_token *at, anx_status status, const char *format, ...)
    ANX_PRINTF(4, 5);
/* Takes the symbol, or fails with the message. */
bool sql_expect(struct sql_parser *p, const char *symbol, const char *message);
bool sql_spent(struct sql_parser *p); /* out of memory */

/* ---- Copies in the arena ---- */
bool sql_text(struct sql_parser *p, const struct sql_token *token, anx_text *out); /* escapes undone */
/* One of "'x'", 5, 1.5, true, {1,'x'}; with_null: NULL too. */
bool sql_is_literal(const struct sql_parser *p, bool with_null);
bool sql_literal(struct sql_parser *p, bool with_null, struct value *out);
void *sql_add(struct sql_parser *p, struct query_list *list); /* NULL: failed */

bool sql_enter(struct sql_parser *p, const struct sql_token *at); /* one level deeper; sql_leave undoes */
void sql_leave(struct sql_parser *p);

/* ---- Grammar ---- */
/* A statement while its lists grow. */
struct sql_where {
    struct query_list entries, positions;
    bool after_left_join; /* the last term left no entry */
};
struct sql_statement {
    struct query *query; /* lists are put in by sql_finish */
    struct query_list fields, aggregates, sort, forced, joins, merges, updates;
    struct sql_where where;
    bool has_star, has_limit_of_count;
};
struct sql_statement sql_statement_of(struct query *query);
struct sql_where sql_where_empty(void);
struct query_bracket sql_where_bracket(const struct sql_where *where);

/* A whole SELECT, LOCAL and EXPLAIN apart; the query is in the arena. */
bool sql_select(struct sql_parser *p, struct query *query);             /* select.c */
/* "SELECT ... )" behind its bracket; NULL: failed. */
const struct query *sql_subselect(struct sql_parser *p);
bool sql_names(struct sql_parser *p, const char *what, struct query_list *names);
bool sql_ns(struct sql_parser *p, anx_text *ns);
/* WHERE, LIMIT, OFFSET, ORDER BY, and with_joins joins and MERGE, in any order and number. */
bool sql_tail(struct sql_parser *p, struct sql_statement *s, bool with_joins);
bool sql_finish(struct sql_parser *p, struct sql_statement *s);
bool sql_order(struct sql_parser *p, struct query_list *sort, struct query_list *forced);
bool sql_window(struct sql_parser *p, size_t *limit, size_t *offset);  /* LIMIT n or OFFSET n */
/* Conditions up to what cannot continue them. */
bool sql_conditions(struct sql_parser *p, struct sql_statement *s, struct sql_where *where); /* where.c */
bool sql_knn(struct sql_parser *p, struct query_entry *entry);          /* knn.c, behind "KNN(" */
/* op: as it stood before the join. */
bool sql_join(struct sql_parser *p, struct sql_statement *s, struct sql_where *where, enum query_op op,
              const struct sql_token *op_token); /* join.c */
bool sql_is_join(const struct sql_parser *p);
bool sql_condition(struct sql_parser *p, enum query_condition *condition, bool *is_negated,
                   struct sql_token *token);
/* SET and DROP. */
bool sql_updates(struct sql_parser *p, struct sql_statement *s); /* update.c */

#endif
