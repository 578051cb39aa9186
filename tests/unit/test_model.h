/* A slow, obviously right index to compare the real ones with, and rows of every element kind to fill them.
 * Distances are computed in double precision from the decoded components, so the model shares no code with
 * the engine. */
#ifndef ANX_TEST_MODEL_H
#define ANX_TEST_MODEL_H

#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "annex/index.h"
#include "base/rng.h"
#include "kernel/kernel.h"

#define MODEL_ROWS 1024
#define MODEL_ROW_SIZE 256

struct model {
    anx_metric metric;
    anx_scalar scalar;
    size_t dim, row_size, n;
    uint64_t labels[MODEL_ROWS];
    uint8_t rows[MODEL_ROWS][MODEL_ROW_SIZE];
};

/* Pairs of metric and element kind that go together, with a dimension that leaves tails. */
struct model_space {
    anx_metric metric;
    anx_scalar scalar;
    size_t dim;
};
static const struct model_space model_spaces[] = {
    { ANX_METRIC_L2, ANX_SCALAR_F32, 20 },     { ANX_METRIC_IP, ANX_SCALAR_F32, 33 },
    { ANX_METRIC_COSINE, ANX_SCALAR_F32, 17 }, { ANX_METRIC_L2, ANX_SCALAR_F16, 21 },
    { ANX_METRIC_IP, ANX_SCALAR_F16, 24 },     { ANX_METRIC_COSINE, ANX_SCALAR_F16, 40 },
    { ANX_METRIC_L2, ANX_SCALAR_I8, 19 },      { ANX_METRIC_IP, ANX_SCALAR_I8, 16 },
    { ANX_METRIC_COSINE, ANX_SCALAR_I8, 31 },  { ANX_METRIC_L2, ANX_SCALAR_U8, 18 },
    { ANX_METRIC_IP, ANX_SCALAR_U8, 64 },      { ANX_METRIC_COSINE, ANX_SCALAR_U8, 29 },
    { ANX_METRIC_HAMMING, ANX_SCALAR_B1, 67 },
};
#define N_SPACE (sizeof(model_spaces) / sizeof(model_spaces[0]))

static inline void
model_init(struct model *model, const struct model_space *space)
{
    model->metric = space->metric;
    model->scalar = space->scalar;
    model->dim = space->dim;
    model->row_size = anx_row_size(space->scalar, space->dim);
    model->n = 0;
    assert_true(model->row_size <= MODEL_ROW_SIZE);
}

/* A row around one of eight centers: real vectors have clusters, and graphs need them to be searchable. */
static inline void
model_random_row(const struct model *model, anx_rng *rng, void *row)
{
    uint32_t center = anx_rng_below(rng, 8);
    uint8_t *bytes = row;

    memset(row, 0, model->row_size);
    for (size_t t = 0; t < model->dim; t++) {
        anx_rng at = anx_rng_seed(1000 * center + t);
        double x = (anx_rng_unit(&at) - 0.5) * 2 + (anx_rng_unit(rng) - 0.5) * 1.5;
        float f = (float) x;

        if (model->scalar == ANX_SCALAR_F32)
            memcpy(bytes + 4 * t, &f, 4);
        else if (model->scalar == ANX_SCALAR_F16)
            anx_kernels_best()->f32_to_f16(&f, 1, (uint16_t *) row + t);
        else if (model->scalar == ANX_SCALAR_I8)
            bytes[t] = (uint8_t) (int8_t) lrint(x * 60);
        else if (model->scalar == ANX_SCALAR_U8)
            bytes[t] = (uint8_t) (128 + lrint(x * 60));
        else if (x > 0)
            bytes[t / 8] = (uint8_t) (bytes[t / 8] | 0x80 >> t % 8);
    }
}

static inline double
model_component(const struct model *model, const void *row, size_t t)
{
    const uint8_t *bytes = row;
    float f;

    switch (model->scalar) {
    case ANX_SCALAR_F32:
        memcpy(&f, bytes + 4 * t, 4);
        return (double) f;
    case ANX_SCALAR_F16:
        anx_kernels_best()->f16_to_f32((const uint16_t *) row + t, 1, &f);
        return (double) f;
    case ANX_SCALAR_I8:
        return (int8_t) bytes[t];
    case ANX_SCALAR_U8:
        return bytes[t];
    default:
        return bytes[t / 8] >> (7 - t % 8) & 1;
    }
}

