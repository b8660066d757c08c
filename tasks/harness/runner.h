/* SPDX-License-Identifier: Apache-2.0 */
/* The hidden verb "runner": what runs inside the sandbox and holds a program. See wire.h. */
#ifndef KS_HARNESS_RUNNER_H
#define KS_HARNESS_RUNNER_H

/* Serves calls on descriptor 3 until it closes; returns the exit status. */
int runner_verb(void);

#endif
