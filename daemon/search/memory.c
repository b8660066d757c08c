/* SPDX-License-Identifier: Apache-2.0 */
/* Recall for a warm start; see memory.h. */
#include "search/memory.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum {
    RECORDS_MIN = 4,       /* fewer successes say too little to be a source */
    RECORDS_MAX = 1 << 18, /* of one source: a full table of a recorded space */
    NEAR_BEST_Q = 100000,  /* a second adoption must have been within 10 % of the first */
};

/* Records of one source, gathered in sequence order. */
struct records {
    const struct space *space;
    size_t n, cap, n_ok;
    uint16_t *a; /* [n][space_n] */
    double *log_time;
    struct id *ids;
    int64_t *objective_q;
};

static void records_release(struct records *r)
{
    free(r->a);
    free(r->log_time);
    free(r->ids);
    free(r->objective_q);
    memset(r, 0, sizeof(*r));
}

static int records_take(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct records *r = ctx;
    size_t width = space_n(r->space);
    uint16_t a[SPACE_PARAMS_MAX];
    struct err ignored;
    bool ok = strcmp(e->status, "ok") == 0;

    (void)seq;
    if (strcmp(e->status, "infrastructure") == 0 || r->n >= RECORDS_MAX ||
        space_from_json(r->space, e->assignment, a, &ignored) != 0 || !space_valid(r->space, a))
        return 0;
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 256;
        r->a = xrealloc(r->a, r->cap * width * sizeof(*r->a));
        r->log_time = xrealloc(r->log_time, r->cap * sizeof(*r->log_time));
        r->ids = xrealloc(r->ids, r->cap * sizeof(*r->ids));
        r->objective_q = xrealloc(r->objective_q, r->cap * sizeof(*r->objective_q));
    }
    memcpy(r->a + r->n * width, a, width * sizeof(*a));
    r->log_time[r->n] = ok ? -1e-6 * (double)e->objective_q : NAN;
    r->objective_q[r->n] = ok ? e->objective_q : INT64_MIN;
    r->ids[r->n] = *id;
    r->n++;
    r->n_ok += ok;
    return 0;
}

static int records_load(struct kb *kb, const struct space *space, const char *task,
                        const char *device, uint64_t as_of, struct records *out, struct err *err)
{
    *out = (struct records){ .space = space };
    return kb_each_evaluation(kb, task, device, as_of, records_take, out, err);
}

/* ---- Sources ---- */

struct device_list {
    size_t n;
    char names[32][100];
    double similarity[32];
    const char *own, *own_class;
};

static int list_device(void *ctx, const char *key, const json_t *doc)
{
    struct device_list *l = ctx;

    if (l->n == ARRAY_LEN(l->names))
        return 1;
    str_copy(l->names[l->n], sizeof(l->names[0]), key);
    if (strcmp(key, l->own) == 0)
        l->similarity[l->n] = 1;
    else
        l->similarity[l->n] = strcmp(jsonx_str(doc, "class", ""), l->own_class) == 0 ? 0.8 : 0.5;
    l->n++;
    return 0;
}

static int nearer(const void *pa, const void *pb)
{
    const struct memory_source *a = pa, *b = pb;
    int c;

    if (a->similarity != b->similarity)
        return a->similarity > b->similarity ? -1 : 1;
    c = strcmp(a->task, b->task);
    return c ? c : strcmp(a->device, b->device);
}

/* Keeps the nearest MEMORY_SOURCES_MAX. */
static void offer_source(struct memory *m, const struct memory_source *s)
{
    if (m->n_sources < MEMORY_SOURCES_MAX)
        m->sources[m->n_sources++] = *s;
    else if (nearer(s, &m->sources[m->n_sources - 1]) < 0)
        m->sources[m->n_sources - 1] = *s;
    qsort(m->sources, m->n_sources, sizeof(m->sources[0]), nearer);
}

