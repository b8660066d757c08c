/* SPDX-License-Identifier: Apache-2.0 */
/* What a cycle teaches, with a model's words, without, and with words that are no good. */
#include <unistd.h>

#include "../sched/lab.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "doctor.h"
#include "screen.h"
#include "search/distil.h"
#include "search/history.h"
#include "search/journal.h"
#include "search/plan_answer.h"
#include "search/world_ops.h"
#include "unit/test.h"

enum { EVALS = 14 };

/* A search that is over, with a node of each kind of title added. */
struct fixture {
    struct lab lab;
    struct search *s;
    struct journal j;
};

static void insert(struct fixture *f, const char *id, const char *title)
{
    struct world_edit e;
    struct world_spec *spec;
    struct err err;

    world_edit_init(&e, WORLD_BY_SYSTEM, "test", 1);
    spec = &world_edit_add(&e, WORLD_OP_INSERT, "root")->spec;
    world_spec_text(spec, WORLD_SET_ID, id);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    world_spec_text(spec, WORLD_SET_CHOICE, title);
    world_spec_text(spec, WORLD_SET_DECISION, "what next");
    assert_ok(journal_add(&f->j,
                          json_pack("{s:s, s:o}", "type", "edited", "edit", world_edit_to_json(&e)),
                          &err),
              err);
    world_edit_release(&e);
}

static void begin(struct fixture *f, const char *dir)
{
    struct lab_run run = { "s1", "lab_a", "num_kv_heads=4,head_dim=128", true, 7, EVALS };
    struct err err;

    *f = (struct fixture){ .lab = { .dir = dir, .worth = lab_bowl } };
    lab_open(&f->lab);
    f->s = lab_search(&f->lab, &run);
    assert_ok(journal_open(&f->j, f->s, &f->lab.clock.clock, &err), err);
    insert(f, "soft", "Streaming softmax over the keys");
    insert(f, "odd", "Make it better somehow");
}

static void end(struct fixture *f)
{
    journal_close(&f->j);
    search_free(f->s);
    lab_close(&f->lab);
}

static const struct trial *best(const struct search *s)
{
    return search_trial(s, s->champion);
}

/* Another pass, so that there is something to compare with. */
static const struct trial *other_pass(const struct search *s)
{
    for (uint64_t n = 1; n <= search_measured(s); n++)
        if (search_trial(s, n)->ok && n != s->champion)
            return search_trial(s, n);
    fail_msg("nothing else passed");
    return NULL;
}

static struct distil_case a_pair(const struct fixture *f, const char *node)
{
    return (struct distil_case){ .node = world_find(f->s->world, node),
                                 .cycle = 1,
                                 .with = best(f->s),
                                 .without = other_pass(f->s) };
}

static json_t *distil(struct fixture *f, const struct distil_case *c, const json_t *insights)
{
    json_t *report = NULL;
    struct err err;

    assert_ok(distil_cycle(&f->j, c, insights, &report, &err), err);
    assert_ok(journal_commit(&f->j, &err), err);
    return report;
}

static size_t accepted(const json_t *report)
{
    return json_array_size(json_object_get(report, "accepted"));
}

static const char *claim_of(const json_t *report, size_t i)
{
    return jsonx_str(json_array_get(json_object_get(report, "accepted"), i), "claim", "");
}

static json_t *say(const char *technique, const char *statement)
{
    return json_pack("[{s:s, s:s, s:s}]", "technique", technique, "statement", statement,
                     "mechanism", "Each key is read once.");
}

static const char good[] =
    "Fold the maximum and the sum into the loop over the keys, so that they are read once.";

