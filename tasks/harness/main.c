/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch-eval: builds, checks and times candidates, and measures devices. One file to carry; it
 * runs itself again, confined, for all that is not trusted (the hidden verbs "runner" and
 * "compile").
 */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "audit.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "build.h"
#include "evaluate.h"
#include "leash.h"
#include "probe.h"
#include "runner.h"
#include "selfcheck.h"

static int out_fd = -1; /* the real standard output: what a task's module prints goes to stderr */

/* Says what went wrong; returns the exit status. */
static int complain(const struct err *err)
{
    fprintf(stderr, "ksearch-eval: %s\n", err->msg);
    return err_exit_status(err->code);
}

static int usage_error(const char *what)
{
    fprintf(stderr, "ksearch-eval: %s; see ksearch-eval --help\n", what);
    return err_exit_status(ERR_INVALID);
}

static int take_stdout(struct err *err)
{
    fflush(stdout);
    out_fd = dup(1);
    if (out_fd < 0 || dup2(2, 1) < 0)
        return err_set(err, ERR_IO, "cannot keep standard output: %s", strerror(errno));
    return 0;
}

/* One line on standard output, and in `path` when there is one. */
static int print_json(const json_t *v, const char *path, struct err *err)
{
    CLEANUP(freep) char *text = v ? json_dumps(v, JSON_COMPACT | JSON_REAL_PRECISION(15)) : NULL;
    CLEANUP(freep) char *line = text ? str_printf("%s\n", text) : NULL;

    if (line == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the record");
    if (path != NULL && file_write(path, line, strlen(line), 0600, err) != 0)
        return -1;
    return file_write_all(out_fd, line, strlen(line), err);
}

static void job_release(struct job **j)
{
    job_free(*j);
}

static void pack_release(struct pack **p)
{
    pack_free(*p);
}

/* ---- verbs ---- */

static int verb_run(int argc, char **argv)
{
    CLEANUP(job_release) struct job *job = NULL;
    CLEANUP(pack_release) struct pack *pack = NULL;
    CLEANUP(evaluation_release) struct evaluation e = { 0 };
    CLEANUP(freep) char *path = NULL;
    json_auto_t *record = NULL;
    struct err err;

    if (argc != 1)
        return usage_error("run takes one folder");
    if (take_stdout(&err) != 0 || leash_start(&err) != 0)
        return complain(&err);
    if (job_load(argv[0], &job, &err) != 0 ||
        pack_load(job->pack, job->definition, job->set, &pack, &err) != 0)
        return complain(&err);
    evaluate(job, pack, &e);
    record = record_make(job, pack, &e);
    path = str_printf("%s/result.json", argv[0]);
    if (print_json(record, path, &err) != 0)
        return complain(&err);
    if (e.fail.class == FAIL_INFRASTRUCTURE)
        fprintf(stderr, "ksearch-eval: %s\n", e.fail.msg);
    return e.fail.class == FAIL_INFRASTRUCTURE && e.fail.code == ERR_REFUSED
               ? err_exit_status(ERR_REFUSED)
               : 0;
}

static int verb_probe(int argc, char **argv)
{
    const char *name = "cpu", *march = "native";
    json_auto_t *record = NULL;
    struct err err;

    for (int i = 0; i < argc; i += 2) {
        if (i + 1 == argc)
            return usage_error("an option of probe has no value");
        if (strcmp(argv[i], "--name") == 0 && str_is_name(argv[i + 1]))
            name = argv[i + 1];
        else if (strcmp(argv[i], "--march") == 0 && job_is_march(argv[i + 1]))
            march = argv[i + 1];
        else
            return usage_error("probe takes --name NAME and --march WORD");
    }
    if (take_stdout(&err) != 0 || leash_start(&err) != 0 ||
        probe(name, march, &record, &err) != 0 || print_json(record, NULL, &err) != 0)
        return complain(&err);
    return 0;
}

static int verb_check(int argc, char **argv)
{
    struct err err;

    if (argc < 2 || argc > 3)
        return usage_error("check takes a pack, a definition and perhaps a workload set");
    if (leash_start(&err) != 0)
        return complain(&err);
    if (selfcheck(argv[0], argv[1], argc == 3 ? argv[2] : "smoke", &err) != 0)
        return complain(&err);
    return 0;
}

static int verb_check_task(int argc, char **argv)
{
    CLEANUP(job_release) struct job *job = NULL;
    CLEANUP(freep) char *path = NULL;
    json_auto_t *record = NULL;
    struct err err;

    if (argc != 1)
        return usage_error("check-task takes one folder");
    if (take_stdout(&err) != 0 || leash_start(&err) != 0)
        return complain(&err);
    if (job_load(argv[0], &job, &err) != 0 || audit(job, &record, &err) != 0)
        return complain(&err);
    path = str_printf("%s/result.json", argv[0]);
    return print_json(record, path, &err) == 0 ? 0 : complain(&err);
}

static int verb_runner(int argc, char **argv)
{
    (void)argc, (void)argv;
    _exit(runner_verb()); /* inside a sandbox nothing is worth tidying up */
}

static int verb_compile(int argc, char **argv)
{
    _exit(build_verb(argc, argv));
}

static int verb_help(int argc, char **argv);

static int verb_version(int argc, char **argv)
{
    (void)argc, (void)argv;
    printf("ksearch-eval %s\n", KS_VERSION);
    return 0;
}

static const struct verb {
    const char *name, *args, *help; /* no help: hidden */
    int (*fn)(int argc, char **argv);
} verbs[] = {
    { "run", "JOBDIR", "evaluate JOBDIR/job.json; one record on standard output", verb_run },
    { "probe", "[--name N] [--march M]", "measure this machine; one device record", verb_probe },
    { "check", "PACK DEFINITION [SET]", "try a task pack's own baseline and template", verb_check },
    { "check-task", "JOBDIR", "check the task of JOBDIR/job.json; one record", verb_check_task },
    { "--help", "", "this text", verb_help },
    { "--version", "", "the version", verb_version },
    { "runner", "", NULL, verb_runner },
    { "compile", "", NULL, verb_compile },
};

static int verb_help(int argc, char **argv)
{
    (void)argc, (void)argv;
    puts("ksearch-eval builds, checks and times kernels, and measures devices.\n");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (verbs[i].help != NULL)
            printf("  ksearch-eval %-10s %-24s %s\n", verbs[i].name, verbs[i].args, verbs[i].help);
    puts("\nExit status: 0 when a record was written, whatever it says; 2 bad request, 3 not "
         "found,\n"
         "5 over a limit, 6 input or output failed, 8 cancelled, 9 check failed, 10 no sandbox.");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return usage_error("a verb is missing");
    for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
        if (strcmp(argv[1], verbs[i].name) == 0)
            return verbs[i].fn(argc - 2, argv + 2);
    return usage_error("there is no such verb");
}
