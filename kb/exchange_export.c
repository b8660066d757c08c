/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting: one walk marks which claims, evidence and evaluations the filter wants, then each kind
 * is written in order of id. What was committed meanwhile is left for the next pack.
 */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "exchange.h"
#include "idmap.h"
#include "kb_impl.h"
#include "packfile.h"
#include "record_text.h"
#include "vocab.h"

enum { MAP_BITS = 12 };

enum {
    MARK_FITS = 1,  /* a claim of the technique and family asked for */
    MARK_ANY = 2,   /* ... of any family: its evidence decides */
    MARK_BAD = 4,   /* the screen found something */
    MARK_WANTED = 8 /* goes into the pack */
};

struct mark {
    struct id id;
    uint8_t bits;
};

struct job {
    struct kb *kb;
    const struct exchange_export *o;
    const struct exchange_filter *f;
    struct packfile_writer *out;
    uint64_t max_seq;
    bool by_measurement; /* task, device or time were asked for */
    bool filtered;
    char technique[VOCAB_NAME_MAX];
    struct idmap claims, evidence, evaluations, programs;
    json_t *devices; /* names, as keys */
    json_t *counts, *named;
    struct buf line;
    long left_out;
    struct err *err;
    int rc;
};

/* ---- Marks ---- */

/* The mark of an id, made when it is missing; NULL when memory is out. */
static struct mark *mark_of(struct idmap *m, const struct id *id, struct err *err)
{
    struct mark *mark = idmap_get(m, id);

    if (mark != NULL)
        return mark;
    mark = calloc(1, sizeof(*mark));
    if (mark == NULL) {
        err_set(err, ERR_NOMEM, "no memory to select facts");
        return NULL;
    }
    mark->id = *id;
    if (idmap_add(m, mark, err) == 0)
        return mark;
    free(mark);
    return NULL;
}

static bool has_mark(const struct idmap *m, const struct id *id, uint8_t bits)
{
    const struct mark *mark = idmap_get(m, id);

    return mark != NULL && (mark->bits & bits) != 0;
}

static int set_mark(struct job *j, struct idmap *m, const struct id *id, uint8_t bits)
{
    struct mark *mark = mark_of(m, id, j->err);

    if (mark == NULL)
        return -1;
    mark->bits |= bits;
    return 0;
}

static int leave_out(struct job *j, const char *kind, const char *id, const char *why)
{
    j->left_out++;
    if (json_array_size(j->named) < EXCHANGE_NAMED_MAX &&
        json_array_append_new(
            j->named, json_pack("{s:s, s:s, s:s}", "kind", kind, "id", id, "why", why)) != 0)
        return err_set(j->err, ERR_NOMEM, "no memory for the report of an export");
    return 0;
}

/* ---- Walking one kind of fact in order of id ---- */

typedef int fact_fn(struct job *j, const struct id *id, const char *text, size_t len);

struct walk {
    struct job *job;
    fact_fn *fn;
};

static int visit(void *ctx, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct walk *w = ctx;
    struct job *j = w->job;
    struct fact_head head;
    const char *text;
    struct id id;
    size_t len;

    j->rc = key_to_id(key, key_len, &id, j->err) != 0 ||
                    fact_decode(value, value_len, &head, &text, &len, j->err) != 0
                ? -1
                : 0;
    if (j->rc == 0 && head.seq <= j->max_seq)
        j->rc = w->fn(j, &id, text, len);
    if (j->rc != 0 && j->err->code == ERR_INVALID)
        j->err->code = ERR_CORRUPT;
    return j->rc;
}

static int each_fact(struct job *j, enum fact_kind kind, fact_fn *fn)
{
    struct walk w = { j, fn };

    if (store_each(j->kb->store, schema_fact_cf(kind), NULL, NULL, visit, &w, j->err) != 0)
        return -1;
    return j->rc != 0 ? err_ctx(j->err, "exporting %s", fact_kind_name(kind)) : 0;
}

/* ---- Selecting ---- */

static const char *screen_claim(const struct screen *s, const struct claim *c)
{
    const char *const texts[] = { c->technique, c->statement,  c->mechanism, c->family,
                                  c->requires,  c->with_value, c->param,     c->without_value };
    const char *found = NULL;

    for (size_t i = 0; i < ARRAY_LEN(texts) && found == NULL; i++)
        found = screen_text(s, texts[i]);
    return found;
}

