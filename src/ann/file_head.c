/* The container's head and trailer. The head says what the file is and where each section lies, all of it
 * known before the first byte is written; what is known only afterwards, the checksums, is in the trailer. So
 * a file can be streamed out, and streamed in with every length known before it is needed. */
#include <string.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/hash.h"

#define VERSION_MAJOR 1 /* 1.0: first */
#define VERSION_MINOR 0
#define TABLE_AT 480
#define TABLE_ROW 32
#define SUM_AT (FILE_HEAD_SIZE - 8)
#define TRAILER_VERSION 1
#define TRAILER_HEAD 32
#define TRAILER_FOOT 32

_Static_assert(TABLE_AT + SECTION_MAX * TABLE_ROW <= SUM_AT, "the section table fits the head");

static uint64_t
section_align(uint64_t size)
{
    return size >= FILE_PAGED ? FILE_PAGE : FILE_ALIGN;
}

bool
file_head_layout(struct file_head *head)
{
    uint64_t limit = (uint64_t) INT64_MAX / 4;
    uint64_t at = head->head_at + FILE_HEAD_SIZE;

    if (head->head_at > limit)
        return false;
    for (size_t i = 0; i < head->n_section; i++) {
        struct file_section *section = &head->section[i];

        at = file_align(at, section_align(section->size));
        if (section->size > limit || at > limit)
            return false;
        section->at = at;
        at += section->size;
    }
    head->trailer_at = file_align(at, FILE_ALIGN);
    head->file_size = head->trailer_at + file_trailer_size(head->trailer_at);
    return true;
}

/* The fields of params in the head, in this order from byte 104. */
static void
encode_params(const anx_index_params *p, uint8_t *bytes)
{
    uint32_t quantile;

    memcpy(&quantile, &p->quantile, sizeof(quantile));
    bytes[40] = (uint8_t) p->kind;
    bytes[41] = (uint8_t) p->metric;
    bytes[42] = (uint8_t) p->scalar;
    bytes[43] = (uint8_t) p->quantization;
    anx_store_le(bytes + 48, p->dim, 8);
    anx_store_le(bytes + 72, p->m, 8);
    anx_store_le(bytes + 104, p->ef_construction, 8);
    anx_store_le(bytes + 112, p->ef, 8);
    anx_store_le(bytes + 120, p->centroids, 8);
    anx_store_le(bytes + 128, p->nprobe, 8);
    anx_store_le(bytes + 136, p->seed, 8);
    anx_store_le(bytes + 144, quantile, 4);
    anx_store_le(bytes + 152, p->sample_size, 8);
}

void
file_head_encode(const struct file_head *head, uint8_t bytes[FILE_HEAD_SIZE])
{
    memset(bytes, 0, FILE_HEAD_SIZE);
    memcpy(bytes, FILE_MAGIC, 8);
    anx_store_le(bytes + 8, VERSION_MAJOR, 2);
    anx_store_le(bytes + 10, VERSION_MINOR, 2);
    anx_store_le(bytes + 14, head->n_section, 2);
    anx_store_le(bytes + 16, head->head_at, 8);
    anx_store_le(bytes + 24, head->trailer_at, 8);
    anx_store_le(bytes + 32, head->file_size, 8);
    encode_params(&head->params, bytes);
    anx_store_le(bytes + 44, head->format, 4);
    anx_store_le(bytes + 56, head->count, 8);
    anx_store_le(bytes + 64, head->deleted, 8);
    anx_store_le(bytes + 80, head->m0, 8);
    anx_store_le(bytes + 88, head->max_level, 8);
    anx_store_le(bytes + 96, head->entry, 8);
    for (size_t i = 0; i < head->n_section; i++) {
        uint8_t *row = bytes + TABLE_AT + i * TABLE_ROW;

        memcpy(row, head->section[i].tag, 8);
        anx_store_le(row + 8, head->section[i].at, 8);
        anx_store_le(row + 16, head->section[i].size, 8);
    }
    anx_store_le(bytes + SUM_AT, anx_hash(bytes, SUM_AT), 8);
}

