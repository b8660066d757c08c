/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Search-and-replace blocks, applied in order, each to the result of those before. A search must
 * be found exactly once, line by line, blanks at line ends aside; what is not found is answered
 * with the nearest place, so that the answer can be mended.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "search/artifact_impl.h"

enum { NEAREST_LINES_MAX = 40, PLACES_TOLD_MAX = 8 };

struct line {
    const char *s;
    size_t len;     /* without the newline and blanks before it */
    size_t end;     /* offset behind its newline */
    uint64_t hash;  /* of those len bytes */
    uint64_t loose; /* of its bytes other than blanks; 0 for none */
};

struct lines {
    size_t n, cap;
    struct line *items;
};

static void lines_release(struct lines *l)
{
    free(l->items);
}

static void hash_line(struct line *l)
{
    l->hash = l->loose = 0xcbf29ce484222325ull;
    for (size_t i = 0; i < l->len; i++) {
        l->hash = (l->hash ^ (unsigned char)l->s[i]) * 0x100000001b3ull;
        if (!isspace((unsigned char)l->s[i]))
            l->loose = (l->loose ^ (unsigned char)l->s[i]) * 0x100000001b3ull;
    }
    if (l->len == 0)
        l->loose = 0;
}

static void lines_read(const char *s, size_t len, struct lines *out)
{
    size_t at = 0;

    while (at < len) {
        const char *nl = memchr(s + at, '\n', len - at);
        struct line *l;

        out->items = xgrow(out->items, &out->cap, out->n + 1, sizeof(*out->items));
        l = &out->items[out->n++];
        l->s = s + at;
        l->end = nl ? (size_t)(nl - s) + 1 : len;
        l->len = l->end - at - (nl != NULL);
        while (l->len > 0 && isspace((unsigned char)l->s[l->len - 1]))
            l->len--;
        hash_line(l);
        at = l->end;
    }
}

static bool line_equals(const struct line *a, const struct line *b)
{
    return a->hash == b->hash && a->len == b->len && memcmp(a->s, b->s, a->len) == 0;
}

/* Where `what` occurs in `in` (overlapping ones too): the first PLACES_TOLD_MAX into `at`, and how
 * many there are. Knuth, Morris and Pratt: linear, whatever the lines are. */
static size_t find_all(const struct lines *in, const struct lines *what, size_t *at)
{
    CLEANUP(freep) size_t *border = xcalloc(what->n + 1, sizeof(*border));
    size_t k = 0, found = 0;

    for (size_t i = 1; i < what->n; i++) {
        while (k > 0 && !line_equals(&what->items[i], &what->items[k]))
            k = border[k];
        k += line_equals(&what->items[i], &what->items[k]);
        border[i + 1] = k;
    }
    k = 0;
    for (size_t i = 0; i < in->n; i++) {
        while (k > 0 && (k == what->n || !line_equals(&in->items[i], &what->items[k])))
            k = border[k];
        k += line_equals(&in->items[i], &what->items[k]);
        if (k == what->n) {
            if (found < PLACES_TOLD_MAX)
                at[found] = i + 1 - k;
            found++;
        }
    }
    return found;
}

/* How many bytes two lines have in common at both ends, in thousandths of the longer one. */
static size_t likeness(const struct line *a, const struct line *b)
{
    size_t n = MIN(a->len, b->len), head = 0, tail = 0;

    while (head < n && a->s[head] == b->s[head])
        head++;
    while (tail < n - head && a->s[a->len - 1 - tail] == b->s[b->len - 1 - tail])
        tail++;
    return (head + tail) * 1000 / MAX(MAX(a->len, b->len), (size_t)1);
}

/* The line of `in` where `what` would fit best, and how well. */
static size_t find_nearest(const struct lines *in, const struct lines *what, size_t *score)
{
    size_t best = 0;

    *score = 0;
    for (size_t i = 0; i < in->n; i++) {
        size_t mine = likeness(&in->items[i], &what->items[0]);

        for (size_t k = 0; k < MIN(what->n, (size_t)NEAREST_LINES_MAX) && i + k < in->n; k++)
            if (what->items[k].loose != 0 && in->items[i + k].loose == what->items[k].loose)
                mine += 1000;
        if (mine > *score) {
            *score = mine;
            best = i;
        }
    }
    return best;
}

