/* SPDX-License-Identifier: Apache-2.0 */
/* What is done with a model's answers; see author_priv.h. */
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/artifact.h"
#include "search/author_priv.h"
#include "search/distil.h"
#include "search/journal.h"
#include "search/plan_answer.h"
#include "search/select.h"
#include "search/strategy.h"
#include "search/thinking.h"

/* The event that an answer was used; `more` is stolen. */
static int used(struct author *a, uint64_t call, bool fruitful, json_t *more, struct err *err)
{
    json_t *ev = json_pack("{s:s, s:I, s:b}", "type", "used", "call", (json_int_t)call, "fruitful",
                           fruitful);

    if (ev != NULL && more != NULL)
        json_object_update(ev, more);
    json_decref(more);
    return journal_add(a->j, ev, err);
}

static const char *first_error(const json_t *errors)
{
    const char *text = json_string_value(json_array_get(errors, 0));

    return text ? text : "it could not be read";
}

/* An answer as the next try is shown it: the lines that errors tell are counted in this. Owned. */
static char *previous_of(const struct call *c)
{
    const char *said = thinking_skip(c->answer);

    return xstrdup(said ? said : "");
}

/* ---- Edits of the world model ---- */

static bool is_within(const struct world *w, uint32_t node, uint32_t top)
{
    while (node != top && node != WORLD_NONE)
        node = world_get(w, node)->parent;
    return node == top;
}

/* A cycle whose node is abandoned under it could not end. */
static bool leaves_open_cycles(const struct search *s, const struct world_edit *edit,
                               json_t *errors)
{
    size_t before = json_array_size(errors);

    for (size_t i = 0; i < edit->n_ops; i++) {
        uint32_t top = world_find(s->world, edit->ops[i].node);

        if (edit->ops[i].kind != WORLD_OP_ABANDON || top == WORLD_NONE)
            continue;
        for (unsigned k = 0; k < LANES_MAX; k++)
            if (lane_in_cycle(&s->lanes[k]) &&
                is_within(s->world, world_find(s->world, s->lanes[k].node), top))
                json_array_append_new(
                    errors, json_sprintf("operation %zu: node '%s' is being worked on; it can be "
                                         "abandoned when its cycle is over",
                                         i + 1, s->lanes[k].node));
    }
    return json_array_size(errors) == before;
}

/* Would the edit be applied? What is wrong becomes sentences. */
static bool edit_fits(struct search *s, const struct world_edit *edit, json_t *errors)
{
    CLEANUP(world_report_release) struct world_report report = { 0 };
    struct err err;

    if (world_try(s->world, edit, &report, &err) == 0)
        return leaves_open_cycles(s, edit, errors);
    for (size_t i = 0; i < report.n_issues; i++) {
        CLEANUP(freep)
        char *text =
            report.issues[i].op == SIZE_MAX
                ? xstrdup(report.issues[i].text)
                : str_printf("operation %zu: %s", report.issues[i].op + 1, report.issues[i].text);

        json_array_append_new(errors, json_string(text));
    }
    if (report.n_issues == 0)
        json_array_append_new(errors, json_string(err.msg));
    return false;
}

