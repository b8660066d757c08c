/* SPDX-License-Identifier: Apache-2.0 */
/* The engine as a fold over observations: options, sources, counters, the arms' shares; see
 * engine.h. */
#include "search/engine.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/engine_impl.h"

#define SCORE_FLOOR (-8.0)
#define SCORE_DISCOUNT 0.97
#define SHARE_LEAST 0.10
#define SHARE_RANGE 0.80
#define SHARE_BIAS 2.0 /* how far the memory-free model must lead before it gets half */

static int check_options(struct engine_options *o, struct err *err)
{
    if (o->pool_full == 0)
        o->pool_full = 12000;
    if (o->pool_cap == 0)
        o->pool_cap = 6000;
    if (o->pool_cap < 256 || o->pool_cap > 65536)
        return err_set(err, ERR_INVALID, "pool_cap is %zu, but must be from 256 to 65536",
                       o->pool_cap);
    if (o->pool_full > 65536)
        return err_set(err, ERR_INVALID, "pool_full is %zu, but must be at most 65536",
                       o->pool_full);
    return 0;
}

int engine_new(const struct space *space, const struct engine_options *options, struct engine **out,
               struct err *err)
{
    struct engine_options checked = *options;
    struct engine *e;

    if (check_options(&checked, err) != 0)
        return -1;
    e = xcalloc(1, sizeof(*e));
    e->space = space;
    e->options = checked;
    e->best = INFINITY;
    e->slowest = -INFINITY;
    encoding_init(&e->enc, space);
    rowset_init(&e->seen, space);
    *out = e;
    return 0;
}

void engine_free(struct engine *e)
{
    if (e == NULL)
        return;
    models_release(e);
    pool_release(e);
    for (size_t s = 0; s < e->n_sources; s++)
        source_release(&e->sources[s]);
    encoding_release(&e->enc);
    rowset_release(&e->seen);
    free(e->obs);
    free(e->obs_a);
    free(e->obs_x);
    free(e->obs_z);
    free(e);
}

/* ---- sources ---- */

static int check_source(const struct engine *e, const char *name, double weight, size_t n,
                        const uint16_t *a, const double *log_time, struct err *err)
{
    size_t good = 0;

    if (e->options.cold)
        return err_set(err, ERR_CONFLICT, "source '%s': a cold engine reads nothing from memory",
                       name);
    if (e->started)
        return err_set(err, ERR_CONFLICT, "source '%s' comes after the first observation", name);
    if (e->n_sources == ENGINE_SOURCES_MAX)
        return err_set(err, ERR_LIMIT, "more than %d sources", ENGINE_SOURCES_MAX);
    if (n > ENGINE_RECORDS_MAX)
        return err_set(err, ERR_LIMIT, "source '%s' has %zu records, at most %d are allowed", name,
                       n, ENGINE_RECORDS_MAX);
    if (!(weight > 0.0) || !isfinite(weight))
        return err_set(err, ERR_INVALID, "the weight of source '%s' is %g, but must be positive",
                       name, weight);
    for (size_t i = 0; i < n; i++) {
        if (isinf(log_time[i]))
            return err_set(err, ERR_INVALID, "record %zu of source '%s' has an infinite time", i,
                           name);
        if (space_check(e->space, a + i * space_n(e->space), err) != 0)
            return err_ctx(err, "record %zu of source '%s'", i, name);
        good += !isnan(log_time[i]);
    }
    if (good == 0)
        return err_set(err, ERR_INVALID, "source '%s' has no record that succeeded", name);
    return 0;
}

int engine_add_source(struct engine *e, const char *name, double weight, size_t n,
                      const uint16_t *a, const double *log_time, struct err *err)
{
    if (check_source(e, name, weight, n, a, log_time, err) != 0)
        return -1;
    source_init(&e->sources[e->n_sources++], e->space, name, weight, n, a, log_time);
    return 0;
}

size_t engine_sources(const struct engine *e)
{
    return e->n_sources;
}

double engine_hypothesis(const struct engine *e, size_t h, const char **name)
{
    double w[GP_MEANS_MAX] = { 1.0 };

    *name = h == 0 || h > e->n_sources ? "mean of all sources" : e->sources[h - 1].name;
    if (e->warm.on)
        model_weights(e, &e->warm, w);
    else if (e->n_sources > 1 && e->started)
        memcpy(w, e->prior, sizeof(w));
    return h < GP_MEANS_MAX ? w[h] : 0.0;
}

/* ---- the fold ---- */

/* Candidates and models are made once the sources are complete. */
static int start(struct engine *e, struct err *err)
{
    if (e->started)
        return 0;
    if (pool_start(e, err) != 0)
        return -1;
    models_init(e);
    e->share = SHARE_LEAST;
    e->started = true;
    return 0;
}

static void store(struct engine *e, const uint16_t *a, double y, enum engine_arm arm)
{
    const size_t width = space_n(e->space), d = engine_columns(e), i = e->n_obs++;
    struct batch b;
    bool added;
    long at;

    e->obs = xgrow(e->obs, &e->obs_room, e->n_obs, sizeof(*e->obs));
    e->obs_a = xgrow(e->obs_a, &e->obs_a_room, e->n_obs * width, sizeof(*e->obs_a));
    e->obs_x = xgrow(e->obs_x, &e->obs_x_room, e->n_obs * d + 1, sizeof(*e->obs_x));
    e->obs_z = xgrow(e->obs_z, &e->obs_z_room, e->n_obs, sizeof(*e->obs_z));
    e->obs[i] = (struct observation){ y, arm };
    memcpy(e->obs_a + i * width, a, width * sizeof(*a));
    batch_make(e, 1, a, &b);
    memcpy(e->obs_x + i * d, b.cols, d * sizeof(*b.cols));
    e->obs_z[i] = b.zmean ? b.zmean[0] : 0.0f;
    batch_release(&b);
    rowset_add(&e->seen, a, &added);
    at = rowset_find(&e->pool, a);
    if (at >= 0)
        e->taken[at] = 1;
    if (isnan(y))
        return;
    e->n_good++;
    e->best = MIN(e->best, y);
    e->slowest = MAX(e->slowest, y);
}

