/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for searches that a language model plans: programs adopted by measuring them, plans in
 * plain words, insights in prompts, findings of running searches, and the arm that does without. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "lab.h"
#include "lab_llm.h"
#include "search/adoption.h"
#include "search/graft_model.h"
#include "search/history.h"
#include "search/prompt.h"
#include "search/strategy.h"
#include "search/warm_model.h"
#include "unit/test.h"

/* ---- Running ---- */

static void lab_at(struct lab *lab, const char *dir, const char *name)
{
    CLEANUP(freep) char *sub = str_printf("%s/%s", dir, name);

    *lab = (struct lab){ .dir = sub, .worth = lab_bowl, .model = script_sensible };
    lab_open(lab);
    lab->dir = dir;
}

static struct search *run_search(struct lab *lab, const char *id, const char *task,
                                 const char *strategy, bool cold, uint64_t evals)
{
    struct lab_run run = { id, task, "n=4", cold, 7, evals };

    lab->strategy = strategy;
    return lab_search(lab, &run);
}

/* A finished search of the built-in proposer, and one with a model, on lab_a. */
static void with_past(struct lab *lab)
{
    search_free(run_search(lab, "numeric", "lab_a", NULL, true, 60));
    search_free(run_search(lab, "model", "lab_a", "world-model", true, 30));
}

/* ---- Events ---- */

struct wanted {
    const char *type;
    json_t *list;
};

static int take_event(void *ctx, uint64_t seq, const json_t *event)
{
    struct wanted *w = ctx;

    (void)seq;
    if (strcmp(jsonx_str(event, "type", ""), w->type) == 0)
        json_array_append_new(w->list, json_deep_copy(event));
    return 0;
}

/* All stored events of a type. Owned. */
static json_t *events_of(const struct lab *lab, const char *search, const char *type)
{
    struct wanted w = { type, json_array() };
    struct err err;

    assert_ok(kb_each_event(lab->kb, search, 0, take_event, &w, &err), err);
    return w.list;
}

static size_t count_adopted(const struct search *s)
{
    size_t n = 0;

    for (uint64_t i = 1; i <= s->n_trials; i++)
        n += search_trial(s, i)->adopted[0] != '\0';
    return n;
}

static const struct trial *first_adopted(const struct search *s)
{
    for (uint64_t i = 1; i <= s->n_trials; i++)
        if (search_trial(s, i)->adopted[0])
            return search_trial(s, i);
    return NULL;
}

static size_t count_grafted(const struct search *s)
{
    size_t n = 0;

    for (uint32_t i = 1; i < world_count(s->world); i++)
        n += world_get(s->world, i)->graft.search[0] != '\0';
    return n;
}

static size_t count_told(const struct lab *lab, const char *search)
{
    json_auto_t *asked = events_of(lab, search, "asked");
    const json_t *v;
    size_t i, n = 0;

    json_array_foreach (asked, i, v)
        n += json_array_size(json_object_get(v, "insights"));
    return n;
}

/* ---- Adoption ---- */

static void the_best_program_is_measured_again_and_costs_one_evaluation(void **state)
{
    struct lab lab;
    struct search *s;
    const struct trial *t;
    const struct world_node *node;

    lab_at(&lab, *state, "adopt");
    search_free(run_search(&lab, "model", "lab_a", "world-model", true, 30));
    lab.without = (unsigned)MEMORY_ALL & ~(unsigned)MEMORY_ADOPT;
    s = run_search(&lab, "warm", "lab_a", "world-model", false, 20);
    assert_int_equal(count_adopted(s), WARM_MODEL_ADOPT_MAX);
    assert_int_equal(count_grafted(s), 0);
    assert_int_equal(count_told(&lab, "warm"), 0);
    t = first_adopted(s);
    assert_int_equal(t->n, 2); /* what the search begins with goes before */
    assert_string_equal(t->adopted, "lab_a@cpu");
    assert_true(trial_steered(t));
    assert_true(t->ok);
    node = world_get(s->world, world_find(s->world, t->node));
    assert_true(str_has_prefix(node->action.title, GRAFT_MODEL_ADOPTED));
    assert_int_equal(node->state, WORLD_CLOSED);
    assert_int_equal(node->evidence.attempts, 1);
    assert_string_equal(search_node_origin(s, node->index), "adopted from memory");
    /* nobody was asked for it, and nobody was told of it */
    for (uint64_t n = 1; n <= s->calls.n; n++) {
        const struct call *c = calls_get(&s->calls, n);

        assert_true(c->lane < 0 || c->cycles != t->cycle);
    }
    search_free(s);
    lab_close(&lab);
}

