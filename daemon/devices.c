/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device records and the probe; see devices.h.
 *
 *     ensure: read the record (worker) --found--> done
 *                    \--not found, "cpu"--> wait for the turn --> child --> check and store
 * (worker) --> done
 */
#include "devices.h"

#include <string.h>

#include "base/jsonx.h"
#include "base/list.h"
#include "base/mem.h"
#include "base/str.h"
#include "child.h"
#include "conf.h"
#include "daemon.h"
#include "eval/launcher_command.h"
#include "kb.h"
#include "log.h"
#include "loop.h"
#include "near.h"
#include "sched/turns.h"
#include "work.h"

enum { RECORD_MAX = 1 << 18 };
static const double probe_timeout_s = 180;

struct waiter {
    struct list node;
    device_done_fn *done;
    void *arg;
};

struct probe {
    struct devices *devices;
    char *name, *march; /* march "" for native */
    struct list waiters;
    struct turn turn;    /* of this machine's processor */
    struct child *child; /* while it runs */
    struct work store;
    char *text; /* what the child printed */
    json_t *record;
    struct err start_err;
};

struct devices {
    struct daemon *daemon;
    struct probe *probe; /* the one that runs, or NULL */
    bool closing;
};

struct devices *devices_new(struct daemon *d)
{
    struct devices *ds = xcalloc(1, sizeof(*ds));

    ds->daemon = d;
    return ds;
}

static void probe_end(struct probe *p, const struct err *err);

/* A probe under way frees us at its end; one whose record is being stored has that when the pool
 * ends. */
void devices_free(struct devices *ds)
{
    struct probe *p;
    struct err err;

    if (ds == NULL)
        return;
    p = ds->probe;
    ds->closing = true;
    if (p == NULL) {
        free(ds);
    } else if (p->child != NULL) {
        child_stop(p->child);
    } else if (p->text == NULL) {
        err_set(&err, ERR_CANCELLED, "the probe of device '%s' was cancelled", p->name);
        probe_end(p, &err);
    }
}

/* ---- Reading ---- */

static int offer_name(void *ctx, const char *key, const json_t *doc)
{
    (void)doc;
    near_offer(ctx, key);
    return 0;
}

