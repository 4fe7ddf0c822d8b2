// The interface of the core for JavaScript: layers in float32 over arrays in the module's memory.
//
// The caller, onward.js, checks all sizes. Arrays have the shapes that cpp/run documents; null pointers are zeros.
#include <emscripten.h>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "run/backward.h"
#include "run/dense.h"
#include "run/stack.h"

using namespace onward;

namespace {

// The weights of one direction, in the order of the pointers in `arrays`.
struct Pointers {
    const void *W, *R, *W_hr;
    const float *W_scale, *R_scale, *W_hr_scale, *b_W, *b_R, *peephole;
};

std::vector<Weights<float>> weights_of(Format format, Size D, Size I, Size H, Size P, const Pointers* arrays) {
    std::vector<Weights<float>> weights;
    for (Size i = 0; i < D; i++) {
        const Pointers& w = arrays[i];
        weights.push_back({I, H, P, {format, w.W, w.W_scale}, {format, w.R, w.R_scale}, w.b_W, w.b_R,
                           w.W_hr ? Matrix<float>{format, w.W_hr, w.W_hr_scale} : Matrix<float>{}, w.peephole});
    }
    return weights;
}

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

// The gradients with respect to the input of one layer, dx (T, B, I), and with respect to its final state's
// predecessors, dh0 (D, B, P) and dc0 (D, B, H), for weights in float32.
EMSCRIPTEN_KEEPALIVE void stack_backward(int cell, int D, int I, int H, int P, const Pointers* arrays, int T, int B,
                                         const float* dy, const float* x, const float* y, const float* h0,
                                         const float* c0, const float* dh_n, const float* dc_n, const float* gates,
                                         float* dx, float* dh0, float* dc0) {
    const std::vector<Weights<float>> weights = weights_of(Format::native, D, I, H, P, arrays);
    const Size rows = onward::gates(Cell(cell)) * H, DP = D * P;
    Buffer<float> memory = Buffer<float>::zeros(rows * (I + P + 2) + P * H);
    float* const dW = memory.data();
    float *const dR = dW + rows * I, *const db_W = dR + rows * P, *const db_R = db_W + rows;
    const std::vector<WeightGradients<float>> unused(D, {dW, dR, db_W, db_R, P == H ? nullptr : db_R + rows});
    Backward<float>(Cell(cell), weights)
        .run({T, B, {dy, B * DP, DP}, {x, B * I, I}, {y, B * DP, DP}, h0, c0, dh_n, dc_n, nullptr, gates,
              {dx, B * I, I}, dh0, dc0, unused});
}

EMSCRIPTEN_KEEPALIVE Dense<float>* dense_new(int format, const void* W, const float* scale, const float* b, int O,
                                             int I) {
    return new Dense<float>({Format(format), W, scale}, b, O, I);
}

EMSCRIPTEN_KEEPALIVE void dense_free(Dense<float>* dense) { delete dense; }

EMSCRIPTEN_KEEPALIVE void dense_forward(const Dense<float>* dense, const float* x, int rows, float* y) {
    Interrupt interrupt;
    dense->forward(x, rows, y, interrupt);
}

EMSCRIPTEN_KEEPALIVE void softmax(const float* x, int rows, int n, int logarithm, float* y) {
    const FlushDenormals flush;
    for (int row = 0; row < rows; row++) kernels<float>().softmax(n, x + row * n, logarithm, y + row * n);
}

EMSCRIPTEN_KEEPALIVE void activate(int function, float alpha, float beta, int n, const float* x, float* y) {
    const FlushDenormals flush;
    kernels<float>().activate({Function(function), alpha, beta}, n, x, y);
}
}
