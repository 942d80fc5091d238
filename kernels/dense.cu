// dense.cu -- a matrix product that ends in a bias and an activation (minitorch_flux/ops/dense.py).
//
//   dense_small    z = x w^T + b, y = act(z): few numbers, read where they are           rows = M
//   dense_forward  the same by panels of w, see products.h; without `turned` w is [K, n]  rows = parts
//
// x [M, K], w [n, K], b [n] or null, y [M, n]; z [M, n] is written too where there is one; space [parts, K, PANEL]. All
// outputs are written (=).
#include "products.h"
#include "activations.h"
// constants: ACT=identity
// constants: ACT=relu
// constants: ACT=tanh
// constants: ACT=gelu

KERNEL(dense_small)(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ OPTIONAL b, T* OPTIONAL z, T* y,
                    ACC p, int M, int K, int n) {
    ROWS(r, M, (long long)n * K) {
        const T* xr = x + (long long)r * K;
        T* yr = y + (long long)r * n;
        for (int j = 0; j < n; ++j) {
            const T* wj = w + (long long)j * K;
            ACC sum = 0;
            LANES_SUM(sum, k, K) sum += ACC(xr[k]) * ACC(wj[k]);
            sum = row_sum(sum);
            ONE_LANE yr[j] = T(sum + (b ? ACC(b[j]) : 0));
        }
        ROW_SYNC();
        if (z) LANES(j, n) z[(long long)r * n + j] = yr[j];
        LANES(j, n) yr[j] = T(act::ACT::f(ACC(yr[j]), p));
    }
}

// A part takes panel by panel of w, packs it to its place in `space` and multiplies strips of x's rows by it.
KERNEL(dense_forward)(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ OPTIONAL b, T* OPTIONAL z, T* y,
                      T* space, ACC p, int M, int K, int n, bool turned, int strip, int parts) {
    const int strips = (M + strip - 1) / strip;
    const long long units = (long long)PANELS(n) * strips;
    ROWS(r, parts, units * strip / parts * PANEL * K / 8) {
        T* B = space + (long long)r * K * PANEL;
        int packed = -1;
        for (long long u = units * r / parts; u < units * (r + 1) / parts; ++u) {
            const int panel = (int)(u / strips), j0 = panel * PANEL, first = (int)(u % strips) * strip;
            const int count = M - first < strip ? M - first : strip, width = n - j0 < PANEL ? n - j0 : PANEL;
            if (panel != packed) {
                ROW_SYNC();                                    // others may still read the last one
                for (int k = 0; k < K; k += VL) pack_part(w, B, panel, k, K, n, turned);
                packed = panel;
                ROW_SYNC();
            }
            T* out = y + (long long)first * n + j0;
            panel_product(count, x + (long long)first * K, K, K, B, out, n, width, false);
            ROW_SYNC();
            for (int m = 0; m < count; ++m, out += n) {
                LANES(j, width) {
                    const ACC v = ACC(out[j]) + (b ? ACC(b[j0 + j]) : 0);
                    if (z) z[(long long)(first + m) * n + j0 + j] = T(v);
                    out[j] = T(act::ACT::f(v, p));
                }
            }
        }
    }
}
