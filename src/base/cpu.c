/* How many CPUs this process may use: its affinity mask, cut by the CPU quota of its control group and of
 * every group above it. A container with two of sixty-four CPUs must not start sixty-four threads. */
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"

#define PATH_SIZE 4096
#define CPU_LIMIT 65536 /* of the affinity mask; more than any kernel is built for */

static size_t
affinity_count(void)
{
    for (size_t n = 1024; n <= CPU_LIMIT; n *= 2) {
        size_t size = CPU_ALLOC_SIZE(n);
        cpu_set_t *set = CPU_ALLOC(n);
        int count = 0;

        if (!set)
            break;
        if (sched_getaffinity(0, size, set) == 0)
            count = CPU_COUNT_S(size, set);
        CPU_FREE(set);
        if (count > 0)
            return (size_t) count;
    }
    return 1;
}

/* The first line of a small file, without its line feed; false when there is none. */
static bool
read_line(const char *path, char *line, int size)
{
    FILE *file = fopen(path, "re");
    bool found;

    if (!file)
        return false;
    found = fgets(line, size, file) != NULL;
    fclose(file);
    if (found)
        line[strcspn(line, "\n")] = '\0';
    return found;
}

/* quota / period in microseconds, rounded up to whole CPUs. */
static size_t
quota_cpus(long long quota, long long period, size_t limit)
{
    if (quota <= 0 || period <= 0 || quota / period >= (long long) limit)
        return limit;
    return (size_t) ((quota + period - 1) / period);
}

/* The limit after the group at `group` ("" is the root), cgroup v2 (cpu.max) or v1 (cpu.cfs_*). */
static size_t
group_limit(const char *group, size_t limit)
{
    char path[PATH_SIZE];
    char line[128];
    long long quota;
    long long period;

    if (snprintf(path, sizeof(path), "/sys/fs/cgroup%s/cpu.max", group) >= (int) sizeof(path))
        return limit;
    if (read_line(path, line, sizeof(line))) /* "max 100000" has no quota and does not parse */
        return sscanf(line, "%lld %lld", &quota, &period) == 2 ? quota_cpus(quota, period, limit) : limit;

    if (snprintf(path, sizeof(path), "/sys/fs/cgroup/cpu%s/cpu.cfs_quota_us", group) >= (int) sizeof(path) ||
        !read_line(path, line, sizeof(line)) || sscanf(line, "%lld", &quota) != 1)
        return limit;
    if (snprintf(path, sizeof(path), "/sys/fs/cgroup/cpu%s/cpu.cfs_period_us", group) >= (int) sizeof(path) ||
        !read_line(path, line, sizeof(line)) || sscanf(line, "%lld", &period) != 1)
        return limit;
    return quota_cpus(quota, period, limit);
}

/* The process's group path from a line of /proc/self/cgroup: "0::/a/b" (v2), or the v1 hierarchy of
 * controller cpu. */
static char *
group_of_line(char *line)
{
    char *names = strchr(line, ':');
    char *path = names ? strchr(names + 1, ':') : NULL;

    if (!path)
        return NULL;
    if (path == names + 1 || strncmp(names, ":cpu,", 5) == 0 || strncmp(names, ":cpu:", 5) == 0 ||
        (path - names > 4 && strncmp(path - 4, ",cpu", 4) == 0))
        return path + 1;
    return NULL;
}

static size_t
quota_count(size_t limit)
{
    FILE *file = fopen("/proc/self/cgroup", "re");
    char line[PATH_SIZE];

    if (!file)
        return limit;
    while (fgets(line, sizeof(line), file)) {
        char *group;
        char *slash;

        line[strcspn(line, "\n")] = '\0';
        group = group_of_line(line);
        if (!group)
            continue;
        while ((slash = strrchr(group, '/')) != NULL) {
            if (slash[1] != '\0')
                limit = group_limit(group, limit);
            *slash = '\0';
        }
        limit = group_limit("", limit);
    }
    fclose(file);
    return limit;
}

size_t
anx_cpu_count(void)
{
    size_t n = quota_count(affinity_count());

    return n ? n : 1;
}
