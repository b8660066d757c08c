/* SPDX-License-Identifier: Apache-2.0 */
/* Local paths out of messages; see redact.h. */
#include "search/redact.h"

#include <ctype.h>
#include <stdbool.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/mem.h"

enum { MESSAGE_MAX = 1900 /* bytes, before the last path */ };

/* Folders at the root of a machine: paths below them are known in the middle of a word too. */
static const char *const roots[] = { "/home/", "/root/", "/users/", "/tmp/",  "/usr/",    "/var/",
                                     "/etc/",  "/opt/",  "/mnt/",   "/data/", "/srv/",    "/media/",
                                     "/proc/", "/dev/",  "/sys/",   "/nfs/",  "/scratch/" };

static bool is_below_root(const char *p)
{
    for (size_t i = 0; i < ARRAY_LEN(roots); i++)
        if (strncasecmp(p, roots[i], strlen(roots[i])) == 0)
            return true;
    return false;
}

/* A blank, an opening sign, or a byte of a sign or letter beyond ASCII: gcc quotes with them. */
static bool opens_path(char c)
{
    return c == '\0' || (unsigned char)c >= 0x80 || strchr(" \t\r\n\"'`(:=[{<,;|@!&", c) != NULL;
}

/* Is all between `word` and `p` a flag's name ("-I", "-isystem", "--sysroot")? */
static bool is_flag(const char *word, const char *p)
{
    if (*word != '-' || p - word < 2)
        return false;
    for (word++; word < p; word++)
        if (!isalpha((unsigned char)*word) && *word != '-')
            return false;
    return true;
}

/* Does an absolute path begin at `p`, in the word that begins at `word`? */
static bool is_path(const char *start, const char *word, const char *p)
{
    char before = p == start ? '\0' : p[-1];
    const char *name = p;

    if (*p == '~')
        return p[1] == '/' && (opens_path(before) || is_flag(word, p));
    if (*p != '/')
        return false;
    while (*name == '/')
        name++;
    if (!isalnum((unsigned char)*name) && (unsigned char)*name < 0x80 &&
        (*name == '\0' || strchr("._~-+", *name) == NULL))
        return false; /* a division, a comment */
    return opens_path(before) || is_flag(word, p) || is_below_root(p);
}

static const char *end_of_path(const char *p)
{
    return p + strcspn(p, " \t\r\n:'\",;)");
}

char *redact_paths(const char *message)
{
    struct buf b = { .max = MESSAGE_MAX + 100 };
    const char *word = message;
    struct err ignored;

    for (const char *p = message; *p && b.len < MESSAGE_MAX;) {
        if (p > message && isspace((unsigned char)p[-1]))
            word = p;
        if (is_path(message, word, p)) {
            buf_adds(&b, "<path>", &ignored);
            p = end_of_path(p);
            continue;
        }
        buf_add(&b, p++, 1, &ignored);
    }
    return buf_take(&b);
}
