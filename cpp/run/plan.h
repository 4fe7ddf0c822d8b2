// A whole model for one set of input shapes: a list of steps that share one arena.
#pragma once

#include <initializer_list>
#include <optional>
#include <span>
#include <stdexcept>
#include <variant>
#include <vector>

#include "run/dense.h"
#include "run/integers.h"
#include "run/quantized_lstm.h"
#include "run/stack.h"
#include "run/view.h"

namespace onward {

// What a step throws for values that it does not accept; the message names the node.
struct BadValue : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// One of the operations of a fused step. Its operands are numbered: first the inputs of the step, then the results of
// the operations before it. Only a binary operation uses b.
struct ElementwiseOperation {
    std::variant<Unary, Binary, Activation<float>> function;
    Size a, b;
    Size buffer = 0;  // for its result
};

// The operations of a fused step.
struct FusedOperations {
    static constexpr Size most_inputs = 7, most_operations = 16;

    // Throws std::out_of_range or std::invalid_argument if an operand does not exist, or if there are too many.
    FusedOperations(std::vector<ElementwiseOperation> operations, Size inputs);

    std::vector<ElementwiseOperation> operations;
    Size inputs, buffers = 0;  // buffers: for results
};

class Plan;

// The steps of one iteration of a loop.
class LoopBody {
public:
    // Adds the steps to a plan that has the spaces of the loop.
    virtual void add(Plan& plan) const = 0;

protected:
    ~LoopBody() = default;
};

struct Channels;
struct Images;

// What the exact sums (rows, units) of products of integers become: themselves, or float32, multiplied by a scale of
// each row, then by one scale or one per unit; or integers of 8 or 32 bits, rescaled as `Plan::rescale` does, by one
// factor or one per unit. A bias (units) is added before that (int32) or last (float32).
struct OutputStage {
    std::optional<View> row_scale = {}, scale = {}, bias = {}, multiplier = {}, shift = {};
    Size zero_point = 0, low = 0, high = 0;
};

class Plan {
public:
    // The array of which iteration i of a loop reads or writes slice i along an axis, or slice i from the last one.
    struct Slices {
        View whole;
        Size axis;
        bool backward;
    };
    // A state of a loop: before the first iteration and after the last one, and memory for a state between them, all
    // contiguous and apart from each other.
    struct Carry {
        View initial, result, spare;
    };

    // The kernels are those for which the weights of the steps are packed.
    explicit Plan(const Kernels<float>& kernels) : kernels(kernels) {}
    Plan(const Plan&) = delete;

    // Removes all steps, and keeps their memory for those to come; the caller sets the size of each space in bytes.
    std::vector<Size>& restart();
    // Memory until the next restart.
    Memory& memory() { return kept; }

    // The methods below add a step. They throw std::out_of_range if a view exceeds its space, and std::invalid_argument
    // if its dtype does not fit; where no dtype is stated, it is float32. Lists, names, operations and weights must
    // outlive the plan, or lie in its memory.

    // A function of the memory of the spaces, which needs no destructor.
    template <class Function>
    void add(const Function& function) {
        auto run = [](const void* kept, std::byte* const* spaces) { (*(const Function*)kept)(spaces); };
        steps.push_back({run, kept.keep(function)});
    }

    // Steps that move, select or convert elements of any dtype.
    void copy(const View& x, const View& y);
    // Fills y with the number x, except for the box of elements from low[axis] to high[axis] - 1.
    void fill_border(const View& x, const View& y, std::span<const Size> low, std::span<const Size> high);
    // y[i] = x[indices[i], i] for each index i of y, where the first axes of x (n.., I..) are those that the indices
    // (I.., D), of dtype int32 or int64, select; negative ones count from the end. The step throws BadValue, with a
    // message that starts with `name`.
    void take(const View& x, const View& indices, const View& y, const char* name);
    // y[indices[i], i] = x[i], or the operation of both, for each index i of x, in order. Otherwise as `take`.
    void put(const std::optional<Binary>& operation, const View& x, const View& indices, const View& y,
             const char* name);
    // Sets the elements of y (int64), which must be contiguous, to these numbers, or to first + i * step.
    void numbers(std::span<const Size> numbers, const View& y);
    void range(Size first, Size step, const View& y);
    void where(const View& condition, const View& a, const View& b, const View& y);  // condition ? a : b
    void cast(const View& x, const View& y);

