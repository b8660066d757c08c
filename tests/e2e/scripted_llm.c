/* SPDX-License-Identifier: Apache-2.0 */
/* A scripted language model behind an endpoint; see scripted_llm.h. */
#include "e2e/scripted_llm.h"

#include <jansson.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "unit/llm/fake_llm.h"
#include "unit/test.h"

enum {
    GATHER_MS = 20000,
    GATHER_STEP_MS = 2,
    STREAM_PIECE = 40,
    STREAM_MAX = 1 << 20,
    DRIP_BYTES = 4,
    DRIP_MS = 1000
};

struct scripted_llm {
    struct fake_llm *f;
    pthread_mutex_t lock; /* of all below */
    enum scripted_mood mood;
    size_t thought, drip, answered;
    unsigned gather, open, most;
    bool stopping;
};

static uint32_t hash_of(const char *text)
{
    uint32_t h = 2166136261u;

    for (; *text; text++)
        h = (h ^ (unsigned char)*text) * 16777619u;
    return h;
}

/* ---- What it says ---- */

static void insert(json_t *ops, const char *parent, uint32_t h, unsigned i, double score)
{
    static const char *const titles[] = { "use wide vectors", "split the work over threads",
                                          "fetch ahead", "store past the cache" };
    char id[32], title[96];

    snprintf(id, sizeof(id), "m%08x%u", h, i);
    snprintf(title, sizeof(title), "%s, variant %u", titles[(h + i) % ARRAY_LEN(titles)],
             h % 1000 + i);
    json_array_append_new(
        ops, json_pack("{s:s, s:s, s:{s:s, s:s, s:s, s:f, s:f, s:{s:s, s:s, s:s, s:i, s:f, s:f}}}",
                       "op", "insert_node", "parent_id", parent, "node", "node_id", id, "decision",
                       "what next", "choice", title, "overall_rating_0_to_10", 10 * score,
                       "confidence_0_to_1", 0.5, "action", "title", title, "description",
                       "carry it out", "rationale", "a bet", "difficulty_1_to_5", 2, "score_0_to_1",
                       score, "expected_vs_baseline_factor", 1.5));
}

/* The word after "Node: "; the root where the prompt is about none. */
static void node_of(const char *prompt, char *out, size_t size)
{
    const char *at = strstr(prompt, "Node: ");
    size_t n = at ? strcspn(at + 6, " ,\n") : 0;

    snprintf(out, size, "%.*s", n ? (int)n : 4, n ? at + 6 : "root");
}

static char *plan(const char *schema, const char *prompt, uint32_t h)
{
    json_auto_t *answer = json_pack("{s:[]}", "ops");
    json_t *ops = json_object_get(answer, "ops");
    char node[64];

    node_of(prompt, node, sizeof(node));
    if (strstr(schema, "init")) {
        json_object_set_new(answer, "kernel_summary", json_string("It is bound by memory."));
        json_object_set_new(answer, "open_questions", json_array());
        for (unsigned i = 0; i < 5; i++)
            insert(ops, "root", h, i, 0.8 - 0.1 * i);
    } else if (strstr(schema, "refine")) {
        json_object_set_new(answer, "insights",
                            json_pack("[{s:s, s:s, s:n, s:n}]", "technique", "vectorization",
                                      "statement",
                                      "Wider vectors pay off where data is contiguous and the loop "
                                      "has no branches.",
                                      "mechanism", "condition"));
        insert(ops, node, h, 0, 0.6);
    } else {
        insert(ops, "root", h, 0, 0.5);
    }
    return json_dumps(answer, JSON_COMPACT);
}

/* Faster ones are rarer; some do not compile, some can be tuned. */
static char *program(uint32_t h)
{
    char speed[32];

    snprintf(speed, sizeof(speed), h % 5 == 0 ? "broken" : "%u.%02u", 1 + h / 5 % 3, h / 15 % 100);
    return str_printf("NOTE: variant %08x\nEXPECT: 1.5x +- 30%%\n```c\n"
                      "#include \"ks_task.h\"\n"
                      "/* variant %08x speed=%s */\n%s"
                      "int ks_kernel(const struct ks_call *call)\n{\n    return call == 0 ? %s : 0;"
                      "\n}\n```\n",
                      h, h, speed,
                      h / 7 % 2 ? "//@tunable TILE int 1|2|4 default 1 technique tiling \"tile\"\n"
                                : "",
                      h / 7 % 2 ? "TILE" : "1");
}

/* The answer to a request as an endpoint is sent it. Owned. */
static char *answer_to(const char *body, bool *writes)
{
    json_auto_t *request = json_loads(body, 0, NULL);
    const json_t *messages = json_object_get(request, "messages");
    const json_t *format =
        json_object_get(json_object_get(request, "response_format"), "json_schema");
    const char *schema = jsonx_str(format, "name", "");
    const char *prompt =
        jsonx_str(json_array_get(messages, json_array_size(messages) - 1), "content", "");
    uint32_t h = hash_of(prompt);

    *writes = strcmp(jsonx_str(request, "model", ""), "coder-1") == 0;
    return *writes ? program(h) : plan(schema, prompt, h);
}

