/* SPDX-License-Identifier: Apache-2.0 */
/* What all providers share; see llm.h. */
#include "llm/llm.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { DIGEST_BYTES = LLM_HASH_HEX / 2 };

static const char *const role_names[LLM_ROLE_COUNT] = { "planner", "coder", "editor" };

const char *llm_role_name(enum llm_role role)
{
    return role < LLM_ROLE_COUNT ? role_names[role] : "none";
}

enum llm_role llm_role_from_name(const char *name)
{
    int i = 0;

    while (i < LLM_ROLE_COUNT && strcmp(role_names[i], name) != 0)
        i++;
    return (enum llm_role)i;
}

/* With its length before it, so that no two lists of fields look alike; NULL is told from "". */
static int add_field(EVP_MD_CTX *md, const char *text)
{
    uint64_t n = text != NULL ? strlen(text) + 1 : 0;
    uint8_t len[8];

    for (int i = 0; i < 8; i++)
        len[i] = (uint8_t)(n >> (8 * i));
    return EVP_DigestUpdate(md, len, sizeof(len)) == 1 &&
                   (n < 2 || EVP_DigestUpdate(md, text, n - 1) == 1)
               ? 0
               : -1;
}

void llm_request_hash(const char *kind, unsigned attempt, const char *system, const char *prefix,
                      const char *prompt, const char *schema_name, char out[LLM_HASH_HEX + 1])
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t digest[DIGEST_BYTES];
    char number[16];

    snprintf(number, sizeof(number), "%u", attempt);
    /* Small fixed allocations abort when memory is out, as xmalloc does. */
    if (md == NULL || EVP_DigestInit_ex(md, EVP_sha256(), NULL) != 1 || add_field(md, kind) != 0 ||
        add_field(md, number) != 0 || add_field(md, system) != 0 || add_field(md, prefix) != 0 ||
        add_field(md, prompt) != 0 || add_field(md, schema_name) != 0 ||
        EVP_DigestFinal_ex(md, digest, NULL) != 1)
        abort();
    EVP_MD_CTX_free(md);
    str_hex(digest, sizeof(digest), out);
}

void llm_free(struct llm *m)
{
    if (m != NULL)
        m->free(m);
}
