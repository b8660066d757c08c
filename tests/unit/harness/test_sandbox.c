/* SPDX-License-Identifier: Apache-2.0 */
/* The sandbox: what hostile code tries to do to the machine does not happen, and everything dies in
 * time. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "evaltest.h"

static struct evaltest env;

static char *tagged(const char *prefix)
{
    return str_printf("%s%d", prefix, env.tag);
}

static void run_tagged(const char *fixture, const char *name, int value, const char *status)
{
    CLEANUP(freep) char *defines = str_printf("{ \"%s\": \"%d\" }", name, value);
    struct evaltest_job job = { .candidate = fixture, .defines = defines };
    struct evaltest_result r;

    for (int turn = 0; turn < 7; turn++) {
        evaltest_run(evaltest_job(&env, fixture, &job), &r);
        if (strcmp(evaltest_status(&r), "unstable") != 0 || turn == 6)
            break;
        evaltest_release(&r);
    }
    if (strcmp(evaltest_status(&r), status) != 0)
        fail_msg("status '%s' (%s), expected '%s'", evaltest_status(&r), evaltest_message(&r),
                 status);
    evaltest_release(&r);
}

static void files_written_inside_do_not_appear_outside(void **state)
{
    static const char *const places[] = { "/tmp/ksearch-escape-",     "/var/tmp/ksearch-escape-",
                                          "/dev/shm/ksearch-escape-", "/usr/ksearch-escape-",
                                          "/root/ksearch-escape-",    "/ksearch-escape-" };

    (void)state;
    run_tagged("write_file", "TAG", env.tag, "ok");
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        CLEANUP(freep) char *path = tagged(places[i]);

        assert_false(file_exists(path));
    }
}

static int listen_on(int type, int *port)
{
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                             .sin_port = htons((uint16_t)*port) };
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    if (type == SOCK_STREAM)
        assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    *port = ntohs(a.sin_port);
    return fd;
}

static void no_connection_arrives(void **state)
{
    int port = 0;
    CLEANUP(closep) int tcp = listen_on(SOCK_STREAM, &port);
    struct pollfd p = { tcp, POLLIN, 0 };

    (void)state;
    run_tagged("open_network", "PORT", port, "sandbox_violation");
    assert_int_equal(poll(&p, 1, 0), 0);
}

/* A file that the test can read, and nobody else. */
static char *make_secret(void)
{
    char *path = tagged("/tmp/ksearch-secret-");
    struct err err;

    assert_int_equal(file_write(path, "int secret_word;\n", 17, 0600, &err), 0);
    return path;
}

static void secrets_and_other_processes_are_out_of_sight(void **state)
{
    CLEANUP(freep) char *path = make_secret();

    (void)state;
    setenv("KSEARCH_API_KEY", "not to be seen", 1);
    run_tagged("look_around", "TAG", env.tag,
               "ok"); /* it refuses the call when it finds something */
    unsetenv("KSEARCH_API_KEY");
    unlink(path);
}

static void the_compiler_cannot_read_secrets_either(void **state)
{
    CLEANUP(freep) char *path = make_secret();

    (void)state;
    run_tagged("include_secret", "TAG", env.tag, "build_failed");
    unlink(path);
}

static void pause_ms(long ms)
{
    struct timespec t = { ms / 1000, ms % 1000 * 1000000 };

    nanosleep(&t, NULL);
}

/* Exit status within ten seconds. */
static int ends(pid_t pid)
{
    int status;

    for (int i = 0; i < 1000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        pause_ms(10);
    }
    kill(pid, SIGKILL);
    fail_msg("ksearch-eval did not end");
    return -1;
}

