/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Packs of knowledge on any bytes: as a file, as a file whose body is taken for what its signer
 * made (so that mutations get past the digests), as a public key, and as a text to be screened.
 * Beyond not crashing: a body gives at most the lines and bytes that its head says.
 */
#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "fuzz/fuzz.h"
#include "packfile.h"
#include "screen.h"

struct seen {
    uint64_t lines, bytes;
};

static int see_line(void *ctx, const char *line, size_t len, struct err *err)
{
    struct seen *s = ctx;

    (void)err;
    assert(line[len] == '\0');
    assert(memchr(line, '\n', len) == NULL);
    s->lines++;
    s->bytes += len + 1;
    return 0;
}

static void check_body(struct packfile *p)
{
    struct seen s = { 0 };
    struct err err;

    id_of_bytes(p->file.data + p->body_at, p->file.len - p->body_at, &p->head.packed);
    (void)packfile_check_body(p, &err);
    if (packfile_each(p, see_line, &s, &err) == 0)
        assert(s.bytes <= p->head.bytes);
    assert(s.bytes <= p->head.bytes + 1);
}

static void check_file(const uint8_t *data, size_t len)
{
    struct buf file = { .max = PACKFILE_MAX };
    struct packfile p;
    struct err err;
    int rc = buf_add(&file, data, len, &err);

    assert(rc == 0);
    if (packfile_parse(&file, &p, &err) != 0)
        return;
    assert(p.body_at <= p.file.len && json_is_object(p.head.filters));
    (void)packfile_check_signature(&p, &err);
    check_body(&p);
    packfile_release(&p);
}

static void check_key(const char *text, size_t len)
{
    struct public_key k, again;
    char line[KEYS_LINE_MAX];
    struct err err;
    int rc;

    if (keys_parse(text, len, &k, &err) != 0)
        return;
    keys_line(&k, line);
    rc = keys_parse(line, strlen(line), &again, &err);
    assert(rc == 0 && memcmp(k.raw, again.raw, KEYS_RAW) == 0);
    assert(strcmp(k.name, again.name) == 0);
}

void fuzz_one(const uint8_t *data, size_t len)
{
    static const char *const words[] = { "athena", "b16_ragged" };
    const struct screen screen = { words, 1, words + 1, 1 };
    CLEANUP(freep) char *text = malloc(len + 1);

    assert(text != NULL);
    if (len > 0)
        memcpy(text, data, len);
    text[len] = '\0';
    check_file(data, len);
    check_key(text, len);
    (void)screen_text(&screen, text);
    (void)screen_source(&screen, text);
}
