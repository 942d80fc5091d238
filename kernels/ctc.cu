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
// All outputs are written (=), all are ACC: 16-bit floats come as float32.
#include "flux.h"

// What is below this is nothing beside 1. SIMD exponentials are slow for minus infinity and its like, so they get this. It
// must not look like a constant (n is not negative), else compilers split the choice and give them the rest as it is.
DEVICE ACC bottom(int n) { return f_min(ACC(n), sizeof(ACC) == 8 ? ACC(-700) : ACC(-80)); }
DEVICE ACC at_least(ACC v, ACC least) { return v < least ? least : v; }   // a NaN stays one

DEVICE ACC sum_of_three(ACC a, ACC b, ACC c, ACC least) {
    const ACC m = at_least(at_least(a, b), c);   // of a NaN too, which comes through the sum
    const ACC shift = m == -INFINITY ? ACC(0) : m;
    const ACC x = at_least(a - shift, least), y = at_least(b - shift, least), z = at_least(c - shift, least);
    const ACC sum = shift + f_log(f_exp(x) + f_exp(y) + f_exp(z));
    return m == -INFINITY ? m : sum;
}

KERNEL(ctc_forward)(const ACC* __restrict__ lp, const int64_t* __restrict__ labels, const ACC* __restrict__ jumps,
                    const int64_t* __restrict__ lengths, const int64_t* __restrict__ ends, ACC* __restrict__ alpha,
                    ACC* __restrict__ loss, long long batch, long long steps, long long classes, int states) {
    ROWS(n, batch, 32 * steps * states) {
        const int64_t* label = labels + n * states;
        const ACC* jump = jumps + n * (states + 2);
        const long long length = lengths[n];
        const ACC least = bottom(states);
        const int end = (int)ends[n];
        ACC* now = alpha + n * steps * (states + 2);
        for (long long t = 0; t < length; ++t) {
            const ACC* e = lp + (t * batch + n) * classes;
            const ACC* before = now - (states + 2);
            LANES(u, 2) now[u] = -INFINITY;
            if (t == 0) {
                LANES(u, states) now[u + 2] = u < 2 ? e[label[u]] : ACC(-INFINITY);
            } else {
                LANES(u, states) {
                    now[u + 2] = sum_of_three(before[u + 2], before[u + 1], before[u] + jump[u], least);
                }
                LANES(u, states) now[u + 2] += e[label[u]];
            }
            ROW_SYNC();
            now += states + 2;
        }
        const ACC* last = now - (states + 2);
        ACC total = end == 1 ? ACC(0) : ACC(-INFINITY);
        if (length) total = sum_of_three(last[end + 1], last[end], -INFINITY, least);
        ONE_LANE loss[n] = ACC(-total);
    }
}

KERNEL(ctc_backward)(const ACC* __restrict__ dy, const ACC* __restrict__ lp, const int64_t* __restrict__ labels,
                     const ACC* __restrict__ jumps, const int64_t* __restrict__ lengths, const int64_t* __restrict__ ends,
                     const ACC* __restrict__ alpha, const ACC* __restrict__ loss, ACC miss,
                     ACC* __restrict__ work, ACC* __restrict__ dx, long long batch, long long steps, long long classes, int states) {
    ROWS(n, batch, steps * (32 * states + 8 * classes)) {
        const int64_t* label = labels + n * states;
        const ACC* jump = jumps + n * (states + 2);
        const long long length = lengths[n];
        const ACC least = bottom(states);
        const int end = (int)ends[n];
        const ACC cost = loss[n], scale = dy[n];
        const bool lost = !(cost < INFINITY);
        ACC* now = work + n * 3 * (states + 2);
        ACC *after = now + states + 2, *share = after + states + 2;
        for (long long t = steps - 1; t >= 0; --t) {
            const ACC* e = lp + (t * batch + n) * classes;
            const ACC* a = alpha + (n * steps + t) * (states + 2) + 2;
            ACC* to = dx + (t * batch + n) * classes;
            if (t >= length || lost) {
                LANES(c, classes) to[c] = t >= length ? ACC(0) : ACC(miss);
                continue;
            }
            LANES(c, classes) to[c] = ACC(scale * f_exp(ACC(e[c])));
            LANES(u, 2) now[states + u] = -INFINITY;
            if (t == length - 1) {
                LANES(u, states) now[u] = u < end && u >= end - 2 ? e[label[u]] : ACC(-INFINITY);
            } else {
                LANES(u, states) {
                    now[u] = sum_of_three(after[u], after[u + 1], after[u + 2] + jump[u + 2], least);
                }
                LANES(u, states) now[u] += e[label[u]];
            }
            LANES(u, states) {
                const ACC v = a[u] == -INFINITY ? least : ACC(a[u]) + ACC(now[u]) - ACC(e[label[u]]) + cost;
                const ACC p = f_exp(at_least(v, least));
                share[u] = ACC(v <= least ? ACC(0) : scale * p);
            }
            ROW_SYNC();
            ONE_LANE for (int u = 0; u < states; ++u) to[label[u]] -= share[u];   // states share classes: in order
            ROW_SYNC();
            ACC* old = after;
            after = now;
            now = old;
        }
    }
}
