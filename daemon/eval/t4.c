/* SPDX-License-Identifier: Apache-2.0 */
/* The T4 reader; see t4.h. */
#include "eval/t4.h"

#include <errno.h>
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { READ_CHUNK = 1 << 18, SHOWN_MAX = 80, GZIP_WINDOW = 15 + 16 };
static const int64_t TIME_S_MAX = 7258118400; /* 2200-01-01, as the knowledge base has it */
/* Beyond this a number is no measurement: 31 years in milliseconds. */
static const double VALUE_MAX = 1e12, VALUE_MIN = 1e-12;

/* ---- Bytes ---- */

static int inflate_failed(struct err *err, int rc, bool ended)
{
    if (ended || rc == Z_BUF_ERROR)
        return err_set(err, ERR_INVALID, "the gzip file is cut off");
    if (rc == Z_MEM_ERROR)
        return err_set(err, ERR_NOMEM, "no memory to unpack a file");
    return err_set(err, ERR_INVALID, "the gzip file is damaged");
}

/* Unpacks gzip members one after another, as gunzip does. */
static int unpack(const void *data, size_t len, struct buf *out, struct err *err)
{
    z_stream z = { .next_in = (void *)(uintptr_t)data, .avail_in = (uInt)len };
    CLEANUP(freep) uint8_t *chunk = xmalloc(READ_CHUNK);
    int rc = inflateInit2(&z, GZIP_WINDOW);
    bool ended = false;

    if (rc != Z_OK)
        return inflate_failed(err, rc, false);
    while (rc == Z_OK && !ended) {
        z.next_out = chunk;
        z.avail_out = READ_CHUNK;
        rc = inflate(&z, Z_NO_FLUSH);
        if ((rc == Z_OK || rc == Z_STREAM_END) &&
            buf_add(out, chunk, READ_CHUNK - z.avail_out, err) != 0) {
            inflateEnd(&z);
            return err_ctx(err, "the unpacked file");
        }
        ended = rc == Z_OK && z.avail_in == 0 && z.avail_out == READ_CHUNK;
        if (rc == Z_STREAM_END && z.avail_in > 0)
            rc = inflateReset(&z);
    }
    inflateEnd(&z);
    return rc == Z_STREAM_END ? 0 : inflate_failed(err, rc, ended);
}

static bool is_gzip(const uint8_t *data, size_t len)
{
    return len >= 2 && data[0] == 0x1f && data[1] == 0x8b;
}

/* ---- Where the rows are ---- */

/* A place in the text; every step stays before `end`. */
struct cursor {
    const char *at, *end;
};

static void skip_blanks(struct cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at) && *c->at)
        c->at++;
}

static bool take_char(struct cursor *c, char wanted)
{
    skip_blanks(c);
    if (c->at == c->end || *c->at != wanted)
        return false;
    c->at++;
    return true;
}

static bool skip_string(struct cursor *c)
{
    if (!take_char(c, '"'))
        return false;
    for (; c->at < c->end; c->at++) {
        if (*c->at == '"') {
            c->at++;
            return true;
        }
        if (*c->at == '\\' && ++c->at == c->end)
            return false;
    }
    return false;
}

/*
 * Over one value by its brackets and strings alone: where it ends. Whether it is JSON is for the
 * parser that gets it.
 */
static bool skip_value(struct cursor *c)
{
    size_t depth = 0;

    skip_blanks(c);
    while (c->at < c->end) {
        char ch = *c->at;

        if (ch == '"') {
            if (!skip_string(c))
                return false;
        } else if (ch == '{' || ch == '[') {
            depth++;
            c->at++;
        } else if (ch == '}' || ch == ']') {
            if (depth == 0)
                return true;
            depth--;
            c->at++;
        } else if (depth == 0 && ch == ',') {
            return true;
        } else {
            c->at++;
            continue;
        }
        if (depth == 0)
            return true;
    }
    return false;
}

static int not_t4(struct err *err)
{
    return err_set(err, ERR_INVALID,
                   "the file is no T4 document: an object with 'metadata' and a list 'results'");
}

/* Finds the value of the member `results` of the outermost object. */
static int find_results(const char *text, size_t len, struct cursor *out, struct err *err)
{
    struct cursor c = { text, text + len };

    out->at = NULL;
    if (!take_char(&c, '{'))
        return not_t4(err);
    do {
        const char *key;
        size_t key_len;
        struct cursor value;

        skip_blanks(&c);
        key = c.at;
        if (!skip_string(&c))
            return not_t4(err);
        key_len = (size_t)(c.at - key);
        if (!take_char(&c, ':'))
            return not_t4(err);
        skip_blanks(&c);
        value.at = c.at;
        if (!skip_value(&c))
            return err_set(err, ERR_INVALID, "the file is cut off, or its brackets do not match");
        value.end = c.at;
        if (key_len == 9 && memcmp(key, "\"results\"", 9) == 0) {
            if (out->at != NULL)
                return err_set(err, ERR_INVALID, "the file has 'results' twice");
            *out = value;
        }
    } while (take_char(&c, ','));
    return out->at != NULL ? 0 : not_t4(err);
}

