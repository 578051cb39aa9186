/* The head that the usearch layout and the fork's share, and the code tables behind it. The fork's head is
 * the older one: 80 bytes in place of 64, codes of the sequential numbering, and two more fields after the
 * graph header. */
#include <string.h>

#include "ann/file_part.h"
#include "base/error.h"
#include "base/hash.h"

#define SCALAR_AT 14
#define KEY_AT 15
#define SLOT_AT 16
#define COUNTS_AT 17
#define MULTI_AT 41
#define MARK_HEAD_AT 48 /* of the mark: offset of our head */
#define MARK_SUM_AT 56  /* of the mark: checksum of prefix and head, with itself as zero */
#define SPARE_END_USEARCH 64
#define SPARE_END_LANTERN 80

#define SPARSE_SINCE 10 /* minor version of the sparse code numbering */
#define USEARCH_MINOR 17 /* what we stamp: accepted by every loader that was examined */

/* One row per code that a file may carry. dim_bytes: bytes per dimension, 0 for packed bits. */
struct scalar_code {
    uint8_t code;
    anx_scalar scalar;
    enum file_stored stored;
    uint8_t dim_bytes;
};
static const struct scalar_code sparse_codes[] = { /* since 2.10 */
    { 1, ANX_SCALAR_B1, STORED_AS_IS, 0 },  { 4, ANX_SCALAR_F32, STORED_BF16, 2 },
    { 10, ANX_SCALAR_F32, STORED_F64, 8 },  { 11, ANX_SCALAR_F32, STORED_AS_IS, 4 },
    { 12, ANX_SCALAR_F16, STORED_AS_IS, 2 }, { 17, ANX_SCALAR_U8, STORED_AS_IS, 1 },
    { 23, ANX_SCALAR_I8, STORED_AS_IS, 1 },
};
/* Before 2.10. Codes from 10 on have two meanings: files really written then count u16 as 10, so u8 is 11 and
 * i8 15; the table that newer loaders translate by leaves u16 out, so that hand-made files have u8 10 and
 * i8 14. Both are read; the other meanings of these codes (u16, i16, i64) have more bytes per dimension, and
 * the columns of the matrix tell. */
static const struct scalar_code sequential_codes[] = {
    { 1, ANX_SCALAR_B1, STORED_AS_IS, 0 },  { 4, ANX_SCALAR_F32, STORED_F64, 8 },
    { 5, ANX_SCALAR_F32, STORED_AS_IS, 4 }, { 6, ANX_SCALAR_F16, STORED_AS_IS, 2 },
    { 10, ANX_SCALAR_U8, STORED_AS_IS, 1 }, { 11, ANX_SCALAR_U8, STORED_AS_IS, 1 },
    { 14, ANX_SCALAR_I8, STORED_AS_IS, 1 }, { 15, ANX_SCALAR_I8, STORED_AS_IS, 1 },
};
static const struct scalar_code lantern_codes[] = {
    { 1, ANX_SCALAR_B1, STORED_AS_IS, 0 },
    { 5, ANX_SCALAR_F32, STORED_AS_IS, 4 },
    { 6, ANX_SCALAR_F16, STORED_AS_IS, 2 },
    { 15, ANX_SCALAR_I8, STORED_AS_IS, 1 },
};

/* Key and slot codes. */
struct width_code {
    uint8_t code, size;
};
static const struct width_code sparse_keys[] = { { 14, 8 }, { 3, 16 } },
                               sparse_slots[] = { { 15, 4 }, { 2, 5 } };
static const struct width_code sequential_keys[] = { { 8, 8 }, { 3, 16 } },
                               sequential_slots[] = { { 9, 4 }, { 2, 5 } };
static const struct width_code lantern_keys[] = { { 8, 8 } }, lantern_slots[] = { { 16, 6 } };

struct code_table {
    const struct scalar_code *scalars;
    size_t n_scalar;
    const struct width_code *keys, *slots;
    size_t n_key, n_slot;
};
#define TABLE(s, k, p) { s, ANX_COUNT_OF(s), k, p, ANX_COUNT_OF(k), ANX_COUNT_OF(p) }
static const struct code_table sparse_table = TABLE(sparse_codes, sparse_keys, sparse_slots),
                               sequential_table = TABLE(sequential_codes, sequential_keys, sequential_slots),
                               lantern_table = TABLE(lantern_codes, lantern_keys, lantern_slots);

