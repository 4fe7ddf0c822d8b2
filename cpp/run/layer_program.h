// Layers in sequence as a program: from their states and a block x to the next states and y.
#pragma once

#include <memory>
#include <vector>

#include "platform/reuse.h"
#include "run/calls.h"
#include "run/chain.h"

namespace onward {

// The inputs are h (L, B, P) and, for an LSTM, c (L, B, H) of each recurrent layer, and x (T, B, I), or (B, T, I) if
// `batch_first`. The outputs are the same of the next states, and y. All are contiguous. The axes are T and B.
template <class Real>
class LayerProgram : public PlanSource {
public:
    // The stages must have one direction, fit together, and outlive the program; else throws std::invalid_argument.
    LayerProgram(std::vector<Stage<Real>> stages, bool batch_first);

    std::unique_ptr<BoundPlan> unbound() const override;
    bool bind(const std::vector<Size>& axes, BoundPlan& bound) const override;
    Size size() const override { return Size(stages.size()); }

    // The inputs and outputs, where a size below 0 is that of an axis.
    Signature signature() const;

private:
    struct Call;
    struct Sizes {
        const LayerProgram* program;
        Size T, B;
    };
    // The shapes of the inputs; with O features, those of the outputs.
    std::vector<Axes> shapes(Size T, Size B, Size features) const;
    Size arrays() const;  // of the inputs; as many as outputs
    void run(Size T, Size B, std::byte* const* spaces) const;

    static constexpr size_t kept_calls = 4;
    static constexpr DType dtype = sizeof(Real) == 4 ? DType::float32 : DType::float64;

    const std::vector<Stage<Real>> stages;
    const bool batch_first;
    const Size I, O, work;  // multiply-adds of a row and step
    const std::shared_ptr<Reusable<Call>> calls;
};

}  // namespace onward
