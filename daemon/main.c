/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearchd: command line, configuration, signals. In the foreground, logs on stderr. SIGTERM and
 * SIGINT stop it cleanly; a second one ends it at once (the knowledge base is crash-safe).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "log.h"
#include "loop.h"
#include "migrations.h"
#include "rpc/rpc_docs.h"
#include "search/prompt.h"

enum { DRAIN_STEP_MS = 50, DRAIN_STEPS = 40, DOCS_MAX = 1 << 20 };

/* ---- Command line ---- */

struct args {
    const char *config, *data, *socket, *print_prompts;
    bool check_config, migrate, dry_run, version, help, rpc_docs;
};

/* One row per option; the help is printed from them. */
static const struct arg_row {
    const char *name, *value; /* value NULL: a flag */
    size_t offset;
    const char *help;
} arg_rows[] = {
    { "--config", "FILE", offsetof(struct args, config), "read options from FILE" },
    { "--data", "DIR", offsetof(struct args, data), "folder of the knowledge base" },
    { "--socket", "PATH", offsetof(struct args, socket), "Unix socket to listen on" },
    { "--check-config", NULL, offsetof(struct args, check_config),
      "print the options as they would be used, and stop" },
    { "--migrate", NULL, offsetof(struct args, migrate),
      "bring an older knowledge base up to date, and stop" },
    { "--dry-run", NULL, offsetof(struct args, dry_run),
      "with --migrate: only say what would be done" },
    { "--print-prompts", "DIR", offsetof(struct args, print_prompts),
      "write the built-in prompts into DIR, and stop" },
    { "--rpc-docs", NULL, offsetof(struct args, rpc_docs),
      "print the page about the protocol, and stop" },
    { "--version", NULL, offsetof(struct args, version), "print the version, and stop" },
    { "--help", NULL, offsetof(struct args, help), "print this, and stop" },
};

static int print_help(void)
{
    printf(
        "ksearchd [OPTION]...\nThe knowledge-base daemon for kernel search; docs/daemon.md has the "
        "options of FILE.\n\n");
    for (size_t i = 0; i < ARRAY_LEN(arg_rows); i++) {
        char left[40];

        snprintf(left, sizeof(left), "%s %s", arg_rows[i].name,
                 arg_rows[i].value != NULL ? arg_rows[i].value : "");
        printf("  %-21s %s\n", left, arg_rows[i].help);
    }
    return 0;
}

/* The row of "--name" or "--name=value"; *value is what follows '=', or NULL. */
static const struct arg_row *find_arg(const char *text, const char **value)
{
    size_t len = strcspn(text, "=");

    *value = text[len] == '=' ? text + len + 1 : NULL;
    for (size_t i = 0; i < ARRAY_LEN(arg_rows); i++)
        if (strlen(arg_rows[i].name) == len && strncmp(arg_rows[i].name, text, len) == 0)
            return &arg_rows[i];
    return NULL;
}

static int unknown_arg(const char *text, struct err *err)
{
    char seen[80], list[200];
    size_t n = 0;

    str_visible(text, strlen(text), seen, sizeof(seen));
    for (size_t i = 0; i < ARRAY_LEN(arg_rows) && n < sizeof(list); i++)
        n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s", i ? ", " : "", arg_rows[i].name);
    return err_set(err, ERR_INVALID, "'%s' is not an option; allowed: %s", seen, list);
}

static int parse_args(int argc, char **argv, struct args *out, struct err *err)
{
    for (int i = 1; i < argc; i++) {
        const char *value;
        const struct arg_row *row = find_arg(argv[i], &value);

        if (row == NULL)
            return unknown_arg(argv[i], err);
        if (row->value == NULL) {
            if (value != NULL)
                return err_set(err, ERR_INVALID, "'%s' takes no value", row->name);
            *(bool *)((char *)out + row->offset) = true;
            continue;
        }
        if (value == NULL && i + 1 < argc)
            value = argv[++i];
        if (value == NULL || *value == '\0')
            return err_set(err, ERR_INVALID, "'%s' needs a value: %s", row->name, row->value);
        *(const char **)((char *)out + row->offset) = value;
    }
    if (out->dry_run && !out->migrate)
        return err_set(err, ERR_INVALID, "'--dry-run' goes with '--migrate'");
    return 0;
}

/* ---- Configuration ---- */

