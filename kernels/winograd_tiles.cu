// winograd_tiles.cu -- 3x3 convolutions by Winograd's F(4x4, 3x3), some tiles at a time (minitorch_flux/ops/winograd_tiles.py).
//
//   tiles_weights   U[b,k,c,o] = (G g G')[k], g the 3x3 filter of c and output o of block b, zero for outputs beyond O      (=)
//   tiles_forward   y = A' M A for every tile, M[k,t,o] = sum over c of V[k,t,c] U[k,c,o], V[k,t,c] = (B' d B)[k]      (=)
//   tiles_filter    part[p,b,k,c,o] = sum over the tiles t of part p of V[k,t,c] dM[k,t,o], dM = A dy A'      (=)
//   tiles_filter_backward   dw = G' (sum over p of part) G      (=)
//
// Where there are few tiles, a row has all of them in one strip, and makes the U of a block of its outputs, or the part of one,
// for `chunk` channels at a time in its own space: then neither is ever written to memory (no u; no part, but w).
//
// What winograd.cu does in passes over a whole batch is done here with so few tiles at a time that V and M stay in a core's
// cache, with products of its own: U is all that is read from further away. The products keep BLOCK outputs of up to TOGETHER
// tiles in registers. k counts the 36 places of a tile; the lanes are channels.
//
// x is [N, C, H, W], y and dy [N, O, OH, OW], g [9] lies at w + c * inner + o * outer, turned: its last number comes first.
// A row is one of `parts` shares of the tiles and one of `split` shares of the outputs, and has `room` numbers of `space` to
// itself. It goes through its tiles in strips: `lines` tiles high (counted through all images), `across` wide.
#include "pixels.h"
#include "winograd.h"

// -- tiles ---------------------------------------------------------------------------------------------------------------
//
// Place k of a tile lies at k * step. Along the lines first, then across them.

// V of `high` x `wide` tiles whose pixels, with a border, are at x; tile t's numbers go to v + t * pitch.
DEVICE void images(const T* __restrict__ x, int high, int wide, T* __restrict__ v, long long pitch, long long step) {
    const long long line = (4LL * wide + 2) * CHANNELS;
    for (int i = 0; i < high; ++i)
        for (int j = 0; j < wide; ++j) {
            const T* from = x + 4 * i * line + 4LL * j * CHANNELS;
            T* to = v + ((long long)i * wide + j) * pitch;
            Vec d[36], e[36];
            UNROLL for (int k = 0; k < 36; ++k) d[k] = vec_load(from + k / 6 * line + k % 6 * CHANNELS, VL);
            UNROLL for (int k = 0; k < 6; ++k) image6<ACC>(d, 6 * k, 1, e, 6 * k, 1);
            UNROLL for (int k = 0; k < 6; ++k) image6<ACC>(e, k, 6, d, k, 6);
            UNROLL for (int k = 0; k < 36; ++k) vec_store(to + k * step, d[k], VL);
        }
}

// The pixels of M, without a border, to y.
DEVICE void outputs(const T* __restrict__ m, long long pitch, long long step, int high, int wide, T* __restrict__ y) {
    const long long line = 4LL * wide * BLOCK;
    for (int i = 0; i < high; ++i)
        for (int j = 0; j < wide; ++j) {
            const T* from = m + ((long long)i * wide + j) * pitch;
            T* to = y + 4 * i * line + 4LL * j * BLOCK;
            Vec d[36], e[24];
            UNROLL for (int k = 0; k < 36; ++k) d[k] = vec_load(from + k * step, VL);
            UNROLL for (int k = 0; k < 6; ++k) output6<ACC>(d, 6 * k, 1, e, 4 * k, 1);
            UNROLL for (int k = 0; k < 4; ++k) output6<ACC>(e, k, 4, d, k, 4);
            UNROLL for (int k = 0; k < 16; ++k) vec_store(to + k / 4 * line + k % 4 * BLOCK, d[k], VL);
        }
}

