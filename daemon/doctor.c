/* SPDX-License-Identifier: Apache-2.0 */
/* Findings about the knowledge base; see doctor.h. */
#include "doctor.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "retune/label.h"
#include "retune/staleness.h"
#include "search/history.h"
#include "vocab.h"

enum finding_kind {
    FINDING_STORAGE,
    FINDING_NEGATIVE_TRANSFER,
    FINDING_CONTRADICTION,
    FINDING_STALE,
    FINDING_UNREACHABLE,
    FINDING_VOID,
    FINDING_SELF_CONFIRMED,
    FINDING_NEVER_SERVED,
    FINDING_JUNK,
    FINDING_COUNT
};

static const char *const kind_names[FINDING_COUNT] = {
    [FINDING_STORAGE] = "storage",
    [FINDING_NEGATIVE_TRANSFER] = "negative-transfer",
    [FINDING_CONTRADICTION] = "contradiction",
    [FINDING_STALE] = "stale",
    [FINDING_UNREACHABLE] = "unreachable",
    [FINDING_VOID] = "void",
    [FINDING_SELF_CONFIRMED] = "self-confirmed",
    [FINDING_NEVER_SERVED] = "never-served",
    [FINDING_JUNK] = "junk",
};

/* One search in which memory lost may be bad luck. */
static const double transfer_rate_max = 0.05;
enum { TRANSFER_LOST_MIN = 2, SERVE_CHANCES_MIN = 3, LABEL_MAX = 16 };

struct statement {
    uint64_t hash;
    struct id id;
};

struct examination {
    const struct doctor_input *in;
    json_t *lists[FINDING_COUNT]; /* of findings */
    size_t counts[FINDING_COUNT];
    size_t insights;
    struct history_view view;
    json_t *devices;    /* records */
    json_t *techniques; /* name to {n, insight} of those that the vocabulary lacks */
    size_t n_statements, cap_statements;
    struct statement *statements;
};

/* ---- Findings ---- */

/* `about` is an id of any kind, of which the finding's own id has the beginning. Both texts are
 * stolen. */
static void found(struct examination *x, enum finding_kind kind, const char *member,
                  const char *about, const char *rule, char *sentence, char *todo)
{
    if (x->counts[kind]++ < DOCTOR_LISTED_MAX) {
        json_t *f = json_pack("{s:s, s:s, s:s}", "kind", kind_names[kind], "sentence", sentence,
                              "todo", todo);
        CLEANUP(freep) char *id = str_printf("%s:%s:%.*s", kind_names[kind], rule, 12, about);

        json_object_set_new(f, "id", json_string(id));
        if (member != NULL)
            json_object_set_new(f, member, json_string(about));
        json_array_append_new(x->lists[kind], f);
    }
    free(sentence);
    free(todo);
}

/* The beginning of a statement, to recognise it by. */
static const char *label_of(const struct claim *c, char out[LABEL_MAX * 5])
{
    str_visible(c->statement, strlen(c->statement), out, LABEL_MAX * 5);
    return out;
}

static void about_insight(struct examination *x, enum finding_kind kind, const struct insight *in,
                          const char *rule, char *sentence, char *todo)
{
    char label[LABEL_MAX * 5];
    char *full = str_printf("%.12s (%s): %s", in->id.hex, label_of(&in->claim, label), sentence);

    free(sentence);
    found(x, kind, "insight", in->id.hex, rule, full, todo);
}

/* ---- Junk ---- */

/* Of a word: letters beyond ASCII are as good as others. */
static bool is_word_byte(char c)
{
    return isalnum((unsigned char)c) || (unsigned char)c >= 0x80;
}

/* FNV-1a over the words of what makes two claims say the same. */
static uint64_t hash_text(uint64_t h, const char *s)
{
    bool gap = false;

    for (; *s; s++) {
        if (!is_word_byte(*s)) {
            gap = true;
            continue;
        }
        if (gap)
            h = (h ^ ' ') * 0x100000001b3ull;
        gap = false;
        h = (h ^ (uint64_t)tolower((unsigned char)*s)) * 0x100000001b3ull;
    }
    return (h ^ '|') * 0x100000001b3ull;
}

static uint64_t hash_claim(const struct claim *c)
{
    const char *const parts[] = { c->statement, c->family,     c->dtype,        c->language,
                                  c->param,     c->with_value, c->without_value };
    uint64_t h = 0xcbf29ce484222325ull;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        h = hash_text(h, parts[i]);
    return h;
}

static bool is_blank(const char *s)
{
    for (; *s; s++)
        if (is_word_byte(*s))
            return false;
    return true;
}

