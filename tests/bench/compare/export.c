/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writes a base's insights and questions about it as other systems can load them: docs.jsonl
 * {id, text, family, technique}, docs.i8 (256 signed bytes a document, the same order),
 * questions.jsonl {text, words, task, family, technique} and questions.i8.
 *   compare_export --data DIR --out DIR [--queries 1000]
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "embed.h"
#include "kb.h"
#include "synthetic.h"
#include "text.h"
#include "vocab.h"

/* Tasks that ship with the daemon, and their families: a question's family reaches it this way. */
static const struct {
    const char *task, *family;
} tasks[] = { { "gqa_paged_decode_h32_kv4_d128_ps1", "gqa_paged_decode" },
              { "vector_add_l1", "vector_add" } };

struct export
{
    struct text *text;
    FILE *docs, *vectors;
    uint64_t n;
};

static void die(const char *what, const char *why)
{
    fprintf(stderr, "compare_export: %s: %s\n", what, why);
    exit(1);
}

static FILE *create(const char *dir, const char *name)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    FILE *f = fopen(path, "we");

    if (f == NULL)
        die(path, "cannot be created");
    return f;
}

static void finish(FILE *f)
{
    if (fclose(f) != 0)
        die("output", "cannot be written");
}

static void put_line(FILE *f, json_t *line)
{
    if (line == NULL || json_dumpf(line, f, JSON_COMPACT) != 0 || fputc('\n', f) == EOF)
        die("output", "cannot be written");
    json_decref(line);
}

static void put_vector(FILE *f, const struct embedding *e)
{
    if (fwrite(e->v, sizeof(e->v), 1, f) != 1)
        die("output", "cannot be written");
}

static int put_doc(void *ctx, const struct insight *in)
{
    struct export *x = ctx;
    const struct claim *c = &in->claim;
    CLEANUP(freep)
    char *text = str_printf("%s %s %s %s %s %s %s %s %s %s %s", c->technique, c->statement,
                            c->mechanism, c->family, c->dtype, c->language, c->bottleneck,
                            c->requires, c->param, c->with_value, c->without_value);
    char name[VOCAB_NAME_MAX];
    struct embedding e;

    embed_claim(x->text, c, &e);
    put_vector(x->vectors, &e);
    put_line(x->docs, json_pack("{s:s, s:s, s:s, s:s}", "id", in->id.hex, "text", text, "family",
                                c->family, "technique", vocab_canonical(c->technique, name)));
    x->n++;
    return 0;
}

/* The words of a question for other systems' parsers: those that are no stop words, as written. */
static json_t *words_of(struct text *t, const char *s)
{
    json_t *words = json_array();
    struct text_scan sc;
    struct text_token tok;

    text_scan_init(&sc, t, s, strlen(s));
    while (text_next(&sc, &tok))
        if (!tok.is_stop && !tok.is_compound)
            json_array_append_new(words, json_stringn(s + tok.offset, tok.len));
    return words;
}

/* A third has no filter, a third the family of a task, a third a technique, some of those both. */
static void put_question(struct export *x, struct rng *r)
{
    struct synthetic_question q;
    size_t task = rng_below(r, ARRAY_LEN(tasks)), kind = rng_below(r, 6);
    bool by_family = kind == 2 || kind == 3 || kind == 5, by_technique = kind >= 4;
    char name[VOCAB_NAME_MAX];
    struct embed_context ctx = { 0 };
    struct embedding e;
    json_t *line;

    synthetic_question(r, &q);
    ctx.family = by_family ? tasks[task].family : NULL;
    ctx.technique =
        by_technique ? vocab_canonical(vocab_at(rng_below(r, vocab_count()))->name, name) : NULL;
    embed_text(x->text, q.text, strlen(q.text), &ctx, &e);
    put_vector(x->vectors, &e);
    line = json_pack("{s:s, s:o, s:s*, s:s*, s:s*}", "text", q.text, "words",
                     words_of(x->text, q.text), "task", by_family ? tasks[task].task : NULL,
                     "family", ctx.family, "technique", ctx.technique);
    put_line(x->docs, line);
}

static void export_docs(const char *data, const char *out)
{
    struct kb_options o = { .dir = data, .clock = clock_system() };
    struct export x = { text_new(), create(out, "docs.jsonl"), create(out, "docs.i8"), 0 };
    struct err err;
    struct kb *kb;

    if (kb_open(&o, &kb, &err) != 0)
        die(data, err.msg);
    if (kb_each_insight(kb, put_doc, &x) != 0)
        die(data, "its insights cannot be read");
    kb_close(kb);
    finish(x.docs);
    finish(x.vectors);
    text_free(x.text);
    printf("documents %ju\n", (uintmax_t)x.n);
}

static void export_questions(const char *out, uint64_t n)
{
    struct export x = { text_new(), create(out, "questions.jsonl"), create(out, "questions.i8"),
                        0 };
    struct rng r = rng_seeded(11);

    for (uint64_t i = 0; i < n; i++)
        put_question(&x, &r);
    finish(x.docs);
    finish(x.vectors);
    text_free(x.text);
    printf("questions %ju\n", (uintmax_t)n);
}

int main(int argc, char **argv)
{
    const char *data = NULL, *out = NULL;
    uint64_t queries = 1000;
    struct err err;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--data") == 0)
            data = argv[i + 1];
        else if (strcmp(argv[i], "--out") == 0)
            out = argv[i + 1];
        else if (!(strcmp(argv[i], "--queries") == 0 && str_to_u64(argv[i + 1], &queries)))
            die(argv[i], "is no option with such a value");
    }
    if (data == NULL || out == NULL)
        die("options", "--data and --out are needed");
    if (vocab_init(&err) != 0)
        die("vocabulary", err.msg);
    export_docs(data, out);
    export_questions(out, queries);
    return 0;
}
