/* Fuzz target: full-text queries and texts. The first line is a query, the next a select function, the rest
 * the texts of rows, a line each. All are indexed, changed and removed again; whatever the query finds is
 * marked. */
#include <stdint.h>
#include <string.h>

#include "base/buffer.h"
#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS_MAX = 16 };

static anx_text
next_line(anx_text *rest)
{
    const char *end = rest->size > 0 ? memchr(rest->data, '\n', rest->size) : NULL;
    anx_text line = { rest->data, end ? (size_t) (end - rest->data) : rest->size };

    *rest = (anx_text) { rest->data + line.size + (end != NULL), rest->size - line.size - (end != NULL) };
    return line;
}

static void
put(struct text_index *index, uint32_t row, anx_text first, anx_text second, bool commits)
{
    struct text_field fields[] = { { &first, 1 }, { &second, second.size > 0 } };

    if (text_index_begin(index, row, fields, NULL) != ANX_OK)
        return;
    if (commits)
        text_index_commit(index);
    else
        text_index_abort(index);
}

static void
search(const struct text_index *index, anx_text query, anx_text call, const anx_text *texts, anx_arena *arena)
{
    struct text_found found;
    struct text_show show;
    anx_error err;
    bool shows = text_show_read(call, arena, &show, &err) == ANX_OK;

    if (text_search(index, query, NULL, NULL, arena, &found, &err) != ANX_OK)
        return;
    for (size_t i = 0; i < found.n; i++) {
        struct text_area *areas;
        size_t n;
        anx_buffer out;

        if (found.hits[i].row >= ROWS_MAX || !(found.hits[i].rank >= 1 && found.hits[i].rank <= 255))
            __builtin_trap();
        if (text_find_areas(index, found.marks, 0, texts[found.hits[i].row], arena, &areas, &n, &err) !=
            ANX_OK)
            continue;
        anx_buffer_init(&out, NULL, 1 << 24);
        if (shows)
            text_show_print(&show, texts[found.hits[i].row], areas, n, &out);
        anx_buffer_fini(&out);
    }
}

/* Few stop words: reading the standard lists is most of the time of a run. Lives until the program ends. */
static const struct json_node *
settings(void)
{
    static struct json_node *node;
    static anx_arena *arena;

    if (!arena && (arena = anx_arena_create(NULL, 0)) != NULL &&
        json_parse(ANX_TEXT("{\"stop_words\":[\"the\",\"a\"],\"synonyms\":[{\"tokens\":[\"fox\"],"
                            "\"alternatives\":[\"heron\",\"otter walrus\"]}]}"),
                   arena, &node, NULL) != ANX_OK)
        node = NULL;
    return node;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const anx_text names[] = { { "a", 1 }, { "b", 1 } };
    anx_text rest = { (const char *) data, size }, query = next_line(&rest), call = next_line(&rest);
    anx_text texts[ROWS_MAX] = { { "", 0 } };
    anx_arena *arena = anx_arena_create(NULL, 64 << 20);
    struct text_config *config;
    struct text_index *index;
    uint32_t n = 0;

    if (!arena || text_config_read(settings(), names, 2, &config, NULL) != ANX_OK ||
        text_index_create(config, &index, NULL) != ANX_OK) {
        anx_arena_destroy(arena);
        return 0;
    }
    for (; rest.size > 0 && n < ROWS_MAX; n++) {
        texts[n] = next_line(&rest);
        put(index, n, texts[n], n > 0 ? texts[n - 1] : (anx_text) { "", 0 }, n % 5 != 4);
    }
    search(index, query, call, texts, arena);
    if (text_index_check(index, NULL) != ANX_OK)
        __builtin_trap();
    for (uint32_t row = 0; row < n; row += 2)
        put(index, row, texts[n - 1 - row], query, true);
    for (uint32_t row = 0; row < n; row += 3)
        text_index_remove(index, row);
    if (text_index_check(index, NULL) != ANX_OK)
        __builtin_trap();
    text_index_destroy(index);
    anx_arena_destroy(arena);
    return 0;
}
