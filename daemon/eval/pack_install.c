/* SPDX-License-Identifier: Apache-2.0 */
/* Staging and installing packs that users bring; see pack_install.h. */
#include "eval/pack_install.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/pack_parse.h"

#define STAGE_PREFIX ".import-"

int pack_home_open(const char *home, struct err *err)
{
    DIR *dir;
    struct dirent *e;

    if (file_mkdirs(home, err) != 0)
        return -1;
    dir = opendir(home);
    if (dir == NULL)
        return err_set(err, ERR_IO, "the folder '%s' cannot be listed: %s", home, strerror(errno));
    while ((e = readdir(dir)) != NULL) {
        CLEANUP(freep) char *path = str_printf("%s/%s", home, e->d_name);
        struct err ignored; /* tried again at the next start */

        if (path && str_has_prefix(e->d_name, STAGE_PREFIX))
            file_rmtree(path, &ignored);
    }
    closedir(dir);
    return 0;
}

/* ---- files ---- */

/* "name" or "workloads/name": names as everywhere, so no "..", no hidden file, nothing absolute. */
static bool is_pack_path(const char *path)
{
    static const char workloads[] = "workloads/";

    if (str_has_prefix(path, workloads))
        return str_is_name(path + strlen(workloads)) && str_has_suffix(path, ".jsonl");
    return str_is_name(path);
}

static int check_files(const json_t *files, struct err *err)
{
    const char *path;
    json_t *text;
    size_t total = 0;

    if (!json_is_object(files) || json_object_size(files) > PACK_FILES_MAX)
        return err_set(err, ERR_LIMIT, "'files' must be an object of at most %d files",
                       PACK_FILES_MAX);
    json_object_foreach ((json_t *)files, path, text) {
        char seen[200];

        str_visible(path, strlen(path), seen, sizeof(seen));
        if (!is_pack_path(path))
            return err_set(err, ERR_INVALID,
                           "'%s' is no file of a pack; allowed are NAME and workloads/NAME.jsonl",
                           seen);
        if (!json_is_string(text))
            return err_set(err, ERR_INVALID, "the text of '%s' is no string", seen);
        if (json_string_length(text) > PACK_SOURCE_MAX)
            return err_set(err, ERR_LIMIT, "'%s' has %zu bytes; a file of a pack has at most %d",
                           seen, json_string_length(text), PACK_SOURCE_MAX);
        total += json_string_length(text);
    }
    if (total > PACK_IMPORT_MAX)
        return err_set(err, ERR_LIMIT, "the files have %zu bytes; a pack has at most %d", total,
                       PACK_IMPORT_MAX);
    return 0;
}

