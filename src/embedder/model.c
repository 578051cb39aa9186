/* Models; see the header. Terms are found by an open-addressing table of 32-bit rows, made when a model is
 * opened: a few nanoseconds a term, also for compact files, whose vectors are then paged in as they are used.
 */
#include "embedder/model.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "doc/characters.h"
#include "embedder/decimal.h"
#include "embedder/model_int.h"

#define NONE UINT32_MAX
#define ZIPF_A 1e-3 /* of the paper: weights of frequent words fall off from a share of 0.1 % on */

anx_status
model_no_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate memory for term vectors");
}

/* ---- Terms ---- */

static anx_text
term_of(const struct model *model, size_t row)
{
    const uint8_t *at = model->offsets + model->offset_size * row;
    uint64_t begin = anx_load_le(at, model->offset_size),
             end = anx_load_le(at + model->offset_size, model->offset_size);

    return (anx_text) { model->terms + begin, (size_t) (end - begin) };
}

static uint32_t *
term_place(const struct model *model, anx_text term)
{
    size_t at = anx_hash(term.data, term.size) & (model->n_table - 1);

    while (model->table[at] != NONE && !anx_text_equal(term_of(model, model->table[at]), term))
        at = (at + 1) & (model->n_table - 1);
    return &model->table[at];
}

/* Of terms that occur twice the first counts, as in files that are sorted by frequency. */
anx_status
model_index_terms(struct model *model, anx_error *err)
{
    model->n_table = 16;
    while (model->n_table < 2 * model->n)
        model->n_table *= 2;
    model->table = anx_alloc_array(NULL, model->n_table, sizeof(*model->table));
    if (!model->table)
        return model_no_memory(err);
    memset(model->table, 0xff, model->n_table * sizeof(*model->table));
    for (size_t row = 0; row < model->n; row++) {
        uint32_t *place = term_place(model, term_of(model, row));

        if (*place == NONE)
            *place = (uint32_t) row;
    }
    return ANX_OK;
}

static bool
find_term(const struct model *model, anx_text term, uint32_t *row)
{
    *row = *term_place(model, term);
    return *row != NONE;
}

void
model_add_vector(const struct model *model, size_t term, float weight, float *out)
{
    size_t dim = model->dim, row = model->rows ? (size_t) anx_load_le(model->rows + 4 * term, 4) : term;

    if (model->codes) {
        const int8_t *codes = model->codes + row * dim;
        uint32_t bits = (uint32_t) anx_load_le(model->scales + 4 * row, 4);
        float scale;

        memcpy(&scale, &bits, sizeof(scale));
        scale *= weight;
        for (size_t j = 0; j < dim; j++)
            out[j] += scale * (float) codes[j];
    } else {
        const float *vector = model->vectors + row * dim;

        for (size_t j = 0; j < dim; j++)
            out[j] += weight * vector[j];
    }
}

size_t
model_terms(const struct model *model)
{
    return model->n;
}

uint32_t
model_dim(const struct model *model)
{
    return model->dim;
}

void
model_close(struct model *model)
{
    if (!model)
        return;
    if (model->map)
        munmap(model->map, model->map_size);
    anx_free(NULL, model->table);
    anx_free(NULL, model->own_terms);
    anx_free(NULL, model->own_offsets);
    anx_free(NULL, model->own_vectors);
    anx_free(NULL, model);
}

/* ---- Making one in memory ---- */

struct building {
    struct model *model;
    size_t capacity, terms_size, terms_capacity;
};

