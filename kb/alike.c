/* SPDX-License-Identifier: Apache-2.0 */
/* Near-duplicate claims; see alike.h. */
#include "alike.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "vocab.h"

enum { RECENT = 64, SPELLING_MAX = 96, STEMS_MAX = 1024 };

struct alike {
    struct text *text;
    /* Techniques are few and resolving one is slow. */
    struct {
        char spelling[SPELLING_MAX + 1], canonical[VOCAB_NAME_MAX];
    } recent[RECENT];
};

struct alike *alike_new(void)
{
    struct alike *a = calloc(1, sizeof(*a));

    if (a && (a->text = text_new()) == NULL) {
        free(a);
        return NULL;
    }
    return a;
}

void alike_free(struct alike *a)
{
    if (a == NULL)
        return;
    text_free(a->text);
    free(a);
}

/* ---- Statements ---- */

/* What has to agree in two statements. */
struct gist {
    uint64_t numbers; /* hash of the numbers in order */
    uint64_t stems;   /* hash of the set of stems; 0 when there is a param */
    uint32_t n_numbers, negations;
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The number at `s`: digits, a point between digits; leading zeros say nothing. Returns its end. */
static const char *take_number(const char *s, struct gist *g)
{
    const char *start = s, *end = s;

    while (is_digit(*end) || (*end == '.' && is_digit(end[1])))
        end++;
    while (start + 1 < end && start[0] == '0' && is_digit(start[1]))
        start++;
    g->numbers = text_hash_pair(g->numbers, text_hash(g->n_numbers, start, (size_t)(end - start)));
    g->n_numbers++;
    return end;
}

/* Words that turn a statement round. The length and the first letter rule out nearly all others. */
static bool is_negation(const char *word, size_t len)
{
    static const struct {
        const char *word;
        size_t len;
    } words[] = {
        { "no", 2 },    { "not", 3 },    { "never", 5 },   { "without", 7 },
        { "avoid", 5 }, { "nor", 3 },    { "cannot", 6 },  { "except", 6 },
        { "less", 4 },  { "fewer", 5 },  { "neither", 7 }, { "unless", 6 },
        { "worse", 5 }, { "slower", 6 }, { "hurts", 5 },   { "instead", 7 },
    };

    for (size_t i = 0; i < ARRAY_LEN(words); i++)
        if (words[i].len == len && words[i].word[0] == (word[0] | 0x20) &&
            strncasecmp(word, words[i].word, len) == 0)
            return true;
    return false;
}

/* The word at `s`, with an apostrophe inside. Returns its end. */
static const char *take_word(const char *s, struct gist *g)
{
    const char *end = s;

    while (is_letter(*end) || (*end == '\'' && is_letter(end[1])))
        end++;
    g->negations += is_negation(s, (size_t)(end - s)) ||
                    (end - s > 3 && end[-1] == 't' && end[-2] == '\'' && end[-3] == 'n');
    return end;
}

static int compare_word(const void *key, const void *row)
{
    return strcmp(key, *(const char *const *)row);
}

/* Whether the word could be left out, or be said otherwise, without another meaning. Sorted. */
static bool is_filler(const char *word)
{
    static const char *const words[] = {
        "across",     "allow",   "allows", "also",    "always", "because", "become",    "becomes",
        "begin",      "begins",  "can",    "do",      "does",   "during",  "enable",    "enables",
        "ensure",     "entire",  "get",    "gets",    "give",   "gives",   "helps",     "it",
        "its",        "just",    "keep",   "keeping", "keeps",  "let",     "lets",      "made",
        "make",       "makes",   "making", "number",  "one",    "out",     "over",      "result",
        "results",    "several", "simply", "single",  "so",     "start",   "starts",    "stay",
        "stays",      "take",    "takes",  "then",    "there",  "thereby", "therefore", "through",
        "throughout", "thus",    "up",     "use",     "used",   "uses",    "using",     "very",
        "while",      "whole",   "will",
    };

    return bsearch(word, words, ARRAY_LEN(words), sizeof(words[0]), compare_word) != NULL;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return x < y ? -1 : x > y;
}

/* The set of stems, up to a cap that no honest statement reaches. */
static uint64_t stems_of(struct alike *a, const char *s)
{
    uint64_t stems[STEMS_MAX], hash = 0;
    struct text_token tok;
    struct text_scan sc;
    size_t n = 0;

    text_scan_init(&sc, a->text, s, strlen(s));
    while (n < STEMS_MAX && text_next(&sc, &tok))
        if (!tok.is_stop && !tok.is_compound && !tok.is_number && !is_filler(tok.word))
            stems[n++] = tok.hash;
    qsort(stems, n, sizeof(*stems), by_value);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || stems[i] != stems[i - 1])
            hash = text_hash_pair(hash, stems[i]);
    return hash;
}

