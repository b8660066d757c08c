/* SPDX-License-Identifier: Apache-2.0 */
/* Requests in tests; see ask.h. */
#include "ask.h"

#include "unit/test.h"

#include "base/mem.h"

enum { PATIENCE_S = 60 };

void asker_init(struct asker *a, const char *url)
{
    struct err err;

    *a = (struct asker){ 0 };
    clock_fake_init(&a->clock, 1000 * NS_PER_SEC);
    assert_ok(loop_new(&a->loop, &err), err);
    assert_ok(conf_new(&a->conf, &err), err);
    unsetenv("KSEARCH_API_KEY");
    asker_set(a, "llm_url", url, "llm_models", "m", "llm_backoff", "0.01", "llm_backoff_max", "5",
              "llm_breaker_failures", "100", "llm_retries", "2", NULL);
}

void asker_set(struct asker *a, ...)
{
    const char *key;
    va_list ap;
    struct err err;

    va_start(ap, a);
    while ((key = va_arg(ap, const char *)) != NULL)
        assert_ok(conf_set(a->conf, "test", key, va_arg(ap, const char *), &err), err);
    va_end(ap);
}

void asker_open(struct asker *a)
{
    struct err err;

    assert_ok(conf_check(a->conf, &err), err);
    assert_ok(llm_openai_new(loop_base(a->loop), a->conf, &a->clock.clock, &a->llm, &err), err);
}

void asker_release(struct asker *a)
{
    llm_free(a->llm);
    conf_free(a->conf);
    loop_free(a->loop);
}

static void on_done(void *ctx, const struct llm_answer *a, const struct err *err)
{
    struct told *t = ctx;

    t->times++;
    t->good = a != NULL;
    assert_true((a != NULL) != (err != NULL));
    if (err != NULL) {
        t->err = *err;
        return;
    }
    t->a = *a;
    t->text = xstrdup(a->text);
    t->model = xstrdup(a->model);
}

void ask_start(struct asker *a, struct told *t, const char *prompt, const json_t *schema)
{
    struct llm_request r = { .id = "s1.1",
                             .hash = "0",
                             .role = LLM_CODER,
                             .kind = "code",
                             .search = "s1",
                             .task = "t",
                             .attempt = 1,
                             .system = "You write.",
                             .prefix = "The task.",
                             .prompt = prompt,
                             .schema_name = schema ? "form" : NULL,
                             .schema = schema };
    struct err err;

    *t = (struct told){ 0 };
    assert_ok(a->llm->start(a->llm, &r, on_done, t, &t->job, &err), err);
    assert_int_equal(t->times, 0); /* never from inside start */
}

void ask_wait(struct asker *a, struct told *t)
{
    const struct clock *c = clock_system();
    uint64_t limit = c->mono_ns(c) + PATIENCE_S * NS_PER_SEC;

    while (t->times == 0) {
        ask_idle(a, 1);
        if (c->mono_ns(c) > limit)
            fail_msg("the request did not end within %d s", PATIENCE_S);
    }
    assert_int_equal(t->times, 1);
}

void ask(struct asker *a, struct told *t, const char *prompt)
{
    ask_start(a, t, prompt, NULL);
    ask_wait(a, t);
}

static void on_time(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    *(bool *)arg = true;
}

void ask_idle(struct asker *a, unsigned ms)
{
    struct timeval tv = { .tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000 };
    bool over = false;
    struct event *e = evtimer_new(loop_base(a->loop), on_time, &over);

    event_add(e, &tv);
    while (!over)
        loop_turn(a->loop, true);
    event_free(e);
}

void told_clear(struct told *t)
{
    free(t->text);
    free(t->model);
    *t = (struct told){ 0 };
}
