// upsampling.cu -- a weighted sum of neighbours along one axis (minitorch_flux/ops/upsampling.py).
//
//   resample         y[o, p, i] = sum over k of w[k, p] x[o, first[p] + k, i]
//   resample_last    the same where i takes one value: the axis is the last one
//
// x is [outer, length, inner], y [outer, out, inner], first [out], w [taps, out]. A tap of weight 0 counts for nothing,
// whatever stands there. The gradient is the same sum with the transposed weights, so that it gathers, too. A row is one
// line of `inner` (resample) or of `out` numbers (resample_last). y is written (=).
#include "flux.h"

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
