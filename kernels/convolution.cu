// convolution.cu -- direct convolution and its filter gradient (minitorch_flux/ops/convolution.py).
//
//   y[n,g,o,p] = sum over c, k of  w[g,o,c,k] x[n,g,c, p s - pad + k d]      p, k, s, d: (depth, height, width)
//   dw[g,o,c,k] = sum over n, p of  dy[n,g,o,p] x[n,g,c, p s - pad + k d]
//
// The lanes of a row are output pixels of one line; every lane keeps OB channels in registers. All taps of a line are
// then neighbours in memory, provided that the lines of x come as `conv_lines` (im2col.cu) leaves them: padded, and
// for a stride of SW along the width split into SW phases, so that x is [N, G*C, D, H, SW, P].
//
// Constants of a build: KW taps along the width, SW and DW their stride and dilation, OB output channels of a row.
// Depth and height are not padded in memory: lines outside count as zeros and are left out.
//
//   conv_forward   w [G, blocks, C, KD, KH, KW, OB] with blocks*OB >= O, y [N, G*O, OD, OH, OW] (=)
//   conv_data      the adjoint for any stride, dx[n,g,c,i] = sum over o, k, p with p s - pad + k d = i of w[g,o,c,k] dy[n,g,o,p];
//                  dy like y, w [G*O, C, KD, KH, KW], dx [N, G*C, D, H, W] (=); OB input channels of a row
//   conv_filter    dy like y; part [parts, G*O, C, KD, KH, KW] (=), the sums over `images` images each; the caller
//                  adds the parts up, so that no sum depends on the number of threads
//
// A row of conv_forward is `lines` lines of the output, at most PART pixels long, of OB channels; a row of conv_filter
// one line of taps of OB filters.
#include "vectors.h"
// constants: KW=3 OB=8 SW=1 DW=1
// constants: KW=5 OB=3 SW=1 DW=1
// constants: KW=3 OB=8 SW=2 DW=1
// constants: KW=2 OB=1 SW=3 DW=2
#ifdef KW
#define PAIR (VL > 1 ? 2 : 1)              // registers of pixels on the CPU
#define PART 512
#define TAP(kw) ((kw) * DW % SW * (long long)P + (kw) * DW / SW)    // where tap kw of pixel 0 lies in a line

struct Plane { int C, D, H, P, KD, KH, dd, dh; };

// y[o][0..n) for channels first..first+count-1 of OB and n pixels of one line; whole: n fills all registers.
// x and w: channel 0.
template <int registers, bool whole, int first, int count>
DEVICE void conv_channels(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, Plane s, int d0, int h0, int channels,
                          long long size, int n) {
    Vec a[count][registers];
    UNROLL for (int o = 0; o < count; ++o) UNROLL for (int i = 0; i < registers; ++i) a[o][i] = Vec{};
    const int P = s.P;
    const long long taps = (long long)s.KD * s.KH * KW;
    for (int c = 0; c < s.C; ++c) {
        for (int kd = 0; kd < s.KD; ++kd) {
            const int d = d0 + kd * s.dd;
            if (d < 0 || d >= s.D) continue;
            for (int kh = 0; kh < s.KH; ++kh) {
                const int h = h0 + kh * s.dh;
                if (h < 0 || h >= s.H) continue;
                const T* line = x + (((long long)c * s.D + d) * s.H + h) * (SW * (long long)P);
                const T* v = w + (c * taps + (kd * s.KH + kh) * KW) * OB + first;
                UNROLL for (int kw = 0; kw < KW; ++kw) {
                    Vec pixels[registers];
                    UNROLL for (int i = 0; i < registers; ++i) {
                        const T* p = line + TAP(kw) + i * VL;
                        pixels[i] = whole ? vec_load(p) : vec_load(p, n - i * VL);
                    }
                    UNROLL for (int o = 0; o < count; ++o) {
                        const ACC weight = ACC(v[kw * OB + o]);
                        UNROLL for (int i = 0; i < registers; ++i) a[o][i] += pixels[i] * weight;
                    }
                }
            }
        }
    }
    UNROLL for (int o = 0; o < count; ++o) if (first + o < channels)
        UNROLL for (int i = 0; i < registers; ++i) vec_store(y + (first + o) * size + i * VL, a[o][i], n - i * VL);
}

