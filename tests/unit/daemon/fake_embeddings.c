/* SPDX-License-Identifier: Apache-2.0 */
/* A service of embeddings for tests; see fake_embeddings.h. */
#include "fake_embeddings.h"

#include "unit/test.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"

enum { REQUEST_MAX = 4 << 20, SILENT_MAX = 64 };

struct fake {
    int fd;
    pthread_t thread;
    atomic_bool stop;
    atomic_int mood;
    atomic_size_t requests, texts;
    size_t dim;
    char *key;
    char url[64];
    int silent[SILENT_MAX]; /* connections that wait for an answer */
    size_t n_silent;
};

static size_t word_place(const char *word, size_t len, size_t dim)
{
    uint64_t h = 1469598103934665603ull;

    for (size_t i = 0; i < len; i++)
        h = (h ^ (unsigned char)tolower((unsigned char)word[i])) * 1099511628211ull;
    return (size_t)(h >> 20) % dim;
}

static json_t *vector_of(const char *text, size_t dim)
{
    double *x = xcalloc(dim, sizeof(*x));
    json_t *v = json_array();

    while (*text) {
        size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789");

        if (n > 0)
            x[word_place(text, n, dim)] += 1;
        text += n > 0 ? n : 1;
    }
    for (size_t i = 0; i < dim; i++)
        json_array_append_new(v, json_real(x[i]));
    free(x);
    return v;
}

static char *good_body(struct fake *f, const json_t *request, enum fake_mood mood)
{
    const json_t *input = json_object_get(request, "input");
    size_t dim = (size_t)jsonx_int(request, "dimensions", (long long)f->dim);
    json_auto_t *reply = json_object();
    json_t *data = json_array();
    size_t n = json_array_size(input) - (mood == FAKE_FEW);

    /* Backwards: the index says whose vector it is. */
    for (size_t i = n; i-- > 0;) {
        json_t *v =
            vector_of(json_string_value(json_array_get(input, i)), dim + (mood == FAKE_WRONG_DIM));

        if (mood == FAKE_NAN)
            json_array_set_new(v, 0, json_string("NaN"));
        json_array_append_new(data, json_pack("{s:s, s:I, s:o}", "object", "embedding", "index",
                                              (json_int_t)i, "embedding", v));
    }
    json_object_set_new(reply, "object", json_string("list"));
    json_object_set_new(reply, "data", data);
    if (mood == FAKE_GOOD || mood == FAKE_PICKY)
        f->texts += n;
    return json_dumps(reply, JSON_COMPACT);
}

static void respond(int fd, int status, const char *body)
{
    CLEANUP(freep)
    char *head =
        str_printf("HTTP/1.1 %d Said\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                   "Connection: close\r\n\r\n",
                   status, strlen(body));

    if (send(fd, head, strlen(head), MSG_NOSIGNAL) > 0)
        for (size_t sent = 0; sent < strlen(body);) {
            ssize_t n = send(fd, body + sent, strlen(body) - sent, MSG_NOSIGNAL);

            if (n <= 0)
                break;
            sent += (size_t)n;
        }
}

static bool is_poisoned(const json_t *request)
{
    json_t *text;
    size_t i;

    json_array_foreach (json_object_get(request, "input"), i, text)
        if (strstr(json_string_value(text), "poison"))
            return true;
    return false;
}

