/* SPDX-License-Identifier: Apache-2.0 */
/* Values, tables and records as text; see show.h. */
#include "show.h"

#include <math.h>
#include <wchar.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- JSON ---- */

void show_json(const json_t *v, bool indented)
{
    json_dumpf(v, stdout, JSON_ENCODE_ANY | (indented ? JSON_INDENT(2) : JSON_COMPACT));
    putchar('\n');
    fflush(stdout);
}

/* ---- Text ---- */

static char *visible(const char *s, size_t len)
{
    size_t size = MIN(len * 4, (size_t)SHOW_TEXT_MAX) + 1;
    char *out = xmalloc(size);

    return str_visible(s, len, out, size);
}

static char *real_text(double d)
{
    return fabs(d) < 1e15 && d == floor(d) ? str_printf("%.0f", d) : str_printf("%.4g", d);
}

static char *seconds_text(double s)
{
    unsigned long long n = s > 0 && s < 1e15 ? (unsigned long long)s : 0;

    if (s < 10)
        return str_printf("%.1f s", s);
    if (n >= 3600)
        return str_printf("%llu:%02llu:%02llu", n / 3600, n / 60 % 60, n % 60);
    return str_printf("%llu:%02llu", n / 60, n % 60);
}

static char *time_text(double s)
{
    char out[40];

    if (!(s > 0 && s < 1e10))
        return xstrdup("-");
    return xstrdup(clock_iso((uint64_t)(s * 1e9), out, sizeof(out)));
}

static char *number_text(double d, enum show_kind kind)
{
    switch (kind) {
    case SHOW_FACTOR:
        return str_printf("%.2fx", d);
    case SHOW_LOG:
        return str_printf("%.2fx", exp(d));
    case SHOW_SECONDS:
        return seconds_text(d);
    case SHOW_TIME:
        return time_text(d);
    case SHOW_SHARE:
        return str_printf("%.0f %%", 100 * d);
    case SHOW_TEXT:
    case SHOW_SHORT:
    case SHOW_KIND_COUNT:
        break;
    }
    return real_text(d);
}

/* "a, b" of an array, "A=1 B=x" of an object; named objects in an array are their names. */
static char *nested_text(const json_t *v)
{
    struct buf out = { .max = SHOW_TEXT_MAX };
    struct err ignored;
    const char *key;
    json_t *item;
    size_t i;

    if (json_is_array(v)) {
        json_array_foreach (v, i, item) {
            const json_t *name = json_object_get(item, "name");
            CLEANUP(freep) char *s = show_text(json_is_string(name) ? name : item, SHOW_TEXT);

            if (buf_addf(&out, "%s%s", i ? ", " : "", s) != 0)
                break;
        }
    } else {
        json_object_foreach ((json_t *)v, key, item) {
            CLEANUP(freep) char *k = visible(key, strlen(key)), *s = show_text(item, SHOW_TEXT);

            if (buf_addf(&out, "%s%s=%s", out.len ? " " : "", k, s) != 0)
                break;
        }
    }
    if (out.len == 0)
        buf_adds(&out, "-", &ignored);
    return buf_take(&out);
}

