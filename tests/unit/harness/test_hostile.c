/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The hostile corpus: known ways to cheat, to fail and to break out, each with its verdict, and
 * honest twins that pass, on the real program and the real sandbox. tests/fixtures/hostile has the
 * sources and corpus.json, which says of each what it tries and what has to become of it.
 *
 *   test_hostile GROUP          the attacks of one group
 *   test_hostile unprivileged   those marked so, by a judge that is not root (needs root to start)
 *   test_hostile --markdown     everything, as the page docs/hostile.md; with a GROUP, its section
 */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "evaltest.h"

enum { ROWS_MAX = 400, TURNS = 7, HARMLESS_TURNS = 3 };

/* Times as fast as its twin, timed beside it: the lower end of the 95 % interval. */
#define HARMLESS_RATIO 1.3

/* What became of one row. */
struct outcome {
    char status[32], message[400];
    double vs_twin; /* the twin's time over its own; 0 where it is not timed */
    double ms;      /* of the last evaluation */
    bool right;
};

static struct evaltest env;
static json_t *corpus;
static unsigned judge_uid; /* 0: as we are */
static struct outcome outcomes[ROWS_MAX];

static const char *text_of(const json_t *row, const char *key, const char *fallback)
{
    return jsonx_str(row, key, fallback);
}

static bool is_true(const json_t *row, const char *key)
{
    return json_is_true(json_object_get(row, key));
}

static const json_t *row_named(const char *name)
{
    size_t i;
    json_t *row;

    json_array_foreach (corpus, i, row)
        if (strcmp(text_of(row, "name", ""), name) == 0)
            return row;
    fail_msg("corpus.json names a twin '%s' that it does not have", name);
    return NULL;
}

/* ---- running ---- */

/* The row's macros, and TAG, by which files outside are known. */
static char *defines_of(const json_t *row)
{
    json_auto_t *all = json_object();
    char tag[16];

    snprintf(tag, sizeof(tag), "%d", env.tag);
    assert_int_equal(json_object_set_new(all, "TAG", json_string(tag)), 0);
    if (json_object_get(row, "defines"))
        assert_int_equal(json_object_update(all, json_object_get(row, "defines")), 0);
    return json_dumps(all, 0);
}

static void run_once(const json_t *row, struct evaltest_result *r, double *ms)
{
    CLEANUP(freep) char *defines = defines_of(row);
    const char *name = text_of(row, "name", "?");
    struct evaltest_job job = { .candidate = text_of(row, "source", name),
                                .champion =
                                    is_true(row, "harmless") ? text_of(row, "twin", NULL) : NULL,
                                .with = text_of(row, "with", NULL),
                                .defines = defines,
                                .definition = text_of(row, "definition", NULL),
                                .set = text_of(row, "set", NULL),
                                .run_s = text_of(row, "run_s", "10"),
                                .build_s = text_of(row, "build_s", NULL),
                                .memory_bytes = text_of(row, "memory_bytes", NULL),
                                .pairs_max = "10" };
    const char *dir = evaltest_job(&env, name, &job);
    uint64_t start = clock_system()->mono_ns(clock_system());

    if (judge_uid != 0)
        evaltest_run_as(dir, judge_uid, r);
    else
        evaltest_run(dir, r);
    *ms = (double)(clock_system()->mono_ns(clock_system()) - start) / 1e6;
}

static void take_outcome(const struct evaltest_result *r, struct outcome *o)
{
    str_copy(o->status, sizeof(o->status), evaltest_status(r));
    str_copy(o->message, sizeof(o->message), evaltest_message(r));
    o->vs_twin = jsonx_num(json_object_get(r->record, "vs_champion"), "ci_low", 0);
}

/* Every failure has a sentence and no score; success has a score and no sentence. */
static void check_record(const struct evaltest_result *r)
{
    bool ok = strcmp(evaltest_status(r), "ok") == 0;

    assert_int_equal(r->status, 0);
    assert_non_null(r->record);
    assert_int_equal(json_is_real(json_object_get(r->record, "objective")), ok);
    assert_int_equal(json_is_null(json_object_get(r->record, "objective")), !ok);
    assert_int_equal(evaltest_message(r)[0] == '\0', ok);
}

/*
 * A crowded machine can make samples scatter: that verdict, and only that, is asked for again; less
 * often where no score is as good as a low one.
 */
