/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Retrieval alone, in one process: builds a base of synthetic insights with distinct claims, asks
 * distinct questions with filters, without any cache of answers, and prints one figure a line:
 * name, value, unit, samples, spread (half the distance between the quartiles, in the same unit).
 *   query_bench [--insights 100000] [--queries 2000] [--threads 8] [--parts 1000]
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "kb.h"
#include "retrieve.h"
#include "retrieve_impl.h"
#include "synthetic.h"

struct base {
    struct insight *v;
    uint32_t n;
};

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "query_bench: %s: %s\n", what, err != NULL ? err->msg : "failed");
    exit(1);
}

static void make_insight(struct rng *r, uint32_t i, struct insight *in)
{
    *in = (struct insight){ .ordinal = i, .seq = i + 1, .recorded_at_ns = i + 1 };
    synthetic_id(r, &in->id);
    synthetic_claim(r, i, &in->claim);
    in->condition = xstrdup("");
}

static void add_evidence(struct retrieve *r, struct rng *rng, struct insight *in)
{
    struct err err;
    size_t n = synthetic_evidence_count(rng);

    in->evidence = xcalloc(MAX(n, (size_t)1), sizeof(*in->evidence));
    for (size_t i = 0; i < n; i++) {
        struct evidence ev;

        synthetic_evidence(rng, &in->id, &ev);
        synthetic_id(rng, &in->evidence[i]);
        in->all.blind++;
        in->all.effect_q += ev.effect_q;
        in->all.effect_sq_q += (uint64_t)((ev.effect_q / 1000) * (ev.effect_q / 1000));
        if (retrieve_add_evidence(r, &in->evidence[i], &ev, in->recorded_at_ns, &err) != 0)
            die("evidence", &err);
    }
    in->n_evidence = n;
}

static double now_s(void)
{
    return (double)clock_system()->mono_ns(clock_system()) / 1e9;
}

