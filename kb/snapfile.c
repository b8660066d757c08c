/* SPDX-License-Identifier: Apache-2.0 */
/* The container of the snapshot: head | sections, each at a multiple of ALIGN | checksum of each
 * block. See snapfile.h. */
#include "snapfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "checksum.h"

enum { BLOCK = 1 << 20, ALIGN = 64, HEAD_BYTES = 4096, BLOCKS_MAX = 1 << 20, LARGE_PAGE = 2 << 20 };

static const char magic[8] = "ksder\r\n";
enum { BYTE_ORDER_MARK = 0x01020304 };

struct head {
    char magic[8];
    uint32_t format, byte_order;
    struct snap_subject subject;
    struct snap_place sections[SNAP_SECTIONS];
    uint64_t body_len;
    uint64_t table_sum; /* of the checksums of the blocks */
};

/* The head fills a page, whose last word is the checksum of the others. */
enum { HEAD_WORDS = HEAD_BYTES / 8 };
union head_page {
    struct head head;
    uint64_t words[HEAD_WORDS];
};
_Static_assert(sizeof(struct head) <= HEAD_BYTES - 8, "the head has its place");

struct snap_writer {
    int fd; /* -1 when closed */
    char *dir, *path, *temp;
    uint8_t *block;
    size_t used; /* of the block */
    uint64_t at; /* bytes of the body so far */
    uint64_t *sums;
    size_t n_sums, cap_sums;
    int section; /* -1 before the first */
    struct snap_place sections[SNAP_SECTIONS];
    bool failed;
    struct err err;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for the snapshot of derived state");
}

/* ---- Writing ---- */

int snap_create(const char *dir, struct snap_writer **out, struct err *err)
{
    struct snap_writer *w = calloc(1, sizeof(*w));

    if (w == NULL)
        return no_memory(err);
    w->fd = -1;
    w->section = -1;
    w->dir = strdup(dir);
    w->path = str_printf("%s/%s", dir, SNAP_NAME);
    w->temp = str_printf("%s/%s.tmp", dir, SNAP_NAME);
    w->block = malloc(BLOCK);
    if (w->dir == NULL || w->path == NULL || w->temp == NULL || w->block == NULL) {
        snap_writer_free(w);
        return no_memory(err);
    }
    w->fd = open(w->temp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (w->fd < 0 || lseek(w->fd, HEAD_BYTES, SEEK_SET) < 0) {
        err_set(err, ERR_IO, "cannot create '%s': %m", w->temp);
        snap_writer_free(w);
        return -1;
    }
    *out = w;
    return 0;
}

void snap_writer_free(struct snap_writer *w)
{
    if (w == NULL)
        return;
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temp);
    }
    free(w->dir);
    free(w->path);
    free(w->temp);
    free(w->block);
    free(w->sums);
    free(w);
}

static void block_flush(struct snap_writer *w)
{
    if (w->failed || w->used == 0)
        return;
    if (w->n_sums == w->cap_sums) {
        size_t cap = w->cap_sums ? w->cap_sums * 2 : 64;
        uint64_t *sums = cap <= BLOCKS_MAX ? reallocarray(w->sums, cap, sizeof(*sums)) : NULL;

        if (sums == NULL) {
            no_memory(&w->err);
            w->failed = true;
            return;
        }
        w->sums = sums;
        w->cap_sums = cap;
    }
    w->sums[w->n_sums++] = checksum(w->block, w->used);
    w->failed = file_write_all(w->fd, w->block, w->used, &w->err) != 0;
    w->used = 0;
}

static void put_bytes(struct snap_writer *w, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0 && !w->failed) {
        size_t n = MIN(len, (size_t)BLOCK - w->used);

        memcpy(w->block + w->used, from, n);
        w->used += n;
        w->at += n;
        from += n;
        len -= n;
        if (w->used == BLOCK)
            block_flush(w);
    }
}

void snap_begin(struct snap_writer *w, enum snap_section section)
{
    static const uint8_t zero[ALIGN];

    if (w->at % ALIGN != 0)
        put_bytes(w, zero, ALIGN - w->at % ALIGN);
    w->section = (int)section;
    w->sections[section].offset = w->at;
}

