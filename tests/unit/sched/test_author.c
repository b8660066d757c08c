/* SPDX-License-Identifier: Apache-2.0 */
/* Planning with a language model, step by step: what is asked when, what becomes of answers, what
 * is measured, when cycles and searches end. The models are scripts. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab_llm.h"
#include "search/author.h"
#include "search/journal.h"
#include "unit/test.h"

typedef char *model_fn(struct lab *lab, const struct llm_request *req);

static struct search *search_with(struct lab *lab, const char *dir, model_fn *model, void *ctx,
                                  uint32_t lanes, uint64_t evals)
{
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, evals };

    lab->dir = dir;
    lab->worth = lab_bowl;
    lab->model = model;
    lab->model_ctx = ctx;
    if (lab->strategy == NULL)
        lab->strategy = "world-model";
    lab->lanes = lanes;
    if (lab->window == 0)
        lab->window = 3;
    lab_open(lab);
    return lab_search(lab, &run);
}

static void done(struct lab *lab, struct search *s, json_t *events)
{
    json_decref(events);
    search_free(s);
    lab_close(lab);
}

static bool is_type(const json_t *ev, const char *type)
{
    return strcmp(jsonx_str(ev, "type", ""), type) == 0;
}

static bool is_kind(const json_t *ev, const char *kind)
{
    return is_type(ev, "asked") && strcmp(jsonx_str(ev, "kind", ""), kind) == 0;
}

/* ---- What is asked ---- */

/* Of one lane, while its events are walked through. */
struct walk {
    bool open, passed, ended;
    unsigned programs;
};

static void check_asked(struct walk *w, const json_t *ev)
{
    const char *kind = jsonx_str(ev, "kind", "");

    if (jsonx_int(ev, "try", 0) > 1)
        return;
    if (w->ended) {
        assert_string_equal(kind, w->passed ? "refine" : "too_hard");
        return;
    }
    assert_true(w->open);
    assert_string_equal(kind, w->programs == 0 ? "code" : w->passed ? "improve" : "debug");
}

static void walk_lanes(const json_t *events)
{
    struct walk lanes[LANES_MAX] = { 0 };
    json_t *ev;
    size_t i;

    json_array_foreach (events, i, ev) {
        struct walk *w = &lanes[MAX(0, jsonx_int(ev, "lane", 0))];

        if (is_type(ev, "cycle"))
            *w = (struct walk){ .open = true };
        else if (is_type(ev, "cycle_end"))
            w->ended = true;
        else if (is_type(ev, "round"))
            w->programs++;
        else if (is_type(ev, "asked") && jsonx_int(ev, "lane", -1) >= 0)
            check_asked(w, ev);
        else if (is_type(ev, "told"))
            *w = (struct walk){ 0 };
        /* the lane of a measurement is that of the attempt before it */
        else if (is_type(ev, "measured") && strcmp(jsonx_str(ev, "status", ""), "ok") == 0)
            lanes[jsonx_int(json_array_get(events, i), "lane",
                            jsonx_int(json_array_get(events, i - 1), "lane", 0))]
                .passed = true;
    }
}

static void prompts_come_in_the_order_of_the_states(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 1, 80);
    json_t *events = lab_events(s), *ev;
    size_t i, n[CALL_KIND_COUNT] = { 0 };

    assert_int_equal(s->state, SEARCH_DONE);
    walk_lanes(events);
    json_array_foreach (events, i, ev)
        if (is_type(ev, "asked") && n[call_kind_from_name(jsonx_str(ev, "kind", ""))]++ == 0 &&
            is_kind(ev, "init"))
            assert_int_equal(jsonx_int(ev, "call", 0), 1);
    assert_int_equal(n[CALL_INIT], 1);
    assert_true(n[CALL_CODE] > 2 && n[CALL_DEBUG] > 0 && n[CALL_IMPROVE] > 2);
    assert_true(n[CALL_REFINE] > 2);
    assert_int_equal(n[CALL_SAMPLE] + n[CALL_MUTATE], 0);
    done(&lab, s, events);
}

