/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One search as a fold over its stored events: world model, programs and their engines, trials,
 * lanes with their cycles and counters, calls to language models, champion. search_apply is the
 * only function that changes it, so a daemon that was killed reads the events again and is where it
 * was. Planning (planner.h, author.h) and recording (outcome.h) make events; nothing here decides.
 * Invariants: 1. trials are numbered 1.. without gaps; 2. at most one trial is open (planned, not
 * measured), the last; 3. the lane of an open trial is in a cycle; 4. the champion is a measured
 * trial with status ok.
 *
 *     queued -> running <-> paused
 *        |  \-> done | failed | cancelled
 *
 * A running search that its environment holds up is shown as waiting; `reason` says by what.
 *
 * Thread: one at a time; `lock` is held by whoever reads or changes a search that others can see.
 */
#ifndef KS_SEARCH_SEARCH_H
#define KS_SEARCH_SEARCH_H

#include <jansson.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "kb.h"
#include "search/calibration.h"
#include "search/calls.h"
#include "search/credit.h"
#include "search/drift.h"
#include "search/engine.h"
#include "search/gifts.h"
#include "search/holdout.h"
#include "search/lanes.h"
#include "search/learn.h"
#include "search/live.h"
#include "search/memory.h"
#include "search/programs.h"
#include "search/scorebook.h"
#include "search/select.h"
#include "search/space.h"
#include "search/stagnation.h"
#include "search/trial.h"
#include "search/world.h"

enum {
    SEARCH_ID_MAX = 32,
    SEARCH_TRIES_MAX =
        3, /* evaluations of one trial lost to the infrastructure before the search fails */
    SEARCH_EVALS_DEFAULT = 40,
    SEARCH_TEXTS_MAX = 8
};

enum search_state {
    SEARCH_QUEUED,
    SEARCH_RUNNING,
    SEARCH_PAUSED,
    SEARCH_DONE,
    SEARCH_FAILED,
    SEARCH_CANCELLED,
    SEARCH_STATE_COUNT
};
/* "queued" and so on; "?" for no state. */
const char *search_state_name(enum search_state s);
/* SEARCH_STATE_COUNT when there is none of this name. */
enum search_state search_state_from_name(const char *name);
/* Done, failed or cancelled: nothing will change any more. */
bool search_is_over(enum search_state s);
/* Does the drawing above have this move? */
bool search_state_may_become(enum search_state from, enum search_state to);

/* What the user asked for. Owned strings. */
struct search_spec {
    char id[SEARCH_ID_MAX];
    char *task, *device, *set;
    char *holdout; /* workload set that it never tunes on (holdout.h); NULL: none */
    char *proposer, *strategy;
    enum select_policy policy;
    bool cold;        /* reads nothing from memory */
    unsigned without; /* MEMORY_ parts that are switched off; no meaning in a cold search */
    uint64_t seed;
    uint64_t budget_evals;
    uint64_t budget_time_ns;   /* 0: none, as the next three, unless it was given (below) */
    uint64_t budget_tokens;    /* of language models, in and out together */
    uint64_t budget_usd_q;     /* millionths of a dollar */
    uint64_t budget_device_ns; /* building, checking and timing */
    uint32_t window;           /* K of both stagnation counters */
    uint32_t lanes;            /* frontier nodes in flight, 1..LANES_MAX */
    double stop_roofline;      /* ends when the best reaches this share of the roofline; 0: never */
    double stop_gain;          /* ends when no more than this log gain is expected; 0: never */
    unsigned budget_given;     /* bits 1 << SPEND_...: bounds that hold even where they are 0 */
};

/* What was true of task and device when the search began; stored with it. Owned strings. */
struct search_scope {
    char *family, *shape, *dtype, *language, *bottleneck;
    char *device_class, *toolchain;
    char *march;       /* what is compiled for, "" for a recorded task */
    json_t *features;  /* context features by name to number */
    json_t *relatives; /* [{task, similarity}]: near tasks, itself first */
    json_t *brief;     /* what a language model is told of task and device (brief.h); NULL */
    struct id program; /* number 0: the template, for a model the baseline */
    double read_gbs, fma_gflops; /* of the device, for the roofline; 0 when unknown */
};