static const char metric_chars[ANX_METRIC_COUNT] = {
    [ANX_METRIC_L2] = 'e', [ANX_METRIC_IP] = 'i', [ANX_METRIC_COSINE] = 'c', [ANX_METRIC_HAMMING] = 'b'
};

static const struct scalar_code *
scalar_by_code(const struct code_table *table, uint8_t code)
{
    for (size_t i = 0; i < table->n_scalar; i++)
        if (table->scalars[i].code == code)
            return &table->scalars[i];
    return NULL;
}

/* The last row of a scalar is the one written. */
static const struct scalar_code *
scalar_by_kind(const struct code_table *table, anx_scalar scalar)
{
    const struct scalar_code *found = NULL;

    for (size_t i = 0; i < table->n_scalar; i++)
        if (table->scalars[i].scalar == scalar && table->scalars[i].stored == STORED_AS_IS)
            found = &table->scalars[i];
    return found;
}

static size_t
width_by_code(const struct width_code *codes, size_t n, uint8_t code)
{
    for (size_t i = 0; i < n; i++)
        if (codes[i].code == code)
            return codes[i].size;
    return 0;
}

/* --- writing
 * ----------------------------------------------------------------------------------------------------- */

anx_status
file_dense_can(const anx_index_params *params, anx_file_format format, anx_error *err)
{
    const char *name = format == ANX_FILE_LANTERN ? "lantern" : "usearch";
    const struct code_table *table = format == ANX_FILE_LANTERN ? &lantern_table : &sparse_table;

    if (params->kind != ANX_INDEX_HNSW)
        return anx_fail(err, ANX_E_UNSUPPORTED, "a %s file holds an hnsw index, not %s", name,
                        anx_index_kind_name(params->kind));
    if (params->quantization != ANX_QUANTIZATION_NONE) {
        (void) anx_fail(err, ANX_E_UNSUPPORTED,
                        "a %s file holds rows as given, but this index keeps only their codes", name);
        anx_error_hint(err, "save it in the annex format, which keeps the codes");
        return ANX_E_UNSUPPORTED;
    }
    if (!scalar_by_kind(table, params->scalar))
        return anx_fail(err, ANX_E_UNSUPPORTED, "a %s file has no element kind for %s", name,
                        anx_scalar_name(params->scalar));
    if (format == ANX_FILE_LANTERN && params->scalar == ANX_SCALAR_B1 && params->dim % 8 != 0)
        return anx_fail(
            err, ANX_E_UNSUPPORTED,
            "a lantern file of bits needs a multiple of 8 dimensions, not %zu: its reader drops the rest",
            params->dim);
    return ANX_OK;
}

static uint64_t
mark_sum(const struct file_dense *dense)
{
    uint8_t all[sizeof(dense->prefix) + sizeof(dense->head)];
    size_t n = dense->prefix_size;

    memcpy(all, dense->prefix, n);
    memcpy(all + n, dense->head, dense->head_size);
    memset(all + n + MARK_SUM_AT, 0, 8);
    return anx_hash(all, n + dense->head_size);
}

static void
put_version(uint8_t *head, unsigned major, unsigned minor, unsigned patch)
{
    memcpy(head, "usearch", 7);
    anx_store_le(head + 7, major, 2);
    anx_store_le(head + 9, minor, 2);
    anx_store_le(head + 11, patch, 2);
}

