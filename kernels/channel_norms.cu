// channel_norms.cu -- batch, instance and group normalisation (minitorch_flux/ops/channel_norms.py).
//
// x and y are (batch, channels, inner). With the statistics of what x[n,c,i] belongs to, a channel or a group,
//     v = (x - mean) rstd,  z = w[c] v + b[c],  y = act(z)
// w, b, dw and db have the dtype of the sums; w and b may both be None (1 and 0). The mean is kept as the sum of two numbers,
// as if it had twice the digits: of an x that is small beside its mean nothing is lost. `stats` (4, rows) are the rows mean,
// rest of the mean, variance, rstd.
// Backward kernels compute z again from x, so that neither z nor y is kept.
//
//   batch_norm_forward       y and stats                            rows = channels
//   batch_norm_backward      dx, dw, db                             rows = channels; `share` is 1 / numbers in a channel,
//                                                                   or 0 where the statistics do not depend on x
//   fixed_norm_forward       y, with given stats                    rows = batch * channels
//   group_norm_forward       y and stats                            rows = batch * groups
//   group_norm_backward      dx, and dz v and dz of every line      rows = batch * groups
//                            added up, sums (2, batch, channels)
//   group_norm_sums          dw, db: the sums over the batch        rows = channels
//   ..._last                 the same for inner = 1                 rows = tiles of channels; fixed_norm: rows = batch
//
// All outputs are written (=).
#include "flux.h"
#include "activations.h"
// constants: ACT=identity FROM_OUTPUT=1
// constants: ACT=relu FROM_OUTPUT=1
// constants: ACT=tanh FROM_OUTPUT=1
// constants: ACT=gelu FROM_OUTPUT=0

struct Statistics { ACC mean, rest, var; };

DEVICE void keep(ACC* stats, long long r, long long rows, Statistics of, ACC rstd) {
    stats[r] = of.mean;
    stats[rows + r] = of.rest;
    stats[2 * rows + r] = of.var;
    stats[3 * rows + r] = rstd;
}

// dz = dy act'(z)
DEVICE ACC pulled(ACC dy, ACC z, ACC p) { return act::ACT::df(dy, FROM_OUTPUT ? act::ACT::f(z, p) : z, p); }

// Of `lines` lines of `width` numbers, `step` apart. The sums are of differences from a first guess, the mean of an eighth
// of the lines: it lies so near that one pass loses no digits, whatever the numbers are.
DEVICE Statistics statistics(const T* __restrict__ x, int lines, long long step, int width) {
    const int some = lines / 8 + 1;
    ACC sum = 0, first = 0, second = 0;
    for (int n = 0; n < some; ++n) {
        const T* from = x + n * step;
        ACC s = 0;
        LANES_SUM(s, i, width) s += ACC(from[i]);
        sum += s;
    }
    const ACC mean = row_sum(sum) / (ACC(some) * ACC(width)), count = ACC(lines) * ACC(width);
    for (int n = 0; n < lines; ++n) {
        const T* from = x + n * step;
        ACC s = 0, t = 0;
        LANES_SUMS(s, t, i, width) {
            const ACC d = ACC(from[i]) - mean;
            s += d;
            t += d * d;
        }
        first += s;
        second += t;
    }
    const ACC rest = row_sum(first) / count;
    return {mean, rest, f_max(row_sum(second) / count - rest * rest, ACC(0))};
}

KERNEL(batch_norm_forward)(const T* __restrict__ x, OPTIONAL const ACC* w, OPTIONAL const ACC* b, T* __restrict__ y,
                           ACC* __restrict__ stats, ACC eps, ACC p, int batch, int channels, int inner) {
    ROWS(c, channels, (long long)batch * inner) {
        const long long step = (long long)channels * inner;
        const Statistics of = statistics(x + c * inner, batch, step, inner);
        const ACC rstd = 1 / f_sqrt(of.var + eps);
        ONE_LANE keep(stats, c, channels, of, rstd);
        const ACC mean = of.mean, rest = of.rest, scale = w ? w[c] : 1, shift = w ? b[c] : 0;
        for (int n = 0; n < batch; ++n) {
            const long long line = n * step + c * inner;
            LANES(i, inner) y[line + i] = T(act::ACT::f((ACC(x[line + i]) - mean - rest) * rstd * scale + shift, p));
        }
    }
}

