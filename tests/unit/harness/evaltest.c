/* SPDX-License-Identifier: Apache-2.0 */
/* Running ksearch-eval in tests; see evaltest.h. */
#include "evaltest.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "confine.h"

void evaltest_init(struct evaltest *t)
{
    str_copy(t->dir, sizeof(t->dir), "/tmp/ksearch-evaltest-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    t->tag = (int)getpid();
    snprintf(t->slot, sizeof(t->slot), "%d", 100 + (int)getpid() % 800);
}

void evaltest_end(struct evaltest *t)
{
    struct err err;

    assert_int_equal(file_rmtree(t->dir, &err), 0);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    struct err err;

    assert_int_equal(file_write(path, text, strlen(text), 0600, &err), 0);
}

/* add.h, then `with` if there is one, then the fixture. */
static void write_source(const char *dir, const char *name, const char *with, const char *fixture)
{
    CLEANUP(buf_release) struct buf text = { .max = 1 << 20 };
    CLEANUP(freep) char *path = str_printf(EVALTEST_FIXTURES "/%s.c", fixture);
    struct err err;

    assert_int_equal(file_read(EVALTEST_FIXTURES "/add.h", &text, &err), 0);
    if (with != NULL) {
        CLEANUP(freep) char *between = str_printf(EVALTEST_FIXTURES "/%s", with);

        assert_int_equal(file_read(between, &text, &err), 0);
    }
    assert_int_equal(file_read(path, &text, &err), 0);
    write_text(dir, name, buf_str(&text));
}

#define OR(value, usual) ((value) ? (value) : (usual))

const char *evaltest_job(struct evaltest *t, const char *name, const struct evaltest_job *job)
{
    static char dir[160];
    CLEANUP(freep) char *champion = NULL, *text = NULL;
    struct err err;

    snprintf(dir, sizeof(dir), "%s/%s", t->dir, name);
    assert_int_equal(file_mkdirs(dir, &err), 0);
    write_source(dir, "candidate.c", job->with, job->candidate);
    if (job->champion != NULL)
        write_source(dir, "champion.c", NULL, job->champion);
    champion = str_printf(
        "%s",
        job->champion ? ", \"champion\": { \"source\": \"champion.c\", \"defines\": {} }" : "");
    text = str_printf(
        "{ \"format\": 1, \"pack\": \"%s\", \"definition\": \"%s\", \"set\": \"%s\", "
        "\"candidate\": { \"source\": \"candidate.c\", \"defines\": %s }%s, \"threads\": 2, "
        "\"seed\": \"00000000000000%02x\", \"slot\": %s, \"sandbox\": \"%s\", \"cache\": "
        "\"%s/cache\", "
        "\"limits\": { \"build_s\": %s, \"run_s\": %s, \"memory_bytes\": %s }, "
        "\"timing\": { \"pairs_min\": 5, \"pairs_max\": %s, \"budget_s\": 0.1 }%s }",
        EVALTEST_PACK, OR(job->definition, "vector_add_l4"), OR(job->set, "smoke"),
        OR(job->defines, "{}"), champion, (unsigned)t->tag & 0xff, t->slot,
        OR(job->sandbox, "bwrap"), t->dir, OR(job->build_s, "60"), OR(job->run_s, "20"),
        OR(job->memory_bytes, "1073741824"), OR(job->pairs_max, "16"), OR(job->extra, ""));
    write_text(dir, "job.json", text);
    return dir;
}

/* ---- running ---- */

/* uid 0: as we are. */
static pid_t start(const char *const *argv, unsigned uid, int in, int out, int errors)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(in, 0);
        dup2(out, 1);
        dup2(errors, 2);
        if (uid != 0 && (setgroups(0, NULL) != 0 || setresgid(uid, uid, uid) != 0 ||
                         setresuid(uid, uid, uid) != 0))
            _exit(127);
        execvp(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    return pid;
}

static int wait_for(pid_t pid)
{
    int status = 0;

    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static char *read_back(int fd)
{
    CLEANUP(buf_release) struct buf text = { .max = 64 << 20 };
    struct err err;

    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    assert_int_equal(file_read_fd(fd, &text, &err), 0);
    return buf_take(&text);
}

static int scratch_file(void)
{
    char path[] = "/tmp/ksearch-evaltest-out-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    assert_true(fd >= 0);
    unlink(path);
    return fd;
}

static void run(const char *const *argv, unsigned uid, struct evaltest_result *r)
{
    CLEANUP(closep) int out = scratch_file();
    CLEANUP(closep) int errors = scratch_file();
    CLEANUP(closep) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

    r->status = wait_for(start(argv, uid, null, out, errors));
    r->out = read_back(out);
    r->err = read_back(errors);
    r->record = json_loads(r->out, 0, NULL);
}

void evaltest_exec(const char *const *argv, struct evaltest_result *r)
{
    run(argv, 0, r);
}

static void give_away(const char *dir, unsigned uid)
{
    static const char *const names[] = { "", "/candidate.c", "/champion.c", "/job.json" };

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(freep) char *path = str_printf("%s%s", dir, names[i]);

        assert_true(chown(path, uid, uid) == 0 || errno == ENOENT);
    }
}

void evaltest_run_as(const char *dir, unsigned uid, struct evaltest_result *r)
{
    const char *const argv[] = { KS_BIN_DIR "/ksearch-eval", "run", dir, NULL };

    give_away(dir, uid);
    run(argv, uid, r);
}

void evaltest_run(const char *dir, struct evaltest_result *r)
{
    const char *const argv[] = { KS_BIN_DIR "/ksearch-eval", "run", dir, NULL };

    evaltest_exec(argv, r);
}

pid_t evaltest_start(const char *dir, int *leash)
{
    const char *const argv[] = { KS_BIN_DIR "/ksearch-eval", "run", dir, NULL };
    CLEANUP(closep) int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    int fds[2];
    pid_t pid;

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid = start(argv, 0, fds[0], null, null);
    close(fds[0]);
    *leash = fds[1];
    return pid;
}

void evaltest_release(struct evaltest_result *r)
{
    json_decref(r->record);
    free(r->out);
    free(r->err);
    *r = (struct evaltest_result){ 0 };
}

static const char *member(const struct evaltest_result *r, const char *key)
{
    const char *s = json_string_value(json_object_get(r->record, key));

    return s ? s : "";
}

const char *evaltest_status(const struct evaltest_result *r)
{
    return member(r, "status");
}

const char *evaltest_message(const struct evaltest_result *r)
{
    return member(r, "message");
}

bool evaltest_has_sandbox(struct evaltest *t)
{
    struct evaltest_result r;
    bool has;

    evaltest_run(evaltest_job(t, "probe", &(struct evaltest_job){ .candidate = "honest" }), &r);
    has = r.status != 10;
    if (!has)
        fprintf(stderr, "no sandbox here: %s\n", r.err);
    evaltest_release(&r);
    return has;
}

int evaltest_slot_processes(const struct evaltest *t)
{
    int first = CONFINE_UID_BASE + (int)strtol(t->slot, NULL, 10) * ROLE_COUNT, n = 0;
    struct dirent *entry;
    DIR *proc;

    if (geteuid() != 0)
        return -1;
    proc = opendir("/proc");
    assert_non_null(proc);
    while ((entry = readdir(proc)) != NULL) {
        struct stat s;

        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
            fstatat(dirfd(proc), entry->d_name, &s, 0) == 0 && (int)s.st_uid >= first &&
            (int)s.st_uid < first + ROLE_COUNT)
            n++;
    }
    closedir(proc);
    return n;
}

void evaltest_wait_for_no_processes(const struct evaltest *t)
{
    for (int i = 0; i < 500 && evaltest_slot_processes(t) > 0; i++)
        usleep(10000);
    assert_true(evaltest_slot_processes(t) <= 0);
}
