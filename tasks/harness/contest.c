/* SPDX-License-Identifier: Apache-2.0 */
/* Checking and timing one workload; see contest.h. */
#include "contest.h"

#include <math.h>

#include "base/clock.h"
#include "base/mem.h"
#include "shape.h"

#define WARM_UP 3
#define TWIN_ELEMENTS 300000 /* larger outputs are compared in random parts, as much in all, */
#define TWIN_SHARE 16        /* and as a whole in one of so many calls */
#define VARY_MAX 65536       /* elements of an input's range that changes place before a pair, */
#define LATE_MAX 2048 /* and when the runner is ready: its caches are cold again in no time */
#define TIGHT 0.01    /* half of the 95 % interval at which timing stops */
#define LOOSE 0.2     /* wider than that, timing goes on past its budget, */
#define EXCUSES 3     /* pairs that are left out because of the candidate alone */
#define PATIENCE 3    /* up to so many times of it */
/*
 * A duel decides between programs that may differ by a percent or two, so it goes on until half of
 * the interval of their ratio over all workloads is about DUEL_TIGHT: soon on a quiet machine, for
 * up to DUEL_PATIENCE times the budget in all on a busy one.
 */
#define DUEL_TIGHT 0.008
#define DUEL_PATIENCE 24
#define DUEL_PATIENCE_MAX 12 /* for one workload */
#define DUEL_PAIRS 16        /* times pairs_max, of one workload */
#define DUEL_PAIRS_MIN 12    /* of a round: fewer can agree by accident */
#define SAMPLES_MAX 1024     /* pairs of a workload */
/* Pairs left out as disturbed, at first and per pair kept: where nearly all of them are, the
 * machine is like that (samples of microseconds beside the judge, on two processors). */
#define RETAKES_FIRST 6
#define RETAKES 1
/* Faster than this share of the roofline is impossible: the rates are measured ones, perhaps on a
 * busy day. */
#define FLOOR_SHARE                                                                                \
    0.1 /* of the roofline: faster is impossible even where the probe ran on a busy machine */

enum { ORDERS = 6 };

/* Everything that timing needs, on the judge's side. */
struct stage {
    const struct contest *c;
    struct input_set sets[WIRE_BATCH_MAX];
    struct cell cells[CONTEST_PEERS_MAX][WIRE_BATCH_MAX];
    int n_cells, batch, next; /* next: first cell of the coming pair */
    struct rng rng;
    uint64_t shortest_ns;  /* of any checked call */
    uint8_t order[ORDERS]; /* of a duel: in which sequence the orders are taken */
};

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

static int buffers(const struct contest *c)
{
    return c->scene->shape.n_inputs + c->scene->shape.n_outputs + 1;
}

/* A baseline or champion that fails is not the candidate's fault. */
static int blame(const struct peer *p, struct fail *f)
{
    if (p->role == ROLE_CANDIDATE)
        return -1;
    fail_ctx(f, "the %s failed (%s)", p->who, fail_name(f->class));
    f->class = FAIL_INFRASTRUCTURE;
    return -1;
}

int contest_cells(const struct cell_shape *s)
{
    size_t one = arena_need(s, 2) - arena_need(s, 1);
    size_t n = CONTEST_CELL_BYTES / one;

    return (int)(n < 2 ? 2 : MIN(n, (size_t)WIRE_BATCH_MAX));
}

static void stage_release(struct stage *s)
{
    for (int i = 0; i < WIRE_BATCH_MAX; i++)
        input_set_release(&s->sets[i]);
}

static uint64_t seed_of(const struct contest *c, const char *purpose, int i)
{
    struct rng r = rng_derive(c->job->seed, purpose,
                              (uint64_t)c->index * 1000 + (uint64_t)c->round * 500 + (uint64_t)i);

    return rng_u64(&r);
}

static void make_cold(const struct stage *s, const struct cell *const *cells, struct arena *a,
                      int n)
{
    for (int i = 0; i < n; i++)
        if (!arena_flush(a, &s->c->scene->shape, cells[i])) {
            arena_evict();
            return;
        }
}

/* ---- checking ---- */

