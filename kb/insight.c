/* SPDX-License-Identifier: Apache-2.0 */
/* Posteriors and copies of insights; see insight.h. */
#include "insight.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "record_text.h"

const char *insight_state_name(enum insight_state s)
{
    static const char *const names[INSIGHT_STATE_COUNT] = { "active", "superseded", "retracted" };

    assert(s >= 0 && s < INSIGHT_STATE_COUNT);
    return names[s];
}

static uint32_t pairs_of(const struct insight_sums *s)
{
    return s->blind + s->steered;
}

static const struct insight_cell *cell_find(const struct insight *in, const char *key)
{
    size_t low = 0, high = in->n_cells;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(in->cells[mid].key, key);

        if (order == 0)
            return &in->cells[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* The most specific cell with two pairs; NULL for none. A key that does not fit names no cell. */
static const struct insight_cell *cell_best(const struct insight *in, const char *device_class,
                                            const char *shape, const char *toolchain)
{
    const char *parts[] = { device_class, shape, toolchain };
    char keys[3][96 + 2 * 1024 + 3];
    const struct insight_cell *best = NULL;

    for (int level = 0; level < 3 && parts[level]; level++) {
        const char *above = level ? keys[level - 1] : "";
        int n = snprintf(keys[level], sizeof(keys[level]), "%s%s%s", above, level ? "|" : "",
                         parts[level]);
        const struct insight_cell *cell;

        if (n < 0 || (size_t)n >= sizeof(keys[level]))
            break;
        cell = cell_find(in, keys[level]);
        if (cell == NULL || pairs_of(&cell->sums) < 2)
            break; /* a child has no more pairs than its parent */
        best = cell;
    }
    return best;
}

struct insight_effect insight_posterior(const struct insight *in, const char *device_class,
                                        const char *shape, const char *toolchain)
{
    static const double prior_sd = 0.15, noise_sd = 0.05, noise_weight = 2;
    const struct insight_cell *cell = cell_best(in, device_class, shape, toolchain);
    const struct insight_sums *s = cell ? &cell->sums : &in->all;
    double n = pairs_of(s), mean = n > 0 ? (double)s->effect_q / 1e6 / n : 0;
    double squares = fmax(0, (double)s->effect_sq_q / 1e6 - n * mean * mean);
    double noise = (noise_weight * noise_sd * noise_sd + squares) / (noise_weight + n);
    double precision = 1 / (prior_sd * prior_sd) + n / noise;
    struct insight_effect out = { .mean = n * mean / noise / precision,
                                  .sd = sqrt(1 / precision),
                                  .n = pairs_of(s),
                                  .cell = cell ? cell->key : "" };

    out.p_positive = 0.5 * erfc(-out.mean / out.sd / sqrt(2));
    return out;
}

static int copy_cells(const struct insight *in, struct insight *out)
{
    out->cells = calloc(MAX(in->n_cells, 1), sizeof(*out->cells));
    if (out->cells == NULL)
        return -1;
    for (; out->n_cells < in->n_cells; out->n_cells++) {
        struct insight_cell *cell = &out->cells[out->n_cells];

        *cell = in->cells[out->n_cells];
        cell->key = strdup(cell->key);
        if (cell->key == NULL)
            return -1;
    }
    return 0;
}

int insight_dup(const struct insight *in, struct insight *out, struct err *err)
{
    struct insight copy = *in;

    copy.cells = NULL;
    copy.n_cells = 0;
    copy.evidence = NULL;
    copy.condition = NULL;
    if (claim_dup(&in->claim, &copy.claim, err) != 0)
        return -1;
    copy.condition = strdup(in->condition);
    copy.evidence = malloc(MAX(in->n_evidence, 1) * sizeof(*copy.evidence));
    if (copy.condition == NULL || copy.evidence == NULL || copy_cells(in, &copy) != 0) {
        insight_release(&copy);
        return err_set(err, ERR_NOMEM, "no memory to copy an insight");
    }
    if (in->n_evidence)
        memcpy(copy.evidence, in->evidence, in->n_evidence * sizeof(*copy.evidence));
    *out = copy;
    return 0;
}

void insight_release(struct insight *in)
{
    claim_release(&in->claim);
    for (size_t i = 0; i < in->n_cells; i++)
        free(in->cells[i].key);
    free(in->cells);
    free(in->condition);
    free(in->evidence);
    memset(in, 0, sizeof(*in));
}
