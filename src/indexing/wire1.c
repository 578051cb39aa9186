/* Version 1: fixed frames. The numbers are those of the original programs; README.md has the tables. */
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "indexing/wire.h"

/* --------------------------------------------------------------------------------------------- numbers and
 * job
 */

bool
anx_wire_metric(uint32_t wire, anx_metric *out)
{
    switch (wire) {
    case ANX_WIRE_COSINE:
        *out = ANX_METRIC_COSINE;
        return true;
    case ANX_WIRE_IP:
        *out = ANX_METRIC_IP;
        return true;
    case ANX_WIRE_L2SQ:
        *out = ANX_METRIC_L2;
        return true;
    case ANX_WIRE_HAMMING:
        *out = ANX_METRIC_HAMMING;
        return true;
    default:
        return false;
    }
}

bool
anx_wire_scalar(uint32_t wire, anx_scalar *out)
{
    switch (wire) {
    case ANX_WIRE_F32:
        *out = ANX_SCALAR_F32;
        return true;
    case ANX_WIRE_F16:
        *out = ANX_SCALAR_F16;
        return true;
    case ANX_WIRE_I8:
        *out = ANX_SCALAR_I8;
        return true;
    case ANX_WIRE_B1:
        *out = ANX_SCALAR_B1;
        return true;
    default:
        return false;
    }
}

bool
anx_wire_format(uint32_t wire, anx_file_format *out)
{
    switch (wire) {
    case ANX_WIRE_FILE_ANNEX:
        *out = ANX_FILE_ANNEX;
        return true;
    case ANX_WIRE_FILE_USEARCH:
        *out = ANX_FILE_USEARCH;
        return true;
    case ANX_WIRE_FILE_LANTERN:
        *out = ANX_FILE_LANTERN;
        return true;
    case ANX_WIRE_FILE_GRAPH:
        *out = ANX_FILE_GRAPH;
        return true;
    default:
        return false;
    }
}

uint32_t
anx_wire_of_metric(anx_metric metric)
{
    switch (metric) {
    case ANX_METRIC_COSINE:
        return ANX_WIRE_COSINE;
    case ANX_METRIC_IP:
        return ANX_WIRE_IP;
    case ANX_METRIC_L2:
        return ANX_WIRE_L2SQ;
    case ANX_METRIC_HAMMING:
        return ANX_WIRE_HAMMING;
    default:
        return 0;
    }
}

uint32_t
anx_wire_of_scalar(anx_scalar scalar)
{
    switch (scalar) {
    case ANX_SCALAR_F32:
        return ANX_WIRE_F32;
    case ANX_SCALAR_F16:
        return ANX_WIRE_F16;
    case ANX_SCALAR_I8:
        return ANX_WIRE_I8;
    case ANX_SCALAR_B1:
        return ANX_WIRE_B1;
    default:
        return 0;
    }
}

uint32_t
anx_wire_of_format(anx_file_format format)
{
    switch (format) {
    case ANX_FILE_ANNEX:
        return ANX_WIRE_FILE_ANNEX;
    case ANX_FILE_USEARCH:
        return ANX_WIRE_FILE_USEARCH;
    case ANX_FILE_LANTERN:
        return ANX_WIRE_FILE_LANTERN;
    case ANX_FILE_GRAPH:
        return ANX_WIRE_FILE_GRAPH;
    default:
        return 0;
    }
}

size_t
anx_wire_vector_size(const anx_wire_job *job)
{
    size_t dim = job->dim;

    if (dim < 1 || dim > ANX_DIM_MAX)
        return 0;
    switch (job->element) {
    case ANX_WIRE_F32:
        return 4 * dim;
    case ANX_WIRE_F16:
        return 2 * dim;
    case ANX_WIRE_I8:
        return dim;
    case ANX_WIRE_B1:
        return (dim + 7) / 8;
    default:
        return 0;
    }
}

static anx_status
check_range(const char *what, uint32_t value, uint32_t min, uint32_t max, anx_error *err)
{
    if (value >= min && value <= max)
        return ANX_OK;
    return anx_fail(err, ANX_E_INVALID, "%s is %u, allowed are %u to %u", what, value, min, max);
}

