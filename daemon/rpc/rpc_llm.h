/* SPDX-License-Identifier: Apache-2.0 */
/* What the methods llm.* share with who tells their watchers. */
#ifndef KS_DAEMON_RPC_LLM_H
#define KS_DAEMON_RPC_LLM_H

/* Key of the stream of llm.watch. */
#define RPC_LLM_STREAM "llm"

#endif