void
file_dense_encode(const anx_index_params *params, const struct graph_view *view, anx_file_format format,
                  uint64_t head_at, struct file_dense *dense)
{
    bool is_lantern = format == ANX_FILE_LANTERN;
    const struct code_table *table = is_lantern ? &lantern_table : &sparse_table;
    size_t row_size = anx_row_size(params->scalar, params->dim);
    uint8_t *head = dense->head;
    uint8_t *graph = head + (is_lantern ? SPARE_END_LANTERN : SPARE_END_USEARCH);

    *dense = (struct file_dense){ .head_size =
                                      is_lantern ? FILE_LANTERN_HEAD : FILE_DENSE_HEAD + FILE_GRAPH_HEAD };
    if (!is_lantern) {
        dense->prefix_size = 8;
        anx_store_le(dense->prefix, view->n, 4);
        anx_store_le(dense->prefix + 4, row_size, 4);
    }
    put_version(head, 2, is_lantern ? 8 : USEARCH_MINOR, is_lantern ? 14 : 0);
    head[13] = (uint8_t) metric_chars[params->metric];
    head[SCALAR_AT] = scalar_by_kind(table, params->scalar)->code;
    head[KEY_AT] = table->keys[0].code;
    head[SLOT_AT] = table->slots[0].code;
    anx_store_le(head + COUNTS_AT, view->n, 8);
    anx_store_le(head + COUNTS_AT + 16, params->dim, 8);
    anx_store_le(graph, view->n, 8);
    anx_store_le(graph + 8, view->m, 8);
    anx_store_le(graph + 16, view->m0, 8);
    anx_store_le(graph + 24, view->n > 0 ? view->max_level : UINT64_MAX, 8);
    anx_store_le(graph + 32, view->n > 0 ? view->entry : 0, 8);
    if (is_lantern) {
        anx_store_le(graph + 40, row_size, 8);
        anx_store_le(graph + 48, view->n, 8);
    }
    if (head_at > 0) {
        memcpy(head + FILE_MARK_AT, FILE_MARK, 6);
        anx_store_le(head + MARK_HEAD_AT, head_at, 8);
        anx_store_le(head + MARK_SUM_AT, mark_sum(dense), 8);
    }
}

/* --- reading
 * ----------------------------------------------------------------------------------------------------- */

static const char *
format_name(const struct file_foreign *f)
{
    return f->format == ANX_FILE_LANTERN ? "lantern" : "usearch";
}

static anx_status
decode_version(const uint8_t *head, struct file_foreign *f, anx_error *err)
{
    if (memcmp(head, "usearch", 7) != 0)
        return anx_fail(err, ANX_E_CORRUPT,
                        "no index head where the file says that its matrix of %llu rows ends",
                        (unsigned long long) f->rows);
    for (size_t i = 0; i < 3; i++)
        f->version[i] = (unsigned) anx_load_le(head + 7 + 2 * i, 2);
    if (f->version[0] != 2)
        return anx_fail(err, ANX_E_VERSION,
                        "%s file has format version %u.%u.%u, this program reads version 2", format_name(f),
                        f->version[0], f->version[1], f->version[2]);
    return ANX_OK;
}

/* The spare bytes are all zero, or our mark with a matching checksum. Anything else is damage: a mark that
 * could be lost by one flipped bit would protect nothing. */
static anx_status
decode_mark(const struct file_dense *dense, struct file_foreign *f, anx_error *err)
{
    size_t end = f->format == ANX_FILE_LANTERN ? SPARE_END_LANTERN : SPARE_END_USEARCH;
    const uint8_t *head = dense->head;
    size_t last = 0;

    for (size_t i = FILE_MARK_AT; i < end; i++)
        if (head[i] != 0)
            last = i;
    f->is_marked = last > 0;
    if (!f->is_marked)
        return ANX_OK;
    if (memcmp(head + FILE_MARK_AT, FILE_MARK, 6) != 0 || last >= MARK_SUM_AT + 8)
        return anx_fail(err, ANX_E_CORRUPT, "spare bytes in the head of the %s file are not zero",
                        format_name(f));
    if (anx_load_le(head + MARK_SUM_AT, 8) != mark_sum(dense))
        return anx_fail(err, ANX_E_CHECKSUM, "head of the %s file is damaged: checksum mismatch",
                        format_name(f));
    f->head_at = anx_load_le(head + MARK_HEAD_AT, 8);
    return ANX_OK;
}

static anx_status
decode_metric(const uint8_t *head, struct file_foreign *f, anx_error *err)
{
    for (int i = 0; i < ANX_METRIC_COUNT; i++)
        if (head[13] == (uint8_t) metric_chars[i]) {
            f->metric = (anx_metric) i;
            return ANX_OK;
        }
    if (strchr("phdjts", head[13]) && head[13] != 0)
        return anx_fail(err, ANX_E_UNSUPPORTED, "%s file uses metric '%c', which Annex does not have",
                        format_name(f), head[13]);
    return anx_fail(err, ANX_E_CORRUPT, "%s file has unknown metric code %u", format_name(f), head[13]);
}

