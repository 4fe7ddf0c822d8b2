// A recurrent layer: its weights packed once, and run over time.
#pragma once

#include <cstdint>
#include <vector>

#include "platform/packed.h"
#include "run/run.h"

namespace onward {

Size gates(Cell cell);
Size recorded(Cell cell);  // numbers that a unit has in the record of a step: its gates, and what else backward needs

// Whether a step of B rows is so much work that threads should share its units, and meet at a barrier after it.
bool worth_sharing(Size B, Cell cell, Size H, Size P);

// Rows in order of their lengths, longest first; in their own order where lengths is null.
std::vector<Size> longest_first(const int64_t* lengths, Size B);

// One direction of one layer as it comes, rows in PyTorch's gate order. Biases, projection and
// peephole may be null.
template <class Real>
struct Weights {
    Size I, H, P;
    Matrix<Real> W, R;         // (G*H, I), (G*H, P)
    const Real *b_W, *b_R;     // (G*H)
    Matrix<Real> W_hr;         // (P, H)
    const Real* peephole;      // (3*H)
};

// What one call takes and gives. Initial states and lengths may be null; the states of all layers and directions lie
// one after another: (layers * D, B, P) and (layers * D, B, H). So do the records, if any, each whole (T, B, features).
template <class Real>
struct Sequence {
    Size T, B;
    Rows<const Real> x;
    Rows<Real> y;  // D*P features
    const Real *h0, *c0;
    const int64_t* lengths;
    Real *h_n, *c_n;
    Real *gates = nullptr, *sums = nullptr;
};

template <class Real>
class Stack {
public:
    // Weights in the order of PyTorch: layer by layer, forward before reverse.
    // Options are none, or of each direction.
    Stack(Cell cell, const std::vector<Weights<Real>>& weights, const std::vector<Options<Real>>& options,
          Size num_directions);
    Stack(Stack&&) = default;
    void forward(const Sequence<Real>& sequence) const;

    const Cell cell;
    const Size I, H, P, D, layers;

private:
    template <class>
    friend class Team;
    template <class>
    friend class Chain;

    const Kernels<Real>& kernels;
    std::vector<Packed<Real>> packed;
    std::vector<Direction<Real>> directions;
};

}  // namespace onward