    void activate(Activation<float> function, const View& x, const View& y);
    void unary(Unary operation, const View& x, const View& y);  // floats; Abs, Neg and Sign of integers
    void binary(Binary operation, const View& a, const View& b, const View& y);           // any dtype
    // Several of the operations above in one pass; their results are never stored as a whole.
    void fused(const FusedOperations& operations, std::span<const View> views);  // the inputs, then y
    void compare(Comparison operation, const View& a, const View& b, const View& y);      // any dtype; y is boolean
    // y (.., C) combines the elements of each window of x (.., taps.., C). A weighted sum has weights (taps, C); the
    // bias (C) may be null. The channels are adjacent in memory.
    void window(Window operation, const View& x, const View* weights, const View* bias, const View& y);
    // y (.., bins, 1 or 2) = the Fourier transform of n numbers of x (.., K, 1 or 2), times a window (n), which may be
    // null; complex numbers have two parts. The transform of real numbers is that of half as many complex ones if n is
    // even. The factors are those of the complex transform; the table is described in kernels.h.
    void fourier(Size n, bool inverse, std::span<const Size> factors, const View& table, const View* window,
                 const View& x, const View& y);
    // Reduces the last axis of x; it has size 1 in y.
    void reduce(Reduction operation, const View& x, const View& y);
    // y[t] = y[t - 1] + x[t], or their product, along the first axis; any dtype.
    void accumulate(Binary operation, const View& x, const View& y);
    // The k largest or smallest elements of each row of x, in order, and their indices (int64); of equal elements, the
    // one with the lower index is first, and NaN precedes or follows all numbers. Contiguous views, x of any dtype.
    void top(bool largest, bool nan_first, const View& x, const View& values, const View& indices);
    // These two apply to each row, the last axis of x and y; both must be contiguous.
    void softmax(bool logarithm, const View& x, const View& y);
    void standardize(float epsilon, const View& x, const View& y);
    // y (rows, O) = f(x (rows, K) W + b). The first `row_axes` axes of x enumerate its rows, which may overlap in
    // memory; the remaining axes form K. The rows of y may have several axes, too; what follows a row in memory, up to
    // whole vectors, is overwritten.
    void product(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                 const View& y);
    // y (rows, O) = the maximum of f(x (rows, taps, K) W + b) over the taps, which the next `tap_axes` axes of x form,
    // as `product` and `window` compute it, but the products stay in the cache. The units of y are adjacent.
    void pooled_product(const Dense<float>& W, const View& x, Size row_axes, Size tap_axes,
                        const std::optional<Activation<float>>& f, const View& y);
    // A product for a y of any strides, of which nothing else is overwritten. Where rows that follow each other are
    // adjacent in x, vectors hold rows instead of units.
    void filter(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                const View& y);
    // y (.., O) = x (.., I) W + b in float64; both are contiguous.
    void dense(const Dense<double>& W, const View& x, const View& y);
    // y (.., M, N) = a (.., M, K) b (.., K, N)
    void matmul(const View& a, const View& b, const View& y);
    // y (M, N) = the rows of a (M, K) times the matrices b (G, K, N) of their groups, whose ends (G), of dtype int64,
    // ascend; rows after the last group are 0. The step throws BadValue, with a message that starts with `name`.
    void grouped_matmul(const View& a, const View& b, const View& ends, const View& y, const char* name);

