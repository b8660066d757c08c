/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes inside a JSON document; see packed.h. */
#include "search/packed.h"

#include <openssl/evp.h>
#include <string.h>
#include <zlib.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { HEX_SIZE = 65, LEVEL = 6 };

static int sha256_hex(const void *data, size_t len, char out[HEX_SIZE])
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned n = 0;

    if (EVP_Digest(data, len, digest, &n, EVP_sha256(), NULL) != 1 || n != 32)
        return -1;
    str_hex(digest, n, out);
    return 0;
}

json_t *packed_json(const void *data, size_t len)
{
    uLongf packed_len = compressBound(len);
    CLEANUP(freep) uint8_t *packed = malloc(packed_len);
    CLEANUP(freep) uint8_t *text = NULL;
    char hex[HEX_SIZE];
    int n;

    if (packed == NULL || len > PACKED_MAX ||
        compress2(packed, &packed_len, data, len, LEVEL) != Z_OK || sha256_hex(data, len, hex) != 0)
        return NULL;
    text = malloc(packed_len / 3 * 4 + 8);
    if (text == NULL)
        return NULL;
    n = EVP_EncodeBlock(text, packed, (int)packed_len);
    return json_pack("{s:I, s:s, s:s#}", "bytes", (json_int_t)len, "sha256", hex, "zlib", text,
                     (size_t)n);
}

static int damaged(const char *what, const char *why, struct err *err)
{
    return err_set(err, ERR_CORRUPT, "%s is damaged: %s", what, why);
}

/* Bytes of base64 text into *out (the caller's); -1 when it is none. */
static int64_t decode(const char *text, size_t len, uint8_t **out)
{
    int n;

    if (len == 0 || len % 4 != 0 || len > INT32_MAX)
        return -1;
    *out = malloc(len / 4 * 3);
    if (*out == NULL)
        return -1;
    n = EVP_DecodeBlock(*out, (const uint8_t *)text, (int)len);
    /* The padding counts as bytes there. */
    return n < 0 ? -1 : n - (text[len - 1] == '=') - (text[len - 2] == '=');
}

int packed_read(const json_t *j, const char *what, struct buf *out, struct err *err)
{
    const json_t *text = json_object_get(j, "zlib");
    long long bytes = jsonx_int(j, "bytes", -1);
    CLEANUP(freep) uint8_t *packed = NULL;
    char hex[HEX_SIZE];
    uLongf got;
    int64_t n;

    if (!json_is_string(text) || bytes < 0 || bytes > PACKED_MAX)
        return damaged(what, "its bytes are missing", err);
    n = decode(json_string_value(text), json_string_length(text), &packed);
    if (n < 0)
        return damaged(what, "its bytes are no base64", err);
    if (buf_reserve(out, (size_t)bytes, err) != 0)
        return err_ctx(err, "%s", what);
    got = (uLongf)bytes;
    if (uncompress((uint8_t *)out->data + out->len, &got, packed, (uLong)n) != Z_OK ||
        got != (uLongf)bytes)
        return damaged(what, "its bytes do not unpack", err);
    if (sha256_hex(out->data + out->len, got, hex) != 0 ||
        strcmp(hex, jsonx_str(j, "sha256", "")) != 0)
        return damaged(what, "its bytes do not have their checksum", err);
    out->len += got;
    out->data[out->len] = '\0';
    return 0;
}
