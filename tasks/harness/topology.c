/* SPDX-License-Identifier: Apache-2.0 */
/* Processors; see topology.h. */
#include "topology.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"

/* True when `cpu` is the first of its core; also where the system does not say. */
static bool is_first_of_core(int cpu)
{
    CLEANUP(buf_release) struct buf text = { .max = 4096 };
    struct err ignored;
    char path[96];

    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list",
             cpu);
    return file_read(path, &text, &ignored) != 0 || strtol(buf_str(&text), NULL, 10) == cpu;
}

void topology_read(struct topology *out)
{
    struct topology t = { .n_cpus = 0 };
    int others[TOPOLOGY_MAX], n_others = 0;
    cpu_set_t set;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        CPU_ZERO(&set);
    for (int cpu = 0; cpu < CPU_SETSIZE && t.n_cpus + n_others < TOPOLOGY_MAX; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        if (is_first_of_core(cpu))
            t.cpus[t.n_cpus++] = cpu;
        else
            others[n_others++] = cpu;
    }
    t.n_cores = MAX(t.n_cpus, 1);
    for (int i = 0; i < n_others; i++)
        t.cpus[t.n_cpus++] = others[i];
    t.n_cpus = MAX(t.n_cpus, 1);
    *out = t;
}
