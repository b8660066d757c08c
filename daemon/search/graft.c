/* SPDX-License-Identifier: Apache-2.0 */
/* Plans from memory; see graft.h. */
#include "search/graft.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- Donors: the best finished search of each of the nearest sources ---- */

struct donors {
    size_t n;
    struct graft_donor *v;
    bool imported;
};

static int look_at_search(void *ctx, const char *key, const json_t *doc)
{
    struct donors *all = ctx;
    double objective = jsonx_num(doc, "best_objective", 0);

    if (strcmp(jsonx_str(doc, "state", ""), "done") != 0 ||
        (json_object_get(doc, "origin") != NULL && !all->imported))
        return 0;
    for (size_t i = 0; i < all->n; i++) {
        struct graft_donor *d = &all->v[i];

        if (strcmp(jsonx_str(doc, "task", ""), d->source->task) != 0 ||
            strcmp(jsonx_str(doc, "device", ""), d->source->device) != 0 ||
            objective <= d->objective)
            continue;
        str_copy(d->id, sizeof(d->id), key);
        d->objective = objective;
    }
    return 0;
}

int graft_find_donors(struct kb *kb, const struct memory *m, bool imported, struct graft_donor *out,
                      size_t *n, struct err *err)
{
    struct donors all = { .v = out, .imported = imported };

    for (size_t i = 0; i < m->n_sources; i++)
        out[all.n++] = (struct graft_donor){ .source = &m->sources[i] };
    *n = all.n;
    return kb_each_doc(kb, KB_SEARCH, look_at_search, &all, err);
}

/* ---- A donor's tree ---- */

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

/* A node of the new tree, or of this edit, by what it decides under which parent. */
struct grafted {
    char parent[WORLD_ID_MAX + 1], id[WORLD_ID_MAX + 1];
    char *key, *title; /* commitments as text, action; owned */
    bool dead;         /* nothing can be put below it */
};

struct grafter {
    const struct space *space;
    struct world_edit *edit;
    uint32_t next_id;
    size_t n, cap;
    struct grafted *nodes; /* of all donors */
    /* of the present donor */
    const struct world *from;
    const struct graft_donor *donor;
    double similarity;
    double best_log; /* donor's best objective */
    size_t copied, merged, dead;
    char (*ids)[WORLD_ID_MAX + 1]; /* [world_count(from)] what its nodes are here; "" not copied */
};

static void grafted_release(struct grafted *n)
{
    free(n->key);
    free(n->title);
}

/* All commitments must name parameters and values that this space has. */
static bool fits_space(const struct grafter *g, const struct world_node *n)
{
    for (size_t i = 0; i < n->n_commitments; i++) {
        int p = space_find(g->space, n->commitments[i].param);

        if (p < 0 || space_value_find(g->space, (size_t)p, n->commitments[i].value) < 0)
            return false;
    }
    return n->n_commitments > 0;
}

static char *key_of(const struct world_node *n)
{
    struct buf b = { .max = 64 << 10 };

    for (size_t i = 0; i < n->n_commitments; i++)
        buf_addf(&b, "%s=%s;", n->commitments[i].param, n->commitments[i].value);
    return buf_take(&b);
}

/* The node that decides the same under the same parent; NULL when there is none yet. */
static const struct grafted *find_grafted(const struct grafter *g, const char *parent,
                                          const char *key)
{
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->nodes[i].parent, parent) == 0 && strcmp(g->nodes[i].key, key) == 0)
            return &g->nodes[i];
    return NULL;
}

/* Titles tell the children of a node apart: another decision of the same name has no place. */
static bool is_title_taken(const struct grafter *g, const char *parent, const char *title)
{
    for (size_t i = 0; i < g->n; i++)
        if (strcmp(g->nodes[i].parent, parent) == 0 && strcasecmp(g->nodes[i].title, title) == 0)
            return true;
    return false;
}

/* Beliefs are lowered by distance: a plan from a farther task is less of a promise. A dead end is
 * a score near nothing. */
static void believe(const struct grafter *g, const struct world_node *n, bool dead,
                    struct world_spec *s)
{
    double there = 1e-6 * (double)n->evidence.objective_q;

