/* SPDX-License-Identifier: Apache-2.0 */
/* Records: strict both ways, and the fast reader and writer agree with the JSON library. */
#include <math.h>

#include "base/jsonx.h"
#include "kb_fixture.h"
#include "record_text.h"

static void effects_are_quantised_to_micro_units(void **arg)
{
    (void)arg;
    assert_int_equal(quantise_log(1.0), 0);
    assert_int_equal(quantise_log(2.0), 693147);
    assert_int_equal(quantise_log(0.5), -693147);
    assert_int_equal(quantise_log(exp(1.5e-6)), 2); /* away from zero at the half */
}

/* ---- One record of each kind, as JSON ---- */

static json_t *evaluation_json(void)
{
    struct sample_evaluation s;
    json_t *j = evaluation_to_json(sample_evaluation(&s, 3));

    json_decref(s.e.assignment);
    return j;
}

static json_t *claim_json(void)
{
    struct sample_claim s;

    return claim_to_json(sample_claim(&s, 3));
}

static json_t *evidence_json(void)
{
    struct sample_evidence s;
    json_t *j = evidence_to_json(sample_evidence(&s, 1, 3));

    json_decref(s.features);
    return j;
}

static json_t *failure_json(void)
{
    struct sample_evidence s;
    json_t *j = evidence_to_json(sample_evidence(&s, 1, 4));

    json_decref(s.features);
    return j;
}

static json_t *retraction_json(void)
{
    return json_pack("{s:s, s:s, s:s}", "kind", "claim", "target", claim_id(1).hex, "reason",
                     "why");
}

static json_t *link_json(void)
{
    return json_pack("{s:s, s:s}", "a", id_of_number("a", 3).hex, "b",
                     "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff");
}