static void a_model_words_the_claim_and_the_system_links_the_evidence(void **state)
{
    struct fixture f;
    struct insight in;
    struct evidence e;
    struct err err;

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "soft");
    /* what it says of evidence is its own business */
    json_auto_t *insights =
        json_pack("[{s:s, s:s, s:s, s:s, s:f, s:b, s:s}]", "technique", "Streaming Softmax",
                  "statement", good, "mechanism", "Fewer passes", "condition",
                  "the keys do not fit a cache", "effect", 9.0, "steered", 1, "with", "forged");
    json_auto_t *report = distil(&f, &c, insights);

    assert_int_equal(accepted(report), 1);
    assert_string_equal(jsonx_str(report, "evidence", ""), "pair");
    assert_ok(kb_get_insight(f.lab.kb, claim_of(report, 0), &in, &err), err);
    assert_string_equal(in.claim.technique, "online-softmax"); /* by a synonym */
    assert_string_equal(in.claim.statement, good);
    assert_string_equal(in.claim.mechanism,
                        "Fewer passes. Expected where: the keys do not fit a cache");
    assert_string_equal(in.claim.family, "lab");
    assert_string_equal(in.claim.bottleneck, "memory");
    assert_int_equal(in.n_evidence, 1);
    assert_ok(kb_get_evidence(f.lab.kb, &in.evidence[0], &e, &err), err);
    assert_true(e.effect_q == c.with->objective_q - c.without->objective_q);
    assert_true(e.sd_q > 0);
    assert_string_equal(e.with.hex, c.with->evaluation.hex);
    assert_string_equal(e.without.hex, c.without->evaluation.hex);
    assert_false(e.steered); /* a cold search */
    assert_string_equal(e.task, "lab_a");
    evidence_release(&e);
    insight_release(&in);
    end(&f);
}

static void bad_statements_are_refused_with_a_reason(void **state)
{
    static const struct {
        const char *technique, *statement, *why;
    } rows[] = {
        { "tiling", "Tiles help.", "says too little" },
        { "tiling", "", "says too little" },
        { "tiling", "0123456789 0123456789 01234567890 --- ...", "says too little" },
        { "tiling", "Use tiles of keys. They fit the cache. They are read once.", "two sentences" },
        { "tiling", "Use tiles of keys\nand read them once, as they fit.", "line breaks" },
        { "tiling", "Use tiles as in lab_a because its keys fit the cache.", "an instance" },
        { "tiling", "Use tiles when num_kv_heads=4 since the keys fit.", "an instance" },
        { "tiling", "Use tiles as search s1x did; see /home/someone/kernel.c for it.", "path" },
        { "tiling", "Use tiles as described on docs.example.com for such kernels.", "" },
        { "", "Work on tiles of keys that fit the cache and stay there.", "technique" },
        { "../../etc", "Work on tiles of keys that fit the cache and stay there.", "technique" },
        { "my very own technique for this one kernel here",
          "Work on tiles of keys that fit the cache and stay there.", "technique" },
        { "42", "Work on tiles of keys that fit the cache and stay there.", "technique" },
    };
    struct fixture f;

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "odd");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_auto_t *insights = say(rows[i].technique, rows[i].statement);
        json_auto_t *report = distil(&f, &c, insights);
        const json_t *refused = json_array_get(json_object_get(report, "refused"), 0);

        assert_int_equal(accepted(report), 0);
        if (strstr(jsonx_str(refused, "why", ""), rows[i].why) == NULL)
            fail_msg("'%s': '%s'", rows[i].statement, jsonx_str(refused, "why", ""));
    }
    end(&f);
}

static void this_machine_is_never_named(void **state)
{
    char host[256] = "", text[400];
    struct fixture f;

    begin(&f, *state);
    if (gethostname(host, sizeof(host) - 1) == 0 && strlen(host) >= 4 &&
        strcmp(host, "localhost") != 0) {
        struct distil_case c = a_pair(&f, "odd");

        host[strcspn(host, ".")] = '\0';
        snprintf(text, sizeof(text), "On %s the keys are best read in tiles of the cache.", host);
        json_auto_t *insights = say("tiling", text);
        json_auto_t *report = distil(&f, &c, insights);
        assert_int_equal(accepted(report), 0);
    }
    end(&f);
}

static void a_long_statement_is_refused(void **state)
{
    struct fixture f;
    char text[DISTIL_STATEMENT_MAX + 2];

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "odd");
    for (size_t i = 0; i < sizeof(text) - 1; i++)
        text[i] = i % 6 == 5 ? ' ' : 'a';
    for (size_t len = sizeof(text) - 1; len >= sizeof(text) - 2; len--) {
        text[len] = '\0';
        text[len - 1] = 'b';
        json_auto_t *insights = say("tiling", text);
        json_auto_t *report = distil(&f, &c, insights);
        assert_int_equal(accepted(report), len <= DISTIL_STATEMENT_MAX);
    }
    end(&f);
}

/* What is no array of objects with texts is as good as nothing. */
static void shapes_of_answers_do_no_harm(void **state)
{
    static const char *const rows[] = {
        "null",
        "7",
        "{}",
        "[]",
        "[null]",
        "[[]]",
        "[{}]",
        "[{\"technique\":1,\"statement\":2}]",
        "[{\"technique\":{},\"statement\":[\"tiling\"]}]",
        "{\"statement\":\"tiling\"}",
    };
    struct fixture f;

    begin(&f, *state);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct distil_case c = a_pair(&f, "odd");
        json_auto_t *insights = json_loads(rows[i], JSON_DECODE_ANY, NULL);
        json_auto_t *report = distil(&f, &c, insights);

        assert_non_null(insights);
        assert_int_equal(accepted(report), 0);
    }
    end(&f);
}

