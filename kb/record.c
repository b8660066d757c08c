/* SPDX-License-Identifier: Apache-2.0 */
/* Claims, evidence, retractions and links: their field tables and the rules between fields. */
#include "record.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "fields.h"
#include "record_text.h"

enum {
    LABEL_MAX = 96,
    CELL_PART_MAX = 1024,
    SENTENCE_MAX = 4096,
    FEATURES_MAX = 64,
    EFFECT_Q_MAX = 50 * 1000 * 1000 /* a factor of e^50: beyond any measurement */
};
/* 2200-01-01: a later time is a broken clock. */
static const int64_t TIME_S_MAX = 7258118400;

int64_t quantise_log(double ratio)
{
    return llround(1e6 * log(ratio));
}

const char *fact_kind_name(enum fact_kind kind)
{
    static const char *const names[FACT_COUNT] = { "evaluation", "claim", "evidence", "retraction",
                                                   "link" };

    assert(kind >= 0 && kind < FACT_COUNT);
    return names[kind];
}

/* ---- Claims ---- */

static const char *const bottlenecks[] = { "", "memory", "compute", "latency", NULL };

#define CLAIM(field) #field, FIELD_TEXT, offsetof(struct claim, field)
static const struct field claim_rows[] = {
    { CLAIM(bottleneck), 0, 0, LABEL_MAX, bottlenecks },
    { CLAIM(dtype), FIELD_NAME, 0, LABEL_MAX, NULL },
    { CLAIM(family), FIELD_NAME, 0, LABEL_MAX, NULL },
    { CLAIM(language), FIELD_NAME, 0, LABEL_MAX, NULL },
    { CLAIM(mechanism), 0, 0, SENTENCE_MAX, NULL },
    { CLAIM(param), FIELD_NAME, 0, LABEL_MAX, NULL },
    { CLAIM(requires), 0, 0, CELL_PART_MAX, NULL },
    { CLAIM(statement), FIELD_NONEMPTY, 0, SENTENCE_MAX, NULL },
    { CLAIM(technique), FIELD_NONEMPTY | FIELD_NAME, 0, LABEL_MAX, NULL },
    { CLAIM(with_value), 0, 0, CELL_PART_MAX, NULL },
    { CLAIM(without_value), 0, 0, CELL_PART_MAX, NULL },
    { 0 }
};

/* A feature, "avx2", or a capacity of a device's record, "shared_bytes.block>=65536". */
static bool is_requirement(char *item)
{
    char *sign = strstr(item, ">=");
    size_t digits;
    bool ok;

    if (sign == NULL)
        return str_is_name(item);
    digits = strspn(sign + 2, "0123456789");
    if (digits == 0 || digits > 15 || sign[2] == '0' || sign[2 + digits] != '\0')
        return false;
    *sign = '\0';
    ok = str_is_name(item);
    *sign = '>';
    return ok;
}

/* "a,b,c": requirements, sorted, each once; one set of them has one text. */
static bool is_sorted_list(const char *s)
{
    char previous[LABEL_MAX + 1] = "", item[LABEL_MAX + 1];

    while (*s) {
        size_t len = strcspn(s, ",");

        if (len > LABEL_MAX)
            return false;
        memcpy(item, s, len);
        item[len] = '\0';
        if (!is_requirement(item) || strcmp(previous, item) >= 0)
            return false;
        memcpy(previous, item, len + 1);
        s += len;
        if (*s == ',' && *++s == '\0')
            return false;
    }
    return true;
}

static bool is_empty(const char *s)
{
    return s == NULL || *s == '\0';
}

static int claim_rules(const struct claim *c, struct err *err)
{
    if (c->requires && !is_sorted_list(c->requires))
        return err_set(err, ERR_INVALID,
                       "claim: 'requires' must be names of features, or capacities such as "
                       "'shared_bytes.block>=65536', joined by commas, sorted, each once");
    if (is_empty(c->param) && !(is_empty(c->with_value) && is_empty(c->without_value)))
        return err_set(err, ERR_INVALID,
                       "claim: 'with_value' and 'without_value' need a 'param' that has them");
    return 0;
}

