// panel_convolution.cu -- convolution as products of its weights, as they lie, with panels of columns
// (minitorch_flux/ops/panel_convolution.py).
//
//   panels_forward  y[n,g,o,p] = act(b[g,o] + sum over k of  w[g,o,k] col[g,k,n,p])
//   panels_data     dx[n,g,c, p s - pad + k d] = sum over o of  u[g,k,o] dy[n,g,o,p], for windows that do not overlap
//   panels_filter   part[q,g,j,k,o] = sum over the n, p of part q of  dy[n,g,j PANEL + o,p] col[g,k,n,p]
//   panels_filter_backward  dw[g,o,k] = sum over q of part
//   panels_turn     u[g,k,o] = w[g,o,k]
//
// k is (c, kh, kw) and col[g,k,n,p] = x[n,g,c, p s - pad + k d]. x is [N, G, C, H, W], y and dy [N, G, O, OH, OW], w [G, O, K],
// b [G, O] or null; z takes the sum before the activation where there is one. All are written (=), but of dx only what a window
// meets. The lanes are pixels, which lie side by side already: a core copies the columns of a strip of pixels to panels that
// its cache holds, and nothing is turned but the dy of a filter's gradient.
//
// A strip has `strip` pixels, of one image after the other. A row is one of `parts` shares of the strips and one of `split`
// shares of the lines of the left factor, with `room` numbers of `space` to itself. `past`: the result goes past the caches.
#include "products.h"
#include "activations.h"
// constants: ACT=identity
// constants: ACT=gelu

// A window over the pixels of an image's C channels.
struct View { int C, H, W, OH, OW, KH, KW, sh, sw, dh, dw, ph, pw; };
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

// to[j] = from[j step], zero where j is not in low..high-1, for j < n; of steps 1 and 2.
DEVICE void copy_line(const T* __restrict__ from, int step, int low, int high, int n, T* __restrict__ to) {
    if (low <= 0 && high >= n) low = 0, high = n;
    VECTORS(j, n, 1) {
        const bool all = low <= j && j + VL <= high;
        const T* at = from + (long long)j * step;
        const Vec v = step == 1 ? all ? vec_load(at) : vec_load(at, low - j, high - j)
                                : all ? vec_load_every<2>(at, 0, VL) : vec_load_every<2>(at, low - j, high - j);
        if (n - j >= VL) vec_store(to + j, v, VL);
        else vec_store(to + j, v, n - j);
    }
}

// to[l pitch + j] = from[j step + l] for l < taps, at most VL, and j < n; zero where own + j step + l is not in 0..W-1.
DEVICE void copy_taps(const T* __restrict__ from, int step, int own, int W, int taps, int n, T* __restrict__ to,
                      long long pitch) {
    VECTORS(j, n, 1) {
        Vec v[VL];
        UNROLL for (int l = 0; l < VL; ++l) {
            const int w = own + (j + l) * step;
            v[l] = j + l < n ? vec_load(from + (long long)(j + l) * step, -w, LEAST(taps, W - w)) : Vec{};
        }
        vec_transpose(v);
        UNROLL for (int l = 0; l < VL; ++l) if (l < taps) vec_store(to + l * pitch + j, v[l], n - j);
    }
}

// The columns of `count` pixels from number `first` of all images on, k0..k1-1 of group g: number k of pixel q is at
// to[q / width * panel + (k - k0) * pitch + q % width].
DEVICE void pack(const T* __restrict__ x, View s, long long groups, long long g, long long first, int count, int k0, int k1,
                 T* __restrict__ to, long long pitch, int width, long long panel) {
    const long long line = first / s.OW, step = groups * s.C * s.H * s.W;
    const T* group = x + line / s.OH * step + g * s.C * s.H * s.W;
    int c = k0 / (s.KH * s.KW), kh = k0 / s.KW % s.KH, kw = k0 % s.KW;
    for (int k = k0, taps; k < k1; k += taps) {
        taps = s.sw > 2 && s.dw == 1 ? LEAST(LEAST(VL, s.KW - kw), k1 - k) : 1;
        const T* image = group + (long long)c * s.H * s.W;
        T* out = to + (k - k0) * pitch;
        int oh = (int)(line % s.OH), ow = (int)(first % s.OW);
        for (int at = 0, n; at < count; at += n) {                    // pixels of one line and one panel
            n = LEAST(LEAST(s.OW - ow, count - at), width - at % width);
            const int h = oh * s.sh - s.ph + kh * s.dh, w = ow * s.sw - s.pw + kw * s.dw;
            const bool inside = h >= 0 && h < s.H;
            const T* from = image + (long long)(inside ? h : 0) * s.W + w;
            T* here = out + at / width * panel + at % width;
            if (s.sw > 2) copy_taps(from, s.sw, w, inside ? s.W : 0, taps, n, here, pitch);
            else {
                const int low = w < 0 ? (-w + s.sw - 1) / s.sw : 0, last = w + (n - 1) * s.sw;
                copy_line(from, s.sw, low, !inside ? 0 : last < s.W ? n : (s.W - w + s.sw - 1) / s.sw, n, here);
            }
            if ((ow += n) == s.OW) {
                ow = 0;
                if (++oh == s.OH) oh = 0, image += step;
            }
        }
        if ((kw += taps) == s.KW) {
            kw = 0;
            if (++kh == s.KH) kh = 0, ++c;
        }
    }
}

