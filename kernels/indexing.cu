// indexing.cu -- reading rows at positions, and adding rows up at positions.
//
//   take_forward      y[m, j] = x[index[m], j]                        x (n, width), index (M,), y (M, width), written (=)
//   accumulate_rows   y[i, j] = sum of rows[order[k], j]              start[i] <= k < start[i + 1]
//                     rows (M, width), order (M,), start (n + 1,), y (n, width), written (=)
//
// order sorts the positions and start says where each one's rows begin (minitorch_flux/ops/indexing.py), so that every
// row of y has one owner that adds in a fixed order: no atomics, the same bits each time.  Indices are in range: the
// caller has looked.
#include "flux.h"

KERNEL(take_forward)(const T* __restrict__ x, const int64_t* __restrict__ index, T* __restrict__ y, long long m,
                     long long width) {
    ROWS(r, m, width) {
        const T* from = x + index[r] * width;
        LANES(j, width) y[r * width + j] = from[j];
    }
}

KERNEL(accumulate_rows)(const T* __restrict__ rows, const int64_t* __restrict__ order,
                        const int64_t* __restrict__ start, T* __restrict__ y, long long m, long long n,
                        long long width) {
    ROWS(i, n, width * (m / n + 1)) {
        const int64_t first = start[i], end = start[i + 1];
        LANES(j, width) {
            ACC s = 0;
            for (int64_t k = first; k < end; ++k) s += (ACC)rows[order[k] * width + j];
            y[i * width + j] = (T)s;
        }
    }
}
