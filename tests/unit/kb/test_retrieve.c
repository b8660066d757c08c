/* SPDX-License-Identifier: Apache-2.0 */
/* Retrieval as a whole: relevance, filters and their counts, time travel, usefulness, snapshots,
 * queries beside additions, hostile questions. */
#include "unit/test.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "fold.h"
#include "kb.h"
#include "retrieve.h"
#include "retrieve_impl.h"

enum { INSIGHTS_MAX = 24000, NOTICES_MAX = 16 };

/* What struct kb would hold: insights with their folds, by ordinal. */
struct world {
    const char *dir;
    struct retrieve *r;
    struct insight *v;
    struct fold *folds;
    struct names features;
    uint32_t n, n_evidence;
    char notices[NOTICES_MAX][400];
    int n_notices;
};

static const struct insight *insight_at(void *ctx, uint32_t ordinal)
{
    return &((struct world *)ctx)->v[ordinal];
}

static void take_notice(void *ctx, const char *sentence)
{
    struct world *w = ctx;

    if (w->n_notices < NOTICES_MAX)
        str_copy(w->notices[w->n_notices++], sizeof(w->notices[0]), sentence);
}

static void open_retrieve(struct world *w)
{
    struct retrieve_options o = { .dir = w->dir,
                                  .insight = insight_at,
                                  .insight_ctx = w,
                                  .notice = take_notice,
                                  .notice_ctx = w };
    struct err err;

    w->n_notices = 0;
    assert_ok(retrieve_open(&o, &w->r, &err), err);
}

static void finish(struct world *w)
{
    struct err err;

    assert_ok(retrieve_finish_load(w->r, w->n, &err), err);
}

static struct world *world_new(const char *dir)
{
    struct world *w = xcalloc(1, sizeof(*w));

    w->dir = dir;
    w->v = xcalloc(INSIGHTS_MAX, sizeof(*w->v));
    w->folds = xcalloc(INSIGHTS_MAX, sizeof(*w->folds));
    open_retrieve(w);
    return w;
}

static void world_free(struct world *w)
{
    retrieve_close(w->r);
    for (uint32_t i = 0; i < w->n; i++) {
        claim_release(&w->v[i].claim);
        fold_release(&w->folds[i]);
    }
    names_release(&w->features);
    free(w->v);
    free(w->folds);
    free(w);
}

static void number_id(const char *kind, uint64_t n, struct id *out)
{
    struct rng r = rng_derive(1, kind, n);
    uint64_t words[4];

    for (size_t i = 0; i < 4; i++)
        words[i] = rng_u64(&r);
    str_hex((const uint8_t *)words, sizeof(words), out->hex);
}

/* Recorded at second n of its number, counted from 1. */
static struct insight *add_full(struct world *w, const char *technique, const char *statement,
                                const char *family, const char *requires, const char *param)
{
    struct insight *in = &w->v[w->n];
    struct err err;

    *in = (struct insight){ .ordinal = w->n,
                            .seq = w->n + 1,
                            .recorded_at_ns = (w->n + 1) * NS_PER_SEC,
                            .condition = (char *)"" };
    number_id("claim", w->n, &in->id);
    in->claim = (struct claim){ .technique = xstrdup(technique),
                                .statement = xstrdup(statement),
                                .mechanism = xstrdup(""),
                                .family = xstrdup(family),
                                .dtype = xstrdup("bf16"),
                                .language = xstrdup("c"),
                                .bottleneck = xstrdup("memory"),
                                .requires = xstrdup(requires),
                                .param = xstrdup(param),
                                .with_value = xstrdup(""),
                                .without_value = xstrdup("") };
    w->n++;
    assert_ok(retrieve_add(w->r, in, &err), err);
    return in;
}

static struct insight *add(struct world *w, const char *technique, const char *statement)
{
    return add_full(w, technique, statement, "gqa_paged_decode", "", "");
}

static void show(struct world *w, struct insight *in)
{
    struct fold *f = &w->folds[in->ordinal];
    struct err err;

    fold_lend(f, in);
    assert_ok(retrieve_update(w->r, in, &err), err);
}

