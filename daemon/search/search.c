/* SPDX-License-Identifier: Apache-2.0 */
/* The fold of a search over its events; see search.h. */
#include "search/search.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/forecast.h"
#include "search/scores.h"
#include "search/space_table.h"
#include "search/spend.h"
#include "search/strategy.h"
#include "search/trust.h"
#include "search/world_ops.h"

static const struct {
    const char *name;
    unsigned next; /* states that may follow */
} states[] = {
#define TO(s) (1u << (SEARCH_##s))
    [SEARCH_QUEUED] = { "queued", TO(RUNNING) | TO(PAUSED) | TO(CANCELLED) | TO(FAILED) },
    [SEARCH_RUNNING] = { "running", TO(PAUSED) | TO(DONE) | TO(FAILED) | TO(CANCELLED) },
    [SEARCH_PAUSED] = { "paused", TO(RUNNING) | TO(CANCELLED) | TO(FAILED) },
    [SEARCH_DONE] = { "done", 0 },
    [SEARCH_FAILED] = { "failed", 0 },
    [SEARCH_CANCELLED] = { "cancelled", 0 },
#undef TO
};

const char *search_state_name(enum search_state s)
{
    return (unsigned)s < SEARCH_STATE_COUNT ? states[s].name : "?";
}

enum search_state search_state_from_name(const char *name)
{
    for (unsigned i = 0; i < SEARCH_STATE_COUNT; i++)
        if (strcmp(states[i].name, name) == 0)
            return (enum search_state)i;
    return SEARCH_STATE_COUNT;
}

bool search_is_over(enum search_state s)
{
    return states[s].next == 0;
}

/* ---- Documents ---- */

/* What a search may have besides evaluations and time, and when it may stop early. */
static json_t *limits_json(const struct search_spec *spec)
{
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:f, s:f}", "given", spend_given_to_json(spec),
                     "tokens", (json_int_t)spec->budget_tokens, "usd_q", (json_int_t)spec->budget_usd_q, "device_ns",
                     (json_int_t)spec->budget_device_ns, "lanes", (json_int_t)spec->lanes,
                     "roofline", spec->stop_roofline, "gain", spec->stop_gain);
}

static int parse_limits(const json_t *limits, struct search_spec *spec, struct err *err)
{
    spec->budget_tokens = (uint64_t)jsonx_int(limits, "tokens", 0);
    spec->budget_usd_q = (uint64_t)jsonx_int(limits, "usd_q", 0);
    spec->budget_device_ns = (uint64_t)jsonx_int(limits, "device_ns", 0);
    spec->lanes = (uint32_t)jsonx_int(limits, "lanes", 1);
    spec->stop_roofline = jsonx_num(limits, "roofline", 0);
    spec->stop_gain = jsonx_num(limits, "gain", 0);
    return spend_given_from_json(json_object_get(limits, "given"), spec, err);
}

json_t *search_document(const struct search_spec *spec, const struct search_scope *scope,
                        uint64_t created_s)
{
    char seed[20];
    json_t *doc;

    snprintf(seed, sizeof(seed), "%016llx", (unsigned long long)spec->seed);
    doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:s}", "id",
                    spec->id, "task", spec->task, "device", spec->device, "set", spec->set,
                    "proposer", spec->proposer, "strategy", spec->strategy, "policy",
                    select_policy_name(spec->policy), "cold", spec->cold, "seed", seed,
                    "budget_evals", (json_int_t)spec->budget_evals, "budget_time_ns",
                    (json_int_t)spec->budget_time_ns, "window", (json_int_t)spec->window, "created",
                    (json_int_t)created_s, "state", states[SEARCH_QUEUED].name);
    if (doc != NULL) {
        json_object_set_new(
            doc, "memory",
            memory_parts_json(spec->cold ? 0 : (unsigned)MEMORY_ALL & ~spec->without));
        json_object_set_new(doc, "limits", limits_json(spec));
        if (scope->brief != NULL)
            json_object_set(doc, "brief", scope->brief);
    }
    if (doc != NULL)
        json_object_set_new(
            doc, "scope",
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O, s:O, s:s, s:f, s:f}", "family",
                      scope->family, "shape", scope->shape, "dtype", scope->dtype, "language",
                      scope->language, "bottleneck", scope->bottleneck, "device_class",
                      scope->device_class, "toolchain", scope->toolchain, "march",
                      scope->march ? scope->march : "native", "features", scope->features,
                      "relatives", scope->relatives, "program", scope->program.hex, "read_gbs",
                      scope->read_gbs, "fma_gflops", scope->fma_gflops));
    return doc;
}

