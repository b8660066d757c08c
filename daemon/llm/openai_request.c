/* SPDX-License-Identifier: Apache-2.0 */
/* Bodies and addresses of requests; see openai_wire.h. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "llm/openai_wire.h"

char *wire_url(const char *url, enum llm_api api)
{
    static const char *const names[] = { "/chat/completions", "/responses" };
    const char *name = names[api == LLM_API_RESPONSES];
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        len--;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        size_t n = strlen(names[i]);

        if (len > n && memcmp(url + len - n, names[i], n) == 0)
            return str_printf("%.*s%s", (int)(len - n), url, name);
    }
    if (len >= 3 && memcmp(url + len - 3, "/v1", 3) == 0)
        len -= 3;
    return str_printf("%.*s/v1%s", (int)len, url, name);
}

/* Whether every object of the schema names all its members and no others: what endpoints ask of a
 * schema that they are to keep to by the letter. */
static bool is_strict(const json_t *schema)
{
    const json_t *properties = json_object_get(schema, "properties"), *v;
    const char *key;
    size_t i;

    if (json_is_array(schema)) {
        json_array_foreach (schema, i, v)
            if (!is_strict(v))
                return false;
        return true;
    }
    if (!json_is_object(schema))
        return true;
    if (json_is_object(properties) &&
        (!json_is_false(json_object_get(schema, "additionalProperties")) ||
         json_array_size(json_object_get(schema, "required")) != json_object_size(properties)))
        return false;
    json_object_foreach ((json_t *)schema, key, v)
        if (!is_strict(v))
            return false;
    return true;
}

/* {name, strict, schema}, and `type` where the interface has it in the same object. */
static json_t *schema_format(const struct wire_request *r, bool flat)
{
    json_t *inner =
        json_pack("{s:s, s:b, s:O}", "name", r->schema_name != NULL ? r->schema_name : "answer",
                  "strict", is_strict(r->schema), "schema", (json_t *)r->schema);

    if (flat) {
        json_object_set_new(inner, "type", json_string("json_schema"));
        return inner;
    }
    return json_pack("{s:s, s:o}", "type", "json_schema", "json_schema", inner);
}

static json_t *messages(const struct wire_request *r)
{
    const char *between = r->prefix[0] != '\0' && r->prompt[0] != '\0' ? "\n\n" : "";
    CLEANUP(freep) char *user = str_printf("%s%s%s", r->prefix, between, r->prompt);
    json_t *list = json_array();

    if (r->system[0] != '\0')
        json_array_append_new(list,
                              json_pack("{s:s, s:s}", "role", "system", "content", r->system));
    json_array_append_new(list, json_pack("{s:s, s:s}", "role", "user", "content", user));
    if (json_array_size(list) == (r->system[0] != '\0' ? 2u : 1u))
        return list;
    json_decref(list); /* a text that is no UTF-8 */
    return NULL;
}

static void add_chat(json_t *body, const struct wire_request *r, unsigned use)
{
    if (use & WIRE_SCHEMA)
        json_object_set_new(body, "response_format", schema_format(r, false));
    if (use & WIRE_EFFORT)
        json_object_set_new(body, "reasoning_effort", json_string(r->effort));
    if (r->max_tokens > 0)
        json_object_set_new(body, use & WIRE_MAX_TOKENS ? "max_tokens" : "max_completion_tokens",
                            json_integer((json_int_t)r->max_tokens));
    if (use & WIRE_USAGE)
        json_object_set_new(body, "stream_options", json_pack("{s:b}", "include_usage", 1));
}

static void add_responses(json_t *body, const struct wire_request *r, unsigned use)
{
    if (use & WIRE_SCHEMA)
        json_object_set_new(body, "text", json_pack("{s:o}", "format", schema_format(r, true)));
    if (use & WIRE_EFFORT)
        json_object_set_new(body, "reasoning", json_pack("{s:s}", "effort", r->effort));
    if (r->max_tokens > 0)
        json_object_set_new(body, "max_output_tokens", json_integer((json_int_t)r->max_tokens));
    if (use & WIRE_STORE)
        json_object_set_new(body, "store", json_false());
}

/* Which features this request has a use for. */
static unsigned features_of(const struct wire_request *r)
{
    bool chat = r->api == LLM_API_CHAT;
    unsigned f = WIRE_STREAM;

    f |= r->schema != NULL ? WIRE_SCHEMA : 0;
    f |= r->temperature >= 0 ? WIRE_TEMPERATURE : 0;
    f |= r->effort != NULL ? WIRE_EFFORT : 0;
    f |= chat && r->max_tokens > 0 ? WIRE_MAX_TOKENS : 0;
    f |= chat && (r->features & WIRE_STREAM) ? WIRE_USAGE : 0;
    f |= chat ? 0 : WIRE_STORE;
    return f & r->features;
}

int wire_body(const struct wire_request *r, char **out, unsigned *used, struct err *err)
{
    unsigned use = features_of(r);
    json_auto_t *body = json_object();
    json_t *texts = messages(r);

    if (texts == NULL)
        return err_set(err, ERR_INVALID,
                       "a prompt for the model '%s' holds bytes that are no UTF-8", r->model);
    json_object_set_new(body, "model", json_string(r->model));
    json_object_set_new(body, r->api == LLM_API_CHAT ? "messages" : "input", texts);
    json_object_set_new(body, "stream", json_boolean(use & WIRE_STREAM));
    if (use & WIRE_TEMPERATURE)
        json_object_set_new(body, "temperature", json_real(r->temperature));
    if (r->api == LLM_API_CHAT)
        add_chat(body, r, use);
    else
        add_responses(body, r, use);
    *out = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(6));
    if (*out == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a request to the model '%s'", r->model);
    *used = use;
    return 0;
}
