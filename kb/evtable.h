/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Evidence as answers and time travel need it: one compact row a fact, with its strings numbered,
 * found by content address or walked by claim; and when what was withdrawn. Rows are never removed.
 * The first 128 bits of an address stand for it. Thread: the owner's lock.
 */
#ifndef KS_KB_EVTABLE_H
#define KS_KB_EVTABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "record.h"

enum { EVTABLE_NONE = UINT32_MAX };

struct evrow {
    struct {
        uint8_t bytes[32];
    } id, with, without; /* `without` is all zero for a failure */
    uint32_t task, device, device_class, shape, toolchain, failure; /* evtable_name */
    int64_t effect_q, sd_q;
    uint64_t recorded_at_ns;  /* commit here */
    uint64_t retracted_at_ns; /* 0: never */
    uint64_t measured_at_s;
    uint32_t next; /* another row of the same claim; EVTABLE_NONE ends */
    bool steered, is_failure, foreign;
};

struct evtable;
struct snap;
struct snap_writer;

struct evtable *evtable_new(void); /* NULL when memory is out */
void evtable_free(struct evtable *t);

/* Adds a fact; of one that is there only `foreign` is taken over. Strings are copied. ERR_NOMEM. */
int evtable_add(struct evtable *t, const struct id *id, const struct evidence *ev,
                uint64_t recorded_at_ns, struct err *err);
/* Notes the first withdrawal of a claim or of evidence, whether it is known yet or not. ERR_NOMEM.
 */
int evtable_retract(struct evtable *t, const struct id *target, uint64_t at_ns, struct err *err);
/* When it was withdrawn; 0: not. */
uint64_t evtable_retracted_at(const struct evtable *t, const struct id *target);

uint32_t evtable_count(const struct evtable *t);
/* Row number of an address, or EVTABLE_NONE. */
uint32_t evtable_find(const struct evtable *t, const struct id *id);
/* First row of a claim, or EVTABLE_NONE. */
uint32_t evtable_of_claim(const struct evtable *t, const struct id *claim);
/* Borrowed until the next addition. */
const struct evrow *evtable_row(const struct evtable *t, uint32_t number);
/* The string behind a number in a row; and its number, EVTABLE_NONE when no row has it. */
const char *evtable_name(const struct evtable *t, uint32_t name);
uint32_t evtable_name_find(const struct evtable *t, const char *s);

/* How many strings there are. */
uint32_t evtable_name_count(const struct evtable *t);

/* Of the structs that evtable_put writes. */
uint64_t evtable_layout(void);
/* Puts the sections SNAP_EVIDENCE_* of a snapshot. */
void evtable_put(struct snap_writer *w, const struct evtable *t);
/* Fills an empty table from them. ERR_CORRUPT, ERR_NOMEM: the table is then to be freed. */
int evtable_take(const struct snap *s, struct evtable *t, struct err *err);

/* Whether the row counts at this wall time (0: now). */
bool evrow_counts(const struct evrow *row, uint64_t as_of_ns);

#endif
