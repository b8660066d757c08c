/* SPDX-License-Identifier: Apache-2.0 */
/* What the prompts of a warm search tell of past searches, and who is credited with it; see
 * warm_model.h. */
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "search/gifts.h"
#include "search/search.h"
#include "search/warm_model.h"

enum {
    TEXT_MAX = 2000, /* bytes of a query */
    PREFIX_LEAST = 6 /* digits of an abbreviated id */
};

/* ---- Insights ---- */

/*
 * The tree that the model plants is the memory-free arm's first round: its call is told nothing,
 * and neither are calls for more while a memory-free cycle is owed.
 */
static bool is_told(const struct search *s, enum call_kind kind, int lane)
{
    if (s->memory == NULL || !(search_memory_parts(s) & MEMORY_PLANS))
        return false;
    if (lane >= 0)
        return !s->lanes[lane].memory_free;
    return kind != CALL_INIT && !warm_model_owes(s);
}

static void add_text(struct buf *b, const char *text)
{
    size_t n = strlen(text), room = TEXT_MAX - MIN(b->len, (size_t)TEXT_MAX);

    if (n > room)
        for (n = room; n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80;)
            n--;
    buf_addf(b, "%s%.*s", b->len ? " " : "", (int)n, text);
}

/* "avx2,fma": what the device has, as the filter wants it; NULL when that is not known. Owned. */
static char *device_features(const struct search *s)
{
    struct buf b = { .max = 16 << 10 };
    json_auto_t *device = NULL;
    struct err ignored;
    const json_t *v;
    size_t i;

    if (kb_get_doc(s->kb, KB_DEVICE, s->spec.device, &device, &ignored) != 0)
        return NULL;
    json_array_foreach (json_object_get(device, "features"), i, v)
        if (json_is_string(v))
            buf_addf(&b, "%s%s", b.len ? "," : "", json_string_value(v));
    if (b.len == 0) {
        buf_release(&b);
        return NULL;
    }
    return buf_take(&b);
}

/* Is a name in a list with commas? */
static bool is_listed(const char *list, const char *name)
{
    size_t n = strlen(name);

    for (const char *at = strstr(list, name); at != NULL; at = strstr(at + 1, name))
        if ((at == list || at[-1] == ',') && (at[n] == '\0' || at[n] == ','))
            return true;
    return false;
}

/* Families of the relatives other than the search's own, with commas; NULL for none. Owned. */
static char *related_families(const struct search *s)
{
    struct memory_relative relatives[MEMORY_RELATIVES_MAX];
    size_t n = memory_relatives(s->scope.relatives, relatives, MEMORY_RELATIVES_MAX);
    struct buf b = { .max = 16 << 10 };

    for (size_t i = 0; i < n; i++) {
        json_auto_t *task = NULL;
        struct err ignored;
        const char *family;

        if (kb_get_doc(s->kb, KB_TASK, relatives[i].task, &task, &ignored) != 0)
            continue;
        family = jsonx_str(task, "family", "");
        if (family[0] && strcmp(family, s->scope.family) != 0 && !is_listed(buf_str(&b), family))
            buf_addf(&b, "%s%s", b.len ? "," : "", family);
    }
    if (b.len == 0) {
        buf_release(&b);
        return NULL;
    }
    return buf_take(&b);
}

static bool is_own_evidence(const struct search *s, const json_t *evidence)
{
    const char *with = jsonx_str(evidence, "with", "");

    for (uint64_t n = 1; n <= s->n_trials; n++)
        if (strcmp(search_trial(s, n)->evaluation.hex, with) == 0)
            return true;
    return false;
}

/*
 * Is it past knowledge? What this search alone has shown is not; where it has a part, the hit says
 * how much.
 */
static bool is_past(const struct search *s, json_t *hit)
{
    const json_t *evidence = json_object_get(hit, "evidence"), *v;
    size_t i, own = 0, n = json_array_size(evidence);

    if (strcmp(jsonx_str(hit, "state", "active"), "active") != 0)
        return false;
    json_array_foreach (evidence, i, v)
        own += is_own_evidence(s, v);
    if (own == 0)
        return true;
    json_object_set_new(hit, "own", json_integer((json_int_t)own));
    return own < n || jsonx_int(json_object_get(hit, "effect"), "n", 0) > (long long)n;
}

