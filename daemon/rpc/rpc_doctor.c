/* SPDX-License-Identifier: Apache-2.0 */
/* kb.doctor: what in the knowledge base deserves a look. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "daemon.h"
#include "doctor.h"
#include "eval/pack.h"
#include "eval/recorded_store.h"
#include "proto/methods.h"
#include "rpc/rpc.h"
#include "search/space.h"

struct doctor_params {
    bool stale;
};

static const struct param doctor_rows[] = {
    { "stale", PARAM_BOOL, offsetof(struct doctor_params, stale), 0,
      "look for nothing but insights of other compiler, driver or library versions (false)", 0, 0,
      NULL, 0 },
    { 0 },
};

/* {PARAM: [value as text]} of a template's space; null when it cannot be read. */
static json_t *tunables_of(const json_t *space_doc)
{
    struct space *space;
    struct err ignored;
    json_t *out;

    if (space_doc == NULL || space_parse(space_doc, "the template's space", &space, &ignored) != 0)
        return json_null();
    out = json_object();
    for (size_t p = 0; p < space_n(space); p++) {
        const struct space_param *param = space_param(space, p);
        json_t *texts = json_array();

        for (size_t v = 0; v < param->n_values; v++)
            json_array_append_new(texts, json_string(param->values[v].text));
        json_object_set_new(out, param->name, texts);
    }
    space_free(space);
    return out;
}

/* Families whose tasks the base knows but no pack has, such as recorded ones. */
static int note_family(void *ctx, const char *key, const json_t *doc)
{
    json_t *families = ctx;
    const char *family = jsonx_str(doc, "family", key);

    if (json_object_get(families, family) == NULL)
        json_object_set_new(families, family, json_null());
    return 0;
}

static int families_of(struct daemon *d, json_t *families, struct err *err)
{
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);

    for (size_t i = 0; i < packs_count(packs); i++) {
        const struct pack *p = packs_get(packs, i);

        if (p->n_definitions > 0 && p->family != NULL)
            json_object_set_new(families, p->family, tunables_of(p->space));
    }
    return kb_each_doc(d->kb, KB_TASK, note_family, families, err);
}

static int doctor_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *families = json_object();
    struct doctor_input in = { d->kb, d->history, families,
                               ((struct doctor_params *)params)->stale };

    if (families_of(d, families, err) != 0)
        return -1;
    return doctor_examine(&in, result, err);
}

static void kb_doctor(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, doctor_run);
}

const struct rpc_method rpc_doctor_methods[] = {
    { METHOD_KB_DOCTOR, doctor_rows, sizeof(struct doctor_params), 0, kb_doctor,
      "What in the knowledge base deserves a look, and what to do. At most 20 findings of a kind "
      "are listed; all are counted.",
      "{findings[{id, kind, insight | search | technique, sentence, todo}], counts{kind: n}, "
      "insights, transfer{searches, judged, lost, rate, pairs, pairs_worse, pairs_better}}",
      NULL },
    { 0 },
};
