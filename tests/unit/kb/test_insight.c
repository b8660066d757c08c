/* SPDX-License-Identifier: Apache-2.0 */
/* What evidence makes of a claim: sums, cells, conditions, duplicates, withdrawals, posteriors. */
#include <math.h>

#include "kb_fixture.h"

struct state {
    struct tmp_folder folder;
    struct kb *kb;
    struct kb_batch *b;
    uint64_t n; /* evidence so far, so that each is another fact */
};

static int setup(void **arg)
{
    struct state *s = xcalloc(1, sizeof(*s));

    folder_make(&s->folder);
    s->kb = base_open(s->folder.path);
    s->b = kb_batch_new(s->kb);
    *arg = s;
    return 0;
}

static int teardown(void **arg)
{
    struct state *s = *arg;

    digest_of(s->kb); /* verify agrees with whatever the case did */
    kb_batch_free(s->b);
    kb_close(s->kb);
    folder_remove(&s->folder);
    free(s);
    return 0;
}

/* A pair for a claim in a cell, with one feature. */
static struct id pair(struct state *s, uint64_t claim, const char *class, const char *shape,
                      int64_t effect_q, int heads, bool steered)
{
    struct evidence e = { .claim = claim_id(claim),
                          .kind = (char *)"pair",
                          .with = id_of_number("with", s->n),
                          .without = id_of_number("without", s->n),
                          .effect_q = effect_q,
                          .sd_q = 5000,
                          .steered = steered,
                          .failure = (char *)"",
                          .task = (char *)"gqa",
                          .device = (char *)"cpu",
                          .device_class = (char *)class,
                          .shape = (char *)shape,
                          .toolchain = (char *)"gcc 12.2.0",
                          .features = json_pack("{s:i}", "num_kv_heads", heads),
                          .measured_at_s = 1000 + s->n };
    struct err err;
    struct id id;

    s->n++;
    assert_ok(kb_batch_add_evidence(s->b, &e, &id, &err));
    json_decref(e.features);
    return id;
}

static struct insight get(struct state *s, uint64_t claim)
{
    struct insight in;
    struct err err;

    assert_ok(kb_get_insight(s->kb, claim_id(claim).hex, &in, &err));
    return in;
}

static const struct insight_sums *cell(const struct insight *in, const char *key)
{
    for (size_t i = 0; i < in->n_cells; i++)
        if (strcmp(in->cells[i].key, key) == 0)
            return &in->cells[i].sums;
    fail_msg("there is no cell '%s'", key);
    return NULL;
}

static void evidence_adds_up_in_its_cell_and_the_cells_above(void **arg)
{
    struct state *s = *arg;
    struct insight in;

    put_claim(s->b, 0);
    pair(s, 0, "cpu-avx2", "h=4", 100000, 4, false);
    pair(s, 0, "cpu-avx2", "h=8", -50000, 8, true);
    pair(s, 0, "sm_90", "h=4", 10000, 4, false);
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.all.blind, 2);
    assert_int_equal(in.all.steered, 1);
    assert_int_equal(in.all.positive, 2);
    assert_int_equal(in.all.effect_q, 60000);
    assert_int_equal(in.all.effect_sq_q, 100 * 100 + 50 * 50 + 10 * 10);
    assert_int_equal(in.all.first_s, 1000);
    assert_int_equal(in.all.last_s, 1002);
    assert_int_equal(in.n_evidence, 3);
    assert_int_equal(in.n_cells, 2 + 3 + 3);
    assert_int_equal(cell(&in, "cpu-avx2")->effect_q, 50000);
    assert_int_equal(cell(&in, "cpu-avx2|h=8")->steered, 1);
    assert_int_equal(cell(&in, "sm_90|h=4|gcc 12.2.0")->effect_q, 10000);
    insight_release(&in);
}

static void evidence_waits_for_its_claim(void **arg)
{
    struct state *s = *arg;
    struct insight in;
    struct err err;

    pair(s, 0, "cpu-avx2", "h=4", 100000, 4, false);
    commit(s->b);
    assert_fails(kb_get_insight(s->kb, claim_id(0).hex, &in, &err), ERR_NOT_FOUND);
    put_claim(s->b, 0);
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.all.blind, 1);
    assert_int_equal(in.n_evidence, 1);
    insight_release(&in);
}

