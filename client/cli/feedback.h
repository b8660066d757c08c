/* SPDX-License-Identifier: Apache-2.0 */
/* An evaluation's feedback (docs/design.md section 3) as tables for a person. */
#ifndef KS_CLI_FEEDBACK_H
#define KS_CLI_FEEDBACK_H

#include <jansson.h>

/* The workloads' table: times with spread, floor, share of the roofline. Prints nothing without
 * workloads. */
void feedback_print_workloads(const json_t *feedback);
/* All of it: workloads, diagnostics, loops, sizes, counters. */
void feedback_print(const json_t *feedback);

#endif
