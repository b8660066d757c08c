/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripted language models for the laboratory: functions of the request alone, so that a search
 * that was killed is answered alike. They read a prompt as a model would: the action, the program
 * to change. Programs say in comments what they are worth and what was done to get there.
 */
#ifndef KS_TEST_LAB_LLM_H
#define KS_TEST_LAB_LLM_H

#include "lab.h"

/*
 * The landscape that the sensible ones climb: steps A to H, each done once. Some cost at first and
 * pay off with a second one, some fail to build at first, some come with a tunable; a program
 * reaches half of what its steps are worth, and the rest over two more rounds.
 */
enum { SCRIPT_STEPS = 8 };
/* The log of the objective of a path of steps ("BC") at a quality of 0..2, tuned. */
double script_worth(const char *path, unsigned quality);
/* The best of all paths. */
double script_best(void);

/* For lab.model_ctx; all zero is the default, and so is NULL. */
struct script {
    uint64_t seed; /* what the coder's luck is drawn from */
    bool planner_mute;
    bool promises; /* every node a sure thing worth a factor of 3 */
};

/* For lab.model; the texts are the caller's to free. */
char *script_sensible(struct lab *lab, const struct llm_request *req);
/* Never an edit, never a program. */
char *script_mute(struct lab *lab, const struct llm_request *req);
/* One attack after the other, by the number of the call; every third program is usable. */
char *script_hostile(struct lab *lab, const struct llm_request *req);
/* How many different attacks there are of either kind. */
size_t script_attacks(bool on_programs);

/* A whole program of this worth in an answer; `tags` go into its comment. Owned. */
char *script_program(double worth, const char *tags, bool tunable);
/* The number of the call in a request's id. */
uint64_t script_call(const struct llm_request *req);

#endif
