/* The index: changes in two steps, the checker. See README.md for the pictures. */
#include <stdlib.h>

#include "base/hash.h"
#include "text/text_int.h"

enum { FIRST_TOKENS = 256, GAP = 8 /* positions between two texts of a field */ };

/* ---- Life ---- */

anx_status
text_index_create(struct text_config *config, struct text_index **out, anx_error *err)
{
    struct text_index *index = anx_alloc_zeroed(NULL, 1, sizeof(*index));
    anx_status st = ANX_OK;

    *out = NULL;
    if (!index) {
        text_config_destroy(config);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a text index");
    }
    index->config = config;
    index->total_lengths = anx_alloc_zeroed(NULL, config->n_field, sizeof(*index->total_lengths));
    if (!index->total_lengths)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a text index");
    if (st == ANX_OK)
        st = words_init(&index->words, config, err);
    if (st != ANX_OK) {
        text_index_destroy(index);
        return st;
    }
    *out = index;
    return ANX_OK;
}

void
text_index_destroy(struct text_index *index)
{
    if (!index)
        return;
    words_fini(&index->words);
    for (size_t i = 0; i < index->capacity; i++)
        anx_free(NULL, index->rows[i]);
    anx_free(NULL, index->rows);
    anx_free(NULL, index->lengths);
    anx_free(NULL, index->total_lengths);
    anx_free(NULL, index->change.changes);
    anx_free(NULL, index->change.tokens);
    anx_free(NULL, index->change.bytes);
    text_config_destroy(index->config);
    anx_free(NULL, index);
}

/* ---- Words of a change ---- */

static anx_status
fail_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate the words of a document");
}

static anx_status
add_token(struct pending_change *c, uint64_t token, anx_error *err)
{
    if (c->n_token == c->token_capacity) {
        size_t capacity = c->token_capacity ? 2 * c->token_capacity : FIRST_TOKENS;
        uint64_t *tokens = anx_realloc_array(NULL, c->tokens, capacity, sizeof(*tokens));

        if (!tokens)
            return fail_memory(err);
        c->tokens = tokens;
        c->token_capacity = capacity;
    }
    c->tokens[c->n_token++] = token;
    return ANX_OK;
}

static anx_status
add_text(struct text_index *index, size_t field, anx_text text, uint32_t *position, anx_error *err)
{
    struct pending_change *c = &index->change;
    struct splitting s;
    struct token token;
    uint32_t base = *position;

    split_begin(&s, index->config, text);
    while (split_next(&s, &token)) {
        uint32_t at = base + token.position, word;
        anx_status st;

        if (at >= PLACE_POSITION_MAX)
            return anx_fail(err, ANX_E_LIMIT, "a field of a text index has more than %d words",
                            PLACE_POSITION_MAX);
        *position = at + 1;
        if (config_stop_word(index->config, token.word))
            continue;
        st = words_add(&index->words, token.word, &word, err);
        if (st == ANX_OK)
            st = add_token(
                c, (uint64_t) word << 32 | (uint32_t) field << PLACE_FIELD_SHIFT | at << 1 | token.is_part,
                err);
        if (st != ANX_OK)
            return st;
        c->lengths[field] += !token.is_part;
    }
    return ANX_OK;
}

static anx_status
add_fields(struct text_index *index, const struct text_field *fields, anx_error *err)
{
    struct pending_change *c = &index->change;
    anx_status st = ANX_OK;

    c->n_token = 0;
    memset(c->lengths, 0, sizeof(c->lengths));
    for (size_t f = 0; f < index->config->n_field; f++) {
        uint32_t position = 0;

        for (size_t i = 0; st == ANX_OK && i < fields[f].n; i++) {
            st = add_text(index, f, fields[f].texts[i], &position, err);
            position += GAP;
        }
    }
    return st;
}

static int
compare_tokens(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return (x > y) - (x < y);
}

/* Words that only this change brought, when it is not made. */
static void
drop_unused(struct text_index *index)
{
    struct pending_change *c = &index->change;

    for (size_t i = 0; i < c->n_token; i++) {
        uint32_t word = (uint32_t) (c->tokens[i] >> 32);

        if (index->words.list[word].text && index->words.list[word].n_row == 0)
            words_drop(&index->words, word);
    }
}

/* ---- Preparing ---- */

