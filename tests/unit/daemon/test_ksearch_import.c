/* SPDX-License-Identifier: Apache-2.0 */
/* Runs of K-Search as past searches: what is read, what is repaired, and that nothing is forged. */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "ksearch_import.h"
#include "ksearch_read.h"
#include "search/search.h"
#include "unit/test.h"

#define T(name) cmocka_unit_test_setup_teardown(name, test_dir_setup, test_dir_teardown)

/* ---- Reading ---- */

#define TREE(nodes) "{\"decision_tree\":{\"root_id\":\"root\",\"nodes\":[" nodes "]}}"
#define ROOT "{\"node_id\":\"root\",\"parent_id\":null}"
#define LINE(id, eval)                                                                             \
    "{\"solution_id\":\"" id "\",\"task\":\"t\",\"raw\":\"__global__ void " id                     \
    "(){}\",\"eval_result\":" eval "}\n"
#define PASSED(factor) "{\"status\":\"passed\",\"mean_vs_baseline_factor\":" factor "}"

static struct ksearch_run read_run(const char *model, const char *store)
{
    struct ksearch_run r;
    struct err err;

    assert_ok(ksearch_read(model, strlen(model), store, strlen(store), &r, &err), err);
    return r;
}

/* One node of rating 4 with these members in its action, and in itself. */
static struct ksearch_run read_node(const char *action, const char *more)
{
    CLEANUP(freep)
    char *text =
        str_printf(TREE(ROOT ",{\"node_id\":\"a\",\"parent_id\":\"root\","
                             "\"overall_rating_0_to_10\":4%s,\"action\":{\"title\":\"x\"%s}}"),
                   more, action);

    return read_run(text, "");
}

/* What K-Search makes of numbers; where that is not what was written, a repair says so. */
static void numbers_are_read_as_k_search_reads_them(void **state)
{
    static const struct {
        const char *value;
        int want;
        size_t repairs;
    } difficulties[] = { { ",\"difficulty_1_to_5\":9", 5, 1 },
                         { ",\"difficulty_1_to_5\":0", 1, 1 },
                         { ",\"difficulty_1_to_5\":\"hard\"", 3, 1 },
                         { ",\"difficulty_1_to_5\":2.9", 2, 0 },
                         { ",\"difficulty_1_to_5\":null", 3, 0 },
                         { ",\"difficulty_0_to_3\":0", 1, 0 },
                         { ",\"difficulty_0_to_3\":0,\"difficulty_1_to_5\":4", 4, 0 } };
    static const struct {
        const char *value;
        double want;
        size_t repairs;
    } scores[] = {
        { ",\"score_0_to_1\":null", 0.4, 0 },     { ",\"score_0_to_1\":\"0.8\"", 0.8, 0 },
        { ",\"score_0_to_1\":1.7", 1, 1 },        { ",\"score_0_to_1\":-1", 0, 1 },
        { ",\"score_0_to_1\":\"high\"", 0.4, 1 }, { "", 0.4, 0 },
        { ",\"score_0_to_1\":NaN", 0.4, 2 }
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(difficulties); i++) {
        struct ksearch_run r = read_node(difficulties[i].value, "");

        assert_int_equal(r.nodes[1].difficulty, difficulties[i].want);
        assert_int_equal(r.n_repairs, difficulties[i].repairs);
        ksearch_run_release(&r);
    }
    for (size_t i = 0; i < ARRAY_LEN(scores); i++) {
        struct ksearch_run r = read_node(scores[i].value, "");

        assert_float_equal(r.nodes[1].score, scores[i].want, 1e-12);
        assert_int_equal(r.n_repairs, scores[i].repairs);
        ksearch_run_release(&r);
    }
}

