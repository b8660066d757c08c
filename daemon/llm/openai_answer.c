/* SPDX-License-Identifier: Apache-2.0 */
/* Answers, whole and in pieces; see openai_wire.h. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "llm/openai_wire.h"

enum { TOKENS_MAX = 1000000000 };

void wire_answer_release(struct wire_answer *a)
{
    buf_release(&a->text);
}

/* ---- Parts that both interfaces have ---- */

static int malformed(struct err *err, const char *what)
{
    return err_set(err, ERR_UPSTREAM, "the answer is not of the form that was asked for: %s", what);
}

static int parse(const char *text, size_t len, json_t **out, struct err *err)
{
    if (jsonx_parse(text, len, "the answer", out, err) != 0) {
        if (err->code == ERR_INVALID)
            err->code = ERR_UPSTREAM;
        return -1;
    }
    if (json_is_object(*out))
        return 0;
    json_decref(*out);
    *out = NULL; /* the caller frees what it finds there */
    return malformed(err, "no object");
}

static int add_text(struct wire_answer *a, const char *s, size_t len, struct err *err)
{
    a->text.max = LLM_ANSWER_MAX;
    if (buf_add(&a->text, s, len, err) != 0)
        return err->code == ERR_LIMIT
                   ? err_set(err, ERR_LIMIT, "the answer has more than the %d bytes allowed",
                             LLM_ANSWER_MAX)
                   : -1;
    return 0;
}

static bool read_count(const json_t *o, const char *key, uint64_t *out)
{
    const json_t *v = json_object_get(o, key);
    json_int_t n = json_integer_value(v);

    if (!json_is_integer(v) || n < 0 || n > TOKENS_MAX)
        return false;
    *out = (uint64_t)n;
    return true;
}

/* Takes the count when it makes sense; otherwise tokens are estimated. */
static void take_usage(struct wire_answer *a, const json_t *usage, const char *in, const char *out,
                       const char *details)
{
    uint64_t cached = 0;

    if (!json_is_object(usage) || !read_count(usage, in, &a->in) ||
        !read_count(usage, out, &a->out))
        return;
    a->counted = true;
    read_count(json_object_get(usage, details), "cached_tokens", &cached);
    a->cached = MIN(cached, a->in);
}

static void fail_with(struct wire_answer *a, const json_t *error)
{
    wire_fault_of_error(error, &a->fault);
    a->end = WIRE_FAILED;
    a->over = true;
}

/* A refusal's words stand for the text. */
static int decline(struct wire_answer *a, const json_t *words, struct err *err)
{
    if (!json_is_string(words) || json_string_length(words) == 0)
        return 0;
    if (a->end != WIRE_DECLINED)
        buf_clear(&a->text);
    a->end = WIRE_DECLINED;
    return add_text(a, json_string_value(words), json_string_length(words), err);
}

/* ---- Chat completions ---- */

/* A text, or a list of parts of which those with a text count. */
static int add_content(struct wire_answer *a, const json_t *content, struct err *err)
{
    const json_t *part;
    size_t i;

    if (a->end == WIRE_DECLINED)
        return 0;
    if (json_is_string(content))
        return add_text(a, json_string_value(content), json_string_length(content), err);
    json_array_foreach (content, i, part) {
        const json_t *text = json_object_get(part, "text");

        if (json_is_string(text) &&
            add_text(a, json_string_value(text), json_string_length(text), err) != 0)
            return -1;
    }
    return 0;
}

static void take_finish(struct wire_answer *a, const json_t *reason)
{
    const char *why = json_string_value(reason);

    if (why == NULL || a->end == WIRE_DECLINED)
        return;
    a->end = strcmp(why, "length") == 0           ? WIRE_CUT
             : strcmp(why, "content_filter") == 0 ? WIRE_FILTERED
                                                  : WIRE_COMPLETE;
}

/* The choice with index 0; NULL when there is none. */
static const json_t *first_choice(const json_t *choices)
{
    const json_t *c;
    size_t i;

    json_array_foreach (choices, i, c)
        if (jsonx_int(c, "index", 0) == 0)
            return c;
    return NULL;
}

/* A whole answer has `message`, a piece has `delta`. */
static int take_chat(struct wire_answer *a, const json_t *j, const char *member, struct err *err)
{
    const json_t *error = json_object_get(j, "error"), *choice, *message;

    if (error != NULL && !json_is_null(error)) {
        fail_with(a, error);
        return 0;
    }
    take_usage(a, json_object_get(j, "usage"), "prompt_tokens", "completion_tokens",
               "prompt_tokens_details");
    choice = first_choice(json_object_get(j, "choices"));
    message = json_object_get(choice, member);
    if (decline(a, json_object_get(message, "refusal"), err) != 0 ||
        add_content(a, json_object_get(message, "content"), err) != 0)
        return -1;
    take_finish(a, json_object_get(choice, "finish_reason"));
    return 0;
}

