/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch search start | list | show | pause | resume | cancel | explain. */
#include "cli.h"

#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "feedback.h"
#include "search_view.h"
#include "show.h"

static const struct pos search_pos[] = { { "S", "search", ROW_REQUIRED, "id of the search" },
                                         { 0 } };

/* ---- start ---- */

static const struct pos start_pos[] = { { "T", "task", ROW_REQUIRED, "name of the task" }, { 0 } };

static const struct opt start_opts[] = {
    { "device", OPT_TEXT, "D", "device", 0,
      "device to optimise for (the task's only one, else the default)" },
    { "proposer", OPT_TEXT, "P", "proposer", 0,
      "who proposes: builtin, random (for comparison), or a language model: openai, queue, replay "
      "(builtin)" },
    { "strategy", OPT_TEXT, "S", "strategy", 0,
      "how a model's search goes: world-model, no-refine, flat, evolve, best-of-n (world-model)" },
    { "lanes", OPT_UINT, "N", "lanes", 0,
      "nodes that a model's search works on side by side, up to 8 (1)" },
    { "window", OPT_UINT, "K", "window", 0,
      "rounds without gain that end a cycle (1; with a model 3)" },
    { "cold", OPT_FLAG, NULL, "cold", 0,
      "read nothing from memory; what is learned is stored as usual" },
    { "memory", OPT_TEXT, "PARTS", "memory", 0,
      "what a warm search takes from memory, commas between: adopt, plans, prior, live (all)" },
    { "seed", OPT_UINT, "N", "seed", 0, "fixes every random choice" },
    { "set", OPT_TEXT, "S", "set", 0, "workload set to measure on (cpu)" },
    { "holdout", OPT_TEXT, "S", "holdout", 0,
      "workload set that is never tuned on; the best is measured on it now and then (none)" },
    { "policy", OPT_TEXT, "P", "policy", 0,
      "how the next open node is selected: utility or lexicographic (utility)" },
    { "budget", OPT_BUDGET, "B", "budget", 0,
      "what may be spent: evals=N,tokens=N,usd=X,time=T,device=T" },
    { "stop", OPT_STOP, "S", "stop", 0, "when it is good enough: roofline=X,gain=X" },
    { "watch", OPT_FLAG, NULL, "watch", ROW_LOCAL, "follow the search until it ends" },
    { 0 }
};

static void started_print(const json_t *result)
{
    CLEANUP(freep) char *id = show_text_at(result, "id", SHOW_TEXT);
    CLEANUP(freep) char *state = show_text_at(result, "state", SHOW_TEXT);

    printf("search %s is %s\n", id, state);
    fprintf(stderr, "follow it with: ksearch search watch %s\n", id);
}

static int start_run(struct cli *cli, const struct command *cmd, struct args *args, struct err *err)
{
    json_auto_t *result = NULL;
    const char *id;

    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    if (!jsonx_bool(args->local, "watch", 0)) {
        cli_show(cli, started_print, result);
        return 0;
    }
    id = jsonx_str(result, "id", NULL);
    if (id == NULL)
        return err_set(err, ERR_UPSTREAM, "the daemon started a search and gave no id for it");
    if (cli->json)
        show_json(result, false);
    return watch_search(cli, id, err);
}

const struct command cmd_search_start = {
    .group = "search",
    .name = "start",
    .summary = "Start a search for fast kernels of one task on one device.",
    .method = METHOD_SEARCH_START,
    .pos = start_pos,
    .opts = start_opts,
    .run = start_run,
    .notes =
        "Without a budget it measures 40 evaluations. --memory parts: adopt (programs measured "
        "again\nhere), plans (parts of other searches' trees), prior (records that inform the "
        "numeric\nengine), live (what other searches find meanwhile).\n"
        "With a language model (openai: an endpoint of the configuration; queue: whoever answers "
        "'ksearch\nllm pending'; replay: recorded answers) the search begins with the task's "
        "baseline; "
        "the other\nstrategies are control arms on the same evaluator, model and budget.\n"
        "With --watch and --json: {id, state}, then one document per event.\n",
};

/* ---- list ---- */

