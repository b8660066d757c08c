/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A full disk, on a small tmpfs of its own: commits fail with a clean error, reads go on, commits
 * go on once there is space, and every acknowledged record is there afterwards. Needs root to
 * mount; without it the program is skipped (exit status 77).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

#include "kb_fixture.h"

/* On the small disk the log fills it; on the large one, tables are being written when it is full.
 */
enum { DISK_SMALL = 16 << 20, DISK_LARGE = 72 << 20 };
enum { DOC_BYTES = 100 << 10, DOCS_MAX = 4 * DISK_LARGE / DOC_BYTES, WAIT_S = 30 };

static char disk[64];
static const char *self; /* this program */

/* Text that does not compress, so that the numbers above mean something. */
static json_t *document(uint64_t n)
{
    static char text[DOC_BYTES + 1];
    struct rng r = rng_seeded(n);

    for (size_t i = 0; i < DOC_BYTES; i++)
        text[i] = (char)('!' + 2 + rng_below(&r, 56));
    return json_pack("{s:s, s:I}", "text", text, "n", (json_int_t)n);
}

static int commit_document(struct kb *kb, uint64_t n, struct err *err)
{
    struct kb_batch *b = kb_batch_new(kb);
    json_t *doc = document(n);
    char key[24];
    int rc;

    snprintf(key, sizeof(key), "%06ju", (uintmax_t)n);
    rc = kb_batch_put_doc(b, KB_SIDE, key, doc, err);
    if (rc == 0)
        rc = kb_commit(b, err);
    json_decref(doc);
    kb_batch_free(b);
    return rc;
}

static void assert_documents(struct kb *kb, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++) {
        json_t *want = document(i), *got = NULL;
        char key[24];
        struct err err;

        snprintf(key, sizeof(key), "%06ju", (uintmax_t)i);
        assert_ok(kb_get_doc(kb, KB_SIDE, key, &got, &err));
        assert_true(json_equal(got, want));
        json_decref(got);
        json_decref(want);
    }
}

/* More than half of the disk, to be freed later: then there is room for what waits in memory. */
static void put_ballast(const char *path)
{
    struct statvfs v;
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(statvfs(disk, &v), 0);
    assert_int_equal(posix_fallocate(fd, 0, (off_t)(v.f_blocks * v.f_frsize / 16 * 9)), 0);
    close(fd);
}

/* Commits until the disk is full; the number of documents acknowledged. */
static uint64_t fill(struct kb *kb, uint64_t n)
{
    struct err err = { 0 };

    while (commit_document(kb, n, &err) == 0) {
        n++;
        assert_true(n < DOCS_MAX);
    }
    if (err.code != ERR_IO || strstr(err.msg, "disk is full") == NULL)
        fail_msg("a full disk gave %s: %s", err_name(err.code), err.msg);
    return n;
}

static struct kb *open_synced(const char *dir)
{
    struct kb_options o = { .dir = dir, .clock = clock_system(), .sync = true };
    struct kb *kb = NULL;
    struct err err;

    assert_ok(kb_open(&o, &kb, &err));
    return kb;
}

static void writes_go_on_when_a_full_disk_has_space_again(void **arg)
{
    char ballast[96], dir[96];
    struct err err = { 0 };
    struct kb *kb;
    uint64_t n;
    int waited = 0;

    (void)arg;
    snprintf(ballast, sizeof(ballast), "%s/ballast", disk);
    snprintf(dir, sizeof(dir), "%s/kb", disk);
    put_ballast(ballast);
    kb = open_synced(dir);
    n = fill(kb, 0);
    assert_true(n > 10);
    for (int i = 0; i < 5; i++)
        assert_int_equal(commit_document(kb, n, &err), -1);
    assert_int_equal(err.code, ERR_IO);
    assert_documents(kb, n);

    assert_int_equal(unlink(ballast), 0);
    while (commit_document(kb, n, &err) != 0) {
        assert_int_equal(err.code, ERR_IO);
        if (waited++ == WAIT_S)
            fail_msg("no commit within %d s after space was freed: %s", WAIT_S, err.msg);
        sleep(1);
    }
    assert_documents(kb, n + 1);
    kb_close(kb);
    kb = open_synced(dir);
    assert_documents(kb, n + 1);
    kb_close(kb);
}

/* In a process of its own: RocksDB's threads do not survive a fork. */
static int child_fill(const char *dir)
{
    uint64_t n;

    alarm(WAIT_S); /* a failed assertion must not leave the parent waiting */
    n = fill(open_synced(dir), 0);
    if (write(STDOUT_FILENO, &n, sizeof(n)) != sizeof(n))
        return 1;
    raise(SIGKILL);
    return 1;
}

