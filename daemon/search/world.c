/* SPDX-License-Identifier: Apache-2.0 */
/* The tree itself: nodes, look-up tables, queries and the check of its invariants; see world.h. */
#include "search/world.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/world_priv.h"

static const char *const kind_names[WORLD_KIND_COUNT] = { "root", "decision", "leaf" };
static const char *const state_names[WORLD_STATE_COUNT] = { "open", "closed", "abandoned" };

const char *world_kind_name(enum world_kind kind)
{
    return kind_names[kind];
}

const char *world_state_name(enum world_state state)
{
    return state_names[state];
}

/* ---- Look-up tables ---- */

/* FNV-1a, 64 bits. */
static uint64_t hash_text(uint64_t h, const char *s)
{
    for (; *s; s++)
        h = (h ^ (uint8_t)*s) * 0x100000001b3ull;
    return h;
}

static uint64_t hash_id(const char *id)
{
    return hash_text(0xcbf29ce484222325ull, id);
}

static uint64_t hash_title(uint32_t parent, const char *normalised)
{
    return hash_text(0xcbf29ce484222325ull ^ ((uint64_t)parent + 1) * 0x9e3779b97f4a7c15ull,
                     normalised);
}

static void table_place(struct world_table *t, uint64_t hash, uint32_t index)
{
    size_t i = hash & (t->cap - 1);

    while (t->slots[i].index != WORLD_NONE)
        i = (i + 1) & (t->cap - 1);
    t->slots[i] = (struct world_slot){ hash, index };
    t->n++;
}

static void table_add(struct world_table *t, uint64_t hash, uint32_t index)
{
    if (2 * (t->n + 1) > t->cap) {
        struct world_table bigger = { .cap = t->cap ? 2 * t->cap : 64 };

        bigger.slots = xmalloc(bigger.cap * sizeof(*bigger.slots));
        for (size_t i = 0; i < bigger.cap; i++)
            bigger.slots[i].index = WORLD_NONE;
        for (size_t i = 0; i < t->cap; i++) {
            if (t->slots[i].index != WORLD_NONE)
                table_place(&bigger, t->slots[i].hash, t->slots[i].index);
        }
        free(t->slots);
        *t = bigger;
    }
    table_place(t, hash, index);
}

static void table_remove(struct world_table *t, uint64_t hash, uint32_t index)
{
    size_t mask = t->cap - 1, hole, i;

    if (t->cap == 0)
        return;
    for (hole = hash & mask; t->slots[hole].index != index; hole = (hole + 1) & mask) {
        if (t->slots[hole].index == WORLD_NONE)
            return;
    }
    /* Moves back whatever could not be found any more with a hole before it. */
    for (i = (hole + 1) & mask; t->slots[i].index != WORLD_NONE; i = (i + 1) & mask) {
        size_t home = t->slots[i].hash & mask;

        if (((i - home) & mask) >= ((i - hole) & mask)) {
            t->slots[hole] = t->slots[i];
            hole = i;
        }
    }
    t->slots[hole].index = WORLD_NONE;
    t->n--;
}

uint32_t world_find(const struct world *w, const char *id)
{
    uint64_t hash = hash_id(id);
    const struct world_table *t = &w->ids;

    for (size_t i = hash & (t->cap - 1); t->slots[i].index != WORLD_NONE;
         i = (i + 1) & (t->cap - 1)) {
        if (t->slots[i].hash == hash && strcmp(w->nodes[t->slots[i].index]->id, id) == 0)
            return t->slots[i].index;
    }
    return WORLD_NONE;
}

void world_title_normalise(const char *title, char *out)
{
    size_t n = 0;

    for (; *title && n < WORLD_LABEL_MAX; title++) {
        unsigned char c = (unsigned char)*title;

        if (isalnum(c) || c >= 0x80)
            out[n++] = (char)tolower(c);
        else if (n > 0 && out[n - 1] != ' ')
            out[n++] = ' ';
    }
    if (n > 0 && out[n - 1] == ' ')
        n--;
    out[n] = '\0';
}

