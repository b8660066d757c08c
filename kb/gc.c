/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mark and sweep: every run of 64 hexadecimal digits in a stored text that could refer to a program
 * keeps the program of this id. That keeps some too many and never one too few.
 */
#include "gc.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "idmap.h"
#include "kb_impl.h"

enum { MAP_BITS = 10 };

struct entry {
    struct id id;
    uint64_t bytes;
    bool kept;
};

struct sweep {
    struct kb *kb;
    const struct gc_options *o;
    struct idmap programs;
    struct store_batch *drop;
    struct gc_report report;
    struct err *err;
    int rc;
};

static int list_program(void *ctx, const void *key, size_t key_len, const void *value,
                        size_t value_len)
{
    struct sweep *s = ctx;
    struct entry *e;

    (void)value;
    if (key_len != ID_HEX)
        return 0; /* none of ours */
    e = calloc(1, sizeof(*e));
    if (e == NULL) {
        s->rc = err_set(s->err, ERR_NOMEM, "no memory to list the programs");
        return -1;
    }
    memcpy(e->id.hex, key, ID_HEX);
    e->bytes = value_len;
    if (!str_is_hex(e->id.hex, ID_HEX)) {
        free(e);
        return 0;
    }
    s->rc = idmap_add(&s->programs, e, s->err);
    if (s->rc != 0)
        free(e);
    return s->rc;
}

static bool is_digit(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

static int mark(void *ctx, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct sweep *s = ctx;
    const char *text = value;

    (void)key;
    (void)key_len;
    for (size_t i = 0, run = 0; i <= value_len; i++) {
        struct entry *e;
        struct id id;

        if (i < value_len && is_digit(text[i])) {
            run++;
            continue;
        }
        if (run == ID_HEX) {
            memcpy(id.hex, text + i - ID_HEX, ID_HEX);
            id.hex[ID_HEX] = '\0';
            e = idmap_get(&s->programs, &id);
            if (e != NULL)
                e->kept = true;
        }
        run = 0;
    }
    return 0;
}

static int mark_all(struct sweep *s)
{
    static const enum schema_cf from[] = { CF_TASK, CF_SEARCH, CF_SIDE, CF_EVENT, CF_EVALUATION };

    for (size_t i = 0; i < ARRAY_LEN(from); i++)
        if (store_each(s->kb->store, from[i], NULL, NULL, mark, s, s->err) != 0)
            return -1;
    return 0;
}

static int drop(struct sweep *s, enum schema_cf cf, const char *text)
{
    struct key key;

    if (key_of_text("document key", text, &key, s->err) != 0)
        return -1;
    store_batch_delete(s->drop, s->kb->store, cf, &key);
    return 0;
}

static int drop_programs(struct sweep *s)
{
    struct idmap_at at = { 0 };
    const struct entry *e;

    while ((e = idmap_next(&s->programs, &at)) != NULL) {
        if (e->kept)
            continue;
        if (drop(s, CF_PROGRAM, e->id.hex) != 0)
            return -1;
        s->report.programs++;
        s->report.program_bytes += e->bytes;
    }
    return 0;
}

static int side_visit(void *ctx, const void *key, size_t key_len, const void *value,
                      size_t value_len)
{
    struct sweep *s = ctx;
    char text[KEY_MAX + 1];

    (void)value;
    memcpy(text, key, MIN(key_len, (size_t)KEY_MAX));
    text[MIN(key_len, (size_t)KEY_MAX)] = '\0';
    if (!s->o->is_loose(s->o->ctx, text))
        return 0;
    s->rc = drop(s, CF_SIDE, text);
    s->report.sides++;
    s->report.side_bytes += value_len;
    return s->rc;
}

static int drop_sides(struct sweep *s)
{
    if (s->o->is_loose == NULL)
        return 0;
    if (store_each(s->kb->store, CF_SIDE, NULL, NULL, side_visit, s, s->err) != 0)
        return -1;
    return s->rc;
}

static int sweep(struct sweep *s)
{
    if (s->drop == NULL)
        return err_set(s->err, ERR_NOMEM, "no memory to sweep");
    if (store_each(s->kb->store, CF_PROGRAM, NULL, NULL, list_program, s, s->err) != 0 ||
        s->rc != 0 || mark_all(s) != 0 || drop_programs(s) != 0 || drop_sides(s) != 0)
        return -1;
    if (s->o->dry_run || s->report.programs + s->report.sides == 0)
        return 0;
    return store_write(s->kb->store, s->drop, s->kb->sync, s->err);
}

int gc_sweep(struct kb *kb, const struct gc_options *o, struct gc_report *out, struct err *err)
{
    struct sweep s = { .kb = kb, .o = o, .drop = store_batch_new(), .err = err };
    int rc;

    if (idmap_init(&s.programs, MAP_BITS, err) != 0) {
        store_batch_free(s.drop);
        return -1;
    }
    /* A document and what refers to it come in one batch: between commits nothing is half there. */
    pthread_mutex_lock(&kb->commit);
    rc = sweep(&s);
    pthread_mutex_unlock(&kb->commit);
    idmap_release(&s.programs, free);
    store_batch_free(s.drop);
    if (rc == 0)
        *out = s.report;
    return rc;
}
