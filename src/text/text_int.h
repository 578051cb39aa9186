/* Private to the text room. README.md has the pictures. */
#ifndef ANX_TEXT_INT_H
#define ANX_TEXT_INT_H

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "text/text.h"

enum {
    WORD_MAX = 255,    /* bytes of a folded word; longer ones are cut */
    STEMMERS_MAX = 16,
    SYMBOLS_MAX = 64,  /* extra_word_symbols, word_part_delimiters */
    NO_WORD = UINT32_MAX,
};

/* ---- Letters (letters.c) ---- */

enum letter_class { LETTER_NONE, LETTER_WORD, LETTER_MARK };
enum letter_class letter_class(uint32_t code);
uint32_t letter_base(uint32_t code); /* a folded letter without its accents */
/* Appends UTF-8; returns the size, at most 4. */
size_t letter_encode(uint32_t code, char *out);
/* Code points of well-formed text; at most max. */
size_t letters_decode(anx_text text, uint32_t *out, size_t max);

/* ---- Configuration ---- */

struct text_field_config {
    double bm25_boost, bm25_weight, term_len_boost, term_len_weight, position_boost, position_weight;
};
struct stop_word {
    anx_text word;
    bool is_morpheme; /* may be found by patterns as part of longer words */
};
struct synonym {
    const anx_text *tokens, *alternatives;
    size_t n_token, n_alternative;
};
struct terms_boost {
    anx_text term;
    double boost;
};
struct symbols {
    uint32_t codes[SYMBOLS_MAX];
    size_t n;
};
enum bm25_type { BM25_RX, BM25_CLASSIC, BM25_WORD_COUNT };
enum keep_marks { KEEP_ACCENTS = 1, KEEP_ARABIC = 2, KEEP_HEBREW = 4, KEEP_CYRILLIC = 8 };
struct base_ranking {
    int64_t full_match, concat, split, prefix_min, suffix_min, typo, typo_penalty, stemmer_penalty, kblayout,
        translit, synonyms, delimited;
};
struct text_config {
    anx_arena *arena; /* owned; everything else lives in it */
    const anx_text *field_names;
    size_t n_field;
    struct text_field_config *fields; /* [n_field] */
    struct text_field_config field;   /* of fields that say nothing else */
    bool concat, split, translit, kb_layout, numbers, preselect;
    int64_t merge_limit, log_level, partial_match_decrease, min_rank, max_typos, max_typo_len, max_areas,
        max_total_areas, min_part_size, max_rebuild_steps, max_step_size;
    int64_t max_typo_distance, max_permutation_distance, max_missing, max_extra;
    double distance_boost, distance_weight, full_match_boost, sum_ratio, k1, b;
    enum bm25_type bm25;
    struct base_ranking ranking;
    unsigned keep; /* enum keep_marks */
    struct symbols extra, delimiters;
    const anx_text *stemmers;
    size_t n_stemmer;
    struct stop_word *stop_words; /* sorted */
    size_t n_stop_word;
    struct synonym *synonyms;
    size_t n_synonym;
    struct terms_boost *boosts; /* sorted */
    size_t n_boost;
};
const struct stop_word *config_stop_word(const struct text_config *config, anx_text word);
double config_boost(const struct text_config *config, anx_text word);
/* The standard lists (stop.c), each word terminated, the list by an empty one. */
extern const char text_stop_words_en[], text_stop_words_ru[];

/* ---- Cutting texts into words (split.c) ---- */

struct token {
    anx_text word;     /* folded; in the splitting, until the next call */
    size_t begin, end; /* bytes of the source */
    uint32_t position; /* number of the word in the text */
    bool is_part;      /* of the word given before: "user" of "user-friendly" */
};
struct splitting {
    const struct text_config *config;
    const unsigned char *start, *at, *end;
    uint32_t position;
    struct token whole;
    size_t part_at; /* in the word; SIZE_MAX: no parts to come */
    size_t size;
    char word[WORD_MAX + 8];
};
void split_begin(struct splitting *s, const struct text_config *config, anx_text text);
bool split_next(struct splitting *s, struct token *out);
/* May the code point stand inside of a word? */
bool split_is_word(const struct text_config *config, uint32_t code);
bool split_is_symbol(const struct symbols *symbols, uint32_t code);
/* Appends the folded code point, or nothing for a mark; false when there is no room. */
bool split_fold(const struct text_config *config, uint32_t code, char *word, size_t *size);
/* One folded word, which is in the arena; data NULL when the text is not exactly one (or memory is out). */
anx_text split_single(const struct text_config *config, anx_text text, anx_arena *arena);

