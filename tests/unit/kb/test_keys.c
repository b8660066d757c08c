/* SPDX-License-Identifier: Apache-2.0 */
/* Keys: the own pair is made once and kept, texts are read strictly, trust is by fingerprint. */
#include "kb_fixture.h"

#include <sys/stat.h>

#include "keys.h"

static struct public_key own_of(const char *dir)
{
    struct public_key k;
    struct err err;

    assert_ok(keys_own(dir, &k, &err));
    return k;
}

static void the_own_pair_is_made_once_and_is_the_owner_s_alone(void **state)
{
    struct tmp_folder f, g;
    struct public_key a, b, other;
    struct stat st;
    struct err err;

    (void)state;
    folder_make(&f);
    folder_make(&g);
    a = own_of(f.path);
    b = own_of(f.path);
    other = own_of(g.path);
    assert_memory_equal(a.raw, b.raw, KEYS_RAW);
    assert_string_not_equal(a.fingerprint.hex, other.fingerprint.hex);
    CLEANUP(freep) char *path = str_printf("%s/keys/private.pem", f.path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(st.st_nlink, 1); /* nothing of making it is left */
    /* a key that others could read is none */
    assert_int_equal(chmod(path, 0644), 0);
    assert_fails(keys_own(f.path, &a, &err), ERR_REFUSED);
    assert_int_equal(chmod(path, 0600), 0);
    assert_ok(file_write(path, "nonsense", 8, 0600, &err));
    assert_fails(keys_own(f.path, &a, &err), ERR_CORRUPT);
    folder_remove(&f);
    folder_remove(&g);
}

static void signatures_are_of_one_text_and_one_key(void **state)
{
    struct tmp_folder f, g;
    struct public_key a, b;
    uint8_t signature[KEYS_SIGNATURE];
    struct err err;

    (void)state;
    folder_make(&f);
    folder_make(&g);
    a = own_of(f.path);
    b = own_of(g.path);
    assert_ok(keys_sign(f.path, "hello", 5, signature, &err));
    assert_true(keys_verify(&a, "hello", 5, signature));
    assert_false(keys_verify(&a, "hellO", 5, signature));
    assert_false(keys_verify(&a, "hell", 4, signature));
    assert_false(keys_verify(&b, "hello", 5, signature));
    for (size_t i = 0; i < KEYS_SIGNATURE; i += 7) {
        signature[i] ^= 1;
        assert_false(keys_verify(&a, "hello", 5, signature));
        signature[i] ^= 1;
    }
    folder_remove(&f);
    folder_remove(&g);
}

static void public_keys_are_read_strictly(void **state)
{
    struct tmp_folder f;
    struct public_key a, b;
    char line[KEYS_LINE_MAX];
    struct err err;

    (void)state;
    folder_make(&f);
    a = own_of(f.path);
    str_copy(a.name, sizeof(a.name), "ada");
    keys_line(&a, line);
    CLEANUP(freep) char *text = str_printf("# fingerprint %s\n\n%s\r\n", a.fingerprint.hex, line);
    assert_ok(keys_parse(text, strlen(text), &b, &err));
    assert_string_equal(a.fingerprint.hex, b.fingerprint.hex);
    assert_string_equal(b.name, "ada");
    CLEANUP(freep) char *twice = str_printf("%s\n%s\n", line, line);
    assert_fails(keys_parse(twice, strlen(twice), &b, &err), ERR_INVALID);
    assert_fails(keys_parse("", 0, &b, &err), ERR_INVALID);
    assert_fails(keys_parse(line, strlen(line) - 40, &b, &err), ERR_INVALID);
    assert_fails(keys_parse("ksearch-ed25519 AAAA", 20, &b, &err), ERR_INVALID);
    assert_fails(keys_parse("a\0b", 3, &b, &err), ERR_INVALID);
    /* one key has one text: bits behind the last byte are not passed over */
    CLEANUP(freep) char *loose = strdup(line);
    char *end = strchr(loose, '=') - 1;
    *end = *end == 'B' ? 'C' : 'B';
    assert_fails(keys_parse(loose, strlen(loose), &b, &err), ERR_INVALID);
    /* PEM, of the right kind only */
    static const char pem[] = "-----BEGIN PUBLIC KEY-----\n"
                              "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n"
                              "-----END PUBLIC KEY-----\n";
    assert_ok(keys_parse(pem, sizeof(pem) - 1, &b, &err));
    assert_int_equal(b.raw[0], 0x19);
    assert_fails(keys_parse(pem, sizeof(pem) - 40, &b, &err), ERR_INVALID);
    static const char secret[] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    assert_fails(keys_parse(secret, sizeof(secret) - 1, &b, &err), ERR_REFUSED);
    folder_remove(&f);
}

static int count_key(void *ctx, const struct public_key *k)
{
    (void)k;
    ++*(int *)ctx;
    return 0;
}

static struct public_key key_named(unsigned char first, const char *name)
{
    uint8_t raw[KEYS_RAW] = { first };
    struct public_key k;

    keys_of_raw(raw, &k);
    str_copy(k.name, sizeof(k.name), name);
    return k;
}

static void trust_is_given_and_taken_by_name_or_fingerprint(void **state)
{
    struct public_key ada = key_named(1, "ada"), ben = key_named(2, "ben"), got;
    struct tmp_folder f;
    char digits[13];
    struct err err;
    int n = 0;

    (void)state;
    folder_make(&f);
    assert_fails(keys_trusted(f.path, &ada.fingerprint, &got, &err), ERR_NOT_FOUND);
    assert_ok(keys_trust(f.path, &ada, &err));
    assert_ok(keys_trust(f.path, &ben, &err));
    assert_ok(keys_trust(f.path, &ada, &err)); /* again is fine */
    assert_ok(keys_each(f.path, count_key, &n, &err));
    assert_int_equal(n, 2);
    assert_ok(keys_trusted(f.path, &ada.fingerprint, &got, &err));
    assert_string_equal(got.name, "ada");
    str_copy(ben.name, sizeof(ben.name), "ada");
    assert_fails(keys_trust(f.path, &ben, &err), ERR_CONFLICT);
    str_copy(ben.name, sizeof(ben.name), "not a name");
    assert_fails(keys_trust(f.path, &ben, &err), ERR_INVALID);
    assert_fails(keys_distrust(f.path, "carl", &got, &err), ERR_NOT_FOUND);
    assert_fails(keys_distrust(f.path, "../../x", &got, &err), ERR_NOT_FOUND);
    assert_ok(keys_distrust(f.path, "ada", &got, &err));
    assert_string_equal(got.fingerprint.hex, ada.fingerprint.hex);
    str_copy(digits, sizeof(digits), ben.fingerprint.hex);
    assert_ok(keys_distrust(f.path, digits, &got, &err));
    assert_fails(keys_trusted(f.path, &ben.fingerprint, &got, &err), ERR_NOT_FOUND);
    /* a file that is not what its name says is damage */
    assert_ok(keys_trust(f.path, &ada, &err));
    CLEANUP(freep) char *path = str_printf("%s/keys/trusted/%s.pub", f.path, ada.fingerprint.hex);
    char line[KEYS_LINE_MAX];
    str_copy(ben.name, sizeof(ben.name), "ben");
    keys_line(&ben, line);
    assert_ok(file_write(path, line, strlen(line), 0600, &err));
    assert_fails(keys_trusted(f.path, &ada.fingerprint, &got, &err), ERR_CORRUPT);
    folder_remove(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_own_pair_is_made_once_and_is_the_owner_s_alone),
        cmocka_unit_test(signatures_are_of_one_text_and_one_key),
        cmocka_unit_test(public_keys_are_read_strictly),
        cmocka_unit_test(trust_is_given_and_taken_by_name_or_fingerprint),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
