/* See index_options.h. The orders of the words below are the orders of the enums; index_options_params maps
 * where not. */
#include "cli/index_options.h"

#include "base/error.h"

const struct option_def index_option_rows[INDEX_N_OPTION_ROW] = {
    { .name = "index",
      .type = OPTION_CHOICE,
      .choices = "hnsw|ivf|flat",
      .def = "hnsw",
      .offset = offsetof(struct index_options, kind),
      .help = "Kind of index" },
    { .name = "metric",
      .type = OPTION_CHOICE,
      .choices = "l2|ip|cosine|hamming",
      .def = "l2",
      .offset = offsetof(struct index_options, metric),
      .help = "Distance" },
    { .name = "scalar",
      .type = OPTION_CHOICE,
      .choices = "f32|f16|i8|u8|as-is",
      .def = "f32",
      .offset = offsetof(struct index_options, scalar),
      .help = "Element kind of the index (hamming: always bits)" },
    { .name = "m",
      .type = OPTION_UINT,
      .min = ANX_HNSW_M_MIN,
      .max = ANX_HNSW_M_MAX,
      .def = "16",
      .offset = offsetof(struct index_options, m),
      .help = "hnsw: neighbors per node" },
    { .name = "ef-construction",
      .type = OPTION_UINT,
      .min = ANX_HNSW_EF_CONSTRUCTION_MIN,
      .max = ANX_HNSW_EF_CONSTRUCTION_MAX,
      .def = "200",
      .offset = offsetof(struct index_options, ef_construction),
      .help = "hnsw: candidates while linking" },
    { .name = "centroids",
      .type = OPTION_UINT,
      .min = 1,
      .max = ANX_IVF_CENTROIDS_MAX,
      .def = "256",
      .offset = offsetof(struct index_options, centroids),
      .help = "ivf: number of lists" },
    { .name = "quantization",
      .type = OPTION_CHOICE,
      .choices = "none|sq8",
      .def = "none",
      .offset = offsetof(struct index_options, quantization),
      .help = "sq8: keep only 8-bit codes" },
    { .name = "quantile",
      .type = OPTION_REAL,
      .min = 0,
      .max = 1,
      .def = "0",
      .offset = offsetof(struct index_options, quantile),
      .help = "sq8: share of values inside the range; 0: automatic" },
    { .name = "sample-size",
      .type = OPTION_UINT,
      .min = 0,
      .max = 1e9,
      .def = "0",
      .offset = offsetof(struct index_options, sample_size),
      .help = "sq8: rows sampled for the range; 0: 20,000" },
    { .name = "threads",
      .type = OPTION_UINT,
      .min = 0,
      .max = 1024,
      .def = "0",
      .offset = offsetof(struct index_options, threads),
      .help = "Threads that build; 0: every CPU" },
    { .name = "seed",
      .type = OPTION_UINT,
      .min = 0,
      .max = 9e15,
      .def = "1",
      .offset = offsetof(struct index_options, seed),
      .help = "Seed of every random choice" },
};

anx_index_params
index_options_params(const struct index_options *options, const struct dataset *data)
{
    static const anx_index_kind kinds[] = { ANX_INDEX_HNSW, ANX_INDEX_IVF, ANX_INDEX_FLAT };
    static const anx_scalar scalars[] = { ANX_SCALAR_F32, ANX_SCALAR_F16, ANX_SCALAR_I8, ANX_SCALAR_U8 };
    anx_index_params params = ANX_INDEX_PARAMS_INIT;

    params.kind = kinds[options->kind];
    params.metric = (anx_metric) options->metric;
    if (params.metric == ANX_METRIC_HAMMING)
        params.scalar = ANX_SCALAR_B1;
    else if ((size_t) options->scalar < ANX_COUNT_OF(scalars))
        params.scalar = scalars[options->scalar];
    else
        params.scalar = dataset_scalar(data);
    params.dim = dataset_dim(data, params.scalar);
    params.capacity = data->rows;
    params.seed = options->seed;
    params.threads = options->threads;
    params.m = options->m;
    params.ef_construction = options->ef_construction;
    params.centroids = options->centroids;
    params.quantization = (anx_quantization) options->quantization;
    params.quantile = (float) options->quantile;
    params.sample_size = options->sample_size;
    return params;
}
