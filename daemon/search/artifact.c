/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's answer taken apart: fences, blocks, and the lines that say what it did; see artifact.h.
 * A language is a row of the table at the end.
 */
#include "search/artifact.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/artifact_impl.h"

enum {
    ANSWER_MAX = 1 << 20, /* bytes of an answer */
    USE_MAX = 64          /* bytes of one insight's id */
};

/* ---- What is wrong ---- */

void complain(struct complaints *c, const char *fmt, ...)
{
    CLEANUP(freep) char *text = NULL;
    va_list ap;

    if (++c->n > ARTIFACT_ERRORS_MAX)
        return;
    va_start(ap, fmt);
    if (vasprintf(&text, fmt, ap) < 0)
        abort(); /* as xmalloc does */
    va_end(ap);
    json_array_append_new(c->list, json_string(text));
}

int complaints_end(const struct complaints *c, size_t first, const char *what, struct err *err)
{
    const char *text = json_string_value(json_array_get(c->list, first));

    if (c->n == 0)
        return 0;
    if (c->n > ARTIFACT_ERRORS_MAX)
        json_array_append_new(c->list, json_sprintf("and %zu more of the kind",
                                                    c->n - ARTIFACT_ERRORS_MAX));
    return err_set(err, ERR_INVALID, "%s has %zu error%s; the first: %s", what, c->n,
                   c->n == 1 ? "" : "s", text ? text : "(not told)");
}

char *artifact_quote(const char *s, size_t len, char out[ARTIFACT_QUOTE_MAX])
{
    const char *nl = memchr(s, '\n', len);

    if (nl)
        len = (size_t)(nl - s);
    while (len > 0 && isspace((unsigned char)*s)) {
        s++;
        len--;
    }
    while (len > 0 && isspace((unsigned char)s[len - 1]))
        len--;
    return str_visible(s, len, out, ARTIFACT_QUOTE_MAX);
}

/* ---- The answer, line by line ---- */

struct fence {
    size_t line;
    const char *text; /* whole lines */
    size_t len;
    char tag[16];
    bool has_block, has_other; /* blocks; lines that are neither blank nor in a block */
};

enum place { IN_PROSE, IN_FENCE, IN_OLD, IN_NEW };

struct answer {
    const struct language *language;
    struct complaints *c;
    struct artifact *out;
    struct fence fences[ARTIFACT_FENCES_MAX];
    size_t n_fences;
    struct artifact_block blocks[ARTIFACT_BLOCKS_MAX];
    size_t n_blocks;
    enum place place;
    bool fenced; /* a fence is open, also around a block */
    char mark;   /* of the open fence, and how many of them */
    size_t n_marks;
    bool says_expected;
    size_t n_lines;
};

/* The rows are at the end of this file. */
struct language {
    const char *name;
    const char *tags[8]; /* of fences, lower case; "" is a fence without one */
    const char *wanted;  /* the function that the program must define */
    const char *whole, *patch; /* the grammar without and with blocks */
    void (*look)(const struct c_text *t, const char *source, struct complaints *c);
};

/* One line of the answer: without its newline, and without blanks at both ends. */
struct answer_line {
    const char *s, *trimmed;
    size_t len, trimmed_len, number;
    const char *next; /* the line after it */
};

static bool line_is(const struct answer_line *l, const char *text)
{
    return l->trimmed_len == strlen(text) && memcmp(l->trimmed, text, l->trimmed_len) == 0;
}

static bool line_begins(const struct answer_line *l, const char *text)
{
    return l->trimmed_len >= strlen(text) && memcmp(l->trimmed, text, strlen(text)) == 0;
}

static size_t count_marks(const struct answer_line *l)
{
    size_t n = 0;

    while (n < l->trimmed_len && l->trimmed[n] == l->trimmed[0] && strchr("`~", l->trimmed[0]))
        n++;
    return n;
}

/* "```c": not "```x```", which is a word in a sentence. */
static bool opens_fence(const struct answer_line *l)
{
    size_t n = count_marks(l);

    return n >= 3 && (l->trimmed[0] == '~' ||
                      memchr(l->trimmed + n, '`', l->trimmed_len - n) == NULL);
}