/* One pair of this effect, recorded at this second. */
static struct id measure(struct world *w, struct insight *in, const char *device,
                         const char *device_class, const char *task, double effect, uint64_t at_s)
{
    struct evidence ev = { .claim = in->id,
                           .kind = (char *)"pair",
                           .effect_q = (int64_t)(effect * 1e6),
                           .sd_q = 5000,
                           .failure = (char *)"",
                           .task = (char *)task,
                           .device = (char *)device,
                           .device_class = (char *)device_class,
                           .shape = (char *)"heads=4",
                           .toolchain = (char *)"gcc 12",
                           .measured_at_s = at_s };
    struct err err;
    struct id id;

    number_id("evidence", w->n_evidence++, &id);
    number_id("with", w->n_evidence, &ev.with);
    number_id("without", w->n_evidence, &ev.without);
    assert_ok(fold_add(&w->folds[in->ordinal], &w->features, &id, &ev, &err), err);
    assert_ok(retrieve_add_evidence(w->r, &id, &ev, at_s * NS_PER_SEC, &err), err);
    show(w, in);
    return id;
}

static json_t *ask_full(struct world *w, struct kb_query q)
{
    struct err err;
    json_t *out;

    if (q.limit == 0)
        q.limit = 10;
    assert_ok(retrieve_query(w->r, &q, &out, &err), err);
    assert_true(json_is_integer(json_object_get(out, "took_us")));
    json_object_del(out, "took_us");
    return out;
}

static json_t *ask(struct world *w, const char *text)
{
    return ask_full(w, (struct kb_query){ .text = text });
}

static size_t n_hits(const json_t *answer)
{
    return json_array_size(json_object_get(answer, "hits"));
}

static json_t *hit(const json_t *answer, size_t i)
{
    return json_array_get(json_object_get(answer, "hits"), i);
}

static const char *hit_id(const json_t *answer, size_t i)
{
    return jsonx_str(hit(answer, i), "insight", "none");
}

/* -1 when the filter is not in the counts. */
static long long removed(const json_t *answer, const char *filter)
{
    return jsonx_int(json_object_get(answer, "removed"), filter, -1);
}

static bool says(const json_t *h, const char *part)
{
    size_t i;
    json_t *s;

    json_array_foreach (json_object_get(h, "why"), i, s)
        if (strstr(json_string_value(s), part) != NULL)
            return true;
    return false;
}

static void assert_equal_answers(struct world *w, json_t *expected, const char *text)
{
    CLEANUP(freep) char *x = jsonx_canonical(expected);
    json_auto_t *again = ask(w, text);
    CLEANUP(freep) char *y = jsonx_canonical(again);

    assert_string_equal(x, y);
}

/* ---- Relevance ---- */

static struct insight *fill_some(struct world *w)
{
    struct insight *split = add(w, "split-kv", "Share one long sequence among several workers.");

    add(w, "tiling", "Work on blocks of keys that fit the first level cache.");
    add(w, "online-softmax", "One pass with a running maximum instead of two passes.");
    add(w, "memory-prefetch", "Ask for the next page of values before the present one is used.");
    add_full(w, "expert-grouping", "Sort tokens by expert before the products.",
             "moe_fp8_block_scale", "", "");
    add_full(w, "loop-unrolling", "Repeat the body of the inner loop eight times.", "", "",
             "UNROLL");
    add_full(w, "tma", "Bulk copies of tiles by the copy engine.", "gqa_paged_decode",
             "cluster,tma", "");
    finish(w);
    return split;
}

static void retrieve_finds_by_words_and_says_why(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;

    fill_some(w);
    a = ask(w, "running maximum over one pass");
    assert_string_equal(hit_id(a, 0), w->v[2].id.hex);
    assert_true(says(hit(a, 0), "running, maximum"));
    assert_true(says(hit(a, 0), "similarity to the question"));
    assert_true(says(hit(a, 0), "never measured"));
    assert_string_equal(jsonx_str(hit(a, 0), "technique", ""), "online-softmax");
    assert_string_equal(jsonx_str(hit(a, 0), "state", ""), "active");
    assert_string_equal(jsonx_str(json_object_get(hit(a, 0), "scope"), "family", ""),
                        "gqa_paged_decode");
    world_free(w);
}