static int load_conf(const struct args *args, struct conf **out, struct err *err)
{
    struct conf *c;

    if (conf_new(&c, err) != 0)
        return -1;
    if ((args->config != NULL && conf_load(c, args->config, err) != 0) ||
        (args->data != NULL && conf_set(c, "--data", "data", args->data, err) != 0) ||
        (args->socket != NULL && conf_set(c, "--socket", "socket", args->socket, err) != 0) ||
        conf_check(c, err) != 0) {
        conf_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

static int print_text(int (*print)(const struct conf *c, struct buf *out, struct err *err),
                      const struct conf *c, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = DOCS_MAX };

    if (print(c, &text, err) != 0)
        return -1;
    return file_write_all(STDOUT_FILENO, buf_str(&text), text.len, err);
}

static int print_docs(const struct conf *unused, struct buf *out, struct err *err)
{
    (void)unused;
    return rpc_docs(out, err);
}

static void say(void *ctx, const char *sentence)
{
    (void)ctx;
    printf("%s\n", sentence);
}

static int migrate_run(const char *data, bool dry_run, struct err *err)
{
    struct migrations_options o = {
        .dir = data, .clock = clock_system(), .dry_run = dry_run, .say = say
    };
    size_t pending;

    if (migrations_run(&o, &pending, err) != 0)
        return -1;
    if (pending > 0)
        printf("knowledge base '%s': %zu migration%s to be done\n", data, pending,
               pending == 1 ? " is" : "s are");
    else
        printf("knowledge base '%s' has the present schema\n", data);
    return 0;
}

/* ---- Running ---- */

struct run {
    struct daemon daemon;
    struct event *signals[2], *drain;
    int drain_steps;
};

static void drain_later(struct run *r)
{
    static const struct timeval step = { 0, DRAIN_STEP_MS * 1000 };

    event_add(r->drain, &step);
}

/* Calls in flight get two seconds to end by themselves. */
static void on_drain(evutil_socket_t fd, short what, void *arg)
{
    struct run *r = arg;

    (void)fd;
    (void)what;
    if (daemon_calls(&r->daemon) == 0 || ++r->drain_steps >= DRAIN_STEPS)
        loop_stop(r->daemon.loop);
    else
        drain_later(r);
}

static void on_signal(evutil_socket_t sig, short what, void *arg)
{
    struct run *r = arg;

    (void)what;
    log_info("stopping on %s; a second one ends it at once", sig == SIGTERM ? "SIGTERM" : "SIGINT");
    /* Back to the default action: whatever closing waits for, the next signal ends us. */
    for (int i = 0; i < 2; i++)
        event_del(r->signals[i]);
    daemon_stop(&r->daemon);
    on_drain(-1, 0, r);
}

static int add_signals(struct run *r, struct err *err)
{
    static const int signals[] = { SIGTERM, SIGINT };
    struct event_base *base = loop_base(r->daemon.loop);

    r->drain = evtimer_new(base, on_drain, r);
    for (int i = 0; i < 2; i++) {
        r->signals[i] = evsignal_new(base, signals[i], on_signal, r);
        if (r->drain == NULL || r->signals[i] == NULL || event_add(r->signals[i], NULL) != 0)
            return err_set(err, ERR_NOMEM, "no memory for an event");
    }
    return 0;
}

static void remove_signals(struct run *r)
{
    for (int i = 0; i < 2; i++)
        if (r->signals[i] != NULL)
            event_free(r->signals[i]);
    if (r->drain != NULL)
        event_free(r->drain);
}

static int run_daemon(struct conf *conf, struct err *err)
{
    struct run r = { 0 };
    int rc;

    log_info("ksearchd %s starting: data '%s', tasks '%s'", KS_VERSION, conf->data, conf->tasks);
    if (daemon_open(&r.daemon, conf, clock_system(), err) != 0)
        return -1;
    rc = add_signals(&r, err);
    if (rc == 0) {
        log_info("ready: socket '%s'", conf->socket);
        loop_run(r.daemon.loop);
    }
    remove_signals(&r);
    daemon_close(&r.daemon);
    if (rc == 0)
        log_info("stopped");
    return rc;
}

static int write_prompts(const char *dir, struct err *err)
{
    if (prompts_export(dir, err) != 0)
        return -1;
    printf(
        "the prompts are in '%s'; with llm_prompts = %s they speak in place of the built-in ones\n",
        dir, dir);
    return 0;
}

static int run_args(const struct args *args, struct err *err)
{
    struct conf *conf;
    int rc;

    if (args->help)
        return print_help();
    if (args->version)
        return printf("ksearchd %s\n", KS_VERSION) < 0 ? -1 : 0;
    if (args->rpc_docs)
        return print_text(print_docs, NULL, err);
    if (args->print_prompts != NULL)
        return write_prompts(args->print_prompts, err);
    if (load_conf(args, &conf, err) != 0)
        return -1;
    log_set_level((enum log_level)conf->log_level);
    if (args->check_config)
        rc = print_text(conf_print, conf, err);
    else if (args->migrate)
        rc = migrate_run(conf->data, args->dry_run, err);
    else
        rc = run_daemon(conf, err);
    conf_free(conf);
    return rc;
}

/* Descriptors 0 to 2 must be ours to use: a socket that got number 2 would receive the log. */
static int hold_standard_files(void)
{
    int fd;

    do
        fd = open("/dev/null", O_RDWR); /* inheritable, as standard files are */
    while (fd >= 0 && fd <= 2);
    return fd < 0 ? -1 : close(fd);
}

int main(int argc, char **argv)
{
    struct args args = { 0 };
    struct err err;

    if (hold_standard_files() != 0)
        return err_exit_status(ERR_IO);
    umask(077);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGCHLD, SIG_DFL);
    if (parse_args(argc, argv, &args, &err) == 0 && run_args(&args, &err) == 0)
        return 0;
    fprintf(stderr, "ksearchd: %s\n", err.msg);
    return err_exit_status(err.code);
}