static void note_technique(struct examination *x, const struct insight *in)
{
    json_t *row;
    char name[VOCAB_NAME_MAX];

    if (vocab_find(in->claim.technique) >= 0)
        return;
    vocab_canonical(in->claim.technique, name);
    row = json_object_get(x->techniques, name);
    if (row == NULL)
        json_object_set_new(x->techniques, name,
                            json_pack("{s:i, s:s}", "n", 1, "insight", in->id.hex));
    else
        json_object_set_new(row, "n", json_integer(jsonx_int(row, "n", 0) + 1));
}

static void look_for_junk(struct examination *x, const struct insight *in)
{
    note_technique(x, in);
    x->statements =
        xgrow(x->statements, &x->cap_statements, x->n_statements + 1, sizeof(*x->statements));
    x->statements[x->n_statements++] = (struct statement){ hash_claim(&in->claim), in->id };
    if (is_blank(in->claim.statement))
        about_insight(x, FINDING_JUNK, in, "empty", xstrdup("its statement says nothing"),
                      str_printf("ksearch insight retract %.12s", in->id.hex));
    else if (in->n_evidence == 0)
        about_insight(
            x, FINDING_JUNK, in, "no-evidence", xstrdup("nobody has measured it"),
            str_printf("search a task that it is about, or: ksearch insight retract %.12s",
                       in->id.hex));
}

static int by_hash(const void *pa, const void *pb)
{
    const struct statement *a = pa, *b = pb;

    if (a->hash != b->hash)
        return a->hash < b->hash ? -1 : 1;
    return strcmp(a->id.hex, b->id.hex);
}

static void look_for_duplicates(struct examination *x)
{
    if (x->n_statements > 1)
        qsort(x->statements, x->n_statements, sizeof(*x->statements), by_hash);
    for (size_t i = 1; i < x->n_statements; i++) {
        const struct statement *a = &x->statements[i - 1], *b = &x->statements[i];

        if (a->hash == b->hash)
            found(x, FINDING_JUNK, "insight", b->id.hex, "duplicate",
                  str_printf("%.12s says what %.12s says, and they are not linked", b->id.hex,
                             a->id.hex),
                  str_printf("ksearch insight retract %.12s", b->id.hex));
    }
}

static void look_at_techniques(struct examination *x)
{
    const char *name;
    json_t *row;

    json_object_foreach (x->techniques, name, row) {
        const char *insight = jsonx_str(row, "insight", "");

        if (jsonx_int(row, "n", 0) == 1)
            found(x, FINDING_JUNK, "technique", name, "technique",
                  str_printf("the technique '%s' is not in the vocabulary and %.12s alone uses it",
                             name, insight),
                  str_printf("state the claim again under a known technique, then: ksearch insight "
                             "retract %.12s",
                             insight));
    }
}

/* ---- Scope ---- */

/* Does some device have what the claim requires, or may it? */
static bool is_reachable(const struct examination *x, const char *requires, char *what, size_t size)
{
    const json_t *device;
    size_t i;
    bool is_capacity;

    if (json_array_size(x->devices) == 0)
        return true;
    json_array_foreach (x->devices, i, device)
        if (label_requires(requires, device, what, size, &is_capacity) != 0)
            return true;
    return false;
}

static bool lists_text(const json_t *texts, const char *text)
{
    const json_t *v;
    size_t i;

    json_array_foreach (texts, i, v)
        if (strcmp(json_string_value(v), text) == 0)
            return true;
    return false;
}

static void look_at_scope(struct examination *x, const struct insight *in)
{
    const struct claim *c = &in->claim;
    const json_t *space = json_object_get(x->in->families, c->family);
    char what[200];

    if (c->requires[0] && !is_reachable(x, c->requires, what, sizeof(what))) {
        about_insight(x, FINDING_UNREACHABLE, in, "feature",
                      str_printf("it requires %s, which no known device has", what),
                      xstrdup("make the device known (ksearch device import | probe), or leave it "
                              "for one to come"));
        return;
    }
    if (c->family[0] && space == NULL) {
        about_insight(x, FINDING_UNREACHABLE, in, "family",
                      str_printf("there is no task of its family '%s'", c->family),
                      xstrdup("ksearch task import DIR, with the family's tasks, or leave it"));
        return;
    }
    if (!c->param[0] || !json_is_object(space))
        return;
    if (json_object_get(space, c->param) == NULL)
        about_insight(
            x, FINDING_UNREACHABLE, in, "tunable",
            str_printf("the template of '%s' has no tunable %s any more", c->family, c->param),
            str_printf("ksearch insight retract %.12s", in->id.hex));
    else if (!lists_text(json_object_get(space, c->param), c->with_value))
        about_insight(x, FINDING_UNREACHABLE, in, "value",
                      str_printf("the tunable %s of '%s' has no value %s any more", c->param,
                                 c->family, c->with_value),
                      str_printf("ksearch insight retract %.12s", in->id.hex));
}

