// updates.cu -- optimiser steps, many parameters in one launch.
//
//   g = sign dx + decay x                   sign = -1 climbs; decay: L2 regularisation
//   momentum_update   u = rho u + fresh g;  x -= rate (look g + ahead u)            (u missing: x -= rate g)
//   rmsprop_update    v = rho v + c g^2;  w = v - a^2,  a = rho a + (1 - rho) g  (a missing: w = v)
//                     d = g / (sqrt(w) + eps);  u = momentum u + d;  x -= rate u    (u missing: x -= rate d)
//   adam_update       m = b1 m + c1 g;  v = b2 v + c2 (g - belief m)^2 + floor;  w = v, or top = max(top, v)
//                     x = keep x - (nu g + mu m) / (scale sqrt(w) + eps)
//   adamax_update     m = b1 m + c1 g;  u = max(b2 u, |g| + eps);  x -= rate m / u
//   adadelta_update   v = rho v + c g^2;  d = g sqrt(u + eps) / sqrt(v + eps);  u = rho u + c d^2;  x -= rate d
//   lion_update       s = sign(b1 m + c1 g);  m = b2 m + c2 g;  x = keep x - rate s
//
// A row is a chunk of one parameter.  Chunk c begins at byte x_at[c] of x, at byte dx_at[c] of dx and at element at[c]
// of the state arrays, and has width elements, or the left[c] that there are up to its parameter's end.  Where x or dx
// is missing the bytes are addresses.
// x and the state are updated in place, dx is only read.  Formulas: minitorch_flux/ops/updates.py
//
// G is the dtype of dx, default T.  With MASTER x is a 16-bit rounding of the ACC numbers in master, which lie like the
// state: the step is taken there, and x is rounded anew.  Where x is no rounding of its master somebody else has written to
// it, and the step starts from x.
// types: G=float32
// constants: MASTER=0
// constants: MASTER=1
#include "flux.h"

#ifndef G
#define G T
#endif
#ifndef MASTER
#define MASTER 0
#endif

template <class E> DEVICE E* place(E* base, int64_t bytes) { return (E*)((uint64_t)base + (uint64_t)bytes); }
template <class A> DEVICE A* begin(A* array, int64_t first) { return array ? array + first : array; }

// The number that a step of x[j] starts from, and how it is written.
DEVICE ACC weight(const T* x, const ACC* master, int j) {
    const ACC xj = (ACC)x[j];
    if (!MASTER) return xj;
    const ACC w = master[j];
    return (ACC)(T)w == xj ? w : xj;
}
DEVICE void put(T* x, ACC* master, int j, ACC v) {
    if (MASTER) master[j] = v;
    x[j] = (T)v;
}
DEVICE ACC sign_of(ACC v) { return v > 0 ? ACC(1) : v < 0 ? ACC(-1) : v; }   // of a NaN: NaN

KERNEL(momentum_update)(OPTIONAL T* x, const int64_t* __restrict__ x_at, OPTIONAL const T* dx, const int64_t* __restrict__ dx_at,
                        const int64_t* __restrict__ at, const int64_t* __restrict__ left, OPTIONAL ACC* master,
                        int chunks, int width,
                        OPTIONAL ACC* u, ACC sign, ACC decay, ACC rate, ACC rho, ACC fresh, ACC look, ACC ahead) {
    ROWS(c, chunks, width) {
        T* xs = place(x, x_at[c]);
        const G* gs = place((const G*)dx, dx_at[c]);
        ACC* ws = begin(master, at[c]);
        const int count = (int)(left[c] < width ? left[c] : width);
        if (u) {
            ACC* us = u + at[c];
            LANES(j, count) {
                const ACC xj = weight(xs, ws, j), g = sign * (ACC)gs[j] + decay * xj;
                const ACC uj = rho * us[j] + fresh * g;
                us[j] = uj;
                put(xs, ws, j, xj - rate * (look * g + ahead * uj));
            }
        } else {
            LANES(j, count) {
                const ACC xj = weight(xs, ws, j), g = sign * (ACC)gs[j] + decay * xj;
                put(xs, ws, j, xj - rate * g);
            }
        }
    }
}

// One chunk of rmsprop_update; what is missing is known to the compiler, so that the loop stays SIMD.
template <bool CENTRED, bool VELOCITY>
DEVICE void rmsprop_chunk(T* x, const G* dx, ACC* master, ACC* v, ACC* a, ACC* u, int n, ACC sign, ACC decay, ACC rate,
                          ACC rho, ACC c_rho, ACC c, ACC eps, ACC momentum) {
    LANES(j, n) {
        const ACC xj = weight(x, master, j), g = sign * (ACC)dx[j] + decay * xj;
        const ACC vj = rho * v[j] + c * g * g;
        ACC w = vj;
        v[j] = vj;
        if (CENTRED) {
            const ACC aj = rho * a[j] + c_rho * g;
            a[j] = aj;
            w = f_max(vj - aj * aj, ACC(0));
        }
        ACC d = g / (f_sqrt(w) + eps);
        if (VELOCITY) {
            d += momentum * u[j];
            u[j] = d;
        }
        put(x, master, j, xj - rate * d);
    }
}

