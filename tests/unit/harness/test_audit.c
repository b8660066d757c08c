/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch-eval check-task: a good pack passes, and each way in which a pack can be unfit is found
 * by the check that is meant to find it. The pack is a softmax over rows; a case changes one thing.
 */
#include "unit/test.h"

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "evaltest.h"

static const char module_text[] =
    "#include \"ks_gen.h\"\n"
    "static int generate(const struct ks_problem *p, uint64_t seed, const struct ks_tensor *in,\n"
    "                    int n, char *why, size_t size)\n"
    "{\n"
    "    static uint64_t calls;\n"
    "    (void)n;\n"
    "    if (ks_problem_axis(p, \"rows\", 0) == 13)\n"
    "        return ks_fail(why, size, \"thirteen rows are bad luck\");\n"
    "    for (int64_t i = 0; i < in[0].shape[0] * in[0].shape[1] - GAP; i++)\n"
    "        ((float *)in[0].data)[i] = 4 * ks_uniform(SEED, (uint64_t)i);\n"
    "    (void)calls;\n"
    "    return 0;\n"
    "}\n"
    "static int reference(const struct ks_problem *p, const struct ks_tensor *in, int n,\n"
    "                     double *const *want, int m, int threads, char *why, size_t size)\n"
    "{\n"
    "    (void)p, (void)n, (void)m, (void)threads, (void)why, (void)size;\n"
    "    for (int64_t r = 0; r < in[0].shape[0]; r++) {\n"
    "        const float *x = (const float *)in[0].data + r * in[0].shape[1];\n"
    "        REAL sum = 0;\n"
    "        for (int64_t j = 0; j < in[0].shape[1]; j++)\n"
    "            sum += exp((REAL)x[j]);\n"
    "        for (int64_t j = 0; j < in[0].shape[1]; j++)\n"
    "            want[0][r * in[0].shape[1] + j] = (double)(exp((REAL)x[j]) / sum);\n"
    "    }\n"
    "    return 0;\n"
    "}\n"
    "static void cost(const struct ks_problem *p, const struct ks_tensor *in, int n,\n"
    "                 struct ks_cost *out)\n"
    "{\n"
    "    (void)p, (void)n;\n"
    "    out->flops = 20.0 * (double)(in[0].shape[0] * in[0].shape[1]);\n"
    "    out->bytes = 8.0 * (double)(in[0].shape[0] * in[0].shape[1]);\n"
    "}\n"
    "const struct ks_task_module *ks_task_module(void)\n"
    "{\n"
    "    static const struct ks_task_module m = { KS_ABI_VERSION, generate, reference, cost, "
    "NULL,\n"
    "                                             REAL_BYTES };\n"
    "    return &m;\n"
    "}\n";

static const char kernel_text[] =
    "#include <math.h>\n"
    "#include \"ks_task.h\"\n"
    "int ks_kernel(const struct ks_call *c)\n"
    "{\n"
    "    for (int64_t r = 0; r < c->inputs[0].shape[0]; r++) {\n"
    "        int64_t n = c->inputs[0].shape[1];\n"
    "        const float *x = (const float *)c->inputs[0].data + r * n;\n"
    "        float *z = (float *)c->outputs[0].data + r * n, sum = 0;\n"
    "        for (int64_t j = 0; j < n; j++)\n"
    "            sum += z[j] = expf(x[j]);\n"
    "        for (int64_t j = 0; j < n; j++)\n"
    "            z[j] *= FACTOR / sum;\n"
    "    }\n"
    "    return 0;\n"
    "}\n";

/* What one case changes; NULL for the good pack's. */
struct pack_case {
    const char *real, *real_bytes, *seed, *gap; /* of the module */
    const char *factor;                         /* of the baseline */
    const char *tolerance, *dtype, *workloads;
};

#define OR(value, usual) ((value) ? (value) : (usual))

static void put(const char *dir, const char *name, const char *text)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    struct err err;

    assert_ok(file_write(path, text, strlen(text), 0600, &err), err);
}

