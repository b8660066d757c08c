/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration's texts about models: chains ("gpt-5.2, gpt-5.2-mini@chat"), prices
 * ("gpt-5.2=1.25/0.125/10") and temperatures ("0.2 0.6 0.9"). Parsed strictly; docs/llm.md has the
 * forms. Values are structs without memory of their own. Thread: any.
 */
#ifndef KS_LLM_MODELS_H
#define KS_LLM_MODELS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "llm/llm.h"

enum { LLM_CHAIN_MAX = 8, LLM_PRICES_MAX = 64, LLM_TEMPERATURES_MAX = 8 };

/* Which of the two interfaces of an endpoint a model is spoken to through. */
enum llm_api { LLM_API_CHAT, LLM_API_RESPONSES, LLM_API_AUTO };

/* Models in the order in which they are tried. */
struct llm_chain {
    size_t n;
    struct {
        char name[LLM_MODEL_MAX];
        enum llm_api api; /* AUTO unless the name ends in "@chat" or "@responses" */
    } model[LLM_CHAIN_MAX];
};

/* Dollars per million tokens. */
struct llm_price {
    char model[LLM_MODEL_MAX];
    double in, cached, out;
};

struct llm_prices {
    size_t n;
    struct llm_price price[LLM_PRICES_MAX];
};

/* The k-th is for attempt k, the last one for all that follow. */
struct llm_temperatures {
    size_t n;
    double t[LLM_TEMPERATURES_MAX];
};

/* An empty text is an empty chain. ERR_INVALID names `option`, ERR_LIMIT. */
int llm_chain_parse(const char *option, const char *text, struct llm_chain *out, struct err *err);
/* ERR_INVALID, ERR_LIMIT. */
int llm_prices_parse(const char *text, struct llm_prices *out, struct err *err);
/* ERR_INVALID. */
int llm_temperatures_parse(const char *text, struct llm_temperatures *out, struct err *err);

/* Millionths of a dollar; 0 when the table does not have the model. `cached` of the tokens `in`
 * came from the endpoint's cache. */
int64_t llm_prices_cost(const struct llm_prices *p, const char *model, uint64_t in, uint64_t cached,
                        uint64_t out);
/* Of an attempt, 1 and up; negative when none is to be sent. */
double llm_temperature_of(const struct llm_temperatures *t, unsigned attempt);

#endif
