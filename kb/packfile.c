/* SPDX-License-Identifier: Apache-2.0 */
/* Reading and writing the file of a pack; see packfile.h. */
#include "packfile.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/param.h"
#include "base/str.h"
#include "digest.h"
#include "schema.h"

enum {
    LENGTH_BYTES = 4, /* of the head, big-endian */
    STEP = 256 << 10, /* bytes unpacked or packed at a time */
    LEVEL = 6,
    READ_STEP = 1 << 20
};

/* ---- The head ---- */

/* The members of the head, as JSON has them. */
struct raw_head {
    uint64_t format, schema, made_at_s;
    char *embedding, *public_key;
    json_t *counts, *filters, *body;
};

static const struct param head_rows[] = {
    { "format", PARAM_U64, offsetof(struct raw_head, format), PARAM_REQUIRED, "", 0, 0, NULL, 0 },
    { "schema", PARAM_U64, offsetof(struct raw_head, schema), PARAM_REQUIRED, "", 0, 0, NULL, 0 },
    { "made_at_s", PARAM_U64, offsetof(struct raw_head, made_at_s), PARAM_REQUIRED, "", 0, 0, NULL,
      0 },
    { "embedding", PARAM_STR, offsetof(struct raw_head, embedding), PARAM_REQUIRED, "", 0, 200,
      NULL, 0 },
    { "public_key", PARAM_STR, offsetof(struct raw_head, public_key), PARAM_REQUIRED, "", 0,
      2 * KEYS_RAW, NULL, 0 },
    { "counts", PARAM_JSON, offsetof(struct raw_head, counts), PARAM_REQUIRED, "", 0, 0, NULL, 0 },
    { "filters", PARAM_JSON, offsetof(struct raw_head, filters), PARAM_REQUIRED, "", 0, 0, NULL,
      0 },
    { "body", PARAM_JSON, offsetof(struct raw_head, body), PARAM_REQUIRED, "", 0, 0, NULL, 0 },
    { 0 },
};

struct raw_body {
    uint64_t bytes, lines;
    char *sha256, *packed;
};

static const struct param body_rows[] = {
    { "bytes", PARAM_U64, offsetof(struct raw_body, bytes), PARAM_REQUIRED, "", 0, 0, NULL, 0 },
    { "lines", PARAM_U64, offsetof(struct raw_body, lines), PARAM_REQUIRED, "", 0, 0, NULL, 0 },
    { "sha256", PARAM_STR, offsetof(struct raw_body, sha256), PARAM_REQUIRED, "", 0, ID_HEX, NULL,
      0 },
    { "packed", PARAM_STR, offsetof(struct raw_body, packed), PARAM_REQUIRED, "", 0, ID_HEX, NULL,
      0 },
    { 0 },
};

/* A head that is not understood is damaged: its format is one that we know. */
static int damaged(struct err *err)
{
    if (err->code == ERR_INVALID)
        err->code = ERR_CORRUPT;
    return err_ctx(err, "the head of the pack");
}

static int take_body(const json_t *body, struct packfile_head *out, struct err *err)
{
    struct raw_body raw = { 0 };
    bool hex;

    if (param_parse(body_rows, body, &raw, err) != 0)
        return damaged(err);
    hex = str_is_hex(raw.sha256, ID_HEX) && str_is_hex(raw.packed, ID_HEX);
    if (hex) {
        memcpy(out->sha256.hex, raw.sha256, ID_HEX + 1);
        memcpy(out->packed.hex, raw.packed, ID_HEX + 1);
    }
    param_release(body_rows, &raw);
    if (!hex)
        return err_set(err, ERR_CORRUPT, "the head of the pack: 'sha256' or 'packed' is no digest");
    if (raw.bytes > PACKFILE_BODY_MAX)
        return err_set(err, ERR_LIMIT, "the pack unpacks to %ju bytes; at most %ju are allowed",
                       (uintmax_t)raw.bytes, (uintmax_t)PACKFILE_BODY_MAX);
    out->bytes = raw.bytes;
    out->lines = raw.lines;
    return 0;
}