static char *dup_field(const json_t *doc, const char *key)
{
    return xstrdup(jsonx_str(doc, key, ""));
}

static int parse_document(const json_t *doc, struct search *s, struct err *err)
{
    const json_t *scope = json_object_get(doc, "scope");
    const char *seed = jsonx_str(doc, "seed", "");

    if (!str_copy(s->spec.id, sizeof(s->spec.id), jsonx_str(doc, "id", "")) || !s->spec.id[0] ||
        !str_is_hex(seed, 16) || !json_is_object(scope) ||
        !str_copy(s->scope.program.hex, sizeof(s->scope.program.hex),
                  jsonx_str(scope, "program", "")))
        return err_set(err, ERR_CORRUPT, "the stored document of search '%s' is damaged",
                       jsonx_str(doc, "id", "?"));
    s->spec.task = dup_field(doc, "task");
    s->spec.device = dup_field(doc, "device");
    s->spec.set = dup_field(doc, "set");
    s->spec.proposer = dup_field(doc, "proposer");
    s->spec.strategy = dup_field(doc, "strategy");
    s->spec.policy = select_policy_from_name(jsonx_str(doc, "policy", ""));
    s->spec.cold = jsonx_bool(doc, "cold", 0);
    s->spec.seed = strtoull(seed, NULL, 16);
    s->spec.budget_evals = (uint64_t)jsonx_int(doc, "budget_evals", SEARCH_EVALS_DEFAULT);
    s->spec.budget_time_ns = (uint64_t)jsonx_int(doc, "budget_time_ns", 0);
    s->spec.window = (uint32_t)jsonx_int(doc, "window", 1);
    if (parse_limits(json_object_get(doc, "limits"), &s->spec, err) != 0)
        return -1;
    s->strategy = strategy_find(s->spec.strategy);
    s->scope.brief = json_incref(json_object_get(doc, "brief"));
    s->created_s = (uint64_t)jsonx_int(doc, "created", 0);
    s->scope.family = dup_field(scope, "family");
    s->scope.shape = dup_field(scope, "shape");
    s->scope.dtype = dup_field(scope, "dtype");
    s->scope.language = dup_field(scope, "language");
    s->scope.bottleneck = dup_field(scope, "bottleneck");
    s->scope.device_class = dup_field(scope, "device_class");
    s->scope.toolchain = dup_field(scope, "toolchain");
    s->scope.march = xstrdup(jsonx_str(scope, "march", "native"));
    s->scope.features = json_incref(json_object_get(scope, "features"));
    s->scope.relatives = json_incref(json_object_get(scope, "relatives"));
    s->scope.read_gbs = jsonx_num(scope, "read_gbs", 0);
    s->scope.fma_gflops = jsonx_num(scope, "fma_gflops", 0);
    if (s->spec.policy == SELECT_POLICY_COUNT || s->spec.window == 0 || s->spec.lanes == 0 ||
        s->spec.lanes > LANES_MAX || s->strategy == NULL)
        return err_set(err, ERR_CORRUPT, "the stored document of search '%s' is damaged",
                       s->spec.id);
    return 0;
}

/* Searches stored before there were parts had them all. */
static int parse_parts(const json_t *doc, struct search *s, struct err *err)
{
    const json_t *stored = json_object_get(doc, "memory");
    unsigned parts = MEMORY_ALL;

    if (stored != NULL && !s->spec.cold && memory_parts_parse(stored, &parts, err) != 0)
        return err_set(err, ERR_CORRUPT, "the stored document of search '%s' is damaged",
                       s->spec.id);
    s->spec.without = (unsigned)MEMORY_ALL & ~parts;
    return 0;
}

static int load_program(struct search *s, struct err *err)
{
    json_t *program;
    int rc;

    if (kb_get_doc(s->kb, KB_PROGRAM, s->scope.program.hex, &program, err) != 0)
        return err_ctx(err, "the program of search '%s'", s->spec.id);
    s->source = xstrdup(jsonx_str(program, "source", ""));
    s->recorded = json_object_get(program, "source") == NULL;
    if (s->recorded)
        rc = space_table_unpack(json_object_get(program, "space"), &s->space, err);
    else
        rc = space_parse(json_object_get(program, "space"), "the stored space", &s->space, err);
    json_decref(program);
    return rc;
}

static int new_engine(struct search *s, struct err *err)
{
    struct engine_options o = { .seed = s->spec.seed, .cold = s->spec.cold };

    if (space_n(s->space) == 0)
        return 0;
    return engine_new(s->space, &o, &s->engine, err);
}

