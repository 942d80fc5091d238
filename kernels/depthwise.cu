// depthwise.cu -- convolution with as many groups as input channels, and its gradients (minitorch_flux/ops/depthwise.py).
//
//   y[n,o,p]  = sum over k of  w[o,k] x[n,o/M, p s - pad + k d]                     p, k, s, d: (depth, height, width)
//   dx[n,c,i] = sum over m and all k, p with p s - pad + k d = i  of  w[c M + m,k] dy[n,c M + m,p]
//   dw[o,k]   = sum over n, p of  dy[n,o,p] x[n,o/M, p s - pad + k d]
//
// x is [N, C, D, H, W], y and dy [N, C*M, OD, OH, OW], w [C*M, KD, KH, KW]. A lane is a pixel of a line and keeps a block of
// lines in registers: what it loads of a line serves every line that the kernel reaches. Nothing is padded in memory.
//
//   depthwise_forward   y (=); a row is `count` planes, or `lines` lines of one
//   depthwise_data      dx (=); rows as for y
//   depthwise_filter    part [parts, C*M, KD, KH, KW] (=), the sums over `images` images each; the caller adds them up, so
//                       that no sum depends on the number of threads; a row is a slice of one filter
//
// Constants of a build: KH KW taps, their stride SH SW and dilation DH DW, and EH EW, the padding's remainder by the stride.
#include "vectors.h"
// constants: KH=3 KW=3 SH=1 SW=1 DH=1 DW=1 EH=0 EW=0
// constants: KH=3 KW=3 SH=2 SW=2 DH=1 DW=1 EH=1 EW=1
// constants: KH=5 KW=5 SH=1 SW=1 DH=1 DW=1 EH=0 EW=0
// constants: KH=2 KW=3 SH=3 SW=2 DH=2 DW=3 EH=2 EW=0
// constants: KH=1 KW=7 SH=1 SW=4 DH=1 DW=1 EH=0 EW=3
// constants: KH=8 KW=8 SH=4 SW=4 DH=2 DW=1 EH=1 EW=2

#ifdef KH
#define MOD(a, b)   (((a) % (b) + (b)) % (b))
#define FLOOR(a, b) (((a) - MOD(a, b)) / (b))
#define BLOCK       (KH == 1 ? 1 : 4)                                   // lines of y side by side,
#define SEEN        ((BLOCK - 1) * SH + (KH - 1) * DH + 1)              // lines of x that they see,
#define AHEAD       ((KW - 1) * DW / SW + 1)                            // and pixels of x, by SW, that a lane sees
#define STEP        (KH == 1 ? 1 : SH < 4 ? 4 / SH : 1)                 // STEP * SH lines of dx side by side: they see the
#define FIRST_H     FLOOR(EH - (KH - 1) * DH, SH)                       // lines of dy FIRST_H..LAST_H from their own,
#define LAST_H      ((STEP * SH - 1 + EH) / SH)
#define FIRST_W     FLOOR(EW - (KW - 1) * DW, SW)                       // and a lane the pixels FIRST_W..LAST_W
#define LAST_W      ((SW - 1 + EW) / SW)
#define GROUP       VEC_SPLIT(KH, KW)                                   // lines of a filter whose sums are in registers,
#define BESIDE      (KH == 1 ? 1 : GROUP * KW <= VEC_FREE / 2 ? 4 : GROUP * KW < VEC_FREE ? 2 : 1)     // with lines of dy
#endif

