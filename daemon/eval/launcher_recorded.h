/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The evaluator of recorded tasks: looks measurements up, instantly. It stands before another
 * evaluator and passes on every request that has a source. Tables are read from the knowledge base
 * on a worker when they are first needed, and the latest few are kept. Thread: loop.
 */
#ifndef KS_EVAL_LAUNCHER_RECORDED_H
#define KS_EVAL_LAUNCHER_RECORDED_H

#include "eval/launcher.h"

struct kb;
struct work_pool;

enum { RECORDED_TABLES_KEPT = 16 };

/*
 * `inner` is owned from here on; `kb` and `pool` are borrowed and outlive the evaluator. A request
 * without a source is answered by the table of its definition and device: eval_request.assignment
 * is the row. A row that the table does not have, and a table that cannot be read, end as
 * infrastructure. Never fails.
 */
struct evaluator *launcher_recorded_new(struct event_base *base, struct kb *kb,
                                        struct work_pool *pool, struct evaluator *inner);

#endif
