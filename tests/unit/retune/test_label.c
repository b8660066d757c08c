/* SPDX-License-Identifier: Apache-2.0 */
/* Each ground of a label, provoked. */
#include <math.h>

#include "base/mem.h"
#include "retune/label.h"
#include "unit/test.h"

static char none[] = "";

struct bed {
    struct claim claim;
    struct label_evidence old, new;
    struct delta delta;
    struct roofline_shift shift;
    json_t *device;
    struct label_input in;
    struct labelled out;
};

/* Same class, same balance, four blind pairs of one sign, high survival: carries. */
static void bed_init(struct bed *b)
{
    memset(b, 0, sizeof(*b));
    b->claim = (struct claim){ .technique = (char *)"loop-order",
                               .statement = (char *)"s",
                               .mechanism = none,
                               .family = (char *)"f",
                               .dtype = none,
                               .language = none,
                               .bottleneck = none,
                               .requires = none,
                               .param = (char *)"P",
                               .with_value = (char *)"16",
                               .without_value = (char *)"8" };
    b->old = (struct label_evidence){
        .sums = { .blind = 4, .positive = 4 }, .mean = 0.1, .sd = 0.02, .p_positive = 0.999
    };
    b->new.p_positive = 0.5;
    b->delta.same_class = true;
    b->delta.added = json_array();
    b->delta.removed = json_array();
    b->shift = (struct roofline_shift){ .balance_from = 10, .balance_to = 10 };
    b->device =
        json_pack("{s:[s,s], s:{s:i}}", "features", "avx2", "fma", "shared_bytes", "block", 65536);
    b->in = (struct label_input){ .claim = &b->claim,
                                  .old = &b->old,
                                  .new = &b->new,
                                  .delta = &b->delta,
                                  .device = b->device,
                                  .versions = "",
                                  .shift = &b->shift,
                                  .survival = { .mean = 0.9, .n = 10, .kept = 9, .n_parent = 12 } };
}

static void expect(struct bed *b, enum retune_label label, enum retune_ground ground)
{
    label_insight(&b->in, &b->out);
    assert_string_equal(retune_label_name(b->out.label), retune_label_name(label));
    assert_string_equal(retune_ground_name(b->out.ground), retune_ground_name(ground));
    assert_true(b->out.text[0] != '\0');
    assert_true(b->out.p_wrong >= 0 && b->out.p_wrong <= 1);
    delta_release(&b->delta);
    json_decref(b->device);
}

#define BED                                                                                        \
    struct bed b;                                                                                  \
    (void)state;                                                                                   \
    bed_init(&b)

static void the_same_carries(void **state)
{
    BED;
    expect(&b, LABEL_CARRY, GROUND_SAME);
    assert_true(b.out.p_wrong < 0.25);
}

static void a_missing_feature_voids(void **state)
{
    BED;
    b.claim.requires = (char *)"avx2,avx512f";
    expect(&b, LABEL_VOID, GROUND_FEATURE_MISSING);
    assert_non_null(strstr(b.out.text, "avx512f"));
    assert_true(b.out.p_wrong == 0);
}

static void a_capacity_too_small_voids(void **state)
{
    BED;
    b.claim.requires = (char *)"shared_bytes.block>=98304";
    expect(&b, LABEL_VOID, GROUND_CAPACITY_SMALL);
}

static void a_capacity_that_suffices_does_not(void **state)
{
    BED;
    b.claim.requires = (char *)"avx2,shared_bytes.block>=65536";
    expect(&b, LABEL_CARRY, GROUND_SAME);
}

static void an_unknown_capacity_is_verified(void **state)
{
    BED;
    b.claim.requires = (char *)"registers.block>=65536";
    expect(&b, LABEL_REVERIFY, GROUND_CAPACITY_UNKNOWN);
}

static void a_value_without_an_assignment_voids(void **state)
{
    BED;
    b.in.value_missing = true;
    expect(&b, LABEL_VOID, GROUND_VALUE_UNAVAILABLE);
}

static void a_measurement_there_decides(void **state)
{
    BED;
    b.shift.crossed = b.shift.workloads = 1; /* no argument counts against it */
    b.new = (struct label_evidence){
        .sums = { .steered = 2, .positive = 2 }, .mean = 0.05, .sd = 0.01, .p_positive = 0.99
    };
    expect(&b, LABEL_CARRY, GROUND_CONFIRMED);
    bed_init(&b);
    b.new = (struct label_evidence){
        .sums = { .blind = 2 }, .mean = -0.05, .sd = 0.01, .p_positive = 0.01
    };
    expect(&b, LABEL_VOID, GROUND_REFUTED);
}

