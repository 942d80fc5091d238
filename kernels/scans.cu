// scans.cu -- the linear recurrence along an axis (minitorch_flux/ops/scans.py).
//
//   recurrence_forward    s[o, i, j] = b[o, i, j] + a[o, i, j] s[o, i-1, j]    i = 1 .. n-1;  s[o, 0, j] = b[o, 0, j]
//
// a, b and s have the shape (outer, n, inner). reverse = 1: from i = n-1 down, with i+1 for i-1. The axis itself is walked
// by one lane: the parallel work is in outer and inner. The output is written (=).
#include "flux.h"

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