/* What the search begins with is measured before anything is asked. */
static void the_seed_is_measured_first_and_closes_the_root(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 1, 6);
    const struct world_node *root = world_get(s->world, 0);
    json_t *events = lab_events(s), *ev;
    bool measured = false;
    size_t i;

    json_array_foreach (events, i, ev) {
        measured |= is_type(ev, "measured");
        assert_true(!is_type(ev, "asked") || measured);
    }
    assert_int_equal(search_trial(s, 1)->program, 0);
    assert_true(world_is_solved(root));
    assert_string_equal(root->evidence.program, s->scope.program.hex);
    assert_int_equal(root->evidence.evaluation, 1);
    done(&lab, s, events);
}

static void a_seed_that_fails_leaves_the_root_open_and_the_search_goes_on(void **state)
{
    struct lab lab = { .seed_source = "int ks_kernel; /* worth=nan path= */" };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 1, 12);

    assert_int_equal(s->state, SEARCH_DONE);
    assert_false(search_trial(s, 1)->ok);
    assert_false(world_is_solved(world_get(s->world, 0)));
    assert_int_equal(search_measured(s), 12);
    assert_true(s->champion > 1);
    done(&lab, s, NULL);
}

/* ---- Lanes ---- */

static void lanes_work_on_different_nodes_and_siblings_cost(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 3, 40);
    json_t *events = lab_events(s), *ev;
    const char *busy[LANES_MAX] = { 0 };
    size_t i, together = 0, penalised = 0;

    walk_lanes(events);
    json_array_foreach (events, i, ev) {
        size_t lane = (size_t)MAX(0, jsonx_int(ev, "lane", 0)), open = 0;
        const json_t *chosen = json_object_get(json_object_get(ev, "choice"), "chosen");

        if (is_type(ev, "told") || (is_type(ev, "cycle_end") && !jsonx_bool(ev, "tell", 0)))
            busy[lane] = NULL;
        if (!is_type(ev, "cycle"))
            continue;
        assert_true(lane < 3 && busy[lane] == NULL);
        for (size_t k = 0; k < LANES_MAX; k++) {
            assert_true(busy[k] == NULL || strcmp(busy[k], jsonx_str(ev, "node", "")) != 0);
            open += busy[k] != NULL;
        }
        busy[lane] = jsonx_str(ev, "node", "");
        together = MAX(together, open + 1);
        penalised += jsonx_int(chosen, "siblings_in_flight", 0) > 0;
    }
    assert_int_equal(together, 3);
    assert_true(penalised > 0);
    done(&lab, s, events);
}

static void answers_that_arrive_one_by_one_are_used_as_they_come(void **state)
{
    struct lab lab = { .slow = true };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 3, 30);
    json_t *events = lab_events(s);

    assert_int_equal(s->state, SEARCH_DONE);
    assert_int_equal(search_measured(s), 30);
    walk_lanes(events);
    done(&lab, s, events);
}

/* Calls that are never answered hold nothing up but their own lane. */
static char *silent_on_b(struct lab *lab, const struct llm_request *req)
{
    return !req->schema && strstr(req->prompt, "Node: sB\n") ? NULL : script_sensible(lab, req);
}

static void a_call_without_an_answer_holds_up_its_own_lane_alone(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, silent_on_b, NULL, 2, 25);

    assert_int_equal(s->state, SEARCH_DONE);
    assert_int_equal(search_measured(s), 25);
    for (uint64_t n = 1; n <= 25; n++)
        assert_string_not_equal(search_trial(s, n)->node, "sB");
    done(&lab, s, NULL);
}

/* ---- Measuring ---- */

static void tunables_are_tuned_within_the_cycle_without_the_model(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 1, 40);
    size_t tuned = 0;

    for (uint32_t p = 1; p < search_programs(s); p++) {
        const struct trial *first = NULL;
        size_t n = 0;

        for (uint64_t i = 1; i <= search_measured(s); i++) {
            const struct trial *t = search_trial(s, i);

            if (t->program != p)
                continue;
            n++;
            first = first ? first : t;
            assert_int_equal(t->cycle, first->cycle);
            assert_int_equal(t->attempt, first->attempt);
            assert_int_equal(t->n - first->n + 1, n); /* one after the other */
        }
        if (space_n(search_program_space(s, p)) == 0) {
            assert_true(n <= 1);
            continue;
        }
        if (n < 3)
            continue; /* where the budget ended */
        tuned++;
        assert_int_equal(search_trial(s, search_program_best(s, p))->a[0], 2);
    }
    assert_true(tuned > 0);
    done(&lab, s, NULL);
}

