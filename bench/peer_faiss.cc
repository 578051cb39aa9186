// faiss IndexIVFFlat as a peer; see peer.h. Training and adding use OpenMP on the given number of threads
// (its BLAS follows OpenMP's limit or its own); a search runs on the calling thread alone.
//
// Debian builds faiss for any x86-64, which leaves its two inner loops scalar (fvec_L2sqr is a jump to
// fvec_L2sqr_ref). Upstream's own packages come with AVX loops, and to beat scalar ones proves little. So the
// two functions are defined here once more, compiled for this machine, and the linker is told to take the
// first definition it meets: 21 ns instead of 224 for a row of 384 in cache.
#include "bench/peer.h"

#include <dlfcn.h>
#include <faiss/Index.h>
#include <faiss/IndexFlat.h>
#include <faiss/IndexIVFFlat.h>
#include <faiss/utils/distances.h>
#include <omp.h>

#include <cstdio>
#include <exception>
#include <memory>
#include <vector>

namespace {

// 64 sums side by side, which the compiler keeps in vector registers: enough to hide additions' latency.
constexpr size_t lanes = 64;

template <typename Term>
inline float
sum_terms(const float *x, const float *y, size_t d, Term term)
{
    float sums[lanes] = {}, total = 0;
    size_t i = 0;

    for (; i + lanes <= d; i += lanes)
        for (size_t j = 0; j < lanes; j++)
            sums[j] += term(x[i + j], y[i + j]);
    for (; i + 16 <= d; i += 16)
        for (size_t j = 0; j < 16; j++)
            sums[j] += term(x[i + j], y[i + j]);
    for (; i < d; i++)
        total += term(x[i], y[i]);
    for (size_t width = lanes / 2; width > 0; width /= 2)
        for (size_t j = 0; j < width; j++)
            sums[j] += sums[j + width];
    return total + sums[0];
}

} // namespace

namespace faiss {

float
fvec_L2sqr(const float *x, const float *y, size_t d)
{
    return sum_terms(x, y, d, [](float a, float b) { return (a - b) * (a - b); });
}

float
fvec_inner_product(const float *x, const float *y, size_t d)
{
    return sum_terms(x, y, d, [](float a, float b) { return a * b; });
}

} // namespace faiss

namespace {

struct Index {
    std::unique_ptr<faiss::Index> quantizer;
    std::unique_ptr<faiss::IndexIVFFlat> lists;
};

void
set_blas_threads(size_t n)
{
    using set_fn = void (*)(int);
    auto set = reinterpret_cast<set_fn>(dlsym(RTLD_DEFAULT, "openblas_set_num_threads"));

    if (!set) {
        void *blas = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_NOLOAD);

        set = blas ? reinterpret_cast<set_fn>(dlsym(blas, "openblas_set_num_threads")) : nullptr;
    }
    if (set)
        set(static_cast<int>(n));
}

void *
build(const peer_params *params, const float *rows, char *message, size_t message_size)
{
    try {
        auto index = std::make_unique<Index>();
        auto metric = params->metric == PEER_L2 ? faiss::METRIC_L2 : faiss::METRIC_INNER_PRODUCT;
        auto n = static_cast<faiss::Index::idx_t>(params->n);

        omp_set_num_threads(static_cast<int>(params->threads));
        set_blas_threads(params->threads);
        index->quantizer = std::make_unique<faiss::IndexFlat>(params->dim, metric);
        index->lists =
            std::make_unique<faiss::IndexIVFFlat>(index->quantizer.get(), params->dim, params->nlist, metric);
        if (params->progress)
            params->progress(params->progress_context, "faiss: training and adding", 0, 0);
        index->lists->train(n, rows);
        index->lists->add(n, rows);
        return index.release();
    } catch (const std::exception &e) {
        std::snprintf(message, message_size, "%s", e.what());
        return nullptr;
    }
}

void
destroy(void *index)
{
    delete static_cast<Index *>(index);
}

void
set_breadth(void *index, size_t breadth)
{
    static_cast<Index *>(index)->lists->nprobe = breadth;
}

void
search(void *index, const float *query, size_t k, uint64_t *labels)
{
    thread_local std::vector<float> distances;
    thread_local std::vector<faiss::Index::idx_t> found;

    omp_set_num_threads(1); // the limit is per calling thread
    distances.resize(k);
    found.resize(k);
    static_cast<Index *>(index)->lists->search(1, query, static_cast<faiss::Index::idx_t>(k),
                                               distances.data(), found.data());
    for (size_t i = 0; i < k; i++)
        labels[i] = static_cast<uint64_t>(found[i]); // -1 for none: UINT64_MAX
}

size_t
bytes(const void *index)
{
    const auto &lists = *static_cast<const Index *>(index)->lists;

    return static_cast<size_t>(lists.ntotal) * (lists.code_size + sizeof(faiss::Index::idx_t)) +
           lists.nlist * static_cast<size_t>(lists.d) * sizeof(float);
}

#define TEXT(x) #x
#define VERSION(a, b, c) TEXT(a) "." TEXT(b) "." TEXT(c)
const peer_ops ops = { PEER_ABI,
                       "faiss",
                       VERSION(FAISS_VERSION_MAJOR, FAISS_VERSION_MINOR, FAISS_VERSION_PATCH),
                       build,
                       destroy,
                       set_breadth,
                       search,
                       bytes };

} // namespace

extern "C" __attribute__((visibility("default"))) const peer_ops *anx_peer_entry();

const peer_ops *
anx_peer_entry()
{
    return &ops;
}
