/* SPDX-License-Identifier: Apache-2.0 */
/* Pieces of answers that several groups of methods give. Owned references. Thread: any. */
#ifndef KS_DAEMON_RPC_ANSWER_H
#define KS_DAEMON_RPC_ANSWER_H

#include <jansson.h>

#include "insight.h"
#include "kb.h"

/* {facts{evaluation: n, ...}, documents{task: n, ...}, insights, last_seq, vectors{...},
 * bytes_on_disk, schema} */
json_t *answer_stats(const struct kb_stats *s);
/* {mean, sd, p_positive, n, cell, blind, steered, blind_mean or null, foreign, levels[4]} */
json_t *answer_effect(const struct insight_effect *e);
/* An insight without its evidence, members named as in the answer of query. */
json_t *answer_insight(const struct insight *in);
/* A stored micro-log as a ratio. */
double answer_ratio(int64_t log_q);

#endif
