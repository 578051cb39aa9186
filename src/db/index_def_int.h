/* Between the files of index definitions. */
#ifndef ANX_DB_INDEX_DEF_INT_H
#define ANX_DB_INDEX_DEF_INT_H

#include "db/index_def.h"

/* Limits and standards of vector options. */
enum {
    VECTOR_DIM_MAX = 65535,
    START_SIZE_DEFAULT = 1000, /* smaller values are raised to it */
    CENTROIDS_MAX = 131072,
    SAMPLE_SIZE_DEFAULT = 20000,
    QUANTIZATION_THRESHOLD_DEFAULT = 100000,
    EMBED_CONNECTIONS_DEFAULT = 10,
    EMBED_CONNECTIONS_MAX = 1024,
    EMBED_CONNECT_MS_DEFAULT = 300,
    EMBED_CONNECT_MS_MIN = 100,
    EMBED_IO_MS_DEFAULT = 5000,
    EMBED_IO_MS_MIN = 500,
    EMBED_RETRIES_MAX = 10,
    EMBED_BACKOFF_MS_DEFAULT = 200,
    EMBED_BACKOFF_MS_MAX = 60000,
    EMBED_BATCH_MAX = 16384
};

const char *collate_mode_name(enum collate_mode mode);
/* config: NULL when absent. */
ANX_NODISCARD anx_status vector_def_read(const struct json_node *config, anx_arena *arena,
                                         struct index_def *out, anx_error *err);
ANX_NODISCARD anx_status vector_def_check(const struct index_def *def, const char *verb, anx_text ns,
                                          anx_error *err);
bool vector_def_equal_quantization(const struct vector_def *a, const struct vector_def *b);
void vector_def_print(const struct vector_def *def, anx_buffer *out);

#endif
