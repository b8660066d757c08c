/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The launcher `command` on a real Slurm: munged, slurmctld and two slurmd on this machine, started
 * and ended by this program, in a folder of their own. srun carries evaluations and the probe; a
 * lost node, the scheduler's time limit, a partition that is not there and a cancelled evaluation
 * are reported as what they are, and tried again only where the configuration says so. Skipped
 * where Slurm is not installed or may not be run (slurmd needs root).
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "e2e/e2e.h"

extern char **environ;

enum { SKIPPED = 77, NODES = 2 };

struct cluster {
    char dir[64];
    pid_t munged, controller, node[NODES];
};

static struct cluster cluster;

/* ---- Programs ---- */

static void nap_ms(unsigned ms)
{
    struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000L };

    nanosleep(&t, NULL);
}

/* Starts argv with its output appended to <dir>/<log>. */
static pid_t start(const char *log, const char *const *argv)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", cluster.dir, log);
    posix_spawn_file_actions_t actions;
    pid_t pid;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    assert_int_equal(
        posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return pid;
}

static void finish(pid_t *pid, int sig)
{
    if (*pid > 0) {
        kill(*pid, sig);
        waitpid(*pid, NULL, 0);
    }
    *pid = 0;
}

/* What a command prints, its status ignored. */
static char *output_of(const char *command)
{
    struct buf out = { .max = 1 << 20 };
    FILE *f = popen(command, "re");
    char chunk[4096];
    struct err err;
    size_t n;

    assert_non_null(f);
    while ((n = fread(chunk, 1, sizeof(chunk), f)) > 0)
        assert_int_equal(buf_add(&out, chunk, n, &err), 0);
    pclose(f);
    return buf_take(&out);
}

/* ---- The cluster ---- */

static void write_text(const char *name, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void write_text(const char *name, const char *fmt, ...)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", cluster.dir, name);
    char text[4096];
    struct err err;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    assert_int_equal(file_write(path, text, strlen(text), 0600, &err), 0);
}

static void make_folder(const char *name)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", cluster.dir, name);

    assert_int_equal(mkdir(path, 0700), 0);
}

static void write_config(void)
{
    char host[256] = "";
    int port = 20000 + (int)(getpid() % 9000) * 4;

    assert_int_equal(gethostname(host, sizeof(host) - 1), 0);
    host[strcspn(host, ".")] = '\0';
    write_text("slurm.conf",
               "ClusterName=test\nSlurmctldHost=%s(127.0.0.1)\nSlurmctldPort=%d\n"
               "AuthType=auth/munge\nAuthInfo=socket=%s/munge/socket\nSlurmUser=root\n"
               "StateSaveLocation=%s/state\nSlurmdSpoolDir=%s/spool-%%n\n"
               "SlurmctldPidFile=%s/slurmctld.pid\nSlurmdPidFile=%s/slurmd-%%n.pid\n"
               "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
               "JobAcctGatherType=jobacct_gather/none\nSelectType=select/cons_tres\n"
               "SelectTypeParameters=CR_Core\nReturnToService=2\nMpiDefault=none\nKillWait=2\n"
               "SlurmdTimeout=8\nMessageTimeout=5\nSlurmdParameters=config_overrides\n"
               "NodeName=n1 NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=2 State=UNKNOWN\n"
               "NodeName=n2 NodeHostname=%s NodeAddr=127.0.0.1 Port=%d CPUs=2 State=UNKNOWN\n"
               "PartitionName=all Nodes=n[1-2] Default=YES MaxTime=60 State=UP\n",
               host, port, cluster.dir, cluster.dir, cluster.dir, cluster.dir, cluster.dir, host,
               port + 1, host, port + 2);
}

static void start_node(int i)
{
    CLEANUP(freep) char *conf = str_printf("%s/slurm.conf", cluster.dir);
    const char *name = i == 0 ? "n1" : "n2";

    cluster.node[i] =
        start("slurmd.log", (const char *[]){ "slurmd", "-D", "-N", name, "-f", conf, NULL });
}

