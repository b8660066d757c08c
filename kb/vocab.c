/* SPDX-License-Identifier: Apache-2.0 */
/* The controlled vocabulary; see vocab.h. */
#include "vocab.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "text.h"

/* Sorted by name. Concepts are broader terms that several techniques share. */
static const struct vocab_entry entries[] = {
    { "accumulator-precision",
      "Keep partial sums in a wider or narrower type than the inputs.",
      { "precision", "numerics" },
      { "fp32 accumulation", "accumulate in fp32", "wide accumulator",
        "mixed precision accumulation", "accumulation type" } },
    { "alignment",
      "Align data to vectors, cache lines or segments.",
      { "memory-access", "layout" },
      { "aligned loads", "memory alignment", "cache line alignment" } },
    { "arch-tuning",
      "Build for the instruction set of the machine.",
      { "compiler" },
      { "march native", "target architecture flags", "compiler flags" } },
    { "async-copy",
      "Copy from global to shared memory without passing through registers or waiting.",
      { "latency-hiding", "memory-access" },
      { "cp.async", "cp async", "asynchronous copy", "asynchronous memory copy", "async memcpy" } },
    { "atomics-avoidance",
      "Replace atomic updates by ownership or a reduction.",
      { "synchronisation", "reduction" },
      { "avoid atomics", "atomic free", "no atomics", "lock free accumulation" } },
    { "bank-conflict-avoidance",
      "Arrange shared memory so that lanes hit different banks.",
      { "shared-memory", "layout" },
      { "bank conflicts", "avoid bank conflicts", "shared memory padding", "conflict free" } },
    { "batching",
      "Handle several rows, tokens or requests in one pass.",
      { "reuse", "parallelism" },
      { "process several rows", "row batching", "token batching", "multi row processing" } },
    { "branch-elimination",
      "Remove data-dependent branches from the inner loop.",
      { "instruction-count" },
      { "branchless", "branch free", "predication", "avoid branches", "remove conditionals" } },
    { "cache-bypass",
      "Keep streamed data out of the caches.",
      { "memory-access", "cache" },
      { "non temporal stores", "streaming stores", "streaming loads", "evict first", "no allocate",
        "cache hints", "cache policy" } },
    { "coalescing",
      "Let neighbouring lanes read neighbouring addresses.",
      { "memory-access", "layout" },
      { "coalesced access", "coalesced loads", "memory coalescing", "contiguous access" } },
    { "cooperative-groups",
      "Synchronise or exchange across blocks or clusters.",
      { "synchronisation", "parallelism" },
      { "thread block cluster", "cluster launch", "grid sync", "distributed shared memory" } },
    { "data-layout",
      "Change the order of the data in memory.",
      { "layout", "memory-access" },
      { "layout transformation", "memory layout", "structure of arrays", "soa", "layout change",
        "interleaved layout", "data reordering" } },
    { "dequantization-fusion",
      "Apply scales inside the kernel that consumes quantised data.",
      { "fusion", "quantization" },
      { "fused dequantization", "fused dequant", "on the fly dequantization", "scale in epilogue",
        "late scaling", "deferred scaling" } },
    { "double-buffering",
      "Load the next tile while computing on the present one.",
      { "latency-hiding", "pipelining" },
      { "ping pong buffers", "double buffered", "two stage pipeline", "ping pong" } },
    { "expert-grouping",
      "Group tokens by expert so that each expert's weights are read once.",
      { "load-balance", "reuse", "mixture-of-experts" },
      { "grouped gemm", "group tokens by expert", "expert batching", "sort tokens by expert",
        "token permutation", "token grouping" } },
    { "fast-math",
      "Cheaper approximations of transcendental functions or reassociated arithmetic.",
      { "numerics", "instruction-count" },
      { "approximate exp", "fast exp", "exp2 trick", "polynomial exponential", "ffast math",
        "approximate reciprocal", "base 2 exponent", "exp approximation" } },
    { "flash-attention",
      "Tiled attention that never writes the score matrix.",
      { "attention", "fusion", "reuse" },
      { "flash attn", "flashattention", "fused attention", "memory efficient attention" } },
    { "fma",
      "Use fused multiply-add and keep several independent chains.",
      { "instruction-count", "instruction-level-parallelism" },
      { "fused multiply add", "fmadd" } },
    { "gather-batching",
      "Resolve indirections ahead and fetch many rows at once.",
      { "memory-access", "indirection" },
      { "index prefetch", "batched gather", "page table prefetch", "indirection hoisting",
        "gather ahead" } },
    { "gqa-head-packing",
      "Serve all query heads of one key-value head from one load.",
      { "reuse", "attention" },
      { "head packing", "query head grouping", "group query heads", "kv head sharing", "pack gqa",
        "share kv across query heads" } },
    { "huge-pages",
      "Back buffers by large pages to save address translation.",
      { "memory-access" },
      { "large pages", "transparent huge pages", "hugepages", "tlb misses" } },
    { "instruction-level-parallelism",
      "Several independent dependency chains in flight.",
      { "latency-hiding" },
      { "ilp", "independent accumulators", "multiple accumulators", "break dependency chain",
        "dependency chains", "several accumulators" } },
    { "kernel-fusion",
      "Merge successive steps into one pass over the data.",
      { "fusion", "memory-traffic" },
      { "operator fusion", "op fusion", "fused kernel", "fuse kernels", "epilogue fusion",
        "fuse passes", "single pass", "loop fusion" } },
    { "kv-cache-paging",
      "Read a paged key-value cache page by page.",
      { "attention", "indirection" },
      { "paged attention", "paged kv", "page table", "paged kv cache", "block table" } },
    { "lds-transpose",
      "Transpose through shared memory or registers.",
      { "shared-memory", "layout" },
      { "shared memory transpose", "transpose tile", "in register transpose" } },
    { "load-balancing",
      "Give every worker the same amount of work.",
      { "load-balance", "parallelism" },
      { "work balancing", "balance work", "dynamic scheduling", "work stealing", "ragged batches",
        "uneven work", "load imbalance" } },
    { "loop-interchange",
      "Change the nesting order of loops.",
      { "loop-transformation", "cache" },
      { "loop order", "loop reordering", "interchange loops", "permute loops" } },
    { "loop-invariant-hoisting",
      "Move work that does not change out of the loop.",
      { "loop-transformation", "instruction-count" },
      { "hoisting", "loop invariant code motion", "precompute outside loop", "hoist invariants" } },
    { "loop-unrolling",
      "Repeat the loop body to amortise control and expose independent work.",
      { "loop-transformation", "instruction-level-parallelism" },
      { "unroll", "unrolling", "unrolled loop", "unroll factor", "unroll and jam",
        "pragma unroll" } },
    { "low-precision",
      "Compute or store in a narrower type.",
      { "precision", "memory-traffic", "quantization" },
      { "reduced precision", "half precision", "fp16 compute", "bf16 compute", "fp8 compute",
        "int8 compute" } },
    { "matrix-absorption",
      "Fold projection matrices together so that latent vectors are used directly.",
      { "algebra", "attention" },
      { "weight absorption", "absorbed projection", "mla absorption", "latent attention absorption",
        "absorb weights" } },
    { "memory-prefetch",
      "Ask for data before it is needed.",
      { "latency-hiding", "memory-access" },
      { "prefetch", "prefetching", "software prefetch", "prefetch distance", "preload",
        "l2 prefetch" } },
    { "multicast",
      "Deliver one load to several blocks.",
      { "memory-traffic", "reuse" },
      { "tma multicast", "broadcast load", "shared loads across blocks" } },
    { "numa-placement",
      "Place data and threads on the same memory node.",
      { "memory-access", "parallelism" },
      { "numa", "first touch", "thread affinity", "thread pinning", "core pinning" } },
    { "occupancy-tuning",
      "Trade registers and shared memory for resident warps.",
      { "parallelism", "latency-hiding" },
      { "occupancy", "launch bounds", "register pressure", "register cap", "maxrregcount",
        "blocks per sm" } },
    { "online-softmax",
      "One pass over the scores with a running maximum and a rescaled sum.",
      { "attention", "reduction", "numerics" },
      { "streaming softmax", "running softmax", "one pass softmax", "single pass softmax",
        "running maximum", "incremental softmax", "safe softmax rescaling" } },
    { "packing",
      "Copy operands into the order in which the inner kernel reads them.",
      { "layout", "reuse" },
      { "operand packing", "panel packing", "pack panels", "weight packing",
        "prepacked weights" } },
    { "persistent-kernel",
      "Resident blocks that take work from a queue.",
      { "parallelism", "load-balance", "launch-overhead" },
      { "persistent threads", "persistent blocks", "persistent ctas", "persistent scheduling" } },
    { "precomputation",
      "Compute tables or shared factors once.",
      { "instruction-count", "reuse" },
      { "lookup table", "precompute", "precomputed table", "caching intermediate results",
        "lut" } },
    { "quantization",
      "Store values in few bits with scales.",
      { "quantization", "memory-traffic", "precision" },
      { "quantisation", "quantized", "block scaling", "block scale", "fp8 block scale",
        "weight quantization" } },
    { "reduction-tree",
      "Reduce in a tree instead of a chain.",
      { "reduction", "parallelism" },
      { "tree reduction", "pairwise reduction", "pairwise summation", "hierarchical reduction",
        "parallel reduction" } },
    { "register-blocking",
      "Keep a block of outputs in registers across the inner loop.",
      { "tiling", "reuse" },
      { "register tiling", "micro kernel", "microkernel", "register tile",
        "accumulate in registers", "thread coarsening" } },
    { "rematerialization",
      "Compute again instead of storing.",
      { "memory-traffic" },
      { "recompute", "recomputation", "recompute instead of store" } },
    { "router-fusion",
      "Fuse gating and top-k selection with dispatch.",
      { "fusion", "mixture-of-experts" },
      { "fused routing", "fused gating", "fused top k", "top k routing fusion" } },
    { "scale-hoisting",
      "Apply a scale once per block rather than per element.",
      { "algebra", "quantization", "instruction-count" },
      { "hoist scale", "scale factoring", "factor out scale", "scale per block",
        "scale once per block" } },
    { "shared-memory-staging",
      "Stage reused data in shared memory or local scratch.",
      { "shared-memory", "reuse" },
      { "shared memory tiling", "smem staging", "stage in shared memory", "local memory staging",
        "scratchpad", "local buffer", "shared memory cache" } },
    { "software-pipelining",
      "Overlap stages of different iterations.",
      { "pipelining", "latency-hiding" },
      { "multi stage pipeline", "pipelined loop", "pipeline stages", "modulo scheduling",
        "software pipeline", "num stages" } },
    { "sparsity-skipping",
      "Skip masked, zero or padded blocks.",
      { "instruction-count", "memory-traffic" },
      { "skip masked blocks", "block skipping", "mask skipping", "skip zeros", "causal skipping",
        "skip padding" } },
    { "split-k",
      "Split the reduction axis of a product over workers and combine.",
      { "parallelism", "reduction" },
      { "splitk", "stream k", "reduction axis split", "parallel k", "k splitting" } },
    { "split-kv",
      "Split the keys and values of one sequence over workers and merge partial softmax results.",
      { "parallelism", "attention", "reduction" },
      { "flash decoding", "flashdecoding", "kv split", "split kv cache", "split sequence",
        "sequence parallel decode", "partition kv", "split kv across ctas", "kv partitioning",
        "split kv cache across ctas", "merge partial softmax" } },
    { "strength-reduction",
      "Replace costly operations by cheaper ones.",
      { "instruction-count" },
      { "avoid division", "shift instead of divide", "magic division", "avoid modulo" } },
    { "swizzling",
      "Permute addresses or blocks for conflict-free or cache-friendly access.",
      { "layout", "cache", "shared-memory" },
      { "swizzle", "block swizzle", "xor swizzle", "rasterization order", "cta swizzle",
        "shared memory swizzle" } },
    { "symmetry-exploitation",
      "Use symmetry or triangular structure to do half of the work.",
      { "algebra", "instruction-count" },
      { "exploit symmetry", "triangular structure", "symmetric computation",
        "half of the products" } },
    { "tensor-cores",
      "Use matrix units.",
      { "matrix-units", "instruction-count" },
      { "tensor core", "mma", "wmma", "wgmma", "matrix core", "mma sync", "amx", "tcgen05",
        "matrix multiply accumulate units" } },
    { "thread-block-shape",
      "Choose the number and arrangement of threads per block.",
      { "parallelism" },
      { "block size", "block dimensions", "threads per block", "work group size", "workgroup size",
        "num warps", "cta size", "block shape" } },
    { "threading",
      "Share the work among CPU threads.",
      { "parallelism" },
      { "multithreading", "multi threaded", "openmp", "parallel for", "thread count", "thread pool",
        "parallelise over heads" } },
    { "tiling",
      "Work on blocks that fit a level of the memory hierarchy.",
      { "tiling", "reuse", "cache" },
      { "blocking", "cache blocking", "loop tiling", "loop blocking", "tile size", "tiled",
        "cache tiling", "block tiling", "strip mining" } },
    { "tma",
      "Use the tensor memory accelerator for bulk copies.",
      { "memory-access", "latency-hiding" },
      { "tensor memory accelerator", "bulk tensor copy", "bulk async copy", "bulk copy" } },
    { "two-pass",
      "A first pass for statistics, a second one for results.",
      { "reduction" },
      { "two pass softmax", "two phase", "second pass", "two pass algorithm" } },
    { "vectorization",
      "Handle several elements per instruction.",
      { "data-parallelism", "instruction-count" },
      { "simd", "vectorisation", "vectorize", "vector instructions", "avx2", "avx512", "neon",
        "sse", "simd width", "vector width", "explicit simd" } },
    { "vectorized-loads",
      "Load 64 or 128 bits at a time.",
      { "memory-access", "instruction-count" },
      { "wide loads", "vector loads", "128 bit loads", "float4 loads", "vectorised loads", "ldg128",
        "load width" } },
    { "warp-shuffle",
      "Exchange values between lanes without shared memory.",
      { "reduction", "synchronisation" },
      { "shuffle reduction", "warp reduction", "warp level reduction", "warp primitives",
        "subgroup shuffle", "shfl" } },
    { "warp-specialization",
      "Give warps distinct roles, such as loading and computing.",
      { "pipelining", "latency-hiding" },
      { "warp specialisation", "producer consumer warps", "specialized warps", "producer warp" } },
    { "workspace-reuse",
      "Reuse scratch memory instead of allocating.",
      { "memory-traffic", "cache" },
      { "buffer reuse", "in place", "scratch reuse", "avoid allocation" } },
};