static void say_not_found(const struct lines *in, const struct lines *what, size_t number,
                          struct complaints *c)
{
    char first[ARTIFACT_QUOTE_MAX], want[ARTIFACT_QUOTE_MAX], have[ARTIFACT_QUOTE_MAX];
    size_t score, at = find_nearest(in, what, &score), k = 0;
    const struct line *w, *h;

    artifact_quote(what->items[0].s, what->items[0].len, first);
    if (score < 500) {
        complain(c,
                 "block %zu, which begins with '%s', is nowhere in the program, nor anything like "
                 "it",
                 number, first);
        return;
    }
    while (k < what->n && at + k < in->n && line_equals(&in->items[at + k], &what->items[k]))
        k++;
    if (k == what->n || at + k >= in->n) {
        complain(c,
                 "block %zu, which begins with '%s', is nowhere in the program; it is nearest to "
                 "line %zu, where the program ends too early",
                 number, first, at + 1);
        return;
    }
    w = &what->items[k];
    h = &in->items[at + k];
    complain(c,
             "block %zu, which begins with '%s', is nowhere in the program; it is nearest to line "
             "%zu, but its line %zu is '%s' and line %zu of the program is '%s'%s",
             number, first, at + 1, k + 1, artifact_quote(w->s, w->len, want), at + k + 1,
             artifact_quote(h->s, h->len, have),
             w->loose == h->loose ? " (only blanks differ)" : "");
}

static void say_ambiguous(const struct lines *what, const size_t *at, size_t found, size_t number,
                          struct complaints *c)
{
    char first[ARTIFACT_QUOTE_MAX], places[PLACES_TOLD_MAX * 24] = "";
    size_t len = 0;

    for (size_t i = 0; i < MIN(found, (size_t)PLACES_TOLD_MAX); i++)
        len +=
            (size_t)snprintf(places + len, sizeof(places) - len, "%s%zu", i ? ", " : "", at[i] + 1);
    complain(c,
             "block %zu, which begins with '%s', is %zu times in the program (lines %s%s): more "
             "lines around it must make it unique",
             number, artifact_quote(what->items[0].s, what->items[0].len, first), found, places,
             found > PLACES_TOLD_MAX ? ", ..." : "");
}

/* The text with one block applied; NULL after a complaint. */
static char *apply_block(const char *text, const struct artifact_block *b, size_t number,
                         struct complaints *c)
{
    CLEANUP(lines_release) struct lines in = { 0 };
    CLEANUP(lines_release) struct lines what = { 0 };
    size_t at[PLACES_TOLD_MAX], found, from, to, len = strlen(text);
    bool blank = true;
    char *out;

    lines_read(b->old_text, b->old_len, &what);
    for (size_t i = 0; i < what.n; i++)
        blank = blank && what.items[i].len == 0;
    if (blank) {
        complain(c, "block %zu (line %zu of the answer) searches for nothing", number, b->line);
        return NULL;
    }
    lines_read(text, len, &in);
    found = find_all(&in, &what, at);
    if (found == 0)
        say_not_found(&in, &what, number, c);
    else if (found > 1)
        say_ambiguous(&what, at, found, number, c);
    if (found != 1)
        return NULL;
    from = at[0] > 0 ? in.items[at[0] - 1].end : 0;
    to = in.items[at[0] + what.n - 1].end;
    out = xmalloc(from + b->new_len + (len - to) + 1);
    memcpy(out, text, from);
    memcpy(out + from, b->new_text, b->new_len);
    memcpy(out + from + b->new_len, text + to, len - to + 1);
    return out;
}

char *artifact_patch(const char *base, const struct artifact_block *blocks, size_t n,
                     struct complaints *c)
{
    CLEANUP(freep) char *text = xstrdup(base);
    size_t before = c->n;

    for (size_t i = 0; i < n; i++) {
        char *next = apply_block(text, &blocks[i], i + 1, c);

        if (next == NULL)
            continue; /* the others are judged without it, so that all is told */
        free(text);
        text = next;
        if (strlen(text) > ARTIFACT_SOURCE_MAX) {
            complain(c, "with block %zu the program has over %d bytes", i + 1, ARTIFACT_SOURCE_MAX);
            break;
        }
    }
    if (c->n == before && strcmp(text, base) == 0)
        complain(c, "the blocks change nothing");
    return c->n == before ? TAKE(text) : NULL;
}
