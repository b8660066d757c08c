/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole searches that were played with a language model, played again from what was recorded: its
 * answers, and the evaluations of the programs that it wrote. A folder of tests/fixtures/llm/played
 * holds answers.jsonl, evaluations.jsonl and search.json, which says how the search was started and
 * how it went. Answers are found by the number of the call, so prompts may be worded anew; a change
 * of what the search decides shows here.
 */
#include "e2e/e2e.h"

#include <dirent.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#define FIXTURES KS_SOURCE_DIR "/tests/fixtures/llm/played/"

static json_t *load(const char *name)
{
    CLEANUP(freep) char *path = str_printf(FIXTURES "%s/search.json", name);
    json_t *j = json_load_file(path, 0, NULL);

    assert_non_null(j);
    return j;
}

static void configure(struct e2e *e, const char *name)
{
    CLEANUP(freep)
    char *conf = str_printf("evaluator = replay\nreplay_file = " FIXTURES "%s/evaluations.jsonl\n"
                            "llm_replay_file = " FIXTURES "%s/answers.jsonl\n"
                            "llm_replay_match = call\n",
                            name, name);

    e2e_real_harness(e); /* measures the device; the evaluations come from the recording */
    e2e_configure(e, conf);
}

/* What the search measured, point by point. */
static void check_curve(const json_t *want, const json_t *got)
{
    assert_int_equal(json_array_size(got), json_array_size(want));
    for (size_t i = 0; i < json_array_size(want); i++) {
        const json_t *w = json_array_get(want, i), *g = json_array_get(got, i);

        assert_string_equal(jsonx_str(g, "status", ""), jsonx_str(w, "status", "-"));
        assert_string_equal(jsonx_str(g, "program", ""), jsonx_str(w, "program", "-"));
        assert_true(json_equal(json_object_get(g, "assignment"), json_object_get(w, "assignment")));
        if (strcmp(jsonx_str(w, "status", ""), "ok") == 0)
            assert_true(fabs(jsonx_num(g, "objective", 0) / jsonx_num(w, "objective", 0) - 1) <
                        1e-9);
    }
}

static void check_search(struct e2e *e, const json_t *want, const char *id)
{
    json_auto_t *show = e2e_search_done(e, id);
    const json_t *model = json_object_get(show, "model"), *best = json_object_get(show, "best");

    check_curve(json_object_get(want, "curve"), json_object_get(show, "curve"));
    assert_int_equal(jsonx_int(show, "nodes", 0), jsonx_int(want, "nodes", -1));
    assert_int_equal(json_array_size(json_object_get(model, "programs")),
                     (size_t)jsonx_int(want, "programs", -1));
    assert_int_equal(jsonx_int(model, "calls", 0), jsonx_int(want, "calls", -1));
    assert_true(fabs(jsonx_num(best, "objective", 0) / jsonx_num(want, "best", 0) - 1) < 1e-9);
}

static void play(struct e2e *e, const char *name)
{
    json_auto_t *want = load(name), *started = NULL;
    CLEANUP(freep)
    char *args =
        str_printf("search start %s --proposer replay --strategy %s --cold --seed %lld "
                   "--budget evals=%lld",
                   jsonx_str(want, "task", ""), jsonx_str(want, "strategy", ""),
                   (long long)jsonx_int(want, "seed", 0), (long long)jsonx_int(want, "evals", 0));

    configure(e, name);
    e2e_start(e);
    started = e2e_ask(e, args, 0);
    check_search(e, want, jsonx_str(started, "id", ""));
    assert_int_equal(e2e_stop(e), 0);
}

static void a_played_search_is_played_again(void **state)
{
    struct e2e *e = *state;
    DIR *dir = opendir(FIXTURES);
    struct dirent *entry;
    size_t n = 0;

    assert_non_null(dir);
    while ((entry = readdir(dir)) != NULL) {
        CLEANUP(freep) char *path = str_printf(FIXTURES "%s/search.json", entry->d_name);
        void *own;

        if (entry->d_name[0] == '.' || access(path, R_OK) != 0)
            continue;
        assert_int_equal(e2e_setup(&own), 0); /* each in a knowledge base of its own */
        print_message("    %s\n", entry->d_name);
        play(own, entry->d_name);
        e2e_teardown(&own);
        n++;
    }
    closedir(dir);
    assert_true(n >= 2);
    (void)e;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_played_search_is_played_again, e2e_setup, e2e_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