KERNEL(depthwise_forward)(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, long long planes, int O, int M, int D,
                          int H, int W, int OD, int OH, int OW, int KD, int sd, int dd, int pd, int ph, int pw, int lines, int count) {
    const int tiles = (OH + lines - 1) / lines, taps = KD * KH * KW;
    ROWS(r, (planes + count - 1) / count * tiles, (long long)count * OD * lines * OW * taps / 16 + 1) {
        const int tile = r % tiles, first = tile * lines, last = first + lines < OH ? first + lines : OH;
        const long long begin = r / tiles * count, end = begin + count < planes ? begin + count : planes;
        long long c = begin / M;
        int o = begin % O, m = begin % M;
        for (long long plane = begin; plane < end; ++plane) {
            const T* x0 = x + c * D * H * W - pw;
            const T* w0 = w + (long long)o * taps;
            if (++o == O) o = 0;
            if (++m == M) ++c, m = 0;
            for (int od = 0; od < OD; ++od) {
                T* y0 = y + (plane * OD + od) * OH * OW;
                VECTORS(j, OW, 1) {
                    VecPart<SW> part[AHEAD];
                    if (j * SW >= pw && (j + VL + AHEAD - 1) * SW <= W + pw)
                        UNROLL for (int q = 0; q < AHEAD; ++q) part[q] = VecPart<SW>(0, SW * VL);
                    else
                        UNROLL for (int q = 0; q < AHEAD; ++q) part[q] = VecPart<SW>(pw - (j + q) * SW, W + pw - (j + q) * SW);
                    const VecPart<1> mine(0, OW - j);
                    for (int oh = first; oh < last; oh += BLOCK) {
                        const int h0 = oh * SH - ph;
                        Vec a[BLOCK][1];
                        UNROLL for (int b = 0; b < BLOCK; ++b) a[b][0] = Vec{};
                        for (int kd = 0; kd < KD; ++kd) {
                            const int d = od * sd - pd + kd * dd;
                            if (d < 0 || d >= D) continue;
                            const T* line = x0 + ((long long)d * H + h0) * W + j * SW;
                            const T* k = w0 + kd * KH * KW;
                            UNROLL for (int t = 0; t < SEEN; ++t, line += W)
                                if (h0 + t >= 0 && h0 + t < H)
                                    UNROLL for (int q = 0; q < AHEAD; ++q) {
                                        Vec pixels[SW];
                                        vec_load(line + q * SW, part[q], pixels);
                                        UNROLL for (int b = 0; b < BLOCK; ++b) {
                                            const int reach = t - b * SH;       // kh DH, if there is such a kh
                                            if (reach >= 0 && reach % DH == 0 && reach / DH < KH)
                                                UNROLL for (int kw = 0; kw < KW; ++kw)
                                                    if (kw * DW / SW == q) a[b][0] += pixels[kw * DW % SW] * ACC(k[reach / DH * KW + kw]);
                                        }
                                    }
                        }
                        UNROLL for (int b = 0; b < BLOCK; ++b)
                            if (oh + b < last) vec_store(y0 + (long long)(oh + b) * OW + j, a[b], mine);
                    }
                }
            }
        }
    }
}

// A lane owns SW pixels of a line of dx; tap kw brings to one of them what the lane's own output pixel, or one before, has.
KERNEL(depthwise_data)(const T* __restrict__ dy, const T* __restrict__ w, T* __restrict__ dx, long long planes, int C, int M, int D,
                       int H, int W, int OD, int OH, int OW, int KD, int sd, int dd, int pd, int ph, int pw, int lines, int count) {
    const int tiles = (H + lines - 1) / lines, taps = KD * KH * KW;
    const long long size = (long long)OD * OH * OW;
    ROWS(r, (planes + count - 1) / count * tiles, (long long)count * D * lines * W * M * taps / (sd * SH * SW) / 16 + 1) {
        const int tile = r % tiles, first = tile * lines, last = first + lines < H ? first + lines : H;
        const long long begin = r / tiles * count, end = begin + count < planes ? begin + count : planes;
        int c = begin % C;
        for (long long plane = begin; plane < end; ++plane) {
            const T* w0 = w + (long long)c * M * taps;
            if (++c == C) c = 0;
            for (int d = 0; d < D; ++d) {
                T* dx0 = dx + (plane * D + d) * H * W;
                VECTORS(i, (W + SW - 1) / SW, 1) {
                    const int own = i + pw / SW;
                    VecPart<1> part[LAST_W - FIRST_W + 1];
                    if (own + FIRST_W >= 0 && own + LAST_W + VL <= OW)
                        UNROLL for (int q = FIRST_W; q <= LAST_W; ++q) part[q - FIRST_W] = VecPart<1>(0, VL);
                    else
                        UNROLL for (int q = FIRST_W; q <= LAST_W; ++q) part[q - FIRST_W] = VecPart<1>(-own - q, OW - own - q);
                    const VecPart<SW> mine(0, W - i * SW);
                    for (int h = first; h < last; h += STEP * SH) {
                        const int oh = (h + ph) / SH;
                        Vec a[STEP * SH][SW];
                        UNROLL for (int b = 0; b < STEP * SH; ++b) UNROLL for (int f = 0; f < SW; ++f) a[b][f] = Vec{};
                        for (int kd = 0; kd < KD; ++kd) {
                            const int ud = d + pd - kd * dd, od = ud / sd;
                            if (ud < 0 || ud % sd || od >= OD) continue;
                            for (int m = 0; m < M; ++m) {
                                const T* line = dy + (plane * M + m) * size + ((long long)od * OH + oh + FIRST_H) * OW + own;
                                const T* k = w0 + m * taps + kd * KH * KW;
                                UNROLL for (int t = FIRST_H; t <= LAST_H; ++t, line += OW)
                                    if (oh + t >= 0 && oh + t < OH)
                                        UNROLL for (int q = FIRST_W; q <= LAST_W; ++q) {
                                            Vec pixels[1];
                                            vec_load(line + q, part[q - FIRST_W], pixels);
                                            UNROLL for (int b = 0; b < STEP * SH; ++b) {
                                                const int reach = b + EH - t * SH;          // kh DH, if there is such a kh
                                                if (reach >= 0 && reach % DH == 0 && reach / DH < KH)
                                                    UNROLL for (int f = 0; f < SW; ++f) {
                                                        const int ahead = f + EW - q * SW;      // kw DW
                                                        if (ahead >= 0 && ahead % DW == 0 && ahead / DW < KW)
                                                            a[b][f] += pixels[0] * ACC(k[reach / DH * KW + ahead / DW]);
                                                    }
                                            }
                                        }
                            }
                        }
                        UNROLL for (int b = 0; b < STEP * SH; ++b)
                            if (h + b < last) vec_store(dx0 + (long long)(h + b) * W + i * SW, a[b], mine);
                    }
                }
            }
        }
    }
}

