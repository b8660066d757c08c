/* SPDX-License-Identifier: Apache-2.0 */
/* Solutions of a K-Search run as programs, trials, facts and claims; see ksearch_import.h. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "ksearch_import_impl.h"
#include "search/redact.h"
#include "vocab.h"

/* ---- Objectives ---- */

static double ratio_of(const struct ksearch_result *r, enum scale scale)
{
    return scale == SCALE_BASELINE ? r->vs_baseline : scale == SCALE_REFERENCE ? r->speedup : NAN;
}

/* Failed, or passed with an objective on the scale: what can be a trial and a fact. */
bool import_is_measured(const struct import *im, const struct ksearch_solution *s)
{
    return !s->result.passed || isfinite(ratio_of(&s->result, im->scale));
}

bool import_is_ok(const struct import *im, const struct ksearch_solution *s)
{
    return s->result.passed && isfinite(ratio_of(&s->result, im->scale));
}

static int64_t objective_q(const struct import *im, const struct ksearch_solution *s)
{
    return import_is_ok(im, s) ? quantise_log(ratio_of(&s->result, im->scale)) : 0;
}

/* ---- Programs ---- */

static json_t *space_of_nothing(void)
{
    return json_pack("{s:[]}", "parameters");
}

int import_put_program(struct import *im, const char *language, const char *source, struct id *id,
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
int import_first_program(struct import *im, struct err *err)
{
    const struct ksearch_run *run = &im->run;
    int seed = run->nodes[0].solution;
    struct search_scope *scope = im->place->scope;
    const struct ksearch_solution *s = seed == KSEARCH_NONE ? NULL : &run->solutions[seed];
    const char *language = s ? s->language : run->n_solutions ? run->solutions[0].language : "";

    free(scope->language);
    scope->language = xstrdup(language);
    im->n_programs = 1;
    return import_put_program(im, language, s ? s->source : "", &scope->program, err);
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
int import_program(struct import *im, size_t at, long parent, int lane, struct err *err)
{
    const struct ksearch_solution *s = &im->run.solutions[at];
    long known = number_of(im, at);

    im->numbers[at] = known >= 0 ? known : (long)im->n_programs++;
    return import_emit(im,
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
    bool ok = import_is_ok(im, s);
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
    return import_emit(im,
                       json_pack("{s:s, s:I, s:I, s:s, s:s, s:s, s:I}", "type", "cycle", "cycle",
                                 (json_int_t)++im->cycles, "lane", (json_int_t)0, "node", node,
                                 "title", title, "why", why, "program", (json_int_t)base),
                       NULL, err);
}

static int emit_attempt(struct import *im, size_t at, const char *node, const char *title,
                        const char *why, struct err *err)
{
    return import_emit(im,
                       json_pack("{s:s, s:I, s:I, s:I, s:I, s:s, s:s, s:s, s:s, s:I, s:{}}", "type",
                                 "attempt", "evaluation", (json_int_t)++im->trials, "cycle",
                                 (json_int_t)im->cycles, "lane", (json_int_t)0, "attempt",
                                 (json_int_t)1, "node", node, "title", title, "why", why, "arm",
                                 "other", "program", (json_int_t)im->numbers[at], "assignment"),
                       NULL, err);
}

static int emit_measured(struct import *im, size_t at, const char *node, const char *message,
                         struct err *err)
{
    const struct ksearch_solution *s = &im->run.solutions[at];
    int64_t q = objective_q(im, s);
    bool ok = import_is_ok(im, s), improved = ok && (im->best_trial == 0 || q > im->best_q);
    struct world_edit edit;

    world_edit_init(&edit, WORLD_BY_SYSTEM, "measured", im->trials);
    world_edit_attempt(&edit, node, s->result.status);
    if (improved) {
        im->best_trial = im->trials;
        im->best_q = q;
    }
    return import_emit(im,
                       json_pack("{s:s, s:I, s:s, s:s, s:s, s:I, s:I, s:b, s:s}", "type",
                                 "measured", "evaluation", (json_int_t)im->trials, "node", node,
                                 "status", s->result.status, "message", message, "objective_q",
                                 (json_int_t)q, "sd_q", (json_int_t)(ok ? UNKNOWN_SD_Q : 0),
                                 "improved", improved, "fact", im->facts[at].hex),
                       &edit, err);
}

/* The cycle's end, which closes the node when `closes`. */
static int emit_end(struct import *im, size_t at, const char *node, bool closes, struct err *err)
{
    const struct ksearch_solution *s = &im->run.solutions[at];
    struct world_edit edit;

    if (import_emit(im,
                    json_pack("{s:s, s:I, s:I}", "type", "round", "lane", (json_int_t)0,
                              "evaluation", (json_int_t)im->trials),
                    NULL, err) != 0)
        return -1;
    world_edit_init(&edit, WORLD_BY_SYSTEM, "cycle", im->trials);
    if (closes)
        world_edit_attach(&edit, node, im->programs[at].hex, "{}", s->result.status,
                          objective_q(im, s), import_is_ok(im, s) ? UNKNOWN_SD_Q : 0, im->trials);
    else
        world_edit_release(&edit);
    return import_emit(im,
                       json_pack("{s:s, s:I, s:s, s:s}", "type", "cycle_end", "lane", (json_int_t)0,
                                 "node", node, "why", "imported"),
                       closes ? &edit : NULL, err);
}

/* A solution as one cycle with one evaluation on a node. */
int import_trial(struct import *im, size_t at, const char *node, const char *title, long base,
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
        import_program(im, at, base, 0, err) != 0 ||
        emit_attempt(im, at, node, title, why, err) != 0 ||
        emit_measured(im, at, node, message, err) != 0)
        return -1;
    return emit_end(im, at, node, closes, err);
}

/* The number of the program that a node's action starts from: its parent's. */
long import_base(const struct import *im, const struct ksearch_node *n)
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
int import_learn(struct import *im, size_t node, struct err *err)
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

    if (technique < 0 || !im->closed[n->parent] || !import_is_ok(im, &im->run.solutions[p]) ||
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
