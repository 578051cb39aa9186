/* Writing a dump. See dump.h. */
#include "db/dump.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "db/dump_int.h"
#include "db/ns_int.h"
#include "store/store.h"

enum { TABLES_MAX = 4096 };

/* Where an incomplete file ends. */
struct resume_point {
    uint64_t number, at;             /* of the next frame */
    uint64_t database_number, database_at; /* of the frame that began the open database */
    uint64_t commit, n_entry;        /* of the open database */
    char database[256];              /* the open one, or the last that is complete */
    char table[STORE_KEY_MAX + 1];   /* the last one begun */
    char key[STORE_KEY_MAX];         /* the last one written */
    size_t key_size;
    bool is_open;     /* a database is half done */
    bool is_complete; /* nothing is left to do */
};

struct writer {
    const struct dump_params *params;
    struct dump_counts *counts;
    int fd;
    uint64_t number;
    anx_buffer frame; /* head (filled in at the end) and payload */
    uint64_t n_entry; /* of this database */
    anx_status status; /* of entries, which come through a callback */
    anx_error *err;
    char last_table[STORE_KEY_MAX + 1]; /* where to go on; empty: from the start */
    anx_text last_key;
};

static anx_status
write_all(int fd, const char *data, size_t size, anx_error *err)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return anx_fail(err, ANX_E_IO, "could not write the dump: %s", strerror(errno));
        data += n;
        size -= (size_t) n;
    }
    return ANX_OK;
}

static void
begin_frame(struct writer *w)
{
    static const char head[DUMP_HEAD_SIZE];

    anx_buffer_clear(&w->frame);
    anx_buffer_bytes(&w->frame, head, sizeof(head));
}

static void
put_le(struct writer *w, uint64_t value, size_t size)
{
    uint8_t bytes[8];

    anx_store_le(bytes, value, size);
    anx_buffer_bytes(&w->frame, bytes, size);
}

static anx_status
end_frame(struct writer *w, enum dump_kind kind, anx_error *err)
{
    anx_buffer *frame = &w->frame;

    if (!frame->failed) {
        uint8_t *head = (uint8_t *) frame->data;

        anx_store_le(head, kind, 4);
        anx_store_le(head + 4, frame->size - DUMP_HEAD_SIZE, 4);
        anx_store_le(head + 8, w->number++, 8);
        put_le(w, anx_hash(frame->data, frame->size), DUMP_SUM_SIZE);
    }
    if (frame->failed)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a frame of the dump");
    w->counts->n_byte += frame->size;
    if (w->params->progress &&
        !w->params->progress(w->params->progress_context, "entries written", w->counts->n_entry, 0))
        return anx_fail(err, ANX_E_CANCELLED, "cancelled");
    return write_all(w->fd, frame->data, frame->size, err);
}

static anx_status
name_frame(struct writer *w, enum dump_kind kind, const char *name, anx_error *err)
{
    anx_buffer_text(&w->frame, anx_text_of(name));
    return end_frame(w, kind, err);
}

static bool
each_entry(void *context, anx_text key, anx_text value)
{
    struct writer *w = context;

    if (anx_text_equal(key, w->last_key)) { /* a scan begins at its first key, which is in the file already */
        w->last_key = (anx_text) { NULL, 0 };
        return true;
    }
    if (value.size > DUMP_PAYLOAD_MAX - DUMP_PIECE - STORE_KEY_MAX) {
        w->status = anx_fail(w->err, ANX_E_LIMIT, "a value of %zu bytes is too large for a dump", value.size);
        return false;
    }
    put_le(w, key.size, 2);
    put_le(w, value.size, 4);
    anx_buffer_text(&w->frame, key);
    anx_buffer_text(&w->frame, value);
    w->n_entry++;
    w->counts->n_entry++;
    if (w->frame.size >= DUMP_PIECE) {
        w->status = end_frame(w, DUMP_ENTRIES, w->err);
        begin_frame(w);
    }
    return w->status == ANX_OK;
}

struct table_list {
    char *names[TABLES_MAX];
    size_t n;
    bool failed;
};

