/* SPDX-License-Identifier: Apache-2.0 */
/* Whether what a model says can stand as a claim, and what it names; see distil_impl.h. */
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "screen.h"
#include "search/distil_impl.h"
#include "search/search.h"
#include "text.h"

enum { HOST_MIN = 4, SLUG_MIN = 3, SLUG_MAX = 48, STEMS_MAX = 64 };

/* ---- Names of instances ---- */

static void add_name(struct distil_names *n, const char *name, size_t len)
{
    char *copy = xcalloc(len + 1, 1);

    memcpy(copy, name, len);
    if (n->n < DISTIL_NAMES_MAX && screen_is_instance_name(copy))
        n->items[n->n++] = copy;
    else
        free(copy);
}

/* "num_kv_heads=4,head_dim=128": each pair is this instance's. */
static void add_shape(struct distil_names *n, const char *shape)
{
    while (*shape) {
        size_t len = strcspn(shape, ",");

        add_name(n, shape, len);
        shape += len + (shape[len] == ',');
    }
}

/* Those that the measurement was of. A trial of the batch under way is not stored yet: its
 * comparable one is. */
static void add_workloads(struct distil *d, const struct trial *t)
{
    struct evaluation e;
    struct err ignored;

    if (t == NULL || !t->evaluation.hex[0] ||
        kb_get_evaluation(d->s->kb, &t->evaluation, &e, &ignored) != 0)
        return;
    for (size_t i = 0; i < e.n_workloads; i++)
        add_name(&d->names, e.workloads[i].name, strlen(e.workloads[i].name));
    evaluation_release(&e);
}

void distil_collect_names(struct distil *d)
{
    const struct search *s = d->s;
    struct distil_names *n = &d->names;
    json_t *relative;
    size_t i;

    add_name(n, s->spec.id, strlen(s->spec.id));
    add_name(n, s->spec.task, strlen(s->spec.task));
    add_name(n, s->spec.device, strlen(s->spec.device));
    add_name(n, s->spec.set, strlen(s->spec.set));
    add_shape(n, s->scope.shape);
    json_array_foreach (s->scope.relatives, i, relative) {
        const char *task = jsonx_str(relative, "task", "");

        add_name(n, task, strlen(task));
    }
    add_workloads(d, d->with);
    add_workloads(d, d->c->without);
    if (gethostname(n->host, sizeof(n->host) - 1) == 0) {
        n->host[strcspn(n->host, ".")] = '\0';
        n->hosts[0] = n->host;
        n->n_hosts = strlen(n->host) >= HOST_MIN && strcasecmp(n->host, "localhost") != 0;
    }
}

void distil_release_names(struct distil_names *n)
{
    for (size_t i = 0; i < n->n; i++)
        free(n->items[i]);
    n->n = 0;
}

static bool is_name_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* The name as a word of its own, in any case. */
static bool names_it(const char *text, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = text; (at = strcasestr(at, name)) != NULL; at++)
        if ((at == text || !is_name_byte(at[-1])) && !is_name_byte(at[len]))
            return true;
    return false;
}

/* What a text gives away, NULL for nothing. Static. */
static const char *gives_away(const struct distil *d, const char *text)
{
    struct screen screen = { .hosts = d->names.hosts, .n_hosts = d->names.n_hosts };
    const char *found = screen_text(&screen, text);

    for (size_t i = 0; found == NULL && i < d->names.n; i++)
        if (names_it(text, d->names.items[i]))
            found = "the name of an instance";
    return found;
}

/* ---- What a text is ---- */

static size_t count_words(const char *s)
{
    size_t n = 0;

    while (*s) {
        bool letters = false;

        for (; *s && !isspace((unsigned char)*s); s++)
            letters |= isalpha((unsigned char)*s) || (unsigned char)*s >= 0x80;
        n += letters;
        while (isspace((unsigned char)*s))
            s++;
    }
    return n;
}

