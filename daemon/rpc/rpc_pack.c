/* SPDX-License-Identifier: Apache-2.0 */
/* kb.export, kb.backup and kb.key_*: knowledge that leaves, and the keys that sign it. */
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "embed.h"
#include "eval/pack.h"
#include "exchange.h"
#include "kb.h"
#include "keys.h"
#include "proto/methods.h"
#include "rpc/rpc.h"

enum { HOST_LEN = 256, HOST_MIN = 4 };

/* ---- What must not leave: names of this machine and of workloads ---- */

struct words {
    char host[HOST_LEN], domainless[HOST_LEN];
    const char *hosts[2];
    const char **instances; /* borrowed from the packs */
    size_t n_hosts, n_instances, cap;
};

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int by_case(const void *a, const void *b)
{
    return strcasecmp(*(const char *const *)a, *(const char *const *)b);
}

/* A host called "c" would take every other claim with it; so short ones are not looked for. */
static void add_host(struct words *w, const char *host)
{
    if (strlen(host) < HOST_MIN || strcasecmp(host, "localhost") == 0)
        return;
    if (w->n_hosts > 0 && strcasecmp(w->hosts[0], host) == 0)
        return;
    w->hosts[w->n_hosts++] = host;
}

static void add_hosts(struct words *w)
{
    if (gethostname(w->host, sizeof(w->host)) != 0)
        return;
    w->host[sizeof(w->host) - 1] = '\0';
    str_copy(w->domainless, sizeof(w->domainless), w->host);
    w->domainless[strcspn(w->domainless, ".")] = '\0';
    add_host(w, w->host);
    add_host(w, w->domainless);
    qsort(w->hosts, w->n_hosts, sizeof(*w->hosts), by_case);
}

static void add_set(struct words *w, const struct pack_set *set)
{
    for (size_t i = 0; i < set->n_workloads; i++) {
        if (!screen_is_instance_name(set->workloads[i]))
            continue;
        w->instances = xgrow(w->instances, &w->cap, w->n_instances + 1, sizeof(*w->instances));
        w->instances[w->n_instances++] = set->workloads[i];
    }
}

static void add_instances(struct words *w, const struct packs *packs)
{
    for (size_t i = 0; i < packs_count(packs); i++) {
        const struct pack *p = packs_get(packs, i);

        for (size_t k = 0; k < p->n_definitions; k++)
            for (size_t s = 0; s < p->definitions[k].n_sets; s++)
                add_set(w, &p->definitions[k].sets[s]);
    }
    if (w->n_instances > 0)
        qsort(w->instances, w->n_instances, sizeof(*w->instances), by_text);
}

/* ---- export ---- */

struct export_params {
    char *task, *family, *device, *technique, *since;
    bool claims_only, no_evaluations, no_programs;
    int file;
    uint64_t since_s;
};

#define NAME_ROW(field, what)                                                                      \
    {                                                                                              \
#field, PARAM_NAME, offsetof(struct export_params, field), 0, what, 0, 0, NULL, 0          \
    }
#define FLAG_ROW(field, what)                                                                      \
    {                                                                                              \
#field, PARAM_BOOL, offsetof(struct export_params, field), 0, what, 0, 0, NULL, 0          \
    }

static const struct param export_rows[] = {
    NAME_ROW(task, "only what was measured on this task"),
    NAME_ROW(family, "only claims and measurements of this family"),
    NAME_ROW(device, "only what was measured on this device"),
    { "technique", PARAM_STR, offsetof(struct export_params, technique), 0,
      "only claims of this technique, and what bears on them", 0, 200, NULL, 0 },
    { "since", PARAM_STR, offsetof(struct export_params, since), 0,
      "only what was measured at or after this time: a date, a date with time, or seconds since "
      "1970",
      0, 40, NULL, 0 },
    FLAG_ROW(claims_only, "neither evidence nor evaluations (false)"),
    FLAG_ROW(no_evaluations, "evidence without the evaluations behind it (false)"),
    FLAG_ROW(no_programs, "no sources and spaces of programs (false)"),
    { 0 },
};

