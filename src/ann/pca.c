/* See pca.h. */
#include "ann/pca.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"
#include "kernel/kernel.h"

enum {
    BLOCK = 6,        /* directions: two that are wanted, and four so that these two settle sooner */
    PASSES_MAX = 60,  /* over the rows; spectra of text embeddings settle in 10 to 30 */
    SWEEPS_MAX = 30,  /* of Jacobi's method on a BLOCK x BLOCK matrix; 6 are usual */
    ROWS_AT_ONCE = 64 /* whose products are added up in float before they go to double */
};
#define SETTLED 1e-6 /* relative change of the two spreads between passes */

struct fit {
    const float *rows; /* [n * dim], centred */
    size_t n, dim, n_axis;
    float *axes;   /* [BLOCK * dim]: orthonormal rows */
    double *image; /* [BLOCK * dim]: axes times the covariance */
    float *part;   /* [dim] */
    double small[BLOCK][BLOCK], turn[BLOCK][BLOCK];
    const anx_kernels *kernels;
};

/* ---- The rows ---- */

static float
shrink_of(const float *rows, size_t count)
{
    float largest = 0;
    int exponent;

    for (size_t i = 0; i < count; i++)
        largest = fmaxf(largest, fabsf(rows[i]));
    if (largest <= 0)
        return 1;
    (void) frexpf(largest, &exponent); /* a power of two, so that nothing is rounded */
    return ldexpf(1, exponent > 120 ? -120 : exponent < -120 ? 120 : -exponent);
}

static void
centre(float *rows, size_t n, size_t dim, double *sum, struct pca *out)
{
    memset(sum, 0, dim * sizeof(*sum));
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < dim; t++) {
            rows[i * dim + t] *= out->shrink;
            sum[t] += rows[i * dim + t];
        }
    for (size_t t = 0; t < dim; t++)
        out->mean[t] = (float) (sum[t] / (double) n);
    for (size_t i = 0; i < n; i++)
        for (size_t t = 0; t < dim; t++)
            rows[i * dim + t] -= out->mean[t];
}

static double
spread_of(const float *rows, size_t n, size_t dim, const anx_kernels *kernels)
{
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += (double) kernels->norm2_f32(rows + i * dim, dim);
    return sum / (double) n;
}

/* image[j] = sum of (row . axis j) * row, over n. */
static void
multiply(struct fit *f)
{
    double scale = 1 / (double) f->n;

    memset(f->image, 0, f->n_axis * f->dim * sizeof(*f->image));
    for (size_t begin = 0; begin < f->n; begin += ROWS_AT_ONCE) {
        size_t end = begin + ROWS_AT_ONCE < f->n ? begin + ROWS_AT_ONCE : f->n;

        for (size_t j = 0; j < f->n_axis; j++) {
            double *image = f->image + j * f->dim;

            memset(f->part, 0, f->dim * sizeof(*f->part));
            for (size_t i = begin; i < end; i++) {
                const float *row = f->rows + i * f->dim;
                float weight = f->kernels->dot_f32(row, f->axes + j * f->dim, f->dim);

                for (size_t t = 0; t < f->dim; t++)
                    f->part[t] += weight * row[t];
            }
            for (size_t t = 0; t < f->dim; t++)
                image[t] += (double) f->part[t] * scale;
        }
    }
}

/* ---- The axes ---- */

static double
dot(const double *a, const double *b, size_t dim)
{
    double sum = 0;

    for (size_t t = 0; t < dim; t++)
        sum += a[t] * b[t];
    return sum;
}

/* image becomes orthonormal, twice is enough (Gram-Schmidt; Giraud and others 2005), and goes to axes. What
 * is nothing but the rounding of those before it becomes zero. */