static uint8_t claim_bits(const struct job *j, const struct claim *c)
{
    char technique[VOCAB_NAME_MAX];

    if (j->technique[0] && strcmp(vocab_canonical(c->technique, technique), j->technique) != 0)
        return 0;
    if (j->f->family == NULL || strcmp(c->family, j->f->family) == 0)
        return MARK_FITS | (j->by_measurement ? 0 : MARK_WANTED);
    return c->family[0] == '\0' ? MARK_ANY : 0;
}

static int select_claim(struct job *j, const struct id *id, const char *text, size_t len)
{
    struct claim c;
    const char *found;
    uint8_t bits;

    if (claim_read(text, len, &c, j->err) != 0)
        return -1;
    bits = claim_bits(j, &c);
    found = bits ? screen_claim(&j->o->screen, &c) : NULL;
    claim_release(&c);
    if (found != NULL) {
        bits = MARK_BAD;
        if (leave_out(j, "claim", id->hex, found) != 0)
            return -1;
    }
    return bits ? set_mark(j, &j->claims, id, bits) : 0;
}

/* Is the evaluation behind a piece of evidence of the family? One that is not here is not. */
static bool is_of_family(const struct job *j, const struct id *id, const char *family)
{
    struct evaluation e;
    struct err ignored;
    bool yes;

    if (kb_get_evaluation(j->kb, id, &e, &ignored) != 0)
        return false;
    yes = strcmp(e.family, family) == 0;
    evaluation_release(&e);
    return yes;
}

static bool is_measured_so(const struct job *j, const char *task, const char *device,
                           uint64_t measured_at_s)
{
    const struct exchange_filter *f = j->f;

    return (f->task == NULL || strcmp(task, f->task) == 0) &&
           (f->device == NULL || strcmp(device, f->device) == 0) && measured_at_s >= f->since_s;
}

/* Evidence of a claim that is not here goes only where everything goes. */
static bool fits(const struct job *j, const struct evidence *e)
{
    const struct mark *claim = idmap_get(&j->claims, &e->claim);

    if (!is_measured_so(j, e->task, e->device, e->measured_at_s))
        return false;
    if (claim == NULL)
        return !j->filtered;
    if (claim->bits & MARK_BAD)
        return false;
    return (claim->bits & MARK_FITS) != 0 ||
           ((claim->bits & MARK_ANY) != 0 && is_of_family(j, &e->with, j->f->family));
}

static const char *screen_evidence(const struct screen *s, const struct evidence *e)
{
    const char *found = screen_source(s, e->toolchain);

    if (found == NULL)
        found = screen_source(s, e->shape);
    return found ? found : screen_json(s, e->features);
}

static int want_evidence(struct job *j, const struct id *id, const struct evidence *e)
{
    const char *found;

    if (!fits(j, e))
        return 0;
    found = screen_evidence(&j->o->screen, e);
    if (found != NULL)
        return leave_out(j, "evidence", id->hex, found);
    if (has_mark(&j->claims, &e->claim, MARK_FITS | MARK_ANY) &&
        set_mark(j, &j->claims, &e->claim, MARK_WANTED) != 0)
        return -1;
    if (j->f->claims_only)
        return 0;
    if (set_mark(j, &j->evidence, id, MARK_WANTED) != 0 ||
        set_mark(j, &j->evaluations, &e->with, MARK_WANTED) != 0 ||
        json_object_set_new(j->devices, e->device, json_true()) != 0)
        return -1;
    return e->without.hex[0] ? set_mark(j, &j->evaluations, &e->without, MARK_WANTED) : 0;
}

static int select_evidence(struct job *j, const struct id *id, const char *text, size_t len)
{
    struct evidence e;
    int rc;

    if (evidence_read(text, len, &e, j->err) != 0)
        return -1;
    rc = want_evidence(j, id, &e);
    evidence_release(&e);
    return rc;
}

/* ---- Writing ---- */

static int count(struct job *j, const char *kind)
{
    if (json_object_set_new(j->counts, kind, json_integer(jsonx_int(j->counts, kind, 0) + 1)) != 0)
        return err_set(j->err, ERR_NOMEM, "no memory for the report of an export");
    return 0;
}

