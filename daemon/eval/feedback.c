/* SPDX-License-Identifier: Apache-2.0 */
/* Records condensed for proposers; see feedback.h. */
#include "eval/feedback.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/result.h"

enum { ROW_MAX = 640, SAMPLES_MAX = 4096 };

/* ---- The document ---- */

static void set_number(json_t *o, const char *key, double v)
{
    if (isfinite(v))
        json_object_set_new(o, key, json_real(v));
}

/* Four digits are what a measurement has, and what a reader wants. */
static double rounded(double v)
{
    double unit;

    if (!isfinite(v) || v == 0)
        return v;
    unit = pow(10, floor(log10(fabs(v))) - 3);
    return round(v / unit) * unit;
}

static void copy_number(json_t *to, const json_t *from, const char *key)
{
    set_number(to, key, rounded(jsonx_num(from, key, NAN)));
}

static void copy_member(json_t *to, const json_t *from, const char *key)
{
    json_t *v = json_object_get(from, key);

    if (v != NULL && !json_is_null(v))
        json_object_set(to, key, v);
}

/* The first entries of a list; what the record itself left out counts too. */
static void copy_list(json_t *to, const json_t *from, const char *key)
{
    CLEANUP(freep) char *left_out = str_printf("%s_left_out", key);
    const json_t *list = json_object_get(from, key);
    size_t n = json_array_size(list);
    json_t *kept;
    long long missing;

    if (list == NULL)
        return;
    kept = json_array();
    for (size_t i = 0; i < MIN(n, (size_t)FEEDBACK_LIST_MAX); i++)
        json_array_append(kept, json_array_get(list, i));
    missing = (long long)(n - json_array_size(kept)) + jsonx_int(from, left_out, 0);
    json_object_set_new(to, key, kept);
    if (missing > 0)
        json_object_set_new(to, left_out, json_integer(missing));
}

/* Median and robust relative spread of samples in nanoseconds; NaN without any. */
static double median_of(const json_t *samples, double *spread)
{
    double v[SAMPLES_MAX], median;
    size_t n = MIN(json_array_size(samples), (size_t)SAMPLES_MAX);

    for (size_t i = 0; i < n; i++)
        v[i] = json_number_value(json_array_get(samples, i));
    median = eval_median(v, n);
    for (size_t i = 0; i < n; i++)
        v[i] = fabs(v[i] - median);
    *spread = median > 0 ? 1.4826 * eval_median(v, n) / median : NAN;
    return median;
}

static double add_time(json_t *row, const json_t *workload, const char *who)
{
    CLEANUP(freep) char *samples = str_printf("%s_ns", who);
    CLEANUP(freep) char *time = str_printf("%s_us", who);
    CLEANUP(freep) char *spread_name = str_printf("%s_spread", who);
    double spread, ns = median_of(json_object_get(workload, samples), &spread);

    set_number(row, time, rounded(ns / 1e3));
    set_number(row, spread_name, rounded(spread));
    return ns;
}

/* Where the candidate stands between the device's limits: bytes and flops per nanosecond are GB/s
 * and GFLOP/s. */
static void add_roofline(json_t *row, const json_t *workload, const json_t *device, double ns)
{
    double bytes = jsonx_num(workload, "bytes", NAN), flops = jsonx_num(workload, "flops", NAN);
    double read_gbs = jsonx_num(device, "read_gbs", 0), fma = jsonx_num(device, "fma_gflops", 0);
    double memory_ns = read_gbs > 0 ? bytes / read_gbs : NAN;
    double compute_ns = fma > 0 ? flops / fma : NAN;

    set_number(row, "gbs", rounded(bytes / ns));
    set_number(row, "gflops", rounded(flops / ns));
    copy_number(row, workload, "roofline");
    if (!isfinite(memory_ns) && !isfinite(compute_ns))
        return;
    set_number(row, "floor_us", rounded(fmax(memory_ns, compute_ns) / 1e3));
    json_object_set_new(row, "bound",
                        json_string(!(memory_ns < compute_ns) ? "memory" : "compute"));
    set_number(row, "roofline", rounded(fmax(memory_ns, compute_ns) / ns));
}

