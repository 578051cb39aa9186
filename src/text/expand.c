/* Which words of the dictionary answer to a word of the query, and how well:
 *
 *     the word itself                                   full_match
 *
 *     word*, *word, *word*                              less for every letter that was not asked for
 *
 *     same stem in one of the languages                 less stemmer_penalty
 *
 *     word~                                             typo, less typo_penalty for every edit, of which
 *                                                       long words are forgiven a part
 *
 *     typed with the other keyboard, in other letters   kblayout, translit
 *
 *     a synonym                                         synonyms
 *
 *     without its delimiters, its parts                 delimited
 *
 *     its halves, when it is not known itself           split
 *
 * Everything but the first two and typos is left out for =word. */
#include <stdlib.h>

#include "doc/characters.h"
#include "text/text_int.h"

enum { FIRST_FORMS = 8, WORDS_PER_CHECK = 4096, HALF_MIN = 2 };

static anx_status
fail_memory(struct expander *e)
{
    return anx_fail(e->err, ANX_E_NOMEM, "could not allocate memory for a full text query");
}

anx_status
forms_add(struct expander *e, struct forms *forms, uint32_t word, float percent)
{
    if (forms->n == forms->capacity) {
        size_t capacity = forms->capacity ? 2 * forms->capacity : FIRST_FORMS;
        struct form *items = anx_arena_array(e->arena, capacity, sizeof(*items));

        if (!items)
            return fail_memory(e);
        if (forms->n > 0)
            memcpy(items, forms->items, forms->n * sizeof(*items));
        forms->items = items;
        forms->capacity = capacity;
    }
    forms->items[forms->n++] = (struct form) { word, percent };
    return ANX_OK;
}

static int
compare_forms(const void *a, const void *b)
{
    const struct form *x = a, *y = b;

    if (x->word != y->word)
        return x->word < y->word ? -1 : 1;
    return (x->percent < y->percent) - (x->percent > y->percent);
}

void
forms_settle(struct forms *forms)
{
    size_t n = 0;

    if (forms->n > 1)
        qsort(forms->items, forms->n, sizeof(*forms->items), compare_forms);
    for (size_t i = 0; i < forms->n; i++)
        if (n == 0 || forms->items[n - 1].word != forms->items[i].word)
            forms->items[n++] = forms->items[i];
    forms->n = n;
}

/* ---- Scans of the dictionary ---- */

/* A word as patterns see it. */
struct pattern {
    anx_text text;
    uint32_t codes[WORD_MAX];
    size_t n_code;
    float percent;
    bool is_prefix, is_suffix, is_typo;
    struct forms *out;
};

/* How much of a full match is left when letters beside the pattern were not asked for. */
static float
partial_percent(const struct expander *e, const struct pattern *p, anx_text word, bool is_start)
{
    const struct text_config *config = e->index->config;
    uint32_t codes[WORD_MAX];
    size_t n_letter = letters_decode(word, codes, WORD_MAX);
    int64_t least = is_start ? config->ranking.prefix_min : config->ranking.suffix_min;
    float percent = p->percent - (float) config->partial_match_decrease * (float) (n_letter - p->n_code) /
                                     (float) (p->n_code > 0 ? p->n_code : 1);

    if (percent < (float) least)
        percent = (float) least;
    return percent < p->percent ? percent : p->percent;
}

static anx_status
try_pattern(struct expander *e, struct pattern *p, uint32_t number)
{
    anx_text word = word_text(&e->index->words.list[number]);
    bool starts = word.size >= p->text.size && memcmp(word.data, p->text.data, p->text.size) == 0;
    bool ends = word.size >= p->text.size &&
                memcmp(word.data + word.size - p->text.size, p->text.data, p->text.size) == 0;
    bool holds = p->is_prefix && p->is_suffix
                     ? starts || ends || memmem(word.data, word.size, p->text.data, p->text.size) != NULL
                     : (p->is_prefix && starts) || (p->is_suffix && ends);

    return holds ? forms_add(e, p->out, number, partial_percent(e, p, word, starts)) : ANX_OK;
}

static anx_status
try_typo(struct expander *e, struct pattern *p, uint32_t number)
{
    const struct text_config *config = e->index->config;
    uint32_t codes[WORD_MAX];
    anx_text word = word_text(&e->index->words.list[number]);
    size_t n = letters_decode(word, codes, WORD_MAX);
    unsigned n_edit;
    float thirds, percent;

    if (n > (size_t) config->max_typo_len || !typo_match(config, p->codes, p->n_code, codes, n, &n_edit))
        return ANX_OK;
    thirds = ((float) word.size - (float) n_edit) / 3; /* of its bytes: ranks are those of the original */
    percent = p->percent * (float) config->ranking.typo / 100 -
              (float) n_edit * (float) config->ranking.typo_penalty / (thirds > 1 ? thirds : 1);
    return forms_add(e, p->out, number, percent > 1 ? percent : 1);
}

