// softmaxes.cu -- softmax, its logarithm and its normaliser along one axis (minitorch_flux/ops/softmaxes.py).
//
// x has the shape (outer, width, inner): width is the axis. Two texts of each kernel:
//   <name>          inner = 1: a row is one sum, its lanes walk along the axis
//   <name>_planes   a row is a tile of at most `tile` of the inner elements, each lane walks through the axis alone;
//                   `work` (rows, 2, tile) holds the largest element and the sum of each lane
//
//   softmax_forward      y = exp(x - m) / s        m = max x, s = sum exp(x - m)
//   softmax_backward     dx = y (dy - sum dy y)
//   logsoftmax_forward   y = x - m - log s
//   logsoftmax_backward  dx = dy - exp(y) sum dy
//   logsumexp_forward    y = m + log s             (outer, inner)
//
// All outputs are written (=). Two equal infinities differ by 0 here: softmax of (inf, 0) is (1, 0), not NaN.
#include "exponentials.h"

// The largest of a row; it passes over a NaN, which comes out again in the sum.
DEVICE ACC row_top(const T* x, int width) {
    Vec top = Vec{} - INFINITY;
    parts(width, [&](int j, int n) { top = larger(vec_first(vec_load(x + j, n), n, -INFINITY), top); });
    return row_max(vec_larger(top));
}
DEVICE ACC row_exponentials(const T* x, int width, ACC top) {
    Vec sum = {};
    parts(width, [&](int j, int n) { sum += vec_first(exp_low(below(vec_load(x + j, n), top)), n, 0); });
    return row_sum(vec_sum(sum));
}

KERNEL(softmax_forward)(const T* __restrict__ x, T* __restrict__ y, long long rows, int width) {
    ROWS(r, rows, 4LL * width) {
        const T* from = x + r * width;
        T* to = y + r * width;
        const ACC top = row_top(from, width);
        Vec sum = {};
        parts(width, [&](int j, int n) {
            const Vec e = vec_first(exp_low(below(vec_load(from + j, n), top)), n, 0);
            vec_store(to + j, e, n);
            sum += e;
        });
        const ACC scale = 1 / row_sum(vec_sum(sum));
        parts(width, [&](int j, int n) { vec_store(to + j, vec_load(to + j, n) * scale, n); });
    }
}

KERNEL(softmax_backward)(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx, long long rows, int width) {
    ROWS(r, rows, 2LL * width) {
        const T *slope = dy + r * width, *from = y + r * width;
        T* to = dx + r * width;
        Vec sums = {};
        parts(width, [&](int j, int n) { sums += vec_load(slope + j, n) * vec_load(from + j, n); });
        const ACC sum = row_sum(vec_sum(sums));
        parts(width, [&](int j, int n) { vec_store(to + j, vec_load(from + j, n) * (vec_load(slope + j, n) - sum), n); });
    }
}

KERNEL(logsoftmax_forward)(const T* __restrict__ x, T* __restrict__ y, long long rows, int width) {
    ROWS(r, rows, 4LL * width) {
        const T* from = x + r * width;
        T* to = y + r * width;
        const ACC top = row_top(from, width), shift = f_log(row_exponentials(from, width, top));
        parts(width, [&](int j, int n) { vec_store(to + j, below(vec_load(from + j, n), top) - shift, n); });
    }
}

KERNEL(logsoftmax_backward)(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx, long long rows,
                            int width) {
    ROWS(r, rows, 4LL * width) {
        const T *slope = dy + r * width, *from = y + r * width;
        T* to = dx + r * width;
        Vec sums = {};
        parts(width, [&](int j, int n) { sums += vec_load(slope + j, n); });
        const ACC sum = row_sum(vec_sum(sums));
        parts(width, [&](int j, int n) { vec_store(to + j, vec_load(slope + j, n) - exp_low(vec_load(from + j, n)) * sum, n); });
    }
}

KERNEL(logsumexp_forward)(const T* __restrict__ x, T* __restrict__ y, long long rows, int width) {
    ROWS(r, rows, 4LL * width) {
        const ACC top = row_top(x + r * width, width), sum = row_exponentials(x + r * width, width, top);
        ONE_LANE y[r] = T(top + f_log(sum));
    }
}