uint32_t world_find_title(const struct world *w, uint32_t parent, const char *title)
{
    char want[WORLD_LABEL_MAX + 1], have[WORLD_LABEL_MAX + 1];
    const struct world_table *t = &w->titles;
    uint64_t hash;

    world_title_normalise(title, want);
    if (want[0] == '\0' || t->cap == 0)
        return WORLD_NONE;
    hash = hash_title(parent, want);
    for (size_t i = hash & (t->cap - 1); t->slots[i].index != WORLD_NONE;
         i = (i + 1) & (t->cap - 1)) {
        const struct world_node *n = w->nodes[t->slots[i].index];

        if (t->slots[i].hash != hash || n->parent != parent)
            continue;
        world_title_normalise(n->action.title, have);
        if (strcmp(want, have) == 0)
            return n->index;
    }
    return WORLD_NONE;
}

/* False when the node has no title worth a place in the table. */
static bool title_hash(const struct world_node *n, uint64_t *out)
{
    char normalised[WORLD_LABEL_MAX + 1];

    world_title_normalise(n->action.title, normalised);
    *out = hash_title(n->parent, normalised);
    return normalised[0] != '\0';
}

void world_title_forget(struct world *w, uint32_t index)
{
    uint64_t hash;

    if (title_hash(w->nodes[index], &hash))
        table_remove(&w->titles, hash, index);
}

void world_title_learn(struct world *w, uint32_t index)
{
    uint64_t hash;

    if (title_hash(w->nodes[index], &hash))
        table_add(&w->titles, hash, index);
}

/* ---- Nodes ---- */

struct world_node *world_node_new(void)
{
    struct world_node *n = xcalloc(1, sizeof(*n));
    char **texts[] = { &n->decision,
                       &n->choice,
                       &n->impacts,
                       &n->notes,
                       &n->reason,
                       &n->action.title,
                       &n->graft.search,
                       &n->action.description,
                       &n->graft.insight,
                       &n->action.rationale,
                       &n->evidence.assignment };

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        *texts[i] = xstrdup("");
    n->parent = n->first_child = n->last_child = WORLD_NONE;
    n->prev_sibling = n->next_sibling = WORLD_NONE;
    n->kind = WORLD_DECISION;
    n->action.difficulty = 3;
    return n;
}

void world_node_release(struct world_node *n)
{
    free(n->decision);
    free(n->choice);
    free(n->impacts);
    free(n->notes);
    free(n->reason);
    free(n->action.title);
    free(n->action.description);
    free(n->action.rationale);
    free(n->evidence.assignment);
    free(n->graft.search);
    free(n->graft.insight);
    for (size_t i = 0; i < n->n_commitments; i++) {
        free(n->commitments[i].param);
        free(n->commitments[i].value);
    }
    free(n->commitments);
}

void world_node_free(struct world_node *n)
{
    if (n == NULL)
        return;
    world_node_release(n);
    free(n);
}

void world_node_copy(struct world_node *to, const struct world_node *from)
{
    *to = *from;
    to->decision = xstrdup(from->decision);
    to->choice = xstrdup(from->choice);
    to->impacts = xstrdup(from->impacts);
    to->notes = xstrdup(from->notes);
    to->reason = xstrdup(from->reason);
    to->action.title = xstrdup(from->action.title);
    to->action.description = xstrdup(from->action.description);
    to->action.rationale = xstrdup(from->action.rationale);
    to->evidence.assignment = xstrdup(from->evidence.assignment);
    to->graft.search = xstrdup(from->graft.search);
    to->graft.insight = xstrdup(from->graft.insight);
    to->commitments =
        from->n_commitments ? xcalloc(from->n_commitments, sizeof(*to->commitments)) : NULL;
    for (size_t i = 0; i < from->n_commitments; i++) {
        to->commitments[i].param = xstrdup(from->commitments[i].param);
        to->commitments[i].value = xstrdup(from->commitments[i].value);
    }
}

