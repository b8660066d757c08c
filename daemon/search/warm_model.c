/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for a search that a language model plans; see warm_model.h. */
#include "search/warm_model.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/adoption.h"
#include "search/author_priv.h"
#include "search/gifts.h"
#include "search/graft_model.h"
#include "search/history.h"
#include "search/strategy.h"
#include "search/trust.h"

enum {
    TEXT_MAX = 2000,  /* bytes of a query */
    PREFIX_LEAST = 6, /* digits of an abbreviated id */
    DUE_MAX = 2       /* cycles that the memory-free arm can be owed */
};

/* ---- The beginning ---- */

/* Half of what may be adopted is left to what other searches find meanwhile. */
static size_t adopted_at_start(const struct search *s)
{
    size_t cap = adoption_cap(s->spec.budget_evals);

    if (!(search_memory_parts(s) & MEMORY_ADOPT))
        return 0;
    if (search_memory_parts(s) & MEMORY_LIVE)
        cap = (cap + 1) / 2;
    return MIN(cap, (size_t)WARM_MODEL_ADOPT_MAX);
}

int warm_model_seed(struct search *s, json_t *event, json_t *seeds, struct err *err)
{
    struct memory *m = xcalloc(1, sizeof(*m));
    json_t *gifts = NULL, *plans = NULL, *past = NULL;
    int rc;

    m->as_of = kb_last_seq(s->kb);
    rc = gifts_recall(s, m, adopted_at_start(s), &gifts, err);
    if (rc == 0 && s->strategy->plans && (search_memory_parts(s) & MEMORY_PLANS))
        rc = graft_model_plans(s->kb, m, &plans, err);
    if (rc == 0)
        rc = history_recall(s->history, s->kb, s->scope.family, s->scope.device_class, &past, err);
    if (rc == 0) {
        json_object_set_new(event, "memory", memory_to_json(m, s->space));
        json_object_set(event, "gifts", gifts);
        json_object_set(event, "plans", plans ? plans : json_null());
        json_object_set(event, "calibration", past);
        json_array_extend(seeds, gifts);
    }
    json_decref(gifts);
    json_decref(plans);
    json_decref(past);
    free(m);
    return rc;
}

/* ---- Insights ---- */

/*
 * The tree that the model plants is the memory-free arm's first round: its call is told nothing,
 * and neither are calls for more while a memory-free cycle is owed.
 */
static bool is_told(const struct search *s, enum call_kind kind, int lane)
{
    if (s->memory == NULL || !(search_memory_parts(s) & MEMORY_PLANS))
        return false;
    if (lane >= 0)
        return !s->lanes[lane].memory_free;
    return kind != CALL_INIT && !warm_model_owes(s);
}

static void add_text(struct buf *b, const char *text)
{
    size_t n = strlen(text), room = TEXT_MAX - MIN(b->len, (size_t)TEXT_MAX);

    if (n > room)
        for (n = room; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
            n--;
    buf_addf(b, "%s%.*s", b->len ? " " : "", (int)n, text);
}

/* "avx2,fma": what the device has, as the filter wants it; NULL when that is not known. Owned. */
static char *device_features(const struct search *s)
{
    struct buf b = { .max = 16 << 10 };
    json_auto_t *device = NULL;
    struct err ignored;
    const json_t *v;
    size_t i;

    if (kb_get_doc(s->kb, KB_DEVICE, s->spec.device, &device, &ignored) != 0)
        return NULL;
    json_array_foreach (json_object_get(device, "features"), i, v)
        if (json_is_string(v))
            buf_addf(&b, "%s%s", b.len ? "," : "", json_string_value(v));
    if (b.len == 0) {
        buf_release(&b);
        return NULL;
    }
    return buf_take(&b);
}

/* Is a name in a list with commas? */
static bool is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = strstr(list, name); at != NULL; at = strstr(at + 1, name))
        if ((at == list || at[-1] == ',') && (at[n] == '\0' || at[n] == ','))
            return true;
    return false;
}

