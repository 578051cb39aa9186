/* Mapping: the sections of a file are used where they lie. The mapping belongs to the index: its table of
 * operations is replaced by a copy whose destroy also unmaps, so that no kind and no caller has to know.
 *
 * A mapped file must not be cut while it is in use (the reader would get SIGBUS): saving renames a new file
 * into place, which leaves the mapped one alone. */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

struct mapping {
    struct index_ops ops; /* first: index->ops points here */
    const struct index_ops *kind_ops;
    const anx_alloc *alloc;
    void *memory;
    size_t size;
};

static void
destroy_mapped(anx_index *index)
{
    struct mapping *mapping = (struct mapping *) (uintptr_t) index->ops;

    index->ops = mapping->kind_ops;
    mapping->kind_ops->destroy(index);
    munmap(mapping->memory, mapping->size);
    anx_free(mapping->alloc, mapping);
}

static void
adopt_mapping(anx_index *index, struct mapping *mapping)
{
    mapping->kind_ops = index->ops;
    mapping->ops = *index->ops;
    mapping->ops.destroy = destroy_mapped;
    index->ops = &mapping->ops;
    index->is_mapped = true;
}

/* The trailer itself is checked, the body's sums are not: that would be reading it all. */
static anx_status
check_trailer(const struct mapping *mapping, const struct file_head *head, anx_error *err)
{
    return file_trailer_check((const uint8_t *) mapping->memory + head->trailer_at,
                              head->file_size - head->trailer_at, head->trailer_at, NULL, err);
}

static anx_status
restore_mapped(file_ops_fn find, struct mapping *mapping, const struct file_head *head,
               const anx_index_params *hints, anx_index **out, anx_error *err)
{
    const struct index_file_ops *ops = find(head->params.kind);
    anx_index_params params = head->params;
    struct section_in section[SECTION_MAX];
    struct section_set set = { .section = section, .n = head->n_section, .is_mapped = true };
    anx_status st = file_params_apply(&params, hints, err);

    if (st == ANX_OK && (!ops || !ops->restore))
        st = anx_fail(err, ANX_E_UNSUPPORTED, "%s index cannot be mapped", anx_index_kind_name(params.kind));
    for (size_t i = 0; i < head->n_section; i++) {
        memcpy(section[i].tag, head->section[i].tag, sizeof(section[i].tag));
        section[i].data = (const uint8_t *) mapping->memory + head->section[i].at;
        section[i].size = head->section[i].size;
    }
    if (st == ANX_OK)
        st = ops->restore(&params, &set, out, err);
    if (st == ANX_OK && (*out)->ops->count(*out) != head->count) {
        st = anx_fail(err, ANX_E_CORRUPT, "index file holds %zu rows, but its head says %llu",
                      (*out)->ops->count(*out), (unsigned long long) head->count);
        anx_index_destroy(*out);
        *out = NULL;
    }
    return st;
}

static anx_status
map_open(file_ops_fn find, int fd, const struct file_head *head, const anx_index_params *hints,
         anx_index **out, anx_error *err)
{
    const anx_alloc *alloc = hints ? hints->alloc : NULL;
    struct mapping *mapping = anx_alloc_zeroed(alloc, 1, sizeof(*mapping));
    anx_status st;

    if (!mapping)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu bytes to map a file", sizeof(*mapping));
    mapping->alloc = alloc;
    mapping->size = (size_t) head->file_size;
    mapping->memory = mmap(NULL, mapping->size, PROT_READ, MAP_SHARED, fd, 0);
    if (mapping->memory == MAP_FAILED) {
        anx_free(alloc, mapping);
        return anx_fail(err, ANX_E_NOMEM, "could not map a file of %llu bytes",
                        (unsigned long long) head->file_size);
    }
    st = check_trailer(mapping, head, err);
    if (st == ANX_OK)
        st = restore_mapped(find, mapping, head, hints, out, err);
    if (st != ANX_OK) {
        munmap(mapping->memory, mapping->size);
        anx_free(alloc, mapping);
        return st;
    }
    adopt_mapping(*out, mapping);
    return ANX_OK;
}

/* Nothing to map: loaded, and closed to writers as a mapped index would be. */
static anx_status
load_instead(file_ops_fn find, int fd, uint64_t size, const anx_index_params *hints, anx_index **out,
             anx_error *err)
{
    struct file_load_options options = { .find = find, .hints = hints, .size = size };
    anx_source source = file_source(&fd);
    anx_status st = file_load(&options, &source, out, err);

    anx_log(ANX_LOG_INFO, "event=index_file_not_mapped reason=no_native_sections size=%llu",
            (unsigned long long) size);
    if (st == ANX_OK)
        (*out)->is_mapped = true;
    return st;
}

anx_status
file_map(file_ops_fn find, const char *path, const anx_index_params *hints, anx_index **out, anx_error *err)
{
    anx_file_info info;
    struct file_head head;
    uint64_t size;
    anx_status st;
    int fd;

    *out = NULL;
    st = file_open_read(path, &fd, &size, err);
    if (st != ANX_OK)
        return st;
    st = file_describe(fd, size, &info, &head, err);
    if (st == ANX_OK)
        st = info.has_native ? map_open(find, fd, &head, hints, out, err) :
                               load_instead(find, fd, size, hints, out, err);
    if (st != ANX_OK)
        anx_error_context(err, "index file \"%s\"", path);
    close(fd);
    return st;
}

anx_status
anx_index_map_file(const char *path, const anx_index_params *hints, anx_index **out, anx_error *err)
{
    return file_map(index_file_ops_find, path, hints, out, err);
}
