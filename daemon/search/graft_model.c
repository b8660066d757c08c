/* SPDX-License-Identifier: Apache-2.0 */
/* Plans from memory in plain words; see graft_model.h. */
#include "search/graft_model.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/graft.h"
#include "search/space.h"

enum {
    DESCRIPTION_MAX = 2000, /* bytes taken over */
    BODY_MAX = 3600,        /* of a description in all: a world's text is longer */
    PATH_TITLE_MAX = 100
};

struct copier {
    struct kb *kb;
    const struct graft_donor *donor;
    const struct world *from;
    double similarity, best_log;
    json_t *plans;
    size_t dead;
};

/* ---- Texts ---- */

/* A copy of at most `max` bytes that ends between characters. Owned. */
static char *cut(const char *text, size_t max)
{
    size_t n = strlen(text);
    char *copy;

    if (n > max) {
        n = max;
        while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
            n--;
    }
    copy = xmalloc(n + 1);
    memcpy(copy, text, n);
    copy[n] = '\0';
    return copy;
}

/* What a title says, whatever its case and punctuation: letters, digits and single blanks. Owned.
 */
static char *normal(const char *title)
{
    char *out = xmalloc(strlen(title) + 1);
    size_t n = 0;

    for (const unsigned char *c = (const unsigned char *)title; *c; c++) {
        bool keeps = isalnum(*c) || *c >= 0x80;

        if (keeps)
            out[n++] = (char)tolower(*c);
        else if (n > 0 && out[n - 1] != ' ')
            out[n++] = ' ';
    }
    if (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
    return out;
}

static bool says_same(const char *a, const char *b)
{
    CLEANUP(freep) char *x = normal(a);
    CLEANUP(freep) char *y = normal(b);

    return strcmp(x, y) == 0;
}

static bool is_known(const json_t *plans, const char *title)
{
    const json_t *v;
    size_t i;

    json_array_foreach (plans, i, v)
        if (says_same(jsonx_str(v, "title", ""), title))
            return true;
    return false;
}

/* ---- A node in words ---- */

/* The space of the program behind a node; NULL when it is not here or is a list of rows. */
static struct space *space_behind(const struct copier *c, const struct world_node *n)
{
    const char *program = n->evidence.program;
    json_auto_t *search = NULL, *doc = NULL;
    struct space *space = NULL;
    struct err ignored;

    if (program[0] == '\0') {
        if (kb_get_doc(c->kb, KB_SEARCH, c->donor->id, &search, &ignored) != 0)
            return NULL;
        program = jsonx_str(json_object_get(search, "scope"), "program", "");
    }
    if (kb_get_doc(c->kb, KB_PROGRAM, program, &doc, &ignored) != 0 ||
        json_object_get(doc, "source") == NULL ||
        space_parse(json_object_get(doc, "space"), "a program's space", &space, &ignored) != 0)
        return NULL;
    return space;
}

/* "- NAME = value: what it is; what the value is" */
static void add_setting(struct buf *b, const struct space *space, const char *name,
                        const char *value)
{
    int p = space ? space_find(space, name) : -1;
    const struct space_param *param = p >= 0 ? space_param(space, (size_t)p) : NULL;
    int v = param ? space_value_find(space, (size_t)p, value) : -1;

    buf_addf(b, "\n- %s = %s", name, value);
    if (param != NULL && param->help)
        buf_addf(b, ": %s", param->help);
    if (v >= 0 && param->values[v].help)
        buf_addf(b, "; %s: %s", value, param->values[v].help);
    if (param != NULL && param->technique)
        buf_addf(b, " (%s)", param->technique);
}

static void add_commitments(struct buf *b, const struct copier *c, uint32_t at,
                            const struct space *space)
{
    json_auto_t *all = world_commitments_to_json(c->from, at);
    const char *name;
    json_t *v;

    if (json_object_size(all) == 0)
        return;
    buf_addf(b, "%sIt was a program with tunables, set so:", b->len ? "\n" : "");
    json_object_foreach (all, name, v)
        if (json_is_string(v))
            add_setting(b, space, name, json_string_value(v));
}

/* The numbers that it was best with; as JSON, because they are many and secondary. */
static void add_numbers(struct buf *b, const char *assignment)
{
    if (assignment[0] && strcmp(assignment, "{}") != 0)
        buf_addf(b, "%sIts best measured tunables there: %s", b->len ? "\n" : "", assignment);
}

/* What it stood on: the titles above it. */
static void add_path(struct buf *b, const struct copier *c, uint32_t at)
{
    uint32_t path[WORLD_DEPTH_MAX + 1], n = 0;

    for (at = world_get(c->from, at)->parent; at != 0 && at != WORLD_NONE && n < WORLD_DEPTH_MAX;
         at = world_get(c->from, at)->parent)
        path[n++] = at;
    if (n == 0)
        return;
    buf_addf(b, "%sThere it came on top of: ", b->len ? "\n" : "");
    for (uint32_t i = n; i > 0; i--) {
        const struct world_node *up = world_get(c->from, path[i - 1]);
        CLEANUP(freep)
        char *title = cut(up->action.title[0] ? up->action.title : up->choice, PATH_TITLE_MAX);

        buf_addf(b, "%s%s", i < n ? "; then " : "", title);
    }
    buf_addf(b, ".");
}

/* NULL when nothing is said of it beyond its title. Owned. */
static char *describe(const struct copier *c, uint32_t at, const struct world_node *measured)
{
    const struct world_node *n = world_get(c->from, at);
    CLEANUP(buf_release) struct buf b = { .max = 64 << 10 };
    CLEANUP(freep) char *own = cut(n->action.description, DESCRIPTION_MAX);
    struct space *space;

    if (own[0] == '\0' && n->n_commitments == 0)
        return NULL;
    space = space_behind(c, measured);
    buf_addf(&b, "%s", own);
    add_commitments(&b, c, at, space);
    add_path(&b, c, at);
    add_numbers(&b, measured->evidence.assignment);
    space_free(space);
    return cut(buf_str(&b), BODY_MAX);
}

static char *rationale(const struct copier *c, const struct world_node *n, bool dead)
{
    const struct world_evidence *e = &n->evidence;

    if (dead)
        return str_printf("A dead end in a past search of a near task (similarity %.2f): %u "
                          "evaluation%s and %u cycle%s without success. %s",
                          c->similarity, e->attempts, e->attempts == 1 ? "" : "s", e->failed_cycles,
                          e->failed_cycles == 1 ? "" : "s", n->reason);
    return str_printf("Measured %.2fx the baseline in a past search of a near task (similarity "
                      "%.2f), %.0f %% of the best there, after %u evaluation%s. Not measured here.",
                      exp(1e-6 * (double)e->objective_q), c->similarity,
                      100 * exp(1e-6 * (double)e->objective_q - c->best_log), e->attempts,
                      e->attempts == 1 ? "" : "s");
}

/* ---- Copying ---- */

/* Beliefs are lowered by distance, as graft.c does it. */
static void believe(const struct copier *c, const struct world_node *n,
                    const struct world_node *measured, json_t *plan)
{
    double there = 1e-6 * (double)measured->evidence.objective_q;
    double score = fmin(1, c->similarity * exp(fmin(0, there - c->best_log)));

    json_object_set_new(plan, "rating", json_real(n->rating * c->similarity));
    json_object_set_new(plan, "confidence", json_real(n->confidence * c->similarity));
    json_object_set_new(plan, "difficulty", json_integer(n->action.difficulty));
    json_object_set_new(plan, "score", json_real(score));
    json_object_set_new(plan, "expected", json_real(there));
    json_object_set_new(plan, "expected_sd", json_real(0.1 + 0.3 * (1 - c->similarity)));
}

static void believe_dead(const struct copier *c, const struct world_node *n, json_t *plan)
{
    json_object_set_new(plan, "rating", json_real(1 - c->similarity));
    json_object_set_new(plan, "confidence", json_real(0.9 * c->similarity));
    json_object_set_new(plan, "difficulty", json_integer(GRAFT_DEAD_DIFFICULTY));
    json_object_set_new(plan, "score", json_real(0.3 * (1 - c->similarity)));
    if (c->similarity >= GRAFT_FORBIDS) {
        CLEANUP(freep)
        char *whole = str_printf("dead end in search %s: %s", c->donor->id, n->reason);
        CLEANUP(freep) char *why = cut(whole, WORLD_REASON_MAX);

        json_object_set_new(plan, "dead", json_string(why));
    }
}

/* `measured` is the node itself, or the leaf below it whose numbers were the best. */
static bool copy(struct copier *c, uint32_t at, const struct world_node *measured, bool dead)
{
    const struct world_node *n = world_get(c->from, at);
    const char *title = n->action.title[0] ? n->action.title : n->choice;
    CLEANUP(freep) char *text = describe(c, at, measured);
    CLEANUP(freep) char *whole = rationale(c, measured, dead);
    CLEANUP(freep) char *why = cut(whole, WORLD_TEXT_MAX);
    CLEANUP(freep)
    char *from = str_printf("%s@%s", c->donor->source->task, c->donor->source->device);
    json_t *plan;

    if (text == NULL || title[0] == '\0' || str_has_prefix(title, GRAFT_MODEL_ADOPTED) ||
        is_known(c->plans, title))
        return false;
    plan = json_pack("{s:s, s:s, s:s, s:s, s:s, s:f}", "title", title, "description", text,
                     "rationale", why, "search", c->donor->id, "from", from, "similarity",
                     c->similarity);
    if (dead)
        believe_dead(c, n, plan);
    else
        believe(c, n, measured, plan);
    return json_array_append_new(c->plans, plan) == 0;
}

/* The best node not looked at yet that came near the best of all. */
static uint32_t next_best(const struct copier *c, const bool *looked)
{
    uint32_t best = WORLD_NONE;

    for (uint32_t i = 1; i < world_count(c->from); i++) {
        const struct world_node *n = world_get(c->from, i);

        if (looked[i] || !world_is_solved(n) ||
            1e-6 * (double)n->evidence.objective_q < c->best_log - GRAFT_NEAR_BEST)
            continue;
        if (best == WORLD_NONE ||
            n->evidence.objective_q > world_get(c->from, best)->evidence.objective_q)
            best = i;
    }
    return best;
}

static void copy_plans(struct copier *c, size_t most)
{
    uint32_t best = world_best(c->from), at;
    bool *looked;

    if (best == WORLD_NONE)
        return;
    c->best_log = 1e-6 * (double)world_get(c->from, best)->evidence.objective_q;
    looked = xcalloc(world_count(c->from), sizeof(*looked));
    while (json_array_size(c->plans) < most && (at = next_best(c, looked)) != WORLD_NONE) {
        const struct world_node *n = world_get(c->from, at);

        looked[at] = true;
        if (n->kind == WORLD_LEAF)
            at = n->parent;
        if (at != 0)
            copy(c, at, n, false);
    }
    free(looked);
}

static void copy_dead_ends(struct copier *c)
{
    for (uint32_t i = 1; i < world_count(c->from) && c->dead < GRAFT_MODEL_DEAD_MAX &&
                         json_array_size(c->plans) < GRAFT_MODEL_NODES_MAX;
         i++) {
        const struct world_node *n = world_get(c->from, i);

        if (n->state == WORLD_ABANDONED && n->evidence.failed_cycles > 0)
            c->dead += copy(c, i, n, true);
    }
}

int graft_model_plans(struct kb *kb, const struct memory *m, json_t **out, struct err *err)
{
    struct graft_donor donors[MEMORY_SOURCES_MAX];
    struct copier c = { .kb = kb, .plans = json_array() };
    size_t n, taken = 0;
    int rc = graft_find_donors(kb, m, true, donors, &n, err);

    for (size_t i = 0; i < n && rc == 0 && taken < GRAFT_DONORS_MAX; i++) {
        struct world *world;

        if (donors[i].id[0] == '\0')
            continue;
        rc = graft_fold_world(kb, donors[i].id, &world, err);
        if (rc != 0)
            break;
        taken++;
        c.from = world;
        c.donor = &donors[i];
        c.similarity = donors[i].source->similarity;
        /* each donor gets its turn before the nearest one fills the list, and dead ends have room
         */
        copy_plans(&c, MIN((size_t)(2 + 2 * taken),
                           (size_t)GRAFT_MODEL_NODES_MAX - GRAFT_MODEL_DEAD_MAX + c.dead));
        copy_dead_ends(&c);
        world_free(world);
    }
    if (rc != 0) {
        json_decref(c.plans);
        return -1;
    }
    *out = c.plans;
    return 0;
}

/* ---- Planting ---- */

static bool is_there(const struct world *w, const char *title)
{
    for (uint32_t i = 1; i < world_count(w); i++)
        if (world_get(w, i)->parent == 0 && says_same(world_get(w, i)->action.title, title))
            return true;
    return false;
}

static bool is_planted(const struct world *w)
{
    for (uint32_t i = 1; i < world_count(w); i++)
        if (world_get(w, i)->graft.search[0])
            return true;
    return false;
}

static void plant(struct world_edit *edit, const char *id, const json_t *plan)
{
    static const struct {
        const char *name;
        unsigned field;
    } texts[] = { { "title", WORLD_SET_TITLE },
                  { "title", WORLD_SET_CHOICE },
                  { "description", WORLD_SET_DESCRIPTION },
                  { "rationale", WORLD_SET_RATIONALE } },
      numbers[] = {
          { "rating", WORLD_SET_RATING },         { "confidence", WORLD_SET_CONFIDENCE },
          { "difficulty", WORLD_SET_DIFFICULTY }, { "score", WORLD_SET_SCORE },
          { "expected", WORLD_SET_EXPECTED },     { "expected_sd", WORLD_SET_EXPECTED_SD }
      };
    struct world_spec *spec = &world_edit_add(edit, WORLD_OP_INSERT, WORLD_ROOT_ID)->spec;
    const char *dead = jsonx_str(plan, "dead", "");

    world_spec_text(spec, WORLD_SET_ID, id);
    world_spec_kind(spec, WORLD_DECISION);
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        world_spec_text(spec, texts[i].field, jsonx_str(plan, texts[i].name, ""));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        if (json_is_number(json_object_get(plan, numbers[i].name)))
            world_spec_number(spec, numbers[i].field, jsonx_num(plan, numbers[i].name, 0));
    world_spec_graft(spec, jsonx_str(plan, "search", ""), NULL, jsonx_num(plan, "similarity", 0),
                     true);
    if (dead[0])
        world_edit_abandon(edit, id, dead);
}

void graft_model_edit(const struct world *w, const json_t *plans, uint64_t round,
                      struct world_edit *edit)
{
    unsigned number = 0;
    const json_t *v;
    size_t i;

    world_edit_init(edit, WORLD_BY_SYSTEM, "graft", round);
    if (is_planted(w))
        return;
    json_array_foreach (plans, i, v) {
        char id[WORLD_ID_MAX + 1];

        if (is_there(w, jsonx_str(v, "title", "")))
            continue;
        do
            snprintf(id, sizeof(id), "plan%u", ++number);
        while (world_find(w, id) != WORLD_NONE);
        plant(edit, id, v);
    }
}
