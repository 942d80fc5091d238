// pooling.cu -- max and mean over windows, and their gradients (minitorch_flux/ops/pooling.py).
//
//   max_pool_forward    y[p] = max over k of x[p s - pad + k d], arg[p] = its place in the plane: the first one's, the
//                       first NaN's if there is one, -1 where no tap is inside
//   max_pool_backward   dx[i] = sum of dy[p] over all p with arg[p] = i
//   mean_pool_forward   y[p] = sum over k of x[p s - pad + k d] / count[p], zero outside
//   mean_pool_backward  dx[i] = sum of dy[p] / count[p] over all p and k with p s - pad + k d = i
//
// x is [planes, D, H, W], y, arg and dy are [planes, OD, OH, OW], count is [OD, OH, OW]. All outputs are written (=).
// A row is one line of the output. The gradients gather: a line of dx looks for the windows that cover it, so no two
// rows meet. Constants of a build: the window's width KW, its stride SW and its dilation DW along the width.
#include "vectors.h"
// constants: KW=2 SW=2 DW=1
// constants: KW=3 SW=1 DW=1
// constants: KW=3 SW=3 DW=2

DEVICE int ceil_div(int a, int b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

#ifdef KW
// Of the windows from number j on, those whose tap kw lies in a line of W.
#define FROM(kw) ceil_div(pw - (kw) * DW - j * SW, SW)
#define TO(kw)   ceil_div(W + pw - (kw) * DW - j * SW, SW)
#endif

KERNEL(max_pool_forward)(const T* __restrict__ x, T* __restrict__ y, int* __restrict__ arg, long long planes, int D, int H, int W,
                         int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw) {
    ROWS(r, planes * OD * OH, OW * KD * KH * KW) {
        const int oh = r % OH, od = r / OH % OD;
        const T* plane = x + r / OH / OD * D * H * W;
        VECTORS(j, OW, 1) {
            Vec best = Vec{} - INFINITY;
            VecInt at = VecInt{} - 1;
            for (int kd = 0; kd < KD; ++kd) {
                const int d = od * sd - pd + kd * dd;
                if (d < 0 || d >= D) continue;
                for (int kh = 0; kh < KH; ++kh) {
                    const int h = oh * sh - ph + kh * dh;
                    if (h < 0 || h >= H) continue;
                    const int line = (d * H + h) * W;
                    UNROLL for (int kw = 0; kw < KW; ++kw) {
                        const int first = j * SW - pw + kw * DW, from = FROM(kw), to = TO(kw) < OW - j ? TO(kw) : OW - j;
                        const Vec v = vec_load_every<SW>(plane + line + first, from, to);
                        const VecInt inside = (vec_index() >= from) & (vec_index() < to);
                        const VecInt better = inside & ((at < 0) | (v > best) | ((v != v) & (best == best)));   // a NaN wins and stays
                        best = better ? v : best;
                        at = better ? vec_index() * SW + (line + first) : at;
                    }
                }
            }
            vec_store(y + r * OW + j, best, OW - j);
            vec_store_int(arg + r * OW + j, at, OW - j);
        }
    }
}

KERNEL(mean_pool_forward)(const T* __restrict__ x, const T* __restrict__ count, T* __restrict__ y, long long planes, int D, int H,
                          int W, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw) {
    ROWS(r, planes * OD * OH, OW * KD * KH * KW) {
        const int oh = r % OH, od = r / OH % OD;
        const T* plane = x + r / OH / OD * D * H * W;
        VECTORS(j, OW, 1) {
            Vec sum = Vec{};
            for (int kd = 0; kd < KD; ++kd) {
                const int d = od * sd - pd + kd * dd;
                if (d < 0 || d >= D) continue;
                for (int kh = 0; kh < KH; ++kh) {
                    const int h = oh * sh - ph + kh * dh;
                    if (h < 0 || h >= H) continue;
                    const T* line = plane + ((long long)d * H + h) * W - pw + j * SW;
                    UNROLL for (int kw = 0; kw < KW; ++kw)
                        sum += vec_load_every<SW>(line + kw * DW, FROM(kw), TO(kw) < OW - j ? TO(kw) : OW - j);
                }
            }
            vec_store(y + r * OW + j, sum / vec_load(count + (od * OH + oh) * OW + j, OW - j), OW - j);
        }
    }
}

// The gradients: lane i of a row owns the SW pixels from i SW - pw on; tap kw of window o meets the one with the number
// kw DW % SW for o = i - kw DW / SW.
KERNEL(max_pool_backward)(const T* __restrict__ dy, const int* __restrict__ arg, T* __restrict__ dx, long long planes, int D,
                          int H, int W, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph,
                          int pw) {
    ROWS(r, planes * D * H, W * (KH / sh + 1)) {
        const int h = r % H, d = r / H % D;
        const long long windows = r / H / D * OD * OH * OW;
        VECTORS(i, (W - 1 + pw) / SW + 1, 1) {
            Vec sum[SW];
            UNROLL for (int f = 0; f < SW; ++f) sum[f] = Vec{};
            for (int kd = 0; kd < KD; ++kd) {
                const int ud = d + pd - kd * dd, od = ud / sd;
                if (ud < 0 || ud % sd || od >= OD) continue;
                for (int kh = 0; kh < KH; ++kh) {
                    const int uh = h + ph - kh * dh, oh = uh / sh;
                    if (uh < 0 || uh % sh || oh >= OH) continue;
                    const long long line = windows + ((long long)od * OH + oh) * OW;
                    UNROLL for (int kw = 0; kw < KW; ++kw) {
                        const int o = i - kw * DW / SW, f = kw * DW % SW;
                        const VecInt mine = vec_load_int(arg + line + o, -o, OW - o) == vec_index() * SW + ((d * H + h) * W + i * SW + f - pw);
                        const Vec given = vec_load(dy + line + o, -o, OW - o);
                        sum[f] += mine ? given : Vec{};
                    }
                }
            }
            vec_store_every<SW>(dx + r * W + i * SW - pw, sum, pw - i * SW, W + pw - i * SW);
        }
    }
}

KERNEL(mean_pool_backward)(const T* __restrict__ dy, const T* __restrict__ count, T* __restrict__ dx, long long planes, int D,
                           int H, int W, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph,
                           int pw) {
    ROWS(r, planes * D * H, W * (KH / sh + 1)) {
        const int h = r % H, d = r / H % D;
        const long long windows = r / H / D * OD * OH * OW;
        VECTORS(i, (W - 1 + pw) / SW + 1, 1) {
            Vec sum[SW];
            UNROLL for (int f = 0; f < SW; ++f) sum[f] = Vec{};
            for (int kd = 0; kd < KD; ++kd) {
                const int ud = d + pd - kd * dd, od = ud / sd;
                if (ud < 0 || ud % sd || od >= OD) continue;
                for (int kh = 0; kh < KH; ++kh) {
                    const int uh = h + ph - kh * dh, oh = uh / sh;
                    if (uh < 0 || uh % sh || oh >= OH) continue;
                    const long long line = ((long long)od * OH + oh) * OW;
                    UNROLL for (int kw = 0; kw < KW; ++kw) {
                        const int o = i - kw * DW / SW;
                        const VecInt inside = (vec_index() >= -o) & (vec_index() < OW - o);
                        const Vec n = vec_load(count + line + o, -o, OW - o);
                        sum[kw * DW % SW] += vec_load(dy + windows + line + o, -o, OW - o) / (inside ? n : Vec{} + 1);
                    }
                }
            }
            vec_store_every<SW>(dx + r * W + i * SW - pw, sum, pw - i * SW, W + pw - i * SW);
        }
    }
}
