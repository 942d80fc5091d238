// vectors.h -- a lane that holds several numbers.
//
// VECTORS(j, n, blocks) walks over 0..n-1 as LANES(j, n) does, but a step takes `blocks` SIMD registers of VL
// numbers each on the CPU, and one number on a GPU (VL is 1 there, and blocks must be 1).  A Vec is such a register:
// arrays of Vec are accumulators that stay in registers, which compilers do not manage by themselves, and the end of
// a short line takes no slow loop.  Arithmetic is written as for numbers, `a += v * s`, `v > w ? v : w`.
//
//   Vec     VL numbers of type ACC        VecInt   VL integers, the type of comparisons and of places
//   VEC_FREE                              how many of them may be accumulators: the machine's registers, less some
//   VEC_SPLIT(n, m)                       n rows of m accumulators each: how many rows at a time leave them in registers
//   vec_index()                           0, 1, 2, ...;  vec_at(v, l) is the integer in lane l of v
//   vec_load(p)                           VL numbers
//   vec_load(p, n)                        the first n, 0 after;  reads no further
//   vec_load(p, from, to)                 lanes from..to-1, 0 elsewhere;  reads nothing else
//   vec_load_every<S>(p, from, to)        the same of p[0], p[S], p[2 S], ...
//   vec_load_int(p, from, to)             the same of ints
//   vec_gather(p, at, which)              p[at[l]] where which[l] is true, 0 elsewhere;  vec_gather_int(p, at, which) of ints
//   vec_store(p, v, n)                    the first n;  vec_store_int(p, v, n) likewise
//   vec_store_every<S>(p, v, from, to)    p[l S + f] = v[f][l] for from <= l S + f < to
//   VecPart<S> part(from, to)             the numbers from..to-1 of S registers, worked out once for many of
//   vec_load(p, part, v)                  v[f][l] = p[l S + f] of the part, 0 elsewhere;  reads nothing else
//   vec_store(p, v, part)                 p[l S + f] = v[f][l] of the part
//   vec_transpose(v)                      VL registers: number l of v[i] and number i of v[l] change places
//   vec_each(v, f)                        f(number) for each, one after the other
//   vec_sum(v), vec_max(v)                the sum of all; the largest, a NaN if there is one
//   vec_sums(v)                           VL registers: lane l gets the sum of v[l]; v is used up
//   vec_store_past(p, v)                  all of v, past the caches, for what they would not hold;  vec_stored() after the last
//   vec_ahead(p), vec_ahead_write(p)      nothing, but that the memory at p may come to the cache before it is read, or written
//
// Pointers are to ACC, or to what is stored in fewer bits: a register of 16-bit floats is converted in one step.
#define VEC_PARTS(n, m) (((n) * (m) + VEC_FREE - 1) / VEC_FREE)
#define VEC_SPLIT(n, m) (((n) + VEC_PARTS(n, m) - 1) / VEC_PARTS(n, m))
#ifdef FLUX_CPU
#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif
#if defined(__AVX512F__) || defined(__aarch64__)
#define VEC_FREE 28
#else
#define VEC_FREE 12
#endif
#define VL ((int)(VEC_BYTES / sizeof(ACC)))
#define VECTORS(j, n, blocks) for (int j = 0; j < (n); j += (blocks) * VL)
template <int size> struct IntOf { typedef int type; };
template <> struct IntOf<8> { typedef long long type; };
typedef IntOf<sizeof(ACC)>::type VecElement;
typedef ACC Vec __attribute__((vector_size(VEC_BYTES), aligned(sizeof(ACC)), may_alias));
typedef VecElement VecInt __attribute__((vector_size(VEC_BYTES)));
DEVICE VecInt vec_index() {
    VecInt v = {};
    UNROLL for (int l = 0; l < VL; ++l) v[l] = l;
    return v;
}
DEVICE VecElement vec_at(VecInt v, int l) { return v[l]; }
DEVICE int vec_within(int n) { return n < 0 ? 0 : n < VL ? n : VL; }
// Loads and stores of a part: one instruction where the machine has masks, for which GCC 12 finds no plain loop.
template <class E> DEVICE Vec vec_load(const E* p, int from, int to) {
    Vec v = {};
    for (int l = vec_within(from); l < vec_within(to); ++l) v[l] = ACC(p[l]);
    return v;
}
template <class E> DEVICE void vec_store(E* p, Vec v, int from, int to) {
    for (int l = vec_within(from); l < vec_within(to); ++l) p[l] = E(v[l]);
}
#ifdef __has_builtin
#if defined(__AVX512F__) && __has_builtin(__builtin_ia32_loadups512_mask) && __has_builtin(__builtin_ia32_storeups512_mask)
#define VEC_MASKS
typedef float Floats __attribute__((vector_size(64)));
typedef double Doubles __attribute__((vector_size(64)));
struct VecMask { unsigned bits; };
DEVICE VecMask vec_mask(int from, int to) { return {((1u << vec_within(to)) - 1) & ~((1u << vec_within(from)) - 1)}; }
DEVICE Vec vec_load(const float* p, VecMask m) { return (Vec)__builtin_ia32_loadups512_mask(p, Floats{}, (unsigned short)m.bits); }
DEVICE Vec vec_load(const double* p, VecMask m) { return (Vec)__builtin_ia32_loadupd512_mask(p, Doubles{}, (unsigned char)m.bits); }
DEVICE void vec_store(float* p, Vec v, VecMask m) { __builtin_ia32_storeups512_mask(p, (Floats)v, (unsigned short)m.bits); }
DEVICE void vec_store(double* p, Vec v, VecMask m) { __builtin_ia32_storeupd512_mask(p, (Doubles)v, (unsigned char)m.bits); }
#elif defined(__AVX__) && __has_builtin(__builtin_ia32_maskloadps256) && __has_builtin(__builtin_ia32_maskstoreps256)
#define VEC_MASKS
typedef float Floats __attribute__((vector_size(32)));
typedef double Doubles __attribute__((vector_size(32)));
typedef int Ints __attribute__((vector_size(32)));
typedef long long Longs __attribute__((vector_size(32)));
struct VecMask { VecInt lanes; };
DEVICE VecMask vec_mask(int from, int to) { return {(vec_index() >= from) & (vec_index() < to)}; }
DEVICE Vec vec_load(const float* p, VecMask m) { return (Vec)__builtin_ia32_maskloadps256((const Floats*)p, (Ints)m.lanes); }
DEVICE Vec vec_load(const double* p, VecMask m) { return (Vec)__builtin_ia32_maskloadpd256((const Doubles*)p, (Longs)m.lanes); }
DEVICE void vec_store(float* p, Vec v, VecMask m) { __builtin_ia32_maskstoreps256((Floats*)p, (Ints)m.lanes, (Floats)v); }
DEVICE void vec_store(double* p, Vec v, VecMask m) { __builtin_ia32_maskstorepd256((Doubles*)p, (Longs)m.lanes, (Doubles)v); }
#endif
#endif
#ifndef VEC_MASKS
struct VecMask { int from, to; };
DEVICE VecMask vec_mask(int from, int to) { return {from, to}; }
DEVICE Vec vec_load(const ACC* p, VecMask m) {
    if (m.from <= 0 && m.to >= VL) return *(const Vec*)p;
    return vec_load<ACC>(p, m.from, m.to);
}
DEVICE void vec_store(ACC* p, Vec v, VecMask m) {
    if (m.from <= 0 && m.to >= VL) *(Vec*)p = v;
    else vec_store<ACC>(p, v, m.from, m.to);
}
#endif
DEVICE Vec vec_load(const ACC* p, int from, int to) { return vec_load(p, vec_mask(from, to)); }
DEVICE void vec_store(ACC* p, Vec v, int from, int to) { vec_store(p, v, vec_mask(from, to)); }
DEVICE Vec vec_load(const ACC* p) { return *(const Vec*)p; }
#include "halves.h"
template <class E> DEVICE Vec vec_load(const E* p) { return vec_load(p, 0, VL); }
template <class E> DEVICE Vec vec_load(const E* p, int n) { return vec_load(p, 0, n); }
template <class E> DEVICE void vec_store(E* p, Vec v, int n) { vec_store(p, v, 0, n); }
#if defined(__AVX512F__) && defined(VEC_MASKS)
DEVICE void vec_store_past(ACC* p, Vec v) {
    if ((unsigned long long)p % VEC_BYTES) *(Vec*)p = v;
    else __builtin_ia32_movntps512((float*)p, (Floats)v);
}
DEVICE void vec_stored() { __builtin_ia32_sfence(); }
#else
DEVICE void vec_store_past(ACC* p, Vec v) { *(Vec*)p = v; }
DEVICE void vec_stored() {}
#endif
DEVICE void vec_ahead(const void* p) { __builtin_prefetch(p, 0, 2); }
DEVICE void vec_ahead_write(void* p) { __builtin_prefetch(p, 1, 2); }
DEVICE Vec vec_shuffle(Vec a, Vec b, VecInt from) {      // lane l is lane from[l] of a and b one after the other
#ifdef __clang__
    Vec v = {};
    for (int l = 0; l < VL; ++l) v[l] = from[l] < VL ? a[from[l]] : b[from[l] - VL];
    return v;
#else
    return __builtin_shuffle(a, b, from);
#endif
}
DEVICE VecInt vec_load_int(const int* p, int from, int to) {
    if (sizeof(ACC) == sizeof(int)) return (VecInt)vec_load((const float*)p, from, to);
    VecInt v = {};
    for (int l = vec_within(from); l < vec_within(to); ++l) v[l] = p[l];
    return v;
}
DEVICE void vec_store_int(int* p, VecInt v, int n) {
    if (sizeof(ACC) == sizeof(int)) return vec_store((float*)p, (Vec)v, 0, n);
    for (int l = 0; l < vec_within(n); ++l) p[l] = (int)v[l];
}
template <class E> DEVICE Vec vec_gather(const E* p, VecInt at, VecInt which) {
    const VecInt place = at & which;                     // p[0] is read for the others
    Vec v;
    for (int l = 0; l < VL; ++l) v[l] = ACC(p[place[l]]);
    return which ? v : Vec{};
}
DEVICE VecInt vec_gather_int(const int* p, VecInt at, VecInt which) {
    const VecInt place = at & which;
    VecInt v;
    for (int l = 0; l < VL; ++l) v[l] = p[place[l]];
    return which ? v : VecInt{};
}
template <int S, class E> DEVICE Vec vec_load_every(const E* p, int from, int to) {
    if (S == 1) return vec_load(p, from, to);
    if (S == 2) return vec_shuffle(vec_load(p, 2 * from, 2 * to - 1), vec_load(p + VL, 2 * from - VL, 2 * to - 1 - VL), 2 * vec_index());
    Vec v = {};
    for (int l = vec_within(from); l < vec_within(to); ++l) v[l] = ACC(p[l * S]);
    return v;
}
template <int S, class E> DEVICE void vec_store_every(E* p, const Vec (&v)[S], int from, int to) {
    if (S == 1) return vec_store(p, v[0], from, to);
    if (S == 2) {
        const VecInt half = vec_index() / 2 + vec_index() % 2 * VL;
        vec_store(p, vec_shuffle(v[0], v[S - 1], half), from, to);
        vec_store(p + VL, vec_shuffle(v[0], v[S - 1], half + VL / 2), from - VL, to - VL);
        return;
    }
    for (int k = from < 0 ? 0 : from; k < S * VL && k < to; ++k) p[k] = E(v[k % S][k / S]);
}
template <int S> struct VecPart {
    VecMask mask[S];
    DEVICE_MEMBER VecPart() {}
    DEVICE_MEMBER VecPart(int from, int to) { UNROLL for (int i = 0; i < S; ++i) mask[i] = vec_mask(from - i * VL, to - i * VL); }
};
template <int S> DEVICE void vec_load(const ACC* p, const VecPart<S>& part, Vec (&v)[S]) {
    Vec a[S];
    UNROLL for (int i = 0; i < S; ++i) a[i] = vec_load(p + i * VL, part.mask[i]);
    if (S == 1) v[0] = a[0];
    else if (S == 2) {
        v[0] = vec_shuffle(a[0], a[S - 1], 2 * vec_index());
        v[S - 1] = vec_shuffle(a[0], a[S - 1], 2 * vec_index() + 1);
    } else
        for (int k = 0; k < S * VL; ++k) v[k % S][k / S] = a[k / VL][k % VL];
}
template <int S> DEVICE void vec_store(ACC* p, const Vec (&v)[S], const VecPart<S>& part) {
    Vec a[S];
    if (S == 1) a[0] = v[0];
    else if (S == 2) {
        const VecInt half = vec_index() / 2 + vec_index() % 2 * VL;
        a[0] = vec_shuffle(v[0], v[S - 1], half);
        a[S - 1] = vec_shuffle(v[0], v[S - 1], half + VL / 2);
    } else
        for (int k = 0; k < S * VL; ++k) a[k / VL][k % VL] = v[k % S][k / S];
    UNROLL for (int i = 0; i < S; ++i) vec_store(p + i * VL, a[i], part.mask[i]);
}
template <int size = 1> DEVICE void vec_transpose(Vec (&v)[VL]) {     // blocks of `size` numbers, then larger ones
    if constexpr (size < VL) {
        const VecInt l = vec_index(), second = (l & size) != 0;
        const VecInt low = second ? l + (VL - size) : l, high = second ? l + VL : l + size;
        UNROLL for (int i = 0; i < VL; ++i) if (!(i & size)) {
            const Vec a = v[i], b = v[i + size];
            v[i] = vec_shuffle(a, b, low), v[i + size] = vec_shuffle(a, b, high);
        }
        vec_transpose<2 * size>(v);
    }
}
template <class F> DEVICE Vec vec_each(Vec v, F f) {
    for (int l = 0; l < VL; ++l) v[l] = f(v[l]);
    return v;
}
DEVICE ACC vec_sum(Vec v) {
    UNROLL for (int half = VL / 2; half; half /= 2) v += vec_shuffle(v, v, vec_index() + half);
    return v[0];
}
template <int half = VL / 2> DEVICE Vec vec_sums(Vec (&v)[VL]) {
    if constexpr (half == 0) return v[0];
    else {
        const VecInt l = vec_index(), low = (l & half) == 0;
        const VecInt a = low ? l : l + (VL - half), b = low ? l + half : l + VL;
        UNROLL for (int i = 0; i < half; ++i) v[i] = vec_shuffle(v[i], v[i + half], a) + vec_shuffle(v[i], v[i + half], b);
        return vec_sums<half / 2>(v);
    }
}
DEVICE ACC vec_max(Vec v) {
    UNROLL for (int half = VL / 2; half; half /= 2) {
        const Vec w = vec_shuffle(v, v, (vec_index() + half) % VL);
        v = (w > v) | (w != w) ? w : v;
    }
    return v[0];
}
DEVICE VecElement vec_max(VecInt v) {
    UNROLL for (int half = VL / 2; half; half /= 2) {
        const VecInt w = (VecInt)vec_shuffle((Vec)v, (Vec)v, (vec_index() + half) % VL);
        v = w > v ? w : v;
    }
    return v[0];
}
#else
#define VL 1
#define VEC_FREE 96
#define VECTORS(j, n, blocks) LANES(j, n)
typedef ACC Vec;
typedef int VecInt;
DEVICE VecInt vec_index() { return 0; }
DEVICE int vec_at(VecInt v, int) { return v; }
DEVICE Vec vec_load(const T* p) { return ACC(*p); }
template <class E> DEVICE Vec vec_load(const E* p, int) { return ACC(*p); }
template <class E> DEVICE Vec vec_load(const E* p, int from, int to) { return from <= 0 && to > 0 ? ACC(*p) : ACC(0); }
template <int S, class E> DEVICE Vec vec_load_every(const E* p, int from, int to) { return vec_load(p, from, to); }
DEVICE VecInt vec_load_int(const int* p, int from, int to) { return from <= 0 && to > 0 ? *p : 0; }
template <class E> DEVICE Vec vec_gather(const E* p, int at, int which) { return which ? ACC(p[at]) : ACC(0); }
DEVICE VecInt vec_gather_int(const int* p, int at, int which) { return which ? p[at] : 0; }
template <class E> DEVICE void vec_store(E* p, Vec v, int) { *p = E(v); }
DEVICE void vec_store_int(int* p, VecInt v, int) { *p = v; }
template <int S> DEVICE void vec_store_every(T* p, const Vec (&v)[S], int from, int to) {
    for (int f = 0; f < S; ++f) if (f >= from && f < to) p[f] = T(v[f]);
}
template <int S> struct VecPart {
    int from, to;
    DEVICE_MEMBER VecPart() {}
    DEVICE_MEMBER VecPart(int from, int to) : from(from), to(to) {}
};
template <int S> DEVICE void vec_load(const T* p, const VecPart<S>& part, Vec (&v)[S]) {
    UNROLL for (int f = 0; f < S; ++f) v[f] = f >= part.from && f < part.to ? ACC(p[f]) : ACC(0);
}
template <int S> DEVICE void vec_store(T* p, const Vec (&v)[S], const VecPart<S>& part) {
    UNROLL for (int f = 0; f < S; ++f) if (f >= part.from && f < part.to) p[f] = T(v[f]);
}
DEVICE void vec_store_past(T* p, Vec v) { *p = T(v); }
DEVICE void vec_stored() {}
DEVICE void vec_ahead(const void*) {}
DEVICE void vec_ahead_write(void*) {}
DEVICE void vec_transpose(Vec (&)[1]) {}
template <class F> DEVICE Vec vec_each(Vec v, F f) { return f(v); }
DEVICE ACC vec_sum(Vec v) { return v; }
DEVICE Vec vec_sums(Vec (&v)[1]) { return v[0]; }
template <class V> DEVICE V vec_max(V v) { return v; }
#endif