/* Metric, stored kind and kind on the wire have to go together. */
static anx_status
check_kinds(const anx_wire_job *job, anx_error *err)
{
    bool is_hamming = job->metric == ANX_WIRE_HAMMING;
    anx_metric metric;
    anx_scalar scalar;

    if (!anx_wire_metric(job->metric, &metric) || (job->version == 1 && metric == ANX_METRIC_IP))
        return anx_fail(err, ANX_E_INVALID, "Invalid metric %u", job->metric);
    if (job->scalar == ANX_WIRE_F64)
        return anx_fail(err, ANX_E_UNSUPPORTED, "indexes of 64-bit floats (f64) are not supported");
    if (!anx_wire_scalar(job->scalar, &scalar))
        return anx_fail(err, ANX_E_INVALID, "Invalid scalar quantization");
    if (is_hamming && scalar != ANX_SCALAR_B1)
        return anx_fail(err, ANX_E_INVALID, "the hamming metric needs an index of bits, not scalar kind %u",
                        job->scalar);
    if (is_hamming != (job->element == ANX_WIRE_B1))
        return anx_fail(err, ANX_E_INVALID, "metric %u does not go with rows of element kind %u", job->metric,
                        job->element);
    if (job->element != ANX_WIRE_F32 && job->element != job->scalar)
        return anx_fail(err, ANX_E_INVALID, "rows of element kind %u cannot fill an index of kind %u",
                        job->element, job->scalar);
    return ANX_OK;
}

static anx_status
check_dim(const anx_wire_job *job, anx_error *err)
{
    uint32_t max = ANX_DIM_MAX;
    anx_status st;

    if (job->version == 1)
        max = job->element == ANX_WIRE_B1 ? ANX_WIRE_V1_BITS_MAX : ANX_WIRE_V1_DIM_MAX;
    st = check_range("the dimension", job->dim, 1, max, err);
    if (st == ANX_OK && job->scalar == ANX_WIRE_B1 && job->dim % 8)
        st = anx_fail(err, ANX_E_UNSUPPORTED,
                      "an index of bits needs a dimension that is a multiple of 8, it is %u", job->dim);
    return st;
}

static anx_status
check_graph(const anx_wire_job *job, anx_error *err)
{
    bool is_v1 = job->version == 1;
    uint32_t zero_is_default = is_v1 ? 1 : 0;
    anx_status st = ANX_OK;

    if (is_v1 || job->m)
        st = check_range("m", job->m, ANX_HNSW_M_MIN, ANX_HNSW_M_MAX, err);
    if (st == ANX_OK)
        st = check_range("ef_construction", job->ef_construction, zero_is_default,
                         is_v1 ? ANX_WIRE_V1_EF_MAX : ANX_HNSW_EF_CONSTRUCTION_MAX, err);
    if (st == ANX_OK)
        st = check_range("ef", job->ef, zero_is_default, is_v1 ? ANX_WIRE_V1_EF_MAX : ANX_WIRE_EF_MAX, err);
    return st;
}

anx_status
anx_wire_job_check(const anx_wire_job *job, anx_error *err)
{
    anx_file_format format;
    anx_status st;

    if (job->has_pq)
        return anx_fail(
            err, ANX_E_UNSUPPORTED,
            "product quantization (pq) is not supported by this server; create the index without pq, "
            "or with quant_bits");
    if (job->version == 1 && job->element_bits != 32 && job->element_bits != 1)
        return anx_fail(err, ANX_E_UNSUPPORTED, "rows with elements of %u bits are not supported",
                        job->element_bits);
    st = check_kinds(job, err);
    if (st == ANX_OK)
        st = check_dim(job, err);
    if (st == ANX_OK)
        st = check_graph(job, err);
    if (st != ANX_OK)
        return st;
    if (!anx_wire_format(job->format, &format))
        return anx_fail(err, ANX_E_UNSUPPORTED, "unknown file format %u", job->format);
    if (format == ANX_FILE_GRAPH && (job->is_plain || job->is_native))
        return anx_fail(err, ANX_E_INVALID, "a graph is neither plain nor native");
    if (job->is_plain && job->is_native)
        return anx_fail(err, ANX_E_INVALID, "a file cannot be plain and native at once");
    return ANX_OK;
}

/* -------------------------------------------------------------------------------------------------- the
 * frames
 */

void
anx_wire_hello_encode(uint8_t bytes[ANX_WIRE_V1_HELLO_SIZE], uint32_t type)
{
    anx_store_le(bytes, 1, 4);
    anx_store_le(bytes + 4, type, 4);
}

anx_status
anx_wire_hello_decode(const uint8_t bytes[ANX_WIRE_V1_HELLO_SIZE], uint32_t *type, anx_error *err)
{
    uint32_t version = (uint32_t) anx_load_le(bytes, 4);

    *type = (uint32_t) anx_load_le(bytes + 4, 4);
    if (version != 1)
        return anx_fail(
            err, ANX_E_VERSION,
            "external index protocol version mismatch - client version: 1, server version: %u", version);
    if (*type != ANX_WIRE_INDEXER && *type != ANX_WIRE_ROUTER)
        return anx_fail(err, ANX_E_CORRUPT, "the server says it is of type %u; known are 1 and 2", *type);
    return ANX_OK;
}

