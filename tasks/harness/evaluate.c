/* SPDX-License-Identifier: Apache-2.0 */
/* One evaluation; see evaluate.h. */
#include "evaluate.h"

#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "build.h"
#include "peer.h"
#include "report.h"

#define UNSTABLE                                                                                   \
    0.5 /* half of the objective's 95 % interval, in log, beyond which it says nothing */

/* What lives as long as the evaluation. */
struct court {
    const struct job *job;
    const struct pack *pack;
    struct task_module module;
    struct scene *scenes; /* one per workload */
    struct peer peers[CONTEST_PEERS_MAX];
    bool present[CONTEST_PEERS_MAX];
    struct arena *arenas[CONTEST_PEERS_MAX]; /* owned; whose they are depends on the round */
    struct build builds[CONTEST_PEERS_MAX];  /* by role */
    bool built[CONTEST_PEERS_MAX];
};

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

/* ---- the trusted module ---- */

static int open_module(const struct buf *object, struct task_module *m, struct fail *f)
{
    typedef const struct ks_task_module *entry_fn(void);
    struct err err;
    char path[64];
    entry_fn *entry;

    m->fd = confine_memfd("module", object->data, object->len, &err);
    if (m->fd < 0)
        return fail_err(f, &err);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", m->fd);
    m->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (m->handle == NULL)
        return fail_set(f, FAIL_INFRASTRUCTURE, "the task's module cannot be loaded: %s",
                        dlerror());
    entry = (entry_fn *)(uintptr_t)dlsym(m->handle, "ks_task_module");
    if (entry == NULL || (m->table = entry()) == NULL)
        return fail_set(f, FAIL_INFRASTRUCTURE, "the task's module does not define ks_task_module");
    if (m->table->abi != KS_ABI_VERSION)
        return fail_set(f, FAIL_INFRASTRUCTURE, "the task's module has ABI %u; %d is needed",
                        m->table->abi, KS_ABI_VERSION);
    return 0;
}

static int pack_source(const struct pack *pack, const char *name, struct program *out,
                       struct fail *f)
{
    struct err err;

    return pack_read(pack, name, &out->source, &err) == 0 ? 0 : fail_err(f, &err);
}

/* KS_REAL may be two words ("long double"), which no macro of a program may: so in the source. */
static int set_real(struct program *source, const char *real, struct fail *f)
{
    char *text = str_printf("#define KS_REAL %s\n#line 1\n%s", real, source->source);

    if (text == NULL)
        return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for the task's module");
    free(source->source);
    source->source = text;
    return 0;
}

int module_load(const struct job *job, const struct pack *pack, const char *real,
                struct task_module *out, struct fail *f)
{
    CLEANUP(program_release) struct program source = { 0 };
    CLEANUP(build_release) struct build b = { 0 };
    const char *key = job->module_key ? job->module_key : "module";

    *out = (struct task_module){ .fd = -1 };
    if (pack_source(pack, pack->module, &source, f) != 0 ||
        (real != NULL && set_real(&source, real, f) != 0))
        return -1;
    if (build_program(job, NULL, &source, key, &b, f) != 0) {
        fail_ctx(f, "the task's module");
        f->class = FAIL_INFRASTRUCTURE;
        return -1;
    }
    if (open_module(&b.object, out, f) == 0)
        return 0;
    module_release(out);
    return -1;
}

void module_release(struct task_module *m)
{
    if (m->handle != NULL)
        dlclose(m->handle);
    if (m->fd >= 0)
        close(m->fd);
    *m = (struct task_module){ .fd = -1 };
}

/* ---- programs ---- */

static size_t arena_bytes(const struct court *c)
{
    size_t most = 0;

    for (int i = 0; i < c->pack->n_workloads; i++) {
        const struct cell_shape *s = &c->scenes[i].shape;

        most = MAX(most, arena_need(s, contest_cells(s)));
    }
    return most;
}

static int blame_known(enum confine_role role, struct fail *f)
{
    if (f->class != FAIL_INFRASTRUCTURE)
        fail_ctx(f, "the %s (%s)", role == ROLE_BASELINE ? "baseline" : "champion",
                 fail_name(f->class));
    f->class = FAIL_INFRASTRUCTURE;
    return -1;
}

static void end_peers(struct court *c)
{
    for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
        if (c->present[role])
            peer_release(&c->peers[role]);
        c->present[role] = false;
    }
}

