/* Documents and indexes of a namespace from the store.
 *
 * Records are scanned once, in order of their rows: documents and scalar indexes are filled on the way, and
 * where a record has vectors is noted. Meanwhile the files of vector indexes (ann_cache.c) are read by a
 * thread each. Then each vector index is told about its rows: one with a file compares, and takes only those
 * that changed since the file was written; without a file all are collected and built at once, on all cores.
 * Collected vectors of indexes that gain nothing from that are handed over in pieces, so that they are not
 * all twice in memory. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "db/ns_int.h"
#include "db/record.h"

#define PIECE_BYTES ((size_t) 32 << 20)

/* The vectors of a row, in the bytes of its record: valid while the records are being read. */
struct located {
    const uint8_t *floats; /* not aligned */
    uint32_t row, n, n_empty;
};
struct intake { /* of one vector index */
    const struct ns_index *index;
    struct located *located; /* owned */
    size_t n_located, located_capacity;
    /* The file. */
    char path[4096];
    pthread_t thread;
    bool is_loading; /* to be joined */
    bool has_file;   /* and it was loaded */
    anx_error file_error;
    /* Vectors to be inserted. */
    bool in_pieces;
    anx_arena *kept; /* owned; floats of what follows */
    uint32_t *rows;  /* owned */
    struct doc_vectors *vectors; /* owned */
    size_t n, capacity;
    size_t n_restored, n_inserted;
};
struct load {
    struct ns *ns;
    anx_arena *scratch;     /* owned; one document */
    struct intake *intakes; /* owned */
    size_t n_intake;
    size_t n_row;
    anx_status st;
    anx_error *err;
};

/* ---- Vectors ---- */

static anx_status
flush_intake(struct load *load, struct intake *intake)
{
    anx_status st = ANX_OK;

    if (intake->n > 0)
        st = vector_insert_many(intake->index->vector, intake->n, intake->rows, intake->vectors, load->err);
    intake->n_inserted += intake->n;
    intake->n = 0;
    anx_arena_reset(intake->kept);
    return st;
}

static anx_status
collect(struct load *load, struct intake *intake, uint32_t row, const struct doc_vectors *vectors)
{
    size_t size = (size_t) vectors->n * vectors->dim * sizeof(float);
    struct doc_vectors copy = *vectors;

    if (intake->n == intake->capacity) {
        size_t capacity = intake->capacity ? 2 * intake->capacity : 1024;
        uint32_t *rows = anx_realloc_array(NULL, intake->rows, capacity, sizeof(*rows));
        struct doc_vectors *list;

        if (rows)
            intake->rows = rows;
        list = rows ? anx_realloc_array(NULL, intake->vectors, capacity, sizeof(*list)) : NULL;
        if (!list)
            return anx_fail(load->err, ANX_E_NOMEM, "out of memory");
        intake->vectors = list;
        intake->capacity = capacity;
    }
    if (size > 0) {
        float *floats = anx_arena_bytes(intake->kept, size);

        if (!floats)
            return anx_fail(load->err, ANX_E_NOMEM, "out of memory");
        memcpy(floats, vectors->floats, size);
        copy.floats = floats;
    }
    intake->rows[intake->n] = row;
    intake->vectors[intake->n++] = copy;
    return intake->in_pieces && anx_arena_used(intake->kept) > PIECE_BYTES ? flush_intake(load, intake)
                                                                           : ANX_OK;
}

static anx_status
take_in(struct load *load, struct intake *intake, const struct located *located)
{
    struct doc_vectors vectors = {
        .n = located->n, .n_empty = located->n_empty, .dim = intake->index->def->vector.dim
    };
    size_t size = (size_t) vectors.n * vectors.dim * sizeof(float);
    bool found = false;
    anx_status st = ANX_OK;

    if (size > 0) {
        float *floats = anx_arena_bytes(load->scratch, size);

        if (!floats)
            return anx_fail(load->err, ANX_E_NOMEM, "out of memory");
        memcpy(floats, located->floats, size);
        vectors.floats = floats;
    }
    if (intake->has_file)
        st = vector_restore(intake->index->vector, located->row, &vectors, &found, load->err);
    intake->n_restored += found;
    return st != ANX_OK || found ? st : collect(load, intake, located->row, &vectors);
}

