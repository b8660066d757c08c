/* SPDX-License-Identifier: Apache-2.0 */
/* Calibration, credit and the doctor through the socket and the command line. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "e2e/e2e.h"
#include "unit/daemon/t4_text.h"

static void import(struct e2e *e, const char *device, const struct t4_synthetic *s)
{
    CLEANUP(buf_release) struct buf text = { .max = 2 << 20 };
    CLEANUP(freep) char *path = str_printf("%s/t.json", e->dir);
    CLEANUP(freep) char *args = str_printf("task import %s --name syn --device %s", path, device);
    struct err err;

    t4_synthetic_text(s, &text);
    assert_ok(file_write(path, text.data, text.len, 0600, &err), err);
    free(e2e_say(e, args, NULL));
}

/* Runs a search to its end; its search.show. Owned. */
static json_t *search(struct e2e_conn *c, const char *params)
{
    json_auto_t *started = e2e_result(c, "search.start", params);

    return e2e_search_state(c, jsonx_str(started, "id", ""), "done");
}

static char *calibration(struct e2e_conn *c)
{
    json_auto_t *stats = e2e_result(c, "kb.stats", "{\"calibration\":true}");
    const json_t *page = json_object_get(stats, "calibration");

    assert_true(json_is_object(page));
    return jsonx_canonical(page);
}

static long long scored(const json_t *show)
{
    return jsonx_int(json_object_get(show, "predictions"), "n", -1);
}

static void ledger_is_kept_up_and_read_again_after_a_restart(void **state)
{
    static const struct t4_synthetic on_a = { .tile = 2.2, .seed = 1, .scale = 1, .sample = 8 };
    static const struct t4_synthetic on_b = { .tile = 2.4, .seed = 2, .scale = 3, .sample = 8 };
    struct e2e *e = *state;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    CLEANUP(freep) char *empty = calibration(&c);
    assert_string_equal(empty, "{\"cells\":[],\"sources\":[]}");
    import(e, "A", &on_a);
    import(e, "B", &on_b);
    json_auto_t *cold = search(&c, "{\"task\":\"syn\",\"device\":\"A\",\"cold\":true,\"seed\":1,"
                                   "\"budget\":{\"evals\":60}}");
    json_auto_t *warm = search(&c, "{\"task\":\"syn\",\"device\":\"B\",\"seed\":2,"
                                   "\"budget\":{\"evals\":60}}");
    CLEANUP(freep) char *before = calibration(&c);
    json_auto_t *page = json_loads(before, 0, NULL);
    long long n = 0;
    json_t *row;
    size_t i;

    json_array_foreach (json_object_get(page, "sources"), i, row)
        n += jsonx_int(row, "n", 0);
    assert_true(scored(cold) > 30 && scored(warm) > 30);
    assert_int_equal(n, scored(cold) + scored(warm));
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);

    e2e_start(e);
    c = e2e_connect(e, true);
    CLEANUP(freep) char *after = calibration(&c);
    assert_string_equal(after, before);
    e2e_close(&c);

    CLEANUP(freep) char *shown = e2e_say(e, "kb stats --calibration", NULL);
    CLEANUP(freep) char *plain = e2e_say(e, "kb stats", NULL);
    assert_non_null(strstr(shown, "builtin/cold/gp"));
    assert_non_null(strstr(shown, "90-100 %"));
    assert_null(strstr(plain, "builtin/cold/gp"));
    assert_int_equal(e2e_stop(e), 0);
}

static void doctor_tells_of_a_claim_that_nobody_measured(void **state)
{
    struct e2e *e = *state;
    struct e2e_conn c;

    e2e_start(e);
    c = e2e_connect(e, true);
    CLEANUP(freep) char *well = e2e_say(e, "kb doctor", NULL);
    assert_non_null(strstr(well, "0 findings about 0 insights"));
    json_auto_t *added =
        e2e_result(&c, "insight.add", "{\"technique\":\"tiling\",\"statement\":\"Tile it.\"}");
    const char *id = jsonx_str(added, "insight", "");
    CLEANUP(freep) char *told = e2e_say(e, "kb doctor", NULL);
    CLEANUP(freep) char *json = e2e_say(e, "--json kb doctor", NULL);
    CLEANUP(freep) char *stale = e2e_say(e, "kb doctor --stale", NULL);
    json_auto_t *doc = json_loads(json, 0, NULL);
    const json_t *finding = json_array_get(json_object_get(doc, "findings"), 0);

    assert_non_null(strstr(told, "nobody has measured it"));
    assert_non_null(strstr(told, "1 finding about 1 insight\n"));
    assert_non_null(strstr(stale, "0 findings"));
    assert_string_equal(jsonx_str(finding, "insight", ""), id);
    assert_string_equal(jsonx_str(finding, "kind", ""), "junk");

    CLEANUP(freep) char *which = str_printf("{\"insight\":\"%s\"}", id);
    json_auto_t *insight = e2e_result(&c, "insight.show", which);
    assert_int_equal(jsonx_int(json_object_get(insight, "credit"), "served", -1), 0);
    e2e_refused(&c, "kb.doctor", "{\"stale\":3}", "INVALID", "stale");
    e2e_close(&c);
    assert_int_equal(e2e_stop(e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, e2e_setup, e2e_teardown)
        T(ledger_is_kept_up_and_read_again_after_a_restart),
        T(doctor_tells_of_a_claim_that_nobody_measured),
#undef T
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