/* Open addressing over the hashes of stemmed phrases; 64 bits decide, as everywhere in retrieval.
 */
enum { PHRASE_SLOTS = 2048 };
static struct {
    uint64_t key;
    uint16_t entry;
} phrases[PHRASE_SLOTS];
/* Made once, kept for the life of the process, used under the lock. */
static struct text *words;
static pthread_mutex_t words_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t phrase_key(const uint64_t *stems, size_t n)
{
    uint64_t h = n;

    for (size_t i = 0; i < n; i++)
        h = text_hash_pair(h, stems[i]);
    return h != 0 ? h : 1;
}

/* Stems of the words of `s` that are no stop words; a name made of stop words alone keeps them. */
static size_t phrase_stems(struct text *t, const char *s, uint64_t out[VOCAB_PHRASE_WORDS + 1])
{
    struct text_scan sc;
    struct text_token tok;
    size_t n = 0;

    text_scan_init(&sc, t, s, strlen(s));
    while (n <= VOCAB_PHRASE_WORDS && text_next(&sc, &tok))
        if (!tok.is_stop && !tok.is_compound)
            out[n++] = tok.hash;
    return n;
}

static int phrase_entry(uint64_t key)
{
    for (size_t i = key % PHRASE_SLOTS; phrases[i].key != 0; i = (i + 1) % PHRASE_SLOTS)
        if (phrases[i].key == key)
            return phrases[i].entry;
    return -1;
}

