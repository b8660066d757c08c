/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parameters `budget` and `stop` of search.start, and `budget` of retune.*: {"evals": integer,
 * "tokens": integer, "usd": dollars, "time": seconds, "device": seconds of device time} and
 * {"roofline": share, "gain": natural log}. A member that is absent bounds nothing, 0 is a bound.
 * Thread: any.
 */
#ifndef KS_DAEMON_RPC_BUDGET_H
#define KS_DAEMON_RPC_BUDGET_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct search_spec;

enum { RPC_BUDGET_EVALS_MAX = 100000 };

struct rpc_budget {
    uint64_t evals, tokens;
    double usd, time_s, device_s;
    bool has_evals, has_tokens, has_usd, has_time, has_device;
    double roofline, gain; /* of `stop`; 0: not given */
};

/* Fills a zeroed budget; `given` may be NULL. ERR_INVALID names the field. */
int rpc_budget_parse(const json_t *given, struct rpc_budget *out, struct err *err);
int rpc_stop_parse(const json_t *given, struct rpc_budget *out, struct err *err);
/* Puts both into a spec. Without a budget a search measures SEARCH_EVALS_DEFAULT evaluations; with
 * another budget alone, as many as that allows, up to RPC_BUDGET_EVALS_MAX. */
void rpc_budget_fill(const struct rpc_budget *b, struct search_spec *spec);

#endif