static void evaluate_row(const json_t *row, struct outcome *o)
{
    int turns = is_true(row, "harmless") ? HARMLESS_TURNS : TURNS;

    for (int turn = 0; turn < turns; turn++) {
        struct evaltest_result r;

        run_once(row, &r, &o->ms);
        check_record(&r);
        take_outcome(&r, o);
        evaltest_release(&r);
        if (strcmp(o->status, "unstable") != 0)
            return;
    }
}

/* ---- judging ---- */

static bool is_expected(const json_t *row, const struct outcome *o)
{
    const json_t *list = json_object_get(row, "expect");
    const char *says = text_of(row, "says", NULL);
    bool listed = is_true(row, "harmless") && strcmp(o->status, "unstable") == 0;

    for (size_t i = 0; i < json_array_size(list); i++)
        listed = listed || strcmp(json_string_value(json_array_get(list, i)), o->status) == 0;
    return listed && (says == NULL || strcmp(o->status, "ok") == 0 || strstr(o->message, says));
}

/* True when what was tried brought nothing: no better than its twin, which ran as the champion. */
static bool brings_nothing(const json_t *row, struct outcome *o)
{
    for (int turn = 1; o->vs_twin > HARMLESS_RATIO && turn < HARMLESS_TURNS; turn++)
        evaluate_row(row, o);
    return strcmp(o->status, "unstable") == 0 ||
           (strcmp(o->status, "ok") == 0 && o->vs_twin > 0 && o->vs_twin <= HARMLESS_RATIO);
}

/* A file that belongs in a job's folder. */
static bool is_ours(const char *name)
{
    static const char *const ours[] = { "candidate.c", "champion.c", "job.json", "result.json" };

    for (size_t i = 0; i < ARRAY_LEN(ours); i++)
        if (strcmp(name, ours[i]) == 0)
            return true;
    return false;
}

/* Files that an attack may try to make outside; the job's folder holds what the judge put there. */
static void check_outside(const json_t *row)
{
    static const char *const places[] = { "/tmp/ksearch-escape-",     "/var/tmp/ksearch-escape-",
                                          "/dev/shm/ksearch-escape-", "/usr/ksearch-escape-",
                                          "/root/ksearch-escape-",    "/ksearch-escape-" };
    CLEANUP(freep) char *dir = str_printf("%s/%s", env.dir, text_of(row, "name", "?"));
    struct dirent *entry;
    DIR *folder = opendir(dir);

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL)
        if (entry->d_name[0] != '.' && !is_ours(entry->d_name))
            fail_msg("'%s' was left in the job's folder", entry->d_name);
    closedir(folder);
    for (size_t i = 0; i < ARRAY_LEN(places); i++) {
        CLEANUP(freep) char *path = str_printf("%s%d", places[i], env.tag);

        assert_false(file_exists(path));
    }
}

static int processes_of(unsigned uid)
{
    struct dirent *entry;
    DIR *proc = opendir("/proc");
    int n = 0;

    assert_non_null(proc);
    while ((entry = readdir(proc)) != NULL) {
        struct stat s;

        if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9' &&
            fstatat(dirfd(proc), entry->d_name, &s, 0) == 0 && s.st_uid == uid)
            n++;
    }
    closedir(proc);
    return n;
}

static void wait_for_no_processes(void)
{
    evaltest_wait_for_no_processes(&env);
    for (int i = 0; judge_uid != 0 && i < 500 && processes_of(judge_uid) > 0; i++)
        usleep(10000);
    assert_true(judge_uid == 0 || processes_of(judge_uid) == 0);
}

static void judge_row(const json_t *row, struct outcome *o)
{
    evaluate_row(row, o);
    o->right = is_expected(row, o);
    if (o->right && strcmp(o->status, "ok") == 0 && is_true(row, "harmless"))
        o->right = brings_nothing(row, o);
    wait_for_no_processes();
    check_outside(row);
}

static char *expected_text(const json_t *row)
{
    const json_t *list = json_object_get(row, "expect");
    char *text = strdup("");

    for (size_t i = 0; i < json_array_size(list); i++) {
        char *longer =
            str_printf("%s%s%s", text, i ? " or " : "", json_string_value(json_array_get(list, i)));

        free(text);
        text = longer;
    }
    return text;
}

