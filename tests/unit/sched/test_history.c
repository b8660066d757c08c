/* SPDX-License-Identifier: Apache-2.0 */
/* What all searches add up to: the fold over their events, and what a warm search takes from it. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "lab.h"
#include "search/history.h"
#include "unit/test.h"

static void lab_at(struct lab *lab, const char *dir)
{
    *lab = (struct lab){ .dir = dir, .worth = lab_bowl };
    lab_open(lab);
}

/* Two cold searches and a warm one on a neighbouring shape. */
static void run_three(struct lab *lab)
{
    struct lab_run a = { "sa", "lab_a", "n=4", true, 3, 40 };
    struct lab_run b = { "sb", "lab_a", "n=4", true, 4, 25 };
    struct lab_run c = { "sc", "lab_b", "n=8", false, 5, 40 };

    search_free(lab_search(lab, &a));
    search_free(lab_search(lab, &b));
    lab->shift = 1;
    search_free(lab_search(lab, &c));
}

static char *history_text(struct history *h)
{
    json_auto_t *all = json_pack("{s:o, s:o, s:o}", "calibration", history_calibration(h),
                                 "transfer", history_transfer(h), "problems", history_problems(h));

    return jsonx_canonical(all);
}

static int keep_event(void *ctx, uint64_t seq, const json_t *event)
{
    (void)seq;
    json_array_append(ctx, (json_t *)event);
    return 0;
}

static int keep_doc(void *ctx, const char *key, const json_t *doc)
{
    json_object_set(ctx, key, (json_t *)doc);
    return 0;
}

/* Writes a search's events one by one into another base; the history follows after each. */
static void copy_followed(struct kb *from, struct kb *to, const char *id, const json_t *doc,
                          struct history *h)
{
    json_auto_t *events = json_array();
    struct kb_batch *b = kb_batch_new(to);
    struct err err;
    json_t *event;
    size_t i;

    assert_ok(kb_each_event(from, id, 0, keep_event, events, &err), err);
    assert_ok(kb_batch_put_doc(b, KB_SEARCH, id, doc, &err), err);
    json_array_foreach (events, i, event) {
        assert_ok(kb_batch_add_event(b, id, i, event, &err), err);
        assert_ok(kb_commit(b, &err), err);
        assert_ok(history_follow(h, to, id, &err), err);
        if (i % 7 == 0)
            assert_ok(history_refresh(h, to, &err), err); /* reading again counts nothing twice */
    }
    kb_batch_free(b);
}

static void events_read_one_by_one_add_up_as_when_read_at_once(void **state)
{
    CLEANUP(freep) char *one = NULL, *other = NULL;
    struct history *at_once = history_new(), *followed = history_new();
    json_auto_t *docs = json_object();
    struct lab lab, copy;
    struct err err;
    const char *id;
    json_t *doc;
    char dirs[2][200];

    snprintf(dirs[0], sizeof(dirs[0]), "%s/a", (char *)*state);
    snprintf(dirs[1], sizeof(dirs[1]), "%s/b", (char *)*state);
    lab_at(&lab, dirs[0]);
    lab_at(&copy, dirs[1]);
    run_three(&lab);
    assert_ok(kb_each_doc(lab.kb, KB_SEARCH, keep_doc, docs, &err), err);
    json_object_foreach (docs, id, doc)
        copy_followed(lab.kb, copy.kb, id, doc, followed);
    assert_ok(history_refresh(at_once, lab.kb, &err), err);
    one = history_text(at_once);
    other = history_text(followed);
    assert_string_equal(one, other);
    assert_true(strlen(one) > 1000);
    history_free(at_once);
    history_free(followed);
    lab_close(&lab);
    lab_close(&copy);
}

/* ---- What a search takes from it, and leaves behind ---- */

struct tally {
    size_t attempts, corrected, served, followed, credited;
    int64_t lift_q;
    bool offered, recalled, has_recall;
    json_t *pending;
};

