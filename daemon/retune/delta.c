/* SPDX-License-Identifier: Apache-2.0 */
/* Comparing two device records; see delta.h. */
#include "retune/delta.h"

#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* Members that are compared when either record has them, in the order in which they are shown. */
static const char *const numbers[] = {
    "units",
    "cores",
    "threads",
    "clock_mhz",
    "memory_clock_mhz",
    "read_gbs",
    "copy_gbs",
    "fma_gflops",
    "bf16_gflops",
    "memory_bytes",
    "cache_bytes.l1d",
    "cache_bytes.l2",
    "cache_bytes.l3",
    "shared_bytes.block",
    "shared_bytes.unit",
    "registers.block",
    "registers.unit",
    "threads_per_block",
    "threads_per_unit",
    "warp",
};

double delta_number(const json_t *device, const char *path)
{
    const char *dot = strchr(path, '.');
    char head[DELTA_NAME_MAX];

    if (dot == NULL)
        return jsonx_num(device, path, NAN);
    snprintf(head, sizeof(head), "%.*s", (int)(dot - path), path);
    return jsonx_num(json_object_get(device, head), dot + 1, NAN);
}

static void compare_number(struct delta *d, const char *name, const json_t *from, const json_t *to)
{
    struct delta_member *m = &d->members[d->n];
    double a = delta_number(from, name), b = delta_number(to, name);

    if ((isnan(a) && isnan(b)) || d->n == DELTA_MEMBERS_MAX)
        return;
    if (!str_copy(m->name, sizeof(m->name), name))
        return;
    m->from = a > 0 ? a : NAN; /* a probe writes 0 for what the system does not say */
    m->to = b > 0 ? b : NAN;
    d->n++;
}

/* Throughput per data type, "gflops": {"f16": ...}; those of `from` first. */
static void compare_gflops(struct delta *d, const json_t *from, const json_t *to)
{
    const json_t *a = json_object_get(from, "gflops"), *b = json_object_get(to, "gflops");
    char name[DELTA_NAME_MAX];
    const char *dtype;
    json_t *v;

    json_object_foreach ((json_t *)a, dtype, v) {
        snprintf(name, sizeof(name), "gflops.%s", dtype);
        compare_number(d, name, from, to);
    }
    json_object_foreach ((json_t *)b, dtype, v) {
        if (json_object_get(a, dtype) != NULL)
            continue;
        snprintf(name, sizeof(name), "gflops.%s", dtype);
        compare_number(d, name, from, to);
    }
}

bool delta_lists(const json_t *list, const char *name)
{
    json_t *item;
    size_t i;

    json_array_foreach ((json_t *)list, i, item) {
        if (json_is_string(item) && strcmp(json_string_value(item), name) == 0)
            return true;
    }
    return false;
}

/* What `a` lists and `b` does not. Fresh. */
static json_t *only_in(const json_t *a, const json_t *b)
{
    json_t *out = json_array(), *item;
    size_t i;

    json_array_foreach ((json_t *)a, i, item) {
        if (i < DELTA_FEATURES_MAX && json_is_string(item) &&
            !delta_lists(b, json_string_value(item)))
            json_array_append(out, item);
    }
    return out;
}

void delta_of(const json_t *from, const json_t *to, struct delta *out)
{
    const json_t *a = json_object_get(from, "features"), *b = json_object_get(to, "features");
    CLEANUP(freep) char *versions_from = versions_of_device(from);
    CLEANUP(freep) char *versions_to = versions_of_device(to);

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        compare_number(out, numbers[i], from, to);
    compare_gflops(out, from, to);
    /* A recorded device of which nothing is known lists no feature at all. */
    out->features_known = json_array_size(a) > 0 && json_array_size(b) > 0;
    out->added = out->features_known ? only_in(b, a) : json_array();
    out->removed = out->features_known ? only_in(a, b) : json_array();
    out->n_versions =
        versions_compare(versions_from, versions_to, out->versions, VERSIONS_AXES_MAX);
    out->same_class = strcmp(jsonx_str(from, "class", "?"), jsonx_str(to, "class", "")) == 0;
}

void delta_release(struct delta *d)
{
    json_decref(d->added);
    json_decref(d->removed);
    d->added = d->removed = NULL;
}

double delta_ratio(const struct delta *d, const char *member)
{
    for (size_t i = 0; i < d->n; i++)
        if (strcmp(d->members[i].name, member) == 0)
            return d->members[i].to / d->members[i].from;
    return NAN;
}

bool delta_removed(const struct delta *d, const char *feature)
{
    return delta_lists(d->removed, feature);
}

bool delta_added(const struct delta *d, const char *feature)
{
    return delta_lists(d->added, feature);
}

static json_t *number_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *delta_to_json(const struct delta *d)
{
    json_t *members = json_array(), *versions = json_array();

    for (size_t i = 0; i < d->n; i++) {
        const struct delta_member *m = &d->members[i];

        json_array_append_new(members,
                              json_pack("{s:s, s:o, s:o, s:o}", "name", m->name, "from",
                                        number_or_null(m->from), "to", number_or_null(m->to),
                                        "ratio", number_or_null(m->to / m->from)));
    }
    for (size_t i = 0; i < d->n_versions; i++)
        json_array_append_new(versions,
                              json_pack("{s:s, s:s, s:s}", "axis", d->versions[i].axis, "from",
                                        d->versions[i].from, "to", d->versions[i].to));
    return json_pack("{s:o, s:b, s:O, s:O, s:o, s:b}", "members", members, "features_known",
                     d->features_known, "added", d->added, "removed", d->removed, "versions",
                     versions, "same_class", d->same_class);
}
