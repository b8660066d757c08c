/* SPDX-License-Identifier: Apache-2.0 */
/* `ksearch-eval check`: does a task pack hold together? */
#ifndef KS_HARNESS_SELFCHECK_H
#define KS_HARNESS_SELFCHECK_H

#include "base/err.h"

/*
 * Evaluates the pack's baseline, and its template with every parameter at its default, as
 * candidates on one workload set, and prints a line for each. ERR_FAILED when one does not pass,
 * ERR_NOT_FOUND, ERR_INVALID.
 */
int selfcheck(const char *pack_dir, const char *definition, const char *set, struct err *err);
/*
 * The macros of a template's default assignment, as docs/design.md section 2 passes them. `space`:
 * the contents of template.space.json. ERR_INVALID.
 */
struct program;
int selfcheck_defaults(const char *space, struct program *out, struct err *err);

#endif
