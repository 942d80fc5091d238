// fused_attention.cu -- attention of a block of queries at a time, products included (minitorch_flux/ops/fused_attention.py).
//
// q has `heads` heads for each of the samples, k and v heads / groups: head h reads key head h / groups. A row of q, of D
// numbers, lies at q0 + sample * qn + head * qh + query * ql, those of k and v likewise, and the gradients as what they are of;
// y and dy are (samples, length, heads, E), lse is (samples, heads, length). Query l may see key j where mask is not 0 and, if
// causal, j <= l; mask is null or has the steps mb, mh, ml between its samples, heads and queries, 0 along an axis of one.
//
//   fused_attention_forward    p = softmax(scale q k^T) over the keys that are seen, y = p v, lse = log of the normaliser
//   fused_attention_backward   ds = scale p (dp - sum p dp), dp = dy v^T;  dq = ds k, dk = ds^T q, dv = p^T dy
//
// A row is a share of the heads, forward of the queries' and backward of the keys'. It packs the keys and values of a head in
// its part of `work`, `space` numbers, and takes `block` queries at a time. All outputs are written (=). A query that sees
// nothing gives zeros.
#include "products.h"
#include "exponentials.h"

#define LINE(n) (((n) + 15LL) / 16 * 16 + 16)            // from one query's products to the next one's

// `to` = B [K, n] in panels, with B[k, j] = at[k * step + j], or at[j * step + k] when turned.
DEVICE void pack(const T* at, long long step, T* __restrict__ to, int K, int n, bool turned) {
    for (int p = 0; p < PANELS(n); ++p, to += (long long)K * PANEL) {
        const long long first = (long long)p * PANEL;
#ifdef FLUX_CPU
        if (turned) {
            for (int k = 0; k < K; k += VL) for (int j = 0; j < PANEL; j += VL) {
                Vec v[VL];
                UNROLL for (int l = 0; l < VL; ++l)
                    v[l] = first + j + l < n ? vec_load(at + (first + j + l) * step + k, K - k) : Vec{};
                turn(v);
                UNROLL for (int l = 0; l < VL; ++l) if (k + l < K) vec_store(to + (long long)(k + l) * PANEL + j, v[l], VL);
            }
            continue;
        }
#endif
        for (long long k = 0; k < K; ++k) LANES(j, PANEL) {
            const long long i = first + j;
            to[k * PANEL + j] = i >= n ? T(0) : turned ? at[i * step + k] : at[k * step + i];
        }
    }
}

// out [count, n] = a b, or added to it, with the first K rows of the packed b [depth, n].
DEVICE void multiply(int count, Rows a, int K, const T* b, int depth, T* out, long long step, int n, bool more) {
    for (int p = 0; p < PANELS(n); ++p) {
        const long long first = (long long)p * PANEL;
        const int left = (int)(n - first);
        panel_product(count, a, K, b + first * depth, out + first, step, left < PANEL ? left : PANEL, more);
    }
}

// What a query may see: the first `end` keys, of them those that `seen` says, or all.
struct Sight { const u8* seen; int end; };
DEVICE Sight sight(const u8* mask, long long at, bool causal, int query, int width) {
    return {mask ? mask + at : nullptr, causal && query + 1 < width ? query + 1 : width};
}

// x = softmax(scale x), 0 for keys that are not seen up to `most`; gives the logarithm of the normaliser.
DEVICE ACC normalise(T* x, Sight of, int most, ACC scale) {
    if (of.seen) LANES(j, of.end) x[j] = of.seen[j] ? T(ACC(x[j]) * scale) : T(-INFINITY);
    const ACC factor = of.seen ? ACC(1) : scale;
    Vec tops = Vec{} - INFINITY, sums = {};
    parts(of.end, [&](int j, int n) { tops = larger(vec_first(vec_load(x + j, n) * factor, n, -INFINITY), tops); });
    const ACC top = row_max(vec_larger(tops));           // it passes over a NaN, which the sum has
    parts(of.end, [&](int j, int n) {
        const Vec e = vec_first(exp_low(below(vec_load(x + j, n) * factor, top)), n, 0);
        vec_store(x + j, e, n);
        sums += e;
    });
    const ACC sum = row_sum(vec_sum(sums));
    const bool nothing = top == -INFINITY && sum == sum;
    const ACC share = nothing ? ACC(0) : 1 / sum;
    parts(of.end, [&](int j, int n) { vec_store(x + j, vec_load(x + j, n) * share, n); });
    LANES(j, most - of.end) x[of.end + j] = T(0);
    return nothing ? ACC(INFINITY) : top + f_log(sum);
}

// x = p and d = ds, of the products x and d = dp.
DEVICE void pull(T* x, T* d, Sight of, int most, ACC scale, ACC lse) {
    if (of.seen) LANES(j, of.end) x[j] = of.seen[j] ? T(ACC(x[j]) * scale - lse) : T(-INFINITY);
    const ACC factor = of.seen ? ACC(1) : scale, shift = of.seen ? ACC(0) : lse;
    Vec sums = {};
    parts(of.end, [&](int j, int n) {
        const Vec p = vec_first(exp_low(vec_load(x + j, n) * factor - shift), n, 0);
        vec_store(x + j, p, n);
        sums += p * vec_load(d + j, n);
    });
    const ACC sum = row_sum(vec_sum(sums));
    parts(of.end, [&](int j, int n) { vec_store(d + j, scale * vec_load(x + j, n) * (vec_load(d + j, n) - sum), n); });
    LANES(j, most - of.end) x[of.end + j] = d[of.end + j] = T(0);
}