/*
 * The arena of a role in a round. What memory the kernel gave may be worth several percent to a
 * program that waits for memory (how the host backs it, which bank it is in), and stays so as long
 * as it lives: in the second round of a duel challenger and champion change places.
 */
static struct arena **arena_of(struct court *c, enum confine_role role, int round)
{
    if (round % 2 == 0 || role == ROLE_BASELINE)
        return &c->arenas[role];
    return &c->arenas[role == ROLE_CANDIDATE ? ROLE_CHAMPION : ROLE_CANDIDATE];
}

static int lend_arena(struct court *c, enum confine_role role, int round, struct arena **out,
                      struct fail *f)
{
    struct arena **a = arena_of(c, role, round);
    struct err err;
    uint64_t seed;

    if (*a != NULL) {
        arena_scrub(*a);
    } else if (rng_os(&seed, sizeof(seed)) != 0) {
        return fail_set(f, FAIL_INFRASTRUCTURE, "the kernel gives no random numbers");
    } else if (arena_new(arena_bytes(c), seed, a, &err) != 0) {
        return fail_err(f, &err);
    }
    *out = *a;
    return 0;
}

/* Fresh processes for all that was built, the candidate last: nothing of it can be there when the
 * others load. */
static int start_peers(struct court *c, int round, struct fail *f)
{
    static const enum confine_role order[] = { ROLE_BASELINE, ROLE_CHAMPION, ROLE_CANDIDATE };

    end_peers(c);
    for (size_t i = 0; i < ARRAY_LEN(order); i++) {
        enum confine_role role = order[i];
        struct arena *arena = NULL;

        if (!c->built[role])
            continue;
        if (lend_arena(c, role, round, &arena, f) != 0)
            return -1;
        if (peer_start(c->job, role, &c->builds[role].object, arena, &c->peers[role], f) != 0)
            return role == ROLE_CANDIDATE ? -1 : blame_known(role, f);
        c->present[role] = true;
    }
    return 0;
}

/* Builds a program that is known to work; anything wrong with it is not the candidate's fault. */
static int build_known(struct court *c, enum confine_role role, const struct program *program,
                       const char *key, struct fail *f)
{
    if (build_program(c->job, c->pack, program, key, &c->builds[role], f) == 0) {
        c->built[role] = true;
        return 0;
    }
    return blame_known(role, f);
}

static int build_baseline(struct court *c, struct fail *f)
{
    CLEANUP(program_release) struct program baseline = { 0 };

    if (pack_source(c->pack, c->pack->baseline, &baseline, f) != 0)
        return -1;
    return build_known(c, ROLE_BASELINE, &baseline,
                       c->job->baseline_key ? c->job->baseline_key : "baseline", f);
}

/* Equal objects run alike: one measurement serves both. Beside a champion it is a new question. */
static int check_known(const struct court *c, const json_t *report, struct fail *f)
{
    const char *hex = json_string_value(json_object_get(report, "object_sha256"));

    for (size_t i = 0; hex && !c->job->champion.source && i < c->job->n_known; i++)
        if (strcmp(c->job->known[i], hex) == 0)
            return fail_set(f, FAIL_KNOWN,
                            "its object is that of a program that was measured already (%.12s)",
                            hex);
    return 0;
}

static int build_candidate(struct court *c, struct evaluation *e, struct fail *f)
{
    struct build *b = &c->builds[ROLE_CANDIDATE];
    int rc = build_program(c->job, c->pack, &c->job->candidate, NULL, b, f);
    char compiler[64];

    build_compiler(compiler, sizeof(compiler));
    e->build_ms = b->ms;
    e->object_bytes = rc == 0 ? b->object.len : 0;
    e->report = report_make(b, c->job->candidate.source, compiler);
    e->log = buf_take(&b->log);
    c->built[ROLE_CANDIDATE] = true;
    return rc != 0 ? -1 : check_known(c, e->report, f);
}

static int make_scenes(struct court *c, struct fail *f)
{
    struct err err;

    c->scenes = calloc((size_t)c->pack->n_workloads, sizeof(*c->scenes));
    if (c->scenes == NULL)
        return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for the workloads");
    for (int i = 0; i < c->pack->n_workloads; i++)
        if (scene_init(c->pack, &c->pack->workloads[i], c->module.table, &c->scenes[i], &err) != 0)
            return fail_err(f, &err);
    return 0;
}

