// adaptive_pooling.cu -- pooling to a given size, and its gradients (minitorch_flux/ops/adaptive_pooling.py).
//
//   adaptive_max_forward    y[p] = max of x over window p, arg[p] = its place in the plane: the first one's, the first NaN's
//   adaptive_max_backward   dx[i] = sum of dy[p] over all p with arg[p] = i
//   adaptive_mean_forward   y[p] = mean of x over window p
//   adaptive_mean_backward  dx[i] = sum of share[p] over all windows p that hold i; share[p] = dy[p] / size[p]
//
// Of I pixels and O windows of an axis, window p is the pixels from floor(p I / O) to ceil((p + 1) I / O), and pixel i is in
// the windows from floor(i O / I) to ceil((i + 1) O / I): the same with I and O exchanged. x and dx are [planes, D, H, W],
// y, arg and dy are [planes, OD, OH, OW]. All outputs are written (=). A row is a line, or few, of the output, a lane one
// of its numbers. The product of I and O of an axis is below 2^31.
#include "vectors.h"
// constants: COVER=2
// constants: COVER=3

struct Span { int first, end; };
DEVICE Span span(int p, int I, int O) { return {p * I / O, ((p + 1) * I + O - 1) / O}; }

KERNEL(adaptive_max_forward)(const T* __restrict__ x, T* __restrict__ y, int* __restrict__ arg, long long planes, int D, int H,
                             int W, int OD, int OH, int OW, int lines) {
    const int tiles = (OD * OH + lines - 1) / lines;
    ROWS(r, planes * tiles, (long long)lines * D * H * W / (OD * OH)) {
        const long long plane = r / tiles;
        const int first = (int)(r % tiles) * lines * OW, left = OD * OH * OW - first;
        LANES(j, left < lines * OW ? left : lines * OW) {
            const int p = first + j;
            const Span d = span(p / OW / OH, D, OD), h = span(p / OW % OH, H, OH), w = span(p % OW, W, OW);
            const T* from = x + plane * D * H * W;
            ACC best = -INFINITY;
            int at = -1;
            for (int i = d.first; i < d.end; ++i)
                for (int k = h.first; k < h.end; ++k)
                    for (int l = w.first; l < w.end; ++l) {
                        const int place = (i * H + k) * W + l;
                        const ACC v = ACC(from[place]);
                        const bool better = at < 0 || v > best || (v != v && best == best);
                        best = better ? v : best;
                        at = better ? place : at;
                    }
            const long long to = plane * OD * OH * OW + p;
            y[to] = T(best);
            arg[to] = at;
        }
    }
}

KERNEL(adaptive_mean_forward)(const T* __restrict__ x, T* __restrict__ y, long long planes, int D, int H, int W, int OD, int OH,
                              int OW, int lines) {
    const int tiles = (OD * OH + lines - 1) / lines;
    ROWS(r, planes * tiles, (long long)lines * D * H * W / (OD * OH)) {
        const long long plane = r / tiles;
        const int first = (int)(r % tiles) * lines * OW, left = OD * OH * OW - first;
        LANES(j, left < lines * OW ? left : lines * OW) {
            const int p = first + j;
            const Span d = span(p / OW / OH, D, OD), h = span(p / OW % OH, H, OH), w = span(p % OW, W, OW);
            const T* from = x + plane * D * H * W;
            ACC sum = 0;
            for (int i = d.first; i < d.end; ++i)
                for (int k = h.first; k < h.end; ++k)
                    for (int l = w.first; l < w.end; ++l) sum += ACC(from[(i * H + k) * W + l]);
            const int size = (d.end - d.first) * (h.end - h.first) * (w.end - w.first);
            y[plane * OD * OH * OW + p] = T(sum / size);
        }
    }
}

// The gradients: a lane looks through the windows that hold its pixel, of which there are at most COVER along a line.
// `table` has, for depth, height and width in turn, the first window of each pixel, then the end of its windows.
#ifdef COVER
template <class Given> DEVICE void sum_of_given(const int* __restrict__ table, T* __restrict__ line, int d, int h, int D, int H, int W,
                                                int OH, int OW, Given given) {
    const int *ds = table, *hs = ds + 2 * D, *ws = hs + 2 * H;
    VECTORS(l, W, 1) {
        const VecInt first = vec_load_int(ws + l, 0, W - l), end = vec_load_int(ws + W + l, 0, W - l);
        Vec sum = Vec{};
        for (int i = ds[d]; i < ds[D + d]; ++i)
            for (int k = hs[h]; k < hs[H + h]; ++k)
                UNROLL for (int c = 0; c < COVER; ++c) sum += given((i * OH + k) * OW, first + c, first + c < end, l);
        vec_store(line + l, sum, W - l);
    }
}
#endif

KERNEL(adaptive_max_backward)(const T* __restrict__ dy, const int* __restrict__ arg, const int* __restrict__ table,
                              T* __restrict__ dx, long long planes, int D, int H, int W, int OD, int OH, int OW, int lines) {
    const int tiles = (D * H + lines - 1) / lines;
    ROWS(r, planes * tiles, (long long)lines * W * COVER) {
        const long long plane = r / tiles, from = plane * OD * OH * OW;
        const int first = (int)(r % tiles) * lines, last = first + lines < D * H ? first + lines : D * H;
        for (int q = first; q < last; ++q)
            sum_of_given(table, dx + (plane * D * H + q) * W, q / H, q % H, D, H, W, OH, OW, [&](int line, VecInt p, VecInt held, int l) {
                const VecInt mine = held & (vec_gather_int(arg + from + line, p, held) == vec_index() + (q * W + l));
                return vec_gather(dy + from + line, p, mine);
            });
    }
}

KERNEL(adaptive_mean_backward)(const ACC* __restrict__ share, const int* __restrict__ table, T* __restrict__ dx, long long planes,
                               int D, int H, int W, int OD, int OH, int OW, int lines) {
    const int tiles = (D * H + lines - 1) / lines;
    ROWS(r, planes * tiles, (long long)lines * W * COVER) {
        const long long plane = r / tiles, from = plane * OD * OH * OW;
        const int first = (int)(r % tiles) * lines, last = first + lines < D * H ? first + lines : D * H;
        for (int q = first; q < last; ++q)
            sum_of_given(table, dx + (plane * D * H + q) * W, q / H, q % H, D, H, W, OH, OW,
                         [&](int line, VecInt p, VecInt held, int) { return vec_gather(share + from + line, p, held); });
    }
}