static void misread_numbers_are_told(void **state)
{
    struct ksearch_run a = read_node(",\"expected_vs_baseline_factor\":\"1.2x\"", "");
    struct ksearch_run b = read_node(",\"expected_vs_baseline_factor\":2", "");
    struct ksearch_run c = read_node("", ",\"confidence_0_to_1\":70");
    struct ksearch_run d =
        read_run(TREE(ROOT ",{\"node_id\":\"a\",\"overall_rating_0_to_10\":\"8/10\"}"), "");

    (void)state;
    assert_false(a.nodes[1].has_expected);
    assert_int_equal(a.n_repairs, 1);
    assert_true(b.nodes[1].has_expected);
    assert_float_equal(b.nodes[1].expected, log(2), 1e-12);
    assert_float_equal(c.nodes[1].confidence, 1, 0);
    assert_int_equal(c.n_repairs, 1);
    assert_float_equal(d.nodes[1].rating, 0, 0);
    assert_float_equal(d.nodes[1].score, 0, 0); /* no action */
    assert_true(d.n_repairs >= 1);
    ksearch_run_release(&a);
    ksearch_run_release(&b);
    ksearch_run_release(&c);
    ksearch_run_release(&d);
}

/* Circles, doubled ids, unknown parents, a root with a parent: a tree comes out of all of them. */
static void a_broken_tree_becomes_a_tree(void **state)
{
    struct ksearch_run r = read_run(
        TREE("{\"node_id\":\"root\",\"parent_id\":\"b\"},"
             "{\"node_id\":\"a\",\"parent_id\":\"b\"},{\"node_id\":\"b\",\"parent_id\":\"a\"},"
             "{\"node_id\":\"c\",\"parent_id\":\"c\"},{\"node_id\":\"d\",\"parent_id\":\"gone\"},"
             "{\"node_id\":\"d\",\"parent_id\":\"root\"},{\"node_id\":\"../x y\",\"parent_id\":"
             "\"d\"},7,{\"parent_id\":\"root\"}"),
        "");

    (void)state;
    assert_int_equal(r.n_nodes, 8);
    for (size_t i = 0; i < r.n_nodes; i++) {
        assert_true(i == 0 ? r.nodes[i].parent == -1 : r.nodes[i].parent < (int)i);
        assert_true(str_is_name(r.nodes[i].id));
        for (size_t k = 0; k < i; k++)
            assert_string_not_equal(r.nodes[i].id, r.nodes[k].id);
    }
    assert_true(r.n_repairs >= 6);
    ksearch_run_release(&r);
}

/* A model can write any evidence into its tree: only what the store has counts. */
static void forged_evidence_closes_nothing(void **state)
{
    struct ksearch_run r = read_run(
        TREE(ROOT
             ",{\"node_id\":\"a\",\"parent_id\":\"root\",\"action\":{\"title\":\"x\"},"
             "\"solution_ref\":{\"solution_id\":\"none\",\"eval\":" PASSED(
                 "99") "}},"
                       "{\"node_id\":\"b\",\"parent_id\":\"root\",\"action\":{\"title\":\"y\"},"
                       "\"solution_ref\":{\"solution_id\":\"s1\",\"eval\":" PASSED(
                           "99") "}},"
                                 "{\"node_id\":\"c\",\"parent_id\":\"root\",\"action\":{\"title\":"
                                 "\"z\"},"
                                 "\"solution_ref\":{\"solution_id\":\"s1\"}},"
                                 "{\"node_id\":\"d\",\"parent_id\":\"root\",\"action\":{\"title\":"
                                 "\"w\"},"
                                 "\"solution_ref\":{\"eval\":" PASSED("99") "}}"),
        LINE("s1", PASSED("1.5")));

    (void)state;
    assert_int_equal(r.nodes[1].solution, KSEARCH_NONE);
    assert_int_equal(r.nodes[2].solution, 0);
    assert_int_equal(r.nodes[3].solution, KSEARCH_NONE);
    assert_int_equal(r.nodes[4].solution, KSEARCH_NONE);
    assert_float_equal(r.solutions[0].result.vs_baseline, 1.5, 0);
    assert_int_equal(r.n_repairs, 4);
    ksearch_run_release(&r);
}

