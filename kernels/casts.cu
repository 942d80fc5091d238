// casts.cu -- numbers in another dtype: y = x, n of them, written (=).
//
// FROM is the dtype of x, T that of y. A row is CHUNK numbers.
#include "vectors.h"
// types: FROM=float32
// types: FROM=float16

#define CHUNK 4096

KERNEL(astype_forward)(const FROM* __restrict__ x, T* __restrict__ y, long long n) {
    ROWS(r, (n + CHUNK - 1) / CHUNK, CHUNK) {
        const long long first = r * CHUNK, left = n - first;
        const int count = left < CHUNK ? (int)left : CHUNK;
        VECTORS(j, count, 1) vec_store(y + first + j, vec_load(x + first + j, count - j), count - j);
    }
}
