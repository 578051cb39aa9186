/* Distance functions and operators. An exact scan calls them once per row, so they take the fastest kernels.
 */
#include "lantern.h"
#include "lantern_int.h"

#include <catalog/pg_type.h>

#include "base/error.h"
#include "kernel/kernel.h"

static const anx_kernels *
kernels(void)
{
    static const anx_kernels *best;

    if (!best)
        best = anx_kernels_best();
    return best;
}

static void
expect_equal(size_t a, size_t b, const char *what)
{
    if (a != b)
        ereport(ERROR,
                (errcode(ERRCODE_DATA_EXCEPTION),
                 errmsg("expected equally sized %s but got arrays with dimensions %zu and %zu", what, a, b)));
}

/* Squared Euclidean distance; 0 of empty vectors. */
static float
l2sq(const float *a, const float *b, size_t dim)
{
    return dim ? kernels()->distance[ANX_METRIC_L2][ANX_SCALAR_F32](a, b, dim) : 0.0F;
}

/* 1 - cosine; 1 when one vector has no length, 0 when neither has. */
static float
cosine(const float *a, const float *b, size_t dim)
{
    if (!dim)
        return 0.0F;
    if (kernels()->norm2_f32(a, dim) == 0.0F && kernels()->norm2_f32(b, dim) == 0.0F)
        return 0.0F;
    return kernels()->distance[ANX_METRIC_COSINE][ANX_SCALAR_F32](a, b, dim);
}

typedef float (*float_distance)(const float *a, const float *b, size_t dim);

static float
of_arrays(FunctionCallInfo fcinfo, float_distance distance)
{
    const void *a, *b;
    size_t n_a = anx_pg_array_of(PG_GETARG_DATUM(0), FLOAT4OID, &a);
    size_t n_b = anx_pg_array_of(PG_GETARG_DATUM(1), FLOAT4OID, &b);

    expect_equal(n_a, n_b, "arrays");
    return distance(a, b, n_a);
}

static double
of_vectors(FunctionCallInfo fcinfo, float_distance distance)
{
    const float *a, *b;
    size_t n_a = anx_pg_foreign_vector_of(PG_GETARG_DATUM(0), &a);
    size_t n_b = anx_pg_foreign_vector_of(PG_GETARG_DATUM(1), &b);

    expect_equal(n_a, n_b, "vectors");
    return (double) distance(a, b, n_a);
}

ANX_PG_FUNCTION(lantern_l2sq_dist);
Datum
lantern_l2sq_dist(PG_FUNCTION_ARGS)
{
    PG_RETURN_FLOAT4(of_arrays(fcinfo, l2sq));
}

ANX_PG_FUNCTION(lantern_cos_dist);
Datum
lantern_cos_dist(PG_FUNCTION_ARGS)
{
    PG_RETURN_FLOAT4(of_arrays(fcinfo, cosine));
}

ANX_PG_FUNCTION(lantern_hamming_dist);
Datum
lantern_hamming_dist(PG_FUNCTION_ARGS)
{
    const void *a, *b;
    size_t n_a = anx_pg_array_of(PG_GETARG_DATUM(0), INT4OID, &a);
    size_t n_b = anx_pg_array_of(PG_GETARG_DATUM(1), INT4OID, &b);
    int32 n = 0;

    expect_equal(n_a, n_b, "arrays");
    for (size_t i = 0; i < n_a; i++)
        n += __builtin_popcount(((const uint32 *) a)[i] ^ ((const uint32 *) b)[i]);
    PG_RETURN_INT32(n);
}

ANX_PG_FUNCTION(lantern_vector_l2sq_dist);
Datum
lantern_vector_l2sq_dist(PG_FUNCTION_ARGS)
{
    PG_RETURN_FLOAT8(of_vectors(fcinfo, l2sq));
}

ANX_PG_FUNCTION(lantern_vector_cos_dist);
Datum
lantern_vector_cos_dist(PG_FUNCTION_ARGS)
{
    PG_RETURN_FLOAT8(of_vectors(fcinfo, cosine));
}

_Noreturn void
anx_pg_deprecated_operator(void)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                    errmsg("Operator <?> is deprecated. Please explicitly use the operator that matches your "
                           "distance function.")));
    pg_unreachable();
}

ANX_PG_FUNCTION(lantern_generic_dist);
Datum
lantern_generic_dist(PG_FUNCTION_ARGS)
{
    (void) fcinfo;
    anx_pg_deprecated_operator();
}