static void list_print(const json_t *result)
{
    static const struct column columns[] = { { "SEARCH", "id", SHOW_TEXT },
                                             { "STATE", "state", SHOW_TEXT },
                                             { "TASK", "task", SHOW_TEXT },
                                             { "DEVICE", "device", SHOW_TEXT },
                                             { "WARM", "warm", SHOW_TEXT },
                                             { "SEED", "seed", SHOW_TEXT },
                                             { "EVALS", "evaluations", SHOW_TEXT },
                                             { "OF", "budget_evals", SHOW_TEXT },
                                             { "BEST", "best_objective", SHOW_FACTOR },
                                             { "STARTED", "created", SHOW_TIME },
                                             { 0 } };

    show_table(result, "searches", columns,
               "no searches yet; start one with: ksearch search start TASK");
}

const struct command cmd_search_list = {
    .group = "search",
    .name = "list",
    .summary = "List the searches, running and ended.",
    .method = METHOD_SEARCH_LIST,
    .print = list_print,
};

/* ---- show ---- */

static void show_best(const json_t *search)
{
    const json_t *best = json_object_get(search, "best");
    CLEANUP(freep) char *objective = show_text_at(best, "objective", SHOW_FACTOR);
    CLEANUP(freep) char *low = show_text_at(best, "ci_low", SHOW_FACTOR);
    CLEANUP(freep) char *high = show_text_at(best, "ci_high", SHOW_FACTOR);
    CLEANUP(freep) char *roofline = show_text_at(best, "roofline", SHOW_SHARE);
    CLEANUP(freep) char *assignment = show_text_at(best, "assignment", SHOW_TEXT);
    CLEANUP(freep) char *program = show_text_at(best, "program", SHOW_TEXT);

    if (!json_is_number(json_object_get(best, "objective"))) {
        printf("best         none yet\n");
        return;
    }
    printf("best         %s the baseline's speed [%s, %s]", objective, low, high);
    if (strcmp(roofline, "-") != 0)
        printf(", %s of roofline", roofline);
    printf("\n  assignment %s\n  program    %s\n", assignment, program);
    feedback_print_workloads(json_object_get(best, "feedback"));
}

/* Bests on the set that is not tuned on, the last one last. */
static void show_holdout(const json_t *search)
{
    const json_t *holdout = json_object_get(search, "holdout"), *check;
    CLEANUP(freep) char *set = show_text_at(holdout, "set", SHOW_TEXT);
    size_t i;

    json_array_foreach (json_object_get(holdout, "checks"), i, check) {
        CLEANUP(freep) char *text = view_holdout_text(set, check);

        printf("  #%-10lld %s\n", jsonx_int(check, "evaluation", 0), text);
    }
}

/* What the best is worth in parts: adopted from memory, added by this search. */
static void show_gain(const json_t *search)
{
    const json_t *gain = json_object_get(search, "gain");
    CLEANUP(freep) char *total = show_text_at(gain, "total", SHOW_FACTOR);
    CLEANUP(freep) char *adopted = show_text_at(gain, "adopted", SHOW_FACTOR);
    CLEANUP(freep) char *added = show_text_at(gain, "added", SHOW_FACTOR);

    if (jsonx_int(gain, "adoptions", 0) > 0)
        printf("gain         %s in all: %s adopted from memory, %s added by this search\n", total,
               adopted, added);
}

/* Whether memory helps, and why the search thinks so. */
static void show_arms(const json_t *search)
{
    const json_t *arms = json_object_get(search, "arms");
    CLEANUP(freep) char *share = show_text_at(arms, "memory_free_share", SHOW_SHARE);
    CLEANUP(freep) char *why = show_text_at(arms, "why", SHOW_TEXT);

    if (!json_is_object(arms))
        return;
    printf(
        "arms         %lld evaluations on memory's word, %lld without; %s owed to those without\n",
        jsonx_int(arms, "memory", 0), jsonx_int(arms, "memory_free", 0), share);
    printf("             %s%s\n", jsonx_bool(arms, "retreat", 0) ? "memory has retreated: " : "",
           why);
}

static void show_line(const json_t *search, const char *label, const char *path)
{
    CLEANUP(freep) char *s = show_text_at(search, path, SHOW_TEXT);

    if (strcmp(s, "-") != 0)
        printf("%-12s %s\n", label, s);
}

