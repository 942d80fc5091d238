// recurrences.cu -- recurrent layers over whole sequences (minitorch_flux/ops/recurrences.py, where the formulas are).
//
// The sequences of a batch have nothing to do with each other: a row is a sequence with all its steps. On the CPU a
// thread walks its sequences side by side, so that the weights are read once for all of them; on a GPU each has a block.
//
// Arrays are [T, N, K] in the order of time; states and cells [T + 1, N, H], the one before a step and the one after
// it. reverse: from the last step to the first. mask [T, N]: where it is false the state stays, and gates are 0. every: whether the
// gates and cells of all steps are kept; else gates is [N, K] and cells [N, H], where the cell is replaced.
//
// A product a B reads B [K, n] as `pack` leaves it: [panels, K, PANEL], the columns of a panel side by side, the last
// panel filled up with zeros. Without B (None) the caller has done the product: forward its result is in the gates (in
// the states of rnn); backward it is the caller's.
//
//   pack                    B[k, j] = w[k, j], or w[j, k] when turned
//   rnn_sequence            z = gx + h B, h' = relu ? max(z, 0) : tanh(z)
//   rnn_sequence_backward   dgx, dh
//   lstm_sequence           gates (sigmoid i, sigmoid f, tanh g, sigmoid o), cells, states; with B_in, gx is x [T, N, I]
//                           and the gates' inputs are x B_in + b
//   lstm_sequence_backward  dgx, dh, dc; with B_in also dx
//   gru_sequence            gates (r, z, n, inner), states; inner = h B_n + b_n, or with B_new (gruv3) r h
//   gru_sequence_backward   dgx, dh, and dgh, the gradient of h B + b (not with B_new, where it is dgx)
//
// Outputs are written (=). dh and dc [N, H] come as the gradients of the last state and leave as those of the first.
#include "products.h"

#define MOST 32                          // sequences that are walked side by side
#ifdef FLUX_CPU
#define SEQUENCES(r) (r##_end - r < MOST ? (int)(r##_end - r) : MOST)
#else
#define SEQUENCES(r) 1
#endif

// out[m] = a[m] B for m < count, added to out when `more`; a has K columns, out n.
DEVICE void product(int count, const T* a, long long a_step, int K, const T* B, T* out, long long out_step, int n, bool more) {
    for (int j = 0; j < n; j += PANEL)
        panel_product(count, a, a_step, K, B + (long long)j * K, out + j, out_step, n - j < PANEL ? n - j : PANEL, more);
    ROW_SYNC();
}

KERNEL(pack)(const T* __restrict__ w, T* __restrict__ B, int K, int n, bool turned) {
    ROWS(r, (long long)PANELS(n) * PARTS_OF(K), 2 * PANEL * VL) {
        const int p = (int)(r / PARTS_OF(K)), first = (int)(r % PARTS_OF(K)) * VL;
        pack_part(w, B + (long long)p * PANEL * K, p, first, K, n, turned);
    }
}

// -- what all have in common

#define WORK(gates) ((long long)steps * H * ((gates) * (long long)H / 16 + 64))

DEVICE ACC sigmoid_of(ACC x) { return 1 / (1 + f_exp(-x)); }

struct Step { int t; long long from, to; };      // which step, and where the states before and after it lie
DEVICE Step step_of(int s, int steps, bool reverse, long long size) {
    const int t = reverse ? steps - 1 - s : s;
    return {t, (reverse ? t + 1 : t) * size, (reverse ? t : t + 1) * size};
}

DEVICE void copy(const T* from, T* to, int n) { LANES(j, n) to[j] = from[j]; }
DEVICE void clear(T* to, int n) { LANES(j, n) to[j] = T(0); }

// -- rnn

