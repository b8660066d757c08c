/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must not leave in a pack: a detector for paths, hosts, addresses of people, key-like strings
 * and names of workload instances in the texts of facts and programs. It errs on the side of
 * finding: what it finds is left out and named, never changed, because a fact is its content
 * address. docs/packs.md lists the rules. Thread: any.
 */
#ifndef KS_KB_SCREEN_H
#define KS_KB_SCREEN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* Words of this machine, borrowed. */
struct screen {
    const char *const *hosts; /* sorted by strcasecmp, and compared so */
    size_t n_hosts;
    const char *const *instances; /* names of workloads (screen_is_instance_name), by strcmp */
    size_t n_instances;
};

/*
 * Is a workload's name one that nothing else would be called? At least four bytes, and not letters
 * alone: "b16_ragged" is, "decode" is a word.
 */
bool screen_is_instance_name(const char *name);

/* What `text` would give away ("an absolute path"), or NULL. The result is a constant. */
const char *screen_text(const struct screen *s, const char *text);
/* The same without the rules that code breaks by nature: only paths to people's folders, addresses
 * and keys. For sources. */
const char *screen_source(const struct screen *s, const char *text);
/* screen_text of every text in a JSON value, keys included. */
const char *screen_json(const struct screen *s, const json_t *v);

#endif
