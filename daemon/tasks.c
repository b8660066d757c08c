/* SPDX-License-Identifier: Apache-2.0 */
/* Finding tasks by name; see tasks.h. */
#include "tasks.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "daemon.h"
#include "eval/pack.h"
#include "kb.h"
#include "near.h"

static int not_known(struct daemon *d, const char *name, struct err *err)
{
    const char *names[NEAR_MAX];
    struct near near = { .wanted = name };
    size_t n = packs_suggest(d->packs, name, names, NEAR_MAX);
    char list[400];

    for (size_t i = 0; i < n; i++)
        near_offer(&near, names[i]);
    return err_set(err, ERR_NOT_FOUND, "task '%s' is not known%s", name,
                   n > 0 ? near_text(&near, list, sizeof(list))
                         : "; 'ksearch task list' lists them");
}

int task_definition(struct daemon *d, const char *name, const struct pack_definition **out,
                    struct err *err)
{
    const struct pack_definition *found = packs_find(d->packs, name);

    if (found == NULL)
        return not_known(d, name, err);
    *out = found;
    return 0;
}

int task_scope(struct daemon *d, const char *name, char **family, char **shape, struct err *err)
{
    const struct pack_definition *def = packs_find(d->packs, name);
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
