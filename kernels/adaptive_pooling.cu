// adaptive_pooling.cu -- pooling to a given size, and its gradients (minitorch_flux/ops/adaptive_pooling.py).
//
//   adaptive_max_forward    y[p] = max of x over window p, arg[p] = its place in the plane: the first one's, the first NaN's
//   adaptive_max_backward   dx[i] = sum of dy[p] over all p with arg[p] = i
//   adaptive_max_wide       the same, for windows that are long lines: a row is one number of the output
//   adaptive_mean_forward   y[p] = sum of x over window p / size[p]
//   adaptive_mean_wide      the same, for windows that are long lines
//   adaptive_mean_backward  dx[i] = sum of share[p] dy[p] over all windows p that hold i
//
// x and dx are [planes, D, H, W], y, arg and dy [planes, OD, OH, OW], size and share [OD, OH, OW]. `table` has, for depth,
// height and width in turn, where the windows of the output's numbers begin, then where they end; of the gradients it has
// the first window of each pixel, then the end of its windows. COVER is the most that one has of them along a line. All
// outputs are written (=). A row is a line, or few, of what is written.
#include "lines.h"
// constants: COVER=2
// constants: COVER=3

struct Shape { int D, H, W, OD, OH, OW; };               // of a plane that is read, of the one that is written
struct Spans { int first[3], end[3]; };                  // what one number of the output is made of, along each axis
DEVICE int vec_last(int j, int n) { return (j + VL < n ? j + VL : n) - 1; }
DEVICE Spans spans(const int* __restrict__ table, Shape s, int d, int h, int w) {
    const int *ds = table, *hs = ds + 2 * s.OD, *ws = hs + 2 * s.OH;
    return {{ds[d], hs[h], ws[w]}, {ds[s.OD + d], hs[s.OH + h], ws[s.OW + w]}};
}

#ifdef COVER
// For VL numbers of a line of the output at a time: visit(piece, base, from, count, j), where the windows of the lanes have `count`
// numbers from the places `from` of the piece on, which begins at `base`.
template <class Visit> DEVICE void each_piece(const int* __restrict__ table, Shape s, Visit visit) {
    const int* ws = table + 2 * s.OD + 2 * s.OH;
    VECTORS(j, s.OW, 1) {
        const int base = ws[j], span = ws[s.OW + vec_last(j, s.OW)] - base;
        const VecInt first = vec_load_int(ws + j, 0, s.OW - j), end = vec_load_int(ws + s.OW + j, 0, s.OW - j);
        vec_pieces(span, [&](auto piece) { visit(piece, base, first - base, end - first, j); });
    }
}
#endif

KERNEL(adaptive_max_forward)(const T* __restrict__ x, const int* __restrict__ table, T* __restrict__ y, int* __restrict__ arg,
                             long long planes, int D, int H, int W, int OD, int OH, int OW, int lines) {
    const int tiles = ((long long)OD * OH + lines - 1) / lines;
    const Shape s = {D, H, W, OD, OH, OW};
    ROWS(r, planes * tiles, (long long)lines * (D / OD + 1) * (H / OH + 1) * OW * COVER) {
        const T* plane = x + r / tiles * D * H * W;
        const int first = (int)(r % tiles) * lines, last = first + lines < OD * OH ? first + lines : OD * OH;
        each_piece(table, s, [&](auto piece, int base, VecInt from, VecInt count, int j) {
            for (int q = first; q < last; ++q) {
                const Spans span = spans(table, s, q / OH, q % OH, 0);
                Vec best = Vec{} - INFINITY;
                VecInt found = VecInt{} - 1;
                for (int i = span.first[0]; i < span.end[0]; ++i)
                    for (int k = span.first[1]; k < span.end[1]; ++k) {
                        const long long start = ((long long)i * H + k) * W;
                        const auto line = piece.line(base, W, [&](int w, int left) { return vec_load(plane + start + w, left); });
                        UNROLL for (int c = 0; c < COVER; ++c) {
                            const Vec v = line.pick(from + c, count > c);
                            const VecInt better = (count > c) & ((found < 0) | (v > best) | ((v != v) & (best == best)));
                            best = better ? v : best;
                            found = better ? from + (c + (int)start + base) : found;
                        }
                    }
                const long long to = (r / tiles * OD * OH + q) * OW + j;
                vec_store(y + to, best, OW - j);
                vec_store_int(arg + to, found, OW - j);
            }
        });
    }
}