/* The plan of the sensible one, and one program whatever is asked. */
static char *one_idea(struct lab *lab, const struct llm_request *req)
{
    return req->schema ? script_sensible(lab, req) : script_program(0.2, "path=A q=0", true);
}

static void check_no_program_twice(uint32_t lanes, const char *dir)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, dir, one_idea, NULL, lanes, 40);
    json_t *events = lab_events(s), *ev;
    size_t i, told = 0;

    assert_int_equal(s->state, SEARCH_DONE); /* and it ends */
    for (uint64_t n = 1; n <= search_measured(s); n++)
        for (uint64_t k = 1; k < n; k++)
            assert_false(search_trial(s, n)->program == search_trial(s, k)->program &&
                         search_trial(s, n)->a[0] == search_trial(s, k)->a[0]);
    json_array_foreach (events, i, ev)
        told += is_type(ev, "round") && strstr(jsonx_str(ev, "note", ""), "the same program as");
    assert_int_equal(search_programs(s), 2);
    assert_true(told > 3);
    done(&lab, s, events);
}

static void an_identical_program_is_not_measured_twice(void **state)
{
    CLEANUP(freep) char *one = str_printf("%s/one", (char *)*state);
    CLEANUP(freep) char *three = str_printf("%s/three", (char *)*state);

    check_no_program_twice(1, one);
    check_no_program_twice(3, three);
}

/* ---- Patches ---- */

static char *one_plan(void)
{
    return xstrdup("{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":"
                   "{\"node_id\":\"one\",\"action\":{\"title\":\"one\"}}}]}");
}

/* Four rounds of one cycle: what each is worth, and which one it patches. */
struct rounds {
    unsigned now;
    double worth[5];
    unsigned from[5];
};

static char *patch_to(const struct rounds *r)
{
    unsigned to = r->now, from = r->from[to];

    if (from == 0)
        return script_program(r->worth[to], "round=1", false);
    return str_printf("NOTE: round %u\n<<<<<<< SEARCH\n/* worth=%.4f */\n/* round=%u */\n=======\n"
                      "/* worth=%.4f */\n/* round=%u */\n>>>>>>> REPLACE\n",
                      to, r->worth[from], from, r->worth[to], to);
}

static char *in_rounds(struct lab *lab, const struct llm_request *req)
{
    struct rounds *r = lab->model_ctx;

    if (req->schema)
        return strcmp(req->kind, "init") == 0 ? one_plan() : xstrdup("{\"ops\":[]}");
    if (r->now == 4)
        return NULL;
    r->now++;
    return patch_to(r);
}

static void check_rounds(struct rounds *r, const char *dir)
{
    struct lab lab = { .window = 5 };
    struct search *s = search_with(&lab, dir, in_rounds, r, 1, 20);

    assert_int_equal(search_programs(s), 5);
    for (uint32_t p = 1; p < 5; p++)
        assert_int_equal(search_program_record(s, p)->parent, r->from[p]);
    for (uint64_t n = 1; n <= s->calls.n; n++)
        assert_int_equal(calls_get(&s->calls, n)->attempt, 1); /* each of them matched */
    assert_int_equal(s->champion, 5);
    done(&lab, s, NULL);
}

/* What works and is slower is no place to go on from. */
static void patches_apply_to_the_best_program_after_a_slower_one(void **state)
{
    struct rounds r = { 0, { 0, 0.5, 0.3, 0.2, 0.6 }, { 0, 0, 1, 1, 1 } };

    check_rounds(&r, *state);
}

/* What fails may be a slip away from right; after two of them it is the best again. */
static void patches_apply_to_a_program_that_fails_and_to_the_best_after_two(void **state)
{
    struct rounds r = { 0, { 0, 0.5, NAN, NAN, 0.6 }, { 0, 0, 1, 2, 1 } };

    check_rounds(&r, *state);
}

/* ---- Nodes ---- */

/* A planner without edits, and a new program at every call: of the worth that the context says, and
 * a little less each time. */
