/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A circuit breaker: a model that failed so many times in a row is left alone for a while, then
 * tried with one request.
 *
 *     closed --n failures--> open --wait--> half-open (one probe) --success--> closed
 *                             ^                   \--failure or timeout--> open
 *
 * Times are passed in. A value; { 0 } is closed. Thread: the owner's.
 */
#ifndef KS_LLM_BREAKER_H
#define KS_LLM_BREAKER_H

#include <stdbool.h>
#include <stdint.h>

enum breaker_state { BREAKER_CLOSED, BREAKER_OPEN, BREAKER_HALF_OPEN };

struct breaker {
    enum breaker_state state;
    uint64_t failures; /* in a row */
    uint64_t until_ns; /* OPEN: when a probe is let through */
};

/* "closed", "open", "half-open". */
const char *breaker_state_name(enum breaker_state state);
/* Whether a request may go now. True in the open state makes that request the probe: one of the
 * three below must follow. */
bool breaker_enter(struct breaker *b, uint64_t now_ns);
void breaker_succeeded(struct breaker *b);
/* `most` failures in a row open it for wait_ns. */
void breaker_failed(struct breaker *b, uint64_t now_ns, uint64_t most, uint64_t wait_ns);
/* The request ended without saying anything about the other side: the next one is the probe. */
void breaker_unknown(struct breaker *b, uint64_t now_ns);

#endif
