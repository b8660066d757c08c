/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a job; see job.h. */
#include "job.h"

#include <ctype.h>
#include <jansson.h>
#include <stddef.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/param.h"
#include "base/str.h"
#include "cache.h"
#include "pack.h"

struct job_json {
    uint64_t format, threads, slot;
    char *pack, *definition, *set, *march, *seed, *cache, *baseline_key, *module_key;
    int sandbox;
    json_t *candidate, *champion, *limits, *timing, *device, *known_objects;
};

static const char *const sandboxes[] = { "bwrap", "none", NULL };

#define FIELD(field, kind, flag)                                                                   \
    {                                                                                              \
        .name = #field, .type = (kind), .offset = offsetof(struct job_json, field),                \
        .flags = (flag)                                                                            \
    }
#define COUNT(field, low, high)                                                                    \
    {                                                                                              \
        .name = #field, .type = PARAM_U64, .offset = offsetof(struct job_json, field),             \
        .min = (low), .max = (high)                                                                \
    }

static const struct param job_rows[] = {
    FIELD(format, PARAM_U64, PARAM_REQUIRED),
    FIELD(pack, PARAM_STR, PARAM_REQUIRED),
    FIELD(definition, PARAM_NAME, PARAM_REQUIRED),
    FIELD(set, PARAM_NAME, PARAM_REQUIRED),
    FIELD(candidate, PARAM_JSON, PARAM_REQUIRED),
    FIELD(champion, PARAM_JSON, 0),
    FIELD(march, PARAM_STR, 0),
    COUNT(threads, 1, JOB_THREADS_MAX),
    FIELD(seed, PARAM_STR, PARAM_REQUIRED),
    COUNT(slot, 0, JOB_SLOTS - 1),
    { .name = "sandbox",
      .type = PARAM_ENUM,
      .offset = offsetof(struct job_json, sandbox),
      .choices = sandboxes },
    FIELD(cache, PARAM_STR, 0),
    FIELD(baseline_key, PARAM_STR, 0),
    FIELD(module_key, PARAM_STR, 0),
    FIELD(limits, PARAM_JSON, 0),
    FIELD(timing, PARAM_JSON, 0),
    FIELD(device, PARAM_JSON, 0),
    FIELD(known_objects, PARAM_JSON, 0),
    { 0 },
};

static const struct param limit_rows[] = {
    { .name = "build_s",
      .type = PARAM_U64,
      .offset = offsetof(struct job, build_s),
      .min = 1,
      .max = 3600 },
    { .name = "run_s",
      .type = PARAM_U64,
      .offset = offsetof(struct job, run_s),
      .min = 1,
      .max = 86400 },
    { .name = "memory_bytes",
      .type = PARAM_U64,
      .offset = offsetof(struct job, memory_bytes),
      .min = 16777216,
      .max = 1e15 },
    { .name = "output_bytes",
      .type = PARAM_U64,
      .offset = offsetof(struct job, output_bytes),
      .min = 1024,
      .max = 1 << 28 },
    { .name = "cache_bytes",
      .type = PARAM_U64,
      .offset = offsetof(struct job, cache_bytes),
      .min = 1 << 20,
      .max = 1e15 },
    { 0 },
};

struct timing_json {
    uint64_t pairs_min, pairs_max;
    double budget_s;
};

static const struct param timing_rows[] = {
    { .name = "pairs_min",
      .type = PARAM_U64,
      .offset = offsetof(struct timing_json, pairs_min),
      .min = 3,
      .max = 1000 },
    { .name = "pairs_max",
      .type = PARAM_U64,
      .offset = offsetof(struct timing_json, pairs_max),
      .min = 3,
      .max = 1000 },
    { .name = "budget_s",
      .type = PARAM_REAL,
      .offset = offsetof(struct timing_json, budget_s),
      .min = 0,
      .max = 3600 },
    { 0 },
};

static const struct param device_rows[] = {
    { .name = "read_gbs",
      .type = PARAM_REAL,
      .offset = offsetof(struct job, read_gbs),
      .min = 0,
      .max = 1e9 },
    { .name = "fma_gflops",
      .type = PARAM_REAL,
      .offset = offsetof(struct job, fma_gflops),
      .min = 0,
      .max = 1e12 },
    { 0 },
};

struct program_json {
    char *source;
    json_t *defines;
};

static const struct param program_rows[] = {
    { .name = "source",
      .type = PARAM_NAME,
      .offset = offsetof(struct program_json, source),
      .flags = PARAM_REQUIRED },
    { .name = "defines", .type = PARAM_JSON, .offset = offsetof(struct program_json, defines) },
    { 0 },
};