static json_t *counters_of(const json_t *workload)
{
    json_t *counters = json_object(), *v;
    const char *key;

    json_object_foreach (json_object_get(workload, "counters"), key, v)
        set_number(counters, key, rounded(json_number_value(v)));
    return counters;
}

static json_t *row_of(const json_t *workload, const json_t *device)
{
    json_t *row = json_object(), *counters = counters_of(workload);
    double ns;

    copy_member(row, workload, "name");
    copy_member(row, workload, "status");
    if (*jsonx_str(workload, "message", ""))
        copy_member(row, workload, "message");
    copy_number(row, workload, "ratio");
    add_time(row, workload, "baseline");
    ns = add_time(row, workload, "candidate");
    if (ns > 0)
        add_roofline(row, workload, device, ns);
    if (json_object_size(counters) > 0)
        json_object_set(row, "counters", counters);
    json_decref(counters);
    return row;
}

/* The order of interest: failures, then the slowest beside the baseline. */
static double rank_of(const json_t *row)
{
    return strcmp(jsonx_str(row, "status", "ok"), "ok") != 0 ? -1 : jsonx_num(row, "ratio", 0);
}

struct ranked {
    double rank;
    size_t index;
};

static int by_rank(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;

    if (x->rank != y->rank)
        return (x->rank > y->rank) - (x->rank < y->rank);
    return (x->index > y->index) - (x->index < y->index);
}

/* Places of the rows in the order of interest; owned. */
static struct ranked *ranks_of(const json_t *rows)
{
    size_t n = json_array_size(rows);
    struct ranked *r = xcalloc(n ? n : 1, sizeof(*r));

    for (size_t i = 0; i < n; i++)
        r[i] = (struct ranked){ rank_of(json_array_get(rows, i)), i };
    qsort(r, n, sizeof(*r), by_rank);
    return r;
}

static void add_workloads(json_t *doc, const json_t *record, const json_t *device)
{
    const json_t *workloads = json_object_get(record, "workloads");
    size_t n = json_array_size(workloads);
    CLEANUP(freep) struct ranked *ranks = ranks_of(workloads);
    CLEANUP(freep) bool *kept = xcalloc(n ? n : 1, sizeof(bool));
    json_t *rows = json_array();

    for (size_t i = 0; i < MIN(n, (size_t)FEEDBACK_WORKLOADS_MAX); i++)
        kept[ranks[i].index] = true;
    for (size_t i = 0; i < n; i++)
        if (kept[i])
            json_array_append_new(rows, row_of(json_array_get(workloads, i), device));
    json_object_set_new(doc, "workloads", rows);
    if (n > FEEDBACK_WORKLOADS_MAX)
        json_object_set_new(doc, "workloads_left_out",
                            json_integer((json_int_t)(n - FEEDBACK_WORKLOADS_MAX)));
}

json_t *feedback_of(const json_t *record, const json_t *device)
{
    static const char *const numbers[] = { "objective", "ci_low", "ci_high", "worst", "roofline" };
    const json_t *build = json_object_get(record, "build");
    json_t *doc = json_object();

    copy_member(doc, record, "status");
    if (*jsonx_str(record, "message", ""))
        copy_member(doc, record, "message");
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        copy_number(doc, record, numbers[i]);
    add_workloads(doc, record, device);
    copy_list(doc, build, "diagnostics");
    copy_list(doc, build, "vectorised");
    copy_list(doc, build, "missed");
    copy_member(doc, build, "vector_note");
    copy_member(doc, build, "size");
    copy_member(doc, build, "cached");
    set_number(doc, "build_ms", rounded(jsonx_num(build, "ms", NAN)));
    copy_member(doc, json_object_get(record, "env"), "counters_unavailable");
    return doc;
}

/* ---- The text ---- */

