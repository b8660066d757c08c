/* SPDX-License-Identifier: Apache-2.0 */
/* Measuring this machine; see probe.h. */
#include "probe.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "build.h"
#include "confine.h"
#include "probe_loops.h"
#include "topology.h"

#define PROBE_THREADS_MAX 256
#define PROBE_TRIALS 30 /* short ones, so that some fall between other programs' turns */
#define PROBE_FMA_NS (4 * NS_PER_MS) /* per trial */
#define PROBE_BYTES_MAX (256ull << 20)

enum probe_kind { PROBE_COPY, PROBE_READ, PROBE_FMA, PROBE_DOT };

/* One thread's share of a trial. */
struct share {
    enum probe_kind kind;
    enum vector_isa isa;
    pthread_barrier_t *barrier;
    uint64_t *from, *to;
    size_t words;
    uint64_t began_ns, ended_ns;
    double flops;
};

static _Atomic uint64_t
    read_sink; /* every thread stores its sum, so that no loop can be left out */

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

static bool is_arithmetic(enum probe_kind kind)
{
    return kind == PROBE_FMA || kind == PROBE_DOT;
}

static void *share_run(void *arg)
{
    struct share *s = arg;

    pthread_barrier_wait(s->barrier);
    s->began_ns = now_ns();
    if (s->kind == PROBE_COPY)
        memcpy(s->to, s->from, s->words * sizeof(uint64_t));
    else if (s->kind == PROBE_READ)
        read_sink = probe_read(s->from, s->words);
    for (s->flops = 0; is_arithmetic(s->kind) && now_ns() - s->began_ns < PROBE_FMA_NS;)
        s->flops += s->kind == PROBE_FMA ? probe_fma(s->isa, 2000) : probe_dot_bf16(2000);
    s->ended_ns = now_ns();
    return NULL;
}

/* One trial on all threads; returns bytes or operations per nanosecond. */
static double trial(struct share *shares, int n, enum probe_kind kind, enum vector_isa isa)
{
    uint64_t first = UINT64_MAX, last = 0;
    pthread_t threads[PROBE_THREADS_MAX];
    pthread_barrier_t barrier;
    double work = 0;
    int made = 0;

    pthread_barrier_init(&barrier, NULL, (unsigned)n);
    for (int i = 0; i < n; i++) {
        shares[i].kind = kind;
        shares[i].isa = isa;
        shares[i].barrier = &barrier;
        if (i > 0 && pthread_create(&threads[i], NULL, share_run, &shares[i]) != 0)
            abort(); /* the others already wait at the barrier */
        made = i;
    }
    share_run(&shares[0]);
    for (int i = 1; i <= made; i++)
        pthread_join(threads[i], NULL);
    pthread_barrier_destroy(&barrier);
    for (int i = 0; i < n; i++) {
        first = MIN(first, shares[i].began_ns);
        last = MAX(last, shares[i].ended_ns);
        work += is_arithmetic(kind) ? shares[i].flops : (double)shares[i].words * sizeof(uint64_t);
    }
    return work / (double)MAX(last - first, 1ull);
}

/* The best of some trials: whatever disturbs a trial only makes it slower. */
static double best(struct share *shares, int n, enum probe_kind kind, enum vector_isa isa)
{
    double most = 0;

    for (int i = 0; i < PROBE_TRIALS; i++)
        most = MAX(most, trial(shares, n, kind, isa));
    return most;
}

struct rates {
    double copy_gbs, read_gbs, fma_gflops;
    double dot_gflops; /* of bfloat16 pairs; 0: no such instruction */
};

/* Blocks well past the last-level cache, so that memory is what is measured. */
static int measure(int threads, long llc, enum vector_isa isa, bool dot, struct rates *out,
                   struct err *err)
{
    size_t bytes = MIN(MAX(4 * (size_t)MAX(llc, 0), (size_t)64 << 20), (size_t)PROBE_BYTES_MAX);
    size_t words = bytes / sizeof(uint64_t) / (size_t)threads / 8 * 8;
    struct share shares[PROBE_THREADS_MAX] = { 0 };
    CLEANUP(freep) uint64_t *from = malloc(bytes);
    CLEANUP(freep) uint64_t *to = malloc(bytes);

