/* SPDX-License-Identifier: Apache-2.0 */
/* Bars and curves in text, in blocks where the locale has them, else in ASCII; see show.h. */
#include "show.h"

#include <langinfo.h>
#include <math.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/mem.h"

enum { LEVELS = 8 };

static const char *const blocks[LEVELS + 1] = { " ", "▁", "▂", "▃", "▄", "▅", "▆", "▇", "█" };
static const char *const ascii[LEVELS + 1] = { " ", "_", "_", ".", "-", "-", "=", "#", "#" };

/* ---- The terminal ---- */

bool term_is_live(void)
{
    const char *term = getenv("TERM");

    return isatty(STDOUT_FILENO) && term && *term && strcmp(term, "dumb") != 0;
}

bool term_is_utf8(void)
{
    return strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static bool window(struct winsize *w)
{
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, w) == 0 && w->ws_col > 0 && w->ws_row > 0;
}

size_t term_cols(void)
{
    struct winsize w;

    return window(&w) ? w.ws_col : 100;
}

size_t term_rows(void)
{
    struct winsize w;

    return window(&w) ? w.ws_row : 40;
}

/* ---- Pictures ---- */

void draw_bar(double share, size_t cols, struct buf *out)
{
    size_t room = cols > 2 ? cols - 2 : 0;
    size_t full = share >= 1 ? room : share > 0 ? (size_t)(share * (double)room) : 0;
    bool utf8 = term_is_utf8();

    buf_addf(out, "[");
    for (size_t i = 0; i < room; i++)
        buf_addf(out, "%s", i < full ? (utf8 ? "█" : "#") : (utf8 ? "░" : "."));
    buf_addf(out, "]");
}

/* Columns of one value where there is room: a short curve is drawn wider, at most so much. */
enum { WIDEN_MAX = 4 };

/* Columns that a plot of `n` values takes of `cols`. */
static size_t plot_cols(size_t n, size_t cols)
{
    return n < cols ? n * MIN(cols / n, (size_t)WIDEN_MAX) : cols;
}

/* The value that column `c` of `used` stands for: the last of its part. */
static double column_value(const double *values, size_t n, size_t used, size_t c)
{
    return used >= n ? values[c * n / used] : values[(c + 1) * n / used - 1];
}

static void range(const double *values, size_t n, double *low, double *high)
{
    *low = INFINITY;
    *high = -INFINITY;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(values[i]))
            continue;
        *low = fmin(*low, values[i]);
        *high = fmax(*high, values[i]);
    }
}

/* Height of a value in eighths of a line, 1 to `top`; 0 for NaN. */
static size_t height_of(double v, double low, double high, size_t top)
{
    if (!isfinite(v))
        return 0;
    if (!(high > low))
        return (top + 1) / 2;
    return 1 + (size_t)llround((v - low) / (high - low) * (double)(top - 1));
}

void draw_spark(const double *values, size_t n, size_t cols, struct buf *out)
{
    const char *const *glyph = term_is_utf8() ? blocks : ascii;
    double low, high;

    range(values, n, &low, &high);
    for (size_t c = 0; c < MIN(n, cols); c++)
        buf_addf(out, "%s",
                 glyph[height_of(column_value(values, n, MIN(n, cols), c), low, high, LEVELS)]);
}

void draw_plot(const double *values, size_t n, size_t cols, size_t rows, struct buf *out)
{
    const char *const *glyph = term_is_utf8() ? blocks : ascii;
    size_t used = plot_cols(n, cols);
    double low, high;

    range(values, n, &low, &high);
    for (size_t r = 0; r < rows; r++) {
        size_t below = (rows - 1 - r) * LEVELS; /* eighths under this line */

        if (high >= low && (r == 0 || r == rows - 1))
            buf_addf(out, "%7.2fx ", r == 0 ? high : low);
        else
            buf_addf(out, "%9s", "");
        buf_addf(out, "%s", term_is_utf8() ? "│" : "|");
        for (size_t c = 0; c < used; c++) {
            size_t h = height_of(column_value(values, n, used, c), low, high, rows * LEVELS);

            buf_addf(out, "%s", glyph[h <= below ? 0 : MIN(h - below, (size_t)LEVELS)]);
        }
        buf_addf(out, "\n");
    }
}

/* ---- Searches ---- */

double *curve_best(const json_t *search, size_t *n)
{
    const json_t *curve = json_object_get(search, "curve");
    double *best = xmalloc((json_array_size(curve) + 1) * sizeof(*best)), top = NAN;
    json_t *point;
    size_t i;

    json_array_foreach (curve, i, point) {
        const json_t *said = json_object_get(point, "best");
        const json_t *objective = json_object_get(point, "objective");

        if (json_is_number(said))
            top = json_number_value(said);
        else if (json_is_number(objective))
            top = fmax(top, json_number_value(objective)); /* fmax(NaN, x) is x */
        best[i] = top;
    }
    *n = json_array_size(curve);
    return best;
}
