/* Frames of a dump file, for writing and reading them. */
#ifndef ANX_DB_DUMP_INT_H
#define ANX_DB_DUMP_INT_H

#include "base/buffer.h"
#include "db/dump.h"

enum dump_kind { DUMP_DATABASE = 1, DUMP_TABLE, DUMP_ENTRIES, DUMP_DATABASE_END, DUMP_END };
enum {
    DUMP_MAGIC_SIZE = 8,
    DUMP_HEAD_SIZE = 16,
    DUMP_SUM_SIZE = 8,
    DUMP_PIECE = 1 << 20,        /* entries are gathered to about this */
    DUMP_PAYLOAD_MAX = 1 << 30
};
extern const char dump_magic[DUMP_MAGIC_SIZE];

struct dump_reader {
    int fd;
    uint64_t at;      /* bytes of whole frames read so far */
    uint64_t number;  /* of the next frame */
    bool is_at_end;   /* no byte of a further frame is there */
    anx_buffer frame; /* head, payload, sum */
    enum dump_kind kind;
    const uint8_t *payload;
    size_t size;
};
/* Reads the magic. ANX_E_VERSION, ANX_E_IO. */
ANX_NODISCARD anx_status dump_reader_open(struct dump_reader *reader, int fd, anx_error *err);
void dump_reader_close(struct dump_reader *reader); /* the descriptor stays the caller's */
/* The next frame, verified. ANX_E_CORRUPT names the byte; is_at_end tells a cut between frames from damage.
 */
ANX_NODISCARD anx_status dump_reader_next(struct dump_reader *reader, anx_error *err);

#endif
