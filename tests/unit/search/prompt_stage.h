/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A search to make prompts of: folded from events that are stored in a base of its own, with a
 * tree, programs, failures and one lane in a cycle. Included by the one test that uses it.
 */
#ifndef KS_TEST_PROMPT_STAGE_H
#define KS_TEST_PROMPT_STAGE_H

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/feedback.h"
#include "eval/pack.h"
#include "search/brief.h"
#include "search/journal.h"
#include "search/prompt.h"
#include "search/search.h"
#include "unit/test.h"

/* What all stages share: opening a base takes longer than all the rest. */
struct house {
    char *dir;
    struct clock_fake clock;
    struct kb *kb;
    struct packs *packs;
    unsigned searches;
};

struct stage {
    struct house *house;
    char id[SEARCH_ID_MAX];
    struct search *s;
};

#define STAGE_TUNED                                                                                \
    "#include \"ks_task.h\"\n"                                                                     \
    "//@tunable TILE int 8|16|32 default 16 \"keys per tile\"\n"                                   \
    "int ks_kernel(const struct ks_call *call)\n"                                                  \
    "{\n"                                                                                          \
    "    return call->threads < TILE - TILE;\n"                                                    \
    "}\n"

static inline json_t *stage_device(void)
{
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:{s:i, s:i, s:i}, s:f, s:f, s:f, s:s, "
                     "s:[s, s, s], s:s, s:b, s:i}",
                     "name", "rack7-node3", "kind", "cpu", "class", "cpu-avx512", "arch", "znver4",
                     "march", "native", "cores", 2, "threads", 2, "cache_bytes", "l1d", 32768, "l2",
                     1048576, "l3", 33554432, "copy_gbs", 20.1, "read_gbs", 24.0, "fma_gflops",
                     110.0, "toolchain", "gcc 12.2.0", "features", "avx2", "fma", "avx512f",
                     "hostname", "rack7-node3.example", "probed", 1, "probed_at", 1795399865);
}

static inline json_t *stage_brief(struct stage *g, const char *definition)
{
    const struct pack_definition *d = packs_find(g->house->packs, definition);
    json_auto_t *device = stage_device();

    assert_non_null(d);
    return brief_make(d, pack_set(d, "cpu"), device);
}

/* Adds and stores one event (stolen). */
static inline void stage_event(struct stage *g, json_t *event)
{
    struct journal j;
    struct err err;

    assert_non_null(event);
    assert_ok(journal_open(&j, g->s, &g->house->clock.clock, &err), err);
    assert_ok(journal_add(&j, event, &err), err);
    assert_ok(journal_commit(&j, &err), err);
    journal_close(&j);
}

static inline void stage_edit(struct stage *g, struct world_edit *e)
{
    stage_event(g, json_pack("{s:s, s:o}", "type", "edited", "edit", world_edit_to_json(e)));
    world_edit_release(e);
}

/* A node with all of its texts. */
static inline void stage_node(struct world_edit *e, const char *parent, const char *id,
                              const char *title, double score)
{
    struct world_spec *n = &world_edit_add(e, WORLD_OP_INSERT, parent)->spec;

    world_spec_text(n, WORLD_SET_ID, id);
    world_spec_text(n, WORLD_SET_TITLE, title);
    world_spec_text(n, WORLD_SET_DECISION, "how work is mapped");
    world_spec_text(n, WORLD_SET_CHOICE, title);
    world_spec_text(n, WORLD_SET_DESCRIPTION, "Blocks of keys, two passes.");
    world_spec_text(n, WORLD_SET_RATIONALE, "Rows of K and V are read once.");
    world_spec_text(n, WORLD_SET_NOTES, "first line of notes\nsecond line of notes");
    world_spec_number(n, WORLD_SET_SCORE, score);
    world_spec_number(n, WORLD_SET_DIFFICULTY, 2);
    world_spec_number(n, WORLD_SET_RATING, 6);
    world_spec_number(n, WORLD_SET_CONFIDENCE, 0.5);
    world_spec_number(n, WORLD_SET_EXPECTED, log(1.5));
    world_spec_number(n, WORLD_SET_EXPECTED_SD, 0.2);
}