static inline double
model_distance(const struct model *model, const void *a, const void *b)
{
    double l2 = 0, dot = 0, aa = 0, bb = 0;

    for (size_t t = 0; t < model->dim; t++) {
        double x = model_component(model, a, t), y = model_component(model, b, t);

        l2 += (x - y) * (x - y);
        dot += x * y;
        aa += x * x;
        bb += y * y;
    }
    if (model->metric == ANX_METRIC_IP)
        return -dot;
    if (model->metric == ANX_METRIC_COSINE)
        return aa > 0 && bb > 0 ? 1 - dot / sqrt(aa * bb) : 1;
    return l2;
}

/* How far a distance in float arithmetic may be off. */
static inline double
model_tolerance(double distance)
{
    return 1e-4 * (1 + fabs(distance));
}

static inline size_t
model_find(const struct model *model, uint64_t label)
{
    for (size_t i = 0; i < model->n; i++)
        if (model->labels[i] == label)
            return i;
    return SIZE_MAX;
}

static inline void
model_add(struct model *model, uint64_t label, const void *row)
{
    assert_true(model->n < MODEL_ROWS && model_find(model, label) == SIZE_MAX);
    model->labels[model->n] = label;
    memcpy(model->rows[model->n++], row, model->row_size);
}

static inline void
model_remove(struct model *model, uint64_t label)
{
    size_t at = model_find(model, label);

    assert_true(at != SIZE_MAX);
    model->n--;
    model->labels[at] = model->labels[model->n];
    memcpy(model->rows[at], model->rows[model->n], model->row_size);
}

/* The true distances of all rows that pass, ascending; returns how many. */
static inline size_t
model_distances(const struct model *model, const void *query, bool (*accept)(void *, uint64_t), double *out)
{
    size_t n = 0;

    for (size_t i = 0; i < model->n; i++) {
        double d = model_distance(model, query, model->rows[i]);
        size_t at = n++;

        if (accept && !accept(NULL, model->labels[i])) {
            n--;
            continue;
        }
        for (; at > 0 && out[at - 1] > d; at--)
            out[at] = out[at - 1];
        out[at] = d;
    }
    return n;
}

/* Hits are sound: ascending, ties by label, no label twice, every distance true, padding at the end. Returns
 * how many. */
static inline size_t
model_check_hits(const struct model *model, const void *query, size_t k, const float *distances,
                 const uint64_t *labels)
{
    size_t n = 0;

    for (size_t i = 0; i < k; i++) {
        size_t at;
        double truth;

        if (labels[i] == ANX_LABEL_NONE) {
            assert_true(isinf(distances[i]) && distances[i] > 0);
            continue;
        }
        assert_int_equal(n, i); /* nothing after padding */
        n++;
        at = model_find(model, labels[i]);
        assert_true(at != SIZE_MAX);
        truth = model_distance(model, query, model->rows[at]);
        if (fabs((double) distances[i] - truth) > model_tolerance(truth))
            fail_msg("label %llu is at %g, said to be at %g", (unsigned long long) labels[i], truth,
                     (double) distances[i]);
        if (i > 0 && (distances[i] < distances[i - 1] ||
                      (distances[i] == distances[i - 1] && labels[i] <= labels[i - 1])))
            fail_msg("hits %zu and %zu are out of order", i - 1, i);
    }
    return n;
}

/* How many of the k true nearest were found (by distance, so that equal rows count alike). */
static inline size_t
model_count_right(const double *truth, size_t n_truth, size_t k, const float *distances)
{
    size_t n = n_truth < k ? n_truth : k, right = 0;

    for (size_t i = 0; i < n; i++)
        right += (double) distances[i] <= truth[n - 1] + model_tolerance(truth[n - 1]);
    return right;
}

#endif
