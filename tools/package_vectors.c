/* Vectors of real text from what every Debian machine has: package descriptions.
 *
 *     apt-cache dumpavail | package-vectors DIRECTORY      (or </var/lib/dpkg/status)
 *
 * Reads control stanzas; writes DIRECTORY/base.npy (float32 [n, 256], normalized, for cosine) and
 * DIRECTORY/rows.tsv (name, section, installed size in kB, one-line description), row by row the same
 * packages.
 *
 * The model is reflective random indexing (Cohen, Schvaneveldt, Widdows 2010): every term starts as a few
 * random signs; a package is the idf-weighted sum of its terms; then a term becomes the sum of the packages
 * it occurs in, so that words used in the same company come to lie close; and a package is summed again from
 * those. One pass over the text, no training. */
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/rng.h"

#define DIM 256
#define N_SIGNS 8          /* nonzero components of a fresh term */
#define TERM_MAX 40        /* longer words are no words */
#define DOCUMENT_TERMS 400 /* of one package */
#define COMMON_SHARE 12    /* terms in more than 1/12 of all packages say nothing */

struct text {
    char *data; /* owned */
    size_t size;
    size_t capacity;
};

struct term {
    uint64_t hash; /* 0: free. Two words with one 64-bit hash are taken for one. */
    uint32_t n_document;
    uint32_t last_document; /* number + 1 of the package that was counted last */
    uint32_t id;
};

struct corpus {
    struct term *terms; /* owned, [n_bucket], open addressing */
    size_t n_bucket;
    size_t n_term;
    uint32_t *postings; /* owned: bucket-independent term ids, package after package */
    size_t n_posting;
    size_t posting_capacity;
    size_t *ends; /* owned, [n_document]: where in postings a package ends */
    size_t n_document;
    size_t document_capacity;
    struct text rows; /* rows.tsv */
};

/* A stanza's fields, cleared after each. */
struct stanza {
    char name[128];
    char section[64];
    char size[24];
    char summary[256];
    struct text words;
};

static bool
text_append(struct text *text, const char *bytes, size_t size)
{
    if (!text->data || text->size + size > text->capacity) {
        size_t capacity = 2 * (text->size + size) + 64;
        char *grown = anx_realloc_array(NULL, text->data, capacity, 1);

        if (!grown)
            return false;
        text->data = grown;
        text->capacity = capacity;
    }
    memcpy(text->data + text->size, bytes, size);
    text->size += size;
    return true;
}

/* Room for one more element; false when out of memory. */
static bool
reserve(void **array, size_t *capacity, size_t n, size_t size)
{
    void *grown;

    if (n < *capacity)
        return true;
    grown = anx_realloc_array(NULL, *array, 2 * n + 1024, size);
    if (!grown)
        return false;
    *array = grown;
    *capacity = 2 * n + 1024;
    return true;
}

static struct term *
term_find(struct term *terms, size_t n_bucket, uint64_t hash)
{
    size_t at = hash & (n_bucket - 1);

    while (terms[at].hash != 0 && terms[at].hash != hash)
        at = (at + 1) & (n_bucket - 1);
    return &terms[at];
}

static bool
terms_grow(struct corpus *corpus)
{
    size_t n_bucket = corpus->n_bucket ? 2 * corpus->n_bucket : 4096;
    struct term *terms = anx_alloc_zeroed(NULL, n_bucket, sizeof(*terms));

    if (!terms)
        return false;
    for (size_t i = 0; i < corpus->n_bucket; i++)
        if (corpus->terms[i].hash != 0)
            *term_find(terms, n_bucket, corpus->terms[i].hash) = corpus->terms[i];
    anx_free(NULL, corpus->terms);
    corpus->terms = terms;
    corpus->n_bucket = n_bucket;
    return true;
}