static bool
reserve(struct building *b, size_t term_size)
{
    struct model *m = b->model;

    if (m->n == b->capacity) {
        size_t capacity = b->capacity ? 2 * b->capacity : 1024;
        float *vectors = anx_realloc_array(NULL, m->own_vectors, capacity, (size_t) m->dim * sizeof(float));
        uint8_t *offsets;

        if (!vectors)
            return false;
        m->own_vectors = vectors;
        offsets = anx_realloc_array(NULL, m->own_offsets, capacity + 1, 8);
        if (!offsets)
            return false;
        m->own_offsets = offsets;
        b->capacity = capacity;
    }
    if (b->terms_size + term_size > b->terms_capacity) {
        size_t capacity = 2 * b->terms_capacity + term_size + 4096;
        char *terms = anx_realloc_array(NULL, m->own_terms, capacity, 1);

        if (!terms)
            return false;
        m->own_terms = terms;
        b->terms_capacity = capacity;
    }
    return true;
}

/* Room for the vector of one more term; NULL when out of memory. */
static float *
add_term(struct building *b, anx_text term)
{
    struct model *m = b->model;

    if (!reserve(b, term.size))
        return NULL;
    if (term.size > 0)
        memcpy(m->own_terms + b->terms_size, term.data, term.size);
    anx_store_le(m->own_offsets + 8 * m->n, b->terms_size, 8);
    b->terms_size += term.size;
    m->n++;
    anx_store_le(m->own_offsets + 8 * m->n, b->terms_size, 8);
    return m->own_vectors + (m->n - 1) * m->dim;
}

static anx_status
finish(struct building *b, struct model **out, anx_status st, anx_error *err)
{
    struct model *m = b->model;

    if (st == ANX_OK && m->n == 0)
        st = anx_fail(err, ANX_E_CORRUPT, "there is no term in the file");
    m->terms = m->own_terms;
    m->offsets = m->own_offsets;
    m->offset_size = 8;
    m->vectors = m->own_vectors;
    m->n_row = m->n;
    if (st == ANX_OK)
        st = model_index_terms(m, err);
    if (st != ANX_OK) {
        model_close(m);
        return st;
    }
    *out = m;
    return ANX_OK;
}

/* ---- The text form ---- */

struct line {
    const char *at, *end;
    size_t number;
};

static anx_text
next_word(struct line *line)
{
    const char *start;

    while (line->at < line->end && (*line->at == ' ' || *line->at == '\t' || *line->at == '\r'))
        line->at++;
    start = line->at;
    while (line->at < line->end && *line->at != ' ' && *line->at != '\t' && *line->at != '\r')
        line->at++;
    return (anx_text) { start, (size_t) (line->at - start) };
}

static bool
next_line(anx_text *rest, struct line *line)
{
    const char *end = rest->size > 0 ? memchr(rest->data, '\n', rest->size) : NULL;
    size_t size = end ? (size_t) (end - rest->data) + 1 : rest->size;

    if (rest->size == 0)
        return false;
    line->at = rest->data;
    line->end = rest->data + (end ? size - 1 : size);
    line->number++;
    *rest = (anx_text) { rest->data + size, rest->size - size };
    return true;
}

static size_t
count_words(struct line line)
{
    size_t n = 0;

    while (next_word(&line).size > 0)
        n++;
    return n;
}

/* "terms dimension": two whole numbers; a term that is a number has more components than one. */
static bool
is_head(struct line line)
{
    for (int i = 0; i < 2; i++) {
        anx_text word = next_word(&line);

        for (size_t c = 0; c < word.size; c++)
            if (word.data[c] < '0' || word.data[c] > '9')
                return false;
        if (word.size == 0)
            return false;
    }
    return next_word(&line).size == 0;
}

/* The first of a head's numbers, as far as a file may have terms. */
static size_t
announced_terms(struct line head)
{
    anx_text word = next_word(&head);
    size_t n = 0;

    for (size_t c = 0; c < word.size && n <= MODEL_TERMS_MAX; c++)
        n = n * 10 + (size_t) (word.data[c] - '0');
    return n;
}

