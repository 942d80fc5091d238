// blocked_convolution.cu -- direct convolution with channels in the lanes (minitorch_flux/ops/blocked_convolution.py).
//
//   blocked_weights   u[g,b,k,i,o] = w of input i, output o of block b and tap k, zero beyond the last output      (=)
//   blocked_forward   y[n,g,o,p] = sum over c, k of  w[g,o,c,k] x[n,g,c, p s - pad + k d]      (=)
//   blocked_data      dx[n,g,c,i] = sum over o and all k, p with p s - pad + k d = i  of  w[g,o,c,k] dy[n,g,o,p]      (=)
//   blocked_filter    part[q,g,b,k,c,o] = sum over the n, p of part q of  dy[n,g,o,p] x[n,g,c, p s - pad + k d]      (=)
//   blocked_filter_backward   dw[g,o,c,k] = sum over q of part      (=)
//
// p, k, s, d: (height, width); x is [N, G, C, H, W], y and dy [N, G, O, OH, OW]. convolution.cu has output pixels in the lanes;
// here BLOCK outputs are in them, of up to TOGETHER pixels, which is as fast for short lines as for long ones.
//
// A row is one of `parts` shares of the strips and one of `split` shares of the blocks of outputs, and has `room` numbers of
// `space` to itself. A strip is a rectangle of `lines` x `across` pixels of `images` images (of more than one only where it is
// all of them). The pixels that it sees are turned to [pixel, channel] first; they stay in the cache for all outputs.
#include "pixels.h"

// Where pixel q of a strip lies: `size` pixels of an image after the other, in lines of `across`.
struct Grid {
    int size, across;
    long long image, line, pixel;
    DEVICE_MEMBER long long at(int q) const {
        const int left = q % size;
        return q / size * image + left / across * line + left % across * pixel;
    }
};

// Where the taps of a kernel meet the pixels along an axis: tap k is (origin + k * step) / by lines or pixels on, if that is
// a whole number.
struct Taps {
    int count, origin, step, by;
    long long distance;
    DEVICE_MEMBER bool has(int k) const { return (origin + k * step) % by == 0; }
    DEVICE_MEMBER long long at(int k) const { return (origin + k * step) / by * distance; }
};

// -- products ------------------------------------------------------------------------------------------------------------

// m[q,o] = sum over taps k and channels c of  a[q at k, c] u[k,c,o]  for pixels q = first..first+count-1 and the lanes' o.
template <int count, int registers>
DEVICE void taps_of(const T* __restrict__ a, Grid from, int first, Taps down, Taps across, const T* __restrict__ u, int C,
                    T* __restrict__ m, Grid to) {
    const T* pixel[count];
    Vec sum[count][registers];
    UNROLL for (int i = 0; i < count; ++i) {
        pixel[i] = a + from.at(first + i);
        UNROLL for (int r = 0; r < registers; ++r) sum[i][r] = Vec{};
    }
    for (int kh = 0; kh < down.count; ++kh) {
        if (!down.has(kh)) continue;
        for (int kw = 0; kw < across.count; ++kw) {
            if (!across.has(kw)) continue;
            const long long shift = down.at(kh) + across.at(kw);
            const T* b = u + ((long long)kh * across.count + kw) * C * BLOCK;
            for (int c = 0; c < C; ++c, b += BLOCK) {
                Vec right[registers];
                UNROLL for (int r = 0; r < registers; ++r) right[r] = vec_load(b + r * VL, VL);
                UNROLL for (int i = 0; i < count; ++i) {
                    const ACC left = ACC(pixel[i][shift + c]);
                    UNROLL for (int r = 0; r < registers; ++r) sum[i][r] += right[r] * left;
                }
            }
        }
    }
    UNROLL for (int i = 0; i < count; ++i)
        UNROLL for (int r = 0; r < registers; ++r) vec_store(m + to.at(first + i) + r * VL, sum[i][r], VL);
}

