/* The options that describe an index, shared by every command that makes one. */
#ifndef ANX_CLI_INDEX_OPTIONS_H
#define ANX_CLI_INDEX_OPTIONS_H

#include "annex/index.h"
#include "cli/dataset.h"
#include "cli/options.h"

struct index_options {
    int kind;         /* place in INDEX_KIND_CHOICES */
    int metric;       /* anx_metric */
    int scalar;       /* place in INDEX_SCALAR_CHOICES */
    int quantization; /* anx_quantization */
    size_t m, ef_construction, centroids, threads, seed, sample_size;
    double quantile;
};

enum { INDEX_N_OPTION_ROW = 11 }; /* a constant: tables of groups are made of it */
extern const struct option_def index_option_rows[INDEX_N_OPTION_ROW];

/* The parameters for rows of `data`. Where --scalar is "as-is" the file's own element kind is taken, and b1
 * for hamming. */
anx_index_params index_options_params(const struct index_options *options, const struct dataset *data);

#endif