/* One call on freshly placed inputs, cold, compared with the reference. */
static int check_once(struct stage *s, struct peer *p, struct fail *f)
{
    struct scene *scene = s->c->scene;
    struct cell cell;
    const struct cell *cells[] = { &cell };
    struct call_time t;

    arena_reset(p->arena);
    arena_place(p->arena, &scene->shape, &cell);
    scene_stage(scene, &s->sets[0], p->arena, &cell);
    make_cold(s, cells, p->arena, 1);
    if (peer_call(p, cells, 1, buffers(s->c), false, NULL, &t, f) != 0)
        return blame(p, f);
    s->shortest_ns = MIN(s->shortest_ns, t.ns);
    return scene_check(scene, &s->sets[0], p->arena, &cell, f) == 0 ? 0 : blame(p, f);
}

static int check_programs(struct stage *s, struct fail *f)
{
    const struct contest *c = s->c;

    for (int i = 0; i < c->check_sets; i++) {
        if (scene_generate(c->scene, seed_of(c, "check", i), &s->sets[0], f) != 0 ||
            scene_expect(c->scene, &s->sets[0], c->job->threads, f) != 0)
            return -1;
        for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
            bool due = role == ROLE_CANDIDATE || i == 0;

            if (c->peers[role] && due && check_once(s, c->peers[role], f) != 0)
                return -1;
        }
    }
    return 0;
}

/* ---- staging ---- */

static int stage_cells(struct stage *s, struct fail *f)
{
    const struct contest *c = s->c;
    int most = contest_cells(&c->scene->shape);

    s->batch = (int)MIN(CONTEST_BATCH_NS / MAX(s->shortest_ns, 1ull) + 1, (uint64_t)most);
    s->n_cells = MAX(s->batch, 2);
    for (int i = 0; i < s->n_cells; i++)
        if (scene_generate(c->scene, seed_of(c, "time", i), &s->sets[i], f) != 0)
            return -1;
    for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
        if (c->peers[role] == NULL)
            continue;
        arena_reseed(c->peers[role]->arena, seed_of(c, "place", 0));
        arena_reset(c->peers[role]->arena);
        for (int i = 0; i < s->n_cells; i++) {
            arena_place(c->peers[role]->arena, &c->scene->shape, &s->cells[role][i]);
            scene_stage(c->scene, &s->sets[i], c->peers[role]->arena, &s->cells[role][i]);
        }
    }
    return 0;
}

/* Cells of the coming pair, by role and by place in the batch; `which`: their indices. */
struct pair {
    int which[WIRE_BATCH_MAX];
    const struct cell *cells[CONTEST_PEERS_MAX][WIRE_BATCH_MAX];
    struct patch late[WIRE_BATCH_MAX][KS_TENSORS_MAX]; /* to be brought to an armed runner */
    int n_late[WIRE_BATCH_MAX];
    uint64_t ns[CONTEST_PEERS_MAX];
    bool disturbed[CONTEST_PEERS_MAX];
};

/* New contents for the pair's cells, the same in every arena; outputs poisoned. */
static void refresh(struct stage *s, struct pair *pair)
{
    const struct contest *c = s->c;
    struct patch patches[KS_TENSORS_MAX];

    for (int k = 0; k < s->batch; k++) {
        int i = (s->next + k) % s->n_cells;
        int n = scene_vary(c->scene, &s->sets[i], &s->rng, VARY_MAX, patches);

        pair->which[k] = i;
        for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
            pair->cells[role][k] = &s->cells[role][i];
            if (c->peers[role] == NULL)
                continue;
            scene_patch(c->scene, &s->sets[i], c->peers[role]->arena, &s->cells[role][i], patches,
                        n);
            arena_poison(c->peers[role]->arena, &c->scene->shape, &s->cells[role][i]);
        }
        pair->n_late[k] = scene_vary(c->scene, &s->sets[i], &s->rng, LATE_MAX, pair->late[k]);
    }
    s->next = (s->next + s->batch) % s->n_cells;
}

/* ---- calling ---- */

/* What bring_late needs: one program's part in a pair. */
struct late {
    const struct stage *s;
    const struct pair *pair;
    enum confine_role role;
};

