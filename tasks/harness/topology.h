/* SPDX-License-Identifier: Apache-2.0 */
/* The processors that this process may use, and which of them share a core. Thread: any. */
#ifndef KS_HARNESS_TOPOLOGY_H
#define KS_HARNESS_TOPOLOGY_H

#define TOPOLOGY_MAX 256

struct topology {
    int cpus[TOPOLOGY_MAX]; /* numbers; one of each core first, then the others */
    int n_cpus, n_cores;    /* at least 1 each */
};

void topology_read(struct topology *out);

#endif
