/* SPDX-License-Identifier: Apache-2.0 */
/* What results say of an insight. */
#include <math.h>

#include "base/jsonx.h"
#include "retune/report.h"
#include "unit/test.h"

static json_t *parse(const char *text)
{
    struct err err;
    json_t *j;

    assert_ok(jsonx_parse(text, strlen(text), "test", &j, &err), err);
    return j;
}

static int verdict(const char *insight, const char *results, double *effect, const char **failed)
{
    json_auto_t *in = parse(insight), *r = parse(results);
    json_auto_t *steps = parse("[{\"task\":\"t\",\"assignment\":{\"P\":8,\"Q\":1}},"
                               "{\"task\":\"t\",\"assignment\":{\"P\":16,\"Q\":1}},"
                               "{\"task\":\"t\",\"assignment\":{\"P\":16,\"Q\":2}},"
                               "{\"task\":\"u\",\"assignment\":{\"P\":16,\"Q\":1}}]");
    const char *f;
    double sd;
    int v = report_verdict(in, steps, r, effect, &sd, &f);

    *failed = f != NULL ? "failed" : NULL;
    return v;
}

#define UP                                                                                         \
    "{\"task\":\"t\",\"param\":\"P\",\"with\":\"16\",\"without\":\"8\",\"effect_from\":{\"mean\":" \
    "0."                                                                                           \
    "1}}"
#define DOWN                                                                                       \
    "{\"task\":\"t\",\"param\":\"P\",\"with\":\"16\",\"without\":\"8\",\"effect_from\":{\"mean\":" \
    "-0."                                                                                          \
    "1}}"
#define OK(q) "{\"status\":\"ok\",\"objective_q\":" #q ",\"sd_q\":5000}"
#define FAILED "{\"status\":\"crashed\",\"objective_q\":0,\"sd_q\":0}"
#define LOST "{\"status\":\"lost\",\"objective_q\":0,\"sd_q\":0}"

static void pairs_decide_beyond_noise(void **state)
{
    const char *failed;
    double effect;

    (void)state;
    assert_int_equal(verdict(UP, "[" OK(0) "," OK(100000) "]", &effect, &failed), 1);
    assert_true(fabs(effect - 0.1) < 1e-9);
    assert_int_equal(verdict(DOWN, "[" OK(0) "," OK(100000) "]", &effect, &failed), -1);
    assert_int_equal(verdict(UP, "[" OK(0) "," OK(10000) "]", &effect, &failed), 0);
    /* the third differs in Q too, the fourth is of another task */
    assert_int_equal(
        verdict(UP, "[" OK(0) "," LOST "," OK(900000) "," OK(900000) "]", &effect, &failed), 2);
    assert_int_equal(verdict(UP, "[]", &effect, &failed), 2);
}

static void failures_decide_where_there_is_no_pair(void **state)
{
    const char *failed;
    double effect;

    (void)state;
    assert_int_equal(verdict(UP, "[" OK(0) "," FAILED "]", &effect, &failed), -1);
    assert_non_null(failed);
    assert_int_equal(verdict(DOWN, "[" OK(0) "," FAILED "]", &effect, &failed), 1);
    assert_int_equal(verdict(UP, "[" FAILED "," OK(0) "]", &effect, &failed), 1);
    assert_null(failed);
    assert_int_equal(verdict(UP, "[" FAILED "," FAILED "]", &effect, &failed), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs_decide_beyond_noise),
        cmocka_unit_test(failures_decide_where_there_is_no_pair),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
