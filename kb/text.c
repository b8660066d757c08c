/* SPDX-License-Identifier: Apache-2.0 */
/* Text normalisation; see text.h. */
#include "text.h"

#include <libstemmer.h>
#include <string.h>

#include "base/mem.h"

/* Recent words and the hashes of their stems: stemming costs ten times the look-up. */
enum { CACHE_SIZE = 4096 };

struct text {
    struct sb_stemmer *stemmer;
    struct {
        uint64_t word, stem;
    } cache[CACHE_SIZE];
};

/* Sorted, for bsearch. */
static const char *const stop_words[] = {
    "a",     "about", "after",  "also",  "an",   "and",  "any",   "are",   "as",   "at",
    "be",    "been",  "but",    "by",    "can",  "do",   "does",  "each",  "for",  "from",
    "had",   "has",   "have",   "how",   "if",   "in",   "into",  "is",    "it",   "its",
    "may",   "more",  "most",   "much",  "not",  "of",   "on",    "one",   "or",   "our",
    "over",  "per",   "should", "so",    "some", "such", "than",  "that",  "the",  "their",
    "them",  "then",  "there",  "these", "they", "this", "those", "to",    "up",   "us",
    "use",   "used",  "uses",   "using", "very", "was",  "we",    "were",  "what", "when",
    "where", "which", "while",  "who",   "why",  "will", "with",  "would", "you",
};

uint64_t text_hash_pair(uint64_t a, uint64_t b)
{
    /* SplitMix64's finaliser over a multiplied sum: every input bit reaches every output bit. */
    uint64_t h = a * 0x9e3779b97f4a7c15ull + b + 0x632be59bd9b4e019ull;

    h = (h ^ (h >> 30)) * 0xbf58476d1ce4e5b9ull;
    h = (h ^ (h >> 27)) * 0x94d049bb133111ebull;
    return h ^ (h >> 31);
}

uint64_t text_hash(uint64_t seed, const char *s, size_t len)
{
    uint64_t h = text_hash_pair(seed, len);

    for (size_t i = 0; i < len; i += 8) {
        uint64_t w = 0;

        for (size_t k = 0; k < 8 && i + k < len; k++)
            w |= (uint64_t)(unsigned char)s[i + k] << (8 * k);
        h = text_hash_pair(h, w);
    }
    return h != 0 ? h : 1;
}

struct text *text_new(void)
{
    struct text *t = calloc(1, sizeof(*t));

    if (t == NULL)
        return NULL;
    t->stemmer = sb_stemmer_new("english", "UTF_8");
    if (t->stemmer == NULL) {
        free(t);
        return NULL;
    }
    return t;
}

void text_free(struct text *t)
{
    if (t == NULL)
        return;
    sb_stemmer_delete(t->stemmer);
    free(t);
}

static int compare_word(const void *key, const void *row)
{
    return strcmp(key, *(const char *const *)row);
}

static bool is_stop_word(const char *word)
{
    return bsearch(word, stop_words, ARRAY_LEN(stop_words), sizeof(stop_words[0]), compare_word) !=
           NULL;
}

static bool is_stemmable(const char *word, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (word[i] < 'a' || word[i] > 'z')
            return false;
    return len >= 3;
}

/* The hash of the word's stem. Words with digits or other scripts are their own stems. */
static uint64_t stem_hash(struct text *t, const char *word, size_t len)
{
    uint64_t h = text_hash(0, word, len);
    uint64_t *slot_word = &t->cache[h % CACHE_SIZE].word;
    uint64_t *slot_stem = &t->cache[h % CACHE_SIZE].stem;
    const sb_symbol *stem;

    if (!is_stemmable(word, len))
        return h;
    if (*slot_word == h)
        return *slot_stem;
    stem = sb_stemmer_stem(t->stemmer, (const sb_symbol *)word, (int)len);
    *slot_word = h;
    *slot_stem = h;
    if (stem != NULL)
        *slot_stem = text_hash(0, (const char *)stem, (size_t)sb_stemmer_length(t->stemmer));
    return *slot_stem;
}

/* Bytes of the well-formed UTF-8 sequence at s, and its code point; 0 when there is none. */
static size_t utf8_at(const unsigned char *s, size_t left, uint32_t *cp)
{
    size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

    if (s[0] < 0xc2 || s[0] > 0xf4 || left < n)
        return 0;
    *cp = s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((s[i] & 0xc0) != 0x80)
            return 0;
        *cp = *cp << 6 | (s[i] & 0x3f);
    }
    if (*cp < least[n] || *cp > 0x10ffff || (*cp >= 0xd800 && *cp <= 0xdfff))
        return 0;
    return n;
}

