/* SPDX-License-Identifier: Apache-2.0 */
/* Claims and evidence of a cycle; see distil.h. */
#include "search/distil.h"

#include <ctype.h>
#include <math.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "base/str.h"
#include "screen.h"
#include "search/plan_answer.h"
#include "search/search.h"
#include "text.h"
#include "vocab.h"

enum { HOST_MIN = 4, NAMES_MAX = 256, SLUG_MIN = 3, SLUG_MAX = 48, STEMS_MAX = 64, TOLD_MAX = 240 };

/* What no claim may name: this machine, this task, its workloads. */
struct names {
    size_t n;
    char *items[NAMES_MAX];
    char host[256];
    const char *hosts[1];
    size_t n_hosts;
};

/* One cycle under way. */
struct distil {
    struct journal *j;
    struct search *s;
    const struct distil_case *c;
    const struct trial *with; /* the case's, or the failure */
    struct names names;
    struct text *text;
    json_t *accepted, *refused;
};

/* ---- Names of instances ---- */

static void add_name(struct names *n, const char *name, size_t len)
{
    char *copy = xcalloc(len + 1, 1);

    memcpy(copy, name, len);
    if (n->n < NAMES_MAX && screen_is_instance_name(copy))
        n->items[n->n++] = copy;
    else
        free(copy);
}

/* "num_kv_heads=4,head_dim=128": each pair is this instance's. */
static void add_shape(struct names *n, const char *shape)
{
    while (*shape) {
        size_t len = strcspn(shape, ",");

        add_name(n, shape, len);
        shape += len + (shape[len] == ',');
    }
}

/* Those that the measurement was of. A trial of the batch under way is not stored yet: its
 * comparable one is. */
static void add_workloads(struct distil *d, const struct trial *t)
{
    struct evaluation e;
    struct err ignored;

    if (t == NULL || !t->evaluation.hex[0] ||
        kb_get_evaluation(d->s->kb, &t->evaluation, &e, &ignored) != 0)
        return;
    for (size_t i = 0; i < e.n_workloads; i++)
        add_name(&d->names, e.workloads[i].name, strlen(e.workloads[i].name));
    evaluation_release(&e);
}

static void collect_names(struct distil *d)
{
    const struct search *s = d->s;
    struct names *n = &d->names;
    json_t *relative;
    size_t i;

    add_name(n, s->spec.id, strlen(s->spec.id));
    add_name(n, s->spec.task, strlen(s->spec.task));
    add_name(n, s->spec.device, strlen(s->spec.device));
    add_name(n, s->spec.set, strlen(s->spec.set));
    add_shape(n, s->scope.shape);
    json_array_foreach (s->scope.relatives, i, relative) {
        const char *task = jsonx_str(relative, "task", "");

        add_name(n, task, strlen(task));
    }
    add_workloads(d, d->with);
    add_workloads(d, d->c->without);
    if (gethostname(n->host, sizeof(n->host) - 1) == 0) {
        n->host[strcspn(n->host, ".")] = '\0';
        n->hosts[0] = n->host;
        n->n_hosts = strlen(n->host) >= HOST_MIN && strcasecmp(n->host, "localhost") != 0;
    }
}