/* A plain tree to begin with where the model gives none: what is tried first on any kernel. */
static int plain_tree(struct author *a, struct err *err)
{
    static const struct {
        const char *bottleneck; /* of the task; NULL: of any */
        const char *id, *title, *description;
        double score;
    } rows[] = {
        { NULL, "plain1", "work in parallel over the independent outputs",
          "Divide the outputs among all threads so that each has about equal work; split the "
          "longest piece when there are fewer pieces than threads.",
          0.8 },
        { "memory", "plain2", "read every byte once, in order",
          "Fuse passes over the same data, walk it in the order in which it lies, and keep what is "
          "used again in the cache by tiles of its size.",
          0.7 },
        { "memory", "plain3", "fetch ahead what is read through an index",
          "Ask for rows some iterations before they are used, into the nearest cache that holds "
          "them until then; vectorise the conversions and sums on the way.",
          0.6 },
        { "compute", "plain2", "tiles of results in registers",
          "Compute a block of outputs at a time whose sums stay in vector registers, so that each "
          "value loaded is used several times and many multiply-adds are under way.",
          0.7 },
        { "compute", "plain3", "pack operands for the widest products",
          "Lay the operands out in the order in which the inner loop takes them, in the narrowest "
          "type that the tolerance allows and the device multiplies fastest.",
          0.6 },
        { "", "plain2", "vectorise the innermost loops",
          "Arrange data and loops so that the compiler, or intrinsics, use the widest vectors on "
          "contiguous data; keep several accumulators.",
          0.7 },
        { "", "plain3", "touch memory once",
          "Fuse passes over the same data, tile so that what is used again stays in the cache, and "
          "fetch ahead what is read through an index.",
          0.6 },
    };
    const char *bound = a->s->scope.bottleneck;
    bool known = strcmp(bound, "memory") == 0 || strcmp(bound, "compute") == 0;
    struct world_edit edit;

    world_edit_init(&edit, WORLD_BY_SYSTEM, "init", a->s->n_trials);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct world_spec *spec;

        if (rows[i].bottleneck != NULL && strcmp(rows[i].bottleneck, known ? bound : "") != 0)
            continue;
        spec = &world_edit_add(&edit, WORLD_OP_INSERT, world_get(a->s->world, 0)->id)->spec;

        world_spec_text(spec, WORLD_SET_ID, rows[i].id);
        world_spec_text(spec, WORLD_SET_TITLE, rows[i].title);
        world_spec_text(spec, WORLD_SET_CHOICE, rows[i].title);
        world_spec_text(spec, WORLD_SET_DESCRIPTION, rows[i].description);
        world_spec_number(spec, WORLD_SET_SCORE, rows[i].score);
        world_spec_number(spec, WORLD_SET_RATING, 10 * rows[i].score);
        world_spec_number(spec, WORLD_SET_DIFFICULTY, 2);
    }
    if (world_try(a->s->world, &edit, NULL, err) != 0) {
        world_edit_release(&edit); /* the model had planted such a tree before */
        return 0;
    }
    return author_edit(a, &edit, err);
}

/* After the last try of a planner's call: the search goes on without. */
static int plan_gave_nothing(struct author *a, const struct call *c, const char *why,
                             struct err *err)
{
    if (c->kind == CALL_INIT)
        return plain_tree(a, err);
    if (c->lane >= 0)
        return author_told(a, &a->s->lanes[c->lane], NULL, why, err);
    return 0; /* CALL_PROPOSE: whoever chooses falls back */
}

static int ask_again(struct author *a, const struct call *c, const char *previous,
                     const json_t *errors, struct err *err)
{
    struct prompt_ask ask = { .kind = c->kind,
                              .lane = c->lane,
                              .attempt = c->attempt + 1,
                              .previous = previous,
                              .errors = errors };

    if (c->lane >= 0)
        ask.sample = a->s->lanes[c->lane].cycle - 1;
    if (c->kind == CALL_MUTATE) {
        struct strategy_step step;

        strategy_step_of(a->s, &a->s->lanes[c->lane], &step);
        ask.n_parents = step.n_parents;
        memcpy(ask.parents, step.parents, sizeof(step.parents));
    }
    return author_ask(a, &ask, err);
}

static int plan_failed(struct author *a, const struct call *call, json_t *errors, struct err *err)
{
    struct call c = *call; /* asking again moves the calls */
    CLEANUP(freep) char *previous = previous_of(call);
    CLEANUP(freep)
    char *why = str_printf("no usable answer in %u tries: %s", c.attempt, first_error(errors));

    if (used(a, c.n, false, json_pack("{s:O}", "errors", errors), err) != 0)
        return -1;
    if (c.attempt < CALL_TRIES_MAX && spend_talk_exhausted(a->s) == NULL)
        return ask_again(a, &c, previous, errors, err);
    return plan_gave_nothing(a, &c, why, err);
}

/* After a plan: an init that planted nothing gets the plain tree. */
static int after_plan(struct author *a, enum call_kind kind, struct err *err)
{
    uint32_t any;

    if (kind == CALL_INIT && select_frontier(a->s->world, &any, 1) == 0)
        return plain_tree(a, err);
    return 0;
}