#ifdef KH
// What `count` lines of dy and the lines of x from h0 on add to the sums of a group.
template <int count>
DEVICE void filter_lines(const T* __restrict__ x, const T* __restrict__ dy, int H, int W, int OW, int h0, const VecPart<SW> (&seen)[AHEAD],
                         const VecPart<1>& mine, Vec (&a)[GROUP][KW]) {
    Vec u[count][1];
    UNROLL for (int b = 0; b < count; ++b) vec_load(dy + (long long)b * OW, mine, u[b]);
    const T* line = x + (long long)h0 * W;
    UNROLL for (int t = 0; t < (count - 1) * SH + (GROUP - 1) * DH + 1; ++t, line += W)
        if (h0 + t >= 0 && h0 + t < H)
            UNROLL for (int q = 0; q < AHEAD; ++q) {
                Vec pixels[SW];
                vec_load(line + q * SW, seen[q], pixels);
                UNROLL for (int b = 0; b < count; ++b) {
                    const int reach = t - b * SH;                   // kh DH, if there is such a kh
                    if (reach >= 0 && reach % DH == 0 && reach / DH < GROUP)
                        UNROLL for (int kw = 0; kw < KW; ++kw)
                            if (kw * DW / SW == q) a[reach / DH][kw] += pixels[kw * DW % SW] * u[b][0];
                }
            }
}
#endif

KERNEL(depthwise_filter)(const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ part, int N, int O, int M, int D, int H,
                         int W, int OD, int OH, int OW, int KD, int sd, int dd, int pd, int ph, int pw, int images) {
    const int parts = (N + images - 1) / images, slices = (KH + GROUP - 1) / GROUP;
    const long long size = (long long)OD * OH * OW;
    ROWS(r, (long long)parts * O * KD * slices, size * images * GROUP * KW / 16 + 1) {
        const int slice = r % slices, kd = r / slices % KD, o = r / slices / KD % O, kh0 = slice * GROUP;
        const int n0 = r / slices / KD / O * images, last = n0 + images < N ? n0 + images : N;
        Vec a[GROUP][KW];
        UNROLL for (int b = 0; b < GROUP; ++b) UNROLL for (int kw = 0; kw < KW; ++kw) a[b][kw] = Vec{};
        for (int od = 0; od < OD; ++od) {
            const int d = od * sd - pd + kd * dd;
            if (d < 0 || d >= D) continue;
            VECTORS(j, OW, 1) {
                const int n = OW - j, most = W + pw - j * SW;
                VecPart<SW> seen[AHEAD];
                if (j * SW >= pw && (VL + AHEAD - 1) * SW <= most && VL <= n)
                    UNROLL for (int q = 0; q < AHEAD; ++q) seen[q] = VecPart<SW>(0, SW * VL);
                else
                    UNROLL for (int q = 0; q < AHEAD; ++q)
                        seen[q] = VecPart<SW>(pw - (j + q) * SW, most - q * SW < n * SW ? most - q * SW : n * SW);
                const VecPart<1> mine(0, n);
                for (int i = n0; i < last; ++i) {
                    const T* x0 = x + (((long long)i * O + o) / M * D + d) * H * W + j * SW - pw;
                    const T* dy0 = dy + ((long long)i * O + o) * size + (long long)od * OH * OW + j;
                    int oh = 0;
                    for (; oh + BESIDE <= OH; oh += BESIDE)
                        filter_lines<BESIDE>(x0, dy0 + (long long)oh * OW, H, W, OW, oh * SH - ph + kh0 * DH, seen, mine, a);
                    for (; oh < OH; ++oh)
                        filter_lines<1>(x0, dy0 + (long long)oh * OW, H, W, OW, oh * SH - ph + kh0 * DH, seen, mine, a);
                }
            }
        }
        T* dw = part + ((n0 / images * (long long)O + o) * KD + kd) * KH * KW + kh0 * KW;
        UNROLL for (int b = 0; b < GROUP; ++b) UNROLL for (int kw = 0; kw < KW; ++kw) {
            const ACC sum = row_sum(vec_sum(a[b][kw]));
            if (kh0 + b < KH) ONE_LANE dw[b * KW + kw] = T(sum);
        }
    }
}
