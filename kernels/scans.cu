// scans.cu -- running sums and products, and the linear recurrence, along an axis (minitorch_flux/ops/scans.py).
//
//   scan_rows             x (rows, n)            y[r, i] = x[r, 0] + ... + x[r, i], with PRODUCT their product
//   scan_columns          x (outer, n, inner)    y[o, i, j] = x[o, 0, j] + ... + x[o, i, j], likewise
//   recurrence_forward    s[o, i, j] = b[o, i, j] + a[o, i, j] s[o, i-1, j]    i = 1 .. n-1;  s[o, 0, j] = b[o, 0, j]
//
// a, b and s have the shape (outer, n, inner). reverse = 1: from i = n-1 down, with i+1 for i-1. Of scan_rows the lanes of a
// row scan their numbers together, one step after the other; of the others the axis is walked by one lane: the parallel work
// is in outer and inner. The outputs are written (=).
#include "vectors.h"
// constants: PRODUCT=0
// constants: PRODUCT=1

#define COLUMNS (VL > 1 ? 8 : 1)            // registers of columns that are walked side by side on the CPU

#ifdef PRODUCT
template <class V> DEVICE V combined(V a, V b) { return PRODUCT ? a * b : a + b; }

// A step of a row: number l of it becomes the combination of `before` and its numbers 0 to l; then `before` has all of them.
#ifdef FLUX_CPU
#define STEP VL
DEVICE Vec scanned(Vec v, Vec& before) {
    UNROLL for (int d = 1; d < VL; d *= 2) v = combined(v, vec_shuffle(Vec{} + PRODUCT, v, vec_index() + (VL - d)));
    const Vec all = vec_shuffle(v, v, VecInt{} + (VL - 1));
    v = combined(v, before);
    before = combined(before, all);
    return v;
}
DEVICE Vec backwards(Vec v) { return vec_shuffle(v, v, VL - 1 - vec_index()); }
DEVICE Vec step_load(const T* from, int first, int n, int reverse) {     // its numbers, in the order of the scan
    const int left = n - first;
    if (reverse) return backwards(left >= VL ? vec_load(from + left - VL) : vec_load(from + left - VL, VL - left, VL));
    return left >= VL ? vec_load(from + first) : vec_load(from + first, left);
}
DEVICE void step_store(T* to, Vec v, int first, int n, int reverse) {
    const int left = n - first;
    if (reverse) vec_store(to + left - VL, backwards(v), VL - left, VL);
    else vec_store(to + first, v, left);
}
#else
#define STEP (int)blockDim.x
DEVICE ACC scanned(ACC v, ACC& before) {
    const unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    ACC all = v;
    for (unsigned d = 1; d < 32; d *= 2) {
        const ACC other = __shfl_xor_sync(0xffffffffu, all, d);
        if (lane & d) v = combined(v, other);
        all = combined(all, other);
    }
    if (blockDim.x > 32) {
        SHARED(ACC, part, 32);
        __syncthreads();                     // an earlier step may still be reading part
        if (lane == 0) part[warp] = all;
        __syncthreads();
        all = PRODUCT;
        for (unsigned w = 0; w < blockDim.x >> 5; ++w) {
            if (w < warp) v = combined(v, part[w]);
            all = combined(all, part[w]);
        }
    }
    v = combined(v, before);
    before = combined(before, all);
    return v;
}
DEVICE ACC step_load(const T* from, int first, int n, int reverse) {
    const int i = first + (int)threadIdx.x;
    return i < n ? ACC(from[reverse ? n - 1 - i : i]) : ACC(PRODUCT);
}
DEVICE void step_store(T* to, ACC v, int first, int n, int reverse) {
    const int i = first + (int)threadIdx.x;
    if (i < n) to[reverse ? n - 1 - i : i] = T(v);
}
#endif

KERNEL(scan_rows)(const T* __restrict__ x, T* __restrict__ y, long long rows, int n, int reverse) {
    ROWS(r, rows, n) {
        Vec before = Vec{} + PRODUCT;
        for (int first = 0; first < n; first += STEP)
            step_store(y + r * n, scanned(step_load(x + r * n, first, n, reverse), before), first, n, reverse);
    }
}

// A row is `tile` columns.
KERNEL(scan_columns)(const T* __restrict__ x, T* __restrict__ y, long long outer, long long n, int inner, int reverse, int tile) {
    const int tiles = (inner + tile - 1) / tile;
    ROWS(r, outer * tiles, n * tile) {
        const int first = (int)(r % tiles) * tile, count = inner - first < tile ? inner - first : tile;
        const long long start = (r / tiles * n + (reverse ? n - 1 : 0)) * inner + first;
        VECTORS(j, count, COLUMNS) {
            Vec before[COLUMNS];
            UNROLL for (int c = 0; c < COLUMNS; ++c) before[c] = Vec{} + PRODUCT;
            const T* from = x + start + j;
            T* to = y + start + j;
            for (long long i = 0; i < n; ++i) {
                const long long at = (reverse ? -i : i) * inner;
                UNROLL for (int c = 0; c < COLUMNS; ++c) {
                    const int left = count - j - c * VL;
                    if (left <= 0) break;
                    before[c] = combined(before[c], left >= VL ? vec_load(from + at + c * VL) : vec_load(from + at + c * VL, left));
                    vec_store(to + at + c * VL, before[c], left);
                }
            }
        }
    }
}
#endif

KERNEL(recurrence_forward)(const T* __restrict__ a, const T* __restrict__ b, T* __restrict__ s, long long outer,
                           long long n, int inner, int reverse) {
    ROWS(o, outer, n * inner) {
        const long long start = (reverse ? (o + 1) * n - 1 : o * n) * inner;
        const long long step = reverse ? -inner : inner;
        LANES(j, inner) {
            ACC before = 0;
            for (long long i = 0; i < n; ++i) {
                const long long at = start + i * step + j;
                before = i ? ACC(b[at]) + ACC(a[at]) * before : ACC(b[at]);
                s[at] = T(before);
            }
        }
    }
}