static void gets_its_verdict(void **state)
{
    size_t i = (size_t)(uintptr_t)*state;
    const json_t *row = json_array_get(corpus, i);
    struct outcome *o = &outcomes[i];
    CLEANUP(freep) char *expected = expected_text(row);

    judge_row(row, o);
    printf("    %-28s %-18s %6.0f ms  %s", text_of(row, "name", "?"), o->status, o->ms, o->message);
    if (strcmp(o->status, "ok") == 0 && is_true(row, "harmless"))
        printf("at least %.2f times as fast as its twin", o->vs_twin);
    printf("\n");
    if (!o->right)
        fail_msg("%s: status '%s' (%s), %.3g times as fast as its twin; expected %s%s%s",
                 text_of(row, "name", "?"), o->status, o->message, o->vs_twin, expected,
                 is_true(row, "harmless") ? ", no better than its twin" : "",
                 text_of(row, "says", ""));
}

/* ---- the corpus itself ---- */

static void every_row_is_complete(void **state)
{
    size_t i, attacks = 0, twins = 0;
    json_t *row;

    (void)state;
    json_array_foreach (corpus, i, row) {
        bool twin = strcmp(text_of(row, "group", ""), "twins") == 0;
        const char *name = text_of(row, "name", "");
        CLEANUP(freep)
        char *path = str_printf(EVALTEST_FIXTURES "/%s.c", text_of(row, "source", name));

        assert_true(file_exists(path));
        assert_true(text_of(row, "tries", "")[0] != '\0');
        assert_true(json_array_size(json_object_get(row, "expect")) > 0);
        if (!twin)
            assert_string_equal(text_of(row_named(text_of(row, "twin", "missing")), "group", ""),
                                "twins");
        attacks += !twin;
        twins += twin;
    }
    assert_true(attacks >= 70 && twins >= 15);
}

static void every_source_is_in_it(void **state)
{
    DIR *dir = opendir(EVALTEST_FIXTURES);
    struct dirent *entry;

    (void)state;
    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        const char *dot = strrchr(entry->d_name, '.');
        bool found = false;
        size_t i;
        json_t *row;

        if (dot == NULL || strcmp(dot, ".c") != 0)
            continue;
        json_array_foreach (corpus, i, row) {
            const char *source = text_of(row, "source", text_of(row, "name", ""));

            found = found || (strlen(source) == (size_t)(dot - entry->d_name) &&
                              strncmp(source, entry->d_name, strlen(source)) == 0);
        }
        if (!found)
            fail_msg("corpus.json does not have %s", entry->d_name);
    }
    closedir(dir);
}

/* ---- the page ---- */

static void print_cell(const char *s)
{
    for (; *s != '\0'; s++) {
        if (*s == '|')
            fputs("\\|", stdout);
        else if (*s == '<')
            fputs("&lt;", stdout);
        else
            putchar(*s);
    }
}

static void print_row(const json_t *row, const struct outcome *o)
{
    CLEANUP(freep) char *expected = expected_text(row);
    bool twin = strcmp(text_of(row, "group", ""), "twins") == 0;

    printf("| `%s` | ", text_of(row, "name", "?"));
    print_cell(text_of(row, "tries", ""));
    if (twin) {
        printf(" | %s%s |\n", o->status, o->right ? "" : " **(wrong)**");
        return;
    }
    printf(" | %s%s | %s%s | `%s` |\n", expected, is_true(row, "harmless") ? ", harmless" : "",
           o->status, o->right ? "" : " **(wrong)**", text_of(row, "twin", ""));
}

static int print_group(const char *group, const char *title)
{
    bool twins = strcmp(group, "twins") == 0;
    int wrong = 0;
    size_t i;
    json_t *row;

    printf("\n## %s\n\n%s\n", title,
           twins ? "| twin | what it does | verdict |\n|---|---|---|"
                 : "| attack | what it tries | expected | verdict | twin |\n|---|---|---|---|---|");
    json_array_foreach (corpus, i, row) {
        if (strcmp(text_of(row, "group", ""), group) != 0)
            continue;
        judge_row(row, &outcomes[i]);
        print_row(row, &outcomes[i]);
        wrong += !outcomes[i].right;
    }
    return wrong;
}

