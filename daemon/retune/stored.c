/* SPDX-License-Identifier: Apache-2.0 */
/* The documents of retunes; see stored.h. */
#include "retune/stored.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "kb.h"
#include "retune/report.h"
#include "retune/retunes.h"

enum { LISTED_MAX = 1000 };
#define LIST_KEY "retunes"

static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;

void stored_lock(void)
{
    pthread_mutex_lock(&list_lock);
}

void stored_unlock(void)
{
    pthread_mutex_unlock(&list_lock);
}

static char *stored_key(const char *id, bool progress)
{
    char *key = str_printf("retune/%s%s", id, progress ? "/progress" : "");

    if (key == NULL)
        abort(); /* as xmalloc does */
    return key;
}

int stored_list(struct kb *kb, json_t **out, struct err *err)
{
    if (kb_get_doc(kb, KB_SIDE, LIST_KEY, out, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    *out = json_pack("{s:[]}", "retunes");
    return 0;
}

int stored_put_progress(struct kb_batch *b, const char *id, const json_t *progress, struct err *err)
{
    CLEANUP(freep) char *key = stored_key(id, true);

    return kb_batch_put_doc(b, KB_SIDE, key, progress, err);
}

int stored_put_listed(struct kb *kb, struct kb_batch *b, const char *id, const json_t *doc,
                      const char *state, struct err *err)
{
    json_auto_t *list = NULL;
    json_t *rows, *row, *mine = NULL;
    size_t i;

    if (stored_list(kb, &list, err) != 0)
        return -1;
    rows = json_object_get(list, "retunes");
    json_array_foreach (rows, i, row) {
        if (strcmp(jsonx_str(row, "id", ""), id) == 0)
            mine = row;
    }
    if (mine == NULL) {
        mine =
            json_pack("{s:s, s:s, s:s, s:b, s:O}", "id", id, "device", jsonx_str(doc, "device", ""),
                      "from", jsonx_str(doc, "from", ""), "toolchain",
                      jsonx_bool(doc, "toolchain", 0), "created", json_object_get(doc, "created"));
        json_array_append_new(rows, mine);
        if (json_array_size(rows) > LISTED_MAX)
            json_array_remove(rows, 0);
    }
    json_object_set_new(mine, "state", json_string(state));
    return kb_batch_put_doc(b, KB_SIDE, LIST_KEY, list, err);
}

int stored_create(struct kb *kb, const char *id, const json_t *doc, const json_t *progress,
                  struct err *err)
{
    CLEANUP(freep) char *key = stored_key(id, false);
    struct kb_batch *b = kb_batch_new(kb);
    int rc = -1;

    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to store a retune");
    stored_lock();
    if (kb_batch_put_doc(b, KB_SIDE, key, doc, err) == 0 &&
        stored_put_progress(b, id, progress, err) == 0 &&
        stored_put_listed(kb, b, id, doc, "running", err) == 0)
        rc = kb_commit(b, err);
    stored_unlock();
    kb_batch_free(b);
    return rc;
}

int stored_read(struct kb *kb, const char *id, json_t **doc, json_t **progress, struct err *err)
{
    CLEANUP(freep) char *key = stored_key(id, false), *progress_key = stored_key(id, true);
    json_auto_t *read = NULL;

    if (kb_get_doc(kb, KB_SIDE, key, &read, err) != 0 ||
        kb_get_doc(kb, KB_SIDE, progress_key, progress, err) != 0)
        return -1;
    *doc = TAKE(read);
    return 0;
}

/* ---- Answers ---- */

json_t *retune_plan_json(const json_t *doc)
{
    static const char *const members[] = { "from",  "toolchain", "budget", "delta",   "roofline",
                                           "tasks", "insights",  "plan",   "left_out" };
    json_t *out = json_pack("{s:s}", "to", jsonx_str(doc, "device", ""));

    for (size_t i = 0; i < ARRAY_LEN(members); i++)
        if (json_object_get(doc, members[i]) != NULL)
            json_object_set(out, members[i], json_object_get(doc, members[i]));
    return out;
}

int retune_show(struct daemon *d, const char *id, json_t **out, struct err *err)
{
    json_auto_t *doc = NULL, *progress = NULL;
    json_t *show, *report;

    if (stored_read(d->kb, id, &doc, &progress, err) != 0) {
        if (err->code == ERR_NOT_FOUND)
            err_set(err, ERR_NOT_FOUND, "there is no retune '%s'", id);
        return -1;
    }
    report = json_object_get(progress, "report");
    if (report != NULL)
        json_incref(report);
    else if (report_make(d->kb, doc, progress, &report, err) != 0)
        return -1;
    show = retune_plan_json(doc);
    json_object_set_new(show, "id", json_string(id));
    json_object_set(show, "created", json_object_get(doc, "created"));
    json_object_set(show, "state", json_object_get(progress, "state"));
    if (json_object_get(progress, "searches") != NULL)
        json_object_set(show, "searches", json_object_get(progress, "searches"));
    json_object_set_new(show, "report", report);
    *out = show;
    return 0;
}

int retune_list(struct daemon *d, json_t **out, struct err *err)
{
    json_auto_t *list = NULL;
    json_t *rows, *newest_first = json_array();

    if (stored_list(d->kb, &list, err) != 0) {
        json_decref(newest_first);
        return -1;
    }
    rows = json_object_get(list, "retunes");
    for (size_t i = json_array_size(rows); i > 0; i--)
        json_array_append(newest_first, json_array_get(rows, i - 1));
    *out = json_pack("{s:o}", "retunes", newest_first);
    return 0;
}