static void a_process_killed_on_a_full_disk_loses_nothing_acknowledged(void **arg)
{
    char ballast[96], command[300], dir[96];
    struct kb *kb;
    uint64_t n = 0;
    FILE *child;

    (void)arg;
    snprintf(ballast, sizeof(ballast), "%s/ballast", disk);
    snprintf(dir, sizeof(dir), "%s/kb", disk);
    put_ballast(ballast);
    snprintf(command, sizeof(command), "exec '%s' --fill '%s'", self, dir);
    child = popen(command, "re");
    assert_non_null(child);
    assert_int_equal(fread(&n, sizeof(n), 1, child), 1);
    assert_int_equal(pclose(child), SIGKILL);
    assert_true(n > 10);
    assert_int_equal(unlink(ballast), 0);
    kb = open_synced(dir);
    assert_documents(kb, n);
    kb_close(kb);
}

/* Takes every free byte of the disk. */
static void put_stone(const char *path)
{
    static char zeros[1 << 16];
    FILE *f = fopen(path, "w");

    assert_non_null(f);
    setbuf(f, NULL);
    while (fwrite(zeros, 1, sizeof(zeros), f) == sizeof(zeros))
        ;
    while (fwrite(zeros, 1, 64, f) == 64)
        ;
    fclose(f);
}

static void opening_on_a_full_disk_is_a_clean_error(void **arg)
{
    char stone[96], dir[96];
    struct err err = { 0 };
    struct kb *kb = NULL;
    uint64_t n;

    (void)arg;
    snprintf(stone, sizeof(stone), "%s/stone", disk);
    snprintf(dir, sizeof(dir), "%s/kb", disk);
    kb = open_synced(dir);
    for (n = 0; n < 20; n++)
        assert_int_equal(commit_document(kb, n, &err), 0);
    kb_close(kb);
    put_stone(stone);

    for (int i = 0; i < 3; i++) {
        if (base_try_open(dir, &kb, &err) == 0) {
            assert_documents(kb, n);
            kb_close(kb);
        } else if (err.code != ERR_IO || strstr(err.msg, "disk is full") == NULL) {
            fail_msg("opening on a full disk gave %s: %s", err_name(err.code), err.msg);
        }
    }
    snprintf(dir, sizeof(dir), "%s/new", disk);
    assert_fails(base_try_open(dir, &kb, &err), ERR_IO);
    assert_int_equal(unlink(stone), 0);
    kb = open_synced(dir); /* what was begun there is finished */
    kb_close(kb);
    snprintf(dir, sizeof(dir), "%s/kb", disk);
    kb = open_synced(dir);
    assert_documents(kb, n);
    kb_close(kb);
}

static int mount_sized(int bytes)
{
    char options[32];

    snprintf(options, sizeof(options), "size=%d", bytes);
    return mount("tmpfs", disk, "tmpfs", 0, options);
}

static int mount_small(void **arg)
{
    (void)arg;
    return mount_sized(DISK_SMALL);
}

static int mount_large(void **arg)
{
    (void)arg;
    return mount_sized(DISK_LARGE);
}

static int unmount_disk(void **arg)
{
    (void)arg;
    return umount2(disk, MNT_DETACH);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
#define CASE(name, size) cmocka_unit_test_setup_teardown(name, mount_##size, unmount_disk)
        CASE(writes_go_on_when_a_full_disk_has_space_again, small),
        CASE(writes_go_on_when_a_full_disk_has_space_again, large),
        CASE(a_process_killed_on_a_full_disk_loses_nothing_acknowledged, small),
        CASE(a_process_killed_on_a_full_disk_loses_nothing_acknowledged, large),
        CASE(opening_on_a_full_disk_is_a_clean_error, small),
    };
    int rc;

    if (argc == 3 && strcmp(argv[1], "--fill") == 0)
        return child_fill(argv[2]);
    self = argv[0];
    str_copy(disk, sizeof(disk), "/tmp/ks-full-XXXXXX");
    if (mkdtemp(disk) == NULL)
        return 1;
    if (mount_small(NULL) != 0 || unmount_disk(NULL) != 0) {
        fprintf(stderr, "skipped: a tmpfs cannot be mounted here (%s)\n", strerror(errno));
        rmdir(disk);
        return 77;
    }
    rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(disk);
    return rc;
}
