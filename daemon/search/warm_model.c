/* SPDX-License-Identifier: Apache-2.0 */
/* Memory for a search that a language model plans; see warm_model.h. */
#include "search/warm_model.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "search/author_priv.h"

int warm_model_seed(struct search *s, json_t *event, json_t *seeds, struct err *err)
{
    (void)s;
    (void)event;
    (void)seeds;
    (void)err;
    return 0;
}

/* ---- Insights ---- */

static bool is_told(const struct search *s, int lane)
{
    return !s->spec.cold && (search_memory_parts(s) & MEMORY_PLANS) &&
           (lane < 0 || !s->lanes[lane].memory_free);
}

int warm_model_insights(struct search *s, int lane, json_t **out, struct err *err)
{
    struct kb_query q = { .text = "",
                          .family = s->scope.family,
                          .task = s->spec.task,
                          .device_class = s->scope.device_class,
                          .shape = s->scope.shape,
                          .context = s->scope.features,
                          .limit = WARM_MODEL_INSIGHTS_MAX };
    json_auto_t *answer = NULL;
    json_t *hits;

    if (!is_told(s, lane))
        return 0;
    if (lane >= 0)
        q.text = world_get(s->world, world_find(s->world, s->lanes[lane].node))->action.title;
    if (kb_query(s->kb, &q, &answer, err) != 0)
        return -1;
    hits = json_object_get(answer, "hits");
    if (json_array_size(hits) > 0)
        *out = json_incref(hits);
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

void warm_model_arm(const struct search *s, json_t *cycle)
{
    (void)s;
    (void)cycle;
}

void warm_model_credit(const struct search *s, const struct program *p, json_t *attempt)
{
    (void)s;
    (void)p;
    (void)attempt;
}

int warm_model_adopt(struct author *a, bool *moved, struct err *err)
{
    (void)a;
    (void)err;
    *moved = false;
    return 0;
}
