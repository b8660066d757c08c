/* SPDX-License-Identifier: Apache-2.0 */
/* A search's bets on its model's scores: from its cycles, over a restart, and in the next search.
 */
#include <math.h>

#include "../sched/lab.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "search/history.h"
#include "search/journal.h"
#include "search/outcome.h"
#include "search/scores.h"
#include "search/stop.h"
#include "search/world_ops.h"
#include "unit/test.h"

struct fixture {
    struct lab lab;
    struct search *s;
};

static void event(struct fixture *f, json_t *ev)
{
    struct journal j;
    struct err err;

    assert_ok(journal_open(&j, f->s, &f->lab.clock.clock, &err), err);
    assert_ok(journal_add(&j, ev, &err), err);
    assert_ok(journal_commit(&j, &err), err);
    journal_close(&j);
}

static void insert(struct fixture *f, const char *id, const char *title, double score)
{
    struct world_edit e;
    struct world_spec *spec;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    spec = &world_edit_add(&e, WORLD_OP_INSERT, "root")->spec;
    world_spec_text(spec, WORLD_SET_ID, id);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    world_spec_number(spec, WORLD_SET_SCORE, score);
    event(f, json_pack("{s:s, s:o}", "type", "edited", "edit", world_edit_to_json(&e)));
    world_edit_release(&e);
}

static void answer(struct fixture *f, const char *model)
{
    json_int_t n = (json_int_t)f->s->calls.n + 1;

    event(f, json_pack("{s:s, s:I, s:s, s:i, s:s}", "type", "asked", "call", n, "kind", "propose",
                       "lane", -1, "hash", "00"));
    event(f, json_pack("{s:s, s:I, s:s, s:s}", "type", "answered", "call", n, "answer", "{}",
                       "model", model));
}

/* One cycle on a new node: it begins at the baseline and comes to `objective_q`, or fails. */
static void cycle(struct fixture *f, const char *id, double score, bool passes, int64_t objective_q)
{
    json_int_t n = (json_int_t)f->s->n_trials + 1;
    uint16_t a[SPACE_PARAMS_MAX];
    struct journal j;
    struct err err;

    space_default(f->s->space, a);
    insert(f, id, id, score);
    event(f,
          json_pack("{s:s, s:I, s:s, s:i, s:I}", "type", "cycle", "cycle",
                    (json_int_t)f->s->cycle + 1, "node", id, "lane", 0, "base_q", (json_int_t)0));
    event(f, json_pack("{s:s, s:I, s:i, s:s, s:o}", "type", "attempt", "evaluation", n, "lane", 0,
                       "arm", "other", "assignment", space_to_json(f->s->space, a)));
    event(f, json_pack("{s:s, s:I, s:s, s:I, s:I}", "type", "measured", "evaluation", n, "status",
                       passes ? "ok" : "crashed", "objective_q", (json_int_t)objective_q, "sd_q",
                       (json_int_t)1000));
    assert_ok(journal_open(&j, f->s, &f->lab.clock.clock, &err), err);
    assert_ok(outcome_end_cycle(&j, &f->s->lanes[0], "the test says so", &err), err);
    assert_ok(journal_commit(&j, &err), err);
    journal_close(&j);
    if (f->s->lanes[0].stage == LANE_TELL)
        event(f, json_pack("{s:s, s:i, s:s}", "type", "told", "lane", 0, "why", ""));
    assert_int_equal(f->s->lanes[0].stage, LANE_CLOSED);
}

static void begin(struct fixture *f, const char *dir)
{
    struct lab_run run = { "s1", "lab_a", "n=4", true, 7, 40 };

    *f = (struct fixture){ .lab = { .dir = dir, .worth = lab_bowl } };
    lab_open(&f->lab);
    f->s = lab_begin(&f->lab, &run);
    free(f->s->spec.proposer);
    f->s->spec.proposer = xstrdup("queue");
    event(f, json_pack("{s:s}", "type", "started"));
}

static void end(struct fixture *f)
{
    search_free(f->s);
    lab_close(&f->lab);
}

