/* SPDX-License-Identifier: Apache-2.0 */
/* Scores, corrections, the ledger, credit, and memory against the memory-free arm. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "search/calibration.h"
#include "search/credit.h"
#include "search/ledger.h"
#include "search/rivalry.h"
#include "search/trial.h"
#include "unit/test.h"

static const double reach_80 = 1.2815515655446004;

/* ---- Scores ---- */

/* The definition: the integral of the squared distance between the two distribution functions. */
static double crps_by_integral(double mean, double sd, double outcome)
{
    double sum = 0, step = sd / 2000, from = fmin(mean - 9 * sd, outcome - sd);

    for (double x = from; x < fmax(mean + 9 * sd, outcome + sd); x += step) {
        double f = 0.5 * erfc((mean - x) / sd * M_SQRT1_2) - (x >= outcome);

        sum += f * f * step;
    }
    return sum;
}

static void crps_is_the_integral_that_defines_it(void **state)
{
    static const double cases[][3] = { { 0, 1, 0 },       { 0, 1, 1 },       { 0, 1, -3 },
                                       { 0.3, 0.1, 0.5 }, { -2, 0.5, -2.1 }, { 1, 2, 9 } };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        double want = crps_by_integral(cases[i][0], cases[i][1], cases[i][2]);

        assert_true(fabs(crps_normal(cases[i][0], cases[i][1], cases[i][2]) - want) < 2e-3 * want);
    }
    assert_true(crps_normal(1, 0, 3) == 2); /* a point forecast: the distance */
}

/* ---- Corrections ---- */

static void no_outcomes_correct_nothing(void **state)
{
    struct correction none = correction_none(), past = { 0.7, 2.5 }, c;
    struct calibration *cal = calibration_new();
    double mean = 0.4, sd = 0.1;

    (void)state;
    c = correction_fit(&none, NULL, NULL, 0);
    assert_true(c.bias == 0 && c.scale == 1);
    c = correction_fit(&past, NULL, NULL, 0);
    assert_true(c.bias == 0.7 && c.scale == 2.5);
    c = calibration_of(cal, "builtin/cold/gp");
    assert_true(c.bias == 0 && c.scale == 1);
    correction_apply(&c, &mean, &sd);
    assert_true(mean == 0.4 && sd == 0.1);
    calibration_free(cal);
}

/* The prior is worth ten outcomes: two wild ones move a correction, and no further than that. */
static void few_outcomes_are_shrunk(void **state)
{
    static const double wild[] = { 6, 7,   5,   6.5, 6,   7,   5.5, 6,   6.2, 6.4, 6,
                                   7, 5,   6.5, 6,   7,   5.5, 6,   6.2, 6.4, 6,   7,
                                   5, 6.5, 6,   7,   5.5, 6,   6.2, 6.4, 6,   7 };
    struct correction none = correction_none(), two, many;

    (void)state;
    two = correction_fit(&none, wild, NULL, 2);
    many = correction_fit(&none, wild, NULL, ARRAY_LEN(wild));
    assert_true(two.bias > 0 && two.bias < 0.6);
    assert_true(two.scale > 1 && two.scale < 3);
    assert_true(many.bias > 5);
}

enum shape { NORMAL, HEAVY };

/* A forecaster whose residuals are not standard normal: mean shift, factor, tails. */
static double residual(struct rng *r, enum shape shape, double shift, double factor)
{
    double z = rng_normal(r);

    if (shape == HEAVY) { /* Student's t, 2 degrees of freedom */
        double a = rng_normal(r), b = rng_normal(r);

        z /= sqrt((a * a + b * b) / 2);
    }
    return shift + factor * z;
}

/* Share of 80 % intervals that cover, of the forecasts as corrected at the time. */
static double coverage_online(enum shape shape, double shift, double factor, uint64_t seed,
                              size_t n, double *raw)
{
    struct calibration *cal = calibration_new();
    struct rng r = rng_derive(seed, "coverage", 0);
    size_t inside = 0, inside_raw = 0;

    for (size_t i = 0; i < n; i++) {
        struct correction c = calibration_of(cal, "p/a/m");
        double z = residual(&r, shape, shift, factor);

        inside += fabs(z - c.bias) <= reach_80 * c.scale;
        inside_raw += fabs(z) <= reach_80;
        calibration_add(cal, "p/a/m", z);
    }
    calibration_free(cal);
    *raw = (double)inside_raw / (double)n;
    return (double)inside / (double)n;
}

