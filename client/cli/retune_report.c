/* SPDX-License-Identifier: Apache-2.0 */
/* Retunes as text; see retune.h. */
#include "cli.h"

#include <math.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "retune.h"
#include "show.h"

enum { LINES_MAX = 20, STATEMENT_COLS = 72 };

static void print_text(FILE *f, const char *s, size_t cols)
{
    char line[512], fitted[512];

    str_visible(s, strlen(s), line, sizeof(line));
    fputs(text_fit(line, cols, fitted, sizeof(fitted)), f);
}

/* "  [convolution]", where the row is about one task. */
static void print_task(FILE *f, const json_t *row)
{
    const char *task = jsonx_str(row, "task", "");

    if (!*task)
        return;
    fputs("  [", f);
    print_text(f, task, 40);
    fputc(']', f);
}

/* ---- What changed ---- */

/* A number of the device's record; of bytes where its name says so. */
static void print_number(FILE *f, const char *name, const json_t *v)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    double d = json_number_value(v);
    size_t unit = 0;

    if (!json_is_number(v)) {
        fputs("?", f);
    } else if (strstr(name, "bytes") == NULL) {
        fprintf(f, "%.6g", d);
    } else {
        for (; d >= 1024 && unit + 1 < ARRAY_LEN(units); unit++)
            d /= 1024;
        fprintf(f, "%.4g %s", d, units[unit]);
    }
}

static void print_names(FILE *f, const char *label, const json_t *names)
{
    json_t *name;
    size_t i;

    if (json_array_size(names) == 0)
        return;
    fprintf(f, "  %-20s", label);
    json_array_foreach ((json_t *)names, i, name) {
        fputs(i ? ", " : "", f);
        print_text(f, json_string_value(name), 60);
    }
    fputc('\n', f);
}

static void print_delta(FILE *f, const json_t *delta)
{
    json_t *m;
    size_t i;

    fprintf(f, "hardware\n");
    json_array_foreach (json_object_get(delta, "members"), i, m) {
        const char *name = jsonx_str(m, "name", "");
        double ratio = jsonx_num(m, "ratio", NAN);

        if (ratio == 1)
            continue;
        fprintf(f, "  %-20s", name);
        print_number(f, name, json_object_get(m, "from"));
        fputs(" -> ", f);
        print_number(f, name, json_object_get(m, "to"));
        if (isfinite(ratio))
            fprintf(f, "  (%.2fx)", ratio);
        fputc('\n', f);
    }
    if (json_array_size(json_object_get(delta, "members")) == 0)
        fprintf(f, "  nothing is known of the two devices' hardware; 'ksearch device import' tells "
                   "it\n");
    print_names(f, "features gained", json_object_get(delta, "added"));
    print_names(f, "features lost", json_object_get(delta, "removed"));
    json_array_foreach (json_object_get(delta, "versions"), i, m) {
        fprintf(f, "  %-20s", jsonx_str(m, "axis", ""));
        print_text(f, jsonx_str(m, "from", ""), 60);
        fputs(" -> ", f);
        print_text(f, jsonx_str(m, "to", ""), 60);
        fputc('\n', f);
    }
}

/* ---- Labels and plan ---- */

struct label_count {
    char name[160];
    size_t n;
};

static void count_label(struct label_count *counts, size_t max, const char *label,
                        const char *ground)
{
    char name[160];
    size_t i = 0;

    snprintf(name, sizeof(name), "%s: %s", label, ground);
    while (i < max && counts[i].n > 0 && strcmp(counts[i].name, name) != 0)
        i++;
    if (i == max)
        return;
    str_copy(counts[i].name, sizeof(counts[i].name), name);
    counts[i].n++;
}

static void print_labels(FILE *f, const json_t *result)
{
    struct label_count counts[40] = { 0 };
    const json_t *insights = json_object_get(result, "insights");
    json_t *in;
    size_t i;

    json_array_foreach ((json_t *)insights, i, in)
        count_label(counts, ARRAY_LEN(counts), jsonx_str(in, "label", ""),
                    jsonx_str(in, "ground", ""));
    fprintf(f, "insights  %zu\n", json_array_size(insights));
    for (i = 0; i < ARRAY_LEN(counts) && counts[i].n > 0; i++)
        fprintf(f, "  %6zu  %s\n", counts[i].n, counts[i].name);
}

