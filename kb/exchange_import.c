/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing: nothing is stored before the signature, the signer and the whole body were checked.
 * Then devices, which facts name; facts, in batches; and programs, which facts name and gc_sweep
 * would take for loose before. An import that was cut short is finished by the same import again.
 */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "exchange.h"
#include "kb_impl.h"
#include "keys.h"
#include "packfile.h"

enum { FACTS_PER_COMMIT = 4000, BYTES_PER_COMMIT = 32 << 20 };

struct tally {
    long fresh, known, refused;
};

struct job {
    struct kb *kb;
    struct packfile pack;
    struct kb_batch *batch;
    struct tally facts, docs;
    json_t *named;
    bool devices; /* the pass takes devices, not other documents */
    long line;
    size_t pending, pending_bytes;
};

/* ---- Counting ---- */

static int refuse(struct job *j, struct tally *t, const char *why, struct err *err)
{
    t->refused++;
    if (json_array_size(j->named) < EXCHANGE_NAMED_MAX &&
        json_array_append_new(
            j->named, json_pack("{s:I, s:s}", "line", (json_int_t)j->line, "why", why)) != 0)
        return err_set(err, ERR_NOMEM, "no memory for the report of an import");
    return 0;
}

static int commit(struct job *j, struct err *err)
{
    j->pending = 0;
    j->pending_bytes = 0;
    return kb_commit(j->batch, err);
}

static int added(struct job *j, size_t bytes, struct err *err)
{
    j->pending_bytes += bytes;
    if (++j->pending < FACTS_PER_COMMIT && j->pending_bytes < BYTES_PER_COMMIT)
        return 0;
    return commit(j, err);
}

/* ---- Lines ---- */

/* {"kind", "fact"} or {"kind", "key", "doc"}; false, with the reason, for anything else. */
struct item {
    const char *kind, *key;
    json_t *value; /* borrowed from the line */
    bool is_fact;
};

static bool item_of(const json_t *line, struct item *out)
{
    json_t *fact = json_object_get(line, "fact"), *doc = json_object_get(line, "doc");
    size_t members = json_object_size(line);

    *out = (struct item){ .kind = jsonx_str(line, "kind", NULL),
                          .key = jsonx_str(line, "key", NULL),
                          .value = fact ? fact : doc,
                          .is_fact = fact != NULL };
    if (out->kind == NULL || !json_is_object(out->value))
        return false;
    return fact ? members == 2 : out->key != NULL && members == 3;
}

/* Lines are told apart by how they begin and end, so that a pass parses only its own: members are
 * in the order of canonical JSON. */
static bool is_doc_line(const char *line)
{
    return str_has_prefix(line, "{\"doc\":");
}

static bool is_device_line(const char *line)
{
    return is_doc_line(line) && str_has_suffix(line, ",\"kind\":\"device\"}");
}

/* ---- Documents ---- */

/* 1 when it is there, 0 when not, -1 with *err. */
static int doc_known(struct kb *kb, enum kb_doc kind, const char *key, struct err *err)
{
    json_auto_t *doc = NULL;

    if (kb_get_doc(kb, kind, key, &doc, err) == 0)
        return 1;
    return err->code == ERR_NOT_FOUND ? 0 : -1;
}

/* The content address is over these, as whoever stored it computed it. */
static bool is_program(const char *key, const json_t *doc)
{
    const json_t *source = json_object_get(doc, "source"), *space = json_object_get(doc, "space");
    const char *language = jsonx_str(doc, "language", NULL),
               *settings = jsonx_str(doc, "settings", NULL);
    json_auto_t *identity = NULL;
    struct err ignored;
    struct id id;

    if (language == NULL || settings == NULL || !(json_is_string(source) || json_is_object(space)))
        return false;
    identity = json_pack("{s:s, s:s, s:O}", "language", language, "settings", settings,
                         source ? "source" : "space", (json_t *)(source ? source : space));
    return identity != NULL && id_of_json(identity, &id, &ignored) == 0 && strcmp(id.hex, key) == 0;
}

static bool is_device(const char *key, const json_t *doc)
{
    return str_is_name(key) && strcmp(jsonx_str(doc, "name", ""), key) == 0 &&
           str_is_name(jsonx_str(doc, "class", "")) && *jsonx_str(doc, "kind", "") != '\0' &&
           json_is_array(json_object_get(doc, "features"));
}

/* What is here stays: a device of the same name was seen by this base itself, or came first. */
static int take_doc(struct job *j, const struct item *it, struct err *err)
{
    bool program = strcmp(it->kind, "program") == 0, device = strcmp(it->kind, "device") == 0;
    enum kb_doc kind = program ? KB_PROGRAM : KB_DEVICE;
    int known;

    if (!program && !device)
        return refuse(j, &j->docs, "a document of a kind that packs do not have", err);
    if (program ? !is_program(it->key, it->value) : !is_device(it->key, it->value))
        return refuse(j, &j->docs,
                      program ? "a program that does not have its content address"
                              : "a device record without name, class, kind or features",
                      err);
    known = doc_known(j->kb, kind, it->key, err);
    if (known < 0)
        return -1;
    j->docs.known += known;
    if (known)
        return 0;
    if (device)
        json_object_set_new(it->value, "probed", json_false());
    if (kb_batch_put_doc(j->batch, kind, it->key, it->value, err) != 0)
        return err->code == ERR_INVALID ? refuse(j, &j->docs, err->msg, err) : -1;
    j->docs.fresh++;
    return 0;
}