static void write_pack(const char *dir, const struct pack_case *c)
{
    CLEANUP(freep) char *workloads = str_printf("%s/workloads", dir);
    CLEANUP(freep)
    char *module = str_printf("#define REAL %s\n#define REAL_BYTES %s\n#define SEED %s\n"
                              "#define GAP %s\n%s",
                              OR(c->real, "ks_real"), OR(c->real_bytes, "sizeof(ks_real)"),
                              OR(c->seed, "seed"), OR(c->gap, "0"), module_text);
    CLEANUP(freep)
    char *kernel = str_printf("#define FACTOR %s\n%s", OR(c->factor, "1.0f"), kernel_text);
    CLEANUP(freep)
    char *task = str_printf(
        "{ \"format\": 1, \"family\": \"softmax\", \"module\": \"task.c\", \"baseline\": "
        "\"baseline.c\", \"bottleneck\": \"memory\", \"axes\": { \"rows\": \"var\", \"n\": "
        "\"const\" }, \"definitions\": [ { \"name\": \"softmax_n33\", \"axes\": { \"n\": 33 } } ], "
        "\"inputs\": [ { \"name\": \"x\", \"dtype\": \"f32\", \"shape\": [\"rows\", \"n\"] } ], "
        "\"outputs\": [ { \"name\": \"z\", \"dtype\": \"%s\", \"shape\": [\"rows\", \"n\"], "
        "\"tolerance\": %s } ] }",
        OR(c->dtype, "f32"), OR(c->tolerance, "{ \"atol\": 1e-7, \"rtol\": 2e-5 }"));
    struct err err;

    assert_ok(file_mkdirs(workloads, &err), err);
    put(dir, "task.json", task);
    put(dir, "task.c", module);
    put(dir, "baseline.c", kernel);
    put(workloads, "smoke.jsonl",
        "{\"name\": \"r1\", \"axes\": {\"rows\": 1}}\n{\"name\": \"r40\", \"axes\": {\"rows\": "
        "40}}\n");
    put(workloads, "cpu.jsonl",
        OR(c->workloads, "{\"name\": \"r900\", \"axes\": {\"rows\": 900}}\n"));
}

/* Checks a definition of the pack in `pack` with the candidate in `source`; the record, owned. */
static json_t *check_pack(struct evaltest *t, const char *pack, const char *definition,
                          const char *source, const char *defines)
{
    CLEANUP(freep) char *dir = str_printf("%s/job", t->dir);
    CLEANUP(freep)
    char *job = str_printf(
        "{ \"format\": 1, \"pack\": \"%s\", \"definition\": \"%s\", \"set\": \"cpu\", "
        "\"candidate\": "
        "{ \"source\": \"candidate.c\", \"defines\": %s }, \"seed\": \"00000000000000aa\", "
        "\"slot\": "
        "%s, \"cache\": \"%s/cache\", \"limits\": { \"memory_bytes\": 1073741824 }, \"timing\": { "
        "\"pairs_min\": 3, \"pairs_max\": 6, \"budget_s\": 0.05 }, \"device\": { \"read_gbs\": 20, "
        "\"fma_gflops\": 100 } }",
        pack, definition, defines, t->slot, t->dir);
    const char *argv[] = { KS_BIN_DIR "/ksearch-eval", "check-task", dir, NULL };
    struct evaltest_result r = { 0 };
    json_t *record;
    struct err err;

    assert_ok(file_mkdirs(dir, &err), err);
    put(dir, "job.json", job);
    put(dir, "candidate.c", source);
    evaltest_exec(argv, &r);
    if (r.status != 0 || r.record == NULL)
        fail_msg("check-task: status %d: %s", r.status, r.err);
    record = json_incref(r.record);
    evaltest_release(&r);
    return record;
}

static json_t *check_case(struct evaltest *t, const struct pack_case *c)
{
    CLEANUP(freep) char *pack = str_printf("%s/pack", t->dir);
    CLEANUP(freep)
    char *kernel = str_printf("#define FACTOR %s\n%s", OR(c->factor, "1.0f"), kernel_text);
    struct err err;

    assert_ok(file_rmtree(pack, &err), err);
    write_pack(pack, c);
    return check_pack(t, pack, "softmax_n33", kernel, "{}");
}

static const json_t *check_named(const json_t *record, const char *name)
{
    size_t i;
    json_t *c;

    json_array_foreach (json_object_get(record, "checks"), i, c) {
        if (strcmp(jsonx_str(c, "name", ""), name) == 0)
            return c;
    }
    return NULL;
}

/* Fails unless the check has this status, and these words in its sentence. */
static void expect(const json_t *record, const char *name, const char *status, const char *words)
{
    const json_t *c = check_named(record, name);

    if (c == NULL)
        fail_msg("there is no check '%s'", name);
    if (strcmp(jsonx_str(c, "status", ""), status) != 0 ||
        strstr(jsonx_str(c, "message", ""), words) == NULL)
        fail_msg("%s is %s: %s", name, jsonx_str(c, "status", ""), jsonx_str(c, "message", ""));
}

/* A case that fails this check, and fails as a whole. */
static void expect_found(struct evaltest *t, const struct pack_case *c, const char *name,
                         const char *words)
{
    json_auto_t *record = check_case(t, c);

    expect(record, name, "failed", words);
    assert_string_equal(jsonx_str(record, "status", ""), "failed");
}

