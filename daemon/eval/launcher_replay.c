/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded evaluations: answering from a file, and writing one. See launcher.h. Thread: loop. */
#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/launcher.h"

enum { RECORDING_MAX = 256 << 20 };

/*
 * {"defines": {...}, "definition": ..., "set": ..., "source": ...} in canonical form; without
 * source (NULL) it is what older recordings have, of any program. Owned.
 */
static char *key_text(const json_t *definition, const json_t *set, const json_t *defines,
                      const json_t *source)
{
    json_auto_t *key = json_pack("{s:O, s:O, s:O, s:O*}", "definition", definition, "set", set,
                                 "defines", defines, "source", source);

    return jsonx_canonical(key);
}

static json_t *source_digest(const struct eval_program *p)
{
    uint8_t digest[SHA256_DIGEST_LENGTH];
    char hex[2 * SHA256_DIGEST_LENGTH + 1];

    SHA256((const unsigned char *)p->source, p->source_len, digest);
    str_hex(digest, sizeof(digest), hex);
    return json_string(hex);
}

/* A recorded task's request has no source, and so has its key. */
static json_t *request_key(const struct eval_request *req)
{
    json_t *defines = json_object();

    for (size_t i = 0; i < req->candidate.n_defines; i++)
        json_object_set_new(defines, req->candidate.defines[i].name,
                            json_string(req->candidate.defines[i].value));
    return json_pack("{s:s, s:s, s:o, s:o*}", "definition", req->definition, "set", req->set,
                     "defines", defines, "source",
                     req->candidate.source ? source_digest(&req->candidate) : NULL);
}

/* ---- Replay ---- */

struct replay {
    struct evaluator ev;
    struct event_base *base;
    json_t *records; /* key text to {"list": [record...], "next": index} */
    struct list jobs;
    bool closing;
};

struct replay_job {
    struct eval_job job;
    struct replay *r;
    struct list link;
    eval_done_fn *done;
    void *ctx;
    struct event *event;
    char *definition, *set;
    json_t *record; /* owned; NULL: the key is unknown */
    bool cancelled;
};

static void replay_end(struct replay_job *j)
{
    struct eval_result result;
    struct err err;

    if (j->cancelled)
        eval_result_fail(&result, EVAL_CANCELLED, j->definition, j->set, "cancelled");
    else if (j->record == NULL)
        eval_result_fail(&result, EVAL_INFRASTRUCTURE, j->definition, j->set,
                         "the recording has no evaluation of this program and assignment");
    else if (eval_result_from_json(j->record, &result, &err) != 0)
        eval_result_fail(&result, EVAL_INFRASTRUCTURE, j->definition, j->set, err.msg);
    j->done(j->ctx, &result, result.record);
    list_remove(&j->link);
    eval_result_release(&result);
    event_free(j->event);
    json_decref(j->record);
    free(j->definition);
    free(j->set);
    free(j);
}

static void on_replay(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    replay_end(arg);
}

/* The entry of this very program, else that of any. NULL: there is none, or memory is out. */
static json_t *replay_find(struct replay *r, const struct eval_request *req)
{
    json_auto_t *key = request_key(req);
    CLEANUP(freep) char *text = jsonx_canonical(key), *of_any = NULL;
    json_t *entry = text ? json_object_get(r->records, text) : NULL;

    if (entry != NULL || json_object_del(key, "source") != 0)
        return entry;
    of_any = jsonx_canonical(key);
    return of_any ? json_object_get(r->records, of_any) : NULL;
}

/* The next record of this request (a new reference); NULL when there is none. */
static json_t *replay_take(struct replay *r, const struct eval_request *req)
{
    json_t *entry = replay_find(r, req);
    json_t *list = json_object_get(entry, "list");
    size_t next = (size_t)jsonx_int(entry, "next", 0);

    if (entry == NULL)
        return NULL;
    if (next + 1 < json_array_size(list))
        json_object_set_new(entry, "next", json_integer((json_int_t)next + 1));
    return json_incref(json_array_get(list, next));
}

