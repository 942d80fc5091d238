// products.h -- matrix products of a few rows with sums in registers.
//
// The right factor B [K, n] lies packed: [panels, K, PANEL], the columns of a panel side by side, the last panel filled
// up with zeros. So a panel is read from its beginning to its end, once for TOGETHER rows of the left factor.
//
//   pack_part        rows first..first + VL - 1 of panel p, which lies at `to`: B[k, j] = w[k, j], or w[j, k] when turned
//   panel_product    out[m, 0..n) = a[m] b for m < count, added to out when `more`; b is one panel, n at most PANEL
//                    a is Rows, or a pointer to row after row
#include "vectors.h"

#define PANEL 48
#define PANELS(n) (((n) + PANEL - 1) / PANEL)
#define PARTS_OF(K) (((K) + VL - 1) / VL)
#define REGISTERS (VL > 1 ? 3 : 1)       // of columns of a product
#ifdef FLUX_CPU
#define TOGETHER (VEC_FREE >= 24 ? 8 : 4)  // rows of a product in registers
#define APART [[maybe_unused]] static __attribute__((noinline))
#else
#define TOGETHER 1
#define APART DEVICE
#endif

// A left factor: number k of row m is at[m * row + k * step].
struct Rows { const T* at; long long row, step; };

// out[m, 0..n) = a[m] b for `rows` rows; n is at most `registers` registers.
template <int rows, int registers>
APART void block(const T* a, long long row, long long step, int K, const T* __restrict__ b, T* out, long long out_step, int n, bool more) {
    Vec sum[rows][registers];
    UNROLL for (int m = 0; m < rows; ++m) UNROLL for (int i = 0; i < registers; ++i)
        sum[m][i] = more ? vec_load(out + m * out_step + i * VL, n - i * VL) : Vec{};
    for (int k = 0; k < K; ++k, a += step) {
        Vec v[registers];
        UNROLL for (int i = 0; i < registers; ++i) v[i] = vec_load(b + (long long)k * PANEL + i * VL);
        UNROLL for (int m = 0; m < rows; ++m) {
            const ACC x = ACC(a[m * row]);
            UNROLL for (int i = 0; i < registers; ++i) sum[m][i] += v[i] * x;
        }
    }
    UNROLL for (int m = 0; m < rows; ++m) UNROLL for (int i = 0; i < registers; ++i)
        vec_store(out + m * out_step + i * VL, sum[m][i], n - i * VL);
}

// The same for `count` rows, at most `rows`.
template <int rows, int registers>
DEVICE void some_rows(int count, Rows a, int K, const T* b, T* out, long long out_step, int n, bool more) {
    if (count >= rows) block<rows, registers>(a.at, a.row, a.step, K, b, out, out_step, n, more);
    else if constexpr (rows > 1) some_rows<rows - 1, registers>(count, a, K, b, out, out_step, n, more);
}

template <int registers>
DEVICE void all_rows(int count, Rows a, int K, const T* b, T* out, long long out_step, int n, bool more) {
    for (int m = 0; m < count; m += TOGETHER)
        some_rows<TOGETHER, registers>(count - m, {a.at + m * a.row, a.row, a.step}, K, b, out + m * out_step, out_step, n, more);
}

DEVICE void panel_product(int count, Rows a, int K, const T* b, T* out, long long out_step, int n, bool more) {
    VECTORS(j, n, REGISTERS) {
        const int left = n - j;
        if (left > (REGISTERS - 1) * VL) all_rows<REGISTERS>(count, a, K, b + j, out + j, out_step, left, more);
        else if (left > VL) all_rows<REGISTERS - (REGISTERS > 1)>(count, a, K, b + j, out + j, out_step, left, more);
        else all_rows<1>(count, a, K, b + j, out + j, out_step, left, more);
    }
}

DEVICE void panel_product(int count, const T* a, long long a_step, int K, const T* b, T* out, long long out_step, int n,
                          bool more) {
    panel_product(count, {a, a_step, 1}, K, b, out, out_step, n, more);
}

#ifdef FLUX_CPU
// VL columns of VL numbers, turned in registers: 2 x 2 numbers change places, then 2 x 2 blocks of 2 x 2, and so on.
DEVICE void turn(Vec (&v)[VL]) {
    UNROLL for (int step = 1; step < VL; step *= 2) {
        const VecInt odd = (vec_index() & step) != 0;
        const VecInt low = odd ? vec_index() - step + VL : vec_index(), high = odd ? vec_index() + VL : vec_index() + step;
        UNROLL for (int i = 0; i < VL; ++i) if (!(i & step)) {
            const Vec a = v[i], b = v[i + step];
            v[i] = vec_shuffle(a, b, low), v[i + step] = vec_shuffle(a, b, high);
        }
    }
}
#endif

DEVICE void pack_part(const T* __restrict__ w, T* __restrict__ to, int p, int first, int K, int n, bool turned) {
    const int end = first + VL < K ? first + VL : K;
    const long long j0 = (long long)p * PANEL;
#ifdef FLUX_CPU
    if (turned) {
        for (int j = 0; j < PANEL; j += VL) {
            Vec v[VL];
            UNROLL for (int l = 0; l < VL; ++l)
                v[l] = j0 + j + l < n ? vec_load(w + (j0 + j + l) * K + first, K - first) : Vec{};
            turn(v);
            UNROLL for (int l = 0; l < VL; ++l) if (first + l < K) vec_store(to + (long long)(first + l) * PANEL + j, v[l], VL);
        }
        return;
    }
#endif
    for (long long k = first; k < end; ++k)
        LANES(j, PANEL) to[k * PANEL + j] = j0 + j >= n ? T(0) : turned ? w[(j0 + j) * K + k] : w[k * n + j0 + j];
}
