/* SPDX-License-Identifier: Apache-2.0 */
/* Feedback of builds: diagnostics, loops, sizes, digests, the cache, counters, known objects. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"
#include "cache.h"
#include "counters.h"
#include "evaltest.h"
#include "object.h"
#include "report.h"
#include "sha256.h"

static struct evaltest env;
static bool has_sandbox;

static const json_t *entry(const json_t *o, const char *list, size_t i)
{
    return json_array_get(json_object_get(o, list), i);
}

static void buf_text(struct buf *b, const char *text)
{
    struct err err;

    *b = (struct buf){ .max = 1 << 20 };
    assert_int_equal(buf_adds(b, text, &err), 0);
}

/* The report of a build that said `log` on stderr and `loops` on the vectoriser's channel. */
static json_t *report_of(const char *log, const char *loops, const char *source)
{
    CLEANUP(build_release) struct build b = { .cached = false };
    struct err err;
    json_t *report;

    buf_text(&b.log, log);
    buf_text(&b.loops, loops);
    b.object.max = 16;
    assert_int_equal(buf_adds(&b.object, "no object", &err), 0);
    report = report_make(&b, source, "gcc 12.2.0");
    assert_non_null(report);
    return report;
}

/* ---- words of the compiler ---- */

static void diagnostics_are_classified_and_counted_once(void **state)
{
    static const char log[] =
        "/ks/source.c: In function 'f':\n"
        "/ks/source.c:2:9: warning: unused variable 'left' [-Wunused-variable]\n"
        "    2 |     int left;\n"
        "/ks/source.c:4:9: warning: unused variable 'left' [-Wunused-variable]\n"
        "/ks/source.c:3:5: error: expected ';' before 'return'\n"
        "/ks/source.c:3:5: note: add it\n"
        "/usr/include/x.h:7:1: error: unknown type name 'foo'\n"
        "cc1: error: no input\n"
        "/usr/bin/ld: /tmp/a.o: in function `f': source.c:(.text+0x5): undefined reference to "
        "`g'\n";
    json_auto_t *r = report_of(log, "", "one\n  int left;\nthree\nfour\n");
    const json_t *d;

    (void)state;
    assert_int_equal(json_array_size(json_object_get(r, "diagnostics")), 6);
    d = entry(r, "diagnostics", 0); /* errors come first */
    assert_string_equal(jsonx_str(d, "severity", ""), "error");
    assert_string_equal(jsonx_str(d, "kind", ""), "syntax");
    assert_int_equal(jsonx_int(d, "line", 0), 3);
    assert_int_equal(jsonx_int(d, "column", 0), 5);
    assert_string_equal(jsonx_str(d, "source", ""), "three");
    d = entry(r, "diagnostics", 1); /* in a header: no line of the source */
    assert_string_equal(jsonx_str(d, "kind", ""), "undeclared");
    assert_int_equal(jsonx_int(d, "line", -1), 0);
    assert_null(json_object_get(d, "source"));
    assert_string_equal(jsonx_str(entry(r, "diagnostics", 3), "kind", ""), "undefined-reference");
    d = entry(r, "diagnostics", 4);
    assert_string_equal(jsonx_str(d, "severity", ""), "warning");
    assert_string_equal(jsonx_str(d, "kind", ""), "unused-variable");
    assert_string_equal(jsonx_str(d, "message", ""), "unused variable 'left'");
    assert_int_equal(jsonx_int(d, "line", 0), 2);
    assert_int_equal(jsonx_int(d, "count", 0), 2);
    assert_string_equal(jsonx_str(d, "source", ""), "int left;");
}

static void clang_says_the_same_in_its_form(void **state)
{
    json_auto_t *r = report_of("/ks/source.c:1:1: warning: unused function 'f' "
                               "[-Wunused-function]\n1 warning generated.\n",
                               "", "static int f;\n");

    (void)state;
    assert_int_equal(json_array_size(json_object_get(r, "diagnostics")), 1);
    assert_string_equal(jsonx_str(entry(r, "diagnostics", 0), "kind", ""), "unused-function");
}

