/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The numeric engine on synthetic spaces: replayed observations give the same proposals, nothing is
 * proposed twice, failures are survived, a cold search beats random by far, a good source beats
 * cold, a shuffled source loses its share. Also the parts: vector loops, Gaussian process, forest.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/engine.h"
#include "search/forest.h"
#include "search/gp_fit.h"
#include "search/vecmath.h"

/* Six parameters, 3200 valid assignments of 5760. */
static const char small_space[] =
    "{\"parameters\":["
    "{\"name\":\"A\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[1,2,4,8,16,32,64,128],\"default\":1},"
    "{\"name\":\"B\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[1,2,4,8,16,32],\"default\":1},"
    "{\"name\":\"C\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[0,1,2,3,4],\"default\":0},"
    "{\"name\":\"D\",\"type\":\"enum\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[\"x\",\"y\",\"z\"],\"default\":\"x\"},"
    "{\"name\":\"E\",\"type\":\"bool\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[false,true],\"default\":false},"
    "{\"name\":\"F\",\"type\":\"real\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[0.25,0.5,1.0,2.0],\"default\":1.0}],"
    "\"constraints\":[\"A * B <= 512\"]}";

static struct space *make_space(const char *text)
{
    struct space *s;
    struct err err;
    json_t *doc;

    if (jsonx_parse(text, strlen(text), "test", &doc, &err) != 0 ||
        space_parse(doc, "test", &s, &err) != 0)
        fail_msg("%s", err.msg);
    json_decref(doc);
    return s;
}

/* Log time: a bowl whose bottom moves with `shift`, rough in D and E. Its least value is known by
 * enumeration. */
static double bowl(const struct space *s, const uint16_t *a, double shift)
{
    static const double rough[3] = { 0.0, 0.35, -0.1 };
    double y = 0.0, at[8];

    for (size_t p = 0; p < space_n(s); p++)
        at[p] = (double)a[p] / (double)(space_param(s, p)->n_values - 1);
    y += 2.0 * (at[0] - 0.7 - shift) * (at[0] - 0.7 - shift);
    y += 1.5 * (at[1] - 0.4 + shift) * (at[1] - 0.4 + shift);
    y += 0.8 * (at[2] - 0.5) * (at[2] - 0.5) + 0.5 * fabs(at[5] - 0.33);
    return y + rough[a[3]] + (a[4] != (a[3] == 2) ? 0.25 : 0.0);
}

static bool fails(const uint16_t *a)
{
    return a[0] == 7 && a[1] >= 2; /* too large for some device */
}

struct truth {
    uint16_t *rows;
    double *y;
    size_t n;
    double best;
};

static struct truth tabulate(const struct space *s, double shift)
{
    struct truth t = { .best = INFINITY };
    struct err err;

    assert_int_equal(space_enumerate(s, NULL, 100000, &t.rows, &t.n, &err), 0);
    t.y = malloc(t.n * sizeof(*t.y));
    for (size_t i = 0; i < t.n; i++) {
        t.y[i] = bowl(s, t.rows + i * space_n(s), shift);
        if (!fails(t.rows + i * space_n(s)))
            t.best = MIN(t.best, t.y[i]);
    }
    return t;
}

static void truth_release(struct truth *t)
{
    free(t->rows);
    free(t->y);
}

static struct engine *make_engine(const struct space *s, uint64_t seed, bool cold)
{
    struct engine_options o = { .seed = seed, .cold = cold };
    struct engine *e;
    struct err err;

    assert_int_equal(engine_new(s, &o, &e, &err), 0);
    return e;
}

static void ask(struct engine *e, struct engine_proposal *p)
{
    struct err err;

    if (engine_propose(e, NULL, p, &err) != 0)
        fail_msg("%s", err.msg);
}

static void tell(struct engine *e, const uint16_t *a, double y, enum engine_arm arm)
{
    struct err err;

    if (engine_observe(e, a, y, arm, &err) != 0)
        fail_msg("%s", err.msg);
}