KERNEL(batch_norm_backward)(const T* __restrict__ dy, const T* __restrict__ x, OPTIONAL const ACC* w, OPTIONAL const ACC* b,
                            const ACC* __restrict__ stats, OPTIONAL T* __restrict__ dx, ACC* __restrict__ dw,
                            ACC* __restrict__ db, ACC share, ACC p, int batch, int channels, int inner) {
    ROWS(c, channels, (long long)batch * inner) {
        const long long step = (long long)channels * inner;
        const ACC mean = stats[c], rest = stats[channels + c], rstd = stats[3 * channels + c];
        const ACC scale = w ? w[c] : 1, shift = w ? b[c] : 0;
        ACC sum = 0, dot = 0;
        for (int n = 0; n < batch; ++n) {
            const long long line = n * step + c * inner;
            ACC s = 0, t = 0;
            LANES_SUMS(s, t, i, inner) {
                const ACC v = (ACC(x[line + i]) - mean - rest) * rstd, dz = pulled(ACC(dy[line + i]), v * scale + shift, p);
                s += dz;
                t += dz * v;
            }
            sum += s;
            dot += t;
        }
        sum = row_sum(sum);
        dot = row_sum(dot);
        ONE_LANE {
            dw[c] = dot;
            db[c] = sum;
        }
        if (dx) {
            const ACC factor = rstd * scale, level = share > 0 ? sum * share : 0, slope = share > 0 ? dot * share : 0;
            for (int n = 0; n < batch; ++n) {
                const long long line = n * step + c * inner;
                LANES(i, inner) {
                    const ACC v = (ACC(x[line + i]) - mean - rest) * rstd;
                    const ACC dz = pulled(ACC(dy[line + i]), v * scale + shift, p);
                    dx[line + i] = T(factor * (dz - level - v * slope));
                }
            }
        }
    }
}

KERNEL(fixed_norm_forward)(const T* __restrict__ x, OPTIONAL const ACC* w, OPTIONAL const ACC* b,
                           const ACC* __restrict__ stats, T* __restrict__ y, ACC p, long long rows, int channels, int inner) {
    ROWS(r, rows, inner) {
        const int c = (int)(r % channels);
        const ACC mean = stats[c], rest = stats[channels + c], rstd = stats[3 * channels + c];
        const ACC scale = w ? w[c] : 1, shift = w ? b[c] : 0;
        const long long line = r * inner;
        LANES(i, inner) y[line + i] = T(act::ACT::f((ACC(x[line + i]) - mean - rest) * rstd * scale + shift, p));
    }
}

// ------------------------------------------------------------------ groups of `size` channels, of one sample
KERNEL(group_norm_forward)(const T* __restrict__ x, OPTIONAL const ACC* w, OPTIONAL const ACC* b, T* __restrict__ y,
                           ACC* __restrict__ stats, ACC eps, ACC p, long long rows, int groups, int size, int inner) {
    ROWS(r, rows, (long long)size * inner) {
        const Statistics of = statistics(x + r * size * inner, 1, 0, size * inner);
        const ACC rstd = 1 / f_sqrt(of.var + eps), mean = of.mean, rest = of.rest;
        ONE_LANE keep(stats, r, rows, of, rstd);
        for (int k = 0; k < size; ++k) {
            const int c = (int)(r % groups) * size + k;
            const ACC scale = w ? w[c] : 1, shift = w ? b[c] : 0;
            const long long line = (r * size + k) * inner;
            LANES(i, inner) y[line + i] = T(act::ACT::f((ACC(x[line + i]) - mean - rest) * rstd * scale + shift, p));
        }
    }
}

