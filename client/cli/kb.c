/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch kb stats | verify. */
#include "cli.h"

#include "proto/methods.h"
#include "show.h"

const struct command cmd_kb_stats = {
    .group = "kb",
    .name = "stats",
    .summary = "Count what the knowledge base holds.",
    .method = METHOD_KB_STATS,
};

static const struct opt verify_opts[] = {
    { "digest", OPT_FLAG, NULL, "digest", 0,
      "print the hash of the derived state, to compare with another" },
    { 0 }
};

/* Damage that was found is an answer of the daemon's and an error of the command's: status 6. */
static int verify_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    json_auto_t *result = NULL;
    size_t problems;

    if (cli_call(cli, cmd->method, args->params, &result, err) != 0)
        return -1;
    problems = json_array_size(json_object_get(result, "problems"));
    cli_show(cli, NULL, result);
    if (problems > 0)
        return err_set(err, ERR_CORRUPT, "%zu problem%s found", problems, problems == 1 ? "" : "s");
    return 0;
}

const struct command cmd_kb_verify = {
    .group = "kb",
    .name = "verify",
    .summary = "Read everything back and check it.",
    .method = METHOD_KB_VERIFY,
    .opts = verify_opts,
    .run = verify_run,
};
