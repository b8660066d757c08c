/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The JSON object in a model's answer; see plan_answer.h. An object is copied without what JSON
 * does not have (comments, trailing commas), never with anything guessed, and then parsed strictly.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "search/plan_answer.h"
#include "search/thinking.h"

enum {
    TEXT_MAX = 1 << 20,  /* bytes of an answer */
    WORK_MAX = 16 << 20, /* bytes looked at, over all places where an object might begin */
    DEPTH_MAX = 64,      /* as jsonx.h */
    CLOSERS_MAX = 2      /* brackets that may be missing at the very end */
};

/* What became of a place where an object might begin. */
enum found { FOUND_OBJECT, FOUND_BROKEN };

struct object_scan {
    const char *text;
    size_t len, at; /* at: what is not read yet */
    char *copy;     /* what is parsed */
    size_t n;
    char open[DEPTH_MAX];
    size_t depth;
    size_t commas, comments, closers;
    size_t no_number; /* where NaN or the like stands; 0: nowhere */
    size_t work;
    size_t bad_at; /* when broken: where, and why */
    char bad[256];
};

static size_t line_of(const struct object_scan *s, size_t at)
{
    size_t line = 1;

    for (size_t i = 0; i < at && i < s->len; i++)
        line += s->text[i] == '\n';
    return line;
}

static bool at_fence(const struct object_scan *s, size_t at)
{
    return at + 3 <= s->len && memcmp(s->text + at, "```", 3) == 0;
}

/* Behind blanks and comments at `at`; `comments` counts them. */
static size_t skip_gap(const struct object_scan *s, size_t at, size_t *comments)
{
    for (;;) {
        const char *end;

        while (at < s->len && isspace((unsigned char)s->text[at]))
            at++;
        if (at + 1 >= s->len || s->text[at] != '/')
            return at;
        if (s->text[at + 1] == '/')
            end = memchr(s->text + at, '\n', s->len - at);
        else if (s->text[at + 1] == '*')
            end = memmem(s->text + at + 2, s->len - at - 2, "*/", 2);
        else
            return at;
        ++*comments;
        at = end == NULL ? s->len : (size_t)(end - s->text) + (s->text[at + 1] == '*' ? 2 : 1);
    }
}

static enum found broken(struct object_scan *s, size_t at, const char *why)
{
    s->bad_at = at;
    str_copy(s->bad, sizeof(s->bad), why);
    return FOUND_BROKEN;
}

/* Copies the string that begins here; false when the text ends inside it. */
static bool copy_string(struct object_scan *s)
{
    size_t from = s->at++;

    while (s->at < s->len && s->text[s->at] != '"')
        s->at += s->text[s->at] == '\\' ? 2 : 1;
    if (s->at >= s->len) {
        s->at = s->len;
        return false;
    }
    s->at++;
    memcpy(s->copy + s->n, s->text + from, s->at - from);
    s->n += s->at - from;
    return true;
}

/* NaN, Infinity and their spellings: words that JSON has not, but that models write. */
static bool is_no_number(const char *word, size_t len)
{
    static const char *const words[] = { "nan", "inf", "infinity" };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (strlen(words[i]) == len && strncasecmp(word, words[i], len) == 0)
            return true;
    return false;
}

/* The end of the text comes before the end of the object. */
static enum found end_early(struct object_scan *s)
{
    char last = s->n > 0 ? s->copy[s->n - 1] : '{';

    if (s->depth > CLOSERS_MAX || strchr("{[,:", last) != NULL || !strchr("\"}]", last))
        return broken(s, s->at, "the object does not end; the answer looks cut off");
    s->closers = s->depth;
    while (s->depth > 0)
        s->copy[s->n++] = s->open[--s->depth] == '{' ? '}' : ']';
    return FOUND_OBJECT;
}

/* A comma, unless only a closing bracket follows it. */
static void copy_comma(struct object_scan *s)
{
    size_t ignored = 0, next = skip_gap(s, s->at + 1, &ignored);

    s->work += next - s->at;
    s->at++;
    if (next < s->len && strchr("}]", s->text[next]))
        s->commas++;
    else
        s->copy[s->n++] = ',';
}

static void copy_word(struct object_scan *s)
{
    size_t from = s->at;

    while (s->at < s->len && isalpha((unsigned char)s->text[s->at]))
        s->at++;
    if (s->no_number == 0 && is_no_number(s->text + from, s->at - from))
        s->no_number = from; /* behind a brace, so never 0 */
    memcpy(s->copy + s->n, s->text + from, s->at - from);
    s->n += s->at - from;
}

