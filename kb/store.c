/* SPDX-License-Identifier: Apache-2.0 */
/* RocksDB behind store.h: the only file that includes its header. */
#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <rocksdb/c.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"

enum {
    WRITE_BUFFER = 8 << 20,       /* per column family, allocated in small blocks as it fills */
    WRITE_BUFFERS_ALL = 48 << 20, /* over all of them: then the largest is flushed */
    BLOCK_CACHE = 16 << 20,
    WAL_MAX = 64 << 20,       /* a longer log is folded into tables: bounds the next opening */
    FLUSH_AT_CLOSE = 4 << 20, /* so much in memory is put into tables first: opens faster */
    MEND_FREE = 1 << 20,      /* free bytes worth a try to mend, beside what is in memory */
    STALL_MAX_MS = 20000,     /* longest wait for the background before a write fails */
    OPEN_FILES_MAX = 256,
    BACKGROUND_JOBS = 2,
    INFO_LOG_NOTHING = 6, /* above the highest of RocksDB's levels */
    CF_MAX = 64           /* column families that a folder may have, ours and unknown ones */
};

/*
 * After a failed write RocksDB takes no more until it is opened anew. store_mend does that; `lock`
 * keeps readers out meanwhile (they hold it for reading, also nested). `db` is NULL only when even
 * opening for reading failed.
 */
struct store {
    rocksdb_t *db;
    pthread_rwlock_t lock;
    _Atomic bool broken;
    char *dir;
    rocksdb_options_t *options;
    rocksdb_readoptions_t *read;  /* point reads: through the cache */
    rocksdb_readoptions_t *sweep; /* walks: leave the cache alone */
    rocksdb_writeoptions_t *write, *write_sync;
    rocksdb_column_family_handle_t *cf[CF_COUNT];
    size_t n_strange; /* column families of another version */
    rocksdb_column_family_handle_t *strange[CF_MAX];
};

struct store_batch {
    rocksdb_writebatch_t *batch;
};

/* RocksDB's sentence as ours. `what` says what was being done; frees `text`. */
static int store_fail(const struct store *s, const char *what, char *text, struct err *err)
{
    enum err_code code = ERR_IO;
    char seen[320];

    str_visible(text, strlen(text), seen, sizeof(seen));
    rocksdb_free(text);
    if (strstr(seen, "lock hold by current process") || strstr(seen, "While lock file"))
        return err_set(err, ERR_CONFLICT, "the store '%s' is open in another process", s->dir);
    if (strstr(seen, "No space left on device"))
        return err_set(
            err, ERR_IO,
            "%s the store '%s' failed: the disk is full; reading goes on, and writing as "
            "soon as there is space",
            what, s->dir);
    if (str_has_prefix(seen, "Corruption"))
        code = ERR_CORRUPT;
    return err_set(err, code, "%s the store '%s' failed: %s", what, s->dir, seen);
}

/* The same for opening, where a file that should be there and is not is damage too. */
static int open_fail(const struct store *s, char *text, struct err *err)
{
    bool missing = strstr(text, "No such file") || str_has_prefix(text, "Invalid argument");
    int rc = store_fail(s, "opening", text, err);

    if (missing && err->code == ERR_IO)
        err->code = ERR_CORRUPT;
    return rc;
}

