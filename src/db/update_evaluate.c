/* Expressions on the right of SET: arithmetic over numbers, and concatenation and removal over arrays. */
#include "db/precept.h"
#include "db/update.h"
#include "query/expression.h"

#include "base/error.h"

struct evaluation {
    const struct update_context *context;
    anx_text target;
    struct doc doc;
    anx_error *err;
};

static anx_status
evaluate(struct evaluation *e, const struct expression *x, struct operand *out);

static anx_status
no_memory(struct evaluation *e)
{
    return anx_fail(e->err, ANX_E_NOMEM, "could not allocate a value");
}

static anx_status
set_value(struct evaluation *e, struct value value, struct operand *out)
{
    *out = (struct operand) { { anx_arena_array(e->context->arena, 1, sizeof(struct value)), 1 }, false };
    if (!out->values.items)
        return no_memory(e);
    out->values.items[0] = value;
    return ANX_OK;
}

static anx_status
set_integer(struct evaluation *e, int64_t integer, struct operand *out)
{
    return set_value(e, (struct value) { .type = VALUE_INT, .integer = integer }, out);
}

static anx_status
set_real(struct evaluation *e, double real, struct operand *out)
{
    return set_value(e, (struct value) { .type = VALUE_DOUBLE, .real = real }, out);
}

/* ---- Fields ---- */

struct collection {
    anx_arena *arena;
    struct values values;
    size_t capacity;
    bool is_odd; /* out of memory, or something that is no scalar */
};

static bool
collect_node(void *context, const struct doc_node *node, const uint32_t *positions, size_t n)
{
    struct collection *c = context;

    (void) positions;
    (void) n;
    if (node->kind > DOC_UUID) {
        c->is_odd = true;
        return false;
    }
    if (c->values.n == c->capacity) {
        size_t capacity = c->capacity ? 2 * c->capacity : 8;
        struct value *items = anx_arena_array(c->arena, capacity, sizeof(*items));

        if (!items) {
            c->is_odd = true;
            return false;
        }
        if (c->values.n > 0)
            memcpy(items, c->values.items, c->values.n * sizeof(*items));
        c->values.items = items;
        c->capacity = capacity;
    }
    c->values.items[c->values.n] = node->value;
    if (node->kind == DOC_NULL)
        c->values.items[c->values.n].type = VALUE_NULL;
    c->values.n++;
    return true;
}

static anx_status
find_path(struct evaluation *e, anx_text name, struct doc_path *path)
{
    anx_text text;
    anx_status st = field_path(e->context->ns, name, e->context->arena, &text, e->err);

    return st == ANX_OK ? doc_path_parse(text, e->context->ns->names, path, e->err) : st;
}

/* What an indexed scalar counts as where the document does not have it. */
static bool
default_value(const struct ns_index *index, struct value *out)
{
    if (!index || !index->scalar || index->def->is_sparse || index->def->is_array)
        return false;
    switch (index->def->field_type) {
    case FIELD_INT:
    case FIELD_INT64:
        *out = (struct value) { .type = VALUE_INT };
        return true;
    case FIELD_DOUBLE:
        *out = (struct value) { .type = VALUE_DOUBLE };
        return true;
    case FIELD_BOOL:
        *out = (struct value) { .type = VALUE_BOOL };
        return true;
    case FIELD_STRING:
        *out = (struct value) { .type = VALUE_STRING, .text = { "", 0 } };
        return true;
    default:
        return false;
    }
}

static anx_status
read_field(struct evaluation *e, anx_text name, struct operand *out)
{
    const struct ns_index *index = ns_index_find(e->context->ns, name);
    struct collection c = { .arena = e->context->arena };
    struct doc_path path;
    struct doc_node node;
    struct value value;
    anx_status st = find_path(e, name, &path);

    if (st != ANX_OK)
        return st;
    *out = (struct operand) { { NULL, 0 }, index && index->def->is_array };
    node = doc_find(e->doc, &path);
    if (node.kind == DOC_ABSENT && doc_visit(e->doc, &path, false, collect_node, &c) == 0)
        return default_value(index, &value) ? set_value(e, value, out) : ANX_OK;
    if (node.kind != DOC_ABSENT)
        doc_visit(e->doc, &path, false, collect_node, &c);
    if (c.is_odd)
        return anx_fail(e->err, ANX_E_PARAMS,
                        "Unable to use field '%.*s' in an expression: it is not a scalar and "
                        "not an array of scalars",
                        ANX_TEXT_ARG(name));
    out->values = c.values;
    out->is_array = out->is_array || node.kind == DOC_ARRAY || c.values.n > 1;
    return ANX_OK;
}

