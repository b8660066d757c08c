/* SPDX-License-Identifier: Apache-2.0 */
/* Regimes of the packs that come with the program: relatives of a search, features of a set. */
#include "unit/test.h"

#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "regimes.h"

static struct packs *load(void)
{
    const char *dir = KS_SOURCE_DIR "/tasks";
    struct packs *p;
    struct err err;

    assert_ok(packs_load(&dir, 1, &p, &err), err);
    return p;
}

static double similarity(const json_t *relatives, const char *task)
{
    json_t *r;
    size_t i;

    json_array_foreach (relatives, i, r)
        if (strcmp(jsonx_str(r, "task", ""), task) == 0)
            return jsonx_num(r, "similarity", -1);
    return 0;
}

static json_t *relatives_of(const struct packs *p, const char *task)
{
    const struct pack_definition *def = packs_find(p, task);

    assert_non_null(def);
    return regime_relatives(p, def, pack_default_set(def));
}

static void relatives_are_sorted_and_itself_comes_first(void **state)
{
    struct packs *p = load();

    (void)state;
    for (size_t i = 0; i < packs_count(p); i++) {
        const struct pack *pack = packs_get(p, i);

        for (size_t d = 0; d < pack->n_definitions; d++) {
            json_auto_t *list = relatives_of(p, pack->definitions[d].name);
            double last = 1;
            json_t *r;
            size_t k;

            assert_true(json_array_size(list) >= pack->n_definitions);
            assert_string_equal(jsonx_str(json_array_get(list, 0), "task", ""),
                                pack->definitions[d].name);
            assert_true(jsonx_num(json_array_get(list, 0), "similarity", 0) == 1);
            json_array_foreach (list, k, r) {
                double s = jsonx_num(r, "similarity", -1);

                assert_true(s > 0 && s <= last);
                last = s;
            }
        }
    }
    packs_unref(p);
}

static void attention_is_near_by_its_heads(void **state)
{
    struct packs *p = load();
    json_auto_t *kv4 = relatives_of(p, "gqa_paged_decode_h32_kv4_d128_ps1");
    json_auto_t *decode = relatives_of(p, "mla_paged_decode_h16_ckv512_kpe64_ps1");
    double prefill, wide;

    (void)state;
    assert_true(fabs(similarity(kv4, "gqa_paged_decode_h32_kv8_d128_ps1") - exp(-1)) < 1e-9);
    assert_true(fabs(similarity(kv4, "gqa_paged_decode_h32_kv1_d128_ps1") - exp(-2)) < 1e-9);
    assert_true(similarity(kv4, "mla_paged_decode_h16_ckv512_kpe64_ps1") == 0);
    /* A related family is there, and farther than any of its own. */
    prefill = similarity(decode, "mla_paged_prefill_causal_h16_ckv512_kpe64_ps1");
    wide = similarity(decode, "mla_paged_decode_h32_ckv512_kpe64_ps1");
    assert_true(prefill > 0.05 && prefill < wide);
    packs_unref(p);
}

static void experts_are_near_by_their_load(void **state)
{
    static const char base[] = "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h256_i128";
    struct packs *p = load();
    json_auto_t *list = relatives_of(p, base);
    double same_experts =
        similarity(list, "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e64_h256_i128");
    double one_expert =
        similarity(list, "moe_fp8_block_scale_ds_routing_topk1_ng1_kg1_e8_h256_i128");

    (void)state;
    assert_true(same_experts > 0.3);
    assert_true(one_expert < same_experts && one_expert > 0);
    packs_unref(p);
}

static void features_say_what_the_workloads_are(void **state)
{
    struct packs *p = load();
    const struct pack_definition *def =
        packs_find(p, "moe_fp8_block_scale_ds_routing_topk8_ng8_kg4_e32_h512_i256");
    const struct pack_set *set = pack_default_set(def);
    json_auto_t *device = json_pack("{s:i, s:f}", "cores", 2, "copy_gbs", 23.456);
    json_auto_t *f = regime_context(def, set, device);
    struct regime r;
    double v;

    (void)state;
    /* Tokens 1, 4, 12 and 10; 8 of 64 experts each. */
    assert_true(fabs(jsonx_num(f, "tokens", 0) - 4.68) < 1e-9);
    assert_true(fabs(jsonx_num(f, "tokens_per_expert", 0) - 0.585) < 1e-9);
    assert_int_equal(jsonx_int(f, "num_experts", 0), 64);
    assert_true(jsonx_num(f, "cores", 0) == 2);
    assert_true(jsonx_num(f, "copy_gbs", 0) == 23);
    /* No feature twice under two names. */
    assert_null(json_object_get(f, "experts"));
    regime_of_task(def, set, &r);
    assert_true(regime_get(&r, "experts", &v) && v == 64);
    assert_true(regime_get(&r, "tokens_per_expert", &v) && fabs(v - 0.5851) < 1e-3);
    assert_string_equal(r.block_scale, "128x128");
    assert_string_equal(r.dtype, "fp8");
    packs_unref(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relatives_are_sorted_and_itself_comes_first),
        cmocka_unit_test(attention_is_near_by_its_heads),
        cmocka_unit_test(experts_are_near_by_their_load),
        cmocka_unit_test(features_say_what_the_workloads_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
