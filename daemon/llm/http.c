/* SPDX-License-Identifier: Apache-2.0 */
/* libcurl on libevent; see http.h. */
#include "llm/http.h"

#include <curl/curl.h>
#include <event2/event.h>
#include <fcntl.h>
#include <openssl/ssl.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/str.h"
#include "loop.h"

enum {
    SLICE_NS = 3000000, /* of reading answers, before the loop gets its turn */
    SETTLE_MS = 250
};

struct http {
    struct event_base *base;
    CURLM *multi;
    struct event *timer;
    char *proxy, *ca_file;
    X509_STORE *authorities; /* read once: curl would read them for each connection */
    uint64_t slice_start_ns;
    size_t n_transfers;
};

struct http_transfer {
    struct http *http;
    CURL *easy;
    struct curl_slist *headers;
    struct event *timer;         /* first byte, then between pieces */
    struct event *resume;        /* after a slice that was full */
    struct http_request request; /* its texts are not kept */
    bool first_came, settled;
    char message[CURL_ERROR_SIZE];
};

static uint64_t now_ns(void)
{
    const struct clock *c = clock_system();

    return c->mono_ns(c);
}

static void arm(struct event *timer, double seconds)
{
    struct timeval tv = { .tv_sec = (time_t)seconds };

    tv.tv_usec = (suseconds_t)((seconds - (double)tv.tv_sec) * 1e6);
    event_add(timer, &tv);
}

/* ---- Ends of transfers ---- */

/* Not from inside a callback of curl. */
static void transfer_free(struct http_transfer *t)
{
    if (t->easy != NULL) {
        curl_multi_remove_handle(t->http->multi, t->easy);
        curl_easy_cleanup(t->easy);
    }
    curl_slist_free_all(t->headers);
    if (t->timer != NULL)
        event_free(t->timer);
    if (t->resume != NULL)
        event_free(t->resume);
    t->http->n_transfers--;
    free(t);
}

static void transfer_end(struct http_transfer *t, struct http_result *r)
{
    struct http_request request = t->request;
    curl_off_t after = 0;

    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &r->status);
    if (curl_easy_getinfo(t->easy, CURLINFO_RETRY_AFTER, &after) == CURLE_OK && after > 0)
        r->retry_after_s = (double)after;
    transfer_free(t);
    request.on_end(request.ctx, r);
}

static bool is_unreachable(CURLcode rc)
{
    switch ((int)rc) {
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_PROXY:
        return true;
    default:
        return false;
    }
}

static void transfer_finished(struct http_transfer *t, CURLcode rc)
{
    struct http_result r = { 0 };
    double connected = 0;

    curl_easy_getinfo(t->easy, CURLINFO_CONNECT_TIME, &connected);
    if (rc == CURLE_OK || t->settled)
        r.outcome = HTTP_ANSWERED;
    else if (rc == CURLE_WRITE_ERROR)
        r.outcome = HTTP_STOPPED;
    else if (is_unreachable(rc) || (rc == CURLE_OPERATION_TIMEDOUT && connected <= 0))
        r.outcome = HTTP_UNREACHABLE;
    else
        r.outcome = rc == CURLE_OPERATION_TIMEDOUT ? HTTP_TIMEOUT : HTTP_BROKEN;
    str_copy(r.words, sizeof(r.words), t->message[0] ? t->message : curl_easy_strerror(rc));
    transfer_end(t, &r);
}

static void take_finished(struct http *h)
{
    CURLMsg *m;
    int left;

    while ((m = curl_multi_info_read(h->multi, &left)) != NULL) {
        struct http_transfer *t = NULL;

        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        transfer_finished(t, m->data.result);
    }
}

/* ---- Events ---- */

static void act(struct http *h, curl_socket_t fd, int what)
{
    int running;

    h->slice_start_ns = now_ns();
    curl_multi_socket_action(h->multi, fd, what, &running);
    take_finished(h);
}

