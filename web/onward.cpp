// The interface of the core for JavaScript: layers in float32 over arrays in the module's memory.
//
// The caller, onward.js, checks all sizes. Arrays have the shapes that cpp/run documents; null pointers are zeros.
#include <emscripten.h>

#include "platform/denormals.h"
#include "platform/dispatch.h"
#include "pointers.h"
#include "run/backward.h"
#include "run/dense.h"

using namespace onward;

extern "C" {

// The gradients with respect to the input of one layer, dx (T, B, I), and with respect to its final state's
// predecessors, dh0 (D, B, P) and dc0 (D, B, H), for weights in float32. Adds those with respect to the weights to
// `gradients`, which has an entry for each direction.
EMSCRIPTEN_KEEPALIVE void stack_backward(int cell, int D, int I, int H, int P, const Pointers* arrays, int T, int B,
                                         const float* dy, const float* x, const float* y, const float* h0,
                                         const float* c0, const float* dh_n, const float* dc_n, const float* gates,
                                         float* dx, float* dh0, float* dc0, const WeightGradients<float>* gradients) {
    const Size DP = D * P;
    Backward<float>(Cell(cell), weights_of(Format::native, D, I, H, P, arrays))
        .run({T, B, {dy, B * DP, DP}, {x, B * I, I}, {y, B * DP, DP}, h0, c0, dh_n, dc_n, nullptr, gates,
              {dx, B * I, I}, dh0, dc0, {gradients, gradients + D}});
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

// Adds the gradients with respect to W (O, I) and b (O), or null, from x (rows, I) and dy (rows, O).
EMSCRIPTEN_KEEPALIVE void dense_gradients(const float* dy, int O, const float* x, int I, int rows, float* dW,
                                          float* db) {
    Interrupt interrupt;
    add_gradients<float>(dy, O, x, I, rows, dW, db, interrupt);
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