    if (dead) {
        world_spec_number(s, WORLD_SET_RATING, 1 - g->similarity);
        world_spec_number(s, WORLD_SET_CONFIDENCE, 0.9 * g->similarity);
        world_spec_number(s, WORLD_SET_DIFFICULTY, GRAFT_DEAD_DIFFICULTY);
        world_spec_number(s, WORLD_SET_SCORE, 0.3 * (1 - g->similarity));
        return;
    }
    world_spec_number(s, WORLD_SET_RATING, n->rating * g->similarity);
    world_spec_number(s, WORLD_SET_CONFIDENCE, n->confidence * g->similarity);
    world_spec_number(s, WORLD_SET_DIFFICULTY, 2);
    world_spec_number(s, WORLD_SET_SCORE,
                      fmin(1, g->similarity * exp(fmin(0, there - g->best_log))));
    world_spec_number(s, WORLD_SET_EXPECTED, there);
    world_spec_number(s, WORLD_SET_EXPECTED_SD, 0.1 + 0.3 * (1 - g->similarity));
}

/* What is known of it there: the evidence goes along. */
static char *rationale(const struct grafter *g, const struct world_node *n, bool dead)
{
    if (dead)
        return str_printf("A dead end in search %s (similarity %.2f) after %u evaluation%s and %u "
                          "cycle%s without success: %s",
                          g->donor->id, g->similarity, n->evidence.attempts,
                          n->evidence.attempts == 1 ? "" : "s", n->evidence.failed_cycles,
                          n->evidence.failed_cycles == 1 ? "" : "s", n->reason);
    return str_printf("Reached %.2fx the baseline in search %s (similarity %.2f, %u evaluation%s "
                      "there).",
                      exp(1e-6 * (double)n->evidence.objective_q), g->donor->id, g->similarity,
                      n->evidence.attempts, n->evidence.attempts == 1 ? "" : "s");
}

static const struct grafted *insert(struct grafter *g, const struct world_node *n,
                                    const char *parent, char *key, bool dead)
{
    struct world_spec *s = &world_edit_add(g->edit, WORLD_OP_INSERT, parent)->spec;
    CLEANUP(freep) char *why = rationale(g, n, dead);
    struct grafted *made;

    g->nodes = xgrow(g->nodes, &g->cap, g->n + 1, sizeof(*g->nodes));
    made = &g->nodes[g->n++];
    *made = (struct grafted){ .key = key, .title = xstrdup(n->action.title), .dead = dead };
    str_copy(made->parent, sizeof(made->parent), parent);
    snprintf(made->id, sizeof(made->id), "n%u", g->next_id++);
    world_spec_text(s, WORLD_SET_ID, made->id);
    world_spec_kind(s, WORLD_DECISION);
    world_spec_text(s, WORLD_SET_DECISION, n->decision);
    world_spec_text(s, WORLD_SET_CHOICE, n->choice);
    world_spec_text(s, WORLD_SET_TITLE, n->action.title);
    world_spec_text(s, WORLD_SET_DESCRIPTION, n->action.description);
    world_spec_text(s, WORLD_SET_RATIONALE, why);
    believe(g, n, dead, s);
    for (size_t i = 0; i < n->n_commitments; i++)
        world_spec_commit(s, n->commitments[i].param, n->commitments[i].value);
    world_spec_graft(s, g->donor->id, NULL, g->similarity, true);
    return made;
}

/*
 * Puts a node of the donor below what its parent became here, or finds it there: donors that agree
 * share a node, the nearest one's beliefs stay. False when it has no place.
 */
static bool copy_node(struct grafter *g, uint32_t at, bool dead)
{
    const struct world_node *n = world_get(g->from, at);
    const char *parent = n->parent == 0 ? WORLD_ROOT_ID : g->ids[n->parent];
    const struct grafted *there;
    char *key;

    if (n->kind != WORLD_DECISION || parent[0] == '\0' || !fits_space(g, n))
        return false;
    key = key_of(n);
    there = find_grafted(g, parent, key);
    if (there != NULL) {
        free(key);
        g->merged++;
    } else {
        if (g->copied + g->dead >= GRAFT_NODES_MAX || is_title_taken(g, parent, n->action.title)) {
            free(key);
            return false;
        }
        there = insert(g, n, parent, key, dead);
        if (dead)
            g->dead++;
        else
            g->copied++;
    }
    if (!there->dead)
        str_copy(g->ids[at], sizeof(g->ids[at]), there->id);
    return !there->dead;
}

/* ---- What is worth copying ---- */

/* The path down to a node, from below the root; false when a part of it has no place here. */
static bool copy_path(struct grafter *g, uint32_t at)
{
    uint32_t path[WORLD_DEPTH_MAX + 1], n = 0;

    for (; at != 0 && n <= WORLD_DEPTH_MAX; at = world_get(g->from, at)->parent)
        path[n++] = at;
    while (n > 0)
        if (!g->ids[path[--n]][0] && !copy_node(g, path[n], false))
            return false;
    return true;
}

