// elementwise.cu -- arithmetic and functions of large arrays (minitorch_flux/ops/elementwise.py).
//
//   add, subtract, multiply, divide    z = x + y and so on, where x or y may be a number instead (null, then a or b)
//   exp, expm1, log, log1p, sqrt, sin, cos    y = f(x)
//
// All arrays have n elements. Outputs are written (=).
#include "flux.h"

#define X(i) (x ? ACC(x[i]) : a)
#define Y(i) (y ? ACC(y[i]) : b)

KERNEL(add_forward)(OPTIONAL const T* __restrict__ x, OPTIONAL const T* __restrict__ y, ACC a, ACC b, T* __restrict__ z,
                    long long n) {
    EACH(i, n) z[i] = T(X(i) + Y(i));
}

KERNEL(subtract_forward)(OPTIONAL const T* __restrict__ x, OPTIONAL const T* __restrict__ y, ACC a, ACC b,
                         T* __restrict__ z, long long n) {
    EACH(i, n) z[i] = T(X(i) - Y(i));
}

KERNEL(multiply_forward)(OPTIONAL const T* __restrict__ x, OPTIONAL const T* __restrict__ y, ACC a, ACC b,
                         T* __restrict__ z, long long n) {
    EACH(i, n) z[i] = T(X(i) * Y(i));
}

KERNEL(divide_forward)(OPTIONAL const T* __restrict__ x, OPTIONAL const T* __restrict__ y, ACC a, ACC b,
                       T* __restrict__ z, long long n) {
    EACH(i, n) z[i] = T(X(i) / Y(i));
}

KERNEL(exp_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_exp(ACC(x[i])));
}

KERNEL(expm1_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_expm1(ACC(x[i])));
}

KERNEL(log_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_log(ACC(x[i])));
}

KERNEL(log1p_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_log1p(ACC(x[i])));
}

KERNEL(sqrt_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_sqrt(ACC(x[i])));
}

KERNEL(sin_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_sin(ACC(x[i])));
}

KERNEL(cos_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_cos(ACC(x[i])));
}