static void show_curve(const json_t *search)
{
    CLEANUP(buf_release) struct buf plot = { .max = 64 << 10 };
    size_t n, cols = term_cols();
    CLEANUP(freep) double *best = curve_best(search, &n);

    if (n == 0)
        return;
    printf("\nbest so far over %zu evaluation%s\n", n, n == 1 ? "" : "s");
    draw_plot(best, n, cols > 24 ? MIN(cols - 12, 120) : 12, 6, &plot);
    fputs(buf_str(&plot), stdout);
}

static void show_evaluations(const json_t *search)
{
    static const struct column columns[] = { { "#", "evaluation", SHOW_TEXT },
                                             { "STATUS", "status", SHOW_TEXT },
                                             { "SPEED", "objective", SHOW_FACTOR },
                                             { "BEST", "best", SHOW_FACTOR },
                                             { "ARM", "arm", SHOW_TEXT },
                                             { "SAME AS", "same_as", SHOW_TEXT },
                                             { "ASSIGNMENT", "assignment", SHOW_TEXT },
                                             { 0 } };

    if (json_array_size(json_object_get(search, "curve")) == 0)
        return;
    putchar('\n');
    show_table(json_object_get(search, "curve"), "", columns, "");
}

/* The programs that a language model wrote, by number. */
static void show_programs(const json_t *search)
{
    static const struct column columns[] = {
        { "PROGRAM", "program", SHOW_TEXT },   { "FROM", "parent", SHOW_TEXT },
        { "NODE", "node", SHOW_TEXT },         { "STATUS", "status", SHOW_TEXT },
        { "SPEED", "objective", SHOW_FACTOR }, { "EVALS", "evaluations", SHOW_TEXT },
        { "WHAT IT IS", "note", SHOW_TEXT },   { 0 }
    };
    const json_t *model = json_object_get(search, "model");

    if (json_array_size(json_object_get(model, "programs")) == 0)
        return;
    putchar('\n');
    show_table(json_object_get(model, "programs"), "", columns, "");
}

/* One thing that the search started from, or that another search found while it ran. */
static void show_seed(const json_t *seed)
{
    CLEANUP(freep) char *from = show_text_at(seed, "from", SHOW_TEXT);
    CLEANUP(freep) char *similarity = show_text_at(seed, "similarity", SHOW_TEXT);
    CLEANUP(freep) char *there = show_text_at(seed, "objective_there", SHOW_FACTOR);
    CLEANUP(freep) char *effect = show_text_at(seed, "effect", SHOW_FACTOR);
    CLEANUP(freep) char *insight = show_text_at(seed, "insight", SHOW_SHORT);
    CLEANUP(freep) char *assignment = show_text_at(seed, "assignment", SHOW_TEXT);
    const char *live = jsonx_bool(seed, "live", 0) ? "live" : "adopted";

    if (json_object_get(seed, "program") != NULL)
        printf("  %-8s %s on %s, similarity %s\n           %s\n", live, there, from, similarity,
               assignment);
    else if (json_object_get(seed, "insight") != NULL)
        printf("  %-8s %s: %s on %s, similarity %s\n", "insight", insight, effect, from,
               similarity);
    else if (json_object_get(seed, "records") != NULL)
        printf("  %-8s %lld records of %s, similarity %s\n", "prior", jsonx_int(seed, "records", 0),
               from, similarity);
    else {
        CLEANUP(freep) char *all = show_text(seed, SHOW_TEXT);

        printf("  %s\n", all);
    }
}

static void show_seeds(const json_t *search)
{
    const json_t *seeds = json_object_get(search, "seeds");
    json_t *seed;
    size_t i;

    if (json_array_size(seeds) == 0)
        return;
    printf("from memory\n");
    json_array_foreach (seeds, i, seed)
        show_seed(seed);
}

/* What its predictions were worth, raw and corrected by what past outcomes say. */
static void show_predictions(const json_t *search)
{
    const json_t *p = json_object_get(search, "predictions");

    if (jsonx_int(p, "n", 0) == 0)
        return;
    printf("predictions  %lld scored: %.0f %% inside their 80 %% interval, %.0f %% as corrected; "
           "CRPS %.3f, %.3f as corrected\n",
           jsonx_int(p, "n", 0), 100 * jsonx_num(p, "coverage80", 0),
           100 * jsonx_num(p, "coverage80_corrected", 0), jsonx_num(p, "crps", 0),
           jsonx_num(p, "crps_corrected", 0));
}

