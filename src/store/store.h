/* Storage: named tables of ordered key -> bytes, snapshot reads, durable atomic batches.
 *
 *     store_open(&(struct store_params) { .path = "db/main" }, &store, &err);
 *     store_table(store, ANX_TEXT("books"), true, &table, &err);
 *     store_batch_put(batch, table, key, record);
 *     store_submit(store, batch, &ticket, &err);      // order of submission is order of application
 *     store_wait(store, ticket, &err);                // durable now
 *
 * One thread commits: everything submitted meanwhile goes into the next commit together (group commit), so
 * that many small writers share one sync. A batch is applied wholly or not at all. With
 * STORE_DURABLE_ASYNC, store_wait returns at once, commits are made every sync_ms, and a crash loses what was
 * submitted since the last one, never anything out of the middle.
 *
 * Every value is kept with a checksum over key and value, verified when it is read: ANX_E_CORRUPT names the
 * table and the key. The pages of the file are verified when a store is opened.
 *
 * Backends implement struct store_backend (store_int.h); lmdb is the default.
 * Threads: any thread may submit, wait and read. A batch belongs to one thread until it is submitted.
 * Crash: after kill -9 or a power cut the store holds a prefix of the submitted batches that includes every
 * batch whose wait returned. */
#ifndef ANX_STORE_STORE_H
#define ANX_STORE_STORE_H

#include <stdint.h>

#include "annex/status.h"
#include "base/text.h"

struct store;
struct store_table; /* owned by the store, valid until dropped or the store is closed */
struct store_batch;
struct store_read;

enum store_durability { STORE_DURABLE_SYNC, STORE_DURABLE_ASYNC };
struct store_params {
    const char *path; /* a folder, made when missing */
    enum store_durability durability;
    unsigned sync_ms;      /* ASYNC: longest time between syncs; 0: 100 */
    size_t max_bytes;      /* limit of the data on disk, 0: as much as the disk holds */
    size_t max_queued;     /* bytes submitted and not yet committed before submit blocks; 0: 64 MiB */
    size_t map_bytes;      /* address range to begin with, 0: 1 GiB; it grows by itself */
    bool is_read_only;
    bool is_beside; /* read-only, and another process may be writing meanwhile: snapshots of its commits */
};
/* ANX_E_IO, ANX_E_CORRUPT, ANX_E_BUSY (another process has it), ANX_E_VERSION. */
ANX_NODISCARD anx_status store_open(const struct store_params *params, struct store **out, anx_error *err);
/* Commits what was submitted, then closes. NULL is fine. */
void store_close(struct store *store);

/* Opens or makes a table; ANX_E_NOT_FOUND without `create`. Durable on return. */
ANX_NODISCARD anx_status store_table(struct store *store, anx_text name, bool create,
                                     struct store_table **out, anx_error *err);
/* Waits for what was submitted, then removes the table. Nobody reads it any more; the pointer is dead on
 * success. */
ANX_NODISCARD anx_status store_table_drop(struct store *store, struct store_table *table, anx_error *err);
ANX_NODISCARD anx_status store_table_names(struct store *store,
                                           void (*each)(void *context, anx_text name), void *context,
                                           anx_error *err);

struct store_batch *store_batch_create(void);
void store_batch_destroy(struct store_batch *batch); /* NULL is fine */
/* Copies key (1..STORE_KEY_MAX bytes) and value. ANX_E_NOMEM latches in the batch and fails the submit. */
void store_batch_put(struct store_batch *batch, struct store_table *table, anx_text key, anx_text value);
void store_batch_put_parts(struct store_batch *batch, struct store_table *table, anx_text key,
                           const anx_text *parts, size_t n_part);
void store_batch_delete(struct store_batch *batch, struct store_table *table, anx_text key);
void store_batch_clear_table(struct store_batch *batch, struct store_table *table);
size_t store_batch_bytes(const struct store_batch *batch);
enum { STORE_KEY_MAX = 480 };

/* Takes the batch (also on failure). Blocks while more than max_queued bytes wait. A store that failed to
 * commit refuses: ANX_E_IO with the cause. When the disk was full, the commit that failed is tried again
 * every second, so that the store heals when there is room; until then waiters get ANX_E_IO, and what they
 * wait for may still become durable. After any other failure nothing is applied until the store is opened
 * anew. */
ANX_NODISCARD anx_status store_submit(struct store *store, struct store_batch *batch, uint64_t *ticket,
                                      anx_error *err);
/* Until the batch of that ticket is durable (or was refused). */
ANX_NODISCARD anx_status store_wait(struct store *store, uint64_t ticket, anx_error *err);
/* Every batch up to this ticket is durable. */
uint64_t store_durable(struct store *store);

/* A snapshot of committed data. Bytes it returns are valid until it ends. Keep it short: pages freed by later
 * writes are not reused while it lives, and the address range cannot grow; so never wait for a ticket inside.
 * One thread at a time per reader. */
ANX_NODISCARD anx_status store_read_begin(struct store *store, struct store_read **out, anx_error *err);
void store_read_end(struct store_read *read); /* NULL is fine */
/* The number of the commit it shows: equal numbers of one store show the same data. */
uint64_t store_read_id(const struct store_read *read);
/* ANX_E_NOT_FOUND when absent. */
ANX_NODISCARD anx_status store_get(struct store_read *read, struct store_table *table, anx_text key,
                                   anx_text *value, anx_error *err);
/* The same without verifying the checksum: for what was verified when it was loaded, or written since, and
 * does no harm beyond a wrong answer. */
ANX_NODISCARD anx_status store_peek(struct store_read *read, struct store_table *table, anx_text key,
                                    anx_text *value);
/* Keys >= from in order until `each` returns false. */
ANX_NODISCARD anx_status store_scan(struct store_read *read, struct store_table *table, anx_text from,
                                    bool (*each)(void *context, anx_text key, anx_text value),
                                    void *context, anx_error *err);

/* Checks every page and every value; commits wait. ANX_E_CORRUPT says where. (Opening has checked the pages
 * of a closed store.) */
ANX_NODISCARD anx_status store_inspect(struct store *store, anx_error *err);
/* A consistent, compact copy into a folder that is made or empty, while writers go on. */
ANX_NODISCARD anx_status store_copy(struct store *store, const char *path, anx_error *err);

struct store_stats {
    uint64_t bytes_used, bytes_file, commits, batches, queued_bytes;
    bool is_ok;
    char failure[128];
};
void store_get_stats(struct store *store, struct store_stats *out);

#endif
