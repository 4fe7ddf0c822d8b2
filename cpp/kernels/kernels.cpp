// The time step, forward and backward, and the table of kernels. Compiled once per instruction set.
#include "kernels/kernels.h"

#include <type_traits>

#include "kernels/activations.h"
#include "kernels/bytes.h"
#include "kernels/cells.h"
#include "kernels/elementwise.h"
#include "kernels/filter.h"
#include "kernels/fixed_point.h"
#include "kernels/fourier.h"
#include "kernels/linear_attention.h"
#include "kernels/losses.h"
#include "kernels/outer.h"
#include "kernels/product.h"
#include "kernels/rows.h"
#include "kernels/transpose.h"
#include "kernels/vec.h"
#include "kernels/window.h"

#ifndef ONWARD_ISA
#error "ONWARD_ISA names this build's table"
#endif

namespace {

using onward::Cell;
using onward::Direction;
using onward::DirectionBackward;
using onward::Step;
using onward::StepBackward;

// ---- The time step --------------------------------------------------------------------------------------------------

// The record of one row from `unit` on; empty if rows is null.
template <class Number>
Record<Number> record_of(Number* const* rows, Size row, Size unit, Size H) {
    return {rows ? rows[row] + unit : nullptr, H, H - unit};
}

// A tile of a step: rows and blocks of units.
struct Tile {
    Size block = 0, blocks = 0, row = 0, rows = 0;
};

// The second half of a cell that has only one.
constexpr auto nothing = [](auto&&...) {};

// Brings weights into the first-level cache.
constexpr Size fetched_at_once = 2048;  // bytes
[[gnu::noinline, maybe_unused]] void fetch(const char* weights) {
    for (Size i = 0; i < fetched_at_once; i += 64) __builtin_prefetch(weights + i);
}

// Calls first(unit, z, u, record, at), and later second with the same arguments, for each row and each block of the
// share. u is the product of the panels and a, `unit` the first unit of the block, and `at` the offset of the block in
// arrays [rows][H]. The second halves of a tile follow the product of the next tile, which overwrites u: the processor
// computes them at the same time as the first halves of that tile, because neither waits for the other. Meanwhile, the
// first weights of the next tile come from the second-level cache if they are bytes, which a product of one row reads
// faster than that cache delivers them.
template <class Real, class First, class Second>
void for_cells(const Direction<Real>& d, const Panels<Real>& panels, const Real* a, Size a_stride, const Step<Real>& s,
               const Share& share, First first, Second second) {
    constexpr int L = Float<Real>::L;
    constexpr bool has_bytes = !small_tiles && std::is_same_v<Real, float>;
    constexpr bool has_two_halves = !std::is_same_v<const Second, decltype(nothing)>;
    const Size G = panels.G;
    alignas(vector_bytes) Real u[max_sums * L];
    auto for_each_cell = [&](const Tile& tile, auto half) {
        for (Size r = 0; r < tile.rows; r++)
            for (Size m = 0; m < tile.blocks; m++) {
                const Size row = tile.row + r, block = tile.block + m, n = row * panels.blocks + block;
                half(block * L, s.z + n * d.input.G * L, u + (r * tile.blocks + m) * G * L,
                     record_of(s.record, row, block * L, d.H), n * L);
            }
    };
    Tile unfinished;
    for_tiles(panels, {a, a_stride}, s.rows, s.quantized, share,
              [&](auto product, Size block, Size blocks, Size row, Size rows, const char* next) {
                  product(u, blocks * G * L);
                  const bool fetches = has_bytes && has_two_halves && next && s.rows == 1 && panels.quantized_size;
                  if (fetches) fetch(next);
                  for_each_cell(unfinished, second);
                  unfinished = {block, blocks, row, rows};
                  if (fetches) fetch(next + fetched_at_once);
                  for_each_cell(unfinished, first);
              });
    for_each_cell(unfinished, second);
}

template <class Real, class Options>
void gates_with(const Direction<Real>& d, const Step<Real>& s, const Share& share) {
    constexpr int L = Float<Real>::L;
    const bool projected = d.projection.blocks;
    const Size P = (projected ? d.projection.blocks : d.recurrent.blocks) * L;
    Real* const h = projected ? s.second_input : s.h_next;
    auto for_gates = [&](auto first, auto second) { for_cells(d, d.recurrent, s.h, P, s, share, first, second); };
    switch (d.cell) {
        case Cell::rnn:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                rnn(Options(d, unit), z, u, h + at, record);
            }, nothing);
        case Cell::rnn_relu:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                rnn(StandardRelu<Real>(d, unit), z, u, h + at, record);
            }, nothing);
        case Cell::lstm:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                lstm_cell_state(Options(d, unit), z, u, s.c + at, s.c_next + at, record);
            }, [&](Size unit, Real* z, const Real*, Record<Real> record, Size at) {
                lstm_hidden_state(Options(d, unit), z, s.c_next + at, h + at, record);
            });
        case Cell::gru:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size) {
                gru_sums(Options(d, unit), z, u, record);
            }, [&](Size unit, Real* z, const Real*, Record<Real> record, Size at) {
                gru_hidden_state(Options(d, unit), z, s.h + at, h + at, record);
            });
        case Cell::gru_reset_before:
            return for_gates([&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
                gru_reset(Options(d, unit), z, u, s.h + at, s.second_input + at, s.h_next + at, record);
            }, nothing);
    }
}

