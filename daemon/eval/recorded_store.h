/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recorded tasks in the knowledge base (docs/format.md has the documents): making them of tables,
 * reading them again. A task document says what the space is and which devices it was recorded on;
 * a table lies beside it, in a document of its own that only recorded_load reads. The same table
 * may also be stored as evaluations, which are facts like those of any search. Thread: worker,
 * blocks; two imports at once take turns.
 */
#ifndef KS_EVAL_RECORDED_STORE_H
#define KS_EVAL_RECORDED_STORE_H

#include <jansson.h>

#include "base/err.h"
#include "eval/recorded.h"
#include "kb.h"

/* What recorded tasks and their facts say for "language". */
#define RECORDED_LANGUAGE "recorded"

/*
 * Makes the task, or extends it to one more device, and makes the device when it is missing. The
 * same table again changes nothing. `*reply` (fresh): {task, device, assignments, valid,
 * failures{}, parameters, devices[], noise, changed}. ERR_CONFLICT: another table is there for this
 * task and device, or the task's parameters are others.
 */
int recorded_import_table(struct kb *kb, const char *task, const char *device,
                          const struct recorded *r, json_t **reply, struct err *err);
/*
 * Stores each row as an evaluation of the device, and evidence from rows that differ in one
 * parameter by one step; makes the task (its space only) and the device when they are missing. The
 * same again changes nothing.
 * `*reply` as above, without noise. ERR_CONFLICT as above, for parameters.
 */
int recorded_import_facts(struct kb *kb, const char *task, const char *device,
                          const struct recorded *r, json_t **reply, struct err *err);

/*
 * The document of a device, or of one that nothing is known of but its name (*made: it is not
 * stored then). Fresh. ERR_INVALID (a long name), ERR_IO.
 */
int recorded_device_document(struct kb *kb, const char *device, json_t **out, bool *made,
                             struct err *err);

/* The table of a task on a device. ERR_NOT_FOUND, ERR_CORRUPT. */
int recorded_load(struct kb *kb, const char *task, const char *device, struct recorded **out,
                  struct err *err);

/* Is this task document one of a recorded task? */
bool recorded_is_task(const json_t *doc);
/*
 * The device that a search of the task runs on: `asked` (NULL: the only one, else `fallback` when
 * it is among them), into *out, borrowed from `doc`. ERR_NOT_FOUND, ERR_INVALID (several; the
 * sentence names them).
 */
int recorded_device(const json_t *doc, const char *task, const char *asked, const char *fallback,
                    const char **out, struct err *err);
/* The id of the program that stands for the space of the task on a device; NULL when there is no
 * table. Borrowed. */
const char *recorded_program(const json_t *doc, const char *device);
/* Names of the devices with a table, as a fresh array. */
json_t *recorded_devices(const json_t *doc);
/* The row of task.list and the answer of task.show. Fresh. Neither has anything of a table. */
json_t *recorded_list_json(const char *task, const json_t *doc);
json_t *recorded_show_json(const char *task, const json_t *doc);

#endif