static void a_condition_is_learned_from_evidence_of_both_signs(void **arg)
{
    struct state *s = *arg;
    struct insight in;

    put_claim(s->b, 0);
    for (int i = 0; i < 14; i++)
        pair(s, 0, "cpu-avx2", "h", 80000 + i, i % 2 ? 2 : 4, false);
    for (int i = 0; i < 9; i++)
        pair(s, 0, "cpu-avx2", "h", -60000 - i, i % 2 ? 8 : 16, false);
    commit(s->b);
    in = get(s, 0);
    assert_string_equal(in.condition,
                        "helps when num_kv_heads <= 4, hurts above; 14 against 9 measurements");
    insight_release(&in);
}

static void the_other_direction_is_learned_too(void **arg)
{
    struct state *s = *arg;
    struct insight in;

    put_claim(s->b, 0);
    for (int i = 0; i < 5; i++) {
        pair(s, 0, "cpu-avx2", "h", -80000, 2, false);
        pair(s, 0, "cpu-avx2", "h", 80000, 8, false);
    }
    pair(s, 0, "cpu-avx2", "h", -1000, 8, false); /* one against is allowed */
    commit(s->b);
    in = get(s, 0);
    assert_string_equal(in.condition,
                        "hurts when num_kv_heads <= 2, helps above; 5 against 6 measurements");
    insight_release(&in);
}

static void no_condition_without_enough_or_clear_evidence(void **arg)
{
    struct state *s = *arg;
    struct insight in;

    for (uint64_t claim = 0; claim < 3; claim++)
        put_claim(s->b, claim);
    for (int i = 0; i < 20; i++)
        pair(s, 0, "cpu-avx2", "h", 80000, 2, false); /* one sign only */
    pair(s, 0, "cpu-avx2", "h", -80000, 8, false);
    pair(s, 0, "cpu-avx2", "h", -80000, 8, false); /* two are too few */
    for (int i = 0; i < 20; i++)
        pair(s, 1, "cpu-avx2", "h", i % 2 ? 80000 : -80000, i % 4 < 2 ? 2 : 8, false);
    for (int i = 0; i < 10; i++)
        pair(s, 2, "cpu-avx2", "h", i % 2 ? 80000 : -80000, 4, false); /* nothing to split on */
    commit(s->b);
    for (uint64_t claim = 0; claim < 3; claim++) {
        in = get(s, claim);
        assert_string_equal(in.condition, "");
        insight_release(&in);
    }
}

static void one_device_class_against_the_rest_is_a_condition(void **arg)
{
    struct state *s = *arg;
    struct insight_effect here, there;
    struct insight in;

    put_claim(s->b, 0);
    for (int i = 0; i < 4; i++) {
        pair(s, 0, "sm_90", i % 2 ? "h=4" : "h=8", 80000, 4, false);
        pair(s, 0, i % 2 ? "sm_80" : "cpu-avx2", i % 2 ? "h=4" : "h=8", -70000, 4, false);
    }
    commit(s->b);
    in = get(s, 0);
    assert_string_equal(
        in.condition,
        "helps when device_class is sm_90, hurts elsewhere; 4 against 4 measurements");
    assert_int_equal(in.when.op, INSIGHT_IS);
    assert_string_equal(in.when.feature, "device_class");
    assert_string_equal(in.when.text, "sm_90");
    assert_true(in.when.helps);
    assert_false(in.contradicted);
    here = insight_posterior(&in, "sm_90", NULL, NULL);
    there = insight_posterior(&in, "cpu-neon", NULL, NULL);
    assert_int_equal(here.side, 0);
    assert_int_equal(there.side, 1);
    assert_int_equal(insight_posterior(&in, NULL, NULL, NULL).side, -1);
    insight_release(&in);
}