static anx_status
read_line(struct building *b, struct line *line, anx_error *err)
{
    struct model *m = b->model;
    anx_text term = next_word(line);
    float *vector;

    if (term.size > MODEL_TERM_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "line %zu: the term is longer than %d bytes", line->number,
                        MODEL_TERM_MAX);
    if (m->n >= MODEL_TERMS_MAX)
        return anx_fail(err, ANX_E_LIMIT, "line %zu: more than %zu terms", line->number, MODEL_TERMS_MAX);
    vector = add_term(b, term);
    if (!vector)
        return model_no_memory(err);
    for (uint32_t i = 0; i < m->dim; i++) {
        anx_text word = next_word(line);

        if (word.size == 0)
            return anx_fail(err, ANX_E_CORRUPT, "line %zu: %u components instead of %u", line->number, i,
                            m->dim);
        if (!decimal_read(word, &vector[i]))
            return anx_fail(err, ANX_E_CORRUPT, "line %zu: component %u is '%.*s', which is not a number",
                            line->number, i, (int) (word.size < 40 ? word.size : 40), word.data);
    }
    if (next_word(line).size > 0)
        return anx_fail(err, ANX_E_CORRUPT, "line %zu: more than %u components", line->number, m->dim);
    return ANX_OK;
}

static anx_status
parse_text(anx_text rest, struct model **out, anx_error *err)
{
    struct building b = { .model = anx_alloc_zeroed(NULL, 1, sizeof(struct model)) };
    struct line line = { .number = 0 };
    size_t n_announced = 0, n_read = 0;
    anx_status st = ANX_OK;
    bool is_first = true;

    if (!b.model)
        return model_no_memory(err);
    while (st == ANX_OK && next_line(&rest, &line)) {
        size_t n_word = b.model->dim == 0 ? count_words(line) : 2;

        if ((is_first && is_head(line)) || line.at == line.end || n_word == 0) {
            n_announced = is_first && n_word > 0 ? announced_terms(line) : n_announced;
            is_first = false;
            continue;
        }
        is_first = false;
        if (b.model->dim == 0 && (n_word < 2 || n_word - 1 > MODEL_DIM_MAX))
            st = anx_fail(err, ANX_E_CORRUPT, "line %zu has %zu components, not 1 to %d", line.number,
                          n_word - 1, MODEL_DIM_MAX);
        else if (b.model->dim == 0)
            b.model->dim = (uint32_t) (n_word - 1);
        if (st == ANX_OK)
            st = read_line(&b, &line, err);
        n_read++;
    }
    if (st == ANX_OK && n_read < n_announced) /* what a broken download leaves */
        st = anx_fail(err, ANX_E_CORRUPT, "line 1 announces %zu terms, the file ends after %zu", n_announced,
                      n_read);
    return finish(&b, out, st, err);
}

anx_status
model_from_rows(anx_text terms, const float *rows, size_t n, size_t dim, struct model **out, anx_error *err)
{
    struct building b = { .model = anx_alloc_zeroed(NULL, 1, sizeof(struct model)) };
    struct line line = { .number = 0 };
    anx_status st = ANX_OK;

    *out = NULL;
    if (!b.model)
        return model_no_memory(err);
    if (dim == 0 || dim > MODEL_DIM_MAX)
        st = anx_fail(err, ANX_E_LIMIT, "vectors have %zu components, not 1 to %d", dim, MODEL_DIM_MAX);
    b.model->dim = (uint32_t) dim;
    while (st == ANX_OK && next_line(&terms, &line)) {
        anx_text term = next_word(&line);
        float *vector;

        if (b.model->n == n)
            return finish(
                &b, out, anx_fail(err, ANX_E_CORRUPT, "there are more terms than the %zu rows of vectors", n),
                err);
        vector = add_term(&b, term);
        if (!vector)
            st = model_no_memory(err);
        else
            memcpy(vector, rows + (b.model->n - 1) * dim, dim * sizeof(float));
    }
    if (st == ANX_OK && b.model->n < n)
        st = anx_fail(err, ANX_E_CORRUPT, "there are %zu terms and %zu rows of vectors", b.model->n, n);
    return finish(&b, out, st, err);
}

