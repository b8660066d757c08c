/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading the node or the patch of one operation; see world_parse.h. A model writes numbers as
 * texts, on other scales and under other names: what strictness and trust allow is decided here.
 */
#include "search/world_parse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/world_priv.h"

/* What prompts and earlier designs call the things that only the system writes. */
static const char *const system_owned[] = { "solution_ref",
                                            "solution_id",
                                            "solution",
                                            "eval",
                                            "evidence",
                                            "evaluation",
                                            "program",
                                            "objective_q",
                                            "status",
                                            "state",
                                            "attempts",
                                            "failures",
                                            "graft",
                                            "node_type",
                                            "created_round",
                                            "failed_cycles",
                                            "updated_round",
                                            "last_updated_round",
                                            NULL };

void world_parse_refuse_key(struct world_parser *p, const char *where, const char *key)
{
    char seen[120];

    str_visible(key, strlen(key), seen, sizeof(seen));
    for (const char *const *s = system_owned; *s; s++) {
        if (strcmp(*s, key) == 0) {
            world_report_issue(p->report, p->op, "'%s' in %s is written by the system only", seen,
                               where);
            return;
        }
    }
    world_report_issue(p->report, p->op, "%s has the unknown field '%s'", where, seen);
}

/* "0.8", "8/10", "70%", "1.2x": a number as models write it, on the field's own scale. */
static bool number_from_text(const char *text, const struct world_field *f, double *out)
{
    char copy[64], *end;
    double v;

    while (*text == ' ')
        text++;
    if (!str_copy(copy, sizeof(copy), text) || copy[0] == '\0')
        return false;
    v = strtod(copy, &end);
    if (end == copy || !isfinite(v))
        return false;
    if (*end == '/') {
        double whole = strtod(end + 1, &end);

        if (!(whole > 0) || f->max <= 0)
            return false;
        v = v / whole * f->max;
    } else if (*end == '%') {
        v = v / 100 * f->max;
        end++;
    } else if (*end == 'x' || *end == 'X') {
        end++;
    }
    while (*end == ' ')
        end++;
    *out = v;
    return *end == '\0';
}

/* A share written as "7 of 10" or as a percentage, then the nearest value in range. */
static double number_in_range(double v, const struct world_field *f)
{
    if (f->max == 1 && v >= 2 && v <= 10)
        v /= 10;
    else if (f->max == 1 && v > 10 && v <= 100)
        v /= 100;
    else if (f->max == 10 && f->type == WORLD_FIELD_REAL && v > 10 && v <= 100)
        v /= 10;
    if (f->type == WORLD_FIELD_INT)
        v = trunc(v);
    return v < f->min ? f->min : v > f->max ? f->max : v;
}

static bool read_number(struct world_parser *p, const json_t *v, const struct world_field *f,
                        double *out)
{
    double read = 0;
    char *text;

    if (json_is_number(v)) {
        read = json_number_value(v);
        if (read >= f->min && read <= f->max &&
            (f->type != WORLD_FIELD_INT || read == trunc(read))) {
            *out = read;
            return true;
        }
    } else if (p->mode == WORLD_PARSE_LENIENT && json_is_null(v)) {
        return false;
    }
    text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    if (p->mode == WORLD_PARSE_STRICT) {
        world_report_issue(p->report, p->op, "'%s' is %.80s; it must be %s from %g to %g", f->name,
                           text ? text : "?",
                           f->type == WORLD_FIELD_INT ? "an integer" : "a number", f->min, f->max);
        free(text);
        return false;
    }
    if (!json_is_number(v) &&
        !(json_is_string(v) && number_from_text(json_string_value(v), f, &read))) {
        world_report_repair(p->report, p->op, "'%s' is %.80s; the default was taken", f->name,
                            text ? text : "?");
        free(text);
        return false;
    }
    *out = number_in_range(read, f);
    if (!json_is_number(v) || *out != read)
        world_report_repair(p->report, p->op, "'%s' is %.80s; it was read as %g", f->name,
                            text ? text : "?", *out);
    free(text);
    return true;
}

static void read_text(struct world_parser *p, const json_t *v, const struct world_field *f,
                      struct world_spec *s)
{
    CLEANUP(freep) char *dumped = NULL;

    if (json_is_string(v)) {
        world_spec_text(s, f->bit, json_string_value(v));
    } else if (f->bit == WORLD_SET_IMPACTS && json_is_object(v)) {
        dumped = jsonx_canonical(v);
        world_spec_text(s, f->bit, dumped);
    } else if (!(json_is_null(v) && !p->trusted)) {
        world_report_issue(p->report, p->op, "'%s' must be a text", f->name);
    }
}

/* The names of another scale for what the table has: a factor over the baseline, difficulty 0..3.
 */
