/* Queries inside of WHERE: run before the query around them, which then sees values. */
#include "base/error.h"
#include "db/exec_int.h"

static anx_status
run(struct exec *x, const struct query *query, struct part **part, struct aggregates **aggregates)
{
    const struct space *space = exec_space(x, query->ns);
    anx_status st;

    *aggregates = NULL;
    st = part_compile(x, query, space, PART_SUBQUERY, part);
    if (st == ANX_OK)
        st = aggregates_compile(x, query, part, 1, aggregates);
    return st == ANX_OK ? part_run(x, *part, *aggregates, 0, query->limit, query->offset) : st;
}

static anx_status
field_of_rows(struct exec *x, const struct part *part, struct value_list *out)
{
    struct field field;
    anx_status st =
        field_bind(x, part->space, part->strict, part->query->fields[0], FIELD_USE_FILTER, &field);

    if (st == ANX_OK && field.kind == FIELD_IS_VECTOR)
        st = anx_fail(x->err, ANX_E_QUERY, "Float vector field '%.*s' cannot be the result of a subquery",
                      ANX_TEXT_ARG(field.name));
    for (size_t i = 0; st == ANX_OK && i < part->hits.n && exec_goes_on(x); i++) {
        struct values values = field_values(x, &field, part->hits.items[i].row);

        for (size_t j = 0; st == ANX_OK && j < values.n; j++)
            if (values.items[j].type != VALUE_NULL)
                st = value_list_push(x, out, &values.items[j]);
    }
    return st == ANX_OK ? x->status : st;
}

anx_status
subquery_values(struct exec *x, const struct query *query, struct values *out, struct part **run_out)
{
    struct value_list list = { 0 };
    struct aggregates *aggregates;
    struct value number = { .type = VALUE_DOUBLE };
    struct part *part;
    anx_status st = run(x, query, &part, &aggregates);

    if (st != ANX_OK)
        return st;
    if (aggregates) {
        if (aggregates_number(aggregates, &number.real))
            st = value_list_push(x, &list, &number);
    } else if (part->wants_total) {
        number = (struct value) { .type = VALUE_INT, .integer = (int64_t) part->total };
        st = value_list_push(x, &list, &number);
    } else if (query->n_field == 1) {
        st = field_of_rows(x, part, &list);
    } else {
        st = anx_fail(
            x->err, ANX_E_QUERY,
            "Subquery should contain exactly one of aggregation, select field filter or total request");
    }
    *out = (struct values) { list.items, list.n };
    *run_out = part;
    return st;
}

anx_status
subquery_exists(struct exec *x, const struct query *query, bool *out, struct part **run_out)
{
    struct part *part;
    anx_status st = part_compile(x, query, exec_space(x, query->ns), PART_SUBQUERY, &part);

    if (st == ANX_OK)
        st = part_run(x, part, NULL, 0, 1, 0);
    *out = st == ANX_OK && part->hits.n > 0;
    *run_out = part;
    return st;
}