    // Steps on bytes with scales and zero points, as ONNX's operators of the same names. x and y of the first must be
    // contiguous.
    void quantize_dynamically(const View& x, const View& y, const View& scale, const View& zero_point);
    void quantize(const View& x, const View& scale, const View& zero_point, const View& y);
    void dequantize(const View& x, const View& scale, const View& zero_point, const View& y);
    // Rows of x (.., K), which must be contiguous, as int8 q (.., K), with a scale (rows) and a zero point (rows) each,
    // rounded to nearest, ties away from zero: symmetric ones from -127 to 127 with a zero point of 0.
    void quantize_rows(bool is_symmetric, const View& x, const View& q, const View& scale, const View& zero_point);
    // y (rows, O) = (x - zero point) (W - its zero points), exact sums and what they become. x has rows as for a
    // product, and one zero point, or one for each row.
    void integer_product(const IntegerMatrix& W, const View& x, Size row_axes, const View& zero_point,
                         const OutputStage& stage, const View& y);
    // The same for windows: y (rows, C) = the sums of (x - zero point) weights over the taps of x (.., taps.., C),
    // whose channels are adjacent, with weights (taps, C) of dtype int32 and one zero point.
    void integer_window(const View& weights, const View& x, Size row_axes, const View& zero_point,
                        const OutputStage& stage, const View& y);

    // Steps on integers that stand for real numbers. y = x multiplier / 2^31 2^shift + zero point, from `low` to
    // `high`; the multipliers and shifts have dtype int32. In two roundings, from int32 to int8, uint8 or int32; and in
    // one, from int64 to any dtype of integers.
    void rescale(Size zero_point, Size low, Size high, const View& x, const View& multiplier, const View& shift,
                 const View& y);
    void rescale_once(Size zero_point, Size low, Size high, const View& x, const View& multiplier, const View& shift,
                      const View& y);
    // y = table[(x - low) / 2^bits], on the line between two elements, which are int32 unless bits is 0; x beyond the
    // table takes its first or last element.
    void lookup(Size low, Size bits, const View& table, const View& x, const View& y);
    void reduce_integers(Reduction operation, const View& x, const View& y);  // as `reduce`; sums wrap
    // 2^31 / x = multiplier / 2^31 2^shift, all int32; x has no sign.
    void fixed_reciprocal(const View& x, const View& multiplier, const View& shift);

    // x (T, B, I), y (T, B, D*P), states (layers * D, B, units) in the precision of the layer; h0, c0 and the lengths
    // (B), of dtype int64, may be null. The step throws BadValue, with a message that starts with `name`.
    void recurrent(const AnyStack& stack, const View& x, const View* h0, const View* c0, const View& y,
                   const View& h_n, const View* c_n, const View* lengths, const char* name);
    // How a layer of D directions runs over the steps at which a mask (T, B) is true. The other views are contiguous
    // and of dtype int64. counted (T, B) holds the rows of x (T*B, I), those that count first; lengths (B) holds their
    // number. sources (T, B, D) holds, for each step, the row of y ((T + 1)*B*D, P) that is its output: the row of the
    // last step that counts so far in the direction of the layer, or step T if there is none.
    void masked_steps(const View& mask, const View& counted, const View& lengths, const View& sources);

    // As ONNX's DynamicQuantizeLSTM: x (T, B, I), y (T, D, B, H), states (D, B, H), all contiguous.
    void quantized_lstm(const QuantizedLSTM& lstm, const View& x, const View* h0, const View* c0, const View& y,
                        const View& h_n, const View& c_n);

    // As ONNX's LinearAttention: q (B, T, heads * queries, keys), k (B, T, heads, keys), v (B, T, heads, values), and y
    // as q with the values. The states (B, heads, keys, values) are contiguous. The state before, which is 0, and the
    // factors `decay` (B, T, heads, keys or 1) of the state and beta (B, T, heads, 1) may be null.
    void linear_attention(float scale, const View& q, const View& k, const View& v, const View* before,
                          const View* decay, const View* beta, const View& y, const View& after);

    // Runs a body `count` times, or until a condition (bool), which may be null, is false before an iteration. The
    // counter (int64), which may be null, holds the number of the iteration. The spaces of the body follow those of
    // the steps around it: for each array of slices, one whose lowest element is that of the present slice; and for
    // each state, one that holds it before the iteration and one for what it is afterwards.
    void loop(Size count, const View* counter, const View* condition, std::span<const Slices> slices,
              std::span<const Carry> carries, const LoopBody& body);