static bool read_alias(struct world_parser *p, const char *key, const json_t *v,
                       struct world_spec *s)
{
    static const struct world_field factor = {
        WORLD_SET_EXPECTED, "expected_vs_baseline_factor", true, WORLD_FIELD_REAL, 0, 0, 1e-6, 1e6
    };
    static const struct world_field legacy = {
        WORLD_SET_DIFFICULTY, "difficulty_0_to_3", true, WORLD_FIELD_INT, 0, 0, 0, 3
    };
    double read;

    if (strcmp(key, factor.name) == 0) {
        if (!json_is_null(v) && read_number(p, v, &factor, &read))
            world_spec_number(s, WORLD_SET_EXPECTED, log(read));
        return true;
    }
    if (p->mode == WORLD_PARSE_LENIENT && strcmp(key, legacy.name) == 0) {
        if (!(s->set & WORLD_SET_DIFFICULTY) && read_number(p, v, &legacy, &read))
            world_spec_number(s, WORLD_SET_DIFFICULTY, read + 1);
        return true;
    }
    return false;
}

static bool read_field(struct world_parser *p, bool in_action, const char *key, const json_t *v,
                       struct world_spec *s)
{
    double number;

    for (const struct world_field *f = world_fields; f->name; f++) {
        if (f->in_action != in_action || strcmp(f->name, key) != 0)
            continue;
        if (f->type == WORLD_FIELD_TEXT)
            read_text(p, v, f, s);
        else if (read_number(p, v, f, &number))
            world_spec_number(s, f->bit, number);
        return true;
    }
    return in_action && !p->trusted && read_alias(p, key, v, s);
}

static void read_action(struct world_parser *p, json_t *v, struct world_spec *s)
{
    const char *key;
    json_t *field;

    if (!json_is_object(v)) {
        if (!json_is_null(v) || p->trusted)
            world_report_issue(p->report, p->op, "'action' must be an object");
        return;
    }
    json_object_foreach (v, key, field) {
        if (!read_field(p, true, key, field, s))
            world_parse_refuse_key(p, "the action", key);
    }
}

static void read_commitments(struct world_parser *p, json_t *v, struct world_spec *s)
{
    const char *key;
    json_t *field;

    if (!json_is_object(v)) {
        world_report_issue(p->report, p->op, "'commitments' must be an object of texts");
        return;
    }
    if (json_object_size(v) > WORLD_COMMITMENTS_MAX) {
        world_report_issue(p->report, p->op, "%zu commitments; at most %d are allowed",
                           json_object_size(v), WORLD_COMMITMENTS_MAX);
        return;
    }
    json_object_foreach (v, key, field) {
        if (json_is_string(field))
            world_spec_commit(s, key, json_string_value(field));
        else
            world_report_issue(p->report, p->op, "commitment '%.80s' must be a text", key);
    }
}

static void read_graft(struct world_parser *p, const json_t *v, struct world_spec *s)
{
    const char *search = jsonx_str(v, "search", NULL), *insight = jsonx_str(v, "insight", NULL);
    double similarity = jsonx_num(v, "similarity", NAN);

    if (!search || !insight || isnan(similarity))
        world_report_issue(p->report, p->op, "'graft' must hold search, insight and similarity");
    else
        world_spec_graft(s, search, insight, similarity, jsonx_bool(v, "discounted", 0));
}

static void read_kind(struct world_parser *p, const json_t *v, struct world_spec *s)
{
    for (int k = WORLD_DECISION; k < WORLD_KIND_COUNT; k++) {
        if (json_is_string(v) && strcmp(json_string_value(v), world_kind_name(k)) == 0) {
            world_spec_kind(s, k);
            return;
        }
    }
    world_report_issue(p->report, p->op, "'kind' must be 'decision' or 'leaf'");
}

void world_parse_string(struct world_parser *p, const char *key, const json_t *v, unsigned bit,
                        struct world_spec *s)
{
    if (json_is_string(v))
        world_spec_text(s, bit, json_string_value(v));
    else if (!json_is_null(v) || p->trusted)
        world_report_issue(p->report, p->op, "'%s' must be a text", key);
}

void world_parse_spec(struct world_parser *p, const char *where, json_t *v, bool is_new,
                      struct world_spec *s)
{
    const char *key;
    json_t *field;

    if (!json_is_object(v)) {
        world_report_issue(p->report, p->op, "%s must be an object", where);
        return;
    }
    json_object_foreach (v, key, field) {
        if (strcmp(key, "action") == 0)
            read_action(p, field, s);
        else if (is_new && strcmp(key, "node_id") == 0)
            world_parse_string(p, key, field, WORLD_SET_ID, s);
        else if (is_new && strcmp(key, "parent_solution_id") == 0)
            world_parse_string(p, key, field, WORLD_SET_PARENT_PROGRAM, s);
        else if (is_new && strcmp(key, "commitments") == 0)
            read_commitments(p, field, s);
        else if (is_new && strcmp(key, "kind") == 0)
            read_kind(p, field, s);
        else if (is_new && p->trusted && strcmp(key, "graft") == 0)
            read_graft(p, field, s);
        else if (!read_field(p, false, key, field, s))
            world_parse_refuse_key(p, where, key);
    }
}