/* Families of the relatives other than the search's own, with commas; NULL for none. Owned. */
static char *related_families(const struct search *s)
{
    struct memory_relative relatives[MEMORY_RELATIVES_MAX];
    size_t n = memory_relatives(s->scope.relatives, relatives, MEMORY_RELATIVES_MAX);
    struct buf b = { .max = 16 << 10 };

    for (size_t i = 0; i < n; i++) {
        json_auto_t *task = NULL;
        struct err ignored;
        const char *family;

        if (kb_get_doc(s->kb, KB_TASK, relatives[i].task, &task, &ignored) != 0)
            continue;
        family = jsonx_str(task, "family", "");
        if (family[0] && strcmp(family, s->scope.family) != 0 && !is_listed(buf_str(&b), family))
            buf_addf(&b, "%s%s", b.len ? "," : "", family);
    }
    if (b.len == 0) {
        buf_release(&b);
        return NULL;
    }
    return buf_take(&b);
}

static bool is_own_evidence(const struct search *s, const json_t *evidence)
{
    const char *with = jsonx_str(evidence, "with", "");

    for (uint64_t n = 1; n <= s->n_trials; n++)
        if (strcmp(search_trial(s, n)->evaluation.hex, with) == 0)
            return true;
    return false;
}

/*
 * Is it past knowledge? What this search alone has shown is not; where it has a part, the hit says
 * how much.
 */
static bool is_past(const struct search *s, json_t *hit)
{
    const json_t *evidence = json_object_get(hit, "evidence"), *v;
    size_t i, own = 0, n = json_array_size(evidence);

    if (strcmp(jsonx_str(hit, "state", "active"), "active") != 0)
        return false;
    json_array_foreach (evidence, i, v)
        own += is_own_evidence(s, v);
    if (own == 0)
        return true;
    json_object_set_new(hit, "own", json_integer((json_int_t)own));
    return own < n || jsonx_int(json_object_get(hit, "effect"), "n", 0) > (long long)n;
}

static json_t *past_hits(const struct search *s, const json_t *answer)
{
    json_t *kept = json_array(), *hit;
    size_t i;

    json_array_foreach (json_object_get(answer, "hits"), i, hit)
        if (json_array_size(kept) < WARM_MODEL_INSIGHTS_MAX && is_past(s, hit))
            json_array_append(kept, hit);
    if (json_array_size(kept) > 0)
        return kept;
    json_decref(kept);
    return NULL;
}

int warm_model_insights(struct search *s, enum call_kind kind, int lane, json_t **out,
                        struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = 4 * TEXT_MAX };
    CLEANUP(freep) char *features = NULL;
    CLEANUP(freep) char *related = NULL;
    json_auto_t *answer = NULL;
    struct kb_query q = { .task = s->spec.task,
                          .family = s->scope.family,
                          .device_class = s->scope.device_class,
                          .shape = s->scope.shape,
                          .context = s->scope.features,
                          .limit = 2 * WARM_MODEL_INSIGHTS_MAX };

    if (!is_told(s, kind, lane))
        return 0;
    if (lane >= 0) {
        const struct world_node *n = world_get(s->world, world_find(s->world, s->lanes[lane].node));

        add_text(&text, n->action.title);
        add_text(&text, n->action.description);
    }
    add_text(&text, s->summary);
    features = device_features(s);
    related = related_families(s);
    q.text = buf_str(&text);
    q.features = features;
    q.related = related;
    /* what was found since is a part of its own */
    if (!(search_memory_parts(s) & MEMORY_LIVE))
        q.as_of_ns = s->created_s * NS_PER_SEC;
    if (kb_query(s->kb, &q, &answer, err) != 0)
        return -1;
    *out = past_hits(s, answer);
    return 0;
}

json_t *warm_model_ids(const json_t *insights)
{
    json_t *ids = json_array();
    json_t *hit;
    size_t i;

    json_array_foreach (insights, i, hit)
        json_array_append(ids, json_object_get(hit, "insight"));
    return ids;
}

/* ---- Credit ---- */

/* Does what an author wrote stand for this id? In full, or by its first digits. */
static bool cites(const char *written, const char *id)
{
    size_t n = strlen(written);

    return n >= PREFIX_LEAST && n <= strlen(id) && strncasecmp(written, id, n) == 0;
}

