/* Index files: save, load, map. Layouts are described byte by byte in src/ann/FILES.md.
 *
 *     ANX_FILE_USEARCH  usearch v2 dense file (u64 keys, u32 slots), hnsw only: opened by the usearch
 *                       packages
 *     ANX_FILE_LANTERN  the layout that the Lantern extension imports (136-byte header, 48-bit slots), hnsw
 *                       only
 * Both carry our own sections after the part that upstream reads (checksums always; codes and links of the
 * engine with `native`), which upstream readers ignore.
 *     ANX_FILE_ANNEX    our sections alone: any kind; smallest, and mapped without reading
 *
 *     ANX_FILE_GRAPH    hnsw with ANX_QUANTIZATION_CODES only: space, entry nodes, then every node with its
 *                       labels, links and code, for stores that keep pages of their own. Cannot be loaded.
 *
 * Files are input: every length, id and count is checked before use, and a checksummed file with a flipped
 * bit is refused when it is loaded (ANX_E_CHECKSUM). Files written by others carry no checksum; they are
 * checked structurally (ANX_E_CORRUPT). */
#ifndef ANNEX_INDEX_FILE_H
#define ANNEX_INDEX_FILE_H

#include "annex/index.h"
#include "annex/io.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum anx_file_format {
    ANX_FILE_ANNEX,
    ANX_FILE_USEARCH,
    ANX_FILE_LANTERN,
    ANX_FILE_GRAPH,
    ANX_FILE_FORMAT_COUNT
} anx_file_format;

typedef struct anx_save_params {
    anx_file_format format;
    bool plain;  /* USEARCH and LANTERN: nothing after the upstream part, not even checksums */
    bool native; /* USEARCH and LANTERN: the index's own sections too, so that the file loads fast and can be
                    mapped; about twice the size; not with plain */
} anx_save_params;

/* Streams the index to a sink; never holds a second copy. *size (may be NULL) becomes the bytes written.
 * Errors: ANX_E_UNSUPPORTED (kind or quantization the format cannot carry), the sink's own. */
ANX_NODISCARD ANX_API anx_status anx_index_save(const anx_index *index, const anx_save_params *params,
                                                const anx_sink *sink, size_t *size, anx_error *err);
/* The exact number of bytes that anx_index_save will write, for protocols that announce it. */
ANX_NODISCARD ANX_API anx_status anx_index_save_size(const anx_index *index, const anx_save_params *params,
                                                     size_t *size, anx_error *err);
/* Writes path + ".tmp", syncs, renames: the file is whole or absent. */
ANX_NODISCARD ANX_API anx_status anx_index_save_file(const anx_index *index, const anx_save_params *params,
                                                     const char *path, anx_error *err);

/* Reads any of the formats (found by its head). `hints` may be NULL; it gives what a file does not say:
 * threads, ef, alloc, fetch. Its kind, metric, scalar and dim, where not default, must agree with the
 * file. */
ANX_NODISCARD ANX_API anx_status anx_index_load(const anx_source *source, const anx_index_params *hints,
                                                anx_index **out, anx_error *err);
ANX_NODISCARD ANX_API anx_status anx_index_load_file(const char *path, const anx_index_params *hints,
                                                     anx_index **out, anx_error *err);
/* Opens without reading it all: pages come in as searches touch them. Read only (add and remove:
 * ANX_E_STATE). Heads and lengths are checked here, link ids are checked as they are used; checksums of
 * mapped sections only by anx_file_verify. */
ANX_NODISCARD ANX_API anx_status anx_index_map_file(const char *path, const anx_index_params *hints,
                                                    anx_index **out, anx_error *err);

typedef struct anx_file_info {
    anx_file_format format;
    anx_index_kind kind;
    anx_metric metric;
    anx_scalar scalar;
    anx_quantization quantization;
    unsigned version[3]; /* as stamped in the file */
    size_t dim, count, deleted, m, m0, max_level, file_size;
    uint64_t entry_slot;
    bool has_checksum, has_native;
} anx_file_info;
/* Reads the heads only. */
ANX_NODISCARD ANX_API anx_status anx_file_inspect(const char *path, anx_file_info *info, anx_error *err);
/* Reads everything: structure and checksums. */
ANX_NODISCARD ANX_API anx_status anx_file_verify(const char *path, anx_error *err);

#ifdef __cplusplus
}
#endif
#endif
