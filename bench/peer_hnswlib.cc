// hnswlib as a peer; see peer.h. Built by addPoint from several threads, the way its own examples do it: the
// first row alone, since it becomes the entry point, then the others by a shared counter.
#include "bench/peer.h"

#include <hnswlib/hnswlib.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace {

struct Index {
    std::unique_ptr<hnswlib::SpaceInterface<float>> space;
    std::unique_ptr<hnswlib::HierarchicalNSW<float>> graph;
};

class Builder {
  public:
    Builder(const peer_params &params, const float *rows, Index &index)
        : params_(params), rows_(rows), index_(index)
    {
    }

    // Empty text: done.
    std::string run()
    {
        std::vector<std::thread> threads;

        add(0);
        for (size_t t = 1; t < params_.threads; t++)
            threads.emplace_back([this, t] { work(t); });
        work(0);
        for (auto &thread : threads)
            thread.join();
        return failure_;
    }

  private:
    void add(size_t row) { index_.graph->addPoint(rows_ + row * params_.dim, row); }

    void work(size_t thread)
    {
        try {
            for (size_t row; (row = next_.fetch_add(1)) < params_.n;) {
                add(row);
                if (thread == 0 && row % 256 == 0 && params_.progress)
                    params_.progress(params_.progress_context, "hnswlib: adding rows", row, params_.n);
            }
        } catch (const std::exception &e) {
            if (!failed_.exchange(true))
                failure_ = e.what();
            next_ = params_.n;
        }
    }

    const peer_params &params_;
    const float *rows_;
    Index &index_;
    std::atomic<size_t> next_{ 1 };
    std::atomic<bool> failed_{ false };
    std::string failure_; // written once, read after the threads have been joined
};

void *
build(const peer_params *params, const float *rows, char *message, size_t message_size)
{
    auto index = std::make_unique<Index>();

    try {
        if (params->metric == PEER_L2)
            index->space = std::make_unique<hnswlib::L2Space>(params->dim);
        else
            index->space = std::make_unique<hnswlib::InnerProductSpace>(params->dim);
        index->graph = std::make_unique<hnswlib::HierarchicalNSW<float>>(
            index->space.get(), params->n, params->m, params->ef_construction, params->seed);
        std::string failure = Builder(*params, rows, *index).run();
        if (failure.empty())
            return index.release();
        std::snprintf(message, message_size, "%s", failure.c_str());
    } catch (const std::exception &e) {
        std::snprintf(message, message_size, "%s", e.what());
    }
    return nullptr;
}

void
destroy(void *index)
{
    delete static_cast<Index *>(index);
}

void
set_breadth(void *index, size_t breadth)
{
    static_cast<Index *>(index)->graph->setEf(breadth);
}

void
search(void *index, const float *query, size_t k, uint64_t *labels)
{
    auto found = static_cast<Index *>(index)->graph->searchKnn(query, k);

    for (size_t i = found.size(); i < k; i++)
        labels[i] = UINT64_MAX;
    for (size_t i = found.size(); i > 0; i--) { // the farthest is on top
        labels[i - 1] = found.top().second;
        found.pop();
    }
}

size_t
bytes(const void *index)
{
    const auto &g = *static_cast<const Index *>(index)->graph;
    size_t total = g.max_elements_ * g.size_data_per_element_;

    for (size_t i = 0; i < g.cur_element_count; i++)
        total += static_cast<size_t>(g.element_levels_[i]) * g.size_links_per_element_;
    return total;
}

const peer_ops ops = {
    PEER_ABI, "hnswlib", PEER_HNSWLIB_VERSION, build, destroy, set_breadth, search, bytes
};

} // namespace

extern "C" __attribute__((visibility("default"))) const peer_ops *anx_peer_entry();

const peer_ops *
anx_peer_entry()
{
    return &ops;
}
