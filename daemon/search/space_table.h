/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A space of rows as a document of a few kilobytes: {"parameters": [{"name", "type", "values"}],
 * "rows": n, "columns": packed}. The form is canonical: parameters by name, rows by value index, so
 * that equal sets of assignments are equal documents, whatever file they came from. Thread: any.
 */
#ifndef KS_SEARCH_SPACE_TABLE_H
#define KS_SEARCH_SPACE_TABLE_H

#include <jansson.h>

#include "base/err.h"
#include "search/space.h"

/*
 * The document of a space of rows. Fresh. `order` (may be NULL) has room for space_rows numbers:
 * order[k] is the row of `s` that is row k of the document. ERR_NOMEM.
 */
int space_table_pack(const struct space *s, uint32_t *order, json_t **out, struct err *err);
/* The space of such a document; rows keep their order. ERR_CORRUPT, ERR_NOMEM. */
int space_table_unpack(const json_t *doc, struct space **out, struct err *err);
/* [{"name", "type", "values"}]: the parameters alone. Fresh. */
json_t *space_table_parameters(const struct space *s);

#endif
