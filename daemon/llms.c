/* SPDX-License-Identifier: Apache-2.0 */
/* The daemon's language models; see llms.h. */
#include "llms.h"

#include <string.h>

#include "base/mem.h"
#include "conf.h"
#include "daemon.h"
#include "llm/provider_queue.h"
#include "loop.h"
#include "proto/methods.h"
#include "rpc/rpc.h"
#include "rpc/rpc_llm.h"

enum { OPENAI, QUEUE, REPLAY, N_PROVIDERS };

static const char *const names[N_PROVIDERS] = { "openai", "queue", "replay" };

struct llms {
    struct daemon *d;
    struct llm *found[N_PROVIDERS]; /* as searches get them; NULL: not asked for yet */
    struct llm *queue;              /* found[QUEUE] owns it once it is there */
    bool notify_pending;
};

/* ---- Making them ---- */

static int make_replay(struct daemon *d, struct llm **out, struct err *err)
{
    const struct conf *conf = d->conf;

    if (conf->llm_replay_file[0] == '\0')
        return err_set(err, ERR_INVALID,
                       "proposer 'replay' needs a recording: set 'llm_replay_file'");
    if (strcmp(conf->llm_replay_file, conf->llm_record) == 0)
        return err_set(err, ERR_INVALID,
                       "'llm_record' and 'llm_replay_file' are the same file '%s': a recording "
                       "cannot be added to while it is replayed",
                       conf->llm_record);
    return llm_replay_new(loop_base(d->loop), conf->llm_replay_file,
                          (enum llm_match)conf->llm_replay_match, out, err);
}

static int make(struct llms *m, int which, struct llm **out, struct err *err)
{
    struct daemon *d = m->d;

    if (which == OPENAI)
        return llm_openai_new(loop_base(d->loop), d->conf, d->clock, out, err);
    if (which == REPLAY)
        return make_replay(d, out, err);
    *out = m->queue;
    return 0;
}

static int make_recorded(struct llms *m, int which, struct err *err)
{
    struct llm *inner;

    if (make(m, which, &inner, err) != 0)
        return -1;
    if (m->d->conf->llm_record[0] == '\0') {
        m->found[which] = inner;
        return 0;
    }
    if (llm_record_new(inner, m->d->conf->llm_record, &m->found[which], err) == 0)
        return 0;
    if (inner != m->queue) /* which stays for those that answer */
        llm_free(inner);
    return -1;
}

struct llm *llms_find(struct llms *m, const char *proposer, struct err *err)
{
    for (int i = 0; i < N_PROVIDERS; i++) {
        if (strcmp(names[i], proposer) != 0)
            continue;
        if (m->found[i] == NULL && make_recorded(m, i, err) != 0)
            return NULL;
        return m->found[i];
    }
    err_set(err, ERR_INVALID, "no language model is called '%.60s'; openai, queue and replay are",
            proposer);
    return NULL;
}

struct llm *llms_queue(struct llms *m)
{
    return m->queue;
}

json_t *llms_status(const struct llms *m)
{
    json_t *out = json_object();

    for (int i = 0; i < N_PROVIDERS; i++) {
        const struct llm *p = m->found[i] != NULL || i != QUEUE ? m->found[i] : m->queue;

        json_object_set_new(out, names[i], p != NULL ? p->status(p) : json_null());
    }
    return out;
}

/* ---- Watchers of the queue ---- */

static void notify(void *arg)
{
    struct llms *m = arg;

    m->notify_pending = false;
    if (m->queue != NULL && rpc_subscribed(m->d->rpc, RPC_LLM_STREAM))
        rpc_notify(m->d->rpc, RPC_LLM_STREAM, NOTIFY_LLM_PENDING,
                   json_pack("{s:o}", "requests", llm_queue_pending(m->queue, NULL)));
}

/* Of all that changes in one turn of the loop the watchers get one list. */
static void on_change(void *ctx)
{
    struct llms *m = ctx;

    if (m->notify_pending)
        return;
    m->notify_pending = true;
    loop_defer(m->d->loop, notify, m);
}

/* ---- Life ---- */

static bool names_models(const struct conf *c)
{
    return c->llm_models[0] != '\0' || c->llm_planner[0] != '\0' || c->llm_coder[0] != '\0' ||
           c->llm_editor[0] != '\0';
}

int llms_open(struct daemon *d, struct llms **out, struct err *err)
{
    struct llms *m = xcalloc(1, sizeof(*m));
    struct err ignored;

    m->d = d;
    if (llm_queue_new(loop_base(d->loop), d->clock, &m->queue, err) != 0) {
        free(m);
        return -1;
    }
    llm_queue_on_change(m->queue, on_change, m);
    /* Reading the system's certificates takes longer than a turn of the loop may: now nobody waits.
     * What is wrong is said to the search that asks. */
    if (names_models(d->conf))
        llms_find(m, names[OPENAI], &ignored);
    *out = m;
    return 0;
}

static void free_late(void *arg)
{
    free(arg);
}

void llms_close(struct llms *m)
{
    if (m == NULL)
        return;
    llm_queue_on_change(m->queue, NULL, NULL);
    if (m->found[QUEUE] == NULL)
        llm_free(m->queue);
    for (int i = 0; i < N_PROVIDERS; i++)
        llm_free(m->found[i]);
    m->queue = NULL;
    /* A notification may be on its way. */
    loop_defer(m->d->loop, free_late, m);
}
