/* SPDX-License-Identifier: Apache-2.0 */
/* The picture of a retune's report: well-formed whatever the names in it are. */
#include "base/jsonx.h"
#include "base/mem.h"
#include "retune.h"
#include "svg_check.h"
#include "unit/test.h"

static json_t *parse(const char *text)
{
    struct err err;
    json_t *j;

    assert_ok(jsonx_parse(text, strlen(text), "test", &j, &err), err);
    return j;
}

#define REPORT(task)                                                                               \
    "{\"from\":\"A<&>\",\"to\":\"B\\\"'\",\"report\":{\"tasks\":[{\"task\":\"" task                \
    "\",\"old\":{\"objective\":3.3},\"carried\":{\"objective\":1.9},\"retuned\":{\"objective\":2." \
    "8,"                                                                                           \
    "\"evaluations\":12},\"cold\":{\"evaluations\":80,\"objective\":2.7}},{\"task\":\"second\","   \
    "\"old\":{\"objective\":1.1},\"carried\":{\"objective\":null},\"retuned\":null,\"cold\":null}" \
    "],"                                                                                           \
    "\"kept\":[1,2],\"lost\":[1],\"open\":[],\"gained\":[]}}"

static void the_picture_is_well_formed_and_escaped(void **state)
{
    CLEANUP(buf_release) struct buf out = { .max = 1 << 20 };
    json_auto_t *r = parse(REPORT("<script>alert(1)</script>&\\u0001]]>"));
    struct err err;

    (void)state;
    assert_ok(retune_svg(r, &out, &err), err);
    expect_well_formed(buf_str(&out));
    assert_null(strstr(buf_str(&out), "<script"));
    assert_non_null(strstr(buf_str(&out), "&lt;script&gt;"));
    assert_null(strstr(buf_str(&out), "href"));
    assert_null(strstr(buf_str(&out), "onload"));
    assert_non_null(strstr(buf_str(&out), "2.8x"));
    assert_non_null(strstr(buf_str(&out), "not measured"));
    assert_non_null(strstr(buf_str(&out), "kept 2"));
}

static void an_empty_report_is_a_picture_too(void **state)
{
    CLEANUP(buf_release) struct buf out = { .max = 1 << 20 };
    json_auto_t *r = parse("{}");
    struct err err;

    (void)state;
    assert_ok(retune_svg(r, &out, &err), err);
    expect_well_formed(buf_str(&out));
}

/* Names are cut between characters, so that the text stays UTF-8. */
static void long_names_stay_text(void **state)
{
    CLEANUP(buf_release) struct buf out = { .max = 1 << 20 };
    json_auto_t *r = parse(REPORT("ääääääääääääääääääääääääääääääääääääääääääääääääääää"));
    json_auto_t *text = NULL;
    struct err err;

    (void)state;
    assert_ok(retune_svg(r, &out, &err), err);
    expect_well_formed(buf_str(&out));
    text = json_string(buf_str(&out));
    assert_non_null(text); /* NULL when it is not UTF-8 */
}

static void a_cap_is_an_error(void **state)
{
    CLEANUP(buf_release) struct buf out = { .max = 500 };
    json_auto_t *r = parse(REPORT("t"));
    struct err err;

    (void)state;
    assert_fails(retune_svg(r, &out, &err), err, ERR_LIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_picture_is_well_formed_and_escaped),
        cmocka_unit_test(an_empty_report_is_a_picture_too),
        cmocka_unit_test(long_names_stay_text),
        cmocka_unit_test(a_cap_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