/* ---- Postings of a word (postings.c) ----
 *
 * Blocks of entries in order of rows. An entry: varint of the row's distance from the one before (the first:
 * 0), varint of the number n of places, n varints: distances of places. A place is
 * field << 26 | position << 1 | is_part, ascending. */

enum { PLACE_FIELD_SHIFT = 26, PLACE_POSITION_MAX = (1 << 25) - 1 };
struct block {
    uint32_t first, last; /* rows */
    uint32_t n, size, capacity;
    uint8_t bytes[];
};
struct word_entries { /* inside of struct word */
    struct block **blocks; /* owned [capacity] */
    uint32_t n, capacity;
};
/* A prepared change: one entry put in. */
struct entry_change {
    struct block *blocks[3]; /* owned until done; NULL in [0]: appended in place */
    uint32_t n_block;
    uint32_t at;        /* place of the block */
    bool replaces;      /* the block at `at` goes */
    bool had_row;
    uint32_t row;
    const uint8_t *places; /* borrowed until done: n and distances */
    uint32_t size;
};
ANX_NODISCARD anx_status entries_begin(struct word_entries *rows, uint32_t row, const uint8_t *places,
                                       uint32_t size, struct entry_change *change, anx_error *err);
void entries_commit(struct word_entries *rows, struct entry_change *change);
void entries_abort(struct entry_change *change);
bool entries_has(const struct word_entries *rows, uint32_t row);
/* False: it was not there. */
bool entries_remove(struct word_entries *rows, uint32_t row);
void entries_free(struct word_entries *rows);
size_t entries_memory(const struct word_entries *rows);
struct cursor {
    const struct word_entries *rows;
    uint32_t block, i;
    const uint8_t *at;
    /* Of the entry that cursor_next gave */
    uint32_t row, n_place;
    const uint8_t *places; /* the distances */
};
void cursor_begin(struct cursor *c, const struct word_entries *rows);
bool cursor_next(struct cursor *c);
uint32_t varint_read(const uint8_t **at);
size_t varint_write(uint8_t *out, uint32_t value); /* at most 5 bytes */
/* NULL, or what is wrong. *n_row: entries. */
const char *entries_complaint(const struct word_entries *rows, uint32_t *n_row);

/* ---- The dictionary (words.c) ---- */

struct word {
    char *text; /* owned; NULL: a free number */
    struct word_entries rows;
    uint32_t n_row, hash;
    uint8_t size;
};
struct words {
    struct word *list; /* owned [capacity] */
    uint64_t *signatures; /* owned [capacity]: pairs of letters, for scans */
    uint32_t *stems[STEMMERS_MAX]; /* owned [capacity]: hashes of stems */
    uint32_t n, capacity, n_live;
    uint32_t free; /* first free number, chained by hash; NO_WORD */
    uint32_t *table; /* owned [n_table]: number + 1 */
    uint32_t n_table;
    size_t n_stemmer;
    struct sb_stemmer *stemmers[STEMMERS_MAX]; /* owned; writers only */
    size_t text_bytes;
};
ANX_NODISCARD anx_status words_init(struct words *words, const struct text_config *config, anx_error *err);
void words_fini(struct words *words);
uint32_t words_find(const struct words *words, anx_text text);
ANX_NODISCARD anx_status words_add(struct words *words, anx_text text, uint32_t *out, anx_error *err);
void words_drop(struct words *words, uint32_t word); /* one without rows */
static inline anx_text
word_text(const struct word *word)
{
    return (anx_text) { word->text, word->size };
}
/* Stemmers for one thread; NULL list members on failure of memory. */
ANX_NODISCARD anx_status stemmers_open(const struct text_config *config,
                                       struct sb_stemmer *out[STEMMERS_MAX], anx_error *err);
void stemmers_close(struct sb_stemmer *list[STEMMERS_MAX]);
/* The stem of a folded word: borrowed until the next call. */
anx_text stem_word(struct sb_stemmer *stemmer, anx_text word);
uint32_t stem_hash(anx_text stem);
bool stemmer_exists(anx_text language);

