/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Walks through the valid assignments of a space: random ones, all of them, neighbours. Constraints
 * are checked as soon as their last parameter is set, so a walk never multiplies out what cannot be
 * valid.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "search/space_impl.h"

enum {
    REJECTION_TRIES = 64,
    SAMPLE_STEPS_MAX = 100000, /* of one backtracking walk */
    SAMPLE_RESTARTS = 8,       /* each in another order */
    WALK_STEPS_MAX = 1 << 24   /* values tried by an enumeration */
};

/* ---- depth first, in the order of declaration ---- */

struct walk {
    const struct space *s;
    const uint16_t *pattern;
    /* Constraints by the parameter that completes them: list of position p is [first[p], first[p +
     * 1]). */
    uint8_t list[SPACE_CONSTRAINTS_MAX];
    size_t first[SPACE_PARAMS_MAX + 1];
    uint16_t a[SPACE_PARAMS_MAX];
    size_t steps;
};

static size_t last_var(uint64_t vars)
{
    return vars == 0 ? 0 : 63 - (size_t)__builtin_clzll(vars);
}

static void walk_init(struct walk *w, const struct space *s, const uint16_t *pattern)
{
    size_t n = 0;

    memset(w, 0, sizeof(*w));
    w->s = s;
    w->pattern = pattern;
    for (size_t p = 0; p < s->n; p++) {
        w->first[p] = n;
        for (size_t c = 0; c < s->n_constraints; c++)
            if (last_var(s->constraints[c].vars) == p)
                w->list[n++] = (uint8_t)c;
    }
    w->first[s->n] = n;
}

static bool position_holds(const struct walk *w, size_t p)
{
    for (size_t i = w->first[p]; i < w->first[p + 1]; i++)
        if (!constraint_holds(w->s, &w->s->constraints[w->list[i]], w->a))
            return false;
    return true;
}

/* Moves position p to its next good value, from `from` on; false when there is none. */
static bool advance(struct walk *w, size_t p, size_t from)
{
    bool fixed = w->pattern != NULL && w->pattern[p] != SPACE_ANY;

    if (fixed && from > w->pattern[p])
        return false;
    for (size_t v = fixed ? w->pattern[p] : from; v < w->s->params[p].n_values; v++) {
        w->a[p] = (uint16_t)v;
        w->steps++;
        if (position_holds(w, p))
            return true;
        if (fixed)
            return false;
    }
    return false;
}

/*
 * Visits every valid assignment until `visit` says stop. 1: stopped; 0: all visited; -1: too many
 * steps.
 */
static int walk_all(struct walk *w, bool (*visit)(void *ctx, const uint16_t *a), void *ctx)
{
    size_t p = 0, from = 0;

    if (w->s->n == 0) /* one assignment: of nothing */
        return visit(ctx, w->a) ? 0 : 1;
    while (w->steps < WALK_STEPS_MAX) {
        if (advance(w, p, from)) {
            if (p + 1 < w->s->n) {
                p++;
                from = 0;
                continue;
            }
            if (!visit(ctx, w->a))
                return 1;
            from = (size_t)w->a[p] + 1;
            continue;
        }
        if (p == 0)
            return 0;
        p--;
        from = (size_t)w->a[p] + 1;
    }
    return -1;
}

struct collect {
    size_t n_params, n, cap, room;
    uint16_t *rows; /* NULL: only count */
};

static bool collect_one(void *ctx, const uint16_t *a)
{
    struct collect *c = ctx;

    if (c->n == c->cap)
        return false;
    if (c->rows != NULL) {
        c->rows = xgrow(c->rows, &c->room, (c->n + 1) * c->n_params, sizeof(*c->rows));
        memcpy(c->rows + c->n * c->n_params, a, c->n_params * sizeof(*a));
    }
    c->n++;
    return true;
}

/* The same answers as walk_all, over the listed rows. */
static int rows_all(const struct space *s, const uint16_t *pattern, struct collect *c)
{
    for (size_t k = 0; k < s->n_rows; k++)
        if (space_matches(s, pattern, space_row(s, k)) && !collect_one(c, space_row(s, k)))
            return 1;
    return 0;
}