static void
decode_params(const uint8_t *bytes, anx_index_params *p)
{
    uint32_t quantile = (uint32_t) anx_load_le(bytes + 144, 4);

    *p = (anx_index_params) ANX_INDEX_PARAMS_INIT;
    p->kind = (anx_index_kind) bytes[40];
    p->metric = (anx_metric) bytes[41];
    p->scalar = (anx_scalar) bytes[42];
    p->quantization = (anx_quantization) bytes[43];
    p->dim = anx_load_le(bytes + 48, 8);
    p->m = anx_load_le(bytes + 72, 8);
    p->ef_construction = anx_load_le(bytes + 104, 8);
    p->ef = anx_load_le(bytes + 112, 8);
    p->centroids = anx_load_le(bytes + 120, 8);
    p->nprobe = anx_load_le(bytes + 128, 8);
    p->seed = anx_load_le(bytes + 136, 8);
    memcpy(&p->quantile, &quantile, sizeof(quantile));
    p->sample_size = anx_load_le(bytes + 152, 8);
}

/* A head with a right checksum may still come from an enemy; every field that sizes or indexes something is
 * bounded. */
static anx_status
check_params(const anx_index_params *p, anx_error *err)
{
    static const char *const text = "head of the index file has %s %llu, beyond its limit of %llu";
    const struct {
        const char *name;
        uint64_t value, limit;
    } fields[] = {
        { "kind", p->kind, ANX_INDEX_KIND_COUNT - 1 },
        { "metric", p->metric, ANX_METRIC_COUNT - 1 },
        { "scalar", p->scalar, ANX_SCALAR_COUNT - 1 },
        { "quantization", p->quantization, ANX_QUANTIZATION_SQ8 },
        { "dim", p->dim, ANX_DIM_MAX },
        { "m", p->m, ANX_HNSW_M_MAX },
        { "ef_construction", p->ef_construction, ANX_HNSW_EF_CONSTRUCTION_MAX },
        { "ef", p->ef, UINT32_MAX },
        { "centroids", p->centroids, ANX_IVF_CENTROIDS_MAX },
        { "nprobe", p->nprobe, UINT32_MAX },
        { "sample_size", p->sample_size, UINT32_MAX },
    };

    for (size_t i = 0; i < ANX_COUNT_OF(fields); i++)
        if (fields[i].value > fields[i].limit)
            return anx_fail(err, ANX_E_CORRUPT, text, fields[i].name, (unsigned long long) fields[i].value,
                            (unsigned long long) fields[i].limit);
    if (p->dim == 0)
        return anx_fail(err, ANX_E_CORRUPT, "head of the index file has dim 0, must be at least 1");
    if (p->kind == ANX_INDEX_HNSW && p->m < ANX_HNSW_M_MIN)
        return anx_fail(err, ANX_E_CORRUPT, "head of the index file has m %zu, must be at least %d", p->m,
                        ANX_HNSW_M_MIN);
    if ((p->metric == ANX_METRIC_HAMMING) != (p->scalar == ANX_SCALAR_B1))
        return anx_fail(err, ANX_E_CORRUPT,
                        "head of the index file has metric %s over scalar %s, which do not go together",
                        anx_metric_name(p->metric), anx_scalar_name(p->scalar));
    if (!(p->quantile >= 0 && p->quantile <= 1))
        return anx_fail(err, ANX_E_CORRUPT, "head of the index file has a quantile outside 0..1");
    return ANX_OK;
}

