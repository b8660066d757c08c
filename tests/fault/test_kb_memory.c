/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs out anywhere in the knowledge base's own code: a case runs again and again with
 * the next allocation failing, until it runs without one failing. The only outcomes are success and
 * a clean error, and afterwards the base is as if nothing had happened. The linker wraps the
 * allocator of our objects; the JSON library gets the same one. RocksDB and faiss are not touched:
 * they end the process when memory is out.
 */
#include "kb_fixture.h"
#include "table.h"

/* The allocation that fails, counted down; 0 for none. */
static _Thread_local uint64_t fail_in;
static _Thread_local bool failed;

static bool fails(void)
{
    if (fail_in == 0 || --fail_in > 0)
        return false;
    failed = true;
    return true;
}

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__real_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

char *__real_strdup(const char *s);
char *__wrap_strdup(const char *s);
char *__wrap_strdup(const char *s)
{
    return fails() ? NULL : __real_strdup(s);
}

static void arm(uint64_t n)
{
    failed = false;
    fail_in = n;
}

static void disarm(void)
{
    fail_in = 0;
}

/* An outcome of an armed call: success, or an error that memory explains. */
static bool settled(int rc, const struct err *err)
{
    if (rc != 0 && err->code != ERR_NOMEM && err->code != ERR_INTERNAL)
        fail_msg("without memory: %s: %s", err_name(err->code), err->msg);
    if (rc != 0)
        assert_true(failed);
    return rc == 0;
}

/* ---- One write of each kind, and the reads ---- */

struct facts {
    struct sample_claim claim[2];
    struct sample_evidence evidence[4];
    struct sample_evaluation evaluation;
    struct retraction retraction;
    struct link link;
};

static void facts_make(struct facts *f, uint64_t n)
{
    for (uint64_t i = 0; i < 2; i++)
        sample_claim(&f->claim[i], 2 * n + i);
    for (uint64_t i = 0; i < 4; i++)
        sample_evidence(&f->evidence[i], 2 * n + i % 2, 10 * n + i);
    sample_evaluation(&f->evaluation, n);
    f->retraction = (struct retraction){ .kind = FACT_CLAIM,
                                         .target = claim_id(2 * n + 1),
                                         .reason = (char *)"wrong" };
    f->link = (struct link){ .a = claim_id(2 * n), .b = claim_id(2 * n + 1) };
    if (strcmp(f->link.a.hex, f->link.b.hex) > 0)
        f->link = (struct link){ .a = f->link.b, .b = f->link.a };
}

static void facts_release(struct facts *f)
{
    for (int i = 0; i < 4; i++)
        json_decref(f->evidence[i].features);
    json_decref(f->evaluation.e.assignment);
}

static int facts_commit(struct kb *kb, const struct facts *f, struct err *err)
{
    struct kb_batch *b = kb_batch_new(kb);
    int rc = b ? 0 : err_set(err, ERR_NOMEM, "no batch");

    for (int i = 0; rc == 0 && i < 2; i++)
        rc = kb_batch_add_claim(b, &f->claim[i].c, NULL, err);
    for (int i = 0; rc == 0 && i < 4; i++)
        rc = kb_batch_add_evidence(b, &f->evidence[i].e, NULL, err);
    if (rc == 0)
        rc = kb_batch_add_evaluation(b, &f->evaluation.e, NULL, err);
    if (rc == 0)
        rc = kb_batch_add_retraction(b, &f->retraction, NULL, err);
    if (rc == 0)
        rc = kb_batch_add_link(b, &f->link, NULL, err);
    if (rc == 0)
        rc = kb_commit(b, err);
    kb_batch_free(b);
    return rc;
}

static int read_all(struct kb *kb, const struct id *id, struct err *err)
{
    struct kb_query q = { .text = "tiling the keys", .limit = 3 };
    json_t *answer = NULL;
    struct insight in;
    int rc = kb_get_insight(kb, id->hex, &in, err);

    if (rc == 0)
        insight_release(&in);
    if (rc == 0)
        rc = kb_query(kb, &q, &answer, err);
    json_decref(answer);
    return rc;
}

