/* The configuration of a full-text index: numbers and switches by a table, lists by hand. What only tunes the
 * work of another engine (merging in steps, caches of areas, logging) is checked and has no effect. */
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "doc/characters.h"
#include "text/text_int.h"

struct reader {
    struct text_config *config;
    const struct json_node *object;
    anx_status status;
    anx_error *err;
};

/* ---- Numbers and switches ---- */

enum option_kind { OPTION_BOOL, OPTION_INT, OPTION_REAL };
struct option {
    const char *key;
    enum option_kind kind;
    size_t offset;
    double min, max;
    double standard;
};
#define AT(member) offsetof(struct text_config, member)
#define ANY_MAX 2147483647.0

static const struct option options[] = {
    { "enable_terms_concat", OPTION_BOOL, AT(concat), 0, 1, 1 },
    { "enable_terms_split", OPTION_BOOL, AT(split), 0, 1, 1 },
    { "enable_translit", OPTION_BOOL, AT(translit), 0, 1, 1 },
    { "enable_kb_layout", OPTION_BOOL, AT(kb_layout), 0, 1, 1 },
    { "enable_numbers_search", OPTION_BOOL, AT(numbers), 0, 1, 0 },
    { "enable_preselect_before_ft", OPTION_BOOL, AT(preselect), 0, 1, 0 },
    { "merge_limit", OPTION_INT, AT(merge_limit), 1, 33554431, 20000 },
    { "log_level", OPTION_INT, AT(log_level), 0, 5, 0 },
    { "partial_match_decrease", OPTION_INT, AT(partial_match_decrease), 0, 100, 15 },
    { "min_rank", OPTION_INT, AT(min_rank), 0, 255, 5 },
    { "max_typos", OPTION_INT, AT(max_typos), 0, 4, 2 },
    { "max_typo_len", OPTION_INT, AT(max_typo_len), 0, 100, 15 },
    { "max_areas_in_doc", OPTION_INT, AT(max_areas), -1, ANY_MAX, 5 },
    { "max_total_areas_to_cache", OPTION_INT, AT(max_total_areas), -1, ANY_MAX, -1 },
    { "min_word_part_size", OPTION_INT, AT(min_part_size), 1, 100, 3 },
    { "max_rebuild_steps", OPTION_INT, AT(max_rebuild_steps), 1, 500, 50 },
    { "max_step_size", OPTION_INT, AT(max_step_size), 5, ANY_MAX, 4000 },
    { "distance_boost", OPTION_REAL, AT(distance_boost), 0, 10, 1 },
    { "distance_weight", OPTION_REAL, AT(distance_weight), 0, 1, 0.5 },
    { "full_match_boost", OPTION_REAL, AT(full_match_boost), 0, 10, 1.1 },
    { "sum_ranks_by_fields_ratio", OPTION_REAL, AT(sum_ratio), 0, 1, 0 },
};
static const struct option bm25_options[] = {
    { "bm25_k1", OPTION_REAL, AT(k1), 0, 1e9, 2 },
    { "bm25_b", OPTION_REAL, AT(b), 0, 1, 0.75 },
};
static const struct option typo_options[] = {
    { "max_typo_distance", OPTION_INT, AT(max_typo_distance), -1, 100, 0 },
    { "max_symbol_permutation_distance", OPTION_INT, AT(max_permutation_distance), -1, 100, 1 },
    { "max_missing_letters", OPTION_INT, AT(max_missing), -1, 2, 2 },
    { "max_extra_letters", OPTION_INT, AT(max_extra), -1, 2, 2 },
};
static const struct option ranking_options[] = {
    { "full_match_proc", OPTION_INT, AT(ranking.full_match), 0, 500, 100 },
    { "concat_proc", OPTION_INT, AT(ranking.concat), 0, 500, 90 },
    { "split_proc", OPTION_INT, AT(ranking.split), 0, 500, 90 },
    { "prefix_min_proc", OPTION_INT, AT(ranking.prefix_min), 0, 500, 20 },
    { "suffix_min_proc", OPTION_INT, AT(ranking.suffix_min), 0, 500, 10 },
    { "base_typo_proc", OPTION_INT, AT(ranking.typo), 0, 500, 85 },
    { "typo_proc_penalty", OPTION_INT, AT(ranking.typo_penalty), 0, 500, 15 },
    { "stemmer_proc_penalty", OPTION_INT, AT(ranking.stemmer_penalty), 0, 500, 15 },
    { "kblayout_proc", OPTION_INT, AT(ranking.kblayout), 0, 500, 90 },
    { "translit_proc", OPTION_INT, AT(ranking.translit), 0, 500, 90 },
    { "synonyms_proc", OPTION_INT, AT(ranking.synonyms), 0, 500, 95 },
    { "delimited_proc", OPTION_INT, AT(ranking.delimited), 0, 500, 80 },
};
#undef AT
#define AT(member) offsetof(struct text_field_config, member)
static const struct option field_options[] = {
    { "bm25_boost", OPTION_REAL, AT(bm25_boost), 0, 10, 1 },
    { "bm25_weight", OPTION_REAL, AT(bm25_weight), 0, 1, 0.1 },
    { "term_len_boost", OPTION_REAL, AT(term_len_boost), 0, 10, 1 },
    { "term_len_weight", OPTION_REAL, AT(term_len_weight), 0, 1, 0.3 },
    { "position_boost", OPTION_REAL, AT(position_boost), 0, 10, 1 },
    { "position_weight", OPTION_REAL, AT(position_weight), 0, 1, 0.1 },
};
#undef AT

