/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A C source as far as a look before the build needs it; see artifact_impl.h. Not a compiler: where
 * macros or conditionals make brackets a matter of what is defined, brackets are not judged.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/artifact_impl.h"

enum { DEPTH_MAX = 256, FRAMES_MAX = 64, WORD_MAX = 64 };

enum condition { COND_UNKNOWN, COND_TRUE, COND_FALSE };

/* One #if that is not ended. */
struct frame {
    size_t line;
    char guard[WORD_MAX + 1]; /* of #ifndef X, while in its own branch; "" */
    enum condition cond;
    bool dead_outside, dead, has_else, has_first;
    size_t depth_before, depth_first; /* brackets open: before it, after its first live branch */
};

struct scan {
    const char *s;
    size_t len, at, line;
    struct c_text *out;
    struct complaints *c;
    char open[DEPTH_MAX];
    size_t open_line[DEPTH_MAX], depth;
    struct frame frames[FRAMES_MAX];
    size_t n_frames;
    bool unsure;        /* brackets depend on macros or conditions */
    size_t plain_until; /* quotes before here begin no literal: one that never ends came first */
    char bracket_error[160];
    char *scratch; /* as long as the source: a directive's text */
};

static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static bool is_dead(const struct scan *s)
{
    return s->n_frames > 0 && s->frames[s->n_frames - 1].dead;
}

/* ---- Comments and literals ---- */

static void remember_remark(struct scan *s, size_t from, size_t to, bool block)
{
    struct c_text *t = s->out;
    struct c_remark *r;
    size_t end = from;

    while (from < to && (s->s[from] == ' ' || s->s[from] == '\t'))
        from++;
    if (from >= to || s->s[from] != '@' || is_dead(s))
        return;
    for (end = from; end < to && s->s[end] != '\n';)
        end++;
    t->remarks = xgrow(t->remarks, &t->cap_remarks, t->n_remarks + 1, sizeof(*t->remarks));
    r = &t->remarks[t->n_remarks++];
    r->line = s->line;
    r->block = block;
    r->text = xcalloc(1, end - from + 1);
    memcpy(r->text, s->s + from, end - from);
}

/* The length of a backslash and the line end behind it at `at`; 0 when there is none. */
static size_t splice_len(const struct scan *s, size_t at)
{
    if (s->s[at] != '\\')
        return 0;
    return s->s[at + 1] == '\n' ? 2 : s->s[at + 1] == '\r' && s->s[at + 2] == '\n' ? 3 : 0;
}

static void skip_line_comment(struct scan *s)
{
    size_t from = s->at + 2, lines = 0;

    while (s->at < s->len && s->s[s->at] != '\n') {
        size_t splice = splice_len(s, s->at);

        lines += splice > 0;
        s->at += splice ? splice : 1;
    }
    remember_remark(s, from, s->at, false);
    s->line += lines;
}

static void skip_block_comment(struct scan *s)
{
    size_t from = s->at + 2, begun = s->line, lines = 0;
    const char *end = from <= s->len ? strstr(s->s + from, "*/") : NULL;
    size_t to = end ? (size_t)(end - s->s) : s->len;

    if (end == NULL)
        complain(s->c,
                 "the comment that begins on line %zu of the program never ends: the answer looks "
                 "cut off",
                 begun);
    for (size_t i = from; i < to; i++)
        lines += s->s[i] == '\n';
    remember_remark(s, from, to, true);
    s->line += lines;
    s->at = end ? to + 2 : s->len;
}

/* Where the literal that begins at `at` ends: behind its closing quote; 0 when its line ends first.
 */
static size_t literal_end(const struct scan *s, size_t at, size_t *lines)
{
    char quote = s->s[at++];

    *lines = 0;
    while (at < s->len && s->s[at] != quote && s->s[at] != '\n') {
        size_t splice = splice_len(s, at);

        *lines += splice > 0;
        at += splice ? splice : s->s[at] == '\\' && at + 1 < s->len ? 2 : 1;
    }
    return at < s->len && s->s[at] == quote ? at + 1 : 0;
}

