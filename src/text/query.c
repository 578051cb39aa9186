/* The query language: words with operators, phrases, fields. Its words are folded like those of texts. */
#include "text/text_int.h"

#include "doc/characters.h"

enum { QUERY_BYTES_MAX = 1 << 16, QUERY_WORDS_MAX = 1024, DISTANCE_MAX = 1000000 };

struct reader {
    const struct text_config *config;
    const unsigned char *at, *end;
    anx_arena *arena;
    struct text_query *out;
    struct query_part *open; /* the phrase that is being read */
    uint32_t quote;
    const struct field_choice *fields;
    size_t n_word;
    bool has_more_than_not;
    anx_status status;
    anx_error *err;
};

static void
fail(struct reader *r, anx_status status, const char *text)
{
    if (r->status == ANX_OK)
        r->status = anx_fail(r->err, status, "%s", text);
}

static void
fail_memory(struct reader *r)
{
    fail(r, ANX_E_NOMEM, "could not allocate memory for a full text query");
}

/* ---- Bytes ---- */

static uint32_t
peek(const struct reader *r)
{
    const unsigned char *at = r->at;

    return at < r->end ? utf8_next(&at, r->end) : 0;
}

static bool
take(struct reader *r, uint32_t code)
{
    if (r->at >= r->end || peek(r) != code)
        return false;
    r->at++;
    return true;
}

static bool
is_quote(uint32_t code)
{
    return code == '"' || code == '\'';
}

static bool
is_space(uint32_t code)
{
    return code == ' ' || (code >= '\t' && code <= '\r');
}

