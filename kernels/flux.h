// flux.h -- one kernel text, three readings.
//
// A kernel is a loop over independent ROWS; the LANES of a row work side by side.
//   GPU       a row is one block (or one warp of it), its lanes are the threads
//   CPU       rows are dealt out to threads (OpenMP), lanes are a SIMD loop
//   emulator  the GPU reading of this file, run on the CPU by emulate.h (tests)
//
// Rules: every effect is inside ROWS (or EACH: a row and its lanes in one); a row writes only
// its own outputs, and waits neither for another row nor for the loop before its own.  What is
// declared outside LANES is one value per lane on a GPU, so it must be the same in every lane,
// or be a partial result that row_sum or row_max combines (ACC, or an integer of 4 or 8 bytes).
// Store such a value under ONE_LANE.  Memory that one lane wrote is seen by the others after
// ROW_SYNC().  kernels/README.md teaches all of it.
//
// Few rows with much work one after the other: TEAM(true) before ROWS makes the CPU's threads a team.  Every thread then
// goes through all rows, does part TEAM_PART of TEAM_PARTS of each, and waits for the others at TEAM_SYNC(), which all must
// reach equally often.  A GPU's row is a team by itself: one part, and TEAM_SYNC() is ROW_SYNC().
//
//   T     how numbers are stored (float, double, 16-bit)         both are set by the build,
//   ACC   how they are computed and added up (float, double)     from the dtype of the call
#ifndef FLUX_H
#define FLUX_H
#ifndef T
#define T float
#endif
#ifndef ACC
#define ACC float
#endif
#define PRAGMA_(x) _Pragma(#x)
#define PRAGMA(x)  PRAGMA_(x)
#define INDEX(n)   decltype((n) + 0) // an index that can count to n: int for an int, else long long
#define OPTIONAL                     // before a pointer parameter: Python may pass None (a null pointer)
typedef signed char i8;              // what T, ACC or I is for NumPy's integers: one word each, so T(x) converts
typedef unsigned char u8;
typedef short i16;
typedef unsigned short u16;
typedef int i32;
typedef unsigned int u32;
typedef long long i64;
typedef unsigned long long u64;
#ifdef __UINT64_TYPE__               // the C library's names, as this compiler's own headers have them
typedef __INT32_TYPE__ int32_t;
typedef __INT64_TYPE__ int64_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;
#else
typedef i32 int32_t;
typedef i64 int64_t;
typedef u32 uint32_t;
typedef u64 uint64_t;
#endif

#ifdef FLUX_CPU // ------------------------------------------------------------- CPU
#ifdef __ELF__                       // a kernel called select is our own, not the C library's
#define KERNEL(name)      extern "C" __attribute__((visibility("protected"))) void name
#else
#define KERNEL(name)      extern "C" void name
#endif
#define DEVICE            [[maybe_unused]] static inline __attribute__((always_inline))
#define DEVICE_MEMBER     inline __attribute__((always_inline))
#define ROWS(r, n, width) for (long long r = flux_first(n, width), r##_end = flux_end(n); r < r##_end; ++r)
#define LANES(j, n)       PRAGMA(omp simd) for (INDEX(n) j = 0; j < (n); ++j)
#define LANES_SUM(s,j,n)  PRAGMA(omp simd reduction(+ : s)) for (INDEX(n) j = 0; j < (n); ++j)
#define LANES_SUMS(s,t,j,n) PRAGMA(omp simd reduction(+ : s, t)) for (INDEX(n) j = 0; j < (n); ++j)
#define LANES_MAX(s,j,n)  PRAGMA(omp simd reduction(f_max : s)) for (INDEX(n) j = 0; j < (n); ++j)
#define EACH(i, n)        PRAGMA(omp simd) for (long long i = flux_first(n, 1); i < flux_end(n); ++i)
#define ONE_LANE
#define ROW_SYNC()
#define TEAM(on)          (flux_share.team = (on))
#define TEAM_PARTS        (flux_share.team ? flux_share.of : 1)
#define TEAM_PART         (flux_share.team ? flux_share.id : 0)
#define TEAM_SYNC()       flux_wait()
// As on a GPU, every thread runs the whole kernel and ROWS gives it its share, or all where they are a team. Of a first
// run, which goes through no row (of = 0), call.h learns how much work there is, and so how many threads it is worth.
struct Meeting { int here, times; }; // of the threads of a launch: how many wait, and how often all have met
struct Share { int id, of; Meeting* meeting; long long work, rows; bool team; };
static thread_local Share flux_share = {0, 1, nullptr, 0, 0, false};
DEVICE long long flux_first(long long n, long long width) {
    if (!flux_share.of) {
        flux_share.work += n * width;
        if (n > flux_share.rows || flux_share.team) flux_share.rows = flux_share.team ? 1 << 30 : n;
    } else if (!flux_share.team) {
        return n * flux_share.id / flux_share.of;
    }
    return 0;
}
DEVICE long long flux_end(long long n) {
    return !flux_share.of ? 0 : flux_share.team ? n : n * (flux_share.id + 1) / flux_share.of;
}
#ifdef __ELF__
extern "C" int sched_yield() noexcept;
#endif
// A few microseconds the threads look whether all are here, then they let others have the core: perhaps one of themselves.
DEVICE void flux_wait() {
    Meeting* m = flux_share.meeting;
    if (!flux_share.team || !m) return;
    const int times = __atomic_load_n(&m->times, __ATOMIC_ACQUIRE);
    if (__atomic_add_fetch(&m->here, 1, __ATOMIC_ACQ_REL) == flux_share.of) {
        __atomic_store_n(&m->here, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&m->times, times + 1, __ATOMIC_RELEASE);
        return;
    }
    for (int tries = 0; __atomic_load_n(&m->times, __ATOMIC_ACQUIRE) == times; ++tries) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
#ifdef __ELF__
        if (tries > 200) sched_yield();
#endif
    }
}