static rocksdb_options_t *options_new(void)
{
    rocksdb_options_t *o = rocksdb_options_create();
    rocksdb_block_based_table_options_t *table = rocksdb_block_based_options_create();
    rocksdb_cache_t *cache = rocksdb_cache_create_lru(BLOCK_CACHE);

    rocksdb_block_based_options_set_block_cache(table, cache);
    rocksdb_block_based_options_set_filter_policy(table, rocksdb_filterpolicy_create_bloom(10));
    rocksdb_block_based_options_set_block_size(table, 16 << 10);
    rocksdb_options_set_block_based_table_factory(o, table);
    rocksdb_cache_destroy(cache); /* the factory holds its own reference */
    rocksdb_block_based_options_destroy(table);

    /* Damage must be seen, never skipped: acknowledged records are promised. A log cut short in its
     * last record is a write that nobody was told about; damage anywhere else refuses to open. */
    rocksdb_options_set_paranoid_checks(o, 1);
    rocksdb_options_set_wal_recovery_mode(o, rocksdb_tolerate_corrupted_tail_records_recovery);

    rocksdb_options_set_write_buffer_size(o, WRITE_BUFFER);
    rocksdb_options_set_db_write_buffer_size(o, WRITE_BUFFERS_ALL);
    rocksdb_options_set_max_total_wal_size(o, WAL_MAX);
    rocksdb_options_set_max_background_jobs(o, BACKGROUND_JOBS);
    rocksdb_options_set_max_open_files(o, OPEN_FILES_MAX);
    rocksdb_options_set_compression(o, rocksdb_lz4_compression);
    rocksdb_options_set_bottommost_compression(o, rocksdb_zstd_compression);

    /* Nothing into its own log: Debian's build has assertions on, and writing that log to a full
     * disk runs into one, which would end the process. */
    rocksdb_options_set_info_log_level(o, INFO_LOG_NOTHING);
    rocksdb_options_set_keep_log_file_num(o, 1);
    rocksdb_options_set_stats_dump_period_sec(o, 0);
    rocksdb_options_set_stats_persist_period_sec(o, 0);
    rocksdb_options_set_skip_stats_update_on_db_open(o, 1);
    return o;
}

/*
 * Whether `dir` holds a store, judged by CURRENT. Tables or a log without it are a store that lost
 * it: RocksDB would make an empty one over them.
 */
static int store_present(const char *dir, bool *present, struct err *err)
{
    CLEANUP(freep) char *current = str_printf("%s/CURRENT", dir);
    struct dirent *e;
    DIR *d;

    if (current == NULL)
        return err_set(err, ERR_NOMEM, "no memory to open the store '%s'", dir);
    *present = file_exists(current);
    if (*present || !file_is_dir(dir))
        return 0;
    d = opendir(dir);
    if (d == NULL)
        return err_set(err, ERR_IO, "cannot read the folder '%s': %s", dir, strerror(errno));
    while ((e = readdir(d)) != NULL)
        if (str_has_suffix(e->d_name, ".sst")) {
            closedir(d);
            return err_set(err, ERR_CORRUPT, "the store '%s' has tables but no file CURRENT", dir);
        }
    closedir(d);
    return 0;
}

static enum schema_cf cf_by_name(const char *name)
{
    for (int i = 0; i < CF_COUNT; i++)
        if (strcmp(schema_cf_name((enum schema_cf)i), name) == 0)
            return (enum schema_cf)i;
    return CF_COUNT;
}

static int open_families(struct store *s, char **names, size_t n, bool read_only, struct err *err)
{
    const rocksdb_options_t *options[CF_MAX] = { NULL };
    rocksdb_column_family_handle_t *handles[CF_MAX];
    char *text = NULL;

    for (size_t i = 0; i < n; i++)
        options[i] = s->options;
    if (read_only)
        s->db = rocksdb_open_for_read_only_column_families(
            s->options, s->dir, (int)n, (const char *const *)names, options, handles, 0, &text);
    else
        s->db = rocksdb_open_column_families(s->options, s->dir, (int)n, (const char *const *)names,
                                             options, handles, &text);
    if (text) {
        s->db = NULL;
        return open_fail(s, text, err);
    }
    for (size_t i = 0; i < n; i++) {
        enum schema_cf cf = cf_by_name(names[i]);

        if (cf == CF_COUNT)
            s->strange[s->n_strange++] = handles[i];
        else
            s->cf[cf] = handles[i];
    }
    return 0;
}