static void a_flood_is_capped_and_counted(void **state)
{
    CLEANUP(buf_release) struct buf log = { .max = 1 << 20 };
    json_auto_t *r = NULL;

    (void)state;
    for (int i = 0; i < 2000; i++)
        assert_int_equal(buf_addf(&log, "/ks/source.c:%d:1: warning: number %d [-Wx]\n", i, i), 0);
    r = report_of(buf_str(&log), "", "x\n");
    assert_int_equal(json_array_size(json_object_get(r, "diagnostics")), REPORT_DIAGNOSTICS_MAX);
    assert_int_equal(jsonx_int(r, "diagnostics_left_out", 0), 2000 - REPORT_DIAGNOSTICS_MAX);
}

static void hostile_words_stay_data(void **state)
{
    CLEANUP(buf_release) struct buf log = { .max = 1 << 20 };
    json_auto_t *r = NULL;
    const char *message;

    (void)state;
    /* #line can say any name and number; nothing is opened by it. */
    assert_int_equal(
        buf_addf(&log,
                 "/etc/shadow:1:1: error: \x1b[2J bad\xff\n"
                 "/ks/source.c:99999999999999999999:1: error: far\n"
                 "/ks/source.c:5:5: error: The first sentence. %0600d and more\n:::\n:1:\n",
                 1),
        0);
    r = report_of(buf_str(&log), "", "only line\n");
    message = jsonx_str(entry(r, "diagnostics", 0), "message", "");
    assert_null(strchr(message, '\x1b'));
    assert_non_null(strstr(message, "\\x1b"));
    assert_int_equal(jsonx_int(entry(r, "diagnostics", 0), "line", -1), 0);
    assert_null(json_object_get(entry(r, "diagnostics", 1), "source"));
    message = NULL;
    for (size_t i = 0; i < json_array_size(json_object_get(r, "diagnostics")); i++)
        if (strstr(jsonx_str(entry(r, "diagnostics", i), "message", ""), "The first"))
            message = jsonx_str(entry(r, "diagnostics", i), "message", "");
    assert_non_null(message);
    assert_true(str_has_prefix(message, "The first sentence. ["));
    assert_true(str_has_suffix(message, " more bytes]"));
}

static void loops_have_lines_and_reasons(void **state)
{
    static const char loops[] =
        "/ks/source.c:3:5: optimized: loop vectorized using 32 byte vectors\n"
        "/ks/source.c:3:5: optimized: loop vectorized using 64 byte vectors\n"
        "/ks/source.c:3:5: missed: couldn't vectorize loop\n"
        "/ks/source.c:3:5: missed: not vectorized: its epilogue.\n"
        "/ks/source.c:5:9: missed: couldn't vectorize loop\n"
        "/ks/source.c:6:9: missed: statement clobbers memory: _247 = exp2f (_246);\n"
        "/ks/source.c:4:5: missed: couldn't vectorize loop\n"
        "/ks/source.c:5:9: missed: not vectorized: multiple nested loops.\n"
        "/usr/lib/x.h:4:5: missed: couldn't vectorize loop\n"
        "/usr/lib/x.h:4:5: missed: not vectorized: of a header.\n"
        "/ks/source.c:8:1: missed: couldn't vectorize loop\n"
        "/ks/source.c:8:9: missed: not vectorized: no vectype for stmt: _49 = MEM <x>;\n"
        "/ks/source.c:7:1: optimized: basic block part vectorized using 16 byte vectors\n";
    static const char source[] = "int f(void)\n{\nfor (;;) a;\nfor (;;) {\nfor (;;) {\n exp2f(x);\n"
                                 "}}\nfor (;;) b;\n}\n";
    json_auto_t *r = report_of("", loops, source);

    (void)state;
    assert_int_equal(json_array_size(json_object_get(r, "vectorised")), 1);
    assert_int_equal(jsonx_int(entry(r, "vectorised", 0), "line", 0), 3);
    assert_int_equal(jsonx_int(entry(r, "vectorised", 0), "bytes", 0), 64);
    assert_int_equal(jsonx_int(r, "vectorised_blocks", 0), 1);
    /* The outer loop and the header's are not told of; the deepest comes first. */
    assert_int_equal(json_array_size(json_object_get(r, "missed")), 2);
    assert_int_equal(jsonx_int(entry(r, "missed", 0), "line", 0), 5);
    assert_int_equal(jsonx_int(entry(r, "missed", 0), "at", 0), 6);
    assert_string_equal(jsonx_str(entry(r, "missed", 0), "reason", ""),
                        "a call in it may change any memory: exp2f");
    assert_string_equal(jsonx_str(entry(r, "missed", 1), "reason", ""),
                        "a statement's type has no vector form");
}

