/* SPDX-License-Identifier: Apache-2.0 */
/* Packs between bases: closure, filters, what stays behind, origins, and that order does not
 * matter. */
#include "kb_fixture.h"

#include <fcntl.h>

#include "base/jsonx.h"
#include "exchange.h"
#include "keys.h"
#include "packfile.h"

struct base {
    struct tmp_folder f;
    struct kb *kb;
};

static void base_make(struct base *b)
{
    folder_make(&b->f);
    b->kb = base_open(b->f.path);
}

static void base_remove(struct base *b)
{
    kb_close(b->kb);
    folder_remove(&b->f);
}

static void trust(const struct base *who, const struct base *whom)
{
    struct public_key k;
    struct err err;

    assert_ok(keys_own(whom->f.path, &k, &err));
    snprintf(k.name, sizeof(k.name), "%.12s", k.fingerprint.hex);
    assert_ok(keys_trust(who->f.path, &k, &err));
}

/* An unnamed file with a pack; the report goes to *report (owned) unless it is NULL. */
static int export(const struct base *b, const struct exchange_filter *filter,
                  const struct screen *screen, json_t **report)
{
    char path[] = "/tmp/ks-pack-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    struct exchange_export o = { .embedding = "builtin-1", .dir = b->f.path, .now_s = 1 };
    json_t *r = NULL;
    struct err err = { 0 };

    assert_true(fd >= 0);
    unlink(path);
    if (filter)
        o.filter = *filter;
    if (screen)
        o.screen = *screen;
    assert_ok(exchange_export(b->kb, &o, fd, &r, &err));
    if (report)
        *report = r;
    else
        json_decref(r);
    return fd;
}

static json_t *import(const struct base *b, int fd)
{
    struct err err = { 0 };
    json_t *r = NULL;

    assert_ok(exchange_import(b->kb, b->f.path, fd, &r, &err));
    return r;
}

static long count_of(const json_t *report, const char *group, const char *what)
{
    return (long)jsonx_int(json_object_get(report, group), what, -1);
}

/* Two evaluations by number, and evidence for claim `claim` that refers to them. */
static void put_pair(struct kb_batch *b, uint64_t claim, uint64_t n, const char *task,
                     uint64_t at_s)
{
    struct sample_evaluation s;
    struct sample_evidence e;
    struct evidence pair;
    struct err err;
    struct id with, without;

    sample_evaluation(&s, 1000 + 2 * n);
    s.e.task = (char *)(uintptr_t)task;
    s.e.measured_at_s = at_s;
    assert_ok(kb_batch_add_evaluation(b, &s.e, &with, &err));
    json_decref(s.e.assignment);
    sample_evaluation(&s, 1001 + 2 * n);
    s.e.task = (char *)(uintptr_t)task;
    s.e.measured_at_s = at_s;
    assert_ok(kb_batch_add_evaluation(b, &s.e, &without, &err));
    json_decref(s.e.assignment);
    pair = *sample_evidence(&e, claim, 5 * n); /* no failure */
    pair.with = with;
    pair.without = without;
    pair.task = (char *)(uintptr_t)task;
    pair.measured_at_s = at_s;
    assert_ok(kb_batch_add_evidence(b, &pair, NULL, &err));
    json_decref(e.features);
}

static void fill(const struct base *b, uint64_t from, uint64_t to)
{
    struct kb_batch *batch = kb_batch_new(b->kb);

    for (uint64_t n = from; n < to; n++) {
        put_claim(batch, n);
        put_pair(batch, n, n, n % 2 ? "odd" : "even", 1700000000 + n);
    }
    commit(batch);
    kb_batch_free(batch);
}

static void packs_in_any_order_make_equal_bases(void **state)
{
    struct base a, b, c;
    int from_a, from_b;
    json_t *r;

    (void)state;
    base_make(&a);
    base_make(&b);
    base_make(&c);
    fill(&a, 0, 30);
    fill(&b, 20, 50);
    trust(&a, &b);
    trust(&b, &a);
    trust(&c, &a);
    trust(&c, &b);
    from_a = export(&a, NULL, NULL, NULL);
    from_b = export(&b, NULL, NULL, NULL);
    r = import(&a, from_b);
    assert_int_equal(count_of(r, "facts", "new"), 20 * 4);
    assert_int_equal(count_of(r, "facts", "known"), 10 * 4);
    assert_int_equal(count_of(r, "facts", "refused"), 0);
    json_decref(r);
    json_decref(import(&b, from_a));
    json_decref(import(&c, from_b));
    json_decref(import(&c, from_a));
    r = import(&c, from_b);
    assert_int_equal(count_of(r, "facts", "new"), 0);
    json_decref(r);
    assert_string_equal(digest_of(a.kb).hex, digest_of(b.kb).hex);
    assert_string_equal(digest_of(a.kb).hex, digest_of(c.kb).hex);
    close(from_a);
    close(from_b);
    base_remove(&a);
    base_remove(&b);
    base_remove(&c);
}