static void retrieve_resolves_synonyms_in_text_and_filter(void **state)
{
    struct world *w = world_new(*state);
    struct insight *split = fill_some(w);
    json_auto_t *by_text = ask(w, "flash decoding");
    json_auto_t *by_filter =
        ask_full(w, (struct kb_query){ .text = "", .technique = "Flash Decoding" });

    /* Not a word of the statement is in the question. */
    assert_string_equal(hit_id(by_text, 0), split->id.hex);
    assert_true(says(hit(by_text, 0), "names its technique, split-kv"));
    assert_int_equal(n_hits(by_filter), 1);
    assert_string_equal(hit_id(by_filter, 0), split->id.hex);
    assert_true(says(hit(by_filter, 0), "also called 'Flash Decoding'"));
    assert_int_equal(removed(by_filter, "technique"), 6);
    world_free(w);
}

static void retrieve_drops_what_has_nothing_to_do_with_the_text(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;

    fill_some(w);
    a = ask(w, "zxqv wqjk");
    assert_int_equal(n_hits(a), 0);
    assert_int_equal(removed(a, "relevance"), 7);
    world_free(w);
}

static void retrieve_explains_ranks_on_demand(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *plain = NULL, *a = NULL;
    const json_t *ranks;

    fill_some(w);
    plain = ask(w, "running maximum");
    a = ask_full(w, (struct kb_query){ .text = "running maximum", .explain = true });
    assert_null(json_object_get(hit(plain, 0), "ranks"));
    ranks = json_object_get(hit(a, 0), "ranks");
    assert_int_equal(jsonx_int(ranks, "lexical", 0), 1);
    assert_int_equal(jsonx_int(ranks, "vector", 0), 1);
    assert_int_equal(jsonx_int(ranks, "fused", 0), 1);
    assert_int_equal(jsonx_int(ranks, "usefulness", 0), 1);
    world_free(w);
}

/* ---- Filters ---- */

static void retrieve_counts_what_each_filter_removes(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *family = NULL, *features = NULL, *both = NULL, *all = NULL;

    fill_some(w);
    measure(w, &w->v[1], "box", "cpu-avx2", "t", 0.1, 100);
    family = ask_full(w, (struct kb_query){ .text = "", .family = "moe_fp8_block_scale" });
    assert_int_equal(n_hits(family), 2); /* its own, and the claim of every family */
    assert_int_equal(removed(family, "family"), 5);
    features = ask_full(w, (struct kb_query){ .text = "", .features = "avx2, TMA" });
    assert_int_equal(removed(features, "features"), 1);
    assert_int_equal(n_hits(features), 6);
    all = ask_full(w, (struct kb_query){ .text = "", .features = "tma,cluster" });
    assert_int_equal(removed(all, "features"), 0);
    assert_int_equal(n_hits(all), 7);
    both =
        ask_full(w, (struct kb_query){
                        .text = "copy tiles", .family = "moe_fp8_block_scale", .device = "box" });
    assert_int_equal(n_hits(both), 0);
    assert_int_equal(removed(both, "family"), 5);
    assert_int_equal(removed(both, "device"), 6);
    assert_int_equal(removed(both, "features"), -1); /* not asked for */
    world_free(w);
}

static void retrieve_filters_by_device_evidence(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL, *none = NULL;

    fill_some(w);
    measure(w, &w->v[3], "box", "cpu-avx2", "t", 0.1, 100);
    measure(w, &w->v[0], "other", "cpu-avx2", "t", 0.1, 100);
    /* Insight 0 resembles the text as much; its evidence is from elsewhere. */
    a = ask_full(w, (struct kb_query){ .text = "long sequence of values", .device = "box" });
    assert_int_equal(n_hits(a), 1);
    assert_string_equal(hit_id(a, 0), w->v[3].id.hex);
    assert_int_equal(removed(a, "device"), 6);
    none = ask_full(w, (struct kb_query){ .text = "", .device = "unheard-of" });
    assert_int_equal(n_hits(none), 0);
    assert_int_equal(removed(none, "device"), 7);
    world_free(w);
}

