/* SPDX-License-Identifier: Apache-2.0 */
/* A circuit breaker; see breaker.h. */
#include "llm/breaker.h"

const char *breaker_state_name(enum breaker_state state)
{
    static const char *const names[] = { "closed", "open", "half-open" };

    return names[state];
}

bool breaker_enter(struct breaker *b, uint64_t now_ns)
{
    if (b->state == BREAKER_OPEN && now_ns >= b->until_ns) {
        b->state = BREAKER_HALF_OPEN;
        return true;
    }
    return b->state == BREAKER_CLOSED;
}

void breaker_succeeded(struct breaker *b)
{
    *b = (struct breaker){ 0 };
}

void breaker_failed(struct breaker *b, uint64_t now_ns, uint64_t most, uint64_t wait_ns)
{
    b->failures++;
    /* Requests that were under way when it opened do not make the wait longer. */
    if (b->state == BREAKER_OPEN || (b->state == BREAKER_CLOSED && b->failures < most))
        return;
    b->state = BREAKER_OPEN;
    b->until_ns = now_ns + wait_ns;
}

void breaker_unknown(struct breaker *b, uint64_t now_ns)
{
    if (b->state != BREAKER_HALF_OPEN)
        return;
    b->state = BREAKER_OPEN;
    b->until_ns = now_ns;
}
