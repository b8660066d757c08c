/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the provider of endpoints share: a loop, a configuration, and requests whose ends
 * are kept. Thread: the test's. */
#ifndef KS_TESTS_ASK_H
#define KS_TESTS_ASK_H

#include <stdbool.h>

#include "base/clock.h"
#include "conf.h"
#include "llm/llm.h"
#include "loop.h"

struct asker {
    struct loop *loop;
    struct conf *conf;
    struct llm *llm;
    struct clock_fake clock; /* of breakers; times of the network are real */
};

/* How a request ended; texts are copies. */
struct told {
    struct llm_job *job;
    int times; /* that done was called */
    bool good;
    struct err err;
    char *text, *model;
    struct llm_answer a; /* its texts are gone */
};

/* A configuration for `url`, model "m", quick times, no key. */
void asker_init(struct asker *a, const char *url);
/* Sets options, "key", "value", ..., NULL, before asker_open. */
void asker_set(struct asker *a, ...);
void asker_open(struct asker *a);
void asker_release(struct asker *a);

/* Starts a request for the coder, with a schema when `schema` is not NULL. */
void ask_start(struct asker *a, struct told *t, const char *prompt, const json_t *schema);
/* Turns the loop until it has ended. Fails the test when that takes a minute. */
void ask_wait(struct asker *a, struct told *t);
/* Both. */
void ask(struct asker *a, struct told *t, const char *prompt);
/* Turns the loop for a while. */
void ask_idle(struct asker *a, unsigned ms);
void told_clear(struct told *t);

#endif
