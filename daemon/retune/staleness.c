/* SPDX-License-Identifier: Apache-2.0 */
/* Stale insights; see staleness.h. */
#include "retune/staleness.h"

#include <string.h>

#include "base/mem.h"

enum { DEVICES_MAX = 256 };

struct devices {
    size_t n;
    char *names[DEVICES_MAX], *versions[DEVICES_MAX];
};

static void devices_release(struct devices *d)
{
    for (size_t i = 0; i < d->n; i++) {
        free(d->names[i]);
        free(d->versions[i]);
    }
    d->n = 0;
}

static int add_device(void *ctx, const char *key, const json_t *doc)
{
    struct devices *d = ctx;
    char *versions = versions_of_device(doc);

    if (*versions == '\0') {
        free(versions);
        return 0;
    }
    d->names[d->n] = xstrdup(key);
    d->versions[d->n++] = versions;
    return d->n == DEVICES_MAX;
}

static int find_devices(struct kb *kb, const char *device, struct devices *out, struct err *err)
{
    json_auto_t *doc = NULL;

    if (device == NULL)
        return kb_each_doc(kb, KB_DEVICE, add_device, out, err);
    if (kb_get_doc(kb, KB_DEVICE, device, &doc, err) != 0)
        return -1;
    add_device(out, device, doc);
    return 0;
}

/* Copies, because evidence is read outside the table's lock. */
struct copies {
    struct insight *v;
    size_t n, cap;
};

static int copy_insight(void *ctx, const struct insight *in)
{
    struct copies *c = ctx;
    struct err ignored;

    if (in->state != INSIGHT_ACTIVE || in->n_evidence == 0)
        return 0;
    c->v = xgrow(c->v, &c->cap, c->n + 1, sizeof(*c->v));
    if (insight_dup(in, &c->v[c->n], &ignored) != 0)
        return 1;
    c->n++;
    return 0;
}

static void copies_release(struct copies *c)
{
    for (size_t i = 0; i < c->n; i++)
        insight_release(&c->v[i]);
    free(c->v);
}

/* What one insight's evidence says of each device. */
struct tally {
    uint32_t stale, fresh;
    uint64_t last_s;
    char versions[VERSIONS_TEXT_MAX + 1]; /* of the newest stale one */
};

static int tally_evidence(struct kb *kb, const struct insight *in, const struct devices *devices,
                          struct tally *out, struct err *err)
{
    struct versions_change change;

    for (size_t i = 0; i < in->n_evidence; i++) {
        struct evidence e;

        if (kb_get_evidence(kb, &in->evidence[i], &e, err) != 0)
            return err_ctx(err, "evidence of insight '%.12s'", in->id.hex);
        for (size_t d = 0; d < devices->n; d++) {
            struct tally *t = &out[d];

            if (strcmp(e.device, devices->names[d]) != 0 || *e.toolchain == '\0')
                continue;
            if (versions_compare(e.toolchain, devices->versions[d], &change, 1) == 0) {
                t->fresh++;
            } else {
                if (t->stale++ == 0 || e.measured_at_s >= t->last_s)
                    snprintf(t->versions, sizeof(t->versions), "%s", e.toolchain);
                t->last_s = MAX(t->last_s, e.measured_at_s);
            }
        }
        evidence_release(&e);
    }
    return 0;
}

static int tell(const struct insight *in, const struct devices *devices, const struct tally *tally,
                int (*fn)(void *ctx, const struct stale_insight *s), void *ctx)
{
    struct versions_change changes[VERSIONS_AXES_MAX];

    for (size_t d = 0; d < devices->n; d++) {
        struct stale_insight s = { .insight = in,
                                   .device = devices->names[d],
                                   .changes = changes,
                                   .stale = tally[d].stale,
                                   .last_s = tally[d].last_s };

        if (tally[d].stale == 0 || tally[d].fresh > 0)
            continue;
        s.n_changes =
            versions_compare(tally[d].versions, devices->versions[d], changes, VERSIONS_AXES_MAX);
        if (fn(ctx, &s) != 0)
            return 1;
    }
    return 0;
}

static int each_copy(struct kb *kb, const struct copies *copies, const struct devices *devices,
                     int (*fn)(void *ctx, const struct stale_insight *s), void *ctx,
                     struct err *err)
{
    CLEANUP(freep) struct tally *tally = xcalloc(devices->n + 1, sizeof(*tally));

    for (size_t i = 0; i < copies->n; i++) {
        memset(tally, 0, (devices->n + 1) * sizeof(*tally));
        if (tally_evidence(kb, &copies->v[i], devices, tally, err) != 0)
            return -1;
        if (tell(&copies->v[i], devices, tally, fn, ctx) != 0)
            break;
    }
    return 0;
}

int staleness_each(struct kb *kb, const char *device,
                   int (*fn)(void *ctx, const struct stale_insight *s), void *ctx, struct err *err)
{
    struct devices devices = { 0 };
    struct copies copies = { 0 };
    int rc = find_devices(kb, device, &devices, err);

    if (rc == 0 && devices.n > 0) {
        if (kb_each_insight(kb, copy_insight, &copies) != 0)
            rc = err_set(err, ERR_NOMEM, "no memory to bring the insights up to date");
        else
            rc = each_copy(kb, &copies, &devices, fn, ctx, err);
    }
    copies_release(&copies);
    devices_release(&devices);
    return rc;
}
