/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded answers, one JSON object per line: {"hash", "kind", "role", "attempt", "answer",
 * "model", "tokens_in", "tokens_cached", "tokens_out", "usd_q", "seconds",
 * "estimated", "task", "call"}. Of several lines with
 * one hash the k-th request gets the k-th, the last one from then on. Thread: the owner's.
 */
#ifndef KS_LLM_CASSETTE_H
#define KS_LLM_CASSETTE_H

#include "llm/llm.h"

struct cassette;

/*
 * hash, kind and answer are needed, what else is known may be left out, unknown members are
 * refused. A last line without its newline that makes no sense is what a crash left while it was
 * written: it is passed over. ERR_NOT_FOUND, ERR_IO, ERR_INVALID (with the line), ERR_LIMIT.
 * Blocks.
 */
int cassette_load(const char *path, struct cassette **out, struct err *err);
/* The same; *whole is the number of bytes up to the end of the last line that makes sense. */
int cassette_load_whole(const char *path, struct cassette **out, size_t *whole, struct err *err);
/* The same of a file's bytes. */
int cassette_parse(const char *text, size_t len, struct cassette **out, size_t *whole,
                   struct err *err);
void cassette_free(struct cassette *c); /* NULL is fine */
size_t cassette_count(const struct cassette *c);
/* The next answer for this hash; false when there is none. Borrowed until cassette_free. */
bool cassette_next(struct cassette *c, const char *hash, struct llm_answer *out);
/*
 * The answer that was recorded for the call of this number and kind in a search of this task: for
 * prompts that have been worded anew since. False when there is none. Borrowed as above.
 */
bool cassette_at_call(const struct cassette *c, const struct llm_request *req,
                      struct llm_answer *out);
/* One line, with its newline, for a recording. Owned; NULL when a text is no UTF-8 or memory is
 * out.
 */
char *cassette_line(const struct llm_request *req, const struct llm_answer *a);

#endif
