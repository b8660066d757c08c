/* SPDX-License-Identifier: Apache-2.0 */
/* The queue of requests that people answer: leases, several answerers, refusals, life and death. */
#include <event2/event.h>

#include "base/clock.h"
#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "llm/provider_queue.h"
#include "unit/test.h"

enum { CALLS_MAX = 8 };

/* One request of a search, and what it was told. */
struct call {
    struct llm_job *job;
    int times;
    char *text, *model;
    struct err err;
    uint64_t tokens_in, tokens_out;
    double seconds;
    bool estimated;
};

struct lab {
    struct event_base *base;
    struct clock_fake clock;
    struct llm *queue;
    struct call calls[CALLS_MAX];
    int changes;
};

static void on_change(void *ctx)
{
    ((struct lab *)ctx)->changes++;
}

static int setup(void **state)
{
    struct lab *lab = xcalloc(1, sizeof(*lab));
    struct err err;

    lab->base = event_base_new();
    clock_fake_init(&lab->clock, 5000 * NS_PER_SEC);
    assert_ok(llm_queue_new(lab->base, &lab->clock.clock, &lab->queue, &err), err);
    llm_queue_on_change(lab->queue, on_change, lab);
    *state = lab;
    return 0;
}

static int teardown(void **state)
{
    struct lab *lab = *state;

    llm_free(lab->queue);
    event_base_free(lab->base);
    for (int i = 0; i < CALLS_MAX; i++) {
        free(lab->calls[i].text);
        free(lab->calls[i].model);
    }
    free(lab);
    return 0;
}

static void told(void *ctx, const struct llm_answer *a, const struct err *err)
{
    struct call *c = ctx;

    c->times++;
    assert_true((a == NULL) != (err == NULL));
    if (err != NULL) {
        c->err = *err;
        return;
    }
    c->text = xstrdup(a->text);
    c->model = xstrdup(a->model);
    c->tokens_in = a->tokens_in;
    c->tokens_out = a->tokens_out;
    c->seconds = a->seconds;
    c->estimated = a->estimated;
}

static struct llm_request request(const char *id)
{
    return (struct llm_request){ .id = id,
                                 .hash = "00",
                                 .role = LLM_CODER,
                                 .kind = "code",
                                 .search = "s1",
                                 .task = "vector_add",
                                 .attempt = 1,
                                 .system = "You write kernels.",
                                 .prefix = "The task.",
                                 .prompt = "Write it." };
}

static void ask(struct lab *lab, int i, const struct llm_request *req)
{
    struct err err;

    assert_ok(lab->queue->start(lab->queue, req, told, &lab->calls[i], &lab->calls[i].job, &err),
              err);
}

static void ask_id(struct lab *lab, int i, const char *id)
{
    struct llm_request req = request(id);

    ask(lab, i, &req);
}

static int take(struct lab *lab, const char *id, const char *who, double lease, char *got,
                size_t size, struct err *err)
{
    json_t *r;

    if (llm_queue_take(lab->queue, id, NULL, who, lease, &r, err) != 0)
        return -1;
    str_copy(got, size, jsonx_str(r, "id", ""));
    json_decref(r);
    return 0;
}

static int answer(struct lab *lab, const char *id, const char *who, const char *text,
                  struct err *err)
{
    return llm_queue_answer(lab->queue, id, who, NULL, text, strlen(text), err);
}

static void turn(struct lab *lab)
{
    event_base_loop(lab->base, EVLOOP_NONBLOCK);
}

static size_t n_pending(const struct lab *lab)
{
    json_auto_t *list = llm_queue_pending(lab->queue, NULL);

    return json_array_size(list);
}

