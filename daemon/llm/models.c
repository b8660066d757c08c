/* SPDX-License-Identifier: Apache-2.0 */
/* Chains, prices and temperatures; see models.h. */
#include "llm/models.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

enum { TOKENS_MAX = 1000000000 }; /* no cost is counted beyond: products stay exact */

static const double price_max = 100000, temperature_max = 2;

static const char blanks[] = " \t";

/* The next entry of a list with commas between, without the blanks around it; NULL at the end. An
 * empty entry has *len 0. */
static const char *next_entry(const char **at, size_t *len)
{
    const char *start = *at, *end;

    if (start == NULL)
        return NULL;
    end = start + strcspn(start, ",");
    *at = *end == ',' ? end + 1 : NULL;
    start += strspn(start, blanks);
    while (end > start && strchr(blanks, end[-1]) != NULL)
        end--;
    *len = end > start ? (size_t)(end - start) : 0;
    return start;
}

static bool is_empty(const char *text)
{
    return text[strspn(text, blanks)] == '\0';
}

static bool copy_name(const char *s, size_t len, char out[LLM_MODEL_MAX])
{
    if (len == 0 || len >= LLM_MODEL_MAX)
        return false;
    for (size_t i = 0; i < len; i++)
        if (s[i] < 0x21 || s[i] > 0x7e || strchr("\"\\#;", s[i]) != NULL)
            return false;
    memcpy(out, s, len);
    out[len] = '\0';
    return true;
}

static bool cut_suffix(const char *s, size_t *len, const char *suffix)
{
    size_t n = strlen(suffix);

    if (*len < n || memcmp(s + *len - n, suffix, n) != 0)
        return false;
    *len -= n;
    return true;
}

int llm_chain_parse(const char *option, const char *text, struct llm_chain *out, struct err *err)
{
    struct llm_chain c = { 0 };
    const char *at = is_empty(text) ? NULL : text, *s;
    size_t len;

    while ((s = next_entry(&at, &len)) != NULL) {
        char seen[LLM_MODEL_MAX];

        str_visible(s, len, seen, sizeof(seen));
        if (c.n == LLM_CHAIN_MAX)
            return err_set(err, ERR_LIMIT, "'%s' has more than %d models", option, LLM_CHAIN_MAX);
        c.model[c.n].api = cut_suffix(s, &len, "@chat")        ? LLM_API_CHAT
                           : cut_suffix(s, &len, "@responses") ? LLM_API_RESPONSES
                                                               : LLM_API_AUTO;
        if (!copy_name(s, len, c.model[c.n].name))
            return err_set(err, ERR_INVALID,
                           "'%s' has '%s' where a model is named; allowed are 1 to %d visible "
                           "characters without blanks, quotes, backslashes, # and ;, then @chat, "
                           "@responses or nothing; commas stand between models",
                           option, seen, LLM_MODEL_MAX - 1);
        for (size_t i = 0; i < c.n; i++)
            if (strcmp(c.model[i].name, c.model[c.n].name) == 0)
                return err_set(err, ERR_INVALID, "'%s' names '%s' twice", option, seen);
        c.n++;
    }
    *out = c;
    return 0;
}

/* "1.25", up to `stop`. */
static bool read_price(const char **at, const char *end, char stop, double *out)
{
    const char *close = stop ? memchr(*at, stop, (size_t)(end - *at)) : end;
    char number[32];
    size_t len = close ? (size_t)(close - *at) : sizeof(number);

    if (len == 0 || len >= sizeof(number))
        return false;
    memcpy(number, *at, len);
    number[len] = '\0';
    *at = close + (stop != '\0');
    return str_to_double(number, out) && *out >= 0 && *out <= price_max;
}

static bool read_entry(const char *s, size_t len, struct llm_price *p)
{
    const char *end = s + len, *at = memrchr(s, '=', len);

    if (at == NULL || !copy_name(s, (size_t)(at - s), p->model))
        return false;
    at++;
    return read_price(&at, end, '/', &p->in) && read_price(&at, end, '/', &p->cached) &&
           read_price(&at, end, '\0', &p->out);
}

int llm_prices_parse(const char *text, struct llm_prices *out, struct err *err)
{
    const char *at = is_empty(text) ? NULL : text, *s;
    size_t len;

    out->n = 0;
    while ((s = next_entry(&at, &len)) != NULL) {
        char seen[LLM_MODEL_MAX];

        str_visible(s, len, seen, sizeof(seen));
        if (out->n == LLM_PRICES_MAX)
            return err_set(err, ERR_LIMIT, "'llm_prices' has more than %d models", LLM_PRICES_MAX);
        if (!read_entry(s, len, &out->price[out->n]))
            return err_set(err, ERR_INVALID,
                           "'llm_prices' has '%s'; an entry is MODEL=IN/CACHED/OUT, dollars per "
                           "million tokens from 0 to %g, commas between entries",
                           seen, price_max);
        for (size_t i = 0; i < out->n; i++)
            if (strcmp(out->price[i].model, out->price[out->n].model) == 0)
                return err_set(err, ERR_INVALID, "'llm_prices' has '%s' twice",
                               out->price[i].model);
        out->n++;
    }
    return 0;
}

int llm_temperatures_parse(const char *text, struct llm_temperatures *out, struct err *err)
{
    struct llm_temperatures t = { 0 };

    for (const char *s = text + strspn(text, blanks); *s != '\0'; s += strspn(s, blanks)) {
        size_t len = strcspn(s, blanks);
        char number[32] = "", seen[64];

        if (len < sizeof(number))
            memcpy(number, s, len);
        str_visible(text, strlen(text), seen, sizeof(seen));
        if (t.n == LLM_TEMPERATURES_MAX || !str_to_double(number, &t.t[t.n]) || t.t[t.n] < 0 ||
            t.t[t.n] > temperature_max)
            return err_set(err, ERR_INVALID,
                           "'llm_temperature' is '%s'; allowed are up to %d numbers from 0 to %g, "
                           "blanks between, or nothing",
                           seen, LLM_TEMPERATURES_MAX, temperature_max);
        t.n++;
        s += len;
    }
    *out = t;
    return 0;
}

int64_t llm_prices_cost(const struct llm_prices *p, const char *model, uint64_t in, uint64_t cached,
                        uint64_t out)
{
    in = MIN(in, (uint64_t)TOKENS_MAX);
    out = MIN(out, (uint64_t)TOKENS_MAX);
    cached = MIN(cached, in);
    for (size_t i = 0; i < p->n; i++)
        if (strcmp(p->price[i].model, model) == 0)
            return llround((double)(in - cached) * p->price[i].in +
                           (double)cached * p->price[i].cached + (double)out * p->price[i].out);
    return 0;
}

double llm_temperature_of(const struct llm_temperatures *t, unsigned attempt)
{
    if (t->n == 0)
        return -1;
    return t->t[MIN(t->n, (size_t)MAX(attempt, 1u)) - 1];
}
