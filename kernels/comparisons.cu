// comparisons.cu -- choices between large arrays (minitorch_flux/ops/comparisons.py).
//
//   where_forward    z = condition ? x : y, n elements; x or y may be a number instead (null, then a or b)
//
// A choice only moves bits: BITS is the unsigned integer of the elements' size, a and b are the bits of the numbers.
// The output is written (=).
// types: BITS=uint8
// types: BITS=uint16
// types: BITS=uint32
// types: BITS=uint64
#include "flux.h"

// Both sides are read before the choice, so that it is a choice and no branch.
KERNEL(where_forward)(const unsigned char* __restrict__ condition, OPTIONAL const BITS* __restrict__ x,
                      OPTIONAL const BITS* __restrict__ y, BITS a, BITS b, BITS* __restrict__ z, long long n) {
    EACH(i, n) {
        const BITS first = x ? x[i] : a, second = y ? y[i] : b;
        z[i] = condition[i] ? first : second;
    }
}