static void the_store_is_read_past_bad_lines(void **state)
{
    struct ksearch_run r = read_run(
        TREE(ROOT),
        "\n" LINE("s1", PASSED("1")) "{\"solution_id\": \"cut\n[1]\n{\"raw\":\"x\"}\n" LINE(
            "s2", "{\"status\":\"COMPILE_ERROR\",\"mean_vs_baseline_factor\":7,"
                  "\"metrics\":{\"score\":7,\"score_name\":\"mean_vs_baseline\"}}")
            LINE("s1", PASSED("2")) "   \r\n" LINE("s3", "null"));

    (void)state;
    assert_int_equal(r.n_solutions, 3);
    assert_int_equal(r.n_skipped, 3);
    assert_string_equal(r.solutions[0].id, "s2");
    assert_string_equal(r.solutions[0].result.status, "build_failed");
    assert_true(isnan(r.solutions[0].result.vs_baseline)); /* a failure has no speed */
    assert_string_equal(r.solutions[0].language, "cuda");
    assert_float_equal(r.solutions[1].result.vs_baseline, 2, 0); /* the later line counts */
    assert_false(r.solutions[2].result.passed);
    assert_int_equal(r.n_repairs, 1);
    ksearch_run_release(&r);
}

static void texts_keep_their_quotes_and_numbers_that_are_none_are_counted(void **state)
{
    struct ksearch_run r = read_run(
        TREE("{\"node_id\":\"root\",\"notes\":\"say \\\"NaN\\\" \\\\\",\"confidence_0_to_1\":NaN,"
             "\"overall_rating_0_to_10\":-Infinity}"),
        "");

    (void)state;
    assert_string_equal(r.nodes[0].notes, "say \"NaN\" \\");
    assert_int_equal(r.n_repairs, 3); /* two fields, and that there were such */
    ksearch_run_release(&r);
}

static void what_is_no_world_model_is_refused(void **state)
{
    static const char *const bad[] = { "",
                                       "[]",
                                       "{}",
                                       "{\"decision_tree\":{}}",
                                       "{\"decision_tree\":{\"nodes\":{}}}",
                                       "{\"decision_tree\":" };
    struct ksearch_run r;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_fails(ksearch_read(bad[i], strlen(bad[i]), "", 0, &r, &err), err, ERR_INVALID);
}

static void too_many_nodes_are_refused(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 1 << 20 };
    struct ksearch_run r;
    struct err err;

    (void)state;
    buf_addf(&b, "{\"decision_tree\":{\"nodes\":[{}");
    for (int i = 1; i < WORLD_NODES_MAX; i++)
        buf_addf(&b, ",{}");
    buf_addf(&b, "]}}");
    assert_fails(ksearch_read(b.data, b.len, "", 0, &r, &err), err, ERR_LIMIT);
}

/* A chain is hung up again where the tree ends. */
static void a_deep_tree_is_cut(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 1 << 20 };
    struct ksearch_run r;

    (void)state;
    buf_addf(&b, "{\"decision_tree\":{\"nodes\":[" ROOT);
    for (int i = 1; i < 200; i++)
        buf_addf(&b, ",{\"node_id\":\"n%d\",\"parent_id\":\"%s%.0d\"}", i, i > 1 ? "n" : "root",
                 i > 1 ? i - 1 : 0);
    buf_addf(&b, "]}}");
    r = read_run(buf_str(&b), "");
    assert_int_equal(r.n_nodes, 200);
    assert_int_equal(r.n_repairs, 3);
    ksearch_run_release(&r);
}

/* ---- Importing ---- */

struct base {
    struct kb *kb;
    struct search_scope scope;
    json_t *device;
};

static struct base base_open(const char *dir)
{
    struct kb_options o = { .dir = dir, .clock = clock_system() };
    struct base b = { 0 };
    struct err err;

    assert_ok(kb_open(&o, &b.kb, &err), err);
    b.scope = (struct search_scope){ .family = xstrdup("gqa"),
                                     .shape = xstrdup("heads=4"),
                                     .dtype = xstrdup("bf16"),
                                     .language = xstrdup("c"),
                                     .bottleneck = xstrdup("memory"),
                                     .device_class = xstrdup("recorded-h100"),
                                     .toolchain = xstrdup(""),
                                     .march = xstrdup(""),
                                     .features = json_object(),
                                     .relatives = json_pack("[{s:s, s:f}]", "task", "t",
                                                            "similarity", 1.0) };
    b.device = json_pack("{s:s, s:s}", "name", "h100", "class", "recorded-h100");
    return b;
}

static void base_close(struct base *b)
{
    search_scope_release(&b->scope);
    json_decref(b->device);
    kb_close(b->kb);
}