static void
join_file(struct load *load, struct intake *intake)
{
    if (!intake->is_loading)
        return;
    pthread_join(intake->thread, NULL);
    intake->is_loading = false;
    if (intake->has_file)
        return;
    /* No loss: the index is built. */
    anx_log(ANX_LOG_WARN, "event=index_file_refused ns=%s index=%.*s cause=\"%s\"", load->ns->name,
            ANX_TEXT_ARG(intake->index->def->name), intake->file_error.message);
    (void) unlink(intake->path);
}

static anx_status
fill_vector_index(struct load *load, struct intake *intake)
{
    anx_status st = ANX_OK;

    join_file(load, intake);
    intake->in_pieces = intake->has_file || intake->index->def->index_type == INDEX_VEC_BF;
    for (size_t i = 0; st == ANX_OK && i < intake->n_located; i++) {
        anx_arena_reset(load->scratch);
        st = take_in(load, intake, &intake->located[i]);
    }
    if (st == ANX_OK)
        st = flush_intake(load, intake);
    if (st == ANX_OK && intake->has_file)
        st = vector_restore_end(intake->index->vector, load->err);
    return st;
}

/* ---- Records ---- */

static anx_status
locate(struct load *load, struct intake *intake, uint32_t row, const struct doc_vectors *vectors,
       const struct record_vectors *stored)
{
    if (vectors->n != stored->n || (vectors->n > 0 && intake->index->def->vector.dim != stored->dim))
        return anx_fail(load->err, ANX_E_CORRUPT,
                        "the document has %u vectors of %u dimensions in '%.*s', its record %u of %u",
                        vectors->n, intake->index->def->vector.dim, ANX_TEXT_ARG(intake->index->def->name),
                        stored->n, stored->dim);
    if (intake->n_located == intake->located_capacity) {
        size_t capacity = intake->located_capacity ? 2 * intake->located_capacity : 1024;
        struct located *more = anx_realloc_array(NULL, intake->located, capacity, sizeof(*more));

        if (!more)
            return anx_fail(load->err, ANX_E_NOMEM, "out of memory");
        intake->located = more;
        intake->located_capacity = capacity;
    }
    intake->located[intake->n_located++] = (struct located){
        .floats = stored->floats, .row = row, .n = vectors->n, .n_empty = vectors->n_empty
    };
    return ANX_OK;
}

static anx_status
load_record(struct load *load, uint32_t row, anx_text record)
{
    struct record_vectors stored[RECORD_FIELDS_MAX];
    struct ns *ns = load->ns;
    struct doc_draft draft;
    struct doc doc;
    anx_status st = record_read(record, &doc, stored, ns->n_vector_field, load->err);

    anx_arena_reset(load->scratch);
    if (st == ANX_OK)
        st = doc_check_fields(doc, ns->names, ns->n_vector_field, load->err);
    if (st == ANX_OK)
        st = doc_extract(doc, &ns->shape, load->scratch, &draft, load->err);
    if (st == ANX_OK)
        st = ns_load_row(ns, row, &draft, false, load->scratch, load->err);
    for (size_t i = 0; st == ANX_OK && i < load->n_intake; i++) {
        uint32_t field = load->intakes[i].index->vector_field;

        st = locate(load, &load->intakes[i], row, &draft.vectors[field], &stored[field]);
    }
    return st;
}

static bool
visit(void *context, anx_text key, anx_text value)
{
    struct load *load = context;
    uint32_t row = 0;

    for (size_t i = 0; i < key.size; i++)
        row = row << 8 | (uint8_t) key.data[i];
    if (key.size != 4 || row == UINT32_MAX)
        load->st = anx_fail(load->err, ANX_E_CORRUPT, "a record has a key of %zu bytes", key.size);
    else
        load->st = load_record(load, row, value);
    if (load->st != ANX_OK)
        anx_error_context(load->err, "row %u", row);
    load->n_row++;
    return load->st == ANX_OK;
}