/* ---- objects ---- */

static void a_digest_is_sha_256(void **state)
{
    static const struct {
        const char *text, *digest;
    } rows[] = { /* FIPS 180-4's examples */
                 { "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
                 { "", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855" },
                 { "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
                   "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1" }
    };
    char hex[SHA256_HEX + 1];

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct sha256 h;

        sha256_init(&h);
        for (const char *p = rows[i].text; *p; p++) /* in pieces, as well */
            sha256_add(&h, p, 1);
        sha256_hex(&h, hex);
        assert_string_equal(hex, rows[i].digest);
    }
}

static void read_self(struct buf *out)
{
    struct err err;

    *out = (struct buf){ .max = 64 << 20 };
    assert_int_equal(file_read("/proc/self/exe", out, &err), 0);
}

static void only_what_is_loaded_makes_the_digest(void **state)
{
    CLEANUP(buf_release) struct buf o = { 0 };
    char whole[SHA256_HEX + 1], other[SHA256_HEX + 1];
    struct object_size size;
    Elf64_Ehdr head;

    (void)state;
    read_self(&o);
    assert_true(object_measure(o.data, o.len, &size));
    assert_true(size.text > 10000);
    assert_true(size.kernel_text > 0 && size.kernel_text <= size.text);
    assert_true(object_digest(o.data, o.len, whole));
    memcpy(&head, o.data, sizeof(head));
    /* The section table is not loaded, and may be anywhere or nowhere. */
    ((Elf64_Ehdr *)(void *)o.data)->e_shnum = 0;
    ((Elf64_Ehdr *)(void *)o.data)->e_shoff = 64;
    assert_true(object_digest(o.data, o.len, other));
    assert_string_equal(whole, other);
    /* One byte of code is. */
    o.data[head.e_entry] ^= 1;
    assert_true(object_digest(o.data, o.len, other));
    assert_string_not_equal(whole, other);
}

static void a_damaged_object_is_refused_or_measured(void **state)
{
    CLEANUP(buf_release) struct buf o = { 0 };
    struct rng rng = rng_seeded(7);
    char hex[SHA256_HEX + 1];
    struct object_size size;

    (void)state;
    read_self(&o);
    for (size_t len = 0; len < 64; len++)
        assert_false(object_digest(o.data, len, hex));
    for (int i = 0; i < 300; i++) {
        size_t len = (size_t)rng_below(&rng, o.len);
        CLEANUP(freep) char *copy = malloc(len + 1); /* exact, so that a sanitizer sees overruns */

        memcpy(copy, o.data, len);
        for (int k = 0; k < 8; k++)
            copy[rng_below(&rng, MIN(len, (size_t)2000) + 1)] = (char)rng_u64(&rng);
        object_digest(copy, len, hex);
        if (object_measure(copy, len, &size))
            assert_true(size.kernel_text <= size.text);
    }
}

/* ---- the cache ---- */

static enum cache_found load_one(const char *dir, const char *name, struct buf *out)
{
    struct buf *const parts[] = { out };

    *out = (struct buf){ .max = 1 << 20 };
    return cache_load(dir, name, parts, 1);
}

static void store_one(const char *dir, const char *name, const char *text, uint64_t max)
{
    struct buf b;
    const struct buf *const parts[] = { &b };

    buf_text(&b, text);
    cache_store(dir, name, parts, 1, max);
    buf_release(&b);
}

static void a_damaged_entry_is_removed(void **state)
{
    CLEANUP(freep) char *dir = str_printf("%s/small-cache", env.dir);
    CLEANUP(freep) char *path = str_printf("%s/a.build", dir);
    CLEANUP(buf_release) struct buf file = { .max = 1 << 20 };
    struct buf got;
    struct err err;

    (void)state;
    assert_int_equal(load_one(dir, "a", &got), CACHE_MISS);
    store_one(dir, "a", "the object", 1 << 20);
    assert_int_equal(load_one(dir, "a", &got), CACHE_HIT);
    assert_string_equal(buf_str(&got), "the object");
    buf_release(&got);
    assert_int_equal(file_read(path, &file, &err), 0);
    for (size_t i = 0; i < file.len; i++) { /* every byte counts */
        file.data[i] ^= 4;
        assert_int_equal(file_write(path, file.data, file.len, 0600, &err), 0);
        assert_int_equal(load_one(dir, "a", &got), CACHE_DAMAGED);
        assert_int_equal(got.len, 0);
        buf_release(&got);
        assert_int_equal(load_one(dir, "a", &got), CACHE_MISS);
        file.data[i] ^= 4;
    }
}

static void the_oldest_entry_goes_first(void **state)
{
    CLEANUP(freep) char *dir = str_printf("%s/pruned", env.dir);
    CLEANUP(freep) char *big = malloc(3001);
    struct buf got;

    (void)state;
    memset(big, 'x', 3000);
    big[3000] = '\0';
    store_one(dir, "a", big, 10000);
    usleep(20000);
    store_one(dir, "b", big, 10000);
    usleep(20000);
    assert_int_equal(load_one(dir, "a", &got), CACHE_HIT); /* used: b is the older one now */
    buf_release(&got);
    usleep(20000);
    store_one(dir, "c", big, 10000);
    store_one(dir, "d", big, 10000);
    assert_int_equal(load_one(dir, "b", &got), CACHE_MISS);
    assert_int_equal(load_one(dir, "a", &got), CACHE_HIT);
    buf_release(&got);
    assert_int_equal(load_one(dir, "d", &got), CACHE_HIT);
    buf_release(&got);
}

static void a_folder_that_others_may_write_is_not_used(void **state)
{
    CLEANUP(freep) char *dir = str_printf("%s/open", env.dir);
    struct buf got;

    (void)state;
    store_one(dir, "a", "x", 1 << 20);
    assert_int_equal(chmod(dir, 0777), 0);
    assert_int_equal(load_one(dir, "a", &got), CACHE_MISS);
    store_one(dir, "b", "x", 1 << 20);
    assert_int_equal(chmod(dir, 0700), 0);
    assert_int_equal(load_one(dir, "b", &got), CACHE_MISS);
    assert_int_equal(load_one(dir, "a", &got), CACHE_HIT);
    buf_release(&got);
}

/* ---- counters ---- */

static void counters_count_or_say_why_not(void **state)
{
    struct counters c;
    struct counts counts;
    volatile double sum = 0;

    (void)state;
    counts_clear(&counts);
    for (int group = 0; group < COUNTER_GROUPS; group++) {
        counters_open(&c, getpid(), group);
        counters_start(&c);
        for (int i = 0; i < 2000000; i++)
            sum = sum + i;
        counters_stop(&c);
        counters_read(&c, 2, &counts);
        assert_int_equal(c.n, 0);
    }
    if (counts.value[COUNTER_CYCLES] < 0)
        assert_true(str_has_suffix(counters_unavailable(), "."));
    else
        assert_true(counts.value[COUNTER_INSTRUCTIONS] > 1e6);
    if (counts.value[COUNTER_TASK_CLOCK] >= 0)
        assert_true(counts.value[COUNTER_TASK_CLOCK] > 1e5); /* half of two million additions */
    else
        assert_true(counters_unavailable()[0] != '\0');
}

/* ---- whole evaluations ---- */

#define LOOP_LINE 13 /* of the loop that any compiler vectorises */

static const char candidate[] = "#include \"ks_task.h\"\n"
                                "\n"
                                "static int f(int a) { int left; return a; }\n"
                                "static int g(int a) { int left; return a; }\n"
                                "\n"
                                "int ks_kernel(const struct ks_call *call)\n"
                                "{\n"
                                "    int64_t n = ks_axis_value(call->axes, call->n_axes, \"n\", 0) "
                                "* KS_LANES;\n"
                                "    const float *x = call->inputs[0].data, *y = "
                                "call->inputs[1].data;\n"
                                "    const float *alpha = call->inputs[2].data;\n"
                                "    float *z = call->outputs[0].data;\n"
                                "\n"
                                "    for (int64_t i = 0; i < n; i++)\n"
                                "        z[i] = x[i] * 1.5f;\n"
                                "    for (int64_t i = 0; i < n; i++)\n"
                                "        z[i] = alpha[i % KS_LANES] * x[i] + y[i];\n"
                                "#ifdef DEAD\n"
                                "    (void)DEAD;\n"
                                "#endif\n"
                                "    return f(0) + g(0);\n"
                                "}\n";

static void write_in(const char *dir, const char *name, const char *text)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, name);
    struct err err;

    assert_int_equal(file_write(path, text, strlen(text), 0600, &err), 0);
}