anx_wire_first
anx_wire_first_of(const uint8_t bytes[4])
{
    switch ((uint32_t) anx_load_le(bytes, 4)) {
    case ANX_WIRE_V1_INIT:
        return ANX_WIRE_FIRST_INIT;
    case ANX_WIRE_V1_END:
        return ANX_WIRE_FIRST_END;
    case ANX_WIRE_V1_ROUTER:
        return ANX_WIRE_FIRST_ROUTER;
    case ANX_WIRE_UPGRADE:
        return ANX_WIRE_FIRST_UPGRADE;
    default:
        return ANX_WIRE_FIRST_OTHER;
    }
}

void
anx_wire_init_encode(uint8_t bytes[ANX_WIRE_V1_INIT_SIZE], const anx_wire_job *job)
{
    uint64_t capacity = job->estimated_rows ? job->estimated_rows : 1;
    const uint64_t words[] = {
        ANX_WIRE_V1_INIT,
        job->has_pq,
        job->metric,
        job->scalar,
        job->dim,
        job->m,
        job->ef_construction,
        job->ef,
        job->has_pq ? job->n_centroids : 0,
        job->has_pq ? job->n_subq : 0,
        capacity < UINT32_MAX ? capacity : UINT32_MAX,
        job->element == ANX_WIRE_B1 ? 1 : 32,
    };

    for (size_t i = 0; i < ANX_COUNT_OF(words); i++)
        anx_store_le(bytes + 4 * i, words[i], 4);
}

anx_status
anx_wire_init_decode(const uint8_t bytes[ANX_WIRE_V1_INIT_SIZE], anx_wire_job *out, anx_error *err)
{
    anx_reader r = anx_reader_init(bytes, ANX_WIRE_V1_INIT_SIZE);

    memset(out, 0, sizeof(*out));
    if (anx_read_u32(&r) != ANX_WIRE_V1_INIT)
        return anx_fail(err, ANX_E_CORRUPT, "Invalid message header");
    out->version = 1;
    out->has_pq = anx_read_u32(&r) == 1;
    out->metric = anx_read_u32(&r);
    out->scalar = anx_read_u32(&r);
    if (!out->scalar)
        out->scalar = ANX_WIRE_F32;
    out->dim = anx_read_u32(&r);
    out->m = anx_read_u32(&r);
    out->ef_construction = anx_read_u32(&r);
    out->ef = anx_read_u32(&r);
    out->n_centroids = anx_read_u32(&r);
    out->n_subq = anx_read_u32(&r);
    out->estimated_rows = anx_read_u32(&r);
    out->element_bits = anx_read_u32(&r);
    out->element = out->element_bits == 1 ? ANX_WIRE_B1 : ANX_WIRE_F32;
    out->format = ANX_WIRE_FILE_LANTERN;
    out->is_plain = true;
    return ANX_OK;
}

anx_wire_row_word
anx_wire_row_word_of(const uint8_t bytes[4])
{
    switch ((uint32_t) anx_load_le(bytes, 4)) {
    case ANX_WIRE_V1_END:
        return ANX_WIRE_WORD_END;
    case ANX_WIRE_V1_INIT:
        return ANX_WIRE_WORD_INIT;
    default:
        return ANX_WIRE_WORD_ROW;
    }
}

void
anx_wire_counts_encode(uint8_t bytes[ANX_WIRE_V1_COUNTS_SIZE], uint64_t count, uint64_t size)
{
    anx_store_le(bytes, count, 8);
    anx_store_le(bytes + 8, size, 8);
}

size_t
anx_wire_v1_error_encode(uint8_t bytes[ANX_WIRE_V1_ERROR_MAX], const char *text)
{
    char *out = (char *) bytes + ANX_WIRE_V1_ERROR_HEAD_SIZE;
    size_t size;

    anx_wire_text(out, ANX_WIRE_V1_ERROR_TEXT_MAX, text, strlen(text));
    size = strlen(out) + 1;
    anx_store_le(bytes, ANX_WIRE_V1_ERROR, 4);
    anx_store_le(bytes + 4, size, 4);
    return ANX_WIRE_V1_ERROR_HEAD_SIZE + size;
}

bool
anx_wire_is_error(const uint8_t bytes[4])
{
    return anx_load_le(bytes, 4) == ANX_WIRE_V1_ERROR;
}