static void
each_table(void *context, anx_text name)
{
    struct table_list *list = context;
    char *copy = list->n < TABLES_MAX ? anx_alloc_zeroed(NULL, name.size + 1, 1) : NULL;

    if (!copy) {
        list->failed = true;
        return;
    }
    memcpy(copy, name.data, name.size);
    list->names[list->n++] = copy;
}

static anx_status
dump_table(struct writer *w, struct store *store, struct store_read *read, const char *name, anx_error *err)
{
    bool is_resumed = w->last_table[0] != '\0';
    struct store_table *table;
    anx_status st;

    if (is_resumed && strcmp(name, w->last_table) != 0)
        return ANX_OK; /* in the file */
    w->last_table[0] = '\0';
    st = store_table(store, anx_text_of(name), false, &table, err);
    if (st != ANX_OK)
        return st;
    if (!is_resumed) {
        begin_frame(w);
        st = name_frame(w, DUMP_TABLE, name, err);
    }
    begin_frame(w);
    w->status = ANX_OK;
    w->err = err;
    if (st == ANX_OK)
        st = store_scan(read, table, w->last_key, each_entry, w, err);
    w->last_key = (anx_text) { NULL, 0 };
    if (st == ANX_OK)
        st = w->status;
    if (st == ANX_OK && w->frame.size > DUMP_HEAD_SIZE)
        st = end_frame(w, DUMP_ENTRIES, err);
    return st;
}

/* Tables are opened before the snapshot begins, because LMDB shows a transaction only tables that were opened
 * before it. One that is made in between is not in the snapshot either. */
static anx_status
open_tables(struct store *store, struct table_list *list, anx_error *err)
{
    anx_status st = store_table_names(store, each_table, list, err);

    if (st == ANX_OK && list->failed)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for the list of tables");
    for (size_t i = 0; st == ANX_OK && i < list->n; i++) {
        struct store_table *table;

        st = store_table(store, anx_text_of(list->names[i]), false, &table, err);
        if (st == ANX_E_NOT_FOUND) { /* dropped meanwhile */
            anx_free(NULL, list->names[i]);
            list->names[i--] = list->names[--list->n];
            st = ANX_OK;
        }
    }
    return st;
}

/* The snapshot's tables, each in the order of its keys. */
static anx_status
dump_tables(struct writer *w, struct store *store, struct store_read *read, const char *name,
            const struct table_list *list, const struct resume_point *from, anx_error *err)
{
    anx_status st = ANX_OK;

    w->n_entry = 0;
    if (from) {
        w->n_entry = from->n_entry;
        memcpy(w->last_table, from->table, sizeof(w->last_table));
        w->last_key = (anx_text) { from->key, from->key_size };
    } else {
        begin_frame(w);
        put_le(w, store_read_id(read), 8);
        st = name_frame(w, DUMP_DATABASE, name, err);
    }
    for (size_t i = 0; st == ANX_OK && i < list->n; i++)
        st = dump_table(w, store, read, list->names[i], err);
    if (st == ANX_OK) {
        begin_frame(w);
        put_le(w, w->n_entry, 8);
        st = end_frame(w, DUMP_DATABASE_END, err);
    }
    return st;
}

static anx_status
rewind_to(struct writer *w, uint64_t number, uint64_t at, anx_error *err)
{
    if (ftruncate(w->fd, (off_t) at) != 0 || lseek(w->fd, (off_t) at, SEEK_SET) < 0)
        return anx_fail(err, ANX_E_IO, "could not cut the incomplete dump: %s", strerror(errno));
    w->number = number;
    w->counts->n_byte = at;
    return ANX_OK;
}

