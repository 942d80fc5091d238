// halves.h -- registers of 16-bit floats on the CPU, for vectors.h: compilers convert them one by one.
//
//   vec_load(p, from, to), vec_load(p), vec_load(p, n), vec_store(p, v, from, to), vec_store(p, v, n)
//
// for p a pointer to _Float16 or bf16, like those of vectors.h for other types.  Where ACC is double, or the machine
// lacks the instructions, they go number by number.
#if defined(__F16C__) && !defined(__clang__)
#define HALVES 1
#else
#define HALVES 0
#endif
typedef unsigned short Shorts __attribute__((vector_size(VEC_BYTES / 2), aligned(2), may_alias));
typedef uint32_t Words __attribute__((vector_size(VEC_BYTES)));
typedef float Singles __attribute__((vector_size(VEC_BYTES)));
typedef short Signed __attribute__((vector_size(VEC_BYTES / 2)));

DEVICE Shorts shorts_load(const void* p, int from, int to) {
    if (from <= 0 && to >= VL) return *(const Shorts*)p;
#if HALVES && defined(__AVX512VL__) && defined(__AVX512BW__)
    const unsigned mask = ((1u << vec_within(to)) - 1) & ~((1u << vec_within(from)) - 1);
    return (Shorts)__builtin_ia32_loaddquhi256_mask((const short*)p, Signed{}, (unsigned short)mask);
#else
    Shorts v = {};
    for (int l = vec_within(from); l < vec_within(to); ++l) __builtin_memcpy((char*)&v + 2 * l, (const char*)p + 2 * l, 2);
    return v;
#endif
}
DEVICE void shorts_store(void* p, Shorts v, int from, int to) {
    if (from <= 0 && to >= VL) { *(Shorts*)p = v; return; }
#if HALVES && defined(__AVX512VL__) && defined(__AVX512BW__)
    const unsigned mask = ((1u << vec_within(to)) - 1) & ~((1u << vec_within(from)) - 1);
    __builtin_ia32_storedquhi256_mask((short*)p, (Signed)v, (unsigned short)mask);
#else
    for (int l = vec_within(from); l < vec_within(to); ++l) __builtin_memcpy((char*)p + 2 * l, (const char*)&v + 2 * l, 2);
#endif
}

// Of bf16 the bits are the upper half of a float's; flux.h has the same rounding for one number.
DEVICE Vec vec_load(const bf16* p, int from, int to) {
    if (sizeof(ACC) == 8) return vec_load<bf16>(p, from, to);
    return (Vec)(__builtin_convertvector(shorts_load(p, from, to), Words) << 16);
}
DEVICE void vec_store(bf16* p, Vec v, int from, int to) {
    if (sizeof(ACC) == 8) return vec_store<bf16>(p, v, from, to);
    const Singles f = (Singles)v;
    const Words u = (Words)v, rounded = (u + 0x7fff + (u >> 16 & 1)) >> 16, nan = u >> 16 | 0x40;
    shorts_store(p, __builtin_convertvector(f != f ? nan : rounded, Shorts), from, to);
}
#ifdef FLUX_HALF
DEVICE Vec vec_load(const _Float16* p, int from, int to) {
#if HALVES && VEC_BYTES == 64
    if (sizeof(ACC) == 4) return (Vec)__builtin_ia32_vcvtph2ps512_mask((Signed)shorts_load(p, from, to), Singles{}, -1, 4);
#elif HALVES && VEC_BYTES == 32
    if (sizeof(ACC) == 4) return (Vec)__builtin_ia32_vcvtph2ps256((Signed)shorts_load(p, from, to));
#endif
    return vec_load<_Float16>(p, from, to);
}
DEVICE void vec_store(_Float16* p, Vec v, int from, int to) {
#if HALVES && VEC_BYTES == 64
    if (sizeof(ACC) == 4) return shorts_store(p, (Shorts)__builtin_ia32_vcvtps2ph512_mask((Singles)v, 0, Signed{}, -1), from, to);
#elif HALVES && VEC_BYTES == 32
    if (sizeof(ACC) == 4) return shorts_store(p, (Shorts)__builtin_ia32_vcvtps2ph256((Singles)v, 0), from, to);
#endif
    vec_store<_Float16>(p, v, from, to);
}
#endif
