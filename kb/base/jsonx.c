/* SPDX-License-Identifier: Apache-2.0 */
/* Strict parsing and canonical text; see jsonx.h. */
#include "base/jsonx.h"

#include <string.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/jsonread.h"
#include "base/mem.h"
#include "base/str.h"

enum { DEPTH_MAX = 64 };

/* jansson's own limit is 2048 levels: too deep for code that walks a document by recursion. */
static int depth_of(const char *text, size_t len)
{
    int depth = 0, deepest = 0;
    bool in_string = false;

    for (size_t i = 0; i < len; i++) {
        char c = text[i];

        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > deepest)
                deepest = depth;
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return deepest;
}

int jsonx_parse(const char *text, size_t len, const char *what, json_t **out, struct err *err)
{
    json_error_t je;
    json_t *v = jsonread_plain(text, len);

    if (v != NULL) {
        *out = v;
        return 0;
    }
    if (depth_of(text, len) > DEPTH_MAX)
        return err_set(err, ERR_INVALID, "%s nests deeper than %d levels", what, DEPTH_MAX);
    v = json_loadb(text, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &je);
    if (v == NULL) {
        char seen[160];

        if (json_error_code(&je) == json_error_out_of_memory)
            return err_set(err, ERR_NOMEM, "no memory to read %s", what);
        str_visible(je.text, strlen(je.text), seen, sizeof(seen));
        return err_set(err, ERR_INVALID, "%s is not JSON: %s (line %d, column %d)", what, seen,
                       je.line, je.column);
    }
    *out = v;
    return 0;
}

int jsonx_load(const char *path, size_t max, json_t **out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = max };
    char what[300];

    if (file_read(path, &text, err) != 0)
        return -1;
    str_copy(what, sizeof(what), path);
    return jsonx_parse(buf_str(&text), text.len, what, out, err);
}

char *jsonx_canonical(const json_t *v)
{
    enum { FLAGS = JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17) };
    /* In two passes: json_dumps may cut its text without a word when memory runs out. */
    size_t len = json_dumpb(v, NULL, 0, FLAGS);
    char *text = len > 0 ? malloc(len + 1) : NULL;

    if (text == NULL)
        return NULL;
    if (json_dumpb(v, text, len, FLAGS) != len) {
        free(text);
        return NULL;
    }
    text[len] = '\0';
    return text;
}

const char *jsonx_str(const json_t *obj, const char *key, const char *fallback)
{
    const char *s = json_string_value(json_object_get(obj, key));

    return s ? s : fallback;
}

double jsonx_num(const json_t *obj, const char *key, double fallback)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_number(v) ? json_number_value(v) : fallback;
}

long long jsonx_int(const json_t *obj, const char *key, long long fallback)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_integer(v) ? json_integer_value(v) : fallback;
}

int jsonx_bool(const json_t *obj, const char *key, int fallback)
{
    const json_t *v = json_object_get(obj, key);

    return json_is_boolean(v) ? json_is_true(v) : fallback;
}
