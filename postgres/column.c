/* The indexed column: what kind of vectors, compared how, and a value's numbers, checked. */
#include "lantern.h"
#include "lantern_int.h"

#include <catalog/pg_type.h>
#include <utils/array.h>
#include <utils/lsyscache.h>

#include <math.h>

#include "base/error.h"

/* A value of pgvector's type: the varlena header, two 16-bit integers (dimension, unused), floats. */
struct foreign_vector {
    int32 vl_len_;
    int16 dim;
    int16 unused;
    float x[FLEXIBLE_ARRAY_MEMBER];
};

static const char *const type_names[] = {
    [ANX_PG_REAL_ARRAY] = "real array",
    [ANX_PG_INTEGER_ARRAY] = "int array",
    [ANX_PG_VECTOR] = "vector",
};

/* The distance function of an operator class tells type and metric. */
static const struct class_row {
    PGFunction distance;
    enum anx_pg_type type;
    anx_metric metric;
    Oid order_type;
    bool order_is_root;
} classes[] = {
    { lantern_l2sq_dist, ANX_PG_REAL_ARRAY, ANX_METRIC_L2, FLOAT4OID, false },
    { lantern_cos_dist, ANX_PG_REAL_ARRAY, ANX_METRIC_COSINE, FLOAT4OID, false },
    { lantern_hamming_dist, ANX_PG_INTEGER_ARRAY, ANX_METRIC_HAMMING, INT4OID, false },
    { lantern_vector_l2sq_dist, ANX_PG_VECTOR, ANX_METRIC_L2, FLOAT8OID, true },
    { lantern_vector_cos_dist, ANX_PG_VECTOR, ANX_METRIC_COSINE, FLOAT8OID, false },
};

void
anx_pg_column_of(Relation index, struct anx_pg_column *out)
{
    const struct class_row *row = NULL;
    int32 typmod = TupleDescAttr(RelationGetDescr(index), 0)->atttypmod;
    int dim = anx_pg_options_of(index)->dim;
    FmgrInfo *distance;

    if (!OidIsValid(index_getprocid(index, 1, 1)))
        ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION), errmsg("no support functions found")));
    distance = index_getprocinfo(index, 1, 1);
    for (size_t i = 0; i < ANX_COUNT_OF(classes) && !row; i++)
        if (distance->fn_addr == classes[i].distance)
            row = &classes[i];
    if (!row)
        ereport(ERROR, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                        errmsg("could not find distance function for index"),
                        errhint("Use one of the operator classes of the extension lantern.")));
    *out = (struct anx_pg_column){
        .type = row->type,
        .metric = row->metric,
        .max_dim = row->type == ANX_PG_INTEGER_ARRAY ? ANX_PG_DIM_MAX_INTEGER : ANX_PG_DIM_MAX,
        .order_type = row->order_type,
        .order_is_root = row->order_is_root,
    };
    if (row->type == ANX_PG_VECTOR && typmod > 0)
        out->declared_dim = (uint32) typmod;
    else if (dim > 0)
        out->declared_dim = (uint32) dim;
    anx_pg_check_dim(out, out->declared_dim);
}

void
anx_pg_check_dim(const struct anx_pg_column *column, size_t dim)
{
    if (dim > column->max_dim)
        ereport(ERROR,
                (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                 errmsg("vector dimension %zu is too large. LanternDB currently supports up to %udim vectors",
                        dim, column->max_dim)));
}

static void
check_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            ereport(ERROR, (errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
                            errmsg("component %zu of a vector is %s, which has no place in an index", i + 1,
                                   isnan(x[i]) ? "NaN" : x[i] > 0 ? "Infinity" : "-Infinity")));
}

/* The elements of an array without NULLs; arrays of several dimensions count as flat. */
size_t
anx_pg_array_of(Datum value, Oid element, const void **out)
{
    ArrayType *array = DatumGetArrayTypeP(value);

    if (ARR_ELEMTYPE(array) != element)
        ereport(ERROR, (errcode(ERRCODE_DATATYPE_MISMATCH),
                        errmsg("expected %s array but got array with element type %u",
                               element == INT4OID ? "integer" : "real", ARR_ELEMTYPE(array))));
    if (ARR_HASNULL(array) && array_contains_nulls(array))
        ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED), errmsg("vector must not contain nulls")));
    *out = ARR_DATA_PTR(array);
    return (size_t) ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

size_t
anx_pg_foreign_vector_of(Datum value, const float **out)
{
    const struct foreign_vector *vector = (const struct foreign_vector *) PG_DETOAST_DATUM(value);
    size_t n = VARSIZE_ANY(vector);

    if (n < offsetof(struct foreign_vector, x) || vector->dim < 0 ||
        (n - offsetof(struct foreign_vector, x)) / sizeof(float) < (size_t) vector->dim)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED), errmsg("a value of %zu bytes is not a vector", n)));
    *out = vector->x;
    return (size_t) vector->dim;
}

void
anx_pg_vector_of(const struct anx_pg_column *column, Datum value, struct anx_pg_vector *out)
{
    const void *elements = NULL;
    size_t dim;

    *out = (struct anx_pg_vector){ 0 };
    if (column->type == ANX_PG_VECTOR)
        dim = anx_pg_foreign_vector_of(value, &out->f32);
    else
        dim = anx_pg_array_of(value, column->type == ANX_PG_INTEGER_ARRAY ? INT4OID : FLOAT4OID, &elements);
    anx_pg_check_dim(column, dim);
    out->dim = (uint32) dim;
    if (column->type == ANX_PG_INTEGER_ARRAY)
        out->bits = elements;
    else if (column->type == ANX_PG_REAL_ARRAY)
        out->f32 = elements;
    if (out->f32)
        check_finite(out->f32, dim);
}

void
anx_pg_expect_row_dim(uint32 got, uint32 want)
{
    if (got != want)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION),
                        errmsg("Wrong number of dimensions: %u instead of %u expected", got, want)));
}

void
anx_pg_expect_query_dim(const struct anx_pg_column *column, uint32 got, uint32 want)
{
    if (got != want)
        ereport(ERROR, (errcode(ERRCODE_DATA_EXCEPTION), errmsg("Expected %s with dimension %u, got %u",
                                                                type_names[column->type], want, got)));
}

_Noreturn void
anx_pg_no_dimensions(void)
{
    ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                    errmsg("column does not have dimensions, please specify one"),
                    errhint("The first row tells the number of dimensions; where it does not, say so: "
                            "WITH (dim = ...).")));
    pg_unreachable();
}

bool
anx_pg_is_rebuild(Relation index)
{
    return index->rd_createSubid == InvalidSubTransactionId || ANX_PG_NEW_STORAGE(index);
}