static void phrase_put(struct text *t, const char *s, size_t entry)
{
    uint64_t stems[VOCAB_PHRASE_WORDS + 1], key;
    size_t n = phrase_stems(t, s, stems), i;

    assert(n >= 1 && n <= VOCAB_PHRASE_WORDS);
    key = phrase_key(stems, n);
    /* The first to claim a phrase keeps it: a name and its plural or spelling may stem alike. */
    if (phrase_entry(key) >= 0)
        return;
    for (i = key % PHRASE_SLOTS; phrases[i].key != 0;)
        i = (i + 1) % PHRASE_SLOTS;
    phrases[i].key = key;
    phrases[i].entry = (uint16_t)entry;
}

/* Names first, so that no synonym takes another technique's name. */
static void phrases_fill(struct text *t)
{
    for (size_t e = 0; e < ARRAY_LEN(entries); e++)
        phrase_put(t, entries[e].name, e);
    for (size_t e = 0; e < ARRAY_LEN(entries); e++)
        for (size_t i = 0; i < VOCAB_SYNONYMS_MAX && entries[e].synonyms[i] != NULL; i++)
            phrase_put(t, entries[e].synonyms[i], e);
}

int vocab_init(struct err *err)
{
    int rc = 0;

    pthread_mutex_lock(&words_lock);
    if (words == NULL) {
        words = text_new();
        if (words != NULL)
            phrases_fill(words);
        else
            rc = err_set(err, ERR_NOMEM, "no memory for the stemmer of the vocabulary");
    }
    pthread_mutex_unlock(&words_lock);
    return rc;
}