static void cycles_settle_the_bets_and_a_restart_knows_them(void **state)
{
    struct fixture f;
    struct score_correction before, after;
    struct err err;

    begin(&f, *state);
    answer(&f, "m1");
    assert_string_equal(scores_model(f.s), "m1");
    before = scores_correction(f.s);
    assert_true(score_corrected(&before, 0.9) == 0.9);
    cycle(&f, "won", 0.8, true, 300000);
    cycle(&f, "same", 0.9, true, 5000);
    cycle(&f, "lost", 0.9, false, 0);
    assert_int_equal(f.s->scorebook.n, 3);
    assert_true(f.s->scorebook.bets[0].improved);
    assert_false(f.s->scorebook.bets[1].improved);
    assert_true(f.s->scorebook.bets[1].passed);
    assert_false(f.s->scorebook.bets[2].passed);
    assert_true(f.s->scorebook.bets[2].settled);
    after = scores_correction(f.s);
    assert_true(score_corrected(&after, 0.9) < 0.9);
    json_auto_t *show = search_show_json(f.s);
    assert_int_equal(jsonx_int(json_object_get(show, "scores"), "n", 0), 3);
    json_auto_t *scores = scorebook_json(&f.s->scorebook);
    search_free(f.s);
    assert_ok(search_load(f.lab.kb, "s1", true, &f.s, &err), err);
    json_auto_t *again = scorebook_json(&f.s->scorebook);
    assert_true(json_equal(scores, again));
    end(&f);
}

/* The system's own small steps, and nodes that no planner scored, are no bets. */
static void what_no_model_scored_is_no_bet(void **state)
{
    struct fixture f;

    begin(&f, *state);
    cycle(&f, "early", 0.9, false, 0); /* nobody has answered */
    answer(&f, "m1");
    insert(&f, "small", "One small change at the main bottleneck 3", 0.6);
    event(&f,
          json_pack("{s:s, s:I, s:s}", "type", "cycle", "cycle", (json_int_t)2, "node", "small"));
    assert_int_equal(f.s->scorebook.n, 0);
    end(&f);
}

static void the_next_search_begins_with_what_this_one_said(void **state)
{
    struct history *history = history_new();
    struct fixture f;
    json_t *past, *ev;
    struct err err;

    begin(&f, *state);
    answer(&f, "m1");
    for (int i = 0; i < 20; i++) {
        char id[16];

        snprintf(id, sizeof(id), "bold%d", i);
        cycle(&f, id, 0.9, i % 5 == 0, 200000);
    }
    assert_ok(history_recall_scores(history, f.lab.kb, &past, &err), err);
    assert_int_equal(json_array_size(past), 2);
    json_decref(past);
    /* also without a history of one's own; read twice it counts once */
    assert_ok(history_recall_scores(history, f.lab.kb, &past, &err), err);
    assert_int_equal(jsonx_int(json_array_get(past, 0), "n", 0), 20);
    json_decref(past);
    search_free(f.s);
    struct lab_run run = { "s2", "lab_a", "n=4", false, 8, 40 };
    f.s = lab_begin(&f.lab, &run);
    free(f.s->spec.proposer);
    f.s->spec.proposer = xstrdup("queue");
    ev = json_pack("{s:s, s:[]}", "type", "seeded", "seeds");
    assert_ok(scores_seed(f.s, ev, &err), err);
    event(&f, json_pack("{s:s}", "type", "started"));
    event(&f, ev);
    answer(&f, "m1");
    struct score_correction c = scores_correction(f.s);
    assert_true(score_corrected(&c, 0.9) < 0.6);
    history_free(history);
    end(&f);
}

/* With a model the search goes on while open nodes promise something. */
static void a_search_stops_when_its_nodes_promise_little(void **state)
{
    struct fixture f;

    begin(&f, *state);
    f.s->spec.stop_gain = 0.02;
    answer(&f, "m1");
    for (int i = 0; i < 12; i++) {
        char id[16];

        snprintf(id, sizeof(id), "n%d", i);
        cycle(&f, id, i % 2 ? 0.9 : 0.1, false, 0);
        assert_null(stop_reached(f.s)); /* nothing is open: more will be proposed */
    }
    insert(&f, "hope", "hope", 1);
    assert_null(stop_reached(f.s));
    f.s->spec.stop_gain = 0.09;
    assert_non_null(strstr(stop_reached(f.s), "no open node is expected to bring a log gain"));
    end(&f);
}

#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(cycles_settle_the_bets_and_a_restart_knows_them),
        T(what_no_model_scored_is_no_bet),
        T(the_next_search_begins_with_what_this_one_said),
        T(a_search_stops_when_its_nodes_promise_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
