/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the snapshot of derived state that retrieval keeps beside its indexes. */
#ifndef KS_KB_RETRIEVE_STATE_H
#define KS_KB_RETRIEVE_STATE_H

#include "retrieve.h"
#include "snapfile.h"

/* Of the structs in its sections. */
uint64_t retrieve_state_layout(void);
/* Puts the sections; failures are the writer's. Read lock. */
void retrieve_state_put(struct snap_writer *w, const struct retrieve *r);
/* Fills a retrieval that is empty and loading. ERR_CORRUPT, ERR_NOMEM: it is empty again. */
int retrieve_state_take(const struct snap *s, struct retrieve *r, struct err *err);
/* Makes it empty, as after retrieve_open. ERR_NOMEM: only closing is allowed then. */
int retrieve_state_reset(struct retrieve *r, struct err *err);

#endif
