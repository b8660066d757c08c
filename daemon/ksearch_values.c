/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers and texts of a K-Search artifact, each as it can be used; see ksearch_read_impl.h. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "ksearch_read_impl.h"

/* ---- Sentences ---- */

static void add_sentence(json_t *list, size_t *n, const char *fmt, va_list args)
    __attribute__((format(printf, 3, 0)));
static void add_sentence(json_t *list, size_t *n, const char *fmt, va_list args)
{
    char text[500], seen[600];

    if ((*n)++ >= KSEARCH_SENTENCES_MAX)
        return;
    vsnprintf(text, sizeof(text), fmt, args);
    json_array_append_new(list, json_string(str_visible(text, strlen(text), seen, sizeof(seen))));
}

void ksearch_repair(struct ksearch_run *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add_sentence(r->repairs, &r->n_repairs, fmt, args);
    va_end(args);
}

void ksearch_skip(struct ksearch_run *r, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    add_sentence(r->skipped, &r->n_skipped, fmt, args);
    va_end(args);
}

/* ---- JSON as Python writes it ---- */

/* Length of the number that is none at `s`, 0 when there is none there. */
static size_t bare_word(const char *s, size_t left)
{
    static const char *const words[] = { "NaN", "Infinity", "-Infinity" };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (left >= strlen(words[i]) && memcmp(s, words[i], strlen(words[i])) == 0)
            return strlen(words[i]);
    return 0;
}

json_t *ksearch_json(const char *text, size_t len, size_t *n_words, const char *what,
                     struct err *err)
{
    CLEANUP(freep) char *plain = xmalloc(len + 1);
    bool in_text = false;
    json_t *out = NULL;

    *n_words = 0;
    memcpy(plain, text, len);
    for (size_t i = 0; i < len; i++) {
        size_t n = in_text ? 0 : bare_word(plain + i, len - i);

        if (in_text && plain[i] == '\\') {
            i++; /* whatever is escaped ends no text */
        } else if (plain[i] == '"') {
            in_text = !in_text;
        } else if (n > 0) {
            memset(plain + i, ' ', n);
            memcpy(plain + i, "\"\"", 2);
            (*n_words)++;
            i += n - 1;
        }
    }
    return jsonx_parse(plain, len, what, &out, err) == 0 ? out : NULL;
}

/* ---- Numbers: what K-Search reads, with a word where that is not what was written ---- */

double ksearch_number_of(const json_t *v)
{
    double d = NAN;

    if (json_is_number(v))
        return json_number_value(v);
    if (json_is_string(v) && str_to_double(json_string_value(v), &d))
        return d;
    return NAN;
}

double ksearch_number(struct ksearch_run *r, const char *node, const json_t *obj, const char *key,
                      double low, double high, double fallback)
{
    const json_t *v = json_object_get(obj, key);
    double d = ksearch_number_of(v);
    CLEANUP(freep) char *seen = NULL;

    if (v == NULL || json_is_null(v))
        return fallback;
    if (isfinite(d) && d >= low && d <= high)
        return d;
    seen = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT);
    if (!isfinite(d)) {
        char taken[32] = "none";

        if (isfinite(fallback))
            snprintf(taken, sizeof(taken), "%g", fallback);
        ksearch_repair(r, "node '%.60s': '%s' is %.60s, which is no number; %s was taken", node,
                       key, seen ? seen : "?", taken);
        return fallback;
    }
    d = fmin(fmax(d, low), high);
    ksearch_repair(r, "node '%.60s': '%s' is %.60s, which is out of range; %g was taken", node, key,
                   seen ? seen : "?", d);
    return d;
}

/* ---- Texts ---- */

void ksearch_cut(char *s, size_t max)
{
    size_t n = max;

    if (strlen(s) <= max)
        return;
    while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    s[n] = '\0';
}

static char *trimmed(const char *s)
{
    size_t n;
    char *copy;

    s += strspn(s, " \t\r\n");
    copy = xstrdup(s);
    for (n = strlen(copy); n > 0 && strchr(" \t\r\n", copy[n - 1]); n--)
        copy[n - 1] = '\0';
    return copy;
}

char *ksearch_text(struct ksearch_run *r, const char *node, const json_t *obj, const char *key,
                   size_t max)
{
    const json_t *v = json_object_get(obj, key);
    char *s;

    if (v == NULL || json_is_null(v))
        return xstrdup("");
    if (!json_is_string(v)) {
        ksearch_repair(r, "node '%.60s': '%s' is no text; none was taken", node, key);
        return xstrdup("");
    }
    s = trimmed(json_string_value(v));
    if (strlen(s) > max) {
        ksearch_repair(r, "node '%.60s': '%s' has %zu bytes; the first %zu were taken", node, key,
                       strlen(s), max);
        ksearch_cut(s, max);
    }
    return s;
}
