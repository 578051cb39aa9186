/* Builds an index, adds vectors, searches, saves.
 *     cc search.c -o search $(pkg-config --cflags --libs annex) && ./search */
#include <annex/index.h>
#include <annex/index_file.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 10000, DIM = 32, K = 5 };

static float vectors[N][DIM];

int
main(void)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_save_params save = { .format = ANX_FILE_ANNEX };
    uint64_t labels[N], found[K];
    float distances[K];
    anx_hits hits = { distances, found };
    anx_index *index = NULL;
    anx_error err;

    for (int i = 0; i < N; i++) {
        labels[i] = (uint64_t) i;
        for (int d = 0; d < DIM; d++) /* stands for real data: a walk, so that neighbors have close numbers */
            vectors[i][d] = (i ? vectors[i - 1][d] : 0) + (float) rand() / (float) RAND_MAX - 0.5f;
    }
    params.kind = ANX_INDEX_HNSW;
    params.metric = ANX_METRIC_L2;
    params.dim = DIM;
    if (anx_index_create(&params, &index, &err) != ANX_OK ||
        anx_index_add_batch(index, N, labels, vectors, &err) != ANX_OK ||
        anx_index_search(index, NULL, 1, vectors[4711], K, &hits, &err) != ANX_OK ||
        anx_index_save_file(index, &save, "example.annex", &err) != ANX_OK) {
        fprintf(stderr, "%s\n", err.message);
        anx_index_destroy(index);
        return 1;
    }
    for (int i = 0; i < K; i++)
        printf("%5llu  %g\n", (unsigned long long) found[i], (double) distances[i]);
    anx_index_destroy(index);
    return 0;
}