static char *always_new(struct lab *lab, const struct llm_request *req)
{
    CLEANUP(freep) char *tags = str_printf("call=%llu", (unsigned long long)script_call(req));

    if (req->schema)
        return script_mute(lab, req);
    return script_program(*(double *)lab->model_ctx - 0.01 * (double)script_call(req), tags, false);
}

static void a_node_that_fails_two_cycles_is_abandoned(void **state)
{
    double worth = NAN;
    struct lab lab = { .window = 2 };
    struct search *s = search_with(&lab, *state, always_new, &worth, 1, 40);
    json_t *events = lab_events(s), *ev;
    size_t i, cycles[40] = { 0 }, abandoned = 0;

    assert_int_equal(search_measured(s), 40);
    json_array_foreach (events, i, ev)
        if (is_type(ev, "cycle"))
            cycles[world_find(s->world, jsonx_str(ev, "node", ""))]++;
    for (uint32_t k = 1; k < world_count(s->world); k++) {
        const struct world_node *n = world_get(s->world, k);

        assert_true(cycles[k] <= WORLD_FAILED_CYCLES_MAX);
        if (n->state != WORLD_ABANDONED)
            continue;
        abandoned++;
        assert_int_equal(cycles[k], WORLD_FAILED_CYCLES_MAX);
        assert_int_equal(n->evidence.failed_cycles, 2);
        assert_true(n->evidence.attempts <= 4); /* two rounds in each */
        assert_true(n->reason[0] != '\0');
    }
    assert_true(abandoned >= 8);
    done(&lab, s, events);
}

/* Whatever the planner does: a mute one leaves it to the system. */
static void every_solved_node_has_a_child_to_go_on_with(void **state)
{
    double worth = 0;
    struct lab lab = { .window = 2 };
    struct search *s = search_with(&lab, *state, always_new, &worth, 2, 25);
    size_t solved = 0;

    for (uint32_t i = 1; i < world_count(s->world); i++) {
        const struct world_node *n = world_get(s->world, i);

        if (!world_is_solved(n))
            continue;
        solved++;
        assert_true(n->n_children > 0);
    }
    assert_true(solved > 2);
    done(&lab, s, NULL);
}

static void a_slower_node_closes_and_its_child_starts_from_it(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 3, 60);
    const struct world_node *b = world_get(s->world, world_find(s->world, "sB"));
    const struct world_node *c = world_get(s->world, world_find(s->world, "sBC"));
    const struct trial *first = NULL;
    struct id id;

    assert_true(world_is_solved(b));
    assert_true(b->evidence.objective_q < world_get(s->world, 0)->evidence.objective_q);
    for (uint64_t n = 1; n <= search_measured(s) && first == NULL; n++)
        if (strcmp(search_trial(s, n)->node, "sBC") == 0)
            first = search_trial(s, n);
    assert_non_null(first);
    str_copy(id.hex, sizeof(id.hex), b->evidence.program);
    assert_int_equal(search_program_record(s, first->program)->parent, search_program_find(s, &id));
    assert_true(c->evidence.objective_q > world_get(s->world, 0)->evidence.objective_q);
    done(&lab, s, NULL);
}

/* ---- Errors and repairs ---- */

/* A good operation and two bad ones; later the good one alone, under the same id. */
static char *mends_itself(struct lab *lab, const struct llm_request *req)
{
    static const char good[] =
        "{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":"
        "\"g1\",\"action\":{\"title\":\"step H\",\"score_0_to_1\":0.9}}}";
    char name[61];

    if (strcmp(req->kind, "init") != 0 || req->attempt == 3)
        return strcmp(req->kind, "init") == 0 ? str_printf("{\"ops\":[%s]}", good)
                                              : script_sensible(lab, req);
    memset(name, 'q', 60);
    name[60] = '\0';
    return str_printf("{\"ops\":[%s,{\"op\":\"insert_node\",\"parent_id\":\"%s%u\",\"node\":"
                      "{\"action\":{\"title\":\"x\"}}},{\"op\":\"insert_node\",\"parent_id\":"
                      "\"root\",\"node\":{\"%s\":1}}]}",
                      good, name, req->attempt, name);
}