/* {"fact":...,"kind":...} in canonical form: the fact's text is canonical already. */
static int write_fact(struct job *j, enum fact_kind kind, const char *text, size_t len)
{
    buf_clear(&j->line);
    if (buf_adds(&j->line, "{\"fact\":", j->err) != 0 ||
        buf_add(&j->line, text, len, j->err) != 0 ||
        buf_adds(&j->line, ",\"kind\":\"", j->err) != 0 ||
        buf_adds(&j->line, fact_kind_name(kind), j->err) != 0 ||
        buf_adds(&j->line, "\"}", j->err) != 0 ||
        packfile_add(j->out, j->line.data, j->line.len, j->err) != 0)
        return -1;
    return count(j, fact_kind_name(kind));
}

/* Which workload failed is what a failure is about: only claims are held to the names of those. */
static const char *screen_evaluation(const struct screen *s, const struct evaluation *e)
{
    struct screen hosts = { .hosts = s->hosts, .n_hosts = s->n_hosts };
    const char *found = screen_text(&hosts, e->message);

    if (found == NULL)
        found = screen_source(s, e->toolchain);
    if (found == NULL)
        found = screen_source(s, e->shape);
    return found ? found : screen_json(&hosts, e->assignment);
}

static bool wants_evaluation(const struct job *j, const struct id *id, const struct evaluation *e)
{
    if (has_mark(&j->evaluations, id, MARK_WANTED))
        return true;
    if (j->technique[0])
        return false; /* only what bears on it */
    return is_measured_so(j, e->task, e->device, e->measured_at_s) &&
           (j->f->family == NULL || strcmp(e->family, j->f->family) == 0);
}

static int take_evaluation(struct job *j, const struct id *id, const struct evaluation *e,
                           const char *text, size_t len)
{
    const char *found;

    if (!wants_evaluation(j, id, e))
        return 0;
    found = screen_evaluation(&j->o->screen, e);
    if (found != NULL)
        return leave_out(j, "evaluation", id->hex, found);
    if (json_object_set_new(j->devices, e->device, json_true()) != 0 ||
        set_mark(j, &j->programs, &e->program, MARK_WANTED) != 0)
        return -1;
    return write_fact(j, FACT_EVALUATION, text, len);
}

static int write_evaluation(struct job *j, const struct id *id, const char *text, size_t len)
{
    struct evaluation e;
    int rc;

    if (evaluation_read(text, len, &e, j->err) != 0)
        return -1;
    rc = take_evaluation(j, id, &e, text, len);
    evaluation_release(&e);
    return rc;
}

static int write_claim(struct job *j, const struct id *id, const char *text, size_t len)
{
    if (!has_mark(&j->claims, id, MARK_WANTED))
        return 0;
    return write_fact(j, FACT_CLAIM, text, len);
}

static int write_evidence(struct job *j, const struct id *id, const char *text, size_t len)
{
    if (!has_mark(&j->evidence, id, MARK_WANTED))
        return 0;
    return write_fact(j, FACT_EVIDENCE, text, len);
}

static bool wants_retraction(const struct job *j, const struct retraction *r)
{
    if (j->f->claims_only && r->kind == FACT_EVIDENCE)
        return false;
    return !j->filtered || has_mark(&j->claims, &r->target, MARK_WANTED) ||
           has_mark(&j->evidence, &r->target, MARK_WANTED);
}

static int write_retraction(struct job *j, const struct id *id, const char *text, size_t len)
{
    struct retraction r;
    const char *found;
    bool wanted;

    if (retraction_read(text, len, &r, j->err) != 0)
        return -1;
    wanted = wants_retraction(j, &r);
    found = wanted ? screen_text(&j->o->screen, r.reason) : NULL;
    retraction_release(&r);
    if (found != NULL)
        return leave_out(j, "retraction", id->hex, found);
    return wanted ? write_fact(j, FACT_RETRACTION, text, len) : 0;
}

static int write_link(struct job *j, const struct id *id, const char *text, size_t len)
{
    struct link l;

    (void)id;
    if (link_read(text, len, &l, j->err) != 0)
        return -1;
    if (j->filtered &&
        (!has_mark(&j->claims, &l.a, MARK_WANTED) || !has_mark(&j->claims, &l.b, MARK_WANTED)))
        return 0;
    return write_fact(j, FACT_LINK, text, len);
}

