// The time step, and the table of what one instruction set has; compiled once for each.
#include "kernels/kernels.h"

#include "kernels/activations.h"
#include "kernels/cells.h"
#include "kernels/elementwise.h"
#include "kernels/losses.h"
#include "kernels/outer.h"
#include "kernels/product.h"
#include "kernels/rows.h"
#include "kernels/vec.h"

#ifndef ONWARD_ISA
#error "ONWARD_ISA names this build's table"
#endif

namespace {

using onward::Cell;
using onward::Direction;
using onward::DirectionBack;
using onward::Step;
using onward::StepBack;

// ---- The time step --------------------------------------------------------------------------------------------------

// The record of a row's units from `unit` on; none where there are no rows of them.
template <class Number>
Record<Number> record_of(Number* const* rows, Size row, Size unit, Size H) {
    return {rows ? rows[row] + unit : nullptr, H, H - unit};
}

// Calls cell(unit, z, u, record, at) for each row and each block of the share, u being the product of the panels and a;
// `unit` is the block's first, `at` the offset of the row's block in arrays of H units a row.
template <class Real, class CellFunction>
void for_cells(const Direction<Real>& d, const Panels<Real>& panels, const Real* a, Size a_stride, const Step<Real>& s,
               Share share, CellFunction cell) {
    constexpr int L = Float<Real>::L;
    const Size G = panels.G;
    alignas(vector_bytes) Real u[max_sums * L];
    auto cells = [&](auto tile, Size block, Size blocks, Size row, Size rows) {
        tile(u, blocks * G * L);
        for (Size r = 0; r < rows; r++)
            for (Size m = 0; m < blocks; m++) {
                const Size n = (row + r) * panels.blocks + block + m;
                cell((block + m) * L, s.z + n * d.input.G * L, u + (r * blocks + m) * G * L,
                     record_of(s.record, row + r, (block + m) * L, d.H), n * L);
            }
    };
    for_tiles(panels, a, a_stride, s.rows, s.quantized, share, cells);
}

template <class Real, class Options>
void gates_with(const Direction<Real>& d, const Step<Real>& s, Share share) {
    constexpr int L = Float<Real>::L;
    const bool projected = d.projection.blocks;
    const Size P = (projected ? d.projection.blocks : d.recurrent.blocks) * L;
    Real* const h = projected ? s.scratch : s.h_next;
    auto for_gates = [&](auto cell) { for_cells(d, d.recurrent, s.h, P, s, share, cell); };
    switch (d.cell) {
        case Cell::rnn:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                rnn(Options(d, unit), z, u, h + at, record);
            });
        case Cell::rnn_relu:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                rnn(PlainRelu<Real>(d, unit), z, u, h + at, record);
            });
        case Cell::lstm:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                lstm(Options(d, unit), z, u, s.c + at, h + at, record);
            });
        case Cell::gru:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                gru(Options(d, unit), z, u, s.h + at, h + at, record);
            });
        case Cell::gru_reset_before:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                gru_reset(Options(d, unit), z, u, s.h + at, s.scratch + at, s.h_next + at, record);
            });
    }
}

