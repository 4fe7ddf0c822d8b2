// The product of rows and packed panels: micro-kernels, and the tiles that cover a matrix.
#pragma once

#include "kernels/bytes.h"
#include "kernels/fixed_point.h"
#include "kernels/formats.h"

namespace {

using onward::Format;
using onward::Operand;
using onward::Share;

// A micro-kernel keeps the sums of a tile of V gates x M blocks x R rows in registers, reads the panel once, and adds
// in the order of k. The bits of a result therefore do not depend on the shape of the tile. With one gate, row r of the
// result is at places[r], otherwise at r * out_stride.

template <class Real>
using Micro = void (*)(const Panels<Real>& panels, Size block, const Operand<Real>& a, Size row, Real* out,
                       Size out_stride, const Size* places);

// Whether a tile computes for so long that other weights can arrive from the third-level cache meanwhile. With one
// gate, no register is left for their address, and bytes are few.
template <class F>
constexpr bool fetches_ahead(int V, int sums) {
    return F::terms == 1 && V > 2 && sums >= vector_registers / 2 && !small_tiles;
}

// Not inlined, so that the compiler keeps the sums in registers.
template <class F, int V, int M, int R>
[[gnu::noinline]] void micro(const Panels<typename F::Real>& panels, Size block, const Operand<typename F::Real>& a,
                             Size row, typename F::Real* out, Size out_stride, const Size* places) {
    using Sum = typename F::Sum;
    constexpr int L = Float<typename F::Real>::L;
    const Size terms = (panels.K + F::terms - 1) / F::terms, block_stride = terms * V * L;
    const Size length = a.length ? a.length : terms;
    const auto* weights = (const typename F::Weight*)panels.weights + block * block_stride;
    const auto* const constants = panels.constants + block * F::constants * V * L;
    const auto* const first_row = a.rows + row * a.stride;
    const auto* ahead = (const typename F::Weight*)a.ahead;
    Sum sum[R][M][V];
#pragma GCC unroll 32
    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
        for (int v = 0; v < V; v++)
#pragma GCC unroll 32
            for (int r = 0; r < R; r++)
                sum[r][m][v] = F::start(constants + (m * F::constants * V + v) * L, V * L);
    for (Size piece = 0; piece < a.pieces; piece++) {
        const auto* const rows = F::row(first_row + (a.offsets ? a.offsets[piece] : 0));
        for (Size k = 0; k < length; k++, weights += V * L) {
            if constexpr (fetches_ahead<F>(V, V * M * R)) __builtin_prefetch(ahead, 0, 2), ahead += L;
            auto weight = [&](int m, int v) {
                auto w = F::weight(weights + m * block_stride + v * L);
                if constexpr (R > 1) keep_in_register(w);
                return w;
            };
            auto term = [&](int r) {
                auto a_k = F::term(rows + r * a.stride + k);
                if constexpr (M * V > 1) keep_in_register(a_k);
                return a_k;
            };
            // Loads the smaller side of the tile into registers and streams the larger side.
            if constexpr (M * V < R) {
                decltype(weight(0, 0)) w[M][V];
#pragma GCC unroll 32
                for (int m = 0; m < M; m++)
#pragma GCC unroll 32
                    for (int v = 0; v < V; v++) w[m][v] = weight(m, v);
#pragma GCC unroll 32
                for (int r = 0; r < R; r++) {
                    const auto a_k = term(r);
#pragma GCC unroll 32
                    for (int m = 0; m < M; m++)
#pragma GCC unroll 32
                        for (int v = 0; v < V; v++) sum[r][m][v] = F::add(sum[r][m][v], w[m][v], a_k);
                }
            } else {
                decltype(term(0)) a_k[R];
#pragma GCC unroll 32
                for (int r = 0; r < R; r++) a_k[r] = term(r);
#pragma GCC unroll 32
                for (int m = 0; m < M; m++)
#pragma GCC unroll 32
                    for (int v = 0; v < V; v++) {
                        const auto w = weight(m, v);
#pragma GCC unroll 32
                        for (int r = 0; r < R; r++) sum[r][m][v] = F::add(sum[r][m][v], w, a_k[r]);
                    }
            }
        }
    }
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) {
        auto* const to = out + (V == 1 ? places[r] : r * out_stride);
#pragma GCC unroll 32
        for (int m = 0; m < M; m++)
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) {
                auto y = F::finish(sum[r][m][v], constants + (m * F::constants * V + v) * L, V * L,
                                   first_row + r * a.stride);
                if constexpr (V == 1 && F::has_least) y = at_least(flush<typename F::Real>(y), a.least);
                store_bits(to + (m * V + v) * L, y, L);
            }
    }
}