/*
 * The last of the inputs, for a runner that is ready and waits for "go": so whatever it computed
 * before is computed from other inputs.
 */
static void bring_late(void *ctx)
{
    const struct late *late = ctx;
    const struct pair *pair = late->pair;
    const struct scene *scene = late->s->c->scene;
    struct arena *a = late->s->c->peers[late->role]->arena;

    for (int k = 0; k < late->s->batch; k++) {
        const struct cell *cell = pair->cells[late->role][k];

        scene_patch(scene, &late->s->sets[pair->which[k]], a, cell, pair->late[k], pair->n_late[k]);
        for (int i = 0; i < pair->n_late[k]; i++) {
            const struct patch *p = &pair->late[k][i];
            size_t size = dtype_size(scene->tensors[p->tensor].dtype);

            arena_flush_bytes(arena_at(a, cell, p->tensor) + p->a * size, p->count * size);
            arena_flush_bytes(arena_at(a, cell, p->tensor) + p->b * size, p->count * size);
        }
    }
}

/* All orders once in every six pairs, in a random sequence: so neither challenger nor champion
 * follows the baseline, or itself, more often than the other does. */
static int duel_order(struct stage *s, int turn)
{
    if (turn % ORDERS == 0) {
        for (uint8_t i = 0; i < ORDERS; i++)
            s->order[i] = i;
        for (uint64_t i = ORDERS - 1; i > 0; i--) {
            uint64_t k = rng_below(&s->rng, i + 1);
            uint8_t held = s->order[i];

            s->order[i] = s->order[k];
            s->order[k] = held;
        }
    }
    return s->order[turn % ORDERS];
}

/*
 * One sample of each program. `turn` picks the order: every program stands equally often in every
 * place (with two programs: ABBA, then BAAB), because what ran before a call is felt in it.
 */
static int call_all(struct stage *s, struct pair *pair, int turn, bool watched, struct fail *f)
{
    enum { B = ROLE_BASELINE, C = ROLE_CANDIDATE, H = ROLE_CHAMPION };
    static const uint8_t orders[ORDERS][CONTEST_PEERS_MAX] = { { B, C, H }, { H, C, B },
                                                               { C, H, B }, { B, H, C },
                                                               { H, B, C }, { C, B, H } };
    const struct contest *c = s->c;
    int order = c->peers[H] != NULL ? duel_order(s, turn) : turn % ORDERS;

    for (int i = 0; i < CONTEST_PEERS_MAX; i++) {
        enum confine_role role = orders[order][i];
        struct late late = { s, pair, role };
        struct last_touch touch = { bring_late, &late };
        struct call_time t;

        pair->disturbed[role] = false;
        if (c->peers[role] == NULL)
            continue;
        make_cold(s, pair->cells[role], c->peers[role]->arena, s->batch);
        if (peer_call(c->peers[role], pair->cells[role], s->batch, buffers(c),
                      watched && role == ROLE_CANDIDATE, &touch, &t, f) != 0)
            return blame(c->peers[role], f);
        pair->disturbed[role] = t.disturbed;
        pair->ns[role] = (t.ns + (uint64_t)s->batch / 2) / (uint64_t)s->batch;
    }
    return 0;
}

/*
 * Outputs of one call against the baseline's. What is worth leaving out is more than a few rows, so
 * random parts of a large output show it; now and then all of it is compared.
 */
static int compare_call(struct stage *s, const struct pair *pair, enum confine_role role, int k,
                        struct fail *f)
{
    struct scene *scene = s->c->scene;
    const struct input_set *set = &s->sets[pair->which[k]];
    const struct arena *a = s->c->peers[role]->arena, *trusted = s->c->peers[ROLE_BASELINE]->arena;
    const struct cell *cell = pair->cells[role][k], *other = pair->cells[ROLE_BASELINE][k];
    size_t elements = 0;

