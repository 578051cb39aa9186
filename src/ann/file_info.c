/* What a file says about itself, from its heads alone; and the check of everything in it. */
#include <string.h>
#include <unistd.h>

#include "ann/file_part.h"
#include "base/error.h"

static anx_status
read_head(int fd, uint64_t size, uint64_t head_at, struct file_head *head, anx_error *err)
{
    uint8_t bytes[FILE_HEAD_SIZE];
    anx_status st = file_read_at(fd, head_at, bytes, sizeof(bytes), err);

    if (st == ANX_OK)
        st = file_head_decode(bytes, head_at, head, err);
    if (st == ANX_OK && head->file_size != size)
        st = anx_fail(err, ANX_E_CORRUPT, "index file has %llu bytes, but its head says %llu",
                      (unsigned long long) size, (unsigned long long) head->file_size);
    return st;
}

static void
info_from_head(const struct file_head *head, anx_file_info *info)
{
    *info = (anx_file_info) {
        .format = head->format,
        .kind = head->params.kind,
        .metric = head->params.metric,
        .scalar = head->params.scalar,
        .quantization = head->params.quantization,
        .dim = head->params.dim,
        .count = head->count,
        .deleted = head->deleted,
        .m = head->params.kind == ANX_INDEX_HNSW ? head->params.m : 0,
        .m0 = head->m0,
        .max_level = head->max_level,
        .file_size = head->file_size,
        .entry_slot = head->entry,
        .has_checksum = true,
        .has_native = head->n_section > 0,
    };
    for (size_t i = 0; i < 3; i++)
        info->version[i] = head->version[i];
}

static void
info_from_foreign(const struct file_foreign *f, uint64_t size, anx_file_info *info)
{
    *info = (anx_file_info) {
        .format = f->format,
        .kind = ANX_INDEX_HNSW,
        .metric = f->metric,
        .scalar = f->scalar,
        .dim = f->dim,
        .count = f->present,
        .deleted = f->deleted,
        .m = f->m,
        .m0 = f->m0,
        .max_level = f->max_level,
        .file_size = size,
        .entry_slot = f->entry,
    };
    for (size_t i = 0; i < 3; i++)
        info->version[i] = f->version[i];
}

/* Finds and decodes the head of a foreign part. */
static anx_status
describe_foreign(int fd, uint64_t size, const uint8_t begin[16], struct file_foreign *f, anx_error *err)
{
    bool is_lantern = memcmp(begin, "usearch", 7) == 0;
    struct file_dense dense = { .head_size =
                                    is_lantern ? FILE_LANTERN_HEAD : FILE_DENSE_HEAD + FILE_GRAPH_HEAD };
    uint64_t head_at = 0;
    anx_status st;

    *f = (struct file_foreign) { .format = is_lantern ? ANX_FILE_LANTERN : ANX_FILE_USEARCH };
    if (!is_lantern) {
        if (!file_usearch_prefix(begin, f))
            return anx_fail(err, ANX_E_CORRUPT, "not an index file: it begins with none of the known heads");
        dense.prefix_size = f->prefix_size;
        memcpy(dense.prefix, begin, f->prefix_size);
        head_at = f->prefix_size + f->rows * f->columns;
    }
    if (head_at > size || size - head_at < dense.head_size)
        return anx_fail(err, ANX_E_CORRUPT, "not an index file, or cut short: no head at byte %llu of %llu",
                        (unsigned long long) head_at, (unsigned long long) size);
    st = file_read_at(fd, head_at, dense.head, dense.head_size, err);
    if (st == ANX_OK && is_lantern && dense.head[16] != 16)
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "usearch file was saved without its vectors, which are needed");
    return st == ANX_OK ? file_dense_decode(&dense, f, err) : st;
}

anx_status
file_describe(int fd, uint64_t size, anx_file_info *info, struct file_head *head, anx_error *err)
{
    uint8_t begin[16];
    struct file_foreign f;
    anx_status st;

    if (size < sizeof(begin))
        return anx_fail(err, ANX_E_CORRUPT, "not an index file: it has %llu bytes",
                        (unsigned long long) size);
    st = file_read_at(fd, 0, begin, sizeof(begin), err);
    if (st != ANX_OK)
        return st;
    if (memcmp(begin, FILE_MAGIC, 8) == 0) {
        st = read_head(fd, size, 0, head, err);
        if (st == ANX_OK)
            info_from_head(head, info);
        return st;
    }
    st = describe_foreign(fd, size, begin, &f, err);
    if (st != ANX_OK)
        return st;
    info_from_foreign(&f, size, info);
    if (!f.is_marked)
        return ANX_OK;
    if (f.head_at % FILE_ALIGN != 0 || f.head_at > size || size - f.head_at < FILE_HEAD_SIZE)
        return anx_fail(err, ANX_E_CORRUPT,
                        "index file is cut short: its checksums should begin near byte %llu of %llu",
                        (unsigned long long) f.head_at, (unsigned long long) size);
    st = read_head(fd, size, f.head_at, head, err);
    if (st == ANX_OK &&
        (head->format != f.format || head->params.metric != f.metric || head->params.scalar != f.scalar ||
         head->params.dim != f.dim || head->count != f.present))
        st = anx_fail(err, ANX_E_CORRUPT,
                      "the two heads of the index file, at its start and at byte %llu, disagree",
                      (unsigned long long) f.head_at);
    if (st != ANX_OK)
        return st;
    info->has_checksum = true;
    info->has_native = head->n_section > 0;
    info->quantization = head->params.quantization;
    return ANX_OK;
}

anx_status
anx_file_inspect(const char *path, anx_file_info *info, anx_error *err)
{
    struct file_head head;
    uint64_t size;
    int fd;
    anx_status st = file_open_read(path, &fd, &size, err);

    if (st != ANX_OK)
        return st;
    st = file_describe(fd, size, info, &head, err);
    if (st != ANX_OK)
        anx_error_context(err, "index file \"%s\"", path);
    close(fd);
    return st;
}

anx_status
anx_file_verify(const char *path, anx_error *err)
{
    struct file_load_options options = { .find = index_file_ops_find, .is_thorough = true };
    anx_index *index = NULL;
    anx_source source;
    anx_status st;
    int fd;

    st = file_open_read(path, &fd, &options.size, err);
    if (st != ANX_OK)
        return st;
    source = file_source(&fd);
    st = file_load(&options, &source, &index, err);
    if (st == ANX_OK)
        st = anx_index_check(index, err);
    if (st != ANX_OK)
        anx_error_context(err, "index file \"%s\"", path);
    anx_index_destroy(index);
    close(fd);
    return st;
}
