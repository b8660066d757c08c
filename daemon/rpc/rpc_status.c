/* SPDX-License-Identifier: Apache-2.0 */
/* hello and status. */
#include <stdio.h>
#include <unistd.h>

#include "conf.h"
#include "daemon.h"
#include "embedder.h"
#include "eval/launcher.h"
#include "eval/pack.h"
#include "kb.h"
#include "llms.h"
#include "loop.h"
#include "proto/methods.h"
#include "proto/version.h"
#include "rpc/answer.h"
#include "rpc/conn.h"
#include "rpc/rpc.h"

struct hello_params {
    uint64_t version;
    char *client;
};

static const struct param hello_rows[] = {
    { "version", PARAM_U64, offsetof(struct hello_params, version), PARAM_REQUIRED,
      "protocol version that the client speaks", 0, 0, NULL, 0 },
    { "client", PARAM_STR, offsetof(struct hello_params, client), 0,
      "program and version, for the log", 0, 200, NULL, 0 },
    { 0 },
};

static void hello(struct rpc_call *call, void *params)
{
    const struct hello_params *p = params;
    struct err err;

    if (p->version != PROTO_VERSION) {
        err_set(&err, ERR_CONFLICT,
                "the client speaks protocol version %llu; this daemon (%s) speaks %d",
                (unsigned long long)p->version, KS_VERSION, PROTO_VERSION);
        rpc_fail(call, &err);
        return;
    }
    rpc_call_greet(call);
    rpc_reply(call, json_pack("{s:i, s:s, s:s}", "version", PROTO_VERSION, "program", "ksearchd",
                              "release", KS_VERSION));
}

static json_int_t resident_bytes(void)
{
    unsigned long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    if (f == NULL)
        return 0;
    if (fscanf(f, "%*u %lu", &pages) != 1)
        pages = 0;
    fclose(f);
    return (json_int_t)pages * sysconf(_SC_PAGESIZE);
}

static json_t *packs_status(const struct packs *packs)
{
    json_t *problems = json_array();

    for (size_t i = 0; i < packs_count(packs); i++) {
        const struct pack *p = packs_get(packs, i);

        for (size_t k = 0; k < p->n_problems; k++)
            json_array_append_new(problems, json_sprintf("%s: %s", p->dir, p->problems[k]));
    }
    return json_pack("{s:I, s:o}", "n", (json_int_t)packs_count(packs), "problems", problems);
}

static json_t *evaluator_status(const struct evaluator *ev)
{
    size_t waiting, running;

    evaluator_load(ev, &waiting, &running);
    return json_pack("{s:I, s:I}", "waiting", (json_int_t)waiting, "running", (json_int_t)running);
}

static json_t *rpc_status(const struct rpc_server *server)
{
    struct rpc_server_stats s = rpc_server_stats(server);

    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "connections",
                     (json_int_t)s.connections, "accepted", (json_int_t)s.accepted, "refused",
                     (json_int_t)s.refused, "calls", (json_int_t)s.calls, "errors",
                     (json_int_t)s.errors, "in_flight", (json_int_t)s.in_flight, "streams",
                     (json_int_t)s.streams, "dropped_streams", (json_int_t)s.dropped_streams);
}

/* The base may be busy with a commit: its part is read on a worker. */
static int status_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct kb_stats stats;

    (void)params;
    if (kb_get_stats(d->kb, &stats, err) != 0)
        return -1;
    *result = json_pack("{s:o}", "kb", answer_stats(&stats));
    return 0;
}

static void status_then(struct daemon *d, void *params, json_t *result)
{
    uint64_t up = d->clock->mono_ns(d->clock) - d->started_ns;

    (void)params;
    json_object_set_new(result, "version", json_string(KS_VERSION));
    json_object_set_new(result, "pid", json_integer(getpid()));
    json_object_set_new(result, "uptime_s", json_integer((json_int_t)(up / NS_PER_SEC)));
    json_object_set_new(result, "data", json_string(d->conf->data));
    json_object_set_new(result, "socket", json_string(d->conf->socket));
    json_object_set_new(result, "searches", searches_status(d->searches));
    json_object_set_new(result, "packs", packs_status(d->packs));
    if (d->evaluator != NULL) /* NULL, as the models, while the daemon stops */
        json_object_set_new(result, "evaluator", evaluator_status(d->evaluator));
    json_object_set_new(result, "embedding", embedder_status(d->embedder));
    if (d->llms != NULL)
        json_object_set_new(result, "llm", llms_status(d->llms));
    json_object_set_new(result, "rpc", rpc_status(d->rpc));
    json_object_set_new(result, "rss_bytes", json_integer(resident_bytes()));
    json_object_set_new(result, "slow_callbacks", json_integer((json_int_t)loop_slow_callbacks()));
    json_object_set_new(result, "longest_callback_ms", json_real((double)loop_longest_ns() / 1e6));
}

static void status(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run_then(call, status_run, status_then);
}

const struct rpc_method rpc_status_methods[] = {
    { METHOD_HELLO, hello_rows, sizeof(struct hello_params), RPC_ANY_STATE, hello,
      "First on every connection: agree on the protocol. Another version is a CONFLICT.",
      "{version, program, release}", NULL },
    { METHOD_STATUS, NULL, 0, 0, status, "What the daemon is doing.",
      "{version, pid, uptime_s, data, socket, kb{as kb.stats}, searches{state: n}, packs{n, "
      "problems[]}, "
      "evaluator{waiting, running}, embedding{provider, model, active, embedded, total, "
      "failure}, llm{as llm.status}, rpc{connections, calls, ...}, rss_bytes, "
      "slow_callbacks, longest_callback_ms}",
      NULL },
    { 0 },
};
