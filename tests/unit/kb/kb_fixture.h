/* SPDX-License-Identifier: Apache-2.0 */
/* What the tests of the knowledge base share: folders, sample records made from a number, batches.
 */
#ifndef KS_TEST_KB_FIXTURE_H
#define KS_TEST_KB_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "kb.h"

struct tmp_folder {
    char path[64];
};

static inline void folder_make(struct tmp_folder *f)
{
    str_copy(f->path, sizeof(f->path), "/tmp/ks-kb-XXXXXX");
    assert_non_null(mkdtemp(f->path));
}

static inline void folder_remove(struct tmp_folder *f)
{
    struct err err;

    assert_int_equal(file_rmtree(f->path, &err), 0);
}

/* The last sentence that a knowledge base said, and how many. */
struct heard {
    char last[700];
    int n;
};

static inline void hear(void *ctx, const char *sentence)
{
    struct heard *h = ctx;

    str_copy(h->last, sizeof(h->last), sentence);
    h->n++;
}

static inline int base_try_open(const char *dir, struct kb **out, struct err *err)
{
    struct kb_options o = { .dir = dir, .clock = clock_system() };

    return kb_open(&o, out, err);
}

static inline struct kb *base_open(const char *dir)
{
    struct kb *kb = NULL;
    struct err err = { 0 };

    if (base_try_open(dir, &kb, &err) != 0)
        fail_msg("%s", err.msg);
    return kb;
}

/* cmocka setup and teardown: *state is a struct bed, an open base in a folder of its own. */
struct bed {
    struct tmp_folder folder;
    struct kb *kb;
};

static inline int bed_setup(void **state)
{
    struct bed *bed = xcalloc(1, sizeof(*bed));

    folder_make(&bed->folder);
    bed->kb = base_open(bed->folder.path);
    *state = bed;
    return 0;
}

static inline int bed_teardown(void **state)
{
    struct bed *bed = *state;

    kb_close(bed->kb);
    folder_remove(&bed->folder);
    free(bed);
    return 0;
}

static inline void bed_reopen(struct bed *bed)
{
    kb_close(bed->kb);
    bed->kb = base_open(bed->folder.path);
}

