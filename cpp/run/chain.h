// Layers one after another on a block of rows, their states inside, from time step to time step.
#pragma once

#include <variant>
#include <vector>

#include "run/dense.h"
#include "run/run.h"
#include "run/stack.h"

namespace onward {

// A layer that acts on each time step: a recurrent one of one direction, or a matrix.
template <class Real>
using Stage = std::variant<const Stack<Real>*, const Dense<Real>*>;

template <class Real>
Size inputs(const Stage<Real>& stage) {
    return std::visit([](const auto* layer) { return layer->I; }, stage);
}

template <class Real>
Size outputs(const Stage<Real>& stage) {
    if (auto* stack = std::get_if<const Stack<Real>*>(&stage)) return (*stack)->P;
    return std::get<const Dense<Real>*>(stage)->O;
}

// Whether each stage takes what the one before it gives.
template <class Real>
bool connected(const std::vector<Stage<Real>>& stages);

// The sizes of one row's state: h (P) and c (H, or 0 without one) of each layer of each recurrent stage, in order.
struct StateSize {
    Size P, H;
};
template <class Real>
std::vector<StateSize> state_sizes(const std::vector<Stage<Real>>& stages);

// Arrays of those states: (rows, P) and (rows, H); null: zeros.
template <class Number>
struct State {
    Number *h = nullptr, *c = nullptr;
};

template <class Real>
class Chain {
public:
    // For up to max_rows rows, at most rows_at_once. The stages outlive it.
    Chain(const std::vector<Stage<Real>>& stages, Size max_rows);
    Chain(const Chain&) = delete;

    // Takes on rows whose states are those of rows order[0] to order[rows - 1] of the arrays.
    void start(const std::vector<State<const Real>>& from, const Size* order, Size rows);
    void advance(Rows<const Real> x, Rows<Real> y, Size T);  // x (T, rows, I), y (T, rows, O)
    void finish(const std::vector<State<Real>>& to, const Size* order) const;

private:
    struct Layer {
        const Dense<Real>* dense;  // else the next of `runs`
        Size O;
    };
    const std::vector<StateSize> sizes;
    std::vector<Size> lengths;
    std::vector<Run<Real>> runs;
    std::vector<Layer> layers;
    Buffer<Real> between[2];
    Size t = 0;
};

}  // namespace onward
