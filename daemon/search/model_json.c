/* SPDX-License-Identifier: Apache-2.0 */
/* What is told of a language model's part in a search: programs, lanes, calls; see search.h. */
#include <math.h>

#include "search/search.h"

static json_t *tunables_json(const struct space *space)
{
    json_t *names = json_array();

    for (size_t p = 0; p < space_n(space); p++)
        json_array_append_new(names, json_string(space_param(space, p)->name));
    return names;
}

static json_t *program_json(const struct search *s, uint32_t p)
{
    const struct program *r = search_program_record(s, p);
    const struct trial *best = search_trial(s, search_program_best(s, p));
    const struct trial *last = search_trial(s, search_program_last(s, p));
    const struct call *c = r ? calls_get(&s->calls, r->call) : NULL;
    json_t *o =
        json_pack("{s:I, s:s, s:s, s:s, s:s, s:o}", "program", (json_int_t)p, "id",
                  search_program_id(s, p).hex, "note", r ? r->note : "what the search began with",
                  "from", r ? r->from : "", "model", c ? c->model : "", "tunables",
                  tunables_json(search_program_space(s, p)));
    size_t n = 0;

    for (uint64_t i = 1; i <= search_measured(s); i++)
        n += search_trial(s, i)->program == p;
    json_object_set_new(o, "parent",
                        r && r->parent != PROGRAM_NONE ? json_integer((json_int_t)r->parent)
                                                       : json_null());
    json_object_set_new(o, "evaluations", json_integer((json_int_t)n));
    json_object_set_new(o, "objective",
                        best ? json_real(exp(1e-6 * (double)best->value_q)) : json_null());
    json_object_set_new(o, "status",
                        json_string(best   ? "ok"
                                    : last ? last->status
                                           : "not measured"));
    json_object_set_new(o, "node", json_string(best ? best->node : last ? last->node : ""));
    return o;
}

static json_t *lane_json(const struct search *s, unsigned i)
{
    static const char *const stages[LANE_STAGE_COUNT] = { "closed",  "to write", "writing",
                                                          "measure", "to tell",  "telling" };
    const struct lane *l = &s->lanes[i];

    return json_pack("{s:i, s:s, s:s, s:I, s:i, s:i, s:b, s:s}", "lane", (int)i, "stage",
                     stages[l->stage], "node", l->node, "cycle", (json_int_t)l->cycle, "programs",
                     (int)l->rounds, "evaluations", (int)l->measured, "memory_free", l->memory_free,
                     "note", l->note ? l->note : "");
}

static json_t *waiting_json(const struct search *s)
{
    json_t *waiting = json_array();
    const struct call *c = NULL;
    uint64_t after = 0;

    while ((c = calls_unanswered(&s->calls, after)) != NULL) {
        after = c->n;
        json_array_append_new(waiting,
                              json_pack("{s:I, s:s, s:i, s:i, s:i}", "call", (json_int_t)c->n,
                                        "kind", call_kind_name(c->kind), "lane", c->lane, "try",
                                        (int)c->attempt, "lost", (int)c->lost));
    }
    return waiting;
}

json_t *search_model_json(const struct search *s)
{
    json_t *programs, *lanes;

    if (!search_has_model(s))
        return json_null();
    programs = json_array();
    lanes = json_array();
    for (uint32_t p = 0; p < search_programs(s); p++)
        json_array_append_new(programs, program_json(s, p));
    for (unsigned i = 0; i < LANES_MAX; i++)
        if (s->lanes[i].stage != LANE_CLOSED)
            json_array_append_new(lanes, lane_json(s, i));
    return json_pack("{s:s, s:O, s:o, s:o, s:o, s:I}", "summary", s->summary, "questions",
                     s->questions, "programs", programs, "lanes", lanes, "waiting", waiting_json(s),
                     "calls", (json_int_t)s->calls.n);
}