    if (from == NULL || to == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a block of %zu bytes", bytes);
    confine_hurry();
    memset(from, 1, bytes);
    memset(to, 2, bytes);
    for (int i = 0; i < threads; i++) {
        shares[i].from = from + (size_t)i * words;
        shares[i].to = to + (size_t)i * words;
        shares[i].words = words;
    }
    out->copy_gbs = 2 * best(shares, threads, PROBE_COPY, isa); /* read and written */
    out->read_gbs = best(shares, threads, PROBE_READ, isa);
    out->fma_gflops = best(shares, threads, PROBE_FMA, isa);
    out->dot_gflops = 0;
    if (dot && probe_dot_bf16(1) > 0)
        out->dot_gflops = best(shares, threads, PROBE_DOT, isa);
    return 0;
}

/* ---- what the system says of itself ---- */

/* The value of `key` in /proc/cpuinfo ("flags\t\t: fpu vme ..."), owned; NULL when there is none.
 */
static char *cpuinfo_value(const char *text, const char *key)
{
    const char *at = text;

    while (at != NULL) {
        size_t len = strlen(key);

        if (strncmp(at, key, len) == 0 && strchr(" \t:", at[len]) != NULL) {
            const char *value = strchr(at, ':');

            if (value == NULL)
                return NULL;
            value += strspn(value, ": \t");
            return strndup(value, strcspn(value, "\n"));
        }
        at = strchr(at, '\n');
        at = at ? at + 1 : NULL;
    }
    return NULL;
}

static json_t *word_list(const char *words)
{
    json_t *list = json_array();

    while (words != NULL && *words != '\0') {
        size_t len = strcspn(words, " ");

        if (len > 0)
            json_array_append_new(list, json_stringn(words, len));
        words += len + strspn(words + len, " ");
    }
    return list;
}

/* The instruction sets that decide how a kernel is written. */
static json_t *feature_list(const json_t *isa)
{
    static const char *const known[] = {
        "sse4_2",   "avx",      "avx2",        "fma",         "f16c",        "avx512f",  "avx512bw",
        "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni", "amx_tile",
        "amx_bf16", "amx_int8", "asimd",       "asimdhp",     "asimddp",     "bf16",     "i8mm",
        "sve",      "sve2",     "v",           "vsx",
    };
    json_t *list = json_array(), *item;
    size_t i;

    for (size_t k = 0; k < ARRAY_LEN(known); k++) {
        json_array_foreach ((json_t *)isa, i, item) {
            if (strcmp(json_string_value(item), known[k]) == 0) {
                json_array_append_new(list, json_string(known[k]));
                break;
            }
        }
    }
    return list;
}

/*
 * Leaves the features that code compiled for `march` may use: those whose macro the compiler
 * defines. All stay where the compiler cannot be asked.
 */
static void keep_usable(json_t *features, const char *march)
{
    static const struct {
        const char *feature, *macro;
    } rows[] = {
        { "sse4_2", "__SSE4_2__ " },
        { "avx", "__AVX__ " },
        { "avx2", "__AVX2__ " },
        { "fma", "__FMA__ " },
        { "f16c", "__F16C__ " },
        { "avx512f", "__AVX512F__ " },
        { "avx512bw", "__AVX512BW__ " },
        { "avx512dq", "__AVX512DQ__ " },
        { "avx512vl", "__AVX512VL__ " },
        { "avx512_vnni", "__AVX512VNNI__ " },
        { "avx512_bf16", "__AVX512BF16__ " },
        { "avx512_fp16", "__AVX512FP16__ " },
        { "avx_vnni", "__AVXVNNI__ " },
        { "amx_tile", "__AMX_TILE__ " },
        { "amx_bf16", "__AMX_BF16__ " },
        { "amx_int8", "__AMX_INT8__ " },
    };
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    char option[96];
    const char *argv[] = { "cc", option, "-dM", "-E", "-x", "c", "/dev/null", NULL };
    struct err ignored;

    snprintf(option, sizeof(option), "-march=%.64s", march);
    if (build_capture(argv, &text, &ignored) != 0 || text.len == 0)
        return;
    for (size_t i = json_array_size(features); i > 0; i--)
        for (size_t k = 0; k < ARRAY_LEN(rows); k++)
            if (strcmp(json_string_value(json_array_get(features, i - 1)), rows[k].feature) == 0 &&
                strstr(buf_str(&text), rows[k].macro) == NULL) {
                json_array_remove(features, i - 1);
                break;
            }
}

static bool has_feature(const json_t *features, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach ((json_t *)features, i, item) {
        if (strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

/* The widest vectors that both the processor has and the features name. */
static enum vector_isa isa_of(const json_t *features)
{
    enum vector_isa isa = probe_vector_isa();

    if (isa == VECTOR_AVX512 && !has_feature(features, "avx512f"))
        isa = VECTOR_AVX2;
    if (isa == VECTOR_AVX2 && !has_feature(features, "avx2"))
        isa = VECTOR_BASE;
    return isa;
}

static const char *class_of(const json_t *features)
{
    static const struct {
        const char *feature, *class;
    } rows[] = { { "avx512f", "cpu-avx512" },
                 { "avx2", "cpu-avx2" },
                 { "avx", "cpu-avx" },
                 { "sve", "cpu-sve" },
                 { "asimd", "cpu-neon" } };

    for (size_t k = 0; k < ARRAY_LEN(rows); k++)
        if (has_feature(features, rows[k].feature))
            return rows[k].class;
    return "cpu-generic";
}

/* "znver4": what the compiler takes `march` to be on this machine; the machine's name otherwise. */
static void arch_name(const char *march, char *out, size_t size)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    char option[96];
    const char *argv[] = { "cc", option, "-Q", "--help=target", NULL };
    struct utsname machine;
    struct err ignored;
    const char *at;

    snprintf(option, sizeof(option), "-march=%.64s", march);
    if (uname(&machine) == 0)
        str_copy(out, size, machine.machine);
    if (build_capture(argv, &text, &ignored) != 0 || text.len == 0)
        return;
    at = strstr(buf_str(&text), "-march=");
    if (at == NULL)
        return;
    at += strlen("-march=");
    at += strspn(at, " \t");
    if (isalnum((unsigned char)*at))
        snprintf(out, size, "%.*s", (int)MIN(strcspn(at, " \t\n"), size - 1), at);
}

/* Bytes of the data or unified cache of this level; 0 where the system does not say. */
static long cache_size(int level)
{
    for (int index = 0; index < 8; index++) {
        CLEANUP(buf_release) struct buf text = { .max = 4096 };
        struct err ignored;
        char path[96];
        long size;

        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/level", index);
        if (file_read(path, &text, &ignored) != 0)
            break;
        if (strtol(buf_str(&text), NULL, 10) != level)
            continue;
        buf_clear(&text);
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/type", index);
        if (file_read(path, &text, &ignored) != 0 || str_has_prefix(buf_str(&text), "Instruction"))
            continue;
        buf_clear(&text);
        snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu0/cache/index%d/size", index);
        if (file_read(path, &text, &ignored) != 0)
            continue;
        size = strtol(buf_str(&text), NULL, 10);
        return strchr(buf_str(&text), 'M') ? size << 20 : size << 10;
    }
    return 0;
}

static json_t *caches(long *llc)
{
    long l1 = cache_size(1), l2 = cache_size(2), l3 = cache_size(3);

    *llc = l3 > 0 ? l3 : l2;
    return json_pack("{s:I, s:I, s:I}", "l1d", (json_int_t)l1, "l2", (json_int_t)l2, "l3",
                     (json_int_t)l3);
}

/* Two digits after the point: more would be noise. */
static json_t *rounded(double v)
{
    return json_real((double)(long long)(v * 100 + 0.5) / 100);
}

/* Words and lists from /proc/cpuinfo: model, isa, and what of it `march` may use: features,
 * class. */
static void add_processor(json_t *o, const char *march)
{
    CLEANUP(buf_release) struct buf text = { .max = 16 << 20 };
    CLEANUP(freep) char *model = NULL, *flags = NULL;
    struct err ignored;
    json_t *isa, *features;

    if (file_read("/proc/cpuinfo", &text, &ignored) == 0) {
        model = cpuinfo_value(buf_str(&text), "model name");
        flags = cpuinfo_value(buf_str(&text), "flags");
        if (flags == NULL)
            flags = cpuinfo_value(buf_str(&text), "Features");
    }
    isa = word_list(flags);
    features = feature_list(isa);
    keep_usable(features, march);
    json_object_set_new(o, "class", json_string(class_of(features)));
    json_object_set_new(o, "model", json_string(model ? model : "unknown"));
    json_object_set_new(o, "isa", isa);
    json_object_set_new(o, "features", features);
}

/* Does the compiler take this -march? Yes, where it cannot be asked. */
static int check_march(const char *march, struct err *err)
{
    char option[96];
    const char *argv[] = { "cc", option, "-dM", "-E", "-x", "c", "/dev/null", NULL };
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 }, plain = { .max = 1 << 20 };
    struct err ignored;

    snprintf(option, sizeof(option), "-march=%.64s", march);
    if (build_capture(argv, &text, &ignored) != 0 || text.len > 0)
        return 0;
    str_copy(option, sizeof(option), "-march=native");
    if (build_capture(argv, &plain, &ignored) != 0 || plain.len == 0)
        return 0;
    return err_set(err, ERR_INVALID,
                   "'march' is '%s', which the compiler does not know; 'native' and what its "
                   "-march takes are allowed",
                   march);
}

int probe(const char *name, const char *march, json_t **out, struct err *err)
{
    int threads;
    struct topology cpus;
    char arch[64] = "unknown", toolchain[64];
    struct rates rates;
    json_t *o = json_object(), *sizes;
    long llc;

    if (check_march(march, err) != 0) {
        json_decref(o);
        return -1;
    }
    topology_read(&cpus);
    threads = MIN(cpus.n_cpus, PROBE_THREADS_MAX);
    sizes = caches(&llc);
    if (o != NULL)
        add_processor(o, march);
    if (o == NULL || sizes == NULL ||
        measure(threads, llc, isa_of(json_object_get(o, "features")),
                has_feature(json_object_get(o, "features"), "avx512_bf16"), &rates, err) != 0) {
        json_decref(o);
        json_decref(sizes);
        return o && sizes ? -1 : err_set(err, ERR_NOMEM, "no memory");
    }
    arch_name(march, arch, sizeof(arch));
    build_compiler(toolchain, sizeof(toolchain));
    json_object_set_new(o, "name", json_string(name));
    json_object_set_new(o, "kind", json_string("cpu"));
    json_object_set_new(o, "arch", json_string(arch));
    json_object_set_new(o, "cores", json_integer(cpus.n_cores));
    json_object_set_new(o, "threads", json_integer(threads));
    json_object_set_new(o, "cache_bytes", sizes);
    json_object_set_new(o, "copy_gbs", rounded(rates.copy_gbs));
    json_object_set_new(o, "read_gbs", rounded(rates.read_gbs));
    json_object_set_new(o, "fma_gflops", rounded(rates.fma_gflops));
    if (rates.dot_gflops > 0)
        json_object_set_new(o, "bf16_gflops", rounded(rates.dot_gflops));
    json_object_set_new(o, "toolchain", json_string(toolchain));
    json_object_set_new(o, "march", json_string(march));
    json_object_set_new(o, "probed", json_true());
    json_object_set_new(
        o, "probed_at",
        json_integer((json_int_t)(clock_system()->wall_ns(clock_system()) / NS_PER_SEC)));
    *out = o;
    return 0;
}
