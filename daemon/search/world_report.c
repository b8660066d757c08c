/* SPDX-License-Identifier: Apache-2.0 */
/* What became of an edit: its issues and repairs, as sentences; see world_ops.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "search/world_ops.h"
#include "search/world_priv.h"

static void add_issue(struct world_issue **list, size_t *n, size_t *cap, size_t op, char *text)
{
    *list = xgrow(*list, cap, *n + 1, sizeof(**list));
    (*list)[(*n)++] = (struct world_issue){ op, text };
}

static char *format_text(const char *fmt, va_list ap)
{
    char *text = NULL;

    if (vasprintf(&text, fmt, ap) < 0)
        abort(); /* as xmalloc does */
    return text;
}

void world_report_issue(struct world_report *r, size_t op, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_issue(&r->issues, &r->n_issues, &r->cap_issues, op, format_text(fmt, ap));
    va_end(ap);
}

void world_report_repair(struct world_report *r, size_t op, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    add_issue(&r->repairs, &r->n_repairs, &r->cap_repairs, op, format_text(fmt, ap));
    va_end(ap);
}

void world_report_release(struct world_report *r)
{
    for (size_t i = 0; i < r->n_issues; i++)
        free(r->issues[i].text);
    for (size_t i = 0; i < r->n_repairs; i++)
        free(r->repairs[i].text);
    free(r->issues);
    free(r->repairs);
    free(r->inserted);
    memset(r, 0, sizeof(*r));
}

int world_report_text(const struct world_report *r, struct buf *out, struct err *err)
{
    int rc = 0;

    for (size_t i = 0; i < r->n_issues; i++) {
        if (r->issues[i].op == SIZE_MAX)
            rc |= buf_addf(out, "the edit: %s\n", r->issues[i].text);
        else
            rc |= buf_addf(out, "operation %zu: %s\n", r->issues[i].op + 1, r->issues[i].text);
    }
    if (rc != 0)
        return err_set(err, ERR_LIMIT, "the edit's %zu errors are more than the %zu bytes allowed",
                       r->n_issues, out->max);
    return 0;
}

static json_t *issues_to_json(const struct world_issue *list, size_t n)
{
    json_t *out = json_array();

    for (size_t i = 0; i < n; i++)
        json_array_append_new(
            out, json_pack("{s:I, s:s}", "op",
                           list[i].op == SIZE_MAX ? (json_int_t)-1 : (json_int_t)list[i].op, "text",
                           list[i].text));
    return out;
}

json_t *world_report_to_json(const struct world_report *r, size_t n_ops)
{
    json_t *status = json_array();

    for (size_t op = 0; op < n_ops; op++) {
        bool ok = true;

        for (size_t i = 0; i < r->n_issues; i++)
            ok = ok && r->issues[i].op != op;
        json_array_append_new(status, json_string(ok ? "ok" : "refused"));
    }
    return json_pack(
        "{s:o, s:o, s:o, s:I}", "status", status, "issues", issues_to_json(r->issues, r->n_issues),
        "repairs", issues_to_json(r->repairs, r->n_repairs), "inserted", (json_int_t)r->n_inserted);
}
