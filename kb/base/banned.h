/* SPDX-License-Identifier: Apache-2.0 */
/* Functions that have no safe use here. Included by mem.h, so by every source of ours. */
#ifndef KS_BASE_BANNED_H
#define KS_BASE_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#pragma GCC poison strcpy strcat sprintf vsprintf gets strtok atoi atol atof rand srand

#endif
