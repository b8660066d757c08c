/* SPDX-License-Identifier: Apache-2.0 */
/* Which programs of near tasks are worth adopting, at the start and meanwhile; see gifts.h. */
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/gifts.h"
#include "search/search.h"

enum {
    BEST_MAX = 16,        /* programs of one source that are looked at */
    LEVEL_MIN = 4,        /* successes of a source, before its level says anything */
    NEAR_BEST_Q = 250000, /* what is adopted came within a quarter of its source's best */
    GAIN_LEAST_Q = 20000  /* and is better than the baseline, or than what is known, by 2 % */
};

#define SIMILARITY_LEAST 0.3 /* of what is adopted */
#define SAME_SOURCE 0.5      /* what a further program of one source is worth, of its value */

/* ---- Records of one task on one device ---- */

struct best {
    struct id program, evaluation;
    json_t *assignment; /* owned */
    int64_t objective_q;
};

struct source {
    struct memory_source is;
    size_t n_ok, cap;
    int64_t *objectives; /* of the successes; owned */
    size_t n_best;
    struct best best[BEST_MAX]; /* by program, in no order */
    size_t taken;
};

struct scan {
    const struct search *search;
    const struct memory_relative *relative;
    size_t n, cap;
    struct source *v; /* owned */
    struct err err;
    bool failed;
};

static void scan_release(struct scan *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->v[i].objectives);
        for (size_t k = 0; k < c->v[i].n_best; k++)
            json_decref(c->v[i].best[k].assignment);
    }
    free(c->v);
}

/* The source of an evaluation, made when it is the first of it; NULL after a failure. */
static struct source *source_of(struct scan *c, const struct evaluation *e)
{
    const struct search *s = c->search;
    struct source *src;
    double device;

    for (size_t i = 0; i < c->n; i++)
        if (strcmp(c->v[i].is.task, e->task) == 0 && strcmp(c->v[i].is.device, e->device) == 0)
            return &c->v[i];
    if (memory_device_similarity(s->kb, s->spec.device, s->scope.device_class, e->device, &device,
                                 &c->err) != 0) {
        c->failed = true;
        return NULL;
    }
    c->v = xgrow(c->v, &c->cap, c->n + 1, sizeof(*c->v));
    src = &c->v[c->n++];
    *src = (struct source){ .is.similarity = c->relative->similarity * device };
    str_copy(src->is.task, sizeof(src->is.task), e->task);
    str_copy(src->is.device, sizeof(src->is.device), e->device);
    return src;
}

/* The place for a program's record: its own, a free one, or that of the worst. */
static struct best *place_for(struct source *src, const struct id *program)
{
    struct best *worst = &src->best[0];

    for (size_t i = 0; i < src->n_best; i++) {
        if (strcmp(src->best[i].program.hex, program->hex) == 0)
            return &src->best[i];
        if (src->best[i].objective_q < worst->objective_q)
            worst = &src->best[i];
    }
    if (src->n_best == BEST_MAX)
        return worst;
    src->best[src->n_best] = (struct best){ .objective_q = INT64_MIN };
    return &src->best[src->n_best++];
}

static void offer_best(struct source *src, const struct id *id, const struct evaluation *e)
{
    struct best *b = place_for(src, &e->program);

    if (e->objective_q <= b->objective_q)
        return;
    json_decref(b->assignment);
    *b = (struct best){ e->program, *id, json_incref(e->assignment), e->objective_q };
}

/* Could the program run here at all? Only a measurement says whether it does. */
static bool is_alike(const struct search *s, const struct evaluation *e)
{
    return strcmp(e->language, s->scope.language) == 0 && strcmp(e->family, s->scope.family) == 0;
}

static bool is_own(const struct search *s, const struct id *evaluation)
{
    for (uint64_t n = 1; n <= s->n_trials; n++)
        if (strcmp(search_trial(s, n)->evaluation.hex, evaluation->hex) == 0)
            return true;
    return false;
}

