/* SPDX-License-Identifier: Apache-2.0 */
/* Packs that users bring: staging, installing, replacing, and readers while the set is swapped. */
#include "eval/pack_install.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "base/str.h"
#include "eval/pack_parse.h"
#include "unit/test.h"

static json_t *files_of(const char *summary)
{
    json_t *task = json_sprintf(
        "{ \"format\": 1, \"family\": \"mine\", \"summary\": \"%s\", \"module\": \"task.c\","
        "  \"baseline\": \"baseline.c\", \"axes\": { \"n\": \"var\" },"
        "  \"definitions\": [ { \"name\": \"mine_one\", \"axes\": {} } ],"
        "  \"inputs\": [ { \"name\": \"x\", \"dtype\": \"f32\", \"shape\": [\"n\"] } ],"
        "  \"outputs\": [ { \"name\": \"y\", \"dtype\": \"f32\", \"shape\": [\"n\"],"
        "                   \"tolerance\": { \"atol\": 1e-3 } } ] }",
        summary);

    return json_pack("{s:o, s:s, s:s, s:s}", "task.json", task, "task.c", "int module;\n",
                     "baseline.c", "int kernel;\n", "workloads/smoke.jsonl",
                     "{\"name\": \"one\", \"axes\": {\"n\": 1}}\n");
}

/* Entries of a folder, hidden ones too. */
static size_t count_entries(const char *path)
{
    DIR *d = opendir(path);
    size_t n = 0;

    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
    closedir(d);
    return n;
}

static struct pack *install(const char *home, const char *summary, bool exists, bool same)
{
    struct pack_stage s = { 0 };
    json_auto_t *files = files_of(summary);
    struct pack *p;
    struct err err;

    assert_ok(pack_stage(home, files, &s, &err), err);
    if (s.pack->n_problems > 0)
        fail_msg("%s", s.pack->problems[0]);
    assert_int_equal(s.exists, exists);
    assert_int_equal(s.same, same);
    assert_ok(pack_stage_install(&s, &p, &err), err);
    assert_null(s.pack);
    pack_stage_release(&s);
    return p;
}

static void an_installed_pack_is_found_in_its_place(void **state)
{
    CLEANUP(freep) char *place = str_printf("%s/mine", (char *)*state);
    struct pack *p = install(*state, "first", false, false);
    const char *dirs[] = { *state };
    struct packs *packs;
    struct err err;

    assert_string_equal(p->dir, place);
    assert_true(str_has_prefix(p->module.path, place));
    assert_true(file_exists(p->module.path));
    assert_true(file_exists(p->definitions[0].sets[0].path));
    assert_ok(packs_load(dirs, 1, &packs, &err), err);
    assert_string_equal(packs_find(packs, "mine_one")->pack->dir, place);
    assert_int_equal(count_entries(*state), 1);
    packs_unref(packs);
    pack_unref(p);
}

static void another_content_replaces_it_and_leaves_nothing_behind(void **state)
{
    struct pack *first = install(*state, "first", false, false);
    struct pack *again = install(*state, "first", true, true);
    struct pack *second = install(*state, "second", true, false);
    struct pack *now = pack_parse(second->dir);

    assert_string_equal(now->summary, "second");
    assert_int_equal(count_entries(*state), 1);
    pack_unref(first);
    pack_unref(again);
    pack_unref(second);
    pack_unref(now);
}

static void a_stage_that_is_not_installed_leaves_nothing(void **state)
{
    struct pack_stage s = { 0 };
    json_auto_t *files = files_of("x");
    struct err err;

    json_object_set_new(files, "stray.c", json_string("int x;\n"));
    json_object_del(files, "task.c");
    assert_ok(pack_stage(*state, files, &s, &err), err);
    assert_int_equal(s.pack->n_problems, 2);
    pack_stage_release(&s);
    assert_int_equal(count_entries(*state), 0);
}

