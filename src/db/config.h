/* Settings of a database: the documents of #config, their defaults, checks and effects.
 *
 * Who writes to #config (system_ns_kind(ns) == SYSTEM_CONFIG) calls config_check with the new version of the
 * document before it stores it, and config_apply after the locks are released. Deleting a document of #config
 * has no effect on the settings until the next start. */
#ifndef ANX_DB_CONFIG_H
#define ANX_DB_CONFIG_H

#include "db/db_int.h"

/* json: the whole document as it would be stored. ANX_E_PARSE_JSON "DBConfigProvider: ...", ANX_E_LOGIC. */
ANX_NODISCARD anx_status config_check(struct database *db, anx_text json, anx_error *err);
/* Takes effect: settings change, an action runs. Holds no lock of a namespace on entry. */
ANX_NODISCARD anx_status config_apply(struct database *db, anx_text json, anx_error *err);
/* The default document of a type. ANX_E_NOT_FOUND "Unknown default config type". */
ANX_NODISCARD anx_status config_default(anx_text type, anx_buffer *out, anx_error *err);

#endif