static void tally_attempt(struct tally *t, const json_t *ev)
{
    const json_t *raw = json_object_get(ev, "predicted"), *c = json_object_get(ev, "corrected");

    t->attempts++;
    assert_true(jsonx_str(ev, "source", "")[0]);
    assert_true(jsonx_num(raw, "sd", 0) > 0 && jsonx_num(c, "sd", 0) > 0);
    t->corrected += jsonx_num(raw, "sd", 0) != jsonx_num(c, "sd", 0);
    if (json_object_get(ev, "served") != NULL) {
        assert_string_equal(jsonx_str(ev, "arm", ""), "memory");
        t->served++;
    }
    t->followed += json_array_size(json_object_get(ev, "followed")) > 0;
    json_decref(t->pending);
    t->pending = json_deep_copy(ev);
}

static int tally_event(void *ctx, uint64_t seq, const json_t *ev)
{
    struct tally *t = ctx;
    const char *type = jsonx_str(ev, "type", "");
    const json_t *credit = json_object_get(ev, "credit");

    (void)seq;
    if (strcmp(type, "seeded") == 0) {
        t->has_recall = json_object_get(ev, "calibration") != NULL;
        t->recalled = json_array_size(json_object_get(ev, "calibration")) > 1;
        t->offered = json_array_size(json_object_get(ev, "offered")) > 0;
    }
    if (strcmp(type, "attempt") == 0)
        tally_attempt(t, ev);
    if (credit != NULL) {
        t->credited++;
        if (json_array_size(json_object_get(t->pending, "followed")) > 0)
            t->lift_q += jsonx_int(credit, "lift_q", 0);
    }
    return 0;
}

static struct tally tally_of(struct kb *kb, const char *id)
{
    struct tally t = { 0 };
    struct err err;

    assert_ok(kb_each_event(kb, id, 0, tally_event, &t, &err), err);
    json_decref(t.pending);
    t.pending = NULL;
    return t;
}

static void warm_search_recalls_what_earlier_ones_said_and_a_cold_one_nothing(void **state)
{
    struct tally cold, warm;
    struct search *s;
    struct lab lab;
    struct err err;

    lab_at(&lab, *state);
    run_three(&lab);
    cold = tally_of(lab.kb, "sb");
    warm = tally_of(lab.kb, "sc");
    assert_false(cold.has_recall || cold.offered);
    assert_int_equal(cold.served, 0);
    assert_true(warm.recalled && warm.offered);
    assert_int_equal(cold.attempts, 25);
    assert_true(cold.corrected > 10); /* by its own outcomes */
    assert_true(warm.corrected > 30);
    assert_true(warm.served > 0 && warm.followed > 0 && warm.credited == warm.served);
    assert_ok(search_load(lab.kb, "sc", true, &s, &err), err);
    json_auto_t *show = search_show_json(s);
    const json_t *p = json_object_get(show, "predictions");

    assert_true(jsonx_int(p, "n", 0) > 30);
    assert_true(jsonx_num(p, "crps", -1) > 0 && jsonx_num(p, "crps_corrected", -1) > 0);
    assert_true(jsonx_num(p, "coverage80", -1) >= 0 && jsonx_num(p, "coverage80", 2) <= 1);
    assert_true(jsonx_num(p, "coverage80_corrected", 0) > 0.5);
    search_free(s);
    lab_close(&lab);
}

struct sums {
    struct history *history;
    int64_t q;
    uint64_t served, adopted;
};

static int add_credit(void *ctx, const struct insight *in)
{
    struct sums *s = ctx;
    struct credit_row r = history_credit(s->history, in->id.hex);

    s->q += r.lift_q + r.debit_q;
    s->served += r.served;
    s->adopted += r.adopted;
    assert_true(r.adopted + r.against <= r.served && r.wins + r.losses <= r.adopted);
    return 0;
}

static void credit_of_all_insights_is_the_lift_of_all_attempts(void **state)
{
    struct history *h = history_new();
    struct sums sums = { .history = h };
    struct tally warm;
    struct lab lab;
    struct err err;

    lab_at(&lab, *state);
    run_three(&lab);
    warm = tally_of(lab.kb, "sc");
    assert_ok(history_refresh(h, lab.kb, &err), err);
    assert_int_equal(kb_each_insight(lab.kb, add_credit, &sums), 0);
    assert_true(warm.lift_q != 0 && sums.adopted > 0);
    assert_int_equal(sums.q, warm.lift_q);
    assert_true(sums.served >= warm.served);
    history_free(h);
    lab_close(&lab);
}