/* The same as a stream of chunks, with a count of tokens. Owned. */
static char *as_stream(const char *text)
{
    struct buf out = { .max = STREAM_MAX };
    struct err err;

    for (size_t at = 0, len = strlen(text); at < len; at += STREAM_PIECE) {
        json_auto_t *delta =
            json_pack("{s:[{s:i, s:{s:s#}}]}", "choices", "index", 0, "delta", "content", text + at,
                      (int)MIN(len - at, (size_t)STREAM_PIECE));
        CLEANUP(freep) char *line = json_dumps(delta, JSON_COMPACT);

        if (buf_addf(&out, "data: %s\n\n", line) != 0)
            abort();
    }
    if (buf_adds(&out,
                 "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
                 &err) != 0 ||
        buf_addf(&out,
                 "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,"
                 "\"prompt_tokens_details\":{\"cached_tokens\":%d}}}\n\ndata: [DONE]\n\n",
                 SCRIPTED_TOKENS_IN, SCRIPTED_TOKENS_OUT, SCRIPTED_TOKENS_CACHED) != 0)
        abort();
    return buf_take(&out);
}

/* ---- The endpoint ---- */

static void gather(struct scripted_llm *m)
{
    bool wait = true;

    for (unsigned ms = 0; wait && ms < GATHER_MS; ms += GATHER_STEP_MS) {
        pthread_mutex_lock(&m->lock);
        wait = m->most < m->gather && !m->stopping;
        pthread_mutex_unlock(&m->lock);
        if (wait)
            usleep(GATHER_STEP_MS * 1000);
    }
}

static void note_open(struct scripted_llm *m, int step)
{
    pthread_mutex_lock(&m->lock);
    m->open += (unsigned)step;
    m->most = MAX(m->most, m->open);
    pthread_mutex_unlock(&m->lock);
}

static void think(void *ctx, const char *head, const char *body, struct fake_reply *out,
                  char **owned)
{
    struct scripted_llm *m = ctx;
    CLEANUP(freep) char *text = NULL;
    enum scripted_mood mood;
    bool writes;

    (void)head;
    pthread_mutex_lock(&m->lock);
    mood = m->mood;
    if (++m->thought == m->drip) {
        out->piece = DRIP_BYTES;
        out->pause_ms = DRIP_MS;
    }
    pthread_mutex_unlock(&m->lock);
    if (mood == SCRIPTED_DOWN)
        return; /* status 0 */
    if (mood == SCRIPTED_REFUSES) {
        out->status = 401;
        out->body = "{\"error\":{\"message\":\"Incorrect key provided.\"}}";
        return;
    }
    text = answer_to(body, &writes);
    if (writes) {
        note_open(m, 1);
        gather(m);
        note_open(m, -1);
    }
    *owned = as_stream(text);
    out->status = 200;
    out->body = *owned;
    pthread_mutex_lock(&m->lock);
    m->answered++;
    pthread_mutex_unlock(&m->lock);
}

struct scripted_llm *scripted_llm_start(void)
{
    struct scripted_llm *m = xcalloc(1, sizeof(*m));

    pthread_mutex_init(&m->lock, NULL);
    m->f = fake_llm_start();
    fake_llm_think(m->f, think, m);
    return m;
}

void scripted_llm_stop(struct scripted_llm *m)
{
    if (m == NULL)
        return;
    pthread_mutex_lock(&m->lock);
    m->stopping = true;
    pthread_mutex_unlock(&m->lock);
    fake_llm_stop(m->f);
    pthread_mutex_destroy(&m->lock);
    free(m);
}

const char *scripted_llm_url(const struct scripted_llm *m)
{
    return fake_llm_url(m->f);
}

void scripted_llm_mood(struct scripted_llm *m, enum scripted_mood mood)
{
    pthread_mutex_lock(&m->lock);
    m->mood = mood;
    pthread_mutex_unlock(&m->lock);
}

void scripted_llm_drip(struct scripted_llm *m, size_t n)
{
    pthread_mutex_lock(&m->lock);
    m->drip = n;
    pthread_mutex_unlock(&m->lock);
}

void scripted_llm_gather(struct scripted_llm *m, unsigned n)
{
    pthread_mutex_lock(&m->lock);
    m->gather = n;
    pthread_mutex_unlock(&m->lock);
}

unsigned scripted_llm_gathered(struct scripted_llm *m)
{
    unsigned most;

    pthread_mutex_lock(&m->lock);
    most = m->most;
    pthread_mutex_unlock(&m->lock);
    return most;
}

size_t scripted_llm_requests(struct scripted_llm *m)
{
    return fake_llm_requests(m->f);
}

size_t scripted_llm_answered(struct scripted_llm *m)
{
    size_t n;

    pthread_mutex_lock(&m->lock);
    n = m->answered;
    pthread_mutex_unlock(&m->lock);
    return n;
}

/* ---- Counting ---- */

static size_t first_of(struct scripted_llm *m, size_t i)
{
    size_t k = 0;

    while (strcmp(fake_llm_body(m->f, k), fake_llm_body(m->f, i)) != 0)
        k++;
    return k;
}

size_t scripted_llm_distinct(struct scripted_llm *m)
{
    size_t n = 0;

    for (size_t i = 0; i < fake_llm_requests(m->f); i++)
        n += first_of(m, i) == i;
    return n;
}

size_t scripted_llm_times(struct scripted_llm *m, size_t which)
{
    size_t n = 0, times = 0, at = SIZE_MAX;

    for (size_t i = 0; i < fake_llm_requests(m->f); i++) {
        if (first_of(m, i) == i && n++ == which)
            at = i;
        times += at != SIZE_MAX && first_of(m, i) == at;
    }
    assert_true(at != SIZE_MAX);
    return times;
}
