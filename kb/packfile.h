/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file of a knowledge pack: a head in canonical JSON, an Ed25519 signature over it, and a body
 * of lines packed with zlib, whose digests the head has. docs/packs.md describes it byte by byte.
 * Readers check in the order that costs least: head, signature, (the caller: is the signer
 * trusted?), body; a line is given out only after all of it. Thread: any; a packfile belongs to its
 * caller.
 */
#ifndef KS_KB_PACKFILE_H
#define KS_KB_PACKFILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "keys.h"
#include "record.h"

#define PACKFILE_MAGIC "ksearch-pack\n"

enum {
    PACKFILE_FORMAT = 1,
    PACKFILE_MAGIC_LEN = sizeof(PACKFILE_MAGIC) - 1,
    PACKFILE_HEAD_MAX = 64 << 10, /* bytes of the head */
    PACKFILE_MAX = 256 << 20,     /* bytes of a file */
    PACKFILE_LINE_MAX = 64 << 20  /* bytes of a line of the body */
};
#define PACKFILE_BODY_MAX (4ull << 30) /* bytes of the body, unpacked */

/* What the head says; texts are owned. */
struct packfile_head {
    uint64_t schema;       /* of the facts: SCHEMA_VERSION of the writer */
    uint64_t made_at_s;    /* wall time, seconds since 1970 */
    char *embedding;       /* id of the model that the writer's vectors are of; none travel */
    json_t *counts;        /* {"claim": n, ..., "program": n}: lines by kind */
    json_t *filters;       /* what was asked for, {} for everything */
    uint64_t bytes, lines; /* of the body, unpacked */
    struct id sha256;      /* of the body, unpacked */
    struct id packed;      /* SHA-256 of the body as it lies in the file: no byte of it is free */
    struct public_key signer;
};

struct packfile {
    struct buf file;
    struct packfile_head head;
    size_t head_end; /* what is signed are the bytes before it */
    size_t body_at;
};

/* Does a file begin as a pack does? `len` bytes of its beginning are there. */
bool packfile_is(const void *data, size_t len);
/*
 * Reads all of the file behind `fd`, from its beginning, and its head. ERR_INVALID (no pack, or of
 * another format), ERR_REFUSED (facts of a newer schema), ERR_CORRUPT (head damaged or cut off),
 * ERR_LIMIT, ERR_IO, ERR_NOMEM. Release with packfile_release. Thread: worker, blocks.
 */
int packfile_read(int fd, struct packfile *out, struct err *err);
/* The same from bytes, which are moved out of `file`, on failure too. */
int packfile_parse(struct buf *file, struct packfile *out, struct err *err);
void packfile_release(struct packfile *p);

/* Is the signature the signer's, of this head? ERR_CORRUPT. */
int packfile_check_signature(const struct packfile *p, struct err *err);
/* Unpacks the body once and compares it with the head. ERR_CORRUPT, ERR_NOMEM. */
int packfile_check_body(const struct packfile *p, struct err *err);
/*
 * Calls fn for each line of the body without its newline, in order, until it returns non-zero. The
 * line is borrowed and has a NUL behind it. -1 when fn gave -1 (fn sets *err), or ERR_CORRUPT,
 * ERR_LIMIT, ERR_NOMEM.
 */
typedef int packfile_line_fn(void *ctx, const char *line, size_t len, struct err *err);
int packfile_each(const struct packfile *p, packfile_line_fn *fn, void *ctx, struct err *err);

/* ---- Writing ---- */

struct packfile_writer;

/* NULL when memory is out. */
struct packfile_writer *packfile_writer_new(void);
void packfile_writer_free(struct packfile_writer *w); /* NULL is fine */
/* Adds a line: `len` bytes without a newline. ERR_LIMIT over the caps, ERR_NOMEM. */
int packfile_add(struct packfile_writer *w, const void *line, size_t len, struct err *err);
/*
 * Ends the body, signs and writes the whole file to `fd`, from where it stands. Of `head` the
 * caller sets schema, made_at_s, embedding, counts and filters (borrowed); the rest is filled in.
 * `dir` has the keys. ERR_IO, ERR_LIMIT and what keys_sign gives.
 */
int packfile_finish(struct packfile_writer *w, const char *dir, struct packfile_head *head, int fd,
                    struct err *err);

#endif