int search_new(struct kb *kb, const json_t *document, bool reading_only, struct search **out,
               struct err *err)
{
    struct search *s = xcalloc(1, sizeof(*s));

    s->kb = kb;
    s->reading = reading_only;
    s->reason = xstrdup("");
    s->summary = xstrdup("");
    s->questions = json_array();
    s->world = world_new();
    s->calibration = calibration_new();
    pthread_mutex_init(&s->lock, NULL);
    if (parse_document(document, s, err) != 0 || parse_parts(document, s, err) != 0 ||
        load_program(s, err) != 0 || (!reading_only && new_engine(s, err) != 0)) {
        search_free(s);
        return -1;
    }
    *out = s;
    return 0;
}

void search_free(struct search *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->n_trials; i++) {
        trial_release(s->trials[i]);
        free(s->trials[i]);
    }
    free(s->trials);
    programs_release(&s->programs);
    calls_release(&s->calls);
    gifts_release(&s->gifts);
    scorebook_release(&s->scorebook);
    for (size_t i = 0; i < LANES_MAX; i++)
        free(s->lanes[i].note);
    free(s->summary);
    json_decref(s->questions);
    engine_free(s->engine);
    engine_free(s->memory_free);
    world_free(s->world);
    calibration_free(s->calibration);
    space_free(s->space);
    free(s->memory);
    free(s->source);
    free(s->reason);
    free(s->spec.task);
    free(s->spec.device);
    free(s->spec.set);
    free(s->spec.proposer);
    free(s->spec.strategy);
    free(s->scope.family);
    free(s->scope.shape);
    free(s->scope.dtype);
    free(s->scope.language);
    free(s->scope.bottleneck);
    free(s->scope.device_class);
    free(s->scope.toolchain);
    free(s->scope.march);
    json_decref(s->scope.features);
    json_decref(s->scope.relatives);
    json_decref(s->scope.brief);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* ---- Look-ups ---- */

struct trial *search_trial(const struct search *s, uint64_t n)
{
    return n >= 1 && n <= s->n_trials ? s->trials[n - 1] : NULL;
}

struct trial *search_open_trial(const struct search *s)
{
    struct trial *t = search_trial(s, s->n_trials);

    return t != NULL && !t->measured ? t : NULL;
}

struct trial *search_trial_of_object(const struct search *s, const char *object)
{
    for (size_t i = 0; object[0] && i < s->n_trials; i++) {
        struct trial *t = s->trials[i];

        if (t->measured && t->ok && t->same_as == 0 && strcmp(t->object, object) == 0)
            return t;
    }
    return NULL;
}

bool search_has_model(const struct search *s)
{
    return strcmp(s->spec.proposer, "builtin") != 0 && strcmp(s->spec.proposer, "random") != 0;
}

struct lane *search_trial_lane(struct search *s, const struct trial *t)
{
    return &s->lanes[t->lane];
}

bool lane_in_cycle(const struct lane *l)
{
    return l->stage == LANE_WRITE || l->stage == LANE_WRITING || l->stage == LANE_MEASURE;
}

uint32_t lane_current(const struct search *s, const struct lane *l)
{
    if (l->best != 0 && l->regressions >= LANE_REGRESSIONS_MAX)
        return search_trial(s, l->best)->program;
    return l->program != PROGRAM_NONE ? l->program : l->base;
}

bool search_in_cycle(const struct search *s)
{
    for (size_t i = 0; i < LANES_MAX; i++)
        if (lane_in_cycle(&s->lanes[i]))
            return true;
    return false;
}

uint64_t search_measured(const struct search *s)
{
    return s->n_trials - (search_open_trial(s) != NULL);
}

int64_t search_best_q(const struct search *s)
{
    return s->champion_n > 0 ? s->champion_sum_q / s->champion_n : 0;
}

unsigned search_memory_parts(const struct search *s)
{
    return s->spec.cold ? 0 : (unsigned)MEMORY_ALL & ~s->spec.without;
}

const char *search_exhausted(const struct search *s)
{
    return spend_exhausted(s);
}

struct insight_place search_place(const struct search *s)
{
    return (struct insight_place){ .device_class = s->scope.device_class,
                                   .shape = s->scope.shape,
                                   .toolchain = s->scope.toolchain,
                                   .features = s->scope.features,
                                   .foreign_weight = INSIGHT_FOREIGN_WEIGHT };
}

