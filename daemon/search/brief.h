/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The brief of a search: what a language model must know of task and device and what never changes
 * while the search runs, as one document that is stored with it (search->scope.brief). It holds no
 * names of machines and no paths. Thread: any.
 */
#ifndef KS_SEARCH_BRIEF_H
#define KS_SEARCH_BRIEF_H

#include <jansson.h>

struct pack_definition;
struct pack_set;

/*
 * {format 1, task, objective, abi, build, device}; docs/prompts.md has the members. `device` is a
 * device record (docs/design.md section 5) or NULL. The same arguments give the same bytes. Owned;
 * aborts when memory is out.
 */
json_t *brief_make(const struct pack_definition *def, const struct pack_set *set,
                   const json_t *device);

#endif
