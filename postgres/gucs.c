/* The settings, one row each, and the start of the library. */
#include "lantern.h"
#include "lantern_int.h"

#include <miscadmin.h>
#include <utils/builtins.h>
#include <utils/guc.h>
#include <utils/varlena.h>

#include "base/error.h"

#include "filter.h"

PG_MODULE_MAGIC;

struct anx_pg_settings anx_pg_settings;

static const struct config_enum_entry tls_verify_values[] = {
    { "none", ANX_PG_TLS_NONE, false },
    { "ca", ANX_PG_TLS_CA, false },
    { "full", ANX_PG_TLS_FULL, false },
    { NULL, 0, false },
};

static const struct int_setting {
    const char *name, *help;
    int *variable;
    int def, min, max;
} int_settings[] = {
    { "lantern_hnsw.init_k", "Rows that the first step of an index scan looks for.", &anx_pg_settings.init_k,
      ANX_PG_INIT_K_DEFAULT, 1, ANX_PG_INIT_K_MAX },
    { "lantern_hnsw.ef", "Candidates kept while searching; 0: what the index says.", &anx_pg_settings.ef, 0,
      0, ANX_PG_EF_MAX },
    { "lantern_hnsw.max_scan_tuples", "An index scan ends after so many rows; 0: never.",
      &anx_pg_settings.max_scan_tuples, 0, 0, INT_MAX },
    { "lantern.external_index_port", "Port of the indexing server.", &anx_pg_settings.external_port, 8998, 80,
      65535 },
    { "lantern.external_index_protocol", "Version of the indexing protocol; 0: the newest both sides know.",
      &anx_pg_settings.external_protocol, 0, 0, 2 },
};

static const struct bool_setting {
    const char *name, *help;
    bool *variable, def;
} bool_settings[] = {
    { "lantern.external_index_secure", "Use TLS towards the indexing server.",
      &anx_pg_settings.external_secure, false },
    { "lantern.build_messages", "Tell the client at INFO level what a build does.",
      &anx_pg_settings.build_messages, true },
    { "lantern.pgvector_compat", "Without effect; accepted because the documentation of Lantern sets it.",
      &anx_pg_settings.pgvector_compat, true },
    { "_lantern_internal.is_test", "Tell at DEBUG levels what tests look for.", &anx_pg_settings.is_test,
      false },
};

static const struct string_setting {
    const char *name, *help;
    char **variable;
    const char *def;
    GucContext context;
    int flags;
} string_settings[] = {
    { "lantern.external_index_host", "Name or address of the indexing server.",
      &anx_pg_settings.external_host, "127.0.0.1", PGC_USERSET, 0 },
    /* The file is read by the server's own user: who names it must be trusted. */
    { "lantern.external_index_ca_file",
      "PEM file of the authorities that may sign the indexing server's certificate; empty: the system's.",
      &anx_pg_settings.external_ca_file, "", PGC_SUSET, 0 },
    { "lantern.external_index_token", "Shared secret of the indexing server; empty: none.",
      &anx_pg_settings.external_token, "", PGC_USERSET,
      GUC_NO_SHOW_ALL | GUC_SUPERUSER_ONLY | GUC_NOT_IN_SAMPLE },
    { "lantern.external_index_allowed_hosts",
      "Hosts that external builds may connect to, separated by commas; empty: any.",
      &anx_pg_settings.external_allowed, "", PGC_SUSET, GUC_LIST_INPUT },
};

static void
define_settings(void)
{
    for (size_t i = 0; i < ANX_COUNT_OF(int_settings); i++) {
        const struct int_setting *s = &int_settings[i];

        DefineCustomIntVariable(s->name, s->help, NULL, s->variable, s->def, s->min, s->max, PGC_USERSET, 0,
                                NULL, NULL, NULL);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(bool_settings); i++) {
        const struct bool_setting *s = &bool_settings[i];

        DefineCustomBoolVariable(s->name, s->help, NULL, s->variable, s->def, PGC_USERSET, 0, NULL, NULL,
                                 NULL);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(string_settings); i++) {
        const struct string_setting *s = &string_settings[i];

        DefineCustomStringVariable(s->name, s->help, NULL, s->variable, s->def, s->context, s->flags, NULL,
                                   NULL, NULL);
    }
    DefineCustomEnumVariable(
        "lantern.external_index_tls_verify", "What is asked of the indexing server's certificate.",
        "none: anything; ca: a known authority signed it; full: and it carries the host's name.",
        &anx_pg_settings.external_tls_verify, ANX_PG_TLS_NONE, tls_verify_values, PGC_USERSET, 0, NULL, NULL,
        NULL);
    ANX_PG_RESERVE_PREFIX("lantern");
    ANX_PG_RESERVE_PREFIX("lantern_hnsw");
    ANX_PG_RESERVE_PREFIX("_lantern_internal");
}

void
anx_pg_check_external_host(const char *host)
{
    char *list = pstrdup(anx_pg_settings.external_allowed);
    List *names = NIL;
    ListCell *cell;
    bool is_found = false;

    if (!SplitGUCList(list, ',', &names))
        ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
                        errmsg("lantern.external_index_allowed_hosts is not a list of names: \"%s\"",
                               anx_pg_settings.external_allowed)));
    foreach (cell, names)
        is_found = is_found || pg_strcasecmp(lfirst(cell), host) == 0;
    if (names != NIL && !is_found)
        ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
                        errmsg("external index: host \"%s\" is not allowed", host),
                        errdetail("lantern.external_index_allowed_hosts is \"%s\".",
                                  anx_pg_settings.external_allowed)));
    list_free(names);
    pfree(list);
}

PGDLLEXPORT void _PG_init(void);
void
_PG_init(void)
{
    anx_pg_define_options();
    define_settings();
    anx_pg_filter_define();
    if (process_shared_preload_libraries_in_progress)
        ereport(WARNING, (errmsg("lantern is loaded at the start of the server"),
                          errhint("After installing a new version, restart the server before ALTER EXTENSION "
                                  "lantern UPDATE.")));
}
