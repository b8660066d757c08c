/* SPDX-License-Identifier: Apache-2.0 */
/* Clocks; see clock.h. */
#include "base/clock.h"

#include <stdio.h>
#include <time.h>

#include "base/mem.h"
#include "base/str.h"

static uint64_t read_clock(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * NS_PER_SEC + (uint64_t)ts.tv_nsec;
}

static uint64_t system_mono(const struct clock *c)
{
    (void)c;
    return read_clock(CLOCK_MONOTONIC);
}

static uint64_t system_wall(const struct clock *c)
{
    (void)c;
    return read_clock(CLOCK_REALTIME);
}

const struct clock *clock_system(void)
{
    static const struct clock c = { system_mono, system_wall };

    return &c;
}

static uint64_t fake_now(const struct clock *c)
{
    return ((const struct clock_fake *)c)->now_ns;
}

void clock_fake_init(struct clock_fake *f, uint64_t now_ns)
{
    f->clock.mono_ns = fake_now;
    f->clock.wall_ns = fake_now;
    f->now_ns = now_ns;
}

char *clock_iso(uint64_t wall_ns, char *out, size_t size)
{
    time_t t = (time_t)(wall_ns / NS_PER_SEC);
    struct tm tm;

    gmtime_r(&t, &tm);
    strftime(out, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
    return out;
}

int clock_parse_time(const char *s, uint64_t *out_ns)
{
    struct tm tm = { 0 };
    uint64_t secs;
    const char *end;

    if (str_to_u64(s, &secs)) {
        if (secs > UINT64_MAX / NS_PER_SEC)
            return -1;
        *out_ns = secs * NS_PER_SEC;
        return 0;
    }
    end = strptime(s, "%Y-%m-%dT%H:%M:%SZ", &tm);
    if (end == NULL || *end != '\0') {
        tm = (struct tm){ 0 };
        end = strptime(s, "%Y-%m-%d", &tm);
    }
    if (end == NULL || *end != '\0' || tm.tm_year < 70)
        return -1;
    *out_ns = (uint64_t)timegm(&tm) * NS_PER_SEC;
    return 0;
}
