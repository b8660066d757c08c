/* SPDX-License-Identifier: Apache-2.0 */
/* What an endpoint's errors mean; see openai_wire.h. */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "llm/openai_wire.h"

enum { SEARCHED_BYTES = 4096 };

/* What an endpoint that does not know a feature says, in whatever case. */
static const struct {
    enum wire_feature feature;
    const char *says;
} features[] = {
    { WIRE_SCHEMA, "response_format" },
    { WIRE_SCHEMA, "text.format" },
    { WIRE_SCHEMA, "json_schema" },
    { WIRE_SCHEMA, "structured output" },
    { WIRE_TEMPERATURE, "temperature" },
    { WIRE_EFFORT, "reasoning" },
    { WIRE_MAX_TOKENS, "max_completion_tokens" },
    { WIRE_USAGE, "stream_options" },
    { WIRE_USAGE, "include_usage" },
    { WIRE_STORE, "'store'" },
    { WIRE_STORE, "store parameter" },
    { WIRE_STREAM, "stream" },
};

static const char *const too_long[] = { "context_length_exceeded", "context length",
                                        "context window",          "maximum context",
                                        "prompt is too long",      "too many tokens",
                                        "string_above_max_length" };

static const char *const no_money[] = { "insufficient_quota", "billing", "credit balance" };

static bool says_any(const char *text, const char *const *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcasestr(text, list[i]) != NULL)
            return true;
    return false;
}

static unsigned feature_named(const char *text, unsigned used)
{
    for (size_t i = 0; i < ARRAY_LEN(features); i++)
        if ((used & features[i].feature) && strcasestr(text, features[i].says) != NULL)
            return features[i].feature;
    return 0;
}

static enum wire_fault_kind kind_of_status(long status)
{
    switch (status) {
    case 400:
    case 422:
        return WIRE_INVALID;
    case 413:
        return WIRE_TOO_LONG;
    case 429:
        return WIRE_BUSY;
    case 408:
    case 409:
    case 425:
        return WIRE_LATER;
    default:
        return status >= 500 ? WIRE_LATER : WIRE_REFUSED;
    }
}

/* All texts of an error, blanks between, for the search of what they name. */
static void error_texts(const json_t *error, char out[SEARCHED_BYTES])
{
    static const char *const members[] = { "message", "code", "type", "param", "detail" };
    size_t n = 0;

    out[0] = '\0';
    if (json_is_string(error))
        str_copy(out, SEARCHED_BYTES, json_string_value(error));
    for (size_t i = 0; i < ARRAY_LEN(members) && json_is_object(error); i++) {
        const char *s = jsonx_str(error, members[i], NULL);

        if (s == NULL || n + 1 >= SEARCHED_BYTES)
            continue;
        str_copy(out + n, SEARCHED_BYTES - n, s);
        n += strlen(out + n);
        str_copy(out + n, SEARCHED_BYTES - n, " ");
        n += n + 1 < SEARCHED_BYTES;
    }
}

static void set_words(struct wire_fault *f, const json_t *error, const char *body, size_t len)
{
    const char *words =
        json_is_string(error) ? json_string_value(error) : jsonx_str(error, "message", NULL);

    if (words == NULL)
        words = jsonx_str(error, "detail", NULL);
    if (words == NULL && len == 0)
        words = "nothing";
    if (words == NULL)
        str_visible(body, strnlen(body, len), f->words, sizeof(f->words));
    else
        str_visible(words, strlen(words), f->words, sizeof(f->words));
}

/* The object that holds the error's words: `error`, the first of a list, or the whole. */
static const json_t *error_of(const json_t *reply)
{
    const json_t *error;

    if (json_is_array(reply))
        reply = json_array_get(reply, 0);
    error = json_object_get(reply, "error");
    return error != NULL && !json_is_null(error) ? error : reply;
}

void wire_fault_read(long status, const char *body, size_t len, unsigned used,
                     struct wire_fault *out)
{
    json_auto_t *reply = NULL;
    char texts[SEARCHED_BYTES];
    struct err ignored;

    *out = (struct wire_fault){ .kind = kind_of_status(status) };
    if (len > 0 && jsonx_parse(body, len, "", &reply, &ignored) == 0) {
        error_texts(error_of(reply), texts);
        set_words(out, error_of(reply), body, len);
    }
    if (reply == NULL || texts[0] == '\0') {
        size_t n = MIN(strnlen(body, len), sizeof(texts) - 1);

        memcpy(texts, body, n);
        texts[n] = '\0';
        set_words(out, NULL, body, len);
    }
    if (out->kind == WIRE_BUSY && says_any(texts, no_money, ARRAY_LEN(no_money)))
        out->kind = WIRE_REFUSED;
    if (out->kind == WIRE_INVALID && says_any(texts, too_long, ARRAY_LEN(too_long)))
        out->kind = WIRE_TOO_LONG;
    else if ((out->kind == WIRE_INVALID || status == 404) &&
             strcasestr(texts, "v1/responses") != NULL)
        out->kind = WIRE_OTHER_API;
    else if (out->kind == WIRE_INVALID && (out->feature = feature_named(texts, used)) != 0)
        out->kind = WIRE_LACKS;
}

void wire_fault_of_error(const json_t *error, struct wire_fault *out)
{
    static const char *const busy[] = { "rate_limit", "overloaded", "too many requests" };
    long status = (long)jsonx_int(error, "code", 0);
    char texts[SEARCHED_BYTES];

    *out = (struct wire_fault){ .kind = WIRE_LATER };
    error_texts(error, texts);
    set_words(out, error, "", 0);
    if (status >= 400 && status < 600)
        out->kind = kind_of_status(status);
    else if (says_any(texts, no_money, ARRAY_LEN(no_money)))
        out->kind = WIRE_REFUSED;
    else if (says_any(texts, too_long, ARRAY_LEN(too_long)))
        out->kind = WIRE_TOO_LONG;
    else if (says_any(texts, busy, ARRAY_LEN(busy)))
        out->kind = WIRE_BUSY;
    else if (strcasestr(texts, "invalid_request") != NULL || strcasestr(texts, "invalid_prompt"))
        out->kind = WIRE_INVALID;
}
