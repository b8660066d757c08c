/* SPDX-License-Identifier: Apache-2.0 */
/* Origins of facts; see origin.h. */
#include "origin.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

int origin_check(const char *name, struct err *err)
{
    size_t len = strnlen(name, ORIGIN_MAX + 1);
    json_auto_t *text = NULL;

    if (len > ORIGIN_MAX)
        return err_set(err, ERR_INVALID, "an origin has more than the %d bytes allowed",
                       ORIGIN_MAX);
    for (size_t i = 0; i < len; i++)
        if ((unsigned char)name[i] < ' ' || name[i] == 0x7f)
            return err_set(err, ERR_INVALID, "an origin has a control character at byte %zu", i);
    text = json_string(name);
    if (text == NULL)
        return err_set(err, ERR_INVALID, "an origin is no UTF-8 text");
    return 0;
}

int origin_get(struct store *s, const struct id *id, char out[ORIGIN_MAX + 1], struct err *err)
{
    CLEANUP(buf_release) struct buf value = { .max = VALUE_MAX };
    struct key key;

    out[0] = '\0';
    key_of_id(id, &key);
    if (store_get(s, CF_ORIGIN, &key, &value, err) != 0)
        return err->code == ERR_NOT_FOUND ? 0 : -1;
    if (value.len == 0 || value.len > ORIGIN_MAX)
        return err_set(err, ERR_CORRUPT, "the origin of fact %s has %zu bytes, not 1 to %d",
                       id->hex, value.len, ORIGIN_MAX);
    memcpy(out, value.data, value.len);
    out[value.len] = '\0';
    return 0;
}

struct loading {
    struct origins *o;
    struct err *err;
    int rc;
};

static int load_one(void *ctx, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct loading *l = ctx;
    struct origins *o = l->o;

    (void)value;
    (void)value_len;
    if (key_len != ID_BYTES)
        return 0; /* names no fact; verify says so */
    if (o->n == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 256;
        void *ids = reallocarray(o->ids, cap, sizeof(*o->ids));

        if (ids == NULL) {
            l->rc = err_set(l->err, ERR_NOMEM, "no memory for %zu origins", cap);
            return -1;
        }
        o->ids = ids;
        o->cap = cap;
    }
    memcpy(o->ids[o->n++], key, ID_BYTES);
    return 0;
}

int origins_load(struct origins *o, struct store *s, struct err *err)
{
    struct loading l = { .o = o, .err = err };

    if (store_each(s, CF_ORIGIN, NULL, NULL, load_one, &l, err) != 0 || l.rc != 0) {
        origins_release(o);
        return -1;
    }
    return 0;
}

static int compare_id(const void *a, const void *b)
{
    return memcmp(a, b, ID_BYTES);
}

bool origins_has(const struct origins *o, const uint8_t id[ID_BYTES])
{
    return o->n > 0 && bsearch(id, o->ids, o->n, sizeof(*o->ids), compare_id) != NULL;
}

void origins_release(struct origins *o)
{
    free(o->ids);
    memset(o, 0, sizeof(*o));
}
