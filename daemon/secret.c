/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of services; see secret.h. */
#include "secret.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/file.h"
#include "base/mem.h"

enum {
    KEY_MAX_BYTES = 4096,
    PIECE_BYTES = 8 /* of a key are worth hiding */
};

int secret_load(const char *option, const char *path, char **out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = KEY_MAX_BYTES };
    const char *given = getenv("KSEARCH_API_KEY");
    CLEANUP(freep) char *key = NULL;

    if (path[0] != '\0' && file_read(path, &text, err) != 0)
        return err_ctx(err, "'%s'", option);
    key = xstrdup(path[0] != '\0' ? buf_str(&text) : given != NULL ? given : "");
    key[strcspn(key, " \t\r\n")] = '\0';
    for (const char *c = key; *c; c++)
        if (*c < 0x21 || *c > 0x7e)
            return err_set(err, ERR_INVALID, "the key of %s holds characters that no key has",
                           path[0] != '\0' ? option : "KSEARCH_API_KEY");
    if (path[0] != '\0' && key[0] == '\0')
        return err_set(err, ERR_INVALID, "'%s' is '%.200s', which holds no key", option, path);
    *out = TAKE(key);
    return 0;
}

/* How many bytes at `text` are the same as somewhere in the key, in whatever case. */
static size_t longest_piece(const char *key, size_t n_key, const char *text, size_t len)
{
    size_t best = 0;

    for (size_t from = 0; from < n_key; from++) {
        size_t n = 0;

        while (from + n < n_key && n < len &&
               tolower((unsigned char)key[from + n]) == tolower((unsigned char)text[n]))
            n++;
        best = MAX(best, n);
    }
    return best;
}

void secret_redact(const char *key, char *text, size_t len)
{
    size_t n_key = strlen(key), least = MIN(n_key, (size_t)PIECE_BYTES), n;

    if (n_key == 0)
        return;
    for (size_t i = 0; i + least <= len; i++) {
        n = longest_piece(key, n_key, text + i, len - i);
        if (n < least)
            continue;
        memset(text + i, '*', n);
        i += n - 1;
    }
}

void secret_redact_whole(const char *key, char *text, size_t len)
{
    size_t n_key = strlen(key);

    if (n_key == 0)
        return;
    for (size_t i = 0; i + n_key <= len; i++)
        if (tolower((unsigned char)text[i]) == tolower((unsigned char)key[0]) &&
            strncasecmp(text + i, key, n_key) == 0)
            memset(text + i, '*', n_key);
}