static uint64_t
hash_fields(const struct text_index *index, const struct text_field *fields)
{
    uint64_t hash = 0;

    for (size_t f = 0; f < index->config->n_field; f++) {
        uint64_t part[3] = { hash, fields[f].n, f };

        hash = anx_hash(part, sizeof(part));
        for (size_t i = 0; i < fields[f].n; i++) {
            part[0] = hash;
            part[1] = anx_hash(fields[f].texts[i].data, fields[f].texts[i].size);
            hash = anx_hash(part, sizeof(part));
        }
    }
    return hash;
}

/* Room for a row, and in the scratch memory for the places of all tokens. */
static anx_status
reserve(struct text_index *index, uint32_t row, anx_error *err)
{
    struct pending_change *c = &index->change;
    size_t n_field = index->config->n_field, bytes = c->n_token * 10;

    if (row >= index->capacity) {
        size_t capacity = index->capacity ? 2 * index->capacity : FIRST_TOKENS;
        struct row_words **rows;
        uint32_t *lengths;

        while (capacity <= row)
            capacity *= 2;
        rows = anx_realloc_array(NULL, index->rows, capacity, sizeof(struct row_words *));
        if (!rows)
            return fail_memory(err);
        index->rows = rows;
        lengths = anx_realloc_array(NULL, index->lengths, capacity * n_field, sizeof(*lengths));
        if (!lengths)
            return fail_memory(err);
        index->lengths = lengths;
        memset(rows + index->capacity, 0, (capacity - index->capacity) * sizeof(struct row_words *));
        memset(lengths + index->capacity * n_field, 0,
               (capacity - index->capacity) * n_field * sizeof(*lengths));
        index->capacity = capacity;
    }
    if (bytes > c->byte_capacity) {
        uint8_t *more = anx_realloc_array(NULL, c->bytes, 2 * bytes, 1);

        if (!more)
            return fail_memory(err);
        c->bytes = more;
        c->byte_capacity = 2 * bytes;
    }
    if (c->n_token > c->change_capacity) {
        struct word_change *more = anx_realloc_array(NULL, c->changes, c->token_capacity, sizeof(*more));

        if (!more)
            return fail_memory(err);
        c->changes = more;
        c->change_capacity = c->token_capacity;
    }
    return ANX_OK;
}

/* The places of tokens [from, to), all of one word, as an entry has them. */
static uint32_t
write_places(const uint64_t *tokens, size_t from, size_t to, uint8_t *out)
{
    uint32_t previous = 0, size = (uint32_t) varint_write(out, (uint32_t) (to - from));

    for (size_t i = from; i < to; i++) {
        uint32_t place = (uint32_t) tokens[i];

        size += (uint32_t) varint_write(out + size, place - previous);
        previous = place;
    }
    return size;
}

/* One prepared entry per word, and the list of words. */
static anx_status
prepare(struct text_index *index, uint64_t hash, anx_error *err)
{
    struct pending_change *c = &index->change;
    size_t used = 0, size = 0;
    uint32_t previous = 0;

    c->n = 0;
    if (c->n_token > 1)
        qsort(c->tokens, c->n_token, sizeof(*c->tokens), compare_tokens);
    for (size_t from = 0, to; from < c->n_token; from = to) {
        struct word_change *change = &c->changes[c->n];
        uint8_t *places = c->bytes + used;
        anx_status st;

        change->word = (uint32_t) (c->tokens[from] >> 32);
        for (to = from; to < c->n_token && c->tokens[to] >> 32 == change->word; to++)
            ;
        used += write_places(c->tokens, from, to, places);
        st = entries_begin(&index->words.list[change->word].rows, c->row, places,
                        (uint32_t) (c->bytes + used - places), &change->entry, err);
        if (st != ANX_OK)
            return st;
        c->n++;
    }
    c->next = anx_alloc_bytes(NULL, sizeof(*c->next) + 5 * c->n);
    if (!c->next)
        return fail_memory(err);
    for (size_t i = 0; i < c->n; i++) {
        size += varint_write(c->next->bytes + size, c->changes[i].word - previous);
        previous = c->changes[i].word;
    }
    c->next->hash = hash;
    c->next->n = (uint32_t) c->n;
    c->next->size = (uint32_t) size;
    return ANX_OK;
}