static double outcome(const struct space *s, const uint16_t *a, double shift)
{
    return fails(a) ? (double)NAN : bowl(s, a, shift);
}

/* Evaluations until within 2 % of the best. */
static size_t evaluations(struct engine *e, const struct space *s, double shift, double best,
                          size_t cap)
{
    for (size_t n = 1; n <= cap; n++) {
        struct engine_proposal p;
        double y;

        ask(e, &p);
        y = outcome(s, p.a, shift);
        if (y <= best + 0.02)
            return n;
        tell(e, p.a, y, p.arm);
    }
    return cap;
}

/* ---- parts ---- */

static void vector_loops_match_the_library(void **state)
{
    enum { N = 1003 }; /* not a multiple of any vector width */
    static float d2[N], k[N], mean[N], var[N], ei[N];

    (void)state;
    for (int i = 0; i < N; i++) {
        d2[i] = (float)(i * i) * 1e-4f;
        mean[i] = ((float)i - 500.0f) * 0.01f;
        var[i] = 0.25f + (float)(i % 7);
    }
    vec_add_matern(k, d2, 2.0f, N);
    vec_add_ei(ei, mean, var, 0.1f, 0.5f, N);
    for (int i = 0; i < N; i++) {
        double r = sqrt(5.0 * (double)d2[i]), sd = sqrt((double)var[i]);
        double z = (0.1 - (double)mean[i]) / sd;
        double want = 2.0 * (1.0 + r + r * r / 3.0) * exp(-r);
        double gain =
            0.5 * sd * (z * 0.5 * erfc(-z * M_SQRT1_2) + exp(-0.5 * z * z) / sqrt(2.0 * M_PI));

        assert_true(fabs((double)k[i] - want) <= 1e-5 * want);
        assert_true(fabs((double)ei[i] - gain) <= 2e-3 * gain);
    }
}

/* A block filled at once, the same grown row by row, and a point-wise mean must agree. */
static void a_gaussian_process_interpolates_and_grows_consistently(void **state)
{
    enum { N = 20, M = 50 };
    struct gp_shape shape = { .n_params = 1, .n_means = 1, .profiled = true };
    struct gp_hyper hyper = { .length = { 0.4 }, .s1 = 1.0, .noise = 1e-5 };
    float x[N], grid[M], mean[2][M], var[2][M], direct[M];
    const float *col[1] = { grid };
    double y[N];
    struct gp all, grown;
    struct gp_block a = { .m = M, .col = { grid } }, b = { .m = M, .col = { grid } };

    (void)state;
    for (int i = 0; i < N; i++) {
        x[i] = (float)((i * 7) % N) / N;
        y[i] = sin(6.0 * (double)x[i]) + 3.0;
    }
    for (int j = 0; j < M; j++)
        grid[j] = (float)j / M * 0.95f;
    gp_init(&all, &shape);
    gp_init(&grown, &shape);
    gp_set(&all, &hyper, N, x, y, NULL);
    gp_block_fill(&a, &all);
    gp_set(&grown, &hyper, 3, x, y, NULL);
    gp_block_fill(&b, &grown);
    for (int i = 3; i < N; i++) {
        gp_push(&grown, x + i, y[i], NULL);
        gp_block_push(&b, &grown);
    }
    gp_block_posterior(&a, &all, 0, mean[0], var[0]);
    gp_block_posterior(&b, &grown, 0, mean[1], var[1]);
    gp_mean_prepare(&all);
    gp_mean(&all, M, col, NULL, direct);
    for (int j = 0; j < M; j++) {
        assert_true(fabs((double)mean[0][j] - (sin(6.0 * (double)grid[j]) + 3.0)) < 0.03);
        assert_true(fabsf(mean[0][j] - mean[1][j]) < 2e-3f);
        assert_true(fabsf(mean[0][j] - direct[j]) < 2e-3f);
        assert_true(var[0][j] > 0.0f && var[0][j] < 0.01f);
    }
    gp_block_release(&a);
    gp_block_release(&b);
    gp_release(&all);
    gp_release(&grown);
}

