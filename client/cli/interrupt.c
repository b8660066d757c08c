/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C while a command follows a stream; see interrupt.h. */
#include "interrupt.h"

#include <stddef.h>

static volatile sig_atomic_t came;

static void on_interrupt(int signo)
{
    (void)signo;
    came = 1;
}

void interrupt_catch(struct sigaction *old)
{
    /* no SA_RESTART: waiting has to return */
    struct sigaction act = { .sa_handler = on_interrupt };

    sigaction(SIGINT, &act, old);
}

void interrupt_release(const struct sigaction *old)
{
    sigaction(SIGINT, old, NULL);
}

bool interrupt_came(void)
{
    return came != 0;
}