static int take_head(struct raw_head *raw, struct packfile_head *out, struct err *err)
{
    uint8_t key[KEYS_RAW];

    if (!str_unhex(raw->public_key, KEYS_RAW, key) || strlen(raw->public_key) != 2 * KEYS_RAW)
        return err_set(err, ERR_CORRUPT, "the head of the pack: 'public_key' is no key");
    if (!json_is_object(raw->counts) || !json_is_object(raw->filters))
        return err_set(err, ERR_CORRUPT,
                       "the head of the pack: 'counts' and 'filters' are objects");
    if (raw->schema > SCHEMA_VERSION)
        return err_set(err, ERR_REFUSED,
                       "the pack holds facts of schema %ju; this program knows up to %d: a newer "
                       "one can import it",
                       (uintmax_t)raw->schema, SCHEMA_VERSION);
    if (take_body(raw->body, out, err) != 0)
        return -1;
    keys_of_raw(key, &out->signer);
    out->schema = raw->schema;
    out->made_at_s = raw->made_at_s;
    out->embedding = TAKE(raw->embedding);
    out->counts = TAKE(raw->counts);
    out->filters = TAKE(raw->filters);
    return 0;
}

static int parse_head(const char *text, size_t len, struct packfile_head *out, struct err *err)
{
    struct raw_head raw = { 0 };
    json_auto_t *j = NULL;
    long long format;
    int rc;

    if (jsonx_parse(text, len, "JSON", &j, err) != 0)
        return damaged(err);
    format = jsonx_int(j, "format", 0);
    if (format != PACKFILE_FORMAT)
        return err_set(err, ERR_INVALID, "the pack has format %lld; this program reads format %d",
                       format, PACKFILE_FORMAT);
    if (param_parse(head_rows, j, &raw, err) != 0)
        return damaged(err);
    rc = take_head(&raw, out, err);
    param_release(head_rows, &raw);
    return rc;
}

static json_t *head_json(const struct packfile_head *h)
{
    char key[2 * KEYS_RAW + 1];

    str_hex(h->signer.raw, KEYS_RAW, key);
    return json_pack("{s:i, s:I, s:I, s:s, s:s, s:O, s:O, s:{s:I, s:I, s:s, s:s}}", "format",
                     PACKFILE_FORMAT, "schema", (json_int_t)h->schema, "made_at_s",
                     (json_int_t)h->made_at_s, "embedding", h->embedding, "public_key", key,
                     "counts", h->counts, "filters", h->filters, "body", "bytes",
                     (json_int_t)h->bytes, "lines", (json_int_t)h->lines, "sha256", h->sha256.hex,
                     "packed", h->packed.hex);
}

/* ---- Reading ---- */

bool packfile_is(const void *data, size_t len)
{
    return len >= PACKFILE_MAGIC_LEN && memcmp(data, PACKFILE_MAGIC, PACKFILE_MAGIC_LEN) == 0;
}

static int cut_off(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "the pack is cut off: it ends within its head");
}

static int parse(struct packfile *p, struct err *err)
{
    const uint8_t *data = (const uint8_t *)p->file.data;
    size_t at = PACKFILE_MAGIC_LEN, len = p->file.len, head;

    if (!packfile_is(data, len))
        return err_set(err, ERR_INVALID, "the file is no pack; 'ksearch kb export' makes one");
    if (len < at + LENGTH_BYTES)
        return cut_off(err);
    head = (size_t)data[at] << 24 | (size_t)data[at + 1] << 16 | (size_t)data[at + 2] << 8 |
           data[at + 3];
    at += LENGTH_BYTES;
    if (head > PACKFILE_HEAD_MAX)
        return err_set(err, ERR_CORRUPT,
                       "the pack is damaged: its head has %zu bytes, and at most %d are allowed",
                       head, PACKFILE_HEAD_MAX);
    if (len < at + head + KEYS_SIGNATURE)
        return cut_off(err);
    if (parse_head(p->file.data + at, head, &p->head, err) != 0)
        return -1;
    p->head_end = at + head;
    p->body_at = p->head_end + KEYS_SIGNATURE;
    return 0;
}

