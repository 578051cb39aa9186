/* Looking into namespaces: their health, the recall of their vector indexes, maps of their vectors. */
#include <string.h>

#include "base/error.h"
#include "db/health.h"
#include "db/map.h"
#include "db/recall.h"
#include "http/http_int.h"

anx_status
handle_ns_health(struct http_request *r, anx_error *err)
{
    return db_health_print(r->db, r->names[1], &r->out, err);
}

/* ---- Bodies: a flat object of known members ---- */

enum member_type { MEMBER_TEXT, MEMBER_SIZE, MEMBER_SEED, MEMBER_LIST };
struct member {
    const char *name;
    enum member_type type;
    void *out; /* anx_text, size_t, uint32_t, const struct json_node * */
};

/* A whole number up to `most`. */
static anx_status
read_number(const char *name, const struct json_node *node, uint64_t most, uint64_t *out, anx_error *err)
{
    bool is_whole = node->kind == JSON_UINT || (node->kind == JSON_INT && node->integer >= 0);

    *out = node->kind == JSON_UINT ? node->natural : (uint64_t) node->integer;
    if (!is_whole || *out > most)
        return anx_fail(err, ANX_E_PARAMS, "'%s' must be a whole number, 0 to %llu, but it is %.*s", name,
                        (unsigned long long) most, (int) (node->raw.size < 40 ? node->raw.size : 40),
                        node->raw.data);
    return ANX_OK;
}

static anx_status
read_member(const struct member *member, const struct json_node *node, anx_error *err)
{
    static const char *const types[] = { [MEMBER_TEXT] = "a string",
                                         [MEMBER_LIST] = "a list" };
    uint64_t number;
    anx_status st = ANX_OK;

    switch (member->type) {
    case MEMBER_SIZE:
        st = read_number(member->name, node, UINT32_MAX, &number, err);
        if (st == ANX_OK && number == 0)
            st = anx_fail(err, ANX_E_PARAMS, "'%s' is 0, it must be at least 1", member->name);
        if (st == ANX_OK)
            *(size_t *) member->out = (size_t) number;
        return st;
    case MEMBER_SEED:
        st = read_number(member->name, node, UINT32_MAX, &number, err);
        if (st == ANX_OK)
            *(uint32_t *) member->out = (uint32_t) number;
        return st;
    case MEMBER_TEXT:
        if (node->kind != JSON_STRING)
            break;
        *(anx_text *) member->out = node->text;
        return ANX_OK;
    case MEMBER_LIST:
        if (node->kind != JSON_ARRAY)
            break;
        *(const struct json_node **) member->out = node;
        return ANX_OK;
    }
    return anx_fail(err, ANX_E_PARAMS, "'%s' must be %s", member->name, types[member->type]);
}

static anx_status
read_body(struct http_request *r, const struct member *members, size_t n, anx_error *err)
{
    struct json_node *body;
    anx_status st;

    if (r->body.size == 0)
        return ANX_OK;
    st = json_parse(r->body, r->arena, &body, err);
    if (st == ANX_E_PARSE_JSON) /* 400; only older routes answer 500, as clients know it */
        st = anx_fail(err, ANX_E_PARAMS, "%s", err->message);
    if (st == ANX_OK && body->kind != JSON_OBJECT)
        st = anx_fail(err, ANX_E_PARAMS, "the body must be a JSON object");
    for (size_t i = 0; st == ANX_OK && i < body->list.n; i++) {
        const struct json_node *node = &body->list.items[i];
        size_t m = 0;

        while (m < n && !anx_text_equal(anx_text_of(members[m].name), node->key))
            m++;
        st = m < n ? read_member(&members[m], node, err)
                   : anx_fail(err, ANX_E_PARAMS, "'%.*s' is not known here",
                              (int) (node->key.size < 60 ? node->key.size : 60), node->key.data);
    }
    return st;
}

/* ---- Recall ---- */

static void
print_times(anx_buffer *out, const char *name, const double times[2])
{
    anx_buffer_printf(out, ",\"%s\":{\"median\":%.1f,\"p99\":%.1f}", name, times[0], times[1]);
}