static size_t line_end(const struct scan *s)
{
    const char *end = strchr(s->s + s->at, '\n');

    return end ? (size_t)(end - s->s) : s->len;
}

static void skip_literal(struct scan *s)
{
    size_t lines, end = literal_end(s, s->at, &lines);

    if (end > 0) {
        s->at = end;
        s->line += lines;
        return;
    }
    if (is_dead(s)) {
        s->plain_until = line_end(s);
        return;
    }
    complain(s->c, "the %s on line %zu of the program is not closed on its line%s",
             s->s[s->at] == '"' ? "string" : "character", s->line,
             line_end(s) < s->len ? "" : ": the answer looks cut off");
    s->at = line_end(s);
}

/* ---- Brackets ---- */

static void note_bracket(struct scan *s, const char *text)
{
    if (s->bracket_error[0] == '\0')
        str_copy(s->bracket_error, sizeof(s->bracket_error), text);
}

static void open_bracket(struct scan *s, char c)
{
    if (s->depth == DEPTH_MAX) {
        s->unsure = true;
        return;
    }
    s->open[s->depth] = c;
    s->open_line[s->depth++] = s->line;
}

static void close_bracket(struct scan *s, char c)
{
    char want = c == ')' ? '(' : c == ']' ? '[' : '{', text[160];

    if (s->depth == 0) {
        snprintf(text, sizeof(text), "the '%c' on line %zu of the program closes nothing", c,
                 s->line);
        note_bracket(s, text);
        return;
    }
    s->depth--;
    if (s->n_frames > 0 && s->depth < s->frames[s->n_frames - 1].depth_before)
        s->unsure = true; /* what is open now depends on the condition */
    if (s->open[s->depth] == want)
        return;
    snprintf(text, sizeof(text),
             "the '%c' on line %zu of the program meets the '%c' opened on line %zu", c, s->line,
             s->open[s->depth], s->open_line[s->depth]);
    note_bracket(s, text);
}

static bool body_is_balanced(const char *s)
{
    int depth[3] = { 0 };

    for (; *s; s++) {
        if (*s == '"' || *s == '\'') { /* literals hold anything */
            char quote = *s++;

            while (*s && *s != quote)
                s += *s == '\\' && s[1] ? 2 : 1;
            if (*s == '\0')
                break;
            continue;
        }
        depth[0] += (*s == '(') - (*s == ')');
        depth[1] += (*s == '[') - (*s == ']');
        depth[2] += (*s == '{') - (*s == '}');
    }
    return depth[0] == 0 && depth[1] == 0 && depth[2] == 0;
}

/* ---- Directives ---- */

static size_t word_len(const char *s)
{
    size_t n = 0;

    while (is_word_byte(s[n]))
        n++;
    return n;
}

static bool word_is(const char *s, size_t len, const char *word)
{
    return strlen(word) == len && strncmp(s, word, len) == 0;
}

static enum condition condition_of(const char *name, const char *rest)
{
    bool cpp = strcmp(rest, "__cplusplus") == 0;

    if (strcmp(name, "if") == 0)
        return strcmp(rest, "0") == 0   ? COND_FALSE
               : strcmp(rest, "1") == 0 ? COND_TRUE
                                        : COND_UNKNOWN;
    if (!cpp)
        return COND_UNKNOWN;
    return strcmp(name, "ifdef") == 0 ? COND_FALSE : COND_TRUE;
}

/* X of "#ifndef X", "#if !defined(X)" and "#if !defined X". */
static void guard_of(const char *name, const char *rest, char out[WORD_MAX + 1])
{
    size_t n;

    out[0] = '\0';
    if (strcmp(name, "if") == 0) {
        if (*rest != '!')
            return;
        rest += 1 + strspn(rest + 1, " \t");
        if (!word_is(rest, word_len(rest), "defined"))
            return;
        rest += 7;
        rest += strspn(rest, " \t(");
    } else if (strcmp(name, "ifndef") != 0) {
        return;
    }
    n = word_len(rest);
    if (n > 0 && n <= WORD_MAX && rest[n + strspn(rest + n, " \t)")] == '\0') {
        memcpy(out, rest, n);
        out[n] = '\0';
    }
}

