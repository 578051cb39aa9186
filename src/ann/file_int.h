/* Index files from the inside: the contract between the container (file_*.c) and the kinds.
 *
 * A kind is saved as a list of sections (tag, exact size, a function that emits the bytes in order) and
 * restored from a list of sections found in a file or a mapping. The container owns heads, checksums,
 * alignment and streaming; a kind owns what is inside its sections, and must treat restored bytes as hostile:
 * check lengths, counts and ids before use.
 *
 * A graph is also shown as plain HNSW (struct graph_view), which is what the usearch and Lantern layouts
 * hold, and can be taken in from such files (struct graph_import). */
#ifndef ANX_ANN_FILE_INT_H
#define ANX_ANN_FILE_INT_H

#include "annex/index_file.h"
#include "ann/ann_int.h"
#include "base/bytes.h"

#define SECTION_MAX 16
#define GRAPH_LEVEL_MAX \
    64 /* of an imported node; the level draw of HNSW with 53 random bits and m = 2 never passes 53 */
#define GRAPH_M0_MAX \
    512 /* of an imported graph; m is 2..ANX_HNSW_M_MAX and m0 at least m, but not always 2m */

/* A section to be written. */
struct section_out {
    char tag[8]; /* zero padded; unique in a file */
    uint64_t size;
    /* Emits exactly `size` bytes. */
    anx_status (*emit)(const void *context, const anx_sink *sink, anx_error *err);
    const void *context; /* lives until the save is over */
};
struct section_list {
    struct section_out section[SECTION_MAX];
    size_t n;
};

/* A section that was read: bytes in memory (checksum verified) or in a read-only mapping (64-byte aligned).
 */
struct section_in {
    char tag[8];
    const uint8_t *data;
    uint64_t size;
};
struct section_set {
    const struct section_in *section;
    size_t n;
    bool is_mapped; /* data outlives the index: keep pointers into it. Otherwise copy: it goes away after
                       restore. */
};
/* NULL when absent. */
const struct section_in *section_find(const struct section_set *set, const char *tag);

/* A graph shown as plain HNSW with at most m0 = 2m links at level 0 and m above. Nodes are numbered 0..n-1
 * without gaps; deleted rows do not appear; copies of a row appear as nodes of their own. */
struct graph_view {
    const void *context;
    size_t n, m, m0;
    size_t max_level; /* 0 when n == 0 */
    uint32_t entry;
    uint64_t (*label)(const void *context, uint32_t node);
    unsigned (*level)(const void *context, uint32_t node);
    /* Writes at most m0 (level 0) or m ids to out and returns how many. On import: without itself and without
     * doubles, and every one of at least that level. Lists may be empty, and nodes may be unreachable. */
    size_t (*neighbors)(const void *context, uint32_t node, unsigned level, uint32_t *out);
    /* The stored row, row_size bytes. */
    void (*row)(const void *context, uint32_t node, void *out);
};

/* Per-kind file operations; a const pointer beside index_ops in registry.c. NULL entries: ANX_E_UNSUPPORTED.
 */
struct index_file_ops {
    /* Fills the list; sizes must be exact. The index does not change until the save is over. */
    anx_status (*sections)(const anx_index *index, struct section_list *list, anx_error *err);
    /* Builds an index from sections; params come from the checked head, with hints applied. */
    anx_status (*restore)(const anx_index_params *params, const struct section_set *set, anx_index **out,
                          anx_error *err);
    /* hnsw only. The view is made once per save and freed with view_close. */
    anx_status (*view_open)(const anx_index *index, struct graph_view *view, anx_error *err);
    void (*view_close)(struct graph_view *view);
    /* hnsw only: a plain HNSW graph whose every number was checked by the container (ids < n, counts within
     * m0/m, level rules, labels unique, entry valid). Takes what it needs before returning. */
    anx_status (*import)(const anx_index_params *params, const struct graph_view *view, anx_index **out,
                         anx_error *err);
};
extern const struct index_file_ops anx_flat_file_ops, anx_hnsw_file_ops, anx_ivf_file_ops;
const struct index_file_ops *index_file_ops_find(anx_index_kind kind);

#endif
