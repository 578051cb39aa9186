/* Product quantization: the type pqvec (one byte per subvector), codebooks by k-means, and codes of vectors.
 *
 * A codebook is a table _lantern_internal."pq_TABLE_COLUMN" (subvector_id, centroid_id, c): for each of the
 * subvectors that a vector is cut into, up to 256 centroids. A code names the nearest centroid of each. */
#include "lantern.h"
#include "lantern_int.h"

#include <catalog/pg_type.h>
#include <executor/spi.h>
#include <libpq/pqformat.h>
#include <miscadmin.h>
#include <utils/array.h>
#include <utils/builtins.h>
#include <utils/fmgroids.h>
#include <utils/lsyscache.h>
#include <utils/memutils.h>

#include <math.h>

#include "base/rng.h"
#include "kernel/kernel.h"

#define ELEMENT_MAX 255
#define CENTROID_MAX 256
#define ITERATION_MAX 200
#define MOVE_MIN 0.1F /* mean movement of the centroids at which k-means stops */
#define SCAN_ROWS 1000

/* A value of type pqvec. */
struct pqvec {
    int32 vl_len_;
    uint16 dim;
    uint16 element; /* 0: one byte each */
    uint8 x[FLEXIBLE_ARRAY_MEMBER];
};

static struct pqvec *
pqvec_make(size_t dim)
{
    size_t size = offsetof(struct pqvec, x) + dim;
    struct pqvec *out;

    if (dim == 0)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("pqvector can not be empty")));
    if (dim > ANX_PG_DIM_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("pqvector has %zu elements, the limit is %d", dim, ANX_PG_DIM_MAX)));
    out = palloc0(size);
    SET_VARSIZE(out, size);
    out->dim = (uint16) dim;
    return out;
}

static struct pqvec *
pqvec_of(Datum value)
{
    struct pqvec *v = (struct pqvec *) PG_DETOAST_DATUM(value);

    if (VARSIZE(v) < offsetof(struct pqvec, x) || VARSIZE(v) - offsetof(struct pqvec, x) != v->dim)
        ereport(ERROR,
                (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a value of %u bytes is not a pqvec", VARSIZE(v))));
    return v;
}

static uint8
pqvec_element(int64 x)
{
    if (x > ELEMENT_MAX)
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("Compressed vector element can not be bigger than %d", ELEMENT_MAX)));
    if (x < 0)
        ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                        errmsg("Compressed vector element can not be smaller than 0")));
    return (uint8) x;
}

/* From integer[], which is also how text is read: {1,2,255}. */
static struct pqvec *
pqvec_of_array(Datum array)
{
    const void *elements;
    size_t n = anx_pg_array_of(array, INT4OID, &elements);
    struct pqvec *out = pqvec_make(n);

    for (size_t i = 0; i < n; i++)
        out->x[i] = pqvec_element(((const int32 *) elements)[i]);
    return out;
}

ANX_PG_FUNCTION(lantern_pqvec_in);
Datum
lantern_pqvec_in(PG_FUNCTION_ARGS)
{
    Datum array = OidInputFunctionCall(F_ARRAY_IN, PG_GETARG_CSTRING(0), INT4OID, -1);

    PG_RETURN_POINTER(pqvec_of_array(array));
}

ANX_PG_FUNCTION(lantern_pqvec_out);
Datum
lantern_pqvec_out(PG_FUNCTION_ARGS)
{
    struct pqvec *v = pqvec_of(PG_GETARG_DATUM(0));
    StringInfoData text;

    initStringInfo(&text);
    for (size_t i = 0; i < v->dim; i++)
        appendStringInfo(&text, "%c%u", i ? ',' : '{', v->x[i]);
    appendStringInfoChar(&text, '}');
    PG_RETURN_CSTRING(text.data);
}

ANX_PG_FUNCTION(lantern_pqvec_recv);
Datum
lantern_pqvec_recv(PG_FUNCTION_ARGS)
{
    StringInfo in = (StringInfo) PG_GETARG_POINTER(0);
    struct pqvec *out = pqvec_make(pq_getmsgint(in, sizeof(uint16)));

    pq_copymsgbytes(in, (char *) out->x, out->dim);
    PG_RETURN_POINTER(out);
}

ANX_PG_FUNCTION(lantern_pqvec_send);
Datum
lantern_pqvec_send(PG_FUNCTION_ARGS)
{
    struct pqvec *v = pqvec_of(PG_GETARG_DATUM(0));
    StringInfoData out;

    pq_begintypsend(&out);
    pq_sendint16(&out, v->dim);
    pq_sendbytes(&out, (const char *) v->x, v->dim);
    PG_RETURN_BYTEA_P(pq_endtypsend(&out));
}

