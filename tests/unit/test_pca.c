/* Principal components: against spreads that are known by construction, and at the edges. */
#include "test_util.h"

#include <math.h>
#include <string.h>

#include "ann/pca.h"
#include "base/error.h"
#include "base/rng.h"

enum { ROWS = 3000, DIM = 40 };

static void
assert_near(double value, double expected, double room)
{
    if (!(fabs(value - expected) <= room))
        fail_msg("%g is not %g", value, expected);
}

static double
normal(anx_rng *rng)
{
    return sqrt(-2 * log(anx_rng_unit(rng))) * cos(2 * 3.14159265358979 * anx_rng_unit(rng));
}

/* Rows around `centre` that spread by `widths` along the axes of a known turned frame: pairs of components
 * are turned by 0.5, so that axis t has cos at t and sin at t + DIM / 2. */
static float *
make_rows(const double *widths, double centre, double unit)
{
    float *rows = anx_alloc_array(NULL, ROWS * DIM, sizeof(*rows));
    anx_rng rng = anx_rng_seed(11);

    assert_non_null(rows);
    for (size_t i = 0; i < ROWS; i++) {
        double along[DIM];

        for (size_t t = 0; t < DIM; t++)
            along[t] = widths[t] * normal(&rng);
        for (size_t t = 0; t < DIM / 2; t++) {
            double a = along[t], b = along[t + DIM / 2];

            rows[i * DIM + t] = (float) (unit * (centre + cos(0.5) * a - sin(0.5) * b));
            rows[i * DIM + t + DIM / 2] = (float) (unit * (centre + sin(0.5) * a + cos(0.5) * b));
        }
    }
    return rows;
}

static void
fit(float *rows, size_t n, size_t dim, struct pca *out)
{
    anx_error err = { 0 };

    if (pca_fit(rows, n, dim, 1, NULL, NULL, out, &err) != ANX_OK)
        fail_msg("%s", err.message);
}

static void
test_known_covariance(void **state)
{
    static const struct {
        double centre, unit;
    } rows[] = { { 0, 1 }, { 100, 1 }, { 0, 1e30 }, { 3, 1e-30 } };
    double widths[DIM], whole = 0;

    (void) state;
    for (size_t t = 0; t < DIM; t++) {
        widths[t] = t == 5 ? 4 : t == 12 ? 3 : t == 30 ? 2.5 : 0.3;
        whole += widths[t] * widths[t];
    }
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        static const size_t main_axes[] = { 5, 12 };
        float *data = make_rows(widths, rows[r].centre, rows[r].unit), first[DIM];
        struct pca pca;
        double xy[2], along;

        memcpy(first, data, sizeof(first));
        fit(data, ROWS, DIM, &pca);
        for (size_t j = 0; j < 2; j++) {
            size_t t = main_axes[j];

            /* the largest component is positive */
            assert_near((double) pca.axes[j * DIM + t], cos(0.5), 0.03);
            assert_near((double) pca.axes[j * DIM + t + DIM / 2], sin(0.5), 0.03);
            assert_near(pca.explained[j], widths[t] * widths[t] / whole, 0.03);
        }
        pca_project(&pca, first, xy);
        along = 0; /* the place of a row is its centred self along the axis */
        for (size_t t = 0; t < DIM; t++)
            along += (double) data[t] * (double) pca.axes[t];
        assert_near(xy[0], along, 1e-3 * (1 + fabs(along)));
        pca_fini(&pca);
        anx_free(NULL, data);
    }
}

static void
test_same_rows_same_axes(void **state)
{
    double widths[DIM];
    struct pca a, b;
    float *one, *two;

    (void) state;
    for (size_t t = 0; t < DIM; t++)
        widths[t] = 1; /* no axis is better than another: only the seed decides */
    one = make_rows(widths, 0, 1);
    two = make_rows(widths, 0, 1);
    fit(one, ROWS, DIM, &a);
    fit(two, ROWS, DIM, &b);
    assert_memory_equal(a.axes, b.axes, 2 * DIM * sizeof(float));
    pca_fini(&a);
    pca_fini(&b);
    anx_free(NULL, one);
    anx_free(NULL, two);
}

/* Axes that there are not are zero, and nothing is ever not a number. */
static void
test_edges(void **state)
{
    float same[4 * 3] = { 1, 2, 3, 1, 2, 3, 1, 2, 3, 1, 2, 3 }, zero[2 * 2] = { 0 };
    float line[4 * 2] = { 0, 0, 1, 1, 2, 2, 3, 3 }, flat[3] = { 1, 5, 9 }, single[2] = { 7, 7 };
    float large[2 * 2] = { 3e38f, -3e38f, -3e38f, 3e38f }, tiny[2 * 2] = { 1e-44f, 0, 0, 1e-44f };
    const struct {
        float *rows;
        size_t n, dim;
        double explained[2];
    } rows[] = {
        { same, 4, 3, { 0, 0 } }, { zero, 2, 2, { 0, 0 } },   { line, 4, 2, { 1, 0 } },
        { flat, 3, 1, { 1, 0 } }, { single, 1, 2, { 0, 0 } }, { large, 2, 2, { 1, 0 } },
        { tiny, 2, 2, { 1, 0 } },
    };

    (void) state;
    for (size_t r = 0; r < sizeof(rows) / sizeof(rows[0]); r++) {
        float row[3];
        struct pca pca;
        double xy[2];

        memcpy(row, rows[r].rows, rows[r].dim * sizeof(float));
        fit(rows[r].rows, rows[r].n, rows[r].dim, &pca);
        pca_project(&pca, row, xy);
        for (size_t j = 0; j < 2; j++) {
            assert_near(pca.explained[j], rows[r].explained[j], 1e-6);
            assert_true(isfinite(xy[j]));
        }
        pca_fini(&pca);
    }
}

static bool
stop(void *context)
{
    return ++*(int *) context > 2;
}

static void
test_cancel(void **state)
{
    double widths[DIM];
    anx_error err = { 0 };
    struct pca pca;
    int n = 0;
    float *rows;

    (void) state;
    for (size_t t = 0; t < DIM; t++)
        widths[t] = 1;
    rows = make_rows(widths, 0, 1);
    assert_int_equal(pca_fit(rows, ROWS, DIM, 1, stop, &n, &pca, &err), ANX_E_CANCELLED);
    assert_null(pca.axes);
    assert_int_equal(n, 3);
    anx_free(NULL, rows);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_covariance),
        cmocka_unit_test(test_same_rows_same_axes),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_cancel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
