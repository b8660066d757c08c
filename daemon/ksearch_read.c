/* SPDX-License-Identifier: Apache-2.0 */
/* The artifacts of a K-Search run: nodes, and how they are attached; see ksearch_read.h. */
#include "ksearch_read.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "ksearch_read_impl.h"

/* ---- Members of a node ---- */

/* The three impacts that there are, as text; the world model has one for all. */
static char *read_impacts(struct ksearch_run *r, const char *node, const json_t *impacts)
{
    static const char *const names[] = { "memory_bandwidth", "register_pressure",
                                         "compute_intensity_and_hw_fit" };
    static const char *const parts[] = { "risk", "notes", "hw_notes" };
    struct buf b = { .max = 1 << 20 };
    char *text;

    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const json_t *one = json_object_get(impacts, names[i]);
        const json_t *rating = json_object_get(one, "rating_0_to_10");

        if (rating != NULL && isfinite(ksearch_number_of(rating)) && ksearch_number_of(rating) != 0)
            buf_addf(&b, "%s%s: %g of 10", b.len ? "; " : "", names[i],
                     fmin(fmax(ksearch_number_of(rating), 0), 10));
        for (size_t k = 0; k < ARRAY_LEN(parts); k++) {
            const char *said = jsonx_str(one, parts[k], "");

            if (*said)
                buf_addf(&b, "%s%s %s: %s", b.len ? "; " : "", names[i], parts[k], said);
        }
    }
    text = buf_take(&b);
    if (text == NULL)
        text = xstrdup("");
    if (strlen(text) > WORLD_TEXT_MAX) {
        ksearch_repair(r, "node '%.60s': its impacts were cut to %d bytes", node, WORLD_TEXT_MAX);
        ksearch_cut(text, WORLD_TEXT_MAX);
    }
    return text;
}

static int read_difficulty(struct ksearch_run *r, const char *node, const json_t *action)
{
    if (json_object_get(action, "difficulty_1_to_5") == NULL &&
        json_object_get(action, "difficulty_0_to_3") != NULL)
        return (int)ksearch_number(r, node, action, "difficulty_0_to_3", 0, 4, 2) + 1;
    return (int)ksearch_number(r, node, action, "difficulty_1_to_5", 1, 5, 3);
}

static void read_expected(struct ksearch_run *r, struct ksearch_node *n, const json_t *action)
{
    static const char *const key = "expected_vs_baseline_factor";
    double d = ksearch_number(r, n->id, action, key, -1e300, 1e300, NAN);

    n->has_expected = isfinite(d) && d >= 1e-6 && d <= 1e6;
    if (isfinite(d) && !n->has_expected)
        ksearch_repair(r, "node '%s': '%s' is %g, which no program reaches; none was taken", n->id,
                       key, d);
    n->expected = n->has_expected ? log(d) : 0;
}

/* ---- Nodes ---- */

/* A node as it was written, before the tree is made of it. */
struct raw {
    const json_t *json; /* NULL for a root that was not there */
    const char *id;     /* as written; "" when it has none */
    int parent;         /* place among the raw ones; KSEARCH_NONE for the root */
    int depth;
    int place; /* in run.nodes; KSEARCH_NONE until it has one */
};

struct reader {
    struct ksearch_run *run;
    struct raw *raw;
    int n, root;
    json_t *by_id;   /* id as written -> place; of equal ones the last, as K-Search looks them up */
    json_t *our_ids; /* taken */
};

static const char *blank_to(const char *s, const char *fallback)
{
    return s[strspn(s, " \t\r\n")] ? s : fallback;
}

