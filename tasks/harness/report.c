/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a compiler's words; see report.h. */
#include "report.h"

#include <ctype.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "object.h"

#define SOURCE_NAME "source.c"
#define FACTS_MAX                                                                                  \
    512 /* distinct diagnostics, or loops, that are told apart; the rest is counted                \
         */
#define UNTOLD_MAX 20000
#define LINE_NUMBER_MAX 10000000

/* ---- lines ---- */

/* One line of a text; `len` without its end. False at the end of the text. */
struct line {
    const char *at;
    size_t len;
};

static bool next_line(const char **text, struct line *out)
{
    if (**text == '\0')
        return false;
    out->at = *text;
    out->len = strcspn(*text, "\n");
    *text += out->len + ((*text)[out->len] == '\n');
    return true;
}

/* A place: "PATH/source.c:12:5: " at the beginning of a line. */
struct place {
    int line, column;
    bool in_source; /* in the candidate's own file, not in a header */
};

static int read_number(const char *s, size_t len, size_t *at)
{
    int n = 0;
    size_t from = *at;

    while (*at < len && isdigit((unsigned char)s[*at]) && n < LINE_NUMBER_MAX)
        n = 10 * n + (s[(*at)++] - '0');
    return *at > from ? n : -1;
}

/* Returns the bytes that the place takes, ": " included; 0 when the line does not begin with one.
 */
static size_t read_place(const struct line *l, struct place *out)
{
    const char *colon = memchr(l->at, ':', l->len);
    size_t name, at;

    if (colon == NULL)
        return 0;
    name = (size_t)(colon - l->at);
    at = name + 1;
    out->line = read_number(l->at, l->len, &at);
    if (out->line < 0 || at >= l->len || l->at[at] != ':')
        return 0;
    at++;
    out->column = read_number(l->at, l->len, &at);
    if (out->column < 0)
        out->column = 0;
    else if (at >= l->len || l->at[at++] != ':')
        return 0;
    out->in_source = name >= strlen(SOURCE_NAME) &&
                     memcmp(colon - strlen(SOURCE_NAME), SOURCE_NAME, strlen(SOURCE_NAME)) == 0;
    return at < l->len && l->at[at] == ' ' ? at + 1 : 0;
}

static bool starts(const struct line *l, size_t at, const char *word)
{
    return l->len - at >= strlen(word) && memcmp(l->at + at, word, strlen(word)) == 0;
}

/*
 * Text for the record: visible characters, at most REPORT_MESSAGE_MAX bytes. A longer one ends at
 * the last sentence or word that fits, and says how much was left out. Owned.
 */
static char *message_text(const char *s, size_t len)
{
    size_t room = REPORT_MESSAGE_MAX, size = 4 * MIN(len, 4 * room) + 1, cut;
    char *out = malloc(size), *end;

    if (out == NULL)
        return NULL;
    str_visible(s, MIN(len, 4 * room), out, size);
    if (strlen(out) <= room)
        return out;
    for (cut = room; cut > 0 && !(out[cut] == ' ' && strchr(".;:", out[cut - 1])); cut--)
        ;
    for (end = out + room; cut == 0 && end > out && *end != ' '; end--)
        ;
    if (cut == 0)
        cut = end > out ? (size_t)(end - out) : 0;
    end = str_printf("%.*s [%zu more bytes]", (int)cut, out, len > cut ? len - cut : 0);
    free(out);
    return end;
}

/* ---- the source ---- */

/* Line n (from 1) of the source without blanks around it; NULL when there is none. Owned. */
static char *source_line(const char *source, int n)
{
    char out[REPORT_SOURCE_MAX + 1];
    struct line l;

    for (int i = 1; next_line(&source, &l); i++) {
        if (i < n)
            continue;
        while (l.len > 0 && isspace((unsigned char)l.at[0])) {
            l.at++;
            l.len--;
        }
        while (l.len > 0 && isspace((unsigned char)l.at[l.len - 1]))
            l.len--;
        return l.len > 0 ? strdup(str_visible(l.at, l.len, out, sizeof(out))) : NULL;
    }
    return NULL;
}

static void set_source_line(json_t *o, const char *source, int n)
{
    CLEANUP(freep) char *text = n > 0 ? source_line(source, n) : NULL;

    if (text != NULL)
        json_object_set_new(o, "source", json_string(text));
}