static void what_was_wrong_is_told_whole_and_the_edit_starts_anew(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, mends_itself, NULL, 1, 5);
    json_t *events = lab_events(s), *errors = NULL, *ev, *e;
    size_t i, k, repeated = 0;

    json_array_foreach (events, i, ev) {
        if (is_type(ev, "used"))
            errors = json_object_get(ev, "errors");
        if (!is_type(ev, "asked") || jsonx_int(ev, "try", 0) < 2)
            continue;
        repeated++;
        assert_true(json_array_size(errors) >= 1);
        json_array_foreach (errors, k, e)
            assert_non_null(strstr(jsonx_str(ev, "prompt", ""), json_string_value(e)));
    }
    assert_int_equal(repeated, 2);
    assert_true(world_find(s->world, "g1") != WORLD_NONE); /* free until it was committed */
    done(&lab, s, events);
}

/* The node that a prompt is about. */
static void node_of(const struct llm_request *req, char *out, size_t size)
{
    const char *at = strstr(req->prompt, "Node: ");

    assert_non_null(at);
    snprintf(out, size, "%.*s", (int)strcspn(at + 6, " ,\n"), at + 6);
}

/* The context is not the script's. */
static char *plainly(struct lab *lab, const struct llm_request *req)
{
    void *own = lab->model_ctx;
    char *text;

    lab->model_ctx = NULL;
    text = script_sensible(lab, req);
    lab->model_ctx = own;
    return text;
}

/* When it hears of one cycle it gives up what the other one is working on. */
static char *gives_up(struct lab *lab, const struct llm_request *req)
{
    char(*last)[64] = lab->model_ctx, mine[64];

    if (strcmp(req->kind, "init") == 0 || strcmp(req->kind, "propose") == 0)
        return plainly(lab, req);
    node_of(req, mine, sizeof(mine));
    if (req->schema == NULL) {
        memmove(last[1], last[0], 64);
        memcpy(last[0], mine, 64);
        return plainly(lab, req);
    }
    if (req->attempt > 1)
        return xstrdup(strcmp(req->kind, "refine") == 0 ? "{\"ops\":[],\"insights\":[]}"
                                                        : "{\"ops\":[]}");
    return str_printf("{\"ops\":[{\"op\":\"abandon_node\",\"node_id\":\"%s\",\"reason\":\"it leads "
                      "nowhere\"}]}",
                      last[strcmp(last[0], mine) == 0]);
}

static void a_node_that_is_worked_on_cannot_be_given_up(void **state)
{
    struct lab lab = { 0 };
    char last[2][64] = { "", "" };
    struct search *s = search_with(&lab, *state, gives_up, last, 3, 30);
    json_t *events = lab_events(s), *ev, *e;
    size_t i, k, told = 0;

    assert_int_equal(s->state, SEARCH_DONE);
    json_array_foreach (events, i, ev)
        json_array_foreach (json_object_get(ev, "errors"), k, e)
            told += strstr(json_string_value(e), "is being worked on") != NULL;
    assert_true(told > 0);
    done(&lab, s, events);
}

/* Memory is asked when a search begins, also when it was paused before it could. */
static void a_search_paused_at_once_begins_when_it_goes_on(void **state)
{
    static const char *const types[] = { "paused", "resumed" };
    struct lab lab = { .dir = *state, .worth = lab_bowl, .model = script_sensible };

    lab_open(&lab);
    for (int with_model = 0; with_model <= 1; with_model++) {
        struct lab_run run = { with_model ? "s2" : "s1", "lab_a", "n=4", false, 7, 3 };
        struct search *s;
        json_t *events, *ev;
        size_t i, seeded = 0;

        lab.strategy = with_model ? "world-model" : NULL;
        s = lab_begin(&lab, &run);
        for (i = 0; i < ARRAY_LEN(types); i++) {
            struct journal j;
            struct err err;

            assert_ok(journal_open(&j, s, &lab.clock.clock, &err), err);
            assert_ok(journal_add(&j, json_pack("{s:s}", "type", types[i]), &err), err);
            assert_ok(journal_commit(&j, &err), err);
            journal_close(&j);
        }
        while (lab_step(&lab, &s))
            ;
        events = lab_events(s);
        json_array_foreach (events, i, ev)
            seeded += is_type(ev, "seeded");
        assert_int_equal(seeded, 1);
        assert_non_null(s->memory);
        assert_int_equal(s->state, SEARCH_DONE);
        json_decref(events);
        search_free(s);
    }
    lab_close(&lab);
}

