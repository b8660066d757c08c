/* SPDX-License-Identifier: Apache-2.0 */
/* Packs between daemons, by the command line: exchange in any order, keys, refusals, damage,
 * filters, and what foreign evidence counts for. */
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "e2e/e2e.h"
#include "unit/daemon/t4_text.h"

enum { DAEMONS = 3, TEXT_ROOM = 2 << 20, EVALS = 40 };

static const struct t4_synthetic on_a = { .tile = 2.2, .seed = 1, .scale = 1, .sample = 8 };
static const struct t4_synthetic on_b = { .tile = 2.4, .seed = 2, .scale = 3, .sample = 8 };

/* ---- Several daemons ---- */

struct many {
    struct e2e *e[DAEMONS];
};

static int setup(void **state)
{
    struct many *m = xcalloc(1, sizeof(*m));

    for (size_t i = 0; i < DAEMONS; i++) {
        void *e;

        if (e2e_setup(&e) != 0)
            return -1;
        m->e[i] = e;
    }
    *state = m;
    return 0;
}

static int teardown(void **state)
{
    struct many *m = *state;

    for (size_t i = 0; i < DAEMONS; i++) {
        void *e = m->e[i];

        e2e_teardown(&e);
    }
    free(m);
    return 0;
}

__attribute__((format(printf, 3, 4))) static json_t *askf(struct e2e *e, int want, const char *fmt,
                                                          ...)
{
    char args[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(args, sizeof(args), fmt, ap);
    va_end(ap);
    return e2e_ask(e, args, want);
}

/* Fails unless the command is refused with this status and these words. */
static void refused(struct e2e *e, int want, const char *words, const char *args)
{
    json_auto_t *r = e2e_ask(e, args, want);
    const char *message = jsonx_str(json_object_get(r, "error"), "message", "");

    if (strstr(message, words) == NULL)
        fail_msg("ksearch %s says '%s', not '%s'", args, message, words);
}

static char *write_t4(struct e2e *e, const struct t4_synthetic *s)
{
    CLEANUP(buf_release) struct buf text = { .max = TEXT_ROOM };
    char *path = str_printf("%s/t4.json", e->dir);
    struct err err;

    t4_synthetic_text(s, &text);
    assert_ok(file_write(path, text.data, text.len, 0600, &err), err);
    return path;
}

static void import_facts(struct e2e *e, const char *device, const struct t4_synthetic *s)
{
    CLEANUP(freep) char *path = write_t4(e, s);

    json_decref(askf(e, 0, "kb import %s --format t4 --task syn --device %s", path, device));
}

/* A search on a recorded space, to its end: what search.show then says. Owned. */
static json_t *search_on(struct e2e *e, const char *device, const struct t4_synthetic *s, int seed)
{
    CLEANUP(freep) char *path = write_t4(e, s);
    json_auto_t *started = NULL;

    json_decref(askf(e, 0, "task import %s --name syn --device %s", path, device));
    started =
        askf(e, 0, "search start syn --device %s --seed %d --budget evals=%d", device, seed, EVALS);
    return e2e_search_done(e, jsonx_str(started, "id", ""));
}

static char *digest_of(struct e2e *e)
{
    json_auto_t *v = e2e_ask(e, "kb verify --digest", 0);

    assert_int_equal(json_array_size(json_object_get(v, "problems")), 0);
    return xstrdup(jsonx_str(v, "digest", "none"));
}

static void same_digest(struct e2e *a, struct e2e *b)
{
    CLEANUP(freep) char *x = digest_of(a);
    CLEANUP(freep) char *y = digest_of(b);

    assert_string_equal(x, y);
}

/* `who` takes what `whom` signs: the printed key is the file. */
static void trust(struct e2e *who, struct e2e *whom, const char *name)
{
    CLEANUP(freep) char *key = e2e_say(whom, "kb key show", NULL);
    CLEANUP(freep) char *path = str_printf("%s/%s.pub", who->dir, name);
    struct err err;

    assert_ok(file_write(path, key, strlen(key), 0600, &err), err);
    json_decref(askf(who, 0, "kb key trust %s --name %s", path, name));
}

static char *export(struct e2e *e, const char *more)
{
    char *path = str_printf("%s/out.pack", e->dir);

    json_decref(askf(e, 0, "kb export %s %s", path, more));
    return path;
}

static long count_of(const json_t *r, const char *group, const char *what)
{
    return (long)jsonx_int(json_object_get(r, group), what, -1);
}

/* ---- Tests ---- */

static void daemons_that_exchange_packs_in_any_order_agree(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1], *c = m->e[2];
    json_auto_t *first = NULL, *again = NULL, *device = NULL;
    CLEANUP(freep) char *from_a = NULL;
    CLEANUP(freep) char *from_b = NULL;
    CLEANUP(freep) char *before = NULL;
    CLEANUP(freep) char *after = NULL;

    for (size_t i = 0; i < DAEMONS; i++)
        e2e_start(m->e[i]);
    json_decref(search_on(a, "A", &on_a, 1));
    json_decref(search_on(b, "B", &on_b, 2));
    trust(a, b, "b");
    trust(b, a, "a");
    trust(c, a, "a");
    trust(c, b, "b");
    from_a = export(a, "");
    from_b = export(b, "");
    first = askf(a, 0, "kb import %s", from_b);
    assert_true(count_of(first, "facts", "new") >= EVALS);
    assert_int_equal(count_of(first, "facts", "refused"), 0);
    assert_string_equal(jsonx_str(first, "name", ""), "b");
    json_decref(askf(b, 0, "kb import %s --format pack", from_a));
    json_decref(askf(c, 0, "kb import %s", from_b));
    json_decref(askf(c, 0, "kb import %s", from_a));
    same_digest(a, b);
    same_digest(a, c);
    /* again changes nothing */
    before = digest_of(c);
    again = askf(c, 0, "kb import %s", from_b);
    assert_int_equal(count_of(again, "facts", "new"), 0);
    assert_int_equal(count_of(again, "documents", "new"), 0);
    after = digest_of(c);
    assert_string_equal(before, after);
    /* the device came along; nobody measured it here */
    device = e2e_ask(c, "device show A", 0);
    assert_false(jsonx_bool(device, "probed", 1));
    /* and it stays so over a restart */
    assert_int_equal(e2e_stop(c), 0);
    e2e_start(c);
    same_digest(b, c);
    for (size_t i = 0; i < DAEMONS; i++)
        assert_int_equal(e2e_stop(m->e[i]), 0);
}

