/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that users bring: import, check, search on them, restart, replace, and what is refused. */
#include "e2e/e2e.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { WAIT_S = 120, OUTPUT_MAX = 4 << 20 };

static const char *const pack_files[] = { "task.json",           "task.c",
                                          "baseline.c",          "template.c",
                                          "template.space.json", "README.md",
                                          "workloads/cpu.jsonl", "workloads/smoke.jsonl" };

/* `text` with every `from` replaced; owned. */
static char *replace(const char *text, const char *from, const char *to)
{
    CLEANUP(buf_release) struct buf out = { .max = OUTPUT_MAX };
    struct err err;
    const char *at;

    while ((at = strstr(text, from)) != NULL) {
        assert_ok(buf_add(&out, text, (size_t)(at - text), &err), err);
        assert_ok(buf_adds(&out, to, &err), err);
        text = at + strlen(from);
    }
    assert_ok(buf_adds(&out, text, &err), err);
    return buf_take(&out);
}

static void put(const char *dir, const char *name, const char *text)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    struct err err;

    assert_ok(file_write(path, text, strlen(text), 0600, &err), err);
}

/* vector_add as family `family` in <dir>/<family>, with `from` replaced in all files; owned path.
 */
static char *make_pack(const struct e2e *e, const char *family, const char *from, const char *to)
{
    char *dir = str_printf("%s/%s", e->dir, family);
    CLEANUP(freep) char *workloads = str_printf("%s/workloads", dir);
    struct err err;

    assert_ok(file_mkdirs(workloads, &err), err);
    for (size_t i = 0; i < ARRAY_LEN(pack_files); i++) {
        CLEANUP(buf_release) struct buf text = { .max = OUTPUT_MAX };
        CLEANUP(freep)
        char *path = str_printf("%s/tasks/vector_add/%s", KS_SOURCE_DIR, pack_files[i]);
        CLEANUP(freep) char *named = NULL, *changed = NULL;

        assert_ok(file_read(path, &text, &err), err);
        named = replace(buf_str(&text), "vector_add", family);
        changed = replace(named, from, to);
        put(dir, pack_files[i], changed);
    }
    return dir;
}

/* Runs `ksearch --socket S ARGS`, NULL-terminated; exit status. What it printed, on both, is in
 * *out (owned). */
