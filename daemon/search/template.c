/* SPDX-License-Identifier: Apache-2.0 */
/* Parsing templates into a flat list of parts, and rendering it; see template.h. */
#include "search/template.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum part_kind { PART_TEXT, PART_VALUE, PART_IF, PART_UNLESS, PART_END };

struct part {
    enum part_kind kind;
    size_t from, len; /* TEXT: in the body */
    size_t name;      /* the others */
    size_t end;       /* IF, UNLESS: index of the part that closes it */
    int line;
};

struct template
{
    char *text; /* owned copy */
    const struct template_name *names;
    size_t n_names;
    size_t *budgets; /* [n_names]; 0: the name's own */
    bool *used;      /* [n_names] */
    size_t n, cap;
    struct part *parts;
};

/* Where the parser is. */
struct cursor {
    const char *file;
    struct template *t;
    size_t at, len;
    int line;
    size_t open[TEMPLATE_DEPTH_MAX]; /* parts that wait for their end */
    size_t depth;
};

static int fail_at(const struct cursor *c, struct err *err, const char *what, const char *name)
{
    return err_set(err, ERR_INVALID, "%s line %d: %s%s%s", c->file, c->line, what,
                   name[0] ? " " : "", name);
}

/* ---- The head ---- */

static int find_name(const struct template *t, const char *name, size_t *out)
{
    for (size_t i = 0; i < t->n_names; i++)
        if (strcmp(t->names[i].name, name) == 0) {
            *out = i;
            return 0;
        }
    return -1;
}

/* "budget tree = 6000" */
static int head_line(struct cursor *c, char *line, struct err *err)
{
    char *name = line + strspn(line, " \t\r"), *value;
    uint64_t bytes;
    size_t i;

    if (name[0] == '\0' || name[0] == '#')
        return 0;
    if (!str_has_prefix(name, "budget ") || (value = strchr(name, '=')) == NULL)
        return fail_at(c, err, "the head has lines 'budget SECTION = BYTES' and comments after '#'",
                       "");
    *value++ = '\0';
    name += strlen("budget ");
    name += strspn(name, " \t");
    name[strcspn(name, " \t")] = '\0';
    value += strspn(value, " \t");
    value[strcspn(value, " \t\r")] = '\0';
    if (find_name(c->t, name, &i) != 0)
        return fail_at(c, err, "there is no section", name);
    if (c->t->names[i].budget == 0)
        return fail_at(c, err, "this section is never cut and takes no budget:", name);
    if (!str_to_u64(value, &bytes) || bytes < TEMPLATE_BUDGET_MIN || bytes > TEMPLATE_BUDGET_MAX)
        return err_set(err, ERR_INVALID,
                       "%s line %d: a budget of '%.40s' bytes; allowed are %d to %d", c->file,
                       c->line, value, TEMPLATE_BUDGET_MIN, TEMPLATE_BUDGET_MAX);
    c->t->budgets[i] = bytes;
    return 0;
}

/* The head ends with a line of three dashes; without one all is body. */
static bool has_head(const char *text, size_t len)
{
    for (size_t at = 0; at < len;) {
        const char *end = memchr(text + at, '\n', len - at);
        size_t n = end ? (size_t)(end - text) - at : len - at;

        if (n > 0 && text[at + n - 1] == '\r')
            n--;
        if (n == 3 && memcmp(text + at, "---", 3) == 0)
            return true;
        at = end ? (size_t)(end - text) + 1 : len;
    }
    return false;
}

static int parse_head(struct cursor *c, struct err *err)
{
    if (!has_head(c->t->text, c->len))
        return 0;
    while (c->at < c->len) {
        char *line = c->t->text + c->at, *end = memchr(line, '\n', c->len - c->at);
        size_t n = end ? (size_t)(end - line) : c->len - c->at;
        char copy[200];

        c->at += n + (end != NULL);
        c->line++;
        if (n > 0 && line[n - 1] == '\r')
            n--;
        if (n == 3 && memcmp(line, "---", 3) == 0)
            return 0;
        if (n >= sizeof(copy))
            return fail_at(c, err, "a line of the head is too long", "");
        memcpy(copy, line, n);
        copy[n] = '\0';
        c->line--;
        if (head_line(c, copy, err) != 0)
            return -1;
        c->line++;
    }
    return 0;
}