/* How many braces are open before each line, as far as a look at the text tells: the deeper a loop,
 * the hotter. depth[n]: of line n; `lines` entries. */
static void measure_depth(const char *s, int *depth, int lines)
{
    int open = 0, line = 1;
    char quote = '\0';

    if (lines > 1)
        depth[1] = 0;
    for (; *s != '\0'; s++) {
        if (*s == '\n') {
            if (++line >= lines)
                return;
            depth[line] = open;
            quote = '\0'; /* literals end with their line */
        } else if (quote != '\0') {
            if (*s == '\\' && s[1] != '\0' && s[1] != '\n')
                s++;
            else if (*s == quote)
                quote = '\0';
        } else if (*s == '"' || *s == '\'') {
            quote = *s;
        } else if (*s == '/' && s[1] == '/') {
            s += strcspn(s, "\n") - 1;
        } else {
            open += (*s == '{') - (*s == '}');
        }
    }
}

/* ---- diagnostics ---- */

enum severity { SEVERITY_ERROR, SEVERITY_WARNING, SEVERITY_NOTE, SEVERITY_COUNT };

static const char *const severities[SEVERITY_COUNT] = { "error", "warning", "note" };

struct diagnostic {
    enum severity severity;
    struct place place; /* of the first */
    int count;
    char kind[48];
    char *message; /* owned */
};

struct diagnostics {
    struct diagnostic *d; /* owned, FACTS_MAX */
    int n;
    int untold; /* that had no room in `d`, at most one per line of the log */
};

static void diagnostics_release(struct diagnostics *all)
{
    for (int i = 0; i < all->n; i++)
        free(all->d[i].message);
    free(all->d);
}

/* Words by which errors, which have no flag, are told apart. */
static const struct {
    const char *words, *kind;
} error_kinds[] = {
    { "internal compiler error", "internal" },
    { "No such file or directory", "missing-file" },
    { "undefined reference", "undefined-reference" },
    { "undeclared", "undeclared" },
    { "implicit declaration", "undeclared" },
    { "unknown type name", "undeclared" },
    { "expected ", "syntax" },
    { "stray ", "syntax" },
    { "unterminated", "syntax" },
    { "incompatible", "type" },
    { "conflicting types", "type" },
    { "invalid operands", "type" },
    { "invalid type", "type" },
    { "has no member", "type" },
    { "too few arguments", "arguments" },
    { "too many arguments", "arguments" },
    { "redefinition", "redefinition" },
    { "redeclaration", "redefinition" },
    { "target specific option mismatch", "target" },
    { "#error", "error-directive" },
    { "static assertion failed", "static-assertion" },
    { "asm", "assembler" },
};

/* Takes " [-Wname]" off the end of the message and makes the name the kind. */
static void read_kind(struct line *m, enum severity severity, char *out, size_t size)
{
    size_t at = m->len;

    str_copy(out, size, severities[severity]);
    while (at > 0 && m->at[at - 1] != '[')
        at--;
    if (m->len > 0 && m->at[m->len - 1] == ']' && at >= 2 && starts(m, at, "-W")) {
        size_t from = at + 2 + (starts(m, at, "-Werror=") ? strlen("error=") : 0);

        snprintf(out, size, "%.*s", (int)MIN(m->len - 1 - from, size - 1), m->at + from);
        str_visible(out, strlen(out), out, size);
        m->len = at - 2;
        return;
    }
    for (size_t i = 0; severity == SEVERITY_ERROR && i < ARRAY_LEN(error_kinds); i++)
        if (memmem(m->at, m->len, error_kinds[i].words, strlen(error_kinds[i].words))) {
            str_copy(out, size, error_kinds[i].kind);
            return;
        }
}

static void add_diagnostic(struct diagnostics *all, enum severity severity,
                           const struct place *place, struct line m)
{
    struct diagnostic d = { .severity = severity, .place = *place, .count = 1 };

    if (all->untold > UNTOLD_MAX) {
        all->untold++; /* a flood: looking for equals would take longer than it is worth */
        return;
    }
    read_kind(&m, severity, d.kind, sizeof(d.kind));
    d.message = message_text(m.at, m.len);
    if (d.message == NULL)
        return;
    for (int i = 0; i < all->n; i++)
        if (all->d[i].severity == severity && strcmp(all->d[i].kind, d.kind) == 0 &&
            strcmp(all->d[i].message, d.message) == 0) {
            all->d[i].count++;
            free(d.message);
            return;
        }
    if (all->n == FACTS_MAX) {
        all->untold++;
        free(d.message);
        return;
    }
    all->d[all->n++] = d;
}

