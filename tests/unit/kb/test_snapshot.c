/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot of derived state: a base opened from it, from it and newer facts, and from the facts
 * alone is the same; whatever is wrong with it is noticed and costs nothing but time. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/jsonx.h"
#include "kb_fixture.h"
#include "snapfile.h"

enum { CLAIMS = 60, PIECES = 240, QUERIES = 200, FEW_QUERIES = 10 };

struct scene {
    struct tmp_folder f;
    struct heard heard;
    struct kb *kb;
    struct kb_batch *b;
};

static void scene_open(struct scene *s)
{
    struct kb_options o = {
        .dir = s->f.path, .clock = clock_system(), .notice = hear, .notice_ctx = &s->heard
    };
    struct err err;

    s->heard = (struct heard){ .n = 0 };
    assert_ok(kb_open(&o, &s->kb, &err));
    s->b = kb_batch_new(s->kb);
    assert_non_null(s->b);
}

static void scene_close(struct scene *s)
{
    kb_batch_free(TAKE(s->b));
    kb_close(TAKE(s->kb));
}

static void reopen(struct scene *s)
{
    scene_close(s);
    scene_open(s);
}

static void put_foreign(struct scene *s, uint64_t claim, uint64_t n)
{
    struct err err;

    assert_ok(kb_batch_set_origin(s->b, "elsewhere", &err));
    put_evidence(s->b, claim, n);
    assert_ok(kb_batch_set_origin(s->b, NULL, &err));
}

/* Every kind of fact, and every kind of thing that is withdrawn, linked, foreign or not there yet.
 */
static void scene_fill(struct scene *s)
{
    struct sample_claim near;
    struct err err;
    struct id id;

    for (uint64_t i = 0; i < CLAIMS; i++)
        put_claim(s->b, i);
    for (uint64_t i = 0; i < PIECES; i++) {
        id = put_evidence(s->b, i % 7 == 0 ? 3 : i % CLAIMS, i);
        if (i % 40 == 5)
            put_retraction(s->b, FACT_EVIDENCE, id);
        if (i % 10 == 0)
            put_evaluation(s->b, i);
    }
    commit(s->b);
    for (uint64_t i = 0; i < 20; i++)
        put_foreign(s, i % 5, 1000 + i);
    put_evidence(s->b, CLAIMS + 5, 2000); /* claims that are not there */
    put_link(s->b, 8, CLAIMS + 6);
    put_link(s->b, 10, 11);
    put_link(s->b, 11, 12);
    put_retraction(s->b, FACT_CLAIM, claim_id(20));
    put_retraction(s->b, FACT_EVIDENCE, id_of_number("nothing", 1));
    sample_claim(&near, 30);
    str_copy(near.statement, sizeof(near.statement),
             "Tiling the keys by 30 keeps them in its first cache.");
    assert_ok(kb_batch_add_claim(s->b, &near.c, NULL, &err));
    commit(s->b);
}

static void scene_begin(struct scene *s)
{
    folder_make(&s->f);
    scene_open(s);
    assert_int_equal(s->heard.n, 0);
    scene_fill(s);
}

static void scene_end(struct scene *s)
{
    scene_close(s);
    folder_remove(&s->f);
}

/* ---- What a base says ---- */

static void show_sums(struct buf *out, const char *key, const struct insight_sums *s)
{
    CLEANUP(freep)
    char *text =
        str_printf(" %s:%u,%u,%u,%u,%u,%jd,%jd,%ju,%ju,%ju", key, s->blind, s->steered, s->positive,
                   s->negative, s->failures, (intmax_t)s->effect_q, (intmax_t)s->blind_q,
                   (uintmax_t)s->effect_sq_q, (uintmax_t)s->first_s, (uintmax_t)s->last_s);
    struct err err;

    assert_ok(buf_adds(out, text, &err));
}