KERNEL(group_norm_backward)(const T* __restrict__ dy, const T* __restrict__ x, OPTIONAL const ACC* w, OPTIONAL const ACC* b,
                            const ACC* __restrict__ stats, OPTIONAL T* __restrict__ dx, OPTIONAL ACC* __restrict__ sums,
                            ACC p, long long rows, int groups, int size, int inner) {
    ROWS(r, rows, (long long)size * inner) {
        const ACC mean = stats[r], rest = stats[rows + r], rstd = stats[3 * rows + r];
        ACC level = 0, slope = 0;
        for (int k = 0; k < size; ++k) {
            const int c = (int)(r % groups) * size + k;
            const ACC scale = w ? w[c] : 1, shift = w ? b[c] : 0;
            const long long line = (r * size + k) * inner;
            ACC s = 0, t = 0;
            LANES_SUMS(s, t, i, inner) {
                const ACC v = (ACC(x[line + i]) - mean - rest) * rstd, dz = pulled(ACC(dy[line + i]), v * scale + shift, p);
                s += dz;
                t += dz * v;
            }
            s = row_sum(s);
            t = row_sum(t);
            if (sums) {
                ONE_LANE {
                    sums[r * size + k] = t;
                    sums[(rows + r) * size + k] = s;
                }
            }
            level += scale * s;
            slope += scale * t;
        }
        if (dx) {
            level /= ACC(size) * ACC(inner);
            slope /= ACC(size) * ACC(inner);
            for (int k = 0; k < size; ++k) {
                const int c = (int)(r % groups) * size + k;
                const ACC scale = w ? w[c] : 1, shift = w ? b[c] : 0;
                const long long line = (r * size + k) * inner;
                LANES(i, inner) {
                    const ACC v = (ACC(x[line + i]) - mean - rest) * rstd;
                    const ACC dz = pulled(ACC(dy[line + i]), v * scale + shift, p);
                    dx[line + i] = T(rstd * (scale * dz - level - v * slope));
                }
            }
        }
    }
}

KERNEL(group_norm_sums)(const ACC* __restrict__ sums, ACC* __restrict__ dw, ACC* __restrict__ db, int batch, int channels) {
    ROWS(c, channels, batch) {
        const ACC* plain = sums + (long long)batch * channels;
        ACC s = 0, t = 0;
        LANES_SUMS(s, t, n, batch) {
            s += plain[(long long)n * channels + c];
            t += sums[(long long)n * channels + c];
        }
        s = row_sum(s);
        t = row_sum(t);
        ONE_LANE {
            dw[c] = t;
            db[c] = s;
        }
    }
}

// ------------------------------------------------------------------ one number per channel: (batch, channels)
// Row r is a tile of channels: `count` of them from `start` on. Each lane walks through the batch, four lines at a time:
// what it knows of its channel is loaded once for them.
#define TILE(r) const int start = (int)(r) * tile, count = channels - start < tile ? channels - start : tile
#define FOUR_LINES(n, batch, function, ...)                             \
    for (int n = 0; n < (batch);) {                                     \
        if (n + 4 <= (batch)) { function<4>(__VA_ARGS__); n += 4; }     \
        else { function<1>(__VA_ARGS__); n += 1; }                      \
    }

struct Tile { const ACC *mean, *rest, *rstd, *w, *b; int channels, count; };

DEVICE Tile tile_of(const ACC* stats, const ACC* w, const ACC* b, int start, int channels, int count) {
    return {stats + start, stats + channels + start, stats + 3 * channels + start, w ? w + start : w, w ? b + start : b,
            channels, count};
}

// first and second += the differences from the mean and their squares
template <int K> DEVICE void add_lines(Tile t, const T* x, ACC* first, ACC* second) {
    LANES(j, t.count) {
        const ACC mean = t.mean[j];
        ACC sum = 0, squares = 0;
        UNROLL for (int k = 0; k < K; ++k) {
            const ACC d = ACC(x[(long long)k * t.channels + j]) - mean;
            sum += d;
            squares += d * d;
        }
        first[j] += sum;
        second[j] += squares;
    }
}

template <int K> DEVICE void normalise_lines(Tile t, const T* x, T* y, ACC p) {
    LANES(j, t.count) {
        const ACC mean = t.mean[j], rest = t.rest[j], rstd = t.rstd[j];
        const ACC scale = t.w ? t.w[j] : 1, shift = t.w ? t.b[j] : 0;
        UNROLL for (int k = 0; k < K; ++k) {
            const long long i = (long long)k * t.channels + j;
            y[i] = T(act::ACT::f((ACC(x[i]) - mean - rest) * rstd * scale + shift, p));
        }
    }
}

// dots and sums += dz v and dz
template <int K> DEVICE void add_products(Tile t, const T* dy, const T* x, ACC* dots, ACC* sums, ACC p) {
    LANES(j, t.count) {
        const ACC mean = t.mean[j], rest = t.rest[j], rstd = t.rstd[j];
        const ACC scale = t.w ? t.w[j] : 1, shift = t.w ? t.b[j] : 0;
        ACC sum = 0, dot = 0;
        UNROLL for (int k = 0; k < K; ++k) {
            const long long i = (long long)k * t.channels + j;
            const ACC v = (ACC(x[i]) - mean - rest) * rstd, dz = pulled(ACC(dy[i]), v * scale + shift, p);
            sum += dz;
            dot += dz * v;
        }
        sums[j] += sum;
        dots[j] += dot;
    }
}

