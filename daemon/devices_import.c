/* SPDX-License-Identifier: Apache-2.0 */
/* Device records from outside, checked member by member; see device_import in devices.h. */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "daemon.h"
#include "devices.h"
#include "kb.h"

enum { TEXT_MAX = 200, LIST_MAX = 512, CLASS_NAME_MAX = 80 };

enum member_type {
    MEMBER_NAME,
    MEMBER_TEXT,
    MEMBER_NUMBER,
    MEMBER_NUMBERS,
    MEMBER_NAMES,
    MEMBER_TEXTS
};

static const struct member {
    const char *name;
    enum member_type type;
} members[] = {
    { "name", MEMBER_NAME },
    { "kind", MEMBER_NAME },
    { "arch", MEMBER_TEXT },
    { "class", MEMBER_NAME },
    { "model", MEMBER_TEXT },
    { "units", MEMBER_NUMBER }, /* multiprocessors, compute units */
    { "clock_mhz", MEMBER_NUMBER },
    { "memory_clock_mhz", MEMBER_NUMBER },
    { "memory_bytes", MEMBER_NUMBER },
    { "cores", MEMBER_NUMBER },
    { "threads", MEMBER_NUMBER },
    { "threads_per_block", MEMBER_NUMBER },
    { "threads_per_unit", MEMBER_NUMBER },
    { "warp", MEMBER_NUMBER },
    { "copy_gbs", MEMBER_NUMBER },
    { "read_gbs", MEMBER_NUMBER },
    { "fma_gflops", MEMBER_NUMBER },
    { "bf16_gflops", MEMBER_NUMBER },
    { "gflops", MEMBER_NUMBERS },       /* by dtype */
    { "cache_bytes", MEMBER_NUMBERS },  /* by level */
    { "shared_bytes", MEMBER_NUMBERS }, /* block, unit */
    { "registers", MEMBER_NUMBERS },    /* block, unit: of 32 bits */
    { "toolchain", MEMBER_TEXT },
    { "driver", MEMBER_TEXT },
    { "libraries", MEMBER_TEXTS },
    { "features", MEMBER_NAMES },
    { "source", MEMBER_TEXT }, /* where the figures are from */
};

static int check_text(const char *what, const json_t *v, bool name, struct err *err)
{
    const char *s = json_string_value(v);

    if (s == NULL || strlen(s) > TEXT_MAX)
        return err_set(err, ERR_INVALID, "'%s' is no text of at most %d bytes", what, TEXT_MAX);
    if (name && !str_is_name(s))
        return err_set(err, ERR_INVALID,
                       "'%s' is '%.60s'; a name of letters, digits, '_', '.' and '-' is allowed",
                       what, s);
    for (const char *p = s; *p; p++)
        if ((unsigned char)*p < ' ')
            return err_set(err, ERR_INVALID, "'%s' has a control character", what);
    return 0;
}

static int check_number(const char *what, const json_t *v, struct err *err)
{
    double n = json_is_number(v) ? json_number_value(v) : NAN;

    if (n > 0 && n <= 1e18)
        return 0;
    return err_set(err, ERR_INVALID, "'%s' is no number above 0 and up to 1e18", what);
}

static int check_object(const struct member *m, const json_t *v, struct err *err)
{
    char what[160];
    const char *key;
    json_t *item;

    if (!json_is_object(v) || json_object_size(v) > LIST_MAX)
        return err_set(err, ERR_INVALID, "'%s' is no object of at most %d members", m->name,
                       LIST_MAX);
    json_object_foreach ((json_t *)v, key, item) {
        snprintf(what, sizeof(what), "%s.%.80s", m->name, key);
        if (!str_is_name(key))
            return err_set(err, ERR_INVALID, "'%s' has a member whose name is no name", m->name);
        if ((m->type == MEMBER_NUMBERS ? check_number(what, item, err)
                                       : check_text(what, item, false, err)) != 0)
            return -1;
    }
    return 0;
}

static int check_list(const struct member *m, const json_t *v, struct err *err)
{
    json_t *item;
    size_t i;

    if (!json_is_array(v) || json_array_size(v) > LIST_MAX)
        return err_set(err, ERR_INVALID, "'%s' is no array of at most %d names", m->name, LIST_MAX);
    json_array_foreach ((json_t *)v, i, item) {
        if (check_text(m->name, item, true, err) != 0)
            return -1;
    }
    return 0;
}

static int check_member(const struct member *m, const json_t *v, struct err *err)
{
    switch (m->type) {
    case MEMBER_NAME:
    case MEMBER_TEXT:
        return check_text(m->name, v, m->type == MEMBER_NAME, err);
    case MEMBER_NUMBER:
        return check_number(m->name, v, err);
    case MEMBER_NUMBERS:
    case MEMBER_TEXTS:
        return check_object(m, v, err);
    case MEMBER_NAMES:
        return check_list(m, v, err);
    }
    return 0;
}