static anx_status
check_magic(const uint8_t *bytes, uint64_t head_at, anx_error *err)
{
    if (memcmp(bytes, FILE_MAGIC, 8) != 0)
        return anx_fail(err, ANX_E_CORRUPT, "no index head at byte %llu", (unsigned long long) head_at);
    if (anx_load_le(bytes + 8, 2) != VERSION_MAJOR)
        return anx_fail(err, ANX_E_VERSION, "index file has format version %u, this program reads version %u",
                        (unsigned) anx_load_le(bytes + 8, 2), VERSION_MAJOR);
    if (anx_load_le(bytes + SUM_AT, 8) != anx_hash(bytes, SUM_AT))
        return anx_fail(err, ANX_E_CHECKSUM,
                        "head of the index file is damaged: checksum mismatch in bytes %llu to %llu",
                        (unsigned long long) head_at, (unsigned long long) (head_at + FILE_HEAD_SIZE));
    return ANX_OK;
}

/* Offsets follow from sizes, so they are computed and compared rather than checked for overlap. */
static anx_status
decode_sections(const uint8_t *bytes, struct file_head *head, anx_error *err)
{
    head->n_section = anx_load_le(bytes + 14, 2);
    if (head->n_section > SECTION_MAX)
        return anx_fail(err, ANX_E_CORRUPT,
                        "head of the index file has %zu sections, at most %d are possible", head->n_section,
                        SECTION_MAX);
    for (size_t i = 0; i < head->n_section; i++) {
        const uint8_t *row = bytes + TABLE_AT + i * TABLE_ROW;

        memcpy(head->section[i].tag, row, 8);
        head->section[i].size = anx_load_le(row + 16, 8);
        for (size_t j = 0; j < i; j++)
            if (memcmp(head->section[j].tag, row, 8) == 0)
                return anx_fail(err, ANX_E_CORRUPT, "head of the index file names section %.8s twice",
                                (const char *) row);
    }
    if (!file_head_layout(head))
        return anx_fail(err, ANX_E_CORRUPT, "head of the index file has sections of impossible size");
    for (size_t i = 0; i < head->n_section; i++)
        if (head->section[i].at != anx_load_le(bytes + TABLE_AT + i * TABLE_ROW + 8, 8))
            return anx_fail(err, ANX_E_CORRUPT, "section %.8s of the index file is misplaced",
                            head->section[i].tag);
    if (head->trailer_at != anx_load_le(bytes + 24, 8) || head->file_size != anx_load_le(bytes + 32, 8))
        return anx_fail(err, ANX_E_CORRUPT, "head of the index file has sizes that do not add up");
    return ANX_OK;
}

anx_status
file_head_decode(const uint8_t bytes[FILE_HEAD_SIZE], uint64_t head_at, struct file_head *head,
                 anx_error *err)
{
    anx_status st = check_magic(bytes, head_at, err);

    if (st != ANX_OK)
        return st;
    *head = (struct file_head) { .head_at = head_at };
    for (size_t i = 0; i < 3; i++)
        head->version[i] = (unsigned) anx_load_le(bytes + 8 + 2 * i, 2);
    decode_params(bytes, &head->params);
    head->format = (anx_file_format) anx_load_le(bytes + 44, 4);
    head->count = anx_load_le(bytes + 56, 8);
    head->deleted = anx_load_le(bytes + 64, 8);
    head->m0 = anx_load_le(bytes + 80, 8);
    head->max_level = anx_load_le(bytes + 88, 8);
    head->entry = anx_load_le(bytes + 96, 8);
    if (anx_load_le(bytes + 16, 8) != head_at)
        return anx_fail(err, ANX_E_CORRUPT, "index head at byte %llu was written for byte %llu",
                        (unsigned long long) head_at, (unsigned long long) anx_load_le(bytes + 16, 8));
    if (anx_load_le(bytes + 44, 4) > ANX_FILE_LANTERN ||
        (head->format == ANX_FILE_ANNEX) != (head_at == 0))
        return anx_fail(err, ANX_E_CORRUPT, "head of the index file has format %u, impossible at byte %llu",
                        (unsigned) anx_load_le(bytes + 44, 4), (unsigned long long) head_at);
    st = check_params(&head->params, err);
    if (st == ANX_OK)
        st = decode_sections(bytes, head, err);
    return st;
}

