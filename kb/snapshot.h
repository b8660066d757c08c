/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The snapshot of derived state: what folding all facts gave, so that opening need not fold them
 * again. It is good for one base up to one sequence number and one count of adopted facts; newer
 * facts are folded on top. The lexical and the vector index have a file of their own (retrieve.h).
 * Thread: the opener's; writing under the read lock.
 */
#ifndef KS_KB_SNAPSHOT_H
#define KS_KB_SNAPSHOT_H

#include "kb_impl.h"

/*
 * Fills the empty table, the empty retrieval and `counts` (facts per kind as load_table counts
 * them) from the snapshot; `*seq` gets the sequence number that it ends at. The sets of several
 * claims are marked: table_settle shows them. After -1 snapshot_drop is due, and `err` says in half
 * a sentence why the snapshot is of no use; ERR_NOT_FOUND when there is none.
 */
int snapshot_load(struct kb *kb, uint64_t counts[FACT_COUNT], uint64_t *seq, struct err *err);
/* Makes table and retrieval empty again. ERR_NOMEM: the base cannot be opened then. */
int snapshot_drop(struct kb *kb, struct err *err);

/* Whether enough was folded since the snapshot was written or read to write it again. */
bool snapshot_is_due(const struct kb *kb);
/* Writes it. The derived state must be settled and not stale. ERR_IO, ERR_NOMEM, ERR_CORRUPT; the
 * old one stays. */
int snapshot_write(struct kb *kb, struct err *err);

/* Removes it, because the facts do not say any more what it shows. A missing one is fine. */
void snapshot_remove(struct kb *kb);

#endif
