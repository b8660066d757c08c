/* SPDX-License-Identifier: Apache-2.0 */
/* Keys in files, signatures by OpenSSL; see keys.h. */
#include "keys.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

#define LINE_WORD "ksearch-ed25519"

enum { BASE64_LEN = 44 /* of KEYS_RAW bytes */, PREFIX_MIN = 6 };

static void pkey_free(EVP_PKEY **p)
{
    EVP_PKEY_free(*p);
}

static void bio_free(BIO **b)
{
    BIO_free(*b);
}

/* A key file with a pass phrase must not make the daemon ask for it on a terminal. */
static int no_phrase(char *buf, int size, int writing, void *ctx)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)ctx;
    return 0;
}

/* ---- Public keys as text ---- */

void keys_of_raw(const uint8_t raw[KEYS_RAW], struct public_key *out)
{
    memset(out, 0, sizeof(*out));
    memcpy(out->raw, raw, KEYS_RAW);
    id_of_bytes(raw, KEYS_RAW, &out->fingerprint);
}

char *keys_line(const struct public_key *k, char out[KEYS_LINE_MAX])
{
    uint8_t base64[BASE64_LEN + 1];

    EVP_EncodeBlock(base64, k->raw, KEYS_RAW);
    snprintf(out, KEYS_LINE_MAX, LINE_WORD " %s%s%s", (char *)base64, k->name[0] ? " " : "",
             k->name);
    return out;
}

static bool decode_base64(const char *text, uint8_t raw[KEYS_RAW])
{
    uint8_t bytes[BASE64_LEN], again[BASE64_LEN + 1];

    /* The padding counts as a byte there. */
    if (EVP_DecodeBlock(bytes, (const uint8_t *)text, BASE64_LEN) != KEYS_RAW + 1)
        return false;
    EVP_EncodeBlock(again, bytes, KEYS_RAW);
    if (memcmp(again, text, BASE64_LEN) != 0)
        return false; /* bits beyond the last byte, or blanks within: one key has one text */
    memcpy(raw, bytes, KEYS_RAW);
    return true;
}

static int bad_line(const char *line, struct err *err)
{
    char seen[80];

    str_visible(line, strlen(line), seen, sizeof(seen));
    return err_set(err, ERR_INVALID,
                   "'%s' is no public key; '" LINE_WORD
                   " BASE64 [NAME]' is allowed, as 'ksearch kb key show' prints it, or PEM",
                   seen);
}

static int parse_line(char *line, struct public_key *out, struct err *err)
{
    char *save = NULL, *word, *base64, *name;
    uint8_t raw[KEYS_RAW];
    CLEANUP(freep) char *copy = strdup(line);

    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read a key");
    word = strtok_r(copy, " \t", &save);
    base64 = word ? strtok_r(NULL, " \t", &save) : NULL;
    name = base64 ? strtok_r(NULL, " \t", &save) : NULL;
    if (base64 == NULL || strcmp(word, LINE_WORD) != 0 || strlen(base64) != BASE64_LEN ||
        !decode_base64(base64, raw) || strtok_r(NULL, " \t", &save) != NULL)
        return bad_line(line, err);
    if (name != NULL && !str_is_name(name))
        return err_set(err, ERR_INVALID,
                       "the key's name '%.40s' is none; 1 to %d of A-Z a-z 0-9 _ . - are allowed",
                       name, KEYS_NAME_MAX);
    keys_of_raw(raw, out);
    if (name != NULL)
        str_copy(out->name, sizeof(out->name), name);
    return 0;
}

static int parse_lines(const char *text, struct public_key *out, struct err *err)
{
    CLEANUP(freep) char *copy = strdup(text);
    char *save = NULL;
    bool found = false;

    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read a key");
    for (char *line = strtok_r(copy, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
        line += strspn(line, " \t");
        if (*line == '\0' || *line == '#')
            continue;
        if (found)
            return err_set(err, ERR_INVALID,
                           "the file has more than one public key; one is "
                           "allowed");
        if (parse_line(line, out, err) != 0)
            return -1;
        found = true;
    }
    return found ? 0 : err_set(err, ERR_INVALID, "the file has no public key");
}

static int parse_pem(const char *text, size_t len, struct public_key *out, struct err *err)
{
    CLEANUP(bio_free) BIO *bio = BIO_new_mem_buf(text, (int)len);
    CLEANUP(pkey_free)
    EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, no_phrase, NULL) : NULL;
    uint8_t raw[KEYS_RAW];
    size_t n = sizeof(raw);

    if (key == NULL || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519 ||
        EVP_PKEY_get_raw_public_key(key, raw, &n) != 1 || n != KEYS_RAW)
        return err_set(err, ERR_INVALID, "the PEM text is no Ed25519 public key");
    keys_of_raw(raw, out);
    return 0;
}

