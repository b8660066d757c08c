/* SPDX-License-Identifier: Apache-2.0 */
/* Insights whose evidence is older than the device's versions. */
#include "base/clock.h"
#include "base/mem.h"
#include "retune/staleness.h"
#include "unit/test.h"

static char none[] = "";

static void put_device(struct kb *kb, const char *toolchain, const char *driver)
{
    json_auto_t *doc = json_pack("{s:s, s:s, s:s, s:s}", "name", "gpu", "class", "sm_90",
                                 "toolchain", toolchain, "driver", driver);
    struct kb_batch *b = kb_batch_new(kb);
    struct err err;

    assert_ok(kb_batch_put_doc(b, KB_DEVICE, "gpu", doc, &err), err);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
}

static struct id add_claim(struct kb_batch *b, const char *value)
{
    struct claim c = { .technique = (char *)"tiling",
                       .statement = (char *)value,
                       .mechanism = none,
                       .family = (char *)"f",
                       .dtype = none,
                       .language = none,
                       .bottleneck = none,
                       .requires = none,
                       .param = (char *)"P",
                       .with_value = (char *)value,
                       .without_value = (char *)"0" };
    struct err err;
    struct id id;

    assert_ok(kb_batch_add_claim(b, &c, &id, &err), err);
    return id;
}

static void add_pair(struct kb_batch *b, const struct id *claim, const char *versions, uint64_t at)
{
    json_auto_t *features = json_object();
    struct evidence e = { .claim = *claim,
                          .kind = (char *)"pair",
                          .effect_q = 1000,
                          .failure = none,
                          .task = (char *)"t",
                          .device = (char *)"gpu",
                          .device_class = (char *)"sm_90",
                          .shape = none,
                          .toolchain = (char *)versions,
                          .features = features,
                          .measured_at_s = at };
    struct err err;

    id_of_bytes(versions, strlen(versions), &e.with);
    id_of_bytes(&at, sizeof(at), &e.without);
    assert_ok(kb_batch_add_evidence(b, &e, NULL, &err), err);
}

struct seen {
    int n;
    char statement[32], axis[32], from[32], to[32];
    size_t changes;
};

static int see(void *ctx, const struct stale_insight *s)
{
    struct seen *seen = ctx;

    seen->n++;
    snprintf(seen->statement, sizeof(seen->statement), "%s", s->insight->claim.statement);
    snprintf(seen->axis, sizeof(seen->axis), "%s", s->changes[0].axis);
    snprintf(seen->from, sizeof(seen->from), "%s", s->changes[0].from);
    snprintf(seen->to, sizeof(seen->to), "%s", s->changes[0].to);
    seen->changes = s->n_changes;
    return 0;
}

static void only_what_was_never_measured_since_is_stale(void **state)
{
    struct kb_options o = { .dir = *state, .clock = clock_system() };
    struct seen seen = { 0 };
    struct kb_batch *b;
    struct err err;
    struct id id;
    struct kb *kb;

    assert_ok(kb_open(&o, &kb, &err), err);
    put_device(kb, "nvcc 12.4", "550");
    b = kb_batch_new(kb);
    id = add_claim(b, "stale");
    add_pair(b, &id, "nvcc 12.4; driver 535", 10);
    id = add_claim(b, "measured again");
    add_pair(b, &id, "nvcc 12.4; driver 535", 10);
    add_pair(b, &id, "nvcc 12.4; driver 550", 20);
    id = add_claim(b, "unknown");
    add_pair(b, &id, "", 10);
    assert_ok(kb_commit(b, &err), err);
    kb_batch_free(b);
    assert_ok(staleness_each(kb, NULL, see, &seen, &err), err);
    assert_int_equal(seen.n, 1);
    assert_string_equal(seen.statement, "stale");
    assert_int_equal(seen.changes, 1);
    assert_string_equal(seen.axis, "driver");
    assert_string_equal(seen.from, "535");
    assert_string_equal(seen.to, "550");
    /* another compiler makes all of them stale but the one of unknown versions */
    put_device(kb, "nvcc 13.0", "550");
    seen.n = 0;
    assert_ok(staleness_each(kb, "gpu", see, &seen, &err), err);
    assert_int_equal(seen.n, 2);
    assert_fails(staleness_each(kb, "none", see, &seen, &err), err, ERR_NOT_FOUND);
    kb_close(kb);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_what_was_never_measured_since_is_stale, test_dir_setup,
                                        test_dir_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
