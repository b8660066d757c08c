/* SPDX-License-Identifier: Apache-2.0 */
/*
 * T4 files on any bytes. Beyond not crashing: what is taken has a value or a failure in every row,
 * and a table that is made of it survives being stored.
 */
#include <assert.h>
#include <math.h>

#include "eval/recorded.h"
#include "fuzz/fuzz.h"

static void check_table(const struct t4 *t)
{
    json_auto_t *doc = NULL, *second = NULL;
    struct recorded *r, *again;
    struct err err;
    int rc;

    if (recorded_new(t, false, &r, &err) != 0)
        return;
    rc = recorded_to_json(r, &doc, &err);
    assert(rc == 0);
    rc = recorded_from_json(doc, &again, &err);
    assert(rc == 0);
    rc = recorded_to_json(again, &second, &err);
    assert(rc == 0 && json_equal(doc, second));
    recorded_free(again);
    recorded_free(r);
}

void fuzz_one(const uint8_t *data, size_t len)
{
    struct err err;
    struct t4 t;

    if (t4_parse(data, len, &t, &err) != 0)
        return;
    assert(t.n_ok > 0 && t.n_ok <= t.n);
    for (size_t i = 0; i < t.n; i++) {
        assert((t.rows[i].status == EVAL_OK) == (t.rows[i].value > 0));
        assert(t.rows[i].first + t.rows[i].n <= t.n_samples);
    }
    check_table(&t);
    t4_release(&t);
}
