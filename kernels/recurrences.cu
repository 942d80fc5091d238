// recurrences.cu -- recurrent layers over whole sequences (minitorch_flux/ops/recurrences.py, where the formulas are).
//
// The sequences of a batch have nothing to do with each other: a row is a sequence with all its steps. On the CPU a
// thread walks its sequences side by side, so that the weights are read once for all of them; on a GPU each has a block.
// Few sequences (`team`) are walked by all of a CPU's threads together: each has some of the units, with all their gates, so
// that its part of the weights stays in its own cache, and after a step they wait for each other.
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

// The units first..first + count - 1, of one part of a team.
struct Units { int first, count; };
DEVICE Units units_of(int H) {
    const int blocks = (H + 15) / 16, part = TEAM_PART, parts = TEAM_PARTS;    // whole registers, as far as there are
    const int first = 16 * (int)((long long)blocks * part / parts), end = 16 * (int)((long long)blocks * (part + 1) / parts);
    return {first, (end < H ? end : H) - (first < H ? first : H)};
}

// Columns u of each group of H columns: out[m] = a[m] B for m < count, added to out when `more`; a has K columns.
DEVICE void product(int count, const T* a, long long a_step, int K, const T* B, T* out, long long out_step, int groups, int H,
                    Units u, bool more) {
    if (u.count == H) u.count *= groups, groups = 1;
    for (int g = 0; g < groups; ++g) {
        for (int j = g * H + u.first, end = j + u.count; j < end;) {
            const int at = j % PANEL, n = end - j < PANEL - at ? end - j : PANEL - at;
            panel_product(count, a, a_step, K, B + (long long)(j - at) * K + at, out + j, out_step, n, more);
            j += n;
        }
    }
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
                     int steps, int N, int H, bool reverse, bool relu, bool team) {
    TEAM(team);
    const Units u = units_of(H);
    ROWS(r, N, WORK(1)) {
        const int count = SEQUENCES(r);
        for (int s = 0; s < steps; ++s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.from + r * H, *x = gx + first * H;
            T* h_next = states + at.to + r * H;
            if (B) product(count, h, H, H, B, h_next, H, 1, H, u, false);
            ROW_SYNC();
            h += u.first, x += u.first, h_next += u.first;
            for (int m = 0; m < count; ++m, h += H, x += H, h_next += H) {
                if (!mask || mask[first + m]) {
                    LANES(j, u.count) {
                        const ACC z = ACC(x[j]) + ACC(h_next[j]), v = f_tanh(z);
                        h_next[j] = T(!relu ? v : z < 0 ? ACC(0) : z);
                    }
                } else {
                    copy(h, h_next, u.count);
                }
            }
            TEAM_SYNC();
        }
        r += count - 1;
    }
}

KERNEL(rnn_sequence_backward)(const T* __restrict__ OPTIONAL dy, const T* __restrict__ OPTIONAL B,
                              const T* __restrict__ states, const bool* OPTIONAL mask, T* dgx, T* dh, int steps, int N,
                              int H, bool reverse, bool relu, bool team) {
    TEAM(team);
    const Units u = units_of(H);
    ROWS(r, N, WORK(1)) {
        const int count = SEQUENCES(r);
        for (int s = steps - 1; s >= 0; --s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.to + r * H + u.first, *d = dy + (dy ? first * H + u.first : 0);
            T *dz = dgx + first * H + u.first, *dh_row = dh + r * H + u.first;
            for (int m = 0; m < count; ++m, h += H, dz += H, dh_row += H, d += dy ? H : 0) {
                if (!mask || mask[first + m]) {
                    LANES(j, u.count) {
                        const ACC v = ACC(h[j]), g = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0);
                        dz[j] = T(relu ? (v > 0 ? g : 0) : g * (1 - v * v));
                        dh_row[j] = T(0);
                    }
                } else {
                    clear(dz, u.count);
                }
            }
            TEAM_SYNC();
            if (B) product(count, dgx + first * H, H, H, B, dh + r * H, H, 1, H, u, true);
            ROW_SYNC();
        }
        r += count - 1;
    }
}