constexpr int max_sums = small_tiles ? 8 : vector_registers == 32 ? 24 : 12, max_rows = small_tiles ? 2 : 12;

// Whether a tile fits in registers: its sums, its smaller side, and one element of its larger side. A weight that takes
// several registers needs as many for the term and one for the product, and compilers spill tiles of eight blocks of
// them.
template <class F>
constexpr bool fits(int V, int M, int R) {
    constexpr int registers = sizeof(F::weight(nullptr)) / vector_bytes;
    const int smaller = M * V < R ? M * V : R, sums = V * M * R;
    return sums <= max_sums && sums + registers * (smaller + 1) + registers - 1 <= vector_registers &&
           M * registers <= 8 && (V > 2 || V * R <= max_sums / 2);
}

// Micro-kernels by the number of rows (up to `rows`) and log2 of the number of blocks; null if the tile does not fit.
template <class Real>
struct Micros {
    Micro<Real> at[max_rows + 1][4] = {};
    Size rows = 0;
    template <class F, int V, int M, int R>
    constexpr void add() {
        if constexpr (fits<F>(V, M, R)) {
            at[R][M == 8 ? 3 : M / 2] = micro<F, V, M, R>;
            rows = R;
        }
    }
    template <class F, int V, int R = 1>
    constexpr void add_rows() {
        add<F, V, 1, R>(), add<F, V, 2, R>(), add<F, V, 4, R>(), add<F, V, 8, R>();
        if constexpr (R < max_rows) add_rows<F, V, R + 1>();
    }
    template <class F, int V>
    static constexpr Micros of() {
        Micros micros;
        micros.template add_rows<F, V>();
        return micros;
    }
};

template <class F>
constexpr Micros<typename F::Real> micros[] = {
    {}, Micros<typename F::Real>::template of<F, 1>(), Micros<typename F::Real>::template of<F, 2>(),
    Micros<typename F::Real>::template of<F, 3>(), Micros<typename F::Real>::template of<F, 4>()};

constexpr Micros<float> integer_micros = Micros<float>::of<Integer, 1>();
constexpr Micros<float> dynamic_micros = Micros<float>::of<Dynamic, 4>();  // for the gates of an LSTM

inline const Micros<float>& micros_for(const Panels<float>& panels) {
    switch (panels.format) {
#ifndef ONWARD_ONLY_BYTES  // whose other products are in another table
        case Format::native: return micros<Native<float>>[panels.G];
        case Format::float16: return micros<Float16>[panels.G];
#endif
        case Format::integer: return integer_micros;
        case Format::dynamic: return dynamic_micros;
        default: return micros<Int8>[panels.G];
    }
}
inline const Micros<double>& micros_for(const Panels<double>& panels) { return micros<Native<double>>[panels.G]; }

// The rows that a micro-kernel reads: those of the caller, or quantized ones. Rows are quantized as a whole.
inline Operand<float> rows_for(const Panels<float>& panels, const Operand<float>& a, Size rows, int32_t* quantized) {
    if (panels.format == Format::int8)
        for (Size row = 0; row < rows; row++)
            quantize_row(a.rows + row * a.stride, panels.K, quantized + row * panels.quantized_size);
    else if (panels.format == Format::dynamic && quantized)
        quantize_rows(a, rows, panels.K, quantized, panels.quantized_size);
    else
        return a;
    return {(const float*)quantized, panels.quantized_size, 1, nullptr, a.least, a.places};
}
inline Operand<double> rows_for(const Panels<double>&, const Operand<double>& a, Size, int32_t*) { return a; }

// The product of a single row is limited by reading the panel. A tile then needs only enough sums to hide the latency
// of an fma, and small tiles leave more of the panel in the first-level cache for the next step. In bytes.
constexpr Size enough_sums = 256, small_tile = 16 << 10;

// With one gate and many blocks, tiles of few rows and more blocks are faster, while their panels fit into the
// first-level cache.
constexpr Size rows_of_wide_tile = max_rows < 6 ? max_rows : 6, first_level = 32 << 10;