anx_status
handle_recall(struct http_request *r, anx_error *err)
{
    struct recall_params params = { .seed = 1 };
    const struct member members[] = {
        { "index", MEMBER_TEXT, &params.index },   { "k", MEMBER_SIZE, &params.k },
        { "ef", MEMBER_SIZE, &params.ef },         { "nprobe", MEMBER_SIZE, &params.nprobe },
        { "queries", MEMBER_SIZE, &params.queries }, { "seed", MEMBER_SEED, &params.seed },
    };
    struct recall_result result;
    anx_buffer *out = &r->out;
    anx_status st = read_body(r, members, ANX_COUNT_OF(members), err);

    http_watch_client(r);
    if (st == ANX_OK)
        st = db_recall(r->db, r->names[1], &params, &r->session, &result, err);
    if (st != ANX_OK)
        return st;
    anx_buffer_text(out, ANX_TEXT("{\"index\":"));
    json_print_text(out, anx_text_of(result.index));
    anx_buffer_printf(out, ",\"kind\":\"%s\",\"recall\":%.6f,\"recall_worst\":%.6f,\"k\":%zu", result.kind,
                      result.recall, result.worst, result.k);
    if (result.ef > 0)
        anx_buffer_printf(out, ",\"ef\":%zu", result.ef);
    if (result.nprobe > 0)
        anx_buffer_printf(out, ",\"nprobe\":%zu", result.nprobe);
    anx_buffer_printf(out, ",\"queries\":%zu,\"vectors\":%zu,\"includes_self\":false", result.queries,
                      result.vectors);
    print_times(out, "index_us", result.index_us);
    print_times(out, "exact_us", result.exact_us);
    anx_buffer_printf(out, ",\"seconds\":%.3f,\"seed\":%u}", result.seconds, result.seed);
    return ANX_OK;
}

/* ---- Maps ---- */

/* A parameter that is a whole number up to most; absent: *out stays. */
static anx_status
param_number(const struct http_request *r, const char *name, uint64_t least, uint64_t most, uint64_t *out,
             anx_error *err)
{
    anx_text text = http_param_get(r, name);
    uint64_t number = 0;
    bool is_whole = text.size > 0 && text.size <= 10;

    if (!text.data)
        return ANX_OK;
    for (size_t i = 0; is_whole && i < text.size; i++) {
        is_whole = text.data[i] >= '0' && text.data[i] <= '9';
        number = number * 10 + (uint64_t) (text.data[i] - '0');
    }
    if (!is_whole || number < least || number > most)
        return anx_fail(err, ANX_E_PARAMS, "'%s' must be a whole number, %llu to %llu, but it is '%.*s'",
                        name, (unsigned long long) least, (unsigned long long) most,
                        (int) (text.size < 40 ? text.size : 40), text.data);
    *out = number;
    return ANX_OK;
}

anx_status
handle_map(struct http_request *r, anx_error *err)
{
    uint64_t limit = 0, seed = 1;
    struct map_params params = { .index = http_param_get(r, "index"), .label = http_param_get(r, "label") };
    anx_status st = param_number(r, "limit", MAP_LIMIT_MIN, MAP_LIMIT_MAX, &limit, err);

    if (st == ANX_OK)
        st = param_number(r, "seed", 0, UINT32_MAX, &seed, err);
    params.limit = (size_t) limit;
    params.seed = (uint32_t) seed;
    http_watch_client(r);
    return st == ANX_OK ? db_map_print(r->db, r->names[1], &params, &r->session, &r->out, err) : st;
}

anx_status
handle_map_place(struct http_request *r, anx_error *err)
{
    struct map_params params = { .seed = 1 };
    const struct json_node *ids = NULL, *vector = NULL;
    const struct member members[] = {
        { "index", MEMBER_TEXT, &params.index }, { "limit", MEMBER_SIZE, &params.limit },
        { "seed", MEMBER_SEED, &params.seed },   { "ids", MEMBER_LIST, (void *) &ids },
        { "vector", MEMBER_LIST, (void *) &vector },
    };
    anx_status st = read_body(r, members, ANX_COUNT_OF(members), err);

    if (st == ANX_OK && !ids == !vector)
        st = anx_fail(err, ANX_E_PARAMS, "one of 'ids' and 'vector' must be given");
    http_watch_client(r);
    if (st == ANX_OK)
        st = db_map_place(r->db, r->names[1], &params, ids, vector, &r->session, &r->out, err);
    return st;
}