static void frame_begin(struct scan *s, const char *name, const char *rest)
{
    struct frame *f;

    if (s->n_frames == FRAMES_MAX) {
        complain(s->c, "conditionals are nested deeper than %d on line %zu of the program",
                 FRAMES_MAX, s->line);
        s->len = s->at;
        return;
    }
    f = &s->frames[s->n_frames];
    memset(f, 0, sizeof(*f));
    f->line = s->line;
    f->dead_outside = is_dead(s);
    f->cond = condition_of(name, rest);
    f->dead = f->dead_outside || f->cond == COND_FALSE;
    f->depth_before = s->depth;
    guard_of(name, rest, f->guard);
    s->n_frames++;
}

/* A branch is over: every live one must leave the same brackets open, or nothing is known. */
static void branch_end(struct scan *s, struct frame *f)
{
    if (f->dead)
        return;
    if (f->has_first && s->depth != f->depth_first)
        s->unsure = true;
    if (!f->has_first)
        f->depth_first = s->depth;
    f->has_first = true;
    s->depth = f->depth_before;
}

static void frame_switch(struct scan *s, bool last)
{
    struct frame *f = &s->frames[s->n_frames - 1];

    branch_end(s, f);
    f->dead = f->dead_outside || f->cond == COND_TRUE;
    f->has_else = f->has_else || last;
    f->guard[0] = '\0';
}

static void frame_end(struct scan *s)
{
    struct frame *f = &s->frames[s->n_frames - 1];

    branch_end(s, f);
    if (!f->has_else && f->has_first && f->cond != COND_TRUE && f->depth_first != f->depth_before)
        s->unsure = true;
    s->depth = f->has_first ? f->depth_first : f->depth_before;
    s->n_frames--;
}

/* True when it was a conditional. */
static bool apply_conditional(struct scan *s, const char *name, const char *rest)
{
    bool is_else = strcmp(name, "else") == 0, is_end = strcmp(name, "endif") == 0;

    if (strcmp(name, "if") == 0 || strcmp(name, "ifdef") == 0 || strcmp(name, "ifndef") == 0) {
        frame_begin(s, name, rest);
        return true;
    }
    if (!is_else && !is_end && strcmp(name, "elif") != 0)
        return false;
    if (s->n_frames == 0)
        complain(s->c, "the #%s on line %zu of the program has no #if", name, s->line);
    else if (is_end)
        frame_end(s);
    else
        frame_switch(s, is_else);
    return true;
}

static bool is_guarded(const struct scan *s, const char *rest)
{
    size_t n = word_len(rest);

    for (size_t i = 0; i < s->n_frames; i++)
        if (word_is(rest, n, s->frames[i].guard))
            return true;
    return false;
}

static void keep_directive(struct scan *s, size_t line, const char *name, const char *rest)
{
    struct c_text *t = s->out;
    struct c_directive *d;

    if (is_dead(s))
        return;
    if (strcmp(name, "define") == 0 && !body_is_balanced(rest))
        s->unsure = true;
    t->directives =
        xgrow(t->directives, &t->cap_directives, t->n_directives + 1, sizeof(*t->directives));
    d = &t->directives[t->n_directives++];
    d->line = line;
    str_copy(d->name, sizeof(d->name), name);
    d->rest = xstrdup(rest);
    d->guarded = strcmp(name, "define") == 0 && is_guarded(s, rest);
}

/* The directive's line into `out`, without comments and splices. */
static void directive_text(struct scan *s, char *out)
{
    size_t n = 0, lines, end;

    while (s->at < s->len && s->s[s->at] != '\n') {
        const char *p = s->s + s->at;
        size_t splice = splice_len(s, s->at);

        if (splice > 0) {
            s->line++;
            s->at += splice;
        } else if (p[0] == '/' && p[1] == '/') {
            skip_line_comment(s);
        } else if (p[0] == '/' && p[1] == '*') {
            skip_block_comment(s);
            out[n++] = ' ';
        } else if ((*p == '"' || *p == '\'') && s->at >= s->plain_until) {
            end = literal_end(s, s->at, &lines);
            if (end == 0) {
                s->plain_until = line_end(s);
                continue;
            }
            memcpy(out + n, p, end - s->at);
            n += end - s->at;
            s->at = end;
            s->line += lines;
        } else {
            out[n++] = *p;
            s->at++;
        }
    }
    while (n > 0 && isspace((unsigned char)out[n - 1]))
        n--;
    out[n] = '\0';
}