/* ---- Documents ---- */

static int write_doc(struct job *j, const char *kind, const char *key, const json_t *doc)
{
    json_auto_t *line =
        json_pack("{s:s, s:s, s:O}", "kind", kind, "key", key, "doc", (json_t *)doc);

    buf_clear(&j->line);
    if (line == NULL)
        return err_set(j->err, ERR_NOMEM, "no memory to export %s '%s'", kind, key);
    if (json_to_value(line, &j->line, j->err) != 0 ||
        packfile_add(j->out, j->line.data, j->line.len, j->err) != 0)
        return -1;
    return count(j, kind);
}

/* Only what is told of a program everywhere: its address is over the first three or the space. */
static json_t *shareable_program(const json_t *doc)
{
    static const char *const members[] = { "language", "settings", "source", "family", "space" };
    json_t *out = json_object();

    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        json_t *v = json_object_get(doc, members[i]);

        if (v != NULL)
            json_object_set(out, members[i], v);
    }
    return out;
}

static int program_visit(void *ctx, const char *key, const json_t *doc)
{
    struct job *j = ctx;
    json_auto_t *program = NULL;
    const char *found;
    struct id id;

    if (!str_copy(id.hex, sizeof(id.hex), key) || !has_mark(&j->programs, &id, MARK_WANTED))
        return 0;
    program = shareable_program(doc);
    found = screen_source(&j->o->screen, jsonx_str(program, "source", ""));
    if (found == NULL)
        found = screen_source(&j->o->screen, jsonx_str(program, "settings", ""));
    j->rc = found ? leave_out(j, "program", key, found) : write_doc(j, "program", key, program);
    return j->rc;
}

/*
 * The members that are the machine's kind and not the machine: numbers, flags, lists of names, and
 * the texts named here.
 */
static json_t *shareable_device(const json_t *doc)
{
    static const char *const texts[] = { "name",      "kind",   "arch",     "class",  "model",
                                         "toolchain", "driver", "compiler", "library" };
    json_t *out = json_object(), *v;
    const char *key;

    json_object_foreach ((json_t *)doc, key, v) {
        bool named = false;

        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
            named = named || strcmp(key, texts[i]) == 0;
        if (json_is_string(v) ? named : !json_is_null(v))
            json_object_set(out, key, v);
    }
    json_object_del(out, "probed_at");
    json_object_set_new(out, "probed", json_false());
    return out;
}

static int device_visit(void *ctx, const char *key, const json_t *doc)
{
    struct job *j = ctx;
    json_auto_t *device = NULL;
    const char *found;

    if (json_object_get(j->devices, key) == NULL)
        return 0;
    device = shareable_device(doc);
    found = screen_json(&j->o->screen, device);
    j->rc = found ? leave_out(j, "device", key, found) : write_doc(j, "device", key, device);
    return j->rc;
}

static int write_docs(struct job *j)
{
    if (!j->f->claims_only &&
        (kb_each_doc(j->kb, KB_DEVICE, device_visit, j, j->err) != 0 || j->rc != 0))
        return -1;
    if (j->f->no_programs)
        return 0;
    if (kb_each_doc(j->kb, KB_PROGRAM, program_visit, j, j->err) != 0)
        return -1;
    return j->rc;
}

/* ---- The whole ---- */

static json_t *filters_json(const struct exchange_filter *f)
{
    const struct {
        const char *name, *value;
    } texts[] = { { "task", f->task },
                  { "family", f->family },
                  { "device", f->device },
                  { "technique", f->technique } };
    const struct {
        const char *name;
        bool value;
    } flags[] = { { "claims_only", f->claims_only },
                  { "no_evaluations", f->no_evaluations },
                  { "no_programs", f->no_programs } };
    json_t *out = json_object();

    for (size_t i = 0; i < ARRAY_LEN(texts); i++)
        if (texts[i].value != NULL)
            json_object_set_new(out, texts[i].name, json_string(texts[i].value));
    for (size_t i = 0; i < ARRAY_LEN(flags); i++)
        if (flags[i].value)
            json_object_set_new(out, flags[i].name, json_true());
    if (f->since_s > 0)
        json_object_set_new(out, "since_s", json_integer((json_int_t)f->since_s));
    return out;
}