/* Evaluates the source with DEAD as given; `more`: further members of the job. */
static void run_source(const char *source, const char *dead, const char *more,
                       struct evaltest_result *r)
{
    CLEANUP(freep) char *dir = str_printf("%s/run", env.dir);
    CLEANUP(freep) char *job = NULL;
    struct err err;

    assert_int_equal(file_mkdirs(dir, &err), 0);
    job = str_printf("{ \"format\": 1, \"pack\": \"" EVALTEST_PACK "\", \"definition\": "
                     "\"vector_add_l4\", \"set\": \"smoke\", \"candidate\": { \"source\": "
                     "\"candidate.c\", \"defines\": { \"DEAD\": \"%s\" } }, \"threads\": 2, "
                     "\"seed\": \"0000000000000007\", \"slot\": %s, \"cache\": \"%s/cache\", "
                     "\"timing\": { \"pairs_min\": 3, \"pairs_max\": 5, \"budget_s\": 0.02 }%s }",
                     dead, env.slot, env.dir, more);
    write_in(dir, "job.json", job);
    write_in(dir, "candidate.c", source);
    evaltest_run(dir, r);
    if (r->record == NULL)
        fail_msg("no record: %s", r->err);
}

static const json_t *build_of(const struct evaltest_result *r)
{
    return json_object_get(r->record, "build");
}