char *show_text(const json_t *v, enum show_kind kind)
{
    if (v == NULL)
        return xstrdup("-");
    switch (json_typeof(v)) {
    case JSON_NULL:
        return xstrdup("-");
    case JSON_TRUE:
        return xstrdup("yes");
    case JSON_FALSE:
        return xstrdup("no");
    case JSON_INTEGER:
        if (kind == SHOW_TEXT || kind == SHOW_SHORT)
            return str_printf("%lld", (long long)json_integer_value(v));
        return number_text((double)json_integer_value(v), kind);
    case JSON_REAL:
        return number_text(json_real_value(v), kind);
    case JSON_STRING:
        return visible(json_string_value(v),
                       kind == SHOW_SHORT ? MIN(json_string_length(v), 12) : json_string_length(v));
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return nested_text(v);
}

const json_t *show_at(const json_t *obj, const char *path)
{
    char key[64];

    while (obj && *path) {
        size_t n = strcspn(path, ".");

        snprintf(key, sizeof(key), "%.*s", (int)n, path);
        obj = json_object_get(obj, key);
        path += n + (path[n] == '.');
    }
    return obj;
}

char *show_text_at(const json_t *obj, const char *path, enum show_kind kind)
{
    return show_text(show_at(obj, path), kind);
}

/* Reads one character: its bytes, and the columns it takes; 1 and 1 for what is no character here.
 */
static size_t char_read(const char *s, size_t *cols, bool *shown)
{
    mbstate_t state = { 0 };
    wchar_t wc;
    size_t n = mbrtowc(&wc, s, 6, &state);
    int w;

    *shown = n != (size_t)-1 && n != (size_t)-2 && n != 0;
    w = *shown ? wcwidth(wc) : 1;
    *shown = *shown && w >= 0;
    *cols = w < 0 ? 1 : (size_t)w;
    if (*shown)
        return n;
    /* Skips a whole UTF-8 sequence, so that a character without a glyph is one '?'. */
    for (n = 1; ((unsigned char)s[n] & 0xc0) == 0x80 && n < 4; n++)
        ;
    return n;
}

size_t text_cols(const char *s)
{
    size_t total = 0, cols;
    bool shown;

    while (*s) {
        s += char_read(s, &cols, &shown);
        total += cols;
    }
    return total;
}

char *text_fit(const char *s, size_t cols, char *out, size_t size)
{
    bool cut = text_cols(s) > cols;
    size_t room = cut && cols > 3 ? cols - 3 : cols, used = 0, o = 0, w;
    bool shown;

    while (*s) {
        size_t n = char_read(s, &w, &shown);

        if (used + w > room || o + n + 4 > size) {
            cut = true;
            break;
        }
        if (shown)
            memcpy(out + o, s, n);
        else
            out[o] = '?';
        o += shown ? n : 1;
        used += w;
        s += n;
    }
    if (cut && cols > 3 && o + 4 <= size) {
        memcpy(out + o, "...", 3);
        o += 3;
    }
    out[o] = '\0';
    return out;
}

/* Prints one line with what the locale lacks replaced. */
static void put_text(const char *s)
{
    size_t size = strlen(s) + 8;
    CLEANUP(freep) char *out = xmalloc(size);

    fputs(text_fit(s, SIZE_MAX / 2, out, size), stdout);
}

void show_block(const char *s)
{
    while (*s) {
        size_t n = strcspn(s, "\n\t");
        CLEANUP(freep) char *line = xmalloc(4 * n + 1);

        put_text(str_visible(s, n, line, 4 * n + 1));
        s += n;
        if (*s)
            putchar(*s++);
    }
}

void show_wrapped(const char *s, size_t indent)
{
    size_t width = term_cols(), at = 0;
    CLEANUP(freep) char *text = visible(s, strlen(s));

    for (char *word = text, *end; *word; word = end) {
        char keep;

        word += strspn(word, " ");
        end = word + strcspn(word, " ");
        if (end == word)
            break;
        keep = *end;
        *end = '\0';
        if (at > 0 && at + 1 + text_cols(word) > width) {
            putchar('\n');
            at = 0;
        }
        if (at == 0)
            printf("%*s", (int)indent, "");
        else
            putchar(' ');
        at = (at ? at + 1 : indent) + text_cols(word);
        put_text(word);
        *end = keep;
    }
    putchar('\n');
}

/* ---- Tables ---- */

enum { COLUMNS_MAX = 16 };

struct layout {
    size_t width[COLUMNS_MAX];
    bool right[COLUMNS_MAX]; /* holds numbers only */
    bool shown[COLUMNS_MAX];
    size_t n, last; /* `last`: the last one shown */
};

static void layout_make(struct layout *l, const json_t *list, const struct column *columns)
{
    json_t *item;
    size_t i;

    for (l->n = 0; columns[l->n].title && l->n < COLUMNS_MAX; l->n++) {
        size_t c = l->n;

        l->width[c] = text_cols(columns[c].title);
        l->right[c] = true;
        json_array_foreach (list, i, item) {
            const json_t *v = show_at(item, columns[c].path);
            CLEANUP(freep) char *s = show_text(v, columns[c].kind);

            l->shown[c] = l->shown[c] || (v && !json_is_null(v));
            l->right[c] = l->right[c] && (v == NULL || json_is_null(v) || json_is_number(v));
            l->width[c] = MAX(l->width[c], text_cols(s));
        }
        if (l->shown[c])
            l->last = c;
    }
}

static void cell_print(const struct layout *l, size_t c, const char *s, size_t *used)
{
    size_t width = term_cols(), cols = text_cols(s), size = strlen(s) + 8;
    CLEANUP(freep) char *out = xmalloc(size);
    size_t pad = l->width[c] > cols ? l->width[c] - cols : 0;

    if (*used > 0)
        *used += (size_t)printf("  ");
    if (l->right[c])
        printf("%*s", (int)pad, "");
    /* Only the last column is cut, and only where a person would see it wrap. */
    fputs(text_fit(s,
                   c == l->last && term_is_live() ? MAX(width > *used ? width - *used : 0, 10)
                                                  : SIZE_MAX / 2,
                   out, size),
          stdout);
    if (!l->right[c] && c != l->last)
        printf("%*s", (int)pad, "");
    *used += cols + pad;
}

static void table_print(const json_t *list, const struct column *columns)
{
    struct layout l = { 0 };
    json_t *item;
    size_t i, used = 0;

    layout_make(&l, list, columns);
    for (size_t c = 0; c < l.n; c++)
        if (l.shown[c])
            cell_print(&l, c, columns[c].title, &used);
    putchar('\n');
    json_array_foreach (list, i, item) {
        used = 0;
        for (size_t c = 0; c < l.n; c++) {
            CLEANUP(freep) char *s = NULL;

            if (!l.shown[c])
                continue;
            s = show_text_at(item, columns[c].path, columns[c].kind);
            cell_print(&l, c, s, &used);
        }
        putchar('\n');
    }
}

void show_table(const json_t *list, const char *member, const struct column *columns,
                const char *none)
{
    const json_t *items = json_is_object(list) ? json_object_get(list, member) : list;

    if (!json_is_array(items))
        show_value(list);
    else if (json_array_size(items) == 0)
        fprintf(stderr, "%s\n", none);
    else
        table_print(items, columns);
}

/* ---- Records ---- */

static bool is_flat(const json_t *v)
{
    const char *key;
    json_t *item;
    size_t i;

    if (json_is_array(v)) {
        json_array_foreach (v, i, item)
            if (json_is_array(item) || json_is_object(item))
                return false;
        return true;
    }
    if (json_is_object(v)) {
        json_object_foreach ((json_t *)v, key, item)
            if (json_is_array(item) || json_is_object(item))
                return false;
        return json_object_size(v) <= 4;
    }
    return true;
}

/* How a number is meant, as far as its name tells. */
static enum show_kind kind_of(const char *key, const json_t *v)
{
    if (json_is_number(v) && (str_has_suffix(key, "_at") || str_has_suffix(key, "_at_s")) &&
        json_number_value(v) > 1e9)
        return SHOW_TIME;
    if (json_is_number(v) && (str_has_suffix(key, "uptime_s") || strcmp(key, "uptime") == 0))
        return SHOW_SECONDS;
    return SHOW_TEXT;
}

static void array_show(const json_t *v, size_t indent);

static void object_show(const json_t *obj, size_t indent)
{
    size_t width = 0;
    const char *key;
    json_t *item;

    json_object_foreach ((json_t *)obj, key, item)
        if (is_flat(item))
            width = MAX(width, text_cols(key));
    json_object_foreach ((json_t *)obj, key, item) {
        CLEANUP(freep) char *name = visible(key, strlen(key)), *s = NULL;
        const char *text = json_string_value(item);

        printf("%*s", (int)indent, "");
        put_text(name);
        if (text && strchr(text, '\n')) { /* source, a build log */
            printf(":\n");
            show_block(text);
            printf("%s", str_has_suffix(text, "\n") ? "" : "\n");
        } else if (is_flat(item)) {
            s = show_text(item, kind_of(key, item));
            printf("%*s", (int)(width > text_cols(name) ? width - text_cols(name) + 2 : 2), "");
            put_text(s);
            putchar('\n');
        } else {
            printf(":\n");
            if (json_is_object(item))
                object_show(item, indent + 2);
            else
                array_show(item, indent + 2);
        }
    }
}

/* Items one per line; objects as records with a dash before the first member's line. */
static void array_show(const json_t *v, size_t indent)
{
    json_t *item;
    size_t i;

    json_array_foreach (v, i, item) {
        CLEANUP(freep) char *s = NULL;

        if (json_is_object(item) && !is_flat(item)) {
            printf("%*s-\n", (int)indent, "");
            object_show(item, indent + 2);
            continue;
        }
        s = show_text(item, SHOW_TEXT);
        printf("%*s- ", (int)indent, "");
        put_text(s);
        putchar('\n');
    }
}

void show_value(const json_t *v)
{
    CLEANUP(freep) char *s = NULL;

    if (json_is_object(v)) {
        object_show(v, 0);
    } else if (json_is_array(v)) {
        array_show(v, 0);
    } else {
        s = show_text(v, SHOW_TEXT);
        put_text(s);
        putchar('\n');
    }
}
