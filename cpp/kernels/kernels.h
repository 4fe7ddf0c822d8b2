// The kernels of one instruction set: their table of functions, and the plain structs that they take.
//
// Axis letters, given in brackets for every buffer: T time, B batch (rows), I input, H hidden units, P projected hidden
// units (P = H without a projection), G gates, L lanes of a vector, K the axis that a product sums over. Units are
// stored in blocks of L, the last one padded with zero weights.
//
// This header contains only plain data and no function bodies, because files compiled for different instruction sets
// include it, and the linker must never merge two builds of one inline function.
#pragma once

#include <cstdint>

namespace onward {

using Size = std::int64_t;  // sizes and indices; long has only 32 bits on Windows

// The activation of `rnn` is tanh unless its options set another one; plain relu has a cell of its own, `rnn_relu`.
enum class Cell { rnn, rnn_relu, lstm, gru, gru_reset_before };

enum class Function {
    affine, elu, exponential, gelu, hard_sigmoid, hard_swish, leaky_relu, mish, relu, relu6, scaled_tanh, sigmoid,
    silu, softplus, softsign, tanh, thresholded_relu
};

enum class Unary {
    absolute, ceil, cosine, error_function, floor, log, negative, reciprocal, round, sign, sine, sqrt
};
enum class Binary { add, subtract, multiply, divide, maximum, minimum };
enum class Window { maximum, sum, weighted_sum };

// An activation function and its parameters, which most functions do not use.
template <class Real>
struct Activation {
    Function function = Function::sigmoid;
    Real alpha = 0, beta = 0;
};

// Options that change the equations of a cell.
template <class Real>
struct Options {
    Activation<Real> gate, candidate, output;
    Real clip = 0;         // clips the arguments of gate and candidate to [-clip, clip]
    Real cell_clip = 0;    // clips c (LSTM)
    bool coupled = false;  // f = 1 - i (LSTM)
};

// How weights are stored: in the precision of the computation, as float16, or as int8 with one scale per unit. The
// formats `integer` and `dynamic` are int8 with zero points, for rows of bytes: an integer product gives int32, and a
// dynamic one scales the result.
enum class Format { native, float16, int8, integer, dynamic };

struct Half {
    uint16_t bits;
};

// A packed matrix (G*N, K) and its bias. Within a block of L units, the vectors of all gates for one k are adjacent
// (for four k in int8).
template <class Real>
struct Panels {
    Size G = 0, K = 0, blocks = 0;
    Format format = Format::native;
    const void* weights = nullptr;    // [blocks][K][G][L]; int8: [blocks][K/4][G][L][4]
    // The bias [blocks][G][L]; int8: bias, scale, sum of weights [blocks][3][G][L]; with zero points, additionally the
    // sum of weights minus the zero point, and the zero point [blocks][5][G][L].
    const Real* constants = nullptr;
    Size block_bytes = 0;     // the weights of one block
    Size quantized_size = 0;  // int8: int32 numbers per row of bytes, a header and then four k in each
};

// The header of a row of bytes for weights with zero points: the scale, the zero point and the sum of the row. (For
// weights in int8 without zero points, the header is the scale.)
struct RowHeader {
    float scale;
    int32_t zero_point, sum;
};

// How int32 becomes integers of 8 or 32 bits: x multiplier / 2^31 2^shift + zero_point, from `low` to `high`. A step is
// 1, or 0 if one number is for all.
struct Rescaling {
    const int32_t *multiplier, *shift;
    Size multiplier_step, shift_step;
    int32_t zero_point, low, high;
    bool to_bytes;
};

// Where exact sums [rows][units] go: as int32, which may be rescaled, as bytes, which are, or as float32, multiplied by
// a scale of each row, then by scales (one, or one per unit), each of which may be null. Biases of the units are null,
// or added before the conversion (int32) or last (float32).
struct IntegerResult {
    Size units, stride;
    const Size* places = nullptr;  // of the rows; null: they are `stride` numbers apart
    const int32_t* integer_bias = nullptr;
    int32_t* integers = nullptr;
    float* floats = nullptr;
    const float *row_scale = nullptr, *scale = nullptr;
    bool has_scale_per_unit = false;
    const float* bias = nullptr;
    const Rescaling* rescaling = nullptr;
    uint8_t* bytes = nullptr;
};

// Windows over rows of channels, as below, whose elements are bytes. Those with a sign are stored as `flip` says, which
// their bytes are combined with by exclusive or. Of the weights [taps][channels], of at most 16 bits, zero points have
// been subtracted.
struct ByteWindows {
    const uint8_t* x;
    const Size* places;
    Size stride;  // of those places that are evenly spaced
    Size rows, channels;
    const Size* offsets;
    Size taps;
    const int32_t* weights;
    int32_t zero_point;  // of the bytes after the exclusive or
    uint8_t flip;
};

// One direction of one layer. `candidate` holds the n gate of a GRU that resets before the product; like `projection`
// and `peephole`, it is empty in cells without one.
template <class Real>
struct Direction {
    Cell cell;
    Size I, H, P;
    Panels<Real> input{}, recurrent{}, candidate{}, projection{};
    Panels<Real> peephole{};  // gates i, f, o; K = 1
    bool standard = true;     // no options
    Options<Real> options{};
};

// One time step of one direction, from (h, c) to (h_next, c_next). P and H are padded to whole blocks.
template <class Real>
struct Step {
    Size rows;
    Real* z;         // [rows][blocks][G][L]: W x + b_W, overwritten; by the sums of both products if recorded
    const Real* h;   // [rows][P]
    Real* h_next;    // [rows][P], different memory from h
    const Real* c;   // [rows][H] (LSTM)
    Real* c_next;    // [rows][H], may be the memory of c
    Real* second_input;  // [rows][H]: what the second product takes: o tanh(c) (projection) or r h (candidate)
    int32_t* quantized;  // [rows][quantized_size], memory of this thread
    Real* const* record;  // [rows] pointers to [recorded][H]; null: do not record
};

// One direction of one layer for the backward pass: its transposed matrices. `recurrent` holds R of all gates, except
// the n gate where `candidate` holds it. The gradients with respect to the sums of a step are stored gate by gate; a
// GRU that resets after the product stores those with respect to R_n h + b_n in front, so that the gradients that pass
// through R, and those that pass through W, are adjacent. `recorded` is the number of recorded values per unit and
// step.
template <class Real>
struct DirectionBackward {
    Cell cell;
    Size I, H, P, recorded;
    Panels<Real> input{}, recurrent{}, candidate{}, projection{};
};

// One backward time step. H is padded to whole blocks, except in "[rows] pointers".
template <class Real>
struct StepBackward {
    Size rows, stride;                    // stride: H
    const Real* const* record;            // [rows] pointers to [recorded][H]
    const Real* const* prefetch;          // likewise, the records of the step after the next
    const Real* const* c_prev;            // [rows] pointers to [H] (LSTM)
    const Real* const* h_prev;            // [rows] pointers to [H] (GRU)
    const Real* const* dy;                // [rows] pointers to [H], added to dh; or null
    const Real* dh;                       // [rows][H]: from the next step through R, or from the projection
    Real* dh_direct;                      // [rows][H]: from h to the previous h, not through R; in and out (GRU)
    Real* dc;                             // [rows][H]: with respect to c; on return, to the previous c (LSTM)
    const Real* d_reset;                  // [rows][H]: with respect to r h (GRU that resets before the product)
    Real* d;                              // [rows][..][H]: with respect to the sums; rows are d_stride apart
    Size d_stride;
    Real* second_input;                   // [rows][H]: as in Step, recomputed; null without a second product
};

// The blocks of a matrix that a thread computes: first to last - 1, or in the opposite order if `backward`. The order
// alternates from step to step, so that each step starts with the weights that are still in cache.
struct Share {
    Size first, last;
    bool backward = false;
    const void* following = nullptr;  // what the thread reads next, if not null; see Operand::ahead
    Size following_bytes = 0;
};

// The rows that a product reads, `stride` numbers apart; rows may overlap. Each row consists of pieces of equal length,
// which start at these offsets from the start of the row; a row of an int8 product has one piece. With one gate, a
// result below `least` becomes `least`, and the rows of the results may be at any places.
template <class Real>
struct Operand {
    const Real* rows;
    Size stride;
    Size pieces = 1;
    const Size* offsets = nullptr;  // null: one piece at offset 0
    Real least = -__builtin_inf();
    const Size* places = nullptr;  // of the rows of the results; null: they are as far apart as the product states
    Size length = 0;               // of each piece; 0: there is one piece, of all k
    const void* ahead = nullptr;   // memory that a large tile brings into the second-level cache, a vector for each k
};

// Windows over rows of channels. Window `row` has `taps` elements of each channel, at these offsets from
// x + places[row], and its result is that of y + y_places[row]; the rows may overlap. A weighted sum has weights
// [taps][channels]. The bias, which sums start with, may be null.
template <class Real>
struct Windows {
    const Real* x;
    Real* y;
    const Size *places, *y_places;
    Size stride;  // of those places in x that are evenly spaced
    Size rows, channels;
    const Size* offsets;
    Size taps;
    const Real* weights = nullptr;
    const Real* bias = nullptr;
};

// Sums of windows, whose vectors hold adjacent windows: for i < n, y[output][y_places[vector] + i] = the sum of
// x[places[vector] + offsets[term] + i] weights[term][output] over the terms, in order. It starts with the bias, which
// may be null. If `adjusts`, a sum below `least` becomes `least`, and `added` is added. The weights of L outputs follow
// each other; those of the next L outputs are `block_stride` further on.
//
// If there are rows, there is one output, and `terms` counts those of one of the `rows_of_kernel` rows of a kernel: the
// sums go on in the next rows of x, with the weights that follow. Rows are `x_row` apart in x, and `y_row` in y.
constexpr Size rows_of_kernel = 3;

template <class Real>
struct Filters {
    const Real* x;
    Real* y;
    Size y_stride;  // from one output to the next
    Size terms, outputs;
    const Size* offsets;
    const Real* weights;
    Size weight_stride, block_stride;  // weight_stride: from one term to the next
    const Real* bias;
    bool adjusts = false;
    Real least = -__builtin_inf(), added = Real(-0.0);
    const Size *places = nullptr, *y_places = nullptr;
    const Size* following = nullptr;  // at least so many vectors from each one on are adjacent in x and y
    Size vectors = 0, n = 0;  // n: at most L
    Size rows = 0, x_row = 0, y_row = 0;
};

// Fourier transforms of rows with n numbers, of which those beyond `length` are 0. Half as many complex numbers stand
// for an even number of real ones. The table holds cosines and sines: for each factor, those that turn its parts, and
// if it is larger than 4, those of its own transform; from `turns` on, those that join the halves of real numbers. The
// inverse divides by n.
constexpr Size largest_radix = 127;

template <class Real>
struct Fourier {
    Size n, points, stages;  // points: complex numbers, the product of the factors
    const Size* factors;
    const Real* table;
    Size turns;
    const Real* window;  // null: none
    bool inverse, is_complex_x, is_complex_y;
    Size length, bins;   // numbers that a row of x has, and one of y
    Size x_stride, x_part, y_stride, y_part;  // from one number to the next, and from its real to its imaginary part
};

// What only training needs.
template <class Real>
struct TrainingKernels {
    // A backward time step, and the second half of it for a GRU that resets before the product.
    void (*backward)(const DirectionBackward<Real>& direction, const StepBackward<Real>& step, const Share& units);
    void (*backward_reset)(const DirectionBackward<Real>& direction, const StepBackward<Real>& step,
                           const Share& units);
    // out[units][features] += sum of d[row][units] x[row][features]; out[units] += sum of d[row][units]. Rows are added
    // in order. Rows of x are padded to whole blocks.
    void (*outer)(Size rows, const Real* d, Size d_stride, Size units, const Real* x, Size x_stride, Size features,
                  Real* out);
    void (*add_rows)(Size rows, const Real* d, Size d_stride, Size units, Real* out);
    // The sum of (scale x)^2 in float64, always added in the same order.
    double (*sum_of_squares)(Size n, const Real* x, double scale);
    // The cross entropy of one row of logits y[C], and its gradient dy[C], divided by count.
    double (*cross_entropy)(Size C, const Real* y, Size target, double smoothing, double count, Real* dy);
};

// A token of linear attention for one head, whose state S [keys][values] some queries share:
// S_after = decay S + k added', where added = v, or beta (v - (decay S)' k); and y = scale q' S_after for each query.
template <class Real>
struct LinearToken {
    Size keys, values, queries;
    const Real *q, *k, *v;  // [queries][keys], [keys], [values]
    const Real* decay;      // [keys], or one number if its step is 0; null: 1
    Size decay_step;
    const Real* beta;       // one number, or null
    Real scale;
    const Real* before;     // S; it may be the same as `after`
    Real *after, *y;        // y [queries][values]
};

template <class Real>
struct Kernels {
    Size L;
    // out[rows][blocks][G][L] = a[rows][K] . panels + bias. Strides count elements. If `quantized` is null, and the
    // format of the panels is `dynamic`, a holds rows of bytes with headers.
    void (*product)(const Panels<Real>& panels, const Operand<Real>& a, Size rows, Real* out, Size out_stride,
                    int32_t* quantized, const Share& share);
    // A time step: the gates and then, for a candidate or a projection, a second product. The second product needs the
    // results of the first for all units.
    void (*gates)(const Direction<Real>& direction, const Step<Real>& step, const Share& share);
    void (*second_product)(const Direction<Real>& direction, const Step<Real>& step, const Share& share);
    void (*activate)(Activation<Real> function, Size n, const Real* x, Real* y);
    // Elementwise over n numbers; an operand whose step is 0 is one number. y may be an operand.
    void (*unary)(Unary operation, Size n, const Real* x, Real* y);
    void (*binary)(Binary operation, Size n, const Real* a, Size a_step, const Real* b, Size b_step, Real* y);
    void (*window)(Window operation, const Windows<Real>& windows);
    void (*filter)(const Filters<Real>& filters);
    void (*linear_attention)(const LinearToken<Real>& token);
    // Up to L rows that start at these places. The memory holds (2 * points + 1) complex numbers of L lanes.
    void (*fourier)(const Fourier<Real>& fourier, Size rows, const Real* x, const Size* x_rows, Real* y,
                    const Size* y_rows, Real* memory);
    // to[j * to_step + i] = from[i * from_step + j] for i < n and j < m, of any numbers with the size of a float.
    void (*transpose)(const float* from, Size from_step, Size n, Size m, float* to, Size to_step);
    Real (*maximum)(Size n, const Real* x);
    // One row: the softmax or its logarithm, and (x - mean) / sqrt(variance + epsilon).
    void (*softmax)(Size n, const Real* x, bool logarithm, Real* y);
    void (*standardize)(Size n, const Real* x, Real epsilon, Real* y);
    // The sum in float64, always added in the same order.
    double (*sum)(Size n, const Real* x);
    // y[row] = the sum of n numbers of each row of x, in the same order.
    void (*row_sums)(Size rows, Size n, const Real* x, Size row_stride, Size stride, Real* y, Size y_stride);
    TrainingKernels<Real> training;
};

// Kernels on rows of bytes. Bytes are numbers from -128 to 127, stored with `offset` added: 0 or 128.
struct ByteKernels {
    int offset;
    // Quantizes the rows of a [rows][K] with one scale and one zero point, which include 0 in their range.
    void (*quantize_rows)(const Operand<float>& a, Size rows, Size K, int32_t* out, Size out_stride);
    // out = a . panels of format `integer`, for rows of bytes with headers, `panels.quantized_size` apart.
    void (*integer_product)(const Panels<float>& panels, const int32_t* a, Size rows, const IntegerResult& out);
    // The least and the largest of n numbers and 0; NaN if any number is NaN.
    void (*range)(Size n, const float* x, float* low, float* high);
    // Rounds x / scale + zero_point, ties to even, to a byte from `low` to `low` + 255.
    void (*quantize)(Size n, const float* x, float scale, int zero_point, int low, uint8_t* y);
    // Quantizes n numbers to bytes and returns their scale: from -127 to 127, or, with a zero point, from -128 to 127.
    // Ties are rounded away from zero; NaN gives the least byte and a scale of NaN.
    float (*quantize_one_row)(Size n, const float* x, bool is_symmetric, uint8_t* y, int8_t* zero_point);
    void (*rescale)(Size n, const int32_t* x, const Rescaling& rescaling, void* y);
    void (*window)(const ByteWindows& windows, const IntegerResult& out);
};

struct Table {
    const char* name;
    Kernels<float> f32;
    Kernels<double> f64;
    ByteKernels bytes;
};

}  // namespace onward
