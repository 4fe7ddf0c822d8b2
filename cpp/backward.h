// Gradients of a layer: the way back through its steps, from the record of a forward run.
#pragma once

#include <cstdint>
#include <vector>

#include "packed.h"
#include "stack.h"

namespace onward {

// Gradients by one direction's weights, which are added to. Biases and W_hr may be null.
template <class Real>
struct WeightGradients {
    Real *W, *R;      // (G*H, I), (G*H, P)
    Real *b_W, *b_R;  // (G*H)
    Real* W_hr;       // (P, H)
};

// What one call takes and gives: arrays (T, B, features), and states and records of all directions one after another.
// Initial states, their gradients' last ones and lengths may be null, as may what a cell has no use for.
template <class Real>
struct SequenceBack {
    long T, B;
    Rows<const Real> dy, x, y;  // dy and y of D*P features
    const Real *h0, *c0, *dh_n, *dc_n;
    const int64_t* lengths;
    const Real* gates;      // as recorded
    Rows<Real> dx;          // zeros past a row's length are left alone
    Real *dh0, *dc0;
    std::vector<WeightGradients<Real>> gradients;  // of each direction
};

// One layer's weights, transposed and packed.
template <class Real>
class Backward {
public:
    // Weights of each direction.
    Backward(Cell cell, const std::vector<Weights<Real>>& weights);
    Backward(Backward&&) = default;
    void run(const SequenceBack<Real>& sequence) const;

    const Cell cell;
    const long I, H, P, D;

private:
    const Kernels<Real>& kernels;
    std::vector<Packed<Real>> packed;
    std::vector<DirectionBack<Real>> directions;
};

}  // namespace onward
