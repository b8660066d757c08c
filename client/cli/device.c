/* SPDX-License-Identifier: Apache-2.0 */
/* ksearch device list | show | probe. */
#include "cli.h"
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
