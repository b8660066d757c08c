/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ksearch search tree: the world model's tree, indented. The nodes come as one list with parents,
 * or as nodes with children inside; both are drawn. A list may hold anything: what has no known
 * parent is a root, and no node is drawn twice.
 */
#include "cli.h"

#include <math.h>

#include "base/jsonx.h"
#include "base/str.h"
#include "proto/methods.h"
#include "show.h"

enum { DEPTH_MAX = 64, PREFIX_MAX = 8 * DEPTH_MAX };

struct tree {
    const json_t *nodes; /* the list; NULL when children are inside their nodes */
    bool *drawn;         /* by index in the list */
    const json_t *best;  /* id of the best node, marked with a star; may be NULL */
};

/* The action's title, else "DECISION = CHOICE", else nothing. Owned. */
static char *title_of(const json_t *node)
{
    CLEANUP(freep) char *action = show_text_at(node, "action.title", SHOW_TEXT);
    CLEANUP(freep) char *title = show_text_at(node, "title", SHOW_TEXT);
    CLEANUP(freep) char *decision = show_text_at(node, "decision", SHOW_TEXT);
    CLEANUP(freep) char *choice = show_text_at(node, "choice", SHOW_TEXT);

    if (*action && strcmp(action, "-") != 0)
        return xstrdup(action);
    if (*title && strcmp(title, "-") != 0)
        return xstrdup(title);
    if (*decision && strcmp(decision, "-") != 0)
        return str_printf("%s = %s", decision, choice);
    return xstrdup("");
}

/* " n3 Tile the keys  (closed, passed, 3 attempts, 1.42x, from search s1)" */
static void node_print(const struct tree *t, const json_t *node, const char *prefix,
                       const char *branch)
{
    static const struct {
        const char *path, *before, *after;
    } facts[] = {
        { "state", "", "" },
        { "evidence.status", "", "" },
        { "evidence.attempts", "", " attempts" },
        { "graft.search", "from search ", "" },
        { "origin", "", "" },
        { "reason", "", "" },
    };
    CLEANUP(freep) char *id = show_text_at(node, "id", SHOW_TEXT), *title = title_of(node);
    const json_t *objective_q = show_at(node, "evidence.objective_q");
    const char *separator = "  (";

    printf("%s%s%s%s", prefix, branch, id,
           t->best && json_equal(t->best, json_object_get(node, "id")) ? "*" : "");
    if (*title)
        printf(" %s", title);
    for (size_t i = 0; i < ARRAY_LEN(facts); i++) {
        CLEANUP(freep) char *s = show_text_at(node, facts[i].path, SHOW_TEXT);

        if (*s == '\0' || strcmp(s, "-") == 0 || strcmp(s, "0") == 0)
            continue;
        printf("%s%s%s%s", separator, facts[i].before, s, facts[i].after);
        separator = ", ";
    }
    if (json_is_integer(objective_q)) {
        printf("%s%.2fx", separator, exp((double)json_integer_value(objective_q) / 1e6));
        separator = ", ";
    }
    puts(separator[0] == ',' ? ")" : "");
}

static bool is_child(const struct tree *t, size_t i, const json_t *parent)
{
    const json_t *node = json_array_get(t->nodes, i);

    return !t->drawn[i] &&
           json_equal(json_object_get(node, "parent"), json_object_get(parent, "id"));
}

static void branch_print(const struct tree *t, const json_t *node, const char *prefix, int depth,
                         bool root, bool last);

/* Draws what hangs under `node`. */
static void children_print(const struct tree *t, const json_t *node, const char *prefix, int depth)
{
    json_t *inside = json_object_get(node, "children"), *child;
    size_t i, n = json_array_size(t->nodes), left = 0;

    if (depth >= DEPTH_MAX)
        return;
    if (t->nodes == NULL) {
        json_array_foreach (inside, i, child)
            branch_print(t, child, prefix, depth + 1, false, i + 1 == json_array_size(inside));
        return;
    }
    for (i = 0; i < n; i++)
        left += is_child(t, i, node);
    for (i = 0; i < n && left > 0; i++) {
        if (!is_child(t, i, node))
            continue;
        t->drawn[i] = true;
        branch_print(t, json_array_get(t->nodes, i), prefix, depth + 1, false, --left == 0);
    }
}

static void branch_print(const struct tree *t, const json_t *node, const char *prefix, int depth,
                         bool root, bool last)
{
    bool utf8 = term_is_utf8();
    const char *branch = root ? "" : last ? (utf8 ? "└─ " : "`- ") : (utf8 ? "├─ " : "|- ");
    char deeper[PREFIX_MAX];

    node_print(t, node, prefix, branch);
    snprintf(deeper, sizeof(deeper), "%s%s", prefix,
             root   ? ""
             : last ? "   "
             : utf8 ? "│  "
                    : "|  ");
    children_print(t, node, deeper, depth);
}

static bool has_parent(const json_t *nodes, const json_t *node)
{
    const json_t *parent = json_object_get(node, "parent");
    json_t *other;
    size_t i;

    if (parent == NULL || json_is_null(parent))
        return false;
    json_array_foreach (nodes, i, other)
        if (other != node && json_equal(json_object_get(other, "id"), parent))
            return true;
    return false;
}

static void list_print(const json_t *nodes, const json_t *best)
{
    CLEANUP(freep) bool *drawn = xcalloc(json_array_size(nodes) + 1, sizeof(*drawn));
    struct tree t = { .nodes = nodes, .drawn = drawn, .best = best };
    json_t *node;
    size_t i;

    json_array_foreach (nodes, i, node) {
        if (drawn[i] || has_parent(nodes, node))
            continue;
        drawn[i] = true;
        branch_print(&t, node, "", 0, true, true);
    }
}

static void tree_print(const json_t *result)
{
    const json_t *nodes = json_is_array(result) ? result : json_object_get(result, "nodes");
    const json_t *root = json_object_get(result, "root");
    struct tree inside = { 0 };

    if (json_is_array(nodes))
        list_print(nodes, json_object_get(result, "best"));
    else if (json_is_object(root) || json_object_get(result, "children"))
        branch_print(&inside, json_is_object(root) ? root : result, "", 0, true, true);
    else
        show_value(result);
}

static const struct pos tree_pos[] = { { "S", "search", ROW_REQUIRED, "id of the search" }, { 0 } };

const struct command cmd_search_tree = {
    .group = "search",
    .name = "tree",
    .summary = "Draw the world model of a search as a tree.",
    .method = METHOD_SEARCH_TREE,
    .pos = tree_pos,
    .print = tree_print,
};
