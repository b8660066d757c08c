/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ctrl-C while a command follows a stream: it ends the following, never what is followed, so a
 * command catches it for as long as it watches and says a last word. Thread: main only.
 */
#ifndef KS_CLI_INTERRUPT_H
#define KS_CLI_INTERRUPT_H

#include <signal.h>
#include <stdbool.h>

/* From here to interrupt_release SIGINT is noted, and ends a wait for notifications early; *old is
 * what was done with it before. */
void interrupt_catch(struct sigaction *old);
void interrupt_release(const struct sigaction *old);
/* Has one come? Stays true after interrupt_release. */
bool interrupt_came(void);

#endif
