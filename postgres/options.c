/* The options of CREATE INDEX ... WITH (...): one row each, with range, default and help. */
#include "lantern.h"
#include "lantern_int.h"

#include <access/reloptions.h>
#include <catalog/namespace.h>
#include <utils/builtins.h>
#include <utils/lsyscache.h>

#include "base/error.h"

static relopt_kind option_kind;

static relopt_enum_elt_def quant_bits_values[] = {
    { "1", 1 }, { "2", 2 }, { "4", 4 }, { "8", 8 }, { "16", 16 }, { "32", 32 }, { NULL, 0 },
};

static const struct int_option {
    const char *name, *help;
    int def, min, max;
    size_t offset;
} int_options[] = {
    { "dim", "Number of dimensions of the vectors; without it, that of the first row", -1, 1, ANX_PG_DIM_MAX,
      offsetof(struct anx_pg_options, dim) },
    { "m", "Links per node of the graph on upper levels; the lowest has twice as many", ANX_PG_M_DEFAULT,
      ANX_PG_M_MIN, ANX_PG_M_MAX, offsetof(struct anx_pg_options, m) },
    { "ef_construction", "Candidates kept while a row is linked into the graph",
      ANX_PG_EF_CONSTRUCTION_DEFAULT, ANX_PG_EF_MIN, ANX_PG_EF_MAX,
      offsetof(struct anx_pg_options, ef_construction) },
    { "ef", "Candidates kept while searching, unless lantern_hnsw.ef says otherwise", ANX_PG_EF_DEFAULT,
      ANX_PG_EF_MIN, ANX_PG_EF_MAX, offsetof(struct anx_pg_options, ef) },
};

static const struct bool_option {
    const char *name, *help;
    size_t offset;
} bool_options[] = {
    { "pq", "Build over the product quantization of the column", offsetof(struct anx_pg_options, pq) },
    { "external", "Build on the indexing server that lantern.external_index_host names",
      offsetof(struct anx_pg_options, external) },
};

static const struct anx_pg_options default_options = {
    .dim = -1,
    .m = ANX_PG_M_DEFAULT,
    .ef_construction = ANX_PG_EF_CONSTRUCTION_DEFAULT,
    .ef = ANX_PG_EF_DEFAULT,
    .quant_bits = 32,
};

void
anx_pg_define_options(void)
{
    /* What an option means is fixed when an index is built; who changes it should have the index alone. */
    LOCKMODE lock = AccessExclusiveLock;

    option_kind = add_reloption_kind();
    for (size_t i = 0; i < ANX_COUNT_OF(int_options); i++)
        add_int_reloption(option_kind, int_options[i].name, int_options[i].help, int_options[i].def,
                          int_options[i].min, int_options[i].max, lock);
    for (size_t i = 0; i < ANX_COUNT_OF(bool_options); i++)
        add_bool_reloption(option_kind, bool_options[i].name, bool_options[i].help, false, lock);
    add_enum_reloption(option_kind, "quant_bits", "Bits per component of the vectors that are sent",
                       quant_bits_values, 32,
                       "Unsupported quantization bits. Supported values are 1, 2, 4, 8, 16 and 32", lock);
    add_string_reloption(option_kind, "_experimental_index_path", "No longer supported", NULL, NULL, lock);
}

/* Fields by name: newer servers have more of them. */
static relopt_parse_elt
parse_element(const char *name, relopt_type type, size_t offset)
{
    return (relopt_parse_elt){ .optname = name, .opttype = type, .offset = (int) offset };
}

bytea *
anx_pg_parse_options(Datum reloptions, bool validate)
{
    relopt_parse_elt table[ANX_COUNT_OF(int_options) + ANX_COUNT_OF(bool_options) + 2];
    int n = 0;

    for (size_t i = 0; i < ANX_COUNT_OF(int_options); i++)
        table[n++] = parse_element(int_options[i].name, RELOPT_TYPE_INT, int_options[i].offset);
    for (size_t i = 0; i < ANX_COUNT_OF(bool_options); i++)
        table[n++] = parse_element(bool_options[i].name, RELOPT_TYPE_BOOL, bool_options[i].offset);
    table[n++] = parse_element("quant_bits", RELOPT_TYPE_ENUM, offsetof(struct anx_pg_options, quant_bits));
    table[n++] = parse_element("_experimental_index_path", RELOPT_TYPE_STRING,
                               offsetof(struct anx_pg_options, path_offset));
    return build_reloptions(reloptions, validate, option_kind, sizeof(struct anx_pg_options), table, n);
}

const struct anx_pg_options *
anx_pg_options_of(Relation index)
{
    return index->rd_options ? (const struct anx_pg_options *) index->rd_options : &default_options;
}

/* pq: the column must have been quantized. Its codes are not used: an index has its own, which are finer. */
static void
check_codebook(Relation index)
{
    AttrNumber column = index->rd_index->indkey.values[0];
    Oid table = index->rd_index->indrelid;
    const char *name =
        psprintf("pq_%s_%s", get_rel_name(table), column ? get_attname(table, column, false) : "");
    Oid schema = get_namespace_oid("_lantern_internal", true);

    if (!OidIsValid(schema) || !OidIsValid(get_relname_relid(name, schema)))
        ereport(ERROR,
                (errcode(ERRCODE_UNDEFINED_TABLE), errmsg("PQ-codebook for relation \"%s\" not found", name),
                 errhint("quantize_table makes it.")));
}

void
anx_pg_check_options(Relation index)
{
    const struct anx_pg_options *options = anx_pg_options_of(index);

    if (options->path_offset)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                 errmsg("Importing index from file is no longer supported.\n"
                        "If you want to use external indexing pass `external=true` in index options")));
    if (options->quant_bits == 2 || options->quant_bits == 4)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("unimplemented quantization"),
                        errhint("Use 1, 8, 16 or 32.")));
    if (options->pq && options->quant_bits < 32)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("pq and quant_bits = %d cannot be combined", options->quant_bits)));
    if (options->pq)
        check_codebook(index);
}