static anx_status
fail(struct reader *r, anx_status status, const char *format, ...)
{
    char text[224];
    va_list arguments;

    if (r->status != ANX_OK)
        return r->status;
    va_start(arguments, format);
    if (vsnprintf(text, sizeof(text), format, arguments) < 0)
        text[0] = '\0';
    va_end(arguments);
    r->status = anx_fail(r->err, status, "FTConfig: %s", text);
    return r->status;
}

static void
fail_memory(struct reader *r)
{
    if (r->status == ANX_OK)
        r->status = anx_fail(r->err, ANX_E_NOMEM, "could not allocate the configuration of a text index");
}

static void
store_option(void *base, const struct option *option, double value)
{
    char *place = (char *) base + option->offset;

    switch (option->kind) {
    case OPTION_BOOL:
        *(bool *) (void *) place = value > 0;
        break;
    case OPTION_INT:
        *(int64_t *) (void *) place = (int64_t) value;
        break;
    case OPTION_REAL:
        *(double *) (void *) place = value;
        break;
    }
}

/* A member; null is as good as none. */
static const struct json_node *
find(const struct json_node *object, const char *key)
{
    const struct json_node *node = object && object->kind == JSON_OBJECT ? json_member(object, key) : NULL;

    return node && node->kind != JSON_NULL ? node : NULL;
}

static bool
read_option(struct reader *r, const struct json_node *object, const struct option *option, void *base)
{
    const struct json_node *node = find(object, option->key);
    double value = 0;

    if (!node || r->status != ANX_OK)
        return false;
    if (option->kind == OPTION_BOOL && node->kind == JSON_BOOL)
        value = node->boolean;
    else if (option->kind == OPTION_BOOL || !json_number(node, &value))
        fail(r, ANX_E_PARSE_JSON, "Can't convert json field '%s' to %s", option->key,
             option->kind == OPTION_BOOL ? "bool" : "number");
    else if (!(value >= option->min && value <= option->max))
        fail(r, ANX_E_PARSE_JSON, "Value of '%s' - %g is out of bounds: [%g,%g]", option->key, value,
             option->min, option->max);
    if (r->status == ANX_OK)
        store_option(base, option, value);
    return r->status == ANX_OK;
}

static void
read_options(struct reader *r, const struct json_node *object, const struct option *list, size_t n,
             void *base)
{
    for (size_t i = 0; i < n; i++) {
        store_option(base, &list[i], list[i].standard);
        read_option(r, object, &list[i], base);
    }
}

