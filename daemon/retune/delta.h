/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What changed from one device to another, from their two records (docs/design.md section 5): the
 * ratio of every number, features that came and went, versions. A number that either record lacks
 * is unknown, which is not the same as unchanged. Thread: any; a delta belongs to its caller.
 */
#ifndef KS_RETUNE_DELTA_H
#define KS_RETUNE_DELTA_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "retune/versions.h"

enum { DELTA_MEMBERS_MAX = 64, DELTA_NAME_MAX = 64, DELTA_FEATURES_MAX = 512 };

struct delta_member {
    char name[DELTA_NAME_MAX]; /* dotted path in the record, "shared_bytes.block" */
    double from, to;           /* NaN when the record lacks it */
};

struct delta {
    size_t n;
    struct delta_member members[DELTA_MEMBERS_MAX]; /* those that either record has */
    bool features_known;                            /* both records list features */
    json_t *added, *removed;                        /* arrays of names; owned */
    size_t n_versions;
    struct versions_change versions[VERSIONS_AXES_MAX];
    bool same_class;
};

/* Compares two records. Release with delta_release. */
void delta_of(const json_t *from, const json_t *to, struct delta *out);
void delta_release(struct delta *d);

/* to / from; NaN when unknown. */
double delta_ratio(const struct delta *d, const char *member);
/* Is the feature among those that the new device lost (or gained)? */
bool delta_removed(const struct delta *d, const char *feature);
bool delta_added(const struct delta *d, const char *feature);
/* Is the name in an array of a record, such as its features? */
bool delta_lists(const json_t *list, const char *name);
/* The number at a dotted path of a record; NaN when there is none. */
double delta_number(const json_t *device, const char *path);

/* {members[{name, from, to, ratio}], added[], removed[], versions[{axis, from, to}], same_class};
 * unknown numbers are null. Fresh. */
json_t *delta_to_json(const struct delta *d);

#endif