static void a_shape_can_be_the_condition(void **arg)
{
    struct state *s = *arg;
    struct insight in;

    put_claim(s->b, 0);
    for (int i = 0; i < 3; i++) {
        pair(s, 0, i % 2 ? "sm_80" : "cpu-avx2", "h=8", -80000, 4, false);
        pair(s, 0, i % 2 ? "sm_80" : "cpu-avx2", i % 2 ? "h=4" : "h=16", 70000, 4, false);
    }
    commit(s->b);
    in = get(s, 0);
    assert_string_equal(in.condition,
                        "hurts when shape is h=8, helps elsewhere; 3 against 3 measurements");
    insight_release(&in);
}

static void the_side_of_a_known_feature_decides_the_effect(void **arg)
{
    struct state *s = *arg;
    struct insight_place at = { .device_class = "sm_90", .foreign_weight = 0.5 };
    struct insight_effect low, high, unknown;
    json_t *few = json_pack("{s:i}", "num_kv_heads", 3),
           *many = json_pack("{s:i}", "num_kv_heads", 9);
    struct insight in;

    put_claim(s->b, 0);
    for (int i = 0; i < 6; i++) {
        pair(s, 0, "sm_90", "h", 80000 + i, i % 2 ? 2 : 4, false);
        pair(s, 0, "sm_90", "h", -60000 - i, i % 2 ? 8 : 16, false);
    }
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.when.op, INSIGHT_AT_MOST);
    assert_int_equal(in.when.side[0].n, 6);
    assert_int_equal(in.when.side[0].effect_q, 6 * 80000 + 15);
    unknown = insight_effect_at(&in, &at);
    assert_int_equal(unknown.side, -1);
    at.features = few;
    low = insight_effect_at(&in, &at);
    at.features = many;
    high = insight_effect_at(&in, &at);
    assert_int_equal(low.side, 0);
    assert_int_equal(high.side, 1);
    assert_true(low.mean > 0.07 && low.p_positive > 0.99);
    assert_true(high.mean < -0.05 && high.p_positive < 0.01);
    assert_true(unknown.mean < low.mean && unknown.mean > high.mean);
    assert_true(low.sd < unknown.sd);
    insight_release(&in);
    json_decref(few);
    json_decref(many);
}

static void both_signs_without_a_condition_are_a_contradiction(void **arg)
{
    struct state *s = *arg;
    struct insight in;

    put_claim(s->b, 0);
    put_claim(s->b, 1);
    for (int i = 0; i < 6; i++) {
        pair(s, 0, "cpu-avx2", "h", i % 2 ? 80000 : -80000, 4, false);
        pair(s, 1, "cpu-avx2", "h", i < 4 ? 80000 : -80000, 4, false);
    }
    commit(s->b);
    in = get(s, 0);
    assert_true(in.contradicted);
    assert_int_equal(in.all.positive, 3);
    assert_int_equal(in.all.negative, 3);
    insight_release(&in);
    in = get(s, 1);
    assert_false(in.contradicted);
    insight_release(&in);
}

static struct id failed(struct state *s, uint64_t claim, const char *class, uint64_t at_s)
{
    struct evidence e = { .claim = claim_id(claim),
                          .kind = (char *)"failure",
                          .with = id_of_number("with", s->n++),
                          .failure = (char *)class,
                          .task = (char *)"gqa",
                          .device = (char *)"cpu",
                          .device_class = (char *)"cpu-avx2",
                          .shape = (char *)"h",
                          .toolchain = (char *)"gcc 12.2.0",
                          .features = json_object(),
                          .measured_at_s = at_s };
    struct err err;
    struct id id;

    assert_ok(kb_batch_add_evidence(s->b, &e, &id, &err));
    json_decref(e.features);
    return id;
}

static void failures_are_counted_by_class_with_the_newest(void **arg)
{
    struct state *s = *arg;
    struct id newest, build;
    struct insight in;

    put_claim(s->b, 0);
    failed(s, 0, "crashed", 100);
    newest = failed(s, 0, "crashed", 300);
    failed(s, 0, "crashed", 200);
    build = failed(s, 0, "build_failed", 50);
    pair(s, 0, "cpu-avx2", "h", 1000, 4, false);
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.all.failures, 4);
    assert_int_equal(in.n_failures, 2);
    assert_string_equal(in.failures[0].class, "build_failed");
    assert_int_equal(in.failures[0].n, 1);
    assert_string_equal(in.failures[0].newest.hex, build.hex);
    assert_string_equal(in.failures[1].class, "crashed");
    assert_int_equal(in.failures[1].n, 3);
    assert_int_equal(in.failures[1].newest_s, 300);
    assert_string_equal(in.failures[1].newest.hex, newest.hex);
    insight_release(&in);
    put_retraction(s->b, FACT_EVIDENCE, newest);
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.failures[1].n, 2);
    assert_int_equal(in.failures[1].newest_s, 200);
    insight_release(&in);
}

