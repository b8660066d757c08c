/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded spaces: the T4 reader on what it must take and what it must refuse, and the table that
 * is made of it. */
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "eval/recorded.h"
#include "search/packed.h"
#include "search/space_table.h"
#include "unit/daemon/t4_text.h"
#include "unit/test.h"

enum { TEXT_ROOM = 2 << 20 };

static struct err err;
static const struct t4_synthetic plain = { .tile = 3, .seed = 1, .scale = 2, .sample = 8 };

static struct recorded *table_of(const struct t4_synthetic *s, bool noise)
{
    CLEANUP(buf_release) struct buf text = { .max = TEXT_ROOM };
    struct recorded *r;
    struct t4 t;

    t4_synthetic_text(s, &text);
    assert_ok(t4_parse(text.data, text.len, &t, &err), err);
    assert_ok(recorded_new(&t, noise, &r, &err), err);
    t4_release(&t);
    return r;
}

static long row_of(const struct recorded *r, const char *assignment)
{
    json_auto_t *j = json_loads(assignment, 0, NULL);
    uint16_t a[SPACE_PARAMS_MAX];

    assert_ok(space_from_json(r->space, j, a, &err), err);
    return space_row_of(r->space, a);
}

static void gzip_text(const struct buf *text, struct buf *out)
{
    z_stream z = { .next_in = (uint8_t *)text->data, .avail_in = (uInt)text->len };

    assert_ok(buf_reserve(out, text->len + 1024, &err), err);
    assert_int_equal(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_out = (uint8_t *)out->data;
    z.avail_out = (uInt)(text->len + 1024);
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    out->len = z.total_out;
    deflateEnd(&z);
}

static void a_file_is_read_plain_and_packed(void **state)
{
    CLEANUP(buf_release) struct buf text = { .max = TEXT_ROOM }, packed = { .max = TEXT_ROOM };
    struct t4 a, b;

    (void)state;
    t4_synthetic_text(&plain, &text);
    gzip_text(&text, &packed);
    assert_ok(t4_parse(text.data, text.len, &a, &err), err);
    assert_ok(t4_parse(packed.data, packed.len, &b, &err), err);
    assert_int_equal(a.n, T4_SYNTHETIC_ROWS);
    assert_int_equal(a.n_ok, T4_SYNTHETIC_ROWS - 12);
    assert_int_equal(a.n_samples, 8 * a.n_ok);
    assert_string_equal(a.objective, "time");
    assert_true(a.timed);
    assert_int_equal(a.rows[0].measured_at_s, 1703238845);
    assert_int_equal(b.n, a.n);
    assert_memory_equal(a.samples, b.samples, a.n_samples * sizeof(double));
    t4_release(&a);
    t4_release(&b);
}

static void a_cut_gzip_file_is_said_to_be_cut(void **state)
{
    CLEANUP(buf_release) struct buf text = { .max = TEXT_ROOM }, packed = { .max = TEXT_ROOM };
    struct t4 t;

    (void)state;
    t4_synthetic_text(&plain, &text);
    gzip_text(&text, &packed);
    assert_int_equal(t4_parse(packed.data, packed.len / 2, &t, &err), -1);
    assert_int_equal(err.code, ERR_INVALID);
    assert_non_null(strstr(err.msg, "cut off"));
    packed.data[packed.len / 2] ^= 0x55;
    assert_int_equal(t4_parse(packed.data, packed.len, &t, &err), -1);
    assert_non_null(strstr(err.msg, "damaged"));
}

/* One row by its pieces; empty ones are left out. */
#define ROW(conf, invalidity, rest)                                                                \
    "{\"results\":[{\"configuration\":" conf ",\"invalidity\":" invalidity rest "}]}"
#define TIMES ",\"times\":{\"runtimes\":[1.5]}"
#define MEASURED(v)                                                                                \
    TIMES ",\"measurements\":[{\"name\":\"time\",\"value\":" v "}],\"objectives\":[\"time\"]"

static void bad_files_get_a_sentence(void **state)
{
    static const struct {
        const char *text, *words;
    } cases[] = {
        { "", "no T4 document" },
        { "[]", "no T4 document" },
        { "{\"results\"", "no T4 document" },
        { "{\"metadata\":{}}", "no T4 document" },
        { "{\"results\":[]}", "'results' is empty" },
        { "{\"results\":{}}", "must be a list" },
        { "{\"results\":[{}", "cut off" },
        { "{\"results\":[{}],\"results\":[]}", "twice" },
        { "{\"results\":[7]}", "row 1 of 'results': it is no object" },
        { "{\"results\":[{\"a\":]}]}", "is not JSON" },
        { "{\"results\":[{\"a\":}]}", "row 1 of 'results'" },
        { "{\"metadata\":{\"timeunit\":\"weeks\"},\"results\":[{}]}", "timeunit is 'weeks'" },
        { ROW("{}", "\"correct\"", MEASURED("1")), "object of parameters" },
        { ROW("{\"a\":[1]}", "\"correct\"", MEASURED("1")), "value of parameter 'a'" },
        { ROW("{\"a\":null}", "\"correct\"", MEASURED("1")), "value of parameter 'a'" },
        { ROW("{\"a\":\"x y\"}", "\"correct\"", MEASURED("1")), "value of parameter 'a'" },
        { ROW("{\"a b\":1}", "\"correct\"", MEASURED("1")), "'a b' is no name" },
        { ROW("{\"a\":1,\"a\":2}", "\"correct\"", MEASURED("1")), "row 1 of 'results'" },
        { ROW("{\"a\":1}", "\"odd\"", MEASURED("1")), "'invalidity' is 'odd'" },
        { ROW("{\"a\":1}", "3", MEASURED("1")), "'invalidity' is 'nothing'" },
        { ROW("{\"a\":1}", "\"correct\"", ""), "'times' must be an object" },
        { ROW("{\"a\":1}", "\"correct\"", TIMES), "'objectives' must be a list" },
        { ROW("{\"a\":1}", "\"correct\"", TIMES ",\"objectives\":[\"time\"]"), "it is missing" },
        { ROW("{\"a\":1}", "\"correct\"", MEASURED("\"TimeoutFailedConfig\"")),
          "it is TimeoutFailedConfig" },
        { ROW("{\"a\":1}", "\"correct\"", MEASURED("-2")), "it is -2" },
        { ROW("{\"a\":1}", "\"correct\"", MEASURED("NaN")), "row 1 of 'results'" },
        { ROW("{\"a\":1}", "\"correct\"", MEASURED("1e999")), "row 1 of 'results'" },
        { ROW("{\"a\":1}", "\"correct\"", ",\"times\":{\"runtimes\":[0]}"),
          "sample 1 of 'runtimes'" },
        { ROW("{\"a\":1}", "\"correct\"", ",\"times\":{\"runtimes\":[\"1\"]}"),
          "sample 1 of 'runtimes'" },
        { ROW("{\"a\":1}", "\"runtime\"", TIMES), "none of the 1 rows is correct" },
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct t4 t;

        memset(&err, 0, sizeof(err));
        if (t4_parse(cases[i].text, strlen(cases[i].text), &t, &err) == 0)
            fail_msg("taken: %s", cases[i].text);
        if (err.code != ERR_INVALID || strstr(err.msg, cases[i].words) == NULL)
            fail_msg("%s\n gave: %s\n not: %s", cases[i].text, err.msg, cases[i].words);
    }
}

static void expect_no_table(const char *text, bool noise, const char *words)
{
    struct recorded *r;
    struct t4 t;

    assert_ok(t4_parse(text, strlen(text), &t, &err), err);
    assert_int_equal(recorded_new(&t, noise, &r, &err), -1);
    if (strstr(err.msg, words) == NULL)
        fail_msg("gave: %s\n not: %s", err.msg, words);
    t4_release(&t);
}

#define OK_ROW(conf, v) "{\"configuration\":" conf ",\"invalidity\":\"correct\"" MEASURED(v) "}"

static void rows_that_do_not_make_a_table_are_refused(void **state)
{
    (void)state;
    expect_no_table("{\"results\":[" OK_ROW("{\"a\":1}", "1") "," OK_ROW("{\"a\":1}", "2") "]}",
                    false, "rows 0 and 1 are the same assignment");
    expect_no_table("{\"results\":[" OK_ROW("{\"a\":1}", "1") "," OK_ROW("{\"b\":1}", "2") "]}",
                    false, "parameter 'a' is missing in a row");
    expect_no_table("{\"results\":[" OK_ROW("{\"a\":1}", "1") "," OK_ROW("{\"a\":\"x\"}", "2") "]}",
                    false, "of different types");
    expect_no_table(
        "{\"results\":[" OK_ROW("{\"a\":1}", "1e-11") "," OK_ROW("{\"a\":2}", "1e9") "]}", false,
        "from the median");
    expect_no_table(
        "{\"results\":[{\"configuration\":{\"a\":1},\"invalidity\":\"correct\",\"times\":{},"
        "\"measurements\":[{\"name\":\"time\",\"value\":1}],\"objectives\":[\"time\"]}]}",
        true, "no 'runtimes'");
    expect_no_table(
        "{\"results\":[{\"configuration\":{\"a\":1},\"invalidity\":\"correct\"" TIMES ","
        "\"measurements\":[{\"name\":\"joule\",\"value\":1}],\"objectives\":[\"joule\"]}]}",
        true, "the objective is 'joule'");
}

static void units_become_milliseconds(void **state)
{
    static const char text[] =
        "{\"metadata\":{\"timeunit\":\"seconds\"},\"results\":["
        "{\"configuration\":{\"a\":1},\"invalidity\":\"correct\",\"times\":{\"runtimes\":[2]},"
        "\"measurements\":[{\"name\":\"time\",\"value\":2500,\"unit\":\"us\"}],"
        "\"objectives\":[\"time\"]}]}";
    struct t4 t;

    (void)state;
    assert_ok(t4_parse(text, strlen(text), &t, &err), err);
    assert_true(fabs(t.rows[0].value - 2.5) < 1e-12 && t.samples[0] == 2000);
    t4_release(&t);
}

static void the_order_of_a_file_does_not_matter(void **state)
{
    struct t4_synthetic other = plain;
    json_auto_t *a_doc = NULL, *b_doc = NULL;
    struct recorded *a, *b;

    (void)state;
    other.reversed = true;
    a = table_of(&plain, false);
    b = table_of(&other, false);
    assert_ok(recorded_to_json(a, &a_doc, &err), err);
    assert_ok(recorded_to_json(b, &b_doc, &err), err);
    assert_true(json_equal(a_doc, b_doc));
    recorded_free(a);
    recorded_free(b);
}

static void a_table_survives_being_stored(void **state)
{
    struct recorded *r = table_of(&plain, false), *again;
    json_auto_t *doc = NULL, *second = NULL;

    (void)state;
    assert_ok(recorded_to_json(r, &doc, &err), err);
    assert_int_equal(jsonx_int(doc, "sample_bytes", 0), 4); /* what was single precision stays so */
    assert_ok(recorded_from_json(doc, &again, &err), err);
    assert_ok(recorded_to_json(again, &second, &err), err);
    assert_true(json_equal(doc, second));
    assert_true(r->median == again->median);
    assert_memory_equal(r->samples, again->samples, r->first[r->n] * sizeof(double));
    recorded_free(again);
    recorded_free(r);
}

static void a_damaged_table_is_corrupt(void **state)
{
    struct recorded *r = table_of(&plain, false), *again;
    json_auto_t *doc = NULL;
    json_t *table;
    char *text;

    (void)state;
    assert_ok(recorded_to_json(r, &doc, &err), err);
    table = json_object_get(doc, "table");
    text = strdup(jsonx_str(table, "zlib", ""));
    text[strlen(text) / 2] ^= 1;
    json_object_set_new(table, "zlib", json_string(text));
    assert_int_equal(recorded_from_json(doc, &again, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    json_object_set_new(table, "zlib", json_string("??"));
    assert_int_equal(recorded_from_json(doc, &again, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    json_object_del(doc, "space");
    assert_int_equal(recorded_from_json(doc, &again, &err), -1);
    assert_int_equal(err.code, ERR_CORRUPT);
    free(text);
    recorded_free(r);
}

static void an_objective_is_the_median_over_the_value(void **state)
{
    struct recorded *r = table_of(&plain, false);
    long row = row_of(r, "{\"tile\":8,\"block\":32,\"unroll\":2,\"packed\":true,\"width\":15}");
    json_auto_t *record = recorded_evaluate(r, "t", row, -1, 7),
                *other = recorded_evaluate(r, "t", row, -1, 8);
    struct eval_result result;

    (void)state;
    assert_ok(eval_result_from_json(record, &result, &err), err);
    assert_int_equal(result.status, EVAL_OK);
    assert_true(fabs(result.objective - r->median / r->value[row]) < 1e-12);
    assert_true(result.log_sd > 0.001 && result.log_sd < 0.02); /* 2 % over 8 samples */
    assert_int_equal(result.workloads[0].n_samples, 8);
    assert_true(json_equal(record, other)); /* no noise: the seed does nothing */
    eval_result_release(&result);
    recorded_free(r);
}

static void a_failure_has_its_class_and_no_number(void **state)
{
    struct recorded *r = table_of(&plain, false);
    long row = row_of(r, "{\"tile\":8,\"block\":128,\"unroll\":4,\"packed\":true,\"width\":15}");
    json_auto_t *record = recorded_evaluate(r, "t", row, -1, 7), *failures = recorded_failures(r);
    struct eval_result result;

    (void)state;
    assert_ok(eval_result_from_json(record, &result, &err), err);
    assert_int_equal(result.status, EVAL_BUILD_FAILED);
    assert_true(isnan(result.objective));
    assert_int_equal(jsonx_int(failures, "build_failed", 0), 12);
    eval_result_release(&result);
    recorded_free(r);
}

static void noise_draws_one_sample_and_the_seed_decides(void **state)
{
    struct recorded *r = table_of(&plain, true);
    size_t row = 0, different = 0;
    double first = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 40; seed++) {
        json_auto_t *a = recorded_evaluate(r, "t", (long)row, -1, seed);
        json_auto_t *b = recorded_evaluate(r, "t", (long)row, -1, seed);
        double objective = jsonx_num(a, "objective", 0), time = r->median / objective;
        bool known = false;

        assert_true(json_equal(a, b));
        for (size_t i = r->first[row]; i < r->first[row + 1]; i++)
            known = known || fabs(r->samples[i] / time - 1) < 1e-12;
        assert_true(known);
        different += seed > 0 && objective != first;
        first = seed == 0 ? objective : first;
    }
    assert_true(different > 20);
    recorded_free(r);
}

static struct eval_ratio duel(const struct recorded *r, long row, long champion, uint64_t seed)
{
    json_auto_t *record = recorded_evaluate(r, "t", row, champion, seed);
    struct eval_result result;
    struct eval_ratio out;

    assert_ok(eval_result_from_json(record, &result, &err), err);
    assert_true(result.has_champion);
    out = result.vs_champion;
    eval_result_release(&result);
    return out;
}

static void duels_are_answered_from_the_recording(void **state)
{
    struct recorded *exact = table_of(&plain, false), *noisy = table_of(&plain, true);
    long good =
        row_of(exact, "{\"tile\":8,\"block\":32,\"unroll\":2,\"packed\":true,\"width\":15}");
    long bad = row_of(exact, "{\"tile\":1,\"block\":32,\"unroll\":2,\"packed\":true,\"width\":15}");
    struct eval_ratio e = duel(exact, good, bad, 1), n = duel(noisy, good, bad, 1);
    size_t called = 0;

    (void)state;
    assert_true(fabs(e.ratio - exact->value[bad] / exact->value[good]) < 1e-12);
    assert_true(e.ci_low == e.ratio && e.ci_high == e.ratio);
    assert_true(n.ci_low > 1.5 && n.ci_low < n.ratio && n.ratio < n.ci_high);
    /* a program against itself: hardly ever called better */
    for (uint64_t seed = 0; seed < 200; seed++)
        called += duel(noisy, good, good, seed).ci_low > 1;
    assert_true(called <= 8);
    recorded_free(exact);
    recorded_free(noisy);
}

static void a_space_of_rows_survives_packing(void **state)
{
    json_auto_t *rows = json_loads(
        "[{\"b\":2.5,\"a\":\"x\"},{\"b\":1,\"a\":\"y\"},{\"b\":1,\"a\":\"x\"}]", 0, NULL);
    json_auto_t *doc = NULL, *first = NULL;
    uint32_t order[3];
    struct space *s, *again;

    (void)state;
    assert_ok(space_from_rows(rows, &s, &err), err);
    assert_ok(space_table_pack(s, order, &doc, &err), err);
    assert_ok(space_table_unpack(doc, &again, &err), err);
    assert_int_equal(space_rows(again), 3);
    first = space_to_json(again, space_row(again, 0)); /* sorted: a=x b=1 */
    assert_string_equal(jsonx_str(first, "a", ""), "x");
    assert_true(jsonx_num(first, "b", 0) == 1);
    assert_int_equal(order[0], 2);
    assert_int_equal(order[1], 0);
    assert_int_equal(order[2], 1);
    space_free(s);
    space_free(again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_file_is_read_plain_and_packed),
        cmocka_unit_test(a_cut_gzip_file_is_said_to_be_cut),
        cmocka_unit_test(bad_files_get_a_sentence),
        cmocka_unit_test(rows_that_do_not_make_a_table_are_refused),
        cmocka_unit_test(units_become_milliseconds),
        cmocka_unit_test(the_order_of_a_file_does_not_matter),
        cmocka_unit_test(a_table_survives_being_stored),
        cmocka_unit_test(a_damaged_table_is_corrupt),
        cmocka_unit_test(an_objective_is_the_median_over_the_value),
        cmocka_unit_test(a_failure_has_its_class_and_no_number),
        cmocka_unit_test(noise_draws_one_sample_and_the_seed_decides),
        cmocka_unit_test(duels_are_answered_from_the_recording),
        cmocka_unit_test(a_space_of_rows_survives_packing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
