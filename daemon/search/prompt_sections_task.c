/* SPDX-License-Identifier: Apache-2.0 */
/* Sections made of the brief (brief.h), the language and the answer's schema: none of them changes
 * while a search runs. See prompt_impl.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/artifact.h"
#include "search/prompt_impl.h"
#include "search/strategy.h"

/* A JSON value as it is written in a row; long ones are cut. */
static void add_value(struct buf *row, const json_t *v, size_t max)
{
    CLEANUP(freep)
    char *text =
        json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(6));

    text_line(row, text != NULL ? text : "?", max);
}

static void row_adds(struct buf *row, const char *text)
{
    text_line(row, text, 400);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/*
 * Appends the members of an object, sorted by name: a document that was stored and read again has
 * them in another order. "name<is>value", `comma` between them.
 */
static void add_members(struct buf *row, const json_t *object, const char *is, const char *comma)
{
    CLEANUP(freep) const char **keys = xcalloc(json_object_size(object) + 1, sizeof(*keys));
    const char *key;
    json_t *v;
    size_t n = 0;

    json_object_foreach ((json_t *)object, key, v)
        keys[n++] = key;
    qsort(keys, n, sizeof(*keys), by_text);
    for (size_t i = 0; i < n; i++) {
        row_adds(row, i > 0 ? comma : "");
        row_adds(row, keys[i]);
        row_adds(row, is);
        add_value(row, json_object_get(object, keys[i]), 40);
    }
}

/* The texts of a list, with commas. */
static void add_texts(struct buf *row, const json_t *list)
{
    const json_t *v;
    size_t i;

    json_array_foreach (list, i, v) {
        if (i == 64)
            break;
        row_adds(row, i > 0 ? ", " : "");
        row_adds(row, json_is_string(v) ? json_string_value(v) : "?");
    }
}

/* "- q: bf16 [batch_size, 32]", and the tolerance of an output. */
static void tensor_row(struct buf *row, const json_t *t)
{
    const json_t *tolerance = json_object_get(t, "tolerance"), *v;
    size_t i;

    row_adds(row, "- ");
    row_adds(row, jsonx_str(t, "name", "?"));
    row_adds(row, ": ");
    row_adds(row, jsonx_str(t, "dtype", "?"));
    row_adds(row, " [");
    json_array_foreach (json_object_get(t, "shape"), i, v) {
        row_adds(row, i > 0 ? ", " : "");
        if (json_is_string(v))
            row_adds(row, json_string_value(v));
        else
            add_value(row, v, 40);
    }
    row_adds(row, "]");
    if (json_array_size(json_object_get(t, "shape")) == 0)
        row_adds(row, " (scalar)");
    if (json_object_size(tolerance) > 0) {
        row_adds(row, "; tolerance ");
        add_members(row, tolerance, " ", ", ");
    }
}

/* "- b1: batch_size 1, num_pages 1400; params {...}" */
static void workload_row(struct buf *row, const json_t *w)
{
    const json_t *axes = json_object_get(w, "axes"), *params = json_object_get(w, "params");

    row_adds(row, "- ");
    row_adds(row, jsonx_str(w, "name", "?"));
    row_adds(row, json_object_size(axes) > 0 ? ": " : "");
    add_members(row, axes, " ", ", ");
    if (json_object_size(params) > 0) {
        row_adds(row, "; ");
        add_value(row, params, 1200);
    }
}

/* A list under a heading: whole rows as long as they fit, then how many do not. */
static void add_list(struct sheet *s, const char *heading, const json_t *list,
                     void (*make)(struct buf *row, const json_t *item))
{
    size_t i, n = json_array_size(list);
    struct sheet part = { .out = s->out, .end = s->end > 60 ? s->end - 60 : 0 };
    const json_t *item;

    if (n == 0 || !sheet_add(&part, heading))
        return;
    json_array_foreach (list, i, item) {
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

        make(&row, item);
        if (!sheet_addf(&part, "%s\n", buf_str(&row)))
            break;
    }
    if (i < n)
        sheet_addf(s, "(%zu more rows are left out)\n", n - i);
}

static void add_axes(struct sheet *s, const json_t *task)
{
    CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };

    add_members(&row, json_object_get(task, "constants"), " = ", ", ");
    sheet_addf(s, "Constant axes: %s\n", buf_str(&row)[0] ? buf_str(&row) : "none");
    buf_clear(&row);
    add_texts(&row, json_object_get(task, "variables"));
    sheet_addf(s, "Variable axes, known at run time alone: %s\n",
               buf_str(&row)[0] ? buf_str(&row) : "none");
}

