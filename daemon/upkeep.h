/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the knowledge base's vector index up to date in the background, in turns of this machine's
 * processor, so that no timing shares it. Thread: loop.
 */
#ifndef KS_DAEMON_UPKEEP_H
#define KS_DAEMON_UPKEEP_H

struct daemon;
struct upkeep;

/* Looks once a second whether there is work. Never fails. */
struct upkeep *upkeep_new(struct daemon *d);
/* Begins nothing more. NULL is fine. */
void upkeep_stop(struct upkeep *u);
/* After the pool has ended. NULL is fine. */
void upkeep_free(struct upkeep *u);

#endif
