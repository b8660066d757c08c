/* SPDX-License-Identifier: Apache-2.0 */
/* What a snapshot of derived state is of, and when it is written; see snapshot.h. */
#include "snapshot.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "embed.h"
#include "retrieve_state.h"
#include "snapshot_table.h"
#include "text.h"
#include "vocab.h"

enum {
    HISTORY_FACTS = 64, /* looked at to tell one history from another */
    DUE_SHARE = 16,     /* of all facts folded: so many newer ones make writing worth while */
};

/*
 * A base that was put back from a copy and went on has the same identity and other facts under the
 * same numbers: the facts at equal steps up to the end tell.
 */
static int history_of(struct kb *kb, uint64_t seq, uint64_t *out, struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    uint64_t h = seq, step = MAX(seq / HISTORY_FACTS, 1u);

    for (uint64_t i = 0; i < HISTORY_FACTS && i * step < seq; i++) {
        struct key key;

        buf_clear(&value);
        key_of_u64(seq - i * step, &key);
        if (store_get(kb->store, CF_FACT, &key, &value, err) != 0)
            return -1;
        h = text_hash(h, (const char *)value.data, value.len);
    }
    *out = h;
    return 0;
}

static int subject_of(struct kb *kb, uint64_t seq, struct snap_subject *out, struct err *err)
{
    *out = (struct snap_subject){ .vocab = vocab_fingerprint(),
                                  .schema = kb->folder.schema,
                                  .adopted = kb->adopted,
                                  .seq = seq };
    out->layout = text_hash_pair(snapshot_table_layout(), retrieve_state_layout());
    str_copy(out->base, sizeof(out->base), kb->folder.id);
    str_copy(out->model, sizeof(out->model), EMBED_MODEL);
    return history_of(kb, seq, &out->history, err);
}

/* ---- Reading ---- */

static int check_subject(struct kb *kb, const struct snap_subject *has, struct err *err)
{
    struct snap_subject want;

    if (strcmp(has->base, kb->folder.id) != 0)
        return err_set(err, ERR_CORRUPT, "it is of another knowledge base");
    if (has->seq > kb->last_seq)
        return err_set(err, ERR_CORRUPT,
                       "it is of sequence number %" PRIu64 ", and the base ends at %" PRIu64,
                       has->seq, (uint64_t)kb->last_seq);
    if (subject_of(kb, has->seq, &want, err) != 0)
        return -1;
    if (has->schema != want.schema)
        return err_set(err, ERR_CORRUPT, "it is of schema %" PRIu64 ", not %" PRIu64, has->schema,
                       want.schema);
    if (has->layout != want.layout)
        return err_set(err, ERR_CORRUPT, "another build of this program wrote it");
    if (strcmp(has->model, want.model) != 0 || has->vocab != want.vocab)
        return err_set(err, ERR_CORRUPT, "it was made with another vocabulary of techniques");
    if (has->adopted != want.adopted)
        return err_set(err, ERR_CORRUPT, "facts from elsewhere became local since");
    if (has->history != want.history)
        return err_set(err, ERR_CORRUPT, "its facts are not those of the base");
    return 0;
}

/* The two parts count the same insights. */
static int take_parts(struct kb *kb, struct snap *s, struct err *err)
{
    struct retrieve_stats stats;

    if (retrieve_state_take(s, kb->retrieve, err) != 0 ||
        snapshot_table_take(s, &kb->table, err) != 0)
        return -1;
    retrieve_get_stats(kb->retrieve, &stats);
    if (stats.insights != kb->table.n)
        return err_set(err, ERR_CORRUPT, "its parts do not agree");
    return 0;
}

int snapshot_drop(struct kb *kb, struct err *err)
{
    kb->snapshot_good = false;
    kb->n_retrievable = 0;
    table_release(&kb->table);
    if (table_init(&kb->table, load_evidence, kb->store, err) != 0)
        return -1;
    return retrieve_state_reset(kb->retrieve, err);
}

int snapshot_load(struct kb *kb, uint64_t counts[FACT_COUNT], uint64_t *seq, struct err *err)
{
    struct snap s;
    int rc = snap_open(kb->dir, &s, err);

    if (rc == 0)
        rc = check_subject(kb, &s.subject, err);
    if (rc == 0)
        rc = snap_read(&s, err);
    if (rc == 0)
        rc = take_parts(kb, &s, err);
    if (rc == 0) {
        memcpy(counts, s.subject.facts, sizeof(s.subject.facts));
        *seq = kb->snapshot_seq = s.subject.seq;
        kb->snapshot_good = true;
        kb->snapshot_adopted = s.subject.adopted;
        kb->n_retrievable = (uint32_t)kb->table.n;
    }
    snap_release(&s);
    return rc;
}

/* ---- Writing ---- */

bool snapshot_is_due(const struct kb *kb)
{
    uint64_t folded = kb->facts[FACT_CLAIM] + kb->facts[FACT_EVIDENCE];
    uint64_t since = kb->last_seq - MIN(kb->snapshot_seq, kb->last_seq);

    if (kb->stale || kb->left_out || kb->table.entries.count == 0)
        return false;
    return !kb->snapshot_good || kb->snapshot_adopted != kb->adopted || since > folded / DUE_SHARE;
}

int snapshot_write(struct kb *kb, struct err *err)
{
    struct snap_subject subject;
    struct snap_writer *w;
    int rc;

    if (subject_of(kb, kb->last_seq, &subject, err) != 0 || snap_create(kb->dir, &w, err) != 0)
        return -1;
    memcpy(subject.facts, kb->facts, sizeof(subject.facts));
    retrieve_state_put(w, kb->retrieve);
    rc = snapshot_table_put(w, &kb->table, err);
    if (rc == 0)
        rc = snap_finish(w, &subject, err);
    snap_writer_free(w);
    if (rc == 0) {
        kb->snapshot_good = true;
        kb->snapshot_seq = kb->last_seq;
        kb->snapshot_adopted = kb->adopted;
    }
    return rc;
}

void snapshot_remove(struct kb *kb)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", kb->dir, SNAP_NAME);

    kb->snapshot_good = false;
    if (path != NULL && unlink(path) != 0 && errno != ENOENT)
        kb_notice(kb, "the snapshot '%s' does not show what the facts say; remove it: %m", path);
}
