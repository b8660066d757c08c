/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch status. */
#include "cli.h"
#include "proto/methods.h"

const struct command cmd_status = {
    .name = "status",
    .summary = "Show what the daemon is doing.",
    .method = METHOD_STATUS,
};
