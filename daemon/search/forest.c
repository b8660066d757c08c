/* SPDX-License-Identifier: Apache-2.0 */
/* Extremely randomised trees; see forest.h. */
#include "search/forest.h"

#include <stdint.h>
#include <string.h>

#include "base/mem.h"

enum { TREES = 15, MIN_NODE = 3, CUTS = 3 };

struct grow {
    size_t d;
    const bool *unordered;
    const float *x;
    const double *y;
    const float *const *col;
    struct rng *rng;
    float *sum, *sum_sq;
    uint32_t *scratch; /* [max(n, m)] */
};

struct cut {
    size_t feature;
    float value;
    double gain; /* negative: none */
};

static bool goes_left(const struct grow *g, const struct cut *c, float v)
{
    return g->unordered[c->feature] ? v == c->value : v <= c->value;
}

/* Sum of squares explained by the cut: the larger, the purer both sides. */
static double cut_gain(const struct grow *g, const struct cut *c, const uint32_t *obs, size_t n)
{
    double left = 0.0, right = 0.0;
    size_t n_left = 0;

    for (size_t i = 0; i < n; i++) {
        if (goes_left(g, c, g->x[obs[i] * g->d + c->feature])) {
            left += g->y[obs[i]];
            n_left++;
        } else {
            right += g->y[obs[i]];
        }
    }
    if (n_left == 0 || n_left == n)
        return -1.0;
    left = left * left / (double)n_left + right * right / (double)(n - n_left);
    right = 0.0;
    for (size_t i = 0; i < n; i++)
        right += g->y[obs[i]];
    return MAX(left - right * right / (double)n, 0.0);
}

static struct cut best_cut(const struct grow *g, const uint32_t *obs, size_t n)
{
    struct cut best = { .gain = -1.0 };

    for (size_t f = 0; f < g->d; f++) {
        float low = g->x[obs[0] * g->d + f], high = low;

        for (size_t i = 1; i < n; i++) {
            float v = g->x[obs[i] * g->d + f];

            low = MIN(low, v);
            high = MAX(high, v);
        }
        for (int c = 0; c < CUTS && high > low; c++) {
            struct cut cut = { .feature = f };

            cut.value = g->unordered[f] ? g->x[obs[rng_below(g->rng, n)] * g->d + f]
                                        : low + (float)rng_double(g->rng) * (high - low);
            cut.gain = cut_gain(g, &cut, obs, n);
            if (cut.gain > best.gain)
                best = cut;
        }
    }
    return best;
}

/* Stable partition; returns how many went left. `stride` and `base` find the value of one index. */
static size_t partition(const struct grow *g, const struct cut *c, uint32_t *idx, size_t n,
                        const float *base, size_t stride)
{
    bool unordered = g->unordered[c->feature];
    size_t left = 0, right = 0;

    for (size_t i = 0; i < n; i++) {
        uint32_t at = idx[i];
        float v = base[at * stride];
        bool is_left = unordered ? v == c->value : v <= c->value;

        idx[left] = at;
        g->scratch[right] = at;
        left += is_left;
        right += !is_left;
    }
    memcpy(idx + left, g->scratch, right * sizeof(*idx));
    return left;
}

static void leaf(const struct grow *g, const uint32_t *obs, size_t n, const uint32_t *cand,
                 size_t m)
{
    double sum = 0.0;
    float mean;

    for (size_t i = 0; i < n; i++)
        sum += g->y[obs[i]];
    mean = (float)(sum / (double)n);
    for (size_t i = 0; i < m; i++) {
        g->sum[cand[i]] += mean;
        g->sum_sq[cand[i]] += mean * mean;
    }
}

/* Recursion is as deep as the tree: below n. */
static void node(const struct grow *g, uint32_t *obs, size_t n, uint32_t *cand, size_t m)
{
    struct cut cut;
    size_t n_left, m_left;

    if (m == 0)
        return;
    cut = n > MIN_NODE ? best_cut(g, obs, n) : (struct cut){ .gain = -1.0 };
    if (cut.gain < 0.0) {
        leaf(g, obs, n, cand, m);
        return;
    }
    n_left = partition(g, &cut, obs, n, g->x + cut.feature, g->d);
    m_left = partition(g, &cut, cand, m, g->col[cut.feature], 1);
    node(g, obs, n_left, cand, m_left);
    node(g, obs + n_left, n - n_left, cand + m_left, m - m_left);
}

void forest_predict(size_t d, const bool *unordered, size_t n, const float *x, const double *y,
                    size_t m, const float *const *col, struct rng *rng, float *mean, float *var)
{
    CLEANUP(freep) uint32_t *obs = xmalloc(n * sizeof(*obs));
    CLEANUP(freep) uint32_t *cand = xmalloc(m * sizeof(*cand));
    CLEANUP(freep) uint32_t *scratch = xmalloc(MAX(n, m) * sizeof(*scratch));
    CLEANUP(freep) double *centred = xmalloc(n * sizeof(*centred));
    struct grow g = { d, unordered, x, centred, col, rng, mean, var, scratch };
    double centre = 0.0;

    /* Around the mean, so that squares of single-precision sums keep their digits. */
    for (size_t i = 0; i < n; i++)
        centre += y[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        centred[i] = y[i] - centre;
    memset(mean, 0, m * sizeof(*mean));
    memset(var, 0, m * sizeof(*var));
    for (int t = 0; t < TREES; t++) {
        for (size_t i = 0; i < n; i++)
            obs[i] = (uint32_t)rng_below(rng, n);
        for (size_t i = 0; i < m; i++)
            cand[i] = (uint32_t)i;
        node(&g, obs, n, cand, m);
    }
    for (size_t i = 0; i < m; i++) {
        float mu = mean[i] / TREES;

        var[i] = MAX(var[i] / TREES - mu * mu, 0.0f);
        mean[i] = mu + (float)centre;
    }
}