/* Words that have all pairs of letters of the pattern but `n_missing`. */
static anx_status
scan(struct expander *e, struct pattern *p, uint64_t signature, int n_missing,
     anx_status (*try)(struct expander *e, struct pattern *p, uint32_t number))
{
    const struct words *words = &e->index->words;
    anx_status st = ANX_OK;

    for (uint32_t i = 0; st == ANX_OK && i < words->n; i++) {
        if (__builtin_popcountll(signature & ~words->signatures[i]) <= n_missing && words->list[i].text)
            st = try(e, p, i);
        if (i % WORDS_PER_CHECK == WORDS_PER_CHECK - 1 && e->goes_on && !e->goes_on(e->context))
            st = anx_fail(e->err, ANX_E_CANCELLED, "full text search was cancelled");
    }
    return st;
}

static anx_status
find_patterns(struct expander *e, struct pattern *p)
{
    anx_status st = ANX_OK;

    if (p->is_prefix || p->is_suffix)
        st = scan(e, p, signature_of(p->codes, p->n_code, !p->is_suffix, !p->is_prefix), 0, try_pattern);
    if (st == ANX_OK && p->is_typo && e->index->config->max_typos > 0 &&
        p->n_code <= (size_t) e->index->config->max_typo_len)
        st = scan(e, p, signature_of(p->codes, p->n_code, true, true),
                  (int) typo_lost_pairs(e->index->config), try_typo);
    return st;
}

/* ---- Forms of one spelling ---- */

static anx_status
find_stems(struct expander *e, anx_text text, float percent, struct forms *out)
{
    const struct words *words = &e->index->words;
    float less = percent - (float) e->index->config->ranking.stemmer_penalty;
    anx_status st = ANX_OK;

    if (less < 1)
        less = 1;
    for (size_t l = 0; l < words->n_stemmer; l++) {
        char copy[WORD_MAX + 1];
        anx_text stemmed = stem_word(e->stemmers[l], text);
        uint32_t hash = stem_hash(stemmed);
        size_t size = stemmed.size;

        if (size == 0 || size > WORD_MAX)
            continue;
        memcpy(copy, stemmed.data, size);
        for (uint32_t i = 0; st == ANX_OK && i < words->n; i++) {
            if (words->stems[l][i] != hash || !words->list[i].text)
                continue;
            if (anx_text_equal(stem_word(e->stemmers[l], word_text(&words->list[i])),
                               (anx_text){ copy, size }))
                st = forms_add(e, out, i, less);
        }
    }
    return st;
}

struct spelling {
    anx_text text;
    float percent;
    const struct query_word *word;
    bool has_forms; /* patterns, typos and stems too */
};

static anx_status
find_spelling(struct expander *e, const struct spelling *s, struct forms *out)
{
    struct pattern p = { .text = s->text, .percent = s->percent, .out = out };
    uint32_t number = words_find(&e->index->words, s->text);
    anx_status st = ANX_OK;

    if (number != NO_WORD)
        st = forms_add(e, out, number, s->percent);
    if (st != ANX_OK || !s->has_forms)
        return st;
    p.n_code = letters_decode(s->text, p.codes, WORD_MAX);
    p.is_prefix = s->word->is_prefix;
    p.is_suffix = s->word->is_suffix;
    p.is_typo = s->word->is_typo;
    st = find_patterns(e, &p);
    if (st == ANX_OK && !s->word->is_exact && !p.is_prefix && !p.is_suffix)
        st = find_stems(e, s->text, s->percent, out);
    return st;
}

/* ---- Other letters ---- */

/* The keys of both layouts, and Cyrillic letters in Latin ones; the longest come first. */
static const char keys_latin[] = "qwertyuiopasdfghjklzxcvbnm";
static const char *const keys_cyrillic[] = {
    "й", "ц", "у", "к", "е", "н", "г", "ш", "щ", "з", "ф", "ы", "в",
    "а", "п", "р", "о", "л", "д", "я", "ч", "с", "м", "и", "т", "ь"
};
static const struct {
    const char *latin, *cyrillic;
} letters[] = {
    { "shch", "щ" }, { "sch", "щ" }, { "zh", "ж" }, { "kh", "х" }, { "ch", "ч" }, { "sh", "ш" },
    { "ts", "ц" },   { "yu", "ю" },  { "ya", "я" }, { "yo", "е" }, { "ju", "ю" }, { "ja", "я" },
    { "a", "а" },    { "b", "б" },   { "v", "в" },  { "g", "г" },  { "d", "д" },  { "e", "е" },
    { "z", "з" },    { "i", "и" },   { "j", "й" },  { "k", "к" },  { "l", "л" },  { "m", "м" },
    { "n", "н" },    { "o", "о" },   { "p", "п" },  { "r", "р" },  { "s", "с" },  { "t", "т" },
    { "u", "у" },    { "f", "ф" },   { "h", "х" },  { "c", "ц" },  { "y", "ы" },  { "w", "в" },
    { "q", "к" },    { "x", "кс" },  { "e", "э" },  { "", "ь" },   { "", "ъ" },
};