/* Until both nodes take jobs. */
static void await_nodes(void)
{
    for (int tries = 0; tries < 300; tries++) {
        CLEANUP(freep) char *idle = output_of("sinfo -h -t idle,mix -o %D 2>/dev/null");

        if (strtoul(idle, NULL, 10) >= NODES)
            return;
        nap_ms(100);
    }
    fail_msg("the nodes of the Slurm cluster did not come up: %s", output_of("sinfo 2>&1"));
}

static void start_munged(void)
{
    CLEANUP(freep) char *key = str_printf("--key-file=%s/munge/key", cluster.dir);
    CLEANUP(freep) char *sock = str_printf("--socket=%s/munge/socket", cluster.dir);
    CLEANUP(freep) char *pid = str_printf("--pid-file=%s/munge/pid", cluster.dir);
    CLEANUP(freep) char *log = str_printf("--log-file=%s/munge/log", cluster.dir);
    CLEANUP(freep) char *seed = str_printf("--seed-file=%s/munge/seed", cluster.dir);
    CLEANUP(freep) char *path = str_printf("%s/munge/socket", cluster.dir);
    struct rng rng = rng_derive(clock_system()->wall_ns(clock_system()), "munge", 1);
    char secret[129] = "";

    make_folder("munge");
    for (int i = 0; i < 8; i++)
        snprintf(secret + 16 * i, 17, "%016llx", (unsigned long long)rng_u64(&rng));
    write_text("munge/key", "%s", secret);
    cluster.munged = start(
        "munged.log", (const char *[]){ "munged", "-F", "-f", key, sock, pid, log, seed, NULL });
    for (int tries = 0; tries < 100 && access(path, F_OK) != 0; tries++)
        nap_ms(50);
    assert_int_equal(access(path, F_OK), 0);
}

static int cluster_start(void **state)
{
    CLEANUP(freep) char *conf = NULL;

    (void)state;
    str_copy(cluster.dir, sizeof(cluster.dir), "/tmp/ks-slurm-XXXXXX");
    assert_non_null(mkdtemp(cluster.dir));
    start_munged();
    make_folder("state");
    write_config();
    conf = str_printf("%s/slurm.conf", cluster.dir);
    setenv("SLURM_CONF", conf, 1);
    cluster.controller =
        start("slurmctld.log", (const char *[]){ "slurmctld", "-D", "-f", conf, NULL });
    for (int i = 0; i < NODES; i++)
        start_node(i);
    await_nodes();
    return 0;
}

static int cluster_stop(void **state)
{
    struct err ignored;

    (void)state;
    free(output_of("scancel -u root 2>/dev/null"));
    for (int i = 0; i < NODES; i++)
        finish(&cluster.node[i], SIGTERM);
    finish(&cluster.controller, SIGTERM);
    finish(&cluster.munged, SIGTERM);
    file_rmtree(cluster.dir, &ignored);
    return 0;
}

/* The node's daemon and the job's step go at once, as with a lost machine. */
static void lose_node(int i, const char *job)
{
    CLEANUP(freep) char *steps = str_printf("pkill -9 -f '^slurmstepd: .%s.0'", job);

    finish(&cluster.node[i], SIGKILL);
    free(output_of(steps));
}

/* Until the controller has given the job's node up; sinfo goes on showing its last state for a
 * while. */
static void await_loss(const char *job)
{
    CLEANUP(freep)
    char *command =
        str_printf("grep -c 'Killing JobId=%s on failed node' %s/slurmctld.log", job, cluster.dir);

    for (int tries = 0; tries < 1000; tries++) {
        CLEANUP(freep) char *found = output_of(command);

        if (strtoul(found, NULL, 10) > 0)
            return;
        nap_ms(100);
    }
    fail_msg("the loss of the node under job %s was not seen", job);
}

/* The job that runs on a node, waiting for one; owned. */
static char *job_on(const char *node)
{
    CLEANUP(freep) char *command = str_printf("squeue -h -t R -w %s -o %%A 2>/dev/null", node);

    for (int tries = 0; tries < 200; tries++) {
        char *id = output_of(command);

        id[strcspn(id, "\n")] = '\0';
        if (id[0])
            return id;
        free(id);
        nap_ms(50);
    }
    fail_msg("no job came to node %s", node);
    return NULL;
}

/* ---- Evaluations ---- */

