/* Index files of every format, as they come and once more with their checksums made right: checksums would
 * otherwise keep every damaged byte away from the kinds, whose checks must hold without them. What loads is
 * searched and saved again. Seeds: corpus/index_file, made by seeds_index_file.c. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/hash.h"
#include "fuzz_input.h"

static anx_status
count_bytes(void *context, const void *bytes, size_t size, anx_error *err)
{
    (void) bytes;
    (void) err;
    *(size_t *) context += size;
    return ANX_OK;
}

/* Whatever was let in must be safe to use. */
static void
use(const anx_index *index)
{
    const anx_index_params *params = anx_index_get_params(index);
    void *query = anx_alloc_zeroed(NULL, 1, anx_row_size(params->scalar, params->dim));
    float distances[3];
    uint64_t labels[3];
    anx_hits hits = { distances, labels };
    size_t size, written = 0;
    anx_sink sink = { &written, count_bytes };
    anx_save_params save = { ANX_FILE_ANNEX, false, false };
    anx_error err;

    if (query && anx_index_search(index, NULL, 1, query, 3, &hits, &err) == ANX_OK &&
        anx_index_count(index) == 0 && labels[0] != ANX_LABEL_NONE)
        abort();
    (void) !anx_index_check(index, &err);
    if (anx_index_save_size(index, &save, &size, &err) == ANX_OK &&
        (anx_index_save(index, &save, &sink, NULL, &err) != ANX_OK || written != size))
        abort();
    anx_free(NULL, query);
}

static void
load(const uint8_t *data, size_t size, bool is_sized)
{
    struct input in = { data, size, 0 };
    anx_source source = { &in, read_input };
    anx_index_params hints = ANX_INDEX_PARAMS_INIT;
    struct file_load_options options = { index_file_ops_find, &hints, is_sized ? size : UINT64_MAX,
                                         is_sized };
    anx_index *index;
    anx_error err;

    hints.threads = 1;
    if (file_load(&options, &source, &index, &err) != ANX_OK) {
        if (index || err.message[0] == '\0')
            abort(); /* a refusal gives no index, and says why */
        return;
    }
    use(index);
    anx_index_destroy(index);
}

struct output {
    uint8_t *data;
    size_t size, capacity;
};

static anx_status
keep_bytes(void *context, const void *bytes, size_t size, anx_error *err)
{
    struct output *out = context;

    (void) err;
    if (size > out->capacity - out->size)
        abort();
    memcpy(out->data + out->size, bytes, size);
    out->size += size;
    return ANX_OK;
}

/* Makes the checksums of a container right, wherever its sections still fit into the file. */
static void
load_repaired(const uint8_t *data, size_t size)
{
    struct output to = { .capacity = size };
    anx_sink sink = { &to, keep_bytes };
    struct file_head head;
    struct file_out out;
    uint8_t *copy;

    if (size < FILE_HEAD_SIZE || memcmp(data, FILE_MAGIC, 8) != 0)
        return;
    copy = anx_alloc_bytes(NULL, size);
    to.data = anx_alloc_bytes(NULL, size);
    if (!copy || !to.data)
        abort();
    memcpy(copy, data, size);
    anx_store_le(copy + FILE_HEAD_SIZE - 8, anx_hash(copy, FILE_HEAD_SIZE - 8), 8);
    if (file_head_decode(copy, 0, &head, NULL) == ANX_OK && head.file_size == size) {
        file_out_init(&out, &sink, NULL, head.file_size, true, NULL);
        file_out_write(&out, copy, head.trailer_at);
        file_trailer_write(&out);
        file_out_flush(&out);
        file_out_fini(&out);
        load(to.data, to.size, true);
    }
    anx_free(NULL, copy);
    anx_free(NULL, to.data);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    load(data, size, true);
    load(data, size, false);
    load_repaired(data, size);
    return 0;
}