size_t world_node_bytes(const struct world_node *n)
{
    size_t bytes = sizeof(*n) + strlen(n->decision) + strlen(n->choice) + strlen(n->impacts) +
                   strlen(n->notes) + strlen(n->reason) + strlen(n->action.title) +
                   strlen(n->action.description) + strlen(n->action.rationale) +
                   strlen(n->evidence.assignment) + strlen(n->graft.search) +
                   strlen(n->graft.insight);

    for (size_t i = 0; i < n->n_commitments; i++)
        bytes += sizeof(n->commitments[i]) + strlen(n->commitments[i].param) +
                 strlen(n->commitments[i].value);
    return bytes;
}

void world_append(struct world *w, struct world_node *n)
{
    n->index = w->n;
    w->nodes = xgrow(w->nodes, &w->cap, (size_t)w->n + 1, sizeof(struct world_node *));
    w->saved_in = xgrow(w->saved_in, &w->saved_cap, (size_t)w->n + 1, sizeof(uint64_t));
    w->saved_in[n->index] = 0;
    w->nodes[w->n++] = n;
    w->bytes += world_node_bytes(n);
    if (n->parent != WORLD_NONE) {
        struct world_node *p = w->nodes[n->parent];

        n->depth = p->depth + 1;
        n->prev_sibling = p->last_child;
        if (p->last_child != WORLD_NONE)
            w->nodes[p->last_child]->next_sibling = n->index;
        else
            p->first_child = n->index;
        p->last_child = n->index;
        p->n_children++;
    }
    table_add(&w->ids, hash_id(n->id), n->index);
    world_title_learn(w, n->index);
}

void world_pop(struct world *w)
{
    struct world_node *n = w->nodes[w->n - 1], *p = w->nodes[n->parent];

    world_title_forget(w, n->index);
    table_remove(&w->ids, hash_id(n->id), n->index);
    p->last_child = n->prev_sibling;
    if (n->prev_sibling != WORLD_NONE)
        w->nodes[n->prev_sibling]->next_sibling = WORLD_NONE;
    else
        p->first_child = WORLD_NONE;
    p->n_children--;
    w->bytes -= world_node_bytes(n);
    w->n--;
    world_node_free(n);
}

struct world *world_new(void)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct world_node *root = world_node_new();

    root->kind = WORLD_ROOT;
    str_copy(root->id, sizeof(root->id), WORLD_ROOT_ID);
    world_append(w, root);
    return w;
}

void world_free(struct world *w)
{
    if (w == NULL)
        return;
    for (uint32_t i = 0; i < w->n; i++)
        world_node_free(w->nodes[i]);
    free(w->nodes);
    free(w->saved_in);
    free(w->ids.slots);
    free(w->titles.slots);
    free(w);
}

/* ---- Queries ---- */

uint32_t world_count(const struct world *w)
{
    return w->n;
}

size_t world_bytes(const struct world *w)
{
    return w->bytes;
}

uint64_t world_revision(const struct world *w)
{
    return w->revision;
}

const struct world_node *world_get(const struct world *w, uint32_t index)
{
    assert(index < w->n);
    return w->nodes[index];
}

bool world_is_executable(const struct world *w, uint32_t index)
{
    const struct world_node *n = w->nodes[index];

    if (n->state != WORLD_OPEN || n->parent == WORLD_NONE || n->action.title[0] == '\0')
        return false;
    return n->parent == 0 || w->nodes[n->parent]->state == WORLD_CLOSED;
}

bool world_is_solved(const struct world_node *n)
{
    return n->state == WORLD_CLOSED && strcmp(n->evidence.status, "ok") == 0;
}

uint32_t world_best(const struct world *w)
{
    uint32_t best = WORLD_NONE;

    for (uint32_t i = 0; i < w->n; i++) {
        const struct world_node *n = w->nodes[i];

        if (world_is_solved(n) &&
            (best == WORLD_NONE || n->evidence.objective_q > w->nodes[best]->evidence.objective_q))
            best = i;
    }
    return best;
}

