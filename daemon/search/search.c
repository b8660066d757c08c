/* SPDX-License-Identifier: Apache-2.0 */
/* The fold of a search over its events; see search.h. */
#include "search/search_impl.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/space_table.h"
#include "search/spend.h"

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

bool search_state_may_become(enum search_state from, enum search_state to)
{
    return (states[from].next & (1u << to)) != 0;
}

/* ---- Beginning and end of one in memory ---- */

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
    if (search_parse_document(document, s, err) != 0 || load_program(s, err) != 0 ||
        (!reading_only && new_engine(s, err) != 0)) {
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
    holdout_release(&s->holdout);
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
    search_spec_release(&s->spec);
    search_scope_release(&s->scope);
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