uint64_t vocab_fingerprint(void)
{
    uint64_t h = 0;

    for (size_t e = 0; e < ARRAY_LEN(entries); e++) {
        h = text_hash(h, entries[e].name, strlen(entries[e].name));
        for (size_t i = 0; i < VOCAB_CONCEPTS_MAX && entries[e].concepts[i] != NULL; i++)
            h = text_hash(h, entries[e].concepts[i], strlen(entries[e].concepts[i]));
        for (size_t i = 0; i < VOCAB_SYNONYMS_MAX && entries[e].synonyms[i] != NULL; i++)
            h = text_hash(h, entries[e].synonyms[i], strlen(entries[e].synonyms[i]));
    }
    return h;
}

size_t vocab_count(void)
{
    return ARRAY_LEN(entries);
}

const struct vocab_entry *vocab_at(size_t i)
{
    assert(i < ARRAY_LEN(entries));
    return &entries[i];
}

static int compare_name(const void *key, const void *row)
{
    return strcmp(key, ((const struct vocab_entry *)row)->name);
}

int vocab_find(const char *name)
{
    const struct vocab_entry *exact =
        bsearch(name, entries, ARRAY_LEN(entries), sizeof(entries[0]), compare_name);
    uint64_t stems[VOCAB_PHRASE_WORDS + 1];
    size_t n;

    if (exact != NULL)
        return (int)(exact - entries);
    pthread_mutex_lock(&words_lock);
    n = phrase_stems(words, name, stems);
    pthread_mutex_unlock(&words_lock);
    return n >= 1 && n <= VOCAB_PHRASE_WORDS ? phrase_entry(phrase_key(stems, n)) : -1;
}

