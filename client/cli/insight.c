/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch insight list | show | add | retract. */
#include "cli.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "show.h"

static const struct opt list_opts[] = {
    { "family", OPT_TEXT, "F", "family", 0, "only claims about this family" },
    { "technique", OPT_TEXT, "X", "technique", 0,
      "only claims of this technique, as it is listed" },
    { "state", OPT_TEXT, "S", "state", 0, "only active, superseded or retracted insights" },
    { "limit", OPT_UINT, "N", "limit", 0, "most insights to list" },
    { 0 }
};

static void list_print(const json_t *result)
{
    static const struct column columns[] = {
        { "INSIGHT", "insight", SHOW_SHORT },    { "TECHNIQUE", "technique", SHOW_TEXT },
        { "STATE", "state", SHOW_TEXT },         { "EFFECT", "effect.mean", SHOW_LOG },
        { "BLIND", "blind", SHOW_TEXT },         { "STEERED", "steered", SHOW_TEXT },
        { "FAILED", "failures", SHOW_TEXT },     { "FAMILY", "scope.family", SHOW_TEXT },
        { "STATEMENT", "statement", SHOW_TEXT }, { 0 }
    };

    show_table(result, "insights", columns, "no such insights yet");
}

const struct command cmd_insight_list = {
    .group = "insight",
    .name = "list",
    .summary = "List what has been learned.",
    .method = METHOD_INSIGHT_LIST,
    .opts = list_opts,
    .print = list_print,
};

static const struct pos insight_pos[] = {
    { "I", "insight", ROW_REQUIRED, "id of the insight, or its first digits" }, { 0 }
};

/* What the newest failure of each class said. */
static void failures_print(const json_t *failures)
{
    json_t *f;
    size_t i;

    json_array_foreach (failures, i, f) {
        CLEANUP(freep) char *class = show_text_at(f, "class", SHOW_TEXT);
        CLEANUP(freep) char *message = show_text_at(f, "message", SHOW_TEXT);
        CLEANUP(freep)
        char *line = str_printf("failed %lld time%s: %s%s%s", jsonx_int(f, "n", 0),
                                jsonx_int(f, "n", 0) == 1 ? "" : "s", class,
                                strcmp(message, "-") == 0 ? "" : "; the newest: ",
                                strcmp(message, "-") == 0 ? "" : message);

        if (line)
            show_wrapped(line, 4);
    }
}

/* The other claims that say the same. */
static void same_print(const json_t *same)
{
    json_t *s;
    size_t i;

    json_array_foreach (same, i, s) {
        CLEANUP(freep) char *id = show_text_at(s, "insight", SHOW_SHORT);
        CLEANUP(freep) char *statement = show_text_at(s, "statement", SHOW_TEXT);
        CLEANUP(freep) char *state = show_text_at(s, "state", SHOW_TEXT);
        CLEANUP(freep) char *line = str_printf("same as %s (%s): %s", id, state, statement);

        if (line)
            show_wrapped(line, 4);
    }
}

static void print_credit(const json_t *credit)
{
    CLEANUP(freep) char *lift = show_text_at(credit, "lift", SHOW_LOG);
    CLEANUP(freep) char *debit = show_text_at(credit, "debit", SHOW_LOG);

    if (jsonx_int(credit, "served", 0) == 0)
        return;
    printf("  credit: offered to %lld attempts, followed by %lld, contradicted by %lld; %lld wins, "
           "%lld losses; its shares add up to %s and %s\n",
           jsonx_int(credit, "served", 0), jsonx_int(credit, "adopted", 0),
           jsonx_int(credit, "against", 0), jsonx_int(credit, "wins", 0),
           jsonx_int(credit, "losses", 0), lift, debit);
}

static void show_print(const json_t *insight)
{
    static const struct column columns[] = { { "CELL", "cell", SHOW_TEXT },
                                             { "EFFECT", "mean", SHOW_LOG },
                                             { "BLIND", "blind", SHOW_TEXT },
                                             { "STEERED", "steered", SHOW_TEXT },
                                             { "POSITIVE", "positive", SHOW_TEXT },
                                             { "NEGATIVE", "negative", SHOW_TEXT },
                                             { "FAILED", "failures", SHOW_TEXT },
                                             { "IMPORTED", "foreign", SHOW_TEXT },
                                             { "BLIND EFFECT", "blind_mean", SHOW_LOG },
                                             { 0 } };
    CLEANUP(freep) char *id = show_text_at(insight, "insight", SHOW_TEXT);

    printf("insight %s\n", id);
    insight_print(insight);
    print_credit(json_object_get(insight, "credit"));
    if (jsonx_bool(insight, "contradicted", 0))
        show_wrapped("contradicted: measurements of both signs, and no condition tells them apart",
                     4);
    failures_print(json_object_get(insight, "newest_failures"));
    same_print(json_object_get(insight, "same_as"));
    if (json_array_size(json_object_get(insight, "cells")) > 0) {
        putchar('\n');
        show_table(insight, "cells", columns, "");
    }
}

const struct command cmd_insight_show = {
    .group = "insight",
    .name = "show",
    .summary = "Show one insight with its evidence.",
    .method = METHOD_INSIGHT_SHOW,
    .pos = insight_pos,
    .print = show_print,
};

static const struct opt add_opts[] = {
    { "technique", OPT_TEXT, "X", "technique", ROW_REQUIRED,
      "what is done, a term such as tiling" },
    { "statement", OPT_TEXT, "TEXT", "statement", ROW_REQUIRED, "the claim, one or two sentences" },
    { "mechanism", OPT_TEXT, "TEXT", "mechanism", 0, "why it should work" },
    { "family", OPT_TEXT, "F", "family", 0, "only for tasks of this family" },
    { "dtype", OPT_TEXT, "D", "dtype", 0, "only for this data type" },
    { "language", OPT_TEXT, "L", "language", 0, "only for this language: c, cuda" },
    { "bottleneck", OPT_TEXT, "B", "bottleneck", 0,
      "only where this bounds: memory, compute or latency" },
    { "requires", OPT_TEXT, "LIST", "requires", 0,
      "hardware features it needs, or capacities such as shared_bytes.block>=65536, joined by "
      "commas" },
    { 0 }
};

const struct command cmd_insight_add = {
    .group = "insight",
    .name = "add",
    .summary = "State a claim by hand; measurements will judge it.",
    .method = METHOD_INSIGHT_ADD,
    .opts = add_opts,
};

static const struct opt retract_opts[] = {
    { "reason", OPT_TEXT, "TEXT", "reason", 0, "why (withdrawn by hand)" }, { 0 }
};

static int retract_run(struct cli *cli, const struct command *cmd, struct args *args,
                       struct err *err)
{
    if (json_object_get(args->params, "reason") == NULL)
        json_object_set_new(args->params, "reason", json_string("withdrawn by hand"));
    return cli_run_call(cli, cmd, args, err);
}

const struct command cmd_insight_retract = {
    .group = "insight",
    .name = "retract",
    .summary = "Withdraw an insight; a tombstone keeps what it said.",
    .method = METHOD_INSIGHT_RETRACT,
    .pos = insight_pos,
    .opts = retract_opts,
    .run = retract_run,
};
