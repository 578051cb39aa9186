/* Data of a benchmark and its exact answers; see bench.h. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "bench/bench.h"

double
bench_distance(anx_metric metric, const float *a, const float *b, size_t dim)
{
    double sum = 0, aa = 0, bb = 0;

    if (metric == ANX_METRIC_L2) {
        for (size_t i = 0; i < dim; i++)
            sum += ((double) a[i] - (double) b[i]) * ((double) a[i] - (double) b[i]);
        return sum;
    }
    for (size_t i = 0; i < dim; i++) {
        sum += (double) a[i] * (double) b[i];
        aa += (double) a[i] * (double) a[i];
        bb += (double) b[i] * (double) b[i];
    }
    if (metric == ANX_METRIC_IP)
        return -sum;
    return aa > 0 && bb > 0 ? 1 - sum / sqrt(aa * bb) : 1;
}

float *
bench_normalized(const float *rows, size_t n, size_t dim)
{
    float *out = anx_alloc_array(NULL, n * dim, sizeof(*out));

    for (size_t i = 0; out && i < n; i++) {
        double norm2 = 0;
        float scale;

        for (size_t d = 0; d < dim; d++)
            norm2 += (double) rows[i * dim + d] * (double) rows[i * dim + d];
        scale = norm2 > 0 ? (float) (1 / sqrt(norm2)) : 0.0f;
        for (size_t d = 0; d < dim; d++)
            out[i * dim + d] = rows[i * dim + d] * scale;
    }
    return out;
}

static anx_status
fill_labels(struct bench_data *data, anx_error *err)
{
    data->labels = anx_alloc_array(NULL, data->n, sizeof(*data->labels));
    if (!data->labels)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu labels", data->n);
    for (size_t i = 0; i < data->n; i++)
        data->labels[i] = i;
    return ANX_OK;
}

anx_status
bench_data_alloc(struct bench_data *data, anx_metric metric, size_t n, size_t n_query, size_t dim,
                 anx_error *err)
{
    *data = (struct bench_data){
        .metric = metric, .scalar = ANX_SCALAR_F32, .n = n, .dim = dim, .n_query = n_query
    };
    data->row_size = dim * sizeof(float);
    data->rows = anx_alloc_array(NULL, n, data->row_size);
    data->queries = anx_alloc_array(NULL, n_query, data->row_size);
    data->index_rows = data->rows;
    data->index_queries = data->queries;
    if (!data->rows || !data->queries)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu x %zu floats", n + n_query, dim);
    return fill_labels(data, err);
}

void
bench_data_free(struct bench_data *data)
{
    if (data->index_rows != data->rows)
        anx_free(NULL, data->index_rows);
    if (data->index_queries != data->queries)
        anx_free(NULL, data->index_queries);
    anx_free(NULL, data->rows);
    anx_free(NULL, data->queries);
    anx_free(NULL, data->labels);
    memset(data, 0, sizeof(*data));
}

/* Rows 0..n of a file as f32 and as `scalar`; *as_index is *as_f32 when that is the same. */
static anx_status
read_rows(const struct dataset *file, size_t n, anx_scalar scalar, float **as_f32, void **as_index,
          anx_error *err)
{
    size_t row_size = anx_row_size(scalar, file->dim);
    anx_status st;

    *as_f32 = anx_alloc_array(NULL, n * file->dim, sizeof(float));
    *as_index = scalar == ANX_SCALAR_F32 ? (void *) *as_f32 : anx_alloc_array(NULL, n, row_size);
    if (!*as_f32 || !*as_index)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu rows of %zu numbers", n, file->dim);
    st = dataset_read(file, ANX_SCALAR_F32, 0, n, *as_f32, err);
    if (st == ANX_OK && scalar != ANX_SCALAR_F32)
        st = dataset_read(file, scalar, 0, n, *as_index, err);
    return st;
}