static bool
add_term(struct corpus *corpus, const char *word, size_t length)
{
    uint64_t hash = anx_hash(word, length) | 1;
    struct term *term;

    if (2 * corpus->n_term >= corpus->n_bucket && !terms_grow(corpus))
        return false;
    term = term_find(corpus->terms, corpus->n_bucket, hash);
    if (term->hash == 0)
        *term = (struct term) { .hash = hash, .id = (uint32_t) corpus->n_term++ };
    if (term->last_document == corpus->n_document + 1)
        return true; /* counted once per package */
    term->last_document = (uint32_t) (corpus->n_document + 1);
    term->n_document++;
    if (!reserve((void **) &corpus->postings, &corpus->posting_capacity, corpus->n_posting, sizeof(uint32_t)))
        return false;
    corpus->postings[corpus->n_posting++] = term->id;
    return true;
}

/* Words are runs of letters, digits and plus signs that begin with a letter, in lower case. */
static bool
add_words(struct corpus *corpus, const struct text *words)
{
    char word[TERM_MAX];
    size_t length = 0;
    size_t n = 0;

    for (size_t i = 0; i <= words->size && n < DOCUMENT_TERMS; i++) {
        unsigned char c = i < words->size ? (unsigned char) words->data[i] : ' ';

        if (c < 0x80 && (isalpha(c) || (length > 0 && (isdigit(c) || c == '+')))) {
            if (length < TERM_MAX)
                word[length] = (char) tolower(c);
            length++;
            continue;
        }
        if (length > 1 && length < TERM_MAX) {
            if (!add_term(corpus, word, length))
                return false;
            n++;
        }
        length = 0;
    }
    return true;
}

/* Ends a stanza: a package with a name and a summary becomes a row. */
static bool
take_stanza(struct corpus *corpus, struct stanza *stanza)
{
    bool ok = true;

    if (stanza->name[0] && stanza->summary[0]) {
        const char *fields[] = { stanza->name, "\t", stanza->section, "\t",
                                 stanza->size, "\t", stanza->summary, "\n" };

        ok = reserve((void **) &corpus->ends, &corpus->document_capacity, corpus->n_document,
                     sizeof(size_t)) &&
             add_words(corpus, &stanza->words);
        for (size_t i = 0; ok && i < ANX_COUNT_OF(fields); i++)
            ok = text_append(&corpus->rows, fields[i], strlen(fields[i]));
        if (ok)
            corpus->ends[corpus->n_document++] = corpus->n_posting;
    }
    stanza->name[0] = stanza->section[0] = stanza->size[0] = stanza->summary[0] = '\0';
    stanza->words.size = 0;
    return ok;
}

/* If the line is "key: value", copies the value, cut to size, tabs to spaces. */
static void
field(const char *line, const char *key, char *out, size_t size)
{
    size_t n = strlen(key);

    if (strncmp(line, key, n) != 0 || line[n] != ':')
        return;
    line += n + 1;
    line += strspn(line, " ");
    (void) snprintf(out, size, "%s", line);
    for (char *p = out; *p; p++)
        if ((unsigned char) *p < ' ')
            *p = ' ';
}

static bool
take_line(struct corpus *corpus, struct stanza *stanza, const char *line)
{
    static const char *const text_fields[] = { "Package:", "Section:", "Tag:", "Description:",
                                               "Description-en:" };
    bool is_text = line[0] == ' '; /* continued: long descriptions, tags */

    if (line[0] == '\0')
        return take_stanza(corpus, stanza);
    field(line, "Package", stanza->name, sizeof(stanza->name));
    field(line, "Installed-Size", stanza->size, sizeof(stanza->size));
    field(line, "Section", stanza->section, sizeof(stanza->section));
    field(line, "Description", stanza->summary, sizeof(stanza->summary));
    field(line, "Description-en", stanza->summary, sizeof(stanza->summary));
    for (size_t i = 0; i < ANX_COUNT_OF(text_fields); i++)
        is_text = is_text || strncmp(line, text_fields[i], strlen(text_fields[i])) == 0;
    if (!is_text)
        return true;
    /* Without the key, which is a word that every package would share. */
    if (line[0] != ' ')
        line = strchr(line, ':') + 1;
    return text_append(&stanza->words, line, strlen(line)) && text_append(&stanza->words, " ", 1);
}