static int replay_start(struct evaluator *ev, const struct eval_request *req, eval_done_fn *done,
                        void *ctx, struct eval_job **out, struct err *err)
{
    struct replay *r = LIST_OF(ev, struct replay, ev);
    struct replay_job *j;

    if (r->closing)
        return err_set(err, ERR_CANCELLED, "evaluations are being shut down");
    if (req->verb != NULL)
        return err_set(err, ERR_INVALID, "a recording has evaluations only, no '%s'", req->verb);
    if (eval_request_check(req, err) != 0)
        return -1;
    j = xcalloc(1, sizeof(*j));
    j->job.ev = ev;
    j->r = r;
    j->done = done;
    j->ctx = ctx;
    j->definition = xstrdup(req->definition);
    j->set = xstrdup(req->set);
    j->record = replay_take(r, req);
    j->event = event_new(r->base, -1, 0, on_replay, j);
    if (j->event == NULL)
        abort(); /* as xmalloc does */
    list_append(&r->jobs, &j->link);
    event_active(j->event, EV_TIMEOUT, 0);
    *out = &j->job;
    return 0;
}

static void replay_cancel(struct eval_job *job)
{
    LIST_OF(job, struct replay_job, job)->cancelled = true;
}

static void replay_free(struct evaluator *ev)
{
    struct replay *r = LIST_OF(ev, struct replay, ev);

    r->closing = true;
    while (!list_empty(&r->jobs)) {
        struct replay_job *j = LIST_OF(r->jobs.next, struct replay_job, link);

        j->cancelled = true;
        replay_end(j);
    }
    json_decref(r->records);
    free(r);
}

static void replay_load(const struct evaluator *ev, size_t *waiting, size_t *running)
{
    const struct replay *r = LIST_OF(ev, const struct replay, ev);

    *waiting = *running = 0;
    LIST_FOREACH (at, &r->jobs) {
        (*running)++;
    }
}

static int add_record(json_t *records, const json_t *line, struct err *err)
{
    const json_t *definition = json_object_get(line, "definition");
    const json_t *set = json_object_get(line, "set");
    const json_t *defines = json_object_get(line, "defines");
    const json_t *source = json_object_get(line, "source");
    json_t *record = json_object_get(line, "record"), *entry;
    CLEANUP(freep) char *key = NULL;
    struct eval_result checked;

    if (json_object_size(line) != (source ? 5 : 4) || !json_is_string(definition) ||
        !json_is_string(set) || !json_is_object(defines))
        return err_set(err, ERR_INVALID,
                       "it needs exactly definition, set, defines and record, and may have source");
    if (source && !str_is_hex(jsonx_str(line, "source", ""), 2 * SHA256_DIGEST_LENGTH))
        return err_set(err, ERR_INVALID, "'source' must be the %d hexadecimal digits of a SHA-256",
                       2 * SHA256_DIGEST_LENGTH);
    if (eval_result_from_json(record, &checked, err) != 0)
        return -1;
    eval_result_release(&checked);
    key = key_text(definition, set, defines, source);
    if (key == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a key");
    entry = json_object_get(records, key);
    if (entry == NULL) {
        entry = json_pack("{s:[], s:i}", "list", "next", 0);
        json_object_set_new(records, key, entry);
    }
    json_array_append(json_object_get(entry, "list"), record);
    return 0;
}

static int load_recording(const char *path, json_t *records, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = RECORDING_MAX };
    char *line, *rest;
    size_t number = 0;

    if (file_read(path, &text, err) != 0)
        return -1;
    for (rest = text.data; rest && (line = strsep(&rest, "\n")) != NULL;) {
        json_auto_t *j = NULL;

        number++;
        if (line[0] == '\0')
            continue;
        if (jsonx_parse(line, strlen(line), "the line", &j, err) != 0 ||
            add_record(records, j, err) != 0)
            return err_ctx(err, "recording '%s' line %zu", path, number);
    }
    return 0;
}

