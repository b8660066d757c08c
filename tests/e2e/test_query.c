/* SPDX-License-Identifier: Apache-2.0 */
/* Questions to a daemon: by shape, by profile, of related families, of the past; and with an
 * embedding provider that works, fails, and is asked by a daemon that dies half-way. */
#include "e2e/e2e.h"

#include <signal.h>
#include <stdio.h>
#include <time.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "unit/daemon/fake_embeddings.h"

#define DECODE "mla_paged_decode_h16_ckv512_kpe64_ps1"
#define PREFILL "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1"

static void nap(double seconds)
{
    const struct timespec ts = { (time_t)seconds,
                                 (long)((seconds - (double)(time_t)seconds) * 1e9) };

    nanosleep(&ts, NULL);
}

static void add(struct e2e_conn *c, const char *technique_name, const char *statement,
                const char *family, const char *bottleneck)
{
    CLEANUP(freep)
    char *params =
        str_printf("{\"technique\":\"%s\",\"statement\":\"%s\"%s%s%s%s%s%s}", technique_name,
                   statement, *family ? ",\"family\":\"" : "", family, *family ? "\"" : "",
                   *bottleneck ? ",\"bottleneck\":\"" : "", bottleneck, *bottleneck ? "\"" : "");

    json_decref(e2e_result(c, "insight.add", params));
}

static const char *technique(const json_t *answer, size_t i)
{
    return jsonx_str(json_array_get(json_object_get(answer, "hits"), i), "technique", "");
}

static size_t n_hits(const json_t *answer)
{
    return json_array_size(json_object_get(answer, "hits"));
}

/* Whether one of a hit's reasons has the words. */
static bool says(const json_t *answer, size_t i, const char *words)
{
    json_t *why;
    size_t k;

    json_array_foreach (json_object_get(json_array_get(json_object_get(answer, "hits"), i), "why"),
                        k, why)
        if (strstr(json_string_value(why), words))
            return true;
    return false;
}

