/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tunables that a program declares in comments, as a space; see artifact.h. A line is taken
 * apart here; what makes a space is judged by space_parse, as for a task's template.
 */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/artifact_impl.h"
#include "search/space.h"

enum { TUNABLE_VALUES_MAX = 256, TOKEN_MAX = 200, CONSTRAINT_MAX = 400 };

/* A line being read. */
struct reader {
    const char *at;
    char token[TOKEN_MAX];
    bool quoted;
};

struct tunable {
    char name[TOKEN_MAX], type[8];
    json_t *values, *fallback; /* owned; fallback is NULL until "default" came */
    const char *role;
    char technique[TOKEN_MAX], help[TOKEN_MAX];
};

/* A word, a '|' or a text in quotes; false at the end and where a text in quotes is not closed. */
static bool next_token(struct reader *r)
{
    size_t n = 0;

    r->at += strspn(r->at, " \t\r,");
    r->quoted = *r->at == '"';
    if (*r->at == '\0')
        return false;
    if (r->quoted) {
        const char *end = strchr(r->at + 1, '"');

        if (end == NULL || (size_t)(end - r->at) > TOKEN_MAX)
            return false;
        n = (size_t)(end - r->at - 1);
        memcpy(r->token, r->at + 1, n);
        r->at = end + 1;
    } else if (*r->at == '|') {
        r->token[n++] = *r->at++;
    } else {
        while (*r->at && strchr(" \t\r,|\"", *r->at) == NULL && n + 1 < TOKEN_MAX)
            r->token[n++] = *r->at++;
        if (n + 1 == TOKEN_MAX)
            return false;
    }
    r->token[n] = '\0';
    return true;
}

static bool peek_bar(const struct reader *r)
{
    return r->at[strspn(r->at, " \t\r")] == '|';
}

/* A value of the type as a space document has it; NULL when it is none. */
static json_t *value_of(const char *type, const char *text)
{
    int64_t whole;
    double real;

    if (strcmp(type, "int") == 0)
        return str_to_i64(text, &whole) ? json_integer(whole) : NULL;
    if (strcmp(type, "real") == 0)
        return str_to_double(text, &real) ? json_real(real) : NULL;
    if (strcmp(type, "enum") == 0)
        return *text ? json_string(text) : NULL;
    if (strcmp(text, "true") == 0 || strcmp(text, "1") == 0)
        return json_true();
    if (strcmp(text, "false") == 0 || strcmp(text, "0") == 0)
        return json_false();
    return NULL;
}

static bool known_type(const char *type)
{
    static const char *const types[] = { "int", "real", "bool", "enum" };

    for (size_t i = 0; i < ARRAY_LEN(types); i++)
        if (strcmp(types[i], type) == 0)
            return true;
    return false;
}

/* "8|16|32"; a bool may leave it out. Leaves the reader behind the values. */
static int read_values(struct reader *r, struct tunable *t, char *why, size_t size)
{
    struct reader before = *r;

    t->values = json_array();
    if (strcmp(t->type, "bool") == 0) {
        bool given = next_token(r) && !r->quoted && value_of(t->type, r->token) != NULL;

        *r = before;
        if (!given) {
            json_array_append_new(t->values, json_false());
            json_array_append_new(t->values, json_true());
            return 0;
        }
    }
    for (;;) {
        json_t *v;

        if (!next_token(r) || r->quoted || (v = value_of(t->type, r->token)) == NULL) {
            snprintf(why, size, "value %zu is none of type %s", json_array_size(t->values) + 1,
                     t->type);
            return -1;
        }
        json_array_append_new(t->values, v);
        if (json_array_size(t->values) > TUNABLE_VALUES_MAX) {
            snprintf(why, size, "it has more than %d values", TUNABLE_VALUES_MAX);
            return -1;
        }
        if (!peek_bar(r))
            return 0;
        next_token(r);
    }
}

