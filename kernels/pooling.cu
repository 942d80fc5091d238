// pooling.cu -- maximum, mean and p-norm over windows, and their gradients (minitorch_flux/ops/pooling.py).
//
//   max_pool_forward    y[p] = max over k of x[p s - pad + k d], arg[p] = its place in the plane: the first one's, the
//                       first NaN's if there is one, -1 where no tap is inside
//   max_pool_values     y alone
//   max_pool_backward   dx[i] = sum of dy[p] over all p with arg[p] = i
//   mean_pool_forward   y[p] = sum over k of x[p s - pad + k d] / count[p], zero outside
//   mean_pool_backward  dx[i] = sum of dy[p] / count[p] over all p and k with p s - pad + k d = i
//   lp_pool_forward     y[p] = (sum over k of |x[p s - pad + k d]|^power)^(1 / power), zero outside
//   lp_pool_backward    dx[i] = |x[i]|^(power - 1) sign(x[i]) times the sum of g[p] over all p and k with p s - pad + k d = i
//
// x is [planes, D, H, W], y, arg, dy and g are [planes, OD, OH, OW], count is [OD, OH, OW]. All outputs are written (=).
// A row is `lines` lines of the output. The gradients gather: a line of dx looks for the windows that cover it, so no
// two rows meet. Constants of a build: the window's width KW, its stride SW and its dilation DW along the width.
#include "lines.h"
// constants: KW=2 SW=2 DW=1
// constants: KW=3 SW=1 DW=1
// constants: KW=3 SW=3 DW=2

