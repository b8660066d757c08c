/* SPDX-License-Identifier: Apache-2.0 */
/* Lock, store and identity of a knowledge base's folder; see folder.h. */
#include "folder.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/str.h"

/* ---- The lock ---- */

static int lock_conflict(const char *dir, int fd, struct err *err)
{
    char pid[24] = "";
    ssize_t n = pread(fd, pid, sizeof(pid) - 1, 0);

    pid[n > 0 ? strcspn(pid, "\n") : 0] = '\0';
    return err_set(err, ERR_CONFLICT, "the knowledge base '%s' is open in another process%s%s", dir,
                   pid[0] ? ", number " : "", pid);
}

/* RocksDB has a lock of its own; this one comes first, and can say who holds it. */
static int lock_take(const char *dir, int *out, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/lock", dir);
    CLEANUP(freep) char *pid = str_printf("%ld\n", (long)getpid());
    int fd;

    if (path == NULL || pid == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open '%s'", dir);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0)
        return err_set(err, ERR_IO, "cannot open '%s': %s", path, strerror(errno));
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            lock_conflict(dir, fd, err);
        else
            err_set(err, ERR_IO, "cannot lock '%s': %s", path, strerror(errno));
        close(fd);
        return -1;
    }
    /* The number is a courtesy to whoever finds the folder locked: a full disk may swallow it. */
    if (ftruncate(fd, 0) == 0) {
        ssize_t ignored = pwrite(fd, pid, strlen(pid), 0);
        (void)ignored;
    }
    *out = fd;
    return 0;
}

/* ---- Meta ---- */

int meta_get(struct store *s, const char *name, json_t **out, struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = VALUE_MAX };
    struct key key;

    if (key_of_text("meta key", name, &key, err) != 0)
        return -1;
    if (store_get(s, CF_META, &key, &text, err) != 0) {
        if (err->code != ERR_NOT_FOUND)
            return -1;
        *out = NULL;
        return 0;
    }
    if (json_of_value(buf_str(&text), text.len, out, err) != 0)
        return err_ctx(err, "'%s' of the knowledge base", name);
    return 0;
}

int meta_put(struct store_batch *b, struct store *s, const char *name, const json_t *value,
             struct err *err)
{
    CLEANUP(buf_release) struct buf text = { .max = VALUE_MAX };
    struct key key;

    if (json_to_value(value, &text, err) != 0 || key_of_text("meta key", name, &key, err) != 0)
        return -1;
    store_batch_put(b, s, CF_META, &key, "", 0, text.data, text.len);
    return 0;
}

static int write_identity(struct folder *f, struct store_batch *b, struct err *err)
{
    json_auto_t *schema = json_integer(f->schema), *id = json_string(f->id);
    json_auto_t *created = json_integer((json_int_t)f->created_ns);

    if (schema == NULL || id == NULL || created == NULL)
        return err_set(err, ERR_NOMEM, "no memory to create a knowledge base");
    if (meta_put(b, f->store, META_ID, id, err) != 0 ||
        meta_put(b, f->store, META_CREATED, created, err) != 0 ||
        meta_put(b, f->store, META_SCHEMA, schema, err) != 0)
        return -1;
    return store_write(f->store, b, true, err);
}

static int meta_create(struct folder *f, const struct clock *clock, struct err *err)
{
    struct store_batch *b = store_batch_new();
    uint8_t random[KB_ID_HEX / 2];
    int rc;

    if (b == NULL)
        return err_set(err, ERR_NOMEM, "no memory to create a knowledge base");
    if (rng_os(random, sizeof(random)) != 0) {
        store_batch_free(b);
        return err_set(err, ERR_IO, "the kernel gives no random numbers");
    }
    str_hex(random, sizeof(random), f->id);
    f->schema = SCHEMA_VERSION;
    f->created_ns = clock->wall_ns(clock);
    rc = write_identity(f, b, err);
    store_batch_free(b);
    return rc;
}

static int create(struct folder *f, const struct clock *clock, struct err *err)
{
    for (int cf = 0; cf < CF_COUNT; cf++)
        if (store_add_cf(f->store, (enum schema_cf)cf, err) != 0)
            return -1;
    return meta_create(f, clock, err);
}

static int read_identity(struct folder *f, const json_t *schema, struct err *err)
{
    json_auto_t *id = NULL, *created = NULL;
    json_int_t version = json_integer_value(schema);

    if (!json_is_integer(schema) || version < 0 || version > UINT32_MAX)
        return err_set(err, ERR_CORRUPT, "the schema number of the knowledge base is damaged");
    f->schema = (uint32_t)version;
    if (meta_get(f->store, META_ID, &id, err) != 0 ||
        meta_get(f->store, META_CREATED, &created, err) != 0)
        return -1;
    if (id && !str_copy(f->id, sizeof(f->id), json_is_string(id) ? json_string_value(id) : ""))
        return err_set(err, ERR_CORRUPT, "the id of the knowledge base is damaged");
    f->created_ns = (uint64_t)json_integer_value(created);
    return 0;
}

/* A folder without a schema number and without facts is one whose creation was interrupted. */
static int identify(struct folder *f, const char *dir, enum store_mode mode, bool fresh,
                    const struct clock *clock, struct err *err)
{
    json_auto_t *schema = NULL;
    struct key last;

    if (!fresh && meta_get(f->store, META_SCHEMA, &schema, err) != 0)
        return -1;
    if (schema)
        return read_identity(f, schema, err);
    if (store_last_key(f->store, CF_FACT, &last, err) != 0)
        return -1;
    if (last.len != 0)
        return err_set(err, ERR_CORRUPT, "the knowledge base '%s' has lost its schema number", dir);
    if (mode == STORE_OPEN)
        return err_set(err, ERR_NOT_FOUND, "there is no knowledge base in '%s'", dir);
    return create(f, clock, err);
}

/* ---- The folder ---- */

static int open_all(const char *dir, enum store_mode mode, const struct clock *clock,
                    struct folder *f, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/store", dir);
    bool fresh;

    if (path == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open '%s'", dir);
    if (mode == STORE_CREATE && file_mkdirs(dir, err) != 0)
        return -1;
    if (mode == STORE_OPEN && !file_is_dir(path))
        return err_set(err, ERR_NOT_FOUND, "there is no knowledge base in '%s'", dir);
    if (lock_take(dir, &f->lock_fd, err) != 0 ||
        store_open(path, mode, &f->store, &fresh, err) != 0)
        return -1;
    return identify(f, dir, mode, fresh, clock, err);
}

int folder_open(const char *dir, enum store_mode mode, const struct clock *clock,
                struct folder *out, struct err *err)
{
    struct folder f = { .lock_fd = -1 };

    if (open_all(dir, mode, clock, &f, err) != 0) {
        folder_close(&f);
        return -1;
    }
    *out = f;
    return 0;
}

void folder_close(struct folder *f)
{
    store_close(f->store);
    f->store = NULL;
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    f->lock_fd = -1;
}

int folder_check_schema(const struct folder *f, const char *dir, struct err *err)
{
    if (f->schema > SCHEMA_VERSION)
        return err_set(err, ERR_REFUSED,
                       "the knowledge base '%s' has schema %" PRIu32
                       "; this program knows up to %d: use a newer one",
                       dir, f->schema, SCHEMA_VERSION);
    if (f->schema < SCHEMA_VERSION)
        return err_set(err, ERR_REFUSED,
                       "the knowledge base '%s' has schema %" PRIu32
                       " and needs migration to %d: run ksearchd --migrate",
                       dir, f->schema, SCHEMA_VERSION);
    return 0;
}
