/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch query: what the knowledge base knows, with the evidence. */
#include "cli.h"

#include <math.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "show.h"

static const struct pos query_pos[] = {
    { "TEXT", "text", ROW_REQUIRED | ROW_WORDS, "what to look for, in plain words" }, { 0 }
};

static const struct opt query_opts[] = {
    { "task", OPT_TEXT, "T", "task", 0, "rank for this task" },
    { "device", OPT_TEXT, "D", "device", 0, "rank for this device" },
    { "technique", OPT_TEXT, "X", "technique", 0, "only this technique, or a synonym of it" },
    { "shape", OPT_TEXT, "SHAPE", "shape", 0,
      "rank for this shape, such as experts=64,topk=8,tokens_per_expert=8" },
    { "limit", OPT_UINT, "N", "limit", 0, "most hits to give" },
    { "as-of", OPT_TEXT, "TIME", "as_of", 0,
      "only what was known then: 2026-11-22, 2026-11-22T16:05:09Z, seconds since 1970, or how long "
      "ago, such as 2h" },
    { "explain", OPT_FLAG, NULL, "explain", 0,
      "say how the question was understood and each hit ranked" },
    { 0 }
};

/* "1.42x [1.30, 1.55]": the mean of the log effect, and its 95 % interval, as factors. No pairs: no
 * number. */
static void effect_print(const json_t *effect)
{
    double mean = jsonx_num(effect, "mean", NAN), sd = jsonx_num(effect, "sd", NAN);

    if (!isfinite(mean) || jsonx_int(effect, "n", 1) == 0) {
        printf("not measured");
        return;
    }
    printf("%.2fx", exp(mean));
    if (isfinite(sd))
        printf(" [%.2f, %.2f]", exp(mean - 1.96 * sd), exp(mean + 1.96 * sd));
}

/* What came in packs, and what it counts for until it was seen here as well. */
static void imported_print(const json_t *effect)
{
    long long foreign = jsonx_int(effect, "foreign", 0);
    double trust = jsonx_num(effect, "trust", 1);

    if (foreign > 0)
        printf(", %lld imported", foreign);
    if (foreign > 0 && trust < 1)
        printf(" (count for %.2g each until replicated here)", trust);
}

/* "label: text" where the member is there and says something. */
static void part_print(const json_t *hit, const char *member, const char *label)
{
    CLEANUP(freep) char *s = show_text_at(hit, member, SHOW_TEXT), *line = NULL;
    struct buf b = { .max = SHOW_TEXT_MAX + 64 };

    if (strcmp(s, "-") == 0 || *s == '\0')
        return;
    if (buf_addf(&b, "%s: %s", label, s) == 0) {
        line = buf_take(&b);
        show_wrapped(line, 4);
    }
    buf_release(&b);
}

/* The reasons are sentences: one a line. */
static void why_print(const json_t *why)
{
    json_t *reason;
    size_t i;

    json_array_foreach (why, i, reason) {
        CLEANUP(freep) char *s = show_text(reason, SHOW_TEXT);
        CLEANUP(freep) char *first = str_printf("why: %s", s);

        show_wrapped(i == 0 && first ? first : s, i == 0 ? 4 : 9);
    }
}

/* Scope: only the members that narrow it. */
static void scope_print(const json_t *hit)
{
    const json_t *scope = json_object_get(hit, "scope");
    struct buf b = { .max = SHOW_TEXT_MAX };
    const char *key;
    json_t *v;

    if (!json_is_object(scope)) {
        part_print(hit, "scope", "scope");
        return;
    }
    json_object_foreach ((json_t *)scope, key, v) {
        CLEANUP(freep) char *s = show_text(v, SHOW_TEXT);

        if (*s && strcmp(s, "-") != 0)
            buf_addf(&b, "%s%s %s", b.len ? ", " : "scope: ", key, s);
    }
    if (b.len)
        show_wrapped(b.data, 4);
    buf_release(&b);
}

/* One piece of evidence, as a query gives it or as it is stored (micro-units of the logarithm). */
static void evidence_print(const json_t *e)
{
    const json_t *at = json_object_get(e, "measured_at");
    CLEANUP(freep) char *task = show_text_at(e, "task", SHOW_TEXT);
    CLEANUP(freep) char *device = show_text_at(e, "device", SHOW_TEXT);
    CLEANUP(freep) char *toolchain = show_text_at(e, "toolchain", SHOW_TEXT);
    CLEANUP(freep) char *when = show_text(at ? at : json_object_get(e, "measured_at_s"), SHOW_TIME);
    const char *failure = jsonx_str(e, "failure", "");
    double effect = jsonx_num(e, "effect", jsonx_num(e, "effect_q", NAN) / 1e6);

    if (*failure) {
        CLEANUP(freep) char *class = show_text_at(e, "failure", SHOW_TEXT);

        printf("      failed: %s", class);
    } else {
        printf("      %.2fx", exp(effect));
    }
    printf("  %s on %s, %s, %s, %s\n", task, device, toolchain, when,
           jsonx_bool(e, "steered", 0) ? "steered" : "blind");
}