static void a_retracted_claim_keeps_what_it_withdrew(void **arg)
{
    struct state *s = *arg;
    struct insight in;

    put_claim(s->b, 0);
    pair(s, 0, "cpu-avx2", "h", 80000, 2, false);
    put_retraction(s->b, FACT_CLAIM, claim_id(0));
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.state, INSIGHT_RETRACTED);
    assert_int_equal(in.all.blind, 1);
    insight_release(&in);
}

static void withdrawn_evidence_is_taken_out_whenever_it_comes(void **arg)
{
    struct state *s = *arg;
    struct id first, later;
    struct insight in;

    put_claim(s->b, 0);
    pair(s, 0, "cpu-avx2", "h=4", 30000, 2, false);
    first = pair(s, 0, "sm_90", "h=8", 80000, 4, false);
    commit(s->b);
    put_retraction(s->b, FACT_EVIDENCE, first);
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.all.blind, 1);
    assert_int_equal(in.all.effect_q, 30000);
    assert_int_equal(in.all.last_s, 1000);
    assert_int_equal(in.n_cells, 3);
    assert_int_equal(in.n_evidence, 1);
    insight_release(&in);

    /* The withdrawal first, then the evidence, in one batch and in two. */
    later = pair(s, 0, "sm_90", "h=8", 90000, 4, false);
    kb_batch_free(s->b);
    s->b = kb_batch_new(s->kb);
    s->n--;
    put_retraction(s->b, FACT_EVIDENCE, later);
    commit(s->b);
    pair(s, 0, "sm_90", "h=8", 90000, 4, false);
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.all.effect_q, 30000);
    insight_release(&in);
}

static void linked_claims_are_shown_as_the_smallest_id(void **arg)
{
    struct state *s = *arg;
    struct insight best, other;
    uint64_t small = 0, large = 1;

    if (strcmp(claim_id(0).hex, claim_id(1).hex) > 0)
        small = 1, large = 0;
    put_claim(s->b, 0);
    put_claim(s->b, 1);
    pair(s, small, "cpu-avx2", "h", 30000, 2, false);
    pair(s, large, "cpu-avx2", "h", 50000, 2, true);
    put_link(s->b, 0, 1);
    commit(s->b);
    best = get(s, small);
    other = get(s, large);
    assert_int_equal(best.state, INSIGHT_ACTIVE);
    assert_int_equal(other.state, INSIGHT_SUPERSEDED);
    assert_string_equal(other.same_as.hex, best.id.hex);
    assert_int_equal(best.all.effect_q, 80000);
    assert_int_equal(best.n_evidence, 2);
    assert_int_equal(other.all.effect_q, 50000);
    insight_release(&best);
    insight_release(&other);

    /* A representative that is retracted hands over. */
    put_retraction(s->b, FACT_CLAIM, claim_id(small));
    commit(s->b);
    other = get(s, large);
    assert_int_equal(other.state, INSIGHT_ACTIVE);
    assert_int_equal(other.all.effect_q, 50000);
    insight_release(&other);
}

static void links_join_through_a_claim_that_is_not_there(void **arg)
{
    struct state *s = *arg;
    struct insight a, b;

    put_claim(s->b, 0);
    put_claim(s->b, 2);
    put_link(s->b, 0, 1);
    put_link(s->b, 1, 2);
    commit(s->b);
    a = get(s, 0);
    b = get(s, 2);
    assert_true((a.state == INSIGHT_ACTIVE) != (b.state == INSIGHT_ACTIVE));
    insight_release(&a);
    insight_release(&b);
}

/* ---- Near-duplicates ---- */