static int show_insight(void *ctx, const struct insight *in)
{
    CLEANUP(freep)
    char *text =
        str_printf("\n%s %s %u %ju %ju %d %s '%s' %d %zu %s %s", in->id.hex, in->claim.statement,
                   in->ordinal, (uintmax_t)in->seq, (uintmax_t)in->recorded_at_ns, (int)in->state,
                   in->same_as.hex, in->condition, in->contradicted, in->n_evidence,
                   in->claim.requires, in->claim.without_value);
    struct buf *out = ctx;
    struct err err;

    assert_ok(buf_adds(out, text, &err));
    show_sums(out, "all", &in->all);
    for (size_t i = 0; i < in->n_cells; i++)
        show_sums(out, in->cells[i].key, &in->cells[i].sums);
    for (size_t i = 0; i < in->n_foreign; i++) {
        struct insight_sums sums = in->foreign[i].sums;

        /* When foreign evidence becomes local, its times are not taken back, nor empty cells. */
        sums.first_s = sums.last_s = 0;
        if (sums.blind + sums.steered + sums.failures == 0)
            continue;
        show_sums(out, in->foreign[i].key, &sums);
    }
    for (size_t i = 0; i < in->n_failures; i++) {
        assert_ok(buf_adds(out, in->failures[i].class, &err));
        assert_ok(buf_adds(out, in->failures[i].newest.hex, &err));
    }
    for (size_t i = 0; i < in->n_evidence; i++)
        assert_ok(buf_adds(out, in->evidence[i].hex, &err));
    return 0;
}

static void show_answers(struct buf *out, struct kb *kb, uint64_t queries)
{
    static const char *const families[] = { NULL, "gqa_paged_decode", "trimul" };
    static const char *const classes[] = { NULL, "cpu-avx2", "sm_90", "cpu-avx512" };
    struct err err;

    for (uint64_t i = 0; i < queries; i++) {
        CLEANUP(freep) char *text = str_printf("tiling the keys by %ju in a cache", (uintmax_t)i);
        struct kb_query q = { .text = text,
                              .limit = 1 + i % 20,
                              .family = families[i % 3],
                              .device_class = classes[i % 4],
                              .device = i % 5 == 0 ? "cpu" : NULL,
                              .technique = i % 11 == 0 ? "tiling" : NULL,
                              .explain = i % 2 };
        CLEANUP(freep) char *dump = NULL;
        json_auto_t *answer = NULL;

        assert_ok(kb_query(kb, &q, &answer, &err));
        json_object_del(answer, "took_us");
        dump = json_dumps(answer, JSON_SORT_KEYS);
        assert_ok(buf_adds(out, dump, &err));
    }
}

/* All of it as text, with the answers to some questions. */
static char *said_to(struct kb *kb, uint64_t queries)
{
    struct buf out = { .max = 64 << 20 };
    struct id digest = digest_of(kb);
    struct kb_stats stats;
    struct err err;

    assert_ok(buf_adds(&out, digest.hex, &err));
    assert_ok(kb_each_insight(kb, show_insight, &out));
    show_answers(&out, kb, queries);
    assert_ok(kb_get_stats(kb, &stats, &err));
    for (int k = 0; k < FACT_COUNT; k++) {
        CLEANUP(freep) char *n = str_printf(" %ju", (uintmax_t)stats.facts[k]);

        assert_ok(buf_adds(&out, n, &err));
    }
    return (char *)out.data;
}

static char *said(struct kb *kb)
{
    return said_to(kb, QUERIES);
}

static void expect_equal(const char *now, const char *want)
{
    if (strcmp(now, want) != 0) {
        size_t at = 0;

        while (now[at] == want[at])
            at++;
        at -= MIN(at, (size_t)80);
        fail_msg("the base says '%.200s' in place of '%.200s'", now + at, want + at);
    }
}

static void expect_said(struct scene *s, const char *want)
{
    CLEANUP(freep) char *now = said(s->kb);

    expect_equal(now, want);
}

/* ---- The file ---- */

static const char *file_of(const struct scene *s, const char *name)
{
    static char path[128];

    snprintf(path, sizeof(path), "%s/%s", s->f.path, name);
    return path;
}

static void keep_file(const struct scene *s, struct buf *out)
{
    struct err err;

    *out = (struct buf){ .max = 64 << 20 };
    assert_ok(file_read(file_of(s, SNAP_NAME), out, &err));
}

static void put_file(const struct scene *s, const void *data, size_t len)
{
    struct err err;

    assert_ok(file_write(file_of(s, SNAP_NAME), data, len, 0600, &err));
}

/* Opens it with an older snapshot, as after a crash. */
static void scene_crash(struct scene *s, const struct buf *old)
{
    scene_close(s);
    put_file(s, old->data, old->len);
    scene_open(s);
}

/* ---- Tests ---- */