/* ---- Before and after ---- */

static void *
load_file(void *context)
{
    struct intake *intake = context;

    intake->has_file = vector_file_load(intake->index->vector, intake->path, &intake->file_error) == ANX_OK;
    return NULL;
}

static void
start_file(struct load *load, struct intake *intake)
{
    sigset_t all;
    sigset_t before;

    if (!ann_cache_path(load->ns, intake->index, intake->path) || access(intake->path, R_OK) != 0)
        return;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    intake->is_loading = pthread_create(&intake->thread, NULL, load_file, intake) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static anx_status
begin(struct load *load)
{
    struct ns *ns = load->ns;

    load->scratch = anx_arena_create(NULL, 0);
    load->intakes = anx_alloc_zeroed(NULL, ns->n_index + 1, sizeof(*load->intakes));
    if (!load->scratch || !load->intakes)
        return anx_fail(load->err, ANX_E_NOMEM, "out of memory");
    for (size_t i = 0; i < ns->n_index; i++) {
        struct intake *intake = &load->intakes[load->n_intake];

        if (!ns->indexes[i].vector)
            continue;
        intake->index = &ns->indexes[i];
        intake->kept = anx_arena_create(NULL, 0);
        if (!intake->kept)
            return anx_fail(load->err, ANX_E_NOMEM, "out of memory");
        load->n_intake++;
        start_file(load, intake);
    }
    return ANX_OK;
}

static void
free_load(struct load *load)
{
    for (size_t i = 0; i < load->n_intake; i++) {
        if (load->intakes[i].is_loading) /* after a failure elsewhere */
            pthread_join(load->intakes[i].thread, NULL);
        anx_arena_destroy(load->intakes[i].kept);
        anx_free(NULL, load->intakes[i].located);
        anx_free(NULL, load->intakes[i].rows);
        anx_free(NULL, load->intakes[i].vectors);
    }
    anx_free(NULL, load->intakes);
    anx_arena_destroy(load->scratch);
}

/* Vectors that were not in a file count as changes, so that the file is written (anew). */
static void
report(struct load *load, uint64_t start_ns)
{
    size_t restored = 0;
    size_t inserted = 0;

    for (size_t i = 0; i < load->n_intake; i++) {
        restored += load->intakes[i].n_restored;
        inserted += load->intakes[i].n_inserted;
    }
    atomic_store(&load->ns->n_change, inserted > 0);
    atomic_store(&load->ns->changed_ns, anx_clock_ns());
    anx_log(ANX_LOG_INFO,
            "event=namespace_loaded ns=%s documents=%zu vectors_from_file=%zu vectors_built=%zu ms=%llu",
            load->ns->name, load->n_row, restored, inserted,
            (unsigned long long) ((anx_clock_ns() - start_ns) / 1000000));
}

anx_status
ns_load(struct ns *ns, anx_error *err)
{
    struct load load = { .ns = ns, .err = err };
    uint64_t start_ns = anx_clock_ns();
    struct store_read *read = NULL;
    anx_status st = begin(&load);

    if (st == ANX_OK)
        st = store_read_begin(ns->database->store, &read, err);
    if (st == ANX_OK)
        st = store_scan(read, ns->table, (anx_text) { NULL, 0 }, visit, &load, err);
    if (st == ANX_OK)
        st = load.st;
    for (size_t i = 0; st == ANX_OK && i < load.n_intake; i++)
        st = fill_vector_index(&load, &load.intakes[i]);
    store_read_end(read);
    if (st == ANX_OK)
        report(&load, start_ns);
    else
        anx_error_context(err, "namespace '%s'", ns->name);
    free_load(&load);
    return st;
}