static anx_status
dump_database(struct writer *w, const char *name, const struct resume_point *from, anx_error *err)
{
    struct table_list *list = anx_alloc_zeroed(NULL, 1, sizeof(*list));
    struct store_params params = { .is_read_only = true, .is_beside = true };
    struct store *store = NULL;
    struct store_read *read = NULL;
    char path[4096];
    anx_status st = list ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "no memory for the list of tables");

    if (st == ANX_OK && snprintf(path, sizeof(path), "%s/%s", w->params->root, name) >= (int) sizeof(path))
        st = anx_fail(err, ANX_E_INVALID, "the path of database '%s' is too long", name);
    params.path = path;
    if (st == ANX_OK)
        st = store_open(&params, &store, err);
    if (st == ANX_OK)
        st = open_tables(store, list, err);
    if (st == ANX_OK)
        st = store_read_begin(store, &read, err);
    if (st == ANX_OK && from && from->commit != store_read_id(read)) {
        /* Changed since: half of an older snapshot is of no use. */
        st = rewind_to(w, from->database_number, from->database_at, err);
        w->counts->is_begun_anew = true;
        from = NULL;
    }
    if (st == ANX_OK)
        st = dump_tables(w, store, read, name, list, from, err);
    if (st == ANX_OK)
        w->counts->n_database++;
    else
        anx_error_context(err, "database '%s'", name);
    store_read_end(read);
    store_close(store);
    for (size_t i = 0; list && i < list->n; i++)
        anx_free(NULL, list->names[i]);
    anx_free(NULL, list);
    return st;
}

/* ---- Going on with an incomplete file ---- */

static void
copy_name(char *to, size_t capacity, const uint8_t *data, size_t size)
{
    size_t n = size < capacity ? size : capacity - 1;

    memcpy(to, data, n);
    to[n] = '\0';
}

static void
note_frame(struct resume_point *point, const struct dump_reader *reader, uint64_t number, uint64_t at,
           struct dump_counts *counts)
{
    struct dump_entry entry;
    size_t from = 0;

    switch (reader->kind) {
    case DUMP_DATABASE:
        point->is_open = true;
        point->database_number = number;
        point->database_at = at;
        point->commit = reader->size >= 8 ? anx_load_le(reader->payload, 8) : 0;
        point->n_entry = 0;
        point->table[0] = '\0';
        point->key_size = 0;
        copy_name(point->database, sizeof(point->database), reader->payload + 8,
                  reader->size >= 8 ? reader->size - 8 : 0);
        break;
    case DUMP_TABLE:
        copy_name(point->table, sizeof(point->table), reader->payload, reader->size);
        point->key_size = 0;
        break;
    case DUMP_ENTRIES:
        while (from < reader->size && dump_next_entry(reader->payload, reader->size, &from, &entry)) {
            point->n_entry++;
            counts->n_entry++;
            point->key_size = entry.key_size < STORE_KEY_MAX ? entry.key_size : STORE_KEY_MAX;
            memcpy(point->key, entry.key, point->key_size);
        }
        break;
    case DUMP_DATABASE_END:
        point->is_open = false;
        counts->n_database++;
        break;
    case DUMP_END:
        point->is_complete = true;
        break;
    }
    point->number = reader->number;
    point->at = reader->at;
}

static anx_status
find_resume_point(struct writer *w, struct resume_point *point, anx_error *err)
{
    struct dump_reader reader;
    anx_status st = dump_reader_open(&reader, w->fd, err);

    point->at = DUMP_MAGIC_SIZE;
    while (st == ANX_OK && !point->is_complete) {
        uint64_t number = reader.number, at = reader.at;

        st = dump_reader_next(&reader, err);
        if (st == ANX_OK)
            note_frame(point, &reader, number, at, w->counts);
    }
    dump_reader_close(&reader);
    if (st == ANX_E_CORRUPT)
        st = ANX_OK; /* the end of what is good */
    if (st == ANX_OK && !point->is_complete)
        st = rewind_to(w, point->number, point->at, err);
    w->counts->is_resumed = st == ANX_OK;
    return st;
}

/* ---- The file ---- */

