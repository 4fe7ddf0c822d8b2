// The Python classes Stack and Dense: the packed weights of a recurrent layer and of a matrix.
#pragma once

#include "bind/weights.h"
#include "run/dense.h"
#include "run/stack.h"

namespace python {

template <class Real>
onward::Stack<Real> make_stack(const std::string& cell_name, const std::vector<WeightsIn>& arrays, Size D,
                               const std::vector<OptionsIn>& options_in) {
    const Cell cell = onward::lookup(onward::cells, cell_name);
    const std::vector<onward::Options<Real>> options = options_of<Real>(options_in);
    if (!options.empty() && options.size() != size_t(D))
        throw nb::value_error("options must be empty or have one entry per direction");
    const std::vector<onward::Weights<Real>> weights = weights_of<Real>(cell, arrays, D);
    const WithoutGil release;
    return onward::Stack<Real>(cell, weights, options, D);
}

inline bool computes_in_float32(const MatrixIn& weights) { return std::get<0>(weights).dtype() != nb::dtype<double>(); }

struct Stack {
    EitherPrecision<onward::Stack> core;

    Stack(const std::string& cell, const std::vector<WeightsIn>& weights, Size num_directions,
          const std::vector<OptionsIn>& options)
        : core(!weights.empty() && computes_in_float32(std::get<0>(weights[0]))
                   ? EitherPrecision<onward::Stack>(make_stack<float>(cell, weights, num_directions, options))
                   : make_stack<double>(cell, weights, num_directions, options)) {}
    Stack(const Stack&) = delete;

    void forward(const In& x, const OptionalIn& h0, const OptionalIn& c0, const OptionalIn& lengths, const Out& y,
                 const Out& h_n, const OptionalOut& c_n) const {
        record(x, h0, c0, lengths, y, h_n, c_n, {}, {});
    }

    Size recorded() const {
        return std::visit([](const auto& stack) { return onward::recorded(stack.cell); }, core);
    }

    void record(const In& x, const OptionalIn& h0, const OptionalIn& c0, const OptionalIn& lengths, const Out& y,
                const Out& h_n, const OptionalOut& c_n, const OptionalOut& gates, const OptionalOut& sums) const {
        std::visit([&]<class Real>(const onward::Stack<Real>& stack) {
            const Size LD = stack.layers * stack.D;
            const auto x_rows = rows_of<const Real>(x, "x", {-1, -1, stack.I});
            const Size T = Size(x.shape(0)), B = Size(x.shape(1));
            const Size S = onward::recorded(stack.cell), G = onward::gates(stack.cell);
            const onward::Sequence<Real> sequence{
                T, B, x_rows, rows_of<Real>(y, "y", {T, B, stack.D * stack.P}),
                data_of<const Real>(h0, "h0", {LD, B, stack.P}), data_of<const Real>(c0, "c0", {LD, B, stack.H}),
                data_of<const int64_t>(lengths, "lengths", {B}), data_of<Real>(h_n, "h_n", {LD, B, stack.P}),
                data_of<Real>(c_n, "c_n", {LD, B, stack.H}), data_of<Real>(gates, "gates", {LD, T, B, S, stack.H}),
                data_of<Real>(sums, "sums", {LD, T, B, G, stack.H})};
            for (Size b = 0; lengths && b < B; b++)
                if (sequence.lengths[b] < 0 || sequence.lengths[b] > T) throw nb::value_error("a length exceeds T");
            const WithoutGil release;
            stack.forward(sequence);
        }, core);
    }
};

template <class Real>
onward::Dense<Real> make_dense(const In& W, const OptionalIn& b, const OptionalIn& scale) {
    if (W.ndim() != 2 && W.ndim() != 3) throw nb::value_error("W must be a matrix, or filters (O, C, taps)");
    const Size O = Size(W.shape(0)), I = Size(W.shape(1)), taps = W.ndim() == 3 ? Size(W.shape(2)) : 1;
    return {matrix_of<Real>({W, scale}, "W", O, I, taps), data_of<const Real>(b, "b", {O}), O, I * taps};
}

struct Dense {
    EitherPrecision<onward::Dense> core;

    Dense(const In& W, const OptionalIn& b, const OptionalIn& scale)
        : core(computes_in_float32({W, scale}) ? EitherPrecision<onward::Dense>(make_dense<float>(W, b, scale))
                                               : make_dense<double>(W, b, scale)) {}
    Dense(const Dense&) = delete;

    void forward(const In& x, const Out& y) const {
        std::visit([&]<class Real>(const onward::Dense<Real>& dense) {
            const Real* const in = data_of<const Real>(x, "x", {-1, dense.I});
            const Size rows = Size(x.shape(0));
            Real* const out = data_of<Real>(y, "y", {rows, dense.O});
            const WithoutGil release;
            onward::Interrupt interrupt;
            dense.forward(in, rows, out, interrupt);
            interrupt.throw_if_happened();
        }, core);
    }
};

template <class Real>
void add_gradients(const In& dy, const In& x, const Out& dW, const OptionalOut& db) {
    const Real *const d = data_of<const Real>(dy, "dy", {-1, -1}), *const in = data_of<const Real>(x, "x", {-1, -1});
    const Size rows = Size(x.shape(0)), O = Size(dy.shape(1)), I = Size(x.shape(1));
    if (Size(dy.shape(0)) != rows) throw nb::value_error("dy and x must have equally many rows");
    Real *const to = data_of<Real>(dW, "dW", {O, I}), *const to_bias = data_of<Real>(db, "db", {O});
    const WithoutGil release;
    onward::Interrupt interrupt;
    onward::add_gradients(d, O, in, I, rows, to, to_bias, interrupt);
    interrupt.throw_if_happened();
}

}  // namespace python
