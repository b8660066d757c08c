/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A hundred searches at once, on recorded answers and measurements: all end alike for equal seeds,
 * and what they take of the daemon is given back. tests/bench/many_searches measures the same.
 */
#include "e2e/e2e.h"

#include <dirent.h>
#include <math.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

#define PROBE                                                                                      \
    "echo '{\"name\":\"cpu\",\"kind\":\"cpu\",\"class\":\"cpu-avx2\",\"cores\":2,"                 \
    "\"toolchain\":\"gcc 12.2.0\",\"features\":[\"avx2\",\"fma\"]}'\n"
#define RECORDINGS KS_SOURCE_DIR "/tests/fixtures/llm"

enum {
    FEW = 10,
    MANY = 100,
    SEEDS = 10,
    EVALS = 12,
    WAIT_S = 240,
    POLLS_PER_S = 20,
    /* a search keeps its events' fold and texts while it lives, and leaves rows in caches after */
    BYTES_MAX = 2 << 20,
    /* files that the store opens by itself as it grows */
    FILES_SLACK = 12
};

/* ---- The daemon, looked at from outside ---- */

static size_t open_files(const struct e2e *e)
{
    CLEANUP(freep) char *path = str_printf("/proc/%d/fd", (int)e->pid);
    DIR *dir = opendir(path);
    size_t n = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static long long live(const json_t *status)
{
    long long n = 0;
    const char *state;
    json_t *count;

    json_object_foreach (json_object_get(status, "searches"), state, count)
        n += json_integer_value(count);
    return n;
}

/* ---- Searches ---- */

struct round {
    char *ids[MANY];
    size_t n, files; /* most that were open */
    long long rss;   /* after the end */
};

static void round_release(struct round *r)
{
    for (size_t i = 0; i < r->n; i++)
        free(r->ids[i]);
}

static void start_all(struct e2e_conn *c, struct round *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        CLEANUP(freep)
        char *params = str_printf("{\"task\":\"vector_add_l1\",\"device\":\"cpu\",\"set\":"
                                  "\"smoke\",\"seed\":%zu,\"cold\":true,\"proposer\":\"replay\","
                                  "\"budget\":{\"evals\":%d}}",
                                  i % SEEDS + 1, EVALS);
        json_auto_t *started = e2e_result(c, "search.start", params);

        r->ids[r->n++] = xstrdup(jsonx_str(started, "id", ""));
    }
}

/* Waits until no search is live. */
static void wait_all(struct e2e *e, struct e2e_conn *c, struct round *r)
{
    for (int i = 0; i < WAIT_S * POLLS_PER_S; i++) {
        json_auto_t *status = e2e_result(c, "status", "{}");

        r->files = MAX(r->files, open_files(e));
        r->rss = jsonx_int(status, "rss_bytes", 0);
        if (live(status) == 0)
            return;
        usleep(1000000 / POLLS_PER_S);
    }
    fail_msg("searches are live after %d s", WAIT_S);
}

static struct round run(struct e2e *e, struct e2e_conn *c, size_t n)
{
    struct round r = { .n = 0 };

    start_all(c, &r, n);
    wait_all(e, c, &r);
    return r;
}

/* The curve without what depends on the time, and how the search ended; as text. Owned. */
static char *curve(struct e2e_conn *c, const char *id)
{
    static const char *const times[] = { "wall_s", "device_s" };
    CLEANUP(freep) char *params = str_printf("{\"search\":\"%s\"}", id);
    json_auto_t *show = e2e_result(c, "search.show", params), *kept = NULL;
    json_t *point;
    size_t i;

    if (strcmp(jsonx_str(show, "state", ""), "done") != 0)
        fail_msg("search %s is %s: %s", id, jsonx_str(show, "state", ""),
                 jsonx_str(show, "reason", ""));
    assert_int_equal(jsonx_int(show, "evaluations", 0), EVALS);
    json_array_foreach (json_object_get(show, "curve"), i, point)
        for (size_t k = 0; k < ARRAY_LEN(times); k++)
            json_object_del(point, times[k]);
    kept = json_pack("{s:O, s:O}", "curve", json_object_get(show, "curve"), "reason",
                     json_object_get(show, "reason"));
    return jsonx_canonical(kept);
}

static void expect_equal_curves(struct e2e_conn *c, const struct round *few,
                                const struct round *many)
{
    CLEANUP(freep) char *first = curve(c, few->ids[0]);
    size_t different = 0;

    for (size_t seed = 0; seed < SEEDS; seed++) {
        CLEANUP(freep) char *want = curve(c, few->ids[seed]);

        different += strcmp(want, first) != 0;
        for (size_t i = seed; i < many->n; i += SEEDS) {
            CLEANUP(freep) char *got = curve(c, many->ids[i]);

            assert_string_equal(got, want);
        }
    }
    assert_true(different > 0); /* the seed does decide something */
}

static void a_hundred_searches_end_alike_and_leave_nothing_behind(void **state)
{
    struct e2e *e = *state;
    json_auto_t *status = NULL;
    struct round few, many;
    struct e2e_conn c;
    size_t files;

    e2e_fake_harness(e, PROBE);
    e2e_configure(e, "evaluator = replay\nreplay_file = " RECORDINGS "/evaluations.jsonl\n"
                     "llm_replay_file = " RECORDINGS "/answers.jsonl\nllm_replay_match = call\n");
    e2e_start(e);
    c = e2e_connect(e, true);
    few = run(e, &c, FEW);
    files = open_files(e);
    many = run(e, &c, MANY);
    expect_equal_curves(&c, &few, &many);

    /* Nobody holds a file while it runs, and none is left open. */
    assert_true(many.files <= files + FILES_SLACK);
    assert_true(open_files(e) <= files + FILES_SLACK);
    assert_true(many.rss - few.rss <= (long long)(MANY - FEW) * BYTES_MAX);
    status = e2e_result(&c, "status", "{}");
    assert_true(json_is_integer(json_object_get(status, "slow_callbacks")));
    assert_true(jsonx_num(status, "longest_callback_ms", 0) > 0);
    print_message("open files %zu then %zu, memory a search %lld KiB, callbacks over 10 ms: %lld, "
                  "longest %.1f ms\n",
                  files, many.files, (many.rss - few.rss) / 1024 / MANY,
                  (long long)jsonx_int(status, "slow_callbacks", -1),
                  jsonx_num(status, "longest_callback_ms", 0));
    round_release(&few);
    round_release(&many);
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_hundred_searches_end_alike_and_leave_nothing_behind,
                                        e2e_setup, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
