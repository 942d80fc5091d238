// dense.cu -- a matrix product that ends in a bias and an activation (minitorch_flux/ops/dense.py).
//
//   dense_small    z = x w^T + b, y = act(z): few numbers, read where they are           rows = M
//   dense_forward  the same by panels of w, see products.h; without `turned` w is [K, n]  rows = parts
//   dense_weights  dw = dz^T x                                                            rows = parts
//
// x [M, K], w [n, K], b [n] or null, y [M, n]; z [M, n] is written too where there is one; space [parts, K, PANEL]. dz [M, n],
// dw [n, K]; then space is [parts, group * (chunk + 2) + chunk * PANEL], group a multiple of 8. All outputs are written (=).
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

// How far apart the blocks of packed columns lie: two steps more than there are samples, or their beginnings would all take
// the same places of a cache.
#define BLOCK_STEP(chunk) (((chunk) + 2) * TOGETHER)
#ifdef FLUX_CPU
#define BLOCKS(i, n) for (int i = 0; i < (n); ++i)
#else
#define BLOCKS(i, n) LANES(i, n)
#endif

// Columns 0..count - 1 of dz, samples 0..m - 1, in blocks of TOGETHER columns that are read side by side.
DEVICE void pack_columns(const T* __restrict__ dz, T* __restrict__ to, int count, int m, int n, int step) {
    const int whole = count / TOGETHER, rest = count % TOGETHER;
    for (int k = 0; k < m; ++k, dz += n, to += TOGETHER) {
        BLOCKS(i, whole) {
            vec_ahead(dz + i * TOGETHER + 2LL * n);
            UNROLL for (int t = 0; t < TOGETHER; ++t) to[(long long)i * step + t] = dz[i * TOGETHER + t];
        }
        LANES(j, rest) to[(long long)whole * step + j] = dz[whole * TOGETHER + j];
    }
}

// A part makes its rows of dw, at most `group` at a time: the sums over `chunk` samples stay in registers.
KERNEL(dense_weights)(const T* __restrict__ dz, const T* __restrict__ x, T* dw, T* space, int M, int K, int n, int parts, int chunk,
                      int group) {
    const long long blocks = (n + TOGETHER - 1) / TOGETHER, size = (long long)group * (chunk + 2) + (long long)chunk * PANEL;
    ROWS(r, parts, (long long)M * n / parts * K / 8) {
        T *A = space + r * size, *B = A + (long long)group * (chunk + 2);
        const int last = (int)(blocks * (r + 1) / parts) * TOGETHER, end = last < n ? last : n;
        for (int from = (int)(blocks * r / parts) * TOGETHER; from < end; from += group) {
            const int width = end - from < group ? end - from : group;
            for (int m0 = 0; m0 < M; m0 += chunk) {
                const int m = M - m0 < chunk ? M - m0 : chunk;
                ROW_SYNC();                                    // others may still read what is packed
                pack_columns(dz + (long long)m0 * n + from, A, width, m, n, BLOCK_STEP(chunk));
                for (int p = 0; p < PANELS(K); ++p) {
                    const int columns = K - p * PANEL < PANEL ? K - p * PANEL : PANEL;
                    if (p) ROW_SYNC();
                    for (int k = 0; k < m; k += VL) pack_part(x + (long long)m0 * K, B, p, k, m, K, false);
                    ROW_SYNC();
                    for (int o = 0; o < width; o += TOGETHER)
                        panel_product(width - o < TOGETHER ? width - o : TOGETHER,
                                      {A + (long long)(o / TOGETHER) * BLOCK_STEP(chunk), 1, TOGETHER}, m, B,
                                      dw + (long long)(from + o) * K + p * PANEL, K, columns, m0 > 0);
                }
            }
        }
    }
}
