/* SPDX-License-Identifier: Apache-2.0 */
/* Numbered strings; see symbols.h. */
#include "symbols.h"

#include <string.h>

#include "base/mem.h"
#include "text.h"

static size_t symbol_slot(const struct symbols *t, const char *s)
{
    size_t i = text_hash(0, s, strlen(s)) & (t->n_slots - 1);

    while (t->slots[i] != 0 && strcmp(t->v[t->slots[i] - 1], s) != 0)
        i = (i + 1) & (t->n_slots - 1);
    return i;
}

static int symbols_reserve(struct symbols *t, struct err *err)
{
    struct symbols bigger = *t;

    if (t->n == t->cap) {
        size_t cap = MAX(t->cap * 2, (size_t)16);
        char **v = reallocarray(t->v, cap, sizeof(*v));

        if (v == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a name");
        t->v = v;
        t->cap = cap;
    }
    if ((t->n + 1) * 2 <= t->n_slots)
        return 0;
    bigger.v = t->v;
    bigger.n_slots = MAX(t->n_slots * 2, (size_t)32);
    bigger.slots = calloc(bigger.n_slots, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a name");
    for (uint32_t i = 0; i < t->n; i++)
        bigger.slots[symbol_slot(&bigger, t->v[i])] = i + 1;
    free(t->slots);
    t->slots = bigger.slots;
    t->n_slots = bigger.n_slots;
    return 0;
}

int symbols_add(struct symbols *t, const char *s, uint32_t *out, struct err *err)
{
    char *copy;

    s = s != NULL ? s : "";
    *out = symbols_find(t, s);
    if (*out != SYMBOLS_NONE)
        return 0;
    if (symbols_reserve(t, err) != 0)
        return -1;
    copy = strdup(s);
    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a name");
    t->v[t->n] = copy;
    t->slots[symbol_slot(t, s)] = t->n + 1;
    *out = t->n++;
    return 0;
}

uint32_t symbols_find(const struct symbols *t, const char *s)
{
    uint32_t found;

    if (t->n_slots == 0)
        return SYMBOLS_NONE;
    found = t->slots[symbol_slot(t, s)];
    return found != 0 ? found - 1 : SYMBOLS_NONE;
}

const char *symbols_get(const struct symbols *t, uint32_t number)
{
    return t->v[number];
}

void symbols_put(struct snap_writer *w, const struct symbols *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        snap_put(w, t->v[i], strlen(t->v[i]) + 1);
}

int symbols_take(const struct snap *s, enum snap_section section, struct symbols *t,
                 struct err *err)
{
    size_t n;
    const char *at = snap_elements(s, section, 1, &n, err), *end = at + n;

    if (at == NULL)
        return -1;
    if (n > 0 && end[-1] != '\0')
        return err_set(err, ERR_CORRUPT, "its names do not fit together");
    for (; at < end; at += strlen(at) + 1) {
        uint32_t before = t->n, number;

        if (symbols_add(t, at, &number, err) != 0)
            return -1;
        if (number != before)
            return err_set(err, ERR_CORRUPT, "its names do not fit together");
    }
    return 0;
}

void symbols_release(struct symbols *t)
{
    for (uint32_t i = 0; i < t->n; i++)
        free(t->v[i]);
    free(t->v);
    free(t->slots);
    *t = (struct symbols){ 0 };
}
