/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numeric engine on recorded tuning tables: evaluations until a configuration within 5 % (and
 * 10 %) of the target's optimum has been evaluated, for random search, the cold engine, and the
 * warm engine with the other devices' full tables or their 200-evaluation histories. One folder per
 * kernel, one T4 file (gzip) per device:
 *
 *   engine_bench --hub DIR [--seeds 5] [--cap 1500] [--methods random,cold,warm,history] [--noise]
 *   engine_bench --cost            time per step on a synthetic space of 10 parameters
 *
 * --noise measures one random sample of a configuration instead of its mean. docs/engine.md has the
 * figures.
 */
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "search/engine.h"

enum { DEVICES_MAX = 8, KERNELS_MAX = 8, SEEDS_MAX = 101, HISTORY = 200, SAMPLES_MAX = 64 };
enum method { RANDOM, COLD, WARM, HIST, METHOD_COUNT };

static const char *const method_names[METHOD_COUNT] = { "random", "cold", "warm", "history" };

struct table_file {
    char name[64];
    size_t n;
    double *y;      /* [n] log time in the kernel's row order; NaN: failed, INFINITY: absent */
    float *samples; /* [n][SAMPLES_MAX] log times */
    uint8_t *n_samples;
    double best;
};

struct kernel {
    char name[64];
    struct space *space; /* of all configurations of the first device */
    size_t n_devices;
    struct table_file devices[DEVICES_MAX];
};

struct options {
    const char *hub;
    size_t seeds, cap;
    bool methods[METHOD_COUNT], noise, cost;
};

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "engine_bench: %s: %s\n", what, err ? err->msg : "failed");
    exit(1);
}

/* ---- reading the tables ---- */

static json_t *read_gz(const char *path)
{
    struct buf text = { .max = 1ull << 30 };
    char chunk[1 << 16];
    struct err err;
    json_t *doc;
    gzFile f = gzopen(path, "rb");
    int got;

    if (f == NULL)
        die(path, NULL);
    while ((got = gzread(f, chunk, sizeof(chunk))) > 0)
        if (buf_add(&text, chunk, (size_t)got, &err) != 0)
            die(path, &err);
    gzclose(f);
    if (got < 0)
        die(path, NULL);
    if (jsonx_parse(buf_str(&text), text.len, path, &doc, &err) != 0)
        die(path, &err);
    buf_release(&text);
    return doc;
}

static void make_space(struct kernel *k, const json_t *results)
{
    json_t *rows = json_array();
    struct err err;

    for (size_t i = 0; i < json_array_size(results); i++)
        json_array_append(rows, json_object_get(json_array_get(results, i), "configuration"));
    if (space_from_rows(rows, &k->space, &err) != 0)
        die(k->name, &err);
    json_decref(rows);
}

static void take_samples(struct table_file *t, size_t row, const json_t *runtimes)
{
    size_t n = MIN(json_array_size(runtimes), (size_t)SAMPLES_MAX);

    for (size_t s = 0; s < n; s++) {
        double v = json_number_value(json_array_get(runtimes, s));

        if (v > 0.0)
            t->samples[row * SAMPLES_MAX + t->n_samples[row]++] = (float)log(v);
    }
}