/* A template of a numeric search is a program too, with the assignment that was best. */
static void a_template_is_adopted_with_its_best_assignment(void **state)
{
    struct lab lab;
    struct search *first, *s;
    json_auto_t *best = NULL, *here = NULL;
    const struct trial *t;

    lab_at(&lab, *state, "template");
    first = run_search(&lab, "numeric", "lab_a", NULL, true, 60);
    best = space_to_json(first->space, search_trial(first, first->champion)->a);
    s = run_search(&lab, "warm", "lab_b", "world-model", false, 12);
    t = first_adopted(s);
    assert_non_null(t);
    here = space_to_json(trial_space(s, t), t->a);
    assert_true(json_equal(best, here));
    assert_int_equal(count_adopted(s), 1); /* a tenth of twelve */
    /* it is no good here: its node is closed with what was measured, and others go on */
    assert_true(t->objective_q < search_best_q(s));
    search_free(first);
    search_free(s);
    lab_close(&lab);
}

static void adoption_stops_once_it_is_behind(void **state)
{
    struct lab lab;
    struct search *s;

    lab_at(&lab, *state, "behind");
    /* of the two programs that memory has the better one is worth nothing here */
    search_free(run_search(&lab, "numeric", "lab_a", NULL, true, 60));
    search_free(run_search(&lab, "model", "lab_b", "world-model", true, 12));
    lab.without = MEMORY_LIVE | MEMORY_PLANS;
    s = run_search(&lab, "warm", "lab_a", "world-model", false, 40);
    assert_true(s->gifts.n == 2);
    assert_int_equal(count_adopted(s), 1);
    search_free(s);
    lab_close(&lab);
}

/* Whatever the strategy, and with several lanes: the tenth holds, and nothing is adopted twice. */
static void every_strategy_adopts_within_its_tenth(void **state)
{
    for (size_t i = 0; strategy_names[i] != NULL; i++) {
        struct lab lab;
        struct search *s;

        lab_at(&lab, *state, strategy_names[i]);
        search_free(run_search(&lab, "model", "lab_a", "world-model", true, 30));
        lab.lanes = 3;
        s = run_search(&lab, "warm", "lab_a", strategy_names[i], false, 30);
        assert_int_equal(s->state, SEARCH_DONE);
        assert_int_equal(search_measured(s), 30);
        assert_in_range(count_adopted(s), 1, adoption_cap(30));
        for (uint32_t p = 1; p < search_programs(s); p++)
            for (uint32_t q = p + 1; q < search_programs(s); q++)
                assert_string_not_equal(search_program_id(s, p).hex, search_program_id(s, q).hex);
        if (!s->strategy->plans)
            assert_int_equal(count_grafted(s), 0);
        search_free(s);
        lab_close(&lab);
    }
}

/* ---- Cold, and parts ---- */

static void a_cold_search_reads_nothing(void **state)
{
    struct lab lab, empty;
    struct search *s, *alone;
    CLEANUP(freep) char *a = NULL;
    CLEANUP(freep) char *b = NULL;

    lab_at(&lab, *state, "cold");
    with_past(&lab);
    s = run_search(&lab, "cold", "lab_a", "world-model", true, 20);
    lab_at(&empty, *state, "empty");
    alone = run_search(&empty, "cold", "lab_a", "world-model", true, 20);
    a = lab_final_state(s);
    b = lab_final_state(alone);
    assert_string_equal(a, b);
    assert_null(s->memory);
    assert_int_equal(count_told(&lab, "cold"), 0);
    search_free(s);
    search_free(alone);
    lab_close(&lab);
    lab_close(&empty);
}

/* ---- Plans ---- */

static void plans_of_near_searches_become_open_nodes_in_plain_words(void **state)
{
    struct lab lab;
    struct search *s;
    size_t tunables = 0;

    lab_at(&lab, *state, "plans");
    search_free(run_search(&lab, "numeric", "lab_a", NULL, true, 60));
    lab.without = (unsigned)MEMORY_ALL & ~(unsigned)MEMORY_PLANS;
    s = run_search(&lab, "warm", "lab_a", "world-model", false, 12);
    assert_int_equal(count_adopted(s), 0);
    assert_in_range(count_grafted(s), 1, GRAFT_MODEL_NODES_MAX);
    for (uint32_t i = 1; i < world_count(s->world); i++) {
        const struct world_node *n = world_get(s->world, i);

        if (n->graft.search[0] == '\0')
            continue;
        assert_string_equal(n->graft.search, "numeric");
        assert_int_equal(n->n_commitments, 0);
        assert_int_equal(n->parent, 0);
        assert_non_null(strstr(n->action.rationale, "past search"));
        /* the model's own tree was there first */
        assert_true(n->index > world_find(s->world, "sA"));
        tunables += strstr(n->action.description, "how the softmax is computed") != NULL;
    }
    assert_true(tunables > 0);
    search_free(s);
    lab_close(&lab);
}

