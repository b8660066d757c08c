/* SPDX-License-Identifier: Apache-2.0 */
/* Constraint expressions: recursive descent into an array of typed nodes; see space_expr.h. */
#include "search/space_expr.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* Whole numbers beyond this are no longer exact in a double. */
#define WHOLE_MAX 9007199254740992.0

enum op {
    OP_CONST,
    OP_VAR,
    OP_NOT,
    OP_NEG,
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_REM,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_AND,
    OP_OR
};

struct node {
    enum op op;
    enum space_expr_type type;
    int16_t a, b;     /* operands */
    int16_t var;      /* OP_VAR */
    double num;       /* OP_CONST */
    const char *text; /* a text literal, not yet bound to a variable; into the source */
    size_t text_len;
};

struct space_expr {
    char *text;
    struct node *nodes;
    int n, root;
    uint64_t vars;
};

struct parser {
    const char *text, *at;
    const struct space_expr_names *names;
    struct node nodes[SPACE_EXPR_NODES_MAX];
    int n, depth;
    struct err *err;
};

static int parse_or(struct parser *p);

static int fail_at(struct parser *p, const char *where, const char *what)
{
    return err_set(p->err, ERR_INVALID, "%s (column %d)", what, (int)(where - p->text) + 1);
}

static void skip_blanks(struct parser *p)
{
    while (*p->at == ' ' || *p->at == '\t')
        p->at++;
}

/* Takes the operator when it stands here; longer ones must be tried first. */
static bool take(struct parser *p, const char *op)
{
    skip_blanks(p);
    if (strncmp(p->at, op, strlen(op)) != 0)
        return false;
    p->at += strlen(op);
    return true;
}

static int add_node(struct parser *p, struct node node)
{
    if (p->n == SPACE_EXPR_NODES_MAX)
        return err_set(p->err, ERR_LIMIT, "the expression has more than %d operators and operands",
                       SPACE_EXPR_NODES_MAX);
    p->nodes[p->n] = node;
    return p->n++;
}

static bool is_number(enum space_expr_type t)
{
    return t == SPACE_EXPR_INT || t == SPACE_EXPR_REAL;
}

static int parse_number(struct parser *p)
{
    const char *start = p->at;
    bool real = false;
    char text[64];
    size_t len;
    double v;

    while (isdigit((unsigned char)*p->at))
        p->at++;
    if (*p->at == '.') {
        real = true;
        for (p->at++; isdigit((unsigned char)*p->at);)
            p->at++;
    }
    if (*p->at == 'e' || *p->at == 'E') {
        real = true;
        p->at++;
        if (*p->at == '+' || *p->at == '-')
            p->at++;
        while (isdigit((unsigned char)*p->at))
            p->at++;
    }
    len = (size_t)(p->at - start);
    if (len >= sizeof(text) || isalpha((unsigned char)*p->at) || *p->at == '_')
        return fail_at(p, start, "this is not a number");
    memcpy(text, start, len);
    text[len] = '\0';
    if (!str_to_double(text, &v) || (!real && v > WHOLE_MAX))
        return fail_at(p, start, "this is not a number within range");
    return add_node(
        p,
        (struct node){ .op = OP_CONST, .type = real ? SPACE_EXPR_REAL : SPACE_EXPR_INT, .num = v });
}

static int parse_text(struct parser *p)
{
    const char *start = p->at, *end = strchr(start + 1, '\'');

    if (end == NULL)
        return fail_at(p, start, "the text literal has no closing '");
    p->at = end + 1;
    return add_node(p, (struct node){ .op = OP_CONST,
                                      .type = SPACE_EXPR_TEXT,
                                      .text = start + 1,
                                      .text_len = (size_t)(end - start - 1) });
}

