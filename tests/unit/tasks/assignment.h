/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Assignments of a template's space for tests of task packs: constraints, the default, random valid
 * ones, and the macros that an assignment becomes. A reader of its own, so that a mistake in the
 * program's cannot hide in both. Expressions here know `* <= >= == != && ||`, parentheses, numbers,
 * texts and names.
 */
#ifndef KS_TEST_ASSIGNMENT_H
#define KS_TEST_ASSIGNMENT_H

#include <stdbool.h>

#include "base/jsonx.h"
#include "base/rng.h"
#include "base/str.h"
#include "unit/test.h"

/* A recursive-descent reader of constraints over one assignment; texts compare by their value. */
struct expr {
    const char *at;
    const json_t *assignment;
};

struct value {
    double number;
    const char *text; /* into the expression or the assignment; NULL for numbers */
    size_t len;
};

static inline struct value expr_or(struct expr *e);

static inline bool expr_take(struct expr *e, const char *token)
{
    while (*e->at == ' ')
        e->at++;
    if (strncmp(e->at, token, strlen(token)) != 0)
        return false;
    e->at += strlen(token);
    return true;
}

static inline struct value expr_name(struct expr *e)
{
    size_t n = strspn(e->at, "ABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789");
    char name[64];
    const json_t *v;

    assert_true(n > 0 && n < sizeof(name));
    memcpy(name, e->at, n);
    name[n] = '\0';
    e->at += n;
    v = json_object_get(e->assignment, name);
    assert_non_null(v);
    if (json_is_string(v))
        return (struct value){ 0, json_string_value(v), json_string_length(v) };
    return (struct value){ json_number_value(v), NULL, 0 };
}

static inline struct value expr_primary(struct expr *e)
{
    struct value v = { 0 };
    char *end;

    if (expr_take(e, "(")) {
        v = expr_or(e);
        assert_true(expr_take(e, ")"));
        return v;
    }
    if (expr_take(e, "'")) {
        v.text = e->at;
        v.len = strcspn(e->at, "'");
        e->at += v.len;
        assert_true(expr_take(e, "'"));
        return v;
    }
    v.number = strtod(e->at, &end);
    if (end == e->at)
        return expr_name(e);
    e->at = end;
    return v;
}

static inline struct value expr_product(struct expr *e)
{
    struct value v = expr_primary(e);

    while (expr_take(e, "*"))
        v.number *= expr_primary(e).number;
    return v;
}

static inline struct value expr_compare(struct expr *e)
{
    struct value a = expr_product(e), b, out = { 0 };
    bool equal;

    if (expr_take(e, "<=")) {
        out.number = a.number <= expr_product(e).number;
        return out;
    }
    if (expr_take(e, ">=")) {
        out.number = a.number >= expr_product(e).number;
        return out;
    }
    equal = expr_take(e, "==");
    if (!equal && !expr_take(e, "!="))
        return a;
    b = expr_product(e);
    out.number = a.text ? b.text && a.len == b.len && memcmp(a.text, b.text, a.len) == 0
                        : a.number == b.number;
    out.number = equal ? out.number : !out.number;
    return out;
}

static inline struct value expr_and(struct expr *e)
{
    struct value v = expr_compare(e);

    while (expr_take(e, "&&"))
        v.number = (expr_compare(e).number != 0) & (v.number != 0);
    return v;
}

static inline struct value expr_or(struct expr *e)
{
    struct value v = expr_and(e);

    while (expr_take(e, "||"))
        v.number = (expr_and(e).number != 0) | (v.number != 0);
    return v;
}

static inline bool assignment_valid(const json_t *space, const json_t *assignment)
{
    const json_t *c;
    size_t i;

    json_array_foreach (json_object_get(space, "constraints"), i, c) {
        struct expr e = { json_string_value(c), assignment };
        struct value v = expr_or(&e);

        assert_int_equal(*e.at, '\0');
        if (v.number == 0)
            return false;
    }
    return true;
}

static inline json_t *assignment_default(const json_t *space)
{
    json_t *a = json_object();
    const json_t *p;
    size_t i;

    json_array_foreach (json_object_get(space, "parameters"), i, p)
        json_object_set(a, jsonx_str(p, "name", ""), json_object_get(p, "default"));
    return a;
}

/* A valid assignment at random, with parameter `fixed` (or none) at value `at`. */
static inline json_t *assignment_random(const json_t *space, struct rng *r, const char *fixed,
                                        size_t at)
{
    for (;;) {
        json_t *a = json_object();
        const json_t *p;
        size_t i;

        json_array_foreach (json_object_get(space, "parameters"), i, p) {
            const json_t *values = json_object_get(p, "values");
            const char *name = jsonx_str(p, "name", "");
            size_t k = (size_t)rng_below(r, json_array_size(values));

            if (fixed && strcmp(name, fixed) == 0)
                k = at;
            json_object_set(a, name, json_array_get(values, k));
        }
        if (assignment_valid(space, a))
            return a;
        json_decref(a);
    }
}

/* The -D arguments of an assignment, as ks_task.h says; returns how many. */
static inline size_t assignment_defines(const json_t *space, const json_t *assignment, char **out)
{
    const json_t *p;
    size_t i, n = 0;

    json_array_foreach (json_object_get(space, "parameters"), i, p) {
        const char *name = jsonx_str(p, "name", "");
        const json_t *v = json_object_get(assignment, name), *choice;
        size_t k;

        if (!json_is_string(v)) {
            out[n++] = str_printf("-D%s=%lld", name, (long long)json_integer_value(v));
            continue;
        }
        json_array_foreach (json_object_get(p, "values"), k, choice) {
            out[n++] = str_printf("-D%s_%s=%zu", name, json_string_value(choice), k);
            if (json_equal(choice, v))
                out[n++] = str_printf("-D%s=%zu", name, k);
        }
    }
    out[n] = NULL;
    return n;
}

#endif