void snap_put(struct snap_writer *w, const void *data, size_t len)
{
    put_bytes(w, data, len);
    w->sections[w->section].len += len;
}

static int put_head(struct snap_writer *w, const struct snap_subject *subject, struct err *err)
{
    union head_page page = { .words = { 0 } };
    struct head *head = &page.head;

    memcpy(head->magic, magic, sizeof(magic));
    head->format = SNAP_FORMAT;
    head->byte_order = BYTE_ORDER_MARK;
    head->subject = *subject;
    memcpy(head->sections, w->sections, sizeof(head->sections));
    head->body_len = w->at;
    head->table_sum = checksum(w->sums, w->n_sums * sizeof(*w->sums));
    page.words[HEAD_WORDS - 1] = checksum(&page, HEAD_BYTES - 8);
    if (pwrite(w->fd, &page, HEAD_BYTES, 0) != HEAD_BYTES)
        return err_set(err, ERR_IO, "cannot write '%s': %m", w->temp);
    return 0;
}

int snap_finish(struct snap_writer *w, const struct snap_subject *subject, struct err *err)
{
    block_flush(w);
    if (w->failed) {
        *err = w->err;
        return -1;
    }
    if (file_write_all(w->fd, w->sums, w->n_sums * sizeof(*w->sums), err) != 0 ||
        put_head(w, subject, err) != 0)
        return -1;
    if (fsync(w->fd) != 0)
        return err_set(err, ERR_IO, "cannot sync '%s': %m", w->temp);
    if (rename(w->temp, w->path) != 0)
        return err_set(err, ERR_IO, "cannot rename '%s': %m", w->temp);
    close(w->fd);
    w->fd = -1;
    return file_sync_dir(w->dir, err);
}

/* ---- Reading ---- */