/* What a caller passes must be a file of its own for this: empty, and open for writing too. */
static int check_file(int fd, struct err *err)
{
    int mode = fcntl(fd, F_GETFL);
    struct stat st;

    if (mode < 0 || fstat(fd, &st) != 0 || (mode & O_ACCMODE) != O_RDWR || st.st_size != 0)
        return err_set(err, ERR_INVALID,
                       "the file of 'kb.export' must be empty and open for reading and writing");
    return 0;
}

static int parse_since(const char *since, uint64_t *out_s, struct err *err)
{
    uint64_t ns;
    char seen[60];

    if (since == NULL)
        return 0;
    if (clock_parse_time(since, &ns) != 0)
        return err_set(err, ERR_INVALID,
                       "'since' is '%s'; allowed are '2026-11-22', '2026-11-22T16:05:09Z' and "
                       "seconds since 1970",
                       str_visible(since, strlen(since), seen, sizeof(seen)));
    *out_s = ns / NS_PER_SEC;
    return 0;
}

static int export_words(struct daemon *d, const struct export_params *p, const struct words *w,
                        json_t **result, struct err *err)
{
    struct kb_embedding_stats stats;
    struct exchange_export o = {
        .filter = { .task = p->task,
                    .family = p->family,
                    .device = p->device,
                    .technique = p->technique,
                    .since_s = p->since_s,
                    .claims_only = p->claims_only,
                    .no_evaluations = p->no_evaluations,
                    .no_programs = p->no_programs },
        .screen = { .hosts = w->hosts,
                    .n_hosts = w->n_hosts,
                    .instances = w->instances,
                    .n_instances = w->n_instances },
        .embedding = EMBED_MODEL,
        .dir = d->conf->data,
        .now_s = d->clock->wall_ns(d->clock) / NS_PER_SEC,
    };

    kb_embedding_get_stats(d->kb, &stats);
    if (stats.active[0] != '\0')
        o.embedding =
            screen_text(&o.screen, stats.active) ? "of a name that stays here" : stats.active;
    return exchange_export(d->kb, &o, p->file, result, err);
}

static int export_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    CLEANUP(packs_release) struct packs *packs = packs_take(&d->packs);
    struct words words = { 0 };
    int rc;

    add_hosts(&words);
    add_instances(&words, packs);
    rc = export_words(d, params, &words, result, err);
    free(words.instances);
    return rc;
}

static void kb_export_call(struct rpc_call *call, void *params)
{
    struct export_params *p = params;
    struct err err;

    p->file = rpc_call_file(call);
    if (check_file(p->file, &err) != 0 || parse_since(p->since, &p->since_s, &err) != 0) {
        rpc_fail(call, &err);
        return;
    }
    rpc_run(call, export_run);
}

/* ---- backup ---- */

struct backup_params {
    char *dir;
};

static const struct param backup_rows[] = {
    { "dir", PARAM_STR, offsetof(struct backup_params, dir), PARAM_REQUIRED,
      "absolute path of the folder to make, on the daemon's machine", 0, 4000, NULL, 0 },
    { 0 },
};

static int backup_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct backup_params *p = params;

    if (p->dir[0] != '/')
        return err_set(err, ERR_INVALID, "'dir' is '%.200s'; an absolute path is allowed", p->dir);
    if (kb_backup(d->kb, p->dir, err) != 0)
        return -1;
    *result = json_pack("{s:s, s:I}", "dir", p->dir, "last_seq", (json_int_t)kb_last_seq(d->kb));
    return 0;
}

static void kb_backup_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, backup_run);
}

/* ---- Keys ---- */

static json_t *key_json(const struct public_key *k)
{
    char line[KEYS_LINE_MAX];

    return json_pack("{s:s, s:s, s:s}", "fingerprint", k->fingerprint.hex, "name", k->name, "key",
                     keys_line(k, line));
}

static int key_show_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct public_key own;

    (void)params;
    if (keys_own(d->conf->data, &own, err) != 0)
        return -1;
    *result = key_json(&own);
    return 0;
}

static void kb_key_show_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, key_show_run);
}

struct key_params {
    char *key, *name;
};