static void
settle_axes(struct fit *f)
{
    for (size_t j = 0; j < f->n_axis; j++) {
        double *row = f->image + j * f->dim;
        double before = sqrt(dot(row, row, f->dim)), length;

        for (int pass = 0; pass < 2; pass++)
            for (size_t i = 0; i < j; i++) {
                const double *other = f->image + i * f->dim;
                double part = dot(row, other, f->dim);

                for (size_t t = 0; t < f->dim; t++)
                    row[t] -= part * other[t];
            }
        length = sqrt(dot(row, row, f->dim));
        for (size_t t = 0; t < f->dim; t++) {
            row[t] = length > before * 1e-6 ? row[t] / length : 0;
            f->axes[j * f->dim + t] = (float) row[t];
        }
    }
}

/* One rotation of Jacobi's method, which makes small[p][q] zero. */
static void
rotate(struct fit *f, size_t p, size_t q)
{
    double theta = (f->small[q][q] - f->small[p][p]) / (2 * f->small[p][q]);
    double tangent = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
    double cosine = 1 / sqrt(tangent * tangent + 1), sine = tangent * cosine;

    for (size_t i = 0; i < f->n_axis; i++) {
        double a = f->small[i][p], b = f->small[i][q];

        f->small[i][p] = cosine * a - sine * b;
        f->small[i][q] = sine * a + cosine * b;
    }
    for (size_t i = 0; i < f->n_axis; i++) {
        double a = f->small[p][i], b = f->small[q][i];

        f->small[p][i] = cosine * a - sine * b;
        f->small[q][i] = sine * a + cosine * b;
        a = f->turn[i][p], b = f->turn[i][q];
        f->turn[i][p] = cosine * a - sine * b;
        f->turn[i][q] = sine * a + cosine * b;
    }
}

/* Eigenvectors of the covariance inside of the block: small's diagonal becomes their spreads, turn's columns
 * say how they are made of the axes; order lists them, the largest spread first. */
static void
solve_small(struct fit *f, size_t order[BLOCK])
{
    for (size_t i = 0; i < f->n_axis; i++) {
        for (size_t j = 0; j < f->n_axis; j++) {
            double sum = 0;

            for (size_t t = 0; t < f->dim; t++)
                sum += (double) f->axes[i * f->dim + t] * f->image[j * f->dim + t];
            f->small[i][j] = sum;
            f->turn[i][j] = i == j;
        }
        order[i] = i;
    }
    for (size_t i = 0; i < f->n_axis; i++)
        for (size_t j = 0; j < i; j++) /* rounding aside they are equal */
            f->small[i][j] = f->small[j][i] = (f->small[i][j] + f->small[j][i]) / 2;
    for (int sweep = 0; sweep < SWEEPS_MAX; sweep++)
        for (size_t p = 0; p < f->n_axis; p++)
            for (size_t q = p + 1; q < f->n_axis; q++)
                if (fabs(f->small[p][q]) > 1e-15 * (fabs(f->small[p][p]) + fabs(f->small[q][q])))
                    rotate(f, p, q);
    for (size_t i = 1; i < f->n_axis; i++)
        for (size_t j = i; j > 0 && f->small[order[j]][order[j]] > f->small[order[j - 1]][order[j - 1]];
             j--) {
            size_t swap = order[j];

            order[j] = order[j - 1];
            order[j - 1] = swap;
        }
}

/* out = from turned, the columns of turn in that order. */
static void
turn_rows(const struct fit *f, const size_t order[BLOCK], size_t n, double *image, float *part)
{
    double mixed[BLOCK];

    for (size_t t = 0; t < f->dim; t++) {
        for (size_t j = 0; j < n; j++) {
            mixed[j] = 0;
            for (size_t i = 0; i < f->n_axis; i++)
                mixed[j] +=
                    f->turn[i][order[j]] * (part ? (double) part[i * f->dim + t] : image[i * f->dim + t]);
        }
        for (size_t j = 0; j < n; j++)
            if (part)
                part[j * f->dim + t] = (float) mixed[j];
            else
                image[j * f->dim + t] = mixed[j];
    }
}

static void
start_axes(struct fit *f, uint64_t seed)
{
    anx_rng rng = anx_rng_seed(seed);

    for (size_t i = 0; i < f->n_axis * f->dim; i++)
        f->image[i] = anx_rng_unit(&rng) - 0.5;
    settle_axes(f);
}

/* ---- The fit ---- */