/* Timing may scatter on a busy machine; the build's report does not depend on it. */
static void assert_was_timed(const struct evaltest_result *r)
{
    if (strcmp(evaltest_status(r), "unstable") != 0)
        assert_string_equal(evaltest_status(r), "ok");
}

static void a_record_tells_of_its_build(void **state)
{
    struct evaltest_result r;
    const json_t *build, *d, *size, *row;
    bool found = false;

    (void)state;
    run_source(candidate, "1", "", &r);
    assert_was_timed(&r);
    build = build_of(&r);
    d = entry(build, "diagnostics", 0);
    assert_string_equal(jsonx_str(d, "kind", ""), "unused-variable");
    assert_int_equal(jsonx_int(d, "count", 0), 2);
    assert_int_equal(jsonx_int(d, "line", 0), 3);
    for (size_t i = 0; i < json_array_size(json_object_get(build, "vectorised")); i++)
        found = found || jsonx_int(entry(build, "vectorised", i), "line", 0) == LOOP_LINE;
    assert_true(found || json_object_get(build, "vector_note") != NULL);
    size = json_object_get(build, "size");
    assert_in_range(jsonx_int(size, "kernel_text", 0), 50, 20000);
    assert_true(jsonx_int(size, "kernel_text", 0) <= jsonx_int(size, "text", 0));
    assert_true(str_is_hex(jsonx_str(build, "object_sha256", ""), 64));
    row = entry(r.record, "workloads", 0);
    assert_true(json_object_get(row, "counters") != NULL ||
                *jsonx_str(json_object_get(r.record, "env"), "counters_unavailable", ""));
    evaltest_release(&r);
}

