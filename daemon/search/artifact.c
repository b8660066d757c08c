/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model's answer taken apart into fences and blocks, and the program that is meant; see
 * artifact.h. A language is a row of the table at the end.
 */
#include "search/artifact.h"

#include <ctype.h>
#include <stdarg.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/artifact_impl.h"
#include "search/thinking.h"

enum { ANSWER_MAX = 1 << 20 /* bytes of an answer */ };

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
        json_array_append_new(c->list,
                              json_sprintf("and %zu more of the kind", c->n - ARTIFACT_ERRORS_MAX));
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
    bool has_block;
    bool has_wanted; /* the wanted function is named outside blocks */
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
};

/* The rows are at the end of this file. */
struct language {
    const char *name;
    const char *tags[8];       /* of fences, lower case; "" is a fence without one */
    const char *wanted;        /* the function that the program must define */
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

    return n >= 3 &&
           (l->trimmed[0] == '~' || memchr(l->trimmed + n, '`', l->trimmed_len - n) == NULL);
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
        f->has_wanted = f->has_wanted || memmem(l->s, l->len, a->language->wanted,
                                                strlen(a->language->wanted)) != NULL;
    } else if (opens_fence(l)) {
        begin_fence(a, l);
    } else {
        artifact_hear(a->out, l->trimmed, l->trimmed_len, l->number, a->c);
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

        if (fence_is_program(a, f) || (f->has_block && f->has_wanted))
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

/* A complaint about the answer as bytes; true when it can be read. `said` is what is left of it
 * without the thoughts before it. */
static bool is_readable(const char *answer, const char *said, struct complaints *c)
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
    else if (said == NULL)
        complain(c, "the <think> block that the answer begins with does not end: the answer was "
                    "cut off inside it");
    else if (said[strspn(said, " \t\r\n")] == '\0')
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
    const char *said = thinking_skip(answer);

    a->language = language_find(language);
    a->c = &c;
    a->out = &artifact;
    if (a->language == NULL) {
        complain(&c, "no program can be read in the language '%.40s'", language);
    } else if (is_readable(answer, said, &c)) {
        read_lines(a, said);
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

static const struct language languages[] = {
    { .name = "c",
      .tags = { "c", "", "cpp", "c++", "cc", "h" },
      .wanted = "ks_kernel",
      .whole = c_grammar_whole,
      .patch = c_grammar_patch,
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