static void an_unknown_signer_is_refused_until_it_is_trusted(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1];
    json_auto_t *key = NULL, *list = NULL, *stats = NULL, *own = NULL;
    CLEANUP(freep) char *pack = NULL;
    CLEANUP(freep) char *line = NULL;

    e2e_start(a);
    e2e_start(b);
    import_facts(a, "A", &on_a);
    pack = export(a, "");
    line = str_printf("kb import %s", pack);
    key = e2e_ask(a, "kb key show", 0);
    refused(b, 10, jsonx_str(key, "fingerprint", "?"), line);
    refused(b, 10, "kb key trust FILE", line);
    stats = e2e_ask(b, "kb stats", 0);
    assert_int_equal(jsonx_int(stats, "last_seq", -1), 0);
    trust(b, a, "ada");
    list = e2e_ask(b, "kb key list", 0);
    assert_string_equal(jsonx_str(json_array_get(json_object_get(list, "keys"), 0), "name", ""),
                        "ada");
    json_decref(e2e_ask(b, line, 0));
    json_decref(e2e_ask(b, "kb key distrust ada", 0));
    refused(b, 10, "not trusted", line);
    refused(b, 3, "no trusted key", "kb key distrust ada");
    /* one's own packs need no trust */
    own = e2e_ask(a, line, 0);
    assert_true(jsonx_bool(own, "own", 0));
    assert_int_equal(count_of(own, "facts", "new"), 0);
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(b), 0);
}

