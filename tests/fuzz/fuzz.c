/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Plain driver of a fuzz target: TARGET SEEDS_DIR ROUNDS [SEED]. Runs every file of SEEDS_DIR as it
 * is, then ROUNDS random mutations of them (flipped bits, cut, repeated and spliced pieces,
 * dictionary bytes). The generator's seed is printed; a failure is repeated with it.
 */
#include "fuzz/fuzz.h"

#include <assert.h>
#include <dirent.h>
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

enum { SEEDS_MAX = 256, INPUT_MAX = 64 << 10 };

struct corpus {
    struct buf seeds[SEEDS_MAX];
    size_t n;
};

static int corpus_load(struct corpus *c, const char *dir, struct err *err)
{
    DIR *d = opendir(dir);
    struct dirent *e;

    if (d == NULL)
        return err_set(err, ERR_NOT_FOUND, "no folder of seeds at %s", dir);
    while ((e = readdir(d)) != NULL && c->n < SEEDS_MAX) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, e->d_name);

        if (e->d_name[0] == '.')
            continue;
        c->seeds[c->n].max = INPUT_MAX;
        if (file_read(path, &c->seeds[c->n], err) != 0) {
            closedir(d);
            return err_ctx(err, "seed '%s'", path);
        }
        c->n++;
    }
    closedir(d);
    return c->n ? 0 : err_set(err, ERR_NOT_FOUND, "no seeds in %s", dir);
}

static const char *const dictionary[] = { "\n",
                                          "\r\n",
                                          "{",
                                          "}",
                                          "[",
                                          "]",
                                          "\"",
                                          ":",
                                          ",",
                                          "null",
                                          "1e999",
                                          "-0",
                                          "\\u0000",
                                          "\\ud800",
                                          "\"id\"",
                                          "\xff",
                                          "\xc3",
                                          "2.0",
                                          "true",
                                          "{}",
                                          "99999999999999999999",
                                          "\"jsonrpc\":\"2.0\"" };

static void insert(struct buf *b, size_t at, const void *data, size_t len)
{
    struct err ignored;

    if (buf_reserve(b, len, &ignored) != 0)
        return;
    memmove(b->data + at + len, b->data + at, b->len - at);
    memcpy(b->data + at, data, len);
    b->len += len;
}

static void cut(struct buf *b, size_t at, size_t len)
{
    memmove(b->data + at, b->data + at + len, b->len - at - len);
    b->len -= len;
}

/* One small change at a random place. */
static void mutate(struct buf *b, const struct corpus *c, struct rng *r)
{
    size_t at = rng_below(r, b->len + 1), len = rng_below(r, MIN(b->len - at, (size_t)64) + 1);
    const struct buf *other = &c->seeds[rng_below(r, c->n)];
    const char *word = dictionary[rng_below(r, ARRAY_LEN(dictionary))];
    char piece[64];

    switch (rng_below(r, 6)) {
    case 0:
        if (at < b->len)
            b->data[at] = (char)((unsigned char)b->data[at] ^ (1u << rng_below(r, 8)));
        break;
    case 1:
        cut(b, at, len);
        break;
    case 2:
        insert(b, at, word, strlen(word));
        break;
    case 3: /* repeat a piece; copied out, because inserting moves it */
        len = MIN(len, sizeof(piece));
        memcpy(piece, b->data + at, len);
        insert(b, at, piece, len);
        break;
    case 4:
        len = rng_below(r, other->len + 1);
        insert(b, at, other->data, len);
        break;
    case 5:
        if (at < b->len)
            b->data[at] = (char)rng_below(r, 256);
        break;
    }
}

static void round_run(const struct corpus *c, struct rng *r)
{
    struct buf b = { .max = INPUT_MAX };
    const struct buf *seed = &c->seeds[rng_below(r, c->n)];
    size_t changes = 1 + rng_below(r, 8);
    struct err err;
    int status = buf_add(&b, seed->data, seed->len, &err);

    assert(status == 0);
    for (size_t i = 0; i < changes; i++)
        mutate(&b, c, r);
    fuzz_one((const uint8_t *)b.data, b.len);
    buf_release(&b);
}

int main(int argc, char **argv)
{
    static struct corpus corpus;
    uint64_t rounds, seed = 1;
    struct err err;
    struct rng r;

    if (argc < 3 || !str_to_u64(argv[2], &rounds) || (argc > 3 && !str_to_u64(argv[3], &seed))) {
        fprintf(stderr, "usage: %s SEEDS_DIR ROUNDS [SEED]\n", argv[0]);
        return 2;
    }
    if (corpus_load(&corpus, argv[1], &err) != 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 2;
    }
    for (size_t i = 0; i < corpus.n; i++)
        fuzz_one((const uint8_t *)corpus.seeds[i].data, corpus.seeds[i].len);
    r = rng_seeded(seed);
    for (uint64_t i = 0; i < rounds; i++)
        round_run(&corpus, &r);
    printf("%zu seeds and %llu mutations of them, generator seed %llu\n", corpus.n,
           (unsigned long long)rounds, (unsigned long long)seed);
    for (size_t i = 0; i < corpus.n; i++)
        buf_release(&corpus.seeds[i]);
    return 0;
}
