/* Fuzz target: small texts of queries. The first byte picks: a JSON tree (what is accepted prints to JSON
 * that reads back and prints the same), a path, or a text and a LIKE pattern. */
#include <stdint.h>
#include <string.h>

#include "doc/json.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
read_tree(anx_text text)
{
    anx_arena *arena = anx_arena_create(NULL, 64 << 20);
    anx_buffer first, second;
    struct json_node *node;

    anx_buffer_init(&first, NULL, 16 << 20);
    anx_buffer_init(&second, NULL, 16 << 20);
    if (arena && json_parse(text, arena, &node, NULL) == ANX_OK) {
        json_print_node(&first, node);
        if (!first.failed) {
            if (json_parse((anx_text) { first.data, first.size }, arena, &node, NULL) != ANX_OK)
                __builtin_trap();
            json_print_node(&second, node);
            if (first.size != second.size || memcmp(first.data, second.data, first.size) != 0)
                __builtin_trap();
        }
    }
    anx_buffer_fini(&second);
    anx_buffer_fini(&first);
    anx_arena_destroy(arena);
}

/* Leaving long arrays as text accepts the same texts, but for numbers beyond a double. */
static void
read_lists(anx_text text)
{
    anx_arena *arena = anx_arena_create(NULL, 64 << 20);
    struct json_node *node, *lists;

    if (arena && json_parse(text, arena, &node, NULL) == ANX_OK) {
        if (json_parse_lists(text, arena, &lists, NULL) != ANX_OK)
            __builtin_trap();
        if (lists->kind == JSON_ARRAY && lists->list.n >= JSON_LIST_MIN && !lists->list.items) {
            float *floats = anx_arena_array(arena, lists->list.n, sizeof(*floats));

            if (lists->list.n != node->list.n || (floats && !json_floats(lists, floats)))
                __builtin_trap();
        }
    }
    anx_arena_destroy(arena);
}

static void
read_path(anx_text text)
{
    struct doc_names *names = names_create(NULL);
    struct doc_path path;

    if (names && doc_path_add(text, names, &path, NULL) == ANX_OK)
        for (uint32_t i = 0; i < path.n; i++)
            if (path.steps[i].name.size == 0 || names_find(names, path.steps[i].name) != path.steps[i].tag)
                __builtin_trap();
    names_destroy(names);
}

static void
match(anx_text text)
{
    const char *zero = text.size > 0 ? memchr(text.data, '\0', text.size) : NULL;
    size_t before = zero ? (size_t) (zero - text.data) : text.size;
    anx_text pattern = { text.data + before, text.size - before };

    (void) text_like((anx_text) { text.data, before }, pattern);
    for (int mode = COLLATE_NONE; mode <= COLLATE_NUMERIC; mode++) {
        const struct collation collation = { .mode = (enum collate_mode) mode };
        anx_text first = { text.data, before };

        if ((text_compare(first, pattern, &collation) < 0) != (text_compare(pattern, first, &collation) > 0))
            __builtin_trap();
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    anx_text text = { (const char *) data + 1, size - 1 };

    if (size == 0)
        return 0;
    if (data[0] % 4 == 0)
        read_tree(text);
    else if (data[0] % 4 == 3)
        read_lists(text);
    else if (data[0] % 4 == 1)
        read_path(text);
    else
        match(text);
    return 0;
}
