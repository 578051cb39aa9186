/* The words of SQL and DSL, each family in one table, and what every file of the room needs. */
#include "base/error.h"
#include "query/query_int.h"

struct condition_row {
    const char *class_name, *dsl, *sql;
};
static const struct condition_row conditions[] = {
    [COND_ANY] = { "CondAny", "any", NULL },          [COND_EQ] = { "CondEq", "eq", "=" },
    [COND_LT] = { "CondLt", "lt", "<" },              [COND_LE] = { "CondLe", "le", "<=" },
    [COND_GT] = { "CondGt", "gt", ">" },              [COND_GE] = { "CondGe", "ge", ">=" },
    [COND_RANGE] = { "CondRange", "range", "RANGE" }, [COND_SET] = { "CondSet", "set", "IN" },
    [COND_ALLSET] = { "CondAllSet", "allset", "ALLSET" }, [COND_EMPTY] = { "CondEmpty", "empty", NULL },
    [COND_LIKE] = { "CondLike", "like", "LIKE" },     [COND_DWITHIN] = { "CondDWithin", "dwithin", NULL },
    [COND_KNN] = { "CondKnn", "knn", NULL },
};
static const char *const aggregates[] = {
    [AGGREGATE_SUM] = "sum",           [AGGREGATE_AVG] = "avg",     [AGGREGATE_MIN] = "min",
    [AGGREGATE_MAX] = "max",           [AGGREGATE_FACET] = "facet", [AGGREGATE_DISTINCT] = "distinct",
    [AGGREGATE_COUNT] = "count",       [AGGREGATE_COUNT_CACHED] = "count_cached",
};
static const char *const time_units[] = {
    [TIME_SEC] = "sec", [TIME_MSEC] = "msec", [TIME_USEC] = "usec", [TIME_NSEC] = "nsec"
};
static const char *const stricts[] = {
    [STRICT_DEFAULT] = "", [STRICT_NONE] = "none", [STRICT_NAMES] = "names", [STRICT_INDEXES] = "indexes"
};
/* Words that have a meaning somewhere a name may stand. */
static const char *const keywords[] = {
    "all",   "allset",  "and",    "asc",   "by",   "delete",   "desc",   "distinct", "drop",
    "empty", "explain", "false",  "from",  "in",   "inner",    "is",     "join",     "left",
    "like",  "limit",   "local",  "merge", "not",  "null",     "offset", "on",       "or",
    "order", "range",   "select", "set",   "true", "truncate", "update", "where",
};

static int
find_word(const char *const *words, size_t n, anx_text word)
{
    for (size_t i = 0; i < n; i++)
        if (anx_text_equal_fold(word, anx_text_of(words[i])))
            return (int) i;
    return -1;
}

const char *
query_condition_class(enum query_condition condition)
{
    return conditions[condition].class_name;
}

const char *
condition_dsl(enum query_condition condition)
{
    return conditions[condition].dsl;
}

const char *
condition_sql(enum query_condition condition)
{
    return conditions[condition].sql;
}

int
condition_from_dsl(anx_text word)
{
    for (size_t i = 0; i < ANX_COUNT_OF(conditions); i++)
        if (anx_text_equal_fold(word, anx_text_of(conditions[i].dsl)))
            return (int) i;
    return anx_text_equal_fold(word, ANX_TEXT("match")) ? COND_EQ : -1;
}

int
condition_from_sql(anx_text word)
{
    for (size_t i = 0; i < ANX_COUNT_OF(conditions); i++)
        if (conditions[i].sql && anx_text_equal_fold(word, anx_text_of(conditions[i].sql)))
            return (int) i;
    return anx_text_equal(word, ANX_TEXT("==")) || anx_text_equal_fold(word, ANX_TEXT("is")) ? COND_EQ : -1;
}

enum query_condition
condition_turned(enum query_condition condition)
{
    switch (condition) {
    case COND_LT:
        return COND_GT;
    case COND_LE:
        return COND_GE;
    case COND_GT:
        return COND_LT;
    case COND_GE:
        return COND_LE;
    default:
        return condition;
    }
}

const char *
aggregate_word(enum query_aggregate_type type)
{
    return aggregates[type];
}

int
aggregate_from_word(anx_text word)
{
    return find_word(aggregates, ANX_COUNT_OF(aggregates), word);
}

const char *
time_unit_word(enum query_time_unit unit)
{
    return time_units[unit];
}

int
time_unit_from_word(anx_text word)
{
    return find_word(time_units, ANX_COUNT_OF(time_units), word);
}

const char *
strict_word(enum query_strict strict)
{
    return stricts[strict];
}

int
strict_from_word(anx_text word)
{
    return find_word(stricts, ANX_COUNT_OF(stricts), word);
}

bool
is_sql_keyword(anx_text word)
{
    return find_word(keywords, ANX_COUNT_OF(keywords), word) >= 0;
}

struct query
query_default(void)
{
    return (struct query) { .type = QUERY_SELECT, .all_fields = true, .limit = QUERY_NO_LIMIT };
}

void *
query_list_add(struct query_list *list, anx_arena *arena)
{
    unsigned char *items = list->items;

    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 4;

        items = anx_arena_array(arena, capacity, list->item_size);
        if (!items)
            return NULL;
        if (list->n > 0)
            memcpy(items, list->items, list->n * list->item_size);
        list->items = items;
        list->capacity = capacity;
    }
    return items + list->n++ * list->item_size;
}

anx_status
query_out_of_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "Out of memory while reading a query");
}

struct expression *
expression_new(anx_arena *arena, enum expression_kind kind, anx_status *status, anx_error *err)
{
    struct expression *node = anx_arena_array(arena, 1, sizeof(*node));

    if (node)
        node->kind = kind;
    else if (*status == ANX_OK)
        *status = query_out_of_memory(err);
    return node;
}

struct expression *
expression_join(struct expression *node, const struct expression *left, const struct expression *right)
{
    if (node) {
        node->left = left;
        node->right = right;
    }
    return node;
}
