/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one wrapper of RocksDB: a folder of column families, batches that are all or nothing, ordered
 * reads. Errors of RocksDB become ours: a folder held elsewhere ERR_CONFLICT, damage ERR_CORRUPT, a
 * full disk and the rest ERR_IO. RocksDB itself aborts the process when memory is out. Thread: any;
 * a batch belongs to its caller. Blocks.
 */
#ifndef KS_KB_STORE_H
#define KS_KB_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "schema.h"

struct store;
struct store_batch;

enum store_mode {
    STORE_OPEN,  /* ERR_NOT_FOUND when there is none */
    STORE_CREATE /* a missing or empty folder becomes a store without column families but default */
};

/*
 * Opens `dir`. Column families that it lacks are absent until store_add_cf; those it has and we do
 * not know are opened and left alone. `*fresh` tells whether it was made just now. ERR_CONFLICT,
 * ERR_CORRUPT, ERR_NOT_FOUND, ERR_IO, ERR_NOMEM.
 */
int store_open(const char *dir, enum store_mode mode, struct store **out, bool *fresh,
               struct err *err);
/* Closes; acknowledged writes are in the log. NULL is fine. */
void store_close(struct store *s);

bool store_has_cf(const struct store *s, enum schema_cf cf);
/* Makes the column family unless it is there. Before other threads use the store. ERR_IO. */
int store_add_cf(struct store *s, enum schema_cf cf, struct err *err);

/* Appends the value to `out` (whose cap bounds it). ERR_NOT_FOUND with no message of its own worth
 * showing, ERR_CORRUPT, ERR_IO, ERR_LIMIT. */
int store_get(struct store *s, enum schema_cf cf, const struct key *key, struct buf *out,
              struct err *err);
int store_has(struct store *s, enum schema_cf cf, const struct key *key, bool *out,
              struct err *err);

/* Borrowed until the callback returns. Non-zero stops the walk, which then returns 0. */
typedef int store_visit(void *ctx, const void *key, size_t key_len, const void *value,
                        size_t value_len);
/*
 * Visits, in key order, the keys that start with `prefix` (NULL: all) and are not below `from`
 * (NULL: the first), as they were when the walk began. ERR_CORRUPT, ERR_IO.
 */
int store_each(struct store *s, enum schema_cf cf, const struct key *prefix, const struct key *from,
               store_visit *fn, void *ctx, struct err *err);
/* The last key of a column family into `out`; len 0 when it is empty. ERR_CORRUPT, ERR_IO. */
int store_last_key(struct store *s, enum schema_cf cf, struct key *out, struct err *err);

/* NULL when memory is out. */
struct store_batch *store_batch_new(void);
void store_batch_free(struct store_batch *b);
/* Cannot fail but by memory, which aborts. The value is `head` followed by `data`. */
void store_batch_put(struct store_batch *b, struct store *s, enum schema_cf cf,
                     const struct key *key, const void *head, size_t head_len, const void *data,
                     size_t len);
void store_batch_delete(struct store_batch *b, struct store *s, enum schema_cf cf,
                        const struct key *key);
/*
 * All of it or nothing; with `sync` it is on disk when this returns. ERR_IO, ERR_CORRUPT. After a
 * failure only reads go on, until store_mend. A batch that failed may turn out to be stored then.
 */
int store_write(struct store *s, struct store_batch *b, bool sync, struct err *err);

/*
 * After a failed write: opens the store anew, when its disk has room and nobody reads; then it
 * takes writes again. `*mended` says that this happened: what was read before is to be read again.
 * Without a failed write it does nothing. One writer at a time calls it, and holds no read. ERR_IO
 * with what is to be done; reading goes on.
 */
int store_mend(struct store *s, bool *mended, struct err *err);

/*
 * A copy of the store as it is now in `dir`, which must not exist; tables are hard links when it is
 * on the same disk. ERR_CONFLICT when `dir` exists, ERR_IO.
 */
int store_copy(struct store *s, const char *dir, struct err *err);

/* Bytes of table files and of what waits in memory for one. */
uint64_t store_bytes(struct store *s);

#endif
