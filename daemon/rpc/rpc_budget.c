/* SPDX-License-Identifier: Apache-2.0 */
/* What a search or a retune may spend; see rpc_budget.h. */
#include "rpc/rpc_budget.h"

#include <stddef.h>

#include "base/param.h"

static const struct param budget_rows[] = {
    { "evals", PARAM_U64, offsetof(struct rpc_budget, evals), 0, "evaluations", 1,
      RPC_BUDGET_EVALS_MAX, NULL, 0 },
    { "time", PARAM_REAL, offsetof(struct rpc_budget, time_s), 0, "seconds", 0.001, 1e8, NULL, 0 },
    { 0 },
};

int rpc_budget_parse(const json_t *given, struct rpc_budget *out, struct err *err)
{
    return given != NULL ? param_parse(budget_rows, given, out, err) : 0;
}