static int whole_chat(struct wire_answer *a, const json_t *j, struct err *err)
{
    const json_t *choice = first_choice(json_object_get(j, "choices"));

    if (take_chat(a, j, "message", err) != 0)
        return -1;
    if (a->end == WIRE_FAILED)
        return 0;
    if (!json_is_object(json_object_get(choice, "message")))
        return malformed(err, "choices[0].message is missing");
    if (a->end == WIRE_OPEN) /* some leave finish_reason out */
        a->end = WIRE_COMPLETE;
    return 0;
}

/* ---- Responses ---- */

static int add_item(struct wire_answer *a, const json_t *item, struct err *err)
{
    const json_t *part;
    size_t i;

    if (strcmp(jsonx_str(item, "type", ""), "message") != 0)
        return 0;
    json_array_foreach (json_object_get(item, "content"), i, part) {
        const json_t *text = json_object_get(part, "text");
        const char *type = jsonx_str(part, "type", "");

        if (strcmp(type, "refusal") == 0 && decline(a, json_object_get(part, "refusal"), err) != 0)
            return -1;
        if (strcmp(type, "output_text") == 0 && json_is_string(text) && a->end != WIRE_DECLINED &&
            add_text(a, json_string_value(text), json_string_length(text), err) != 0)
            return -1;
    }
    return 0;
}

/* The response object of a whole answer and of the last event. */
static int take_response(struct wire_answer *a, const json_t *r, struct err *err)
{
    const char *status = jsonx_str(r, "status", "");
    const char *why = jsonx_str(json_object_get(r, "incomplete_details"), "reason", "");
    const json_t *output = json_object_get(r, "output"), *item;
    size_t i;

    a->over = true;
    take_usage(a, json_object_get(r, "usage"), "input_tokens", "output_tokens",
               "input_tokens_details");
    if (strcmp(status, "failed") == 0) {
        fail_with(a, json_object_get(r, "error"));
        return 0;
    }
    if (a->text.len == 0)
        json_array_foreach (output, i, item)
            if (add_item(a, item, err) != 0)
                return -1;
    if (a->end == WIRE_DECLINED)
        return 0;
    if (strcmp(status, "incomplete") == 0)
        a->end = strcmp(why, "content_filter") == 0 ? WIRE_FILTERED : WIRE_CUT;
    else if (strcmp(status, "completed") == 0)
        a->end = WIRE_COMPLETE;
    else
        return malformed(err, "its status is none of completed, incomplete and failed");
    return 0;
}

static int take_response_event(struct wire_answer *a, const char *type, const json_t *j,
                               struct err *err)
{
    const json_t *delta = json_object_get(j, "delta"), *error = json_object_get(j, "error");

    if (strcmp(type, "response.output_text.delta") == 0 && json_is_string(delta) &&
        a->end != WIRE_DECLINED)
        return add_text(a, json_string_value(delta), json_string_length(delta), err);
    if (strcmp(type, "response.refusal.delta") == 0)
        return decline(a, delta, err);
    if (strcmp(type, "error") == 0) {
        fail_with(a, json_is_object(error) ? error : j);
        return 0;
    }
    if (strcmp(type, "response.completed") == 0 || strcmp(type, "response.incomplete") == 0 ||
        strcmp(type, "response.failed") == 0)
        return take_response(a, json_object_get(j, "response"), err);
    return 0;
}

/* Events say what they are by name; most of the long ones repeat what came before. */
static bool is_of_use(const char *name)
{
    static const char *const used[] = { "message",
                                        "error",
                                        "response.output_text.delta",
                                        "response.refusal.delta",
                                        "response.completed",
                                        "response.incomplete",
                                        "response.failed" };

    for (size_t i = 0; i < ARRAY_LEN(used); i++)
        if (strcmp(used[i], name) == 0)
            return true;
    return false;
}

/* ---- Both ---- */

int wire_whole(enum llm_api api, const char *body, size_t len, struct wire_answer *a,
               struct err *err)
{
    json_auto_t *j = NULL;
    const json_t *error;

    if (parse(body, len, &j, err) != 0)
        return -1;
    a->over = true;
    if (api == LLM_API_CHAT)
        return whole_chat(a, j, err);
    error = json_object_get(j, "error");
    if (error != NULL && !json_is_null(error)) {
        fail_with(a, error);
        return 0;
    }
    return take_response(a, j, err);
}

int wire_event(enum llm_api api, const char *name, const char *data, size_t len,
               struct wire_answer *a, struct err *err)
{
    json_auto_t *j = NULL;

    if (a->over || (api == LLM_API_RESPONSES && !is_of_use(name)))
        return 0;
    if (strcmp(data, "[DONE]") == 0) {
        a->over = true;
        if (a->end == WIRE_OPEN && a->text.len > 0)
            a->end = WIRE_COMPLETE;
        return 0;
    }
    if (parse(data, len, &j, err) != 0)
        return -1;
    if (api == LLM_API_RESPONSES)
        return take_response_event(a, jsonx_str(j, "type", name), j, err);
    if (strcmp(name, "error") == 0 && json_object_get(j, "error") == NULL) {
        fail_with(a, j);
        return 0;
    }
    return take_chat(a, j, "delta", err);
}
