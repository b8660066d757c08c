/* SPDX-License-Identifier: Apache-2.0 */
/* The built-in embedding; see embed.h. Changing a weight, a table or a hash is a new model id. */
#include "embed.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "vocab.h"

/*
 * Weights relative to one another. Technique and family decide most of what makes an insight
 * relevant; n-grams only help misspelt and derived words, so a whole word's n-grams together weigh
 * about as much as the word.
 */
enum {
    W_WORD = 10,
    W_COMPOUND = 8,
    W_NUMBER = 4,
    W_GRAMS = 24, /* shared by the n-grams of one word, root of the sum of squares */
    W_CONCEPT = 24,
    W_TOPIC = 7,
    W_TECHNIQUE = 20,
    W_FAMILY = 14,
    W_BOTTLENECK = 9,
    W_DTYPE = 6,
    W_LANGUAGE = 5,
    W_FEATURE = 4,
    W_PARAM = 8,
    W_VALUE = 4,
};

/* Weights are multiplied by this, so that a share of one is still an integer. */
enum { UNIT = 64 };

/* Kinds of features: names of different kinds never share a hash. */
enum {
    KIND_WORD = 1,
    KIND_NUMBER,
    KIND_CONCEPT,
    KIND_TOPIC,
    KIND_TECHNIQUE,
    KIND_FAMILY,
    KIND_BOTTLENECK,
    KIND_DTYPE,
    KIND_LANGUAGE,
    KIND_FEATURE,
    KIND_PARAM,
    KIND_VALUE,
    KIND_PROJECTED,
    KIND_GRAM = 100, /* plus its length */
};

/* Length after scaling: the typical component is then 15, and one holding half of the length fits.
 */
enum { TARGET_LENGTH = 240 };

enum { WORDS_MAX = 1024, SEEN_SLOTS = 1024, SEEN_MAX = 768, CONCEPTS_MAX = 32 };

struct state {
    int32_t acc[EMBED_DIM];
    uint32_t seen[SEEN_SLOTS]; /* words counted already: repetition adds nothing */
    size_t n_seen;
    size_t n_stems;
    uint64_t stems[WORDS_MAX]; /* in order, for the vocabulary */
};

/* Words that stand for structured context wherever they occur. */
static const struct {
    const char *word;
    int kind;
    int weight;
    const char *value;
} context_words[] = {
    { "bandwidth", KIND_BOTTLENECK, W_BOTTLENECK / 2, "memory" },
    { "bf16", KIND_DTYPE, W_DTYPE, "bf16" },
    { "bfloat16", KIND_DTYPE, W_DTYPE, "bf16" },
    { "compute", KIND_BOTTLENECK, W_BOTTLENECK / 2, "compute" },
    { "cuda", KIND_LANGUAGE, W_LANGUAGE, "cuda" },
    { "f16", KIND_DTYPE, W_DTYPE, "f16" },
    { "f32", KIND_DTYPE, W_DTYPE, "f32" },
    { "float32", KIND_DTYPE, W_DTYPE, "f32" },
    { "fp16", KIND_DTYPE, W_DTYPE, "f16" },
    { "fp32", KIND_DTYPE, W_DTYPE, "f32" },
    { "fp8", KIND_DTYPE, W_DTYPE, "fp8" },
    { "half", KIND_DTYPE, W_DTYPE / 2, "f16" },
    { "int8", KIND_DTYPE, W_DTYPE, "int8" },
    { "latency", KIND_BOTTLENECK, W_BOTTLENECK / 2, "latency" },
    { "memory", KIND_BOTTLENECK, W_BOTTLENECK / 2, "memory" },
    { "triton", KIND_LANGUAGE, W_LANGUAGE, "triton" },
};

/* Names of data types that mean the same. */
static const struct {
    const char *name, *same_as;
} dtype_names[] = {
    { "bfloat16", "bf16" }, { "float16", "f16" }, { "fp16", "f16" },
    { "float32", "f32" },   { "fp32", "f32" },    { "f8", "fp8" },
    { "fp8_e4m3", "fp8" },  { "f8e4m3", "fp8" },  { "float8_e4m3fn", "fp8" },
};

static void state_init(struct state *st)
{
    memset(st, 0, offsetof(struct state, stems));
}