/* ---- Evidence ---- */

static void look_at_evidence(struct examination *x, const struct insight *in)
{
    struct insight_effect e = insight_posterior(in, NULL, NULL, NULL);
    const struct credit_row *served;
    uint64_t chances;

    if (in->contradicted)
        about_insight(x, FINDING_CONTRADICTION, in, "signs",
                      str_printf("%u measurements speak for it and %u against it, and no feature "
                                 "tells them apart",
                                 in->all.positive, in->all.negative),
                      xstrdup("measure it where it was seldom measured (another shape, another "
                              "device), so that a condition can be learned"));
    if (in->all.steered > 0 && in->all.blind == 0)
        about_insight(x, FINDING_SELF_CONFIRMED, in, "steered",
                      str_printf("%s measured under its own influence, never blind",
                                 in->all.steered == 1 ? "its only pair was" : "all its pairs were"),
                      in->claim.family[0]
                          ? str_printf("ksearch search start TASK --cold, with a task of '%s'",
                                       in->claim.family)
                          : xstrdup("ksearch search start TASK --cold"));
    if (!in->claim.param[0] || e.n < 2 || e.mean <= 0)
        return;
    served = credit_find(&x->view.credit, in->id.hex);
    if (served != NULL && served->served > 0)
        return;
    chances = history_view_warm(&x->view, in->claim.family, in->recorded_at_ns / NS_PER_SEC);
    if (chances >= SERVE_CHANCES_MIN)
        about_insight(x, FINDING_NEVER_SERVED, in, "idle",
                      str_printf("its effect is %.2fx, and none of %llu warm searches of its "
                                 "family since was offered it",
                                 exp(e.mean), (unsigned long long)chances),
                      xstrdup("ksearch query WORDS --task TASK --explain, with words of it: the "
                              "answer says what hides it"));
}

static int look_at_insight(void *ctx, const struct insight *in)
{
    struct examination *x = ctx;

    x->insights++;
    if (x->in->stale_only || in->state != INSIGHT_ACTIVE)
        return 0;
    look_for_junk(x, in);
    look_at_scope(x, in);
    look_at_evidence(x, in);
    return 0;
}

/* ---- Staleness ---- */

static int look_at_stale(void *ctx, const struct stale_insight *s)
{
    struct examination *x = ctx;
    struct buf axes = { .max = 2000 };
    char rule[128];

    for (size_t i = 0; i < s->n_changes; i++)
        buf_addf(&axes, "%s%s %s, now %s", i ? "; " : "", s->changes[i].axis,
                 s->changes[i].from[0] ? s->changes[i].from : "none",
                 s->changes[i].to[0] ? s->changes[i].to : "none");
    snprintf(rule, sizeof(rule), "%s", s->device);
    about_insight(x, FINDING_STALE, s->insight, rule,
                  str_printf("all %u pieces of evidence on '%s' are of other versions (%s)",
                             s->stale, s->device, buf_str(&axes)),
                  str_printf("ksearch retune --device %s --toolchain", s->device));
    buf_release(&axes);
    return 0;
}

/* ---- Retunes ---- */

static void look_at_void(struct examination *x, const char *device, const json_t *labelled)
{
    struct insight in;
    struct err ignored;

    if (strcmp(jsonx_str(labelled, "label", ""), "void") != 0 ||
        kb_get_insight(x->in->kb, jsonx_str(labelled, "id", ""), &in, &ignored) != 0)
        return;
    if (in.state == INSIGHT_ACTIVE)
        about_insight(x, FINDING_VOID, &in, device,
                      str_printf("the latest retune of '%s' calls it void there: %s", device,
                                 jsonx_str(labelled, "why", "")),
                      str_printf("leave it to the devices that it is of, or: ksearch insight "
                                 "retract %.12s",
                                 in.id.hex));
    insight_release(&in);
}

/* What the latest retune of each device called void (docs/retune.md has the documents). */
static void look_at_retunes(struct examination *x)
{
    json_auto_t *list = NULL, *seen = json_object();
    json_t *rows;
    struct err ignored;

    if (kb_get_doc(x->in->kb, KB_SIDE, "retunes", &list, &ignored) != 0)
        return;
    rows = json_object_get(list, "retunes");
    for (size_t i = json_array_size(rows); i > 0; i--) {
        const json_t *row = json_array_get(rows, i - 1);
        const char *device = jsonx_str(row, "device", "");
        CLEANUP(freep) char *key = str_printf("retune/%s", jsonx_str(row, "id", ""));
        json_auto_t *doc = NULL;
        json_t *labelled;
        size_t k;

        if (json_object_get(seen, device) != NULL)
            continue;
        json_object_set_new(seen, device, json_true());
        if (kb_get_doc(x->in->kb, KB_SIDE, key, &doc, &ignored) == 0)
            json_array_foreach (json_object_get(doc, "insights"), k, labelled)
                look_at_void(x, device, labelled);
    }
}