static void an_error_has_its_place(void **state)
{
    struct evaltest_result r;
    const json_t *d;

    (void)state;
    run_source("#include \"ks_task.h\"\nint ks_kernel(const struct ks_call *call)\n{\n"
               "    return call->n_inputs + nothing;\n}\n",
               "1", "", &r);
    assert_string_equal(evaltest_status(&r), "build_failed");
    d = entry(build_of(&r), "diagnostics", 0);
    assert_string_equal(jsonx_str(d, "severity", ""), "error");
    assert_string_equal(jsonx_str(d, "kind", ""), "undeclared");
    assert_int_equal(jsonx_int(d, "line", 0), 4);
    assert_true(jsonx_int(d, "column", 0) > 0);
    assert_string_equal(jsonx_str(d, "source", ""), "return call->n_inputs + nothing;");
    evaltest_release(&r);
}

/* What a build tells, without when it was made, and without what a sanitizer may add to the log. */
static char *told(const struct evaltest_result *r)
{
    json_auto_t *copy = json_copy((json_t *)build_of(r));

    json_object_del(copy, "ms");
    json_object_del(copy, "log");
    json_object_del(copy, "cached");
    json_object_del(copy, "cache_damaged");
    return jsonx_canonical(copy);
}

/* Turns one bit in every cached program. */
static int damage_programs(void)
{
    CLEANUP(freep) char *dir = str_printf("%s/cache", env.dir);
    struct dirent *e;
    DIR *d = opendir(dir);
    int n = 0;

    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        CLEANUP(freep) char *path = str_printf("%s/%s", dir, e->d_name);
        CLEANUP(buf_release) struct buf b = { .max = 1 << 22 };
        struct err err;

        if (!str_has_prefix(e->d_name, "program-"))
            continue;
        assert_int_equal(file_read(path, &b, &err), 0);
        b.data[b.len / 2] ^= 1;
        assert_int_equal(file_write(path, b.data, b.len, 0600, &err), 0);
        n++;
    }
    closedir(d);
    return n;
}

static void a_program_is_built_once(void **state)
{
    struct evaltest_result first, second, third;
    CLEANUP(freep) char *a = NULL;
    CLEANUP(freep) char *b = NULL;
    CLEANUP(freep) char *c = NULL;

    (void)state;
    run_source(candidate, "11", "", &first);
    assert_true(json_is_false(json_object_get(build_of(&first), "cached")));
    run_source(candidate, "11", "", &second);
    assert_true(json_is_true(json_object_get(build_of(&second), "cached")));
    assert_true(jsonx_num(build_of(&second), "ms", -1) == 0);
    assert_true(damage_programs() > 0);
    run_source(candidate, "11", "", &third);
    assert_true(json_is_false(json_object_get(build_of(&third), "cached")));
    assert_true(json_is_true(json_object_get(build_of(&third), "cache_damaged")));
    a = told(&first);
    b = told(&second);
    c = told(&third);
    assert_string_equal(a, b);
    assert_string_equal(a, c);
    evaltest_release(&first);
    evaltest_release(&second);
    evaltest_release(&third);
}

