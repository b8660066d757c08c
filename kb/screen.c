/* SPDX-License-Identifier: Apache-2.0 */
/* The detector, word by word; see screen.h. */
#include "screen.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"

enum { KEY_LEN = 32, TOKEN_LEN = 12, WORD_MAX = 256, INSTANCE_LEN = 4 };
enum { PART_MAX = 512 /* bytes of a word that are looked at: keeps long runs of signs cheap */ };

/* A word: bytes between blanks and signs that no path, host or key has. */
struct word {
    const char *s;
    size_t len;
};

static bool ends_word(char c)
{
    return c == '\0' || strchr(" \t\r\n\"'`()[]{}<>,;|*?!&\\", c) != NULL;
}

static bool is_name_char(char c)
{
    return isalnum((unsigned char)c) || c == '_' || c == '-' || c == '.';
}

static bool starts_with(const struct word *w, const char *prefix)
{
    size_t n = strlen(prefix);

    return w->len >= n && strncasecmp(w->s, prefix, n) == 0;
}

/* ---- Paths ---- */

static const char *const roots[] = { "/home",  "/root", "/users", "/tmp",  "/usr",  "/var",
                                     "/etc",   "/opt",  "/mnt",   "/data", "/srv",  "/scratch",
                                     "/media", "/proc", "/dev",   "/sys",  "/work", "/nfs" };
/* Those of people. */
enum { PRIVATE_ROOTS = 3 };

/* "/home", "/home/..." and not "/homework". */
static bool is_below(const struct word *w, const char *root)
{
    size_t n = strlen(root);

    return w->len >= n && strncasecmp(w->s, root, n) == 0 &&
           (w->len == n || !is_name_char(w->s[n]));
}

static bool is_home(const struct word *w)
{
    for (size_t i = 0; i < PRIVATE_ROOTS; i++)
        if (is_below(w, roots[i]) && w->len > strlen(roots[i]) + 1)
            return true;
    return w->len > 2 && w->s[0] == '~' && w->s[1] == '/';
}

static bool is_path(const struct word *w)
{
    const char *second;

    if (is_home(w))
        return true;
    if (w->len > 3 && isalpha((unsigned char)w->s[0]) && w->s[1] == ':' && w->s[2] == '/')
        return true; /* a drive; its other slash ends a word */
    if (w->len < 3 || w->s[0] != '/' || !is_name_char(w->s[1]))
        return false;
    for (size_t i = 0; i < ARRAY_LEN(roots); i++)
        if (is_below(w, roots[i]))
            return true;
    second = memchr(w->s + 1, '/', w->len - 1);
    return second != NULL && second + 1 < w->s + w->len && is_name_char(second[1]);
}

/* ---- Hosts and people ---- */

static const char *const domains[] = { "com", "org",  "net",      "edu",  "gov",        "mil",
                                       "int", "io",   "ai",       "dev",  "cloud",      "local",
                                       "lan", "corp", "internal", "home", "localdomain" };

/* Bytes of dotted labels at the start. */
static size_t labels_len(const char *s, size_t len, size_t *dots)
{
    size_t n = 0;

    *dots = 0;
    while (n < len && (isalnum((unsigned char)s[n]) || s[n] == '-' || s[n] == '.')) {
        *dots += s[n] == '.';
        n++;
    }
    while (n > 0 && s[n - 1] == '.') { /* the end of a sentence */
        n--;
        --*dots;
    }
    return n;
}

static bool is_domain(const char *s, size_t len)
{
    size_t dots, n = labels_len(s, len, &dots);
    const char *last;

    if (dots == 0 || n < 4)
        return false;
    last = memrchr(s, '.', n);
    for (size_t i = 0; i < ARRAY_LEN(domains); i++)
        if (strlen(domains[i]) == n - (size_t)(last + 1 - s) &&
            strncasecmp(last + 1, domains[i], strlen(domains[i])) == 0)
            return true;
    return false;
}

static bool is_address4(const char *s, size_t len)
{
    size_t parts = 0, i = 0;

    while (i < len && parts < 4) {
        size_t start = i;
        int v = 0;

        while (i < len && isdigit((unsigned char)s[i]) && i - start < 3)
            v = v * 10 + (s[i++] - '0');
        if (i == start || v > 255)
            return false;
        parts++;
        if (parts < 4 && (i == len || s[i++] != '.'))
            return false;
    }
    return parts == 4 && (i == len || !is_name_char(s[i]) || (s[i] == '.' && i + 1 == len));
}

/* somebody@somewhere: two signs on either side, so that "m@n" stays a formula. */
static bool is_mail(const struct word *w)
{
    const char *at = memchr(w->s, '@', w->len);
    size_t left = at ? (size_t)(at - w->s) : 0;
    size_t right = at ? w->len - left - 1 : 0;

    return left >= 2 && right >= 2 && is_name_char(at[-1]) && is_name_char(at[-2]) &&
           isalnum((unsigned char)at[1]) && is_name_char(at[2]);
}

