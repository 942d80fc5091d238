// embedding.cu -- sums and maxima of bags of rows (minitorch_flux/ops/embedding.py).
//
//   bag_sum      y[b, j] = sum of c[k] x[index[k], j]                 start[b] <= k < start[b + 1]; c may be null: all 1
//   bag_argmax   best[b, j] = index[k] of the first largest x[index[k], j], a NaN being the largest; 0 for an empty bag
//
// x (n, d), index (M,), c (M,) and y (B, d) of type ACC, start (B + 1,), best (B, d). Outputs are written (=). Each bag has
// one owner that adds in the order of its entries. Indices are in range: the caller has looked.
#include "flux.h"

KERNEL(bag_sum)(const T* __restrict__ x, OPTIONAL const ACC* __restrict__ c, const int64_t* __restrict__ index,
                const int64_t* __restrict__ start, ACC* __restrict__ y, long long bags, long long d) {
    ROWS(b, bags, d * (start[bags] / bags + 1)) {
        ACC* sum = y + b * d;
        LANES(j, d) sum[j] = 0;
        for (int64_t k = start[b]; k < start[b + 1]; ++k) {
            const T* from = x + index[k] * d;
            const ACC weight = c ? c[k] : ACC(1);
            LANES(j, d) sum[j] += weight * ACC(from[j]);
        }
    }
}

KERNEL(bag_argmax)(const T* __restrict__ x, const int64_t* __restrict__ index, const int64_t* __restrict__ start,
                   int64_t* __restrict__ best, long long bags, long long d) {
    ROWS(b, bags, d * (start[bags] / bags + 1)) {
        int64_t* at = best + b * d;
        const int64_t first = start[b], end = start[b + 1];
        const int64_t row = first < end ? index[first] : 0;
        LANES(j, d) at[j] = row;
        for (int64_t k = first + 1; k < end; ++k) {
            const int64_t next = index[k];
            LANES(j, d) {
                const ACC old = ACC(x[at[j] * d + j]), now = ACC(x[next * d + j]);
                at[j] = now > old || (now != now && old == old) ? next : at[j];
            }
        }
    }
}