static void an_equal_object_is_known_and_not_timed(void **state)
{
    CLEANUP(freep) char *known = NULL;
    struct evaltest_result first, second, other;

    (void)state;
    run_source(candidate, "21", "", &first);
    known = str_printf(", \"known_objects\": [ \"%064d\", \"%s\" ]", 0,
                       jsonx_str(build_of(&first), "object_sha256", ""));
    run_source(candidate, "22", known, &second); /* another macro, the same code */
    assert_string_equal(evaltest_status(&second), "known");
    assert_int_equal(second.status, 0);
    assert_int_equal(json_array_size(json_object_get(second.record, "workloads")), 0);
    assert_true(json_is_null(json_object_get(second.record, "objective")));
    assert_string_equal(jsonx_str(build_of(&second), "object_sha256", ""),
                        jsonx_str(build_of(&first), "object_sha256", "x"));
    run_source("#include \"ks_task.h\"\nint ks_kernel(const struct ks_call *call)\n{ return "
               "call->n_inputs; }\n",
               "22", known, &other);
    assert_string_equal(evaltest_status(&other), "refused_call");
    evaltest_release(&first);
    evaltest_release(&second);
    evaltest_release(&other);
}

static void bad_known_objects_are_refused(void **state)
{
    static const char *const bad[] = { "1", "[1]", "[\"abc\"]" };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        CLEANUP(freep) char *dir = str_printf("%s/bad", env.dir);
        CLEANUP(freep)
        char *job =
            str_printf("{ \"format\": 1, \"pack\": \"" EVALTEST_PACK "\", \"definition\": "
                       "\"vector_add_l4\", \"set\": \"smoke\", \"candidate\": { \"source\": "
                       "\"candidate.c\" }, \"seed\": \"0000000000000007\", \"known_objects\": %s }",
                       bad[i]);
        struct evaltest_result r;
        struct err err;

        assert_int_equal(file_mkdirs(dir, &err), 0);
        write_in(dir, "job.json", job);
        write_in(dir, "candidate.c", candidate);
        evaltest_run(dir, &r);
        assert_int_equal(r.status, 2);
        assert_non_null(strstr(r.err, "known_objects"));
        evaltest_release(&r);
    }
}

static int set_up(void **state)
{
    struct evaltest_result r;

    (void)state;
    evaltest_init(&env);
    run_source(candidate, "0", "", &r);
    has_sandbox = r.status != 10;
    if (!has_sandbox)
        fprintf(stderr, "no sandbox here: %s\n", r.err);
    evaltest_release(&r);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    evaltest_end(&env);
    return 0;
}

int main(void)
{
    const struct CMUnitTest parts[] = {
        cmocka_unit_test(diagnostics_are_classified_and_counted_once),
        cmocka_unit_test(clang_says_the_same_in_its_form),
        cmocka_unit_test(a_flood_is_capped_and_counted),
        cmocka_unit_test(hostile_words_stay_data),
        cmocka_unit_test(loops_have_lines_and_reasons),
        cmocka_unit_test(a_digest_is_sha_256),
        cmocka_unit_test(only_what_is_loaded_makes_the_digest),
        cmocka_unit_test(a_damaged_object_is_refused_or_measured),
        cmocka_unit_test(a_damaged_entry_is_removed),
        cmocka_unit_test(the_oldest_entry_goes_first),
        cmocka_unit_test(a_folder_that_others_may_write_is_not_used),
        cmocka_unit_test(counters_count_or_say_why_not),
        cmocka_unit_test(bad_known_objects_are_refused),
    };
    const struct CMUnitTest evaluations[] = {
        cmocka_unit_test(a_record_tells_of_its_build),
        cmocka_unit_test(an_error_has_its_place),
        cmocka_unit_test(a_program_is_built_once),
        cmocka_unit_test(an_equal_object_is_known_and_not_timed),
    };
    int failed = cmocka_run_group_tests_name("feedback", parts, set_up, tear_down);

    if (failed != 0 || !has_sandbox)
        return failed != 0 ? 1 : 77;
    return cmocka_run_group_tests_name("feedback of evaluations", evaluations, set_up, tear_down);
}
