/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of `ksearch llm` share. Thread: main only. */
#ifndef KS_CLI_LLM_H
#define KS_CLI_LLM_H

#include "cli.h"

/* Who holds a request and for how long, "-" for nobody. Owned. */
char *llm_lease_text(const json_t *request);

#endif
