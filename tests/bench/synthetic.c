/* SPDX-License-Identifier: Apache-2.0 */
/* Synthetic insights and figures; see synthetic.h. */
#include "synthetic.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "vocab.h"

enum { EVIDENCE_PER_INSIGHT = 3 };

static const char *const families[] = {
    "gqa_paged_decode", "mla_paged_decode", "mla_paged_prefill", "moe_fp8_block_scale",
    "trimul",           "vector_add",       "rmsnorm_rope",      "layout_convert"
};
static const char *const objects[] = {
    "key cache",         "value cache",   "score matrix",     "expert weights",
    "activation rows",   "page table",    "partial sums",     "softmax statistics",
    "latent projection", "gate values",   "output tile",      "query heads",
    "token indices",     "scale blocks",  "triangular edges", "rotary factors",
    "routing logits",    "shared expert", "row maxima",       "head dimension",
    "prefix blocks",     "ragged tail",   "normalised input", "accumulator fragments"
};
static const char *const places[] = { "registers",     "shared memory",  "the L2 cache",
                                      "the L1 cache",  "vector lanes",   "one warp",
                                      "two warps",     "a thread block", "a cluster",
                                      "local scratch", "the stack",      "a ring buffer" };
static const char *const reasons[] = { "because loads dominate the run time",
                                       "since arithmetic units sit idle",
                                       "which hides the latency of dependent loads",
                                       "so that each byte is read once",
                                       "because address translation misses are frequent",
                                       "which removes a pass over the data",
                                       "so that lanes diverge less",
                                       "because the reduction serialises",
                                       "which keeps the pipeline full",
                                       "since the working set exceeds the cache",
                                       "because synchronisation costs more than the work",
                                       "which balances ragged sequences" };
static const char *const conditions[] = { "batches below",           "sequences longer than",
                                          "heads fewer than",        "experts more than",
                                          "tokens per expert under", "pages of",
                                          "rows of at least",        "dimensions above" };
static const char *const verbs[] = { "keep", "stage", "split",      "reorder", "load",   "merge",
                                     "pad",  "share", "precompute", "stream",  "gather", "reduce" };
static const char *const dtypes[] = { "bf16", "f32", "fp8", "f16" };
static const char *const bottlenecks[] = { "memory", "compute", "latency", "" };
static const char *const requirements[] = { "",           "",        "",
                                            "avx2,fma",   "avx512f", "tensor_cores",
                                            "cluster,tma" };
static const char *const devices[] = { "cpu", "cpu-big", "h200", "b200", "a100", "laptop" };
static const char *const classes[] = { "cpu-avx2", "cpu-avx512", "sm_90",
                                       "sm_100",   "sm_80",      "cpu-avx2" };

#define PICK(rng, array) ((array)[rng_below(rng, ARRAY_LEN(array))])

void synthetic_id(struct rng *r, struct id *out)
{
    uint64_t words[4];

    for (size_t i = 0; i < 4; i++)
        words[i] = rng_u64(r);
    str_hex((const uint8_t *)words, sizeof(words), out->hex);
}

static char *number_text(uint64_t v)
{
    return str_printf("%llu", (unsigned long long)v);
}

void synthetic_claim(struct rng *r, uint32_t i, struct claim *out)
{
    const struct vocab_entry *t = vocab_at(rng_below(r, vocab_count()));
    uint64_t value = 1ull << (1 + rng_below(r, 12));

    *out = (struct claim){
        .technique = xstrdup(t->name),
        .statement = str_printf("%s the %s in %s for %s %llu, variant %u: %s", PICK(r, verbs),
                                PICK(r, objects), PICK(r, places), PICK(r, conditions),
                                (unsigned long long)(value + rng_below(r, 64)), i, t->summary),
        .mechanism = str_printf("The %s stay in %s %s.", PICK(r, objects), PICK(r, places),
                                PICK(r, reasons)),
        .family = xstrdup(rng_below(r, 10) == 0 ? "" : PICK(r, families)),
        .dtype = xstrdup(PICK(r, dtypes)),
        .language = xstrdup(rng_below(r, 2) ? "c" : "cuda"),
        .bottleneck = xstrdup(PICK(r, bottlenecks)),
        .requires = xstrdup(PICK(r, requirements)),
        .param = xstrdup(rng_below(r, 2) ? "KV_TILE" : "UNROLL"),
        .with_value = number_text(value),
        .without_value = number_text(value * 2),
    };
}

