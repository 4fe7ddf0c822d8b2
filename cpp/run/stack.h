// A recurrent layer with all its layers and directions: its packed weights, and whole sequences run through them.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "platform/packed.h"
#include "platform/reuse.h"
#include "run/run.h"
#include "run/view.h"

namespace onward {

Size gates(Cell cell);
Size recorded(Cell cell);  // numbers recorded per unit and step: the gates, and what else the backward pass needs

// Whether a step of B rows is enough work for threads to share its units and meet at a barrier after it.
bool worth_sharing(Size B, Cell cell, Size H, Size P);

// Row numbers sorted by length, longest first; unsorted if lengths is null.
std::vector<Size> longest_first(const int64_t* lengths, Size B);

// The unpacked weights of one direction of one layer, with rows in PyTorch's gate order. Biases, projection and
// peephole may be null.
template <class Real>
struct Weights {
    Size I, H, P;
    Matrix<Real> W, R;         // (G*H, I), (G*H, P)
    const Real *b_W, *b_R;     // (G*H)
    Matrix<Real> W_hr;         // (P, H)
    const Real* peephole;      // (3*H)
};

// The arguments and results of one call. Initial states and lengths may be null. States (layers * D, B, P or H) and
// recordings (layers * D, T, B, features) hold all layers and directions; nothing is recorded where they are null.
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

// A layer in any precision: only whoever makes a Stack<double> links the kernels in double.
class AnyStack {
public:
    virtual void run(const Sequence<void>& sequence) const = 0;  // arrays of `dtype`; throws Interrupted

    const DType dtype;
    const Cell cell;
    const Size I, H, P, D, layers;

protected:
    AnyStack(DType dtype, Cell cell, Size I, Size H, Size P, Size D, Size layers)
        : dtype(dtype), cell(cell), I(I), H(H), P(P), D(D), layers(layers) {}
    ~AnyStack() = default;
};

template <class Real>
class Stack final : public AnyStack {
public:
    // Weights in PyTorch's order: layer by layer, forward before reverse. Options are empty or one per direction.
    Stack(Cell cell, const std::vector<Weights<Real>>& weights, const std::vector<Options<Real>>& options,
          Size num_directions);
    Stack(Stack&&) = default;
    void forward(const Sequence<Real>& sequence) const;  // throws Interrupted
    void run(const Sequence<void>& sequence) const override;
    Size work() const;  // multiply-adds of one row and step

private:
    template <class>
    friend class Chain;

    struct Call;
    static constexpr size_t kept_calls = 4;
    bool is_one_block(const Sequence<Real>& sequence, int useful) const;
    void forward_block(const Sequence<Real>& sequence, int useful, Size units, Size work) const;

    const Kernels<Real>& kernels;
    std::vector<Packed<Real>> packed;
    std::vector<Direction<Real>> directions;
    std::shared_ptr<Reusable<Call>> calls;
};

}  // namespace onward
