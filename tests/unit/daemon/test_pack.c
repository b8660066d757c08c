/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "eval/pack.h"
#include "unit/test.h"

static const char task_json[] =
    "{ \"format\": 1, \"family\": \"fam\", \"summary\": \"Sums.\", \"module\": \"task.c\","
    "  \"baseline\": \"baseline.c\","
    "  \"template\": { \"source\": \"template.c\", \"space\": \"template.space.json\" },"
    "  \"language\": \"c\", \"dtype\": \"f32\", \"bottleneck\": \"memory\","
    "  \"axes\": { \"batch\": \"var\", \"heads\": \"const\", \"dim\": \"const\" },"
    "  \"definitions\": [ { \"name\": \"fam_h4\", \"axes\": { \"heads\": 4, \"dim\": 128 } },"
    "                     { \"name\": \"fam_h8\", \"axes\": { \"heads\": 8, \"dim\": 128 } } ],"
    "  \"inputs\": [ { \"name\": \"x\", \"dtype\": \"f32\","
    "                  \"shape\": [\"batch + 1\", \"heads*(dim+2)\"] } ],"
    "  \"outputs\": [ { \"name\": \"y\", \"dtype\": \"f32\", \"shape\": [],"
    "                   \"tolerance\": { \"atol\": 1e-3 } } ],"
    "  \"scratch_bytes\": 64, \"shape_features\": [\"heads\", \"dim\"] }";

static void put(const char *dir, const char *name, const char *text)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    CLEANUP(freep) char *folder = xstrdup(path);
    struct err err;

    *strrchr(folder, '/') = '\0';
    assert_ok(file_mkdirs(folder, &err), err);
    assert_ok(file_write(path, text, strlen(text), 0600, &err), err);
}

/* A pack that is right in all respects, in <dir>/<name>. */
static void put_pack(const char *dir, const char *name, const char *task)
{
    CLEANUP(freep) char *at = str_printf("%s/%s", dir, name);

    put(at, "task.json", task);
    put(at, "task.c", "int module;\n");
    put(at, "baseline.c", "int kernel;\n");
    put(at, "template.c", "int tunable;\n");
    put(at, "template.space.json", "{\"parameters\":[{\"name\":\"T\"}],\"constraints\":[]}");
    put(at, "README.md", "# Title\n\nThe first\nparagraph.\n\nThe second.\n");
    put(at, "workloads/cpu.jsonl",
        "{\"name\":\"b1\",\"axes\":{\"batch\":1},\"params\":{\"k\":[1,2]}}\n\n"
        "{\"name\":\"b2\",\"axes\":{\"batch\":2}}\n");
    put(at, "workloads/fam_h8.cpu.jsonl", "{\"name\":\"own\",\"axes\":{\"batch\":3}}\n");
    put(at, "workloads/smoke.jsonl", "{\"name\":\"s\",\"axes\":{\"batch\":0}}\n");
}

static struct packs *load(const char *dir)
{
    struct packs *p;
    struct err err;

    assert_ok(packs_load(&dir, 1, &p, &err), err);
    return p;
}

static void a_pack_is_found_and_read(void **state)
{
    const struct pack_definition *d, *other;
    const struct pack_set *set;
    struct packs *p;
    int64_t heads;

    put_pack(*state, "fam", task_json);
    p = load(*state);
    assert_int_equal(packs_count(p), 1);
    for (size_t i = 0; i < packs_get(p, 0)->n_problems; i++)
        fail_msg("%s", packs_get(p, 0)->problems[i]);
    d = packs_find(p, "fam_h4");
    other = packs_find(p, "fam_h8");
    assert_non_null(d);
    assert_null(packs_find(p, "fam_h16"));
    assert_string_equal(d->shape, "dim=128,heads=4");
    assert_true(pack_axis_value(d, "heads", &heads) && heads == 4);
    assert_string_equal(d->pack->readme, "The first paragraph.");
    assert_string_equal(d->pack->baseline.text, "int kernel;\n");
    assert_int_equal(strlen(d->pack->baseline.key), 64);
    assert_string_not_equal(d->pack->baseline.key, d->pack->module.key);
    set = pack_set(d, "cpu");
    assert_int_equal(set->n_workloads, 2);
    assert_string_equal(set->workloads[1], "b2");
    assert_int_equal(pack_set(other, "cpu")->n_workloads, 1);
    assert_string_equal(pack_set(other, "cpu")->workloads[0], "own");
    assert_int_equal(d->n_sets, 2);
    assert_ptr_equal(pack_default_set(d), set);
    assert_null(pack_set(d, "full"));
    packs_unref(p);
}

