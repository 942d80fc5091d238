// layer_norms.cu -- normalisation over the last axes, and its gradient (minitorch_flux/ops/layer_norms.py).
//
//   layer_norm_forward    y = (x - m) scale w + b       scale = 1 / (s + eps), or 1 / sqrt(s^2 + eps) with `inside`
//   layer_norm_backward   dx = scale (g - mean g - (x - m) slope mean(g h))      g = dy w,  h = (x - m) scale
//   rms_norm_forward      y = x scale w                 scale = 1 / sqrt(mean x^2 + eps)
//   rms_norm_backward     dx = scale (g - h mean(g h))                           h = x scale
//
// x, y, dy and dx are [rows, width]; w and b [width], in the dtype of the sums, or null. m and s^2 are the mean and the
// variance of a row; m is kept as shift[r] = m - x[r, 0], so that x - m loses no digits to a large mean. slope = 1 / s is
// the derivative of s, 0 where s is 0; with `inside` it is scale.
// A row of the gradients' kernels is `chunk` rows of x. It leaves its sums of dy h (for w) and of dy (for b) in
// work [parts, 2, width], [parts, 1, width] for rms_norm; null where they are not wanted. All outputs are written (=).
#include "parts.h"

KERNEL(layer_norm_forward)(const T* __restrict__ x, OPTIONAL const ACC* __restrict__ w, OPTIONAL const ACC* __restrict__ b,
                           T* __restrict__ y, ACC* __restrict__ shift, ACC* __restrict__ deviation, long long rows, int width,
                           ACC eps, bool inside) {
    ROWS(r, rows, 3LL * width) {
        const T* from = x + r * width;
        T* to = y + r * width;
        const ACC first = ACC(from[0]);
        Vec sums = {}, squares = {};
        parts(width, [&](int j, int n) { sums += vec_first(vec_load(from + j, n) - first, n, 0); });
        const ACC mean = row_sum(vec_sum(sums)) / width;
        parts(width, [&](int j, int n) {
            const Vec c = vec_first(vec_load(from + j, n) - first - mean, n, 0);
            squares += c * c;
        });
        const ACC variance = row_sum(vec_sum(squares)) / width, s = f_sqrt(variance);
        const ACC scale = 1 / (inside ? f_sqrt(variance + eps) : s + eps);
        if (w && b) parts(width, [&](int j, int n) {
            const Vec h = (vec_load(from + j, n) - first - mean) * scale;
            vec_store(to + j, h * vec_load(w + j, n) + vec_load(b + j, n), n);
        });
        else parts(width, [&](int j, int n) {
            const Vec h = (vec_load(from + j, n) - first - mean) * scale;
            vec_store(to + j, w ? h * vec_load(w + j, n) : h, n);
        });
        ONE_LANE {
            shift[r] = mean;
            deviation[r] = s;
        }
    }
}

KERNEL(rms_norm_forward)(const T* __restrict__ x, OPTIONAL const ACC* __restrict__ w, T* __restrict__ y,
                         ACC* __restrict__ scales, long long rows, int width, ACC eps) {
    ROWS(r, rows, 2LL * width) {
        const T* from = x + r * width;
        T* to = y + r * width;
        Vec squares = {};
        parts(width, [&](int j, int n) {
            const Vec v = vec_load(from + j, n);
            squares += v * v;
        });
        const ACC scale = 1 / f_sqrt(row_sum(vec_sum(squares)) / width + eps);
        parts(width, [&](int j, int n) {
            const Vec h = vec_load(from + j, n) * scale;
            vec_store(to + j, w ? h * vec_load(w + j, n) : h, n);
        });
        ONE_LANE scales[r] = scale;
    }
}