static void a_commit_without_memory_fails_cleanly_and_can_be_repeated(void **arg)
{
    struct tmp_folder folder;
    struct facts f;
    struct kb *kb;
    struct err err;
    uint64_t n = 0;
    struct id before, after;

    (void)arg;
    folder_make(&folder);
    kb = base_open(folder.path);
    for (bool done = false; !done; n++) {
        facts_make(&f, n);
        arm(n + 1);
        settled(facts_commit(kb, &f, &err), &err);
        disarm();
        done = !failed;
        assert_ok(facts_commit(kb, &f, &err));
        assert_int_equal(kb_last_seq(kb), 9 * (n + 1));
        facts_release(&f);
        assert_true(n < 20000);
    }
    assert_true(n > 30);
    before = digest_of(kb);
    kb_close(kb);
    kb = base_open(folder.path);
    after = digest_of(kb);
    assert_string_equal(before.hex, after.hex);
    kb_close(kb);
    folder_remove(&folder);
}

static void reading_without_memory_fails_cleanly(void **arg)
{
    struct id id = claim_id(0);
    struct tmp_folder folder;
    struct facts f;
    struct kb *kb;
    struct err err;
    uint64_t n = 0;

    (void)arg;
    folder_make(&folder);
    kb = base_open(folder.path);
    for (uint64_t i = 0; i < 20; i++) {
        facts_make(&f, i);
        assert_ok(facts_commit(kb, &f, &err));
        facts_release(&f);
    }
    do {
        arm(++n);
        settled(read_all(kb, &id, &err), &err);
        disarm();
        assert_true(n < 20000);
    } while (failed);
    assert_true(n > 15);
    digest_of(kb);
    kb_close(kb);
    folder_remove(&folder);
}

static void opening_without_memory_fails_cleanly(void **arg)
{
    struct tmp_folder folder;
    struct facts f;
    struct kb *kb;
    struct err err;
    struct id before, after;
    uint64_t n = 0;

    (void)arg;
    folder_make(&folder);
    kb = base_open(folder.path);
    facts_make(&f, 0);
    assert_ok(facts_commit(kb, &f, &err));
    facts_release(&f);
    before = digest_of(kb);
    kb_close(kb);
    do {
        n += n < 60 ? 1 : 7; /* the later ones are many of a kind, and each opens RocksDB */
        kb = NULL;
        arm(n);
        if (settled(base_try_open(folder.path, &kb, &err), &err)) {
            disarm();
            after = digest_of(kb);
            assert_string_equal(before.hex, after.hex);
            kb_close(kb);
        }
        disarm();
        assert_true(n < 20000);
    } while (failed);
    folder_remove(&folder);
}

/* Snapshots that could not be written cost time at the next opening, and nothing else. */
static void closing_without_memory_loses_nothing(void **arg)
{
    struct tmp_folder folder;
    struct facts f;
    struct kb *kb;
    struct err err;
    struct id before, after;
    uint64_t n = 0;

    (void)arg;
    folder_make(&folder);
    do {
        n++;
        kb = base_open(folder.path);
        facts_make(&f, n);
        assert_ok(facts_commit(kb, &f, &err));
        facts_release(&f);
        before = digest_of(kb);
        arm(n);
        kb_close(kb);
        disarm();
        kb = base_open(folder.path);
        after = digest_of(kb);
        assert_string_equal(before.hex, after.hex);
        kb_close(kb);
        assert_true(n < 200);
    } while (failed);
    folder_remove(&folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_commit_without_memory_fails_cleanly_and_can_be_repeated),
        cmocka_unit_test(reading_without_memory_fails_cleanly),
        cmocka_unit_test(opening_without_memory_fails_cleanly),
        cmocka_unit_test(closing_without_memory_loses_nothing),
    };

    json_set_alloc_funcs(__wrap_malloc, free);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
