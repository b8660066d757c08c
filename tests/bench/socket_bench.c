/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions over the socket: makes a base of synthetic insights with distinct claims, starts a
 * daemon on it, and asks distinct questions with filters through libksearch, first one client, then
 * several busy ones. No cache of answers anywhere. Prints one figure a line: name, value, unit,
 * samples, spread. socket_bench --bin DIR [--insights 100000] [--queries 2000] [--clients 8]
 * [--rounds 1] [--writers 2] [--data DIR]. With --data the base is kept in that folder, and used
 * when it is there.
 */
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "kb.h"
#include "ksearch.h"
#include "synthetic.h"
#include "vocab.h"

enum { BATCH = 1000, CLIENTS_MAX = 64, WRITERS_MAX = 8 };

extern char **environ;

static const char *const tasks[] = { "gqa_paged_decode_h32_kv4_d128_ps1",
                                     "gqa_paged_decode_h32_kv8_d128_ps1", "vector_add_l1",
                                     "vector_add_l4" };

struct options {
    const char *bin, *data;
    uint64_t insights, queries, clients, rounds, writers;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "socket_bench: %s: %s\n", what, why);
    exit(1);
}

static double now_s(void)
{
    return (double)clock_system()->mono_ns(clock_system()) / 1e9;
}

static struct options parse(int argc, char **argv)
{
    struct options o = { NULL, NULL, 100000, 2000, 8, 1, 2 };

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--bin") == 0)
            o.bin = argv[i + 1];
        else if (strcmp(argv[i], "--data") == 0)
            o.data = argv[i + 1];
        else if (!(strcmp(argv[i], "--insights") == 0 && str_to_u64(argv[i + 1], &o.insights)) &&
                 !(strcmp(argv[i], "--queries") == 0 && str_to_u64(argv[i + 1], &o.queries)) &&
                 !(strcmp(argv[i], "--rounds") == 0 && str_to_u64(argv[i + 1], &o.rounds)) &&
                 !(strcmp(argv[i], "--writers") == 0 && str_to_u64(argv[i + 1], &o.writers)) &&
                 !(strcmp(argv[i], "--clients") == 0 && str_to_u64(argv[i + 1], &o.clients)))
            die(argv[i], "is no option with such a value");
    }
    if (o.bin == NULL || o.queries == 0 || o.clients == 0 || o.clients > CLIENTS_MAX ||
        o.writers == 0 || o.writers > WRITERS_MAX)
        die("options", "--bin is needed; --clients is 1 to 64, --writers 1 to 8");
    return o;
}

/* ---- The base ---- */

static void put_devices(struct kb_batch *b)
{
    struct err err;

    for (size_t i = 0; i < SYNTHETIC_DEVICES; i++) {
        json_t *d = json_pack("{s:s, s:s, s:[s,s,s]}", "name", synthetic_device(i), "class",
                              synthetic_class(i), "features", "avx2", "fma", "avx512f");

        if (kb_batch_put_doc(b, KB_DEVICE, synthetic_device(i), d, &err) != 0)
            die("device", err.msg);
        json_decref(d);
    }
}

static void put_insight(struct kb_batch *b, struct rng *r, uint32_t i)
{
    struct claim c;
    struct id id;
    struct err err;

    synthetic_claim(r, i, &c);
    if (kb_batch_add_claim(b, &c, &id, &err) != 0)
        die("claim", err.msg);
    claim_release(&c);
    for (size_t n = synthetic_evidence_count(r); n > 0; n--) {
        struct evidence e;

        synthetic_evidence(r, &id, &e);
        if (kb_batch_add_evidence(b, &e, NULL, &err) != 0)
            die("evidence", err.msg);
    }
}

/* Writers share the numbers 0 .. insights - 1, a batch at a time; one builds while another commits.
 */
struct writer {
    struct kb *kb;
    atomic_uint_fast64_t *next;
    uint64_t insights, seed;
};

static void *write_batches(void *arg)
{
    const struct writer *w = arg;
    struct rng r = rng_derive(1, "insights", w->seed);
    uint64_t first;

    while ((first = atomic_fetch_add(w->next, BATCH)) < w->insights) {
        struct kb_batch *b = kb_batch_new(w->kb);
        struct err err;

        if (first == 0)
            put_devices(b);
        for (uint64_t i = first; i < MIN(first + BATCH, w->insights); i++)
            put_insight(b, &r, (uint32_t)i);
        if (kb_commit(b, &err) != 0)
            die("commit", err.msg);
        kb_batch_free(b);
    }
    return NULL;
}