static int take_default(struct reader *r, struct tunable *t, char *why, size_t size)
{
    if (t->fallback) {
        snprintf(why, size, "it has two defaults");
        return -1;
    }
    if (!next_token(r) || r->quoted || (t->fallback = value_of(t->type, r->token)) == NULL) {
        snprintf(why, size, "its default is no value of type %s", t->type);
        return -1;
    }
    return 0;
}

/* What may follow the values, in any order. */
static int read_options(struct reader *r, struct tunable *t, char *why, size_t size)
{
    char seen[ARTIFACT_QUOTE_MAX];

    while (next_token(r)) {
        if (r->quoted && t->help[0] == '\0') {
            str_copy(t->help, sizeof(t->help), r->token);
        } else if (!r->quoted && strcmp(r->token, "default") == 0) {
            if (take_default(r, t, why, size) != 0)
                return -1;
        } else if (!r->quoted && strcmp(r->token, "structural") == 0) {
            t->role = "structural";
        } else if (!r->quoted && strcmp(r->token, "numeric") == 0) {
            t->role = "numeric";
        } else if (!r->quoted && strcmp(r->token, "technique") == 0 && t->technique[0] == '\0') {
            if (!next_token(r) || !str_is_name(r->token)) {
                snprintf(why, size, "a technique is named by letters, digits and '-'");
                return -1;
            }
            str_copy(t->technique, sizeof(t->technique), r->token);
        } else {
            snprintf(why, size, "'%s' is not understood",
                     artifact_quote(r->token, strlen(r->token), seen));
            return -1;
        }
    }
    if (r->at[strspn(r->at, " \t\r,")] != '\0') {
        snprintf(why, size,
                 "it ends in a text whose quotes are not closed, or in one over %d bytes",
                 TOKEN_MAX - 2);
        return -1;
    }
    if (t->fallback == NULL) {
        snprintf(why, size, "it has no default");
        return -1;
    }
    return 0;
}

/* Words of C, and names that the build or the library own. */
static bool name_is_taken(const char *name)
{
    static const char *const words[] = {
        "auto",  "bool",     "break",  "case",     "char",   "const",    "continue", "default",
        "do",    "double",   "else",   "enum",     "extern", "float",    "for",      "goto",
        "if",    "inline",   "int",    "long",     "main",   "register", "restrict", "return",
        "short", "signed",   "sizeof", "static",   "struct", "switch",   "typedef",  "typeof",
        "union", "unsigned", "void",   "volatile", "while",  "defined",  "asm",      "NULL",
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strcmp(words[i], name) == 0)
            return true;
    return name[0] == '_' || strncasecmp(name, "ks_", 3) == 0;
}

static int read_tunable(const char *text, struct tunable *t, char *why, size_t size)
{
    struct reader r = { .at = text };

    if (!next_token(&r) || r.quoted || !(isalpha((unsigned char)r.token[0]) || *r.token == '_') ||
        r.token[strspn(r.token,
                       "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")]) {
        snprintf(why, size, "it does not begin with a name that can be a macro");
        return -1;
    }
    str_copy(t->name, sizeof(t->name), r.token);
    if (name_is_taken(t->name)) {
        snprintf(
            why, size,
            "'%.80s' is not free: words of C, names with '_' first and KS_... belong to others",
            t->name);
        return -1;
    }
    if (!next_token(&r) || !known_type(r.token)) {
        snprintf(why, size, "behind the name must come int, real, bool or enum");
        return -1;
    }
    str_copy(t->type, sizeof(t->type), r.token);
    t->role = "numeric";
    return read_values(&r, t, why, size) != 0 ? -1 : read_options(&r, t, why, size);
}

static json_t *param_of(const struct tunable *t)
{
    bool ordinal = strcmp(t->type, "int") == 0 || strcmp(t->type, "real") == 0;
    json_t *p = json_pack("{s:s, s:s, s:s, s:s, s:O, s:O}", "name", t->name, "type", t->type,
                          "kind", ordinal ? "ordinal" : "categorical", "role", t->role, "values",
                          t->values, "default", t->fallback);

    if (p && t->technique[0])
        json_object_set_new(p, "technique", json_string(t->technique));
    if (p && t->help[0])
        json_object_set_new(p, "help", json_string(t->help));
    return p;
}

