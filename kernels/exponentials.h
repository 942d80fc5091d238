// exponentials.h -- e^x of numbers that are not large, as softmaxes need it.
//
//   exp_low(x)         e^x for x <= 88, x <= 709 of doubles, a number or a Vec; a NaN stays one.  Within one unit in
//                      the last place, and 0 where e^x is no normal number (from -87.7 and -708.7 on)
//   below(x, top)      x - top; 0 where both are the same infinity
//   larger(x, top)     the larger of both, passing over an x that is NaN; vec_larger(v) of all numbers of a Vec
//
// On a GPU it is the C library's.  On the CPU e^x = 2^k e^r with k = x / log 2 to the nearest integer and e^r from a
// polynomial for |r| <= log(2) / 2: a call of the vector library keeps no register, and takes twice as long.
#include "parts.h"

#ifdef FLUX_CPU
template <int size> struct BitsOf { typedef uint32_t type; };
template <> struct BitsOf<8> { typedef uint64_t type; };
typedef BitsOf<sizeof(ACC)>::type Bits;
typedef Bits VecBits __attribute__((vector_size(VEC_BYTES)));
constexpr bool EXP_DOUBLE = sizeof(ACC) == 8;
constexpr ACC EXP_LEAST = EXP_DOUBLE ? -709 : -88;   // k is one less than a normal number's there, and its bits are those of 0
constexpr ACC EXP_SHIFT = EXP_DOUBLE ? ACC(6755399441055744. + 1023) : ACC(12582912 + 127);    // added, it rounds to an integer
constexpr ACC LOG2_HIGH = EXP_DOUBLE ? ACC(6.93147180369123816490e-01) : ACC(0.693359375);     // times k without rounding
constexpr ACC LOG2_LOW = EXP_DOUBLE ? ACC(1.90821492927058770002e-10) : ACC(-2.12194440e-4);
// 2^k for t = k + EXP_SHIFT, whose last bits are those of k + the exponents' bias.
DEVICE ACC exp_power(ACC t) {
    union { ACC number; Bits bits; } v = {t};
    v.bits <<= EXP_DOUBLE ? 52 : 23;
    return v.number;
}
DEVICE Vec exp_power(Vec t) { return (Vec)((VecBits)t << (EXP_DOUBLE ? 52 : 23)); }
template <class V> DEVICE V exp_low(V x) {
    x = x < EXP_LEAST ? V{} + EXP_LEAST : x;
    const V t = x * ACC(1.44269504088896340736) + EXP_SHIFT, k = t - EXP_SHIFT;
    const V r = x - k * LOG2_HIGH - k * LOG2_LOW;
    V p;
    if (EXP_DOUBLE) {
        p = r * ACC(2.5100472505694996e-8) + ACC(2.762020159103154879e-7);
        p = p * r + ACC(2.755726827690569619e-6);
        p = p * r + ACC(2.48015210578682052e-5);
        p = p * r + ACC(1.984126986317155603e-4);
        p = p * r + ACC(1.388888891736708056e-3);
        p = p * r + ACC(8.333333333330038197e-3);
        p = p * r + ACC(4.166666666662382053e-2);
        p = p * r + ACC(0.1666666666666666746);
    } else {
        p = r * ACC(1.392625083e-3) + ACC(8.363232884e-3);
        p = p * r + ACC(4.166655421e-2);
        p = p * r + ACC(0.1666657667);
    }
    p = p * r + ACC(0.5);
    p = p * r + 1;
    p = p * r + 1;
    return p * exp_power(t);
}
#else
DEVICE ACC exp_low(ACC x) { return f_exp(x); }
#endif
template <class V> DEVICE V larger(V x, V top) { return x > top ? x : top; }
template <class V> DEVICE V below(V x, ACC top) { return x == top ? V{} : x - top; }
DEVICE ACC vec_larger(Vec v) {
#ifdef FLUX_CPU
    UNROLL for (int half = VL / 2; half; half /= 2) v = larger(vec_shuffle(v, v, (vec_index() + half) % VL), v);
    return v[0];
#else
    return v;
#endif
}
