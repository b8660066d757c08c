/* SPDX-License-Identifier: Apache-2.0 */
/*
 * POST requests on the event loop: libcurl's multi interface, its sockets and its timer hung on
 * libevent. Nothing blocks, and work is cut into pieces that leave the loop its turns. The only
 * user of libcurl besides daemon/embedding_openai.c. A transfer ends with one call of on_end,
 * never inside http_start, unless http_cancel ends it without. Thread: loop; http_new blocks for
 * the file of authorities.
 */
#ifndef KS_LLM_HTTP_H
#define KS_LLM_HTTP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct event_base;
struct http;
struct http_transfer;

enum http_outcome {
    HTTP_ANSWERED,    /* whole, whatever the status says */
    HTTP_UNREACHABLE, /* no connection: name, address, certificate, proxy */
    HTTP_TIMEOUT,     /* connected, and too slow */
    HTTP_BROKEN,      /* the answer broke off */
    HTTP_STOPPED      /* on_bytes wanted no more */
};

struct http_result {
    enum http_outcome outcome;
    long status;          /* 0: none came */
    double retry_after_s; /* what the header says, whether seconds or a date; 0: nothing */
    char words[256];      /* what went wrong, unless ANSWERED or STOPPED */
};

struct http_request {
    /* Copied. */
    const char *url, *body; /* JSON */
    const char *key;        /* sent as Authorization: Bearer; "" for none */
    double connect_s, first_s, idle_s, total_s;
    /* A piece of the answer's body; `stream`: its type is text/event-stream. Not 0: no more. Starts
     * and cancels no transfer. */
    int (*on_bytes)(void *ctx, long status, bool stream, const char *bytes, size_t len);
    /* May start and cancel transfers; its own is gone. `r` is borrowed for the call. */
    void (*on_end)(void *ctx, const struct http_result *r);
    void *ctx;
};

/* `ca_file` "": the system's authorities; `proxy` "": the environment's. `tls`: https is used.
 * ERR_NOT_FOUND, ERR_INVALID, ERR_NOMEM. */
int http_new(struct event_base *base, const char *proxy, const char *ca_file, bool tls,
             struct http **out, struct err *err);
/* Every transfer must be gone. NULL is fine. */
void http_free(struct http *h);

/* ERR_INVALID (an address that is none), ERR_NOMEM. */
int http_start(struct http *h, const struct http_request *r, struct http_transfer **out,
               struct err *err);
/* Ends it without on_end. Not from on_bytes. */
void http_cancel(struct http_transfer *t);
/* All that matters has come: on_end follows shortly as ANSWERED, even when the other side leaves
 * its answer open. From on_bytes. */
void http_settle(struct http_transfer *t);

#endif
