/* What the file_*.c share: buffered checked input and output, the container's head and trailer, graphs read
 * from foreign layouts. FILES.md has the layouts. Not for anyone else. */
#ifndef ANX_ANN_FILE_PART_H
#define ANX_ANN_FILE_PART_H

#include "ann/file_int.h"

#define FILE_BLOCK \
    ((size_t) 1 << 20) /* bytes per checksum, and per read and write: large enough for both to be cheap */
#define FILE_HEAD_SIZE 1024
#define FILE_ALIGN 64u /* head, sections and trailer: a cache line, so that mapped rows suit the kernels */
#define FILE_PAGE 4096u         /* sections of FILE_PAGED bytes and more */
#define FILE_PAGED (64u * 1024)
#define FILE_MAGIC "ANXINDEX"
#define FILE_TRAILER_MAGIC "ANXTRAIL"
#define FILE_END_MAGIC "ANXINEND"
#define FILE_MARK "annex\1"     /* in spare bytes of a foreign head: this file must end with our trailer */
#define FILE_MARK_AT 42
#define FILE_DENSE_HEAD 64      /* usearch; the fork's is 80, with the same fields in front */
#define FILE_GRAPH_HEAD 40
#define FILE_LANTERN_HEAD 136
#define FILE_LEVEL_MAX GRAPH_LEVEL_MAX

typedef const struct index_file_ops *(*file_ops_fn)(anx_index_kind kind);

/* --- file_out.c: a sink with a block buffer and checksums
 * ------------------------------------------------------- */

/* The first failure is kept in `status` (and in `err`); later calls do nothing. Long loops look at it now and
 * then. */
struct file_out {
    const anx_sink *sink;
    const anx_alloc *alloc;
    anx_error *err;
    anx_status status;
    uint8_t *block; /* owned [block_size] */
    size_t block_size; /* FILE_BLOCK, or more than the file will have */
    size_t used;
    uint64_t base; /* offset in the file of block[0] */
    bool is_summed; /* the body is still growing, and wanted with checksums */
    uint64_t *sums; /* owned [n_sum], one per block of the body */
    size_t n_sum, sum_capacity;
};
/* `size`: of the file to come. */
void file_out_init(struct file_out *out, const anx_sink *sink, const anx_alloc *alloc, uint64_t size,
                   bool is_summed, anx_error *err);
void file_out_fini(struct file_out *out);
uint64_t file_out_at(const struct file_out *out);
void file_out_write(struct file_out *out, const void *bytes, size_t size);
void file_out_le(struct file_out *out, uint64_t value, size_t size);
void file_out_pad(struct file_out *out, uint64_t until); /* zeros up to that offset */
void file_out_end_body(struct file_out *out);            /* no checksums from here on */
void file_out_flush(struct file_out *out);

/* --- file_in.c: a source with a block buffer and checksums
 * ------------------------------------------------------ */

struct file_in {
    const anx_source *source;
    const anx_alloc *alloc;
    uint8_t *block; /* owned [block_size] */
    size_t block_size; /* FILE_BLOCK, or more than the file is known to have */
    size_t have, pos;
    uint64_t base;  /* offset in the file of block[0] */
    uint64_t size;  /* of the whole input, when known; else UINT64_MAX */
    bool is_summed; /* still inside the body */
    uint64_t *sums; /* owned [n_sum] */
    size_t n_sum, sum_capacity;
};
anx_status file_in_init(struct file_in *in, const anx_source *source, const anx_alloc *alloc, uint64_t size,
                        anx_error *err);
void file_in_fini(struct file_in *in);
uint64_t file_in_at(const struct file_in *in);
/* Exactly `size` bytes, or ANX_E_CORRUPT: the file ends too early. */
anx_status file_in_read(struct file_in *in, void *bytes, size_t size, anx_error *err);
/* Up to `size` bytes; fewer only at the end. */
anx_status file_in_some(struct file_in *in, void *bytes, size_t size, size_t *got, anx_error *err);
anx_status file_in_skip(struct file_in *in, uint64_t size, anx_error *err);
/* `size` bytes into new 64-byte aligned memory, which grows as bytes arrive unless the input is known to hold
 * them. Freed with anx_free_aligned. *out is NULL on failure. */