template <class Real, class Options>
void second_with(const Direction<Real>& d, const Step<Real>& s, Share share) {
    constexpr int L = Float<Real>::L;
    const Real* const a = s.scratch;
    const Size H = d.recurrent.blocks * L;
    if (d.candidate.blocks)
        for_cells(d, d.candidate, a, H, s, share, [&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
            gru_candidate(Options(d, unit), z, u, s.h + at, s.h_next + at, record);
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

// ---- The time step backward -----------------------------------------------------------------------------------------

// Calls cell(record, some, at, d) for each row and each of the share's blocks: some(rows) are the block's units of a
// row, `at` is their offset in arrays of `stride` units a row.
template <class Real, class CellFunction>
void for_cells_backward(const DirectionBack<Real>& way, const StepBack<Real>& s, Share share, CellFunction cell) {
    constexpr int L = Float<Real>::L;
    for (Size row = 0; row < s.rows; row++)
        for (Size block = share.first; block < share.last; block++) {
            const Record<const Real> record = record_of(s.record, row, block * L, way.H);
            auto some = [&](const Real* const* rows) { return load_some(rows[row] + block * L, record.units); };
            cell(record, some, row * s.stride + block * L, s.d + row * s.d_stride + block * L);
            for (Size k = 0; s.soon && k < way.recorded; k++) __builtin_prefetch(s.soon[row] + k * way.H + block * L);
        }
}

template <class Real>
void backward(const DirectionBack<Real>& way, const StepBack<Real>& s, Share share) {
    auto dh = [&](auto some, Size at) { return s.dy ? load(s.dh + at) + some(s.dy) : load(s.dh + at); };
    switch (way.cell) {
        case Cell::rnn:
            return for_cells_backward(way, s, share, [&](auto record, auto some, Size at, Real* d) {
                rnn_backward(record, dh(some, at), d);
            });
        case Cell::rnn_relu:
            return for_cells_backward(way, s, share, [&](auto record, auto some, Size at, Real* d) {
                rnn_relu_backward(record, dh(some, at), d);
            });
        case Cell::lstm:
            return for_cells_backward(way, s, share, [&](auto record, auto some, Size at, Real* d) {
                const auto m = lstm_backward(record, some(s.c_prev), dh(some, at), s.dc + at, d, s.stride);
                if (s.shown) store(s.shown + at, m);
            });
        case Cell::gru:
            return for_cells_backward(way, s, share, [&](auto record, auto some, Size at, Real* d) {
                gru_backward(record, some(s.h_prev), dh(some, at) + load(s.past_R + at), s.past_R + at, d, s.stride);
            });
        case Cell::gru_reset_before:
            return for_cells_backward(way, s, share, [&](auto record, auto some, Size at, Real* d) {
                gru_candidate_backward(record, some(s.h_prev), dh(some, at) + load(s.past_R + at), s.past_R + at, d,
                                       s.stride);
            });
    }
}

template <class Real>
void backward_second(const DirectionBack<Real>& way, const StepBack<Real>& s, Share share) {
    for_cells_backward(way, s, share, [&](auto record, auto some, Size at, Real* d) {
        store(s.shown + at, gru_reset_backward(record, some(s.h_prev), load(s.d_reset + at), s.past_R + at, d));
    });
}

// ---- A function over an array ---------------------------------------------------------------------------------------

template <class Real>
void activate(Activation<Real> function, Size n, const Real* x, Real* y) {
    constexpr int L = Float<Real>::L;
    for (Size i = 0; i < n; i += L) {
        const Size lanes = n - i < L ? n - i : L;
        alignas(vector_bytes) Real part[L] = {};
        __builtin_memcpy(part, x + i, lanes * sizeof(Real));
        store(part, evaluate(function, load((const Real*)part)));
        __builtin_memcpy(y + i, part, lanes * sizeof(Real));
    }
}

// ---- For measuring the machine --------------------------------------------------------------------------------------

template <class Real>
Size arithmetic(Size n, Real* result) {
    constexpr int sums = max_sums / 2;
    vec_of<Real> sum[sums];
    for (int s = 0; s < sums; s++) sum[s] = broadcast(Real(s));  // not alike, or they would be computed once
    const vec_of<Real> a = broadcast(*result), b = a + Real(1);
    for (Size i = 0; i < n; i++) {
#pragma GCC unroll 32
        for (int s = 0; s < sums; s++) sum[s] = fma(a, b, sum[s]);
    }
    for (int s = 1; s < sums; s++) sum[0] += sum[s];
    *result = sum[0][0];
    return Size(2) * sums * Float<Real>::L;
}

template <class Real>
Real read(Size n, const Real* x) {
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
    outer<Real>,
    add_rows<Real>,
    activate<Real>,
    unary<Real>,
    binary<Real>,
    multiply_add<Real>,
    maximum<Real>,
    softmax<Real>,
    standardize<Real>,
    sum<Real>,
    sum_of_squares<Real>,
    cross_entropy<Real>,
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
