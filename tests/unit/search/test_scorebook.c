/* SPDX-License-Identifier: Apache-2.0 */
/* Scores of models that are too sure, too shy, blind or honest, and what becomes of them. */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "search/scorebook.h"
#include "unit/test.h"

/* Probability that a node of this score improves, by kind of model. */
static double too_sure(double score)
{
    return 0.1 + 0.3 * score;
}

static double too_shy(double score)
{
    return fmin(1, 0.3 + 1.6 * score);
}

static double blind(double score)
{
    (void)score;
    return 0.35;
}

static double honest(double score)
{
    return score;
}

/* A search's cycles with a model that scores between `low` and `high`. */
static void bet(struct scorebook *b, const char *model, double (*truth)(double), double low,
                double high, size_t n, struct rng *rng)
{
    for (size_t i = 0; i < n; i++) {
        struct score_bet bet = { .cycle = b->n + 1,
                                 .score = low + (high - low) * rng_double(rng),
                                 .confidence = 0.9 };
        bool improves = rng_double(rng) < truth(bet.score);

        snprintf(bet.model, sizeof(bet.model), "%s", model);
        scorebook_open(b, &bet);
        scorebook_settle(b, bet.cycle, improves, 200000, 1000);
    }
}

static double brier_of(const struct scorebook *b, const char *member)
{
    json_auto_t *report = scorebook_json(b);

    return jsonx_num(report, member, NAN);
}

static void nothing_changes_without_outcomes(void **state)
{
    struct score_correction none = score_correction_none(), c;
    struct score_correction prior = { 0.4, 0.2, 0 };
    struct scorebook b = { 0 };
    struct score_bet open = { .cycle = 1, .score = 0.9 };

    (void)state;
    scorebook_open(&b, &open); /* under way: nothing is known of it */
    c = scorebook_correction(&b, "m");
    for (double s = 0; s <= 1; s += 0.125) {
        assert_true(score_corrected(&none, s) == s);
        assert_true(score_corrected(&c, s) == s);
    }
    c = score_correction_fit(&prior, NULL, NULL, 0);
    assert_true(c.slope == prior.slope && c.intercept == prior.intercept && c.n == 0);
    json_auto_t *report = scorebook_json(&b);
    assert_int_equal(jsonx_int(report, "n", -1), 0);
    assert_true(json_is_null(json_object_get(report, "brier")));
    scorebook_release(&b);
}

static void a_model_that_is_too_sure_is_shrunk(void **state)
{
    struct rng rng = { 7 };
    struct scorebook b = { 0 };
    struct score_correction c;

    (void)state;
    bet(&b, "bold", too_sure, 0.5, 1, 200, &rng);
    c = scorebook_correction(&b, "bold");
    assert_true(score_corrected(&c, 0.9) < 0.6);
    assert_true(fabs(score_corrected(&c, 0.75) - too_sure(0.75)) < 0.12);
    assert_true(brier_of(&b, "brier_corrected") < brier_of(&b, "brier") - 0.05);
    scorebook_release(&b);
}

static void a_model_that_is_too_shy_is_raised(void **state)
{
    struct rng rng = { 8 };
    struct scorebook b = { 0 };
    struct score_correction c;

    (void)state;
    bet(&b, "shy", too_shy, 0, 0.4, 200, &rng);
    c = scorebook_correction(&b, "shy");
    assert_true(score_corrected(&c, 0.2) > 0.4);
    assert_true(brier_of(&b, "brier_corrected") < brier_of(&b, "brier") - 0.05);
    scorebook_release(&b);
}

static void scores_that_say_nothing_end_as_the_base_rate(void **state)
{
    struct rng rng = { 9 };
    struct scorebook b = { 0 };
    struct score_correction c;

    (void)state;
    bet(&b, "blind", blind, 0, 1, 400, &rng);
    c = scorebook_correction(&b, "blind");
    assert_true(c.slope >= 0 && c.slope < 0.2);
    for (double s = 0; s <= 1; s += 0.25)
        assert_true(fabs(score_corrected(&c, s) - 0.35) < 0.12);
    scorebook_release(&b);
}

