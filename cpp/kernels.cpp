// The product, one function per cell and the time step; compiled once per instruction set.
#include "kernels.h"

#include "vec.h"

#ifndef ONWARD_ISA
#error "ONWARD_ISA names this build's table"
#endif

namespace {

using onward::Cell;
using onward::Direction;
using onward::Panels;
using onward::Share;
using onward::Step;

template <class Real>
vec_of<Real> load(const Real* p) {
    return *(const vec_of<Real>*)p;
}

template <class Real>
void store(Real* p, vec_of<Real> v) {
    *(vec_of<Real>*)p = v;
}

// ---- The product ---------------------------------------------------------------------------------------------------
//
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

constexpr int rows_at_once(long V) {
    const int rows = V == 1 ? 6 : int(max_sums / V);
    return rows < max_rows ? rows : max_rows;
}

// Micro-kernels by rows and log2 of blocks; null where the sums would not fit the registers.
template <class Real>
struct Micros {
    Micro<Real> at[max_rows + 1][4] = {};
    template <int V, int M, int R>
    constexpr void add() {
        if constexpr (V * M * R <= max_sums && R <= rows_at_once(V))
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

// Calls body(product of a tile, first block, blocks, first row, rows) for tiles that cover the share's blocks and all rows.
template <class Real, class Body>
void for_tiles(const Panels<Real>& panels, const Real* a, long a_stride, long rows, Share share, Body body) {
    constexpr int L = Float<Real>::L;
    const long G = panels.G, K = panels.K;
    const long groups = (rows + rows_at_once(G) - 1) / rows_at_once(G);
    const long most_rows = groups ? (rows + groups - 1) / groups : 0;
    long first = panels.blocks * share.part / share.parts, last = panels.blocks * (share.part + 1) / share.parts;
    while (first < last) {
        int log_blocks = 3;
        while (first + (1 << log_blocks) > last || !micros<Real>[G].at[most_rows][log_blocks]) log_blocks--;
        const long blocks = 1 << log_blocks;
        const long block = share.backward ? last -= blocks : (first += blocks) - blocks;
        for (long group = 0; group < groups; group++) {
            const long row = rows * group / groups, R = rows * (group + 1) / groups - row;
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

// ---- The cells: z = W x + b_W and u = R h + b_R of L units, gate by gate ---------------------------------------------

template <class Real>
vec_of<Real> relu(vec_of<Real> x) {
    return at_least(x, Real(0));
}

template <class Real>
void lstm(const Real* z, const Real* u, Real* c, Real* h) {
    constexpr int L = Float<Real>::L;
    const auto i = sigmoid<Real>(load(z) + load(u));
    const auto f = sigmoid<Real>(load(z + L) + load(u + L));
    const auto g = tanh<Real>(load(z + 2 * L) + load(u + 2 * L));
    const auto o = sigmoid<Real>(load(z + 3 * L) + load(u + 3 * L));
    const auto c_next = fma(f.value(), load(c), (i * g).value());
    store(c, c_next);
    store(h, (o * tanh<Real>(c_next)).value());
}

template <class Real>
void gru(const Real* z, const Real* u, const Real* h, Real* h_next) {
    constexpr int L = Float<Real>::L;
    const auto r = sigmoid<Real>(load(z) + load(u)).value();
    const auto update = sigmoid<Real>(load(z + L) + load(u + L)).value();
    const auto n = tanh<Real>(fma(r, load(u + 2 * L), load(z + 2 * L))).value();
    store(h_next, fma(update, load(h) - n, n));
}

// A GRU that resets before the product, first half: r h for the product, and the update gate.
template <class Real>
void gru_reset(const Real* z, const Real* u, const Real* h, Real* reset_h, Real* update) {
    constexpr int L = Float<Real>::L;
    store(reset_h, sigmoid<Real>(load(z) + load(u)).value() * load(h));
    store(update, sigmoid<Real>(load(z + L) + load(u + L)).value());
}

// Second half: u is R_n (r h) + b_n; h_next holds the update gate.
template <class Real>
void gru_candidate(const Real* z, const Real* u, const Real* h, Real* h_next) {
    constexpr int L = Float<Real>::L;
    const auto n = tanh<Real>(load(z + 2 * L) + load(u)).value();
    store(h_next, fma(load(h_next), load(h) - n, n));
}

// ---- The time step ---------------------------------------------------------------------------------------------------

// Calls cell(z, u, at) for each row and each block of the share, u being the product of the panels and a; `at` is the
// offset of the row's block in arrays of H units a row.
template <class Real, class CellFunction>
void for_cells(const Direction<Real>& d, const Panels<Real>& panels, const Real* a, long a_stride, const Step<Real>& s,
               Share share, CellFunction cell) {
    constexpr int L = Float<Real>::L;
    const long G = panels.G, H = panels.blocks * L;
    alignas(vector_bytes) Real u[max_sums * L];
    for_tiles(panels, a, a_stride, s.rows, share, [&](auto tile, long block, long blocks, long row, long rows) {
        tile(u, blocks * G * L);
        for (long r = 0; r < rows; r++)
            for (long m = 0; m < blocks; m++)
                cell(s.z + ((row + r) * panels.blocks + block + m) * d.input.G * L, u + (r * blocks + m) * G * L,
                     (row + r) * H + (block + m) * L);
    });
}

template <class Real>
void gates(const Direction<Real>& d, const Step<Real>& s, Share share) {
    constexpr int L = Float<Real>::L;
    const bool projected = d.projection.blocks;
    const long P = (projected ? d.projection.blocks : d.recurrent.blocks) * L;
    Real* const h = projected ? s.scratch : s.h_next;
    auto for_gates = [&](auto cell) { for_cells(d, d.recurrent, s.h, P, s, share, cell); };
    switch (d.cell) {
        case Cell::rnn_tanh:
            return for_gates([&](const Real* z, const Real* u, long at) {
                store(h + at, tanh<Real>(load(z) + load(u)).value());
            });
        case Cell::rnn_relu:
            return for_gates([&](const Real* z, const Real* u, long at) {
                store(h + at, relu<Real>(load(z) + load(u)));
            });
        case Cell::lstm:
            return for_gates([&](const Real* z, const Real* u, long at) { lstm(z, u, s.c + at, h + at); });
        case Cell::gru:
            return for_gates([&](const Real* z, const Real* u, long at) { gru(z, u, s.h + at, h + at); });
        case Cell::gru_reset_before:
            return for_gates([&](const Real* z, const Real* u, long at) {
                gru_reset(z, u, s.h + at, s.scratch + at, s.h_next + at);
            });
    }
}

template <class Real>
void second(const Direction<Real>& d, const Step<Real>& s, Share share) {
    constexpr int L = Float<Real>::L;
    const Real* const a = s.scratch;
    const long H = d.recurrent.blocks * L;
    if (d.candidate.blocks)
        for_cells(d, d.candidate, a, H, s, share, [&](const Real* z, const Real* u, long at) {
            gru_candidate(z, u, s.h + at, s.h_next + at);
        });
    else if (d.projection.blocks)
        product(d.projection, a, H, s.rows, s.h_next, d.projection.blocks * L, share);
}

// ---- Functions over arrays ---------------------------------------------------------------------------------------------

template <class Real, class Function>
void map(long n, const Real* x, Real* y, Function function) {
    constexpr int L = Float<Real>::L;
    for (long i = 0; i < n; i += L) {
        const long lanes = n - i < L ? n - i : L;
        alignas(vector_bytes) Real part[L] = {};
        __builtin_memcpy(part, x + i, lanes * sizeof(Real));
        store(part, function(load((const Real*)part)));
        __builtin_memcpy(y + i, part, lanes * sizeof(Real));
    }
}

// ---- For measuring the machine -----------------------------------------------------------------------------------------

template <class Real>
long arithmetic(long n, Real* result) {
    constexpr int sums = max_sums / 2;
    vec_of<Real> sum[sums];
    for (int s = 0; s < sums; s++) sum[s] = broadcast(Real(s));  // not alike, or they would be computed once
    const vec_of<Real> a = broadcast(*result), b = a + Real(1);
    for (long i = 0; i < n; i++) {
#pragma GCC unroll 32
        for (int s = 0; s < sums; s++) sum[s] = fma(a, b, sum[s]);
    }
    for (int s = 1; s < sums; s++) sum[0] += sum[s];
    *result = sum[0][0];
    return 2L * sums * Float<Real>::L;
}

template <class Real>
Real read(long n, const Real* x) {
    constexpr int sums = 8, L = Float<Real>::L;
    vec_of<Real> sum[sums] = {};
    for (; n >= sums * L; n -= sums * L, x += sums * L) {
#pragma GCC unroll 8
        for (int s = 0; s < sums; s++) sum[s] += load(x + s * L);
    }
    for (int s = 1; s < sums; s++) sum[0] += sum[s];
    return sum[0][0];
}

template <class Real>
constexpr onward::Kernels<Real> kernels = {
    Float<Real>::L,
    product<Real>,
    gates<Real>,
    second<Real>,
    [](long n, const Real* x, Real* y) { map(n, x, y, [](vec_of<Real> v) { return exp<Real>(v); }); },
    [](long n, const Real* x, Real* y) { map(n, x, y, [](vec_of<Real> v) { return sigmoid<Real>(v).value(); }); },
    [](long n, const Real* x, Real* y) { map(n, x, y, [](vec_of<Real> v) { return tanh<Real>(v).value(); }); },
    arithmetic<Real>,
    read<Real>,
};

#define ONWARD_STRING(name) #name
#define ONWARD_NAME(name) ONWARD_STRING(name)
#define ONWARD_TABLE(name) name##_table
#define ONWARD_TABLE_OF(name) ONWARD_TABLE(name)

}  // namespace

namespace onward {
extern const Table ONWARD_TABLE_OF(ONWARD_ISA);
const Table ONWARD_TABLE_OF(ONWARD_ISA) = {ONWARD_NAME(ONWARD_ISA), kernels<float>, kernels<double>};
}  // namespace onward