static char *normalise_name(const char *name, char out[VOCAB_NAME_MAX])
{
    size_t n = 0;

    for (const char *p = name; *p != '\0' && n + 1 < VOCAB_NAME_MAX; p++) {
        char c = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
        bool word = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
                    (unsigned char)c >= 0x80;

        if (word)
            out[n++] = c;
        else if (n > 0 && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n > 0 && out[n - 1] == '-')
        n--;
    out[n] = '\0';
    return out;
}

char *vocab_canonical(const char *name, char out[VOCAB_NAME_MAX])
{
    int i = vocab_find(name);
    size_t n;

    if (i < 0)
        return normalise_name(name, out);
    n = strlen(entries[i].name);
    assert(n < VOCAB_NAME_MAX);
    memcpy(out, entries[i].name, n + 1);
    return out;
}

static bool seen(const uint16_t *out, size_t n, uint16_t e)
{
    for (size_t i = 0; i < n; i++)
        if (out[i] == e)
            return true;
    return false;
}

size_t vocab_scan(const uint64_t *stems, size_t n, uint16_t *out, size_t cap)
{
    size_t found = 0;

    assert(words != NULL);
    for (size_t i = 0; i < n;) {
        size_t len = MIN(n - i, (size_t)VOCAB_PHRASE_WORDS);
        int e = -1;

        while (len > 0 && (e = phrase_entry(phrase_key(stems + i, len))) < 0)
            len--;
        if (e >= 0 && found < cap && !seen(out, found, (uint16_t)e))
            out[found++] = (uint16_t)e;
        i += len > 0 ? len : 1;
    }
    return found;
}