static int select_facts(struct job *j)
{
    if (each_fact(j, FACT_CLAIM, select_claim) != 0)
        return -1;
    if (j->f->claims_only && !j->by_measurement && j->f->family == NULL)
        return 0;
    return each_fact(j, FACT_EVIDENCE, select_evidence);
}

static int write_facts(struct job *j)
{
    bool evidence = !j->f->claims_only;

    if ((evidence && !j->f->no_evaluations &&
         each_fact(j, FACT_EVALUATION, write_evaluation) != 0) ||
        each_fact(j, FACT_CLAIM, write_claim) != 0 ||
        (evidence && each_fact(j, FACT_EVIDENCE, write_evidence) != 0) ||
        each_fact(j, FACT_RETRACTION, write_retraction) != 0)
        return -1;
    return each_fact(j, FACT_LINK, write_link);
}

/* Facts by kind, and documents by kind, of the lines that were written. */
static json_t *report_json(const struct job *j, const struct packfile_head *head)
{
    json_t *facts = json_object();

    for (int k = 0; k < FACT_COUNT; k++)
        json_object_set_new(
            facts, fact_kind_name((enum fact_kind)k),
            json_integer(jsonx_int(j->counts, fact_kind_name((enum fact_kind)k), 0)));
    return json_pack("{s:o, s:{s:I, s:I}, s:I, s:s, s:s, s:I, s:O}", "facts", facts, "documents",
                     "device", (json_int_t)jsonx_int(j->counts, "device", 0), "program",
                     (json_int_t)jsonx_int(j->counts, "program", 0), "bytes",
                     (json_int_t)head->bytes, "sha256", head->sha256.hex, "signer",
                     head->signer.fingerprint.hex, "left_out", (json_int_t)j->left_out, "named",
                     j->named);
}

static int run(struct job *j, int fd, json_t **report, struct err *err)
{
    json_auto_t *filters = filters_json(j->f);
    struct packfile_head head = { .schema = SCHEMA_VERSION,
                                  .made_at_s = j->o->now_s,
                                  .embedding = (char *)j->o->embedding,
                                  .counts = j->counts,
                                  .filters = filters };

    if (j->out == NULL || filters == NULL || j->counts == NULL || j->named == NULL ||
        j->devices == NULL)
        return err_set(err, ERR_NOMEM, "no memory to export");
    if (idmap_init(&j->claims, MAP_BITS, err) != 0 ||
        idmap_init(&j->evidence, MAP_BITS, err) != 0 ||
        idmap_init(&j->evaluations, MAP_BITS, err) != 0 ||
        idmap_init(&j->programs, MAP_BITS, err) != 0)
        return -1;
    if (select_facts(j) != 0 || write_facts(j) != 0 || write_docs(j) != 0 ||
        packfile_finish(j->out, j->o->dir, &head, fd, err) != 0)
        return -1;
    *report = report_json(j, &head);
    return *report ? 0 : err_set(err, ERR_NOMEM, "no memory for the report of an export");
}

int exchange_export(struct kb *kb, const struct exchange_export *o, int fd, json_t **report,
                    struct err *err)
{
    const struct exchange_filter *f = &o->filter;
    struct job j = {
        .kb = kb,
        .o = o,
        .f = f,
        .out = packfile_writer_new(),
        .max_seq = kb_last_seq(kb),
        .by_measurement = f->task || f->device || f->since_s > 0,
        .devices = json_object(),
        .counts = json_object(),
        .named = json_array(),
        .line = { .max = PACKFILE_LINE_MAX },
        .err = err,
    };
    int rc;

    j.filtered = j.by_measurement || f->family || f->technique;
    if (f->technique != NULL)
        vocab_canonical(f->technique, j.technique);
    rc = run(&j, fd, report, err);
    packfile_writer_free(j.out);
    idmap_release(&j.claims, free);
    idmap_release(&j.evidence, free);
    idmap_release(&j.evaluations, free);
    idmap_release(&j.programs, free);
    json_decref(j.devices);
    json_decref(j.counts);
    json_decref(j.named);
    buf_release(&j.line);
    return rc;
}
