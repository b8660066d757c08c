/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The label of an insight on a new device, and its ground. The first rule that applies decides:
 *
 *     void       a required feature is missing; a required capacity is too small; no valid
 *                assignment has its value; measured there already with the other sign
 *     carry      measured there already with the same sign
 *     re-verify  versions changed; a required capacity is not known; the balance moved past a
 *                workload, or moved where nothing places the workloads; memory close to the units
 *                shrank under a claim for more of it; features are gone that it may rest on; the
 *                learned survival rate is low, or nothing was learned between the classes; the
 *                evidence is thin (one pair, steered only, or of both signs)
 *     carry      same class or a high survival rate, same balance, blind evidence of one sign
 *
 * Everything is a pure function of its input. Thread: any.
 */
#ifndef KS_RETUNE_LABEL_H
#define KS_RETUNE_LABEL_H

#include "kb.h"
#include "retune/delta.h"
#include "retune/roofline.h"
#include "retune/survival.h"

enum retune_label { LABEL_CARRY, LABEL_REVERIFY, LABEL_VOID, RETUNE_LABEL_COUNT };
/* "carry", "re-verify", "void". */
const char *retune_label_name(enum retune_label l);

enum retune_ground {
    GROUND_FEATURE_MISSING,
    GROUND_CAPACITY_SMALL,
    GROUND_VALUE_UNAVAILABLE,
    GROUND_REFUTED,
    GROUND_CONFIRMED,
    GROUND_VERSIONS,
    GROUND_CAPACITY_UNKNOWN,
    GROUND_BALANCE,
    GROUND_CAPACITY_SHRANK,
    GROUND_FEATURES_GONE,
    GROUND_SURVIVAL_LOW,
    GROUND_SURVIVAL_UNKNOWN,
    GROUND_EVIDENCE_THIN,
    GROUND_SAME,
    RETUNE_GROUND_COUNT
};
/* "feature-missing", ... */
const char *retune_ground_name(enum retune_ground g);

/* What the evidence on one device says. */
struct label_evidence {
    struct insight_sums sums;
    double mean, sd, p_positive; /* posterior of insight.h over `sums`; 0, prior, 0.5 without any */
    char versions[VERSIONS_TEXT_MAX + 1]; /* of the newest piece */
    uint64_t last_s;
};

struct label_input {
    const struct claim *claim;
    const struct label_evidence *old, *new; /* on either device */
    const struct delta *delta;
    const json_t *device;               /* the new one's record */
    const char *versions;               /* its versions */
    const struct roofline_shift *shift; /* of the tasks that the evidence is of, added up */
    struct survival_rate survival;
    bool value_missing;  /* no valid assignment on the new device has the claim's value */
    bool toolchain_only; /* same device: only versions may have changed */
};

struct labelled {
    enum retune_label label;
    enum retune_ground ground;
    char text[240]; /* the ground as a sentence */
    double p_wrong; /* probability that acting on it there is wrong */
};

/* The first rule that applies decides; docs/retune.md lists them in order. Thread: any. */
void label_insight(const struct label_input *in, struct labelled *out);

/*
 * What a claim's `requires` asks of a device: names of features, and capacities as
 * "shared_bytes.block>=65536" over the record's members. 1: all there; 0: one is not (`what` names
 * it); -1: one is not known. `*is_capacity` tells which kind `what` is.
 */
int label_requires(const char *requires, const json_t *device, char *what, size_t size,
                   bool *is_capacity);

#endif
