/* Runs a fuzz target over every file of the directories (or the files) given, without a fuzzer: how CI
 * replays the corpora. A crash or a sanitizer report is the failure; an absent or empty corpus is one too. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/stat.h>

#include "base/alloc.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t
replay_file(const char *path, size_t size)
{
    FILE *file = fopen(path, "rb");
    /* Exactly as large as the input, so that AddressSanitizer sees a read past its end. */
    uint8_t *data = anx_alloc_bytes(NULL, size);
    size_t got;

    if (!file || !data || (got = fread(data, 1, size, file)) != size) {
        fprintf(stderr, "cannot read %s\n", path);
        if (file)
            fclose(file);
        anx_free(NULL, data);
        return 0;
    }
    fclose(file);
    LLVMFuzzerTestOneInput(data, got);
    anx_free(NULL, data);
    return 1;
}

static size_t
replay(const char *path)
{
    struct stat about;
    struct dirent *entry;
    size_t n = 0;
    DIR *directory;

    if (stat(path, &about) != 0)
        return 0;
    if (S_ISREG(about.st_mode))
        return replay_file(path, (size_t) about.st_size);
    directory = S_ISDIR(about.st_mode) ? opendir(path) : NULL;
    if (!directory)
        return 0;
    while ((entry = readdir(directory)) != NULL) {
        char child[4096];

        if (entry->d_name[0] == '.')
            continue;
        if (snprintf(child, sizeof(child), "%s/%s", path, entry->d_name) < (int) sizeof(child))
            n += replay(child);
    }
    closedir(directory);
    return n;
}

int
main(int argc, char **argv)
{
    size_t n = 0;

    for (int i = 1; i < argc; i++)
        n += replay(argv[i]);
    printf("%zu inputs replayed\n", n);
    return n == 0;
}
