/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the daemon's parts in order, and closing them in the reverse one; see daemon.h. */
#include "daemon.h"

#include <errno.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "devices.h"
#include "embedder.h"
#include "eval/launcher.h"
#include "eval/launcher_recorded.h"
#include "eval/pack.h"
#include "eval/pack_install.h"
#include "kb.h"
#include "llms.h"
#include "search/prompt.h"
#include "log.h"
#include "retune/retunes.h"
#include "loop.h"
#include "rpc/rpc_eval.h"
#include "rpc/server.h"
#include "sched/turns.h"
#include "search/history.h"
#include "upkeep.h"
#include "work.h"

enum { TASK_DIRS_MAX = 64, SPARE_FILES = 512 };

static void kb_notice(void *ctx, const char *sentence)
{
    (void)ctx;
    log_warn("kb: %s", sentence);
}

static int open_kb(struct daemon *d, struct err *err)
{
    struct kb_options o = {
        .dir = d->conf->data, .clock = d->clock, .notice = kb_notice, .sync = true
    };

    return kb_open(&o, &d->kb, err);
}

char *daemon_pack_home(const struct daemon *d)
{
    char *path = str_printf("%s/tasks", d->conf->data);

    if (path == NULL)
        abort(); /* as xmalloc does */
    return path;
}

static int open_packs(struct daemon *d, struct err *err)
{
    CLEANUP(freep) char *list = xstrdup(d->conf->tasks), *home = NULL;
    const char *dirs[TASK_DIRS_MAX];
    char *save = NULL;
    size_t n = 0;

    for (char *dir = strtok_r(list, ":", &save); dir != NULL; dir = strtok_r(NULL, ":", &save)) {
        if (n == TASK_DIRS_MAX)
            return err_set(err, ERR_LIMIT, "'tasks' names over %d folders", TASK_DIRS_MAX);
        dirs[n++] = dir;
    }
    if (packs_load(dirs, n, &d->packs, err) != 0)
        return err_ctx(err, "tasks '%s'", d->conf->tasks);
    /* Last, so that a name that both have is the configured folders'. */
    home = daemon_pack_home(d);
    if (pack_home_open(home, err) != 0 || packs_add(d->packs, home, err) != 0)
        return err_ctx(err, "imported tasks");
    for (size_t i = 0; i < packs_count(d->packs); i++) {
        const struct pack *p = packs_get(d->packs, i);

        for (size_t k = 0; k < p->n_problems; k++)
            log_warn("task pack '%s' is broken and left out: %s", p->dir, p->problems[k]);
    }
    return 0;
}

/* The launcher `command`: the configured words go before ksearch-eval. */
static int open_away(struct daemon *d, struct launcher_local_config *c, struct evaluator **out,
                     struct err *err)
{
    const struct conf *conf = d->conf;
    char **prefix = NULL, **env = NULL;
    struct err none;
    int rc;

    if (command_words(conf->command, &prefix, err) != 0)
        return err_ctx(err, "'command'");
    if (command_words(conf->command_env, &env, &none) != 0)
        env = NULL; /* no variable at all */
    c->prefix = (const char *const *)prefix;
    c->prefix_env = (const char *const *)env;
    c->prefix_wait_s = conf->command_wait_s;
    c->retries = (struct command_retries){ (unsigned)conf->command_retries,
                                           (unsigned)conf->command_limit_retries };
    rc = launcher_local_new(loop_base(d->loop), c, out, err);
    command_words_free(prefix);
    command_words_free(env);
    return rc;
}

/* Where evaluations are carried out: on this machine, or where the configured command leads. */
static int open_local(struct daemon *d, struct evaluator **out, struct err *err)
{
    const struct conf *conf = d->conf;
    bool away = conf->evaluator == CONF_EVAL_COMMAND;
    CLEANUP(freep)
    char *work = away && conf->command_dir[0] ? xstrdup(conf->command_dir)
                                              : str_printf("%s/work", d->conf->data);
    CLEANUP(freep) char *cache = str_printf("%s/build-cache", d->conf->data);
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    struct launcher_local_config c = {
        .program = d->conf->harness,
        .work_dir = work,
        .cache_dir = cache,
        .march = "native",
        .sandbox = d->conf->sandbox == CONF_SANDBOX_NONE ? "none" : "bwrap",
        .threads =
            d->conf->eval_threads > 0 ? (uint32_t)d->conf->eval_threads : (uint32_t)MAX(cores, 1),
    };

    if (work == NULL || cache == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (d->conf->sandbox == CONF_SANDBOX_NONE)
        log_warn("sandbox = none: candidates run without confinement");
    return away ? open_away(d, &c, out, err) : launcher_local_new(loop_base(d->loop), &c, out, err);
}

static int open_inner(struct daemon *d, struct err *err)
{
    struct evaluator *local;

    if (d->conf->evaluator == CONF_EVAL_REPLAY)
        return launcher_replay_new(loop_base(d->loop), d->conf->replay_file, &d->evaluator, err);
    if (open_local(d, &local, err) != 0)
        return -1;
    if (d->conf->evaluator != CONF_EVAL_RECORD) {
        d->evaluator = local;
        return 0;
    }
    if (launcher_record_new(local, d->conf->replay_file, &d->evaluator, err) != 0) {
        evaluator_free(local);
        return -1;
    }
    return 0;
}

/* Recorded tasks are looked up, whatever measures the others. */
static int open_evaluator(struct daemon *d, struct err *err)
{
    if (open_inner(d, err) != 0)
        return -1;
    d->evaluator = launcher_recorded_new(loop_base(d->loop), d->kb, d->work, d->evaluator);
    return 0;
}

/* A descriptor per connection and what the rest needs. */
static void raise_files(const struct daemon *d)
{
    struct rlimit lim;
    rlim_t want = d->conf->max_connections + SPARE_FILES;

    if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur >= want)
        return;
    lim.rlim_cur = MIN(want, lim.rlim_max);
    if (setrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur < want)
        log_warn("only %llu files may be open; %llu would serve max_connections = %llu",
                 (unsigned long long)lim.rlim_cur, (unsigned long long)want,
                 (unsigned long long)d->conf->max_connections);
}