static void retrieve_hides_retracted_and_superseded(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL, *before = NULL;
    struct err err;

    fill_some(w);
    w->v[2].state = INSIGHT_RETRACTED;
    w->v[1].state = INSIGHT_SUPERSEDED;
    assert_ok(retrieve_add_retraction(w->r, &w->v[2].id, 500 * NS_PER_SEC, &err), err);
    show(w, &w->v[2]);
    show(w, &w->v[1]);
    a = ask(w, "running maximum in one pass over blocks of keys");
    for (size_t i = 0; i < n_hits(a); i++) {
        assert_string_not_equal(hit_id(a, i), w->v[1].id.hex);
        assert_string_not_equal(hit_id(a, i), w->v[2].id.hex);
    }
    assert_int_equal(removed(a, "retracted"), 1);
    assert_int_equal(removed(a, "superseded"), 1);
    before =
        ask_full(w, (struct kb_query){ .text = "running maximum", .as_of_ns = 499 * NS_PER_SEC });
    assert_string_equal(hit_id(before, 0), w->v[2].id.hex);
    assert_string_equal(jsonx_str(hit(before, 0), "state", ""), "active");
    world_free(w);
}

/* ---- Time travel ---- */

static void retrieve_answers_as_of_a_time(void **state)
{
    struct world *w = world_new(*state);
    struct insight *in;
    struct id withdrawn;
    struct err err;
    json_auto_t *early = NULL, *middle = NULL, *late = NULL;

    fill_some(w);
    in = &w->v[2];
    measure(w, in, "box", "cpu-avx2", "t", 0.4, 100);
    withdrawn = measure(w, in, "box", "cpu-avx2", "t", 0.4, 150);
    measure(w, in, "box", "cpu-avx2", "t", -0.3, 200);
    /* One piece of evidence is withdrawn at 250: the present fold lacks it. */
    assert_ok(retrieve_add_retraction(w->r, &withdrawn, 250 * NS_PER_SEC, &err), err);
    fold_release(&w->folds[2]);
    w->folds[2] = (struct fold){ 0 };
    w->n_evidence = 0;
    measure(w, in, "box", "cpu-avx2", "t", 0.4, 100);
    w->n_evidence = 2;
    measure(w, in, "box", "cpu-avx2", "t", -0.3, 200);
    early = ask_full(w, (struct kb_query){ .text = "running maximum", .as_of_ns = 2 * NS_PER_SEC });
    for (size_t i = 0; i < n_hits(early); i++)
        assert_string_not_equal(hit_id(early, i), in->id.hex);
    assert_int_equal(removed(early, "as_of"), 5);
    middle = ask_full(w, (struct kb_query){ .text = "running maximum",
                                            .device_class = "cpu-avx2",
                                            .as_of_ns = 160 * NS_PER_SEC });
    assert_string_equal(hit_id(middle, 0), in->id.hex);
    assert_int_equal(json_array_size(json_object_get(hit(middle, 0), "evidence")), 2);
    assert_true(jsonx_num(json_object_get(hit(middle, 0), "effect"), "mean", 0) > 0.3);
    assert_string_equal(jsonx_str(json_object_get(hit(middle, 0), "effect"), "cell", ""),
                        "cpu-avx2");
    late = ask(w, "running maximum");
    assert_int_equal(json_array_size(json_object_get(hit(late, 0), "evidence")), 2);
    assert_true(jsonx_num(json_object_get(hit(late, 0), "effect"), "mean", 0) < 0.1);
    world_free(w);
}

/* ---- Usefulness ---- */

static void retrieve_prefers_what_was_measured_to_help(void **state)
{
    struct world *w = world_new(*state);
    const char *statement = "Work on blocks of keys.";
    json_auto_t *a = NULL, *other = NULL, *browsed = NULL;

    for (int i = 0; i < 3; i++)
        add_full(w, "tiling", statement, "gqa_paged_decode", "", i == 0 ? "A" : i == 1 ? "B" : "C");
    finish(w);
    for (int k = 0; k < 4; k++) {
        measure(w, &w->v[0], "box", "cpu-avx2", "t", -0.2, 100);
        measure(w, &w->v[1], "box", "cpu-avx2", "t", 0.3, 100);
        measure(w, &w->v[1], "gpu", "sm_90", "t", -0.3, 100);
        measure(w, &w->v[0], "gpu", "sm_90", "t", 0.3, 100);
    }
    a = ask_full(w, (struct kb_query){ .text = statement, .device_class = "cpu-avx2" });
    assert_string_equal(hit_id(a, 0), w->v[1].id.hex);
    assert_string_equal(hit_id(a, 2), w->v[0].id.hex);
    assert_string_equal(jsonx_str(json_object_get(hit(a, 0), "effect"), "cell", ""), "cpu-avx2");
    assert_true(says(hit(a, 0), "Measured 4 times on cpu-avx2"));
    other = ask_full(w, (struct kb_query){ .text = statement, .device_class = "sm_90" });
    assert_string_equal(hit_id(other, 0), w->v[0].id.hex);
    browsed = ask_full(w, (struct kb_query){ .text = "", .device_class = "sm_90" });
    assert_int_equal(n_hits(browsed), 3);
    assert_string_equal(hit_id(browsed, 0), w->v[0].id.hex);
    assert_string_equal(hit_id(browsed, 2), w->v[1].id.hex);
    world_free(w);
}

