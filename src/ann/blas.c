/* BLAS at run time; see the header. The Fortran symbol sgemm_ is taken, which every BLAS has. */
#include "ann/blas.h"

#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"

typedef void (*sgemm_fn)(const char *trans_a, const char *trans_b, const int *m, const int *n, const int *k,
                         const float *alpha, const float *a, const int *lda, const float *b, const int *ldb,
                         const float *beta, float *c, const int *ldc);
typedef void (*set_threads_fn)(int n);
typedef int (*get_threads_fn)(void);

static const char *const names[] = {
    "libopenblas-pthread.so", "libopenblasp.so", "libopenblasp.so.0", "libopenblas.so",
    "libopenblas.so.0",       "libblas.so",      "libblas.so.3",      "libflexiblas.so",
};

/* Written once, by load. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct {
    sgemm_fn sgemm;
    set_threads_fn set_threads; /* OpenBLAS only, may be NULL */
    get_threads_fn get_threads;
    const char *name;
} blas;

/* Guards the two below: how many groups of products run, and what the library's thread count was before. */
static pthread_mutex_t group_lock = PTHREAD_MUTEX_INITIALIZER;
static size_t n_group;
static int threads_before;

/* A function out of a library: ISO C has no cast for it, POSIX has this. */
static void
find(void *library, const char *symbol, void *function)
{
    void *address = dlsym(library, symbol);

    memcpy(function, &address, sizeof(address));
}

/* The handle is never closed: its code may run until the process ends. */
static bool
try_library(const char *name)
{
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);

    if (!library)
        return false;
    find(library, "sgemm_", &blas.sgemm);
    find(library, "openblas_set_num_threads", &blas.set_threads);
    find(library, "openblas_get_num_threads", &blas.get_threads);
    if (blas.sgemm)
        blas.name = name;
    else
        dlclose(library);
    return blas.sgemm != NULL;
}

static void
probe_lapack(void)
{
    const char *name = getenv("RX_CUSTOM_LAPACK_LIB_NAME");
    void *library = name && *name ? dlopen(name, RTLD_NOW | RTLD_LOCAL) : NULL;

    if (name && *name && !library)
        anx_log(ANX_LOG_WARN, "event=lapack_missing name=%s action=none_needed", name);
    if (library)
        dlclose(library);
}

static void
load(void)
{
    const char *custom = getenv("RX_CUSTOM_BLAS_LIB_NAME");

    probe_lapack();
    if (custom && *custom) {
        if (!try_library(custom))
            anx_log(ANX_LOG_WARN, "event=blas_missing name=%s action=own_kernels", custom);
        return;
    }
    for (size_t i = 0; i < ANX_COUNT_OF(names); i++)
        if (try_library(names[i]))
            return;
    anx_log(ANX_LOG_INFO, "event=blas_missing action=own_kernels");
}

bool
blas_is_available(void)
{
    pthread_once(&once, load);
    return blas.sgemm != NULL;
}

const char *
blas_name(void)
{
    return blas_is_available() ? blas.name : NULL;
}

bool
blas_is_forced(void)
{
    const char *custom = getenv("RX_CUSTOM_BLAS_LIB_NAME");

    return custom && *custom;
}

/* Column-major BLAS sees our rows as columns: C^T [nb x na] = B [nb x dim] * A^T [dim x na]. */
void
blas_dot_rows(const float *a, size_t na, const float *b, size_t nb, size_t dim, float *out, size_t out_stride)
{
    const int m = (int) nb, n = (int) na, k = (int) dim, ldc = (int) out_stride;
    const float one = 1, zero = 0;

    ANX_ASSERT(na <= INT_MAX && nb <= INT_MAX && dim <= INT_MAX && out_stride <= INT_MAX);
    blas.sgemm("T", "N", &m, &n, &k, &one, b, &k, a, &k, &zero, out, &ldc);
}

void
blas_begin(void)
{
    if (!blas_is_available() || !blas.set_threads || !blas.get_threads)
        return;
    pthread_mutex_lock(&group_lock);
    if (n_group++ == 0) {
        threads_before = blas.get_threads();
        blas.set_threads(1);
    }
    pthread_mutex_unlock(&group_lock);
}

void
blas_end(void)
{
    if (!blas_is_available() || !blas.set_threads || !blas.get_threads)
        return;
    pthread_mutex_lock(&group_lock);
    if (--n_group == 0)
        blas.set_threads(threads_before);
    pthread_mutex_unlock(&group_lock);
}
