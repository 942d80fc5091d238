// conv_tensor.cu -- convolutions as matrix products on tensor cores (minitorch_flux/ops/conv_tensor.py), for GPUs only.
//
// No columns are written: a tile of the product fetches the pixels that it needs (implicit GEMM).  What is taught with
// columns is in im2col.cu, what runs on every machine in convolution.cu.
//
//   conv_tensor_forward   y[n, g, o, p t + f] = sum over c, k of  w[g, o, (c, k)] x[n, g, c, p s + a + k d]    p: (od, oh, ow)
//   conv_tensor_filter    part[i, g, o, (c, k)] = sum over pixels of part i of  dy[n, g, o, p] x[n, g, c, p s + a + k d]
//
// x is [N, G*C, D, H, W]; outside it is zero.  forward: p goes over a grid of OD x OH x OW pixels of each image, which lie
// t = (td, th, tw) apart in y [N, G*O, YD, YH, YW], from f on; d may be negative, so that a data gradient is one such sum
// for each remainder of a pixel's place by the stride.  w is [G, OP, KP]: rows in the order (c, kd, kh, kw), filled up with
// zeros to whole tiles, OP % TM == 0 and KP % DEPTH == 0.  filter: dy is [N, G*O, OD, OH, OW], a part is `pixels` of the
// N*OD*OH*OW places.  Outputs are written (=); every sum is added up in float.
//
// table [KP or more, 2] says of every (c, k) how far its pixel lies from that of (0, 0), and its tap's number; of those that only
// fill up, the number is NO_TAP. A kernel has fewer than 64 taps.
//
// A row is a tile of TM x TN numbers of the product.  Each of the four warps computes TM x 32 of them; DEPTH numbers of the
// sum at a time lie in shared memory, those of the next step come from memory meanwhile.
#include "tensor.h"
// gpu: sm=80 block=128 T=float16,bfloat16,float32
#ifndef FLUX_CPU

#define TM     64
#define TN     128
#define DEPTH  (16 * PER_WORD)
#define PITCH  5                                 // Fours from row to row in shared memory: one is left out, rows_load then meets no bank twice
#define BLOCK  128

#define NO_TAP 63

struct Window { int D, H, W, KD, KH, KW, dd, dh, dw; };
struct alignas(8) Source { int offset, tap; };

// Where the windows of a pixel lie: bit k says whether tap k is inside the image; `from` is where tap 0 is, if it were.
struct Corner {
    u64 inside;
    long long from;
    DEVICE_MEMBER bool has(Source s) const { return inside >> s.tap & 1; }
};
DEVICE u32 inside(int first, int step, int taps, int size) {
    u32 mask = 0;
    for (int k = 0; k < taps; ++k, first += step) mask |= (u32)(first >= 0 && first < size) << k;
    return mask;
}
DEVICE Corner corner_of(Window s, int d, int h, int w, long long image) {
    const u32 planes = inside(d, s.dd, s.KD, s.D), lines = inside(h, s.dh, s.KH, s.H), places = inside(w, s.dw, s.KW, s.W);
    u64 mask = 0;
    for (int k = s.KD * s.KH - 1; k >= 0; --k)
        mask = mask << s.KW | (planes >> k / s.KH & lines >> k % s.KH & 1 ? places : 0);
    return {mask, image + ((long long)d * s.H + h) * s.W + w};
}

// One step of DEPTH numbers: the warp's TM x 32 part of a (TM rows) times b (32 rows of it), both in shared memory.
DEVICE void multiply_tiles(float (&sums)[4][4][4], const Four* a, const Four* b, int lane) {
    UNROLL for (int k = 0; k < 2; ++k) {
        Word left[4][4], right[2][4];
        UNROLL for (int m = 0; m < 4; ++m) rows_load(left[m], a + (m * 16 + lane % 16) * PITCH + k * 2 + lane / 16);
        UNROLL for (int n = 0; n < 2; ++n) rows_load(right[n], b + (n * 16 + lane / 16 * 8 + lane % 8) * PITCH + k * 2 + lane / 8 % 2);
        UNROLL for (int m = 0; m < 4; ++m)
            UNROLL for (int n = 0; n < 4; ++n) multiply(sums[m][n], left[m], right[n / 2][n % 2 * 2], right[n / 2][n % 2 * 2 + 1]);
    }
}