static struct id any_evidence(struct kb *kb, uint64_t claim)
{
    struct insight in;
    struct err err;
    struct id id;

    assert_ok(kb_get_insight(kb, claim_id(claim).hex, &in, &err));
    assert_true(in.n_evidence > 0);
    id = in.evidence[0];
    insight_release(&in);
    return id;
}

static void facts_keep_who_brought_them(void **state)
{
    char origin[KB_ORIGIN_MAX + 1];
    struct public_key key;
    struct base a, b;
    struct err err;
    int fd;

    (void)state;
    base_make(&a);
    base_make(&b);
    fill(&a, 0, 4);
    fill(&b, 3, 4);
    trust(&b, &a);
    fd = export(&a, NULL, NULL, NULL);
    json_decref(import(&b, fd));
    assert_ok(keys_own(a.f.path, &key, &err));
    struct id foreign = any_evidence(b.kb, 0), own = any_evidence(b.kb, 3);
    assert_ok(kb_fact_origin(b.kb, &foreign, origin, &err));
    assert_string_equal(origin, key.fingerprint.hex);
    assert_ok(kb_fact_origin(b.kb, &own, origin, &err));
    assert_string_equal(origin, "");
    /* what comes home in a pack of one's own is one's own */
    json_decref(import(&a, fd));
    foreign = any_evidence(a.kb, 0);
    assert_ok(kb_fact_origin(a.kb, &foreign, origin, &err));
    assert_string_equal(origin, "");
    close(fd);
    base_remove(&a);
    base_remove(&b);
}

static void an_unknown_signer_and_damage_store_nothing(void **state)
{
    struct base a, b;
    struct id before;
    json_t *r = NULL;
    struct err err = { 0 };
    off_t len;
    int fd;

    (void)state;
    base_make(&a);
    base_make(&b);
    fill(&a, 0, 20);
    before = digest_of(b.kb);
    fd = export(&a, NULL, NULL, NULL);
    assert_fails(exchange_import(b.kb, b.f.path, fd, &r, &err), ERR_REFUSED);
    assert_non_null(strstr(err.msg, "key trust FILE"));
    trust(&b, &a);
    len = lseek(fd, 0, SEEK_END);
    for (off_t at = 20; at < len; at += len / 9) {
        char was, other;

        assert_int_equal(pread(fd, &was, 1, at), 1);
        other = (char)(was ^ 1);
        assert_int_equal(pwrite(fd, &other, 1, at), 1);
        assert_int_equal(exchange_import(b.kb, b.f.path, fd, &r, &err), -1);
        assert_int_equal(pwrite(fd, &was, 1, at), 1);
    }
    assert_int_equal(ftruncate(fd, len - 10), 0);
    assert_fails(exchange_import(b.kb, b.f.path, fd, &r, &err), ERR_CORRUPT);
    assert_string_equal(digest_of(b.kb).hex, before.hex);
    assert_int_equal(kb_last_seq(b.kb), 0);
    close(fd);
    base_remove(&a);
    base_remove(&b);
}

static void filters_bring_what_belongs_together(void **state)
{
    struct exchange_filter task = { .task = "odd" }, since = { .since_s = 1700000016 },
                           claims = { .task = "even", .claims_only = true },
                           bare = { .no_evaluations = true }, none = { .technique = "fusion" },
                           family = { .family = "gqa_paged_decode" };
    const struct {
        const struct exchange_filter *f;
        int claims, evidence, evaluations;
    } rows[] = { { &task, 10, 10, 20 }, { &since, 4, 4, 8 }, { &claims, 10, 0, 0 },
                 { &bare, 20, 20, 0 },  { &none, 0, 0, 0 },  { &family, 20, 20, 40 } };
    struct base a;

    (void)state;
    base_make(&a);
    fill(&a, 0, 20);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_t *r;
        int fd = export(&a, rows[i].f, NULL, &r);

        assert_int_equal(count_of(r, "facts", "claim"), rows[i].claims);
        assert_int_equal(count_of(r, "facts", "evidence"), rows[i].evidence);
        assert_int_equal(count_of(r, "facts", "evaluation"), rows[i].evaluations);
        json_decref(r);
        close(fd);
    }
    base_remove(&a);
}