KERNEL(adaptive_max_wide)(const T* __restrict__ x, const int* __restrict__ table, T* __restrict__ y, int* __restrict__ arg,
                          long long planes, int D, int H, int W, int OD, int OH, int OW) {
    const long long outputs = (long long)OD * OH * OW;
    const Shape s = {D, H, W, OD, OH, OW};
    ROWS(r, planes * outputs, (long long)D * H / OD / OH * (W / OW + 1)) {
        const int p = (int)(r % outputs), line = p / OW;
        const Spans span = spans(table, s, line / OH, line % OH, p % OW);
        const T* plane = x + r / outputs * D * H * W;
        Vec best = Vec{} - INFINITY;
        VecInt found = VecInt{} - 1;
        for (int i = span.first[0]; i < span.end[0]; ++i)
            for (int k = span.first[1]; k < span.end[1]; ++k) {
                const int n = span.end[2] - span.first[2];
                const long long start = ((long long)i * H + k) * W + span.first[2];
                VECTORS(j, n, 1) {
                    const Vec v = vec_load(plane + start + j, n - j);
                    const VecInt better = (vec_index() < n - j) & ((found < 0) | (v > best) | ((v != v) & (best == best)));
                    best = better ? v : best;
                    found = better ? vec_index() + ((int)start + j) : found;
                }
            }
        const ACC top = row_max(vec_max(best));
        const VecInt equal = (found >= 0) & ((best == top) | ((best != best) & (Vec{} + top != top)));
        const int most = 2147483647, back = row_max((int)vec_max(equal ? most - found : VecInt{}));   // the first place has the largest
        ONE_LANE y[r] = T(top);
        ONE_LANE arg[r] = most - back;
    }
}

KERNEL(adaptive_mean_forward)(const T* __restrict__ x, const int* __restrict__ table, const ACC* __restrict__ size, T* __restrict__ y,
                              long long planes, int D, int H, int W, int OD, int OH, int OW, int lines) {
    const int tiles = ((long long)OD * OH + lines - 1) / lines;
    const Shape s = {D, H, W, OD, OH, OW};
    ROWS(r, planes * tiles, (long long)lines * (D / OD + 1) * (H / OH + 1) * OW * COVER) {
        const T* plane = x + r / tiles * D * H * W;
        const int first = (int)(r % tiles) * lines, last = first + lines < OD * OH ? first + lines : OD * OH;
        each_piece(table, s, [&](auto piece, int base, VecInt from, VecInt count, int j) {
            for (int q = first; q < last; ++q) {
                const Spans span = spans(table, s, q / OH, q % OH, 0);
                const auto line = piece.line(base, W, [&](int w, int left) {
                    Vec sum = Vec{};
                    for (int i = span.first[0]; i < span.end[0]; ++i)
                        for (int k = span.first[1]; k < span.end[1]; ++k) sum += vec_load(plane + ((long long)i * H + k) * W + w, left);
                    return sum;
                });
                Vec sum = line.pick(from, count > 0);
                UNROLL for (int c = 1; c < COVER; ++c) sum += line.pick(from + c, count > c);
                const long long p = (long long)q * OW + j;
                vec_store(y + r / tiles * OD * OH * OW + p, sum / vec_load(size + p, OW - j), OW - j);
            }
        });
    }
}