// The gradient of a row: dx, and with SUMS its part in dw and db (CENTRED only).
template <bool CENTRED, bool WEIGHT, bool SUMS>
DEVICE void norm_row_backward(const T* __restrict__ dy, const T* __restrict__ x, const ACC* __restrict__ w, T* __restrict__ dx,
                              ACC* __restrict__ dw, ACC* __restrict__ db, int width, ACC mean, ACC scale, ACC slope) {
    const ACC first = CENTRED ? ACC(x[0]) : 0;
    Vec sums = {}, products = {};
    parts(width, [&](int j, int n) {
        const Vec d = vec_load(dy + j, n), h = vec_first((vec_load(x + j, n) - first - mean) * scale, n, 0);
        const Vec g = WEIGHT ? d * vec_load(w + j, n) : d;
        sums += g;
        products += g * h;
        if (SUMS) vec_store(dw + j, vec_load(dw + j, n) + d * h, n);
        if (SUMS && CENTRED) vec_store(db + j, vec_load(db + j, n) + d, n);
    });
    const ACC sum = CENTRED ? row_sum(vec_sum(sums)) / width : 0;
    const ACC product = row_sum(vec_sum(products)) / width * slope;
    parts(width, [&](int j, int n) {
        const Vec d = vec_load(dy + j, n), c = vec_load(x + j, n) - first - mean;
        vec_store(dx + j, scale * ((WEIGHT ? d * vec_load(w + j, n) : d) - sum - c * product), n);
    });
}

template <bool CENTRED>
DEVICE void norm_backward(const T* dy, const T* x, const ACC* w, T* dx, ACC* dw, ACC* db, int width, ACC mean, ACC scale,
                          ACC slope) {
    if (dw) norm_row_backward<CENTRED, true, true>(dy, x, w, dx, dw, db, width, mean, scale, slope);
    else if (w) norm_row_backward<CENTRED, true, false>(dy, x, w, dx, dw, db, width, mean, scale, slope);
    else norm_row_backward<CENTRED, false, false>(dy, x, w, dx, dw, db, width, mean, scale, slope);
}

KERNEL(layer_norm_backward)(const T* __restrict__ dy, const T* __restrict__ x, OPTIONAL const ACC* __restrict__ w,
                            const ACC* __restrict__ shift, const ACC* __restrict__ deviation, T* __restrict__ dx,
                            OPTIONAL ACC* __restrict__ work, long long rows, int width, int chunk, ACC eps, bool inside) {
    ROWS(p, (rows + chunk - 1) / chunk, 4LL * chunk * width) {
        const long long end = (p + 1) * chunk < rows ? (p + 1) * chunk : rows;
        ACC *dw = work ? work + p * 2 * width : nullptr, *db = work ? dw + width : nullptr;
        if (dw) LANES(j, width) dw[j] = db[j] = 0;
        for (long long r = p * chunk; r < end; ++r) {
            const ACC s = deviation[r], scale = 1 / (inside ? f_sqrt(s * s + eps) : s + eps);
            const long long at = r * width;
            norm_backward<true>(dy + at, x + at, w, dx + at, dw, db, width, shift[r], scale, inside ? scale : s > 0 ? 1 / s : 0);
        }
    }
}

KERNEL(rms_norm_backward)(const T* __restrict__ dy, const T* __restrict__ x, OPTIONAL const ACC* __restrict__ w,
                          const ACC* __restrict__ scales, T* __restrict__ dx, OPTIONAL ACC* __restrict__ work, long long rows,
                          int width, int chunk) {
    ROWS(p, (rows + chunk - 1) / chunk, 4LL * chunk * width) {
        const long long end = (p + 1) * chunk < rows ? (p + 1) * chunk : rows;
        ACC* dw = work ? work + p * width : nullptr;
        if (dw) LANES(j, width) dw[j] = 0;
        for (long long r = p * chunk; r < end; ++r) {
            const long long at = r * width;
            norm_backward<false>(dy + at, x + at, w, dx + at, dw, nullptr, width, 0, scales[r], scales[r]);
        }
    }
}