static void equal_facts_make_equal_bodies(void **state)
{
    json_t *first, *again;
    struct base a, b;
    int fd, second;

    (void)state;
    base_make(&a);
    base_make(&b);
    fill(&a, 0, 10);
    fill(&b, 5, 10); /* in another order */
    fill(&b, 0, 5);
    fd = export(&a, NULL, NULL, &first);
    second = export(&b, NULL, NULL, &again);
    assert_string_equal(jsonx_str(first, "sha256", "1"), jsonx_str(again, "sha256", "2"));
    json_decref(first);
    json_decref(again);
    close(fd);
    close(second);
    base_remove(&a);
    base_remove(&b);
}

static void retractions_and_links_go_with_their_claims(void **state)
{
    struct exchange_filter odd = { .task = "odd" };
    struct kb_batch *batch;
    struct base a;
    json_t *r;

    (void)state;
    base_make(&a);
    fill(&a, 0, 8);
    batch = kb_batch_new(a.kb);
    put_retraction(batch, FACT_CLAIM, claim_id(1));
    put_retraction(batch, FACT_CLAIM, claim_id(2));
    put_link(batch, 3, 5);
    put_link(batch, 3, 4);
    commit(batch);
    kb_batch_free(batch);
    close(export(&a, &odd, NULL, &r));
    assert_int_equal(count_of(r, "facts", "retraction"), 1);
    assert_int_equal(count_of(r, "facts", "link"), 1);
    json_decref(r);
    close(export(&a, NULL, NULL, &r));
    assert_int_equal(count_of(r, "facts", "retraction"), 2);
    assert_int_equal(count_of(r, "facts", "link"), 2);
    json_decref(r);
    base_remove(&a);
}

static void put_statement(struct kb_batch *b, const char *statement)
{
    struct sample_claim s;
    struct err err;

    sample_claim(&s, 7);
    s.c.statement = (char *)(uintptr_t)statement;
    assert_ok(kb_batch_add_claim(b, &s.c, NULL, &err));
}

static void what_gives_something_away_stays_and_is_named(void **state)
{
    static const char *const hosts[] = { "athena" }, *const instances[] = { "b16_ragged" };
    const struct screen screen = { hosts, 1, instances, 1 };
    static const char *const bad[] = { "As in /home/ada/kernel.c.", "Measured on athena.",
                                       "Only for b16_ragged.", "Ask ada@example.org.",
                                       "sk-abcdefghijklmnopqrst" };
    struct kb_batch *batch;
    json_t *r, *item;
    struct base a;
    size_t i;

    (void)state;
    base_make(&a);
    batch = kb_batch_new(a.kb);
    put_statement(batch, "Tiles of 64 keys fit the cache.");
    for (i = 0; i < ARRAY_LEN(bad); i++)
        put_statement(batch, bad[i]);
    put_pair(batch, 7, 1, "odd", 1700000000);
    commit(batch);
    kb_batch_free(batch);
    close(export(&a, NULL, &screen, &r));
    assert_int_equal(count_of(r, "facts", "claim"), 1);
    assert_int_equal(jsonx_int(r, "left_out", 0), (int)ARRAY_LEN(bad));
    assert_int_equal(json_array_size(json_object_get(r, "named")), ARRAY_LEN(bad));
    json_array_foreach (json_object_get(r, "named"), i, item) {
        assert_string_equal(jsonx_str(item, "kind", ""), "claim");
        assert_true(str_is_hex(jsonx_str(item, "id", ""), ID_HEX));
        assert_true(*jsonx_str(item, "why", "") != '\0');
    }
    json_decref(r);
    base_remove(&a);
}

/* A device that is probed here, with what belongs to the machine, and a program by its address. */
static struct id put_documents(struct base *b, const char *path_in_source)
{
    struct kb_batch *batch = kb_batch_new(b->kb);
    json_t *device =
        json_pack("{s:s, s:s, s:s, s:[s], s:i, s:b, s:i, s:s, s:s}", "name", "cpu", "kind", "cpu",
                  "class", "cpu-avx512", "features", "avx2", "cores", 8, "probed", 1, "probed_at",
                  1700000000, "host", "athena", "serial", "4711");
    json_t *program =
        json_pack("{s:s, s:s, s:s}", "language", "c", "settings", "-O3", "source", path_in_source);
    struct sample_evaluation s;
    struct err err;
    struct id id;

    assert_ok(id_of_json(program, &id, &err));
    json_object_set_new(program, "family", json_string("gqa_paged_decode"));
    json_object_set_new(program, "title", json_string("of nobody else's business"));
    assert_ok(kb_batch_put_doc(batch, KB_DEVICE, "cpu", device, &err));
    assert_ok(kb_batch_put_doc(batch, KB_PROGRAM, id.hex, program, &err));
    sample_evaluation(&s, 1);
    s.e.program = id;
    assert_ok(kb_batch_add_evaluation(batch, &s.e, NULL, &err));
    json_decref(s.e.assignment);
    commit(batch);
    kb_batch_free(batch);
    json_decref(device);
    json_decref(program);
    return id;
}