static void open_rpc(struct daemon *d)
{
    d->rpc =
        rpc_server_new(&(struct rpc_server_options){ .loop = d->loop,
                                                     .daemon = d,
                                                     .groups = rpc_groups,
                                                     .max_connections = d->conf->max_connections });
}

/* Children run elsewhere: what they are told must not depend on where we started. */
static int make_data_folder(struct conf *conf, struct err *err)
{
    char *path;

    if (file_mkdirs(conf->data, err) != 0)
        return err_ctx(err, "data folder");
    path = realpath(conf->data, NULL);
    if (path == NULL)
        return err_set(err, ERR_IO, "cannot resolve '%s': %s", conf->data, strerror(errno));
    free(conf->data);
    conf->data = path;
    return 0;
}

int daemon_open(struct daemon *d, struct conf *conf, const struct clock *clock, struct err *err)
{
    *d = (struct daemon){ .conf = conf, .clock = clock, .started_ns = clock->mono_ns(clock) };
    list_init(&d->evals);
    raise_files(d);
    if (make_data_folder(conf, err) != 0)
        return -1;
    if (loop_new(&d->loop, err) != 0 || work_pool_new(d->loop, conf->workers, &d->work, err) != 0)
        goto fail;
    open_rpc(d);
    /* The base before the socket: who loses the race for the folder must not touch the other's
     * socket. */
    if (open_kb(d, err) != 0 || open_packs(d, err) != 0 || open_evaluator(d, err) != 0)
        goto fail;
    d->turns = turns_new();
    d->devices = devices_new(d);
    d->history = history_new();
    d->upkeep = upkeep_new(d);
    if (prompts_load(d->conf->llm_prompts, &d->prompts, err) != 0 ||
        embedder_open(d, &d->embedder, err) != 0 || llms_open(d, &d->llms, err) != 0)
        goto fail;
    if (searches_open(d, &d->searches, err) != 0 || retunes_open(d, &d->retunes, err) != 0)
        goto fail;
    if (rpc_server_listen(d->rpc, conf->socket, err) != 0)
        goto fail;
    return 0;
fail:
    daemon_close(d);
    return -1;
}

void daemon_stop(struct daemon *d)
{
    d->stopping = true;
    rpc_server_close_socket(d->rpc);
}

size_t daemon_calls(const struct daemon *d)
{
    return (size_t)rpc_server_stats(d->rpc).in_flight;
}

/* Owners of unanswered calls go first, each answering its own; then the connections; the base is
 * last. */
void daemon_close(struct daemon *d)
{
    d->stopping = true;
    if (d->rpc != NULL)
        rpc_server_close_socket(d->rpc);
    upkeep_stop(d->upkeep);
    embedder_stop(d->embedder);
    rpc_eval_drop_waiting(d);
    devices_free(d->devices);
    retunes_close(d->retunes);
    d->retunes = NULL; /* workers that are not through yet may end with a wish for them */
    searches_close(d->searches);
    llms_close(d->llms);
    d->llms = NULL;
    prompts_free(d->prompts);
    d->prompts = NULL;
    evaluator_free(d->evaluator);
    d->evaluator = NULL;
    work_pool_free(d->work);
    if (d->loop != NULL)
        loop_turn(d->loop, false); /* what was deferred may answer calls too */
    searches_free(d->searches);
    upkeep_free(d->upkeep);
    embedder_free(d->embedder);
    turns_free(d->turns);
    rpc_server_free(d->rpc);
    history_free(d->history);
    packs_unref(d->packs);
    kb_close(d->kb);
    loop_free(d->loop);
    *d = (struct daemon){ .conf = d->conf };
}
