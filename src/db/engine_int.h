/* Between engine.c, database.c and the housekeeper. */
#ifndef ANX_DB_ENGINE_INT_H
#define ANX_DB_ENGINE_INT_H

#include "db/db_int.h"

/* Opens or makes the database of that name, with everything loaded; one reference, in no list. */
ANX_NODISCARD anx_status database_open(struct engine *engine, anx_text name, struct database **out,
                                       anx_error *err);
/* Frees it, whatever its references say; the folder goes too when it was dropped. */
void database_destroy(struct database *db);
ANX_NODISCARD anx_status database_set_dropped(struct database *db, anx_error *err);
/* References to all databases; the list is in the arena. Released with database_release. */
ANX_NODISCARD anx_status engine_all(struct engine *engine, anx_arena *arena, struct database ***out,
                                    size_t *n, anx_error *err);

#endif
