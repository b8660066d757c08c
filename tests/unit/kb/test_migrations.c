/* SPDX-License-Identifier: Apache-2.0 */
/* Migrations: old layouts come to the present one, in one go or interrupted after any step. */
#include "folder.h"
#include "kb_fixture.h"
#include "migrations.h"
#include "record_text.h"

enum { FACTS = 2500 };

static uint64_t now_fixed(const struct clock *c)
{
    (void)c;
    return 1800000000000000000u;
}

static const struct clock fixed_clock = { .mono_ns = now_fixed, .wall_ns = now_fixed };

/* ---- Layouts of the past ---- */

static void put_text(struct store *s, struct store_batch *b, const char *key, const char *text)
{
    struct key k;
    struct err err;

    assert_ok(key_of_text("key", key, &k, &err));
    store_batch_put(b, s, CF_META, &k, "", 0, text, strlen(text));
}

static void put_fact(struct store *s, struct store_batch *b, enum fact_kind kind, uint64_t seq,
                     const struct buf *text)
{
    struct fact_head head = { .seq = seq, .recorded_at_ns = 1700000000000000000u + seq };
    struct fact_ref ref = { .kind = kind };
    uint8_t head_bytes[FACT_HEAD_BYTES], ref_bytes[FACT_REF_BYTES];
    struct key key;

    id_of_bytes(text->data, text->len, &ref.id);
    fact_head_encode(&head, head_bytes);
    fact_ref_encode(&ref, ref_bytes);
    key_of_id(&ref.id, &key);
    store_batch_put(b, s, schema_fact_cf(kind), &key, head_bytes, sizeof(head_bytes), text->data,
                    text->len);
    key_of_u64(seq, &key);
    store_batch_put(b, s, CF_FACT, &key, ref_bytes, sizeof(ref_bytes), "", 0);
}

/* Schema 0: every fifth fact a claim, the others evaluations; no index, no identity. */
static void make_schema_0(const char *dir, uint64_t facts)
{
    struct buf text = { .max = 1 << 20 };
    struct store_batch *b = store_batch_new();
    char path[128];
    struct store *s;
    struct err err;
    bool fresh;

    snprintf(path, sizeof(path), "%s/store", dir);
    assert_ok(store_open(path, STORE_CREATE, &s, &fresh, &err));
    for (int cf = 0; cf < CF_EVALUATED; cf++)
        assert_ok(store_add_cf(s, (enum schema_cf)cf, &err));
    put_text(s, b, META_SCHEMA, "0");
    for (uint64_t i = 0; i < facts; i++) {
        struct sample_evaluation e;
        struct sample_claim c;

        buf_clear(&text);
        if (i % 5 == 0) {
            assert_ok(claim_write(sample_claim(&c, i), &text, &err));
        } else {
            assert_ok(evaluation_write(sample_evaluation(&e, i), &text, &err));
            json_decref(e.e.assignment);
        }
        put_fact(s, b, i % 5 == 0 ? FACT_CLAIM : FACT_EVALUATION, i + 1, &text);
    }
    assert_ok(store_write(s, b, true, &err));
    store_batch_free(b);
    store_close(s);
    buf_release(&text);
}

/* ---- Cases ---- */

static int count_evaluation(void *ctx, uint64_t seq, const struct id *id,
                            const struct evaluation *e)
{
    uint64_t *n = ctx;

    (void)id;
    assert_string_equal(e->device, "cpu");
    assert_true(seq % 5 != 1); /* claims have those numbers */
    ++*n;
    return 0;
}

/* A base from before there were origins has a place for them once it is opened. */
static void takes_origins(struct kb *kb)
{
    struct kb_batch *b = kb_batch_new(kb);
    char origin[KB_ORIGIN_MAX + 1];
    struct id id = claim_id(1000003);
    struct err err;

    assert_ok(kb_batch_set_origin(b, "elsewhere", &err));
    put_claim(b, 1000003);
    commit(b);
    kb_batch_free(b);
    assert_ok(kb_fact_origin(kb, &id, origin, &err));
    assert_string_equal(origin, "elsewhere");
    digest_of(kb);
}

static void assert_migrated(const char *dir, uint64_t facts)
{
    struct kb *kb = base_open(dir);
    uint64_t n = 0;
    struct err err;

    assert_int_equal(kb_last_seq(kb), facts);
    assert_ok(kb_each_evaluation(kb, "gqa_h32_kv4", "cpu", UINT64_MAX, count_evaluation, &n, &err));
    assert_int_equal(n, facts - (facts + 4) / 5);
    digest_of(kb);
    takes_origins(kb);
    kb_close(kb);
}

