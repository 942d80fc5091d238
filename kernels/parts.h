// parts.h -- a row, register by register.
//
//   parts(n, f)             f(j, m) for the steps j of VECTORS(j, n, 1), m of whose numbers are there: that all but the last
//                           are whole is known to the compiler, which VECTORS does not let it see
//   vec_first(v, n, idle)   lanes 0..n-1 of v, `idle` in the others
#include "vectors.h"

DEVICE Vec vec_first(Vec v, int n, ACC idle) { return vec_index() < n ? v : Vec{} + idle; }
template <class F> DEVICE void parts(int n, F f) {
#ifdef FLUX_CPU
    int j = 0;
    for (; n - j >= VL; j += VL) f(j, VL);
    if (j < n) f(j, n - j);
#else
    LANES(j, n) f(j, 1);
#endif
}