static void a_base_is_the_same_with_and_without_its_snapshot(void **arg)
{
    struct scene s;
    CLEANUP(freep) char *before = NULL;

    (void)arg;
    scene_begin(&s);
    before = said(s.kb);
    for (int i = 0; i < 3; i++) {
        reopen(&s);
        assert_int_equal(s.heard.n, 0);
        expect_said(&s, before);
    }
    scene_close(&s);
    assert_int_equal(unlink(file_of(&s, SNAP_NAME)), 0);
    scene_open(&s);
    assert_int_equal(s.heard.n, 1);
    assert_non_null(strstr(s.heard.last, "because it is missing; 61 insights were folded"));
    expect_said(&s, before);
    scene_end(&s);
}

/* Changes things that the snapshot holds, and adds others. */
static void scene_change(struct scene *s, uint64_t n)
{
    struct id id = put_evidence(s->b, 2, 3000 + n);

    for (uint64_t i = 0; i < 10; i++)
        put_evidence(s->b, i, 3100 + 20 * n + i);
    put_claim(s->b, CLAIMS + 5); /* its evidence waited */
    put_claim(s->b, CLAIMS + 6); /* its link did */
    put_claim(s->b, CLAIMS + 100 + n);
    put_evidence(s->b, CLAIMS + 100 + n, 3500 + n);
    put_link(s->b, 40 + n, 41 + n);
    commit(s->b);
    put_retraction(s->b, FACT_EVIDENCE, id);
    put_retraction(s->b, FACT_CLAIM, claim_id(50 + n));
    put_foreign(s, 6, 4000 + n);
    put_evaluation(s->b, 5000 + n);
    commit(s->b);
}

/* The snapshot of before, as after a crash. */
static void newer_facts_are_folded_on_top(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct buf old;
    struct scene s;

    (void)arg;
    scene_begin(&s);
    scene_close(&s);
    keep_file(&s, &old);
    scene_open(&s);
    scene_change(&s, 0);
    scene_change(&s, 1);
    want = said(s.kb);
    scene_crash(&s, &old);
    assert_int_equal(s.heard.n, 0);
    expect_said(&s, want);
    scene_change(&s, 2); /* and it goes on from there */
    free(TAKE(want));
    want = said(s.kb);
    scene_close(&s);
    assert_int_equal(unlink(file_of(&s, SNAP_NAME)), 0);
    scene_open(&s);
    expect_said(&s, want);
    buf_release(&old);
    scene_end(&s);
}

/* A withdrawal of evidence that the snapshot has folded. */
static void old_evidence_is_withdrawn_by_a_newer_fact(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct buf old;
    struct scene s;
    struct id id;

    (void)arg;
    folder_make(&s.f);
    scene_open(&s);
    scene_fill(&s);
    id = put_evidence(s.b, 2, 7000);
    commit(s.b);
    scene_close(&s);
    keep_file(&s, &old);
    scene_open(&s);
    put_retraction(s.b, FACT_EVIDENCE, id);
    commit(s.b);
    want = said(s.kb);
    scene_crash(&s, &old);
    assert_int_equal(s.heard.n, 0);
    expect_said(&s, want);
    buf_release(&old);
    scene_end(&s);
}

static void facts_that_became_local_make_it_stale(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct buf old;
    struct scene s;

    (void)arg;
    scene_begin(&s);
    scene_close(&s);
    keep_file(&s, &old);
    scene_open(&s);
    put_evidence(s.b, 0, 1000); /* came from elsewhere before */
    commit(s.b);
    want = said(s.kb);
    reopen(&s);
    assert_int_equal(s.heard.n, 0); /* closing wrote it anew */
    expect_said(&s, want);
    scene_crash(&s, &old);
    assert_int_equal(s.heard.n, 1);
    assert_non_null(strstr(s.heard.last, "became local"));
    expect_said(&s, want);
    buf_release(&old);
    scene_end(&s);
}

/* Whether the container takes the file; what is wrong must be told. */
static bool container_takes(const struct scene *s)
{
    struct err err = { 0 };
    struct snap snap;
    bool ok = snap_open(s->f.path, &snap, &err) == 0 && snap_read(&snap, &err) == 0;

    snap_release(&snap);
    if (!ok && (err.code != ERR_CORRUPT || err.msg[0] == '\0'))
        fail_msg("a damaged snapshot gives %s: %s", err_name(err.code), err.msg);
    return ok;
}

/* `want` is what said_to with few questions gave. */
static void opens_without(struct scene *s, const char *want)
{
    CLEANUP(freep) char *now = NULL;

    scene_open(s);
    assert_int_equal(s->heard.n, 1);
    assert_non_null(strstr(s->heard.last, "The snapshot of derived state"));
    assert_non_null(strstr(s->heard.last, "is not used, because"));
    now = said_to(s->kb, FEW_QUERIES);
    expect_equal(now, want);
    scene_close(s);
}