/* Text under a budget. Invariant: `end` bytes at most, whole rows only. */
struct page {
    struct buf *out;
    size_t end; /* of out->len */
    int failed;
    struct err *err;
};

static size_t room(const struct page *p)
{
    return p->end - p->out->len;
}

/* Adds a row if it and `reserve` bytes more fit. */
static bool add_row(struct page *p, size_t reserve, const char *row)
{
    size_t len = strlen(row);

    if (p->failed || len + reserve > room(p))
        return false;
    p->failed = buf_add(p->out, row, len, p->err) != 0;
    return !p->failed;
}

enum { MORE_ROOM = 48 }; /* what "  (... more ...)" may take */

static void add_more(struct page *p, long long n)
{
    char row[MORE_ROOM];

    if (n > 0) {
        snprintf(row, sizeof(row), "  (%lld more left out)\n", n);
        add_row(p, 0, row);
    }
}

/* Writes row `i` of a list into `row` as one line. */
typedef void row_fn(const json_t *list, size_t i, char *row, size_t size);

/*
 * A title, then rows while they fit into `share` of what is left; a list whose first row does not
 * fit is told of by its title and count alone, if that fits.
 */
static void add_section(struct page *p, const char *title, const json_t *list, size_t n,
                        long long missing, double share, row_fn *fn)
{
    size_t end = p->end, done = 0;
    char row[ROW_MAX];

    if (n == 0)
        return;
    p->end = p->out->len + (size_t)(share * (double)room(p));
    snprintf(row, sizeof(row), "%s\n", title);
    if (add_row(p, MORE_ROOM, row)) {
        for (; done < n; done++) {
            fn(list, done, row, sizeof(row));
            if (!add_row(p, MORE_ROOM, row))
                break;
        }
        add_more(p, (long long)(n - done) + missing);
    }
    p->end = end;
}

/* A text made visible for one line. */
struct shown {
    char s[420];
};

static const char *show(const json_t *o, const char *key, struct shown *out)
{
    const char *s = jsonx_str(o, key, "");

    return str_visible(s, strlen(s), out->s, sizeof(out->s));
}

/* "12.3 us", "-" when unknown. */
static const char *time_cell(const json_t *row, const char *key, char *out, size_t size)
{
    double us = jsonx_num(row, key, NAN);

    if (!isfinite(us))
        snprintf(out, size, "-");
    else if (us >= 1e4)
        snprintf(out, size, "%.1f ms", us / 1e3);
    else
        snprintf(out, size, us >= 100 ? "%.0f us" : "%.1f us", us);
    return out;
}

static const char *cell(const json_t *row, const char *key, double scale, const char *unit,
                        char *out, size_t size)
{
    double v = jsonx_num(row, key, NAN) * scale;

    if (!isfinite(v))
        snprintf(out, size, "-");
    else
        snprintf(out, size, v >= 100 || scale != 1 ? "%.0f%s" : "%.2f%s", v, unit);
    return out;
}

static void workload_row(const json_t *list, size_t i, char *row, size_t size)
{
    const json_t *w = json_array_get(list, i);
    const char *status = jsonx_str(w, "status", "?");
    struct shown name, other;
    char t[3][32], c[6][32];

    show(w, "name", &name);
    if (strcmp(status, "ok") != 0) {
        str_visible(status, strlen(status), c[0], sizeof(c[0]));
        snprintf(row, size, "  %.48s: %s %.400s\n", name.s, c[0], show(w, "message", &other));
        return;
    }
    snprintf(row, size,
             "  %.48s: %s; %s (+-%s), baseline %s (+-%s); floor %s, %s of it, %s-bound; %s GB/s, "
             "%s GFLOP/s\n",
             name.s, cell(w, "ratio", 1, "x", c[0], sizeof(c[0])),
             time_cell(w, "candidate_us", t[0], sizeof(t[0])),
             cell(w, "candidate_spread", 100, " %", c[1], sizeof(c[1])),
             time_cell(w, "baseline_us", t[1], sizeof(t[1])),
             cell(w, "baseline_spread", 100, " %", c[2], sizeof(c[2])),
             time_cell(w, "floor_us", t[2], sizeof(t[2])),
             cell(w, "roofline", 100, " %", c[3], sizeof(c[3])),
             *jsonx_str(w, "bound", "") ? jsonx_str(w, "bound", "") : "unknown",
             cell(w, "gbs", 1, "", c[4], sizeof(c[4])),
             cell(w, "gflops", 1, "", c[5], sizeof(c[5])));
}

