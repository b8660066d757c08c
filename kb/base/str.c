/* SPDX-License-Identifier: Apache-2.0 */
/* Strings; see str.h. */
#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"

char *str_printf(const char *fmt, ...)
{
    va_list ap;
    char *s;
    int n;

    va_start(ap, fmt);
    n = vasprintf(&s, fmt, ap);
    va_end(ap);
    return n < 0 ? NULL : s;
}

bool str_to_u64(const char *s, uint64_t *out)
{
    char *end;
    unsigned long long v;

    if (*s < '0' || *s > '9')
        return false;
    errno = 0;
    v = strtoull(s, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *out = v;
    return true;
}

bool str_to_i64(const char *s, int64_t *out)
{
    char *end;
    long long v;
    const char *digits = *s == '-' ? s + 1 : s;

    if (*digits < '0' || *digits > '9')
        return false;
    errno = 0;
    v = strtoll(s, &end, 10);
    if (errno != 0 || *end != '\0')
        return false;
    *out = v;
    return true;
}

bool str_to_double(const char *s, double *out)
{
    char *end;
    double v;
    const char *digits = *s == '-' ? s + 1 : s;

    if (!((*digits >= '0' && *digits <= '9') || *digits == '.'))
        return false;
    errno = 0;
    v = strtod(s, &end);
    if (end == s || *end != '\0' || !isfinite(v))
        return false;
    *out = v;
    return true;
}

bool str_to_duration_ns(const char *s, uint64_t *out_ns)
{
    static const struct {
        const char *unit;
        double ns;
    } units[] = { { "ms", 1e6 }, { "s", 1e9 }, { "m", 60e9 }, { "h", 3600e9 }, { "", 1e9 } };
    char number[32];
    double v;

    for (size_t i = 0; i < ARRAY_LEN(units); i++) {
        size_t len = strlen(s);

        if (!str_has_suffix(s, units[i].unit))
            continue;
        len -= strlen(units[i].unit);
        if (len == 0 || len >= sizeof(number))
            return false;
        memcpy(number, s, len);
        number[len] = '\0';
        if (!str_to_double(number, &v))
            continue;
        if (v < 0 || v * units[i].ns >= 1.8e19)
            return false;
        *out_ns = (uint64_t)(v * units[i].ns);
        return true;
    }
    return false;
}

bool str_is_name(const char *s)
{
    size_t n = 0;

    if (*s == '.' || *s == '-')
        return false;
    for (; *s; s++, n++) {
        bool ok = (*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
                  (*s >= '0' && *s <= '9') || *s == '_' || *s == '.' || *s == '-';
        if (!ok)
            return false;
    }
    return n >= 1 && n <= 96;
}

bool str_is_hex(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!((s[i] >= '0' && s[i] <= '9') || (s[i] >= 'a' && s[i] <= 'f')))
            return false;
    return s[len] == '\0';
}

void str_hex(const uint8_t *bytes, size_t n, char *out)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[bytes[i] >> 4];
        out[2 * i + 1] = digits[bytes[i] & 15];
    }
    out[2 * n] = '\0';
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

bool str_unhex(const char *hex, size_t n, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        int hi = hex_digit(hex[2 * i]);
        int lo = hi < 0 ? -1 : hex_digit(hex[2 * i + 1]);

        if (lo < 0)
            return false;
        out[i] = (uint8_t)(hi << 4 | lo);
    }
    return hex[2 * n] == '\0';
}

/* Length of the UTF-8 sequence at `s`, 0 when it is not one. */
static size_t utf8_len(const unsigned char *s, size_t left)
{
    size_t n;

    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        n = 2;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        n = 3;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        n = 4;
    else
        return 0;
    if (n > left)
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((s[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

char *str_visible(const char *s, size_t len, char *out, size_t size)
{
    size_t o = 0,
           safe = 0; /* safe: the last end of a piece with room for "..." and the NUL behind */

    if (size == 0)
        return out;
    for (size_t i = 0; i < len;) {
        const unsigned char c = (unsigned char)s[i];
        char piece[8];
        size_t n = 1, take = 1;

        if (c == '\n' || c == '\t') {
            piece[0] = '\\';
            piece[1] = c == '\n' ? 'n' : 't';
            n = 2;
        } else if (c >= 0x20 && c < 0x7f) {
            piece[0] = (char)c;
        } else if (c >= 0x80 && (take = utf8_len((const unsigned char *)s + i, len - i)) != 0) {
            memcpy(piece, s + i, take);
            n = take;
        } else {
            n = (size_t)snprintf(piece, sizeof(piece), "\\x%02x", c);
            take = 1;
        }
        if (o + n + 1 > size) {
            o = safe;
            if (size >= 4) {
                memcpy(out + o, "...", 3);
                o += 3;
            }
            break;
        }
        memcpy(out + o, piece, n);
        o += n;
        i += take;
        if (o + 4 <= size)
            safe = o;
    }
    out[o] = '\0';
    return out;
}

bool str_copy(char *out, size_t size, const char *s)
{
    size_t n = strlen(s);
    bool fits = n < size;

    if (size == 0)
        return false;
    if (!fits)
        n = size - 1;
    memcpy(out, s, n);
    out[n] = '\0';
    return fits;
}

bool str_has_prefix(const char *s, const char *prefix)
{
    return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool str_has_suffix(const char *s, const char *suffix)
{
    size_t n = strlen(s), m = strlen(suffix);

    return n >= m && memcmp(s + n - m, suffix, m) == 0;
}