static void fitting_finds_which_parameter_matters(void **state)
{
    enum { N = 60 };
    struct gp_shape shape = { .n_params = 2, .n_means = 1, .profiled = true };
    struct gp_prior prior = { .centre = { .length = { 0.7, 0.7 }, .s1 = 1.0, .noise = 1e-3 },
                              .sd_length = 1.0,
                              .sd_noise = 2.0 };
    struct gp_hyper hyper = prior.centre;
    struct rng rng = rng_seeded(3);
    float x[2 * N];
    double y[N];

    (void)state;
    for (int i = 0; i < N; i++) {
        x[2 * i] = (float)rng_double(&rng);
        x[2 * i + 1] = (float)rng_double(&rng);
        y[i] = sin(9.0 * (double)x[2 * i]); /* the second one does nothing */
    }
    gp_fit(&shape, &prior, &(struct gp_data){ N, x, y }, 1, &hyper);
    assert_true(hyper.length[0] < 0.7);
    assert_true(hyper.length[1] > 2.0 * hyper.length[0]);
    assert_true(hyper.noise < 1e-3);
}

static void a_forest_follows_steps_and_spreads_where_it_does_not_know(void **state)
{
    enum { N = 40, M = 3 };
    static const bool unordered[2] = { false, true };
    float x[2 * N], c0[M] = { 0.1f, 0.9f, 0.49f }, c1[M] = { 2.0f, 2.0f, 2.0f }, mean[M], var[M];
    const float *col[2] = { c0, c1 };
    struct rng rng = rng_seeded(1);
    double y[N];

    (void)state;
    for (int i = 0; i < N; i++) {
        x[2 * i] = (float)i / N;
        x[2 * i + 1] = (float)(i % 3);
        y[i] = 100.0 + (i < N / 2 ? 1.0 : 0.0) + (i % 3 == 2 ? 4.0 : 0.0);
    }
    forest_predict(2, unordered, N, x, y, M, col, &rng, mean, var);
    assert_true(fabsf(mean[0] - 105.0f) < 0.7f);
    assert_true(fabsf(mean[1] - 104.0f) < 0.7f);
    assert_true(var[0] >= 0.0f && var[2] > 0.01f); /* the step may lie on either side of 0.49 */
}

/* ---- the fold ---- */

struct step {
    uint16_t a[SPACE_PARAMS_MAX];
    double y;
    enum engine_arm arm;
};

/* Runs n steps, recording them; then a new engine fed with any prefix must propose what came next.
 */
static void replays_alike(const struct space *s, struct engine *(*make)(const struct space *),
                          size_t n)
{
    struct step *steps = calloc(n, sizeof(*steps));
    struct engine *e = make(s), *again;
    struct engine_proposal p, q;

    for (size_t i = 0; i < n; i++) {
        ask(e, &p);
        memcpy(steps[i].a, p.a, sizeof(p.a));
        steps[i].y = outcome(s, p.a, 0.0);
        steps[i].arm = p.arm;
        tell(e, p.a, steps[i].y, p.arm);
    }
    ask(e, &p);
    again = make(s);
    for (size_t i = 0; i < n; i++) {
        if (i % 9 == 8) { /* proposals change nothing, asked for or not */
            ask(again, &q);
            assert_memory_equal(q.a, steps[i].a, space_n(s) * sizeof(*q.a));
            assert_int_equal(q.arm, steps[i].arm);
        }
        tell(again, steps[i].a, steps[i].y, steps[i].arm);
    }
    ask(again, &q);
    assert_memory_equal(&p, &q, sizeof(p));
    engine_free(e);
    engine_free(again);
    free(steps);
}

static struct engine *make_cold(const struct space *s)
{
    return make_engine(s, 7, true);
}

static struct engine *make_warm(const struct space *s)
{
    struct engine *e = make_engine(s, 7, false);
    struct truth near = tabulate(s, 0.05), far = tabulate(s, -0.1);
    struct err err;

