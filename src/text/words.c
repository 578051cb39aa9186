/* The dictionary: word <-> number. A hash table finds whole words; patterns and typos go over an array of
 * signatures, eight bytes per word, which say which pairs of letters a word has. At half a nanosecond per
 * word that is quicker than it sounds, needs no order and no rebuilding, and a change of the dictionary costs
 * one store. Beside it stand, per stemmer, hashes of stems. */
#include "text/text_int.h"

#include <libstemmer.h>

#include "base/hash.h"

enum { FIRST_WORDS = 64 };

/* ---- Stemmers ---- */

/* Names of the original's configuration that libstemmer spells otherwise. */
static const struct {
    const char *ours, *theirs;
} languages[] = {
    { "en", "english" },   { "ru", "russian" },   { "nl", "dutch" },      { "fin", "finnish" },
    { "de", "german" },    { "da", "danish" },    { "fr", "french" },     { "it", "italian" },
    { "hu", "hungarian" }, { "no", "norwegian" }, { "pt", "portuguese" }, { "ro", "romanian" },
    { "es", "spanish" },   { "sv", "swedish" },   { "tr", "turkish" },
};

static struct sb_stemmer *
open_stemmer(anx_text language)
{
    char name[32];

    for (size_t i = 0; i < ANX_COUNT_OF(languages); i++)
        if (anx_text_equal_fold(language, anx_text_of(languages[i].ours)))
            return sb_stemmer_new(languages[i].theirs, NULL);
    if (language.size >= sizeof(name))
        return NULL;
    if (language.size > 0)
        memcpy(name, language.data, language.size);
    name[language.size] = '\0';
    return sb_stemmer_new(name, NULL);
}

bool
stemmer_exists(anx_text language)
{
    struct sb_stemmer *stemmer = open_stemmer(language);

    sb_stemmer_delete(stemmer);
    return stemmer != NULL;
}

anx_status
stemmers_open(const struct text_config *config, struct sb_stemmer *out[STEMMERS_MAX], anx_error *err)
{
    for (size_t i = 0; i < config->n_stemmer; i++) {
        out[i] = open_stemmer(config->stemmers[i]);
        if (!out[i])
            return anx_fail(err, ANX_E_NOMEM, "could not allocate a stemmer for '%.*s'",
                            ANX_TEXT_ARG(config->stemmers[i]));
    }
    return ANX_OK;
}

void
stemmers_close(struct sb_stemmer *list[STEMMERS_MAX])
{
    for (size_t i = 0; i < STEMMERS_MAX; i++) {
        sb_stemmer_delete(list[i]);
        list[i] = NULL;
    }
}

anx_text
stem_word(struct sb_stemmer *stemmer, anx_text word)
{
    const sb_symbol *symbols = sb_stemmer_stem(stemmer, (const sb_symbol *) word.data, (int) word.size);

    return symbols ? (anx_text) { (const char *) symbols, (size_t) sb_stemmer_length(stemmer) } : word;
}

static uint32_t
hash32(anx_text text)
{
    return (uint32_t) anx_hash(text.data, text.size);
}

uint32_t
stem_hash(anx_text text)
{
    return hash32(text);
}

/* ---- Signatures ---- */

static uint64_t
pair_bit(uint32_t a, uint32_t b)
{
    return (uint64_t) 1 << ((a * 0x9e3779b1u + b * 0x85ebca6bu) >> 26);
}

uint64_t
signature_of(const uint32_t *codes, size_t n, bool has_start, bool has_end)
{
    uint64_t bits = 0;

    if (n > 0 && has_start)
        bits |= pair_bit(1, codes[0]);
    for (size_t i = 1; i < n; i++)
        bits |= pair_bit(codes[i - 1], codes[i]);
    if (n > 0 && has_end)
        bits |= pair_bit(codes[n - 1], 2);
    return bits;
}

/* ---- Life ---- */

anx_status
words_init(struct words *words, const struct text_config *config, anx_error *err)
{
    *words = (struct words) { .free = NO_WORD, .n_stemmer = config->n_stemmer };
    return stemmers_open(config, words->stemmers, err);
}

void
words_fini(struct words *words)
{
    for (uint32_t i = 0; i < words->n; i++) {
        entries_free(&words->list[i].rows);
        anx_free(NULL, words->list[i].text);
    }
    for (size_t i = 0; i < STEMMERS_MAX; i++)
        anx_free(NULL, words->stems[i]);
    stemmers_close(words->stemmers);
    anx_free(NULL, words->signatures);
    anx_free(NULL, words->list);
    anx_free(NULL, words->table);
    *words = (struct words) { 0 };
}

/* ---- The hash table: linear probing, without gravestones ---- */