static void read_directive(struct scan *s)
{
    size_t line = s->line, n;
    char name[16];
    const char *rest;

    s->at += s->s[s->at] == '%' ? 2 : 1;
    directive_text(s, s->scratch);
    rest = s->scratch + strspn(s->scratch, " \t");
    n = word_len(rest);
    if (n == 0 || n >= sizeof(name))
        return; /* a lone '#', or what the compiler will say no to */
    memcpy(name, rest, n);
    name[n] = '\0';
    rest += n + strspn(rest + n, " \t");
    if (!apply_conditional(s, name, rest))
        keep_directive(s, line, name, rest);
    else if (strcmp(name, "if") == 0 || strcmp(name, "elif") == 0)
        keep_directive(s, line, name, rest);
}

/* ---- The whole ---- */

static void read_byte(struct scan *s)
{
    char c = s->s[s->at];

    if (c == '/' && s->s[s->at + 1] == '/') {
        skip_line_comment(s);
        return;
    }
    if (c == '/' && s->s[s->at + 1] == '*') {
        skip_block_comment(s);
        return;
    }
    if ((c == '"' || c == '\'') && s->at >= s->plain_until) {
        skip_literal(s);
        return;
    }
    s->line += c == '\n';
    if (!is_dead(s) && c != '\0') {
        if (c != '\n')
            s->out->code[s->at] = c;
        if (strchr("([{", c))
            open_bracket(s, c);
        else if (strchr(")]}", c))
            close_bracket(s, c);
    }
    s->at++;
}

static void check_end(struct scan *s)
{
    for (size_t i = 0; i < s->n_frames; i++)
        complain(s->c,
                 "the conditional of line %zu of the program has no #endif: the answer looks cut "
                 "off",
                 s->frames[i].line);
    if (s->unsure || s->n_frames > 0)
        return;
    if (s->bracket_error[0])
        complain(s->c, "%s", s->bracket_error);
    else if (s->depth > 0)
        complain(s->c,
                 "%zu bracket%s never closed, the last the '%c' of line %zu of the program: the "
                 "answer looks cut off",
                 s->depth, s->depth == 1 ? " is" : "s are", s->open[s->depth - 1],
                 s->open_line[s->depth - 1]);
}

void c_text_read(const char *source, struct c_text *out, struct complaints *c)
{
    struct scan *s = xcalloc(1, sizeof(*s));
    bool line_begins = true;

    memset(out, 0, sizeof(*out));
    s->s = source;
    s->len = strlen(source);
    s->line = 1;
    s->out = out;
    s->c = c;
    s->scratch = xmalloc(s->len + 1);
    out->code = xmalloc(s->len + 1);
    for (size_t i = 0; i < s->len; i++)
        out->code[i] = source[i] == '\n' ? '\n' : ' ';
    out->code[s->len] = '\0';
    while (s->at < s->len) {
        char b = source[s->at];

        if (line_begins && (b == '#' || (b == '%' && source[s->at + 1] == ':'))) {
            read_directive(s);
            continue;
        }
        line_begins =
            b == '\n' ||
            (line_begins && (isspace((unsigned char)b) || (b == '/' && source[s->at + 1] == '*')));
        read_byte(s);
    }
    check_end(s);
    free(s->scratch);
    free(s);
}

void c_text_release(struct c_text *t)
{
    for (size_t i = 0; i < t->n_directives; i++)
        free(t->directives[i].rest);
    for (size_t i = 0; i < t->n_remarks; i++)
        free(t->remarks[i].text);
    free(t->directives);
    free(t->remarks);
    free(t->code);
    memset(t, 0, sizeof(*t));
}
