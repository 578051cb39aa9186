/* Frames of the binary protocol: 16 bytes of head, then a body of arguments.
 *
 *     offset size
 *     0      4    magic
 *     4      2    version, with flags above it
 *     6      2    command; replies repeat it
 *     8      4    bytes of the body, as sent
 *     12     4    sequence; replies repeat it
 *
 * A request's body is two lists of arguments: the command's, and its context. A reply's is a code, a text and
 * one list. Threads: free of state. */
#ifndef ANX_RPC_FRAME_H
#define ANX_RPC_FRAME_H

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/text.h"

#define RPC_MAGIC 0xEEDD1132u
enum {
    RPC_HEAD_SIZE = 16,
    RPC_VERSION = 0x104,
    RPC_VERSION_MIN = 0x101,
    RPC_VERSION_COMPRESSED = 0x103, /* the first that may compress */
    RPC_VERSION_MASK = 0x3FF,
    RPC_FLAG_COMPRESSED = 1 << 10,
    RPC_ARGS_MAX = 16
};

struct rpc_head {
    uint16_t version; /* without flags */
    bool is_compressed;
    uint16_t command;
    uint32_t size, sequence;
};
/* ANX_E_PARAMS: wrong magic, or a version from before RPC_VERSION_MIN. */
ANX_NODISCARD anx_status rpc_head_read(const uint8_t bytes[RPC_HEAD_SIZE], struct rpc_head *out,
                                       anx_error *err);
void rpc_head_write(const struct rpc_head *head, uint8_t bytes[RPC_HEAD_SIZE]);

enum rpc_type { RPC_INT64 = 0, RPC_DOUBLE = 1, RPC_STRING = 2, RPC_BOOL = 3, RPC_NULL = 4, RPC_INT = 8 };
struct rpc_arg {
    enum rpc_type type;
    union {
        int64_t integer; /* RPC_INT64, RPC_INT, RPC_BOOL */
        double real;
        anx_text text;   /* borrowed from the body */
    };
};
struct rpc_args {
    struct rpc_arg list[RPC_ARGS_MAX];
    size_t n;
    uint64_t timeout_ms; /* of the context; 0: none */
};
/* A request's body. ANX_E_PARSE_BIN. */
ANX_NODISCARD anx_status rpc_args_read(anx_text body, struct rpc_args *out, anx_error *err);

/* The start of a reply's body: code, text, number of arguments; then the arguments. */
void rpc_put_reply(anx_buffer *out, int code, anx_text text, size_t n_arg);
void rpc_put_int(anx_buffer *out, int64_t value);
void rpc_put_int64(anx_buffer *out, int64_t value);
void rpc_put_string(anx_buffer *out, anx_text text);
void rpc_put_vstr(anx_buffer *out, anx_text text); /* size and bytes, without a type */

/* A blob that lists strings: precepts. The list is in `out`, [max]. ANX_E_PARSE_BIN. */
ANX_NODISCARD anx_status rpc_strings_read(anx_text blob, anx_text *out, size_t max, size_t *n,
                                          anx_error *err);

#endif
