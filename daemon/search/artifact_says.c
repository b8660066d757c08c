/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an answer says of its program beside the code: NOTE, EXPECT and USES; see artifact_impl.h.
 * A prediction is read as written or refused, never read as something else.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/artifact_impl.h"

enum { USE_MAX = 64 /* bytes of one insight's id */ };

static void say_note(struct artifact *out, const char *s, size_t len)
{
    CLEANUP(freep) char *before = out->note;
    CLEANUP(freep) char *text = xcalloc(1, len + 1);
    size_t n;

    memcpy(text, s, len);
    out->note = str_printf("%s%s%s", before, *before ? " " : "", text);
    if (out->note == NULL)
        abort(); /* as xmalloc does */
    n = strlen(out->note);
    if (n <= ARTIFACT_NOTE_MAX)
        return;
    n = ARTIFACT_NOTE_MAX;
    while (n > 0 && ((unsigned char)out->note[n] & 0xc0) == 0x80)
        n--; /* not inside a character */
    out->note[n] = '\0';
}

/* A number and what may stand behind it; moves *s. */
static bool take_number(const char **s, double *out)
{
    char *end;

    *s += strspn(*s, " \t~");
    if (!isdigit((unsigned char)**s) || strncasecmp(*s, "0x", 2) == 0) /* no hexadecimal either */
        return false;
    *out = strtod(*s, &end);
    *s = end;
    return isfinite(*out);
}

static void take_times(const char **s)
{
    *s += strspn(*s, " \t");
    if (**s == 'x' || **s == 'X')
        (*s)++;
    else if (strncmp(*s, "\xc3\x97", 2) == 0) /* the multiplication sign */
        *s += 2;
    *s += strspn(*s, " \t");
}

/* A remark behind a prediction, which has no number that could change it. */
static bool is_remark(const char *s)
{
    if (strpbrk(s, "0123456789") != NULL)
        return false;
    return *s == '\0' || strchr(".,;(", *s) != NULL || strncmp(s, "over ", 5) == 0 ||
           strncmp(s, "vs", 2) == 0;
}

/* Moves behind "+-" and its spellings; false when there is none. */
static bool take_plus_minus(const char **s)
{
    static const char *const signs[] = { "+-", "+/-", "\xc2\xb1" };

    for (size_t i = 0; i < ARRAY_LEN(signs); i++)
        if (strncmp(*s, signs[i], strlen(signs[i])) == 0) {
            *s += strlen(signs[i]);
            return true;
        }
    return false;
}

/* "20%" as a deviation of the logarithm. */
static bool take_percent(const char **s, double *sd)
{
    double percent;

    if (!take_number(s, &percent) || percent > 1000)
        return false;
    *s += strspn(*s, " \t");
    if (**s != '%')
        return false;
    *s += 1 + strspn(*s + 1, " \t");
    *sd = log1p(percent / 100);
    return true;
}

/* "1.8x", "1.8 +- 20%", "1.5-2.0x" (whose ends are one deviation from the middle). */
static bool read_expected(const char *s, double *mean, double *sd)
{
    double low, high;

    *sd = 0;
    if (!take_number(&s, &low))
        return false;
    high = low;
    take_times(&s);
    if (*s == '-') {
        s++;
        if (!take_number(&s, &high))
            return false;
        take_times(&s);
        *sd = log(high / low) / 2;
    } else if (take_plus_minus(&s) && !take_percent(&s, sd)) {
        return false;
    }
    if (!is_remark(s) || !(low >= 1e-3 && low <= high && high <= 1e4))
        return false;
    *mean = (log(low) + log(high)) / 2;
    return true;
}

static void say_expected(struct artifact *out, const char *s, size_t len, size_t number,
                         struct complaints *c)
{
    static const char *const none[] = { "", "none", "unknown", "?", "n/a" };
    char text[200] = "", seen[ARTIFACT_QUOTE_MAX];
    double mean, sd;

    if (len < sizeof(text))
        memcpy(text, s, len);
    for (size_t i = 0; i < ARRAY_LEN(none) && len < sizeof(text); i++)
        if (strcasecmp(text, none[i]) == 0)
            return;
    if (len >= sizeof(text) || !read_expected(text, &mean, &sd)) {
        complain(c,
                 "line %zu of the answer expects '%s', which is neither like '1.8x' nor like '1.8x "
                 "+- 20%%'",
                 number, artifact_quote(s, len, seen));
        return;
    }
    if (out->has_expected && (mean != out->expected || sd != out->expected_sd))
        complain(c, "line %zu of the answer expects something else than a line before it", number);
    out->has_expected = true;
    out->expected = mean;
    out->expected_sd = sd;
}

static void say_use(struct artifact *out, const char *s, size_t len)
{
    char id[USE_MAX + 1] = "";

    if (len == 0 || len > USE_MAX || out->n_uses == ARTIFACT_USES_MAX)
        return;
    memcpy(id, s, len);
    if (strcasecmp(id, "none") == 0)
        return;
    for (size_t i = 0; i < out->n_uses; i++)
        if (strcmp(out->uses[i], id) == 0)
            return;
    out->uses[out->n_uses++] = xstrdup(id);
}

/* Words of letters, digits and "_.:-"; all else parts them. */
static void say_uses(struct artifact *out, const char *s, size_t len)
{
    size_t from = 0;

    for (size_t i = 0; i <= len; i++) {
        size_t to = i;

        if (i < len && (isalnum((unsigned char)s[i]) || strchr("_.:-", s[i])))
            continue;
        while (to > from && strchr(".:-", s[to - 1]))
            to--;
        say_use(out, s + from, to - from);
        from = i + 1;
    }
}

/* Behind "NAME:" and the marks that a model puts around it; NULL when the line is another. */
static const char *header_value(const char *line, size_t line_len, const char *name, size_t *len)
{
    const char *s = line, *end = line + line_len;
    size_t n = strlen(name);

    while (s < end && strchr(" \t*-#>_`", *s))
        s++;
    if ((size_t)(end - s) <= n || memcmp(s, name, n) != 0)
        return NULL;
    for (s += n; s < end && strchr("*_`", *s); s++)
        ;
    if (s == end || *s != ':')
        return NULL;
    for (s++; s < end && strchr(" \t*_`", *s); s++)
        ;
    while (end > s && strchr(" \t*`", end[-1]))
        end--;
    *len = (size_t)(end - s);
    return s;
}

void artifact_hear(struct artifact *out, const char *line, size_t line_len, size_t number,
                   struct complaints *c)
{
    const char *s;
    size_t len;

    if ((s = header_value(line, line_len, "NOTE", &len)) != NULL)
        say_note(out, s, len);
    else if ((s = header_value(line, line_len, "EXPECT", &len)) != NULL)
        say_expected(out, s, len, number, c);
    else if ((s = header_value(line, line_len, "USES", &len)) != NULL)
        say_uses(out, s, len);
}
