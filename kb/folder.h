/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The folder of a knowledge base: a lock file that one process holds, the store beside it, and the
 * store's identity (schema, id, time of creation). What opening, migrating and restoring share.
 * Thread: the opener's.
 */
#ifndef KS_KB_FOLDER_H
#define KS_KB_FOLDER_H

#include "base/clock.h"
#include "store.h"

enum { KB_ID_HEX = 32 };

struct folder {
    int lock_fd; /* -1 when not held */
    struct store *store;
    uint32_t schema; /* that the stored layout has */
    char id[KB_ID_HEX + 1];
    uint64_t created_ns;
};

/*
 * Locks `dir` and opens its store. STORE_CREATE makes the folder, the store with the present
 * schema, and finishes a creation that was interrupted. Any schema is opened: the caller compares.
 * ERR_CONFLICT names the folder and the process that has it; ERR_NOT_FOUND; ERR_CORRUPT; ERR_IO.
 */
int folder_open(const char *dir, enum store_mode mode, const struct clock *clock,
                struct folder *out, struct err *err);
/* Closes the store, then gives up the lock. */
void folder_close(struct folder *f);

/* ERR_REFUSED when the schema is newer than this program, or older and needs a migration. */
int folder_check_schema(const struct folder *f, const char *dir, struct err *err);

/* Documents of CF_META. `*out` is NULL when the key is not there. ERR_CORRUPT, ERR_IO. */
int meta_get(struct store *s, const char *name, json_t **out, struct err *err);
int meta_put(struct store_batch *b, struct store *s, const char *name, const json_t *value,
             struct err *err);

#endif
