/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What goes over the wire to an OpenAI-compatible endpoint and what comes back, without the wire:
 * bodies of requests, answers whole or in pieces, errors. Two interfaces: chat completions and
 * responses. Endpoints differ in what they take; a request leaves out what one has refused
 * (enum wire_feature). Everything that comes back is hostile input. Thread: any.
 */
#ifndef KS_LLM_OPENAI_WIRE_H
#define KS_LLM_OPENAI_WIRE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "llm/models.h"

enum {
    WIRE_BODY_MAX = 2 << 20, /* of an answer that comes whole, and of an error */
    WIRE_WORDS_MAX = 200     /* of the endpoint's own words in a sentence */
};

/* Parts of a request that an endpoint may not know. */
enum wire_feature {
    WIRE_SCHEMA = 1,
    WIRE_TEMPERATURE = 2,
    WIRE_EFFORT = 4,
    WIRE_STREAM = 8,
    WIRE_USAGE = 16,      /* asks for the count of tokens at the end of a stream */
    WIRE_MAX_TOKENS = 32, /* chat: max_tokens; without it max_completion_tokens */
    WIRE_STORE = 64,      /* responses: store = false */
    WIRE_ALL = 127
};

struct wire_request {
    enum llm_api api;  /* not AUTO */
    unsigned features; /* that may be used, of enum wire_feature */
    const char *model, *system, *prefix, *prompt;
    const char *schema_name;
    const json_t *schema; /* NULL: free text */
    const char *effort;   /* NULL: not mentioned */
    double temperature;   /* negative: not mentioned */
    uint64_t max_tokens;  /* 0: not mentioned */
};

/*
 * The body to send; the caller's. `*used` is which features are in it. ERR_INVALID when a text is
 * no UTF-8 (or memory is out).
 */
int wire_body(const struct wire_request *r, char **out, unsigned *used, struct err *err);
/* {url}/v1/chat/completions or {url}/v1/responses, whether `url` ends in "/", "/v1" or neither; one
 * that ends in the name of an interface says where "/v1" would be. Owned; NULL when memory is out.
 */
char *wire_url(const char *url, enum llm_api api);

enum wire_fault_kind {
    WIRE_LATER,    /* down or broken: the same may work later */
    WIRE_BUSY,     /* too many requests: the same works later */
    WIRE_REFUSED,  /* key, money or model: it works when somebody changes that */
    WIRE_INVALID,  /* it does not take this request */
    WIRE_TOO_LONG, /* the texts are more than the model reads */
    WIRE_LACKS,    /* it does not know one `feature` of the request */
    WIRE_OTHER_API /* the model wants the responses interface */
};

struct wire_fault {
    enum wire_fault_kind kind;
    unsigned feature;
    char words[WIRE_WORDS_MAX]; /* the endpoint's own, made visible; the key is still in them */
};

/* Reads the body of an answer whose status is not 2xx; `used` as wire_body gave it. */
void wire_fault_read(long status, const char *body, size_t len, unsigned used,
                     struct wire_fault *out);
/* The same for an error inside an answer that began well; NULL: no such thing is known. */
void wire_fault_of_error(const json_t *error, struct wire_fault *out);

enum wire_end {
    WIRE_OPEN,     /* more is to come, or was */
    WIRE_COMPLETE, /* the whole answer */
    WIRE_CUT,      /* it reached its limit of tokens */
    WIRE_FILTERED, /* the endpoint's filter ended it */
    WIRE_DECLINED, /* the model said that it will not; `text` has its words */
    WIRE_FAILED    /* the endpoint gave up; `fault` */
};

/* An answer as it comes together. { 0 } at the start. */
struct wire_answer {
    enum wire_end end;
    bool over; /* nothing more is to come */
    struct buf text;
    bool counted; /* the endpoint told how many tokens */
    uint64_t in, cached, out;
    struct wire_fault fault;
};

void wire_answer_release(struct wire_answer *a);
/* An answer that came whole. ERR_UPSTREAM: not of the form; ERR_LIMIT: over LLM_ANSWER_MAX. */
int wire_whole(enum llm_api api, const char *body, size_t len, struct wire_answer *a,
               struct err *err);
/* One event of a stream; as above. */
int wire_event(enum llm_api api, const char *name, const char *data, size_t len,
               struct wire_answer *a, struct err *err);

#endif
