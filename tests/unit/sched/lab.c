/* SPDX-License-Identifier: Apache-2.0 */
/* A laboratory for searches; see lab.h. */
#include "lab.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "search/author.h"
#include "search/journal.h"
#include "search/outcome.h"
#include "search/planner.h"
#include "unit/test.h"

static const char space_text[] =
    "{\"parameters\":["
    "{\"name\":\"MODE\",\"type\":\"enum\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[\"two_pass\",\"online\",\"split\"],\"default\":\"two_pass\","
    "\"technique\":\"online-softmax\",\"help\":\"how the softmax is computed\"},"
    "{\"name\":\"LAYOUT\",\"type\":\"enum\",\"kind\":\"categorical\",\"role\":\"structural\","
    "\"values\":[\"rows\",\"columns\"],\"default\":\"rows\",\"technique\":\"accumulator-layout\","
    "\"help\":\"layout of accumulators\"},"
    "{\"name\":\"TILE\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[4,8,16,32,64,128],\"default\":4,\"technique\":\"tiling\",\"help\":\"keys per "
    "tile\"},"
    "{\"name\":\"UNROLL\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[1,2,4,8],\"default\":1,\"technique\":\"loop-unrolling\",\"help\":\"unrolled "
    "keys\"},"
    "{\"name\":\"PREFETCH\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[0,1,2,4,8],\"default\":0,\"technique\":\"software-prefetch\",\"help\":\"pages "
    "ahead\"},"
    "{\"name\":\"GROUP\",\"type\":\"int\",\"kind\":\"ordinal\",\"role\":\"numeric\","
    "\"values\":[1,2,4,8],\"default\":1,\"technique\":\"head-grouping\",\"help\":\"heads per "
    "pass\"}],"
    "\"constraints\":[\"TILE % UNROLL == 0\"]}";

json_t *lab_space(void)
{
    return json_loads(space_text, 0, NULL);
}

double lab_bowl(const struct lab *lab, const struct space *space, const uint16_t *a)
{
    static const double best[] = { 0, 0, 3, 2, 2, 2 };
    double loss = (a[0] == 1 ? 0 : a[0] == 2 ? 0.25 : 0.6) + (a[1] == 1 ? 0 : 0.2);

    (void)space;
    if (a[0] == 2 && a[3] == 3)
        return NAN; /* this structure does not build with that unrolling */
    for (int p = 2; p < 6; p++) {
        double d = (double)a[p] - best[p] - (p == 2 ? lab->shift : 0);

        loss += 0.12 * d * d / (1 + 0.2 * fabs(d));
    }
    return log(4.0) - loss - 0.05 * fabs((double)a[2] - a[4]);
}