static inline json_t *stage_feedback(const char *status, const char *message, double ratio)
{
    json_t *f = json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:[{s:s, s:s, s:f, s:f, s:f, s:f, s:s}], "
                          "s:[{s:s, s:s, s:i, s:i, s:s, s:i}], s:[{s:i, s:s, s:s}]}",
                          "status", status, "message", message, "objective", ratio, "ci_low",
                          0.98 * ratio, "ci_high", 1.02 * ratio, "worst", ratio, "workloads",
                          "name", "b1_long", "status", status, "ratio", ratio, "baseline_us", 900.5,
                          "candidate_us", 900.5 / ratio, "floor_us", 120.0, "bound", "memory",
                          "diagnostics", "severity", "warning", "kind", "unused-variable", "line",
                          7, "column", 3, "message", "unused variable 'left'", "count", 1, "missed",
                          "line", 31, "reason", "control flow in loop", "source", "for (;;)");

    assert_non_null(f);
    return f;
}

/* Plans and measures one assignment of a program, the duel {challenger_q, champion_q, won} with it
 * (NULL: none); feedback and duel are stolen. */
static inline void stage_measure_duel(struct stage *g, int lane, uint32_t program,
                                      json_t *assignment, const char *status, const char *message,
                                      double log_objective, json_t *feedback, json_t *duel)
{
    json_t *ev;
    uint64_t n = g->s->n_trials + 1;
    bool ok = strcmp(status, "ok") == 0;

    stage_event(g, json_pack("{s:s, s:i, s:I, s:i, s:s, s:o, s:s, s:{s:f, s:f}}", "type", "attempt",
                             "lane", lane, "evaluation", (json_int_t)n, "program", (int)program,
                             "arm", "memory_free", "assignment", assignment, "source",
                             "llm/cold/model-x", "predicted", "mean", log(1.4), "sd", 0.2));
    ev = json_pack("{s:s, s:i, s:I, s:s, s:s, s:I, s:i, s:f, s:b, s:o}", "type", "measured", "lane",
                   lane, "evaluation", (json_int_t)n, "status", status, "message", message,
                   "objective_q", (json_int_t)(ok ? 1e6 * log_objective : 0), "sd_q", 4000,
                   "roofline", 0.31, "improved",
                   duel != NULL ? jsonx_bool(duel, "won", 0)
                                : ok && 1e6 * log_objective > (double)search_best_q(g->s),
                   "feedback", feedback);
    if (duel != NULL)
        json_object_set_new(ev, "duel", duel);
    stage_event(g, ev);
}

/* The same without a duel. */
static inline void stage_measure(struct stage *g, int lane, uint32_t program, json_t *assignment,
                                 const char *status, const char *message, double log_objective,
                                 json_t *feedback)
{
    stage_measure_duel(g, lane, program, assignment, status, message, log_objective, feedback,
                       NULL);
}

static inline void stage_cycle(struct stage *g, int lane, const char *node, uint32_t base)
{
    json_t *ev = json_pack("{s:s, s:i, s:s, s:i, s:I}", "type", "cycle", "lane", lane, "node", node,
                           "program", (int)base, "cycle", (json_int_t)g->s->cycle + 1);
    const struct trial *t = search_trial(g->s, search_program_best(g->s, base));

    if (t != NULL)
        json_object_set_new(ev, "base_q", json_integer(t->objective_q));
    stage_event(g, ev);
}

/* A program that a model wrote for a lane in WRITE. */
static inline void stage_program(struct stage *g, int lane, const char *source, json_t *space,
                                 const char *note)
{
    uint32_t number = search_programs(g->s);
    char hash[LLM_HASH_HEX + 1], id[65];
    uint64_t call = g->s->calls.n + 1;

    llm_request_hash("x", 1, source, "", "", NULL, hash);
    memcpy(id, hash, sizeof(id));
    stage_event(g,
                json_pack("{s:s, s:I, s:s, s:i, s:i, s:s, s:I, s:I, s:s}", "type", "asked", "call",
                          (json_int_t)call, "kind", "code", "lane", lane, "try", 1, "hash", hash,
                          "system", (json_int_t)1, "prefix", (json_int_t)1, "prompt", "p"));
    stage_event(g, json_pack("{s:s, s:i, s:i, s:s, s:s, s:o, s:i, s:I, s:s, s:f, s:f}", "type",
                             "program", "lane", lane, "program", (int)number, "id", id, "source",
                             source, "space", space, "parent", 0, "call", (json_int_t)call, "note",
                             note, "expected", log(1.6), "expected_sd", 0.1));
}