// While a panel is multiplied the same pixels of other channels can come from memory, or of other outputs.
DEVICE void ahead(const T* at, int channels, long long pitch) {
    for (int c = 0; c < channels; ++c, at += pitch) UNROLL for (int j = 0; j < PANEL; j += 16) vec_ahead(at + j);
}

DEVICE void ahead_write(T* at, int channels, long long pitch) {
    for (int c = 0; c < channels; ++c, at += pitch) UNROLL for (int j = 0; j < PANEL; j += 16) vec_ahead_write(at + j);
}

// to[j] = sums[j] + shift for j < n.
DEVICE void write(const T* __restrict__ sums, ACC shift, int n, T* __restrict__ to, bool past) {
    VECTORS(j, n, 1) {
        const Vec v = vec_load(sums + j) + shift;
        if (past && n - j >= VL) vec_store_past(to + j, v);
        else vec_store(to + j, v, n - j);
    }
}

KERNEL(panels_forward)(const T* __restrict__ x, const T* __restrict__ w, const T* __restrict__ OPTIONAL b,
                       T* __restrict__ OPTIONAL z, T* __restrict__ y, T* __restrict__ space, ACC p, int N, int G, int C, int H,
                       int W, int O, int OH, int OW,
                       int KH, int KW, int sh, int sw, int dh, int dw, int ph, int pw, int strip, int parts, int split,
                       long long room, bool past, bool acts) {
    const View view = {C, H, W, OH, OW, KH, KW, sh, sw, dh, dw, ph, pw};
    const long long pixels = (long long)OH * OW, all = N * pixels, each = (all + strip - 1) / strip;
    const int K = C * KH * KW;
    ROWS(r, (long long)parts * split, each * G / parts * strip * K * O / split / 16 + 1) {
        const int part = r / split, share = r % split;
        const int o0 = (int)((long long)O * share / split), o1 = (int)(O * (share + 1LL) / split);
        T *col = space + r * room, *m = col + room - TOGETHER * PANEL;
        for (long long s = each * G * part / parts; s < each * G * (part + 1LL) / parts; ++s) {
            const long long g = s / each, first = s % each * strip;
            const int count = (int)LEAST(strip, all - first);
            const long long image = first / pixels, start = first % pixels;
            const long long image2 = (first + strip) / pixels, next = image2 < N ? (first + strip) % pixels : pixels;
            const T* soon = x + ((image2 * G + g) * C * pixels + next);
            T* out = y + ((image * G + g) * O * pixels + start);
            pack(x, view, G, g, first, count, 0, K, col, PANEL, PANEL, (long long)K * PANEL);
            ROW_SYNC();
            for (int o = o0; o < o1; o += TOGETHER) {
                const int rows = LEAST(TOGETHER, o1 - o);
                const long long c0 = (long long)C * (o - o0) / (o1 - o0), c1 = (long long)C * (o + rows - o0) / (o1 - o0);
                for (int j = 0; j < count; j += PANEL) {
                    const int width = LEAST(PANEL, count - j);
                    if (K == C && next + j + PANEL <= pixels) ahead(soon + c0 * pixels + j, (int)(c1 - c0), pixels);
                    if (!past && start + j + PANEL <= pixels) ahead_write(out + o * pixels + j, rows, pixels);
                    panel_product(rows, {w + (g * O + o) * K, K, 1}, K, col + (long long)j * K, m, PANEL, width, false);
                    ROW_SYNC();
                    for (int at = 0, n; at < width; at += n) {                 // of one image after the other
                        const long long q = (first + j + at) % pixels, channel = ((first + j + at) / pixels * G + g) * O + o;
                        n = (int)LEAST(pixels - q, width - at);
                        for (int i = 0; i < rows; ++i) {
                            T* sums = m + i * PANEL + at;
                            const long long to = (channel + i) * pixels + q;
                            const ACC shift = b ? ACC(b[g * O + o + i]) : 0;
                            if (z) write(sums, shift, n, z + to, past);
                            if (acts) LANES(l, n) sums[l] = T(act::ACT::f(ACC(sums[l]) + shift, p));
                            write(sums, acts ? 0 : shift, n, y + to, past);
                        }
                    }
                    ROW_SYNC();
                }
            }
        }
        vec_stored();
    }
}

