// An LSTM layer with weights in int8 that quantizes all rows of its input, and of each state, together.
#pragma once

#include <vector>

#include "platform/packed.h"

namespace onward {

// The unpacked weights of one direction, with rows in PyTorch's gate order: W (4*H, I) and R (4*H, H) in the format
// `dynamic`, their common bias (4*H), and peephole weights (3*H) or null.
struct QuantizedDirection {
    Matrix<float> W, R;
    const float *bias, *peephole;
};

// x (T, B, I) and y (T, D, B, H), states (D, B, H), all contiguous. Initial states may be null.
struct QuantizedSequence {
    Size T, B;
    const float* x;
    float* y;
    const float *h0, *c0;
    float *h_n, *c_n;
};

class QuantizedLSTM {
public:
    // Options are empty or one per direction. A single direction may run in reverse.
    QuantizedLSTM(const std::vector<QuantizedDirection>& weights, const std::vector<Options<float>>& options,
                  bool reverse, Size I, Size H);
    QuantizedLSTM(QuantizedLSTM&&) = default;
    void forward(const QuantizedSequence& sequence) const;  // throws Interrupted

    const Size I, H, D;

private:
    struct Run;

    const Kernels<float>& kernels;
    const ByteKernels& bytes;
    const bool reverse;
    std::vector<Packed<float>> packed;
    std::vector<Direction<float>> directions;
};

}  // namespace onward
