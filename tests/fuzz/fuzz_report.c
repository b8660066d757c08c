/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a compiler says and makes, on any bytes: the same bytes as its log, its vectoriser's lines,
 * its stack usage and its object. Beyond not crashing: lists keep to their caps, and the report is
 * JSON that can be written.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "object.h"
#include "report.h"

/* A buffer of text; a NUL ends it, as in all that the report reads as text. */
static struct buf text_of(const uint8_t *data, size_t len)
{
    struct buf b = { .max = 4 << 20 };
    struct err ignored;

    buf_add(&b, data, len, &ignored);
    return b;
}

void fuzz_one(const uint8_t *data, size_t len)
{
    struct build b = { .object = text_of(data, len),
                       .log = text_of(data, len),
                       .loops = text_of(data, len),
                       .stack = text_of(data, len) };
    json_t *report = report_make(&b, buf_str(&b.log), "gcc 12.2.0");
    CLEANUP(freep) char *text = json_dumps(report, 0);
    struct object_size size;

    assert(report != NULL && text != NULL);
    assert(json_array_size(json_object_get(report, "diagnostics")) <= REPORT_DIAGNOSTICS_MAX);
    assert(json_array_size(json_object_get(report, "missed")) <= REPORT_LOOPS_MAX);
    assert(json_array_size(json_object_get(report, "vectorised")) <= REPORT_LOOPS_MAX);
    if (object_measure(data, len, &size))
        assert(size.kernel_text <= size.text);
    json_decref(report);
    build_release(&b);
}