static void a_profile_ranks_and_is_explained(void **state)
{
    struct e2e *e = *state;
    json_auto_t *a = NULL, *b = NULL;
    const json_t *understood;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    add(&c, "tiling", "Tile the loops of experts.", "moe_fp8_block_scale", "compute");
    add(&c, "memory-prefetch", "Prefetch weights of experts.", "moe_fp8_block_scale", "memory");
    a = e2e_result(
        &c, "query",
        "{\"text\":\"memory-bound, 64 experts, 8 tokens each, sm_90\",\"explain\":true}");
    understood = json_object_get(a, "understood");
    assert_string_equal(jsonx_str(understood, "profile", ""),
                        "memory-bound, experts=64,tokens_per_expert=8, sm_90");
    assert_string_equal(jsonx_str(understood, "shape", ""), "experts=64,tokens_per_expert=8");
    assert_string_equal(jsonx_str(understood, "embedding", ""), "builtin-1");
    assert_int_equal(n_hits(a), 2);
    assert_string_equal(technique(a, 0), "memory-prefetch");
    assert_true(says(a, 0, "bound by memory bandwidth, as the question says"));
    /* It ranks and does not filter. */
    assert_int_equal(json_object_size(json_object_get(a, "removed")), 0);
    b = e2e_result(&c, "query",
                   "{\"text\":\"experts\",\"shape\":\"num_experts=64, topk=8\",\"explain\":true}");
    assert_string_equal(jsonx_str(json_object_get(b, "understood"), "shape", ""),
                        "experts=64,top_k=8");
    e2e_refused(&c, "query", "{\"text\":\"x\",\"shape\":\"experts=lots\"}", "INVALID",
                "'shape': axis 'experts' is 'lots'");
    e2e_refused(&c, "query", "{\"text\":\"x\",\"shape\":\"\"}", "INVALID", "the shape is empty");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* mla_paged_decode and mla_paged_prefill name one another; gqa_paged_decode is a stranger. */
static void related_families_pass_and_rank_lower(void **state)
{
    struct e2e *e = *state;
    json_auto_t *a = NULL, *b = NULL;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    add(&c, "split-kv", "Split the latent cache across threads.", "mla_paged_decode", "");
    add(&c, "tiling", "Split the latent cache into tiles.", "mla_paged_prefill", "");
    add(&c, "memory-prefetch", "Split the latent cache prefetch.", "gqa_paged_decode", "");
    a = e2e_result(&c, "query", "{\"text\":\"split the latent cache\",\"task\":\"" PREFILL "\"}");
    assert_int_equal(n_hits(a), 2);
    assert_string_equal(technique(a, 0), "tiling");
    assert_true(says(a, 1, "of the related family mla_paged_decode"));
    assert_int_equal(jsonx_int(json_object_get(a, "removed"), "family", 0), 1);
    b = e2e_result(&c, "query", "{\"text\":\"split the latent cache\",\"task\":\"" DECODE "\"}");
    assert_string_equal(technique(b, 0), "split-kv");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

static void time_travel_takes_how_long_ago(void **state)
{
    static const char *const then[] = { "2h", "90m", "3d", "86400s", "2020-01-01" };
    static const char *const wrong[] = { "2 h", "d", "h2", "-2h", "soon", "" };
    struct e2e *e = *state;
    json_auto_t *now = NULL;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    add(&c, "tiling", "Tile it.", "", "");
    for (size_t i = 0; i < ARRAY_LEN(then); i++) {
        CLEANUP(freep) char *params = str_printf("{\"text\":\"tile\",\"as_of\":\"%s\"}", then[i]);
        json_auto_t *a = e2e_result(&c, "query", params);

        assert_int_equal(n_hits(a), 0);
        assert_int_equal(jsonx_int(json_object_get(a, "removed"), "as_of", 0), 1);
    }
    now = e2e_result(&c, "query", "{\"text\":\"tile\",\"as_of\":\"0s\"}");
    assert_int_equal(n_hits(now), 1);
    for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
        CLEANUP(freep) char *params = str_printf("{\"text\":\"tile\",\"as_of\":\"%s\"}", wrong[i]);

        e2e_refused(&c, "query", params, "INVALID", "how long ago, such as '2h'");
    }
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* ---- A provider ---- */

static void configure(struct e2e *e, const struct fake *f, const char *more)
{
    CLEANUP(freep)
    char *text = str_printf("embedding = openai\nembedding_url = %s\nembedding_model = tiny\n"
                            "embedding_query_wait = 0.5\nembedding_timeout = 1\n%s",
                            fake_url(f), more);

    e2e_configure(e, text);
}

/* Waits until as many claims have vectors, at most 20 s; the last status of the provider. */
static json_t *wait_embedded(struct e2e_conn *c, long long n)
{
    for (int i = 0; i < 200; i++) {
        json_auto_t *status = e2e_result(c, "status", "{}");
        json_t *embedding = json_object_get(status, "embedding");

        if (jsonx_int(embedding, "embedded", -1) == n)
            return json_incref(embedding);
        nap(0.1);
    }
    fail_msg("%lld claims were not embedded in time", n);
    return NULL;
}

static void add_many(struct e2e_conn *c, int from, int to)
{
    for (int i = from; i < to; i++) {
        char statement[80];

        snprintf(statement, sizeof(statement), "Number%d loops get unrolled word%d times.", i, i);
        add(c, "unrolling", statement, "", "");
    }
}

static json_t *ask(struct e2e_conn *c, const char *text)
{
    CLEANUP(freep)
    char *params = str_printf("{\"text\":\"%s\",\"explain\":true,\"limit\":3}", text);

    return e2e_result(c, "query", params);
}

static const char *used(const json_t *answer)
{
    return jsonx_str(json_object_get(answer, "understood"), "embedding", "");
}

static const char *note(const json_t *answer)
{
    const char *s = json_string_value(json_array_get(json_object_get(answer, "notes"), 0));

    return s ? s : "";
}

static void a_provider_embeds_and_its_failures_are_survived(void **state)
{
    struct e2e *e = *state;
    struct fake *f = fake_start(300, NULL);
    json_t *answer, *status;
    struct e2e_conn c;

    configure(e, f, "embedding_batch = 8\n");
    e2e_start(e);
    c = e2e_connect(e, true);
    add_many(&c, 0, 20);
    status = wait_embedded(&c, 20);
    assert_string_equal(jsonx_str(status, "active", ""), "openai:tiny");
    assert_string_equal(jsonx_str(status, "failure", "?"), "");
    json_decref(status);
    assert_int_equal(fake_texts(f), 20);
    answer = ask(&c, "number7 word7");
    assert_string_equal(used(answer), "openai:tiny");
    assert_string_equal(note(answer), "");
    assert_non_null(strstr(
        jsonx_str(json_array_get(json_object_get(answer, "hits"), 0), "statement", ""), "word7 "));
    json_decref(answer);
    /* The provider fails: the question is answered all the same, and the answer says so. */
    fake_set_mood(f, FAKE_DOWN);
    answer = ask(&c, "number9 word9");
    assert_string_equal(used(answer), "builtin-1");
    assert_non_null(strstr(note(answer), "answered 500: out of order"));
    assert_true(n_hits(answer) > 0);
    json_decref(answer);
    /* It is left alone for a while: no second question waits for it. */
    answer = ask(&c, "number9 word9");
    assert_non_null(strstr(note(answer), "left alone after a failure"));
    json_decref(answer);
    fake_set_mood(f, FAKE_GOOD);
    nap(1.2);
    answer = ask(&c, "number9 word9");
    assert_string_equal(used(answer), "openai:tiny");
    json_decref(answer);
    /* A daemon that waits for a silent provider ends at once. */
    fake_set_mood(f, FAKE_SILENT);
    add_many(&c, 20, 21);
    nap(1.3);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
    fake_stop(f);
}

/* Killed in the middle; what was embedded before is not asked for again. */
static void a_killed_daemon_goes_on_where_it_was(void **state)
{
    struct e2e *e = *state;
    struct fake *f = fake_start(64, "s3cret");
    CLEANUP(freep) char *key = str_printf("%s/key", e->dir);
    CLEANUP(freep) char *more = str_printf("embedding_batch = 3\nembedding_key_file = %s\n", key);
    size_t before;
    struct e2e_conn c;
    struct err err;

    assert_ok(file_write(key, "s3cret\n", 7, 0600, &err), err);
    configure(e, f, more);
    e2e_start(e);
    c = e2e_connect(e, true);
    fake_set_mood(f, FAKE_DOWN);
    add_many(&c, 0, 30);
    fake_set_mood(f, FAKE_GOOD);
    for (int i = 0; i < 400 && fake_texts(f) < 6; i++)
        nap(0.01);
    kill(e->pid, SIGKILL);
    e2e_wait(e, 10);
    e2e_close(&c);
    before = fake_texts(f);
    assert_true(before >= 6);
    e2e_start(e);
    c = e2e_connect(e, true);
    json_decref(wait_embedded(&c, 30));
    /* At most the request that was under way is asked twice. */
    assert_true(fake_texts(f) >= 30 && fake_texts(f) <= 33);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
    before = fake_texts(f);
    e2e_start(e);
    c = e2e_connect(e, true);
    json_decref(wait_embedded(&c, 30));
    assert_int_equal(fake_texts(f), before);
    e2e_expect_log(e, "info embedding: the vectors of 'openai:tiny' are complete");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
    fake_stop(f);
}

static void bad_configurations_stop_the_start(void **state)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        { "embedding = openai\n", "'embedding_model' is empty" },
        { "embedding = openai\nembedding_model = m\nembedding_url = ftp://x\n",
          "'embedding_url' is 'ftp://x'" },
        { "embedding = openai\nembedding_model = m\nembedding_key_file = /no/such/key\n",
          "'embedding_key_file'" },
    };
    struct e2e *e = *state;

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        e2e_configure(e, cases[i].text);
        e2e_spawn(e, NULL);
        assert_true(e2e_wait(e, 10) != 0);
        e2e_expect_log(e, cases[i].words);
    }
}

#define WITH_E2E(test) cmocka_unit_test_setup_teardown(test, e2e_setup, e2e_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_E2E(a_profile_ranks_and_is_explained),
        WITH_E2E(related_families_pass_and_rank_lower),
        WITH_E2E(time_travel_takes_how_long_ago),
        WITH_E2E(a_provider_embeds_and_its_failures_are_survived),
        WITH_E2E(a_killed_daemon_goes_on_where_it_was),
        WITH_E2E(bad_configurations_stop_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
