// pooling.cu -- max and mean over windows, and their gradients (minitorch_flux/ops/pooling.py, adaptive_pooling.py).
//
//   max_pool_forward    y[p] = max over k of x[p s - pad + k d], arg[p] = its place in the plane: the first one's, the
//                       first NaN's if there is one, -1 where no tap is inside
//   max_pool_backward   dx[i] = sum of dy[p] over all p with arg[p] = i
//   mean_pool_forward   y[p] = sum over k of x[p s - pad + k d] / count[p], zero outside
//   mean_pool_backward  dx[i] = sum of dy[p] / count[p] over all p and k with p s - pad + k d = i
//   adaptive_*          the same for windows [floor(p I / O), ceil((p + 1) I / O))
//
// x is [planes, D, H, W], y, arg and dy are [planes, OD, OH, OW], count is [OD, OH, OW]. All outputs are written (=).
// The gradients gather: a row is one line of dx and looks for the windows that cover it, so no two rows meet.
//
// Constants of a build: the window's sides KD, KH, KW, and along the width its stride SW and dilation DW. Unrolled, the
// lane loops become SIMD code; the lanes of windows that reach over an edge are counted apart, with EDGE.
// constants: KD=1 KH=2 KW=2 SW=2 DW=1
// constants: KD=1 KH=3 KW=3 SW=2 DW=1
// constants: KD=2 KH=1 KW=3 SW=1 DW=2
#ifdef KW
struct Volume { int D, H, W, dd, dh; };         // of the input; dilation

// One window; (d0, h0, w0) is its first tap.
template <bool EDGE>
DEVICE void max_of_window(const T* __restrict__ plane, T* __restrict__ y, int* __restrict__ arg, Volume s, int d0, int h0, int w0) {
    ACC best = -INFINITY;
    int at = -1;
    UNROLL for (int k = 0; k < KD * KH * KW; ++k) {
        const int d = d0 + k / KW / KH * s.dd, h = h0 + k / KW % KH * s.dh, w = w0 + k % KW * DW;
        const bool inside = !EDGE || (d >= 0 && d < s.D && h >= 0 && h < s.H && w >= 0 && w < s.W);
        const int place = (d * s.H + h) * s.W + w;
        const ACC v = inside ? ACC(plane[place]) : ACC(0);
        const bool first = EDGE ? at < 0 : k == 0;
        const bool better = inside && (first || v > best || (v != v && best == best));     // a NaN wins and stays
        best = better ? v : best;
        at = better ? place : at;
    }
    *y = T(best);
    *arg = at;
}

template <bool EDGE>
DEVICE ACC sum_of_window(const T* __restrict__ plane, Volume s, int d0, int h0, int w0) {
    ACC sum = 0;
    UNROLL for (int k = 0; k < KD * KH * KW; ++k) {
        const int d = d0 + k / KW / KH * s.dd, h = h0 + k / KW % KH * s.dh, w = w0 + k % KW * DW;
        const bool inside = !EDGE || (d >= 0 && d < s.D && h >= 0 && h < s.H && w >= 0 && w < s.W);
        sum += inside ? ACC(plane[(d * s.H + h) * s.W + w]) : ACC(0);
    }
    return sum;
}

// Windows first..end-1 of a line of n reach over no edge, if `inside` (the line's planes and lines all exist).
DEVICE int first_inside(int n, int pw, bool inside) {
    const int first = (pw + SW - 1) / SW;
    return inside && first < n ? first : n;
}
DEVICE int end_inside(int n, int W, int pw, int first) {
    const int room = W + pw - (KW - 1) * DW, end = room < 1 ? 0 : (room - 1) / SW + 1;
    return end < first ? first : end < n ? end : n;
}
#endif

KERNEL(max_pool_forward)(const T* __restrict__ x, T* __restrict__ y, int* __restrict__ arg, long long planes, int D, int H, int W,
                         int OD, int OH, int OW, int sd, int sh, int dd, int dh, int pd, int ph, int pw) {
    const Volume s = {D, H, W, dd, dh};
    ROWS(r, planes * OD * OH, OW * KD * KH * KW) {
        const int oh = r % OH, od = r / OH % OD, d0 = od * sd - pd, h0 = oh * sh - ph;
        const T* plane = x + r / OH / OD * D * H * W;
        T* to = y + r * OW;
        int* place = arg + r * OW;
        const bool inside = d0 >= 0 && d0 + (KD - 1) * dd < D && h0 >= 0 && h0 + (KH - 1) * dh < H;
        const int first = first_inside(OW, pw, inside), end = end_inside(OW, W, pw, first);
        LANES(i, end - first) {
            const int o = first + i;
            max_of_window<false>(plane, to + o, place + o, s, d0, h0, o * SW - pw);
        }
        LANES(i, OW - (end - first)) {
            const int o = i < first ? i : end + i - first;
            max_of_window<true>(plane, to + o, place + o, s, d0, h0, o * SW - pw);
        }
    }
}