anx_status
bench_data_load(const struct bench_options *options, anx_index_params *params, struct bench_data *data,
                anx_error *err)
{
    struct dataset base = { 0 }, queries = { 0 };
    anx_status st;

    memset(data, 0, sizeof(*data));
    st = dataset_open(options->base, &base, err);
    if (st == ANX_OK)
        st = dataset_open(options->queries, &queries, err);
    if (st != ANX_OK)
        goto out;
    *params = index_options_params(&options->index, &base);
    if (params->metric == ANX_METRIC_HAMMING) {
        st = anx_fail(err, ANX_E_UNSUPPORTED, "metric hamming is not measured, must be l2, ip or cosine");
        goto out;
    }
    if (base.dim != queries.dim) {
        st = anx_fail(err, ANX_E_DIM, "queries have %zu dimensions, base has %zu", queries.dim, base.dim);
        goto out;
    }
    data->metric = params->metric;
    data->scalar = params->scalar;
    data->dim = base.dim;
    data->n = options->limit > 0 && options->limit < base.rows ? options->limit : base.rows;
    data->n_query = queries.rows;
    data->row_size = anx_row_size(data->scalar, data->dim);
    params->capacity = data->n;
    st = read_rows(&base, data->n, data->scalar, &data->rows, &data->index_rows, err);
    if (st == ANX_OK)
        st = read_rows(&queries, data->n_query, data->scalar, &data->queries, &data->index_queries, err);
    if (st == ANX_OK)
        st = fill_labels(data, err);
out:
    dataset_close(&base);
    dataset_close(&queries);
    if (st != ANX_OK)
        bench_data_free(data);
    return st;
}

const void *
bench_data_fetch(void *context, uint64_t label, void *room)
{
    const struct bench_data *data = context;

    (void) room;
    return label < data->n ? (const char *) data->index_rows + label * data->row_size : NULL;
}

static anx_status
truth_alloc(const struct bench_data *data, size_t k, const uint64_t *bitmap, struct bench_truth *truth,
            anx_error *err)
{
    *truth = (struct bench_truth) { .k = k, .bitmap = bitmap };
    truth->bound = anx_alloc_array(NULL, data->n_query, sizeof(*truth->bound));
    truth->want = anx_alloc_array(NULL, data->n_query, sizeof(*truth->want));
    if (truth->bound && truth->want)
        return ANX_OK;
    bench_truth_free(truth);
    return anx_fail(err, ANX_E_NOMEM, "no memory for the answers of %zu queries", data->n_query);
}

void
bench_truth_free(struct bench_truth *truth)
{
    anx_free(NULL, truth->bound);
    anx_free(NULL, truth->want);
    memset(truth, 0, sizeof(*truth));
}

/* Sets the bound by the last true neighbor. The slack is for exact answers that were computed in f32. */
static void
set_bound(const struct bench_data *data, struct bench_truth *truth, size_t query, size_t want, size_t last)
{
    double d = bench_distance(data->metric, data->queries + query * data->dim, data->rows + last * data->dim,
                              data->dim);

    truth->want[query] = want;
    truth->bound[query] = d + 1e-6 * fabs(d) + 1e-7;
}

anx_status
bench_truth_read(const struct bench_data *data, const char *path, size_t k, struct bench_truth *truth,
                 anx_error *err)
{
    struct dataset file;
    anx_status st = dataset_open(path, &file, err);

    if (st != ANX_OK)
        return st;
    if (file.rows < data->n_query || file.dim < k) {
        st = anx_fail(err, ANX_E_INVALID, "\"%s\" has %zu x %zu neighbors, needs at least %zu x %zu", path,
                      file.rows, file.dim, data->n_query, k);
        goto out;
    }
    st = truth_alloc(data, k, NULL, truth, err);
    for (size_t q = 0; st == ANX_OK && q < data->n_query; q++) {
        int64_t last;

        if (!dataset_integer(&file, q, k - 1, &last) || last < 0 || (uint64_t) last >= data->n) {
            bench_truth_free(truth);
            st = anx_fail(err, ANX_E_VALUE,
                          "\"%s\": neighbor %zu of query %zu is %lld, must be a row number below %zu", path,
                          k, q, (long long) last, data->n);
            break;
        }
        set_bound(data, truth, q, k, (size_t) last);
    }
out:
    dataset_close(&file);
    return st;
}