static struct gist gist_of(struct alike *a, const struct claim *c)
{
    struct gist g = { 0 };

    for (const char *s = c->statement; *s;)
        s = is_digit(*s) ? take_number(s, &g) : is_letter(*s) ? take_word(s, &g) : s + 1;
    if (c->param[0] == '\0')
        g.stems = stems_of(a, c->statement);
    return g;
}

/* ---- Blocks ---- */

static const char *canonical(struct alike *a, const char *technique)
{
    size_t len = strlen(technique), at = text_hash(1, technique, len) % RECENT;

    if (len > SPELLING_MAX || strcmp(a->recent[at].spelling, technique) != 0) {
        vocab_canonical(technique, a->recent[at].canonical);
        str_copy(a->recent[at].spelling, sizeof(a->recent[at].spelling),
                 len > SPELLING_MAX ? "" : technique);
    }
    return a->recent[at].canonical;
}

enum { FIELDS = 8 };

static void fields_of(const struct claim *c, const char *out[FIELDS])
{
    const char *fields[FIELDS] = { c->family,   c->dtype, c->language,   c->bottleneck,
                                   c->requires, c->param, c->with_value, c->without_value };

    memcpy(out, fields, sizeof(fields));
}

uint64_t alike_block(struct alike *a, const struct claim *c)
{
    const char *technique = canonical(a, c->technique), *fields[FIELDS];
    struct gist g = gist_of(a, c);
    uint64_t hash = text_hash_pair(text_hash_pair(g.numbers, g.stems), g.negations);

    hash = text_hash_pair(hash, text_hash(0, technique, strlen(technique)));
    fields_of(c, fields);
    for (uint64_t i = 0; i < FIELDS; i++)
        hash = text_hash_pair(hash, text_hash(i + 1, fields[i], strlen(fields[i])));
    return MAX(hash, (uint64_t)1);
}

bool alike_in_block(struct alike *a, const struct claim *x, const struct claim *y)
{
    struct gist g = gist_of(a, x), h = gist_of(a, y);
    const char *of_x[FIELDS], *of_y[FIELDS];
    char technique[VOCAB_NAME_MAX];

    if (g.numbers != h.numbers || g.stems != h.stems || g.n_numbers != h.n_numbers ||
        g.negations != h.negations)
        return false;
    str_copy(technique, sizeof(technique), canonical(a, x->technique));
    if (strcmp(technique, canonical(a, y->technique)) != 0)
        return false;
    fields_of(x, of_x);
    fields_of(y, of_y);
    for (size_t i = 0; i < FIELDS; i++)
        if (strcmp(of_x[i], of_y[i]) != 0)
            return false;
    return true;
}

/* ---- Embeddings ---- */

void alike_embed(struct alike *a, const struct claim *c, struct embedding *out)
{
    static const struct embed_context none;

    /* Scope and technique are equal anyway: they would only blur what differs. */
    embed_text(a->text, c->statement, strlen(c->statement), &none, out);
}

bool alike_near(const struct embedding *x, const struct embedding *y)
{
    int64_t longer = MAX(embed_dot(x, x), embed_dot(y, y));

    return longer > 0 && 100 * (int64_t)embed_dot(x, y) >= ALIKE_PERCENT * longer;
}

/* ---- The map ---- */

static struct block *block_slot(const struct blocks *b, uint64_t hash)
{
    size_t i = hash & (b->size - 1);

    while (b->slots[i].hash != 0 && b->slots[i].hash != hash)
        i = (i + 1) & (b->size - 1);
    return &b->slots[i];
}

static int blocks_reserve(struct blocks *b, struct err *err)
{
    struct blocks bigger = { .used = b->used, .size = MAX(b->size * 2, (size_t)256) };

    if ((b->used + 1) * 2 <= b->size)
        return 0;
    bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return err_set(err, ERR_NOMEM, "no memory for near-duplicates");
    for (size_t i = 0; i < b->size; i++)
        if (b->slots[i].hash != 0)
            *block_slot(&bigger, b->slots[i].hash) = b->slots[i];
    free(b->slots);
    *b = bigger;
    return 0;
}

int blocks_put(struct blocks *b, uint64_t hash, void *value, void **before, struct err *err)
{
    struct block *slot;

    if (blocks_reserve(b, err) != 0)
        return -1;
    slot = block_slot(b, hash);
    *before = slot->hash != 0 ? slot->newest : NULL;
    b->used += slot->hash == 0;
    *slot = (struct block){ hash, value };
    return 0;
}

void blocks_release(struct blocks *b)
{
    free(b->slots);
    memset(b, 0, sizeof(*b));
}