anx_status
text_index_begin(struct text_index *index, uint32_t row, const struct text_field *fields, anx_error *err)
{
    struct pending_change *c = &index->change;
    uint64_t hash = hash_fields(index, fields);
    anx_status st;

    ANX_ASSERT(!c->is_open);
    c->row = row;
    c->n = 0;
    c->next = NULL;
    c->is_same = row < index->capacity && index->rows[row] && index->rows[row]->hash == hash;
    c->is_open = true;
    if (c->is_same)
        return ANX_OK;
    st = add_fields(index, fields, err);
    if (st == ANX_OK)
        st = reserve(index, row, err);
    if (st == ANX_OK)
        st = prepare(index, hash, err);
    if (st != ANX_OK)
        text_index_abort(index);
    return st;
}

/* ---- Making it ---- */

static void
leave_word(struct text_index *index, uint32_t number, uint32_t row)
{
    struct word *word = &index->words.list[number];

    if (entries_remove(&word->rows, row) && --word->n_row == 0)
        words_drop(&index->words, number);
}

/* The row out of the words of `old` that the change does not have. */
static void
leave_old_words(struct text_index *index, const struct row_words *old, uint32_t row,
                const struct word_change *kept, size_t n_kept)
{
    const uint8_t *at = old->bytes;
    uint32_t word = 0;
    size_t k = 0;

    for (uint32_t i = 0; i < old->n; i++) {
        word += varint_read(&at);
        while (k < n_kept && kept[k].word < word)
            k++;
        if (k == n_kept || kept[k].word != word)
            leave_word(index, word, row);
    }
}

static void
set_lengths(struct text_index *index, uint32_t row, const uint32_t *lengths)
{
    for (size_t f = 0; f < index->config->n_field; f++) {
        uint32_t *length = &index->lengths[row * index->config->n_field + f];

        index->total_lengths[f] += (uint64_t) lengths[f] - *length;
        *length = lengths[f];
    }
}

void
text_index_commit(struct text_index *index)
{
    struct pending_change *c = &index->change;
    struct row_words *old;

    ANX_ASSERT(c->is_open);
    c->is_open = false;
    if (c->is_same)
        return;
    old = index->rows[c->row];
    for (size_t i = 0; i < c->n; i++) {
        struct word *word = &index->words.list[c->changes[i].word];

        entries_commit(&word->rows, &c->changes[i].entry);
        word->n_row += !c->changes[i].entry.had_row;
    }
    if (old) {
        leave_old_words(index, old, c->row, c->changes, c->n);
        index->rows_bytes -= sizeof(*old) + 5 * (size_t) old->n;
        anx_free(NULL, old);
    }
    set_lengths(index, c->row, c->lengths);
    index->n_row += old == NULL;
    index->rows[c->row] = c->next;
    index->rows_bytes += sizeof(*c->next) + 5 * (size_t) c->next->n;
    c->next = NULL;
}

void
text_index_abort(struct text_index *index)
{
    struct pending_change *c = &index->change;

    if (!c->is_open)
        return;
    c->is_open = false;
    if (c->is_same)
        return;
    while (c->n > 0)
        entries_abort(&c->changes[--c->n].entry);
    drop_unused(index);
    anx_free(NULL, c->next);
    c->next = NULL;
}

void
text_index_remove(struct text_index *index, uint32_t row)
{
    static const uint32_t none[TEXT_FIELDS_MAX];
    struct row_words *old = row < index->capacity ? index->rows[row] : NULL;

    if (!old)
        return;
    leave_old_words(index, old, row, NULL, 0);
    index->rows_bytes -= sizeof(*old) + 5 * (size_t) old->n;
    set_lengths(index, row, none);
    anx_free(NULL, old);
    index->rows[row] = NULL;
    index->n_row--;
}

/* ---- Numbers ---- */

size_t
text_index_rows(const struct text_index *index)
{
    return index->n_row;
}

size_t
text_index_words(const struct text_index *index)
{
    return index->words.n_live;
}

size_t
text_index_memory(const struct text_index *index)
{
    const struct words *w = &index->words;
    const struct pending_change *c = &index->change;
    size_t sum = index->rows_bytes + w->text_bytes + w->n_table * sizeof(*w->table);

    sum += w->capacity * (sizeof(*w->list) + sizeof(*w->signatures) + w->n_stemmer * sizeof(uint32_t));
    sum += index->capacity * (sizeof(struct row_words *) + index->config->n_field * sizeof(*index->lengths));
    sum +=
        c->token_capacity * sizeof(*c->tokens) + c->change_capacity * sizeof(*c->changes) + c->byte_capacity;
    for (uint32_t i = 0; i < w->n; i++)
        sum += entries_memory(&w->list[i].rows);
    return sum;
}

