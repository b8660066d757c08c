/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Devices: records in the knowledge base, and the probe that makes them (`ksearch-eval probe`). One
 * probe at a time, because it measures. device_ensure is in daemon.h. Thread: loop.
 */
#ifndef KS_DAEMON_DEVICES_H
#define KS_DAEMON_DEVICES_H

#include <jansson.h>

#include "base/err.h"

struct daemon;
struct devices;

/* `device` is borrowed for the call, NULL on failure with err set. */
typedef void device_done_fn(void *arg, const json_t *device, const struct err *err);

/* Reads nothing and starts nothing. Never fails. */
struct devices *devices_new(struct daemon *d);
/* Kills a running probe; who waits is told ERR_CANCELLED. The pool must be there still. NULL is
 * fine. */
void devices_free(struct devices *ds);

/*
 * Measures this machine and stores the record as `name` (march NULL: native). Asking for the probe
 * that runs already shares it; for another one is ERR_CONFLICT. `done` comes from the loop, never
 * from inside.
 */
void device_probe(struct daemon *d, const char *name, const char *march, device_done_fn *done,
                  void *arg);

/* The record of a device. ERR_NOT_FOUND names the nearest ones. Thread: worker, blocks. */
int device_get(struct daemon *d, const char *name, json_t **out, struct err *err);

/*
 * Stores the record of a machine that cannot be measured from here, as docs/design.md section 5 has
 * it: kind `recorded` or `cuda`. A known one gets the new members (they are its record then); its
 * class stays, because evidence is filed under it. The same again changes nothing. `*reply` gets
 * the record and `changed` (fresh). ERR_INVALID names the member; ERR_CONFLICT: the device was
 * measured, or `class` is another. Thread: worker, blocks.
 */
int device_import(struct daemon *d, const json_t *record, json_t **reply, struct err *err);

/*
 * The arithmetic peak that kernels of this dtype ("f32", "bf16", ...) may reach on the device: what
 * its record says of the dtype (`gflops`), its bf16 dot products for 16-bit and 8-bit floats where
 * it has them, else multiply-adds in float. 0: not known. Thread: any.
 */
double device_gflops(const json_t *device, const char *dtype);

#endif
