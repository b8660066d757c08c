/* SPDX-License-Identifier: Apache-2.0 */
/* Rooflines of two devices; see roofline.h. */
#include "retune/roofline.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "devices.h"

const char *roofline_bound_name(enum roofline_bound b)
{
    static const char *const names[ROOFLINE_BOUND_COUNT] = { "unknown", "memory", "compute" };

    return names[b];
}

double roofline_balance(const json_t *device, const char *dtype)
{
    double gbs = jsonx_num(device, "read_gbs", 0), gflops = device_gflops(device, dtype);

    return gbs > 0 && gflops > 0 ? gflops / gbs : NAN;
}

enum roofline_bound roofline_bound(double intensity, double balance)
{
    if (!isfinite(intensity) || !isfinite(balance))
        return ROOFLINE_UNKNOWN;
    return intensity < balance ? ROOFLINE_MEMORY : ROOFLINE_COMPUTE;
}

static json_t *number_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static void place_workload(const char *task, const json_t *w, struct roofline_shift *s,
                           json_t *rows)
{
    double flops = jsonx_num(w, "flops", NAN), bytes = jsonx_num(w, "bytes", NAN);
    double intensity = bytes > 0 ? flops / bytes : NAN;
    enum roofline_bound from = roofline_bound(intensity, s->balance_from),
                        to = roofline_bound(intensity, s->balance_to);

    if (!isfinite(intensity))
        return;
    if (from != ROOFLINE_UNKNOWN && to != ROOFLINE_UNKNOWN) {
        s->workloads++;
        s->crossed += from != to;
    }
    json_array_append_new(rows, json_pack("{s:s, s:s, s:f, s:s, s:s}", "task", task, "workload",
                                          jsonx_str(w, "name", ""), "intensity", intensity,
                                          "bound_from", roofline_bound_name(from), "bound_to",
                                          roofline_bound_name(to)));
}

void roofline_place(const char *task, const char *dtype, const json_t *workloads,
                    const json_t *from, const json_t *to, struct roofline_shift *out, json_t *rows)
{
    double ratio;
    json_t *w;
    size_t i;

    *out = (struct roofline_shift){ .balance_from = roofline_balance(from, dtype),
                                    .balance_to = roofline_balance(to, dtype) };
    ratio = out->balance_to / out->balance_from;
    out->moved = !(ratio <= ROOFLINE_MOVED && ratio >= 1 / ROOFLINE_MOVED);
    json_array_foreach ((json_t *)workloads, i, w)
        place_workload(task, w, out, rows);
    json_array_append_new(rows, json_pack("{s:s, s:o, s:o, s:b}", "task", task, "balance_from",
                                          number_or_null(out->balance_from), "balance_to",
                                          number_or_null(out->balance_to), "moved", out->moved));
}