static void plans_merge_by_what_their_titles_say(void **state)
{
    struct world *w = world_new();
    json_auto_t *plans =
        json_pack("[{s:s, s:s, s:s, s:f, s:f, s:i}, {s:s, s:s, s:s, s:f, s:f, s:s}]", "title",
                  "Step A: tile!", "description", "do it", "search", "old", "similarity", 0.8,
                  "score", 0.5, "difficulty", 2, "title", "other", "description", "no", "search",
                  "old", "similarity", 0.8, "score", 0.1, "dead", "it never built");
    struct world_edit edit;
    struct world_spec *spec;
    const struct world_node *n;
    struct err err;

    (void)state;
    world_edit_init(&edit, WORLD_BY_SYSTEM, "test", 0);
    spec = &world_edit_add(&edit, WORLD_OP_INSERT, WORLD_ROOT_ID)->spec;
    world_spec_text(spec, WORLD_SET_ID, "plan1"); /* the id is taken as well */
    world_spec_text(spec, WORLD_SET_TITLE, "step a -- TILE");
    world_spec_text(spec, WORLD_SET_CHOICE, "x");
    assert_ok(world_apply(w, &edit, NULL, &err), err);
    world_edit_release(&edit);
    graft_model_edit(w, plans, 1, &edit);
    assert_ok(world_apply(w, &edit, NULL, &err), err);
    world_edit_release(&edit);
    assert_int_equal(world_count(w), 3);
    n = world_get(w, 2);
    assert_string_equal(n->action.title, "other");
    assert_int_equal(n->state, WORLD_ABANDONED);
    assert_string_equal(n->reason, "it never built");
    graft_model_edit(w, plans, 1, &edit); /* once is enough */
    assert_int_equal(edit.n_ops, 0);
    world_edit_release(&edit);
    world_free(w);
}

/* ---- Insights and credit ---- */

static char last_told[ID_HEX + 1];

/* The script, but each program says that it follows the first insight it was told, abbreviated,
 * and one that nobody told it. */
static char *cites_first(struct lab *lab, const struct llm_request *req)
{
    char *text = script_sensible(lab, req), *whole;

    if (req->schema != NULL || text == NULL || last_told[0] == '\0')
        return text;
    whole = str_printf("USES: %.10s, 0123456789ab\n%s", last_told, text);
    free(text);
    return whole;
}

static void insights_that_are_told_and_followed_are_credited(void **state)
{
    struct lab lab;
    struct search *s;
    struct history *h;
    json_auto_t *attempts = NULL, *measured = NULL;
    const json_t *v;
    uint64_t served = 0, followed = 0, credited = 0;
    struct credit_row row;
    struct err err;
    size_t i;

    lab_at(&lab, *state, "credit");
    search_free(run_search(&lab, "numeric", "lab_a", NULL, true, 60));
    lab.without = MEMORY_ADOPT;
    s = run_search(&lab, "first", "lab_a", "world-model", false, 20);
    assert_true(count_told(&lab, "first") > 0);
    search_free(s);
    {
        json_auto_t *asked = events_of(&lab, "first", "asked");

        json_array_foreach (asked, i, v)
            if (json_array_size(json_object_get(v, "insights")) > 0)
                str_copy(last_told, sizeof(last_told),
                         json_string_value(json_array_get(json_object_get(v, "insights"), 0)));
    }
    lab.model = cites_first;
    s = run_search(&lab, "second", "lab_a", "world-model", false, 20);
    attempts = events_of(&lab, "second", "attempt");
    json_array_foreach (attempts, i, v) {
        const json_t *told = json_object_get(v, "served"), *uses = json_object_get(v, "followed");

        served += json_array_size(told) > 0;
        followed += json_array_size(uses);
        /* what is followed was told, in full, and only by programs that memory could reach */
        assert_true(json_array_size(uses) <= 1);
        if (json_array_size(uses) > 0)
            assert_string_equal(json_string_value(json_array_get(uses, 0)), last_told);
        if (json_array_size(told) > 0)
            assert_string_equal(jsonx_str(v, "arm", ""), "memory");
    }
    assert_true(served > 0);
    assert_true(followed > 0);
    measured = events_of(&lab, "second", "measured");
    json_array_foreach (measured, i, v)
        credited += json_object_get(v, "credit") != NULL;
    assert_int_equal(credited, served);
    h = history_new();
    assert_ok(history_refresh(h, lab.kb, &err), err);
    row = history_credit(h, last_told);
    assert_int_equal(row.adopted, followed);
    assert_true(row.served >= row.adopted);
    history_free(h);
    search_free(s);
    lab_close(&lab);
    last_told[0] = '\0';
}

