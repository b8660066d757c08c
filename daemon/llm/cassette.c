/* SPDX-License-Identifier: Apache-2.0 */
/* Recorded answers of language models, read and written; see cassette.h. */
#include "llm/cassette.h"

#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { CASSETTE_MAX = 256 << 20, NO_ENTRY = -1 };

/* One line. Those of one hash are chained in the order of the file. */
struct entry {
    json_t *line; /* owns the texts */
    json_int_t next;
};

struct cassette {
    struct entry *entries;
    size_t n, cap;
    json_t *now;  /* hash to the entry that the next request gets */
    json_t *last; /* hash to the end of its chain */
};

/* ---- Reading ---- */

static int check_count(const json_t *line, const char *key, struct err *err)
{
    const json_t *v = json_object_get(line, key);

    if (v == NULL || (json_is_integer(v) && json_integer_value(v) >= 0))
        return 0;
    return err_set(err, ERR_INVALID, "'%s' must be an integer of 0 or more", key);
}

static int check_numbers(const json_t *line, struct err *err)
{
    static const char *const counts[] = { "attempt",    "tokens_in", "tokens_cached",
                                          "tokens_out", "usd_q",     "call" };
    const json_t *seconds = json_object_get(line, "seconds");

    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (check_count(line, counts[i], err) != 0)
            return -1;
    if (seconds != NULL && !(json_is_number(seconds) && json_number_value(seconds) >= 0))
        return err_set(err, ERR_INVALID, "'seconds' must be a number of 0 or more");
    return 0;
}

static int check_texts(const json_t *line, struct err *err)
{
    const json_t *model = json_object_get(line, "model"), *role = json_object_get(line, "role");
    const json_t *answer = json_object_get(line, "answer");

    if (!str_is_hex(jsonx_str(line, "hash", ""), LLM_HASH_HEX))
        return err_set(err, ERR_INVALID, "'hash' must be %d hexadecimal digits", LLM_HASH_HEX);
    if (!*jsonx_str(line, "kind", ""))
        return err_set(err, ERR_INVALID, "'kind' must name the kind of the call");
    if (!json_is_string(answer) || json_string_length(answer) == 0 ||
        json_string_length(answer) != strlen(json_string_value(answer)))
        return err_set(err, ERR_INVALID, "'answer' must be a text that is not empty");
    if (json_string_length(answer) > LLM_ANSWER_MAX)
        return err_set(err, ERR_LIMIT, "'answer' has %zu bytes; at most %d",
                       json_string_length(answer), LLM_ANSWER_MAX);
    if (model != NULL && (!json_is_string(model) || json_string_length(model) >= LLM_MODEL_MAX))
        return err_set(err, ERR_INVALID, "'model' must be a name of at most %d bytes",
                       LLM_MODEL_MAX - 1);
    if (role != NULL &&
        (!json_is_string(role) || llm_role_from_name(json_string_value(role)) == LLM_ROLE_COUNT))
        return err_set(err, ERR_INVALID, "'role' must be one of planner, coder and editor");
    return 0;
}

/* hash, kind and answer are needed, so that a line can be written by hand. */
static int check_line(const json_t *line, struct err *err)
{
    static const char *const known[] = { "hash",       "kind",  "role",      "attempt",
                                         "answer",     "model", "tokens_in", "tokens_cached",
                                         "tokens_out", "usd_q", "seconds",   "estimated",
                                         "task",       "call" };
    char seen[60];
    const char *key;
    json_t *v;

    if (!json_is_object(line))
        return err_set(err, ERR_INVALID, "it is no object");
    json_object_foreach ((json_t *)line, key, v) {
        bool found = false;

        for (size_t i = 0; i < ARRAY_LEN(known); i++)
            found = found || strcmp(known[i], key) == 0;
        if (!found)
            return err_set(err, ERR_INVALID, "it has a member '%s', which no recording has",
                           str_visible(key, strlen(key), seen, sizeof(seen)));
    }
    return check_texts(line, err) == 0 ? check_numbers(line, err) : -1;
}

static void add_entry(struct cassette *c, json_t *line)
{
    const char *hash = jsonx_str(line, "hash", "");
    json_int_t at = (json_int_t)c->n;
    json_int_t before = jsonx_int(c->last, hash, NO_ENTRY);

    c->entries = xgrow(c->entries, &c->cap, c->n + 1, sizeof(*c->entries));
    c->entries[c->n++] = (struct entry){ json_incref(line), NO_ENTRY };
    if (before == NO_ENTRY)
        json_object_set_new(c->now, hash, json_integer(at));
    else
        c->entries[before].next = at;
    json_object_set_new(c->last, hash, json_integer(at));
}

static int add_line(struct cassette *c, const char *text, size_t len, struct err *err)
{
    json_auto_t *line = NULL;

    if (jsonx_parse(text, len, "the line", &line, err) != 0 || check_line(line, err) != 0)
        return -1;
    add_entry(c, line);
    return 0;
}

