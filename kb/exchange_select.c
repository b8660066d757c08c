/* SPDX-License-Identifier: Apache-2.0 */
/* Which facts an export takes: one walk over claims and evidence marks them; see exchange_impl.h.
 */
#include <string.h>

#include "base/mem.h"
#include "exchange_impl.h"
#include "record_text.h"

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

bool marks_have(const struct idmap *m, const struct id *id, uint8_t bits)
{
    const struct mark *mark = idmap_get(m, id);

    return mark != NULL && (mark->bits & bits) != 0;
}

int marks_set(struct export *x, struct idmap *m, const struct id *id, uint8_t bits)
{
    struct mark *mark = mark_of(m, id, x->err);

    if (mark == NULL)
        return -1;
    mark->bits |= bits;
    return 0;
}

int export_leave_out(struct export *x, const char *kind, const char *id, const char *why)
{
    x->left_out++;
    if (json_array_size(x->named) < EXCHANGE_NAMED_MAX &&
        json_array_append_new(
            x->named, json_pack("{s:s, s:s, s:s}", "kind", kind, "id", id, "why", why)) != 0)
        return err_set(x->err, ERR_NOMEM, "no memory for the report of an export");
    return 0;
}

/* ---- Walking one kind of fact in order of id ---- */

struct walk {
    struct export *job;
    export_fact_fn *fn;
};

static int visit(void *ctx, const void *key, size_t key_len, const void *value, size_t value_len)
{
    struct walk *w = ctx;
    struct export *x = w->job;
    struct fact_head head;
    const char *text;
    struct id id;
    size_t len;

    x->rc = key_to_id(key, key_len, &id, x->err) != 0 ||
                    fact_decode(value, value_len, &head, &text, &len, x->err) != 0
                ? -1
                : 0;
    if (x->rc == 0 && head.seq <= x->max_seq)
        x->rc = w->fn(x, &id, text, len);
    if (x->rc != 0 && x->err->code == ERR_INVALID)
        x->err->code = ERR_CORRUPT;
    return x->rc;
}

int export_each_fact(struct export *x, enum fact_kind kind, export_fact_fn *fn)
{
    struct walk w = { x, fn };

    if (store_each(x->kb->store, schema_fact_cf(kind), NULL, NULL, visit, &w, x->err) != 0)
        return -1;
    return x->rc != 0 ? err_ctx(x->err, "exporting %s", fact_kind_name(kind)) : 0;
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

static uint8_t claim_bits(const struct export *x, const struct claim *c)
{
    char technique[VOCAB_NAME_MAX];

    if (x->technique[0] && strcmp(vocab_canonical(c->technique, technique), x->technique) != 0)
        return 0;
    if (x->f->family == NULL || strcmp(c->family, x->f->family) == 0)
        return MARK_FITS | (x->by_measurement ? 0 : MARK_WANTED);
    return c->family[0] == '\0' ? MARK_ANY : 0;
}

static int select_claim(struct export *x, const struct id *id, const char *text, size_t len)
{
    struct claim c;
    const char *found;
    uint8_t bits;

    if (claim_read(text, len, &c, x->err) != 0)
        return -1;
    bits = claim_bits(x, &c);
    found = bits ? screen_claim(&x->o->screen, &c) : NULL;
    claim_release(&c);
    if (found != NULL) {
        bits = MARK_BAD;
        if (export_leave_out(x, "claim", id->hex, found) != 0)
            return -1;
    }
    return bits ? marks_set(x, &x->claims, id, bits) : 0;
}

/* Is the evaluation behind a piece of evidence of the family? One that is not here is not. */
static bool is_of_family(const struct export *x, const struct id *id, const char *family)
{
    struct evaluation e;
    struct err ignored;
    bool yes;

    if (kb_get_evaluation(x->kb, id, &e, &ignored) != 0)
        return false;
    yes = strcmp(e.family, family) == 0;
    evaluation_release(&e);
    return yes;
}

bool export_is_measured_so(const struct export *x, const char *task, const char *device,
                           uint64_t measured_at_s)
{
    const struct exchange_filter *f = x->f;

    return (f->task == NULL || strcmp(task, f->task) == 0) &&
           (f->device == NULL || strcmp(device, f->device) == 0) && measured_at_s >= f->since_s;
}

/* Evidence of a claim that is not here goes only where everything goes. */
static bool fits(const struct export *x, const struct evidence *e)
{
    const struct mark *claim = idmap_get(&x->claims, &e->claim);

    if (!export_is_measured_so(x, e->task, e->device, e->measured_at_s))
        return false;
    if (claim == NULL)
        return !x->filtered;
    if (claim->bits & MARK_BAD)
        return false;
    return (claim->bits & MARK_FITS) != 0 ||
           ((claim->bits & MARK_ANY) != 0 && is_of_family(x, &e->with, x->f->family));
}

static const char *screen_evidence(const struct screen *s, const struct evidence *e)
{
    const char *found = screen_source(s, e->toolchain);

    if (found == NULL)
        found = screen_source(s, e->shape);
    return found ? found : screen_json(s, e->features);
}

static int want_evidence(struct export *x, const struct id *id, const struct evidence *e)
{
    const char *found;

    if (!fits(x, e))
        return 0;
    found = screen_evidence(&x->o->screen, e);
    if (found != NULL)
        return export_leave_out(x, "evidence", id->hex, found);
    if (marks_have(&x->claims, &e->claim, MARK_FITS | MARK_ANY) &&
        marks_set(x, &x->claims, &e->claim, MARK_WANTED) != 0)
        return -1;
    if (x->f->claims_only)
        return 0;
    if (marks_set(x, &x->evidence, id, MARK_WANTED) != 0 ||
        marks_set(x, &x->evaluations, &e->with, MARK_WANTED) != 0 ||
        json_object_set_new(x->devices, e->device, json_true()) != 0)
        return -1;
    return e->without.hex[0] ? marks_set(x, &x->evaluations, &e->without, MARK_WANTED) : 0;
}

static int select_evidence(struct export *x, const struct id *id, const char *text, size_t len)
{
    struct evidence e;
    int rc;

    if (evidence_read(text, len, &e, x->err) != 0)
        return -1;
    rc = want_evidence(x, id, &e);
    evidence_release(&e);
    return rc;
}

int export_select(struct export *x)
{
    if (export_each_fact(x, FACT_CLAIM, select_claim) != 0)
        return -1;
    if (x->f->claims_only && !x->by_measurement && x->f->family == NULL)
        return 0;
    return export_each_fact(x, FACT_EVIDENCE, select_evidence);
}
