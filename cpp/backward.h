// Gradients of a layer: the way back through its steps, from the record of a forward run.
#pragma once

#include <cstdint>
#include <vector>

#include "packed.h"
#include "stack.h"

namespace onward {

// What one call takes and gives: arrays (T, B, features), and states and records of all directions one after another.
// Initial states, their gradients' last ones and lengths may be null, as may what a cell has no use for.
template <class Real>
struct SequenceBack {
    long T, B;
    Rows<const Real> dy, y;  // D*P features
    const Real *h0, *c0, *dh_n, *dc_n;
    const int64_t* lengths;
    const Real *gates, *c;  // as recorded
    Real *d;                // (D, T, B, recorded, H): gradients by what the gates are functions of
    Real *dh;               // (D, T, B, P), under a projection: gradients by h
    Real *dh0, *dc0;
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
    const long H, P, D;

private:
    void run(const SequenceBack<Real>& s, long direction, const long* order, long rows) const;

    const Kernels<Real>& kernels;
    std::vector<Packed<Real>> packed;
    std::vector<DirectionBack<Real>> directions;
};

}  // namespace onward