static void documents_travel_without_what_is_local(void **state)
{
    static const struct exchange_filter no_programs = { .no_programs = true };
    json_t *r, *device = NULL, *program = NULL;
    struct err err = { 0 };
    struct base a, b;
    struct id id;
    int fd;

    (void)state;
    base_make(&a);
    base_make(&b);
    id = put_documents(&a, "int f(void);");
    trust(&b, &a);
    fd = export(&a, NULL, NULL, NULL);
    r = import(&b, fd);
    assert_int_equal(count_of(r, "documents", "new"), 2);
    json_decref(r);
    assert_ok(kb_get_doc(b.kb, KB_DEVICE, "cpu", &device, &err));
    assert_int_equal(jsonx_int(device, "cores", 0), 8);
    assert_false(jsonx_bool(device, "probed", 1));
    assert_null(json_object_get(device, "host"));
    assert_null(json_object_get(device, "serial"));
    assert_null(json_object_get(device, "probed_at"));
    assert_ok(kb_get_doc(b.kb, KB_PROGRAM, id.hex, &program, &err));
    assert_null(json_object_get(program, "title"));
    assert_string_equal(jsonx_str(program, "source", ""), "int f(void);");
    r = import(&b, fd); /* ours stay */
    assert_int_equal(count_of(r, "documents", "known"), 2);
    json_decref(r);
    close(fd);
    close(export(&a, &no_programs, NULL, &r));
    assert_int_equal(count_of(r, "documents", "program"), 0);
    assert_int_equal(count_of(r, "documents", "device"), 1);
    json_decref(r);
    /* a source that says where it lies stays at home */
    put_documents(&a, "#include \"/home/ada/a.h\"");
    close(export(&a, NULL, NULL, &r));
    assert_int_equal(count_of(r, "documents", "program"), 1);
    assert_int_equal(jsonx_int(r, "left_out", 0), 1);
    json_decref(r);
    json_decref(device);
    json_decref(program);
    base_remove(&a);
    base_remove(&b);
}

/* Signed by a trusted key, and still none of it is believed without being checked. */
static void a_signed_pack_of_nonsense_is_refused_line_by_line(void **state)
{
    static const char *const lines[] = {
        "not json",
        "{\"kind\":\"claim\"}",
        "{\"fact\":{},\"kind\":\"claim\"}",
        "{\"fact\":{},\"kind\":\"rumour\"}",
        "{\"doc\":{\"language\":\"c\",\"settings\":\"\",\"source\":\"x\"},\"key\":\"00\",\"kind\":"
        "\"program\"}",
        "{\"doc\":{\"name\":\"x\"},\"key\":\"x\",\"kind\":\"device\"}",
        "{\"doc\":{},\"key\":\"s\",\"kind\":\"side\"}",
    };
    struct packfile_head head = { .schema = 1,
                                  .embedding = (char *)"builtin-1",
                                  .counts = json_object(),
                                  .filters = json_object() };
    struct packfile_writer *w = packfile_writer_new();
    char path[] = "/tmp/ks-pack-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);
    struct err err = { 0 };
    struct base a, b;
    json_t *r;

    (void)state;
    assert_true(fd >= 0);
    unlink(path);
    base_make(&a);
    base_make(&b);
    trust(&b, &a);
    for (size_t i = 0; i < ARRAY_LEN(lines); i++)
        assert_ok(packfile_add(w, lines[i], strlen(lines[i]), &err));
    assert_ok(packfile_finish(w, a.f.path, &head, fd, &err));
    packfile_writer_free(w);
    json_decref(head.counts);
    json_decref(head.filters);
    r = import(&b, fd);
    assert_int_equal(count_of(r, "facts", "refused"), 4);
    assert_int_equal(count_of(r, "documents", "refused"), 3);
    assert_int_equal(json_array_size(json_object_get(r, "named")), ARRAY_LEN(lines));
    assert_int_equal(kb_last_seq(b.kb), 0);
    json_decref(r);
    close(fd);
    base_remove(&a);
    base_remove(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packs_in_any_order_make_equal_bases),
        cmocka_unit_test(facts_keep_who_brought_them),
        cmocka_unit_test(an_unknown_signer_and_damage_store_nothing),
        cmocka_unit_test(filters_bring_what_belongs_together),
        cmocka_unit_test(equal_facts_make_equal_bodies),
        cmocka_unit_test(retractions_and_links_go_with_their_claims),
        cmocka_unit_test(what_gives_something_away_stays_and_is_named),
        cmocka_unit_test(documents_travel_without_what_is_local),
        cmocka_unit_test(a_signed_pack_of_nonsense_is_refused_line_by_line),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
