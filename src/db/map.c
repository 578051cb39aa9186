/* See map.h. */
#include "db/map.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ann/pca.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "db/sample.h"

enum { MAPS_KEPT = 8, ROWS_AT_ONCE = 64 };
#define KEPT_NS 600000000000u /* of axes that are used again although documents have changed */

struct basis {
    uint64_t serial, n_change, made_ns; /* of the index; of the namespace when it was made */
    size_t limit;
    uint32_t seed;
    atomic_uint references;
    struct pca pca;
    double scale;
    uint64_t identity; /* of axes and scale */
};
struct map_cache {
    pthread_mutex_t lock; /* a leaf */
    struct basis *list[MAPS_KEPT]; /* each with a reference; the latest first */
};
struct map {
    struct vector_view view;
    struct map_params params;
    const struct db_session *session;
    anx_arena *arena;
    struct vector_sample sample;
    struct basis *basis; /* a reference */
    anx_metric metric;
    size_t dim;
    uint64_t n_change;
    anx_buffer room; /* of one row's vectors */
    float *row;      /* [dim] */
};

/* ---- The axes that are kept ---- */

struct map_cache *
map_cache_create(void)
{
    struct map_cache *cache = anx_alloc_zeroed(NULL, 1, sizeof(*cache));

    if (cache)
        pthread_mutex_init(&cache->lock, NULL);
    return cache;
}

static void
basis_release(struct basis *basis)
{
    if (!basis || atomic_fetch_sub(&basis->references, 1) > 1)
        return;
    pca_fini(&basis->pca);
    anx_free(NULL, basis);
}

void
map_cache_destroy(struct map_cache *cache)
{
    if (!cache)
        return;
    for (size_t i = 0; i < MAPS_KEPT; i++)
        basis_release(cache->list[i]);
    pthread_mutex_destroy(&cache->lock);
    anx_free(NULL, cache);
}

/* fresh: only what was made since the last change. NULL: none. */
static struct basis *
cache_find(struct map_cache *cache, const struct map *map, bool fresh)
{
    struct basis *found = NULL;
    uint64_t now_ns = anx_clock_ns();

    pthread_mutex_lock(&cache->lock);
    for (size_t i = 0; i < MAPS_KEPT && !found; i++) {
        struct basis *basis = cache->list[i];

        if (basis && basis->serial == map->view.serial && basis->limit == map->params.limit &&
            basis->seed == map->params.seed &&
            (basis->n_change == map->n_change || (!fresh && now_ns - basis->made_ns < KEPT_NS)))
            found = basis;
    }
    if (found)
        atomic_fetch_add(&found->references, 1);
    pthread_mutex_unlock(&cache->lock);
    return found;
}

static void
cache_put(struct map_cache *cache, struct basis *basis)
{
    struct basis *last;

    atomic_fetch_add(&basis->references, 1);
    pthread_mutex_lock(&cache->lock);
    last = cache->list[MAPS_KEPT - 1];
    memmove(cache->list + 1, cache->list, (MAPS_KEPT - 1) * sizeof(struct basis *));
    cache->list[0] = basis;
    pthread_mutex_unlock(&cache->lock);
    basis_release(last);
}

/* ---- Vectors ---- */

static void
normalize(const struct map *map, float *row)
{
    double length = 0;

    if (map->metric != ANX_METRIC_COSINE)
        return;
    for (size_t t = 0; t < map->dim; t++)
        length += (double) row[t] * (double) row[t];
    length = sqrt(length);
    for (size_t t = 0; length > 0 && t < map->dim; t++)
        row[t] = (float) ((double) row[t] / length);
}

/* The sample's vectors side by side in *floats (owned by the caller); rows that have none any more leave the
 * sample. */
