/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing K-Search runs; see ksearch_import.h. A world of its own is kept while events are made,
 * so that every edit that is stored has been applied once.
 */
#include "ksearch_import.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "ksearch_read.h"
#include "search/redact.h"
#include "search/search.h"
#include "search/world_ops.h"
#include "vocab.h"

/* What one measurement scatters where the records do not say: 5 %, as a micro-log. */
enum { UNKNOWN_SD_Q = 48790 };

/* The scale of the objective: ratios over a baseline and over a naive reference do not mix. */
enum scale { SCALE_NONE, SCALE_BASELINE, SCALE_REFERENCE };
static const char *const scale_names[] = { "none", "mean_vs_baseline_factor", "speedup_factor" };

struct import {
    struct kb *kb;
    const struct ksearch_place *place;
    struct ksearch_run run;
    char id[SEARCH_ID_MAX];
    struct id digest; /* of files, task and device */
    enum scale scale;
    struct kb_batch *batch;
    struct world *world;
    bool *inserted, *closes, *closed; /* per node */
    struct id *programs;              /* per solution */
    long *numbers;                    /* of programs in the search, per solution; -1 */
    struct id *facts;                 /* evaluations, per solution; "" for none */
    uint64_t seq, trials, cycles, n_programs, n_facts, n_claims, n_closed;
    uint64_t best_trial;
    int64_t best_q;
};

static void import_release(struct import *im)
{
    ksearch_run_release(&im->run);
    kb_batch_free(im->batch);
    world_free(im->world);
    free(im->inserted);
    free(im->closes);
    free(im->closed);
    free(im->programs);
    free(im->numbers);
    free(im->facts);
}

/* ---- Objectives ---- */

static double ratio_of(const struct ksearch_result *r, enum scale scale)
{
    return scale == SCALE_BASELINE ? r->vs_baseline : scale == SCALE_REFERENCE ? r->speedup : NAN;
}

/* The baseline's scale as soon as anything passed on it; else the reference's. */
static enum scale choose_scale(const struct ksearch_run *run)
{
    enum scale scale = SCALE_NONE;

    for (size_t i = 0; i < run->n_solutions; i++) {
        const struct ksearch_result *r = &run->solutions[i].result;

        if (r->passed && isfinite(r->vs_baseline))
            return SCALE_BASELINE;
        if (r->passed && isfinite(r->speedup))
            scale = SCALE_REFERENCE;
    }
    return scale;
}

/* Failed, or passed with an objective on the scale: what can be a trial and a fact. */
static bool is_measured(const struct import *im, const struct ksearch_solution *s)
{
    return !s->result.passed || isfinite(ratio_of(&s->result, im->scale));
}

static bool is_ok(const struct import *im, const struct ksearch_solution *s)
{
    return s->result.passed && isfinite(ratio_of(&s->result, im->scale));
}

static int64_t objective_q(const struct import *im, const struct ksearch_solution *s)
{
    return is_ok(im, s) ? quantise_log(ratio_of(&s->result, im->scale)) : 0;
}

/* ---- Events ---- */

