/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The template language of prompts: text with the names of sections in double braces, blocks that
 * are kept or dropped with a section, comments, and a head that gives sections budgets.
 * docs/prompts.md has the language. What is put in is never looked at for further tags. Thread:
 * any; a template is immutable once parsed.
 */
#ifndef KS_SEARCH_TEMPLATE_H
#define KS_SEARCH_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/err.h"

enum {
    TEMPLATE_BYTES_MAX = 256 << 10,
    TEMPLATE_DEPTH_MAX = 16, /* blocks within blocks */
    TEMPLATE_BUDGET_MIN = 400,
    TEMPLATE_BUDGET_MAX = 512 << 10
};

/* A section that templates may name. */
struct template_name {
    const char *name;
    size_t budget; /* bytes when a template gives none; 0: it is never cut and takes no budget */
};

/* What a section is, for one rendering. Borrowed. */
struct template_value {
    const char *text; /* NULL: empty */
    size_t len;
};

struct template;

/*
 * Parses a template; `names` (borrowed for as long as the template lives) are the sections it may
 * name. ERR_INVALID with file and line: an unknown name, a block that is not closed or closed
 * twice, a tag without an end, a budget out of range; ERR_LIMIT: over TEMPLATE_BYTES_MAX.
 */
int template_parse(const char *file, const char *text, size_t len,
                   const struct template_name *names, size_t n_names, struct template **out,
                   struct err *err);
void template_free(struct template *t); /* NULL is fine */

/* Does it insert section i, or ask whether it is empty? */
bool template_uses(const struct template *t, size_t i);
/* Bytes that section i may have here. */
size_t template_budget(const struct template *t, size_t i);
/* Appends the text with values[n_names] in it; three and more line ends in a row that the template
 * itself leaves become two. ERR_LIMIT when `out` is too small. */
int template_render(const struct template *t, const struct template_value *values, struct buf *out,
                    struct err *err);

#endif