int keys_parse(const char *text, size_t len, struct public_key *out, struct err *err)
{
    CLEANUP(freep) char *copy = NULL;

    if (len > KEYS_TEXT_MAX)
        return err_set(err, ERR_LIMIT, "the key file has %zu bytes; at most %d are allowed", len,
                       KEYS_TEXT_MAX);
    if (memchr(text, '\0', len) != NULL)
        return err_set(err, ERR_INVALID, "the key file is no text");
    copy = strndup(text, len);
    if (copy == NULL)
        return err_set(err, ERR_NOMEM, "no memory to read a key");
    if (strstr(copy, "PRIVATE KEY") != NULL)
        return err_set(err, ERR_REFUSED,
                       "this is a private key, which nobody but its owner should have; 'ksearch kb "
                       "key show' prints the public one");
    if (strstr(copy, "-----BEGIN ") != NULL)
        return parse_pem(copy, len, out, err);
    return parse_lines(copy, out, err);
}

/* ---- The own pair ---- */

static int make_folder(const char *dir, const char *sub, char **out, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/keys%s", dir, sub);

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (file_mkdirs(path, err) != 0)
        return -1;
    *out = TAKE(path);
    return 0;
}

static int check_private(int fd, const char *path, struct err *err)
{
    struct stat st;

    if (fstat(fd, &st) != 0)
        return err_set(err, ERR_IO, "cannot look at '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, ERR_CORRUPT, "'%s' is no regular file", path);
    if (st.st_mode & 077)
        return err_set(err, ERR_REFUSED,
                       "the private key '%s' may be read by others (mode %04o); 'chmod 600' it, or "
                       "delete it for a new one if others had it",
                       path, (unsigned)(st.st_mode & 07777));
    return 0;
}

/* The key of the file; ERR_NOT_FOUND when there is none. */
static int private_load(const char *path, EVP_PKEY **out, struct err *err)
{
    CLEANUP(closep) int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    CLEANUP(buf_release) struct buf text = { .max = KEYS_TEXT_MAX };
    CLEANUP(bio_free) BIO *bio = NULL;
    CLEANUP(pkey_free) EVP_PKEY *key = NULL;

    if (fd < 0)
        return err_set(err, errno == ENOENT ? ERR_NOT_FOUND : ERR_IO, "cannot open '%s': %s", path,
                       strerror(errno));
    if (check_private(fd, path, err) != 0 || file_read_fd(fd, &text, err) != 0)
        return -1;
    bio = BIO_new_mem_buf(buf_str(&text), (int)text.len);
    key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_phrase, NULL) : NULL;
    if (text.len > 0)
        OPENSSL_cleanse(text.data, text.len);
    if (key == NULL || EVP_PKEY_get_id(key) != EVP_PKEY_ED25519)
        return err_set(err, ERR_CORRUPT,
                       "'%s' is no Ed25519 private key; put the right file back, or delete it for "
                       "a new key",
                       path);
    *out = TAKE(key);
    return 0;
}

/* Synced, and under its name only when it is whole: the first of several that make one wins. */
static int private_write(const char *path, const char *pem, size_t len, struct err *err)
{
    CLEANUP(freep) char *tmp = str_printf("%s.XXXXXX", path);
    int fd = tmp ? mkostemp(tmp, O_CLOEXEC) : -1, rc; /* mode 0600 */

    if (fd < 0)
        return err_set(err, ERR_IO, "cannot make a file beside '%s': %s", path, strerror(errno));
    rc = file_write_all(fd, pem, len, err);
    if (rc == 0 && fsync(fd) != 0)
        rc = err_set(err, ERR_IO, "cannot sync '%s': %s", tmp, strerror(errno));
    close(fd);
    if (rc == 0 && link(tmp, path) != 0 && errno != EEXIST)
        rc = err_set(err, ERR_IO, "cannot make '%s': %s", path, strerror(errno));
    unlink(tmp);
    return rc;
}

