/* What file.c and view.c share. */
#ifndef ANX_ANN_HNSW_FILE_H
#define ANX_ANN_HNSW_FILE_H

#include "ann/file_int.h"
#include "ann/hnsw/hnsw_int.h"

/* Unlinks deleted rows, so that what is saved has none. */
anx_status hnsw_settle(const anx_index *index, anx_error *err);
anx_status hnsw_view_open(const anx_index *index, struct graph_view *view, anx_error *err);
void hnsw_view_close(struct graph_view *view);
anx_status
hnsw_import(const anx_index_params *params, const struct graph_view *view, anx_index **out, anx_error *err);

#endif
