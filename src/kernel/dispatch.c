/* Which set runs. Rows are best first; a row may have holes, which are filled from the rows below it that
 * this CPU has. Two rows may share a name: the upper one only improves a few entries where the CPU has a
 * further extension, and the choice by name takes the first that runs. A new set is one row. */
#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "kernel/kernel_int.h"

#ifdef __x86_64__
#include <cpuid.h>

static bool
has_sse(void)
{
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1");
}

static bool
has_avx(void)
{
    return has_sse() && __builtin_cpu_supports("avx");
}

static bool
has_avx2(void)
{
    unsigned eax, ebx, ecx = 0, edx;

    /* F16C by hand: not every compiler knows its name. That the system saves the registers is part of the AVX
     * answer. */
    return has_avx() && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __get_cpuid(1, &eax, &ebx, &ecx, &edx) && (ecx & bit_F16C);
}

/* CPUs with AVX-512 but without VNNI (Skylake-X) run the avx2 set: the code kernels need VNNI, and those CPUs
 * lose clock to wide registers. */
static bool
has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool
has_avx512_popcnt(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512vpopcntdq");
}
#endif

static bool
has_scalar(void)
{
    return true;
}

static const struct kernel_row {
    const anx_kernels *kernels;
    bool (*is_supported)(void);
} kernel_rows[] = {
#ifdef __x86_64__
    { &anx_kernels_avx512_popcnt, has_avx512_popcnt },
    { &anx_kernels_avx512, has_avx512 },
    { &anx_kernels_avx2, has_avx2 },
    { &anx_kernels_avx, has_avx },
    { &anx_kernels_sse, has_sse },
#endif
#ifdef __aarch64__
    { &anx_kernels_neon, has_scalar }, /* part of the architecture */
#endif
    { &anx_kernels_scalar, has_scalar },
};

/* Names that RX_TARGET_INSTRUCTIONS knows, whether or not this build or CPU has them. */
static const char *const known_names[] = { "avx512", "avx2", "avx", "sse", "neon", "scalar" };

/* Written once by resolve_all, constant afterwards. */
static anx_kernels resolved[ANX_COUNT_OF(kernel_rows)];
static const anx_kernels *available[ANX_COUNT_OF(kernel_rows)];
static size_t n_available;
static const anx_kernels *best;
static pthread_once_t resolve_once = PTHREAD_ONCE_INIT;
static pthread_once_t best_once = PTHREAD_ONCE_INIT;

/* Fills the holes of `into` from a lower set. */
static void
fill_from(anx_kernels *into, const anx_kernels *from)
{
    for (size_t m = 0; m < ANX_METRIC_COUNT; m++)
        for (size_t s = 0; s < ANX_SCALAR_COUNT; s++)
            into->distance[m][s] = into->distance[m][s] ? into->distance[m][s] : from->distance[m][s];
    into->dot_f32 = into->dot_f32 ? into->dot_f32 : from->dot_f32;
    into->norm2_f32 = into->norm2_f32 ? into->norm2_f32 : from->norm2_f32;
    into->l2_f32_rows = into->l2_f32_rows ? into->l2_f32_rows : from->l2_f32_rows;
    into->ip_f32_rows = into->ip_f32_rows ? into->ip_f32_rows : from->ip_f32_rows;
    into->f16_to_f32 = into->f16_to_f32 ? into->f16_to_f32 : from->f16_to_f32;
    into->f32_to_f16 = into->f32_to_f16 ? into->f32_to_f16 : from->f32_to_f16;
    into->encode_u8 = into->encode_u8 ? into->encode_u8 : from->encode_u8;
    into->hadamard = into->hadamard ? into->hadamard : from->hadamard;
    into->code_l2 = into->code_l2 ? into->code_l2 : from->code_l2;
    into->code_dot = into->code_dot ? into->code_dot : from->code_dot;
    into->code_hamming = into->code_hamming ? into->code_hamming : from->code_hamming;
    into->dot_block = into->dot_block ? into->dot_block : from->dot_block;
    into->hamming_block = into->hamming_block ? into->hamming_block : from->hamming_block;
    into->count_below = into->count_below ? into->count_below : from->count_below;
    into->select_below = into->select_below ? into->select_below : from->select_below;
    into->min_into = into->min_into ? into->min_into : from->min_into;
    into->min_lanes = into->min_lanes ? into->min_lanes : from->min_lanes;
    into->l2_from_dot = into->l2_from_dot ? into->l2_from_dot : from->l2_from_dot;
}

static void
resolve_all(void)
{
    for (size_t i = 0; i < ANX_COUNT_OF(kernel_rows); i++) {
        if (!kernel_rows[i].is_supported())
            continue;
        resolved[i] = *kernel_rows[i].kernels;
        for (size_t j = i + 1; j < ANX_COUNT_OF(kernel_rows); j++)
            if (kernel_rows[j].is_supported())
                fill_from(&resolved[i], kernel_rows[j].kernels);
        available[n_available++] = &resolved[i];
    }
}

size_t
anx_kernels_available(const anx_kernels *const **sets)
{
    pthread_once(&resolve_once, resolve_all);
    *sets = available;
    return n_available;
}

const anx_kernels *
anx_kernels_choose(const char *name, const char **warning)
{
    const anx_kernels *const *sets;
    size_t n = anx_kernels_available(&sets);

    *warning = NULL;
    if (!name || !*name)
        return sets[0];
    for (size_t i = 0; i < n; i++)
        if (strcmp(sets[i]->name, name) == 0)
            return sets[i];
    *warning = "unknown instruction set; known are avx512, avx2, avx, sse, neon and scalar";
    for (size_t i = 0; i < ANX_COUNT_OF(known_names); i++)
        if (strcmp(known_names[i], name) == 0)
            *warning = "this CPU or build does not have the instruction set";
    return sets[0];
}

static void
choose_best(void)
{
    const char *warning, *value = getenv("RX_TARGET_INSTRUCTIONS");
    char shown[32];
    size_t n = 0;

    best = anx_kernels_choose(value, &warning);
    if (!warning)
        return;
    /* The value comes from outside, and one line must stay one line. */
    for (; value[n] && n + 1 < sizeof(shown); n++)
        shown[n] = value[n] > ' ' && value[n] <= '~' && value[n] != '"' ? value[n] : '?';
    shown[n] = '\0';
    anx_log(ANX_LOG_WARN,
            "event=kernels variable=RX_TARGET_INSTRUCTIONS value=\"%s\" warning=\"%s\" using=%s", shown,
            warning, best->name);
}

const anx_kernels *
anx_kernels_best(void)
{
    pthread_once(&best_once, choose_best);
    return best;
}
