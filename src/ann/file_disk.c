/* Files of the operating system: as sinks that are whole or absent, as sources, and read at an offset. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"

static anx_status
fail_errno(anx_error *err, const char *what, const char *path)
{
    int cause = errno;
    char text[128];

    return anx_fail(err, cause == ENOENT ? ANX_E_NOT_FOUND : ANX_E_IO, "could not %s \"%s\": %s", what, path,
                    strerror_r(cause, text, sizeof(text)));
}

anx_status
file_open_read(const char *path, int *fd, uint64_t *size, anx_error *err)
{
    struct stat info;

    *fd = open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0)
        return fail_errno(err, "open", path);
    if (fstat(*fd, &info) != 0) {
        anx_status st = fail_errno(err, "examine", path);
        close(*fd);
        *fd = -1;
        return st;
    }
    if (!S_ISREG(info.st_mode)) {
        close(*fd);
        *fd = -1;
        return anx_fail(err, ANX_E_INVALID, "\"%s\" is not a regular file", path);
    }
    *size = (uint64_t) info.st_size;
    return ANX_OK;
}

anx_status
file_read_at(int fd, uint64_t at, void *bytes, size_t size, anx_error *err)
{
    uint8_t *to = bytes;

    while (size > 0) {
        ssize_t n = pread(fd, to, size, (off_t) at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return anx_fail(err, ANX_E_IO, "could not read %zu bytes at byte %llu of the file", size,
                            (unsigned long long) at);
        if (n == 0)
            return anx_fail(err, ANX_E_CORRUPT,
                            "file is cut short: it ends at byte %llu, at least %zu more must follow",
                            (unsigned long long) at, size);
        to += n, at += (uint64_t) n, size -= (size_t) n;
    }
    return ANX_OK;
}

static anx_status
read_fd(void *context, void *bytes, size_t size, size_t *got, anx_error *err)
{
    int fd = *(int *) context;
    uint8_t *to = bytes;

    *got = 0;
    while (*got < size) {
        ssize_t n = read(fd, to + *got, size - *got);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return anx_fail(err, ANX_E_IO, "could not read from the file: error %d", errno);
        if (n == 0)
            break;
        *got += (size_t) n;
    }
    return ANX_OK;
}

anx_source
file_source(int *fd)
{
    return (anx_source) { fd, read_fd };
}

struct fd_sink {
    int fd;
    const char *path;
};

static anx_status
write_fd(void *context, const void *bytes, size_t size, anx_error *err)
{
    const struct fd_sink *to = context;
    const uint8_t *from = bytes;

    while (size > 0) {
        ssize_t n = write(to->fd, from, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail_errno(err, "write", to->path);
        from += n, size -= (size_t) n;
    }
    return ANX_OK;
}

/* The rename itself must survive a power loss too; a directory that cannot be synced (some network file
 * systems) is not an error of the save. */
static void
sync_directory(const char *path)
{
    const char *slash = strrchr(path, '/');
    char directory[4096];
    size_t n = slash ? (size_t) (slash - path) : 0;
    int fd;

    if (n >= sizeof(directory))
        return;
    memcpy(directory, path, n);
    directory[n] = '\0';
    fd = open(!slash ? "." : n == 0 ? "/" : directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    (void) fsync(fd);
    close(fd);
}

static anx_status
write_whole(const anx_index *index, const anx_save_params *params, const char *path, anx_error *err)
{
    struct fd_sink to = { open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666), path };
    anx_sink sink = { &to, write_fd };
    anx_status st;

    if (to.fd < 0)
        return fail_errno(err, "create", path);
    st = anx_index_save(index, params, &sink, NULL, err);
    if (st == ANX_OK && fsync(to.fd) != 0)
        st = fail_errno(err, "sync", path);
    if (close(to.fd) != 0 && st == ANX_OK)
        st = fail_errno(err, "close", path);
    if (st != ANX_OK)
        (void) unlink(path);
    return st;
}

anx_status
anx_index_save_file(const anx_index *index, const anx_save_params *params, const char *path, anx_error *err)
{
    const anx_alloc *alloc = anx_index_get_params(index)->alloc;
    size_t size = strlen(path) + sizeof(".tmp");
    char *temporary = anx_alloc_bytes(alloc, size);
    anx_status st;

    if (!temporary)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu bytes for a file name", size);
    snprintf(temporary, size, "%s.tmp", path);
    st = write_whole(index, params, temporary, err);
    if (st == ANX_OK && rename(temporary, path) != 0) {
        st = fail_errno(err, "rename to", path);
        (void) unlink(temporary);
    }
    if (st == ANX_OK)
        sync_directory(path);
    anx_free(alloc, temporary);
    return st;
}

anx_status
anx_index_load_file(const char *path, const anx_index_params *hints, anx_index **out, anx_error *err)
{
    struct file_load_options options = { .find = index_file_ops_find, .hints = hints };
    anx_source source;
    anx_status st;
    int fd;

    *out = NULL;
    st = file_open_read(path, &fd, &options.size, err);
    if (st != ANX_OK)
        return st;
    source = file_source(&fd);
    st = file_load(&options, &source, out, err);
    if (st != ANX_OK)
        anx_error_context(err, "index file \"%s\"", path);
    close(fd);
    return st;
}