/* ---- Units ---- */

static const struct {
    const char *name;
    double ms;
} units[] = {
    { "ms", 1 },          { "milliseconds", 1 },
    { "millisecond", 1 }, { "miliseconds", 1 }, /* as the benchmark hub's files spell it */
    { "s", 1e3 },         { "seconds", 1e3 },
    { "us", 1e-3 },       { "microseconds", 1e-3 },
    { "ns", 1e-6 },       { "nanoseconds", 1e-6 },
};

/* Milliseconds of a unit of time; 0 when it is none. */
static double unit_ms(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(units); i++)
        if (strcmp(units[i].name, name) == 0)
            return units[i].ms;
    return 0;
}

static int take_unit(const json_t *head, double *out, struct err *err)
{
    const json_t *unit = json_object_get(json_object_get(head, "metadata"), "timeunit");
    char seen[SHOWN_MAX];

    *out = 1;
    if (unit == NULL)
        return 0;
    if (!json_is_string(unit) || (*out = unit_ms(json_string_value(unit))) == 0)
        return err_set(
            err, ERR_INVALID,
            "metadata.timeunit is '%s'; allowed are seconds, milliseconds, microseconds "
            "and nanoseconds",
            json_is_string(unit)
                ? str_visible(json_string_value(unit), json_string_length(unit), seen, sizeof(seen))
                : "no text");
    return 0;
}

/* ---- A row ---- */

struct reader {
    struct t4 *t;
    size_t cap_rows, cap_samples;
    double unit_ms;
};

static int check_configuration(const json_t *c, struct err *err)
{
    char seen[SHOWN_MAX];
    const char *name;
    json_t *v;

    if (!json_is_object(c) || json_object_size(c) == 0)
        return err_set(err, ERR_INVALID, "'configuration' must be an object of parameters");
    if (json_object_size(c) > T4_PARAMS_MAX)
        return err_set(err, ERR_LIMIT, "'configuration' has %zu parameters; at most %d are allowed",
                       json_object_size(c), T4_PARAMS_MAX);
    json_object_foreach ((json_t *)c, name, v) {
        if (!str_is_name(name))
            return err_set(err, ERR_INVALID,
                           "the parameter '%s' is no name (1 to 96 of A-Z a-z 0-9 _ . -)",
                           str_visible(name, strlen(name), seen, sizeof(seen)));
        if (json_is_string(v) ? !str_is_name(json_string_value(v))
                              : !json_is_number(v) && !json_is_boolean(v))
            return err_set(
                err, ERR_INVALID,
                "the value of parameter '%s' must be a number, true, false or a name of 1 "
                "to 96 of A-Z a-z 0-9 _ . -",
                name);
        if (json_is_integer(v) && llabs(json_integer_value(v)) > 1ll << 53)
            return err_set(err, ERR_INVALID, "the value of parameter '%s' is beyond 2^53", name);
    }
    return 0;
}

static int take_status(const json_t *row, enum eval_status *out, struct err *err)
{
    static const struct {
        const char *name;
        enum eval_status status;
    } map[] = {
        { "correct", EVAL_OK },
        { "compile", EVAL_BUILD_FAILED },
        { "runtime", EVAL_CRASHED },
        { "timeout", EVAL_TIMEOUT },
        { "correctness", EVAL_WRONG_VALUE },
        { "constraints", EVAL_LOAD_FAILED },
    };
    const json_t *v = json_object_get(row, "invalidity");
    char seen[SHOWN_MAX] = "nothing";

    for (size_t i = 0; json_is_string(v) && i < ARRAY_LEN(map); i++)
        if (strcmp(map[i].name, json_string_value(v)) == 0) {
            *out = map[i].status;
            return 0;
        }
    if (json_is_string(v))
        str_visible(json_string_value(v), json_string_length(v), seen, sizeof(seen));
    return err_set(err, ERR_INVALID,
                   "'invalidity' is '%s'; allowed are correct, compile, runtime, timeout, "
                   "correctness and constraints",
                   seen);
}

static bool is_measure(const json_t *v, double scale, double *out)
{
    double d = json_is_number(v) ? json_number_value(v) * scale : NAN;

    *out = d;
    return d >= VALUE_MIN && d <= VALUE_MAX;
}

