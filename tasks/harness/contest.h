/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The contest of one workload: checks the programs on fresh inputs, then times them against each
 * other in interleaved pairs, in balanced order, from a cold cache, every call on inputs not seen
 * before, outputs checked afterwards. docs/harness.md says how time is kept. Thread: the judge's
 * main thread.
 */
#ifndef KS_HARNESS_CONTEST_H
#define KS_HARNESS_CONTEST_H

#include <stdbool.h>
#include <stdint.h>

#include "counters.h"
#include "fail.h"
#include "job.h"
#include "peer.h"
#include "scene.h"
#include "stats.h"

#define CONTEST_PEERS_MAX 3
#define CONTEST_BATCH_NS 300000ull     /* shorter calls are timed in batches */
#define CONTEST_CELL_BYTES (48u << 20) /* bytes of cells beyond the two that are always there */

/* What one workload gave. Samples are integer nanoseconds per call, one per pair. */
struct contest_result {
    uint64_t *ns[CONTEST_PEERS_MAX]; /* owned; by role */
    int n;                           /* pairs */
    int first_n;                     /* of them in the first of two rounds; 0 with one round */
    int disturbed;                   /* pairs timed and left out */
    int batch;                       /* calls per sample */
    struct estimate ratio;           /* baseline over candidate */
    struct estimate vs_champion;     /* champion over candidate; 0 without one */
    struct ks_cost cost;
    double roofline; /* floor over candidate's time; 0: the device is not known */
    struct check_stats stats;
    struct counts counts;         /* of the candidate, per call */
    uint64_t check_ns, timing_ns; /* wall time spent */
};

/* peers[]: by role (ROLE_CANDIDATE, ...); NULL where the job has none. */
struct contest {
    const struct job *job;
    struct scene *scene;
    struct peer *peers[CONTEST_PEERS_MAX];
    int index; /* of the workload, for its seeds, */
    int of;    /* so many in the set */
    int round; /* of a duel: 0, then 1 with the memory of challenger and champion exchanged */
    int rounds;
    int check_sets; /* fresh input sets before timing */
};

/* How many cells of this shape a contest may stage at once. */
int contest_cells(const struct cell_shape *s);

/*
 * A later round adds to *out. Fails with the class of what the candidate did; what the baseline or
 * the champion did wrong is FAIL_INFRASTRUCTURE. *out is to be released in either case.
 */
int contest_run(const struct contest *c, struct contest_result *out, struct fail *f);
void contest_result_release(struct contest_result *r);

#endif