KERNEL(conv_tensor_forward)(const T* __restrict__ x, const T* __restrict__ w, T* __restrict__ y, int N, int G, int C, int D, int H,
                            int W, int O, int OD, int OH, int OW, int KD, int KH, int KW, int sd, int sh, int sw, int ad, int ah,
                            int aw, int dd, int dh, int dw, const int* __restrict__ table, int YD, int YH, int YW, int td, int th, int tw, int fd, int fh, int fw,
                            int OP, int KP) {
    const Window s = {D, H, W, KD, KH, KW, dd, dh, dw};
    const long long grid = (long long)OD * OH * OW, pixels = N * grid;
    const int high = OP / TM, steps = KP / DEPTH, t = threadIdx.x, lane = t % 32, warp = t / 32;
    const long long wide = (pixels + TN - 1) / TN, volume = (long long)YD * YH * YW;
    SHARED(Four, left, 2 * TM * PITCH);
    SHARED(Four, right, 2 * TN * PITCH);
    SHARED(long long, places, TN);
    ROWS(r, G * wide * high, 512) {
        const int m0 = (int)(r % high) * TM, g = (int)(r / high / wide);
        const long long q = r / high % wide * TN + t, p = q % grid, n = q / grid;     // this thread's pixel
        const int od = (int)(p / OW / OH), oh = (int)(p / OW % OH), ow = (int)(p % OW);
        Corner at = corner_of(s, od * sd + ad, oh * sh + ah, ow * sw + aw, (n * G + g) * C * D * H * W);
        if (q >= pixels) at.inside = 0;
        const Raw* here = kept((const Raw*)x + at.from);
        ROW_SYNC();                              // the row before is done with `places`
        places[t] = q < pixels ? (n * G + g) * O * volume + ((long long)(od * td + fd) * YH + oh * th + fh) * YW + ow * tw + fw : -1;

        float sums[4][4][4];
        UNROLL for (int m = 0; m < 4; ++m) UNROLL for (int i = 0; i < 4; ++i) UNROLL for (int e = 0; e < 4; ++e) sums[m][i][e] = 0;
        const Four* filters = (const Four*)(w + ((long long)g * OP + m0 + t / 2) * KP) + t % 2 * 2;
        Four next_left[2];
        Raw next_right[DEPTH];
        for (int step = 0; step <= steps; ++step) {
            if (step < steps) {                  // from memory to registers; they arrive while the last step is multiplied
                UNROLL for (int i = 0; i < 2; ++i) next_left[i] = filters[step * 4 + i];
                UNROLL for (int i = 0; i < DEPTH; ++i) {
                    const Source from = ((const Source*)table)[step * DEPTH + i];
                    next_right[i] = Raw(0);
                    if (at.has(from)) next_right[i] = here[from.offset];
                }
            }
            if (step) multiply_tiles(sums, left + (step - 1) % 2 * TM * PITCH, right + ((step - 1) % 2 * TN + warp * 32) * PITCH, lane);
            if (step < steps) {
                UNROLL for (int i = 0; i < 2; ++i) left[(step % 2 * TM + t / 2) * PITCH + t % 2 * 2 + i] = four_of(next_left[i]);
                UNROLL for (int i = 0; i < 4; ++i) right[(step % 2 * TN + t) * PITCH + i] = four_of(next_right + i * 4 * PER_WORD);
            }
            ROW_SYNC();
        }
        UNROLL for (int i = 0; i < 4; ++i)
            UNROLL for (int e = 0; e < 2; ++e) {
                const long long place = places[warp * 32 + i * 8 + lane % 4 * 2 + e];
                if (place < 0) continue;
                UNROLL for (int m = 0; m < 4; ++m)
                    UNROLL for (int half = 0; half < 2; ++half) {
                        const int o = m0 + m * 16 + half * 8 + lane / 4;
                        if (o < O) y[place + o * volume] = T(sums[m][i][half * 2 + e]);
                    }
            }
    }
}