/* The samples of a row, in milliseconds; a failure may have none. */
static int take_samples(struct reader *r, const json_t *row, struct t4_row *out, struct err *err)
{
    const json_t *times = json_object_get(row, "times");
    const json_t *list = json_object_get(times, "runtimes");
    struct t4 *t = r->t;
    size_t n = json_array_size(list);

    if (!json_is_object(times) || (list != NULL && !json_is_array(list)))
        return err_set(err, ERR_INVALID, "'times' must be an object, its 'runtimes' a list");
    if (n > T4_SAMPLES_MAX)
        return err_set(err, ERR_LIMIT, "'runtimes' has %zu samples; at most %d are allowed", n,
                       T4_SAMPLES_MAX);
    out->first = t->n_samples;
    if (out->status != EVAL_OK)
        return 0;
    t->samples = xgrow(t->samples, &r->cap_samples, t->n_samples + n, sizeof(*t->samples));
    for (size_t i = 0; i < n; i++)
        if (!is_measure(json_array_get(list, i), r->unit_ms, &t->samples[t->n_samples + i]))
            return err_set(err, ERR_INVALID, "sample %zu of 'runtimes' is not a positive time",
                           i + 1);
    t->n_samples += n;
    out->n = n;
    return 0;
}

static int take_objective(struct t4 *t, const json_t *row, struct err *err)
{
    const json_t *name = json_array_get(json_object_get(row, "objectives"), 0);

    if (!json_is_string(name) || !str_is_name(json_string_value(name)))
        return err_set(err, ERR_INVALID, "'objectives' must be a list that begins with a name");
    if (t->objective == NULL) {
        t->objective = xstrdup(json_string_value(name));
        t->timed = strcmp(t->objective, "time") == 0;
        return 0;
    }
    if (strcmp(t->objective, json_string_value(name)) == 0)
        return 0;
    return err_set(err, ERR_INVALID, "its first objective is '%s', that of rows before it '%s'",
                   json_string_value(name), t->objective);
}

static const json_t *find_measurement(const json_t *row, const char *name)
{
    const json_t *list = json_object_get(row, "measurements"), *m;
    size_t i;

    json_array_foreach (list, i, m) {
        if (strcmp(jsonx_str(m, "name", ""), name) == 0)
            return m;
    }
    return NULL;
}

static int take_value(struct reader *r, const json_t *row, struct t4_row *out, struct err *err)
{
    const json_t *m, *v;
    double scale;
    char seen[SHOWN_MAX] = "missing";

    out->value = NAN;
    if (out->status != EVAL_OK)
        return 0;
    if (take_objective(r->t, row, err) != 0)
        return -1;
    m = find_measurement(row, r->t->objective);
    v = json_object_get(m, "value");
    /* A time without a unit of its own has the file's. */
    scale = unit_ms(jsonx_str(m, "unit", ""));
    if (scale == 0)
        scale = r->t->timed ? r->unit_ms : 1;
    if (is_measure(v, scale, &out->value))
        return 0;
    if (json_is_string(v))
        str_visible(json_string_value(v), json_string_length(v), seen, sizeof(seen));
    else if (json_is_number(v))
        snprintf(seen, sizeof(seen), "%g", json_number_value(v));
    return err_set(err, ERR_INVALID,
                   "the measurement '%s' of a correct row must be a positive number; it is %s",
                   r->t->objective, seen);
}

/* "2023-12-22 09:54:05.5+00:00"; 0 when it is no such text. */
static int64_t read_time(const json_t *v)
{
    const char *text = json_is_string(v) ? json_string_value(v) : "";
    int y, mo, d, h, mi, s, zh = 0, zm = 0;
    struct tm tm = { 0 };
    const char *zone;
    int64_t at;

    if (sscanf(text, "%4d-%2d-%2d%*[T ]%2d:%2d:%2d", &y, &mo, &d, &h, &mi, &s) != 6)
        return 0;
    zone = strpbrk(text + strcspn(text, ":"), "+-");
    if (zone != NULL && sscanf(zone + 1, "%2d:%2d", &zh, &zm) == 2 && *zone == '-')
        zh = -zh, zm = -zm;
    tm = (struct tm){ .tm_year = y - 1900,
                      .tm_mon = mo - 1,
                      .tm_mday = d,
                      .tm_hour = h - zh,
                      .tm_min = mi - zm,
                      .tm_sec = s };
    at = timegm(&tm);
    return at > 0 && at < TIME_S_MAX ? at : 0;
}

