/* SPDX-License-Identifier: Apache-2.0 */
/* See brief.h. Texts are shortened by whole lines, and say so. */
#include "search/brief.h"

#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/pack.h"
#include "search/redact.h"

enum { GUIDE_MAX = 32 << 10, REFERENCE_MAX = 20 << 10, WORKLOADS_MAX = 24 << 10 };

static const char objective_text[] =
    "The objective is the geometric mean, over the workloads listed for the task, of the "
    "baseline's "
    "time divided by the candidate's time. 1.00x is as fast as the baseline, 2.00x takes half its "
    "time; higher is better. Every workload counts alike, whatever its size: a factor gained on a "
    "short one is worth as much as on a long one. The smallest ratio of any workload is reported "
    "beside it (worst): a program that buys its mean with one workload far below the others is a "
    "weak result.\n"
    "Only a program that is right on every workload has an objective. Any failure (build, wrong or "
    "non-finite value, output not written, crash, time-out, refused call, broken rule) leaves it "
    "without one, however fast it is.\n"
    "Times are those of one call of ks_kernel, measured from outside, baseline and candidate in "
    "turns on equal contents, several pairs per workload. All lines of inputs, outputs and scratch "
    "are flushed from the caches before each sample, so every call reads its inputs from memory. "
    "Contents change from call to call: nothing computed from them can be kept for the next.\n"
    "Differences of a few tenths of a percent are noise; a challenger replaces the best only after "
    "a direct comparison with it that leaves no doubt.\n";

static const char abi_c[] =
    "A program is one C source that includes \"ks_task.h\" (which has stddef.h and stdint.h) and "
    "defines\n"
    "\n"
    "    int ks_kernel(const struct ks_call *call); /* 0; anything else: the call was refused */\n"
    "\n"
    "    enum ks_dtype { KS_F32, KS_F64, KS_F16, KS_BF16, KS_F8_E4M3, KS_I32, KS_I64, KS_U8 };\n"
    "    struct ks_tensor { const char *name; enum ks_dtype dtype; int rank; int64_t shape[6]; "
    "void *data; };\n"
    "    struct ks_axis { const char *name; int64_t value; };\n"
    "    struct ks_call {\n"
    "        uint32_t abi;\n"
    "        int n_inputs, n_outputs, n_axes;\n"
    "        const struct ks_tensor *inputs, *outputs; /* in the order of the task's lists */\n"
    "        const struct ks_axis *axes;               /* constants included */\n"
    "        int threads;                              /* how many the call may use, itself one "
    "*/\n"
    "        void (*parallel)(void *pool, void (*fn)(void *ctx, int i), void *ctx, int n);\n"
    "        void *pool, *scratch;\n"
    "        size_t scratch_bytes;\n"
    "    };\n"
    "\n"
    "Tensors are row-major and contiguous, the last axis fastest. data starts at a multiple of 64 "
    "bytes, at another address in each call. bf16 is uint16_t (upper half of a binary32), f16 "
    "uint16_t, f8_e4m3 uint8_t. A scalar input has rank 0 and one element.\n"
    "call->parallel(call->pool, fn, ctx, n) runs fn(ctx, 0) ... fn(ctx, n - 1) on call->threads "
    "threads that exist already (usually one for each hardware thread of the device) and returns "
    "when "
    "the last has ended. Call it from the thread that "
    "runs ks_kernel, never from inside fn; it may be called several times. The pool hands out "
    "indices one by one, so many small indices balance themselves and a few large ones cost less.\n"
    "call->scratch is call->scratch_bytes bytes (the task's scratch_bytes) at a multiple of 64, "
    "undefined on entry and not kept. malloc and free work and cost time.\n"
    "Macros of the build: KS_<AXIS> for each constant axis (upper case; num_kv_heads gives "
    "KS_NUM_KV_HEADS), and each declared tunable by its name. An enumerated tunable MODE with "
    "values "
    "a and b is the index of its value, with MODE_a=0 and MODE_b=1 beside it.\n"
    "Helpers in ks_task.h (static inline): ks_bf16_to_f32, ks_f32_to_bf16, ks_e4m3_to_f32, "
    "ks_f32_to_e4m3 (rounding to nearest even), ks_axis_value(axes, n, name, fallback).\n"
    "Rules that are checked in every call: inputs are not written; every element of every output "
    "is "
    "written (outputs are filled with NaN before the call); nothing outside of the tensors is "
    "written; when ks_kernel returns, all work is done and all threads it made have ended; "
    "variable "
    "axes differ from workload to workload and are read from shapes or axes; nothing computed "
    "from the inputs is kept for the next call. Memory that the formula does not refer to may hold "
    "NaN.\n"
    "Two random input sets per workload are checked against a reference in double precision, and "
    "every timed call is compared with the baseline's output. Reducing precision below what the "
    "tolerance allows, skipping work that the data seem not to need, or telling timed calls from "
    "checked ones fails.\n"
    "The sandbox: libc, libm and pthread alone, no other libraries; no files, no network, no "
    "/proc, "
    "no processes, no signals or timers, no changes of priority or clocks; address space and "
    "processor time are limited. The compiler's intrinsics, vector extensions, builtins and inline "
    "assembly are allowed as far as the device has the instructions.\n";

