/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Exporting: each kind of fact that was selected is written in order of id, then the documents that
 * they refer to. What was committed meanwhile is left for the next pack.
 */
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "exchange_impl.h"
#include "record_text.h"

enum { MAP_BITS = 12 };

/* ---- Writing ---- */

static int count(struct export *x, const char *kind)
{
    if (json_object_set_new(x->counts, kind, json_integer(jsonx_int(x->counts, kind, 0) + 1)) != 0)
        return err_set(x->err, ERR_NOMEM, "no memory for the report of an export");
    return 0;
}

/* {"fact":...,"kind":...} in canonical form: the fact's text is canonical already. */
static int write_fact(struct export *x, enum fact_kind kind, const char *text, size_t len)
{
    buf_clear(&x->line);
    if (buf_adds(&x->line, "{\"fact\":", x->err) != 0 ||
        buf_add(&x->line, text, len, x->err) != 0 ||
        buf_adds(&x->line, ",\"kind\":\"", x->err) != 0 ||
        buf_adds(&x->line, fact_kind_name(kind), x->err) != 0 ||
        buf_adds(&x->line, "\"}", x->err) != 0 ||
        packfile_add(x->out, x->line.data, x->line.len, x->err) != 0)
        return -1;
    return count(x, fact_kind_name(kind));
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

static bool wants_evaluation(const struct export *x, const struct id *id,
                             const struct evaluation *e)
{
    if (marks_have(&x->evaluations, id, MARK_WANTED))
        return true;
    if (x->technique[0])
        return false; /* only what bears on it */
    return export_is_measured_so(x, e->task, e->device, e->measured_at_s) &&
           (x->f->family == NULL || strcmp(e->family, x->f->family) == 0);
}

static int take_evaluation(struct export *x, const struct id *id, const struct evaluation *e,
                           const char *text, size_t len)
{
    const char *found;

    if (!wants_evaluation(x, id, e))
        return 0;
    found = screen_evaluation(&x->o->screen, e);
    if (found != NULL)
        return export_leave_out(x, "evaluation", id->hex, found);
    if (json_object_set_new(x->devices, e->device, json_true()) != 0 ||
        marks_set(x, &x->programs, &e->program, MARK_WANTED) != 0)
        return -1;
    return write_fact(x, FACT_EVALUATION, text, len);
}

static int write_evaluation(struct export *x, const struct id *id, const char *text, size_t len)
{
    struct evaluation e;
    int rc;

    if (evaluation_read(text, len, &e, x->err) != 0)
        return -1;
    rc = take_evaluation(x, id, &e, text, len);
    evaluation_release(&e);
    return rc;
}

static int write_claim(struct export *x, const struct id *id, const char *text, size_t len)
{
    if (!marks_have(&x->claims, id, MARK_WANTED))
        return 0;
    return write_fact(x, FACT_CLAIM, text, len);
}

static int write_evidence(struct export *x, const struct id *id, const char *text, size_t len)
{
    if (!marks_have(&x->evidence, id, MARK_WANTED))
        return 0;
    return write_fact(x, FACT_EVIDENCE, text, len);
}

static bool wants_retraction(const struct export *x, const struct retraction *r)
{
    if (x->f->claims_only && r->kind == FACT_EVIDENCE)
        return false;
    return !x->filtered || marks_have(&x->claims, &r->target, MARK_WANTED) ||
           marks_have(&x->evidence, &r->target, MARK_WANTED);
}

static int write_retraction(struct export *x, const struct id *id, const char *text, size_t len)
{
    struct retraction r;
    const char *found;
    bool wanted;

    if (retraction_read(text, len, &r, x->err) != 0)
        return -1;
    wanted = wants_retraction(x, &r);
    found = wanted ? screen_text(&x->o->screen, r.reason) : NULL;
    retraction_release(&r);
    if (found != NULL)
        return export_leave_out(x, "retraction", id->hex, found);
    return wanted ? write_fact(x, FACT_RETRACTION, text, len) : 0;
}

static int write_link(struct export *x, const struct id *id, const char *text, size_t len)
{
    struct link l;

    (void)id;
    if (link_read(text, len, &l, x->err) != 0)
        return -1;
    if (x->filtered &&
        (!marks_have(&x->claims, &l.a, MARK_WANTED) || !marks_have(&x->claims, &l.b, MARK_WANTED)))
        return 0;
    return write_fact(x, FACT_LINK, text, len);
}

/* ---- Documents ---- */

static int write_doc(struct export *x, const char *kind, const char *key, const json_t *doc)
{
    json_auto_t *line =
        json_pack("{s:s, s:s, s:O}", "kind", kind, "key", key, "doc", (json_t *)doc);

    buf_clear(&x->line);
    if (line == NULL)
        return err_set(x->err, ERR_NOMEM, "no memory to export %s '%s'", kind, key);
    if (json_to_value(line, &x->line, x->err) != 0 ||
        packfile_add(x->out, x->line.data, x->line.len, x->err) != 0)
        return -1;
    return count(x, kind);
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
    struct export *x = ctx;
    json_auto_t *program = NULL;
    const char *found;
    struct id id;

    if (!str_copy(id.hex, sizeof(id.hex), key) || !marks_have(&x->programs, &id, MARK_WANTED))
        return 0;
    program = shareable_program(doc);
    found = screen_source(&x->o->screen, jsonx_str(program, "source", ""));
    if (found == NULL)
        found = screen_source(&x->o->screen, jsonx_str(program, "settings", ""));
    x->rc =
        found ? export_leave_out(x, "program", key, found) : write_doc(x, "program", key, program);
    return x->rc;
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
    struct export *x = ctx;
    json_auto_t *device = NULL;
    const char *found;

    if (json_object_get(x->devices, key) == NULL)
        return 0;
    device = shareable_device(doc);
    found = screen_json(&x->o->screen, device);
    x->rc = found ? export_leave_out(x, "device", key, found) : write_doc(x, "device", key, device);
    return x->rc;
}

static int write_docs(struct export *x)
{
    if (!x->f->claims_only &&
        (kb_each_doc(x->kb, KB_DEVICE, device_visit, x, x->err) != 0 || x->rc != 0))
        return -1;
    if (x->f->no_programs)
        return 0;
    if (kb_each_doc(x->kb, KB_PROGRAM, program_visit, x, x->err) != 0)
        return -1;
    return x->rc;
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

static int write_facts(struct export *x)
{
    bool evidence = !x->f->claims_only;

    if ((evidence && !x->f->no_evaluations &&
         export_each_fact(x, FACT_EVALUATION, write_evaluation) != 0) ||
        export_each_fact(x, FACT_CLAIM, write_claim) != 0 ||
        (evidence && export_each_fact(x, FACT_EVIDENCE, write_evidence) != 0) ||
        export_each_fact(x, FACT_RETRACTION, write_retraction) != 0)
        return -1;
    return export_each_fact(x, FACT_LINK, write_link);
}

/* Facts by kind, and documents by kind, of the lines that were written. */
static json_t *report_json(const struct export *x, const struct packfile_head *head)
{
    json_t *facts = json_object();

    for (int k = 0; k < FACT_COUNT; k++)
        json_object_set_new(
            facts, fact_kind_name((enum fact_kind)k),
            json_integer(jsonx_int(x->counts, fact_kind_name((enum fact_kind)k), 0)));
    return json_pack("{s:o, s:{s:I, s:I}, s:I, s:s, s:s, s:I, s:O}", "facts", facts, "documents",
                     "device", (json_int_t)jsonx_int(x->counts, "device", 0), "program",
                     (json_int_t)jsonx_int(x->counts, "program", 0), "bytes",
                     (json_int_t)head->bytes, "sha256", head->sha256.hex, "signer",
                     head->signer.fingerprint.hex, "left_out", (json_int_t)x->left_out, "named",
                     x->named);
}

static int run(struct export *x, int fd, json_t **report, struct err *err)
{
    json_auto_t *filters = filters_json(x->f);
    struct packfile_head head = { .schema = SCHEMA_VERSION,
                                  .made_at_s = x->o->now_s,
                                  .embedding = (char *)x->o->embedding,
                                  .counts = x->counts,
                                  .filters = filters };

    if (x->out == NULL || filters == NULL || x->counts == NULL || x->named == NULL ||
        x->devices == NULL)
        return err_set(err, ERR_NOMEM, "no memory to export");
    if (idmap_init(&x->claims, MAP_BITS, err) != 0 ||
        idmap_init(&x->evidence, MAP_BITS, err) != 0 ||
        idmap_init(&x->evaluations, MAP_BITS, err) != 0 ||
        idmap_init(&x->programs, MAP_BITS, err) != 0)
        return -1;
    if (export_select(x) != 0 || write_facts(x) != 0 || write_docs(x) != 0 ||
        packfile_finish(x->out, x->o->dir, &head, fd, err) != 0)
        return -1;
    *report = report_json(x, &head);
    return *report ? 0 : err_set(err, ERR_NOMEM, "no memory for the report of an export");
}

int exchange_export(struct kb *kb, const struct exchange_export *o, int fd, json_t **report,
                    struct err *err)
{
    const struct exchange_filter *f = &o->filter;
    struct export x = {
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

    x.filtered = x.by_measurement || f->family || f->technique;
    if (f->technique != NULL)
        vocab_canonical(f->technique, x.technique);
    rc = run(&x, fd, report, err);
    packfile_writer_free(x.out);
    idmap_release(&x.claims, free);
    idmap_release(&x.evidence, free);
    idmap_release(&x.evaluations, free);
    idmap_release(&x.programs, free);
    json_decref(x.devices);
    json_decref(x.counts);
    json_decref(x.named);
    buf_release(&x.line);
    return rc;
}