static void miscalibrated_forecasters_are_corrected(void **state)
{
    static const struct {
        enum shape shape;
        double shift, factor;
    } forecasters[] = {
        { NORMAL, 0, 1 }, { NORMAL, 0, 4 },    { NORMAL, 0, 0.2 },
        { NORMAL, 2, 1 }, { NORMAL, -3, 0.5 }, { NORMAL, 1, 6 },
        { HEAVY, 0, 1 },  { HEAVY, -1, 3 },    { HEAVY, 0.5, 0.2 },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(forecasters); i++) {
        double sum = 0, sum_raw = 0, raw;

        for (uint64_t seed = 1; seed <= 5; seed++) {
            sum += coverage_online(forecasters[i].shape, forecasters[i].shift,
                                   forecasters[i].factor, seed, 120, &raw);
            sum_raw += raw;
        }
        if (!(sum / 5 >= 0.70 && sum / 5 <= 0.90))
            fail_msg("forecaster %zu: %.3f of the intervals cover", i, sum / 5);
        if (i > 0 && i != 6) /* all but the first and the plain t are far off by themselves */
            assert_true(sum_raw / 5 < 0.70 || sum_raw / 5 > 0.90);
    }
}

static void what_was_recalled_is_where_a_search_begins(void **state)
{
    json_auto_t *past = json_loads("[{\"source\":\"\",\"n\":9,\"bias\":-1,\"scale\":2},"
                                   "{\"source\":\"p/a/m\",\"n\":5,\"bias\":0.5,\"scale\":3}]",
                                   0, NULL);
    json_auto_t *bad = json_loads("[{\"source\":\"p/a/m\",\"bias\":0,\"scale\":-1}]", 0, NULL);
    struct calibration *cal = calibration_new();
    struct correction c;
    struct err err;

    (void)state;
    assert_ok(calibration_recall(cal, past, &err), err);
    c = calibration_of(cal, "p/a/m");
    assert_true(c.bias == 0.5 && c.scale == 3);
    c = calibration_of(cal, "p/a/unheard");
    assert_true(c.bias == -1 && c.scale == 2);
    assert_fails(calibration_recall(cal, bad, &err), err, ERR_CORRUPT);
    calibration_free(cal);
}

/* ---- The ledger ---- */

static struct ledger_outcome outcome_of(struct rng *r, size_t i)
{
    static const char *const sources[] = { "p/a/m", "p/a/n", "q/a/m" };
    static const char *const families[] = { "f", "g" };
    double sd = 0.1 + 0.01 * (double)(i % 7), mean = 0.3 * rng_normal(r);

    return (struct ledger_outcome){ .source = sources[i % 3],
                                    .family = families[i % 2],
                                    .device_class = i % 5 ? "c1" : "c2",
                                    .mean = mean,
                                    .sd = sd,
                                    .corrected_mean = mean,
                                    .corrected_sd = 3 * sd,
                                    .outcome = mean + 3 * sd * rng_normal(r) };
}

static char *ledger_text(const struct ledger *l)
{
    json_auto_t *page = ledger_json(l), *recalled = ledger_recall(l, "f", "c1");

    json_object_set(page, "recalled", recalled);
    return jsonx_canonical(page);
}

static void ledger_does_not_depend_on_the_order_of_outcomes(void **state)
{
    enum { N = 600 };
    struct ledger *forward = ledger_new(), *shuffled = ledger_new();
    struct ledger_outcome all[N];
    struct rng r = rng_derive(1, "ledger", 0);
    uint32_t order[N];

    (void)state;
    for (size_t i = 0; i < N; i++) {
        all[i] = outcome_of(&r, i);
        order[i] = (uint32_t)i;
    }
    rng_shuffle(&r, order, N);
    for (size_t i = 0; i < N; i++) {
        ledger_add(forward, &all[i]);
        ledger_add(shuffled, &all[order[i]]);
    }
    CLEANUP(freep) char *a = ledger_text(forward);
    CLEANUP(freep) char *b = ledger_text(shuffled);
    assert_string_equal(a, b);
    assert_int_equal(ledger_count(forward, NULL), N);
    assert_int_equal(ledger_count(forward, "p/a/n"), N / 3);
    ledger_free(forward);
    ledger_free(shuffled);
}