static int find_sources(struct kb *kb, const struct space *space, const struct device_list *devices,
                        const struct memory_relative *relatives, size_t n, struct memory *m,
                        struct err *err)
{
    for (size_t i = 0; i < n; i++)
        for (size_t d = 0; d < devices->n; d++) {
            struct memory_source s = { .similarity =
                                           relatives[i].similarity * devices->similarity[d] };
            struct records r;

            str_copy(s.task, sizeof(s.task), relatives[i].task);
            str_copy(s.device, sizeof(s.device), devices->names[d]);
            if (records_load(kb, space, s.task, s.device, m->as_of, &r, err) != 0)
                return -1;
            s.records = r.n;
            if (r.n_ok >= RECORDS_MIN)
                offer_source(m, &s);
            records_release(&r);
        }
    return 0;
}

/* ---- Adoption ---- */

static bool same_cell(const struct space *space, const uint16_t *a, const uint16_t *b)
{
    uint16_t ca[SPACE_PARAMS_MAX], cb[SPACE_PARAMS_MAX];

    space_cell(space, a, ca);
    space_cell(space, b, cb);
    return memcmp(ca, cb, space_n(space) * sizeof(*ca)) == 0;
}

static bool adopted_already(const struct memory *m, const struct space *space, const uint16_t *a)
{
    for (size_t i = 0; i < m->n_adoptions; i++)
        if (memcmp(m->adoptions[i].a, a, space_n(space) * sizeof(*a)) == 0)
            return true;
    return false;
}

/*
 * The best record of a source that is not adopted yet; `other_cell_than` (may be NULL) asks for
 * another structure. A stored number only ranks: what is adopted is measured again here. -1 when
 * there is none.
 */
static long best_record(const struct records *r, const struct memory *m,
                        const uint16_t *other_cell_than)
{
    size_t width = space_n(r->space);
    long best = -1;

    for (size_t i = 0; i < r->n; i++) {
        const uint16_t *a = r->a + i * width;

        if (r->objective_q[i] == INT64_MIN || adopted_already(m, r->space, a) ||
            (other_cell_than && same_cell(r->space, a, other_cell_than)))
            continue;
        if (best < 0 || r->objective_q[i] > r->objective_q[best])
            best = (long)i;
    }
    return best;
}

static void adopt(struct memory *m, const struct records *r, long i, size_t source)
{
    struct memory_adoption *ad = &m->adoptions[m->n_adoptions++];
    size_t width = space_n(r->space);

    memcpy(ad->a, r->a + (size_t)i * width, width * sizeof(*ad->a));
    ad->source = source;
    ad->objective_q = r->objective_q[i];
    ad->evaluation = r->ids[i];
}

/* The best of each source, nearest first; then, if there is room, the nearest's best of another
 * structure. */
static int choose_adoptions(struct kb *kb, const struct space *space, size_t want,
                            double least_similarity, struct memory *m, struct err *err)
{
    for (int pass = 0; pass < 2; pass++)
        for (size_t s = 0; s < m->n_sources && m->n_adoptions < want; s++) {
            struct records r;
            long best;

            if (m->sources[s].similarity < least_similarity)
                return 0;
            if (records_load(kb, space, m->sources[s].task, m->sources[s].device, m->as_of, &r,
                             err) != 0)
                return -1;
            best = best_record(&r, m, pass ? m->adoptions[0].a : NULL);
            if (best >= 0 &&
                (pass == 0 || r.objective_q[best] > m->adoptions[0].objective_q - NEAR_BEST_Q))
                adopt(m, &r, best, s);
            records_release(&r);
            if (pass == 1)
                return 0;
        }
    return 0;
}

/* ---- Insights ---- */

struct insight_scan {
    struct memory *m;
    const struct space *space;
    const char *family, *device_class;
};

/* Does the first adopted assignment follow the claim? */
static bool adoption_follows(const struct insight_scan *scan, const struct claim *c)
{
    const uint16_t *a = scan->m->adoptions[0].a;
    int p = space_find(scan->space, c->param);

    return p >= 0 &&
           strcmp(space_param(scan->space, (size_t)p)->values[a[p]].text, c->with_value) == 0;
}