/* ---- Lists ---- */

static const struct json_node *
member(struct reader *r, const struct json_node *object, const char *key, enum json_kind kind)
{
    const struct json_node *node = find(object, key);

    if (!node || node->kind == JSON_NULL || r->status != ANX_OK) /* null: an empty list of the Go connector */
        return NULL;
    if (node->kind == kind)
        return node;
    if (node->kind == JSON_NULL && kind != JSON_STRING)
        return NULL; /* Go writes a list that it does not have as null */
    fail(r, ANX_E_PARSE_JSON, "Can't convert json field '%s' to %s", key,
         kind == JSON_ARRAY ? "array" : kind == JSON_OBJECT ? "object" : "string");
    return NULL;
}

static anx_text
copy_text(struct reader *r, anx_text text)
{
    anx_text copy = anx_arena_text(r->config->arena, text);

    if (!copy.data)
        fail_memory(r);
    return copy;
}

static void *
new_list(struct reader *r, size_t n, size_t size)
{
    void *list = anx_arena_array(r->config->arena, n + 1, size);

    if (!list)
        fail_memory(r);
    return list;
}

/* Texts, folded: lower case without accents. */
static const anx_text *
read_texts(struct reader *r, const struct json_node *object, const char *key, size_t *n)
{
    const struct json_node *list = member(r, object, key, JSON_ARRAY);
    anx_text *out;

    *n = 0;
    if (!list)
        return NULL;
    out = new_list(r, list->list.n, sizeof(*out));
    for (size_t i = 0; out && r->status == ANX_OK && i < list->list.n; i++) {
        if (list->list.items[i].kind != JSON_STRING)
            fail(r, ANX_E_PARSE_JSON, "Can't convert json field '%s' to string", key);
        else
            out[(*n)++] = copy_text(r, list->list.items[i].text);
    }
    return out;
}

static void
read_symbols(struct reader *r, const char *key, struct symbols *out)
{
    static const anx_text standard = { "-/+_`'", 6 };
    const struct json_node *node = member(r, r->object, key, JSON_STRING);
    anx_text text = node && node->text.size > 0 ? node->text : node ? ANX_TEXT("") : standard;
    const unsigned char *at = (const unsigned char *) text.data, *end = at + text.size;

    while (at < end && r->status == ANX_OK) {
        if (out->n == SYMBOLS_MAX)
            fail(r, ANX_E_PARSE_JSON, "'%s' has more than %d symbols", key, SYMBOLS_MAX);
        else
            out->codes[out->n++] = utf8_next(&at, end);
    }
}

static void
read_keep(struct reader *r)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = { { "acc", KEEP_ACCENTS }, { "ara", KEEP_ARABIC }, { "heb", KEEP_HEBREW },
                  { "cyr", KEEP_CYRILLIC } };
    size_t n;
    const anx_text *list = read_texts(r, r->object, "keep_diacritics", &n);

    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < ANX_COUNT_OF(names); j++)
            if (anx_text_equal_fold(list[i], anx_text_of(names[j].name)))
                r->config->keep |= names[j].bit;
}

static int
compare_texts(anx_text a, anx_text b)
{
    size_t n = a.size < b.size ? a.size : b.size;
    int order = n > 0 ? memcmp(a.data, b.data, n) : 0;

    return order ? order : (a.size > b.size) - (a.size < b.size);
}

static int
compare_stop_words(const void *a, const void *b)
{
    return compare_texts(((const struct stop_word *) a)->word, ((const struct stop_word *) b)->word);
}

static void
sort_stop_words(struct reader *r)
{
    struct text_config *c = r->config;
    size_t n = 0;

    qsort(c->stop_words, c->n_stop_word, sizeof(*c->stop_words), compare_stop_words);
    for (size_t i = 0; i < c->n_stop_word && r->status == ANX_OK; i++) {
        if (n > 0 && anx_text_equal(c->stop_words[n - 1].word, c->stop_words[i].word)) {
            if (c->stop_words[n - 1].is_morpheme != c->stop_words[i].is_morpheme)
                fail(r, ANX_E_PARAMS, "Duplicate stop-word with different morpheme attribute: %.*s",
                     ANX_TEXT_ARG(c->stop_words[i].word));
        } else {
            c->stop_words[n++] = c->stop_words[i];
        }
    }
    c->n_stop_word = n;
}

