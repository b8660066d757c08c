/* SPDX-License-Identifier: Apache-2.0 */
/* The parameter `budget` of search.start and retune.*: {"evals": integer, "time": seconds}. */
#ifndef KS_DAEMON_RPC_BUDGET_H
#define KS_DAEMON_RPC_BUDGET_H

#include <jansson.h>
#include <stdint.h>

#include "base/err.h"

enum { RPC_BUDGET_EVALS_MAX = 100000 };

struct rpc_budget {
    uint64_t evals; /* 0: not given */
    double time_s;  /* 0: not given */
};

/* Fills a zeroed budget; `given` may be NULL. ERR_INVALID names the field. Thread: any. */
int rpc_budget_parse(const json_t *given, struct rpc_budget *out, struct err *err);

#endif