/* "40 evaluations, 1:02 (device 0:58)": a budget, or what was spent of it. */
static void show_cost(const json_t *search, const char *label)
{
    const json_t *cost = json_object_get(search, label);
    CLEANUP(freep) char *time = show_text_at(cost, "time", SHOW_SECONDS);
    CLEANUP(freep) char *device = show_text_at(cost, "device", SHOW_SECONDS);
    /* 0 is a bound, but not worth a word when that was spent */
    double least = strcmp(label, "budget") == 0 ? -0.5 : 0;
    const char *between = "";

    if (json_object_size(cost) == 0)
        return;
    printf("%-12s ", label);
    if (json_object_get(cost, "evals") != NULL) {
        printf("%lld evaluations", jsonx_int(cost, "evals", 0));
        between = ", ";
    }
    if (json_object_get(cost, "time") != NULL) {
        printf("%s%s", between, time);
        between = ", ";
    }
    if (json_object_get(cost, "device") != NULL) {
        printf("%s%s of device time", between, device);
        between = ", ";
    }
    if (jsonx_num(cost, "tokens", -1) > least) {
        printf("%s%.0f tokens", between, jsonx_num(cost, "tokens", 0));
        between = ", ";
    }
    if (jsonx_num(cost, "usd", -1) > least)
        printf("%s%.2f USD", between, jsonx_num(cost, "usd", 0));
    putchar('\n');
}

/* Calls to a model by kind, and device time by stage: of searches that ask one. */
static void show_ledger(const json_t *s)
{
    const json_t *ledger = json_object_get(s, "ledger"), *row;
    size_t i;

    if (json_object_get(json_array_get(ledger, 0), "calls") == NULL)
        return;
    json_array_foreach ((json_t *)ledger, i, row) {
        CLEANUP(freep) char *stage = show_text_at(row, "stage", SHOW_TEXT);
        CLEANUP(freep) char *seconds = show_text_at(row, "seconds", SHOW_SECONDS);

        printf("  %-10s ", stage);
        if (json_object_get(row, "calls") != NULL)
            printf("%lld calls, %lld tokens in, %lld out, %.2f USD, %s\n",
                   jsonx_int(row, "calls", 0), jsonx_int(row, "tokens_in", 0),
                   jsonx_int(row, "tokens_out", 0), jsonx_num(row, "usd", 0), seconds);
        else
            printf("%lld times, %s\n", jsonx_int(row, "n", 0), seconds);
    }
}

static void show_notices(const json_t *s)
{
    json_t *notice;
    size_t i;

    json_array_foreach (json_object_get(s, "notices"), i, notice) {
        CLEANUP(freep) char *text = show_text(notice, SHOW_TEXT);

        printf("note         %s\n", text);
    }
}

static void show_print(const json_t *s)
{
    static const struct {
        const char *label, *path;
    } lines[] = {
        { "search", "id" },
        { "state", "state" },
        { "task", "task" },
        { "device", "device" },
        { "set", "set" },
        { "proposer", "proposer" },
        { "strategy", "strategy" },
        { "warm", "warm" },
        { "memory", "memory" },
        { "seed", "seed" },
        { "evaluations", "evaluations" },
        { "failures", "failures" },
        { "reason", "reason" },
        { "cycles", "cycles" },
    };

    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        show_line(s, lines[i].label, lines[i].path);
    show_cost(s, "budget");
    show_cost(s, "spent");
    show_ledger(s);
    show_notices(s);
    show_predictions(s);
    show_best(s);
    show_holdout(s);
    show_gain(s);
    show_arms(s);
    show_seeds(s);
    if (*jsonx_str(json_object_get(s, "baseline"), "note", ""))
        show_line(s, "note", "baseline.note");
    show_curve(s);
    show_programs(s);
    show_evaluations(s);
}

const struct command cmd_search_show = {
    .group = "search",
    .name = "show",
    .summary = "Show one search: best, curve, failures, what was spent, what came from memory.",
    .method = METHOD_SEARCH_SHOW,
    .pos = search_pos,
    .print = show_print,
};

/* ---- watch ---- */