/* Parses, writes as JSON and as text, reads the text: everything says the same. 0 or the error. */
#define ROUND_TRIP(noun, release)                                                                  \
    static int noun##_trip(const json_t *j, struct err *err)                                       \
    {                                                                                              \
        struct noun first, second;                                                                 \
        struct buf text = { .max = 1 << 20 };                                                      \
        json_t *back;                                                                              \
        char *canonical;                                                                           \
                                                                                                   \
        if (noun##_from_json(j, &first, err) != 0)                                                 \
            return -1;                                                                             \
        back = noun##_to_json(&first);                                                             \
        assert_true(json_equal(j, back));                                                          \
        canonical = jsonx_canonical(back);                                                         \
        assert_int_equal(noun##_write(&first, &text, err), 0);                                     \
        assert_string_equal(buf_str(&text), canonical);                                            \
        assert_int_equal(noun##_read(buf_str(&text), text.len, &second, err), 0);                  \
        json_decref(back);                                                                         \
        back = noun##_to_json(&second);                                                            \
        assert_true(json_equal(j, back));                                                          \
        json_decref(back);                                                                         \
        release(&first);                                                                           \
        release(&second);                                                                          \
        free(canonical);                                                                           \
        buf_release(&text);                                                                        \
        return 0;                                                                                  \
    }

static void nothing_to_release(struct link *l)
{
    (void)l;
}

ROUND_TRIP(evaluation, evaluation_release)
ROUND_TRIP(claim, claim_release)
ROUND_TRIP(evidence, evidence_release)
ROUND_TRIP(retraction, retraction_release)
ROUND_TRIP(link, nothing_to_release)

struct kind {
    const char *name;
    json_t *(*make)(void);
    int (*trip)(const json_t *j, struct err *err);
};

static const struct kind kinds[] = {
    { "evaluation", evaluation_json, evaluation_trip },
    { "claim", claim_json, claim_trip },
    { "evidence", evidence_json, evidence_trip },
    { "evidence of a failure", failure_json, evidence_trip },
    { "retraction", retraction_json, retraction_trip },
    { "link", link_json, link_trip },
};

static void every_record_survives_the_round_trip(void **arg)
{
    struct err err;

    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        json_t *j = kinds[i].make();

        assert_ok(kinds[i].trip(j, &err));
        json_decref(j);
    }
}

static void a_missing_unknown_or_mistyped_field_is_named(void **arg)
{
    struct err err;

    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        json_t *whole = kinds[i].make();
        const char *key;
        json_t *v;

        json_object_foreach (whole, key, v) {
            json_t *j = json_deep_copy(whole);
            char quoted[64];

            snprintf(quoted, sizeof(quoted), "'%s'", key);
            json_object_del(j, key);
            assert_fails(kinds[i].trip(j, &err), ERR_INVALID);
            assert_non_null(strstr(err.msg, quoted));
            json_object_set_new(j, key, json_null());
            assert_fails(kinds[i].trip(j, &err), ERR_INVALID);
            assert_non_null(strstr(err.msg, quoted));
            json_decref(j);
        }
        json_object_set_new(whole, "surprise", json_integer(1));
        assert_fails(kinds[i].trip(whole, &err), ERR_INVALID);
        assert_non_null(strstr(err.msg, "'surprise'"));
        json_decref(whole);
    }
}

/* One field of one kind replaced by a JSON text that is not allowed there. */
static const struct reject {
    size_t kind;
    const char *field, *value;
} rejects[] = {
    { 0, "task", "\"../etc\"" },
    { 0, "device", "\"\"" },
    { 0, "program", "\"12\"" },
    { 0, "program", "\"XYZ\"" },
    { 0, "toolchain", "\"gcc|12\"" },
    { 0, "shape", "\"a\\nb\"" },
    { 0, "seed", "\"123\"" },
    { 0, "seed", "\"00000000000000ZZ\"" },
    { 0, "status", "\"crashed\"" }, /* with an objective */
    { 0, "objective_q", "99999999999" },
    { 0, "objective_q", "1.5" },
    { 0, "sd_q", "-1" },
    { 0, "measured_at_s", "-5" },
    { 0, "measured_at_s", "99999999999999" },
    { 0, "assignment", "[]" },
    { 0, "assignment", "{\"A\":{}}" },
    { 0, "assignment", "{\"A b\":1}" },
    { 0, "workloads", "[1]" },
    { 0, "workloads", "[{\"name\":\"b\",\"ratio_q\":0,\"baseline_ns\":1}]" },
    { 0, "workloads", "[{\"name\":\"b\",\"ratio_q\":0,\"baseline_ns\":1,\"candidate_ns\":-1}]" },
    { 1, "technique", "\"\"" },
    { 1, "technique", "\"two words\"" },
    { 1, "statement", "\"\"" },
    { 1, "statement", "\"a\\u0000b\"" },
    { 1, "bottleneck", "\"luck\"" },
    { 1, "requires", "\"fma,avx2\"" },
    { 1, "requires", "\"avx2,avx2\"" },
    { 1, "requires", "\"avx2,\"" },
    { 1, "requires", "\"l2>=\"" },
    { 1, "requires", "\"l2>=many\"" },
    { 1, "requires", "\"l2>=064\"" },
    { 1, "requires", "\">=64\"" },
    { 1, "param", "\"\"" }, /* with values */
    { 2, "claim", "\"\"" },
    { 2, "kind", "\"hearsay\"" },
    { 2, "without", "\"\"" },
    { 2, "failure", "\"crashed\"" },
    { 2, "effect_q", "60000000" },
    { 2, "steered", "1" },
    { 2, "features", "{\"a\":\"b\"}" },
    { 2, "features", "{\"a\":true}" },
    { 3, "effect_q", "1" },
    { 3, "failure", "\"\"" },
    { 4, "kind", "\"link\"" },
    { 4, "kind", "\"evaluation\"" },
    { 4, "reason", "\"\"" },
    { 5, "b", "\"0000000000000000000000000000000000000000000000000000000000000000\"" },
};

static void values_that_are_not_allowed_are_refused(void **arg)
{
    struct err err;

    (void)arg;
    for (size_t i = 0; i < ARRAY_LEN(rejects); i++) {
        const struct reject *r = &rejects[i];
        json_t *j = kinds[r->kind].make(), *v = NULL;

        /* A NUL inside a text is what JSON_ALLOW_NUL lets through to us. */
        v = json_loads(r->value, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(v);
        json_object_set_new(j, r->field, v);
        memset(&err, 0, sizeof(err));
        if (kinds[r->kind].trip(j, &err) == 0)
            fail_msg("%s with %s = %s was taken", kinds[r->kind].name, r->field, r->value);
        assert_int_equal(err.code, ERR_INVALID);
        json_decref(j);
    }
}

static void a_claim_may_require_features_and_capacities(void **arg)
{
    json_t *j = claim_json();
    struct err err;

    (void)arg;
    json_object_set_new(j, "requires",
                        json_string("avx2,cache_bytes.l2>=1,shared_bytes.block>=65536"));
    assert_ok(claim_trip(j, &err));
    json_decref(j);
}

static void texts_over_their_cap_are_refused(void **arg)
{
    json_t *j = claim_json();
    char text[5000];
    struct err err;

    (void)arg;
    memset(text, 'x', sizeof(text));
    text[4096] = '\0';
    json_object_set_new(j, "statement", json_string(text));
    assert_ok(claim_trip(j, &err));
    text[4096] = 'x';
    text[4097] = '\0';
    json_object_set_new(j, "statement", json_string(text));
    assert_fails(claim_trip(j, &err), ERR_INVALID);
    assert_string_equal(err.msg, "claim: 'statement' has 4097 bytes; at most 4096 are allowed");
    json_decref(j);
}

/* Random statements, with all that JSON escapes, are written as the JSON library writes them. */
static void any_text_is_written_canonically(void **arg)
{
    static const char *const pieces[] = { "a",    "\"",   "\\",     "\n",     "\t", "\x01",
                                          "\x1f", "\x7f", "\u00e9", "\u20ac", "/",  "\U0001F600",
                                          " ",    "{",    "}",      "Z" };
    struct rng r = rng_seeded(3);
    struct err err;

    (void)arg;
    for (int round = 0; round < 500; round++) {
        json_t *j = claim_json();
        char text[200] = "";

        for (uint64_t n = rng_below(&r, 30) + 1; n > 0; n--)
            strncat(text, pieces[rng_below(&r, ARRAY_LEN(pieces))],
                    sizeof(text) - strlen(text) - 1);
        json_object_set_new(j, "statement", json_string(text));
        json_object_set_new(j, "mechanism", json_string(text));
        assert_ok(claim_trip(j, &err));
        json_decref(j);
    }
}

/* Numbers of every kind come back as they are: an integer stays one, a real keeps its digits. */
static void context_features_keep_their_numbers(void **arg)
{
    json_t *j = evidence_json();
    struct err err;

    (void)arg;
    json_object_set_new(j, "features",
                        json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:i}", "most",
                                  (json_int_t)INT64_MAX, "least", (json_int_t)INT64_MIN, "third",
                                  1.0 / 3, "tiny", 5e-300, "huge", 1e300, "minus", -2.5, "zero",
                                  0));
    assert_ok(evidence_trip(j, &err));
    json_object_set_new(j, "features", json_object());
    assert_ok(evidence_trip(j, &err));
    json_decref(j);
}