/* Imports a pack with `len` bytes of which byte `at` is changed (-1: none). */
static void import_changed(struct e2e *e, const struct buf *pack, size_t len, long at, int want)
{
    CLEANUP(freep) char *path = str_printf("%s/changed.pack", e->dir);
    struct err err;

    if (at >= 0)
        pack->data[at] = (char)(pack->data[at] ^ 1);
    assert_ok(file_write(path, pack->data, len, 0600, &err), err);
    if (at >= 0)
        pack->data[at] = (char)(pack->data[at] ^ 1);
    json_decref(askf(e, want, "kb import %s --format pack", path));
}

static void damage_is_noticed_and_stores_nothing(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1];
    CLEANUP(buf_release) struct buf pack = { .max = 1 << 24 };
    CLEANUP(freep) char *path = NULL;
    CLEANUP(freep) char *before = NULL;
    CLEANUP(freep) char *after = NULL;
    json_auto_t *stats = NULL;
    char *schema;
    struct err err;

    e2e_start(a);
    e2e_start(b);
    import_facts(a, "A", &on_a);
    trust(b, a, "a");
    before = digest_of(b);
    path = export(a, "");
    assert_ok(file_read(path, &pack, &err), err);
    /* in the signature, in the body, at its end; the head is JSON, where all of it counts */
    for (size_t k = 1; k <= 8; k++)
        import_changed(b, &pack, pack.len, (long)(pack.len * k / 9), 6);
    import_changed(b, &pack, pack.len, (long)pack.len - 1, 6);
    import_changed(b, &pack, pack.len, 0, 2); /* no pack any more */
    import_changed(b, &pack, pack.len / 2, -1, 6);
    import_changed(b, &pack, 15, -1, 6);
    import_changed(b, &pack, 5, -1, 2);
    import_changed(b, &pack, 0, -1, 2);
    schema = memmem(pack.data, pack.len, "\"schema\":1", 10);
    assert_non_null(schema);
    import_changed(b, &pack, pack.len, schema - pack.data + 9,
                   6); /* schema 0: not what was signed */
    schema[9] = '9';
    import_changed(b, &pack, pack.len, -1, 10); /* newer than we know */
    CLEANUP(freep) char *t4 = write_t4(b, &on_b);
    json_decref(askf(b, 2, "kb import %s --format pack", t4));
    json_decref(askf(b, 2, "kb import %s", t4)); /* a tuning space needs a task and a device */
    json_decref(askf(b, 2, "kb import %s --format pack --task syn", path));
    json_decref(askf(b, 2, "kb import %s --format wisdom", path));
    after = digest_of(b);
    assert_string_equal(before, after);
    stats = e2e_ask(b, "kb stats", 0);
    assert_int_equal(jsonx_int(stats, "last_seq", -1), 0);
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(b), 0);
}

static void filters_bring_only_what_they_say(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1];
    json_auto_t *all = NULL, *on_one = NULL, *claims = NULL, *none = NULL, *later = NULL,
                *taken = NULL, *devices = NULL;
    CLEANUP(freep) char *path = str_printf("%s/p", a->dir);

    e2e_start(a);
    e2e_start(b);
    import_facts(a, "A", &on_a);
    import_facts(a, "B", &on_b);
    trust(b, a, "a");
    all = askf(a, 0, "kb export %s", path);
    assert_int_equal(count_of(all, "facts", "evaluation"), 2 * T4_SYNTHETIC_ROWS);
    assert_int_equal(count_of(all, "documents", "device"), 2);
    assert_true(count_of(all, "documents", "program") > 0);
    claims = askf(a, 0, "kb export %s --claims-only", path);
    assert_int_equal(count_of(claims, "facts", "claim"), count_of(all, "facts", "claim"));
    assert_int_equal(count_of(claims, "facts", "evidence"), 0);
    assert_int_equal(count_of(claims, "facts", "evaluation"), 0);
    none = askf(a, 0, "kb export %s --task other --no-programs", path);
    assert_int_equal(count_of(none, "facts", "claim"), 0);
    later = askf(a, 0, "kb export %s --since 2100-01-01", path);
    assert_int_equal(count_of(later, "facts", "evaluation"), 0);
    json_decref(askf(a, 2, "kb export %s --since yesterday", path));
    on_one = askf(a, 0, "kb export %s --task syn --device B", path);
    assert_int_equal(count_of(on_one, "facts", "evaluation"), T4_SYNTHETIC_ROWS);
    assert_int_equal(count_of(on_one, "documents", "device"), 1);
    taken = askf(b, 0, "kb import %s", path);
    assert_string_equal(jsonx_str(json_object_get(taken, "filters"), "device", ""), "B");
    devices = e2e_ask(b, "device list", 0);
    CLEANUP(freep) char *text = jsonx_canonical(devices);
    assert_non_null(strstr(text, "\"name\":\"B\""));
    assert_null(strstr(text, "\"name\":\"A\""));
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(b), 0);
}