// Calls body(tile product, first block, blocks, first row, rows, next) for the tiles that cover all rows and the blocks
// of the share. `next` points to the weights of the next blocks; it is null for the last ones.
template <class Real, class Body>
void for_tiles(const Panels<Real>& panels, const Operand<Real>& a, Size rows, int32_t* quantized, const Share& share,
               Body body) {
    const Micros<Real>& micros = micros_for(panels);
    Operand<Real> in = rows_for(panels, a, rows, quantized);
    const bool is_wide = panels.G == 1 && share.last - share.first > 2 &&
                         max_sums / rows_of_wide_tile * panels.block_bytes <= first_level;
    const Size at_most = is_wide ? rows_of_wide_tile : micros.rows;
    const Size groups = rows <= at_most ? 1 : (rows + at_most - 1) / at_most;
    const Size most_rows = groups == 1 ? rows : (rows + groups - 1) / groups;
    auto too_large = [&](Size blocks) {
        return rows == 1 && blocks > 1 && blocks / 2 * panels.G * vector_bytes >= enough_sums &&
               blocks * panels.block_bytes > small_tile;
    };
    for (Size first = share.first, last = share.last; first < last;) {
        int log_blocks = 3;
        while (first + (1 << log_blocks) > last || !micros.at[most_rows][log_blocks] || too_large(1 << log_blocks))
            log_blocks--;
        const Size blocks = 1 << log_blocks;
        const Size block = share.backward ? last -= blocks : (first += blocks) - blocks;
        const auto* const weights = (const char*)panels.weights + block * panels.block_bytes;
        const Size bytes = blocks * panels.block_bytes;
        const char* const next = first < last ? weights + (share.backward ? -bytes : bytes) : nullptr;
        for (Size row = 0; row < rows; row += most_rows) {
            const Size R = rows - row < most_rows ? rows - row : most_rows;
            auto product = [&](Real* out, Size out_stride, const char* ahead = nullptr) {
                in.ahead = ahead ? ahead : weights;
                Size places[max_rows];
                for (Size r = 0; r < R && panels.G == 1; r++)
                    places[r] = in.places ? in.places[row + r] : r * out_stride;
                micros.at[R][log_blocks](panels, block, in, row, out, out_stride, places);
            };
            body(product, block, blocks, row, R, next);
        }
    }
}

template <class Real>
void product(const Panels<Real>& panels, const Operand<Real>& a, Size rows, Real* out, Size out_stride,
             int32_t* quantized, const Share& share) {
    // Tiles fetch the weights of the next blocks, and then what the thread reads next.
    const Size fetched_at_once = panels.block_bytes / panels.G;
    const auto *following = (const char*)share.following, *const end = following + share.following_bytes;
    Size fetched = 0;
    for_tiles(panels, a, rows, quantized, share,
              [&](auto tile, Size block, Size blocks, Size row, Size, const char* next) {
        const Size bytes = blocks * panels.block_bytes;
        const char* ahead = nullptr;
        if (row == 0) fetched = next ? 0 : bytes;
        if (fetched < bytes) {
            ahead = next + fetched, fetched += fetched_at_once;
        } else if (following < end) {
            ahead = following, following += fetched_at_once;
        }
        tile(out + (a.places ? 0 : row * out_stride) + block * panels.G * Float<Real>::L, out_stride, ahead);
    });
}

// The results of a tile go through a small buffer, which keeps the micro-kernels free of options.
inline void integer_product(const Panels<float>& panels, const int32_t* a, Size rows,
                            const IntegerResult& out) {
    constexpr int L = Float<float>::L;
    alignas(vector_bytes) float sums[max_sums * L];
    Stored stored[8];  // for the blocks of a tile, which all rows follow
    const Limits limits(out.rescaling ? *out.rescaling : Rescaling{});
    auto tile = [&](auto product, Size block, Size blocks, Size first_row, Size count, auto) {
        product(sums, blocks * L);
        for (Size m = 0; m < blocks; m++) {
            const Stored own = first_row ? stored[m] : Stored(out, (block + m) * L);  // in registers
            if (!first_row && count < rows) stored[m] = own;
            for (Size r = 0; r < count; r++)
                own((i32v)load((const float*)sums + (r * blocks + m) * L), first_row + r, limits);
        }
    };
    for_tiles(panels, {(const float*)a, panels.quantized_size}, rows, nullptr, {0, panels.blocks}, tile);
}

}  // namespace