/* Nothing behind a place that brackets make no sense of can be told from what is inside. */
static enum found lost(struct object_scan *s, const char *why)
{
    broken(s, s->at - 1, why);
    s->at = s->len;
    return FOUND_BROKEN;
}

/* Copies the object that begins at s->at, mended; leaves s->at behind it. */
static enum found copy_object(struct object_scan *s)
{
    s->n = s->depth = s->commas = s->comments = s->closers = s->no_number = 0;
    do {
        size_t gap = skip_gap(s, s->at, &s->comments);
        char c;

        if (gap > s->at)
            s->copy[s->n++] = ' ';
        s->at = gap;
        if (s->at >= s->len || at_fence(s, s->at)) {
            while (s->n > 0 && s->copy[s->n - 1] == ' ')
                s->n--;
            return end_early(s);
        }
        c = s->text[s->at];
        if (c == '"') {
            if (!copy_string(s))
                return broken(s, s->len, "it ends inside a text: the answer is cut off");
        } else if (c == ',') {
            copy_comma(s);
        } else if (isalpha((unsigned char)c)) {
            copy_word(s);
        } else {
            s->copy[s->n++] = c;
            s->at++;
        }
        if (strchr("{[", c)) {
            if (s->depth == DEPTH_MAX)
                return lost(s, "it is nested too deeply");
            s->open[s->depth++] = c;
        } else if (strchr("}]", c)) {
            if (s->open[s->depth - 1] != (c == '}' ? '{' : '['))
                return lost(s, "a closing bracket does not match the open one");
            s->depth--;
        }
    } while (s->depth > 0);
    return FOUND_OBJECT;
}

/* A copy keeps no lines, so the error names the line where the object begins, and the text. */
static enum found broken_copy(struct object_scan *s, size_t from, const json_error_t *je)
{
    bool twice = json_error_code(je) == json_error_duplicate_key;
    char seen[160], why[256];

    str_visible(je->text, strlen(je->text), seen, sizeof(seen));
    snprintf(why, sizeof(why), "the object that begins there %s: %s",
             twice ? "gives a name twice" : "is not JSON", seen);
    return broken(s, from, why);
}

/* The object at s->at, if it is one; s->at is left behind it. */
static enum found read_object(struct object_scan *s, json_t **out)
{
    size_t from = s->at;
    enum found found = copy_object(s);
    json_error_t je;

    s->work += s->at - from + 1;
    if (found != FOUND_OBJECT)
        return found;
    if (s->no_number > 0)
        return broken(
            s, s->no_number,
            "NaN and infinity are no numbers in JSON; give a finite number, or null where "
            "none is known");
    *out = json_loadb(s->copy, s->n, JSON_REJECT_DUPLICATES, &je);
    if (*out != NULL)
        return FOUND_OBJECT;
    return broken_copy(s, from, &je);
}

/* Does an object begin here, rather than a brace in a sentence? */
static bool looks_like_object(struct object_scan *s, size_t at)
{
    size_t ignored = 0, next = skip_gap(s, at + 1, &ignored);

    s->work += next - at;
    return next < s->len && strchr("\"}", s->text[next]) != NULL;
}

struct pick {
    json_t *object;  /* owned */
    size_t from, to; /* of the text */
    size_t commas, comments, closers;
    size_t others;  /* objects that are not meant */
    struct err why; /* of the first thing that looked like an object and is none */
    bool has_why, is_twice;
    bool is_meant; /* what is broken names what is wanted */
};

static void take_object(struct pick *p, const struct object_scan *s, size_t from,
                        const char *wanted, json_t *object)
{
    if (wanted && json_object_get(object, wanted) == NULL) {
        p->others++;
        json_decref(object);
        return;
    }
    if (p->object) {
        p->is_twice = p->is_twice || (wanted != NULL && !json_equal(p->object, object));
        json_decref(object);
        p->others++;
        return;
    }
    p->object = object;
    p->from = from;
    p->to = s->at;
    p->commas = s->commas;
    p->comments = s->comments;
    p->closers = s->closers;
}

