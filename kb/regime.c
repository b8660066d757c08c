/* SPDX-License-Identifier: Apache-2.0 */
/* Distances between shape regimes; see regime.h. The tables are the model: changing a row changes
 * what counts as near, and docs/retrieval.md shows them. */
#include "regime.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "base/str.h"

/* ---- The model ---- */

/*
 * What one doubling of an axis weighs: how much it changes which kernel is best. Key-value heads
 * and head sizes decide tiles and vector shapes; lengths and batches only how often they run.
 */
static const struct axis {
    const char *name;
    double weight;
} axes[] = {
    { "batch", 0.2 },         { "dim", 0.5 },          { "ep", 0.15 },
    { "experts", 0.2 },       { "groups", 0.1 },       { "head_dim", 1.0 },
    { "heads", 0.5 },         { "hidden", 0.2 },       { "intermediate", 0.2 },
    { "kv_heads", 1.0 },      { "latent_dim", 0.7 },   { "length", 0.15 },
    { "local_experts", 0.2 }, { "page_size", 0.35 },   { "query_length", 0.2 },
    { "rope_dim", 0.5 },      { "tokens", 0.15 },      { "tokens_per_expert", 0.35 },
    { "top_k", 0.35 },        { "top_k_groups", 0.1 },
};
/* An axis that only one family knows. */
static const double other_weight = 0.5;

static const struct alias {
    const char *alias, *name;
} aliases[] = {
    { "batch_size", "batch" },
    { "bs", "batch" },
    { "context", "length" },
    { "context_length", "length" },
    { "d_head", "head_dim" },
    { "ep_degree", "ep" },
    { "ep_size", "ep" },
    { "expert_parallel", "ep" },
    { "experts_per_rank", "local_experts" },
    { "experts_per_token", "top_k" },
    { "head_dim_ckv", "latent_dim" },
    { "head_dim_kpe", "rope_dim" },
    { "head_size", "head_dim" },
    { "hidden_size", "hidden" },
    { "intermediate_size", "intermediate" },
    { "kv_len", "length" },
    { "kv_length", "length" },
    { "moe_intermediate_size", "intermediate" },
    { "n_experts", "experts" },
    { "n_group", "groups" },
    { "num_attention_heads", "heads" },
    { "num_experts", "experts" },
    { "num_experts_per_tok", "top_k" },
    { "num_heads", "heads" },
    { "num_key_value_heads", "kv_heads" },
    { "num_kv_heads", "kv_heads" },
    { "num_local_experts", "local_experts" },
    { "num_qo_heads", "heads" },
    { "num_tokens", "tokens" },
    { "qo_heads", "heads" },
    { "qo_len", "query_length" },
    { "seq_len", "length" },
    { "seqlen", "length" },
    { "sequence_length", "length" },
    { "topk", "top_k" },
    { "topk_group", "top_k_groups" },
};

static const struct alias dtypes[] = {
    { "bfloat16", "bf16" }, { "e4m3", "fp8" },    { "e5m2", "fp8" },          { "f8", "fp8" },
    { "f8_e4m3", "fp8" },   { "f8_e5m2", "fp8" }, { "f8e4m3", "fp8" },        { "float16", "f16" },
    { "float32", "f32" },   { "float64", "f64" }, { "float8_e4m3fn", "fp8" }, { "fp16", "f16" },
    { "fp32", "f32" },      { "fp64", "f64" },    { "fp8_e4m3", "fp8" },      { "fp8_e5m2", "fp8" },
    { "half", "f16" },      { "i8", "int8" },
};

/* Types that come with scales: kernels for them unpack, those for others do not. */
static const char *const quantised[] = { "fp8", "fp4", "int8", "int4", "mxfp4", "nvfp4", "mxfp8" };

/* An axis that one side lacks counts as half a doubling of it; all of them at most 1 together. */
static const double missing_steps = 0.5, missing_most = 1.0;
static const double near_least = 0.3;
static const double cap_block_scale = 0.4, cap_dtype = 0.3, cap_quantisation = 0.15;
/* What is left of the likeness where only the families are related. */
static const double related_share = 0.3;