static int take_plan(struct author *a, const struct call *call, struct plan_answer *plan,
                     struct err *err)
{
    uint64_t n = call->n;
    enum call_kind kind = call->kind;
    int lane = call->lane;
    bool edits = plan->edit.n_ops > 0;
    json_t *more = json_pack("{s:O}", "repairs", plan->repairs);

    if (edits)
        json_object_set_new(more, "edit", world_edit_to_json(&plan->edit));
    if (kind == CALL_INIT) {
        json_object_set_new(more, "summary", json_string(plan->summary));
        json_object_set(more, "questions", plan->questions);
    }
    if (used(a, n, edits, more, err) != 0)
        return -1;
    if (lane >= 0)
        return author_told(a, &a->s->lanes[lane], plan->insights, "", err);
    return after_plan(a, kind, err);
}

static int use_plan(struct author *a, const struct call *c, struct err *err)
{
    json_auto_t *errors = json_array();
    struct plan_answer plan = { 0 };
    struct err bad;
    int rc;

    if (plan_answer_parse(c->kind, c->answer, a->s->n_trials, a->s->strategy->flat, &plan, errors,
                          &bad) != 0 ||
        (plan.edit.n_ops > 0 && !edit_fits(a->s, &plan.edit, errors)))
        rc = plan_failed(a, c, errors, err);
    else
        rc = take_plan(a, c, &plan, err);
    plan_answer_release(&plan);
    return rc;
}

/* ---- What is learned of a cycle ---- */

static int distil(struct author *a, const struct lane *l, const json_t *insights, json_t **report,
                  struct err *err)
{
    struct distil_case c = { .node = world_find(a->s->world, l->node),
                             .cycle = l->cycle,
                             .with = search_trial(a->s, l->best),
                             .without = search_trial(a->s, search_program_best(a->s, l->base)),
                             .memory_free = !warm_model_steers(a->s, l) };

    return distil_cycle(a->j, &c, insights, report, err);
}

/* A node just solved keeps an open child, whatever the model does. */
static int go_on(struct author *a, const char *node, struct err *err)
{
    struct search *s = a->s;
    uint32_t at = world_find(s->world, node);
    struct world_edit edit;

    if (s->strategy->flat || !world_is_solved(world_get(s->world, at)) ||
        select_has_continuation(s->world, at))
        return 0;
    select_continuation_edit(s->world, at, s->n_trials, &edit);
    if (world_try(s->world, &edit, NULL, err) != 0) {
        world_edit_release(&edit); /* only a full world refuses it: the search ends there anyway */
        return 0;
    }
    return author_edit(a, &edit, err);
}

int author_told(struct author *a, const struct lane *l, const json_t *insights, const char *why,
                struct err *err)
{
    char node[WORLD_ID_MAX + 1];
    json_t *report = NULL;

    str_copy(node, sizeof(node), l->node);
    if (distil(a, l, insights, &report, err) != 0)
        return -1;
    if (author_lane_event(
            a, "told", l,
            json_pack("{s:s, s:o}", "why", why, "distilled", report ? report : json_null()),
            err) != 0)
        return -1;
    return go_on(a, node, err);
}

/* ---- Programs ---- */

/* The text that patches apply to; NULL where only a whole file will do. */
static const char *patch_base(const struct search *s, const struct call *c)
{
    if (c->kind == CALL_SAMPLE)
        return NULL;
    return search_program_source(s, lane_current(s, &s->lanes[c->lane]));
}

static int no_program(struct author *a, const struct call *call, json_t *errors, struct err *err)
{
    struct call c = *call;
    CLEANUP(freep) char *previous = previous_of(call);
    CLEANUP(freep)
    char *why = str_printf("no program in %u answer%s: %s", c.attempt, c.attempt == 1 ? "" : "s",
                           first_error(errors));

    if (used(a, c.n, false, json_pack("{s:O}", "errors", errors), err) != 0)
        return -1;
    if (c.attempt < CALL_TRIES_MAX && spend_talk_exhausted(a->s) == NULL)
        return ask_again(a, &c, previous, errors, err);
    return author_round(a, &a->s->lanes[c.lane], 0, why, err);
}