/* A stop ends a sentence where the text ends or a capital follows: "e.g. this" is one. */
static size_t count_sentences(const char *s)
{
    size_t n = 0;
    bool open = false;

    for (; *s; s++) {
        const char *next = s + 1;

        if (!strchr(".!?", *s)) {
            open |= !isspace((unsigned char)*s);
            continue;
        }
        while (isspace((unsigned char)*next))
            next++;
        if (*next == '\0' || (next > s + 1 && isupper((unsigned char)*next))) {
            n++;
            open = false;
        }
    }
    return n + open;
}

static bool has_control(const char *s)
{
    for (; *s; s++)
        if (iscntrl((unsigned char)*s))
            return true;
    return false;
}

size_t distil_named(const struct distil *d, const char *text, uint16_t *out, size_t cap)
{
    uint64_t stems[STEMS_MAX];
    struct text_token tok;
    struct text_scan sc;
    size_t n = 0;

    text_scan_init(&sc, d->text, text, strlen(text));
    while (n < STEMS_MAX && text_next(&sc, &tok))
        if (!tok.is_stop && !tok.is_compound)
            stems[n++] = tok.hash;
    return vocab_scan(stems, n, out, cap);
}

/* ---- What a model says ---- */

const char *distil_statement_fault(const struct distil *d, const char *s)
{
    size_t len = strlen(s);

    if (len < DISTIL_STATEMENT_MIN || count_words(s) < DISTIL_WORDS_MIN)
        return "the statement says too little";
    if (len > DISTIL_STATEMENT_MAX)
        return "the statement is longer than 400 bytes";
    if (has_control(s))
        return "the statement has line breaks or control characters";
    if (count_sentences(s) > DISTIL_SENTENCES_MAX)
        return "the statement is more than two sentences";
    return gives_away(d, s);
}

/* A name of the vocabulary's form that is a technique of its own. */
static bool is_slug(const char *s)
{
    size_t len = strlen(s), words = 1, letters = 0;

    if (len < SLUG_MIN || len > SLUG_MAX || !isalpha((unsigned char)s[0]) || s[len - 1] == '-')
        return false;
    for (; *s; s++) {
        if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-')
            return false;
        words += *s == '-';
        letters += islower((unsigned char)*s) != 0;
    }
    return words <= VOCAB_PHRASE_WORDS && letters >= SLUG_MIN;
}

const char *distil_technique(const struct distil *d, const char *given, char out[VOCAB_NAME_MAX],
                             bool *proposed)
{
    uint16_t named[2];

    *proposed = false;
    if (strlen(given) >= VOCAB_NAME_MAX || has_control(given))
        return "the technique is no name";
    vocab_canonical(given, out);
    if (vocab_find(given) >= 0)
        return NULL;
    if (distil_named(d, given, named, ARRAY_LEN(named)) == 1) {
        vocab_canonical(vocab_at(named[0])->name, out);
        return NULL;
    }
    *proposed = true;
    if (!is_slug(out))
        return "the technique is not in the vocabulary, and no name of up to five plain words";
    return gives_away(d, out) ? "the technique names an instance" : NULL;
}

char *distil_mechanism(const struct distil *d, const json_t *insight)
{
    const char *mechanism = jsonx_str(insight, "mechanism", "");
    const char *condition = jsonx_str(insight, "condition", "");
    size_t len = strlen(mechanism);
    bool stop = len > 0 && strchr(".!?", mechanism[len - 1]) != NULL;
    char *s;

    if (len > DISTIL_MECHANISM_MAX || has_control(mechanism) || gives_away(d, mechanism))
        mechanism = "";
    if (strlen(condition) > DISTIL_MECHANISM_MAX / 2 || has_control(condition) ||
        gives_away(d, condition))
        condition = "";
    s = str_printf("%s%s%s%s", mechanism, mechanism[0] && condition[0] ? (stop ? " " : ". ") : "",
                   condition[0] ? "Expected where: " : "", condition);
    if (s != NULL && strlen(s) > DISTIL_MECHANISM_MAX)
        s[0] = '\0';
    return s;
}