static void ledger_counts_coverage_and_finds_the_scale(void **state)
{
    enum { N = 3000 };
    struct ledger *l = ledger_new();
    struct rng r = rng_derive(2, "ledger", 0);
    struct correction c;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        struct ledger_outcome o = outcome_of(&r, i);

        ledger_add(l, &o);
    }
    json_auto_t *page = ledger_json(l);
    const json_t *row = json_array_get(json_object_get(page, "sources"), 0);
    const json_t *covered = json_object_get(row, "coverage_corrected");
    const json_t *pit = json_object_get(row, "pit_corrected");

    assert_string_equal(jsonx_str(row, "source", ""), "p/a/m");
    assert_true(fabs(jsonx_num(covered, "50", 0) - 0.50) < 0.05);
    assert_true(fabs(jsonx_num(covered, "80", 0) - 0.80) < 0.05);
    assert_true(fabs(jsonx_num(covered, "95", 0) - 0.95) < 0.03);
    assert_true(jsonx_num(json_object_get(row, "coverage"), "80", 1) < 0.45);
    assert_true(jsonx_num(row, "crps_corrected", 9) < jsonx_num(row, "crps", 0));
    for (size_t i = 0; i < 10; i++)
        assert_true(fabs((double)json_integer_value(json_array_get(pit, i)) - N / 30.0) < 40);
    c = ledger_correction(l, "p/a/m", "f", "c1");
    assert_true(fabs(c.bias) < 0.4 && c.scale > 2.6 && c.scale < 3.4);
    c = ledger_correction(l, "nobody", "f", "c1");
    assert_true(c.bias == 0 && c.scale == 1);
    ledger_free(l);
}

/* ---- Credit ---- */

static struct space *two_parameters(void)
{
    json_auto_t *doc =
        json_loads("{\"parameters\":["
                   "{\"name\":\"A\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
                   "\"values\":[1,2,4],\"default\":1},"
                   "{\"name\":\"B\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
                   "\"values\":[0,1],\"default\":0}]}",
                   0, NULL);
    struct space *s;
    struct err err;

    assert_ok(space_parse(doc, "the test's space", &s, &err), err);
    return s;
}

static void id_text(char c, char out[65])
{
    memset(out, c, 64);
    out[64] = '\0';
}

static void attempts_say_which_offers_they_follow(void **state)
{
    struct space *space = two_parameters();
    char a[65], b[65], c[65];
    struct credit_offers offers = { 0 };
    struct credit_served bits;
    json_auto_t *attempt = json_object();
    struct err err;

    (void)state;
    id_text('a', a);
    id_text('b', b);
    id_text('c', c);
    json_auto_t *offered =
        json_pack("[{s:s,s:s,s:s,s:s},{s:s,s:s,s:s,s:s},{s:s,s:s,s:s,s:s},{s:s,s:s,s:s,s:s}]",
                  "insight", a, "param", "A", "with", "4", "without", "1", "insight", b, "param",
                  "B", "with", "1", "without", "0", "insight", c, "param", "A", "with", "2",
                  "without", "9", "insight", a, "param", "A", "with", "4", "without", "1");

    credit_serve(&offers, (uint16_t[]){ 2, 0 }, attempt);
    assert_int_equal(json_object_size(attempt), 0); /* nothing was offered yet */
    assert_ok(credit_take(&offers, space, offered, &err), err);
    assert_int_equal(offers.n, 3);
    credit_serve(&offers, (uint16_t[]){ 2, 0 }, attempt); /* A=4, B=0 */
    bits = credit_of_attempt(&offers, attempt);
    assert_int_equal(bits.served, 7);
    assert_int_equal(bits.followed, 1);
    assert_int_equal(bits.against, 2);
    assert_int_equal(json_array_size(json_object_get(attempt, "served")), 3);
    json_auto_t *bad = json_pack("[{s:s,s:s,s:s}]", "insight", a, "param", "C", "with", "1");
    assert_fails(credit_take(&offers, space, bad, &err), err, ERR_CORRUPT);
    space_free(space);
}

