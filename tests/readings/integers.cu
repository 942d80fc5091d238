// integers.cu -- kernels for the tests of the readings that take integers as well.
// types: I=int64
#include "flux.h"

// y[i] = x[index[i]], n elements; the index type is a type of the build.
KERNEL(pick)(const T* __restrict__ x, const I* __restrict__ index, T* __restrict__ y, long long n) {
    EACH(i, n) y[i] = x[index[i]];
}

// The largest of each row and how often it occurs: integers too.
KERNEL(count_max)(const T* __restrict__ x, T* __restrict__ largest, int* __restrict__ times, long long rows, int width) {
    ROWS(r, rows, width) {
        const T* xr = x + r * width;
        ACC m = ACC(xr[0]);
        LANES_MAX(m, j, width) m = f_max(m, ACC(xr[j]));
        m = row_max(m);
        int n = 0;
        LANES_SUM(n, j, width) n += ACC(xr[j]) == m;
        n = row_sum(n);
        ONE_LANE { largest[r] = T(m); times[r] = n; }
    }
}