static int watch_run(struct cli *cli, const struct command *cmd, struct args *args, struct err *err)
{
    (void)cmd;
    return watch_search(cli, jsonx_str(args->params, "search", ""), err);
}

const struct command cmd_search_watch = {
    .group = "search",
    .name = "watch",
    .summary = "Follow a search until it ends.",
    .method = METHOD_SEARCH_WATCH,
    .pos = search_pos,
    .run = watch_run,
    .notes = "On a terminal a live view, elsewhere one line per measurement; with --json one "
             "document per\n"
             "event. Ctrl-C ends the watch, not the search.\n",
};

/* ---- pause, resume, cancel ---- */

static void state_print(const json_t *result)
{
    CLEANUP(freep) char *id = show_text_at(result, "id", SHOW_TEXT);
    CLEANUP(freep) char *state = show_text_at(result, "state", SHOW_TEXT);

    printf("search %s is %s\n", id, state);
}

const struct command cmd_search_pause = {
    .group = "search",
    .name = "pause",
    .summary = "Let a search rest after the measurement under way.",
    .method = METHOD_SEARCH_PAUSE,
    .pos = search_pos,
    .print = state_print,
};

const struct command cmd_search_resume = {
    .group = "search",
    .name = "resume",
    .summary = "Let a paused search go on.",
    .method = METHOD_SEARCH_RESUME,
    .pos = search_pos,
    .print = state_print,
};

const struct command cmd_search_cancel = {
    .group = "search",
    .name = "cancel",
    .summary = "End a search; what it measured and learned stays.",
    .method = METHOD_SEARCH_CANCEL,
    .pos = search_pos,
    .print = state_print,
};

/* ---- explain ---- */

static const struct pos explain_pos[] = { { "S", "search", ROW_REQUIRED, "id of the search" },
                                          { "NODE", "node", 0, "only this node of its tree" },
                                          { 0 } };

static void choice_print(const json_t *choice)
{
    CLEANUP(freep) char *cycle = show_text_at(choice, "cycle", SHOW_TEXT);
    CLEANUP(freep) char *node = show_text_at(choice, "node", SHOW_TEXT);
    CLEANUP(freep) char *title = show_text_at(choice, "title", SHOW_TEXT);
    const char *why = jsonx_str(choice, "why", ""),
               *explanation = jsonx_str(choice, "explanation", "");

    printf("cycle %s: %s %s\n", cycle, node, title);
    if (*why)
        show_wrapped(why, 4);
    if (*explanation) {
        show_block(explanation);
        if (!str_has_suffix(explanation, "\n"))
            putchar('\n');
    }
    putchar('\n');
}

/* What a proposer is told of the trial that says most. */
static void told_print(const json_t *told)
{
    if (told == NULL)
        return;
    printf("\nfeedback of evaluation %lld:\n", jsonx_int(told, "evaluation", 0));
    show_block(jsonx_str(told, "text", ""));
}

static void explain_print(const json_t *result)
{
    static const struct column columns[] = { { "#", "evaluation", SHOW_TEXT },
                                             { "STATUS", "status", SHOW_TEXT },
                                             { "SPEED", "objective", SHOW_FACTOR },
                                             { "EXPECTED", "predicted.objective", SHOW_FACTOR },
                                             { "ARM", "arm", SHOW_TEXT },
                                             { "WHY", "why", SHOW_TEXT },
                                             { "MESSAGE", "message", SHOW_TEXT },
                                             { "SAME AS", "same_as", SHOW_TEXT },
                                             { "ASSIGNMENT", "assignment", SHOW_TEXT },
                                             { 0 } };
    const json_t *choices = json_object_get(result, "choices");
    json_t *choice;
    size_t i;

    if (!json_is_array(choices)) {
        show_value(result);
        return;
    }
    if (json_object_get(result, "node")) {
        show_value(json_object_get(result, "node"));
        putchar('\n');
    }
    json_array_foreach (choices, i, choice)
        choice_print(choice);
    show_table(result, "trials", columns, "nothing has been tried there yet");
    told_print(json_object_get(result, "told"));
}

const struct command cmd_search_explain = {
    .group = "search",
    .name = "explain",
    .summary = "Say why nodes were chosen, what was tried there, and what came out.",
    .method = METHOD_SEARCH_EXPLAIN,
    .pos = explain_pos,
    .print = explain_print,
};