int packfile_parse(struct buf *file, struct packfile *out, struct err *err)
{
    struct packfile p = { .file = *file };

    *file = (struct buf){ .max = file->max };
    if (parse(&p, err) != 0) {
        packfile_release(&p);
        return -1;
    }
    *out = p;
    return 0;
}

/* pread: the descriptor's offset is its sender's business. */
static int read_all(int fd, struct buf *out, struct err *err)
{
    for (;;) {
        ssize_t n;

        if (buf_reserve(out, READ_STEP, err) != 0)
            return err_ctx(err, "the pack");
        n = pread(fd, out->data + out->len, READ_STEP, (off_t)out->len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, "cannot read the pack: %s", strerror(errno));
        if (n == 0)
            return 0;
        out->len += (size_t)n;
        if (out->len > PACKFILE_MAX)
            return err_set(err, ERR_LIMIT, "the pack has more than the %d bytes that are allowed",
                           PACKFILE_MAX);
    }
}

int packfile_read(int fd, struct packfile *out, struct err *err)
{
    CLEANUP(buf_release) struct buf file = { .max = PACKFILE_MAX + 2 * READ_STEP };

    if (read_all(fd, &file, err) != 0)
        return -1;
    return packfile_parse(&file, out, err);
}

void packfile_release(struct packfile *p)
{
    buf_release(&p->file);
    free(p->head.embedding);
    json_decref(p->head.counts);
    json_decref(p->head.filters);
    memset(&p->head, 0, sizeof(p->head));
}

int packfile_check_signature(const struct packfile *p, struct err *err)
{
    if (keys_verify(&p->head.signer, p->file.data, p->head_end,
                    (const uint8_t *)p->file.data + p->head_end))
        return 0;
    return err_set(err, ERR_CORRUPT,
                   "the pack was changed after it was signed: its signature is not that of its "
                   "head");
}

/* ---- The body ---- */

static int body_damaged(struct err *err, const char *why)
{
    return err_set(err, ERR_CORRUPT, "the body of the pack is damaged: %s", why);
}

/* Bytes of the body as they come; -1 with *err ends it. */
typedef int bytes_fn(void *ctx, const char *data, size_t len, struct err *err);

/* Why zlib stopped. */
static int inflate_failed(int rc, bool all_read, struct err *err)
{
    if (rc == Z_MEM_ERROR)
        return err_set(err, ERR_NOMEM, "no memory to unpack the pack");
    return body_damaged(err, all_read ? "it is cut off" : "it does not unpack");
}

/* Stops as soon as there is more than the head says: what a bomb unpacks to is never made. */
static int unpack(z_stream *z, const struct packfile *p, char *step, bytes_fn *fn, void *ctx,
                  struct err *err)
{
    uint64_t total = 0;
    int rc = Z_OK;

    while (rc != Z_STREAM_END) {
        size_t n;

        z->next_out = (Bytef *)step;
        z->avail_out = STEP;
        rc = inflate(z, Z_NO_FLUSH);
        n = STEP - z->avail_out;
        if (rc != Z_OK && rc != Z_STREAM_END)
            return inflate_failed(rc, z->avail_in == 0, err);
        total += n;
        if (total > p->head.bytes)
            return body_damaged(err, "it has more bytes than its head says");
        if (fn(ctx, step, n, err) != 0)
            return -1;
    }
    if (z->avail_in != 0)
        return body_damaged(err, "there are bytes behind its end");
    return total == p->head.bytes ? 0 : body_damaged(err, "it has fewer bytes than its head says");
}