/* Takes the event, and the edit (NULL for none), which must apply. */
static int emit(struct import *im, json_t *event, struct world_edit *edit, struct err *err)
{
    int rc = 0;

    if (event == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an event");
    if (edit != NULL) {
        rc = world_apply(im->world, edit, NULL, err);
        json_object_set_new(event, "edit", world_edit_to_json(edit));
        world_edit_release(edit);
    }
    json_object_set_new(event, "seq", json_integer((json_int_t)im->seq));
    json_object_set_new(event, "at", json_integer((json_int_t)im->place->now_s));
    if (rc == 0)
        rc = kb_batch_add_event(im->batch, im->id, im->seq, event, err);
    im->seq++;
    json_decref(event);
    return rc;
}

static const char *label_of(const struct ksearch_node *n)
{
    return n->title[0] ? n->title : n->choice[0] ? n->choice : n->decision[0] ? n->decision : n->id;
}

/* ---- Nodes ---- */

/* What the run knew of a solution that our evidence cannot hold. */
static void add_notes(const struct import *im, const struct ksearch_node *n, struct buf *notes)
{
    const struct ksearch_solution *s;

    buf_addf(notes, "%s", n->notes);
    if (n->solution == KSEARCH_NONE)
        return;
    s = &im->run.solutions[n->solution];
    buf_addf(notes, "%sK-Search solution %.80s: %s", notes->len ? "\n" : "", s->name,
             s->result.status);
    if (isfinite(s->result.latency_ms))
        buf_addf(notes, ", %.6g ms", s->result.latency_ms);
    if (isfinite(s->result.vs_baseline))
        buf_addf(notes, ", %.4gx the baseline", s->result.vs_baseline);
    if (isfinite(s->result.speedup))
        buf_addf(notes, ", %.4gx the reference", s->result.speedup);
}

/* The node as an insert; `more` makes its title its own where a sibling has the same. */
static void insert_edit(const struct import *im, size_t at, bool more, struct world_edit *edit)
{
    const struct ksearch_node *n = &im->run.nodes[at];
    const char *title = n->title;
    struct buf notes = { .max = 64 << 10 };
    char longer[WORLD_LABEL_MAX + 1];
    struct world_spec *s;

    world_edit_init(edit, WORLD_BY_SYSTEM, "import", im->trials);
    s = &world_edit_add(edit, WORLD_OP_INSERT, im->run.nodes[n->parent].id)->spec;
    if (im->closes[at] && title[0] == '\0') /* only an action can be carried out */
        title = label_of(n);
    if (more) {
        snprintf(longer, sizeof(longer), "%.*s (%s)", WORLD_LABEL_MAX - WORLD_ID_MAX - 4, title,
                 n->id);
        title = longer;
    }
    add_notes(im, n, &notes);
    if (notes.len > WORLD_TEXT_MAX) /* its own notes first, as they were */
        buf_clear(&notes);
    world_spec_text(s, WORLD_SET_ID, n->id);
    world_spec_kind(s, WORLD_DECISION);
    world_spec_text(s, WORLD_SET_DECISION, n->decision[0] || title[0] ? n->decision : label_of(n));
    world_spec_text(s, WORLD_SET_CHOICE, n->choice);
    world_spec_text(s, WORLD_SET_IMPACTS, n->impacts);
    world_spec_text(s, WORLD_SET_NOTES, notes.len ? buf_str(&notes) : n->notes);
    world_spec_text(s, WORLD_SET_TITLE, title);
    world_spec_text(s, WORLD_SET_DESCRIPTION, n->description);
    world_spec_text(s, WORLD_SET_RATIONALE, n->rationale);
    world_spec_number(s, WORLD_SET_RATING, n->rating);
    world_spec_number(s, WORLD_SET_CONFIDENCE, n->confidence);
    world_spec_number(s, WORLD_SET_SCORE, n->score);
    world_spec_number(s, WORLD_SET_DIFFICULTY, n->difficulty);
    if (n->has_expected) {
        world_spec_number(s, WORLD_SET_EXPECTED, n->expected);
        world_spec_number(s, WORLD_SET_EXPECTED_SD, 1 - n->confidence);
    }
    buf_release(&notes);
}

static int insert_node(struct import *im, size_t at, struct err *err)
{
    const struct ksearch_node *n = &im->run.nodes[at];
    struct world_edit edit;
    struct err why;

    insert_edit(im, at, false, &edit);
    if (world_try(im->world, &edit, NULL, &why) != 0) {
        world_edit_release(&edit);
        insert_edit(im, at, true, &edit);
        ksearch_repair(&im->run, "node '%s' got its id into its title: %.200s", n->id, why.msg);
    }
    im->inserted[at] = true;
    if (emit(im, json_pack("{s:s}", "type", "edited"), &edit, err) != 0)
        return err_ctx(err, "node '%s'", n->id);
    return 0;
}

/* Every node whose parent is there and will not change any more. */
static int insert_ready(struct import *im, struct err *err)
{
    for (size_t i = 1; i < im->run.n_nodes; i++) {
        int p = im->run.nodes[i].parent;

        if (im->inserted[i] || !im->inserted[p] || (im->closes[p] && !im->closed[p]))
            continue;
        if (insert_node(im, i, err) != 0)
            return -1;
    }
    return 0;
}

/* Summary and notes of the root. */
static int patch_root(struct import *im, struct err *err)
{
    const struct ksearch_node *n = &im->run.nodes[0];
    struct buf notes = { .max = 64 << 10 };
    struct world_edit edit;
    struct world_spec *s;

    buf_addf(&notes, "%s", im->run.summary);
    if (n->notes[0] && notes.len + strlen(n->notes) + 1 <= WORLD_TEXT_MAX)
        buf_addf(&notes, "%s%s", notes.len ? "\n" : "", n->notes);
    world_edit_init(&edit, WORLD_BY_SYSTEM, "import", 0);
    s = &world_edit_add(&edit, WORLD_OP_UPDATE, WORLD_ROOT_ID)->spec;
    world_spec_text(s, WORLD_SET_NOTES, buf_str(&notes));
    world_spec_number(s, WORLD_SET_RATING, n->rating);
    world_spec_number(s, WORLD_SET_CONFIDENCE, n->confidence);
    buf_release(&notes);
    return emit(im, json_pack("{s:s}", "type", "edited"), &edit, err);
}

/* ---- Programs ---- */

static json_t *space_of_nothing(void)
{
    return json_pack("{s:[]}", "parameters");
}

static int put_program(struct import *im, const char *language, const char *source, struct id *id,
                       struct err *err)
{
    json_auto_t *doc = json_pack("{s:s, s:s, s:s}", "language", language, "settings",
                                 KSEARCH_ORIGIN, "source", source);

    if (doc == NULL || id_of_json(doc, id, err) != 0)
        return err_set(err, ERR_NOMEM, "no memory for a program");
    json_object_set_new(doc, "family", json_string(im->place->scope->family));
    json_object_set_new(doc, "space", space_of_nothing());
    return kb_batch_put_doc(im->batch, KB_PROGRAM, id->hex, doc, err);
}

/* Program 0 is what the run began with: its seed, or nothing that its records have. */
static int put_first_program(struct import *im, struct err *err)
{
    const struct ksearch_run *run = &im->run;
    int seed = run->nodes[0].solution;
    struct search_scope *scope = im->place->scope;
    const struct ksearch_solution *s = seed == KSEARCH_NONE ? NULL : &run->solutions[seed];
    const char *language = s ? s->language : run->n_solutions ? run->solutions[0].language : "";

    free(scope->language);
    scope->language = xstrdup(language);
    im->n_programs = 1;
    return put_program(im, language, s ? s->source : "", &scope->program, err);
}

/* The number of a solution's program in the search; equal texts are one program. */
static long number_of(const struct import *im, size_t at)
{
    if (strcmp(im->programs[at].hex, im->place->scope->program.hex) == 0)
        return 0;
    for (size_t i = 0; i < im->run.n_solutions; i++)
        if (im->numbers[i] >= 0 && strcmp(im->programs[i].hex, im->programs[at].hex) == 0)
            return im->numbers[i];
    return -1;
}

/* The event that gives the program to the lane (-1: to none). */
static int emit_program(struct import *im, size_t at, long parent, int lane, struct err *err)
{
    const struct ksearch_solution *s = &im->run.solutions[at];
    long known = number_of(im, at);

    im->numbers[at] = known >= 0 ? known : (long)im->n_programs++;
    return emit(im,
                json_pack("{s:s, s:I, s:s, s:s, s:o, s:I, s:I, s:s, s:I}", "type", "program",
                          "program", (json_int_t)im->numbers[at], "id", im->programs[at].hex,
                          "source", s->source, "space", space_of_nothing(), "parent",
                          (json_int_t)parent, "call", (json_int_t)0, "note", s->name, "lane",
                          (json_int_t)lane),
                NULL, err);
}

/* ---- Facts ---- */

static uint64_t to_ns(double ms)
{
    return isfinite(ms) ? (uint64_t)llround(ms * 1e6) : 0;
}

/* Borrows all its strings: it is serialised at once. */
static int put_fact(struct import *im, size_t at, const char *message, struct err *err)
{
    const struct search_scope *scope = im->place->scope;
    const struct ksearch_solution *s = &im->run.solutions[at];
    bool ok = is_ok(im, s);
    json_auto_t *assignment = json_object();
    struct workload_time w = { "all", objective_q(im, s),
                               im->scale == SCALE_REFERENCE ? to_ns(s->result.reference_ms) : 0,
                               to_ns(s->result.latency_ms) };
    char seed[17];
    struct id of_id;
    struct evaluation e = {
        .task = (char *)im->place->task,
        .family = scope->family,
        .set = KSEARCH_ORIGIN,
        .device = (char *)im->place->device,
        .device_class = scope->device_class,
        .toolchain = "",
        .shape = scope->shape,
        .language = s->language,
        .program = im->programs[at],
        .assignment = assignment,
        .status = (char *)s->result.status,
        .message = (char *)message,
        .objective_q = objective_q(im, s),
        .sd_q = ok ? UNKNOWN_SD_Q : 0,
        .seed = seed,
        .n_workloads = ok,
        .workloads = &w,
    };

    id_of_bytes(s->id, strlen(s->id), &of_id); /* two measurements of one program stay apart */
    str_copy(seed, sizeof(seed), of_id.hex);
    if (kb_batch_add_evaluation(im->batch, &e, &im->facts[at], err) != 0)
        return err_ctx(err, "solution '%.80s'", s->id);
    im->n_facts++;
    return 0;
}

/* ---- Trials ---- */

static int emit_cycle(struct import *im, const char *node, const char *title, long base,
                      const char *why, struct err *err)
{
    return emit(im,
                json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:I}", "type", "cycle", "cycle",
                          (json_int_t)++im->cycles, "lane", (json_int_t)0, "node", node, "title",
                          title, "why", why, "program", (json_int_t)base),
                NULL, err);
}