KERNEL(rnn_sequence)(const T* __restrict__ gx, const T* __restrict__ OPTIONAL B, T* states, const bool* OPTIONAL mask,
                     int steps, int N, int H, bool reverse, bool relu) {
    ROWS(r, N, WORK(1)) {
        const int count = SEQUENCES(r);
        for (int s = 0; s < steps; ++s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.from + r * H, *x = gx + first * H;
            T* h_next = states + at.to + r * H;
            if (B) product(count, h, H, H, B, h_next, H, H, false);
            for (int m = 0; m < count; ++m, h += H, x += H, h_next += H) {
                if (!mask || mask[first + m]) {
                    LANES(j, H) {
                        const ACC z = ACC(x[j]) + ACC(h_next[j]), v = f_tanh(z);
                        h_next[j] = T(!relu ? v : z < 0 ? ACC(0) : z);
                    }
                } else {
                    copy(h, h_next, H);
                }
            }
            ROW_SYNC();
        }
        r += count - 1;
    }
}

KERNEL(rnn_sequence_backward)(const T* __restrict__ OPTIONAL dy, const T* __restrict__ OPTIONAL B,
                              const T* __restrict__ states, const bool* OPTIONAL mask, T* dgx, T* dh, int steps, int N,
                              int H, bool reverse, bool relu) {
    ROWS(r, N, WORK(1)) {
        const int count = SEQUENCES(r);
        for (int s = steps - 1; s >= 0; --s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.to + r * H, *d = dy + (dy ? first * H : 0);
            T *dz = dgx + first * H, *dh_row = dh + r * H;
            for (int m = 0; m < count; ++m, h += H, dz += H, dh_row += H, d += dy ? H : 0) {
                if (!mask || mask[first + m]) {
                    LANES(j, H) {
                        const ACC v = ACC(h[j]), g = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0);
                        dz[j] = T(relu ? (v > 0 ? g : 0) : g * (1 - v * v));
                        dh_row[j] = T(0);
                    }
                } else {
                    clear(dz, H);
                }
            }
            ROW_SYNC();
            if (B) product(count, dgx + first * H, H, H, B, dh + r * H, H, H, true);
        }
        r += count - 1;
    }
}

// -- lstm

KERNEL(lstm_sequence)(const T* __restrict__ gx, const T* __restrict__ OPTIONAL B_in, const T* __restrict__ OPTIONAL b,
                      const T* __restrict__ OPTIONAL B, T* states, T* cells, T* gates, const bool* OPTIONAL mask, int steps,
                      int N, int I, int H, bool reverse, bool every) {
    ROWS(r, N, WORK(4)) {
        const int count = SEQUENCES(r), width = 4 * H;
        for (int s = 0; s < steps; ++s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.from + r * H, *c = cells + every * at.from + r * H;
            const T* x = B_in ? b : gx + first * width;
            T *h_next = states + at.to + r * H, *c_next = cells + every * at.to + r * H;
            T* z = gates + (every ? first : r) * width;
            if (B_in) product(count, gx + first * I, I, I, B_in, z, width, width, false);
            if (B) product(count, h, H, H, B, z, width, width, B_in);
            for (int m = 0; m < count; ++m, h += H, c += H, h_next += H, c_next += H, x += B_in ? 0 : width, z += width) {
                if (!mask || mask[first + m]) {
                    LANES(j, H) {
                        const ACC xi = x ? ACC(x[j]) : 0, xf = x ? ACC(x[H + j]) : 0, xg = x ? ACC(x[2 * H + j]) : 0;
                        const ACC xo = x ? ACC(x[3 * H + j]) : 0;
                        const ACC i = sigmoid_of(xi + ACC(z[j])), f = sigmoid_of(xf + ACC(z[H + j]));
                        const ACC g = f_tanh(xg + ACC(z[2 * H + j])), o = sigmoid_of(xo + ACC(z[3 * H + j]));
                        const ACC v = f * ACC(c[j]) + i * g;
                        z[j] = T(i), z[H + j] = T(f), z[2 * H + j] = T(g), z[3 * H + j] = T(o);
                        c_next[j] = T(v), h_next[j] = T(o * f_tanh(v));
                    }
                } else {
                    LANES(j, H) c_next[j] = c[j], h_next[j] = h[j];
                    clear(z, width);
                }
            }
            ROW_SYNC();
        }
        r += count - 1;
    }
}