/* Synced, so that after the rename there is a whole pack whatever happens. */
static int write_files(const char *dir, const json_t *files, struct err *err)
{
    CLEANUP(freep) char *workloads = str_printf("%s/workloads", dir);
    const char *path;
    json_t *text;

    if (workloads == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (file_mkdirs(workloads, err) != 0)
        return -1;
    json_object_foreach ((json_t *)files, path, text) {
        CLEANUP(freep) char *at = str_printf("%s/%s", dir, path);

        if (at == NULL)
            return err_set(err, ERR_NOMEM, "no memory for a path");
        if (file_write_atomic(at, json_string_value(text), json_string_length(text), err) != 0)
            return -1;
    }
    return 0;
}

/* ---- what is there ---- */

static bool same_file(const char *dir, const char *path, const json_t *text)
{
    CLEANUP(freep) char *at = str_printf("%s/%s", dir, path);
    CLEANUP(buf_release) struct buf have = { .max = PACK_SOURCE_MAX };
    struct err ignored;

    return at && file_read(at, &have, &ignored) == 0 && have.len == json_string_length(text) &&
           memcmp(buf_str(&have), json_string_value(text), have.len) == 0;
}

static size_t count_files(const char *dir)
{
    DIR *d = opendir(dir);
    struct dirent *e;
    size_t n = 0;

    while (d && (e = readdir(d)) != NULL)
        n += e->d_name[0] != '.' && strcmp(e->d_name, "workloads") != 0;
    if (d)
        closedir(d);
    return n;
}

static bool same_files(const char *dir, const json_t *files)
{
    CLEANUP(freep) char *workloads = str_printf("%s/workloads", dir);
    const char *path;
    json_t *text;

    if (workloads == NULL || count_files(dir) + count_files(workloads) != json_object_size(files))
        return false;
    json_object_foreach ((json_t *)files, path, text) {
        if (!same_file(dir, path, text))
            return false;
    }
    return true;
}

/* ---- staging ---- */

static bool is_named(const struct pack *p, const char *path)
{
    const char *const used[] = { p->module.path, p->baseline.path, p->template.path,
                                 p->space_path };

    if (strcmp(path, "task.json") == 0 || strcmp(path, "README.md") == 0 || strchr(path, '/'))
        return true;
    for (size_t i = 0; i < ARRAY_LEN(used); i++)
        if (used[i] && strcmp(strrchr(used[i], '/') + 1, path) == 0)
            return true;
    return false;
}

/* The builder sees one source at a time: a file that nothing names would never be read. */
static void find_strays(struct pack *p, const json_t *files)
{
    const char *path;
    json_t *text;

    if (p->family == NULL)
        return; /* task.json could not be read: it would name nothing */
    json_object_foreach ((json_t *)files, path, text) {
        if (!is_named(p, path))
            pack_problem(p, "nothing in task.json names the file '%s'", path);
    }
}

/* Sentences name files as the user does, not where they happen to be staged. */
static void shorten_problems(struct pack *p, const char *dir)
{
    CLEANUP(freep) char *prefix = str_printf("%s/", dir);

    for (size_t i = 0; prefix && i < p->n_problems; i++)
        for (char *at; (at = strstr(p->problems[i], prefix)) != NULL;)
            memmove(at, at + strlen(prefix), strlen(at + strlen(prefix)) + 1);
}

int pack_stage(const char *home, const json_t *files, struct pack_stage *out, struct err *err)
{
    static atomic_uint count;

    if (check_files(files, err) != 0)
        return -1;
    out->home = xstrdup(home);
    out->dir = str_printf("%s/" STAGE_PREFIX "%u", home, count++);
    if (out->dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (file_rmtree(out->dir, err) != 0 || write_files(out->dir, files, err) != 0)
        return err_ctx(err, "staging the pack");
    out->pack = pack_parse(out->dir);
    find_strays(out->pack, files);
    shorten_problems(out->pack, out->dir);
    if (out->pack->family == NULL)
        return 0;
    out->place = str_printf("%s/%s", home, out->pack->family);
    if (out->place == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    out->exists = file_is_dir(out->place);
    out->same = out->exists && same_files(out->place, files);
    return 0;
}

/* ---- installing ---- */

static void move_path(char **path, const char *from, const char *to)
{
    char *moved;

    if (*path == NULL)
        return;
    moved = str_printf("%s%s", to, *path + strlen(from));
    if (moved == NULL)
        abort(); /* as xmalloc does */
    free(*path);
    *path = moved;
}

/* The pack's folder has another name now. */
static void move_pack(struct pack *p, const char *to)
{
    CLEANUP(freep) char *from = xstrdup(p->dir);

    move_path(&p->dir, from, to);
    move_path(&p->module.path, from, to);
    move_path(&p->baseline.path, from, to);
    move_path(&p->template.path, from, to);
    move_path(&p->space_path, from, to);
    for (size_t i = 0; i < p->n_definitions; i++)
        for (size_t k = 0; k < p->definitions[i].n_sets; k++)
            move_path(&p->definitions[i].sets[k].path, from, to);
}

/* 0 when the staging folder then holds what was in the place, 1 when there is none any more. */
static int swap_folders(const struct pack_stage *s, struct err *err)
{
    CLEANUP(freep) char *aside = str_printf("%s-old", s->dir);

    if (rename(s->dir, s->place) == 0)
        return 1; /* nothing was there */
    if (renameat2(AT_FDCWD, s->dir, AT_FDCWD, s->place, RENAME_EXCHANGE) == 0)
        return 0;
    /* A file system that cannot exchange: between two renames a crash loses the old one's name. */
    if (aside && rename(s->place, aside) == 0) {
        if (rename(s->dir, s->place) == 0)
            return rename(aside, s->dir) == 0 ? 0 : 1;
        if (rename(aside, s->place) != 0)
            return err_set(err, ERR_IO, "the pack in '%s' now lies in '%s'", s->place, aside);
    }
    return err_set(err, ERR_IO, "the pack cannot be put in '%s': %s", s->place, strerror(errno));
}

int pack_stage_install(struct pack_stage *s, struct pack **pack, struct err *err)
{
    int left = swap_folders(s, err);

    if (left < 0)
        return -1;
    move_pack(s->pack, s->place);
    *pack = TAKE(s->pack);
    if (left == 1) {
        free(s->dir);
        s->dir = NULL;
    }
    return 0;
}

static void sync_folder(const char *dir)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return;
    fsync(fd); /* what cannot be synced will be told by the next write */
    close(fd);
}

void pack_stage_release(struct pack_stage *s)
{
    struct err ignored; /* what is left is removed at the next start */

    if (s->dir)
        file_rmtree(s->dir, &ignored);
    if (s->home)
        sync_folder(s->home);
    pack_unref(s->pack);
    free(s->home);
    free(s->dir);
    free(s->place);
    *s = (struct pack_stage){ 0 };
}
