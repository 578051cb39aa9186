/* Inside the storage room: batches as the committer sees them, and the backend contract. */
#ifndef ANX_STORE_STORE_INT_H
#define ANX_STORE_STORE_INT_H

#include <stdbool.h>

#include "store/store.h"

/* ---- Batches (batch.c) ---- */
enum op_kind { OP_PUT, OP_DELETE, OP_CLEAR };
/* One change; key and value follow it in memory, each op starting at a multiple of 16 bytes. */
struct store_op {
    struct store_table *table;
    size_t key_size;
    size_t value_size; /* checksum included */
    enum op_kind kind;
};
/* A run of ops. Batches are lists of blocks, so that a large one is never copied to grow. */
struct store_block {
    struct store_block *next;
    size_t used, capacity;
    _Alignas(16) uint8_t bytes[];
};
struct store_batch {
    struct store_block *first, *last; /* owned */
    size_t bytes;
    bool failed;              /* out of memory, or a key of a wrong size */
    uint64_t ticket;          /* set by submit */
    struct store_batch *next; /* in the queue */
};
/* First call with *at NULL and *block = batch->first. NULL at the end. */
const struct store_op *store_batch_next(const struct store_block **block, const struct store_op *at);
static inline anx_text
store_op_key(const struct store_op *op)
{
    return (anx_text) { (const char *) (op + 1), op->key_size };
}
static inline anx_text
store_op_value(const struct store_op *op)
{
    return (anx_text) { (const char *) (op + 1) + op->key_size, op->value_size };
}

/* ---- Checksums of values ---- */
enum { STORE_SUM_SIZE = 8 };
uint64_t store_sum(anx_text key, const void *value, size_t size);
/* Cuts the checksum off. ANX_E_CORRUPT when it is wrong. */
ANX_NODISCARD anx_status store_verify(anx_text table, anx_text key, anx_text *value, anx_error *err);

/* ---- Backends ---- */
struct store_table {
    char *name;            /* owned by the store's list */
    uint64_t handle;       /* of the backend */
    struct store_table *next;
};

/* What an engine of storage offers. `self` is what open made. commit is called by the committer thread only;
 * the rest by any thread. Values carry their checksum on both sides; store.c makes and verifies it. */
struct store_backend {
    const char *name;
    anx_status (*open)(const struct store_params *params, void **self, anx_error *err);
    void (*close)(void *self);
    /* Applies the batches in order and makes them durable, all or none. *is_retryable: the failure may pass.
     */
    anx_status (*commit)(void *self, const struct store_batch *batches, bool *is_retryable, anx_error *err);
    anx_status (*table_open)(void *self, const char *name, bool create, uint64_t *handle, anx_error *err);
    anx_status (*table_drop)(void *self, uint64_t handle, anx_error *err);
    anx_status (*table_names)(void *self, void (*each)(void *context, anx_text name), void *context,
                              anx_error *err);
    anx_status (*read_begin)(void *self, void **read, anx_error *err);
    void (*read_end)(void *self, void *read);
    uint64_t (*read_id)(void *read);
    anx_status (*get)(void *self, void *read, uint64_t handle, anx_text key, anx_text *value, anx_error *err);
    anx_status (*scan)(void *self, void *read, uint64_t handle, anx_text from,
                       bool (*each)(void *context, anx_text key, anx_text value), void *context,
                       anx_error *err);
    anx_status (*check)(void *self, anx_error *err); /* structure only; commits wait */
    anx_status (*copy)(void *self, const char *path, anx_error *err);
    void (*sizes)(void *self, uint64_t *used, uint64_t *file);
};
extern const struct store_backend store_lmdb;

/* Verifies the structure of an LMDB file before it is mapped (lmdb_check.c). ANX_E_CORRUPT, ANX_E_VERSION,
 * ANX_E_IO. An empty file is fine. */
ANX_NODISCARD anx_status lmdb_check_file(int fd, anx_error *err);

#endif