#define DEVICE                                                                                     \
    "{\"name\":\"cpu\",\"kind\":\"cpu\",\"arch\":\"any\",\"class\":\"cpu-any\",\"model\":\"any\"," \
    "\"cores\":1,\"threads\":1,\"isa\":[],\"cache_bytes\":{\"l1d\":32768,\"l2\":1048576,\"l3\":0}" \
    ","                                                                                            \
    "\"copy_gbs\":10,\"read_gbs\":10,\"fma_gflops\":10,\"toolchain\":\"gcc 12.2.0\","              \
    "\"features\":[\"any\"]}"

/* A harness that answers the probe, and runs `body` for an evaluation. Waiting is reading stdin. */
static void configure(struct e2e *e, const char *body, const char *options)
{
    CLEANUP(freep)
    char *script =
        str_printf("if [ \"$1\" = probe ]; then echo '%s'; exit 0; fi\n%s", DEVICE, body);

    e2e_fake_harness(e, script);
    e2e_configure(e, options);
}

static char *eval_params(void)
{
    CLEANUP(buf_release) struct buf source = { .max = 1 << 20 };
    json_auto_t *params = NULL;
    struct err err;

    assert_ok(file_read(KS_SOURCE_DIR "/tasks/vector_add/baseline.c", &source, &err), err);
    params = json_pack("{s:s, s:s, s:s}", "task", "vector_add_l1", "set", "smoke", "source",
                       buf_str(&source));
    assert_non_null(params);
    return json_dumps(params, JSON_COMPACT);
}

static void send_eval(struct e2e_conn *c)
{
    CLEANUP(freep) char *params = eval_params();
    CLEANUP(freep)
    char *line = str_printf(
        "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"eval.run\",\"params\":%s}\n", params);

    e2e_send(c, line);
}

static void expect_record(struct e2e_conn *c, const char *status, const char *words)
{
    json_auto_t *answer = e2e_line(c);
    const json_t *record = json_object_get(answer, "result");
    const char *message = jsonx_str(record, "message", "");

    if (record == NULL)
        fail_msg("no record: %s", json_dumps(answer, JSON_COMPACT));
    if (strcmp(jsonx_str(record, "status", ""), status) != 0 || !strstr(message, words))
        fail_msg("the record is %s: %s", jsonx_str(record, "status", "?"), message);
}

/* An evaluation that meets the scheduler's time limit (a minute at least) runs beside the others.
 */
static struct {
    void *state;
    struct e2e_conn conn;
} limited;

static void an_evaluation_waits_for_its_time_limit(void **state)
{
    struct e2e *e;

    (void)state;
    assert_int_equal(e2e_setup(&limited.state), 0);
    e = limited.state;
    configure(e, "echo x >>$(dirname $0)/tries; cat >/dev/null; exit 1",
              "evaluator = command\ncommand = srun -n1 -t 1 -w n2\n");
    e2e_start(e);
    limited.conn = e2e_connect(e, true);
    send_eval(&limited.conn);
    free(job_on("n2"));
}

static void srun_carries_the_probe_and_an_evaluation(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *log = NULL;
    struct e2e_conn c;

    e2e_real_harness(e);
    e2e_configure(e, "evaluator = command\ncommand = srun -n1 -c2 -w n1 --job-name='k s'\n");
    e2e_start(e);
    c = e2e_connect(e, true);
    send_eval(&c);
    expect_record(&c, "ok", "");
    e2e_close(&c);
    log = str_printf("grep -c '_job_complete.* done' %s/slurmctld.log", cluster.dir);
    assert_true(strtoul(output_of(log), NULL, 10) >= 2);
}

static void a_partition_that_is_not_there_is_said(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c;

    configure(e, "exit 1",
              "evaluator = command\ncommand = srun -n1 -p nowhere\ncommand_retries = 1\n");
    e2e_start(e);
    c = e2e_connect(e, true);
    /* the probe goes the same way */
    send_eval(&c);
    json_auto_t *answer = e2e_line(&c);
    CLEANUP(freep) char *text = json_dumps(answer, JSON_COMPACT);

    assert_non_null(strstr(text, "invalid partition") ? text : strstr(text, "Invalid partition"));
    e2e_close(&c);
}