/* Free the members and leave zeros. */
void search_spec_release(struct search_spec *spec);
void search_scope_release(struct search_scope *scope);

struct history;

struct search {
    struct search_spec spec;
    struct search_scope scope;
    uint64_t created_s;
    struct kb *kb; /* borrowed */
    /* What all searches add up to; borrowed. NULL: a warm start reads the base for itself. */
    struct history *history;
    struct space *space;             /* of program 0; owned */
    char *source;                    /* of program 0; owned; "" for a recorded task */
    bool recorded;                   /* evaluations are looked up: the program is a space alone */
    bool reading;                    /* loaded for reading only: no engines */
    const struct strategy *strategy; /* static */

    /* The fold. */
    uint64_t next_seq;
    enum search_state state;
    bool begun;   /* memory was asked, or it was settled that it is not */
    char *reason; /* of the last change of state, "" for none */
    struct world *world;
    struct engine
        *engine; /* of program 0; NULL when loaded for reading only, or without tunables */
    struct programs programs;
    struct calls calls;
    struct {
        char hash[65];
        uint64_t seq;          /* of its event */
    } texts[SEARCH_TEXTS_MAX]; /* the newest texts that prompts begin with */
    size_t n_texts;
    char *summary;         /* a model's, of the kernel; "" */
    json_t *questions;     /* a model's open ones, texts; owned */
    struct memory *memory; /* NULL while unseeded or cold */
    struct live live;      /* what other searches found since */
    struct gifts gifts;    /* whole programs and plans from memory, where a model writes */
    bool retreated;        /* memory lost: see trust.h */
    double due;            /* evaluations owed to the memory-free arm */
    size_t n_trials, cap_trials;
    struct trial **trials;
    uint64_t cycle; /* cycles so far */
    struct lane lanes[LANES_MAX];
    unsigned barren;        /* a model's answers in a row that brought no program and no edit */
    size_t champion;        /* trial number; 0 for none */
    int64_t champion_sum_q; /* of all its measurements: its own and those of its duels */
    int64_t champion_n;
    uint64_t wall_ns, device_ns;     /* spent, as the next two (spend.h) */
    uint64_t tokens;                 /* of language models, in and out together */
    int64_t usd_q;                   /* millionths of a dollar */
    uint64_t accounted_s;            /* `at` of the last event that added to wall_ns */
    unsigned noticed;                /* bits 1 << SPEND_...: said that little is left */
    struct scorebook scorebook;      /* scores of the nodes tried, and what came of them */
    struct drift drift;              /* of the baseline */
    struct calibration *calibration; /* of its predictions; owned */
    struct credit_offers offers;     /* insights that memory gave it */
    struct holdout holdout;          /* its champions on the hold-out set */

    /* Not part of the fold, but a function of it or of the knowledge base. */
    struct engine *memory_free; /* of the memory-free arm; NULL until it is asked */
    uint64_t looked_seq;        /* the knowledge base was looked through up to here */

    pthread_mutex_t lock;
    /* Of sched/searches, guarded by its lock: who reads this search just now, and whether the last
     * of them frees it. */
    unsigned readers;
    bool dropped;
    /* Not part of the fold: own time per evaluation, for status. */
    size_t n_overhead;
    uint64_t own_ns[1024], sync_ns[1024], launch_ns[1024];
};

/*
 * The document (KB_SEARCH) of a search that is about to begin, and the search of a document.
 * search_new reads the program (KB_PROGRAM) from the base. ERR_CORRUPT, ERR_NOT_FOUND. Thread:
 * worker, blocks.
 */
json_t *search_document(const struct search_spec *spec, const struct search_scope *scope,
                        uint64_t created_s);
