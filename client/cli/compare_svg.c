/* SPDX-License-Identifier: Apache-2.0 */
/* The picture of a comparison: best so far of each arm; see compare.h. */
#include "compare.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/jsonx.h"
#include "base/mem.h"
#include "svg.h"

enum {
    WIDTH = 900,
    LEFT = 80,
    RIGHT = 24,
    TOP = 76,
    PLOT_H = 380,
    BELOW = 58, /* ticks and the axis' title */
    LEGEND_H = 20,
    TICKS_MAX = 24
};

/* Hues that keep apart for colour-blind readers (Okabe and Ito 2008), in a tone for light and one
 * for dark grounds. Past them, lines are dashed. */
static const struct {
    const char *light, *dark;
} colours[] = { { "#0072b2", "#56b4e9" }, { "#c44e00", "#ff9a4d" }, { "#007a5a", "#3ccf9f" },
                { "#a8508a", "#e59ac6" }, { "#8a6d00", "#e6c229" }, { "#3f4a9a", "#9fa8f0" },
                { "#5c5c5c", "#b8b8b8" }, { "#9c1c2e", "#f2788a" } };

static const char *const dashes[] = { "", "7 4", "2 3", "9 3 2 3" };

static const double log_max = 300;

struct frame {
    double x_max;           /* in units of the axis */
    double y_low, y_high;   /* logs */
    double unit;            /* the axis is shown in multiples of this */
    const char *axis_title; /* static */
};

static double x_of(const struct frame *f, double x)
{
    return LEFT + x / f->x_max * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct frame *f, double v)
{
    return TOP +
           PLOT_H * (f->y_high - fmin(fmax(log(v), f->y_low), f->y_high)) / (f->y_high - f->y_low);
}

/* ---- Scales ---- */

static double point_num(const json_t *point, const char *member)
{
    return jsonx_num(point, member, NAN);
}

static void frame_include(struct frame *f, double v)
{
    if (!isfinite(v) || v <= 0)
        return;
    /* Beyond, the ends of the scale would leave the numbers that there are. */
    f->y_low = fmin(f->y_low, fmax(log(v), -log_max));
    f->y_high = fmax(f->y_high, fmin(log(v), log_max));
}

static void frame_axis(struct frame *f, const char *axis)
{
    f->unit = 1;
    f->axis_title = "evaluations";
    if (strcmp(axis, "tokens") == 0) {
        f->unit = f->x_max >= 2e6 ? 1e6 : f->x_max >= 2e3 ? 1e3 : 1;
        f->axis_title = f->unit >= 1e6   ? "tokens, in millions"
                        : f->unit >= 1e3 ? "tokens, in thousands"
                                         : "tokens";
    } else if (strcmp(axis, "usd") == 0) {
        f->axis_title = "US dollars";
    } else if (strcmp(axis, "time") == 0) {
        f->unit = f->x_max >= 7200 ? 3600 : f->x_max >= 120 ? 60 : 1;
        f->axis_title = f->unit >= 3600 ? "hours" : f->unit >= 60 ? "minutes" : "seconds";
    }
}

static struct frame frame_of(const json_t *comparison)
{
    struct frame f = { .y_low = INFINITY, .y_high = -INFINITY };
    const json_t *arms = json_object_get(comparison, "arms");
    json_t *arm, *point;
    size_t i, k;

    json_array_foreach ((json_t *)arms, i, arm)
        json_array_foreach (json_object_get(arm, "curve"), k, point) {
            f.x_max = fmax(f.x_max, point_num(point, "x"));
            frame_include(&f, point_num(point, "median"));
            frame_include(&f, point_num(point, "low"));
            frame_include(&f, point_num(point, "high"));
        }
    if (!(f.x_max > 0))
        f.x_max = 1;
    if (!(f.y_high >= f.y_low)) /* nothing passed */
        f.y_low = f.y_high = 0;
    if (f.y_high - f.y_low < 0.02) {
        f.y_low -= 0.1;
        f.y_high += 0.1;
    }
    f.y_low -= 0.04 * (f.y_high - f.y_low);
    f.y_high += 0.04 * (f.y_high - f.y_low);
    frame_axis(&f, jsonx_str(comparison, "axis", ""));
    return f;
}

/* A step of 1, 2 or 5 times a power of ten that makes at most `n` parts of `range`. */
static double nice_step(double range, double n)
{
    double raw = range / n, power = pow(10, floor(log10(raw)));

    return (raw <= power ? 1 : raw <= 2 * power ? 2 : raw <= 5 * power ? 5 : 10) * power;
}

static size_t linear_ticks(double low, double high, double n, double *out)
{
    double step = nice_step(high - low, n);
    size_t count = 0;

    for (double k = ceil(low / step - 1e-9); k * step <= high + 1e-9 * step && count < TICKS_MAX;
         k++)
        out[count++] = k * step + 0.0; /* and never -0 */
    return count;
}

