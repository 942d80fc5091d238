// image_columns.cu -- windows as columns of all images of a batch at once (minitorch_flux/ops/image_columns.py).
//
//   images_last      y[r,n] = x[n,r]      (=)
//   images_first     y[n,r] = x[r,n]      (=)
//   image_columns    col[c,k,p,n] = x[c, p s - pad + k d, n], zero outside, for `count` lines of p from line `from`      (=)
//   image_columns_data  x[c,i,n] = sum over k, p with p s - pad + k d = i  of col[c,k,p,n]      (=)
//
// x is [C, D, H, W, N]: its images are the lanes, so that a pixel is a run of N numbers and, with a stride of 1, a line of
// pixels one of W N.

// A row is BLOCK of R numbers of every image. Of x [N, R] and y [R, N] the one whose numbers of an image lie a power of two
// apart is gone through along them, which a cache with few places for each address asks for.
#define BLOCK 32

KERNEL(images_last)(const T* __restrict__ x, T* __restrict__ y, long long R, long long N) {
    ROWS(r, (R + BLOCK - 1) / BLOCK, BLOCK * N) {
        const long long first = r * BLOCK, left = R - first;
        const int size = left < BLOCK ? (int)left : BLOCK;
        for (long long n = 0; n < N; ++n) {
            const T* from = x + n * R + first;
            T* to = y + first * N + n;
            LANES(i, size) to[i * N] = from[i];
        }
    }
}

KERNEL(images_first)(const T* __restrict__ x, T* __restrict__ y, long long R, long long N) {
    ROWS(r, (R + BLOCK - 1) / BLOCK, BLOCK * N) {
        const long long first = r * BLOCK, left = R - first;
        const int size = left < BLOCK ? (int)left : BLOCK;
        for (long long n = 0; n < N; ++n) {
            const T* from = x + first * N + n;
            T* to = y + n * R + first;
            LANES(i, size) to[i] = from[i * N];
        }
    }
}

KERNEL(image_columns)(const T* __restrict__ x, T* __restrict__ col, int C, int N, int D, int H, int W, int KD, int KH, int KW,
                      int OH, int OW, int sd, int sh, int sw, int dd, int dh, int dw, int pd, int ph, int pw,
                      int from, int count) {
    const int taps = KD * KH * KW;
    const long long width = (long long)W * N, pixels = (long long)OW * N;
    ROWS(r, (long long)C * taps, count * pixels) {
        const int tap = r % taps, kw = tap % KW, kh = tap / KW % KH, kd = tap / KW / KH, left = kw * dw - pw;
        const T* image = x + r / taps * D * H * width;
        T* to = col + r * count * pixels;
        for (int i = from; i < from + count; ++i) {
            const int d = i / OH * sd - pd + kd * dd, h = i % OH * sh - ph + kh * dh;
            if (d < 0 || d >= D || h < 0 || h >= H) {
                LANES(j, pixels) to[j] = T(0);
            } else if (sw == 1) {
                const T* line = image + ((long long)d * H + h) * width;
                const long long shift = (long long)left * N;
                LANES(j, pixels) {
                    const long long w = j + shift;
                    to[j] = w >= 0 && w < width ? line[w] : T(0);
                }
            } else {
                const T* line = image + ((long long)d * H + h) * width;
                for (int ow = 0; ow < OW; ++ow) {
                    const int w = ow * sw + left;
                    const bool inside = w >= 0 && w < W;
                    const T* pixel = line + (long long)(inside ? w : 0) * N;
                    T* at = to + (long long)ow * N;
                    LANES(n, N) at[n] = inside ? pixel[n] : T(0);
                }
            }
            to += pixels;
        }
    }
}

// A row is one line of x, [W, N].
KERNEL(image_columns_data)(const T* __restrict__ col, T* __restrict__ x, int C, int N, int D, int H, int W, int KD, int KH, int KW,
                           int OD, int OH, int OW, int sd, int sh, int sw, int dd, int dh, int dw, int pd, int ph, int pw) {
    const int taps = KD * KH * KW;
    const long long width = (long long)W * N, pixels = (long long)OW * N;
    ROWS(r, (long long)C * D * H, width * KH * KW) {
        const int h = r % H, d = r / H % D;
        T* line = x + r * width;
        LANES(j, width) line[j] = T(0);
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
                    const long long row = r / H / D * taps + (kd * KH + kh) * KW + kw;
                    const T* from = col + ((row * OD + od) * OH + oh) * pixels;
                    if (sw == 1) {
                        T* to = line + (long long)(first + shift) * N;
                        from += (long long)first * N;
                        LANES(j, (long long)(end - first) * N) to[j] += from[j];
                    } else {
                        for (int ow = first; ow < end; ++ow) {
                            T* to = line + ((long long)ow * sw + shift) * N;
                            LANES(n, N) to[n] += from[(long long)ow * N + n];
                        }
                    }
                    ROW_SYNC();
                }
            }
        }
    }
}
