// dropouts.cu -- dropout with the mask drawn on the fly (minitorch_flux/ops/dropouts.py).
//
//   y[i] = scale x[i] + shift   where word i % 4 of block i / 4 is <= last
//          fill                 elsewhere
//
//   dropout_forward   one draw for each element, n in all
//   dropout_rows      one draw for each row of x (rows, width)
//
// The blocks are Philox4x32-10's, block b has the counter (low, high) + b. The same key and counter give the same mask
// on every device and for every T, so the backward pass draws it again with shift = fill = 0. y is written (=).
#include "flux.h"
#include "philox.h"

#define BLOCKS 64   // a row of dropout_forward: 256 elements

DEVICE T kept(T x, uint32_t word, ACC scale, ACC shift, ACC fill, uint32_t last) {
    return T(word <= last ? ACC(x) * scale + shift : fill);
}

KERNEL(dropout_forward)(const T* __restrict__ x, T* __restrict__ y, ACC scale, ACC shift, ACC fill, uint32_t last,
                        uint32_t k0, uint32_t k1, uint64_t low, uint64_t high, long long n) {
    const long long full = n / 4;
    ROWS(r, (full + BLOCKS - 1) / BLOCKS, 16 * BLOCKS) {
        const long long first = r * BLOCKS;
        const int count = (int)(full - first < BLOCKS ? full - first : BLOCKS);
        LANES(b, count) {
            const Words drawn = block_words(low, high, first + b, k0, k1);
            const T* from = x + 4 * (first + b);
            T* to = y + 4 * (first + b);
            to[0] = kept(from[0], drawn.w[0], scale, shift, fill, last);
            to[1] = kept(from[1], drawn.w[1], scale, shift, fill, last);
            to[2] = kept(from[2], drawn.w[2], scale, shift, fill, last);
            to[3] = kept(from[3], drawn.w[3], scale, shift, fill, last);
        }
    }
    EACH(b, n % 4 ? 1 : 0) {
        const Words drawn = block_words(low, high, full, k0, k1);
        UNROLL
        for (int j = 0; j < 3; ++j) {
            const long long i = 4 * full + j;
            if (i < n) y[i] = kept(x[i], drawn.w[j], scale, shift, fill, last);
        }
    }
}

KERNEL(dropout_rows)(const T* __restrict__ x, T* __restrict__ y, ACC scale, ACC shift, ACC fill, uint32_t last,
                     uint32_t k0, uint32_t k1, uint64_t low, uint64_t high, long long rows, long long width) {
    ROWS(r, rows, width) {
        const Words drawn = block_words(low, high, r / 4, k0, k1);
        const int j = (int)(r % 4);
        const uint32_t word = j == 0 ? drawn.w[0] : j == 1 ? drawn.w[1] : j == 2 ? drawn.w[2] : drawn.w[3];
        LANES(i, width) y[r * width + i] = kept(x[r * width + i], word, scale, shift, fill, last);
    }
}