anx_status file_in_take(struct file_in *in, uint64_t size, uint8_t **out, anx_error *err);
anx_status file_in_end_body(struct file_in *in, anx_error *err);
/* Makes room for `need` elements by doubling. */
anx_status
file_grow(const anx_alloc *alloc, void **array, size_t *capacity, size_t need, size_t size, anx_error *err);

/* --- file_disk.c: files as sinks and sources
 * ------------------------------------------------------------------- */

anx_status file_open_read(const char *path, int *fd, uint64_t *size, anx_error *err);
anx_status file_read_at(int fd, uint64_t at, void *bytes, size_t size, anx_error *err);
anx_source file_source(int *fd); /* the int must outlive the source */

/* --- file_head.c: head and trailer of the container
 * ------------------------------------------------------------- */

struct file_section {
    char tag[8];
    uint64_t at, size;
};
struct file_head {
    unsigned version[3];
    anx_file_format format;
    uint64_t head_at;    /* bytes before the head: 0, or the foreign part and its padding */
    uint64_t trailer_at; /* = bytes covered by checksums */
    uint64_t file_size;
    anx_index_params params; /* only what describes the index; the rest is zero */
    uint64_t count, deleted, m0, max_level, entry;
    size_t n_section;
    struct file_section section[SECTION_MAX];
};
/* Fills every offset from head_at and the sizes; false when they do not fit 63 bits. */
bool file_head_layout(struct file_head *head);
void file_head_encode(const struct file_head *head, uint8_t bytes[FILE_HEAD_SIZE]);
/* Checks everything that can be checked without the rest of the file. */
anx_status file_head_decode(const uint8_t bytes[FILE_HEAD_SIZE], uint64_t head_at, struct file_head *head,
                            anx_error *err);
uint64_t file_trailer_size(uint64_t body_size);
void file_trailer_write(struct file_out *out);
/* The trailer of a body; sums (of the body as read) may be NULL when only the trailer is to be checked. */
anx_status file_trailer_check(const uint8_t *bytes, uint64_t size, uint64_t body_size, const uint64_t *sums,
                              anx_error *err);

/* --- file_graph.c: a graph read from a foreign layout
 * ------------------------------------------------------------ */

struct file_graph {
    const anx_alloc *alloc;
    anx_scalar scalar;
    size_t dim, row_size;
    size_t n_total; /* as announced; n counts the nodes pushed so far */
    size_t n, m, m0, max_level;
    uint32_t entry;
    uint8_t *rows; /* owned [n * row_size], aligned */
    uint64_t *labels; /* owned [n] */
    uint8_t *levels;  /* owned [n] */
    uint64_t *starts; /* owned [n]: where in links the lists of a node begin */
    uint32_t *links;  /* owned: per level from 0: a count, that many ids */
    size_t n_link;
    size_t label_capacity, level_capacity, start_capacity, link_capacity;
};
void file_graph_fini(struct file_graph *graph);
/* Appends one node whose record follows: lists of slots of slot_size bytes, at their full capacity. Checks
 * counts and slots. */
anx_status file_graph_push(struct file_graph *graph, uint64_t label, size_t level, anx_reader *record,
                           size_t slot_size, anx_error *err);
/* Checks every rule of the whole (ANX_E_CORRUPT), drops links to itself and doubles, drops removed rows
 * (ANX_LABEL_NONE). */
anx_status file_graph_finish(struct file_graph *graph, anx_error *err);
void file_graph_view(const struct file_graph *graph, struct graph_view *view);

/* --- file_dense.c: the head that both foreign layouts share
 * ----------------------------------------------------- */

/* How a row that we keep as f32 lies in the file. */
enum file_stored { STORED_AS_IS, STORED_BF16, STORED_F64 };

