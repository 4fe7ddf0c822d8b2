// Recurrent layers for JavaScript, with a record of their gates, in the programs for layers and for whole models.
#include <emscripten.h>

#include "pointers.h"

using namespace onward;

namespace {

// For each direction: three activations as (function, alpha, beta), then clip, cell_clip and coupled.
std::vector<Options<float>> options_of(const float* numbers, Size D) {
    std::vector<Options<float>> options;
    for (; numbers && D--; numbers += 12) {
        auto activation = [&](int i) {
            return Activation<float>{Function(int(numbers[3 * i])), numbers[3 * i + 1], numbers[3 * i + 2]};
        };
        options.push_back({activation(0), activation(1), activation(2), numbers[9], numbers[10],
                           numbers[11] != 0});
    }
    return options;
}

}  // namespace

extern "C" {

// One recurrent layer with D directions.
EMSCRIPTEN_KEEPALIVE Stack<float>* stack_new(int cell, int format, int D, int I, int H, int P, const Pointers* arrays,
                                             const float* options) {
    return new Stack<float>(Cell(cell), weights_of(Format(format), D, I, H, P, arrays), options_of(options, D), D);
}

EMSCRIPTEN_KEEPALIVE void stack_free(Stack<float>* stack) { delete stack; }

EMSCRIPTEN_KEEPALIVE int stack_recorded(const Stack<float>* stack) { return int(recorded(stack->cell)); }

EMSCRIPTEN_KEEPALIVE void stack_forward(const Stack<float>* stack, int T, int B, const float* x, float* y,
                                        const float* h0, const float* c0, const int64_t* lengths, float* h_n,
                                        float* c_n, float* gates, float* sums) {
    const Size DP = stack->D * stack->P;
    stack->forward({T, B, {x, B * stack->I, stack->I}, {y, B * DP, DP}, h0, c0, lengths, h_n, c_n, gates, sums});
}
}