/* Keeps the first error, but one of what was meant rather than of what was not. */
static void keep_why(struct pick *p, const struct object_scan *s, size_t from, const char *wanted)
{
    CLEANUP(freep) char *name = wanted ? str_printf("\"%s\"", wanted) : NULL;
    bool meant = name && memmem(s->text + from, s->at - from, name, strlen(name)) != NULL;

    if (!p->has_why || (meant && !p->is_meant))
        err_set(&p->why, ERR_INVALID, "the JSON cannot be read on line %zu of the answer: %s",
                line_of(s, s->bad_at), s->bad);
    p->has_why = true;
    p->is_meant = p->is_meant || meant;
}

static void find_objects(struct object_scan *s, const char *wanted, struct pick *p)
{
    while (s->at < s->len && !(p->object && wanted == NULL)) {
        const char *brace = memchr(s->text + s->at, '{', s->len - s->at);
        size_t from;
        json_t *object = NULL;

        if (brace == NULL)
            return;
        from = s->at = (size_t)(brace - s->text);
        if (s->work > WORK_MAX) {
            broken(s, from, "there are too many places where JSON might begin");
            keep_why(p, s, from, wanted);
            return;
        }
        if (!looks_like_object(s, from)) {
            s->at++;
            continue;
        }
        if (read_object(s, &object) == FOUND_OBJECT)
            take_object(p, s, from, wanted, object);
        else
            keep_why(p, s, from, wanted);
        if (s->at == from)
            s->at++;
    }
}

/* ---- What was mended ---- */

static bool has_words(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isspace((unsigned char)s[i]))
            return true;
    return false;
}

static bool has_fence(const char *s, size_t len)
{
    return memmem(s, len, "```", 3) != NULL;
}

static void say_repairs(const struct object_scan *s, const struct pick *p, json_t *repairs)
{
    size_t after = s->len - p->to;

    if (has_fence(s->text, p->from) || has_fence(s->text + p->to, after))
        json_array_append_new(repairs, json_string("a fence around the JSON was dropped"));
    else if (has_words(s->text, p->from) || has_words(s->text + p->to, after))
        json_array_append_new(repairs, json_string("text around the JSON was dropped"));
    if (p->others)
        json_array_append_new(
            repairs, json_sprintf("%zu other object%s in the answer %s left aside", p->others,
                                  p->others == 1 ? "" : "s", p->others == 1 ? "was" : "were"));
    if (p->commas)
        json_array_append_new(repairs, json_sprintf("%zu trailing comma%s %s dropped", p->commas,
                                                    p->commas == 1 ? "" : "s",
                                                    p->commas == 1 ? "was" : "were"));
    if (p->comments)
        json_array_append_new(repairs, json_sprintf("%zu comment%s %s dropped", p->comments,
                                                    p->comments == 1 ? "" : "s",
                                                    p->comments == 1 ? "was" : "were"));
    if (p->closers)
        json_array_append_new(repairs,
                              json_sprintf("%zu closing bracket%s missing at the end", p->closers,
                                           p->closers == 1 ? " was" : "s were"));
}

static int conclude(const struct object_scan *s, struct pick *p, const char *wanted, json_t **out,
                    json_t *repairs, struct err *err)
{
    if (p->is_twice)
        return err_set(err, ERR_INVALID,
                       "the answer has two objects with '%s' that differ: which one is meant?",
                       wanted);
    if (p->object && !p->is_meant) {
        say_repairs(s, p, repairs);
        *out = TAKE(p->object);
        return 0;
    }
    if (p->has_why) {
        *err = p->why;
        return -1;
    }
    if (p->others)
        return err_set(err, ERR_INVALID, "the answer has no JSON object with the member '%s'",
                       wanted);
    return err_set(err, ERR_INVALID, "the answer has no JSON object");
}

int json_of_answer(const char *text, const char *wanted, json_t **out, json_t *repairs,
                   struct err *err)
{
    const char *said = thinking_skip(text);
    struct object_scan s = { .text = said };
    struct pick p = { 0 };
    int rc;

    if (strlen(text) > TEXT_MAX)
        return err_set(err, ERR_LIMIT, "the answer has %zu bytes, at most %d are allowed",
                       strlen(text), TEXT_MAX);
    if (said == NULL)
        return err_set(err, ERR_INVALID,
                       "the <think> block that the answer begins with does not end: the answer was "
                       "cut off inside it");
    s.len = strlen(said);
    s.copy = xmalloc(s.len + DEPTH_MAX + 1);
    find_objects(&s, wanted, &p);
    rc = conclude(&s, &p, wanted, out, repairs, err);
    json_decref(p.object);
    free(s.copy);
    return rc;
}
