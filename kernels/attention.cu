// attention.cu -- the softmax inside attention, forward and backward (minitorch_flux/ops/attention.py).
//
// s holds the products of queries and keys, (batch, heads, queries, width) with one key for each of width. Query l may see
// key j where mask is not 0 and, if first >= 0 (causal), j <= first + l. mask is null or has the shape (batch or 1, heads or
// 1, queries or 1, width); mb, mh, ml are the steps between its batches, heads and queries, 0 along an axis of one.
//
//   attention_weights           p = exp(scale s - m) / z over the keys that are seen, 0 elsewhere;  lse = m + log z
//   attention_weights_backward  p = exp(scale s - lse);  ds = scale p (dp - sum p dp), which is written over dp
//
// p is written over s; all are ACC, 16-bit floats come as float32. A query that sees nothing gets p = 0 and lse =
// infinity, and so ds = 0.
#include "flux.h"

// SIMD exponentials are slow for minus infinity and its like: they get this, and what comes of it counts as 0. It must not
// look like a constant (n is not negative), else compilers split the choice and give the exponential the rest as it is.
DEVICE ACC bottom(int n) { return f_min(ACC(n), sizeof(ACC) == 8 ? ACC(-700) : ACC(-80)); }
DEVICE ACC at_least(ACC v, ACC least) { return v < least ? least : v; }   // a NaN stays one
#define TINY (sizeof(ACC) == 8 ? ACC(1e-303) : ACC(1e-34))

#define PLACE(r)                                                                                             \
    const long long query = (r) % queries, head = (r) / queries % heads, batch = (r) / queries / heads;      \
    const u8* seen = mask ? mask + batch * mb + head * mh + query * ml : nullptr;                          \
    const int end = (int)(first >= 0 && first + query + 1 < width ? first + query + 1 : width);

KERNEL(attention_weights)(ACC* __restrict__ s, OPTIONAL const u8* __restrict__ mask, ACC* __restrict__ lse, ACC scale,
                          long long first, long long mb, long long mh, long long ml, long long rows, long long heads,
                          long long queries, int width) {
    ROWS(r, rows, 4LL * width) {
        PLACE(r)
        ACC* x = s + r * width;
        const ACC least = bottom(width);
        ACC top = -INFINITY, sum = 0;
        if (seen) {
            LANES(j, end) x[j] = seen[j] ? ACC(x[j] * scale) : ACC(-INFINITY);
        } else {
            LANES(j, end) x[j] = ACC(x[j] * scale);
        }
        LANES_MAX(top, j, end) top = f_max(ACC(x[j]), top);
        top = row_max(top);
        LANES_SUM(sum, j, end) {
            const ACC e = f_exp(at_least(x[j] == top ? ACC(0) : x[j] - top, least));
            x[j] = ACC(e);
            sum += e;
        }
        sum = row_sum(sum);
        const bool nothing = top == -INFINITY;
        const ACC share = nothing ? ACC(0) : 1 / sum;
        LANES(j, end) x[j] = x[j] <= TINY ? ACC(0) : x[j] * share;
        LANES(j, width - end) x[end + j] = 0;
        const ACC total = f_log(sum);
        ONE_LANE lse[r] = ACC(nothing ? ACC(INFINITY) : top + total);
    }
}

KERNEL(attention_weights_backward)(ACC* __restrict__ s, ACC* __restrict__ dp, OPTIONAL const u8* __restrict__ mask,
                                   const ACC* __restrict__ lse, ACC scale, long long first, long long mb, long long mh,
                                   long long ml, long long rows, long long heads, long long queries, int width) {
    ROWS(r, rows, 4LL * width) {
        PLACE(r)
        ACC *x = s + r * width, *d = dp + r * width;
        const ACC shift = lse[r], least = bottom(width);
        ACC sum = 0;
        if (seen) {
            LANES(j, end) x[j] = seen[j] ? x[j] : ACC(-INFINITY);
        }
        LANES_SUM(sum, j, end) {
            const ACC p = f_exp(at_least(x[j] * scale - shift, least));
            x[j] = ACC(p);
            sum += p * d[j];
        }
        sum = row_sum(sum);
        LANES(j, end) {
            const ACC p = x[j] <= TINY ? ACC(0) : x[j];
            x[j] = p;
            d[j] = scale * p * (d[j] - sum);
        }
        LANES(j, width - end) {
            x[end + j] = 0;
            d[end + j] = 0;
        }
    }
}
