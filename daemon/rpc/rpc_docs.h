/* SPDX-License-Identifier: Apache-2.0 */
/* docs/rpc.md, printed from the rows. Thread: any. */
#ifndef KS_DAEMON_RPC_DOCS_H
#define KS_DAEMON_RPC_DOCS_H

#include "base/buf.h"
#include "base/err.h"

/* Appends the page. ERR_LIMIT, ERR_NOMEM. */
int rpc_docs(struct buf *out, struct err *err);

#endif