size_t synthetic_evidence_count(struct rng *r)
{
    return rng_below(r, 2 * EVIDENCE_PER_INSIGHT + 1);
}

void synthetic_evidence(struct rng *r, const struct id *claim, struct evidence *out)
{
    static json_t *no_features; /* one for all: nobody changes it */
    size_t device = rng_below(r, ARRAY_LEN(devices));

    if (no_features == NULL)
        no_features = json_object();
    *out = (struct evidence){ .claim = *claim,
                              .kind = (char *)"pair",
                              .effect_q = (int64_t)(rng_normal(r) * 100000),
                              .sd_q = 10000,
                              .failure = (char *)"",
                              .task = (char *)PICK(r, families),
                              .device = (char *)devices[device],
                              .device_class = (char *)classes[device],
                              .shape = (char *)"num_kv_heads=4",
                              .toolchain = (char *)"gcc 12.2.0",
                              .measured_at_s = 1700000000 + rng_below(r, 1000000) };
    out->features = no_features;
    synthetic_id(r, &out->with);
    synthetic_id(r, &out->without);
}

const char *synthetic_device(size_t i)
{
    return devices[i];
}

const char *synthetic_class(size_t i)
{
    return classes[i];
}

void synthetic_question(struct rng *r, struct synthetic_question *out)
{
    const struct vocab_entry *t = vocab_at(rng_below(r, vocab_count()));
    size_t names = 0, device = rng_below(r, ARRAY_LEN(devices));
    const char *name;

    while (names < VOCAB_SYNONYMS_MAX && t->synonyms[names] != NULL)
        names++;
    name = names > 0 && rng_below(r, 3) != 0 ? t->synonyms[rng_below(r, names)] : t->name;
    if (rng_below(r, 2))
        snprintf(out->text, sizeof(out->text), "%s the %s for %s %llu", name, PICK(r, objects),
                 PICK(r, conditions), (unsigned long long)(1 + rng_below(r, 4096)));
    else
        snprintf(out->text, sizeof(out->text), "%s %s with %s in %s %s", PICK(r, verbs),
                 PICK(r, objects), name, PICK(r, places), PICK(r, reasons));
    out->q = (struct kb_query){ .text = out->text, .limit = 10, .shape = "num_kv_heads=4" };
    if (rng_below(r, 2))
        out->q.family = PICK(r, families);
    if (rng_below(r, 5) != 0)
        out->q.device_class = classes[device];
    if (rng_below(r, 3) == 0)
        out->q.device = devices[device];
    if (rng_below(r, 3) == 0)
        out->q.features = device < 2 ? "avx2,fma,avx512f" : "tensor_cores,cluster,tma";
    if (rng_below(r, 7) == 0)
        out->q.technique = t->name;
}

int synthetic_compare(const void *p, const void *q)
{
    double x = *(const double *)p, y = *(const double *)q;

    return x < y ? -1 : x > y;
}

double synthetic_quantile(const double *sorted, size_t n, double p)
{
    return sorted[(size_t)(p * (double)(n - 1) + 0.5)];
}

void synthetic_figure(const char *name, double value, const char *unit, size_t n, double spread)
{
    printf("%s %.4g %s %zu %.3g\n", name, value, unit, n, spread);
}

void synthetic_times(const char *name, double *us, size_t n)
{
    char line[96];
    double spread;

    qsort(us, n, sizeof(*us), synthetic_compare);
    spread = (synthetic_quantile(us, n, 0.75) - synthetic_quantile(us, n, 0.25)) / 2;
    snprintf(line, sizeof(line), "%s_p50", name);
    synthetic_figure(line, synthetic_quantile(us, n, 0.5), "us", n, spread);
    snprintf(line, sizeof(line), "%s_p99", name);
    synthetic_figure(line, synthetic_quantile(us, n, 0.99), "us", n, spread);
}
