/* SPDX-License-Identifier: Apache-2.0 */
/* What a trial asks of the evaluator; see evaluation.h. */
#include "sched/evaluation.h"

#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "conf.h"
#include "sched/runner.h"

/* Build macros of an assignment as the evaluator wants them; `holder` keeps the strings. */
static size_t assignment_defines(const struct search *s, const struct trial *t, json_t **holder,
                                 struct eval_define *out)
{
    const char *name;
    json_t *value;
    size_t n = 0;

    *holder = space_defines(trial_space(s, t), t->a);
    json_object_foreach (*holder, name, value)
        if (n < EVAL_DEFINES_MAX)
            out[n++] = (struct eval_define){ name, json_string_value(value) };
    return n;
}

/* A trial's program with its build settings; borrows from the search, `defines` and `holder`. */
static struct eval_program program_of(const struct search *s, const struct trial *t,
                                      struct eval_define *defines, json_t **holder)
{
    const char *source = search_program_source(s, t->program);
    size_t n = assignment_defines(s, t, holder, defines);

    return (struct eval_program){ source, strlen(source), defines, n };
}

/* Digests of all objects that this search measured with success; they live as long as its trials.
 * Owned array. */
static const char **known_objects(const struct search *s, size_t *n)
{
    const char **known = xcalloc(s->n_trials + 1, sizeof(*known));

    *n = 0;
    for (size_t i = 0; i < s->n_trials && *n < EVAL_KNOWN_MAX; i++) {
        const struct trial *t = s->trials[i];

        if (t->measured && t->ok && t->same_as == 0 && t->object[0])
            known[(*n)++] = t->object;
    }
    return known;
}

int evaluation_start(struct runner *r, bool duel, eval_done_fn *done, struct err *err)
{
    struct daemon *d = r->owner->daemon;
    struct search *s = r->search;
    struct trial *checked = holdout_open_trial(s);
    struct trial *t = checked ? checked : search_open_trial(s);
    struct trial *champion = search_trial(s, s->champion);
    const struct pack_definition *def = packs_find(d->packs, s->spec.task);
    struct eval_define mine[EVAL_DEFINES_MAX], his[EVAL_DEFINES_MAX];
    json_t *holder = NULL, *his_holder = NULL;
    struct rng rng = rng_derive(s->spec.seed,
                                duel      ? "duel"
                                : checked ? "holdout"
                                          : "measure",
                                t->n * 8 + (duel      ? r->duelled_twice
                                            : checked ? s->holdout.tries
                                                      : t->tries));
    struct eval_request req = {
        .pack = def ? def->pack : NULL,
        .definition = s->spec.task,
        .set = checked ? s->spec.holdout : s->spec.set,
        .device = s->spec.device,
        .seed = rng_u64(&rng),
        .threads = (uint32_t)d->conf->eval_threads,
        .read_gbs = s->scope.read_gbs,
        .fma_gflops = s->scope.fma_gflops,
        .march = s->scope.march,
        .limits = eval_default_limits(),
        .timing = { (uint32_t)d->conf->pairs_min, (uint32_t)d->conf->pairs_max,
                    d->conf->timing_budget_s },
    };
    CLEANUP(freep) const char **known = NULL;
    uint64_t start = d->clock->mono_ns(d->clock);
    int rc;

    if (s->recorded) {
        holder = space_to_json(trial_space(s, t), t->a);
        his_holder = duel ? space_to_json(trial_space(s, champion), champion->a) : NULL;
        req.assignment = holder;
        req.champion_assignment = his_holder;
    } else {
        req.candidate = program_of(s, t, mine, &holder);
    }
    if (duel && !s->recorded) {
        req.champion = program_of(s, champion, his, &his_holder);
    }
    if (!duel && !checked) {
        r->seed = req.seed;
        req.known = known = known_objects(s, &req.n_known);
    }
    rc = evaluator_start(d->evaluator, &req, done, r, &r->job, err);
    json_decref(holder);
    json_decref(his_holder);
    r->start_ns += d->clock->mono_ns(d->clock) - start;
    return rc;
}

void evaluation_keep(const struct eval_result *from, const json_t *record, struct eval_result *to)
{
    struct err err;

    if (from->status == EVAL_INFRASTRUCTURE)
        eval_result_fail(to, EVAL_INFRASTRUCTURE, from->definition ? from->definition : "",
                         from->set ? from->set : "", from->message);
    else if (eval_result_from_json((json_t *)record, to, &err) != 0)
        eval_result_fail(to, EVAL_INFRASTRUCTURE, from->definition, from->set, err.msg);
}