static anx_status
gather(struct map *map, float **floats, anx_error *err)
{
    struct vector_sample *sample = &map->sample;
    size_t n = 0;

    *floats = anx_alloc_array(NULL, sample->n + 1, map->dim * sizeof(float));
    if (!*floats)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a sample of %zu vectors", sample->n);
    for (size_t i = 0; i < sample->n;) {
        anx_status st = db_session_check(map->session, err);

        if (st == ANX_OK)
            st = vector_view_lock(&map->view, err);
        if (st != ANX_OK)
            return st;
        for (size_t stop = i + ROWS_AT_ONCE; i < sample->n && i < stop; i++) {
            uint32_t row = sample->rows[i];

            if (vector_view_floats(&map->view, row, &map->room, *floats + n * map->dim))
                sample->rows[n++] = row;
        }
        vector_view_unlock(&map->view);
    }
    sample->n = n;
    for (size_t i = 0; i < n; i++)
        normalize(map, *floats + i * map->dim);
    return ANX_OK;
}

static bool
should_stop(void *context)
{
    return db_session_check(context, NULL) != ANX_OK;
}

/* How far the sample reaches along the axes; rows as pca_fit left them. */
static double
reach_of(const struct pca *pca, const float *rows, size_t n)
{
    double reach = 0;

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < 2; j++) {
            double sum = 0;

            for (size_t t = 0; t < pca->dim; t++)
                sum += (double) rows[i * pca->dim + t] * (double) pca->axes[j * pca->dim + t];
            reach = fmax(reach, fabs(sum));
        }
    return reach;
}

static anx_status
make_basis(struct map *map, anx_error *err)
{
    struct basis *basis = NULL;
    float *floats = NULL;
    anx_status st = gather(map, &floats, err);

    if (st == ANX_OK && map->sample.n == 0)
        st = anx_fail(err, ANX_E_PARAMS, "index '%.*s' holds no vectors", ANX_TEXT_ARG(map->view.name));
    if (st == ANX_OK) {
        basis = anx_alloc_zeroed(NULL, 1, sizeof(*basis));
        if (!basis)
            st = anx_fail(err, ANX_E_NOMEM, "no memory for a map");
    }
    if (st == ANX_OK) {
        atomic_init(&basis->references, 1);
        st = pca_fit(floats, map->sample.n, map->dim, map->params.seed, should_stop, (void *) map->session,
                     &basis->pca, err);
        if (st == ANX_E_CANCELLED && db_session_check(map->session, err) == ANX_E_TIMEOUT)
            st = ANX_E_TIMEOUT;
    }
    if (st == ANX_OK) {
        basis->serial = map->view.serial;
        basis->n_change = map->n_change;
        basis->made_ns = anx_clock_ns();
        basis->limit = map->params.limit;
        basis->seed = map->params.seed;
        basis->scale = reach_of(&basis->pca, floats, map->sample.n);
        if (!(basis->scale > 0))
            basis->scale = 1;
        basis->identity = anx_hash(basis->pca.axes, 2 * map->dim * sizeof(float)) ^
                          anx_hash(basis->pca.mean, map->dim * sizeof(float));
        map->basis = basis;
        cache_put(map->view.ns->database->engine->maps, basis);
    } else {
        basis_release(basis);
    }
    anx_free(NULL, floats);
    return st;
}

/* ---- Opening ---- */

static anx_status
make_room(struct map *map, anx_error *err)
{
    map->row = anx_arena_array(map->arena, map->dim, sizeof(float));
    return map->row ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "no memory for a vector");
}

static anx_status
prepare(struct map *map, bool fresh, anx_error *err)
{
    struct map_params *params = &map->params;
    size_t most;
    anx_status st;

    if (params->limit == 0)
        params->limit = MAP_LIMIT_DEFAULT;
    if (params->limit < MAP_LIMIT_MIN || params->limit > MAP_LIMIT_MAX)
        return anx_fail(err, ANX_E_PARAMS, "'limit' is %zu, it must be %d to %d", params->limit,
                        MAP_LIMIT_MIN, MAP_LIMIT_MAX);
    st = vector_view_lock(&map->view, err);
    if (st != ANX_OK)
        return st;
    map->dim = map->view.index->dim;
    map->metric = map->view.index->metric;
    vector_view_unlock(&map->view);
    map->n_change = atomic_load(&map->view.ns->n_change); /* before the first row is looked at */
    map->basis = cache_find(map->view.ns->database->engine->maps, map, fresh);
    if (map->basis && !fresh)
        return make_room(map, err);
    most = MAP_FLOATS_MAX / map->dim;
    st = vector_view_sample(&map->view, params->limit < most ? params->limit : most, params->seed,
                            map->session, map->arena, &map->sample, err);
    if (st == ANX_OK)
        st = make_room(map, err);
    return st == ANX_OK && !map->basis ? make_basis(map, err) : st;
}

