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
#include "exponentials.h"

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
        if (seen) LANES(j, end) x[j] = seen[j] ? ACC(x[j] * scale) : ACC(-INFINITY);
        const ACC factor = seen ? ACC(1) : scale;
        Vec tops = Vec{} - INFINITY, sums = {};
        parts(end, [&](int j, int n) { tops = larger(vec_first(vec_load(x + j, n) * factor, n, -INFINITY), tops); });
        const ACC top = row_max(vec_larger(tops));           // it passes over a NaN, which the sum has
        parts(end, [&](int j, int n) {
            const Vec e = vec_first(exp_low(below(vec_load(x + j, n) * factor, top)), n, 0);
            vec_store(x + j, e, n);
            sums += e;
        });
        const ACC sum = row_sum(vec_sum(sums));
        const bool nothing = top == -INFINITY && sum == sum;
        const ACC share = nothing ? ACC(0) : 1 / sum;
        parts(end, [&](int j, int n) { vec_store(x + j, vec_load(x + j, n) * share, n); });
        LANES(j, width - end) x[end + j] = 0;
        ONE_LANE lse[r] = nothing ? ACC(INFINITY) : top + f_log(sum);
    }
}

KERNEL(attention_weights_backward)(ACC* __restrict__ s, ACC* __restrict__ dp, OPTIONAL const u8* __restrict__ mask,
                                   const ACC* __restrict__ lse, ACC scale, long long first, long long mb, long long mh,
                                   long long ml, long long rows, long long heads, long long queries, int width) {
    ROWS(r, rows, 4LL * width) {
        PLACE(r)
        ACC *x = s + r * width, *d = dp + r * width;
        if (seen) LANES(j, end) x[j] = seen[j] ? ACC(x[j] * scale - lse[r]) : ACC(-INFINITY);
        const ACC factor = seen ? ACC(1) : scale, shift = seen ? ACC(0) : lse[r];
        Vec sums = {};
        parts(end, [&](int j, int n) {
            const Vec p = vec_first(exp_low(vec_load(x + j, n) * factor - shift), n, 0);
            vec_store(x + j, p, n);
            sums += p * vec_load(d + j, n);
        });
        const ACC sum = row_sum(vec_sum(sums));
        parts(end, [&](int j, int n) { vec_store(d + j, scale * vec_load(x + j, n) * (vec_load(d + j, n) - sum), n); });
        LANES(j, width - end) {
            x[end + j] = 0;
            d[end + j] = 0;
        }
    }
}
