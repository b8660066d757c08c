/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A laboratory for searches: a knowledge base in a temporary folder, a small space whose best is
 * known, and an evaluator that is a function. Searches run step by step as the daemon takes them,
 * without loop, threads or compilers, so a test can stop one after any durable write and go on from
 * what is stored.
 */
#ifndef KS_TEST_LAB_H
#define KS_TEST_LAB_H

#include "kb.h"
#include "search/search.h"

struct lab {
    const char *dir;
    struct clock_fake clock;
    struct kb *kb;
    /* What an assignment is worth: log of the objective, NaN for a failure. */
    double (*worth)(const struct lab *lab, const struct space *space, const uint16_t *a);
    double shift;              /* for `worth`: how far another shape's best lies */
    unsigned without;          /* MEMORY_ parts that warm searches do without */
    bool shaky;                /* the first measurement of every trial is unstable */
    bool infrastructure_fails; /* every evaluation is lost */
    /* 1 + the parameter that neither worth nor compiled object depends on; 0: no objects are told.
     */
    size_t dead;
    /* Set that searches hold out; NULL: none. There every program is worth this much less (log). */
    const char *holdout;
    double holdout_gap;
    bool holdout_fails; /* every check on it is lost */
    size_t check_at;    /* durable writes before the first result of a check */
    size_t timed;       /* evaluations that were measured rather than known, duels not counted */
    size_t commits;     /* durable writes so far */
    /* With a language model (lab_llm.h): who answers, and what a program is worth. */
    char *(*model)(struct lab *lab, const struct llm_request *req);
    void *model_ctx;
    const char *strategy;    /* with a language model; NULL: the built-in proposer */
    const char *seed_source; /* what it begins with; NULL: LAB_SEED_SOURCE */
    bool slow;               /* one answer at a time arrives, the one that was asked for last */
    double noise; /* deviation of the log of what is measured, in duels of either side; 0: exact */
    uint32_t lanes, window;                  /* 0: 1 */
    void (*limit)(struct search_spec *spec); /* sets other budgets; NULL: none */
    size_t asked;                            /* requests that were put to it, lost ones included */
    size_t crash_at;   /* after this many writes the search is dropped and loaded again; 0: never */
    bool crash_before; /* the write itself is lost: the batch is dropped instead of committed */
};

/* A space of 6 parameters, two of them structural, 2880 valid assignments. Owned. */
json_t *lab_space(void);
/* A bowl in log space with a mild interaction; the best is 4x. */
double lab_bowl(const struct lab *lab, const struct space *space, const uint16_t *a);

/* Opens the base in lab->dir with a device "cpu"; fails the test otherwise. */
void lab_open(struct lab *lab);
void lab_close(struct lab *lab);

struct lab_run {
    const char *id, *task, *shape;
    bool cold;
    uint64_t seed, evals;
};
/* The program that a search with a model begins with: lab_worth of it is 0. */
#define LAB_SEED_SOURCE "int ks_kernel; /* worth=0 path= */"
/* What a program of a model is worth: the number after "worth=" in its source, NAN for "worth=nan",
 * plus what its tunables add (0.1 less per step away from the last value). */
double lab_program_worth(const struct search *s, const struct trial *t);

/* Runs a search to its end; the caller frees it. */
struct search *lab_search(struct lab *lab, const struct lab_run *run);
/* The same in steps: a search that has not begun, and one evaluation more of it (or its end, which
 * gives false). A crash replaces *s by what the base has. */
struct search *lab_begin(struct lab *lab, const struct lab_run *run);
bool lab_step(struct lab *lab, struct search **s);
/* Evaluations until an objective within `share` (0.05) of `best_log` was measured; evals + 1 when
 * never. */
uint64_t lab_evals_to(const struct search *s, double best_log, double share);
/* All events of a search, as an array. Owned. */
json_t *lab_events(const struct search *s);
/* Everything that must not depend on where a search was interrupted, as canonical text. Owned. */
char *lab_final_state(const struct search *s);

#endif
