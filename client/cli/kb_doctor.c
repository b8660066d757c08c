/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch kb doctor, and how calibration is shown. */
#include "cli.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
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
    printf("\n  %lld pairs of attempts: worse with memory in %lld, better in %lld\n",
           jsonx_int(t, "pairs", 0), jsonx_int(t, "pairs_worse", 0),
           jsonx_int(t, "pairs_better", 0));
}

/* What to do is said once for findings in a row that ask for the same. */
static void print_finding(const json_t *f, const json_t *before, const json_t *next)
{
    CLEANUP(freep) char *kind = show_text_at(f, "kind", SHOW_TEXT);
    CLEANUP(freep) char *sentence = show_text_at(f, "sentence", SHOW_TEXT);
    CLEANUP(freep) char *todo = show_text_at(f, "todo", SHOW_TEXT);

    if (before == NULL || strcmp(jsonx_str(before, "kind", ""), jsonx_str(f, "kind", "")) != 0)
        printf("%s\n", kind);
    show_wrapped(sentence, 2);
    if (next != NULL && strcmp(jsonx_str(next, "todo", ""), jsonx_str(f, "todo", "")) == 0)
        return;
    printf("  do:\n");
    show_wrapped(todo, 4);
}

static void doctor_print(const json_t *result)
{
    const json_t *findings = json_object_get(result, "findings"), *f, *n;
    long long insights = jsonx_int(result, "insights", 0);
    const char *kind;
    size_t i, total = 0;

    json_array_foreach (findings, i, f)
        print_finding(f, i > 0 ? json_array_get(findings, i - 1) : NULL,
                      json_array_get(findings, i + 1));
    json_object_foreach ((json_t *)json_object_get(result, "counts"), kind, n)
        total += (size_t)json_integer_value(n);
    if (total > json_array_size(findings))
        printf("... and %zu more of these kinds\n", total - json_array_size(findings));
    printf("%s%zu finding%s about %lld insight%s\n", total ? "\n" : "", total,
           total == 1 ? "" : "s", insights, insights == 1 ? "" : "s");
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

enum { BAR_COLS = 30 };
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
           "right "
           "as corrected;\n10 %% each when it is calibrated\n");
    json_array_foreach (sources, i, row) {
        CLEANUP(freep) char *name = show_text_at(row, "source", SHOW_TEXT);

        printf("%s\n", name);
        print_curve(row);
    }
}