/* ---- Texts within a budget ---- */

/* The first whole lines of a text, at most `max` bytes, and how many lines are left out. Owned. */
static char *head_of(const char *text, size_t len, size_t max)
{
    size_t at = 0, lines = 0;

    if (len <= max)
        return str_printf("%.*s", (int)len, text);
    while (at < len) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t next = end ? (size_t)(end - text) + 1 : len;

        if (next > max - 40)
            break;
        at = next;
    }
    for (size_t i = at; i < len; i++)
        lines += text[i] == '\n' || i + 1 == len;
    return str_printf("%.*s... %zu more lines are left out\n", (int)at, text, lines);
}

/*
 * What of a module says how the answer is computed: from its heading "Reference" (or the function)
 * to its cost. Modules without such headings are taken from their beginning.
 */
static char *reference_text(const struct pack_source *module)
{
    const char *from, *to;

    if (module->text == NULL)
        return xstrdup("");
    from = strstr(module->text, "/* ---- Reference");
    if (from == NULL)
        from = strstr(module->text, "static int reference(");
    if (from == NULL)
        from = module->text;
    to = strstr(from, "/* ---- Cost");
    if (to == NULL)
        to = strstr(from, "static void cost(");
    if (to == NULL)
        to = from + strlen(from);
    while (to > from && (to[-1] == '\n' || to[-1] == ' '))
        to--;
    return head_of(from, (size_t)(to - from), REFERENCE_MAX);
}

/* A text as JSON whatever its bytes are: lines that are not UTF-8 are shown with escapes. */
static json_t *text_json(const char *text)
{
    json_t *j = json_string(text);
    char *shown;
    size_t len = strlen(text);

    if (j != NULL)
        return j;
    shown = xmalloc(4 * len + 4);
    str_visible(text, len, shown, 4 * len + 4);
    j = json_string(shown);
    free(shown);
    return j != NULL ? j : json_string("");
}

/* ---- The task ---- */

static json_t *constants_json(const struct pack_definition *d)
{
    json_t *o = json_object();

    for (size_t i = 0; i < d->n_axes; i++)
        json_object_set_new(o, d->axes[i].name, json_integer((json_int_t)d->axes[i].value));
    return o;
}

static json_t *variables_json(const struct pack *p)
{
    json_t *list = json_array();

    for (size_t i = 0; i < p->n_var_axes; i++)
        json_array_append_new(list, json_string(p->var_axes[i]));
    return list;
}

/* The depth of a heading, 0 for another line; *title is its text. */
static size_t heading_of(const char *line, size_t len, const char **title, size_t *title_len)
{
    size_t depth = 0;

    while (depth < len && line[depth] == '#')
        depth++;
    if (depth == 0 || depth > 6 || depth == len || line[depth] != ' ')
        return 0;
    *title = line + depth;
    *title_len = len - depth;
    while (*title_len > 0 && (*title)[0] == ' ')
        (*title)++, (*title_len)--;
    while (*title_len > 0 && strchr(" #\r", (*title)[*title_len - 1]) != NULL)
        (*title_len)--;
    return depth;
}

/*
 * A README without its section "Kernels", which is about the baseline and the built-in template: a
 * model that reads the template's decisions writes the template again. Whole lines; fences are not
 * looked into. Owned.
 */
static char *guide_text(const char *text)
{
    static const char skipped[] = "Kernels";
    CLEANUP(buf_release) struct buf out = { .max = strlen(text) + 1 };
    size_t within = 0; /* depth of the heading that is left out; 0: none */
    bool fence = false;

    while (*text) {
        size_t len = strcspn(text, "\n"), whole = len + (text[len] == '\n'), title_len, depth;
        const char *title;

        fence ^= str_has_prefix(text, "```");
        depth = fence ? 0 : heading_of(text, len, &title, &title_len);
        if (depth > 0 && (within == 0 || depth <= within))
            within = title_len == strlen(skipped) && strncasecmp(title, skipped, title_len) == 0
                         ? depth
                         : 0;
        if (within == 0)
            buf_addf(&out, "%.*s", (int)whole, text);
        text += whole;
    }
    return xstrdup(buf_str(&out));
}