uint64_t
file_trailer_size(uint64_t body_size)
{
    return TRAILER_HEAD + 8 * ((body_size + FILE_BLOCK - 1) / FILE_BLOCK) + TRAILER_FOOT;
}

void
file_trailer_write(struct file_out *out)
{
    uint64_t body_size = file_out_at(out);
    size_t size = (size_t) file_trailer_size(body_size);
    size_t foot = size - TRAILER_FOOT;
    uint8_t *bytes;

    file_out_end_body(out);
    if (out->status != ANX_OK)
        return;
    bytes = anx_alloc_zeroed(out->alloc, size, 1);
    if (!bytes) {
        out->status = anx_fail(out->err, ANX_E_NOMEM, "could not allocate a trailer of %zu bytes", size);
        return;
    }
    memcpy(bytes, FILE_TRAILER_MAGIC, 8);
    anx_store_le(bytes + 8, TRAILER_VERSION, 4);
    anx_store_le(bytes + 12, FILE_BLOCK, 4);
    anx_store_le(bytes + 16, body_size, 8);
    anx_store_le(bytes + 24, out->n_sum, 8);
    for (size_t i = 0; i < out->n_sum; i++)
        anx_store_le(bytes + TRAILER_HEAD + 8 * i, out->sums[i], 8);
    anx_store_le(bytes + foot, size, 8);
    anx_store_le(bytes + foot + 8, body_size + size, 8);
    anx_store_le(bytes + foot + 16, anx_hash(bytes, foot + 16), 8);
    memcpy(bytes + foot + 24, FILE_END_MAGIC, 8);
    file_out_write(out, bytes, size);
    anx_free(out->alloc, bytes);
}

anx_status
file_trailer_check(const uint8_t *bytes, uint64_t size, uint64_t body_size, const uint64_t *sums,
                   anx_error *err)
{
    size_t foot = (size_t) size - TRAILER_FOOT;
    uint64_t n = (size - TRAILER_HEAD - TRAILER_FOOT) / 8;

    if (memcmp(bytes, FILE_TRAILER_MAGIC, 8) != 0 || memcmp(bytes + foot + 24, FILE_END_MAGIC, 8) != 0 ||
        anx_load_le(bytes + foot + 16, 8) != anx_hash(bytes, foot + 16))
        return anx_fail(err, ANX_E_CHECKSUM, "trailer of the index file at byte %llu is damaged",
                        (unsigned long long) body_size);
    if (anx_load_le(bytes + 8, 4) != TRAILER_VERSION || anx_load_le(bytes + 12, 4) != FILE_BLOCK)
        return anx_fail(err, ANX_E_VERSION,
                        "trailer of the index file has version %u, this program reads version %u",
                        (unsigned) anx_load_le(bytes + 8, 4), TRAILER_VERSION);
    if (anx_load_le(bytes + 16, 8) != body_size || anx_load_le(bytes + 24, 8) != n ||
        anx_load_le(bytes + foot, 8) != size || anx_load_le(bytes + foot + 8, 8) != body_size + size)
        return anx_fail(err, ANX_E_CORRUPT, "trailer of the index file has sizes that do not add up");
    for (uint64_t i = 0; sums && i < n; i++) {
        uint64_t end = (i + 1) * FILE_BLOCK;

        if (anx_load_le(bytes + TRAILER_HEAD + 8 * i, 8) != sums[i])
            return anx_fail(err, ANX_E_CHECKSUM,
                            "index file is damaged: checksum mismatch in bytes %llu to %llu",
                            (unsigned long long) (i * FILE_BLOCK),
                            (unsigned long long) (end < body_size ? end : body_size));
    }
    return ANX_OK;
}