KERNEL(rmsprop_update)(OPTIONAL T* x, const int64_t* __restrict__ x_at, OPTIONAL const T* dx, const int64_t* __restrict__ dx_at,
                       const int64_t* __restrict__ at, const int64_t* __restrict__ left, OPTIONAL ACC* master,
                       int chunks, int width,
                       ACC* v, OPTIONAL ACC* a, OPTIONAL ACC* u, ACC sign, ACC decay, ACC rate, ACC rho, ACC c_rho, ACC c,
                       ACC eps, ACC momentum) {
    ROWS(r, chunks, width) {
        T* xs = place(x, x_at[r]);
        const G* gs = place((const G*)dx, dx_at[r]);
        ACC* ws = begin(master, at[r]);
        ACC *vs = v + at[r], *as = begin(a, at[r]), *us = begin(u, at[r]);
        const int count = (int)(left[r] < width ? left[r] : width);
#define RMSPROP(centred, velocity) \
        rmsprop_chunk<centred, velocity>(xs, gs, ws, vs, as, us, count, sign, decay, rate, rho, c_rho, c, eps, momentum)
        if (a) {
            if (u) RMSPROP(true, true); else RMSPROP(true, false);
        } else {
            if (u) RMSPROP(false, true); else RMSPROP(false, false);
        }
#undef RMSPROP
    }
}

KERNEL(adam_update)(OPTIONAL T* x, const int64_t* __restrict__ x_at, OPTIONAL const T* dx, const int64_t* __restrict__ dx_at,
                    const int64_t* __restrict__ at, const int64_t* __restrict__ left, OPTIONAL ACC* master,
                    int chunks, int width,
                    ACC* m, ACC* v, OPTIONAL ACC* top, ACC sign, ACC decay, ACC keep, ACC b1, ACC c1, ACC b2, ACC c2,
                    ACC belief, ACC floor, ACC scale, ACC eps, ACC nu, ACC mu) {
    ROWS(c, chunks, width) {
        T* xs = place(x, x_at[c]);
        const G* gs = place((const G*)dx, dx_at[c]);
        ACC* ws = begin(master, at[c]);
        ACC *ms = m + at[c], *vs = v + at[c], *ts = begin(top, at[c]);
        const int count = (int)(left[c] < width ? left[c] : width);
        LANES(j, count) {
            const ACC xj = weight(xs, ws, j), g = sign * (ACC)gs[j] + decay * xj;
            const ACC mj = b1 * ms[j] + c1 * g, r = g - belief * mj;
            ACC w = b2 * vs[j] + c2 * r * r + floor;
            ms[j] = mj;
            vs[j] = w;
            if (top) {
                w = f_max(ts[j], w);
                ts[j] = w;
            }
            put(xs, ws, j, keep * xj - (nu * g + mu * mj) / (scale * f_sqrt(w) + eps));
        }
    }
}

KERNEL(adamax_update)(OPTIONAL T* x, const int64_t* __restrict__ x_at, OPTIONAL const T* dx, const int64_t* __restrict__ dx_at,
                      const int64_t* __restrict__ at, const int64_t* __restrict__ left, OPTIONAL ACC* master,
                      int chunks, int width,
                      ACC* m, ACC* u, ACC sign, ACC decay, ACC rate, ACC b1, ACC c1, ACC b2, ACC eps) {
    ROWS(c, chunks, width) {
        T* xs = place(x, x_at[c]);
        const G* gs = place((const G*)dx, dx_at[c]);
        ACC* ws = begin(master, at[c]);
        ACC *ms = m + at[c], *us = u + at[c];
        const int count = (int)(left[c] < width ? left[c] : width);
        LANES(j, count) {
            const ACC xj = weight(xs, ws, j), g = sign * (ACC)gs[j] + decay * xj;
            const ACC mj = b1 * ms[j] + c1 * g, uj = f_max(b2 * us[j], f_fabs(g) + eps);
            ms[j] = mj;
            us[j] = uj;
            put(xs, ws, j, xj - rate * mj / uj);
        }
    }
}

KERNEL(adadelta_update)(OPTIONAL T* x, const int64_t* __restrict__ x_at, OPTIONAL const T* dx, const int64_t* __restrict__ dx_at,
                        const int64_t* __restrict__ at, const int64_t* __restrict__ left, OPTIONAL ACC* master,
                        int chunks, int width,
                        ACC* v, ACC* u, ACC sign, ACC decay, ACC rate, ACC rho, ACC c, ACC eps) {
    ROWS(r, chunks, width) {
        T* xs = place(x, x_at[r]);
        const G* gs = place((const G*)dx, dx_at[r]);
        ACC* ws = begin(master, at[r]);
        ACC *vs = v + at[r], *us = u + at[r];
        const int count = (int)(left[r] < width ? left[r] : width);
        LANES(j, count) {
            const ACC xj = weight(xs, ws, j), g = sign * (ACC)gs[j] + decay * xj;
            const ACC vj = rho * vs[j] + c * g * g;
            const ACC d = g * f_sqrt(us[j] + eps) / f_sqrt(vj + eps);
            vs[j] = vj;
            us[j] = rho * us[j] + c * d * d;
            put(xs, ws, j, xj - rate * d);
        }
    }
}

KERNEL(lion_update)(OPTIONAL T* x, const int64_t* __restrict__ x_at, OPTIONAL const T* dx, const int64_t* __restrict__ dx_at,
                    const int64_t* __restrict__ at, const int64_t* __restrict__ left, OPTIONAL ACC* master,
                    int chunks, int width,
                    ACC* m, ACC sign, ACC decay, ACC keep, ACC rate, ACC b1, ACC c1, ACC b2, ACC c2) {
    ROWS(c, chunks, width) {
        T* xs = place(x, x_at[c]);
        const G* gs = place((const G*)dx, dx_at[c]);
        ACC* ws = begin(master, at[c]);
        ACC* ms = m + at[c];
        const int count = (int)(left[c] < width ? left[c] : width);
        LANES(j, count) {
            const ACC xj = weight(xs, ws, j), g = sign * (ACC)gs[j] + decay * xj;
            const ACC s = sign_of(b1 * ms[j] + c1 * g);
            ms[j] = b2 * ms[j] + c2 * g;
            put(xs, ws, j, keep * xj - rate * s);
        }
    }
}
