// winograd.cu -- convolutions with 3x3 kernels by Winograd's F(4x4, 3x3) (minitorch_flux/ops/winograd.py).
//
//   winograd_lines    y[n,h,w,c] = x[n,c,h-top,w-left], zero outside      (=)
//   winograd_image    V[k,t,c] = (B' d B)[k], d the 6x6 pixels of tile t in channel c
//   winograd_filter   U[k,c,o] = (G g G')[k], g the 3x3 filter of c and o
//   winograd_output   y = A' M A, the 4x4 pixels of tile t in channel o, M[k,t,o] = sum over c of V[k,t,c] U[k,c,o]
//   winograd_output_backward   dM = A dy A'
//   winograd_filter_backward   dg = G' dU G
//   winograd_planes   y[n,o,h,w] = x[n,h,w,o], without what lies beyond      (=)
//
// k counts the 36 places of a tile. Channels are the lanes. The 36 products M[k] = V[k] U[k] are BLAS's. For float32.
// Sources: Winograd, "Arithmetic complexity of computations", 1980; Lavin and Gray, "Fast algorithms for convolutional
// neural networks", 2016, whose B, G and A these are (winograd.h).
#include "winograd.h"

// A row is `block` lines of all channels, gone through channel by channel: what lies side by side is read at once.
KERNEL(winograd_lines)(const T* __restrict__ x, T* __restrict__ y, int N, int C, int H, int W, int HP, int WP, int top, int left,
                       int block) {
    const int first = left < 0 ? -left : 0, end = W < WP - left ? W : WP - left, count = end > first ? end - first : 0;
    const int blocks = (HP + block - 1) / block;
    const long long width = (long long)WP * C, before = (long long)(first + left) * C, after = before + (long long)count * C;
    ROWS(r, (long long)N * blocks, block * width) {
        const int from = r % blocks * block, to = from + block < HP ? from + block : HP;
        T* lines = y + r / blocks * HP * width;
        for (int i = from; i < to; ++i) {
            T* line = lines + i * width;
            const bool inside = i >= top && i < top + H;
            LANES(j, inside ? before : width) line[j] = T(0);
            LANES(j, inside ? width - after : 0) line[after + j] = T(0);
        }
        const T* plane = x + r / blocks * C * H * W + first;
        for (int c = 0; c < C; ++c) {
            for (int i = from > top ? from : top; i < to && i < top + H; ++i) {
                const T* line = plane + (long long)(i - top) * W;
                T* at = lines + i * width + before + c;
                LANES(j, count) at[(long long)j * C] = line[j];
            }
            plane += (long long)H * W;
        }
    }
}

KERNEL(winograd_planes)(const T* __restrict__ x, T* __restrict__ y, int N, int O, int H, int W, int HP, int WP) {
    ROWS(r, (long long)N * H * O, W) {
        const int o = r % O, h = r / O % H;
        const long long n = r / O / H;
        const T* from = x + (n * HP + h) * WP * O + o;
        T* to = y + ((n * O + o) * H + h) * W;
        LANES(w, W) to[w] = from[(long long)w * O];
    }
}

// -- tiles ---------------------------------------------------------------------------------------------------------------
//
// Along the lines first, then across them. Tiles are counted through all images; `count` of them from tile `first`.

// x is [N, 4 TH + 2, 4 TW + 2, C].
KERNEL(winograd_image)(const T* __restrict__ x, T* __restrict__ v, int TH, int TW, int C, int first, int count) {
    ROWS(r, count, 36 * (long long)C) {
        const long long tile = first + r, line = (long long)(4 * TW + 2) * C, step = (long long)count * C;
        const T* d = x + (tile / TW / TH * (4 * TH + 2) + 4 * (tile / TW % TH)) * line + 4 * (tile % TW) * C;
        T* to = v + r * C;
        for (int i = 0; i < 6; ++i) LANES(c, C) image6<T>(d + i * line + c, 0, C, to + 6 * i * step + c, 0, step);
        for (int j = 0; j < 6; ++j) LANES(c, C) image6<T>(to + j * step + c, 0, 6 * step, to + j * step + c, 0, 6 * step);
    }
}

// y is [N, 4 TH, 4 TW, O]. The numbers between the two steps take the place of M's.
KERNEL(winograd_output)(T* __restrict__ m, T* __restrict__ y, int TW, int O, int first, int count) {
    ROWS(r, count, 36 * (long long)O) {
        const long long tile = first + r, line = (long long)4 * TW * O, step = (long long)count * O;
        T* to = y + 4 * (tile / TW) * line + 4 * (tile % TW) * O;
        T* from = m + r * O;
        for (int i = 0; i < 6; ++i) LANES(o, O) output6<T>(from + 6 * i * step + o, 0, step, from + 6 * i * step + o, 0, step);
        for (int j = 0; j < 4; ++j)
            LANES(o, O) output6<T>(from + j * step + o, 0, 6 * step, to + (long long)j * O + o, 0, line);
    }
}

KERNEL(winograd_output_backward)(const T* __restrict__ y, T* __restrict__ m, int TW, int O, int first, int count) {
    ROWS(r, count, 36 * (long long)O) {
        const long long tile = first + r, line = (long long)4 * TW * O, step = (long long)count * O;
        const T* from = y + 4 * (tile / TW) * line + 4 * (tile % TW) * O;
        T* to = m + r * O;
        for (int i = 0; i < 4; ++i) LANES(o, O) output4_backward<T>(from + i * line + o, 0, O, to + 6 * i * step + o, 0, step);
        for (int j = 0; j < 6; ++j)
            LANES(o, O) output4_backward<T>(to + j * step + o, 0, 6 * step, to + j * step + o, 0, 6 * step);
    }
}

// -- filters -------------------------------------------------------------------------------------------------------------

// The filter of c and o begins at w + c * inner + o * outer; turned: its last number comes first.
KERNEL(winograd_filter)(const T* __restrict__ w, T* __restrict__ u, int C, int O, long long inner, long long outer, int turned) {
    ROWS(r, C, 36 * (long long)O) {
        const long long step = (long long)C * O;
        const int sign = turned ? -1 : 1;
        const T* g = w + r * inner + (turned ? 8 : 0);
        T* to = u + r * O;
        for (int i = 0; i < 3; ++i)
            LANES(o, O) filter3<T>(g + o * outer + 3LL * i * sign, 0, sign, to + 6 * i * step + o, 0, step);
        for (int j = 0; j < 6; ++j) LANES(o, O) filter3<T>(to + j * step + o, 0, 6 * step, to + j * step + o, 0, 6 * step);
    }
}

// The numbers between the two steps take the place of dU's.
KERNEL(winograd_filter_backward)(T* __restrict__ u, T* __restrict__ w, int C, int O) {
    ROWS(r, C, 36 * (long long)O) {
        const long long step = (long long)C * O;
        T* from = u + r * O;
        for (int i = 0; i < 6; ++i)
            LANES(o, O) filter6_backward<T>(from + 6 * i * step + o, 0, step, from + 6 * i * step + o, 0, step);
        for (int j = 0; j < 3; ++j)
            LANES(o, O) filter6_backward<T>(from + j * step + o, 0, 6 * step, w + (o * (long long)C + r) * 9 + j, 0, 3);
    }
}
