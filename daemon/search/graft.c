/* SPDX-License-Identifier: Apache-2.0 */
/* Plans from memory; see graft.h. */
#include "search/graft.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- The donor: a search on a source's task and device, with the best objective ---- */

struct donor {
    const struct memory_source *source;
    char id[64];
    double objective;
};

static int look_at_search(void *ctx, const char *key, const json_t *doc)
{
    struct donor *d = ctx;
    double objective = jsonx_num(doc, "best_objective", 0);

    if (strcmp(jsonx_str(doc, "state", ""), "done") == 0 &&
        strcmp(jsonx_str(doc, "task", ""), d->source->task) == 0 &&
        strcmp(jsonx_str(doc, "device", ""), d->source->device) == 0 && objective > d->objective) {
        str_copy(d->id, sizeof(d->id), key);
        d->objective = objective;
    }
    return 0;
}

struct world_fold {
    struct world *world;
    struct err err;
    bool failed;
};

static int fold_edit(void *ctx, uint64_t seq, const json_t *event)
{
    struct world_fold *f = ctx;
    const json_t *j = json_object_get(event, "edit");
    struct world_edit e;

    (void)seq;
    if (j == NULL)
        return 0;
    f->failed = world_edit_from_json(j, &e, &f->err) != 0;
    if (f->failed)
        return 1;
    f->failed = world_apply(f->world, &e, NULL, &f->err) != 0;
    world_edit_release(&e);
    return f->failed;
}

/* ---- Copying ---- */

struct grafter {
    const struct space *space;
    const struct world *from;
    const struct donor *donor;
    double similarity;
    double best_log; /* donor's best objective */
    uint32_t next_id;
    struct world_edit *edit;
    size_t copied;
};

/* All commitments must name parameters and values that this space has. */
static bool fits_space(const struct grafter *g, const struct world_node *n)
{
    for (size_t i = 0; i < n->n_commitments; i++) {
        int p = space_find(g->space, n->commitments[i].param);

        if (p < 0 || space_value_find(g->space, (size_t)p, n->commitments[i].value) < 0)
            return false;
    }
    return true;
}

/* Beliefs are lowered by distance: a plan from a farther task is less of a promise. */
static void copy_node(struct grafter *g, const struct world_node *n, const char *parent,
                      char id[WORLD_ID_MAX + 1])
{
    struct world_op *op = world_edit_add(g->edit, WORLD_OP_INSERT, parent);
    struct world_spec *s = &op->spec;
    double there = 1e-6 * (double)n->evidence.objective_q;
    CLEANUP(freep)
    char *why = str_printf("Reached %.2fx the baseline in search %s (similarity %.2f).", exp(there),
                           g->donor->id, g->similarity);

    snprintf(id, WORLD_ID_MAX + 1, "n%u", g->next_id++);
    world_spec_text(s, WORLD_SET_ID, id);
    world_spec_kind(s, WORLD_DECISION);
    world_spec_text(s, WORLD_SET_DECISION, n->decision);
    world_spec_text(s, WORLD_SET_CHOICE, n->choice);
    world_spec_text(s, WORLD_SET_TITLE, n->action.title);
    world_spec_text(s, WORLD_SET_DESCRIPTION, n->action.description);
    world_spec_text(s, WORLD_SET_RATIONALE, why);
    world_spec_number(s, WORLD_SET_RATING, n->rating * g->similarity);
    world_spec_number(s, WORLD_SET_CONFIDENCE, n->confidence * g->similarity);
    world_spec_number(s, WORLD_SET_DIFFICULTY, 2);
    world_spec_number(s, WORLD_SET_SCORE,
                      fmin(1, g->similarity * exp(fmin(0, there - g->best_log))));
    world_spec_number(s, WORLD_SET_EXPECTED, there);
    world_spec_number(s, WORLD_SET_EXPECTED_SD, 0.1 + 0.3 * (1 - g->similarity));
    for (size_t i = 0; i < n->n_commitments; i++)
        world_spec_commit(s, n->commitments[i].param, n->commitments[i].value);
    world_spec_graft(s, g->donor->id, NULL, g->similarity, true);
    g->copied++;
}

/* The decisions on the path from below the root to the donor's best node, as open nodes. */
static void copy_best_path(struct grafter *g)
{
    uint32_t path[WORLD_DEPTH_MAX + 1], n = 0, at = world_best(g->from);
    char parent[WORLD_ID_MAX + 1] = WORLD_ROOT_ID, id[WORLD_ID_MAX + 1];

    if (at == WORLD_NONE)
        return;
    for (; at != 0 && n <= WORLD_DEPTH_MAX; at = world_get(g->from, at)->parent)
        path[n++] = at;
    g->best_log = 1e-6 * (double)world_get(g->from, world_best(g->from))->evidence.objective_q;
    while (n > 0) {
        const struct world_node *node = world_get(g->from, path[--n]);

        if (node->kind != WORLD_DECISION || !fits_space(g, node))
            return;
        copy_node(g, node, parent, id);
        memcpy(parent, id, sizeof(parent));
    }
}

/* Dead ends right below the root stay dead, with the reason and where it was found out. */
static void copy_dead_ends(struct grafter *g)
{
    uint32_t at = world_get(g->from, 0)->first_child;
    size_t copied = 0;

    for (; at != WORLD_NONE && copied < GRAFT_DEAD_ENDS_MAX;
         at = world_get(g->from, at)->next_sibling) {
        const struct world_node *n = world_get(g->from, at);
        char id[WORLD_ID_MAX + 1];
        CLEANUP(freep) char *reason = NULL;

        if (n->state != WORLD_ABANDONED || n->kind != WORLD_DECISION || !fits_space(g, n))
            continue;
        copy_node(g, n, WORLD_ROOT_ID, id);
        reason = str_printf("dead end in search %s: %s", g->donor->id, n->reason);
        world_edit_abandon(g->edit, id, reason);
        copied++;
    }
}

int graft_plans(struct kb *kb, const struct memory *m, const struct space *space, uint32_t next_id,
                struct world_edit *edit, json_t *seeds, struct err *err)
{
    struct donor donor = { 0 };
    struct world_fold fold = { .world = world_new() };
    int rc = 0;

    for (size_t i = 0; i < m->n_sources && donor.id[0] == '\0' && rc == 0; i++) {
        donor = (struct donor){ .source = &m->sources[i] };
        rc = kb_each_doc(kb, KB_SEARCH, look_at_search, &donor, err);
    }
    if (rc == 0 && donor.id[0])
        rc = kb_each_event(kb, donor.id, 0, fold_edit, &fold, err);
    if (rc == 0 && fold.failed) {
        *err = fold.err;
        rc = err_ctx(err, "plan of search '%s'", donor.id);
    }
    if (rc == 0 && donor.id[0]) {
        struct grafter g = { .space = space,
                             .from = fold.world,
                             .donor = &donor,
                             .similarity = donor.source->similarity,
                             .next_id = next_id,
                             .edit = edit };

        copy_best_path(&g);
        copy_dead_ends(&g);
        if (g.copied > 0) {
            CLEANUP(freep)
            char *from = str_printf("%s@%s", donor.source->task, donor.source->device);

            json_array_append_new(seeds, json_pack("{s:s, s:s, s:f, s:I}", "plan", donor.id, "from",
                                                   from, "similarity", g.similarity, "nodes",
                                                   (json_int_t)g.copied));
        }
    }
    world_free(fold.world);
    return rc;
}
