/* What was found, in the text it was found in: the text is cut into words again and its words are looked up,
 * so the index need not keep bytes. */
#include <stdlib.h>

#include "doc/characters.h"
#include "text/text_int.h"

/* ---- Finding ---- */

struct finder {
    const struct text_index *index;
    const struct text_marks *marks;
    uint64_t field; /* its bit */
    anx_arena *arena;
    struct text_area *areas;
    size_t n, capacity;
    anx_error *err;
};
struct seen { /* a word of the text */
    uint32_t word, position;
    size_t begin, end;
};

static anx_status
fail_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate memory for a snippet");
}

static anx_status
add_area(struct finder *f, size_t begin, size_t end)
{
    if (f->n == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 8;
        struct text_area *areas = anx_arena_array(f->arena, capacity, sizeof(*areas));

        if (!areas)
            return fail_memory(f->err);
        if (f->n > 0)
            memcpy(areas, f->areas, f->n * sizeof(*areas));
        f->areas = areas;
        f->capacity = capacity;
    }
    f->areas[f->n++] = (struct text_area) { begin, end };
    return ANX_OK;
}

static bool
is_marked(const struct finder *f, uint32_t word)
{
    size_t low = 0, high = f->marks->n;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (f->marks->words[middle].word < word)
            low = middle + 1;
        else
            high = middle;
    }
    return low < f->marks->n && f->marks->words[low].word == word && (f->marks->words[low].fields & f->field);
}

static bool
has_form(const struct forms *forms, uint32_t word)
{
    for (size_t i = 0; i < forms->n; i++)
        if (forms->items[i].word == word)
            return true;
    return false;
}

/* The phrase from word `at` on: the index of its last word, SIZE_MAX when it is not there. next [p->n]: where
 * each word of the phrase was looked for last. Later calls are about later words, so none is looked at twice
 * for the same word of the phrase. */
static size_t
follow_phrase(const struct mark_phrase *p, const struct seen *seen, size_t n, size_t at, size_t *next)
{
    size_t last = at;

    if (!has_form(&p->words[0], seen[at].word))
        return SIZE_MAX;
    for (size_t w = 1; w < p->n; w++) {
        if (next[w] <= last)
            next[w] = last + 1;
        while (next[w] < n && !(seen[next[w]].position > seen[last].position &&
                                has_form(&p->words[w], seen[next[w]].word)))
            next[w]++;
        if (next[w] >= n || seen[next[w]].position - seen[last].position > p->distance)
            return SIZE_MAX;
        last = next[w];
    }
    return last;
}

static anx_status
add_phrase(struct finder *f, const struct mark_phrase *p, const struct seen *seen, size_t n)
{
    size_t *next = anx_arena_array(f->arena, p->n, sizeof(*next));
    anx_status st = next ? ANX_OK : fail_memory(f->err);

    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        size_t last = seen[i].word != NO_WORD ? follow_phrase(p, seen, n, i, next) : SIZE_MAX;

        if (last != SIZE_MAX)
            st = add_area(f, seen[i].begin, seen[last].end);
    }
    return st;
}

static anx_status
see_words(struct finder *f, anx_text text, struct seen **out, size_t *n)
{
    struct splitting s;
    struct token token;
    size_t capacity = 64;

    *n = 0;
    *out = anx_arena_array(f->arena, capacity, sizeof(**out));
    split_begin(&s, f->index->config, text);
    while (*out && split_next(&s, &token)) {
        if (*n == capacity) {
            struct seen *more = anx_arena_array(f->arena, 2 * capacity, sizeof(*more));

            if (!more)
                return fail_memory(f->err);
            memcpy(more, *out, *n * sizeof(*more));
            *out = more;
            capacity *= 2;
        }
        (*out)[(*n)++] =
            (struct seen){ words_find(&f->index->words, token.word), token.position, token.begin, token.end };
    }
    return *out ? ANX_OK : fail_memory(f->err);
}

static int
compare_areas(const void *a, const void *b)
{
    const struct text_area *x = a, *y = b;

    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end < y->end) - (x->end > y->end);
}

/* In order, none inside of another. */
static void
settle_areas(struct finder *f)
{
    size_t n = 0;

    if (f->n > 1)
        qsort(f->areas, f->n, sizeof(*f->areas), compare_areas);
    for (size_t i = 0; i < f->n; i++) {
        if (n > 0 && f->areas[i].begin < f->areas[n - 1].end) {
            if (f->areas[i].end > f->areas[n - 1].end)
                f->areas[n - 1].end = f->areas[i].end;
        } else {
            f->areas[n++] = f->areas[i];
        }
    }
    f->n = n;
}

