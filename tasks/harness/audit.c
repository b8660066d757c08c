/* SPDX-License-Identifier: Apache-2.0 */
/* Checking a task: modules, the order of the checks, the record; see audit.h. */
#include "audit.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "audit_impl.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/str.h"
#include "build.h"

static uint64_t now_ns(void)
{
    return clock_system()->mono_ns(clock_system());
}

/* ---- the record ---- */

const char *audit_status_name(enum audit_status status)
{
    static const char *const names[] = { "ok", "warning", "failed", "skipped" };

    return names[status];
}

void audit_report(struct audit *a, const char *name, enum audit_status status, const char *fmt, ...)
{
    char text[900], seen[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    str_visible(text, strlen(text), seen, sizeof(seen));
    a->failures += status == AUDIT_FAILED;
    json_array_append_new(a->checks, json_pack("{s:s, s:s, s:s}", "name", name, "status",
                                               audit_status_name(status), "message", seen));
}

json_t *audit_number(bool known, double v)
{
    return known && isfinite(v) ? json_real(v) : json_null();
}

/* ---- modules ---- */

static bool load_modules(struct audit *a)
{
    struct fail f;

    if (module_load(a->job, a->pack, NULL, &a->module, &f) != 0) {
        audit_report(a, "module", AUDIT_FAILED, "%s", f.msg);
        return false;
    }
    if (a->module.table->real_bytes == 0) {
        audit_report(a, "module", AUDIT_OK, "builds and loads; the reference is fixed to double");
        return true;
    }
    if (module_load(a->job, a->pack, "long double", &a->wide, &f) != 0 ||
        module_load(a->job, a->pack, "float", &a->single, &f) != 0) {
        audit_report(a, "module", AUDIT_FAILED, "with another KS_REAL: %s", f.msg);
        return false;
    }
    if (a->module.table->real_bytes != sizeof(double) ||
        a->wide.table->real_bytes != sizeof(long double) ||
        a->single.table->real_bytes != sizeof(float)) {
        audit_report(
            a, "module", AUDIT_FAILED,
            "real_bytes is %zu, %zu and %zu with KS_REAL double, long double and float; it has "
            "to be sizeof(ks_real), or 0 for a reference that is fixed to double",
            a->module.table->real_bytes, a->wide.table->real_bytes, a->single.table->real_bytes);
        return false;
    }
    audit_report(a, "module", AUDIT_OK, "builds and loads in double, long double and float");
    return true;
}

/* ---- the whole ---- */

static bool load_packs(struct audit *a)
{
    const struct job *job = a->job;
    struct err err;

    if (pack_load(job->pack, job->definition, job->set, &a->pack, &err) != 0) {
        audit_report(a, "pack", AUDIT_FAILED, "%s", err.msg);
        return false;
    }
    if (strcmp(job->set, "smoke") != 0 &&
        pack_load(job->pack, job->definition, "smoke", &a->smoke, &err) != 0 &&
        err.code != ERR_NOT_FOUND) {
        audit_report(a, "pack", AUDIT_FAILED, "%s", err.msg);
        return false;
    }
    audit_report(a, "pack", AUDIT_OK, "task.json and the workloads of '%s'%s can be read", job->set,
                 a->smoke ? " and 'smoke'" : "");
    return true;
}

static void run_checks(struct audit *a)
{
    if (!load_packs(a) || !load_modules(a))
        return;
    audit_check_workloads(a);
    audit_choose_probes(a);
    if (a->n_probes == 0) {
        audit_report(a, "generator", AUDIT_SKIPPED,
                     "no workload is small enough to look at its values");
    } else {
        audit_check_generator(a);
        audit_check_values(a);
    }
    audit_check_programs(a);
    audit_check_bottleneck(a);
}

static json_t *make_record(const struct audit *a, uint64_t start_ns)
{
    char compiler[64], message[64] = "";

    build_compiler(compiler, sizeof(compiler));
    if (a->failures > 0)
        snprintf(message, sizeof(message), "%d of %zu checks failed", a->failures,
                 json_array_size(a->checks));
    return json_pack(
        "{s:i, s:s, s:s, s:s, s:s, s:O, s:O, s:O, s:O, s:O, s:{s:s, s:s, s:s, s:i}, s:{s:f}}",
        "format", 1, "definition", a->job->definition, "set", a->job->set, "status",
        a->failures > 0 ? "failed" : "ok", "message", message, "checks", a->checks, "sets", a->sets,
        "tolerance", a->tolerance, "programs", a->programs, "timing", a->timing, "env", "cc",
        compiler, "march", a->job->march, "sandbox",
        a->job->sandbox == SANDBOX_BWRAP ? "bwrap" : "none", "threads", a->job->threads, "time",
        "total_ms", (double)(now_ns() - start_ns) / 1e6);
}

static void audit_release(struct audit *a)
{
    module_release(&a->module);
    module_release(&a->wide);
    module_release(&a->single);
    pack_free(a->pack);
    pack_free(a->smoke);
    json_decref(a->checks);
    json_decref(a->sets);
    json_decref(a->tolerance);
    json_decref(a->programs);
    json_decref(a->timing);
}

int audit(const struct job *job, json_t **record, struct err *err)
{
    CLEANUP(audit_release)
    struct audit a = { .job = job,
                       .checks = json_array(),
                       .sets = json_array(),
                       .tolerance = json_array(),
                       .programs = json_array(),
                       .timing = json_array(),
                       .module = { .fd = -1 },
                       .wide = { .fd = -1 },
                       .single = { .fd = -1 } };
    uint64_t start = now_ns();
    json_t *made;

    run_checks(&a);
    made = make_record(&a, start);
    if (made == NULL)
        return err_set(err, ERR_NOMEM, "no memory for the record");
    *record = made;
    return 0;
}
