// im2col.cu -- windows as columns, and back (minitorch_flux/ops/im2col.py), and lines for convolution.cu.
//
//   im2col_forward   col[c,k,p] = x[c, p s - pad + k d], zero outside      (=)
//   col2im_forward   x[c,i] = sum over k, p with p s - pad + k d = i  of col[c,k,p]      (=)
//   conv_lines       y[r,f,i] = x[r, i F + f - lo], zero outside, for F phases      (=)
//
// x is [N, C, D, H, W], a column matrix [C*KD*KH*KW, OD*OH*OW] per image; `image` and `row` are the distances between
// images and between rows of the matrix, so that images can lie one after the other or side by side.

KERNEL(im2col_forward)(const T* __restrict__ x, T* __restrict__ col, int N, int C, int D, int H, int W, int KD, int KH, int KW,
                       int OD, int OH, int OW, int sd, int sh, int sw, int dd, int dh, int dw, int pd, int ph, int pw,
                       long long image, long long row) {
    const int taps = KD * KH * KW;
    ROWS(r, (long long)N * C * taps, (long long)OD * OH * OW) {
        const int tap = r % taps, kw = tap % KW, kh = tap / KW % KH, kd = tap / KW / KH;
        const long long nc = r / taps;
        T* to = col + nc / C * image + (nc % C * taps + tap) * row;
        for (int od = 0; od < OD; ++od)
            for (int oh = 0; oh < OH; ++oh) {
                const int d = od * sd - pd + kd * dd, h = oh * sh - ph + kh * dh;
                const bool inside = d >= 0 && d < D && h >= 0 && h < H;
                const T* line = x + ((nc * D + (inside ? d : 0)) * H + (inside ? h : 0)) * W;
                LANES(ow, OW) {
                    const int w = ow * sw - pw + kw * dw;
                    to[ow] = inside && w >= 0 && w < W ? line[w] : T(0);
                }
                to += OW;
            }
    }
}

// A row is one line of x. Its lanes are output pixels: those of one tap meet different places of the line.
KERNEL(col2im_forward)(const T* __restrict__ col, T* __restrict__ x, int N, int C, int D, int H, int W, int KD, int KH, int KW,
                       int OD, int OH, int OW, int sd, int sh, int sw, int dd, int dh, int dw, int pd, int ph, int pw,
                       long long image, long long row) {
    ROWS(r, (long long)N * C * D * H, (long long)W * KH * KW) {
        const int h = r % H, d = r / H % D;
        const long long nc = r / H / D;
        const T* matrix = col + nc / C * image + nc % C * KD * KH * KW * row;
        T* line = x + r * W;
        LANES(w, W) line[w] = T(0);
        ROW_SYNC();
        for (int kd = 0; kd < KD; ++kd) {
            const int ud = d + pd - kd * dd, od = ud / sd;
            if (ud < 0 || ud % sd || od >= OD) continue;
            for (int kh = 0; kh < KH; ++kh) {
                const int uh = h + ph - kh * dh, oh = uh / sh;
                if (uh < 0 || uh % sh || oh >= OH) continue;
                for (int kw = 0; kw < KW; ++kw) {
                    const int shift = kw * dw - pw;                  // pixel ow adds to line[ow * sw + shift]
                    const int first = shift < 0 ? (sw - 1 - shift) / sw : 0;
                    const int most = shift < W ? (W - 1 - shift) / sw + 1 : 0, end = most < OW ? most : OW;
                    const T* from = matrix + ((kd * KH + kh) * KW + kw) * row + ((long long)od * OH + oh) * OW;
                    LANES(i, end - first) line[(first + i) * sw + shift] += from[first + i];
                    ROW_SYNC();
                }
            }
        }
    }
}

KERNEL(conv_lines)(const T* __restrict__ x, T* __restrict__ y, long long rows, int W, int phases, int P, int lo) {
    ROWS(r, rows, (long long)phases * P) {
        const T* from = x + r * W;
        for (int phase = 0; phase < phases; ++phase) {
            T* to = y + (r * phases + phase) * P;
            LANES(i, P) {
                const int w = i * phases + phase - lo;
                to[i] = w >= 0 && w < W ? from[w] : T(0);
            }
        }
    }
}