KERNEL(lstm_sequence_backward)(const T* __restrict__ OPTIONAL dy, const T* __restrict__ OPTIONAL B_in,
                               const T* __restrict__ OPTIONAL B, const T* __restrict__ cells, const T* __restrict__ gates,
                               const bool* OPTIONAL mask, T* OPTIONAL dx, T* dgx, T* dh, T* dc, int steps, int N, int I, int H,
                               bool reverse) {
    ROWS(r, N, WORK(4)) {
        const int count = SEQUENCES(r), width = 4 * H;
        for (int s = steps - 1; s >= 0; --s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *c = cells + at.from + r * H, *c_next = cells + at.to + r * H, *z = gates + first * width;
            const T* d = dy + (dy ? first * H : 0);
            T *dz = dgx + first * width, *dh_row = dh + r * H, *dc_row = dc + r * H;
            for (int m = 0; m < count; ++m, d += dy ? H : 0) {
                if (!mask || mask[first + m]) {
                    LANES(j, H) {
                        const ACC i = ACC(z[j]), f = ACC(z[H + j]), g = ACC(z[2 * H + j]), o = ACC(z[3 * H + j]);
                        const ACC v = f_tanh(ACC(c_next[j])), dhj = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0);
                        const ACC dcj = ACC(dc_row[j]) + dhj * o * (1 - v * v);
                        dz[j] = T(dcj * g * i * (1 - i)), dz[H + j] = T(dcj * ACC(c[j]) * f * (1 - f));
                        dz[2 * H + j] = T(dcj * i * (1 - g * g)), dz[3 * H + j] = T(dhj * v * o * (1 - o));
                        dc_row[j] = T(dcj * f), dh_row[j] = T(0);
                    }
                } else {
                    clear(dz, width);
                }
                c += H, c_next += H, dh_row += H, dc_row += H, z += width, dz += width;
            }
            ROW_SYNC();
            if (B) product(count, dgx + first * width, width, width, B, dh + r * H, H, H, true);
            if (B_in) product(count, dgx + first * width, width, width, B_in, dx + first * I, I, I, false);
        }
        r += count - 1;
    }
}

// -- gru

KERNEL(gru_sequence)(const T* __restrict__ gx, const T* __restrict__ OPTIONAL B, const T* __restrict__ OPTIONAL B_new,
                     const T* __restrict__ OPTIONAL b, T* states, T* gates, const bool* OPTIONAL mask, int steps, int N, int H,
                     bool reverse, bool every) {
    ROWS(r, N, WORK(3)) {
        const int count = SEQUENCES(r), width = 4 * H, columns = B_new ? 2 * H : 3 * H;
        for (int s = 0; s < steps; ++s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.from + r * H, *x = gx + first * 3 * H;
            T *h_next = states + at.to + r * H, *z = gates + (every ? first : r) * width;
            if (B) product(count, h, H, H, B, z, width, columns, false);
            if (B_new) {
                for (int m = 0; m < count; ++m) {
                    T* v = z + m * (long long)width;
                    const T *hm = h + m * (long long)H, *xm = x + m * 3LL * H;
                    LANES(j, H) v[3 * H + j] = T(sigmoid_of(ACC(xm[j]) + ACC(v[j]) + (b ? ACC(b[j]) : 0)) * ACC(hm[j]));
                }
                ROW_SYNC();
                product(count, z + 3 * H, width, H, B_new, z + 2 * H, width, H, false);
            }
            for (int m = 0; m < count; ++m, h += H, h_next += H, x += 3 * H, z += width) {
                if (!mask || mask[first + m]) {
                    LANES(j, H) {
                        const ACC br = b ? ACC(b[j]) : 0, bz = b ? ACC(b[H + j]) : 0, bn = b ? ACC(b[2 * H + j]) : 0;
                        const ACC rj = sigmoid_of(ACC(x[j]) + ACC(z[j]) + br), u = sigmoid_of(ACC(x[H + j]) + ACC(z[H + j]) + bz);
                        const ACC inner = ACC(z[2 * H + j]) + bn, xn = ACC(x[2 * H + j]);
                        const ACC n = f_tanh(xn + (B_new ? inner : rj * inner));
                        z[j] = T(rj), z[H + j] = T(u), z[2 * H + j] = T(n);
                        z[3 * H + j] = B_new ? z[3 * H + j] : T(inner);
                        h_next[j] = T(n + u * (ACC(h[j]) - n));
                    }
                } else {
                    copy(h, h_next, H);
                    clear(z, width);
                }
            }
            ROW_SYNC();
        }
        r += count - 1;
    }
}

