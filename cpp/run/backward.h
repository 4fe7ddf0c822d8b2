// Gradients of a layer: the way back through its steps, from the record of a forward run.
#pragma once

#include <vector>

#include "platform/packed.h"
#include "run/run_back.h"
#include "run/stack.h"

namespace onward {

// One layer's weights, transposed and packed.
template <class Real>
class Backward {
public:
    // Weights of each direction.
    Backward(Cell cell, const std::vector<Weights<Real>>& weights);
    Backward(Backward&&) = default;
    void run(const SequenceBack<Real>& sequence) const;

    const Cell cell;
    const Size I, H, P, D;

private:
    const Kernels<Real>& kernels;
    std::vector<Packed<Real>> packed;
    std::vector<DirectionBack<Real>> directions;
};

}  // namespace onward
