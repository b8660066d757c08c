/* SPDX-License-Identifier: Apache-2.0 */
/* The part of the snapshot that is the table of insights; for snapshot.c. */
#ifndef KS_KB_SNAPSHOT_TABLE_H
#define KS_KB_SNAPSHOT_TABLE_H

#include "snapfile.h"
#include "table.h"

/* Of the structs in its sections. */
uint64_t snapshot_table_layout(void);
/* Puts the sections. ERR_NOMEM; failures of writing are the writer's. */
int snapshot_table_put(struct snap_writer *w, const struct table *t, struct err *err);
/*
 * Fills an empty table, which takes `s->data` over. ERR_CORRUPT, ERR_NOMEM: the table is then to be
 * released.
 */
int snapshot_table_take(struct snap *s, struct table *t, struct err *err);

#endif