static void a_cycle_states_few_claims_and_none_twice(void **state)
{
    static const char *const techniques[] = { "tiling",  "blocking",  "loop-unrolling",
                                              "packing", "alignment", "async-copy" };
    struct fixture f;
    json_auto_t *insights = json_array();

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "soft");
    for (size_t i = 0; i < ARRAY_LEN(techniques); i++)
        json_array_append_new(
            insights,
            json_pack("{s:s, s:o}", "technique", techniques[i], "statement",
                      json_sprintf("Keep what is read often close, by way %zu of it.", i)));
    json_auto_t *report = distil(&f, &c, insights);
    /* blocking is tiling; the fifth and sixth are not looked at */
    assert_int_equal(accepted(report), PLAN_INSIGHTS_MAX - 1);
    end(&f);
}

static void without_words_the_title_names_the_technique(void **state)
{
    struct fixture f;
    struct insight in;
    struct err err;

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "soft");
    json_auto_t *report = distil(&f, &c, NULL);
    assert_int_equal(accepted(report), 1);
    assert_ok(kb_get_insight(f.lab.kb, claim_of(report, 0), &in, &err), err);
    assert_string_equal(in.claim.technique, "online-softmax");
    assert_string_equal(in.claim.statement,
                        "Apply online-softmax: One pass over the scores with a running maximum and "
                        "a rescaled sum.");
    assert_int_equal(in.all.blind, 1);
    insight_release(&in);
    /* refused words, too, leave the measured effect */
    json_auto_t *insights = say("tiling", "Tiles.");
    json_auto_t *again = distil(&f, &c, insights);
    assert_string_equal(claim_of(again, 0), claim_of(report, 0));
    /* and nothing is stated of what nobody can name */
    c.node = world_find(f.s->world, "odd");
    json_auto_t *nothing = distil(&f, &c, NULL);
    assert_int_equal(accepted(nothing), 0);
    end(&f);
}

/* The same cycle in another search of the family is the same claim, with evidence of its own. */
static void equal_findings_of_two_searches_are_one_claim(void **state)
{
    struct lab_run run = { "s2", "lab_b", "num_kv_heads=8,head_dim=128", true, 9, EVALS };
    struct fixture f;
    struct insight in;
    struct err err;

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "soft");
    json_auto_t *first = distil(&f, &c, NULL);
    journal_close(&f.j);
    search_free(f.s);
    f.s = lab_search(&f.lab, &run);
    assert_ok(journal_open(&f.j, f.s, &f.lab.clock.clock, &err), err);
    insert(&f, "again", "One pass softmax");
    c = a_pair(&f, "again");
    json_auto_t *second = distil(&f, &c, NULL);
    assert_string_equal(claim_of(first, 0), claim_of(second, 0));
    assert_ok(kb_get_insight(f.lab.kb, claim_of(first, 0), &in, &err), err);
    assert_int_equal(in.n_evidence, 2);
    insight_release(&in);
    end(&f);
}

static void a_cycle_without_a_pass_is_a_failure(void **state)
{
    const struct trial *failed = NULL;
    struct fixture f;
    struct insight in;
    struct err err;

    begin(&f, *state);
    for (uint64_t n = 1; n <= search_measured(f.s); n++)
        if (!search_trial(f.s, n)->ok)
            failed = search_trial(f.s, n);
    if (failed == NULL) { /* make one: the last measured trial of its cycle */
        struct trial *t = search_trial(f.s, search_measured(f.s));

        t->ok = false;
        free(t->status);
        t->status = xstrdup("wrong_result");
        failed = t;
    }
    struct trial *last = NULL;
    for (uint64_t n = 1; n <= search_measured(f.s); n++)
        if (search_trial(f.s, n)->cycle == failed->cycle)
            last = search_trial(f.s, n);
    if (last != failed)
        last->ok = false;
    struct distil_case c = { .node = world_find(f.s->world, "soft"), .cycle = failed->cycle };
    if (last != failed) {
        free(last->status);
        last->status = xstrdup("wrong_result");
    }
    json_auto_t *report = distil(&f, &c, NULL);
    assert_string_equal(jsonx_str(report, "evidence", ""), "failure");
    assert_int_equal(accepted(report), 1);
    assert_ok(kb_get_insight(f.lab.kb, claim_of(report, 0), &in, &err), err);
    assert_int_equal(in.all.failures, 1);
    assert_int_equal(in.all.blind + in.all.steered, 0);
    assert_string_equal(in.failures[0].class, last->status);
    insight_release(&in);
    /* a cycle in which nothing was measured teaches nothing */
    c.cycle = 1000;
    json_auto_t *nothing = distil(&f, &c, NULL);
    assert_int_equal(accepted(nothing), 0);
    end(&f);
}