template <int registers, int count = TOGETHER>
DEVICE void choose_taps(int i, const T* a, Grid from, int first, Taps down, Taps across, const T* u, int C, T* m, Grid to) {
    if (i == count) taps_of<count, registers>(a, from, first, down, across, u, C, m, to);
    else if constexpr (count > 1) choose_taps<registers, count - 1>(i, a, from, first, down, across, u, C, m, to);
}

// All pixels of a strip, in blocks as equal as can be.
template <int registers>
DEVICE void all_taps(int count, const T* a, Grid from, Taps down, Taps across, const T* u, int C, T* m, Grid to) {
    const int blocks = (count + TOGETHER - 1) / TOGETHER;
    for (int k = 0, i = 0; k < blocks; ++k) {
        const int end = (int)((k + 1LL) * count / blocks);
        choose_taps<registers>(end - i, a, from, i, down, across, u, C, m, to);
        i = end;
    }
}

// dw[c,o] = sum over all pixels q of  a[q,c] b[q,o]  for `count` channels and the lanes' o, with what there was where `adds`.
template <int count, int registers>
DEVICE void pixels_of(const T* __restrict__ a, Grid from, int pixels, const T* __restrict__ b, long long columns,
                      T* __restrict__ dw, bool adds) {
    Vec sum[count][registers];
    UNROLL for (int i = 0; i < count; ++i)
        UNROLL for (int r = 0; r < registers; ++r) sum[i][r] = adds ? vec_load(dw + (long long)i * BLOCK + r * VL, VL) : Vec{};
    for (int q = 0; q < pixels; q += from.across) {
        const T* left = a + from.at(q);
        for (int w = 0; w < from.across; ++w, left += from.pixel, b += columns) {
            Vec right[registers];
            UNROLL for (int r = 0; r < registers; ++r) right[r] = vec_load(b + r * VL, VL);
            UNROLL for (int i = 0; i < count; ++i) {
                const ACC x = ACC(left[i]);
                UNROLL for (int r = 0; r < registers; ++r) sum[i][r] += right[r] * x;
            }
        }
    }
    UNROLL for (int i = 0; i < count; ++i)
        UNROLL for (int r = 0; r < registers; ++r) vec_store(dw + (long long)i * BLOCK + r * VL, sum[i][r], VL);
}

template <int registers, int count = TOGETHER>
DEVICE void choose_pixels(int i, const T* a, Grid from, int pixels, const T* b, long long columns, T* dw, bool adds) {
    if (i == count) pixels_of<count, registers>(a, from, pixels, b, columns, dw, adds);
    else if constexpr (count > 1) choose_pixels<registers, count - 1>(i, a, from, pixels, b, columns, dw, adds);
}

// All channels, in blocks as equal as can be.
template <int registers>
DEVICE void all_pixels(int C, const T* a, Grid from, int pixels, const T* b, long long columns, T* dw, bool adds) {
    const int blocks = (C + TOGETHER - 1) / TOGETHER;
    for (int k = 0, c = 0; k < blocks; ++k) {
        const int end = (int)((k + 1LL) * C / blocks);
        choose_pixels<registers>(end - c, a + c, from, pixels, b, columns, dw + (long long)c * BLOCK, adds);
        c = end;
    }
}

// -- strips --------------------------------------------------------------------------------------------------------------

struct Strip { int n, images, h, lines, w, across; };
DEVICE long long strips_of(int N, int H, int W, int images, int lines, int across) {
    return (N + images - 1LL) / images * ((H + lines - 1) / lines) * ((W + across - 1) / across);
}
DEVICE Strip strip_of(long long s, int N, int H, int W, int images, int lines, int across) {
    const int beside = (W + across - 1) / across, below = (H + lines - 1) / lines;
    const int n = (int)(s / beside / below) * images, h = (int)(s / beside % below) * lines, w = (int)(s % beside) * across;
    return {n, N - n < images ? N - n : images, h, H - h < lines ? H - h : lines, w, W - w < across ? W - w : across};
}

