/* SPDX-License-Identifier: Apache-2.0 */
/* Size caps of the protocol; both sides refuse what is over them instead of cutting it. */
#ifndef KS_PROTO_LIMITS_H
#define KS_PROTO_LIMITS_H

/* Longest line a client may send: a request with a candidate source or a list of insights. */
#define PROTO_REQUEST_MAX (8u << 20)
/* Longest line a daemon may send: a reply with a whole curve or a whole tree. */
#define PROTO_REPLY_MAX (64u << 20)
/* Largest file whose descriptor comes with a request. */
#define PROTO_FILE_MAX (1u << 30)
/* Longest answer to a request of a language model, in bytes. */
#define PROTO_LLM_ANSWER_MAX (1 << 20)
/* Longest method name, in bytes. */
#define PROTO_METHOD_MAX 64
/* Longest error sentence that is read from the other side, in bytes; the rest is cut with "...". */
#define PROTO_ERROR_TEXT_MAX 511

#endif
