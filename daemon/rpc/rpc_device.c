/* SPDX-License-Identifier: Apache-2.0 */
/* device.*: the known machine targets. */
#include "base/jsonx.h"
#include "base/mem.h"
#include "daemon.h"
#include "devices.h"
#include "kb.h"
#include "proto/methods.h"
#include "rpc/rpc.h"

static int add_device(void *ctx, const char *key, const json_t *doc)
{
    (void)key;
    json_array_append(ctx, (json_t *)doc);
    return 0;
}

static int list_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    json_auto_t *devices = json_array();

    (void)params;
    if (kb_each_doc(d->kb, KB_DEVICE, add_device, devices, err) != 0)
        return -1;
    *result = json_pack("{s:O}", "devices", devices);
    return 0;
}

static void device_list(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, list_run);
}

struct show_params {
    char *device;
};

static const struct param show_rows[] = {
    { "device", PARAM_NAME, offsetof(struct show_params, device), PARAM_REQUIRED,
      "name of the device", 0, 0, NULL, 0 },
    { 0 },
};

static int show_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    return device_get(d, ((struct show_params *)params)->device, result, err);
}

static void device_show(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, show_run);
}

struct probe_params {
    char *name, *march;
};

static const struct param probe_rows[] = {
    { "name", PARAM_NAME, offsetof(struct probe_params, name), 0, "name to store it under (cpu)", 0,
      0, NULL, 0 },
    { "march", PARAM_NAME, offsetof(struct probe_params, march), 0,
      "instruction set to compile for, as gcc's -march (native)", 0, 0, NULL, 0 },
    { 0 },
};

static void probe_defaults(void *params)
{
    ((struct probe_params *)params)->name = xstrdup("cpu");
}

static void probe_done(void *arg, const json_t *device, const struct err *err)
{
    struct rpc_call *call = arg;

    if (device == NULL)
        rpc_fail(call, err);
    else
        rpc_reply(call, json_incref((json_t *)device));
}

static void device_probe_call(struct rpc_call *call, void *params)
{
    const struct probe_params *p = params;

    device_probe(rpc_daemon(call), p->name, p->march, probe_done, call);
}

struct import_params {
    json_t *device;
};

static const struct param import_rows[] = {
    { "device", PARAM_JSON, offsetof(struct import_params, device), PARAM_REQUIRED,
      "the record; docs/design.md section 5 has its members", 0, 0, NULL, 0 },
    { 0 },
};

static int import_run(struct daemon *d, void *params, json_t **result, struct err *err)
{
    return device_import(d, ((struct import_params *)params)->device, result, err);
}

static void device_import_call(struct rpc_call *call, void *params)
{
    (void)params;
    rpc_run(call, import_run);
}

const struct rpc_method rpc_device_methods[] = {
    { METHOD_DEVICE_IMPORT, import_rows, sizeof(struct import_params), RPC_WRITE,
      device_import_call,
      "Store what is known of a machine that is not here, such as one whose tuning space was "
      "recorded. The same again changes nothing.",
      "{device, changed}", NULL },
    { METHOD_DEVICE_LIST, NULL, 0, 0, device_list, "The known machine targets.",
      "{devices[device]}", NULL },
    { METHOD_DEVICE_PROBE, probe_rows, sizeof(struct probe_params), RPC_WRITE, device_probe_call,
      "Measure this machine and store it as a device. Takes seconds.",
      "the device; docs/design.md section 5 has its members", probe_defaults },
    { METHOD_DEVICE_SHOW, show_rows, sizeof(struct show_params), 0, device_show,
      "One device: units, caches, measured bandwidth and throughput.", "the device", NULL },
    { 0 },
};