static bool
count_node(void *context, const struct doc_node *node, const uint32_t *positions, size_t n)
{
    (void) node;
    (void) positions;
    (void) n;
    ++*(int64_t *) context;
    return true;
}

static anx_status
array_length(struct evaluation *e, anx_text name, struct operand *out)
{
    struct doc_path path;
    int64_t n = 0;
    anx_status st = find_path(e, name, &path);

    if (st != ANX_OK)
        return st;
    doc_visit(e->doc, &path, false, count_node, &n);
    return set_integer(e, n, out);
}

/* ---- Arithmetic ---- */

/* The name of what was wrong: the field, or what stands there. */
static anx_text
name_of(const struct expression *x)
{
    while (x->kind != EXPR_FIELD && x->left)
        x = x->left;
    return x->text;
}

static anx_status
number_of(struct evaluation *e, const struct expression *x, struct value *out)
{
    struct operand operand;
    anx_status st = evaluate(e, x, &operand);

    if (st != ANX_OK)
        return st;
    if (operand.values.n == 0 && !operand.is_array)
        return anx_fail(e->err, ANX_E_LOGIC, "Calculating value of an empty field is impossible: '%.*s'",
                        ANX_TEXT_ARG(name_of(x)));
    if (operand.is_array ||
        (operand.values.items[0].type != VALUE_INT && operand.values.items[0].type != VALUE_DOUBLE))
        return anx_fail(e->err, ANX_E_PARAMS,
                        "Only integral type non-array fields are supported in arithmetical expressions: %.*s",
                        ANX_TEXT_ARG(name_of(x)));
    *out = operand.values.items[0];
    return ANX_OK;
}

static double
real_of(const struct value *value)
{
    return value->type == VALUE_INT ? (double) value->integer : value->real;
}

/* Whole numbers stay whole as long as they fit; a quotient is a fraction. */
static bool
integer_result(enum expression_kind kind, const struct value *a, const struct value *b, int64_t *out)
{
    if (a->type != VALUE_INT || b->type != VALUE_INT)
        return false;
    if (kind == EXPR_ADD)
        return !__builtin_add_overflow(a->integer, b->integer, out);
    if (kind == EXPR_SUBTRACT)
        return !__builtin_sub_overflow(a->integer, b->integer, out);
    return kind == EXPR_MULTIPLY && !__builtin_mul_overflow(a->integer, b->integer, out);
}

static anx_status
calculate(struct evaluation *e, const struct expression *x, struct operand *out)
{
    struct value a, b;
    int64_t integer;
    anx_status st = number_of(e, x->left, &a);

    if (st == ANX_OK)
        st = number_of(e, x->right, &b);
    if (st != ANX_OK)
        return st;
    if (integer_result(x->kind, &a, &b, &integer))
        return set_integer(e, integer, out);
    switch (x->kind) {
    case EXPR_ADD:
        return set_real(e, real_of(&a) + real_of(&b), out);
    case EXPR_SUBTRACT:
        return set_real(e, real_of(&a) - real_of(&b), out);
    case EXPR_MULTIPLY:
        return set_real(e, real_of(&a) * real_of(&b), out);
    default:
        if (real_of(&b) == 0)
            return anx_fail(e->err, ANX_E_LOGIC, "Division by zero!");
        return set_real(e, real_of(&a) / real_of(&b), out);
    }
}

static anx_status
change_sign(struct evaluation *e, const struct expression *x, struct operand *out)
{
    struct value value;
    anx_status st = number_of(e, x->left, &value);
    bool is_negative = st == ANX_OK && real_of(&value) < 0;

    if (st != ANX_OK)
        return st;
    if (x->kind == EXPR_ABS && !is_negative)
        return set_value(e, value, out);
    if (value.type == VALUE_INT && value.integer != INT64_MIN)
        return set_integer(e, -value.integer, out);
    return set_real(e, -real_of(&value), out);
}

/* ---- Arrays ---- */

static anx_status
array_of(struct evaluation *e, const struct expression *x, struct operand *out)
{
    anx_status st = evaluate(e, x, out);

    if (st != ANX_OK || out->is_array || out->values.n == 0)
        return st;
    return anx_fail(e->err, ANX_E_PARAMS,
                    "Unable to use scalar values in the arrays concatenation expressions: %.*s",
                    ANX_TEXT_ARG(name_of(x)));
}

static anx_status
concatenate(struct evaluation *e, const struct expression *x, struct operand *out)
{
    struct operand a, b;
    anx_status st = array_of(e, x->left, &a);

    if (st == ANX_OK)
        st = array_of(e, x->right, &b);
    if (st != ANX_OK)
        return st;
    *out = (struct operand) { { NULL, a.values.n + b.values.n }, true };
    out->values.items = anx_arena_array(e->context->arena, out->values.n + 1, sizeof(struct value));
    if (!out->values.items)
        return no_memory(e);
    if (a.values.n > 0)
        memcpy(out->values.items, a.values.items, a.values.n * sizeof(struct value));
    if (b.values.n > 0)
        memcpy(out->values.items + a.values.n, b.values.items, b.values.n * sizeof(struct value));
    return ANX_OK;
}