/* Of this thread: what a query costs when the machine is busy with other things. */
static double cpu_s(void)
{
    struct timespec t;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

struct asker {
    const struct retrieve *r;
    pthread_rwlock_t *lock;
    const struct synthetic_question *questions;
    size_t n;
    atomic_size_t *next;
    double *us, *cpu_us;
    atomic_size_t *hits;
};

static void *ask(void *arg)
{
    const struct asker *a = arg;
    size_t i;

    while ((i = atomic_fetch_add(a->next, 1)) < a->n) {
        double began = now_s(), cpu = cpu_s();
        struct buf text = { .max = RETRIEVE_ANSWER_MAX };
        struct err err;
        json_t *out;

        pthread_rwlock_rdlock(a->lock);
        if (retrieve_query_text(a->r, &a->questions[i].q, &text, &err) != 0)
            die("query", &err);
        pthread_rwlock_unlock(a->lock);
        a->us[i] = (now_s() - began) * 1e6;
        a->cpu_us[i] = (cpu_s() - cpu) * 1e6;
        if (jsonx_parse(buf_str(&text), text.len, "the answer", &out, &err) != 0)
            die("answer", &err);
        atomic_fetch_add(a->hits, json_array_size(json_object_get(out, "hits")));
        json_decref(out);
        buf_release(&text);
    }
    return NULL;
}

static void run_askers(const struct retrieve *r, const struct synthetic_question *questions,
                       size_t n, size_t threads)
{
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    atomic_size_t next = 0, hits = 0;
    double *us = xcalloc(n, sizeof(*us)), *cpu_us = xcalloc(n, sizeof(*us)), began = now_s();
    struct asker a = { r, &lock, questions, n, &next, us, cpu_us, &hits };
    pthread_t *t = xcalloc(threads, sizeof(*t));
    char name[64];
    double took;

    for (size_t i = 0; i < threads; i++)
        pthread_create(&t[i], NULL, ask, &a);
    for (size_t i = 0; i < threads; i++)
        pthread_join(t[i], NULL);
    took = now_s() - began;
    snprintf(name, sizeof(name), "query_%zu_threads", threads);
    synthetic_times(name, us, n);
    snprintf(name, sizeof(name), "query_%zu_threads_cpu", threads);
    synthetic_times(name, cpu_us, n);
    snprintf(name, sizeof(name), "query_%zu_threads_throughput", threads);
    synthetic_figure(name, (double)n / took, "1/s", n, 0);
    snprintf(name, sizeof(name), "query_%zu_threads_hits", threads);
    synthetic_figure(name, (double)hits / (double)n, "hits", n, 0);
    free(us);
    free(cpu_us);
    free(t);
}

/* Share of the true ten nearest that the search with lists finds; its processor time into *us. */
static double recall_of(const struct retrieve *r, const struct embedding *e,
                        const uint64_t *allowed, double *us)
{
    struct vindex_hit near[100], truth[10];
    size_t n_near, n_truth, found = 0;
    double began = cpu_s();
    struct err err;

    if (vindex_search(r->vectors, e, 100, allowed, false, near, &n_near, &err) != 0)
        die("search", &err);
    *us = (cpu_s() - began) * 1e6;
    if (vindex_search(r->vectors, e, 10, allowed, true, truth, &n_truth, &err) != 0)
        die("exact search", &err);
    for (size_t k = 0; k < n_truth; k++)
        for (size_t j = 0; j < MIN(n_near, n_truth); j++)
            found += truth[k].number == near[j].number;
    return n_truth > 0 ? (double)found / (double)n_truth : 1;
}

static void print_recall(const char *name, double *recall, double *us, size_t n)
{
    char line[64];
    double sum = 0;

    for (size_t i = 0; i < n; i++)
        sum += recall[i];
    qsort(recall, n, sizeof(*recall), synthetic_compare);
    snprintf(line, sizeof(line), "%s_recall_at_10", name);
    synthetic_figure(line, sum / (double)n, "share", n,
                     (synthetic_quantile(recall, n, 0.75) - synthetic_quantile(recall, n, 0.25)) /
                         2);
    snprintf(line, sizeof(line), "%s_cpu", name);
    synthetic_times(line, us, n);
}

/* Vector search by itself, without and with each question's filters. */
static void run_vectors(const struct retrieve *r, const struct synthetic_question *questions,
                        size_t n)
{
    struct text *text = text_new();
    size_t words = ((size_t)r->n_docs + 63) / 64;
    struct filter f = { .pass = xcalloc(words, 8), .one = xcalloc(words, 8) };
    double *recall[2], *us[2];
    struct err err;

    for (size_t k = 0; k < 2; k++) {
        recall[k] = xcalloc(n, sizeof(double));
        us[k] = xcalloc(n, sizeof(double));
    }
    for (size_t i = 0; i < n; i++) {
        const struct kb_query *q = &questions[i].q;
        struct embed_context ctx = { .technique = q->technique, .family = q->family };
        json_auto_t *removed = json_object();
        struct embedding e;

        embed_text(text, q->text, strlen(q->text), &ctx, &e);
        if (filter_apply(r, q, &f, removed, &err) != 0)
            die("filter", &err);
        recall[0][i] = recall_of(r, &e, NULL, &us[0][i]);
        recall[1][i] = recall_of(r, &e, f.pass, &us[1][i]);
    }
    print_recall("vector", recall[0], us[0], n);
    print_recall("vector_filtered", recall[1], us[1], n);
    for (size_t k = 0; k < 2; k++) {
        free(recall[k]);
        free(us[k]);
    }
    free(f.pass);
    free(f.one);
    text_free(text);
}

/* Embedding and lexical search by themselves, in processor time. */
static void run_texts(const struct retrieve *r, const struct synthetic_question *questions,
                      size_t n)
{
    struct text *text = text_new();
    struct lexical_scratch *scratch = lexical_scratch_new();
    double *embed_us = xcalloc(n, sizeof(double)), *lexical_us = xcalloc(n, sizeof(double));

    for (size_t i = 0; i < n; i++) {
        const struct kb_query *q = &questions[i].q;
        struct lexical_hit hits[100];
        struct embedding e;
        struct text_scan sc;
        struct text_token tok;
        uint64_t terms[64];
        size_t n_terms = 0, n_hits;
        double began = cpu_s();

        embed_text(text, q->text, strlen(q->text), NULL, &e);
        embed_us[i] = (cpu_s() - began) * 1e6;
        text_scan_init(&sc, text, q->text, strlen(q->text));
        while (n_terms < 64 && text_next(&sc, &tok))
            if (!tok.is_stop)
                terms[n_terms++] = tok.hash;
        began = cpu_s();
        lexical_search(r->lexical, scratch, terms, n_terms, NULL, 100, hits, &n_hits);
        lexical_us[i] = (cpu_s() - began) * 1e6;
    }
    synthetic_times("embed_cpu", embed_us, n);
    synthetic_times("lexical_cpu", lexical_us, n);
    free(embed_us);
    free(lexical_us);
    text_free(text);
    lexical_scratch_free(scratch);
}

static const struct insight *insight_at(void *ctx, uint32_t ordinal)
{
    return &((struct base *)ctx)->v[ordinal];
}

static void print_notice(void *ctx, const char *sentence)
{
    (void)ctx;
    fprintf(stderr, "query_bench: %s\n", sentence);
}

static struct retrieve *open_base(struct base *b, const char *dir, bool fresh, struct rng *rng)
{
    struct retrieve_options o = {
        .dir = dir, .insight = insight_at, .insight_ctx = b, .notice = fresh ? NULL : print_notice
    };
    struct retrieve *r;
    struct err err;

    if (retrieve_open(&o, &r, &err) != 0)
        die("open", &err);
    for (uint32_t i = 0; i < b->n; i++) {
        if (fresh)
            add_evidence(r, rng, &b->v[i]);
        if (retrieve_add(r, &b->v[i], &err) != 0)
            die("add", &err);
    }
    if (retrieve_finish_load(r, b->n, &err) != 0)
        die("finish", &err);
    return r;
}

static void build(struct base *b, const char *dir, struct rng *rng, struct retrieve **out)
{
    pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
    double began, took;
    struct err err;

    for (uint32_t i = 0; i < b->n; i++)
        make_insight(rng, i, &b->v[i]);
    began = now_s();
    *out = open_base(b, dir, true, rng);
    took = now_s() - began;
    synthetic_figure("build", took, "s", b->n, 0);
    synthetic_figure("build_rate", b->n / took, "insights/s", b->n, 0);
    began = now_s();
    if (retrieve_maintain(*out, &lock, &err) != 0)
        die("maintain", &err);
    synthetic_figure("train", now_s() - began, "s", b->n, 0);
    began = now_s();
    if (retrieve_snapshot(*out, b->n, &err) != 0)
        die("snapshot", &err);
    synthetic_figure("snapshot", now_s() - began, "s", b->n, 0);
}

static void reopen(struct base *b, const char *dir)
{
    double began = now_s();
    struct retrieve *r = open_base(b, dir, false, NULL);

    synthetic_figure("reopen_from_snapshot", now_s() - began, "s", b->n, 0);
    retrieve_close(r);
}

static uint64_t number_option(int argc, char **argv, const char *name, uint64_t fallback)
{
    uint64_t v = fallback;

    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0 && (!str_to_u64(argv[i + 1], &v) || v == 0))
            die(name, NULL);
    return v;
}