static int better_insight(const void *pa, const void *pb)
{
    const struct memory_insight *a = pa, *b = pb;

    if (a->mean != b->mean)
        return a->mean > b->mean ? -1 : 1;
    return strcmp(a->id.hex, b->id.hex);
}

static int scan_insight(void *ctx, const struct insight *in)
{
    struct insight_scan *scan = ctx;
    struct memory *m = scan->m;
    struct insight_effect e;
    struct memory_insight mi;

    if (in->state != INSIGHT_ACTIVE || in->seq > m->as_of ||
        strcmp(in->claim.family, scan->family) != 0 || !adoption_follows(scan, &in->claim))
        return 0;
    e = insight_posterior(in, scan->device_class, NULL, NULL);
    if (e.n == 0 || e.mean <= 0)
        return 0;
    mi = (struct memory_insight){ in->id, m->sources[m->adoptions[0].source].similarity, e.mean };
    if (m->n_insights < MEMORY_INSIGHTS_MAX)
        m->insights[m->n_insights++] = mi;
    else if (better_insight(&mi, &m->insights[m->n_insights - 1]) < 0)
        m->insights[m->n_insights - 1] = mi;
    qsort(m->insights, m->n_insights, sizeof(mi), better_insight);
    return 0;
}

int memory_recall(struct kb *kb, const struct space *space, const char *family, const char *device,
                  const char *device_class, const struct memory_relative *relatives, size_t n,
                  size_t adopt_max, double adopt_least, struct memory *out, struct err *err)
{
    struct device_list devices = { .own = device, .own_class = device_class };
    struct memory *m = xcalloc(1, sizeof(*m));
    int rc = -1;

    m->as_of = kb_last_seq(kb);
    if (kb_each_doc(kb, KB_DEVICE, list_device, &devices, err) == 0 &&
        find_sources(kb, space, &devices, relatives, n, m, err) == 0 &&
        choose_adoptions(kb, space, MIN(adopt_max, (size_t)MEMORY_ADOPT_MAX), adopt_least, m,
                         err) == 0) {
        struct insight_scan scan = { m, space, family, device_class };

        if (m->n_adoptions > 0)
            kb_each_insight(kb, scan_insight, &scan);
        *out = *m;
        rc = 0;
    }
    free(m);
    return rc;
}

int memory_feed(struct kb *kb, const struct space *space, const struct memory_source *source,
                uint64_t as_of, struct engine *engine, struct err *err)
{
    CLEANUP(freep) char *name = str_printf("%s@%s", source->task, source->device);
    struct records r;
    int rc = records_load(kb, space, source->task, source->device, as_of, &r, err);

    if (rc == 0 && r.n_ok > 0)
        rc = engine_add_source(engine, name, source->similarity, r.n, r.a, r.log_time, err);
    records_release(&r);
    return rc;
}

/* ---- The event's form ---- */

json_t *memory_to_json(const struct memory *m, const struct space *space)
{
    json_t *sources = json_array(), *adoptions = json_array(), *insights = json_array();

    for (size_t i = 0; i < m->n_sources; i++) {
        const struct memory_source *s = &m->sources[i];

        json_array_append_new(sources, json_pack("{s:s, s:s, s:f, s:I}", "task", s->task, "device",
                                                 s->device, "similarity", s->similarity, "records",
                                                 (json_int_t)s->records));
    }
    for (size_t i = 0; i < m->n_adoptions; i++) {
        const struct memory_adoption *a = &m->adoptions[i];

        json_array_append_new(
            adoptions, json_pack("{s:o, s:I, s:I, s:s}", "assignment", space_to_json(space, a->a),
                                 "source", (json_int_t)a->source, "objective_q",
                                 (json_int_t)a->objective_q, "evaluation", a->evaluation.hex));
    }
    for (size_t i = 0; i < m->n_insights; i++)
        json_array_append_new(
            insights, json_pack("{s:s, s:f, s:f}", "insight", m->insights[i].id.hex, "similarity",
                                m->insights[i].similarity, "mean", m->insights[i].mean));
    return json_pack("{s:I, s:o, s:o, s:o}", "as_of", (json_int_t)m->as_of, "sources", sources,
                     "adoptions", adoptions, "insights", insights);
}