static int cli(struct e2e *e, const char *const *args, char **out)
{
    const char *argv[16] = { KS_BIN_DIR "/ksearch", "--socket", e->socket };
    CLEANUP(freep) char *path = str_printf("%s/cli.out", e->dir);
    CLEANUP(buf_release) struct buf text = { .max = OUTPUT_MAX };
    struct err err;
    int status;
    pid_t pid;

    for (size_t i = 0; args[i]; i++)
        argv[3 + i] = args[i];
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        dup2(fd, 1);
        dup2(fd, 2);
        execv(argv[0], (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_ok(file_read(path, &text, &err), err);
    *out = buf_take(&text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Fails unless `ksearch task import PATH` ends with this status and says these words. */
static void expect_import(struct e2e *e, const char *path, int status, const char *words)
{
    const char *args[] = { "task", "import", path, NULL };
    CLEANUP(freep) char *out = NULL;
    int got = cli(e, args, &out);

    if (got != status || strstr(out, words) == NULL)
        fail_msg("import '%s': status %d instead of %d: %s", path, got, status, out);
}

static bool has_task(struct e2e_conn *c, const char *name)
{
    json_auto_t *list = e2e_result(c, "task.list", "{}");
    size_t i;
    json_t *t;

    json_array_foreach (json_object_get(list, "tasks"), i, t) {
        if (strcmp(jsonx_str(t, "name", ""), name) == 0)
            return true;
    }
    return false;
}

static char *start_search(struct e2e_conn *c, const char *task, int evals)
{
    CLEANUP(freep)
    char *params = str_printf("{\"task\":\"%s\",\"device\":\"cpu\",\"set\":\"smoke\",\"seed\":5,"
                              "\"budget\":{\"evals\":%d}}",
                              task, evals);
    json_auto_t *r = e2e_result(c, "search.start", params);

    return strdup(jsonx_str(r, "id", ""));
}

static json_t *wait_state(struct e2e_conn *c, const char *id, const char *state)
{
    CLEANUP(freep) char *params = str_printf("{\"search\":\"%s\"}", id);

    for (int i = 0; i < WAIT_S * 20; i++) {
        json_t *s = e2e_result(c, "search.show", params);

        if (strcmp(jsonx_str(s, "state", ""), state) == 0)
            return s;
        json_decref(s);
        usleep(50000);
    }
    fail_msg("search %s is not %s after %d s", id, state, WAIT_S);
    return NULL;
}

static struct e2e_conn start_real(struct e2e *e)
{
    e2e_real_harness(e);
    e2e_configure(e, "timing_budget = 0.05\n");
    e2e_start(e);
    return e2e_connect(e, true);
}

/* The files that docs/tasks.md shows: each in a fence under a line with its name alone. */
static char *make_documented_pack(const struct e2e *e)
{
    char *dir = str_printf("%s/documented", e->dir);
    CLEANUP(freep) char *workloads = str_printf("%s/workloads", dir);
    CLEANUP(buf_release) struct buf text = { .max = OUTPUT_MAX };
    struct err err;
    int files = 0;

    assert_ok(file_mkdirs(workloads, &err), err);
    assert_ok(file_read(KS_SOURCE_DIR "/docs/tasks.md", &text, &err), err);
    for (const char *at = buf_str(&text); (at = strstr(at, "\n**`")) != NULL; files++) {
        const char *name = at + strlen("\n**`"), *end = strchr(name, '`');
        const char *body = strstr(name, "\n```"), *stop;
        CLEANUP(freep) char *file = strndup(name, (size_t)(end - name)), *content = NULL;

        assert_non_null(body);
        body = strchr(body + 1, '\n') + 1;
        stop = strstr(body, "\n```");
        assert_non_null(stop);
        content = strndup(body, (size_t)(stop + 1 - body));
        put(dir, file, content);
        at = stop;
    }
    assert_int_equal(files, 7);
    return dir;
}

/* ---- cases ---- */

static void the_documented_example_works(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c = start_real(e);
    CLEANUP(freep) char *dir = make_documented_pack(e), *out = NULL;
    const char *check[] = { "task", "check", "rms_norm_h1024", NULL };

    expect_import(e, dir, 0, "family rms_norm was imported");
    if (cli(e, check, &out) != 0)
        fail_msg("task check: %s", out);
    assert_non_null(strstr(out, "builds and loads in double, long double and float"));
    assert_true(has_task(&c, "rms_norm_h1024"));
    e2e_close(&c);
}

static void an_imported_task_is_there_checked_and_searched_on(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c = start_real(e);
    CLEANUP(freep) char *dir = make_pack(e, "my_add", "@@", ""), *id = NULL, *out = NULL;
    CLEANUP(freep) char *installed = str_printf("%s/tasks/my_add/task.json", e->data);
    const char *check[] = { "task", "check", "my_add_l4", "--set", "smoke", NULL };
    json_auto_t *s = NULL, *shown = NULL;

    assert_false(has_task(&c, "my_add_l1"));
    put(dir, ".hidden", "left out");
    expect_import(e, dir, 0, "family my_add was imported");
    expect_import(e, dir, 0, "family my_add is already there");
    assert_true(has_task(&c, "my_add_l1"));
    assert_true(file_exists(installed));

    if (cli(e, check, &out) != 0)
        fail_msg("task check: %s", out);
    assert_non_null(strstr(out, "zeros, a zero row and shifted rows are rejected"));
    /* On a machine that is too busy to time it there is a warning in place of the table. */
    assert_true(strstr(out, "BASELINE us") != NULL || strstr(out, "unstable") != NULL);

    id = start_search(&c, "my_add_l1", 3);
    s = wait_state(&c, id, "done");
    assert_int_equal(jsonx_int(s, "evaluations", 0), 3);
    e2e_close(&c);

    assert_int_equal(e2e_stop(e), 0);
    e2e_start(e);
    c = e2e_connect(e, true);
    assert_true(has_task(&c, "my_add_l1"));
    shown = e2e_result(&c, "task.show", "{\"task\":\"my_add_l4\"}");
    assert_true(str_has_suffix(jsonx_str(shown, "dir", ""), "/tasks/my_add"));
    e2e_close(&c);
}

static void a_pack_is_replaced_unless_a_search_of_it_lives(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c = start_real(e);
    CLEANUP(freep) char *dir = make_pack(e, "my_add", "@@", ""), *id = NULL, *params = NULL;
    json_auto_t *s = NULL, *shown = NULL, *answer = NULL;

    expect_import(e, dir, 0, "was imported");
    id = start_search(&c, "my_add_l1", 500);
    params = str_printf("{\"search\":\"%s\"}", id);
    answer = e2e_result(&c, "search.pause", params);
    s = wait_state(&c, id, "paused");
    free(dir);
    dir = make_pack(e, "my_add", "float vectors", "other vectors");
    expect_import(e, dir, 4, "a search of family 'my_add' is not over");
    json_decref(answer);
    answer = e2e_result(&c, "search.cancel", params);
    json_decref(s);
    s = wait_state(&c, id, "cancelled");

    expect_import(e, dir, 0, "family my_add was replaced");
    shown = e2e_result(&c, "task.show", "{\"task\":\"my_add_l1\"}");
    assert_non_null(strstr(jsonx_str(shown, "summary", ""), "other vectors"));
    /* Nothing is left of the old one. */
    json_decref(answer);
    answer = e2e_result(&c, "status", "{}");
    assert_int_equal(json_array_size(json_object_get(json_object_get(answer, "packs"), "problems")),
                     0);
    e2e_close(&c);
}

static void names_of_other_packs_are_refused(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c;
    CLEANUP(freep) char *family = make_pack(e, "vector_add", "@@", ""), *definition = NULL;
    CLEANUP(freep) char *mine = NULL, *yours = NULL;

    e2e_start(e);
    c = e2e_connect(e, true);
    expect_import(e, family, 4, "the family 'vector_add' is already that of the pack");
    definition = make_pack(e, "my_add", "my_add_l4", "vector_add_l4");
    expect_import(e, definition, 4, "the task 'vector_add_l4' is already in the pack");
    assert_false(has_task(&c, "my_add_l1"));
    mine = make_pack(e, "add_one", "add_one_l1", "shared_name");
    yours = make_pack(e, "add_two", "add_two_l1", "shared_name");
    expect_import(e, mine, 0, "was imported");
    expect_import(e, yours, 4, "the task 'shared_name' is already in the pack");
    e2e_close(&c);
}

static void a_broken_pack_lists_all_problems_and_installs_nothing(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c;
    CLEANUP(freep) char *dir = make_pack(e, "my_add", "\"f32\"", "\"f31\""), *home = NULL;
    CLEANUP(freep) char *out = NULL, *path = NULL;
    const char *args[] = { "task", "import", dir, NULL };

    e2e_start(e);
    c = e2e_connect(e, true);
    put(dir, "workloads/cpu.jsonl", "{\"name\": \"x\", \"axes\": {\"m\": 1}}\n");
    put(dir, "helper.c", "int helper;\n");
    path = str_printf("%s/baseline.c", dir);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(cli(e, args, &out), 2);
    assert_non_null(strstr(out, "f31"));
    assert_non_null(strstr(out, "baseline.c"));
    assert_non_null(strstr(out, "cpu.jsonl line 1"));
    assert_non_null(strstr(out, "'helper.c'"));
    assert_non_null(strstr(out, "problems; nothing was installed"));
    assert_false(has_task(&c, "my_add_l1"));
    home = str_printf("%s/tasks", e->data);
    assert_int_equal(rmdir(home), 0); /* empty: no staging folder is left either */
    e2e_close(&c);
}

static void a_tunable_space_that_no_search_could_use_is_a_problem(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *dir = make_pack(e, "my_add", "BLOCK == 4096", "BLOCK == NOTHING");

    e2e_start(e);
    expect_import(e, dir, 2, "NOTHING");
}

static void what_is_no_file_of_the_pack_is_refused(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *dir = make_pack(e, "my_add", "@@", "");
    CLEANUP(freep) char *link = str_printf("%s/notes.c", dir), *sets = NULL, *aside = NULL;
    CLEANUP(freep) char *big = NULL;

    e2e_start(e);
    assert_int_equal(symlink("/etc/passwd", link), 0);
    expect_import(e, dir, 2, "'notes.c' is a symbolic link");
    assert_int_equal(unlink(link), 0);
    assert_int_equal(mkfifo(link, 0600), 0);
    expect_import(e, dir, 2, "'notes.c' is no regular file");
    assert_int_equal(unlink(link), 0);
    put(dir, "kernel.o", "x");
    expect_import(e, dir, 2, "the pack holds 'kernel.o'");
    free(link);
    link = str_printf("%s/kernel.o", dir);
    assert_int_equal(unlink(link), 0);

    big = malloc((1 << 20) + 2);
    memset(big, 'x', (1 << 20) + 1);
    big[(1 << 20) + 1] = '\0';
    put(dir, "template.c", big);
    expect_import(e, dir, 5, "template.c");
    put(dir, "template.c", "int small;\n");

    sets = str_printf("%s/workloads", dir);
    aside = str_printf("%s/elsewhere", e->dir);
    assert_int_equal(rename(sets, aside), 0);
    assert_int_equal(symlink(aside, sets), 0);
    expect_import(e, dir, 2, "'workloads' is no folder of the pack's own");
    assert_int_equal(unlink(sets), 0);
    expect_import(e, dir, 2, "has no workload set");
    expect_import(e, aside, 2, "");
    expect_import(e, "/nonexistent/pack", 3, "/nonexistent/pack");
}

/* The daemon trusts no client's names. */
static void the_daemon_takes_only_names_inside_the_pack(void **state)
{
    static const char *const names[] = {
        "../escape.c",   "/etc/escape.c", "a/b.c", ".hidden.c", "workloads/../../x.jsonl",
        "workloads/x.c", "workloads/",    ""
    };
    struct e2e *e = *state;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        CLEANUP(freep) char *params = str_printf("{\"files\":{\"%s\":\"x\"}}", names[i]);

        e2e_refused(&c, "task.import", params, "INVALID", "is no file of a pack");
    }
    e2e_refused(&c, "task.import", "{\"files\":[]}", "LIMIT", "files");
    e2e_refused(&c, "task.import", "{\"files\":{\"task.json\":1}}", "INVALID", "is no string");
    e2e_close(&c);
}

static void options_of_recorded_spaces_do_not_fit_a_folder(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *dir = make_pack(e, "my_add", "@@", ""), *out = NULL;
    const char *args[] = { "task", "import", dir, "--noise", NULL };

    e2e_start(e);
    assert_int_equal(cli(e, args, &out), 2);
    assert_non_null(strstr(out, "'--noise' is for recorded spaces"));
}

/* Two measured assignments of one parameter. */
static const char recorded_text[] =
    "{\"metadata\":{\"timeunit\":\"miliseconds\"},\"schema_version\":\"1.0.0\",\"results\":["
    "{\"configuration\":{\"tile\":1},\"timestamp\":\"2023-12-22 09:54:05.5+00:00\","
    "\"invalidity\":\"correct\",\"times\":{\"runtimes\":[2.0,2.1]},\"measurements\":"
    "[{\"name\":\"time\",\"value\":2.05,\"unit\":\"\"}],\"objectives\":[\"time\"]},"
    "{\"configuration\":{\"tile\":2},\"timestamp\":\"2023-12-22 09:54:06.5+00:00\","
    "\"invalidity\":\"correct\",\"times\":{\"runtimes\":[1.0,1.1]},\"measurements\":"
    "[{\"name\":\"time\",\"value\":1.05,\"unit\":\"\"}],\"objectives\":[\"time\"]}]}";

static void a_recorded_space_keeps_its_name_and_has_nothing_to_check(void **state)
{
    struct e2e *e = *state;
    CLEANUP(freep) char *dir = make_pack(e, "my_add", "@@", ""), *out = NULL, *again = NULL;
    CLEANUP(freep) char *file = str_printf("%s/recorded.json", e->dir);
    const char *args[] = { "task",      "import",   file,      "--name",
                           "my_add_l1", "--device", "old_gpu", NULL };
    const char *check[] = { "task", "check", "my_add_l1", NULL };

    put(e->dir, "recorded.json", recorded_text);
    e2e_start(e);
    if (cli(e, args, &out) != 0)
        fail_msg("task import of a file: %s", out);
    expect_import(e, dir, 4, "the task 'my_add_l1' is already there, as a recorded space");
    assert_int_equal(cli(e, check, &again), 2);
    assert_non_null(strstr(again, "is a recorded tuning space"));
}

static void a_task_that_is_unfit_fails_its_check(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c = start_real(e);
    CLEANUP(freep)
    char *dir = make_pack(e, "my_add", "\"atol\": 1e-6, \"rtol\": 1e-6", "\"atol\": 1e3"),
         *out = NULL;
    const char *check[] = { "task", "check", "my_add_l1", "--set", "smoke", NULL };
    const char *nowhere[] = { "task", "check", "my_add_l7", NULL };

    expect_import(e, dir, 0, "was imported");
    assert_int_equal(cli(e, check, &out), 9);
    assert_non_null(strstr(out, "too loose"));
    free(out);
    out = NULL;
    assert_int_equal(cli(e, nowhere, &out), 3);
    e2e_refused(&c, "task.check", "{\"task\":\"my_add_l1\",\"set\":\"none\"}", "NOT_FOUND",
                "has no workload set 'none'");
    e2e_close(&c);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, e2e_setup, e2e_teardown)
    const struct CMUnitTest tests[] = {
        CASE(the_documented_example_works),
        CASE(an_imported_task_is_there_checked_and_searched_on),
        CASE(a_pack_is_replaced_unless_a_search_of_it_lives),
        CASE(names_of_other_packs_are_refused),
        CASE(a_broken_pack_lists_all_problems_and_installs_nothing),
        CASE(a_tunable_space_that_no_search_could_use_is_a_problem),
        CASE(what_is_no_file_of_the_pack_is_refused),
        CASE(the_daemon_takes_only_names_inside_the_pack),
        CASE(options_of_recorded_spaces_do_not_fit_a_folder),
        CASE(a_recorded_space_keeps_its_name_and_has_nothing_to_check),
        CASE(a_task_that_is_unfit_fails_its_check),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