static const json_t *row_of(const json_t *page, const char *source)
{
    const json_t *row;
    size_t i;

    json_array_foreach (json_object_get(page, "sources"), i, row)
        if (strcmp(jsonx_str(row, "source", ""), source) == 0)
            return row;
    return NULL;
}

/* Pairs that decide an offered claim are scored against what the insight said before. */
static void insights_are_a_source_of_predictions(void **state)
{
    struct lab_run more = { "sd", "lab_b", "n=8", false, 6, 80 };
    struct history *h = history_new();
    struct lab lab;
    struct err err;

    lab_at(&lab, *state);
    run_three(&lab);
    search_free(lab_search(&lab, &more));
    assert_ok(history_refresh(h, lab.kb, &err), err);
    json_auto_t *page = history_calibration(h);
    const json_t *row = row_of(page, "insight"), *coverage;

    assert_non_null(row);
    coverage = json_object_get(row, "coverage_corrected");
    assert_true(jsonx_int(row, "n", 0) >= 3);
    assert_true(fabs(jsonx_num(row, "bias", 9)) < 1);
    assert_true(jsonx_num(coverage, "95", 0) >= jsonx_num(coverage, "50", 1));
    assert_non_null(row_of(page, "builtin/memory/adopted"));
    assert_non_null(row_of(page, "builtin/cold/spread"));
    history_free(h);
    lab_close(&lab);
}

static void events_of_before_there_were_sources_are_read_too(void **state)
{
    static const char *const events[] = {
        "{\"type\":\"attempt\",\"seq\":0,\"evaluation\":1,\"arm\":\"cold\","
        "\"predicted\":{\"mean\":0.5,\"sd\":0.1}}",
        "{\"type\":\"measured\",\"seq\":1,\"evaluation\":1,\"status\":\"ok\","
        "\"objective_q\":600000}",
        "{\"type\":\"attempt\",\"seq\":2,\"evaluation\":2,\"arm\":\"cold\"}",
        "{\"type\":\"measured\",\"seq\":3,\"evaluation\":2,\"status\":\"ok\","
        "\"objective_q\":600000}",
    };
    struct history *h = history_new();
    json_auto_t *doc = json_pack("{s:s, s:s, s:b, s:{s:s, s:s}}", "id", "old", "proposer",
                                 "builtin", "cold", 1, "scope", "family", "f", "device_class", "c");
    struct kb_batch *b;
    struct lab lab;
    struct err err;

    lab_at(&lab, *state);
    b = kb_batch_new(lab.kb);
    assert_ok(kb_batch_put_doc(b, KB_SEARCH, "old", doc, &err), err);
    for (size_t i = 0; i < ARRAY_LEN(events); i++) {
        json_auto_t *ev = json_loads(events[i], 0, NULL);

        assert_ok(kb_batch_add_event(b, "old", i, ev, &err), err);
    }
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    assert_ok(history_follow(h, lab.kb, "old", &err), err);
    json_auto_t *page = history_calibration(h);
    const json_t *row = json_array_get(json_object_get(page, "sources"), 0);

    assert_string_equal(jsonx_str(row, "source", ""), "builtin/cold/unknown");
    assert_int_equal(jsonx_int(row, "n", 0), 1);
    assert_true(jsonx_num(row, "crps", 0) == jsonx_num(row, "crps_corrected", 1));
    assert_fails(history_follow(h, lab.kb, "nobody", &err), err, ERR_NOT_FOUND);
    history_free(h);
    lab_close(&lab);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, test_dir_setup, test_dir_teardown)
        T(events_read_one_by_one_add_up_as_when_read_at_once),
        T(warm_search_recalls_what_earlier_ones_said_and_a_cold_one_nothing),
        T(credit_of_all_insights_is_the_lift_of_all_attempts),
        T(insights_are_a_source_of_predictions),
        T(events_of_before_there_were_sources_are_read_too),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