/* ---- The memory-free arm ---- */

static void a_share_of_the_cycles_does_without_memory(void **state)
{
    struct lab lab;
    struct search *s;
    json_auto_t *cycles = NULL, *asked = NULL;
    const json_t *v;
    size_t i, n_free = 0, n = 0, n_steered = 0, n_blind = 0;
    bool is_free[LANES_MAX] = { false };

    lab_at(&lab, *state, "arms");
    with_past(&lab);
    s = run_search(&lab, "warm", "lab_a", "world-model", false, 40);
    cycles = events_of(&lab, "warm", "cycle");
    json_array_foreach (cycles, i, v) {
        uint32_t node = world_find(s->world, jsonx_str(v, "node", ""));

        if (i == 0 || json_object_get(v, "gift") != NULL)
            continue;
        n++;
        if (!jsonx_bool(v, "memory_free", 0))
            continue;
        n_free++;
        assert_string_equal(world_get(s->world, node)->graft.search, "");
    }
    assert_true(n_free * 10 >= n);
    assert_true(n_free < n);
    asked = events_of(&lab, "warm", "asked");
    json_array_foreach (asked, i, v) {
        uint64_t at = (uint64_t)jsonx_int(v, "seq", 0);
        json_int_t lane = jsonx_int(v, "lane", -1);
        const json_t *c;
        size_t k;

        json_array_foreach (cycles, k, c)
            if ((uint64_t)jsonx_int(c, "seq", 0) < at && jsonx_int(c, "lane", 0) == lane)
                is_free[lane] = jsonx_bool(c, "memory_free", 0);
        if (strcmp(jsonx_str(v, "kind", ""), "init") == 0 || (lane >= 0 && is_free[lane]))
            assert_int_equal(json_array_size(json_object_get(v, "insights")), 0);
    }
    for (uint64_t k = 2; k <= s->n_trials; k++) {
        const struct trial *t = search_trial(s, k);

        /* memory's hand is told by the node's origin and the prompts, never in its absence */
        if (t->adopted[0] || gifts_steered(s, world_find(s->world, t->node)))
            n_steered += trial_steered(t);
        n_blind += !trial_steered(t);
    }
    assert_true(n_steered > 0);
    assert_true(n_blind > 0);
    search_free(s);
    lab_close(&lab);
}

/* A base that holds nothing gives nothing: all that a warm search confirms there is blind. */
static void without_anything_known_all_is_blind(void **state)
{
    struct kb_stats stats;
    struct lab lab;
    struct search *s;
    struct err err;

    lab_at(&lab, *state, "nothing");
    s = run_search(&lab, "warm", "lab_a", "world-model", false, 15);
    assert_non_null(s->memory);
    for (uint64_t n = 1; n <= s->n_trials; n++)
        assert_false(trial_steered(search_trial(s, n)));
    /* what it learned itself is not told back to it as knowledge */
    assert_ok(kb_get_stats(lab.kb, &stats, &err), err);
    assert_true(stats.insights > 0);
    assert_int_equal(count_told(&lab, "warm"), 0);
    search_free(s);
    lab_close(&lab);
}

/* What memory planted is not in the prompts of a memory-free cycle, until it was measured here. */
static void a_memory_free_prompt_does_not_show_what_memory_planted(void **state)
{
    struct lab lab;
    struct search *s;
    struct lane *l;
    uint32_t node = WORLD_NONE;
    struct prompts *prompts;
    bool shows[2];
    struct err err;

    lab_at(&lab, *state, "hides");
    with_past(&lab);
    s = run_search(&lab, "warm", "lab_a", "world-model", false, 20);
    for (uint32_t i = 1; i < world_count(s->world); i++)
        if (world_get(s->world, i)->graft.search[0] &&
            world_get(s->world, i)->state != WORLD_CLOSED)
            node = i;
    assert_int_not_equal(node, WORLD_NONE);
    l = &s->lanes[0];
    l->memory_free = true;
    assert_true(warm_model_hides(s, CALL_REFINE, 0, node));
    assert_false(warm_model_hides(s, CALL_REFINE, 0, world_find(s->world, "sA")));
    l->memory_free = false;
    assert_false(warm_model_hides(s, CALL_REFINE, 0, node));
    assert_true(warm_model_hides(s, CALL_INIT, -1, node));
    assert_ok(prompts_load(NULL, &prompts, &err), err);
    for (unsigned free_arm = 0; free_arm < 2; free_arm++) {
        struct prompt_ask ask = { .kind = CALL_REFINE, .lane = 0, .attempt = 1 };
        struct prompt p;

        l->memory_free = free_arm;
        assert_ok(prompt_make(prompts, s, &ask, &p, &err), err);
        shows[free_arm] = strstr(p.text, world_get(s->world, node)->action.title) != NULL;
        prompt_release(&p);
    }
    prompts_free(prompts);
    assert_true(shows[false]);
    assert_false(shows[true]);
    search_free(s);
    lab_close(&lab);
}

