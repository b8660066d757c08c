/* SPDX-License-Identifier: Apache-2.0 */
/* Damaged files and records: opening refuses with a clear sentence, or verify names what is
 * damaged. */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "kb_fixture.h"
#include "store.h"

enum { CLAIMS = 3000 };

/* A base that is large enough to have tables: closing flushes it. */
static void fill(const char *dir)
{
    struct kb *kb = base_open(dir);
    struct kb_batch *b = kb_batch_new(kb);

    for (uint64_t i = 0; i < CLAIMS; i++) {
        put_claim(b, i);
        put_evidence(b, i, i);
        put_evaluation(b, i);
    }
    commit(b);
    kb_batch_free(b);
    kb_close(kb);
}

static bool is_kind(const char *name, const char *kind)
{
    return kind[0] == '.' ? str_has_suffix(name, kind) : str_has_prefix(name, kind);
}

/* Changes `n` bytes in the middle of each file of the kind; how many files there were. */
static int scratch(const char *dir, const char *kind, int n)
{
    char folder[128], path[400];
    struct dirent *e;
    struct stat st;
    int files = 0;
    DIR *d;

    snprintf(folder, sizeof(folder), "%s/store", dir);
    d = opendir(folder);
    assert_non_null(d);
    while ((e = readdir(d)) != NULL) {
        uint8_t bytes[64];
        int fd;

        if (!is_kind(e->d_name, kind))
            continue;
        snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
        fd = open(path, O_RDWR | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(fstat(fd, &st), 0);
        if (st.st_size >= n) {
            assert_int_equal(pread(fd, bytes, (size_t)n, (st.st_size - n) / 2), n);
            for (int i = 0; i < n; i++)
                bytes[i] ^= 0x5a;
            assert_int_equal(pwrite(fd, bytes, (size_t)n, (st.st_size - n) / 2), n);
            files++;
        }
        close(fd);
    }
    closedir(d);
    return files;
}

static void assert_corrupt(const char *dir, const char *kind)
{
    struct kb *kb = NULL;
    struct err err;

    assert_true(scratch(dir, kind, 16) > 0);
    assert_fails(base_try_open(dir, &kb, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.msg, dir));
    /* It says the same again: nothing was made over the damage. */
    assert_fails(base_try_open(dir, &kb, &err), ERR_CORRUPT);
}

static void damaged_tables_refuse_to_open(void **arg)
{
    struct tmp_folder f;

    (void)arg;
    folder_make(&f);
    fill(f.path);
    assert_corrupt(f.path, ".sst");
    folder_remove(&f);
}

static void a_damaged_manifest_refuses_to_open(void **arg)
{
    struct tmp_folder f;

    (void)arg;
    folder_make(&f);
    fill(f.path);
    assert_corrupt(f.path, "MANIFEST");
    folder_remove(&f);
}

static void a_damaged_or_lost_current_refuses_to_open(void **arg)
{
    struct tmp_folder f;
    char path[128];
    struct kb *kb = NULL;
    struct err err;

    (void)arg;
    folder_make(&f);
    fill(f.path);
    assert_corrupt(f.path, "CURRENT");
    snprintf(path, sizeof(path), "%s/store/CURRENT", f.path);
    assert_int_equal(unlink(path), 0);
    assert_fails(base_try_open(f.path, &kb, &err), ERR_CORRUPT);
    assert_non_null(strstr(err.msg, "has tables but no file CURRENT"));
    folder_remove(&f);
}

/* A log with damage in its middle holds acknowledged writes behind it: they are not to be dropped.
 */
static void a_damaged_log_refuses_to_open(void **arg)
{
    struct tmp_folder f;
    struct kb_batch *b;
    struct kb *kb;

    (void)arg;
    folder_make(&f);
    kb = base_open(f.path);
    b = kb_batch_new(kb);
    for (uint64_t i = 0; i < 200; i++) {
        put_evaluation(b, i);
        commit(b);
    }
    kb_batch_free(b);
    kb_close(kb);
    assert_corrupt(f.path, ".log");
    folder_remove(&f);
}

/* A log cut short in its last record: a write that nobody was told of. */
static void a_log_cut_at_its_end_opens_without_the_last_write(void **arg)
{
    struct tmp_folder f;
    char command[200];
    struct kb_batch *b;
    struct kb *kb;

    (void)arg;
    folder_make(&f);
    kb = base_open(f.path);
    b = kb_batch_new(kb);
    for (uint64_t i = 0; i < 20; i++) {
        put_evaluation(b, i);
        commit(b);
    }
    kb_batch_free(b);
    kb_close(kb);
    snprintf(command, sizeof(command), "for f in %s/store/*.log; do truncate -s -7 $f; done",
             f.path);
    assert_int_equal(system(command), 0);
    kb = base_open(f.path);
    assert_int_equal(kb_last_seq(kb), 19);
    digest_of(kb);
    kb_close(kb);
    folder_remove(&f);
}

static void a_lost_table_refuses_to_open(void **arg)
{
    struct tmp_folder f;
    char command[200];
    struct kb *kb = NULL;
    struct err err;

    (void)arg;
    folder_make(&f);
    fill(f.path);
    snprintf(command, sizeof(command), "ls %s/store/*.sst | head -1 | xargs rm", f.path);
    assert_int_equal(system(command), 0);
    assert_fails(base_try_open(f.path, &kb, &err), ERR_CORRUPT);
    folder_remove(&f);
}

/* ---- Damaged values inside a sound store ---- */

static void overwrite(const char *dir, enum schema_cf cf, const struct key *key, const char *text)
{
    char path[128];
    struct store_batch *b = store_batch_new();
    uint8_t head[FACT_HEAD_BYTES];
    struct fact_head h = { .seq = 1 };
    struct store *s;
    struct err err;
    bool fresh;

    snprintf(path, sizeof(path), "%s/store", dir);
    assert_ok(store_open(path, STORE_OPEN, &s, &fresh, &err));
    fact_head_encode(&h, head);
    store_batch_put(b, s, cf, key, head, sizeof(head), text, strlen(text));
    assert_ok(store_write(s, b, true, &err));
    store_batch_free(b);
    store_close(s);
}

static bool mentions(const json_t *problems, const char *a, const char *b)
{
    for (size_t i = 0; i < json_array_size(problems); i++) {
        const char *s = json_string_value(json_array_get(problems, i));

        if (strstr(s, a) && strstr(s, b))
            return true;
    }
    return false;
}

static void verify_names_a_damaged_record(void **arg)
{
    struct id id = claim_id(0), other = claim_id(1), digest;
    struct tmp_folder f;
    struct heard heard = { .n = 0 };
    struct kb_options o = {
        .dir = f.path, .clock = clock_system(), .notice = hear, .notice_ctx = &heard
    };
    json_t *problems = json_array();
    struct kb_batch *b;
    struct insight in;
    struct key key;
    struct kb *kb;
    struct err err;

    (void)arg;
    folder_make(&f);
    kb = base_open(f.path);
    b = kb_batch_new(kb);
    put_claim(b, 0);
    put_claim(b, 1);
    commit(b);
    kb_batch_free(b);
    kb_close(kb);
    key_of_id(&id, &key);
    overwrite(f.path, CF_CLAIM, &key, "{\"technique\":");

    /* The snapshot has what the record said while it was sound; verify looks at the record. */
    assert_ok(kb_open(&o, &kb, &err));
    assert_int_equal(heard.n, 0);
    assert_ok(kb_get_insight(kb, id.hex, &in, &err));
    insight_release(&in);
    assert_ok(kb_verify(kb, problems, &digest, &err));
    assert_true(mentions(problems, "claim", id.hex));
    assert_true(mentions(problems, "the insights in memory differ", ""));
    assert_false(mentions(problems, "claim", other.hex));
    kb_close(kb);
    /* From then on without the snapshot, again and again. */
    for (int i = 0; i < 2; i++) {
        heard.n = 0;
        json_array_clear(problems);
        assert_ok(kb_open(&o, &kb, &err));
        assert_true(heard.n > 0);
        assert_fails(kb_get_insight(kb, id.hex, &in, &err), ERR_NOT_FOUND);
        assert_ok(kb_get_insight(kb, other.hex, &in, &err)); /* the rest is there */
        insight_release(&in);
        assert_ok(kb_verify(kb, problems, &digest, &err));
        assert_true(mentions(problems, "claim", id.hex));
        assert_false(mentions(problems, "claim", other.hex));
        kb_close(kb);
    }
    json_decref(problems);
    folder_remove(&f);
}

static void verify_notices_a_record_under_another_address(void **arg)
{
    struct tmp_folder f;
    struct id id, digest;
    json_t *problems = json_array();
    struct evaluation e;
    struct kb_batch *b;
    struct key key;
    struct kb *kb;
    struct err err;

    (void)arg;
    folder_make(&f);
    kb = base_open(f.path);
    b = kb_batch_new(kb);
    id = put_evaluation(b, 1);
    commit(b);
    kb_batch_free(b);
    kb_close(kb);
    key_of_id(&id, &key);
    overwrite(f.path, CF_EVALUATION, &key, "{}");
    kb = base_open(f.path);
    assert_fails(kb_get_evaluation(kb, &id, &e, &err), ERR_CORRUPT);
    assert_ok(kb_verify(kb, problems, &digest, &err));
    assert_true(mentions(problems, id.hex, "content address"));
    kb_close(kb);
    json_decref(problems);
    folder_remove(&f);
}

static void a_newer_schema_is_refused_and_left_alone(void **arg)
{
    struct tmp_folder f;
    char path[128];
    struct kb *kb = NULL;
    struct store_batch *b = store_batch_new();
    struct store *s;
    struct key key;
    struct err err;
    bool fresh;

    (void)arg;
    folder_make(&f);
    kb_close(base_open(f.path));
    snprintf(path, sizeof(path), "%s/store", f.path);
    assert_ok(store_open(path, STORE_OPEN, &s, &fresh, &err));
    assert_ok(key_of_text("key", META_SCHEMA, &key, &err));
    store_batch_put(b, s, CF_META, &key, "", 0, "99", 2);
    assert_ok(store_write(s, b, true, &err));
    store_batch_free(b);
    store_close(s);
    assert_fails(base_try_open(f.path, &kb, &err), ERR_REFUSED);
    assert_non_null(strstr(err.msg, "has schema 99; this program knows up to 1"));
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damaged_tables_refuse_to_open),
        cmocka_unit_test(a_damaged_manifest_refuses_to_open),
        cmocka_unit_test(a_damaged_or_lost_current_refuses_to_open),
        cmocka_unit_test(a_damaged_log_refuses_to_open),
        cmocka_unit_test(a_log_cut_at_its_end_opens_without_the_last_write),
        cmocka_unit_test(a_lost_table_refuses_to_open),
        cmocka_unit_test(verify_names_a_damaged_record),
        cmocka_unit_test(verify_notices_a_record_under_another_address),
        cmocka_unit_test(a_newer_schema_is_refused_and_left_alone),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
