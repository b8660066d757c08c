/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/mem.h"
#include "eval/result.h"
#include "unit/test.h"

/* A record as the harness prints it; 2 and 4.5 have the geometric mean 3. */
static json_t *good_record(void)
{
    json_t *j = json_loads(
        "{\"format\":1,\"status\":\"ok\",\"message\":\"\",\"definition\":\"d\",\"set\":\"cpu\","
        "\"objective\":3.0,\"ci_low\":2.9,\"ci_high\":3.1,\"log_sd\":0.008,\"worst\":2.0,"
        "\"roofline\":0.42,\"vs_champion\":{\"ratio\":1.02,\"ci_low\":1.0,\"ci_high\":1.04},"
        "\"workloads\":["
        "{\"name\":\"a\",\"status\":\"ok\",\"ratio\":2.0,\"baseline_ns\":[20,22,21,90],"
        "\"candidate_ns\":[10,10.4,11],\"champion_ns\":[11],\"log_sd\":0.1,\"batch\":4,"
        "\"disturbed\":0,\"roofline\":0.4,\"flops\":1.0,\"bytes\":1.0,"
        "\"max_abs\":1e-3,\"tensor_rel\":1e-3},"
        "{\"name\":\"b\",\"status\":\"ok\",\"ratio\":4.5}],"
        "\"build\":{\"ms\":400,\"log\":\"warning\",\"bytes\":16384},"
        "\"env\":{\"cc\":\"gcc 12.2.0\",\"march\":\"native\",\"sandbox\":\"bwrap\"},"
        "\"time\":{\"build_ms\":400,\"check_ms\":20,\"timing_ms\":600,\"total_ms\":1100}}",
        0, NULL);

    assert_non_null(j);
    return j;
}

static void a_good_record_is_read_with_medians(void **state)
{
    json_auto_t *j = good_record();
    struct eval_result r;
    struct err err;

    (void)state;
    assert_ok(eval_result_from_json(j, &r, &err), err);
    assert_int_equal(r.status, EVAL_OK);
    assert_true(r.objective == 3.0 && r.worst == 2.0 && r.roofline == 0.42);
    assert_int_equal(eval_result_objective_q(&r), 1098612);
    assert_int_equal(eval_result_sd_q(&r), 8000);
    assert_int_equal(r.n_workloads, 2);
    assert_int_equal(r.workloads[0].baseline_ns, 22); /* between 21 and 22, rounded */
    assert_int_equal(r.workloads[0].candidate_ns, 10);
    assert_int_equal(r.workloads[0].n_samples, 3);
    assert_int_equal(r.workloads[1].candidate_ns, 0);
    assert_true(isnan(r.workloads[1].roofline));
    assert_true(r.has_champion && r.vs_champion.ratio == 1.02);
    assert_string_equal(r.toolchain, "gcc 12.2.0");
    assert_string_equal(r.build_log, "warning");
    assert_true(r.build_ms == 400 && r.total_ms == 1100);
    assert_ptr_equal(r.record, j);
    eval_result_release(&r);
}

static void a_failure_has_a_message_and_no_objective(void **state)
{
    json_auto_t *j =
        json_pack("{s:i, s:s, s:s, s:s, s:s, s:n}", "format", 1, "status", "wrong_value", "message",
                  "output differs", "definition", "d", "set", "cpu", "objective");
    struct eval_result r;
    struct err err;

    (void)state;
    assert_ok(eval_result_from_json(j, &r, &err), err);
    assert_int_equal(r.status, EVAL_WRONG_VALUE);
    assert_true(isnan(r.objective));
    assert_int_equal(eval_result_objective_q(&r), 0);
    assert_true(eval_status_blames(r.status));
    assert_false(eval_status_blames(EVAL_INFRASTRUCTURE));
    eval_result_release(&r);
    json_object_set_new(j, "message", json_string(""));
    assert_fails(eval_result_from_json(j, &r, &err), err, ERR_INVALID);
    json_object_set_new(j, "message", json_string("x"));
    json_object_set_new(j, "objective", json_real(2));
    assert_fails(eval_result_from_json(j, &r, &err), err, ERR_INVALID);
}