static int count_nodes(struct reader *rd, const json_t *nodes, struct err *err)
{
    json_t *v;
    size_t i;

    if (json_array_size(nodes) >= WORLD_NODES_MAX)
        return err_set(err, ERR_LIMIT, "the world model has %zu nodes; fewer than %d are allowed",
                       json_array_size(nodes), WORLD_NODES_MAX);
    rd->raw = xcalloc(json_array_size(nodes) + 1, sizeof(*rd->raw));
    json_array_foreach ((json_t *)nodes, i, v) {
        struct raw *r = &rd->raw[rd->n];

        if (!json_is_object(v)) {
            ksearch_repair(rd->run, "node %zu of the list is no object; it was dropped", i);
            continue;
        }
        *r = (struct raw){ .json = v, .id = jsonx_str(v, "node_id", ""), .place = KSEARCH_NONE };
        if (json_object_get(rd->by_id, r->id) != NULL && r->id[0])
            ksearch_repair(rd->run, "the node id '%.60s' is there again; the last one keeps it",
                           r->id);
        json_object_set_new(rd->by_id, r->id, json_integer(rd->n));
        rd->n++;
    }
    return 0;
}

static int find_raw(const struct reader *rd, const char *id)
{
    const json_t *at = *id ? json_object_get(rd->by_id, id) : NULL;

    return at ? (int)json_integer_value(at) : KSEARCH_NONE;
}

/* The root that the tree names; without it, one of nothing. */
static void find_root(struct reader *rd, const json_t *tree)
{
    const char *id = blank_to(jsonx_str(tree, "root_id", ""), WORLD_ROOT_ID);

    rd->root = find_raw(rd, id);
    if (rd->root != KSEARCH_NONE)
        return;
    ksearch_repair(rd->run, "there is no root '%.60s'; an empty one was made", id);
    rd->root = rd->n;
    rd->raw[rd->n++] = (struct raw){ .id = "", .place = KSEARCH_NONE };
}

static void find_parents(struct reader *rd)
{
    for (int i = 0; i < rd->n; i++) {
        struct raw *r = &rd->raw[i];
        const char *parent = jsonx_str(r->json, "parent_id", "");

        r->parent = i == rd->root ? KSEARCH_NONE : find_raw(rd, parent);
        if (i == rd->root) {
            if (*parent)
                ksearch_repair(rd->run, "the root names a parent, '%.60s'; it has none", parent);
            continue;
        }
        if (r->parent == KSEARCH_NONE || r->parent == i) {
            ksearch_repair(rd->run, "node '%.60s' has the parent '%.60s', which %s; the root is it",
                           r->id, parent, r->parent == i ? "is itself" : "is unknown");
            r->parent = rd->root;
        }
    }
}

/* An id as the world model allows it, and not taken. */
static void name_node(struct reader *rd, const struct raw *raw, int place, char *out)
{
    bool last = place != 0 && &rd->raw[MAX(find_raw(rd, raw->id), 0)] == raw;
    char base[WORLD_ID_MAX - 8];
    size_t n = 0;

    if (place == 0) {
        str_copy(out, WORLD_ID_MAX + 1, WORLD_ROOT_ID);
    } else {
        for (const char *s = raw->id; *s && n + 1 < sizeof(base); s++)
            base[n++] = (isalnum((unsigned char)*s) && !((unsigned char)*s & 0x80)) || *s == '_' ||
                                *s == '-' || *s == '.'
                            ? *s
                            : '_';
        base[n] = '\0';
        while (n > 0 && (base[0] == '.' || base[0] == '-'))
            memmove(base, base + 1, n--);
        if (n == 0)
            snprintf(base, sizeof(base), "n%d", place);
        snprintf(out, WORLD_ID_MAX + 1, "%s", base);
        for (int k = 2; json_object_get(rd->our_ids, out) != NULL; k++)
            snprintf(out, WORLD_ID_MAX + 1, "%s_%d", base, k);
        if (last && strcmp(out, raw->id) != 0)
            ksearch_repair(rd->run, "the node id '%.60s' became '%s'", raw->id, out);
    }
    json_object_set_new(rd->our_ids, out, json_true());
}