static int collect_all(const struct space *s, const uint16_t *pattern, struct collect *c)
{
    struct walk w;

    if (s->n_rows > 0)
        return rows_all(s, pattern, c);
    walk_init(&w, s, pattern);
    return walk_all(&w, collect_one, c);
}

int space_enumerate(const struct space *s, const uint16_t *pattern, size_t cap, uint16_t **rows,
                    size_t *n, struct err *err)
{
    struct collect c = { .n_params = s->n, .cap = cap };
    int rc;

    c.rows = xgrow(NULL, &c.room, MAX(s->n, (size_t)1), sizeof(*c.rows));
    rc = collect_all(s, pattern, &c);
    if (rc == 0) {
        *rows = c.rows;
        *n = c.n;
        return 0;
    }
    free(c.rows);
    if (rc > 0)
        return err_set(err, ERR_LIMIT, "the space has more than %zu valid assignments", cap);
    return err_set(err, ERR_LIMIT, "the valid assignments are too sparse to list: %d values tried",
                   WALK_STEPS_MAX);
}

uint64_t space_count(const struct space *s, const uint16_t *pattern, uint64_t cap)
{
    struct collect c = { .n_params = s->n, .cap = cap };

    return collect_all(s, pattern, &c) < 0 ? cap : c.n;
}

/* ---- random ---- */

static bool sample_by_rejection(const struct space *s, const uint16_t *pattern, struct rng *rng,
                                uint16_t *out)
{
    for (int i = 0; i < REJECTION_TRIES; i++) {
        for (size_t p = 0; p < s->n; p++)
            out[p] = pattern != NULL && pattern[p] != SPACE_ANY
                         ? pattern[p]
                         : (uint16_t)rng_below(rng, s->params[p].n_values);
        if (space_valid(s, out))
            return true;
    }
    return false;
}

/* One backtracking walk: parameters in random order, save that one which completes a constraint
 * goes first. */
struct dive {
    const struct space *s;
    const uint16_t *pattern;
    struct rng *rng;
    uint16_t *a;
    uint64_t set; /* parameters that have a value */
    size_t steps;
};

/* A random unset parameter; one that is the last of some constraint, when there is any. */
static size_t dive_choose(const struct dive *d)
{
    uint64_t unset = ~d->set & (d->s->n == 64 ? UINT64_MAX : (1ull << d->s->n) - 1), last = 0;
    size_t pick;

    for (size_t c = 0; c < d->s->n_constraints; c++) {
        uint64_t left = d->s->constraints[c].vars & ~d->set;

        if (left != 0 && (left & (left - 1)) == 0)
            last |= left;
    }
    if (last != 0)
        unset = last;
    pick = rng_below(d->rng, (uint64_t)__builtin_popcountll(unset));
    while (pick-- > 0)
        unset &= unset - 1;
    return (size_t)__builtin_ctzll(unset);
}

static bool dive_holds(const struct dive *d, size_t p)
{
    for (size_t c = 0; c < d->s->n_constraints; c++) {
        const struct constraint *k = &d->s->constraints[c];

        if ((k->vars >> p & 1) && (k->vars & ~d->set) == 0 && !constraint_holds(d->s, k, d->a))
            return false;
    }
    return true;
}

/* Depth is at most SPACE_PARAMS_MAX. */
static bool dive_on(struct dive *d, size_t depth)
{
    CLEANUP(freep) uint32_t *order = NULL;
    size_t p, n;

    if (depth == d->s->n)
        return true;
    p = dive_choose(d);
    n = d->s->params[p].n_values;
    order = xmalloc(n * sizeof(*order));
    for (size_t i = 0; i < n; i++)
        order[i] = (uint32_t)i;
    rng_shuffle(d->rng, order, n);
    d->set |= 1ull << p;
    for (size_t i = 0; i < n && d->steps < SAMPLE_STEPS_MAX; i++) {
        d->steps++;
        d->a[p] = (uint16_t)order[i];
        if (d->pattern != NULL && d->pattern[p] != SPACE_ANY && d->pattern[p] != d->a[p])
            continue;
        if (dive_holds(d, p) && dive_on(d, depth + 1))
            return true;
    }
    d->set &= ~(1ull << p);
    return false;
}