/* Rows as long as they fit; the rest by name alone, so that every name is known. */
static json_t *workloads_json(const struct pack_set *set)
{
    json_t *list = json_array();
    size_t bytes = 0;

    for (size_t i = 0; i < json_array_size(set->rows); i++) {
        json_t *row = json_deep_copy(json_array_get(set->rows, i));
        CLEANUP(freep) char *text = jsonx_canonical(row);

        json_object_del(row, "provenance");
        bytes += text != NULL ? strlen(text) : 0;
        if (bytes > WORKLOADS_MAX)
            json_object_del(row, "params");
        if (bytes > 2 * WORKLOADS_MAX)
            json_object_del(row, "axes");
        json_array_append_new(list, row);
    }
    return list;
}

static json_t *copy_of(const json_t *o, const char *key)
{
    json_t *v = json_object_get(o, key);

    return v != NULL ? json_deep_copy(v) : json_null();
}

static json_t *task_json(const struct pack_definition *d, const struct pack_set *set)
{
    const struct pack *p = d->pack;
    CLEANUP(freep) char *readme = guide_text(p->guide);
    CLEANUP(freep) char *guide = head_of(readme, strlen(readme), GUIDE_MAX);
    CLEANUP(freep) char *reference = reference_text(&p->module);
    json_t *o = json_object();

    json_object_set_new(o, "definition", json_string(d->name));
    json_object_set_new(o, "family", json_string(p->family));
    json_object_set_new(o, "summary", text_json(p->summary));
    json_object_set_new(o, "language", json_string(p->language));
    json_object_set_new(o, "dtype", json_string(p->dtype));
    json_object_set_new(o, "bottleneck", json_string(p->bottleneck));
    json_object_set_new(o, "constants", constants_json(d));
    json_object_set_new(o, "variables", variables_json(p));
    json_object_set_new(o, "inputs", copy_of(p->json, "inputs"));
    json_object_set_new(o, "outputs", copy_of(p->json, "outputs"));
    json_object_set_new(o, "scratch_bytes",
                        json_integer((json_int_t)jsonx_int(p->json, "scratch_bytes", 0)));
    json_object_set_new(o, "set", json_string(set->name));
    json_object_set_new(o, "workloads", workloads_json(set));
    json_object_set_new(o, "guide", text_json(guide));
    json_object_set_new(o, "reference", text_json(reference));
    return o;
}

/* ---- The device ---- */

/* What a kernel's author can use; names, dates and places of machines are not among it. */
static const char *const device_members[] = {
    "kind",       "class",       "model",     "arch",        "march",        "cores",    "threads",
    "smt",        "sms",         "clock_mhz", "cache_bytes", "memory_bytes", "read_gbs", "copy_gbs",
    "fma_gflops", "bf16_gflops", "gflops",    "features",    "toolchain",    "driver",   "limits",
};

static json_t *device_json(const json_t *device)
{
    json_t *o = json_object();

    for (size_t i = 0; i < ARRAY_LEN(device_members); i++) {
        json_t *v = json_object_get(device, device_members[i]);

        if (json_is_string(v)) {
            CLEANUP(freep) char *clean = redact_paths(json_string_value(v));

            json_object_set_new(o, device_members[i], json_string(clean));
        } else if (v != NULL && !json_is_null(v)) {
            json_object_set_new(o, device_members[i], json_deep_copy(v));
        }
    }
    return o;
}

static json_t *build_json(const struct pack *p, const json_t *device)
{
    json_t *o = json_object();
    CLEANUP(freep) char *command = NULL;

    json_object_set_new(o, "language", json_string(p->language));
    if (strcmp(p->language, "c") == 0) {
        command = str_printf("cc -O3 -std=gnu17 -march=%s -shared -fPIC "
                             "-fno-semantic-interposition -Wall -Wextra source.c -lm -pthread",
                             jsonx_str(device, "march", "native"));
        json_object_set_new(o, "command", json_string(command));
    }
    json_object_set_new(o, "toolchain", json_string(jsonx_str(device, "toolchain", "")));
    return o;
}

json_t *brief_make(const struct pack_definition *def, const struct pack_set *set,
                   const json_t *device)
{
    json_t *o = json_object();

    json_object_set_new(o, "format", json_integer(1));
    json_object_set_new(o, "task", task_json(def, set));
    json_object_set_new(o, "objective", json_string(objective_text));
    if (strcmp(def->pack->language, "c") == 0)
        json_object_set_new(o, "abi", json_string(abi_c));
    json_object_set_new(o, "build", build_json(def->pack, device));
    json_object_set_new(o, "device", device_json(device));
    return o;
}
