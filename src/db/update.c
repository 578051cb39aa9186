/* SET and DROP: from the query's list to changes of a document. Expressions are evaluated in
 * update_evaluate.c. */
#include "db/update.h"

#include "base/error.h"
#include "db/embedding.h"
#include "db/precept.h"
#include "query/expression.h"

static anx_status
join_objects(const struct query_update *update, anx_arena *arena, anx_text *out, anx_error *err)
{
    size_t size = 2;
    char *at;

    if (!update->is_array && update->values.n == 1) {
        *out = update->values.items[0].text;
        return ANX_OK;
    }
    for (size_t i = 0; i < update->values.n; i++)
        size += update->values.items[i].text.size + 1;
    at = anx_arena_bytes(arena, size);
    if (!at)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a value");
    *out = (anx_text) { at, 0 };
    *at++ = '[';
    for (size_t i = 0; i < update->values.n; i++) {
        anx_text text = update->values.items[i].text;

        if (i > 0)
            *at++ = ',';
        if (text.size > 0)
            memcpy(at, text.data, text.size);
        at += text.size;
    }
    *at++ = ']';
    out->size = (size_t) (at - out->data);
    return ANX_OK;
}

static anx_status
make_change(const struct update_context *context, const struct query_update *update, struct doc doc,
            struct doc_change *out, anx_error *err)
{
    const struct expression *tree = update->tree;
    struct operand operand;
    anx_status st;

    *out = (struct doc_change) { .kind = update->form == UPDATE_DROP ? CHANGE_DROP : CHANGE_SET };
    st = field_path(context->ns, update->path, context->arena, &out->path_text, err);
    if (st == ANX_OK)
        st = doc_path_parse(out->path_text, context->ns->names, &out->path, err);
    if (st != ANX_OK)
        return st;
    switch (update->form) {
    case UPDATE_VALUES:
        out->values = update->values.items;
        out->n = update->values.n;
        out->is_array = update->is_array;
        return ANX_OK;
    case UPDATE_JSON:
        out->form = CHANGE_JSON;
        return join_objects(update, context->arena, &out->json, err);
    case UPDATE_EXPRESSION:
        if (!tree)
            st = expression_read_update(update->expression, context->arena, &tree, err);
        if (st == ANX_OK)
            st = update_evaluate(context, tree, update->path, doc, &operand, err);
        if (st == ANX_OK && operand.values.n == 0 && !operand.is_array)
            st = anx_fail(err, ANX_E_LOGIC, "Calculating value of an empty field is impossible: '%.*s'",
                          ANX_TEXT_ARG(tree->text));
        if (st != ANX_OK)
            return st;
        out->values = operand.values.items;
        out->n = operand.values.n;
        out->is_array = operand.is_array;
        return ANX_OK;
    default:
        return ANX_OK;
    }
}

/* "SET vec = skip_embedding()" changes nothing; that it stands there is what matters. */
static anx_status
check_skip(const struct ns *ns, anx_text path, anx_error *err)
{
    const struct ns_index *index = ns_index_find(ns, path);

    return index && index->vector
               ? ANX_OK
               : anx_fail(err, ANX_E_LOGIC, "'skip_embedding' posible only on float vector index");
}

anx_status
update_document(const struct update_context *context, const struct query *query, struct doc doc,
                const struct doc_vectors *vectors, struct doc_draft *out, anx_error *err)
{
    struct doc_change *changes = anx_arena_array(context->arena, query->n_update + 1, sizeof(*changes));
    size_t n = 0;
    anx_status st = ANX_OK;

    if (!changes)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the changes of a document");
    *out = (struct doc_draft) { .doc = doc, .vectors = (struct doc_vectors *) vectors };
    for (size_t i = 0; st == ANX_OK && i < query->n_update; i++) {
        if (is_skip_embedding(&query->updates[i])) {
            st = check_skip(context->ns, query->updates[i].path, err);
            continue;
        }
        if (query->updates[i].form == UPDATE_EXPRESSION && n > 0) { /* it must see what was set so far */
            st = doc_update(out->doc, out->vectors, changes, n, context->ns->names, &context->ns->shape,
                            context->arena, out, err);
            n = 0;
        }
        if (st == ANX_OK)
            st = make_change(context, &query->updates[i], out->doc, &changes[n], err);
        n++;
    }
    if (st != ANX_OK)
        return st;
    return doc_update(out->doc, out->vectors, changes, n, context->ns->names, &context->ns->shape,
                      context->arena, out, err);
}
