/* SPDX-License-Identifier: Apache-2.0 */
/* Vectors of a provider's model: collected beside the built-in ones, swapped in when complete, kept
 * over restarts; and how a provider's vector is brought to ours. */
#include "kb_fixture.h"

#include <math.h>

#include "base/jsonx.h"
#include "kb_impl.h"

enum { CLAIMS = 40 };

static void add_claims(struct kb *kb, uint64_t from, uint64_t to)
{
    struct kb_batch *b = kb_batch_new(kb);
    struct err err;

    for (uint64_t n = from; n < to; n++)
        put_claim(b, n);
    assert_ok(kb_commit(b, &err));
    kb_batch_free(b);
}

/* A provider whose vectors are one-hot: claim n of this model points to place n. */
static void embed(const struct kb_embedding_job *job, unsigned turn, struct embedding *v)
{
    memset(v, 0, job->n * sizeof(*v));
    for (size_t i = 0; i < job->n; i++)
        v[i].v[(job->first + i + turn) % EMBED_DIM] = 127;
}

/* Takes at most `steps` jobs; how many claims were asked of the provider. */
static size_t work(struct kb *kb, size_t max, int steps, unsigned turn)
{
    struct kb_embedding_job job;
    size_t asked = 0;
    struct err err;

    while (steps-- > 0) {
        struct embedding v[CLAIMS * 2];

        assert_ok(kb_embedding_next(kb, max, &job, &err));
        assert_true(job.n <= max);
        for (size_t i = 0; i < job.n; i++)
            assert_non_null(strstr(job.texts[i], "Tiling the keys by"));
        asked += job.n;
        if (job.n == 0) {
            kb_embedding_job_release(&job);
            break;
        }
        embed(&job, turn, v);
        assert_ok(kb_embedding_put(kb, &job, v, &err));
        kb_embedding_job_release(&job);
    }
    return asked;
}

static struct kb_embedding_stats stats_of(struct kb *kb)
{
    struct kb_embedding_stats s;

    kb_embedding_get_stats(kb, &s);
    return s;
}

/* The statement of the best hit when the question's vector points to `place`. */
static json_t *ask(struct kb *kb, unsigned place, const char *text)
{
    struct embedding v = { { 0 } };
    struct kb_query q = { .text = text, .limit = 3, .explain = true, .vector = &v };
    json_t *answer;
    struct err err;

    v.v[place] = 127;
    assert_ok(kb_query(kb, &q, &answer, &err));
    return answer;
}

static const char *used(const json_t *answer)
{
    return jsonx_str(json_object_get(answer, "understood"), "embedding", "");
}

/* Fails unless the model was asked, and claim n is the best hit. */
static void expect_first(struct kb *kb, unsigned place, const char *text, const char *model,
                         uint64_t n)
{
    json_auto_t *answer = ask(kb, place, text);
    const json_t *hit = json_array_get(json_object_get(answer, "hits"), 0);

    assert_string_equal(used(answer), model);
    assert_string_equal(jsonx_str(hit, "insight", ""), claim_id(n).hex);
}

static void built_in_answers_until_the_other_is_complete(void **state)
{
    struct bed *bed = *state;
    struct err err;
    json_t *a;

    add_claims(bed->kb, 0, CLAIMS);
    assert_string_equal(stats_of(bed->kb).model, "");
    assert_int_equal(work(bed->kb, 7, 100, 0), 0);
    assert_ok(kb_embedding_begin(bed->kb, "m1", &err));
    assert_int_equal(work(bed->kb, 7, 3, 0), 21);
    assert_int_equal(stats_of(bed->kb).embedded, 21);
    assert_string_equal(stats_of(bed->kb).active, "");
    a = ask(bed->kb, 3, "zzz");
    assert_string_equal(used(a), "builtin-1");
    json_decref(a);
    assert_int_equal(work(bed->kb, 7, 100, 0), CLAIMS - 21);
    assert_string_equal(stats_of(bed->kb).active, "m1");
    /* No word in common: the vector alone finds it. */
    expect_first(bed->kb, 3, "zzz", "m1", 3);
    /* A claim that came later is found by its words at once, by its vector soon. */
    add_claims(bed->kb, CLAIMS, CLAIMS + 1);
    expect_first(bed->kb, 250, "tiling by 40", "m1", CLAIMS);
    assert_int_equal(work(bed->kb, 7, 100, 0), 1);
    expect_first(bed->kb, CLAIMS, "zzz", "m1", CLAIMS);
}

/* Ended half-way: what the provider was paid for is not asked again. */
static void a_restart_goes_on_where_it_was(void **state)
{
    struct bed *bed = *state;
    struct err err;

    add_claims(bed->kb, 0, CLAIMS);
    assert_ok(kb_embedding_begin(bed->kb, "m1", &err));
    assert_int_equal(work(bed->kb, 6, 4, 0), 24);
    bed_reopen(bed);
    assert_ok(kb_embedding_begin(bed->kb, "m1", &err));
    assert_int_equal(work(bed->kb, 6, 100, 0), CLAIMS - 24);
    bed_reopen(bed);
    assert_ok(kb_embedding_begin(bed->kb, "m1", &err));
    assert_string_equal(stats_of(bed->kb).active, "");
    assert_int_equal(work(bed->kb, 6, 100, 0), 0);
    assert_string_equal(stats_of(bed->kb).active, "m1");
    expect_first(bed->kb, 17, "zzz", "m1", 17);
}

