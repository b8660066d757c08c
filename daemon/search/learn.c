/* SPDX-License-Identifier: Apache-2.0 */
/* Claims and evidence from comparable trials; see learn.h. */
#include "search/learn.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* The one parameter in which two assignments differ; -1 when it is none or several. */
static int single_difference(const struct space *space, const uint16_t *a, const uint16_t *b)
{
    int found = -1;

    for (size_t p = 0; p < space_n(space); p++) {
        if (a[p] == b[p])
            continue;
        if (found >= 0)
            return -1;
        found = (int)p;
    }
    return found;
}

/*
 * A claim needs one direction, whichever trial came first: away from the default when one of the
 * values is the default, else from the smaller index to the larger.
 */
static bool is_with(const struct space_param *param, uint16_t value, uint16_t other)
{
    if (value == param->default_index)
        return false;
    if (other == param->default_index)
        return true;
    return value > other;
}

/* "KV_TILE 64" reads better in a sentence than "KV_TILE=64" and stems the same. */
static char *statement_of(const struct space_param *param, uint16_t with, uint16_t without)
{
    const struct space_value *v = &param->values[with];
    const char *help = v->help ? v->help : param->help ? param->help : "";
    char *s = str_printf("Set %s to %s rather than %s%s%s%s", param->name, v->text,
                         param->values[without].text, help[0] ? ": " : "", help,
                         help[0] && help[strlen(help) - 1] == '.' ? "" : ".");

    return s;
}

int learn_claim(const struct learn_scope *scope, size_t p, uint16_t with, uint16_t without,
                struct claim *out, struct err *err)
{
    const struct space_param *param = space_param(scope->space, p);
    struct claim c = {
        .technique = strdup(param->technique ? param->technique : "tuning"),
        .statement = statement_of(param, with, without),
        .mechanism = strdup(param->help ? param->help : ""),
        .family = strdup(scope->family),
        .dtype = strdup(scope->dtype),
        .language = strdup(scope->language),
        .bottleneck = strdup(scope->bottleneck),
        .requires = strdup(""),
        .param = strdup(param->name),
        .with_value = strdup(param->values[with].text),
        .without_value = strdup(param->values[without].text),
    };

    if (!c.technique || !c.statement || !c.mechanism || !c.family || !c.dtype || !c.language ||
        !c.bottleneck || !c.requires || !c.param || !c.with_value || !c.without_value) {
        claim_release(&c);
        return err_set(err, ERR_NOMEM, "no memory for a claim about %s", param->name);
    }
    *out = c;
    return 0;
}

/* Evidence borrows its strings from the scope: it is serialised at once and never released. */
static int add_evidence(struct kb_batch *b, const struct learn_scope *scope, const struct id *claim,
                        const struct trial *with, const struct trial *without, bool steered,
                        uint64_t measured_at_s, struct err *err)
{
    bool failed = !with->ok;
    struct evidence e = {
        .claim = *claim,
        .kind = (char *)(failed ? "failure" : "pair"),
        .with = with->evaluation,
        .steered = steered,
        .failure = (char *)(failed ? with->status : ""),
        .task = (char *)scope->task,
        .device = (char *)scope->device,
        .device_class = (char *)scope->device_class,
        .shape = (char *)scope->shape,
        .toolchain = (char *)scope->toolchain,
        .features = (json_t *)scope->features,
        .measured_at_s = measured_at_s,
    };

    if (!failed) {
        e.without = without->evaluation;
        e.effect_q = with->objective_q - without->objective_q;
        e.sd_q = llround(hypot((double)with->sd_q, (double)without->sd_q));
    }
    return kb_batch_add_evidence(b, &e, NULL, err);
}

static int learn_pair(struct kb_batch *b, const struct learn_scope *scope, size_t p,
                      const struct trial *t, const struct trial *other, uint64_t measured_at_s,
                      struct err *err)
{
    const struct space_param *param = space_param(scope->space, p);
    bool t_is_with = is_with(param, t->a[p], other->a[p]);
    const struct trial *with = t_is_with ? t : other, *without = t_is_with ? other : t;
    struct claim claim;
    struct id id;
    int rc;

    if (!t->ok && !t_is_with)
        with = t, without = other; /* a failure is evidence about the value that failed */
    if (!other->ok)
        with = other, without = t;
    if (learn_claim(scope, p, with->a[p], without->a[p], &claim, err) != 0)
        return -1;
    rc = kb_batch_add_claim(b, &claim, &id, err);
    claim_release(&claim);
    if (rc != 0)
        return -1;
    return add_evidence(b, scope, &id, with, without, trial_steered(t), measured_at_s, err);
}

int learn_from_trial(struct kb_batch *b, const struct learn_scope *scope,
                     const struct trial *const *prev, size_t n, const struct trial *t,
                     uint64_t measured_at_s, size_t *n_evidence, struct err *err)
{
    size_t added = 0;

    for (size_t i = n; i > 0 && added < LEARN_PAIRS_MAX; i--) {
        const struct trial *other = prev[i - 1];
        int p;

        if (!other->measured || (!other->ok && !t->ok))
            continue;
        if (other->same_as != 0)
            continue; /* its measurement has spoken already, as another trial's */
        p = single_difference(scope->space, t->a, other->a);
        if (p < 0)
            continue;
        if (learn_pair(b, scope, (size_t)p, t, other, measured_at_s, err) != 0)
            return -1;
        added++;
    }
    *n_evidence = added;
    return 0;
}
