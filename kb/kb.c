/* SPDX-License-Identifier: Apache-2.0 */
/* Opening and closing a knowledge base; see kb.h and kb_impl.h. */
#include "kb.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "kb_impl.h"
#include "snapfile.h"
#include "snapshot.h"

void kb_notice(struct kb *kb, const char *fmt, ...)
{
    char sentence[700];
    va_list ap;

    if (kb->notice == NULL)
        return;
    va_start(ap, fmt);
    vsnprintf(sentence, sizeof(sentence), fmt, ap);
    va_end(ap);
    kb->notice(kb->notice_ctx, sentence);
}

/* Retrieval says what it had to make anew: the snapshot is worth writing then. */
static void retrieve_notice(void *ctx, const char *sentence)
{
    struct kb *kb = ctx;

    kb->snapshot_due = true;
    kb_notice(kb, "%s", sentence);
}

static const struct insight *insight_by_ordinal(void *ctx, uint32_t ordinal)
{
    const struct kb *kb = ctx;

    return ordinal < kb->table.n ? &kb->table.by_ordinal[ordinal]->in : NULL;
}

/* Everything from the facts. */
static int load_facts(struct kb *kb, struct err *err)
{
    uint64_t counts[FACT_COUNT] = { 0 };

    if (load_table(kb, kb->retrieve, &kb->table, counts, err) != 0)
        return -1;
    load_counts(kb, counts);
    if (load_retrieve(kb, err) != 0)
        return -1;
    for (size_t i = 0; i < kb->table.n; i++)
        if (retrieve_update(kb->retrieve, &kb->table.by_ordinal[i]->in, err) != 0)
            return -1;
    return 0;
}

/* The snapshot and what is newer. */
static int load_snapshot(struct kb *kb, struct err *err)
{
    uint64_t counts[FACT_COUNT] = { 0 }, seq;

    if (snapshot_load(kb, counts, &seq, err) != 0)
        return -1;
    if (load_tail(kb, seq, counts, err) != 0)
        return err_ctx(err, "what is newer cannot be added");
    counts[FACT_EVALUATION] = 0;
    load_counts(kb, counts);
    return 0;
}

static int load_state(struct kb *kb, struct err *err)
{
    struct err why = { 0 };

    if (load_snapshot(kb, &why) == 0)
        return 0;
    if (snapshot_drop(kb, err) != 0 || load_facts(kb, err) != 0)
        return -1;
    if (kb->table.n > 0 || why.code != ERR_NOT_FOUND)
        kb_notice(
            kb,
            "The snapshot of derived state '%s/%s' is not used, because %s; %zu insights were "
            "folded from the facts.",
            kb->dir, SNAP_NAME, why.msg, kb->table.n);
    return 0;
}

static int load_all(struct kb *kb, struct err *err)
{
    struct retrieve_options ro = { .dir = kb->dir,
                                   .insight = insight_by_ordinal,
                                   .insight_ctx = kb,
                                   .notice = retrieve_notice,
                                   .notice_ctx = kb };

    if (load_last(kb, err) != 0 || retrieve_open(&ro, &kb->retrieve, err) != 0)
        return -1;
    retrieve_preload(kb->retrieve);
    if (load_state(kb, err) != 0)
        return -1;
    kb->snapshot_due = false;
    return retrieve_finish_load(kb->retrieve, kb->last_seq, err);
}

/* Writers go first: a stream of readers must not keep a commit waiting. */
static int locks_init(struct kb *kb, struct err *err)
{
    pthread_rwlockattr_t attr;
    bool ok;

    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    ok = pthread_rwlock_init(&kb->lock, &attr) == 0 && pthread_mutex_init(&kb->commit, NULL) == 0;
    pthread_rwlockattr_destroy(&attr);
    return ok ? 0 : err_set(err, ERR_NOMEM, "no memory for the locks of the knowledge base");
}

static void kb_free(struct kb *kb)
{
    retrieve_close(kb->retrieve);
    table_release(&kb->table);
    folder_close(&kb->folder);
    pthread_rwlock_destroy(&kb->lock);
    pthread_mutex_destroy(&kb->commit);
    free(kb->dir);
    free(kb);
}

static int open_into(struct kb *kb, const char *dir, struct err *err)
{
    struct err ignored;

    kb->dir = strdup(dir);
    if (kb->dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open the knowledge base '%s'", dir);
    if (folder_open(dir, STORE_CREATE, kb->clock, &kb->folder, err) != 0)
        return -1;
    kb->store = kb->folder.store;
    if (folder_check_schema(&kb->folder, dir, err) != 0 ||
        table_init(&kb->table, load_evidence, kb->store, err) != 0)
        return -1;
    /* Bases from before there were origins; without room for it, facts without origin go on. */
    if (store_add_cf(kb->store, CF_ORIGIN, &ignored) != 0)
        kb_notice(kb, "facts of another origin cannot be stored: %s", ignored.msg);
    /* A cache: without room for it, vectors of a provider cannot be kept. */
    if (store_add_cf(kb->store, CF_EMBEDDING, &ignored) != 0)
        kb_notice(kb, "vectors of an embedding provider cannot be stored: %s", ignored.msg);
    return load_all(kb, err);
}

int kb_open(const struct kb_options *o, struct kb **out, struct err *err)
{
    struct kb *kb = calloc(1, sizeof(*kb));

    if (kb == NULL || locks_init(kb, err) != 0) {
        free(kb);
        return err_set(err, ERR_NOMEM, "no memory to open the knowledge base '%s'", o->dir);
    }
    kb->folder.lock_fd = -1;
    kb->clock = o->clock;
    kb->notice = o->notice;
    kb->notice_ctx = o->notice_ctx;
    kb->sync = o->sync;
    if (open_into(kb, o->dir, err) != 0) {
        kb_free(kb);
        return -1;
    }
    *out = kb;
    return 0;
}

void kb_close(struct kb *kb)
{
    struct err err;

    if (kb == NULL)
        return;
    if (kb->snapshot_due && !kb->stale && retrieve_snapshot(kb->retrieve, kb->last_seq, &err) != 0)
        kb_notice(kb, "the index snapshot was not written, the next opening makes it anew: %s",
                  err.msg);
    if (kb->left_out)
        snapshot_remove(kb);
    if (snapshot_is_due(kb) && snapshot_write(kb, &err) != 0)
        kb_notice(
            kb,
            "the snapshot of derived state was not written, the next opening folds the facts: "
            "%s",
            err.msg);
    kb_free(kb);
}