static void an_old_schema_is_refused_until_it_is_migrated(void **arg)
{
    struct migrations_options o = { .clock = &fixed_clock };
    struct tmp_folder f;
    struct kb *kb = NULL;
    size_t pending = 9;
    struct err err;

    (void)arg;
    folder_make(&f);
    o.dir = f.path;
    make_schema_0(f.path, FACTS);
    assert_fails(base_try_open(f.path, &kb, &err), ERR_REFUSED);
    assert_non_null(strstr(err.msg, "has schema 0 and needs migration to 1"));
    assert_ok(migrations_run(&o, &pending, &err));
    assert_int_equal(pending, 0);
    assert_migrated(f.path, FACTS);
    folder_remove(&f);
}

static void an_interrupted_migration_goes_on_where_it_was(void **arg)
{
    (void)arg;
    for (uint64_t steps = 1; steps <= 2; steps++) {
        struct migrations_options o = { .clock = &fixed_clock, .max_steps = steps };
        struct tmp_folder f;
        struct kb *kb = NULL;
        size_t pending = 1;
        int runs = 0;
        struct err err;

        folder_make(&f);
        o.dir = f.path;
        make_schema_0(f.path, FACTS);
        for (; pending > 0; runs++) {
            assert_ok(migrations_run(&o, &pending, &err));
            if (pending > 0) /* half way is still the old schema */
                assert_fails(base_try_open(f.path, &kb, &err), ERR_REFUSED);
        }
        assert_int_equal(runs, steps == 1 ? 3 : 2); /* 1000, 1000, 500 facts and the end */
        assert_migrated(f.path, FACTS);
        folder_remove(&f);
    }
}

static void a_dry_run_says_what_it_would_do_and_changes_nothing(void **arg)
{
    struct heard heard = { .n = 0 };
    struct migrations_options o = {
        .clock = &fixed_clock, .dry_run = true, .say = hear, .say_ctx = &heard
    };
    struct tmp_folder f;
    struct kb *kb = NULL;
    size_t pending = 0;
    struct err err;

    (void)arg;
    folder_make(&f);
    o.dir = f.path;
    make_schema_0(f.path, 10);
    for (int i = 0; i < 2; i++) {
        assert_ok(migrations_run(&o, &pending, &err));
        assert_int_equal(pending, 1);
        assert_string_equal(heard.last,
                            "would go from schema 0 to 1 (0001_evaluated): index evaluations by "
                            "task and give the knowledge base an id");
    }
    assert_fails(base_try_open(f.path, &kb, &err), ERR_REFUSED);
    folder_remove(&f);
}

static void the_present_schema_needs_nothing(void **arg)
{
    struct heard heard = { .n = 0 };
    struct migrations_options o = { .clock = &fixed_clock, .say = hear, .say_ctx = &heard };
    struct tmp_folder f;
    size_t pending = 9;
    struct err err;

    (void)arg;
    folder_make(&f);
    o.dir = f.path;
    assert_fails(migrations_run(&o, NULL, &err), ERR_NOT_FOUND);
    kb_close(base_open(f.path));
    assert_ok(migrations_run(&o, &pending, &err));
    assert_int_equal(pending, 0);
    assert_int_equal(heard.n, 1);
    folder_remove(&f);
}

static void a_damaged_record_stops_a_migration_and_is_named(void **arg)
{
    struct migrations_options o = { .clock = &fixed_clock };
    struct buf text = { .max = 100 };
    struct store_batch *b = store_batch_new();
    struct tmp_folder f;
    char path[128];
    struct store *s;
    struct err err;
    bool fresh;

    (void)arg;
    folder_make(&f);
    o.dir = f.path;
    make_schema_0(f.path, 10);
    snprintf(path, sizeof(path), "%s/store", f.path);
    assert_ok(store_open(path, STORE_OPEN, &s, &fresh, &err));
    assert_ok(buf_adds(&text, "{}", &err));
    put_fact(s, b, FACT_EVALUATION, 11, &text);
    assert_ok(store_write(s, b, true, &err));
    store_batch_free(b);
    store_close(s);
    memset(&err, 0, sizeof(err));
    assert_int_equal(migrations_run(&o, NULL, &err), -1);
    assert_true(str_has_prefix(err.msg, "migration 0001_evaluated: evaluation 44136fa355b3678a"));
    buf_release(&text);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_old_schema_is_refused_until_it_is_migrated),
        cmocka_unit_test(an_interrupted_migration_goes_on_where_it_was),
        cmocka_unit_test(a_dry_run_says_what_it_would_do_and_changes_nothing),
        cmocka_unit_test(the_present_schema_needs_nothing),
        cmocka_unit_test(a_damaged_record_stops_a_migration_and_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