static void source_keys_are_sha256_of_the_text(void **state)
{
    struct packs *p;

    put_pack(*state, "fam", task_json);
    {
        CLEANUP(freep) char *at = str_printf("%s/fam", (char *)*state);

        put(at, "baseline.c", "abc");
    }
    p = load(*state);
    assert_string_equal(packs_get(p, 0)->baseline.key,
                        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    packs_unref(p);
}

/* task_json with more members before its end. */
static char *with_members(const char *members)
{
    size_t end = strlen(task_json) - 1;

    return str_printf("%.*s, %s }", (int)end - 1, task_json, members);
}

static void quantities_of_the_regime_are_means_over_a_set(void **state)
{
    CLEANUP(freep)
    char *task =
        with_members("\"regime\": { \"load\": \"batch * heads / 2\", \"rows\": \"(batch + 1) - 1\","
                     "              \"none\": \"1 / (batch - batch)\" }, \"related\": [\"gam\"]");
    const struct pack_definition *d;
    const struct pack *pack;
    struct packs *p;

    put_pack(*state, "fam", task);
    p = load(*state);
    pack = packs_get(p, 0);
    for (size_t i = 0; i < pack->n_problems; i++)
        fail_msg("%s", pack->problems[i]);
    d = packs_find(p, "fam_h4");
    assert_int_equal(pack->n_regime, 3);
    assert_string_equal(pack->regime[0].name, "load");
    /* Batches of 1 and 2: their geometric mean is the root of 2. */
    assert_true(fabs(pack_set(d, "cpu")->regime[0] - 2 * sqrt(2)) < 1e-12);
    assert_true(fabs(pack_set(d, "cpu")->regime[1] - sqrt(2)) < 1e-12);
    assert_true(pack_set(d, "cpu")->regime[2] == 0);
    /* An empty batch has no logarithm. */
    assert_true(pack_set(d, "smoke")->regime[0] == 0);
    /* Another definition: its own workloads and constants. */
    assert_true(fabs(pack_set(packs_find(p, "fam_h8"), "cpu")->regime[0] - 12) < 1e-12);
    assert_int_equal(pack->n_related, 1);
    assert_string_equal(pack->related[0], "gam");
    packs_unref(p);
}

static void a_wrong_regime_is_a_problem_of_the_pack(void **state)
{
    static const struct {
        const char *members, *words;
    } cases[] = {
        { "\"regime\": []", "'regime' must be an object" },
        { "\"regime\": { \"load\": 3 }", "'load' must be a name with a formula" },
        { "\"regime\": { \"load\": \"batch * nothing\" }", "a name that is no axis at column 9" },
        { "\"regime\": { \"load\": \"batch +\" }", "no name, number or '(' at column 8" },
        { "\"regime\": { \"load\": \"(batch\" }", "no ')'" },
        { "\"regime\": { \"load\": \"batch batch\" }", "no operator" },
        { "\"regime\": { \"load\": \"1..2\" }", "no number" },
        { "\"related\": \"gam\"", "'related' must be a list" },
        { "\"related\": [7]", "entry 1 of 'related'" },
    };

    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        CLEANUP(freep) char *task = with_members(cases[i].members);
        struct packs *p;
        bool told = false;

        put_pack(*state, "fam", task);
        p = load(*state);
        for (size_t k = 0; k < packs_get(p, 0)->n_problems; k++)
            told = told || strstr(packs_get(p, 0)->problems[k], cases[i].words);
        if (!told)
            fail_msg("'%s' is not told as '%s'", cases[i].members, cases[i].words);
        packs_unref(p);
    }
}

static void a_broken_pack_hides_no_other_and_is_told_everything(void **state)
{
    static const char broken[] =
        "{ \"format\": 1, \"family\": \"bad\", \"module\": \"task.c\", \"baseline\": \"none.c\","
        "  \"axes\": { \"n\": \"var\", \"m\": \"both\" },"
        "  \"definitions\": [ { \"name\": \"bad_1\", \"axes\": { \"n\": 1 } } ],"
        "  \"inputs\": [ { \"name\": \"x\", \"dtype\": \"f31\", \"shape\": [] },"
        "                { \"name\": \"z\", \"dtype\": \"f32\", \"shape\": [\"n +\", \"k\"] } ],"
        "  \"outputs\": [ { \"name\": \"y\", \"dtype\": \"f32\", \"shape\": [] } ] }";
    static const char *const expected[] = { "none.c",
                                            "axis 'm' must be",
                                            "'dtype'",
                                            "entry 1 of the shape of tensor 'z'",
                                            "entry 2 of the shape of tensor 'z'",
                                            "output 'y' needs a tolerance",
                                            "bad_1: 'n' is no 'const' axis",
                                            "cpu.jsonl line 1" };
    const struct pack *bad;
    struct packs *p;
    json_auto_t *j = NULL;

    put_pack(*state, "fam", task_json);
    put_pack(*state, "bad", broken);
    {
        CLEANUP(freep) char *at = str_printf("%s/worse", (char *)*state);

        put(at, "task.json", "{ \"format\": 1, \"famly\": \"x\" ");
    }
    p = load(*state);
    assert_int_equal(packs_count(p), 3);
    bad = packs_get(p, 0);
    for (size_t i = 0; i < ARRAY_LEN(expected); i++) {
        bool found = false;

        for (size_t k = 0; k < bad->n_problems; k++)
            found = found || strstr(bad->problems[k], expected[i]);
        if (!found)
            fail_msg("no problem says '%s'", expected[i]);
    }
    assert_null(packs_find(p, "bad_1"));
    assert_non_null(packs_find(p, "fam_h4"));
    j = packs_to_json(p);
    assert_int_equal(json_array_size(json_object_get(j, "tasks")), 2);
    assert_int_equal(json_array_size(json_object_get(j, "broken")), 2);
    packs_unref(p);
}