/* ---- What the program makes of a tunable ---- */

/* The number that a macro's text plainly is: "16", "(16)", "16u", "0.5f"; false for all else. */
static bool plain_number(const char *text, double *out)
{
    char copy[64], *end, *from = copy;
    size_t n;

    if (!str_copy(copy, sizeof(copy), text))
        return false;
    n = strlen(copy);
    while (n >= 2 && from[0] == '(' && from[n - 1] == ')') {
        from[n - 1] = '\0';
        from++;
        n -= 2;
    }
    if (*from == '\0')
        return false;
    *out = strtod(from, &end);
    if (end == from)
        return false;
    end += strspn(end, "uUlLfF");
    return *end == '\0' && isfinite(*out);
}

static double number_of_default(const json_t *param)
{
    const json_t *v = json_object_get(param, "default"), *values = json_object_get(param, "values");

    if (json_is_number(v))
        return json_number_value(v);
    if (json_is_boolean(v))
        return json_is_true(v);
    for (size_t i = 0; i < json_array_size(values); i++)
        if (json_equal(v, json_array_get(values, i)))
            return (double)i;
    return NAN; /* space_parse has refused it */
}

static void check_fallback(const struct c_directive *d, const json_t *param, struct complaints *c)
{
    const char *name = json_string_value(json_object_get(param, "name"));
    const char *text = d->rest + strlen(name);
    const char *option = json_string_value(json_object_get(param, "default"));
    char seen[ARTIFACT_QUOTE_MAX];
    double have, want = number_of_default(param);
    size_t n = strlen(name);

    if (*text == '(') {
        complain(c, "line %zu of the program makes the tunable %s a macro with arguments", d->line,
                 name);
        return;
    }
    text += strspn(text, " \t");
    if (!d->guarded) {
        complain(c,
                 "line %zu of the program defines the tunable %s without '#ifndef %s' around it: "
                 "the value that is tried would be lost",
                 d->line, name, name);
        return;
    }
    if (option && strncmp(text, name, n) == 0 && text[n] == '_') {
        if (strcmp(text + n + 1, option) != 0)
            complain(c, "line %zu of the program falls back to %s, but the default of %s is %s",
                     d->line, artifact_quote(text, strlen(text), seen), name, option);
        return;
    }
    if (plain_number(text, &have) && !isnan(want) && have != want)
        complain(c,
                 "line %zu of the program falls back to %s for %s, but its declared default is %g",
                 d->line, artifact_quote(text, strlen(text), seen), name, want);
}

static void check_use(const struct c_text *t, const json_t *param, struct complaints *c)
{
    const char *name = json_string_value(json_object_get(param, "name"));
    size_t n = strlen(name);

    if (!c_text_uses(t, name))
        complain(c,
                 "the tunable %s is declared but not used: the program must read the macro %s "
                 "outside comments",
                 name, name);
    for (size_t i = 0; i < t->n_directives; i++) {
        const struct c_directive *d = &t->directives[i];
        bool mine = strncmp(d->rest, name, n) == 0 && !isalnum((unsigned char)d->rest[n]) &&
                    d->rest[n] != '_';

        if (mine && strcmp(d->name, "define") == 0)
            check_fallback(d, param, c);
        else if (mine && strcmp(d->name, "undef") == 0)
            complain(c, "line %zu of the program undefines the tunable %s", d->line, name);
    }
}

/* ---- All of them ---- */

static void add_tunable(const struct c_remark *r, const char *text, json_t *params,
                        struct complaints *c)
{
    struct tunable t = { 0 };
    char why[200];

