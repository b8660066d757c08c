/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a build tells whoever wrote the source: the compiler's diagnostics, classified and counted
 * once each; which loops became vector code and why others did not; sizes. Everything read here is
 * hostile text or bytes: lists are capped with a count of what was left out, messages end at the
 * end of a sentence, and a file name in a message is never opened. Thread: any.
 */
#ifndef KS_HARNESS_REPORT_H
#define KS_HARNESS_REPORT_H

#include <jansson.h>

#include "build.h"

#define REPORT_DIAGNOSTICS_MAX 24
#define REPORT_LOOPS_MAX 32
#define REPORT_MESSAGE_MAX 400
#define REPORT_SOURCE_MAX 120 /* of a line of the source that is shown */

/*
 * The members of the record's "build" that come from the build itself (docs/design.md section 3).
 * `source`: the text that was compiled; `compiler`: build_compiler's name. Owned; NULL: no memory.
 */
json_t *report_make(const struct build *b, const char *source, const char *compiler);

#endif