static const struct param trust_rows[] = {
    { "key", PARAM_STR, offsetof(struct key_params, key), PARAM_REQUIRED,
      "public key: the text that kb.key_show gives, or PEM", 0, KEYS_TEXT_MAX, NULL, 0 },
    { "name", PARAM_NAME, offsetof(struct key_params, name), 0,
      "who it is; else the name in the text, else the first digits of the fingerprint", 0, 0, NULL,
      0 },
    { 0 },
};

static int key_trust_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    const struct key_params *p = params;
    struct public_key k, own, before;
    bool known;

    if (keys_parse(p->key, strlen(p->key), &k, err) != 0 || keys_own(d->conf->data, &own, err) != 0)
        return -1;
    if (strcmp(own.fingerprint.hex, k.fingerprint.hex) == 0)
        return err_set(err, ERR_INVALID,
                       "this is the own key of this knowledge base, which it trusts anyway");
    if (p->name != NULL)
        str_copy(k.name, sizeof(k.name), p->name);
    if (k.name[0] == '\0')
        snprintf(k.name, sizeof(k.name), "%.12s", k.fingerprint.hex);
    known = keys_trusted(d->conf->data, &k.fingerprint, &before, err) == 0;
    if ((!known && err->code != ERR_NOT_FOUND) || keys_trust(d->conf->data, &k, err) != 0)
        return -1;
    *result = key_json(&k);
    json_object_set_new(*result, "added", json_boolean(!known));
    return 0;
}

static void kb_key_trust_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, key_trust_run);
}

static int list_key(void *ctx, const struct public_key *k)
{
    json_array_append_new(ctx, key_json(k));
    return 0;
}

static int key_list_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *keys = json_array();

    (void)params;
    if (keys_each(d->conf->data, list_key, keys, err) != 0)
        return -1;
    *result = json_pack("{s:O}", "keys", keys);
    return 0;
}

static void kb_key_list_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, key_list_run);
}

static const struct param distrust_rows[] = {
    { "key", PARAM_STR, offsetof(struct key_params, key), PARAM_REQUIRED,
      "name of the key, or its fingerprint or the first digits of it (at least 6)", 0, 200, NULL,
      0 },
    { 0 },
};

static int key_distrust_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    struct public_key k;

    if (keys_distrust(d->conf->data, ((struct key_params *)params)->key, &k, err) != 0)
        return -1;
    *result = key_json(&k);
    return 0;
}

static void kb_key_distrust_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, key_distrust_run);
}

const struct rpc_method rpc_pack_methods[] = {
    { METHOD_KB_BACKUP, backup_rows, sizeof(struct backup_params), 0, kb_backup_call,
      "Copy the whole knowledge base, as it is after the last commit, to a new folder. Keys are "
      "not in it.",
      "{dir, last_seq}", NULL },
    { METHOD_KB_EXPORT, export_rows, sizeof(struct export_params), RPC_FILE, kb_export_call,
      "Write a signed pack of facts to the file: those that the filters name, with what they refer "
      "to. What would give away paths, hosts, keys or workloads is left out.",
      "{facts{kind: n}, documents{device, program}, bytes, sha256, signer, left_out, named[{kind, "
      "id, why}]}",
      NULL },
    { METHOD_KB_KEY_DISTRUST, distrust_rows, sizeof(struct key_params), RPC_WRITE,
      kb_key_distrust_call, "Take packs of this key no more. What came with it stays.",
      "{fingerprint, name, key}", NULL },
    { METHOD_KB_KEY_LIST, NULL, 0, 0, kb_key_list_call, "The keys whose packs are taken.",
      "{keys[{fingerprint, name, key}]}", NULL },
    { METHOD_KB_KEY_SHOW, NULL, 0, 0, kb_key_show_call,
      "The public key that signs what this knowledge base exports; the pair is made on first need.",
      "{fingerprint, name, key}", NULL },
    { METHOD_KB_KEY_TRUST, trust_rows, sizeof(struct key_params), RPC_WRITE, kb_key_trust_call,
      "Take packs that this key signed. A trusted key gets the new name.",
      "{fingerprint, name, key, added}", NULL },
    { 0 },
};