static char *untidy(struct lab *lab, const struct llm_request *req)
{
    if (strcmp(req->kind, "init") != 0)
        return script_sensible(lab, req);
    return xstrdup(
        "Here is the plan:\n```json\n{\"ops\": [{\"op\": \"insert_node\", \"parent_id\": "
        "\"root\", \"node\": {\"node_id\": \"u1\", \"action\": {\"title\": \"step A\", "
        "\"score_0_to_1\": \"0.8\",}}},]}\n```\nGood luck!");
}

static void repairs_are_counted(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, untidy, NULL, 1, 3);
    json_t *events = lab_events(s), *ev;
    size_t i, repairs = 0;

    json_array_foreach (events, i, ev)
        repairs += json_array_size(json_object_get(ev, "repairs"));
    assert_true(repairs >= 2);
    assert_true(fabs(world_get(s->world, world_find(s->world, "u1"))->action.score - 0.8) < 1e-9);
    done(&lab, s, events);
}

/* Who was asked for what. */
struct askings {
    unsigned plans, repairs, programs;
};

/* Never a plan, and a new program at every call. */
static char *plans_nothing(struct lab *lab, const struct llm_request *req)
{
    struct askings *n = lab->model_ctx;
    CLEANUP(freep) char *tags = str_printf("call=%llu", (unsigned long long)script_call(req));

    n->plans += req->role == LLM_PLANNER;
    n->repairs += req->role == LLM_EDITOR;
    n->programs += req->role == LLM_CODER;
    if (req->schema == NULL) {
        assert_int_equal(req->role, LLM_CODER);
        return script_program(0.01 * (double)script_call(req), tags, false);
    }
    assert_int_equal(req->role, req->attempt > 1 ? LLM_EDITOR : LLM_PLANNER);
    return xstrdup("It all depends.");
}

static void without_a_plan_the_search_begins_with_a_plain_tree(void **state)
{
    struct lab lab = { 0 };
    struct askings n = { 0 };
    struct search *s = search_with(&lab, *state, plans_nothing, &n, 1, 8);
    json_t *events = lab_events(s), *ev;
    size_t i, inits = 0, cycles = 0;

    json_array_foreach (events, i, ev) {
        inits += is_kind(ev, "init");
        cycles += is_type(ev, "cycle") && strncmp(jsonx_str(ev, "node", ""), "plain", 5) == 0;
    }
    assert_int_equal(inits, CALL_TRIES_MAX);
    assert_true(world_find(s->world, "plain1") != WORLD_NONE);
    assert_true(world_find(s->world, "plain3") != WORLD_NONE);
    /* the laboratory's task waits for memory */
    assert_string_equal(world_get(s->world, world_find(s->world, "plain3"))->action.title,
                        "fetch ahead what is read through an index");
    assert_true(cycles >= 1);
    assert_int_equal(search_measured(s), 8);
    done(&lab, s, events);
}

/* Plans, and never a program. */
static char *writes_nothing(struct lab *lab, const struct llm_request *req)
{
    struct askings *n = lab->model_ctx;

    if (req->schema != NULL)
        return strcmp(req->kind, "init") == 0 ? one_plan() : xstrdup("{\"ops\":[]}");
    assert_int_equal(req->role, req->attempt == CALL_TRIES_MAX ? LLM_PLANNER : LLM_CODER);
    n->programs++;
    n->repairs += req->role == LLM_PLANNER;
    return xstrdup("I would rather not.");
}

static void the_last_try_at_a_program_is_not_the_coder_s_again(void **state)
{
    struct lab lab = { 0 };
    struct askings n = { 0 };
    struct search *s = search_with(&lab, *state, writes_nothing, &n, 1, 8);

    assert_true(n.programs >= CALL_TRIES_MAX);
    assert_true(n.repairs >= 1);
    done(&lab, s, NULL);
}

static void repairs_of_plans_are_asked_of_the_editor(void **state)
{
    struct lab lab = { 0 };
    struct askings n = { 0 };
    struct search *s = search_with(&lab, *state, plans_nothing, &n, 1, 8);

    assert_true(n.plans >= 1 && n.programs >= 7);
    assert_int_equal(n.repairs, (CALL_TRIES_MAX - 1) * n.plans);
    done(&lab, s, NULL);
}