static int emit_attempt(struct import *im, size_t at, const char *node, const char *title,
                        const char *why, struct err *err)
{
    return emit(im,
                json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:{}}", "type",
                          "attempt", "evaluation", (json_int_t)++im->trials, "cycle",
                          (json_int_t)im->cycles, "lane", (json_int_t)0, "attempt", (json_int_t)1,
                          "node", node, "title", title, "why", why, "arm", "other", "program",
                          (json_int_t)im->numbers[at], "assignment"),
                NULL, err);
}

static int emit_measured(struct import *im, size_t at, const char *node, const char *message,
                         struct err *err)
{
    const struct ksearch_solution *s = &im->run.solutions[at];
    int64_t q = objective_q(im, s);
    bool ok = is_ok(im, s), improved = ok && (im->best_trial == 0 || q > im->best_q);
    struct world_edit edit;

    world_edit_init(&edit, WORLD_BY_SYSTEM, "measured", im->trials);
    world_edit_attempt(&edit, node, s->result.status);
    if (improved) {
        im->best_trial = im->trials;
        im->best_q = q;
    }
    return emit(im,
                json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:b, s:s}", "type", "measured",
                          "evaluation", (json_int_t)im->trials, "node", node, "status",
                          s->result.status, "message", message, "objective_q", (json_int_t)q,
                          "sd_q", (json_int_t)(ok ? UNKNOWN_SD_Q : 0), "improved", improved, "fact",
                          im->facts[at].hex),
                &edit, err);
}