static int parse_name(struct parser *p)
{
    const char *start = p->at;
    enum space_expr_type type;
    size_t len;
    int var;

    while (isalnum((unsigned char)*p->at) || *p->at == '_')
        p->at++;
    len = (size_t)(p->at - start);
    if ((len == 4 && memcmp(start, "true", 4) == 0) || (len == 5 && memcmp(start, "false", 5) == 0))
        return add_node(
            p, (struct node){ .op = OP_CONST, .type = SPACE_EXPR_BOOL, .num = *start == 't' });
    var = p->names->find(p->names->ctx, start, len, &type);
    if (var < 0)
        return err_set(p->err, ERR_INVALID, "'%.*s' is not a parameter (column %d)",
                       (int)MIN(len, 64), start, (int)(start - p->text) + 1);
    assert(var < 64);
    return add_node(p, (struct node){ .op = OP_VAR, .type = type, .var = (int16_t)var });
}

static int parse_primary(struct parser *p)
{
    int inner;

    skip_blanks(p);
    if (isdigit((unsigned char)*p->at) || *p->at == '.')
        return parse_number(p);
    if (*p->at == '\'')
        return parse_text(p);
    if (isalpha((unsigned char)*p->at) || *p->at == '_')
        return parse_name(p);
    if (*p->at != '(')
        return fail_at(p, p->at,
                       *p->at ? "a number, a 'text', a parameter or ( was expected"
                              : "the expression ends too early");
    p->at++;
    inner = parse_or(p);
    if (inner >= 0 && !take(p, ")"))
        return fail_at(p, p->at, "a ) was expected");
    return inner;
}

static int parse_unary_op(struct parser *p)
{
    const char *start = p->at;
    bool negate = *p->at == '-';
    enum space_expr_type type;
    int a;

    if (!negate && (*p->at != '!' || p->at[1] == '='))
        return parse_primary(p);
    p->at++;
    skip_blanks(p);
    if (++p->depth > SPACE_EXPR_DEPTH_MAX)
        return err_set(p->err, ERR_LIMIT, "the expression nests deeper than %d levels",
                       SPACE_EXPR_DEPTH_MAX);
    a = parse_unary_op(p);
    p->depth--;
    if (a < 0)
        return -1;
    type = p->nodes[a].type;
    if (negate && !is_number(type))
        return fail_at(p, start, "- takes a number");
    if (!negate && type != SPACE_EXPR_BOOL)
        return fail_at(p, start, "! takes a condition");
    return add_node(p,
                    (struct node){ .op = negate ? OP_NEG : OP_NOT, .type = type, .a = (int16_t)a });
}

static int parse_unary(struct parser *p)
{
    skip_blanks(p);
    return parse_unary_op(p);
}

static int arithmetic(struct parser *p, const char *where, enum op op, int a, int b)
{
    enum space_expr_type ta = p->nodes[a].type, tb = p->nodes[b].type;
    bool whole = ta == SPACE_EXPR_INT && tb == SPACE_EXPR_INT;

    if (!is_number(ta) || !is_number(tb))
        return fail_at(p, where, "this operator takes two numbers");
    if (op == OP_REM && !whole)
        return fail_at(p, where, "% takes two whole numbers (a quotient by / is a real one)");
    return add_node(p,
                    (struct node){ .op = op,
                                   .type = whole && op != OP_DIV ? SPACE_EXPR_INT : SPACE_EXPR_REAL,
                                   .a = (int16_t)a,
                                   .b = (int16_t)b });
}

static int parse_product(struct parser *p)
{
    int a = parse_unary(p);

    while (a >= 0) {
        const char *where;
        enum op op;
        int b;

        skip_blanks(p);
        where = p->at;
        if (take(p, "*"))
            op = OP_MUL;
        else if (take(p, "/"))
            op = OP_DIV;
        else if (take(p, "%"))
            op = OP_REM;
        else
            return a;
        b = parse_unary(p);
        a = b < 0 ? -1 : arithmetic(p, where, op, a, b);
    }
    return a;
}

static int parse_sum(struct parser *p)
{
    int a = parse_product(p);

    while (a >= 0) {
        const char *where;
        enum op op;
        int b;

        skip_blanks(p);
        where = p->at;
        if (take(p, "+"))
            op = OP_ADD;
        else if (take(p, "-"))
            op = OP_SUB;
        else
            return a;
        b = parse_product(p);
        a = b < 0 ? -1 : arithmetic(p, where, op, a, b);
    }
    return a;
}