int device_get(struct daemon *d, const char *name, json_t **out, struct err *err)
{
    struct near near = { .wanted = name };
    char list[400];
    struct err ignored;

    if (kb_get_doc(d->kb, KB_DEVICE, name, out, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND)
        return -1;
    kb_each_doc(d->kb, KB_DEVICE, offer_name, &near, &ignored);
    return err_set(err, ERR_NOT_FOUND, "device '%s' is not known%s", name,
                   near.n > 0 ? near_text(&near, list, sizeof(list))
                              : "; 'ksearch device probe' measures this machine");
}

/* ---- The probe ---- */

static void probe_end(struct probe *p, const struct err *err)
{
    struct devices *ds = p->devices;

    if (err != NULL)
        log_warn("device '%s' was not probed: %s", p->name, err->msg);
    else
        log_info("device '%s' was probed: %s", p->name, jsonx_str(p->record, "class", "?"));
    ds->probe = NULL;
    turns_end(&p->turn);
    LIST_FOREACH (n, &p->waiters) {
        struct waiter *w = LIST_OF(n, struct waiter, node);

        list_remove(n);
        w->done(w->arg, err == NULL ? p->record : NULL, err);
        free(w);
    }
    json_decref(p->record);
    free(p->text);
    free(p->name);
    free(p->march);
    free(p);
    if (ds->closing)
        free(ds);
}

/* What the rest relies on; other members are passed through as they are. */
static int check_record(const json_t *r, struct err *err)
{
    static const char *const texts[] = { "kind", "class", "toolchain" };

    if (!json_is_object(r))
        return err_set(err, ERR_FAILED, "the probe printed JSON that is no object");
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (*jsonx_str(r, texts[i], "") == '\0')
            return err_set(err, ERR_FAILED, "the probe's record has no '%s'", texts[i]);
    if (!json_is_array(json_object_get(r, "features")))
        return err_set(err, ERR_FAILED, "the probe's record has no 'features'");
    return 0;
}

static int store_run(struct work *w, struct err *err)
{
    struct probe *p = LIST_OF(w, struct probe, store);
    struct daemon *d = p->devices->daemon;
    struct kb_batch *b;
    int rc;

    if (jsonx_parse(p->text, strlen(p->text), "the probe's record", &p->record, err) != 0 ||
        check_record(p->record, err) != 0)
        return -1;
    json_object_set_new(p->record, "name", json_string(p->name));
    json_object_set_new(p->record, "probed", json_true());
    json_object_set_new(p->record, "probed_at",
                        json_integer((json_int_t)(d->clock->wall_ns(d->clock) / NS_PER_SEC)));
    b = kb_batch_new(d->kb);
    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to store the device");
    rc = kb_batch_put_doc(b, KB_DEVICE, p->name, p->record, err);
    if (rc == 0)
        rc = kb_commit(b, err);
    kb_batch_free(b);
    return rc;
}

static void store_done(struct work *w, const struct err *err)
{
    probe_end(LIST_OF(w, struct probe, store), err);
}

static void on_child(void *arg, const char *out, size_t len, const struct err *err)
{
    struct probe *p = arg;

    p->child = NULL;
    if (err != NULL) {
        probe_end(p, err);
        return;
    }
    p->text = xmalloc(len + 1);
    memcpy(p->text, out, len + 1);
    p->store.run = store_run;
    p->store.done = store_done;
    work_submit(p->devices->daemon->work, &p->store);
}

static void probe_wait(struct probe *p, device_done_fn *done, void *arg)
{
    struct waiter *w = xcalloc(1, sizeof(*w));

    w->done = done;
    w->arg = arg;
    list_append(&p->waiters, &w->node);
}

/* Tells one who cannot have a probe, from the end of the turn. */
struct refusal {
    device_done_fn *done;
    void *arg;
    struct err err;
};

static void tell_refusal(void *arg)
{
    struct refusal *r = arg;

    r->done(r->arg, NULL, &r->err);
    free(r);
}

static void refuse_later(struct daemon *d, device_done_fn *done, void *arg, const struct err *err)
{
    struct refusal *r = xcalloc(1, sizeof(*r));

    *r = (struct refusal){ done, arg, *err };
    loop_defer(d->loop, tell_refusal, r);
}

static void probe_not_started(void *arg)
{
    struct probe *p = arg;
    struct err err = p->start_err; /* p is freed while its waiters read it */

    probe_end(p, &err);
}

static void probe_go(struct turn *t)
{
    struct probe *p = LIST_OF(t, struct probe, turn);
    struct daemon *d = p->devices->daemon;
    const char *argv[COMMAND_WORDS_MAX + 5] = { NULL };
    struct child_options o = { argv, NULL, probe_timeout_s, RECORD_MAX };
    char **prefix = NULL, **env = NULL;
    struct err none;
    size_t n = 0;

    /* The device is where evaluations are carried out. */
    if (d->conf->evaluator == CONF_EVAL_COMMAND &&
        command_words(d->conf->command, &prefix, &none) == 0) {
        for (; prefix[n]; n++)
            argv[n] = prefix[n];
        o.timeout_s += d->conf->command_wait_s;
        if (command_words(d->conf->command_env, &env, &none) == 0)
            o.env = (const char *const *)env;
    }
    argv[n++] = d->conf->harness;
    argv[n++] = "probe";
    if (*p->march != '\0') {
        argv[n++] = "--march";
        argv[n++] = p->march;
    }
    log_info("probing device '%s'", p->name);
    if (child_start(d->loop, &o, on_child, p, &p->child, &p->start_err) != 0)
        loop_defer(d->loop, probe_not_started, p);
    command_words_free(prefix);
    command_words_free(env);
}

static struct probe *probe_new(struct devices *ds, const char *name, const char *march)
{
    struct probe *p = xcalloc(1, sizeof(*p));

    p->devices = ds;
    p->name = xstrdup(name);
    p->march = xstrdup(march);
    p->turn.go = probe_go;
    list_init(&p->waiters);
    return p;
}

void device_probe(struct daemon *d, const char *name, const char *march, device_done_fn *done,
                  void *arg)
{
    struct devices *ds = d->devices;
    struct err err;

    march = march != NULL ? march : "";
    if (ds->closing || d->stopping) {
        err_set(&err, ERR_CONFLICT, "the daemon is stopping; nothing is probed any more");
    } else if (ds->probe == NULL) {
        ds->probe = probe_new(ds, name, march);
        probe_wait(ds->probe, done, arg);
        turns_ask(d->turns, "cpu", &ds->probe->turn);
        return;
    } else if (strcmp(ds->probe->name, name) == 0 && strcmp(ds->probe->march, march) == 0) {
        probe_wait(ds->probe, done, arg);
        return;
    } else {
        err_set(&err, ERR_CONFLICT, "device '%s' is being probed; try again when that is over",
                ds->probe->name);
    }
    refuse_later(d, done, arg, &err);
}

/* ---- Ensure ---- */

struct ensure {
    struct work work;
    struct daemon *daemon;
    char *name;
    json_t *device;
    device_done_fn *done;
    void *arg;
};

static void ensure_free(struct ensure *e)
{
    json_decref(e->device);
    free(e->name);
    free(e);
}

static int ensure_run(struct work *w, struct err *err)
{
    struct ensure *e = LIST_OF(w, struct ensure, work);

    return device_get(e->daemon, e->name, &e->device, err);
}

/* Every base calls its own processor "cpu": a record that came in a pack is of another one. */
static bool is_foreign(const json_t *device)
{
    return strcmp(jsonx_str(device, "kind", ""), "cpu") == 0 && !jsonx_bool(device, "probed", 1);
}

static void ensure_done(struct work *w, const struct err *err)
{
    struct ensure *e = LIST_OF(w, struct ensure, work);
    bool unknown = err != NULL ? err->code == ERR_NOT_FOUND : is_foreign(e->device);

    if (unknown && strcmp(e->name, "cpu") == 0 && !e->daemon->stopping)
        device_probe(e->daemon, e->name, NULL, e->done, e->arg);
    else
        e->done(e->arg, err == NULL ? e->device : NULL, err);
    ensure_free(e);
}

void device_ensure(struct daemon *d, const char *name, device_done_fn *done, void *arg)
{
    struct ensure *e = xcalloc(1, sizeof(*e));

    e->work.run = ensure_run;
    e->work.done = ensure_done;
    e->daemon = d;
    e->name = xstrdup(name);
    e->done = done;
    e->arg = arg;
    work_submit(d->work, &e->work);
}

double device_gflops(const json_t *device, const char *dtype)
{
    double fma = jsonx_num(device, "fma_gflops", 0), dot = jsonx_num(device, "bf16_gflops", 0);
    double own = jsonx_num(json_object_get(device, "gflops"), dtype, 0);
    bool narrow = strcmp(dtype, "bf16") == 0 || strncmp(dtype, "f8", 2) == 0 ||
                  strncmp(dtype, "fp8", 3) == 0 || strcmp(dtype, "f16") == 0;

    if (own > 0)
        return own;
    return narrow && dot > fma ? dot : fma;
}
