/* SPDX-License-Identifier: Apache-2.0 */
/* What a question says of shape, data type, bottleneck and place, and how evidence near or far from
 * it ranks and is explained. */
#include "kb_fixture.h"

#include "base/jsonx.h"

/* A claim of the technique, with pairs measured on a shape; returns its id. */
static struct id put_measured(struct kb *kb, const char *technique, const char *dtype,
                              const char *task, const char *shape, int pairs)
{
    struct kb_batch *b = kb_batch_new(kb);
    struct sample_claim s;
    struct id claim;
    struct err err;

    sample_claim(&s, 1);
    s.c.technique = (char *)technique;
    s.c.family = (char *)"moe";
    s.c.dtype = (char *)dtype;
    s.c.statement = (char *)"Grouping tokens pays off.";
    assert_ok(kb_batch_add_claim(b, &s.c, &claim, &err));
    for (int i = 0; i < pairs; i++) {
        struct sample_evidence e;

        sample_evidence(&e, 1, 0);
        e.e.claim = claim;
        e.e.task = (char *)task;
        e.e.shape = (char *)shape;
        e.e.effect_q = 200000;
        e.e.with = id_of_number(technique, (uint64_t)i);
        assert_ok(kb_batch_add_evidence(b, &e.e, NULL, &err));
        json_decref(e.features);
    }
    commit(b);
    kb_batch_free(b);
    return claim;
}

static json_t *ask(struct kb *kb, const struct kb_query *q)
{
    json_t *answer;
    struct err err;

    assert_ok(kb_query(kb, q, &answer, &err));
    return answer;
}

static const json_t *hit_of(const json_t *answer, const struct id *id, size_t *place)
{
    json_t *hit;
    size_t i;

    json_array_foreach (json_object_get(answer, "hits"), i, hit)
        if (strcmp(jsonx_str(hit, "insight", ""), id->hex) == 0) {
            *place = i;
            return hit;
        }
    fail_msg("no hit %.12s", id->hex);
    return NULL;
}

static bool says(const json_t *hit, const char *words)
{
    json_t *why;
    size_t i;

    json_array_foreach (json_object_get(hit, "why"), i, why)
        if (strstr(json_string_value(why), words))
            return true;
    return false;
}

static void near_evidence_ranks_before_far(void **state)
{
    struct regime regime;
    struct kb_query q = { .text = "grouping tokens", .limit = 10, .regime = &regime };
    struct kb *kb = ((struct bed *)*state)->kb;
    struct id same, near, far;
    size_t a, b, c;
    json_t *answer;
    struct err err;

    far = put_measured(kb, "one-technique", "", "moe_far", "experts=8,top_k=1", 3);
    near = put_measured(kb, "two-technique", "", "moe_near", "num_experts=512,topk=8", 3);
    same = put_measured(kb, "six-technique", "", "moe_same", "experts=64,top_k=8", 3);
    assert_ok(regime_parse("experts=64,topk=8", &regime, &err));
    answer = ask(kb, &q);
    assert_true(says(hit_of(answer, &same, &a), "Nearest evidence is on moe_same: same regime"));
    assert_true(says(hit_of(answer, &near, &b),
                     "on moe_near: near regime, distance 0.60, likeness 0.55; experts 512 there "
                     "against 64 here."));
    assert_true(says(hit_of(answer, &far, &c), "on moe_far: same family"));
    assert_true(a < b && b < c);
    assert_null(json_object_get(answer, "notes"));
    json_decref(answer);
    /* Far from everything: it falls back, and says so. */
    assert_ok(regime_parse("experts=2048,topk=64", &regime, &err));
    answer = ask(kb, &q);
    assert_non_null(strstr(json_string_value(json_array_get(json_object_get(answer, "notes"), 0)),
                           "No evidence is near this shape: the nearest is of the same family"));
    json_decref(answer);
    assert_ok(regime_parse("page_size=16", &regime, &err));
    answer = ask(kb, &q);
    assert_non_null(strstr(json_string_value(json_array_get(json_object_get(answer, "notes"), 0)),
                           "can be compared with this shape"));
    json_decref(answer);
    /* The text alone says it as well. */
    q = (struct kb_query){ .text = "grouping tokens, 8 experts top 1", .limit = 10 };
    answer = ask(kb, &q);
    hit_of(answer, &far, &c);
    assert_int_equal(c, 0);
    json_decref(answer);
}

