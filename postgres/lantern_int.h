/* Between the files of the SQL surface. */
#ifndef ANX_POSTGRES_LANTERN_INT_H
#define ANX_POSTGRES_LANTERN_INT_H

#include "lantern.h"

void anx_pg_define_options(void);

/* Raises when dim is above the column's limit. */
void anx_pg_check_dim(const struct anx_pg_column *column, size_t dim);
/* The elements (4 bytes each) of an array of that element type; raises when it is another or has NULLs. */
size_t anx_pg_array_of(Datum value, Oid element, const void **out);
/* The components of a value of pgvector's type. */
size_t anx_pg_foreign_vector_of(Datum value, const float **out);

/* The distance functions (operators.c); an operator class is recognized by the address of its own. */
PGDLLEXPORT Datum lantern_l2sq_dist(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum lantern_cos_dist(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum lantern_hamming_dist(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum lantern_vector_l2sq_dist(PG_FUNCTION_ARGS);
PGDLLEXPORT Datum lantern_vector_cos_dist(PG_FUNCTION_ARGS);

#endif
