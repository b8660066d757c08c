/* SPDX-License-Identifier: Apache-2.0 */
/* Trials; see trial.h. */
#include "search/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

void trial_release(struct trial *t)
{
    free(t->node);
    free(t->title);
    free(t->why);
    free(t->adopted);
    free(t->source);
    free(t->status);
    free(t->message);
    memset(t, 0, sizeof(*t));
}

bool trial_steered(const struct trial *t)
{
    return t->arm == ENGINE_ARM_MEMORY || (t->adopted != NULL && t->adopted[0] != '\0');
}

double crps_normal(double mean, double sd, double outcome)
{
    double z, cdf, pdf;

    if (!(sd > 0))
        return fabs(outcome - mean);
    z = (outcome - mean) / sd;
    cdf = 0.5 * erfc(-z * M_SQRT1_2);
    pdf = exp(-0.5 * z * z) / sqrt(2 * M_PI);
    return sd * (z * (2 * cdf - 1) + 2 * pdf - 1 / sqrt(M_PI));
}