static int open_present(struct store *s, bool read_only, struct err *err)
{
    char *text = NULL;
    size_t n = 0;
    char **names = rocksdb_list_column_families(s->options, s->dir, &n, &text);
    int rc;

    if (text)
        rc = open_fail(s, text, err);
    else if (n > CF_MAX)
        rc = err_set(err, ERR_CORRUPT,
                     "the store '%s' has %zu column families; at most %d are known", s->dir, n,
                     CF_MAX);
    else
        rc = open_families(s, names, n, read_only, err);
    rocksdb_list_column_families_destroy(names, n);
    return rc;
}

static int open_new(struct store *s, struct err *err)
{
    char *names[] = { (char *)"default" };

    if (file_mkdirs(s->dir, err) != 0)
        return -1;
    rocksdb_options_set_create_if_missing(s->options, 1);
    return open_families(s, names, 1, false, err);
}

int store_open(const char *dir, enum store_mode mode, struct store **out, bool *fresh,
               struct err *err)
{
    struct store *s;
    bool present;

    if (store_present(dir, &present, err) != 0)
        return -1;
    if (!present && mode == STORE_OPEN)
        return err_set(err, ERR_NOT_FOUND, "there is no knowledge base in '%s'", dir);
    s = calloc(1, sizeof(*s));
    if (s == NULL || (s->dir = strdup(dir)) == NULL) {
        free(s);
        return err_set(err, ERR_NOMEM, "no memory to open the store '%s'", dir);
    }
    pthread_rwlock_init(&s->lock, NULL); /* readers first: nested reading cannot block */
    s->options = options_new();
    s->read = rocksdb_readoptions_create();
    s->sweep = rocksdb_readoptions_create();
    rocksdb_readoptions_set_fill_cache(s->sweep, 0);
    rocksdb_readoptions_set_readahead_size(s->sweep, 256 << 10);
    s->write = rocksdb_writeoptions_create();
    s->write_sync = rocksdb_writeoptions_create();
    rocksdb_writeoptions_set_sync(s->write_sync, 1);
    rocksdb_writeoptions_set_no_slowdown(s->write, 1); /* see write_patiently */
    rocksdb_writeoptions_set_no_slowdown(s->write_sync, 1);
    if ((present ? open_present(s, false, err) : open_new(s, err)) != 0) {
        store_close(s);
        return -1;
    }
    *fresh = !present;
    *out = s;
    return 0;
}

/* Closes RocksDB and keeps the rest of the store. */
static void close_db(struct store *s)
{
    for (int i = 0; i < CF_COUNT; i++) {
        if (s->cf[i])
            rocksdb_column_family_handle_destroy(s->cf[i]);
        s->cf[i] = NULL;
    }
    for (size_t i = 0; i < s->n_strange; i++)
        rocksdb_column_family_handle_destroy(s->strange[i]);
    s->n_strange = 0;
    if (s->db)
        rocksdb_close(s->db);
    s->db = NULL;
}

static uint64_t bytes_of(struct store *s, const char *property)
{
    uint64_t total = 0, n;

    for (int i = 0; i < CF_COUNT; i++)
        if (s->cf[i] && rocksdb_property_int_cf(s->db, s->cf[i], property, &n) == 0)
            total += n;
    return total;
}

/* A long log makes the next opening slow; what fails here is in the log, so nothing is lost. */
static void flush_all(struct store *s)
{
    rocksdb_flushoptions_t *o;

    if (bytes_of(s, "rocksdb.cur-size-all-mem-tables") < FLUSH_AT_CLOSE)
        return;
    o = rocksdb_flushoptions_create();
    for (int i = 0; i < CF_COUNT; i++) {
        char *text = NULL;

        if (s->cf[i])
            rocksdb_flush_cf(s->db, o, s->cf[i], &text);
        rocksdb_free(text);
    }
    rocksdb_flushoptions_destroy(o);
}