static int sample_by_dives(const struct space *s, const uint16_t *pattern, struct rng *rng,
                           uint16_t *out, struct err *err)
{
    for (int i = 0; i < SAMPLE_RESTARTS; i++) {
        struct dive d = { .s = s, .pattern = pattern, .rng = rng, .a = out };

        for (size_t c = 0; c < s->n_constraints; c++)
            if (s->constraints[c].vars == 0 && !constraint_holds(s, &s->constraints[c], out))
                return err_set(err, ERR_NOT_FOUND, "no assignment is valid");
        if (dive_on(&d, 0))
            return 0;
        if (d.steps < SAMPLE_STEPS_MAX)
            return err_set(err, ERR_NOT_FOUND, "no valid assignment agrees with the pattern");
    }
    return err_set(err, ERR_LIMIT, "the search for a valid assignment was given up after %d values",
                   SAMPLE_STEPS_MAX * SAMPLE_RESTARTS);
}

static int sample_row(const struct space *s, const uint16_t *pattern, struct rng *rng,
                      uint16_t *out, struct err *err)
{
    size_t n = pattern == NULL ? s->n_rows : space_count(s, pattern, UINT64_MAX), pick;

    if (n == 0)
        return err_set(err, ERR_NOT_FOUND, "no listed assignment agrees with the pattern");
    pick = rng_below(rng, n);
    for (size_t k = pattern == NULL ? pick : 0; k < s->n_rows; k++)
        if (space_matches(s, pattern, space_row(s, k)) && (pattern == NULL || pick-- == 0)) {
            memcpy(out, space_row(s, k), s->n * sizeof(*out));
            break;
        }
    return 0;
}

int space_sample(const struct space *s, const uint16_t *pattern, struct rng *rng, uint16_t *out,
                 struct err *err)
{
    uint16_t a[SPACE_PARAMS_MAX] = { 0 };

    for (size_t p = 0; p < s->n && pattern != NULL; p++)
        if (pattern[p] != SPACE_ANY && pattern[p] >= s->params[p].n_values)
            return err_set(err, ERR_NOT_FOUND, "the pattern asks for a value that '%s' has not",
                           s->params[p].name);
    if (s->n_rows > 0)
        return sample_row(s, pattern, rng, out, err);
    if (!sample_by_rejection(s, pattern, rng, a) && sample_by_dives(s, pattern, rng, a, err) != 0)
        return -1;
    if (s->n > 0) /* `out` may be NULL where there is nothing to put */
        memcpy(out, a, s->n * sizeof(*out));
    return 0;
}

/* ---- neighbours ---- */

static bool change_holds(const struct space *s, const uint16_t *a, size_t p)
{
    if (s->n_rows > 0)
        return space_row_of(s, a) >= 0;
    for (size_t c = 0; c < s->n_constraints; c++)
        if ((s->constraints[c].vars >> p & 1) && !constraint_holds(s, &s->constraints[c], a))
            return false;
    return true;
}

size_t space_neighbours(const struct space *s, const uint16_t *a, uint16_t *out, size_t max)
{
    uint16_t b[SPACE_PARAMS_MAX];
    size_t n = 0;

    assert(space_valid(s, a));
    if (s->n == 0)
        return 0;
    memcpy(b, a, s->n * sizeof(*a));
    for (size_t p = 0; p < s->n; p++) {
        for (uint16_t v = 0; v < s->params[p].n_values && n < max; v++) {
            b[p] = v;
            if (v == a[p] || !change_holds(s, b, p))
                continue;
            memcpy(out + n * s->n, b, s->n * sizeof(*b));
            n++;
        }
        b[p] = a[p];
    }
    return n;
}