template <class Real, class Options>
void second_product_with(const Direction<Real>& d, const Step<Real>& s, const Share& share) {
    constexpr int L = Float<Real>::L;
    const Real* const a = s.second_input;
    const Size H = d.recurrent.blocks * L;
    if (d.candidate.blocks)
        for_cells(d, d.candidate, a, H, s, share, [&](Size unit, Real* z, const Real* u, Record<Real> record, Size at) {
            gru_candidate(Options(d, unit), z, u, s.h + at, s.h_next + at, record);
        }, nothing);
    else if (d.projection.blocks)
        product<Real>(d.projection, {a, H}, s.rows, s.h_next, d.projection.blocks * L, s.quantized, share);
}

template <class Real>
void gates(const Direction<Real>& d, const Step<Real>& s, const Share& share) {
    d.standard ? gates_with<Real, Standard<Real>>(d, s, share) : gates_with<Real, Custom<Real>>(d, s, share);
}

template <class Real>
void second_product(const Direction<Real>& d, const Step<Real>& s, const Share& share) {
    d.standard ? second_product_with<Real, Standard<Real>>(d, s, share)
               : second_product_with<Real, Custom<Real>>(d, s, share);
}

// ---- The time step backward -----------------------------------------------------------------------------------------

// Calls cell(record, load_block, at, d) for each row and each block of the share. load_block(rows) loads the block of
// the row, and `at` is the offset of the block in arrays [rows][stride].
template <class Real, class CellFunction>
void for_cells_backward(const DirectionBackward<Real>& direction, const StepBackward<Real>& s, const Share& share,
                        CellFunction cell) {
    constexpr int L = Float<Real>::L;
    for (Size row = 0; row < s.rows; row++)
        for (Size block = share.first; block < share.last; block++) {
            const Record<const Real> record = record_of(s.record, row, block * L, direction.H);
            auto load_block = [&](const Real* const* rows) { return load_some(rows[row] + block * L, record.units); };
            cell(record, load_block, row * s.stride + block * L, s.d + row * s.d_stride + block * L);
            for (Size k = 0; k < direction.recorded; k++)
                __builtin_prefetch(s.prefetch[row] + k * direction.H + block * L);
        }
}

template <class Real>
void backward(const DirectionBackward<Real>& direction, const StepBackward<Real>& s, const Share& share) {
    auto dh = [&](auto load_block, Size at) { return s.dy ? load(s.dh + at) + load_block(s.dy) : load(s.dh + at); };
    switch (direction.cell) {
        case Cell::rnn:
            return for_cells_backward(direction, s, share, [&](auto record, auto load_block, Size at, Real* d) {
                rnn_backward(record, dh(load_block, at), d);
            });
        case Cell::rnn_relu:
            return for_cells_backward(direction, s, share, [&](auto record, auto load_block, Size at, Real* d) {
                rnn_relu_backward(record, dh(load_block, at), d);
            });
        case Cell::lstm:
            return for_cells_backward(direction, s, share, [&](auto record, auto load_block, Size at, Real* d) {
                const auto m = lstm_backward(record, load_block(s.c_prev), dh(load_block, at), s.dc + at, d, s.stride);
                if (s.second_input) store(s.second_input + at, m);
            });
        case Cell::gru:
            return for_cells_backward(direction, s, share, [&](auto record, auto load_block, Size at, Real* d) {
                Real* const dh_direct = s.dh_direct + at;
                gru_backward(record, load_block(s.h_prev), dh(load_block, at) + load(dh_direct), dh_direct, d,
                             s.stride);
            });
        case Cell::gru_reset_before:
            return for_cells_backward(direction, s, share, [&](auto record, auto load_block, Size at, Real* d) {
                Real* const dh_direct = s.dh_direct + at;
                gru_candidate_backward(record, load_block(s.h_prev), dh(load_block, at) + load(dh_direct), dh_direct, d,
                                       s.stride);
            });
    }
}