// -- lstm

KERNEL(lstm_sequence)(const T* __restrict__ gx, const T* __restrict__ OPTIONAL B_in, const T* __restrict__ OPTIONAL b,
                      const T* __restrict__ OPTIONAL B, T* states, T* cells, T* gates, const bool* OPTIONAL mask, int steps,
                      int N, int I, int H, bool reverse, bool every, bool team) {
    TEAM(team);
    const Units u = units_of(H);
    ROWS(r, N, WORK(4)) {
        const int count = SEQUENCES(r), width = 4 * H;
        for (int s = 0; s < steps; ++s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.from + r * H, *c = cells + every * at.from + r * H;
            const T* x = B_in ? b : gx + first * width;
            T *h_next = states + at.to + r * H, *c_next = cells + every * at.to + r * H;
            T* z = gates + (every ? first : r) * width;
            if (B_in) product(count, gx + first * I, I, I, B_in, z, width, 4, H, u, false);
            ROW_SYNC();
            if (B) product(count, h, H, H, B, z, width, 4, H, u, B_in);
            ROW_SYNC();
            h += u.first, c += u.first, h_next += u.first, c_next += u.first, z += u.first, x += x ? u.first : 0;
            for (int m = 0; m < count; ++m, h += H, c += H, h_next += H, c_next += H, x += B_in ? 0 : width, z += width) {
                if (!mask || mask[first + m]) {
                    LANES(j, u.count) {
                        const ACC xi = x ? ACC(x[j]) : 0, xf = x ? ACC(x[H + j]) : 0, xg = x ? ACC(x[2 * H + j]) : 0;
                        const ACC xo = x ? ACC(x[3 * H + j]) : 0;
                        const ACC i = sigmoid_of(xi + ACC(z[j])), f = sigmoid_of(xf + ACC(z[H + j]));
                        const ACC g = f_tanh(xg + ACC(z[2 * H + j])), o = sigmoid_of(xo + ACC(z[3 * H + j]));
                        const ACC v = f * ACC(c[j]) + i * g;
                        z[j] = T(i), z[H + j] = T(f), z[2 * H + j] = T(g), z[3 * H + j] = T(o);
                        c_next[j] = T(v), h_next[j] = T(o * f_tanh(v));
                    }
                } else {
                    LANES(j, u.count) c_next[j] = c[j], h_next[j] = h[j];
                    for (int g = 0; g < 4; ++g) clear(z + (long long)g * H, u.count);
                }
            }
            TEAM_SYNC();
        }
        r += count - 1;
    }
}

KERNEL(lstm_sequence_backward)(const T* __restrict__ OPTIONAL dy, const T* __restrict__ OPTIONAL B_in,
                               const T* __restrict__ OPTIONAL B, const T* __restrict__ cells, const T* __restrict__ gates,
                               const bool* OPTIONAL mask, T* OPTIONAL dx, T* dgx, T* dh, T* dc, int steps, int N, int I, int H,
                               bool reverse, bool team) {
    TEAM(team);
    const Units u = units_of(H), of_inputs = units_of(I);
    ROWS(r, N, WORK(4)) {
        const int count = SEQUENCES(r), width = 4 * H;
        for (int s = steps - 1; s >= 0; --s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const long long here = r * H + u.first;
            const T *c = cells + at.from + here, *c_next = cells + at.to + here, *z = gates + first * width + u.first;
            const T* d = dy + (dy ? first * H + u.first : 0);
            T *dz = dgx + first * width + u.first, *dh_row = dh + here, *dc_row = dc + here;
            for (int m = 0; m < count; ++m, d += dy ? H : 0) {
                if (!mask || mask[first + m]) {
                    LANES(j, u.count) {
                        const ACC i = ACC(z[j]), f = ACC(z[H + j]), g = ACC(z[2 * H + j]), o = ACC(z[3 * H + j]);
                        const ACC v = f_tanh(ACC(c_next[j])), dhj = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0);
                        const ACC dcj = ACC(dc_row[j]) + dhj * o * (1 - v * v);
                        dz[j] = T(dcj * g * i * (1 - i)), dz[H + j] = T(dcj * ACC(c[j]) * f * (1 - f));
                        dz[2 * H + j] = T(dcj * i * (1 - g * g)), dz[3 * H + j] = T(dhj * v * o * (1 - o));
                        dc_row[j] = T(dcj * f), dh_row[j] = T(0);
                    }
                } else {
                    for (int g = 0; g < 4; ++g) clear(dz + (long long)g * H, u.count);
                }
                c += H, c_next += H, dh_row += H, dc_row += H, z += width, dz += width;
            }
            TEAM_SYNC();
            const T* dzs = dgx + first * width;
            if (B) product(count, dzs, width, width, B, dh + r * H, H, 1, H, u, true);
            if (B_in) product(count, dzs, width, width, B_in, dx + first * I, I, 1, I, of_inputs, false);
            ROW_SYNC();
        }
        r += count - 1;
    }
}

