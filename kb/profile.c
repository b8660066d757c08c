/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a question's profile; see profile.h. Tables of phrases around numbers. */
#include "profile.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { WORDS_MAX = 128, WORD_MAX = 24, PHRASE_MAX = 4 };

struct word {
    char text[WORD_MAX]; /* lower case */
    bool new_clause;     /* a comma or the like stands before it */
    bool is_number;
    double number;
};

struct words {
    size_t n;
    struct word v[WORDS_MAX];
};

/* What may stand behind a number, and before one; the longest phrases first. */
static const struct phrase {
    const char *words;
    const char *axis;
} behind[] = {
    { "tokens per expert", "tokens_per_expert" },
    { "tokens an expert", "tokens_per_expert" },
    { "tokens each", "tokens_per_expert" },
    { "token each", "tokens_per_expert" },
    { "experts per token", "top_k" },
    { "local experts", "local_experts" },
    { "experts per rank", "local_experts" },
    { "routed experts", "experts" },
    { "experts", "experts" },
    { "expert", "experts" },
    { "key value heads", "kv_heads" },
    { "kv heads", "kv_heads" },
    { "kv head", "kv_heads" },
    { "query heads", "heads" },
    { "qo heads", "heads" },
    { "attention heads", "heads" },
    { "heads", "heads" },
    { "ep ranks", "ep" },
    { "sequences", "batch" },
    { "requests", "batch" },
    { "tokens", "tokens" },
    { "context", "length" },
}, before[] = {
    { "tokens per expert", "tokens_per_expert" },
    { "batch size", "batch" },
    { "batch of", "batch" },
    { "batch", "batch" },
    { "context length", "length" },
    { "sequence length", "length" },
    { "context", "length" },
    { "seq len", "length" },
    { "kv len", "length" },
    { "length", "length" },
    { "ep degree", "ep" },
    { "ep", "ep" },
    { "head dim", "head_dim" },
    { "head size", "head_dim" },
    { "hidden size", "hidden" },
    { "hidden", "hidden" },
    { "intermediate size", "intermediate" },
    { "intermediate", "intermediate" },
    { "kv heads", "kv_heads" },
    { "local experts", "local_experts" },
    { "experts", "experts" },
    { "query heads", "heads" },
    { "heads", "heads" },
    { "page size", "page_size" },
    { "pages of", "page_size" },
    { "top k", "top_k" },
    { "top", "top_k" },
};

/* Names of processors, and the class whose evidence is meant. */
static const struct {
    const char *word, *class;
} devices[] = {
    { "a100", "sm_80" },        { "a4000", "sm_86" }, { "a6000", "sm_86" }, { "avx2", "cpu-avx2" },
    { "avx512", "cpu-avx512" }, { "b100", "sm_100" }, { "b200", "sm_100" }, { "h100", "sm_90" },
    { "h200", "sm_90" },        { "h800", "sm_90" },  { "l4", "sm_89" },    { "l40", "sm_89" },
    { "l40s", "sm_89" },        { "v100", "sm_70" },
};

static const struct {
    const char *word, *bottleneck;
} limits[] = {
    { "arithmetic", "compute" }, { "bandwidth", "memory" }, { "compute", "compute" },
    { "latency", "latency" },    { "launch", "latency" },   { "math", "compute" },
    { "memory", "memory" },
};

static const char *const dtypes[] = { "bf16", "fp16",  "f16",   "fp32",  "f32",     "fp64",
                                      "f64",  "fp8",   "e4m3",  "e5m2",  "fp4",     "int8",
                                      "int4", "mxfp4", "mxfp8", "nvfp4", "bfloat16" };

/* ---- Words ---- */

/* "64", "4k", "7168": digits with an optional point and unit. */
static bool read_number(const char *s, double *out)
{
    char digits[WORD_MAX];
    size_t len = strlen(s);
    double unit = 1;

    if (!isdigit((unsigned char)s[0]))
        return false;
    memcpy(digits, s, len + 1);
    if (len > 1 && (digits[len - 1] == 'k' || digits[len - 1] == 'm')) {
        unit = digits[len - 1] == 'k' ? 1024 : 1048576;
        digits[len - 1] = '\0';
    }
    if (strspn(digits, "0123456789.") != strlen(digits) || !str_to_double(digits, out))
        return false;
    *out *= unit;
    return true;
}

