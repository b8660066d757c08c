/* SPDX-License-Identifier: Apache-2.0 */
/* Sweeping drops what nothing refers to, and nothing else. */
#include "kb_fixture.h"

#include "gc.h"

/* A program document; its id. */
static struct id put_program(struct kb_batch *b, const char *source)
{
    json_t *doc =
        json_pack("{s:s, s:s, s:s}", "language", "c", "settings", "-O3", "source", source);
    struct err err;
    struct id id;

    assert_ok(id_of_json(doc, &id, &err));
    assert_ok(kb_batch_put_doc(b, KB_PROGRAM, id.hex, doc, &err));
    json_decref(doc);
    return id;
}

static void put_doc(struct kb_batch *b, enum kb_doc kind, const char *key, const struct id *program)
{
    json_t *doc = json_pack("{s:{s:s}}", "scope", "program", program->hex);
    struct err err;

    assert_ok(kb_batch_put_doc(b, kind, key, doc, &err));
    json_decref(doc);
}

static bool has(struct kb *kb, enum kb_doc kind, const char *key)
{
    json_t *doc = NULL;
    struct err err;
    bool yes = kb_get_doc(kb, kind, key, &doc, &err) == 0;

    json_decref(doc);
    return yes;
}

static bool starts_with_loose(void *ctx, const char *key)
{
    (void)ctx;
    return str_has_prefix(key, "loose/");
}

static void only_what_nothing_refers_to_goes(void **state)
{
    struct gc_options o = { .dry_run = true, .is_loose = starts_with_loose };
    struct id measured, searched, event, task, side, alone, before;
    struct gc_report r;
    struct sample_evaluation s;
    struct tmp_folder f;
    struct kb_batch *b;
    struct err err;
    struct kb *kb;
    json_t *ev;

    (void)state;
    folder_make(&f);
    kb = base_open(f.path);
    b = kb_batch_new(kb);
    measured = put_program(b, "measured");
    searched = put_program(b, "searched");
    event = put_program(b, "event");
    task = put_program(b, "task");
    side = put_program(b, "side");
    alone = put_program(b, "alone");
    sample_evaluation(&s, 1);
    s.e.program = measured;
    assert_ok(kb_batch_add_evaluation(b, &s.e, NULL, &err));
    json_decref(s.e.assignment);
    put_doc(b, KB_SEARCH, "s1", &searched);
    put_doc(b, KB_TASK, "t1", &task);
    put_doc(b, KB_SIDE, "other/x", &side);
    put_doc(b, KB_SIDE, "loose/x", &side);
    ev = json_pack("{s:s}", "program", event.hex);
    assert_ok(kb_batch_add_event(b, "s1", 1, ev, &err));
    json_decref(ev);
    commit(b);
    before = digest_of(kb);
    assert_ok(gc_sweep(kb, &o, &r, &err));
    assert_int_equal(r.programs, 1);
    assert_int_equal(r.sides, 1);
    assert_true(r.program_bytes > 20 && r.side_bytes > 20);
    assert_true(has(kb, KB_PROGRAM, alone.hex)); /* only counted */
    o.dry_run = false;
    assert_ok(gc_sweep(kb, &o, &r, &err));
    assert_int_equal(r.programs, 1);
    assert_false(has(kb, KB_PROGRAM, alone.hex));
    assert_false(has(kb, KB_SIDE, "loose/x"));
    assert_true(has(kb, KB_SIDE, "other/x"));
    assert_true(has(kb, KB_PROGRAM, measured.hex) && has(kb, KB_PROGRAM, searched.hex) &&
                has(kb, KB_PROGRAM, event.hex) && has(kb, KB_PROGRAM, task.hex) &&
                has(kb, KB_PROGRAM, side.hex));
    assert_ok(gc_sweep(kb, &o, &r, &err));
    assert_int_equal(r.programs + r.sides, 0);
    assert_string_equal(digest_of(kb).hex, before.hex);
    kb_batch_free(b);
    kb_close(kb);
    kb = base_open(f.path);
    assert_false(has(kb, KB_PROGRAM, alone.hex));
    kb_close(kb);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(only_what_nothing_refers_to_goes) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