struct learn_scope search_learn_scope(const struct search *s, uint32_t program)
{
    return (struct learn_scope){
        .space = search_program_space(s, program),
        .task = s->spec.task,
        .family = s->scope.family,
        .dtype = s->scope.dtype,
        .language = s->scope.language,
        .bottleneck = s->scope.bottleneck,
        .device = s->spec.device,
        .device_class = s->scope.device_class,
        .shape = s->scope.shape,
        .toolchain = s->scope.toolchain,
        .features = s->scope.features,
    };
}

void search_note_overhead(struct search *s, uint64_t own_ns, uint64_t sync_ns, uint64_t launch_ns)
{
    size_t i = s->n_overhead++ % ARRAY_LEN(s->own_ns);

    s->own_ns[i] = own_ns;
    s->sync_ns[i] = sync_ns;
    s->launch_ns[i] = launch_ns;
}

/* ---- Applying events ---- */

static int misfit(struct err *err, const struct search *s, const char *what)
{
    return err_set(err, ERR_CORRUPT, "event %llu of search '%s' does not fit: %s",
                   (unsigned long long)s->next_seq, s->spec.id, what);
}

static int set_state(struct search *s, enum search_state to, const char *reason, struct err *err)
{
    if (!(states[s->state].next & (1u << to)))
        return err_set(err, ERR_CORRUPT, "event %llu of search '%s' moves it from %s to %s",
                       (unsigned long long)s->next_seq, s->spec.id, states[s->state].name,
                       states[to].name);
    s->state = to;
    free(s->reason);
    s->reason = xstrdup(reason);
    return 0;
}

static int apply_edit(struct search *s, const json_t *edit, struct err *err)
{
    struct world_edit e;
    int rc;

    if (world_edit_from_json(edit, &e, err) != 0)
        return err_ctx(err, "stored edit of search '%s'", s->spec.id);
    rc = world_apply(s->world, &e, NULL, err);
    world_edit_release(&e);
    return rc;
}

static int apply_seeded(struct search *s, const json_t *ev, struct err *err)
{
    const json_t *memory = json_object_get(ev, "memory");

    if (calibration_recall(s->calibration, json_object_get(ev, "calibration"), err) != 0 ||
        scorebook_recall(&s->scorebook, json_object_get(ev, "scores"), err) != 0)
        return -1;
    if (!json_is_object(memory))
        return 0;
    if (s->memory != NULL)
        return misfit(err, s, "it was seeded before");
    s->due = TRUST_DUE_START;
    s->memory = xcalloc(1, sizeof(*s->memory));
    if (memory_from_json(memory, s->space, s->memory, err) != 0 ||
        gifts_apply(&s->gifts, json_object_get(ev, "gifts"), false, err) != 0)
        return -1;
    s->gifts.plans = json_deep_copy(json_object_get(ev, "plans"));
    if (!(search_memory_parts(s) & MEMORY_PRIOR) || search_has_model(s))
        return 0;
    for (size_t i = 0; s->engine && i < s->memory->n_sources; i++)
        if (memory_feed(s->kb, s->space, &s->memory->sources[i], s->memory->as_of, s->engine,
                        err) != 0)
            return -1;
    return 0;
}

/* The lane that an event is about: the only one where it does not say. */
static struct lane *lane_of(struct search *s, const json_t *ev)
{
    json_int_t n = jsonx_int(ev, "lane", 0);

    return n >= 0 && n < LANES_MAX ? &s->lanes[n] : NULL;
}

static int apply_cycle(struct search *s, const json_t *ev, struct err *err)
{
    const char *node = jsonx_str(ev, "node", "");
    const json_t *base = json_object_get(ev, "base_q");
    struct lane *l = lane_of(s, ev);

    if (l == NULL || l->stage != LANE_CLOSED || world_find(s->world, node) == WORLD_NONE ||
        (uint64_t)jsonx_int(ev, "program", 0) >= search_programs(s))
        return misfit(err, s, "a cycle begins in a cycle or on an unknown node");
    free(l->note);
    *l = (struct lane){ .stage = LANE_WRITE,
                        .cycle = ++s->cycle,
                        .base = (uint32_t)jsonx_int(ev, "program", 0),
                        .program = PROGRAM_NONE,
                        .memory_free = jsonx_bool(ev, "memory_free", 0) };
    str_copy(l->node, sizeof(l->node), node);
    s->due = jsonx_num(ev, "due", s->due);
    stagnation_start(&l->stagnation, s->spec.window, json_is_integer(base),
                     json_integer_value(base), 0, true);
    scores_apply_cycle(s, l, ev);
    gifts_apply_cycle(&s->gifts, ev);
    return 0;
}

