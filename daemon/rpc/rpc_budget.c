/* SPDX-License-Identifier: Apache-2.0 */
/* What a search or a retune may spend, and when it has enough; see rpc_budget.h. */
#include "rpc/rpc_budget.h"

#include <math.h>
#include <stddef.h>

#include "base/param.h"
#include "search/search.h"
#include "search/spend.h"

/* What a JSON reader keeps exactly, a billion dollars, and three years. */
#define TOKENS_MAX 9007199254740991.0
#define USD_MAX 1e9
#define SECONDS_MAX 1e8

#define FIELD(member) offsetof(struct rpc_budget, member)
#define SEEN(member) PARAM_SEEN(struct rpc_budget, member)

static const struct param budget_rows[] = {
    { "evals", PARAM_U64, FIELD(evals), 0, "evaluations", 0, RPC_BUDGET_EVALS_MAX, NULL,
      SEEN(has_evals) },
    { "tokens", PARAM_U64, FIELD(tokens), 0, "tokens of language models, in and out", 0, TOKENS_MAX,
      NULL, SEEN(has_tokens) },
    { "usd", PARAM_REAL, FIELD(usd), 0, "US dollars for language models", 0, USD_MAX, NULL,
      SEEN(has_usd) },
    { "time", PARAM_REAL, FIELD(time_s), 0, "seconds of wall time", 0, SECONDS_MAX, NULL,
      SEEN(has_time) },
    { "device", PARAM_REAL, FIELD(device_s), 0, "seconds of building, checking and timing", 0,
      SECONDS_MAX, NULL, SEEN(has_device) },
    { 0 },
};

static const struct param stop_rows[] = {
    { "roofline", PARAM_REAL, FIELD(roofline), 0, "share of the roofline that the best reaches",
      0.001, 1, NULL, 0 },
    { "gain", PARAM_REAL, FIELD(gain), 0, "natural log; no more is expected of going on", 1e-6, 10,
      NULL, 0 },
    { 0 },
};

int rpc_budget_parse(const json_t *given, struct rpc_budget *out, struct err *err)
{
    if (given != NULL && param_parse(budget_rows, given, out, err) != 0)
        return err_ctx(err, "budget");
    return 0;
}

int rpc_stop_parse(const json_t *given, struct rpc_budget *out, struct err *err)
{
    if (given != NULL && param_parse(stop_rows, given, out, err) != 0)
        return err_ctx(err, "stop");
    return 0;
}

void rpc_budget_fill(const struct rpc_budget *b, struct search_spec *spec)
{
    bool other = b->has_tokens || b->has_usd || b->has_time || b->has_device;

    spec->budget_evals = b->has_evals ? b->evals
                         : other      ? (uint64_t)RPC_BUDGET_EVALS_MAX
                                      : (uint64_t)SEARCH_EVALS_DEFAULT;
    spec->budget_tokens = b->tokens;
    spec->budget_usd_q = (uint64_t)llround(b->usd * 1e6);
    spec->budget_time_ns = (uint64_t)(b->time_s * 1e9);
    spec->budget_device_ns = (uint64_t)(b->device_s * 1e9);
    spec->budget_given = (unsigned)b->has_evals << SPEND_EVALS |
                         (unsigned)b->has_tokens << SPEND_TOKENS |
                         (unsigned)b->has_usd << SPEND_USD | (unsigned)b->has_time << SPEND_TIME |
                         (unsigned)b->has_device << SPEND_DEVICE;
    spec->stop_roofline = b->roofline;
    spec->stop_gain = b->gain;
}