static void print_order(FILE *f, const json_t *plan)
{
    double cost = 0;
    long long evaluations = 0;
    json_t *item;
    size_t i;

    if (json_array_size(plan) == 0) {
        fprintf(f, "nothing has to be measured again\n");
        return;
    }
    json_array_foreach ((json_t *)plan, i, item) {
        cost += jsonx_num(item, "cost", 0);
        evaluations += jsonx_int(item, "evaluations", 0);
    }
    fprintf(
        f,
        "plan of re-verification: %zu insights by %lld evaluations, about %.1f s; most valuable "
        "per cost first\n",
        json_array_size(plan), evaluations, cost);
    fprintf(f, "    VALUE    COST  EVALS  INSIGHT\n");
    json_array_foreach ((json_t *)plan, i, item) {
        if (i == LINES_MAX) {
            fprintf(f, "  and %zu more; --json lists them\n", json_array_size(plan) - i);
            break;
        }
        fprintf(f, "  %7.4f %5.2f s  %5lld  %.12s ", jsonx_num(item, "value", 0),
                jsonx_num(item, "cost", 0), jsonx_int(item, "evaluations", 0),
                jsonx_str(item, "insight", ""));
        print_text(f, jsonx_str(item, "statement", ""), STATEMENT_COLS);
        print_task(f, item);
        fputc('\n', f);
    }
    fprintf(f, "EVALS: still needed; 0 where measurements for rows above it serve\n");
}

void retune_print_plan(const json_t *result, FILE *f)
{
    fprintf(f, "from %s to %s\n", jsonx_str(result, "from", ""), jsonx_str(result, "to", ""));
    print_delta(f, json_object_get(result, "delta"));
    print_labels(f, result);
    print_order(f, json_object_get(result, "plan"));
}

/* ---- Report ---- */

static void print_factor(FILE *f, const json_t *row, const char *path)
{
    CLEANUP(freep) char *s = show_text_at(row, path, SHOW_FACTOR);

    fprintf(f, "  %9s", s);
}

static void print_tasks(FILE *f, const json_t *tasks)
{
    json_t *row;
    size_t i;

    fprintf(f, "%-40s  %9s  %9s  %9s  %6s  %10s\n", "TASK", "OLD BEST", "CARRIED", "RETUNED",
            "EVALS", "COLD EVALS");
    json_array_foreach ((json_t *)tasks, i, row) {
        CLEANUP(freep) char *to = show_text_at(row, "retuned.evaluations", SHOW_TEXT);
        CLEANUP(freep) char *cold = show_text_at(row, "cold.evaluations", SHOW_TEXT);

        print_text(f, jsonx_str(row, "task", ""), 40);
        for (size_t n = text_cols(jsonx_str(row, "task", "")); n < 40; n++)
            fputc(' ', f);
        print_factor(f, row, "old.objective");
        print_factor(f, row, "carried.objective");
        print_factor(f, row, "retuned.objective");
        /* A control search that never got there took more than it had. */
        fprintf(f, "  %6s  %s%*s", to,
                jsonx_bool(json_object_get(row, "cold"), "reached", 1) ? "" : ">",
                jsonx_bool(json_object_get(row, "cold"), "reached", 1) ? 10 : 9, cold);
        if (*jsonx_str(row, "why_not", "")) {
            fputs("  ", f);
            print_text(f, jsonx_str(row, "why_not", ""), 80);
        }
        fputc('\n', f);
    }
}

static double row_size(const json_t *row)
{
    return fmax(fabs(jsonx_num(row, "effect_from", 0)), fabs(jsonx_num(row, "effect_to", 0)));
}

/* Measured ones first, and of these the largest effect. */
static int by_size(const void *pa, const void *pb)
{
    const json_t *a = *(json_t *const *)pa, *b = *(json_t *const *)pb;
    bool ma = json_object_get(a, "effect_to") != NULL, mb = json_object_get(b, "effect_to") != NULL;
    double sa = row_size(a), sb = row_size(b);

    if (ma != mb)
        return ma ? -1 : 1;
    if (sa != sb)
        return sa > sb ? -1 : 1;
    return strcmp(jsonx_str(a, "insight", ""), jsonx_str(b, "insight", ""));
}

/* A log effect as a change of speed; "fails" for one that has none. */
static void print_effect(FILE *f, const json_t *v)
{
    if (json_is_number(v))
        fprintf(f, "%+8.1f %%", 100 * expm1(json_number_value(v)));
    else
        fprintf(f, "%10s", json_is_null(v) ? "fails" : "-");
}

/* The verdict, short enough for a column. */
static const char *how_of(const json_t *row)
{
    const char *how = jsonx_str(row, "how", "");

    return strcmp(how, "no difference beyond noise") == 0 ? "within noise" : how;
}

static void print_insight_row(FILE *f, const json_t *row)
{
    print_effect(f, json_object_get(row, "effect_from"));
    print_effect(f, json_object_get(row, "effect_to"));
    fprintf(f, "  %-16s  ", how_of(row));
    print_text(f, jsonx_str(row, "statement", ""), STATEMENT_COLS);
    print_task(f, row);
    fputc('\n', f);
}