static inline void add_hash(struct state *st, uint64_t h, int32_t weight)
{
    int32_t flip = -(int32_t)((h >> 32) & 1); /* 0 or -1: the sign without a branch */

    st->acc[h % EMBED_DIM] += (weight ^ flip) - flip;
}

/* The same length spread over four places: what weighs much must not hang on one collision. */
static void add_spread(struct state *st, uint64_t h, int32_t weight)
{
    for (uint64_t i = 0; i < 4; i++)
        add_hash(st, text_hash_pair(h, i), weight * UNIT / 2);
}

static void add_name(struct state *st, int kind, const char *s, size_t len, int32_t weight)
{
    char low[128];

    len = MIN(len, sizeof(low));
    for (size_t i = 0; i < len; i++)
        low[i] = s[i] >= 'A' && s[i] <= 'Z' ? (char)(s[i] + 32) : s[i];
    add_spread(st, text_hash((uint64_t)kind, low, len), weight);
}

static bool seen_before(struct state *st, uint64_t hash)
{
    uint32_t h = MAX((uint32_t)(hash >> 16), 1u);
    size_t i = h % SEEN_SLOTS;

    while (st->seen[i] != 0) {
        if (st->seen[i] == h)
            return true;
        i = (i + 1) % SEEN_SLOTS;
    }
    if (st->n_seen < SEEN_MAX) {
        st->seen[i] = h;
        st->n_seen++;
    }
    return false;
}

/* Floor of the binary logarithm plus one; 0 for 0. */
static uint64_t magnitude(uint64_t v)
{
    return v == 0 ? 0 : 64 - (uint64_t)__builtin_clzll(v);
}

/* A number as its place on a logarithmic scale: half of the weight goes to the next step, so that
 * 64 is closer to 96 and 128 than to 4096. */
static void add_number(struct state *st, uint64_t seed, uint64_t v, int32_t weight)
{
    uint64_t m = magnitude(v);

    add_hash(st, text_hash_pair(seed, m), weight * UNIT);
    add_hash(st, text_hash_pair(seed, m + 1), weight * UNIT / 2);
}

/* n-grams of 3 to 5 bytes of the word between boundary marks. */
static void add_grams(struct state *st, const char *word)
{
    char marked[TEXT_WORD_MAX + 3 + 8] = "^";
    size_t len = strlen(word), grams = 0;
    int32_t weight;

    memcpy(marked + 1, word, len);
    marked[len + 1] = '$';
    len += 2;
    for (size_t n = 3; n <= 5; n++)
        grams += len >= n ? len - n + 1 : 0;
    if (grams == 0)
        return;
    /* grams features of this weight have the length W_GRAMS / 2 together. */
    weight = (int32_t)(W_GRAMS * UNIT / 2 / sqrt((double)grams) + 0.5);
    for (size_t i = 0; i + 3 <= len; i++) {
        uint64_t bytes = 0;

        for (size_t k = 0; k < 5; k++)
            bytes |= (uint64_t)(unsigned char)marked[i + k] << (8 * k);
        add_hash(st, text_hash_pair(KIND_GRAM + 3, bytes & 0xffffff), weight);
        if (i + 4 <= len)
            add_hash(st, text_hash_pair(KIND_GRAM + 4, bytes & 0xffffffff), weight);
        if (i + 5 <= len)
            add_hash(st, text_hash_pair(KIND_GRAM + 5, bytes), weight);
    }
}

static void add_context_word(struct state *st, const char *word)
{
    for (size_t i = 0; i < ARRAY_LEN(context_words); i++)
        if (strcmp(context_words[i].word, word) == 0)
            add_name(st, context_words[i].kind, context_words[i].value,
                     strlen(context_words[i].value), context_words[i].weight);
}

static void add_token(struct state *st, const struct text_token *tok)
{
    if (tok->is_stop)
        return;
    if (!tok->is_compound && st->n_stems < WORDS_MAX)
        st->stems[st->n_stems++] = tok->hash;
    if (seen_before(st, tok->hash))
        return;
    add_spread(st, text_hash_pair(KIND_WORD, tok->hash), tok->is_compound ? W_COMPOUND : W_WORD);
    if (tok->is_compound)
        return;
    if (tok->is_number) {
        add_number(st, KIND_NUMBER, tok->number, W_NUMBER);
        return;
    }
    add_grams(st, tok->word);
    add_context_word(st, tok->word);
}

