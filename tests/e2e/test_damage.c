/* SPDX-License-Identifier: Apache-2.0 */
/* A damaged vector index and a full disk under a running daemon: a clear sentence, nothing lost,
 * and it goes on. */
#include "e2e/e2e.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

static bool add_insight(struct e2e_conn *c, int i, char message[200])
{
    CLEANUP(freep) char *params = NULL;

    params = str_printf("{\"technique\":\"tiling\",\"statement\":\"Tile number %d keeps keys "
                        "close.\",\"mechanism\":\"%01500d\"}",
                        i, i);
    json_auto_t *answer = e2e_call(c, "insight.add", params);
    const json_t *error = json_object_get(answer, "error");

    str_copy(message, 200, jsonx_str(error, "message", ""));
    return error == NULL;
}

static size_t hits(struct e2e_conn *c)
{
    json_auto_t *q = e2e_result(c, "query", "{\"text\":\"tile keeps keys\",\"limit\":50}");

    return json_array_size(json_object_get(q, "hits"));
}

static void expect_sound(struct e2e_conn *c)
{
    json_auto_t *v = e2e_result(c, "kb.verify", "{}");

    assert_int_equal(json_array_size(json_object_get(v, "problems")), 0);
}

static void a_damaged_index_is_rebuilt_and_nothing_is_lost(void **state)
{
    struct e2e *e = *state;
    char message[200];
    struct e2e_conn c;
    size_t before;

    e2e_start(e);
    c = e2e_connect(e, true);
    for (int i = 0; i < 20; i++)
        assert_true(add_insight(&c, i, message));
    before = hits(&c);
    assert_true(before > 0);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);

    CLEANUP(freep) char *index = str_printf("%s/vectors.faiss", e->data);
    int fd = open(index, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, "garbage", 7, 200), 7);
    close(fd);

    e2e_start(e);
    c = e2e_connect(e, true);
    assert_int_equal(hits(&c), before);
    expect_sound(&c);
    e2e_expect_log(e, "its checksum is wrong; its vectors are computed from 20 insights");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

/* Fills the file system behind `path` to the last byte; the file is the filler. */
static void fill(const char *path)
{
    static const char zeros[4096];
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    while (write(fd, zeros, sizeof(zeros)) > 0)
        ;
    while (write(fd, zeros, 1) > 0)
        ;
    close(fd);
}

static void a_full_disk_refuses_writes_keeps_answering_and_loses_nothing(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *small = str_printf("%s/small", e->dir);
    CLEANUP(freep) char *filler = str_printf("%s/small/filler", e->dir);
    char message[200];
    int added = 0, refused = 0;
    struct e2e_conn c;
    struct err err;

    assert_ok(file_mkdirs(small, &err), err);
    assert_int_equal(mount("none", small, "tmpfs", 0, "size=48m"), 0);
    snprintf(e->data, sizeof(e->data), "%s/data", small);
    e2e_start(e);
    c = e2e_connect(e, true);
    for (; added < 10; added++)
        assert_true(add_insight(&c, added, message));
    fill(filler);
    for (int i = 0; i < 50000 && refused == 0; i++) {
        if (add_insight(&c, added, message))
            added++; /* room that was allocated ahead */
        else
            refused++;
    }
    assert_int_equal(refused, 1);
    if (strstr(message, "full") == NULL && strstr(message, "space") == NULL)
        fail_msg("a full disk is told as: %s", message);
    /* alive: what is there can be read */
    json_decref(e2e_result(&c, "status", "{}"));
    assert_true(hits(&c) >= 10);
    assert_int_equal(unlink(filler), 0);
    e2e_close(&c);
    e2e_stop(e);
    e2e_start(e);
    c = e2e_connect(e, true);
    assert_true(add_insight(&c, added, message));
    json_auto_t *stats = e2e_result(&c, "kb.stats", "{}");
    assert_int_equal(jsonx_int(json_object_get(stats, "facts"), "claim", 0), added + 1);
    expect_sound(&c);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

static int unmount_and_teardown(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *small = str_printf("%s/small", e->dir);

    umount2(small, MNT_DETACH);
    return e2e_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_damaged_index_is_rebuilt_and_nothing_is_lost, e2e_setup,
                                        e2e_teardown),
        cmocka_unit_test_setup_teardown(
            a_full_disk_refuses_writes_keeps_answering_and_loses_nothing, e2e_setup,
            unmount_and_teardown),
    };

    if (geteuid() != 0) {
        fprintf(stderr, "skipped: mounting a small tmpfs needs root\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