static bool
are_equal(const struct value *a, const struct value *b)
{
    static const struct collation none = { COLLATE_NONE, NULL };
    bool comparable = true;
    int order;

    if (a->type == VALUE_NULL || b->type == VALUE_NULL)
        return a->type == b->type;
    order = value_compare(a, b, &none, &comparable);
    return comparable && order == 0;
}

/* once: each value to remove takes away its first occurrence only. */
static anx_status
remove_values(struct evaluation *e, const struct expression *x, struct operand *out)
{
    struct operand from, what;
    bool *is_gone;
    anx_status st = evaluate(e, x->left, &from);

    if (st == ANX_OK)
        st = evaluate(e, x->right, &what);
    if (st != ANX_OK)
        return st;
    if (x->left->kind == EXPR_FIELD && !from.is_array && from.values.n > 0)
        return anx_fail(e->err, ANX_E_PARAMS,
                        "Only an array field is expected as first parameter of command "
                        "'array_remove_once/array_remove'");
    is_gone = anx_arena_array(e->context->arena, from.values.n + 1, sizeof(*is_gone));
    *out =
        (struct operand){ { anx_arena_array(e->context->arena, from.values.n + 1, sizeof(struct value)), 0 },
                          true };
    if (!is_gone || !out->values.items)
        return no_memory(e);
    for (size_t w = 0; w < what.values.n; w++)
        for (size_t i = 0; i < from.values.n; i++) {
            if (is_gone[i] || !are_equal(&from.values.items[i], &what.values.items[w]))
                continue;
            is_gone[i] = true;
            if (x->kind == EXPR_REMOVE_ONCE)
                break;
        }
    for (size_t i = 0; i < from.values.n; i++)
        if (!is_gone[i])
            out->values.items[out->values.n++] = from.values.items[i];
    return ANX_OK;
}

/* ---- All of them ---- */

static anx_status
evaluate_number(struct evaluation *e, const struct expression *x, struct operand *out)
{
    int64_t serial;
    anx_status st;

    switch (x->kind) {
    case EXPR_NUMBER:
        return x->is_integer ? set_integer(e, x->integer, out) : set_real(e, x->number, out);
    case EXPR_NOW:
        return set_integer(e, time_now(x->unit), out);
    case EXPR_SERIAL:
        st = serial_next(e->context->ns, e->target, e->context->batch, e->context->arena, &serial, e->err);
        return st == ANX_OK ? set_integer(e, serial, out) : st;
    case EXPR_SKIP_EMBEDDING:
        return anx_fail(e->err, ANX_E_PARAMS, "skip_embedding() must stand alone behind SET %.*s =",
                        ANX_TEXT_ARG(e->target));
    case EXPR_ARRAY_LEN:
        return array_length(e, x->text, out);
    case EXPR_NEGATE:
    case EXPR_ABS:
        return change_sign(e, x, out);
    default:
        return calculate(e, x, out);
    }
}

static anx_status
evaluate(struct evaluation *e, const struct expression *x, struct operand *out)
{
    switch (x->kind) {
    case EXPR_FIELD:
        return read_field(e, x->text, out);
    case EXPR_STRING:
        return set_value(e, (struct value) { .type = VALUE_STRING, .text = x->text }, out);
    case EXPR_BOOL:
        return set_value(e, (struct value) { .type = VALUE_BOOL, .boolean = x->number != 0 }, out);
    case EXPR_NULL:
        return set_value(e, (struct value) { .type = VALUE_NULL }, out);
    case EXPR_ARRAY:
        *out = (struct operand) { x->values, true };
        return ANX_OK;
    case EXPR_CONCAT:
        return concatenate(e, x, out);
    case EXPR_REMOVE:
    case EXPR_REMOVE_ONCE:
        return remove_values(e, x, out);
    case EXPR_RANK:
    case EXPR_DISTANCE:
    case EXPR_POINT:
    case EXPR_HASH:
    case EXPR_RRF:
        return anx_fail(e->err, ANX_E_PARAMS, "This function is for ORDER BY, not for UPDATE");
    default:
        return evaluate_number(e, x, out);
    }
}

anx_status
update_evaluate(const struct update_context *context, const struct expression *expression, anx_text target,
                struct doc doc, struct operand *out, anx_error *err)
{
    struct evaluation e = { context, target, doc, err };

    return evaluate(&e, expression, out);
}