/* Right, but too busy a machine to time it: worth another try. */
static bool is_unstable(const json_t *record)
{
    return strcmp(jsonx_str(check_named(record, "baseline"), "status", ""), "warning") == 0 ||
           strcmp(jsonx_str(check_named(record, "template"), "status", ""), "warning") == 0;
}

static void a_good_pack_passes(void **state)
{
    static const char *const names[] = { "pack",      "module",    "workloads", "generator",
                                         "reference", "tolerance", "dishonest" };
    json_auto_t *record = check_case(*state, &(struct pack_case){ 0 });
    const json_t *output, *row;

    for (int turn = 0; turn < 6 && is_unstable(record); turn++) {
        json_decref(record);
        record = check_case(*state, &(struct pack_case){ 0 });
    }
    output = json_array_get(json_object_get(record, "tolerance"), 0);
    row = json_array_get(json_object_get(record, "timing"), 0);
    assert_string_equal(jsonx_str(record, "message", "?"), "");
    assert_string_equal(jsonx_str(record, "status", ""), "ok");
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        expect(record, names[i], "ok", "");
    expect(record, "module", "ok", "long double");
    expect(record, "template", "skipped", "none");
    /* Both errors are there: the wide type's far below single precision's. */
    assert_true(jsonx_num(output, "reference", -1) > 0);
    assert_true(jsonx_num(output, "single", -1) > 1e3 * jsonx_num(output, "reference", -1));
    assert_string_equal(jsonx_str(row, "bound", ""), "memory");
    assert_true(jsonx_num(row, "floor_ns", 0) > 0);
    assert_true(jsonx_num(row, "baseline_ns", 0) > jsonx_num(row, "floor_ns", 0));
}

static void vector_add_passes_with_its_template(void **state)
{
    static const char defines[] =
        "{ \"SPLIT\": \"0\", \"SPLIT_one\": \"0\", \"SPLIT_blocks\": \"1\", "
        "\"SPLIT_even\": \"2\", \"STORES\": \"0\", \"STORES_plain\": \"0\", "
        "\"STORES_stream\": \"1\", \"BLOCK\": \"4096\", \"VECTOR\": \"128\", "
        "\"PREFETCH\": \"0\" }";
    CLEANUP(buf_release) struct buf source = { .max = 1 << 20 };
    json_auto_t *record = NULL;
    struct err err;

    assert_ok(file_read(EVALTEST_PACK "/template.c", &source, &err), err);
    for (int turn = 0; turn < 6 && (record == NULL || is_unstable(record)); turn++) {
        json_decref(record);
        record = check_pack(*state, EVALTEST_PACK, "vector_add_l4", buf_str(&source), defines);
    }
    assert_string_equal(jsonx_str(record, "message", "?"), "");
    assert_int_equal(json_array_size(json_object_get(record, "timing")), 4);
}

static void a_tolerance_that_lets_zeros_pass_is_found(void **state)
{
    static const struct pack_case c = { .tolerance = "{ \"atol\": 1 }" };

    expect_found(*state, &c, "dishonest", "zeros of 'z'");
}

static void a_tolerance_that_only_a_zero_row_passes_is_found(void **state)
{
    static const struct pack_case c = { .tolerance = "{ \"tensor_rel\": 0.9 }" };

    /* On the one-row workload the row is the tensor: it is rejected there, shifted rows are not. */
    json_auto_t *record = check_case(*state, &c);
    const json_t *tampered =
        json_object_get(json_array_get(json_object_get(record, "tolerance"), 0), "tampered");

    assert_int_equal(jsonx_int(json_object_get(tampered, "zero_row"), "rejected", -1), 1);
    assert_int_equal(jsonx_int(json_object_get(tampered, "zeros"), "rejected", -1), 2);
    assert_int_equal(jsonx_int(json_object_get(tampered, "factor"), "rejected", -1), 0);
}

static void a_tolerance_below_single_precision_is_found(void **state)
{
    static const struct pack_case c = { .tolerance = "{ \"atol\": 1e-13 }" };

    expect_found(*state, &c, "tolerance", "too tight: honest single precision");
}

static void a_tolerance_below_the_outputs_type_is_found(void **state)
{
    static const struct pack_case c = {
        .real = "double", .real_bytes = "0", .dtype = "bf16", .tolerance = "{ \"rtol\": 1e-4 }"
    };

    expect_found(*state, &c, "tolerance", "rounding the exact result once");
}

static void a_reference_in_single_precision_is_found(void **state)
{
    static const struct pack_case declared = { .real = "float" };
    static const struct pack_case fixed = { .real = "float", .real_bytes = "0" };

    expect_found(*state, &declared, "reference", "does not compute in double");
    expect_found(*state, &fixed, "reference", "does not compute in double");
}

