/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What forecasts of one source turned out to be worth, and the correction that follows from it: a
 * bias and a factor of the deviation. A source is who predicts: "builtin/cold/gp". A forecast is a
 * normal distribution of the log of an objective; its residual is (outcome - mean) / sd. Within a
 * search the corrections are a fold over its events, on top of what past searches said, which the
 * search keeps. A source without '/' in its name (insights) predicts something else than objectives
 * and is kept apart from the others. docs/ledger.md has the method. Thread: the owner's.
 */
#ifndef KS_SEARCH_CALIBRATION_H
#define KS_SEARCH_CALIBRATION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum {
    SOURCE_NAME_MAX = 96,         /* bytes of a source's name, with its NUL */
    CALIBRATION_SOURCES_MAX = 32, /* of one search; further ones are not corrected */
    CALIBRATION_WINDOW = 32       /* latest residuals of a source that a search looks at */
};

/* Corrected mean = mean + bias * sd, corrected deviation = scale * sd. */
struct correction {
    double bias, scale;
};

/* The correction that changes nothing: {0, 1}. */
struct correction correction_none(void);
void correction_apply(const struct correction *c, double *mean, double *sd);

/*
 * The correction that residuals z[n], each `weight[i]` times (NULL: once), call for. The prior is
 * worth CORRECTION_PRIOR outcomes that are spread as `prior` says: no residuals give `prior` back.
 * bias: median of the mixture of both. scale: the quantile of |z - bias| below which 80 % of the
 * mixture lies, over that of a standard normal, so that corrected 80 % intervals cover 80 %,
 * whatever the tails are like. Doubles; found by bisection, in a fixed number of steps.
 */
enum { CORRECTION_PRIOR = 10 };
struct correction correction_fit(const struct correction *prior, const double *z,
                                 const double *weight, size_t n);

/* ---- Within a search ---- */

struct calibration;

/* Does the source predict objectives? */
bool calibration_of_objectives(const char *source);

/* An empty one, of the caller; aborts when memory is out. */
struct calibration *calibration_new(void);
void calibration_free(struct calibration *c); /* NULL is fine */
/*
 * What past searches say, as stored in the search's `seeded` event: [{source, n, bias, scale}].
 * ERR_CORRUPT.
 */
int calibration_recall(struct calibration *c, const json_t *past, struct err *err);
/* Counts an outcome of a source. */
void calibration_add(struct calibration *c, const char *source, double residual);
/*
 * What later forecasts of this source are corrected by. The residuals of the whole search are
 * fitted first, from what the past says of the source (or of all sources together, or nothing);
 * then the source's own, with that as their prior.
 */
struct correction calibration_of(const struct calibration *c, const char *source);

#endif