static void court_release(struct court *c)
{
    end_peers(c);
    for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
        arena_free(c->arenas[role]);
        build_release(&c->builds[role]);
    }
    for (int i = 0; c->scenes && i < c->pack->n_workloads; i++)
        scene_release(&c->scenes[i]);
    free(c->scenes);
    module_release(&c->module);
}

/* ---- the whole ---- */

/* One workload; a duel in two rounds, in fresh processes each time. */
static int run_contest(struct court *c, int index, struct contest_result *out, struct fail *f)
{
    struct contest contest = { .job = c->job,
                               .scene = &c->scenes[index],
                               .index = index,
                               .of = c->pack->n_workloads,
                               .rounds = c->built[ROLE_CHAMPION] ? 2 : 1,
                               .check_sets = strcmp(c->job->set, "smoke") == 0 ? 1 : 2 };

    for (; contest.round < contest.rounds; contest.round++) {
        if ((index == 0 || contest.rounds > 1) && start_peers(c, contest.round, f) != 0)
            return -1;
        for (int role = 0; role < CONTEST_PEERS_MAX; role++)
            contest.peers[role] = c->present[role] ? &c->peers[role] : NULL;
        if (contest_run(&contest, out, f) != 0)
            return -1;
    }
    return 0;
}

static int run_contests(struct court *c, struct evaluation *e, struct fail *f)
{
    e->results = calloc((size_t)c->pack->n_workloads, sizeof(*e->results));
    if (e->results == NULL)
        return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for the results");
    for (int i = 0; i < c->pack->n_workloads; i++) {
        e->n_results = i + 1;
        if (run_contest(c, i, &e->results[i], f) != 0)
            return fail_ctx(f, "workload '%s'", c->pack->workloads[i].name);
    }
    return 0;
}

static int sum_up(const struct court *c, struct evaluation *e, struct fail *f)
{
    struct estimate ratios[PACK_WORKLOADS_MAX] = { 0 }, champion[PACK_WORKLOADS_MAX] = { 0 };
    size_t n = (size_t)e->n_results;
    double log_roofline = 0;
    bool known = true;

    e->worst = INFINITY;
    for (size_t i = 0; i < n; i++) {
        ratios[i] = e->results[i].ratio;
        champion[i] = e->results[i].vs_champion;
        e->worst = MIN(e->worst, exp(ratios[i].log_ratio));
        known = known && e->results[i].roofline > 0;
        log_roofline += known ? log(e->results[i].roofline) / (double)n : 0;
    }
    e->objective = stats_combine(ratios, n, STATS_95);
    e->roofline = known ? exp(log_roofline) : 0;
    if (c->present[ROLE_CHAMPION])
        e->vs_champion = stats_combine(champion, n, STATS_99);
    if (e->objective.half > UNSTABLE)
        return fail_set(f, FAIL_UNSTABLE,
                        "the samples scatter so much that the objective is only known to lie in "
                        "%.3g to %.3g",
                        exp(e->objective.log_ratio - e->objective.half),
                        exp(e->objective.log_ratio + e->objective.half));
    return 0;
}

static int evaluate_steps(struct court *c, struct evaluation *e, struct fail *f)
{
    if (module_load(c->job, c->pack, NULL, &c->module, f) != 0 || make_scenes(c, f) != 0)
        return -1;
    if (build_candidate(c, e, f) != 0 || build_baseline(c, f) != 0)
        return -1;
    if (c->job->champion.source && build_known(c, ROLE_CHAMPION, &c->job->champion, NULL, f) != 0)
        return -1;
    confine_hurry();
    confine_hurry_session();
    if (run_contests(c, e, f) != 0)
        return -1;
    return sum_up(c, e, f);
}

void evaluate(const struct job *job, const struct pack *pack, struct evaluation *out)
{
    CLEANUP(court_release) struct court c = { .job = job, .pack = pack, .module = { .fd = -1 } };
    uint64_t start = now_ns();

    *out = (struct evaluation){ .fail = { .class = FAIL_OK } };
    if (evaluate_steps(&c, out, &out->fail) == 0)
        out->fail = (struct fail){ .class = FAIL_OK };
    out->total_ns = now_ns() - start;
}

void evaluation_release(struct evaluation *e)
{
    for (int i = 0; i < e->n_results; i++)
        contest_result_release(&e->results[i]);
    free(e->results);
    free(e->log);
    json_decref(e->report);
}
