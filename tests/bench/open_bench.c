/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How long a knowledge base takes to open: fills --dir with synthetic insights when it is empty,
 * then opens and closes it, and prints one figure a line as query_bench does.
 *   open_bench --dir D [--insights 100000] [--opens 5] [--fold 1]
 * With --fold 1 the snapshot of derived state is removed before each opening, so that all facts are
 * folded.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "kb.h"
#include "synthetic.h"
#include "vocab.h"

enum { BATCH = 5000 };

static void die(const char *what, const struct err *err)
{
    fprintf(stderr, "open_bench: %s: %s\n", what, err != NULL ? err->msg : "failed");
    exit(1);
}

static double now_s(void)
{
    return (double)clock_system()->mono_ns(clock_system()) / 1e9;
}

static void print_notice(void *ctx, const char *sentence)
{
    (void)ctx;
    fprintf(stderr, "open_bench: %s\n", sentence);
}

static struct kb *open_base(const char *dir)
{
    struct kb_options o = { .dir = dir, .clock = clock_system(), .notice = print_notice };
    struct kb *kb;
    struct err err;

    if (kb_open(&o, &kb, &err) != 0)
        die("open", &err);
    return kb;
}

static void put_insight(struct kb_batch *b, struct rng *r, uint32_t i)
{
    size_t n = synthetic_evidence_count(r);
    struct claim c;
    struct err err;
    struct id id;

    synthetic_claim(r, i, &c);
    if (kb_batch_add_claim(b, &c, &id, &err) != 0)
        die("claim", &err);
    claim_release(&c);
    while (n-- > 0) {
        struct evidence ev;

        synthetic_evidence(r, &id, &ev);
        if (kb_batch_add_evidence(b, &ev, NULL, &err) != 0)
            die("evidence", &err);
    }
}

static void fill(const char *dir, uint32_t insights)
{
    struct kb *kb = open_base(dir);
    struct kb_batch *b = kb_batch_new(kb);
    struct rng rng = rng_seeded(7);
    double began = now_s();
    struct err err;

    for (uint32_t i = 0; i < insights; i++) {
        put_insight(b, &rng, i);
        if ((i + 1) % BATCH == 0 && kb_commit(b, &err) != 0)
            die("commit", &err);
    }
    if (kb_commit(b, &err) != 0)
        die("commit", &err);
    kb_batch_free(b);
    synthetic_figure("fill", now_s() - began, "s", insights, 0);
    began = now_s();
    if (kb_maintain(kb, &err) != 0)
        die("maintain", &err);
    synthetic_figure("train", now_s() - began, "s", insights, 0);
    began = now_s();
    kb_close(kb);
    synthetic_figure("close", now_s() - began, "s", insights, 0);
}

static void open_once(const char *dir, bool fold, double *took)
{
    CLEANUP(freep) char *path = str_printf("%s/derived.snapshot", dir);
    double began;
    struct kb *kb;

    if (fold)
        unlink(path);
    began = now_s();
    kb = open_base(dir);
    *took = now_s() - began;
    began = now_s();
    kb_close(kb);
    synthetic_figure("close", now_s() - began, "s", 1, 0);
}

static const char *option(int argc, char **argv, const char *name, const char *fallback)
{
    for (int i = 1; i + 1 < argc; i += 2)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return fallback;
}

static uint64_t number(int argc, char **argv, const char *name, const char *fallback)
{
    uint64_t v;

    if (!str_to_u64(option(argc, argv, name, fallback), &v))
        die(name, NULL);
    return v;
}

int main(int argc, char **argv)
{
    const char *dir = option(argc, argv, "--dir", NULL);
    uint64_t n = number(argc, argv, "--insights", "100000");
    uint64_t opens = number(argc, argv, "--opens", "5"), fold = number(argc, argv, "--fold", "0");
    double *took;
    struct err err;

    if (dir == NULL || vocab_init(&err) != 0)
        die("--dir is needed", NULL);
    if (access(dir, F_OK) != 0)
        fill(dir, (uint32_t)n);
    took = xcalloc(MAX(opens, 1u), sizeof(*took));
    for (uint64_t i = 0; i < opens; i++)
        open_once(dir, fold != 0, &took[i]);
    qsort(took, opens, sizeof(*took), synthetic_compare);
    if (opens > 0)
        synthetic_figure(fold ? "open_folding" : "open", synthetic_quantile(took, opens, 0.5), "s",
                         opens, (took[opens - 1] - took[0]) / 2);
    free(took);
    return 0;
}