/* Which pairs of letters a text has, as bits. Edges are letters too. */
uint64_t signature_of(const uint32_t *codes, size_t n, bool has_start, bool has_end);

/* ---- Typos (typos.c) ---- */

/* Can two words become the same by leaving letters out, as the limits allow? *n: how many edits that is. */
bool typo_match(const struct text_config *config, const uint32_t *a, size_t n_a, const uint32_t *b,
                size_t n_b, unsigned *n);
/* Pairs of letters that one word may have and the other not. */
unsigned typo_lost_pairs(const struct text_config *config);

/* ---- The index ---- */

struct row_words { /* what a row has, so that it can be taken out */
    uint64_t hash; /* of its texts */
    uint32_t n, size;
    uint8_t bytes[]; /* n numbers of words, ascending: varints of distances */
};
struct word_change {
    uint32_t word;
    struct entry_change entry;
};
struct text_index {
    struct text_config *config; /* owned */
    struct words words;
    struct row_words **rows; /* owned [capacity] */
    uint32_t *lengths;       /* owned [capacity * n_field]: words per field */
    size_t capacity, n_row;
    uint64_t *total_lengths; /* owned [n_field] */
    size_t rows_bytes;
    /* The change that is being made, and its scratch memory */
    struct pending_change {
        bool is_open, is_same;
        uint32_t row;
        struct row_words *next;
        struct word_change *changes; /* owned */
        size_t n, change_capacity;
        uint64_t *tokens; /* owned: word << 32 | place */
        size_t n_token, token_capacity;
        uint8_t *bytes; /* owned: places */
        size_t byte_capacity;
        uint32_t lengths[TEXT_FIELDS_MAX];
    } change;
};
static inline uint32_t
index_length(const struct text_index *index, uint32_t row, size_t field)
{
    return index->lengths[row * index->config->n_field + field];
}

/* ---- Queries (query.c) ---- */

enum text_op { TEXT_OR, TEXT_AND, TEXT_NOT };
struct field_choice {
    float boost; /* 0: not searched */
    bool sums;   /* + in front of it */
};
struct query_word {
    anx_text word; /* folded, without operators */
    size_t n_letter;
    bool is_exact, is_prefix, is_suffix, is_typo; /* =word, word*, *word, word~ */
    float boost;
};
struct query_part {
    enum text_op op;
    struct query_word *words;
    size_t n; /* more than one: a phrase */
    uint32_t distance;
    bool is_phrase;
    const struct field_choice *fields; /* [n_field] */
};
struct text_query {
    struct query_part *parts;
    size_t n;
    size_t n_word; /* of parts that are not NOT */
    size_t longest; /* letters of the longest word */
};
ANX_NODISCARD anx_status text_query_read(const struct text_config *config, anx_text text, anx_arena *arena,
                                         struct text_query *out, anx_error *err);

/* ---- Forms of a word (expand.c) ---- */

struct form { /* a word of the dictionary that answers to a word of the query */
    uint32_t word;
    float percent; /* of a full match: 100 */
};
struct forms {
    struct form *items; /* arena; by word, each once */
    size_t n, capacity;
};
/* Words that must all be there for a word of the query: parts of it, an alternative of several words. */
struct form_group {
    struct forms *words; /* [n] */
    size_t n;
    uint32_t distance; /* of neighbors in order; 0: anywhere */
    struct form_group *next;
};
struct expander {
    const struct text_index *index;
    anx_arena *arena;
    struct sb_stemmer *stemmers[STEMMERS_MAX];
    bool (*goes_on)(void *context);
    void *context;
    anx_error *err;
};
ANX_NODISCARD anx_status expand_word(struct expander *e, const struct query_word *word, struct forms *out,
                                     struct form_group **groups);
ANX_NODISCARD anx_status forms_add(struct expander *e, struct forms *forms, uint32_t word, float percent);
void forms_settle(struct forms *forms); /* by word, each once with its best percent */

/* ---- Marks ---- */

struct mark_phrase {
    struct forms *words;
    size_t n;
    uint32_t distance;
    uint64_t fields; /* bits */
    struct mark_phrase *next;
};
struct mark_word {
    uint32_t word;
    uint64_t fields;
};
struct text_marks {
    struct mark_word *words; /* by word */
    size_t n, capacity;
    struct mark_phrase *phrases;
};

#endif
