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

/* ---- What changed ---- */

static void print_number(FILE *f, const json_t *v)
{
    if (json_is_number(v))
        fprintf(f, "%.6g", json_number_value(v));
    else
        fputs("?", f);
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
        double ratio = jsonx_num(m, "ratio", NAN);

        if (ratio == 1)
            continue;
        fprintf(f, "  %-20s", jsonx_str(m, "name", ""));
        print_number(f, json_object_get(m, "from"));
        fputs(" -> ", f);
        print_number(f, json_object_get(m, "to"));
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
    char name[64];
    size_t n;
};

static void count_label(struct label_count *counts, size_t max, const char *label,
                        const char *ground)
{
    char name[64];
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
    json_t *item;
    size_t i;

    if (json_array_size(plan) == 0) {
        fprintf(f, "nothing has to be measured again\n");
        return;
    }
    fprintf(f, "plan of re-verification, most valuable per cost first\n");
    fprintf(f, "      VALUE     COST  EVALS  INSIGHT\n");
    json_array_foreach ((json_t *)plan, i, item) {
        if (i == LINES_MAX) {
            fprintf(f, "  and %zu more; --json lists them\n", json_array_size(plan) - i);
            break;
        }
        fprintf(f, "  %9.5f %7.3gs  %5lld  %.12s ", jsonx_num(item, "value", 0),
                jsonx_num(item, "cost", 0), jsonx_int(item, "evaluations", 0),
                jsonx_str(item, "insight", ""));
        print_text(f, jsonx_str(item, "statement", ""), STATEMENT_COLS);
        fputc('\n', f);
    }
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

    fprintf(f, "%-28s  %9s  %9s  %9s  %10s  %10s\n", "TASK", "OLD BEST", "CARRIED", "RETUNED",
            "TO IT", "COLD");
    json_array_foreach ((json_t *)tasks, i, row) {
        CLEANUP(freep) char *to = show_text_at(row, "retuned.evaluations", SHOW_TEXT);
        CLEANUP(freep) char *cold = show_text_at(row, "cold.evaluations", SHOW_TEXT);

        print_text(f, jsonx_str(row, "task", ""), 28);
        for (size_t n = text_cols(jsonx_str(row, "task", "")); n < 28; n++)
            fputc(' ', f);
        print_factor(f, row, "old.objective");
        print_factor(f, row, "carried.objective");
        print_factor(f, row, "retuned.objective");
        /* A control search that never got there took more than it had. */
        fprintf(f, "  %10s  %s%*s", to,
                jsonx_bool(json_object_get(row, "cold"), "reached", 1) ? "" : ">",
                jsonx_bool(json_object_get(row, "cold"), "reached", 1) ? 10 : 9, cold);
        if (*jsonx_str(row, "why_not", "")) {
            fputs("  ", f);
            print_text(f, jsonx_str(row, "why_not", ""), 80);
        }
        fputc('\n', f);
    }
}

static void print_insights(FILE *f, const char *title, const json_t *list)
{
    json_t *row;
    size_t i;

    fprintf(f, "%s  %zu\n", title, json_array_size(list));
    json_array_foreach ((json_t *)list, i, row) {
        if (i == LINES_MAX) {
            fprintf(f, "  and %zu more; --json lists them\n", json_array_size(list) - i);
            break;
        }
        fprintf(f, "  %s: ", jsonx_str(row, "how", ""));
        print_text(f, jsonx_str(row, "statement", ""), STATEMENT_COLS);
        fputs("\n    ", f);
        print_text(f, jsonx_str(row, "ground", ""), 100);
        fputc('\n', f);
    }
}

static void print_gained(FILE *f, const json_t *list)
{
    json_t *row;
    size_t i;

    fprintf(f, "newly possible  %zu\n", json_array_size(list));
    json_array_foreach ((json_t *)list, i, row) {
        CLEANUP(freep) char *all = NULL;

        if (i == LINES_MAX) {
            fprintf(f, "  and %zu more; --json lists them\n", json_array_size(list) - i);
            break;
        }
        all = show_text(row, SHOW_TEXT);
        fputs("  ", f);
        print_text(f, all, 110);
        fputc('\n', f);
    }
}

static void print_saved(FILE *f, const json_t *report)
{
    const json_t *saved = json_object_get(report, "saved");
    const json_t *spent = json_object_get(report, "spent");

    fprintf(f, "spent  %lld evaluations, %.1f s\n", jsonx_int(spent, "evaluations", 0),
            jsonx_num(spent, "seconds", 0));
    if (json_is_number(json_object_get(saved, "evaluations")))
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
    fputc('\n', f);
    print_insights(f, "kept", json_object_get(report, "kept"));
    print_insights(f, "lost", json_object_get(report, "lost"));
    print_insights(f, "open", json_object_get(report, "open"));
    print_gained(f, json_object_get(report, "gained"));
    fputc('\n', f);
    print_saved(f, report);
}
