/* From a request's body to the reply's; see service.h. */
#include "base/alloc.h"
#include "base/error.h"
#include "doc/json.h"
#include "embedder/service.h"

enum { INPUTS_MAX = 65536, DEPTH_MAX = 32 };

/* The words of a value: texts, and numbers as they are written. */
static anx_status
add_value(struct model_text *text, const struct json_node *node, int depth, anx_error *err)
{
    anx_status st = ANX_OK;

    if (depth > DEPTH_MAX)
        return anx_fail(err, ANX_E_PARAMS, "an input is nested deeper than %d levels", DEPTH_MAX);
    switch (node->kind) {
    case JSON_STRING:
        if (!model_text_add(text, node->text))
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
        break;
    case JSON_INT:
    case JSON_UINT:
    case JSON_DOUBLE:
        if (!model_text_add(text, node->raw))
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        for (size_t i = 0; st == ANX_OK && i < node->list.n; i++)
            st = add_value(text, &node->list.items[i], depth + 1, err);
        break;
    default:
        break;
    }
    return st;
}

static void
print_vector(const float *vector, uint32_t dim, anx_buffer *out)
{
    anx_buffer_char(out, '[');
    for (uint32_t i = 0; i < dim; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        json_print_float(out, vector[i]);
    }
    anx_buffer_char(out, ']');
}

static anx_status
print_products(struct model_text *text, const struct json_node *data, float *vector, uint32_t dim,
               anx_buffer *out, anx_error *err)
{
    anx_buffer_text(out, ANX_TEXT("{\"products\":["));
    for (size_t i = 0; i < data->list.n; i++) {
        const struct json_node *input = &data->list.items[i];
        anx_status st = add_value(text, input, 0, err);

        if (st != ANX_OK)
            return st;
        (void) model_text_finish(text, vector);
        if (i > 0)
            anx_buffer_char(out, ',');
        if (input->kind != JSON_ARRAY)
            anx_buffer_text(out, ANX_TEXT("[{\"chunk\":\"\",\"embedding\":"));
        print_vector(vector, dim, out);
        if (input->kind != JSON_ARRAY)
            anx_buffer_text(out, ANX_TEXT("}]"));
    }
    anx_buffer_text(out, ANX_TEXT("]}"));
    return out->failed ? anx_fail(err, ANX_E_NOMEM, "out of memory") : ANX_OK;
}

anx_status
embedder_answer(struct model_text *text, const struct model *model, anx_text body, anx_buffer *out,
                anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    float *vector = anx_alloc_array(NULL, model_dim(model), sizeof(*vector));
    const struct json_node *data;
    struct json_node *root;
    anx_status st;

    if (!arena || !vector) {
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
        goto out;
    }
    st = json_parse(body, arena, &root, err);
    if (st != ANX_OK)
        goto out;
    data = json_member(root, "data");
    if (!data || data->kind != JSON_ARRAY)
        st = anx_fail(err, ANX_E_PARAMS, "the request has no array 'data'");
    else if (data->list.n > INPUTS_MAX)
        st = anx_fail(err, ANX_E_PARAMS, "'data' has %zu inputs, at most %d are allowed", data->list.n,
                      INPUTS_MAX);
    else
        st = print_products(text, data, vector, model_dim(model), out, err);
    if (st != ANX_OK)
        (void) model_text_finish(text, vector); /* forgets what was counted */
out:
    anx_free(NULL, vector);
    anx_arena_destroy(arena);
    return st;
}