static bool is_name_byte(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

/* The name as a word of its own, in any case. */
static bool names_it(const char *text, const char *name)
{
    size_t len = strlen(name);

    for (const char *at = text; (at = strcasestr(at, name)) != NULL; at++)
        if ((at == text || !is_name_byte(at[-1])) && !is_name_byte(at[len]))
            return true;
    return false;
}

/* What a text gives away, NULL for nothing. Static. */
static const char *gives_away(const struct distil *d, const char *text)
{
    struct screen screen = { .hosts = d->names.hosts, .n_hosts = d->names.n_hosts };
    const char *found = screen_text(&screen, text);

    for (size_t i = 0; found == NULL && i < d->names.n; i++)
        if (names_it(text, d->names.items[i]))
            found = "the name of an instance";
    return found;
}

/* ---- What a text is ---- */

static size_t count_words(const char *s)
{
    size_t n = 0;

    while (*s) {
        bool letters = false;

        for (; *s && !isspace((unsigned char)*s); s++)
            letters |= isalpha((unsigned char)*s) || (unsigned char)*s >= 0x80;
        n += letters;
        while (isspace((unsigned char)*s))
            s++;
    }
    return n;
}

/* A stop ends a sentence where the text ends or a capital follows: "e.g. this" is one. */
static size_t count_sentences(const char *s)
{
    size_t n = 0;
    bool open = false;

    for (; *s; s++) {
        const char *next = s + 1;

        if (!strchr(".!?", *s)) {
            open |= !isspace((unsigned char)*s);
            continue;
        }
        while (isspace((unsigned char)*next))
            next++;
        if (*next == '\0' || (next > s + 1 && isupper((unsigned char)*next))) {
            n++;
            open = false;
        }
    }
    return n + open;
}

static bool has_control(const char *s)
{
    for (; *s; s++)
        if (iscntrl((unsigned char)*s))
            return true;
    return false;
}

/* The techniques that a text names; returns how many of `cap` there are. */
static size_t named_techniques(const struct distil *d, const char *text, uint16_t *out, size_t cap)
{
    uint64_t stems[STEMS_MAX];
    struct text_token tok;
    struct text_scan sc;
    size_t n = 0;

    text_scan_init(&sc, d->text, text, strlen(text));
    while (n < STEMS_MAX && text_next(&sc, &tok))
        if (!tok.is_stop && !tok.is_compound)
            stems[n++] = tok.hash;
    return vocab_scan(stems, n, out, cap);
}

/* ---- What a model says ---- */

/* Why a statement cannot stand, NULL when it can. Static. */
static const char *statement_fault(const struct distil *d, const char *s)
{
    size_t len = strlen(s);

    if (len < DISTIL_STATEMENT_MIN || count_words(s) < DISTIL_WORDS_MIN)
        return "the statement says too little";
    if (len > DISTIL_STATEMENT_MAX)
        return "the statement is longer than 400 bytes";
    if (has_control(s))
        return "the statement has line breaks or control characters";
    if (count_sentences(s) > DISTIL_SENTENCES_MAX)
        return "the statement is more than two sentences";
    return gives_away(d, s);
}

/* A name of the vocabulary's form that is a technique of its own. */
static bool is_slug(const char *s)
{
    size_t len = strlen(s), words = 1, letters = 0;

    if (len < SLUG_MIN || len > SLUG_MAX || !isalpha((unsigned char)s[0]) || s[len - 1] == '-')
        return false;
    for (; *s; s++) {
        if (!islower((unsigned char)*s) && !isdigit((unsigned char)*s) && *s != '-')
            return false;
        words += *s == '-';
        letters += islower((unsigned char)*s) != 0;
    }
    return words <= VOCAB_PHRASE_WORDS && letters >= SLUG_MIN;
}

/* The technique that a model's word stands for: the vocabulary's, by any synonym or as the only one
 * named, or one of its own. */
static const char *find_technique(const struct distil *d, const char *given,
                                  char out[VOCAB_NAME_MAX], bool *proposed)
{
    uint16_t named[2];

    *proposed = false;
    if (strlen(given) >= VOCAB_NAME_MAX || has_control(given))
        return "the technique is no name";
    vocab_canonical(given, out);
    if (vocab_find(given) >= 0)
        return NULL;
    if (named_techniques(d, given, named, ARRAY_LEN(named)) == 1) {
        vocab_canonical(vocab_at(named[0])->name, out);
        return NULL;
    }
    *proposed = true;
    if (!is_slug(out))
        return "the technique is not in the vocabulary, and no name of up to five plain words";
    return gives_away(d, out) ? "the technique names an instance" : NULL;
}

/* Mechanism and condition as one text; "" where they say what no claim may. Owned. */
static char *mechanism_of(const struct distil *d, const json_t *insight)
{
    const char *mechanism = jsonx_str(insight, "mechanism", "");
    const char *condition = jsonx_str(insight, "condition", "");
    size_t len = strlen(mechanism);
    bool stop = len > 0 && strchr(".!?", mechanism[len - 1]) != NULL;
    char *s;

    if (len > DISTIL_MECHANISM_MAX || has_control(mechanism) || gives_away(d, mechanism))
        mechanism = "";
    if (strlen(condition) > DISTIL_MECHANISM_MAX / 2 || has_control(condition) ||
        gives_away(d, condition))
        condition = "";
    s = str_printf("%s%s%s%s", mechanism, mechanism[0] && condition[0] ? (stop ? " " : ". ") : "",
                   condition[0] ? "Expected where: " : "", condition);
    if (s != NULL && strlen(s) > DISTIL_MECHANISM_MAX)
        s[0] = '\0';
    return s;
}

/* ---- Evidence ---- */

/* What the system knows of the cycle: a pair, a failure, or nothing (NULL). */
static const char *evidence_kind(const struct distil *d)
{
    const struct trial *with = d->with, *without = d->c->without;

    if (with == NULL || !with->evaluation.hex[0])
        return NULL;
    if (!with->ok)
        return "failure";
    if (without == NULL || !without->ok || !without->evaluation.hex[0] ||
        strcmp(with->evaluation.hex, without->evaluation.hex) == 0)
        return NULL;
    return "pair";
}

static int64_t effect_q(const struct distil *d)
{
    return d->with->ok ? d->with->objective_q - d->c->without->objective_q : 0;
}

/* Evidence borrows its strings: it is serialised at once and never released. */
static int add_evidence(const struct distil *d, const struct id *claim, struct err *err)
{
    const struct search *s = d->s;
    const struct trial *with = d->with, *without = d->c->without;
    bool told = !d->c->memory_free && s->memory != NULL && s->offers.n > 0;
    struct evidence e = {
        .claim = *claim,
        .kind = (char *)evidence_kind(d),
        .with = with->evaluation,
        .effect_q = effect_q(d),
        .steered = told || trial_steered(with),
        .failure = with->ok ? "" : with->status,
        .task = s->spec.task,
        .device = s->spec.device,
        .device_class = s->scope.device_class,
        .shape = s->scope.shape,
        .toolchain = s->scope.toolchain,
        .features = s->scope.features,
        .measured_at_s = d->j->clock->wall_ns(d->j->clock) / NS_PER_SEC,
    };

    if (with->ok) {
        e.without = without->evaluation;
        e.sd_q = llround(hypot((double)with->sd_q, (double)without->sd_q));
    }
    return kb_batch_add_evidence(d->j->batch, &e, NULL, err);
}

/* ---- Claims ---- */

static void refuse(const struct distil *d, const char *why, const char *text)
{
    char visible[TOLD_MAX];

    str_visible(text, strlen(text), visible, sizeof(visible));
    json_array_append_new(d->refused, json_pack("{s:s, s:s}", "why", why, "text", visible));
}

/* Adds a claim with its evidence; the texts are borrowed. What the base refuses, as what a model
 * said badly, is in the report. */
static int state_claim(const struct distil *d, const char *technique, const char *statement,
                       const char *mechanism, bool proposed, struct err *err)
{
    const struct search *s = d->s;
    struct claim claim = { .technique = (char *)technique,
                           .statement = (char *)statement,
                           .mechanism = (char *)mechanism,
                           .family = s->scope.family,
                           .dtype = s->scope.dtype,
                           .language = s->scope.language,
                           .bottleneck = s->scope.bottleneck,
                           .requires = "",
                           .param = "",
                           .with_value = "",
                           .without_value = "" };
    struct id id;

    if (kb_batch_add_claim(d->j->batch, &claim, &id, err) != 0) {
        if (err->code != ERR_INVALID)
            return -1;
        refuse(d, err->msg, statement);
        return 0;
    }
    if (add_evidence(d, &id, err) != 0)
        return -1;
    json_array_append_new(d->accepted,
                          json_pack("{s:s, s:s, s:b, s:s}", "claim", id.hex, "technique", technique,
                                    "proposed", proposed, "statement", statement));
    return 0;
}

/* One claim a technique and a statement once: the cycle has one effect. */
static bool said_before(const struct distil *d, const char *technique, const char *statement)
{
    json_t *claim;
    size_t i;

    json_array_foreach (d->accepted, i, claim)
        if (strcmp(jsonx_str(claim, "technique", ""), technique) == 0 ||
            strcasecmp(jsonx_str(claim, "statement", ""), statement) == 0)
            return true;
    return false;
}

/* The text without blanks around it, and with one for each run of them inside. Owned. */
static char *tidy(const char *s)
{
    char *out = xcalloc(strlen(s) + 1, 1);
    size_t n = 0;

    for (; *s; s++)
        if (*s != ' ' || (n > 0 && out[n - 1] != ' '))
            out[n++] = *s;
    while (n > 0 && out[n - 1] == ' ')
        out[--n] = '\0';
    return out;
}

static int take_insight(const struct distil *d, const json_t *insight, struct err *err)
{
    CLEANUP(freep) char *statement = tidy(jsonx_str(insight, "statement", ""));
    CLEANUP(freep) char *mechanism = NULL;
    char technique[VOCAB_NAME_MAX] = "";
    bool proposed = false;
    const char *why;

    if (!json_is_object(insight))
        why = "an insight is an object with technique and statement";
    else if ((why = statement_fault(d, statement)) == NULL)
        why = find_technique(d, jsonx_str(insight, "technique", ""), technique, &proposed);
    if (why == NULL && said_before(d, technique, statement))
        why = "the technique, or the statement, was stated before in this cycle";
    if (why != NULL) {
        refuse(d, why, statement);
        return 0;
    }
    mechanism = mechanism_of(d, insight);
    if (mechanism == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an insight");
    return state_claim(d, technique, statement, mechanism, proposed, err);
}

static int take_insights(const struct distil *d, const json_t *insights, struct err *err)
{
    json_t *insight;
    size_t i;

    json_array_foreach (insights, i, insight) {
        if (i >= PLAN_INSIGHTS_MAX) {
            refuse(d, "a cycle states no more than four insights", "");
            break;
        }
        if (take_insight(d, insight, err) != 0)
            return -1;
    }
    return 0;
}

/* ---- Without a model's words ---- */

/* The technique that the node is about: the first that its title names, else its own decision and
 * commitments. */
static const struct vocab_entry *intended(const struct distil *d)
{
    const struct world_node *n = world_get(d->s->world, d->c->node);
    uint16_t found;

    if (named_techniques(d, n->action.title, &found, 1) == 1 ||
        named_techniques(d, n->choice, &found, 1) == 1)
        return vocab_at(found);
    for (size_t i = 0; i < n->n_commitments; i++)
        if (named_techniques(d, n->commitments[i].param, &found, 1) == 1 ||
            named_techniques(d, n->commitments[i].value, &found, 1) == 1)
            return vocab_at(found);
    return NULL;
}

/* In the vocabulary's words, so that equal findings of all searches are equal claims. */
static int state_intent(const struct distil *d, struct err *err)
{
    const struct vocab_entry *e = intended(d);
    CLEANUP(freep) char *statement = NULL;

    if (e == NULL) {
        refuse(d, "the node names no technique of the vocabulary: nothing is stated", "");
        return 0;
    }
    statement = str_printf("Apply %s: %s", e->name, e->summary);
    if (statement == NULL)
        return err_set(err, ERR_NOMEM, "no memory for an insight");
    return state_claim(d, e->name, statement, "", false, err);
}

/* ---- The cycle ---- */

/* A cycle without a pass: what its last attempt failed with. */
static const struct trial *last_failure(const struct search *s, uint64_t cycle)
{
    for (uint64_t n = search_measured(s); n >= 1; n--) {
        const struct trial *t = search_trial(s, n);

        if (t->cycle == cycle)
            return t->ok ? NULL : t;
    }
    return NULL;
}

static int learn(struct distil *d, const json_t *insights, struct err *err)
{
    if (evidence_kind(d) == NULL) {
        refuse(d, "nothing was measured that could be compared: nothing is stated", "");
        return 0;
    }
    collect_names(d);
    if (take_insights(d, insights, err) != 0)
        return -1;
    return json_array_size(d->accepted) > 0 ? 0 : state_intent(d, err);
}

int distil_cycle(struct journal *j, const struct distil_case *c, const json_t *insights,
                 json_t **report, struct err *err)
{
    struct distil d = { .j = j, .s = j->search, .c = c, .with = c->with };
    const char *kind;
    int rc = 0;

    if (c->node >= world_count(j->search->world))
        return err_set(err, ERR_INTERNAL, "a cycle of no node cannot be learned from");
    if (d.with == NULL)
        d.with = last_failure(d.s, c->cycle);
    d.text = text_new();
    d.accepted = json_array();
    d.refused = json_array();
    if (d.text == NULL || d.accepted == NULL || d.refused == NULL)
        rc = err_set(err, ERR_NOMEM, "no memory to learn from a cycle");
    if (rc == 0)
        rc = learn(&d, insights, err);
    text_free(d.text);
    for (size_t i = 0; i < d.names.n; i++)
        free(d.names.items[i]);
    if (rc != 0) {
        json_decref(d.accepted);
        json_decref(d.refused);
        return -1;
    }
    kind = evidence_kind(&d);
    *report = json_pack("{s:s?, s:I, s:o, s:o}", "evidence", kind, "effect_q",
                        (json_int_t)(kind ? effect_q(&d) : 0), "accepted", d.accepted, "refused",
                        d.refused);
    return *report ? 0 : err_set(err, ERR_NOMEM, "no memory for a report on a cycle");
}