static void another_data_type_is_capped_and_said(void **state)
{
    struct regime regime;
    struct kb_query q = { .text = "grouping tokens", .limit = 10, .regime = &regime };
    struct kb *kb = ((struct bed *)*state)->kb;
    struct id fp8, bf16;
    size_t a, b;
    json_t *answer;
    struct err err;

    bf16 = put_measured(kb, "one-technique", "bf16", "moe_bf16", "experts=64", 3);
    fp8 = put_measured(kb, "two-technique", "f8_e4m3", "moe_fp8", "experts=64", 3);
    assert_ok(regime_parse("experts=64,dtype=fp8", &regime, &err));
    answer = ask(kb, &q);
    assert_false(says(hit_of(answer, &fp8, &a), "capped"));
    assert_true(says(hit_of(answer, &bf16, &b), "capped, because the quantisation differs"));
    assert_true(a < b);
    json_decref(answer);
}

static bool know_task(void *ctx, const char *task, struct regime *out)
{
    struct err err;

    assert_ok(regime_parse(ctx, out, &err));
    return strcmp(task, "moe_known") == 0;
}

/* The stored shape lacks what the pack knows of the task: tokens per expert. */
static void the_asker_may_know_more_of_a_task_than_was_stored(void **state)
{
    struct regime regime;
    struct kb_query q = { .text = "grouping tokens",
                          .limit = 10,
                          .regime = &regime,
                          .task_regime = know_task,
                          .task_regime_ctx = (void *)"tokens_per_expert=16" };
    struct kb *kb = ((struct bed *)*state)->kb;
    struct id known, unknown;
    size_t a, b;
    json_t *answer;
    struct err err;

    unknown = put_measured(kb, "one-technique", "", "moe_other", "experts=64", 3);
    known = put_measured(kb, "two-technique", "", "moe_known", "experts=64", 3);
    assert_ok(regime_parse("tokens_per_expert=16", &regime, &err));
    answer = ask(kb, &q);
    assert_true(says(hit_of(answer, &known, &a), "on moe_known: same regime"));
    assert_false(says(hit_of(answer, &unknown, &b), "Nearest evidence"));
    assert_true(a < b);
    json_decref(answer);
}

/* Evidence of both signs, by tokens per expert: the condition is told, and whether it holds here.
 */
static void a_condition_is_judged_where_the_question_is(void **state)
{
    static const double tokens[] = { 2, 4, 8, 8, 64, 128, 256, 256 };
    struct kb_query q = { .text = "grouping tokens", .limit = 10 };
    struct kb *kb = ((struct bed *)*state)->kb;
    struct kb_batch *batch;
    struct id claim;
    size_t at;
    json_t *answer;
    double helps;

    claim = put_measured(kb, "one-technique", "", "moe_x", "experts=64", 0);
    batch = kb_batch_new(kb);
    for (size_t i = 0; i < ARRAY_LEN(tokens); i++) {
        struct sample_evidence e;
        struct err err;

        sample_evidence(&e, 1, 0);
        e.e.claim = claim;
        e.e.with = id_of_number("with", i);
        e.e.effect_q = tokens[i] <= 8 ? 300000 : -300000;
        e.e.device_class = (char *)"cpu-avx2";
        json_object_clear(e.features);
        json_object_set_new(e.features, "tokens_per_expert", json_real(tokens[i]));
        assert_ok(kb_batch_add_evidence(batch, &e.e, NULL, &err));
        json_decref(e.features);
    }
    commit(batch);
    kb_batch_free(batch);
    answer = ask(kb, &q);
    assert_true(says(hit_of(answer, &claim, &at), "Its sign depends on a condition: "));
    json_decref(answer);
    q.text = "grouping tokens, 4 tokens per expert";
    answer = ask(kb, &q);
    assert_true(says(hit_of(answer, &claim, &at), "a condition, which holds here: "));
    helps = jsonx_num(json_object_get(hit_of(answer, &claim, &at), "effect"), "mean", 0);
    json_decref(answer);
    q.text = "grouping tokens, 128 tokens per expert";
    answer = ask(kb, &q);
    assert_true(says(hit_of(answer, &claim, &at), "a condition, which does not hold here: "));
    assert_true(helps > 0.1 && jsonx_num(json_object_get(hit_of(answer, &claim, &at), "effect"),
                                         "mean", 0) < -0.1);
    json_decref(answer);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, bed_setup, bed_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(near_evidence_ranks_before_far),
        TEST(another_data_type_is_capped_and_said),
        TEST(the_asker_may_know_more_of_a_task_than_was_stored),
        TEST(a_condition_is_judged_where_the_question_is),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