static void begin_fence(struct answer *a, const struct answer_line *l)
{
    struct fence *f;
    size_t n = count_marks(l), k = 0;

    if (a->n_fences == ARTIFACT_FENCES_MAX) {
        complain(a->c, "the answer has more than %d fences", ARTIFACT_FENCES_MAX);
        return;
    }
    f = &a->fences[a->n_fences++];
    f->line = l->number;
    f->text = l->next;
    a->fenced = true;
    a->place = IN_FENCE;
    a->mark = l->trimmed[0];
    a->n_marks = n;
    while (n < l->trimmed_len && isspace((unsigned char)l->trimmed[n]))
        n++;
    while (n < l->trimmed_len && !isspace((unsigned char)l->trimmed[n]) && k + 1 < sizeof(f->tag))
        f->tag[k++] = (char)tolower((unsigned char)l->trimmed[n++]);
}

static bool closes_fence(const struct answer *a, const struct answer_line *l)
{
    size_t n = count_marks(l);

    return n >= a->n_marks && n == l->trimmed_len && l->trimmed[0] == a->mark;
}

static void begin_block(struct answer *a, const struct answer_line *l)
{
    struct artifact_block *b;

    if (a->fenced)
        a->fences[a->n_fences - 1].has_block = true;
    if (a->n_blocks == ARTIFACT_BLOCKS_MAX) {
        complain(a->c, "the answer has more than %d blocks", ARTIFACT_BLOCKS_MAX);
        return;
    }
    b = &a->blocks[a->n_blocks++];
    b->line = l->number;
    b->old_text = l->next;
    a->place = IN_OLD;
}

/* A line of a block's two texts. */
static void read_block_line(struct answer *a, const struct answer_line *l)
{
    struct artifact_block *b = &a->blocks[a->n_blocks - 1];

    if (line_is(l, "<<<<<<< SEARCH")) {
        complain(a->c, "a block begins on line %zu of the answer before block %zu has ended",
                 l->number, a->n_blocks);
        a->place = a->fenced ? IN_FENCE : IN_PROSE;
        begin_block(a, l);
    } else if (line_is(l, "=======") && a->place == IN_OLD) {
        b->old_len = (size_t)(l->s - b->old_text);
        b->new_text = l->next;
        a->place = IN_NEW;
    } else if (line_is(l, "=======")) {
        complain(a->c, "block %zu has a second '=======' on line %zu of the answer", a->n_blocks,
                 l->number);
    } else if (line_is(l, ">>>>>>> REPLACE")) {
        if (a->place == IN_OLD)
            complain(a->c, "block %zu ends on line %zu of the answer without a '=======' before it",
                     a->n_blocks, l->number);
        else
            b->new_len = (size_t)(l->s - b->new_text);
        a->place = a->fenced ? IN_FENCE : IN_PROSE;
    }
}

/* ---- What an answer says of itself ---- */

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
    if (!isdigit((unsigned char)**s))
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

/* "1.8x", "1.8 +- 20%", "1.5-2.0x" (whose ends are one deviation from the middle). */
static bool read_expected(const char *s, double *mean, double *sd)
{
    double value, other = 0;

    *sd = 0;
    if (!take_number(&s, &value))
        return false;
    take_times(&s);
    if (strncmp(s, "+-", 2) == 0 || strncmp(s, "\xc2\xb1", 2) == 0) {
        s += 2;
    } else if (strncmp(s, "+/-", 3) == 0) {
        s += 3;
    } else if (*s == '-') {
        s++;
        if (!take_number(&s, &other) || !(other >= value) || !(value >= 1e-3) || other > 1e4)
            return false;
        take_times(&s);
        *mean = (log(value) + log(other)) / 2;
        *sd = (log(other) - log(value)) / 2;
        return *s == '\0' || *s == '.';
    }
    if (*s != '\0' && *s != '.') {
        if (!take_number(&s, &other) || other > 1000)
            return false;
        s += strspn(s, " \t");
        if (*s++ != '%')
            return false;
        s += strspn(s, " \t");
        *sd = log1p(other / 100);
    }
    if ((*s != '\0' && *s != '.') || !(value >= 1e-3 && value <= 1e4))
        return false;
    *mean = log(value);
    return true;
}