static int doc_line(void *ctx, const char *line, size_t len, struct err *err)
{
    json_auto_t *v = NULL;
    struct job *j = ctx;
    struct item it;

    j->line++;
    if (!is_doc_line(line) || is_device_line(line) != j->devices)
        return 0;
    if (jsonx_parse(line, len, "JSON", &v, err) != 0 || !item_of(v, &it) || it.is_fact)
        return refuse(j, &j->docs, "the line is no document", err);
    if (take_doc(j, &it, err) != 0)
        return -1;
    return added(j, len, err);
}

/* ---- Facts ---- */

static int kind_of(const char *name)
{
    for (int k = 0; k < FACT_COUNT; k++)
        if (strcmp(fact_kind_name((enum fact_kind)k), name) == 0)
            return k;
    return -1;
}

/* A commit finds out by itself what is stored; this is for the report. */
static int fact_known(struct kb *kb, enum fact_kind kind, const struct id *id, bool *out,
                      struct err *err)
{
    struct key key;

    key_of_id(id, &key);
    return store_has(kb->store, schema_fact_cf(kind), &key, out, err);
}

static int take_fact(struct job *j, const struct item *it, struct err *err)
{
    int kind = kind_of(it->kind);
    struct id id;
    bool known;

    if (kind < 0)
        return refuse(j, &j->facts, "a fact of a kind that is not known", err);
    if (kb_batch_add_fact(j->batch, (enum fact_kind)kind, it->value, &id, err) != 0)
        return err->code == ERR_INVALID ? refuse(j, &j->facts, err->msg, err) : -1;
    if (fact_known(j->kb, (enum fact_kind)kind, &id, &known, err) != 0)
        return -1;
    *(known ? &j->facts.known : &j->facts.fresh) += 1;
    return 0;
}

static int fact_line(void *ctx, const char *line, size_t len, struct err *err)
{
    json_auto_t *v = NULL;
    struct job *j = ctx;
    struct item it;

    j->line++;
    if (is_doc_line(line))
        return 0;
    if (jsonx_parse(line, len, "JSON", &v, err) != 0 || !item_of(v, &it) || !it.is_fact)
        return refuse(j, &j->facts, "the line is no fact", err);
    if (take_fact(j, &it, err) != 0)
        return -1;
    return added(j, len, err);
}

/* ---- The whole ---- */

/* Who signed: this base itself (`*own`), somebody trusted, or nobody that is known here. */
static int check_signer(const char *dir, struct public_key *signer, bool *own, struct err *err)
{
    struct public_key mine, trusted;

    if (keys_own(dir, &mine, err) != 0)
        return -1;
    *own = strcmp(mine.fingerprint.hex, signer->fingerprint.hex) == 0;
    if (*own)
        return 0;
    if (keys_trusted(dir, &signer->fingerprint, &trusted, err) == 0) {
        *signer = trusted;
        return 0;
    }
    if (err->code != ERR_NOT_FOUND)
        return -1;
    return err_set(err, ERR_REFUSED,
                   "the pack is signed by a key that is not trusted here, fingerprint %s; if you "
                   "know whose it is, get the file that 'ksearch kb key show' gives them, and "
                   "'ksearch kb key trust FILE --name WHO' trusts it",
                   signer->fingerprint.hex);
}

static int pass(struct job *j, packfile_line_fn *fn, struct err *err)
{
    j->line = 0;
    if (packfile_each(&j->pack, fn, j, err) != 0)
        return -1;
    return commit(j, err);
}

static json_t *tally_json(const struct tally *t)
{
    return json_pack("{s:I, s:I, s:I}", "new", (json_int_t)t->fresh, "known", (json_int_t)t->known,
                     "refused", (json_int_t)t->refused);
}

static json_t *report_json(const struct job *j, const struct public_key *signer, bool own)
{
    const struct packfile_head *h = &j->pack.head;

    return json_pack("{s:s, s:s, s:b, s:I, s:s, s:O, s:o, s:o, s:O}", "signer",
                     signer->fingerprint.hex, "name", signer->name, "own", own, "made_at_s",
                     (json_int_t)h->made_at_s, "embedding", h->embedding, "filters", h->filters,
                     "facts", tally_json(&j->facts), "documents", tally_json(&j->docs), "named",
                     j->named);
}

static int import(struct job *j, const char *dir, json_t **report, struct err *err)
{
    struct public_key signer = j->pack.head.signer;
    bool own;
    int rc;

    if (packfile_check_signature(&j->pack, err) != 0 ||
        check_signer(dir, &signer, &own, err) != 0 || packfile_check_body(&j->pack, err) != 0)
        return -1;
    j->batch = kb_batch_new(j->kb);
    j->named = json_array();
    if (j->batch == NULL || j->named == NULL)
        return err_set(err, ERR_NOMEM, "no memory to import a pack");
    if (!own && kb_batch_set_origin(j->batch, signer.fingerprint.hex, err) != 0)
        return -1;
    j->devices = true;
    rc = pass(j, doc_line, err);
    if (rc == 0)
        rc = pass(j, fact_line, err);
    j->devices = false;
    if (rc == 0)
        rc = pass(j, doc_line, err);
    if (rc != 0)
        return err_ctx(err, "a part of the pack was stored; importing it again brings the rest");
    *report = report_json(j, &signer, own);
    return *report ? 0 : err_set(err, ERR_NOMEM, "no memory for the report of an import");
}

int exchange_import(struct kb *kb, const char *dir, int fd, json_t **report, struct err *err)
{
    struct job j = { .kb = kb };
    int rc;

    if (packfile_read(fd, &j.pack, err) != 0)
        return -1;
    rc = import(&j, dir, report, err);
    kb_batch_free(j.batch);
    json_decref(j.named);
    packfile_release(&j.pack);
    return rc;
}
