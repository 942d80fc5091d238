// extremes.cu -- the largest or smallest element along axes, where it lies, and putting it back (minitorch_flux/ops/extremes.py).
//
//   extreme_rows      x (rows, width)            y[r, p] = max of x[r, i], i in part p of the row, index[r, p] = the first such i
//   extreme_columns   x (outer, length, width)   y[o, p, j] = max of x[o, i, j], i in part p of length, index likewise
//   place_rows        dx (rows, width)           dx[r, i] = dy[r] where i == index[r], else 0
//   place_columns     dx (outer, length, width)  dx[o, i, j] = dy[o, j] where i == index[o, j], else 0
//
// A part is `chunk` elements, so that a long row has work for more than one processor; the caller takes the extremes of the
// parts again. A NaN is the extreme, the first one if there are several. y and index are optional. With LEAST it is the
// minimum. All outputs are written (=).
#include "vectors.h"
// constants: LEAST=0
// constants: LEAST=1

#ifdef LEAST
DEVICE ACC upright(ACC v) { return LEAST ? -v : v; }
#endif

KERNEL(extreme_rows)(const T* __restrict__ x, OPTIONAL T* __restrict__ y, OPTIONAL int64_t* __restrict__ index, long long rows,
                     long long width, long long parts, long long chunk) {
    ROWS(t, rows * parts, chunk) {
        const long long start = t % parts * chunk, left = width - start;
        const int n = (int)(left < chunk ? left : chunk);
        const T* from = x + t / parts * width + start;
        ACC best = -INFINITY;
        LANES_MAX(best, j, n) best = f_max(best, upright(ACC(from[j])));
        best = row_max(best);
        if (y) {
            ONE_LANE y[t] = T(upright(best));
        }
        if (!index) continue;
        int back = 0;                          // the first place, counted from the end: a maximum too
        LANES_MAX(back, j, n) {
            const ACC v = upright(ACC(from[j]));
            const bool found = v == best || (v != v && best != best);
            back = f_max(back, found ? n - j : 0);
        }
        back = row_max(back);
        ONE_LANE index[t] = start + n - back;
    }
}

// A row is `tile` columns of a part.
KERNEL(extreme_columns)(const T* __restrict__ x, OPTIONAL T* __restrict__ y, OPTIONAL int64_t* __restrict__ index, long long outer,
                        long long length, int width, long long parts, long long chunk, int tile) {
    const int tiles = (width + tile - 1) / tile;
    ROWS(r, outer * parts * tiles, chunk * tile) {
        const long long t = r / tiles, start = t % parts * chunk, left = length - start;
        const int n = (int)(left < chunk ? left : chunk), first = (int)(r % tiles) * tile;
        const int count = width - first < tile ? width - first : tile;
        const T* from = x + (t / parts * length + start) * width + first;
        const long long to = t * width + first;
        VECTORS(j, count, 1) {
            Vec best = Vec{} - INFINITY;
            VecInt at = VecInt{};
            for (int i = 0; i < n; ++i) {
                Vec v = vec_load(from + (long long)i * width + j, count - j);
                if (LEAST) v = -v;
                const VecInt better = (v > best) | ((v != v) & (best == best));
                best = better ? v : best;
                at = better ? VecInt{} + i : at;
            }
            if (LEAST) best = -best;
            if (y) vec_store(y + to + j, best, count - j);
            if (index)
                for (int l = 0; l < VL && l < count - j; ++l) index[to + j + l] = start + vec_at(at, l);
        }
    }
}

KERNEL(place_rows)(const T* __restrict__ dy, const int64_t* __restrict__ index, T* __restrict__ dx, long long rows, int width) {
    ROWS(r, rows, width) {
        T* to = dx + r * width;
        const T v = dy[r];
        const int at = (int)index[r];
        LANES(i, width) to[i] = i == at ? v : T(0);
    }
}

KERNEL(place_columns)(const T* __restrict__ dy, const int64_t* __restrict__ index, T* __restrict__ dx, long long outer,
                      long long length, int width) {
    ROWS(t, outer * length, width) {
        const long long from = t / length * width, i = t % length;
        LANES(j, width) dx[t * width + j] = index[from + j] == i ? dy[from + j] : T(0);
    }
}
