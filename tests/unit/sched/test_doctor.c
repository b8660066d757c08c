/* SPDX-License-Identifier: Apache-2.0 */
/* The doctor: a healthy base has no findings, and each fault makes its own and no other. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "doctor.h"
#include "search/history.h"
#include "store.h"
#include "unit/test.h"

static const uint64_t began_s = 1700000000;

struct ward {
    char *dir;
    struct clock_fake clock;
    struct kb *kb;
    struct history *history;
    uint64_t n; /* evaluations made so far: they keep facts apart */
};

static void ward_open(struct ward *w)
{
    struct kb_options o = { .dir = w->dir, .clock = &w->clock.clock, .sync = false };
    struct err err;

    clock_fake_init(&w->clock, began_s * NS_PER_SEC);
    assert_ok(kb_open(&o, &w->kb, &err), err);
    w->history = history_new();
}

static void ward_close(struct ward *w)
{
    history_free(w->history);
    kb_close(w->kb);
}

static void put_doc(struct ward *w, enum kb_doc kind, const char *key, json_t *doc)
{
    struct kb_batch *b = kb_batch_new(w->kb);
    struct err err;

    assert_ok(kb_batch_put_doc(b, kind, key, doc, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    json_decref(doc);
}

static void put_device(struct ward *w, const char *toolchain)
{
    put_doc(w, KB_DEVICE, "cpu",
            json_pack("{s:s, s:s, s:s, s:s, s:[s,s]}", "name", "cpu", "kind", "cpu", "class",
                      "cpu-avx2", "toolchain", toolchain, "features", "avx2", "fma"));
}

static struct claim sound_claim(void)
{
    return (struct claim){ .technique = (char *)"tiling",
                           .statement = (char *)"Set P to 2 rather than 1: it tiles the keys.",
                           .mechanism = (char *)"",
                           .family = (char *)"f",
                           .dtype = (char *)"f32",
                           .language = (char *)"c",
                           .bottleneck = (char *)"memory",
                           .requires = (char *)"avx2",
                           .param = (char *)"P",
                           .with_value = (char *)"2",
                           .without_value = (char *)"1" };
}

static struct id put_claim(struct ward *w, const struct claim *c)
{
    struct kb_batch *b = kb_batch_new(w->kb);
    struct err err;
    struct id id;

    assert_ok(kb_batch_add_claim(b, c, &id, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    return id;
}

/* A pair with this effect, measured under gcc 12.2.0. */
static void put_pair(struct ward *w, const struct id *claim, double effect, bool steered)
{
    struct kb_batch *b = kb_batch_new(w->kb);
    json_auto_t *features = json_object();
    char text[40];
    struct evidence e = { .claim = *claim,
                          .kind = (char *)"pair",
                          .effect_q = (int64_t)(1e6 * effect),
                          .sd_q = 5000,
                          .steered = steered,
                          .failure = (char *)"",
                          .task = (char *)"f_1",
                          .device = (char *)"cpu",
                          .device_class = (char *)"cpu-avx2",
                          .shape = (char *)"n=4",
                          .toolchain = (char *)"gcc 12.2.0",
                          .features = features,
                          .measured_at_s = began_s + w->n };
    struct err err;

    snprintf(text, sizeof(text), "with %ju", (uintmax_t)w->n);
    id_of_bytes(text, strlen(text), &e.with);
    snprintf(text, sizeof(text), "without %ju", (uintmax_t)w->n++);
    id_of_bytes(text, strlen(text), &e.without);
    assert_ok(kb_batch_add_evidence(b, &e, NULL, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
}

static void put_search(struct ward *w, const char *id, bool cold)
{
    put_doc(w, KB_SEARCH, id,
            json_pack("{s:s, s:s, s:s, s:b, s:I, s:{s:s, s:s}}", "id", id, "proposer", "builtin",
                      "state", "done", "cold", cold, "created", (json_int_t)began_s + 10, "scope",
                      "family", "f", "device_class", "cpu-avx2"));
}

static void put_event(struct ward *w, const char *search, uint64_t seq, json_t *event)
{
    struct kb_batch *b = kb_batch_new(w->kb);
    struct err err;

    assert_ok(kb_batch_add_event(b, search, seq, event, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    json_decref(event);
}

/* A warm search of `n` attempts that take turns, memory's worth `gain` more than the others'. */
static void put_rivals(struct ward *w, const char *id, int n, double gain)
{
    put_search(w, id, false);
    for (int i = 0; i < n; i++) {
        bool memory = i % 2 == 0;
        int64_t q = 500000 + 1000 * (i % 3) + (memory ? (int64_t)(1e6 * gain) : 0);

        put_event(w, id, (uint64_t)(2 * i),
                  json_pack("{s:s, s:i, s:s}", "type", "attempt", "evaluation", i + 1, "arm",
                            memory ? "memory" : "cold"));
        put_event(w, id, (uint64_t)(2 * i + 1),
                  json_pack("{s:s, s:i, s:s, s:I, s:i}", "type", "measured", "evaluation", i + 1,
                            "status", "ok", "objective_q", (json_int_t)q, "sd_q", 1000));
    }
}

static struct id put_sound(struct ward *w)
{
    struct claim c = sound_claim();
    struct id id = put_claim(w, &c);

    put_pair(w, &id, 0.10, false);
    put_pair(w, &id, 0.12, false);
    put_pair(w, &id, 0.11, true);
    return id;
}

static json_t *examine(struct ward *w, bool stale_only)
{
    json_auto_t *families = json_pack("{s:{s:[s,s]}}", "f", "P", "1", "2");
    struct doctor_input in = { w->kb, w->history, families, stale_only };
    json_t *out;
    struct err err;

    assert_ok(doctor_examine(&in, &out, &err), err);
    return out;
}

/* One finding of this kind, and none of another; its sentence has the words. */
static void expect_only(struct ward *w, const char *kind, const char *id_prefix, const char *words)
{
    json_auto_t *out = examine(w, false);
    const json_t *findings = json_object_get(out, "findings");
    const json_t *f = json_array_get(findings, 0);

    if (json_array_size(findings) != 1) {
        CLEANUP(freep) char *text = json_dumps(findings, JSON_INDENT(1));

        fail_msg("%zu findings in place of one (%s): %s", json_array_size(findings), kind, text);
    }
    assert_string_equal(jsonx_str(f, "kind", ""), kind);
    assert_int_equal(jsonx_int(json_object_get(out, "counts"), kind, 0), 1);
    if (!str_has_prefix(jsonx_str(f, "id", ""), id_prefix))
        fail_msg("the finding is %s", jsonx_str(f, "id", ""));
    if (strstr(jsonx_str(f, "sentence", ""), words) == NULL)
        fail_msg("it says: %s", jsonx_str(f, "sentence", ""));
    assert_true(jsonx_str(f, "todo", "")[0]);
}

static int setup(void **state)
{
    struct ward *w = xcalloc(1, sizeof(*w));
    void *dir;

    if (test_dir_setup(&dir) != 0)
        return -1;
    w->dir = dir;
    ward_open(w);
    put_device(w, "gcc 12.2.0");
    *state = w;
    return 0;
}

static int teardown(void **state)
{
    struct ward *w = *state;
    void *dir = w->dir;

    ward_close(w);
    free(w);
    return test_dir_teardown(&dir);
}

static void healthy_base_has_no_findings(void **state)
{
    struct ward *w = *state;

    put_sound(w);
    put_search(w, "s1", true);
    put_rivals(w, "s2", 12, 0.1);
    json_auto_t *out = examine(w, false);
    const json_t *t = json_object_get(out, "transfer");

    if (json_array_size(json_object_get(out, "findings")) != 0) {
        CLEANUP(freep) char *text = json_dumps(out, JSON_INDENT(1));

        fail_msg("%s", text);
    }
    assert_int_equal(json_object_size(json_object_get(out, "counts")), 0);
    assert_int_equal(jsonx_int(out, "insights", 0), 1);
    assert_int_equal(jsonx_int(t, "searches", 0), 1);
    assert_int_equal(jsonx_int(t, "judged", 0), 1);
    assert_int_equal(jsonx_int(t, "lost", -1), 0);
    assert_true(jsonx_int(t, "pairs_better", 0) >= 5);
}

static void claim_without_evidence_is_junk(void **state)
{
    struct claim c = sound_claim();

    put_claim(*state, &c);
    expect_only(*state, "junk", "junk:no-evidence:", "nobody has measured it");
}

static void statement_without_words_is_junk(void **state)
{
    struct claim c = sound_claim();
    struct id id;

    c.statement = (char *)"...";
    id = put_claim(*state, &c);
    put_pair(*state, &id, 0.1, false);
    expect_only(*state, "junk", "junk:empty:", "says nothing");
}

static void statements_in_other_letters_are_told_apart(void **state)
{
    static const char *const statements[] = { "\xe5\xbf\xab", "\xd0\xb1\xd1\x8b\xd1\x81" };
    struct ward *w = *state;

    for (size_t i = 0; i < ARRAY_LEN(statements); i++) {
        struct claim c = sound_claim();
        struct id id;

        c.statement = (char *)statements[i];
        id = put_claim(w, &c);
        put_pair(w, &id, 0.1, false);
    }
    json_auto_t *out = examine(w, false);
    assert_int_equal(jsonx_int(json_object_get(out, "counts"), "junk", 0), 0);
}

/* The same sentence under two techniques is not linked by itself. */
static void same_statement_twice_is_junk(void **state)
{
    struct claim c = sound_claim();
    struct id id;

    put_sound(*state);
    c.technique = (char *)"loop-unrolling";
    c.statement = (char *)"set P to 2 rather than 1, it tiles the keys";
    id = put_claim(*state, &c);
    put_pair(*state, &id, 0.1, false);
    expect_only(*state, "junk", "junk:duplicate:", "and they are not linked");
}

static void unknown_technique_of_one_use_is_junk(void **state)
{
    struct claim c = sound_claim();
    struct id id;

    c.technique = (char *)"zorbing";
    id = put_claim(*state, &c);
    put_pair(*state, &id, 0.1, false);
    expect_only(*state, "junk", "junk:technique:zorbing", "'zorbing' is not in the vocabulary");
    c.statement = (char *)"Something else altogether.";
    c.with_value = (char *)"1";
    c.without_value = (char *)"2";
    id = put_claim(*state, &c);
    put_pair(*state, &id, 0.1, false);
    json_auto_t *out = examine(*state, false); /* two uses are a technique of one's own */
    assert_int_equal(json_array_size(json_object_get(out, "findings")), 0);
}

static void signs_that_nothing_tells_apart_are_a_contradiction(void **state)
{
    struct claim c = sound_claim();
    struct id id = put_claim(*state, &c);

    for (int i = 0; i < 4; i++) {
        put_pair(*state, &id, 0.1, false);
        put_pair(*state, &id, -0.1, false);
    }
    expect_only(*state, "contradiction",
                "contradiction:signs:", "4 measurements speak for it and 4");
}

static void evidence_under_another_compiler_is_stale(void **state)
{
    put_sound(*state);
    put_device(*state, "gcc 14.1.0");
    expect_only(*state, "stale", "stale:cpu:", "compiler gcc 12.2.0, now gcc 14.1.0");
    json_auto_t *out = examine(*state, true);
    assert_int_equal(json_array_size(json_object_get(out, "findings")), 1);
    assert_null(json_object_get(out, "transfer"));
}

static void stale_only_looks_at_nothing_else(void **state)
{
    struct claim c = sound_claim();

    put_claim(*state, &c);
    json_auto_t *out = examine(*state, true);
    assert_int_equal(json_array_size(json_object_get(out, "findings")), 0);
}

static void unreachable_with(void **state, const char *rule, const char *words,
                             const struct claim *c)
{
    struct id id = put_claim(*state, c);

    put_pair(*state, &id, 0.1, false);
    expect_only(*state, "unreachable", rule, words);
}

static void feature_that_no_device_has_is_unreachable(void **state)
{
    struct claim c = sound_claim();

    c.requires = (char *)"avx1024";
    unreachable_with(state, "unreachable:feature:", "requires avx1024", &c);
}

static void family_without_task_is_unreachable(void **state)
{
    struct claim c = sound_claim();

    c.family = (char *)"gone";
    unreachable_with(state, "unreachable:family:", "no task of its family 'gone'", &c);
}

static void tunable_that_is_gone_is_unreachable(void **state)
{
    struct claim c = sound_claim();

    c.param = (char *)"Q";
    unreachable_with(state, "unreachable:tunable:", "no tunable Q", &c);
}

static void value_that_is_gone_is_unreachable(void **state)
{
    struct claim c = sound_claim();

    c.with_value = (char *)"8";
    unreachable_with(state, "unreachable:value:", "no value 8", &c);
}

static void steered_evidence_alone_is_self_confirmed(void **state)
{
    struct claim c = sound_claim();
    struct id id = put_claim(*state, &c);

    put_pair(*state, &id, 0.1, true);
    put_pair(*state, &id, 0.1, true);
    expect_only(*state, "self-confirmed",
                "self-confirmed:steered:", "all its pairs were measured under its own influence");
}

static void insight_that_no_warm_search_was_offered_is_idle(void **state)
{
    struct ward *w = *state;
    struct id id = put_sound(w);

    put_search(w, "s1", false);
    put_search(w, "s2", false);
    put_search(w, "s3", true); /* a cold one is offered nothing */
    json_auto_t *before = examine(w, false);
    assert_int_equal(json_array_size(json_object_get(before, "findings")), 0);
    put_search(w, "s4", false);
    expect_only(w, "never-served", "never-served:idle:", "none of 3 warm searches");
    put_event(w, "s4", 0,
              json_pack("{s:s, s:i, s:s, s:[s]}", "type", "attempt", "evaluation", 1, "arm",
                        "memory", "served", id.hex));
    json_auto_t *after = examine(w, false);
    assert_int_equal(json_array_size(json_object_get(after, "findings")), 0);
}

static void memory_that_loses_is_negative_transfer(void **state)
{
    struct ward *w = *state;

    put_rivals(w, "s1", 12, -0.1);
    json_auto_t *once = examine(w, false); /* one may be bad luck */
    assert_int_equal(json_array_size(json_object_get(once, "findings")), 0);
    assert_int_equal(jsonx_int(json_object_get(once, "transfer"), "lost", 0), 1);
    put_rivals(w, "s2", 12, -0.1);
    expect_only(w, "negative-transfer", "negative-transfer:rate:", "in 2 of 2 warm searches");
}

static void retune_that_calls_an_insight_void_is_told(void **state)
{
    struct ward *w = *state;
    struct id id = put_sound(w);

    put_doc(w, KB_SIDE, "retunes",
            json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "retunes", "id", "r1", "device", "gpu", "id",
                      "r2", "device", "gpu"));
    put_doc(w, KB_SIDE, "retune/r1",
            json_pack("{s:[{s:s,s:s,s:s}]}", "insights", "id", id.hex, "label", "void", "why",
                      "an old word"));
    put_doc(w, KB_SIDE, "retune/r2",
            json_pack("{s:[{s:s,s:s,s:s}]}", "insights", "id", id.hex, "label", "void", "why",
                      "its block is too large"));
    expect_only(w, "void", "void:gpu:", "its block is too large");
    put_doc(
        w, KB_SIDE, "retune/r2",
        json_pack("{s:[{s:s,s:s,s:s}]}", "insights", "id", id.hex, "label", "carry", "why", ""));
    json_auto_t *out = examine(w, false);
    assert_int_equal(json_array_size(json_object_get(out, "findings")), 0);
}

/* Puts bytes that are no JSON in place of a search's event, behind the base's back. */
static void damage_event(const char *dir, const char *search)
{
    CLEANUP(freep) char *path = str_printf("%s/store", dir);
    struct store_batch *b = store_batch_new();
    struct store *s;
    struct key key;
    struct err err;
    bool fresh;

    assert_ok(store_open(path, STORE_OPEN, &s, &fresh, &err), err);
    assert_ok(key_of_pair("search", search, 1, &key, &err), err);
    store_batch_put(b, s, CF_EVENT, &key, "", 0, "{\"type\"", 7);
    assert_ok(store_write(s, b, true, &err), err);
    store_batch_free(b);
    store_close(s);
}

static void events_that_cannot_be_read_are_a_matter_of_storage(void **state)
{
    struct ward *w = *state;

    put_rivals(w, "s1", 12, 0.1);
    put_rivals(w, "s2", 12, 0.1);
    ward_close(w);
    damage_event(w->dir, "s1");
    ward_open(w);
    expect_only(w, "storage", "storage:events:s1", "the events of search s1 cannot be read");
    json_auto_t *out = examine(w, false);
    assert_int_equal(jsonx_int(json_object_get(out, "transfer"), "judged", 0), 1);
}

static void many_findings_of_a_kind_are_counted_and_some_listed(void **state)
{
    struct ward *w = *state;

    for (int i = 0; i < DOCTOR_LISTED_MAX + 5; i++) {
        struct claim c = sound_claim();
        CLEANUP(freep) char *text = str_printf("Statement number %d of many.", i);

        c.statement = text;
        put_claim(w, &c);
    }
    json_auto_t *out = examine(w, false);
    assert_int_equal(json_array_size(json_object_get(out, "findings")), DOCTOR_LISTED_MAX);
    assert_int_equal(jsonx_int(json_object_get(out, "counts"), "junk", 0), DOCTOR_LISTED_MAX + 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(healthy_base_has_no_findings),
        T(claim_without_evidence_is_junk),
        T(statement_without_words_is_junk),
        T(statements_in_other_letters_are_told_apart),
        T(same_statement_twice_is_junk),
        T(unknown_technique_of_one_use_is_junk),
        T(signs_that_nothing_tells_apart_are_a_contradiction),
        T(evidence_under_another_compiler_is_stale),
        T(stale_only_looks_at_nothing_else),
        T(feature_that_no_device_has_is_unreachable),
        T(family_without_task_is_unreachable),
        T(tunable_that_is_gone_is_unreachable),
        T(value_that_is_gone_is_unreachable),
        T(steered_evidence_alone_is_self_confirmed),
        T(insight_that_no_warm_search_was_offered_is_idle),
        T(memory_that_loses_is_negative_transfer),
        T(retune_that_calls_an_insight_void_is_told),
        T(events_that_cannot_be_read_are_a_matter_of_storage),
        T(many_findings_of_a_kind_are_counted_and_some_listed),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