    assert_int_equal(engine_add_source(e, "near", 1.0, near.n, near.rows, near.y, &err), 0);
    assert_int_equal(engine_add_source(e, "far", 1.0, 200, far.rows, far.y, &err), 0);
    truth_release(&near);
    truth_release(&far);
    return e;
}

static struct engine *make_pooled(const struct space *s)
{
    struct engine_options o = { .seed = 3, .pool_full = 500, .pool_cap = 400 };
    struct truth near = tabulate(s, 0.05);
    struct engine *e;
    struct err err;

    assert_int_equal(engine_new(s, &o, &e, &err), 0);
    assert_int_equal(
        engine_add_source(e, "near", 1.0, 150, near.rows + 900 * space_n(s), near.y + 900, &err),
        0);
    truth_release(&near);
    return e;
}

static void replayed_observations_give_the_same_proposal(void **state)
{
    struct space *s = make_space(small_space);

    (void)state;
    replays_alike(s, make_cold, 40);
    replays_alike(s, make_warm, 40);
    replays_alike(s, make_pooled, 40);
    space_free(s);
}

static void seeds_differ(void **state)
{
    struct space *s = make_space(small_space);
    struct engine *a = make_engine(s, 1, true), *b = make_engine(s, 2, true);
    struct engine_proposal p, q;

    (void)state;
    ask(a, &p);
    ask(b, &q);
    assert_memory_not_equal(p.a, q.a, space_n(s) * sizeof(*p.a));
    engine_free(a);
    engine_free(b);
    space_free(s);
}

/* 72 assignments, some of which fail: all are proposed once, then the space is exhausted. */
static void nothing_is_proposed_twice_until_the_space_is_exhausted(void **state)
{
    struct space *s = make_space(
        "{\"parameters\":["
        "{\"name\":\"A\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
        "\"values\":[-1,0,1,2,3,4],\"default\":0},"
        "{\"name\":\"B\",\"type\":\"int\",\"kind\":\"categorical\",\"role\":\"structural\","
        "\"values\":[5,6,7],\"default\":5},"
        "{\"name\":\"C\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
        "\"values\":[1,2,3,4],\"default\":1}]}");
    struct engine *e = make_engine(s, 1, true);
    struct engine_proposal p;
    struct err err;

    (void)state;
    for (size_t n = 0; n < 72; n++) {
        ask(e, &p);
        assert_true(space_valid(s, p.a));
        assert_false(engine_seen(e, p.a));
        tell(e, p.a, p.a[0] == 3 ? (double)NAN : fabs(p.a[0] - 2.0) + p.a[1] + 0.1 * p.a[2], p.arm);
        assert_true(engine_seen(e, p.a));
    }
    assert_int_equal(engine_propose(e, NULL, &p, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "exhausted"));
    assert_int_equal(engine_observed(e), 72);
    engine_free(e);
    space_free(s);
}

static void a_run_of_nothing_but_failures_goes_on(void **state)
{
    struct space *s = make_space(small_space);
    struct engine *cold = make_engine(s, 3, true), *warm = make_warm(s);
    struct engine_proposal p;

    (void)state;
    for (int n = 0; n < 30; n++) {
        ask(cold, &p);
        assert_false(engine_seen(cold, p.a));
        tell(cold, p.a, NAN, p.arm);
        ask(warm, &p);
        assert_false(engine_seen(warm, p.a));
        tell(warm, p.a, NAN, p.arm);
    }
    tell(cold, p.a, 1.0, ENGINE_ARM_OTHER);
    ask(cold, &p);
    engine_free(cold);
    engine_free(warm);
    space_free(s);
}