/* The one that was told and is meant; NULL for none, or when it could be several. */
static const json_t *told_as(const json_t *told, const char *written)
{
    const json_t *v, *found = NULL;
    size_t i;

    json_array_foreach (told, i, v)
        if (json_is_string(v) && cites(written, json_string_value(v))) {
            if (found != NULL)
                return NULL;
            found = v;
        }
    return found;
}

static bool has_text(const json_t *list, const json_t *text)
{
    const json_t *v;
    size_t i;

    json_array_foreach (list, i, v)
        if (json_equal(v, text))
            return true;
    return false;
}

void warm_model_credit(const struct search *s, const struct program *p, json_t *attempt)
{
    const struct call *c = calls_get(&s->calls, p->call);
    json_t *followed;
    const json_t *v;
    size_t i;

    if (c == NULL || json_array_size(c->told) == 0)
        return;
    followed = json_array();
    json_array_foreach (p->uses, i, v) {
        const json_t *id = json_is_string(v) ? told_as(c->told, json_string_value(v)) : NULL;

        if (id != NULL && !has_text(followed, id))
            json_array_append(followed, (json_t *)id);
    }
    json_object_set_new(attempt, "served", json_deep_copy(c->told));
    json_object_set_new(attempt, "followed", followed);
    json_object_set_new(attempt, "against", json_array());
}

/* ---- The memory-free arm ---- */

/* What the arm is owed when a cycle begins, before it is paid. */
static double owed(const struct search *s, const struct trust *t)
{
    return fmin(DUE_MAX, s->due + t->share);
}

bool warm_model_owes(const struct search *s)
{
    struct trust t;

    if (s->memory == NULL)
        return false;
    trust_of(s, &t);
    return owed(s, &t) >= 1;
}

bool warm_model_keeps_off(const void *search, uint32_t node)
{
    const struct search *s = search;

    if (s->retreated && world_get(s->world, node)->graft.search[0])
        return true;
    return gifts_steered(s, node) && warm_model_owes(s);
}

void warm_model_arm(const struct search *s, uint32_t node, json_t *cycle)
{
    struct trust t;
    double due;
    bool is_free;

    if (s->memory == NULL)
        return;
    trust_of(s, &t);
    due = owed(s, &t);
    is_free = due >= 1 && !gifts_steered(s, node);
    json_object_set_new(cycle, "memory_free", json_boolean(is_free));
    json_object_set_new(cycle, "due", json_real(due - (is_free ? 1 : 0)));
    json_object_set_new(cycle, "memory_free_share", json_real(t.share));
}

/* Says when memory begins to lose, and when it has made up for it. */
static int judge(struct author *a, bool *moved, struct err *err)
{
    struct trust t;

    trust_of(a->s, &t);
    if (t.lost == a->s->retreated)
        return 0;
    *moved = true;
    return journal_add(a->j,
                       json_pack("{s:s, s:b, s:f, s:s}", "type", "trust", "retreat", t.lost,
                                 "memory_free_share", t.share, "why", t.why),
                       err);
}

bool warm_model_steers(const struct search *s, const struct lane *l)
{
    if (s->memory == NULL || l->memory_free)
        return false;
    return l->told || warm_model_is_adoption(s, l) ||
           gifts_steered(s, world_find(s->world, l->node));
}

bool warm_model_hides(const struct search *s, enum call_kind kind, int lane, uint32_t node)
{
    return s->memory != NULL && gifts_steered(s, node) &&
           world_get(s->world, node)->state != WORLD_CLOSED && !is_told(s, kind, lane);
}

/* ---- Plans, and what others find ---- */

/* Has the model's first plan been used, whatever came of it? */
static bool has_planted(const struct search *s)
{
    const struct call *last = NULL;

    for (uint64_t n = 1; n <= s->calls.n; n++)
        if (calls_get(&s->calls, n)->kind == CALL_INIT)
            last = calls_get(&s->calls, n);
    return last != NULL && last->used;
}

static int plant(struct author *a, bool *moved, struct err *err)
{
    struct world_edit edit;

    if (json_array_size(a->s->gifts.plans) == 0 || !has_planted(a->s))
        return 0;
    graft_model_edit(a->s->world, a->s->gifts.plans, a->s->n_trials, &edit);
    if (edit.n_ops == 0 || world_try(a->s->world, &edit, NULL, err) != 0) {
        world_edit_release(&edit); /* only a full world refuses it */
        return 0;
    }
    *moved = true;
    return author_edit(a, &edit, err);
}

