// What the kernels take and give: axis letters, packed layout, plain structs, one table of function pointers.
//
// Axis letters, on every buffer in brackets: T time, B batch (rows), I input, H hidden units, P projected hidden (P = H
// without a projection), G gates, L lanes of a vector, K whatever a product sums over. Units come in blocks of L, the
// last one padded with zero weights.
//
// Only plain data here and no function body: this header is seen by files compiled for different instruction sets, and
// two builds of one inline function must never meet.
#pragma once

#include <cstdint>

namespace onward {

using Size = std::int64_t;  // of arrays, and places in them; long has 32 bits on Windows

// The activation of an `rnn` is tanh, or that of its options; relu without any has a cell of its own.
enum class Cell { rnn, rnn_relu, lstm, gru, gru_reset_before };

enum class Function {
    affine, elu, exponential, gelu, hard_sigmoid, leaky_relu, mish, relu, relu6, scaled_tanh, sigmoid, silu,
    softplus, softsign, tanh, thresholded_relu
};

enum class Unary { absolute, log, negative, reciprocal, sqrt };
enum class Binary { add, subtract, multiply, divide, maximum, minimum };

// A function of x and its parameters, which most have no use for.
template <class Real>
struct Activation {
    Function function = Function::sigmoid;
    Real alpha = 0, beta = 0;
};

// What the cells' equations leave open.
template <class Real>
struct Options {
    Activation<Real> gate, candidate, output;
    Real clip = 0;         // what gate and candidate are applied to is first clipped to [-clip, clip]
    bool coupled = false;  // f = 1 - i (LSTM)
};

// What weights are stored as: the precision that is computed in, halves, or bytes with a scale for each unit.
enum class Format { native, float16, int8 };

struct Half {
    uint16_t bits;
};

// A matrix (G*N, K) and its bias: for each block of L units, for each k, the gates' vectors side by side; of bytes, for
// each four k.
template <class Real>
struct Panels {
    Size G = 0, K = 0, blocks = 0;
    Format format = Format::native;
    const void* weights = nullptr;    // [blocks][K][G][L]; bytes: [blocks][K/4][G][L][4]
    const Real* constants = nullptr;  // [blocks][G][L], the bias; bytes: [blocks][3][G][L], bias, scale, sum of weights
    Size block_bytes = 0;             // of a block's weights
    Size quantized_size = 0;          // bytes: of a row quantized for the product, a scale and then four k in each
};

// One direction of one layer. `candidate` is the n gate of a GRU that resets before the product, else empty;
// `projection` is empty where P = H, `peephole` where there is none.
template <class Real>
struct Direction {
    Cell cell;
    Size I, H, P;
    Panels<Real> input{}, recurrent{}, candidate{}, projection{};
    Panels<Real> peephole{};  // gates i, f, o; K = 1
    bool plain = true;        // without options
    Options<Real> options{};
};

// One time step of one direction for some rows. Rows of h are P, of c and scratch H units long, padded to whole blocks.
template <class Real>
struct Step {
    Size rows;
    Real* z;         // [rows][blocks][G][L]: W x + b_W of this step
    const Real* h;   // [rows][P]
    Real* h_next;    // [rows][P], must not be h
    Real* c;         // [rows][H], updated in place (LSTM)
    Real* scratch;   // [rows][H]: o tanh(c) before a projection, r h of a GRU that resets before the product
    int32_t* quantized;  // [rows][quantized_size], of this thread
    Real* const* record;  // [rows] of [recorded][H], or null: not recorded
};

// The way back through one direction: its matrices transposed, R of all gates or of those but the candidate's, whose R
// is then apart; `projection` is empty where P = H. The gradients d of a step, by what the gates are functions of,
// stand in the gates' order; a GRU that resets after the product has R_n h + b_n before them, so that what goes through
// R, and what goes through W, lies side by side. `recorded` is how many numbers a unit has in the record of a step.
template <class Real>
struct DirectionBack {
    Cell cell;
    Size I, H, P, recorded;
    Panels<Real> input{}, recurrent{}, candidate{}, projection{};
};

// One time step back for some rows. Arrays "[rows] of" hold where each row's numbers stand; in the others, units are
// padded to whole blocks: `stride` in all.
template <class Real>
struct StepBack {
    Size rows, stride;
    const Real* const* record;            // [rows] of [recorded][H]
    const Real* const* soon;              // likewise, of the step that comes after the next one, to be fetched
    const Real* const* c_prev;            // [rows] of [H] (LSTM)
    const Real* const* h_prev;            // [rows] of [H] (GRU)
    const Real* const* dy;                // [rows] of [H], which is added to dh, or null
    const Real* dh;                       // [rows][H]: what came through R, or through the projection
    Real* past_R;                         // [rows][H]: what goes from h to the h before without R, in and out (GRU)
    Real* dc;                             // [rows][H]: by c, then by the c before (LSTM)
    const Real* d_reset;                  // [rows][H]: by r h (GRU that resets before the product)
    Real* d;                              // [rows][..][H], rows d_stride apart
    Size d_stride;
    Real* shown;                          // [rows][H]: what a second product saw, as Step's scratch, or null
};

// Which of a matrix's blocks to compute: from first to before last, or the other way if backward. Each step goes the
// other way than the one before, and so starts with the weights that are still in cache.
struct Share {
    Size first, last;
    bool backward = false;
};

template <class Real>
struct Kernels {
    Size L;
    // out[rows][blocks][G][L] = a[rows][K] . panels + bias; strides count elements.
    void (*product)(const Panels<Real>& panels, const Real* a, Size a_stride, Size rows, Real* out, Size out_stride,
                    int32_t* quantized, Share share);
    // A time step: the gates, then, for a candidate or a projection, a second product, which needs all of the first.
    void (*gates)(const Direction<Real>& direction, const Step<Real>& step, Share share);
    void (*second)(const Direction<Real>& direction, const Step<Real>& step, Share share);
    // A time step back, and its second half, for a GRU that resets before the product.
    void (*backward)(const DirectionBack<Real>& direction, const StepBack<Real>& step, Share units);
    void (*backward_second)(const DirectionBack<Real>& direction, const StepBack<Real>& step, Share units);
    // out[units][features] += d[rows][units] x[rows][features], and out[units] += d[rows][units], summed over rows in
    // their order. Rows of x are padded to whole blocks.
    void (*outer)(Size rows, const Real* d, Size d_stride, Size units, const Real* x, Size x_stride, Size features,
                  Real* out);
    void (*add_rows)(Size rows, const Real* d, Size d_stride, Size units, Real* out);
    void (*activate)(Activation<Real> function, Size n, const Real* x, Real* y);
    // Elementwise over n numbers; an operand whose step is 0 is one number. y may be an operand.
    void (*unary)(Unary operation, Size n, const Real* x, Real* y);
    void (*binary)(Binary operation, Size n, const Real* a, Size a_step, const Real* b, Size b_step, Real* y);
    void (*multiply_add)(Size n, const Real* a, Size a_step, const Real* b, Size b_step, Real* y);  // y += a b
    Real (*maximum)(Size n, const Real* x);
    // One row: the softmax or its logarithm, and (x - mean) / sqrt(variance + epsilon).
    void (*softmax)(Size n, const Real* x, bool logarithm, Real* y);
    void (*standardize)(Size n, const Real* x, Real epsilon, Real* y);
    // Sums in float64, always added in the same order: of x, and of (scale x)^2.
    double (*sum)(Size n, const Real* x);
    double (*sum_of_squares)(Size n, const Real* x, double scale);
    // The cross entropy of one row of logits y[C], and its gradient dy[C], divided by count.
    double (*cross_entropy)(Size C, const Real* y, Size target, double smoothing, double count, Real* dy);
    // For measuring the machine: n times the returned number of operations; a sum over n numbers.
    Size (*arithmetic)(Size n, Real* result);
    Real (*read)(Size n, const Real* x);
};

struct Table {
    const char* name;
    Kernels<float> f32;
    Kernels<double> f64;
};

}  // namespace onward