    for (int i = 0; i < scene->shape.n_outputs; i++)
        elements += scene->elements[scene->shape.n_inputs + i];
    if (elements > TWIN_ELEMENTS && rng_below(&s->rng, TWIN_SHARE) != 0) {
        if (scene->module->settle == NULL)
            return scene_check_parts(scene, set, a, cell, trusted, other, &s->rng, TWIN_ELEMENTS,
                                     f);
        if (rng_below(&s->rng, elements) >= TWIN_ELEMENTS)
            return arena_check_guards(a, &scene->shape, cell, scene->names, f);
    }
    if (scene_check_inputs(scene, set, a, cell, &s->rng, f) != 0)
        return -1;
    return scene_check_twin(scene, set, a, cell, trusted, other, s->c->job->threads, f);
}

/* The outputs of a pair against each other. */
static int compare_pair(struct stage *s, const struct pair *pair, struct fail *f)
{
    const struct contest *c = s->c;

    for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
        if (c->peers[role] == NULL || role == ROLE_BASELINE)
            continue;
        for (int k = 0; k < s->batch; k++)
            if (compare_call(s, pair, role, k, f) != 0)
                return blame(c->peers[role], f);
    }
    return 0;
}

/* The outputs of one call of a pair, of all programs, against the reference on the very inputs. */
static int prove_pair(struct stage *s, const struct pair *pair, struct fail *f)
{
    const struct contest *c = s->c;
    int k = (int)rng_below(&s->rng, (uint64_t)s->batch);
    struct input_set *set = &s->sets[pair->which[k]];

    if (scene_expect(c->scene, set, c->job->threads, f) != 0)
        return -1;
    for (int role = 0; role < CONTEST_PEERS_MAX; role++)
        if (c->peers[role] &&
            scene_check(c->scene, set, c->peers[role]->arena, pair->cells[role][k], f) != 0)
            return blame(c->peers[role], f);
    return 0;
}

/* A pair that is not counted: the candidate is watched to the microsecond and its output proven. */
static int watch_pair(struct stage *s, struct fail *f)
{
    struct pair pair;

    refresh(s, &pair);
    if (call_all(s, &pair, 0, true, f) != 0 || compare_pair(s, &pair, f) != 0)
        return -1;
    return prove_pair(s, &pair, f);
}

/* ---- timing ---- */

/* Over pairs [from, from + n). */
static struct estimate estimate_part(const struct contest_result *r, enum confine_role over,
                                     int from, int count)
{
    double logs[SAMPLES_MAX], scratch[SAMPLES_MAX];
    size_t n = MIN((size_t)count, ARRAY_LEN(logs));

    for (size_t i = 0; i < n; i++)
        logs[i] =
            log((double)r->ns[over][from + (int)i] / (double)r->ns[ROLE_CANDIDATE][from + (int)i]);
    return over == ROLE_CHAMPION && n >= ORDERS ? stats_midmean(logs, n, scratch)
                                                : stats_pairs(logs, n, scratch);
}

static struct estimate estimate(const struct contest_result *r, enum confine_role over)
{
    int second_n = r->n - r->first_n;
    struct estimate a, b;

    if (over != ROLE_CHAMPION || r->first_n < 2 || second_n < 2)
        return estimate_part(r, over, 0, r->n);
    a = estimate_part(r, over, 0, r->first_n);
    b = estimate_part(r, over, r->first_n, second_n);
    a.log_ratio = 0.5 * (a.log_ratio + b.log_ratio);
    a.log_sd = 0.5 * hypot(a.log_sd, b.log_sd);
    a.half = 0.5 * hypot(a.half, b.half);
    return a;
}

static bool is_duel(const struct contest *c)
{
    return c->peers[ROLE_CHAMPION] != NULL;
}

static int pairs_limit(const struct contest *c)
{
    return MIN(c->job->pairs_max * (is_duel(c) ? DUEL_PAIRS : 1), SAMPLES_MAX);
}

/* How long timing may go on when it does not become precise. */
static uint64_t patience_ns(const struct contest *c)
{
    int duel = MIN(DUEL_PATIENCE / MAX(c->of, 1), DUEL_PATIENCE_MAX);

    return (uint64_t)(c->job->budget_s * 1e9 * (is_duel(c) ? MAX(duel, PATIENCE) : PATIENCE) /
                      MAX(c->rounds, 1));
}