static void an_answer_reaches_who_asked(void **state)
{
    struct lab *lab = *state;
    static const char text[] = "int x; /* \xc3\xa9 */";
    struct call *c = &lab->calls[0];
    struct err err;

    ask_id(lab, 0, "s1.1");
    lab->clock.now_ns += 7 * NS_PER_SEC;
    assert_ok(llm_queue_answer(lab->queue, "s1.1", "alice", "m-5", text, strlen(text), &err), err);
    assert_int_equal(c->times, 0); /* at the end of the turn, never from inside */
    assert_int_equal(n_pending(lab), 0);
    turn(lab);
    assert_int_equal(c->times, 1);
    assert_string_equal(c->text, text);
    assert_string_equal(c->model, "queue:alice/m-5");
    assert_true(c->seconds == 7 && c->estimated);
    assert_int_equal(c->tokens_in, (18 + 9 + 9) / 4);
    assert_int_equal(c->tokens_out, 15 / 4);
    turn(lab);
    assert_int_equal(c->times, 1);
}

static void names_of_models_say_who(void **state)
{
    struct lab *lab = *state;
    struct err err;

    ask_id(lab, 0, "s1.1");
    ask_id(lab, 1, "s1.2");
    ask_id(lab, 2, "s1.3");
    assert_ok(answer(lab, "s1.1", NULL, "a", &err), err);
    assert_ok(answer(lab, "s1.2", "bob", "b", &err), err);
    assert_ok(llm_queue_answer(lab->queue, "s1.3", NULL, "m", "c", 1, &err), err);
    turn(lab);
    assert_string_equal(lab->calls[0].model, "queue");
    assert_string_equal(lab->calls[1].model, "queue:bob");
    assert_string_equal(lab->calls[2].model, "queue:m");
}

static void the_list_shows_the_oldest_first_and_restricts(void **state)
{
    struct lab *lab = *state;
    struct llm_request other = request("s2.1");
    json_auto_t *schema = json_pack("{s:s}", "type", "object");
    json_t *list, *first;

    other.search = "s2";
    other.schema = schema;
    other.schema_name = "plan";
    ask_id(lab, 0, "s1.1");
    ask(lab, 1, &other);
    list = llm_queue_pending(lab->queue, NULL);
    first = json_array_get(list, 0);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(jsonx_str(first, "id", ""), "s1.1");
    assert_string_equal(jsonx_str(first, "role", ""), "coder");
    assert_int_equal(jsonx_int(first, "bytes", 0), 36);
    assert_true(json_is_null(json_object_get(first, "lease")));
    assert_true(json_is_null(json_object_get(first, "schema")));
    json_decref(list);
    list = llm_queue_pending(lab->queue, "s2");
    assert_int_equal(json_array_size(list), 1);
    assert_string_equal(jsonx_str(json_array_get(list, 0), "schema", ""), "plan");
    json_decref(list);
}

static void a_taken_request_is_whole(void **state)
{
    struct lab *lab = *state;
    struct llm_request req = request("s1.1");
    json_t *schema = json_pack("{s:s}", "type", "object"), *r;
    struct err err;

    req.schema = schema;
    req.schema_name = "plan";
    req.max_tokens = 900;
    ask(lab, 0, &req);
    json_object_clear(schema); /* the queue has its own */
    json_decref(schema);
    assert_ok(llm_queue_take(lab->queue, NULL, NULL, "alice", 60, &r, &err), err);
    assert_string_equal(jsonx_str(r, "system", ""), "You write kernels.");
    assert_string_equal(jsonx_str(r, "prefix", ""), "The task.");
    assert_string_equal(jsonx_str(r, "prompt", ""), "Write it.");
    assert_string_equal(jsonx_str(json_object_get(r, "schema"), "type", ""), "object");
    assert_string_equal(jsonx_str(r, "schema_name", ""), "plan");
    assert_int_equal(jsonx_int(r, "max_tokens", 0), 900);
    assert_true(jsonx_num(json_object_get(r, "lease"), "left_s", 0) == 60);
    json_decref(r);
}