static void add_device(struct kernel *k, const char *path, const char *file)
{
    struct table_file *t = &k->devices[k->n_devices];
    json_t *doc = read_gz(path), *results = json_object_get(doc, "results");
    uint16_t a[SPACE_PARAMS_MAX];
    struct err err;

    str_copy(t->name, sizeof(t->name), file);
    *strchr(t->name, '.') = '\0';
    if (k->space == NULL)
        make_space(k, results);
    t->n = space_rows(k->space);
    t->y = xmalloc(t->n * sizeof(*t->y));
    t->samples = xcalloc(t->n * SAMPLES_MAX, sizeof(*t->samples));
    t->n_samples = xcalloc(t->n, 1);
    t->best = INFINITY;
    for (size_t i = 0; i < t->n; i++)
        t->y[i] = INFINITY;
    for (size_t i = 0; i < json_array_size(results); i++) {
        const json_t *r = json_array_get(results, i);
        long row;

        if (space_from_json(k->space, json_object_get(r, "configuration"), a, &err) != 0)
            die(path, &err);
        row = space_row_of(k->space, a);
        if (row < 0)
            continue;
        t->y[row] = NAN;
        if (strcmp(jsonx_str(r, "invalidity", ""), "correct") != 0)
            continue;
        t->y[row] =
            log(jsonx_num(json_array_get(json_object_get(r, "measurements"), 0), "value", NAN));
        t->best = MIN(t->best, t->y[row]);
        take_samples(t, (size_t)row, json_object_get(json_object_get(r, "times"), "runtimes"));
    }
    json_decref(doc);
    k->n_devices++;
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static size_t load_hub(const char *hub, struct kernel *kernels)
{
    struct dirent **folders, **files;
    int n = scandir(hub, &folders, NULL, by_name);
    size_t count = 0;

    for (int i = 0; i < n && count < KERNELS_MAX; i++) {
        struct kernel *k = &kernels[count];
        char dir[512], path[1024];
        int m;

        snprintf(dir, sizeof(dir), "%s/%s", hub, folders[i]->d_name);
        m = folders[i]->d_name[0] == '.' ? -1 : scandir(dir, &files, NULL, by_name);
        str_copy(k->name, sizeof(k->name), folders[i]->d_name);
        for (int f = 0; f < m && k->n_devices < DEVICES_MAX; f++) {
            snprintf(path, sizeof(path), "%s/%s", dir, files[f]->d_name);
            if (str_has_suffix(path, ".t4.json.gz"))
                add_device(k, path, files[f]->d_name);
        }
        count += k->n_devices > 0;
    }
    if (count == 0)
        die("no kernel/device.t4.json.gz in the hub", NULL);
    return count;
}

/* ---- one search ---- */

struct trace {
    size_t to5, to10; /* evaluations; the cap when not reached */
    double ms;        /* engine's own time, all steps */
    size_t steps;
    size_t origins[ENGINE_ORIGIN_COUNT], cold_arm;
};

static double measure(const struct table_file *t, size_t row, const struct options *o,
                      struct rng *rng)
{
    if (!o->noise || isnan(t->y[row]) || t->n_samples[row] == 0)
        return t->y[row];
    return (double)t->samples[row * SAMPLES_MAX + rng_below(rng, t->n_samples[row])];
}

/* Steps the engine on one table until within 5 % or `cap`; *stop5 false: goes on to the cap. */
static void run(struct engine *e, const struct kernel *k, const struct table_file *t,
                const struct options *o, uint64_t seed, size_t cap, bool stop5, struct trace *out)
{
    const struct clock *clock = clock_system();
    struct rng rng = rng_derive(seed, "noise", 0);
    uint64_t from = clock->mono_ns(clock);
    struct err err;

    memset(out, 0, sizeof(*out));
    out->to5 = out->to10 = cap;
    for (size_t n = 1; n <= cap; n++) {
        struct engine_proposal p;
        size_t row;

        if (engine_propose(e, NULL, &p, &err) != 0)
            break;
        row = (size_t)space_row_of(k->space, p.a);
        out->origins[p.origin]++;
        out->cold_arm += p.arm == ENGINE_ARM_COLD;
        out->steps++;
        if (t->y[row] <= t->best + log(1.10))
            out->to10 = MIN(out->to10, n);
        if (t->y[row] <= t->best + log(1.05))
            out->to5 = MIN(out->to5, n);
        if (stop5 && out->to5 == n)
            break;
        if (engine_observe(e, p.a, measure(t, row, o, &rng), p.arm, &err) != 0)
            die("observe", &err);
    }
    out->ms = (double)(clock->mono_ns(clock) - from) / 1e6;
}

static void add_full(struct engine *e, const struct kernel *k, const struct table_file *t,
                     const struct options *o, uint64_t seed)
{
    const size_t width = space_n(k->space);
    uint16_t *a = xmalloc(t->n * width * sizeof(*a));
    double *y = xmalloc(t->n * sizeof(*y));
    struct rng rng = rng_derive(seed, t->name, 1);
    size_t n = 0;
    struct err err;

    for (size_t i = 0; i < t->n; i++) {
        if (isinf(t->y[i]))
            continue;
        memcpy(a + n * width, space_row(k->space, i), width * sizeof(*a));
        y[n++] = measure(t, i, o, &rng);
    }
    if (engine_add_source(e, t->name, 1.0, n, a, y, &err) != 0)
        die(t->name, &err);
    free(a);
    free(y);
}

/* Records of a cold search of ours on that device. */
static void add_history(struct engine *e, const struct kernel *k, const struct table_file *t,
                        const struct options *o, uint64_t seed)
{
    const size_t width = space_n(k->space);
    struct engine_options options = { .seed = seed + 7777, .cold = true };
    uint16_t a[HISTORY * SPACE_PARAMS_MAX];
    double y[HISTORY];
    struct rng rng = rng_derive(seed, t->name, 2);
    struct engine *cold;
    struct err err;

    if (engine_new(k->space, &options, &cold, &err) != 0)
        die(t->name, &err);
    for (size_t i = 0; i < HISTORY; i++) {
        struct engine_proposal p;

        if (engine_propose(cold, NULL, &p, &err) != 0)
            die(t->name, &err);
        y[i] = measure(t, (size_t)space_row_of(k->space, p.a), o, &rng);
        memcpy(a + i * width, p.a, width * sizeof(*a));
        if (engine_observe(cold, p.a, y[i], p.arm, &err) != 0)
            die(t->name, &err);
    }
    engine_free(cold);
    if (engine_add_source(e, t->name, 1.0, HISTORY, a, y, &err) != 0)
        die(t->name, &err);
}

static void run_random(const struct kernel *k, const struct table_file *t, uint64_t seed,
                       size_t cap, struct trace *out)
{
    uint32_t *order = xmalloc(t->n * sizeof(*order));
    struct rng rng = rng_derive(seed, "random search", 0);

    memset(out, 0, sizeof(*out));
    out->to5 = out->to10 = cap;
    for (size_t i = 0; i < t->n; i++)
        order[i] = (uint32_t)i;
    rng_shuffle(&rng, order, t->n);
    for (size_t n = 1; n <= MIN(cap, t->n) && out->to5 == cap; n++) {
        double y = t->y[order[n - 1]];

        if (y <= t->best + log(1.10))
            out->to10 = MIN(out->to10, n);
        if (y <= t->best + log(1.05))
            out->to5 = n;
    }
    (void)k;
    free(order);
}

static void run_one(const struct kernel *k, size_t device, enum method m, const struct options *o,
                    uint64_t seed, struct trace *out)
{
    struct engine_options options = { .seed = seed, .cold = m == COLD };
    struct engine *e;
    struct err err;

    if (m == RANDOM) {
        run_random(k, &k->devices[device], seed, o->cap, out);
        return;
    }
    if (engine_new(k->space, &options, &e, &err) != 0)
        die(k->name, &err);
    for (size_t d = 0; d < k->n_devices && m != COLD; d++) {
        if (d == device)
            continue;
        if (m == WARM)
            add_full(e, k, &k->devices[d], o, seed);
        else
            add_history(e, k, &k->devices[d], o, seed);
    }
    run(e, k, &k->devices[device], o, seed, o->cap, true, out);
    engine_free(e);
}

/* ---- reporting ---- */

static int compare_sizes(const void *a, const void *b)
{
    size_t x = *(const size_t *)a, y = *(const size_t *)b;

    return (x > y) - (x < y);
}

static double median(size_t *v, size_t n)
{
    qsort(v, n, sizeof(*v), compare_sizes);
    return n % 2 ? (double)v[n / 2] : 0.5 * (double)(v[n / 2 - 1] + v[n / 2]);
}

static double mean(const size_t *v, size_t n)
{
    double sum = 0.0;

    for (size_t i = 0; i < n; i++)
        sum += (double)v[i];
    return sum / (double)n;
}

static void run_method(const struct kernel *kernels, size_t n_kernels, enum method m,
                       const struct options *o)
{
    double g[4] = { 0 }, ms = 0.0;
    size_t pairs = 0, steps = 0, cold_arm = 0;

    for (size_t i = 0; i < n_kernels; i++)
        for (size_t d = 0; d < kernels[i].n_devices; d++) {
            size_t to5[SEEDS_MAX], to10[SEEDS_MAX];
            double v[4];

            for (size_t s = 0; s < o->seeds; s++) {
                struct trace t;

                run_one(&kernels[i], d, m, o, 1000 + s, &t);
                to5[s] = t.to5;
                to10[s] = t.to10;
                ms += t.ms;
                steps += t.steps;
                cold_arm += t.cold_arm;
            }
            v[0] = mean(to5, o->seeds);
            v[1] = median(to5, o->seeds);
            v[2] = mean(to10, o->seeds);
            v[3] = median(to10, o->seeds);
            printf(
                "%-8s %-14s %-6s  5%%: mean %7.1f median %6.1f   10%%: mean %7.1f median %6.1f\n",
                method_names[m], kernels[i].name, kernels[i].devices[d].name, v[0], v[1], v[2],
                v[3]);
            fflush(stdout);
            for (int c = 0; c < 4; c++)
                g[c] += log(v[c]);
            pairs++;
        }
    for (int c = 0; c < 4; c++)
        g[c] = exp(g[c] / (double)pairs);
    printf("%-8s geometric mean over %zu pairs, %zu seeds: 5%%: %.1f (median %.1f)  10%%: %.1f "
           "(median %.1f)  %.2f ms a step, memory-free %.2f\n\n",
           method_names[m], pairs, o->seeds, g[0], g[1], g[2], g[3],
           steps ? ms / (double)steps : 0.0, steps ? (double)cold_arm / (double)steps : 0.0);
}

/* ---- cost per step ---- */

static const char cost_space[] =
    "{\"parameters\":["
    "{\"name\":\"A\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[8,16,32,64,128],\"default\":16},"
    "{\"name\":\"B\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[8,16,32,64,128],\"default\":16},"
    "{\"name\":\"C\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[1,2,4,8],\"default\":1},"
    "{\"name\":\"D\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[1,2,4,8],\"default\":1},"
    "{\"name\":\"E\",\"type\":\"bool\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[false,true],\"default\":false},"
    "{\"name\":\"F\",\"type\":\"bool\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[false,true],\"default\":false},"
    "{\"name\":\"G\",\"type\":\"enum\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[\"x\",\"y\",\"z\"],\"default\":\"x\"},"
    "{\"name\":\"H\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[0,1,2,3],\"default\":0},"
    "{\"name\":\"I\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[1,2,4],\"default\":1},"
    "{\"name\":\"J\",\"type\":\"real\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[0.5,1.0,2.0],\"default\":1.0}],"
    "\"constraints\":[\"A % C == 0\",\"B % D == 0\",\"C * D <= 16\",\"G != 'z' || E\"]}";

/* A smooth bowl with a step: log time of one assignment. */
static double cost_time(const struct space *s, const uint16_t *a)
{
    double y = 0.0;

    for (size_t p = 0; p < space_n(s); p++) {
        double at = (double)a[p] / (double)(space_param(s, p)->n_values - 1);

        y += (at - 0.6) * (at - 0.6) * (1.0 + (double)p * 0.2);
    }
    return y + (a[4] == a[5] ? 0.2 : 0.0);
}

static void run_cost(void)
{
    const struct clock *clock = clock_system();
    enum { STEPS = 100 };
    struct space *s;
    struct err err;
    json_t *doc;

    if (jsonx_parse(cost_space, strlen(cost_space), "cost space", &doc, &err) != 0 ||
        space_parse(doc, "cost space", &s, &err) != 0)
        die("cost", &err);
    json_decref(doc);
    printf("synthetic space: %zu parameters, %.0f valid\n", space_n(s),
           (double)space_count(s, NULL, UINT64_MAX));
    for (size_t sources = 0; sources <= 3; sources += 3) {
        struct engine_options options = { .seed = 1, .cold = sources == 0 };
        size_t step[STEPS];
        struct engine *e;
        uint64_t begin = clock->mono_ns(clock), first;

        if (engine_new(s, &options, &e, &err) != 0)
            die("cost", &err);
        for (size_t k = 0; k < sources; k++) {
            struct rng rng = rng_seeded(k);
            uint16_t a[200 * SPACE_PARAMS_MAX];
            double y[200];

            for (size_t i = 0; i < 200; i++) {
                if (space_sample(s, NULL, &rng, a + i * space_n(s), &err) != 0)
                    die("cost", &err);
                y[i] = cost_time(s, a + i * space_n(s)) * (1.0 + 0.1 * (double)k);
            }
            if (engine_add_source(e, "source", 1.0, 200, a, y, &err) != 0)
                die("cost", &err);
        }
        first = begin;
        for (size_t n = 0; n < STEPS; n++) {
            struct engine_proposal p;
            uint64_t from = clock->mono_ns(clock);

            if (engine_propose(e, NULL, &p, &err) != 0 ||
                engine_observe(e, p.a, cost_time(s, p.a), p.arm, &err) != 0)
                die("cost", &err);
            step[n] = (size_t)(clock->mono_ns(clock) - from);
            if (n == 0)
                first = clock->mono_ns(clock);
        }
        printf("%zu sources: start and first step %.1f ms; steps 1 to %d: ", sources,
               (double)(first - begin) / 1e6, STEPS);
        qsort(step, STEPS, sizeof(*step), compare_sizes);
        printf("median %.3f ms, 90 %% %.3f ms, most %.1f ms\n", (double)step[STEPS / 2] / 1e6,
               (double)step[STEPS * 9 / 10] / 1e6, (double)step[STEPS - 2] / 1e6);
        engine_free(e);
    }
    space_free(s);
}

/* ---- command line ---- */

static void parse_methods(const char *list, struct options *o)
{
    for (int m = 0; m < METHOD_COUNT; m++)
        o->methods[m] = strstr(list, method_names[m]) != NULL;
}

int main(int argc, char **argv)
{
    struct options o = { .seeds = 5, .cap = 1500, .methods = { true, true, true, false } };
    static struct kernel kernels[KERNELS_MAX];
    size_t n;
    uint64_t v;

    for (int i = 1; i < argc; i++) {
        const char *next = i + 1 < argc ? argv[i + 1] : "";

        if (strcmp(argv[i], "--noise") == 0)
            o.noise = true;
        else if (strcmp(argv[i], "--cost") == 0)
            o.cost = true;
        else if (strcmp(argv[i], "--hub") == 0 && ++i < argc)
            o.hub = next;
        else if (strcmp(argv[i], "--methods") == 0 && ++i < argc)
            parse_methods(next, &o);
        else if (strcmp(argv[i], "--seeds") == 0 && str_to_u64(next, &v) && v > 0 &&
                 v <= SEEDS_MAX && ++i < argc)
            o.seeds = v;
        else if (strcmp(argv[i], "--cap") == 0 && str_to_u64(next, &v) && v > 0 && ++i < argc)
            o.cap = v;
        else
            die("usage: engine_bench --hub DIR [--seeds N] [--cap N] [--methods LIST] [--noise] | "
                "--cost",
                NULL);
    }
    if (o.cost)
        run_cost();
    if (o.hub == NULL)
        return 0;
    n = load_hub(o.hub, kernels);
    for (int m = 0; m < METHOD_COUNT; m++)
        if (o.methods[m])
            run_method(kernels, n, (enum method)m, &o);
    return 0;
}