static bool in_word(const char *s, size_t at)
{
    return isalnum((unsigned char)s[at]) || s[at] == '_' ||
           (s[at] == '.' && at > 0 && isdigit((unsigned char)s[at - 1]) &&
            isdigit((unsigned char)s[at + 1]));
}

/* "ep8", "top8", "bs16": a name of letters right before its number counts as two words. */
static void add_word(struct words *w, const char *s, size_t len, bool new_clause)
{
    struct word *word = &w->v[w->n];

    if (len >= WORD_MAX || w->n == WORDS_MAX)
        return;
    memcpy(word->text, s, len);
    word->text[len] = '\0';
    for (char *c = word->text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
    word->new_clause = new_clause;
    word->is_number = read_number(word->text, &word->number);
    w->n++;
}

static bool is_glued(const char *s, size_t len, size_t *letters)
{
    static const char *const names[] = { "ep", "top", "topk", "bs", "sm" };

    for (*letters = 0; *letters < len && isalpha((unsigned char)s[*letters]);)
        ++*letters;
    if (*letters == len || strspn(s + *letters, "0123456789") != len - *letters)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(names); i++)
        if (strlen(names[i]) == *letters && strncasecmp(names[i], s, *letters) == 0)
            return true;
    return false;
}

static void read_words(const char *s, struct words *w)
{
    bool new_clause = true;

    w->n = 0;
    for (size_t i = 0; s[i] && w->n < WORDS_MAX;) {
        char word[64];
        size_t start = i, letters;

        while (s[i] && in_word(s, i))
            i++;
        if (i == start) {
            new_clause |= strchr(",;:()\n", s[i]) != NULL;
            i++;
            continue;
        }
        str_copy(word, MIN(sizeof(word), i - start + 1), s + start);
        if (is_glued(word, strlen(word), &letters)) {
            add_word(w, word, letters, new_clause);
            add_word(w, word + letters, strlen(word) - letters, false);
        } else {
            add_word(w, word, strlen(word), new_clause);
        }
        new_clause = false;
    }
}

/* ---- Phrases ---- */

/* Words of the phrase when it starts at `at` within one clause; 0 when it does not. */
static size_t phrase_at(const struct words *w, size_t at, const char *phrase)
{
    size_t n = 0;

    while (*phrase) {
        size_t len = strcspn(phrase, " ");

        if (at + n >= w->n || (n > 0 && w->v[at + n].new_clause) ||
            strlen(w->v[at + n].text) != len || strncmp(w->v[at + n].text, phrase, len) != 0)
            return 0;
        n++;
        phrase += len + (phrase[len] == ' ');
    }
    return n;
}

/* The axis named behind the number at `i`; *n is how many words name it. */
static const char *axis_behind(const struct words *w, size_t i, size_t *n)
{
    if (i + 1 >= w->n || w->v[i + 1].new_clause)
        return NULL;
    for (size_t k = 0; k < ARRAY_LEN(behind); k++)
        if ((*n = phrase_at(w, i + 1, behind[k].words)) > 0)
            return behind[k].axis;
    return NULL;
}

/* "hidden size of 7168", "batch = 16", "kv_heads 8". */
static const char *axis_before(const struct words *w, size_t i)
{
    const char *last;

    if (i == 0 || w->v[i].new_clause)
        return NULL;
    for (size_t k = 0; k < ARRAY_LEN(before); k++)
        for (size_t back = 1; back <= PHRASE_MAX && back <= i; back++) {
            size_t n = phrase_at(w, i - back, before[k].words);
            size_t end = i - back + n;

            if (n > 0 && (end == i || (end + 1 == i && (strcmp(w->v[end].text, "of") == 0 ||
                                                        strcmp(w->v[end].text, "is") == 0))))
                return before[k].axis;
        }
    last = w->v[i - 1].text;
    return regime_axis_known(last) ? regime_axis_name(last) : NULL;
}