static void text_that_is_not_utf8_is_refused(void **arg)
{
    struct buf text = { .max = 1 << 16 };
    struct sample_claim s;
    struct claim c = *sample_claim(&s, 1);
    struct err err;

    (void)arg;
    c.statement = (char *)"a\xff";
    assert_fails(claim_write(&c, &text, &err), ERR_INVALID);
    buf_release(&text);
}

/* Every truncation and every changed byte is read as a record or refused, never past the end. */
static void damaged_text_is_refused_or_read(void **arg)
{
    struct sample_evidence s;
    struct buf text = { .max = 1 << 16 };
    struct evidence e;
    struct err err;
    int taken = 0;

    (void)arg;
    assert_ok(evidence_write(sample_evidence(&s, 1, 3), &text, &err));
    for (size_t len = 0; len < text.len; len++) {
        char *exact = malloc(len + 1); /* so that a sanitizer sees any step beyond */

        memcpy(exact, text.data, len);
        assert_int_equal(evidence_read(exact, len, &e, &err), -1);
        free(exact);
    }
    for (size_t i = 0; i < text.len; i++) {
        text.data[i] ^= 0x11;
        if (evidence_read(text.data, text.len, &e, &err) == 0) {
            taken++;
            evidence_release(&e);
        }
        text.data[i] ^= 0x11;
    }
    assert_true(taken > 0); /* another digit in a number is another record */
    buf_release(&text);
    json_decref(s.features);
}

static void ids_are_sha256(void **arg)
{
    struct id id;

    (void)arg;
    id_of_bytes("abc", 3, &id); /* FIPS 180-2, appendix B.1 */
    assert_string_equal(id.hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(effects_are_quantised_to_micro_units),
        cmocka_unit_test(every_record_survives_the_round_trip),
        cmocka_unit_test(a_missing_unknown_or_mistyped_field_is_named),
        cmocka_unit_test(values_that_are_not_allowed_are_refused),
        cmocka_unit_test(a_claim_may_require_features_and_capacities),
        cmocka_unit_test(texts_over_their_cap_are_refused),
        cmocka_unit_test(any_text_is_written_canonically),
        cmocka_unit_test(context_features_keep_their_numbers),
        cmocka_unit_test(text_that_is_not_utf8_is_refused),
        cmocka_unit_test(damaged_text_is_refused_or_read),
        cmocka_unit_test(ids_are_sha256),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
