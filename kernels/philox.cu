// philox.cu -- random numbers as a function of a key and a counter: Philox4x32-10.
//
//   block b = ten rounds on the counter (low, high) + b: four 32-bit words
//   philox_uniform    y[i] = the top BITS bits of word i % 4 of block i / 4, times 2^-BITS
//                     BITS = 8, 11, 24 for bfloat16, half, float; for double (BITS = 53)
//                     y[i] = ((a >> 5) 2^26 + (b >> 6)) 2^-53, a and b = words 2 (i % 2) and
//                     2 (i % 2) + 1 of block i / 2
//   philox_bernoulli  y[i] = word i % 4 of block i / 4 < threshold
//
// Outputs are written (=), n of them.  Everything is exact (integers, and products with powers
// of two), so all devices and minitorch_flux/ops/philox.py agree in every bit.
// Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
#include "flux.h"
#include "philox.h"
// constants: BITS=8
// constants: BITS=11
// constants: BITS=24
// constants: BITS=53
#ifndef BITS
#define BITS 24
#endif

// The numbers of one block, in order.  Spelled out, without an inner loop: so the CPU's compiler
// vectorises over blocks.
#if BITS == 53
#define PER_BLOCK 2
DEVICE T number(uint32_t a, uint32_t b) {
    return (T)(((uint64_t)(a >> 5) << 26) + (b >> 6)) * (T)(1.0 / 9007199254740992.0);
}
DEVICE void write_block(T* y, Words x) {
    y[0] = number(x.w[0], x.w[1]);
    y[1] = number(x.w[2], x.w[3]);
}
#else
#define PER_BLOCK 4
DEVICE T number(uint32_t word) {
    return (T)((float)(word >> (32 - BITS)) * (1.0f / (1 << BITS)));
}
DEVICE void write_block(T* y, Words x) {
    y[0] = number(x.w[0]);
    y[1] = number(x.w[1]);
    y[2] = number(x.w[2]);
    y[3] = number(x.w[3]);
}
#endif

KERNEL(philox_uniform)(T* __restrict__ y, uint32_t k0, uint32_t k1, uint64_t low, uint64_t high,
                       long long n) {
    const long long full = n / PER_BLOCK;
    EACH(b, full) write_block(y + PER_BLOCK * b, block_words(low, high, b, k0, k1));
    EACH(b, n % PER_BLOCK ? 1 : 0) {
        T rest[PER_BLOCK];
        write_block(rest, block_words(low, high, full, k0, k1));
        UNROLL
        for (int j = 0; j < PER_BLOCK; ++j) {
            if (PER_BLOCK * full + j < n) y[PER_BLOCK * full + j] = rest[j];
        }
    }
}

DEVICE void write_mask(bool* y, Words x, uint64_t threshold) {
    y[0] = x.w[0] < threshold;
    y[1] = x.w[1] < threshold;
    y[2] = x.w[2] < threshold;
    y[3] = x.w[3] < threshold;
}

KERNEL(philox_bernoulli)(bool* __restrict__ y, uint64_t threshold, uint32_t k0, uint32_t k1,
                         uint64_t low, uint64_t high, long long n) {
    const long long full = n / 4;
    EACH(b, full) write_mask(y + 4 * b, block_words(low, high, b, k0, k1), threshold);
    EACH(b, n % 4 ? 1 : 0) {
        bool rest[4];
        write_mask(rest, block_words(low, high, full, k0, k1), threshold);
        UNROLL
        for (int j = 0; j < 4; ++j) {
            if (4 * full + j < n) y[4 * full + j] = rest[j];
        }
    }
}