static inline void stage_round(struct stage *g, int lane, uint64_t best, const char *note)
{
    stage_event(g, json_pack("{s:s, s:i, s:I, s:s}", "type", "round", "lane", lane, "evaluation",
                             (json_int_t)best, "note", note));
}

static inline json_t *no_tunables(void)
{
    return json_pack("{s:[], s:[]}", "parameters", "constraints");
}

static inline json_t *one_tunable(void)
{
    return json_pack("{s:[{s:s, s:s, s:s, s:s, s:[i,i,i], s:i}], s:[]}", "parameters", "name",
                     "TILE", "type", "int", "kind", "ordinal", "role", "numeric", "values", 8, 16,
                     32, "default", 16, "constraints");
}

static inline void house_open(struct house *h)
{
    static const char *const tasks[] = { KS_SOURCE_DIR "/tasks" };
    struct kb_options o = { .clock = &h->clock.clock, .sync = false };
    struct err err;

    h->dir = xstrdup("/tmp/ks-test-XXXXXX");
    assert_non_null(mkdtemp(h->dir));
    o.dir = h->dir;
    clock_fake_init(&h->clock, 1700000000ull * NS_PER_SEC);
    assert_ok(packs_load(tasks, 1, &h->packs, &err), err);
    assert_ok(kb_open(&o, &h->kb, &err), err);
}

static inline void house_close(struct house *h)
{
    struct err ignored;

    kb_close(h->kb);
    packs_unref(h->packs);
    file_rmtree(h->dir, &ignored);
    free(h->dir);
}

