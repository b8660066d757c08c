/* SPDX-License-Identifier: Apache-2.0 */
/* The table of migrations and the runner; see migrations.h. */
#include "migrations.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"
#include "folder.h"

extern const struct migration migration_0001_evaluated;

static const struct migration *const table[] = { &migration_0001_evaluated };

const struct migration *const *migrations_table(size_t *n)
{
    _Static_assert(ARRAY_LEN(table) == SCHEMA_VERSION, "a migration to each schema");
    *n = ARRAY_LEN(table);
    return table;
}

__attribute__((format(printf, 2, 3))) static void say(const struct migrations_options *o,
                                                      const char *fmt, ...)
{
    char sentence[400];
    va_list ap;

    if (o->say == NULL)
        return;
    va_start(ap, fmt);
    vsnprintf(sentence, sizeof(sentence), fmt, ap);
    va_end(ap);
    o->say(o->say_ctx, sentence);
}

/* The cursor that an interrupted run of this migration left; NULL for none. */
static int read_cursor(struct store *s, const struct migration *m, json_t **out, struct err *err)
{
    json_auto_t *state = NULL;
    const json_t *from;

    *out = NULL;
    if (meta_get(s, META_MIGRATION, &state, err) != 0)
        return -1;
    if (state == NULL)
        return 0;
    from = json_object_get(state, "from");
    if (!json_is_integer(from) || json_integer_value(from) != m->from)
        return err_set(err, ERR_CORRUPT, "the state of an interrupted migration is damaged");
    *out = json_incref(json_object_get(state, "cursor"));
    return 0;
}

static int put_progress(struct store *s, struct store_batch *b, const struct migration *m,
                        const json_t *cursor, struct err *err)
{
    json_auto_t *state = json_pack("{s:i, s:O}", "from", (int)m->from, "cursor", cursor);

    if (state == NULL)
        return err_set(err, ERR_NOMEM, "no memory to migrate");
    return meta_put(b, s, META_MIGRATION, state, err);
}

/* The last batch of a migration also raises the schema: there is no moment between the two. */
static int put_done(struct store *s, struct store_batch *b, const struct migration *m,
                    struct err *err)
{
    json_auto_t *schema = json_integer((json_int_t)m->from + 1);
    struct key key;

    if (schema == NULL)
        return err_set(err, ERR_NOMEM, "no memory to migrate");
    if (key_of_text("meta key", META_MIGRATION, &key, err) != 0)
        return -1;
    store_batch_delete(b, s, CF_META, &key);
    return meta_put(b, s, META_SCHEMA, schema, err);
}

/* One step and its write. `*cursor` moves on, and is NULL after the last. */
static int run_step(struct store *s, const struct migrations_options *o, const struct migration *m,
                    json_t **cursor, struct err *err)
{
    struct store_batch *b = store_batch_new();
    json_t *next = NULL;
    int rc;

    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to migrate");
    rc = m->step(s, o->clock, *cursor, b, &next, err);
    if (rc == 0)
        rc = next ? put_progress(s, b, m, next, err) : put_done(s, b, m, err);
    if (rc == 0)
        rc = store_write(s, b, true, err);
    store_batch_free(b);
    json_decref(*cursor);
    *cursor = next;
    return rc;
}

static bool enough(const struct migrations_options *o, uint64_t steps)
{
    return o->max_steps != 0 && steps >= o->max_steps;
}

/* Runs one migration to its end, or as far as max_steps allows; `*done` tells which. */
static int run_one(struct store *s, const struct migrations_options *o, const struct migration *m,
                   uint64_t *steps, bool *done, struct err *err)
{
    json_t *cursor = NULL;
    int rc = m->prepare ? m->prepare(s, err) : 0;

    *done = false;
    if (rc == 0)
        rc = read_cursor(s, m, &cursor, err);
    while (rc == 0 && !*done && !enough(o, *steps)) {
        rc = run_step(s, o, m, &cursor, err);
        ++*steps;
        *done = rc == 0 && cursor == NULL;
    }
    json_decref(cursor);
    return rc == 0 ? 0 : err_ctx(err, "migration %s", m->name);
}

static int run_pending(const struct folder *f, const struct migrations_options *o, size_t *pending,
                       struct err *err)
{
    uint64_t steps = 0;

    *pending = SCHEMA_VERSION - f->schema;
    for (uint32_t schema = f->schema; schema < SCHEMA_VERSION && !enough(o, steps); schema++) {
        const struct migration *m = table[schema];
        bool done;

        say(o, "%s schema %" PRIu32 " to %" PRIu32 " (%s): %s",
            o->dry_run ? "would go from" : "from", m->from, m->from + 1, m->name, m->what);
        if (o->dry_run)
            continue;
        if (run_one(f->store, o, m, &steps, &done, err) != 0)
            return -1;
        if (!done)
            break;
        --*pending;
    }
    return 0;
}

int migrations_run(const struct migrations_options *o, size_t *pending, struct err *err)
{
    struct folder f;
    size_t left = 0;
    int rc = 0;

    if (folder_open(o->dir, STORE_OPEN, o->clock, &f, err) != 0)
        return -1;
    if (f.schema > SCHEMA_VERSION)
        rc = folder_check_schema(&f, o->dir, err);
    else if (f.schema == SCHEMA_VERSION)
        say(o, "the knowledge base '%s' has schema %d already", o->dir, SCHEMA_VERSION);
    else
        rc = run_pending(&f, o, &left, err);
    folder_close(&f);
    if (rc == 0 && pending)
        *pending = left;
    return rc;
}