/* The cycle's end, which closes the node when `closes`. */
static int emit_end(struct import *im, size_t at, const char *node, bool closes, struct err *err)
{
    const struct ksearch_solution *s = &im->run.solutions[at];
    struct world_edit edit;

    if (emit(im,
             json_pack("{s:s, s:I, s:I}", "type", "round", "lane", (json_int_t)0, "evaluation",
                       (json_int_t)im->trials),
             NULL, err) != 0)
        return -1;
    world_edit_init(&edit, WORLD_BY_SYSTEM, "cycle", im->trials);
    if (closes)
        world_edit_attach(&edit, node, im->programs[at].hex, "{}", s->result.status,
                          objective_q(im, s), is_ok(im, s) ? UNKNOWN_SD_Q : 0, im->trials);
    else
        world_edit_release(&edit);
    return emit(im,
                json_pack("{s:s, s:I, s:s, s:s}", "type", "cycle_end", "lane", (json_int_t)0,
                          "node", node, "why", "imported"),
                closes ? &edit : NULL, err);
}

/* A solution as one cycle with one evaluation on a node. */
static int emit_trial(struct import *im, size_t at, const char *node, const char *title, long base,
                      bool closes, struct err *err)
{
    const struct ksearch_solution *s = &im->run.solutions[at];
    CLEANUP(freep) char *message = redact_paths(s->result.passed ? "" : s->result.log);
    CLEANUP(freep)
    char *why = str_printf("imported from K-Search: solution '%.80s', line %zu of its store",
                           s->name, s->line);

    if (why == NULL || message == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a solution");
    if (put_fact(im, at, message, err) != 0 || emit_cycle(im, node, title, base, why, err) != 0 ||
        emit_program(im, at, base, 0, err) != 0 ||
        emit_attempt(im, at, node, title, why, err) != 0 ||
        emit_measured(im, at, node, message, err) != 0)
        return -1;
    return emit_end(im, at, node, closes, err);
}

/* The number of the program that a node's action starts from: its parent's. */
static long base_of(const struct import *im, const struct ksearch_node *n)
{
    int p = n->parent == KSEARCH_NONE ? KSEARCH_NONE : im->run.nodes[n->parent].solution;

    return p != KSEARCH_NONE && im->numbers[p] >= 0 ? im->numbers[p] : 0;
}

/* ---- Claims ---- */

/* The one technique that the action's title or choice names; -1 when that is none or several. */
static int technique_of(const struct ksearch_node *n)
{
    char words[2 * WORLD_LABEL_MAX + 2], part[2 * WORLD_LABEL_MAX + 2];
    int found = -1;
    size_t len;

    snprintf(words, sizeof(words), "%s %s", n->title, n->choice);
    len = strlen(words);
    for (size_t from = 0; from < len; from++) {
        size_t to = from;

        if (from > 0 && words[from - 1] != ' ')
            continue;
        for (int k = 0; k < VOCAB_PHRASE_WORDS && to < len; k++) {
            int at;

            to += strcspn(words + to, " ");
            snprintf(part, sizeof(part), "%.*s", (int)(to - from), words + from);
            at = vocab_find(part);
            if (at >= 0 && found >= 0 && at != found)
                return -1;
            found = at >= 0 ? at : found;
            to += strspn(words + to, " ");
        }
    }
    return found;
}

/* A claim in our words, so that what runs say of one technique comes together. */
static int put_claim(struct import *im, const struct vocab_entry *v, const char *language,
                     struct id *id, struct err *err)
{
    const struct search_scope *scope = im->place->scope;
    CLEANUP(freep) char *statement = str_printf("Apply %s.", v->name);
    struct claim c = { .technique = (char *)v->name,
                       .statement = statement,
                       .mechanism = "",
                       .family = scope->family,
                       .dtype = scope->dtype,
                       .language = (char *)language,
                       .bottleneck = scope->bottleneck,
                       .requires = "",
                       .param = "",
                       .with_value = "",
                       .without_value = "" };

    if (statement == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a claim");
    return kb_batch_add_claim(im->batch, &c, id, err);
}

/* A node and its parent that were both measured are a pair for the technique that it names. */
static int learn(struct import *im, size_t node, struct err *err)
{
    const struct search_scope *scope = im->place->scope;
    const struct ksearch_node *n = &im->run.nodes[node];
    int p = n->parent == KSEARCH_NONE ? KSEARCH_NONE : im->run.nodes[n->parent].solution;
    int technique = p == KSEARCH_NONE ? -1 : technique_of(n);
    const struct ksearch_solution *mine = &im->run.solutions[n->solution];
    struct evidence e = { .kind = "pair",
                          .effect_q = 0,
                          .sd_q = llround(hypot(UNKNOWN_SD_Q, UNKNOWN_SD_Q)),
                          .failure = "",
                          .task = (char *)im->place->task,
                          .device = (char *)im->place->device,
                          .device_class = scope->device_class,
                          .shape = scope->shape,
                          .toolchain = "",
                          .features = scope->features };

    if (technique < 0 || !im->closed[n->parent] || !is_ok(im, &im->run.solutions[p]) ||
        strcmp(im->facts[p].hex, im->facts[n->solution].hex) == 0)
        return 0;
    e.with = im->facts[n->solution];
    e.without = im->facts[p];
    e.effect_q = objective_q(im, mine) - objective_q(im, &im->run.solutions[p]);
    im->n_claims++;
    if (put_claim(im, vocab_at((size_t)technique), mine->language, &e.claim, err) != 0)
        return -1;
    return kb_batch_add_evidence(im->batch, &e, NULL, err);
}

/* ---- The tree, in the order in which it grew ---- */

/* Which nodes their solutions will close: those that passed, below closed ones. */
static void find_closing(struct import *im)
{
    for (size_t i = 0; i < im->run.n_nodes; i++) {
        const struct ksearch_node *n = &im->run.nodes[i];
        const struct ksearch_solution *s;

        if (n->solution == KSEARCH_NONE)
            continue;
        s = &im->run.solutions[n->solution];
        im->closes[i] =
            i == 0 ? is_measured(im, s) : is_ok(im, s) && (n->parent == 0 || im->closes[n->parent]);
        if (im->closes[i])
            continue;
        ksearch_repair(&im->run, "node '%s' has the solution '%.80s' and stays open: %s", n->id,
                       s->id,
                       !s->result.passed ? "it did not pass"
                       : !is_ok(im, s)   ? "it has no objective that compares with the others"
                                         : "its parent is open");
    }
}

static int close_node(struct import *im, size_t at, struct err *err)
{
    const struct ksearch_node *n = &im->run.nodes[at];

    if (emit_trial(im, (size_t)n->solution, n->id, at ? label_of(n) : "seed", base_of(im, n), true,
                   err) != 0)
        return -1;
    im->closed[at] = true;
    im->n_closed++;
    if (at > 0 && learn(im, at, err) != 0)
        return -1;
    return insert_ready(im, err);
}

/* The earliest solution of the store whose node is there and can be closed now; none: -1. */
static int next_to_close(const struct import *im)
{
    for (size_t i = 0; i < im->run.n_solutions; i++) {
        int node = im->run.solutions[i].node;

        if (node >= 0 && im->closes[node] && !im->closed[node] && im->inserted[node])
            return node;
    }
    return -1;
}

/* Solutions that no node holds were measured all the same. */
static int add_loose(struct import *im, struct err *err)
{
    for (size_t i = 0; i < im->run.n_solutions; i++) {
        const struct ksearch_solution *s = &im->run.solutions[i];
        int rc;

        if (s->node >= 0 && im->closed[s->node])
            continue;
        rc = is_measured(im, s)
                 ? emit_trial(im, i, s->node > 0 ? im->run.nodes[s->node].id : WORLD_ROOT_ID,
                              s->name[0] ? s->name : s->id, 0, false, err)
                 : emit_program(im, i, 0, -1, err);
        if (rc != 0)
            return -1;
    }
    return 0;
}

static int grow(struct import *im, struct err *err)
{
    int node;

    im->inserted[0] = true;
    if (patch_root(im, err) != 0 || insert_ready(im, err) != 0)
        return -1;
    while ((node = next_to_close(im)) >= 0)
        if (close_node(im, (size_t)node, err) != 0)
            return -1;
    return add_loose(im, err);
}

/* ---- The search ---- */

static json_t *document_of(const struct import *im)
{
    struct search_spec spec = { .task = (char *)im->place->task,
                                .device = (char *)im->place->device,
                                .set = KSEARCH_ORIGIN,
                                .proposer = KSEARCH_ORIGIN,
                                .strategy = "world-model",
                                .policy = select_policy_from_name("lexicographic"),
                                .cold = true,
                                .budget_evals = MAX(im->trials, (uint64_t)1),
                                .window = 1,
                                .lanes = 1 };
    json_t *doc;

    str_copy(spec.id, sizeof(spec.id), im->id);
    doc = search_document(&spec, im->place->scope, im->place->now_s);
    if (doc == NULL)
        return NULL;
    json_object_set_new(doc, "state", json_string("done"));
    json_object_set_new(doc, "reason", json_string("imported from K-Search"));
    json_object_set_new(doc, "origin", json_string(KSEARCH_ORIGIN));
    json_object_set_new(doc, "evaluations", json_integer((json_int_t)im->trials));
    if (im->best_trial != 0) {
        json_object_set_new(doc, "best_objective", json_real(exp(1e-6 * (double)im->best_q)));
        json_object_set_new(doc, "best_assignment", json_object());
    }
    return doc;
}

static int build(struct import *im, struct err *err)
{
    size_t n = im->run.n_nodes, m = im->run.n_solutions;
    json_auto_t *doc = NULL;

    im->inserted = xcalloc(n, sizeof(bool));
    im->closes = xcalloc(n, sizeof(bool));
    im->closed = xcalloc(n, sizeof(bool));
    im->programs = xcalloc(m + 1, sizeof(*im->programs));
    im->numbers = xcalloc(m + 1, sizeof(*im->numbers));
    im->facts = xcalloc(m + 1, sizeof(*im->facts));
    im->world = world_new();
    im->scale = choose_scale(&im->run);
    find_closing(im);
    if (im->place->device_doc != NULL &&
        kb_batch_put_doc(im->batch, KB_DEVICE, im->place->device, im->place->device_doc, err) != 0)
        return -1;
    if (put_first_program(im, err) != 0)
        return -1;
    for (size_t i = 0; i < m; i++) {
        im->numbers[i] = -1;
        if (put_program(im, im->run.solutions[i].language, im->run.solutions[i].source,
                        &im->programs[i], err) != 0)
            return -1;
    }
    if (kb_batch_set_origin(im->batch, KSEARCH_ORIGIN, err) != 0 ||
        emit(im, json_pack("{s:s, s:s}", "type", "started", "reason", "imported from K-Search"),
             NULL, err) != 0 ||
        grow(im, err) != 0 ||
        emit(im, json_pack("{s:s, s:s}", "type", "done", "reason", "imported from K-Search"), NULL,
             err) != 0)
        return -1;
    doc = document_of(im);
    if (doc == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the search");
    return kb_batch_put_doc(im->batch, KB_SEARCH, im->id, doc, err);
}

static json_t *reply_of(const struct import *im, bool changed)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:O, s:I, s:O}",
                     "search", im->id, "task", im->place->task, "device", im->place->device,
                     "changed", changed, "nodes", (json_int_t)im->run.n_nodes, "closed",
                     (json_int_t)im->n_closed, "solutions", (json_int_t)im->run.n_solutions,
                     "evaluations", (json_int_t)im->n_facts, "claims", (json_int_t)im->n_claims,
                     "objective", scale_names[im->scale], "repaired", (json_int_t)im->run.n_repairs,
                     "repairs", im->run.repairs, "left_out", (json_int_t)im->run.n_skipped,
                     "skipped", im->run.skipped);
}

