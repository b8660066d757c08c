/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Planners' answers on any bytes, as every kind of call, and applied to a small tree. Beyond not
 * crashing: what is refused says why, what is taken is an edit that the world takes or refuses
 * whole.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "search/plan_answer.h"

static void apply(const struct plan_answer *a)
{
    CLEANUP(world_report_release) struct world_report report = { 0 };
    struct world *w = world_new();
    struct err err;
    int rc;

    if (world_apply(w, &a->edit, &report, &err) != 0)
        assert(world_count(w) == 1);
    rc = world_check(w, &err);
    assert(rc == 0);
    world_free(w);
}

static void check(enum call_kind kind, const char *text, bool flat)
{
    json_auto_t *errors = json_array();
    struct plan_answer a;
    struct err err;

    if (plan_answer_parse(kind, text, 3, flat, &a, errors, &err) != 0) {
        assert(json_array_size(errors) > 0);
        return;
    }
    assert(json_array_size(errors) == 0);
    assert(strlen(a.summary) <= PLAN_SUMMARY_MAX);
    assert(json_array_size(a.questions) <= PLAN_QUESTIONS_MAX);
    assert(json_array_size(a.insights) <= PLAN_INSIGHTS_MAX);
    assert(a.edit.actor == WORLD_BY_MODEL);
    apply(&a);
    plan_answer_release(&a);
}

void fuzz_one(const uint8_t *data, size_t len)
{
    CLEANUP(freep) char *text = xmalloc(len + 1);
    json_auto_t *repairs = json_array(), *object = NULL;
    struct err err;

    if (len > 0)
        memcpy(text, data, len);
    text[len] = '\0';
    (void)json_of_answer(text, NULL, &object, repairs, &err);
    check(CALL_INIT, text, false);
    check(CALL_PROPOSE, text, true);
    check(CALL_REFINE, text, false);
    check(CALL_TOO_HARD, text, false);
}