static void two_takers_never_get_the_same(void **state)
{
    struct lab *lab = *state;
    char a[40], b[40], c[40];
    struct err err;

    ask_id(lab, 0, "s1.1");
    ask_id(lab, 1, "s1.2");
    assert_ok(take(lab, NULL, "alice", 0, a, sizeof(a), &err), err);
    assert_ok(take(lab, NULL, "bob", 30, b, sizeof(b), &err), err);
    assert_string_equal(a, "s1.1");
    assert_string_equal(b, "s1.2");
    assert_fails(take(lab, NULL, "carol", 0, c, sizeof(c), &err), err, ERR_NOT_FOUND);
    assert_non_null(strstr(err.msg, "30 s"));
    assert_fails(take(lab, "s1.1", "carol", 0, c, sizeof(c), &err), err, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "'alice' for another 900 s"));
    /* Who holds one gets it again. */
    assert_ok(take(lab, NULL, "bob", 0, c, sizeof(c), &err), err);
    assert_string_equal(c, "s1.2");
}

static void a_lease_runs_out_by_itself(void **state)
{
    struct lab *lab = *state;
    char got[40];
    struct err err;

    ask_id(lab, 0, "s1.1");
    assert_ok(take(lab, NULL, "alice", 10, got, sizeof(got), &err), err);
    lab->clock.now_ns += 10 * NS_PER_SEC - 1;
    assert_fails(take(lab, "s1.1", "bob", 0, got, sizeof(got), &err), err, ERR_CONFLICT);
    lab->clock.now_ns += 1;
    assert_ok(take(lab, "s1.1", "bob", 0, got, sizeof(got), &err), err);
    /* Now it is the first one who comes too late. */
    assert_fails(answer(lab, "s1.1", "alice", "x", &err), err, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "'bob'"));
    assert_ok(answer(lab, "s1.1", "bob", "y", &err), err);
}

static void an_answer_after_the_lease_still_counts(void **state)
{
    struct lab *lab = *state;
    char got[40];
    struct err err;

    ask_id(lab, 0, "s1.1");
    assert_ok(take(lab, NULL, "alice", 10, got, sizeof(got), &err), err);
    lab->clock.now_ns += 3600 * NS_PER_SEC;
    assert_ok(answer(lab, "s1.1", "alice", "late", &err), err);
    turn(lab);
    assert_string_equal(lab->calls[0].text, "late");
}

static void only_the_holder_answers_and_releases(void **state)
{
    struct lab *lab = *state;
    char got[40];
    struct err err;

    ask_id(lab, 0, "s1.1");
    assert_ok(take(lab, NULL, "alice", 100, got, sizeof(got), &err), err);
    assert_fails(answer(lab, "s1.1", "bob", "x", &err), err, ERR_CONFLICT);
    assert_non_null(strstr(err.msg, "'alice' for another 100 s"));
    assert_fails(answer(lab, "s1.1", NULL, "x", &err), err, ERR_CONFLICT);
    assert_fails(llm_queue_release(lab->queue, "s1.1", "bob", &err), err, ERR_CONFLICT);
    assert_ok(llm_queue_release(lab->queue, "s1.1", "alice", &err), err);
    assert_fails(llm_queue_release(lab->queue, "s1.1", "alice", &err), err, ERR_CONFLICT);
    assert_ok(answer(lab, "s1.1", "bob", "x", &err), err);
    assert_fails(llm_queue_release(lab->queue, "s1.1", "bob", &err), err, ERR_NOT_FOUND);
}

static void a_refused_answer_leaves_the_request_open(void **state)
{
    static char large[LLM_ANSWER_MAX + 2];
    struct lab *lab = *state;
    struct err err;

    ask_id(lab, 0, "s1.1");
    assert_fails(answer(lab, "s1.1", NULL, "", &err), err, ERR_INVALID);
    assert_fails(answer(lab, "s1.1", NULL, " \n\t", &err), err, ERR_INVALID);
    assert_fails(answer(lab, "s1.1", NULL, "caf\xe9", &err), err, ERR_INVALID);
    assert_non_null(strstr(err.msg, "stays open"));
    assert_fails(llm_queue_answer(lab->queue, "s1.1", NULL, NULL, "a\0b", 3, &err), err,
                 ERR_INVALID);
    memset(large, 'x', sizeof(large));
    assert_fails(llm_queue_answer(lab->queue, "s1.1", NULL, NULL, large, LLM_ANSWER_MAX + 1, &err),
                 err, ERR_LIMIT);
    assert_fails(answer(lab, "s1.1", "no such\nname", "x", &err), err, ERR_INVALID);
    assert_int_equal(n_pending(lab), 1);
    assert_ok(llm_queue_answer(lab->queue, "s1.1", NULL, NULL, large, LLM_ANSWER_MAX, &err), err);
    turn(lab);
    assert_int_equal(strlen(lab->calls[0].text), LLM_ANSWER_MAX);
}

