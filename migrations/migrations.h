/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bringing a stored knowledge base to the present schema: forward only, one synced write batch per
 * step, so that a migration that is interrupted anywhere goes on from its last step. kb_open
 * refuses an older schema; the daemon calls this for --migrate. Thread: any; it locks the folder
 * meanwhile.
 */
#ifndef KS_MIGRATIONS_H
#define KS_MIGRATIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"
#include "store.h"

/* One row: from schema `from` to the next. */
struct migration {
    uint32_t from;
    const char *name; /* of its file, "0001_evaluated" */
    const char *what; /* a sentence for --dry-run */
    /* Makes column families that are missing; called again after an interruption. May be NULL. */
    int (*prepare)(struct store *s, struct err *err);
    /*
     * Puts the next step into `b`. `cursor` is what the last step left, NULL at first; `*next` gets
     * the new one (owned by the caller), or stays NULL when this was the last step.
     */
    int (*step)(struct store *s, const struct clock *clock, const json_t *cursor,
                struct store_batch *b, json_t **next, struct err *err);
};

/* By `from`, without gaps. */
const struct migration *const *migrations_table(size_t *n);

struct migrations_options {
    const char *dir;           /* data folder */
    const struct clock *clock; /* borrowed */
    bool dry_run;              /* only say what would be done */
    uint64_t max_steps;        /* stop after so many write batches; 0: at the end */
    /* One sentence per migration. May be NULL. */
    void (*say)(void *ctx, const char *sentence);
    void *say_ctx;
};

/*
 * Runs what is pending; nothing pending is fine. `*pending` (may be NULL) gets the number of
 * migrations that are still to be done when this returns. ERR_NOT_FOUND when there is no knowledge
 * base, ERR_CONFLICT when it is open elsewhere, ERR_REFUSED when its schema is newer than this
 * program, ERR_CORRUPT, ERR_IO, ERR_NOMEM.
 */
int migrations_run(const struct migrations_options *o, size_t *pending, struct err *err);

#endif