int claim_from_json(const json_t *j, struct claim *out, struct err *err)
{
    struct claim c = { 0 };

    if (fields_parse(claim_rows, "claim", j, &c, err) != 0)
        return -1;
    if (claim_rules(&c, err) != 0) {
        claim_release(&c);
        return -1;
    }
    *out = c;
    return 0;
}

json_t *claim_to_json(const struct claim *c)
{
    return fields_json(claim_rows, c);
}

void claim_release(struct claim *c)
{
    fields_release(claim_rows, c);
}

int claim_write(const struct claim *c, struct buf *out, struct err *err)
{
    if (fields_check(claim_rows, "claim", c, err) != 0 || claim_rules(c, err) != 0)
        return -1;
    return fields_write(claim_rows, "claim", c, out, err);
}

int claim_read(const char *text, size_t len, struct claim *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    return fields_read(claim_rows, "claim", text, len, out, err);
}

int claim_view(char *text, size_t len, struct claim *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    return fields_view(claim_rows, "claim", text, len, out, err);
}

int claim_dup(const struct claim *c, struct claim *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    for (const struct field *row = claim_rows; row->name; row++) {
        const char *from = *(char *const *)((const char *)c + row->offset);
        char *copy = strdup(from ? from : "");

        if (copy == NULL) {
            claim_release(out);
            return err_set(err, ERR_NOMEM, "no memory to copy a claim");
        }
        *(char **)((char *)out + row->offset) = copy;
    }
    return 0;
}

/* ---- Evidence ---- */

static const char *const evidence_kinds[] = { "pair", "failure", NULL };