KERNEL(mean_pool_forward)(const T* __restrict__ x, const T* __restrict__ count, T* __restrict__ y, long long planes, int D, int H,
                          int W, int OD, int OH, int OW, int sd, int sh, int dd, int dh, int pd, int ph, int pw) {
    const Volume s = {D, H, W, dd, dh};
    ROWS(r, planes * OD * OH, OW * KD * KH * KW) {
        const int oh = r % OH, od = r / OH % OD, d0 = od * sd - pd, h0 = oh * sh - ph;
        const T* plane = x + r / OH / OD * D * H * W;
        const T* n = count + (od * OH + oh) * OW;
        T* to = y + r * OW;
        const bool inside = d0 >= 0 && d0 + (KD - 1) * dd < D && h0 >= 0 && h0 + (KH - 1) * dh < H;
        const int first = first_inside(OW, pw, inside), end = end_inside(OW, W, pw, first);
        LANES(i, end - first) {
            const int o = first + i;
            to[o] = T(sum_of_window<false>(plane, s, d0, h0, o * SW - pw) / ACC(n[o]));
        }
        LANES(i, OW - (end - first)) {
            const int o = i < first ? i : end + i - first;
            to[o] = T(sum_of_window<true>(plane, s, d0, h0, o * SW - pw) / ACC(n[o]));
        }
    }
}

// The gradients. A lane owns the SW pixels i SW - pw, ..., i SW - pw + SW - 1 of its line; tap kw of window o meets the one
// with the number kw DW % SW for o = i - kw DW / SW. `value(o, w)` is what window o of a line of windows gives to pixel w.
#ifdef KW
template <bool EDGE, class Value>
DEVICE void give_pixels(T* __restrict__ line, int i, int W, int OW, int pw, bool add, Value value) {
    UNROLL for (int f = 0; f < SW; ++f) {
        const int w = i * SW + f - pw;
        if (EDGE && (w < 0 || w >= W)) continue;
        ACC sum = add ? ACC(line[w]) : ACC(0);
        UNROLL for (int kw = 0; kw < KW; ++kw) if (kw * DW % SW == f) {
            const int o = i - kw * DW / SW;
            if (!EDGE || (o >= 0 && o < OW)) sum += value(o, w);
        }
        line[w] = T(sum);
    }
}

template <class Value> DEVICE void give_line(T* __restrict__ line, int W, int OW, int pw, bool add, Value value) {
    const int reach = (KW - 1) * DW / SW, n = (W - 1 + pw) / SW + 1;
    const int low = (pw + SW - 1) / SW, first = reach > low ? reach : low, whole = (W + pw) / SW, most = whole < OW ? whole : OW;
    const int start = first < n ? first : n, end = most > start ? most : start;
    if (add) LANES(i, end - start) give_pixels<false>(line, start + i, W, OW, pw, true, value);
    else LANES(i, end - start) give_pixels<false>(line, start + i, W, OW, pw, false, value);
    LANES(i, n - (end - start)) give_pixels<true>(line, i < start ? i : end + i - start, W, OW, pw, add, value);
}

struct Winners {
    const T* dy; const int* arg; int place;      // of pixel 0 of the line
    DEVICE_MEMBER ACC operator()(int o, int w) const { const ACC g = ACC(dy[o]); return arg[o] == place + w ? g : ACC(0); }
};
struct Shares {
    const T* dy; const T* count;
    DEVICE_MEMBER ACC operator()(int o, int) const { return ACC(dy[o]) / ACC(count[o]); }
};
#endif

KERNEL(max_pool_backward)(const T* __restrict__ dy, const int* __restrict__ arg, T* __restrict__ dx, long long planes, int D,
                          int H, int W, int OD, int OH, int OW, int sd, int sh, int dd, int dh, int pd, int ph, int pw) {
    ROWS(r, planes * D * H, W * ((KH - 1) / sh + 1) * ((KD - 1) / sd + 1) * ((KW - 1) / SW + 1)) {
        const int h = r % H, d = r / H % D;
        const long long windows = r / H / D * OD * OH * OW;
        T* line = dx + r * W;
        bool add = false;
        for (int kd = 0; kd < KD; ++kd) {
            const int ud = d + pd - kd * dd, od = ud / sd;
            if (ud < 0 || ud % sd || od >= OD) continue;
            for (int kh = 0; kh < KH; ++kh) {
                const int uh = h + ph - kh * dh, oh = uh / sh;
                if (uh < 0 || uh % sh || oh >= OH) continue;
                const long long o = windows + ((long long)od * OH + oh) * OW;
                give_line(line, W, OW, pw, add, Winners{dy + o, arg + o, (d * H + h) * W});
                add = true;
            }
        }
        if (!add) LANES(w, W) line[w] = T(0);
    }
}

KERNEL(mean_pool_backward)(const T* __restrict__ dy, const T* __restrict__ count, T* __restrict__ dx, long long planes, int D,
                           int H, int W, int OD, int OH, int OW, int sd, int sh, int dd, int dh, int pd, int ph, int pw) {
    ROWS(r, planes * D * H, W * ((KH - 1) / sh + 1) * ((KD - 1) / sd + 1) * ((KW - 1) / SW + 1)) {
        const int h = r % H, d = r / H % D;
        const long long windows = r / H / D * OD * OH * OW;
        T* line = dx + r * W;
        bool add = false;
        for (int kd = 0; kd < KD; ++kd) {
            const int ud = d + pd - kd * dd, od = ud / sd;
            if (ud < 0 || ud % sd || od >= OD) continue;
            for (int kh = 0; kh < KH; ++kh) {
                const int uh = h + ph - kh * dh, oh = uh / sh;
                if (uh < 0 || uh % sh || oh >= OH) continue;
                const long long o = ((long long)od * OH + oh) * OW;
                give_line(line, W, OW, pw, add, Shares{dy + windows + o, count + o});
                add = true;
            }
        }
        if (!add) LANES(w, W) line[w] = T(0);
    }
}