// -- gru

KERNEL(gru_sequence)(const T* __restrict__ gx, const T* __restrict__ OPTIONAL B, const T* __restrict__ OPTIONAL B_new,
                     const T* __restrict__ OPTIONAL b, T* states, T* gates, const bool* OPTIONAL mask, int steps, int N, int H,
                     bool reverse, bool every, bool team) {
    TEAM(team);
    const Units u = units_of(H);
    ROWS(r, N, WORK(3)) {
        const int count = SEQUENCES(r), width = 4 * H;
        for (int s = 0; s < steps; ++s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            const T *h = states + at.from + r * H, *x = gx + first * 3 * H + u.first, *own_b = b + (b ? u.first : 0);
            T *h_next = states + at.to + r * H + u.first, *z = gates + (every ? first : r) * width;
            if (B) product(count, h, H, H, B, z, width, B_new ? 2 : 3, H, u, false);
            ROW_SYNC();
            h += u.first;
            if (B_new) {
                for (int m = 0; m < count; ++m) {
                    T* v = z + m * (long long)width + u.first;
                    const T *hm = h + m * (long long)H, *xm = x + m * 3LL * H;
                    LANES(j, u.count)
                        v[3 * H + j] = T(sigmoid_of(ACC(xm[j]) + ACC(v[j]) + (b ? ACC(own_b[j]) : 0)) * ACC(hm[j]));
                }
                TEAM_SYNC();
                product(count, z + 3 * H, width, H, B_new, z + 2 * H, width, 1, H, u, false);
                TEAM_SYNC();                                   // z is cleared where the mask says so
            }
            z += u.first;
            for (int m = 0; m < count; ++m, h += H, h_next += H, x += 3 * H, z += width) {
                if (!mask || mask[first + m]) {
                    LANES(j, u.count) {
                        const ACC br = b ? ACC(own_b[j]) : 0, bz = b ? ACC(own_b[H + j]) : 0;
                        const ACC bn = b ? ACC(own_b[2 * H + j]) : 0;
                        const ACC rj = sigmoid_of(ACC(x[j]) + ACC(z[j]) + br);
                        const ACC k = sigmoid_of(ACC(x[H + j]) + ACC(z[H + j]) + bz);
                        const ACC inner = ACC(z[2 * H + j]) + bn, xn = ACC(x[2 * H + j]);
                        const ACC n = f_tanh(xn + (B_new ? inner : rj * inner));
                        z[j] = T(rj), z[H + j] = T(k), z[2 * H + j] = T(n);
                        z[3 * H + j] = B_new ? z[3 * H + j] : T(inner);
                        h_next[j] = T(n + k * (ACC(h[j]) - n));
                    }
                } else {
                    copy(h, h_next, u.count);
                    for (int g = 0; g < 4; ++g) clear(z + (long long)g * H, u.count);
                }
            }
            TEAM_SYNC();
        }
        r += count - 1;
    }
}

