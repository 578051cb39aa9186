/* The recorded exchanges of the conformance suite, where they lie beside the tree: a step for each line of a
 * file. Suites that read them check what the room can tell alone, and skip where the files are absent. */
#ifndef ANX_TEST_GOLDEN_H
#define ANX_TEST_GOLDEN_H

#include "test_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "doc/json.h"

struct golden_step {
    anx_text name, method, path;
    const struct json_node *body, *q; /* NULL when absent */
    int64_t status;
    const struct json_node *expect; /* NULL when absent */
    anx_text description;           /* of a recorded error */
    const struct json_node *location;
};

static inline anx_text
golden_text(const struct json_node *node, const char *key)
{
    const struct json_node *member = node ? json_member(node, key) : NULL;

    return member && member->kind == JSON_STRING ? member->text : ANX_TEXT("");
}

static inline bool
golden_ends(anx_text text, const char *end)
{
    size_t n = strlen(end);

    return text.size >= n && memcmp(text.data + text.size - n, end, n) == 0;
}

/* Calls each for every request step of golden file `topic`; returns the number of steps, 0 when there is no
 * file. */
static inline size_t
golden_each(const char *topic, void (*each)(void *context, const struct golden_step *step), void *context)
{
    const char *root = getenv("ANX_SOURCE_ROOT");
    char path[512], *line = NULL;
    size_t capacity = 0, n = 0;
    ssize_t size;
    FILE *file;

    snprintf(path, sizeof(path), "%s/../shared/golden/%s.jsonl", root ? root : ".", topic);
    file = fopen(path, "r");
    if (!file)
        return 0;
    while ((size = getline(&line, &capacity, file)) > 0) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        struct json_node *node;
        anx_error err;

        assert_non_null(arena);
        if (json_parse((anx_text) { line, (size_t) size }, arena, &node, &err) != ANX_OK)
            fail_msg("%s: %s", path, err.message);
        if (json_member(node, "method")) {
            const struct json_node *params = json_member(node, "params"),
                                   *status = json_member(node, "status");
            struct golden_step step = {
                .name = golden_text(node, "name"),
                .method = golden_text(node, "method"),
                .path = golden_text(node, "path"),
                .body = json_member(node, "body"),
                .q = params ? json_member(params, "q") : NULL,
                .status = status ? status->integer : 200,
                .expect = json_member(node, "expect"),
            };

            step.description = golden_text(step.expect, "description");
            step.location = step.expect ? json_member(step.expect, "location") : NULL;
            each(context, &step);
            n++;
        }
        anx_arena_destroy(arena);
    }
    free(line);
    fclose(file);
    return n;
}

/* Calls each for every example of docs/sql.md in the language given ("sql": a line each, "json": a query as a
 * block each); returns their number. */
static inline size_t
manual_each(const char *language, void (*each)(anx_text example))
{
    const char *root = getenv("ANX_SOURCE_ROOT");
    char path[512], fence[32], line[1024], block[8192] = "";
    size_t n = 0;
    FILE *file;
    bool is_inside = false, is_whole = strcmp(language, "json") == 0;

    snprintf(path, sizeof(path), "%s/docs/sql.md", root ? root : ".");
    snprintf(fence, sizeof(fence), "```%s\n", is_whole ? "json query shop" : language);
    file = fopen(path, "r");
    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) {
        if (!is_inside) {
            is_inside = strcmp(line, fence) == 0;
            block[0] = '\0';
        } else if (strcmp(line, "```\n") == 0) {
            is_inside = false;
            if (is_whole)
                each(anx_text_of(block));
            n += is_whole;
        } else if (is_whole) {
            strncat(block, line, sizeof(block) - strlen(block) - 1);
        } else {
            each((anx_text) { line, strcspn(line, "\n") });
            n++;
        }
    }
    fclose(file);
    return n;
}

static const char *const golden_topics[] = {
    "aggregations",  "config",     "dsl",    "dsl_modify",   "embed_query",  "hybrid",  "items",
    "joins",         "knn_arrays", "knn_bf", "knn_errors",   "knn_hnsw",     "knn_ivf", "knn_radius",
    "knn_streaming", "meta",       "paging", "projection",   "quantization", "restart", "sort",
    "sql_modify",    "sql_where",  "system", "transactions",
};

#endif