DEVICE int ceil_div(int a, int b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

// |v|^power of every number
DEVICE Vec powers(Vec v, ACC power) {
    if (power == 2) return v * v;
    return vec_each(v, [power](ACC a) { return f_pow(f_fabs(a), power); });
}

#ifdef KW
// Taps kw, kw', ... of a line with the same kw DW / SW = o lie within SW VL numbers of it: they are a group, and picked from
// the numbers that lie o SW after those of the first tap.
#define GROUPS ((KW - 1) * DW / SW + 1)
#define EACH_OF_GROUP(kw, o) UNROLL for (int kw = 0; kw < KW; ++kw) if (kw * DW / SW == (o))
DEVICE VecInt places_of_tap(int kw) { return vec_index() * SW + kw * DW % SW; }
DEVICE VecInt everywhere() { return VecInt{} == 0; }

struct Input { int D, H, W, KD, KH, d0, h0, dd, dh; };       // its sizes, and where the windows of a line begin
struct Taps { int d, d_end, h, h_end; };                     // those that lie inside, of which there may be none
DEVICE Taps inside(Input s) {
    Taps t = {0, s.KD, 0, s.KH};
    while (s.d0 + t.d * s.dd < 0) ++t.d;
    while (t.d_end > t.d && s.d0 + (t.d_end - 1) * s.dd >= s.D) --t.d_end;
    while (s.h0 + t.h * s.dh < 0) ++t.h;
    while (t.h_end > t.h && s.h0 + (t.h_end - 1) * s.dh >= s.H) --t.h_end;
    return t;
}
// visit(start) for each line that the windows have, which begins at number `start` of the plane.
template <class Visit> DEVICE void each_line(Input s, Taps t, Visit visit) {
    for (int kd = t.d; kd < t.d_end; ++kd)
        for (int kh = t.h; kh < t.h_end; ++kh) visit(((s.d0 + (long long)kd * s.dd) * s.H + s.h0 + (long long)kh * s.dh) * s.W);
}
DEVICE Vec larger(Vec v, Vec best) { return (v > best) | (v != v) ? v : best; }      // a NaN wins and stays

// n windows of a line that begin at (d0, h0, w0 + l SW).
template <class Piece> DEVICE void max_of_windows(Piece piece, const T* __restrict__ plane, T* __restrict__ y, int* __restrict__ arg, Input s, Taps t,
                                                  int w0, int n) {
    Vec best = Vec{} - INFINITY;
    VecInt at = VecInt{} - 1;
    each_line(s, t, [&](long long start) {
        UNROLL for (int o = 0; o < GROUPS; ++o) {
            const auto line = piece.line(w0 + o * SW, s.W, [&](int w, int left) { return vec_load(plane + start + w, -w, left); });
            EACH_OF_GROUP(kw, o) {
                const Vec v = line.pick(places_of_tap(kw), everywhere());
                const VecInt w = vec_index() * SW + (w0 + kw * DW);
                const VecInt better = (w >= 0) & (w < s.W) & ((at < 0) | (v > best) | ((v != v) & (best == best)));
                best = better ? v : best;
                at = better ? w + (int)start : at;
            }
        }
    });
    vec_store(y, best, n);
    vec_store_int(arg, at, n);
}
template <class Piece> DEVICE Vec max_of_lines(Piece piece, const T* __restrict__ plane, Input s, Taps t, int w0) {
    Vec best = Vec{} - INFINITY;
    UNROLL for (int o = 0; o < GROUPS; ++o) {
        const auto line = piece.line(w0 + o * SW, s.W, [&](int w, int left) {
            Vec most = Vec{} - INFINITY;
            each_line(s, t, [&](long long start) { most = larger(vec_load(plane + start + w, -w, left), most); });
            return (vec_index() >= -w) & (vec_index() < left) ? most : Vec{} - INFINITY;
        });
        EACH_OF_GROUP(kw, o) best = larger(line.pick(places_of_tap(kw), everywhere()), best);
    }
    return best;
}
// The sum over the windows of each pixel's term; that of 0 is 0.
template <class Piece, class Term> DEVICE Vec sum_of_lines(Piece piece, const T* __restrict__ plane, Input s, Taps t, int w0, Term term) {
    Vec sum = Vec{};
    UNROLL for (int o = 0; o < GROUPS; ++o) {
        const auto line = piece.line(w0 + o * SW, s.W, [&](int w, int left) {
            Vec part = Vec{};
            each_line(s, t, [&](long long start) { part += term(vec_load(plane + start + w, -w, left)); });
            return part;
        });
        EACH_OF_GROUP(kw, o) sum += line.pick(places_of_tap(kw), everywhere());
    }
    return sum;
}
#endif

KERNEL(max_pool_forward)(const T* __restrict__ x, T* __restrict__ y, int* __restrict__ arg, long long planes, int D, int H, int W,
                         int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw,
                         int lines) {
    const int tiles = (OH + lines - 1) / lines;
    ROWS(r, planes * OD * tiles, (long long)lines * OW * KD * KH * KW) {
        const int tile = r % tiles, od = r / tiles % OD, last = (tile + 1) * lines < OH ? (tile + 1) * lines : OH;
        const T* plane = x + r / tiles / OD * D * H * W;
        const auto piece = vec_piece<SW>();
        for (int oh = tile * lines; oh < last; ++oh) {
            const Input s = {D, H, W, KD, KH, od * sd - pd, oh * sh - ph, dd, dh};
            const Taps taps = inside(s);
            const long long to = (r / tiles * OH + oh) * OW;
            VECTORS(j, OW, 1) max_of_windows(piece, plane, y + to + j, arg + to + j, s, taps, j * SW - pw, OW - j);
        }
    }
}

KERNEL(max_pool_values)(const T* __restrict__ x, T* __restrict__ y, long long planes, int D, int H, int W, int OD, int OH, int OW,
                        int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw, int lines) {
    const int tiles = (OH + lines - 1) / lines;
    ROWS(r, planes * OD * tiles, (long long)lines * OW * KD * KH * KW) {
        const int tile = r % tiles, od = r / tiles % OD, last = (tile + 1) * lines < OH ? (tile + 1) * lines : OH;
        const T* plane = x + r / tiles / OD * D * H * W;
        const auto piece = vec_piece<SW>();
        for (int oh = tile * lines; oh < last; ++oh) {
            const Input s = {D, H, W, KD, KH, od * sd - pd, oh * sh - ph, dd, dh};
            const Taps taps = inside(s);
            T* to = y + (r / tiles * OH + oh) * OW;
            VECTORS(j, OW, 1) vec_store(to + j, max_of_lines(piece, plane, s, taps, j * SW - pw), OW - j);
        }
    }
}

KERNEL(mean_pool_forward)(const T* __restrict__ x, const ACC* __restrict__ count, T* __restrict__ y, long long planes, int D, int H,
                          int W, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw,
                          int lines) {
    const int tiles = (OH + lines - 1) / lines;
    ROWS(r, planes * OD * tiles, (long long)lines * OW * KD * KH * KW) {
        const int tile = r % tiles, od = r / tiles % OD, last = (tile + 1) * lines < OH ? (tile + 1) * lines : OH;
        const T* plane = x + r / tiles / OD * D * H * W;
        const auto piece = vec_piece<SW>();
        for (int oh = tile * lines; oh < last; ++oh) {
            const Input s = {D, H, W, KD, KH, od * sd - pd, oh * sh - ph, dd, dh};
            const Taps taps = inside(s);
            const ACC* n = count + ((long long)od * OH + oh) * OW;
            T* to = y + (r / tiles * OH + oh) * OW;
            VECTORS(j, OW, 1) {
                const Vec sum = sum_of_lines(piece, plane, s, taps, j * SW - pw, [](Vec v) { return v; });
                vec_store(to + j, sum / vec_load(n + j, OW - j), OW - j);
            }
        }
    }
}

KERNEL(lp_pool_forward)(const T* __restrict__ x, T* __restrict__ y, long long planes, int D, int H, int W, int OD, int OH, int OW,
                        int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw, int lines, ACC power) {
    const int tiles = (OH + lines - 1) / lines;
    ROWS(r, planes * OD * tiles, (long long)lines * OW * KD * KH * KW) {
        const int tile = r % tiles, od = r / tiles % OD, last = (tile + 1) * lines < OH ? (tile + 1) * lines : OH;
        const T* plane = x + r / tiles / OD * D * H * W;
        const auto piece = vec_piece<SW>();
        for (int oh = tile * lines; oh < last; ++oh) {
            const Input s = {D, H, W, KD, KH, od * sd - pd, oh * sh - ph, dd, dh};
            const Taps taps = inside(s);
            T* to = y + (r / tiles * OH + oh) * OW;
            VECTORS(j, OW, 1) {
                const Vec sum = sum_of_lines(piece, plane, s, taps, j * SW - pw, [&](Vec v) { return powers(v, power); });
                vec_store(to + j, vec_each(sum, [&](ACC v) { return power == 2 ? f_sqrt(v) : f_pow(v, 1 / power); }), OW - j);
            }
        }
    }
}

// The gradients: lane i of a line of dx owns the SW pixels from i SW - pw on; tap kw of window o meets the one with the
// number kw DW % SW for o = i - kw DW / SW. `given(at, from, to, w)` is what the windows from number `at` of the plane on give
// to the pixels w, w + SW, ..., if from <= lane < to; `finish(sum, w)` makes of its sums the gradient of these pixels.
#ifdef KW
struct Windows { int OD, OH, OW, KD, KH, sd, sh, dd, dh; };
template <class Given, class Finish>
DEVICE void sum_of_given(T* __restrict__ line, int W, Windows s, int d, int h, int pw, Given given, Finish finish) {
    VECTORS(i, (W - 1 + pw) / SW + 1, 1) {
        Vec sum[SW];
        UNROLL for (int f = 0; f < SW; ++f) sum[f] = Vec{};
        for (int kd = 0; kd < s.KD; ++kd) {
            const int ud = d - kd * s.dd, od = ud / s.sd;
            if (ud < 0 || ud % s.sd || od >= s.OD) continue;
            for (int kh = 0; kh < s.KH; ++kh) {
                const int uh = h - kh * s.dh, oh = uh / s.sh;
                if (uh < 0 || uh % s.sh || oh >= s.OH) continue;
                UNROLL for (int kw = 0; kw < KW; ++kw) {
                    const int o = i - kw * DW / SW, f = kw * DW % SW;
                    sum[f] += given((od * s.OH + oh) * s.OW + o, -o, s.OW - o, i * SW + f - pw);
                }
            }
        }
        UNROLL for (int f = 0; f < SW; ++f) sum[f] = finish(sum[f], i * SW + f - pw);
        vec_store_every<SW>(line + i * SW - pw, sum, pw - i * SW, W + pw - i * SW);
    }
}

struct Winners {                                    // of a line of pixels that begins at `place`
    const T* dy;
    const int* arg;
    int place;
    DEVICE_MEMBER Vec operator()(int at, int from, int to, int w) const {
        const VecInt mine = vec_load_int(arg + at, from, to) == vec_index() * SW + (place + w);
        const Vec v = vec_load(dy + at, from, to);
        return mine ? v : Vec{};
    }
};
struct Shares {
    const T* dy;
    const ACC* count;
    DEVICE_MEMBER Vec operator()(int at, int from, int to, int) const {
        const VecInt inside = (vec_index() >= from) & (vec_index() < to);
        const Vec n = vec_load(count + at, from, to);
        return vec_load(dy + at, from, to) / (inside ? n : Vec{} + 1);
    }
};
struct Whole {
    const ACC* g;
    DEVICE_MEMBER Vec operator()(int at, int from, int to, int) const { return vec_load(g + at, from, to); }
};
#endif

KERNEL(max_pool_backward)(const T* __restrict__ dy, const int* __restrict__ arg, T* __restrict__ dx, long long planes, int D,
                          int H, int W, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph,
                          int pw, int lines) {
    const Windows s = {OD, OH, OW, KD, KH, sd, sh, dd, dh};
    const int tiles = (H + lines - 1) / lines;
    ROWS(r, planes * D * tiles, (long long)lines * W * (KH / sh + 1)) {
        const int tile = r % tiles, d = r / tiles % D, last = (tile + 1) * lines < H ? (tile + 1) * lines : H;
        const long long first = r / tiles / D * OD * OH * OW;
        for (int h = tile * lines; h < last; ++h) {
            const Winners winners = {dy + first, arg + first, (d * H + h) * W};
            sum_of_given(dx + (r / tiles * H + h) * W, W, s, d + pd, h + ph, pw, winners, [](Vec v, int) { return v; });
        }
    }
}

KERNEL(mean_pool_backward)(const T* __restrict__ dy, const ACC* __restrict__ count, T* __restrict__ dx, long long planes, int D,
                           int H, int W, int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph,
                           int pw, int lines) {
    const Windows s = {OD, OH, OW, KD, KH, sd, sh, dd, dh};
    const int tiles = (H + lines - 1) / lines;
    ROWS(r, planes * D * tiles, (long long)lines * W * (KH / sh + 1)) {
        const int tile = r % tiles, d = r / tiles % D, last = (tile + 1) * lines < H ? (tile + 1) * lines : H;
        const Shares shares = {dy + r / tiles / D * OD * OH * OW, count};
        for (int h = tile * lines; h < last; ++h)
            sum_of_given(dx + (r / tiles * H + h) * W, W, s, d + pd, h + ph, pw, shares, [](Vec v, int) { return v; });
    }
}

KERNEL(lp_pool_backward)(const ACC* __restrict__ g, const T* __restrict__ x, T* __restrict__ dx, long long planes, int D, int H, int W,
                         int OD, int OH, int OW, int KD, int KH, int sd, int sh, int dd, int dh, int pd, int ph, int pw, int lines,
                         ACC power) {
    const Windows s = {OD, OH, OW, KD, KH, sd, sh, dd, dh};
    const int tiles = (H + lines - 1) / lines;
    ROWS(r, planes * D * tiles, (long long)lines * W * (KH / sh + 1)) {
        const int tile = r % tiles, d = r / tiles % D, last = (tile + 1) * lines < H ? (tile + 1) * lines : H;
        const Whole whole = {g + r / tiles / D * OD * OH * OW};
        for (int h = tile * lines; h < last; ++h) {
            const T* line = x + (r / tiles * H + h) * W;
            sum_of_given(dx + (r / tiles * H + h) * W, W, s, d + pd, h + ph, pw, whole, [line, W, power](Vec sum, int w) {
                const Vec v = vec_load_every<SW>(line + w, ceil_div(-w, SW), ceil_div(W - w, SW));
                if (power == 2) return Vec(sum * v);
                return Vec(sum * vec_each(v, [power](ACC a) {
                    const ACC size = f_pow(f_fabs(a), power - 1);
                    return a > 0 ? size : a < 0 ? -size : a;
                }));
            });
        }
    }
}
