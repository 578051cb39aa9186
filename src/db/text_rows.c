/* A full-text index over documents: where its texts stand in them, and the rows of src/text. */
#include "base/alloc.h"
#include "base/error.h"
#include "db/data.h"

struct row_texts {
    struct text_index *index; /* owned */
    struct doc_path *paths;   /* owned [n_path] */
    size_t *fields;           /* owned [n_path]: which field of the index the path belongs to */
    size_t n_path, n_field;
    anx_arena *scratch;       /* owned; texts of one document */
};

static anx_status
out_of_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate a full text index");
}

/* ---- Fields ---- */

static const struct index_def *
find_component(const struct ns_index *list, size_t n, anx_text name)
{
    for (size_t i = 0; i < n; i++)
        if (anx_text_equal_fold(list[i].def->name, name))
            return list[i].def;
    return NULL;
}

/* The paths of field `field`: of a component's own index where it has one, else its name is the path. */
static anx_status
add_paths(struct row_texts *t, struct ns *ns, const anx_text *paths, size_t n, size_t field, anx_error *err)
{
    struct doc_path *more = anx_realloc_array(NULL, t->paths, t->n_path + n, sizeof(*more));
    size_t *fields = more ? anx_realloc_array(NULL, t->fields, t->n_path + n, sizeof(*fields)) : NULL;

    t->paths = more ? more : t->paths;
    t->fields = fields ? fields : t->fields;
    if (!fields)
        return out_of_memory(err);
    for (size_t i = 0; i < n; i++) {
        anx_status st = doc_path_add(paths[i], ns->names, &t->paths[t->n_path], err);

        if (st != ANX_OK)
            return st;
        t->fields[t->n_path++] = field;
    }
    return ANX_OK;
}

static anx_status
find_paths(struct row_texts *t, struct ns *ns, const struct ns_index *list, size_t n,
           const struct index_def *def, anx_error *err)
{
    anx_status st = ANX_OK;

    if (def->field_type != FIELD_COMPOSITE)
        return add_paths(t, ns, def->json_paths, def->n_path, 0, err);
    for (size_t f = 0; st == ANX_OK && f < def->n_path; f++) {
        const struct index_def *component = find_component(list, n, def->json_paths[f]);

        if (component)
            st = add_paths(t, ns, component->json_paths, component->n_path, f, err);
        else
            st = add_paths(t, ns, &def->json_paths[f], 1, f, err);
    }
    return st;
}

/* ---- Life ---- */