/* What is stated by hand may hold anything; it does not leave. */
static void what_gives_something_away_does_not_leave(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0];
    CLEANUP(freep) char *path = str_printf("%s/p", a->dir);
    CLEANUP(freep) char *shown = NULL;
    json_auto_t *r = NULL;
    CLEANUP(freep) char *args = NULL;

    e2e_start(a);
    json_decref(e2e_ask(a, "insight add --technique tiling --statement 'Tiles of 64 fit.'", 0));
    json_decref(e2e_ask(
        a, "insight add --technique tiling --statement 'As in /home/ada/kernel.c it is.'", 0));
    json_decref(
        e2e_ask(a, "insight add --technique tiling --statement 'ada@example.org found it.'", 0));
    r = askf(a, 0, "kb export %s", path);
    assert_int_equal(count_of(r, "facts", "claim"), 1);
    assert_int_equal(jsonx_int(r, "left_out", 0), 2);
    args = str_printf("kb export %s", path);
    shown = e2e_say(a, args, NULL);
    assert_non_null(strstr(shown, "left out: 2"));
    assert_non_null(strstr(shown, "an absolute path"));
    assert_int_equal(e2e_stop(a), 0);
}

static void the_own_key_is_private_and_survives(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *restored = m->e[1];
    json_auto_t *before = NULL, *after = NULL, *other = NULL, *copied = NULL;
    CLEANUP(freep) char *key = str_printf("%s/keys/private.pem", a->data);
    CLEANUP(freep) char *in_copy = str_printf("%s/keys", restored->data);
    CLEANUP(freep) char *pack = NULL;
    struct stat st;

    e2e_start(a);
    import_facts(a, "A", &on_a);
    before = e2e_ask(a, "kb key show", 0);
    assert_int_equal(stat(key, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(e2e_stop(a), 0);
    e2e_start(a);
    after = e2e_ask(a, "kb key show", 0);
    assert_true(json_equal(before, after));
    /* a backup opens as a base of its own, with a key of its own */
    copied = askf(a, 0, "kb backup %s", restored->data);
    assert_true(jsonx_int(copied, "last_seq", 0) > T4_SYNTHETIC_ROWS);
    json_decref(askf(a, 4, "kb backup %s", restored->data));
    assert_false(file_exists(in_copy));
    e2e_start(restored);
    same_digest(a, restored);
    other = e2e_ask(restored, "kb key show", 0);
    assert_string_not_equal(jsonx_str(before, "fingerprint", ""),
                            jsonx_str(other, "fingerprint", ""));
    /* a key that others may read signs nothing */
    assert_int_equal(chmod(key, 0640), 0);
    pack = str_printf("kb export %s/p", a->dir);
    refused(a, 10, "private key", pack);
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(restored), 0);
}

static json_t *insights_of(struct e2e *e)
{
    json_auto_t *r = e2e_ask(e, "insight list --limit 1000", 0);

    return json_incref(json_object_get(r, "insights"));
}

static const json_t *effect_of(const json_t *insights, const char *id)
{
    json_t *in;
    size_t i;

    json_array_foreach ((json_t *)insights, i, in) {
        if (strcmp(jsonx_str(in, "insight", ""), id) == 0)
            return json_object_get(in, "effect");
    }
    return NULL;
}

/* The pack's evidence counts for less, and in full where a measurement here has its sign. */
static void foreign_evidence_counts_for_less_until_it_is_replicated(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1];
    json_auto_t *home = NULL, *foreign = NULL, *after = NULL, *show = NULL, *key = NULL;
    CLEANUP(freep) char *pack = NULL;
    CLEANUP(freep) char *line = NULL;
    CLEANUP(freep) char *text = NULL;
    size_t i, smaller = 0, measured = 0, replicated = 0;
    const char *some = NULL;
    json_t *in;

    e2e_start(a);
    e2e_start(b);
    import_facts(a, "A", &on_a);
    trust(b, a, "a");
    pack = export(a, "");
    json_decref(askf(b, 0, "kb import %s", pack));
    home = insights_of(a);
    foreign = insights_of(b);
    assert_int_equal(json_array_size(home), json_array_size(foreign));
    json_array_foreach (home, i, in) {
        const json_t *mine = json_object_get(in, "effect"),
                     *his = effect_of(foreign, jsonx_str(in, "insight", ""));

        if (jsonx_int(mine, "n", 0) == 0 || jsonx_num(mine, "mean", 0) == 0)
            continue;
        measured++;
        some = jsonx_str(in, "insight", "");
        assert_int_equal(jsonx_int(mine, "foreign", -1), 0);
        assert_int_equal(jsonx_int(his, "foreign", -1), jsonx_int(his, "n", 0));
        assert_true(jsonx_num(his, "trust", 1) < 1);
        smaller += fabs(jsonx_num(his, "mean", 0)) < fabs(jsonx_num(mine, "mean", 0));
    }
    assert_true(measured > 10);
    assert_int_equal(smaller, measured);
    /* who brought it is shown */
    key = e2e_ask(a, "kb key show", 0);
    show = askf(b, 0, "insight show %s", some);
    assert_string_equal(
        jsonx_str(json_array_get(json_object_get(show, "evidence"), 0), "origin", ""),
        jsonx_str(key, "fingerprint", "?"));
    line = str_printf("insight show %s", some);
    text = e2e_say(b, line, NULL);
    assert_non_null(strstr(text, "until replicated here"));
    /* measured here as well, on another device */
    import_facts(b, "B", &on_b);
    after = insights_of(b);
    json_array_foreach (after, i, in) {
        const json_t *e = json_object_get(in, "effect");

        replicated += jsonx_int(e, "foreign", 0) > 0 && jsonx_num(e, "trust", 0) == 1;
    }
    assert_true(replicated > measured / 2);
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(b), 0);
}