/* Each row breaks the good record in one place; the sentence names it. */
static void a_record_that_is_wrong_anywhere_is_refused(void **state)
{
    static const struct {
        const char *key, *value, *part;
    } rows[] = {
        { "format", "2", "'format' must be 1" },
        { "status", "\"splendid\"", "'splendid' is not known" },
        { "status", "\"cancelled\"", "'cancelled' is not known" },
        { "status", "7", "'status' must be a text" },
        { "objective", "null", "'objective' must be a number" },
        { "objective", "\"3\"", "'objective' must be a number" },
        { "objective", "-3", "'objective' is -3" },
        { "objective", "4.0", "is not the geometric mean" },
        { "ci_low", "-1", "'ci_low' is -1" },
        { "log_sd", "null", "'log_sd' must be a number" },
        { "set", "null", "'set' must be a text" },
        { "workloads", "[]", "needs its workloads" },
        { "workloads", "{}", "'workloads' must be a list" },
        { "workloads", "[{\"name\":\"a\",\"status\":\"crashed\",\"ratio\":3}]",
          "its workload 'a' is not" },
        { "workloads", "[{\"name\":\"a\",\"status\":\"ok\",\"ratio\":3,\"candidate_ns\":[0]}]",
          "is not a time" },
        { "workloads", "[{\"name\":\"a\",\"status\":\"ok\",\"ratio\":3,\"speed\":1}]",
          "unknown field 'speed'" },
        { "vs_champion", "{\"ratio\":1,\"ci_low\":2,\"ci_high\":1}", "swapped" },
        { "build", "[]", "'build' is not an object" },
        { "env", "{\"cc\":[]}", "plain values" },
        { "time", "{\"total_ms\":-1}", "'total_ms' is -1" },
        { "score", "9", "unknown field 'score'" },
    };
    struct eval_result r;
    struct err err;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        json_auto_t *j = good_record();

        json_object_set_new(j, rows[i].key, json_loads(rows[i].value, JSON_DECODE_ANY, NULL));
        assert_fails(eval_result_from_json(j, &r, &err), err, ERR_INVALID);
        if (strstr(err.msg, rows[i].part) == NULL)
            fail_msg("%s = %s: %s", rows[i].key, rows[i].value, err.msg);
    }
}

static void a_failure_of_ours_has_a_record_too(void **state)
{
    struct eval_result r, again;
    struct err err;

    (void)state;
    eval_result_fail(&r, EVAL_INFRASTRUCTURE, "d", "cpu", "no room\x1b");
    assert_string_equal(r.message, "no room\\x1b");
    assert_ok(eval_result_from_json(r.record, &again, &err), err);
    assert_int_equal(again.status, EVAL_INFRASTRUCTURE);
    eval_result_release(&again);
    eval_result_release(&r);
}

static void medians_need_no_order(void **state)
{
    double odd[] = { 3, 1, 2 }, even[] = { 4, 1, 3, 2 };

    (void)state;
    assert_true(eval_median(odd, 3) == 2);
    assert_true(eval_median(even, 4) == 2.5);
    assert_true(isnan(eval_median(odd, 0)));
}

static void every_status_has_one_name(void **state)
{
    (void)state;
    for (int s = 0; s < EVAL_STATUS_COUNT; s++)
        assert_int_equal(eval_status_from_name(eval_status_name(s)), s);
    assert_int_equal(eval_status_from_name("nonsense"), EVAL_STATUS_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_record_is_read_with_medians),
        cmocka_unit_test(a_failure_has_a_message_and_no_objective),
        cmocka_unit_test(a_record_that_is_wrong_anywhere_is_refused),
        cmocka_unit_test(a_failure_of_ours_has_a_record_too),
        cmocka_unit_test(medians_need_no_order),
        cmocka_unit_test(every_status_has_one_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
