/* SPDX-License-Identifier: Apache-2.0 */
/* Trying a task pack; see selfcheck.h. */
#include "selfcheck.h"

#include <math.h>
#include <stdio.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "evaluate.h"

/* An enumerated tunable: the index of its value, and one macro per value with its index. */
static int define_enum(const char *name, const json_t *values, const json_t *chosen,
                       struct program *out, struct err *err)
{
    char macro[200], number[24];
    bool found = false;
    size_t i;
    json_t *v;

    json_array_foreach ((json_t *)values, i, v) {
        const char *value = json_string_value(v);

        if (value == NULL)
            return err_set(err, ERR_INVALID, "a value of '%.64s' is not a string", name);
        snprintf(macro, sizeof(macro), "%.96s_%.96s", name, value);
        snprintf(number, sizeof(number), "%zu", i);
        if (program_define(out, macro, number, err) != 0)
            return -1;
        if (json_equal(v, chosen)) {
            found = true;
            if (program_define(out, name, number, err) != 0)
                return -1;
        }
    }
    return found
               ? 0
               : err_set(err, ERR_INVALID, "the default of '%.64s' is not one of its values", name);
}

static int define_one(const json_t *parameter, struct program *out, struct err *err)
{
    const char *name = jsonx_str(parameter, "name", "");
    const json_t *v = json_object_get(parameter, "default");
    char text[64];

    if (strcmp(jsonx_str(parameter, "type", ""), "enum") == 0)
        return define_enum(name, json_object_get(parameter, "values"), v, out, err);
    if (json_is_boolean(v))
        str_copy(text, sizeof(text), json_is_true(v) ? "1" : "0");
    else if (json_is_integer(v))
        snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        snprintf(text, sizeof(text), "%.17g", json_real_value(v));
    else
        return err_set(err, ERR_INVALID, "parameter '%.64s' has no default of its type", name);
    return program_define(out, name, text, err);
}

int selfcheck_defaults(const char *space, struct program *out, struct err *err)
{
    json_auto_t *root = NULL;
    json_t *parameter;
    size_t i;

    if (jsonx_parse(space, strlen(space), "template space", &root, err) != 0)
        return -1;
    if (!json_is_array(json_object_get(root, "parameters")))
        return err_set(err, ERR_INVALID, "the template space has no list 'parameters'");
    json_array_foreach (json_object_get(root, "parameters"), i, parameter) {
        if (define_one(parameter, out, err) != 0)
            return -1;
    }
    return 0;
}

static int try_program(struct job *job, const struct pack *pack, const char *what, struct err *err)
{
    CLEANUP(evaluation_release) struct evaluation e = { 0 };

    evaluate(job, pack, &e);
    if (e.fail.class != FAIL_OK)
        return err_set(err, e.fail.code == ERR_REFUSED ? ERR_REFUSED : ERR_FAILED, "%s: %s: %.400s",
                       what, fail_name(e.fail.class), e.fail.msg);
    printf("%s: ok, %.3f times the baseline's speed (%.3f to %.3f), %d workloads, %.2f s\n", what,
           exp(e.objective.log_ratio), exp(e.objective.log_ratio - e.objective.half),
           exp(e.objective.log_ratio + e.objective.half), e.n_results, (double)e.total_ns / 1e9);
    return 0;
}

static int try_pack(struct job *job, const struct pack *pack, struct err *err)
{
    CLEANUP(freep) char *space = NULL;

    if (pack_read(pack, pack->baseline, &job->candidate.source, err) != 0 ||
        try_program(job, pack, "baseline", err) != 0)
        return -1;
    if (pack->template_source == NULL)
        return 0;
    program_release(&job->candidate);
    if (pack_read(pack, pack->template_source, &job->candidate.source, err) != 0 ||
        pack_read(pack, pack->template_space, &space, err) != 0 ||
        selfcheck_defaults(space, &job->candidate, err) != 0)
        return err_ctx(err, "template");
    return try_program(job, pack, "template", err);
}

static int fill_job(struct job *job, const char *pack_dir, const char *definition, const char *set,
                    struct err *err)
{
    job->pack = strdup(pack_dir);
    job->definition = strdup(definition);
    job->set = strdup(set);
    job->threads = 2;
    job->slot = JOB_SLOTS - 1; /* out of the way of a daemon's */
    job->run_s = 600;
    if (rng_os(&job->seed, sizeof(job->seed)) != 0)
        return err_set(err, ERR_IO, "the kernel gives no random numbers");
    return job->pack && job->definition && job->set ? 0 : err_set(err, ERR_NOMEM, "no memory");
}

int selfcheck(const char *pack_dir, const char *definition, const char *set, struct err *err)
{
    struct job *job = NULL;
    struct pack *pack = NULL;
    int rc;

    if (job_new(&job, err) != 0)
        return -1;
    rc = fill_job(job, pack_dir, definition, set, err);
    if (rc == 0)
        rc = pack_load(pack_dir, definition, set, &pack, err);
    if (rc == 0)
        rc = try_pack(job, pack, err);
    pack_free(pack);
    job_free(job);
    return rc;
}