uint32_t
words_find(const struct words *words, anx_text text)
{
    uint32_t hash = hash32(text), mask = words->n_table - 1;

    for (uint32_t at = hash & mask; words->n_table > 0 && words->table[at]; at = (at + 1) & mask) {
        const struct word *word = &words->list[words->table[at] - 1];

        if (word->hash == hash && anx_text_equal(word_text(word), text))
            return words->table[at] - 1;
    }
    return NO_WORD;
}

static void
enter(uint32_t *table, uint32_t n_table, uint32_t hash, uint32_t number)
{
    uint32_t at = hash & (n_table - 1);

    while (table[at])
        at = (at + 1) & (n_table - 1);
    table[at] = number + 1;
}

static anx_status
reserve_table(struct words *words, anx_error *err)
{
    uint32_t n = words->n_table ? 2 * words->n_table : 2 * FIRST_WORDS, *table;

    if (words->n_live < words->n_table / 4 * 3)
        return ANX_OK;
    table = anx_alloc_zeroed(NULL, n, sizeof(*table));
    if (!table)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a dictionary of %u words", words->n_live);
    for (uint32_t i = 0; i < words->n; i++)
        if (words->list[i].text)
            enter(table, n, words->list[i].hash, i);
    anx_free(NULL, words->table);
    words->table = table;
    words->n_table = n;
    return ANX_OK;
}

static void
leave(struct words *words, uint32_t number)
{
    uint32_t mask = words->n_table - 1, at = words->list[number].hash & mask, hole;

    while (words->table[at] != number + 1)
        at = (at + 1) & mask;
    hole = at;
    for (;;) { /* whoever was pushed behind the hole moves up */
        uint32_t home;

        at = (at + 1) & mask;
        if (!words->table[at])
            break;
        home = words->list[words->table[at] - 1].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            words->table[hole] = words->table[at];
            hole = at;
        }
    }
    words->table[hole] = 0;
}

/* ---- Words ---- */

static bool
grow(void **list, size_t capacity, size_t size)
{
    void *more = anx_realloc_array(NULL, *list, capacity, size);

    if (more)
        *list = more;
    return more != NULL;
}

static anx_status
reserve_words(struct words *words, anx_error *err)
{
    uint32_t capacity = words->capacity ? words->capacity + words->capacity / 2 : FIRST_WORDS;
    void *list = words->list, *signatures = words->signatures;
    bool is_fine;

    if (words->free != NO_WORD || words->n < words->capacity)
        return ANX_OK;
    if (capacity > UINT32_MAX / 2)
        return anx_fail(err, ANX_E_LIMIT, "more than %u different words", words->n);
    is_fine = grow(&list, capacity, sizeof(*words->list));
    words->list = list;
    is_fine = is_fine && grow(&signatures, capacity, sizeof(*words->signatures));
    words->signatures = signatures;
    for (size_t i = 0; is_fine && i < words->n_stemmer; i++) {
        void *stems = words->stems[i];

        is_fine = grow(&stems, capacity, sizeof(*words->stems[i]));
        words->stems[i] = stems;
    }
    if (!is_fine)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a dictionary of %u words", capacity);
    words->capacity = capacity;
    return ANX_OK;
}

static void
describe(struct words *words, uint32_t number, anx_text text)
{
    uint32_t codes[WORD_MAX];
    size_t n = letters_decode(text, codes, WORD_MAX);

    words->signatures[number] = signature_of(codes, n, true, true);
    for (size_t i = 0; i < words->n_stemmer; i++)
        words->stems[i][number] = stem_hash(stem_word(words->stemmers[i], text));
}

anx_status
words_add(struct words *words, anx_text text, uint32_t *out, anx_error *err)
{
    uint32_t number = words_find(words, text);
    struct word *word;
    char *copy;
    anx_status st;

    *out = number;
    if (number != NO_WORD)
        return ANX_OK;
    st = reserve_table(words, err);
    if (st == ANX_OK)
        st = reserve_words(words, err);
    if (st != ANX_OK)
        return st;
    copy = anx_alloc_bytes(NULL, text.size);
    if (!copy)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a word");
    memcpy(copy, text.data, text.size);
    number = words->free;
    if (number != NO_WORD)
        words->free = words->list[number].hash;
    else
        number = words->n++;
    word = &words->list[number];
    *word = (struct word) { .text = copy, .size = (uint8_t) text.size, .hash = hash32(text) };
    describe(words, number, text);
    enter(words->table, words->n_table, word->hash, number);
    words->n_live++;
    words->text_bytes += text.size;
    *out = number;
    return ANX_OK;
}

void
words_drop(struct words *words, uint32_t number)
{
    struct word *word = &words->list[number];

    ANX_ASSERT(word->text && word->n_row == 0);
    leave(words, number);
    entries_free(&word->rows);
    words->text_bytes -= word->size;
    words->n_live--;
    anx_free(NULL, word->text);
    *word = (struct word) { .hash = words->free };
    words->free = number;
    words->signatures[number] = 0;
    for (size_t i = 0; i < words->n_stemmer; i++)
        words->stems[i][number] = 0;
}