/* Starts a candidate that hangs, lets it come as far as hanging, then does `end` to it. */
static void dies_on(void (*end)(pid_t pid, int *leash), int status)
{
    struct evaltest_job job = { .candidate = "hang", .run_s = "60" };
    int leash = -1;
    pid_t pid = evaltest_start(evaltest_job(&env, "leash", &job), &leash);

    for (int i = 0;
         i < 500 && evaltest_slot_processes(&env) >= 0 && evaltest_slot_processes(&env) < 4; i++)
        pause_ms(10);
    pause_ms(300);
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
    end(pid, &leash);
    assert_int_equal(ends(pid), status);
    evaltest_wait_for_no_processes(&env);
    if (leash >= 0)
        close(leash);
}

static void close_leash(pid_t pid, int *leash)
{
    (void)pid;
    close(*leash);
    *leash = -1;
}

static void terminate(pid_t pid, int *leash)
{
    (void)leash;
    kill(pid, SIGTERM);
}

static void kill_hard(pid_t pid, int *leash)
{
    (void)leash;
    kill(pid, SIGKILL);
}

static void the_end_of_standard_input_kills_everything(void **state)
{
    (void)state;
    dies_on(close_leash, 8);
}

static void a_signal_kills_everything(void **state)
{
    (void)state;
    dies_on(terminate, 8);
}

static void even_sigkill_leaves_nothing_running(void **state)
{
    (void)state;
    dies_on(kill_hard, 128 + SIGKILL);
}

/* Needs the right to make mount namespaces; elsewhere bwrap cannot be hidden from ksearch-eval. */
static void without_bwrap_evaluation_is_refused(void **state)
{
    char script[512];
    const char *const argv[] = { "unshare", "-m", "sh", "-c", script, NULL };
    const char *dir =
        evaltest_job(&env, "refused", &(struct evaltest_job){ .candidate = "honest" });
    struct evaltest_result r;

    (void)state;
    snprintf(script, sizeof(script),
             "mount --bind /dev/null /usr/bin/bwrap || exit 99; exec %s/ksearch-eval run %s",
             KS_BIN_DIR, dir);
    evaltest_exec(argv, &r);
    if (r.status == 99 || r.status == 127 || r.status == 1) {
        evaltest_release(&r);
        skip();
    }
    assert_int_equal(r.status, 10);
    assert_string_equal(evaltest_status(&r), "infrastructure");
    assert_non_null(strstr(evaltest_message(&r), "no bwrap"));
    assert_non_null(strstr(r.err, "no bwrap"));
    evaltest_release(&r);
}

static void an_operator_may_do_without_a_sandbox(void **state)
{
    struct evaltest_job job = { .candidate = "honest", .sandbox = "none" };
    struct evaltest_result r;

    (void)state;
    evaltest_run(evaltest_job(&env, "none", &job), &r);
    if (strcmp(evaltest_status(&r), "unstable") != 0)
        assert_string_equal(evaltest_status(&r), "ok");
    assert_string_equal(
        json_string_value(json_object_get(json_object_get(r.record, "env"), "sandbox")), "none");
    evaltest_release(&r);
    job.candidate = "hang";
    job.run_s = "1";
    evaltest_run(evaltest_job(&env, "none", &job), &r);
    assert_string_equal(evaltest_status(&r), "timeout");
    evaltest_release(&r);
    evaltest_wait_for_no_processes(&env);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_written_inside_do_not_appear_outside),
        cmocka_unit_test(no_connection_arrives),
        cmocka_unit_test(secrets_and_other_processes_are_out_of_sight),
        cmocka_unit_test(the_compiler_cannot_read_secrets_either),
        cmocka_unit_test(the_end_of_standard_input_kills_everything),
        cmocka_unit_test(a_signal_kills_everything),
        cmocka_unit_test(even_sigkill_leaves_nothing_running),
        cmocka_unit_test(without_bwrap_evaluation_is_refused),
        cmocka_unit_test(an_operator_may_do_without_a_sandbox),
    };
    int failed;

    evaltest_init(&env);
    if (!evaltest_has_sandbox(&env)) {
        evaltest_end(&env);
        return getenv("KS_REQUIRE") && strstr(getenv("KS_REQUIRE"), "bwrap") ? 1 : 77;
    }
    failed = cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
    evaltest_end(&env);
    return failed;
}
