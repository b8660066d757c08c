/* SPDX-License-Identifier: Apache-2.0 */
/* A run of K-Search through both programs: imported once, shown like any search, refused where it
 * does not belong. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "e2e/e2e.h"

#define RUN KS_SOURCE_DIR "/tests/fixtures/k-search/run"
#define PLACE " --task gqa_paged_decode_h32_kv4_d128_ps1 --device h100"
#define IMPORT "kb import --format k-search "

static void a_run_is_imported_once_and_shown(void **state)
{
    struct e2e *e = *state;
    json_auto_t *first = NULL, *again = NULL, *show = NULL, *compare = NULL;
    CLEANUP(freep) char *tree = NULL, *args = NULL;
    const char *id;

    e2e_real_harness(e);
    e2e_start(e);
    first = e2e_ask(e, IMPORT RUN PLACE, 0);
    again = e2e_ask(e, IMPORT RUN "/world_model.json" PLACE, 0);
    id = jsonx_str(first, "search", "");
    assert_string_equal(id, jsonx_str(again, "search", "?"));
    assert_true(jsonx_bool(first, "changed", 0));
    assert_false(jsonx_bool(again, "changed", 1));
    args = str_printf("search show %s", id);
    show = e2e_ask(e, args, 0);
    assert_string_equal(jsonx_str(show, "state", ""), "done");
    assert_int_equal(json_array_size(json_object_get(show, "curve")), 2);
    free(args);
    args = str_printf("search tree %s", id);
    tree = e2e_say(e, args, NULL);
    assert_non_null(strstr(tree, "online softmax"));
    free(args);
    args = str_printf("search compare %s --svg %s/curves.svg", id, e->dir);
    compare = e2e_ask(e, args, 0);
    assert_int_equal(json_array_size(json_object_get(compare, "arms")), 1);
    assert_int_equal(e2e_stop(e), 0);
}

static void what_does_not_fit_is_refused(void **state)
{
    struct e2e *e = *state;
    int code;

    e2e_real_harness(e);
    e2e_start(e);
    free(e2e_say(e, IMPORT RUN " --task nobody_knows_it --device h100", &code));
    assert_int_equal(code, 3);
    free(e2e_say(e, IMPORT RUN " --device h100", &code));
    assert_int_equal(code, 2);
    free(e2e_say(e, IMPORT KS_SOURCE_DIR "/tests/fixtures/t4" PLACE, &code));
    assert_int_equal(code, 3); /* no world model there */
    free(e2e_say(e, IMPORT RUN "/solutions.jsonl" PLACE, &code));
    assert_int_equal(code, 2); /* no world model either */
    assert_int_equal(e2e_stop(e), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_run_is_imported_once_and_shown, e2e_setup, e2e_teardown),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_refused, e2e_setup, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