// All OB channels, as many at a time as there are registers for.
template <int registers, bool whole, int first = 0>
DEVICE void conv_pixels(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, Plane s, int d0, int h0, int channels,
                        long long size, int n) {
    constexpr int most = VEC_SPLIT(OB, registers), count = most < OB - first ? most : OB - first;
    conv_channels<registers, whole, first, count>(x, w, y, s, d0, h0, channels, size, n);
    if constexpr (first + count < OB) conv_pixels<registers, whole, first + count>(x, w, y, s, d0, h0, channels, size, n);
}
#endif

KERNEL(conv_forward)(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, int N, int G, int C, int D, int H,
                     int P, int O, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph,
                     int lines) {
    const int blocks = (O + OB - 1) / OB, parts = (OW + PART - 1) / PART;
    const long long size = (long long)OD * OH * OW, volume = (long long)C * D * H * SW * P, filters = (long long)OB * C * KD * KH * KW;
    const Plane s = {C, D, H, P, KD, KH, dd, dh};
    const int tiles = (OH + lines - 1) / lines;
    ROWS(r, (long long)N * G * blocks * OD * tiles * parts, filters * OW * lines / parts / 16 + 1) {
        const int part = r % parts, tile = r / parts % tiles;
        const long long plane = r / parts / tiles, block = plane / OD, ng = block / blocks;
        const int od = plane % OD, o = block % blocks * OB, first = part * PART, n = OW - first < PART ? OW - first : PART;
        const int last = (tile + 1) * lines < OH ? (tile + 1) * lines : OH;
        const T* x0 = x + ng * volume + first;
        const T* w0 = w + (ng % G * blocks + block % blocks) * filters;
        T* y0 = y + (ng * O + o) * size + (long long)od * OH * OW + first;
        for (int oh = tile * lines; oh < last; ++oh)
            VECTORS(j, n, PAIR) {
                const int d0 = od * sd - pd, h0 = oh * sh - ph, left = n - j;
                T* to = y0 + (long long)oh * OW + j;
                if (left >= PAIR * VL) conv_pixels<PAIR, true>(x0 + j, w0, to, s, d0, h0, O - o, size, PAIR * VL);
                else if (left > VL) conv_pixels<PAIR, false>(x0 + j, w0, to, s, d0, h0, O - o, size, left);
                else conv_pixels<1, false>(x0 + j, w0, to, s, d0, h0, O - o, size, left);
            }
    }
}

// A lane owns the SW pixels of a line from i SW - pw on; tap kw of output pixel o meets the one with the number kw DW % SW
// for o = i - kw DW / SW.
KERNEL(conv_data)(const T* __restrict__ dy, const T* __restrict__ w, T* __restrict__ dx, int N, int G, int C, int D, int H,
                  int W, int O, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw,
                  int lines) {
    const int blocks = (C + OB - 1) / OB, tiles = (H + lines - 1) / lines;
    constexpr int SPLIT = VEC_SPLIT(OB, SW);
    const long long size = (long long)OD * OH * OW, taps = (long long)KD * KH * KW;
    ROWS(r, (long long)N * G * blocks * D * tiles, (long long)lines * W * OB * O * taps / (sd * sh * SW) / 16 + 1) {
        const int tile = r % tiles, d = r / tiles % D, last = (tile + 1) * lines < H ? (tile + 1) * lines : H;
        const long long block = r / tiles / D, ng = block / blocks;
        const int c0 = block % blocks * OB, channels = C - c0 < OB ? C - c0 : OB;
        const T* w0 = w + (ng % G * O * C + c0) * taps;
        for (int h = tile * lines; h < last; ++h)
            for (int b = 0; b < channels; b += SPLIT)
                VECTORS(i, (W - 1 + pw) / SW + 1, 1) {
                    Vec a[SPLIT][SW];
                    UNROLL for (int c = 0; c < SPLIT; ++c) UNROLL for (int f = 0; f < SW; ++f) a[c][f] = Vec{};
                    for (int kd = 0; kd < KD; ++kd) {
                        const int ud = d + pd - kd * dd, od = ud / sd;
                        if (ud < 0 || ud % sd || od >= OD) continue;
                        for (int kh = 0; kh < KH; ++kh) {
                            const int uh = h + ph - kh * dh, oh = uh / sh;
                            if (uh < 0 || uh % sh || oh >= OH) continue;
                            const T* line = dy + ng * O * size + ((long long)od * OH + oh) * OW;
                            const T* v = w0 + (kd * KH + kh) * KW;
                            for (int o = 0; o < O; ++o, line += size, v += C * taps)
                                UNROLL for (int kw = 0; kw < KW; ++kw) {
                                    const int q = i - kw * DW / SW;
                                    const Vec pixels = vec_load(line + q, -q, OW - q);
                                    UNROLL for (int c = 0; c < SPLIT; ++c)
                                        a[c][kw * DW % SW] += pixels * ACC(v[(b + c < channels ? b + c : 0) * taps + kw]);
                                }
                        }
                    }
                    T* to = dx + ((ng * C + c0 + b) * D + d) * H * W + (long long)h * W + i * SW - pw;
                    UNROLL for (int c = 0; c < SPLIT; ++c) if (b + c < channels)
                        vec_store_every<SW>(to + (long long)c * D * H * W, a[c], pw - i * SW, W + pw - i * SW);
                }
    }
}

