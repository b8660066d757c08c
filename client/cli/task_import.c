/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch task import: a folder is a task pack of the user's own, a file a recorded tuning space
 * (task_recorded.c). The folder is read here and sent as texts, so the daemon opens no path that a
 * client names.
 */
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "proto/limits.h"
#include "proto/methods.h"
#include "show.h"

enum {
    FILE_MAX = 1 << 20,    /* bytes of one file of a pack */
    PACK_MAX = 6 << 20,    /* bytes of all of them */
    FILES_MAX = 128,       /* files of a pack */
    ENVELOPE_MAX = 1 << 10 /* what a request has around its parameters, at most */
};

struct reading {
    const char *path; /* the folder, for messages */
    json_t *files;    /* owned by the caller: {relative path: text} */
    size_t total;
};

/* ---- reading a folder ---- */

static bool is_known_file(const char *name)
{
    return str_is_name(name) && (strcmp(name, "README.md") == 0 || str_has_suffix(name, ".c") ||
                                 str_has_suffix(name, ".json"));
}

static bool is_known_workload(const char *name)
{
    return str_is_name(name) && str_has_suffix(name, ".jsonl");
}

/* Opens without following a link and without waiting for the other end of a pipe. */
static int open_regular(int dir, const char *name, const char *shown, struct err *err)
{
    int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    struct stat st;

    if (fd < 0 && errno == ELOOP)
        return err_set(err, ERR_INVALID,
                       "'%s' is a symbolic link; a pack has regular files of its own only", shown);
    if (fd < 0)
        return err_set(err, ERR_IO, "'%s' cannot be read: %s", shown, strerror(errno));
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
        return fd;
    close(fd);
    return err_set(err, ERR_INVALID, "'%s' is no regular file", shown);
}

static int add_file(struct reading *r, int dir, const char *prefix, const char *name,
                    struct err *err)
{
    CLEANUP(freep) char *relative = str_printf("%s%s", prefix, name);
    CLEANUP(buf_release) struct buf text = { .max = FILE_MAX };
    char shown[300];
    json_t *v;
    int fd, rc;

    if (relative == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    str_visible(relative, strlen(relative), shown, sizeof(shown));
    fd = open_regular(dir, name, shown, err);
    if (fd < 0)
        return -1;
    rc = file_read_fd(fd, &text, err);
    close(fd);
    if (rc != 0)
        return err_ctx(err, "'%s'", shown);
    v = json_stringn(buf_str(&text), text.len);
    if (v == NULL || memchr(buf_str(&text), '\0', text.len) != NULL) {
        json_decref(v);
        return err_set(err, ERR_INVALID, "'%s' is not UTF-8 text", shown);
    }
    json_object_set_new(r->files, relative, v);
    r->total += text.len;
    if (r->total > PACK_MAX || json_object_size(r->files) > FILES_MAX)
        return err_set(err, ERR_LIMIT,
                       "the folder '%s' is too large: a pack has at most %d files and %d MiB",
                       r->path, FILES_MAX, PACK_MAX >> 20);
    return 0;
}

static int read_folder(struct reading *r, int fd, const char *prefix, struct err *err);

static int add_workloads(struct reading *r, int dir, struct err *err)
{
    int fd = openat(dir, "workloads", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, ERR_INVALID,
                       "'workloads' is no folder of the pack's own (links are not followed): %s",
                       strerror(errno));
    return read_folder(r, fd, "workloads/", err);
}

static int add_entry(struct reading *r, int dir, const char *prefix, const char *name,
                     struct err *err)
{
    bool top = prefix[0] == '\0';
    char shown[200];

    if (name[0] == '.')
        return 0;
    if (top && strcmp(name, "workloads") == 0)
        return add_workloads(r, dir, err);
    if (top ? is_known_file(name) : is_known_workload(name))
        return add_file(r, dir, prefix, name, err);
    str_visible(name, strlen(name), shown, sizeof(shown));
    return err_set(err, ERR_INVALID,
                   "the pack holds '%s%s', which no pack has; allowed are task.json, README.md, "
                   "*.c, *.json and workloads/*.jsonl",
                   prefix, shown);
}

/* `fd` is taken. */
static int read_folder(struct reading *r, int fd, const char *prefix, struct err *err)
{
    DIR *dir = fdopendir(fd);
    struct dirent *e;
    int rc = 0;

    if (dir == NULL) {
        close(fd);
        return err_set(err, ERR_IO, "the folder '%s' cannot be listed: %s", r->path,
                       strerror(errno));
    }
    while (rc == 0 && (e = readdir(dir)) != NULL)
        rc = add_entry(r, dirfd(dir), prefix, e->d_name, err);
    closedir(dir);
    return rc;
}

static int read_pack(const char *path, json_t *files, struct err *err)
{
    struct reading r = { .path = path, .files = files };
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, ERR_IO, "the folder '%s' cannot be opened: %s", path, strerror(errno));
    if (read_folder(&r, fd, "", err) != 0)
        return -1;
    if (json_object_get(files, "task.json") == NULL)
        return err_set(err, ERR_INVALID, "the folder '%s' has no task.json, so it is no task pack",
                       path);
    return 0;
}

