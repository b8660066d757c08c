/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking local paths out of what compilers and candidates say, before it becomes part of a fact:
 * facts travel in packs and over synchronised folders. Thread: any.
 */
#ifndef KS_SEARCH_REDACT_H
#define KS_SEARCH_REDACT_H

/*
 * The message with "<path>" for every absolute path, also behind a flag ("-I/home/x") and behind
 * signs and quotes of any alphabet, and for every "~/..."; cut to about 2000 bytes. Divisions,
 * units and relative paths ("a / b", "GB/s", "src/x.c") stay. Owned.
 */
char *redact_paths(const char *message);

#endif