/* 1, 2 and 5 of each power of ten, or the powers alone where the scale is long; where it is short,
 * even steps. */
static size_t log_ticks(double low, double high, double *out)
{
    static const double parts[] = { 1, 2, 5 };
    double decades = log10(high / low);
    size_t count = 0, used = decades > 4 ? 1 : ARRAY_LEN(parts);
    double every = decades > TICKS_MAX ? ceil(decades / TICKS_MAX) : 1;

    if (high / low < 4)
        return linear_ticks(low, high, 7, out);
    for (double p = floor(log10(low)); p <= log10(high); p += every)
        for (size_t i = 0; i < used && count < TICKS_MAX; i++) {
            double v = parts[i] * pow(10, p);

            if (v >= low && v <= high)
                out[count++] = v;
        }
    return count;
}

/* ---- Drawing ---- */

static void add_head(struct buf *out, const json_t *comparison, double height, struct err *err)
{
    char title[300];

    snprintf(title, sizeof(title), "%.60s on %.40s: best so far", jsonx_str(comparison, "task", ""),
             jsonx_str(comparison, "device", ""));
    buf_addf(out,
             "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%.0f\" "
             "viewBox=\"0 0 %d %.0f\" role=\"img\">\n"
             "<style>text{font-family:sans-serif;fill:#22262c}.h{font-size:18px}"
             ".s{font-size:12px}.bg{fill:#ffffff}.grid{stroke:#dfe2e6}.axis{stroke:#6a707a}"
             "polyline{fill:none;stroke-width:2.2;stroke-linejoin:round}"
             ".band{stroke:none;fill-opacity:0.16}\n",
             WIDTH, height, WIDTH, height);
    for (size_t i = 0; i < ARRAY_LEN(colours); i++)
        buf_addf(out, ".l%zu{stroke:%s}.f%zu{fill:%s}", i, colours[i].light, i, colours[i].light);
    buf_adds(out,
             "\n@media (prefers-color-scheme: dark){text{fill:#e6e8eb}.bg{fill:#16191d}"
             ".grid{stroke:#31363d}.axis{stroke:#9aa1ab}\n",
             err);
    for (size_t i = 0; i < ARRAY_LEN(colours); i++)
        buf_addf(out, ".l%zu{stroke:%s}.f%zu{fill:%s}", i, colours[i].dark, i, colours[i].dark);
    buf_adds(out, "}</style>\n<title>", err);
    svg_text(out, title, err);
    buf_adds(out, "</title>\n<rect class=\"bg\" width=\"100%\" height=\"100%\"/>\n", err);
    buf_addf(out, "<text x=\"%d\" y=\"30\" class=\"h\">", LEFT);
    svg_text(out, title, err);
    buf_adds(out, "</text>\n", err);
    svg_label(out, LEFT, 50, "start", "s", "line: median; band: 95 % of the geometric mean", err);
}

static void add_line(struct buf *out, const char *class, double x1, double y1, double x2, double y2)
{
    buf_addf(out, "<line class=\"%s\" x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", class,
             x1, y1, x2, y2);
}

static void add_axes(struct buf *out, const struct frame *f, struct err *err)
{
    double ticks[TICKS_MAX];
    double bottom = TOP + PLOT_H, right = WIDTH - RIGHT;
    char text[40];
    size_t n;

    n = log_ticks(exp(f->y_low), exp(f->y_high), ticks);
    for (size_t i = 0; i < n; i++) {
        add_line(out, "grid", LEFT, y_of(f, ticks[i]), right, y_of(f, ticks[i]));
        snprintf(text, sizeof(text), "%.4gx", ticks[i]);
        svg_label(out, LEFT - 8, y_of(f, ticks[i]) + 4, "end", "s", text, err);
    }
    n = linear_ticks(0, f->x_max / f->unit, 8, ticks);
    for (size_t i = 0; i < n; i++) {
        double x = x_of(f, ticks[i] * f->unit);

        add_line(out, "axis", x, bottom, x, bottom + 5);
        snprintf(text, sizeof(text), "%.6g", ticks[i]);
        svg_label(out, x, bottom + 20, "middle", "s", text, err);
    }
    add_line(out, "axis", LEFT, bottom, right, bottom);
    add_line(out, "axis", LEFT, TOP, LEFT, bottom);
    svg_label(out, (LEFT + right) / 2, bottom + 42, "middle", "s", f->axis_title, err);
    buf_addf(out,
             "<text x=\"20\" y=\"%d\" text-anchor=\"middle\" class=\"s\" "
             "transform=\"rotate(-90 20 %d)\">speed over the baseline (log)</text>\n",
             TOP + PLOT_H / 2, TOP + PLOT_H / 2);
}

/* The vertices of a staircase through a member of the points; best so far holds until it changes.
 */
