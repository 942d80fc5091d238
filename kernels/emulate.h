// emulate.h -- CUDA's blocks, threads, barriers and shuffles on a CPU, for tests.
//
// Each CUDA thread is a fiber; the fibers of a block take turns, the blocks follow one
// another.  It runs the GPU reading of flux.h as it stands, stops on a barrier that not
// every thread reaches, can take the threads last first, fills __shared__ memory with NaN,
// and under -fsanitize=thread tells TSan that barriers order steps and nothing else does,
// so that TSan reports every race between threads or blocks it sees.
//
// A program of its own: readings/emulator.py writes the arguments into a file, runs
//   program KERNEL GRID LANES ROWS BACKWARDS FILE
// and reads the arrays back from the same file.  Not modelled: the order in which other
// blocks see memory, asynchronous copies, occupancy.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ucontext.h>
#define __global__
#define __device__ __attribute__((unused))
#define __host__
#define __forceinline__ inline
#ifdef __SANITIZE_THREAD__
#define UNSEEN __attribute__((no_sanitize("thread"), noinline))
extern "C" { void* __tsan_get_current_fiber(); void* __tsan_create_fiber(unsigned); void __tsan_destroy_fiber(void*);
             void __tsan_switch_to_fiber(void*, unsigned); void __tsan_acquire(void*); void __tsan_release(void*); }