// The gradient g of h': dn' = g (1 - z) (1 - n^2), dz' = g (h - n) z (1 - z), before the nonlinearities.
KERNEL(gru_sequence_backward)(const T* __restrict__ OPTIONAL dy, const T* __restrict__ OPTIONAL B,
                              const T* __restrict__ OPTIONAL B_new, const T* __restrict__ states, const T* __restrict__ gates,
                              const bool* OPTIONAL mask, T* dgx, T* OPTIONAL dgh, T* dh, int steps, int N, int H, bool reverse) {
    ROWS(r, N, WORK(3)) {
        const int count = SEQUENCES(r), width = 3 * H;
        for (int s = steps - 1; s >= 0; --s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            for (int m = 0; m < count; ++m) {
                const long long row = first + m;
                const T *h = states + at.from + (r + m) * H, *z = gates + row * 4 * H, *d = dy + (dy ? row * H : 0);
                T *dx = dgx + row * width, *dz = dgh + (dgh ? row * width : 0), *dh_row = dh + (r + m) * H;
                if (mask && !mask[row]) {
                    clear(dx, width);
                    if (dgh) clear(dz, width);
                } else if (B_new) {
                    LANES(j, H) {
                        const ACC g = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0), u = ACC(z[H + j]), n = ACC(z[2 * H + j]);
                        dx[H + j] = T(g * (ACC(h[j]) - n) * u * (1 - u));
                        dx[2 * H + j] = T(g * (1 - u) * (1 - n * n));
                        dh_row[j] = T(g * u);
                    }
                } else {
                    LANES(j, H) {
                        const ACC g = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0), rj = ACC(z[j]), u = ACC(z[H + j]);
                        const ACC n = ACC(z[2 * H + j]), dn = g * (1 - u) * (1 - n * n);
                        const ACC dr = dn * ACC(z[3 * H + j]) * rj * (1 - rj), du = g * (ACC(h[j]) - n) * u * (1 - u);
                        dx[j] = dz[j] = T(dr), dx[H + j] = dz[H + j] = T(du);
                        dx[2 * H + j] = T(dn), dz[2 * H + j] = T(dn * rj);
                        dh_row[j] = T(g * u);
                    }
                }
            }
            ROW_SYNC();
            T *dx = dgx + first * width, *dh_rows = dh + r * H;
            if (B_new) {
                product(count, dx + 2 * H, width, H, B_new, dx, width, H, false);      // of r h
                for (int m = 0; m < count; ++m) {
                    const T *h = states + at.from + (r + m) * H, *z = gates + (first + m) * 4 * H;
                    T *drh = dx + m * (long long)width, *dh_row = dh_rows + m * (long long)H;
                    if (!mask || mask[first + m]) LANES(j, H) {
                        const ACC v = ACC(drh[j]), rj = ACC(z[j]);
                        drh[j] = T(v * ACC(h[j]) * rj * (1 - rj));
                        dh_row[j] = T(ACC(dh_row[j]) + v * rj);
                    }
                }
                ROW_SYNC();
                product(count, dx, width, 2 * H, B, dh_rows, H, H, true);
            } else if (B) {
                product(count, dgh + first * width, width, width, B, dh_rows, H, H, true);
            }
        }
        r += count - 1;
    }
}
