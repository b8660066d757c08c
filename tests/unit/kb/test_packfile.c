/* SPDX-License-Identifier: Apache-2.0 */
/* The file of a pack: what was written is read, and any other byte is noticed. */
#include "kb_fixture.h"

#include <fcntl.h>
#include <zlib.h>

#include "packfile.h"
#include "schema.h"

struct made {
    struct tmp_folder keys;
    struct buf bytes;
    struct packfile_head head; /* borrows */
};

static int seen_line(void *ctx, const char *line, size_t len, struct err *err)
{
    struct buf *b = ctx;

    assert_int_equal(line[len], '\0');
    return buf_add(b, line, len, err) == 0 && buf_adds(b, "|", err) == 0 ? 0 : -1;
}

/* A pack of these lines ("" as well as long ones), as bytes. */
static void make(struct made *m, const char *const *lines, size_t n, uint64_t schema)
{
    struct packfile_writer *w = packfile_writer_new();
    struct err err = { 0 };
    char path[] = "/tmp/ks-pack-XXXXXX";
    int fd = mkostemp(path, O_CLOEXEC);

    assert_non_null(w);
    assert_true(fd >= 0);
    unlink(path);
    m->head = (struct packfile_head){ .schema = schema,
                                      .made_at_s = 1700000000,
                                      .embedding = (char *)"builtin-1",
                                      .counts = json_pack("{s:i}", "claim", (int)n),
                                      .filters = json_object() };
    for (size_t i = 0; i < n; i++)
        assert_ok(packfile_add(w, lines[i], strlen(lines[i]), &err));
    assert_ok(packfile_finish(w, m->keys.path, &m->head, fd, &err));
    packfile_writer_free(w);
    json_decref(m->head.counts);
    json_decref(m->head.filters);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    buf_clear(&m->bytes);
    m->bytes.max = PACKFILE_MAX;
    assert_ok(file_read_fd(fd, &m->bytes, &err));
    close(fd);
}

static void begin(struct made *m)
{
    *m = (struct made){ 0 };
    folder_make(&m->keys);
}

static void end(struct made *m)
{
    buf_release(&m->bytes);
    folder_remove(&m->keys);
}

/* Everything a reader checks, over a copy of these bytes. */
static int read_bytes(const void *data, size_t len, struct buf *lines, struct err *err)
{
    struct buf copy = { .max = PACKFILE_MAX };
    struct packfile p;
    int rc;

    assert_int_equal(buf_add(&copy, data, len, err), 0);
    if (packfile_parse(&copy, &p, err) != 0)
        return -1;
    rc = packfile_check_signature(&p, err) == 0 && packfile_check_body(&p, err) == 0 &&
                 (lines == NULL || packfile_each(&p, seen_line, lines, err) == 0)
             ? 0
             : -1;
    packfile_release(&p);
    return rc;
}

static const char *const lines[] = { "{\"a\":1}", "", "{\"kind\":\"claim\",\"fact\":{}}" };

static void what_was_written_is_read(void **state)
{
    struct buf got = { .max = 1 << 24 };
    struct err err = { 0 };
    struct packfile p;
    struct made m;

    (void)state;
    begin(&m);
    make(&m, lines, 3, SCHEMA_VERSION);
    assert_true(packfile_is(m.bytes.data, m.bytes.len));
    assert_ok(read_bytes(m.bytes.data, m.bytes.len, &got, &err));
    assert_string_equal(buf_str(&got), "{\"a\":1}||{\"kind\":\"claim\",\"fact\":{}}|");
    assert_ok(packfile_parse(&m.bytes, &p, &err));
    assert_int_equal(p.head.lines, 3);
    assert_int_equal(p.head.made_at_s, 1700000000);
    assert_string_equal(p.head.embedding, "builtin-1");
    assert_string_equal(p.head.signer.fingerprint.hex, m.head.signer.fingerprint.hex);
    packfile_release(&p);
    /* an empty one, and lines longer than a step of unpacking */
    make(&m, NULL, 0, SCHEMA_VERSION);
    assert_ok(read_bytes(m.bytes.data, m.bytes.len, NULL, &err));
    CLEANUP(freep) char *large = malloc((1 << 20) + 1);
    memset(large, 'x', 1 << 20);
    large[1 << 20] = '\0';
    make(&m, (const char *const[]){ large, "end" }, 2, SCHEMA_VERSION);
    buf_clear(&got);
    assert_ok(read_bytes(m.bytes.data, m.bytes.len, &got, &err));
    assert_int_equal(got.len, (1 << 20) + 1 + 4);
    buf_release(&got);
    end(&m);
}