void store_close(struct store *s)
{
    if (s == NULL)
        return;
    if (s->db && !s->broken)
        flush_all(s);
    close_db(s);
    rocksdb_writeoptions_destroy(s->write_sync);
    rocksdb_writeoptions_destroy(s->write);
    rocksdb_readoptions_destroy(s->sweep);
    rocksdb_readoptions_destroy(s->read);
    rocksdb_options_destroy(s->options);
    pthread_rwlock_destroy(&s->lock);
    free(s->dir);
    free(s);
}

/* Opening needs room for what is in memory; without it, closing would only lose the readers. */
static int has_room(struct store *s, struct err *err)
{
    uint64_t need = MEND_FREE + (s->db ? bytes_of(s, "rocksdb.cur-size-all-mem-tables") : 0);
    struct statvfs v;

    if (statvfs(s->dir, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < need)
        return err_set(err, ERR_IO,
                       "the store '%s' takes no writes since its disk was full; %ju bytes must be "
                       "free for it to go on",
                       s->dir, (uintmax_t)need);
    return 0;
}

static int reopen(struct store *s, struct err *err)
{
    struct err ignored;

    close_db(s);
    if (open_present(s, false, err) == 0) {
        s->broken = false;
        return 0;
    }
    close_db(s);
    if (open_present(s, true, &ignored) != 0)
        close_db(s);
    return err_ctx(err, "after a failed write");
}

int store_mend(struct store *s, bool *mended, struct err *err)
{
    int rc;

    *mended = false;
    if (!s->broken)
        return 0;
    if (pthread_rwlock_trywrlock(&s->lock) != 0)
        return err_set(err, ERR_IO,
                       "the store '%s' takes no writes after a failed one while it is being read; "
                       "try again",
                       s->dir);
    rc = has_room(s, err);
    if (rc == 0)
        rc = reopen(s, err);
    pthread_rwlock_unlock(&s->lock);
    *mended = rc == 0;
    return rc;
}

bool store_has_cf(const struct store *s, enum schema_cf cf)
{
    return s->cf[cf] != NULL;
}

int store_add_cf(struct store *s, enum schema_cf cf, struct err *err)
{
    char *text = NULL;

    if (s->cf[cf])
        return 0;
    s->cf[cf] = rocksdb_create_column_family(s->db, s->options, schema_cf_name(cf), &text);
    if (text) {
        s->cf[cf] = NULL;
        return store_fail(s, "extending", text, err);
    }
    return 0;
}

static int not_open(const struct store *s, struct err *err)
{
    return err_set(err, ERR_IO, "the store '%s' could not be opened again after a failed write",
                   s->dir);
}

/* A read of a column family that the folder does not have finds nothing. */
static int get_pinned(struct store *s, enum schema_cf cf, const struct key *key,
                      rocksdb_pinnableslice_t **out, struct err *err)
{
    char *text = NULL;

    *out = NULL;
    if (s->db == NULL)
        return not_open(s, err);
    if (s->cf[cf] == NULL)
        return 0;
    *out =
        rocksdb_get_pinned_cf(s->db, s->read, s->cf[cf], (const char *)key->bytes, key->len, &text);
    return text ? store_fail(s, "reading", text, err) : 0;
}

static int get_locked(struct store *s, enum schema_cf cf, const struct key *key, struct buf *out,
                      struct err *err)
{
    rocksdb_pinnableslice_t *slice;
    const char *value;
    size_t len;
    int rc;

    if (get_pinned(s, cf, key, &slice, err) != 0)
        return -1;
    if (slice == NULL)
        return err_set(err, ERR_NOT_FOUND, "there is no such record");
    value = rocksdb_pinnableslice_value(slice, &len);
    rc = buf_add(out, value, len, err);
    rocksdb_pinnableslice_destroy(slice);
    return rc;
}

int store_get(struct store *s, enum schema_cf cf, const struct key *key, struct buf *out,
              struct err *err)
{
    int rc;

    pthread_rwlock_rdlock(&s->lock);
    rc = get_locked(s, cf, key, out, err);
    pthread_rwlock_unlock(&s->lock);
    return rc;
}

int store_has(struct store *s, enum schema_cf cf, const struct key *key, bool *out, struct err *err)
{
    rocksdb_pinnableslice_t *slice = NULL;
    int rc;

    pthread_rwlock_rdlock(&s->lock);
    rc = get_pinned(s, cf, key, &slice, err);
    if (rc == 0)
        *out = slice != NULL;
    if (slice)
        rocksdb_pinnableslice_destroy(slice);
    pthread_rwlock_unlock(&s->lock);
    return rc;
}

static void iterator_seek(rocksdb_iterator_t *it, const struct key *prefix, const struct key *from)
{
    const struct key *first = from ? from : prefix;

    if (first)
        rocksdb_iter_seek(it, (const char *)first->bytes, first->len);
    else
        rocksdb_iter_seek_to_first(it);
}

/* Ends an iterator; damage met on the way is an error. */
static int iterator_end(const struct store *s, rocksdb_iterator_t *it, struct err *err)
{
    char *text = NULL;

    rocksdb_iter_get_error(it, &text);
    rocksdb_iter_destroy(it);
    return text ? store_fail(s, "reading", text, err) : 0;
}

static int each_locked(struct store *s, enum schema_cf cf, const struct key *prefix,
                       const struct key *from, store_visit *fn, void *ctx, struct err *err)
{
    rocksdb_iterator_t *it;

    if (s->db == NULL)
        return not_open(s, err);
    if (s->cf[cf] == NULL)
        return 0;
    it = rocksdb_create_iterator_cf(s->db, s->sweep, s->cf[cf]);
    for (iterator_seek(it, prefix, from); rocksdb_iter_valid(it); rocksdb_iter_next(it)) {
        size_t key_len, value_len;
        const char *key = rocksdb_iter_key(it, &key_len);
        const char *value = rocksdb_iter_value(it, &value_len);

        if (prefix && (key_len < prefix->len || memcmp(key, prefix->bytes, prefix->len) != 0))
            break;
        if (fn(ctx, key, key_len, value, value_len) != 0)
            break;
    }
    return iterator_end(s, it, err);
}

int store_each(struct store *s, enum schema_cf cf, const struct key *prefix, const struct key *from,
               store_visit *fn, void *ctx, struct err *err)
{
    int rc;

    pthread_rwlock_rdlock(&s->lock);
    rc = each_locked(s, cf, prefix, from, fn, ctx, err);
    pthread_rwlock_unlock(&s->lock);
    return rc;
}

static int last_key_locked(struct store *s, enum schema_cf cf, struct key *out, struct err *err)
{
    rocksdb_iterator_t *it;

    out->len = 0;
    if (s->db == NULL)
        return not_open(s, err);
    if (s->cf[cf] == NULL)
        return 0;
    it = rocksdb_create_iterator_cf(s->db, s->read, s->cf[cf]);
    rocksdb_iter_seek_to_last(it);
    if (rocksdb_iter_valid(it)) {
        size_t len;
        const char *key = rocksdb_iter_key(it, &len);

        out->len = MIN(len, sizeof(out->bytes));
        memcpy(out->bytes, key, out->len);
    }
    return iterator_end(s, it, err);
}

int store_last_key(struct store *s, enum schema_cf cf, struct key *out, struct err *err)
{
    int rc;

    pthread_rwlock_rdlock(&s->lock);
    rc = last_key_locked(s, cf, out, err);
    pthread_rwlock_unlock(&s->lock);
    return rc;
}

struct store_batch *store_batch_new(void)
{
    struct store_batch *b = calloc(1, sizeof(*b));

    if (b)
        b->batch = rocksdb_writebatch_create();
    return b;
}

void store_batch_free(struct store_batch *b)
{
    if (b == NULL)
        return;
    rocksdb_writebatch_destroy(b->batch);
    free(b);
}

void store_batch_put(struct store_batch *b, struct store *s, enum schema_cf cf,
                     const struct key *key, const void *head, size_t head_len, const void *data,
                     size_t len)
{
    const char *keys[] = { (const char *)key->bytes };
    const char *values[] = { head, data };
    size_t value_lens[] = { head_len, len };

    rocksdb_writebatch_putv_cf(b->batch, s->cf[cf], 1, keys, &key->len, 2, values, value_lens);
}

void store_batch_delete(struct store_batch *b, struct store *s, enum schema_cf cf,
                        const struct key *key)
{
    rocksdb_writebatch_delete_cf(b->batch, s->cf[cf], (const char *)key->bytes, key->len);
}

static bool is_stall(const char *text)
{
    return str_has_prefix(text, "Result incomplete");
}

/* Whether waiting for the background is of no use: it cannot write either. */
static bool is_full(const struct store *s)
{
    struct statvfs v;

    return statvfs(s->dir, &v) == 0 && (uint64_t)v.f_bavail * v.f_frsize < MEND_FREE;
}

/*
 * RocksDB holds writers back while its background work is behind, for ever when the disk is full.
 * So it is told to refuse instead, and the waiting is done here, with an end.
 */
static char *write_patiently(struct store *s, struct store_batch *b, bool sync)
{
    static const struct timespec pause = { .tv_nsec = 1000000 };
    char *text = NULL;

    for (int ms = 0; ms < STALL_MAX_MS; ms++) {
        rocksdb_free(text);
        text = NULL;
        rocksdb_write(s->db, sync ? s->write_sync : s->write, b->batch, &text);
        if (text == NULL || !is_stall(text) || (ms % 100 == 99 && is_full(s)))
            break;
        nanosleep(&pause, NULL);
    }
    return text;
}

static int write_locked(struct store *s, struct store_batch *b, bool sync, struct err *err)
{
    char *text;

    if (s->broken)
        return not_open(s, err);
    text = write_patiently(s, b, sync);
    if (text == NULL)
        return 0;
    s->broken = true;
    if (!is_stall(text))
        return store_fail(s, "writing to", text, err);
    rocksdb_free(text);
    return err_set(err, ERR_IO,
                   "writing to the store '%s' failed: %s; reading goes on, and writing as soon as "
                   "there is space",
                   s->dir, is_full(s) ? "the disk is full" : "the disk does not keep up");
}

int store_write(struct store *s, struct store_batch *b, bool sync, struct err *err)
{
    int rc;

    pthread_rwlock_rdlock(&s->lock);
    rc = write_locked(s, b, sync, err);
    pthread_rwlock_unlock(&s->lock);
    return rc;
}

static int copy_locked(struct store *s, const char *dir, struct err *err)
{
    rocksdb_checkpoint_t *checkpoint;
    char *text = NULL;

    if (s->db == NULL)
        return not_open(s, err);
    checkpoint = rocksdb_checkpoint_object_create(s->db, &text);
    if (text == NULL) {
        /* 0: the log is made into tables first, so that the copy opens fast. */
        rocksdb_checkpoint_create(checkpoint, dir, 0, &text);
        rocksdb_checkpoint_object_destroy(checkpoint);
    }
    return text ? store_fail(s, "copying", text, err) : 0;
}

int store_copy(struct store *s, const char *dir, struct err *err)
{
    int rc;

    if (file_exists(dir))
        return err_set(err, ERR_CONFLICT, "'%s' exists already", dir);
    pthread_rwlock_rdlock(&s->lock);
    rc = copy_locked(s, dir, err);
    pthread_rwlock_unlock(&s->lock);
    return rc;
}

uint64_t store_bytes(struct store *s)
{
    uint64_t n = 0;

    pthread_rwlock_rdlock(&s->lock);
    if (s->db)
        n = bytes_of(s, "rocksdb.total-sst-files-size") +
            bytes_of(s, "rocksdb.cur-size-all-mem-tables");
    pthread_rwlock_unlock(&s->lock);
    return n;
}