/* ---- Findings of running searches ---- */

static void what_a_running_search_finds_reaches_the_others(void **state)
{
    struct lab_run slow = { "slow", "lab_a", "n=4", false, 3, 40 };
    struct lab lab;
    struct search *s;
    const struct trial *t;
    size_t before;

    lab_at(&lab, *state, "live");
    lab.strategy = "world-model";
    s = lab_begin(&lab, &slow);
    for (unsigned i = 0; i < 4; i++)
        assert_true(lab_step(&lab, &s));
    assert_null(first_adopted(s));
    before = count_told(&lab, "slow");
    assert_int_equal(before, 0);
    /* meanwhile another one finds a good program, and a numeric one insights */
    lab.strategy = "world-model";
    search_free(run_search(&lab, "fast", "lab_a", "world-model", true, 40));
    search_free(run_search(&lab, "numeric", "lab_a", NULL, true, 60));
    lab.strategy = "world-model";
    for (unsigned i = 0; i < 12; i++)
        assert_true(lab_step(&lab, &s));
    t = first_adopted(s);
    assert_non_null(t);
    assert_true(t->live);
    assert_string_equal(t->adopted, "lab_a@cpu");
    assert_true(count_told(&lab, "slow") > before);
    assert_string_equal(search_node_origin(s, world_find(s->world, t->node)), "live");
    search_free(s);
    lab_close(&lab);
}

/* ---- Crashes ---- */

static char *state_after(struct lab *lab, const char *id, size_t crash_at, bool before)
{
    struct search *s;
    char *text;

    lab->commits = 0;
    lab->crash_at = crash_at;
    lab->crash_before = before;
    lab->lanes = 2;
    lab->strategy = "world-model";
    s = run_search(lab, id, "lab_a", "world-model", false, 12);
    lab->crash_at = 0;
    text = lab_final_state(s);
    search_free(s);
    return text;
}

/* A base with a past of its own for every run: searches see each other otherwise. */
static void a_search_that_is_killed_goes_on_alike(void **state)
{
    CLEANUP(freep) char *whole = NULL;
    size_t writes;
    struct lab lab;

    lab_at(&lab, *state, "whole");
    with_past(&lab);
    whole = state_after(&lab, "warm", 0, false);
    writes = lab.commits;
    lab_close(&lab);
    assert_true(writes > 20);
    for (size_t k = 1; k <= writes; k += 3) {
        CLEANUP(freep) char *name = str_printf("crash%zu", k);
        CLEANUP(freep) char *again = NULL;

        lab_at(&lab, *state, name);
        with_past(&lab);
        again = state_after(&lab, "warm", k, k % 2 == 0);
        assert_string_equal(whole, again);
        lab_close(&lab);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_best_program_is_measured_again_and_costs_one_evaluation,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(a_template_is_adopted_with_its_best_assignment,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(adoption_stops_once_it_is_behind, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(every_strategy_adopts_within_its_tenth, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(a_cold_search_reads_nothing, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(plans_of_near_searches_become_open_nodes_in_plain_words,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test(plans_merge_by_what_their_titles_say),
        cmocka_unit_test_setup_teardown(insights_that_are_told_and_followed_are_credited,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(a_share_of_the_cycles_does_without_memory, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(without_anything_known_all_is_blind, test_dir_setup,
                                        test_dir_teardown),
        cmocka_unit_test_setup_teardown(a_memory_free_prompt_does_not_show_what_memory_planted,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(what_a_running_search_finds_reaches_the_others,
                                        test_dir_setup, test_dir_teardown),
        cmocka_unit_test_setup_teardown(a_search_that_is_killed_goes_on_alike, test_dir_setup,
                                        test_dir_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