static void what_is_not_open_cannot_be_answered(void **state)
{
    struct lab *lab = *state;
    struct err err;
    char got[40];

    ask_id(lab, 0, "s1.1");
    assert_fails(answer(lab, "s1.9", NULL, "x", &err), err, ERR_NOT_FOUND);
    assert_ok(answer(lab, "s1.1", NULL, "x", &err), err);
    assert_fails(answer(lab, "s1.1", NULL, "y", &err), err, ERR_NOT_FOUND);
    assert_fails(take(lab, "s1.1", "bob", 0, got, sizeof(got), &err), err, ERR_NOT_FOUND);
    assert_fails(take(lab, NULL, "bob", 0, got, sizeof(got), &err), err, ERR_NOT_FOUND);
    turn(lab);
    assert_string_equal(lab->calls[0].text, "x");
}

static void leases_and_names_have_bounds(void **state)
{
    struct lab *lab = *state;
    char got[40], name[LLM_WHO_MAX + 1];
    struct err err;

    ask_id(lab, 0, "s1.1");
    memset(name, 'a', LLM_WHO_MAX);
    name[LLM_WHO_MAX] = '\0';
    assert_fails(take(lab, NULL, name, 0, got, sizeof(got), &err), err, ERR_INVALID);
    assert_fails(take(lab, NULL, "", 0, got, sizeof(got), &err), err, ERR_INVALID);
    assert_fails(take(lab, NULL, "a", -1, got, sizeof(got), &err), err, ERR_INVALID);
    assert_fails(take(lab, NULL, "a", LLM_LEASE_MAX_S + 1, got, sizeof(got), &err), err,
                 ERR_INVALID);
    assert_fails(take(lab, NULL, "a", 0.0 / 0.0, got, sizeof(got), &err), err, ERR_INVALID);
    name[LLM_WHO_MAX - 1] = '\0';
    assert_ok(take(lab, NULL, name, LLM_LEASE_MAX_S, got, sizeof(got), &err), err);
}

static void withdrawn_requests_end_as_cancelled_and_come_again(void **state)
{
    struct lab *lab = *state;
    struct llm_request req = request("s1.1");
    struct llm_job *job;
    struct err err;

    ask(lab, 0, &req);
    assert_fails(lab->queue->start(lab->queue, &req, told, &lab->calls[1], &job, &err), err,
                 ERR_INVALID);
    lab->queue->cancel(lab->queue, lab->calls[0].job);
    lab->queue->cancel(lab->queue, lab->calls[0].job);
    assert_int_equal(lab->calls[0].times, 0);
    assert_fails(answer(lab, "s1.1", NULL, "x", &err), err, ERR_NOT_FOUND);
    turn(lab);
    assert_int_equal(lab->calls[0].times, 1);
    assert_int_equal(lab->calls[0].err.code, ERR_CANCELLED);
    ask(lab, 1, &req); /* as after a restart: the same name */
    assert_ok(answer(lab, "s1.1", NULL, "x", &err), err);
    turn(lab);
    assert_string_equal(lab->calls[1].text, "x");
}

/* Cancelling what is answered already, before it was told, must not make it two ends. */
static void an_answer_wins_over_a_later_cancel(void **state)
{
    struct lab *lab = *state;
    struct err err;

    ask_id(lab, 0, "s1.1");
    assert_ok(answer(lab, "s1.1", NULL, "x", &err), err);
    lab->queue->cancel(lab->queue, lab->calls[0].job);
    turn(lab);
    assert_int_equal(lab->calls[0].times, 1);
    assert_string_equal(lab->calls[0].text, "x");
}