#define EVIDENCE(field) #field, FIELD_TEXT, offsetof(struct evidence, field)
static const struct field evidence_rows[] = {
    { "claim", FIELD_ID, offsetof(struct evidence, claim), 0, 0, 0, NULL },
    { EVIDENCE(device), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { EVIDENCE(device_class), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { "effect_q", FIELD_INT, offsetof(struct evidence, effect_q), 0, -EFFECT_Q_MAX, EFFECT_Q_MAX,
      NULL },
    { EVIDENCE(failure), FIELD_NAME, 0, LABEL_MAX, NULL },
    { "features", FIELD_OBJECT, offsetof(struct evidence, features), FIELD_NUMBERS, 0, FEATURES_MAX,
      NULL },
    { EVIDENCE(kind), 0, 0, LABEL_MAX, evidence_kinds },
    { "measured_at_s", FIELD_COUNT, offsetof(struct evidence, measured_at_s), 0, 0, TIME_S_MAX,
      NULL },
    { "sd_q", FIELD_INT, offsetof(struct evidence, sd_q), 0, 0, EFFECT_Q_MAX, NULL },
    { EVIDENCE(shape), FIELD_CELL, 0, CELL_PART_MAX, NULL },
    { "steered", FIELD_BOOL, offsetof(struct evidence, steered), 0, 0, 0, NULL },
    { EVIDENCE(task), FIELD_NAME | FIELD_NONEMPTY, 0, LABEL_MAX, NULL },
    { EVIDENCE(toolchain), FIELD_CELL, 0, CELL_PART_MAX, NULL },
    { "with", FIELD_ID, offsetof(struct evidence, with), 0, 0, 0, NULL },
    { "without", FIELD_ID, offsetof(struct evidence, without), FIELD_MAY_LACK, 0, 0, NULL },
    { 0 }
};

static int evidence_rules(const struct evidence *e, struct err *err)
{
    bool pair = strcmp(e->kind, "pair") == 0;

    if (pair && (e->without.hex[0] == '\0' || !is_empty(e->failure)))
        return err_set(err, ERR_INVALID,
                       "evidence: a pair has an evaluation in 'without' and an empty 'failure'");
    if (!pair && (e->without.hex[0] != '\0' || is_empty(e->failure)))
        return err_set(err, ERR_INVALID,
                       "evidence: a failure has an empty 'without' and its class in 'failure'");
    if (!pair && (e->effect_q != 0 || e->sd_q != 0))
        return err_set(err, ERR_INVALID,
                       "evidence: a failure has no effect; 'effect_q' and 'sd_q' must be 0");
    return 0;
}

int evidence_from_json(const json_t *j, struct evidence *out, struct err *err)
{
    struct evidence e = { 0 };

    if (fields_parse(evidence_rows, "evidence", j, &e, err) != 0)
        return -1;
    if (evidence_rules(&e, err) != 0) {
        evidence_release(&e);
        return -1;
    }
    *out = e;
    return 0;
}

json_t *evidence_to_json(const struct evidence *e)
{
    return fields_json(evidence_rows, e);
}

void evidence_release(struct evidence *e)
{
    fields_release(evidence_rows, e);
}

int evidence_write(const struct evidence *e, struct buf *out, struct err *err)
{
    if (fields_check(evidence_rows, "evidence", e, err) != 0 || evidence_rules(e, err) != 0)
        return -1;
    return fields_write(evidence_rows, "evidence", e, out, err);
}

int evidence_read(const char *text, size_t len, struct evidence *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    return fields_read(evidence_rows, "evidence", text, len, out, err);
}

int evidence_view(char *text, size_t len, struct evidence *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    return fields_view(evidence_rows, "evidence", text, len, out, err);
}

void evidence_leave(struct evidence *e)
{
    fields_leave(evidence_rows, e);
}

/* ---- Retractions ---- */

static const struct field retraction_rows[] = {
    { "kind", FIELD_FACT, offsetof(struct retraction, kind), 0, 0, 0, NULL },
    { "reason", FIELD_TEXT, offsetof(struct retraction, reason), FIELD_NONEMPTY, 0, SENTENCE_MAX,
      NULL },
    { "target", FIELD_ID, offsetof(struct retraction, target), 0, 0, 0, NULL },
    { 0 }
};

int retraction_from_json(const json_t *j, struct retraction *out, struct err *err)
{
    struct retraction r = { 0 };

    if (fields_parse(retraction_rows, "retraction", j, &r, err) != 0)
        return -1;
    *out = r;
    return 0;
}

json_t *retraction_to_json(const struct retraction *r)
{
    return fields_json(retraction_rows, r);
}

void retraction_release(struct retraction *r)
{
    fields_release(retraction_rows, r);
}

int retraction_write(const struct retraction *r, struct buf *out, struct err *err)
{
    if (fields_check(retraction_rows, "retraction", r, err) != 0)
        return -1;
    return fields_write(retraction_rows, "retraction", r, out, err);
}

int retraction_read(const char *text, size_t len, struct retraction *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    return fields_read(retraction_rows, "retraction", text, len, out, err);
}

/* ---- Links ---- */

static const struct field link_rows[] = {
    { "a", FIELD_ID, offsetof(struct link, a), 0, 0, 0, NULL },
    { "b", FIELD_ID, offsetof(struct link, b), 0, 0, 0, NULL },
    { 0 }
};

static int link_rules(const struct link *l, struct err *err)
{
    if (strcmp(l->a.hex, l->b.hex) >= 0)
        return err_set(err, ERR_INVALID,
                       "link: 'a' must be the smaller of two different content addresses");
    return 0;
}

int link_from_json(const json_t *j, struct link *out, struct err *err)
{
    struct link l = { 0 };

    if (fields_parse(link_rows, "link", j, &l, err) != 0 || link_rules(&l, err) != 0)
        return -1;
    *out = l;
    return 0;
}

json_t *link_to_json(const struct link *l)
{
    return fields_json(link_rows, l);
}

int link_write(const struct link *l, struct buf *out, struct err *err)
{
    if (fields_check(link_rows, "link", l, err) != 0 || link_rules(l, err) != 0)
        return -1;
    return fields_write(link_rows, "link", l, out, err);
}

int link_read(const char *text, size_t len, struct link *out, struct err *err)
{
    memset(out, 0, sizeof(*out));
    return fields_read(link_rows, "link", text, len, out, err);
}