static void on_socket(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("llm_http_socket");

    act(arg, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static void on_curl_timer(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("llm_http_timer");

    (void)fd;
    (void)what;
    act(arg, CURL_SOCKET_TIMEOUT, 0);
}

static int watch_socket(CURL *easy, curl_socket_t fd, int what, void *arg, void *old)
{
    struct http *h = arg;
    struct event *e = old;
    short kind = EV_PERSIST;

    (void)easy;
    if (e != NULL)
        event_free(e);
    e = NULL;
    if (what != CURL_POLL_REMOVE) {
        kind |= what & CURL_POLL_IN ? EV_READ : 0;
        kind |= what & CURL_POLL_OUT ? EV_WRITE : 0;
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        e = event_new(h->base, fd, kind, on_socket, h);
        if (e == NULL || event_add(e, NULL) != 0)
            abort();
    }
    curl_multi_assign(h->multi, fd, e);
    return 0;
}

static int set_timer(CURLM *multi, long ms, void *arg)
{
    struct http *h = arg;

    (void)multi;
    if (ms < 0)
        event_del(h->timer);
    else
        arm(h->timer, (double)ms / 1e3);
    return 0;
}

static void on_too_slow(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("llm_http_slow");
    struct http_transfer *t = arg;
    struct http_result r = { .outcome = t->settled ? HTTP_ANSWERED : HTTP_TIMEOUT };

    (void)fd;
    (void)what;
    if (t->first_came)
        snprintf(r.words, sizeof(r.words), "nothing came for %g s in the middle of the answer",
                 t->request.idle_s);
    else
        snprintf(r.words, sizeof(r.words), "no answer began within %g s", t->request.first_s);
    transfer_end(t, &r);
}

static void on_resume(evutil_socket_t fd, short what, void *arg)
{
    LOOP_CALLBACK("llm_http_resume");
    struct http_transfer *t = arg;
    struct http *h = t->http;

    (void)fd;
    (void)what;
    h->slice_start_ns = now_ns();
    curl_easy_pause(t->easy, CURLPAUSE_CONT); /* calls on_body */
    take_finished(h);
}

/* ---- One transfer ---- */

static bool is_stream(CURL *easy)
{
    static const char type[] = "text/event-stream";
    char *said = NULL;

    curl_easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &said);
    return said != NULL && strncasecmp(said, type, sizeof(type) - 1) == 0;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *arg)
{
    struct http_transfer *t = arg;
    long status = 0;

    if (now_ns() - t->http->slice_start_ns > SLICE_NS) {
        arm(t->resume, 0);
        return CURL_WRITEFUNC_PAUSE;
    }
    if (!t->settled) {
        t->first_came = true;
        arm(t->timer, t->request.idle_s);
    }
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (t->request.on_bytes(t->request.ctx, status, is_stream(t->easy), bytes, size * n) != 0)
        return size * n + 1; /* CURLE_WRITE_ERROR */
    return size * n;
}

static curl_socket_t open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *a)
{
    (void)arg;
    (void)purpose;
    return socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol);
}

static CURLcode use_authorities(CURL *easy, void *ssl_ctx, void *arg)
{
    struct http *h = arg;

    (void)easy;
    SSL_CTX_set1_cert_store(ssl_ctx, h->authorities);
    return CURLE_OK;
}

static void set_tls(struct http *h, CURL *e)
{
    if (h->authorities != NULL &&
        curl_easy_setopt(e, CURLOPT_SSL_CTX_FUNCTION, use_authorities) == CURLE_OK) {
        curl_easy_setopt(e, CURLOPT_SSL_CTX_DATA, h);
        curl_easy_setopt(e, CURLOPT_CAINFO, NULL);
        curl_easy_setopt(e, CURLOPT_CAPATH, NULL);
    } else if (h->ca_file[0] != '\0') {
        curl_easy_setopt(e, CURLOPT_CAINFO, h->ca_file);
    }
}

static bool set_headers(struct http_transfer *t, const char *key)
{
    CLEANUP(freep) char *bearer = str_printf("Authorization: Bearer %s", key);
    const char *const lines[] = { "Content-Type: application/json",
                                  "Expect:", key[0] != '\0' ? bearer : NULL };

    for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
        struct curl_slist *longer = lines[i] ? curl_slist_append(t->headers, lines[i]) : t->headers;

        if (longer == NULL)
            return false;
        t->headers = longer;
    }
    return bearer != NULL;
}

static CURLcode set_options(struct http_transfer *t, const struct http_request *r)
{
    struct http *h = t->http;
    CURL *e = t->easy;

    curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(e, CURLOPT_USERAGENT, "ksearchd/" KS_VERSION);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->message);
    curl_easy_setopt(e, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->headers);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, (long)(r->connect_s * 1e3) + 1);
    curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, (long)(r->total_s * 1e3) + 1);
    if (h->proxy[0] != '\0')
        curl_easy_setopt(e, CURLOPT_PROXY, h->proxy);
    set_tls(h, e);
    curl_easy_setopt(e, CURLOPT_POST, 1L);
    curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)strlen(r->body));
    if (curl_easy_setopt(e, CURLOPT_COPYPOSTFIELDS, r->body) != CURLE_OK)
        return CURLE_OUT_OF_MEMORY;
    return curl_easy_setopt(e, CURLOPT_URL, r->url);
}