static void
add_stop_word(struct reader *r, anx_text text, bool is_morpheme)
{
    anx_text word = split_single(r->config, text, r->config->arena);

    if (!word.data)
        fail(r, ANX_E_PARAMS, "Stop words can't contain spaces: %.*s", ANX_TEXT_ARG(text));
    else
        r->config->stop_words[r->config->n_stop_word++] = (struct stop_word) { word, is_morpheme };
}

static size_t
count_words(const char *list)
{
    size_t n = 0;

    for (; *list; list += strlen(list) + 1)
        n++;
    return n;
}

static void
read_stop_words(struct reader *r)
{
    static const char *const standard[] = { text_stop_words_en, text_stop_words_ru };
    const struct json_node *list = member(r, r->object, "stop_words", JSON_ARRAY);
    size_t n = list ? list->list.n : count_words(standard[0]) + count_words(standard[1]);

    r->config->stop_words = new_list(r, n, sizeof(struct stop_word));
    for (size_t l = 0; !list && l < ANX_COUNT_OF(standard); l++)
        for (const char *word = standard[l]; *word && r->status == ANX_OK; word += strlen(word) + 1)
            add_stop_word(r, anx_text_of(word), true);
    for (size_t i = 0; list && i < n && r->status == ANX_OK; i++) {
        const struct json_node *node = &list->list.items[i], *word = node, *flag = NULL;

        if (node->kind == JSON_OBJECT) {
            word = member(r, node, "word", JSON_STRING);
            flag = json_member(node, "is_morpheme");
        }
        if (!word || word->kind != JSON_STRING)
            fail(r, ANX_E_PARSE_JSON, "Can't convert json field 'stop_words' to string");
        else
            add_stop_word(r, word->text, flag && flag->kind == JSON_BOOL && flag->boolean);
    }
    if (r->status == ANX_OK)
        sort_stop_words(r);
}

static void
read_stemmers(struct reader *r)
{
    static const anx_text standard[] = { { "en", 2 }, { "ru", 2 } };
    struct text_config *c = r->config;

    c->stemmers = read_texts(r, r->object, "stemmers", &c->n_stemmer);
    if (!c->stemmers) {
        c->stemmers = standard;
        c->n_stemmer = ANX_COUNT_OF(standard);
    }
    if (c->n_stemmer > STEMMERS_MAX)
        fail(r, ANX_E_PARAMS, "%zu stemmers are more than %d", c->n_stemmer, STEMMERS_MAX);
    for (size_t i = 0; i < c->n_stemmer && r->status == ANX_OK; i++)
        if (!stemmer_exists(c->stemmers[i]))
            fail(r, ANX_E_PARAMS, "Stemmer for language %.*s is not available", ANX_TEXT_ARG(c->stemmers[i]));
}

static void
read_synonyms(struct reader *r)
{
    const struct json_node *list = member(r, r->object, "synonyms", JSON_ARRAY);
    struct text_config *c = r->config;

    if (!list)
        return;
    c->synonyms = new_list(r, list->list.n, sizeof(*c->synonyms));
    for (size_t i = 0; i < list->list.n && r->status == ANX_OK; i++) {
        struct synonym *s = &c->synonyms[c->n_synonym++];

        s->tokens = read_texts(r, &list->list.items[i], "tokens", &s->n_token);
        s->alternatives = read_texts(r, &list->list.items[i], "alternatives", &s->n_alternative);
    }
}

static int
compare_boosts(const void *a, const void *b)
{
    return compare_texts(((const struct terms_boost *) a)->term, ((const struct terms_boost *) b)->term);
}