/* `only`: the section of one group; NULL: the whole page. */
static int print_page(const char *only)
{
    static const char *const groups[][2] = {
        { "values", "Wrong or borrowed results" },
        { "timing", "Hidden work, clocks and the baseline's time" },
        { "channel", "The judge's channel" },
        { "build", "Building and loading" },
        { "limits", "Bombs, crashes and signals" },
        { "escape", "Ways out of the sandbox" },
        { "twins", "Honest twins" },
    };
    int wrong = 0;

    if (only == NULL)
        puts("# The hostile corpus\n\n"
             "What is tried against the harness and what becomes of it. Sources and manifest: "
             "`tests/fixtures/hostile`\n(`corpus.json`). Each attack names its twin: an honest "
             "kernel "
             "that does something similar and must pass.\n\"Harmless\": the attack is allowed to "
             "end "
             "with `ok`, but it is not shown to be 1.3 times as fast as its twin,\nwhich runs "
             "beside "
             "it as the champion (`unstable`, on a crowded machine, is no score either). After "
             "each, no process and no file may be left.\n\n"
             "This page is the output of `test_hostile --markdown`, which evaluates everything; "
             "ctest "
             "runs the same by group\n(`ctest -R hostile`). Run it again after a change to the "
             "corpus "
             "or to a verdict.");
    for (size_t i = 0; i < ARRAY_LEN(groups); i++)
        if (only == NULL || strcmp(only, groups[i][0]) == 0)
            wrong += print_group(groups[i][0], groups[i][1]);
    return wrong;
}

/* ---- main ---- */

/* A judge that is not root, where the tree can be read by all. */
static bool become_unprivileged(void)
{
    CLEANUP(freep) char *test = NULL;

    if (geteuid() != 0)
        return false;
    judge_uid = 64000 + (unsigned)getpid() % 1000;
    assert_int_equal(chown(env.dir, judge_uid, judge_uid), 0);
    test = str_printf("setpriv --reuid=%u --regid=%u --clear-groups test -x %s/ksearch-eval -a -r "
                      "%s/task.json",
                      judge_uid, judge_uid, KS_BIN_DIR, EVALTEST_PACK);
    return system(test) == 0;
}

static bool is_in(const json_t *row, const char *group)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    if (is_true(row, "limited")) /* no limit of address space then */
        return false;
#endif
    if (judge_uid != 0)
        return is_true(row, "unprivileged") || strcmp(text_of(row, "name", ""), "honest") == 0;
    return strcmp(text_of(row, "group", ""), group) == 0;
}

static int run_group(const char *group)
{
    static const struct CMUnitTest of_corpus[] = { cmocka_unit_test(every_row_is_complete),
                                                   cmocka_unit_test(every_source_is_in_it) };
    struct CMUnitTest tests[ROWS_MAX];
    size_t n = 0, i;
    json_t *row;

    if (strcmp(group, "twins") == 0)
        while (n < ARRAY_LEN(of_corpus)) {
            tests[n] = of_corpus[n];
            n++;
        }
    json_array_foreach (corpus, i, row)
        if (n < ROWS_MAX && is_in(row, group))
            tests[n++] = (struct CMUnitTest){ text_of(row, "name", "?"), gets_its_verdict, NULL,
                                              NULL, (void *)(uintptr_t)i };
    if (n == 0) {
        fprintf(stderr, "corpus.json has no group '%s'\n", group);
        return 1;
    }
    return _cmocka_run_group_tests(group, tests, n, NULL, NULL);
}

static int run(const char *what, const char *only)
{
    if (!evaltest_has_sandbox(&env))
        return getenv("KS_REQUIRE") && strstr(getenv("KS_REQUIRE"), "bwrap") ? 1 : 77;
    if (strcmp(what, "--markdown") == 0)
        return print_page(only) != 0;
    if (strcmp(what, "unprivileged") == 0 && !become_unprivileged())
        return 77;
    return run_group(what);
}

int main(int argc, char **argv)
{
    json_error_t error;
    int failed;

    if (argc < 2 || argc > 3)
        return 2;
    corpus = json_load_file(EVALTEST_FIXTURES "/corpus.json", JSON_REJECT_DUPLICATES, &error);
    if (!json_is_array(corpus) || json_array_size(corpus) > ROWS_MAX) {
        fprintf(stderr, "corpus.json, line %d: %s\n", error.line, error.text);
        return 1;
    }
    evaltest_init(&env);
    failed = run(argv[1], argc == 3 ? argv[2] : NULL);
    evaltest_end(&env);
    json_decref(corpus);
    return failed;
}
