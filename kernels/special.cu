// special.cu -- the error function, elementwise: y = erf(x), written (=), n elements.
#include "flux.h"

KERNEL(erf_forward)(const T* __restrict__ x, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = T(f_erf(ACC(x[i])));
}