static char *pack_files(const char *model, const char *store)
{
    return str_printf("{\"format\":\"k-search\",\"world_model\":%zu,\"solutions\":%zu}\n%s%s",
                      strlen(model), strlen(store), model, store);
}

static json_t *import(struct base *b, const char *model, const char *store)
{
    struct ksearch_place place = { "t", "h100", &b->scope, b->device, 1000 };
    CLEANUP(freep) char *data = pack_files(model, store);
    json_t *reply = NULL;
    struct err err;

    assert_ok(ksearch_import(b->kb, &place, data, strlen(data), &reply, &err), err);
    return reply;
}

static json_t *import_fixture(struct base *b)
{
    CLEANUP(buf_release) struct buf model = { .max = 1 << 20 }, store = { .max = 1 << 20 };
    struct err err;

    assert_ok(
        file_read(KS_SOURCE_DIR "/tests/fixtures/k-search/run/world_model.json", &model, &err),
        err);
    assert_ok(file_read(KS_SOURCE_DIR "/tests/fixtures/k-search/run/solutions.jsonl", &store, &err),
              err);
    return import(b, buf_str(&model), buf_str(&store));
}

static struct search *load(struct base *b, const json_t *reply)
{
    struct search *s = NULL;
    struct err err;

    assert_ok(search_load(b->kb, jsonx_str(reply, "search", ""), false, &s, &err), err);
    assert_ok(world_check(s->world, &err), err);
    return s;
}

static void a_run_becomes_a_past_search(void **state)
{
    struct base b = base_open(*state);
    json_auto_t *reply = import_fixture(&b), *show = NULL, *tree = NULL;
    struct search *s = load(&b, reply);
    const struct world_node *n;

    show = search_show_json(s);
    tree = search_tree_json(s);
    assert_int_equal(jsonx_int(reply, "nodes", 0), 5);
    assert_int_equal(jsonx_int(reply, "closed", 0), 2);
    assert_int_equal(jsonx_int(reply, "solutions", 0), 3);
    assert_int_equal(jsonx_int(reply, "evaluations", 0), 2); /* one has a latency alone */
    assert_int_equal(jsonx_int(reply, "claims", 0), 1);      /* split-KV has no measured parent */
    assert_int_equal(jsonx_int(reply, "left_out", 0), 1);
    assert_string_equal(jsonx_str(reply, "objective", ""), "mean_vs_baseline_factor");
    assert_int_equal(jsonx_int(reply, "repaired", 0), 3);
    assert_string_equal(jsonx_str(show, "state", ""), "done");
    assert_string_equal(jsonx_str(show, "proposer", ""), "k-search");
    assert_float_equal(jsonx_num(json_object_get(show, "best"), "objective", 0), 0.76, 1e-6);
    assert_int_equal(json_array_size(json_object_get(show, "curve")), 2);
    assert_int_equal(json_array_size(json_object_get(tree, "nodes")), 5);
    n = world_get(s->world, world_find(s->world, "n_soft"));
    assert_int_equal(n->state, WORLD_CLOSED);
    assert_float_equal(n->rating, 8, 0);
    assert_string_equal(n->evidence.parent_program,
                        world_get(s->world, world_find(s->world, "n_split"))->evidence.program);
    n = world_get(s->world, world_find(s->world, "n_mma"));
    assert_int_equal(n->state, WORLD_OPEN);
    assert_int_equal(n->action.difficulty, 5);
    assert_float_equal(n->confidence, 1, 0);
    assert_string_equal(s->scope.language, "cuda");
    assert_non_null(strstr(search_program_source(s, 1), "__global__ void part"));
    search_free(s);
    base_close(&b);
}

static int check_origin(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct base *b = ctx;
    char origin[KB_ORIGIN_MAX + 1];
    struct err err;

    (void)seq;
    assert_ok(kb_fact_origin(b->kb, id, origin, &err), err);
    assert_string_equal(origin, KSEARCH_ORIGIN);
    assert_string_equal(e->language, "cuda");
    assert_string_equal(e->device, "h100");
    return 0;
}

static int take_claim(void *ctx, const struct insight *in)
{
    assert_string_equal(in->claim.technique, "online-softmax");
    ++*(int *)ctx;
    return 0;
}

