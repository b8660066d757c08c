/* SPDX-License-Identifier: Apache-2.0 */
/* The strategies, and the one without any plan; see strategy.h. */
#include "search/strategy.h"

#include <stdio.h>
#include <string.h>

#include "search/search.h"

const char *const strategy_names[] = { "world-model", "no-refine", "flat",
                                       "evolve",      "best-of-n", NULL };

/* Independent samples: nothing that came out before is told. */
static void sample_next(const struct search *s, uint64_t cycle, struct strategy_step *out)
{
    (void)s;
    memset(out, 0, sizeof(*out));
    out->sample = cycle - 1;
    out->n_parents = 1;
    snprintf(out->title, sizeof(out->title), "sample %llu", (unsigned long long)out->sample);
}

static const struct strategy strategies[] = {
    { "world-model", true, true, false, 0, CALL_CODE, NULL,
      "a tree of intents, rewritten after every cycle" },
    { "no-refine", true, false, false, 0, CALL_CODE, NULL,
      "the same tree, not revised when a cycle ends" },
    { "flat", true, true, true, 0, CALL_CODE, NULL,
      "a list of intents instead of a tree; each starts from the best program" },
    { "evolve", false, false, true, 1, CALL_MUTATE, evolve_next, "islands of programs, mutated" },
    { "best-of-n", false, false, true, 1, CALL_SAMPLE, sample_next,
      "independent programs from the specification" },
};

const struct strategy *strategy_find(const char *name)
{
    for (size_t i = 0; i < sizeof(strategies) / sizeof(*strategies); i++)
        if (strcmp(strategies[i].name, name) == 0)
            return &strategies[i];
    return NULL;
}

void strategy_step_of(const struct search *s, const struct lane *l, struct strategy_step *out)
{
    size_t n = 0;

    s->strategy->next(s, l->cycle, out);
    for (size_t i = 0; i < out->n_parents; i++)
        if (i > 0 && out->parents[i] != l->base)
            out->parents[++n] = out->parents[i];
    out->parents[0] = l->base;
    out->n_parents = n + 1;
}
