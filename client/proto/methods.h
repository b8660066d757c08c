/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The names of all methods and notifications, for both sides. What a method takes and gives is
 * written in the daemon's table (`daemon/rpc/`), from which the daemon parses requests.
 */
#ifndef KS_PROTO_METHODS_H
#define KS_PROTO_METHODS_H

/* First on every connection: {version, client} -> {version, program, release}. */
#define METHOD_HELLO "hello"
#define METHOD_STATUS "status"

#define METHOD_TASK_LIST "task.list"
#define METHOD_TASK_SHOW "task.show"     /* {task} */
#define METHOD_TASK_IMPORT "task.import" /* {files}: a task pack */
#define METHOD_TASK_CHECK "task.check"   /* {task, device?, set?} */
/* {name, device, noise?} and a T4 file: a recorded space */
#define METHOD_TASK_IMPORT_RECORDED "task.import_recorded"

#define METHOD_DEVICE_LIST "device.list"
#define METHOD_DEVICE_SHOW "device.show"     /* {device} */
#define METHOD_DEVICE_PROBE "device.probe"   /* {name?, march?} */
#define METHOD_DEVICE_IMPORT "device.import" /* {device} */

/* {task, device?, proposer?, strategy?, cold?, seed?, set?, policy?, budget?} -> {id, state} */
#define METHOD_SEARCH_START "search.start"
#define METHOD_SEARCH_LIST "search.list"
#define METHOD_SEARCH_SHOW "search.show"   /* {search}, as are the next four */
#define METHOD_SEARCH_WATCH "search.watch" /* -> {id, state}, then the notifications below */
#define METHOD_SEARCH_PAUSE "search.pause"
#define METHOD_SEARCH_RESUME "search.resume"
#define METHOD_SEARCH_CANCEL "search.cancel"
#define METHOD_SEARCH_EXPLAIN "search.explain" /* {search, node?} */
#define METHOD_SEARCH_TREE "search.tree"       /* {search} */

#define METHOD_PROGRAM_LIST "program.list" /* {task?, device?} */
#define METHOD_PROGRAM_SHOW "program.show" /* {program} */

/* {device, from?, tasks?, toolchain?, budget?, control?, seed?}; start -> {id, state, joined} */
#define METHOD_RETUNE_PLAN "retune.plan"
#define METHOD_RETUNE_START "retune.start"
#define METHOD_RETUNE_LIST "retune.list"
#define METHOD_RETUNE_SHOW "retune.show"   /* {retune}, as are the next two */
#define METHOD_RETUNE_WATCH "retune.watch" /* -> {id, state}, then the notifications below */
#define METHOD_RETUNE_CANCEL "retune.cancel"

#define METHOD_QUERY "query" /* {text, task?, device?, technique?, limit?, as_of?, explain?} */

#define METHOD_INSIGHT_LIST "insight.list" /* {limit?} */
#define METHOD_INSIGHT_SHOW "insight.show" /* {insight} */
#define METHOD_INSIGHT_ADD "insight.add"   /* {technique, statement, mechanism?, family?, ...} */
#define METHOD_INSIGHT_RETRACT "insight.retract" /* {insight, reason} */

#define METHOD_KB_STATS "kb.stats"   /* {calibration?} */
#define METHOD_KB_DOCTOR "kb.doctor" /* {stale?} */
#define METHOD_KB_VERIFY "kb.verify" /* {digest?} */
#define METHOD_KB_IMPORT "kb.import" /* {format?, task?, device?} and a file */
/* {task?, family?, device?, technique?, since?, ...} and an empty file to write to */
#define METHOD_KB_EXPORT "kb.export"
#define METHOD_KB_BACKUP "kb.backup" /* {dir} */
#define METHOD_KB_GC "kb.gc"         /* {dry_run?} */
#define METHOD_KB_KEY_SHOW "kb.key_show"
#define METHOD_KB_KEY_TRUST "kb.key_trust" /* {key, name?} */
#define METHOD_KB_KEY_LIST "kb.key_list"
#define METHOD_KB_KEY_DISTRUST "kb.key_distrust" /* {key} */

#define METHOD_EVAL_RUN "eval.run" /* {task, device?, set?, source, assignment?} */

#define METHOD_LLM_PENDING "llm.pending" /* {search?} */
#define METHOD_LLM_TAKE "llm.take"       /* {id?, search?, who?, lease?} */
#define METHOD_LLM_RELEASE "llm.release" /* {id, who} */
#define METHOD_LLM_ANSWER "llm.answer"   /* {id, text, who?, model?} */
#define METHOD_LLM_WATCH "llm.watch"     /* -> {requests}, then the notifications below */
#define METHOD_LLM_STATUS "llm.status"

/* Notifications of a watched search: {search, event} any number of times, then {search, state}
 * once. */
#define NOTIFY_SEARCH_EVENT "search.event"
#define NOTIFY_SEARCH_END "search.end"
/* The same of a watched retune: {retune, event}, then {retune, state}. */
#define NOTIFY_RETUNE_EVENT "retune.event"
#define NOTIFY_RETUNE_END "retune.end"
/* Of a watched queue of language model requests: {requests}, whenever they change. */
#define NOTIFY_LLM_PENDING "llm.pending"
/* {key, reason}: this connection read too slowly and is no longer subscribed; key ends in the
 * search's id. */
#define NOTIFY_STREAM_DROPPED "stream.dropped"

#endif
