/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Configuration: one row per option, an INI file (inih) and the command line over it. An unknown
 * key or a bad value stops the start with a sentence that names file and line, key, value and what
 * is allowed. docs/daemon.md lists the options. Thread: any; a conf does not change after the
 * start.
 */
#ifndef KS_DAEMON_CONF_H
#define KS_DAEMON_CONF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

enum conf_sandbox { CONF_SANDBOX_BWRAP, CONF_SANDBOX_NONE };
enum conf_embedding { CONF_EMBEDDING_BUILTIN, CONF_EMBEDDING_OPENAI };
enum conf_evaluator { CONF_EVAL_LOCAL, CONF_EVAL_COMMAND, CONF_EVAL_REPLAY, CONF_EVAL_RECORD };

struct conf {
    char *data;           /* folder of the knowledge base */
    char *socket;         /* path of the Unix socket */
    char *tasks;          /* folders of task packs, ':' between them */
    char *harness;        /* path of ksearch-eval */
    char *default_device; /* where a search runs when nobody says */
    char *replay_file;    /* recorded evaluations, JSON lines; "" for none */
    char *command;        /* words before ksearch-eval, for the launcher `command` */
    char *command_env;    /* names of variables that they get, with blanks */
    char *command_dir;    /* folder of jobs that both machines see; "": in the data folder */
    int sandbox;          /* enum conf_sandbox */
    int log_level;        /* enum log_level */
    int evaluator;        /* enum conf_evaluator */
    int embedding;        /* enum conf_embedding */
    char *embedding_url, *embedding_model;
    char *embedding_key_file;      /* ""; then KSEARCH_API_KEY of the environment, if any */
    uint64_t embedding_dimensions; /* asked of the provider; 0: its own */
    uint64_t embedding_batch;      /* claims in a request */
    double embedding_timeout_s;    /* of a request in the background */
    double embedding_query_wait_s; /* of a question */
    /* Language models; docs/llm.md. */
    char *llm_url;                 /* of the endpoint; "/v1/chat/completions" or such follows */
    char *llm_key_file;            /* ""; then KSEARCH_API_KEY of the environment, if any */
    char *llm_proxy, *llm_ca_file; /* "": the environment's proxy, the system's CAs */
    char *llm_models;              /* chain of the roles that have none, "a, b@responses" */
    char *llm_planner, *llm_coder, *llm_editor; /* chains of roles; "": llm_models */
    char *llm_temperature;                      /* "", or numbers for attempts 1, 2, ... */
    char *llm_prices;                           /* "model=in/cached/out, ..." */
    char *llm_prompts;                          /* folder of prompts over ours; "": none */
    char *llm_record;                           /* answers are appended to this file; "": no */
    int llm_replay_match;                       /* enum llm_match */
    char *llm_replay_file;                      /* answers come from this file; "": none */
    int llm_api;                                /* enum llm_api */
    int llm_effort;                             /* 0: none is sent; else conf_effort_name */
    int llm_stream;                             /* 0 or 1 */
    uint64_t llm_max_tokens;                    /* of an answer; 0: the endpoint's own */
    uint64_t llm_parallel;                      /* requests at a time */
    uint64_t llm_retries;                       /* of one model, before the next one */
    uint64_t llm_breaker_failures;              /* in a row, until a model is left alone */
    double llm_connect_timeout_s, llm_first_timeout_s, llm_idle_timeout_s, llm_timeout_s;
    double llm_backoff_s, llm_backoff_max_s; /* before the first retry; at most */
    double llm_breaker_wait_s;               /* until a model that was left alone is tried */
    uint64_t workers;                        /* threads for blocking work */
    uint64_t eval_threads;                   /* threads of a candidate; 0: all cores */
    uint64_t max_connections;
    uint64_t pairs_min, pairs_max;  /* interleaved timing pairs per workload */
    double timing_budget_s;         /* per workload */
    uint64_t command_retries;       /* after a lost node, preemption or no place */
    uint64_t command_limit_retries; /* after the scheduler's time limit */
    double command_wait_s;          /* for a place */
};

/* Defaults from the environment and the program's own place. ERR_NOMEM, ERR_IO. */
int conf_new(struct conf **out, struct err *err);
void conf_free(struct conf *c); /* NULL is fine */
/* Reads an INI file over what is there. ERR_NOT_FOUND, ERR_IO, ERR_INVALID. Thread: worker, blocks.
 */
int conf_load(struct conf *c, const char *path, struct err *err);
/* Sets one option from text; `where` ("--data", "file:12") opens the error. ERR_INVALID,
 * ERR_NOT_FOUND (no such key). */
int conf_set(struct conf *c, const char *where, const char *key, const char *value,
             struct err *err);
/* Checks what rows cannot: values against each other, paths that must exist. ERR_INVALID,
 * ERR_NOT_FOUND. */
int conf_check(const struct conf *c, struct err *err);
/* "low", "high", ...: what llm_effort stands for; NULL for 0. Borrowed. */
const char *conf_effort_name(const struct conf *c);
/* Writes the options as a file that conf_load reads back, each with its help as a comment. */
int conf_print(const struct conf *c, struct buf *out, struct err *err);

#endif