void lab_open(struct lab *lab)
{
    struct kb_options o = { .dir = lab->dir, .clock = &lab->clock.clock, .sync = false };
    json_t *device = json_pack("{s:s, s:s}", "name", "cpu", "class", "cpu-avx2");
    struct kb_batch *b;
    struct err err;

    clock_fake_init(&lab->clock, 1700000000ull * NS_PER_SEC);
    assert_ok(kb_open(&o, &lab->kb, &err), err);
    b = kb_batch_new(lab->kb);
    assert_ok(kb_batch_put_doc(b, KB_DEVICE, "cpu", device, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    json_decref(device);
}

void lab_close(struct lab *lab)
{
    kb_close(lab->kb);
    lab->kb = NULL;
}

/* What a model is told of the laboratory. */
static json_t *lab_brief(const struct lab_run *run)
{
    return json_pack("{s:s, s:s, s:s, s:{s:s, s:s}}", "family", "lab", "definition", run->task,
                     "language", "c", "device", "class", "cpu-avx2", "kind", "cpu");
}

static struct search *store_search(struct lab *lab, const struct lab_run *run)
{
    json_t *space = lab->strategy ? json_pack("{s:[]}", "parameters") : lab_space(), *doc;
    json_t *program =
        json_pack("{s:s, s:s, s:s, s:s, s:O}", "language", "c", "settings", "-O3", "source",
                  lab->strategy == NULL ? "int ks_kernel;"
                  : lab->seed_source    ? lab->seed_source
                                        : LAB_SEED_SOURCE,
                  "family", "lab", "space", space);
    struct search_scope scope = {
        .family = "lab",
        .shape = (char *)run->shape,
        .dtype = "f32",
        .language = "c",
        .bottleneck = "memory",
        .device_class = "cpu-avx2",
        .toolchain = "gcc 12.2.0",
        .features = json_pack("{s:i}", "cores", 2),
        .relatives =
            json_pack("[{s:s,s:f},{s:s,s:f}]", "task", run->task, "similarity", 1.0, "task",
                      strcmp(run->task, "lab_a") == 0 ? "lab_b" : "lab_a", "similarity", 0.4),
    };
    struct search_spec spec = { .task = (char *)run->task,
                                .device = "cpu",
                                .set = "cpu",
                                .holdout = (char *)lab->holdout,
                                .proposer = lab->strategy ? "queue" : "builtin",
                                .strategy = (char *)(lab->strategy ? lab->strategy : "world-model"),
                                .policy = SELECT_UTILITY,
                                .cold = run->cold,
                                .without = lab->without,
                                .seed = run->seed,
                                .budget_evals = run->evals,
                                .window = lab->window ? lab->window : 1,
                                .lanes = lab->lanes ? lab->lanes : 1 };
    struct kb_batch *b = kb_batch_new(lab->kb);
    struct search *s;
    struct err err;

    if (lab->strategy)
        scope.brief = lab_brief(run);
    if (lab->limit)
        lab->limit(&spec);
    assert_ok(id_of_json(program, &scope.program, &err), err);
    snprintf(spec.id, sizeof(spec.id), "%s", run->id);
    doc = search_document(&spec, &scope, 1700000000);
    assert_ok(kb_batch_put_doc(b, KB_PROGRAM, scope.program.hex, program, &err), err);
    assert_ok(kb_batch_put_doc(b, KB_SEARCH, run->id, doc, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    assert_ok(search_new(lab->kb, doc, false, &s, &err), err);
    json_decref(doc);
    json_decref(program);
    json_decref(space);
    json_decref(scope.features);
    json_decref(scope.relatives);
    json_decref(scope.brief);
    return s;
}

/* Commits a step, or crashes in place of it or after it: the search is then what the base has of
 * it. */
static bool write_step(struct lab *lab, struct journal *j, struct search **s)
{
    char id[SEARCH_ID_MAX];
    struct err err;
    bool crash = ++lab->commits == lab->crash_at;

    if (!crash || !lab->crash_before)
        assert_ok(journal_commit(j, &err), err);
    journal_close(j);
    if (!crash)
        return true;
    snprintf(id, sizeof(id), "%s", (*s)->spec.id);
    search_free(*s);
    assert_ok(search_load(lab->kb, id, false, s, &err), err);
    return false;
}

/* An assignment without what the dead parameter says. */
static void without_dead(const struct lab *lab, const struct space *space, const uint16_t *a,
                         uint16_t *out)
{
    memcpy(out, a, space_n(space) * sizeof(*a));
    if (lab->dead > 0)
        out[lab->dead - 1] = 0;
}

static double worth_of(const struct lab *lab, const struct space *space, const uint16_t *a)
{
    uint16_t live[SPACE_PARAMS_MAX];

    without_dead(lab, space, a, live);
    return lab->worth(lab, space, live);
}

double lab_program_worth(const struct search *s, const struct trial *t)
{
    const struct space *space = trial_space(s, t);
    const char *said = strstr(search_program_source(s, t->program), "worth=");
    double worth = said ? strtod(said + strlen("worth="), NULL) : 0;

    for (size_t p = 0; p < space_n(space); p++)
        worth -= 0.1 * (space_param(space, p)->n_values - 1 - t->a[p]);
    return worth;
}

static double worth_at(const struct lab *lab, const struct search *s, const struct trial *t)
{
    return search_has_model(s) ? lab_program_worth(s, t) : worth_of(lab, s->space, t->a);
}

/* The digest of what an assignment compiles to, and "known" when the search measured it before. */
static void set_object(struct lab *lab, const struct search *s, const uint16_t *a, char object[65],
                       struct eval_result *r)
{
    uint16_t live[SPACE_PARAMS_MAX];

    without_dead(lab, s->space, a, live);
    snprintf(object, 65, "%064llx", (unsigned long long)space_hash(s->space, live));
    r->object = object;
    if (search_trial_of_object(s, object) != NULL) {
        r->status = EVAL_KNOWN;
        r->message = "known";
        r->timing_ms = 0;
    } else {
        lab->timed++;
    }
}

/* Every measurement has an error of its own. */
static double error_of(const struct lab *lab, const struct search *s, const struct trial *t,
                       const char *what)
{
    struct rng rng = rng_derive(s->spec.seed, what, t->n);

    return lab->noise > 0 ? lab->noise * rng_normal(&rng) : 0;
}

/* Side by side with the champion; the 99 % interval of an evaluator that knows its error. */
static void add_duel(const struct lab *lab, const struct search *s, const struct trial *t,
                     const struct trial *champion, double worth, struct eval_result *r)
{
    double sd = lab->noise > 0 ? sqrt(2) * lab->noise : 0.005;
    double log_ratio =
        worth - worth_at(lab, s, champion) + sqrt(2) * error_of(lab, s, t, "duel of the lab");

    r->has_champion = true;
    r->vs_champion.ratio = exp(log_ratio);
    r->vs_champion.ci_low = exp(log_ratio - 2.576 * sd);
    r->vs_champion.ci_high = exp(log_ratio + 2.576 * sd);
}

static struct eval_result measure(struct lab *lab, const struct search *s, const struct trial *t,
                                  const struct trial *champion)
{
    double worth = worth_at(lab, s, t);
    double error = error_of(lab, s, t, champion ? "again in the lab" : "measured in the lab");
    struct eval_result r = { .status = isnan(worth) ? EVAL_BUILD_FAILED : EVAL_OK,
                             .message = isnan(worth) ? "it does not build: /usr/x.c" : "",
                             .definition = s->spec.task,
                             .set = s->spec.set,
                             .objective = exp(worth + error),
                             .log_sd = lab->noise > 0 ? lab->noise : 0.01,
                             .roofline = NAN,
                             .timing_ms = 100 };

    if (lab->infrastructure_fails) {
        r.status = EVAL_INFRASTRUCTURE;
        r.message = "the machine is on fire";
    }
    if (champion != NULL)
        add_duel(lab, s, t, champion, worth, &r);
    return r;
}

static bool record(struct lab *lab, struct search **s)
{
    struct trial *t = search_open_trial(*s), *champion = search_trial(*s, (*s)->champion);
    struct eval_result r = measure(lab, *s, t, NULL), duel;
    struct outcome o = { .result = &r, .wall_ns = NS_PER_SEC, .seed = t->n };
    struct journal j;
    char object[65];
    struct err err;

    if (lab->dead > 0)
        set_object(lab, *s, t->a, object, &r);
    if (lab->shaky && t->tries == 0) {
        r.status = EVAL_UNSTABLE;
        r.message = "the times scatter";
    }
    if (outcome_wants_duel(*s, &r)) {
        duel = measure(lab, *s, t, champion);
        o.duel = &duel;
    }
    assert_ok(journal_open(&j, *s, &lab->clock.clock, &err), err);
    assert_ok(outcome_record(&j, &o, &err), err);
    return write_step(lab, &j, s);
}

/* The champion on the hold-out set. */
static bool record_holdout(struct lab *lab, struct search **s)
{
    struct eval_result r = measure(lab, *s, holdout_open_trial(*s), NULL);
    struct journal j;
    struct err err;

    if (lab->check_at == 0)
        lab->check_at = lab->commits;
    r.set = (*s)->spec.holdout;
    r.objective *= exp(-lab->holdout_gap);
    if (lab->holdout_fails) {
        r.status = EVAL_INFRASTRUCTURE;
        r.message = "the other machine is on fire";
    }
    assert_ok(journal_open(&j, *s, &lab->clock.clock, &err), err);
    assert_ok(holdout_record(&j, &r, NS_PER_SEC, &err), err);
    return write_step(lab, &j, s);
}

struct search *lab_begin(struct lab *lab, const struct lab_run *run)
{
    return store_search(lab, run);
}

/* ---- A language model ---- */

static struct prompts *prompts; /* the built-in ones; loaded once, kept to the end */

static void answer_call(struct lab *lab, struct search *s, const struct call *c, struct journal *j)
{
    struct call_request req;
    struct err err;
    char *text;

    assert_ok(call_request_read(s, c, &req, &err), err);
    lab->asked++;
    text = lab->model(lab, &req.req);
    if (text != NULL) {
        struct llm_answer a = { .text = text,
                                .model = "script",
                                .tokens_in = strlen(req.req.prompt) / 4,
                                .tokens_out = strlen(text) / 4,
                                .usd_q = 1000,
                                .seconds = 1 };

        assert_ok(journal_add(j, call_answered_event(c->n, &a), &err), err);
    }
    free(text);
    call_request_release(&req);
}

static const struct call *last_unanswered(const struct search *s)
{
    const struct call *c, *last = NULL;

    for (c = calls_unanswered(&s->calls, 0); c != NULL; c = calls_unanswered(&s->calls, c->n))
        last = c;
    return last;
}

/* All that is asked is answered in one write; NULL of the model leaves a call open. */
static bool answer_calls(struct lab *lab, struct search **s)
{
    const struct call *c = lab->slow ? last_unanswered(*s) : calls_unanswered(&(*s)->calls, 0);
    struct journal j;
    struct err err;

    if (c == NULL)
        return false;
    assert_ok(journal_open(&j, *s, &lab->clock.clock, &err), err);
    for (; c != NULL; c = calls_unanswered(&(*s)->calls, c->n))
        answer_call(lab, *s, c, &j);
    if (json_array_size(j.events) == 0) {
        journal_close(&j);
        return false;
    }
    write_step(lab, &j, s);
    return true;
}

static int plan(const struct search *s, struct journal *j, struct err *err)
{
    if (!search_has_model(s))
        return planner_step(j, err);
    if (prompts == NULL && prompts_load(NULL, &prompts, err) != 0)
        return -1;
    return author_step(j, prompts, err);
}

bool lab_step(struct lab *lab, struct search **s)
{
    uint64_t before = search_measured(*s);

    while (!search_is_over((*s)->state) && search_measured(*s) == before) {
        struct journal j;
        struct err err;

        assert_ok(journal_open(&j, *s, &lab->clock.clock, &err), err);
        assert_ok(plan(*s, &j, &err), err);
        assert_ok(world_check((*s)->world, &err), err);
        if (!write_step(lab, &j, s))
            continue;
        if (holdout_open_trial(*s) != NULL) {
            record_holdout(lab, s);
            continue;
        }
        if (search_open_trial(*s) == NULL) {
            if (search_has_model(*s) && !search_is_over((*s)->state) && !answer_calls(lab, s))
                return false; /* nobody answers */
            continue;
        }
        if (record(lab, s))
            assert_ok(world_check((*s)->world, &err), err);
    }
    return !search_is_over((*s)->state);
}

struct search *lab_search(struct lab *lab, const struct lab_run *run)
{
    struct search *s = lab_begin(lab, run);

    while (lab_step(lab, &s))
        ;
    return s;
}

uint64_t lab_evals_to(const struct search *s, double best_log, double share)
{
    for (uint64_t n = 1; n <= s->n_trials; n++) {
        const struct trial *t = search_trial(s, n);

        if (t->ok && 1e-6 * (double)t->objective_q >= best_log + log(1 - share))
            return n;
    }
    return s->spec.budget_evals + 1;
}

static int keep_event(void *ctx, uint64_t seq, const json_t *event)
{
    (void)seq;
    return json_array_append(ctx, (json_t *)event);
}

json_t *lab_events(const struct search *s)
{
    json_t *events = json_array();
    struct err err;

    assert_ok(kb_each_event(s->kb, s->spec.id, 0, keep_event, events, &err), err);
    return events;
}

static json_t *lane_json(const struct lane *l)
{
    return json_pack("[i, I, s, i, i, I, i, I, i, i]", l->stage, (json_int_t)l->cycle, l->node,
                     l->stagnation.a, l->stagnation.b, (json_int_t)l->best, (int)l->program,
                     (json_int_t)l->call, l->rounds, l->measured);
}

char *lab_final_state(const struct search *s)
{
    json_t *show = search_show_json(s), *tree = search_tree_json(s), *explain = NULL;
    struct err err;
    char *text;

    json_t *lanes = json_array();

    assert_ok(search_explain_json(s, NULL, &explain, &err), err);
    for (size_t i = 0; i < LANES_MAX; i++)
        json_array_append_new(lanes, lane_json(&s->lanes[i]));
    json_object_del(show, "overhead");
    json_object_set_new(show, "tree", tree);
    json_object_set_new(show, "explain", explain);
    json_object_set_new(show, "next_seq", json_integer((json_int_t)s->next_seq));
    json_object_set_new(show, "lanes", lanes);
    json_object_set_new(show, "calls", json_integer((json_int_t)s->calls.n));
    json_object_set_new(show, "programs", json_integer(search_programs(s)));
    text = jsonx_canonical(show);
    json_decref(show);
    return text;
}
