/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The prediction ledger: what was predicted beside what came out, per source, task family and
 * device class, over all searches. Every sum is an integer and every outcome is quantised once, so
 * the ledger does not depend on the order in which searches are read. docs/ledger.md defines the
 * figures. Thread: the owner's.
 */
#ifndef KS_SEARCH_LEDGER_H
#define KS_SEARCH_LEDGER_H

#include <jansson.h>
#include <stdint.h>

#include "search/calibration.h"

/* One forecast that was scored. Logs of objectives; sd > 0. Borrowed strings. */
struct ledger_outcome {
    const char *source, *family, *device_class;
    double mean, sd;                     /* as the source predicted */
    double corrected_mean, corrected_sd; /* as it was corrected at the time */
    double outcome;
};

struct ledger;

/* An empty one, of the caller; aborts when memory is out. */
struct ledger *ledger_new(void);
void ledger_free(struct ledger *l); /* NULL is fine */
/* Counts one outcome; numbers that are not finite, and a deviation of 0, are left out. */
void ledger_add(struct ledger *l, const struct ledger_outcome *o);
/* Outcomes of a source; all when it is NULL. */
uint64_t ledger_count(const struct ledger *l, const char *source);

/*
 * The correction of a source (NULL: of all that predict objectives together) for a family on a
 * device class: fitted to the source's outcomes anywhere, with that as prior to those of the
 * family, with that to those of the cell. {0, 1} when there are none.
 */
struct correction ledger_correction(const struct ledger *l, const char *source, const char *family,
                                    const char *device_class);
/*
 * What a warm search recalls: [{source, n, bias, scale}] of every source, in order of name, the
 * first with source "" for all of them together; n counts the source's outcomes. Owned.
 */
json_t *ledger_recall(const struct ledger *l, const char *family, const char *device_class);
/*
 * {sources[ROW], cells[ROW with family, device_class]}, in order of name. ROW: {source, n, crps,
 * crps_corrected, bias, bias_corrected, coverage{50, 80, 95}, coverage_corrected{}, pit[10],
 * pit_corrected[10], correction{bias, scale}}. Owned.
 */
json_t *ledger_json(const struct ledger *l);

#endif
