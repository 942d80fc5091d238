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
// Either `labels` or `targets` is given. loss and slope, of the dtype of sums, are written (=). A label that is no class
// makes the loss NaN.
#include "exponentials.h"

DEVICE ACC weight_of(const ACC* weight, long long c) { return weight ? weight[c] : 1; }
DEVICE Vec weights_of(const ACC* weight, int j, int n) { return weight ? vec_load(weight + j, n) : Vec{} + ACC(1); }
DEVICE Vec product(Vec q, Vec z) { return q == 0 ? Vec{} : q * z; }

KERNEL(logitcrossentropy_forward)(const T* __restrict__ x, OPTIONAL const long long* __restrict__ labels,
                                  OPTIONAL const ACC* __restrict__ targets, OPTIONAL const ACC* __restrict__ weight,
                                  ACC* __restrict__ slope, ACC* __restrict__ loss, ACC smoothing, ACC scale,
                                  long long rows, int width) {
    ROWS(r, rows, 4LL * width) {
        const T* from = x + r * width;
        ACC* to = slope + r * width;
        Vec tops = Vec{} - INFINITY, sums = {}, totals = {}, fits = {};     // totals of q, fits of q z
        parts(width, [&](int j, int n) { tops = larger(vec_first(vec_load(from + j, n), n, -INFINITY), tops); });
        const ACC top = row_max(vec_larger(tops));           // it passes over a NaN, which the sum has
        parts(width, [&](int j, int n) {
            const Vec e = vec_first(exp_low(below(vec_load(from + j, n), top)), n, 0);
            vec_store(to + j, e, n);
            sums += e;
        });
        const ACC sum = row_sum(vec_sum(sums)), keep = 1 - smoothing, even = smoothing / width;
        const long long label = labels ? labels[r] : 0;
        const bool known = label >= 0 && label < width;
        ACC total = 0, fit = 0;
        if (targets) {
            const ACC* t = targets + r * width;
            parts(width, [&](int j, int n) {
                const Vec q = vec_first(weights_of(weight, j, n) * (keep * vec_load(t + j, n) + even), n, 0);
                totals += q;
                fits += product(q, below(vec_load(from + j, n), top));
            });
            total = row_sum(vec_sum(totals));
            fit = row_sum(vec_sum(fits));
            const ACC factor = total / sum;
            parts(width, [&](int j, int n) {
                const Vec q = weights_of(weight, j, n) * (keep * vec_load(t + j, n) + even);
                vec_store(to + j, scale * (vec_load(to + j, n) * factor - q), n);
            });
        } else {                                             // q is `hit` more at the label than elsewhere
            if (smoothing != 0) {
                parts(width, [&](int j, int n) {
                    const Vec q = vec_first(weights_of(weight, j, n) * even, n, 0);
                    totals += q;
                    fits += product(q, below(vec_load(from + j, n), top));
                });
                total = row_sum(vec_sum(totals));
                fit = row_sum(vec_sum(fits));
            }
            const ACC hit = known ? weight_of(weight, label) * keep : 0;
            total += hit;
            fit += hit == 0 ? 0 : hit * below(ACC(from[label]), top);
            const ACC factor = scale * total / sum, least = scale * even;
            const int at = known ? (int)label : -1;
            parts(width, [&](int j, int n) {
                const Vec q = weights_of(weight, j, n) * least;
                vec_store(to + j, vec_load(to + j, n) * factor - (vec_index() == at - j ? q + scale * hit : q), n);
            });
        }
        ONE_LANE loss[r] = known ? scale * (total * f_log(sum) - fit) : ACC(NAN);
    }
}

KERNEL(logitcrossentropy_forward_planes)(const T* __restrict__ x, OPTIONAL const long long* __restrict__ labels,
                                         OPTIONAL const ACC* __restrict__ targets,
                                         OPTIONAL const ACC* __restrict__ weight, ACC* __restrict__ slope,
                                         ACC* __restrict__ loss, ACC* __restrict__ work, ACC smoothing, ACC scale,
                                         long long rows, int width, long long inner, int tile) {
    ROWS(r, rows, 4LL * width * tile) {
        const long long tiles = (inner + tile - 1) / tile, first = r % tiles * tile;
        const int count = (int)(inner - first < tile ? inner - first : tile);
        const long long start = r / tiles * width * inner + first, seen = r / tiles * inner + first;
        ACC* top = work + r * 3 * tile;
        ACC* sum = top + tile;
        ACC* fit = sum + tile;                               // sum(q z); total = sum(q) lies in loss for a while
        ACC* total = loss + seen;
        const ACC keep = 1 - smoothing, even = smoothing / width;
        LANES(i, count) {
            top[i] = ACC(x[start + i]);
            sum[i] = fit[i] = total[i] = 0;
        }
        for (int c = 1; c < width; ++c) LANES(i, count) top[i] = larger(ACC(x[start + c * inner + i]), top[i]);
        for (int c = 0; c < width; ++c) LANES(i, count) {
            const ACC e = exp_low(below(ACC(x[start + c * inner + i]), top[i]));
            slope[start + c * inner + i] = e;
            sum[i] += e;
        }
        if (targets) {
            for (int c = 0; c < width; ++c) {
                const ACC w = weight_of(weight, c);
                LANES(i, count) {
                    const long long at = start + c * inner + i;
                    const ACC q = w * (keep * targets[at] + even);
                    total[i] += q;
                    fit[i] += q == 0 ? 0 : q * below(ACC(x[at]), top[i]);
                }
            }
            for (int c = 0; c < width; ++c) {
                const ACC w = weight_of(weight, c);
                LANES(i, count) {
                    const long long at = start + c * inner + i;
                    slope[at] = scale * (slope[at] / sum[i] * total[i] - w * (keep * targets[at] + even));
                }
            }
            LANES(i, count) total[i] = scale * (total[i] * f_log(sum[i]) - fit[i]);
        } else {
            if (smoothing != 0) for (int c = 0; c < width; ++c) {
                const ACC q = weight_of(weight, c) * even;
                LANES(i, count) {
                    total[i] += q;
                    fit[i] += q == 0 ? 0 : q * below(ACC(x[start + c * inner + i]), top[i]);
                }
            }
            LANES(i, count) {                                // top becomes the factor, fit the share of the label
                const long long label = labels[seen + i];
                const bool known = label >= 0 && label < width;
                const ACC hit = known ? weight_of(weight, label) * keep : 0;
                const ACC t = total[i] + hit;
                const ACC f = fit[i] + (hit == 0 ? 0 : hit * below(ACC(x[start + label * inner + i]), top[i]));
                total[i] = known ? scale * (t * f_log(sum[i]) - f) : ACC(NAN);
                top[i] = scale * t / sum[i];
                fit[i] = scale * hit;
            }
            for (int c = 0; c < width; ++c) {
                const ACC q = scale * weight_of(weight, c) * even;
                LANES(i, count) {
                    const long long at = start + c * inner + i;
                    slope[at] = slope[at] * top[i] - q;
                }
            }
            LANES(i, count) {
                const long long label = labels[seen + i];
                if (label >= 0 && label < width) {
                    const long long at = start + label * inner + i;
                    slope[at] -= fit[i];
                }
            }
        }
    }
}
