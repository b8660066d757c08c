/* SPDX-License-Identifier: Apache-2.0 */
/* The loops that probe times. Thread: any; each thread gets its own memory. */
#ifndef KS_HARNESS_PROBE_LOOPS_H
#define KS_HARNESS_PROBE_LOOPS_H

#include <stddef.h>
#include <stdint.h>

/* Widest vector unit to use, in bits. */
enum vector_isa { VECTOR_BASE, VECTOR_AVX2, VECTOR_AVX512 };

/* What the processor that we run on has. */
enum vector_isa probe_vector_isa(void);
/* Multiply-adds in float, `turns` times 16 independent vectors. Returns the floating-point
 * operations done. */
double probe_fma(enum vector_isa isa, size_t turns);
/*
 * The same with products of bfloat16 pairs added in float (AVX512-BF16): what kernels on 16-bit and
 * 8-bit floats may reach. 0 where the processor has no such instruction.
 */
double probe_dot_bf16(size_t turns);
/* Reads n 64-bit words; returns something made of all of them. */
uint64_t probe_read(const uint64_t *p, size_t n);

#endif