KERNEL(panels_data)(const T* __restrict__ dy, const T* __restrict__ u, T* __restrict__ dx, T* __restrict__ space, int N, int G,
                    int C, int H, int W, int O, int OH, int OW, int KH, int KW, int sh, int sw, int dh, int dw, int ph, int pw,
                    int strip,
                    int parts, int split, long long room, bool past) {
    const View view = {O, OH, OW, OH, OW, 1, 1, 1, 1, 1, 1, 0, 0};
    const long long pixels = (long long)OH * OW, all = N * pixels, each = (all + strip - 1) / strip;
    const int K = C * KH * KW;
    ROWS(r, (long long)parts * split, each * G / parts * strip * K * O / split / 16 + 1) {
        const int part = r / split, share = r % split;
        const int k0 = (int)((long long)K * share / split), k1 = (int)(K * (share + 1LL) / split);
        T *col = space + r * room, *m = col + room - TOGETHER * PANEL;
        for (long long s = each * G * part / parts; s < each * G * (part + 1LL) / parts; ++s) {
            const long long g = s / each, first = s % each * strip;
            const int count = (int)LEAST(strip, all - first);
            const long long image2 = (first + strip) / pixels, next = image2 < N ? (first + strip) % pixels : pixels;
            const T* soon = dy + ((image2 * G + g) * O * pixels + next);
            pack(dy, view, G, g, first, count, 0, O, col, PANEL, PANEL, (long long)O * PANEL);
            ROW_SYNC();
            for (int k = k0; k < k1; k += TOGETHER) {
                const int rows = LEAST(TOGETHER, k1 - k);
                const long long o0 = (long long)O * (k - k0) / (k1 - k0), o1 = (long long)O * (k + rows - k0) / (k1 - k0);
                for (int j = 0; j < count; j += PANEL) {
                    const int width = LEAST(PANEL, count - j);
                    if (next + j + PANEL <= pixels) ahead(soon + o0 * pixels + j, (int)(o1 - o0), pixels);
                    panel_product(rows, {u + (g * K + k) * O, O, 1}, O, col + (long long)j * O, m, PANEL, width, false);
                    ROW_SYNC();
                    for (int at = 0, n; at < width; at += n) {                 // of one line after the other
                        const long long line = (first + j + at) / OW;
                        const int ow = (int)((first + j + at) % OW), oh = (int)(line % OH);
                        n = LEAST(OW - ow, width - at);
                        for (int i = 0; i < rows; ++i) {
                            const int kw = (k + i) % KW, kh = (k + i) / KW % KH, c = (k + i) / (KH * KW);
                            const int h = oh * sh - ph + kh * dh, left = ow * sw - pw + kw * dw;
                            if (h < 0 || h >= H) continue;
                            const int low = left < 0 ? (sw - 1 - left) / sw : 0, high = LEAST(n, (W - left + sw - 1) / sw);
                            const T* sums = m + i * PANEL + at + low;
                            T* to = dx + ((((long long)line / OH * G + g) * C + c) * H + h) * W + left + (long long)low * sw;
                            if (sw == 1) write(sums, 0, high - low, to, past);
                            else LANES(l, high - low) to[(long long)l * sw] = sums[l];
                        }
                    }
                    ROW_SYNC();
                }
            }
        }
        vec_stored();
    }
}

