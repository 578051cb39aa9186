/* Texts into words. A word begins with a letter or a digit and goes on over letters, digits and the extra
 * symbols of the configuration. It is folded on the way: simple case folding, accents off, marks dropped.
 * A word that has delimiters inside is followed by its parts, at the same position. */
#include "text/text_int.h"

#include "doc/characters.h"

bool
split_is_symbol(const struct symbols *symbols, uint32_t code)
{
    for (size_t i = 0; i < symbols->n; i++)
        if (symbols->codes[i] == code)
            return true;
    return false;
}

bool
split_is_word(const struct text_config *config, uint32_t code)
{
    return letter_class(code) != LETTER_NONE || split_is_symbol(&config->extra, code);
}

/* Which of the kept kinds a code point belongs to. */
static unsigned
mark_kind(uint32_t code)
{
    if (code >= 0x590 && code < 0x600)
        return KEEP_HEBREW;
    if (code >= 0x600 && code < 0x780)
        return KEEP_ARABIC;
    if (code >= 0x400 && code < 0x530)
        return KEEP_CYRILLIC;
    return code < 0x400 || (code >= 0x1e00 && code < 0x2000) ? KEEP_ACCENTS : 0;
}

/* Marks of other scripts are vowels and such: dropping them would make other words. */
static bool
is_dropped(const struct text_config *config, uint32_t code)
{
    unsigned kind = mark_kind(code);

    return kind != 0 && !(config->keep & kind);
}

bool
split_fold(const struct text_config *config, uint32_t code, char *word, size_t *size)
{
    code = text_fold(code);
    if (letter_class(code) == LETTER_MARK && is_dropped(config, code))
        return true;
    if (code >= 0x80 && !(config->keep & mark_kind(code)))
        code = letter_base(code);
    if (*size + 4 > WORD_MAX)
        return false;
    *size += letter_encode(code, word + *size);
    return true;
}

void
split_begin(struct splitting *s, const struct text_config *config, anx_text text)
{
    s->config = config;
    s->start = s->at = (const unsigned char *) (text.size > 0 ? text.data : "");
    s->end = s->start + text.size;
    s->position = 0;
    s->whole = (struct token) { .is_part = false };
    s->part_at = SIZE_MAX;
}

/* The next part between delimiters that is long enough. */
static bool
next_part(struct splitting *s, struct token *out)
{
    while (s->part_at < s->size) {
        const unsigned char *begin = (const unsigned char *) s->word + s->part_at, *at = begin;
        const unsigned char *end = (const unsigned char *) s->word + s->size, *stop = end;
        int64_t n = 0;

        while (at < end) {
            stop = at;
            if (split_is_symbol(&s->config->delimiters, utf8_next(&at, end)))
                break;
            n++;
            stop = at;
        }
        s->part_at = (size_t) (at - (const unsigned char *) s->word);
        if (n < s->config->min_part_size)
            continue;
        *out = s->whole;
        out->is_part = true;
        out->word = (anx_text) { (const char *) begin, (size_t) (stop - begin) };
        return true;
    }
    s->part_at = SIZE_MAX;
    return false;
}

bool
split_next(struct splitting *s, struct token *out)
{
    bool has_delimiter = false;

    if (s->part_at != SIZE_MAX && next_part(s, out))
        return true;
    for (;;) { /* to the first letter */
        const unsigned char *before = s->at;

        if (s->at >= s->end)
            return false;
        if (letter_class(utf8_next(&s->at, s->end)) == LETTER_WORD) {
            s->whole.begin = (size_t) (before - s->start);
            s->at = before;
            break;
        }
    }
    s->size = 0;
    while (s->at < s->end) {
        const unsigned char *before = s->at;
        uint32_t code = utf8_next(&s->at, s->end);

        if (!split_is_word(s->config, code)) {
            s->at = before;
            break;
        }
        has_delimiter |= split_is_symbol(&s->config->delimiters, code);
        (void) split_fold(s->config, code, s->word, &s->size); /* what is too long is cut */
    }
    s->whole.end = (size_t) (s->at - s->start);
    s->whole.position = s->position++;
    s->whole.word = (anx_text) { s->word, s->size };
    s->part_at = has_delimiter ? 0 : SIZE_MAX;
    *out = s->whole;
    return true;
}

anx_text
split_single(const struct text_config *config, anx_text text, anx_arena *arena)
{
    struct splitting s;
    struct token token;
    anx_text word;

    split_begin(&s, config, text);
    if (!split_next(&s, &token) || token.begin != 0 || token.end != text.size)
        return (anx_text) { NULL, 0 };
    word = anx_arena_text(arena, token.word);
    return word;
}