// The gradient g of h': dn' = g (1 - z) (1 - n^2), dz' = g (h - n) z (1 - z), before the nonlinearities.
KERNEL(gru_sequence_backward)(const T* __restrict__ OPTIONAL dy, const T* __restrict__ OPTIONAL B,
                              const T* __restrict__ OPTIONAL B_new, const T* __restrict__ states, const T* __restrict__ gates,
                              const bool* OPTIONAL mask, T* dgx, T* OPTIONAL dgh, T* dh, int steps, int N, int H, bool reverse,
                              bool team) {
    TEAM(team);
    const Units u = units_of(H);
    ROWS(r, N, WORK(3)) {
        const int count = SEQUENCES(r), width = 3 * H;
        for (int s = steps - 1; s >= 0; --s) {
            const Step at = step_of(s, steps, reverse, (long long)N * H);
            const long long first = (long long)at.t * N + r;
            for (int m = 0; m < count; ++m) {
                const long long row = first + m, state = (r + m) * H + u.first;
                const T *h = states + at.from + state, *z = gates + row * 4 * H + u.first, *d = dy + (dy ? row * H + u.first : 0);
                T *dx = dgx + row * width + u.first, *dz = dgh + (dgh ? row * width + u.first : 0), *dh_row = dh + state;
                if (mask && !mask[row]) {
                    for (int g = 0; g < 3; ++g) clear(dx + (long long)g * H, u.count);
                    if (dgh) for (int g = 0; g < 3; ++g) clear(dz + (long long)g * H, u.count);
                } else if (B_new) {
                    LANES(j, u.count) {
                        const ACC g = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0), k = ACC(z[H + j]), n = ACC(z[2 * H + j]);
                        dx[H + j] = T(g * (ACC(h[j]) - n) * k * (1 - k));
                        dx[2 * H + j] = T(g * (1 - k) * (1 - n * n));
                        dh_row[j] = T(g * k);
                    }
                } else {
                    LANES(j, u.count) {
                        const ACC g = ACC(dh_row[j]) + (dy ? ACC(d[j]) : 0), rj = ACC(z[j]), k = ACC(z[H + j]);
                        const ACC n = ACC(z[2 * H + j]), dn = g * (1 - k) * (1 - n * n);
                        const ACC dr = dn * ACC(z[3 * H + j]) * rj * (1 - rj), dk = g * (ACC(h[j]) - n) * k * (1 - k);
                        dx[j] = dz[j] = T(dr), dx[H + j] = dz[H + j] = T(dk);
                        dx[2 * H + j] = T(dn), dz[2 * H + j] = T(dn * rj);
                        dh_row[j] = T(g * k);
                    }
                }
            }
            TEAM_SYNC();
            T *dx = dgx + first * width, *dh_rows = dh + r * H;
            if (B_new) {
                product(count, dx + 2 * H, width, H, B_new, dx, width, 1, H, u, false);     // of r h
                ROW_SYNC();
                for (int m = 0; m < count; ++m) {
                    const long long state = (r + m) * H + u.first;
                    const T *h = states + at.from + state, *z = gates + (first + m) * 4 * H + u.first;
                    T *drh = dx + m * (long long)width + u.first, *dh_row = dh + state;
                    if (!mask || mask[first + m]) LANES(j, u.count) {
                        const ACC v = ACC(drh[j]), rj = ACC(z[j]);
                        drh[j] = T(v * ACC(h[j]) * rj * (1 - rj));
                        dh_row[j] = T(ACC(dh_row[j]) + v * rj);
                    }
                }
                TEAM_SYNC();
                product(count, dx, width, 2 * H, B, dh_rows, H, 1, H, u, true);
            } else if (B) {
                product(count, dgh + first * width, width, width, B, dh_rows, H, 1, H, u, true);
            }
            ROW_SYNC();
        }
        r += count - 1;
    }
}
