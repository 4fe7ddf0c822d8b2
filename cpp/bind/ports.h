// Where the arrays of a pool's calls have their rows and their steps.
#pragma once

#include <algorithm>
#include <optional>
#include <tuple>
#include <vector>

#include "bind/plans.h"

namespace python {

// Where an array of a call has its rows and its steps in the graph, how many axes it has, and its steps for each unit
// of time; -1: it has none, or any number.
struct Port {
    Size rows, time, axes, rate;
};


class Ports {
public:
    using PortIn = std::tuple<Size, Size, Size, Size>;

    Ports() = default;
    // Calls take and return arrays whose rows are the first axis if `rows_first`, and otherwise those of the graph.
    Ports(const std::vector<PortIn>& in, const std::vector<PortIn>& out, bool rows_first)
        : inputs(ports(in)), outputs(ports(out)), rows_first(rows_first) {}

    // An input of a call in the layout of the graph; nothing if its rows are not one after the other.
    std::optional<Operand> input(nb::handle object, const Port& port, Size n) const {
        auto operand = Operand::of(object.ptr());
        if (!operand || !operand->is_contiguous) return {};
        onward::Axes& shape = operand->shape;
        if (rows_first) {
            if (lacks_time(object, port)) {
                shape.push_back(1);
                const auto time = shape.begin() + port.time + (port.time < port.rows);
                std::rotate(time, shape.end() - 1, shape.end());
            }
            if (Size(shape.size()) != port.axes) return {};
            std::rotate(shape.begin(), shape.begin() + 1, shape.begin() + port.rows + 1);
        }
        return has_rows(shape, port.rows, n) ? operand : std::nullopt;
    }

    // Whether all inputs are a step, or blocks of the same duration.
    bool are_as_long(const nb::args& given, const std::vector<Operand>& arrays) const {
        const auto steps = [&](size_t i) { return arrays[i].shape[size_t(inputs[i].time)]; };
        for (size_t i = 0; rows_first && i < inputs.size(); i++)
            if (lacks_time(given[i], inputs[i]) != is_step(given) || steps(i) % inputs[i].rate ||
                steps(i) / inputs[i].rate != steps(0) / inputs[0].rate)
                return false;
        return true;
    }

    // Whether an array of this shape has n rows along an axis, and each is adjacent.
    static bool has_rows(const onward::Axes& shape, Size axis, Size n) {
        return axis >= 0 && axis < Size(shape.size()) && shape[size_t(axis)] == n &&
               std::all_of(shape.begin(), shape.begin() + axis, [](Size size) { return size == 1; });
    }

    // The shape of an output of n rows, as a call returns it.
    onward::Axes shape_of_result(onward::Axes shape, const Port& port, Size n, bool is_step) const {
        shape[size_t(port.rows)] = n;
        if (rows_first) std::rotate(shape.begin(), shape.begin() + port.rows, shape.begin() + port.rows + 1);
        if (is_step && port.time >= 0) {
            const Size time = port.time + (port.time < port.rows);
            shape.drop(size_t(time), size_t(time) + 1);
        }
        return shape;
    }

    // Whether the first input of a call lacks the time axis.
    bool is_step(const nb::args& given) const { return !inputs.empty() && lacks_time(given[0], inputs[0]); }

    std::vector<Port> inputs, outputs;
    bool rows_first = false;

private:
    static std::vector<Port> ports(const std::vector<PortIn>& given) {
        std::vector<Port> made;
        for (const auto& [rows, time, axes, rate] : given) made.push_back({rows, time, axes, rate});
        return made;
    }
    static bool lacks_time(nb::handle array, const Port& port) {
        return array_in(array.ptr())->axes + 1 == port.axes;
    }
};

}  // namespace python