static void read_diagnostic(struct diagnostics *all, const struct line *l)
{
    static const struct {
        const char *word;
        enum severity severity;
    } words[] = {
        { "error: ", SEVERITY_ERROR },
        { "fatal error: ", SEVERITY_ERROR },
        { "warning: ", SEVERITY_WARNING },
        { "note: ", SEVERITY_NOTE },
        { "internal compiler error: ", SEVERITY_ERROR },
    };
    static const char undefined[] = "undefined reference to ";
    struct place place = { 0 };
    size_t at = read_place(l, &place);
    const char *found;

    if (at == 0) { /* "cc1: error: ...", "as: ..." */
        const char *colon = memchr(l->at, ':', l->len);

        if (l->len > 0 && colon != NULL && !isspace((unsigned char)l->at[0]))
            at = MIN((size_t)(colon - l->at) + 2, l->len);
        place = (struct place){ 0 };
    }
    for (size_t i = 0; at > 0 && i < ARRAY_LEN(words); i++)
        if (starts(l, at, words[i].word)) {
            size_t skip = at + strlen(words[i].word);

            add_diagnostic(all, words[i].severity, &place,
                           (struct line){ l->at + skip, l->len - skip });
            return;
        }
    found = memmem(l->at, l->len, undefined, strlen(undefined));
    if (found != NULL) /* the linker's form */
        add_diagnostic(all, SEVERITY_ERROR, &(struct place){ 0 },
                       (struct line){ found, l->len - (size_t)(found - l->at) });
}

static json_t *diagnostic_json(const struct diagnostic *d, const char *source)
{
    json_t *o = json_pack("{s:s, s:s, s:i, s:i, s:s, s:i}", "severity", severities[d->severity],
                          "kind", d->kind, "line", d->place.in_source ? d->place.line : 0, "column",
                          d->place.in_source ? d->place.column : 0, "message", d->message, "count",
                          d->count);

    if (d->place.in_source && d->severity != SEVERITY_NOTE)
        set_source_line(o, source, d->place.line);
    return o;
}

/* Errors first, then warnings, then notes, each in the compiler's order. */
static void add_diagnostics(json_t *report, const struct build *b, const char *source)
{
    CLEANUP(diagnostics_release) struct diagnostics all = { .n = 0 };
    const char *text = buf_str(&b->log);
    json_t *list = json_array();
    int left_out = 0;
    struct line l;

    all.d = calloc(FACTS_MAX, sizeof(*all.d));
    while (all.d != NULL && next_line(&text, &l))
        read_diagnostic(&all, &l);
    for (int severity = 0; severity < SEVERITY_COUNT; severity++)
        for (int i = 0; i < all.n; i++) {
            if ((int)all.d[i].severity != severity)
                continue;
            if (json_array_size(list) < REPORT_DIAGNOSTICS_MAX)
                json_array_append_new(list, diagnostic_json(&all.d[i], source));
            else
                left_out++;
        }
    json_object_set_new(report, "diagnostics", list);
    if (left_out + all.untold > 0)
        json_object_set_new(report, "diagnostics_left_out", json_integer(left_out + all.untold));
}

/* ---- loops ---- */

struct loop {
    int line, bytes, depth; /* bytes of a vector; 0: not vectorised */
    int at;                 /* line of the statement in the way; 0: not told */
    char *reason;           /* owned; why not; NULL when not told */
};

struct loops {
    struct loop *l; /* owned, FACTS_MAX */
    int n, blocks;  /* blocks: straight code that became vector code */
};

static void loops_release(struct loops *all)
{
    for (int i = 0; i < all->n; i++)
        free(all->l[i].reason);
    free(all->l);
}

/* The entry of a line, made when there is none; NULL when there is no room. */
static struct loop *loop_at(struct loops *all, int line)
{
    for (int i = 0; i < all->n; i++)
        if (all->l[i].line == line)
            return &all->l[i];
    if (all->n == FACTS_MAX)
        return NULL;
    all->l[all->n] = (struct loop){ .line = line };
    return &all->l[all->n++];
}

