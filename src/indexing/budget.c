/* See budget.h. Each block carries its size in front of it, 16 bytes, because release is not told it. */
#include "indexing/budget.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"

#define HEAD 16 /* keeps blocks aligned for any type */
#define MIB 1048576.0

void
anx_budget_init(struct budget *budget, size_t limit)
{
    budget->limit = limit;
    atomic_init(&budget->used, 0);
}

bool
anx_budget_has_room(const struct budget *budget, size_t bytes)
{
    size_t used = atomic_load_explicit(&budget->used, memory_order_relaxed);

    return used <= budget->limit && bytes <= budget->limit - used;
}

/* All counters are relaxed: they carry no data. */
static bool
take(struct budget_account *account, size_t bytes)
{
    struct budget *budget = account->budget;
    size_t total = atomic_fetch_add_explicit(&budget->used, bytes, memory_order_relaxed) + bytes;
    size_t mine;
    size_t peak;

    if (total > budget->limit || total < bytes) {
        atomic_fetch_sub_explicit(&budget->used, bytes, memory_order_relaxed);
        if (bytes > atomic_load_explicit(&account->refused, memory_order_relaxed))
            atomic_store_explicit(&account->refused, bytes, memory_order_relaxed);
        return false;
    }
    mine = atomic_fetch_add_explicit(&account->used, bytes, memory_order_relaxed) + bytes;
    peak = atomic_load_explicit(&account->peak, memory_order_relaxed);
    while (mine > peak && !atomic_compare_exchange_weak_explicit(&account->peak, &peak, mine,
                                                                 memory_order_relaxed, memory_order_relaxed))
        ;
    return true;
}

static void
give(struct budget_account *account, size_t bytes)
{
    atomic_fetch_sub_explicit(&account->used, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&account->budget->used, bytes, memory_order_relaxed);
}

static void *
counted_reallocate(void *context, void *memory, size_t size)
{
    struct budget_account *account = context;
    uint8_t *old = memory ? (uint8_t *) memory - HEAD : NULL;
    size_t old_size = 0;
    uint8_t *block;

    if (old)
        memcpy(&old_size, old, sizeof(old_size));
    if (size > SIZE_MAX - HEAD || (size > old_size && !take(account, size - old_size)))
        return NULL;
    block = anx_realloc_array(NULL, old, size + HEAD, 1);
    if (!block) {
        if (size > old_size)
            give(account, size - old_size);
        return NULL;
    }
    if (size < old_size)
        give(account, old_size - size);
    memcpy(block, &size, sizeof(size));
    return block + HEAD;
}

static void *
counted_allocate(void *context, size_t size)
{
    return counted_reallocate(context, NULL, size);
}

static void
counted_release(void *context, void *memory)
{
    uint8_t *block = memory ? (uint8_t *) memory - HEAD : NULL;
    size_t size;

    if (!block)
        return;
    memcpy(&size, block, sizeof(size));
    give(context, size);
    anx_free(NULL, block);
}

void
anx_budget_open(struct budget_account *account, struct budget *budget)
{
    *account = (struct budget_account) { .budget = budget };
    account->alloc = (anx_alloc) { account, counted_allocate, counted_reallocate, counted_release };
    atomic_init(&account->used, 0);
    atomic_init(&account->peak, 0);
    atomic_init(&account->refused, 0);
}

void
anx_budget_close(struct budget_account *account)
{
    give(account, account->charged);
    account->charged = 0;
    ANX_ASSERT(atomic_load(&account->used) == 0);
}

/* Over the limit: what is there, what was wanted, what to do. */
static anx_status
fail_limit(const struct budget_account *account, size_t more, anx_error *err)
{
    size_t mine = atomic_load_explicit(&account->used, memory_order_relaxed);
    size_t all = atomic_load_explicit(&account->budget->used, memory_order_relaxed);

    (void) anx_fail(err, ANX_E_LIMIT,
                    "index build needs more memory than the server allows: it holds %.1f MiB, needs %.1f MiB "
                    "more, other builds hold %.1f MiB, the limit is %.1f MiB (--max-memory)",
                    (double) mine / MIB, (double) more / MIB, (double) (all > mine ? all - mine : 0) / MIB,
                    (double) account->budget->limit / MIB);
    anx_error_hint(err, "raise --max-memory of the indexing server, or build when it has less to do");
    return ANX_E_LIMIT;
}

anx_status
anx_budget_charge(struct budget_account *account, size_t bytes, anx_error *err)
{
    if (bytes > account->charged && !take(account, bytes - account->charged))
        return fail_limit(account, bytes - account->charged, err);
    if (bytes < account->charged)
        give(account, account->charged - bytes);
    account->charged = bytes;
    return ANX_OK;
}

anx_status
anx_budget_explain(const struct budget_account *account, anx_error *err)
{
    size_t refused = atomic_load_explicit(&account->refused, memory_order_relaxed);

    if (err->status == ANX_E_NOMEM && refused > 0)
        return fail_limit(account, refused, err);
    return err->status;
}

/* --- the machine --- */

/* The smaller of limit and the number in the file; a file without one ("max") has no limit. */
static size_t
limit_of_file(const char *path, size_t limit)
{
    FILE *file = fopen(path, "re");
    unsigned long long bytes;

    if (!file)
        return limit;
    if (fscanf(file, "%llu", &bytes) == 1 && bytes > 0 && bytes < limit)
        limit = (size_t) bytes;
    fclose(file);
    return limit;
}

/* The limits of a group and of all above it, cgroup v2 (memory.max) or v1 (memory.limit_in_bytes). */
static size_t
limit_of_groups(char *group, size_t limit)
{
    char path[4096];

    for (;;) {
        char *slash = strrchr(group, '/');
        bool is_root = !slash || !slash[1];

        if (is_root)
            group[0] = '\0';
        if (snprintf(path, sizeof(path), "/sys/fs/cgroup%s/memory.max", group) < (int) sizeof(path))
            limit = limit_of_file(path, limit);
        if (snprintf(path, sizeof(path), "/sys/fs/cgroup/memory%s/memory.limit_in_bytes", group) <
            (int) sizeof(path))
            limit = limit_of_file(path, limit);
        if (is_root)
            return limit;
        *slash = '\0';
        if (slash == group) { /* "/a" becomes the root */
            group[0] = '/';
            group[1] = '\0';
        }
    }
}

size_t
anx_budget_machine(void)
{
    long pages = sysconf(_SC_PHYS_PAGES);
    long page_size = sysconf(_SC_PAGESIZE);
    size_t limit = pages > 0 && page_size > 0 ? (size_t) pages * (size_t) page_size : (size_t) 1 << 30;
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[4096];

    if (!file)
        return limit;
    while (fgets(line, sizeof(line), file)) { /* "0::/a/b" (v2) or "7:memory:/a/b" (v1) */
        char *names = strchr(line, ':');
        char *group = names ? strchr(names + 1, ':') : NULL;

        line[strcspn(line, "\n")] = '\0';
        if (group && (group == names + 1 || strncmp(names, ":memory:", 8) == 0))
            limit = limit_of_groups(group + 1, limit);
    }
    fclose(file);
    return limit;
}
