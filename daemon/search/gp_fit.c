/* SPDX-License-Identifier: Apache-2.0 */
/* Coordinate search on the marginal likelihood; see gp_fit.h. */
#include "search/gp_fit.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/linalg.h"
#include "search/vecmath.h"

enum { SWEEPS = 2, COORDS_MAX = GP_PARAMS_MAX + 4 };

#define NOISE_MIN 1e-5

/* Squared distances of all pairs (i > j), kept per column so that a new length scale is one
 * weighted sum. */
struct pairs {
    size_t n, count;
    const double *resid;
    float *param; /* [n_params][count] */
    float *score; /* [count]: mean over the score columns */
};

struct search {
    const struct gp_shape *shape;
    const struct gp_prior *prior;
    struct pairs *sets;
    size_t n_sets;
    float *d2, *k;          /* [most pairs] */
    double *matrix, *a, *b; /* [most points squared], [most points] twice */
};

static void pairs_fill(struct pairs *q, const struct gp_shape *shape, const struct gp_data *data)
{
    const size_t d = shape->n_params + shape->n_scores, n = data->n;
    size_t at = 0;

    q->n = n;
    q->count = n * (n - 1) / 2;
    q->resid = data->resid;
    q->param = xcalloc(shape->n_params * q->count + 1, sizeof(*q->param));
    q->score = xcalloc(q->count + 1, sizeof(*q->score));
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++, at++) {
            const float *x = data->x + i * d, *y = data->x + j * d;

            for (size_t p = 0; p < shape->n_params; p++) {
                float gap = x[p] - y[p];

                if (shape->unordered[p])
                    gap = x[p] != y[p] ? 1.0f : 0.0f;
                q->param[p * q->count + at] = gap * gap;
            }
            for (size_t s = shape->n_params; s < d; s++)
                q->score[at] += (x[s] - y[s]) * (x[s] - y[s]) / (float)shape->n_scores;
        }
}

static void fill_pairs_kernel(struct search *s, const struct pairs *q, const struct gp_hyper *h)
{
    memset(s->d2, 0, q->count * sizeof(*s->d2));
    memset(s->k, 0, q->count * sizeof(*s->k));
    for (size_t p = 0; p < s->shape->n_params; p++)
        vec_axpy(s->d2, q->param + p * q->count, (float)(1.0 / (h->length[p] * h->length[p])),
                 q->count);
    vec_add_matern(s->k, s->d2, (float)h->s1, q->count);
    if (s->shape->n_scores == 0)
        return;
    for (size_t i = 0; i < q->count; i++)
        s->d2[i] *= (float)GP_Z_PARAM;
    vec_axpy(s->d2, q->score, (float)(1.0 / (h->zlength * h->zlength)), q->count);
    vec_add_matern(s->k, s->d2, (float)h->s4, q->count);
}

/* Log restricted likelihood of one set, up to a constant; -INFINITY where the factor breaks. */
static double set_likelihood(struct search *s, const struct pairs *q, const struct gp_hyper *h)
{
    const size_t n = q->n;
    double diagonal = h->s1 + (s->shape->n_scores > 0 ? h->s4 : 0.0) + h->noise;
    double log_det = 0.0, aa = 0.0, ab = 0.0, bb = 0.0, misfit;
    const float *k = s->k;

    fill_pairs_kernel(s, q, h);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < i; j++)
            s->matrix[i * n + j] = (double)*k++;
        s->matrix[i * n + i] = diagonal;
        s->a[i] = 1.0;
        s->b[i] = q->resid[i];
    }
    if (linalg_chol(s->matrix, n, n) != 0)
        return -(double)INFINITY;
    linalg_solve(s->matrix, n, n, s->a);
    linalg_solve(s->matrix, n, n, s->b);
    for (size_t i = 0; i < n; i++) {
        log_det += log(s->matrix[i * n + i]);
        aa += s->a[i] * s->a[i];
        ab += s->a[i] * s->b[i];
        bb += s->b[i] * s->b[i];
    }
    misfit = MAX(bb - ab * ab / aa, 1e-12);
    if (s->shape->profiled)
        return -log_det - 0.5 * log(aa) - 0.5 * (double)(n - 1) * log(misfit / (double)(n - 1));
    return -log_det - 0.5 * log(aa) - 0.5 * misfit;
}

