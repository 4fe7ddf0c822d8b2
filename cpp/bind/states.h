// The arguments that streams and pools share: layers and states.
#pragma once

#include <memory>

#include "bind/layers.h"

namespace python {

// Stacks and Denses of one precision. The caller must keep `layers` alive.
template <class Real>
std::vector<onward::Stage<Real>> stages_of(const std::vector<nb::object>& layers) {
    std::vector<onward::Stage<Real>> stages;
    for (const nb::object& layer : layers) {
        if (!nb::isinstance<Stack>(layer)) {
            stages.push_back(&std::get<onward::Dense<Real>>(nb::cast<const Dense&>(layer).core));
            continue;
        }
        const auto& stack = std::get<onward::Stack<Real>>(nb::cast<const Stack&>(layer).core);
        if (stack.D != 1) throw nb::value_error("a layer with a reverse direction cannot stream");
        stages.push_back(&stack);
    }
    return stages;
}

inline bool first_is_float32(const std::vector<nb::object>& layers) {
    if (layers.empty()) throw nb::value_error("layers is empty");
    if (nb::isinstance<Stack>(layers[0])) return nb::cast<const Stack&>(layers[0]).core.index() == 0;
    return nb::cast<const Dense&>(layers[0]).core.index() == 0;
}

// h (L, rows, P) and c (L, rows, H) or None, for each Stack.
template <class Array>
using States = std::vector<std::tuple<std::optional<Array>, std::optional<Array>>>;

template <class Number, class Real, class Array>
std::vector<onward::State<Number>> states_of(const std::vector<onward::Stage<Real>>& stages,
                                             const States<Array>& arrays, Size rows) {
    std::vector<onward::State<Number>> states;
    size_t next = 0;
    for (const onward::Stage<Real>& stage : stages) {
        if (!std::holds_alternative<const onward::Stack<Real>*>(stage)) continue;
        const onward::Stack<Real>& stack = *std::get<const onward::Stack<Real>*>(stage);
        if (next == arrays.size()) throw nb::value_error("states has too few entries");
        const auto& [h, c] = arrays[next++];
        Number* const h_data = data_of<Number>(h, "h", {stack.layers, rows, stack.P});
        Number* const c_data = data_of<Number>(c, "c", {stack.layers, rows, stack.H});
        for (Size layer = 0; layer < stack.layers; layer++)
            states.push_back({h_data ? h_data + layer * rows * stack.P : nullptr,
                              c_data ? c_data + layer * rows * stack.H : nullptr});
    }
    return states;
}

template <template <class> class Object>
using EitherPointer = std::variant<std::unique_ptr<Object<float>>, std::unique_ptr<Object<double>>>;

}  // namespace python