static anx_status
decode_codes(const uint8_t *head, struct file_foreign *f, anx_error *err)
{
    const struct code_table *table = f->format == ANX_FILE_LANTERN ? &lantern_table :
                                     f->version[1] < SPARSE_SINCE  ? &sequential_table :
                                                                     &sparse_table;
    const struct scalar_code *code = scalar_by_code(table, head[SCALAR_AT]);
    anx_status st = decode_metric(head, f, err);

    if (st != ANX_OK)
        return st;
    f->key_size = width_by_code(table->keys, table->n_key, head[KEY_AT]);
    f->slot_size = width_by_code(table->slots, table->n_slot, head[SLOT_AT]);
    if (!code)
        return anx_fail(err, ANX_E_UNSUPPORTED, "%s file has element kind %u, which Annex does not have",
                        format_name(f), head[SCALAR_AT]);
    if (f->key_size == 0 || f->slot_size == 0)
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "%s file has key kind %u and slot kind %u, which Annex does not read", format_name(f),
                        head[KEY_AT], head[SLOT_AT]);
    f->scalar = code->scalar;
    f->stored = code->stored;
    f->dim = anx_load_le(head + COUNTS_AT + 16, 8);
    if (f->dim == 0 || f->dim > ANX_DIM_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "%s file has %llu dimensions, must be 1..%d", format_name(f),
                        (unsigned long long) f->dim, ANX_DIM_MAX);
    f->stored_size = code->dim_bytes ? f->dim * code->dim_bytes : (f->dim + 7) / 8;
    if ((f->metric == ANX_METRIC_HAMMING) != (f->scalar == ANX_SCALAR_B1))
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "%s file has metric %s over element kind %s, which do not go together",
                        format_name(f), anx_metric_name(f->metric), anx_scalar_name(f->scalar));
    return ANX_OK;
}

/* Zero stands for the default, as upstream has it; the fork always writes the numbers. */
static anx_status
decode_connectivity(const uint8_t *graph, struct file_foreign *f, anx_error *err)
{
    f->m = anx_load_le(graph + 8, 8);
    f->m0 = anx_load_le(graph + 16, 8);
    if (f->format == ANX_FILE_USEARCH && f->m == 0)
        f->m = ANX_HNSW_M_DEFAULT;
    if (f->format == ANX_FILE_USEARCH && f->m0 == 0 && f->m <= ANX_HNSW_M_MAX)
        f->m0 = 2 * f->m;
    if (f->m < ANX_HNSW_M_MIN || f->m0 < f->m)
        return anx_fail(
            err, ANX_E_CORRUPT, "%s file has connectivity %llu, and %llu at the bottom: must be at least %d",
            format_name(f), (unsigned long long) f->m, (unsigned long long) f->m0, ANX_HNSW_M_MIN);
    if (f->m > ANX_HNSW_M_MAX || f->m0 > GRAPH_M0_MAX)
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "%s file has connectivity %llu, and %llu at the bottom; the limits are %d and %d",
                        format_name(f), (unsigned long long) f->m, (unsigned long long) f->m0, ANX_HNSW_M_MAX,
                        GRAPH_M0_MAX);
    if (f->format == ANX_FILE_LANTERN && f->m0 != 2 * f->m)
        return anx_fail(err, ANX_E_CORRUPT, "lantern file has connectivity %llu at the bottom, must be %llu",
                        (unsigned long long) f->m0, (unsigned long long) (2 * f->m));
    return ANX_OK;
}