/* A failing call shows its sentence. */
#define assert_ok(call)                                                                            \
    do {                                                                                           \
        if ((call) != 0)                                                                           \
            fail_msg("%s: %s", #call, err.msg);                                                    \
    } while (0)

#define assert_fails(call, expected)                                                               \
    do {                                                                                           \
        memset(&err, 0, sizeof(err));                                                              \
        assert_int_equal((call), -1);                                                              \
        if (err.code != (expected))                                                                \
            fail_msg("%s gave %s: %s", #call, err_name(err.code), err.msg);                        \
        assert_true(err.msg[0] != '\0');                                                           \
    } while (0)

/* ---- Sample records: borrowed texts, equal for equal numbers ---- */

static inline struct id id_of_number(const char *kind, uint64_t n)
{
    char text[64];
    struct id id;
    int len = snprintf(text, sizeof(text), "%s %ju", kind, (uintmax_t)n);

    id_of_bytes(text, (size_t)len, &id);
    return id;
}

struct sample_claim {
    struct claim c;
    char statement[120], value[24];
};

static inline const struct claim *sample_claim(struct sample_claim *s, uint64_t n)
{
    snprintf(s->statement, sizeof(s->statement),
             "Tiling the keys by %ju keeps them in the first cache.", (uintmax_t)n);
    snprintf(s->value, sizeof(s->value), "%ju", (uintmax_t)n);
    s->c = (struct claim){ .technique = (char *)"tiling",
                           .statement = s->statement,
                           .mechanism = (char *)"fewer bytes per flop",
                           .family = (char *)"gqa_paged_decode",
                           .dtype = (char *)"bf16",
                           .language = (char *)"c",
                           .bottleneck = (char *)"memory",
                           .requires = (char *)"avx2,fma",
                           .param = (char *)"KV_TILE",
                           .with_value = s->value,
                           .without_value = (char *)"1" };
    return &s->c;
}

static inline struct id claim_id(uint64_t n)
{
    struct sample_claim s;
    json_t *j = claim_to_json(sample_claim(&s, n));
    struct err err;
    struct id id;

    assert_int_equal(id_of_json(j, &id, &err), 0);
    json_decref(j);
    return id;
}

struct sample_evidence {
    struct evidence e;
    json_t *features;
};

/* Evidence for claim `claim`; `n` sets what is measured, every fifth is a failure. */
static inline const struct evidence *sample_evidence(struct sample_evidence *s, uint64_t claim,
                                                     uint64_t n)
{
    static const char *const classes[] = { "cpu-avx2", "cpu-avx512", "sm_90" };
    static const char *const shapes[] = { "num_kv_heads=4", "num_kv_heads=8" };
    bool failure = n % 5 == 4;

    s->features =
        json_pack("{s:i, s:f}", "num_kv_heads", (int)(n % 2 ? 8 : 4), "load", (double)(n % 7) / 2);
    s->e = (struct evidence){ .claim = claim_id(claim),
                              .kind = (char *)(failure ? "failure" : "pair"),
                              .with = id_of_number("with", n),
                              .without = failure ? (struct id){ "" } : id_of_number("without", n),
                              .effect_q = failure ? 0 : (int64_t)(n * 7919 % 400000) - 150000,
                              .sd_q = failure ? 0 : 9000,
                              .steered = n % 3 == 0,
                              .failure = (char *)(failure ? "crashed" : ""),
                              .task = (char *)"gqa_h32_kv4",
                              .device = (char *)"cpu",
                              .device_class = (char *)classes[n % 3],
                              .shape = (char *)shapes[n % 2],
                              .toolchain = (char *)"gcc 12.2.0",
                              .features = s->features,
                              .measured_at_s = 1700000000 + n % 1000 };
    return &s->e;
}

struct sample_evaluation {
    struct evaluation e;
    struct workload_time workloads[2];
};

static inline const struct evaluation *sample_evaluation(struct sample_evaluation *s, uint64_t n)
{
    static char seed[17];

    snprintf(seed, sizeof(seed), "%016jx", (uintmax_t)n);
    s->workloads[0] = (struct workload_time){ (char *)"b16", 120000, 1000000, 886920 };
    s->workloads[1] = (struct workload_time){ (char *)"b1_ragged", -5000, 20000, 20100 };
    s->e = (struct evaluation){ .task = (char *)"gqa_h32_kv4",
                                .family = (char *)"gqa_paged_decode",
                                .set = (char *)"cpu",
                                .device = (char *)"cpu",
                                .device_class = (char *)"cpu-avx512",
                                .toolchain = (char *)"gcc 12.2.0",
                                .shape = (char *)"num_kv_heads=4",
                                .language = (char *)"c",
                                .program = id_of_number("program", n % 10),
                                .assignment = json_pack("{s:i, s:s, s:b, s:f}", "KV_TILE", (int)n,
                                                        "SOFTMAX", "online", "SPLIT", 1, "F", 0.1),
                                .status = (char *)"ok",
                                .message = (char *)"",
                                .objective_q = (int64_t)n * 10,
                                .sd_q = 8000,
                                .steered = n % 2,
                                .seed = seed,
                                .measured_at_s = 1700000000 + n,
                                .n_workloads = 2,
                                .workloads = s->workloads };
    return &s->e;
}

/* ---- Adding one fact to a batch ---- */

static inline void put_claim(struct kb_batch *b, uint64_t n)
{
    struct sample_claim s;
    struct err err;

    assert_ok(kb_batch_add_claim(b, sample_claim(&s, n), NULL, &err));
}

static inline struct id put_evidence(struct kb_batch *b, uint64_t claim, uint64_t n)
{
    struct sample_evidence s;
    struct err err;
    struct id id;

    assert_ok(kb_batch_add_evidence(b, sample_evidence(&s, claim, n), &id, &err));
    json_decref(s.features);
    return id;
}

static inline struct id put_evaluation(struct kb_batch *b, uint64_t n)
{
    struct sample_evaluation s;
    struct err err;
    struct id id;

    assert_ok(kb_batch_add_evaluation(b, sample_evaluation(&s, n), &id, &err));
    json_decref(s.e.assignment);
    return id;
}

static inline void put_retraction(struct kb_batch *b, enum fact_kind kind, struct id target)
{
    struct retraction r = { .kind = kind, .target = target, .reason = (char *)"measured wrongly" };
    struct err err;

    assert_ok(kb_batch_add_retraction(b, &r, NULL, &err));
}

static inline void put_link(struct kb_batch *b, uint64_t x, uint64_t y)
{
    struct link l = { .a = claim_id(x), .b = claim_id(y) };
    struct err err;

    if (strcmp(l.a.hex, l.b.hex) > 0)
        l = (struct link){ .a = l.b, .b = l.a };
    assert_ok(kb_batch_add_link(b, &l, NULL, &err));
}

static inline void commit(struct kb_batch *b)
{
    struct err err;

    assert_ok(kb_commit(b, &err));
}

/* The digest of a base in which verify finds nothing wrong. */
static inline struct id digest_of(struct kb *kb)
{
    json_t *problems = json_array();
    struct err err;
    struct id id;

    assert_ok(kb_verify(kb, problems, &id, &err));
    if (json_array_size(problems) != 0)
        fail_msg("%s", json_string_value(json_array_get(problems, 0)));
    json_decref(problems);
    return id;
}

#endif