/* ---- Searches and storage ---- */

static void look_at_transfer(struct examination *x, const json_t *transfer)
{
    double rate = jsonx_num(transfer, "rate", 0);
    long long lost = jsonx_int(transfer, "lost", 0), judged = jsonx_int(transfer, "judged", 0);

    if (rate > transfer_rate_max && lost >= TRANSFER_LOST_MIN)
        found(
            x, FINDING_NEGATIVE_TRANSFER, NULL, "all", "rate",
            str_printf("memory did worse than the memory-free arm in %lld of %lld warm searches "
                       "(%.0f %%)",
                       lost, judged, 100 * rate),
            xstrdup("ksearch search show S of the latest warm searches: it says where their "
                    "knowledge came from; start with --cold, or with less of --memory, meanwhile"));
}

static void look_at_storage(struct examination *x)
{
    json_auto_t *problems = history_problems(x->in->history);
    json_t *p;
    size_t i;

    json_array_foreach (problems, i, p)
        found(x, FINDING_STORAGE, "search", jsonx_str(p, "search", ""), "events",
              str_printf("the events of search %s cannot be read: %s", jsonx_str(p, "search", ""),
                         jsonx_str(p, "problem", "")),
              xstrdup("ksearch kb verify, and restore a backup if it finds more"));
}

static int note_device(void *ctx, const char *key, const json_t *doc)
{
    (void)key;
    json_array_append(ctx, (json_t *)doc);
    return 0;
}

/* ---- The examination ---- */

static int by_id(const void *pa, const void *pb)
{
    return strcmp(jsonx_str(*(json_t *const *)pa, "id", ""),
                  jsonx_str(*(json_t *const *)pb, "id", ""));
}

/* Moves the findings of a kind to the end of `out`, in order of id. */
static void list_findings(json_t *list, json_t *out)
{
    json_t *v[DOCTOR_LISTED_MAX];
    size_t n = json_array_size(list);

    for (size_t i = 0; i < n; i++)
        v[i] = json_array_get(list, i);
    if (n > 1)
        qsort(v, n, sizeof(v[0]), by_id);
    for (size_t i = 0; i < n; i++)
        json_array_append(out, v[i]);
}

static json_t *answer(struct examination *x, json_t *transfer)
{
    json_t *findings = json_array(), *counts = json_object(), *a;

    for (int k = 0; k < FINDING_COUNT; k++) {
        list_findings(x->lists[k], findings);
        if (x->counts[k] > 0)
            json_object_set_new(counts, kind_names[k], json_integer((json_int_t)x->counts[k]));
    }
    a = json_pack("{s:o, s:o, s:I}", "findings", findings, "counts", counts, "insights",
                  (json_int_t)x->insights);
    if (transfer != NULL)
        json_object_set_new(a, "transfer", transfer);
    return a;
}

static int examine(struct examination *x, json_t **out, struct err *err)
{
    const struct doctor_input *in = x->in;
    json_t *transfer = NULL;

    if (vocab_init(err) != 0 || kb_each_doc(in->kb, KB_DEVICE, note_device, x->devices, err) != 0)
        return -1;
    if (!in->stale_only) {
        if (history_refresh(in->history, in->kb, err) != 0)
            return -1;
        look_at_storage(x);
        look_at_retunes(x);
        transfer = history_transfer(in->history);
        look_at_transfer(x, transfer);
    }
    history_view_take(in->history, &x->view);
    if (kb_each_insight(in->kb, look_at_insight, x) != 0) {
        json_decref(transfer);
        return err_set(err, ERR_NOMEM, "no memory to bring the insights up to date");
    }
    look_for_duplicates(x);
    look_at_techniques(x);
    if (staleness_each(in->kb, NULL, look_at_stale, x, err) != 0) {
        json_decref(transfer);
        return -1;
    }
    *out = answer(x, transfer);
    return 0;
}

int doctor_examine(const struct doctor_input *in, json_t **out, struct err *err)
{
    struct examination x = { .in = in, .devices = json_array(), .techniques = json_object() };
    int rc;

    for (int k = 0; k < FINDING_COUNT; k++)
        x.lists[k] = json_array();
    rc = examine(&x, out, err);
    for (int k = 0; k < FINDING_COUNT; k++)
        json_decref(x.lists[k]);
    json_decref(x.devices);
    json_decref(x.techniques);
    free(x.statements);
    history_view_release(&x.view);
    return rc;
}
