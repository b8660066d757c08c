/* SPDX-License-Identifier: Apache-2.0 */
/* Constraints of a space: names bound to parameters, small ones tabulated; see space_impl.h. */
#include <string.h>

#include "base/mem.h"
#include "search/space_impl.h"

static int expr_find(void *ctx, const char *name, size_t len, enum space_expr_type *type)
{
    static const enum space_expr_type types[SPACE_TYPE_COUNT] = {
        [SPACE_INT] = SPACE_EXPR_INT,
        [SPACE_REAL] = SPACE_EXPR_REAL,
        [SPACE_BOOL] = SPACE_EXPR_BOOL,
        [SPACE_ENUM] = SPACE_EXPR_TEXT,
    };
    const struct space *s = ctx;

    for (size_t p = 0; p < s->n; p++)
        if (strlen(s->params[p].name) == len && memcmp(s->params[p].name, name, len) == 0) {
            *type = types[s->params[p].type];
            return (int)p;
        }
    return -1;
}

static int expr_text_value(void *ctx, int var, const char *text, size_t len)
{
    const struct space *s = ctx;
    const struct space_param *p = &s->params[var];

    for (uint16_t i = 0; i < p->n_values; i++)
        if (strlen(p->values[i].text) == len && memcmp(p->values[i].text, text, len) == 0)
            return i;
    return -1;
}

static bool evaluate(const struct space *s, const struct constraint *c, const uint16_t *a)
{
    double vars[SPACE_PARAMS_MAX];

    for (size_t i = 0; i < c->n_vars; i++)
        vars[c->var[i]] = s->params[c->var[i]].values[a[c->var[i]]].num;
    return space_expr_eval(c->expr, vars);
}

bool constraint_holds(const struct space *s, const struct constraint *c, const uint16_t *a)
{
    uint32_t at = 0;

    if (c->table == NULL)
        return evaluate(s, c, a);
    for (size_t i = 0; i < c->n_vars; i++)
        at += c->stride[i] * a[c->var[i]];
    return c->table[at] != 0;
}

/* Lists the parameters mentioned, and tabulates the truth values when they are few. */
static void constraint_prepare(const struct space *s, struct constraint *c)
{
    uint16_t a[SPACE_PARAMS_MAX] = { 0 };
    size_t size = 1;

    c->vars = space_expr_vars(c->expr);
    for (size_t p = 0; p < s->n; p++)
        if (c->vars >> p & 1) {
            c->var[c->n_vars] = (uint8_t)p;
            c->stride[c->n_vars++] = (uint32_t)MIN(size, CONSTRAINT_TABLE_MAX);
            size = MIN(size * s->params[p].n_values, (size_t)CONSTRAINT_TABLE_MAX + 1);
        }
    if (size > CONSTRAINT_TABLE_MAX)
        return;
    c->table = xmalloc(size);
    for (size_t at = 0; at < size; at++) {
        size_t rest = at;

        for (size_t i = 0; i < c->n_vars; i++) {
            a[c->var[i]] = (uint16_t)(rest % s->params[c->var[i]].n_values);
            rest /= s->params[c->var[i]].n_values;
        }
        c->table[at] = evaluate(s, c, a);
    }
}

int constraint_parse(struct space *s, const char *text, struct constraint *c, struct err *err)
{
    struct space_expr_names names = { s, expr_find, expr_text_value };

    if (space_expr_parse(text, &names, &c->expr, err) != 0)
        return -1;
    constraint_prepare(s, c);
    return 0;
}