static int private_make(const char *path, struct err *err)
{
    CLEANUP(pkey_free) EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
    CLEANUP(bio_free) BIO *bio = BIO_new(BIO_s_secmem());
    char *pem = NULL;
    long len;

    if (key == NULL || bio == NULL ||
        PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1 ||
        (len = BIO_get_mem_data(bio, &pem)) <= 0)
        return err_set(err, ERR_INTERNAL, "the library gave no Ed25519 key");
    return private_write(path, pem, (size_t)len, err);
}

static int own_key(const char *dir, EVP_PKEY **out, struct err *err)
{
    CLEANUP(freep) char *folder = NULL;
    CLEANUP(freep) char *path = NULL;

    if (make_folder(dir, "", &folder, err) != 0)
        return -1;
    path = str_printf("%s/private.pem", folder);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (private_load(path, out, err) == 0)
        return 0;
    if (err->code != ERR_NOT_FOUND || private_make(path, err) != 0)
        return -1;
    return private_load(path, out, err);
}

int keys_own(const char *dir, struct public_key *out, struct err *err)
{
    CLEANUP(pkey_free) EVP_PKEY *key = NULL;
    uint8_t raw[KEYS_RAW];
    size_t n = sizeof(raw);

    if (own_key(dir, &key, err) != 0)
        return -1;
    if (EVP_PKEY_get_raw_public_key(key, raw, &n) != 1 || n != KEYS_RAW)
        return err_set(err, ERR_INTERNAL, "the own key has no public half");
    keys_of_raw(raw, out);
    return 0;
}

int keys_sign(const char *dir, const void *data, size_t len, uint8_t out[KEYS_SIGNATURE],
              struct err *err)
{
    CLEANUP(pkey_free) EVP_PKEY *key = NULL;
    EVP_MD_CTX *ctx;
    size_t n = KEYS_SIGNATURE;
    bool ok;

    if (own_key(dir, &key, err) != 0)
        return -1;
    ctx = EVP_MD_CTX_new();
    ok = ctx != NULL && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
         EVP_DigestSign(ctx, out, &n, data, len) == 1 && n == KEYS_SIGNATURE;
    EVP_MD_CTX_free(ctx);
    return ok ? 0 : err_set(err, ERR_INTERNAL, "the own key does not sign");
}

bool keys_verify(const struct public_key *k, const void *data, size_t len,
                 const uint8_t signature[KEYS_SIGNATURE])
{
    CLEANUP(pkey_free)
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, k->raw, KEYS_RAW);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    bool ok = key != NULL && ctx != NULL && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
              EVP_DigestVerify(ctx, signature, KEYS_SIGNATURE, data, len) == 1;

    EVP_MD_CTX_free(ctx);
    return ok;
}

/* ---- Trusted keys ---- */

static char *trusted_path(const char *folder, const struct id *fingerprint)
{
    return str_printf("%s/%s.pub", folder, fingerprint->hex);
}

static int trusted_load(const char *folder, const struct id *fingerprint, struct public_key *out,
                        struct err *err)
{
    CLEANUP(freep) char *path = trusted_path(folder, fingerprint);
    CLEANUP(buf_release) struct buf text = { .max = KEYS_TEXT_MAX };
    struct public_key k;

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (file_read(path, &text, err) != 0)
        return -1;
    if (keys_parse(buf_str(&text), text.len, &k, err) != 0 ||
        strcmp(k.fingerprint.hex, fingerprint->hex) != 0)
        return err_set(err, ERR_CORRUPT, "'%s' does not hold the key that it is named after", path);
    *out = k;
    return 0;
}

int keys_trusted(const char *dir, const struct id *fingerprint, struct public_key *out,
                 struct err *err)
{
    CLEANUP(freep) char *folder = NULL;

    if (!str_is_hex(fingerprint->hex, ID_HEX))
        return err_set(err, ERR_NOT_FOUND, "there is no such fingerprint");
    if (make_folder(dir, "/trusted", &folder, err) != 0)
        return -1;
    return trusted_load(folder, fingerprint, out, err);
}

/* The fingerprint that a file is named after; others are none of ours. */
static int is_key_file(const struct dirent *e)
{
    struct id id;

    if (strlen(e->d_name) != ID_HEX + 4 || !str_has_suffix(e->d_name, ".pub"))
        return 0;
    memcpy(id.hex, e->d_name, ID_HEX);
    id.hex[ID_HEX] = '\0';
    return str_is_hex(id.hex, ID_HEX);
}