static void shares_of_a_lift_add_up_exactly(void **state)
{
    char a[65], b[65], c[65];
    struct credit_table t = { 0 };
    const struct credit_row *ra, *rb, *rc;

    (void)state;
    id_text('a', a);
    id_text('b', b);
    id_text('c', c);
    json_auto_t *attempt = json_pack("{s:[s,s,s], s:[s,s,s], s:[]}", "served", c, a, b, "followed",
                                     c, a, b, "against");
    json_auto_t *alone =
        json_pack("{s:[s,s], s:[s], s:[s]}", "served", a, b, "followed", a, "against", b);

    credit_count_attempt(&t, attempt);
    credit_count_outcome(&t, json_object_get(attempt, "followed"), true, 1000001, 1);
    credit_count_attempt(&t, attempt);
    credit_count_outcome(&t, json_object_get(attempt, "followed"), true, -200, 0);
    credit_count_attempt(&t, alone);
    credit_count_outcome(&t, json_object_get(alone, "followed"), false, 0, -1); /* it failed */
    ra = credit_find(&t, a);
    rb = credit_find(&t, b);
    rc = credit_find(&t, c);
    assert_int_equal(ra->lift_q + rb->lift_q + rc->lift_q, 1000001);
    assert_int_equal(ra->debit_q + rb->debit_q + rc->debit_q, -200);
    assert_int_equal(rc->lift_q, 333334);
    assert_int_equal(rb->debit_q, -66);
    assert_int_equal(ra->served, 3);
    assert_int_equal(ra->adopted, 3);
    assert_int_equal(ra->wins, 1);
    assert_int_equal(ra->losses, 1);
    assert_int_equal(rb->against, 1);
    assert_int_equal(rb->losses, 0);
    id_text('d', a);
    assert_null(credit_find(&t, a));
    credit_release(&t);
}

/* ---- Memory against the memory-free arm ---- */

/* A search of `n` attempts, every third memory-free, in which memory's are worth `gain` more. */
static struct rivalry rivalry_of(uint64_t seed, size_t n, double gain)
{
    struct rng r = rng_derive(seed, "rivalry", 0);
    struct rivalry rivalry = { 0 };

    for (size_t i = 1; i <= n; i++) {
        bool memory = i % 3 != 0;
        double y = 0.1 * rng_normal(&r) + (memory ? gain : 0);

        rivalry_add(&rivalry, i, memory, true, llround(1e6 * y), 5000);
    }
    return rivalry;
}

static void memory_that_loses_is_noticed(void **state)
{
    size_t lost = 0, lost_when_equal = 0, lost_when_better = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct rivalry worse = rivalry_of(seed, 60, -0.2), equal = rivalry_of(seed, 60, 0),
                       better = rivalry_of(seed, 60, 0.2);

        assert_int_equal(worse.pairs, 20);
        lost += rivalry_memory_lost(&worse);
        lost_when_equal += rivalry_memory_lost(&equal);
        lost_when_better += rivalry_memory_lost(&better);
    }
    assert_true(lost >= 98);
    assert_true(lost_when_equal <= 12); /* the level is 5 % */
    assert_int_equal(lost_when_better, 0);
}

static void pairs_are_of_neighbours_in_time(void **state)
{
    struct rivalry r = { 0 };

    (void)state;
    rivalry_add(&r, 1, true, false, 0, 0); /* a failure before any success counts as nothing */
    rivalry_add(&r, 2, true, true, 100000, 0);
    rivalry_add(&r, 4, false, true, 500000, 0); /* evaluation 3 was an adoption: no neighbours */
    assert_int_equal(r.pairs, 0);
    rivalry_add(&r, 5, true, true, 300000, 0);
    assert_int_equal(r.pairs, 1);
    assert_int_equal(r.sum_q, -200000);
    assert_int_equal(r.pairs_worse, 1);
    rivalry_add(&r, 6, false, true, 300000, 0); /* its neighbour has a partner already */
    assert_int_equal(r.pairs, 1);
    rivalry_add(&r, 7, true, false, 0, 0); /* a failure counts as the worst that succeeded */
    assert_int_equal(r.pairs, 2);
    assert_int_equal(r.sum_q, -400000);
    assert_false(rivalry_judged(&r));
    assert_false(rivalry_memory_lost(&r));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crps_is_the_integral_that_defines_it),
        cmocka_unit_test(no_outcomes_correct_nothing),
        cmocka_unit_test(few_outcomes_are_shrunk),
        cmocka_unit_test(miscalibrated_forecasters_are_corrected),
        cmocka_unit_test(what_was_recalled_is_where_a_search_begins),
        cmocka_unit_test(ledger_does_not_depend_on_the_order_of_outcomes),
        cmocka_unit_test(ledger_counts_coverage_and_finds_the_scale),
        cmocka_unit_test(attempts_say_which_offers_they_follow),
        cmocka_unit_test(shares_of_a_lift_add_up_exactly),
        cmocka_unit_test(memory_that_loses_is_noticed),
        cmocka_unit_test(pairs_are_of_neighbours_in_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