/* What came in a pack is memory like any other: the next search here starts from it. */
static void a_search_starts_from_what_a_pack_brought(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1];
    json_auto_t *cold = NULL, *warm = NULL;
    CLEANUP(freep) char *pack = NULL;
    bool from_a = false;
    json_t *seed;
    size_t i;

    e2e_start(a);
    e2e_start(b);
    import_facts(a, "A", &on_a);
    pack = export(a, "");
    trust(b, a, "a");
    cold = search_on(b, "B", &on_b, 3);
    assert_int_equal(json_array_size(json_object_get(cold, "seeds")), 0);
    json_decref(askf(b, 0, "kb import %s", pack));
    warm = search_on(b, "B", &on_b, 3);
    json_array_foreach (json_object_get(warm, "seeds"), i, seed) {
        from_a = from_a || strcmp(jsonx_str(seed, "from", ""), "syn@A") == 0;
    }
    assert_true(from_a);
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(b), 0);
}

/* Every base calls its own processor "cpu": that of a pack must not stand for this one. */
static void the_processor_of_a_pack_is_not_taken_for_this_one(void **state)
{
#define PROBE(class)                                                                               \
    "echo '{\"name\":\"cpu\",\"kind\":\"cpu\",\"class\":\"" class "\",\"toolchain\":\"gcc "        \
                                                                  "12.2.0\","                      \
                                                                  "\"features\":[\"avx2\"]}'"
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1];
    json_auto_t *before = NULL, *after = NULL;
    CLEANUP(freep) char *pack = NULL;

    e2e_fake_harness(a, PROBE("cpu-avx512"));
    e2e_fake_harness(b, PROBE("cpu-avx2"));
    e2e_start(a);
    e2e_start(b);
    json_decref(askf(a, 0, "device probe"));
    import_facts(a, "cpu", &on_a);
    pack = export(a, "");
    trust(b, a, "a");
    json_decref(askf(b, 0, "kb import %s", pack));
    before = e2e_ask(b, "device show cpu", 0);
    assert_string_equal(jsonx_str(before, "class", ""), "cpu-avx512");
    json_decref(askf(b, 0, "query tiling --device cpu"));
    after = e2e_ask(b, "device show cpu", 0);
    assert_string_equal(jsonx_str(after, "class", ""), "cpu-avx2");
    assert_true(jsonx_bool(after, "probed", 0));
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(b), 0);
#undef PROBE
}

