// The backward pass of one recurrent layer, from the recording of its forward pass.
#pragma once

#include <vector>

#include "platform/packed.h"
#include "run/run_backward.h"
#include "run/stack.h"

namespace onward {

// The weights of one layer, transposed and packed.
template <class Real>
class Backward {
public:
    // One entry per direction.
    Backward(Cell cell, const std::vector<Weights<Real>>& weights);
    Backward(Backward&&) = default;
    void run(const SequenceBackward<Real>& sequence) const;  // throws Interrupted

    const Cell cell;
    const Size I, H, P, D;

private:
    const Kernels<Real>& kernels;
    std::vector<Packed<Real>> packed;
    std::vector<DirectionBackward<Real>> directions;
};

}  // namespace onward