static void retrieve_says_when_an_effect_is_borrowed(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;

    fill_some(w);
    measure(w, &w->v[2], "box", "cpu-avx2", "gqa_a", 0.2, 100);
    measure(w, &w->v[2], "box", "cpu-avx2", "gqa_a", 0.2, 101);
    a = ask_full(w, (struct kb_query){
                        .text = "running maximum", .device_class = "sm_90", .task = "gqa_a" });
    assert_true(says(hit(a, 0), "Never measured on sm_90"));
    assert_true(says(hit(a, 0), "evidence on the task gqa_a"));
    world_free(w);
}

static void retrieve_spreads_over_techniques(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;
    bool other = false;

    for (int i = 0; i < 6; i++)
        add_full(w, "tiling", "Keep blocks of keys in the cache.", "gqa_paged_decode", "",
                 "KV_TILE");
    add(w, "packing", "Keep packed blocks of the keys in a cache.");
    finish(w);
    a = ask_full(w, (struct kb_query){ .text = "blocks of keys in the cache", .limit = 3 });
    for (size_t i = 0; i < n_hits(a); i++)
        other |= strcmp(jsonx_str(hit(a, i), "technique", ""), "packing") == 0;
    assert_true(other);
    world_free(w);
}

static void retrieve_lists_the_newest_evidence(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;
    const json_t *list;

    fill_some(w);
    for (uint64_t i = 0; i < 20; i++)
        measure(w, &w->v[2], "box", "cpu-avx2", "t", 0.1, 100 + i * 7 % 20);
    a = ask(w, "running maximum");
    list = json_object_get(hit(a, 0), "evidence");
    assert_int_equal(json_array_size(list), 8);
    for (size_t i = 0; i < 8; i++) {
        const json_t *e = json_array_get(list, i);

        assert_int_equal(jsonx_int(e, "measured_at", 0), 119 - (long long)i);
        assert_true(str_is_hex(jsonx_str(e, "with", ""), ID_HEX));
        assert_string_equal(jsonx_str(e, "device", ""), "box");
    }
    assert_int_equal(jsonx_int(hit(a, 0), "blind", 0), 20);
    world_free(w);
}

/* ---- Snapshots ---- */

/* The same insights again, as after a restart. */
static void restart(struct world *w)
{
    struct err err;

    retrieve_close(w->r);
    open_retrieve(w);
    for (uint32_t i = 0; i < w->n; i++)
        assert_ok(retrieve_add(w->r, &w->v[i], &err), err);
    finish(w);
}

static void spoil(const char *path, long at, char with)
{
    FILE *f = fopen(path, "r+");

    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    fputc(with, f);
    fclose(f);
}

static void retrieve_takes_its_snapshot_without_a_word(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;
    struct err err;

    fill_some(w);
    assert_int_equal(w->n_notices, 1); /* there was none */
    assert_non_null(strstr(w->notices[0], "it is missing"));
    a = ask(w, "blocks of keys");
    assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
    restart(w);
    assert_int_equal(w->n_notices, 0);
    assert_equal_answers(w, a, "blocks of keys");
    world_free(w);
}

static void retrieve_says_nothing_of_an_empty_base(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;

    finish(w);
    assert_int_equal(w->n_notices, 0);
    a = ask(w, "anything");
    assert_int_equal(n_hits(a), 0);
    assert_int_equal(json_object_size(json_object_get(a, "removed")), 0);
    world_free(w);
}

