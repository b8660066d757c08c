/* SPDX-License-Identifier: Apache-2.0 */
/* The files of prompts/ inside the program; the build makes the table (prompts.cmake). */
#ifndef KS_SEARCH_PROMPT_FILES_H
#define KS_SEARCH_PROMPT_FILES_H

#include <stddef.h>

struct prompt_file {
    const char *name; /* "code.md" */
    const char *text; /* `len` bytes and a NUL */
    size_t len;
};

/* Sorted by name; prompt_files_n of them. */
extern const struct prompt_file prompt_files[];
extern const size_t prompt_files_n;

#endif