// dM of the tiles whose pixels are at y.
DEVICE void outputs_backward(const T* __restrict__ y, int high, int wide, T* __restrict__ m, long long pitch, long long step) {
    const long long line = 4LL * wide * CHANNELS;
    for (int i = 0; i < high; ++i)
        for (int j = 0; j < wide; ++j) {
            const T* from = y + 4 * i * line + 4LL * j * CHANNELS;
            T* to = m + ((long long)i * wide + j) * pitch;
            Vec d[16], e[24], f[36];
            UNROLL for (int k = 0; k < 16; ++k) d[k] = vec_load(from + k / 4 * line + k % 4 * CHANNELS, VL);
            UNROLL for (int k = 0; k < 4; ++k) output4_backward<ACC>(d, 4 * k, 1, e, 6 * k, 1);
            UNROLL for (int k = 0; k < 6; ++k) output4_backward<ACC>(e, k, 6, f, k, 6);
            UNROLL for (int k = 0; k < 36; ++k) vec_store(to + k * step, f[k], VL);
        }
}

// -- products ------------------------------------------------------------------------------------------------------------

// m[i * rows + o] = sum over j of a[i * s + j * t] b[j * columns + o] for `count` i, the sum so far where `adds`. b and m: the
// lanes' outputs.
template <int count, int registers>
DEVICE void product(const T* __restrict__ a, long long s, long long t, const T* __restrict__ b, long long columns, int length,
                    T* __restrict__ m, bool adds) {
    Vec sum[count][registers];
    UNROLL for (int i = 0; i < count; ++i)
        UNROLL for (int r = 0; r < registers; ++r) sum[i][r] = adds ? vec_load(m + (long long)i * BLOCK + r * VL, VL) : Vec{};
    for (int j = 0; j < length; ++j, a += t, b += columns) {
        Vec right[registers];
        UNROLL for (int r = 0; r < registers; ++r) right[r] = vec_load(b + r * VL, VL);
        UNROLL for (int i = 0; i < count; ++i) {
            const ACC left = ACC(a[i * s]);
            UNROLL for (int r = 0; r < registers; ++r) sum[i][r] += right[r] * left;
        }
    }
    UNROLL for (int i = 0; i < count; ++i)
        UNROLL for (int r = 0; r < registers; ++r) vec_store(m + (long long)i * BLOCK + r * VL, sum[i][r], VL);
}

template <int registers, int count = TOGETHER>
DEVICE void product_of(int i, const T* a, long long s, long long t, const T* b, long long columns, int length, T* m,
                       bool adds) {
    if (i == count) product<count, registers>(a, s, t, b, columns, length, m, adds);
    else if constexpr (count > 1) product_of<registers, count - 1>(i, a, s, t, b, columns, length, m, adds);
}

// All `count` of them, in blocks as equal as can be.
template <int registers>
DEVICE void products(int count, const T* a, long long s, long long t, const T* b, long long columns, int length, T* m,
                     bool adds) {
    const int blocks = (count + TOGETHER - 1) / TOGETHER;
    for (int k = 0, i = 0; k < blocks; ++k) {
        const int end = (int)((k + 1LL) * count / blocks);
        product_of<registers>(end - i, a + i * s, s, t, b, columns, length, m + (long long)i * BLOCK, adds);
        i = end;
    }
}

// -- filters -------------------------------------------------------------------------------------------------------------
//
// Filters of BLOCK outputs, from `first` on, and one input channel: their numbers at w + output * outer.

struct Filters { int O; long long first, outer; };

