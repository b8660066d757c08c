/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 by OpenSSL; see digest.h and record.h. */
#include "digest.h"

#include <assert.h>
#include <openssl/evp.h>
#include <pthread.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/str.h"
#include "schema.h"

struct digest {
    EVP_MD_CTX *ctx;
};

/* Content addresses are taken for every record: one algorithm object and one context serve all. */
static struct {
    pthread_once_t once;
    pthread_mutex_t lock;
    EVP_MD *sha256;
    EVP_MD_CTX *ctx;
} shared = { .once = PTHREAD_ONCE_INIT, .lock = PTHREAD_MUTEX_INITIALIZER };

static void shared_init(void)
{
    shared.sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    shared.ctx = EVP_MD_CTX_new();
    if (shared.sha256 == NULL || shared.ctx == NULL ||
        EVP_DigestInit_ex2(shared.ctx, shared.sha256, NULL) != 1) {
        fprintf(stderr, "this OpenSSL has no SHA-256\n"); /* nothing can be addressed without it */
        abort();
    }
}

static void finish(EVP_MD_CTX *ctx, struct id *out)
{
    uint8_t sum[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    int ok = EVP_DigestFinal_ex(ctx, sum, &n);

    assert(ok == 1 && n * 2 == ID_HEX);
    str_hex(sum, n, out->hex);
}

void id_of_bytes(const void *data, size_t len, struct id *out)
{
    int ok;

    pthread_once(&shared.once, shared_init);
    pthread_mutex_lock(&shared.lock);
    ok = EVP_DigestInit_ex2(shared.ctx, shared.sha256, NULL) == 1 &&
         EVP_DigestUpdate(shared.ctx, data, len) == 1;
    assert(ok); /* a context that was used before allocates nothing */
    finish(shared.ctx, out);
    pthread_mutex_unlock(&shared.lock);
}

int id_of_json(const json_t *j, struct id *out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = VALUE_MAX };

    if (json_to_value(j, &text, err) != 0)
        return -1;
    id_of_bytes(text.data, text.len, out);
    return 0;
}

struct digest *digest_new(void)
{
    struct digest *d = calloc(1, sizeof(*d));

    pthread_once(&shared.once, shared_init);
    if (d)
        d->ctx = EVP_MD_CTX_new();
    if (d == NULL || d->ctx == NULL || EVP_DigestInit_ex2(d->ctx, shared.sha256, NULL) != 1) {
        digest_free(d);
        return NULL;
    }
    return d;
}

void digest_add(struct digest *d, const void *data, size_t len)
{
    int ok = EVP_DigestUpdate(d->ctx, data, len);

    assert(ok == 1);
}

void digest_end(struct digest *d, struct id *out)
{
    finish(d->ctx, out);
}

void digest_free(struct digest *d)
{
    if (d == NULL)
        return;
    EVP_MD_CTX_free(d->ctx);
    free(d);
}
