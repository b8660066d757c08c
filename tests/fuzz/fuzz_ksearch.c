/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs of K-Search on any bytes: a world model, and after the first line of dashes a store. Beyond
 * not crashing: what comes out is a tree with names for ids and numbers in range, and evidence is
 * the store's.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "fuzz/fuzz.h"
#include "ksearch_read.h"

static void check_node(const struct ksearch_run *r, size_t i)
{
    const struct ksearch_node *n = &r->nodes[i];

    assert(i == 0 ? n->parent == KSEARCH_NONE : n->parent >= 0 && n->parent < (int)i);
    assert(str_is_name(n->id));
    assert(n->rating >= 0 && n->rating <= 10 && n->confidence >= 0 && n->confidence <= 1);
    assert(n->score >= 0 && n->score <= 1 && n->difficulty >= 1 && n->difficulty <= 5);
    assert(isfinite(n->expected));
    assert(strlen(n->title) <= WORLD_LABEL_MAX && strlen(n->notes) <= WORLD_TEXT_MAX);
    if (n->solution != KSEARCH_NONE)
        assert(r->solutions[n->solution].node == (int)i);
}

static void check_solution(const struct ksearch_solution *s)
{
    assert(s->id[0] && s->source[0] && strlen(s->source) <= KSEARCH_SOURCE_MAX);
    assert(s->result.passed == (strcmp(s->result.status, "ok") == 0));
    if (!s->result.passed)
        assert(isnan(s->result.vs_baseline) && isnan(s->result.speedup));
}

void fuzz_one(const uint8_t *data, size_t len)
{
    CLEANUP(freep) char *text = xmalloc(len + 1);
    struct ksearch_run r;
    const char *mark;
    struct err err;
    size_t model;

    memcpy(text, data, len);
    text[len] = '\0';
    mark = memmem(text, len, "---\n", 4);
    model = mark ? (size_t)(mark - text) : len;
    if (ksearch_read(text, model, mark ? mark + 4 : "", mark ? len - model - 4 : 0, &r, &err) != 0)
        return;
    for (size_t i = 0; i < r.n_nodes; i++)
        check_node(&r, i);
    for (size_t i = 0; i < r.n_solutions; i++)
        check_solution(&r.solutions[i]);
    ksearch_run_release(&r);
}