static void
read_boosts(struct reader *r)
{
    static const struct option boost = { "boost", OPTION_REAL, 0, 0, 5, 1 };
    const struct json_node *list = member(r, r->object, "terms_boost", JSON_ARRAY);
    struct text_config *c = r->config;
    size_t n = 0;

    for (size_t i = 0; list && i < list->list.n; i++) {
        const struct json_node *terms = member(r, &list->list.items[i], "terms", JSON_ARRAY);

        n += terms ? terms->list.n : 0;
    }
    c->boosts = new_list(r, n, sizeof(*c->boosts));
    for (size_t i = 0; list && i < list->list.n && r->status == ANX_OK; i++) {
        double value = 1;
        size_t n_term;
        const anx_text *terms = read_texts(r, &list->list.items[i], "terms", &n_term);

        read_option(r, &list->list.items[i], &boost, &value);
        for (size_t t = 0; t < n_term && r->status == ANX_OK; t++) {
            anx_text word = split_single(c, terms[t], c->arena);

            if (!word.data)
                fail(r, ANX_E_PARAMS, "Incorrect term to boost: %.*s (must be single word)",
                     ANX_TEXT_ARG(terms[t]));
            else
                c->boosts[c->n_boost++] = (struct terms_boost) { word, value };
        }
    }
    if (r->status == ANX_OK && c->n_boost > 0)
        qsort(c->boosts, c->n_boost, sizeof(*c->boosts), compare_boosts);
}

/* ---- Words of closed sets, old keys, fields ---- */

static size_t
read_choice(struct reader *r, const struct json_node *object, const char *key, const char *const *names,
            size_t n)
{
    const struct json_node *node = member(r, object, key, JSON_STRING);

    for (size_t i = 0; node && i < n; i++)
        if (anx_text_equal_fold(node->text, anx_text_of(names[i])))
            return i;
    if (node)
        fail(r, ANX_E_PARSE_JSON, "unknown %s value: %.*s", key, ANX_TEXT_ARG(node->text));
    return 0;
}

static void
read_choices(struct reader *r)
{
    static const char *const bm25[] = { "rx_bm25", "bm25", "word_count" };
    static const char *const optimizations[] = { "memory", "cpu" };
    static const char *const splitters[] = { "fast", "mmseg_cn", "friso" };

    r->config->bm25 = (enum bm25_type) read_choice(r, member(r, r->object, "bm25_config", JSON_OBJECT),
                                                   "bm25_type", bm25, ANX_COUNT_OF(bm25));
    (void) read_choice(r, r->object, "optimization", optimizations, ANX_COUNT_OF(optimizations));
    if (read_choice(r, r->object, "splitter", splitters, ANX_COUNT_OF(splitters)) > 0)
        fail(r, ANX_E_UNSUPPORTED, "splitter 'mmseg_cn' is not available, use 'fast'");
}

static void
read_old_keys(struct reader *r)
{
    static const struct option relevancy = { "min_relevancy", OPTION_REAL, 0, 0, 1, 0.05 };
    static const struct option typos = { "max_typos_in_word", OPTION_INT, 0, 0, 2, 1 };
    double value;
    int64_t n;

    if (!r->object)
        return;
    if (!find(r->object, "min_rank") && read_option(r, r->object, &relevancy, &value))
        r->config->min_rank = (int64_t) (100 * value);
    if (find(r->object, "max_typos_in_word") && find(r->object, "max_typos"))
        fail(r, ANX_E_PARSE_DSL,
             "Fulltext configuration cannot contain 'max_typos' and 'max_typos_in_word' fields at the same "
             "time");
    else if (read_option(r, r->object, &typos, &n))
        r->config->max_typos = 2 * n;
}

