/* SPDX-License-Identifier: Apache-2.0 */
/* base/jsonw: text that jansson reads back as what was written. */
#include <math.h>
#include <string.h>

#include "base/jsonw.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "unit/test.h"

static json_t *read_back(const struct buf *b)
{
    struct err err;
    json_t *v = NULL;

    assert_int_equal(jsonx_parse(buf_str(b), b->len, "the text", &v, &err), 0);
    return v;
}

static void commas_and_nesting_are_right(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 4096 };
    struct err err;
    struct jsonw w = { .out = &b, .err = &err };
    static const uint8_t bytes[] = { 0, 0xab, 0xff };

    (void)state;
    jsonw_open(&w, '{');
    jsonw_key(&w, "a");
    jsonw_open(&w, '[');
    jsonw_close(&w, ']');
    jsonw_key(&w, "b");
    jsonw_open(&w, '[');
    jsonw_int(&w, INT64_MIN);
    jsonw_bool(&w, true);
    jsonw_null(&w);
    jsonw_open(&w, '{');
    jsonw_close(&w, '}');
    jsonw_hex(&w, bytes, sizeof(bytes));
    jsonw_close(&w, ']');
    jsonw_close(&w, '}');
    assert_int_equal(jsonw_end(&w), 0);
    assert_string_equal(buf_str(&b),
                        "{\"a\":[],\"b\":[-9223372036854775808,true,null,{},\"00abff\"]}");
}

static void every_byte_of_a_text_comes_back(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 4096 };
    struct err err;
    struct jsonw w = { .out = &b, .err = &err };
    json_auto_t *v = NULL;
    char text[140];

    (void)state;
    for (int i = 0; i < 127; i++)
        text[i] = (char)(i + 1);
    memcpy(text + 127, "\xc3\xa9\xe2\x82\xac", 6);
    jsonw_text(&w, text);
    assert_int_equal(jsonw_end(&w), 0);
    v = read_back(&b);
    assert_string_equal(json_string_value(v), text);
}

static void numbers_come_back_as_the_same_doubles(void **state)
{
    struct rng r = rng_seeded(3);

    (void)state;
    for (int i = 0; i < 20000; i++) {
        CLEANUP(buf_release) struct buf b = { .max = 4096 };
        struct err err;
        struct jsonw w = { .out = &b, .err = &err };
        json_auto_t *v = NULL;
        int64_t micro = (int64_t)(rng_u64(&r) % 100000001) - 50000000;
        double real = ldexp((double)rng_u64(&r), (int)rng_below(&r, 200) - 150);

        if (i < 3)
            micro = i - 1;
        jsonw_open(&w, '[');
        jsonw_micro(&w, micro);
        jsonw_real(&w, -real);
        jsonw_real(&w, 3);
        jsonw_close(&w, ']');
        assert_int_equal(jsonw_end(&w), 0);
        v = read_back(&b);
        assert_true(json_is_real(json_array_get(v, 0)));
        assert_true(json_real_value(json_array_get(v, 0)) == (double)micro / 1e6);
        assert_true(json_real_value(json_array_get(v, 1)) == -real);
        assert_true(json_is_real(json_array_get(v, 2)));
    }
}

static void the_first_failure_stays(void **state)
{
    CLEANUP(buf_release) struct buf b = { .max = 16 };
    CLEANUP(buf_release) struct buf c = { .max = 4096 };
    struct err err;
    struct jsonw w = { .out = &b, .err = &err }, x = { .out = &c, .err = &err };

    (void)state;
    jsonw_text(&w, "longer than the cap of this buffer");
    assert_int_equal(jsonw_end(&w), -1);
    assert_int_equal(err.code, ERR_LIMIT);
    jsonw_int(&w, 1);
    assert_int_equal(jsonw_end(&w), -1);
    assert_int_equal(b.len, 0);
    jsonw_real(&x, NAN);
    assert_int_equal(jsonw_end(&x), -1);
    assert_int_equal(err.code, ERR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(commas_and_nesting_are_right),
        cmocka_unit_test(every_byte_of_a_text_comes_back),
        cmocka_unit_test(numbers_come_back_as_the_same_doubles),
        cmocka_unit_test(the_first_failure_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
