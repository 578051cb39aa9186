/* What the files of this room share: lists in an arena, the words of SQL and DSL, numbers from text. */
#ifndef ANX_QUERY_QUERY_INT_H
#define ANX_QUERY_QUERY_INT_H

#include "query/expression.h"
#include "query/query.h"

/* ---- Bytes that SQL and sort expressions agree on ---- */
static inline bool
query_is_digit(char c)
{
    return c >= '0' && c <= '9';
}
/* Bytes of UTF-8 letters count as letters: field names come from documents. */
static inline bool
query_starts_name(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || c == '#' || c == '@' ||
           (unsigned char) c >= 0x80;
}

/* A list that grows inside of an arena: the room doubles, the old items stay behind as waste (at most as much
 * again). Items are zeroed. */
struct query_list {
    void *items;
    size_t n, capacity;
    size_t item_size; /* bytes */
};
/* The new last item; NULL when the arena is spent. */
void *query_list_add(struct query_list *list, anx_arena *arena);
anx_status query_out_of_memory(anx_error *err);
/* A zeroed node; NULL with *status set (if it was ANX_OK) when the arena is spent. */
struct expression *expression_new(anx_arena *arena, enum expression_kind kind, anx_status *status,
                                  anx_error *err);
/* Gives an operator its sides; a NULL node stays NULL. */
struct expression *expression_join(struct expression *node, const struct expression *left,
                                   const struct expression *right);

/* ---- Words (words.c). A table each; what is not in it is -1. ---- */
const char *condition_dsl(enum query_condition condition); /* "eq", ... */
const char *
condition_sql(enum query_condition condition); /* "=", "IN", ...; NULL for ANY, EMPTY, DWITHIN, KNN */
int condition_from_dsl(anx_text word);                     /* any case; "match" is EQ */
int condition_from_sql(anx_text word);                     /* any case; "<>" is not in the table */
const char *aggregate_word(enum query_aggregate_type type);
int aggregate_from_word(anx_text word);
const char *time_unit_word(enum query_time_unit unit);
int time_unit_from_word(anx_text word);
int strict_from_word(anx_text word);
const char *strict_word(enum query_strict strict);
/* Would the bare word be read as something else than a name? Such names are printed in double quotes. */
bool is_sql_keyword(anx_text word);
/* "a < b" says the same as "b > a". */
enum query_condition condition_turned(enum query_condition condition);

/* ---- Numbers (number.c) ---- */
/* [+-] digits [. digits] [e [+-] digits] at the front of the text; a digit somewhere before the exponent is
 * needed. Returns where the number ends, NULL when there is none. Correctly rounded, but for more than 19
 * digits, of which the rest is dropped. May give infinity. */
const char *number_read_float(const char *at, const char *end, float *out);
const char *number_read_double(const char *at, const char *end, double *out);
/* "1, 2.5, -3e4 ]": the rest of a list of numbers behind its opening bracket. Returns the place behind the
 * closing bracket, NULL for anything but finite numbers and commas (the caller reads on by tokens and says
 * what is wrong) or when memory is spent (*is_spent). */
const char *number_read_list(const char *at, const char *end, anx_arena *arena, float **out, size_t *n,
                             bool *is_spent);
/* "POINT(1.5 -2)", any case. */
bool number_read_point(anx_text text, double *x, double *y);
/* A number token as a value: an integer without an exponent and a fraction other than zero, of at most 19
 * digits and 64 bits; a double with one of them; else false (the token is then taken for a string). */
bool number_value(anx_text token, struct value *out);

/* ---- Checks (check.c) ---- */
/* query_check; integer: what an integer argument is called in the text of an error. */
ANX_NODISCARD anx_status query_check_as(const struct query *query, const char *integer, anx_error *err);

/* ---- Expressions of UPDATE (expression_update.c, expression_print.c) ---- */
/* Reads an expression from the front of the text; *used: bytes up to the end of its last token. */
ANX_NODISCARD anx_status expression_read_front(anx_text text, anx_arena *arena, size_t *used,
                                               const struct expression **out, anx_error *err);
/* The text an expression of UPDATE is read from, with as few brackets as it needs. */
void expression_print(const struct expression *e, bool normalized, anx_buffer *out);

/* ---- Printing (print_sql.c, print_value.c) ---- */
void sql_print_value(const struct value *value, bool normalized, anx_buffer *out);
void sql_print_string(anx_text text, anx_buffer *out);
void sql_print_double(double value, anx_buffer *out); /* in a form that is read as the same double */
void sql_print_name(anx_text name, anx_buffer *out);
void sql_print_ns(anx_text ns, anx_buffer *out);

#endif