static void read_optimized(struct loops *all, int line, const struct line *l, size_t at)
{
    static const char loop[] = "loop vectorized using ", block[] = "basic block part vectorized";
    struct loop *entry;
    int bytes;

    if (starts(l, at, block)) {
        all->blocks++;
        return;
    }
    if (!starts(l, at, loop))
        return;
    at += strlen(loop);
    bytes = read_number(l->at, l->len, &at);
    entry = bytes > 0 && bytes <= 4096 ? loop_at(all, line) : NULL;
    if (entry != NULL)
        entry->bytes = MAX(entry->bytes, bytes);
}

/* "_247 = exp2f (_246);": what is called, without the compiler's own names. Owned. */
static char *clobber_text(const struct line *l, size_t at)
{
    const char *call = memmem(l->at + at, l->len - at, " (", 2);
    const char *from = call;

    while (from && from > l->at + at && (isalnum((unsigned char)from[-1]) || from[-1] == '_'))
        from--;
    if (from == NULL || from == call || *from == '_')
        return strdup("a statement in it may change any memory");
    return str_printf("a call in it may change any memory: %.*s", (int)MIN(call - from, 96), from);
}

/* The compiler's phrases that nobody outside it uses. */
static const struct {
    const char *phrase, *plain;
} plain_reasons[] = {
    { "no vectype for stmt", "a statement's type has no vector form" },
    { "evolution of base is not affine", "an address does not move in even steps" },
    { "data ref analysis failed", "an address does not move in even steps" },
};

/* Why, in words that do not speak of the compiler's own variables. Owned. */
static char *reason_text(const struct line *l, size_t at)
{
    static const char clobbers[] = "statement clobbers memory: ";
    static const char *const prefixes[] = { "not vectorized: ", "failed: " };
    size_t len;

    if (starts(l, at, clobbers))
        return clobber_text(l, at + strlen(clobbers));
    for (size_t i = 0; i < ARRAY_LEN(prefixes); i++)
        at += starts(l, at, prefixes[i]) ? strlen(prefixes[i]) : 0;
    for (size_t i = 0; i < ARRAY_LEN(plain_reasons); i++)
        if (starts(l, at, plain_reasons[i].phrase))
            return strdup(plain_reasons[i].plain);
    len = l->len - at;
    while (len > 0 && l->at[at + len - 1] == '.')
        len--;
    return message_text(l->at + at, len);
}

/* "missed: couldn't vectorize loop", then "missed: REASON" at the statement in the way. */
static void read_loops(struct loops *all, const char *text)
{
    static const char optimized[] = "optimized: ", missed[] = "missed: ",
                      could_not[] = "missed: couldn't vectorize loop";
    struct loop *open = NULL;
    struct place place;
    struct line l;

    while (next_line(&text, &l)) {
        size_t at = read_place(&l, &place);

        if (at == 0)
            continue;
        if (starts(&l, at, could_not)) {
            open = place.in_source ? loop_at(all, place.line) : NULL;
            continue;
        }
        if (place.in_source && starts(&l, at, optimized))
            read_optimized(all, place.line, &l, at + strlen(optimized));
        else if (open != NULL && open->reason == NULL && starts(&l, at, missed)) {
            open->reason = reason_text(&l, at + strlen(missed));
            open->at = place.in_source ? place.line : 0;
        }
        open = NULL;
    }
}

/* Loops around other loops are not where vector code is made; their inner ones are told of. */
static bool is_outer(const char *reason)
{
    return reason != NULL &&
           (strstr(reason, "inner loop") || strstr(reason, "multiple nested loops") ||
            strstr(reason, "outer-loop"));
}

static int by_depth(const void *a, const void *b)
{
    const struct loop *x = a, *y = b;

    return x->depth != y->depth ? y->depth - x->depth : x->line - y->line;
}

static void add_vectorised(json_t *report, const struct loops *all, const char *source)
{
    json_t *list = json_array();
    int left_out = 0;

    for (int i = 0; i < all->n; i++) {
        json_t *o;

        if (all->l[i].bytes == 0)
            continue;
        if (json_array_size(list) >= REPORT_LOOPS_MAX) {
            left_out++;
            continue;
        }
        o = json_pack("{s:i, s:i}", "line", all->l[i].line, "bytes", all->l[i].bytes);
        set_source_line(o, source, all->l[i].line);
        json_array_append_new(list, o);
    }
    json_object_set_new(report, "vectorised", list);
    json_object_set_new(report, "vectorised_blocks", json_integer(all->blocks));
    if (left_out > 0)
        json_object_set_new(report, "vectorised_left_out", json_integer(left_out));
}

