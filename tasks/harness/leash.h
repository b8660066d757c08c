/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The leash: one thread that ends this program, and all it started, when its standard input (a pipe
 * or a socket) closes or when it is told to by SIGTERM, SIGINT or SIGHUP. Other kinds of standard
 * input (/dev/null, a terminal, a file) say nothing.
 */
#ifndef KS_HARNESS_LEASH_H
#define KS_HARNESS_LEASH_H

#include "base/err.h"

/* Before any other thread is made. ERR_IO. */
int leash_start(struct err *err);

#endif