static int hear(struct author *a, bool *moved, struct err *err)
{
    json_t *event = NULL;

    if (!(search_memory_parts(a->s) & MEMORY_LIVE))
        return 0;
    if (gifts_look(a->s, &event, err) != 0)
        return -1;
    *moved = event != NULL;
    return event != NULL ? journal_add(a->j, event, err) : 0;
}

/* ---- Adoption ---- */

bool warm_model_is_adoption(const struct search *s, const struct lane *l)
{
    const struct program *p =
        l->program != PROGRAM_NONE ? search_program_record(s, l->program) : NULL;

    return p != NULL && p->from[0] && l->call == 0;
}

/* How adoption went so far. */
struct tally {
    uint64_t n, last_live;          /* trials that adopted; the last of them that was live */
    int64_t adopted_q, own_q;       /* the best of each, micro-log */
    bool has_adopted, has_own, now; /* is one under way? */
};

static struct tally tally_of(const struct search *s)
{
    struct tally t = { 0 };

    for (uint64_t n = 1; n <= s->n_trials; n++) {
        const struct trial *trial = search_trial(s, n);
        bool adopted = trial->adopted[0] != '\0';
        int64_t *best = adopted ? &t.adopted_q : &t.own_q;
        bool *has = adopted ? &t.has_adopted : &t.has_own;

        t.n += adopted;
        if (adopted && trial->live)
            t.last_live = n;
        if (!trial->ok)
            continue;
        *best = *has ? MAX(*best, trial->objective_q) : trial->objective_q;
        *has = true;
    }
    for (unsigned i = 0; i < LANES_MAX; i++)
        t.now |= lane_in_cycle(&s->lanes[i]) && warm_model_is_adoption(s, &s->lanes[i]);
    return t;
}

/* One that running searches found is wanted while it promises more than the best here. */
static bool is_wanted(const struct search *s, const struct tally *t, const struct gift *g)
{
    if (g->taken || search_program_find(s, &g->here) != PROGRAM_NONE)
        return false;
    if (!g->live)
        return !t->has_adopted || !t->has_own || t->adopted_q >= t->own_q;
    return g->objective_q > search_best_q(s) &&
           (t->last_live == 0 || s->n_trials >= t->last_live + WARM_MODEL_LIVE_EVERY);
}

static const struct gift *next_gift(const struct search *s)
{
    struct tally t = tally_of(s);
    const struct gift *best = NULL;

    if (s->retreated || t.now || t.n >= adoption_cap(s->spec.budget_evals))
        return NULL;
    for (size_t i = 0; i < s->gifts.n; i++) {
        const struct gift *g = &s->gifts.v[i];

        /* those of the start come in the order of their use */
        if (is_wanted(s, &t, g) &&
            (best == NULL || (g->live && g->objective_q > best->objective_q)))
            best = g;
    }
    return best;
}

/* A title that no sibling has. */
static void title_of(const struct search *s, const struct gift *g, char *out, size_t size)
{
    bool taken = true;

    for (unsigned k = 1; taken; k++) {
        snprintf(out, size,
                 k == 1 ? GRAFT_MODEL_ADOPTED "%.150s" : GRAFT_MODEL_ADOPTED "%.150s (%u)", g->from,
                 k);
        taken = false;
        for (uint32_t i = 1; i < world_count(s->world) && !taken; i++)
            taken = world_get(s->world, i)->parent == 0 &&
                    strcasecmp(world_get(s->world, i)->action.title, out) == 0;
    }
}

/* The deviation of what is expected: less sure the farther it comes from. */
static double doubt_of(const struct gift *g)
{
    return fmin(1, 0.1 / g->similarity);
}

static int add_node(struct author *a, const struct gift *g, char id[WORLD_ID_MAX + 1],
                    struct err *err)
{
    const struct search *s = a->s;
    double there = 1e-6 * (double)g->objective_q;
    struct world_edit edit;
    struct world_spec *spec;
    char title[WORLD_LABEL_MAX + 1], text[200];
    unsigned k = 0;