/* Gives a text literal the number that it has as a value of the variable on the other side. */
static int bind_text(struct parser *p, const char *where, struct node *lit,
                     const struct node *other)
{
    int v;

    if (lit->op != OP_CONST || lit->text == NULL)
        return 0;
    if (other->op != OP_VAR)
        return fail_at(p, where, "a text literal compares with a parameter only");
    v = p->names->text_value(p->names->ctx, other->var, lit->text, lit->text_len);
    if (v < 0)
        return err_set(p->err, ERR_INVALID,
                       "'%.*s' is not a value of the parameter it is compared with (column %d)",
                       (int)MIN(lit->text_len, 64), lit->text, (int)(lit->text - p->text));
    lit->num = v;
    return 0;
}

static int comparison(struct parser *p, const char *where, enum op op, int a, int b)
{
    struct node *x = &p->nodes[a], *y = &p->nodes[b];
    bool equality = op == OP_EQ || op == OP_NE;

    if (x->type == SPACE_EXPR_TEXT && y->type == SPACE_EXPR_TEXT) {
        if (!equality)
            return fail_at(p, where, "texts compare by == and != only");
        /* The numbers of two parameters' texts are unrelated. */
        if (x->op == OP_VAR && y->op == OP_VAR && x->var != y->var)
            return fail_at(p, where, "two text parameters do not compare");
        if (bind_text(p, where, x, y) != 0 || bind_text(p, where, y, x) != 0)
            return -1;
    } else if (x->type == SPACE_EXPR_BOOL && y->type == SPACE_EXPR_BOOL) {
        if (!equality)
            return fail_at(p, where, "conditions compare by == and != only");
    } else if (!is_number(x->type) || !is_number(y->type)) {
        return fail_at(p, where, "the two sides of this comparison are of different types");
    }
    return add_node(
        p, (struct node){ .op = op, .type = SPACE_EXPR_BOOL, .a = (int16_t)a, .b = (int16_t)b });
}

static int parse_comparison(struct parser *p)
{
    static const struct {
        const char *text;
        enum op op;
    } ops[] = { { "==", OP_EQ }, { "!=", OP_NE }, { "<=", OP_LE },
                { ">=", OP_GE }, { "<", OP_LT },  { ">", OP_GT } };
    int a = parse_sum(p), b;

    if (a < 0)
        return -1;
    skip_blanks(p);
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        const char *where = p->at;

        if (!take(p, ops[i].text))
            continue;
        b = parse_sum(p);
        return b < 0 ? -1 : comparison(p, where, ops[i].op, a, b);
    }
    return a;
}

static int logical(struct parser *p, const char *where, enum op op, int a, int b)
{
    if (p->nodes[a].type != SPACE_EXPR_BOOL || p->nodes[b].type != SPACE_EXPR_BOOL)
        return fail_at(p, where, "&& and || take two conditions");
    return add_node(
        p, (struct node){ .op = op, .type = SPACE_EXPR_BOOL, .a = (int16_t)a, .b = (int16_t)b });
}

static int parse_and(struct parser *p)
{
    int a = parse_comparison(p);

    while (a >= 0) {
        const char *where;
        int b;

        skip_blanks(p);
        where = p->at;
        if (!take(p, "&&"))
            return a;
        b = parse_comparison(p);
        a = b < 0 ? -1 : logical(p, where, OP_AND, a, b);
    }
    return a;
}

static int parse_or(struct parser *p)
{
    int a;

    if (++p->depth > SPACE_EXPR_DEPTH_MAX)
        return err_set(p->err, ERR_LIMIT, "the expression nests deeper than %d levels",
                       SPACE_EXPR_DEPTH_MAX);
    a = parse_and(p);
    while (a >= 0) {
        const char *where;
        int b;

        skip_blanks(p);
        where = p->at;
        if (!take(p, "||"))
            break;
        b = parse_and(p);
        a = b < 0 ? -1 : logical(p, where, OP_OR, a, b);
    }
    p->depth--;
    return a;
}