int section_task(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const json_t *t = json_object_get(v->brief, "task");
    struct sheet s = sheet_of(out, budget), workloads;
    const char *guide = jsonx_str(t, "guide", "");
    CLEANUP(buf_release) struct buf summary = { .max = TEXT_ROW_MAX };
    CLEANUP(freep) char *heading = NULL;

    (void)err;
    if (t == NULL)
        return 0;
    text_line(&summary, jsonx_str(t, "summary", ""), 2000);
    sheet_addf(&s, "%s (family %s): %s\n", jsonx_str(t, "definition", "?"),
               jsonx_str(t, "family", "?"), buf_str(&summary));
    add_axes(&s, t);
    add_list(&s, "Inputs, in this order:\n", json_object_get(t, "inputs"), tensor_row);
    add_list(&s, "Outputs, in this order:\n", json_object_get(t, "outputs"), tensor_row);
    sheet_addf(
        &s,
        "An element passes within atol + rtol |expected| (what is not given is 0); tensor_rel and "
        "row_rel bound the "
        "relative error of a whole tensor and of each row of its last axis (Euclidean norm).\n"
        "Scratch: %lld bytes\n",
        jsonx_int(t, "scratch_bytes", 0));
    workloads = sheet_share(&s, guide[0] ? 0.5 : 1);
    if (asprintf(&heading,
                 "Workloads of the set %s, all of them timed (names, variable axes, parameters of "
                 "the input generator, which the program does not see):\n",
                 jsonx_str(t, "set", "?")) < 0)
        abort();
    add_list(&workloads, heading, json_object_get(t, "workloads"), workload_row);
    if (guide[0] && sheet_left(&s) > TEXT_FENCE_MIN + 60) {
        sheet_add(&s, "\nThe task's own description:\n");
        sheet_fence(&s, "md", guide, false);
    }
    return 0;
}

static int fenced_text(const char *language, const char *text, size_t budget, struct buf *out)
{
    struct sheet s = sheet_of(out, budget);

    if (text[0])
        sheet_fence(&s, language, text, false);
    return 0;
}

int section_reference(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const json_t *t = json_object_get(v->brief, "task");

    (void)err;
    return fenced_text("c", jsonx_str(t, "reference", ""), budget, out);
}

/* Texts of ours: whole lines within the budget. */
static int plain_text(const char *text, size_t budget, struct buf *out)
{
    struct sheet s = sheet_of(out, budget);
    CLEANUP(buf_release) struct buf block = { .max = 4 * TEXT_ROW_MAX };

    text_block(&block, text, "", MIN(budget, 2 * TEXT_ROW_MAX));
    sheet_add(&s, buf_str(&block));
    return 0;
}

int section_objective(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    (void)err;
    return plain_text(jsonx_str(v->brief, "objective", ""), budget, out);
}

int section_abi(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const json_t *build = json_object_get(v->brief, "build");
    const char *command = jsonx_str(build, "command", "");
    size_t own = strlen(command) + 80;

    (void)err;
    if (plain_text(jsonx_str(v->brief, "abi", ""), budget > own ? budget - own : 0, out) != 0)
        return -1;
    if (command[0]) {
        struct sheet s = sheet_of(out, own);

        sheet_addf(&s, "Compiled as: %s\n", command);
    }
    return 0;
}

/* ---- The device ---- */

struct device_row {
    const char *member, *form; /* one %s */
};

static const struct device_row device_rows[] = {
    { "model", "Model: %s\n" },
    { "class", "Class: %s\n" },
    { "arch", "Architecture: %s\n" },
    { "march", "Compiled for: %s\n" },
    { "cores", "Cores: %s\n" },
    { "threads", "Hardware threads: %s\n" },
    { "sms", "Multiprocessors: %s\n" },
    { "clock_mhz", "Clock, MHz: %s\n" },
    { "cache_bytes", "Caches, bytes: %s\n" },
    { "memory_bytes", "Memory, bytes: %s\n" },
    { "read_gbs", "Measured, reading memory, all cores: %s GB/s\n" },
    { "copy_gbs", "Measured, copying memory, all cores: %s GB/s\n" },
    { "fma_gflops", "Measured, multiply-adds in f32, all cores: %s GFLOP/s\n" },
    { "bf16_gflops", "Measured, bf16 dot-product instructions, all cores: %s GFLOP/s\n" },
    { "gflops", "Peak by type, GFLOP/s: %s\n" },
    { "features", "Instruction sets that may be used: %s\n" },
    { "toolchain", "Toolchain: %s\n" },
    { "driver", "Driver: %s\n" },
    { "limits", "Limits: %s\n" },
};