static anx_status
iterate(struct fit *f, bool (*should_stop)(void *), void *context, double spreads[2], anx_error *err)
{
    size_t order[BLOCK];
    double before[2] = { -1, -1 };

    for (int pass = 0; pass < PASSES_MAX; pass++) {
        bool is_settled = true;

        if (should_stop && should_stop(context))
            return anx_fail(err, ANX_E_CANCELLED, "the analysis was cancelled");
        multiply(f);
        solve_small(f, order);
        for (size_t j = 0; j < 2; j++) {
            spreads[j] = j < f->n_axis ? fmax(0, f->small[order[j]][order[j]]) : 0;
            is_settled &= fabs(spreads[j] - before[j]) <= SETTLED * spreads[0];
            before[j] = spreads[j];
        }
        if (is_settled || pass + 1 == PASSES_MAX)
            break;
        turn_rows(f, order, f->n_axis, f->image, NULL);
        settle_axes(f);
    }
    turn_rows(f, order, f->n_axis < 2 ? f->n_axis : 2, NULL, f->axes);
    return ANX_OK;
}

static void
take_axis(const struct fit *f, size_t j, double spread, double whole, struct pca *out)
{
    const float *axis = f->axes + j * f->dim;
    size_t largest = 0;

    out->explained[j] = whole > 0 ? fmin(1, spread / whole) : 0;
    if (whole <= 0 || spread <= 1e-12 * whole)
        return;
    for (size_t t = 1; t < f->dim; t++)
        if (fabsf(axis[t]) > fabsf(axis[largest]))
            largest = t;
    for (size_t t = 0; t < f->dim; t++)
        out->axes[j * f->dim + t] = axis[largest] < 0 ? -axis[t] : axis[t];
}

anx_status
pca_fit(float *rows, size_t n, size_t dim, uint64_t seed, bool (*should_stop)(void *), void *context,
        struct pca *out, anx_error *err)
{
    struct fit f = { .rows = rows, .n = n, .dim = dim, .n_axis = dim < BLOCK ? dim : BLOCK };
    double spreads[2] = { 0, 0 }, whole;
    anx_status st = ANX_E_NOMEM;

    *out = (struct pca) { .dim = dim };
    f.kernels = anx_kernels_best();
    f.axes = anx_alloc_zeroed(NULL, dim, BLOCK * sizeof(*f.axes));
    f.image = anx_alloc_zeroed(NULL, dim, BLOCK * sizeof(*f.image));
    f.part = anx_alloc_zeroed(NULL, dim, sizeof(*f.part));
    out->mean = anx_alloc_zeroed(NULL, dim, sizeof(*out->mean));
    out->axes = anx_alloc_zeroed(NULL, dim, 2 * sizeof(*out->axes));
    if (!f.axes || !f.image || !f.part || !out->mean || !out->axes) {
        (void) anx_fail(err, ANX_E_NOMEM, "could not allocate axes of %zu components", dim);
        goto out;
    }
    out->shrink = shrink_of(rows, n * dim);
    centre(rows, n, dim, f.image, out);
    whole = spread_of(rows, n, dim, f.kernels);
    start_axes(&f, seed);
    st = iterate(&f, should_stop, context, spreads, err);
    for (size_t j = 0; st == ANX_OK && j < 2 && j < f.n_axis; j++)
        take_axis(&f, j, spreads[j], whole, out);
out:
    anx_free(NULL, f.axes);
    anx_free(NULL, f.image);
    anx_free(NULL, f.part);
    if (st != ANX_OK)
        pca_fini(out);
    return st;
}

void
pca_project(const struct pca *pca, const float *row, double xy[2])
{
    for (size_t j = 0; j < 2; j++) {
        xy[j] = 0;
        for (size_t t = 0; t < pca->dim; t++)
            xy[j] += ((double) row[t] * (double) pca->shrink - (double) pca->mean[t]) *
                     (double) pca->axes[j * pca->dim + t];
    }
}

void
pca_fini(struct pca *pca)
{
    anx_free(NULL, pca->mean);
    anx_free(NULL, pca->axes);
    *pca = (struct pca) { 0 };
}
