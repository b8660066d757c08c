/* SPDX-License-Identifier: Apache-2.0 */
/* The programs of a search; see programs.h. */
#include "search/programs.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "search/search.h"

static void program_release(struct program *p)
{
    free(p->source);
    free(p->note);
    free(p->from);
    json_decref(p->uses);
    json_decref(p->assignment);
    engine_free(p->engine);
    space_free(p->space);
    memset(p, 0, sizeof(*p));
}

void programs_release(struct programs *p)
{
    for (size_t i = 0; i < p->n; i++)
        program_release(&p->items[i]);
    free(p->items);
    memset(p, 0, sizeof(*p));
}

/* ---- Look-ups ---- */

uint32_t search_programs(const struct search *s)
{
    return (uint32_t)s->programs.n + 1;
}

const struct program *search_program_record(const struct search *s, uint32_t p)
{
    return p >= 1 && p <= s->programs.n ? &s->programs.items[p - 1] : NULL;
}

const struct space *search_program_space(const struct search *s, uint32_t p)
{
    const struct program *r = search_program_record(s, p);

    return r ? r->space : s->space;
}

const char *search_program_source(const struct search *s, uint32_t p)
{
    const struct program *r = search_program_record(s, p);

    return r ? r->source : s->source;
}

struct id search_program_id(const struct search *s, uint32_t p)
{
    const struct program *r = search_program_record(s, p);

    return r ? r->id : s->scope.program;
}

struct engine *search_program_engine(const struct search *s, uint32_t p)
{
    const struct program *r = search_program_record(s, p);

    return r ? r->engine : s->engine;
}

uint32_t search_program_find(const struct search *s, const struct id *id)
{
    for (uint32_t p = 0; p < search_programs(s); p++) {
        struct id other = search_program_id(s, p);

        if (strcmp(other.hex, id->hex) == 0)
            return p;
    }
    return PROGRAM_NONE;
}

const struct space *trial_space(const struct search *s, const struct trial *t)
{
    return search_program_space(s, t->program);
}

uint64_t search_program_best(const struct search *s, uint32_t p)
{
    const struct trial *best = NULL;

    for (uint64_t n = 1; n <= search_measured(s); n++) {
        const struct trial *t = search_trial(s, n);

        if (t->program == p && t->ok && (best == NULL || t->value_q > best->value_q))
            best = t;
    }
    return best ? best->n : 0;
}

uint64_t search_program_last(const struct search *s, uint32_t p)
{
    for (uint64_t n = search_measured(s); n >= 1; n--)
        if (search_trial(s, n)->program == p)
            return n;
    return 0;
}

/* ---- Documents ---- */

json_t *program_document(struct search_scope *scope, const char *source, json_t *space)
{
    char settings[160];
    json_auto_t *identity = NULL;
    struct err ignored;

    snprintf(settings, sizeof(settings), "-O3 -march=%s", scope->march ? scope->march : "native");
    identity = json_pack("{s:s, s:s, s:s}", "language", scope->language, "settings", settings,
                         "source", source);
    id_of_json(identity, &scope->program, &ignored);
    return json_pack("{s:s, s:s, s:s, s:s, s:O}", "language", scope->language, "settings", settings,
                     "source", source, "family", scope->family, "space", space);
}

/* ---- The fold ---- */

static int misfit(struct err *err, const struct search *s, const char *what)
{
    return err_set(err, ERR_CORRUPT, "event %llu of search '%s' does not fit: %s",
                   (unsigned long long)s->next_seq, s->spec.id, what);
}

/* An engine of its own: what one program's tunables do says nothing of another's. */
static int new_engine(const struct search *s, uint32_t number, struct program *p, struct err *err)
{
    struct rng rng = rng_derive(s->spec.seed, "program", number);
    struct engine_options o = { .seed = rng_u64(&rng), .cold = true };

    if (s->reading || space_n(p->space) == 0)
        return 0;
    return engine_new(p->space, &o, &p->engine, err);
}

static int read_program(const struct search *s, const json_t *ev, struct program *p,
                        struct err *err)
{
    p->parent = (uint32_t)jsonx_int(ev, "parent", -1);
    p->call = (uint64_t)jsonx_int(ev, "call", 0);
    p->source = xstrdup(jsonx_str(ev, "source", ""));
    p->note = xstrdup(jsonx_str(ev, "note", ""));
    p->from = xstrdup(jsonx_str(ev, "from", ""));
    p->has_expected = json_is_number(json_object_get(ev, "expected"));
    p->expected = jsonx_num(ev, "expected", 0);
    p->expected_sd = jsonx_num(ev, "expected_sd", 0);
    p->uses = json_incref(json_object_get(ev, "uses"));
    p->assignment = json_incref(json_object_get(ev, "assignment"));
    if (!str_copy(p->id.hex, sizeof(p->id.hex), jsonx_str(ev, "id", "")) ||
        !str_is_hex(p->id.hex, sizeof(p->id.hex) - 1))
        return misfit(err, s, "a program without a content address");
    if (space_parse(json_object_get(ev, "space"), "the stored space", &p->space, err) != 0)
        return -1;
    return new_engine(s, search_programs(s), p, err);
}

/* The lane that asked for it measures it next. */
static int give_to_lane(struct search *s, const json_t *ev, struct err *err)
{
    json_int_t lane = jsonx_int(ev, "lane", -1);

    if (lane < 0)
        return 0;
    if (lane >= LANES_MAX || !lane_in_cycle(&s->lanes[lane]))
        return misfit(err, s, "a program for a lane that wants none");
    s->lanes[lane].program = (uint32_t)jsonx_int(ev, "program", 0);
    s->lanes[lane].stage = LANE_MEASURE;
    s->lanes[lane].measured = 0;
    return 0;
}

int programs_apply(struct search *s, const json_t *ev, struct err *err)
{
    uint32_t number = (uint32_t)jsonx_int(ev, "program", 0);
    struct program p = { 0 };

    /* One that is known is only measured again, or further. */
    if (number < search_programs(s))
        return give_to_lane(s, ev, err);
    if (number != search_programs(s) || number >= PROGRAMS_MAX)
        return misfit(err, s, "a program out of order");
    if (read_program(s, ev, &p, err) != 0) {
        program_release(&p);
        return -1;
    }
    s->programs.items =
        xgrow(s->programs.items, &s->programs.cap, s->programs.n + 1, sizeof(struct program));
    s->programs.items[s->programs.n++] = p;
    return give_to_lane(s, ev, err);
}