static void an_honest_model_is_left_alone(void **state)
{
    struct rng rng = { 10 };
    struct scorebook b = { 0 };
    struct score_correction c;

    (void)state;
    bet(&b, "honest", honest, 0, 1, 400, &rng);
    c = scorebook_correction(&b, "honest");
    for (double s = 0; s <= 1; s += 0.25)
        assert_true(fabs(score_corrected(&c, s) - s) < 0.1);
    assert_true(fabs(brier_of(&b, "brier_corrected") - brier_of(&b, "brier")) < 0.02);
    scorebook_release(&b);
}

/* Two wild outcomes are no reason to turn a model's words around. */
static void few_outcomes_move_little(void **state)
{
    struct scorebook b = { 0 };
    struct score_correction c;

    (void)state;
    for (uint64_t i = 1; i <= 2; i++) {
        struct score_bet one = { .cycle = i, .score = 0.9 };

        scorebook_open(&b, &one);
        scorebook_settle(&b, i, false, 0, 0);
    }
    c = scorebook_correction(&b, "m");
    assert_true(score_corrected(&c, 0.9) < 0.8);
    assert_true(score_corrected(&c, 0.9) > 0.5);
    scorebook_release(&b);
}

/* Whatever comes in, the order of two scores is never reversed and the result stays in 0..1. */
static void corrections_keep_the_order(void **state)
{
    struct rng rng = { 11 };

    (void)state;
    for (int round = 0; round < 300; round++) {
        struct score_correction none = score_correction_none(), c;
        size_t n = rng_u64(&rng) % 40;
        double scores[40], last = 0;
        bool improved[40];

        for (size_t i = 0; i < n; i++) {
            scores[i] = rng_double(&rng);
            improved[i] = rng_double(&rng) < (round % 2 ? 1 - scores[i] : 0.5);
        }
        c = score_correction_fit(&none, scores, improved, n);
        for (double s = 0; s <= 1; s += 0.05) {
            double v = score_corrected(&c, s);

            assert_true(v >= 0 && v <= 1 && v >= last);
            last = v;
        }
    }
}

static void models_are_told_apart(void **state)
{
    struct rng rng = { 12 };
    struct scorebook b = { 0 };
    struct score_correction bold, true_one, stranger;

    (void)state;
    bet(&b, "bold", too_sure, 0, 1, 100, &rng);
    bet(&b, "honest", honest, 0, 1, 100, &rng);
    bold = scorebook_correction(&b, "bold");
    true_one = scorebook_correction(&b, "honest");
    stranger = scorebook_correction(&b, "unheard of");
    assert_true(score_corrected(&bold, 0.9) < score_corrected(&stranger, 0.9));
    assert_true(score_corrected(&stranger, 0.9) < score_corrected(&true_one, 0.9));
    json_auto_t *report = scorebook_json(&b);
    assert_int_equal(json_array_size(json_object_get(report, "models")), 2);
    scorebook_release(&b);
}

static void a_gain_within_the_noise_is_no_improvement(void **state)
{
    static const struct {
        int64_t best_q, sd_q, base_sd_q;
        bool passed, improved;
    } rows[] = {
        { 109000, 0, 0, true, false },     { 111000, 0, 0, true, true },
        { 150000, 30000, 0, true, false }, { 150000, 20000, 0, true, true },
        { 150000, 0, 40000, true, false }, { 90000, 0, 0, true, false },
        { INT64_MAX, 0, 0, false, false },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct scorebook b = { 0 };
        struct score_bet one = { .cycle = 3, .base_q = 100000, .base_sd_q = rows[i].base_sd_q };

        scorebook_open(&b, &one);
        scorebook_settle(&b, 4, true, 900000, 0); /* another cycle's end */
        assert_false(b.bets[0].settled);
        scorebook_settle(&b, 3, rows[i].passed, rows[i].best_q, rows[i].sd_q);
        assert_true(b.bets[0].settled);
        assert_int_equal(b.bets[0].improved, rows[i].improved);
        scorebook_settle(&b, 3, true, 900000, 0); /* once only */
        assert_int_equal(b.bets[0].improved, rows[i].improved);
        scorebook_release(&b);
    }
}