static json_t *past_hits(const struct search *s, const json_t *answer)
{
    json_t *kept = json_array(), *hit;
    size_t i;

    json_array_foreach (json_object_get(answer, "hits"), i, hit)
        if (json_array_size(kept) < WARM_MODEL_INSIGHTS_MAX && is_past(s, hit))
            json_array_append(kept, hit);
    if (json_array_size(kept) > 0)
        return kept;
    json_decref(kept);
    return NULL;
}

int warm_model_insights(struct search *s, enum call_kind kind, int lane, json_t **out,
                        struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = 4 * TEXT_MAX };
    CLEANUP(freep) char *features = NULL;
    CLEANUP(freep) char *related = NULL;
    json_auto_t *answer = NULL;
    struct kb_query q = { .task = s->spec.task,
                          .family = s->scope.family,
                          .device_class = s->scope.device_class,
                          .shape = s->scope.shape,
                          .context = s->scope.features,
                          .limit = 2 * WARM_MODEL_INSIGHTS_MAX };

    if (!is_told(s, kind, lane))
        return 0;
    if (lane >= 0) {
        const struct world_node *n = world_get(s->world, world_find(s->world, s->lanes[lane].node));

        add_text(&text, n->action.title);
        add_text(&text, n->action.description);
    }
    add_text(&text, s->summary);
    features = device_features(s);
    related = related_families(s);
    q.text = buf_str(&text);
    q.features = features;
    q.related = related;
    /* what was found since is a part of its own */
    if (!(search_memory_parts(s) & MEMORY_LIVE))
        q.as_of_ns = s->created_s * NS_PER_SEC;
    if (kb_query(s->kb, &q, &answer, err) != 0)
        return -1;
    *out = past_hits(s, answer);
    return 0;
}

json_t *warm_model_ids(const json_t *insights)
{
    json_t *ids = json_array();
    json_t *hit;
    size_t i;

    json_array_foreach (insights, i, hit)
        json_array_append(ids, json_object_get(hit, "insight"));
    return ids;
}

/* ---- What a prompt leaves out ---- */

bool warm_model_hides(const struct search *s, enum call_kind kind, int lane, uint32_t node)
{
    return s->memory != NULL && gifts_steered(s, node) &&
           world_get(s->world, node)->state != WORLD_CLOSED && !is_told(s, kind, lane);
}

/* ---- Credit ---- */

/* Does what an author wrote stand for this id? In full, or by its first digits. */
static bool cites(const char *written, const char *id)
{
    size_t n = strlen(written);

    return n >= PREFIX_LEAST && n <= strlen(id) && strncasecmp(written, id, n) == 0;
}

/* The one that was told and is meant; NULL for none, or when it could be several. */
static const json_t *told_as(const json_t *told, const char *written)
{
    const json_t *v, *found = NULL;
    size_t i;

    json_array_foreach (told, i, v)
        if (json_is_string(v) && cites(written, json_string_value(v))) {
            if (found != NULL)
                return NULL;
            found = v;
        }
    return found;
}

static bool has_text(const json_t *list, const json_t *text)
{
    const json_t *v;
    size_t i;

    json_array_foreach (list, i, v)
        if (json_equal(v, text))
            return true;
    return false;
}

void warm_model_credit(const struct search *s, const struct program *p, json_t *attempt)
{
    const struct call *c = calls_get(&s->calls, p->call);
    json_t *followed;
    const json_t *v;
    size_t i;

    if (c == NULL || json_array_size(c->told) == 0)
        return;
    followed = json_array();
    json_array_foreach (p->uses, i, v) {
        const json_t *id = json_is_string(v) ? told_as(c->told, json_string_value(v)) : NULL;

        if (id != NULL && !has_text(followed, id))
            json_array_append(followed, (json_t *)id);
    }
    json_object_set_new(attempt, "served", json_deep_copy(c->told));
    json_object_set_new(attempt, "followed", followed);
    json_object_set_new(attempt, "against", json_array());
}
