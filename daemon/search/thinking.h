/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a reasoning model says before its answer. A plain server passes the model's thoughts on in
 * front of it, as "<think> ... </think>"; providers that know better send them apart. They hold
 * drafts of programs and plans that are not meant. Thread: any.
 */
#ifndef KS_SEARCH_THINKING_H
#define KS_SEARCH_THINKING_H

/*
 * The answer without the think block that it begins with; all of it where it begins with anything
 * else. NULL when the block never ends: the answer was cut off inside it. Borrowed from `answer`.
 */
const char *thinking_skip(const char *answer);

#endif