anx_status
index_text_config(const struct index_def *def, anx_arena *arena, struct text_config **out, anx_error *err)
{
    bool is_composite = def->field_type == FIELD_COMPOSITE;
    struct json_node *node;
    anx_status st = json_parse(def->config_json, arena, &node, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    return text_config_read(node, is_composite ? def->json_paths : &def->name, is_composite ? def->n_path : 1,
                            out, err);
}

anx_status
row_texts_create(struct ns *ns, const struct ns_index *list, size_t n, const struct index_def *def,
                 struct row_texts **out, anx_error *err)
{
    struct row_texts *t = anx_alloc_zeroed(NULL, 1, sizeof(*t));
    struct text_config *config;
    anx_status st;

    *out = NULL;
    if (!t || !(t->scratch = anx_arena_create(NULL, 0))) {
        anx_free(NULL, t);
        return out_of_memory(err);
    }
    t->n_field = def->field_type == FIELD_COMPOSITE ? def->n_path : 1;
    st = index_text_config(def, t->scratch, &config, err);
    if (st == ANX_OK)
        st = text_index_create(config, &t->index, err);
    if (st == ANX_OK)
        st = find_paths(t, ns, list, n, def, err);
    if (st != ANX_OK) {
        row_texts_destroy(t);
        return st;
    }
    *out = t;
    return ANX_OK;
}

void
row_texts_destroy(struct row_texts *t)
{
    if (!t)
        return;
    text_index_destroy(t->index);
    anx_arena_destroy(t->scratch);
    anx_free(NULL, t->paths);
    anx_free(NULL, t->fields);
    anx_free(NULL, t);
}

const struct text_index *
row_texts_index(const struct row_texts *t)
{
    return t->index;
}

/* ---- Texts of a document ---- */

struct collecting {
    anx_arena *arena;
    struct text_field *fields;
    size_t *capacities;
    anx_text **lists; /* of the fields, to be written */
    size_t field;
    bool is_out_of_memory;
};

static bool
push_text(struct collecting *c, anx_text text)
{
    struct text_field *field = &c->fields[c->field];

    if (field->n == c->capacities[c->field]) {
        size_t capacity = field->n ? 2 * field->n : 4;
        anx_text *list = anx_arena_array(c->arena, capacity, sizeof(*list));

        if (!list)
            return false;
        if (field->n > 0)
            memcpy(list, c->lists[c->field], field->n * sizeof(*list));
        c->lists[c->field] = list;
        field->texts = list;
        c->capacities[c->field] = capacity;
    }
    c->lists[c->field][field->n++] = text;
    return true;
}

/* Numbers and the like are found as they are printed. */
static bool
collect(void *context, const struct doc_node *node, const uint32_t *positions, size_t n)
{
    struct collecting *c = context;
    anx_text text = node->value.text;
    anx_buffer printed;

    (void) positions;
    (void) n;
    if (node->kind < DOC_BOOL || node->kind > DOC_UUID)
        return true;
    if (node->value.type == VALUE_STRING) {
        c->is_out_of_memory = !push_text(c, text);
        return !c->is_out_of_memory;
    }
    anx_buffer_init(&printed, NULL, 256);
    json_print_value(&printed, &node->value);
    text = anx_arena_text(c->arena, (anx_text) { printed.data, printed.size });
    c->is_out_of_memory = printed.failed || !text.data || !push_text(c, text);
    anx_buffer_fini(&printed);
    return !c->is_out_of_memory;
}

static anx_status
read_texts(const struct row_texts *t, struct doc doc, anx_arena *arena, struct text_field **out,
           anx_error *err)
{
    struct collecting c = { .arena = arena };

    *out = c.fields = anx_arena_array(arena, t->n_field, sizeof(*c.fields));
    c.capacities = anx_arena_array(arena, t->n_field, sizeof(*c.capacities));
    c.lists = anx_arena_array(arena, t->n_field, sizeof(anx_text *));
    if (!c.fields || !c.capacities || !c.lists)
        return out_of_memory(err);
    for (size_t p = 0; p < t->n_path && !c.is_out_of_memory; p++) {
        c.field = t->fields[p];
        (void) doc_visit(doc, &t->paths[p], false, collect, &c);
    }
    return c.is_out_of_memory ? out_of_memory(err) : ANX_OK;
}

/* ---- Changes ---- */

anx_status
row_texts_begin(struct row_texts *t, uint32_t row, struct doc doc, anx_error *err)
{
    struct text_field *fields;
    anx_status st;

    anx_arena_reset(t->scratch);
    st = read_texts(t, doc, t->scratch, &fields, err);
    return st == ANX_OK ? text_index_begin(t->index, row, fields, err) : st;
}

void
row_texts_commit(struct row_texts *t)
{
    text_index_commit(t->index);
}

void
row_texts_abort(struct row_texts *t)
{
    text_index_abort(t->index);
}

void
row_texts_remove(struct row_texts *t, uint32_t row)
{
    text_index_remove(t->index, row);
}

anx_status
row_texts_insert(struct row_texts *t, uint32_t row, struct doc doc, anx_error *err)
{
    anx_status st = row_texts_begin(t, row, doc, err);

    if (st == ANX_OK)
        row_texts_commit(t);
    return st;
}

/* ---- What others ask ---- */

bool
row_texts_find_field(const struct row_texts *t, const struct doc_path *path, size_t *field)
{
    for (size_t p = 0; p < t->n_path; p++) {
        bool is_same = t->paths[p].n == path->n;

        for (uint32_t i = 0; is_same && i < path->n; i++)
            is_same = t->paths[p].steps[i].tag == path->steps[i].tag;
        *field = t->fields[p];
        if (is_same)
            return true;
    }
    return false;
}

const struct doc_path *
row_texts_path(const struct row_texts *t, size_t i, size_t *field)
{
    if (i >= t->n_path)
        return NULL;
    *field = t->fields[i];
    return &t->paths[i];
}

anx_status
row_texts_check(const struct row_texts *t, size_t n_row, anx_error *err)
{
    if (text_index_rows(t->index) != n_row)
        return anx_fail(err, ANX_E_CORRUPT, "it has %zu rows of %zu", text_index_rows(t->index), n_row);
    return text_index_check(t->index, err);
}

anx_status
row_texts_check_row(const struct row_texts *t, uint32_t row, struct doc doc, anx_arena *arena, anx_error *err)
{
    struct text_field *fields;
    anx_status st = read_texts(t, doc, arena, &fields, err);

    return st == ANX_OK ? text_index_check_row(t->index, row, fields, err) : st;
}