static struct id say(struct state *s, const char *technique, const char *statement)
{
    struct claim c = { .technique = (char *)technique,
                       .statement = (char *)statement,
                       .mechanism = (char *)"",
                       .family = (char *)"gqa",
                       .dtype = (char *)"",
                       .language = (char *)"c",
                       .bottleneck = (char *)"",
                       .requires = (char *)"",
                       .param = (char *)"",
                       .with_value = (char *)"",
                       .without_value = (char *)"" };
    struct err err;
    struct id id;

    assert_ok(kb_batch_add_claim(s->b, &c, &id, &err));
    return id;
}

struct members {
    size_t n, active;
};

static int count_member(void *ctx, const struct insight *in)
{
    struct members *m = ctx;

    m->n++;
    m->active += in->state == INSIGHT_ACTIVE;
    return 0;
}

static struct members members(struct state *s, struct id id)
{
    struct members m = { 0 };

    assert_int_equal(kb_each_same(s->kb, &id, count_member, &m), 0);
    return m;
}

static void claims_that_say_the_same_in_other_words_are_one(void **arg)
{
    struct state *s = *arg;
    struct id a, b, other;

    a = say(s, "online-softmax",
            "Unroll the inner loop by 4 so that loads overlap with arithmetic.");
    commit(s->b);
    b = say(s, "online_softmax",
            "Unrolling the inner loop by 4 makes loads overlap with arithmetic.");
    other = say(s, "online-softmax",
                "Unroll the inner loop by 8 so that loads overlap with arithmetic.");
    say(s, "online-softmax", "Unroll the outer loop by 4 so that loads overlap with arithmetic.");
    say(s, "online-softmax",
        "Do not unroll the inner loop by 4 so that loads overlap with arithmetic.");
    say(s, "tiling", "Unroll the inner loop by 4 so that loads overlap with arithmetic.");
    commit(s->b);
    assert_int_equal(members(s, a).n, 2);
    assert_int_equal(members(s, a).active, 1);
    assert_int_equal(members(s, b).n, 2);
    assert_int_equal(members(s, other).n, 1);

    /* The same after opening again, and with what comes then. */
    kb_batch_free(s->b);
    kb_close(s->kb);
    s->kb = base_open(s->folder.path);
    s->b = kb_batch_new(s->kb);
    assert_int_equal(members(s, a).n, 2);
    say(s, "online-softmax", "Unroll inner loops by 4 so that the loads overlap with arithmetic.");
    commit(s->b);
    assert_int_equal(members(s, a).n, 3);
    assert_int_equal(members(s, a).active, 1);
}

/* ---- Posteriors ---- */

static void the_posterior_goes_from_parent_to_child(void **arg)
{
    struct state *s = *arg;
    struct insight_effect e, parent;
    struct insight in;

    put_claim(s->b, 0);
    pair(s, 0, "cpu-avx2", "h=4", 100000, 4, false);
    pair(s, 0, "cpu-avx2", "h=4", 120000, 4, false);
    pair(s, 0, "cpu-avx2", "h=8", -90000, 8, false);
    pair(s, 0, "sm_90", "h=4", -200000, 4, false);
    commit(s->b);
    in = get(s, 0);
    e = insight_posterior(&in, "cpu-avx2", "h=4", "gcc 12.2.0");
    assert_string_equal(e.cell, "cpu-avx2|h=4|gcc 12.2.0");
    assert_int_equal(e.n, 2);
    assert_true(e.mean > 0.05 && e.mean < 0.11);
    assert_true(e.p_positive > 0.9);
    assert_int_equal(e.levels[0], 4);
    assert_int_equal(e.levels[1], 3);
    assert_int_equal(e.levels[2], 2);
    assert_int_equal(e.levels[3], 2);
    /* One pair is used, and drawn towards what its parents have. */
    parent = insight_posterior(&in, "cpu-avx2", NULL, NULL);
    e = insight_posterior(&in, "cpu-avx2", "h=8", "gcc 12.2.0");
    assert_string_equal(e.cell, "cpu-avx2|h=8|gcc 12.2.0");
    assert_int_equal(e.n, 1);
    assert_true(e.mean > -0.09 && e.mean < parent.mean);
    e = insight_posterior(&in, "sm_90", NULL, NULL);
    assert_string_equal(e.cell, "sm_90");
    assert_int_equal(e.n, 1);
    assert_true(e.mean < 0 && e.mean > -0.2);
    /* Cells without pairs: the parent's mean, with more doubt. */
    e = insight_posterior(&in, "cpu-avx2", "h=16", NULL);
    assert_string_equal(e.cell, "cpu-avx2");
    assert_int_equal(e.n, 3);
    assert_int_equal(e.levels[2], 0);
    assert_true(e.sd > parent.sd);
    e = insight_posterior(&in, NULL, "h=4", NULL);
    assert_string_equal(e.cell, "");
    insight_release(&in);
}

