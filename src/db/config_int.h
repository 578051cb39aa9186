/* Settings in force, as the rest of the room reads them. */
#ifndef ANX_DB_CONFIG_INT_H
#define ANX_DB_CONFIG_INT_H

#include "db/config.h"
#include "db/ns.h"

struct ns_rule { /* an entry of the document "namespaces" */
    char *name;  /* owned; "*" for the standard */
    enum query_strict strict_mode;
    unsigned ann_timeout_ms; /* 0: no index files */
};
struct db_settings {
    /* profiling; read by anybody, written by config_apply */
    atomic_bool perfstats, queriesperfstats, memstats, activitystats;
    _Atomic int64_t queries_threshold_us;
    _Atomic int64_t slow_select_us, slow_update_us; /* -1: off */
    atomic_bool slow_select_normalized, slow_update_normalized;
    pthread_mutex_t lock;
    struct ns_rule *rules; /* owned; guarded by lock */
    size_t n_rule;
};
struct db_settings *settings_create(void); /* NULL: out of memory */
void settings_destroy(struct db_settings *settings); /* NULL is fine */

/* Gives a namespace the settings that are meant for it. */
void config_settle(struct ns *ns);
/* Makes #config with its standard documents when the database has none, and applies what it says. The
 * database is known to nobody else yet. */
ANX_NODISCARD anx_status config_open(struct database *db, anx_error *err);
unsigned config_ann_timeout_ms(struct ns *ns);

/* Actions (config_action.c). */
struct json_node;
/* Types of its members. */
ANX_NODISCARD anx_status config_check_action(const struct json_node *action, anx_error *err);
ANX_NODISCARD anx_status config_run_action(struct database *db, const struct json_node *action,
                                           anx_error *err);

#endif