static void add_words(struct state *st, struct text *t, const char *s, size_t len)
{
    struct text_scan sc;
    struct text_token tok;

    text_scan_init(&sc, t, s, len);
    while (text_next(&sc, &tok))
        add_token(st, &tok);
}

static void add_topics(struct state *st, const struct vocab_entry *e, int32_t weight)
{
    for (size_t i = 0; i < VOCAB_CONCEPTS_MAX && e->concepts[i] != NULL; i++)
        add_name(st, KIND_TOPIC, e->concepts[i], strlen(e->concepts[i]), weight);
}

static void add_concepts(struct state *st)
{
    uint16_t found[CONCEPTS_MAX];
    size_t n = vocab_scan(st->stems, st->n_stems, found, CONCEPTS_MAX);

    for (size_t i = 0; i < n; i++) {
        const struct vocab_entry *e = vocab_at(found[i]);

        add_name(st, KIND_CONCEPT, e->name, strlen(e->name), W_CONCEPT);
        add_topics(st, e, W_TOPIC);
    }
}

static bool given(const char *s)
{
    return s != NULL && s[0] != '\0';
}

static void add_technique(struct state *st, const char *technique)
{
    char name[VOCAB_NAME_MAX];
    int i = vocab_find(technique);

    vocab_canonical(technique, name);
    /* As a concept too, so that a text naming the technique meets a claim filed under it. */
    add_name(st, KIND_CONCEPT, name, strlen(name), W_CONCEPT);
    add_name(st, KIND_TECHNIQUE, name, strlen(name), W_TECHNIQUE);
    if (i >= 0)
        add_topics(st, vocab_at((size_t)i), W_TOPIC);
}

static void add_dtype(struct state *st, const char *dtype)
{
    for (size_t i = 0; i < ARRAY_LEN(dtype_names); i++)
        if (strcmp(dtype_names[i].name, dtype) == 0)
            dtype = dtype_names[i].same_as;
    add_name(st, KIND_DTYPE, dtype, strlen(dtype), W_DTYPE);
}

static void add_list(struct state *st, int kind, const char *list, int32_t weight)
{
    while (*list != '\0') {
        size_t n = strcspn(list, ", ");

        if (n > 0)
            add_name(st, kind, list, n, weight);
        list += n + (list[n] != '\0');
    }
}

static void add_value(struct state *st, const char *param, const char *which, const char *value)
{
    uint64_t seed = text_hash(KIND_VALUE, param, strlen(param));
    uint64_t v = 0;
    size_t digits = strspn(value, "0123456789");

    seed = text_hash(seed, which, strlen(which));
    if (digits == 0 || value[digits] != '\0' || digits > 18) {
        add_hash(st, text_hash(seed, value, strlen(value)), W_VALUE * UNIT);
        return;
    }
    for (size_t i = 0; i < digits; i++)
        v = v * 10 + (uint64_t)(value[i] - '0');
    add_number(st, seed, v, W_VALUE);
}

static void add_context(struct state *st, const struct embed_context *c)
{
    if (given(c->technique))
        add_technique(st, c->technique);
    if (given(c->family))
        add_name(st, KIND_FAMILY, c->family, strlen(c->family), W_FAMILY);
    if (given(c->dtype))
        add_dtype(st, c->dtype);
    if (given(c->language))
        add_name(st, KIND_LANGUAGE, c->language, strlen(c->language), W_LANGUAGE);
    if (given(c->bottleneck))
        add_name(st, KIND_BOTTLENECK, c->bottleneck, strlen(c->bottleneck), W_BOTTLENECK);
    if (given(c->requires))
        add_list(st, KIND_FEATURE, c->requires, W_FEATURE);
    if (!given(c->param))
        return;
    add_name(st, KIND_PARAM, c->param, strlen(c->param), W_PARAM);
    if (given(c->with_value))
        add_value(st, c->param, "with", c->with_value);
    if (given(c->without_value))
        add_value(st, c->param, "without", c->without_value);
}