/* All bytes from this place; fewer are damage. */
static int read_at(int fd, void *out, size_t len, uint64_t offset, struct err *err)
{
    uint8_t *to = out;

    while (len > 0) {
        ssize_t n = pread(fd, to, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(err, ERR_IO, "it cannot be read: %m");
        if (n == 0)
            return err_set(err, ERR_CORRUPT, "it is too short");
        to += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static uint64_t blocks_of(uint64_t body_len)
{
    return (body_len + BLOCK - 1) / BLOCK;
}

static int check_head(const union head_page *page, uint64_t size, struct err *err)
{
    const struct head *head = &page->head;

    if (memcmp(head->magic, magic, sizeof(magic)) != 0)
        return err_set(err, ERR_CORRUPT, "it does not start as a snapshot does");
    if (head->byte_order != BYTE_ORDER_MARK)
        return err_set(err, ERR_CORRUPT, "it is of another byte order");
    if (head->format != SNAP_FORMAT)
        return err_set(err, ERR_CORRUPT, "its format is %u, not %d", head->format, SNAP_FORMAT);
    if (page->words[HEAD_WORDS - 1] != checksum(page, HEAD_BYTES - 8))
        return err_set(err, ERR_CORRUPT, "the checksum of its head is wrong");
    if (head->body_len > (uint64_t)BLOCK * BLOCKS_MAX ||
        size != HEAD_BYTES + head->body_len + blocks_of(head->body_len) * sizeof(uint64_t))
        return err_set(err, ERR_CORRUPT, "it has %llu bytes, not those that its head tells",
                       (unsigned long long)size);
    for (int i = 0; i < SNAP_SECTIONS; i++) {
        const struct snap_place *p = &head->sections[i];

        if (p->offset % ALIGN != 0 || p->offset > head->body_len ||
            p->len > head->body_len - p->offset)
            return err_set(err, ERR_CORRUPT, "its section %d lies outside of it", i);
    }
    return 0;
}

int snap_open(const char *dir, struct snap *s, struct err *err)
{
    CLEANUP(freep) char *path = str_printf("%s/%s", dir, SNAP_NAME);
    union head_page page;
    const struct head *head = &page.head;
    struct stat st;

    memset(s, 0, sizeof(*s));
    s->fd = -1;
    if (path == NULL)
        return no_memory(err);
    s->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0)
        return errno == ENOENT ? err_set(err, ERR_NOT_FOUND, "it is missing")
                               : err_set(err, ERR_IO, "it cannot be opened: %m");
    if (fstat(s->fd, &st) != 0)
        return err_set(err, ERR_IO, "it cannot be read: %m");
    if (read_at(s->fd, &page, HEAD_BYTES, 0, err) != 0 ||
        check_head(&page, (uint64_t)st.st_size, err) != 0)
        return -1;
    s->subject = head->subject;
    s->subject.base[sizeof(s->subject.base) - 1] = '\0';
    s->subject.model[sizeof(s->subject.model) - 1] = '\0';
    memcpy(s->sections, head->sections, sizeof(s->sections));
    s->body_len = head->body_len;
    s->table_sum = head->table_sum;
    return 0;
}

static int read_blocks(struct snap *s, const uint64_t *sums, struct err *err)
{
    for (uint64_t i = 0; i * BLOCK < s->body_len; i++) {
        uint8_t *block = s->data + i * BLOCK;
        size_t len = (size_t)MIN(s->body_len - i * BLOCK, (uint64_t)BLOCK);

        if (read_at(s->fd, block, len, HEAD_BYTES + i * BLOCK, err) != 0)
            return -1;
        if (checksum(block, len) != sums[i])
            return err_set(err, ERR_CORRUPT, "the checksum of its block %llu is wrong",
                           (unsigned long long)i);
    }
    return 0;
}

int snap_read(struct snap *s, struct err *err)
{
    uint64_t n = blocks_of(s->body_len);
    CLEANUP(freep) uint64_t *sums = malloc(MAX(n, 1u) * sizeof(*sums));
    void *data;

    if (sums == NULL)
        return no_memory(err);
    if (read_at(s->fd, sums, n * sizeof(*sums), HEAD_BYTES + s->body_len, err) != 0)
        return -1;
    if (checksum(sums, n * sizeof(*sums)) != s->table_sum)
        return err_set(err, ERR_CORRUPT, "the checksum of its checksums is wrong");
    if (s->body_len == 0)
        return 0;
    data = mmap(NULL, s->body_len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (data == MAP_FAILED)
        return no_memory(err);
    (void)madvise(data, s->body_len, MADV_HUGEPAGE); /* fewer page faults; without is fine */
    s->data = data;
    return read_blocks(s, sums, err);
}

void *snap_elements(const struct snap *s, enum snap_section section, size_t size, size_t *n,
                    struct err *err)
{
    static uint64_t none[1];
    const struct snap_place *p = &s->sections[section];

    *n = p->len / size;
    if (p->len % size != 0) {
        err_set(err, ERR_CORRUPT, "its section %d has %llu bytes, in elements of %zu", section,
                (unsigned long long)p->len, size);
        return NULL;
    }
    return p->len > 0 ? s->data + p->offset : (void *)none;
}

void snap_forget(const struct snap *s, enum snap_section section)
{
    const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t from = (s->sections[section].offset + page - 1) / page * page;
    uint64_t to = (s->sections[section].offset + s->sections[section].len) / page * page;

    if (s->data != NULL && from < to) /* whole pages; the rest is shared with its neighbours */
        (void)madvise(s->data + from, to - from, MADV_DONTNEED);
}

void *snap_copy(const void *elements, size_t size, size_t n, size_t cap)
{
    size_t bytes = MAX(cap, (size_t)1) * size;
    void *copy = malloc(bytes);
    uintptr_t from = ((uintptr_t)copy + LARGE_PAGE - 1) / LARGE_PAGE * LARGE_PAGE;

    if (copy == NULL)
        return NULL;
    if (bytes >= 2 * (size_t)LARGE_PAGE) /* fewer page faults; without is fine */
        (void)madvise((void *)from, bytes - LARGE_PAGE, MADV_HUGEPAGE);
    if (n > 0)
        memcpy(copy, elements, n * size);
    return copy;
}

void snap_data_free(uint8_t *data, size_t body_len)
{
    if (data != NULL)
        munmap(data, body_len);
}

void snap_release(struct snap *s)
{
    if (s->fd >= 0)
        close(s->fd);
    snap_data_free(s->data, s->body_len);
    s->fd = -1;
    s->data = NULL;
}