struct file_foreign {
    anx_file_format format;
    unsigned version[3];
    anx_metric metric;
    anx_scalar scalar;   /* as we keep it */
    enum file_stored stored;
    size_t stored_size; /* bytes of a stored row */
    size_t key_size, slot_size;
    uint64_t dim, present, deleted;
    uint64_t n, m, m0, max_level, entry;
    bool is_multi;
    bool is_marked;      /* our container follows */
    uint64_t head_at;    /* where, when marked */
    uint64_t rows, columns, prefix_size; /* usearch: of the matrix */
};
/* A head as it lies in the file: for the fork 136 bytes; for usearch the dense head and the graph header (64
 * + 40), with the matrix prefix (0, 8 or 16 bytes) apart. */
struct file_dense {
    uint8_t prefix[16];
    size_t prefix_size;
    uint8_t head[FILE_LANTERN_HEAD];
    size_t head_size;
};
/* Decodes and checks the head; the matrix of usearch (rows, columns) is set before. */
anx_status file_dense_decode(const struct file_dense *dense, struct file_foreign *f, anx_error *err);
/* Where the parts of a graph begin: sets what a graph takes over from a head. */
void file_dense_graph(const struct file_foreign *f, const anx_alloc *alloc, struct file_graph *graph);
/* Builds a head; head_at 0: unmarked. */
void file_dense_encode(const anx_index_params *params, const struct graph_view *view, anx_file_format format,
                       uint64_t head_at, struct file_dense *dense);
/* ANX_E_UNSUPPORTED when the format has no way to hold such an index. */
anx_status file_dense_can(const anx_index_params *params, anx_file_format format, anx_error *err);

/* --- file_usearch.c, file_lantern.c
 * --------------------------------------------------------------------------- */

/* Bytes of the foreign part. */
uint64_t file_usearch_size(const anx_index_params *params, const struct graph_view *view);
uint64_t file_lantern_size(const anx_index_params *params, const struct graph_view *view);
/* head_at 0: unmarked. */
void file_usearch_write(struct file_out *out, const anx_index_params *params, const struct graph_view *view,
                        uint64_t head_at);
void file_lantern_write(struct file_out *out, const anx_index_params *params, const struct graph_view *view,
                        uint64_t head_at);
/* `begin`: the first bytes of the file, already taken from `in`: 8 or (64-bit prefix) 16; lantern: 17. The
 * graph is not finished yet, and is the caller's to fini even after failure. */
anx_status file_usearch_read(struct file_in *in, const uint8_t *begin, struct file_foreign *f,
                             struct file_graph *graph, anx_error *err);
anx_status file_lantern_read(struct file_in *in, const uint8_t *begin, struct file_foreign *f,
                             struct file_graph *graph, anx_error *err);
/* The matrix prefix; false: these 16 bytes begin no usearch file. */
bool file_usearch_prefix(const uint8_t begin[16], struct file_foreign *f);

/* --- file_save.c, file_load.c, file_map.c: the public calls, with the kinds to use as an argument
 * -------------------- */

anx_status file_save(file_ops_fn find, const anx_index *index, const anx_save_params *params,
                     const anx_sink *sink, size_t *size, anx_error *err);
anx_status file_save_size(file_ops_fn find, const anx_index *index, const anx_save_params *params,
                          size_t *size, anx_error *err);
struct file_load_options {
    file_ops_fn find;
    const anx_index_params *hints; /* may be NULL */
    uint64_t size;                 /* of the input, UINT64_MAX: unknown */
    bool is_thorough;              /* check the foreign part even when native sections will be used */
};
anx_status
file_load(const struct file_load_options *options, const anx_source *source, anx_index **out, anx_error *err);
anx_status
file_map(file_ops_fn find, const char *path, const anx_index_params *hints, anx_index **out, anx_error *err);
/* Describes a file from its heads; *head is filled when the file has our container (info->has_checksum). */
anx_status file_describe(int fd, uint64_t size, anx_file_info *info, struct file_head *head, anx_error *err);
/* The parameters of a file with the hints applied, or why they do not agree. */
anx_status file_params_apply(anx_index_params *params, const anx_index_params *hints, anx_error *err);

static inline uint64_t
file_align(uint64_t at, uint64_t to)
{
    return (at + to - 1) / to * to;
}

#endif
