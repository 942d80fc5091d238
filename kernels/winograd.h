// winograd.h -- Winograd's F(4x4, 3x3) along one axis (winograd.cu, winograd_tiles.cu).
//
// From the numbers i, i + s, ... of x to the numbers j, j + t, ... of y, which may be the same ones: arrays or pointers, of
// numbers or of registers. F is what they are multiplied by.
//
//   image6             6 pixels (B')              filter3            3 of a filter (G)
//   output6            back to 4 pixels (A')      filter6_backward   back to a filter (G')
//   output4_backward   its adjoint (A)
#ifndef WINOGRAD_H
#define WINOGRAD_H
template <class F, class X, class Y>
DEVICE void image6(X&& x, long long i, long long s, Y&& y, long long j, long long t) {
    const auto a = x[i], b = x[i + s], c = x[i + 2 * s], d = x[i + 3 * s], e = x[i + 4 * s], f = x[i + 5 * s];
    y[j] = F(4) * a - F(5) * c + e;
    y[j + t] = d + e - F(4) * (b + c);
    y[j + 2 * t] = F(4) * (b - c) - d + e;
    y[j + 3 * t] = F(2) * (d - b) - c + e;
    y[j + 4 * t] = F(2) * (b - d) - c + e;
    y[j + 5 * t] = F(4) * b - F(5) * d + f;
}

template <class F, class X, class Y>
DEVICE void output6(X&& x, long long i, long long s, Y&& y, long long j, long long t) {
    const auto a = x[i], b = x[i + s], c = x[i + 2 * s], d = x[i + 3 * s], e = x[i + 4 * s], f = x[i + 5 * s];
    y[j] = a + b + c + d + e;
    y[j + t] = b - c + F(2) * (d - e);
    y[j + 2 * t] = b + c + F(4) * (d + e);
    y[j + 3 * t] = b - c + F(8) * (d - e) + f;
}

template <class F, class X, class Y>
DEVICE void output4_backward(X&& x, long long i, long long s, Y&& y, long long j, long long t) {
    const auto a = x[i], b = x[i + s], c = x[i + 2 * s], d = x[i + 3 * s];
    y[j] = a;
    y[j + t] = a + b + c + d;
    y[j + 2 * t] = a - b + c - d;
    y[j + 3 * t] = a + F(2) * b + F(4) * c + F(8) * d;
    y[j + 4 * t] = a - F(2) * b + F(4) * c - F(8) * d;
    y[j + 5 * t] = d;
}

template <class F, class X, class Y>
DEVICE void filter3(X&& x, long long i, long long s, Y&& y, long long j, long long t) {
    const auto a = x[i] / F(24), b = x[i + s] / F(12), c = x[i + 2 * s] / F(6), d = x[i + 2 * s];
    y[j] = F(6) * a;
    y[j + t] = F(-4) * a - F(2) * b - c;
    y[j + 2 * t] = F(-4) * a + F(2) * b - c;
    y[j + 3 * t] = a + b + c;
    y[j + 4 * t] = a - b + c;
    y[j + 5 * t] = d;
}

template <class F, class X, class Y>
DEVICE void filter6_backward(X&& x, long long i, long long s, Y&& y, long long j, long long t) {
    const auto a = x[i], b = x[i + s], c = x[i + 2 * s], d = x[i + 3 * s], e = x[i + 4 * s], f = x[i + 5 * s];
    y[j] = a / F(4) - (b + c) / F(6) + (d + e) / F(24);
    y[j + t] = (c - b) / F(6) + (d - e) / F(12);
    y[j + 2 * t] = (d + e - b - c) / F(6) + f;
}
#endif
