// sample.cu -- kernels for the tests of the readings: each uses one part of the vocabulary.
// constants: KH=2 KW=2
// constants: KH=3 KW=3
#include "flux.h"

// y += a x, n elements.
KERNEL(axpy)(ACC a, const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(ACC(y[i]) + a * ACC(x[i]));
}

// y = softmax of each row of x (rows, width), with a bias (width,) added first where there is one.
KERNEL(softmax)(const T* __restrict__ x, OPTIONAL const T* __restrict__ bias, T* __restrict__ y, long long rows,
                int width) {
    ROWS(r, rows, width) {
        const T* xr = x + r * width;
        T* yr = y + r * width;
        ACC m = -INFINITY, s = 0;
        LANES_MAX(m, j, width) m = f_max(m, ACC(xr[j]) + (bias ? ACC(bias[j]) : ACC(0)));
        m = row_max(m);
        LANES_SUM(s, j, width) s += f_exp(ACC(xr[j]) + (bias ? ACC(bias[j]) : ACC(0)) - m);
        s = row_sum(s);
        LANES(j, width) yr[j] = T(f_exp(ACC(xr[j]) + (bias ? ACC(bias[j]) : ACC(0)) - m) / s);
    }
}

// mean and sum of squared deviations of each row of x (rows, width); both (rows,), in ACC.
KERNEL(moments)(const T* __restrict__ x, ACC* __restrict__ mean, ACC* __restrict__ m2, long long rows, int width) {
    ROWS(r, rows, width) {
        const T* xr = x + r * width;
        ACC s = 0, q = 0;
        LANES_SUM(s, j, width) s += ACC(xr[j]);
        ACC mu = row_sum(s) / width;
        LANES_SUM(q, j, width) { ACC d = ACC(xr[j]) - mu; q += d * d; }
        q = row_sum(q);
        ONE_LANE { mean[r] = mu; m2[r] = q; }
    }
}

// y = each row of x backwards, through `work`: what one lane wrote another one reads (rows, width).
KERNEL(reversed)(const T* __restrict__ x, T* __restrict__ y, T* __restrict__ work, long long rows, int width) {
    ROWS(r, rows, width) {
        LANES(j, width) work[r * width + j] = x[r * width + j];
        ROW_SYNC();
        LANES(j, width) y[r * width + j] = work[r * width + width - 1 - j];
    }
}

// y (planes, H / KH, W / KW) = max over windows of x (planes, H, W); a NaN wins.
KERNEL(max_pool)(const T* __restrict__ x, T* __restrict__ y, long long planes, int H, int W) {
    const int OH = H / KH, OW = W / KW;
    ROWS(r, planes * OH, OW * KH * KW) {
        const T* from = x + (r / OH * H + r % OH * KH) * W;
        LANES(ow, OW) {
            ACC best = -INFINITY;
            UNROLL for (int k = 0; k < KH * KW; ++k) best = f_max(best, ACC(from[k / KW * (long long)W + ow * KW + k % KW]));
            y[r * OW + ow] = T(best);
        }
    }
}

// One of each function of the vocabulary, f of x in (0, 1): y (functions, n).
KERNEL(functions)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) {
        ACC v = ACC(x[i]);
        y[0 * n + i] = T(f_exp(v));    y[1 * n + i] = T(f_log(v));    y[2 * n + i] = T(f_sin(v));
        y[3 * n + i] = T(f_cos(v));    y[4 * n + i] = T(f_tanh(v));   y[5 * n + i] = T(f_erf(v));
        y[6 * n + i] = T(f_expm1(v));  y[7 * n + i] = T(f_log1p(v));  y[8 * n + i] = T(f_tan(v));
        y[9 * n + i] = T(f_sinh(v));   y[10 * n + i] = T(f_cosh(v));  y[11 * n + i] = T(f_exp2(v));
        y[12 * n + i] = T(f_asin(v));  y[13 * n + i] = T(f_acos(v));  y[14 * n + i] = T(f_atan(v));
        y[15 * n + i] = T(f_log2(v));  y[16 * n + i] = T(f_asinh(v)); y[17 * n + i] = T(f_acosh(1 + v));
        y[18 * n + i] = T(f_atanh(v)); y[19 * n + i] = T(f_log10(v)); y[20 * n + i] = T(f_sqrt(v));
        y[21 * n + i] = T(f_fabs(-v)); y[22 * n + i] = T(f_floor(9 * v)); y[23 * n + i] = T(f_ceil(9 * v));
        y[24 * n + i] = T(f_rint(9 * v)); y[25 * n + i] = T(f_pow(v, ACC(2.5)));
    }
}