// Pixels of a box of group g of the strip's images, all channels or those of a block, as [image, pixel, pitch].
DEVICE void read_strip(const T* x, int G, long long g, int C, int H, int W, Strip strip, Box box, int first, int end, T* to,
                       long long pitch) {
    for (int n = 0; n < strip.images; ++n)
        for (int c0 = first; c0 < end; c0 += CHANNELS)
            VECTORS(c, CHANNELS, 1)
                read_pixels(x + (((strip.n + n) * (long long)G + g) * C + c0) * H * W, {C - c0, H, W}, box, c,
                            to + (long long)n * box.height * box.width * pitch + c0 - first, pitch);
}

KERNEL(blocked_forward)(const T* __restrict__ x, const T* __restrict__ u, T* __restrict__ space, T* __restrict__ y, int N,
                        int G, int C, int H, int W, int O, int OH, int OW, int KH, int KW, int sh, int sw, int dh, int dw,
                        int ph, int pw, int images, int lines, int across, int parts, int split, long long room) {
    const int blocks = (O + BLOCK - 1) / BLOCK;
    const long long each = strips_of(N, OH, OW, images, lines, across), strips = each * G;
    const long long pitch = UP((long long)C, CHANNELS) + CHANNELS;
    const long long taps = (long long)KH * KW, most = (long long)images * lines * across;
    ROWS(r, (long long)parts * split, strips / parts * most * C * O * taps / split / 16 + 1) {
        const int part = r / split, share = r % split;
        T *a = space + r * room, *m = a + room - most * BLOCK;
        for (long long s = strips * part / parts; s < strips * (part + 1LL) / parts; ++s) {
            const Strip strip = strip_of(s % each, N, OH, OW, images, lines, across);
            const Box seen = {strip.h * sh - ph, strip.w * sw - pw, (strip.lines - 1) * sh + (KH - 1) * dh + 1,
                              (strip.across - 1) * sw + (KW - 1) * dw + 1};
            const Box box = {strip.h, strip.w, strip.lines, strip.across};
            const int size = strip.lines * strip.across;
            const long long g = s / each, line = seen.width * pitch;
            const Grid from = {size, strip.across, seen.height * line, sh * line, sw * pitch};
            const Grid to = {size, size, (long long)size * BLOCK, 0, BLOCK};
            read_strip(x, G, g, C, H, W, strip, seen, 0, C, a, pitch);
            ROW_SYNC();
            for (int b = (int)((long long)blocks * share / split); b < (int)(blocks * (share + 1LL) / split); ++b) {
                const T* v = u + (g * blocks + b) * taps * C * BLOCK;
                const Taps down = {KH, 0, dh, 1, line}, along = {KW, 0, dw, 1, pitch};
                const bool half = O - b * BLOCK <= BLOCK / 2;
                OUTPUTS(o, half, all_taps, strip.images * size, a, from, down, along, v + o, C, m + o, to);
                VECTORS(o, half ? BLOCK / 2 : BLOCK, 1)
                    for (int n = 0; n < strip.images; ++n)
                        write_pixels(m + n * to.image, BLOCK, {O - b * BLOCK, OH, OW}, box, o,
                                     y + (((strip.n + n) * (long long)G + g) * O + b * BLOCK) * OH * OW);
            }
            ROW_SYNC();
        }
    }
}

