/* SPDX-License-Identifier: Apache-2.0 */
/* The knowledge base as its users see it: writing, reading, reopening. */
#include "kb_fixture.h"

struct state {
    struct tmp_folder folder;
    struct kb *kb;
    struct kb_batch *b;
};

static int setup(void **arg)
{
    struct state *s = xcalloc(1, sizeof(*s));

    folder_make(&s->folder);
    s->kb = base_open(s->folder.path);
    s->b = kb_batch_new(s->kb);
    assert_non_null(s->b);
    *arg = s;
    return 0;
}

static int teardown(void **arg)
{
    struct state *s = *arg;

    kb_batch_free(s->b);
    kb_close(s->kb);
    folder_remove(&s->folder);
    free(s);
    return 0;
}

static void reopen(struct state *s)
{
    kb_batch_free(s->b);
    kb_close(s->kb);
    s->kb = base_open(s->folder.path);
    s->b = kb_batch_new(s->kb);
}

/* ---- Documents and events ---- */

static int collect_key(void *ctx, const char *key, const json_t *doc)
{
    json_array_append_new(ctx, json_pack("[s, O]", key, doc));
    return 0;
}

static void documents_are_replaced_deleted_and_listed_in_key_order(void **arg)
{
    struct state *s = *arg;
    json_t *one = json_pack("{s:i}", "v", 1), *two = json_pack("{s:i}", "v", 2), *got;
    json_t *list = json_array();
    struct err err;

    assert_ok(kb_batch_put_doc(s->b, KB_TASK, "b", one, &err));
    assert_ok(kb_batch_put_doc(s->b, KB_TASK, "a", one, &err));
    assert_ok(kb_batch_put_doc(s->b, KB_TASK, "c", one, &err));
    assert_ok(kb_batch_put_doc(s->b, KB_DEVICE, "a", one, &err));
    commit(s->b);
    assert_ok(kb_batch_put_doc(s->b, KB_TASK, "a", two, &err));
    assert_ok(kb_batch_delete_doc(s->b, KB_TASK, "b", &err));
    commit(s->b);
    reopen(s);

    assert_ok(kb_each_doc(s->kb, KB_TASK, collect_key, list, &err));
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(json_string_value(json_array_get(json_array_get(list, 0), 0)), "a");
    assert_true(json_equal(json_array_get(json_array_get(list, 0), 1), two));
    assert_ok(kb_get_doc(s->kb, KB_DEVICE, "a", &got, &err));
    assert_true(json_equal(got, one));
    assert_fails(kb_get_doc(s->kb, KB_TASK, "b", &got, &err), ERR_NOT_FOUND);
    assert_string_equal(err.msg, "there is no task 'b'");
    json_decref(got);
    json_decref(list);
    json_decref(one);
    json_decref(two);
}

static int count_events(void *ctx, uint64_t seq, const json_t *event)
{
    uint64_t *next = ctx;

    assert_int_equal(seq, *next);
    assert_int_equal(json_integer_value(json_object_get(event, "n")), seq);
    ++*next;
    return 0;
}

static void put_event(struct state *s, const char *search, uint64_t seq)
{
    json_t *event = json_pack("{s:I}", "n", (json_int_t)seq);
    struct err err;

    assert_ok(kb_batch_add_event(s->b, search, seq, event, &err));
    json_decref(event);
}

static void events_are_read_in_order_from_a_number_on(void **arg)
{
    struct state *s = *arg;
    struct err err;
    uint64_t next;

    for (uint64_t i = 0; i < 300; i++)
        put_event(s, "s1", i);
    put_event(s, "s", 1000);
    put_event(s, "s10", 2000);
    commit(s->b);
    next = 254;
    assert_ok(kb_each_event(s->kb, "s1", next, count_events, &next, &err));
    assert_int_equal(next, 300);
    next = 1000;
    assert_ok(kb_each_event(s->kb, "s", 0, count_events, &next, &err));
    assert_int_equal(next, 1001);
}