static void diagnostic_row(const json_t *list, size_t i, char *row, size_t size)
{
    const json_t *d = json_array_get(list, i);
    struct shown severity, kind, message, source;
    long long count = jsonx_int(d, "count", 1);
    char times[32] = "";

    if (count > 1)
        snprintf(times, sizeof(times), " (%lld times)", count);
    show(d, "source", &source);
    snprintf(row, size, "  line %lld:%lld: %.10s [%.40s]%s: %.300s%s%.120s\n",
             jsonx_int(d, "line", 0), jsonx_int(d, "column", 0), show(d, "severity", &severity),
             show(d, "kind", &kind), times, show(d, "message", &message), source.s[0] ? " | " : "",
             source.s);
}

static void missed_row(const json_t *list, size_t i, char *row, size_t size)
{
    const json_t *l = json_array_get(list, i);
    struct shown reason, source;

    snprintf(row, size, "  line %lld: %.300s | %.120s\n", jsonx_int(l, "line", 0),
             show(l, "reason", &reason), show(l, "source", &source));
}

static void vectorised_row(const json_t *list, size_t i, char *row, size_t size)
{
    const json_t *l = json_array_get(list, i);
    struct shown source;

    snprintf(row, size, "  line %lld: %lld bytes | %.120s\n", jsonx_int(l, "line", 0),
             jsonx_int(l, "bytes", 0), show(l, "source", &source));
}

/* "  b1: instructions 1.2e+06, ipc 2.1"; as many counters as fit into a row. */
static void counters_row(const json_t *list, size_t i, char *row, size_t size)
{
    const json_t *w = json_array_get(list, i);
    const char *key;
    struct shown name;
    json_t *v;
    size_t n = (size_t)snprintf(row, size, "  %.48s:", show(w, "name", &name));

    json_object_foreach (json_object_get(w, "counters"), key, v) {
        char item[80], shown[48];
        int len =
            snprintf(item, sizeof(item), " %s %.4g,",
                     str_visible(key, strlen(key), shown, sizeof(shown)), json_number_value(v));

        if (n + (size_t)len + 2 > size)
            break;
        memcpy(row + n, item, (size_t)len + 1);
        n += (size_t)len;
    }
    row[n - 1] = '\n'; /* over the last ',' or the ':' */
    row[n] = '\0';
}

static void add_verdict(struct page *p, const json_t *f)
{
    struct shown status, message;
    char row[ROW_MAX];

    if (json_is_number(json_object_get(f, "objective")))
        snprintf(row, sizeof(row),
                 "%s: %.3fx the baseline's speed (geometric mean of the workloads), 95 %% interval "
                 "%.3f to %.3f, worst workload %.3fx\n",
                 show(f, "status", &status), jsonx_num(f, "objective", 0),
                 jsonx_num(f, "ci_low", 0), jsonx_num(f, "ci_high", 0), jsonx_num(f, "worst", 0));
    else
        snprintf(row, sizeof(row), "%.40s: %.320s\n", show(f, "status", &status),
                 show(f, "message", &message));
    add_row(p, 0, row);
}

/* Diagnostics of one kind: errors, or all others. Owned. */
static json_t *pick_diagnostics(const json_t *f, bool errors)
{
    json_t *picked = json_array(), *d;
    size_t i;

    json_array_foreach (json_object_get(f, "diagnostics"), i, d)
        if ((strcmp(jsonx_str(d, "severity", ""), "error") == 0) == errors)
            json_array_append(picked, d);
    return picked;
}

