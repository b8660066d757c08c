/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic T4 text; see t4_text.h. */
#include "unit/daemon/t4_text.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

/* A bowl over tile and block with a ridge from the layout; unroll 4 with the largest block fails.
 */
static double time_of(const struct t4_synthetic *s, unsigned tile, unsigned block, unsigned unroll,
                      bool packed)
{
    double t = 1 + 0.12 * pow((double)tile - s->tile, 2) + 0.03 * pow((double)block - 5, 2);

    t *= packed ? 0.93 : 1.0;
    t *= s->cliff > 0 && block >= 5 ? s->cliff : 1.0;
    return s->scale * t * (unroll == 2 ? 0.97 : 1.0) *
           (1 + 0.002 * (double)((tile * 7 + block * 3) % 5));
}

static void add_row(const struct t4_synthetic *s, size_t i, struct buf *out)
{
    unsigned tile = (unsigned)(i % 6), block = (unsigned)(i / 6 % 8),
             unroll = (unsigned)(i / 48 % 3);
    bool packed = i / 144 % 2, failed = unroll == 2 && block == 7;
    struct rng rng = rng_derive(s->seed, "samples", i);
    double time = time_of(s, tile, block, 1u << unroll, packed), sum = 0;
    double v[64];

    if (s->reversed)
        buf_addf(out,
                 "{\"configuration\":{\"width\":15,\"packed\":%s,\"unroll\":%u,\"block\":%u,"
                 "\"tile\":%u},",
                 packed ? "true" : "false", 1u << unroll, 1u << block, 1u << tile);
    else
        buf_addf(out,
                 "{\"configuration\":{\"tile\":%u,\"block\":%u,\"unroll\":%u,\"packed\":%s,"
                 "\"width\":15},",
                 1u << tile, 1u << block, 1u << unroll, packed ? "true" : "false");
    if (failed) {
        buf_addf(out, "\"invalidity\":\"compile\",\"times\":{\"compilation\":1},\"measurements\":"
                      "[{\"name\":\"time\",\"value\":\"CompilationFailedConfig\",\"unit\":\"\"}],"
                      "\"objectives\":[\"time\"]}");
        return;
    }
    for (unsigned k = 0; k < s->sample; k++) {
        v[k] = (double)(float)(time * exp(0.02 * rng_normal(&rng)));
        sum += v[k] / s->sample;
    }
    buf_addf(out, "\"timestamp\":\"2023-12-22 "
                  "09:54:05.5+00:00\",\"invalidity\":\"correct\",\"times\":{\"runtimes\":[");
    for (unsigned k = 0; k < s->sample; k++)
        buf_addf(out, "%s%.17g", k ? "," : "", v[k]);
    buf_addf(out,
             "]},\"measurements\":[{\"name\":\"time\",\"value\":%.17g,\"unit\":\"\"}],"
             "\"objectives\":[\"time\"]}",
             sum);
}

void t4_synthetic_text(const struct t4_synthetic *s, struct buf *out)
{
    buf_addf(
        out,
        "{\"metadata\":{\"timeunit\":\"miliseconds\"},\"schema_version\":\"1.0.0\",\"results\":[");
    for (size_t i = 0; i < T4_SYNTHETIC_ROWS; i++) {
        buf_addf(out, "%s", i ? ",\n" : "");
        add_row(s, s->reversed ? T4_SYNTHETIC_ROWS - 1 - i : i, out);
    }
    buf_addf(out, "]}");
}
