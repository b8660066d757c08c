/* SPDX-License-Identifier: Apache-2.0 */
/* The ordered map of ids against a sorted array of the same ids. */
#include "idmap.h"
#include "kb_fixture.h"

enum { IDS = 3000 };

struct item {
    struct id id;
    int n;
};

static int by_hex(const void *a, const void *b)
{
    return strcmp(((const struct item *)a)->id.hex, ((const struct item *)b)->id.hex);
}

static void fill(struct idmap *m, unsigned bits, struct item *items)
{
    struct err err;

    assert_ok(idmap_init(m, bits, &err));
    for (int i = 0; i < IDS; i++) {
        items[i] = (struct item){ .id = id_of_number("item", (uint64_t)i), .n = i };
        assert_ok(idmap_add(m, &items[i], &err));
    }
}

static void values_are_found_and_walked_in_id_order(void **arg)
{
    static const unsigned sizes[] = { 0, 4, 12, 16 };
    static struct item items[IDS], sorted[IDS];

    (void)arg;
    for (size_t k = 0; k < ARRAY_LEN(sizes); k++) {
        struct idmap_at at = { 0 };
        struct id absent = id_of_number("other", 1);
        struct idmap m;

        fill(&m, sizes[k], items);
        assert_int_equal(m.count, IDS);
        memcpy(sorted, items, sizeof(items));
        qsort(sorted, IDS, sizeof(*sorted), by_hex);
        for (int i = 0; i < IDS; i++) {
            struct item *next = idmap_next(&m, &at);

            assert_ptr_equal(idmap_get(&m, &items[i].id), &items[i]);
            assert_string_equal(next->id.hex, sorted[i].id.hex);
        }
        assert_null(idmap_next(&m, &at));
        assert_null(idmap_get(&m, &absent));
        idmap_release(&m, NULL);
    }
}

static void a_prefix_finds_one_none_or_several(void **arg)
{
    static struct item items[IDS], sorted[IDS];
    struct idmap m;

    (void)arg;
    fill(&m, 4, items);
    memcpy(sorted, items, sizeof(items));
    qsort(sorted, IDS, sizeof(*sorted), by_hex);
    for (int i = 0; i < IDS; i++)
        for (size_t len = 1; len <= ID_HEX; len += len < 8 ? 1 : 14) {
            char digits[ID_HEX + 1];
            bool before = i > 0 && strncmp(sorted[i - 1].id.hex, sorted[i].id.hex, len) == 0;
            bool after = i + 1 < IDS && strncmp(sorted[i + 1].id.hex, sorted[i].id.hex, len) == 0;
            bool ambiguous;
            struct item *found;

            str_copy(digits, len + 1, sorted[i].id.hex);
            found = idmap_find(&m, digits, &ambiguous);
            assert_int_equal(ambiguous, before || after);
            if (ambiguous)
                assert_null(found);
            else
                assert_string_equal(found->id.hex, sorted[i].id.hex);
        }
    idmap_release(&m, NULL);
}

static void the_empty_map_has_nothing(void **arg)
{
    struct id id = id_of_number("item", 1);
    struct idmap_at at = { 0 };
    bool ambiguous;
    struct idmap m;
    struct err err;

    (void)arg;
    assert_ok(idmap_init(&m, 3, &err));
    assert_null(idmap_get(&m, &id));
    assert_null(idmap_find(&m, "ffff", &ambiguous));
    assert_false(ambiguous);
    assert_null(idmap_next(&m, &at));
    idmap_release(&m, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_found_and_walked_in_id_order),
        cmocka_unit_test(a_prefix_finds_one_none_or_several),
        cmocka_unit_test(the_empty_map_has_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
