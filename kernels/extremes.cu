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

#define SIDE (VL > 1 ? 4 : 1)               // registers that are filled side by side on the CPU

#ifdef LEAST
// One more number per lane: number `place`, where `inside`. The first of equal ones stays, and so does a NaN.
DEVICE void compare(Vec v, VecInt place, VecInt inside, Vec& best, VecInt& at) {
    const VecInt better = inside & ((v > best) | ((v != v) & (best == best)));
    best = better ? v : best;
    at = better ? place : at;
}

// The extremes of the lanes' numbers, and the first of their places; `whole`: there are SIDE * VL or more left of n.
template <bool whole> DEVICE void look(const T* from, int j, int n, Vec (&best)[SIDE], VecInt (&at)[SIDE], VecInt place, VecInt step) {
    UNROLL for (int s = 0; s < SIDE; ++s) {
        const int left = n - j - s * VL;
        if (!whole && left <= 0) break;
        const Vec v = whole ? vec_load(from + s * VL) : vec_load(from + s * VL, left);
        compare(LEAST ? -v : v, place + s * step, whole ? VecInt{} == 0 : vec_index() < left, best[s], at[s]);
    }
}
#endif

KERNEL(extreme_rows)(const T* __restrict__ x, OPTIONAL T* __restrict__ y, OPTIONAL int64_t* __restrict__ index, long long rows,
                     long long width, long long parts, long long chunk) {
    ROWS(t, rows * parts, chunk) {
        const long long row = parts > 1 ? t / parts : t, start = (t - row * parts) * chunk, left = width - start;
        const int n = (int)(left < chunk ? left : chunk);
        const T* from = x + row * width + start;
        Vec best[SIDE];
        if (!index) {
            Vec nan = Vec{};                    // a comparison and a blend less for each number than to let it win as above
            UNROLL for (int s = 0; s < SIDE; ++s) best[s] = Vec{} - INFINITY;
            VECTORS(j, n, SIDE) {
                UNROLL for (int s = 0; s < SIDE; ++s) {
                    const int left = n - j - s * VL;
                    const Vec v = left >= VL ? vec_load(from + j + s * VL) : vec_load(from + j + s * VL, left);
                    const Vec w = LEAST ? -v : v;
                    nan = w == w ? nan : w;
                    if (left >= VL) best[s] = w > best[s] ? w : best[s];
                    else best[s] = (w > best[s]) & (vec_index() < left) ? w : best[s];
                }
            }
            UNROLL for (int s = 1; s < SIDE; ++s) best[0] = best[s] > best[0] ? best[s] : best[0];
            const ACC top = row_max(vec_max(nan == nan ? best[0] : nan));
            ONE_LANE y[t] = T(LEAST ? -top : top);
            continue;
        }
        VecInt at[SIDE];
        UNROLL for (int s = 0; s < SIDE; ++s) best[s] = Vec{} - INFINITY, at[s] = VecInt{} + n;
        VECTORS(j, n, SIDE) {
            if (n - j >= SIDE * VL) look<true>(from + j, j, n, best, at, vec_index() + j, VecInt{} + VL);
            else look<false>(from + j, j, n, best, at, vec_index() + j, VecInt{} + VL);
        }
        Vec most = best[0];
        UNROLL for (int s = 1; s < SIDE; ++s) most = (best[s] > most) | (best[s] != best[s]) ? best[s] : most;
        const ACC top = row_max(vec_max(most));
        if (y) {
            ONE_LANE y[t] = T(LEAST ? -top : top);
        }
        VecInt back = VecInt{};             // from the end: of the first place it is the largest; 0 where all are -infinity
        UNROLL for (int s = 0; s < SIDE; ++s) {
            const VecInt equal = (best[s] == top) | ((best[s] != best[s]) & (Vec{} + top != top));
            const VecInt places = equal ? n - at[s] : VecInt{};
            back = places > back ? places : back;
        }
        const int first = n - row_max((int)vec_max(back));
        ONE_LANE index[t] = start + (first < n ? first : 0);
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
        VECTORS(j, count, SIDE) {
            Vec best[SIDE];
            VecInt at[SIDE];
            UNROLL for (int s = 0; s < SIDE; ++s) best[s] = Vec{} - INFINITY, at[s] = VecInt{};
            const T* line = from + j;
            if (count - j >= SIDE * VL)
                for (int i = 0; i < n; ++i, line += width) look<true>(line, j, count, best, at, VecInt{} + i, VecInt{});
            else
                for (int i = 0; i < n; ++i, line += width) look<false>(line, j, count, best, at, VecInt{} + i, VecInt{});
            UNROLL for (int s = 0; s < SIDE; ++s) {
                const int column = j + s * VL;
                if (column >= count) break;
                if (LEAST) best[s] = -best[s];
                if (y) vec_store(y + to + column, best[s], count - column);
                if (index) for (int l = 0; l < VL && l < count - column; ++l) index[to + column + l] = start + vec_at(at[s], l);
            }
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
