/* SPDX-License-Identifier: Apache-2.0 */
/* Compact evidence; see evtable.h. */
#include "evtable.h"

#include <string.h>

#include "base/mem.h"
#include "base/str.h"
#include "snapfile.h"
#include "symbols.h"
#include "text.h"

/* Content addresses to numbers: open addressing, at most half full. Addresses are SHA-256, so their
 * own bits spread them. */
struct map {
    struct slot {
        uint64_t key[2];
        uint64_t value; /* plus 1; 0 for an empty slot */
    } * slots;
    size_t size, used; /* size is a power of two */
};

struct evtable {
    struct evrow *rows;
    uint32_t count;
    size_t cap;
    struct map by_id;     /* row */
    struct map by_claim;  /* newest row */
    struct map retracted; /* wall time */
    struct symbols names;
};

static int no_memory(struct err *err)
{
    return err_set(err, ERR_NOMEM, "no memory for evidence");
}

/* 16 digits; false when one is none. Spelled out, because answers look up every row by its address.
 */
static bool read_word(const char *hex, uint64_t *out)
{
    uint64_t word = 0, bad = 0;

    for (size_t i = 0; i < 16; i++) {
        unsigned c = (unsigned char)hex[i];
        unsigned digit = c - '0', letter = c - 'a';

        bad |= digit > 9 && letter > 5;
        word = word << 4 | (digit <= 9 ? digit : letter + 10);
    }
    *out = word;
    return bad == 0;
}

static bool read_key(const struct id *id, uint64_t key[2])
{
    return strnlen(id->hex, 32) == 32 && read_word(id->hex, &key[0]) &&
           read_word(id->hex + 16, &key[1]);
}

static struct slot *map_slot(const struct map *m, const uint64_t key[2])
{
    size_t i = key[0] & (m->size - 1);

    while (m->slots[i].value != 0 && memcmp(m->slots[i].key, key, sizeof(m->slots[i].key)) != 0)
        i = (i + 1) & (m->size - 1);
    return &m->slots[i];
}

static int map_reserve(struct map *m, struct err *err)
{
    struct map bigger = { .size = MAX(m->size * 2, (size_t)256), .used = m->used };

    if ((m->used + 1) * 2 <= m->size)
        return 0;
    bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
    if (bigger.slots == NULL)
        return no_memory(err);
    for (size_t i = 0; i < m->size; i++)
        if (m->slots[i].value != 0)
            *map_slot(&bigger, m->slots[i].key) = m->slots[i];
    free(m->slots);
    *m = bigger;
    return 0;
}

/* The value, or `fallback`. */
static uint64_t map_get(const struct map *m, const struct id *id, uint64_t fallback)
{
    const struct slot *s;
    uint64_t key[2];

    if (m->size == 0 || !read_key(id, key))
        return fallback;
    s = map_slot(m, key);
    return s->value != 0 ? s->value - 1 : fallback;
}

/* Room was reserved; the address is good. */
static void map_put(struct map *m, const struct id *id, uint64_t value)
{
    struct slot *s;
    uint64_t key[2] = { 0 };

    if (!read_key(id, key))
        return;
    s = map_slot(m, key);
    m->used += s->value == 0;
    memcpy(s->key, key, sizeof(key));
    s->value = value + 1;
}

struct evtable *evtable_new(void)
{
    return calloc(1, sizeof(struct evtable));
}

void evtable_free(struct evtable *t)
{
    if (t == NULL)
        return;
    free(t->rows);
    free(t->by_id.slots);
    free(t->by_claim.slots);
    free(t->retracted.slots);
    symbols_release(&t->names);
    free(t);
}

static int rows_reserve(struct evtable *t, struct err *err)
{
    size_t cap = MAX(t->cap * 2, (size_t)64);
    struct evrow *rows;

    if (t->count < t->cap)
        return 0;
    rows = reallocarray(t->rows, cap, sizeof(*rows));
    if (rows == NULL)
        return no_memory(err);
    t->rows = rows;
    t->cap = cap;
    return 0;
}