static bool
starts_with(anx_text text, size_t at, const char *with)
{
    size_t n = strlen(with);

    return n > 0 && text.size - at >= n && memcmp(text.data + at, with, n) == 0;
}

static void
append(char *out, size_t *size, const char *text)
{
    size_t n = strlen(text);

    if (*size + n <= WORD_MAX) {
        memcpy(out + *size, text, n);
        *size += n;
    }
}

/* Letters for which there is no other way are kept. */
static void
transliterate(anx_text text, bool to_cyrillic, char *out, size_t *size)
{
    *size = 0;
    for (size_t at = 0; at < text.size;) {
        size_t i = 0;

        while (i < ANX_COUNT_OF(letters) &&
               !starts_with(text, at, to_cyrillic ? letters[i].latin : letters[i].cyrillic))
            i++;
        if (i < ANX_COUNT_OF(letters)) {
            append(out, size, to_cyrillic ? letters[i].cyrillic : letters[i].latin);
            at += strlen(to_cyrillic ? letters[i].latin : letters[i].cyrillic);
        } else {
            const char kept[2] = { text.data[at++], '\0' };

            append(out, size, kept);
        }
    }
}

static void
swap_layout(anx_text text, char *out, size_t *size)
{
    *size = 0;
    for (size_t at = 0; at < text.size;) {
        const char *latin = memchr(keys_latin, text.data[at], sizeof(keys_latin) - 1);
        size_t i = 0;

        if (latin) {
            append(out, size, keys_cyrillic[latin - keys_latin]);
            at++;
            continue;
        }
        while (i < ANX_COUNT_OF(keys_cyrillic) && !starts_with(text, at, keys_cyrillic[i]))
            i++;
        {
            const char key[2] = { i < ANX_COUNT_OF(keys_cyrillic) ? keys_latin[i] : text.data[at], '\0' };

            append(out, size, key);
            at += i < ANX_COUNT_OF(keys_cyrillic) ? strlen(keys_cyrillic[i]) : 1;
        }
    }
}

static anx_status
find_other_letters(struct expander *e, const struct query_word *word, struct forms *out)
{
    const struct text_config *config = e->index->config;
    bool is_latin = (unsigned char) word->word.data[0] < 0x80;
    char text[WORD_MAX + 1];
    struct spelling s = { .word = word, .has_forms = !word->is_typo };
    anx_status st = ANX_OK;

    if (config->translit) {
        transliterate(word->word, is_latin, text, &s.text.size);
        s.text.data = text;
        s.percent = (float) config->ranking.translit;
        if (s.text.size > 0 && !anx_text_equal(s.text, word->word))
            st = find_spelling(e, &s, out);
    }
    if (st == ANX_OK && config->kb_layout) {
        swap_layout(word->word, text, &s.text.size);
        s.text.data = text;
        s.percent = (float) config->ranking.kblayout;
        if (s.text.size > 0 && !anx_text_equal(s.text, word->word))
            st = find_spelling(e, &s, out);
    }
    return st;
}

/* ---- Several words for one ---- */

/* The words of a text, each with its forms, to be found together. Nothing is added when one of them has none,
 * or when there is no word at all. A single one becomes forms of the word itself. */
static anx_status
add_group(struct expander *e, anx_text text, float percent, uint32_t distance, bool has_forms,
          struct forms *out, struct form_group **groups)
{
    const struct text_config *config = e->index->config;
    struct form_group *group = anx_arena_array(e->arena, 1, sizeof(*group));
    struct query_word plain = { .boost = 1 };
    struct splitting s;
    struct token token;
    size_t n = 0;
    anx_status st = ANX_OK;

    split_begin(&s, config, text);
    while (split_next(&s, &token))
        n += !token.is_part;
    if (!group || !(group->words = anx_arena_array(e->arena, n + 1, sizeof(*group->words))))
        return fail_memory(e);
    group->distance = distance;
    split_begin(&s, config, text);
    while (st == ANX_OK && split_next(&s, &token)) {
        struct spelling spelling = { token.word, percent, &plain, has_forms };

        if (token.is_part || config_stop_word(config, token.word))
            continue;
        st = find_spelling(e, &spelling, n == 1 ? out : &group->words[group->n]);
        forms_settle(&group->words[group->n]);
        if (n > 1 && group->words[group->n].n == 0)
            return st; /* a word that no row has */
        group->n++;
    }
    if (st == ANX_OK && n > 1 && group->n > 0) {
        group->next = *groups;
        *groups = group;
    }
    return st;
}

