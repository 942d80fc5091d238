// ctc.cu -- connectionist temporal classification (minitorch_flux/ops/ctc.py).
//
// lp (steps, batch, classes) holds log-probabilities; labels (batch, states) the class of each state, blanks at even places;
// sequence n has lengths[n] steps and ends[n] states. a(t, u) is the logarithm of the probability of all ways to be in state
// u after step t, b(t, u) that of all ways from there to the end, each with the emission e = lp[t, n, labels[n, u]]:
//
//   a(t, u) = e + log(exp a(t-1, u) + exp a(t-1, u-1) + exp(a(t-1, u-2) + jump(u)))
//   b(t, u) = e + log(exp b(t+1, u) + exp b(t+1, u+1) + exp(b(t+1, u+2) + jump(u+2)))
//
// with jumps (batch, states + 2) 0 where a state can be entered from two before, else minus infinity.
//
//   ctc_forward   loss[n] = -log(exp a(last, end-1) + exp a(last, end-2))
//                 alpha (batch, steps, states + 2), two columns of minus infinity first
//   ctc_backward  dx = dy (exp(lp) - sum over the states of a class of exp(a + b - e + loss)),  0 beyond lengths[n]
//                 work (batch, 3, states + 2) for b and the shares of the states;  infinite losses have dx = miss
//
// All outputs are written (=).
#include "flux.h"

// What is below this is nothing beside 1. SIMD exponentials are slow for minus infinity and its like, so they get this.
DEVICE ACC bottom() { return sizeof(ACC) == 8 ? ACC(-700) : ACC(-80); }

DEVICE ACC sum_of_three(ACC a, ACC b, ACC c) {
    const ACC m = f_max(f_max(a, b), c);
    const ACC shift = m == -INFINITY ? ACC(0) : m;
    const ACC x = f_max(a - shift, bottom()), y = f_max(b - shift, bottom()), z = f_max(c - shift, bottom());
    const ACC sum = shift + f_log(f_exp(x) + f_exp(y) + f_exp(z));
    return m == -INFINITY ? m : sum;
}

#define O ACC(0)   // added to a number from memory before a choice: else compilers choose among addresses, one at a time

KERNEL(ctc_forward)(const T* __restrict__ lp, const int64_t* __restrict__ labels, const T* __restrict__ jumps,
                    const int64_t* __restrict__ lengths, const int64_t* __restrict__ ends, T* __restrict__ alpha, T* __restrict__ loss,
                    long long batch, long long steps, long long classes, int states) {
    ROWS(n, batch, 32 * steps * states) {
        const int64_t* label = labels + n * states;
        const T* jump = jumps + n * (states + 2);
        const long long length = lengths[n];
        const int end = (int)ends[n];
        T* now = alpha + n * steps * (states + 2);
        for (long long t = 0; t < length; ++t) {
            const T* e = lp + (t * batch + n) * classes;
            const T* before = now - (states + 2);
            LANES(u, 2) now[u] = -INFINITY;
            if (t == 0) {
                LANES(u, states) now[u + 2] = u < 2 ? e[label[u]] : T(-INFINITY);
            } else {
                LANES(u, states) {
                    now[u + 2] = T(e[label[u]] + sum_of_three(before[u + 2] + O, before[u + 1] + O, before[u] + jump[u]));
                }
            }
            ROW_SYNC();
            now += states + 2;
        }
        const T* last = now - (states + 2);
        ACC total = end == 1 ? ACC(0) : ACC(-INFINITY);
        if (length) total = sum_of_three(last[end + 1], last[end], -INFINITY);
        ONE_LANE loss[n] = T(-total);
    }
}

KERNEL(ctc_backward)(const T* __restrict__ dy, const T* __restrict__ lp, const int64_t* __restrict__ labels,
                     const T* __restrict__ jumps, const int64_t* __restrict__ lengths, const int64_t* __restrict__ ends,
                     const T* __restrict__ alpha, const T* __restrict__ loss, ACC miss, T* __restrict__ work, T* __restrict__ dx,
                     long long batch, long long steps, long long classes, int states) {
    ROWS(n, batch, steps * (32 * states + 8 * classes)) {
        const int64_t* label = labels + n * states;
        const T* jump = jumps + n * (states + 2);
        const long long length = lengths[n];
        const int end = (int)ends[n];
        const ACC cost = loss[n], scale = dy[n];
        const bool lost = !(cost < INFINITY);
        T* now = work + n * 3 * (states + 2);
        T *after = now + states + 2, *share = after + states + 2;
        for (long long t = steps - 1; t >= 0; --t) {
            const T* e = lp + (t * batch + n) * classes;
            const T* a = alpha + (n * steps + t) * (states + 2) + 2;
            T* to = dx + (t * batch + n) * classes;
            if (t >= length || lost) {
                LANES(c, classes) to[c] = t >= length ? T(0) : T(miss);
                continue;
            }
            LANES(c, classes) to[c] = T(scale * f_exp(ACC(e[c])));
            LANES(u, 2) now[states + u] = -INFINITY;
            if (t == length - 1) {
                LANES(u, states) now[u] = u < end && u >= end - 2 ? e[label[u]] : T(-INFINITY);
            } else {
                LANES(u, states) {
                    now[u] = T(e[label[u]] + sum_of_three(after[u] + O, after[u + 1] + O, after[u + 2] + jump[u + 2]));
                }
            }
            LANES(u, states) {
                const ACC v = a[u] == -INFINITY ? bottom() : ACC(a[u]) + ACC(now[u]) - ACC(e[label[u]]) + cost;
                const ACC p = f_exp(f_max(v, bottom()));
                share[u] = T(v <= bottom() ? ACC(0) : scale * p);
            }
            ROW_SYNC();
            ONE_LANE for (int u = 0; u < states; ++u) to[label[u]] -= share[u];   // states share classes: in order
            ROW_SYNC();
            T* old = after;
            after = now;
            now = old;
        }
    }
}