/* ---- Names ---- */

static const char *alias_find(const struct alias *table, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcasecmp(table[i].alias, name) == 0)
            return table[i].name;
    return NULL;
}

static const struct axis *axis_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(axes); i++)
        if (strcasecmp(axes[i].name, name) == 0)
            return &axes[i];
    return NULL;
}

const char *regime_axis_name(const char *name)
{
    const struct axis *a = axis_find(name);
    const char *canonical = a ? a->name : alias_find(aliases, ARRAY_LEN(aliases), name);

    return canonical ? canonical : name;
}

bool regime_axis_known(const char *name)
{
    return axis_find(name) != NULL || alias_find(aliases, ARRAY_LEN(aliases), name) != NULL;
}

char *regime_dtype_name(const char *name, char out[REGIME_LABEL_MAX])
{
    const char *canonical = alias_find(dtypes, ARRAY_LEN(dtypes), name);

    str_copy(out, REGIME_LABEL_MAX, canonical ? canonical : name);
    for (char *c = out; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    return out;
}

const char *regime_level_name(enum regime_level level)
{
    static const char *const names[REGIME_LEVEL_COUNT] = { "same regime", "near regime",
                                                           "same family", "related family",
                                                           "nothing in common" };

    return names[level];
}

/* ---- Axes ---- */

static bool is_axis_name(const char *name)
{
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");

    return n > 0 && n < REGIME_NAME_MAX && name[n] == '\0' && !isdigit((unsigned char)name[0]);
}

/* Where the axis is, or would be. */
static size_t axis_place(const struct regime *r, const char *name, bool *found)
{
    size_t i = 0;
    int order = -1;

    while (i < r->n && (order = strcmp(r->axes[i].name, name)) < 0)
        i++;
    *found = i < r->n && order == 0;
    return i;
}

int regime_put(struct regime *r, const char *name, double value, struct err *err)
{
    bool found;
    size_t at;

    if (!is_axis_name(name))
        return err_set(err, ERR_INVALID,
                       "'%.60s' names no axis of a shape; letters, digits and '_' are allowed, at "
                       "most %d",
                       name, REGIME_NAME_MAX - 1);
    if (!isfinite(value) || value < 0 || value > 1e18)
        return err_set(err, ERR_INVALID, "axis '%s' is %g; a number from 0 to 1e18 is allowed",
                       name, value);
    name = regime_axis_name(name);
    at = axis_place(r, name, &found);
    if (!found) {
        if (r->n == REGIME_AXES_MAX)
            return err_set(err, ERR_LIMIT, "a shape has at most %d axes", REGIME_AXES_MAX);
        memmove(&r->axes[at + 1], &r->axes[at], (r->n - at) * sizeof(r->axes[0]));
        r->n++;
        str_copy(r->axes[at].name, REGIME_NAME_MAX, name);
    }
    r->axes[at].value = value;
    return 0;
}

bool regime_get(const struct regime *r, const char *name, double *out)
{
    bool found;
    size_t at = axis_place(r, regime_axis_name(name), &found);

    if (found)
        *out = r->axes[at].value;
    return found;
}

bool regime_is_empty(const struct regime *r)
{
    return r->n == 0 && r->dtype[0] == '\0' && r->block_scale[0] == '\0';
}

void regime_complete(struct regime *r, const struct regime *from)
{
    struct err ignored;
    double v;

    for (size_t i = 0; i < from->n; i++)
        if (!regime_get(r, from->axes[i].name, &v))
            regime_put(r, from->axes[i].name, from->axes[i].value, &ignored);
    if (r->dtype[0] == '\0')
        str_copy(r->dtype, sizeof(r->dtype), from->dtype);
    if (r->block_scale[0] == '\0')
        str_copy(r->block_scale, sizeof(r->block_scale), from->block_scale);
}

/* ---- Text ---- */

/* "64", "4k", "1.5M": a count. */
static bool read_count(const char *s, double *out)
{
    size_t len = strlen(s);
    char digits[40];
    double unit = 1;

    if (len == 0 || len >= sizeof(digits))
        return false;
    memcpy(digits, s, len + 1);
    if (strchr("kKM", digits[len - 1]) != NULL) {
        unit = digits[len - 1] == 'M' ? 1048576 : 1024;
        digits[len - 1] = '\0';
    }
    if (!str_to_double(digits, out))
        return false;
    *out *= unit;
    return true;
}

static void trim(char *s)
{
    size_t skip = strspn(s, " \t"), len;

    memmove(s, s + skip, strlen(s + skip) + 1);
    for (len = strlen(s); len > 0 && strchr(" \t", s[len - 1]) != NULL;)
        s[--len] = '\0';
}

/* "128" and "128x128" are the same blocks. */
static void put_block_scale(struct regime *r, const char *text)
{
    size_t digits = strspn(text, "0123456789");

    if (digits > 0 && text[digits] == '\0' && digits < 10)
        snprintf(r->block_scale, sizeof(r->block_scale), "%sx%s", text, text);
    else
        str_copy(r->block_scale, sizeof(r->block_scale), text);
}

static int check_label(const char *name, const char *value, struct err *err)
{
    if (str_is_name(value) && strlen(value) < REGIME_LABEL_MAX)
        return 0;
    return err_set(err, ERR_INVALID,
                   "'%s' of the shape is '%.60s'; a name of at most %d letters, "
                   "digits, '_', '.' and '-' is allowed",
                   name, value, REGIME_LABEL_MAX - 1);
}

static int put_part(struct regime *r, char *part, struct err *err)
{
    char *value = strchr(part, '=');
    double v;

    if (value == NULL)
        return err_set(err, ERR_INVALID, "'%.60s' is no part of a shape; allowed is NAME=NUMBER",
                       part);
    *value++ = '\0';
    trim(part);
    trim(value);
    if ((strcasecmp(part, "dtype") == 0 || strcasecmp(part, "block_scale") == 0) &&
        check_label(part, value, err) != 0)
        return -1;
    if (strcasecmp(part, "dtype") == 0) {
        regime_dtype_name(value, r->dtype);
        return 0;
    }
    if (strcasecmp(part, "block_scale") == 0) {
        put_block_scale(r, value);
        return 0;
    }
    if (!read_count(value, &v))
        return err_set(err, ERR_INVALID,
                       "axis '%.60s' is '%.60s'; a number is allowed, such as 64 "
                       "or 4k",
                       part, value);
    return regime_put(r, part, v, err);
}

static int read_parts(const char *text, bool strict, struct regime *out, struct err *err)
{
    *out = (struct regime){ 0 };
    while (*text) {
        size_t len = strcspn(text, ",");
        char part[160];

        if (len < sizeof(part)) {
            memcpy(part, text, len);
            part[len] = '\0';
            trim(part);
            if (*part && put_part(out, part, err) != 0 && strict)
                return -1;
        } else if (strict) {
            return err_set(err, ERR_INVALID,
                           "a part of the shape has %zu bytes; at most %zu are "
                           "allowed",
                           len, sizeof(part) - 1);
        }
        text += len + (text[len] == ',');
    }
    return 0;
}

int regime_parse(const char *text, struct regime *out, struct err *err)
{
    struct regime r;

    if (strnlen(text, REGIME_TEXT_MAX + 1) > REGIME_TEXT_MAX)
        return err_set(err, ERR_INVALID, "the shape is longer than the %d bytes allowed",
                       REGIME_TEXT_MAX);
    if (read_parts(text, true, &r, err) != 0)
        return -1;
    if (regime_is_empty(&r))
        return err_set(err, ERR_INVALID,
                       "the shape is empty; allowed are parts such as experts=64,topk=8");
    *out = r;
    return 0;
}

void regime_read(const char *text, struct regime *out)
{
    struct err ignored;

    read_parts(text, false, out, &ignored);
}

static bool add_part(char *out, size_t size, size_t *len, const char *name, const char *value)
{
    int n = snprintf(out + *len, size - *len, "%s%s=%s", *len ? "," : "", name, value);

    if (n < 0 || (size_t)n >= size - *len) {
        out[*len] = '\0';
        return false;
    }
    *len += (size_t)n;
    return true;
}

char *regime_text(const struct regime *r, char *out, size_t size)
{
    size_t len = 0;
    bool room = true;

    out[0] = '\0';
    for (size_t i = 0; i < r->n && room; i++) {
        char value[32];

        snprintf(value, sizeof(value), "%.6g", r->axes[i].value);
        room = add_part(out, size, &len, r->axes[i].name, value);
    }
    if (room && r->block_scale[0])
        room = add_part(out, size, &len, "block_scale", r->block_scale);
    if (room && r->dtype[0])
        add_part(out, size, &len, "dtype", r->dtype);
    return out;
}

/* ---- Distance ---- */

static double weight_of(const char *name)
{
    const struct axis *a = axis_find(name);

    return a ? a->weight : other_weight;
}

/* Axes count from 0 upward; a step from nothing to one is as far as a doubling. */
static double doublings(double a, double b)
{
    double x = a > 0 ? a : 0.5, y = b > 0 ? b : 0.5;

    return fabs(log2(x) - log2(y));
}

/* Both lists are sorted: one walk over the two. */
static void measure(const struct regime *a, const struct regime *b, bool both,
                    struct regime_match *m)
{
    double missing = 0;
    size_t i = 0, j = 0;

    while (i < a->n || j < b->n) {
        int order = i == a->n ? 1 : j == b->n ? -1 : strcmp(a->axes[i].name, b->axes[j].name);

        if (order == 0) {
            m->distance +=
                weight_of(a->axes[i].name) * doublings(a->axes[i].value, b->axes[j].value);
            m->shared++;
        } else if (both || order < 0) {
            missing += missing_steps * weight_of(order < 0 ? a->axes[i].name : b->axes[j].name);
        }
        i += order <= 0;
        j += order >= 0;
    }
    m->distance += MIN(missing, missing_most);
}

static bool is_quantised(const char *dtype)
{
    for (size_t i = 0; i < ARRAY_LEN(quantised); i++)
        if (strcmp(quantised[i], dtype) == 0)
            return true;
    return false;
}

static void cap(struct regime_match *m, double most, const char *guard)
{
    if (m->guard == NULL)
        m->guard = guard;
    m->similarity = MIN(m->similarity, most);
}

/* Where the numbers' format differs, the best kernel does, however near the shape is. */
static void guard(const struct regime *a, const struct regime *b, struct regime_match *m)
{
    bool types = a->dtype[0] && b->dtype[0] && strcmp(a->dtype, b->dtype) != 0;
    bool scales =
        a->block_scale[0] && b->block_scale[0] && strcasecmp(a->block_scale, b->block_scale) != 0;

    if (types && is_quantised(a->dtype) != is_quantised(b->dtype))
        cap(m, cap_quantisation, "quantisation");
    if (types)
        cap(m, cap_dtype, "dtype");
    if (scales)
        cap(m, cap_block_scale, "block scale");
}

/* `both`: what either side lacks counts; else only what `b` lacks. */
static struct regime_match compare(const struct regime *a, const struct regime *b, bool both,
                                   enum regime_kinship kinship)
{
    struct regime_match m = { .level = REGIME_NONE };

    measure(a, b, both, &m);
    if (kinship == REGIME_OTHER_FAMILY)
        return m;
    m.similarity = exp(-m.distance);
    guard(a, b, &m);
    if (kinship == REGIME_RELATED_FAMILY) {
        m.similarity *= related_share;
        m.level = REGIME_RELATED;
    } else if (m.distance == 0 && m.guard == NULL) {
        m.level = REGIME_SAME;
    } else {
        m.level = m.similarity >= near_least ? REGIME_NEAR : REGIME_FAMILY;
    }
    return m;
}

struct regime_match regime_compare(const struct regime *a, const struct regime *b,
                                   enum regime_kinship kinship)
{
    return compare(a, b, true, kinship);
}

struct regime_match regime_meet(const struct regime *asked, const struct regime *known,
                                enum regime_kinship kinship)
{
    return compare(asked, known, false, kinship);
}
