/* Names of metrics, element kinds and index kinds, and the size of a row. */
#include <string.h>

#include "annex/index.h"
#include "base/error.h"

struct name_row {
    const char *name;
    int value;
};

/* The first row of a value is its canonical name; later ones are only read. */
static const struct name_row metric_names[] = {
    { "l2", ANX_METRIC_L2 },
    { "ip", ANX_METRIC_IP },
    { "cosine", ANX_METRIC_COSINE },
    { "hamming", ANX_METRIC_HAMMING },
    { "l2sq", ANX_METRIC_L2 },
    { "inner_product", ANX_METRIC_IP },
    { "cos", ANX_METRIC_COSINE },
};
static const struct name_row scalar_names[] = {
    { "f32", ANX_SCALAR_F32 },
    { "f16", ANX_SCALAR_F16 },
    { "i8", ANX_SCALAR_I8 },
    { "u8", ANX_SCALAR_U8 },
    { "b1", ANX_SCALAR_B1 },
};
static const struct name_row kind_names[] = {
    { "flat", ANX_INDEX_FLAT },
    { "hnsw", ANX_INDEX_HNSW },
    { "ivf", ANX_INDEX_IVF },
};

static const char *
name_of(const struct name_row *rows, size_t n, int value)
{
    for (size_t i = 0; i < n; i++)
        if (rows[i].value == value)
            return rows[i].name;
    return "unknown";
}

static const struct name_row *
row_named(const struct name_row *rows, size_t n, const char *name)
{
    for (size_t i = 0; name && i < n; i++)
        if (!strcmp(rows[i].name, name))
            return &rows[i];
    return NULL;
}

size_t
anx_row_size(anx_scalar scalar, size_t dim)
{
    switch (scalar) {
    case ANX_SCALAR_F32:
        return dim * sizeof(float);
    case ANX_SCALAR_F16:
        return dim * sizeof(uint16_t);
    case ANX_SCALAR_I8:
    case ANX_SCALAR_U8:
        return dim;
    case ANX_SCALAR_B1:
        return (dim + 7) / 8;
    case ANX_SCALAR_COUNT:
        break;
    }
    return 0;
}

const char *
anx_metric_name(anx_metric metric)
{
    return name_of(metric_names, ANX_COUNT_OF(metric_names), (int) metric);
}

const char *
anx_scalar_name(anx_scalar scalar)
{
    return name_of(scalar_names, ANX_COUNT_OF(scalar_names), (int) scalar);
}

const char *
anx_index_kind_name(anx_index_kind kind)
{
    return name_of(kind_names, ANX_COUNT_OF(kind_names), (int) kind);
}

bool
anx_metric_parse(const char *name, anx_metric *out)
{
    const struct name_row *row = row_named(metric_names, ANX_COUNT_OF(metric_names), name);

    if (row)
        *out = (anx_metric) row->value;
    return row != NULL;
}

bool
anx_scalar_parse(const char *name, anx_scalar *out)
{
    const struct name_row *row = row_named(scalar_names, ANX_COUNT_OF(scalar_names), name);

    if (row)
        *out = (anx_scalar) row->value;
    return row != NULL;
}

bool
anx_index_kind_parse(const char *name, anx_index_kind *out)
{
    const struct name_row *row = row_named(kind_names, ANX_COUNT_OF(kind_names), name);

    if (row)
        *out = (anx_index_kind) row->value;
    return row != NULL;
}
