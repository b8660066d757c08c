/* SPDX-License-Identifier: Apache-2.0 */
/* Whole files; see file.h. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/str.h"

int file_read_fd(int fd, struct buf *out, struct err *err)
{
    for (;;) {
        ssize_t n;
        size_t room = out->max - out->len;

        if (buf_reserve(out, MIN(room, (size_t)65536), err) != 0)
            return -1;
        if (room == 0) {
            char probe;

            n = read(fd, &probe, 1);
            if (n == 0)
                return 0;
            if (n > 0)
                return err_set(err, ERR_LIMIT, "longer than the %zu bytes allowed here", out->max);
        } else {
            n = read(fd, out->data + out->len, MIN(room, (size_t)65536));
        }
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, "cannot read: %s", strerror(errno));
        out->len += (size_t)n;
        out->data[out->len] = '\0';
        if (n == 0)
            return 0;
    }
}

int file_read(const char *path, struct buf *out, struct err *err)
{
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_CLOEXEC);

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open '%s': %s", path,
                       strerror(errno));
    if (file_read_fd(fd, out, err) != 0)
        return err_ctx(err, "'%s'", path);
    return 0;
}

int file_write_all(int fd, const void *data, size_t len, struct err *err)
{
    const char *p = data;

    while (len > 0) {
        ssize_t n = write(fd, p, len);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, "cannot write: %s", strerror(errno));
        p += n;
        len -= (size_t)n;
    }
    return 0;
}

int file_write(const char *path, const void *data, size_t len, unsigned mode, struct err *err)
{
    CLEANUP(closep) int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    if (fd < 0)
        return err_set(err, ERR_IO, "cannot create '%s': %s", path, strerror(errno));
    if (file_write_all(fd, data, len, err) != 0)
        return err_ctx(err, "'%s'", path);
    return 0;
}

int file_sync_dir(const char *path, struct err *err)
{
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0 || fsync(fd) != 0)
        return err_set(err, ERR_IO, "cannot sync the folder '%s': %m", path);
    return 0;
}

int file_write_atomic(const char *path, const void *data, size_t len, struct err *err)
{
    CLEANUP(freep) char *tmp = str_printf("%s.tmp.%ld", path, (long)getpid());
    CLEANUP(freep) char *dir = strdup(path);
    int fd, rc;

    if (tmp == NULL || dir == NULL)
        return err_set(err, ERR_NOMEM, "no memory to write '%s'", path);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, ERR_IO, "cannot create '%s': %s", tmp, strerror(errno));
    rc = file_write_all(fd, data, len, err);
    if (rc == 0 && fsync(fd) != 0)
        rc = err_set(err, ERR_IO, "cannot sync: %s", strerror(errno));
    if (close(fd) != 0 && rc == 0)
        rc = err_set(err, ERR_IO, "cannot close: %s", strerror(errno));
    if (rc == 0 && rename(tmp, path) != 0)
        rc = err_set(err, ERR_IO, "cannot rename: %s", strerror(errno));
    if (rc != 0) {
        unlink(tmp);
        return err_ctx(err, "writing '%s'", path);
    }
    char *slash = strrchr(dir, '/');
    if (slash != NULL && slash != dir) {
        *slash = '\0';
        CLEANUP(closep) int dfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dfd >= 0 && fsync(dfd) != 0)
            return err_set(err, ERR_IO, "cannot sync folder '%s': %s", dir, strerror(errno));
    }
    return 0;
}

int file_mkdirs(const char *path, struct err *err)
{
    CLEANUP(freep) char *p = strdup(path);

    if (p == NULL)
        return err_set(err, ERR_NOMEM, "no memory for path '%s'", path);
    for (char *s = p + 1;; s++) {
        char c = *s;

        if (c != '/' && c != '\0')
            continue;
        *s = '\0';
        if (mkdir(p, 0700) != 0 && errno != EEXIST)
            return err_set(err, ERR_IO, "cannot make folder '%s': %s", p, strerror(errno));
        if (c == '\0')
            break;
        *s = c;
    }
    if (!file_is_dir(path))
        return err_set(err, ERR_IO, "'%s' is there but is not a folder", path);
    return 0;
}

static int rm_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

int file_rmtree(const char *path, struct err *err)
{
    if (nftw(path, rm_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0 && errno != ENOENT)
        return err_set(err, ERR_IO, "cannot delete '%s': %s", path, strerror(errno));
    return 0;
}

bool file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool file_is_dir(const char *path)
{
    struct stat st;

    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}