int http_start(struct http *h, const struct http_request *r, struct http_transfer **out,
               struct err *err)
{
    struct http_transfer *t = xcalloc(1, sizeof(*t));

    t->http = h;
    t->request = *r;
    h->n_transfers++;
    t->easy = curl_easy_init();
    t->timer = evtimer_new(h->base, on_too_slow, t);
    t->resume = evtimer_new(h->base, on_resume, t);
    if (t->easy == NULL || t->timer == NULL || t->resume == NULL || !set_headers(t, r->key) ||
        set_options(t, r) != CURLE_OK || curl_multi_add_handle(h->multi, t->easy) != CURLM_OK) {
        transfer_free(t);
        return err_set(err, ERR_NOMEM, "no memory for a request to '%.100s'", r->url);
    }
    t->request.url = t->request.body = t->request.key = NULL;
    arm(t->timer, r->first_s);
    *out = t;
    return 0;
}

void http_cancel(struct http_transfer *t)
{
    transfer_free(t);
}

void http_settle(struct http_transfer *t)
{
    if (t->settled)
        return;
    t->settled = true;
    arm(t->timer, SETTLE_MS / 1e3);
}

/* ---- Life ---- */

/* The file that was named, or where curl was built to look. */
static int load_authorities(struct http *h, struct err *err)
{
    const curl_version_info_data *v = curl_version_info(CURLVERSION_NOW);
    const char *file = h->ca_file[0] != '\0' ? h->ca_file : v->cainfo;

    h->authorities = X509_STORE_new();
    if (h->authorities == NULL)
        return err_set(err, ERR_NOMEM, "no memory for certificates");
    if (h->ca_file[0] != '\0' && !file_exists(h->ca_file))
        return err_set(err, ERR_NOT_FOUND, "'llm_ca_file' is '%.200s', which does not exist",
                       h->ca_file);
    if (file != NULL && X509_STORE_load_file(h->authorities, file) == 1)
        return 0;
    if (h->ca_file[0] != '\0')
        return err_set(err, ERR_INVALID,
                       "'llm_ca_file' is '%.200s', which holds no certificates in PEM form",
                       h->ca_file);
    if (v->capath != NULL)
        X509_STORE_load_path(h->authorities, v->capath);
    return 0; /* without any, requests fail and say that the certificate is not known */
}

/* curl's own descriptors, which wake a multi handle, are not close-on-exec: children would get
 * them. */
static CURLM *multi_new(void)
{
    enum { LOOKED_AT = 1024 };
    bool open_before[LOOKED_AT];
    CURLM *multi;

    for (int fd = 0; fd < LOOKED_AT; fd++)
        open_before[fd] = fcntl(fd, F_GETFD) >= 0;
    multi = curl_multi_init();
    for (int fd = 3; fd < LOOKED_AT; fd++)
        if (!open_before[fd] && fcntl(fd, F_GETFD) >= 0)
            fcntl(fd, F_SETFD, FD_CLOEXEC);
    return multi;
}

int http_new(struct event_base *base, const char *proxy, const char *ca_file, bool tls,
             struct http **out, struct err *err)
{
    struct http *h = xcalloc(1, sizeof(*h));

    h->base = base;
    h->proxy = xstrdup(proxy);
    h->ca_file = xstrdup(ca_file);
    if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK)
        h->multi = multi_new();
    h->timer = evtimer_new(base, on_curl_timer, h);
    if (h->multi == NULL || h->timer == NULL) {
        http_free(h);
        return err_set(err, ERR_NOMEM, "no memory for requests to models");
    }
    if (tls && load_authorities(h, err) != 0) {
        http_free(h);
        return -1;
    }
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, watch_socket);
    curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
    *out = h;
    return 0;
}

void http_free(struct http *h)
{
    if (h == NULL)
        return;
    if (h->multi != NULL)
        curl_multi_cleanup(h->multi); /* closes kept connections: needs the timer */
    if (h->timer != NULL)
        event_free(h->timer);
    X509_STORE_free(h->authorities);
    free(h->proxy);
    free(h->ca_file);
    free(h);
}