static int apply_cycle_end(struct search *s, const json_t *ev, struct err *err)
{
    const struct trial *open = search_open_trial(s);
    struct lane *l = lane_of(s, ev);

    if (l == NULL || !lane_in_cycle(l) || (open != NULL && search_trial_lane(s, open) == l))
        return misfit(err, s, "no cycle can end here");
    scores_apply_cycle_end(s, l);
    l->stage = jsonx_bool(ev, "tell", 0) ? LANE_TELL : LANE_CLOSED;
    return 0;
}

/* The program of a lane is done with: one round, by what its best assignment came to. */
static int apply_round(struct search *s, const json_t *ev, struct err *err)
{
    struct lane *l = lane_of(s, ev);
    const struct trial *best;

    if (l == NULL || (l->stage != LANE_MEASURE && l->stage != LANE_WRITING))
        return misfit(err, s, "a round ends that had not begun");
    best = search_trial(s, (uint64_t)jsonx_int(ev, "evaluation", 0));
    if (best != NULL && !best->ok)
        best = NULL;
    stagnation_count(&l->stagnation, best != NULL, best ? best->objective_q : 0);
    l->regressions = best != NULL && l->best == best->n ? 0 : l->regressions + 1;
    l->rounds++;
    l->stage = LANE_WRITE;
    free(l->note);
    l->note = xstrdup(jsonx_str(ev, "note", ""));
    return 0;
}

/* The model has heard of a cycle, or cannot be told. */
static int apply_told(struct search *s, const json_t *ev, struct err *err)
{
    struct lane *l = lane_of(s, ev);

    if (l == NULL || (l->stage != LANE_TELLING && l->stage != LANE_TELL))
        return misfit(err, s, "nobody was to be told of a cycle there");
    l->stage = LANE_CLOSED;
    return 0;
}

static int apply_answered(struct search *s, const json_t *ev, struct err *err)
{
    if (calls_apply_answered(s, ev, err) != 0)
        return -1;
    spend_apply_answered(s, ev);
    return 0;
}

/* An answer was used up; `fruitful` says whether it brought anything. */
static int apply_used(struct search *s, const json_t *ev, struct err *err)
{
    struct call *c = calls_get(&s->calls, (uint64_t)jsonx_int(ev, "call", 0));
    const json_t *questions = json_object_get(ev, "questions");

    if (c == NULL || !c->answered || c->used)
        return misfit(err, s, "an answer is used that is not there");
    c->used = true;
    free(c->answer);
    c->answer = NULL;
    s->barren = jsonx_bool(ev, "fruitful", 0) ? 0 : s->barren + 1;
    if (json_object_get(ev, "summary") != NULL) {
        free(s->summary);
        s->summary = xstrdup(jsonx_str(ev, "summary", ""));
    }
    if (json_is_array(questions)) {
        json_decref(s->questions);
        s->questions = json_deep_copy(questions);
    }
    return 0;
}

static enum engine_arm arm_from_name(const char *name)
{
    if (strcmp(name, "memory") == 0)
        return ENGINE_ARM_MEMORY;
    return strcmp(name, "cold") == 0 ? ENGINE_ARM_COLD : ENGINE_ARM_OTHER;
}

static int apply_attempt(struct search *s, const json_t *ev, struct err *err)
{
    const json_t *predicted = json_object_get(ev, "predicted");
    const json_t *corrected = json_object_get(ev, "corrected");
    uint64_t program = (uint64_t)jsonx_int(ev, "program", 0);
    struct lane *l = lane_of(s, ev);
    struct trial *t;

    if (l == NULL || !lane_in_cycle(l) || search_open_trial(s) != NULL ||
        program >= search_programs(s) ||
        (uint64_t)jsonx_int(ev, "evaluation", 0) != s->n_trials + 1)
        return misfit(err, s, "an attempt out of order");
    t = xcalloc(1, sizeof(*t));
    if (space_from_json(search_program_space(s, (uint32_t)program),
                        json_object_get(ev, "assignment"), t->a, err) != 0) {
        free(t);
        return -1;
    }
    t->n = s->n_trials + 1;
    t->lane = (int)(l - s->lanes);
    t->program = (uint32_t)program;
    t->cycle = l->cycle;
    t->attempt = (unsigned)jsonx_int(ev, "attempt", 1);
    t->node = xstrdup(l->node);
    t->title = xstrdup(jsonx_str(ev, "title", ""));
    t->why = xstrdup(jsonx_str(ev, "why", ""));
    t->adopted = xstrdup(jsonx_str(ev, "adopted", ""));
    t->live = jsonx_bool(ev, "live", 0);
    t->plan = jsonx_bool(ev, "plan", 0);
    s->due = jsonx_num(ev, "due", s->due);
    t->arm = arm_from_name(jsonx_str(ev, "arm", ""));
    t->status = xstrdup("");
    t->message = xstrdup("");
    t->source = xstrdup(jsonx_str(ev, "source", ""));
    t->served = credit_of_attempt(&s->offers, ev);
    t->offered = json_array_size(json_object_get(ev, "served")) > 0;
    t->roofline = t->crps = t->crps_corrected = NAN;
    if (json_is_object(predicted)) {
        t->predicted = true;
        t->mean = jsonx_num(predicted, "mean", 0);
        t->sd = jsonx_num(predicted, "sd", 0);
        t->corrected_mean = jsonx_num(corrected, "mean", t->mean);
        t->corrected_sd = jsonx_num(corrected, "sd", t->sd);
    }
    s->trials = xgrow(s->trials, &s->cap_trials, s->n_trials + 1, sizeof(struct trial *));
    s->trials[s->n_trials++] = t;
    return 0;
}