static void blind_pairs_have_a_mean_of_their_own(void **arg)
{
    struct state *s = *arg;
    struct insight_effect e;
    struct insight in;

    put_claim(s->b, 0);
    pair(s, 0, "cpu-avx2", "h=4", 100000, 4, true);
    pair(s, 0, "cpu-avx2", "h=4", 140000, 4, true);
    pair(s, 0, "cpu-avx2", "h=4", 20000, 4, false);
    commit(s->b);
    in = get(s, 0);
    e = insight_posterior(&in, "cpu-avx2", "h=4", NULL);
    assert_int_equal(e.blind, 1);
    assert_int_equal(e.steered, 2);
    assert_true(fabs(e.blind_mean - 0.02) < 1e-12);
    assert_true(e.mean > e.blind_mean);
    insight_release(&in);
}

/* ---- Origins ---- */

static void origin(struct state *s, const char *name)
{
    struct err err;

    assert_ok(kb_batch_set_origin(s->b, name, &err));
}

static void foreign_evidence_counts_half_until_it_is_replicated_here(void **arg)
{
    struct state *s = *arg;
    struct insight_effect discounted, refuted, trusted;
    struct insight in;

    put_claim(s->b, 0);
    origin(s, "ed25519:abc");
    for (int i = 0; i < 4; i++)
        pair(s, 0, "sm_90", "h", 100000 + 1000 * i, 4, false);
    commit(s->b);
    in = get(s, 0);
    assert_int_equal(in.n_foreign, 4); /* all, and three cells */
    assert_string_equal(in.foreign[0].key, "");
    assert_int_equal(in.foreign[0].sums.blind, 4);
    assert_true(insight_trust(&in, 0.5) == 0.5);
    discounted = insight_posterior(&in, "sm_90", NULL, NULL);
    assert_int_equal(discounted.foreign, 4);
    assert_int_equal(discounted.n, 4);
    insight_release(&in);

    origin(s, NULL);
    pair(s, 0, "cpu-avx2", "h", -1000, 4, false);
    commit(s->b);
    in = get(s, 0);
    assert_true(insight_trust(&in, 0.5) == 0.5);
    refuted = insight_posterior(&in, "sm_90", NULL, NULL);
    insight_release(&in);

    pair(s, 0, "cpu-avx2", "h", 1000, 4, true);
    commit(s->b);
    in = get(s, 0);
    assert_true(insight_trust(&in, 0.5) == 1);
    trusted = insight_posterior(&in, "sm_90", NULL, NULL);
    assert_true(trusted.sd < discounted.sd && trusted.sd < refuted.sd);
    insight_release(&in);
}