    do
        snprintf(id, WORLD_ID_MAX + 1, "gift%u", ++k);
    while (world_find(s->world, id) != WORLD_NONE);
    title_of(s, g, title, sizeof(title));
    snprintf(text, sizeof(text),
             "A whole program from memory, measured %.2fx its baseline there (similarity %.2f); "
             "measured again here as it was.",
             exp(there), g->similarity);
    world_edit_init(&edit, WORLD_BY_SYSTEM, "adopt", s->n_trials);
    spec = &world_edit_add(&edit, WORLD_OP_INSERT, WORLD_ROOT_ID)->spec;
    world_spec_text(spec, WORLD_SET_ID, id);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    world_spec_text(spec, WORLD_SET_CHOICE, title);
    world_spec_text(spec, WORLD_SET_DESCRIPTION, text);
    world_spec_number(spec, WORLD_SET_SCORE, g->similarity);
    world_spec_number(spec, WORLD_SET_EXPECTED, there);
    world_spec_number(spec, WORLD_SET_EXPECTED_SD, doubt_of(g));
    return author_edit(a, &edit, err);
}

/* The document of a gift, under the search's own build settings. */
static int put_document(struct author *a, const struct gift *g, const json_t *there,
                        struct err *err)
{
    struct search_scope scope = a->s->scope;
    json_auto_t *doc = program_document(&scope, jsonx_str(there, "source", ""),
                                        json_incref(json_object_get(there, "space")));

    if (strcmp(scope.program.hex, g->here.hex) != 0)
        return err_set(err, ERR_CORRUPT, "program %.12s is not what search '%s' was told of",
                       g->program.hex, a->s->spec.id);
    return kb_batch_put_doc(a->j->batch, KB_PROGRAM, g->here.hex, doc, err);
}

static int add_gift_program(struct author *a, const struct lane *l, const struct gift *g,
                            const json_t *there, struct err *err)
{
    const struct search *s = a->s;
    char note[80];

    snprintf(note, sizeof(note), "from memory, as it was on %.40s", g->from);
    return author_lane_event(a, "program", l,
                             json_pack("{s:I, s:s, s:s, s:O, s:I, s:I, s:s, s:s, s:O, s:f, s:f}",
                                       "program", (json_int_t)search_programs(s), "id", g->here.hex,
                                       "source", jsonx_str(there, "source", ""), "space",
                                       json_object_get(there, "space"), "parent", (json_int_t)-1,
                                       "call", (json_int_t)0, "note", note, "from", g->from,
                                       "assignment", g->assignment, "expected",
                                       1e-6 * (double)g->objective_q, "expected_sd", doubt_of(g)),
                             err);
}

static const struct lane *lane_on(const struct search *s, const char *node)
{
    for (unsigned i = 0; i < LANES_MAX; i++)
        if (lane_in_cycle(&s->lanes[i]) && strcmp(s->lanes[i].node, node) == 0)
            return &s->lanes[i];
    return NULL;
}

static int adopt(struct author *a, const struct gift *g, struct err *err)
{
    json_auto_t *there = NULL;
    char node[WORLD_ID_MAX + 1];

    if (kb_get_doc(a->s->kb, KB_PROGRAM, g->program.hex, &there, err) != 0)
        return err_ctx(err, "a program from memory");
    if (put_document(a, g, there, err) != 0 || add_node(a, g, node, err) != 0 ||
        author_cycle(a, world_find(a->s->world, node), 0,
                     json_pack("{s:s, s:s}", "why", "a program from memory is measured here",
                               "gift", g->evaluation.hex),
                     err) != 0)
        return -1;
    return add_gift_program(a, lane_on(a->s, node), g, there, err);
}

int warm_model_adopt(struct author *a, bool *moved, struct err *err)
{
    const struct gift *g;

    if (a->s->memory == NULL)
        return 0;
    if (judge(a, moved, err) != 0 || (!*moved && hear(a, moved, err) != 0) ||
        (!*moved && plant(a, moved, err) != 0))
        return -1;
    if (*moved || world_count(a->s->world) >= WORLD_NODES_MAX)
        return 0;
    g = next_gift(a->s);
    if (g == NULL)
        return 0;
    *moved = true;
    return adopt(a, g, err);
}