static int take_id(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct id *ids = ctx;

    (void)seq;
    (void)e;
    ids[ids[0].hex[0] != '\0'] = *id;
    return 0;
}

static void facts_are_from_elsewhere_and_claims_rest_on_measurements(void **state)
{
    struct base b = base_open(*state);
    char origin[KB_ORIGIN_MAX + 1];
    struct id ids[2] = { 0 };
    struct err err;
    int claims = 0;

    json_decref(import_fixture(&b));
    assert_ok(kb_each_evaluation(b.kb, "t", "h100", UINT64_MAX, take_id, ids, &err), err);
    assert_true(ids[1].hex[0] != '\0');
    for (size_t i = 0; i < 2; i++) {
        struct evaluation e;

        assert_ok(kb_get_evaluation(b.kb, &ids[i], &e, &err), err);
        check_origin(&b, 0, &ids[i], &e);
        assert_ok(kb_fact_origin(b.kb, &ids[i], origin, &err), err);
        evaluation_release(&e);
    }
    kb_each_insight(b.kb, take_claim, &claims);
    assert_int_equal(claims, 1);
    base_close(&b);
}

static void the_same_run_again_changes_nothing(void **state)
{
    struct base b = base_open(*state);
    json_auto_t *first = import_fixture(&b), *again = NULL, *problems = json_array();
    uint64_t seq = kb_last_seq(b.kb);
    struct id digest;
    struct err err;

    again = import_fixture(&b);
    assert_true(json_is_true(json_object_get(first, "changed")));
    assert_true(json_is_false(json_object_get(again, "changed")));
    assert_string_equal(jsonx_str(first, "search", ""), jsonx_str(again, "search", ""));
    assert_int_equal(jsonx_int(again, "closed", 0), 2);
    assert_int_equal(kb_last_seq(b.kb), seq);
    assert_ok(kb_verify(b.kb, problems, &digest, &err), err);
    assert_int_equal(json_array_size(problems), 0);
    base_close(&b);
}

/* A seed that failed closes the root, as K-Search has it; a node below an open one stays open, and
 * what was measured is told all the same. */
static void seeds_and_loose_solutions_are_kept(void **state)
{
    struct base b = base_open(*state);
    json_auto_t *reply = import(
        &b,
        TREE(
            "{\"node_id\":\"root\",\"solution_ref\":{\"solution_id\":\"seed\"}},"
            "{\"node_id\":\"open\",\"parent_id\":\"root\",\"decision\":\"?\"},"
            "{\"node_id\":\"below\",\"parent_id\":\"open\",\"action\":{\"title\":\"x\"},"
            "\"solution_ref\":{\"solution_id\":\"s1\"}},"
            "{\"node_id\":\"twin\",\"parent_id\":\"root\",\"action\":{\"title\":\"Same words\"}},"
            "{\"node_id\":\"twin2\",\"parent_id\":\"root\",\"action\":{\"title\":\"same  words\"}},"
            "{\"node_id\":\"mute\",\"parent_id\":\"root\",\"action\":{\"title\":\"???\"}},"
            "{\"node_id\":\"bare\",\"parent_id\":\"root\",\"solution_ref\":{\"solution_id\":\"s3\"}"
            "}"),
        LINE("seed", "{\"status\":\"RUNTIME_ERROR\",\"log_excerpt\":\"at /home/me/x.cu:3\"}")
            LINE("s1", PASSED("1.5")) LINE("s2", PASSED("1.2")) LINE("s3", PASSED("1.1")));
    struct search *s = load(&b, reply);

    assert_int_equal(jsonx_int(reply, "closed", 0), 2);
    assert_int_equal(jsonx_int(reply, "evaluations", 0), 4);
    assert_int_equal(world_get(s->world, 0)->state, WORLD_CLOSED);
    assert_string_equal(world_get(s->world, 0)->evidence.status, "crashed");
    assert_int_equal(world_get(s->world, world_find(s->world, "below"))->state, WORLD_OPEN);
    assert_int_equal(world_get(s->world, world_find(s->world, "bare"))->state, WORLD_CLOSED);
    assert_int_equal(search_measured(s), 4);
    assert_null(strstr(search_trial(s, 1)->message, "/home"));
    assert_non_null(strstr(search_program_source(s, 0), "seed"));
    assert_float_equal(exp(1e-6 * (double)search_best_q(s)), 1.5, 1e-5);
    search_free(s);
    base_close(&b);
}

