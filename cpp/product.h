// The product of rows with packed panels: micro-kernels, and the tiles that cover a matrix.
#pragma once

#include "kernels.h"
#include "vec.h"

namespace {

using onward::Panels;
using onward::Share;

// A micro-kernel holds V gates x M blocks x R rows of sums in registers, reads the panel once and adds in the order of k,
// one fma a term: so a number never depends on which rows or blocks it was computed beside.

template <class Real>
using Micro = void (*)(long K, const Real* a, long a_stride, const Real* weights, long block_stride, const Real* bias, Real* out,
                       long out_stride);

// Not inlined: alone, its sums stay in registers.
template <class Real, int V, int M, int R>
[[gnu::noinline]] void micro(long K, const Real* a, long a_stride, const Real* weights, long block_stride, const Real* bias,
                             Real* out, long out_stride) {
    using vec = vec_of<Real>;
    constexpr int L = Float<Real>::L;
    vec sum[R][M][V];
#pragma GCC unroll 32
    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
        for (int v = 0; v < V; v++)
#pragma GCC unroll 32
            for (int r = 0; r < R; r++) sum[r][m][v] = load(bias + (m * V + v) * L);
    for (long k = 0; k < K; k++, weights += V * L) {
        // The smaller side of the tile is kept in registers, the larger passes by.
        if constexpr (M * V < R) {
            vec w[M][V];
#pragma GCC unroll 32
            for (int m = 0; m < M; m++)
#pragma GCC unroll 32
                for (int v = 0; v < V; v++) w[m][v] = load(weights + m * block_stride + v * L);
#pragma GCC unroll 32
            for (int r = 0; r < R; r++) {
                const vec a_k = broadcast(a[r * a_stride + k]);
#pragma GCC unroll 32
                for (int m = 0; m < M; m++)
#pragma GCC unroll 32
                    for (int v = 0; v < V; v++) sum[r][m][v] = fma(w[m][v], a_k, sum[r][m][v]);
            }
        } else {
            vec a_k[R];
#pragma GCC unroll 32
            for (int r = 0; r < R; r++) a_k[r] = broadcast(a[r * a_stride + k]);
#pragma GCC unroll 32
            for (int m = 0; m < M; m++)
#pragma GCC unroll 32
                for (int v = 0; v < V; v++) {
                    const vec w = load(weights + m * block_stride + v * L);
#pragma GCC unroll 32
                    for (int r = 0; r < R; r++) sum[r][m][v] = fma(w, a_k[r], sum[r][m][v]);
                }
        }
    }
#pragma GCC unroll 32
    for (int r = 0; r < R; r++)
#pragma GCC unroll 32
        for (int m = 0; m < M; m++)
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) store(out + r * out_stride + (m * V + v) * L, sum[r][m][v]);
}

constexpr int max_sums = vector_registers == 32 ? 24 : 12, max_rows = 12;

// Most rows of a micro-kernel, by gates.
constexpr int rows_at_once[] = {0, 6, max_sums / 2, max_sums / 3, max_sums / 4};

// Micro-kernels by rows and log2 of blocks; null where the sums would not fit the registers.
template <class Real>
struct Micros {
    Micro<Real> at[max_rows + 1][4] = {};
    template <int V, int M, int R>
    constexpr void add() {
        if constexpr (V * M * R <= max_sums && R <= rows_at_once[V])
            at[R][M == 8 ? 3 : M / 2] = micro<Real, V, M, R>;
    }
    template <int V, int R = 1>
    constexpr void add_rows() {
        add<V, 1, R>(), add<V, 2, R>(), add<V, 4, R>(), add<V, 8, R>();
        if constexpr (R < max_rows) add_rows<V, R + 1>();
    }
    template <int V>
    static constexpr Micros of() {
        Micros micros;
        micros.template add_rows<V>();
        return micros;
    }
};

template <class Real>
constexpr Micros<Real> micros[] = {{}, Micros<Real>::template of<1>(), Micros<Real>::template of<2>(),
                                Micros<Real>::template of<3>(), Micros<Real>::template of<4>()};

// For one row, reading the panel takes the time: a tile needs no more sums than hide the latency of an fma, and a small one
// leaves more of the panel in the first cache for the next step. In bytes.
constexpr long enough_sums = 256, small_tile = 16 << 10;

// Calls body(product of a tile, first block, blocks, first row, rows) for tiles that cover the share's blocks and all rows.
template <class Real, class Body>
void for_tiles(const Panels<Real>& panels, const Real* a, long a_stride, long rows, Share share, Body body) {
    constexpr int L = Float<Real>::L;
    const long G = panels.G, K = panels.K;
    const long groups = (rows + rows_at_once[G] - 1) / rows_at_once[G];
    const long most_rows = groups ? (rows + groups - 1) / groups : 0;
    const long sums = G * vector_bytes, bytes = K * sums;
    auto too_large = [&](long blocks) {
        return rows == 1 && blocks > 1 && blocks * sums > enough_sums && blocks * bytes > small_tile;
    };
    for (long first = share.first, last = share.last; first < last;) {
        int log_blocks = 3;
        while (first + (1 << log_blocks) > last || !micros<Real>[G].at[most_rows][log_blocks] ||
               too_large(1 << log_blocks))
            log_blocks--;
        const long blocks = 1 << log_blocks;
        const long block = share.backward ? last -= blocks : (first += blocks) - blocks;
        for (long row = 0; row < rows; row += most_rows) {
            const long R = rows - row < most_rows ? rows - row : most_rows;
            auto product = [&](Real* out, long out_stride) {
                micros<Real>[G].at[R][log_blocks](K, a + row * a_stride, a_stride, panels.weights + block * K * G * L,
                                                  K * G * L, panels.bias + block * G * L, out, out_stride);
            };
            body(product, block, blocks, row, R);
        }
    }
}

template <class Real>
void product(const Panels<Real>& panels, const Real* a, long a_stride, long rows, Real* out, long out_stride,
             Share share) {
    for_tiles(panels, a, a_stride, rows, share, [&](auto tile, long block, long, long row, long) {
        tile(out + row * out_stride + block * panels.G * Float<Real>::L, out_stride);
    });
}

}  // namespace