#else // ------------------------------------------------------------ GPU and emulator
#define KERNEL(name)      extern "C" __global__ void name
#define DEVICE            static __device__ __forceinline__
#define DEVICE_MEMBER     __device__ __forceinline__
#define ROWS(r, n, width) for (long long r = (long long)blockIdx.x * blockDim.y + threadIdx.y; r < (long long)(n); \
                               r += (long long)gridDim.x * blockDim.y)
#define LANES(j, n)       for (INDEX(n) j = (int)threadIdx.x; j < (n); j += (int)blockDim.x)
#define LANES_SUM(s,j,n)  LANES(j, n)
#define LANES_SUMS(s,t,j,n) LANES(j, n)
#define LANES_MAX(s,j,n)  LANES(j, n)
#define EACH(i, n)        for (long long i = ((long long)blockIdx.x * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x; \
                               i < (long long)(n); i += (long long)gridDim.x * blockDim.y * blockDim.x)
#define ONE_LANE          if (threadIdx.x == 0)
#define ROW_SYNC()        (blockDim.x > 32 ? __syncthreads() : __syncwarp())
#define TEAM(on)          ((void)(on))
#define TEAM_PARTS        1
#define TEAM_PART         0
#define TEAM_SYNC()       ROW_SYNC()
#ifndef SHARED
#define SHARED(type, name, n) __shared__ type name[n]
#endif
#endif

// ------------------------------------------------------------------ numbers, in every reading
#if defined(__CUDACC__) || defined(__clang__)
#define UNROLL            PRAGMA(unroll)
#else
#define UNROLL            PRAGMA(GCC unroll 64)
#endif
#ifdef __CUDACC__
#ifndef INFINITY
#define INFINITY          __int_as_float(0x7f800000)
#endif
#ifndef NAN
#define NAN               __int_as_float(0x7fc00000)
#endif
#define FLUX_LIBM_0(name)
#define FLUX_LIBM_1(name)
#define FLUX_LIBM_2(name)
#else
#ifndef INFINITY
#define INFINITY          __builtin_inff()
#endif
#ifndef NAN
#define NAN               __builtin_nanf("")
#endif
// The C library's functions, declared here because its headers are slow to read and say nothing
// of SIMD.  FLUX_SIMD_MATH is what this machine's libmvec has in vector form (the loader has
// tried): 1 is the first group below, 2 is both.  Call them outside branches: only there they
// become SIMD code (`ACC e = f_exp(v); y = v > 0 ? v : e - 1;`).
#define FLUX_LIBM(simd, name) extern "C" { simd float name##f(float) noexcept; simd double name(double) noexcept; }
#define FLUX_SIMD         PRAGMA(omp declare simd notinbranch)
#define FLUX_PLAIN
#define FLUX_LIBM_0(name) FLUX_LIBM(FLUX_PLAIN, name)
#if FLUX_SIMD_MATH >= 1
#define FLUX_LIBM_1(name) FLUX_LIBM(FLUX_SIMD, name)
#else
#define FLUX_LIBM_1(name) FLUX_LIBM(FLUX_PLAIN, name)
#endif
#if FLUX_SIMD_MATH >= 2
#define FLUX_LIBM_2(name) FLUX_LIBM(FLUX_SIMD, name)
#else
#define FLUX_LIBM_2(name) FLUX_LIBM(FLUX_PLAIN, name)
#endif
extern "C" { float powf(float, float) noexcept; double pow(double, double) noexcept; }

