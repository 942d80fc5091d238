// pixels.h -- planes of pixels as pixels of channels, and back (winograd_tiles.cu, blocked_convolution.cu).
//
// An image lies in memory channel by channel; a product over the channels wants those of a pixel side by side. Blocks of
// VL x VL numbers are turned in registers, a few lines of an image at a time, so that nothing is written twice.
#ifndef PIXELS_H
#define PIXELS_H
#include "vectors.h"
#define CHANNELS 16                                        // read or written side by side
#define BLOCK 32                                           // outputs whose products are computed side by side
#define REGISTERS (VL > 1 ? BLOCK / VL : 1)                // that hold them, for each of
#define HALF (REGISTERS > 1 ? REGISTERS / 2 : 1)           // where half a block is all there is
#define MOST (VL > 1 ? 14 : 4)
#define TOGETHER (VEC_FREE / REGISTERS < MOST ? VEC_FREE / REGISTERS : MOST)     // of what they are multiplied by
#define OUTPUTS(o, half, f, ...) do { /* f<registers>(...) with the lanes' outputs o of a block, or half of one */ \
        if (VL > 1 && (half)) VECTORS(o, BLOCK / 2, HALF) f<HALF>(__VA_ARGS__); \
        else VECTORS(o, BLOCK, REGISTERS) f<REGISTERS>(__VA_ARGS__); } while (0)
#define UP(n, m) (((n) + (m) - 1) / (m) * (m))

struct Plane { int channels, H, W; };                      // of an image: channels from this one on
struct Box { int h, w, height, width; };                   // pixels of a plane, perhaps beyond its edges

// The part of a box that lies in the plane, as runs of pixels one after the other in memory.
struct Runs {
    int top, left, columns, count;
    long long length;
    DEVICE_MEMBER Runs(Plane p, Box b) {
        top = b.h > 0 ? b.h : 0, left = b.w > 0 ? b.w : 0;
        const int bottom = b.h + b.height < p.H ? b.h + b.height : p.H, right = b.w + b.width < p.W ? b.w + b.width : p.W;
        const int lines = bottom > top ? bottom - top : 0;
        columns = right > left ? right - left : 0;
        count = columns == p.W ? 1 : lines;
        length = columns == p.W ? (long long)lines * columns : columns;
    }
};

// to[pixel * pitch + c] = pixel of the box in channel c of `image`, zero outside; c: the lanes' first channel.
DEVICE void read_pixels(const T* __restrict__ image, Plane p, Box box, int c, T* __restrict__ to, long long pitch) {
    const Runs runs(p, box);
    const long long plane = (long long)p.H * p.W, line = box.width * pitch;
    const int before = runs.left - box.w, after = box.width - before - runs.columns;
    for (int i = 0; i < box.height; ++i) {
        const bool inside = box.h + i >= 0 && box.h + i < p.H;
        for (int j = 0; j < (inside ? before : box.width); ++j) vec_store(to + i * line + j * pitch + c, Vec{}, VL);
        for (int j = 0; j < (inside ? after : 0); ++j) vec_store(to + (i + 1) * line - (j + 1) * pitch + c, Vec{}, VL);
    }
    for (int run = 0; run < runs.count; ++run) {
        const T* from = image + c * plane + (long long)(runs.top + run) * p.W + runs.left;
        T* at = to + (runs.top - box.h + run) * line + before * pitch + c;
        int column = 0;
        for (long long q = 0; q < runs.length; q += VL) {
            const int n = runs.length - q < VL ? (int)(runs.length - q) : VL;
            Vec v[VL];
            UNROLL for (int l = 0; l < VL; ++l) v[l] = c + l < p.channels ? vec_load(from + l * plane + q, n) : Vec{};
            vec_transpose(v);
            UNROLL for (int l = 0; l < VL; ++l) if (l < n) {
                vec_store(at, v[l], VL);
                at += pitch;
                if (++column == runs.columns) column = 0, at += line - runs.columns * pitch;
            }
        }
    }
}

// The way back, for the pixels that lie in the plane.
DEVICE void write_pixels(const T* __restrict__ from, long long pitch, Plane p, Box box, int c, T* __restrict__ image) {
    const Runs runs(p, box);
    const long long plane = (long long)p.H * p.W, line = box.width * pitch;
    for (int run = 0; run < runs.count; ++run) {
        T* to = image + c * plane + (long long)(runs.top + run) * p.W + runs.left;
        const T* at = from + (runs.top - box.h + run) * line + (runs.left - box.w) * pitch + c;
        int column = 0;
        for (long long q = 0; q < runs.length; q += VL) {
            const int n = runs.length - q < VL ? (int)(runs.length - q) : VL;
            Vec v[VL];
            UNROLL for (int l = 0; l < VL; ++l) {
                v[l] = Vec{};
                if (l < n) {
                    v[l] = vec_load(at, VL);
                    at += pitch;
                    if (++column == runs.columns) column = 0, at += line - runs.columns * pitch;
                }
            }
            vec_transpose(v);
            UNROLL for (int l = 0; l < VL; ++l) if (c + l < p.channels) vec_store(to + l * plane + q, v[l], n);
        }
    }
}
#endif