static void nothing_is_stated_without_something_to_compare(void **state)
{
    struct fixture f;
    json_auto_t *insights = say("tiling", good);

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "soft");
    c.without = NULL;
    json_auto_t *alone = distil(&f, &c, insights);
    assert_int_equal(accepted(alone), 0);
    c.without = c.with;
    json_auto_t *same = distil(&f, &c, insights);
    assert_int_equal(accepted(same), 0);
    end(&f);
}

static void what_was_told_of_memory_counts_as_steered(void **state)
{
    struct fixture f;
    struct insight in;
    struct err err;

    begin(&f, *state);
    f.s->memory = xcalloc(1, sizeof(*f.s->memory));
    f.s->offers.n = 1;
    struct distil_case c = a_pair(&f, "soft");
    json_auto_t *insights = say("tiling", good);
    json_auto_t *report = distil(&f, &c, insights);
    assert_ok(kb_get_insight(f.lab.kb, claim_of(report, 0), &in, &err), err);
    assert_int_equal(in.all.steered, 1);
    insight_release(&in);
    c.memory_free = true;
    json_auto_t *more = say("packing", good);
    json_auto_t *blind = distil(&f, &c, more);
    assert_ok(kb_get_insight(f.lab.kb, claim_of(blind, 0), &in, &err), err);
    assert_int_equal(in.all.steered, trial_steered(c.with));
    insight_release(&in);
    end(&f);
}

/* A technique of the model's own is recorded as proposed, under a plain name. */
static void a_new_technique_is_proposed(void **state)
{
    struct fixture f;

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "odd");
    json_auto_t *insights = say("Zigzag Frobnication", good);
    json_auto_t *report = distil(&f, &c, insights);
    const json_t *claim = json_array_get(json_object_get(report, "accepted"), 0);
    assert_string_equal(jsonx_str(claim, "technique", ""), "zigzag-frobnication");
    assert_true(jsonx_bool(claim, "proposed", 0));
    end(&f);
}

static void what_is_accepted_is_no_junk(void **state)
{
    struct fixture f;
    struct history *history = history_new();
    json_auto_t *families = json_object();
    json_auto_t *findings = NULL;
    json_auto_t *problems = json_array();
    struct screen screen = { 0 };
    struct err err;
    struct id digest;
    json_t *found;
    size_t i;

    begin(&f, *state);
    struct distil_case c = a_pair(&f, "soft");
    json_auto_t *insights = say("tiling", good);
    json_decref(distil(&f, &c, insights));
    json_decref(distil(&f, &c, NULL));
    struct doctor_input in = { f.lab.kb, history, families, false };
    assert_ok(doctor_examine(&in, &findings, &err), err);
    json_array_foreach (json_object_get(findings, "findings"), i, found)
        if (strcmp(jsonx_str(found, "kind", ""), "junk") == 0)
            fail_msg("%s", jsonx_str(found, "sentence", ""));
    assert_ok(kb_verify(f.lab.kb, problems, &digest, &err), err);
    assert_int_equal(json_array_size(problems), 0);
    assert_null(screen_text(&screen, good));
    history_free(history);
    end(&f);
}

#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_model_words_the_claim_and_the_system_links_the_evidence),
        T(bad_statements_are_refused_with_a_reason),
        T(this_machine_is_never_named),
        T(a_long_statement_is_refused),
        T(shapes_of_answers_do_no_harm),
        T(a_cycle_states_few_claims_and_none_twice),
        T(without_words_the_title_names_the_technique),
        T(equal_findings_of_two_searches_are_one_claim),
        T(a_cycle_without_a_pass_is_a_failure),
        T(nothing_is_stated_without_something_to_compare),
        T(what_was_told_of_memory_counts_as_steered),
        T(a_new_technique_is_proposed),
        T(what_is_accepted_is_no_junk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