ANX_PG_FUNCTION(lantern_cast_array_pqvec);
Datum
lantern_cast_array_pqvec(PG_FUNCTION_ARGS)
{
    PG_RETURN_POINTER(pqvec_of_array(PG_GETARG_DATUM(0)));
}

ANX_PG_FUNCTION(lantern_cast_pqvec_array);
Datum
lantern_cast_pqvec_array(PG_FUNCTION_ARGS)
{
    struct pqvec *v = pqvec_of(PG_GETARG_DATUM(0));
    Datum *elements = palloc(sizeof(*elements) * v->dim);

    for (size_t i = 0; i < v->dim; i++)
        elements[i] = Int32GetDatum(v->x[i]);
    PG_RETURN_POINTER(construct_array(elements, v->dim, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}

/* ---- codebooks ---- */

/* Rows of a column in memory. */
struct dataset {
    float *x; /* [n * dim] */
    size_t n, dim, room;
};

static void
dataset_add(struct dataset *set, const float *row, size_t dim)
{
    if (set->n == 0)
        set->dim = dim;
    if (dim != set->dim)
        ereport(ERROR,
                (errcode(ERRCODE_DATA_EXCEPTION),
                 errmsg("Table should have equally sized array: expected %zu got %zu", set->dim, dim)));
    if (set->n == set->room) {
        set->room = set->room ? 2 * set->room : SCAN_ROWS;
        set->x = set->x ? repalloc_huge(set->x, set->room * dim * sizeof(float))
                        : MemoryContextAllocHuge(CurrentMemoryContext, set->room * dim * sizeof(float));
    }
    memcpy(set->x + set->n++ * dim, row, dim * sizeof(float));
}

/* The column, in the order of the table; limit 0: all of it. Rows without a vector are left out. */
static void
dataset_read(Oid table, const char *column, int limit, struct dataset *set)
{
    MemoryContext caller = CurrentMemoryContext;
    StringInfoData query;
    SPIPlanPtr plan;
    Portal portal;

    initStringInfo(&query);
    appendStringInfo(&query, "SELECT %s::real[] FROM %s.%s WHERE %s IS NOT NULL", quote_identifier(column),
                     quote_identifier(get_namespace_name(get_rel_namespace(table))),
                     quote_identifier(get_rel_name(table)), quote_identifier(column));
    if (limit > 0)
        appendStringInfo(&query, " LIMIT %d", limit);
    SPI_connect();
    plan = SPI_prepare(query.data, 0, NULL);
    portal = SPI_cursor_open(NULL, plan, NULL, NULL, true);
    do {
        SPI_cursor_fetch(portal, true, SCAN_ROWS);
        for (uint64 i = 0; i < SPI_processed; i++) {
            bool is_null;
            Datum value = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &is_null);
            const void *row;
            size_t dim = anx_pg_array_of(value, FLOAT4OID, &row);
            MemoryContext old = MemoryContextSwitchTo(caller);

            dataset_add(set, row, dim);
            MemoryContextSwitchTo(old);
        }
        SPI_freetuptable(SPI_tuptable);
        CHECK_FOR_INTERRUPTS();
    } while (SPI_processed > 0);
    SPI_cursor_close(portal);
    SPI_finish();
}

/* The nearest of n centroids [n * dim], by squared Euclidean distance whatever the metric. */
static size_t
nearest(const anx_kernels *kernels, const float *x, const float *centroids, size_t n, size_t dim)
{
    float distance[CENTROID_MAX];
    size_t best = 0;

    kernels->l2_f32_rows(x, centroids, n, dim, distance);
    for (size_t i = 1; i < n; i++)
        if (distance[i] < distance[best])
            best = i;
    return best;
}

/* n different rows as first centroids: a partial Fisher-Yates shuffle with a fixed seed. */
static void
first_centroids(const struct dataset *set, size_t at, size_t dim, size_t n, float *out)
{
    anx_rng rng = anx_rng_seed(at + 1);
    uint32 *order = MemoryContextAllocHuge(CurrentMemoryContext, set->n * sizeof(*order));

    for (size_t i = 0; i < set->n; i++)
        order[i] = (uint32) i;
    for (size_t i = 0; i < n; i++) {
        size_t other = i + anx_rng_below(&rng, (uint32) (set->n - i));
        uint32 row = order[other];

        order[other] = order[i];
        order[i] = row;
        memcpy(out + i * dim, set->x + row * set->dim + at, dim * sizeof(float));
    }
    pfree(order);
}

/* Lloyd's k-means over components at .. at + dim of the rows. A centroid that loses all rows stays. */
static void
train(const struct dataset *set, size_t at, size_t dim, size_t n, float *centroids)
{
    const anx_kernels *kernels = anx_kernels_best();
    double *sums = palloc(n * dim * sizeof(*sums));
    uint64 *counts = palloc(n * sizeof(*counts));

    first_centroids(set, at, dim, n, centroids);
    for (int iteration = 0; iteration < ITERATION_MAX; iteration++) {
        double moved = 0;

        memset(sums, 0, n * dim * sizeof(*sums));
        memset(counts, 0, n * sizeof(*counts));
        for (size_t i = 0; i < set->n; i++) {
            const float *x = set->x + i * set->dim + at;
            size_t c = nearest(kernels, x, centroids, n, dim);

            counts[c]++;
            for (size_t d = 0; d < dim; d++)
                sums[c * dim + d] += (double) x[d];
            if (i % SCAN_ROWS == 0)
                CHECK_FOR_INTERRUPTS();
        }
        for (size_t c = 0; c < n; c++) {
            double move2 = 0;

            for (size_t d = 0; d < dim && counts[c]; d++) {
                float x = (float) (sums[c * dim + d] / (double) counts[c]);
                double move = (double) x - (double) centroids[c * dim + d];

                move2 += move * move;
                centroids[c * dim + d] = x;
            }
            moved += sqrt(move2);
        }
        if (moved / (double) n <= (double) MOVE_MIN)
            break;
    }
    pfree(sums);
    pfree(counts);
}

static void
check_codebook_arguments(Oid table, const char *column, int n_centroid, int n_subvector, const char *metric,
                         int limit)
{
    if (get_attnum(table, column) == InvalidAttrNumber)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_COLUMN), errmsg("Column %s not found in table", column)));
    if (n_subvector < 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("Subvector count can not be zero")));
    if (n_centroid > CENTROID_MAX)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("Cluster count can not be greater than %d", CENTROID_MAX)));
    if (n_centroid < 1)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE), errmsg("Cluster count can not be zero")));
    if (limit > 0 && limit < n_centroid)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("Dataset size limit should be greater or equal to cluster_cnt count")));
    if (strcmp(metric, "l2sq") != 0 && strcmp(metric, "cos") != 0 && strcmp(metric, "hamming") != 0)
        ereport(ERROR,
                (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                 errmsg("Unsupported metric kind: %s . Should be one of (l2sq, cos, hamming)", metric)));
}