static void retrieve_survives_a_damaged_snapshot_anywhere(void **state)
{
    struct world *w = world_new(*state);
    CLEANUP(freep) char *path = str_printf("%s/vectors.faiss", (char *)*state);
    json_auto_t *a = NULL;
    struct stat st;
    struct err err;

    fill_some(w);
    a = ask(w, "blocks of keys");
    assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
    assert_int_equal(stat(path, &st), 0);
    for (long at = 0; at < st.st_size; at += 1 + st.st_size / 40) {
        struct buf b = { .max = 1 << 20 };

        assert_ok(file_read(path, &b, &err), err);
        spoil(path, at, (char)(b.data[at] ^ 0x10));
        buf_release(&b);
        restart(w);
        assert_int_equal(w->n_notices, 1);
        assert_non_null(strstr(w->notices[0], "is not used, because"));
        assert_equal_answers(w, a, "blocks of keys");
        assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
    }
    for (int part = 0; part < 8; part++) {
        assert_int_equal(truncate(path, st.st_size * part / 8), 0);
        restart(w);
        assert_int_equal(w->n_notices, 1);
        assert_equal_answers(w, a, "blocks of keys");
        assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
    }
    world_free(w);
}

static void retrieve_adds_to_an_older_snapshot(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;
    struct err err;

    fill_some(w);
    assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
    add(w, "packing", "Copy the keys into panels of the order of use.");
    a = ask(w, "panels of keys");
    restart(w);
    assert_int_equal(w->n_notices, 1);
    assert_non_null(strstr(w->notices[0], "1 newer insights"));
    assert_equal_answers(w, a, "panels of keys");
    world_free(w);
}

static void retrieve_refuses_a_snapshot_of_another_base(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;
    struct err err;

    fill_some(w);
    assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
    a = ask(w, "blocks of keys");
    json_decref(TAKE(a));
    /* The same number of insights, one of them another one. */
    number_id("other claim", 1, &w->v[1].id);
    restart(w);
    assert_int_equal(w->n_notices, 1);
    assert_non_null(strstr(w->notices[0], "stale"));
    a = ask(w, "blocks of keys");
    assert_string_equal(hit_id(a, 0), w->v[1].id.hex);
    /* From the future: the base was put back to an older state. */
    assert_ok(retrieve_snapshot(w->r, w->n + 5, &err), err);
    restart(w);
    assert_int_equal(w->n_notices, 1);
    assert_non_null(strstr(w->notices[0], "sequence number 12"));
    assert_equal_answers(w, a, "blocks of keys");
    world_free(w);
}

/* A whole, well-formed snapshot whose head names another model: only its checksum is made anew. */
static void retrieve_refuses_vectors_of_another_model(void **state)
{
    struct world *w = world_new(*state);
    CLEANUP(freep) char *path = str_printf("%s/vectors.faiss", (char *)*state);
    json_auto_t *a = NULL;
    struct err err;

    fill_some(w);
    a = ask(w, "blocks of keys");
    assert_ok(retrieve_snapshot_as(w->r, w->n, "builtin-0", &err), err);
    restart(w);
    assert_int_equal(w->n_notices, 1);
    assert_non_null(strstr(w->notices[0], "of the model 'builtin-0', not 'builtin-1'"));
    assert_equal_answers(w, a, "blocks of keys");
    world_free(w);
}

static void retrieve_keeps_the_old_snapshot_when_it_cannot_write(void **state)
{
    struct world *w = world_new(*state);
    CLEANUP(freep) char *temp = str_printf("%s/vectors.faiss.tmp", (char *)*state);
    struct err err;

    fill_some(w);
    assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
    assert_ok(file_mkdirs(temp, &err), err); /* in the way of the temporary file */
    assert_fails(retrieve_snapshot(w->r, w->n, &err), err, ERR_IO);
    restart(w);
    assert_int_equal(w->n_notices, 0);
    world_free(w);
}

/* ---- Questions that are none ---- */

