/* SPDX-License-Identifier: Apache-2.0 */
/* An endpoint of language models for tests; see fake_llm.h. */
#include "fake_llm.h"

#include "unit/test.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"

enum { REQUEST_MAX = 4 << 20, CONNECTIONS_MAX = 512, WAIT_STEP_MS = 2 };

struct asked {
    char *head, *body;
    uint64_t time_ns;
};

struct connection {
    struct fake_llm *f;
    int fd;
    SSL *ssl;
    pthread_t thread;
};

struct fake_llm {
    int fd;
    pthread_t thread;
    atomic_bool stop;
    SSL_CTX *tls;
    char url[64];
    pthread_mutex_t lock; /* of all below */
    const struct fake_reply *replies;
    fake_llm_fn *think; /* NULL: by the script */
    void *think_ctx;
    size_t n_replies, n_asked, open, most_open;
    struct asked asked[CONNECTIONS_MAX];
    struct connection *connections[CONNECTIONS_MAX];
    size_t n_connections;
};

/* ---- Bytes ---- */

static bool send_all(struct connection *c, const char *bytes, size_t len)
{
    while (len > 0) {
        ssize_t n =
            c->ssl ? SSL_write(c->ssl, bytes, (int)len) : send(c->fd, bytes, len, MSG_NOSIGNAL);

        if (n <= 0)
            return false;
        bytes += n;
        len -= (size_t)n;
    }
    return true;
}

static ssize_t receive(struct connection *c, char *out, size_t size)
{
    return c->ssl ? SSL_read(c->ssl, out, (int)size) : recv(c->fd, out, size, 0);
}

static void wait_ms(struct fake_llm *f, unsigned ms)
{
    for (unsigned i = 0; i < ms && !atomic_load(&f->stop); i += WAIT_STEP_MS)
        usleep(WAIT_STEP_MS * 1000);
}

/* Until the other side or the test has enough. */
static void hold(struct connection *c)
{
    char byte;

    while (!atomic_load(&c->f->stop) && recv(c->fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) != 0)
        usleep(WAIT_STEP_MS * 1000);
}

/* ---- One request ---- */

static bool is_stream(const char *body)
{
    return str_has_prefix(body, "data:") || str_has_prefix(body, "event:") || body[0] == ':';
}

static void reply(struct connection *c, const struct fake_reply *r)
{
    size_t len = r->body ? strlen(r->body) : 0, piece = r->piece ? r->piece : len;
    CLEANUP(freep)
    char *head = str_printf("HTTP/1.1 %d Said\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n"
                            "Connection: close\r\n%s\r\n",
                            r->status,
                            r->body && is_stream(r->body) ? "text/event-stream; charset=utf-8"
                                                          : "application/json",
                            r->headers ? r->headers : "");
    bool good = r->status != 0 && !r->silent && send_all(c, head, strlen(head));

    for (size_t sent = 0; good && sent < len; sent += piece) {
        size_t n = MIN(piece, len - sent);
        CLEANUP(freep) char *chunk = str_printf("%zx\r\n%.*s\r\n", n, (int)n, r->body + sent);

        if (sent > 0)
            wait_ms(c->f, r->pause_ms);
        good = send_all(c, chunk, strlen(chunk)) && !atomic_load(&c->f->stop);
    }
    pthread_mutex_lock(&c->f->lock); /* before the other side can know that this one is over */
    c->f->open--;
    pthread_mutex_unlock(&c->f->lock);
    if (r->holds || r->silent)
        hold(c);
    else if (good && !r->breaks)
        send_all(c, "0\r\n\r\n", 5);
}

/* Notes it; the script's reply, when there is a script. */
static struct fake_reply note_request(struct fake_llm *f, const char *head, const char *body)
{
    const struct clock *clock = clock_system();
    struct fake_reply r = { 0 };
    struct asked *a;

    pthread_mutex_lock(&f->lock);
    if (f->think == NULL)
        r = f->replies[MIN(f->n_asked, f->n_replies - 1)];
    a = &f->asked[MIN(f->n_asked, (size_t)CONNECTIONS_MAX - 1)];
    free(a->head);
    free(a->body);
    *a = (struct asked){ xstrdup(head), xstrdup(body), clock->mono_ns(clock) };
    f->n_asked++;
    f->open++;
    f->most_open = MAX(f->most_open, f->open);
    pthread_mutex_unlock(&f->lock);
    return r;
}

static void serve_request(struct connection *c)
{
    CLEANUP(buf_release) struct buf in = { .max = REQUEST_MAX };
    CLEANUP(freep) char *owned = NULL;
    struct fake_reply r;
    char chunk[16384], *end, *length;
    struct err err;
    ssize_t n;

    for (;;) {
        n = receive(c, chunk, sizeof(chunk));
        if (n <= 0 || buf_add(&in, chunk, (size_t)n, &err) != 0)
            return;
        end = strstr(buf_str(&in), "\r\n\r\n");
        length = strstr(in.data, "Content-Length: ");
        if (end == NULL || length == NULL)
            continue;
        if (in.len - (size_t)(end + 4 - in.data) >= strtoul(length + 16, NULL, 10))
            break;
    }
    end[2] = '\0';
    r = note_request(c->f, in.data, end + 4);
    if (c->f->think != NULL)
        c->f->think(c->f->think_ctx, in.data, end + 4, &r, &owned);
    reply(c, &r);
}

