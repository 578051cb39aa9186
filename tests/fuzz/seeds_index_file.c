/* Makes the seeds of fuzz_index_file: small files of every kind and format, and damaged ones of each.
 *
 *     seeds_index_file DIRECTORY
 *
 * Not part of the build: run by hand when a format changes, from the root of the tree, against a built
 * library:
 *     cc -std=gnu17 -D_GNU_SOURCE -Iinclude -Isrc tests/fuzz/seeds_index_file.c build/libannex.a \
 *         -lxxhash -lm -ldl -lpthread -o /tmp/seeds && /tmp/seeds tests/fuzz/corpus/index_file */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "annex/index_file.h"
#include "base/rng.h"

#define N_ROW 9
#define DIM 8

struct buffer {
    unsigned char data[1 << 16];
    size_t size;
};

static anx_status
keep(void *context, const void *bytes, size_t size, anx_error *err)
{
    struct buffer *buffer = context;

    (void) err;
    if (size > sizeof(buffer->data) - buffer->size)
        return ANX_E_LIMIT;
    memcpy(buffer->data + buffer->size, bytes, size);
    buffer->size += size;
    return ANX_OK;
}

static void
write_seed(const char *directory, const char *name, const char *damage, const unsigned char *data,
           size_t size)
{
    char path[4096];
    FILE *file;

    snprintf(path, sizeof(path), "%s/%s%s", directory, name, damage);
    file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

static void
write_seeds(const char *directory, const char *name, struct buffer *buffer)
{
    static const unsigned char ones[8] = { 255, 255, 255, 255, 255, 255, 255, 255 };

    write_seed(directory, name, "", buffer->data, buffer->size);
    write_seed(directory, name, "-cut", buffer->data, buffer->size * 2 / 3);
    buffer->data[buffer->size / 2] ^= 0x10;
    write_seed(directory, name, "-flip", buffer->data, buffer->size);
    buffer->data[buffer->size / 2] ^= 0x10;
    memcpy(buffer->data + buffer->size * 3 / 4, ones, sizeof(ones));
    write_seed(directory, name, "-forged", buffer->data, buffer->size);
}

static anx_index *
make_index(anx_index_kind kind, anx_scalar scalar)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_rng rng = anx_rng_seed(1);
    anx_index *index;
    anx_error err;

    params.kind = kind, params.scalar = scalar, params.dim = DIM, params.m = 2, params.centroids = 2,
    params.threads = 1;
    params.metric = scalar == ANX_SCALAR_B1 ? ANX_METRIC_HAMMING : ANX_METRIC_COSINE;
    if (anx_index_create(&params, &index, &err) != ANX_OK) {
        fprintf(stderr, "%s\n", err.message);
        exit(1);
    }
    for (unsigned i = 0; i < N_ROW; i++) {
        float row[DIM];
        unsigned char bits = (unsigned char) anx_rng_next(&rng);

        for (size_t j = 0; j < DIM; j++)
            row[j] = (float) (anx_rng_unit(&rng) - 0.5);
        if (anx_index_add(index, 100 + i, scalar == ANX_SCALAR_B1 ? (void *) &bits : row, &err) != ANX_OK) {
            fprintf(stderr, "%s\n", err.message);
            exit(1);
        }
    }
    return index;
}

int
main(int argc, char **argv)
{
    static const struct {
        const char *name;
        anx_index_kind kind;
        anx_scalar scalar;
        anx_save_params save;
    } seeds[] = {
        { "annex-flat", ANX_INDEX_FLAT, ANX_SCALAR_F32, { ANX_FILE_ANNEX, false, false } },
        { "annex-ivf", ANX_INDEX_IVF, ANX_SCALAR_F32, { ANX_FILE_ANNEX, false, false } },
        { "annex-hnsw", ANX_INDEX_HNSW, ANX_SCALAR_F32, { ANX_FILE_ANNEX, false, false } },
        { "annex-hnsw-bits", ANX_INDEX_HNSW, ANX_SCALAR_B1, { ANX_FILE_ANNEX, false, false } },
        { "usearch-plain", ANX_INDEX_HNSW, ANX_SCALAR_F32, { ANX_FILE_USEARCH, true, false } },
        { "usearch", ANX_INDEX_HNSW, ANX_SCALAR_F32, { ANX_FILE_USEARCH, false, false } },
        { "usearch-native", ANX_INDEX_HNSW, ANX_SCALAR_F32, { ANX_FILE_USEARCH, false, true } },
        { "lantern-plain", ANX_INDEX_HNSW, ANX_SCALAR_F32, { ANX_FILE_LANTERN, true, false } },
        { "lantern-bits", ANX_INDEX_HNSW, ANX_SCALAR_B1, { ANX_FILE_LANTERN, false, false } },
    };

    if (argc != 2) {
        fprintf(stderr, "usage: seeds_index_file DIRECTORY\n");
        return 2;
    }
    for (size_t i = 0; i < sizeof(seeds) / sizeof(seeds[0]); i++) {
        anx_index *index = make_index(seeds[i].kind, seeds[i].scalar);
        static struct buffer buffer;
        anx_sink sink = { &buffer, keep };
        anx_error err;

        buffer.size = 0;
        if (anx_index_save(index, &seeds[i].save, &sink, NULL, &err) != ANX_OK) {
            fprintf(stderr, "%s: %s\n", seeds[i].name, err.message);
            return 1;
        }
        write_seeds(argv[1], seeds[i].name, &buffer);
        anx_index_destroy(index);
    }
    return 0;
}
