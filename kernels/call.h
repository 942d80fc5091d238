// call.h -- how Python calls the CPU reading of a kernel.
//
// One function per kernel takes the tuple of its Python arguments, checks every one of them
// against the kernel's own C++ parameter types, lets the GIL go where the work is long, and runs.
// It answers 0, or 1 when something does not fit; then readings/source.py finds out what and says
// it in words.  Checked here in C a call costs about 1 us; checked in Python it costs 5.
//
// No Python.h and no NumPy header (they may be missing where a compiler is not): the functions of
// Python's stable ABI come as pointers, and the arrays' layout is the one that NumPy's headers
// compile into every extension.  The loader verifies both at load time (flux_probe).
using Py_ssize = decltype(sizeof(0));
struct PyObject;
struct Python {                                    // filled in by readings/host.py, in this order
    Py_ssize (*size)(PyObject*);
    PyObject* (*item)(PyObject*, Py_ssize);
    long long (*as_longlong)(PyObject*);
    unsigned long long (*as_ulonglong)(PyObject*);
    double (*as_double)(PyObject*);
    PyObject* (*error)();
    void (*clear_error)();
    void* (*let_go)();
    void (*take_back)(void*);
    PyObject* none;
    void* ndarray;
    Py_ssize head;                                 // bytes of PyObject_HEAD; its last word is the type
    Py_ssize bfloat16;                             // the number that NumPy gave to ml_dtypes' type
};
struct Array { char* data; int ndim; Py_ssize *shape, *strides; PyObject *base, *dtype; int flags; };
struct Dtype { void* scalar; char kind, letter, byteorder, flags; int number; };
extern "C" { extern Python flux_python; Python flux_python; }

template <class E> inline bool holds(int number);  // NumPy's type numbers
template <> inline bool holds<bool>(int n) { return n == 0; }
template <> inline bool holds<signed char>(int n) { return n == 1; }
template <> inline bool holds<unsigned char>(int n) { return n == 2; }
template <> inline bool holds<short>(int n) { return n == 3; }
template <> inline bool holds<unsigned short>(int n) { return n == 4; }
template <> inline bool holds<int>(int n) { return n == 5 || (n == 7 && sizeof(long) == 4); }
template <> inline bool holds<unsigned>(int n) { return n == 6 || (n == 8 && sizeof(long) == 4); }
template <> inline bool holds<long>(int n) { return n == 7 || n == (sizeof(long) == 8 ? 9 : 5); }
template <> inline bool holds<unsigned long>(int n) { return n == 8 || n == (sizeof(long) == 8 ? 10 : 6); }
template <> inline bool holds<long long>(int n) { return n == 9 || (n == 7 && sizeof(long) == 8); }
template <> inline bool holds<unsigned long long>(int n) { return n == 10 || (n == 8 && sizeof(long) == 8); }
template <> inline bool holds<float>(int n) { return n == 11; }
template <> inline bool holds<double>(int n) { return n == 12; }
#ifdef FLUX_HALF
template <> inline bool holds<_Float16>(int n) { return n == 23; }
#endif
template <> inline bool holds<bf16>(int n) { return n == (int)flux_python.bfloat16; }