static int row_fill(struct evtable *t, const struct id *id, const struct evidence *ev,
                    struct evrow *row, struct err *err)
{
    const struct {
        const char *s;
        uint32_t *number;
    } strings[] = {
        { ev->task, &row->task },       { ev->device, &row->device },
        { ev->shape, &row->shape },     { ev->device_class, &row->device_class },
        { ev->failure, &row->failure }, { ev->toolchain, &row->toolchain },
    };

    if (!str_unhex(id->hex, sizeof(row->id), row->id.bytes))
        return err_set(err, ERR_INVALID, "evidence address '%.70s' is no SHA-256", id->hex);
    if (!str_unhex(ev->with.hex, sizeof(row->with), row->with.bytes))
        memset(&row->with, 0, sizeof(row->with));
    if (!str_unhex(ev->without.hex, sizeof(row->without), row->without.bytes))
        memset(&row->without, 0, sizeof(row->without));
    for (size_t i = 0; i < ARRAY_LEN(strings); i++)
        if (symbols_add(&t->names, strings[i].s, strings[i].number, err) != 0)
            return -1;
    row->effect_q = ev->effect_q;
    row->sd_q = ev->sd_q;
    row->measured_at_s = ev->measured_at_s;
    row->steered = ev->steered;
    row->is_failure = strcmp(ev->kind, "failure") == 0;
    row->foreign = ev->foreign;
    return 0;
}

int evtable_add(struct evtable *t, const struct id *id, const struct evidence *ev,
                uint64_t recorded_at_ns, struct err *err)
{
    struct evrow row = { .recorded_at_ns = recorded_at_ns };

    uint32_t known = evtable_find(t, id);

    if (known != EVTABLE_NONE) {
        t->rows[known].foreign = ev->foreign;
        return 0;
    }
    if (rows_reserve(t, err) != 0 || map_reserve(&t->by_id, err) != 0 ||
        map_reserve(&t->by_claim, err) != 0 || row_fill(t, id, ev, &row, err) != 0)
        return -1;
    row.retracted_at_ns = evtable_retracted_at(t, id);
    row.next = evtable_of_claim(t, &ev->claim);
    map_put(&t->by_id, id, t->count);
    map_put(&t->by_claim, &ev->claim, t->count);
    t->rows[t->count++] = row;
    return 0;
}

int evtable_retract(struct evtable *t, const struct id *target, uint64_t at_ns, struct err *err)
{
    uint32_t row = evtable_find(t, target);
    uint64_t known = evtable_retracted_at(t, target);

    at_ns = MAX(at_ns, (uint64_t)1); /* 0 stands for never */
    if (known != 0 && known <= at_ns)
        return 0;
    if (map_reserve(&t->retracted, err) != 0)
        return -1;
    map_put(&t->retracted, target, at_ns);
    if (row != EVTABLE_NONE)
        t->rows[row].retracted_at_ns = at_ns;
    return 0;
}

uint64_t evtable_retracted_at(const struct evtable *t, const struct id *target)
{
    return map_get(&t->retracted, target, 0);
}

uint32_t evtable_count(const struct evtable *t)
{
    return t->count;
}

uint32_t evtable_find(const struct evtable *t, const struct id *id)
{
    return (uint32_t)map_get(&t->by_id, id, EVTABLE_NONE);
}

uint32_t evtable_of_claim(const struct evtable *t, const struct id *claim)
{
    return (uint32_t)map_get(&t->by_claim, claim, EVTABLE_NONE);
}

const struct evrow *evtable_row(const struct evtable *t, uint32_t number)
{
    return &t->rows[number];
}

const char *evtable_name(const struct evtable *t, uint32_t name)
{
    return symbols_get(&t->names, name);
}

uint32_t evtable_name_find(const struct evtable *t, const char *s)
{
    return symbols_find(&t->names, s);
}

uint32_t evtable_name_count(const struct evtable *t)
{
    return t->names.n;
}

bool evrow_counts(const struct evrow *row, uint64_t as_of_ns)
{
    if (as_of_ns == 0)
        return row->retracted_at_ns == 0;
    return row->recorded_at_ns <= as_of_ns &&
           (row->retracted_at_ns == 0 || row->retracted_at_ns > as_of_ns);
}