static void retrieve_refuses_bad_questions(void **state)
{
    struct world *w = world_new(*state);
    char text[5000];
    struct err err;
    json_t *out;

    fill_some(w);
    assert_fails(retrieve_query(w->r, &(struct kb_query){ .text = "x", .limit = 0 }, &out, &err),
                 err, ERR_INVALID);
    assert_fails(retrieve_query(w->r, &(struct kb_query){ .text = "x", .limit = 101 }, &out, &err),
                 err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "101"));
    memset(text, 'x', sizeof(text) - 1);
    text[4097] = '\0';
    assert_fails(retrieve_query(w->r, &(struct kb_query){ .text = text, .limit = 1 }, &out, &err),
                 err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "4096"));
    world_free(w);
}

static void retrieve_survives_hostile_text(void **state)
{
    struct world *w = world_new(*state);
    struct rng r = rng_seeded(17);
    char text[4097];

    fill_some(w);
    for (int round = 0; round < 300; round++) {
        size_t len = rng_below(&r, sizeof(text));
        json_auto_t *a = NULL;

        for (size_t i = 0; i < len; i++)
            text[i] = round % 3 == 0 ? (char)(1 + rng_below(&r, 255))
                                     : "keys of blocks-\"\\\n\xc3\xa9"[rng_below(&r, 18)];
        text[len] = '\0';
        a = ask_full(w, (struct kb_query){ .text = text,
                                           .family = text,
                                           .technique = NULL,
                                           .device_class = text,
                                           .task = text });
        free(jsonx_canonical(a));
    }
    memset(text, ' ', 4096);
    for (size_t i = 0; i + 6 < 4096; i += 6)
        memcpy(text + i, "keys a", 6);
    text[4096] = '\0';
    json_decref(ask(w, text));
    json_decref(ask(w, "a the of"));
    world_free(w);
}

static void retrieve_answers_the_same_again_and_in_another_order(void **state)
{
    struct world *w = world_new(*state);
    json_auto_t *a = NULL;

    for (int i = 0; i < 40; i++) {
        CLEANUP(freep) char *s = str_printf("Keep %d blocks of keys in the cache.", i / 4);

        add(w, i % 2 ? "tiling" : "packing", s);
    }
    finish(w);
    a = ask(w, "keep blocks of keys");
    assert_int_equal(n_hits(a), 10);
    for (int i = 0; i < 20; i++)
        assert_equal_answers(w, a, "keep blocks of keys");
    /* Equal scores stand in the order of their ids. */
    for (size_t i = 1; i < n_hits(a); i++)
        if (jsonx_num(hit(a, i - 1), "score", 0) == jsonx_num(hit(a, i), "score", 0) &&
            strcmp(jsonx_str(hit(a, i - 1), "technique", ""),
                   jsonx_str(hit(a, i), "technique", "")) == 0)
            assert_true(strcmp(hit_id(a, i - 1), hit_id(a, i)) < 0);
    world_free(w);
}

/* ---- Beside additions ---- */

struct reader {
    struct world *w;
    pthread_rwlock_t *lock;
    atomic_bool *stop;
    size_t answers;
};

static void *read_on(void *arg)
{
    static const char *const texts[] = { "blocks of keys", "flash decoding", "unroll the loop" };
    struct reader *d = arg;

    while (!atomic_load(d->stop)) {
        struct kb_query q = { .text = texts[d->answers % 3],
                              .limit = 10,
                              .family = d->answers % 2 ? "gqa_paged_decode" : NULL };
        struct err err;
        json_t *out = NULL;

        pthread_rwlock_rdlock(d->lock);
        if (retrieve_query(d->w->r, &q, &out, &err) != 0)
            abort();
        pthread_rwlock_unlock(d->lock);
        if (json_array_size(json_object_get(out, "hits")) == 0)
            abort();
        json_decref(out);
        d->answers++;
    }
    return NULL;
}

static void *maintain(void *arg)
{
    struct reader *d = arg;
    struct err err;

    while (!atomic_load(d->stop)) {
        bool due;

        pthread_rwlock_rdlock(d->lock);
        due = retrieve_maintain_due(d->w->r);
        pthread_rwlock_unlock(d->lock);
        if (due && retrieve_maintain(d->w->r, d->lock, &err) != 0)
            abort();
        usleep(1000);
    }
    return NULL;
}

