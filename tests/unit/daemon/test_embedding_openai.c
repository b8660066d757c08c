/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to an embeddings service: what comes back, and every way of not coming back. */
#include "unit/test.h"

#include "base/mem.h"
#include "embedding_openai.h"
#include "fake_embeddings.h"

struct lab {
    struct fake *fake;
    struct openai_client *client;
    struct openai_config config;
    size_t dim;
    enum openai_fault fault;
};

static struct lab lab_new(size_t dim, const char *key)
{
    struct lab l = { .fake = fake_start(dim, key), .client = openai_client_new() };

    assert_non_null(l.client);
    l.config = (struct openai_config){ fake_url(l.fake), "tiny", "", 0 };
    return l;
}

static void lab_free(struct lab *l)
{
    openai_client_free(l->client);
    fake_stop(l->fake);
}

static int ask(struct lab *l, const char *const *texts, size_t n, struct embedding *out,
               struct err *err)
{
    return openai_embed(l->client, &l->config, texts, n, 0.5, NULL, &l->dim, out, &l->fault, err);
}

static void vectors_come_back_in_the_order_of_the_texts(void **state)
{
    static const char *const texts[] = { "split the cache", "tile the weights", "split caches" };
    static const char *const question[] = { "tile weights" };
    struct lab l = lab_new(768, NULL);
    struct embedding v[3], q;
    struct err err;

    (void)state;
    assert_ok(ask(&l, texts, 3, v, &err), err);
    assert_int_equal(l.dim, 768);
    assert_ok(ask(&l, question, 1, &q, &err), err);
    assert_true(embed_cosine(&q, &v[1]) > 0.6);
    assert_true(embed_cosine(&q, &v[1]) > embed_cosine(&q, &v[0]) + 0.3);
    assert_true(embed_cosine(&v[0], &v[2]) > embed_cosine(&v[1], &v[2]));
    assert_int_equal(fake_texts(l.fake), 4);
    /* Its own number of dimensions can be asked for, and the address may end in /v1. */
    l.config.dimensions = 256;
    l.config.url = "http://127.0.0.1:1/v1/";
    assert_fails(ask(&l, question, 1, &q, &err), err, ERR_UPSTREAM);
    assert_non_null(strstr(err.msg, "'http://127.0.0.1:1/v1/embeddings' cannot be asked"));
    l.config.url = fake_url(l.fake);
    l.dim = 0;
    assert_ok(ask(&l, question, 1, &q, &err), err);
    assert_int_equal(l.dim, 256);
    lab_free(&l);
}

static void every_failure_is_a_sentence(void **state)
{
    static const struct {
        enum fake_mood mood;
        enum openai_fault fault;
        const char *words;
    } cases[] = {
        { FAKE_DOWN, OPENAI_LATER, "answered 500: out of order" },
        { FAKE_BUSY, OPENAI_LATER, "answered 429: <html>too many\\x01\\xff</html>" },
        { FAKE_SILENT, OPENAI_LATER, "cannot be asked: " },
        { FAKE_GONE, OPENAI_LATER, "cannot be asked: " },
        { FAKE_WRONG_DIM, OPENAI_LATER, "a vector has 65 numbers, not 64" },
        { FAKE_GARBAGE, OPENAI_LATER, "the answer" },
        { FAKE_FEW, OPENAI_LATER, "the answer has 1 vectors for 2 texts" },
        { FAKE_NAN, OPENAI_LATER, "something that is no number" },
        { FAKE_PICKY, OPENAI_INPUT, "answered 400: I do not like this" },
    };
    static const char *const texts[] = { "one", "two poison" };
    struct lab l = lab_new(64, NULL);
    struct embedding v[2];
    struct err err;

    (void)state;
    assert_ok(ask(&l, texts, 2, v, &err), err);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        fake_set_mood(l.fake, cases[i].mood);
        assert_fails(ask(&l, texts, 2, v, &err), err, ERR_UPSTREAM);
        if (!strstr(err.msg, cases[i].words) || !strstr(err.msg, fake_url(l.fake)))
            fail_msg("'%s' does not say '%s'", err.msg, cases[i].words);
        assert_int_equal(l.fault, cases[i].fault);
        assert_int_equal(l.dim, 64);
    }
    fake_set_mood(l.fake, FAKE_GOOD);
    assert_ok(ask(&l, texts, 2, v, &err), err);
    lab_free(&l);
}

static void the_key_is_sent_and_never_said(void **state)
{
    static const char *const texts[] = { "one" };
    struct lab l = lab_new(64, "s3cret");
    struct embedding v;
    struct err err;

    (void)state;
    assert_fails(ask(&l, texts, 1, &v, &err), err, ERR_UPSTREAM);
    assert_non_null(strstr(err.msg, "answered 401 (the key is missing or is not accepted)"));
    assert_int_equal(l.fault, OPENAI_REFUSED);
    l.config.key = "wr0ng";
    assert_fails(ask(&l, texts, 1, &v, &err), err, ERR_UPSTREAM);
    assert_null(strstr(err.msg, "wr0ng"));
    l.config.key = "s3cret";
    assert_ok(ask(&l, texts, 1, &v, &err), err);
    lab_free(&l);
}

static void whoever_stops_the_daemon_need_not_wait(void **state)
{
    static const char *const texts[] = { "one" };
    struct lab l = lab_new(64, NULL);
    atomic_bool stop = true;
    struct embedding v;
    struct err err;

    (void)state;
    fake_set_mood(l.fake, FAKE_SILENT);
    assert_fails(openai_embed(l.client, &l.config, texts, 1, 60, &stop, &l.dim, &v, &l.fault, &err),
                 err, ERR_CANCELLED);
    lab_free(&l);
}

/* Answers that a service might send, none of them right. */
static void wrong_answers_are_refused(void **state)
{
    static const char *const bodies[] = {
        "",
        "null",
        "[]",
        "{}",
        "{\"data\":[]}",
        "{\"data\":{}}",
        "{\"data\":[1]}",
        "{\"data\":[{\"embedding\":[]}]}",
        "{\"data\":[{\"embedding\":\"AAAA\"}]}",
        "{\"data\":[{\"index\":1,\"embedding\":[1]}]}",
        "{\"data\":[{\"index\":-1,\"embedding\":[1]}]}",
        "{\"data\":[{\"embedding\":[1]},{\"embedding\":[1]}]}",
        "{\"data\":[{\"embedding\":[1e999]}]}",
        "{\"data\":[{\"embedding\":[1]}]",
    };
    struct embedding v;
    struct err err;
    size_t dim = 0;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bodies); i++) {
        assert_fails(openai_parse(bodies[i], strlen(bodies[i]), 1, &dim, &v, &err), err,
                     ERR_UPSTREAM);
        assert_int_equal(dim, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_come_back_in_the_order_of_the_texts),
        cmocka_unit_test(every_failure_is_a_sentence),
        cmocka_unit_test(the_key_is_sent_and_never_said),
        cmocka_unit_test(whoever_stops_the_daemon_need_not_wait),
        cmocka_unit_test(wrong_answers_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