static void say_expected(struct answer *a, const char *s, size_t len, size_t number)
{
    static const char *const none[] = { "", "none", "unknown", "?", "n/a" };
    char text[64] = "", seen[ARTIFACT_QUOTE_MAX];
    double mean, sd;

    if (len < sizeof(text))
        memcpy(text, s, len);
    for (size_t i = 0; i < ARRAY_LEN(none) && len < sizeof(text); i++)
        if (strcasecmp(text, none[i]) == 0)
            return;
    if (len >= sizeof(text) || !read_expected(text, &mean, &sd)) {
        complain(a->c,
                 "line %zu of the answer expects '%s', which is neither like '1.8x' nor like '1.8x "
                 "+- 20%%'",
                 number, artifact_quote(s, len, seen));
        return;
    }
    if (a->says_expected && (mean != a->out->expected || sd != a->out->expected_sd))
        complain(a->c, "line %zu of the answer expects something else than a line before it",
                 number);
    a->says_expected = a->out->has_expected = true;
    a->out->expected = mean;
    a->out->expected_sd = sd;
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
static const char *header_value(const struct answer_line *l, const char *name, size_t *len)
{
    const char *s = l->trimmed, *end = s + l->trimmed_len;
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

static void read_prose(struct answer *a, const struct answer_line *l)
{
    const char *s;
    size_t len;

    if ((s = header_value(l, "NOTE", &len)) != NULL)
        say_note(a->out, s, len);
    else if ((s = header_value(l, "EXPECT", &len)) != NULL)
        say_expected(a, s, len, l->number);
    else if ((s = header_value(l, "USES", &len)) != NULL)
        say_uses(a->out, s, len);
}

/* ---- Lines to fences and blocks ---- */

static bool is_stray_marker(const struct answer_line *l)
{
    return line_begins(l, "<<<<<<<") || line_begins(l, ">>>>>>>");
}

static void read_open_line(struct answer *a, const struct answer_line *l)
{
    struct fence *f = a->fenced ? &a->fences[a->n_fences - 1] : NULL;

    if (line_is(l, "<<<<<<< SEARCH")) {
        begin_block(a, l);
    } else if (is_stray_marker(l)) {
        char seen[ARTIFACT_QUOTE_MAX];

        complain(a->c,
                 "line %zu of the answer is '%s', but a block is '<<<<<<< SEARCH', '=======' and "
                 "'>>>>>>> REPLACE', each on a line of its own",
                 l->number, artifact_quote(l->s, l->len, seen));
    } else if (f && closes_fence(a, l)) {
        f->len = (size_t)(l->s - f->text);
        a->fenced = false;
        a->place = IN_PROSE;
    } else if (f) {
        if (opens_fence(l) && count_marks(l) >= a->n_marks && l->trimmed[0] == a->mark)
            complain(a->c,
                     "a fence opens on line %zu of the answer, but the one of line %zu is not "
                     "closed",
                     l->number, f->line);
        f->has_other = f->has_other || l->trimmed_len > 0;
    } else if (opens_fence(l)) {
        begin_fence(a, l);
    } else {
        read_prose(a, l);
    }
}

static void read_end(struct answer *a)
{
    if (a->place == IN_OLD || a->place == IN_NEW)
        complain(a->c,
                 "block %zu, which begins on line %zu, has no '>>>>>>> REPLACE': the answer looks "
                 "cut off",
                 a->n_blocks, a->blocks[a->n_blocks - 1].line);
    else if (a->fenced)
        complain(a->c,
                 "the fence opened on line %zu of the answer is not closed: the answer looks cut "
                 "off",
                 a->fences[a->n_fences - 1].line);
}

static void read_lines(struct answer *a, const char *text)
{
    struct answer_line l = { .next = text };

    while (*l.next) {
        const char *nl = strchr(l.next, '\n');

        l.s = l.trimmed = l.next;
        l.len = nl ? (size_t)(nl - l.s) : strlen(l.s);
        l.next = nl ? nl + 1 : l.s + l.len;
        l.number++;
        l.trimmed_len = l.len;
        while (l.trimmed_len > 0 && isspace((unsigned char)*l.trimmed)) {
            l.trimmed++;
            l.trimmed_len--;
        }
        while (l.trimmed_len > 0 && isspace((unsigned char)l.trimmed[l.trimmed_len - 1]))
            l.trimmed_len--;
        if (a->place == IN_OLD || a->place == IN_NEW)
            read_block_line(a, &l);
        else
            read_open_line(a, &l);
    }
    read_end(a);
}

/* ---- The one program that is meant ---- */

static bool has_tag(const struct language *language, const char *tag)
{
    for (size_t i = 0; i < ARRAY_LEN(language->tags) && language->tags[i]; i++)
        if (strcmp(language->tags[i], tag) == 0)
            return true;
    return false;
}

static char *fence_text(const struct fence *f)
{
    char *text = xcalloc(1, f->len + 1);

    memcpy(text, f->text, f->len);
    return text;
}

/* Does the fence hold a program of the language? */
static bool fence_is_program(const struct answer *a, const struct fence *f)
{
    json_auto_t *unheard = json_array();
    struct complaints ignored = { .list = unheard };
    CLEANUP(freep) char *text = NULL;
    struct c_text t;
    bool is;

    if (f->has_block || !has_tag(a->language, f->tag))
        return false;
    text = fence_text(f);
    c_text_read(text, &t, &ignored);
    is = c_text_defines(&t, a->language->wanted, NULL);
    c_text_release(&t);
    return is;
}

static void take_blocks(struct answer *a, const char *base)
{
    for (size_t i = 0; i < a->n_fences; i++) {
        const struct fence *f = &a->fences[i];

        if (fence_is_program(a, f) || (f->has_block && f->has_other && has_tag(a->language, f->tag)))
            complain(a->c,
                     "the answer has a whole program in the fence of line %zu and blocks as well: "
                     "it must be one or the other",
                     f->line);
    }
    if (base == NULL)
        complain(a->c, "the answer has blocks, but there is no program to apply them to: a whole "
                       "program is wanted");
    if (a->c->n == 0)
        a->out->source = artifact_patch(base, a->blocks, a->n_blocks, a->c);
    a->out->patched = true;
}

static void take_fence(struct answer *a, bool patches)
{
    const struct fence *program = NULL, *tagged = NULL;
    size_t n_tagged = 0;

    for (size_t i = 0; i < a->n_fences; i++) {
        const struct fence *f = &a->fences[i];

        if (has_tag(a->language, f->tag)) {
            tagged = f;
            n_tagged++;
        }
        if (!fence_is_program(a, f))
            continue;
        if (program) {
            complain(a->c,
                     "the answer has two programs that define %s, in the fences of lines %zu and "
                     "%zu: which one is meant?",
                     a->language->wanted, program->line, f->line);
            return;
        }
        program = f;
    }
    if (program == NULL && n_tagged == 1)
        program = tagged; /* the look at it says what it lacks */
    if (program == NULL)
        complain(a->c, "the answer has %s that defines %s%s",
                 n_tagged ? "no fence" : "neither a fence tagged c", a->language->wanted,
                 n_tagged  ? ""
                 : patches ? " nor blocks to change the program"
                           : " nor any other program");
    else
        a->out->source = fence_text(program);
}

static void look_at(struct answer *a)
{
    struct artifact *out = a->out;
    struct c_text t;

    if (out->source == NULL)
        return;
    if (strlen(out->source) > ARTIFACT_SOURCE_MAX) {
        complain(a->c, "the program has %zu bytes, at most %d are allowed", strlen(out->source),
                 ARTIFACT_SOURCE_MAX);
        return;
    }
    c_text_read(out->source, &t, a->c);
    a->language->look(&t, out->source, a->c);
    out->space = tunables_read(&t, a->c);
    c_text_release(&t);
}

static const struct language *language_find(const char *name);

/* A complaint about the answer as bytes; true when it can be read. */
static bool is_readable(const char *answer, struct complaints *c)
{
    size_t len = strlen(answer);
    json_auto_t *utf8 = NULL;

    if (len > ANSWER_MAX) {
        complain(c, "the answer has %zu bytes, at most %d are allowed", len, ANSWER_MAX);
        return false;
    }
    utf8 = json_string(answer);
    if (utf8 == NULL)
        complain(c, "the answer is not UTF-8");
    else if (answer[strspn(answer, " \t\r\n")] == '\0')
        complain(c, "the answer is empty");
    return c->n == 0;
}

int artifact_parse(const char *language, const char *answer, const char *base, struct artifact *out,
                   json_t *errors, struct err *err)
{
    struct complaints c = { .list = errors };
    size_t first = json_array_size(errors);
    struct artifact artifact = { .note = xstrdup("") };
    struct answer *a = xcalloc(1, sizeof(*a));

    a->language = language_find(language);
    a->c = &c;
    a->out = &artifact;
    if (a->language == NULL) {
        complain(&c, "no program can be read in the language '%.40s'", language);
    } else if (is_readable(answer, &c)) {
        read_lines(a, answer);
        if (a->n_blocks > 0)
            take_blocks(a, base);
        else if (c.n == 0)
            take_fence(a, base != NULL);
        look_at(a);
    }
    free(a);
    if (complaints_end(&c, first, "the answer", err) != 0) {
        artifact_release(&artifact);
        return -1;
    }
    *out = artifact;
    return 0;
}

void artifact_release(struct artifact *a)
{
    free(a->source);
    free(a->note);
    json_decref(a->space);
    for (size_t i = 0; i < a->n_uses; i++)
        free(a->uses[i]);
    memset(a, 0, sizeof(*a));
}

/* ---- Languages ---- */

#define C_HEAD                                                                                     \
    "Outside code you may write these lines, each at most once; all other prose is ignored:\n"     \
    "NOTE: one sentence on what this program does differently\n"                                   \
    "EXPECT: 1.8x +- 20%\n"                                                                        \
    "(the speed that you expect, as a multiple of the baseline's, with your uncertainty)\n"        \
    "USES: id, id\n"                                                                               \
    "(the insights from the list above that you followed, if there is one)\n"

#define C_RULES                                                                                    \
    "The program is one C file (gnu17). It defines, not static:\n"                                 \
    "    int ks_kernel(const struct ks_call *call)\n"                                              \
    "It includes \"ks_task.h\" and standard headers in <>; no other file is there. At most 256 "   \
    "KiB.\n"                                                                                       \
    "\n"                                                                                           \
    "Tunables. Numbers that should be searched, rather than guessed, are declared in comment "     \
    "lines of the program, at most 16:\n"                                                          \
    "    //@tunable NAME TYPE VALUES default VALUE [structural] [technique WORD] [\"help\"]\n"     \
    "    //@constraint EXPRESSION\n"                                                               \
    "TYPE is int, real, bool or enum. VALUES are parted by '|'; a bool needs none. Add the word "  \
    "structural where another value is another algorithm rather than another size. A constraint "  \
    "is an expression of tunables and numbers with + - * / % comparisons && || ! and "             \
    "parentheses, enum values as 'text'; the defaults must satisfy all of them. The build "        \
    "defines each NAME as a macro: the value, 0 or 1 for a bool; for an enum MODE with values a "  \
    "and b, MODE_a and MODE_b are 0 and 1 and MODE is one of them. The program must use each "     \
    "NAME. A fallback is optional, must be under #ifndef NAME, and equals the declared default. "  \
    "Names that begin with KS_ or _ are taken.\n"

#define C_WHOLE_EXAMPLE                                                                            \
    "NOTE: Adds in blocks that threads take in turn.\n"                                            \
    "EXPECT: 1.8x +- 20%\n"                                                                        \
    "```c\n"                                                                                       \
    "#include \"ks_task.h\"\n"                                                                     \
    "\n"                                                                                           \
    "//@tunable BLOCK int 1024|4096|16384 default 4096 technique tiling \"elements per block\"\n"  \
    "//@tunable ORDER enum rising|falling default rising structural \"which block is first\"\n"    \
    "//@constraint BLOCK % 1024 == 0\n"                                                            \
    "#ifndef BLOCK\n"                                                                              \
    "#define BLOCK 4096\n"                                                                         \
    "#endif\n"                                                                                     \
    "\n"                                                                                           \
    "static void add_block(void *ctx, int block)\n"                                                \
    "{\n"                                                                                          \
    "    const struct ks_call *call = ctx;\n"                                                      \
    "    const float *x = call->inputs[0].data, *y = call->inputs[1].data;\n"                      \
    "    float *z = call->outputs[0].data;\n"                                                      \
    "    int64_t n = call->outputs[0].shape[0], from, to;\n"                                       \
    "\n"                                                                                           \
    "#if ORDER == ORDER_falling\n"                                                                 \
    "    block = (int)((n + BLOCK - 1) / BLOCK) - 1 - block;\n"                                    \
    "#endif\n"                                                                                     \
    "    from = (int64_t)block * BLOCK;\n"                                                         \
    "    to = from + BLOCK < n ? from + BLOCK : n;\n"                                              \
    "    for (int64_t i = from; i < to; i++)\n"                                                    \
    "        z[i] = x[i] + y[i];\n"                                                                \
    "}\n"                                                                                          \
    "\n"                                                                                           \
    "int ks_kernel(const struct ks_call *call)\n"                                                  \
    "{\n"                                                                                          \
    "    int64_t n = call->outputs[0].shape[0];\n"                                                 \
    "\n"                                                                                           \
    "    call->parallel(call->pool, add_block, (void *)call, (int)((n + BLOCK - 1) / BLOCK));\n"   \
    "    return 0;\n"                                                                              \
    "}\n"                                                                                          \
    "```\n"

#define C_PATCH_EXAMPLE                                                                            \
    "NOTE: Tells the compiler that the arrays do not overlap.\n"                                   \
    "EXPECT: 1.1x\n"                                                                               \
    "<<<<<<< SEARCH\n"                                                                             \
    "    float *z = call->outputs[0].data;\n"                                                      \
    "=======\n"                                                                                    \
    "    float *restrict z = call->outputs[0].data;\n"                                             \
    ">>>>>>> REPLACE\n"

#define C_WHOLE                                                                                    \
    "Answer with the whole program, in exactly one fence tagged c. Nothing is added to it and "    \
    "nothing is changed in it.\n"

#define C_PATCH                                                                                    \
    "Answer in one of two forms, never in both.\n"                                                 \
    "Form 1, the whole program, in exactly one fence tagged c. Nothing is added to it and "        \
    "nothing is changed in it.\n"                                                                  \
    "Form 2, changes of the program that you were shown, as blocks. The markers stand alone on "   \
    "their lines. The lines between SEARCH and ======= must be in that program exactly once: "     \
    "whole lines, copied with their indentation; blanks at line ends do not count. Take enough "   \
    "lines to make them unique. The lines up to REPLACE take their place, none to delete. Blocks " \
    "are applied in order, each to the result of those before. The result must be a whole "        \
    "program as below. Prefer this form for small changes.\n"

static const struct language languages[] = {
    { .name = "c",
      .tags = { "c", "", "cpp", "c++", "cc", "h" },
      .wanted = "ks_kernel",
      .whole = C_WHOLE "\n" C_RULES "\n" C_HEAD "\nExample:\n" C_WHOLE_EXAMPLE,
      .patch = C_PATCH "\n" C_RULES "\n" C_HEAD "\nExample of form 1:\n" C_WHOLE_EXAMPLE
                       "\nExample of form 2, a change of that program:\n" C_PATCH_EXAMPLE,
      .look = c_text_look },
};

static const struct language *language_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(languages); i++)
        if (strcmp(languages[i].name, name) == 0)
            return &languages[i];
    return NULL;
}

const char *artifact_grammar(const char *language, bool patches)
{
    const struct language *l = language_find(language);

    return l == NULL ? NULL : patches ? l->patch : l->whole;
}