// Their U, place k at u + k * step.
DEVICE void filters(const T* __restrict__ w, Filters s, bool turned, T* __restrict__ u, long long step) {
    VECTORS(o, BLOCK, 1) {
        Vec g[9], e[18], f[36];
        UNROLL for (int j = 0; j < 9; j += VL) {
            Vec v[VL];
            UNROLL for (int l = 0; l < VL; ++l)
                v[l] = s.first + o + l < s.O ? vec_load(w + (s.first + o + l) * s.outer + j, 9 - j) : Vec{};
            vec_transpose(v);
            UNROLL for (int l = 0; l < VL; ++l) if (j + l < 9) g[j + l] = v[l];
        }
        UNROLL for (int j = 0; j < 4; ++j) {
            const Vec low = turned ? g[8 - j] : g[j], high = turned ? g[j] : g[8 - j];
            g[j] = low, g[8 - j] = high;
        }
        UNROLL for (int k = 0; k < 3; ++k) filter3<ACC>(g, 3 * k, 1, e, 6 * k, 1);
        UNROLL for (int k = 0; k < 6; ++k) filter3<ACC>(e, k, 6, f, k, 6);
        UNROLL for (int k = 0; k < 36; ++k) vec_store(u + k * step + o, f[k], VL);
    }
}

// Their gradients from the sum of `parts`, which are `next` numbers apart.
DEVICE void filters_backward(const T* __restrict__ part, long long step, int parts, long long next, T* __restrict__ w,
                             Filters s) {
    VECTORS(o, s.O - s.first <= BLOCK / 2 ? BLOCK / 2 : BLOCK, 1) {
        Vec d[36], e[18], g[9];
        UNROLL for (int k = 0; k < 36; ++k) d[k] = vec_load(part + k * step + o, VL);
        for (int p = 1; p < parts; ++p)
            UNROLL for (int k = 0; k < 36; ++k) d[k] += vec_load(part + p * next + k * step + o, VL);
        UNROLL for (int k = 0; k < 6; ++k) filter6_backward<ACC>(d, 6 * k, 1, e, 3 * k, 1);
        UNROLL for (int k = 0; k < 3; ++k) filter6_backward<ACC>(e, k, 3, g, k, 3);
        UNROLL for (int j = 0; j < 9; j += VL) {
            Vec v[VL];
            UNROLL for (int l = 0; l < VL; ++l) v[l] = j + l < 9 ? g[j + l < 9 ? j + l : 0] : Vec{};
            vec_transpose(v);
            UNROLL for (int l = 0; l < VL; ++l)
                if (s.first + o + l < s.O) vec_store(w + (s.first + o + l) * s.outer + j, v[l], 9 - j);
        }
    }
}

// -- kernels -------------------------------------------------------------------------------------------------------------

KERNEL(tiles_weights)(const T* __restrict__ w, T* __restrict__ u, int C, int O, long long inner, long long outer, int turned) {
    ROWS(r, (O + BLOCK - 1LL) / BLOCK * C, 36 * BLOCK) {
        const long long b = r / C, c = r % C;
        filters(w + c * inner, {O, b * BLOCK, outer}, turned, u + (b * 36 * C + c) * BLOCK, (long long)C * BLOCK);
    }
}

// Strip s of the tiles: the tiles' lines from..from+high-1 of all images, and their places left..left+wide-1 in each line.
struct Strip { long long from; int high, left, wide; };
DEVICE Strip strip_of(long long s, long long all, int TW, int lines, int across) {
    const int beside = (TW + across - 1) / across, left = (int)(s % beside) * across;
    const long long from = s / beside * lines;
    return {from, all - from < lines ? (int)(all - from) : lines, left, TW - left < across ? TW - left : across};
}