anx_status
anx_wire_v1_error_head(const uint8_t bytes[ANX_WIRE_V1_ERROR_HEAD_SIZE], size_t *text_size, anx_error *err)
{
    uint64_t size = anx_load_le(bytes + 4, 4);

    *text_size = 0;
    if (!anx_wire_is_error(bytes))
        return anx_fail(err, ANX_E_CORRUPT, "this is not an error frame");
    if (size > ANX_WIRE_V1_ERROR_IN_MAX)
        return anx_fail(err, ANX_E_LIMIT, "the server announces an error text of %llu bytes, the limit is %u",
                        (unsigned long long) size, ANX_WIRE_V1_ERROR_IN_MAX);
    *text_size = (size_t) size;
    return ANX_OK;
}

size_t
anx_wire_route_encode(uint8_t bytes[ANX_WIRE_V1_ROUTE_MAX], const anx_wire_route *route)
{
    size_t size = strlen(route->host);

    if (size > ANX_WIRE_HOST_MAX)
        return 0;
    anx_store_le(bytes, route->is_secure, 4);
    anx_store_le(bytes + 4, size, 4);
    memcpy(bytes + 8, route->host, size);
    anx_store_le(bytes + 8 + size, route->port, 4);
    return 12 + size;
}

anx_status
anx_wire_route_head(const uint8_t bytes[8], size_t *host_size, anx_error *err)
{
    uint64_t is_secure = anx_load_le(bytes, 4);
    uint64_t size = anx_load_le(bytes + 4, 4);

    *host_size = 0;
    if (is_secure > 1)
        return anx_fail(err, ANX_E_CORRUPT, "the router's answer has the TLS flag %llu, it must be 0 or 1",
                        (unsigned long long) is_secure);
    if (size < 1 || size > ANX_WIRE_HOST_MAX)
        return anx_fail(err, ANX_E_LIMIT,
                        "the router's answer has an address of %llu bytes, allowed are 1 to %d",
                        (unsigned long long) size, ANX_WIRE_HOST_MAX);
    *host_size = (size_t) size;
    return ANX_OK;
}

/* Letters, digits and what addresses need: nothing that could mean something to a resolver or a terminal. */
static bool
is_host_byte(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == '_' || c == ':' || c == '[' || c == ']' || c == '%';
}

anx_status
anx_wire_route_decode(const uint8_t *bytes, size_t size, anx_wire_route *out, anx_error *err)
{
    size_t host_size;
    anx_status st;

    memset(out, 0, sizeof(*out));
    if (size < 8)
        return anx_fail(err, ANX_E_CORRUPT, "the router's answer is cut short");
    st = anx_wire_route_head(bytes, &host_size, err);
    if (st != ANX_OK)
        return st;
    if (size != 12 + host_size)
        return anx_fail(err, ANX_E_CORRUPT, "the router's answer has %zu bytes, %zu were announced", size,
                        12 + host_size);
    for (size_t i = 0; i < host_size; i++)
        if (!is_host_byte(bytes[8 + i]))
            return anx_fail(err, ANX_E_CORRUPT, "the router's answer has an address with byte 0x%02x in it",
                            bytes[8 + i]);
    out->is_secure = anx_load_le(bytes, 4) == 1;
    memcpy(out->host, bytes + 8, host_size);
    out->port = (uint32_t) anx_load_le(bytes + 8 + host_size, 4);
    if (out->port < 1 || out->port > 65535)
        return anx_fail(err, ANX_E_CORRUPT, "the router's answer has port %u", out->port);
    return ANX_OK;
}

/* ---------------------------------------------------------------------------------------------------------
 * text
 */

/* Length of the UTF-8 character at p (RFC 3629), 0 when it is not one. */
static size_t
character_size(const uint8_t *p, size_t left)
{
    uint8_t lead = p[0];
    size_t size = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;

    if (!size || size > left)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    if ((lead == 0xe0 && p[1] < 0xa0) || (lead == 0xf0 && p[1] < 0x90)) /* longer than needed */
        return 0;
    if ((lead == 0xed && p[1] >= 0xa0) || (lead == 0xf4 && p[1] >= 0x90)) /* surrogates, beyond the last */
        return 0;
    return size;
}

void
anx_wire_text(char *out, size_t out_size, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    size_t n = 0;

    for (size_t at = 0; at < size && p[at];) {
        size_t step = character_size(p + at, size - at);
        bool is_control = p[at] < 0x20 || p[at] == 0x7f || (step == 2 && p[at] == 0xc2 && p[at + 1] < 0xa0);

        if (n + (step && !is_control ? step : 1) >= out_size)
            break;
        if (is_control || !step)
            out[n++] = is_control ? ' ' : '?';
        else
            for (size_t i = 0; i < step; i++)
                out[n++] = (char) p[at + i];
        at += step ? step : 1;
    }
    out[n] = '\0';
}