/* Every program comes at the second try alone. */
static char *stammers(struct lab *lab, const struct llm_request *req)
{
    CLEANUP(freep) char *tags = str_printf("call=%llu", (unsigned long long)script_call(req));

    if (req->schema != NULL)
        return script_sensible(lab, req);
    return req->attempt == 1 ? xstrdup("Let me think about that.")
                             : script_program(0.1, tags, false);
}

/* They cost tokens, and no round of the cycle. */
static void repairs_of_an_answer_are_no_rounds(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, stammers, NULL, 1, 6);
    json_t *events = lab_events(s), *ev;
    size_t i, rounds = 0, programs = 0, answers = 0;
    uint64_t tokens = 0;

    json_array_foreach (events, i, ev) {
        if (is_type(ev, "round")) {
            assert_true(jsonx_int(ev, "evaluation", 0) > 0);
            rounds++;
        }
        programs += is_type(ev, "program");
        answers += is_type(ev, "answered");
        if (is_type(ev, "answered"))
            tokens += (uint64_t)(jsonx_int(ev, "tokens_in", 0) + jsonx_int(ev, "tokens_out", 0));
    }
    assert_int_equal(search_measured(s), 6);
    assert_true(programs == rounds && rounds == 6); /* the program that it begins with is one */
    assert_true(answers >= 2 * (programs - 1));
    assert_int_equal(s->tokens, tokens);
    done(&lab, s, events);
}

/* ---- The end of a cycle ---- */

/* Plans as the sensible one; program number n of the search is worth base + n step. */
struct climb {
    double base, step;
    bool stops; /* after the first program of a cycle */
};

static char *climbs(struct lab *lab, const struct llm_request *req)
{
    struct climb *c = lab->model_ctx;
    double n = (double)script_call(req);
    CLEANUP(freep) char *tags = str_printf("call=%.0f", n);
    char *text;

    if (req->schema == NULL && c->stops && strcmp(req->kind, "improve") == 0)
        return xstrdup("  STOP: at its floor\n");
    if (req->schema == NULL)
        return script_program(c->base + n * c->step, tags, false);
    lab->model_ctx = NULL;
    text = script_sensible(lab, req);
    lab->model_ctx = c;
    return text;
}

/* How many events of this type come before the first cycle on a node of the model's is over, and
 * why it was over. */
static size_t first_cycle(const json_t *events, const char *type, const char **why)
{
    size_t i, n = 0;
    json_t *ev;
    bool seed = true; /* the cycle of the program that the search begins with */

    json_array_foreach (events, i, ev) {
        if (is_type(ev, "cycle_end") && !seed) {
            *why = jsonx_str(ev, "why", "");
            return n;
        }
        n += !seed && is_type(ev, type);
        seed = seed && !is_type(ev, "cycle_end");
    }
    fail_msg("no cycle ended");
    return 0;
}

/* Gains of 0.05 % from call to call: the window runs out as if there were none. */
static void a_round_within_the_noise_is_no_gain(void **state)
{
    struct lab lab = { 0 };
    struct climb climb = { .base = 0.5, .step = 0.0005 };
    struct search *s = search_with(&lab, *state, climbs, &climb, 1, 40);
    json_t *events = lab_events(s);
    const char *why;

    assert_int_equal(first_cycle(events, "round", &why), 1 + lab.window);
    assert_int_equal(search_measured(s), 40);
    done(&lab, s, events);
}

static void an_author_may_end_a_cycle(void **state)
{
    struct lab lab = { 0 };
    struct climb climb = { .base = 0.1, .step = 0.05, .stops = true };
    struct search *s = search_with(&lab, *state, climbs, &climb, 1, 8);
    json_t *events = lab_events(s);
    const char *why;

    assert_int_equal(first_cycle(events, "round", &why), 1);
    assert_string_equal(why, "its author stops: at its floor");
    assert_int_equal(search_measured(s), 8);
    done(&lab, s, events);
}

/* Every round gains, and still no node takes the whole budget. */
static void a_cycle_has_a_third_of_the_evaluations(void **state)
{
    struct lab lab = { 0 };
    struct climb climb = { .base = 0.1, .step = 0.05 };
    struct search *s = search_with(&lab, *state, climbs, &climb, 1, 24);
    json_t *events = lab_events(s);
    const char *why;

    assert_int_equal(first_cycle(events, "measured", &why), 24 / AUTHOR_CYCLE_SHARE);
    assert_non_null(strstr(why, "as many as one cycle may have"));
    assert_int_equal(search_measured(s), 24);
    done(&lab, s, events);
}

