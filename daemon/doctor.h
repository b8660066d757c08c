/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doctor: what in the knowledge base deserves a look, as findings that name what they are about
 * and what to do. It changes nothing. docs/ledger.md lists the kinds and their rules. Thread:
 * worker, blocks.
 */
#ifndef KS_DAEMON_DOCTOR_H
#define KS_DAEMON_DOCTOR_H

#include <jansson.h>
#include <stdbool.h>

#include "base/err.h"
#include "kb.h"

struct history;

/* Findings listed of one kind; all are counted. */
enum { DOCTOR_LISTED_MAX = 20 };

/* Borrowed. */
struct doctor_input {
    struct kb *kb;
    struct history *history;
    /* Families of the tasks that there are: to {PARAM: [value as text]} of their tunable template,
     * or to null where nothing is known of it. */
    const json_t *families;
    bool stale_only; /* nothing but staleness */
};

/*
 * {findings[{id, kind, insight | search | technique | null, sentence, todo}], counts{kind: n},
 * insights, transfer{} (history_transfer)}; with stale_only without transfer. Findings are in order
 * of kind, then of id. ERR_IO, ERR_NOMEM.
 */
int doctor_examine(const struct doctor_input *in, json_t **out, struct err *err);

#endif