static void an_event_number_is_given_once(void **arg)
{
    struct state *s = *arg;
    json_t *doc = json_object(), *got;
    struct err err;

    put_event(s, "s1", 7);
    commit(s->b);
    assert_ok(kb_batch_put_doc(s->b, KB_SEARCH, "s1", doc, &err));
    put_event(s, "s1", 7);
    assert_fails(kb_commit(s->b, &err), ERR_CONFLICT);
    assert_string_equal(err.msg, "event 7 of search 's1' is stored already");
    /* All or nothing, and the batch is empty afterwards. */
    assert_fails(kb_get_doc(s->kb, KB_SEARCH, "s1", &got, &err), ERR_NOT_FOUND);
    assert_ok(kb_commit(s->b, &err));
    put_event(s, "s1", 8);
    put_event(s, "s1", 8);
    assert_fails(kb_commit(s->b, &err), ERR_CONFLICT);
    json_decref(doc);
}

static void keys_and_documents_are_checked(void **arg)
{
    struct state *s = *arg;
    json_t *doc = json_object(), *list = json_array();
    char longest[600];
    struct err err;

    memset(longest, 'k', sizeof(longest));
    longest[512] = '\0';
    assert_ok(kb_batch_put_doc(s->b, KB_SIDE, longest, doc, &err));
    longest[512] = 'k';
    longest[513] = '\0';
    assert_fails(kb_batch_put_doc(s->b, KB_SIDE, longest, doc, &err), ERR_INVALID);
    assert_fails(kb_batch_put_doc(s->b, KB_SIDE, "", doc, &err), ERR_INVALID);
    assert_fails(kb_batch_put_doc(s->b, KB_SIDE, "k", list, &err), ERR_INVALID);
    assert_fails(kb_batch_add_event(s->b, "", 1, doc, &err), ERR_INVALID);
    commit(s->b);
    json_decref(doc);
    json_decref(list);
}

/* ---- Facts ---- */

static void an_evaluation_comes_back_as_it_was(void **arg)
{
    struct state *s = *arg;
    struct sample_evaluation sample;
    json_t *before, *after;
    struct evaluation e;
    struct id id;
    struct err err;

    id = put_evaluation(s->b, 42);
    commit(s->b);
    reopen(s);
    assert_ok(kb_get_evaluation(s->kb, &id, &e, &err));
    before = evaluation_to_json(sample_evaluation(&sample, 42));
    after = evaluation_to_json(&e);
    assert_true(json_equal(before, after));
    assert_int_equal(e.n_workloads, 2);
    assert_int_equal(e.workloads[1].ratio_q, -5000);
    evaluation_release(&e);
    json_decref(sample.e.assignment);
    json_decref(before);
    json_decref(after);
    id.hex[0] = id.hex[0] == 'a' ? 'b' : 'a';
    assert_fails(kb_get_evaluation(s->kb, &id, &e, &err), ERR_NOT_FOUND);
    id.hex[0] = 'x';
    assert_fails(kb_get_evaluation(s->kb, &id, &e, &err), ERR_INVALID);
}

static void a_fact_that_is_there_changes_nothing(void **arg)
{
    struct state *s = *arg;
    struct id first, again, before, after;
    uint64_t seq;

    first = put_evaluation(s->b, 1);
    again = put_evaluation(s->b, 1);
    assert_string_equal(first.hex, again.hex);
    put_claim(s->b, 1);
    put_evidence(s->b, 1, 1);
    commit(s->b);
    seq = kb_last_seq(s->kb);
    assert_int_equal(seq, 3);
    before = digest_of(s->kb);

    put_evaluation(s->b, 1);
    put_claim(s->b, 1);
    put_evidence(s->b, 1, 1);
    commit(s->b);
    after = digest_of(s->kb);
    assert_int_equal(kb_last_seq(s->kb), seq);
    assert_string_equal(before.hex, after.hex);
    assert_int_equal(kb_batch_sync_ns(s->b), 0); /* nothing to write, nothing to wait for */
}

static int check_order(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    uint64_t *last = ctx;

    assert_true(seq > last[0]);
    assert_true(str_is_hex(id->hex, ID_HEX));
    assert_int_equal(e->objective_q, (int64_t)last[1] * 10);
    last[0] = seq;
    last[1]++;
    return 0;
}

