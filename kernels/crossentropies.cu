// crossentropies.cu -- cross-entropy of logits and its gradient in one pass (minitorch_flux/ops/crossentropies.py).
//
// x has the shape (outer, width, inner), width being the classes; an observation is one (outer, inner). With
// z = x - max x, s = sum exp(z), p = exp(z) / s, and the share q of each class,
//     q[c]  = weight[c] ((1 - smoothing) t[c] + smoothing / width)    t = targets, or 1 at the label and 0 elsewhere
//     loss  = scale (sum(q) log s - sum(q z))                         q z = 0 where q = 0, whatever z is
//     slope = scale (p sum(q) - q)                                    the gradient with respect to x
//
//   logitcrossentropy_forward         inner = 1: a row is one observation
//   logitcrossentropy_forward_planes  a row is a tile of at most `tile` observations; `work` (rows, 3, tile)
//
// Either `labels` or `targets` is given. loss and slope are written (=). A label that is no class makes the loss NaN.
#include "flux.h"

DEVICE ACC below(ACC x, ACC top) { return x == top ? 0 : x - top; }

// q of class c; `at` is where its target lies.
DEVICE ACC share(const T* targets, long long at, bool hit, const ACC* weight, int c, ACC smoothing, int width) {
    const ACC t = targets ? ACC(targets[at]) : ACC(hit);
    const ACC q = (1 - smoothing) * t + smoothing / width;
    return weight ? weight[c] * q : q;
}

KERNEL(logitcrossentropy_forward)(const T* __restrict__ x, OPTIONAL const long long* __restrict__ labels,
                                  OPTIONAL const T* __restrict__ targets, OPTIONAL const ACC* __restrict__ weight,
                                  T* __restrict__ slope, ACC* __restrict__ loss, ACC smoothing, ACC scale,
                                  long long rows, int width) {
    ROWS(r, rows, width) {
        const T* from = x + r * width;
        T* to = slope + r * width;
        ACC top = -INFINITY, sum = 0;
        LANES_MAX(top, j, width) top = f_max(ACC(from[j]), top);
        top = row_max(top);
        LANES_SUM(sum, j, width) {
            const ACC e = f_exp(below(ACC(from[j]), top));
            to[j] = T(e);
            sum += e;
        }
        sum = row_sum(sum);
        const long long label = labels ? labels[r] : 0;
        const bool known = label >= 0 && label < width;
        ACC total = 1, fit = 0;
        if (targets || weight || smoothing != 0) {
            total = 0;
            LANES_SUM(total, j, width) total += share(targets, r * width + j, j == label, weight, j, smoothing, width);
            total = row_sum(total);
            LANES_SUM(fit, j, width) {
                const ACC q = share(targets, r * width + j, j == label, weight, j, smoothing, width);
                fit += q == 0 ? 0 : q * below(ACC(from[j]), top);
            }
            fit = row_sum(fit);
            LANES(j, width) {
                const ACC q = share(targets, r * width + j, j == label, weight, j, smoothing, width);
                to[j] = T(scale * (ACC(to[j]) / sum * total - q));
            }
        } else {
            if (known) fit = below(ACC(from[label]), top);
            const ACC factor = scale / sum;
            LANES(j, width) to[j] = T(ACC(to[j]) * factor - (j == label ? scale : 0));
        }
        ONE_LANE loss[r] = known ? scale * (total * f_log(sum) - fit) : ACC(NAN);
    }
}

KERNEL(logitcrossentropy_forward_planes)(const T* __restrict__ x, OPTIONAL const long long* __restrict__ labels,
                                         OPTIONAL const T* __restrict__ targets,
                                         OPTIONAL const ACC* __restrict__ weight, T* __restrict__ slope,
                                         ACC* __restrict__ loss, ACC* __restrict__ work, ACC smoothing, ACC scale,
                                         long long rows, int width, long long inner, int tile) {
    ROWS(r, rows, width * (long long)tile) {
        const long long tiles = (inner + tile - 1) / tile, first = r % tiles * tile;
        const int count = (int)(inner - first < tile ? inner - first : tile);
        const long long start = r / tiles * width * inner + first, seen = r / tiles * inner + first;
        ACC* top = work + r * 3 * tile;
        ACC* sum = top + tile;
        ACC* fit = sum + tile;
        LANES(i, count) {
            top[i] = ACC(x[start + i]);
            sum[i] = 0;
        }
        for (int c = 1; c < width; ++c) LANES(i, count) top[i] = f_max(ACC(x[start + c * inner + i]), top[i]);
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const ACC e = f_exp(below(ACC(x[start + c * inner + i]), top[i]));
            slope[start + c * inner + i] = T(e);
            sum[i] += e;
        }
        if (targets || weight || smoothing != 0) {
            LANES(i, count) loss[seen + i] = fit[i] = 0;             // sum(q), sum(q z)
            for (int c = 0; c < width; ++c) LANES(i, count) {
                const long long at = start + c * inner + i;
                const ACC q = share(targets, at, labels && labels[seen + i] == c, weight, c, smoothing, width);
                loss[seen + i] += q;
                fit[i] += q == 0 ? 0 : q * below(ACC(x[at]), top[i]);
            }
            for (int c = 0; c < width; ++c) LANES(i, count) {
                const long long at = start + c * inner + i;
                const ACC q = share(targets, at, labels && labels[seen + i] == c, weight, c, smoothing, width);
                slope[at] = T(scale * (ACC(slope[at]) / sum[i] * loss[seen + i] - q));
            }
        } else {
            LANES(i, count) fit[i] = scale / sum[i];
            for (int c = 0; c < width; ++c) LANES(i, count) {
                const long long at = start + c * inner + i;
                slope[at] = T(ACC(slope[at]) * fit[i]);
            }
            LANES(i, count) {
                const long long label = labels[seen + i];
                const bool known = label >= 0 && label < width;
                const long long at = start + (known ? label : 0) * inner + i;
                slope[at] = T(ACC(slope[at]) - (known ? scale : 0));
                loss[seen + i] = 1;
                fit[i] = below(ACC(x[at]), top[i]);
            }
        }
        LANES(i, count) {
            const long long label = labels ? labels[seen + i] : 0;
            const ACC l = scale * (loss[seen + i] * f_log(sum[i]) - fit[i]);
            loss[seen + i] = label >= 0 && label < width ? l : ACC(NAN);
        }
    }
}