static void a_reference_that_is_only_as_good_as_its_tolerance_is_found(void **state)
{
    static const struct pack_case c = { .tolerance = "{ \"atol\": 1e-17 }" };

    expect_found(*state, &c, "reference", "double and long double differ");
}

static void a_false_real_bytes_is_found(void **state)
{
    static const struct pack_case c = { .real_bytes = "8" };

    expect_found(*state, &c, "module", "real_bytes is 8, 8 and 8");
}

static void a_generator_that_remembers_is_found(void **state)
{
    static const struct pack_case c = { .seed = "seed + calls++" };

    expect_found(*state, &c, "generator", "other bytes the second time");
}

static void a_generator_that_leaves_bytes_unwritten_is_found(void **state)
{
    static const struct pack_case c = { .gap = "1" };

    expect_found(*state, &c, "generator", "not all written");
}

static void a_generator_without_a_seed_is_found(void **state)
{
    static const struct pack_case c = { .seed = "7" };

    expect_found(*state, &c, "generator", "another seed gave the same inputs");
}

static void a_wrong_baseline_is_found(void **state)
{
    static const struct pack_case c = { .factor = "1.01f" };

    expect_found(*state, &c, "baseline", "wrong_value");
}

static void a_workload_that_the_module_refuses_is_found(void **state)
{
    static const struct pack_case c = { .workloads =
                                            "{\"name\": \"r13\", \"axes\": {\"rows\": 13}}\n" };

    expect_found(*state, &c, "workloads", "bad luck");
}

static void a_workload_that_is_too_large_is_left_out(void **state)
{
    static const struct pack_case c = {
        .workloads = "{\"name\": \"huge\", \"axes\": {\"rows\": 4000000000}}\n"
    };
    json_auto_t *record = check_case(*state, &c);
    const json_t *set = json_array_get(json_object_get(record, "sets"), 0);
    const json_t *w = json_array_get(json_object_get(set, "workloads"), 0);

    assert_string_equal(jsonx_str(record, "status", ""), "ok");
    expect(record, "workloads", "ok", "1 are too large");
    expect(record, "baseline", "skipped", "too large");
    assert_string_equal(jsonx_str(w, "status", ""), "skipped");
    assert_int_equal(jsonx_int(w, "tensor_bytes", 0), 2 * 4 * 33 * 4000000000);
}

static void a_module_that_does_not_build_is_found(void **state)
{
    static const struct pack_case c = { .real = "no_such_type" };

    expect_found(*state, &c, "module", "the compiler rejected the source");
}

/* Without one not even the module is built, and the check says why. */
static bool has_sandbox(struct evaltest *t)
{
    json_auto_t *record = check_case(t, &(struct pack_case){ 0 });
    const json_t *module = check_named(record, "module");

    return strcmp(jsonx_str(module, "status", ""), "failed") != 0 ||
           strstr(jsonx_str(module, "message", ""), "sandbox") == NULL;
}

static int setup(void **state)
{
    struct evaltest *t = calloc(1, sizeof(*t));

    evaltest_init(t);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    evaltest_end(*state);
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_pack_passes),
        cmocka_unit_test(vector_add_passes_with_its_template),
        cmocka_unit_test(a_tolerance_that_lets_zeros_pass_is_found),
        cmocka_unit_test(a_tolerance_that_only_a_zero_row_passes_is_found),
        cmocka_unit_test(a_tolerance_below_single_precision_is_found),
        cmocka_unit_test(a_tolerance_below_the_outputs_type_is_found),
        cmocka_unit_test(a_reference_in_single_precision_is_found),
        cmocka_unit_test(a_reference_that_is_only_as_good_as_its_tolerance_is_found),
        cmocka_unit_test(a_false_real_bytes_is_found),
        cmocka_unit_test(a_generator_that_remembers_is_found),
        cmocka_unit_test(a_generator_that_leaves_bytes_unwritten_is_found),
        cmocka_unit_test(a_generator_without_a_seed_is_found),
        cmocka_unit_test(a_wrong_baseline_is_found),
        cmocka_unit_test(a_workload_that_the_module_refuses_is_found),
        cmocka_unit_test(a_workload_that_is_too_large_is_left_out),
        cmocka_unit_test(a_module_that_does_not_build_is_found),
    };
    struct evaltest t;
    bool sandbox;

    evaltest_init(&t);
    sandbox = has_sandbox(&t);
    evaltest_end(&t);
    if (!sandbox) {
        fprintf(stderr, "skipped: no sandbox on this machine\n");
        return getenv("KS_REQUIRE") && strstr(getenv("KS_REQUIRE"), "bwrap") ? 1 : 77;
    }
    return cmocka_run_group_tests(tests, setup, teardown);
}