static void equal_lines_make_equal_bodies(void **state)
{
    struct made a, b;

    (void)state;
    begin(&a);
    begin(&b);
    make(&a, lines, 3, SCHEMA_VERSION);
    make(&b, lines, 3, SCHEMA_VERSION);
    assert_string_equal(a.head.sha256.hex, b.head.sha256.hex);
    end(&a);
    end(&b);
}

static void no_byte_can_be_changed_and_no_end_cut(void **state)
{
    struct err err = { 0 };
    struct made m;
    size_t checked = 0;

    (void)state;
    begin(&m);
    make(&m, lines, 3, SCHEMA_VERSION);
    for (size_t i = 0; i < m.bytes.len; i++) {
        m.bytes.data[i] = (char)(m.bytes.data[i] ^ 4);
        if (read_bytes(m.bytes.data, m.bytes.len, NULL, &err) == 0)
            fail_msg("byte %zu was changed unnoticed", i);
        assert_true(err.code == ERR_CORRUPT || err.code == ERR_INVALID || err.code == ERR_REFUSED ||
                    err.code == ERR_LIMIT);
        m.bytes.data[i] = (char)(m.bytes.data[i] ^ 4);
        checked++;
    }
    assert_true(checked > 300);
    for (size_t len = 0; len < m.bytes.len; len++)
        if (read_bytes(m.bytes.data, len, NULL, &err) == 0)
            fail_msg("the end was cut off at %zu unnoticed", len);
    assert_ok(buf_add(&m.bytes, "x", 1, &err));
    assert_fails(read_bytes(m.bytes.data, m.bytes.len, NULL, &err), ERR_CORRUPT);
    end(&m);
}

static void other_files_and_newer_schemas_are_told_apart(void **state)
{
    struct err err;
    struct made m;

    (void)state;
    begin(&m);
    assert_fails(read_bytes("{\"results\":[]}", 14, NULL, &err), ERR_INVALID);
    assert_fails(read_bytes("", 0, NULL, &err), ERR_INVALID);
    make(&m, lines, 3, SCHEMA_VERSION + 1);
    assert_fails(read_bytes(m.bytes.data, m.bytes.len, NULL, &err), ERR_REFUSED);
    assert_non_null(strstr(err.msg, "schema"));
    end(&m);
}

/* A body of 64 MiB of zeros behind a head that says it has 16 bytes, properly signed. */
static void a_bomb_is_not_unpacked(void **state)
{
    size_t huge = 64 << 20;
    uLongf packed_len = compressBound(huge);
    CLEANUP(freep) char *zeros = calloc(1, huge);
    CLEANUP(freep) uint8_t *packed = malloc(packed_len);
    struct packfile p;
    struct err err = { 0 };
    struct made m;

    (void)state;
    begin(&m);
    make(&m, lines, 3, SCHEMA_VERSION);
    assert_ok(packfile_parse(&m.bytes, &p, &err));
    assert_int_equal(compress2(packed, &packed_len, (const Bytef *)zeros, huge, 9), Z_OK);
    p.file.len = p.body_at;
    assert_ok(buf_add(&p.file, packed, packed_len, &err));
    id_of_bytes(packed, packed_len, &p.head.packed); /* as if its own signer had made it so */
    assert_fails(packfile_check_body(&p, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.msg, "more bytes"));
    packfile_release(&p);
    end(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_written_is_read),
        cmocka_unit_test(equal_lines_make_equal_bodies),
        cmocka_unit_test(no_byte_can_be_changed_and_no_end_cut),
        cmocka_unit_test(other_files_and_newer_schemas_are_told_apart),
        cmocka_unit_test(a_bomb_is_not_unpacked),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
