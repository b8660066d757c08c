/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch kb doctor, and how calibration is shown. */
#include "cli.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "show.h"

/* ---- doctor ---- */

static const struct opt doctor_opts[] = {
    { "stale", OPT_FLAG, NULL, "stale", 0,
      "only insights of other compiler, driver or library versions than their device has now" },
    { 0 }
};

static void print_transfer(const json_t *t)
{
    const json_t *rate = json_object_get(t, "rate");

    if (!json_is_object(t))
        return;
    printf("\nwarm searches: %lld, of which %lld could be judged; memory lost in %lld",
           jsonx_int(t, "searches", 0), jsonx_int(t, "judged", 0), jsonx_int(t, "lost", 0));
    if (json_is_number(rate))
        printf(" (%.0f %%)", 100 * json_number_value(rate));
    printf("\n  %lld pair%s of attempts: worse with memory in %lld, better in %lld\n",
           jsonx_int(t, "pairs", 0), jsonx_int(t, "pairs", 0) == 1 ? "" : "s",
           jsonx_int(t, "pairs_worse", 0), jsonx_int(t, "pairs_better", 0));
}

/* The findings of one kind that ask for the same, then what they ask for; `done` marks them. */
static void print_alike(const json_t *findings, size_t first, bool *done)
{
    const json_t *like = json_array_get(findings, first), *f;
    CLEANUP(freep) char *todo = show_text_at(like, "todo", SHOW_TEXT);
    CLEANUP(freep) char *line = str_printf("do: %s", todo);
    size_t i;

    json_array_foreach (findings, i, f) {
        CLEANUP(freep) char *sentence = NULL;

        if (done[i] || !json_equal(json_object_get(f, "kind"), json_object_get(like, "kind")) ||
            !json_equal(json_object_get(f, "todo"), json_object_get(like, "todo")))
            continue;
        done[i] = true;
        sentence = show_text_at(f, "sentence", SHOW_TEXT);
        show_wrapped(sentence, 2);
    }
    show_wrapped(line, 4);
}

/* All findings of the kind that the one at `first` has. */
static void print_kind(const json_t *result, size_t first, bool *done)
{
    const json_t *findings = json_object_get(result, "findings"), *f;
    const char *name = jsonx_str(json_array_get(findings, first), "kind", "");
    CLEANUP(freep)
    char *kind = show_text_at(json_array_get(findings, first), "kind", SHOW_TEXT);
    long long all = jsonx_int(json_object_get(result, "counts"), name, 0), listed = 0;
    size_t i;

    json_array_foreach (findings, i, f)
        listed += strcmp(jsonx_str(f, "kind", ""), name) == 0;
    printf("%s: %lld", kind, MAX(all, listed));
    if (all > listed)
        printf(", of which %lld are listed", listed);
    putchar('\n');
    json_array_foreach (findings, i, f)
        if (!done[i] && strcmp(jsonx_str(f, "kind", ""), name) == 0)
            print_alike(findings, i, done);
    putchar('\n');
}

static void doctor_print(const json_t *result)
{
    const json_t *findings = json_object_get(result, "findings"), *n;
    CLEANUP(freep) bool *done = xcalloc(json_array_size(findings) + 1, sizeof(*done));
    long long insights = jsonx_int(result, "insights", 0);
    const char *kind;
    size_t total = 0;

    for (size_t i = 0; i < json_array_size(findings); i++)
        if (!done[i])
            print_kind(result, i, done);
    json_object_foreach ((json_t *)json_object_get(result, "counts"), kind, n)
        total += (size_t)json_integer_value(n);
    printf("%zu finding%s about %lld insight%s\n", total, total == 1 ? "" : "s", insights,
           insights == 1 ? "" : "s");
    print_transfer(json_object_get(result, "transfer"));
}

const struct command cmd_kb_doctor = {
    .group = "kb",
    .name = "doctor",
    .summary = "Say what in the knowledge base deserves a look, and what to do.",
    .method = METHOD_KB_DOCTOR,
    .opts = doctor_opts,
    .print = doctor_print,
    .notes = "Findings are no error: the exit status is 0.\n",
};

/* ---- Calibration ---- */

enum {
    BAR_COLS = 30,
    CURVE_MIN = 20 /* outcomes below which tenths say nothing */
};
/* The share that fills a bar. */
static const double bar_full = 0.3;

static double at(const json_t *row, const char *path)
{
    return json_number_value(show_at(row, path));
}

static void print_bar(const json_t *pit, size_t i, double n)
{
    CLEANUP(buf_release) struct buf bar = { .max = 4096 };
    double share = json_number_value(json_array_get(pit, i)) / n;

    draw_bar(fmin(1, share / bar_full), BAR_COLS, &bar);
    printf(" %s %3.0f %%", buf_str(&bar), 100 * share);
}

/* One line per tenth of the predicted distribution: what share of outcomes fell into it. */
static void print_curve(const json_t *row)
{
    const json_t *raw = json_object_get(row, "pit");
    const json_t *corrected = json_object_get(row, "pit_corrected");

    for (size_t i = 0; i < json_array_size(raw); i++) {
        printf("  %2zu-%3zu %%", 10 * i, 10 * i + 10);
        print_bar(raw, i, at(row, "n"));
        print_bar(corrected, i, at(row, "n"));
        putchar('\n');
    }
}

void calibration_print(const json_t *calibration)
{
    const json_t *sources = json_object_get(calibration, "sources"), *row;
    size_t i;

    if (json_array_size(sources) == 0) {
        printf("\nno predictions were scored yet\n");
        return;
    }
    printf("\npredictions; each figure as predicted > as corrected\n");
    printf("%-26s %6s %15s %13s %13s %13s %15s\n", "SOURCE", "N", "CRPS", "IN 50 %", "IN 80 %",
           "IN 95 %", "BIAS");
    json_array_foreach (sources, i, row) {
        CLEANUP(freep) char *name = show_text_at(row, "source", SHOW_TEXT);

        printf("%-26s %6.0f %6.4f > %6.4f", name, at(row, "n"), at(row, "crps"),
               at(row, "crps_corrected"));
        printf(" %4.0f > %3.0f %%", 100 * at(row, "coverage.50"),
               100 * at(row, "coverage_corrected.50"));
        printf(" %4.0f > %3.0f %%", 100 * at(row, "coverage.80"),
               100 * at(row, "coverage_corrected.80"));
        printf(" %4.0f > %3.0f %%", 100 * at(row, "coverage.95"),
               100 * at(row, "coverage_corrected.95"));
        printf(" %+.3f > %+.3f\n", at(row, "bias"), at(row, "bias_corrected"));
    }
    printf("\nwhere outcomes fell in the predicted distribution, on the left as predicted, on the "
           "right as corrected;\n10 %% each when it is calibrated; sources with %d outcomes or "
           "more\n",
           CURVE_MIN);
    json_array_foreach (sources, i, row) {
        CLEANUP(freep) char *name = show_text_at(row, "source", SHOW_TEXT);

        if (at(row, "n") < CURVE_MIN)
            continue;
        printf("%s\n", name);
        print_curve(row);
    }
}