/* A title that two siblings share is cut for the id that tells them apart, between characters. */
static void long_twins_stay_text(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 1 << 16 };
    struct base base = base_open(*state);
    json_auto_t *reply = NULL;

    buf_addf(&b, "{\"decision_tree\":{\"nodes\":[" ROOT);
    for (int i = 0; i < 2; i++) {
        buf_addf(&b, ",{\"node_id\":\"n%d\",\"parent_id\":\"root\",\"action\":{\"title\":\"a", i);
        for (int k = 0; k < 150; k++)
            buf_addf(&b, "ä");
        buf_addf(&b, "\"}}");
    }
    buf_addf(&b, "]}}");
    reply = import(&base, buf_str(&b), "");
    assert_int_equal(jsonx_int(reply, "nodes", 0), 3);
    search_free(load(&base, reply));
    base_close(&base);
}

/* Ratios over a naive reference are another scale: they count where there is nothing else. */
static void scales_do_not_mix(void **state)
{
    struct base b = base_open(*state);
    json_auto_t *both = import(&b, TREE(ROOT),
                               LINE("s1", PASSED("1.5"))
                                   LINE("s2", "{\"status\":\"passed\",\"speedup_factor\":900}"));
    json_auto_t *one =
        import(&b, TREE(ROOT), LINE("s2", "{\"status\":\"passed\",\"speedup_factor\":900}"));
    json_auto_t *none =
        import(&b, TREE(ROOT), LINE("s2", "{\"status\":\"passed\",\"latency_ms\":1.03}"));

    assert_int_equal(jsonx_int(both, "evaluations", 0), 1);
    assert_int_equal(jsonx_int(one, "evaluations", 0), 1);
    assert_string_equal(jsonx_str(one, "objective", ""), "speedup_factor");
    assert_int_equal(jsonx_int(none, "evaluations", 0), 0);
    assert_int_equal(jsonx_int(none, "solutions", 0), 1);
    assert_string_equal(jsonx_str(none, "objective", ""), "none");
    search_free(load(&b, none));
    base_close(&b);
}

static void a_bad_file_stores_nothing(void **state)
{
    static const char *const bad[] = {
        "",
        "{}\n",
        "{\"format\":\"t4\"}\n{}",
        "no line",
        "{\"format\":\"k-search\",\"world_model\":9,\"solutions\":0}\n{}",
        "{\"format\":\"k-search\",\"world_model\":-1,\"solutions\":0}\n{}",
        "{\"format\":\"k-search\",\"world_model\":2,\"solutions\":9223372036854775807}\n{}",
        "{\"format\":\"k-search\",\"world_model\":2,\"solutions\":0}\n{}"
    };
    struct base b = base_open(*state);
    struct ksearch_place place = { "t", "h100", &b.scope, b.device, 1000 };
    struct kb_stats stats;
    json_t *reply = NULL;
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++)
        assert_fails(ksearch_import(b.kb, &place, bad[i], strlen(bad[i]), &reply, &err), err,
                     ERR_INVALID);
    assert_ok(kb_get_stats(b.kb, &stats, &err), err);
    for (size_t i = 0; i < KB_DOC_COUNT; i++)
        assert_int_equal(stats.docs[i], 0);
    base_close(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(numbers_are_read_as_k_search_reads_them),
        T(misread_numbers_are_told),
        T(a_broken_tree_becomes_a_tree),
        T(forged_evidence_closes_nothing),
        T(the_store_is_read_past_bad_lines),
        T(texts_keep_their_quotes_and_numbers_that_are_none_are_counted),
        T(what_is_no_world_model_is_refused),
        T(too_many_nodes_are_refused),
        T(a_deep_tree_is_cut),
        T(a_run_becomes_a_past_search),
        T(facts_are_from_elsewhere_and_claims_rest_on_measurements),
        T(the_same_run_again_changes_nothing),
        T(seeds_and_loose_solutions_are_kept),
        T(long_twins_stay_text),
        T(scales_do_not_mix),
        T(a_bad_file_stores_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