/* Both models stated a density for this measurement before it was known. */
static void score_models(struct engine *e, const uint16_t *a, double y)
{
    double cold, warm;

    if (!e->cold.on || !e->warm.on || e->n_good == 0)
        return;
    cold = model_score(e, &e->cold, a, isnan(y) ? e->cold.imputed : y);
    warm = model_score(e, &e->warm, a, isnan(y) ? e->warm.imputed : y);
    e->score_cold = SCORE_DISCOUNT * e->score_cold + MAX(cold, SCORE_FLOOR);
    e->score_warm = SCORE_DISCOUNT * e->score_warm + MAX(warm, SCORE_FLOOR);
    e->share =
        SHARE_LEAST + SHARE_RANGE / (1.0 + exp(-(e->score_cold - e->score_warm - SHARE_BIAS)));
}

/* How the debt to the memory-free arm changes when evaluation n (counting from 1) was given to
 * `arm`. */
static double due_after(const struct engine *e, double due, size_t n, enum engine_arm arm)
{
    if (e->n_sources == 0)
        return 0.0;
    if (arm == ENGINE_ARM_COLD)
        due = MAX(due - 1.0, 0.0);
    if (n + 1 >= ARM_FROM)
        due = MIN(due + e->share, 2.0);
    return due;
}

static long pending_find(const struct engine *e, const uint16_t *a)
{
    for (size_t i = 0; i < e->n_pending; i++)
        if (memcmp(e->pending[i].a, a, space_n(e->space) * sizeof(*a)) == 0)
            return (long)i;
    return -1;
}

/* Sets what depends on the pending set: the believed observations and the arms' debt. */
static void believe_again(struct engine *e)
{
    models_believe(e);
    e->pending_due = e->due;
    for (size_t i = 0; i < e->n_pending; i++)
        e->pending_due = due_after(e, e->pending_due, e->n_obs + i + 1, e->pending[i].arm);
}

static void pending_remove(struct engine *e, const uint16_t *a)
{
    long at = pending_find(e, a);

    if (at < 0)
        return;
    e->n_pending--;
    memmove(&e->pending[at], &e->pending[at + 1],
            (e->n_pending - (size_t)at) * sizeof(*e->pending));
    at = rowset_find(&e->pool, a);
    if (at >= 0)
        e->taken[at] = rowset_find(&e->seen, a) >= 0;
}

int engine_observe(struct engine *e, const uint16_t *a, double log_time, enum engine_arm arm,
                   struct err *err)
{
    if (isinf(log_time))
        return err_set(err, ERR_INVALID, "an observation has an infinite log time");
    if (arm < 0 || arm >= ENGINE_ARM_COUNT)
        return err_set(err, ERR_INVALID, "%d is no arm", (int)arm);
    if (space_check(e->space, a, err) != 0 || start(e, err) != 0)
        return -1;
    models_unbelieve(e);
    pending_remove(e, a);
    score_models(e, a, log_time);
    store(e, a, log_time, arm);
    e->due = due_after(e, e->due, e->n_obs, arm);
    models_observe(e);
    believe_again(e);
    return 0;
}

size_t engine_observed(const struct engine *e)
{
    return e->n_obs;
}

bool engine_seen(const struct engine *e, const uint16_t *a)
{
    return rowset_find(&e->seen, a) >= 0 || pending_find(e, a) >= 0;
}

int engine_pending(struct engine *e, const uint16_t *a, enum engine_arm arm, struct err *err)
{
    struct pending *p;
    long at;

    if (space_check(e->space, a, err) != 0 || start(e, err) != 0)
        return -1;
    if (e->n_pending == ENGINE_PENDING_MAX)
        return err_set(err, ERR_LIMIT, "more than %d assignments are pending", ENGINE_PENDING_MAX);
    if (engine_seen(e, a))
        return err_set(err, ERR_CONFLICT, "the assignment has been observed or is pending already");
    models_unbelieve(e);
    p = &e->pending[e->n_pending++];
    *p = (struct pending){ .arm = arm };
    memcpy(p->a, a, space_n(e->space) * sizeof(*a));
    at = rowset_find(&e->pool, a);
    if (at >= 0)
        e->taken[at] = 1;
    believe_again(e);
    return 0;
}

void engine_pending_drop(struct engine *e, const uint16_t *a)
{
    if (pending_find(e, a) < 0)
        return;
    models_unbelieve(e);
    pending_remove(e, a);
    believe_again(e);
}

int engine_predict(struct engine *e, const uint16_t *a, double *mean, double *sd, struct err *err)
{
    const struct model *m = e->warm.on ? &e->warm : &e->cold;
    double var;

    if (space_check(e->space, a, err) != 0)
        return -1;
    if (!m->on)
        return err_set(err, ERR_NOT_FOUND, "there is no model yet after %zu observations",
                       e->n_obs);
    model_predict(e, m, a, mean, &var);
    *sd = sqrt(var);
    return 0;
}

int engine_propose(struct engine *e, const uint16_t *pattern, struct engine_proposal *out,
                   struct err *err)
{
    if (start(e, err) != 0)
        return -1;
    return propose(e, pattern, out, err);
}
