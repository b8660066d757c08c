/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One workload on the judge's side: shapes, pristine inputs, expected outputs, and their comparison
 * with what is in an arena after a call. Thread: the judge's main thread.
 */
#ifndef KS_HARNESS_SCENE_H
#define KS_HARNESS_SCENE_H

#include "arena.h"
#include "fail.h"
#include "pack.h"

struct scene {
    const struct pack *pack;
    const struct workload *workload;
    const struct ks_task_module *module;
    struct ks_problem problem;
    struct ks_tensor tensors[KS_TENSORS_MAX]; /* inputs, then outputs; data NULL */
    size_t elements[KS_TENSORS_MAX];
    const char *names[KS_TENSORS_MAX + 1];
    struct cell_shape shape;
    double *expected[KS_TENSORS_MAX]; /* owned; one per output */
    struct check_stats stats;         /* worst seen against the reference */
};

/* Pristine inputs of one seed. */
struct input_set {
    void *data[KS_TENSORS_MAX]; /* owned, 64-byte aligned */
};

/* Two ranges of one input whose elements changed places. */
struct patch {
    int tensor;
    size_t a, b, count; /* elements */
};

/* ERR_INVALID for shapes that cannot be, ERR_NOMEM. */
int scene_init(const struct pack *pack, const struct workload *w,
               const struct ks_task_module *module, struct scene *out, struct err *err);
void scene_release(struct scene *s);

/* Fills a set (allocating it the first time). FAIL_INFRASTRUCTURE. */
int scene_generate(const struct scene *s, uint64_t seed, struct input_set *set, struct fail *f);
void input_set_release(struct input_set *set);
/* Computes the expected outputs of the set as it is now. FAIL_INFRASTRUCTURE. */
int scene_expect(struct scene *s, const struct input_set *set, int threads, struct fail *f);
/* The cost of this set. */
void scene_cost(const struct scene *s, const struct input_set *set, struct ks_cost *out);

/* Copies the inputs into the cell and poisons its outputs. */
void scene_stage(const struct scene *s, const struct input_set *set, struct arena *a,
                 const struct cell *c);
/*
 * Gives the set new contents cheaply: in each floating-point input that may vary, two random ranges
 * change places (but for NaN, which marks memory that nobody may read), a sixteenth of the tensor
 * each and at most `most` elements. Returns the number of patches.
 */
int scene_vary(const struct scene *s, struct input_set *set, struct rng *rng, size_t most,
               struct patch *patches);
/* Brings the patches of a varied set into a cell that was staged before. */
void scene_patch(const struct scene *s, const struct input_set *set, struct arena *a,
                 const struct cell *c, const struct patch *patches, int n);

/* Guards, inputs and outputs of a call on `set`, against the reference (scene_expect of that set).
 */
int scene_check(struct scene *s, const struct input_set *set, const struct arena *a,
                const struct cell *c, struct fail *f);
/*
 * Guards, and outputs against those of a trusted kernel for the same inputs (`set`), which are
 * themselves only within tolerance: so within twice of it. Where the task has more than one right
 * answer, two kernels may differ and both be right: the reference then decides, on up to `threads`
 * threads.
 */
int scene_check_twin(struct scene *s, const struct input_set *set, const struct arena *a,
                     const struct cell *c, const struct arena *trusted,
                     const struct cell *trusted_cell, int threads, struct fail *f);
/*
 * A cheap look at tensors that are large: guards, and random ranges of inputs and outputs, whole
 * rows of the last axis, `elements` of each tensor in all. Not for a task whose answers are settled
 * afterwards.
 */
int scene_check_parts(struct scene *s, const struct input_set *set, const struct arena *a,
                      const struct cell *c, const struct arena *trusted,
                      const struct cell *trusted_cell, struct rng *rng, size_t elements,
                      struct fail *f);
/* A few random ranges of every input, whether they are as they were: FAIL_INPUT_MODIFIED. */
int scene_check_inputs(const struct scene *s, const struct input_set *set, const struct arena *a,
                       const struct cell *c, struct rng *rng, struct fail *f);

#endif