KERNEL(adaptive_mean_wide)(const T* __restrict__ x, const int* __restrict__ table, const ACC* __restrict__ size, T* __restrict__ y,
                           long long planes, int D, int H, int W, int OD, int OH, int OW) {
    const long long outputs = (long long)OD * OH * OW;
    const Shape s = {D, H, W, OD, OH, OW};
    ROWS(r, planes * outputs, (long long)D * H / OD / OH * (W / OW + 1)) {
        const int p = (int)(r % outputs), w = p % OW, line = p / OW;
        const Spans span = spans(table, s, line / OH, line % OH, w);
        const T* plane = x + r / outputs * D * H * W;
        Vec sum = Vec{};
        for (int i = span.first[0]; i < span.end[0]; ++i)
            for (int k = span.first[1]; k < span.end[1]; ++k) {
                const T* from = plane + ((long long)i * H + k) * W + span.first[2];
                const int n = span.end[2] - span.first[2];
                VECTORS(j, n, 1) sum += vec_load(from + j, n - j);
            }
        const ACC total = row_sum(vec_sum(sum));
        ONE_LANE y[r] = T(total / size[p]);
    }
}

KERNEL(adaptive_max_backward)(const T* __restrict__ dy, const int* __restrict__ arg, const int* __restrict__ table,
                              T* __restrict__ dx, long long planes, int D, int H, int W, int OD, int OH, int OW, int lines) {
    const int tiles = ((long long)D * H + lines - 1) / lines;
    const Shape s = {OD, OH, OW, D, H, W};
    ROWS(r, planes * tiles, (long long)lines * W * COVER) {
        const long long plane = r / tiles * OD * OH * OW;
        const int first = (int)(r % tiles) * lines, last = first + lines < D * H ? first + lines : D * H;
        each_piece(table, s, [&](auto piece, int base, VecInt from, VecInt count, int j) {
            for (int q = first; q < last; ++q) {
                const Spans span = spans(table, s, q / H, q % H, 0);
                Vec sum = Vec{};
                for (int i = span.first[0]; i < span.end[0]; ++i)
                    for (int k = span.first[1]; k < span.end[1]; ++k) {
                        const long long start = plane + ((long long)i * OH + k) * OW;
                        const auto given = piece.line(base, OW, [&](int w, int left) { return vec_load(dy + start + w, left); });
                        const auto args = piece.line(base, OW, [&](int w, int left) { return vec_load_int(arg + start + w, 0, left); });
                        UNROLL for (int c = 0; c < COVER; ++c) {
                            const VecInt mine = (count > c) & (args.pick(from + c, count > c) == vec_index() + (q * W + j));
                            sum += given.pick(from + c, mine);
                        }
                    }
                vec_store(dx + (r / tiles * D * H + q) * W + j, sum, W - j);
            }
        });
    }
}

KERNEL(adaptive_mean_backward)(const T* __restrict__ dy, const ACC* __restrict__ share, const int* __restrict__ table,
                               T* __restrict__ dx, long long planes, int D, int H, int W, int OD, int OH, int OW, int lines) {
    const int tiles = ((long long)D * H + lines - 1) / lines;
    const Shape s = {OD, OH, OW, D, H, W};
    ROWS(r, planes * tiles, (long long)lines * W * COVER) {
        const T* given = dy + r / tiles * OD * OH * OW;
        const int first = (int)(r % tiles) * lines, last = first + lines < D * H ? first + lines : D * H;
        each_piece(table, s, [&](auto piece, int base, VecInt from, VecInt count, int j) {
            for (int q = first; q < last; ++q) {
                const Spans span = spans(table, s, q / H, q % H, 0);
                const auto line = piece.line(base, OW, [&](int w, int left) {
                    Vec sum = Vec{};
                    for (int i = span.first[0]; i < span.end[0]; ++i)
                        for (int k = span.first[1]; k < span.end[1]; ++k) {
                            const long long p = ((long long)i * OH + k) * OW + w;
                            sum += vec_load(given + p, left) * vec_load(share + p, left);
                        }
                    return sum;
                });
                Vec sum = line.pick(from, count > 0);
                UNROLL for (int c = 1; c < COVER; ++c) sum += line.pick(from + c, count > c);
                vec_store(dx + (r / tiles * D * H + q) * W + j, sum, W - j);
            }
        });
    }
}