static void take_number(const struct words *w, size_t i, struct regime *r)
{
    size_t n = 0;
    const char *after = axis_behind(w, i, &n), *ahead = axis_before(w, i);
    /* "batch 8 heads 32": what follows belongs to the next number. */
    bool theirs = ahead && after && i + n + 1 < w->n && w->v[i + n + 1].is_number &&
                  !w->v[i + n + 1].new_clause;
    const char *axis = after && !theirs ? after : ahead;
    struct err ignored;

    if (axis != NULL)
        regime_put(r, axis, w->v[i].number, &ignored);
}

static bool is_limit(const char *word)
{
    return strcmp(word, "bound") == 0 || strcmp(word, "limited") == 0;
}

static void take_word(const struct words *w, size_t i, struct profile *p)
{
    const char *word = w->v[i].text, *next = i + 1 < w->n ? w->v[i + 1].text : "";

    for (size_t k = 0; k < ARRAY_LEN(limits) && is_limit(next); k++)
        if (strcmp(limits[k].word, word) == 0)
            str_copy(p->bottleneck, sizeof(p->bottleneck), limits[k].bottleneck);
    for (size_t k = 0; k < ARRAY_LEN(devices); k++)
        if (strcmp(devices[k].word, word) == 0)
            str_copy(p->device_class, sizeof(p->device_class), devices[k].class);
    for (size_t k = 0; k < ARRAY_LEN(dtypes); k++)
        if (strcmp(dtypes[k], word) == 0)
            regime_dtype_name(word, p->regime.dtype);
    if (strncmp(word, "sm_", 3) == 0 && isdigit((unsigned char)word[3]))
        str_copy(p->device_class, sizeof(p->device_class), word);
    else if (strcmp(word, "sm") == 0 && isdigit((unsigned char)next[0]))
        snprintf(p->device_class, sizeof(p->device_class), "sm_%.8s", next);
    else if (strncmp(word, "gfx", 3) == 0 && isdigit((unsigned char)word[3]))
        str_copy(p->device_class, sizeof(p->device_class), word);
}

/* "128x128 blocks", "block scale 128". */
static void take_blocks(const struct words *w, size_t i, struct profile *p)
{
    const char *word = w->v[i].text;
    size_t first = strspn(word, "0123456789");
    bool square = first > 0 && word[first] == 'x' && isdigit((unsigned char)word[first + 1]);

    if (square)
        str_copy(p->regime.block_scale, sizeof(p->regime.block_scale), word);
    else if (w->v[i].is_number && i >= 2 && !w->v[i].new_clause &&
             strcmp(w->v[i - 2].text, "block") == 0 && strcmp(w->v[i - 1].text, "scale") == 0)
        snprintf(p->regime.block_scale, sizeof(p->regime.block_scale), "%.8sx%.8s", word, word);
}

void profile_read(const char *text, struct profile *out)
{
    struct words w;

    *out = (struct profile){ 0 };
    read_words(text, &w);
    for (size_t i = 0; i < w.n; i++) {
        if (w.v[i].is_number)
            take_number(&w, i, &out->regime);
        else
            take_word(&w, i, out);
        take_blocks(&w, i, out);
    }
}

bool profile_is_empty(const struct profile *p)
{
    return p->bottleneck[0] == '\0' && p->device_class[0] == '\0' && regime_is_empty(&p->regime);
}

char *profile_text(const struct profile *p, char *out, size_t size)
{
    char shape[REGIME_TEXT_MAX];
    int n = 0;

    regime_text(&p->regime, shape, sizeof(shape));
    n = snprintf(out, size, "%s%s", p->bottleneck, p->bottleneck[0] ? "-bound" : "");
    if (shape[0] && n >= 0 && (size_t)n < size)
        n += snprintf(out + n, size - (size_t)n, "%s%s", n ? ", " : "", shape);
    if (p->device_class[0] && n >= 0 && (size_t)n < size)
        snprintf(out + n, size - (size_t)n, "%s%s", n ? ", " : "", p->device_class);
    return out;
}