template <class Real>
void backward_reset(const DirectionBackward<Real>& direction, const StepBackward<Real>& s, const Share& share) {
    for_cells_backward(direction, s, share, [&](auto record, auto load_block, Size at, Real* d) {
        const auto reset_h =
            gru_reset_backward(record, load_block(s.h_prev), load(s.d_reset + at), s.dh_direct + at, d);
        store(s.second_input + at, reset_h);
    });
}

// ---- A function over an array ---------------------------------------------------------------------------------------

// The loops over the most frequent functions do not select the function for each vector.
template <class Real>
void activate(Activation<Real> function, Size n, const Real* x, Real* y) {
    using Vec = vec_of<Real>;
    auto map_constant = [&]<Function constant>() {
        map(n, x, y, [=](Vec v) { return evaluate(Activation<Real>{constant, function.alpha, function.beta}, v); });
    };
    switch (function.function) {
        case Function::hard_sigmoid: return map_constant.template operator()<Function::hard_sigmoid>();
        case Function::hard_swish: return map_constant.template operator()<Function::hard_swish>();
        case Function::leaky_relu: return map_constant.template operator()<Function::leaky_relu>();
        case Function::exponential: return map(n, x, y, exp<Real>);
        case Function::relu: return map(n, x, y, relu<Real>);
        case Function::sigmoid: return map(n, x, y, [](Vec v) { return sigmoid<Real>(v).value(); });
        case Function::tanh: return map(n, x, y, [](Vec v) { return tanh<Real>(v).value(); });
        default: return map(n, x, y, [&](Vec v) { return evaluate(function, v); });
    }
}

// Plans compute in float32 only.
template <class Real, class Kernel>
constexpr Kernel* for_plans(Kernel* kernel) {
    return std::is_same_v<Real, float> ? kernel : nullptr;
}

template <class Real>
constexpr onward::Kernels<Real> kernels = {
    Float<Real>::L,
    product<Real>,
    gates<Real>,
    second_product<Real>,
    activate<Real>,
    unary<Real>,
    for_plans<Real>(binary<Real>),
    for_plans<Real>(window<Real>),
    for_plans<Real>(filter<Real>),
    for_plans<Real>(linear_attention<Real>),
    for_plans<Real>(fourier<Real>),
    for_plans<Real>(transpose<Float<float>::L>),
    for_plans<Real>(maximum<Real>),
    softmax<Real>,
    standardize<Real>,
    sum<Real>,
    for_plans<Real>(row_sums<Real>),
#ifdef ONWARD_NO_TRAINING  // for a smaller build
    {},
#else
    {backward<Real>, backward_reset<Real>, outer<Real>, add_rows<Real>, sum_of_squares<Real>, cross_entropy<Real>},
#endif
};

#ifdef ONWARD_ONLY_BYTES  // all else is in the table that this one extends
constexpr onward::Kernels<float> float_kernels = [] {
    onward::Kernels<float> products{};
    products.L = kernels<float>.L, products.product = kernels<float>.product;
    products.gates = kernels<float>.gates, products.second_product = kernels<float>.second_product;
    return products;
}();
#else
constexpr const onward::Kernels<float>& float_kernels = kernels<float>;
#endif

constexpr onward::ByteKernels byte_kernels = {offset, quantize_rows, integer_product, range, quantize,
                                              quantize_one_row, rescale, byte_windows};

#define ONWARD_STRING(name) #name
#define ONWARD_NAME(name) ONWARD_STRING(name)
#define ONWARD_TABLE(name) name##_table
#define ONWARD_TABLE_OF(name) ONWARD_TABLE(name)

}  // namespace

namespace onward {
extern const Table ONWARD_TABLE_OF(ONWARD_ISA);
const Table ONWARD_TABLE_OF(ONWARD_ISA) = {ONWARD_NAME(ONWARD_ISA), float_kernels,
#if defined(ONWARD_NO_FLOAT64) || defined(ONWARD_ONLY_BYTES)
                                                  {},
#else
                                                  kernels<double>,
#endif
                                                  byte_kernels};
}  // namespace onward