// A CPU's bfloat16: the upper half of a float.  A NaN stays one, ties go to even.
struct bf16 {
    unsigned short bits;
    bf16() = default;
    template <class V> explicit bf16(V v) {
        union { float f; uint32_t u; } x = {(float)v};
        bits = (unsigned short)(x.f != x.f ? x.u >> 16 | 0x40 : (x.u + 0x7fff + (x.u >> 16 & 1)) >> 16);
    }
    operator float() const { union { uint32_t u; float f; } x = {(uint32_t)bits << 16}; return x.f; }
};
#endif

// f_exp(x) and its kin: float for a float, double for a double.
#define FLUX_MATH(group, name) \
    FLUX_LIBM_##group(name) \
    DEVICE float f_##name(float x) { return name##f(x); } \
    DEVICE double f_##name(double x) { return name(x); }
FLUX_MATH(1, exp)   FLUX_MATH(1, log)   FLUX_MATH(1, sin)   FLUX_MATH(1, cos)
FLUX_MATH(2, tanh)  FLUX_MATH(2, erf)   FLUX_MATH(2, expm1) FLUX_MATH(2, log1p)
FLUX_MATH(2, tan)   FLUX_MATH(2, sinh)  FLUX_MATH(2, cosh)  FLUX_MATH(2, exp2)
FLUX_MATH(2, asin)  FLUX_MATH(2, acos)  FLUX_MATH(2, atan)  FLUX_MATH(2, log2)
FLUX_MATH(2, asinh) FLUX_MATH(2, acosh) FLUX_MATH(2, atanh) FLUX_MATH(2, log10)
FLUX_MATH(0, sqrt)  FLUX_MATH(0, fabs)  FLUX_MATH(0, floor) FLUX_MATH(0, ceil)  FLUX_MATH(0, rint)
DEVICE float f_pow(float x, float y) { return powf(x, y); }
DEVICE double f_pow(double x, double y) { return pow(x, y); }
template <class V> DEVICE V f_max(V a, V b) { return a > b || a != a ? a : b; }   // a NaN wins, as in NumPy
template <class V> DEVICE V f_min(V a, V b) { return a < b || a != a ? a : b; }

// ------------------------------------------------------------------ one value per lane -> one per row
#ifdef FLUX_CPU
PRAGMA(omp declare reduction(f_max : float, double, int, unsigned, long, unsigned long, long long, unsigned long long : \
       omp_out = f_max(omp_out, omp_in)) initializer(omp_priv = omp_orig))
template <class V> DEVICE V row_sum(V v) { return v; }   // the SIMD loop has already combined the lanes
template <class V> DEVICE V row_max(V v) { return v; }
#else
struct Add {
    template <class V> DEVICE_MEMBER V operator()(V a, V b) const { return a + b; }
    template <class V> DEVICE_MEMBER V idle(V) const { return V(0); }
};
struct Max {
    template <class V> DEVICE_MEMBER V operator()(V a, V b) const { return f_max(a, b); }
    template <class V> DEVICE_MEMBER V idle(V v) const { return v; }
};

// Combine one value per lane; every lane gets the result.  A row is a warp
// (blockDim = 32 x rows) or a whole block (blockDim = 32k x 1).
template <class V, class Op> DEVICE V row_reduce(V v, Op op) {
    for (int d = 16; d; d >>= 1) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
    if (blockDim.x <= 32) return v;
    SHARED(V, part, 32);
    unsigned lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    __syncthreads();                     // an earlier call may still be reading part
    if (lane == 0) part[warp] = v;
    __syncthreads();
    v = lane < blockDim.x >> 5 ? part[lane] : op.idle(part[0]);
    for (int d = 16; d; d >>= 1) v = op(v, __shfl_xor_sync(0xffffffffu, v, d));
    return v;
}
template <class V> DEVICE V row_sum(V v) { return row_reduce(v, Add()); }
template <class V> DEVICE V row_max(V v) { return row_reduce(v, Max()); }
#endif
#endif