/* A decimal number without sign. False: there is none. */
static bool
take_number(struct reader *r, double *out)
{
    double value = 0, scale = 1;
    const unsigned char *start = r->at;

    for (; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
        value = value * 10 + (*r->at - '0');
    if (r->at < r->end && *r->at == '.')
        for (r->at++; r->at < r->end && *r->at >= '0' && *r->at <= '9'; r->at++)
            value += (scale /= 10) * (*r->at - '0');
    *out = value;
    return r->at > start && value < 1e30;
}

static void
read_boost(struct reader *r, float *out)
{
    double value;

    if (!take(r, '^'))
        return;
    if (!take_number(r, &value))
        fail(r, ANX_E_PARSE_DSL,
             r->at < r->end ? "Expected number after '^' operator in search query DSL"
                            : "Expected number after '^' operator in search query DSL, but found nothing");
    *out = (float) value;
}

/* ---- Fields: @name^2,+other,* ---- */

static bool
is_name(uint32_t code)
{
    return letter_class(code) != LETTER_NONE || code == '_' || code == '.' || code == '+' || code == '-';
}

static bool
set_fields(struct reader *r, anx_text name, struct field_choice choice, struct field_choice *out)
{
    bool is_all = anx_text_equal(name, ANX_TEXT("*")), is_known = is_all;

    for (size_t f = 0; f < r->config->n_field; f++) {
        bool is_named = anx_text_equal_fold(name, r->config->field_names[f]);

        if (is_named || (is_all && !(out[f].boost > 0)))
            out[f] = choice;
        is_known |= is_named;
    }
    if (!is_known && r->status == ANX_OK)
        r->status = anx_fail(r->err, ANX_E_LOGIC, "Field '%.*s' is not included into fulltext index",
                             ANX_TEXT_ARG(name));
    return is_known;
}

static void
read_fields(struct reader *r)
{
    struct field_choice *out = anx_arena_array(r->arena, r->config->n_field, sizeof(*out));

    if (!out) {
        fail_memory(r);
        return;
    }
    do {
        struct field_choice choice = { .boost = 1 };
        const unsigned char *start;

        while (is_space(peek(r)) && r->at < r->end)
            r->at++;
        choice.sums = take(r, '+');
        start = r->at;
        if (!take(r, '*'))
            while (r->at < r->end && is_name(peek(r)))
                (void) utf8_next(&r->at, r->end);
        if (r->at == start) {
            fail(r, ANX_E_PARSE_DSL, "Expected field name after '@' operator in search query DSL");
            return;
        }
        {
            anx_text name = { (const char *) start, (size_t) (r->at - start) };

            read_boost(r, &choice.boost);
            if (r->status != ANX_OK || !set_fields(r, name, choice, out))
                return;
        }
    } while (take(r, ','));
    r->fields = out;
}

/* ---- Parts ---- */

static struct query_part *
new_part(struct reader *r, enum text_op op)
{
    struct query_part *part = &r->out->parts[r->out->n];

    *part = (struct query_part) { .op = op, .distance = 1, .fields = r->fields };
    part->words = anx_arena_array(r->arena, 1, sizeof(*part->words));
    if (!part->words)
        fail_memory(r);
    r->out->n++;
    return part;
}

static void
push_word(struct reader *r, struct query_part *part, const struct query_word *word)
{
    struct query_word *words = part->words;

    if (part->n > 0 && (part->n & (part->n - 1)) == 0) { /* a power of two: full */
        words = anx_arena_array(r->arena, 2 * part->n, sizeof(*words));
        if (!words) {
            fail_memory(r);
            return;
        }
        memcpy(words, part->words, part->n * sizeof(*words));
        part->words = words;
    }
    words[part->n++] = *word;
    if (++r->n_word > QUERY_WORDS_MAX)
        r->status = anx_fail(r->err, ANX_E_LIMIT, "full text query has more than %d words", QUERY_WORDS_MAX);
}

/* Letters of a word up to an operator, folded. */
static anx_text
read_letters(struct reader *r)
{
    char word[WORD_MAX + 8];
    size_t size = 0;
    const unsigned char *start = r->at;

    while (r->at < r->end) {
        const unsigned char *before = r->at;
        uint32_t code = utf8_next(&r->at, r->end);

        if (code == '\\') {
            if (r->at >= r->end) {
                fail(r, ANX_E_PARSE_DSL, "Expected symbol after \\ , but found nothing");
                break;
            }
            code = utf8_next(&r->at, r->end);
            if (code >= UTF8_BROKEN)
                continue;
        } else if ((r->open && code == r->quote) || !split_is_word(r->config, code) ||
                   (before == start && letter_class(code) == LETTER_NONE)) {
            r->at = before;
            break;
        }
        (void) split_fold(r->config, code, word, &size);
    }
    return anx_arena_text(r->arena, (anx_text) { word, size });
}

/* word* ~ ^2, in any order. */
static void
read_suffixes(struct reader *r, struct query_word *word)
{
    for (;;) {
        if (take(r, '*'))
            word->is_prefix = true;
        else if (peek(r) == '~' && take(r, '~'))
            word->is_typo = true;
        else if (peek(r) == '^' && r->at < r->end)
            read_boost(r, &word->boost);
        else
            return;
        if (r->status != ANX_OK)
            return;
    }
}

static bool
is_ignored(const struct reader *r, const struct query_word *word)
{
    const struct stop_word *stop = config_stop_word(r->config, word->word);

    return stop && !(stop->is_morpheme && (word->is_prefix || word->is_suffix || word->is_typo));
}

/* False: nothing was read, and the caller skips a byte. */
static bool
read_word(struct reader *r, enum text_op op)
{
    struct query_word word = { .boost = 1 };
    uint32_t codes[WORD_MAX];

    word.is_exact = take(r, '=');
    word.is_suffix = take(r, '*');
    if (r->open && peek(r) == '-' && r->at < r->end) {
        fail(r, ANX_E_PARSE_DSL, "Incorrect operator '-' inside of search phrase");
        return true;
    }
    if (r->open)
        take(r, '+');
    if (r->at < r->end && r->open && peek(r) == r->quote)
        return true;
    word.word = read_letters(r);
    if (!word.word.data)
        fail_memory(r);
    if (r->status != ANX_OK)
        return true;
    if (word.word.size == 0)
        return false;
    read_suffixes(r, &word);
    if (r->status != ANX_OK)
        return true;
    r->has_more_than_not |= op != TEXT_NOT;
    if (is_ignored(r, &word))
        return true;
    word.n_letter = letters_decode(word.word, codes, WORD_MAX);
    push_word(r, r->open ? r->open : new_part(r, op), &word);
    return true;
}

static void
close_phrase(struct reader *r)
{
    struct query_part *part = r->open;
    double distance;

    r->open = NULL;
    r->at++;
    if (r->at < r->end && *r->at == '~') {
        r->at++;
        if (!take_number(r, &distance))
            fail(r, ANX_E_PARSE_DSL, "Expected number after '~' operator in phrase");
        else if (distance < 1)
            fail(r, ANX_E_PARSE_DSL, "Expected positive integer after '~', but found '0'");
        else
            part->distance = distance < DISTANCE_MAX ? (uint32_t) distance : DISTANCE_MAX;
    }
    if (part->n == 0)
        r->out->n--; /* nothing but stop words */
    part->is_phrase = part->n > 1;
}

/* ---- The whole ---- */

static void
read_part(struct reader *r)
{
    enum text_op op = TEXT_OR;

    if (!r->open && take(r, '-'))
        op = TEXT_NOT;
    else if (!r->open && take(r, '+'))
        op = TEXT_AND;
    if (r->at < r->end && r->open && peek(r) == r->quote) {
        close_phrase(r);
        return;
    }
    if (r->at < r->end && !r->open && is_quote(peek(r))) {
        r->quote = peek(r);
        r->at++;
        r->has_more_than_not |= op != TEXT_NOT;
        r->open = new_part(r, op);
        return;
    }
    if (r->at < r->end && !read_word(r, op) && r->at < r->end)
        (void) utf8_next(&r->at, r->end);
}

static void
measure(struct text_query *query)
{
    for (size_t p = 0; p < query->n; p++) {
        const struct query_part *part = &query->parts[p];

        for (size_t i = 0; i < part->n; i++)
            if (part->words[i].n_letter > query->longest)
                query->longest = part->words[i].n_letter;
        if (part->op != TEXT_NOT)
            query->n_word += part->n;
    }
}

static const struct field_choice *
all_fields(struct reader *r)
{
    struct field_choice *out = anx_arena_array(r->arena, r->config->n_field, sizeof(*out));

    for (size_t f = 0; out && f < r->config->n_field; f++)
        out[f].boost = 1;
    return out;
}

anx_status
text_query_read(const struct text_config *config, anx_text text, anx_arena *arena, struct text_query *out,
                anx_error *err)
{
    struct reader r = { .config = config, .arena = arena, .out = out, .err = err };

    *out = (struct text_query) { 0 };
    r.at = (const unsigned char *) (text.size > 0 ? text.data : "");
    r.end = r.at + text.size;
    if (text.size > QUERY_BYTES_MAX)
        return anx_fail(err, ANX_E_LIMIT, "full text query has %zu bytes, at most %d are allowed", text.size,
                        QUERY_BYTES_MAX);
    out->parts = anx_arena_array(arena, text.size + 1, sizeof(*out->parts));
    r.fields = all_fields(&r);
    if (!out->parts || !r.fields) {
        fail_memory(&r);
        return r.status;
    }
    while (r.status == ANX_OK && r.at < r.end) {
        if (is_space(peek(&r)))
            r.at++;
        else if (!r.open && take(&r, '@'))
            read_fields(&r);
        else
            read_part(&r);
    }
    if (r.status == ANX_OK && r.open)
        fail(&r, ANX_E_PARSE_DSL, "No closing quote in full text search query DSL");
    measure(out);
    if (r.status == ANX_OK && out->n > 0 && !r.has_more_than_not)
        fail(&r, ANX_E_PARAMS, "Fulltext query can not contain only 'NOT' terms (i.e. terms with minus)");
    return r.status;
}