/* _lantern_internal.create_pq_codebook(table, column, n_centroid, n_subvector, metric, limit) */
ANX_PG_FUNCTION(lantern_create_pq_codebook);
Datum
lantern_create_pq_codebook(PG_FUNCTION_ARGS)
{
    Oid table = PG_GETARG_OID(0);
    const char *column = NameStr(*PG_GETARG_NAME(1));
    int n_centroid = PG_GETARG_INT32(2), n_subvector = PG_GETARG_INT32(3), limit = PG_GETARG_INT32(5);
    struct dataset set = { 0 };
    size_t dim, n;
    float *centroids;
    Datum *elements;
    int dims[3], lower[3] = { 1, 1, 1 };

    check_codebook_arguments(table, column, n_centroid, n_subvector, text_to_cstring(PG_GETARG_TEXT_PP(4)),
                             limit);
    dataset_read(table, column, limit, &set);
    ereport(INFO, (errmsg("Table scanned. Dataset size %zu", set.n)));
    if (set.n < (size_t) n_centroid)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("Dataset size can not be smaller than cluster count")));
    if (set.dim == 0 || set.dim % (size_t) n_subvector != 0)
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("Dataset dimensions should be divisible by subvector count")));
    ereport(INFO, (errmsg("Starting k-means over dataset with (subvectors=%d, clusters=%d)", n_subvector,
                          n_centroid)));
    dim = set.dim / (size_t) n_subvector;
    n = (size_t) n_subvector * (size_t) n_centroid * dim;
    centroids = palloc(n * sizeof(*centroids));
    for (size_t s = 0; s < (size_t) n_subvector; s++)
        train(&set, s * dim, dim, (size_t) n_centroid, centroids + s * (size_t) n_centroid * dim);
    ereport(INFO, (errmsg("Codebooks created")));

    elements = MemoryContextAllocHuge(CurrentMemoryContext, n * sizeof(*elements));
    for (size_t i = 0; i < n; i++)
        elements[i] = Float4GetDatum(centroids[i]);
    dims[0] = n_subvector, dims[1] = n_centroid, dims[2] = (int) dim;
    PG_RETURN_POINTER(
        construct_md_array(elements, NULL, 3, dims, lower, FLOAT4OID, sizeof(float4), true, TYPALIGN_INT));
}

/* A codebook in memory, kept for the life of the calling expression. */
struct codebook {
    Oid table;
    size_t n_subvector, n_centroid, dim; /* of a subvector */
    float *x;                            /* [n_subvector * n_centroid * dim] */
};

/* The rows of the last SPI query, (subvector_id, centroid_id, c) in order, as a codebook in `context`. Every
 * subvector must have the same centroids, numbered from 0. */