static int each_bytes(const struct packfile *p, bytes_fn *fn, void *ctx, struct err *err)
{
    CLEANUP(freep) char *step = malloc(STEP);
    z_stream z = { .next_in = (Bytef *)p->file.data + p->body_at,
                   .avail_in = (uInt)(p->file.len - p->body_at) };
    int rc;

    if (step == NULL || inflateInit(&z) != Z_OK)
        return err_set(err, ERR_NOMEM, "no memory to unpack the pack");
    rc = unpack(&z, p, step, fn, ctx, err);
    inflateEnd(&z);
    return rc;
}

struct check {
    struct digest *digest;
    uint64_t lines;
    char last;
};

static int check_bytes(void *ctx, const char *data, size_t len, struct err *err)
{
    struct check *c = ctx;

    (void)err;
    digest_add(c->digest, data, len);
    for (const char *at = data, *nl; (nl = memchr(at, '\n', (size_t)(data + len - at))) != NULL;
         at = nl + 1)
        c->lines++;
    if (len > 0)
        c->last = data[len - 1];
    return 0;
}

int packfile_check_body(const struct packfile *p, struct err *err)
{
    struct check c = { .digest = digest_new(), .last = '\n' };
    struct id got;
    int rc;

    id_of_bytes(p->file.data + p->body_at, p->file.len - p->body_at, &got);
    if (strcmp(got.hex, p->head.packed.hex) != 0) {
        digest_free(c.digest);
        return body_damaged(err, "it is not the one that its head was signed with");
    }
    if (c.digest == NULL)
        return err_set(err, ERR_NOMEM, "no memory to check the pack");
    rc = each_bytes(p, check_bytes, &c, err);
    if (rc == 0)
        digest_end(c.digest, &got);
    digest_free(c.digest);
    if (rc != 0)
        return -1;
    if (strcmp(got.hex, p->head.sha256.hex) != 0)
        return body_damaged(err, "it does not have the digest that its head says");
    if (c.lines != p->head.lines || c.last != '\n')
        return body_damaged(err, "it does not have the lines that its head says");
    return 0;
}

struct lines {
    packfile_line_fn *fn;
    void *ctx;
    struct buf part; /* of a line that goes on */
    int stopped;
};

static int give_line(struct lines *l, const char *line, size_t len, struct err *err)
{
    l->stopped = l->fn(l->ctx, line, len, err);
    return l->stopped == 0 ? 0 : -1;
}

static int line_bytes(void *ctx, const char *data, size_t len, struct err *err)
{
    struct lines *l = ctx;
    const char *end = data + len, *nl;

    for (const char *at = data; at < end; at = nl + 1) {
        nl = memchr(at, '\n', (size_t)(end - at));
        if (buf_add(&l->part, at, (size_t)((nl ? nl : end) - at), err) != 0)
            return err_ctx(err, "a line of the pack");
        if (nl == NULL)
            return 0;
        if (give_line(l, buf_str(&l->part), l->part.len, err) != 0)
            return -1;
        buf_clear(&l->part);
    }
    return 0;
}

int packfile_each(const struct packfile *p, packfile_line_fn *fn, void *ctx, struct err *err)
{
    struct lines l = { .fn = fn, .ctx = ctx, .part = { .max = PACKFILE_LINE_MAX } };
    int rc = each_bytes(p, line_bytes, &l, err);

    buf_release(&l.part);
    return l.stopped > 0 ? 0 : rc;
}

/* ---- Writing ---- */

struct packfile_writer {
    z_stream z;
    bool open;
    struct buf packed;
    struct digest *digest;
    uint64_t bytes, lines;
};

struct packfile_writer *packfile_writer_new(void)
{
    struct packfile_writer *w = calloc(1, sizeof(*w));

    if (w == NULL)
        return NULL;
    w->packed.max = PACKFILE_MAX;
    w->digest = digest_new();
    w->open = deflateInit(&w->z, LEVEL) == Z_OK;
    if (w->digest != NULL && w->open)
        return w;
    packfile_writer_free(w);
    return NULL;
}

