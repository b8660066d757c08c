/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The daemon as one struct: what main.c opens, in order, and what handlers reach through
 * rpc_daemon. Thread: the loop owns it; kb, clock and conf are also read by workers (they do not
 * change between start and stop), and packs through packs_take.
 */
#ifndef KS_DAEMON_DAEMON_H
#define KS_DAEMON_DAEMON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/list.h"

struct conf;
struct devices;
struct embedder;
struct evaluator;
struct history;
struct kb;
struct llms;
struct loop;
struct packs;
struct retunes;
struct rpc_server;
struct searches;
struct turns;
struct upkeep;
struct work_pool;

struct daemon {
    const struct clock *clock;
    uint64_t started_ns; /* monotonic */
    bool stopping;       /* SIGTERM was seen: no new work */
    struct conf *conf;
    struct loop *loop;
    struct work_pool *work;
    struct kb *kb;
    /* Task packs. An import swaps the set; workers take a reference (packs_take). */
    struct packs *packs;
    struct evaluator *evaluator;
    /*
     * Who may use this machine's processor, a device or another thing that measures: while one has
     * the turn of "cpu", no other search, probe, eval.run or index upkeep begins.
     */
    struct turns *turns;
    struct devices *devices;
    struct list evals; /* calls of eval.run and task.check that wait for their turn or run */
    struct upkeep *upkeep;
    struct embedder *embedder; /* NULL with the built-in embedding */
    struct prompts *prompts;   /* what models are asked with */
    struct llms *llms;         /* language models that searches ask */
    struct history *history;   /* what all searches add up to */
    struct searches *searches;
    struct retunes *retunes;
    struct rpc_server *rpc;
};

/*
 * Opens everything in order, the socket last; on failure nothing is left open. `conf` and `clock`
 * are borrowed. ERR_CONFLICT when a live daemon has the data folder or the socket; else what the
 * parts say.
 */
int daemon_open(struct daemon *d, struct conf *conf, const struct clock *clock, struct err *err);
/* The beginning of the end: no new connections, no changes; calls in flight go on. */
void daemon_stop(struct daemon *d);
/* The folder of imported packs, `tasks` in the data folder. Owned. Thread: any. */
char *daemon_pack_home(const struct daemon *d);
/* Calls that are not answered yet. */
size_t daemon_calls(const struct daemon *d);
/* Answers what is open with ERR_CANCELLED, closes everything; half-open is fine. */
void daemon_close(struct daemon *d);

/* Opens the searches' module and resumes those that were unfinished; runs before the socket
 * accepts. Thread: loop. */
int searches_open(struct daemon *d, struct searches **out, struct err *err);
/*
 * Stops stepping and cancels what is in flight; events are durable already. The work pool,
 * evaluator and kb are still open. NULL is fine. Thread: loop.
 */
void searches_close(struct searches *s);
/* The rest: after the work pool, whose workers may still read searches. NULL is fine. */
void searches_free(struct searches *s);
/* {"running": n, "queued": n, ...}: one count per state that occurs. Owned. Thread: loop. */
json_t *searches_status(const struct searches *s);
/* How many have ended since the daemon's start. Thread: loop. */
uint64_t searches_ended(const struct searches *s);
/* Is none under way or paused? Thread: loop. */
bool searches_idle(const struct searches *s);

/*
 * Calls done(arg, device, err) on the loop, never from inside: `device` is the record of
 * docs/design.md section 5 (borrowed for the call; NULL on failure, err set). A device that is
 * unknown is ERR_NOT_FOUND, except that "cpu" is probed on first need (seconds; callers that ask
 * meanwhile share the one probe). Thread: loop.
 */
void device_ensure(struct daemon *d, const char *name,
                   void (*done)(void *arg, const json_t *device, const struct err *err), void *arg);

#endif