template <int K> DEVICE void pull_lines(Tile t, const T* dy, const T* x, const ACC* dots, const ACC* sums, T* dx, ACC p) {
    LANES(j, t.count) {
        const ACC mean = t.mean[j], rest = t.rest[j], rstd = t.rstd[j];
        const ACC scale = t.w ? t.w[j] : 1, shift = t.w ? t.b[j] : 0;
        UNROLL for (int k = 0; k < K; ++k) {
            const long long i = (long long)k * t.channels + j;
            const ACC v = (ACC(x[i]) - mean - rest) * rstd, dz = pulled(ACC(dy[i]), v * scale + shift, p);
            dx[i] = T(rstd * scale * (dz - sums[j] - v * dots[j]));
        }
    }
}

KERNEL(batch_norm_forward_last)(const T* __restrict__ x, OPTIONAL const ACC* w, OPTIONAL const ACC* b, T* __restrict__ y,
                                ACC* __restrict__ stats, ACC eps, ACC p, int batch, int channels, int tile) {
    ROWS(r, (channels + tile - 1) / tile, (long long)batch * tile) {
        TILE(r);
        ACC *mean = stats + start, *rest = mean + channels, *var = rest + channels, *rstd = var + channels;
        const int some = batch / 8 + 1;
        LANES(j, count) mean[j] = rest[j] = var[j] = 0;
        for (int n = 0; n < some; ++n) LANES(j, count) mean[j] += ACC(x[(long long)n * channels + start + j]);
        LANES(j, count) mean[j] /= ACC(some);
        const Tile t = tile_of(stats, w, b, start, channels, count);
        FOUR_LINES(n, batch, add_lines, t, x + (long long)n * channels + start, rest, var)
        LANES(j, count) {
            const ACC d = rest[j] / ACC(batch), v = f_max(var[j] / ACC(batch) - d * d, ACC(0));
            rest[j] = d;
            var[j] = v;
            rstd[j] = 1 / f_sqrt(v + eps);
        }
        FOUR_LINES(n, batch, normalise_lines, t, x + (long long)n * channels + start, y + (long long)n * channels + start, p)
    }
}

// `work` (2, channels) holds the sums of dz v and of dz.
KERNEL(batch_norm_backward_last)(const T* __restrict__ dy, const T* __restrict__ x, OPTIONAL const ACC* w,
                                 OPTIONAL const ACC* b, const ACC* __restrict__ stats, ACC* __restrict__ work,
                                 OPTIONAL T* __restrict__ dx, ACC* __restrict__ dw, ACC* __restrict__ db, ACC share, ACC p,
                                 int batch, int channels, int tile) {
    ROWS(r, (channels + tile - 1) / tile, (long long)batch * tile) {
        TILE(r);
        ACC *dots = work + start, *sums = dots + channels;
        const Tile t = tile_of(stats, w, b, start, channels, count);
        LANES(j, count) dots[j] = sums[j] = 0;
        FOUR_LINES(n, batch, add_products, t, dy + (long long)n * channels + start, x + (long long)n * channels + start, dots,
                   sums, p)
        LANES(j, count) {
            dw[start + j] = dots[j];
            db[start + j] = sums[j];
        }
        if (share > 0) {
            LANES(j, count) {
                dots[j] *= share;
                sums[j] *= share;
            }
        } else {
            LANES(j, count) dots[j] = sums[j] = 0;
        }
        if (dx) {
            FOUR_LINES(n, batch, pull_lines, t, dy + (long long)n * channels + start, x + (long long)n * channels + start, dots,
                       sums, dx + (long long)n * channels + start, p)
        }
    }
}

KERNEL(fixed_norm_forward_last)(const T* __restrict__ x, OPTIONAL const ACC* w, OPTIONAL const ACC* b,
                                const ACC* __restrict__ stats, T* __restrict__ y, ACC p, long long rows, int channels) {
    ROWS(r, rows, channels) normalise_lines<1>(tile_of(stats, w, b, 0, channels, channels), x + r * channels,
                                               y + r * channels, p);
}