anx_status
text_find_areas(const struct text_index *index, const struct text_marks *marks, size_t field, anx_text text,
                anx_arena *arena, struct text_area **out, size_t *n, anx_error *err)
{
    struct finder f = {
        .index = index, .marks = marks, .field = (uint64_t) 1 << field, .arena = arena, .err = err
    };
    struct seen *seen;
    size_t n_seen, most = index->config->max_areas < 0 ? SIZE_MAX : (size_t) index->config->max_areas;
    anx_status st = see_words(&f, text, &seen, &n_seen);

    for (size_t i = 0; st == ANX_OK && i < n_seen; i++) {
        if (seen[i].word == NO_WORD)
            continue;
        if (is_marked(&f, seen[i].word))
            st = add_area(&f, seen[i].begin, seen[i].end);
    }
    for (const struct mark_phrase *p = marks->phrases; st == ANX_OK && p; p = p->next)
        if (p->fields & f.field)
            st = add_phrase(&f, p, seen, n_seen);
    settle_areas(&f);
    *out = f.areas;
    *n = f.n < most ? f.n : most;
    return st;
}

/* ---- Reading a call ---- */

struct call {
    anx_text rest;
    bool has_names; /* of arguments */
    anx_status status;
    anx_error *err;
};

static void
skip_blanks(struct call *c)
{
    while (c->rest.size > 0 && (*c->rest.data == ' ' || *c->rest.data == '\t'))
        c->rest = (anx_text) { c->rest.data + 1, c->rest.size - 1 };
}

static void
fail_call(struct call *c, const char *what)
{
    if (c->status == ANX_OK)
        c->status = anx_fail(c->err, ANX_E_PARAMS, "Invalid select function: %s at '%.*s'", what,
                             (int) (c->rest.size < 40 ? c->rest.size : 40), c->rest.size ? c->rest.data : "");
}

static bool
take(struct call *c, char wanted)
{
    skip_blanks(c);
    if (c->rest.size == 0 || *c->rest.data != wanted)
        return false;
    c->rest = (anx_text) { c->rest.data + 1, c->rest.size - 1 };
    return true;
}

/* 'quoted', or everything up to a comma, an equals sign or the closing bracket. */
static anx_text
read_argument(struct call *c)
{
    size_t n = 0;
    anx_text out = { "", 0 };

    skip_blanks(c);
    if (c->rest.size > 0 && (*c->rest.data == '\'' || *c->rest.data == '"')) {
        char quote = *c->rest.data;
        const char *close = memchr(c->rest.data + 1, quote, c->rest.size - 1);

        if (!close) {
            fail_call(c, "no closing quote");
            return out;
        }
        out = (anx_text) { c->rest.data + 1, (size_t) (close - c->rest.data - 1) };
        c->rest = (anx_text) { close + 1, c->rest.size - out.size - 2 };
        return out;
    }
    while (n < c->rest.size && !memchr(",)=", c->rest.data[n], c->has_names ? 3 : 2))
        n++;
    out = (anx_text) { c->rest.data, n };
    c->rest = (anx_text) { c->rest.data + n, c->rest.size - n };
    while (out.size > 0 && out.data[out.size - 1] == ' ')
        out.size--;
    return out;
}

static size_t
read_count(struct call *c, anx_text text, const char *name)
{
    size_t value = 0;

    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || value > 100000000) {
            value = SIZE_MAX;
            break;
        }
        value = value * 10 + (size_t) (text.data[i] - '0');
    }
    if (text.size > 0 && value != SIZE_MAX)
        return value;
    if (c->status == ANX_OK)
        c->status = anx_fail(c->err, ANX_E_PARAMS, "Invalid snippet param %s - %.*s is not a number", name,
                             ANX_TEXT_ARG(text));
    return 0;
}

static void
set_named(struct call *c, struct text_show *show, anx_text name, anx_text value)
{
    if (anx_text_equal_fold(name, ANX_TEXT("pre_delim")))
        show->pre_delim = value;
    else if (anx_text_equal_fold(name, ANX_TEXT("post_delim")))
        show->post_delim = value;
    else if (anx_text_equal_fold(name, ANX_TEXT("left_bound")))
        show->left_bound = value;
    else if (anx_text_equal_fold(name, ANX_TEXT("right_bound")))
        show->right_bound = value;
    else if (anx_text_equal_fold(name, ANX_TEXT("with_area")))
        show->with_area = read_count(c, value, "with_area") > 0;
    else
        fail_call(c, "unknown parameter");
}

enum { POSITIONAL_MAX = 6 };

static void
set_positional(struct call *c, struct text_show *show, bool is_snippet_n, const anx_text *args, size_t n)
{
    if (!show->is_snippet && n != 2) {
        c->status = anx_fail(c->err, ANX_E_PARAMS, "Invalid highlight params need 2 - have %zu", n);
        return;
    }
    if (show->is_snippet && (n < 4 || (is_snippet_n && n > 4))) {
        c->status = anx_fail(c->err, ANX_E_PARAMS, "Invalid snippet params need minimum 4 - have %zu", n);
        return;
    }
    show->before = args[0];
    show->after = args[1];
    if (!show->is_snippet)
        return;
    show->n_before = read_count(c, args[2], "before");
    show->n_after = read_count(c, args[3], "after");
    if (n > 4)
        show->pre_delim = args[4];
    if (n > 5)
        show->post_delim = args[5];
}