/* True when the connection is to stay open without an answer. */
static bool answer(struct fake *f, int fd, const char *head, const char *body, size_t len)
{
    CLEANUP(freep) char *auth = str_printf("Authorization: Bearer %s\r\n", f->key ? f->key : "");
    CLEANUP(freep) char *reply = NULL;
    json_auto_t *request = NULL;
    enum fake_mood mood = (enum fake_mood)atomic_load(&f->mood);
    struct err err;

    f->requests++;
    if (!str_has_prefix(head, "POST /v1/embeddings HTTP/1.1\r\n") ||
        jsonx_parse(body, len, "the request", &request, &err) != 0 ||
        strcmp(jsonx_str(request, "encoding_format", ""), "float") != 0 ||
        jsonx_str(request, "model", NULL) == NULL) {
        respond(fd, 404, "{\"error\":{\"message\":\"no such thing\"}}");
        return false;
    }
    if (f->key && !strstr(head, auth)) {
        const char *given = strstr(head, "Bearer ");
        CLEANUP(freep)
        char *refused = str_printf("{\"error\":{\"message\":\"who is '%.*s'?\"}}",
                                   given ? (int)strcspn(given, "\r\n") : 0, given ? given : "");

        respond(fd, 401, refused);
        return false;
    }
    switch (mood) {
    case FAKE_DOWN:
        respond(fd, 500, "{\"error\":{\"message\":\"out of order\"}}");
        return false;
    case FAKE_BUSY:
        respond(fd, 429, "<html>too many\x01\xff</html>");
        return false;
    case FAKE_SILENT:
        return true;
    case FAKE_GARBAGE:
        respond(fd, 200, "<html>welcome</html>");
        return false;
    case FAKE_GONE:
        return false;
    case FAKE_PICKY:
        if (is_poisoned(request)) {
            respond(fd, 400, "{\"error\":{\"message\":\"I do not like this\"}}");
            return false;
        }
        break;
    case FAKE_GOOD:
    case FAKE_WRONG_DIM:
    case FAKE_FEW:
    case FAKE_NAN:
        break;
    }
    reply = good_body(f, request, mood);
    respond(fd, 200, reply);
    return false;
}

/* Reads one request; returns whether the connection stays open. */
static bool serve_one(struct fake *f, int fd)
{
    CLEANUP(buf_release) struct buf in = { .max = REQUEST_MAX };
    char chunk[16384], *end;
    struct err err;
    size_t length;
    ssize_t n;

    for (;;) {
        n = recv(fd, chunk, sizeof(chunk), 0);
        if (n <= 0 || buf_add(&in, chunk, (size_t)n, &err) != 0)
            return false;
        end = strstr(buf_str(&in), "\r\n\r\n");
        if (end == NULL)
            continue;
        length =
            strtoul(strstr(in.data, "Content-Length: ") + strlen("Content-Length: "), NULL, 10);
        if (strcasestr(in.data, "Expect: 100-continue") && (size_t)(end + 4 - in.data) == in.len)
            send(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
        if (in.len - (size_t)(end + 4 - in.data) >= length)
            return answer(f, fd, in.data, end + 4, length);
    }
}

static void *serve(void *arg)
{
    struct fake *f = arg;

    while (!atomic_load(&f->stop)) {
        int fd = accept(f->fd, NULL, NULL);

        if (fd < 0)
            continue;
        if (!atomic_load(&f->stop) && serve_one(f, fd) && f->n_silent < SILENT_MAX)
            f->silent[f->n_silent++] = fd;
        else
            close(fd);
    }
    return NULL;
}

struct fake *fake_start(size_t dim, const char *key)
{
    struct sockaddr_in at = { .sin_family = AF_INET };
    socklen_t len = sizeof(at);
    struct fake *f = xcalloc(1, sizeof(*f));

    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    f->dim = dim;
    f->key = key ? xstrdup(key) : NULL;
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(f->fd >= 0 && bind(f->fd, (struct sockaddr *)&at, sizeof(at)) == 0);
    assert_true(listen(f->fd, 64) == 0 && getsockname(f->fd, (struct sockaddr *)&at, &len) == 0);
    snprintf(f->url, sizeof(f->url), "http://127.0.0.1:%d", ntohs(at.sin_port));
    assert_int_equal(pthread_create(&f->thread, NULL, serve, f), 0);
    return f;
}

void fake_stop(struct fake *f)
{
    atomic_store(&f->stop, true);
    shutdown(f->fd, SHUT_RDWR); /* ends accept */
    pthread_join(f->thread, NULL);
    for (size_t i = 0; i < f->n_silent; i++)
        close(f->silent[i]);
    close(f->fd);
    free(f->key);
    free(f);
}

const char *fake_url(const struct fake *f)
{
    return f->url;
}

void fake_set_mood(struct fake *f, enum fake_mood mood)
{
    atomic_store(&f->mood, (int)mood);
}

size_t fake_requests(const struct fake *f)
{
    return atomic_load(&f->requests);
}

size_t fake_texts(const struct fake *f)
{
    return atomic_load(&f->texts);
}