static int apply_lost(struct search *s, const json_t *ev, struct err *err)
{
    struct trial *t = search_open_trial(s);

    if (t == NULL)
        return misfit(err, s, "an evaluation was lost that was not under way");
    t->tries++;
    free(t->message);
    t->message = xstrdup(jsonx_str(ev, "message", ""));
    return 0;
}

static void observe(struct search *s, const struct trial *t, bool ok, int64_t objective_q)
{
    struct engine *engine = search_program_engine(s, t->program);
    double y = ok ? -1e-6 * (double)objective_q : NAN;
    struct err ignored; /* only an invalid assignment is refused, and the space parsed this one */

    if (engine)
        engine_observe(engine, t->a, y, t->arm, &ignored);
    if (s->memory_free && t->program == 0)
        engine_observe(s->memory_free, t->a, y, t->arm, &ignored);
}

/* A trial and its duel, as the search's own engine was told of them. */
static void observe_trial(const struct search *s, const struct trial *t, struct engine *e)
{
    const struct trial *champion = search_trial(s, t->duel_with);
    struct err ignored;

    if (t->program != 0)
        return;
    engine_observe(e, t->a, t->ok ? -1e-6 * (double)t->objective_q : NAN, t->arm, &ignored);
    if (champion == NULL || champion->program != 0)
        return;
    engine_observe(e, t->a, -1e-6 * (double)t->duel_q, t->arm, &ignored);
    engine_observe(e, champion->a, -1e-6 * (double)t->duel_champion_q, champion->arm, &ignored);
}

int search_memory_free_engine(struct search *s, struct engine **out, struct err *err)
{
    struct engine_options o = { .seed = s->spec.seed, .cold = true };

    *out = engine_sources(s->engine) > 0 ? s->memory_free : s->engine;
    if (*out != NULL)
        return 0;
    if (engine_new(s->space, &o, &s->memory_free, err) != 0)
        return -1;
    for (uint64_t n = 1; n <= search_measured(s); n++)
        observe_trial(s, search_trial(s, n), s->memory_free);
    *out = s->memory_free;
    return 0;
}

/* A duel measured both again: the winner's estimate and the engine's records gain by it. */
static void count_duel(struct search *s, struct trial *t, const json_t *duel)
{
    const struct trial *champion = search_trial(s, s->champion);
    int64_t challenger_q = jsonx_int(duel, "challenger_q", 0);
    int64_t champion_q = jsonx_int(duel, "champion_q", 0);

    if (champion == NULL || json_object_get(duel, "champion_q") == NULL)
        return;
    t->duel_with = s->champion;
    t->duel_q = challenger_q;
    t->duel_champion_q = champion_q;
    observe(s, t, true, challenger_q);
    observe(s, champion, true, champion_q);
    if (t->improved) {
        s->champion_sum_q = challenger_q;
        s->champion_n = 1;
    } else {
        s->champion_sum_q += champion_q;
        s->champion_n++;
    }
}

static void count_trial(struct search *s, struct trial *t, const json_t *duel)
{
    struct lane *l = search_trial_lane(s, t);

    if (!search_has_model(s))
        stagnation_count(&l->stagnation, t->ok, t->objective_q);
    l->measured++;
    if (t->ok && (l->best == 0 || t->objective_q > search_trial(s, l->best)->objective_q))
        l->best = t->n;
    observe(s, t, t->ok, t->objective_q);
    count_duel(s, t, duel);
    if (t->improved) {
        if (t->duel_with == 0) /* without one, nothing measured before belongs to it */
            s->champion_sum_q = s->champion_n = 0;
        s->champion = t->n;
        s->champion_sum_q += t->objective_q;
        s->champion_n++;
    }
    if (s->champion != 0) {
        t->has_best = true;
        t->best_q = search_best_q(s);
    }
}

