/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One export while it runs: what exchange_select.c (which facts, and what the screen says of them)
 * and exchange_export.c (writing them) share; for them alone.
 */
#ifndef KS_KB_EXCHANGE_IMPL_H
#define KS_KB_EXCHANGE_IMPL_H

#include "exchange.h"
#include "idmap.h"
#include "kb_impl.h"
#include "packfile.h"
#include "vocab.h"

enum {
    MARK_FITS = 1,  /* a claim of the technique and family asked for */
    MARK_ANY = 2,   /* ... of any family: its evidence decides */
    MARK_BAD = 4,   /* the screen found something */
    MARK_WANTED = 8 /* goes into the pack */
};

struct mark {
    struct id id;
    uint8_t bits;
};

struct export
{
    struct kb *kb;
    const struct exchange_export *o;
    const struct exchange_filter *f; /* of `o` */
    struct packfile_writer *out;
    uint64_t max_seq;               /* facts after it came when the export was under way */
    bool by_measurement;            /* task, device or time were asked for */
    bool filtered;                  /* anything was */
    char technique[VOCAB_NAME_MAX]; /* canonical; "" for any */
    struct idmap claims, evidence, evaluations, programs; /* of struct mark */
    json_t *devices;                                      /* names, as keys */
    json_t *counts, *named;                               /* for head and report */
    struct buf line;                                      /* being written */
    long left_out;
    struct err *err;
    int rc; /* of the visitor of a walk under way */
};

/* Does the id have one of these bits? */
bool marks_have(const struct idmap *m, const struct id *id, uint8_t bits);
/* Sets bits of an id; ERR_NOMEM in x->err. */
int marks_set(struct export *x, struct idmap *m, const struct id *id, uint8_t bits);
/* Counts, and names among the first, what stays behind. */
int export_leave_out(struct export *x, const char *kind, const char *id, const char *why);

/* Calls fn for each fact of a kind in order of id, but for those that came after the export began;
 * -1 with x->err when it gives -1. */
typedef int export_fact_fn(struct export *x, const struct id *id, const char *text, size_t len);
int export_each_fact(struct export *x, enum fact_kind kind, export_fact_fn *fn);

/* Is it of the task, the device and the time that were asked for? */
bool export_is_measured_so(const struct export *x, const char *task, const char *device,
                           uint64_t measured_at_s);
/* Marks the claims, the evidence and, for their sake, the evaluations that go. */
int export_select(struct export *x);

#endif