static int add_lines(struct cassette *c, const char *text, size_t len, size_t *whole,
                     struct err *err)
{
    size_t number = 0;

    *whole = 0;
    for (size_t at = 0, end; at < len; at = end + 1) {
        const char *newline = memchr(text + at, '\n', len - at);
        struct err torn;

        end = newline != NULL ? (size_t)(newline - text) : len;
        number++;
        if (end > at && add_line(c, text + at, end - at, &torn) != 0) {
            /* The writer died within its last line: nobody was told of that answer. */
            if (newline == NULL && text[at] == '{')
                return 0;
            *err = torn;
            return err_ctx(err, "line %zu", number);
        }
        *whole = MIN(end + 1, len);
    }
    return 0;
}

int cassette_parse(const char *text, size_t len, struct cassette **out, size_t *whole,
                   struct err *err)
{
    struct cassette *c = xcalloc(1, sizeof(*c));

    c->now = json_object();
    c->last = json_object();
    if (add_lines(c, text, len, whole, err) != 0) {
        cassette_free(c);
        return -1;
    }
    *out = c;
    return 0;
}

int cassette_load_whole(const char *path, struct cassette **out, size_t *whole, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = CASSETTE_MAX };

    if (file_read(path, &text, err) != 0)
        return -1;
    if (cassette_parse(buf_str(&text), text.len, out, whole, err) != 0)
        return err_ctx(err, "recording '%s'", path);
    return 0;
}

int cassette_load(const char *path, struct cassette **out, struct err *err)
{
    size_t whole;

    return cassette_load_whole(path, out, &whole, err);
}

void cassette_free(struct cassette *c)
{
    if (c == NULL)
        return;
    for (size_t i = 0; i < c->n; i++)
        json_decref(c->entries[i].line);
    free(c->entries);
    json_decref(c->now);
    json_decref(c->last);
    free(c);
}

size_t cassette_count(const struct cassette *c)
{
    return c->n;
}

static void read_answer(const json_t *line, struct llm_answer *out)
{
    *out = (struct llm_answer){
        .text = jsonx_str(line, "answer", ""),
        .model = jsonx_str(line, "model", "replay"),
        .tokens_in = (uint64_t)jsonx_int(line, "tokens_in", 0),
        .tokens_cached = (uint64_t)jsonx_int(line, "tokens_cached", 0),
        .tokens_out = (uint64_t)jsonx_int(line, "tokens_out", 0),
        .estimated = jsonx_bool(line, "estimated", json_object_get(line, "tokens_in") == NULL),
        .usd_q = jsonx_int(line, "usd_q", 0),
        .seconds = jsonx_num(line, "seconds", 0),
        .tries = 1,
    };
}

bool cassette_next(struct cassette *c, const char *hash, struct llm_answer *out)
{
    json_int_t at = jsonx_int(c->now, hash, NO_ENTRY);

    if (at == NO_ENTRY)
        return false;
    read_answer(c->entries[at].line, out);
    if (c->entries[at].next != NO_ENTRY)
        json_object_set_new(c->now, hash, json_integer(c->entries[at].next));
    return true;
}

/* The number of a call is what stands behind the dot of its id. */
static json_int_t call_number(const struct llm_request *req)
{
    const char *dot = strrchr(req->id, '.');

    return dot != NULL ? strtoll(dot + 1, NULL, 10) : 0;
}

bool cassette_at_call(const struct cassette *c, const struct llm_request *req,
                      struct llm_answer *out)
{
    for (size_t i = 0; i < c->n; i++) {
        const json_t *line = c->entries[i].line;

        if (jsonx_int(line, "call", 0) != call_number(req) ||
            strcmp(jsonx_str(line, "task", ""), req->task) != 0 ||
            strcmp(jsonx_str(line, "kind", ""), req->kind) != 0)
            continue;
        read_answer(line, out);
        return true;
    }
    return false;
}

/* ---- Writing ---- */

char *cassette_line(const struct llm_request *req, const struct llm_answer *a)
{
    json_auto_t *line =
        json_pack("{s:s, s:I, s:b, s:s, s:s, s:s, s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:f}", "task",
                  req->task, "call", call_number(req), "estimated", a->estimated, "hash", req->hash,
                  "kind", req->kind, "role", llm_role_name(req->role), "attempt", (int)req->attempt,
                  "answer", a->text, "model", a->model, "tokens_in", (json_int_t)a->tokens_in,
                  "tokens_cached", (json_int_t)a->tokens_cached, "tokens_out",
                  (json_int_t)a->tokens_out, "usd_q", (json_int_t)a->usd_q, "seconds", a->seconds);
    CLEANUP(freep) char *text = line != NULL ? jsonx_canonical(line) : NULL;

    return text != NULL ? str_printf("%s\n", text) : NULL;
}
