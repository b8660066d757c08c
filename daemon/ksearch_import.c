/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Importing K-Search runs; see ksearch_import.h. A world of its own is kept while events are made,
 * so that every edit that is stored has been applied once.
 */
#include "ksearch_import.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "ksearch_import_impl.h"
#include "vocab.h"

static const char *const scale_names[] = { "none", "mean_vs_baseline_factor", "speedup_factor" };

static void import_release(struct import *im)
{
    ksearch_run_release(&im->run);
    kb_batch_free(im->batch);
    world_free(im->world);
    free(im->inserted);
    free(im->closes);
    free(im->closed);
    free(im->programs);
    free(im->numbers);
    free(im->facts);
}

/* The baseline's scale as soon as anything passed on it; else the reference's. */
static enum scale choose_scale(const struct ksearch_run *run)
{
    enum scale scale = SCALE_NONE;

    for (size_t i = 0; i < run->n_solutions; i++) {
        const struct ksearch_result *r = &run->solutions[i].result;

        if (r->passed && isfinite(r->vs_baseline))
            return SCALE_BASELINE;
        if (r->passed && isfinite(r->speedup))
            scale = SCALE_REFERENCE;
    }
    return scale;
}

/* ---- Events ---- */

/* Takes the event, and the edit (NULL for none), which must apply. */
int import_emit(struct import *im, json_t *event, struct world_edit *edit, struct err *err)
{
    int rc = 0;

    if (event == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an event");
    if (edit != NULL) {
        rc = world_apply(im->world, edit, NULL, err);
        json_object_set_new(event, "edit", world_edit_to_json(edit));
        world_edit_release(edit);
    }
    json_object_set_new(event, "seq", json_integer((json_int_t)im->seq));
    json_object_set_new(event, "at", json_integer((json_int_t)im->place->now_s));
    if (rc == 0)
        rc = kb_batch_add_event(im->batch, im->id, im->seq, event, err);
    im->seq++;
    json_decref(event);
    return rc;
}

/* What a node is called. Borrowed. */
static const char *label_of(const struct ksearch_node *n)
{
    return n->title[0] ? n->title : n->choice[0] ? n->choice : n->decision[0] ? n->decision : n->id;
}

/* ---- Nodes ---- */

/* What the run knew of a solution that our evidence cannot hold. */
static void add_notes(const struct import *im, const struct ksearch_node *n, struct buf *notes)
{
    const struct ksearch_solution *s;

    buf_addf(notes, "%s", n->notes);
    if (n->solution == KSEARCH_NONE)
        return;
    s = &im->run.solutions[n->solution];
    buf_addf(notes, "%sK-Search solution %.80s: %s", notes->len ? "\n" : "", s->name,
             s->result.status);
    if (isfinite(s->result.latency_ms))
        buf_addf(notes, ", %.6g ms", s->result.latency_ms);
    if (isfinite(s->result.vs_baseline))
        buf_addf(notes, ", %.4gx the baseline", s->result.vs_baseline);
    if (isfinite(s->result.speedup))
        buf_addf(notes, ", %.4gx the reference", s->result.speedup);
}

/* The node as an insert; `more` makes its title its own where a sibling has the same. */
static void insert_edit(const struct import *im, size_t at, bool more, struct world_edit *edit)
{
    const struct ksearch_node *n = &im->run.nodes[at];
    const char *title = n->title;
    struct buf notes = { .max = 64 << 10 };
    char longer[WORLD_LABEL_MAX + 1];
    struct world_spec *s;

    world_edit_init(edit, WORLD_BY_SYSTEM, "import", im->trials);
    s = &world_edit_add(edit, WORLD_OP_INSERT, im->run.nodes[n->parent].id)->spec;
    if (im->closes[at] && title[0] == '\0') /* only an action can be carried out */
        title = label_of(n);
    if (more) {
        size_t n_bytes = MIN(strlen(title), (size_t)(WORLD_LABEL_MAX - WORLD_ID_MAX - 4));

        while (n_bytes > 0 && ((unsigned char)title[n_bytes] & 0xc0) == 0x80)
            n_bytes--; /* cut between characters */
        snprintf(longer, sizeof(longer), "%.*s (%s)", (int)n_bytes, title, n->id);
        title = longer;
    }
    add_notes(im, n, &notes);
    if (notes.len > WORLD_TEXT_MAX) /* its own notes first, as they were */
        buf_clear(&notes);
    world_spec_text(s, WORLD_SET_ID, n->id);
    world_spec_kind(s, WORLD_DECISION);
    world_spec_text(s, WORLD_SET_DECISION, n->decision[0] || title[0] ? n->decision : label_of(n));
    world_spec_text(s, WORLD_SET_CHOICE, n->choice);
    world_spec_text(s, WORLD_SET_IMPACTS, n->impacts);
    world_spec_text(s, WORLD_SET_NOTES, notes.len ? buf_str(&notes) : n->notes);
    world_spec_text(s, WORLD_SET_TITLE, title);
    world_spec_text(s, WORLD_SET_DESCRIPTION, n->description);
    world_spec_text(s, WORLD_SET_RATIONALE, n->rationale);
    world_spec_number(s, WORLD_SET_RATING, n->rating);
    world_spec_number(s, WORLD_SET_CONFIDENCE, n->confidence);
    world_spec_number(s, WORLD_SET_SCORE, n->score);
    world_spec_number(s, WORLD_SET_DIFFICULTY, n->difficulty);
    if (n->has_expected) {
        world_spec_number(s, WORLD_SET_EXPECTED, n->expected);
        world_spec_number(s, WORLD_SET_EXPECTED_SD, 1 - n->confidence);
    }
    buf_release(&notes);
}

static int insert_node(struct import *im, size_t at, struct err *err)
{
    const struct ksearch_node *n = &im->run.nodes[at];
    struct world_edit edit;
    struct err why;

    insert_edit(im, at, false, &edit);
    if (world_try(im->world, &edit, NULL, &why) != 0) {
        world_edit_release(&edit);
        insert_edit(im, at, true, &edit);
        ksearch_repair(&im->run, "node '%s' got its id into its title: %.200s", n->id, why.msg);
    }
    im->inserted[at] = true;
    if (import_emit(im, json_pack("{s:s}", "type", "edited"), &edit, err) != 0)
        return err_ctx(err, "node '%s'", n->id);
    return 0;
}

/* Every node whose parent is there and will not change any more. */
static int insert_ready(struct import *im, struct err *err)
{
    for (size_t i = 1; i < im->run.n_nodes; i++) {
        int p = im->run.nodes[i].parent;

        if (im->inserted[i] || !im->inserted[p] || (im->closes[p] && !im->closed[p]))
            continue;
        if (insert_node(im, i, err) != 0)
            return -1;
    }
    return 0;
}

/* Summary and notes of the root. */
static int patch_root(struct import *im, struct err *err)
{
    const struct ksearch_node *n = &im->run.nodes[0];
    struct buf notes = { .max = 64 << 10 };
    struct world_edit edit;
    struct world_spec *s;

    buf_addf(&notes, "%s", im->run.summary);
    if (n->notes[0] && notes.len + strlen(n->notes) + 1 <= WORLD_TEXT_MAX)
        buf_addf(&notes, "%s%s", notes.len ? "\n" : "", n->notes);
    world_edit_init(&edit, WORLD_BY_SYSTEM, "import", 0);
    s = &world_edit_add(&edit, WORLD_OP_UPDATE, WORLD_ROOT_ID)->spec;
    world_spec_text(s, WORLD_SET_NOTES, buf_str(&notes));
    world_spec_number(s, WORLD_SET_RATING, n->rating);
    world_spec_number(s, WORLD_SET_CONFIDENCE, n->confidence);
    buf_release(&notes);
    return import_emit(im, json_pack("{s:s}", "type", "edited"), &edit, err);
}

/* ---- The tree, in the order in which it grew ---- */

/* Which nodes their solutions will close: those that passed, below closed ones. */
static void find_closing(struct import *im)
{
    for (size_t i = 0; i < im->run.n_nodes; i++) {
        const struct ksearch_node *n = &im->run.nodes[i];
        const struct ksearch_solution *s;

        if (n->solution == KSEARCH_NONE)
            continue;
        s = &im->run.solutions[n->solution];
        im->closes[i] = i == 0 ? import_is_measured(im, s)
                               : import_is_ok(im, s) && (n->parent == 0 || im->closes[n->parent]);
        if (im->closes[i])
            continue;
        ksearch_repair(&im->run, "node '%s' has the solution '%.80s' and stays open: %s", n->id,
                       s->id,
                       !s->result.passed      ? "it did not pass"
                       : !import_is_ok(im, s) ? "it has no objective that compares with the others"
                                              : "its parent is open");
    }
}

static int close_node(struct import *im, size_t at, struct err *err)
{
    const struct ksearch_node *n = &im->run.nodes[at];

    if (import_trial(im, (size_t)n->solution, n->id, at ? label_of(n) : "seed", import_base(im, n),
                     true, err) != 0)
        return -1;
    im->closed[at] = true;
    im->n_closed++;
    if (at > 0 && import_learn(im, at, err) != 0)
        return -1;
    return insert_ready(im, err);
}

/* The earliest solution of the store whose node is there and can be closed now; none: -1. */
static int next_to_close(const struct import *im)
{
    for (size_t i = 0; i < im->run.n_solutions; i++) {
        int node = im->run.solutions[i].node;

        if (node >= 0 && im->closes[node] && !im->closed[node] && im->inserted[node])
            return node;
    }
    return -1;
}

/* Solutions that no node holds were measured all the same. */
static int add_loose(struct import *im, struct err *err)
{
    for (size_t i = 0; i < im->run.n_solutions; i++) {
        const struct ksearch_solution *s = &im->run.solutions[i];
        int rc;

        if (s->node >= 0 && im->closed[s->node])
            continue;
        rc = import_is_measured(im, s)
                 ? import_trial(im, i, s->node > 0 ? im->run.nodes[s->node].id : WORLD_ROOT_ID,
                                s->name[0] ? s->name : s->id, 0, false, err)
                 : import_program(im, i, 0, -1, err);
        if (rc != 0)
            return -1;
    }
    return 0;
}

static int grow(struct import *im, struct err *err)
{
    int node;

    im->inserted[0] = true;
    if (patch_root(im, err) != 0 || insert_ready(im, err) != 0)
        return -1;
    while ((node = next_to_close(im)) >= 0)
        if (close_node(im, (size_t)node, err) != 0)
            return -1;
    return add_loose(im, err);
}

/* ---- The search ---- */

static json_t *document_of(const struct import *im)
{
    struct search_spec spec = { .task = (char *)im->place->task,
                                .device = (char *)im->place->device,
                                .set = KSEARCH_ORIGIN,
                                .proposer = KSEARCH_ORIGIN,
                                .strategy = "world-model",
                                .policy = select_policy_from_name("lexicographic"),
                                .cold = true,
                                .budget_evals = MAX(im->trials, (uint64_t)1),
                                .window = 1,
                                .lanes = 1 };
    json_t *doc;

    str_copy(spec.id, sizeof(spec.id), im->id);
    doc = search_document(&spec, im->place->scope, im->place->now_s);
    if (doc == NULL)
        return NULL;
    json_object_set_new(doc, "state", json_string("done"));
    json_object_set_new(doc, "reason", json_string("imported from K-Search"));
    json_object_set_new(doc, "origin", json_string(KSEARCH_ORIGIN));
    json_object_set_new(doc, "evaluations", json_integer((json_int_t)im->trials));
    if (im->best_trial != 0) {
        json_object_set_new(doc, "best_objective", json_real(exp(1e-6 * (double)im->best_q)));
        json_object_set_new(doc, "best_assignment", json_object());
    }
    return doc;
}

static int build(struct import *im, struct err *err)
{
    size_t n = im->run.n_nodes, m = im->run.n_solutions;
    json_auto_t *doc = NULL;

    im->inserted = xcalloc(n, sizeof(bool));
    im->closes = xcalloc(n, sizeof(bool));
    im->closed = xcalloc(n, sizeof(bool));
    im->programs = xcalloc(m + 1, sizeof(*im->programs));
    im->numbers = xcalloc(m + 1, sizeof(*im->numbers));
    im->facts = xcalloc(m + 1, sizeof(*im->facts));
    im->world = world_new();
    im->scale = choose_scale(&im->run);
    find_closing(im);
    if (im->place->device_doc != NULL &&
        kb_batch_put_doc(im->batch, KB_DEVICE, im->place->device, im->place->device_doc, err) != 0)
        return -1;
    if (import_first_program(im, err) != 0)
        return -1;
    for (size_t i = 0; i < m; i++) {
        im->numbers[i] = -1;
        if (import_put_program(im, im->run.solutions[i].language, im->run.solutions[i].source,
                               &im->programs[i], err) != 0)
            return -1;
    }
    if (kb_batch_set_origin(im->batch, KSEARCH_ORIGIN, err) != 0 ||
        import_emit(im,
                    json_pack("{s:s, s:s}", "type", "started", "reason", "imported from K-Search"),
                    NULL, err) != 0 ||
        grow(im, err) != 0 ||
        import_emit(im, json_pack("{s:s, s:s}", "type", "done", "reason", "imported from K-Search"),
                    NULL, err) != 0)
        return -1;
    doc = document_of(im);
    if (doc == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the search");
    return kb_batch_put_doc(im->batch, KB_SEARCH, im->id, doc, err);
}

static json_t *reply_of(const struct import *im, bool changed)
{
    return json_pack("{s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I, s:s, s:I, s:O, s:I, s:O}",
                     "search", im->id, "task", im->place->task, "device", im->place->device,
                     "changed", changed, "nodes", (json_int_t)im->run.n_nodes, "closed",
                     (json_int_t)im->n_closed, "solutions", (json_int_t)im->run.n_solutions,
                     "evaluations", (json_int_t)im->n_facts, "claims", (json_int_t)im->n_claims,
                     "objective", scale_names[im->scale], "repaired", (json_int_t)im->run.n_repairs,
                     "repairs", im->run.repairs, "left_out", (json_int_t)im->run.n_skipped,
                     "skipped", im->run.skipped);
}

/* ---- The file ---- */

/* The two files behind the first line. */
static int split(const char *data, size_t len, const char **store, size_t sizes[2],
                 const char **model, struct err *err)
{
    static const char *const names[] = { "world_model", "solutions" };
    const char *end = len ? memchr(data, '\n', MIN(len, (size_t)400)) : NULL;
    json_auto_t *head = NULL;
    size_t left;

    if (end == NULL || jsonx_parse(data, (size_t)(end - data), "the first line", &head, err) != 0 ||
        strcmp(jsonx_str(head, "format", ""), KSEARCH_ORIGIN) != 0)
        return err_set(err, ERR_INVALID,
                       "the file does not begin with a line that says what a K-Search run has");
    left = len - (size_t)(end + 1 - data);
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        long long n = jsonx_int(head, names[i], -1);

        if (n < 0 || (unsigned long long)n > left)
            return err_set(err, ERR_INVALID,
                           "the first line says %lld bytes of '%s', and %zu are "
                           "left",
                           n, names[i], left);
        sizes[i] = (size_t)n;
        left -= sizes[i];
    }
    *model = end + 1;
    *store = *model + sizes[0];
    return 0;
}

/* The id of a run: what its files are, where it ran. */
static int name_search(struct import *im, const char *data, size_t len, struct err *err)
{
    struct id files;
    json_auto_t *identity = NULL;

    id_of_bytes(data, len, &files);
    identity = json_pack("{s:s, s:s, s:s}", "files", files.hex, "task", im->place->task, "device",
                         im->place->device);
    if (identity == NULL || id_of_json(identity, &im->digest, err) != 0)
        return err_set(err, ERR_NOMEM, "no memory for the search");
    snprintf(im->id, sizeof(im->id), "k%.12s", im->digest.hex);
    return 0;
}

static int import(struct import *im, const char *data, size_t len, json_t **reply, struct err *err)
{
    const char *model = NULL, *store = NULL;
    json_auto_t *there = NULL;
    size_t sizes[2] = { 0 };
    bool known;

    if (vocab_init(err) != 0 || split(data, len, &store, sizes, &model, err) != 0 ||
        ksearch_read(model, sizes[0], store, sizes[1], &im->run, err) != 0 ||
        name_search(im, model, sizes[0] + sizes[1], err) != 0)
        return -1;
    known = kb_get_doc(im->kb, KB_SEARCH, im->id, &there, err) == 0;
    if (!known && err->code != ERR_NOT_FOUND)
        return -1;
    im->batch = kb_batch_new(im->kb);
    if (im->batch == NULL)
        return err_set(err, ERR_NOMEM, "no memory to import a run");
    /* Built again even when it is known: its numbers are the answer. */
    if (build(im, err) != 0 || (!known && kb_commit(im->batch, err) != 0))
        return -1;
    *reply = reply_of(im, !known);
    return 0;
}

int ksearch_import(struct kb *kb, const struct ksearch_place *place, const char *data, size_t len,
                   json_t **reply, struct err *err)
{
    struct import im = { .kb = kb, .place = place };
    int rc = import(&im, data, len, reply, err);

    import_release(&im);
    return rc;
}