/* ---- The end ---- */

static void a_model_without_any_use_ends_the_search(void **state)
{
    struct lab lab = { 0 };
    struct search *s = search_with(&lab, *state, script_mute, NULL, 3, 100);

    assert_int_equal(s->state, SEARCH_DONE);
    assert_non_null(strstr(s->reason, "neither programs nor plans"));
    assert_int_equal(search_measured(s), 1);
    assert_true(lab.asked <= AUTHOR_BARREN_MAX + 3 * CALL_TRIES_MAX);
    done(&lab, s, NULL);
}

/* Plans without end and never a program: every answer is an edit, and none leads anywhere. */
static char *only_plans(struct lab *lab, const struct llm_request *req)
{
    if (!req->schema)
        return xstrdup("Soon.");
    if (strcmp(req->kind, "init") == 0)
        return script_sensible(lab, req);
    return str_printf(
        "{\"ops\":[{\"op\":\"insert_node\",\"parent_id\":\"root\",\"node\":{\"node_id\":"
        "\"n%llu\",\"action\":{\"title\":\"plan %llu\"}}}]}",
        (unsigned long long)script_call(req), (unsigned long long)script_call(req));
}

static void plans_alone_are_no_progress(void **state)
{
    struct lab lab = { .window = 2 };
    struct search *s = search_with(&lab, *state, only_plans, NULL, 1, 100);

    assert_int_equal(s->state, SEARCH_DONE);
    assert_non_null(strstr(s->reason, "nothing that could be measured"));
    assert_true(lab.asked >= AUTHOR_IDLE_MAX && lab.asked <= AUTHOR_IDLE_MAX + 2 * CALL_TRIES_MAX);
    done(&lab, s, NULL);
}

static void wants_much(struct search_spec *spec)
{
    spec->stop_gain = 5;
}

static void a_search_ends_when_little_is_expected_of_what_is_open(void **state)
{
    struct lab lab = { .limit = wants_much };
    struct search *s = search_with(&lab, *state, script_sensible, NULL, 1, 100);

    assert_int_equal(s->state, SEARCH_DONE);
    assert_non_null(strstr(s->reason, "no open node is expected"));
    assert_true(search_measured(s) < 100);
    done(&lab, s, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
        T(prompts_come_in_the_order_of_the_states),
        T(the_seed_is_measured_first_and_closes_the_root),
        T(a_seed_that_fails_leaves_the_root_open_and_the_search_goes_on),
        T(lanes_work_on_different_nodes_and_siblings_cost),
        T(answers_that_arrive_one_by_one_are_used_as_they_come),
        T(a_call_without_an_answer_holds_up_its_own_lane_alone),
        T(tunables_are_tuned_within_the_cycle_without_the_model),
        T(an_identical_program_is_not_measured_twice),
        T(patches_apply_to_the_best_program_after_a_slower_one),
        T(patches_apply_to_a_program_that_fails_and_to_the_best_after_two),
        T(a_node_that_fails_two_cycles_is_abandoned),
        T(every_solved_node_has_a_child_to_go_on_with),
        T(a_slower_node_closes_and_its_child_starts_from_it),
        T(what_was_wrong_is_told_whole_and_the_edit_starts_anew),
        T(a_node_that_is_worked_on_cannot_be_given_up),
        T(a_search_paused_at_once_begins_when_it_goes_on),
        T(repairs_are_counted),
        T(without_a_plan_the_search_begins_with_a_plain_tree),
        T(repairs_of_plans_are_asked_of_the_editor),
        T(the_last_try_at_a_program_is_not_the_coder_s_again),
        T(repairs_of_an_answer_are_no_rounds),
        T(a_round_within_the_noise_is_no_gain),
        T(an_author_may_end_a_cycle),
        T(a_cycle_has_a_third_of_the_evaluations),
        T(a_model_without_any_use_ends_the_search),
        T(plans_alone_are_no_progress),
        T(a_search_ends_when_little_is_expected_of_what_is_open),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
