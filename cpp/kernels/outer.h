// Sums of outer products over rows, the gradients with respect to weights. Each element adds its terms in row order.
#pragma once

#include "kernels/vec.h"

namespace {

// A micro-kernel keeps the sums of outer_units units and outer_blocks blocks of features in registers. Features are
// processed in pieces of outer_bytes per row, so that those of all rows stay in the second-level cache.
constexpr int outer_units = 6, outer_blocks = vector_registers == 32 ? 4 : 2, outer_bytes = 1024;

// Adds to out[outer_units][M][L], with rows out_stride apart. Not inlined, so that the compiler keeps the sums in
// registers.
template <class Real, int M>
[[gnu::noinline]] void outer_tile(Size rows, const Real* d, Size d_stride, const Real* x, Size x_stride, Real* out,
                                  Size out_stride) {
    constexpr int L = Float<Real>::L;
    vec_of<Real> sum[outer_units][M];
#pragma GCC unroll 32
    for (int u = 0; u < outer_units; u++)
#pragma GCC unroll 32
        for (int m = 0; m < M; m++) sum[u][m] = load_some(out + u * out_stride + m * L, L);
    for (Size row = 0; row < rows; row++, d += d_stride, x += x_stride) {
        vec_of<Real> x_m[M];
#pragma GCC unroll 32
        for (int m = 0; m < M; m++) x_m[m] = load(x + m * L);
#pragma GCC unroll 32
        for (int u = 0; u < outer_units; u++) {
            const vec_of<Real> d_u = broadcast(d[u]);
#pragma GCC unroll 32
            for (int m = 0; m < M; m++) sum[u][m] = fma(x_m[m], d_u, sum[u][m]);
        }
    }
#pragma GCC unroll 32
    for (int u = 0; u < outer_units; u++)
#pragma GCC unroll 32
        for (int m = 0; m < M; m++) store_some(out + u * out_stride + m * L, sum[u][m], L);
}

// A tile that may extend beyond the edge of out, in which case it is computed in a buffer. The elements of d beyond the
// edge are read but do not matter.
template <class Real, int M>
void outer_tile_within(Size rows, const Real* d, Size d_stride, Size units, const Real* x, Size x_stride, Size features,
                       Real* out, Size out_stride) {
    constexpr int L = Float<Real>::L;
    if (units >= outer_units && features >= M * L)
        return outer_tile<Real, M>(rows, d, d_stride, x, x_stride, out, out_stride);
    alignas(vector_bytes) Real tile[outer_units * M * L] = {};
    const Size n = units < outer_units ? units : outer_units;
    const Size bytes = (features < M * L ? features : M * L) * Size(sizeof(Real));
    for (Size u = 0; u < n; u++) __builtin_memcpy(tile + u * M * L, out + u * out_stride, bytes);
    outer_tile<Real, M>(rows, d, d_stride, x, x_stride, tile, M * L);
    for (Size u = 0; u < n; u++) __builtin_memcpy(out + u * out_stride, tile + u * M * L, bytes);
}

template <class Real>
void outer(Size rows, const Real* d, Size d_stride, Size units, const Real* x, Size x_stride, Size features,
           Real* out) {
    constexpr Size L = Float<Real>::L, piece = outer_bytes / sizeof(Real);
    for (Size first = 0; first < features; first += piece)
        for (Size u = 0; u < units; u += outer_units)
            for (Size f = first; f < features && f < first + piece;) {
                auto tile = [&]<int M>() {
                    outer_tile_within<Real, M>(rows, d + u, d_stride, units - u, x + f, x_stride, features - f,
                                               out + u * features + f, features);
                    f += M * L;
                };
                const Size blocks = (features - f + L - 1) / L;
                if (blocks >= outer_blocks) tile.template operator()<outer_blocks>();
                else if (blocks >= 2) tile.template operator()<2>();
                else tile.template operator()<1>();
            }
}

template <class Real>
void add_rows(Size rows, const Real* d, Size d_stride, Size units, Real* out) {
    constexpr int L = Float<Real>::L;
    for (Size u = 0; u < units; u += L) {
        vec_of<Real> sum = load_some(out + u, units - u);
        for (Size row = 0; row < rows; row++) sum += load_some(d + row * d_stride + u, L);
        store_some(out + u, sum, units - u);
    }
}

}  // namespace