// A strip counts in cells of sh x sw pixels of dx: one of each has its taps at the same places of dy.
KERNEL(blocked_data)(const T* __restrict__ dy, const T* __restrict__ u, T* __restrict__ space, T* __restrict__ dx, int N, int G,
                     int C, int H, int W, int O, int OH, int OW, int KH, int KW, int sh, int sw, int dh, int dw, int ph, int pw,
                     int images, int lines, int across, int parts, int split, long long room) {
    const int blocks = (C + BLOCK - 1) / BLOCK, high = (H + sh - 1) / sh, wide = (W + sw - 1) / sw;
    const int below = (KH - 1) * dh - ph + sh - 1, beside = (KW - 1) * dw - pw + sw - 1;
    const int top = below < 0 ? (sh - 1 - below) / sh : -(below / sh);
    const int left = beside < 0 ? (sw - 1 - beside) / sw : -(beside / sw);
    const long long each = strips_of(N, high, wide, images, lines, across), strips = each * G;
    const long long pitch = UP((long long)O, CHANNELS) + CHANNELS;
    const long long taps = (long long)KH * KW, most = (long long)images * lines * across * sh * sw;
    ROWS(r, (long long)parts * split, strips / parts * most * C * O * taps / sh / sw / split / 16 + 1) {
        const int part = r / split, share = r % split;
        T *a = space + r * room, *m = a + room - most * BLOCK;
        for (long long s = strips * part / parts; s < strips * (part + 1LL) / parts; ++s) {
            const Strip strip = strip_of(s % each, N, high, wide, images, lines, across);
            const Box seen = {strip.h + top, strip.w + left, strip.lines + (sh - 1 + ph) / sh - top,
                              strip.across + (sw - 1 + pw) / sw - left};
            const Box box = {strip.h * sh, strip.w * sw, strip.lines * sh, strip.across * sw};
            const int size = strip.lines * strip.across;
            const long long g = s / each, line = seen.width * pitch;
            const Grid from = {size, strip.across, seen.height * line, line, pitch};
            const long long row = (long long)box.width * BLOCK;
            const Grid to = {size, strip.across, box.height * row, sh * row, (long long)sw * BLOCK};
            read_strip(dy, G, g, O, OH, OW, strip, seen, 0, O, a, pitch);
            ROW_SYNC();
            for (int b = (int)((long long)blocks * share / split); b < (int)(blocks * (share + 1LL) / split); ++b) {
                const T* v = u + (g * blocks + b) * taps * O * BLOCK;
                const bool half = C - b * BLOCK <= BLOCK / 2;
                for (int i = 0; i < sh * sw; ++i) {
                    const Taps down = {KH, i / sw + ph - top * sh, -dh, sh, line};
                    const Taps along = {KW, i % sw + pw - left * sw, -dw, sw, pitch};
                    T* first = m + ((long long)(i / sw) * box.width + i % sw) * BLOCK;
                    OUTPUTS(c, half, all_taps, strip.images * size, a, from, down, along, v + c, O, first + c, to);
                }
                VECTORS(c, half ? BLOCK / 2 : BLOCK, 1)
                    for (int n = 0; n < strip.images; ++n)
                        write_pixels(m + n * to.image, BLOCK, {C - b * BLOCK, H, W}, box, c,
                                     dx + (((strip.n + n) * (long long)G + g) * C + b * BLOCK) * H * W);
            }
            ROW_SYNC();
        }
    }
}

KERNEL(blocked_filter)(const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ space, T* __restrict__ part, int N,
                       int G, int C, int H, int W, int O, int OH, int OW, int KH, int KW, int sh, int sw, int dh, int dw,
                       int ph, int pw, int images, int lines, int across, int parts, int split, long long room) {
    const int blocks = (O + BLOCK - 1) / BLOCK, taps = KH * KW;
    const long long each = strips_of(N, OH, OW, images, lines, across), pitch = UP((long long)C, CHANNELS) + CHANNELS;
    const long long most = (long long)images * lines * across, wide = (blocks + split - 1LL) / split * BLOCK + CHANNELS;
    ROWS(r, (long long)parts * split, each * G / parts * most * C * O * taps / split / 16 + 1) {
        const int p = r / split, share = r % split;
        const int b0 = (int)((long long)blocks * share / split), b1 = (int)(blocks * (share + 1LL) / split);
        T *a = space + r * room, *m = a + room - most * wide;
        for (long long g = 0; g < G; ++g) {
            const long long begin = each * p / parts;
            for (long long s = begin; s < each * (p + 1LL) / parts; ++s) {
                const Strip strip = strip_of(s, N, OH, OW, images, lines, across);
                const Box seen = {strip.h * sh - ph, strip.w * sw - pw, (strip.lines - 1) * sh + (KH - 1) * dh + 1,
                                  (strip.across - 1) * sw + (KW - 1) * dw + 1};
                const int size = strip.lines * strip.across;
                const long long line = seen.width * pitch;
                const Grid from = {size, strip.across, seen.height * line, sh * line, sw * pitch};
                read_strip(x, G, g, C, H, W, strip, seen, 0, C, a, pitch);
                const Box box = {strip.h, strip.w, strip.lines, strip.across};
                read_strip(dy, G, g, O, OH, OW, strip, box, b0 * BLOCK, b1 * BLOCK < O ? b1 * BLOCK : O, m, wide);
                ROW_SYNC();
                for (int b = b0; b < b1; ++b) {
                    const bool half = O - b * BLOCK <= BLOCK / 2;
                    const T* right = m + (b - b0) * BLOCK;
                    T* to = part + ((p * (long long)G + g) * blocks + b) * taps * C * BLOCK;
                    for (int k = 0; k < taps; ++k, to += (long long)C * BLOCK) {
                        const T* left = a + k / KW * (dh * line) + k % KW * (dw * pitch);
                        OUTPUTS(o, half, all_pixels, C, left, from, strip.images * size, right + o, wide, to + o, s > begin);
                    }
                }
                ROW_SYNC();
            }
        }
    }
}

