/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch kb import | stats | verify. */
#include "cli.h"

#include <string.h>

#include "base/jsonx.h"
#include "proto/methods.h"
#include "show.h"

static const struct opt stats_opts[] = { { "calibration", OPT_FLAG, NULL, "calibration", 0,
                                           "also show what predictions were worth, per source" },
                                         { 0 } };

static void stats_print(const json_t *result)
{
    json_auto_t *counts = json_copy((json_t *)result);

    json_object_del(counts, "calibration");
    show_value(counts);
    if (json_object_get(result, "calibration") != NULL)
        calibration_print(json_object_get(result, "calibration"));
}

const struct command cmd_kb_stats = {
    .group = "kb",
    .name = "stats",
    .summary = "Count what the knowledge base holds.",
    .method = METHOD_KB_STATS,
    .opts = stats_opts,
    .print = stats_print,
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

/* ---- import ---- */

static const struct pos import_pos[] = {
    { "FILE", "file", ROW_REQUIRED | ROW_LOCAL,
      "file to import: a pack, or a T4 file, plain or gzip; k-search: the folder of a run" },
    { 0 }
};

static const struct opt import_opts[] = {
    { "format", OPT_TEXT, "F", "format", 0,
      "what the file is: pack, t4 (a recorded tuning space) or k-search (a run of that program); "
      "else "
      "by how it begins" },
    { "task", OPT_TEXT, "T", "task", 0,
      "t4: recorded task that was measured, made when it is not known; k-search: task that the run "
      "was for" },
    { "device", OPT_TEXT, "D", "device", 0,
      "t4 and k-search: device that it was measured on; made when it is not known" },
    { 0 }
};

static void print_tally(const json_t *result, const char *member)
{
    const json_t *t = json_object_get(result, member);
    long long refused = jsonx_int(t, "refused", 0);

    printf("  %-10s %lld new, %lld known", member, jsonx_int(t, "new", 0),
           jsonx_int(t, "known", 0));
    if (refused > 0)
        printf(", %lld refused", refused);
    putchar('\n');
}

static void pack_import_print(const json_t *result)
{
    CLEANUP(freep) char *name = show_text_at(result, "name", SHOW_TEXT);
    CLEANUP(freep) char *signer = show_text_at(result, "signer", SHOW_TEXT);
    CLEANUP(freep) char *made = show_text_at(result, "made_at_s", SHOW_TIME);
    json_t *item;
    size_t i;

    printf("pack of %s, made %s, signed by %s\n",
           jsonx_bool(result, "own", 0) ? "this knowledge base" : name, made, signer);
    print_tally(result, "facts");
    print_tally(result, "documents");
    json_array_foreach (json_object_get(result, "named"), i, item) {
        CLEANUP(freep) char *why = show_text_at(item, "why", SHOW_TEXT);

        printf("  line %lld: %s\n", jsonx_int(item, "line", 0), why);
    }
}

static int import_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    const char *path = jsonx_str(args->local, "file", "");
    json_auto_t *result = NULL;

    if (strcmp(jsonx_str(args->params, "format", ""), "k-search") == 0)
        return cli_kb_import_ksearch(cli, cmd, args, path, err);
    if (cli_call_file(cli, cmd->method, args->params, path, &result, err) != 0)
        return err_ctx(err, "kb import '%s'", path);
    cli_show(cli,
             json_object_get(result, "signer") != NULL ? pack_import_print : recorded_import_print,
             result);
    return 0;
}

const struct command cmd_kb_import = {
    .group = "kb",
    .name = "import",
    .summary = "Store what a file holds: a pack, the records of a tuning space, or a K-Search run.",
    .method = METHOD_KB_IMPORT,
    .pos = import_pos,
    .opts = import_opts,
    .run = import_run,
    .notes =
        "A pack is taken when a trusted key signed it: see `ksearch help kb key trust`. The same "
        "file again\nchanges nothing.\n",
};