KERNEL(tiles_forward)(const T* __restrict__ x, OPTIONAL const T* __restrict__ u, const T* __restrict__ w,
                      T* __restrict__ space, T* __restrict__ y, int N, int C, int H, int W, int O, int OH, int OW, int top,
                      int left, long long inner, long long outer, int turned, int lines, int across, int parts, int split,
                      int chunk, long long room) {
    const int TH = (OH + 3) / 4, TW = (OW + 3) / 4, blocks = (O + BLOCK - 1) / BLOCK;
    const long long all = (long long)N * TH, strips = (all + lines - 1) / lines * ((TW + across - 1) / across);
    const long long most = (long long)lines * across, pitch = UP((long long)C, CHANNELS) + CHANNELS;
    const long long step = most * pitch + CHANNELS, out = most * BLOCK + CHANNELS;
    ROWS(r, (long long)parts * split, 2 * (strips / parts * most + (u ? 0 : 8)) * C * O / split) {
        const int part = r / split, share = r % split;
        T *v = space + r * room, *m = v + 36 * step, *pixels = m + 36 * out, *own = u ? v : v + room - 36LL * chunk * BLOCK;
        for (long long s = strips * part / parts; s < strips * (part + 1LL) / parts; ++s) {
            const Strip strip = strip_of(s, all, TW, lines, across);
            for (int c0 = 0; c0 < C; c0 += CHANNELS)
                VECTORS(c, CHANNELS, 1)
                    for (int i = 0, high; i < strip.high; i += high) {
                        const long long n = (strip.from + i) / TH;
                        const int h = (int)((strip.from + i) % TH);
                        high = strip.high - i < TH - h ? strip.high - i : TH - h;
                        const Box box = {4 * h - top, 4 * strip.left - left, 4 * high + 2, 4 * strip.wide + 2};
                        read_pixels(x + (n * C + c0) * H * W, {C - c0, H, W}, box, c, pixels, CHANNELS);
                        images(pixels + c, high, strip.wide, v + (long long)i * strip.wide * pitch + c0 + c, pitch, step);
                    }
            ROW_SYNC();
            for (int b = (int)((long long)blocks * share / split); b < (int)(blocks * (share + 1LL) / split); ++b) {
                const int count = strip.high * strip.wide;
                const bool half = O - b * BLOCK <= BLOCK / 2;
                for (int c0 = 0; c0 < C; c0 += chunk) {
                    const int some = C - c0 < chunk ? C - c0 : chunk;
                    const T* weights = u ? u + b * 36LL * C * BLOCK : own;
                    for (int c = 0; c < (u ? 0 : some); ++c)
                        filters(w + (c0 + c) * inner, {O, (long long)b * BLOCK, outer}, turned, own + (long long)c * BLOCK,
                                (long long)some * BLOCK);
                    for (int k = 0; k < 36; ++k, weights += (long long)some * BLOCK)
                        OUTPUTS(o, half, products, count, v + k * step + c0, pitch, 1, weights + o, BLOCK, some,
                                m + k * out + o, c0 > 0);
                }
                VECTORS(o, half ? BLOCK / 2 : BLOCK, 1)
                    for (int i = 0, high; i < strip.high; i += high) {
                        const long long n = (strip.from + i) / TH;
                        const int h = (int)((strip.from + i) % TH), first = b * BLOCK;
                        high = strip.high - i < TH - h ? strip.high - i : TH - h;
                        outputs(m + (long long)i * strip.wide * BLOCK + o, BLOCK, out, high, strip.wide, pixels + o);
                        const Box box = {4 * h, 4 * strip.left, 4 * high, 4 * strip.wide};
                        write_pixels(pixels, BLOCK, {O - first, OH, OW}, box, o, y + (n * O + first) * OH * OW);
                    }
            }
            ROW_SYNC();
        }
    }
}

