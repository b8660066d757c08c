/* SPDX-License-Identifier: Apache-2.0 */
/* Events as watchers of a search see them; see notice.h. */
#include "sched/notice.h"

#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/search.h"

static const struct trial *trial_of_event(const struct search *s, const json_t *ev)
{
    return search_trial(s, (uint64_t)jsonx_int(ev, "evaluation", 0));
}

static void describe_trial(const struct search *s, const struct trial *t, json_t *n)
{
    json_object_set_new(n, "title", json_string(t->title));
    json_object_set_new(n, "why", json_string(t->why));
    json_object_set_new(n, "arm",
                        json_string(t->adopted[0]                 ? "adopted"
                                    : t->arm == ENGINE_ARM_MEMORY ? "memory"
                                                                  : "memory-free"));
    json_object_set_new(n, "assignment", space_to_json(trial_space(s, t), t->a));
    if (t->measured) {
        json_object_set_new(n, "objective",
                            t->ok ? json_real(exp(1e-6 * (double)t->objective_q)) : json_null());
        json_object_set_new(n, "best",
                            t->has_best ? json_real(exp(1e-6 * (double)t->best_q)) : json_null());
    }
    if (t->predicted)
        json_object_set_new(n, "predicted",
                            json_pack("{s:f, s:f, s:s}", "objective", exp(t->corrected_mean),
                                      "log_sd", t->corrected_sd, "source", t->source));
}

json_t *notice_of_event(const struct search *s, const json_t *ev)
{
    static const char *const hidden[] = { "edit",   "memory",   "calibration", "corrected",
                                          "choice", "feedback", "prompt",      "answer",
                                          "source", "space",    "gifts" };
    json_t *n = json_copy((json_t *)ev);
    const struct trial *t = trial_of_event(s, ev);
    char note[240];

    for (size_t i = 0; i < ARRAY_LEN(hidden); i++)
        json_object_del(n, hidden[i]);
    if (str_has_prefix(jsonx_str(ev, "type", ""), "holdout"))
        holdout_describe(s, n);
    else if (t != NULL)
        describe_trial(s, t, n);
    if (json_object_get(ev, "baseline_q") != NULL && drift_is_notable(&s->drift))
        json_object_set_new(n, "drift", json_string(drift_text(&s->drift, note, sizeof(note))));
    json_object_set_new(n, "budget",
                        json_pack("{s:I, s:I}", "evals", (json_int_t)s->spec.budget_evals, "spent",
                                  (json_int_t)search_measured(s)));
    return n;
}