int search_new(struct kb *kb, const json_t *document, bool reading_only, struct search **out,
               struct err *err);
/* search_new, then all its events. Thread: worker, blocks. */
int search_load(struct kb *kb, const char *id, bool reading_only, struct search **out,
                struct err *err);
void search_free(struct search *s); /* NULL is fine */

/* Folds one event in. ERR_CORRUPT when it does not fit the state; the search is then useless. */
int search_apply(struct search *s, const json_t *event, struct err *err);

/* Trial n (from 1); NULL when there is none. */
struct trial *search_trial(const struct search *s, uint64_t n);
/* The trial that was planned and not yet measured; NULL when there is none. */
struct trial *search_open_trial(const struct search *s);
uint64_t search_measured(const struct search *s);
/* The measured trial with status ok whose own measurement was of this object; NULL when there is
 * none. */
struct trial *search_trial_of_object(const struct search *s, const char *object);
/* The champion's objective, micro-log: the mean of its measurements. 0 without a champion. */
int64_t search_best_q(const struct search *s);
/* The MEMORY_ parts that this search may read: none when it is cold. */
unsigned search_memory_parts(const struct search *s);
/* Does a language model plan and write? */
bool search_has_model(const struct search *s);
/* The lane that a trial belongs to. */
struct lane *search_trial_lane(struct search *s, const struct trial *t);
/* Is a cycle open in any lane? */
bool search_in_cycle(const struct search *s);
/* Why nothing more will be planned: a budget is used up, an aim is reached. NULL while something is
 * left. */
const char *search_exhausted(const struct search *s);
/* What was told of a trial's measurement (eval/feedback.h), or of the one it shares; NULL when
 * nothing was kept. Owned. Thread: worker, blocks. */
json_t *search_feedback(const struct search *s, const struct trial *t);
/* Where the search would use an insight; borrows from the search. */
struct insight_place search_place(const struct search *s);
/* What learn.h wants to know of measurements of one program; borrows from the search. */
struct learn_scope search_learn_scope(const struct search *s, uint32_t program);
/*
 * The memory-free arm's own engine: cold, told what was measured here and nothing else. Made when
 * it is first asked for; borrowed, s->engine itself where that has no sources. ERR_NOMEM and what
 * engine_new says.
 */
int search_memory_free_engine(struct search *s, struct engine **out, struct err *err);
/* Remembers the daemon's own time spent on one evaluation. */
void search_note_overhead(struct search *s, uint64_t own_ns, uint64_t sync_ns, uint64_t launch_ns);

/* The search's document with its present state and summary, for the same batch as a change of
 * state. */
json_t *search_summary(const struct search *s);

/* ---- Answers (search_json.c); owned references ---- */

/* The results of search.show and search.tree, docs/rpc.md. */
json_t *search_show_json(const struct search *s);
json_t *search_tree_json(const struct search *s);
/* model_json.c: {summary, questions[], programs[{program, id, parent, note, from, model,
 * tunables[], evaluations, objective, status, node}], lanes[], waiting[], calls}; null without a
 * language model. */
json_t *search_model_json(const struct search *s);
/* search_warm.c: what was gained over the baseline in all, by what was adopted from memory, and by
 * this search on top of that, {total, adopted, added, log{}, adoptions}; null without a best. */
json_t *search_gain_json(const struct search *s);
/* The arms of a warm search: {memory_free_share, retreat, why, memory, memory_free, shared}; null
 * for a cold one. */
json_t *search_arms_json(const struct search *s);
/* Where a node comes from: "own", "adopted from memory", "live", "plan from memory"; "" for the
 * root. Static. */
const char *search_node_origin(const struct search *s, uint32_t node);
/* Why a node was chosen, what was tried there and what came out; node NULL: the search as a whole.
 * ERR_NOT_FOUND. */
int search_explain_json(const struct search *s, const char *node, json_t **out, struct err *err);

#endif