static bool
read_corpus(FILE *in, struct corpus *corpus)
{
    struct stanza stanza = { .words = { 0 } };
    struct text line = { 0 };
    char part[4096];
    bool ok = true;

    /* Lines may be of any length (dependencies are). */
    while (ok && fgets(part, sizeof(part), in)) {
        size_t n = strcspn(part, "\n");
        bool is_whole = part[n] == '\n';

        ok = text_append(&line, part, n);
        if (ok && is_whole) {
            ok = text_append(&line, "", 1) && take_line(corpus, &stanza, line.data);
            line.size = 0;
        }
    }
    ok = ok && take_stanza(corpus, &stanza);
    anx_free(NULL, stanza.words.data);
    anx_free(NULL, line.data);
    return ok;
}

static void
normalize(float *v)
{
    double norm = 0;

    for (size_t i = 0; i < DIM; i++)
        norm += (double) v[i] * (double) v[i];
    if (norm > 0)
        for (size_t i = 0; i < DIM; i++)
            v[i] = (float) (v[i] / sqrt(norm));
}

/* weights[term id] = ln(n / packages with it); 0 for words of one package or of too many. */
static void
weigh_terms(const struct corpus *corpus, float *weights)
{
    for (size_t i = 0; i < corpus->n_bucket; i++) {
        const struct term *term = &corpus->terms[i];

        if (term->hash == 0)
            continue;
        weights[term->id] = 0;
        if (term->n_document >= 2 && term->n_document <= corpus->n_document / COMMON_SHARE + 2)
            weights[term->id] = logf((float) corpus->n_document / (float) term->n_document);
    }
}

/* Adds weight * from to `to`. */
static void
add_scaled(float *to, const float *from, float weight)
{
    for (size_t i = 0; i < DIM; i++)
        to[i] += weight * from[i];
}

/* packages[d] = normalized sum of the vectors of its terms */
static void
sum_packages(const struct corpus *corpus, const float *weights, const float *terms, float *packages)
{
    size_t at = 0;

    memset(packages, 0, corpus->n_document * DIM * sizeof(float));
    for (size_t d = 0; d < corpus->n_document; d++) {
        for (; at < corpus->ends[d]; at++)
            add_scaled(packages + d * DIM, terms + (size_t) corpus->postings[at] * DIM,
                       weights[corpus->postings[at]]);
        normalize(packages + d * DIM);
    }
}

/* Every term gets the direction of the packages it occurs in, beside a share of its own first direction,
 * which keeps apart words that go together. */
static void
reflect_terms(const struct corpus *corpus, const float *packages, float *terms)
{
    size_t at = 0;

    for (size_t t = 0; t < corpus->n_term; t++) {
        normalize(terms + t * DIM);
        for (size_t i = 0; i < DIM; i++)
            terms[t * DIM + i] *= 2;
    }
    for (size_t d = 0; d < corpus->n_document; d++)
        for (; at < corpus->ends[d]; at++)
            add_scaled(terms + (size_t) corpus->postings[at] * DIM, packages + d * DIM, 1);
    for (size_t t = 0; t < corpus->n_term; t++)
        normalize(terms + t * DIM);
}

/* What all packages have in common distinguishes none. */
static void
remove_mean(float *packages, size_t n)
{
    float mean[DIM] = { 0 };

    for (size_t d = 0; d < n; d++)
        add_scaled(mean, packages + d * DIM, 1 / (float) n);
    for (size_t d = 0; d < n; d++) {
        add_scaled(packages + d * DIM, mean, -1);
        normalize(packages + d * DIM);
    }
}