static void job_json_release(struct job_json *j)
{
    param_release(job_rows, j);
}

static void program_json_release(struct program_json *j)
{
    param_release(program_rows, j);
}

/* ---- programs ---- */

static bool is_c_name(const char *s)
{
    size_t n = strlen(s);

    if (n == 0 || n > 96 || isdigit((unsigned char)s[0]))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_')
            return false;
    return true;
}

static bool is_token(const char *s, const char *others, size_t max)
{
    size_t n = strlen(s);

    if (n == 0 || n > max)
        return false;
    for (size_t i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && strchr(others, s[i]) == NULL)
            return false;
    return true;
}

bool job_is_march(const char *s)
{
    return is_token(s, "_+.-=", 64) && isalnum((unsigned char)s[0]);
}

int program_define(struct program *p, const char *name, const char *value, struct err *err)
{
    struct define *grown;
    char seen[128];

    if (!is_c_name(name))
        return err_set(err, ERR_INVALID,
                       "the macro '%s' is not a C name of at most 96 letters, digits and '_'",
                       str_visible(name, strlen(name), seen, sizeof(seen)));
    if (!is_token(value, "_.+-", 64))
        return err_set(err, ERR_INVALID,
                       "the macro '%s' has the value '%s'; allowed are 1 to 64 letters, digits, "
                       "'_', '.', '+' and '-'",
                       name, str_visible(value, strlen(value), seen, sizeof(seen)));
    if (p->n_defines == JOB_DEFINES_MAX)
        return err_set(err, ERR_LIMIT, "more than %d macros", JOB_DEFINES_MAX);
    grown = realloc(p->defines, (size_t)(p->n_defines + 1) * sizeof(*grown));
    if (grown == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    p->defines = grown;
    grown[p->n_defines].name = strdup(name);
    grown[p->n_defines].value = strdup(value);
    p->n_defines++;
    if (grown[p->n_defines - 1].name == NULL || grown[p->n_defines - 1].value == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    return 0;
}

void program_release(struct program *p)
{
    for (int i = 0; i < p->n_defines; i++) {
        free(p->defines[i].name);
        free(p->defines[i].value);
    }
    free(p->defines);
    free(p->source);
    *p = (struct program){ 0 };
}

static int parse_defines(const json_t *obj, struct program *p, struct err *err)
{
    const char *key;
    json_t *v;

    if (obj == NULL)
        return 0;
    if (!json_is_object(obj))
        return err_set(err, ERR_INVALID, "'defines' is not an object of strings");
    json_object_foreach ((json_t *)obj, key, v) {
        if (!json_is_string(v))
            return err_set(err, ERR_INVALID, "the macro '%.96s' is not a string", key);
        if (program_define(p, key, json_string_value(v), err) != 0)
            return -1;
    }
    return 0;
}

static int parse_program(const char *dir, const json_t *obj, struct program *p, struct err *err)
{
    CLEANUP(program_json_release) struct program_json j = { 0 };
    CLEANUP(buf_release) struct buf text = { .max = PACK_SOURCE_MAX };
    CLEANUP(freep) char *path = NULL;

    if (param_parse(program_rows, obj, &j, err) != 0 || parse_defines(j.defines, p, err) != 0)
        return -1;
    path = str_printf("%s/%s", dir, j.source);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    if (file_read(path, &text, err) != 0)
        return -1;
    if (text.len == 0 || memchr(text.data, '\0', text.len) != NULL)
        return err_set(err, ERR_INVALID, "'%s' is empty or holds a NUL character", path);
    p->source = buf_take(&text);
    return p->source ? 0 : err_set(err, ERR_NOMEM, "no memory");
}

/* ---- the job ---- */

static int parse_timing(const json_t *obj, struct job *job, struct err *err)
{
    struct timing_json t = { (uint64_t)job->pairs_min, (uint64_t)job->pairs_max, job->budget_s };

    if (obj == NULL)
        return 0;
    if (param_parse(timing_rows, obj, &t, err) != 0)
        return err_ctx(err, "'timing'");
    if (t.pairs_max < t.pairs_min)
        return err_set(err, ERR_INVALID, "'pairs_max' is less than 'pairs_min'");
    job->pairs_min = (int)t.pairs_min;
    job->pairs_max = (int)t.pairs_max;
    job->budget_s = t.budget_s;
    return 0;
}

static int parse_known(const json_t *list, struct job *job, struct err *err)
{
    size_t n = json_array_size(list);

    if (list == NULL)
        return 0;
    if (!json_is_array(list) || n > JOB_KNOWN_MAX)
        return err_set(err, ERR_INVALID, "'known_objects' is not a list of at most %d digests",
                       JOB_KNOWN_MAX);
    job->known = calloc(n ? n : 1, sizeof(*job->known));
    if (job->known == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    for (; job->n_known < n; job->n_known++) {
        const char *s = json_string_value(json_array_get(list, job->n_known));

        if (s == NULL || !str_is_hex(s, SHA256_HEX))
            return err_set(err, ERR_INVALID,
                           "entry %zu of 'known_objects' is not %d lower-case hexadecimal digits",
                           job->n_known + 1, SHA256_HEX);
        memcpy(job->known[job->n_known], s, SHA256_HEX + 1);
    }
    return 0;
}

static int parse_words(struct job_json *j, struct job *job, struct err *err)
{
    uint8_t seed[8];

    if (!str_is_hex(j->seed, 16) || !str_unhex(j->seed, 8, seed))
        return err_set(err, ERR_INVALID, "'seed' is not 16 lower-case hexadecimal digits");
    for (int i = 0; i < 8; i++)
        job->seed = job->seed << 8 | seed[i];
    if (j->march != NULL && !job_is_march(j->march))
        return err_set(err, ERR_INVALID, "'march' is '%.64s'; allowed is a word such as native",
                       j->march);
    if ((j->baseline_key && !is_token(j->baseline_key, "", 128)) ||
        (j->module_key && !is_token(j->module_key, "", 128)))
        return err_set(err, ERR_INVALID, "'baseline_key' and 'module_key' are hexadecimal digits");
    if (j->march != NULL) {
        free(job->march);
        job->march = TAKE(j->march);
    }
    return 0;
}

static int job_fill(struct job *job, struct job_json *j, const char *dir, struct err *err)
{
    if (j->format != 1)
        return err_set(err, ERR_INVALID, "'format' is %llu; allowed is 1",
                       (unsigned long long)j->format);
    if (parse_words(j, job, err) != 0)
        return -1;
    job->pack = TAKE(j->pack);
    job->definition = TAKE(j->definition);
    job->set = TAKE(j->set);
    job->cache = TAKE(j->cache);
    job->baseline_key = TAKE(j->baseline_key);
    job->module_key = TAKE(j->module_key);
    job->threads = (int)j->threads;
    job->slot = (int)j->slot;
    job->sandbox = j->sandbox == 0 ? SANDBOX_BWRAP : SANDBOX_NONE;
    if (j->limits && param_parse(limit_rows, j->limits, job, err) != 0)
        return err_ctx(err, "'limits'");
    if (j->device && param_parse(device_rows, j->device, job, err) != 0)
        return err_ctx(err, "'device'");
    if (parse_timing(j->timing, job, err) != 0 || parse_known(j->known_objects, job, err) != 0)
        return -1;
    if (parse_program(dir, j->candidate, &job->candidate, err) != 0)
        return err_ctx(err, "'candidate'");
    if (j->champion && parse_program(dir, j->champion, &job->champion, err) != 0)
        return err_ctx(err, "'champion'");
    return 0;
}

int job_new(struct job **out, struct err *err)
{
    struct job *job = calloc(1, sizeof(*job));

    if (job == NULL || (job->march = strdup("native")) == NULL) {
        free(job);
        return err_set(err, ERR_NOMEM, "no memory");
    }
    job->threads = 1;
    job->build_s = 60;
    job->run_s = 30;
    job->memory_bytes = 4ull << 30;
    job->output_bytes = 1 << 20;
    job->cache_bytes = CACHE_BYTES_MAX;
    job->pairs_min = 5;
    job->pairs_max = 25;
    job->budget_s = 0.6;
    *out = job;
    return 0;
}

int job_load(const char *dir, struct job **out, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/job.json", dir);
    CLEANUP(job_json_release) struct job_json j = { .threads = 1 };
    json_auto_t *root = NULL;
    struct job *job = NULL;

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory");
    if (jsonx_load(path, JOB_JSON_MAX, &root, err) != 0)
        return -1;
    if (job_new(&job, err) != 0)
        return -1;
    if (param_parse(job_rows, root, &j, err) != 0 || job_fill(job, &j, dir, err) != 0) {
        job_free(job);
        return err_ctx(err, "'%s'", path);
    }
    *out = job;
    return 0;
}

void job_free(struct job *j)
{
    if (j == NULL)
        return;
    program_release(&j->candidate);
    program_release(&j->champion);
    free(j->pack);
    free(j->definition);
    free(j->set);
    free(j->march);
    free(j->cache);
    free(j->baseline_key);
    free(j->module_key);
    free(j->known);
    free(j);
}
