// The weights of a recurrent layer as pointers that JavaScript passes.
#pragma once

#include <vector>

#include "run/stack.h"

namespace onward {

// The weights of one direction, in the order of the pointers in `arrays`.
struct Pointers {
    const void *W, *R, *W_hr;
    const float *W_scale, *R_scale, *W_hr_scale, *b_W, *b_R, *peephole;
};

inline std::vector<Weights<float>> weights_of(Format format, Size D, Size I, Size H, Size P, const Pointers* arrays) {
    std::vector<Weights<float>> weights;
    for (Size i = 0; i < D; i++) {
        const Pointers& w = arrays[i];
        weights.push_back({I, H, P, {format, w.W, w.W_scale}, {format, w.R, w.R_scale}, w.b_W, w.b_R,
                           w.W_hr ? Matrix<float>{format, w.W_hr, w.W_hr_scale} : Matrix<float>{}, w.peephole});
    }
    return weights;
}

}  // namespace onward
