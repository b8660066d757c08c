/* SPDX-License-Identifier: Apache-2.0 */
/* The stored document of a search, and what it was asked and found there; see search.h. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "search/search_impl.h"
#include "search/spend.h"
#include "search/strategy.h"

/* What a search may have besides evaluations and time, and when it may stop early. */
static json_t *limits_json(const struct search_spec *spec)
{
    return json_pack("{s:o, s:I, s:I, s:I, s:I, s:f, s:f}", "given", spend_given_to_json(spec),
                     "tokens", (json_int_t)spec->budget_tokens, "usd_q",
                     (json_int_t)spec->budget_usd_q, "device_ns",
                     (json_int_t)spec->budget_device_ns, "lanes", (json_int_t)spec->lanes,
                     "roofline", spec->stop_roofline, "gain", spec->stop_gain);
}

static int parse_limits(const json_t *limits, struct search_spec *spec, struct err *err)
{
    spec->budget_tokens = (uint64_t)jsonx_int(limits, "tokens", 0);
    spec->budget_usd_q = (uint64_t)jsonx_int(limits, "usd_q", 0);
    spec->budget_device_ns = (uint64_t)jsonx_int(limits, "device_ns", 0);
    spec->lanes = (uint32_t)jsonx_int(limits, "lanes", 1);
    spec->stop_roofline = jsonx_num(limits, "roofline", 0);
    spec->stop_gain = jsonx_num(limits, "gain", 0);
    return spend_given_from_json(json_object_get(limits, "given"), spec, err);
}

json_t *search_document(const struct search_spec *spec, const struct search_scope *scope,
                        uint64_t created_s)
{
    char seed[20];
    json_t *doc;

    snprintf(seed, sizeof(seed), "%016llx", (unsigned long long)spec->seed);
    doc = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:I, s:s}", "id",
                    spec->id, "task", spec->task, "device", spec->device, "set", spec->set,
                    "proposer", spec->proposer, "strategy", spec->strategy, "policy",
                    select_policy_name(spec->policy), "cold", spec->cold, "seed", seed,
                    "budget_evals", (json_int_t)spec->budget_evals, "budget_time_ns",
                    (json_int_t)spec->budget_time_ns, "window", (json_int_t)spec->window, "created",
                    (json_int_t)created_s, "state", search_state_name(SEARCH_QUEUED));
    if (doc != NULL) {
        json_object_set_new(
            doc, "memory",
            memory_parts_json(spec->cold ? 0 : (unsigned)MEMORY_ALL & ~spec->without));
        json_object_set_new(doc, "limits", limits_json(spec));
        if (scope->brief != NULL)
            json_object_set(doc, "brief", scope->brief);
        if (spec->holdout != NULL)
            json_object_set_new(doc, "holdout", json_string(spec->holdout));
    }
    if (doc != NULL)
        json_object_set_new(
            doc, "scope",
            json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:O, s:O, s:s, s:f, s:f}", "family",
                      scope->family, "shape", scope->shape, "dtype", scope->dtype, "language",
                      scope->language, "bottleneck", scope->bottleneck, "device_class",
                      scope->device_class, "toolchain", scope->toolchain, "march",
                      scope->march ? scope->march : "native", "features", scope->features,
                      "relatives", scope->relatives, "program", scope->program.hex, "read_gbs",
                      scope->read_gbs, "fma_gflops", scope->fma_gflops));
    return doc;
}

static char *dup_field(const json_t *doc, const char *key)
{
    return xstrdup(jsonx_str(doc, key, ""));
}

