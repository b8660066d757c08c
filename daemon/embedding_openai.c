/* SPDX-License-Identifier: Apache-2.0 */
/* Requests to an embeddings service; see embedding_openai.h. */
#include "embedding_openai.h"

#include <curl/curl.h>
#include <jansson.h>
#include <string.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "secret.h"

enum {
    REPLY_MAX = 64 << 20,
    DIM_MAX = 65536,
    SHOWN_MAX = 160 /* bytes of a service's own words in a sentence */
};

struct openai_client {
    CURL *curl;
    char message[CURL_ERROR_SIZE];
};

struct openai_client *openai_client_new(void)
{
    struct openai_client *c = calloc(1, sizeof(*c));

    if (c == NULL)
        return NULL;
    c->curl = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK ? curl_easy_init() : NULL;
    if (c->curl == NULL) {
        free(c);
        return NULL;
    }
    return c;
}

void openai_client_free(struct openai_client *c)
{
    if (c == NULL)
        return;
    curl_easy_cleanup(c->curl);
    free(c);
}

/* ---- The answer ---- */

static int parse_vector(const json_t *v, size_t *dim, struct embedding *out, struct err *err)
{
    size_t n = json_array_size(v);
    CLEANUP(freep) double *x = NULL;

    if (n == 0 || n > DIM_MAX)
        return err_set(err, ERR_UPSTREAM, "a vector has %zu numbers; 1 to %d are allowed", n,
                       DIM_MAX);
    if (*dim != 0 && n != *dim)
        return err_set(err, ERR_UPSTREAM, "a vector has %zu numbers, not %zu", n, *dim);
    x = malloc(n * sizeof(*x));
    if (x == NULL)
        return err_set(err, ERR_NOMEM, "no memory for a vector");
    for (size_t i = 0; i < n; i++) {
        const json_t *number = json_array_get(v, i);

        if (!json_is_number(number))
            return err_set(err, ERR_UPSTREAM, "a vector holds something that is no number");
        x[i] = json_number_value(number);
    }
    *dim = n;
    if (embed_project(x, n, out, err) != 0) {
        err->code = ERR_UPSTREAM;
        return -1;
    }
    return 0;
}

static int parse_item(const json_t *item, size_t place, size_t n, bool *seen, size_t *dim,
                      struct embedding *out, struct err *err)
{
    json_int_t index = jsonx_int(item, "index", (long long)place);

    if (index < 0 || (size_t)index >= n || seen[index])
        return err_set(err, ERR_UPSTREAM, "vector %zu is said to be of text %lld of %zu", place + 1,
                       (long long)index, n);
    seen[index] = true;
    return parse_vector(json_object_get(item, "embedding"), dim, &out[index], err);
}

int openai_parse(const char *body, size_t len, size_t n, size_t *dim, struct embedding *out,
                 struct err *err)
{
    CLEANUP(freep) bool *seen = calloc(n + 1, sizeof(*seen));
    json_auto_t *reply = NULL;
    const json_t *data;
    size_t found = *dim;

    if (seen == NULL)
        return err_set(err, ERR_NOMEM, "no memory for %zu vectors", n);
    if (jsonx_parse(body, len, "the answer", &reply, err) != 0) {
        err->code = ERR_UPSTREAM;
        return -1;
    }
    data = json_object_get(reply, "data");
    if (!json_is_array(data) || json_array_size(data) != n)
        return err_set(err, ERR_UPSTREAM, "the answer has %zu vectors for %zu texts",
                       json_array_size(data), n);
    for (size_t i = 0; i < n; i++)
        if (parse_item(json_array_get(data, i), i, n, seen, &found, out, err) != 0)
            return -1;
    *dim = found;
    return 0;
}

/* ---- The request ---- */

static char *request_body(const struct openai_config *config, const char *const *texts, size_t n)
{
    json_auto_t *body = json_object();
    json_t *input = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(input, json_string(texts[i]));
    if (json_array_size(input) != n) { /* a text that is no UTF-8, or no memory */
        json_decref(input);
        return NULL;
    }
    json_object_set_new(body, "model", json_string(config->model));
    json_object_set_new(body, "input", input);
    json_object_set_new(body, "encoding_format", json_string("float"));
    if (config->dimensions > 0)
        json_object_set_new(body, "dimensions", json_integer((json_int_t)config->dimensions));
    return json_dumps(body, JSON_COMPACT);
}

/* {url}/v1/embeddings, whether `url` ends in "/", "/v1" or neither. */
static char *request_url(const char *url)
{
    size_t len = strlen(url);

    while (len > 0 && url[len - 1] == '/')
        len--;
    if (len >= 3 && strncmp(url + len - 3, "/v1", 3) == 0)
        len -= 3;
    return str_printf("%.*s/v1/embeddings", (int)len, url);
}

static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
    struct err ignored; /* curl says that writing failed */

    return buf_add(arg, bytes, size * n, &ignored) == 0 ? size * n : 0;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    const atomic_bool *stop = arg;

    (void)a, (void)b, (void)c, (void)d;
    return stop != NULL && atomic_load(stop);
}

