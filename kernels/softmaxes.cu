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
#include "flux.h"

DEVICE ACC below(ACC x, ACC top) { return x == top ? 0 : x - top; }

KERNEL(softmax_forward)(const T* __restrict__ x, T* __restrict__ y, long long rows, int width) {
    ROWS(r, rows, width) {
        const T* from = x + r * width;
        T* to = y + r * width;
        ACC top = -INFINITY, sum = 0;
        LANES_MAX(top, j, width) top = f_max(ACC(from[j]), top);
        top = row_max(top);
        LANES_SUM(sum, j, width) {
            const ACC e = f_exp(below(ACC(from[j]), top));
            to[j] = T(e);
            sum += e;
        }
        const ACC scale = 1 / row_sum(sum);
        LANES(j, width) to[j] = T(ACC(to[j]) * scale);
    }
}

KERNEL(softmax_backward)(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx, long long rows, int width) {
    ROWS(r, rows, width) {
        ACC sum = 0;
        LANES_SUM(sum, j, width) sum += ACC(dy[r * width + j]) * ACC(y[r * width + j]);
        sum = row_sum(sum);
        LANES(j, width) dx[r * width + j] = T(ACC(y[r * width + j]) * (ACC(dy[r * width + j]) - sum));
    }
}

KERNEL(logsoftmax_forward)(const T* __restrict__ x, T* __restrict__ y, long long rows, int width) {
    ROWS(r, rows, width) {
        const T* from = x + r * width;
        ACC top = -INFINITY, sum = 0;
        LANES_MAX(top, j, width) top = f_max(ACC(from[j]), top);
        top = row_max(top);
        LANES_SUM(sum, j, width) sum += f_exp(below(ACC(from[j]), top));
        const ACC shift = f_log(row_sum(sum));
        LANES(j, width) y[r * width + j] = T(below(ACC(from[j]), top) - shift);
    }
}

KERNEL(logsoftmax_backward)(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx, long long rows,
                            int width) {
    ROWS(r, rows, width) {
        ACC sum = 0;
        LANES_SUM(sum, j, width) sum += ACC(dy[r * width + j]);
        sum = row_sum(sum);
        LANES(j, width) dx[r * width + j] = T(ACC(dy[r * width + j]) - f_exp(ACC(y[r * width + j])) * sum);
    }
}

KERNEL(logsumexp_forward)(const T* __restrict__ x, T* __restrict__ y, long long rows, int width) {
    ROWS(r, rows, width) {
        ACC top = -INFINITY, sum = 0;
        LANES_MAX(top, j, width) top = f_max(ACC(x[r * width + j]), top);
        top = row_max(top);
        LANES_SUM(sum, j, width) sum += f_exp(below(ACC(x[r * width + j]), top));
        sum = row_sum(sum);
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
    for (int c = 1; c < width; ++c) LANES(i, count) top[i] = f_max(ACC(x[c * inner + i]), top[i]);
    for (int c = 0; c < width; ++c) LANES(i, count) sum[i] += f_exp(below(ACC(x[c * inner + i]), top[i]));
}

KERNEL(softmax_forward_planes)(const T* __restrict__ x, T* __restrict__ y, ACC* __restrict__ work, long long rows,
                               int width, long long inner, int tile) {
    ROWS(r, rows, width * (long long)tile) {
        TILE(r)
        ACC* top = work + r * 2 * tile;
        ACC* sum = top + tile;
        LANES(i, count) {
            top[i] = ACC(x[start + i]);
            sum[i] = 0;
        }
        for (int c = 1; c < width; ++c) LANES(i, count) top[i] = f_max(ACC(x[start + c * inner + i]), top[i]);
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const ACC e = f_exp(below(ACC(x[start + c * inner + i]), top[i]));
            y[start + c * inner + i] = T(e);
            sum[i] += e;
        }
        LANES(i, count) sum[i] = 1 / sum[i];
        for (int c = 0; c < width; ++c) LANES(i, count) y[start + c * inner + i] = T(ACC(y[start + c * inner + i]) * sum[i]);
    }
}

KERNEL(softmax_backward_planes)(const T* __restrict__ dy, const T* __restrict__ y, T* __restrict__ dx,
                                ACC* __restrict__ work, long long rows, int width, long long inner, int tile) {
    ROWS(r, rows, width * (long long)tile) {
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
    ROWS(r, rows, width * (long long)tile) {
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
    ROWS(r, rows, width * (long long)tile) {
        TILE(r)
        ACC* sum = work + r * 2 * tile;
        LANES(i, count) sum[i] = 0;
        for (int c = 0; c < width; ++c) LANES(i, count) sum[i] += ACC(dy[start + c * inner + i]);
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const long long at = start + c * inner + i;
            dx[at] = T(ACC(dy[at]) - f_exp(ACC(y[at])) * sum[i]);
        }
    }
}

KERNEL(logsumexp_forward_planes)(const T* __restrict__ x, T* __restrict__ y, ACC* __restrict__ work, long long rows,
                                 int width, long long inner, int tile) {
    ROWS(r, rows, width * (long long)tile) {
        TILE(r)
        ACC* top = work + r * 2 * tile;
        ACC* sum = top + tile;
        tops_and_sums(x + start, top, sum, inner, width, count);
        LANES(i, count) y[r / tiles * inner + first + i] = T(top[i] + f_log(sum[i]));
    }
}