    // Runs the steps in [first, last). Throws Interrupted, and what a step throws.
    void run(std::byte* const* spaces, Size first, Size last) const;

    Size size() const { return Size(steps.size()); }
    const std::vector<Size>& sizes() const { return space_sizes; }
    Size lanes() const { return kernels.L; }

private:
    // A function of the memory of the spaces, and what it keeps.
    struct Step {
        void (*run)(const void* kept, std::byte* const* spaces);
        const void* kept;
    };
    // A loop that is ready to run, and the places of its slices and states.
    struct Loop;
    void run_loop(const Loop& loop, std::byte* const* spaces) const;

    // The rows of a product, and the contiguous pieces that each consists of.
    struct Rows {
        // Throws std::out_of_range if a row does not have K elements.
        Rows(Memory& memory, const View& view, Size row_axes, Size K);
        Rows(Memory& memory, const View& view, Size row_axes, const Dense<float>& W);
        void gather(const Kernels<float>& kernels, const float* x, Offsets::Walk& walk, Size n, float* to) const;
        // Copies n rows to the columns of a matrix whose rows are `step` apart.
        void gather_columns(const Kernels<float>& kernels, const float* x, Offsets::Walk& walk, Size n, float* to,
                            Size step) const;
        Offsets offsets;
        Size length = 1;  // elements in a piece
        std::span<const Size> pieces;
        bool in_place = false;  // whether the product reads them in place
        bool skips_zeros = false;  // whether it may skip pieces that are zeros, as in the padding of windows
    };

    // Where the results of a product go: its rows, whose whole vectors are written, or, if there are units, exactly so
    // many numbers of each row, `stride` apart. Evenly spaced rows start with row `first`.
    struct Results {
        float* y;
        const Offsets& rows;
        Size units = 0, stride = 1, first = 0;
    };

    void multiply(const Panels<float>& panels, const float* x, const Rows& rows, Size first, Size last,
                  const std::optional<Activation<float>>& f, const Results& to) const;
    void filter_windows(Filters<float> filters, const Offsets& x, const Offsets& y, Size first, Size last,
                        const std::optional<Activation<float>>& f, const Channels& channels) const;
    // The same for the rows [first, last) of all images.
    void filter_images(Filters<float> filters, const Images& images, Size first, Size last,
                       const std::optional<Activation<float>>& f, const Channels& channels) const;
    // Gathers windows that are not adjacent into memory in which they are, at the offsets `gathered`.
    void filter_gathered(Filters<float> filters, const Rows& rows, const Offsets& gathered, const Offsets& y,
                         Size first, Size last, const std::optional<Activation<float>>& f) const;
    // Computes a product without the first and last pieces that are zeros in all rows. Returns false if the result may
    // differ.
    bool multiply_without_zeros(const Panels<float>& panels, const Operand<float>& a, Size rows, float* out,
                                Size out_stride) const;
    // Whether reading the clock takes no longer than a step.
    bool polls_often() const;
    // What exact sums become, and where.
    class IntegerSums;
    IntegerSums sums(const OutputStage& stage, const View& y);
    Rescaling rescaling(Size zero_point, Size low, Size high, const View& y);

    void check(const View& view) const;
    void check(const View& view, DType dtype) const;
    void check_floats(std::initializer_list<const View*> views) const {
        for (const View* view : views) check(*view, DType::float32);
    }
    bool add_transposition(const View& x, const View& y);
    void filter_channels(const View& x, const View& weights, const View* bias, const View& y);
    // y[i] = f(x[i]); f(n, x, y) computes n elements.
    template <class Function>
    void each_element(const View& x, const View& y, Function f);
    template <class Function>
    void each_row(const View& x, const View& y, Function function);

    const Kernels<float>& kernels;
    std::vector<Size> space_sizes;
    std::vector<Step> steps;
    Memory kept;
};

}  // namespace onward
