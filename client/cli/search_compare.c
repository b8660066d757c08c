/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch search compare: searches side by side. "Evaluations to within 5 %" counts all
 * evaluations, failures too, up to the first whose best-so-far is at least 0.95 of the best that
 * any of the compared searches of the same task and device found.
 */
#include "cli.h"

#include <math.h>

#include "base/jsonx.h"
#include "proto/methods.h"
#include "show.h"

#define WITHIN 0.95

struct row {
    json_t *search; /* owned */
    double *best;   /* owned; best so far per evaluation */
    size_t n;
    double group_best; /* of the searches of the same task and device */
    size_t within;     /* evaluations; 0 when never */
};

struct comparison {
    struct row *rows;
    size_t n;
};

static void comparison_release(struct comparison *c)
{
    for (size_t i = 0; i < c->n; i++) {
        json_decref(c->rows[i].search);
        free(c->rows[i].best);
    }
    free(c->rows);
}

static double row_final(const struct row *r)
{
    return r->n ? r->best[r->n - 1] : NAN;
}

static bool same_group(const struct row *a, const struct row *b)
{
    return json_equal(json_object_get(a->search, "task"), json_object_get(b->search, "task")) &&
           json_equal(json_object_get(a->search, "device"), json_object_get(b->search, "device"));
}

static void comparison_judge(struct comparison *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct row *r = &c->rows[i];

        r->group_best = NAN;
        for (size_t j = 0; j < c->n; j++)
            if (same_group(r, &c->rows[j]))
                r->group_best = fmax(r->group_best, row_final(&c->rows[j]));
        for (size_t k = r->n; k > 0; k--)
            if (r->best[k - 1] >= WITHIN * r->group_best)
                r->within = k;
    }
}

static json_t *curve_json(const struct row *r)
{
    json_t *curve = json_array();

    for (size_t k = 0; k < r->n; k++)
        json_array_append_new(curve, isfinite(r->best[k]) ? json_real(r->best[k]) : json_null());
    return curve;
}

static json_t *number_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *comparison_json(const struct comparison *c)
{
    static const char *const copied[] = {
        "id", "task", "device", "warm", "seed", "state", "spent"
    };
    json_t *list = json_array();

    for (size_t i = 0; i < c->n; i++) {
        const struct row *r = &c->rows[i];
        json_t *o = json_object();

        for (size_t k = 0; k < ARRAY_LEN(copied); k++)
            if (json_object_get(r->search, copied[k]))
                json_object_set(o, copied[k], json_object_get(r->search, copied[k]));
        json_object_set_new(o, "evaluations", json_integer((json_int_t)r->n));
        json_object_set_new(o, "objective", number_or_null(row_final(r)));
        json_object_set_new(o, "best_of_all", number_or_null(r->group_best));
        if (jsonx_int(json_object_get(r->search, "gain"), "adoptions", 0) > 0)
            json_object_set(o, "gain", json_object_get(r->search, "gain"));
        json_object_set_new(o, "evaluations_to_within_5_percent",
                            r->within ? json_integer((json_int_t)r->within) : json_null());
        json_object_set_new(o, "curve", curve_json(r));
        json_array_append_new(list, o);
    }
    return json_pack("{s:o}", "searches", list);
}

static void compare_print(const json_t *result)
{
    static const struct column columns[] = { { "SEARCH", "id", SHOW_TEXT },
                                             { "TASK", "task", SHOW_TEXT },
                                             { "DEVICE", "device", SHOW_TEXT },
                                             { "WARM", "warm", SHOW_TEXT },
                                             { "SEED", "seed", SHOW_TEXT },
                                             { "STATE", "state", SHOW_TEXT },
                                             { "EVALS", "evaluations", SHOW_TEXT },
                                             { "WITHIN 5 %", "evaluations_to_within_5_percent",
                                               SHOW_TEXT },
                                             { "BEST", "objective", SHOW_FACTOR },
                                             { "ADOPTED", "gain.adopted", SHOW_FACTOR },
                                             { "ADDED", "gain.added", SHOW_FACTOR },
                                             { "TIME", "spent.time", SHOW_SECONDS },
                                             { 0 } };

    show_table(result, "searches", columns, "nothing to compare");
    printf("\nWITHIN 5 %%: evaluations until within 5 %% of the best that these searches found for "
           "the task\nADOPTED, ADDED: adopted from memory, and added by the search; the best is "
           "their product\n");
}

static void curves_print(const struct comparison *c)
{
    size_t longest = 1, cols = term_cols() > 24 ? MIN(term_cols() - 12, (size_t)120) : 12;

    for (size_t i = 0; i < c->n; i++)
        longest = MAX(longest, c->rows[i].n);
    for (size_t i = 0; i < c->n; i++) {
        const struct row *r = &c->rows[i];
        CLEANUP(buf_release) struct buf plot = { .max = 64 << 10 };
        CLEANUP(freep) char *id = show_text_at(r->search, "id", SHOW_TEXT);

        if (r->n == 0)
            continue;
        printf("\n%s\n", id);
        /* One scale across: a shorter search takes its share of the width. */
        draw_plot(r->best, r->n, MAX(r->n * cols / longest, (size_t)1), 4, &plot);
        fputs(buf_str(&plot), stdout);
    }
}

static int comparison_load(struct cli *cli, const json_t *ids, struct comparison *c,
                           struct err *err)
{
    json_t *id;
    size_t i;

    c->rows = xcalloc(json_array_size(ids), sizeof(*c->rows));
    json_array_foreach (ids, i, id) {
        json_auto_t *params = json_pack("{s:O}", "search", id);

        if (cli_call(cli, METHOD_SEARCH_SHOW, params, &c->rows[i].search, err) != 0)
            return -1;
        c->n++;
        c->rows[i].best = curve_best(c->rows[i].search, &c->rows[i].n);
    }
    return 0;
}

static int compare_run(struct cli *cli, const struct command *cmd, struct args *args,
                       struct err *err)
{
    CLEANUP(comparison_release) struct comparison c = { 0 };
    json_auto_t *result = NULL;

    (void)cmd;
    if (comparison_load(cli, json_object_get(args->local, "searches"), &c, err) != 0)
        return -1;
    comparison_judge(&c);
    result = comparison_json(&c);
    cli_show(cli, compare_print, result);
    if (!cli->json)
        curves_print(&c);
    return 0;
}

static const struct pos compare_pos[] = {
    { "S", "searches", ROW_REQUIRED | ROW_MANY | ROW_LOCAL, "ids of the searches" }, { 0 }
};

const struct command cmd_search_compare = {
    .group = "search",
    .name = "compare",
    .summary = "Put searches side by side: evaluations to within 5 % of the best, and curves.",
    .pos = compare_pos,
    .run = compare_run,
};