static void read_node(struct reader *rd, const struct raw *raw, struct ksearch_node *n)
{
    struct ksearch_run *r = rd->run;
    const json_t *j = raw->json, *action = json_object_get(j, "action");
    bool root = n->parent == KSEARCH_NONE;

    n->decision = ksearch_text(r, n->id, root ? NULL : j, "decision", WORLD_LABEL_MAX);
    n->choice = ksearch_text(r, n->id, root ? NULL : j, "choice", WORLD_LABEL_MAX);
    n->notes = ksearch_text(r, n->id, j, "notes", WORLD_TEXT_MAX);
    n->impacts = read_impacts(r, n->id, json_object_get(j, "impacts"));
    n->rating = ksearch_number(r, n->id, j, "overall_rating_0_to_10", 0, 10, 0);
    n->confidence = ksearch_number(r, n->id, j, "confidence_0_to_1", 0, 1, 0);
    if (root)
        action = NULL;
    n->title = ksearch_text(r, n->id, action, "title", WORLD_LABEL_MAX);
    n->description = ksearch_text(r, n->id, action, "description", WORLD_TEXT_MAX);
    n->rationale = ksearch_text(r, n->id, action, "rationale", WORLD_TEXT_MAX);
    n->difficulty = read_difficulty(r, n->id, action);
    n->score = json_is_object(action)
                   ? ksearch_number(r, n->id, action, "score_0_to_1", 0, 1, n->rating / 10)
                   : 0;
    read_expected(r, n, action);
    n->solution = KSEARCH_NONE;
}

/* Gives a place to a raw node whose parent has one. */
static void place_node(struct reader *rd, int at)
{
    struct ksearch_run *r = rd->run;
    struct raw *raw = &rd->raw[at];
    struct ksearch_node *n = &r->nodes[r->n_nodes];

    if (raw->parent != KSEARCH_NONE && rd->raw[raw->parent].depth >= WORLD_DEPTH_MAX) {
        ksearch_repair(r, "node '%.60s' is deeper than %d; it was hung below the root", raw->id,
                       WORLD_DEPTH_MAX);
        raw->parent = rd->root;
    }
    raw->depth = raw->parent == KSEARCH_NONE ? 0 : rd->raw[raw->parent].depth + 1;
    raw->place = (int)r->n_nodes++;
    n->parent = raw->parent == KSEARCH_NONE ? KSEARCH_NONE : rd->raw[raw->parent].place;
    name_node(rd, raw, raw->place, n->id);
    read_node(rd, raw, n);
}

/* All that hang below what has a place, in the order in which they were written. */
static void place_below(struct reader *rd)
{
    bool more = true;

    while (more) {
        more = false;
        for (int i = 0; i < rd->n; i++) {
            struct raw *r = &rd->raw[i];

            if (r->place != KSEARCH_NONE || rd->raw[r->parent].place == KSEARCH_NONE)
                continue;
            place_node(rd, i);
            more = true;
        }
    }
}

/* What is left after the root's own tree hangs in cycles, which are cut. */
static void place_all(struct reader *rd)
{
    rd->run->nodes = xcalloc((size_t)rd->n, sizeof(*rd->run->nodes));
    place_node(rd, rd->root);
    place_below(rd);
    for (int i = 0; i < rd->n; i++) {
        if (rd->raw[i].place != KSEARCH_NONE)
            continue;
        ksearch_repair(rd->run,
                       "node '%.60s' is its own ancestor; the circle was cut there and hung below "
                       "the root",
                       rd->raw[i].id);
        rd->raw[i].parent = rd->root;
        place_node(rd, i);
        place_below(rd);
    }
}

/* ---- Evidence ---- */

static int find_solution(const struct ksearch_run *r, const char *id)
{
    for (size_t i = 0; i < r->n_solutions; i++)
        if (strcmp(r->solutions[i].id, id) == 0)
            return (int)i;
    return KSEARCH_NONE;
}

/* What the node says of a measurement must be what the store says; the store is believed. */
static void check_told(struct ksearch_run *r, const struct ksearch_node *n, const json_t *eval)
{
    const struct ksearch_result *res = &r->solutions[n->solution].result;
    double told = jsonx_num(eval, "mean_vs_baseline_factor", NAN);

    if (isfinite(told) && !(fabs(told - res->vs_baseline) <= 1e-6 * fabs(told)))
        ksearch_repair(r,
                       "node '%s' tells a factor of %g over the baseline, which its solution's "
                       "record does not; the record was taken",
                       n->id, told);
}

