/* SPDX-License-Identifier: Apache-2.0 */
/* Entries and their pruning; see cache.h. An entry: one line "ksearch-build 1 DIGEST LEN...", then
 * the parts. The digest covers what follows it. */
#include "cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "sha256.h"

#define MAGIC "ksearch-build 1 "
#define SUFFIX ".build"
#define LINE_MAX_BYTES 256
#define LEFTOVER_S 3600 /* a temporary file this old belongs to a judge that was killed */
#define FILES_MAX 100000

/* Ours, and nobody else may write it. */
static bool is_private(const char *dir)
{
    struct stat s;

    return lstat(dir, &s) == 0 && S_ISDIR(s.st_mode) && s.st_uid == geteuid() &&
           (s.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

/* ---- one entry ---- */

/* The lengths, as the line has them behind the digest. */
static char *lengths_text(const struct buf *const *parts, int n)
{
    CLEANUP(buf_release) struct buf b = { .max = LINE_MAX_BYTES };

    for (int i = 0; i < n; i++)
        if (buf_addf(&b, " %zu", parts[i]->len) != 0)
            return NULL;
    if (buf_addf(&b, "\n") != 0)
        return NULL;
    return buf_take(&b);
}

static void digest(const char *rest, size_t len, char out[SHA256_HEX + 1])
{
    struct sha256 h;

    sha256_init(&h);
    sha256_add(&h, rest, len);
    sha256_hex(&h, out);
}

/* Reads " 12 0 7\n" strictly; returns the bytes read, 0 when it is something else. */
static size_t read_lengths(const char *s, size_t *lens, int n)
{
    const char *at = s;

    for (int i = 0; i < n; i++) {
        char number[24];
        uint64_t v;
        size_t digits;

        if (*at != ' ')
            return 0;
        digits = strspn(++at, "0123456789");
        if (digits == 0 || digits >= sizeof(number))
            return 0;
        snprintf(number, sizeof(number), "%.*s", (int)digits, at);
        if (!str_to_u64(number, &v))
            return 0;
        lens[i] = (size_t)v;
        at += digits;
    }
    return *at == '\n' ? (size_t)(at + 1 - s) : 0;
}

static bool split(const struct buf *entry, struct buf *const *parts, int n)
{
    const size_t head = strlen(MAGIC) + SHA256_HEX;
    size_t lens[CACHE_PARTS_MAX], at;
    char found[SHA256_HEX + 1];
    struct err ignored;

    if (entry->len <= head || memcmp(entry->data, MAGIC, strlen(MAGIC)) != 0)
        return false;
    digest(entry->data + head, entry->len - head, found);
    if (memcmp(found, entry->data + strlen(MAGIC), SHA256_HEX) != 0)
        return false;
    at = read_lengths(entry->data + head, lens, n);
    if (at == 0)
        return false;
    at += head;
    for (int i = 0; i < n; i++) {
        if (lens[i] > entry->len - at ||
            buf_add(parts[i], entry->data + at, lens[i], &ignored) != 0)
            return false;
        at += lens[i];
    }
    return at == entry->len;
}

enum cache_found cache_load(const char *dir, const char *name, struct buf *const *parts, int n)
{
    CLEANUP(buf_release) struct buf entry = { .max = LINE_MAX_BYTES };
    CLEANUP(freep) char *path = str_printf("%s/%s" SUFFIX, dir, name);
    struct err err;

    for (int i = 0; i < n; i++)
        entry.max += parts[i]->max;
    if (path == NULL || !is_private(dir))
        return CACHE_MISS;
    if (file_read(path, &entry, &err) != 0 && err.code != ERR_LIMIT)
        return CACHE_MISS;
    if (entry.len > 0 && split(&entry, parts, n)) {
        utimensat(AT_FDCWD, path, NULL, 0); /* used now */
        return CACHE_HIT;
    }
    for (int i = 0; i < n; i++)
        buf_clear(parts[i]);
    unlink(path);
    return CACHE_DAMAGED;
}

/* ---- keeping the folder small ---- */

struct entry_file {
    char *name; /* owned */
    uint64_t used_ns, bytes;
};

struct listing {
    struct entry_file *files; /* owned */
    size_t n, cap;
    uint64_t bytes;
};

static void listing_release(struct listing *l)
{
    for (size_t i = 0; i < l->n; i++)
        free(l->files[i].name);
    free(l->files);
}

static int by_use(const void *a, const void *b)
{
    const struct entry_file *x = a, *y = b;

    return (x->used_ns > y->used_ns) - (x->used_ns < y->used_ns);
}

static bool list_add(struct listing *l, const char *name, const struct stat *s)
{
    struct entry_file *grown;

    if (l->n == l->cap) {
        grown = realloc(l->files, (l->cap ? 2 * l->cap : 64) * sizeof(*grown));
        if (grown == NULL)
            return false;
        l->files = grown;
        l->cap = l->cap ? 2 * l->cap : 64;
    }
    l->files[l->n].name = strdup(name);
    if (l->files[l->n].name == NULL)
        return false;
    l->files[l->n].used_ns =
        (uint64_t)s->st_mtim.tv_sec * NS_PER_SEC + (uint64_t)s->st_mtim.tv_nsec;
    l->files[l->n++].bytes = (uint64_t)s->st_size;
    l->bytes += (uint64_t)s->st_size;
    return true;
}

/* Entries go to the list; a killed judge's temporary files, and entries of older formats (".so"),
 * go at once. */
static void sort_out(int folder, const char *name, struct listing *l)
{
    uint64_t now_s = clock_system()->wall_ns(clock_system()) / NS_PER_SEC;
    struct stat s;

    if (fstatat(folder, name, &s, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(s.st_mode))
        return;
    if (str_has_suffix(name, SUFFIX))
        list_add(l, name, &s);
    else if (str_has_suffix(name, ".so") ||
             (strstr(name, SUFFIX ".tmp.") && (uint64_t)s.st_mtim.tv_sec + LEFTOVER_S < now_s))
        unlinkat(folder, name, 0);
}

static void prune(const char *dir, uint64_t bytes_max)
{
    CLEANUP(listing_release) struct listing l = { .n = 0 };
    struct dirent *e;
    DIR *d = opendir(dir);

    while (d != NULL && l.n < FILES_MAX && (e = readdir(d)) != NULL)
        sort_out(dirfd(d), e->d_name, &l);
    if (l.bytes > bytes_max) {
        qsort(l.files, l.n, sizeof(*l.files), by_use);
        for (size_t i = 0; i < l.n && l.bytes > bytes_max; i++)
            if (unlinkat(dirfd(d), l.files[i].name, 0) == 0)
                l.bytes -= l.files[i].bytes;
    }
    if (d != NULL)
        closedir(d);
}

/* Not synced: a torn entry does not fit its digest and is built again. */
static int write_entry(const char *path, const struct buf *entry)
{
    CLEANUP(freep) char *tmp = str_printf("%s.tmp.%ld", path, (long)getpid());
    struct err ignored;

    if (tmp == NULL)
        return -1;
    if (file_write(tmp, entry->data, entry->len, 0600, &ignored) == 0 && rename(tmp, path) == 0)
        return 0;
    unlink(tmp);
    return -1;
}

void cache_store(const char *dir, const char *name, const struct buf *const *parts, int n,
                 uint64_t bytes_max)
{
    CLEANUP(freep) char *path = str_printf("%s/%s" SUFFIX, dir, name);
    CLEANUP(freep) char *lengths = lengths_text(parts, n);
    CLEANUP(buf_release) struct buf rest = { .max = LINE_MAX_BYTES };
    CLEANUP(buf_release) struct buf entry = { .max = 0 };
    char found[SHA256_HEX + 1];
    struct err ignored;

    if (path == NULL || lengths == NULL || file_mkdirs(dir, &ignored) != 0 || !is_private(dir))
        return;
    for (int i = 0; i < n; i++)
        rest.max += parts[i]->len;
    entry.max = rest.max + LINE_MAX_BYTES;
    if (buf_adds(&rest, lengths, &ignored) != 0)
        return;
    for (int i = 0; i < n; i++)
        if (parts[i]->len > 0 && buf_add(&rest, parts[i]->data, parts[i]->len, &ignored) != 0)
            return;
    digest(rest.data, rest.len, found);
    if (entry.max > bytes_max || buf_adds(&entry, MAGIC, &ignored) != 0 ||
        buf_adds(&entry, found, &ignored) != 0 ||
        buf_add(&entry, rest.data, rest.len, &ignored) != 0)
        return;
    if (write_entry(path, &entry) == 0)
        prune(dir, bytes_max);
}
