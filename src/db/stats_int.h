/* Inside of the counters; see stats.h. */
#ifndef ANX_DB_STATS_INT_H
#define ANX_DB_STATS_INT_H

#include "db/stats.h"

struct db_stats *stats_create(void); /* NULL: out of memory */
void stats_destroy(struct db_stats *stats); /* NULL is fine */
void stats_reset_perf(struct db_stats *stats);
void stats_reset_queries(struct db_stats *stats);
/* Documents of #perfstats, #queriesperfstats, #activitystats; nothing while the settings say so. */
ANX_NODISCARD anx_status stats_print_perf(struct database *db, anx_buffer *out, anx_error *err);
ANX_NODISCARD anx_status stats_print_queries(struct database *db, anx_buffer *out, anx_error *err);
ANX_NODISCARD anx_status stats_print_activity(struct database *db, anx_buffer *out, anx_error *err);
/* reindexer_qps_total, reindexer_avg_latency */
void stats_print_metrics(struct database *db, anx_buffer *out);

#endif