template <class P> constexpr bool is_real = P(0.5) != P(0);
template <> constexpr bool is_real<bf16> = true;
template <class P> struct Argument {               // a number
    static P read(PyObject* o, bool, bool& fits) {
        P value = P();
        if constexpr (is_real<P>) {
            value = P(flux_python.as_double(o));
        } else if constexpr (sizeof(P) == 8 && P(-1) > P(0)) {
            value = P(flux_python.as_ulonglong(o));
        } else {
            long long wide = flux_python.as_longlong(o);
            value = P(wide);
            fits &= (long long)value == wide;
        }
        return value;
    }
};
template <class E> struct plain { using type = E; static constexpr bool writes = true; };
template <class E> struct plain<const E> { using type = E; static constexpr bool writes = false; };
template <class E> struct Argument<E*> {           // a C-contiguous, aligned array of E, or None
    static E* read(PyObject* o, bool optional, bool& fits) {
        const Python& py = flux_python;
        if (o == py.none) { fits &= optional; return nullptr; }
        if (((void**)((char*)o + py.head))[-1] != py.ndarray) { fits = false; return nullptr; }
        const Array* a = (const Array*)((char*)o + py.head);
        const Dtype* d = (const Dtype*)((char*)a->dtype + py.head);
        constexpr int wanted = 0x1 | 0x100 | (plain<E>::writes ? 0x400 : 0);    // contiguous, aligned, writeable
        fits &= (a->flags & wanted) == wanted && holds<typename plain<E>::type>(d->number) &&
                (d->byteorder == '=' || d->byteorder == '|');
        return (E*)a->data;
    }
};
template <int... I> struct Places {};
template <int N, int... I> struct Count : Count<N - 1, N - 1, I...> {};
template <int... I> struct Count<0, I...> { using places = Places<I...>; };

#ifdef _OPENMP
extern "C" { int omp_get_thread_num(void) noexcept; int omp_get_num_threads(void) noexcept; int omp_get_max_threads(void) noexcept; }
#endif
extern "C" { extern int flux_threads; int flux_threads = 1; }  // set by Python: flux.set_num_threads(n)
constexpr long long PARALLEL_FROM = 500000;        // work below which waking other threads costs more than it saves
constexpr long long LET_GO_FROM = 50000;           // work below which other Python threads can wait

template <class... P> constexpr auto flux_places(void (*)(P...)) { return typename Count<sizeof...(P)>::places(); }

template <class... P, int... I>
inline int flux_call(PyObject* args, unsigned long long optional, void (*kernel)(P...), Places<I...>) {
    const Python& py = flux_python;
    if (py.size(args) != sizeof...(P)) return 1;
    bool fits = true;
    auto run = [&](P... p) {
        if (py.error()) { py.clear_error(); fits = false; }
        if (!fits) return;
        flux_share = {0, 0, nullptr, 0, 0, false};
        kernel(p...);                              // through no row: how much work is there?
        const long long work = flux_share.work, rows = flux_share.rows;
        flux_share = {0, 1, nullptr, 0, 0, false};
        if (work < LET_GO_FROM) return kernel(p...);
        void* thread = py.let_go();
#ifdef _OPENMP
        const int threads = rows < flux_threads ? (int)rows : flux_threads;
        if (work >= PARALLEL_FROM && threads > 1) {
            Meeting meeting = {0, 0};
            #pragma omp parallel num_threads(threads)
            {
                flux_share = {omp_get_thread_num(), omp_get_num_threads(), &meeting, 0, 0, false};
                kernel(p...);
            }
            flux_share = {0, 1, nullptr, 0, 0, false};
        } else
#endif
        kernel(p...);
        py.take_back(thread);
    };
    run(Argument<P>::read(py.item(args, I), optional >> I & 1, fits)...);
    return !fits;
}
// CALL(name, optional): `optional` has a bit for each parameter that may be None.
#define CALL(name, optional) extern "C" int name##__call(PyObject* args) { return flux_call(args, optional, name, flux_places(name)); }
// What the loader compares with what Python knows about an array, before it trusts the layout above.
extern "C" int flux_probe(PyObject* o, void** data, int* ndim, int* number, int* flags) {
#ifdef _OPENMP
    omp_get_max_threads();                         // LLVM's runtime reads the environment not at load but here
#endif
    if (((void**)((char*)o + flux_python.head))[-1] != flux_python.ndarray) return 1;
    const Array* a = (const Array*)((char*)o + flux_python.head);
    *data = a->data, *ndim = a->ndim, *flags = a->flags;
    *number = ((const Dtype*)((char*)a->dtype + flux_python.head))->number;
    return 0;
}