static anx_status
open_file(struct writer *w, struct resume_point *point, anx_error *err)
{
    const char *file = w->params->file;
    struct stat info;

    if (strcmp(file, "-") == 0) {
        w->fd = STDOUT_FILENO;
    } else {
        w->fd = open(file, O_RDWR | O_CREAT | O_CLOEXEC | (w->params->is_resume ? 0 : O_EXCL), 0640);
        if (w->fd < 0 && errno == EEXIST) {
            anx_status st = anx_fail(err, ANX_E_EXISTS, "the file \"%s\" exists", file);

            anx_error_hint(err, "name another one, or go on with it by --resume");
            return st;
        }
        if (w->fd < 0)
            return anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", file, strerror(errno));
        if (fstat(w->fd, &info) == 0 && info.st_size >= DUMP_MAGIC_SIZE)
            return find_resume_point(w, point, err);
        if (ftruncate(w->fd, 0) != 0)
            return anx_fail(err, ANX_E_IO, "could not write \"%s\": %s", file, strerror(errno));
    }
    w->counts->n_byte = DUMP_MAGIC_SIZE;
    return write_all(w->fd, dump_magic, DUMP_MAGIC_SIZE, err);
}

static bool
is_database(const char *root, const char *name)
{
    char path[4096];

    return name_check("Database", anx_text_of(name), NULL) == ANX_OK &&
           snprintf(path, sizeof(path), "%s/%s/data.mdb", root, name) < (int) sizeof(path) &&
           access(path, F_OK) == 0;
}

static anx_status
dump_all(struct writer *w, const struct resume_point *point, anx_error *err)
{
    const struct dump_params *params = w->params;
    struct dirent **entries;
    anx_status st = ANX_OK;
    int n = scandir(params->root, &entries, NULL, alphasort);

    if (n < 0)
        return anx_fail(err, ANX_E_NOT_FOUND, "could not read the folder \"%s\": %s", params->root,
                        strerror(errno));
    for (int i = 0; i < n; i++) {
        const char *name = entries[i]->d_name;
        int order = point->database[0] != '\0' ? strcmp(name, point->database) : 1;
        bool is_wanted = !params->database || strcmp(name, params->database) == 0;

        if (st == ANX_OK && is_wanted && is_database(params->root, name) &&
            (order > 0 || (order == 0 && point->is_open)))
            st = dump_database(w, name, order == 0 ? point : NULL, err);
        anx_free(NULL, entries[i]); /* scandir allocates on the heap that NULL stands for */
    }
    anx_free(NULL, entries);
    if (st == ANX_OK && params->database && w->counts->n_database == 0)
        st = anx_fail(err, ANX_E_NOT_FOUND, "there is no database '%s' in \"%s\"", params->database,
                      params->root);
    return st;
}

anx_status
db_dump(const struct dump_params *params, struct dump_counts *out, anx_error *err)
{
    struct writer w = { .params = params, .counts = out, .fd = -1 };
    struct resume_point *point = anx_alloc_zeroed(NULL, 1, sizeof(*point));
    anx_status st = point ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "no memory for the dump");
    bool is_file = strcmp(params->file, "-") != 0;

    *out = (struct dump_counts) { 0 };
    anx_buffer_init(&w.frame, NULL, SIZE_MAX);
    if (st == ANX_OK && access(params->root, R_OK | X_OK) != 0)
        st = anx_fail(err, ANX_E_NOT_FOUND, "could not read the folder \"%s\": %s", params->root,
                      strerror(errno));
    if (st == ANX_OK && params->database && !is_database(params->root, params->database))
        st = anx_fail(err, ANX_E_NOT_FOUND, "there is no database '%s' in \"%s\"", params->database,
                      params->root);
    if (st == ANX_OK)
        st = open_file(&w, point, err);
    if (st == ANX_OK && !point->is_complete) {
        st = dump_all(&w, point, err);
        if (st == ANX_OK) {
            begin_frame(&w);
            put_le(&w, out->n_database, 8);
            st = end_frame(&w, DUMP_END, err);
        }
        if (st == ANX_OK && is_file && fsync(w.fd) != 0)
            st = anx_fail(err, ANX_E_IO, "could not write \"%s\": %s", params->file, strerror(errno));
    }
    if (is_file && w.fd >= 0)
        close(w.fd);
    anx_buffer_fini(&w.frame);
    anx_free(NULL, point);
    return st;
}