static void versions_are_verified(void **state)
{
    BED;
    snprintf(b.old.versions, sizeof(b.old.versions), "%s", "gcc 12.2.0; driver 1");
    b.in.versions = "gcc 12.2.0; driver 2";
    expect(&b, LABEL_REVERIFY, GROUND_VERSIONS);
    assert_non_null(strstr(b.out.text, "driver"));
}

static void a_crossed_ridge_is_verified(void **state)
{
    BED;
    b.shift.workloads = 3;
    b.shift.crossed = 1;
    expect(&b, LABEL_REVERIFY, GROUND_BALANCE);
}

static void a_moved_balance_counts_only_where_nothing_is_placed(void **state)
{
    BED;
    b.shift.moved = true;
    b.shift.balance_to = 40;
    expect(&b, LABEL_REVERIFY, GROUND_BALANCE);
    bed_init(&b);
    b.shift.moved = true;
    b.shift.balance_to = 40;
    b.shift.workloads = 2;
    expect(&b, LABEL_CARRY, GROUND_SAME);
}

static void a_smaller_memory_is_verified_for_larger_tiles(void **state)
{
    struct delta_member m = { "shared_bytes.block", 163840, 65536 };

    BED;
    b.claim.technique = (char *)"tiling";
    b.delta.members[b.delta.n++] = m;
    expect(&b, LABEL_REVERIFY, GROUND_CAPACITY_SHRANK);
    bed_init(&b);
    b.claim.technique = (char *)"tiling";
    b.claim.with_value = (char *)"4"; /* less of it */
    b.delta.members[b.delta.n++] = m;
    expect(&b, LABEL_CARRY, GROUND_SAME);
}

static void gone_features_are_verified(void **state)
{
    BED;
    json_array_append_new(b.delta.removed, json_string("avx512f"));
    expect(&b, LABEL_REVERIFY, GROUND_FEATURES_GONE);
}

static void a_low_survival_rate_is_verified(void **state)
{
    BED;
    b.in.survival = (struct survival_rate){ .mean = 0.5, .n = 10, .kept = 5, .n_parent = 20 };
    expect(&b, LABEL_REVERIFY, GROUND_SURVIVAL_LOW);
    assert_true(b.out.p_wrong > 0.4);
}

static void an_unknown_survival_rate_between_classes_is_verified(void **state)
{
    BED;
    b.delta.same_class = false;
    b.in.survival = (struct survival_rate){ .mean = 0.8 };
    expect(&b, LABEL_REVERIFY, GROUND_SURVIVAL_UNKNOWN);
    bed_init(&b);
    b.delta.same_class = false; /* and a high one carries */
    expect(&b, LABEL_CARRY, GROUND_SAME);
}

static void thin_evidence_is_verified(void **state)
{
    static const struct label_evidence thin[] = {
        { .sums = { .failures = 2 }, .p_positive = 0.5 },
        { .sums = { .blind = 1, .positive = 1 }, .mean = 0.1, .p_positive = 0.95 },
        { .sums = { .steered = 5, .positive = 5 }, .mean = 0.1, .p_positive = 0.99 },
        { .sums = { .blind = 6, .positive = 3 }, .mean = 0.01, .p_positive = 0.6 },
    };
    struct bed b;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(thin); i++) {
        bed_init(&b);
        b.old = thin[i];
        expect(&b, LABEL_REVERIFY, GROUND_EVIDENCE_THIN);
    }
}

static void only_versions_count_on_the_same_device(void **state)
{
    BED;
    b.in.toolchain_only = true;
    b.shift.moved = true;
    expect(&b, LABEL_CARRY, GROUND_SAME);
    bed_init(&b);
    b.in.toolchain_only = true;
    snprintf(b.old.versions, sizeof(b.old.versions), "%s", "gcc 12.2.0");
    b.in.versions = "gcc 13.1.0";
    expect(&b, LABEL_REVERIFY, GROUND_VERSIONS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_carries),
        cmocka_unit_test(a_missing_feature_voids),
        cmocka_unit_test(a_capacity_too_small_voids),
        cmocka_unit_test(a_capacity_that_suffices_does_not),
        cmocka_unit_test(an_unknown_capacity_is_verified),
        cmocka_unit_test(a_value_without_an_assignment_voids),
        cmocka_unit_test(a_measurement_there_decides),
        cmocka_unit_test(versions_are_verified),
        cmocka_unit_test(a_crossed_ridge_is_verified),
        cmocka_unit_test(a_moved_balance_counts_only_where_nothing_is_placed),
        cmocka_unit_test(a_smaller_memory_is_verified_for_larger_tiles),
        cmocka_unit_test(gone_features_are_verified),
        cmocka_unit_test(a_low_survival_rate_is_verified),
        cmocka_unit_test(an_unknown_survival_rate_between_classes_is_verified),
        cmocka_unit_test(thin_evidence_is_verified),
        cmocka_unit_test(only_versions_count_on_the_same_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