static void freeing_tells_everybody_once(void **state)
{
    struct lab *lab = *state;
    struct err err;

    ask_id(lab, 0, "s1.1");
    ask_id(lab, 1, "s1.2");
    assert_ok(answer(lab, "s1.2", NULL, "x", &err), err);
    llm_free(lab->queue);
    lab->queue = NULL;
    assert_int_equal(lab->calls[0].times, 1);
    assert_int_equal(lab->calls[0].err.code, ERR_CANCELLED);
    assert_int_equal(lab->calls[1].times, 1);
    assert_string_equal(lab->calls[1].text, "x");
}

static void prompts_have_bounds(void **state)
{
    struct lab *lab = *state;
    CLEANUP(freep) char *large = xmalloc(LLM_PROMPT_MAX + 1);
    struct llm_request req = request("s1.1");
    struct llm_job *job;
    struct err err;

    memset(large, 'x', LLM_PROMPT_MAX);
    large[LLM_PROMPT_MAX] = '\0';
    req.prompt = large;
    assert_fails(lab->queue->start(lab->queue, &req, told, &lab->calls[0], &job, &err), err,
                 ERR_LIMIT);
    req.prompt = "caf\xe9";
    assert_fails(lab->queue->start(lab->queue, &req, told, &lab->calls[0], &job, &err), err,
                 ERR_INVALID);
    assert_int_equal(n_pending(lab), 0);
}

static void watchers_hear_of_every_change(void **state)
{
    struct lab *lab = *state;
    char got[40];
    struct err err;

    ask_id(lab, 0, "s1.1");
    assert_int_equal(lab->changes, 1);
    assert_ok(take(lab, NULL, "alice", 0.02, got, sizeof(got), &err), err);
    assert_int_equal(lab->changes, 2);
    lab->clock.now_ns += NS_PER_SEC; /* so that the lease is over when the timer comes */
    event_base_loop(lab->base, EVLOOP_ONCE);
    assert_int_equal(lab->changes, 3);
    assert_ok(answer(lab, "s1.1", "bob", "x", &err), err);
    assert_int_equal(lab->changes, 4);
}

static void status_counts(void **state)
{
    struct lab *lab = *state;
    json_t *status;
    char got[40];
    struct err err;

    ask_id(lab, 0, "s1.1");
    ask_id(lab, 1, "s1.2");
    assert_ok(take(lab, NULL, "alice", 5, got, sizeof(got), &err), err);
    status = lab->queue->status(lab->queue);
    assert_int_equal(jsonx_int(status, "pending", 0), 2);
    assert_int_equal(jsonx_int(status, "leased", 0), 1);
    json_decref(status);
    lab->clock.now_ns += 5 * NS_PER_SEC;
    status = lab->queue->status(lab->queue);
    assert_int_equal(jsonx_int(status, "leased", 9), 0);
    json_decref(status);
}

#define IN_LAB(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        IN_LAB(an_answer_reaches_who_asked),
        IN_LAB(names_of_models_say_who),
        IN_LAB(the_list_shows_the_oldest_first_and_restricts),
        IN_LAB(a_taken_request_is_whole),
        IN_LAB(two_takers_never_get_the_same),
        IN_LAB(a_lease_runs_out_by_itself),
        IN_LAB(an_answer_after_the_lease_still_counts),
        IN_LAB(only_the_holder_answers_and_releases),
        IN_LAB(a_refused_answer_leaves_the_request_open),
        IN_LAB(what_is_not_open_cannot_be_answered),
        IN_LAB(leases_and_names_have_bounds),
        IN_LAB(withdrawn_requests_end_as_cancelled_and_come_again),
        IN_LAB(an_answer_wins_over_a_later_cancel),
        IN_LAB(freeing_tells_everybody_once),
        IN_LAB(prompts_have_bounds),
        IN_LAB(watchers_hear_of_every_change),
        IN_LAB(status_counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
