/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vectors of a provider's embedding model: collected beside those that answer, in the order of the
 * insights, and put in their place when they are complete. The built-in vectors are always kept, so
 * that a question can be answered without the provider.
 */
#include <string.h>

#include "base/str.h"
#include "retrieve_impl.h"

/* Upkeep works on an index without holding the lock all the time: what it may hold is freed later.
 */
static int retire(struct retrieve *r, struct vindex *v, struct err *err)
{
    bool busy = atomic_load(&r->maintaining);

    for (int i = 0; i < RETRIEVE_RETIRED_MAX && !busy; i++) {
        vindex_free(r->retired[i]);
        r->retired[i] = NULL;
    }
    if (v == NULL || !busy) {
        vindex_free(v);
        return 0;
    }
    for (int i = 0; i < RETRIEVE_RETIRED_MAX; i++)
        if (r->retired[i] == NULL) {
            r->retired[i] = v;
            return 0;
        }
    return err_set(err, ERR_CONFLICT, "the vector indexes are being maintained; try again later");
}

void retrieve_model_release(struct retrieve *r)
{
    vindex_free(r->active.vectors);
    vindex_free(r->next.vectors);
    for (int i = 0; i < RETRIEVE_RETIRED_MAX; i++)
        vindex_free(r->retired[i]);
}

/* The complete one answers from now on. */
static int take_over(struct retrieve *r, struct err *err)
{
    if (retire(r, r->active.vectors, err) != 0)
        return -1;
    r->active = r->next;
    r->next = (struct retrieve_model){ .vectors = NULL };
    return 0;
}

int retrieve_model_begin(struct retrieve *r, const char *model, struct err *err)
{
    struct retrieve_model fresh = { .vectors = NULL };

    if (model[0] == '\0' || !str_copy(fresh.name, sizeof(fresh.name), model))
        return err_set(err, ERR_INVALID,
                       "the id of an embedding model has %zu bytes; 1 to %d are allowed",
                       strlen(model), RETRIEVE_MODEL_MAX - 1);
    if (r->next.vectors != NULL && strcmp(r->next.name, model) == 0)
        return 0;
    if (retire(r, r->next.vectors, err) != 0)
        return -1;
    r->next = (struct retrieve_model){ .vectors = NULL };
    if (strcmp(r->active.name, model) == 0)
        return 0;
    fresh.vectors = vindex_new();
    if (fresh.vectors == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the vectors of the model '%s'", model);
    r->next = fresh;
    return r->n_docs == 0 ? take_over(r, err) : 0;
}

uint32_t retrieve_model_missing(const struct retrieve *r)
{
    const struct vindex *v = r->next.vectors != NULL ? r->next.vectors : r->active.vectors;

    return v != NULL ? vindex_count(v) : r->n_docs;
}

int retrieve_model_put(struct retrieve *r, uint32_t first, const struct embedding *v, size_t n,
                       struct err *err)
{
    struct vindex *into = r->next.vectors != NULL ? r->next.vectors : r->active.vectors;

    if (into == NULL || first != vindex_count(into) || n > r->n_docs - first)
        return err_set(err, ERR_CONFLICT, "insight number %u is not the next without a vector",
                       first);
    for (size_t i = 0; i < n; i++)
        if (vindex_add(into, &v[i], err) != 0)
            return -1;
    return into == r->next.vectors && vindex_count(into) == r->n_docs ? take_over(r, err) : 0;
}

const char *retrieve_model_active(const struct retrieve *r)
{
    return r->active.name;
}
