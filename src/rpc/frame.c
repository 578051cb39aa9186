/* See frame.h. */
#include "rpc/frame.h"

#include "base/error.h"

anx_status
rpc_head_read(const uint8_t bytes[RPC_HEAD_SIZE], struct rpc_head *out, anx_error *err)
{
    uint32_t magic = (uint32_t) anx_load_le(bytes, 4);
    uint16_t word = (uint16_t) anx_load_le(bytes + 4, 2);

    *out = (struct rpc_head) {
        .version = word & RPC_VERSION_MASK,
        .is_compressed = (word & RPC_FLAG_COMPRESSED) != 0,
        .command = (uint16_t) anx_load_le(bytes + 6, 2),
        .size = (uint32_t) anx_load_le(bytes + 8, 4),
        .sequence = (uint32_t) anx_load_le(bytes + 12, 4),
    };
    if (magic != RPC_MAGIC)
        return anx_fail(err, ANX_E_PARAMS, "Invalid cproto magic %08x, expected %08x", magic, RPC_MAGIC);
    if (out->version < RPC_VERSION_MIN)
        return anx_fail(
            err, ANX_E_PARAMS,
            "Unsupported cproto version %04x. This server expects client's cproto version %04x or newer",
            out->version, RPC_VERSION_MIN);
    return ANX_OK;
}

void
rpc_head_write(const struct rpc_head *head, uint8_t bytes[RPC_HEAD_SIZE])
{
    anx_store_le(bytes, RPC_MAGIC, 4);
    anx_store_le(bytes + 4, RPC_VERSION | (head->is_compressed ? RPC_FLAG_COMPRESSED : 0), 2);
    anx_store_le(bytes + 6, head->command, 2);
    anx_store_le(bytes + 8, head->size, 4);
    anx_store_le(bytes + 12, head->sequence, 4);
}

/* ---- Arguments ---- */

static anx_status
read_arg(anx_reader *in, struct rpc_arg *out, anx_error *err)
{
    uint64_t type = anx_read_varint(in), size;

    *out = (struct rpc_arg) { .type = (enum rpc_type) type };
    switch (type) {
    case RPC_INT64:
    case RPC_INT:
        out->integer = anx_read_zigzag(in);
        break;
    case RPC_DOUBLE:
        out->real = anx_read_f64(in);
        break;
    case RPC_STRING:
        size = anx_read_varint(in);
        out->text = (anx_text) { (const char *) anx_read_view(in, size), size };
        break;
    case RPC_BOOL:
        out->integer = anx_read_varint(in) != 0;
        break;
    case RPC_NULL:
        break;
    default:
        return anx_fail(err, ANX_E_PARSE_BIN, "Unexpected type %llu of an argument",
                        (unsigned long long) type);
    }
    return ANX_OK;
}

static anx_status
read_list(anx_reader *in, struct rpc_arg *list, size_t *n, anx_error *err)
{
    uint64_t count = anx_read_varint(in);
    anx_status st = ANX_OK;

    if (!in->failed && count > RPC_ARGS_MAX)
        return anx_fail(err, ANX_E_PARSE_BIN, "Too many arguments: %llu, at most %d are possible",
                        (unsigned long long) count, RPC_ARGS_MAX);
    for (uint64_t i = 0; !in->failed && st == ANX_OK && i < count; i++)
        st = read_arg(in, &list[i], err);
    if (st == ANX_OK && in->failed)
        st = anx_fail(err, ANX_E_PARSE_BIN, "Arguments are cut short at byte %zu of %zu", in->at, in->size);
    *n = count;
    return st;
}

anx_status
rpc_args_read(anx_text body, struct rpc_args *out, anx_error *err)
{
    struct rpc_arg context[RPC_ARGS_MAX];
    anx_reader in = anx_reader_init(body.data, body.size);
    size_t n_context = 0;
    anx_status st = read_list(&in, out->list, &out->n, err);

    out->timeout_ms = 0;
    if (st == ANX_OK && in.at < in.size)
        st = read_list(&in, context, &n_context, err);
    if (st == ANX_OK && n_context > 0 && (context[0].type == RPC_INT64 || context[0].type == RPC_INT) &&
        context[0].integer > 0)
        out->timeout_ms = (uint64_t) context[0].integer;
    return st;
}

void
rpc_put_reply(anx_buffer *out, int code, anx_text text, size_t n_arg)
{
    anx_buffer_varint(out, (uint64_t) code);
    rpc_put_vstr(out, text);
    anx_buffer_varint(out, n_arg);
}

void
rpc_put_int(anx_buffer *out, int64_t value)
{
    anx_buffer_varint(out, RPC_INT);
    anx_buffer_zigzag(out, value);
}

void
rpc_put_int64(anx_buffer *out, int64_t value)
{
    anx_buffer_varint(out, RPC_INT64);
    anx_buffer_zigzag(out, value);
}

void
rpc_put_vstr(anx_buffer *out, anx_text text)
{
    anx_buffer_varint(out, text.size);
    anx_buffer_text(out, text);
}

void
rpc_put_string(anx_buffer *out, anx_text text)
{
    anx_buffer_varint(out, RPC_STRING);
    rpc_put_vstr(out, text);
}

anx_status
rpc_strings_read(anx_text blob, anx_text *out, size_t max, size_t *n, anx_error *err)
{
    anx_reader in = anx_reader_init(blob.data, blob.size);
    uint64_t count = blob.size > 0 ? anx_read_varint(&in) : 0;

    *n = 0;
    if (count > max)
        return anx_fail(err, ANX_E_PARAMS, "Too many precepts: %llu, at most %zu are possible",
                        (unsigned long long) count, max);
    for (; !in.failed && *n < count; ++*n) {
        uint64_t size = anx_read_varint(&in);

        out[*n] = (anx_text) { (const char *) anx_read_view(&in, size), size };
    }
    if (in.failed)
        return anx_fail(err, ANX_E_PARSE_BIN, "Precepts are cut short at byte %zu of %zu", in.at, in.size);
    return ANX_OK;
}