#else
#define UNSEEN
#define __tsan_get_current_fiber() nullptr
#define __tsan_create_fiber(flags) nullptr
#define __tsan_destroy_fiber(fiber) ((void)(fiber))
#define __tsan_switch_to_fiber(fiber, flags) ((void)(fiber))
#define __tsan_acquire(gate) ((void)(gate))
#define __tsan_release(gate) ((void)(gate))
#endif
namespace emu {
struct dim3 { unsigned x, y, z; };
enum State { READY, AT_BLOCK, AT_WARP, DONE };
struct Line { const char* file; int line; };            // of the kernel's text, for reports
struct Context { ucontext_t first; void* jump[5]; bool begun; };
struct Fiber { Context ctx; char* stack; dim3 tid; unsigned warp; State state; void* tsan; uint64_t slot; Line at; };
struct Place { const void* key; int offset; unsigned block; };
constexpr int ARENA = 48 << 10;                        // what every GPU gives a block
constexpr size_t STACK = 1 << 16;
inline Fiber fibers[1024], *cur;
inline Place shared_places[64];
inline char *arenas, *arena;
inline unsigned n_fibers;
inline int n_shared, shared_top;
inline dim3 grid, block, bid;
inline Context home;
inline void *home_tsan, *body_arg, (*body)(void*);
struct Gates { char block, warp[32]; };                // what TSan knows a barrier by: every block has its own
inline Gates *gates;
inline char end_gate;
constexpr unsigned MOST_TSAN_FIBERS = 7000;            // TSan can tell about 8000 apart
inline void* tsan_fibers[MOST_TSAN_FIBERS];
inline unsigned n_tsan_fibers;

UNSEEN inline dim3 tid() { return cur->tid; }
UNSEEN inline dim3 bdim() { return block; }
UNSEEN inline dim3 gdim() { return grid; }
UNSEEN inline dim3 bix() { return bid; }
// From one fiber to another. swapcontext would ask the system about signals each time; so it only begins them.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wclobbered"           // nothing is used after the jump
__attribute__((noinline, no_sanitize("address", "thread", "undefined"))) inline void switch_to(Context& from, Context& to) {
    if (__builtin_setjmp(from.jump)) return;
    from.begun = true;
    if (to.begun) __builtin_longjmp(to.jump, 1);
    setcontext(&to.first);
}
#else
inline void switch_to(Context& from, Context& to) { swapcontext(&from.first, &to.first); }
#endif
UNSEEN inline void leave(State s, Line at, bool orders = true) {    // to the scheduler, until it lets us on
    Fiber* f = cur;
    f->at = at;
    Gates& g = gates[bid.x];
    char* gate = s == AT_BLOCK ? &g.block : s == AT_WARP ? &g.warp[f->warp] : &end_gate;
    f->state = s;
    if (orders) __tsan_release(gate);
    __tsan_switch_to_fiber(home_tsan, 1);              // 1: the switch itself orders nothing
    switch_to(f->ctx, home);
    if (orders && s != DONE) __tsan_acquire(gate);     // after DONE comes another block, which nothing orders
}
UNSEEN inline void enter() { for (;;) { body(body_arg); leave(DONE, {}); } }   // one block after another
UNSEEN inline void* shared(const void* key, int bytes) {    // the same place in every block's arena, NaN at first
    int i = 0;
    while (i < n_shared && shared_places[i].key != key) ++i;
    Place& p = shared_places[i];
    if (i == n_shared) { p = {key, shared_top, ~0u}; ++n_shared; shared_top += (bytes + 15) & ~15; }
    if (shared_top > ARENA || n_shared == 64) {
        std::fprintf(stderr, "emulator: over %d bytes or 63 pieces of __shared__\n", ARENA);
        std::exit(3);
    }
    if (p.block != bid.x)                              // byte by byte: TSan would see memset as this thread's doing
        for (int b = 0; b < bytes; ++b) ((volatile char*)arena)[p.offset + b] = -1;
    p.block = bid.x;
    return arena + p.offset;
}
UNSEEN inline void forget_fibers() {                   // and so what they did: TSan gives their numbers to others
    for (unsigned i = 0; i < n_tsan_fibers; ++i) __tsan_destroy_fiber(tsan_fibers[i]);
    n_tsan_fibers = 0;
}
UNSEEN inline void run_block(bool backwards) {
    if (n_tsan_fibers + n_fibers > MOST_TSAN_FIBERS) forget_fibers();
    arena = arenas + (size_t)bid.x * ARENA;
    for (unsigned i = 0; i < n_fibers; ++i) {
        fibers[i].tsan = tsan_fibers[n_tsan_fibers++] = __tsan_create_fiber(0);
        fibers[i].state = READY;
    }
    for (;;) {
        for (unsigned i = 0; i < n_fibers; ++i) {
            Fiber& f = fibers[backwards ? n_fibers - 1 - i : i];
            if (f.state != READY) continue;
            cur = &f;
            __tsan_switch_to_fiber(f.tsan, 1);
            switch_to(home, f.ctx);
        }
        unsigned at[4] = {}, in_warp[32] = {}, freed = 0;
        for (unsigned i = 0; i < n_fibers; ++i) { ++at[fibers[i].state]; in_warp[fibers[i].warp] += fibers[i].state == AT_WARP; }
        if (at[DONE] == n_fibers) break;
        for (unsigned i = 0; i < n_fibers; ++i) {
            Fiber& f = fibers[i];
            if (f.state == AT_WARP ? in_warp[f.warp] == 32 : f.state == AT_BLOCK && at[AT_BLOCK] == n_fibers) f.state = READY, ++freed;
        }
        if (!freed) {
            std::fprintf(stderr, "emulator: block %u has a barrier that not every thread reaches: %u at __syncthreads, "
                         "%u at a warp barrier, %u returned, of %u\n", bid.x, at[AT_BLOCK], at[AT_WARP], at[DONE], n_fibers);
            for (unsigned i = 0; i < n_fibers; ++i)
                if (fibers[i].state != DONE && (i == 0 || fibers[i].at.line != fibers[i - 1].at.line || fibers[i - 1].state == DONE))
                    std::fprintf(stderr, "    thread (%u, %u) waits at %s:%d\n", fibers[i].tid.x, fibers[i].tid.y,
                                 fibers[i].at.file, fibers[i].at.line);
            std::exit(3);
        }
    }
}
template <class F> void launch(dim3 blocks, dim3 threads, bool backwards, F f) {
    grid = blocks; block = threads; n_fibers = threads.x * threads.y; n_shared = shared_top = 0;
    arenas = (char*)std::malloc((size_t)grid.x * ARENA);   // one for each block: TSan knows memory by its address
    gates = (Gates*)std::malloc(grid.x * sizeof(Gates));
    body_arg = &f; body = [](void* p) { (*(F*)p)(); };
    home_tsan = __tsan_get_current_fiber();
    for (unsigned i = 0; i < n_fibers; ++i) {
        fibers[i].tid = {i % threads.x, i / threads.x, 0};
        fibers[i].warp = i / 32;
        fibers[i].stack = (char*)std::malloc(STACK);
        ucontext_t& first = fibers[i].ctx.first;
        fibers[i].ctx.begun = false;
        getcontext(&first);
        first.uc_stack.ss_sp = fibers[i].stack;
        first.uc_stack.ss_size = STACK;
        makecontext(&first, enter, 0);
    }
    for (unsigned i = 0; i < grid.x; ++i) { bid = {backwards ? grid.x - 1 - i : i, 0, 0}; run_block(backwards); }
    __tsan_acquire(&end_gate);                         // a launch's end orders its blocks; they do not order each other
    forget_fibers();
    for (unsigned i = 0; i < n_fibers; ++i) std::free(fibers[i].stack);
    std::free(arenas);
    std::free(gates);
    body_arg = nullptr;
}
template <class V> UNSEEN V shfl_xor(V v, int d, Line at) {
    static_assert(sizeof v <= sizeof(uint64_t), "a shuffle moves at most 8 bytes");
    Fiber* f = cur;
    __builtin_memcpy(&f->slot, &v, sizeof v);
    leave(AT_WARP, at, false);                            // a shuffle is no fence for memory
    V out;
    __builtin_memcpy(&out, &fibers[(f - fibers) ^ d].slot, sizeof out);
    leave(AT_WARP, at, false);
    return out;
}
// What the lanes of a warp give to one instruction: each shows a piece of its own memory, and reads those of the others
// until hide().  Reads of shared memory go through seen(), so that TSan knows of them.
UNSEEN inline void show(const void* mine, Line at) { cur->slot = (uint64_t)mine; leave(AT_WARP, at, false); }
UNSEEN inline void hide(Line at) { leave(AT_WARP, at, false); }
UNSEEN inline const void* shown(unsigned lane) { return (const void*)fibers[(cur - fibers) / 32 * 32 + lane].slot; }
template <class V> __attribute__((noinline)) V seen(const V* p) { return *p; }

// ------------------------------------------------------------------ the program
// In the file each argument is its size in bytes (-1: a null pointer), then the bytes. An array gets
// memory of exactly its size, so that AddressSanitizer sees the first byte beyond it.
struct Slot { char* data; long long bytes; };
inline Slot slots[64];
template <class P> struct Argument { static P of(const Slot& s) { P p; std::memcpy(&p, s.data, sizeof p); return p; } };
template <class E> struct Argument<E*> { static E* of(const Slot& s) { return (E*)s.data; } };
template <int... I> struct Places {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { using places = Places<I...>; };
struct Entry { const char* name; int arguments; void (*run)(dim3, dim3, bool); Entry* next; };
inline Entry* entries;

template <class... P, int... I> void drive(void (*kernel)(P...), Places<I...>, dim3 grid, dim3 block, bool backwards) {
    launch(grid, block, backwards, [=] { kernel(Argument<P>::of(slots[I])...); });
}
template <class... P> constexpr int count(void (*)(P...)) { return sizeof...(P); }
template <class... P> constexpr auto places(void (*)(P...)) { return typename Count<sizeof...(P)>::places(); }
struct Register { Register(Entry* e) { e->next = entries; entries = e; } };

inline void need(bool fine, const char* what) { if (!fine) { std::fprintf(stderr, "emulator: %s\n", what); std::exit(4); } }
inline int run(int argc, char** argv) {
    need(argc == 7, "program KERNEL GRID LANES ROWS BACKWARDS FILE");
    Entry* e = entries;
    while (e && std::strcmp(e->name, argv[1])) e = e->next;
    need(e, "no such kernel");
    std::FILE* file = std::fopen(argv[6], "r+b");
    need(file, "cannot open the file of arguments");
    for (int i = 0; i < e->arguments; ++i) {
        Slot& s = slots[i];
        need(std::fread(&s.bytes, 8, 1, file) == 1, "the file of arguments is short");
        s.data = s.bytes < 0 ? nullptr : (char*)std::malloc(s.bytes);
        need(s.bytes <= 0 || std::fread(s.data, s.bytes, 1, file) == 1, "the file of arguments is short");
    }
    e->run({(unsigned)std::atoi(argv[2]), 1, 1}, {(unsigned)std::atoi(argv[3]), (unsigned)std::atoi(argv[4]), 1}, std::atoi(argv[5]));
    std::rewind(file);
    for (int i = 0; i < e->arguments; ++i) {
        std::fwrite(&slots[i].bytes, 8, 1, file);
        if (slots[i].bytes > 0) std::fwrite(slots[i].data, slots[i].bytes, 1, file);
        std::free(slots[i].data);
    }
    return std::fclose(file);
}
}
int main(int argc, char** argv) { return emu::run(argc, argv); }
#define EMULATE(name) \
    static emu::Entry name##__entry = {#name, emu::count(name), \
        [](emu::dim3 g, emu::dim3 b, bool r) { emu::drive(name, emu::places(name), g, b, r); }, nullptr}; \
    static emu::Register name##__register(&name##__entry);
#define threadIdx (emu::tid())
#define blockDim (emu::bdim())
#define gridDim (emu::gdim())
#define blockIdx (emu::bix())
#define SHARED(type, name, n) static const char name##_key = 0; type* name = (type*)emu::shared(&name##_key, (n) * sizeof(type))
#define HERE emu::Line{__FILE__, __LINE__}
#define __syncthreads() emu::leave(emu::AT_BLOCK, HERE)
#define __syncwarp() emu::leave(emu::AT_WARP, HERE)
#define __shfl_xor_sync(mask, v, d) emu::shfl_xor(v, d, HERE)