// -- weights -------------------------------------------------------------------------------------------------------------

// The weights of an output and an input lie at w + output * outer + input * inner. `run` inputs lie side by side: all where
// inner is the number of taps, else one.
KERNEL(blocked_weights)(const T* __restrict__ w, T* __restrict__ u, int G, int I, int O, int taps, int run, long long inner,
                        long long outer) {
    const int blocks = (O + BLOCK - 1) / BLOCK, runs = (I + run - 1) / run;
    ROWS(r, (long long)G * blocks * runs, (long long)BLOCK * run * taps) {
        const int i = (int)(r % runs) * run, inputs = I - i < run ? I - i : run;
        const long long block = r / runs, first = block % blocks * BLOCK, numbers = (long long)inputs * taps;
        const T* from = w + block / blocks * I * O * taps + i * inner;
        T* to = u + (block * taps * I + i) * BLOCK;
        VECTORS(o, BLOCK, 1)
            for (long long f = 0; f < numbers; f += VL) {
                const int n = numbers - f < VL ? (int)(numbers - f) : VL;
                Vec v[VL];
                UNROLL for (int l = 0; l < VL; ++l)
                    v[l] = first + o + l < O ? vec_load(from + (first + o + l) * outer + f, n) : Vec{};
                vec_transpose(v);
                UNROLL for (int l = 0; l < VL; ++l)
                    if (l < n) vec_store(to + ((f + l) % taps * I + (f + l) / taps) * BLOCK + o, v[l], VL);
            }
    }
}

KERNEL(blocked_filter_backward)(const T* __restrict__ part, T* __restrict__ w, int parts, int G, int C, int O, int taps) {
    const int blocks = (O + BLOCK - 1) / BLOCK, runs = (C + CHANNELS - 1) / CHANNELS;
    ROWS(r, (long long)G * blocks * runs, (long long)BLOCK * CHANNELS * taps * parts) {
        const int c = (int)(r % runs) * CHANNELS, channels = C - c < CHANNELS ? C - c : CHANNELS;
        const long long block = r / runs, first = block % blocks * BLOCK, numbers = (long long)channels * taps;
        const long long all = (long long)G * blocks * taps * C * BLOCK;
        const T* from = part + (block * taps * C + c) * BLOCK;
        T* to = w + (block / blocks * O * C + c) * taps;
        VECTORS(o, O - first <= BLOCK / 2 ? BLOCK / 2 : BLOCK, 1)
            for (long long f = 0; f < numbers; f += VL) {
                const int n = numbers - f < VL ? (int)(numbers - f) : VL;
                Vec v[VL];
                UNROLL for (int l = 0; l < VL; ++l) {
                    const T* at = from + ((f + l) % taps * C + (f + l) / taps) * BLOCK + o;
                    v[l] = Vec{};
                    for (int p = 0; p < (l < n ? parts : 0); ++p) v[l] += vec_load(at + p * all, VL);
                }
                vec_transpose(v);
                UNROLL for (int l = 0; l < VL; ++l)
                    if (first + o + l < O) vec_store(to + (first + o + l) * C * taps + f, v[l], n);
            }
    }
}