static anx_status
find_synonyms(struct expander *e, const struct query_word *word, struct forms *out,
              struct form_group **groups)
{
    const struct text_config *config = e->index->config;
    float percent = (float) config->ranking.synonyms;
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < config->n_synonym; i++) {
        const struct synonym *s = &config->synonyms[i];
        bool is_meant = false;

        for (size_t t = 0; !is_meant && t < s->n_token; t++) {
            anx_text token = split_single(config, s->tokens[t], e->arena);

            is_meant = token.data && anx_text_equal(token, word->word);
        }
        for (size_t a = 0; is_meant && st == ANX_OK && a < s->n_alternative; a++)
            st = add_group(e, s->alternatives[a], percent, 0, true, out, groups);
    }
    return st;
}

/* "user-friendly": "userfriendly", and "user" before "friendly". */
static anx_status
find_parts(struct expander *e, const struct query_word *word, struct forms *out, struct form_group **groups)
{
    const struct text_config *config = e->index->config;
    const unsigned char *at = (const unsigned char *) word->word.data, *end = at + word->word.size;
    char joined[WORD_MAX + 1], spaced[WORD_MAX + 1];
    size_t n_joined = 0, n_spaced = 0;
    struct spelling s = { .word = word,
                          .percent = (float) config->ranking.delimited,
                          .has_forms = !word->is_typo };
    anx_status st;

    while (at < end) {
        const unsigned char *before = at;
        bool is_delimiter = split_is_symbol(&config->delimiters, utf8_next(&at, end));

        if (!is_delimiter) {
            memcpy(joined + n_joined, before, (size_t) (at - before));
            memcpy(spaced + n_spaced, before, (size_t) (at - before));
            n_joined += (size_t) (at - before);
        }
        n_spaced += is_delimiter ? 1 : (size_t) (at - before);
        if (is_delimiter)
            spaced[n_spaced - 1] = ' ';
    }
    if (n_joined == word->word.size || n_joined == 0)
        return ANX_OK;
    s.text = (anx_text) { joined, n_joined };
    st = find_spelling(e, &s, out);
    if (st == ANX_OK)
        st = add_group(e, (anx_text) { spaced, n_spaced }, s.percent, 1, !word->is_typo, out, groups);
    return st;
}

/* "dicaprio" is nowhere, but "di" and "caprio" are. */
static anx_status
find_halves(struct expander *e, const struct query_word *word, struct forms *out, struct form_group **groups)
{
    const struct words *words = &e->index->words;
    const unsigned char *start = (const unsigned char *) word->word.data, *at = start,
                        *end = start + word->word.size;
    anx_status st = ANX_OK;

    for (size_t n = 1; st == ANX_OK && at < end; n++) {
        anx_text first, second;
        char spaced[WORD_MAX + 2];

        (void) utf8_next(&at, end);
        first = (anx_text) { (const char *) start, (size_t) (at - start) };
        second = (anx_text) { (const char *) at, (size_t) (end - at) };
        if (n < HALF_MIN || n + HALF_MIN > word->n_letter || words_find(words, first) == NO_WORD ||
            words_find(words, second) == NO_WORD)
            continue;
        memcpy(spaced, first.data, first.size);
        spaced[first.size] = ' ';
        memcpy(spaced + first.size + 1, second.data, second.size);
        st = add_group(e, (anx_text) { spaced, word->word.size + 1 },
                       (float) e->index->config->ranking.split, 1, false, out, groups);
    }
    return st;
}

/* ---- All of it ---- */

static bool
has_pattern(const struct query_word *word)
{
    return word->is_prefix || word->is_suffix || word->is_typo;
}

anx_status
expand_word(struct expander *e, const struct query_word *word, struct forms *out, struct form_group **groups)
{
    const struct text_config *config = e->index->config;
    struct spelling s = { word->word, (float) config->ranking.full_match, word, true };
    anx_status st = find_spelling(e, &s, out);

    if (st == ANX_OK && !word->is_exact)
        st = find_other_letters(e, word, out);
    if (st == ANX_OK && !word->is_exact)
        st = find_synonyms(e, word, out, groups);
    if (st == ANX_OK && !word->is_exact)
        st = find_parts(e, word, out, groups);
    if (st == ANX_OK && config->split && !word->is_exact && !has_pattern(word) && out->n == 0 && !*groups)
        st = find_halves(e, word, out, groups);
    forms_settle(out);
    return st;
}