static void attach(struct ksearch_run *r, int at, const json_t *ref)
{
    struct ksearch_node *n = &r->nodes[at];
    const char *id = jsonx_str(ref, "solution_id", "");
    const json_t *eval = json_object_get(ref, "eval");
    int s = *id ? find_solution(r, id) : KSEARCH_NONE;

    if (*blank_to(id, "") == '\0') {
        if (json_object_size(eval) > 0 && *jsonx_str(eval, "status", ""))
            ksearch_repair(r, "node '%s' tells a measurement and has no solution; it stays open",
                           n->id);
        return;
    }
    if (s == KSEARCH_NONE) {
        ksearch_repair(r,
                       "node '%s' names the solution '%.80s', which the store does not have; it "
                       "stays open",
                       n->id, id);
        return;
    }
    if (r->solutions[s].node != KSEARCH_NONE) {
        ksearch_repair(r, "node '%s' names the solution of node '%s'; it stays open", n->id,
                       r->nodes[r->solutions[s].node].id);
        return;
    }
    n->solution = s;
    r->solutions[s].node = at;
    check_told(r, n, eval);
}

static void attach_all(struct reader *rd)
{
    for (int i = 0; i < rd->n; i++)
        attach(rd->run, rd->raw[i].place, json_object_get(rd->raw[i].json, "solution_ref"));
}

/* ---- The document ---- */

static int read_tree(struct ksearch_run *r, const json_t *doc, struct err *err)
{
    const json_t *tree = json_object_get(doc, "decision_tree");
    json_auto_t *by_id = json_object(), *our_ids = json_object();
    struct reader rd = { .run = r, .by_id = by_id, .our_ids = our_ids };

    if (!json_is_object(tree) || !json_is_array(json_object_get(tree, "nodes")))
        return err_set(err, ERR_INVALID,
                       "the world model has no decision_tree with a list of nodes");
    if (count_nodes(&rd, json_object_get(tree, "nodes"), err) == 0) {
        find_root(&rd, tree);
        find_parents(&rd);
        place_all(&rd);
        attach_all(&rd);
        free(rd.raw);
        return 0;
    }
    free(rd.raw);
    return -1;
}

static int read_model(struct ksearch_run *r, const char *text, size_t len, struct err *err)
{
    size_t words;
    json_auto_t *doc = ksearch_json(text, len, &words, "the world model", err);

    if (doc == NULL)
        return -1;
    if (words > 0)
        ksearch_repair(r, "the world model has %zu numbers that are none (NaN, Infinity)", words);
    r->summary = ksearch_text(r, "of the document", doc, "kernel_summary", WORLD_TEXT_MAX);
    return read_tree(r, doc, err);
}

int ksearch_read(const char *model, size_t model_len, const char *store, size_t store_len,
                 struct ksearch_run *out, struct err *err)
{
    struct ksearch_run r = { .repairs = json_array(), .skipped = json_array() };

    if (ksearch_read_store(&r, store, store_len, err) != 0 ||
        read_model(&r, model, model_len, err) != 0) {
        ksearch_run_release(&r);
        return -1;
    }
    *out = r;
    return 0;
}

static void node_release(struct ksearch_node *n)
{
    free(n->decision);
    free(n->choice);
    free(n->impacts);
    free(n->notes);
    free(n->title);
    free(n->description);
    free(n->rationale);
}

void ksearch_run_release(struct ksearch_run *r)
{
    for (size_t i = 0; i < r->n_nodes; i++)
        node_release(&r->nodes[i]);
    for (size_t i = 0; i < r->n_solutions; i++)
        ksearch_solution_release(&r->solutions[i]);
    free(r->nodes);
    free(r->solutions);
    free(r->summary);
    json_decref(r->repairs);
    json_decref(r->skipped);
    memset(r, 0, sizeof(*r));
}