anx_status
bench_truth_compute(const struct bench_data *data, size_t k, const uint64_t *bitmap, size_t threads,
                    struct bench_truth *truth, anx_error *err)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_search_params search = ANX_SEARCH_PARAMS_INIT;
    anx_filter filter = { .bitmap = bitmap, .bits = data->n };
    anx_index *flat = NULL;
    anx_hits hits = { anx_alloc_array(NULL, data->n_query * k, sizeof(float)),
                      anx_alloc_array(NULL, data->n_query * k, sizeof(uint64_t)) };
    anx_status st = truth_alloc(data, k, bitmap, truth, err);

    params.kind = ANX_INDEX_FLAT;
    params.metric = data->metric;
    params.dim = data->dim;
    params.threads = threads;
    params.capacity = data->n;
    search.threads = threads ? threads : anx_cpu_count();
    search.filter = bitmap ? &filter : NULL;
    if (st == ANX_OK && (!hits.distances || !hits.labels))
        st = anx_fail(err, ANX_E_NOMEM, "no memory for the answers of %zu queries", data->n_query);
    if (st == ANX_OK)
        st = anx_index_create(&params, &flat, err);
    if (st == ANX_OK)
        st = anx_index_add_batch(flat, data->n, data->labels, data->rows, err);
    if (st == ANX_OK)
        st = anx_index_search(flat, &search, data->n_query, data->queries, k, &hits, err);
    for (size_t q = 0; st == ANX_OK && q < data->n_query; q++) {
        size_t want = k;

        while (want > 0 && hits.labels[q * k + want - 1] == ANX_LABEL_NONE)
            want--;
        if (want > 0)
            set_bound(data, truth, q, want, (size_t) hits.labels[q * k + want - 1]);
        else
            truth->want[q] = 0;
    }
    anx_index_destroy(flat);
    anx_free(NULL, hits.distances);
    anx_free(NULL, hits.labels);
    if (st != ANX_OK)
        bench_truth_free(truth);
    return st;
}

anx_status
bench_truth_get(const struct bench_options *options, const struct bench_data *data, struct bench_truth *truth,
                anx_error *err)
{
    if (options->truth && options->limit == 0)
        return bench_truth_read(data, options->truth, options->k, truth, err);
    return bench_truth_compute(data, options->k, NULL, options->index.threads, truth, err);
}

static bool
appears_before(const uint64_t *labels, size_t at)
{
    for (size_t i = 0; i < at; i++)
        if (labels[i] == labels[at])
            return true;
    return false;
}

double
bench_recall(const struct bench_data *data, const struct bench_truth *truth, const uint64_t *labels)
{
    double sum = 0;
    size_t n_counted = 0;

    for (size_t q = 0; q < data->n_query; q++) {
        const uint64_t *answer = labels + q * truth->k;
        size_t right = 0;

        if (truth->want[q] == 0)
            continue;
        for (size_t i = 0; i < truth->k; i++) {
            uint64_t l = answer[i];

            if (l >= data->n || (truth->bitmap && !(truth->bitmap[l >> 6] >> (l & 63) & 1)) ||
                appears_before(answer, i))
                continue;
            right += bench_distance(data->metric, data->queries + q * data->dim, data->rows + l * data->dim,
                                    data->dim) <= truth->bound[q];
        }
        sum += (double) (right < truth->want[q] ? right : truth->want[q]) / (double) truth->want[q];
        n_counted++;
    }
    return n_counted > 0 ? sum / (double) n_counted : 1.0;
}