void packfile_writer_free(struct packfile_writer *w)
{
    if (w == NULL)
        return;
    if (w->open)
        deflateEnd(&w->z);
    buf_release(&w->packed);
    digest_free(w->digest);
    free(w);
}

/* Packs what next_in has; with Z_FINISH until the stream has ended. */
static int pack(struct packfile_writer *w, int flush, struct err *err)
{
    int rc;

    do {
        if (buf_reserve(&w->packed, STEP, err) != 0)
            return err_ctx(err, "the pack is too large; filters make it smaller");
        w->z.next_out = (Bytef *)w->packed.data + w->packed.len;
        w->z.avail_out = STEP;
        rc = deflate(&w->z, flush);
        w->packed.len += STEP - w->z.avail_out;
    } while (flush == Z_FINISH ? rc != Z_STREAM_END : w->z.avail_out == 0);
    return 0;
}

static int add_bytes(struct packfile_writer *w, const void *data, size_t len, struct err *err)
{
    digest_add(w->digest, data, len);
    w->bytes += len;
    w->z.next_in = (Bytef *)(uintptr_t)data;
    w->z.avail_in = (uInt)len;
    return pack(w, Z_NO_FLUSH, err);
}

int packfile_add(struct packfile_writer *w, const void *line, size_t len, struct err *err)
{
    if (len > PACKFILE_LINE_MAX || w->bytes + len + 1 > PACKFILE_BODY_MAX)
        return err_set(err, ERR_LIMIT,
                       "the pack is too large: a line of %zu bytes after %ju; filters make it "
                       "smaller",
                       len, (uintmax_t)w->bytes);
    if (add_bytes(w, line, len, err) != 0 || add_bytes(w, "\n", 1, err) != 0)
        return -1;
    w->lines++;
    return 0;
}

static int add_head(struct buf *out, const char *text, struct err *err)
{
    size_t len = strlen(text);
    uint8_t length[LENGTH_BYTES] = { (uint8_t)(len >> 24), (uint8_t)(len >> 16),
                                     (uint8_t)(len >> 8), (uint8_t)len };

    if (len > PACKFILE_HEAD_MAX)
        return err_set(err, ERR_LIMIT, "the pack's head has %zu bytes; at most %d are allowed", len,
                       PACKFILE_HEAD_MAX);
    if (buf_add(out, PACKFILE_MAGIC, PACKFILE_MAGIC_LEN, err) != 0 ||
        buf_add(out, length, sizeof(length), err) != 0 || buf_add(out, text, len, err) != 0)
        return -1;
    return 0;
}

int packfile_finish(struct packfile_writer *w, const char *dir, struct packfile_head *head, int fd,
                    struct err *err)
{
    CLEANUP(buf_release) struct buf start = { .max = 2 * PACKFILE_HEAD_MAX };
    uint8_t signature[KEYS_SIGNATURE];
    CLEANUP(freep) char *text = NULL;
    json_auto_t *j = NULL;

    if (keys_own(dir, &head->signer, err) != 0 || pack(w, Z_FINISH, err) != 0)
        return -1;
    head->bytes = w->bytes;
    head->lines = w->lines;
    digest_end(w->digest, &head->sha256);
    id_of_bytes(w->packed.data, w->packed.len, &head->packed);
    j = head_json(head);
    text = j ? jsonx_canonical(j) : NULL;
    if (text == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the pack's head");
    if (add_head(&start, text, err) != 0 ||
        keys_sign(dir, start.data, start.len, signature, err) != 0 ||
        buf_add(&start, signature, sizeof(signature), err) != 0)
        return -1;
    if (file_write_all(fd, start.data, start.len, err) != 0 ||
        file_write_all(fd, w->packed.data, w->packed.len, err) != 0)
        return err_ctx(err, "the pack");
    return 0;
}