/* An import that is killed half-way is finished by the same import again. */
static void a_killed_import_goes_on(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0], *b = m->e[1];
    CLEANUP(freep) char *pack = NULL;

    e2e_start(a);
    e2e_start(b);
    import_facts(a, "A", &on_a);
    import_facts(a, "B", &on_b);
    trust(b, a, "a");
    pack = export(a, "");
    for (int round = 0; round < 3; round++) {
        CLEANUP(freep)
        char *args = str_printf(KS_BIN_DIR "/ksearch --socket %s kb import %s >/dev/null 2>&1 &",
                                b->socket, pack);

        assert_int_equal(system(args), 0); /* NOLINT: a test of ours */
        usleep(20000 + 30000 * (unsigned)round);
        kill(b->pid, SIGKILL);
        e2e_wait(b, 10);
        e2e_start(b);
    }
    json_decref(askf(b, 0, "kb import %s", pack));
    same_digest(a, b);
    assert_int_equal(e2e_stop(a), 0);
    assert_int_equal(e2e_stop(b), 0);
}

/* What is measured stays; a build that nobody asked for in a month goes. */
static void gc_drops_what_nothing_refers_to(void **state)
{
    struct many *m = *state;
    struct e2e *a = m->e[0];
    CLEANUP(freep) char *folder = str_printf("%s/build-cache", a->data);
    CLEANUP(freep) char *old = str_printf("%s/old.build", folder);
    CLEANUP(freep) char *fresh = str_printf("%s/fresh.build", folder);
    struct timespec times[2] = { { .tv_sec = 1700000000 }, { .tv_sec = 1700000000 } };
    json_auto_t *would = NULL, *did = NULL, *again = NULL;
    CLEANUP(freep) char *before = NULL;
    CLEANUP(freep) char *after = NULL;
    struct err err;

    e2e_start(a);
    json_decref(search_on(a, "A", &on_a, 1));
    before = digest_of(a);
    assert_ok(file_mkdirs(folder, &err), err);
    assert_ok(file_write(old, "12345", 5, 0600, &err), err);
    assert_ok(file_write(fresh, "12345", 5, 0600, &err), err);
    assert_int_equal(utimensat(AT_FDCWD, old, times, 0), 0);
    would = e2e_ask(a, "kb gc --dry-run", 0);
    assert_int_equal(count_of(would, "builds", "n"), 1);
    assert_true(file_exists(old));
    did = e2e_ask(a, "kb gc", 0);
    assert_int_equal(count_of(did, "builds", "bytes"), 5);
    assert_int_equal(count_of(did, "programs", "n"), 0);
    assert_int_equal(count_of(did, "side", "n"), 0);
    assert_false(file_exists(old));
    assert_true(file_exists(fresh));
    again = e2e_ask(a, "kb gc", 0);
    assert_int_equal(count_of(again, "builds", "n"), 0);
    after = digest_of(a);
    assert_string_equal(before, after);
    /* and a search still finds its table and its program */
    json_decref(search_on(a, "A", &on_a, 2));
    assert_int_equal(e2e_stop(a), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        T(daemons_that_exchange_packs_in_any_order_agree),
        T(an_unknown_signer_is_refused_until_it_is_trusted),
        T(damage_is_noticed_and_stores_nothing),
        T(filters_bring_only_what_they_say),
        T(what_gives_something_away_does_not_leave),
        T(the_own_key_is_private_and_survives),
        T(foreign_evidence_counts_for_less_until_it_is_replicated),
        T(a_search_starts_from_what_a_pack_brought),
        T(the_processor_of_a_pack_is_not_taken_for_this_one),
        T(a_killed_import_goes_on),
        T(gc_drops_what_nothing_refers_to),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
