/* SPDX-License-Identifier: Apache-2.0 */
/* Version texts and their axes; see versions.h. */
#include "retune/versions.h"

#include <string.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

/* ---- From a device ---- */

/* A separator inside a version would make two axes of it, and '|' splits the key of a cell. */
static void add_axis(struct buf *b, const char *name, const char *version)
{
    char text[2 * VERSIONS_AXIS_MAX];

    if (*version == '\0')
        return;
    snprintf(text, sizeof(text), "%s%s%s", name, *name ? " " : "", version);
    for (char *p = text; *p; p++)
        if (*p == ';' || *p == '|' || (unsigned char)*p < ' ')
            *p = ',';
    buf_addf(b, "%s%s", b->len > 0 ? "; " : "", text);
}

char *versions_of_device(const json_t *device)
{
    struct buf b = { .max = VERSIONS_TEXT_MAX };
    const json_t *libraries = json_object_get(device, "libraries");
    CLEANUP(freep)
    const char **names = xcalloc(json_object_size(libraries) + 1, sizeof(*names));
    const char *name;
    size_t n = 0;
    json_t *v;

    add_axis(&b, "", jsonx_str(device, "toolchain", ""));
    add_axis(&b, "driver", jsonx_str(device, "driver", ""));
    json_object_foreach ((json_t *)libraries, name, v)
        names[n++] = name;
    for (size_t i = 1; i < n; i++) /* few: insertion sort */
        for (size_t k = i; k > 0 && strcmp(names[k - 1], names[k]) > 0; k--) {
            const char *swap = names[k];

            names[k] = names[k - 1];
            names[k - 1] = swap;
        }
    for (size_t i = 0; i < n; i++)
        add_axis(&b, names[i], jsonx_str(libraries, names[i], ""));
    return buf_take(&b);
}

/* ---- Axes of a text ---- */

struct axis {
    char name[VERSIONS_AXIS_MAX], version[VERSIONS_AXIS_MAX];
};

/* "driver 550" is axis driver; the first item is the compiler, whose version is the whole item. */
static void parse_axis(const char *item, size_t len, bool first, struct axis *out)
{
    char text[2 * VERSIONS_AXIS_MAX];
    char *blank;

    snprintf(text, sizeof(text), "%.*s", (int)MIN(len, sizeof(text) - 1), item);
    blank = strchr(text, ' ');
    if (first || blank == NULL) {
        str_copy(out->name, sizeof(out->name), first ? "compiler" : text);
        str_copy(out->version, sizeof(out->version), text);
        return;
    }
    *blank = '\0';
    str_copy(out->name, sizeof(out->name), text);
    str_copy(out->version, sizeof(out->version), blank + 1);
}

/* A text that begins with a driver has no compiler. */
static size_t parse_axes(const char *text, struct axis *out)
{
    size_t n = 0;

    while (*text != '\0' && n < VERSIONS_AXES_MAX) {
        const char *end = strstr(text, "; ");
        size_t len = end ? (size_t)(end - text) : strlen(text);

        parse_axis(text, len, n == 0 && !str_has_prefix(text, "driver "), &out[n]);
        n++;
        text += len + (end ? 2 : 0);
    }
    return n;
}

static const char *axis_version(const struct axis *axes, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(axes[i].name, name) == 0)
            return axes[i].version;
    return "";
}

static void add_change(struct versions_change *out, size_t max, size_t *n, const char *axis,
                       const char *from, const char *to)
{
    if (*n >= max || strcmp(from, to) == 0)
        return;
    str_copy(out[*n].axis, sizeof(out->axis), axis);
    str_copy(out[*n].from, sizeof(out->from), from);
    str_copy(out[*n].to, sizeof(out->to), to);
    (*n)++;
}

size_t versions_compare(const char *from, const char *to, struct versions_change *out, size_t max)
{
    struct axis a[VERSIONS_AXES_MAX], b[VERSIONS_AXES_MAX];
    size_t na = parse_axes(from, a), nb = parse_axes(to, b), n = 0;

    if (na == 0 || nb == 0)
        return 0;
    for (size_t i = 0; i < na; i++)
        add_change(out, max, &n, a[i].name, a[i].version, axis_version(b, nb, a[i].name));
    for (size_t i = 0; i < nb; i++)
        if (*axis_version(a, na, b[i].name) == '\0')
            add_change(out, max, &n, b[i].name, "", b[i].version);
    return n;
}
