/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch device list | show | probe | import. */
#include "cli.h"

#include "base/jsonx.h"
#include "proto/methods.h"
#include "show.h"

static void list_print(const json_t *result)
{
    static const struct column columns[] = {
        { "DEVICE", "name", SHOW_TEXT },        { "KIND", "kind", SHOW_TEXT },
        { "CLASS", "class", SHOW_TEXT },        { "ARCH", "arch", SHOW_TEXT },
        { "CORES", "cores", SHOW_TEXT },        { "COPY GB/S", "copy_gbs", SHOW_TEXT },
        { "GFLOP/S", "fma_gflops", SHOW_TEXT }, { "PROBED", "probed", SHOW_TEXT },
        { "MODEL", "model", SHOW_TEXT },        { 0 }
    };

    show_table(result, "devices", columns,
               "no devices yet; 'ksearch device probe' measures this machine's processor");
}

const struct command cmd_device_list = {
    .group = "device",
    .name = "list",
    .summary = "List the known machine targets.",
    .method = METHOD_DEVICE_LIST,
    .print = list_print,
};

static const struct pos show_pos[] = { { "D", "device", ROW_REQUIRED, "name of the device" },
                                       { 0 } };

const struct command cmd_device_show = {
    .group = "device",
    .name = "show",
    .summary = "Show one device: units, caches, measured bandwidth and throughput.",
    .method = METHOD_DEVICE_SHOW,
    .pos = show_pos,
};

static const struct opt probe_opts[] = {
    { "name", OPT_TEXT, "N", "name", 0, "name to store it under (cpu)" },
    { "march", OPT_TEXT, "M", "march", 0, "instruction set to compile for (native)" },
    { 0 }
};

const struct command cmd_device_probe = {
    .group = "device",
    .name = "probe",
    .summary = "Measure this machine and store it as a device.",
    .method = METHOD_DEVICE_PROBE,
    .opts = probe_opts,
};

/* ---- import ---- */

enum { RECORD_MAX = 1 << 20 };

static const struct pos import_pos[] = {
    { "FILE", "file", ROW_REQUIRED | ROW_LOCAL, "device record, as JSON" }, { 0 }
};

static void import_print(const json_t *result)
{
    const json_t *device = json_object_get(result, "device");

    printf("device %s, class %s%s\n", jsonx_str(device, "name", ""), jsonx_str(device, "class", ""),
           jsonx_bool(result, "changed", 1) ? "" : "; it was there already");
}

static int import_run(struct cli *cli, const struct command *cmd, struct args *args,
                      struct err *err)
{
    const char *path = jsonx_str(args->local, "file", "");
    json_auto_t *params = NULL, *result = NULL;
    json_t *record;

    if (jsonx_load(path, RECORD_MAX, &record, err) != 0)
        return err_ctx(err, "device import '%s'", path);
    params = json_pack("{s:o}", "device", record);
    if (cli_call(cli, cmd->method, params, &result, err) != 0)
        return err_ctx(err, "device import '%s'", path);
    cli_show(cli, import_print, result);
    return 0;
}

const struct command cmd_device_import = {
    .group = "device",
    .name = "import",
    .summary = "Store what is known of a machine that is not here, such as a recorded one.",
    .method = METHOD_DEVICE_IMPORT,
    .pos = import_pos,
    .run = import_run,
};
