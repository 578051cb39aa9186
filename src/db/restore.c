/* Databases from a dump. See dump.h.
 *
 * A database grows in the folder `.restore-NAME`, which no engine opens, and is renamed to NAME when it is
 * whole. Each batch of entries carries its place in the file (table `restore`, key `place`), so what a crash
 * left tells where to go on. Batches need not be durable one by one for that; the store keeps a prefix of
 * them, and closing makes all durable before the rename. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/folder.h"
#include "db/dump_int.h"
#include "db/engine_int.h"
#include "db/ns_int.h"
#include "store/store.h"

#define RESTORE_TABLE "restore"
enum { PLACE_SIZE = 16, NAME_MAX_SIZE = 256 };

struct restore {
    const struct restore_params *params;
    struct dump_counts *counts;
    struct dump_reader reader;
    uint64_t identity; /* of the dump: sum of its first frame */
    /* The open database */
    bool is_open, is_wanted;
    char name[NAME_MAX_SIZE]; /* where it goes */
    char path[4096];          /* .restore-NAME */
    uint64_t n_entry;
    uint64_t done; /* the first frames, which are in the store already */
    struct store *store;
    struct store_table *table, *place;
};

static anx_status
fail_order(const struct restore *r, anx_error *err)
{
    return anx_fail(err, ANX_E_CORRUPT, "the dump is damaged before byte %llu: frames are out of order",
                    (unsigned long long) r->reader.at);
}

/* ---- One database ---- */

static void
put_place(struct restore *r, struct store_batch *batch)
{
    uint8_t place[PLACE_SIZE];

    anx_store_le(place, r->identity, 8);
    anx_store_le(place + 8, r->reader.number, 8);
    store_batch_put(batch, r->place, ANX_TEXT("place"), (anx_text) { (const char *) place, PLACE_SIZE });
}

/* What an earlier call left, when it was of the same dump. */
static anx_status
read_place(struct restore *r, bool *is_ours, anx_error *err)
{
    struct store_read *read;
    anx_text value;
    anx_status st = store_read_begin(r->store, &read, err);

    *is_ours = false;
    if (st != ANX_OK)
        return st;
    st = store_get(read, r->place, ANX_TEXT("place"), &value, err);
    if (st == ANX_OK && value.size == PLACE_SIZE) {
        const uint8_t *place = (const uint8_t *) value.data;

        *is_ours = anx_load_le(place, 8) == r->identity;
        r->done = *is_ours ? anx_load_le(place + 8, 8) : 0;
    }
    store_read_end(read);
    return st == ANX_E_NOT_FOUND ? ANX_OK : st;
}

static anx_status
open_store(struct restore *r, anx_error *err)
{
    struct store_params params = { .path = r->path, .durability = STORE_DURABLE_ASYNC };
    anx_status st = store_open(&params, &r->store, err);

    return st == ANX_OK ? store_table(r->store, ANX_TEXT(RESTORE_TABLE), true, &r->place, err) : st;
}

/* Opens the folder aside: with what an earlier call of the same dump put there, or empty. */
static anx_status
open_aside(struct restore *r, anx_error *err)
{
    bool is_there = access(r->path, F_OK) == 0, is_ours = false;
    anx_status st = open_store(r, err);

    r->done = 0;
    if (st == ANX_OK && is_there)
        st = read_place(r, &is_ours, err);
    if (is_there && !is_ours && (st == ANX_OK || st == ANX_E_CORRUPT)) {
        store_close(r->store);
        r->store = NULL;
        anx_folder_remove(r->path);
        st = open_store(r, err);
    }
    r->counts->is_resumed |= is_ours;
    return st;
}

static anx_status
begin_database(struct restore *r, anx_error *err)
{
    const struct restore_params *params = r->params;
    size_t size = r->reader.size - 8;
    anx_text name = { (const char *) r->reader.payload + 8, size };
    char path[4096];
    anx_status st;

    if (r->is_open || r->reader.size < 8 || size >= NAME_MAX_SIZE)
        return fail_order(r, err);
    st = name_check("Database", name, err);
    if (st != ANX_OK)
        return st;
    r->is_open = true;
    r->n_entry = 0;
    r->is_wanted = !params->database || anx_text_equal(name, anx_text_of(params->database));
    if (!r->is_wanted || params->is_check)
        return ANX_OK;
    if (params->as)
        name = anx_text_of(params->as);
    if (snprintf(r->name, sizeof(r->name), "%.*s", ANX_TEXT_ARG(name)) >= (int) sizeof(r->name) ||
        snprintf(path, sizeof(path), "%s/%s", params->root, r->name) >= (int) sizeof(path) ||
        snprintf(r->path, sizeof(r->path), "%s/.restore-%s", params->root, r->name) >= (int) sizeof(r->path))
        return anx_fail(err, ANX_E_INVALID, "the path of database '%.*s' is too long", ANX_TEXT_ARG(name));
    if (params->as && r->counts->n_database > 0)
        return anx_fail(err, ANX_E_INVALID,
                        "the dump has several databases; choose the one to be called '%s'", params->as);
    if (access(path, F_OK) == 0) {
        st = anx_fail(err, ANX_E_EXISTS, "there is a database '%s' in \"%s\" already", r->name, params->root);
        anx_error_hint(err, "restore it under another name (--as), or drop the other first");
        return st;
    }
    return open_aside(r, err);
}

static anx_status
begin_table(struct restore *r, anx_error *err)
{
    anx_text name = { (const char *) r->reader.payload, r->reader.size };

    if (!r->is_open || anx_text_equal(name, ANX_TEXT(RESTORE_TABLE)))
        return fail_order(r, err);
    if (!r->store)
        return ANX_OK;
    return store_table(r->store, name, true, &r->table, err);
}

