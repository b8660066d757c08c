/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The records of the knowledge base as structs, and their strict translation from and to JSON.
 * A fact (evaluation, claim, evidence, retraction, link) is addressed by the SHA-256 of its
 * canonical JSON, which holds shareable fields only: no hosts, paths or names of people. Strings in
 * a record are owned by it; x_release frees them. Thread: any; a record belongs to its caller.
 */
#ifndef KS_KB_RECORD_H
#define KS_KB_RECORD_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum { ID_HEX = 64 }; /* digits of a content address */

struct id {
    char hex[ID_HEX + 1];
};

/* Micro-units of natural log: llround(1e6 * ln(ratio)). The one place where effects are quantised.
 */
int64_t quantise_log(double ratio);

enum fact_kind {
    FACT_EVALUATION,
    FACT_CLAIM,
    FACT_EVIDENCE,
    FACT_RETRACTION,
    FACT_LINK,
    FACT_COUNT
};
/* "evaluation", "claim", ... */
const char *fact_kind_name(enum fact_kind kind);

struct workload_time {
    char *name;
    int64_t ratio_q;      /* micro-log of baseline time over candidate time */
    uint64_t baseline_ns; /* median */
    uint64_t candidate_ns;
};

/* One honest measurement of program x assignment x workload set on a device, or a classified
 * failure. */
struct evaluation {
    char *task; /* definition name */
    char *family;
    char *set;          /* workload set */
    char *device;       /* device name, "cpu" */
    char *device_class; /* "cpu-avx512", "sm_90" */
    char *toolchain;    /* "gcc 12.2.0" */
    char *shape;        /* shape regime: constant axes as "num_kv_heads=4,..." sorted */
    char *language;
    struct id program;   /* source + build settings */
    json_t *assignment;  /* all parameters to values; empty object for a program without tunables */
    char *status;        /* "ok" or a failure class */
    char *message;       /* of a failure; redacted of paths by the writer */
    int64_t objective_q; /* micro-log of the objective; 0 unless ok */
    int64_t sd_q;        /* standard deviation of that log, micro-units */
    bool steered;        /* proposed under the influence of memory */
    char *seed;          /* of the measurement, 16 hex digits: keeps repeated measurements apart */
    uint64_t measured_at_s;
    size_t n_workloads;
    struct workload_time *workloads;
};

/* A statement that can be true or false by measurement. Equal keys are equal claims. */
struct claim {
    char *technique; /* vocabulary term, "online-softmax" */
    char *statement; /* one or two sentences */
    char *mechanism; /* why it should work; may be "" */
    char *family;    /* scope; "" means any */
    char *dtype;
    char *language;
    char *bottleneck; /* "memory", "compute", "latency" or "" */
    char *requires;   /* features, capacities (NAME>=NUMBER): commas between, sorted; or "" */
    char *param;      /* tunable that embodies it, with its two values as text; "" when none */
    char *with_value;
    char *without_value;
};

/* What bears on a claim: a pair of comparable evaluations, or a classified failure. */
struct evidence {
    struct id claim;
    char *kind;        /* "pair" or "failure" */
    struct id with;    /* evaluation that follows the claim */
    struct id without; /* the comparable one; empty hex for a failure */
    int64_t effect_q;  /* micro-log of objective(with) / objective(without) */
    int64_t sd_q;
    bool steered;
    char *failure; /* class, "" for a pair */
    char *task;
    char *device;
    char *device_class;
    char *shape;
    char *toolchain;
    json_t *features; /* context features by name to number (kv heads, cores, batch, ...) */
    uint64_t measured_at_s;
    bool foreign; /* came from elsewhere: local knowledge, no part of the record */
};

/* A tombstone: withdraws a claim or one piece of evidence, and keeps what it withdrew. */
struct retraction {
    enum fact_kind kind; /* FACT_CLAIM or FACT_EVIDENCE */
    struct id target;
    char *reason;
};

/* Two claims that say the same. The ids are stored in sorted order. */
struct link {
    struct id a, b;
};

/* Each: parses strictly (ERR_INVALID names the field); writes a fresh JSON object (NULL: out of
 * memory). */
int evaluation_from_json(const json_t *j, struct evaluation *out, struct err *err);
json_t *evaluation_to_json(const struct evaluation *e);
void evaluation_release(struct evaluation *e);
int claim_from_json(const json_t *j, struct claim *out, struct err *err);
json_t *claim_to_json(const struct claim *c);
void claim_release(struct claim *c);
int evidence_from_json(const json_t *j, struct evidence *out, struct err *err);
json_t *evidence_to_json(const struct evidence *e);
void evidence_release(struct evidence *e);
int retraction_from_json(const json_t *j, struct retraction *out, struct err *err);
json_t *retraction_to_json(const struct retraction *r);
void retraction_release(struct retraction *r);
int link_from_json(const json_t *j, struct link *out, struct err *err);
json_t *link_to_json(const struct link *l);

/* The content address of a JSON value: SHA-256 of its canonical text. */
int id_of_json(const json_t *j, struct id *out, struct err *err);
/* SHA-256 of bytes. */
void id_of_bytes(const void *data, size_t len, struct id *out);

#endif
