// lines.h -- numbers of a line from which every lane picks its own.
//
// Where a window of a lane does not lie beside its neighbours' (as those of a pool with a stride, or the two pixels between
// which an image is interpolated), the numbers that VL lanes need are loaded as they lie, and each lane picks from them:
//
//   vec_piece<R>()                        a piece, which holds R VL numbers from some place on
//   vec_pieces(span, f)                   f(piece), where the piece holds `span` numbers or more
//   auto line = piece.line(base, n, load) the numbers base, base + 1, ... of a line of n; load(w, left) gives those from
//                                         w on, of which there are `left`: a Vec (or VecInt) that may be a sum of several lines
//   line.pick(at, which)                  number base + at[l] of the line in lane l where which[l] is true, 0 elsewhere
//
// On the CPU a piece is up to 8 registers and a pick shuffles them; a piece that needs more loads its numbers one by one. On a
// GPU every lane loads its own.
#ifndef LINES_H
#define LINES_H
#include "vectors.h"

template <class V, class Load> struct FarLine {          // one number at a time
    int base, n;
    Load load;
    DEVICE_MEMBER V pick(VecInt at, VecInt which) const {
#ifdef FLUX_CPU
        V v = {};
        for (int l = 0; l < VL; ++l) if (which[l]) v[l] = load(base + (int)at[l], n - base - (int)at[l])[0];
        return v;
#else
        return which ? load(base + at, n - base - at) : V(0);
#endif
    }
};
struct Far {
    template <class Load> DEVICE_MEMBER auto line(int base, int n, Load load) const { return FarLine<decltype(load(0, 0)), Load>{base, n, load}; }
};
#ifdef FLUX_CPU
template <class V, int R> struct NearLine {
    V v[R];
    DEVICE_MEMBER V pick(VecInt at, VecInt which) const {
        V found = (V)vec_shuffle((Vec)v[0], (Vec)v[R > 1], at);
        UNROLL for (int s = 2; s < R; s += 2) {
            const V more = (V)vec_shuffle((Vec)v[s], (Vec)v[s + 1 < R ? s + 1 : s], at - s * VL);
            found = at < s * VL ? found : more;
        }
        return which ? found : V{};
    }
};
template <int R> struct Near {
    template <class Load> DEVICE_MEMBER auto line(int base, int n, Load load) const {
        NearLine<decltype(load(0, 0)), R> line;
        UNROLL for (int s = 0; s < R; ++s) line.v[s] = load(base + s * VL, n - base - s * VL);
        return line;
    }
};
template <int R> DEVICE auto vec_piece() {
    if constexpr (R <= 8) return Near<R>();
    else return Far();
}
template <class F> DEVICE void vec_pieces(int span, F f) {
    if (span <= VL) f(Near<1>());
    else if (span <= 2 * VL) f(Near<2>());
    else if (span <= 4 * VL) f(Near<4>());
    else if (span <= 8 * VL) f(Near<8>());
    else f(Far());
}
#else
template <int> DEVICE Far vec_piece() { return Far(); }
template <class F> DEVICE void vec_pieces(int, F f) { f(Far()); }
#endif
#endif