KERNEL(tiles_filter)(const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ space, OPTIONAL T* __restrict__ part,
                     OPTIONAL T* __restrict__ w, int N, int C, int H, int W, int O, int OH, int OW, int top, int left, int lines,
                     int across, int parts, int split, int chunk, long long room) {
    const int TH = (OH + 3) / 4, TW = (OW + 3) / 4, blocks = (O + BLOCK - 1) / BLOCK;
    const long long all = (long long)N * TH, strips = (all + lines - 1) / lines * ((TW + across - 1) / across);
    const long long most = (long long)lines * across, pitch = UP((long long)C, CHANNELS) + CHANNELS;
    const long long step = most * pitch + CHANNELS, wide = (blocks + split - 1LL) / split * BLOCK + CHANNELS;
    const long long out = most * wide + CHANNELS;
    ROWS(r, (long long)parts * split, 2 * (strips / parts * most + (w ? 8 : 0)) * C * O / split) {
        const int p = r / split, share = r % split;
        const int b0 = (int)((long long)blocks * share / split), b1 = (int)(blocks * (share + 1LL) / split);
        T *v = space + r * room, *m = v + 36 * step, *pixels = m + 36 * out, *own = w ? v + room - 36LL * chunk * BLOCK : v;
        const long long begin = strips * p / parts;
        for (long long s = begin; s < strips * (p + 1LL) / parts; ++s) {
            const Strip strip = strip_of(s, all, TW, lines, across);
            for (int i = 0, high; i < strip.high; i += high) {
                const long long n = (strip.from + i) / TH;
                const int h = (int)((strip.from + i) % TH);
                high = strip.high - i < TH - h ? strip.high - i : TH - h;
                const Box box = {4 * h - top, 4 * strip.left - left, 4 * high + 2, 4 * strip.wide + 2};
                for (int c0 = 0; c0 < C; c0 += CHANNELS)
                    VECTORS(c, CHANNELS, 1) {
                        read_pixels(x + (n * C + c0) * H * W, {C - c0, H, W}, box, c, pixels, CHANNELS);
                        images(pixels + c, high, strip.wide, v + (long long)i * strip.wide * pitch + c0 + c, pitch, step);
                    }
                const Box inner = {4 * h, 4 * strip.left, 4 * high, 4 * strip.wide};
                for (int o0 = b0 * BLOCK; o0 < b1 * BLOCK && o0 < O; o0 += CHANNELS)
                    VECTORS(o, CHANNELS, 1) {
                        read_pixels(dy + (n * O + o0) * OH * OW, {O - o0, OH, OW}, inner, o, pixels, CHANNELS);
                        T* to = m + (long long)i * strip.wide * wide + o0 - b0 * BLOCK + o;
                        outputs_backward(pixels + o, high, strip.wide, to, wide, out);
                    }
            }
            ROW_SYNC();
            const int count = strip.high * strip.wide;
            for (int c0 = 0; c0 < C; c0 += chunk)
                for (int b = b0; b < b1; ++b) {
                    const int some = C - c0 < chunk ? C - c0 : chunk;
                    T *sums = w ? own : part + ((long long)p * blocks + b) * 36 * C * BLOCK, *to = sums;
                    const T* right = m + (b - b0) * BLOCK;
                    const bool half = O - b * BLOCK <= BLOCK / 2;
                    for (int k = 0; k < 36; ++k, to += (long long)some * BLOCK)
                        OUTPUTS(o, half, products, some, v + k * step + c0, 1, pitch, right + k * out + o, wide, count, to + o,
                                s > begin);
                    for (int c = 0; c < (w ? some : 0); ++c)
                        filters_backward(sums + (long long)c * BLOCK, (long long)some * BLOCK, 1, 0, w + (c0 + c) * 9LL,
                                         {O, (long long)b * BLOCK, C * 9LL});
                }
            ROW_SYNC();
        }
    }
}

KERNEL(tiles_filter_backward)(const T* __restrict__ part, T* __restrict__ w, int parts, int C, int O) {
    const long long blocks = (O + BLOCK - 1LL) / BLOCK, step = (long long)C * BLOCK;
    ROWS(r, blocks * C, 36LL * BLOCK * parts) {
        const long long b = r / C, c = r % C;
        filters_backward(part + (b * 36 * C + c) * BLOCK, step, parts, blocks * 36 * step, w + c * 9, {O, b * BLOCK, C * 9LL});
    }
}
