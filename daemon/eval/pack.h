/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Task packs: folders with a task.json (docs/design.md section 2), found at run time and parsed
 * strictly. A pack that is broken is listed with its problems and hides none of the others.
 * A set of packs is immutable once it is shown to others, and counted by reference; an import makes
 * a new set, which shares all packs but one (packs_with), and puts it in the old one's place
 * (packs_swap). Thread: what reads folders blocks (worker, or start-up); everything else any.
 */
#ifndef KS_EVAL_PACK_H
#define KS_EVAL_PACK_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    PACK_SOURCE_MAX = 1 << 20, /* bytes of a source, a space, a workload file */
    PACK_README_MAX = 256 << 10,
    PACK_DEFINITIONS_MAX = 256,
    PACK_AXES_MAX = 32,
    PACK_TENSORS_MAX = 24, /* KS_TENSORS_MAX of the task ABI */
    PACK_WORKLOADS_MAX = 256,
    PACK_SETS_MAX = 32
};

struct pack_axis {
    char *name;
    int64_t value;
};

/* A source file of the pack, read when the pack was loaded. */
struct pack_source {
    char *path; /* absolute; NULL when the pack has none */
    char *text; /* NUL-terminated */
    size_t len;
    char key[65]; /* SHA-256 of the text, hex; "" when there is none */
};

struct pack_set {
    char *name; /* "cpu" */
    char *path;
    size_t n_workloads;
    char **workloads; /* their names, in file order */
    json_t *rows;     /* the same, as parsed: [{name, axes{}, params{}?}] */
    double *regime;   /* [pack->n_regime]: geometric mean over the workloads; 0 where it has none */
};

/* A quantity of the shape regime, a formula over the axes (eval/pack_regime.h). */
struct pack_quantity {
    char *name, *formula;
};

struct pack;

struct pack_definition {
    const struct pack *pack; /* back pointer */
    char *name;
    size_t n_axes;
    struct pack_axis *axes; /* constant axes, sorted by name */
    char *shape;            /* shape regime: "num_kv_heads=4", the shape features sorted by name */
    size_t n_sets;
    struct pack_set *sets; /* sorted by name */
};

struct pack {
    atomic_uint refs; /* sets of packs that it is in */
    char *dir;        /* absolute path of the folder */
    char *family;
    char *summary;
    char *readme; /* first paragraph of README.md, "" when there is none */
    char *guide;  /* README.md whole */
    char *language, *dtype, *bottleneck;
    struct pack_source module, baseline, template;
    json_t *space; /* template.space.json as parsed; NULL without a template */
    char *space_path;
    json_t *json; /* task.json as parsed; inputs, outputs and tolerances are read from here */
    size_t n_var_axes;
    char **var_axes;
    size_t n_features;
    char **features; /* shape_features, sorted */
    size_t n_regime;
    struct pack_quantity *regime;
    size_t n_related;
    char **related; /* families whose knowledge may help here as well */
    size_t n_definitions;
    struct pack_definition *definitions; /* none when the pack is broken */
    size_t n_problems;
    char **problems; /* sentences; a pack with any is broken and its definitions are not found */
};

struct packs;

/*
 * Loads every folder with a task.json directly below each of `dirs` (or a `dir` that is itself
 * one), in name order. A folder that cannot be read, and a definition name given twice, are
 * problems of their pack. ERR_IO only when none of `dirs` can be listed. The caller holds one
 * reference.
 */
int packs_load(const char *const *dirs, size_t n_dirs, struct packs **out, struct err *err);
/*
 * Adds what is in `dir`, after all that is there already: only to a set that nobody else sees yet.
 * ERR_IO.
 */
int packs_add(struct packs *p, const char *dir, struct err *err);
struct packs *packs_ref(struct packs *p);
void packs_unref(struct packs *p); /* NULL is fine */

/* A set with `fresh` (a reference of its own; moved) in place of the pack of the same folder, or
 * after all others. The caller holds one reference. */
struct packs *packs_with(const struct packs *p, struct pack *fresh);
/*
 * The daemon's present set lies in one slot. The loop, which alone swaps it, may read the slot as
 * it is and borrow until it returns to its caller; workers take a reference.
 */
struct packs *packs_take(struct packs *const *slot);
/* Puts `fresh` (moved) there and drops the slot's reference to the old set. Thread: loop. */
void packs_swap(struct packs **slot, struct packs *fresh);
/* For CLEANUP. */
void packs_release(struct packs **p);

size_t packs_count(const struct packs *p);
const struct pack *packs_get(const struct packs *p, size_t i);
/* The definition of this name in a pack without problems; NULL when there is none. */
const struct pack_definition *packs_find(const struct packs *p, const char *definition);
/* Names close to `name` for a "did you mean"; fills up to `max` borrowed names, returns how many.
 */
size_t packs_suggest(const struct packs *p, const char *name, const char **out, size_t max);
/* The workload set of this name; NULL when the definition has none. */
const struct pack_set *pack_set(const struct pack_definition *d, const char *name);
/* The set searches use when none is named: "cpu", else "smoke", else the first; NULL when there is
 * none. */
const struct pack_set *pack_default_set(const struct pack_definition *d);
/* Value of a constant axis; false when the definition has none of this name. */
bool pack_axis_value(const struct pack_definition *d, const char *name, int64_t *out);

/* {tasks[{name, family, summary, ...}], broken[{dir, problems[]}]}: the reply of task.list. Fresh.
 */
json_t *packs_to_json(const struct packs *p);
/* Everything about one definition: the reply of task.show. Sources are left out unless asked for.
 */
json_t *pack_definition_to_json(const struct pack_definition *d, bool sources);

#endif