static void the_expected_gain_falls_with_what_was_reached(void **state)
{
    struct scorebook b = { 0 };
    double before = scorebook_gain(&b, "m", 0.8), after;

    (void)state;
    assert_true(fabs(before - 0.08) < 1e-12);
    for (uint64_t i = 1; i <= 30; i++) {
        struct score_bet one = { .cycle = i, .score = 0.8, .has_expected = true, .expected = 0.3 };

        scorebook_open(&b, &one);
        scorebook_settle(&b, i, true, 1000, 100);
    }
    after = scorebook_gain(&b, "m", 0.8);
    assert_true(after < 0.03);
    json_auto_t *report = scorebook_json(&b);
    const json_t *factor = json_object_get(report, "factor");
    assert_int_equal(jsonx_int(factor, "n", 0), 30);
    assert_true(fabs(jsonx_num(factor, "bias", 0) + 0.299) < 1e-9);
    scorebook_release(&b);
}

static void the_table_counts_every_outcome_once(void **state)
{
    struct rng rng = { 13 };
    struct scorebook b = { 0 };
    struct score_bet edge = { .cycle = 1000, .score = 1 };
    long long n = 0;
    json_t *bin;
    size_t i;

    (void)state;
    bet(&b, "m", honest, 0, 1, 57, &rng);
    scorebook_open(&b, &edge);
    scorebook_settle(&b, 1000, false, 0, 0);
    json_auto_t *report = scorebook_json(&b);
    assert_int_equal(json_array_size(json_object_get(report, "bins")), SCOREBOOK_BINS);
    json_array_foreach (json_object_get(report, "bins"), i, bin)
        n += jsonx_int(bin, "n", 0);
    assert_int_equal(n, 58);
    scorebook_release(&b);
}

/* The order of past searches does not matter, and what they say is where a search begins. */
static void past_searches_are_the_prior(void **state)
{
    struct score_past forth = { 0 }, back = { 0 };
    struct scorebook b = { 0 };
    struct score_correction c, stranger;
    struct rng rng = { 14 };
    struct err err;
    json_t *bets[200];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bets); i++) {
        struct scorebook one = { 0 };
        struct score_bet open = { .cycle = 1, .score = rng_double(&rng) };
        bool bold = i % 2;

        snprintf(open.model, sizeof(open.model), bold ? "bold" : "honest");
        scorebook_open(&one, &open);
        bets[i] = scorebook_bet_json(
            &one, 1, rng_double(&rng) < (bold ? too_sure(open.score) : open.score), 500000, 0);
        assert_non_null(bets[i]);
        assert_null(scorebook_bet_json(&one, 2, true, 0, 0));
        assert_false(one.bets[0].settled);
        scorebook_release(&one);
        score_past_add(&forth, bets[i]);
    }
    for (size_t i = ARRAY_LEN(bets); i > 0; i--) {
        score_past_add(&back, bets[i - 1]);
        json_decref(bets[i - 1]);
    }
    score_past_add(&forth, NULL);
    assert_memory_equal(&forth.all, &back.all, sizeof(forth.all));
    json_auto_t *past = score_past_json(&forth);
    assert_int_equal(json_array_size(past), 3);
    assert_ok(scorebook_recall(&b, past, &err), err);
    c = scorebook_correction(&b, "bold");
    stranger = scorebook_correction(&b, "unheard of");
    assert_true(score_corrected(&c, 0.9) < 0.55);
    assert_true(score_corrected(&stranger, 0.9) > score_corrected(&c, 0.9));
    /* it goes on from there */
    bet(&b, "bold", honest, 0, 1, 300, &rng);
    c = scorebook_correction(&b, "bold");
    assert_true(score_corrected(&c, 0.9) > 0.75);
    json_auto_t *damaged =
        json_pack("[{s:s, s:f, s:f}]", "model", "m", "slope", -1.0, "intercept", 0.0);
    assert_fails(scorebook_recall(&b, damaged, &err), err, ERR_CORRUPT);
    scorebook_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_changes_without_outcomes),
        cmocka_unit_test(a_model_that_is_too_sure_is_shrunk),
        cmocka_unit_test(a_model_that_is_too_shy_is_raised),
        cmocka_unit_test(scores_that_say_nothing_end_as_the_base_rate),
        cmocka_unit_test(an_honest_model_is_left_alone),
        cmocka_unit_test(few_outcomes_move_little),
        cmocka_unit_test(corrections_keep_the_order),
        cmocka_unit_test(models_are_told_apart),
        cmocka_unit_test(a_gain_within_the_noise_is_no_improvement),
        cmocka_unit_test(the_expected_gain_falls_with_what_was_reached),
        cmocka_unit_test(the_table_counts_every_outcome_once),
        cmocka_unit_test(past_searches_are_the_prior),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