/* ---- Snapshot ---- */

uint64_t evtable_layout(void)
{
    static const size_t parts[] = {
        sizeof(struct evrow),
        offsetof(struct evrow, with),
        offsetof(struct evrow, task),
        offsetof(struct evrow, failure),
        offsetof(struct evrow, effect_q),
        offsetof(struct evrow, retracted_at_ns),
        offsetof(struct evrow, next),
        offsetof(struct evrow, foreign),
        sizeof(struct slot),
        offsetof(struct slot, value),
    };
    uint64_t h = ARRAY_LEN(parts);

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        h = text_hash_pair(h, parts[i]);
    return h;
}

static void map_put_all(struct snap_writer *w, enum snap_section section, const struct map *m)
{
    snap_begin(w, section);
    snap_put(w, m->slots, m->size * sizeof(*m->slots));
}

void evtable_put(struct snap_writer *w, const struct evtable *t)
{
    snap_begin(w, SNAP_EVIDENCE_ROWS);
    snap_put(w, t->rows, t->count * sizeof(*t->rows));
    map_put_all(w, SNAP_EVIDENCE_BY_ID, &t->by_id);
    map_put_all(w, SNAP_EVIDENCE_BY_CLAIM, &t->by_claim);
    map_put_all(w, SNAP_EVIDENCE_RETRACTED, &t->retracted);
    snap_begin(w, SNAP_EVIDENCE_NAMES);
    symbols_put(w, &t->names);
}

static int do_not_fit(struct err *err)
{
    return err_set(err, ERR_CORRUPT, "its pieces of evidence do not fit together");
}

/* Values below `end`. */
static int map_take(const struct snap *s, enum snap_section section, struct map *m, uint64_t end,
                    struct err *err)
{
    size_t n;
    const struct slot *slots = snap_elements(s, section, sizeof(*slots), &n, err);

    if (slots == NULL)
        return -1;
    if ((n & (n - 1)) != 0)
        return do_not_fit(err);
    if (n == 0)
        return 0;
    m->slots = snap_copy(slots, sizeof(*slots), n, n);
    if (m->slots == NULL)
        return no_memory(err);
    m->size = n;
    for (size_t i = 0; i < n; i++) {
        m->used += slots[i].value != 0;
        if (slots[i].value > end)
            return do_not_fit(err);
    }
    return m->used * 2 <= m->size ? 0 : do_not_fit(err);
}

static int rows_take(const struct snap *s, struct evtable *t, struct err *err)
{
    size_t n;
    const struct evrow *rows = snap_elements(s, SNAP_EVIDENCE_ROWS, sizeof(*rows), &n, err);

    if (rows == NULL)
        return -1;
    if (n >= EVTABLE_NONE)
        return do_not_fit(err);
    t->cap = n + n / 8 + 64;
    t->rows = snap_copy(rows, sizeof(*rows), n, t->cap);
    if (t->rows == NULL)
        return no_memory(err);
    t->count = (uint32_t)n;
    for (uint32_t i = 0; i < t->count; i++) {
        const struct evrow *r = &t->rows[i];
        uint32_t most = MAX(MAX(MAX(r->task, r->device), MAX(r->device_class, r->shape)),
                            MAX(r->toolchain, r->failure));

        /* Rows lead to earlier ones: walks end. */
        if (most >= t->names.n || (r->next != EVTABLE_NONE && r->next >= i))
            return do_not_fit(err);
    }
    return 0;
}

int evtable_take(const struct snap *s, struct evtable *t, struct err *err)
{
    if (symbols_take(s, SNAP_EVIDENCE_NAMES, &t->names, err) != 0 || rows_take(s, t, err) != 0 ||
        map_take(s, SNAP_EVIDENCE_BY_ID, &t->by_id, t->count, err) != 0 ||
        map_take(s, SNAP_EVIDENCE_BY_CLAIM, &t->by_claim, t->count, err) != 0)
        return -1;
    return map_take(s, SNAP_EVIDENCE_RETRACTED, &t->retracted, UINT64_MAX, err);
}