/* ---- showing ---- */

static void import_print(const json_t *r)
{
    const json_t *problems = json_object_get(r, "problems"),
                 *definitions = json_object_get(r, "definitions");
    const char *how = json_is_true(json_object_get(r, "unchanged"))  ? "is already there"
                      : json_is_true(json_object_get(r, "replaced")) ? "was replaced"
                                                                     : "was imported";
    size_t i;
    json_t *v;

    json_array_foreach ((json_t *)problems, i, v) {
        CLEANUP(freep) char *text = show_text(v, SHOW_TEXT);

        show_wrapped(text, 2);
    }
    if (!json_is_true(json_object_get(r, "installed")))
        return;
    printf("family %s %s\n", jsonx_str(r, "family", ""), how);
    json_array_foreach ((json_t *)definitions, i, v)
        printf("  %s\n", json_string_value(v));
}

/* ---- the command ---- */

/* What only a recorded space can be told. */
static int refuse_options(const struct command *cmd, const json_t *params, struct err *err)
{
    for (const struct opt *o = cmd->opts; o->name; o++)
        if (json_object_get(params, o->param) != NULL)
            return err_set(err, ERR_INVALID,
                           "'--%s' is for recorded spaces; a pack says everything in its folder",
                           o->name);
    return 0;
}

static int import_folder(struct cli *cli, const struct command *cmd, struct args *args,
                         const char *path, struct err *err)
{
    json_auto_t *result = NULL;
    json_t *files = json_object();
    size_t size, problems;

    if (refuse_options(cmd, args->params, err) != 0 || read_pack(path, files, err) != 0) {
        json_decref(files);
        return -1;
    }
    json_object_set_new(args->params, "files", files);
    size = json_dumpb(args->params, NULL, 0, JSON_COMPACT);
    if (size == 0 || size > PROTO_REQUEST_MAX - ENVELOPE_MAX)
        return err_set(err, ERR_LIMIT,
                       "the folder '%s' is too large: as a request it has %zu bytes, at most %u "
                       "are allowed",
                       path, size, PROTO_REQUEST_MAX - ENVELOPE_MAX);
    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    cli_show(cli, import_print, result);
    problems = json_array_size(json_object_get(result, "problems"));
    if (problems > 0)
        return err_set(err, ERR_INVALID, "the pack has %zu problem%s; nothing was installed",
                       problems, problems == 1 ? "" : "s");
    return 0;
}

static int import_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    const char *path = jsonx_str(args->local, "path", "");
    struct stat st;

    if (stat(path, &st) != 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "'%s' cannot be read: %s",
                       path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return import_folder(cli, cmd, args, path, err);
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "'%s' is neither a folder nor a file", path);
    return cli_task_import_recorded(cli, cmd, args, path, err);
}

static const struct pos import_pos[] = { { "PATH", "path", ROW_REQUIRED | ROW_LOCAL,
                                           "a folder: a task pack; a file: a recorded space" },
                                         { 0 } };

static const struct opt import_opts[] = {
    { "name", OPT_TEXT, "T", "name", 0, "name that the task of a recorded space gets" },
    { "device", OPT_TEXT, "D", "device", 0, "device that a recorded space was measured on" },
    { "noise", OPT_FLAG, NULL, "noise", 0, "draw new noise for each look at a recorded time" },
    { 0 }
};

const struct command cmd_task_import = {
    .group = "task",
    .name = "import",
    .summary = "Add a kernel to optimise: a task pack of yours, or a recorded space.",
    .method = METHOD_TASK_IMPORT,
    .pos = import_pos,
    .opts = import_opts,
    .run = import_run,
    .notes = "A task pack is a folder with a task.json (docs/tasks.md); nothing is compiled into "
             "the\n"
             "daemon. It is checked as a whole and then copied: all problems are listed, and with "
             "any\n"
             "nothing is installed. The same content again changes nothing; other content of the "
             "same\n"
             "family replaces it, unless a search of it is under way. Names of other packs are "
             "refused.\n"
             "The pack's module makes inputs and the reference inside the judge: it is TRUSTED "
             "code.\n"
             "Import only what you would run yourself. 'ksearch task check' tries it out.\n",
};
