/* SPDX-License-Identifier: Apache-2.0 */
/* Recall for a warm start; see memory.h. */
#include "search/memory.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/adoption.h"
#include "search/records.h"

enum { RECORDS_MIN = 4 }; /* fewer successes say too little to be a source */

/* ---- Sources ---- */

struct device_list {
    size_t n;
    char names[32][100];
    double similarity[32];
    const char *own, *own_class;
};

static double similarity_of(const json_t *device, const char *own_class)
{
    return strcmp(jsonx_str(device, "class", ""), own_class) == 0 ? 0.8 : 0.5;
}

static int list_device(void *ctx, const char *key, const json_t *doc)
{
    struct device_list *l = ctx;

    if (l->n == ARRAY_LEN(l->names))
        return 1;
    str_copy(l->names[l->n], sizeof(l->names[0]), key);
    l->similarity[l->n] = strcmp(key, l->own) == 0 ? 1 : similarity_of(doc, l->own_class);
    l->n++;
    return 0;
}

int memory_device_similarity(struct kb *kb, const char *own, const char *own_class,
                             const char *device, double *out, struct err *err)
{
    json_t *doc;

    if (strcmp(own, device) == 0) {
        *out = 1;
        return 0;
    }
    if (kb_get_doc(kb, KB_DEVICE, device, &doc, err) != 0) {
        *out = 0.5;
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    }
    *out = similarity_of(doc, own_class);
    json_decref(doc);
    return 0;
}

size_t memory_relatives(const json_t *j, struct memory_relative *out, size_t max)
{
    const json_t *v;
    size_t i, n = 0;

    json_array_foreach (j, i, v)
        if (n < max)
            out[n++] =
                (struct memory_relative){ jsonx_str(v, "task", ""), jsonx_num(v, "similarity", 0) };
    return n;
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
            if (records_load(kb, space, s.task, s.device, m->as_of, &r, err) != 0) {
                records_release(&r);
                return -1;
            }
            s.records = r.n;
            s.similarity *= r.shared;
            s.has_level = records_level(&r, &s.best_q, &s.ordinary_q);
            if (r.n_ok >= RECORDS_MIN)
                offer_source(m, &s);
            records_release(&r);
        }
    return 0;
}

/* ---- Insights ---- */

struct insight_scan {
    const struct space *space;
    const char *family, *device_class;
    uint64_t as_of;
    const uint16_t *a;
    double similarity;
    struct memory_insight *out;
    size_t n, max;
};

/* Does the assignment follow the claim? */
static bool follows(const struct insight_scan *scan, const struct claim *c)
{
    int p = space_find(scan->space, c->param);

    return p >= 0 &&
           strcmp(space_param(scan->space, (size_t)p)->values[scan->a[p]].text, c->with_value) == 0;
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
    struct insight_effect e;
    struct memory_insight mi;

    if (in->state != INSIGHT_ACTIVE || in->seq > scan->as_of ||
        strcmp(in->claim.family, scan->family) != 0 || !follows(scan, &in->claim))
        return 0;
    e = insight_posterior(in, scan->device_class, NULL, NULL);
    if (e.n == 0 || e.mean <= 0)
        return 0;
    mi = (struct memory_insight){ in->id, scan->similarity, e.mean };
    if (scan->n < scan->max)
        scan->out[scan->n++] = mi;
    else if (better_insight(&mi, &scan->out[scan->n - 1]) < 0)
        scan->out[scan->n - 1] = mi;
    qsort(scan->out, scan->n, sizeof(mi), better_insight);
    return 0;
}

size_t memory_insights_for(struct kb *kb, const struct space *space, const char *family,
                           const char *device_class, uint64_t as_of, const uint16_t *a,
                           double similarity, struct memory_insight *out, size_t max)
{
    struct insight_scan scan = { space, family, device_class, as_of, a, similarity, out, 0, max };

    if (max > 0)
        kb_each_insight(kb, scan_insight, &scan);
    return scan.n;
}

/* ---- Recall ---- */

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
        adoption_choose(kb, space, adopt_max, adopt_least, m, err) == 0) {
        if (m->n_adoptions > 0)
            m->n_insights = memory_insights_for(
                kb, space, family, device_class, m->as_of, m->adoptions[0].a,
                m->sources[m->adoptions[0].source].similarity, m->insights, MEMORY_INSIGHTS_MAX);
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

        json_t *source = json_pack("{s:s, s:s, s:f, s:I}", "task", s->task, "device", s->device,
                                   "similarity", s->similarity, "records", (json_int_t)s->records);

        if (s->has_level) {
            json_object_set_new(source, "best_q", json_integer(s->best_q));
            json_object_set_new(source, "ordinary_q", json_integer(s->ordinary_q));
        }
        json_array_append_new(sources, source);
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
        s->has_level = json_object_get(v, "best_q") != NULL;
        s->best_q = jsonx_int(v, "best_q", 0);
        s->ordinary_q = jsonx_int(v, "ordinary_q", 0);
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
