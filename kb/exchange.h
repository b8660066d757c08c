/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs out of and into a knowledge base: facts by filter with all that they refer to, screened of
 * what must not leave, signed with the base's own key; and back, when a trusted key signed them.
 * Importing is a union of sets of facts: order and repetition change nothing. docs/packs.md has the
 * rules. Thread: worker, blocks.
 */
#ifndef KS_KB_EXCHANGE_H
#define KS_KB_EXCHANGE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "kb.h"
#include "screen.h"

enum {
    EXCHANGE_NAMED_MAX = 20, /* things left out or refused that a report names */
    EXCHANGE_EMBEDDING_MAX = 128
};

/* What to export; NULL or 0: not filtered. Borrowed. */
struct exchange_filter {
    const char *task, *family, *device;
    const char *technique; /* synonyms are resolved */
    uint64_t since_s;      /* measured at or after this time */
    bool claims_only;      /* neither evidence nor evaluations */
    bool no_evaluations;   /* evidence without the evaluations behind it */
    bool no_programs;      /* no sources and spaces */
};

struct exchange_export {
    struct exchange_filter filter;
    struct screen screen;
    const char *embedding; /* id of the active embedding model */
    const char *dir;       /* the data folder, which has the keys */
    uint64_t now_s;
};

/*
 * Writes a pack to `fd`, from where it stands. Equal facts and filters give equal bodies. *report
 * is {facts{kind: n}, documents{program, device}, bytes, sha256, signer, left_out, named[{kind, id,
 * why}]}; `left_out` counts what the screen found, `named` has the first of it. ERR_LIMIT,
 * ERR_CORRUPT, ERR_IO, ERR_NOMEM and what keys_sign gives.
 */
int exchange_export(struct kb *kb, const struct exchange_export *o, int fd, json_t **report,
                    struct err *err);

/*
 * Stores what the pack behind `fd` holds. Facts get the signer's fingerprint as their origin
 * (kb_batch_set_origin), unless it is this base's own key. *report is {signer, name, made_at_s,
 * embedding, filters, facts{new, known, refused}, documents{new, known, refused}, named[{line,
 * why}]}. ERR_REFUSED (signer not trusted, newer schema), ERR_CORRUPT (changed or damaged), and
 * ERR_INVALID (no pack): nothing is stored then. ERR_IO in the middle leaves a part, and the same
 * import again brings the rest.
 */
int exchange_import(struct kb *kb, const char *dir, int fd, json_t **report, struct err *err);

#endif
