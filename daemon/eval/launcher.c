/* SPDX-License-Identifier: Apache-2.0 */
/* What all evaluators share: defaults, the checks of a request, its form as a job. See launcher.h.
 */
#include "eval/launcher.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { SLOT_MAX = 999, THREADS_MAX = 256, DEFINE_NAME_MAX = 96, DEFINE_VALUE_MAX = 64 };

struct eval_limits eval_default_limits(void)
{
    return (struct eval_limits){
        .build_s = 60, .run_s = 30, .memory_bytes = 4ull << 30, .output_bytes = 1 << 20
    };
}

struct eval_timing eval_default_timing(void)
{
    return (struct eval_timing){ .pairs_min = 5, .pairs_max = 25, .budget_s = 0.6 };
}

int evaluator_start(struct evaluator *ev, const struct eval_request *req, eval_done_fn *done,
                    void *ctx, struct eval_job **out, struct err *err)
{
    return ev->start(ev, req, done, ctx, out, err);
}

void evaluator_cancel(struct eval_job *job)
{
    job->ev->cancel(job);
}

void evaluator_free(struct evaluator *ev)
{
    if (ev)
        ev->free(ev);
}

void evaluator_load(const struct evaluator *ev, size_t *waiting, size_t *running)
{
    ev->load(ev, waiting, running);
}

/* ---- Checks ---- */

static bool is_c_name(const char *s)
{
    if (*s == '\0' || isdigit((unsigned char)*s) || strlen(s) > DEFINE_NAME_MAX)
        return false;
    while (isalnum((unsigned char)*s) || *s == '_')
        s++;
    return *s == '\0';
}

static bool is_c_token(const char *s)
{
    if (*s == '\0' || strlen(s) > DEFINE_VALUE_MAX)
        return false;
    while (isalnum((unsigned char)*s) || (*s && strchr("_.+-", *s)))
        s++;
    return *s == '\0';
}

static int check_program(const struct eval_program *p, const char *what, struct err *err)
{
    if (p->source_len == 0 || memchr(p->source, '\0', p->source_len))
        return err_set(err, ERR_INVALID, "the %s's source is empty or holds a NUL byte", what);
    if (p->source_len > PACK_SOURCE_MAX)
        return err_set(err, ERR_LIMIT, "the %s's source has %zu bytes; at most %d are allowed",
                       what, p->source_len, PACK_SOURCE_MAX);
    if (p->n_defines > EVAL_DEFINES_MAX)
        return err_set(err, ERR_LIMIT, "the %s has %zu macros; at most %d are allowed", what,
                       p->n_defines, EVAL_DEFINES_MAX);
    for (size_t i = 0; i < p->n_defines; i++) {
        char seen[120];

        if (!is_c_name(p->defines[i].name) || !is_c_token(p->defines[i].value))
            return err_set(
                err, ERR_INVALID,
                "the %s's macro '%s' must be a C name with a value of 1 to %d letters, "
                "digits, '_', '.', '+', '-'",
                what,
                str_visible(p->defines[i].name, strlen(p->defines[i].name), seen, sizeof(seen)),
                DEFINE_VALUE_MAX);
    }
    return 0;
}

static bool in_range(double v, double lo, double hi)
{
    return v >= lo && v <= hi; /* false for NaN */
}

static int check_numbers(const struct eval_request *r, struct err *err)
{
    const struct eval_limits *l = &r->limits;
    const struct eval_timing *t = &r->timing;

    if (!in_range(l->build_s, 1, 3600) || !in_range(l->run_s, 1, 86400) ||
        !in_range(l->wall_s, 0, 7 * 86400))
        return err_set(err, ERR_INVALID,
                       "the time limits must be: build 1 to 3600 s, run 1 to 86400 s, wall at most "
                       "a week");
    if (l->memory_bytes < 16 << 20 || l->memory_bytes > 1000000000000000 ||
        l->output_bytes < 1024 || l->output_bytes > 1 << 28)
        return err_set(err, ERR_INVALID,
                       "the limits must be: memory 16 MiB to 1e15 bytes, output 1 KiB to 256 MiB");
    if (t->pairs_min < 3 || t->pairs_max < t->pairs_min || t->pairs_max > 1000 ||
        !in_range(t->budget_s, 0, 3600))
        return err_set(err, ERR_INVALID,
                       "the timing must be: 3 to 1000 pairs, a budget of 0 to 3600 s");
    if (r->slot > SLOT_MAX || r->threads > THREADS_MAX)
        return err_set(err, ERR_INVALID, "a slot is at most %d, threads at most %d", SLOT_MAX,
                       THREADS_MAX);
    if (!in_range(r->read_gbs, 0, 1e9) || !in_range(r->fma_gflops, 0, 1e12))
        return err_set(err, ERR_INVALID, "the device's measured rates are out of range");
    return 0;
}

