/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Questions about a C source that was taken apart, and the look at a program before it is built;
 * see artifact_impl.h. It spares a build and says more than a compiler would; it is no fence
 * against hostile code, which is what the confinement of builds and runs is for.
 */
#include <ctype.h>
#include <string.h>

#include "search/artifact_impl.h"

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static size_t word_len(const char *s)
{
    size_t n = 0;

    while (is_word_byte(s[n]))
        n++;
    return n;
}

/* The next place at or behind `s` where `name` stands as a whole identifier; NULL: none. */
static const char *find_word(const char *text, const char *s, const char *name)
{
    size_t n = strlen(name);

    for (const char *p = s; (p = strstr(p, name)) != NULL; p += n)
        if ((p == text || !is_word_byte(p[-1])) && !is_word_byte(p[n]))
            return p;
    return NULL;
}

bool c_text_uses(const struct c_text *t, const char *name)
{
    if (find_word(t->code, t->code, name) != NULL)
        return true;
    for (size_t i = 0; i < t->n_directives; i++) {
        const struct c_directive *d = &t->directives[i];
        const char *rest = d->rest;

        if (strcmp(d->name, "undef") == 0 || strcmp(d->name, "error") == 0 ||
            strcmp(d->name, "warning") == 0)
            continue;
        if (strcmp(d->name, "define") == 0)
            rest += word_len(rest);
        else if (strcmp(d->name, "if") == 0 && *rest == '!' && find_word(rest, rest, "defined") &&
                 strpbrk(rest, "&|") == NULL)
            continue; /* a guard */
        if (find_word(rest, rest, name) != NULL)
            return true;
    }
    return false;
}

/* Behind the parenthesis that opens at `s` and everything in it; NULL when it does not close. */
static const char *skip_parens(const char *s)
{
    size_t depth = 0;

    for (; *s; s++) {
        depth += *s == '(';
        if (*s == ')' && --depth == 0)
            return s + 1;
    }
    return NULL;
}

static const char *skip_blank(const char *s)
{
    return s + strspn(s, " \t\r\n\f\v");
}

/* Does a body follow the name at `s`? */
static bool has_body(const char *s)
{
    s = skip_blank(s);
    if (*s != '(' || (s = skip_parens(s)) == NULL)
        return false;
    s = skip_blank(s);
    while (strncmp(s, "__attribute__", 13) == 0) {
        s = skip_blank(s + 13);
        if (*s != '(' || (s = skip_parens(s)) == NULL)
            return false;
        s = skip_blank(s);
    }
    return *s == '{';
}

static bool says_static(const char *text, const char *name)
{
    const char *from = name, *p;

    while (from > text && strchr(";{}", from[-1]) == NULL)
        from--;
    p = find_word(text, from, "static");
    return p != NULL && p < name;
}

bool c_text_defines(const struct c_text *t, const char *name, bool *is_static)
{
    size_t tried = 0;

    for (const char *p = t->code; tried < 64 && (p = find_word(t->code, p, name)) != NULL;
         p++, tried++) {
        if (!has_body(p + strlen(name)))
            continue;
        if (is_static)
            *is_static = says_static(t->code, p);
        return true;
    }
    return false;
}

static void look_at_include(const struct c_directive *d, struct complaints *c)
{
    char seen[ARTIFACT_QUOTE_MAX];
    const char *path = d->rest, *end = NULL;
    size_t len;

    artifact_quote(path, strlen(path), seen);
    if (*path == '"' || *path == '<')
        end = strchr(path + 1, *path == '"' ? '"' : '>');
    if (end == NULL) {
        complain(c, "line %zu of the program includes %s, which is no plain file name", d->line,
                 seen);
        return;
    }
    len = (size_t)(end - path - 1);
    if (*path == '"' && !(len == 9 && memcmp(path + 1, "ks_task.h", len) == 0))
        complain(c,
                 "line %zu of the program includes %s: the only header in quotes that is there is "
                 "\"ks_task.h\"",
                 d->line, seen);
    else if (path[1] == '/' || memmem(path + 1, len, "..", 2) != NULL)
        complain(c, "line %zu of the program includes %s, a path outside the standard headers",
                 d->line, seen);
}

void c_text_look(const struct c_text *t, const char *source, struct complaints *c)
{
    bool is_static = false;

    if (source[strspn(source, " \t\r\n")] == '\0')
        complain(c, "the program is empty");
    else if (!c_text_defines(t, "ks_kernel", &is_static))
        complain(c, "the program does not define ks_kernel: it needs "
                    "'int ks_kernel(const struct ks_call *call)' with a body");
    else if (is_static)
        complain(c, "ks_kernel is static, so that nobody can call it");
    for (size_t i = 0; i < t->n_directives; i++)
        if (strcmp(t->directives[i].name, "include") == 0 ||
            strcmp(t->directives[i].name, "include_next") == 0 ||
            strcmp(t->directives[i].name, "import") == 0)
            look_at_include(&t->directives[i], c);
}