/* ---- Files ---- */

anx_status
model_parse(const void *bytes, size_t size, struct model **out, anx_error *err)
{
    *out = NULL;
    if (compact_is(bytes, size))
        return compact_parse(bytes, size, out, err);
    return parse_text((anx_text) { bytes, size }, out, err);
}

anx_status
model_open(const char *path, struct model **out, anx_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    void *map;
    anx_status st;

    *out = NULL;
    if (fd < 0 || fstat(fd, &info) != 0) {
        st = anx_fail(err, ANX_E_IO, "cannot open %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return st;
    }
    if (info.st_size == 0 || !S_ISREG(info.st_mode)) {
        close(fd);
        return anx_fail(err, ANX_E_CORRUPT, "%s is empty or not a file", path);
    }
    map = mmap(NULL, (size_t) info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return anx_fail(err, ANX_E_IO, "cannot map %s: %s", path, strerror(errno));
    st = model_parse(map, (size_t) info.st_size, out, err);
    if (st == ANX_OK && !(*out)->own_vectors) {
        (*out)->map = map;
        (*out)->map_size = (size_t) info.st_size;
    } else {
        munmap(map, (size_t) info.st_size);
    }
    if (st != ANX_OK)
        anx_error_context(err, "%s", path);
    return st;
}

/* ---- Texts ---- */

struct known { /* a term of the text */
    uint32_t row, count;
};
struct model_text {
    const struct model *model;
    enum model_weights weights;
    struct known *known; /* owned [capacity] */
    size_t n, capacity;
    uint32_t *table; /* owned [n_table]: place in known, or NONE */
    size_t n_table;
    char *word, *folded; /* owned, [MODEL_TERM_MAX + 8] each */
};

struct model_text *
model_text_create(const struct model *model, enum model_weights weights)
{
    struct model_text *text = anx_alloc_zeroed(NULL, 1, sizeof(*text));

    if (!text)
        return NULL;
    text->model = model;
    text->weights = weights;
    text->word = anx_alloc_bytes(NULL, MODEL_TERM_MAX + 8);
    text->folded = anx_alloc_bytes(NULL, MODEL_TERM_MAX + 8);
    if (text->word && text->folded)
        return text;
    model_text_destroy(text);
    return NULL;
}

void
model_text_destroy(struct model_text *text)
{
    if (!text)
        return;
    anx_free(NULL, text->known);
    anx_free(NULL, text->table);
    anx_free(NULL, text->word);
    anx_free(NULL, text->folded);
    anx_free(NULL, text);
}

static bool
grow_table(struct model_text *text)
{
    size_t capacity = text->capacity ? 2 * text->capacity : 64, n_table = 4 * capacity;
    struct known *known = anx_realloc_array(NULL, text->known, capacity, sizeof(*known));
    uint32_t *table;

    if (!known)
        return false;
    text->known = known;
    table = anx_alloc_array(NULL, n_table, sizeof(*table));
    if (!table)
        return false;
    anx_free(NULL, text->table);
    text->table = table;
    text->n_table = n_table;
    text->capacity = capacity;
    memset(table, 0xff, n_table * sizeof(*table));
    for (uint32_t i = 0; i < text->n; i++) {
        size_t at = known[i].row * (size_t) 0x9e3779b1u & (n_table - 1);

        while (table[at] != NONE)
            at = (at + 1) & (n_table - 1);
        table[at] = i;
    }
    return true;
}

static bool
count_row(struct model_text *text, uint32_t row)
{
    size_t at;

    if (text->n == text->capacity && !grow_table(text))
        return false;
    at = row * (size_t) 0x9e3779b1u & (text->n_table - 1);
    while (text->table[at] != NONE && text->known[text->table[at]].row != row)
        at = (at + 1) & (text->n_table - 1);
    if (text->table[at] == NONE) {
        text->table[at] = (uint32_t) text->n;
        text->known[text->n++] = (struct known) { .row = row };
    }
    text->known[text->table[at]].count++;
    return true;
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* One run: as folded, as written, without leading digits. */
static bool
count_word(struct model_text *text, size_t folded_size, size_t word_size)
{
    anx_text folded = { text->folded, folded_size };
    uint32_t row;

    if (folded.size < 2)
        return true;
    if (find_term(text->model, folded, &row) ||
        find_term(text->model, (anx_text) { text->word, word_size }, &row))
        return count_row(text, row);
    while (folded.size > 0 && (is_digit(folded.data[0]) || folded.data[0] == '+'))
        folded = (anx_text) { folded.data + 1, folded.size - 1 };
    if (folded.size < 2 || folded.size == folded_size || !find_term(text->model, folded, &row))
        return true;
    return count_row(text, row);
}

/* Appends a code point as UTF-8. */
static size_t
put_character(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char) c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char) (0xc0 | c >> 6);
        out[1] = (char) (0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char) (0xe0 | c >> 12);
        out[1] = (char) (0x80 | (c >> 6 & 0x3f));
        out[2] = (char) (0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char) (0xf0 | (c >> 18 & 7));
    out[1] = (char) (0x80 | (c >> 12 & 0x3f));
    out[2] = (char) (0x80 | (c >> 6 & 0x3f));
    out[3] = (char) (0x80 | (c & 0x3f));
    return 4;
}

/* Letters, digits, + and what is beyond ASCII; of that not the blanks and marks of Latin-1 and the general
 * punctuation, which stand between words. */
static bool
is_word_character(uint32_t c)
{
    if (c < 0x80)
        return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '+';
    return c < UTF8_BROKEN && c >= 0xc0 && !(c >= 0x2000 && c < 0x2070) && !(c >= 0x3000 && c < 0x3005);
}

bool
model_text_add(struct model_text *text, anx_text piece)
{
    const unsigned char *at = (const unsigned char *) piece.data, *end = at + piece.size;
    size_t folded = 0, word = 0;
    bool ok = true;

    while (ok && piece.size > 0 && at < end) {
        uint32_t c = utf8_next(&at, end);

        if (is_word_character(c)) {
            if (word + 4 <= MODEL_TERM_MAX &&
                folded + 4 <= MODEL_TERM_MAX) { /* the rest of a long run is left out */
                word += put_character(text->word + word, c);
                folded += put_character(text->folded + folded, text_fold(c));
            }
            continue;
        }
        ok = count_word(text, folded, word);
        folded = word = 0;
    }
    return ok && count_word(text, folded, word);
}

/* How much a term counts by its rank, when terms are in order of frequency. */
static double
rank_weight(const struct model *model, uint32_t row)
{
    double share =
        1 / ((row + 1.0) * (log((double) model->n) + 0.5772)); /* the sum of 1/rank is about ln n + 0.5772 */

    return ZIPF_A / (ZIPF_A + share);
}

size_t
model_text_finish(struct model_text *text, float *out)
{
    const struct model *model = text->model;
    size_t dim = model->dim, n = text->n;
    double length = 0;

    memset(out, 0, dim * sizeof(*out));
    for (size_t i = 0; i < n; i++) {
        double weight = 1 + log((double) text->known[i].count);

        if (text->weights == MODEL_ZIPF)
            weight *= rank_weight(model, text->known[i].row);
        model_add_vector(model, text->known[i].row, (float) weight, out);
    }
    for (size_t j = 0; j < dim; j++)
        length += (double) out[j] * (double) out[j];
    if (length > 0 && isfinite(length)) {
        float scale = (float) (1 / sqrt(length));

        for (size_t j = 0; j < dim; j++)
            out[j] *= scale;
    } else {
        memset(out, 0, dim * sizeof(*out)); /* no known term, or a model with numbers that are none */
    }
    text->n = 0;
    if (text->n_table > 0)
        memset(text->table, 0xff, text->n_table * sizeof(*text->table));
    return n;
}
