/* SPDX-License-Identifier: Apache-2.0 */
/* Posteriors and copies of insights; see insight.h. */
#include "insight.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "record_text.h"

static const double prior_sd = 0.15, noise_sd = 0.05, noise_weight = 2;
/* Between the cells of one parent, by level. */
static const double between_sd[INSIGHT_LEVELS] = { 0, 0.08, 0.06, 0.03 };

const char *insight_state_name(enum insight_state s)
{
    static const char *const names[INSIGHT_STATE_COUNT] = { "active", "superseded", "retracted" };

    assert(s >= 0 && s < INSIGHT_STATE_COUNT);
    return names[s];
}

const char *insight_op_name(enum insight_op op)
{
    switch (op) {
    case INSIGHT_ALWAYS:
        return "";
    case INSIGHT_AT_MOST:
        return "<=";
    case INSIGHT_IS:
        return "is";
    }
    return "";
}

/* ---- Cells ---- */

static const struct insight_cell *cell_find(const struct insight_cell *cells, size_t n,
                                            const char *key)
{
    size_t low = 0, high = n;

    while (low < high) {
        size_t mid = low + (high - low) / 2;
        int order = strcmp(cells[mid].key, key);

        if (order == 0)
            return &cells[mid];
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return NULL;
}

/* Pairs of a cell as a posterior sees them: counted by trust, in natural log. */
struct pairs {
    double n, sum, squares;
};

/* One level: its cell, and its pairs. */
struct level {
    const char *key; /* of the cell in the insight; "" for all */
    const struct insight_sums *sums;
    const struct insight_sums *foreign; /* NULL for none */
    struct pairs pairs;
};

static struct pairs pairs_of(const struct insight_sums *s, const struct insight_sums *foreign,
                             double trust)
{
    struct pairs p = { s->blind + s->steered, (double)s->effect_q / 1e6,
                       (double)s->effect_sq_q / 1e6 };

    if (foreign != NULL) {
        double off = 1 - trust;

        p.n -= off * (foreign->blind + foreign->steered);
        p.sum -= off * (double)foreign->effect_q / 1e6;
        p.squares -= off * (double)foreign->effect_sq_q / 1e6;
    }
    return p;
}

static struct level level_of(const struct insight *in, const char *key,
                             const struct insight_sums *sums, double trust)
{
    const struct insight_cell *foreign =
        in->n_foreign > 0 ? cell_find(in->foreign, in->n_foreign, key) : NULL;
    struct level l = { .key = key, .sums = sums, .foreign = foreign ? &foreign->sums : NULL };

    l.pairs = pairs_of(sums, l.foreign, trust);
    return l;
}

/* The levels asked for that have pairs, from the top; returns how many. `*asked` counts all. */
static int levels_of(const struct insight *in, const struct insight_place *at, double trust,
                     struct level out[INSIGHT_LEVELS], int *asked)
{
    const char *parts[] = { at->device_class, at->shape, at->toolchain };
    char key[INSIGHT_KEY_MAX];
    size_t len = 0;
    int n = 1;

    out[0] = level_of(in, "", &in->all, trust);
    for (*asked = 1; *asked < INSIGHT_LEVELS && parts[*asked - 1] != NULL; ++*asked) {
        const struct insight_cell *cell;
        size_t part;

        if (n < *asked)
            continue; /* a child of a cell without pairs has none */
        part = strlen(parts[*asked - 1]);
        if (len + part + 2 > sizeof(key))
            continue; /* a key that does not fit names no cell */
        if (*asked > 1)
            key[len++] = '|';
        memcpy(key + len, parts[*asked - 1], part + 1);
        len += part;
        cell = cell_find(in->cells, in->n_cells, key);
        if (cell != NULL && cell->sums.blind + cell->sums.steered > 0)
            out[n++] = level_of(in, cell->key, &cell->sums, trust);
    }
    return n;
}

/* ---- Posteriors ---- */

struct normal {
    double mean, variance;
};

/* What pairs say of their mean: nothing when there are none. `between` is added to the variance. */
static void observe(struct normal *belief, struct pairs p, double between)
{
    double mean, deviations, variance, gain;

    if (p.n < 1e-9)
        return;
    mean = p.sum / p.n;
    deviations = fmax(0, p.squares - p.n * mean * mean);
    variance = (noise_weight * noise_sd * noise_sd + deviations) / (noise_weight + p.n) / p.n;
    variance += between * between;
    gain = belief->variance / (belief->variance + variance);
    belief->mean += gain * (mean - belief->mean);
    belief->variance *= 1 - gain;
}

double insight_trust(const struct insight *in, double foreign_weight)
{
    const struct insight_sums *f;

    if (in->n_foreign == 0)
        return 1;
    f = &in->foreign[0].sums; /* the key "" comes first */
    if ((f->effect_q > 0 && in->all.positive > f->positive) ||
        (f->effect_q < 0 && in->all.negative > f->negative))
        return 1;
    return foreign_weight;
}

int insight_side_at(const struct insight *in, const struct insight_place *at)
{
    const struct insight_condition *when = &in->when;
    const char *text = NULL;
    const json_t *value;

    switch (when->op) {
    case INSIGHT_ALWAYS:
        return -1;
    case INSIGHT_AT_MOST:
        value = json_object_get(at->features, when->feature);
        return json_is_number(value) ? json_number_value(value) > when->value : -1;
    case INSIGHT_IS:
        text = strcmp(when->feature, "device_class") == 0 ? at->device_class
               : strcmp(when->feature, "shape") == 0      ? at->shape
                                                          : at->toolchain;
        return text ? strcmp(text, when->text) != 0 : -1;
    }
    return -1;
}

/* The pairs of a side, counted with the share that trust leaves of all pairs. */
static struct pairs side_pairs(const struct insight *in, int side, const struct level *all)
{
    const struct insight_side *s = &in->when.side[side];
    double total = all->sums->blind + all->sums->steered;
    double share = total > 0 ? all->pairs.n / total : 1, n = s->n;
    double sum = (double)s->effect_q / 1e6;

    return (struct pairs){ share * n, share * sum,
                           share *
                               ((double)s->deviation_sq_q / 1e6 + (n > 0 ? sum * sum / n : 0)) };
}

static struct normal shrink(const struct level *levels, int n, int asked)
{
    struct normal belief = { 0, prior_sd * prior_sd };

    for (int i = 1; i < asked; i++)
        belief.variance -= between_sd[i] * between_sd[i];
    for (int i = 0; i < asked; i++) {
        struct pairs p;

        belief.variance += between_sd[i] * between_sd[i];
        if (i >= n)
            continue;
        p = levels[i].pairs;
        if (i + 1 < n) {
            p.n -= levels[i + 1].pairs.n;
            p.sum -= levels[i + 1].pairs.sum;
            p.squares -= levels[i + 1].pairs.squares;
        }
        observe(&belief, p, i + 1 < asked ? between_sd[i + 1] : 0);
    }
    return belief;
}

struct insight_effect insight_effect_at(const struct insight *in, const struct insight_place *at)
{
    double trust = insight_trust(in, at->foreign_weight);
    struct level levels[INSIGHT_LEVELS];
    struct normal belief = { 0, prior_sd * prior_sd };
    struct insight_effect out = { .trust = trust, .side = insight_side_at(in, at) };
    const struct insight_sums *s;
    int asked, n = levels_of(in, at, trust, levels, &asked);

    if (out.side >= 0 && in->when.op == INSIGHT_AT_MOST) {
        out.side_n = in->when.side[out.side].n;
        observe(&belief, side_pairs(in, out.side, &levels[0]), 0);
    } else {
        belief = shrink(levels, n, asked);
    }
    for (int i = 0; i < n; i++)
        out.levels[i] = levels[i].sums->blind + levels[i].sums->steered;
    s = levels[n - 1].sums;
    out.mean = belief.mean;
    out.sd = sqrt(belief.variance);
    out.p_positive = 0.5 * erfc(-out.mean / out.sd / sqrt(2));
    out.n = out.levels[n - 1];
    out.cell = levels[n - 1].key;
    out.blind = s->blind;
    out.steered = s->steered;
    out.blind_mean = s->blind > 0 ? (double)s->blind_q / 1e6 / s->blind : 0;
    if (levels[n - 1].foreign != NULL)
        out.foreign = levels[n - 1].foreign->blind + levels[n - 1].foreign->steered;
    return out;
}

struct insight_effect insight_posterior(const struct insight *in, const char *device_class,
                                        const char *shape, const char *toolchain)
{
    const struct insight_place at = { .device_class = device_class,
                                      .shape = shape,
                                      .toolchain = toolchain,
                                      .foreign_weight = INSIGHT_FOREIGN_WEIGHT };

    return insight_effect_at(in, &at);
}

/* ---- Copies ---- */

static int copy_cells(const struct insight_cell *from, size_t n, struct insight_cell **cells,
                      size_t *copied)
{
    *cells = calloc(MAX(n, 1), sizeof(**cells));
    if (*cells == NULL)
        return -1;
    for (; *copied < n; ++*copied) {
        struct insight_cell *cell = &(*cells)[*copied];

        *cell = from[*copied];
        cell->key = strdup(cell->key);
        if (cell->key == NULL)
            return -1;
    }
    return 0;
}

static int copy_failures(const struct insight *in, struct insight *out)
{
    out->failures = calloc(MAX(in->n_failures, 1), sizeof(*out->failures));
    if (out->failures == NULL)
        return -1;
    for (; out->n_failures < in->n_failures; out->n_failures++) {
        struct insight_failure *f = &out->failures[out->n_failures];

        *f = in->failures[out->n_failures];
        f->class = strdup(f->class);
        if (f->class == NULL)
            return -1;
    }
    return 0;
}

/* Members that are owned are NULL in `out` before. */
static int copy_owned(const struct insight *in, struct insight *out)
{
    if (in->when.feature && (out->when.feature = strdup(in->when.feature)) == NULL)
        return -1;
    if (in->when.text && (out->when.text = strdup(in->when.text)) == NULL)
        return -1;
    out->condition = strdup(in->condition);
    out->evidence = malloc(MAX(in->n_evidence, 1) * sizeof(*out->evidence));
    if (out->condition == NULL || out->evidence == NULL)
        return -1;
    if (in->n_evidence)
        memcpy(out->evidence, in->evidence, in->n_evidence * sizeof(*out->evidence));
    return copy_failures(in, out) == 0 &&
                   copy_cells(in->cells, in->n_cells, &out->cells, &out->n_cells) == 0 &&
                   copy_cells(in->foreign, in->n_foreign, &out->foreign, &out->n_foreign) == 0
               ? 0
               : -1;
}

int insight_dup(const struct insight *in, struct insight *out, struct err *err)
{
    struct insight copy = *in;

    copy.cells = copy.foreign = NULL;
    copy.failures = NULL;
    copy.n_cells = copy.n_foreign = copy.n_failures = 0;
    copy.evidence = NULL;
    copy.condition = copy.when.feature = copy.when.text = NULL;
    if (claim_dup(&in->claim, &copy.claim, err) != 0)
        return -1;
    if (copy_owned(in, &copy) != 0) {
        insight_release(&copy);
        return err_set(err, ERR_NOMEM, "no memory to copy an insight");
    }
    *out = copy;
    return 0;
}

static void free_cells(struct insight_cell *cells, size_t n)
{
    for (size_t i = 0; i < n; i++)
        free(cells[i].key);
    free(cells);
}

void insight_release(struct insight *in)
{
    claim_release(&in->claim);
    free_cells(in->cells, in->n_cells);
    free_cells(in->foreign, in->n_foreign);
    for (size_t i = 0; i < in->n_failures; i++)
        free(in->failures[i].class);
    free(in->failures);
    free(in->when.feature);
    free(in->when.text);
    free(in->condition);
    free(in->evidence);
    memset(in, 0, sizeof(*in));
}