static anx_status
map_open(struct database *db, anx_text ns, const struct map_params *params, const struct db_session *session,
         bool fresh, struct map *map, anx_error *err)
{
    anx_status st;

    *map = (struct map) { .params = *params, .session = session, .arena = anx_arena_create(NULL, 0) };
    anx_buffer_init(&map->room, NULL, SIZE_MAX);
    if (!map->arena)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    st = vector_view_open(db, ns, params->index, map->arena, &map->view, err);
    return st == ANX_OK ? prepare(map, fresh, err) : st;
}

static void
map_close(struct map *map)
{
    basis_release(map->basis);
    if (map->view.ns)
        vector_view_close(&map->view);
    anx_buffer_fini(&map->room);
    anx_arena_destroy(map->arena);
}

/* ---- Printing ---- */

/* The lists of an answer while they grow. */
struct lists {
    anx_buffer ids, x, y, labels;
    struct doc_path label;
    bool has_label;
};

static void
lists_init(struct lists *lists, size_t max)
{
    anx_buffer_init(&lists->ids, NULL, max);
    anx_buffer_init(&lists->x, NULL, max);
    anx_buffer_init(&lists->y, NULL, max);
    anx_buffer_init(&lists->labels, NULL, max);
}

static void
print_list(const char *name, anx_buffer *list, anx_buffer *out)
{
    anx_buffer_printf(out, ",\"%s\":[", name);
    anx_buffer_bytes(out, list->data, list->size);
    anx_buffer_char(out, ']');
    out->failed |= list->failed;
}

static void
lists_fini(struct lists *lists)
{
    anx_buffer_fini(&lists->ids);
    anx_buffer_fini(&lists->x);
    anx_buffer_fini(&lists->y);
    anx_buffer_fini(&lists->labels);
}

static void
print_id(const struct ns *ns, uint32_t row, anx_buffer *out)
{
    struct value storage;
    struct values values = { NULL, 0 };

    if (ns->pk != SIZE_MAX && ns->indexes[ns->pk].scalar)
        values = scalar_values(ns->indexes[ns->pk].scalar, row, &storage);
    if (values.n > 0)
        json_print_value(out, &values.items[0]);
    else
        anx_buffer_text(out, ANX_TEXT("null"));
}

/* Scalars; null for everything else. */
static void
print_label(const struct ns *ns, uint32_t row, const struct doc_path *path, anx_buffer *out)
{
    struct doc doc = rows_get(ns->rows, row);
    struct doc_node node = { .kind = DOC_ABSENT };

    if (doc.bytes)
        node = doc_find(doc, path);
    if (node.kind > DOC_NULL && node.kind <= DOC_UUID)
        json_print_doc_node(out, &node, ns->names, NULL, NULL);
    else
        anx_buffer_text(out, ANX_TEXT("null"));
}

static void
comma(anx_buffer *list)
{
    if (list->size > 0)
        anx_buffer_char(list, ',');
}

/* Six decimals: a millionth of the picture. */
static void
add_point(struct lists *lists, const struct map *map, const float *row)
{
    double xy[2];

    pca_project(&map->basis->pca, row, xy);
    comma(&lists->x);
    anx_buffer_printf(&lists->x, "%.6f", xy[0] / map->basis->scale);
    comma(&lists->y);
    anx_buffer_printf(&lists->y, "%.6f", xy[1] / map->basis->scale);
}

/* The view is locked. False: the row has no vector. */
static bool
add_row(struct lists *lists, struct map *map, uint32_t row)
{
    if (!vector_view_floats(&map->view, row, &map->room, map->row))
        return false;
    normalize(map, map->row);
    add_point(lists, map, map->row);
    comma(&lists->ids);
    print_id(map->view.ns, row, &lists->ids);
    if (lists->has_label) {
        comma(&lists->labels);
        print_label(map->view.ns, row, &lists->label, &lists->labels);
    }
    return true;
}