static int take_row(struct reader *r, const json_t *row, struct err *err)
{
    struct t4 *t = r->t;
    const json_t *configuration = json_object_get(row, "configuration");
    struct t4_row *out;

    if (!json_is_object(row))
        return err_set(err, ERR_INVALID, "it is no object");
    if (t->n == T4_ROWS_MAX)
        return err_set(err, ERR_LIMIT, "at most %d rows are allowed", T4_ROWS_MAX);
    t->rows = xgrow(t->rows, &r->cap_rows, t->n + 1, sizeof(*t->rows));
    out = &t->rows[t->n];
    *out = (struct t4_row){ .measured_at_s = read_time(json_object_get(row, "timestamp")) };
    if (check_configuration(configuration, err) != 0 || take_status(row, &out->status, err) != 0 ||
        take_samples(r, row, out, err) != 0 || take_value(r, row, out, err) != 0)
        return -1;
    out->configuration = json_incref((json_t *)configuration);
    t->n++;
    t->n_ok += out->status == EVAL_OK;
    return 0;
}

/* ---- The document ---- */

/* All but the rows, which are replaced by an empty list. */
static int parse_head(const char *text, size_t len, const struct cursor *rows, json_t **out,
                      struct err *err)
{
    CLEANUP(buf_release) struct buf head = { .max = 1 << 20 };

    if (buf_add(&head, text, (size_t)(rows->at - text), err) != 0 ||
        buf_adds(&head, "[]", err) != 0 ||
        buf_add(&head, rows->end, (size_t)(text + len - rows->end), err) != 0)
        return err_ctx(err, "the file beside its 'results'");
    return jsonx_parse(head.data, head.len, "the file", out, err);
}

static int parse_rows(struct reader *r, struct cursor rows, struct err *err)
{
    if (!take_char(&rows, '['))
        return err_set(err, ERR_INVALID, "'results' must be a list");
    if (take_char(&rows, ']'))
        return err_set(err, ERR_INVALID, "'results' is empty");
    do {
        const char *from;
        json_auto_t *row = NULL;

        skip_blanks(&rows);
        from = rows.at;
        if (!skip_value(&rows))
            return err_set(err, ERR_INVALID, "'results' is cut off");
        if (jsonx_parse(from, (size_t)(rows.at - from), "it", &row, err) != 0 ||
            take_row(r, row, err) != 0)
            return err_ctx(err, "row %zu of 'results'", r->t->n + 1);
    } while (take_char(&rows, ','));
    if (!take_char(&rows, ']'))
        return err_set(err, ERR_INVALID, "'results' is cut off");
    if (r->t->n_ok == 0)
        return err_set(err, ERR_INVALID, "none of the %zu rows is correct", r->t->n);
    return 0;
}

static int parse_text(const char *text, size_t len, struct t4 *t, struct err *err)
{
    struct reader r = { .t = t };
    json_auto_t *head = NULL;
    struct cursor rows;

    if (find_results(text, len, &rows, err) != 0 || parse_head(text, len, &rows, &head, err) != 0 ||
        take_unit(head, &r.unit_ms, err) != 0)
        return -1;
    return parse_rows(&r, rows, err);
}

int t4_parse(const void *data, size_t len, struct t4 *out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = T4_TEXT_MAX };
    struct t4 t = { 0 };
    int rc;

    if (is_gzip(data, len)) {
        if (len > T4_FILE_MAX)
            return err_set(err, ERR_LIMIT, "the file has %zu bytes; at most %d are allowed", len,
                           T4_FILE_MAX);
        if (unpack(data, len, &text, err) != 0)
            return -1;
        rc = parse_text(buf_str(&text), text.len, &t, err);
    } else {
        rc = parse_text(data, len, &t, err);
    }
    if (rc != 0) {
        t4_release(&t);
        return -1;
    }
    *out = t;
    return 0;
}

int t4_read(int fd, const char *what, struct t4 *out, struct err *err)
{
    CLEANUP(buf_release) struct buf bytes = { .max = T4_TEXT_MAX };
    CLEANUP(freep) char *chunk = xmalloc(READ_CHUNK);
    ssize_t n;

    while ((n = pread(fd, chunk, READ_CHUNK, (off_t)bytes.len)) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, "%s cannot be read: %s", what, strerror(errno));
        if (buf_add(&bytes, chunk, (size_t)n, err) != 0)
            return err_ctx(err, "%s", what);
    }
    if (t4_parse(buf_str(&bytes), bytes.len, out, err) != 0)
        return err_ctx(err, "%s", what);
    return 0;
}

void t4_release(struct t4 *t)
{
    for (size_t i = 0; i < t->n; i++)
        json_decref(t->rows[i].configuration);
    free(t->rows);
    free(t->samples);
    free(t->objective);
    memset(t, 0, sizeof(*t));
}