static int take(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct scan *c = ctx;
    struct source *src = source_of(c, e);

    (void)seq;
    if (src == NULL)
        return 1;
    src->is.records++;
    if (strcmp(e->status, "ok") != 0 || is_own(c->search, id))
        return 0;
    src->objectives = xgrow(src->objectives, &src->cap, src->n_ok + 1, sizeof(*src->objectives));
    src->objectives[src->n_ok++] = e->objective_q;
    if (is_alike(c->search, e) && e->objective_q >= GAIN_LEAST_Q)
        offer_best(src, id, e);
    return 0;
}

/* The records of all relatives between two sequence numbers. */
static int scan_relatives(const struct search *s, uint64_t from, uint64_t to, struct scan *c,
                          struct err *err)
{
    struct memory_relative relatives[MEMORY_RELATIVES_MAX];
    size_t n = memory_relatives(s->scope.relatives, relatives, MEMORY_RELATIVES_MAX);

    *c = (struct scan){ .search = s };
    for (size_t i = 0; i < n; i++) {
        c->relative = &relatives[i];
        if (kb_each_evaluation_since(s->kb, relatives[i].task, NULL, from, to, take, c, err) != 0)
            return -1;
        if (c->failed) {
            *err = c->err;
            return -1;
        }
    }
    return 0;
}

static int upwards(const void *pa, const void *pb)
{
    int64_t a = *(const int64_t *)pa, b = *(const int64_t *)pb;

    return (a > b) - (a < b);
}

static void level_of(struct source *src)
{
    if (src->n_ok == 0)
        return;
    qsort(src->objectives, src->n_ok, sizeof(*src->objectives), upwards);
    src->is.has_level = src->n_ok >= LEVEL_MIN;
    src->is.best_q = src->objectives[src->n_ok - 1];
    src->is.ordinary_q = src->objectives[src->n_ok / 4];
}

static int nearest_first(const void *pa, const void *pb)
{
    const struct source *a = pa, *b = pb;
    int c;

    if ((a->n_ok > 0) != (b->n_ok > 0))
        return a->n_ok > 0 ? -1 : 1;
    if (a->is.similarity != b->is.similarity)
        return a->is.similarity > b->is.similarity ? -1 : 1;
    c = strcmp(a->is.task, b->is.task);
    return c ? c : strcmp(a->is.device, b->is.device);
}

/* ---- Programs ---- */

/* Is the program there, whole, in the search's language, with a space that has the assignment?
 * *here is what it is called here. */
static bool is_usable(const struct search *s, const struct best *b, struct id *here)
{
    struct search_scope scope = s->scope;
    uint16_t a[SPACE_PARAMS_MAX];
    struct space *space = NULL;
    json_auto_t *doc = NULL, *local = NULL;
    const char *source;
    struct err err;
    bool fits;

    if (kb_get_doc(s->kb, KB_PROGRAM, b->program.hex, &doc, &err) != 0)
        return false;
    source = jsonx_str(doc, "source", "");
    if (source[0] == '\0' || strcmp(jsonx_str(doc, "language", ""), s->scope.language) != 0 ||
        space_parse(json_object_get(doc, "space"), "a program's space", &space, &err) != 0)
        return false;
    fits = space_from_json(space, b->assignment, a, &err) == 0 && space_valid(space, a);
    space_free(space);
    local = program_document(&scope, source, json_object_get(doc, "space"));
    *here = scope.program;
    return fits && search_program_find(s, here) == PROGRAM_NONE;
}

static bool is_chosen(const json_t *list, const struct id *here)
{
    const json_t *v;
    size_t i;

    json_array_foreach (list, i, v)
        if (strcmp(jsonx_str(v, "here", ""), here->hex) == 0)
            return true;
    return false;
}

static void choose_one(json_t *list, const struct source *src, const struct best *b,
                       const struct id *here)
{
    CLEANUP(freep) char *from = str_printf("%s@%s", src->is.task, src->is.device);

    json_array_append_new(list,
                          json_pack("{s:s, s:s, s:O, s:s, s:f, s:I, s:s}", "program",
                                    b->program.hex, "here", here->hex, "assignment", b->assignment,
                                    "from", from, "similarity", src->is.similarity, "objective_q",
                                    (json_int_t)b->objective_q, "evaluation", b->evaluation.hex));
}