static struct curl_slist *headers_of(const struct openai_config *config)
{
    CLEANUP(freep) char *key = str_printf("Authorization: Bearer %s", config->key);
    struct curl_slist *list = curl_slist_append(NULL, "Content-Type: application/json"), *longer;

    if (config->key[0] == '\0' || key == NULL || list == NULL)
        return list;
    longer = curl_slist_append(list, key);
    return longer ? longer : list;
}

/* The service's own words: error.message where it keeps to the form, else the beginning. Some
 * repeat the key that they refuse, which belongs into no log. */
static char *reply_words(const struct buf *reply, const char *key, char out[SHOWN_MAX])
{
    struct err ignored;
    json_auto_t *j = NULL;
    const char *words = NULL;

    if (reply->len > 0 && jsonx_parse(reply->data, reply->len, "", &j, &ignored) == 0)
        words = jsonx_str(json_object_get(j, "error"), "message", NULL);
    if (words == NULL)
        words = reply->len > 0 ? reply->data : "nothing";
    str_visible(words, strnlen(words, SHOWN_MAX), out, SHOWN_MAX);
    secret_redact(key, out, strlen(out));
    return out;
}

static enum openai_fault fault_of_status(long status)
{
    if (status == 400 || status == 413 || status == 422)
        return OPENAI_INPUT;
    return status == 408 || status == 429 || status >= 500 ? OPENAI_LATER : OPENAI_REFUSED;
}

static int judge_status(const char *url, const char *key, long status, const struct buf *reply,
                        enum openai_fault *fault, struct err *err)
{
    char words[SHOWN_MAX];

    if (status >= 200 && status < 300)
        return 0;
    *fault = fault_of_status(status);
    return err_set(err, ERR_UPSTREAM, "the embedding provider at '%.100s' answered %ld%s: %s", url,
                   status,
                   status == 401 || status == 403 ? " (the key is missing or is not accepted)" : "",
                   reply_words(reply, key, words));
}

static void set_options(struct openai_client *c, const char *url, const char *body,
                        struct curl_slist *headers, double timeout_s, const atomic_bool *stop,
                        struct buf *reply)
{
    CURL *h = c->curl;

    curl_easy_reset(h);
    c->message[0] = '\0';
    curl_easy_setopt(h, CURLOPT_URL, url);
    curl_easy_setopt(h, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(h, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(h, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h, CURLOPT_USERAGENT, "ksearchd/" KS_VERSION);
    curl_easy_setopt(h, CURLOPT_TIMEOUT_MS, (long)(timeout_s * 1000) + 1);
    curl_easy_setopt(h, CURLOPT_ERRORBUFFER, c->message);
    curl_easy_setopt(h, CURLOPT_WRITEFUNCTION, on_bytes);
    curl_easy_setopt(h, CURLOPT_WRITEDATA, reply);
    curl_easy_setopt(h, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(h, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(h, CURLOPT_XFERINFODATA, (void *)stop);
}

static int post(struct openai_client *c, const struct openai_config *config, const char *url,
                const char *body, double timeout_s, const atomic_bool *stop, struct buf *reply,
                enum openai_fault *fault, struct err *err)
{
    struct curl_slist *headers = headers_of(config);
    long status = 0;
    CURLcode rc;

    set_options(c, url, body, headers, timeout_s, stop, reply);
    rc = curl_easy_perform(c->curl);
    curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, NULL);
    curl_slist_free_all(headers);
    if (rc == CURLE_ABORTED_BY_CALLBACK)
        return err_set(err, ERR_CANCELLED, "the daemon is stopping");
    if (rc != CURLE_OK)
        return err_set(err, ERR_UPSTREAM, "the embedding provider at '%.100s' cannot be asked: %s",
                       url, c->message[0] ? c->message : curl_easy_strerror(rc));
    return judge_status(url, config->key, status, reply, fault, err);
}

int openai_embed(struct openai_client *c, const struct openai_config *config,
                 const char *const *texts, size_t n, double timeout_s, const atomic_bool *stop,
                 size_t *dim, struct embedding *out, enum openai_fault *fault, struct err *err)
{
    CLEANUP(buf_release) struct buf reply = { .max = REPLY_MAX };
    CLEANUP(freep) char *url = request_url(config->url);
    CLEANUP(freep) char *body = request_body(config, texts, n);
    size_t wanted = config->dimensions > 0 ? (size_t)config->dimensions : *dim;

    *fault = OPENAI_LATER;
    if (url == NULL || body == NULL)
        return err_set(err, ERR_NOMEM, "no memory to ask for %zu embeddings", n);
    if (post(c, config, url, body, timeout_s, stop, &reply, fault, err) != 0)
        return -1;
    if (openai_parse(buf_str(&reply), reply.len, n, &wanted, out, err) != 0)
        return err->code == ERR_UPSTREAM ? err_ctx(err, "the embedding provider at '%.100s'", url)
                                         : -1;
    *dim = wanted;
    return 0;
}
