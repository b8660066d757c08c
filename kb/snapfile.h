/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file `derived.snapshot`: a head that says what it is a snapshot of, and numbered sections of
 * elements, in this machine's byte order and this program's layout of structs: it is a cache, made
 * anew wherever it does not fit. Every byte is under a checksum, which is checked before the byte
 * is used; reading copies the file, so that a later change of it touches nothing. Written beside,
 * synced, renamed. docs/format.md describes it. Thread: a writer or a reader belongs to its caller.
 */
#ifndef KS_KB_SNAPFILE_H
#define KS_KB_SNAPFILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "record.h"

#define SNAP_NAME "derived.snapshot"

/* Raised when a section or a struct in one changes its meaning; a changed layout shows itself. */
enum { SNAP_FORMAT = 1 };

enum snap_section {
    SNAP_TEXTS,    /* char: texts of claims and conditions, each ends with a NUL; the first is "" */
    SNAP_NAMES,    /* char: names of the table, sorted */
    SNAP_IDS,      /* struct id: evidence of folds */
    SNAP_CELLS,    /* struct insight_cell, key: number of a name */
    SNAP_POINTS,   /* struct fold_point, feature: number of a name */
    SNAP_FAILURES, /* struct insight_failure, class: number of a name */
    SNAP_ENTRIES,  /* struct table_entry in id order, pointers: places in the sections */
    SNAP_WITHDRAWN,
    SNAP_EVIDENCE_ROWS,
    SNAP_EVIDENCE_BY_ID,
    SNAP_EVIDENCE_BY_CLAIM,
    SNAP_EVIDENCE_RETRACTED,
    SNAP_EVIDENCE_NAMES,
    SNAP_DOCS,
    SNAP_TECHNIQUES, /* char: names of the facet's values in number order, as the next two */
    SNAP_FAMILIES,
    SNAP_REQUIRES,
    SNAP_SPELLINGS,             /* char: techniques as claims spell them */
    SNAP_TECHNIQUE_OF_SPELLING, /* uint32_t */
    SNAP_DEVICES,               /* uint64_t: name number, words, then the words, for each device */
    SNAP_SECTIONS
};

/* What a snapshot is of: it is good for this alone, and for what came later on top of it. */
struct snap_subject {
    char base[40];            /* id of the knowledge base */
    char model[32];           /* built-in embedding */
    uint64_t vocab;           /* fingerprint of the vocabulary of techniques */
    uint64_t layout;          /* of the structs in the sections */
    uint64_t schema, adopted; /* of the base; META_ADOPTED */
    uint64_t seq;             /* of the newest fact in it */
    uint64_t history;         /* over some of the facts up to it */
    uint64_t facts[FACT_COUNT];
};

struct snap_writer;

/* Begins `dir`/derived.snapshot beside the present one. ERR_IO, ERR_NOMEM. */
int snap_create(const char *dir, struct snap_writer **out, struct err *err);
/* Everything put from now on belongs to this section; each is begun once. */
void snap_begin(struct snap_writer *w, enum snap_section section);
/* Appends; a failure is kept and comes out of snap_finish. */
void snap_put(struct snap_writer *w, const void *data, size_t len);
/* Ends the file and puts it in place. ERR_IO, ERR_NOMEM: the old one stays. */
int snap_finish(struct snap_writer *w, const struct snap_subject *subject, struct err *err);
/* Drops what was not finished. NULL is fine. */
void snap_writer_free(struct snap_writer *w);

struct snap {
    int fd;
    struct snap_subject subject;
    struct snap_place {
        uint64_t offset, len; /* bytes, in `data` */
    } sections[SNAP_SECTIONS];
    uint64_t body_len, table_sum;
    uint8_t *data; /* all sections; own pages, as large as `body_len`; NULL until they are read */
};

/* Opens and reads the head. ERR_NOT_FOUND, ERR_CORRUPT with a reason ("its checksum ..."), ERR_IO.
 */
int snap_open(const char *dir, struct snap *s, struct err *err);
/* Reads and checks all sections. ERR_CORRUPT, ERR_IO, ERR_NOMEM. */
int snap_read(struct snap *s, struct err *err);
/* The elements of a section, `size` bytes each; `*n` gets how many. NULL with ERR_CORRUPT when they
 * do not come out even. */
void *snap_elements(const struct snap *s, enum snap_section section, size_t size, size_t *n,
                    struct err *err);
/* Gives the memory of a section back; nobody reads it afterwards. */
void snap_forget(const struct snap *s, enum snap_section section);
/*
 * A copy of `n` elements in memory of its own, with room for `cap`; free() frees it. NULL when
 * memory is out.
 */
void *snap_copy(const void *elements, size_t size, size_t n, size_t cap);
/* Closes the file, and frees `data` unless it was taken (set to NULL). */
void snap_release(struct snap *s);
/* Frees `data` of a snapshot with this body_len. NULL is fine. */
void snap_data_free(uint8_t *data, size_t body_len);

#endif
