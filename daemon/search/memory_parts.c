/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of memory by name; see memory.h. */
#include <string.h>

#include "search/memory.h"

static const struct {
    enum memory_part part;
    const char *name;
} names[] = {
    { MEMORY_ADOPT, "adopt" },
    { MEMORY_PLANS, "plans" },
    { MEMORY_PRIOR, "prior" },
    { MEMORY_LIVE, "live" },
};

json_t *memory_parts_json(unsigned parts)
{
    json_t *list = json_array();

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (parts & (unsigned)names[i].part)
            json_array_append_new(list, json_string(names[i].name));
    return list;
}

/* Adds the part of this name (`len` bytes) to *parts. */
static int add_part(const char *name, size_t len, unsigned *parts, struct err *err)
{
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strlen(names[i].name) == len && memcmp(names[i].name, name, len) == 0) {
            *parts |= (unsigned)names[i].part;
            return 0;
        }
    return err_set(err, ERR_INVALID,
                   "'memory' has '%.*s', but its parts are adopt, plans, prior and live",
                   (int)(len < 40 ? len : 40), name);
}

static int parse_text(const char *text, unsigned *parts, struct err *err)
{
    for (;;) {
        size_t len = strcspn(text, ",");

        if (add_part(text, len, parts, err) != 0)
            return -1;
        if (text[len] == '\0')
            return 0;
        text += len + 1;
    }
}

int memory_parts_parse(const json_t *j, unsigned *out, struct err *err)
{
    unsigned parts = 0;
    const json_t *v;
    size_t i;

    if (json_is_string(j) && parse_text(json_string_value(j), &parts, err) != 0)
        return -1;
    json_array_foreach (j, i, v)
        if (!json_is_string(v))
            return err_set(err, ERR_INVALID, "'memory' must hold names of parts alone");
        else if (add_part(json_string_value(v), json_string_length(v), &parts, err) != 0)
            return -1;
    if (parts == 0)
        return err_set(err, ERR_INVALID,
                       "'memory' must name at least one of adopt, plans, prior and live; a cold "
                       "search reads nothing");
    *out = parts;
    return 0;
}
