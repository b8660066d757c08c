/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What prompt.c and the files of sections share. A section appends its text to a buffer, within its
 * budget; appending nothing makes it empty. Sections are functions of the view alone.
 */
#ifndef KS_SEARCH_PROMPT_IMPL_H
#define KS_SEARCH_PROMPT_IMPL_H

#include "search/prompt.h"
#include "search/prompt_text.h"
#include "search/search.h"

/* What a prompt is made of. Borrowed, all of it. */
struct prompt_view {
    const struct search *s;
    const struct prompt_ask *ask;
    const json_t *brief;
    const json_t *schema;       /* of the answer; NULL for programs */
    const struct lane *lane;    /* NULL when the call is about the search as a whole */
    uint32_t node;              /* of the lane; WORLD_NONE */
    uint32_t current;           /* program that the call is about; PROGRAM_NONE */
    uint32_t base;              /* program that the lane started from; PROGRAM_NONE */
    uint32_t best;              /* the champion's program; PROGRAM_NONE */
    const struct trial *result; /* measurement of `current` to be shown; NULL */
    bool seed_in_prefix;        /* program 0 stands whole in the prefix */
    bool base_whole;            /* the call's file shows `base` whole, */
    bool base_measured;         /* and what was measured of it */
};

/* 0 or -1: a failure to read what is stored. Texts that do not fit are no failure. */
typedef int section_fn(const struct prompt_view *v, size_t budget, struct buf *out,
                       struct err *err);

/* prompt_sections_task.c: of the brief. */
section_fn section_task, section_reference, section_objective, section_abi, section_device,
    section_grammar, section_schema;
/* prompt_sections_tree.c: of the world model. */
section_fn section_tree, section_path, section_summary, section_questions, section_action,
    section_flat;
/* prompt_sections_belief.c: of beliefs against outcomes. */
section_fn section_outcome, section_calibration;
/* prompt_sections_state.c: of the search as a whole, of other searches, and of the answer that was
 * not usable. */
section_fn section_status, section_need, section_choosing, section_insights, section_sample,
    section_previous, section_errors;
/* prompt_sections_program.c: of programs and what was measured. */
section_fn section_seed, section_seed_result, section_current, section_result, section_tuning,
    section_base, section_base_result, section_lineage, section_best, section_best_result,
    section_parents, section_rejected, section_failures, section_node_failures;
/* prompt_sections_cycle.c: of a cycle, its rules and its rounds, and of what evaluations cost. */
section_fn section_cycle, section_history, section_tuning_cost, section_spent;

/* ---- For several of them ---- */

/* A program's best measured trial, else its last; NULL when none is. */
const struct trial *view_trial_of(const struct prompt_view *v, uint32_t program);
/* Appends what a trial is taken for, on one line: "1.234x (sd 0.4 %)" or "wrong_value: ...". Where
 * it was measured again, beside another one, its own measurement is told apart. */
void text_outcome(struct buf *row, const struct trial *t, size_t max);
/* What a solved node is worth: the value of the trial behind it, micro-log. */
int64_t view_node_q(const struct prompt_view *v, const struct world_node *n);
/* The last program of the lane, where the next round goes back to an earlier one; PROGRAM_NONE. */
uint32_t view_rejected(const struct prompt_view *v);
/* Evaluations that the search may still spend. */
uint64_t view_left(const struct prompt_view *v);

#endif
