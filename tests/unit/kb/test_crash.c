/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Processes: one that is killed while it commits loses nothing that it acknowledged; a second one
 * is kept out of a folder that is in use. The other process is this program again, told by its
 * arguments what to do, because RocksDB's threads do not survive a fork.
 */
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

#include "kb_fixture.h"

extern char **environ;
static const char *self;

struct child {
    pid_t pid;
    int out; /* its standard output */
};

static struct child child_start(const char *what, const char *dir)
{
    char *argv[] = { (char *)self, (char *)what, (char *)dir, NULL };
    posix_spawn_file_actions_t actions;
    struct child c;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, fds[1], STDOUT_FILENO);
    assert_int_equal(posix_spawn(&c.pid, self, &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    close(fds[1]);
    c.out = fds[0];
    return c;
}

static void child_kill(struct child *c)
{
    kill(c->pid, SIGKILL);
    waitpid(c->pid, NULL, 0);
    close(c->out);
}

/* ---- In the other process ---- */

/* Each turn is one commit of an event, a claim, evidence and an evaluation; its number follows it.
 */
static int commit_for_ever(const char *dir)
{
    struct kb_options o = { .dir = dir, .clock = clock_system(), .sync = true };
    struct kb *kb;
    struct err err;

    if (kb_open(&o, &kb, &err) != 0)
        return 1;
    for (uint64_t n = 0;; n++) {
        struct kb_batch *b = kb_batch_new(kb);
        json_t *event = json_pack("{s:I}", "n", (json_int_t)n);

        put_claim(b, n);
        put_evidence(b, n, n);
        put_evaluation(b, n);
        if (kb_batch_add_event(b, "s", n, event, &err) != 0 || kb_commit(b, &err) != 0 ||
            write(STDOUT_FILENO, &n, sizeof(n)) != sizeof(n))
            return 1;
        json_decref(event);
        kb_batch_free(b);
    }
}

static int hold(const char *dir)
{
    struct kb *kb = base_open(dir);

    if (write(STDOUT_FILENO, "x", 1) != 1)
        return 1;
    pause();
    kb_close(kb);
    return 0;
}

/* ---- Here ---- */

static int count_event(void *ctx, uint64_t seq, const json_t *event)
{
    uint64_t *n = ctx;

    (void)event;
    assert_int_equal(seq, *n);
    ++*n;
    return 0;
}

/* Everything of turns 0..turns-1 is there, and of the one after it all or nothing. */
static void assert_turns(struct kb *kb, uint64_t turns)
{
    struct kb_stats stats;
    struct insight in;
    uint64_t events = 0;
    struct err err;

    assert_ok(kb_each_event(kb, "s", 0, count_event, &events, &err));
    assert_true(events == turns || events == turns + 1);
    assert_ok(kb_get_stats(kb, &stats, &err));
    assert_int_equal(stats.facts[FACT_CLAIM], events);
    assert_int_equal(stats.facts[FACT_EVIDENCE], events);
    assert_int_equal(stats.facts[FACT_EVALUATION], events);
    for (uint64_t i = 0; i < turns; i++) {
        assert_ok(kb_get_insight(kb, claim_id(i).hex, &in, &err));
        assert_int_equal(in.n_evidence, 1);
        insight_release(&in);
    }
}

static void a_killed_process_loses_no_acknowledged_commit(void **arg)
{
    struct rng r = rng_seeded(7);

    (void)arg;
    for (int round = 0; round < 6; round++) {
        struct tmp_folder folder;
        uint64_t n, turns = 0, wanted = 5 + rng_below(&r, 40);
        struct child c;
        struct kb *kb;

        folder_make(&folder);
        c = child_start("--commit", folder.path);
        while (turns < wanted && read(c.out, &n, sizeof(n)) == sizeof(n))
            turns = n + 1;
        assert_int_equal(turns, wanted);
        kill(c.pid, SIGKILL);
        while (read(c.out, &n, sizeof(n)) == sizeof(n))
            turns = n + 1;
        child_kill(&c);
        kb = base_open(folder.path);
        assert_turns(kb, turns);
        digest_of(kb);
        kb_close(kb);
        folder_remove(&folder);
    }
}

static void a_folder_in_use_is_a_conflict_that_names_it(void **arg)
{
    struct tmp_folder folder;
    char expected[200], byte;
    struct child c;
    struct kb *kb = NULL;
    struct err err;

    (void)arg;
    folder_make(&folder);
    c = child_start("--hold", folder.path);
    assert_int_equal(read(c.out, &byte, 1), 1);
    assert_fails(base_try_open(folder.path, &kb, &err), ERR_CONFLICT);
    snprintf(expected, sizeof(expected),
             "the knowledge base '%s' is open in another process, number %ld", folder.path,
             (long)c.pid);
    assert_string_equal(err.msg, expected);
    child_kill(&c);
    kb = base_open(folder.path);
    assert_fails(base_try_open(folder.path, &kb, &err), ERR_CONFLICT); /* nor twice in one */
    kb_close(kb);
    folder_remove(&folder);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_killed_process_loses_no_acknowledged_commit),
        cmocka_unit_test(a_folder_in_use_is_a_conflict_that_names_it),
    };

    if (argc == 3 && strcmp(argv[1], "--commit") == 0)
        return commit_for_ever(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--hold") == 0)
        return hold(argv[2]);
    self = argv[0];
    return cmocka_run_group_tests(tests, NULL, NULL);
}