static void finish(const struct state *st, struct embedding *out)
{
    int64_t sum = 0;
    double scale;

    memset(out, 0, sizeof(*out));
    for (size_t i = 0; i < EMBED_DIM; i++)
        sum += (int64_t)st->acc[i] * st->acc[i];
    if (sum == 0)
        return;
    scale = TARGET_LENGTH / sqrt((double)sum);
    for (size_t i = 0; i < EMBED_DIM; i++) {
        double x = st->acc[i] * scale;
        int32_t v = (int32_t)(x < 0 ? x - 0.5 : x + 0.5);

        out->v[i] = (int8_t)MAX(-127, MIN(127, v));
    }
}

void embed_text(struct text *t, const char *s, size_t len, const struct embed_context *ctx,
                struct embedding *out)
{
    struct state st;

    state_init(&st);
    add_words(&st, t, s, len);
    add_concepts(&st);
    if (ctx != NULL)
        add_context(&st, ctx);
    finish(&st, out);
}

void embed_claim(struct text *t, const struct claim *c, struct embedding *out)
{
    struct embed_context ctx = {
        .technique = c->technique,
        .family = c->family,
        .dtype = c->dtype,
        .language = c->language,
        .bottleneck = c->bottleneck,
        .requires = c->requires,
        .param = c->param,
        .with_value = c->with_value,
        .without_value = c->without_value,
    };
    struct state st;

    state_init(&st);
    add_words(&st, t, c->statement, strlen(c->statement));
    add_words(&st, t, c->mechanism, strlen(c->mechanism));
    add_concepts(&st);
    add_context(&st, &ctx);
    finish(&st, out);
}

int embed_project(const double *x, size_t n, struct embedding *out, struct err *err)
{
    double sum[EMBED_DIM] = { 0 }, square = 0, most = 0, scale;

    for (size_t i = 0; i < n; i++) {
        uint64_t h = text_hash_pair(KIND_PROJECTED, i + 1);
        size_t place = n <= EMBED_DIM ? i : h % EMBED_DIM;

        if (!isfinite(x[i]) || fabs(x[i]) > 1e100)
            return err_set(err, ERR_INVALID, "number %zu of the vector is not finite", i + 1);
        sum[place] += n > EMBED_DIM && (h >> 32 & 1) ? -x[i] : x[i];
    }
    for (size_t i = 0; i < EMBED_DIM; i++) {
        square += sum[i] * sum[i];
        most = MAX(most, fabs(sum[i]));
    }
    memset(out, 0, sizeof(*out));
    if (square == 0)
        return 0;
    /* Shorter where one number holds more than half of the length: cutting it would turn it. */
    scale = MIN(TARGET_LENGTH / sqrt(square), 127 / most);
    for (size_t i = 0; i < EMBED_DIM; i++)
        out->v[i] = (int8_t)lround(sum[i] * scale);
    return 0;
}

int embed_claim_text(const struct claim *c, struct buf *out, struct err *err)
{
    const struct {
        const char *name, *value;
    } parts[] = { { "Kernel family", c->family },
                  { "Data type", c->dtype },
                  { "Language", c->language },
                  { "Bound by", c->bottleneck },
                  { "Needs", c->requires } };

    if (buf_adds(out, c->technique, err) != 0 || buf_adds(out, ": ", err) != 0 ||
        buf_adds(out, c->statement, err) != 0 || buf_adds(out, " ", err) != 0 ||
        buf_adds(out, c->mechanism, err) != 0)
        return -1;
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        if (given(parts[i].value) &&
            (buf_adds(out, "\n", err) != 0 || buf_adds(out, parts[i].name, err) != 0 ||
             buf_adds(out, ": ", err) != 0 || buf_adds(out, parts[i].value, err) != 0))
            return -1;
    return 0;
}

int32_t embed_dot(const struct embedding *a, const struct embedding *b)
{
    int32_t sum = 0;

    for (size_t i = 0; i < EMBED_DIM; i++)
        sum += (int32_t)a->v[i] * b->v[i];
    return sum;
}

float embed_cosine(const struct embedding *a, const struct embedding *b)
{
    double lengths = (double)embed_dot(a, a) * embed_dot(b, b);

    return lengths > 0 ? (float)(embed_dot(a, b) / sqrt(lengths)) : 0.0f;
}

void embed_to_float(const struct embedding *e, float *out)
{
    int32_t sq = embed_dot(e, e);
    float scale = sq > 0 ? 1.0f / sqrtf((float)sq) : 0.0f;

    for (size_t i = 0; i < EMBED_DIM; i++)
        out[i] = (float)e->v[i] * scale;
}