int main(int argc, char **argv)
{
    char dir[] = "/tmp/ks-query-bench-XXXXXX";
    struct base b = { .n = (uint32_t)number_option(argc, argv, "--insights", 100000) };
    size_t n = number_option(argc, argv, "--queries", 2000);
    struct rng rng = rng_seeded(7);
    struct synthetic_question *questions = xcalloc(n, sizeof(*questions));
    struct retrieve *r;
    struct err err;

    if (mkdtemp(dir) == NULL || vocab_init(&err) != 0)
        die("set-up", NULL);
    b.v = xcalloc(b.n, sizeof(*b.v));
    build(&b, dir, &rng, &r);
    for (size_t i = 0; i < n; i++)
        synthetic_question(&rng, &questions[i]);
    run_texts(r, questions, n);
    run_vectors(r, questions, MIN(n, number_option(argc, argv, "--parts", 1000)));
    run_askers(r, questions, n, 1);
    run_askers(r, questions, n, number_option(argc, argv, "--threads", 8));
    retrieve_close(r);
    reopen(&b, dir);
    for (uint32_t i = 0; i < b.n; i++) {
        b.v[i].n_cells = 0;
        insight_release(&b.v[i]);
    }
    free(b.v);
    free(questions);
    if (file_rmtree(dir, &err) != 0)
        die("clean-up", &err);
    return 0;
}
