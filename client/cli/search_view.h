/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a watched search looks like: a fold over search.show (what was before) and events (what
 * comes), and the block that is drawn of it. An evaluation counts once, by its number. Event types
 * that this version does not know change nothing. Thread: main only.
 */
#ifndef KS_CLI_SEARCH_VIEW_H
#define KS_CLI_SEARCH_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { VIEW_RECENT_MAX = 5 };

struct view {
    char *task, *device, *state;
    double *best; /* best so far after each evaluation; NaN before the first success */
    size_t n, cap;
    long long last; /* number of the newest evaluation that was counted */
    double budget_evals, budget_time_s, spent_time_s; /* NaN when unknown */
    uint64_t since_ns;                                /* when spent_time_s was true */
    char *now, *why;               /* what is being tried; NULL between attempts */
    char *recent[VIEW_RECENT_MAX]; /* newest first */
    json_t *failures;              /* class -> count */
    size_t drawn;                  /* lines on the screen */
    bool drifted;                  /* the baseline's drift was said */
};

/* Frees the members. */
void view_release(struct view *v);
/* What search.show says, into a view of zeros: everything before the events that come. */
void view_load(struct view *v, const json_t *show);
/* Folds one event in; true when there is a new line among the recent ones. */
bool view_event(struct view *v, const json_t *e);
/* A new state (owned from here): the clock of the view runs while the search does. */
void view_state(struct view *v, char *state);
/* How many evaluations failed. */
size_t view_failed(const struct view *v);
/* Draws the block, over itself when it was drawn before. */
void view_draw(struct view *v, const char *search);

/* "held out (full): 12.10x where the tuning set says 14.00x" of a check (a member of holdout.checks
 * of search.show, or a holdout event), or why it could not be measured. Owned. */
char *view_holdout_text(const char *set, const json_t *check);
/* The same of the last check of search.show; NULL when there is none. Owned. */
char *view_holdout_last(const json_t *show);

#endif
