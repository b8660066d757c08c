/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A task pack as the harness sees it: one definition of one family, with its axes, tensors,
 * tolerances and the workloads of one set. docs/design.md section 2 has the format. Everything here
 * is owned by the pack and lives as long as it. Thread: any; a pack does not change once loaded.
 */
#ifndef KS_HARNESS_PACK_H
#define KS_HARNESS_PACK_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "check.h"
#include "ks_task.h"
#include "wire.h"

#define PACK_JSON_MAX (4u << 20)
#define PACK_SOURCE_MAX (1u << 20)
#define PACK_WORKLOADS_MAX 256

struct pack_tensor {
    const char *name;
    enum ks_dtype dtype;
    int rank;
    const char *shape[KS_RANK_MAX];
    bool vary;            /* input: the harness may exchange elements between timed calls */
    struct tolerance tol; /* output */
};

struct workload {
    const char *name;
    struct ks_axis axes[WIRE_AXES_MAX]; /* constants and variables */
    struct ks_param *params;            /* owned */
    int n_params;
};

struct pack {
    char *dir;
    json_t *root, *lines; /* hold every string above */
    char *family, *module, *baseline, *template_source, *template_space;
    const char *definition;
    struct ks_axis constants[WIRE_AXES_MAX];
    int n_constants, n_axes;
    struct pack_tensor inputs[KS_TENSORS_MAX], outputs[KS_TENSORS_MAX];
    int n_inputs, n_outputs;
    char *scratch; /* shape expression */
    struct workload *workloads;
    int n_workloads;
};

/*
 * Reads `dir`/task.json, picks the definition and reads its workload set (no set: `set` NULL).
 * ERR_NOT_FOUND (no such pack, definition or set), ERR_INVALID, ERR_LIMIT. The caller owns `*out`.
 */
int pack_load(const char *dir, const char *definition, const char *set, struct pack **out,
              struct err *err);
void pack_free(struct pack *p);
/* Reads the pack's file `name` (a plain file name) into `*out`, owned. */
int pack_read(const struct pack *p, const char *name, char **out, struct err *err);

#endif
