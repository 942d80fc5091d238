// reductions.cu -- sums along axes (minitorch_flux/ops/reductions.py).
//
// Both kernels leave partial sums of at most `chunk` (rows of) elements, which the caller adds up: so the rounding error
// stays small, there is work for all processors, and the order of the additions depends on the shape alone.
//
//   sum_rows      x (rows, width)     y[r, p] = sum of x[r, i], i in part p of the row
//   sum_columns   x (outer, length)   y[o, p, j] = sum of x[o, i width + j], i in part p; `length` need not be a multiple
//                                     of `width`
//
// Outputs are written (=), in ACC.
#include "vectors.h"

#define SIDE (VL > 1 ? 4 : 1)               // registers that are added up side by side on the CPU

KERNEL(sum_rows)(const T* __restrict__ x, ACC* __restrict__ y, long long rows, long long width, long long parts,
                 long long chunk) {
    const long long count = rows * parts;
    ROWS(g, (count + VL - 1) / VL, chunk * VL) {               // a lane's number of rows at a time: their lanes are added up at once
        const long long first = g * VL;
        Vec sums[VL];
        UNROLL for (int l = 0; l < VL; ++l) sums[l] = Vec{};
        for (int l = 0; l < VL && first + l < count; ++l) {
            const long long t = first + l, row = parts > 1 ? t / parts : t, start = (t - row * parts) * chunk, left = width - start;
            const int n = (int)(left < chunk ? left : chunk);
            const T* from = x + row * width + start;
            Vec sum[SIDE];
            UNROLL for (int s = 0; s < SIDE; ++s) sum[s] = Vec{};
            VECTORS(j, n, SIDE) {
                if (n - j >= SIDE * VL) {
                    UNROLL for (int s = 0; s < SIDE; ++s) sum[s] += vec_load(from + j + s * VL);
                } else {
                    for (int i = j; i < n; i += VL) sum[0] += n - i >= VL ? vec_load(from + i) : vec_load(from + i, n - i);
                }
            }
            UNROLL for (int s = 1; s < SIDE; ++s) sum[0] += sum[s];
            sums[l] = sum[0];
        }
        const Vec total = row_sum(vec_sums(sums));
        ONE_LANE vec_store(y + first, total, (int)(count - first < VL ? count - first : VL));
    }
}

KERNEL(sum_columns)(const T* __restrict__ x, ACC* __restrict__ y, long long outer, long long length, long long width,
                    long long parts, long long chunk) {
    ROWS(t, outer * parts, chunk * width) {
        const long long start = t % parts * chunk * width;
        const long long left = length - start;
        const long long n = left < chunk * width ? left : chunk * width;
        const T* from = x + t / parts * length + start;
        ACC* to = y + t * width;
        LANES(j, width) to[j] = 0;
        long long i = 0;
        // Wide sums do not stay in the first cache: visit them less often. (Narrow ones do, and one stream is read faster.)
        for (; width > 1024 && i + 4 * width <= n; i += 4 * width) {
            const T *a = from + i, *b = a + width, *c = b + width, *d = c + width;
            LANES(j, width) to[j] += (ACC(a[j]) + ACC(b[j])) + (ACC(c[j]) + ACC(d[j]));
        }
        for (; i < n; i += width) {
            const long long m = n - i < width ? n - i : width;
            LANES(j, m) to[j] += ACC(from[i + j]);
        }
    }
}