static anx_status
add_sample(struct lists *lists, struct map *map, anx_error *err)
{
    for (size_t i = 0; i < map->sample.n;) {
        anx_status st = db_session_check(map->session, err);

        if (st == ANX_OK)
            st = vector_view_lock(&map->view, err);
        if (st != ANX_OK)
            return st;
        for (size_t stop = i + ROWS_AT_ONCE; i < map->sample.n && i < stop; i++)
            (void) add_row(lists, map, map->sample.rows[i]);
        vector_view_unlock(&map->view);
    }
    return ANX_OK;
}

static void
print_head(const struct map *map, anx_buffer *out)
{
    anx_buffer_text(out, ANX_TEXT("{\"index\":"));
    json_print_text(out, map->view.name);
    anx_buffer_printf(out, ",\"basis\":\"%016llx\"", (unsigned long long) map->basis->identity);
}

anx_status
db_map_print(struct database *db, anx_text ns, const struct map_params *params,
             const struct db_session *session, anx_buffer *out, anx_error *err)
{
    struct map map;
    struct lists lists = { .has_label = params->label.size > 0 };
    anx_status st = map_open(db, ns, params, session, true, &map, err);

    lists_init(&lists, out->max);
    if (st == ANX_OK && lists.has_label)
        st = doc_path_parse(params->label, map.view.ns->names, &lists.label, err);
    if (st == ANX_OK)
        st = add_sample(&lists, &map, err);
    if (st == ANX_OK) {
        print_head(&map, out);
        anx_buffer_printf(out,
                          ",\"metric\":\"%s\",\"dimension\":%zu,\"sampled\":%zu,\"vectors\":%zu,\"seed\":%u",
                          map.metric == ANX_METRIC_IP ? "inner_product" : anx_metric_name(map.metric),
                          map.dim, map.sample.n, map.sample.n_row, map.params.seed);
        anx_buffer_printf(out, ",\"explained\":[%.6f,%.6f],\"scale\":", map.basis->pca.explained[0],
                          map.basis->pca.explained[1]);
        json_print_double(out, map.basis->scale / (double) map.basis->pca.shrink);
        print_list("ids", &lists.ids, out);
        print_list("x", &lists.x, out);
        print_list("y", &lists.y, out);
        if (lists.has_label)
            print_list("labels", &lists.labels, out);
        anx_buffer_char(out, '}');
    }
    lists_fini(&lists);
    map_close(&map);
    return st;
}

/* ---- Places of given documents ---- */

static anx_status
value_of(const struct json_node *node, anx_arena *arena, struct value *out, anx_error *err)
{
    *out = (struct value) { .type = VALUE_NULL };
    switch (node->kind) {
    case JSON_BOOL:
        out->type = VALUE_BOOL;
        out->boolean = node->boolean;
        return ANX_OK;
    case JSON_INT:
        out->type = VALUE_INT;
        out->integer = node->integer;
        return ANX_OK;
    case JSON_DOUBLE:
        out->type = VALUE_DOUBLE;
        out->real = node->real;
        return ANX_OK;
    case JSON_STRING:
        out->type = VALUE_STRING;
        out->text = node->text;
        return ANX_OK;
    case JSON_ARRAY:
        out->type = VALUE_TUPLE;
        out->tuple.n = node->list.n;
        out->tuple.items = anx_arena_array(arena, node->list.n + 1, sizeof(struct value));
        if (!out->tuple.items)
            return anx_fail(err, ANX_E_NOMEM, "no memory for an id of %zu parts", node->list.n);
        for (size_t i = 0; i < node->list.n; i++) {
            const struct json_node *item = &node->list.items[i];

            if (item->kind == JSON_ARRAY || value_of(item, arena, &out->tuple.items[i], err) != ANX_OK)
                return anx_fail(err, ANX_E_PARAMS,
                                "part %zu of an id in 'ids' is no number, string or boolean", i + 1);
        }
        return ANX_OK;
    default:
        return anx_fail(err, ANX_E_PARAMS, "an id in 'ids' is no number, string, boolean or list of them");
    }
}

static enum field_type
part_type(const struct ns *ns, anx_text name)
{
    for (size_t i = 0; i < ns->n_index; i++)
        if (anx_text_equal(ns->indexes[i].def->name, name))
            return ns->indexes[i].def->field_type;
    return FIELD_STRING;
}

