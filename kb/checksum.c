/* SPDX-License-Identifier: Apache-2.0 */
/* See checksum.h. */
#include "checksum.h"

#include <string.h>

#include "text.h"

/* Four interleaved lanes of multiply-and-xor, each step a bijection. */
uint64_t checksum(const void *data, size_t len)
{
    uint64_t lane[4] = { 1, 2, 3, 4 }, w;
    const uint8_t *p = data;
    size_t i = 0;

    for (; i + 32 <= len; i += 32)
        for (size_t k = 0; k < 4; k++) {
            memcpy(&w, p + i + 8 * k, 8);
            lane[k] = (lane[k] ^ w) * 0x9e3779b97f4a7c15ull;
            lane[k] ^= lane[k] >> 29;
        }
    for (; i < len; i++)
        lane[i % 4] = (lane[i % 4] ^ p[i]) * 0x9e3779b97f4a7c15ull;
    w = len;
    for (size_t k = 0; k < 4; k++)
        w = text_hash_pair(w, lane[k]);
    return w;
}