/* Letters of other scripts make words; signs, dashes, arrows and blanks do not. */
static bool is_letter_point(uint32_t cp)
{
    if (cp < 0xc0 || cp == 0xd7 || cp == 0xf7)
        return false;
    return !(cp >= 0x2000 && cp <= 0x2bff) && !(cp >= 0x3000 && cp <= 0x303f) &&
           !(cp >= 0xe000 && cp <= 0xf8ff) && !(cp >= 0xfe00 && cp <= 0xfe6f) && cp != 0xfeff;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* Bytes of the word character at `pos`; 0 when there is none. */
static size_t word_char(const struct text_scan *sc, size_t pos)
{
    unsigned char c;
    uint32_t cp;
    size_t n;

    if (pos >= sc->len)
        return 0;
    c = (unsigned char)sc->s[pos];
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit((char)c))
        return 1;
    if (c == '.' && pos > 0 && pos + 1 < sc->len && is_digit(sc->s[pos - 1]) &&
        is_digit(sc->s[pos + 1]))
        return 1;
    if (c < 0x80)
        return 0;
    n = utf8_at((const unsigned char *)sc->s + pos, sc->len - pos, &cp);
    return n != 0 && is_letter_point(cp) ? n : 0;
}

static void read_number(struct text_token *out)
{
    uint64_t v = 0;
    bool fraction = false;

    for (const char *p = out->word; *p != '\0'; p++) {
        if (*p == '.')
            fraction = true;
        else if (!is_digit(*p))
            return;
        else if (!fraction)
            v = MIN(v * 10 + (uint64_t)(*p - '0'), (uint64_t)UINT32_MAX);
    }
    out->is_number = true;
    out->number = (uint32_t)v;
}

/* Reads the word that begins at sc->pos. */
static void read_word(struct text_scan *sc, struct text_token *out)
{
    size_t n, len = 0, start = sc->pos;

    *out = (struct text_token){ .offset = (uint32_t)start };
    while ((n = word_char(sc, sc->pos)) != 0) {
        for (size_t i = 0; i < n && len + n - i <= TEXT_WORD_MAX; i++) {
            char c = sc->s[sc->pos + i];

            out->word[len++] = c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
        }
        sc->pos += n;
    }
    out->len = (uint32_t)(sc->pos - start);
    read_number(out);
    out->is_stop = is_stop_word(out->word);
    out->hash = stem_hash(sc->text, out->word, len);
}

/* Whether '-' or '_' at sc->pos joins the word before it to one behind it. */
static bool joins(const struct text_scan *sc)
{
    return sc->pos + 1 < sc->len && (sc->s[sc->pos] == '-' || sc->s[sc->pos] == '_') &&
           word_char(sc, sc->pos + 1) != 0;
}

void text_scan_init(struct text_scan *sc, struct text *t, const char *s, size_t len)
{
    *sc = (struct text_scan){ .text = t, .s = s, .len = MIN(len, (size_t)TEXT_BYTES_MAX) };
}

static void emit_compound(struct text_scan *sc, struct text_token *out)
{
    *out = (struct text_token){ .hash = sc->compound_hash,
                                .offset = (uint32_t)sc->compound_start,
                                .len = (uint32_t)(sc->pos - sc->compound_start),
                                .is_compound = true };
    sc->compound_due = false;
    sc->parts = 0;
}

bool text_next(struct text_scan *sc, struct text_token *out)
{
    if (sc->compound_due) {
        emit_compound(sc, out);
        return true;
    }
    if (sc->in_compound) {
        sc->pos++; /* the joining character */
    } else {
        while (sc->pos < sc->len && word_char(sc, sc->pos) == 0)
            sc->pos++;
        if (sc->pos >= sc->len)
            return false;
        sc->compound_start = sc->pos;
        sc->parts = 0;
    }
    read_word(sc, out);
    sc->compound_hash = sc->parts == 0 ? out->hash : text_hash_pair(sc->compound_hash, out->hash);
    sc->parts++;
    sc->in_compound = joins(sc) && sc->parts < TEXT_COMPOUND_PARTS;
    sc->compound_due = !sc->in_compound && sc->parts > 1;
    return true;
}