static void add_missed(json_t *report, const struct loops *all, const char *source)
{
    json_t *list = json_array();
    int left_out = 0;

    for (int i = 0; i < all->n; i++) {
        const struct loop *l = &all->l[i];
        json_t *o;

        if (l->bytes != 0 || is_outer(l->reason))
            continue;
        if (json_array_size(list) >= REPORT_LOOPS_MAX) {
            left_out++;
            continue;
        }
        o = json_pack("{s:i, s:s}", "line", l->line, "reason",
                      l->reason ? l->reason : "the compiler gives no reason");
        if (l->at > 0 && l->at != l->line)
            json_object_set_new(o, "at", json_integer(l->at));
        set_source_line(o, source, l->line);
        json_array_append_new(list, o);
    }
    json_object_set_new(report, "missed", list);
    if (left_out > 0)
        json_object_set_new(report, "missed_left_out", json_integer(left_out));
}

static void add_loops(json_t *report, const struct build *b, const char *source,
                      const char *compiler)
{
    CLEANUP(loops_release) struct loops all = { .n = 0 };
    CLEANUP(freep) int *depth = NULL;
    int lines = 2;

    if (!str_has_prefix(compiler, "gcc ")) {
        json_object_set_new(report, "vector_note",
                            json_string("This compiler gives no report of vectorised loops that "
                                        "ksearch-eval reads; gcc does."));
        return;
    }
    all.l = calloc(FACTS_MAX, sizeof(*all.l));
    for (const char *p = source; *p != '\0'; p++)
        lines += *p == '\n';
    depth = calloc((size_t)lines, sizeof(*depth));
    if (all.l == NULL || depth == NULL)
        return;
    read_loops(&all, buf_str(&b->loops));
    measure_depth(source, depth, lines);
    for (int i = 0; i < all.n; i++)
        all.l[i].depth = all.l[i].line < lines ? depth[all.l[i].line] : 0;
    qsort(all.l, (size_t)all.n, sizeof(*all.l), by_depth);
    add_vectorised(report, &all, source);
    add_missed(report, &all, source);
}

/* ---- sizes ---- */

/* Lines "source.c:12:5:name<TAB>96<TAB>static": the largest frame, and whether one has no bound. */
static bool read_stack(const char *text, json_int_t *largest, bool *unbounded)
{
    bool any = false;
    struct line l;

    *largest = 0;
    *unbounded = false;
    while (next_line(&text, &l)) {
        const char *tab = memchr(l.at, '\t', l.len);
        size_t at = tab ? (size_t)(tab - l.at) + 1 : l.len;
        int bytes = read_number(l.at, l.len, &at);

        if (bytes < 0 || at >= l.len || l.at[at] != '\t')
            continue;
        any = true;
        *largest = MAX(*largest, bytes);
        *unbounded =
            *unbounded || (l.len - at == strlen("\tdynamic") && starts(&l, at, "\tdynamic"));
    }
    return any;
}

static void add_sizes(json_t *report, const struct build *b)
{
    struct object_size size;
    char hex[SHA256_HEX + 1];
    json_int_t stack;
    bool unbounded;
    json_t *o;

    if (b->object.len == 0)
        return;
    if (object_digest(b->object.data, b->object.len, hex))
        json_object_set_new(report, "object_sha256", json_string(hex));
    if (!object_measure(b->object.data, b->object.len, &size))
        return;
    o = json_pack("{s:I, s:I, s:I, s:I}", "text", (json_int_t)size.text, "data",
                  (json_int_t)size.data, "bss", (json_int_t)size.bss, "kernel_text",
                  (json_int_t)size.kernel_text);
    if (read_stack(buf_str(&b->stack), &stack, &unbounded)) {
        json_object_set_new(o, "stack_bytes", json_integer(stack));
        if (unbounded)
            json_object_set_new(o, "stack_unbounded", json_true());
    }
    json_object_set_new(report, "size", o);
}

json_t *report_make(const struct build *b, const char *source, const char *compiler)
{
    json_t *report = json_object();

    if (report == NULL)
        return NULL;
    json_object_set_new(report, "cached", json_boolean(b->cached));
    if (b->damaged)
        json_object_set_new(report, "cache_damaged", json_true());
    add_diagnostics(report, b, source);
    if (b->object.len > 0)
        add_loops(report, b, source, compiler);
    add_sizes(report, b);
    return report;
}
