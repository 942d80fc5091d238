// upsampling.cu -- a weighted sum of neighbours along an axis, or along two (minitorch_flux/ops/upsampling.py).
//
//   resample         y[o, p, i] = sum over k of w[k, p] x[o, first[p] + k, i]
//   resample_last    the same where i takes one value: the axis is the last one
//   resample_planes  y[o, q, p] = sum over l and k of v[l, q] w[k, p] x[o, start[q] + l, first[p] + k]
//
// x is [outer, length, inner], y [outer, out, inner], first [out], w [taps, out]; of resample_planes x is [outer, H, W], y
// [outer, OH, OW], start [OH], v [taps, OH], first [OW], w [TAPS, OW]. A tap of weight 0 counts for nothing, whatever stands
// there. The gradient is the same sum with the transposed weights, so that it gathers, too. A row is one line of `inner`
// (resample) or of `out` numbers (resample_last), or `lines` lines of a plane. y is written (=).
#include "lines.h"
// constants: TAPS=2
// constants: TAPS=4

KERNEL(resample)(const T* __restrict__ x, const int* __restrict__ first, const ACC* __restrict__ w, T* __restrict__ y,
                 long long outer, int length, int out, long long inner, int taps) {
    ROWS(r, outer * out, inner * taps) {
        const int p = (int)(r % out);
        const T* from = x + (r / out * length + first[p]) * inner;
        T* to = y + r * inner;
        int k = 0;
        for (; k < taps && w[(long long)k * out + p] == 0;) ++k;
        if (k == taps) LANES(i, inner) to[i] = T(0);
        else {
            const ACC a = w[(long long)k * out + p];
            const bool two = k + 1 < taps && w[(k + 1LL) * out + p] != 0;
            const ACC b = two ? w[(k + 1LL) * out + p] : 0;
            const T* here = from + k * inner;
            const T* next = here + inner;
            if (two) LANES(i, inner) to[i] = T(ACC(here[i]) * a + ACC(next[i]) * b);
            else LANES(i, inner) to[i] = T(ACC(here[i]) * a);
            for (k += 1 + two; k < taps; ++k) {
                const ACC c = w[(long long)k * out + p];
                const T* more = from + k * inner;
                if (c != 0) LANES(i, inner) to[i] = T(ACC(to[i]) + ACC(more[i]) * c);
            }
        }
    }
}

KERNEL(resample_last)(const T* __restrict__ x, const int* __restrict__ first, const ACC* __restrict__ w, T* __restrict__ y,
                      long long outer, int length, int out, int taps) {
    ROWS(r, outer, (long long)out * taps) {
        const T* from = x + r * length;
        T* to = y + r * out;
        LANES(p, out) {
            ACC sum = 0;
            for (int k = 0; k < taps; ++k) {
                const ACC c = w[(long long)k * out + p], v = ACC(from[first[p] + k]);
                sum += c == 0 ? 0 : c * v;
            }
            to[p] = T(sum);
        }
    }
}

#ifdef TAPS
KERNEL(resample_planes)(const T* __restrict__ x, const int* __restrict__ start, const ACC* __restrict__ v, const int* __restrict__ first,
                        const ACC* __restrict__ w, T* __restrict__ y, long long outer, int H, int W, int OH, int OW, int taps,
                        int lines) {
    const int tiles = (OH + lines - 1) / lines;
    ROWS(r, outer * tiles, (long long)lines * OW * (TAPS + taps)) {
        const int top = (int)(r % tiles) * lines, end = top + lines < OH ? top + lines : OH;
        const T* plane = x + r / tiles * H * W;
        VECTORS(j, OW, 1) {
            const int base = first[j], last = (j + VL < OW ? j + VL : OW) - 1, span = first[last] + TAPS - base;
            const VecInt at = vec_load_int(first + j, 0, OW - j) - base;
            Vec a[TAPS];
            UNROLL for (int k = 0; k < TAPS; ++k) a[k] = vec_load(w + (long long)k * OW + j, OW - j);
            vec_pieces(span, [&](auto piece) {
                for (int q = top; q < end; ++q) {
                    const T* from = plane + (long long)start[q] * W;
                    const auto line = piece.line(base, W, [&](int place, int left) {
                        Vec sum = Vec{};
                        for (int l = 0; l < taps; ++l) {
                            const ACC b = v[(long long)l * OH + q];
                            if (b != 0) sum += vec_load(from + (long long)l * W + place, left) * b;
                        }
                        return sum;
                    });
                    Vec sum = line.pick(at, a[0] != 0) * a[0];
                    UNROLL for (int k = 1; k < TAPS; ++k) sum += line.pick(at + k, a[k] != 0) * a[k];
                    vec_store(y + (r / tiles * OH + q) * OW + j, sum, OW - j);
                }
            });
        }
    }
}
#endif