static int bad_memory(struct err *err, const char *what)
{
    return err_set(err, ERR_CORRUPT, "the stored memory of a search has a bad %s", what);
}

int memory_from_json(const json_t *j, const struct space *space, struct memory *out,
                     struct err *err)
{
    const json_t *sources = json_object_get(j, "sources"), *v;
    const json_t *adoptions = json_object_get(j, "adoptions");
    const json_t *insights = json_object_get(j, "insights");
    size_t i;

    if (json_array_size(sources) > MEMORY_SOURCES_MAX ||
        json_array_size(adoptions) > MEMORY_ADOPT_MAX ||
        json_array_size(insights) > MEMORY_INSIGHTS_MAX)
        return bad_memory(err, "length");
    memset(out, 0, sizeof(*out));
    out->as_of = (uint64_t)jsonx_int(j, "as_of", 0);
    json_array_foreach (sources, i, v) {
        struct memory_source *s = &out->sources[out->n_sources++];

        if (!str_copy(s->task, sizeof(s->task), jsonx_str(v, "task", "")) ||
            !str_copy(s->device, sizeof(s->device), jsonx_str(v, "device", "")) || !s->task[0])
            return bad_memory(err, "source");
        s->similarity = jsonx_num(v, "similarity", 0);
        s->records = (uint64_t)jsonx_int(v, "records", 0);
    }
    json_array_foreach (adoptions, i, v) {
        struct memory_adoption *a = &out->adoptions[out->n_adoptions++];

        a->source = (size_t)jsonx_int(v, "source", 0);
        a->objective_q = jsonx_int(v, "objective_q", 0);
        if (a->source >= out->n_sources ||
            !str_copy(a->evaluation.hex, sizeof(a->evaluation.hex), jsonx_str(v, "evaluation", "")))
            return bad_memory(err, "adoption");
        if (space_from_json(space, json_object_get(v, "assignment"), a->a, err) != 0)
            return err_ctx(err, "stored adoption");
    }
    json_array_foreach (insights, i, v) {
        struct memory_insight *in = &out->insights[out->n_insights++];

        if (!str_copy(in->id.hex, sizeof(in->id.hex), jsonx_str(v, "insight", "")))
            return bad_memory(err, "insight");
        in->similarity = jsonx_num(v, "similarity", 0);
        in->mean = jsonx_num(v, "mean", 0);
    }
    return 0;
}

json_t *memory_seeds(const struct memory *m, const struct space *space)
{
    json_t *seeds = json_array();

    for (size_t i = 0; i < m->n_adoptions; i++) {
        const struct memory_adoption *a = &m->adoptions[i];
        const struct memory_source *s = &m->sources[a->source];
        CLEANUP(freep) char *from = str_printf("%s@%s", s->task, s->device);

        json_array_append_new(seeds,
                              json_pack("{s:s, s:s, s:f, s:o, s:f}", "program", a->evaluation.hex,
                                        "from", from, "similarity", s->similarity, "assignment",
                                        space_to_json(space, a->a), "objective_there",
                                        exp(1e-6 * (double)a->objective_q)));
    }
    for (size_t i = 0; i < m->n_sources; i++) {
        const struct memory_source *s = &m->sources[i];
        CLEANUP(freep) char *from = str_printf("%s@%s", s->task, s->device);

        json_array_append_new(seeds, json_pack("{s:s, s:s, s:f, s:I}", "plan", "prior", "from",
                                               from, "similarity", s->similarity, "records",
                                               (json_int_t)s->records));
    }
    for (size_t i = 0; i < m->n_insights; i++)
        json_array_append_new(seeds, json_pack("{s:s, s:s, s:f, s:f}", "insight",
                                               m->insights[i].id.hex, "from", m->sources[0].task,
                                               "similarity", m->insights[i].similarity, "effect",
                                               exp(m->insights[i].mean)));
    return seeds;
}