static bool is_enough(const struct contest *c, const struct contest_result *r, uint64_t spent_ns)
{
    uint64_t budget_ns = (uint64_t)(c->job->budget_s * 1e9);
    double half = estimate(r, ROLE_BASELINE).half;

    if (r->n < c->job->pairs_min)
        return false;
    if (c->round > 0)
        return r->n >= 2 * r->first_n; /* as many as in the first, so that the exchange evens out */
    if (spent_ns >= patience_ns(c))
        return true;
    if (is_duel(c) && (r->n < DUEL_PAIRS_MIN || r->n % ORDERS != 0))
        return false;
    if (is_duel(c))
        return estimate(r, ROLE_CHAMPION).half <= DUEL_TIGHT * sqrt(c->of * c->rounds) &&
               half <= LOOSE;
    return half <= (spent_ns >= budget_ns ? LOOSE : TIGHT);
}

/* A pair that is not timed, with one group of the candidate's events counted. */
static int count_pair(struct stage *s, struct pair *pair, int turn, struct counts *out,
                      struct fail *f)
{
    struct peer *candidate = s->c->peers[ROLE_CANDIDATE];
    struct counters counters;
    int rc;

    counters_open(&counters, candidate->runner, turn % COUNTER_GROUPS);
    candidate->counting = &counters;
    rc = call_all(s, pair, turn, false, f);
    candidate->counting = NULL;
    if (rc == 0)
        counters_read(&counters, s->batch, out);
    counters_close(&counters);
    return rc;
}

static int warm_up(struct stage *s, struct counts *out, struct fail *f)
{
    struct pair pair;

    for (int i = 0; i < WARM_UP; i++) {
        refresh(s, &pair);
        if (count_pair(s, &pair, i, out, f) != 0 || compare_pair(s, &pair, f) != 0)
            return -1;
    }
    return 0;
}

_Static_assert(WARM_UP >= COUNTER_GROUPS, "every group is counted once");

static void keep_pair(const struct contest *c, const struct pair *pair, struct contest_result *r)
{
    for (int role = 0; role < CONTEST_PEERS_MAX; role++)
        if (c->peers[role] != NULL)
            r->ns[role][r->n] = MAX(pair->ns[role], 1ull);
    r->n++;
}

/*
 * Was there something else? A program can keep its own threads waiting, so as to have a sample
 * taken again that it does not like: pairs are left out because of the candidate alone only a few
 * times more often than because of the others beside which it runs. After that none is left out any
 * more: dropping the pairs that disturbed the others and keeping those that disturbed the candidate
 * would make it slower than it is (by 1.4 %, against itself, on two processors). excuses[]: pairs
 * that only the candidate, and that another one, called disturbed.
 */
static bool is_disturbed(const struct pair *pair, int excuses[2])
{
    bool others = pair->disturbed[ROLE_BASELINE] || pair->disturbed[ROLE_CHAMPION];

    if (!others && !pair->disturbed[ROLE_CANDIDATE])
        return false;
    excuses[others]++;
    return excuses[0] <= EXCUSES + 2 * excuses[1];
}

/*
 * A pair during which something else had the processors is timed again, but not for ever: a program
 * that makes more threads than there are processors disturbs itself.
 */
static int time_pairs(struct stage *s, struct contest_result *r, struct fail *f)
{
    const struct contest *c = s->c;
    uint64_t start = now_ns();
    uint64_t budget_ns = (uint64_t)(c->job->budget_s * 1e9);
    int watched = (int)rng_below(&s->rng, (uint64_t)c->job->pairs_min), excuses[2] = { 0 };
    struct pair pair;

    if (warm_up(s, &r->counts, f) != 0)
        return -1;
    for (int turn = 0; r->n < pairs_limit(c) / (c->round + 1 < c->rounds ? c->rounds : 1); turn++) {
        if (turn == watched && watch_pair(s, f) != 0)
            return -1;
        refresh(s, &pair);
        if (call_all(s, &pair, r->n - r->first_n, false, f) != 0 || compare_pair(s, &pair, f) != 0)
            return -1;
        if (is_disturbed(&pair, excuses) && r->disturbed < RETAKES_FIRST + RETAKES * r->n &&
            now_ns() - start < (is_duel(c) ? patience_ns(c) : budget_ns)) {
            r->disturbed++;
            continue;
        }
        keep_pair(c, &pair, r);
        if (is_enough(c, r, now_ns() - start))
            break;
    }
    return prove_pair(s, &pair, f);
}

