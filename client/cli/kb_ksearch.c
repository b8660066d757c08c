/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch kb import --format k-search PATH: finds the two files of a K-Search run, and sends them
 * as one: a line that says how long they are, then their bytes. The daemon opens nothing itself.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/str.h"
#include "cli.h"
#include "show.h"

enum { RUN_MAX = 128 << 20, FOLDERS_MAX = 64, DEPTH_MAX = 3 };

struct run_files {
    char *model, *store; /* paths; owned; NULL while not found */
    size_t folders;
    bool named; /* the world model was: others do not matter */
};

static void run_files_release(struct run_files *f)
{
    free(f->model);
    free(f->store);
}

/* A world model has a decision tree; other documents beside it do not. */
static int is_model(const char *path, bool *out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = RUN_MAX };

    if (file_read(path, &text, err) != 0)
        return err_ctx(err, "'%s'", path);
    *out = memmem(text.data ? text.data : "", text.len, "\"decision_tree\"", 15) != NULL;
    return 0;
}

static int take(char **slot, const char *what, const char *path, struct err *err)
{
    if (*slot != NULL)
        return err_set(err, ERR_INVALID,
                       "there are two %s, '%.90s' and '%.90s'; name the world model's file, or a "
                       "folder that has one of each",
                       what, *slot, path);
    *slot = xstrdup(path);
    return 0;
}

static int look_at_file(struct run_files *f, const char *path, struct err *err)
{
    bool model = false;

    if (str_has_suffix(path, ".jsonl"))
        return take(&f->store, "stores of solutions", path, err);
    if (f->named || !str_has_suffix(path, ".json"))
        return 0;
    if (is_model(path, &model, err) != 0)
        return -1;
    return model ? take(&f->model, "world models", path, err) : 0;
}

/* Regular files in this folder and those below; links are passed over. */
static int look_in_folder(struct run_files *f, const char *path, int depth, struct err *err)
{
    DIR *dir = opendir(path);
    struct dirent *e;
    int rc = 0;

    if (dir == NULL)
        return err_set(err, ERR_IO, "cannot read the folder '%s': %s", path, strerror(errno));
    if (++f->folders > FOLDERS_MAX)
        rc = err_set(err, ERR_LIMIT, "'%s' is one of over %d folders; name the run's own", path,
                     FOLDERS_MAX);
    while (rc == 0 && (e = readdir(dir)) != NULL) {
        CLEANUP(freep) char *name = NULL;
        struct stat st;

        if (e->d_name[0] == '.' || fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
            continue;
        name = str_printf("%s/%s", path, e->d_name);
        if (name == NULL)
            rc = err_set(err, ERR_NOMEM, "no memory for a name");
        else if (S_ISREG(st.st_mode))
            rc = look_at_file(f, name, err);
        else if (S_ISDIR(st.st_mode) && depth < DEPTH_MAX)
            rc = look_in_folder(f, name, depth + 1, err);
    }
    closedir(dir);
    return rc;
}

/* A folder, or the world model's file with the store beside it. */
static int find_files(const char *path, struct run_files *f, struct err *err)
{
    CLEANUP(freep) char *folder = xstrdup(path);
    char *slash = strrchr(folder, '/');

    f->named = !file_is_dir(path);
    if (f->named && !file_exists(path))
        return err_set(err, ERR_NOT_FOUND, "there is no '%s'", path);
    if (f->named) {
        f->model = xstrdup(path);
        if (slash != NULL)
            slash[slash == folder] = '\0';
        path = slash != NULL ? folder : ".";
    }
    if (look_in_folder(f, path, f->named ? DEPTH_MAX : 1, err) != 0)
        return -1;
    if (f->model == NULL)
        return err_set(err, ERR_NOT_FOUND,
                       "'%s' has no world model: a .json file with a decision_tree", path);
    return 0;
}

static int send_files(struct cli *cli, const struct command *cmd, struct args *args,
                      const struct run_files *f, json_t **result, struct err *err)
{
    CLEANUP(buf_release) struct buf model = { .max = RUN_MAX }, store = { .max = RUN_MAX };
    CLEANUP(closep) int fd = memfd_create("ksearch-import", MFD_CLOEXEC);
    char head[120];

    if (file_read(f->model, &model, err) != 0 ||
        (f->store != NULL && file_read(f->store, &store, err) != 0))
        return -1;
    snprintf(head, sizeof(head),
             "{\"format\":\"k-search\",\"world_model\":%zu,\"solutions\":%zu}\n", model.len,
             store.len);
    if (fd < 0)
        return err_set(err, ERR_IO, "cannot make a file in memory: %s", strerror(errno));
    if (file_write_all(fd, head, strlen(head), err) != 0 ||
        file_write_all(fd, model.data, model.len, err) != 0 ||
        file_write_all(fd, store.data, store.len, err) != 0)
        return -1;
    return cli_call_fd(cli, cmd->method, args->params, fd, result, err);
}

static void print_sentences(const json_t *result, const char *member, const char *counter,
                            const char *what)
{
    const json_t *list = json_object_get(result, member);
    long long n = jsonx_int(result, counter, 0);
    json_t *item;
    size_t i;

    if (n == 0)
        return;
    printf("%s: %lld\n", what, n);
    json_array_foreach ((json_t *)list, i, item) {
        CLEANUP(freep) char *text = show_text(item, SHOW_TEXT);

        printf("  %s\n", text);
    }
    if (n > (long long)json_array_size(list))
        printf("  ... and %lld more\n", n - (long long)json_array_size(list));
}

static void import_print(const json_t *result)
{
    CLEANUP(freep) char *search = show_text_at(result, "search", SHOW_TEXT);
    CLEANUP(freep) char *objective = show_text_at(result, "objective", SHOW_TEXT);

    printf("search %s: %lld nodes, %lld of them closed; solutions: %lld, evaluations: %lld "
           "(objective: %s), claims: %lld%s\n",
           search, jsonx_int(result, "nodes", 0), jsonx_int(result, "closed", 0),
           jsonx_int(result, "solutions", 0), jsonx_int(result, "evaluations", 0), objective,
           jsonx_int(result, "claims", 0),
           jsonx_bool(result, "changed", 1) ? "" : "; it was there already");
    print_sentences(result, "repairs", "repaired", "read otherwise than written");
    print_sentences(result, "skipped", "left_out", "left out");
}

int cli_kb_import_ksearch(struct cli *cli, const struct command *cmd, struct args *args,
                          const char *path, struct err *err)
{
    CLEANUP(run_files_release) struct run_files files = { 0 };
    json_auto_t *result = NULL;

    if (find_files(path, &files, err) != 0 || send_files(cli, cmd, args, &files, &result, err) != 0)
        return err_ctx(err, "kb import '%s'", path);
    if (files.store == NULL)
        fprintf(stderr, "there is no store of solutions (.jsonl) beside '%s': nothing is closed\n",
                files.model);
    cli_show(cli, import_print, result);
    return 0;
}
