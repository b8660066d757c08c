/* SPDX-License-Identifier: Apache-2.0 */
/* Records of a task on a device; see records.h. */
#include "search/records.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "search/memory.h"

enum { RECORDS_MAX = 1 << 18 }; /* of one source: a full table of a recorded space */

void records_release(struct records *r)
{
    free(r->a);
    free(r->log_time);
    free(r->ids);
    free(r->objective_q);
    memset(r, 0, sizeof(*r));
}

static int records_take(void *ctx, uint64_t seq, const struct id *id, const struct evaluation *e)
{
    struct records *r = ctx;
    size_t width = space_n(r->space);
    uint16_t a[SPACE_PARAMS_MAX];
    bool ok = strcmp(e->status, "ok") == 0;
    double shared;

    (void)seq;
    if (strcmp(e->status, "infrastructure") == 0 || r->n >= RECORDS_MAX ||
        !memory_translate(r->space, e->assignment, a, &shared))
        return 0;
    if (r->n == r->cap) {
        r->cap = r->cap ? 2 * r->cap : 256;
        r->a = xrealloc(r->a, r->cap * width * sizeof(*r->a));
        r->log_time = xrealloc(r->log_time, r->cap * sizeof(*r->log_time));
        r->ids = xrealloc(r->ids, r->cap * sizeof(*r->ids));
        r->objective_q = xrealloc(r->objective_q, r->cap * sizeof(*r->objective_q));
    }
    memcpy(r->a + r->n * width, a, width * sizeof(*a));
    r->log_time[r->n] = ok ? -1e-6 * (double)e->objective_q : NAN;
    r->objective_q[r->n] = ok ? e->objective_q : INT64_MIN;
    r->ids[r->n] = *id;
    r->n++;
    r->n_ok += ok;
    r->shared += shared;
    return 0;
}

int records_load(struct kb *kb, const struct space *space, const char *task, const char *device,
                 uint64_t as_of, struct records *out, struct err *err)
{
    int rc;

    *out = (struct records){ .space = space };
    rc = kb_each_evaluation(kb, task, device, as_of, records_take, out, err);
    out->shared = out->n > 0 ? out->shared / (double)out->n : 1;
    return rc;
}

static int by_objective(const void *pa, const void *pb)
{
    int64_t a = *(const int64_t *)pa, b = *(const int64_t *)pb;

    return (a > b) - (a < b);
}

bool records_level(const struct records *r, int64_t *best_q, int64_t *ordinary_q)
{
    CLEANUP(freep) int64_t *sorted = xcalloc(r->n_ok + 1, sizeof(*sorted));
    size_t n = 0;

    for (size_t i = 0; i < r->n; i++)
        if (r->objective_q[i] != INT64_MIN)
            sorted[n++] = r->objective_q[i];
    if (n == 0)
        return false;
    qsort(sorted, n, sizeof(*sorted), by_objective);
    *best_q = sorted[n - 1];
    *ordinary_q = sorted[n / 4];
    return true;
}
