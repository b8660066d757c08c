/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeping the data folder; see housekeeping.h. */
#include "housekeeping.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "conf.h"
#include "daemon.h"
#include "gc.h"
#include "kb.h"

enum { DAY_S = 24 * 3600 };

/* ---- Tables of recorded spaces ---- */

/* "recorded/TASK/DEVICE" whose task is gone, or has no table of that device. Others are not ours.
 */
static bool is_loose(void *ctx, const char *key)
{
    static const char prefix[] = "recorded/";
    struct daemon *d = ctx;
    json_auto_t *doc = NULL;
    CLEANUP(freep) char *task = NULL;
    const json_t *entry;
    const char *device;
    struct err err;

    if (!str_has_prefix(key, prefix))
        return false;
    task = xstrdup(key + sizeof(prefix) - 1);
    if (strchr(task, '/') == NULL)
        return false;
    *strchr(task, '/') = '\0';
    device = task + strlen(task) + 1;
    if (kb_get_doc(d->kb, KB_TASK, task, &doc, &err) != 0)
        return err.code == ERR_NOT_FOUND;
    entry = json_object_get(json_object_get(doc, "devices"), device);
    return json_object_get(entry, "table") == NULL;
}

/* ---- Builds ---- */

struct builds {
    uint64_t n, bytes;
};

/* The harness touches an entry whenever it is used. */
static void drop_build(int folder, const char *name, uint64_t before_s, bool dry_run,
                       struct builds *b)
{
    struct stat st;

    if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
        (uint64_t)st.st_mtim.tv_sec >= before_s)
        return;
    if (!dry_run && unlinkat(folder, name, 0) != 0)
        return; /* the harness was faster */
    b->n++;
    b->bytes += (uint64_t)st.st_size;
}

static int drop_builds(struct daemon *d, bool dry_run, struct builds *b, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/build-cache", d->conf->data);
    uint64_t now_s = d->clock->wall_ns(d->clock) / NS_PER_SEC,
             age = HOUSEKEEPING_BUILD_DAYS * DAY_S;
    struct dirent *e;
    DIR *dir = path ? opendir(path) : NULL;

    if (dir == NULL)
        return path && errno == ENOENT
                   ? 0
                   : err_set(err, ERR_IO, "the folder of builds cannot be listed: %s",
                             strerror(errno));
    while ((e = readdir(dir)) != NULL)
        drop_build(dirfd(dir), e->d_name, now_s > age ? now_s - age : 0, dry_run, b);
    closedir(dir);
    return 0;
}

int housekeeping_run(struct daemon *d, bool dry_run, json_t **report, struct err *err)
{
    struct gc_options o = { .dry_run = dry_run, .is_loose = is_loose, .ctx = d };
    struct gc_report swept;
    struct builds b = { 0 };

    if (gc_sweep(d->kb, &o, &swept, err) != 0 || drop_builds(d, dry_run, &b, err) != 0)
        return -1;
    *report =
        json_pack("{s:{s:I, s:I}, s:{s:I, s:I}, s:{s:I, s:I}, s:b}", "programs", "n",
                  (json_int_t)swept.programs, "bytes", (json_int_t)swept.program_bytes, "side", "n",
                  (json_int_t)swept.sides, "bytes", (json_int_t)swept.side_bytes, "builds", "n",
                  (json_int_t)b.n, "bytes", (json_int_t)b.bytes, "dry_run", (int)dry_run);
    return 0;
}
