/* SPDX-License-Identifier: Apache-2.0 */
/* Feedback as tables; see feedback.h. */
#include "feedback.h"

#include <stdio.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "show.h"

void feedback_print_workloads(const json_t *feedback)
{
    static const struct column columns[] = { { "WORKLOAD", "name", SHOW_TEXT },
                                             { "STATUS", "status", SHOW_TEXT },
                                             { "SPEED", "ratio", SHOW_FACTOR },
                                             { "BASELINE US", "baseline_us", SHOW_TEXT },
                                             { "+-", "baseline_spread", SHOW_SHARE },
                                             { "US", "candidate_us", SHOW_TEXT },
                                             { "+-", "candidate_spread", SHOW_SHARE },
                                             { "FLOOR US", "floor_us", SHOW_TEXT },
                                             { "OF ROOFLINE", "roofline", SHOW_SHARE },
                                             { "BOUND", "bound", SHOW_TEXT },
                                             { "GB/S", "gbs", SHOW_TEXT },
                                             { "GFLOP/S", "gflops", SHOW_TEXT },
                                             { "IPC", "counters.ipc", SHOW_TEXT },
                                             { "MESSAGE", "message", SHOW_TEXT },
                                             { 0 } };
    const json_t *rows = json_object_get(feedback, "workloads");

    if (json_array_size(rows) > 0)
        show_table(rows, "", columns, "");
}

/* "(3 more left out)" below a list that lacks some. */
static void print_left_out(const json_t *feedback, const char *key)
{
    long long n = jsonx_int(feedback, key, 0);

    if (n > 0)
        printf("(%lld more left out)\n", n);
}

static void print_list(const json_t *feedback, const char *key, const char *left_out,
                       const char *title, const struct column *columns)
{
    const json_t *list = json_object_get(feedback, key);

    if (json_array_size(list) == 0)
        return;
    printf("\n%s\n", title);
    show_table(list, "", columns, "");
    print_left_out(feedback, left_out);
}

static void print_diagnostics(const json_t *feedback)
{
    static const struct column columns[] = { { "LINE", "line", SHOW_TEXT },
                                             { "COLUMN", "column", SHOW_TEXT },
                                             { "SEVERITY", "severity", SHOW_TEXT },
                                             { "KIND", "kind", SHOW_TEXT },
                                             { "COUNT", "count", SHOW_TEXT },
                                             { "MESSAGE", "message", SHOW_TEXT },
                                             { 0 } };

    print_list(feedback, "diagnostics", "diagnostics_left_out", "what the compiler says:", columns);
}

static void print_loops(const json_t *feedback)
{
    static const struct column done[] = { { "LINE", "line", SHOW_TEXT },
                                          { "BYTES", "bytes", SHOW_TEXT },
                                          { "SOURCE", "source", SHOW_TEXT },
                                          { 0 } };
    static const struct column missed[] = { { "LINE", "line", SHOW_TEXT },
                                            { "AT", "at", SHOW_TEXT },
                                            { "WHY NOT", "reason", SHOW_TEXT },
                                            { "SOURCE", "source", SHOW_TEXT },
                                            { 0 } };

    print_list(feedback, "vectorised", "vectorised_left_out",
               "loops that became vector code:", done);
    print_list(feedback, "missed", "missed_left_out", "loops that did not:", missed);
    if (*jsonx_str(feedback, "vector_note", "")) {
        putchar('\n');
        show_wrapped(jsonx_str(feedback, "vector_note", ""), 0);
    }
}

static void print_size(const json_t *feedback)
{
    const json_t *size = json_object_get(feedback, "size");
    CLEANUP(freep) char *kernel = show_text_at(size, "kernel_text", SHOW_TEXT);
    CLEANUP(freep) char *text = show_text_at(size, "text", SHOW_TEXT);
    CLEANUP(freep) char *data = show_text_at(size, "data", SHOW_TEXT);
    CLEANUP(freep) char *bss = show_text_at(size, "bss", SHOW_TEXT);
    CLEANUP(freep) char *stack = show_text_at(size, "stack_bytes", SHOW_TEXT);

    if (size != NULL)
        printf("\nbytes: kernel %s, text %s, data %s, bss %s, largest stack frame %s\n", kernel,
               text, data, bss, stack);
}

/* Only the counters that are known have a column. */
static void print_counters(const json_t *feedback)
{
    static const struct column columns[] = {
        { "WORKLOAD", "name", SHOW_TEXT },
        { "INSTRUCTIONS", "counters.instructions", SHOW_TEXT },
        { "CYCLES", "counters.cycles", SHOW_TEXT },
        { "BRANCH MISSES", "counters.branch_misses", SHOW_TEXT },
        { "CACHE MISSES", "counters.cache_misses", SHOW_TEXT },
        { "L1D MISSES", "counters.l1d_load_misses", SHOW_TEXT },
        { "LLC MISSES", "counters.llc_load_misses", SHOW_TEXT },
        { "DTLB MISSES", "counters.dtlb_load_misses", SHOW_TEXT },
        { "CPU NS", "counters.task_clock_ns", SHOW_TEXT },
        { "FAULTS", "counters.page_faults", SHOW_TEXT },
        { "SWITCHES", "counters.context_switches", SHOW_TEXT },
        { 0 }
    };
    const json_t *rows = json_object_get(feedback, "workloads");

    if (json_object_get(json_array_get(rows, 0), "counters") != NULL) {
        printf("\ncounted per call:\n");
        show_table(rows, "", columns, "");
    }
    if (*jsonx_str(feedback, "counters_unavailable", ""))
        show_wrapped(jsonx_str(feedback, "counters_unavailable", ""), 0);
}

void feedback_print(const json_t *feedback)
{
    feedback_print_workloads(feedback);
    print_left_out(feedback, "workloads_left_out");
    print_diagnostics(feedback);
    print_loops(feedback);
    print_size(feedback);
    print_counters(feedback);
}