KERNEL(conv_filter)(const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ part, int N, int G, int C, int D, int H,
                    int P, int O, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph,
                    int images) {
    const int blocks = (O + OB - 1) / OB, parts = (N + images - 1) / images;
    constexpr int SPLIT = VEC_SPLIT(OB, KW);
    const long long size = (long long)OD * OH * OW, pitch = SW * (long long)P;
    ROWS(r, (long long)parts * G * blocks * C * KD * KH, size * images * OB * KW / 16 + 1) {
        const int kh = r % KH, kd = r / KH % KD, c = r / KH / KD % C;
        const long long block = r / KH / KD / C, g = block / blocks % G, n0 = block / blocks / G * images;
        const int o = block % blocks * OB, channels = O - o < OB ? O - o : OB;
        const int last = n0 + images < N ? n0 + images : N;
        T* dw = part + ((((n0 / images * G + g) * O + o) * C + c) * KD + kd) * KH * KW + kh * KW;
        for (int b = 0; b < channels; b += SPLIT) {
            Vec a[SPLIT][KW];
            UNROLL for (int i = 0; i < SPLIT; ++i) UNROLL for (int kw = 0; kw < KW; ++kw) a[i][kw] = Vec{};
            for (int n = n0; n < last; ++n)
                for (int od = 0; od < OD; ++od) {
                    const int d = od * sd - pd + kd * dd;
                    if (d < 0 || d >= D) continue;
                    const T* plane = x + (((n * (long long)G + g) * C + c) * D + d) * H * pitch;
                    const T* dy0 = dy + ((n * (long long)G + g) * O + o) * size + (long long)od * OH * OW;
                    for (int oh = 0; oh < OH; ++oh) {
                        const int h = oh * sh - ph + kh * dh;
                        if (h < 0 || h >= H) continue;
                        const T *line = plane + h * pitch, *dy1 = dy0 + (long long)oh * OW;
                        VECTORS(j, OW, 1) {
                            Vec v[KW];
                            UNROLL for (int kw = 0; kw < KW; ++kw) v[kw] = vec_load(line + TAP(kw) + j, OW - j);
                            UNROLL for (int i = 0; i < SPLIT; ++i) {
                                const Vec u = vec_load(dy1 + (b + i < channels ? b + i : 0) * size + j, OW - j);
                                UNROLL for (int kw = 0; kw < KW; ++kw) a[i][kw] += v[kw] * u;
                            }
                        }
                    }
                }
            UNROLL for (int i = 0; i < SPLIT; ++i) if (b + i < channels)
                UNROLL for (int kw = 0; kw < KW; ++kw) {
                    const ACC sum = row_sum(vec_sum(a[i][kw]));
                    ONE_LANE dw[(b + i) * (long long)C * KD * KH * KW + kw] = T(sum);
                }
        }
    }
}