/* The best node of those not looked at yet; leaves are numbers, which plans leave open. */
static uint32_t next_best(const struct grafter *g, const bool *looked)
{
    uint32_t best = WORLD_NONE;

    for (uint32_t i = 1; i < world_count(g->from); i++) {
        const struct world_node *n = world_get(g->from, i);

        if (looked[i] || !world_is_solved(n) ||
            1e-6 * (double)n->evidence.objective_q < g->best_log - GRAFT_NEAR_BEST)
            continue;
        if (best == WORLD_NONE ||
            n->evidence.objective_q > world_get(g->from, best)->evidence.objective_q)
            best = i;
    }
    return best;
}

/* The sub-tree of the structures that came near the best. */
static void copy_plans(struct grafter *g)
{
    uint32_t best = world_best(g->from), at;
    bool *looked;

    if (best == WORLD_NONE)
        return;
    looked = xcalloc(world_count(g->from), sizeof(*looked));
    g->best_log = 1e-6 * (double)world_get(g->from, best)->evidence.objective_q;
    while ((at = next_best(g, looked)) != WORLD_NONE && g->copied < GRAFT_NODES_MAX / 2) {
        looked[at] = true;
        if (world_get(g->from, at)->kind == WORLD_LEAF)
            at = world_get(g->from, at)->parent;
        copy_path(g, at);
    }
    free(looked);
}

/*
 * Dead ends at any depth below what was copied. One of a near task on a device of the same class is
 * dead here too; from farther away it only makes the same choice unlikely.
 */
static void copy_dead_ends(struct grafter *g)
{
    for (uint32_t i = 1; i < world_count(g->from) && g->dead < GRAFT_DEAD_ENDS_MAX; i++) {
        const struct world_node *n = world_get(g->from, i);
        size_t before = g->dead;
        CLEANUP(freep) char *reason = NULL;

        if (n->state != WORLD_ABANDONED || n->evidence.failed_cycles == 0)
            continue;
        copy_node(g, i, true);
        if (g->dead == before || g->similarity < GRAFT_FORBIDS)
            continue;
        reason = str_printf("dead end in search %s: %s", g->donor->id, n->reason);
        world_edit_abandon(g->edit, g->nodes[g->n - 1].id, reason);
    }
}

int graft_fold_world(struct kb *kb, const char *search, struct world **out, struct err *err)
{
    struct world_fold fold = { .world = world_new() };
    int rc = kb_each_event(kb, search, 0, fold_edit, &fold, err);

    if (rc == 0 && fold.failed) {
        *err = fold.err;
        rc = err_ctx(err, "plan of search '%s'", search);
    }
    if (rc != 0) {
        world_free(fold.world);
        return -1;
    }
    *out = fold.world;
    return 0;
}

static int graft_donor(struct kb *kb, struct grafter *g, const struct graft_donor *d, json_t *seeds,
                       struct err *err)
{
    CLEANUP(freep) char *from = str_printf("%s@%s", d->source->task, d->source->device);
    struct world *world;

    if (graft_fold_world(kb, d->id, &world, err) != 0)
        return -1;
    g->from = world;
    g->donor = d;
    g->similarity = d->source->similarity;
    g->copied = g->merged = g->dead = 0;
    g->ids = xcalloc(world_count(world), sizeof(*g->ids));
    copy_plans(g);
    copy_dead_ends(g);
    if (g->copied + g->merged + g->dead > 0)
        json_array_append_new(
            seeds, json_pack("{s:s, s:s, s:f, s:I, s:I, s:I}", "plan", d->id, "from", from,
                             "similarity", g->similarity, "nodes", (json_int_t)g->copied, "merged",
                             (json_int_t)g->merged, "dead_ends", (json_int_t)g->dead));
    free(g->ids);
    world_free(world);
    return 0;
}

int graft_plans(struct kb *kb, const struct memory *m, const struct space *space, uint32_t next_id,
                struct world_edit *edit, json_t *seeds, struct err *err)
{
    struct grafter g = { .space = space, .next_id = next_id, .edit = edit };
    struct graft_donor donors[MEMORY_SOURCES_MAX];
    size_t n, taken = 0;
    int rc = graft_find_donors(kb, m, false, donors, &n, err);

    for (size_t i = 0; i < n && rc == 0 && taken < GRAFT_DONORS_MAX; i++)
        if (donors[i].id[0]) {
            rc = graft_donor(kb, &g, &donors[i], seeds, err);
            taken++;
        }
    for (size_t i = 0; i < g.n; i++)
        grafted_release(&g.nodes[i]);
    free(g.nodes);
    return rc;
}