/*
 * Loops that were not vectorised, without those of which nothing else is known than that a type in
 * them has no vector form: most of them are vector code already, written with vector types or
 * intrinsics. Owned.
 */
static json_t *pick_missed(const json_t *f)
{
    json_t *picked = json_array(), *l;
    size_t i;

    json_array_foreach (json_object_get(f, "missed"), i, l)
        if (strcmp(jsonx_str(l, "reason", ""), "a statement's type has no vector form") != 0)
            json_array_append(picked, l);
    return picked;
}

static json_t *worst_first(const json_t *f)
{
    const json_t *rows = json_object_get(f, "workloads");
    CLEANUP(freep) struct ranked *ranks = ranks_of(rows);
    json_t *sorted = json_array();

    for (size_t i = 0; i < json_array_size(rows); i++)
        json_array_append(sorted, json_array_get(rows, ranks[i].index));
    return sorted;
}

static void add_size(struct page *p, const json_t *f)
{
    const json_t *s = json_object_get(f, "size");
    char row[ROW_MAX], stack[112] = "";

    if (s == NULL)
        return;
    if (json_object_get(s, "stack_bytes"))
        snprintf(stack, sizeof(stack),
                 ", largest stack frame %lld (the program's own arrays on the stack included)",
                 jsonx_int(s, "stack_bytes", 0));
    snprintf(row, sizeof(row),
             "Size in bytes: code of the kernel %lld, text %lld, data %lld, bss %lld%s\n",
             jsonx_int(s, "kernel_text", 0), jsonx_int(s, "text", 0), jsonx_int(s, "data", 0),
             jsonx_int(s, "bss", 0), stack);
    add_row(p, 0, row);
}

static void add_note(struct page *p, const json_t *f, const char *key)
{
    char row[ROW_MAX];
    struct shown note;

    if (!*jsonx_str(f, key, ""))
        return;
    snprintf(row, sizeof(row), "%s\n", show(f, key, &note));
    add_row(p, 0, row);
}

static size_t with_counters(const json_t *rows)
{
    size_t n = 0;

    while (n < json_array_size(rows) && json_object_get(json_array_get(rows, n), "counters"))
        n++;
    return n;
}

int feedback_text(const json_t *feedback, size_t budget, struct buf *out, struct err *err)
{
    struct page p = { .out = out, .end = out->len + budget, .err = err };
    json_auto_t *errors = pick_diagnostics(feedback, true);
    json_auto_t *others = pick_diagnostics(feedback, false);
    json_auto_t *rows = worst_first(feedback);
    json_auto_t *missed = pick_missed(feedback);
    const json_t *done = json_object_get(feedback, "vectorised");

    if (budget < FEEDBACK_TEXT_MIN)
        return err_set(err, ERR_INVALID, "a budget of %zu bytes; at least %d are needed", budget,
                       FEEDBACK_TEXT_MIN);
    add_verdict(&p, feedback);
    add_section(&p, "Errors of the compiler:", errors, json_array_size(errors), 0, 0.6,
                diagnostic_row);
    add_section(&p, "Workloads, worst first:", rows, json_array_size(rows),
                jsonx_int(feedback, "workloads_left_out", 0), 0.6, workload_row);
    add_section(&p, "Warnings:", others, json_array_size(others),
                jsonx_int(feedback, "diagnostics_left_out", 0), 0.5, diagnostic_row);
    add_size(&p, feedback);
    add_section(&p, "Loops that did not become vector code:", missed, json_array_size(missed),
                jsonx_int(feedback, "missed_left_out", 0), 0.5, missed_row);
    add_section(&p, "Loops that became vector code:", done, json_array_size(done),
                jsonx_int(feedback, "vectorised_left_out", 0), 0.6, vectorised_row);
    add_note(&p, feedback, "vector_note");
    add_section(&p, "Counted per call:", rows, with_counters(rows), 0, 0.9, counters_row);
    add_note(&p, feedback, "counters_unavailable");
    return p.failed ? -1 : 0;
}