/* ---- Checking ---- */

static anx_status
fail_word(const struct word *word, const char *what, anx_error *err)
{
    return anx_fail(err, ANX_E_CORRUPT, "word '%.*s': %s", (int) word->size, word->text, what);
}

static anx_status
check_words(const struct text_index *index, size_t *n_entry, anx_error *err)
{
    const struct words *w = &index->words;
    uint32_t n_live = 0, n_free = 0;

    *n_entry = 0;
    for (uint32_t i = 0; i < w->n; i++) {
        const struct word *word = &w->list[i];
        const char *complaint;
        uint32_t n_row;

        if (!word->text)
            continue;
        n_live++;
        if (words_find(w, word_text(word)) != i)
            return fail_word(word, "the hash table does not lead to it", err);
        complaint = entries_complaint(&word->rows, &n_row);
        if (complaint)
            return fail_word(word, complaint, err);
        if (n_row == 0 || n_row != word->n_row)
            return fail_word(word, "it counts another number of rows than it has", err);
        *n_entry += n_row;
    }
    for (uint32_t i = w->free; i != NO_WORD && n_free <= w->n; i = w->list[i].hash)
        n_free++;
    if (n_live != w->n_live || n_live + n_free != w->n)
        return anx_fail(err, ANX_E_CORRUPT, "%u words and %u free numbers of %u", n_live, n_free, w->n);
    return ANX_OK;
}

/* Every word of a row's list has the row. With as many entries in all, there are no others. */
static anx_status
check_row_words(const struct text_index *index, uint32_t row, anx_error *err)
{
    const struct row_words *words = index->rows[row];
    const uint8_t *at = words->bytes;
    uint32_t number = 0;

    for (uint32_t i = 0; i < words->n; i++) {
        number += varint_read(&at);
        if (number >= index->words.n || !index->words.list[number].text)
            return anx_fail(err, ANX_E_CORRUPT, "row %u has word %u, which is not there", row, number);
        if (!entries_has(&index->words.list[number].rows, row))
            return fail_word(&index->words.list[number], "a row that has it is not among its rows", err);
    }
    if (at != words->bytes + words->size)
        return anx_fail(err, ANX_E_CORRUPT, "the list of words of row %u is cut", row);
    return ANX_OK;
}

anx_status
text_index_check(const struct text_index *index, anx_error *err)
{
    size_t n_entry, n_listed = 0, n_row = 0;
    anx_status st = check_words(index, &n_entry, err);

    for (uint32_t row = 0; st == ANX_OK && row < index->capacity; row++) {
        if (!index->rows[row])
            continue;
        n_row++;
        n_listed += index->rows[row]->n;
        st = check_row_words(index, row, err);
    }
    for (size_t f = 0; st == ANX_OK && f < index->config->n_field; f++) {
        uint64_t sum = 0;

        for (uint32_t row = 0; row < index->capacity; row++)
            sum += index_length(index, row, f);
        if (sum != index->total_lengths[f])
            st = anx_fail(err, ANX_E_CORRUPT, "field %zu: rows have %llu words, the sum says %llu", f,
                          (unsigned long long) sum, (unsigned long long) index->total_lengths[f]);
    }
    if (st == ANX_OK && (n_row != index->n_row || n_listed != n_entry))
        st = anx_fail(err, ANX_E_CORRUPT, "%zu rows of %zu, %zu entries of %zu", n_row, index->n_row,
                      n_listed, n_entry);
    return st;
}

anx_status
text_index_check_row(const struct text_index *index, uint32_t row, const struct text_field *fields,
                     anx_error *err)
{
    const struct row_words *words = row < index->capacity ? index->rows[row] : NULL;

    if (!words)
        return anx_fail(err, ANX_E_CORRUPT, "row %u is not in the text index", row);
    if (words->hash != hash_fields(index, fields))
        return anx_fail(err, ANX_E_CORRUPT, "row %u: the text index was made of other texts", row);
    return ANX_OK;
}