static void add_steps(struct buf *out, const struct frame *f, const json_t *curve,
                      const char *member)
{
    double before = NAN;
    json_t *point;
    size_t i;

    json_array_foreach ((json_t *)curve, i, point) {
        double x = x_of(f, point_num(point, "x")), y = y_of(f, point_num(point, member));

        if (isfinite(before) && fabs(before - y) > 0.05)
            buf_addf(out, "%.1f,%.1f ", x, before);
        buf_addf(out, "%.1f,%.1f ", x, y);
        before = y;
    }
}

/* The same from the last point to the first. */
static void add_steps_back(struct buf *out, const struct frame *f, const json_t *curve,
                           const char *member)
{
    double after_x = NAN, after_y = NAN;

    for (size_t i = json_array_size(curve); i > 0; i--) {
        const json_t *point = json_array_get(curve, i - 1);
        double x = x_of(f, point_num(point, "x")), y = y_of(f, point_num(point, member));

        if (isfinite(after_y) && fabs(after_y - y) > 0.05)
            buf_addf(out, "%.1f,%.1f ", after_x, y);
        buf_addf(out, "%.1f,%.1f ", x, y);
        after_x = x;
        after_y = y;
    }
}

static bool has_band(const json_t *curve)
{
    json_t *point;
    size_t i;

    json_array_foreach ((json_t *)curve, i, point)
        if (!isfinite(point_num(point, "low")) || !isfinite(point_num(point, "high")))
            return false;
    return json_array_size(curve) > 0;
}

static void add_arm(struct buf *out, const struct frame *f, const json_t *arm, size_t i,
                    struct err *err)
{
    const json_t *curve = json_object_get(arm, "curve");
    size_t colour = i % ARRAY_LEN(colours);

    if (has_band(curve)) {
        buf_addf(out, "<polygon class=\"band f%zu\" points=\"", colour);
        add_steps(out, f, curve, "high");
        add_steps_back(out, f, curve, "low");
        buf_adds(out, "\"/>\n", err);
    }
    if (json_array_size(curve) == 0)
        return;
    buf_addf(out, "<polyline class=\"l%zu\" stroke-dasharray=\"%s\" points=\"", colour,
             i / ARRAY_LEN(colours) ? dashes[i / ARRAY_LEN(colours) % ARRAY_LEN(dashes)] : "none");
    add_steps(out, f, curve, "median");
    if (json_array_size(curve) == 1) { /* a search that spends nothing: its best holds everywhere */
        double y = y_of(f, point_num(json_array_get(curve, 0), "median"));

        buf_addf(out, "%.1f,%.1f", (double)(WIDTH - RIGHT), y);
    }
    buf_adds(out, "\"/>\n", err);
}

static void add_legend(struct buf *out, const json_t *arm, size_t i, struct err *err)
{
    double y = TOP + PLOT_H + BELOW + (double)i * LEGEND_H + 10;
    const json_t *final = json_object_get(arm, "final");
    double median = jsonx_num(final, "median", NAN);
    long long without = jsonx_int(final, "without", 0);
    char text[200];

    buf_addf(out, "<polyline class=\"l%zu\" stroke-dasharray=\"%s\" points=\"%d,%.1f %d,%.1f\"/>\n",
             i % ARRAY_LEN(colours),
             i / ARRAY_LEN(colours) ? dashes[i / ARRAY_LEN(colours) % ARRAY_LEN(dashes)] : "none",
             LEFT, y - 4, LEFT + 30, y - 4);
    svg_label(out, LEFT + 40, y, "start", "s", jsonx_str(arm, "arm", ""), err);
    if (isfinite(median) && without > 0)
        snprintf(text, sizeof(text), "n = %lld, %lld of them never passed, final best %.3gx",
                 jsonx_int(arm, "n", 0), without, median);
    else if (isfinite(median))
        snprintf(text, sizeof(text), "n = %lld, final best %.3gx", jsonx_int(arm, "n", 0), median);
    else
        snprintf(text, sizeof(text), "n = %lld, nothing passed", jsonx_int(arm, "n", 0));
    svg_label(out, WIDTH - RIGHT, y, "end", "s", text, err);
}

int compare_svg(const json_t *comparison, struct buf *out, struct err *err)
{
    const json_t *arms = json_object_get(comparison, "arms");
    struct frame f = frame_of(comparison);
    double height = TOP + PLOT_H + BELOW + (double)json_array_size(arms) * LEGEND_H + 14;
    json_t *arm;
    size_t i;

    add_head(out, comparison, height, err);
    add_axes(out, &f, err);
    json_array_foreach ((json_t *)arms, i, arm)
        add_arm(out, &f, arm, i, err);
    json_array_foreach ((json_t *)arms, i, arm)
        add_legend(out, arm, i, err);
    return buf_adds(out, "</svg>\n", err);
}
