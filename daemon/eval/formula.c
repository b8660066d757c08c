/* SPDX-License-Identifier: Apache-2.0 */
/* A recursive descent over the text; see formula.h. */
#include "eval/formula.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"

struct reader {
    const char *text, *at;
    const struct formula_names *names;
    int depth;
    struct err *err;
};

static int wrong(const struct reader *r, const char *what)
{
    return err_set(r->err, ERR_INVALID, "'%.80s' has %s at column %d", r->text, what,
                   (int)(r->at - r->text) + 1);
}

static void skip_blanks(struct reader *r)
{
    while (*r->at == ' ')
        r->at++;
}

static int read_sum(struct reader *r, double *out);

static int read_word(struct reader *r, double *out)
{
    char word[FORMULA_NAME_MAX + 1];
    size_t n = 0;
    bool number = isdigit((unsigned char)*r->at);

    while (isalnum((unsigned char)r->at[n]) || r->at[n] == '_' || (number && r->at[n] == '.'))
        n++;
    if (n == 0 || n >= sizeof(word))
        return wrong(r, n ? "a name that is too long" : "no name, number or '('");
    memcpy(word, r->at, n);
    word[n] = '\0';
    if (number ? !str_to_double(word, out) : !r->names->find(r->names->ctx, word, out))
        return wrong(r, number ? "no number" : "a name that is no axis");
    r->at += n;
    return 0;
}

static int read_operand(struct reader *r, double *out)
{
    skip_blanks(r);
    if (*r->at != '(')
        return read_word(r, out);
    if (++r->depth > FORMULA_DEPTH_MAX)
        return wrong(r, "too many parentheses");
    r->at++;
    if (read_sum(r, out) != 0)
        return -1;
    if (*r->at != ')')
        return wrong(r, "no ')'");
    r->at++;
    r->depth--;
    return 0;
}

static int read_product(struct reader *r, double *out)
{
    double right;

    if (read_operand(r, out) != 0)
        return -1;
    for (skip_blanks(r); *r->at == '*' || *r->at == '/'; skip_blanks(r)) {
        bool divide = *r->at++ == '/';

        if (read_operand(r, &right) != 0)
            return -1;
        *out = divide ? *out / right : *out * right;
    }
    return 0;
}

static int read_sum(struct reader *r, double *out)
{
    double right;

    if (read_product(r, out) != 0)
        return -1;
    for (skip_blanks(r); *r->at == '+' || *r->at == '-'; skip_blanks(r)) {
        bool minus = *r->at++ == '-';

        if (read_product(r, &right) != 0)
            return -1;
        *out = minus ? *out - right : *out + right;
    }
    return 0;
}

int formula_eval(const char *text, const struct formula_names *names, double *out, struct err *err)
{
    struct reader r = { text, text, names, 0, err };
    double value = 0;

    if (strnlen(text, FORMULA_LEN_MAX + 1) > FORMULA_LEN_MAX)
        return err_set(err, ERR_LIMIT, "a formula has more than %d characters", FORMULA_LEN_MAX);
    if (read_sum(&r, &value) != 0)
        return -1;
    if (*r.at != '\0')
        return wrong(&r, "something that is no operator");
    *out = value;
    return 0;
}
