/* Databases as one file, and back: backup, move to another machine, copy under another name.
 *
 *     db_dump(&(struct dump_params) { .root = "annex-data", .file = "backup.anxdump" }, &counts, &err);
 *     db_restore(&(struct restore_params) { .root = "other", .file = "backup.anxdump" }, &counts, &err);
 *
 * A dump reads a snapshot of committed data, also while a server in another process goes on writing; each
 * database in it is consistent in itself. It can be cut off at any byte and resumed. Restoring makes a
 * database aside and moves it to its place when it is complete; cut off, the same call goes on where it was.
 * Index files are not in a dump; they are built again at the first start.
 *
 * Layout, little-endian: "ANXDUMP1", then frames of u32 kind, u32 size, u64 number (0, 1, ...), the payload,
 * and the u64 XXH3-64 of all that.
 *
 *     1 database      u64 commit, name        2 table   name
 *
 *     3 entries       { u16 key size, u32 value size, key, value } ...; about a mebibyte
 *
 *     4 database ends u64 entries             5 end     u64 databases
 *
 * Threads: one call at a time per file and root. */
#ifndef ANX_DB_DUMP_H
#define ANX_DB_DUMP_H

#include <stdint.h>

#include "annex/index.h" /* anx_progress_fn */
#include "annex/status.h"

struct dump_counts {
    uint64_t n_database, n_entry, n_byte; /* bytes of the file */
    bool is_resumed, is_begun_anew; /* of a resumed dump: a database had changed and was written again */
};

struct dump_params {
    const char *root;
    const char *database; /* NULL: all */
    const char *file;     /* "-": standard output */
    bool is_resume;       /* go on with an incomplete file; otherwise an existing one is an error */
    anx_progress_fn progress; /* may be NULL; false cancels: ANX_E_CANCELLED */
    void *progress_context;
};
/* ANX_E_NOT_FOUND (no such folder, no such database), ANX_E_EXISTS, ANX_E_IO, ANX_E_CORRUPT (of the store:
 * table and key). */
ANX_NODISCARD anx_status db_dump(const struct dump_params *params, struct dump_counts *out, anx_error *err);

struct restore_params {
    const char *root;     /* made when missing */
    const char *file;     /* "-": standard input, which cannot be resumed */
    const char *database; /* only this one of the file; NULL: all */
    const char *as; /* its name from now on; needs a file (or choice) of one database; NULL: as it was */
    bool is_check;        /* read and verify the whole file, write nothing */
    anx_progress_fn progress;
    void *progress_context;
};
/* ANX_E_EXISTS: the root has a database of that name, which is never touched. ANX_E_CORRUPT: the file is
 * damaged or cut, with the byte at which; databases before that place are restored. ANX_E_VERSION: not a
 * dump, or of a later version. */
ANX_NODISCARD anx_status db_restore(const struct restore_params *params, struct dump_counts *out,
                                    anx_error *err);

/* What one payload of kind 3 holds, for restore and its fuzz target. False: malformed. */
struct dump_entry {
    const uint8_t *key, *value;
    size_t key_size, value_size;
};
bool dump_next_entry(const uint8_t *payload, size_t size, size_t *at, struct dump_entry *out);

#endif