static int finish(struct parser *p, int root, struct space_expr **out)
{
    struct space_expr *e = calloc(1, sizeof(*e));

    if (e == NULL)
        return err_set(p->err, ERR_NOMEM, "out of memory");
    e->text = strdup(p->text);
    e->nodes = malloc((size_t)p->n * sizeof(*e->nodes));
    if (e->text == NULL || e->nodes == NULL) {
        space_expr_free(e);
        return err_set(p->err, ERR_NOMEM, "out of memory");
    }
    memcpy(e->nodes, p->nodes, (size_t)p->n * sizeof(*e->nodes));
    e->n = p->n;
    e->root = root;
    for (int i = 0; i < e->n; i++) {
        e->nodes[i].text = NULL; /* it pointed into the caller's text */
        if (e->nodes[i].op == OP_VAR)
            e->vars |= 1ull << e->nodes[i].var;
    }
    *out = e;
    return 0;
}

int space_expr_parse(const char *text, const struct space_expr_names *names,
                     struct space_expr **out, struct err *err)
{
    CLEANUP(freep) struct parser *p = NULL;
    int root;

    if (strlen(text) > SPACE_EXPR_LEN_MAX)
        return err_set(err, ERR_LIMIT, "the expression has %zu bytes, at most %d are allowed",
                       strlen(text), SPACE_EXPR_LEN_MAX);
    p = calloc(1, sizeof(*p));
    if (p == NULL)
        return err_set(err, ERR_NOMEM, "out of memory");
    p->text = p->at = text;
    p->names = names;
    p->err = err;
    root = parse_or(p);
    if (root < 0)
        return -1;
    skip_blanks(p);
    if (*p->at != '\0')
        return fail_at(p, p->at, "the expression should end here");
    if (p->nodes[root].type != SPACE_EXPR_BOOL)
        return fail_at(p, p->text, "the expression is not a condition");
    return finish(p, root, out);
}

void space_expr_free(struct space_expr *e)
{
    if (e == NULL)
        return;
    free(e->text);
    free(e->nodes);
    free(e);
}

const char *space_expr_text(const struct space_expr *e)
{
    return e->text;
}

uint64_t space_expr_vars(const struct space_expr *e)
{
    return e->vars;
}

/* NaN marks a division by zero; every comparison with one is false, and the root tests for it. */
static double eval(const struct node *nodes, int i, const double *vars)
{
    const struct node *n = &nodes[i];
    double a, b;

    if (n->op == OP_CONST)
        return n->num;
    if (n->op == OP_VAR)
        return vars[n->var];
    a = eval(nodes, n->a, vars);
    if (isnan(a))
        return a;
    if (n->op == OP_NOT)
        return a == 0.0;
    if (n->op == OP_NEG)
        return -a;
    if (n->op == OP_AND && a == 0.0)
        return 0.0;
    if (n->op == OP_OR && a != 0.0)
        return 1.0;
    b = eval(nodes, n->b, vars);
    if (isnan(b))
        return b;
    switch (n->op) {
    case OP_ADD:
        return a + b;
    case OP_SUB:
        return a - b;
    case OP_MUL:
        return a * b;
    case OP_DIV:
        return b == 0.0 ? (double)NAN : a / b;
    case OP_REM:
        return b == 0.0 ? (double)NAN : fmod(a, b);
    case OP_EQ:
        return a == b;
    case OP_NE:
        return a != b;
    case OP_LT:
        return a < b;
    case OP_LE:
        return a <= b;
    case OP_GT:
        return a > b;
    case OP_GE:
        return a >= b;
    case OP_AND:
    case OP_OR:
        return b != 0.0;
    case OP_CONST:
    case OP_VAR:
    case OP_NOT:
    case OP_NEG:
        break;
    }
    return (double)NAN;
}

bool space_expr_eval(const struct space_expr *e, const double *vars)
{
    double v = eval(e->nodes, e->root, vars);

    return !isnan(v) && v != 0.0;
}
