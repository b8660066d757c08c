/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Passes requests through to another provider and keeps every answer as a line of a recording,
 * durable before it is passed on; see llm.h and cassette.h. A recording with a hole would mislead
 * who replays it, so an answer that cannot be kept counts as failed. Thread: loop.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/list.h"
#include "base/mem.h"
#include "llm/cassette.h"

struct recorder {
    struct llm llm;
    struct llm *inner;
    int fd;
    char *path;
};

/* What a line needs of its request. */
struct recorded {
    struct recorder *r;
    char *id, *task, *hash, *kind;
    enum llm_role role;
    unsigned attempt;
    llm_done_fn *done;
    void *ctx;
};

static struct recorder *recorder_of(const struct llm *m)
{
    return LIST_OF(m, struct recorder, llm);
}

static void recorded_free(struct recorded *c)
{
    free(c->id);
    free(c->task);
    free(c->hash);
    free(c->kind);
    free(c);
}

/* A line that is there in part would spoil the next one. */
static int append_line(const struct recorder *r, const char *line, struct err *err)
{
    struct err ignored;
    struct stat st;

    if (fstat(r->fd, &st) != 0)
        return err_set(err, ERR_IO, "%s", strerror(errno));
    if (file_write_all(r->fd, line, strlen(line), err) == 0) {
        if (fdatasync(r->fd) == 0)
            return 0;
        err_set(err, ERR_IO, "it cannot be made durable: %s", strerror(errno));
    }
    if (ftruncate(r->fd, st.st_size) != 0)
        err_set(&ignored, ERR_IO, "%s", strerror(errno));
    return -1;
}

static int append_answer(const struct recorded *c, const struct llm_answer *a, struct err *err)
{
    struct llm_request req = {
        .id = c->id,
        .task = c->task,
        .hash = c->hash,
        .kind = c->kind,
        .role = c->role,
        .attempt = c->attempt,
    };
    CLEANUP(freep) char *line = cassette_line(&req, a);

    if (line == NULL)
        return err_set(err, ERR_INVALID, "the answer is no UTF-8 text");
    return append_line(c->r, line, err);
}

static void on_recorded(void *ctx, const struct llm_answer *a, const struct err *failed)
{
    struct recorded *c = ctx;
    struct err err;

    if (a == NULL || append_answer(c, a, &err) == 0) {
        c->done(c->ctx, a, failed);
    } else {
        err_ctx(&err, "recording '%s'", c->r->path);
        c->done(c->ctx, NULL, &err);
    }
    recorded_free(c);
}

static int recorder_start(struct llm *m, const struct llm_request *req, llm_done_fn *done,
                          void *ctx, struct llm_job **out, struct err *err)
{
    struct recorder *r = recorder_of(m);
    struct recorded *c = xcalloc(1, sizeof(*c));

    *c = (struct recorded){ .r = r,
                            .id = xstrdup(req->id),
                            .task = xstrdup(req->task),
                            .hash = xstrdup(req->hash),
                            .kind = xstrdup(req->kind),
                            .role = req->role,
                            .attempt = req->attempt,
                            .done = done,
                            .ctx = ctx };
    if (r->inner->start(r->inner, req, on_recorded, c, out, err) == 0)
        return 0;
    recorded_free(c);
    return -1;
}

/* Jobs are the inner provider's own, and are cancelled there. */
static void recorder_cancel(struct llm *m, struct llm_job *job)
{
    struct recorder *r = recorder_of(m);

    r->inner->cancel(r->inner, job);
}

static json_t *recorder_status(const struct llm *m)
{
    const struct recorder *r = recorder_of(m);
    json_t *status = r->inner->status(r->inner);

    json_object_set_new(status, "recording", json_string(r->path));
    return status;
}

static void recorder_free(struct llm *m)
{
    struct recorder *r = recorder_of(m);

    llm_free(r->inner);
    close(r->fd);
    free(r->path);
    free(r);
}

/* Ends the file in a whole line: cuts off what a crash left of one, or adds a missing newline. */
static int finish_file(int fd, size_t whole, struct err *err)
{
    struct stat st;
    char last = '\n';

    if (fstat(fd, &st) != 0 || (st.st_size > (off_t)whole && ftruncate(fd, (off_t)whole) != 0) ||
        (whole > 0 && pread(fd, &last, 1, (off_t)whole - 1) != 1))
        return err_set(err, ERR_IO, "%s", strerror(errno));
    if (last != '\n' && file_write_all(fd, "\n", 1, err) != 0)
        return -1;
    return 0;
}

/* What is there already has to be a recording: it is added to. */
static int open_file(const char *path, int *out, struct err *err)
{
    CLEANUP(closep) int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    struct cassette *before;
    struct stat st;
    size_t whole;

    if (fd < 0)
        return err_set(err, ERR_IO, "the recording '%s' cannot be written: %s", path,
                       strerror(errno));
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
        return err_set(err, ERR_INVALID, "the recording '%s' is no regular file", path);
    if (cassette_load_whole(path, &before, &whole, err) != 0)
        return -1;
    cassette_free(before);
    if (finish_file(fd, whole, err) != 0)
        return err_ctx(err, "recording '%s'", path);
    *out = fd;
    fd = -1;
    return 0;
}

int llm_record_new(struct llm *inner, const char *path, struct llm **out, struct err *err)
{
    struct recorder *r;
    int fd = -1;

    if (open_file(path, &fd, err) != 0)
        return -1;
    r = xcalloc(1, sizeof(*r));
    r->llm = (struct llm){ inner->name, recorder_start, recorder_cancel, recorder_status,
                           recorder_free };
    r->inner = inner;
    r->fd = fd;
    r->path = xstrdup(path);
    *out = &r->llm;
    return 0;
}
