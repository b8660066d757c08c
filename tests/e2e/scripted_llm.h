/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A language model behind an endpoint of ours (unit/llm/fake_llm.h) for whole searches: it plants a
 * tree, adds to it, and writes programs that say in a comment how fast they are; the harness of
 * SCRIPTED_HARNESS believes them. What it answers is a function of the request's text alone, so a
 * search that asks the same hears the same. It counts, and can be slow, down or refuse. Thread: the
 * test's.
 */
#ifndef KS_TESTS_SCRIPTED_LLM_H
#define KS_TESTS_SCRIPTED_LLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of each answer. */
enum { SCRIPTED_TOKENS_IN = 1000, SCRIPTED_TOKENS_CACHED = 600, SCRIPTED_TOKENS_OUT = 200 };
/* Lines of a configuration; %s is the endpoint's address. An answer costs 30 + 6 + 40 times ten
 * millionths of a dollar. */
#define SCRIPTED_CONF                                                                              \
    "llm_url = %s\nllm_planner = planner-1\nllm_coder = coder-1\nllm_editor = planner-1\n"         \
    "llm_retries = 0\nllm_backoff = 0\nllm_breaker_failures = 1000\n"                              \
    "llm_prices = planner-1=0.75/0.1/2, coder-1=0.75/0.1/2\n"
enum { SCRIPTED_USD_Q = 300 + 60 + 400 };

/*
 * A harness that measures nothing: the objective is what the program's comment says, a little more
 * with a larger TILE. $LOG gets a line at the start and the end of each evaluation; while $HOLD
 * exists an evaluation does not end. Both are set by lines before it.
 */
#define SCRIPTED_HARNESS                                                                           \
    "case $1 in probe) echo '{\"name\":\"cpu\",\"kind\":\"cpu\",\"class\":\"cpu-avx2\","           \
    "\"cores\":2,\"toolchain\":\"gcc 12.2.0\",\"features\":[\"avx2\",\"fma\"]}'; exit;; esac\n"    \
    "job=$(cat $2/job.json)\n"                                                                     \
    "case $job in *vector_add_l1*) def=vector_add_l1;; *) def=vector_add_l4;; esac\n"              \
    "echo \"start $def\" >> $LOG\n"                                                                \
    "while [ -e $HOLD ]; do sleep 0.02; done\n"                                                    \
    "text=$(cat $2/candidate.c)\n"                                                                 \
    "case $text in *speed=*) x=${text#*speed=}; x=${x%% *};; *) x=1.00;; esac\n"                   \
    "own=${job#*'\"candidate\"'}; own=${own%%\\}*}\n"                                              \
    "case $own in *TILE*2*) x=${x}1;; *TILE*4*) x=${x}2;; *) x=${x}0;; esac\n"                     \
    "head=\"{\\\"format\\\":1,\\\"definition\\\":\\\"$def\\\",\\\"set\\\":\\\"smoke\\\"\"\n"       \
    "t='\"time\":{\"build_ms\":3,\"check_ms\":2,\"timing_ms\":5,\"total_ms\":10}'\n"               \
    "duel=\n"                                                                                      \
    "case $job in *'\"champion\"'*) duel='\"vs_champion\":{\"ratio\":1.05,\"ci_low\":1.03,"        \
    "\"ci_high\":1.07,\"log_sd\":0.01},';; esac\n"                                                 \
    "case $x in\n"                                                                                 \
    "broken*) echo \"$head,\\\"status\\\":\\\"build_failed\\\",\\\"message\\\":\\\"it does not "   \
    "compile\\\",$t}\";;\n"                                                                        \
    "*) echo \"$head,\\\"status\\\":\\\"ok\\\",\\\"message\\\":\\\"\\\",$duel$t,"                  \
    "\\\"objective\\\":$x,\\\"ci_low\\\":$x,\\\"ci_high\\\":$x,\\\"log_sd\\\":0.01,"               \
    "\\\"worst\\\":$x,\\\"workloads\\\":[{\\\"name\\\":\\\"a\\\",\\\"status\\\":\\\"ok\\\","       \
    "\\\"ratio\\\":$x}]}\";;\n"                                                                    \
    "esac\n"                                                                                       \
    "echo \"end $def\" >> $LOG\n"

struct scripted_llm;

enum scripted_mood {
    SCRIPTED_ANSWERS,
    SCRIPTED_DOWN,   /* closes connections without a word */
    SCRIPTED_REFUSES /* the key is wrong */
};

struct scripted_llm *scripted_llm_start(void);
void scripted_llm_stop(struct scripted_llm *m); /* NULL is fine */
/* Borrowed. */
const char *scripted_llm_url(const struct scripted_llm *m);
void scripted_llm_mood(struct scripted_llm *m, enum scripted_mood mood);
/* The answer to the n-th request (from 1) drips and is not whole for minutes; 0: none does. */
void scripted_llm_drip(struct scripted_llm *m, size_t n);
/* Holds answers of programs until so many requests for programs have been open at once, for a while
 * at most; 0: not. */
void scripted_llm_gather(struct scripted_llm *m, unsigned n);
/* How many requests for programs were open at once at most. */
unsigned scripted_llm_gathered(struct scripted_llm *m);
/* Requests that came; those that were given an answer, whoever read it. */
size_t scripted_llm_requests(struct scripted_llm *m);
size_t scripted_llm_answered(struct scripted_llm *m);
/* Different requests, in the order of their first coming; how often the i-th (from 0) came. */
size_t scripted_llm_distinct(struct scripted_llm *m);
size_t scripted_llm_times(struct scripted_llm *m, size_t i);

#endif