/* ---- The body ---- */

static void add_part(struct template *t, struct part p)
{
    t->parts = xgrow(t->parts, &t->cap, t->n + 1, sizeof(*t->parts));
    t->parts[t->n++] = p;
}

static int open_block(struct cursor *c, enum part_kind kind, size_t name, struct err *err)
{
    if (c->depth == TEMPLATE_DEPTH_MAX)
        return fail_at(c, err, "too many blocks within each other", "");
    c->open[c->depth++] = c->t->n;
    add_part(c->t, (struct part){ .kind = kind, .name = name, .line = c->line });
    return 0;
}

static int close_block(struct cursor *c, size_t name, struct err *err)
{
    struct part *opened;

    if (c->depth == 0)
        return fail_at(c, err, "this closes a block that is not open:", c->t->names[name].name);
    opened = &c->t->parts[c->open[c->depth - 1]];
    if (opened->name != name)
        return err_set(
            err, ERR_INVALID, "%s line %d: '%s' is closed while '%s', opened in line %d, is open",
            c->file, c->line, c->t->names[name].name, c->t->names[opened->name].name, opened->line);
    opened->end = c->t->n;
    c->depth--;
    add_part(c->t, (struct part){ .kind = PART_END, .name = name, .line = c->line });
    return 0;
}

/* What stands between the braces. */
static int tag_of(struct cursor *c, const char *inside, size_t len, struct err *err)
{
    char name[64];
    char sign = len > 0 && strchr("#^/!", inside[0]) != NULL ? inside[0] : ' ';
    size_t from = sign == ' ' ? 0 : 1, i;

    if (sign == '!')
        return 0;
    while (from < len && (inside[from] == ' ' || inside[from] == '\t'))
        from++;
    while (len > from && (inside[len - 1] == ' ' || inside[len - 1] == '\t'))
        len--;
    snprintf(name, sizeof(name), "%.*s", (int)MIN(len - from, sizeof(name) - 1), inside + from);
    if (find_name(c->t, name, &i) != 0)
        return fail_at(c, err, "there is no section", name[0] ? name : "''");
    c->t->used[i] = true;
    if (sign == '#' || sign == '^')
        return open_block(c, sign == '#' ? PART_IF : PART_UNLESS, i, err);
    if (sign == '/')
        return close_block(c, i, err);
    add_part(c->t, (struct part){ .kind = PART_VALUE, .name = i, .line = c->line });
    return 0;
}

/* A block's tag or a comment alone on its line takes the line with it. Moves *from and *to out to
 * the line's ends. */
static void whole_line(const char *text, size_t len, size_t *from, size_t *to)
{
    size_t a = *from, b = *to;

    if (text[*from + 2] == '\0' || strchr("#^/!", text[*from + 2]) == NULL)
        return;
    while (a > 0 && (text[a - 1] == ' ' || text[a - 1] == '\t'))
        a--;
    while (b < len && (text[b] == ' ' || text[b] == '\t' || text[b] == '\r'))
        b++;
    if ((a > 0 && text[a - 1] != '\n') || (b < len && text[b] != '\n'))
        return;
    *from = a;
    *to = b < len ? b + 1 : b;
}

static int count_lines(const char *text, size_t len)
{
    int n = 0;

    for (size_t i = 0; i < len; i++)
        n += text[i] == '\n';
    return n;
}

