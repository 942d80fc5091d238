// vectors.h -- a lane that holds several numbers.
//
// VECTORS(j, n, blocks) walks over 0..n-1 as LANES(j, n) does, but a step takes `blocks` SIMD registers of VL
// numbers each on the CPU, and one number on a GPU (VL is 1 there, and blocks must be 1).  A Vec is such a register:
// arrays of Vec are accumulators that stay in registers, which compilers do not manage by themselves.  Arithmetic
// is written as for numbers, `a += v * s`.  A Vec holds ACC; shorter floats are converted one by one.
//
//   vec_load(p)       VL numbers                vec_load(p, n)       the first n of them, zeros after; reads no further
//   vec_store(p, v, n)  the first n numbers     vec_sum(v)           the sum of all
#ifdef FLUX_CPU
#if defined(__AVX512F__)
#define VEC_BYTES 64
#elif defined(__AVX__)
#define VEC_BYTES 32
#else
#define VEC_BYTES 16
#endif
#define VL ((int)(VEC_BYTES / sizeof(ACC)))
#define VECTORS(j, n, blocks) for (int j = 0; j < (n); j += (blocks) * VL)
typedef ACC Vec __attribute__((vector_size(VEC_BYTES), aligned(sizeof(ACC)), may_alias));
DEVICE Vec vec_load(const ACC* p) { return *(const Vec*)p; }
#ifdef __has_builtin
#if defined(__AVX512F__) && __has_builtin(__builtin_ia32_loadups512_mask) && __has_builtin(__builtin_ia32_storeups512_mask)
#define VEC_MASKS                        // GCC 12 turns the plain loops below into two instructions and a spill
typedef float Float16 __attribute__((vector_size(64)));
typedef double Double8 __attribute__((vector_size(64)));
DEVICE unsigned vec_mask(int n) { return n < VL ? (1u << n) - 1 : (1u << VL) - 1; }
DEVICE Vec vec_masked(const float* p, unsigned m) { return (Vec)__builtin_ia32_loadups512_mask(p, Float16{}, (unsigned short)m); }
DEVICE Vec vec_masked(const double* p, unsigned m) { return (Vec)__builtin_ia32_loadupd512_mask(p, Double8{}, (unsigned char)m); }
DEVICE void vec_masked(float* p, Vec v, unsigned m) { __builtin_ia32_storeups512_mask(p, (Float16)v, (unsigned short)m); }
DEVICE void vec_masked(double* p, Vec v, unsigned m) { __builtin_ia32_storeupd512_mask(p, (Double8)v, (unsigned char)m); }
DEVICE Vec vec_load(const ACC* p, int n) { return vec_masked(p, vec_mask(n)); }
DEVICE void vec_store(ACC* p, Vec v, int n) { vec_masked(p, v, vec_mask(n)); }
#endif
#endif
#ifndef VEC_MASKS
DEVICE Vec vec_load(const ACC* p, int n) {
    if (n >= VL) return vec_load(p);
    Vec v = {};
    for (int l = 0; l < n; ++l) v[l] = p[l];
    return v;
}
DEVICE void vec_store(ACC* p, Vec v, int n) {
    if (n >= VL) *(Vec*)p = v;
    else for (int l = 0; l < n; ++l) p[l] = v[l];
}
#endif
template <class E> DEVICE Vec vec_load(const E* p, int n = VL) {
    Vec v = {};
    for (int l = 0; l < VL && l < n; ++l) v[l] = ACC(p[l]);
    return v;
}
template <class E> DEVICE void vec_store(E* p, Vec v, int n) { for (int l = 0; l < VL && l < n; ++l) p[l] = E(v[l]); }
DEVICE ACC vec_sum(Vec v) {
    ACC s = 0;
    for (int l = 0; l < VL; ++l) s += v[l];
    return s;
}
#else
#define VL 1
#define VECTORS(j, n, blocks) LANES(j, n)
typedef ACC Vec;
DEVICE Vec vec_load(const T* p) { return ACC(*p); }
DEVICE Vec vec_load(const T* p, int) { return ACC(*p); }
DEVICE void vec_store(T* p, Vec v, int) { *p = T(v); }
DEVICE ACC vec_sum(Vec v) { return v; }
#endif
