/* Conditions on single values, with the loose comparison of values that no index has converted: a number and
 * a text that spells it are equal, and what cannot be compared does not hold. */
#include <stdlib.h>

#include "base/error.h"
#include "db/exec_int.h"

enum { SORT_FROM = 9 }; /* values of a set; below, asking each is faster */

static bool
is_equal(const struct value *a, const struct value *b, const struct collation *collation)
{
    bool is_comparable = true;

    return value_compare(a, b, collation, &is_comparable) == 0 && is_comparable;
}

static int
compare_sorted(const void *a, const void *b)
{
    bool is_comparable;

    return value_compare(a, b, NULL, &is_comparable);
}

static bool
is_number(const struct value *value)
{
    return value->type == VALUE_INT || value->type == VALUE_DOUBLE || value->type == VALUE_BOOL;
}

/* Numbers and texts go into lists of their own, since only among each other they have an order that a binary
 * search can use. */
static anx_status
sort_operand(struct exec *x, struct operand *operand)
{
    struct values values = operand->values;
    struct value *items = anx_arena_array(x->arena, values.n, sizeof(*items));
    size_t n_number = 0, n_text = 0, n_other = 0;

    if (!items)
        return exec_nomem(x);
    for (size_t i = 0; i < values.n; i++) {
        n_number += is_number(&values.items[i]);
        n_text += values.items[i].type == VALUE_STRING;
    }
    operand->numbers = (struct values) { items, n_number };
    operand->texts = (struct values) { items + n_number, n_text };
    operand->others = (struct values) { items + n_number + n_text, values.n - n_number - n_text };
    n_number = n_text = 0;
    for (size_t i = 0; i < values.n; i++) {
        const struct value *value = &values.items[i];

        if (is_number(value))
            operand->numbers.items[n_number++] = *value;
        else if (value->type == VALUE_STRING)
            operand->texts.items[n_text++] = *value;
        else
            operand->others.items[n_other++] = *value;
    }
    qsort(operand->numbers.items, n_number, sizeof(*items), compare_sorted);
    qsort(operand->texts.items, n_text, sizeof(*items), compare_sorted);
    operand->is_sorted = true;
    return ANX_OK;
}

anx_status
operand_init(struct exec *x, enum query_condition condition, struct values values,
             const struct collation *collation, struct operand *out)
{
    bool is_set = condition == COND_EQ || condition == COND_SET;

    *out = (struct operand) { .values = values };
    for (size_t i = 0; i < values.n; i++)
        out->has_null |= values.items[i].type == VALUE_NULL;
    if (is_set && values.n >= SORT_FROM && (!collation || collation->mode == COLLATE_NONE))
        return sort_operand(x, out);
    return ANX_OK;
}

static bool
is_among(const struct value *value, struct values list, const struct collation *collation)
{
    for (size_t i = 0; i < list.n; i++)
        if (is_equal(value, &list.items[i], collation))
            return true;
    return false;
}

static bool
is_found(const struct value *value, struct values sorted)
{
    return sorted.n > 0 &&
           bsearch(value, sorted.items, sorted.n, sizeof(*sorted.items), compare_sorted) != NULL;
}

static bool
is_in_set(const struct value *value, const struct operand *operand, const struct collation *collation)
{
    bool is_text = value->type == VALUE_STRING;

    if (!operand->is_sorted)
        return is_among(value, operand->values, collation);
    if (is_number(value))
        return is_found(value, operand->numbers) || is_among(value, operand->texts, collation) ||
               is_among(value, operand->others, collation);
    return (is_text ? is_found(value, operand->texts) : is_among(value, operand->texts, collation)) ||
           is_among(value, operand->numbers, collation) || is_among(value, operand->others, collation);
}

static bool
is_like(const struct value *value, struct values patterns)
{
    if (value->type != VALUE_STRING)
        return false;
    for (size_t i = 0; i < patterns.n; i++)
        if (patterns.items[i].type == VALUE_STRING && text_like(value->text, patterns.items[i].text))
            return true;
    return false;
}

static bool
is_ordered(enum query_condition condition, const struct value *value, const struct value *bound,
           const struct collation *collation)
{
    bool is_comparable = true;
    int order;

    if (bound->type == VALUE_NULL)
        return false;
    order = value_compare(value, bound, collation, &is_comparable);
    if (!is_comparable)
        return false;
    return query_order_satisfies(condition, order);
}

bool
condition_holds(enum query_condition condition, const struct value *value, const struct operand *operand,
                const struct collation *collation)
{
    struct values right = operand->values;

    if (value->type == VALUE_NULL)
        return false;
    switch (condition) {
    case COND_EQ:
    case COND_SET:
    case COND_ALLSET:
        return is_in_set(value, operand, collation);
    case COND_LIKE:
        return is_like(value, right);
    case COND_RANGE:
        return right.n == 2 && is_ordered(COND_GE, value, &right.items[0], collation) &&
               is_ordered(COND_LE, value, &right.items[1], collation);
    case COND_LT:
    case COND_LE:
    case COND_GT:
    case COND_GE:
        for (size_t i = 0; i < right.n; i++) /* one, but several where a field stands on the right */
            if (is_ordered(condition, value, &right.items[i], collation))
                return true;
        return false;
    default:
        return false;
    }
}

/* Every value of the right side is among the left ones. */
static bool
has_all(struct values left, struct values right, const struct collation *collation)
{
    for (size_t i = 0; i < right.n; i++)
        if (!is_among(&right.items[i], left, collation))
            return false;
    return right.n > 0;
}

bool
condition_holds_any(enum query_condition condition, struct values values, const struct operand *operand,
                    const struct collation *collation)
{
    if (condition == COND_ALLSET)
        return has_all(values, operand->values, collation);
    for (size_t i = 0; i < values.n; i++)
        if (condition_holds(condition, &values.items[i], operand, collation))
            return true;
    return false;
}

const char *
condition_sign(enum query_condition condition)
{
    static const char *const signs[] = {
        [COND_ANY] = "IS NOT NULL", [COND_EQ] = "=",        [COND_LT] = "<",
        [COND_LE] = "<=",           [COND_GT] = ">",        [COND_GE] = ">=",
        [COND_RANGE] = "RANGE",     [COND_SET] = "IN",      [COND_ALLSET] = "ALLSET",
        [COND_EMPTY] = "IS NULL",   [COND_LIKE] = "LIKE",   [COND_DWITHIN] = "DWITHIN",
        [COND_KNN] = "KNN",
    };

    return signs[condition];
}