static double value_of(const struct source *src, const struct best *b)
{
    double value;

    if (src->is.similarity < SIMILARITY_LEAST || b->objective_q < src->is.best_q - NEAR_BEST_Q)
        return 0;
    value = src->is.similarity * exp(1e-6 * (double)(b->objective_q - src->is.best_q));
    return value * pow(SAME_SOURCE, (double)src->taken);
}

/* The most useful record left, out of the list it came from; false when there is none. */
static bool next_useful(struct scan *c, struct source **src, struct best *out)
{
    struct best *top = NULL;
    double most = 0;

    for (size_t i = 0; i < c->n; i++)
        for (size_t k = 0; k < c->v[i].n_best; k++) {
            struct best *b = &c->v[i].best[k];
            double value = value_of(&c->v[i], b);

            if (value < most || value <= 0 ||
                (value == most && top != NULL &&
                 strcmp(b->evaluation.hex, top->evaluation.hex) > 0))
                continue;
            most = value;
            top = b;
            *src = &c->v[i];
        }
    if (top == NULL)
        return false;
    *out = *top;
    *top = (*src)->best[--(*src)->n_best];
    return true;
}

static json_t *choose(const struct search *s, struct scan *c, size_t most)
{
    json_t *list = json_array();
    struct source *src = NULL;
    struct best b;

    while (json_array_size(list) < most && next_useful(c, &src, &b)) {
        struct id here;

        if (is_usable(s, &b, &here) && !is_chosen(list, &here)) {
            choose_one(list, src, &b, &here);
            src->taken++;
        }
        json_decref(b.assignment);
    }
    return list;
}

/* ---- At the start ---- */

int gifts_recall(const struct search *s, struct memory *m, size_t most, json_t **out,
                 struct err *err)
{
    struct scan c;
    int rc = scan_relatives(s, 0, m->as_of, &c, err);

    if (rc == 0) {
        for (size_t i = 0; i < c.n; i++)
            level_of(&c.v[i]);
        if (c.n > 0)
            qsort(c.v, c.n, sizeof(*c.v), nearest_first);
        for (size_t i = 0; i < c.n && m->n_sources < MEMORY_SOURCES_MAX; i++)
            if (c.v[i].n_ok > 0)
                m->sources[m->n_sources++] = c.v[i].is;
        *out = choose(s, &c, most);
    }
    scan_release(&c);
    return rc;
}

/* ---- Meanwhile ---- */

/* The best known of a source: recalled at the start, or heard since. */
static int64_t known_best(const struct search *s, const struct source *src)
{
    CLEANUP(freep) char *from = str_printf("%s@%s", src->is.task, src->is.device);
    int64_t best = search_best_q(s);

    for (size_t i = 0; i < s->memory->n_sources; i++) {
        const struct memory_source *m = &s->memory->sources[i];

        if (m->has_level && strcmp(m->task, src->is.task) == 0 &&
            strcmp(m->device, src->is.device) == 0)
            best = MAX(best, m->best_q);
    }
    for (size_t i = 0; i < s->gifts.n; i++)
        if (strcmp(s->gifts.v[i].from, from) == 0)
            best = MAX(best, s->gifts.v[i].objective_q);
    return best;
}

int gifts_look(struct search *s, json_t **event, struct err *err)
{
    uint64_t last = kb_last_seq(s->kb);
    struct scan c;
    json_t *found = NULL;

    s->looked_seq = MAX(s->looked_seq, MAX(s->live.seq, s->memory->as_of));
    if (last <= s->looked_seq)
        return 0;
    if (scan_relatives(s, s->looked_seq + 1, last, &c, err) != 0) {
        scan_release(&c);
        return -1;
    }
    for (size_t i = 0; i < c.n; i++) {
        struct source *src = &c.v[i];
        int64_t least = known_best(s, src) + GAIN_LEAST_Q;

        level_of(src);
        for (size_t k = src->n_best; k > 0; k--)
            if (src->best[k - 1].objective_q < least) {
                json_decref(src->best[k - 1].assignment);
                src->best[k - 1] = src->best[--src->n_best];
            }
    }
    found = choose(s, &c, 1);
    scan_release(&c);
    s->looked_seq = last;
    if (json_array_size(found) > 0)
        *event = json_pack("{s:s, s:I, s:O}", "type", "shared", "as_of", (json_int_t)last, "gifts",
                           found);
    json_decref(found);
    return 0;
}