static void
read_fields(struct reader *r)
{
    const struct json_node *list = member(r, r->object, "fields", JSON_ARRAY);
    struct text_config *c = r->config;

    read_options(r, r->object, field_options, ANX_COUNT_OF(field_options), &c->field);
    c->fields = new_list(r, c->n_field, sizeof(*c->fields));
    for (size_t f = 0; c->fields && f < c->n_field; f++)
        c->fields[f] = c->field;
    if (list && list->list.n > 0 && c->n_field < 2)
        fail(r, ANX_E_PARSE_DSL,
             "Configuration for single field fulltext index can't contain field specifications");
    for (size_t i = 0; list && i < list->list.n && r->status == ANX_OK; i++) {
        const struct json_node *name = member(r, &list->list.items[i], "field_name", JSON_STRING);
        size_t f = 0;

        while (name && f < c->n_field && !anx_text_equal_fold(name->text, c->field_names[f]))
            f++;
        if (!name || f == c->n_field) {
            fail(r, ANX_E_PARSE_DSL, "Field '%.*s' is not included to full text index",
                 ANX_TEXT_ARG(name ? name->text : ANX_TEXT("")));
            return;
        }
        for (size_t o = 0; o < ANX_COUNT_OF(field_options); o++)
            read_option(r, &list->list.items[i], &field_options[o], &c->fields[f]);
    }
}

static void
read_all(struct reader *r)
{
    struct text_config *c = r->config;

    read_options(r, r->object, options, ANX_COUNT_OF(options), c);
    read_options(r, member(r, r->object, "bm25_config", JSON_OBJECT), bm25_options,
                 ANX_COUNT_OF(bm25_options), c);
    read_options(r, member(r, r->object, "typos_detailed_config", JSON_OBJECT), typo_options,
                 ANX_COUNT_OF(typo_options), c);
    read_options(r, member(r, r->object, "base_ranking", JSON_OBJECT), ranking_options,
                 ANX_COUNT_OF(ranking_options), c);
    read_choices(r);
    read_old_keys(r);
    read_symbols(r, "extra_word_symbols", &c->extra);
    read_symbols(r, "word_part_delimiters", &c->delimiters);
    read_keep(r);
    read_fields(r);
    read_stemmers(r);
    if (r->status == ANX_OK)
        read_stop_words(r);
    if (r->status == ANX_OK)
        read_synonyms(r);
    if (r->status == ANX_OK)
        read_boosts(r);
}

/* ---- Outside ---- */

anx_status
text_config_read(const struct json_node *config, const anx_text *fields, size_t n_field,
                 struct text_config **out, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct text_config *c = arena ? anx_arena_array(arena, 1, sizeof(*c)) : NULL;
    struct reader r = { .config = c, .object = config, .err = err };
    anx_text *names;

    *out = NULL;
    if (config && config->kind == JSON_NULL)
        r.object = config = NULL;
    if (!c) {
        anx_arena_destroy(arena);
        fail_memory(&r);
        return r.status;
    }
    c->arena = arena;
    c->n_field = n_field;
    names = new_list(&r, n_field, sizeof(*names));
    for (size_t i = 0; names && i < n_field; i++)
        names[i] = copy_text(&r, fields[i]);
    c->field_names = names;
    if (config && config->kind != JSON_OBJECT)
        fail(&r, ANX_E_PARSE_JSON, "config is not an object");
    if (n_field == 0 || n_field > TEXT_FIELDS_MAX)
        fail(&r, ANX_E_PARAMS, "%zu fields of a full text index, at most %d are possible", n_field,
             TEXT_FIELDS_MAX);
    if (r.status == ANX_OK)
        read_all(&r);
    if (r.status == ANX_OK)
        *out = c;
    else
        text_config_destroy(c);
    return r.status;
}

void
text_config_destroy(struct text_config *config)
{
    if (config)
        anx_arena_destroy(config->arena);
}

const struct stop_word *
config_stop_word(const struct text_config *config, anx_text word)
{
    struct stop_word key = { .word = word };

    return config->n_stop_word == 0 ? NULL
                                    : bsearch(&key, config->stop_words, config->n_stop_word, sizeof(key),
                                              compare_stop_words);
}

double
config_boost(const struct text_config *config, anx_text word)
{
    struct terms_boost key = { .term = word };
    const struct terms_boost *found =
        config->n_boost == 0 ? NULL
                             : bsearch(&key, config->boosts, config->n_boost, sizeof(key), compare_boosts);

    return found ? found->boost : 1;
}