static void evaluations_of_a_task_come_in_sequence_up_to_a_number(void **arg)
{
    struct state *s = *arg;
    uint64_t last[2] = { 0, 0 };
    struct err err;
    uint64_t middle;

    for (uint64_t i = 0; i < 20; i++)
        put_evaluation(s->b, i);
    commit(s->b);
    middle = kb_last_seq(s->kb);
    for (uint64_t i = 20; i < 30; i++)
        put_evaluation(s->b, i);
    commit(s->b);
    assert_ok(kb_each_evaluation(s->kb, "gqa_h32_kv4", NULL, UINT64_MAX, check_order, last, &err));
    assert_int_equal(last[1], 30);
    last[0] = last[1] = 0;
    assert_ok(kb_each_evaluation(s->kb, "gqa_h32_kv4", "cpu", middle, check_order, last, &err));
    assert_int_equal(last[1], 20);
    last[1] = 0;
    assert_ok(kb_each_evaluation(s->kb, "gqa_h32_kv4", "cp", middle, check_order, last, &err));
    assert_ok(kb_each_evaluation(s->kb, "gqa_h32", "cpu", middle, check_order, last, &err));
    assert_int_equal(last[1], 0);
}

static void an_invalid_record_is_refused_and_the_batch_goes_on(void **arg)
{
    struct state *s = *arg;
    struct sample_claim c;
    struct sample_evidence e;
    struct err err;
    struct evidence bad;

    sample_claim(&c, 1);
    c.c.bottleneck = (char *)"magic";
    assert_fails(kb_batch_add_claim(s->b, &c.c, NULL, &err), ERR_INVALID);
    assert_string_equal(err.msg, "claim: 'bottleneck' is \"magic\"; allowed is one of \"\", "
                                 "\"memory\", \"compute\", \"latency\"");
    bad = *sample_evidence(&e, 1, 1);
    bad.toolchain = (char *)"gcc|12";
    assert_fails(kb_batch_add_evidence(s->b, &bad, NULL, &err), ERR_INVALID);
    json_decref(e.features);
    put_claim(s->b, 1);
    commit(s->b);
    assert_int_equal(kb_last_seq(s->kb), 1);
}

static void insights_are_found_by_an_unambiguous_prefix(void **arg)
{
    struct state *s = *arg;
    struct id id = claim_id(5);
    struct insight in;
    char prefix[ID_HEX + 1];
    struct err err;

    for (uint64_t i = 0; i < 50; i++)
        put_claim(s->b, i);
    commit(s->b);
    str_copy(prefix, 7, id.hex);
    assert_ok(kb_get_insight(s->kb, prefix, &in, &err));
    assert_string_equal(in.id.hex, id.hex);
    assert_string_equal(in.claim.with_value, "5");
    assert_int_equal(in.seq, 6);
    assert_int_equal(in.ordinal, 5);
    insight_release(&in);
    assert_ok(kb_get_insight(s->kb, id.hex, &in, &err));
    insight_release(&in);
    prefix[5] = '\0';
    assert_fails(kb_get_insight(s->kb, prefix, &in, &err), ERR_INVALID);
    assert_fails(kb_get_insight(s->kb, "ABCDEF", &in, &err), ERR_INVALID);
    assert_fails(kb_get_insight(s->kb, "000000000000", &in, &err), ERR_NOT_FOUND);
}

static int check_id_order(void *ctx, const struct insight *in)
{
    struct id *last = ctx;

    assert_true(strcmp(last->hex, in->id.hex) < 0);
    *last = in->id;
    return 0;
}

static void insights_are_listed_in_id_order(void **arg)
{
    struct state *s = *arg;
    struct id last = { "" };
    struct kb_stats stats;
    struct err err;

    for (uint64_t i = 0; i < 200; i++)
        put_claim(s->b, i);
    put_evaluation(s->b, 1);
    commit(s->b);
    assert_int_equal(kb_each_insight(s->kb, check_id_order, &last), 0);
    assert_ok(kb_get_stats(s->kb, &stats, &err));
    assert_int_equal(stats.insights, 200);
    assert_int_equal(stats.facts[FACT_CLAIM], 200);
    assert_int_equal(stats.facts[FACT_EVALUATION], 1);
    assert_int_equal(stats.last_seq, 201);
    assert_int_equal(stats.schema, 1);
    reopen(s);
    assert_ok(kb_get_stats(s->kb, &stats, &err));
    assert_int_equal(stats.facts[FACT_EVALUATION], 1);
    assert_int_equal(stats.last_seq, 201);
}