static int parse_body(struct cursor *c, struct err *err)
{
    const char *text = c->t->text;

    while (c->at < c->len) {
        const char *open = memmem(text + c->at, c->len - c->at, "{{", 2), *close;
        size_t from = open ? (size_t)(open - text) : c->len, to, line_from;

        line_from = c->at;
        if (open == NULL) {
            add_part(c->t, (struct part){ .kind = PART_TEXT, .from = c->at, .len = from - c->at });
            break;
        }
        c->line += count_lines(text + line_from, from - line_from);
        close = memmem(open, c->len - from, "}}", 2);
        if (close == NULL)
            return fail_at(c, err, "'{{' without '}}'", "");
        to = (size_t)(close - text) + 2;
        line_from = from;
        size_t text_end = from, next = to;
        whole_line(text, c->len, &text_end, &next);
        if (text_end < c->at)
            text_end = c->at;
        if (text_end > c->at)
            add_part(c->t,
                     (struct part){ .kind = PART_TEXT, .from = c->at, .len = text_end - c->at });
        if (tag_of(c, open + 2, to - from - 4, err) != 0)
            return -1;
        c->line += count_lines(text + line_from, next - line_from);
        c->at = next;
    }
    if (c->depth > 0) {
        const struct part *p = &c->t->parts[c->open[c->depth - 1]];

        return err_set(err, ERR_INVALID, "%s line %d: the block '%s' is not closed", c->file,
                       p->line, c->t->names[p->name].name);
    }
    return 0;
}

int template_parse(const char *file, const char *text, size_t len,
                   const struct template_name *names, size_t n_names, struct template **out,
                   struct err *err)
{
    struct template *t;
    struct cursor c = { .file = file, .len = len, .line = 1 };

    if (len > TEMPLATE_BYTES_MAX)
        return err_set(err, ERR_LIMIT, "%s has %zu bytes; at most %d are allowed", file, len,
                       TEMPLATE_BYTES_MAX);
    if (memchr(text, '\0', len) != NULL)
        return err_set(err, ERR_INVALID, "%s is not a text: it has a zero byte", file);
    t = xcalloc(1, sizeof(*t));
    t->text = xmalloc(len + 1);
    memcpy(t->text, text, len);
    t->text[len] = '\0';
    t->names = names;
    t->n_names = n_names;
    t->budgets = xcalloc(n_names + 1, sizeof(*t->budgets));
    t->used = xcalloc(n_names + 1, sizeof(*t->used));
    c.t = t;
    if (parse_head(&c, err) != 0 || parse_body(&c, err) != 0) {
        template_free(t);
        return -1;
    }
    *out = t;
    return 0;
}

void template_free(struct template *t)
{
    if (t == NULL)
        return;
    free(t->text);
    free(t->budgets);
    free(t->used);
    free(t->parts);
    free(t);
}

bool template_uses(const struct template *t, size_t i)
{
    return t->used[i];
}

size_t template_budget(const struct template *t, size_t i)
{
    return t->budgets[i] > 0 ? t->budgets[i] : t->names[i].budget;
}

/* ---- Rendering ---- */

/* The template's own text: no more than one empty line in a row, also across dropped blocks. */
static int add_text(const char *text, size_t len, struct buf *out, struct err *err)
{
    for (size_t i = 0; i < len; i++) {
        bool piled = text[i] == '\n' &&
                     (out->len == 0 || (out->len >= 2 && out->data[out->len - 1] == '\n' &&
                                        out->data[out->len - 2] == '\n'));

        if (!piled && buf_add(out, text + i, 1, err) != 0)
            return -1;
    }
    return 0;
}

int template_render(const struct template *t, const struct template_value *values, struct buf *out,
                    struct err *err)
{
    for (size_t i = 0; i < t->n; i++) {
        const struct part *p = &t->parts[i];
        bool empty = p->kind != PART_TEXT && values[p->name].len == 0;

        if (p->kind == PART_TEXT && add_text(t->text + p->from, p->len, out, err) != 0)
            return -1;
        if (p->kind == PART_VALUE && !empty &&
            buf_add(out, values[p->name].text, values[p->name].len, err) != 0)
            return -1;
        if ((p->kind == PART_IF && empty) || (p->kind == PART_UNLESS && !empty))
            i = p->end;
    }
    return 0;
}