static int parse_fields(const json_t *doc, struct search *s, struct err *err)
{
    const json_t *scope = json_object_get(doc, "scope");
    const char *seed = jsonx_str(doc, "seed", "");

    if (!str_copy(s->spec.id, sizeof(s->spec.id), jsonx_str(doc, "id", "")) || !s->spec.id[0] ||
        !str_is_hex(seed, 16) || !json_is_object(scope) ||
        !str_copy(s->scope.program.hex, sizeof(s->scope.program.hex),
                  jsonx_str(scope, "program", "")))
        return err_set(err, ERR_CORRUPT, "the stored document of search '%s' is damaged",
                       jsonx_str(doc, "id", "?"));
    s->spec.task = dup_field(doc, "task");
    s->spec.device = dup_field(doc, "device");
    s->spec.set = dup_field(doc, "set");
    if (json_object_get(doc, "holdout") != NULL)
        s->spec.holdout = dup_field(doc, "holdout");
    s->spec.proposer = dup_field(doc, "proposer");
    s->spec.strategy = dup_field(doc, "strategy");
    s->spec.policy = select_policy_from_name(jsonx_str(doc, "policy", ""));
    s->spec.cold = jsonx_bool(doc, "cold", 0);
    s->spec.seed = strtoull(seed, NULL, 16);
    s->spec.budget_evals = (uint64_t)jsonx_int(doc, "budget_evals", SEARCH_EVALS_DEFAULT);
    s->spec.budget_time_ns = (uint64_t)jsonx_int(doc, "budget_time_ns", 0);
    s->spec.window = (uint32_t)jsonx_int(doc, "window", 1);
    if (parse_limits(json_object_get(doc, "limits"), &s->spec, err) != 0)
        return -1;
    s->strategy = strategy_find(s->spec.strategy);
    s->scope.brief = json_incref(json_object_get(doc, "brief"));
    s->created_s = (uint64_t)jsonx_int(doc, "created", 0);
    s->scope.family = dup_field(scope, "family");
    s->scope.shape = dup_field(scope, "shape");
    s->scope.dtype = dup_field(scope, "dtype");
    s->scope.language = dup_field(scope, "language");
    s->scope.bottleneck = dup_field(scope, "bottleneck");
    s->scope.device_class = dup_field(scope, "device_class");
    s->scope.toolchain = dup_field(scope, "toolchain");
    s->scope.march = xstrdup(jsonx_str(scope, "march", "native"));
    s->scope.features = json_incref(json_object_get(scope, "features"));
    s->scope.relatives = json_incref(json_object_get(scope, "relatives"));
    s->scope.read_gbs = jsonx_num(scope, "read_gbs", 0);
    s->scope.fma_gflops = jsonx_num(scope, "fma_gflops", 0);
    if (s->spec.policy == SELECT_POLICY_COUNT || s->spec.window == 0 || s->spec.lanes == 0 ||
        s->spec.lanes > LANES_MAX || s->strategy == NULL)
        return err_set(err, ERR_CORRUPT, "the stored document of search '%s' is damaged",
                       s->spec.id);
    return 0;
}

/* Searches stored before there were parts had them all. */
static int parse_parts(const json_t *doc, struct search *s, struct err *err)
{
    const json_t *stored = json_object_get(doc, "memory");
    unsigned parts = MEMORY_ALL;

    if (stored != NULL && !s->spec.cold && memory_parts_parse(stored, &parts, err) != 0)
        return err_set(err, ERR_CORRUPT, "the stored document of search '%s' is damaged",
                       s->spec.id);
    s->spec.without = (unsigned)MEMORY_ALL & ~parts;
    return 0;
}

int search_parse_document(const json_t *doc, struct search *s, struct err *err)
{
    return parse_fields(doc, s, err) != 0 || parse_parts(doc, s, err) != 0 ? -1 : 0;
}

void search_spec_release(struct search_spec *spec)
{
    free(spec->task);
    free(spec->device);
    free(spec->set);
    free(spec->holdout);
    free(spec->proposer);
    free(spec->strategy);
    memset(spec, 0, sizeof(*spec));
}

void search_scope_release(struct search_scope *scope)
{
    free(scope->family);
    free(scope->shape);
    free(scope->dtype);
    free(scope->language);
    free(scope->bottleneck);
    free(scope->device_class);
    free(scope->toolchain);
    free(scope->march);
    json_decref(scope->features);
    json_decref(scope->relatives);
    json_decref(scope->brief);
    memset(scope, 0, sizeof(*scope));
}
