// The time step, and the table of what one instruction set has; compiled once for each.
#include "kernels.h"

#include "activations.h"
#include "cells.h"
#include "cells_backward.h"
#include "product.h"
#include "vec.h"

#ifndef ONWARD_ISA
#error "ONWARD_ISA names this build's table"
#endif

namespace {

using onward::Cell;
using onward::Direction;
using onward::DirectionBack;
using onward::Step;
using onward::StepBack;

// ---- The time step ---------------------------------------------------------------------------------------------------

// Calls cell(unit, z, u, gates, at) for each row and each block of the share, u being the product of the panels and a; `unit`
// is the block's first, `at` the offset of the row's block in arrays of H units a row.
template <class Real, class CellFunction>
void for_cells(const Direction<Real>& d, const Panels<Real>& panels, const Real* a, long a_stride, const Step<Real>& s,
               Share share, CellFunction cell) {
    constexpr int L = Float<Real>::L;
    const long G = panels.G;
    alignas(vector_bytes) Real u[max_sums * L];
    for_tiles(panels, a, a_stride, s.rows, s.quantized, share, [&](auto tile, long block, long blocks, long row, long rows) {
        tile(u, blocks * G * L);
        for (long r = 0; r < rows; r++)
            for (long m = 0; m < blocks; m++) {
                const long n = (row + r) * panels.blocks + block + m;
                cell((block + m) * L, s.z + n * d.input.G * L, u + (r * blocks + m) * G * L,
                     s.gates ? s.gates + n * d.recorded * L : nullptr, n * L);
            }
    });
}

template <class Real, class Options>
void gates_with(const Direction<Real>& d, const Step<Real>& s, Share share) {
    constexpr int L = Float<Real>::L;
    const bool projected = d.projection.blocks;
    const long P = (projected ? d.projection.blocks : d.recurrent.blocks) * L;
    Real* const h = projected ? s.scratch : s.h_next;
    auto for_gates = [&](auto cell) { for_cells(d, d.recurrent, s.h, P, s, share, cell); };
    switch (d.cell) {
        case Cell::rnn:
            return for_gates([&](long unit, Real* z, const Real* u, Real* gates, long at) {
                rnn(Options(d, unit), z, u, h + at, gates);
            });
        case Cell::rnn_relu:
            return for_gates([&](long unit, Real* z, const Real* u, Real* gates, long at) {
                rnn(PlainRelu<Real>(d, unit), z, u, h + at, gates);
            });
        case Cell::lstm:
            return for_gates([&](long unit, Real* z, const Real* u, Real* gates, long at) {
                lstm(Options(d, unit), z, u, s.c + at, h + at, gates);
            });
        case Cell::gru:
            return for_gates([&](long unit, Real* z, const Real* u, Real* gates, long at) {
                gru(Options(d, unit), z, u, s.h + at, h + at, gates);
            });
        case Cell::gru_reset_before:
            return for_gates([&](long unit, Real* z, const Real* u, Real* gates, long at) {
                gru_reset(Options(d, unit), z, u, s.h + at, s.scratch + at, s.h_next + at, gates);
            });
    }
}

template <class Real, class Options>
void second_with(const Direction<Real>& d, const Step<Real>& s, Share share) {
    constexpr int L = Float<Real>::L;
    const Real* const a = s.scratch;
    const long H = d.recurrent.blocks * L;
    if (d.candidate.blocks)
        for_cells(d, d.candidate, a, H, s, share, [&](long unit, Real* z, const Real* u, Real* gates, long at) {
            gru_candidate(Options(d, unit), z, u, s.h + at, s.h_next + at, gates);
        });
    else if (d.projection.blocks)
        product(d.projection, a, H, s.rows, s.h_next, d.projection.blocks * L, s.quantized, share);
}

template <class Real>
void gates(const Direction<Real>& d, const Step<Real>& s, Share share) {
    d.plain ? gates_with<Real, Plain<Real>>(d, s, share) : gates_with<Real, Chosen<Real>>(d, s, share);
}

template <class Real>
void second(const Direction<Real>& d, const Step<Real>& s, Share share) {
    d.plain ? second_with<Real, Plain<Real>>(d, s, share) : second_with<Real, Chosen<Real>>(d, s, share);
}

// ---- The time step backward ------------------------------------------------------------------------------------------

// Calls cell(gates, d, at) for each row and each block of units.
template <class Real, class CellFunction>
void for_cells_backward(const DirectionBack<Real>& way, const StepBack<Real>& s, CellFunction cell) {
    for (long row = 0; row < s.rows; row++)
        for (long unit = 0; unit < s.stride; unit += Float<Real>::L) {
            const long recorded = row * way.recorded * s.stride + unit;
            cell(s.gates + recorded, s.d + recorded, row * s.stride + unit);
        }
}

template <class Real>
void backward(const DirectionBack<Real>& way, const StepBack<Real>& s) {
    switch (way.cell) {
        case Cell::rnn:
            return for_cells_backward(way, s, [&](const Real* gates, Real* d, long at) {
                rnn_backward(gates, s.dh + at, d);
            });
        case Cell::rnn_relu:
            return for_cells_backward(way, s, [&](const Real* gates, Real* d, long at) {
                rnn_relu_backward(gates, s.dh + at, d);
            });
        case Cell::lstm:
            return for_cells_backward(way, s, [&](const Real* gates, Real* d, long at) {
                lstm_backward(gates, s.stride, s.c + at, s.c_prev + at, s.dh + at, s.dc + at, d);
            });
        case Cell::gru:
            return for_cells_backward(way, s, [&](const Real* gates, Real* d, long at) {
                gru_backward(gates, s.stride, s.h_prev + at, s.dh + at, d);
            });
        case Cell::gru_reset_before:
            return for_cells_backward(way, s, [&](const Real* gates, Real* d, long at) {
                gru_candidate_backward(gates, s.stride, s.h_prev + at, s.dh + at, d);
            });
    }
}

template <class Real>
void backward_second(const DirectionBack<Real>& way, const StepBack<Real>& s) {
    for_cells_backward(way, s, [&](const Real* gates, Real* d, long at) {
        gru_reset_backward(gates, s.h_prev + at, s.d_reset_h + at, s.dh + at, d);
    });
}

// ---- A function over an array ---------------------------------------------------------------------------------------------

template <class Real>
void activate(Activation<Real> function, long n, const Real* x, Real* y) {
    constexpr int L = Float<Real>::L;
    for (long i = 0; i < n; i += L) {
        const long lanes = n - i < L ? n - i : L;
        alignas(vector_bytes) Real part[L] = {};
        __builtin_memcpy(part, x + i, lanes * sizeof(Real));
        store(part, evaluate(function, load((const Real*)part)));
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
    backward<Real>,
    backward_second<Real>,
    activate<Real>,
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