static void a_stage_of_a_dead_daemon_is_removed_at_the_next_start(void **state)
{
    CLEANUP(freep) char *left = str_printf("%s/.import-7", (char *)*state);
    struct err err;

    assert_int_equal(mkdir(left, 0700), 0);
    assert_ok(pack_home_open(*state, &err), err);
    assert_int_equal(count_entries(*state), 0);
}

static void names_and_sizes_are_checked_before_anything_is_written(void **state)
{
    CLEANUP(freep) char *big = malloc(PACK_SOURCE_MAX + 2);
    static const char *const bad[] = { "../x.c", "/x.c", "a/x.c", "workloads/a/b.jsonl", ".x", "" };
    struct err err;

    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct pack_stage s = { 0 };
        json_auto_t *files = json_pack("{s:s}", bad[i], "x");

        assert_fails(pack_stage(*state, files, &s, &err), err, ERR_INVALID);
        pack_stage_release(&s);
    }
    memset(big, 'x', PACK_SOURCE_MAX + 1);
    big[PACK_SOURCE_MAX + 1] = '\0';
    for (int n = 1; n <= 2; n++) {
        struct pack_stage s = { 0 };
        json_auto_t *files = json_object();

        big[PACK_SOURCE_MAX + 1 - (n == 2)] = '\0';
        for (int i = 0; i < (n == 1 ? 1 : 7); i++) {
            char name[16];

            snprintf(name, sizeof(name), "f%d.c", i);
            json_object_set_new(files, name, json_string(big));
        }
        assert_fails(pack_stage(*state, files, &s, &err), err, ERR_LIMIT);
        pack_stage_release(&s);
    }
    assert_int_equal(count_entries(*state), 0);
}

/* ---- readers while the set is swapped ---- */

struct shelf {
    struct packs *slot;
    atomic_bool over;
    atomic_uint looks;
};

static void *look(void *arg)
{
    struct shelf *s = arg;

    while (!atomic_load(&s->over)) {
        CLEANUP(packs_release) struct packs *p = packs_take(&s->slot);
        const struct pack_definition *d = packs_find(p, "mine_one");

        if (d == NULL || strncmp(d->pack->summary, "number ", 7) != 0)
            abort();
        atomic_fetch_add(&s->looks, 1);
    }
    return NULL;
}

static void readers_keep_their_set_while_it_is_swapped(void **state)
{
    struct shelf s = { 0 };
    const char *dirs[] = { *state };
    pthread_t readers[2];
    struct err err;

    pack_unref(install(*state, "number 0", false, false));
    assert_ok(packs_load(dirs, 1, &s.slot, &err), err);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        assert_int_equal(pthread_create(&readers[i], NULL, look, &s), 0);
    for (int i = 1; i <= 200 || (atomic_load(&s.looks) < 100 && i < 100000); i++) {
        CLEANUP(freep) char *dir = str_printf("%s/mine", (char *)*state);
        struct pack *fresh = pack_parse(dir);

        free(fresh->summary);
        fresh->summary = str_printf("number %d", i);
        packs_swap(&s.slot, packs_with(s.slot, fresh));
        assert_int_equal(packs_count(s.slot), 1);
    }
    atomic_store(&s.over, true);
    for (size_t i = 0; i < ARRAY_LEN(readers); i++)
        pthread_join(readers[i], NULL);
    assert_true(atomic_load(&s.looks) >= 100);
    packs_unref(s.slot);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, test_dir_setup, test_dir_teardown)
    const struct CMUnitTest tests[] = {
        CASE(an_installed_pack_is_found_in_its_place),
        CASE(another_content_replaces_it_and_leaves_nothing_behind),
        CASE(a_stage_that_is_not_installed_leaves_nothing),
        CASE(a_stage_of_a_dead_daemon_is_removed_at_the_next_start),
        CASE(names_and_sizes_are_checked_before_anything_is_written),
        CASE(readers_keep_their_set_while_it_is_swapped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
