/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of a search share; see search.h. Private to daemon/search. Thread: as there. */
#ifndef KS_SEARCH_SEARCH_IMPL_H
#define KS_SEARCH_SEARCH_IMPL_H

#include "search/search.h"

/* search_document.c: fills spec, scope, strategy and created_s of a zeroed search. ERR_CORRUPT;
 * what was filled by then is released with the search. */
int search_parse_document(const json_t *doc, struct search *s, struct err *err);

#endif