static const char *own_commitment(const struct world_node *n, const char *param)
{
    size_t lo = 0, hi = n->n_commitments;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        int order = strcmp(n->commitments[mid].param, param);

        if (order == 0)
            return n->commitments[mid].value;
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

const char *world_commitment(const struct world *w, uint32_t index, const char *param)
{
    const char *value = NULL;

    for (; index != WORLD_NONE && value == NULL; index = w->nodes[index]->parent)
        value = own_commitment(w->nodes[index], param);
    return value;
}

json_t *world_commitments_to_json(const struct world *w, uint32_t index)
{
    json_t *obj = json_object();

    for (; index != WORLD_NONE; index = w->nodes[index]->parent) {
        const struct world_node *n = w->nodes[index];

        for (size_t i = 0; i < n->n_commitments; i++)
            json_object_set_new(obj, n->commitments[i].param, json_string(n->commitments[i].value));
    }
    return obj;
}

uint32_t world_walk(const struct world *w, uint32_t top, uint32_t at)
{
    if (w->nodes[at]->first_child != WORLD_NONE)
        return w->nodes[at]->first_child;
    for (; at != top; at = w->nodes[at]->parent) {
        if (w->nodes[at]->next_sibling != WORLD_NONE)
            return w->nodes[at]->next_sibling;
    }
    return WORLD_NONE;
}

bool world_is_utf8(const char *s)
{
    const unsigned char *p = (const unsigned char *)s;

    while (*p) {
        unsigned n = *p < 0x80   ? 0
                     : *p < 0xc2 ? 9
                     : *p < 0xe0 ? 1
                     : *p < 0xf0 ? 2
                     : *p < 0xf5 ? 3
                                 : 9;

        if (n == 9 || (*p == 0xe0 && p[1] < 0xa0) || (*p == 0xed && p[1] > 0x9f) ||
            (*p == 0xf0 && p[1] < 0x90) || (*p == 0xf4 && p[1] > 0x8f))
            return false;
        for (p++; n > 0; n--, p++) {
            if ((*p & 0xc0) != 0x80)
                return false;
        }
    }
    return true;
}

/* ---- Invariants ---- */

static bool in_range(double v, double lo, double hi)
{
    return v >= lo && v <= hi; /* false for NaN */
}

/* I1 to I3: ids, the root, and the shape of the tree. */
static int check_shape(const struct world *w, const struct world_node *n, struct err *err)
{
    uint32_t children = 0, last = WORLD_NONE;

    if (!str_is_name(n->id) || strlen(n->id) > WORLD_ID_MAX || world_find(w, n->id) != n->index)
        return err_set(err, ERR_INTERNAL, "I1: the id of node %u is malformed or not unique",
                       n->index);
    if ((n->index == 0) != (n->kind == WORLD_ROOT) || (n->index == 0) != (n->parent == WORLD_NONE))
        return err_set(err, ERR_INTERNAL, "I2: node '%s' is a second root", n->id);
    if (n->index != 0 && (n->parent >= n->index || n->depth != w->nodes[n->parent]->depth + 1 ||
                          n->depth > WORLD_DEPTH_MAX || w->nodes[n->parent]->kind == WORLD_LEAF))
        return err_set(err, ERR_INTERNAL, "I3: node '%s' hangs from a wrong parent", n->id);
    for (uint32_t c = n->first_child; c != WORLD_NONE; c = w->nodes[c]->next_sibling) {
        if (c >= w->n || w->nodes[c]->parent != n->index || w->nodes[c]->prev_sibling != last ||
            ++children > n->n_children)
            return err_set(err, ERR_INTERNAL, "I3: the children of '%s' are mislinked", n->id);
        last = c;
    }
    if (children != n->n_children || last != n->last_child)
        return err_set(err, ERR_INTERNAL, "I3: the children of '%s' are miscounted", n->id);
    if (n->action.title[0] && n->index != 0 &&
        world_find_title(w, n->parent, n->action.title) != n->index) {
        char normalised[WORLD_LABEL_MAX + 1];

        world_title_normalise(n->action.title, normalised);
        if (normalised[0])
            return err_set(err, ERR_INTERNAL, "I1: the title of '%s' is not unique", n->id);
    }
    return 0;
}

static int check_numbers(const struct world_node *n, struct err *err)
{
    const struct world_action *a = &n->action;

    if (!in_range(n->rating, 0, 10) || !in_range(n->confidence, 0, 1) ||
        !in_range(a->score, 0, 1) || a->difficulty < 1 || a->difficulty > 5 ||
        !in_range(n->graft.similarity, 0, 1))
        return err_set(err, ERR_INTERNAL, "I4: a belief of node '%s' is out of range", n->id);
    if (a->has_expected ? !isfinite(a->expected) || !in_range(a->expected_sd, 0, 100)
                        : a->expected != 0 || a->expected_sd != 0)
        return err_set(err, ERR_INTERNAL, "I4: the expectation of node '%s' is malformed", n->id);
    return 0;
}

/* I5 and I6 as far as one state shows them: evidence and state agree. */
static int check_state(const struct world *w, const struct world_node *n, struct err *err)
{
    const struct world_node *p = n->index ? w->nodes[n->parent] : NULL;
    bool closed = n->state == WORLD_CLOSED;

    if (closed != (n->evidence.program[0] != '\0') || closed != (n->evidence.evaluation != 0))
        return err_set(err, ERR_INTERNAL, "I5: evidence and state of node '%s' disagree", n->id);
    if (closed && !str_is_hex(n->evidence.program, WORLD_PROGRAM_HEX))
        return err_set(err, ERR_INTERNAL, "I5: the program of node '%s' is not an id", n->id);
    if (closed && p && n->parent != 0 && p->state != WORLD_CLOSED)
        return err_set(err, ERR_INTERNAL, "I6: node '%s' is closed above an open parent", n->id);
    if (p && p->state == WORLD_ABANDONED && n->state != WORLD_ABANDONED)
        return err_set(err, ERR_INTERNAL, "I6: node '%s' lives below an abandoned one", n->id);
    if ((n->state == WORLD_ABANDONED) != (n->reason[0] != '\0'))
        return err_set(err, ERR_INTERNAL, "I6: node '%s' and its reason disagree", n->id);
    return 0;
}

static int check_commitments(const struct world *w, const struct world_node *n, struct err *err)
{
    for (size_t i = 0; i < n->n_commitments; i++) {
        const struct world_commitment *c = &n->commitments[i];
        const char *above = n->index ? world_commitment(w, n->parent, c->param) : NULL;

        if (i > 0 && strcmp(n->commitments[i - 1].param, c->param) >= 0)
            return err_set(err, ERR_INTERNAL, "I3: commitments of '%s' are not sorted", n->id);
        if (above && strcmp(above, c->value) != 0)
            return err_set(err, ERR_INTERNAL, "I3: node '%s' contradicts its path", n->id);
    }
    return 0;
}

int world_check(const struct world *w, struct err *err)
{
    size_t bytes = 0;

    if (w->n < 1 || w->n > WORLD_NODES_MAX)
        return err_set(err, ERR_INTERNAL, "I8: %u nodes, the cap is %d", w->n, WORLD_NODES_MAX);
    for (uint32_t i = 0; i < w->n; i++) {
        const struct world_node *n = w->nodes[i];

        if (n->index != i)
            return err_set(err, ERR_INTERNAL, "I1: node '%s' is out of place", n->id);
        if (check_shape(w, n, err) != 0 || check_numbers(n, err) != 0 ||
            check_state(w, n, err) != 0 || check_commitments(w, n, err) != 0)
            return -1;
        bytes += world_node_bytes(n);
    }
    if (bytes != w->bytes || bytes > WORLD_BYTES_MAX)
        return err_set(err, ERR_INTERNAL, "I8: %zu bytes counted as %zu, the cap is %d", bytes,
                       w->bytes, WORLD_BYTES_MAX);
    return 0;
}