static int apply_measured(struct search *s, const json_t *ev, struct err *err)
{
    struct trial *t = search_open_trial(s);

    if (t == NULL || (uint64_t)jsonx_int(ev, "evaluation", 0) != t->n)
        return misfit(err, s, "a measurement of a trial that is not under way");
    free(t->status);
    free(t->message);
    t->status = xstrdup(jsonx_str(ev, "status", ""));
    t->message = xstrdup(jsonx_str(ev, "message", ""));
    t->ok = strcmp(t->status, "ok") == 0;
    t->objective_q = jsonx_int(ev, "objective_q", 0);
    t->sd_q = jsonx_int(ev, "sd_q", 0);
    t->roofline = jsonx_num(ev, "roofline", NAN);
    t->crps = jsonx_num(ev, "crps", NAN);
    t->crps_corrected = jsonx_num(ev, "crps_corrected", t->crps);
    t->improved = t->ok && jsonx_bool(ev, "improved", 0);
    t->device_ns = (uint64_t)jsonx_int(ev, "device_ns", 0);
    t->seq = s->next_seq;
    t->same_as = (uint64_t)jsonx_int(ev, "same_as", 0);
    str_copy(t->object, sizeof(t->object), jsonx_str(ev, "object", ""));
    str_copy(t->evaluation.hex, sizeof(t->evaluation.hex), jsonx_str(ev, "fact", ""));
    s->wall_ns += (uint64_t)jsonx_int(ev, "wall_ns", 0);
    s->device_ns += t->device_ns;
    spend_apply_measured(s, t, ev);
    t->measured = true;
    if (json_is_integer(json_object_get(ev, "baseline_q")))
        drift_add(&s->drift, jsonx_int(ev, "baseline_q", 0));
    if (isfinite(t->crps) && t->sd > 0)
        calibration_add(s->calibration, t->source,
                        (1e-6 * (double)t->objective_q - t->mean) / t->sd);
    forecast_count_claims(s, json_object_get(ev, "claims"));
    count_trial(s, t, json_object_get(ev, "duel"));
    return 0;
}

static int apply_started(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_RUNNING, jsonx_str(ev, "reason", ""), err);
}

static int apply_paused(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_PAUSED, jsonx_str(ev, "reason", ""), err);
}

static int apply_done(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_DONE, jsonx_str(ev, "reason", ""), err);
}

static int apply_failed(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_FAILED, jsonx_str(ev, "reason", ""), err);
}

static int apply_cancelled(struct search *s, const json_t *ev, struct err *err)
{
    return set_state(s, SEARCH_CANCELLED, jsonx_str(ev, "reason", ""), err);
}

/* Memory retreats, or is back: trust.h says when. */
static int apply_trust(struct search *s, const json_t *ev, struct err *err)
{
    if (s->memory == NULL)
        return misfit(err, s, "it has no memory that could retreat");
    s->retreated = jsonx_bool(ev, "retreat", 0);
    return 0;
}

static int apply_shared(struct search *s, const json_t *ev, struct err *err)
{
    if (s->memory == NULL)
        return misfit(err, s, "a cold search hears of nobody");
    if (gifts_apply(&s->gifts, json_object_get(ev, "gifts"), true, err) != 0)
        return -1;
    s->live.heard += json_array_size(json_object_get(ev, "gifts"));
    return live_apply(&s->live, ev, s->space, err);
}

/* Its edit was applied before. */
static int apply_edited(struct search *s, const json_t *ev, struct err *err)
{
    return json_is_object(json_object_get(ev, "edit")) ? 0 : misfit(err, s, "an edit without edit");
}

/* A text of prompts, read back by its number when it is wanted. */
static int apply_text(struct search *s, const json_t *ev, struct err *err)
{
    size_t at = s->n_texts % SEARCH_TEXTS_MAX;

    if (!json_is_string(json_object_get(ev, "text")) ||
        !str_copy(s->texts[at].hash, sizeof(s->texts[at].hash), jsonx_str(ev, "hash", "")))
        return misfit(err, s, "a text without text");
    s->texts[at].seq = s->next_seq;
    s->n_texts++;
    return 0;
}