int eval_request_check(const struct eval_request *req, struct err *err)
{
    if (!req->definition || !str_is_name(req->definition) || !req->set || !str_is_name(req->set) ||
        !req->device || !str_is_name(req->device))
        return err_set(err, ERR_INVALID, "an evaluation needs a definition, a set and a device");
    if (req->candidate.source == NULL)
        return err_set(err, ERR_INVALID, "an evaluation needs a candidate");
    if (check_program(&req->candidate, "candidate", err) != 0 ||
        (req->champion.source && check_program(&req->champion, "champion", err) != 0))
        return -1;
    if (req->n_known > EVAL_KNOWN_MAX)
        return err_set(err, ERR_LIMIT, "%zu known objects; at most %d are allowed", req->n_known,
                       EVAL_KNOWN_MAX);
    return check_numbers(req, err);
}

/* ---- job.json ---- */

static json_t *program_to_json(const struct eval_program *p, const char *file)
{
    json_t *defines = json_object();

    for (size_t i = 0; i < p->n_defines; i++)
        json_object_set_new(defines, p->defines[i].name, json_string(p->defines[i].value));
    return json_pack("{s:s, s:o}", "source", file, "defines", defines);
}

static void set_settings(json_t *j, const struct eval_request *req,
                         const struct launcher_local_config *config)
{
    char seed[17];

    snprintf(seed, sizeof(seed), "%016llx", (unsigned long long)req->seed);
    json_object_set_new(j, "seed", json_string(seed));
    json_object_set_new(j, "march",
                        json_string(req->march && req->march[0] ? req->march
                                    : config->march             ? config->march
                                                                : "native"));
    json_object_set_new(j, "sandbox", json_string(config->sandbox ? config->sandbox : "bwrap"));
    json_object_set_new(j, "threads", json_integer(req->threads ? req->threads : config->threads));
    json_object_set_new(j, "slot", json_integer(req->slot));
    if (config->cache_dir && config->cache_dir[0])
        json_object_set_new(j, "cache", json_string(config->cache_dir));
    if (req->read_gbs > 0 || req->fma_gflops > 0)
        json_object_set_new(
            j, "device",
            json_pack("{s:f, s:f}", "read_gbs", req->read_gbs, "fma_gflops", req->fma_gflops));
}

json_t *eval_request_to_job(const struct eval_request *req,
                            const struct launcher_local_config *config)
{
    const struct eval_limits *l = &req->limits;
    json_t *j = json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:s, s:o}", "format", 1, "pack", req->pack->dir, "definition",
        req->definition, "set", req->set, "baseline_key", req->pack->baseline.key, "module_key",
        req->pack->module.key, "candidate", program_to_json(&req->candidate, "candidate.c"));

    if (req->champion.source)
        json_object_set_new(j, "champion", program_to_json(&req->champion, "champion.c"));
    set_settings(j, req, config);
    json_object_set_new(j, "limits",
                        json_pack("{s:I, s:I, s:I, s:I}", "build_s", (json_int_t)ceil(l->build_s),
                                  "run_s", (json_int_t)ceil(l->run_s), "memory_bytes",
                                  (json_int_t)l->memory_bytes, "output_bytes",
                                  (json_int_t)l->output_bytes));
    json_object_set_new(j, "timing",
                        json_pack("{s:i, s:i, s:f}", "pairs_min", (int)req->timing.pairs_min,
                                  "pairs_max", (int)req->timing.pairs_max, "budget_s",
                                  req->timing.budget_s));
    if (req->n_known > 0) {
        json_t *known = json_array();

        for (size_t i = 0; i < req->n_known; i++)
            json_array_append_new(known, json_string(req->known[i]));
        json_object_set_new(j, "known_objects", known);
    }
    return j;
}