/* The vectors [n_document * DIM], or NULL when out of memory. */
static float *
embed(const struct corpus *corpus)
{
    float *packages = anx_alloc_array(NULL, corpus->n_document, DIM * sizeof(float));
    float *terms = anx_alloc_zeroed(NULL, corpus->n_term, DIM * sizeof(float));
    float *weights = anx_alloc_zeroed(NULL, corpus->n_term, sizeof(float));
    anx_rng rng = anx_rng_seed(2010);

    if (packages && terms && weights) {
        for (size_t t = 0; t < corpus->n_term; t++)
            for (size_t i = 0; i < N_SIGNS; i++)
                terms[t * DIM + anx_rng_below(&rng, DIM)] += anx_rng_next(&rng) & 1 ? 1.0f : -1.0f;
        weigh_terms(corpus, weights);
        sum_packages(corpus, weights, terms, packages);
        reflect_terms(corpus, packages, terms);
        sum_packages(corpus, weights, terms, packages);
        remove_mean(packages, corpus->n_document);
    } else {
        anx_free(NULL, packages);
        packages = NULL;
    }
    anx_free(NULL, terms);
    anx_free(NULL, weights);
    return packages;
}

/* .npy version 1: magic, version, length of the head, a Python dict padded so that data begins at a multiple
 * of 64. */
static bool
write_npy(FILE *out, const float *rows, size_t n)
{
    static const char magic[] = { '\x93', 'N', 'U', 'M', 'P', 'Y', 1, 0 };
    char head[128];
    int length = snprintf(head + 10, sizeof(head) - 10,
                          "{'descr': '<f4', 'fortran_order': False, 'shape': (%zu, %d), }", n, DIM);

    memcpy(head, magic, sizeof(magic));
    anx_store_le((uint8_t *) head + 8, sizeof(head) - 10, 2);
    memset(head + 10 + length, ' ', sizeof(head) - 11 - (size_t) length);
    head[sizeof(head) - 1] = '\n';
    return fwrite(head, sizeof(head), 1, out) == 1 && fwrite(rows, DIM * sizeof(float), n, out) == n;
}

static FILE *
create(const char *directory, const char *name)
{
    char path[4096];

    if (snprintf(path, sizeof(path), "%s/%s", directory, name) >= (int) sizeof(path))
        return NULL;
    return fopen(path, "wb");
}

static bool
write_all(const char *directory, const struct corpus *corpus, const float *packages)
{
    FILE *vectors = create(directory, "base.npy");
    FILE *rows = create(directory, "rows.tsv");
    bool ok = vectors && rows && write_npy(vectors, packages, corpus->n_document) &&
              fwrite(corpus->rows.data, corpus->rows.size, 1, rows) == 1;

    if (vectors && fclose(vectors) != 0)
        ok = false;
    if (rows && fclose(rows) != 0)
        ok = false;
    return ok;
}

int
main(int argc, char **argv)
{
    struct corpus corpus = { 0 };
    float *packages = NULL;
    int code = 1;

    if (argc != 2) {
        (void) fprintf(stderr, "usage: package-vectors DIRECTORY <control-stanzas\n");
        return 2;
    }
    if (!read_corpus(stdin, &corpus))
        (void) fprintf(stderr, "package-vectors: out of memory\n");
    else if (corpus.n_document == 0)
        (void) fprintf(stderr, "package-vectors: no packages on standard input\n");
    else if (!(packages = embed(&corpus)))
        (void) fprintf(stderr, "package-vectors: out of memory for %zu packages\n", corpus.n_document);
    else if (!write_all(argv[1], &corpus, packages))
        (void) fprintf(stderr, "package-vectors: cannot write to %s\n", argv[1]);
    else
        code = 0;
    anx_free(NULL, packages);
    anx_free(NULL, corpus.terms);
    anx_free(NULL, corpus.postings);
    anx_free(NULL, corpus.ends);
    anx_free(NULL, corpus.rows.data);
    return code;
}