/* The value as the primary key has it; an id of another type is no document's. */
static bool
convert(const struct ns *ns, const struct index_def *pk, struct value *value, anx_arena *arena)
{
    struct value whole = *value;

    if (pk->field_type != FIELD_COMPOSITE)
        return value->type != VALUE_TUPLE &&
               value_convert(&whole, pk->field_type, arena, value, NULL) == ANX_OK;
    if (value->type != VALUE_TUPLE || value->tuple.n != pk->n_path)
        return false;
    for (size_t i = 0; i < pk->n_path; i++) {
        struct value part = value->tuple.items[i];

        if (value_convert(&part, part_type(ns, pk->json_paths[i]), arena, &value->tuple.items[i], NULL) !=
            ANX_OK)
            return false;
    }
    return true;
}

static anx_status
add_ids(struct lists *lists, struct map *map, const struct json_node *ids, anx_buffer *missing,
        anx_error *err)
{
    anx_status st = vector_view_lock(&map->view, err);
    const struct ns *ns = map->view.ns;

    if (st != ANX_OK)
        return st;
    if (ns->pk == SIZE_MAX || !ns->indexes[ns->pk].scalar)
        st = anx_fail(err, ANX_E_PARAMS, "namespace '%s' has no primary key, 'ids' cannot be looked up",
                      ns->name);
    for (size_t i = 0; st == ANX_OK && i < ids->list.n; i++) {
        const struct ns_index *pk = &ns->indexes[ns->pk];
        struct value value;
        uint32_t row;

        st = value_of(&ids->list.items[i], map->arena, &value, err);
        if (st == ANX_OK && convert(ns, pk->def, &value, map->arena) &&
            scalar_find(pk->scalar, &value, &row) && add_row(lists, map, row))
            continue;
        comma(missing);
        json_print_node(missing, &ids->list.items[i]);
    }
    vector_view_unlock(&map->view);
    return st;
}

static anx_status
add_vector(struct lists *lists, struct map *map, const struct json_node *vector, anx_error *err)
{
    if (vector->kind != JSON_ARRAY || vector->list.n != map->dim)
        return anx_fail(err, ANX_E_PARAMS, "'vector' has %zu components, index '%.*s' expects %zu",
                        vector->kind == JSON_ARRAY ? vector->list.n : 0, ANX_TEXT_ARG(map->view.name),
                        map->dim);
    for (size_t t = 0; t < map->dim; t++) {
        double number;

        if (!json_number(&vector->list.items[t], &number) || !isfinite((float) number))
            return anx_fail(err, ANX_E_PARAMS, "component %zu of 'vector' is no number that a float can hold",
                            t);
        map->row[t] = (float) number;
    }
    normalize(map, map->row);
    add_point(lists, map, map->row);
    anx_buffer_text(&lists->ids, ANX_TEXT("null"));
    return ANX_OK;
}

anx_status
db_map_place(struct database *db, anx_text ns, const struct map_params *params, const struct json_node *ids,
             const struct json_node *vector, const struct db_session *session, anx_buffer *out,
             anx_error *err)
{
    struct map map;
    struct lists lists = { .has_label = false };
    anx_buffer missing;
    anx_status st = map_open(db, ns, params, session, false, &map, err);

    lists_init(&lists, out->max);
    anx_buffer_init(&missing, NULL, out->max);
    if (st == ANX_OK && ids && ids->list.n > MAP_IDS_MAX)
        st = anx_fail(err, ANX_E_PARAMS, "'ids' has %zu ids, it may have at most %d", ids->list.n,
                      MAP_IDS_MAX);
    if (st == ANX_OK)
        st = ids ? add_ids(&lists, &map, ids, &missing, err) : add_vector(&lists, &map, vector, err);
    if (st == ANX_OK) {
        print_head(&map, out);
        print_list("ids", &lists.ids, out);
        print_list("x", &lists.x, out);
        print_list("y", &lists.y, out);
        print_list("missing", &missing, out);
        anx_buffer_char(out, '}');
    }
    anx_buffer_fini(&missing);
    lists_fini(&lists);
    map_close(&map);
    return st;
}