// ------------------------------------------------------------------ along an axis that is not the last
// Row r is tile r % tiles of plane r / tiles: `count` inner elements from `start` on; c walks through the axis.
#define TILE(r)                                                         \
    const long long tiles = (inner + tile - 1) / tile;                  \
    const long long first = (r) % tiles * tile;                         \
    const int count = (int)(inner - first < tile ? inner - first : tile); \
    const long long start = (r) / tiles * width * inner + first;

DEVICE void tops_and_sums(const T* x, ACC* top, ACC* sum, long long inner, int width, int count) {
    LANES(i, count) {
        top[i] = ACC(x[i]);
        sum[i] = 0;
    }
    for (int c = 1; c < width; ++c) LANES(i, count) top[i] = larger(ACC(x[c * inner + i]), top[i]);
    for (int c = 0; c < width; ++c) LANES(i, count) sum[i] += exp_low(below(ACC(x[c * inner + i]), top[i]));
}

KERNEL(softmax_forward_planes)(const T* __restrict__ x, T* __restrict__ y, ACC* __restrict__ work, long long rows,
                               int width, long long inner, int tile) {
    ROWS(r, rows, 4LL * width * tile) {
        TILE(r)
        ACC* top = work + r * 2 * tile;
        ACC* sum = top + tile;
        LANES(i, count) {
            top[i] = ACC(x[start + i]);
            sum[i] = 0;
        }
        for (int c = 1; c < width; ++c) LANES(i, count) top[i] = larger(ACC(x[start + c * inner + i]), top[i]);
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const ACC e = exp_low(below(ACC(x[start + c * inner + i]), top[i]));
            y[start + c * inner + i] = T(e);
            sum[i] += e;
        }
        LANES(i, count) sum[i] = 1 / sum[i];
        for (int c = 0; c < width; ++c) LANES(i, count) y[start + c * inner + i] = T(ACC(y[start + c * inner + i]) * sum[i]);
    }
}

KERNEL(softmax_backward_planes)(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx,
                                ACC* __restrict__ work, long long rows, int width, long long inner, int tile) {
    ROWS(r, rows, 4LL * width * tile) {
        TILE(r)
        ACC* sum = work + r * 2 * tile;
        LANES(i, count) sum[i] = 0;
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const long long at = start + c * inner + i;
            sum[i] += ACC(dy[at]) * ACC(y[at]);
        }
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const long long at = start + c * inner + i;
            dx[at] = T(ACC(y[at]) * (ACC(dy[at]) - sum[i]));
        }
    }
}

KERNEL(logsoftmax_forward_planes)(const T* __restrict__ x, T* __restrict__ y, ACC* __restrict__ work, long long rows,
                                  int width, long long inner, int tile) {
    ROWS(r, rows, 4LL * width * tile) {
        TILE(r)
        ACC* top = work + r * 2 * tile;
        ACC* sum = top + tile;
        tops_and_sums(x + start, top, sum, inner, width, count);
        LANES(i, count) sum[i] = f_log(sum[i]);
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const long long at = start + c * inner + i;
            y[at] = T(below(ACC(x[at]), top[i]) - sum[i]);
        }
    }
}

KERNEL(logsoftmax_backward_planes)(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx,
                                   ACC* __restrict__ work, long long rows, int width, long long inner, int tile) {
    ROWS(r, rows, 4LL * width * tile) {
        TILE(r)
        ACC* sum = work + r * 2 * tile;
        LANES(i, count) sum[i] = 0;
        for (int c = 0; c < width; ++c) LANES(i, count) sum[i] += ACC(dy[start + c * inner + i]);
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const long long at = start + c * inner + i;
            dx[at] = T(ACC(dy[at]) - exp_low(ACC(y[at])) * sum[i]);
        }
    }
}

KERNEL(logsumexp_forward_planes)(const T* __restrict__ x, T* __restrict__ y, ACC* __restrict__ work, long long rows,
                                 int width, long long inner, int tile) {
    ROWS(r, rows, 4LL * width * tile) {
        TILE(r)
        ACC* top = work + r * 2 * tile;
        ACC* sum = top + tile;
        tops_and_sums(x + start, top, sum, inner, width, count);
        LANES(i, count) y[r / tiles * inner + first + i] = T(top[i] + f_log(sum[i]));
    }
}