static void flip(struct scene *s, struct buf *file, size_t at)
{
    file->data[at] ^= 0x10;
    put_file(s, file->data, file->len);
    file->data[at] ^= 0x10;
}

static void a_flipped_bit_anywhere_is_noticed(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct buf file;
    struct snap snap;
    struct scene s;
    struct err err;

    (void)arg;
    scene_begin(&s);
    want = said_to(s.kb, FEW_QUERIES);
    scene_close(&s);
    keep_file(&s, &file);
    assert_true(container_takes(&s));
    assert_ok(snap_open(s.f.path, &snap, &err));
    for (size_t at = 0; at < file.len; at += 1 + file.len / 600) {
        flip(&s, &file, at);
        assert_false(container_takes(&s));
    }
    for (int i = 0; i < SNAP_SECTIONS; i++) {
        if (snap.sections[i].len == 0)
            fail_msg("section %d is empty: this test would not touch it", i);
        flip(&s, &file, 4096 + snap.sections[i].offset + snap.sections[i].len / 2);
        assert_false(container_takes(&s));
        opens_without(&s, want);
    }
    snap_release(&snap);
    buf_release(&file);
    folder_remove(&s.f);
}

static void a_cut_file_is_noticed(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct buf file;
    struct scene s;

    (void)arg;
    scene_begin(&s);
    want = said_to(s.kb, FEW_QUERIES);
    scene_close(&s);
    keep_file(&s, &file);
    for (size_t at = 0; at < file.len; at += 1 + file.len / 100) {
        put_file(&s, file.data, at);
        assert_false(container_takes(&s));
    }
    for (size_t part = 0; part < 4; part++) {
        put_file(&s, file.data, file.len * part / 4);
        opens_without(&s, want);
    }
    put_file(&s, file.data, file.len - 1);
    opens_without(&s, want);
    buf_release(&file);
    folder_remove(&s.f);
}

/* The same sections under another subject. */
static void write_as(struct scene *s, void (*change)(struct snap_subject *))
{
    struct snap_subject subject;
    struct snap_writer *w;
    struct snap snap;
    struct err err;

    assert_ok(snap_open(s->f.path, &snap, &err));
    assert_ok(snap_read(&snap, &err));
    subject = snap.subject;
    change(&subject);
    assert_ok(snap_create(s->f.path, &w, &err));
    for (int i = 0; i < SNAP_SECTIONS; i++) {
        snap_begin(w, (enum snap_section)i);
        snap_put(w, snap.data + snap.sections[i].offset, snap.sections[i].len);
    }
    assert_ok(snap_finish(w, &subject, &err));
    snap_writer_free(w);
    snap_release(&snap);
}

static void as_is(struct snap_subject *s)
{
    (void)s;
}

static void other_base(struct snap_subject *s)
{
    s->base[0] = s->base[0] == 'a' ? 'b' : 'a';
}

static void other_layout(struct snap_subject *s)
{
    s->layout++;
}

static void other_vocabulary(struct snap_subject *s)
{
    s->vocab++;
}

static void other_model(struct snap_subject *s)
{
    str_copy(s->model, sizeof(s->model), "builtin-0");
}

static void other_schema(struct snap_subject *s)
{
    s->schema++;
}

static void from_the_future(struct snap_subject *s)
{
    s->seq += 1000;
}

static void other_history(struct snap_subject *s)
{
    s->history++;
}

static void a_snapshot_of_something_else_is_not_used(void **arg)
{
    static const struct {
        void (*change)(struct snap_subject *);
        const char *why;
    } cases[] = {
        { other_base, "it is of another knowledge base" },
        { other_layout, "another build of this program wrote it" },
        { other_vocabulary, "another vocabulary" },
        { other_model, "another vocabulary" },
        { other_schema, "it is of schema 2, not 1" },
        { from_the_future, "and the base ends at" },
        { other_history, "its facts are not those of the base" },
    };
    CLEANUP(freep) char *want = NULL;
    CLEANUP(freep) char *now = NULL;
    struct buf file;
    struct scene s;

    (void)arg;
    scene_begin(&s);
    want = said_to(s.kb, FEW_QUERIES);
    scene_close(&s);
    write_as(&s, as_is);
    scene_open(&s);
    assert_int_equal(s.heard.n, 0);
    now = said_to(s.kb, FEW_QUERIES);
    expect_equal(now, want);
    scene_close(&s);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        write_as(&s, cases[i].change);
        opens_without(&s, want);
        if (strstr(s.heard.last, cases[i].why) == NULL)
            fail_msg("'%s' lacks '%s'", s.heard.last, cases[i].why);
    }
    keep_file(&s, &file);
    file.data[8]++; /* the format's number */
    put_file(&s, file.data, file.len);
    opens_without(&s, want);
    assert_non_null(strstr(s.heard.last, "its format is 2, not 1"));
    buf_release(&file);
    folder_remove(&s.f);
}

