/* SPDX-License-Identifier: Apache-2.0 */
/* The events of one step; see journal.h. */
#include "search/journal.h"

#include <string.h>

#include "search/search.h"
#include "search/spend.h"

int journal_open(struct journal *j, struct search *s, const struct clock *clock, struct err *err)
{
    *j = (struct journal){ s, kb_batch_new(s->kb), clock, json_array() };
    if (j->batch == NULL || j->events == NULL) {
        journal_close(j);
        return err_set(err, ERR_NOMEM, "no memory for the journal of search '%s'", s->spec.id);
    }
    return 0;
}

int journal_add(struct journal *j, json_t *event, struct err *err)
{
    struct search *s = j->search;
    uint64_t seq = s->next_seq;
    enum search_state before = s->state;
    int rc;

    if (event == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an event of search '%s'", s->spec.id);
    json_object_set_new(event, "seq", json_integer((json_int_t)seq));
    json_object_set_new(event, "at",
                        json_integer((json_int_t)(j->clock->wall_ns(j->clock) / NS_PER_SEC)));
    rc = search_apply(s, event, err);
    if (rc == 0)
        rc = kb_batch_add_event(j->batch, s->spec.id, seq, event, err);
    if (rc == 0 && s->state != before) {
        json_t *doc = search_summary(s);

        rc = kb_batch_put_doc(j->batch, KB_SEARCH, s->spec.id, doc, err);
        json_decref(doc);
    }
    json_array_append_new(j->events, event);
    return rc == 0 && s->state == SEARCH_RUNNING ? spend_note(j, err) : rc;
}

int journal_commit(struct journal *j, struct err *err)
{
    if (kb_commit(j->batch, err) != 0)
        return err_ctx(err, "search '%s' could not write what it did", j->search->spec.id);
    return 0;
}

void journal_close(struct journal *j)
{
    kb_batch_free(j->batch);
    json_decref(j->events);
    memset(j, 0, sizeof(*j));
}
