/* SPDX-License-Identifier: Apache-2.0 */
/* Text in pictures; see svg.h. */
#include "svg.h"

#include <stdio.h>

void svg_text(struct buf *out, const char *s, struct err *err)
{
    for (; *s; s++)
        switch (*s) {
        case '<':
            buf_adds(out, "&lt;", err);
            break;
        case '>':
            buf_adds(out, "&gt;", err);
            break;
        case '&':
            buf_adds(out, "&amp;", err);
            break;
        case '"':
            buf_adds(out, "&quot;", err);
            break;
        case '\'':
            buf_adds(out, "&#39;", err);
            break;
        default:
            buf_add(out, (unsigned char)*s < ' ' || *s == 0x7f ? "?" : s, 1, err);
        }
}

void svg_short(struct buf *out, const char *s, size_t max, struct err *err)
{
    char cut[4 * 64 + 4];
    size_t n = 0, chars = 0;

    while (s[n] != '\0' && n < sizeof(cut) - 4) {
        if (((unsigned char)s[n] & 0xc0) != 0x80 && ++chars > max)
            break;
        n++;
    }
    snprintf(cut, sizeof(cut), "%.*s", (int)n, s);
    svg_text(out, cut, err);
    if (s[n] != '\0')
        buf_adds(out, "...", err);
}

void svg_label(struct buf *out, double x, double y, const char *anchor, const char *class,
               const char *text, struct err *err)
{
    buf_addf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" class=\"%s\">", x, y, anchor,
             class);
    svg_short(out, text, 60, err);
    buf_adds(out, "</text>\n", err);
}