static anx_status
decode_graph(const uint8_t *head, const uint8_t *graph, struct file_foreign *f, anx_error *err)
{
    anx_status st;

    f->present = anx_load_le(head + COUNTS_AT, 8);
    f->deleted = anx_load_le(head + COUNTS_AT + 8, 8);
    f->is_multi = head[MULTI_AT] != 0;
    f->n = anx_load_le(graph, 8);
    f->max_level = anx_load_le(graph + 24, 8);
    f->entry = anx_load_le(graph + 32, 8);
    if (f->n >= UINT32_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "%s file has %llu nodes, at most %u are possible", format_name(f),
                        (unsigned long long) f->n, UINT32_MAX - 1);
    if (f->present > f->n || f->deleted > f->n || f->present + f->deleted != f->n)
        return anx_fail(err, ANX_E_CORRUPT, "%s file has %llu rows and %llu removed ones, but %llu nodes",
                        format_name(f), (unsigned long long) f->present, (unsigned long long) f->deleted,
                        (unsigned long long) f->n);
    st = decode_connectivity(graph, f, f->n > 0 ? err : NULL);
    if (st != ANX_OK && f->n > 0)
        return st;
    if (st != ANX_OK) /* upstream stops before these numbers when there are no nodes */
        f->m = ANX_HNSW_M_DEFAULT, f->m0 = 2 * ANX_HNSW_M_DEFAULT;
    if (f->n == 0)
        f->max_level = 0, f->entry = 0;
    if (f->max_level > FILE_LEVEL_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "%s file has maximum level %llu, beyond the limit of %d",
                        format_name(f), (unsigned long long) f->max_level, FILE_LEVEL_MAX);
    if (f->n > 0 && f->entry >= f->n)
        return anx_fail(err, ANX_E_CORRUPT, "%s file has entry %llu, but %llu nodes", format_name(f),
                        (unsigned long long) f->entry, (unsigned long long) f->n);
    return ANX_OK;
}

static anx_status
check_matrix(const struct file_foreign *f, anx_error *err)
{
    if (f->columns != f->stored_size)
        return anx_fail(err, ANX_E_CORRUPT,
                        "usearch file has rows of %llu bytes, but %llu dimensions need %zu",
                        (unsigned long long) f->columns, (unsigned long long) f->dim, f->stored_size);
    if (f->rows != f->n)
        return anx_fail(err, ANX_E_CORRUPT, "usearch file has %llu rows, but %llu nodes",
                        (unsigned long long) f->rows, (unsigned long long) f->n);
    return ANX_OK;
}

/* Rounded down, as the fork's writer does, is right too. */
static anx_status
check_lantern(const uint8_t *graph, const struct file_foreign *f, anx_error *err)
{
    uint64_t row_size = anx_load_le(graph + 40, 8);
    uint64_t floor_size = f->scalar == ANX_SCALAR_B1 ? f->dim / 8 : f->stored_size;

    if (row_size != f->stored_size && row_size != floor_size)
        return anx_fail(err, ANX_E_CORRUPT,
                        "lantern file has rows of %llu bytes, but %llu dimensions need %zu",
                        (unsigned long long) row_size, (unsigned long long) f->dim, f->stored_size);
    if (anx_load_le(graph + 48, 8) != f->n)
        return anx_fail(err, ANX_E_CORRUPT, "lantern file has %llu nodes in one place and %llu in another",
                        (unsigned long long) f->n, (unsigned long long) anx_load_le(graph + 48, 8));
    return ANX_OK;
}

anx_status
file_dense_decode(const struct file_dense *dense, struct file_foreign *f, anx_error *err)
{
    bool is_lantern = f->format == ANX_FILE_LANTERN;
    const uint8_t *graph = dense->head + (is_lantern ? SPARE_END_LANTERN : SPARE_END_USEARCH);
    anx_status st = decode_version(dense->head, f, err);

    if (st == ANX_OK)
        st = decode_mark(dense, f, err);
    if (st == ANX_OK)
        st = decode_codes(dense->head, f, err);
    if (st == ANX_OK)
        st = decode_graph(dense->head, graph, f, err);
    if (st == ANX_OK)
        st = is_lantern ? check_lantern(graph, f, err) : check_matrix(f, err);
    return st;
}

void
file_dense_graph(const struct file_foreign *f, const anx_alloc *alloc, struct file_graph *graph)
{
    *graph = (struct file_graph) {
        .alloc = alloc,
        .scalar = f->scalar,
        .dim = f->dim,
        .row_size = anx_row_size(f->scalar, f->dim),
        .n_total = f->n,
        .m = f->m,
        .m0 = f->m0,
        .max_level = f->max_level,
        .entry = (uint32_t) f->entry,
    };
}