static void *serve_connection(void *arg)
{
    struct connection *c = arg;

    if (c->f->tls != NULL) {
        c->ssl = SSL_new(c->f->tls);
        SSL_set_fd(c->ssl, c->fd);
    }
    if (c->ssl == NULL || SSL_accept(c->ssl) == 1)
        serve_request(c);
    if (c->ssl != NULL) {
        SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    shutdown(c->fd, SHUT_RDWR);
    close(c->fd);
    return NULL;
}

static void *serve(void *arg)
{
    struct fake_llm *f = arg;

    while (!atomic_load(&f->stop)) {
        int fd = accept(f->fd, NULL, NULL);
        struct connection *c;

        if (fd < 0)
            continue;
        if (atomic_load(&f->stop) || f->n_connections == CONNECTIONS_MAX) {
            close(fd);
            continue;
        }
        c = xcalloc(1, sizeof(*c));
        c->f = f;
        c->fd = fd;
        f->connections[f->n_connections++] = c;
        if (pthread_create(&c->thread, NULL, serve_connection, c) != 0)
            abort();
    }
    return NULL;
}

/* ---- TLS ---- */

/* A certificate that vouches for itself, for 127.0.0.1. */
static X509 *make_certificate(EVP_PKEY *key)
{
    X509 *x = X509_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");

    assert_non_null(x);
    assert_non_null(names);
    X509_set_version(x, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
    X509_gmtime_adj(X509_getm_notBefore(x), -3600);
    X509_gmtime_adj(X509_getm_notAfter(x), 3600);
    X509_set_pubkey(x, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC,
                               (const unsigned char *)"fake", -1, -1, 0);
    X509_set_issuer_name(x, X509_get_subject_name(x));
    X509_add_ext(x, names, -1);
    X509_EXTENSION_free(names);
    assert_true(X509_sign(x, key, EVP_sha256()) > 0);
    return x;
}

static SSL_CTX *make_tls(const char *ca_file)
{
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *x = make_certificate(key);
    FILE *out = fopen(ca_file, "we");

    assert_non_null(out);
    assert_int_equal(PEM_write_X509(out, x), 1);
    fclose(out);
    assert_int_equal(SSL_CTX_use_certificate(ctx, x), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(x);
    EVP_PKEY_free(key);
    return ctx;
}

/* ---- Life ---- */

static struct fake_llm *start(SSL_CTX *tls)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof(at);
    struct fake_llm *f = xcalloc(1, sizeof(*f));

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->tls = tls;
    pthread_mutex_init(&f->lock, NULL);
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(f->fd >= 0 && bind(f->fd, (struct sockaddr *)&at, sizeof(at)) == 0);
    assert_true(listen(f->fd, 256) == 0 && getsockname(f->fd, (struct sockaddr *)&at, &len) == 0);
    snprintf(f->url, sizeof(f->url), "http%s://127.0.0.1:%d", tls ? "s" : "", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
    return f;
}

struct fake_llm *fake_llm_start(void)
{
    return start(NULL);
}

struct fake_llm *fake_llm_start_tls(const char *ca_file)
{
    return start(make_tls(ca_file));
}

static void forget_requests(struct fake_llm *f)
{
    for (size_t i = 0; i < CONNECTIONS_MAX; i++) {
        free(f->asked[i].head);
        free(f->asked[i].body);
        f->asked[i] = (struct asked){ 0 };
    }
    f->n_asked = f->most_open = 0;
}

void fake_llm_stop(struct fake_llm *f)
{
    atomic_store(&f->stop, true);
    shutdown(f->fd, SHUT_RDWR); /* ends accept */
    pthread_join(f->thread, NULL);
    for (size_t i = 0; i < f->n_connections; i++) {
        pthread_join(f->connections[i]->thread, NULL);
        free(f->connections[i]);
    }
    close(f->fd);
    forget_requests(f);
    SSL_CTX_free(f->tls);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

const char *fake_llm_url(const struct fake_llm *f)
{
    return f->url;
}

void fake_llm_script(struct fake_llm *f, const struct fake_reply *replies, size_t n)
{
    pthread_mutex_lock(&f->lock);
    f->replies = replies;
    f->n_replies = n;
    f->think = NULL;
    forget_requests(f);
    pthread_mutex_unlock(&f->lock);
}

void fake_llm_think(struct fake_llm *f, fake_llm_fn *fn, void *ctx)
{
    pthread_mutex_lock(&f->lock);
    f->think = fn;
    f->think_ctx = ctx;
    forget_requests(f);
    pthread_mutex_unlock(&f->lock);
}

size_t fake_llm_requests(struct fake_llm *f)
{
    size_t n;

    pthread_mutex_lock(&f->lock);
    n = f->n_asked;
    pthread_mutex_unlock(&f->lock);
    return n;
}

size_t fake_llm_most_open(struct fake_llm *f)
{
    size_t n;

    pthread_mutex_lock(&f->lock);
    n = f->most_open;
    pthread_mutex_unlock(&f->lock);
    return n;
}

const char *fake_llm_head(struct fake_llm *f, size_t i)
{
    assert_true(i < fake_llm_requests(f));
    return f->asked[i].head;
}

const char *fake_llm_body(struct fake_llm *f, size_t i)
{
    assert_true(i < fake_llm_requests(f));
    return f->asked[i].body;
}

uint64_t fake_llm_time_ns(struct fake_llm *f, size_t i)
{
    assert_true(i < fake_llm_requests(f));
    return f->asked[i].time_ns;
}