static int by_case(const void *word, const void *entry)
{
    return strcasecmp(word, *(const char *const *)entry);
}

static int by_text(const void *word, const void *entry)
{
    return strcmp(word, *(const char *const *)entry);
}

static bool is_listed(const struct word *w, const char *const *list, size_t n,
                      int (*order)(const void *, const void *))
{
    char text[WORD_MAX];
    size_t len = w->len;

    while (len > 0 && (w->s[len - 1] == '.' || w->s[len - 1] == ':'))
        len--;
    if (n == 0 || len == 0 || len >= sizeof(text))
        return false;
    memcpy(text, w->s, len);
    text[len] = '\0';
    return bsearch(text, list, n, sizeof(*list), order) != NULL;
}

/* ---- Keys ---- */

/* A long run of one alphabet that no word is: hexadecimal, or small, large and digits mixed. */
static bool is_random(const struct word *w)
{
    size_t lower = 0, upper = 0, digit = 0, hex = 0, all = 0;

    for (size_t i = 0; i < w->len; i++) {
        unsigned char c = (unsigned char)w->s[i];

        if (!isalnum(c) && strchr("+/=_-", c) == NULL)
            return false;
        lower += islower(c) != 0;
        upper += isupper(c) != 0;
        digit += isdigit(c) != 0;
        hex += isxdigit(c) != 0;
        all++;
    }
    return all >= KEY_LEN && digit >= 2 && (hex == all || (lower >= 4 && upper >= 4));
}

static bool is_token(const struct word *w)
{
    static const char *const prefixes[] = { "sk-",         "pk-",    "ghp_",  "gho_",
                                            "github_pat_", "hf_",    "AKIA",  "xoxb-",
                                            "xoxp-",       "glpat-", "nvapi-" };

    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        if (strncmp(w->s, prefixes[i], MIN(strlen(prefixes[i]), w->len)) == 0 &&
            w->len >= strlen(prefixes[i]) + TOKEN_LEN)
            return true;
    return starts_with(w, "-----BEGIN");
}

/* ---- All of it ---- */

static const char path_found[] = "an absolute path";

bool screen_is_instance_name(const char *name)
{
    bool letters = true;

    for (const char *p = name; *p; p++)
        letters = letters && isalpha((unsigned char)*p);
    return !letters && strlen(name) >= INSTANCE_LEN;
}

static const char *screen_word(const struct screen *s, const struct word *w, bool source)
{
    const char *scheme;

    if (source ? is_home(w) : is_path(w))
        return path_found;
    if (is_mail(w))
        return "an address of a person or a machine";
    if (is_token(w) || (!source && is_random(w)))
        return "what looks like a key";
    if (is_listed(w, s->hosts, s->n_hosts, by_case))
        return "the name of a host";
    if (source)
        return NULL;
    scheme = memmem(w->s, w->len, "://", 3);
    if (scheme != NULL || is_domain(w->s, w->len) || is_address4(w->s, w->len))
        return "the address of a host";
    if (is_listed(w, s->instances, s->n_instances, by_text))
        return "the name of a workload";
    return NULL;
}

/* Each word, and each part of it behind a sign that joins ("file=/home/x", "node7:/data"). */
static const char *screen_words(const struct screen *s, const char *text, bool source)
{
    for (const char *p = text; *p;) {
        struct word w = { p, 0 };

        while (!ends_word(p[w.len]))
            w.len++;
        for (size_t from = 0; from < w.len; from++) {
            struct word part = { w.s + from, MIN(w.len - from, (size_t)PART_MAX) };
            const char *found;

            if (from > 0 && strchr("=:@", w.s[from - 1]) == NULL) {
                if (w.s[from] == '/' && is_home(&part)) /* "-I/home/x" */
                    return path_found;
                continue;
            }
            found = screen_word(s, &part, source);
            if (found != NULL)
                return found;
        }
        p += w.len;
        p += *p != '\0';
    }
    return NULL;
}

const char *screen_text(const struct screen *s, const char *text)
{
    return screen_words(s, text, false);
}

const char *screen_source(const struct screen *s, const char *text)
{
    return screen_words(s, text, true);
}

const char *screen_json(const struct screen *s, const json_t *v)
{
    const char *key, *found = NULL;
    json_t *item;
    size_t i;

    if (json_is_string(v))
        return screen_text(s, json_string_value(v));
    json_array_foreach ((json_t *)v, i, item) {
        if (found == NULL)
            found = screen_json(s, item);
    }
    json_object_foreach ((json_t *)v, key, item) {
        if (found == NULL)
            found = screen_text(s, key);
        if (found == NULL)
            found = screen_json(s, item);
    }
    return found;
}
