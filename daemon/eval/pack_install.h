/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs that users bring: from the texts of a message to a folder of the daemon's own. Staged in a
 * folder that no scan sees, looked at as any pack, and put in place by one rename, so that a crash
 * leaves the old pack or the new one. `home` is the folder of all such packs.
 */
#ifndef KS_EVAL_PACK_INSTALL_H
#define KS_EVAL_PACK_INSTALL_H

#include <jansson.h>
#include <stdbool.h>

#include "eval/pack.h"

enum {
    PACK_FILES_MAX = 128,
    PACK_IMPORT_MAX = 6 << 20 /* bytes of all files of an import; a request has 8 MiB */
};

/* A pack on its way; zero it before pack_stage, release it afterwards in any case. */
struct pack_stage {
    char *home, *dir;  /* owned; `dir` is the staging folder, NULL once nothing is left of it */
    char *place;       /* owned; where it is to go, home/FAMILY; NULL without a family */
    struct pack *pack; /* owned; its problems say what is wrong with it */
    bool exists;       /* there is a pack in that place */
    bool same;         /* with the same files */
};

/* Makes `home` where it is missing and removes what broken imports left. ERR_IO. Blocks. */
int pack_home_open(const char *home, struct err *err);
/*
 * Writes `files` {relative path: text} to a new folder in `home` and parses it. What is wrong with
 * the pack, unknown files included, becomes its problems. ERR_LIMIT (too many files or bytes: then
 * nothing was written), ERR_INVALID (not texts), ERR_IO. Thread: worker, blocks.
 */
int pack_stage(const char *home, const json_t *files, struct pack_stage *out, struct err *err);
/*
 * Puts a staged pack without problems in its place: other readers of the folder see all of the old
 * one or all of the new. *pack (a reference, its paths already the new ones) is the caller's.
 * What was there before lies in the staging folder until the release. ERR_IO. Thread: any, does
 * not read or write files.
 */
int pack_stage_install(struct pack_stage *s, struct pack **pack, struct err *err);
/* Removes the staging folder, syncs `home`, frees. Thread: worker, blocks. */
void pack_stage_release(struct pack_stage *s);

#endif
