/* Fuzz target: restoring a dump. The first byte: bit 0, the rest is a file as it stands; otherwise the rest
 * is frames of u8 kind, u8 size, payload, to which heads and sums are made, so that what lies behind them is
 * reached; bit 1, it is really restored and then opened as a database (the stored bytes may be anything), not
 * only verified. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "db/db.h"
#include "db/dump_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
    if (!holds)
        abort();
}

static void
write_frames(int fd, const uint8_t *data, size_t size)
{
    uint64_t number = 0;

    must(write(fd, dump_magic, DUMP_MAGIC_SIZE) == DUMP_MAGIC_SIZE);
    for (size_t at = 0; size - at >= 2; number++) {
        uint8_t frame[DUMP_HEAD_SIZE + 255 + DUMP_SUM_SIZE];
        size_t n = data[at + 1] < size - at - 2 ? data[at + 1] : size - at - 2;

        anx_store_le(frame, data[at], 4);
        anx_store_le(frame + 4, n, 4);
        anx_store_le(frame + 8, number, 8);
        if (n > 0)
            memcpy(frame + DUMP_HEAD_SIZE, data + at + 2, n);
        anx_store_le(frame + DUMP_HEAD_SIZE + n, anx_hash(frame, DUMP_HEAD_SIZE + n), DUMP_SUM_SIZE);
        n += DUMP_HEAD_SIZE + DUMP_SUM_SIZE;
        must(write(fd, frame, n) == (ssize_t) n);
        at += 2 + (n - DUMP_HEAD_SIZE - DUMP_SUM_SIZE);
    }
}

static void
open_restored(const char *root)
{
    struct engine_params params = { .path = root, .start_with_errors = true, .n_thread = 1 };
    struct engine *engine;
    anx_error err;

    if (engine_open(&params, &engine, &err) == ANX_OK)
        engine_close(engine);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct restore_params params = { .is_check = true };
    struct dump_counts counts;
    char root[] = "/dev/shm/annex-fuzz-XXXXXX", file[64], command[80];
    int fd = memfd_create("dump", 0);
    anx_error err;
    anx_status st;

    must(fd >= 0);
    if (size == 0) {
        close(fd);
        return 0;
    }
    if ((data[0] & 1) == 0)
        write_frames(fd, data + 1, size - 1);
    else
        must(write(fd, data + 1, size - 1) == (ssize_t) size - 1);
    snprintf(file, sizeof(file), "/proc/self/fd/%d", fd);
    params.file = file;
    st = db_restore(&params, &counts, &err);
    must(st == ANX_OK || err.message[0] != '\0');
    if ((data[0] & 2) != 0 && st == ANX_OK) {
        must(mkdtemp(root) != NULL);
        params.root = root;
        params.is_check = false;
        if (db_restore(&params, &counts, &err) == ANX_OK)
            open_restored(root);
        snprintf(command, sizeof(command), "rm -rf %s", root);
        must(system(command) == 0);
    }
    close(fd);
    return 0;
}