int keys_each(const char *dir, int (*fn)(void *ctx, const struct public_key *k), void *ctx,
              struct err *err)
{
    CLEANUP(freep) char *folder = NULL;
    struct dirent **names = NULL;
    int n, rc = 0, stop = 0;

    if (make_folder(dir, "/trusted", &folder, err) != 0)
        return -1;
    n = scandir(folder, &names, is_key_file, alphasort);
    if (n < 0)
        return err_set(err, ERR_IO, "cannot list '%s': %s", folder, strerror(errno));
    for (int i = 0; i < n; i++) {
        struct public_key k;
        struct id id;

        memcpy(id.hex, names[i]->d_name, ID_HEX);
        id.hex[ID_HEX] = '\0';
        free(names[i]);
        if (rc == 0 && stop == 0)
            rc = trusted_load(folder, &id, &k, err);
        if (rc == 0 && stop == 0)
            stop = fn(ctx, &k);
    }
    free(names);
    return rc;
}

struct find {
    const char *which;
    const struct public_key *fresh; /* the one that wants the name */
    struct public_key found;
    size_t n, all;
};

static int find_name(void *ctx, const struct public_key *k)
{
    struct find *f = ctx;

    f->all++;
    if (strcmp(k->name, f->fresh->name) == 0 &&
        strcmp(k->fingerprint.hex, f->fresh->fingerprint.hex) != 0) {
        f->found = *k;
        f->n++;
    }
    return 0;
}

int keys_trust(const char *dir, const struct public_key *k, struct err *err)
{
    struct find f = { .fresh = k };
    CLEANUP(freep) char *folder = NULL;
    CLEANUP(freep) char *path = NULL;
    char line[KEYS_LINE_MAX];
    size_t len;

    if (!str_is_name(k->name))
        return err_set(err, ERR_INVALID,
                       "the key needs a name; 1 to %d of A-Z a-z 0-9 _ . - are "
                       "allowed",
                       KEYS_NAME_MAX);
    if (make_folder(dir, "/trusted", &folder, err) != 0 || keys_each(dir, find_name, &f, err) != 0)
        return -1;
    if (f.n > 0)
        return err_set(err, ERR_CONFLICT,
                       "'%s' is the name of another trusted key (fingerprint %s); give this one "
                       "another name",
                       k->name, f.found.fingerprint.hex);
    if (f.all >= KEYS_TRUSTED_MAX)
        return err_set(err, ERR_LIMIT, "%d keys are trusted; no more are allowed",
                       KEYS_TRUSTED_MAX);
    path = trusted_path(folder, &k->fingerprint);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    keys_line(k, line);
    len = strlen(line);
    line[len] = '\n';
    return file_write_atomic(path, line, len + 1, err);
}

static int find_which(void *ctx, const struct public_key *k)
{
    struct find *f = ctx;
    size_t len = strlen(f->which);
    bool prefix = len >= PREFIX_MIN && len <= ID_HEX && str_is_hex(f->which, len) &&
                  str_has_prefix(k->fingerprint.hex, f->which);

    if (prefix || strcmp(k->name, f->which) == 0) {
        f->found = *k;
        f->n++;
    }
    return 0;
}

int keys_distrust(const char *dir, const char *which, struct public_key *out, struct err *err)
{
    struct find f = { .which = which };
    CLEANUP(freep) char *folder = NULL;
    CLEANUP(freep) char *path = NULL;
    char seen[120];

    str_visible(which, strlen(which), seen, sizeof(seen));
    if (make_folder(dir, "/trusted", &folder, err) != 0 || keys_each(dir, find_which, &f, err) != 0)
        return -1;
    if (f.n != 1)
        return err_set(err, f.n ? ERR_INVALID : ERR_NOT_FOUND,
                       f.n ? "more than one trusted key is '%s'; give more digits"
                           : "no trusted key is called '%s' or has a fingerprint that starts so",
                       seen);
    path = trusted_path(folder, &f.found.fingerprint);
    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a path");
    if (unlink(path) != 0)
        return err_set(err, ERR_IO, "cannot delete '%s': %s", path, strerror(errno));
    *out = f.found;
    return 0;
}