/* ---- The file ---- */

/* The two files behind the first line. */
static int split(const char *data, size_t len, const char **store, size_t sizes[2],
                 const char **model, struct err *err)
{
    static const char *const names[] = { "world_model", "solutions" };
    const char *end = len ? memchr(data, '\n', MIN(len, (size_t)400)) : NULL;
    json_auto_t *head = NULL;
    size_t left;

    if (end == NULL || jsonx_parse(data, (size_t)(end - data), "the first line", &head, err) != 0 ||
        strcmp(jsonx_str(head, "format", ""), KSEARCH_ORIGIN) != 0)
        return err_set(err, ERR_INVALID,
                       "the file does not begin with a line that says what a K-Search run has");
    left = len - (size_t)(end + 1 - data);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        long long n = jsonx_int(head, names[i], -1);

        if (n < 0 || (unsigned long long)n > left)
            return err_set(err, ERR_INVALID,
                           "the first line says %lld bytes of '%s', and %zu are "
                           "left",
                           n, names[i], left);
        sizes[i] = (size_t)n;
        left -= sizes[i];
    }
    *model = end + 1;
    *store = *model + sizes[0];
    return 0;
}

/* The id of a run: what its files are, where it ran. */
static int name_search(struct import *im, const char *data, size_t len, struct err *err)
{
    struct id files;
    json_auto_t *identity = NULL;

    id_of_bytes(data, len, &files);
    identity = json_pack("{s:s, s:s, s:s}", "files", files.hex, "task", im->place->task, "device",
                         im->place->device);
    if (identity == NULL || id_of_json(identity, &im->digest, err) != 0)
        return err_set(err, ERR_NOMEM, "no memory for the search");
    snprintf(im->id, sizeof(im->id), "k%.12s", im->digest.hex);
    return 0;
}