/* ---- judging the times ---- */

static uint64_t median_ns(const struct contest_result *r, enum confine_role role)
{
    double v[SAMPLES_MAX];
    size_t n = MIN((size_t)r->n, ARRAY_LEN(v));

    for (size_t i = 0; i < n; i++)
        v[i] = (double)r->ns[role][i];
    return (uint64_t)stats_median(v, n);
}

static int judge_times(const struct contest *c, struct contest_result *r, struct fail *f)
{
    double floor_ns = 0, ns = (double)median_ns(r, ROLE_CANDIDATE);

    r->ratio = estimate(r, ROLE_BASELINE);
    if (c->peers[ROLE_CHAMPION] != NULL)
        r->vs_champion = estimate(r, ROLE_CHAMPION);
    if (c->job->read_gbs > 0)
        floor_ns = r->cost.bytes / c->job->read_gbs;
    if (c->job->fma_gflops > 0)
        floor_ns = MAX(floor_ns, r->cost.flops / c->job->fma_gflops);
    r->roofline = floor_ns / ns;
    if (ns < FLOOR_SHARE * floor_ns)
        return fail_set(f, FAIL_CLOCK_TAMPERED,
                        "a call took %.0f ns, where the device cannot do it in less than %.0f ns",
                        ns, floor_ns);
    return peer_check_claims(c->peers[ROLE_CANDIDATE], c->peers[ROLE_BASELINE], f);
}

static int describe(const struct contest *c, struct fail *f)
{
    const struct scene *s = c->scene;
    size_t scratch = s->shape.bytes[s->shape.n_inputs + s->shape.n_outputs];

    for (int role = 0; role < CONTEST_PEERS_MAX; role++)
        if (c->peers[role] &&
            peer_shape(c->peers[role], s->tensors, s->shape.n_inputs, s->shape.n_outputs,
                       s->workload->axes, s->pack->n_axes, scratch, f) != 0)
            return blame(c->peers[role], f);
    return 0;
}

static int contest_steps(struct stage *s, struct contest_result *r, struct fail *f)
{
    const struct contest *c = s->c;
    uint64_t start = now_ns();
    int rc;

    rc = describe(c, f) != 0 || check_programs(s, f) != 0 ? -1 : 0;
    r->check_ns += now_ns() - start;
    if (rc != 0)
        return -1;
    start = now_ns();
    rc = stage_cells(s, f) != 0 || time_pairs(s, r, f) != 0 ? -1 : 0;
    r->timing_ns += now_ns() - start;
    if (rc != 0)
        return -1;
    r->batch = s->batch;
    r->stats = c->scene->stats;
    scene_cost(c->scene, &s->sets[0], &r->cost);
    return judge_times(c, r, f);
}

static int result_init(const struct contest *c, struct contest_result *out, struct fail *f)
{
    *out = (struct contest_result){ 0 };
    counts_clear(&out->counts);
    for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
        out->ns[role] = calloc((size_t)pairs_limit(c), sizeof(uint64_t));
        if (out->ns[role] == NULL)
            return fail_set(f, FAIL_INFRASTRUCTURE, "no memory for %d samples", pairs_limit(c));
    }
    return 0;
}

int contest_run(const struct contest *c, struct contest_result *out, struct fail *f)
{
    CLEANUP(stage_release) struct stage s = { .c = c, .shortest_ns = UINT64_MAX };

    if (c->round == 0 && result_init(c, out, f) != 0)
        return -1;
    out->first_n = out->n;
    s.rng = rng_derive(c->job->seed, "contest", (uint64_t)(c->index * 2 + c->round));
    for (uint8_t i = 0; i < ORDERS; i++)
        s.order[i] = i;
    return contest_steps(&s, out, f);
}

void contest_result_release(struct contest_result *r)
{
    for (int role = 0; role < CONTEST_PEERS_MAX; role++) {
        free(r->ns[role]);
        r->ns[role] = NULL;
    }
}