void insight_print(const json_t *hit)
{
    CLEANUP(freep) char *statement = show_text_at(hit, "statement", SHOW_TEXT);
    CLEANUP(freep) char *technique = show_text_at(hit, "technique", SHOW_TEXT);
    CLEANUP(freep) char *id = show_text_at(hit, "insight", SHOW_SHORT);
    const json_t *evidence = json_object_get(hit, "evidence");
    long long failures = jsonx_int(hit, "failures", 0);
    json_t *e;
    size_t i;

    show_wrapped(statement, 0);
    printf("    %s  ", technique);
    effect_print(json_object_get(hit, "effect"));
    printf(", %lld blind + %lld steered", jsonx_int(hit, "blind", 0), jsonx_int(hit, "steered", 0));
    if (failures > 0)
        printf(", %lld failure%s", failures, failures == 1 ? "" : "s");
    imported_print(json_object_get(hit, "effect"));
    printf("  (insight %s", id);
    if (json_is_number(json_object_get(hit, "score")))
        printf(", score %.3g", jsonx_num(hit, "score", 0));
    printf(")\n");
    if (strcmp(jsonx_str(hit, "state", "active"), "active") != 0)
        part_print(hit, "state", "state");
    part_print(hit, "mechanism", "how");
    scope_print(hit);
    part_print(hit, "condition", "when");
    part_print(hit, "tunable", "tunable");
    why_print(json_object_get(hit, "why"));
    part_print(hit, "ranks", "ranks");
    if (json_array_size(evidence) > 0)
        printf("    evidence:\n");
    json_array_foreach (evidence, i, e)
        evidence_print(e);
}

static void removed_print(const json_t *removed)
{
    struct buf b = { .max = SHOW_TEXT_MAX };
    const char *key;
    json_t *n;

    json_object_foreach ((json_t *)removed, key, n)
        if (json_integer_value(n) > 0)
            buf_addf(&b, "%s%lld by %s", b.len ? ", " : "", (long long)json_integer_value(n), key);
    if (b.len) {
        printf("filters removed: ");
        show_wrapped(b.data, 0);
    }
    buf_release(&b);
}

/* With --explain: how the question was read. */
static void understood_print(const json_t *understood)
{
    if (!json_is_object(understood))
        return;
    printf("understood:\n");
    part_print(understood, "profile", "profile");
    part_print(understood, "shape", "shape");
    if (json_array_size(json_object_get(understood, "techniques")) > 0)
        part_print(understood, "techniques", "techniques");
    part_print(understood, "embedding", "embedding");
    putchar('\n');
}

static void notes_print(const json_t *notes)
{
    json_t *note;
    size_t i;

    json_array_foreach (notes, i, note) {
        CLEANUP(freep) char *s = show_text(note, SHOW_TEXT);

        fprintf(stderr, "note: %s\n", s);
    }
}

static void query_print(const json_t *result)
{
    const json_t *hits = json_object_get(result, "hits");
    json_t *hit;
    size_t i;

    understood_print(json_object_get(result, "understood"));
    json_array_foreach (hits, i, hit) {
        printf("%s%zu. ", i > 0 ? "\n" : "", i + 1);
        insight_print(hit);
    }
    if (json_array_size(hits) == 0)
        printf("no hits\n");
    putchar('\n');
    removed_print(json_object_get(result, "removed"));
    notes_print(json_object_get(result, "notes"));
    fprintf(stderr, "%zu hit%s in %.2f ms\n", json_array_size(hits),
            json_array_size(hits) == 1 ? "" : "s", jsonx_num(result, "took_us", 0) / 1000);
}

const struct command cmd_query = {
    .name = "query",
    .summary = "Ask the knowledge base; no language model is called.",
    .method = METHOD_QUERY,
    .pos = query_pos,
    .opts = query_opts,
    .print = query_print,
    .notes =
        "An effect is the speed with the technique over the speed without, with its 95 % "
        "interval.\n"
        "Steered evidence was found under the insight's own influence; blind evidence was not.\n",
};