static void a_fact_keeps_its_origin_until_it_is_made_here(void **arg)
{
    struct state *s = *arg;
    char name[KB_ORIGIN_MAX + 1], longer[KB_ORIGIN_MAX + 2];
    struct id local, foreign, digest[3];
    struct insight in;
    struct err err;

    put_claim(s->b, 0);
    local = pair(s, 0, "sm_90", "h", 100000, 4, false);
    commit(s->b);
    origin(s, "first");
    s->n = 0;
    pair(s, 0, "sm_90", "h", 100000, 4, false); /* is there: stays local */
    foreign = pair(s, 0, "sm_90", "h", 50000, 4, false);
    commit(s->b);
    origin(s, "second");
    s->n = 1;
    pair(s, 0, "sm_90", "h", 50000, 4, false);
    commit(s->b);
    assert_ok(kb_fact_origin(s->kb, &local, name, &err));
    assert_string_equal(name, "");
    assert_ok(kb_fact_origin(s->kb, &foreign, name, &err));
    assert_string_equal(name, "first");
    digest[0] = digest_of(s->kb);

    kb_batch_free(s->b);
    kb_close(s->kb);
    s->kb = base_open(s->folder.path);
    s->b = kb_batch_new(s->kb);
    in = get(s, 0);
    assert_int_equal(in.foreign[0].sums.blind, 1);
    assert_int_equal(in.foreign[0].sums.effect_q, 50000);
    insight_release(&in);
    digest[1] = digest_of(s->kb);
    s->n = 1;
    pair(s, 0, "sm_90", "h", 50000, 4, false);
    commit(s->b);
    assert_ok(kb_fact_origin(s->kb, &foreign, name, &err));
    assert_string_equal(name, "");
    in = get(s, 0);
    assert_int_equal(in.foreign[0].sums.blind, 0);
    assert_true(insight_trust(&in, 0.5) == 0.5 || in.foreign[0].sums.effect_q == 0);
    insight_release(&in);
    digest[2] = digest_of(s->kb);
    assert_string_equal(digest[0].hex, digest[1].hex);
    assert_string_equal(digest[0].hex, digest[2].hex);

    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    assert_fails(kb_batch_set_origin(s->b, longer, &err), ERR_INVALID);
    assert_fails(kb_batch_set_origin(s->b, "a\nb", &err), ERR_INVALID);
    assert_fails(kb_batch_set_origin(s->b, "\xff", &err), ERR_INVALID);
}

static void the_posterior_without_evidence_is_the_prior(void **arg)
{
    struct state *s = *arg;
    struct insight_effect e;
    struct insight in;

    put_claim(s->b, 0);
    commit(s->b);
    in = get(s, 0);
    e = insight_posterior(&in, "cpu-avx2", NULL, NULL);
    assert_true(e.mean == 0);
    assert_true(fabs(e.sd - 0.15) < 1e-12);
    assert_true(fabs(e.p_positive - 0.5) < 1e-12);
    assert_int_equal(e.n, 0);
    insight_release(&in);
}

static void more_evidence_narrows_the_posterior(void **arg)
{
    struct state *s = *arg;
    double sd = 0.15;

    put_claim(s->b, 0);
    for (int round = 0; round < 4; round++) {
        struct insight_effect e;
        struct insight in;

        for (int i = 0; i < 4 << round; i++)
            pair(s, 0, "cpu-avx2", "h", 100000 + (i % 2 ? 20000 : -20000), 4, false);
        commit(s->b);
        in = get(s, 0);
        e = insight_posterior(&in, NULL, NULL, NULL);
        assert_true(e.sd < sd);
        assert_true(fabs(e.mean - 0.1) < 3 * e.sd);
        sd = e.sd;
        insight_release(&in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        CASE(evidence_adds_up_in_its_cell_and_the_cells_above),
        CASE(evidence_waits_for_its_claim),
        CASE(a_condition_is_learned_from_evidence_of_both_signs),
        CASE(the_other_direction_is_learned_too),
        CASE(no_condition_without_enough_or_clear_evidence),
        CASE(one_device_class_against_the_rest_is_a_condition),
        CASE(a_shape_can_be_the_condition),
        CASE(the_side_of_a_known_feature_decides_the_effect),
        CASE(both_signs_without_a_condition_are_a_contradiction),
        CASE(failures_are_counted_by_class_with_the_newest),
        CASE(claims_that_say_the_same_in_other_words_are_one),
        CASE(a_retracted_claim_keeps_what_it_withdrew),
        CASE(withdrawn_evidence_is_taken_out_whenever_it_comes),
        CASE(linked_claims_are_shown_as_the_smallest_id),
        CASE(links_join_through_a_claim_that_is_not_there),
        CASE(the_posterior_goes_from_parent_to_child),
        CASE(blind_pairs_have_a_mean_of_their_own),
        CASE(foreign_evidence_counts_half_until_it_is_replicated_here),
        CASE(a_fact_keeps_its_origin_until_it_is_made_here),
        CASE(the_posterior_without_evidence_is_the_prior),
        CASE(more_evidence_narrows_the_posterior),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
