/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch kb export | backup | gc | key show | key trust | key list | key distrust. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "show.h"

enum { KEY_FILE_MAX = 8192 };

/* ---- export ---- */

static const struct pos export_pos[] = {
    { "FILE", "file", ROW_REQUIRED | ROW_LOCAL, "file to write; replaced when it is there" }, { 0 }
};

static const struct opt export_opts[] = {
    { "task", OPT_TEXT, "T", "task", 0, "only what was measured on this task" },
    { "family", OPT_TEXT, "F", "family", 0, "only claims and measurements of this family" },
    { "device", OPT_TEXT, "D", "device", 0, "only what was measured on this device" },
    { "technique", OPT_TEXT, "X", "technique", 0,
      "only claims of this technique, and what bears on them" },
    { "since", OPT_TEXT, "TIME", "since", 0, "only what was measured at or after this time" },
    { "claims-only", OPT_FLAG, NULL, "claims_only", 0, "neither evidence nor evaluations" },
    { "no-evaluations", OPT_FLAG, NULL, "no_evaluations", 0,
      "evidence without the evaluations behind it" },
    { "no-programs", OPT_FLAG, NULL, "no_programs", 0, "no sources and spaces of programs" },
    { 0 }
};

static bool is_empty(const json_t *counts)
{
    const char *kind;
    json_t *n;

    json_object_foreach ((json_t *)counts, kind, n) {
        if (json_integer_value(n) != 0)
            return false;
    }
    return true;
}

static void print_counts(const json_t *counts)
{
    const char *kind;
    json_t *n;
    bool any = false;

    json_object_foreach ((json_t *)counts, kind, n) {
        if (json_integer_value(n) == 0)
            continue;
        printf("%s%lld %s%s", any ? ", " : "", (long long)json_integer_value(n), kind,
               json_integer_value(n) == 1 || strcmp(kind, "evidence") == 0 ? "" : "s");
        any = true;
    }
}

static void export_print(const json_t *r)
{
    const json_t *named = json_object_get(r, "named");
    CLEANUP(freep) char *file = show_text_at(r, "file", SHOW_TEXT);
    CLEANUP(freep) char *signer = show_text_at(r, "signer", SHOW_TEXT);
    long long left_out = jsonx_int(r, "left_out", 0);
    json_t *item;
    size_t i;

    printf("%s: ", file);
    print_counts(json_object_get(r, "facts"));
    if (is_empty(json_object_get(r, "facts")))
        printf("no facts");
    if (!is_empty(json_object_get(r, "documents"))) {
        printf("; beside them ");
        print_counts(json_object_get(r, "documents"));
    }
    printf("\nsigned by %s\n", signer);
    if (left_out == 0 && is_empty(json_object_get(r, "facts")))
        fprintf(stderr, "nothing that is known passes these filters: the pack is empty\n");
    if (left_out == 0)
        return;
    printf("left out: %lld, because they hold what must not leave\n", left_out);
    json_array_foreach (named, i, item) {
        CLEANUP(freep) char *kind = show_text_at(item, "kind", SHOW_TEXT);
        CLEANUP(freep) char *id = show_text_at(item, "id", SHOW_SHORT);
        CLEANUP(freep) char *why = show_text_at(item, "why", SHOW_TEXT);

        printf("  %s %s: %s\n", kind, id, why);
    }
}

/* A file as open() would make it, where mkostemp gives one for the owner alone. */
static void open_to_others(int fd)
{
    mode_t mask = umask(0);

    umask(mask);
    (void)fchmod(fd, 0666 & ~mask);
}

/* The daemon writes to a file beside the one that was named, which is replaced at the end. */
static int export_to(struct cli *cli, const struct command *cmd, const struct args *args,
                     const char *path, json_t **result, struct err *err)
{
    CLEANUP(freep) char *tmp = str_printf("%s.XXXXXX", path);
    CLEANUP(closep) int fd = tmp ? mkostemp(tmp, O_CLOEXEC) : -1;
    int rc;

    if (fd < 0)
        return err_set(err, ERR_IO, "cannot make a file beside '%s': %s", path, strerror(errno));
    rc = cli_call_fd(cli, cmd->method, args->params, fd, result, err);
    open_to_others(fd);
    if (rc == 0 && (fsync(fd) != 0 || rename(tmp, path) != 0))
        rc = err_set(err, ERR_IO, "cannot write '%s': %s", path, strerror(errno));
    if (rc != 0)
        unlink(tmp);
    return rc;
}

static int export_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    const char *path = jsonx_str(args->local, "file", "");
    json_auto_t *result = NULL;

    if (export_to(cli, cmd, args, path, &result, err) != 0)
        return err_ctx(err, "kb export");
    json_object_set_new(result, "file", json_string(path));
    cli_show(cli, export_print, result);
    return 0;
}

const struct command cmd_kb_export = {
    .group = "kb",
    .name = "export",
    .summary = "Write a signed pack of what was learned, for another knowledge base.",
    .method = METHOD_KB_EXPORT,
    .pos = export_pos,
    .opts = export_opts,
    .run = export_run,
    .notes =
        "Paths, names of hosts, keys and names of workloads never leave: a fact that holds one "
        "is left\nout and named.\n",
};

/* ---- backup ---- */

static const struct pos backup_pos[] = {
    { "DIR", "dir", ROW_REQUIRED | ROW_LOCAL, "folder to make, on the daemon's machine" }, { 0 }
};

static void backup_print(const json_t *r)
{
    CLEANUP(freep) char *dir = show_text_at(r, "dir", SHOW_TEXT);

    printf("copied to %s: %lld facts\n", dir, jsonx_int(r, "last_seq", 0));
}

