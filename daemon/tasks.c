/* SPDX-License-Identifier: Apache-2.0 */
/* Finding tasks by name; see tasks.h. */
#include "tasks.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "daemon.h"
#include "eval/pack.h"
#include "eval/recorded_store.h"
#include "kb.h"
#include "near.h"

static int offer_recorded(void *ctx, const char *key, const json_t *doc)
{
    if (recorded_is_task(doc))
        near_offer(ctx, key);
    return 0;
}

static int not_known(struct daemon *d, const char *name, struct err *err)
{
    const char *names[NEAR_MAX];
    struct near near = { .wanted = name };
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);
    size_t n = packs_suggest(packs, name, names, NEAR_MAX);
    char list[400];
    struct err ignored;

    for (size_t i = 0; i < n; i++)
        near_offer(&near, names[i]);
    kb_each_doc(d->kb, KB_TASK, offer_recorded, &near, &ignored);
    return err_set(err, ERR_NOT_FOUND, "there is no task '%s'%s", name,
                   near.n > 0 ? near_text(&near, list, sizeof(list))
                              : "; 'ksearch task list' lists them");
}

int task_definition(struct daemon *d, const char *name, const struct pack_definition **out,
                    struct err *err)
{
    const struct pack_definition *found = packs_find(d->packs, name);

    if (found == NULL) {
        json_auto_t *doc = NULL;

        /* One small look-up on the loop, on the way to an error. */
        if (task_recorded(d, name, &doc, err) != 0)
            return -1;
        return err_set(
            err, ERR_INVALID,
            "task '%s' is a recorded tuning space: its measurements are looked up, and nothing "
            "of it can be built or run",
            name);
    }
    *out = found;
    return 0;
}

int task_is_free(struct daemon *d, const char *name, struct err *err)
{
    const struct pack_definition *def = packs_find(d->packs, name);

    if (def == NULL)
        return 0;
    return err_set(err, ERR_CONFLICT,
                   "task '%s' is of the pack '%s'; a recorded space needs a name of its own", name,
                   def->pack->family);
}

int task_recorded(struct daemon *d, const char *name, json_t **out, struct err *err)
{
    json_auto_t *doc = NULL;

    if (kb_get_doc(d->kb, KB_TASK, name, &doc, err) != 0)
        return err->code == ERR_NOT_FOUND ? not_known(d, name, err) : -1;
    if (!recorded_is_task(doc))
        return not_known(d, name, err);
    *out = TAKE(doc);
    return 0;
}

int task_scope(struct daemon *d, const char *name, char **family, char **shape, struct err *err)
{
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);
    const struct pack_definition *def = packs_find(packs, name);
    json_auto_t *doc = NULL;

    if (def != NULL) {
        *family = xstrdup(def->pack->family);
        *shape = xstrdup(def->shape);
        return 0;
    }
    if (kb_get_doc(d->kb, KB_TASK, name, &doc, err) != 0)
        return err->code == ERR_NOT_FOUND ? not_known(d, name, err) : -1;
    *family = xstrdup(jsonx_str(doc, "family", ""));
    *shape = xstrdup(jsonx_str(doc, "shape", ""));
    return 0;
}
