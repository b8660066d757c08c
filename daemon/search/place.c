/* SPDX-License-Identifier: Apache-2.0 */
/* Where an assignment belongs in the tree; see place.h. */
#include "search/place.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"
#include "base/mem.h"
#include "base/str.h"

void place_pattern(const struct search *s, uint32_t node, uint16_t *pattern)
{
    for (size_t p = 0; p < space_n(s->space); p++) {
        const char *v = world_commitment(s->world, node, space_param(s->space, p)->name);
        int i = v ? space_value_find(s->space, p, v) : -1;

        pattern[p] = i < 0 ? SPACE_ANY : (uint16_t)i;
    }
}

/* ---- Where it belongs in the tree ---- */

static const char *value_text(const struct search *s, size_t p, uint16_t v)
{
    return space_param(s->space, p)->values[v].text;
}

/* The child of `parent` that decides parameter p as value v; WORLD_NONE when there is none. */
static uint32_t child_deciding(const struct search *s, uint32_t parent, size_t p, uint16_t v)
{
    const char *name = space_param(s->space, p)->name;
    uint32_t c = world_get(s->world, parent)->first_child;

    for (; c != WORLD_NONE; c = world_get(s->world, c)->next_sibling) {
        const struct world_node *n = world_get(s->world, c);

        if (n->kind == WORLD_DECISION && n->n_commitments == 1 &&
            strcmp(n->commitments[0].param, name) == 0 &&
            strcmp(n->commitments[0].value, value_text(s, p, v)) == 0)
            return c;
    }
    return WORLD_NONE;
}

/*
 * "KV_TILE=64 UNROLL=4 ..." of the parameters that the path does not settle yet. Titles tell
 * siblings apart: one too long to say everything ends in a hash of the whole.
 */
static char *leaf_title(const struct search *s, uint32_t parent, const uint16_t *a)
{
    struct buf b = { .max = WORLD_LABEL_MAX - 20 };
    char hash[20];

    for (size_t p = 0; p < space_n(s->space); p++) {
        const struct space_param *param = space_param(s->space, p);

        if (param->n_values < 2 || world_commitment(s->world, parent, param->name) != NULL)
            continue;
        if (buf_addf(&b, "%s%s=%s", b.len ? " " : "", param->name, param->values[a[p]].text) != 0) {
            b.max = WORLD_LABEL_MAX;
            snprintf(hash, sizeof(hash), " #%016llx", (unsigned long long)space_hash(s->space, a));
            buf_addf(&b, "%s", hash);
            break;
        }
    }
    return buf_take(&b);
}

/* A leaf for this assignment that waits already; WORLD_NONE when there is none. */
static uint32_t open_leaf(const struct search *s, uint32_t parent, const uint16_t *a)
{
    CLEANUP(freep) char *title = leaf_title(s, parent, a);
    uint32_t c = world_get(s->world, parent)->first_child;

    for (; c != WORLD_NONE; c = world_get(s->world, c)->next_sibling) {
        const struct world_node *n = world_get(s->world, c);

        if (n->kind == WORLD_LEAF && n->state == WORLD_OPEN && strcmp(n->action.title, title) == 0)
            return c;
    }
    return WORLD_NONE;
}

struct place place_find(const struct search *s, const uint16_t *a)
{
    uint32_t at = 0;

    for (size_t p = 0; p < space_n(s->space); p++) {
        uint32_t child;

        if (space_param(s->space, p)->role != SPACE_STRUCTURAL ||
            space_param(s->space, p)->n_values < 2)
            continue;
        child = child_deciding(s, at, p, a[p]);
        if (child == WORLD_NONE)
            return (struct place){ WORLD_NONE, at, (int)p };
        switch (world_get(s->world, child)->state) {
        case WORLD_OPEN:
            return (struct place){ child, at, (int)p };
        case WORLD_ABANDONED:
            return (struct place){ open_leaf(s, at, a), at, -1 };
        case WORLD_CLOSED:
        case WORLD_STATE_COUNT:
            break;
        }
        at = child;
    }
    return (struct place){ open_leaf(s, at, a), at, -1 };
}

static void describe_decision(const struct search *s, struct world_spec *spec, size_t p, uint16_t v)
{
    const struct space_param *param = space_param(s->space, p);
    const char *help = param->values[v].help ? param->values[v].help : param->help;
    CLEANUP(freep)
    char *title = str_printf("%s: %s=%s", param->technique ? param->technique : "tuning",
                             param->name, param->values[v].text);

    world_spec_kind(spec, WORLD_DECISION);
    world_spec_text(spec, WORLD_SET_DECISION, param->name);
    world_spec_text(spec, WORLD_SET_CHOICE, param->values[v].text);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    world_spec_text(spec, WORLD_SET_DESCRIPTION, help ? help : "");
    world_spec_commit(spec, param->name, param->values[v].text);
}

static void describe_leaf(const struct search *s, struct world_spec *spec, uint32_t parent,
                          const uint16_t *a)
{
    CLEANUP(freep) char *title = leaf_title(s, parent, a);

    world_spec_kind(spec, WORLD_LEAF);
    world_spec_text(spec, WORLD_SET_DECISION, "numeric assignment");
    world_spec_text(spec, WORLD_SET_CHOICE, title);
    world_spec_text(spec, WORLD_SET_TITLE, title);
    for (size_t p = 0; p < space_n(s->space); p++)
        if (world_commitment(s->world, parent, space_param(s->space, p)->name) == NULL)
            world_spec_commit(spec, space_param(s->space, p)->name, value_text(s, p, a[p]));
}

/* A model that knows nothing yet may say anything: a node holds what is within reason. */
void place_expect(struct world_spec *spec, const struct intent *in)
{
    world_spec_number(spec, WORLD_SET_EXPECTED, fmin(20, fmax(-20, in->forecast.corrected_mean)));
    world_spec_number(spec, WORLD_SET_EXPECTED_SD, fmin(10, in->forecast.corrected_sd));
}

void place_insert(const struct search *s, const struct place *pl, const struct intent *in,
                  struct world_edit *edit, char id[WORLD_ID_MAX + 1])
{
    const char *parent = world_get(s->world, pl->parent)->id;
    struct world_spec *spec = &world_edit_add(edit, WORLD_OP_INSERT, parent)->spec;

    snprintf(id, WORLD_ID_MAX + 1, "n%u", world_count(s->world));
    world_spec_text(spec, WORLD_SET_ID, id);
    if (pl->param >= 0)
        describe_decision(s, spec, (size_t)pl->param, in->a[pl->param]);
    else
        describe_leaf(s, spec, pl->parent, in->a);
    world_spec_text(spec, WORLD_SET_RATIONALE, in->origin);
    world_spec_number(spec, WORLD_SET_DIFFICULTY, 2);
    world_spec_number(spec, WORLD_SET_SCORE, 1);
    world_spec_number(spec, WORLD_SET_RATING, 5);
    world_spec_number(spec, WORLD_SET_CONFIDENCE,
                      in->forecast.informed ? 1 / (1 + 5 * in->forecast.corrected_sd) : 0.1);
    if (in->forecast.informed)
        place_expect(spec, in);
    if (in->from[0])
        world_spec_graft(spec, NULL, NULL, in->similarity, true);
}