/* A space without parameters is one to search, but nothing that a template can be tuned in. */
static void a_template_without_tunables_is_a_problem(void **state)
{
    CLEANUP(freep) char *at = str_printf("%s/fam", (char *)*state);
    struct packs *p;

    put_pack(*state, "fam", task_json);
    put(at, "template.space.json", "{\"parameters\":[],\"constraints\":[]}");
    p = load(*state);
    assert_int_equal(packs_get(p, 0)->n_problems, 1);
    assert_non_null(strstr(packs_get(p, 0)->problems[0], "'parameters' of at least one"));
    packs_unref(p);
}

static void the_first_pack_keeps_a_definition_that_two_name(void **state)
{
    struct packs *p;

    put_pack(*state, "a", task_json);
    put_pack(*state, "b", task_json);
    p = load(*state);
    assert_int_equal(packs_get(p, 0)->n_problems, 0);
    assert_true(packs_get(p, 1)->n_problems > 0);
    assert_ptr_equal(packs_find(p, "fam_h4")->pack, packs_get(p, 0));
    packs_unref(p);
}

static void the_folders_are_named_when_none_can_be_listed(void **state)
{
    const char *const dirs[] = { "/nowhere/at/all" };
    struct packs *p;
    struct err err;

    (void)state;
    assert_fails(packs_load(dirs, 1, &p, &err), err, ERR_IO);
    assert_non_null(strstr(err.msg, "/nowhere/at/all"));
    assert_fails(packs_load(dirs, 0, &p, &err), err, ERR_IO);
}

static void a_pack_is_shown_with_and_without_sources(void **state)
{
    const char *names[4];
    struct packs *p;
    json_auto_t *brief = NULL, *full = NULL;

    put_pack(*state, "fam", task_json);
    p = load(*state);
    brief = pack_definition_to_json(packs_find(p, "fam_h4"), false);
    full = pack_definition_to_json(packs_find(p, "fam_h4"), true);
    assert_null(json_object_get(json_object_get(brief, "baseline"), "text"));
    assert_string_equal(jsonx_str(json_object_get(full, "template_source"), "text", ""),
                        "int tunable;\n");
    assert_int_equal(jsonx_int(json_object_get(brief, "constants"), "dim", 0), 128);
    assert_int_equal(json_array_size(json_object_get(brief, "inputs")), 1);
    assert_non_null(json_object_get(json_object_get(brief, "space"), "parameters"));
    assert_int_equal(packs_suggest(p, "fam_h3", names, 4), 2);
    assert_int_equal(packs_suggest(p, "entirely_different", names, 4), 0);
    packs_unref(packs_ref(p));
    packs_unref(p);
}

/* The packs of this repository are good ones. */
static void the_packs_that_ship_have_no_problem(void **state)
{
    struct packs *p = load(KS_SOURCE_DIR "/tasks");

    (void)state;
    for (size_t i = 0; i < packs_count(p); i++) {
        if (packs_get(p, i)->n_problems)
            fail_msg("%s: %s", packs_get(p, i)->dir, packs_get(p, i)->problems[0]);
    }
    assert_non_null(packs_find(p, "gqa_paged_decode_h32_kv4_d128_ps1"));
    packs_unref(p);
}

#define IN_DIR(test) cmocka_unit_test_setup_teardown(test, test_dir_setup, test_dir_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_DIR(a_pack_is_found_and_read),
        IN_DIR(source_keys_are_sha256_of_the_text),
        IN_DIR(quantities_of_the_regime_are_means_over_a_set),
        IN_DIR(a_wrong_regime_is_a_problem_of_the_pack),
        IN_DIR(a_template_without_tunables_is_a_problem),
        IN_DIR(a_broken_pack_hides_no_other_and_is_told_everything),
        IN_DIR(the_first_pack_keeps_a_definition_that_two_name),
        cmocka_unit_test(the_folders_are_named_when_none_can_be_listed),
        IN_DIR(a_pack_is_shown_with_and_without_sources),
        cmocka_unit_test(the_packs_that_ship_have_no_problem),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
