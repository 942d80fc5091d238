// tensor.h -- one step of a matrix product on tensor cores, by a warp (GPUs from sm_80 on).
//
// A Word holds two 16-bit numbers side by side, or one float rounded to tf32 (10 bits of fraction): 32 bits either way, so
// that a kernel is the same text for all three.  Four words are a Four, which is copied at once.
//
//   PER_WORD                    numbers of T in a word
//   four_of(p)                  the first 4 * PER_WORD numbers
//   four_of(f)                  four words as they lie in memory
//   number_store(row, i, v)     number i of a row of words
//   rows_load(v, row)           four 8 x 4 matrices of words from shared memory: lane 8 i + r passes the address of row r of
//                               matrix i, and v[i] of lane 4 g + t becomes word t of its row g
//   multiply(d, a, b0, b1)      d += a b for a (16 x 8 words) and b (8 x 8 words, transposed); of lane 4 g + t
//                               a = {row g word t, row g + 8 word t, row g word t + 4, row g + 8 word t + 4},
//                               b0 and b1 = column g, words t and t + 4,
//                               d = {row g columns 2 t and 2 t + 1, row g + 8 columns 2 t and 2 t + 1}, added up in float
//
//   kept(p)                     the pointer p, which stays in registers: the compiler would compute it anew for each of many loads
//
// All lanes of the warp take part.  Source: PTX ISA, "Warp Level Matrix Instructions" (ldmatrix; mma.m16n8k16, m16n8k8).
#include "flux.h"
#define TENSOR_float          2
#define TENSOR__Float16       0
#define TENSOR___half         0
#define TENSOR_bf16           1
#define TENSOR___nv_bfloat16  1
#define TENSOR_(t)            TENSOR_##t
#define TENSOR(t)             TENSOR_(t)
#define PER_WORD              (TENSOR(T) == 2 ? 1 : 2)
typedef u32 Word;
struct alignas(16) Four { Word v[4]; };

#if TENSOR(T) == 2
typedef float Raw;                               // a number as it lies in memory
#else
typedef u16 Raw;
#endif

#ifdef __CUDACC__
template <class E> DEVICE const E* kept(const E* p) {
    asm volatile("" : "+l"(p));
    __builtin_assume(__isGlobal(p));
    return p;
}
DEVICE Word tf32_of(float v) {
    Word w;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(w) : "f"(v));
    return w;
}
#else
template <class E> DEVICE const E* kept(const E* p) { return p; }
DEVICE Word tf32_of(float v) {                   // to nearest, of two equally near ones the larger in size
    union { float f; Word w; } x = {v};
    return v - v == 0 ? (x.w + 0x1000) & ~0x1fffu : x.w;
}
#endif
#if TENSOR(T) == 2
DEVICE Four four_of(const Raw* p) { return {{tf32_of(p[0]), tf32_of(p[1]), tf32_of(p[2]), tf32_of(p[3])}}; }
DEVICE float float_of(Word w) { union { Word w; float f; } x = {w}; return x.f; }
DEVICE Four four_of(Four f) { return {{tf32_of(float_of(f.v[0])), tf32_of(float_of(f.v[1])), tf32_of(float_of(f.v[2])), tf32_of(float_of(f.v[3]))}}; }
DEVICE void number_store(Four* row, int i, Raw v) { ((Word*)row)[i] = tf32_of(v); }
#else
DEVICE Four four_of(const Raw* p) {
    Four f;
    UNROLL for (int i = 0; i < 4; ++i) f.v[i] = p[2 * i] | (Word)p[2 * i + 1] << 16;
    return f;
}
DEVICE Four four_of(Four f) { return f; }
DEVICE void number_store(Four* row, int i, Raw v) { ((Raw*)row)[i] = v; }
#endif

#ifdef __CUDACC__
DEVICE void rows_load(Word (&v)[4], const Four* row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(v[0]), "=r"(v[1]), "=r"(v[2]), "=r"(v[3])
                 : "r"((unsigned)__cvta_generic_to_shared(row)) : "memory");
}
#if TENSOR(T) == 2
#define MULTIPLY "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32"
#elif TENSOR(T) == 1
#define MULTIPLY "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"
#else
#define MULTIPLY "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32"
#endif
DEVICE void multiply(float (&d)[4], const Word (&a)[4], Word b0, Word b1) {
    asm volatile(MULTIPLY " {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#elif !defined(FLUX_CPU)
#define rows_load(v, row)       rows_load_at(v, row, HERE)
#define multiply(d, a, b0, b1)  multiply_at(d, a, b0, b1, HERE)
inline void rows_load_at(Word (&v)[4], const Four* row, emu::Line at) {
    const unsigned lane = threadIdx.x % 32;
    emu::show(row, at);
    for (int i = 0; i < 4; ++i) v[i] = emu::seen(((const Four*)emu::shown(8 * i + lane / 4))->v + lane % 4);
    emu::hide(at);
}
struct Operands { Word a[4], b[2]; };
DEVICE float number_of(Word w, int i) {
    union { Word w; float f; T t[4 / sizeof(T)]; } x;
    x.w = TENSOR(T) == 2 ? w & ~0x1fffu : w;         // the hardware does not look at the other bits
    return (float)x.t[i];
}
UNSEEN inline void multiply_at(float (&d)[4], const Word (&a)[4], Word b0, Word b1, emu::Line at) {
    const Operands mine = {{a[0], a[1], a[2], a[3]}, {b0, b1}};
    const unsigned lane = threadIdx.x % 32;
    emu::show(&mine, at);
    for (int i = 0; i < 4; ++i) {
        const unsigned row = lane / 4, column = lane % 4 * 2 + i % 2;
        for (int word = 0; word < 8; ++word) {
            const Word left = ((const Operands*)emu::shown(row * 4 + word % 4))->a[i / 2 + word / 4 * 2];
            const Word right = ((const Operands*)emu::shown(column * 4 + word % 4))->b[word / 4];
            for (int n = 0; n < PER_WORD; ++n) d[i] += number_of(left, n) * number_of(right, n);
        }
    }
    emu::hide(at);
}
#endif