static int check_record(const json_t *record, struct err *err)
{
    const char *key, *kind;
    json_t *v;

    if (!json_is_object(record))
        return err_set(err, ERR_INVALID, "'device' is no object; allowed is a device's record");
    json_object_foreach ((json_t *)record, key, v) {
        const struct member *m = NULL;
        char seen[80];

        for (size_t i = 0; i < ARRAY_LEN(members); i++)
            if (strcmp(members[i].name, key) == 0)
                m = &members[i];
        if (m == NULL)
            return err_set(err, ERR_INVALID,
                           "a device's record has no member '%s'; docs/retune.md has all of them",
                           str_visible(key, strlen(key), seen, sizeof(seen)));
        if (check_member(m, v, err) != 0)
            return -1;
    }
    if (json_object_get(record, "name") == NULL)
        return err_set(err, ERR_INVALID, "'name' is missing: what the device is called");
    kind = jsonx_str(record, "kind", "recorded");
    if (strcmp(kind, "recorded") != 0 && strcmp(kind, "cuda") != 0)
        return err_set(err, ERR_INVALID,
                       "'kind' is '%s'; recorded and cuda are allowed, because a processor is "
                       "measured by 'ksearch device probe'",
                       kind);
    if (strlen(jsonx_str(record, "name", "")) > CLASS_NAME_MAX)
        return err_set(err, ERR_INVALID, "'name' has over %d bytes", CLASS_NAME_MAX);
    return 0;
}

/* Members that every record has, where the file has none. */
static void add_defaults(json_t *record)
{
    static const char *const texts[] = { "arch", "toolchain" };
    const char *name = jsonx_str(record, "name", ""), *arch = jsonx_str(record, "arch", "");
    char class[CLASS_NAME_MAX + 16];

    if (json_object_get(record, "kind") == NULL)
        json_object_set_new(record, "kind", json_string("recorded"));
    if (json_object_get(record, "class") == NULL) {
        /* That of a recorded space that is imported before its device is described. */
        snprintf(class, sizeof(class), "recorded-%s", name);
        json_object_set_new(
            record, "class",
            json_string(strcmp(jsonx_str(record, "kind", ""), "cuda") == 0 && str_is_name(arch)
                            ? arch
                            : class));
    }
    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (json_object_get(record, texts[i]) == NULL)
            json_object_set_new(record, texts[i], json_string(""));
    if (json_object_get(record, "model") == NULL)
        json_object_set_new(record, "model", json_string(name));
    if (json_object_get(record, "features") == NULL)
        json_object_set_new(record, "features", json_array());
    json_object_set_new(record, "probed", json_false());
}

/* `record` takes its class from the one that is there. */
static int join_known(json_t *record, const json_t *known, struct err *err)
{
    const char *name = jsonx_str(record, "name", ""), *class = jsonx_str(known, "class", "");

    if (jsonx_bool(known, "probed", 0))
        return err_set(err, ERR_CONFLICT,
                       "device '%s' was measured on this machine; another name keeps them apart",
                       name);
    if (json_object_get(record, "class") != NULL &&
        strcmp(jsonx_str(record, "class", ""), class) != 0)
        return err_set(err, ERR_CONFLICT,
                       "device '%s' has class '%s', under which its evidence is filed, and not "
                       "'%s'; leave 'class' out, or import the device before what was measured on "
                       "it",
                       name, class, jsonx_str(record, "class", ""));
    json_object_set_new(record, "class", json_string(class));
    return 0;
}

int device_import(struct daemon *d, const json_t *given, json_t **reply, struct err *err)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    json_auto_t *record = NULL, *known = NULL;
    struct kb_batch *b;
    const char *name;
    bool changed;
    int rc = 0;

    if (check_record(given, err) != 0)
        return -1;
    record = json_deep_copy(given);
    name = jsonx_str(record, "name", "");
    pthread_mutex_lock(&lock);
    if (kb_get_doc(d->kb, KB_DEVICE, name, &known, err) != 0)
        rc = err->code == ERR_NOT_FOUND ? 0 : -1;
    else
        rc = join_known(record, known, err);
    if (rc == 0) {
        add_defaults(record);
        changed = known == NULL || !json_equal(known, record);
        b = kb_batch_new(d->kb);
        if (b == NULL)
            rc = err_set(err, ERR_NOMEM, "no memory to store the device");
        else if (changed &&
                 (kb_batch_put_doc(b, KB_DEVICE, name, record, err) != 0 || kb_commit(b, err) != 0))
            rc = -1;
        kb_batch_free(b);
    }
    pthread_mutex_unlock(&lock);
    if (rc == 0)
        *reply = json_pack("{s:O, s:b}", "device", record, "changed", changed);
    return rc;
}