static void a_lost_node_is_tried_again(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *body = NULL, *job = NULL;
    struct e2e_conn c;

    body = str_printf("if [ -e %s/tried ]; then exec %s/ksearch-eval \"$@\"; fi\n"
                      "touch %s/tried; cat >/dev/null; exit 1",
                      e->dir, KS_BIN_DIR, e->dir);
    configure(e, body, "evaluator = command\ncommand = srun -n1 -w n1\ncommand_retries = 3\n");
    e2e_start(e);
    c = e2e_connect(e, true);
    send_eval(&c);
    for (int tries = 0; tries < 200; tries++) {
        CLEANUP(freep) char *flag = str_printf("%s/tried", e->dir);

        if (access(flag, F_OK) == 0)
            break;
        nap_ms(50);
    }
    job = job_on("n1");
    lose_node(0, job);
    await_loss(job);
    start_node(0);
    expect_record(&c, "ok", "");
    e2e_close(&c);
    await_nodes();
}

static void a_lost_node_is_reported_where_it_is_not_tried_again(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *body = NULL, *job = NULL, *flag = NULL;
    struct e2e_conn c;

    flag = str_printf("%s/tried", e->dir);
    body = str_printf("touch %s; cat >/dev/null; exit 1", flag);
    configure(e, body, "evaluator = command\ncommand = srun -n1 -w n1\ncommand_retries = 0\n");
    e2e_start(e);
    c = e2e_connect(e, true);
    send_eval(&c);
    for (int tries = 0; tries < 200 && access(flag, F_OK) != 0; tries++)
        nap_ms(50);
    job = job_on("n1");
    lose_node(0, job);
    expect_record(&c, "infrastructure", "the node failed");
    e2e_close(&c);
    start_node(0);
    await_nodes();
}

static void stopping_the_daemon_gives_the_place_back(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *job = NULL, *left = NULL;
    struct e2e_conn c;

    configure(e, "cat >/dev/null; exit 1", "evaluator = command\ncommand = srun -n1 -w n1\n");
    e2e_start(e);
    c = e2e_connect(e, true);
    send_eval(&c);
    for (int tries = 0; tries < 3; tries++) { /* the probe's job goes by */
        free(job);
        job = job_on("n1");
        nap_ms(700);
    }
    assert_int_equal(e2e_stop(e), 0);
    e2e_close(&c);
    for (int tries = 0; tries < 100; tries++) {
        free(left);
        left = output_of("squeue -h -w n1");
        if (left[0] == '\0')
            return;
        nap_ms(100);
    }
    fail_msg("a job is left on the node: %s", left);
}

static void the_time_limit_is_reported_and_not_tried_again(void **state)
{
    struct e2e *e = limited.state;
    CLEANUP(freep) char *path = str_printf("%s/tries", e->dir);
    CLEANUP(buf_release) struct buf tries = { .max = 100 };
    struct err err;

    (void)state;
    expect_record(&limited.conn, "infrastructure", "time limit");
    assert_ok(file_read(path, &tries, &err), err);
    assert_string_equal(buf_str(&tries), "x\n");
    e2e_close(&limited.conn);
    e2e_teardown(&limited.state);
    limited.state = NULL;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_evaluation_waits_for_its_time_limit),
        cmocka_unit_test_setup_teardown(srun_carries_the_probe_and_an_evaluation, e2e_setup,
                                        e2e_teardown),
        cmocka_unit_test_setup_teardown(a_partition_that_is_not_there_is_said, e2e_setup,
                                        e2e_teardown),
        cmocka_unit_test_setup_teardown(a_lost_node_is_tried_again, e2e_setup, e2e_teardown),
        cmocka_unit_test_setup_teardown(a_lost_node_is_reported_where_it_is_not_tried_again,
                                        e2e_setup, e2e_teardown),
        cmocka_unit_test_setup_teardown(stopping_the_daemon_gives_the_place_back, e2e_setup,
                                        e2e_teardown),
        cmocka_unit_test(the_time_limit_is_reported_and_not_tried_again),
    };

    if (geteuid() != 0 ||
        system(
            "for p in munged slurmctld slurmd srun; do command -v $p >/dev/null || exit 1; done")) {
        printf("skipped: Slurm is not installed, or this is not root\n");
        return SKIPPED;
    }
    setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
    return cmocka_run_group_tests(tests, cluster_start, cluster_stop);
}