/* Compilers' names of processors with the newest instruction set that tells them from older ones. A
 * virtual machine can hide so much of its processor that `native` falls back to an older name. */
static bool has_word(const char *words, const char *word)
{
    size_t len = strlen(word);

    for (const char *at = words; len > 0 && (at = strstr(at, word)) != NULL; at += len)
        if ((at == words || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0'))
            return true;
    return false;
}

static bool features_say_more(const json_t *device)
{
#define AMX_NAMES "sapphirerapids emeraldrapids graniterapids graniterapids-d diamondrapids"
#define BF16_NAMES AMX_NAMES " cooperlake znver4 znver5"
    static const struct {
        const char *feature, *names;
    } rows[] = {
        { "amx_tile", AMX_NAMES },
        { "avx512_fp16", AMX_NAMES },
        { "avx512_bf16", BF16_NAMES },
        { "avx512f", BF16_NAMES " knl knm skylake-avx512 cannonlake cascadelake icelake-client "
                                "icelake-server tigerlake rocketlake x86-64-v4" },
        { "avx2", BF16_NAMES " skylake-avx512 cannonlake cascadelake icelake-client "
                             "icelake-server tigerlake rocketlake x86-64-v4 x86-64-v3 haswell "
                             "broadwell skylake alderlake raptorlake meteorlake arrowlake "
                             "lunarlake sierraforest knl knm bdver4 znver1 znver2 znver3" },
    };
    const char *arch = jsonx_str(device, "arch", "");
    const json_t *f;
    size_t i;

    json_array_foreach (json_object_get(device, "features"), i, f)
        for (size_t k = 0; json_is_string(f) && arch[0] && k < ARRAY_LEN(rows); k++)
            if (strcmp(rows[k].feature, json_string_value(f)) == 0 &&
                !has_word(rows[k].names, arch))
                return true;
    return false;
}

int section_device(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const json_t *d = json_object_get(v->brief, "device");
    struct sheet s = sheet_of(out, budget);
    double read = jsonx_num(d, "read_gbs", 0), fma = jsonx_num(d, "fma_gflops", 0);

    (void)err;
    for (size_t i = 0; i < ARRAY_LEN(device_rows); i++) {
        const json_t *value = json_object_get(d, device_rows[i].member);
        CLEANUP(buf_release) struct buf row = { .max = TEXT_ROW_MAX };
        char form[160];
        char *at;

        if (value == NULL)
            continue;
        if (json_is_string(value))
            text_line(&row, json_string_value(value), 300);
        else if (json_is_object(value))
            add_members(&row, value, " ", ", ");
        else if (json_is_array(value))
            add_texts(&row, value);
        else
            add_value(&row, value, 100);
        snprintf(form, sizeof(form), "%s", device_rows[i].form);
        at = strstr(form, "%s");
        *at = '\0';
        sheet_addf(&s, "%s%s%s", form, buf_str(&row), at + 2);
        if (strcmp(device_rows[i].member, "arch") == 0 && features_say_more(d))
            sheet_add(&s, "(That is the compiler's name, which does not stand for all of the "
                          "instruction sets below: the list of instruction sets counts.)\n");
    }
    if (read > 0 && fma > 0)
        sheet_addf(
            &s,
            "Balance: %.1f f32 operations per byte read from memory; a workload with fewer is "
            "bound by memory, one with more by arithmetic.\n",
            fma / read);
    if (read > 0 || fma > 0)
        sheet_add(&s, "Measured rates are what a simple probe reached: a program can exceed them, "
                      "so a floor can be undercut and a share of the roofline can be above 100 %. "
                      "Such a share is of absolute times; the objective is a ratio of times "
                      "measured side by side.\n");
    return 0;
}

/* ---- Forms of answers ---- */

int section_grammar(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    const json_t *build = json_object_get(v->brief, "build");
    const char *language = jsonx_str(build, "language", v->s->scope.language);
    /* Independent samples have no program to change. It is the strategy that counts, not the call:
     * the prefix is the same for all calls of a search. */
    const char *text = artifact_grammar(language, v->s->strategy->first != CALL_SAMPLE);

    (void)err;
    if (text == NULL)
        return 0;
    return plain_text(text, budget, out);
}

int section_schema(const struct prompt_view *v, size_t budget, struct buf *out, struct err *err)
{
    CLEANUP(freep) char *text = NULL;
    struct sheet s;

    (void)budget, (void)err;
    if (v->schema == NULL)
        return 0;
    text = json_dumps(v->schema, JSON_COMPACT);
    if (text == NULL)
        abort();
    s = sheet_of(out, 2 * strlen(text) + 64);
    sheet_fence(&s, "json", text, false);
    return 0;
}