/* A failure must not be proposed again next door as if it had been average. */
static void failures_are_predicted_slow(void **state)
{
    struct space *s = make_space(small_space);
    struct engine *e = make_engine(s, 5, true);
    uint16_t bad[SPACE_PARAMS_MAX] = { 7, 2, 2, 0, 0, 2 },
             good[SPACE_PARAMS_MAX] = { 5, 2, 2, 2, 1, 1 };
    double mean_bad, mean_good, sd;
    struct engine_proposal p;
    struct err err;

    (void)state;
    assert_int_equal(engine_predict(e, good, &mean_good, &sd, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    for (int n = 0; n < 40; n++) {
        ask(e, &p);
        tell(e, p.a, outcome(s, p.a, 0.0), p.arm);
    }
    for (uint16_t c = 0; c < 4; c++) {
        bad[2] = c;
        tell(e, bad, NAN, ENGINE_ARM_OTHER);
    }
    bad[2] = 4;
    assert_int_equal(engine_predict(e, bad, &mean_bad, &sd, &err), 0);
    assert_true(sd > 0.0);
    assert_int_equal(engine_predict(e, good, &mean_good, &sd, &err), 0);
    assert_true(mean_bad > mean_good + 0.5);
    engine_free(e);
    space_free(s);
}

static void more_observations_than_the_models_keep_are_survived(void **state)
{
    struct space *s = make_space(small_space);
    struct engine *e = make_engine(s, 9, true);
    struct rng rng = rng_seeded(4);
    struct engine_proposal p;
    uint16_t a[SPACE_PARAMS_MAX];
    struct err err;

    (void)state;
    for (int n = 0; n < 700; n++) {
        assert_int_equal(space_sample(s, NULL, &rng, a, &err), 0); /* some are repeated */
        tell(e, a, outcome(s, a, 0.0), ENGINE_ARM_OTHER);
    }
    ask(e, &p);
    assert_false(engine_seen(e, p.a));
    assert_true(isfinite(p.mean) && p.sd > 0.0);
    engine_free(e);
    space_free(s);
}

static void proposals_stay_in_the_cell_asked_for(void **state)
{
    struct space *s = make_space(small_space);
    struct engine *whole = make_engine(s, 2, true), *pooled = make_pooled(s);
    uint16_t cell[SPACE_PARAMS_MAX], a[SPACE_PARAMS_MAX] = { 0, 0, 0, 1, 1, 0 };
    struct engine_proposal p;
    struct err err;

    (void)state;
    space_cell(s, a, cell);
    for (int n = 0; n < 25; n++) {
        assert_int_equal(engine_propose(whole, cell, &p, &err), 0);
        assert_true(space_matches(s, cell, p.a) && !engine_seen(whole, p.a));
        tell(whole, p.a, outcome(s, p.a, 0.0), p.arm);
        assert_int_equal(engine_propose(pooled, cell, &p, &err), 0);
        assert_true(space_matches(s, cell, p.a) && !engine_seen(pooled, p.a));
        tell(pooled, p.a, outcome(s, p.a, 0.0), p.arm);
    }
    for (size_t i = 0; i < 6; i++)
        cell[i] = p.a[i];
    assert_int_equal(engine_propose(pooled, cell, &p, &err), -1);
    assert_int_equal(err.code, ERR_NOT_FOUND);
    engine_free(whole);
    engine_free(pooled);
    space_free(s);
}

/* ---- pending ---- */

static void pending_assignments_differ_and_are_taken_back(void **state)
{
    struct space *s = make_space(small_space);
    struct engine *e = make_warm(s);
    struct engine_proposal p, first, again;
    struct err err;

    (void)state;
    for (int n = 0; n < 12; n++) {
        ask(e, &p);
        tell(e, p.a, outcome(s, p.a, 0.0), p.arm);
    }
    ask(e, &first);
    for (int k = 0; k < 8; k++) {
        ask(e, &p);
        assert_false(engine_seen(e, p.a));
        assert_int_equal(engine_pending(e, p.a, p.arm, &err), 0);
        assert_int_equal(engine_pending(e, p.a, p.arm, &err), -1);
        assert_int_equal(err.code, ERR_CONFLICT);
        if (k > 0)
            engine_pending_drop(e, p.a);
    }
    engine_pending_drop(e, first.a);
    ask(e, &again);
    assert_memory_equal(&first, &again, sizeof(first));
    assert_int_equal(engine_pending(e, first.a, first.arm, &err), 0);
    ask(e, &p);
    assert_memory_not_equal(p.a, first.a, space_n(s) * sizeof(*p.a));
    tell(e, first.a, outcome(s, first.a, 0.0), first.arm);
    assert_true(engine_seen(e, first.a));
    assert_int_equal(engine_observed(e), 13);
    engine_free(e);
    space_free(s);
}

/* ---- quality, with fixed seeds ---- */

static void a_cold_search_beats_random_tenfold(void **state)
{
    struct space *s = make_space(small_space);
    struct truth t = tabulate(s, 0.0);
    size_t good = 0, total = 0;

    (void)state;
    for (size_t i = 0; i < t.n; i++)
        good += !fails(t.rows + i * space_n(s)) && t.y[i] <= t.best + 0.02;
    for (uint64_t seed = 0; seed < 6; seed++) {
        struct engine *e = make_engine(s, seed, true);

        total += evaluations(e, s, 0.0, t.best, 400);
        engine_free(e);
    }
    /* Random search needs (n + 1) / (m + 1) evaluations on average. */
    assert_true((double)total / 6.0 < 0.1 * (double)(t.n + 1) / (double)(good + 1));
    truth_release(&t);
    space_free(s);
}

static size_t total_evaluations(const struct space *s, const struct truth *target,
                                const struct truth *source)
{
    size_t total = 0;

    for (uint64_t seed = 0; seed < 6; seed++) {
        struct engine *e = make_engine(s, seed, source == NULL);
        struct err err;

        if (source != NULL)
            assert_int_equal(
                engine_add_source(e, "source", 1.0, source->n, source->rows, source->y, &err), 0);
        total += evaluations(e, s, 0.0, target->best, 400);
        engine_free(e);
    }
    return total;
}

static void a_good_source_beats_a_cold_search(void **state)
{
    struct space *s = make_space(small_space);
    struct truth target = tabulate(s, 0.0), source = tabulate(s, 0.06);

    (void)state;
    assert_true(2 * total_evaluations(s, &target, &source) < total_evaluations(s, &target, NULL));
    truth_release(&target);
    truth_release(&source);
    space_free(s);
}

static void a_shuffled_source_loses_its_share(void **state)
{
    struct space *s = make_space(small_space);
    struct truth target = tabulate(s, 0.0), good = tabulate(s, 0.03), bad = tabulate(s, 0.0);
    struct rng rng = rng_seeded(11);
    double share[2] = { 0.0, 0.0 };
    struct engine_proposal p;
    struct err err;

    (void)state;
    for (size_t i = bad.n; i > 1; i--) {
        size_t j = rng_below(&rng, i);
        double kept = bad.y[i - 1];

        bad.y[i - 1] = bad.y[j];
        bad.y[j] = kept;
    }
    for (int k = 0; k < 2; k++) {
        struct engine *e = make_engine(s, 1, false);
        struct truth *t = k == 0 ? &good : &bad;

        assert_int_equal(engine_add_source(e, "source", 1.0, t->n, t->rows, t->y, &err), 0);
        for (int n = 0; n < 40; n++) {
            ask(e, &p);
            tell(e, p.a, outcome(s, p.a, 0.0), p.arm);
        }
        ask(e, &p);
        share[k] = p.memory_share;
        engine_free(e);
    }
    assert_true(share[0] > 0.8);
    assert_true(share[1] < 0.4);
    truth_release(&target);
    truth_release(&good);
    truth_release(&bad);
    space_free(s);
}

/* Of two sources the one that resembles the target gets the weight. */
static void hypotheses_follow_the_data(void **state)
{
    struct space *s = make_space(small_space);
    struct truth like = tabulate(s, 0.02), unlike = tabulate(s, 0.0);
    struct engine *e = make_engine(s, 4, false);
    struct engine_proposal p;
    const char *name;
    struct err err;

    (void)state;
    for (size_t i = 0; i < unlike.n / 2; i++) { /* upside down */
        double kept = unlike.y[i];

        unlike.y[i] = unlike.y[unlike.n - 1 - i];
        unlike.y[unlike.n - 1 - i] = kept;
    }
    assert_int_equal(engine_add_source(e, "unlike", 1.0, unlike.n, unlike.rows, unlike.y, &err), 0);
    assert_int_equal(engine_add_source(e, "like", 1.0, like.n, like.rows, like.y, &err), 0);
    for (int n = 0; n < 15; n++) {
        ask(e, &p);
        tell(e, p.a, outcome(s, p.a, 0.0), p.arm);
    }
    assert_int_equal(engine_sources(e), 2);
    assert_true(engine_hypothesis(e, 2, &name) > engine_hypothesis(e, 1, &name));
    assert_string_equal(name, "unlike");
    engine_free(e);
    truth_release(&like);
    truth_release(&unlike);
    space_free(s);
}

/* ---- refusals ---- */

static void bad_sources_and_observations_are_refused(void **state)
{
    struct space *s = make_space(small_space);
    struct engine *e = make_engine(s, 1, false), *cold = make_engine(s, 1, true);
    uint16_t a[SPACE_PARAMS_MAX] = { 0 }, invalid[SPACE_PARAMS_MAX] = { 7, 5, 0, 0, 0, 0 };
    struct engine_options o = { .pool_cap = 10 };
    struct engine *none;
    double y = 1.0, nan = NAN, inf = INFINITY;
    struct err err;

    (void)state;
    assert_int_equal(engine_new(s, &o, &none, &err), -1);
    assert_int_equal(engine_add_source(cold, "x", 1.0, 1, a, &y, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    assert_int_equal(engine_add_source(e, "x", 0.0, 1, a, &y, &err), -1);
    assert_int_equal(engine_add_source(e, "x", 1.0, 1, a, &nan, &err), -1);
    assert_int_equal(engine_add_source(e, "x", 1.0, 1, a, &inf, &err), -1);
    assert_int_equal(engine_add_source(e, "x", 1.0, 1, invalid, &y, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_int_equal(engine_observe(e, invalid, 1.0, ENGINE_ARM_OTHER, &err), -1);
    assert_int_equal(engine_observe(e, a, INFINITY, ENGINE_ARM_OTHER, &err), -1);
    assert_int_equal(engine_sources(e), 0);
    tell(e, a, 1.0, ENGINE_ARM_OTHER);
    assert_int_equal(engine_add_source(e, "x", 1.0, 1, a, &y, &err), -1);
    assert_int_equal(err.code, ERR_CONFLICT);
    engine_free(e);
    engine_free(cold);
    space_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vector_loops_match_the_library),
        cmocka_unit_test(a_gaussian_process_interpolates_and_grows_consistently),
        cmocka_unit_test(fitting_finds_which_parameter_matters),
        cmocka_unit_test(a_forest_follows_steps_and_spreads_where_it_does_not_know),
        cmocka_unit_test(replayed_observations_give_the_same_proposal),
        cmocka_unit_test(seeds_differ),
        cmocka_unit_test(nothing_is_proposed_twice_until_the_space_is_exhausted),
        cmocka_unit_test(a_run_of_nothing_but_failures_goes_on),
        cmocka_unit_test(failures_are_predicted_slow),
        cmocka_unit_test(more_observations_than_the_models_keep_are_survived),
        cmocka_unit_test(proposals_stay_in_the_cell_asked_for),
        cmocka_unit_test(pending_assignments_differ_and_are_taken_back),
        cmocka_unit_test(a_cold_search_beats_random_tenfold),
        cmocka_unit_test(a_good_source_beats_a_cold_search),
        cmocka_unit_test(a_shuffled_source_loses_its_share),
        cmocka_unit_test(hypotheses_follow_the_data),
        cmocka_unit_test(bad_sources_and_observations_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