    if (read_tunable(text, &t, why, sizeof(why)) != 0)
        complain(c,
                 "line %zu of the program, %s%s: %s; it reads //@tunable NAME int 8|16|32 default "
                 "16 technique tiling \"help\"",
                 r->line, t.name[0] ? "the tunable " : "a tunable", t.name, why);
    else if (json_array_size(params) == ARTIFACT_TUNABLES_MAX)
        complain(c, "line %zu of the program: at most %d tunables may be declared", r->line,
                 ARTIFACT_TUNABLES_MAX);
    else
        json_array_append_new(params, param_of(&t));
    json_decref(t.values);
    json_decref(t.fallback);
}

static void add_constraint(const struct c_remark *r, const char *text, json_t *constraints,
                           struct complaints *c)
{
    size_t n;

    text += strspn(text, " \t");
    n = strlen(text);
    while (n > 0 && isspace((unsigned char)text[n - 1]))
        n--;
    if (n == 0 || n > CONSTRAINT_MAX)
        complain(c, "line %zu of the program: a constraint has 1 to %d bytes", r->line,
                 CONSTRAINT_MAX);
    else if (json_array_size(constraints) == SPACE_CONSTRAINTS_MAX)
        complain(c, "line %zu of the program: at most %d constraints may be declared", r->line,
                 SPACE_CONSTRAINTS_MAX);
    else
        json_array_append_new(constraints, json_stringn(text, n));
}

static void read_remark(const struct c_remark *r, json_t *params, json_t *constraints,
                        struct complaints *c)
{
    const char *word = r->text + 1;
    size_t n = 0;
    char seen[ARTIFACT_QUOTE_MAX];
    bool tunable, constraint;

    while (isalpha((unsigned char)word[n]))
        n++;
    tunable = n == 7 && strncmp(word, "tunable", 7) == 0;
    constraint = n == 10 && strncmp(word, "constraint", 10) == 0;
    if (!tunable && !constraint) {
        if (strncmp(word, "tun", 3) == 0 || strncmp(word, "constr", 6) == 0)
            complain(c, "line %zu of the program: '%s' is neither @tunable nor @constraint",
                     r->line, artifact_quote(r->text, n + 1, seen));
        return;
    }
    if (r->block)
        complain(c, "line %zu of the program: a declaration stands in a // comment of its own",
                 r->line);
    else if (tunable)
        add_tunable(r, word + n, params, c);
    else
        add_constraint(r, word + n, constraints, c);
}

json_t *tunables_read(const struct c_text *t, struct complaints *c)
{
    json_t *params = json_array(), *constraints = json_array();
    json_t *doc = json_pack("{s:o, s:o}", "parameters", params, "constraints", constraints);
    struct space *space = NULL;
    size_t before = c->n;
    struct err err;

    for (size_t i = 0; i < t->n_remarks; i++)
        read_remark(&t->remarks[i], params, constraints, c);
    if (c->n == before && json_array_size(params) == 0 && json_array_size(constraints) > 0)
        complain(c, "the program declares constraints but no tunables");
    if (c->n == before && space_parse(doc, "the tunables", &space, &err) != 0)
        complain(c, "%s", err.msg);
    space_free(space);
    for (size_t i = 0; i < json_array_size(params); i++)
        check_use(t, json_array_get(params, i), c);
    if (c->n == before)
        return doc;
    json_decref(doc);
    return NULL;
}

int artifact_tunables(const char *source, json_t **space, json_t *errors, struct err *err)
{
    struct complaints c = { .list = errors };
    size_t first = json_array_size(errors);
    json_auto_t *utf8 = json_string(source);
    struct c_text t;
    json_t *doc;

    if (utf8 == NULL)
        return err_set(err, ERR_INVALID, "the program is not UTF-8");
    if (strlen(source) > ARTIFACT_SOURCE_MAX)
        return err_set(err, ERR_LIMIT, "the program has over %d bytes", ARTIFACT_SOURCE_MAX);
    c_text_read(source, &t, &c);
    doc = tunables_read(&t, &c);
    c_text_release(&t);
    if (complaints_end(&c, first, "the program", err) != 0) {
        json_decref(doc);
        return -1;
    }
    *space = doc;
    return 0;
}
