/* SPDX-License-Identifier: Apache-2.0 */
/* Whole programs from memory, as a search keeps them; see gifts.h. */
#include "search/gifts.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/search.h"

/* ---- The fold ---- */

void gifts_release(struct gifts *g)
{
    for (size_t i = 0; i < g->n; i++)
        json_decref(g->v[i].assignment);
    json_decref(g->plans);
    memset(g, 0, sizeof(*g));
}

static int parse_gift(const json_t *j, bool live, struct gift *out, struct err *err)
{
    *out = (struct gift){ .similarity = jsonx_num(j, "similarity", 0),
                          .objective_q = jsonx_int(j, "objective_q", 0),
                          .live = live };
    if (!json_is_object(json_object_get(j, "assignment")) ||
        !str_copy(out->program.hex, sizeof(out->program.hex), jsonx_str(j, "program", "")) ||
        !str_copy(out->here.hex, sizeof(out->here.hex), jsonx_str(j, "here", "")) ||
        !str_copy(out->from, sizeof(out->from), jsonx_str(j, "from", "")) || !out->from[0] ||
        !str_copy(out->evaluation.hex, sizeof(out->evaluation.hex), jsonx_str(j, "evaluation", "")))
        return err_set(err, ERR_CORRUPT, "a stored program from memory is damaged");
    out->assignment = json_deep_copy(json_object_get(j, "assignment"));
    return 0;
}

/* A free place, or that of what was taken or is of least use. */
static struct gift *place_of(struct gifts *g)
{
    struct gift *least = &g->v[0];

    if (g->n < GIFTS_MAX)
        return &g->v[g->n++];
    for (size_t i = 0; i < g->n; i++) {
        if (g->v[i].taken)
            least = &g->v[i];
        else if (!least->taken && g->v[i].similarity < least->similarity)
            least = &g->v[i];
    }
    json_decref(least->assignment);
    return least;
}

int gifts_apply(struct gifts *g, const json_t *list, bool live, struct err *err)
{
    const json_t *v;
    size_t i;

    json_array_foreach (list, i, v) {
        struct gift gift;

        if (parse_gift(v, live, &gift, err) != 0)
            return -1;
        *place_of(g) = gift;
    }
    return 0;
}

void gifts_apply_cycle(struct gifts *g, const json_t *ev)
{
    const char *evaluation = jsonx_str(ev, "gift", "");

    for (size_t i = 0; evaluation[0] && i < g->n; i++)
        if (strcmp(g->v[i].evaluation.hex, evaluation) == 0)
            g->v[i].taken = true;
}

bool gifts_steered(const struct search *s, uint32_t node)
{
    return node < WORLD_NODES_MAX && s->gifts.steered[node / 8] >> (node % 8) & 1;
}

void gifts_note_nodes(struct search *s, const json_t *ev, uint32_t from)
{
    bool used = strcmp(jsonx_str(ev, "type", ""), "used") == 0;
    const struct call *c = used ? calls_get(&s->calls, (uint64_t)jsonx_int(ev, "call", 0)) : NULL;

    for (uint32_t i = from; i < MIN(world_count(s->world), (uint32_t)WORLD_NODES_MAX); i++) {
        const struct world_node *n = world_get(s->world, i);
        bool steered = n->graft.search[0] != '\0' ||
                       (c != NULL ? json_array_size(c->told) > 0
                                  : n->parent != WORLD_NONE && gifts_steered(s, n->parent));

        if (steered)
            s->gifts.steered[i / 8] |= (uint8_t)(1u << (i % 8));
    }
}

/* ---- Look-ups ---- */

const struct gift *gifts_of_program(const struct search *s, uint32_t program)
{
    const struct program *p = search_program_record(s, program);

    for (size_t i = 0; p != NULL && p->from[0] && i < s->gifts.n; i++)
        if (strcmp(s->gifts.v[i].here.hex, p->id.hex) == 0)
            return &s->gifts.v[i];
    return NULL;
}

/* Donors of plans, each once. */
static void plan_seeds(const json_t *plans, json_t *seeds)
{
    const json_t *v;
    size_t i, k;

    json_array_foreach (plans, i, v) {
        const char *search = jsonx_str(v, "search", "");
        json_t *seed = NULL, *there;

        json_array_foreach (seeds, k, there)
            if (strcmp(jsonx_str(there, "plan", ""), search) == 0)
                seed = there;
        if (seed == NULL) {
            seed =
                json_pack("{s:s, s:s, s:f, s:i}", "plan", search, "from", jsonx_str(v, "from", ""),
                          "similarity", jsonx_num(v, "similarity", 0), "nodes", 0);
            json_array_append_new(seeds, seed);
        }
        json_object_set_new(seed, "nodes", json_integer(jsonx_int(seed, "nodes", 0) + 1));
    }
}

void gifts_seeds(const struct search *s, json_t *seeds)
{
    for (size_t i = 0; i < s->gifts.n; i++) {
        const struct gift *g = &s->gifts.v[i];
        json_t *seed = json_pack("{s:s, s:s, s:f, s:O, s:f}", "program", g->evaluation.hex, "from",
                                 g->from, "similarity", g->similarity, "assignment", g->assignment,
                                 "objective_there", exp(1e-6 * (double)g->objective_q));

        if (g->live)
            json_object_set_new(seed, "live", json_true());
        json_array_append_new(seeds, seed);
    }
    plan_seeds(s->gifts.plans, seeds);
}
