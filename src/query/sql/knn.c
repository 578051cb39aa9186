/* KNN(field, [1, 2.5, ...], k=10): the vector goes from the text to floats without tokens in between. */
#include <math.h>

#include "query/sql/sql_int.h"

/* The slow way, token by token: for comments inside of the list, and to say what is wrong with it. */
static bool
read_vector_slowly(struct sql_parser *p, struct query_knn *knn)
{
    struct query_list floats = { .item_size = sizeof(float) };

    do {
        struct sql_token token = p->token;
        const char *end = token.text.data + token.text.size;
        float *item = sql_add(p, &floats);

        if (!item)
            return false;
        if (token.kind != SQL_NUMBER || number_read_float(token.text.data, end, item) != end ||
            !isfinite(*item))
            return sql_fail(p, &token, "Expected number, but found '{token}', {place}");
        sql_take(p);
    } while (sql_take_symbol(p, ","));
    knn->vector = floats.items;
    knn->dim = floats.n;
    return sql_expect(p, "]", "Expected ',' or ']', but found '{token}', {place}");
}

static bool
read_vector(struct sql_parser *p, struct query_knn *knn)
{
    const char *at = p->sql.data + p->token.next, *end = p->sql.data + p->sql.size;
    bool is_spent;
    float *floats;

    at = number_read_list(at, end, p->arena, &floats, &knn->dim, &is_spent);
    if (is_spent)
        return sql_spent(p);
    if (!at) {
        sql_take(p);
        return read_vector_slowly(p, knn);
    }
    knn->vector = floats;
    sql_start(p, (size_t) (at - p->sql.data));
    return true;
}

/* ---- Parameters ---- */

enum { PARAM_K, PARAM_RADIUS, PARAM_EF, PARAM_NPROBE, N_PARAM };
static const char *const params[] = {
    [PARAM_K] = "k", [PARAM_RADIUS] = "radius", [PARAM_EF] = "ef", [PARAM_NPROBE] = "nprobe"
};

static bool *
param_given(struct query_knn *knn, int param)
{
    bool *given[N_PARAM] = { &knn->has_k, &knn->has_radius, &knn->has_ef, &knn->has_nprobe };

    return given[param];
}

/* Which parameter the next token names; it is taken. -1: failed. */
static int
read_param_name(struct sql_parser *p, struct query_knn *knn)
{
    struct sql_token name = p->token;

    for (int i = 0; i < N_PARAM; i++) {
        if (!sql_is(&name, params[i]))
            continue;
        if (*param_given(knn, i)) { /* the place is that of what follows the name */
            sql_take(p);
            sql_fail(p, &p->token, "Duplicate KNN parameter '%s': {place}", params[i]);
            return -1;
        }
        if ((i == PARAM_EF && knn->has_nprobe) || (i == PARAM_NPROBE && knn->has_ef)) {
            sql_fail(p, &name, "Wrong SQL format: KNN query cannot contain both of '%s' and '%s'",
                     knn->has_ef ? "ef" : "nprobe", params[i]);
            return -1;
        }
        sql_take(p);
        return i;
    }
    sql_fail(p, &name, "Expected KNN parameter, but found '{token}', {place}");
    return -1;
}

static bool
read_param(struct sql_parser *p, struct query_knn *knn)
{
    int param = read_param_name(p, knn);
    struct sql_token token;
    double number;

    if (param < 0)
        return false;
    token = p->token;
    if (!sql_take_symbol(p, "="))
        return sql_fail(p, &token, "Expected '=', but found {token}, {place}");
    token = p->token;
    if (token.kind != SQL_NUMBER || number_read_double(token.text.data, token.text.data + token.text.size,
                                                       &number) != token.text.data + token.text.size)
        return sql_fail(p, &token, "Expected number greater than 0, but found {token}, {place}");
    if (!isfinite(number) || (param != PARAM_RADIUS && (number < 0 || number >= 0x1p63)))
        return sql_fail(p, &token, "Expected float or int greater than 0, but found {token}, {place}");
    sql_take(p);
    *param_given(knn, param) = true;
    if (param == PARAM_RADIUS)
        knn->radius = number;
    else if (param == PARAM_K)
        knn->k = (uint64_t) number;
    else if (param == PARAM_EF)
        knn->ef = (uint64_t) number;
    else
        knn->nprobe = (uint64_t) number;
    return true;
}

static bool
check_params(struct sql_parser *p, struct query_knn *knn)
{
    if (knn->has_k && knn->k == 0)
        return sql_fail_as(p, NULL, ANX_E_QUERY, "KNN limit should not be 0");
    if (knn->has_ef && knn->has_k && knn->ef < knn->k)
        return sql_fail_as(p, NULL, ANX_E_QUERY, "Ef should not be less than k in hnsw query");
    if (knn->has_ef && knn->ef == 0)
        return sql_fail_as(p, NULL, ANX_E_QUERY,
                           "Value of 'ef' - 0 is out of bounds: [1,18446744073709551615]");
    if (knn->has_nprobe && knn->nprobe == 0)
        return sql_fail_as(p, NULL, ANX_E_QUERY, "Nprobe should not be 0");
    knn->is_typed = knn->has_ef || knn->has_nprobe;
    knn->kind = knn->has_ef ? KNN_HNSW : knn->has_nprobe ? KNN_IVF : KNN_ANY_KIND;
    return true;
}

bool
sql_knn(struct sql_parser *p, struct query_entry *entry)
{
    struct query_knn *knn = &entry->knn;
    struct sql_token token = p->token;

    entry->kind = ENTRY_KNN;
    entry->condition = COND_KNN;
    if (token.kind != SQL_NAME)
        return sql_fail(p, &token, "Expected field name, but found '{token}', {place}");
    sql_take(p);
    if (!sql_text(p, &token, &entry->field) ||
        !sql_expect(p, ",", "Expected ',', but found '{token}', {place}"))
        return false;
    token = p->token;
    if (token.kind == SQL_STRING) {
        sql_take(p);
        if (!sql_text(p, &token, &knn->text))
            return false;
    } else if (sql_is_symbol(&token, "[")) {
        if (!read_vector(p, knn))
            return false;
    } else {
        return sql_fail(p, &token, "Expected '[' or ''', but found '{token}', {place}");
    }
    while (sql_take_symbol(p, ","))
        if (!read_param(p, knn))
            return false;
    return sql_expect(p, ")", "Expected ',' or ')', but found '{token}', {place}") && check_params(p, knn);
}