static json_t *prediction(const struct artifact *art)
{
    return art->has_expected
               ? json_pack("{s:f, s:f}", "expected", art->expected, "expected_sd", art->expected_sd)
               : json_object();
}

static json_t *cited(const struct artifact *art)
{
    json_t *uses = json_array();

    for (size_t i = 0; i < art->n_uses; i++)
        json_array_append_new(uses, json_string(art->uses[i]));
    return uses;
}

int author_known(struct author *a, const struct lane *l, uint32_t number, struct err *err)
{
    uint64_t best = search_program_best(a->s, number);
    CLEANUP(freep)
    char *why =
        str_printf("the same program as number %u, measured before as evaluation %llu", number,
                   (unsigned long long)(best ? best : search_program_last(a->s, number)));

    return author_round(a, l, 0, why, err);
}

static int add_program(struct author *a, int lane, uint64_t call, uint32_t parent,
                       const struct artifact *art, struct err *err)
{
    struct search *s = a->s;
    struct search_scope scope = s->scope;
    json_auto_t *doc = program_document(&scope, art->source, art->space);
    uint32_t known = search_program_find(s, &scope.program);
    bool measured = known != PROGRAM_NONE && search_program_last(s, known) != 0;
    json_t *more;

    if (used(a, call, !measured, NULL, err) != 0)
        return -1;
    if (measured)
        return author_known(a, &s->lanes[lane], known, err);
    if (kb_batch_put_doc(a->j->batch, KB_PROGRAM, scope.program.hex, doc, err) != 0)
        return -1;
    more = json_pack("{s:I, s:s, s:s, s:O, s:I, s:I, s:s, s:b, s:o}", "program",
                     (json_int_t)(known != PROGRAM_NONE ? known : search_programs(s)), "id",
                     scope.program.hex, "source", art->source, "space", art->space, "parent",
                     (json_int_t)parent, "call", (json_int_t)call, "note", art->note, "patched",
                     art->patched, "uses", cited(art));
    json_object_update_new(more, prediction(art));
    return author_lane_event(a, "program", &s->lanes[lane], more, err);
}

/* "STOP: why", and nothing else: whoever writes the programs sees nothing more to gain here. */
#define STOP_WORD "STOP:"

static bool stops(const struct call *c)
{
    const char *text = c->answer + strspn(c->answer, " \t\r\n");

    return (c->kind == CALL_IMPROVE || c->kind == CALL_DEBUG) &&
           strncmp(text, STOP_WORD, strlen(STOP_WORD)) == 0 && strstr(text, "```") == NULL &&
           strlen(text) <= ARTIFACT_NOTE_MAX + strlen(STOP_WORD);
}

static int author_stop(struct author *a, const struct call *c, struct err *err)
{
    const char *text = strchr(c->answer, ':') + 1;
    int lane = c->lane;
    char reason[300]; /* what ends a cycle is bounded, WORLD_REASON_MAX */
    CLEANUP(freep) char *why = NULL;

    text += strspn(text, " \t\r\n");
    str_visible(text, strcspn(text, "\r\n"), reason, sizeof(reason));
    why = str_printf("its author stops: %s", reason[0] ? reason : "no reason given");
    if (used(a, c->n, true, json_pack("{s:s}", "stop", reason), err) != 0)
        return -1;
    return author_end_cycle(a, &a->s->lanes[lane], why, err);
}

static int use_program(struct author *a, const struct call *c, struct err *err)
{
    json_auto_t *errors = json_array();
    struct artifact art = { 0 };
    struct search *s = a->s;
    uint64_t call = c->n;
    int lane = c->lane, rc;
    uint32_t parent = lane_current(s, &s->lanes[lane]);
    struct err bad;

    if (stops(c))
        return author_stop(a, c, err);
    if (artifact_parse(s->scope.language, c->answer, patch_base(s, c), &art, errors, &bad) != 0)
        rc = no_program(a, c, errors, err);
    else
        rc = add_program(a, lane, call, parent, &art, err);
    artifact_release(&art);
    return rc;
}

int author_use(struct author *a, const struct call *c, struct err *err)
{
    return call_writes(c->kind) ? use_program(a, c, err) : use_plan(a, c, err);
}