static struct codebook *
codebook_of_rows(Oid table, MemoryContext context)
{
    uint64 n = SPI_processed;
    TupleDesc shape = SPI_tuptable->tupdesc;
    struct codebook *book = MemoryContextAllocZero(context, sizeof(*book));
    bool is_null;

    if (n == 0)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("Empty codebook")));
    book->table = table;
    book->n_subvector =
        (size_t) DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[n - 1], shape, 1, &is_null)) + 1;
    book->n_centroid = (size_t) n / book->n_subvector;
    for (uint64 i = 0; i < n; i++) {
        int32 subvector = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], shape, 1, &is_null));
        int32 centroid = DatumGetInt32(SPI_getbinval(SPI_tuptable->vals[i], shape, 2, &is_null));
        const void *x;
        size_t dim = anx_pg_array_of(SPI_getbinval(SPI_tuptable->vals[i], shape, 3, &is_null), FLOAT4OID, &x);

        if (!book->x) {
            book->dim = dim;
            book->x = MemoryContextAllocHuge(context, (Size) n * dim * sizeof(float));
        }
        if (book->n_centroid == 0 || book->n_centroid > CENTROID_MAX || dim != book->dim ||
            (uint64) subvector * book->n_centroid + (uint64) centroid != i ||
            (size_t) centroid >= book->n_centroid)
            ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                            errmsg("codebook \"%s\" is not complete: subvector %d, centroid %d",
                                   get_rel_name(table), subvector, centroid)));
        memcpy(book->x + i * dim, x, dim * sizeof(float));
    }
    return book;
}

/* The codebook that a function call names, from the call's own cache or from its table. */
static const struct codebook *
codebook_get(FunctionCallInfo fcinfo, Oid table)
{
    struct codebook *book = fcinfo->flinfo->fn_extra;
    const char *name = get_rel_name(table);
    StringInfoData query;

    if (book && book->table == table)
        return book;
    if (!name)
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_TABLE),
                        errmsg("PQ-codebook for relation \"%u\" not found", table)));
    initStringInfo(&query);
    appendStringInfo(&query,
                     "SELECT subvector_id::integer, centroid_id::integer, c::real[] FROM %s.%s "
                     "WHERE subvector_id >= 0 AND centroid_id >= 0 AND c IS NOT NULL ORDER BY 1, 2",
                     quote_identifier(get_namespace_name(get_rel_namespace(table))), quote_identifier(name));
    SPI_connect();
    if (SPI_execute(query.data, true, 0) != SPI_OK_SELECT)
        elog(ERROR, "could not read codebook \"%s\"", name);
    book = codebook_of_rows(table, fcinfo->flinfo->fn_mcxt);
    SPI_finish();
    fcinfo->flinfo->fn_extra = book;
    return book;
}

ANX_PG_FUNCTION(lantern_quantize_vector);
Datum
lantern_quantize_vector(PG_FUNCTION_ARGS)
{
    const struct codebook *book = codebook_get(fcinfo, PG_GETARG_OID(1));
    const void *elements;
    size_t n = anx_pg_array_of(PG_GETARG_DATUM(0), FLOAT4OID, &elements);
    size_t want = book->n_subvector * book->dim;
    struct pqvec *out;

    if (n != want)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("Codebook is for vectors of %zu dimensions, got %zu", want, n)));
    out = pqvec_make(book->n_subvector);
    for (size_t s = 0; s < book->n_subvector; s++)
        out->x[s] = (uint8) nearest(anx_kernels_best(), (const float *) elements + s * book->dim,
                                    book->x + s * book->n_centroid * book->dim, book->n_centroid, book->dim);
    PG_RETURN_POINTER(out);
}

ANX_PG_FUNCTION(lantern_dequantize_vector);
Datum
lantern_dequantize_vector(PG_FUNCTION_ARGS)
{
    const struct codebook *book = codebook_get(fcinfo, PG_GETARG_OID(1));
    struct pqvec *v = pqvec_of(PG_GETARG_DATUM(0));
    Datum *elements = palloc(sizeof(*elements) * book->n_subvector * book->dim);

    if (v->dim != book->n_subvector)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("Codebook has %zu subvectors, but vector is quantized in %u subvectors",
                               book->n_subvector, v->dim)));
    for (size_t s = 0; s < book->n_subvector; s++) {
        if (v->x[s] >= book->n_centroid)
            ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                            errmsg("code %u is not in the codebook, which has %zu centroids", v->x[s],
                                   book->n_centroid)));
        for (size_t d = 0; d < book->dim; d++)
            elements[s * book->dim + d] =
                Float4GetDatum(book->x[(s * book->n_centroid + v->x[s]) * book->dim + d]);
    }
    PG_RETURN_POINTER(construct_array(elements, (int) (book->n_subvector * book->dim), FLOAT4OID,
                                      sizeof(float4), true, TYPALIGN_INT));
}