/* Why those that were not measured stand where they stand, each ground once. */
static void print_grounds(FILE *f, const json_t *list)
{
    struct label_count counts[12] = { 0 };
    json_t *row;
    size_t i;

    json_array_foreach ((json_t *)list, i, row) {
        if (json_object_get(row, "effect_to") == NULL)
            count_label(counts, ARRAY_LEN(counts), jsonx_str(row, "how", ""),
                        jsonx_str(row, "ground", ""));
    }
    for (i = 0; i < ARRAY_LEN(counts) && counts[i].n > 0; i++) {
        fprintf(f, "  %6zu ", counts[i].n);
        print_text(f, counts[i].name, 140);
        fputc('\n', f);
    }
}

static void print_insights(FILE *f, const char *title, const json_t *list)
{
    size_t n = json_array_size(list);
    CLEANUP(freep) const json_t **rows = xcalloc(n + 1, sizeof(*rows));

    fprintf(f, "%s %zu\n", title, n);
    if (n == 0)
        return;
    for (size_t i = 0; i < n; i++)
        rows[i] = json_array_get(list, i);
    qsort(rows, n, sizeof(*rows), by_size);
    print_grounds(f, list);
    fprintf(f, "    BEFORE       NOW  %-16s  INSIGHT\n", "HOW");
    for (size_t i = 0; i < MIN(n, (size_t)LINES_MAX); i++)
        print_insight_row(f, rows[i]);
    if (n > LINES_MAX)
        fprintf(f, "  and %zu more; --json lists them\n", n - LINES_MAX);
    fputc('\n', f);
}

static void print_gain(FILE *f, const json_t *row)
{
    CLEANUP(freep) char *value = show_text_at(row, "value", SHOW_TEXT);
    CLEANUP(freep) char *program = show_text_at(row, "program", SHOW_TEXT);
    const char *capacity = jsonx_str(row, "capacity", NULL);

    fputs("  ", f);
    if (json_object_get(row, "feature") != NULL) {
        fputs("feature ", f);
        print_text(f, jsonx_str(row, "feature", ""), 60);
    } else if (capacity != NULL) {
        print_text(f, capacity, 60);
        fputs(": ", f);
        print_number(f, capacity, json_object_get(row, "from"));
        fputs(" -> ", f);
        print_number(f, capacity, json_object_get(row, "to"));
    } else if (json_object_get(row, "value") != NULL) {
        fputs("value that always failed before: ", f);
        print_text(f, value, 80);
    } else if (json_object_get(row, "program") != NULL) {
        fprintf(f, "%.2fx the speed of the program carried over: ", jsonx_num(row, "factor", 0));
        print_text(f, program, 200);
    } else {
        fprintf(f, "%s: ", jsonx_str(row, "how", ""));
        print_text(f, jsonx_str(row, "statement", ""), STATEMENT_COLS);
    }
    print_task(f, row);
    fputc('\n', f);
}

static void print_gained(FILE *f, const json_t *list)
{
    json_t *row;
    size_t i;

    fprintf(f, "newly possible %zu\n", json_array_size(list));
    json_array_foreach ((json_t *)list, i, row) {
        if (i == LINES_MAX) {
            fprintf(f, "  and %zu more; --json lists them\n", json_array_size(list) - i);
            break;
        }
        print_gain(f, row);
    }
}

static void print_saved(FILE *f, const json_t *report)
{
    const json_t *saved = json_object_get(report, "saved");
    const json_t *spent = json_object_get(report, "spent");

    fprintf(f, "spent  %lld evaluations, %.1f s\n", jsonx_int(spent, "evaluations", 0),
            jsonx_num(spent, "seconds", 0));
    if (jsonx_num(saved, "evaluations", 0) < 0)
        fprintf(f,
                "saved  nothing: cold searches needed %.0f evaluations fewer until within 5 %% of "
                "the best\n",
                -jsonx_num(saved, "evaluations", 0));
    else if (json_is_number(json_object_get(saved, "evaluations")))
        fprintf(f,
                "saved  %.0f evaluations, %.1f s, against cold searches until within 5 %% of "
                "the best\n",
                jsonx_num(saved, "evaluations", 0), jsonx_num(saved, "seconds", 0));
    else
        fprintf(f, "saved  not known: no cold search of these tasks is stored; --control runs "
                   "them\n");
}

void retune_print_report(const json_t *result, FILE *f)
{
    const json_t *report = json_object_get(result, "report");

    fprintf(f, "retune %s is %s: from %s to %s\n\n", jsonx_str(result, "id", ""),
            jsonx_str(result, "state", ""), jsonx_str(result, "from", ""),
            jsonx_str(result, "to", ""));
    print_tasks(f, json_object_get(report, "tasks"));
    fprintf(f, "EVALS: until within 5 %% of RETUNED; COLD EVALS: the same of a search without "
               "memory\n\n");
    print_insights(f, "kept", json_object_get(report, "kept"));
    print_insights(f, "lost", json_object_get(report, "lost"));
    print_insights(f, "open", json_object_get(report, "open"));
    print_gained(f, json_object_get(report, "gained"));
    fputc('\n', f);
    print_saved(f, report);
}