/* The daemon stands in another folder than the caller does. */
static char *absolute(const char *path)
{
    CLEANUP(freep) char *cwd = path[0] == '/' ? NULL : getcwd(NULL, 0);

    if (path[0] == '/' || cwd == NULL)
        return xstrdup(path);
    return str_printf("%s/%s", cwd, path);
}

static int backup_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    CLEANUP(freep) char *path = absolute(jsonx_str(args->local, "dir", ""));
    json_auto_t *result = NULL;

    json_object_set_new(args->params, "dir", json_string(path));
    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    cli_show(cli, backup_print, result);
    return 0;
}

const struct command cmd_kb_backup = {
    .group = "kb",
    .name = "backup",
    .summary = "Copy the whole knowledge base to a new folder. Keys are not in it.",
    .method = METHOD_KB_BACKUP,
    .pos = backup_pos,
    .run = backup_run,
};

/* ---- gc ---- */

static const struct opt gc_opts[] = { { "dry-run", OPT_FLAG, NULL, "dry_run", 0,
                                        "say what would be dropped, and drop nothing" },
                                      { 0 } };

static void gc_print(const json_t *r)
{
    static const struct {
        const char *member, *what;
    } rows[] = { { "programs", "programs" }, { "side", "tables" }, { "builds", "builds" } };

    puts(jsonx_bool(r, "dry_run", 0) ? "would drop" : "dropped");
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        const json_t *row = json_object_get(r, rows[i].member);

        printf("  %-9s %lld, %.1f KiB\n", rows[i].what, jsonx_int(row, "n", 0),
               (double)jsonx_int(row, "bytes", 0) / 1024);
    }
}

const struct command cmd_kb_gc = {
    .group = "kb",
    .name = "gc",
    .summary = "Drop programs, tables and builds that nothing refers to. Facts stay.",
    .method = METHOD_KB_GC,
    .opts = gc_opts,
    .print = gc_print,
};

/* ---- Keys ---- */

/* What is printed is a file for the other side's `kb key trust`. */
static void key_print(const json_t *r)
{
    CLEANUP(freep) char *fingerprint = show_text_at(r, "fingerprint", SHOW_TEXT);
    CLEANUP(freep) char *key = show_text_at(r, "key", SHOW_TEXT);

    printf("# fingerprint %s\n%s\n", fingerprint, key);
}

const struct command cmd_kb_key_show = {
    .group = "kb",
    .name = "key show",
    .summary = "Print the public key that signs what is exported here.",
    .method = METHOD_KB_KEY_SHOW,
    .print = key_print,
    .notes = "What it prints is a file for `ksearch kb key trust` of whoever is to import the "
             "packs.\n",
};

static const struct pos trust_pos[] = { { "FILE", "file", ROW_REQUIRED | ROW_LOCAL,
                                          "file with the public key: what `kb key show` printed, "
                                          "or PEM" },
                                        { 0 } };

static const struct opt trust_opts[] = {
    { "name", OPT_TEXT, "WHO", "name", 0, "what to call the key" }, { 0 }
};

static void trust_print(const json_t *r)
{
    CLEANUP(freep) char *fingerprint = show_text_at(r, "fingerprint", SHOW_TEXT);
    CLEANUP(freep) char *name = show_text_at(r, "name", SHOW_TEXT);

    printf("packs of '%s' are %staken, fingerprint %s\n", name,
           jsonx_bool(r, "added", 1) ? "" : "still ", fingerprint);
}

static int trust_run(struct cli *cli, const struct command *cmd, struct args *args, struct err *err)
{
    const char *path = jsonx_str(args->local, "file", "");
    CLEANUP(buf_release) struct buf text = { .max = KEY_FILE_MAX };
    json_auto_t *result = NULL;
    json_t *key;

    if (file_read(path, &text, err) != 0)
        return err_ctx(err, "kb key trust");
    key = json_stringn(buf_str(&text), text.len);
    if (key == NULL || memchr(buf_str(&text), '\0', text.len) != NULL) {
        json_decref(key);
        return err_set(err, ERR_INVALID, "'%s' is no text, so it is no public key", path);
    }
    json_object_set_new(args->params, "key", key);
    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return err_ctx(err, "'%s'", path);
    cli_show(cli, trust_print, result);
    return 0;
}

const struct command cmd_kb_key_trust = {
    .group = "kb",
    .name = "key trust",
    .summary = "Take packs that a key signed.",
    .method = METHOD_KB_KEY_TRUST,
    .pos = trust_pos,
    .opts = trust_opts,
    .run = trust_run,
};

static void list_print(const json_t *result)
{
    static const struct column columns[] = { { "NAME", "name", SHOW_TEXT },
                                             { "FINGERPRINT", "fingerprint", SHOW_TEXT },
                                             { 0 } };

    show_table(result, "keys", columns, "no keys are trusted yet");
}

const struct command cmd_kb_key_list = {
    .group = "kb",
    .name = "key list",
    .summary = "List the keys whose packs are taken.",
    .method = METHOD_KB_KEY_LIST,
    .print = list_print,
};

static const struct pos distrust_pos[] = { { "KEY", "key", ROW_REQUIRED,
                                             "name of the key, or the first digits of its "
                                             "fingerprint" },
                                           { 0 } };

static void distrust_print(const json_t *r)
{
    CLEANUP(freep) char *name = show_text_at(r, "name", SHOW_TEXT);

    printf("packs of '%s' are taken no more; what came with them stays\n", name);
}

const struct command cmd_kb_key_distrust = {
    .group = "kb",
    .name = "key distrust",
    .summary = "Take packs of a key no more.",
    .method = METHOD_KB_KEY_DISTRUST,
    .pos = distrust_pos,
    .print = distrust_print,
};
