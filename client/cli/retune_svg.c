/* SPDX-License-Identifier: Apache-2.0 */
/* A retune's report as a picture; see retune.h. */
#include "cli.h"

#include <math.h>

#include "base/jsonx.h"
#include "retune.h"
#include "svg.h"

enum {
    WIDTH = 900,
    LEFT = 230,
    BAR = 14,
    GAP = 6,
    TASK_H = 92,
    HEAD = 64,
    LABELS_H = 70,
    NAME_MAX_COLS = 30
};

static const char *const colours[] = { "#8a8f98", "#d0893a", "#2b7bba", "#b9bec7" };

/* One bar with its value behind it; an unknown value is said. */
static void bar(struct buf *out, double y, double share, const char *colour, const char *name,
                const char *value, struct err *err)
{
    double width = isfinite(share) ? fmax(1, share * (WIDTH - LEFT - 110)) : 0;

    svg_label(out, LEFT - 8, y + BAR - 3, "end", "s", name, err);
    if (width > 0)
        buf_addf(out, "<rect x=\"%d\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n",
                 LEFT, y, width, BAR, colour);
    svg_label(out, LEFT + width + 6, y + BAR - 3, "start", "s", value, err);
}

static double number_at(const json_t *row, const char *object, const char *member)
{
    return jsonx_num(json_object_get(row, object), member, NAN);
}

static void factor_text(double v, char *out, size_t size)
{
    if (isfinite(v))
        snprintf(out, size, "%.3gx", v);
    else
        snprintf(out, size, "not measured");
}

static double widest(const json_t *tasks)
{
    double most = 0;
    json_t *row;
    size_t i;

    json_array_foreach ((json_t *)tasks, i, row) {
        most = fmax(most, number_at(row, "old", "objective"));
        most = fmax(most, number_at(row, "carried", "objective"));
        most = fmax(most, number_at(row, "retuned", "objective"));
        most = fmax(most, number_at(row, "cold", "objective"));
    }
    return most > 0 ? most : 1;
}

static void draw_task(struct buf *out, double y, const json_t *row, double most, struct err *err)
{
    static const char *const names[] = { "old best, on the old device", "old best, carried over",
                                         "retuned best" };
    double values[] = { number_at(row, "old", "objective"), number_at(row, "carried", "objective"),
                        number_at(row, "retuned", "objective") };
    double to = number_at(row, "retuned", "evaluations"),
           cold = number_at(row, "cold", "evaluations");
    char text[120];

    buf_addf(out, "<text x=\"16\" y=\"%.1f\" class=\"t\">", y + 12);
    svg_short(out, jsonx_str(row, "task", ""), NAME_MAX_COLS, err);
    buf_adds(out, "</text>\n", err);
    for (size_t i = 0; i < ARRAY_LEN(values); i++) {
        factor_text(values[i], text, sizeof(text));
        bar(out, y + 18 + (double)i * (BAR + GAP), values[i] / most, colours[i], names[i], text,
            err);
    }
    if (isfinite(to) && isfinite(cold))
        snprintf(text, sizeof(text), "%.0f evaluations to it; cold: %.0f", to, cold);
    else if (isfinite(to))
        snprintf(text, sizeof(text), "%.0f evaluations to it; cold: not known", to);
    else
        snprintf(text, sizeof(text), "nothing was measured");
    svg_label(out, WIDTH - 16, y + 12, "end", "s", text, err);
}

/* Evaluations to the best beside those of a cold start, as one pair of thin bars a task. */
static void draw_cost(struct buf *out, double y, const json_t *tasks, struct err *err)
{
    double most = 1;
    json_t *row;
    size_t i;

    json_array_foreach ((json_t *)tasks, i, row) {
        most = fmax(most, number_at(row, "retuned", "evaluations"));
        most = fmax(most, number_at(row, "cold", "evaluations"));
    }
    svg_label(out, 16, y, "start", "t", "Evaluations until within 5 % of the best", err);
    json_array_foreach ((json_t *)tasks, i, row) {
        double to = number_at(row, "retuned", "evaluations"),
               cold = number_at(row, "cold", "evaluations");
        double at = y + 10 + (double)i * 2 * (BAR + GAP);
        char text[40], name[80];

        snprintf(name, sizeof(name), "%.32s", jsonx_str(row, "task", ""));
        snprintf(text, sizeof(text), isfinite(to) ? "%.0f retuned" : "not measured", to);
        bar(out, at, to / most, colours[2], name, text, err);
        snprintf(text, sizeof(text), isfinite(cold) ? "%.0f cold" : "cold: not known", cold);
        bar(out, at + BAR + 2, cold / most, colours[3], "", text, err);
    }
}

static void draw_labels(struct buf *out, double y, const json_t *report, struct err *err)
{
    static const struct {
        const char *member, *colour;
    } parts[] = { { "kept", "#3a9a5b" }, { "open", "#c9b458" }, { "lost", "#b5483c" } };
    double total = 0, x = 16;

    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        total += (double)json_array_size(json_object_get(report, parts[i].member));
    svg_label(out, 16, y, "start", "t", "Insights", err);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        size_t n = json_array_size(json_object_get(report, parts[i].member));
        double width = total > 0 ? (double)n / total * (WIDTH - 32) : 0;
        char text[60];

        if (width > 0)
            buf_addf(out,
                     "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"18\" fill=\"%s\"/>\n", x,
                     y + 8, width, parts[i].colour);
        snprintf(text, sizeof(text), "%s %zu", parts[i].member, n);
        buf_addf(out, "<rect x=\"%zu\" y=\"%.1f\" width=\"10\" height=\"10\" fill=\"%s\"/>\n",
                 16 + i * 120, y + 36, parts[i].colour);
        svg_label(out, 32 + (double)i * 120, y + 45, "start", "s", text, err);
        x += width;
    }
}

int retune_svg(const json_t *result, struct buf *out, struct err *err)
{
    const json_t *report = json_object_get(result, "report");
    const json_t *tasks = json_object_get(report, "tasks");
    size_t n = json_array_size(tasks);
    double cost_y = HEAD + (double)n * TASK_H + 16,
           labels_y = cost_y + 24 + (double)n * 2 * (BAR + GAP), height = labels_y + LABELS_H,
           most = widest(tasks);
    char title[300];
    json_t *row;
    size_t i;

    buf_addf(out,
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
             "viewBox=\"0 0 %d %.0f\" role=\"img\">\n"
             "<style>text{font-family:sans-serif;fill:#22262c}.h{font-size:18px}"
             ".t{font-size:13px;font-weight:bold}.s{font-size:11px}</style>\n"
             "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
             WIDTH, height, WIDTH, height);
    snprintf(title, sizeof(title), "Retune from %.100s to %.100s", jsonx_str(result, "from", ""),
             jsonx_str(result, "to", ""));
    buf_adds(out, "<title>", err);
    svg_text(out, title, err);
    buf_adds(out, "</title>\n<text x=\"16\" y=\"30\" class=\"h\">", err);
    svg_text(out, title, err);
    buf_adds(out, "</text>\n", err);
    svg_label(out, 16, 48, "start", "s", "Speed over the baseline of the device it was measured on",
              err);
    json_array_foreach ((json_t *)tasks, i, row)
        draw_task(out, HEAD + (double)i * TASK_H, row, most, err);
    draw_cost(out, cost_y, tasks, err);
    draw_labels(out, labels_y, report, err);
    return buf_adds(out, "</svg>\n", err);
}
