/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records as the store holds them: canonical JSON text. x_write checks every rule of the record and
 * appends its text (ERR_INVALID names the field; ERR_NOMEM, ERR_LIMIT); x_read is the fast way back
 * for text that x_write made (ERR_INVALID, ERR_NOMEM; nothing to release on failure). Thread: any.
 */
#ifndef KS_KB_RECORD_TEXT_H
#define KS_KB_RECORD_TEXT_H

#include "base/buf.h"
#include "record.h"

int evaluation_write(const struct evaluation *e, struct buf *out, struct err *err);
int evaluation_read(const char *text, size_t len, struct evaluation *out, struct err *err);
int claim_write(const struct claim *c, struct buf *out, struct err *err);
int claim_read(const char *text, size_t len, struct claim *out, struct err *err);
int evidence_write(const struct evidence *e, struct buf *out, struct err *err);
int evidence_read(const char *text, size_t len, struct evidence *out, struct err *err);
int retraction_write(const struct retraction *r, struct buf *out, struct err *err);
int retraction_read(const char *text, size_t len, struct retraction *out, struct err *err);
int link_write(const struct link *l, struct buf *out, struct err *err);
int link_read(const char *text, size_t len, struct link *out, struct err *err);

/* Views: as x_read, but `text`, with a NUL after it, is changed and the record's texts point into
 * it. */
int claim_view(char *text, size_t len, struct claim *out, struct err *err);
/* Ended by evidence_leave. */
int evidence_view(char *text, size_t len, struct evidence *out, struct err *err);
void evidence_leave(struct evidence *e);

/* Copies every text; ERR_NOMEM. */
int claim_dup(const struct claim *c, struct claim *out, struct err *err);

#endif
