/* SPDX-License-Identifier: Apache-2.0 */
/* Several threads on one base: commits by some, reads of every kind by others. */
#include <pthread.h>
#include <stdatomic.h>

#include "kb_fixture.h"

enum { WRITERS = 3, READERS = 3, TURNS = 40 };

struct shared {
    struct kb *kb;
    _Atomic int failures, writing;
    _Atomic uint64_t next_claim;
};

static void check(struct shared *s, bool ok)
{
    if (!ok)
        s->failures++; /* cmocka's assertions belong to the main thread */
}

static void *write_turns(void *arg)
{
    struct shared *s = arg;
    struct kb_batch *b = kb_batch_new(s->kb);
    struct err err;

    for (int i = 0; i < TURNS; i++) {
        uint64_t n = s->next_claim++;
        struct sample_claim c;
        struct sample_evidence e;

        check(s, kb_batch_add_claim(b, sample_claim(&c, n), NULL, &err) == 0);
        for (uint64_t k = 0; k < 3; k++) {
            sample_evidence(&e, n / 2, n * 10 + k);
            check(s, kb_batch_add_evidence(b, &e.e, NULL, &err) == 0);
            json_decref(e.features);
        }
        check(s, kb_commit(b, &err) == 0);
    }
    kb_batch_free(b);
    s->writing--;
    return NULL;
}

/* What a reader sees of an insight fits together at any moment. */
static int check_insight(void *ctx, const struct insight *in)
{
    struct shared *s = ctx;

    check(s, in->n_evidence == (size_t)in->all.blind + in->all.steered + in->all.failures);
    check(s, in->claim.technique != NULL && in->condition != NULL);
    return 0;
}

static void *read_turns(void *arg)
{
    struct shared *s = arg;
    struct kb_query q = { .text = "tiling keys first cache", .limit = 5 };
    struct err err;

    do {
        json_t *answer = NULL;
        struct kb_stats stats;
        uint64_t before = kb_last_seq(s->kb);

        check(s, kb_each_insight(s->kb, check_insight, s) == 0);
        check(s, kb_query(s->kb, &q, &answer, &err) == 0);
        check(s, kb_get_stats(s->kb, &stats, &err) == 0);
        check(s, stats.last_seq >= before);
        check(s, stats.facts[FACT_CLAIM] == stats.insights);
        json_decref(answer);
    } while (s->writing > 0);
    return NULL;
}

static void commits_and_reads_go_on_together(void **arg)
{
    pthread_t threads[WRITERS + READERS];
    struct shared s = { .writing = WRITERS };
    struct tmp_folder f;
    struct kb_stats stats;
    struct err err;

    (void)arg;
    folder_make(&f);
    s.kb = base_open(f.path);
    for (int i = 0; i < WRITERS + READERS; i++)
        assert_int_equal(
            pthread_create(&threads[i], NULL, i < WRITERS ? write_turns : read_turns, &s), 0);
    for (int i = 0; i < WRITERS + READERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(s.failures, 0);
    assert_ok(kb_get_stats(s.kb, &stats, &err));
    assert_int_equal(stats.insights, WRITERS * TURNS);
    assert_int_equal(stats.last_seq, WRITERS * TURNS * 4);
    digest_of(s.kb);
    kb_close(s.kb);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(commits_and_reads_go_on_together) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