/* A copy that went on by itself has the same identity and other facts under the same numbers. */
static void a_snapshot_of_another_history_is_not_used(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct scene s, copy = { .kb = NULL };
    struct buf file;
    struct err err;

    (void)arg;
    scene_begin(&s);
    folder_make(&copy.f);
    assert_int_equal(rmdir(copy.f.path), 0);
    assert_ok(kb_backup(s.kb, copy.f.path, &err));
    scene_change(&s, 0);
    scene_close(&s);
    keep_file(&s, &file);
    scene_open(&copy);
    scene_change(&copy, 1);
    scene_change(&copy, 2);
    want = said_to(copy.kb, FEW_QUERIES);
    scene_close(&copy);
    put_file(&copy, file.data, file.len);
    opens_without(&copy, want);
    assert_non_null(strstr(copy.heard.last, "its facts are not those of the base"));
    buf_release(&file);
    folder_remove(&copy.f);
    folder_remove(&s.f);
}

static void what_a_crash_left_is_written_over(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct scene s;
    struct err err;

    (void)arg;
    scene_begin(&s);
    assert_ok(file_write(file_of(&s, SNAP_NAME ".tmp"), "half", 4, 0600, &err));
    want = said(s.kb);
    reopen(&s);
    assert_int_equal(s.heard.n, 0);
    assert_false(file_exists(file_of(&s, SNAP_NAME ".tmp")));
    expect_said(&s, want);
    scene_end(&s);
}

static void the_old_one_stays_when_it_cannot_be_written(void **arg)
{
    CLEANUP(freep) char *want = NULL;
    struct scene s;
    struct err err;

    (void)arg;
    scene_begin(&s);
    scene_close(&s);
    scene_open(&s);
    scene_change(&s, 0);
    scene_change(&s, 1);
    want = said(s.kb);
    assert_ok(file_mkdirs(file_of(&s, SNAP_NAME ".tmp"), &err)); /* in the way */
    scene_close(&s);
    assert_non_null(strstr(s.heard.last, "the snapshot of derived state was not written"));
    scene_open(&s);
    assert_int_equal(s.heard.n, 0); /* the old one, and what is newer */
    expect_said(&s, want);
    scene_end(&s);
}

/* Little was added: the snapshot is good enough as it is. */
static void it_is_not_written_for_little(void **arg)
{
    struct stat before, after;
    struct scene s;

    (void)arg;
    scene_begin(&s);
    scene_close(&s);
    assert_int_equal(stat(file_of(&s, SNAP_NAME), &before), 0);
    scene_open(&s);
    put_evidence(s.b, 1, 6000);
    commit(s.b);
    scene_close(&s);
    assert_int_equal(stat(file_of(&s, SNAP_NAME), &after), 0);
    assert_true(before.st_ino == after.st_ino);
    scene_open(&s);
    scene_change(&s, 0);
    scene_change(&s, 1);
    scene_close(&s);
    assert_int_equal(stat(file_of(&s, SNAP_NAME), &after), 0);
    assert_true(before.st_ino != after.st_ino);
    folder_remove(&s.f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_base_is_the_same_with_and_without_its_snapshot),
        cmocka_unit_test(newer_facts_are_folded_on_top),
        cmocka_unit_test(old_evidence_is_withdrawn_by_a_newer_fact),
        cmocka_unit_test(facts_that_became_local_make_it_stale),
        cmocka_unit_test(a_flipped_bit_anywhere_is_noticed),
        cmocka_unit_test(a_cut_file_is_noticed),
        cmocka_unit_test(a_snapshot_of_something_else_is_not_used),
        cmocka_unit_test(a_snapshot_of_another_history_is_not_used),
        cmocka_unit_test(what_a_crash_left_is_written_over),
        cmocka_unit_test(the_old_one_stays_when_it_cannot_be_written),
        cmocka_unit_test(it_is_not_written_for_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
