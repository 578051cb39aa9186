/* A namespace's vectors on a plane: the two directions in which a sample of them spreads most (ann/pca.h),
 * and where documents lie along these.
 *
 * The sample is that of sample.h: the same documents, limit and seed give the same map, up to rounding. All
 * coordinates are divided by one number, so that the sample lies in [-1, 1] both ways. Under cosine vectors
 * are brought to length one first.
 *
 * The axes are kept for a while (MAPS_KEPT of an engine), for documents that are to be drawn into a map that
 * somebody looks at. A map is made anew when the namespace has changed.
 * Threads: any. */
#ifndef ANX_DB_MAP_H
#define ANX_DB_MAP_H

#include "db/db.h"

enum { MAP_LIMIT_MIN = 3, MAP_LIMIT_MAX = 10000, MAP_LIMIT_DEFAULT = 2000, MAP_IDS_MAX = 1000 };
/* Components of a sample, 128 MB: with more than 3,355 dimensions a sample of 10,000 is cut. */
#define MAP_FLOATS_MAX ((size_t) 1 << 25)

struct map_params {
    anx_text index; /* size 0: the only one */
    size_t limit;   /* 0: the default */
    uint32_t seed;
    anx_text label; /* a JSON path whose values are given too; size 0: none */
};

/* Prints the map as JSON:
 *     {"index":..,"metric":..,"dimension":..,"sampled":..,"vectors":..,"seed":..,"basis":"..",
 *      "explained":[..,..],"scale":..,"ids":[..],"x":[..],"y":[..],"labels":[..]}
 * ids: of the primary key; null where there is none. ANX_E_PARAMS names the parameter, its value and limit;
 * errors of vector_view_open and of the session. */
ANX_NODISCARD anx_status db_map_print(struct database *db, anx_text ns, const struct map_params *params,
                                      const struct db_session *session, anx_buffer *out, anx_error *err);
/* Where documents (ids: a JSON list of primary keys) or a vector (a JSON list of numbers) lie on that map;
 * one of the two is NULL. {"index":..,"basis":"..","ids":[..],"x":[..],"y":[..],"missing":[..]} */
ANX_NODISCARD anx_status db_map_place(struct database *db, anx_text ns, const struct map_params *params,
                                      const struct json_node *ids, const struct json_node *vector,
                                      const struct db_session *session, anx_buffer *out, anx_error *err);

/* Of an engine. */
struct map_cache;
struct map_cache *map_cache_create(void); /* NULL: out of memory */
void map_cache_destroy(struct map_cache *cache); /* NULL is fine */

#endif