// A strip lies in one image here. Where the window is a pixel that visits every pixel, `whole`, x is its own columns.
KERNEL(panels_filter)(const T* __restrict__ x, const T* __restrict__ dy, T* __restrict__ part, T* __restrict__ space, int N,
                      int G, int C, int H, int W, int O, int OH, int OW, int KH, int KW, int sh, int sw, int dh, int dw, int ph,
                      int pw,
                      int strip, int parts, int split, long long room, bool whole) {
    const View view = {C, H, W, OH, OW, KH, KW, sh, sw, dh, dw, ph, pw};
    const int K = C * KH * KW, pixels = OH * OW, each = (pixels + strip - 1) / strip;
    const long long strips = (long long)each * N;
    ROWS(r, (long long)parts * split, strips / parts * strip * K * O / split * G / 16 + 1) {
        const int q = r / split, share = r % split;
        const int k0 = (int)((long long)K * share / split), k1 = (int)(K * (share + 1LL) / split);
        T *right = space + r * room, *col = right + (long long)PANELS(O) * PANEL * strip;
        for (long long g = 0; g < G; ++g) {
            const long long begin = strips * q / parts;
            for (long long s = begin; s < strips * (q + 1LL) / parts; ++s) {
                const long long n = s / each, from = (n * G + g) * C * (long long)H * W;
                const int first = (int)(s % each) * strip, count = LEAST(strip, pixels - first);
                const T* image = dy + (n * G + g) * O * (long long)pixels;
                for (int j = 0; j < PANELS(O); ++j)
                    for (int i = 0; i < count; i += VL)
                        pack_part(image, right + ((long long)j * strip - first) * PANEL, j, first + i, pixels, O, true);
                if (!whole) pack(x, view, G, g, n * pixels + first, count, k0, k1, col, strip, strip, 0);
                ROW_SYNC();
                const T* left = whole ? x + from + (long long)k0 * pixels + first : col;
                for (int j = 0; j < PANELS(O); ++j)
                    panel_product(k1 - k0, {left, whole ? pixels : strip, 1}, count, right + (long long)j * strip * PANEL,
                                  part + (((q * (long long)G + g) * PANELS(O) + j) * K + k0) * PANEL, PANEL,
                                  LEAST(PANEL, O - j * PANEL), s > begin);
                ROW_SYNC();
            }
        }
    }
}

KERNEL(panels_filter_backward)(const T* __restrict__ part, T* __restrict__ w, int parts, int G, int K, int O) {
    const long long all = (long long)G * PANELS(O) * K * PANEL;
    const int runs = (K + 15) / 16;
    ROWS(r, (long long)G * PANELS(O) * runs, 16LL * PANEL * parts) {
        const int k = (int)(r % runs) * 16, end = LEAST(k + 16, K), first = (int)(r / runs % PANELS(O)) * PANEL;
        const T* from = part + r / runs * K * PANEL;
        T* to = w + (r / runs / PANELS(O) * O + first) * K;
        VECTORS(o, LEAST(PANEL, O - first), 1)
            for (int i = k; i < end; i += VL) {
                Vec v[VL];
                UNROLL for (int l = 0; l < VL; ++l) {
                    v[l] = Vec{};
                    for (int q = 0; q < (i + l < end ? parts : 0); ++q)
                        v[l] += vec_load(from + q * all + (long long)(i + l) * PANEL + o, O - first - o);
                }
                vec_transpose(v);
                UNROLL for (int l = 0; l < VL; ++l)
                    if (first + o + l < O) vec_store(to + (long long)(o + l) * K + i, v[l], end - i);
            }
    }
}

KERNEL(panels_turn)(const T* __restrict__ w, T* __restrict__ u, int G, int O, int K) {
    const int runs = (K + 15) / 16;
    ROWS(r, (long long)G * runs, 16LL * O) {
        const int k = (int)(r % runs) * 16, end = LEAST(k + 16, K);
        const T* from = w + r / runs * O * K;
        T* to = u + r / runs * K * O;
        VECTORS(o, O, 1)
            for (int i = k; i < end; i += VL) {
                Vec v[VL];
                UNROLL for (int l = 0; l < VL; ++l)
                    v[l] = o + l < O ? vec_load(from + (long long)(o + l) * K + i, end - i) : Vec{};
                vec_transpose(v);
                UNROLL for (int l = 0; l < VL; ++l) if (i + l < end) vec_store(to + (long long)(i + l) * O + o, v[l], O - o);
            }
    }
}