/* A search that has begun and measured nothing, over `definition`, with this program 0. */
static inline void stage_open(struct stage *g, struct house *house, const char *definition,
                              const char *seed, const char *strategy)
{
    json_t *program = json_pack("{s:s, s:s, s:s, s:s, s:o}", "language", "c", "settings", "-O3",
                                "source", seed, "family", "lab", "space", no_tunables());
    struct search_scope scope = { .family = "gqa_paged_decode",
                                  .shape = "num_kv_heads=8",
                                  .dtype = "bf16",
                                  .language = "c",
                                  .bottleneck = "memory",
                                  .device_class = "cpu-avx512",
                                  .toolchain = "gcc 12.2.0",
                                  .march = "native",
                                  .features = json_object(),
                                  .relatives = json_array() };
    struct search_spec spec = { .task = (char *)definition,
                                .device = "rack7-node3",
                                .set = "cpu",
                                .proposer = "queue",
                                .strategy = (char *)strategy,
                                .policy = SELECT_UTILITY,
                                .cold = true,
                                .seed = 7,
                                .budget_evals = 4000,
                                .window = 3,
                                .lanes = 2 };
    struct kb_batch *b;
    json_t *doc;
    struct err err;

    *g = (struct stage){ .house = house };
    snprintf(g->id, sizeof(g->id), "s%u", ++house->searches);
    memcpy(spec.id, g->id, sizeof(spec.id));
    scope.brief = stage_brief(g, definition);
    assert_ok(id_of_json(program, &scope.program, &err), err);
    doc = search_document(&spec, &scope, 1700000000);
    b = kb_batch_new(house->kb);
    assert_ok(kb_batch_put_doc(b, KB_PROGRAM, scope.program.hex, program, &err), err);
    assert_ok(kb_batch_put_doc(b, KB_SEARCH, g->id, doc, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    assert_ok(search_new(house->kb, doc, false, &g->s, &err), err);
    json_decref(doc);
    json_decref(program);
    json_decref(scope.features);
    json_decref(scope.relatives);
    json_decref(scope.brief);
    stage_event(g, json_pack("{s:s}", "type", "started"));
    stage_event(g, json_pack("{s:s, s:[]}", "type", "seeded", "seeds"));
}

/* Closes a node by a trial, as the end of a cycle does. */
static inline void stage_attach(struct stage *g, const char *node, uint64_t trial)
{
    const struct trial *t = search_trial(g->s, trial);
    struct world_edit e;

    world_edit_init(&e, WORLD_BY_SYSTEM, "cycle", g->s->n_trials);
    world_edit_attach(&e, node, search_program_id(g->s, t->program).hex, "{}", "ok", t->objective_q,
                      t->sd_q, t->n);
    stage_edit(g, &e);
}

/* Program 0 measured; families fa (measured, program 1), fb and a child of fa open, fc abandoned.
 */
static inline void stage_history(struct stage *g)
{
    struct world_edit e;

    stage_cycle(g, 0, WORLD_ROOT_ID, 0);
    stage_measure(g, 0, 0, json_object(), "ok", "", 0.0, stage_feedback("ok", "", 1.0));
    stage_event(g, json_pack("{s:s, s:i, s:s}", "type", "cycle_end", "lane", 0, "reason", "done"));
    stage_attach(g, WORLD_ROOT_ID, 1);
    world_edit_init(&e, WORLD_BY_SYSTEM, "init", 1);
    stage_node(&e, WORLD_ROOT_ID, "fa", "work items by KV head", 0.8);
    stage_node(&e, WORLD_ROOT_ID, "fb", "split sequences into stretches", 0.7);
    stage_node(&e, WORLD_ROOT_ID, "fc", "transposed cache", 0.2);
    stage_node(&e, "fa", "fa1", "vector registers for the accumulators", 0.6);
    stage_node(&e, "fb", "fb1", "merge in parallel", 0.55);
    stage_edit(g, &e);
    stage_cycle(g, 0, "fa", 0);
    stage_program(g, 0, "int ks_kernel; /* first */\n", no_tunables(), "shares rows between heads");
    stage_measure(g, 0, 1, json_object(), "ok", "", log(1.3), stage_feedback("ok", "", 1.3));
    stage_round(g, 0, 2, "");
    stage_event(g, json_pack("{s:s, s:i, s:s}", "type", "cycle_end", "lane", 0, "reason", "done"));
    stage_attach(g, "fa", 2);
    world_edit_init(&e, WORLD_BY_SYSTEM, "refine", 2);
    world_edit_abandon(&e, "fc", "the cache's layout is given");
    stage_edit(g, &e);
    stage_event(g, json_pack("{s:s, s:i, s:s, s:I, s:s, s:I, s:I, s:s, s:i}", "type", "asked",
                             "lane", -1, "kind", "init", "call", (json_int_t)g->s->calls.n + 1,
                             "hash", "aa", "system", (json_int_t)1, "prefix", (json_int_t)1,
                             "prompt", "p", "try", 1));
    stage_event(g, json_pack("{s:s, s:I, s:s, s:s}", "type", "answered", "call",
                             (json_int_t)g->s->calls.n, "answer", "{}", "model", "m"));
    stage_event(g, json_pack("{s:s, s:I, s:b, s:s, s:[s, s]}", "type", "used", "call",
                             (json_int_t)g->s->calls.n, "fruitful", 1, "summary",
                             "Decoding streams K and V once; the floor is memory.", "questions",
                             "Does prefetching pay?", "Is exp the limit?"));
}

/* Lane 0 in a cycle on fa1 from program 1: a program that fails, then one with a tunable that
 * passes. */
static inline void stage_rounds(struct stage *g, bool pass)
{
    stage_cycle(g, 0, "fa1", 1);
    stage_program(g, 0, "int ks_kernel; /* second */\n", no_tunables(), "accumulates in registers");
    stage_measure(g, 0, 2, json_object(), "wrong_value",
                  "workload b8_ragged: output[3] is 1.5, expected 0.25", 0,
                  stage_feedback("wrong_value", "output[3] is 1.5", 1));
    stage_round(g, 0, 0, "");
    if (!pass)
        return;
    stage_program(g, 0, STAGE_TUNED, one_tunable(), "remainder fixed");
    stage_measure(g, 0, 3, json_pack("{s:i}", "TILE", 16), "ok", "", log(1.5),
                  stage_feedback("ok", "", 1.5));
    stage_measure(g, 0, 3, json_pack("{s:i}", "TILE", 32), "ok", "", log(1.7),
                  stage_feedback("ok", "", 1.7));
    stage_round(g, 0, 5, "");
}

static inline void stage_close(struct stage *g)
{
    search_free(g->s);
}

#endif