static anx_status
put_entries(struct restore *r, anx_error *err)
{
    bool is_new = r->store && r->reader.number > r->done;
    struct store_batch *batch = is_new ? store_batch_create() : NULL;
    struct dump_entry entry;
    uint64_t ticket;
    size_t at = 0;

    if (!r->is_open || (r->store && !r->table)) {
        store_batch_destroy(batch);
        return fail_order(r, err);
    }
    if (is_new && !batch)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu bytes of the dump", r->reader.size);
    while (at < r->reader.size) {
        if (!dump_next_entry(r->reader.payload, r->reader.size, &at, &entry)) {
            store_batch_destroy(batch);
            return fail_order(r, err);
        }
        r->n_entry++;
        if (r->is_wanted)
            r->counts->n_entry++;
        if (batch)
            store_batch_put(batch, r->table, (anx_text) { (const char *) entry.key, entry.key_size },
                            (anx_text) { (const char *) entry.value, entry.value_size });
    }
    if (!batch)
        return ANX_OK;
    put_place(r, batch);
    return store_submit(r->store, batch, &ticket, err);
}

/* Removes the mark, closes, and puts the database in its place. */
static anx_status
finish_database(struct restore *r, anx_error *err)
{
    char path[4096];
    anx_status st = store_table_drop(r->store, r->place, err);
    int fd;

    store_close(r->store);
    r->store = NULL;
    if (st != ANX_OK)
        return st;
    if (snprintf(path, sizeof(path), "%s/%s", r->params->root, r->name) >= (int) sizeof(path) ||
        rename(r->path, path) != 0)
        return anx_fail(err, ANX_E_IO, "could not move \"%s\" to its place: %s", r->path, strerror(errno));
    fd = open(r->params->root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fsync(fd) != 0)
        st = anx_fail(err, ANX_E_IO, "could not write the folder \"%s\": %s", r->params->root,
                      strerror(errno));
    if (fd >= 0)
        close(fd);
    return st;
}

static anx_status
end_database(struct restore *r, anx_error *err)
{
    anx_status st = ANX_OK;

    if (!r->is_open || r->reader.size != 8 || anx_load_le(r->reader.payload, 8) != r->n_entry)
        return fail_order(r, err);
    if (r->store)
        st = finish_database(r, err);
    if (st == ANX_OK && r->is_wanted)
        r->counts->n_database++;
    r->is_open = false;
    r->table = NULL;
    return st;
}

/* ---- The file ---- */

static anx_status
take_frame(struct restore *r, anx_error *err)
{
    switch (r->reader.kind) {
    case DUMP_DATABASE:
        return begin_database(r, err);
    case DUMP_TABLE:
        return begin_table(r, err);
    case DUMP_ENTRIES:
        return put_entries(r, err);
    case DUMP_DATABASE_END:
        return end_database(r, err);
    case DUMP_END:
        return r->is_open ? fail_order(r, err) : ANX_OK;
    }
    return anx_fail(err, ANX_E_VERSION,
                    "the dump has a frame of the unknown kind %u: it is of a later version",
                    (unsigned) r->reader.kind);
}

static anx_status
read_file(struct restore *r, anx_error *err)
{
    const struct restore_params *params = r->params;
    anx_status st;

    do {
        st = dump_reader_next(&r->reader, err);
        if (st != ANX_OK)
            return st;
        if (r->reader.number == 1)
            r->identity = anx_load_le(r->reader.payload + r->reader.size, DUMP_SUM_SIZE);
        r->counts->n_byte = r->reader.at;
        st = take_frame(r, err);
        if (st == ANX_OK && params->progress &&
            !params->progress(params->progress_context, "entries read", r->counts->n_entry, 0))
            st = anx_fail(err, ANX_E_CANCELLED, "cancelled");
    } while (st == ANX_OK && r->reader.kind != DUMP_END);
    if (st == ANX_OK && params->database && r->counts->n_database == 0)
        st = anx_fail(err, ANX_E_NOT_FOUND, "the dump has no database '%s'", params->database);
    return st;
}

anx_status
db_restore(const struct restore_params *params, struct dump_counts *out, anx_error *err)
{
    struct restore *r = anx_alloc_zeroed(NULL, 1, sizeof(*r));
    bool is_file = strcmp(params->file, "-") != 0;
    anx_status st = r ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "no memory to restore");
    int fd = STDIN_FILENO;

    *out = (struct dump_counts) { 0 };
    if (st == ANX_OK && params->as)
        st = name_check("Database", anx_text_of(params->as), err);
    if (st == ANX_OK && is_file) {
        fd = open(params->file, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            st = anx_fail(err, errno == ENOENT ? ANX_E_NOT_FOUND : ANX_E_IO, "could not open \"%s\": %s",
                          params->file, strerror(errno));
    }
    if (st == ANX_OK && !params->is_check && mkdir(params->root, 0750) != 0 && errno != EEXIST)
        st = anx_fail(err, ANX_E_IO, "could not make the folder \"%s\": %s", params->root, strerror(errno));
    if (st == ANX_OK) {
        r->params = params;
        r->counts = out;
        st = dump_reader_open(&r->reader, fd, err);
        if (st == ANX_OK)
            st = read_file(r, err);
        store_close(r->store);
        dump_reader_close(&r->reader);
    }
    if (is_file && fd >= 0)
        close(fd);
    anx_free(NULL, r);
    return st;
}