// Here the lanes of a warp go along the pixels, of which a step adds up DEPTH: with one float in a word, two rows at a time.
KERNEL(conv_tensor_filter)(const T* __restrict__ x, const T* __restrict__ dy, float* __restrict__ part, int N, int G, int C, int D,
                           int H, int W, int O, int OD, int OH, int OW, int KD, int KH, int KW, int sd, int sh, int sw, int ad,
                           int ah, int aw, int dd, int dh, int dw, const int* __restrict__ table, int parts, long long pixels) {
    const Window s = {D, H, W, KD, KH, KW, dd, dh, dw};
    const long long grid = (long long)OD * OH * OW, all = N * grid;
    const int width = C * KD * KH * KW, t = threadIdx.x, lane = t % 32, warp = t / 32, row = lane / DEPTH;
    constexpr int BESIDE = 32 / DEPTH;           // rows that a warp reads at a time
    const int high = (O + TM - 1) / TM, wide = (width + TN - 1) / TN;
    SHARED(Four, left, 2 * TM * PITCH);
    SHARED(Four, right, 2 * TN * PITCH);
    SHARED(Source, sources, TN);
    ROWS(r, (long long)parts * G * wide * high, 512) {
        const int m0 = (int)(r % high) * TM, n0 = (int)(r / high % wide) * TN, g = (int)(r / high / wide % G);
        const long long i = r / high / wide / G, first = i * pixels, last = first + pixels < all ? first + pixels : all;
        const int steps = (int)((last - first + DEPTH - 1) / DEPTH);
        ROW_SYNC();                              // the row before is done with the tiles
        sources[t] = n0 + t < width ? ((const Source*)table)[n0 + t] : Source{0, NO_TAP};
        ROW_SYNC();
        float sums[4][4][4];
        UNROLL for (int m = 0; m < 4; ++m) UNROLL for (int j = 0; j < 4; ++j) UNROLL for (int e = 0; e < 4; ++e) sums[m][j][e] = 0;
        Raw next_left[TM / 4 / BESIDE], next_right[32 / BESIDE];
        for (int step = 0; step <= steps; ++step) {
            if (step < steps) {
                const long long q = first + (long long)step * DEPTH + lane % DEPTH, p = q % grid, n = q / grid;
                const int od = (int)(p / OW / OH), oh = (int)(p / OW % OH), ow = (int)(p % OW);
                Corner at = corner_of(s, od * sd + ad, oh * sh + ah, ow * sw + aw, (n * G + g) * C * D * H * W);
                if (q >= last) at.inside = 0;
                const Raw *here = kept((const Raw*)x + at.from), *there = (const Raw*)dy + (n * G + g) * O * grid + p;
                UNROLL for (int j = 0; j < TM / 4 / BESIDE; ++j) {
                    const int o = m0 + warp * (TM / 4) + j * BESIDE + row;
                    next_left[j] = Raw(0);
                    if (o < O && q < last) next_left[j] = there[o * grid];
                }
                UNROLL for (int j = 0; j < 32 / BESIDE; ++j) {
                    const Source from = sources[warp * 32 + j * BESIDE + row];
                    next_right[j] = Raw(0);
                    if (at.has(from)) next_right[j] = here[from.offset];
                }
            }
            if (step) multiply_tiles(sums, left + (step - 1) % 2 * TM * PITCH, right + ((step - 1) % 2 * TN + warp * 32) * PITCH, lane);
            if (step < steps) {
                UNROLL for (int j = 0; j < TM / 4 / BESIDE; ++j)
                    number_store(left + (step % 2 * TM + warp * (TM / 4) + j * BESIDE + row) * PITCH, lane % DEPTH, next_left[j]);
                UNROLL for (int j = 0; j < 32 / BESIDE; ++j)
                    number_store(right + (step % 2 * TN + warp * 32 + j * BESIDE + row) * PITCH, lane % DEPTH, next_right[j]);
            }
            ROW_SYNC();
        }
        UNROLL for (int j = 0; j < 4; ++j)
            UNROLL for (int e = 0; e < 2; ++e) {
                const int column = n0 + warp * 32 + j * 8 + lane % 4 * 2 + e;
                if (column >= width) continue;
                UNROLL for (int m = 0; m < 4; ++m)
                    UNROLL for (int half = 0; half < 2; ++half) {
                        const int o = m0 + m * 16 + half * 8 + lane / 4;
                        if (o < O) part[((i * G + g) * O + o) * width + column] = sums[m][j][half * 2 + e];
                    }
            }
    }
}
#endif