static double penalty(double v, double centre, double sd)
{
    double t = log(v / centre) / sd;

    return -0.5 * t * t;
}

static double posterior(struct search *s, const struct gp_hyper *h)
{
    const struct gp_hyper *c = &s->prior->centre;
    double sum = penalty(h->noise, c->noise, s->prior->sd_noise);

    for (size_t p = 0; p < s->shape->n_params; p++)
        sum += penalty(h->length[p], c->length[p], s->prior->sd_length);
    if (!s->shape->profiled)
        sum += penalty(h->s1, c->s1, s->prior->sd_amp);
    if (s->shape->n_scores > 0)
        sum += penalty(h->s4, c->s4, s->prior->sd_amp) +
               penalty(h->zlength, c->zlength, s->prior->sd_zlength);
    for (size_t i = 0; i < s->n_sets; i++)
        if (s->sets[i].n >= 2)
            sum += set_likelihood(s, &s->sets[i], h);
    return sum;
}

static size_t list_coords(const struct gp_shape *shape, struct gp_hyper *h, double **out)
{
    size_t n = 0;

    for (size_t p = 0; p < shape->n_params; p++)
        out[n++] = &h->length[p];
    out[n++] = &h->noise;
    if (!shape->profiled)
        out[n++] = &h->s1;
    if (shape->n_scores > 0) {
        out[n++] = &h->s4;
        out[n++] = &h->zlength;
    }
    return n;
}

/* Multiplies or divides one coordinate while that helps, at most three times either way. */
static void climb(struct search *s, struct gp_hyper *h, double *at, double step, double *best)
{
    for (int way = 0; way < 2; way++) {
        double factor = way == 0 ? step : 1.0 / step;
        int moved = 0;

        for (; moved < 3; moved++) {
            double kept = *at, got;

            *at = kept * factor;
            if (at == &h->noise && *at < NOISE_MIN) {
                *at = kept;
                break;
            }
            got = posterior(s, h);
            if (!(got > *best)) {
                *at = kept;
                break;
            }
            *best = got;
        }
        if (moved > 0)
            break;
    }
}

static void search_run(struct search *s, struct gp_hyper *h)
{
    static const double steps[SWEEPS] = { 2.0, M_SQRT2 };
    double *coord[COORDS_MAX], best = posterior(s, h);
    size_t n = list_coords(s->shape, h, coord);

    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t i = 0; i < n; i++)
            climb(s, h, coord[i], steps[sweep], &best);
}

void gp_fit(const struct gp_shape *shape, const struct gp_prior *prior, const struct gp_data *data,
            size_t n_data, struct gp_hyper *hyper)
{
    struct search s = { .shape = shape, .prior = prior, .n_sets = n_data };
    size_t most = 2;

    s.sets = xcalloc(n_data, sizeof(*s.sets));
    for (size_t i = 0; i < n_data; i++) {
        if (data[i].n >= 2)
            pairs_fill(&s.sets[i], shape, &data[i]);
        most = MAX(most, data[i].n);
    }
    s.d2 = xmalloc(most * most / 2 * sizeof(*s.d2));
    s.k = xmalloc(most * most / 2 * sizeof(*s.k));
    s.matrix = xcalloc(most * most, sizeof(*s.matrix));
    s.a = xmalloc(most * sizeof(*s.a));
    s.b = xmalloc(most * sizeof(*s.b));
    search_run(&s, hyper);
    for (size_t i = 0; i < n_data; i++) {
        free(s.sets[i].param);
        free(s.sets[i].score);
    }
    free(s.sets);
    free(s.d2);
    free(s.k);
    free(s.matrix);
    free(s.a);
    free(s.b);
}