static const struct {
    const char *type;
    int (*apply)(struct search *s, const json_t *ev, struct err *err);
} appliers[] = {
    { "edited", apply_edited },
    { "started", apply_started },
    { "seeded", apply_seeded },
    { "cycle", apply_cycle },
    { "attempt", apply_attempt },
    { "lost", apply_lost },
    { "measured", apply_measured },
    { "cycle_end", apply_cycle_end },
    { "paused", apply_paused },
    { "resumed", apply_started },
    { "done", apply_done },
    { "failed", apply_failed },
    { "cancelled", apply_cancelled },
    { "trust", apply_trust },
    { "shared", apply_shared },
    { "text", apply_text },
    { "program", programs_apply },
    { "round", apply_round },
    { "asked", calls_apply_asked },
    { "answered", apply_answered },
    { "unanswered", calls_apply_lost },
    { "used", apply_used },
    { "told", apply_told },
    { "notice", spend_apply_notice },
};

int search_apply(struct search *s, const json_t *event, struct err *err)
{
    const char *type = jsonx_str(event, "type", "");
    const json_t *edit = json_object_get(event, "edit");
    uint32_t nodes = world_count(s->world);

    if ((uint64_t)jsonx_int(event, "seq", -1) != s->next_seq)
        return misfit(err, s, "its number is not the next");
    if (edit != NULL && apply_edit(s, edit, err) != 0)
        return -1;
    gifts_note_nodes(s, event, nodes);
    if (credit_take(&s->offers, s->space, json_object_get(event, "offered"), err) != 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(appliers); i++)
        if (strcmp(appliers[i].type, type) == 0) {
            if (appliers[i].apply(s, event, err) != 0)
                return -1;
            s->next_seq++;
            return 0;
        }
    return misfit(err, s, "its type is unknown");
}

struct replay {
    struct search *search;
    struct err err;
    bool failed;
};

static int replay_event(void *ctx, uint64_t seq, const json_t *event)
{
    struct replay *r = ctx;

    (void)seq;
    r->failed = search_apply(r->search, event, &r->err) != 0;
    return r->failed;
}

int search_load(struct kb *kb, const char *id, bool reading_only, struct search **out,
                struct err *err)
{
    struct replay r = { 0 };
    json_t *doc;
    int rc;

    if (kb_get_doc(kb, KB_SEARCH, id, &doc, err) != 0)
        return err_set(err, err->code, "there is no search '%s'", id);
    rc = search_new(kb, doc, reading_only, &r.search, err);
    json_decref(doc);
    if (rc != 0)
        return -1;
    rc = kb_each_event(kb, id, 0, replay_event, &r, err);
    if (rc == 0 && r.failed) {
        *err = r.err;
        rc = -1;
    }
    if (rc != 0) {
        search_free(r.search);
        return -1;
    }
    *out = r.search;
    return 0;
}

/* ---- Journal ---- */

int journal_open(struct journal *j, struct search *s, const struct clock *clock, struct err *err)
{
    *j = (struct journal){ s, kb_batch_new(s->kb), clock, json_array() };
    if (j->batch == NULL || j->events == NULL) {
        journal_close(j);
        return err_set(err, ERR_NOMEM, "no memory for the journal of search '%s'", s->spec.id);
    }
    return 0;
}

int journal_add(struct journal *j, json_t *event, struct err *err)
{
    struct search *s = j->search;
    uint64_t seq = s->next_seq;
    enum search_state before = s->state;
    int rc;

    if (event == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an event of search '%s'", s->spec.id);
    json_object_set_new(event, "seq", json_integer((json_int_t)seq));
    json_object_set_new(event, "at",
                        json_integer((json_int_t)(j->clock->wall_ns(j->clock) / NS_PER_SEC)));
    rc = search_apply(s, event, err);
    if (rc == 0)
        rc = kb_batch_add_event(j->batch, s->spec.id, seq, event, err);
    if (rc == 0 && s->state != before) {
        json_t *doc = search_summary(s);

        rc = kb_batch_put_doc(j->batch, KB_SEARCH, s->spec.id, doc, err);
        json_decref(doc);
    }
    json_array_append_new(j->events, event);
    return rc == 0 && s->state == SEARCH_RUNNING ? spend_note(j, err) : rc;
}

int journal_commit(struct journal *j, struct err *err)
{
    if (kb_commit(j->batch, err) != 0)
        return err_ctx(err, "search '%s' could not write what it did", j->search->spec.id);
    return 0;
}

void journal_close(struct journal *j)
{
    kb_batch_free(j->batch);
    json_decref(j->events);
    memset(j, 0, sizeof(*j));
}
