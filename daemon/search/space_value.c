/* SPDX-License-Identifier: Apache-2.0 */
/* One typed value: from JSON, as text for a build macro, shown in an error; see space_impl.h. */
#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/space_impl.h"

static const json_int_t whole_max = 1ll << 53; /* exact in a double up to here */

bool space_is_word(const char *s, bool may_start_with_digit)
{
    if (*s == '\0' || strlen(s) > SPACE_NAME_MAX ||
        (!may_start_with_digit && isdigit((unsigned char)*s)))
        return false;
    for (; *s; s++)
        if (!isalnum((unsigned char)*s) && *s != '_')
            return false;
    return true;
}

/* As C source reads it: a real keeps a point, so that 1.0 does not become a whole number. */
static char *real_text(double v)
{
    char text[40];

    for (int digits = 6; digits <= 17; digits++) {
        snprintf(text, sizeof(text), "%.*g", digits, v);
        if (strtod(text, NULL) == v)
            break;
    }
    if (strpbrk(text, ".e") == NULL)
        strncat(text, ".0", sizeof(text) - strlen(text) - 1);
    return xstrdup(text);
}

static char *whole_text(double v)
{
    char text[40];

    snprintf(text, sizeof(text), "%lld", (long long)v);
    return xstrdup(text);
}

/* Reads one value of the type; `*num` and the owned `*text` are set on success. */
int space_value_read(enum space_type type, const json_t *v, double *num, char **text,
                     struct err *err)
{
    switch (type) {
    case SPACE_INT:
        *num = (double)json_integer_value(v);
        if (!json_is_integer(v) || json_integer_value(v) > whole_max ||
            json_integer_value(v) < -whole_max)
            return err_set(err, ERR_INVALID, "must be a whole number of at most 2^53");
        *text = whole_text(*num);
        return 0;
    case SPACE_REAL:
        *num = json_number_value(v) + 0.0; /* -0 is 0 */
        if (!json_is_number(v) || !isfinite(*num))
            return err_set(err, ERR_INVALID, "must be a finite number");
        *text = real_text(*num);
        return 0;
    case SPACE_BOOL:
        if (!json_is_boolean(v))
            return err_set(err, ERR_INVALID, "must be true or false");
        *num = json_is_true(v);
        *text = xstrdup(*num != 0.0 ? "1" : "0");
        return 0;
    case SPACE_ENUM:
        if (!json_is_string(v) || !space_is_word(json_string_value(v), true) ||
            strlen(json_string_value(v)) != json_string_length(v))
            return err_set(err, ERR_INVALID, "must be a string of at most %d letters, digits and _",
                           SPACE_NAME_MAX);
        *num = 0.0;
        *text = xstrdup(json_string_value(v));
        return 0;
    case SPACE_TYPE_COUNT:
        break;
    }
    assert(false);
    return -1;
}

char *space_shown(const json_t *v, char *out, size_t size)
{
    CLEANUP(freep) char *text = v ? jsonx_canonical(v) : NULL;

    return str_visible(text ? text : "(none)", text ? strlen(text) : 6, out, size);
}

int space_value_of_json(const struct space_param *p, const json_t *v, uint16_t *out)
{
    struct err ignored;
    double num;
    char *text = NULL;
    int found = -1;

    if (v == NULL || space_value_read(p->type, v, &num, &text, &ignored) != 0)
        return -1;
    for (uint16_t i = 0; i < p->n_values && found < 0; i++)
        if (strcmp(p->values[i].text, text) == 0)
            found = i;
    free(text);
    if (found < 0)
        return -1;
    *out = (uint16_t)found;
    return 0;
}