int launcher_replay_new(struct event_base *base, const char *path, struct evaluator **out,
                        struct err *err)
{
    json_t *records = json_object();
    struct replay *r;

    if (load_recording(path, records, err) != 0) {
        json_decref(records);
        return -1;
    }
    r = xcalloc(1, sizeof(*r));
    r->ev = (struct evaluator){ replay_start, replay_cancel, replay_free, replay_load };
    r->base = base;
    r->records = records;
    list_init(&r->jobs);
    *out = &r->ev;
    return 0;
}

/* ---- Recording ---- */

struct recorder {
    struct evaluator ev;
    struct evaluator *inner;
    int fd;
    char *path;
};

struct recorded {
    struct recorder *r;
    eval_done_fn *done;
    void *ctx;
    json_t *key;
};

static int append_record(struct recorded *c, const json_t *record, struct err *err)
{
    CLEANUP(freep) char *text = NULL;
    CLEANUP(freep) char *line = NULL;

    json_object_set(c->key, "record", (json_t *)record);
    text = jsonx_canonical(c->key);
    line = text ? str_printf("%s\n", text) : NULL;
    if (line == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a record");
    return file_write_all(c->r->fd, line, strlen(line), err);
}

/* A recording with a hole would mislead its reader, so a record that cannot be kept does not count.
 */
static void on_recorded(void *ctx, const struct eval_result *result, const json_t *record)
{
    struct recorded *c = ctx;
    struct eval_result failed;
    struct err err;

    if (result->status == EVAL_CANCELLED || result->status == EVAL_INFRASTRUCTURE ||
        append_record(c, record, &err) == 0) {
        c->done(c->ctx, result, record);
    } else {
        err_ctx(&err, "recording '%s'", c->r->path);
        eval_result_fail(&failed, EVAL_INFRASTRUCTURE, result->definition, result->set, err.msg);
        c->done(c->ctx, &failed, failed.record);
        eval_result_release(&failed);
    }
    json_decref(c->key);
    free(c);
}

static int recorder_start(struct evaluator *ev, const struct eval_request *req, eval_done_fn *done,
                          void *ctx, struct eval_job **out, struct err *err)
{
    struct recorder *r = LIST_OF(ev, struct recorder, ev);
    struct eval_request all = *req;
    struct recorded *c;

    if (req->verb != NULL) /* not an evaluation */
        return r->inner->start(r->inner, req, done, ctx, out, err);
    if (eval_request_check(req, err) != 0)
        return -1;
    c = xcalloc(1, sizeof(*c));
    *c = (struct recorded){ .r = r, .done = done, .ctx = ctx, .key = request_key(req) };
    all.n_known = 0; /* who replays may have measured other programs */
    if (r->inner->start(r->inner, &all, on_recorded, c, out, err) == 0)
        return 0;
    json_decref(c->key);
    free(c);
    return -1;
}

/* Jobs are the inner evaluator's own, and are cancelled there. */
static void recorder_cancel(struct eval_job *job)
{
    evaluator_cancel(job);
}

static void recorder_free(struct evaluator *ev)
{
    struct recorder *r = LIST_OF(ev, struct recorder, ev);

    evaluator_free(r->inner);
    close(r->fd);
    free(r->path);
    free(r);
}

static void recorder_load(const struct evaluator *ev, size_t *waiting, size_t *running)
{
    evaluator_load(LIST_OF(ev, const struct recorder, ev)->inner, waiting, running);
}

int launcher_record_new(struct evaluator *inner, const char *path, struct evaluator **out,
                        struct err *err)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct recorder *r;

    if (fd < 0)
        return err_set(err, ERR_IO, "the recording '%s' cannot be written: %s", path,
                       strerror(errno));
    r = xcalloc(1, sizeof(*r));
    r->ev = (struct evaluator){ recorder_start, recorder_cancel, recorder_free, recorder_load };
    r->inner = inner;
    r->fd = fd;
    r->path = xstrdup(path);
    *out = &r->ev;
    return 0;
}