static int import(struct import *im, const char *data, size_t len, json_t **reply, struct err *err)
{
    const char *model = NULL, *store = NULL;
    json_auto_t *there = NULL;
    size_t sizes[2] = { 0 };
    bool known;

    if (vocab_init(err) != 0 || split(data, len, &store, sizes, &model, err) != 0 ||
        ksearch_read(model, sizes[0], store, sizes[1], &im->run, err) != 0 ||
        name_search(im, model, sizes[0] + sizes[1], err) != 0)
        return -1;
    known = kb_get_doc(im->kb, KB_SEARCH, im->id, &there, err) == 0;
    if (!known && err->code != ERR_NOT_FOUND)
        return -1;
    im->batch = kb_batch_new(im->kb);
    if (im->batch == NULL)
        return err_set(err, ERR_NOMEM, "no memory to import a run");
    /* Built again even when it is known: its numbers are the answer. */
    if (build(im, err) != 0 || (!known && kb_commit(im->batch, err) != 0))
        return -1;
    *reply = reply_of(im, !known);
    return 0;
}

int ksearch_import(struct kb *kb, const struct ksearch_place *place, const char *data, size_t len,
                   json_t **reply, struct err *err)
{
    struct import im = { .kb = kb, .place = place };
    int rc = import(&im, data, len, reply, err);

    import_release(&im);
    return rc;
}
