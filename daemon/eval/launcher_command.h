/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the launcher `command` adds to the local one: the words of the prefix that carries
 * ksearch-eval to another machine (srun, ssh, docker exec), and what the prefix says on stderr when
 * it is the scheduler that failed, not the evaluation. Pure functions. Thread: any.
 */
#ifndef KS_EVAL_LAUNCHER_COMMAND_H
#define KS_EVAL_LAUNCHER_COMMAND_H

#include <stddef.h>

#include "base/err.h"

enum { COMMAND_WORDS_MAX = 64 };

/* Why a command gave no record although ksearch-eval did nothing wrong. */
enum command_failure {
    COMMAND_FAILURE_NONE,    /* nothing that we know */
    COMMAND_FAILURE_NODE,    /* the node went away */
    COMMAND_FAILURE_PREEMPT, /* another job took the place */
    COMMAND_FAILURE_LIMIT,   /* the scheduler's time limit */
    COMMAND_FAILURE_MEMORY,  /* the scheduler's memory limit */
    COMMAND_FAILURE_ASK,     /* no place was given, or the scheduler does not answer */
    COMMAND_FAILURE_COUNT
};

/* Allowed tries after the first, by what failed. */
struct command_retries {
    unsigned node;  /* COMMAND_FAILURE_NODE, _PREEMPT, _ASK */
    unsigned limit; /* COMMAND_FAILURE_LIMIT */
};

/*
 * Splits a line into words at blanks; '...' and "..." keep blanks, a backslash keeps the next
 * character, nothing else is special. *out is a NULL-terminated array, to be released with
 * command_words_free. ERR_INVALID (an open quote, no word), ERR_LIMIT (more than
 * COMMAND_WORDS_MAX).
 */
int command_words(const char *line, char ***out, struct err *err);
void command_words_free(char **words); /* NULL is fine */

/*
 * A small environment for a child: what compilers and loaders need (PATH, TMPDIR, LD_LIBRARY_PATH,
 * CUDA_HOME, CUDA_VISIBLE_DEVICES), LC_ALL=C, and the variables named in `more` (NULL-terminated,
 * may be NULL); no key of ours travels on. Owned; release with command_words_free.
 */
char **command_environment(const char *const *more);

/* Reads what the command wrote on stderr. The first line that tells decides. */
enum command_failure command_failure_of(const char *stderr_text);
/* "the node failed"; NULL for COMMAND_FAILURE_NONE. */
const char *command_failure_text(enum command_failure f);
/* How many tries after the first are allowed for this failure. */
unsigned command_failure_retries(const struct command_retries *r, enum command_failure f);

#endif