static void write_some(struct world *w, pthread_rwlock_t *lock, uint32_t to)
{
    while (w->n < to) {
        CLEANUP(freep)
        char *s = str_printf("Keep block %u of %u keys near.", w->n, w->n * 2654435761u % 977);

        pthread_rwlock_wrlock(lock);
        add(w, w->n % 3 ? "tiling" : "split-kv", s);
        pthread_rwlock_unlock(lock);
    }
}

static void retrieve_answers_while_insights_come_and_lists_are_made(void **state)
{
    struct world *w = world_new(*state);
    pthread_rwlock_t lock;
    pthread_rwlockattr_t attr;
    atomic_bool stop = false;
    struct reader readers[3] = { { w, &lock, &stop, 0 },
                                 { w, &lock, &stop, 0 },
                                 { w, &lock, &stop, 0 } };
    pthread_t threads[3];
    struct retrieve_stats stats;
    struct err err;

    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&lock, &attr);
    fill_some(w);
    pthread_create(&threads[0], NULL, read_on, &readers[0]);
    pthread_create(&threads[1], NULL, read_on, &readers[1]);
    pthread_create(&threads[2], NULL, maintain, &readers[2]);
    write_some(w, &lock, 20500);
    for (int i = 0; i < 6000; i++) {
        pthread_rwlock_rdlock(&lock);
        retrieve_get_stats(w->r, &stats);
        pthread_rwlock_unlock(&lock);
        if (!stats.exact)
            break;
        usleep(10000);
    }
    assert_false(stats.exact);
    write_some(w, &lock, 22500);
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    assert_true(readers[0].answers > 0 && readers[1].answers > 0);
    assert_ok(retrieve_maintain(w->r, &lock, &err), err);
    retrieve_get_stats(w->r, &stats);
    assert_int_equal(stats.insights, 22500);
    assert_int_equal(stats.vectors_indexed, 22500);
    assert_int_equal(stats.vectors_pending, 0);
    /* With lists too, what a snapshot brings back answers alike. */
    {
        json_auto_t *a = ask(w, "block 77 of keys");

        assert_ok(retrieve_snapshot(w->r, w->n, &err), err);
        restart(w);
        assert_int_equal(w->n_notices, 0);
        assert_equal_answers(w, a, "block 77 of keys");
    }
    pthread_rwlockattr_destroy(&attr);
    pthread_rwlock_destroy(&lock);
    world_free(w);
}

static void retrieve_refuses_insights_out_of_order(void **state)
{
    struct world *w = world_new(*state);
    struct insight in;
    struct err err;

    fill_some(w);
    in = w->v[0];
    in.ordinal = w->n + 1;
    assert_fails(retrieve_add(w->r, &in, &err), err, ERR_INTERNAL);
    assert_fails(retrieve_update(w->r, &in, &err), err, ERR_INTERNAL);
    world_free(w);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, test_dir_setup, test_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(retrieve_finds_by_words_and_says_why),
        TEST(retrieve_resolves_synonyms_in_text_and_filter),
        TEST(retrieve_drops_what_has_nothing_to_do_with_the_text),
        TEST(retrieve_explains_ranks_on_demand),
        TEST(retrieve_counts_what_each_filter_removes),
        TEST(retrieve_filters_by_device_evidence),
        TEST(retrieve_hides_retracted_and_superseded),
        TEST(retrieve_answers_as_of_a_time),
        TEST(retrieve_prefers_what_was_measured_to_help),
        TEST(retrieve_says_when_an_effect_is_borrowed),
        TEST(retrieve_spreads_over_techniques),
        TEST(retrieve_lists_the_newest_evidence),
        TEST(retrieve_takes_its_snapshot_without_a_word),
        TEST(retrieve_says_nothing_of_an_empty_base),
        TEST(retrieve_survives_a_damaged_snapshot_anywhere),
        TEST(retrieve_adds_to_an_older_snapshot),
        TEST(retrieve_refuses_a_snapshot_of_another_base),
        TEST(retrieve_refuses_vectors_of_another_model),
        TEST(retrieve_keeps_the_old_snapshot_when_it_cannot_write),
        TEST(retrieve_refuses_bad_questions),
        TEST(retrieve_survives_hostile_text),
        TEST(retrieve_answers_the_same_again_and_in_another_order),
        TEST(retrieve_answers_while_insights_come_and_lists_are_made),
        TEST(retrieve_refuses_insights_out_of_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