anx_status
text_show_read(anx_text call, anx_arena *arena, struct text_show *out, anx_error *err)
{
    struct call c = { .err = err };
    anx_text copy = anx_arena_text(arena, call), name, args[POSITIONAL_MAX];
    size_t n = 0, open = 0;
    bool is_snippet_n;

    *out = (struct text_show) { .post_delim = { " ", 1 } };
    if (!copy.data)
        return fail_memory(err);
    while (open < copy.size && copy.data[open] != '(')
        open++;
    name = (anx_text) { copy.data, open };
    while (name.size > 0 && name.data[name.size - 1] == ' ')
        name.size--;
    is_snippet_n = anx_text_equal_fold(name, ANX_TEXT("snippet_n"));
    out->is_snippet = is_snippet_n || anx_text_equal_fold(name, ANX_TEXT("snippet"));
    if (!out->is_snippet && !anx_text_equal_fold(name, ANX_TEXT("highlight")))
        return anx_fail(err, ANX_E_PARAMS, "Unknown select function '%.*s'", ANX_TEXT_ARG(name));
    c.has_names = is_snippet_n;
    c.rest = (anx_text) { copy.data + open, copy.size - open };
    if (!take(&c, '('))
        fail_call(&c, "no opening bracket");
    while (c.status == ANX_OK) {
        anx_text argument = read_argument(&c);

        if (is_snippet_n && take(&c, '='))
            set_named(&c, out, argument, read_argument(&c));
        else if (n < POSITIONAL_MAX)
            args[n++] = argument;
        else
            fail_call(&c, "too many parameters");
        if (!take(&c, ','))
            break;
    }
    if (c.status == ANX_OK && !take(&c, ')'))
        fail_call(&c, "no closing bracket");
    if (c.status == ANX_OK)
        set_positional(&c, out, is_snippet_n, args, n);
    return c.status;
}

/* ---- Showing ---- */

static size_t
count_letters(anx_text text, size_t from, size_t to)
{
    size_t n = 0;

    for (size_t i = from; i < to; i++)
        n += ((unsigned char) text.data[i] & 0xc0) != 0x80;
    return n;
}

static bool
is_among(anx_text set, uint32_t code)
{
    const unsigned char *at = (const unsigned char *) (set.size > 0 ? set.data : ""), *end = at + set.size;

    while (at < end)
        if (utf8_next(&at, end) == code)
            return true;
    return false;
}

/* n characters to the left, or up to behind a character of the bound. */
static size_t
go_left(anx_text text, size_t at, size_t n, anx_text bound)
{
    while (at > 0 && n > 0) {
        size_t before = at - 1;
        const unsigned char *p;

        while (before > 0 && ((unsigned char) text.data[before] & 0xc0) == 0x80)
            before--;
        p = (const unsigned char *) text.data + before;
        if (is_among(bound, utf8_next(&p, (const unsigned char *) text.data + text.size)))
            break;
        at = before;
        n--;
    }
    return at;
}

static size_t
go_right(anx_text text, size_t at, size_t n, anx_text bound)
{
    while (at < text.size && n > 0) {
        const unsigned char *p = (const unsigned char *) text.data + at;

        if (is_among(bound, utf8_next(&p, (const unsigned char *) text.data + text.size)))
            break;
        at = (size_t) (p - (const unsigned char *) text.data);
        n--;
    }
    return at;
}

static anx_text
piece(anx_text text, size_t from, size_t to)
{
    return (anx_text) { text.data + from, to - from };
}

/* text[from, to) with the areas [i, j) marked. */
static void
print_marked(const struct text_show *show, anx_text text, size_t from, size_t to,
             const struct text_area *areas, size_t n, anx_buffer *out)
{
    for (size_t i = 0; i < n; i++) {
        anx_buffer_text(out, piece(text, from, areas[i].begin));
        anx_buffer_text(out, show->before);
        anx_buffer_text(out, piece(text, areas[i].begin, areas[i].end));
        anx_buffer_text(out, show->after);
        from = areas[i].end;
    }
    anx_buffer_text(out, piece(text, from, to));
}

void
text_show_print(const struct text_show *show, anx_text text, const struct text_area *areas, size_t n,
                anx_buffer *out)
{
    if (text.size == 0)
        return;
    if (!show->is_snippet) {
        print_marked(show, text, 0, text.size, areas, n, out);
        return;
    }
    for (size_t i = 0, j; i < n; i = j) {
        size_t from = go_left(text, areas[i].begin, show->n_before, show->left_bound);
        size_t to = go_right(text, areas[i].end, show->n_after, show->right_bound);

        for (j = i + 1; j < n; j++) { /* snippets that touch are one */
            if (go_left(text, areas[j].begin, show->n_before, show->left_bound) > to)
                break;
            to = go_right(text, areas[j].end, show->n_after, show->right_bound);
        }
        anx_buffer_text(out, show->pre_delim);
        if (show->with_area)
            anx_buffer_printf(out, "[%zu,%zu]", count_letters(text, 0, from), count_letters(text, 0, to));
        print_marked(show, text, from, to, areas + i, j - i, out);
        anx_buffer_text(out, show->post_delim);
    }
}