KERNEL(fused_attention_forward)(const T* q, const T* k, const T* v, OPTIONAL const u8* __restrict__ mask, T* __restrict__ y,
                                T* __restrict__ lse, T* __restrict__ work, ACC scale, bool causal, long long q0, long long k0,
                                long long v0, long long qn, long long qh, long long ql, long long kn, long long kh, long long kl,
                                long long vn, long long vh, long long vl, long long mb, long long mh, long long ml,
                                long long samples, int heads, int groups, int length, int width, int D, int E, int block,
                                int shares, long long space) {
    ROWS(share, shares, samples * heads * length * width * (D + E) / shares) {
        T* keys = work + share * space;
        T* values = keys + (long long)PANELS(width) * D * PANEL;
        T* s = values + (long long)PANELS(E) * width * PANEL;
        const long long step = LINE(width), end = samples * heads * (share + 1) / shares;
        long long packed = -1;
        for (long long u = samples * heads * share / shares; u < end; ++u) {
            const long long sample = u / heads, head = u % heads;
            if (u / groups != packed) {
                packed = u / groups;
                pack(k + k0 + sample * kn + head / groups * kh, kl, keys, D, width, true);
                pack(v + v0 + sample * vn + head / groups * vh, vl, values, width, E, false);
                ROW_SYNC();
            }
            for (int l = 0; l < length; l += block) {
                const int count = length - l < block ? length - l : block;
                const int most = causal && l + count < width ? l + count : width;
                multiply(count, {q + q0 + sample * qn + head * qh + l * ql, ql, 1}, D, keys, D, s, step, most, false);
                ROW_SYNC();
                for (int i = 0; i < count; ++i) {
                    const Sight of = sight(mask, sample * mb + head * mh + (l + i) * ml, causal, l + i, width);
                    const ACC total = normalise(s + i * step, of, most, scale);
                    ONE_LANE lse[u * length + l + i] = T(total);
                }
                ROW_SYNC();
                multiply(count, {s, step, 1}, most, values, width, y + ((sample * length + l) * heads + head) * E,
                         (long long)heads * E, E, false);
                ROW_SYNC();
            }
        }
    }
}

KERNEL(fused_attention_backward)(const T* __restrict__ dy, const T* q, const T* k, const T* v, OPTIONAL const u8* __restrict__ mask,
                                 const T* __restrict__ lse, T* dq, T* dk, T* dv, T* __restrict__ work, ACC scale, bool causal,
                                 long long q0, long long k0, long long v0, long long qn, long long qh, long long ql,
                                 long long kn, long long kh, long long kl, long long vn, long long vh, long long vl,
                                 long long mb, long long mh, long long ml, long long samples, int heads, int groups, int length,
                                 int width, int D, int E, int block, int shares, long long space) {
    ROWS(share, shares, 3 * samples * heads * length * width * (D + E) / shares) {
        T* turned_keys = work + share * space;
        T* keys = turned_keys + (long long)PANELS(width) * D * PANEL;
        T* turned_values = keys + (long long)PANELS(D) * width * PANEL;
        T* queries = turned_values + (long long)PANELS(width) * E * PANEL;
        T* slopes = queries + (long long)PANELS(D) * block * PANEL;
        const long long step = LINE(width), units = samples * (heads / groups), end = units * (share + 1) / shares;
        T* s = slopes + (long long)PANELS(E) * block * PANEL;
        T* ds = s + block * step;
        for (long long u = units * share / shares; u < end; ++u) {
            const long long sample = u / (heads / groups), at = u % (heads / groups);
            const long long key = k0 + sample * kn + at * kh, value = v0 + sample * vn + at * vh;
            pack(k + key, kl, turned_keys, D, width, true);
            pack(k + key, kl, keys, width, D, false);
            pack(v + value, vl, turned_values, E, width, true);
            for (int j = 0; j < width; ++j) {
                LANES(i, D) dk[key + j * kl + i] = T(0);
                LANES(i, E) dv[value + j * vl + i] = T(0);
            }
            ROW_SYNC();
            for (long long head = at * groups; head < (at + 1) * groups; ++head) for (int l = 0; l < length; l += block) {
                const int count = length - l < block ? length - l : block;
                const int most = causal && l + count < width ? l + count : width;
                const long long query = q0 + sample * qn + head * qh + l * ql;
                const T* slope = dy + ((sample * length + l) * heads + head) * E;
                multiply(count, {q + query, ql, 1}, D, turned_keys, D, s, step, most, false);
                multiply(count, {slope, (long long)heads * E, 1}, E, turned_values, E, ds, step, most, false);
                pack(q + query, ql, queries, count, D, false);
                pack(slope, (long long)heads * E, slopes, count, E, false);
                ROW_SYNC();
                for (int i = 0; i < count; ++i) {
                    const Sight of = sight(mask, sample * mb + head * mh + (l + i) * ml, causal, l + i, width);
                    pull(s + i * step, ds + i * step, of, most, scale, ACC(lse[(sample * heads + head) * length + l + i]));
                }
                ROW_SYNC();
                multiply(count, {ds, step, 1}, most, keys, width, dq + query, ql, D, false);
                multiply(most, {ds, 1, step}, count, queries, count, dk + key, kl, D, true);
                multiply(most, {s, 1, step}, count, slopes, count, dv + value, vl, E, true);
                ROW_SYNC();
            }
        }
    }
}
