// The arguments of a recurrent layer: weights and options.
#pragma once

#include "bind/arrays.h"
#include "run/names.h"
#include "run/stack.h"

namespace python {

using onward::Cell;
using onward::Format;

using MatrixIn = std::tuple<In, OptionalIn>;  // numbers and, if they are int8, the scale of each row
using WeightsIn = std::tuple<MatrixIn, MatrixIn, OptionalIn, OptionalIn, std::optional<MatrixIn>, OptionalIn>;
using ActivationIn = std::tuple<std::string, double, double>;                         // name, alpha, beta
using OptionsIn = std::tuple<ActivationIn, ActivationIn, ActivationIn, double, double, bool>;  // as onward::Options

template <class Real>
onward::Activation<Real> activation_of(const ActivationIn& activation) {
    const auto& [name, alpha, beta] = activation;
    return {onward::lookup(onward::functions, name), Real(alpha), Real(beta)};
}

// A matrix (rows, columns), or filters (rows, columns, taps), in any format.
template <class Real>
onward::Matrix<Real> matrix_of(const MatrixIn& matrix, const char* name, Size rows, Size columns, Size taps = 1) {
    const auto& [numbers, scale] = matrix;
    auto data = [&]<class Number>(Number) {
        return numbers.ndim() == 3 ? data_of<const Number>(numbers, name, {rows, columns, taps})
                                   : data_of<const Number>(numbers, name, {rows, columns});
    };
    if constexpr (std::is_same_v<Real, float>) {
        if (numbers.dtype() == nb::dtype<int8_t>() && scale)
            return {Format::int8, data(int8_t()), data_of<const float>(scale, name, {rows}), nullptr, taps};
        if (numbers.dtype() == nb::dtype<onward::Half>())
            return {Format::float16, data(onward::Half()), nullptr, nullptr, taps};
    }
    return {Format::native, data(Real()), nullptr, nullptr, taps};
}

template <class Real>
std::vector<onward::Options<Real>> options_of(const std::vector<OptionsIn>& arguments) {
    std::vector<onward::Options<Real>> options;
    for (const auto& [gate, candidate, output, clip, cell_clip, coupled] : arguments)
        options.push_back({activation_of<Real>(gate), activation_of<Real>(candidate), activation_of<Real>(output),
                           Real(clip), Real(cell_clip), coupled});
    return options;
}

// One entry per layer and direction, all of the same cell and size.
template <class Real>
std::vector<onward::Weights<Real>> weights_of(Cell cell, const std::vector<WeightsIn>& arrays, Size D) {
    if ((D != 1 && D != 2) || arrays.empty() || arrays.size() % D != 0)
        throw nb::value_error("weights must have one tuple per layer and direction, with 1 or 2 directions");
    std::vector<onward::Weights<Real>> weights;
    const In &W0 = std::get<0>(std::get<0>(arrays[0])), &R0 = std::get<0>(std::get<1>(arrays[0]));
    if (W0.ndim() != 2 || R0.ndim() != 2) throw nb::value_error("W and R must be matrices");
    const Size G = onward::gates(cell), H = Size(R0.shape(0)) / G, P = Size(R0.shape(1));
    for (const auto& [W, R, b_W, b_R, W_hr, peephole] : arrays) {
        const Size I = weights.size() < size_t(D) ? Size(W0.shape(1)) : D * P;
        if (P != H && (!W_hr || cell != Cell::lstm))
            throw nb::value_error("R must be (G*H, H), except for an LSTM with W_hr");
        weights.push_back({I, H, P, matrix_of<Real>(W, "W", G * H, I), matrix_of<Real>(R, "R", G * H, P),
                           data_of<const Real>(b_W, "b_W", {G * H}), data_of<const Real>(b_R, "b_R", {G * H}),
                           W_hr ? matrix_of<Real>(*W_hr, "W_hr", P, H) : onward::Matrix<Real>{},
                           data_of<const Real>(peephole, "peephole", {3 * H})});
    }
    return weights;
}

}  // namespace python