static void a_change_of_model_keeps_the_old_one_until_the_new_is_complete(void **state)
{
    struct kb_embedding_job late;
    struct embedding v[CLAIMS];
    struct bed *bed = *state;
    struct err err;

    add_claims(bed->kb, 0, CLAIMS);
    assert_ok(kb_embedding_begin(bed->kb, "m1", &err));
    work(bed->kb, 40, 100, 0);
    assert_ok(kb_embedding_begin(bed->kb, "m2", &err));
    assert_int_equal(work(bed->kb, 10, 1, 100), 10);
    expect_first(bed->kb, 5, "zzz", "m1", 5);
    /* A job of one model cannot end in the other. */
    assert_ok(kb_embedding_next(bed->kb, 5, &late, &err));
    assert_ok(kb_embedding_begin(bed->kb, "m3", &err));
    embed(&late, 0, v);
    assert_fails(kb_embedding_put(bed->kb, &late, v, &err), ERR_CONFLICT);
    kb_embedding_job_release(&late);
    assert_ok(kb_embedding_begin(bed->kb, "m2", &err));
    assert_int_equal(work(bed->kb, 10, 100, 100), CLAIMS - 10);
    assert_string_equal(stats_of(bed->kb).active, "m2");
    expect_first(bed->kb, 105, "zzz", "m2", 5);
    bed_reopen(bed);
    /* The vectors of the model before are gone: it would be asked for again. */
    assert_ok(kb_embedding_begin(bed->kb, "m1", &err));
    assert_int_equal(work(bed->kb, 40, 100, 0), CLAIMS);
    assert_fails(kb_embedding_begin(bed->kb, "", &err), ERR_INVALID);
}

static void an_empty_base_begins_and_fills(void **state)
{
    struct bed *bed = *state;
    struct err err;
    json_t *a;

    assert_ok(kb_embedding_begin(bed->kb, "m1", &err));
    assert_string_equal(stats_of(bed->kb).active, "m1");
    a = ask(bed->kb, 0, "zzz");
    assert_int_equal(json_array_size(json_object_get(a, "hits")), 0);
    json_decref(a);
    add_claims(bed->kb, 0, 3);
    assert_int_equal(work(bed->kb, 40, 100, 0), 3);
    assert_int_equal(stats_of(bed->kb).embedded, 3);
}

/* ---- Projection ---- */

static void random_vector(struct rng *rng, double *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = rng_normal(rng);
}

static double cosine(const double *x, const double *y, size_t n)
{
    double xy = 0, xx = 0, yy = 0;

    for (size_t i = 0; i < n; i++) {
        xy += x[i] * y[i];
        xx += x[i] * x[i];
        yy += y[i] * y[i];
    }
    return xy / sqrt(xx * yy);
}

static void projection_keeps_angles(void **state)
{
    static const size_t dims[] = { 3, 64, 256, 257, 768, 1536, 3072 };
    struct rng rng = rng_seeded(3);

    (void)state;
    for (size_t d = 0; d < ARRAY_LEN(dims); d++) {
        double worst = 0, sum = 0;

        for (int i = 0; i < 60; i++) {
            double x[3072], y[3072], mix = rng_double(&rng);
            struct embedding ex, ey;
            struct err err;
            double off;

            random_vector(&rng, x, dims[d]);
            random_vector(&rng, y, dims[d]);
            for (size_t k = 0; k < dims[d]; k++)
                y[k] = mix * x[k] + (1 - mix) * y[k];
            assert_ok(embed_project(x, dims[d], &ex, &err));
            assert_ok(embed_project(y, dims[d], &ey, &err));
            off = embed_cosine(&ex, &ey) - cosine(x, y, dims[d]);
            worst = MAX(worst, fabs(off));
            sum += off;
        }
        /* Few numbers keep their places; many are folded, with a deviation of 1/16. */
        if (worst >= (dims[d] <= EMBED_DIM ? 0.03 : 0.3))
            fail_msg("%zu numbers: a cosine is off by %g", dims[d], worst);
        assert_true(fabs(sum / 60) < 0.04);
    }
}

static void projection_refuses_what_is_no_number(void **state)
{
    double x[4] = { 1, 2, NAN, 4 };
    struct embedding e;
    struct err err;

    (void)state;
    assert_fails(embed_project(x, 4, &e, &err), ERR_INVALID);
    x[2] = INFINITY;
    assert_fails(embed_project(x, 4, &e, &err), ERR_INVALID);
    memset(x, 0, sizeof(x));
    assert_ok(embed_project(x, 4, &e, &err));
    for (size_t i = 0; i < EMBED_DIM; i++)
        assert_int_equal(e.v[i], 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(built_in_answers_until_the_other_is_complete),
        TEST(a_restart_goes_on_where_it_was),
        TEST(a_change_of_model_keeps_the_old_one_until_the_new_is_complete),
        TEST(an_empty_base_begins_and_fills),
        cmocka_unit_test(projection_keeps_angles),
        cmocka_unit_test(projection_refuses_what_is_no_number),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
