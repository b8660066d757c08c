/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon's end needs of eval.run. Thread: loop. */
#ifndef KS_DAEMON_RPC_EVAL_H
#define KS_DAEMON_RPC_EVAL_H

struct daemon;

/* Answers the calls that still wait for their turn with ERR_CANCELLED. */
void rpc_eval_drop_waiting(struct daemon *d);

#endif