static void build(const char *dir, const struct options *opt)
{
    struct kb_options o = { .dir = dir, .clock = clock_system(), .sync = true };
    atomic_uint_fast64_t next = 0;
    struct writer w[WRITERS_MAX];
    pthread_t t[WRITERS_MAX];
    struct err err;
    struct kb *kb;
    double began;

    if (vocab_init(&err) != 0 || kb_open(&o, &kb, &err) != 0)
        die("kb_open", err.msg);
    began = now_s();
    for (uint64_t i = 0; i < opt->writers; i++) {
        w[i] = (struct writer){ kb, &next, opt->insights, i };
        pthread_create(&t[i], NULL, write_batches, &w[i]);
    }
    for (uint64_t i = 0; i < opt->writers; i++)
        pthread_join(t[i], NULL);
    synthetic_figure("ingest", (double)opt->insights / (now_s() - began), "1/s", opt->insights, 0);
    while (kb_maintain_due(kb))
        if (kb_maintain(kb, &err) != 0)
            die("maintain", err.msg);
    kb_close(kb);
}

static pid_t start_daemon(const struct options *o, const char *data, const char *socket)
{
    CLEANUP(freep) char *program = str_printf("%s/ksearchd", o->bin);
    char *argv[] = { program, "--data", (char *)data, "--socket", (char *)socket, NULL };
    double began = now_s();
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", 1, 0);
    if (posix_spawn(&pid, program, &actions, NULL, argv, environ) != 0)
        die(program, "cannot be started");
    posix_spawn_file_actions_destroy(&actions);
    for (int i = 0; i < 6000; i++) {
        struct ks_error e;
        struct ks *c;

        if (ks_connect(socket, 1000, &c, &e) == 0) {
            ks_close(c);
            synthetic_figure("daemon_start", now_s() - began, "s", 1, 0);
            return pid;
        }
        usleep(10000);
    }
    die("daemon", "does not accept");
    return 0;
}

/* ---- Clients ---- */

struct client {
    const char *socket;
    uint64_t seed, queries;
    double *us;
    uint64_t hits;
};

static json_t *question_params(struct rng *r)
{
    struct synthetic_question q;
    json_t *p;

    synthetic_question(r, &q);
    p = json_pack("{s:s, s:i}", "text", q.text, "limit", 10);
    if (rng_below(r, 2))
        json_object_set_new(p, "task", json_string(tasks[rng_below(r, ARRAY_LEN(tasks))]));
    if (rng_below(r, 3) == 0)
        json_object_set_new(p, "device", json_string(synthetic_device(rng_below(r, 2))));
    if (q.q.technique)
        json_object_set_new(p, "technique", json_string(q.q.technique));
    return p;
}

static void *ask(void *arg)
{
    struct client *c = arg;
    struct rng r = rng_derive(2, "questions", c->seed);
    struct ks_error e;
    struct ks *conn;

    if (ks_connect(c->socket, 10000, &conn, &e) != 0)
        die("connect", e.message);
    for (uint64_t i = 0; i < c->queries; i++) {
        json_t *params = question_params(&r), *result;
        double began = now_s();

        if (ks_call(conn, "query", params, &result, &e) != 0)
            die("query", e.message);
        c->us[i] = (now_s() - began) * 1e6;
        c->hits += json_array_size(json_object_get(result, "hits"));
        json_decref(result);
        json_decref(params);
    }
    ks_close(conn);
    return NULL;
}

static void run_clients(const char *socket, uint64_t n, uint64_t queries)
{
    uint64_t each = queries / n, hits = 0;
    double *us = xcalloc(queries, sizeof(*us)), began = now_s(), took;
    struct client c[CLIENTS_MAX];
    pthread_t t[CLIENTS_MAX];
    char name[64];

    for (uint64_t i = 0; i < n; i++) {
        c[i] = (struct client){ socket, n * 1000 + i, each, us + i * each, 0 };
        pthread_create(&t[i], NULL, ask, &c[i]);
    }
    for (uint64_t i = 0; i < n; i++) {
        pthread_join(t[i], NULL);
        hits += c[i].hits;
    }
    took = now_s() - began;
    snprintf(name, sizeof(name), "socket_query_%llu_clients", (unsigned long long)n);
    synthetic_times(name, us, each * n);
    snprintf(name, sizeof(name), "socket_query_%llu_clients_throughput", (unsigned long long)n);
    synthetic_figure(name, (double)(each * n) / took, "1/s", each * n, 0);
    snprintf(name, sizeof(name), "socket_query_%llu_clients_hits", (unsigned long long)n);
    synthetic_figure(name, (double)hits / (double)(each * n), "hits", each * n, 0);
    free(us);
}

int main(int argc, char **argv)
{
    struct options o = parse(argc, argv);
    char dir[] = "/tmp/ks-socket-bench-XXXXXX";
    struct err ignored;
    pid_t pid;

    if (mkdtemp(dir) == NULL)
        die(dir, "cannot be made");
    CLEANUP(freep) char *data = o.data != NULL ? xstrdup(o.data) : str_printf("%s/data", dir);
    CLEANUP(freep) char *socket = str_printf("%s/s", dir);
    if (!file_is_dir(data))
        build(data, &o);
    pid = start_daemon(&o, data, socket);
    for (uint64_t i = 0; i < o.rounds; i++) {
        run_clients(socket, 1, o.queries);
        run_clients(socket, o.clients, o.queries);
    }
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    file_rmtree(dir, &ignored);
    return 0;
}