static void reopening_gives_an_equal_digest(void **arg)
{
    struct state *s = *arg;
    struct id before, after;

    for (uint64_t i = 0; i < 30; i++) {
        put_claim(s->b, i);
        for (uint64_t k = 0; k < i % 9; k++)
            put_evidence(s->b, i, i * 100 + k);
        if (i % 4 == 0)
            commit(s->b);
    }
    put_link(s->b, 1, 2);
    put_retraction(s->b, FACT_CLAIM, claim_id(3));
    put_retraction(s->b, FACT_EVIDENCE, put_evidence(s->b, 8, 801));
    commit(s->b);
    before = digest_of(s->kb);
    reopen(s);
    after = digest_of(s->kb);
    assert_string_equal(before.hex, after.hex);
}

static int copy_fact(void *ctx, uint64_t seq, enum fact_kind kind, const struct id *id,
                     const json_t *fact)
{
    struct id again;
    struct err err;

    assert_true(seq > 0);
    assert_ok(kb_batch_add_fact(ctx, kind, fact, &again, &err));
    assert_string_equal(again.hex, id->hex);
    return 0;
}

static void put_some(struct state *s)
{
    for (uint64_t i = 0; i < 12; i++) {
        put_claim(s->b, i);
        put_evidence(s->b, i, i);
        put_evaluation(s->b, i);
    }
    put_link(s->b, 1, 2);
    put_retraction(s->b, FACT_CLAIM, claim_id(3));
    commit(s->b);
}

static void facts_walked_into_another_base_make_the_same_base(void **arg)
{
    struct state *s = *arg;
    struct tmp_folder f;
    struct kb_batch *b;
    struct kb *kb;
    struct id here, there;
    struct err err;

    put_some(s);
    folder_make(&f);
    kb = base_open(f.path);
    b = kb_batch_new(kb);
    assert_ok(kb_each_fact(s->kb, 20, copy_fact, b, &err));
    assert_ok(kb_each_fact(s->kb, 1, copy_fact, b, &err));
    commit(b);
    here = digest_of(s->kb);
    there = digest_of(kb);
    assert_string_equal(here.hex, there.hex);
    kb_batch_free(b);
    kb_close(kb);
    folder_remove(&f);
}

static void a_backup_is_a_base_of_its_own(void **arg)
{
    struct state *s = *arg;
    struct tmp_folder f;
    struct id before, copy;
    char dir[96];
    struct kb *kb;
    struct err err;

    put_some(s);
    before = digest_of(s->kb);
    folder_make(&f);
    snprintf(dir, sizeof(dir), "%s/backup", f.path);
    assert_ok(kb_backup(s->kb, dir, &err));
    assert_fails(kb_backup(s->kb, dir, &err), ERR_CONFLICT);
    put_claim(s->b, 100); /* the base goes on, the backup does not */
    commit(s->b);
    kb = base_open(dir);
    copy = digest_of(kb);
    assert_string_equal(copy.hex, before.hex);
    kb_close(kb);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        CASE(documents_are_replaced_deleted_and_listed_in_key_order),
        CASE(events_are_read_in_order_from_a_number_on),
        CASE(an_event_number_is_given_once),
        CASE(keys_and_documents_are_checked),
        CASE(an_evaluation_comes_back_as_it_was),
        CASE(a_fact_that_is_there_changes_nothing),
        CASE(evaluations_of_a_task_come_in_sequence_up_to_a_number),
        CASE(an_invalid_record_is_refused_and_the_batch_goes_on),
        CASE(insights_are_found_by_an_unambiguous_prefix),
        CASE(insights_are_listed_in_id_order),
        CASE(reopening_gives_an_equal_digest),
        CASE(facts_walked_into_another_base_make_the_same_base),
        CASE(a_backup_is_a_base_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
