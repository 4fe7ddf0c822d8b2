// A whole model, compiled for one set of input shapes: a list of steps that share one arena.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "run/dense.h"
#include "run/stack.h"

namespace onward {

enum class Reduction { sum, maximum };

// An array in one of a plan's spaces: 0 is the arena, 1 holds the constants; the inputs and then the outputs of a call
// follow. Offset and strides count elements.
struct View {
    Size space = 0, offset = 0;
    std::vector<Size> shape, strides;
};

// Iterates over the elements of N views of one shape, merging axes where the strides allow it.
template <int N>
class Loops {
public:
    // Follows the memory order of the last view and broadcasts the others to its shape: a leading axis that a view
    // lacks, or an axis of size 1, has stride 0.
    explicit Loops(const std::array<const View*, N>& views);
    // Calls body(pointers, n, steps) for each run of the innermost loop.
    template <class Body>
    void run(float* const* spaces, const Body& body) const;

private:
    std::array<Size, N> space, offset, inner_steps{};
    std::vector<std::pair<Size, std::array<Size, N>>> outer;  // sizes and strides
    Size inner = 1;
};

class Plan {
public:
    // `sizes` holds the size of each space. The methods below throw std::out_of_range if a view exceeds its space.
    explicit Plan(std::vector<Size> sizes);

    void copy(const View& x, const View& y);
    // y[i] = x[table[i]]; the table holds offsets from the first element of x. y must be contiguous.
    void gather(const View& x, std::vector<Size> table, const View& y);
    void fill(float value, const View& y);
    void activate(Activation<float> function, const View& x, const View& y);
    void unary(Unary operation, const View& x, const View& y);
    void binary(Binary operation, const View& a, const View& b, const View& y);
    void multiply_add(const View& a, const View& b, const View& y);  // y += a b
    // Reduces the last axis of x; it has size 1 in y.
    void reduce(Reduction operation, const View& x, const View& y);
    // These two apply to each row, the last axis of x and y; both must be contiguous.
    void softmax(bool logarithm, const View& x, const View& y);
    void standardize(float epsilon, const View& x, const View& y);
    // y (rows, O) = f(x (rows, K) W + b). The first `row_axes` axes of x enumerate its rows, which may overlap in
    // memory; the remaining axes form K. The row stride of y must cover whole vectors.
    void product(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                 const View& y);
    // y (.., M, N) = a (.., M, K) b (.., K, N)
    void matmul(const View& a, const View& b, const View& y);
    // x (T, B, I), y (T, B, D*P), states (layers * D, B, units); h0 and c0 may be null. The stack must outlive the
    // plan.
    void recurrent(const Stack<float>& stack, const View& x, const View* h0, const View* c0, const View& y,
                   const View& h_n, const View* c_n);

    // Runs the steps in [first, last).
    void run(float* const* spaces, Size first, Size last) const;

    Size size() const { return Size(steps.size()); }
    const std::vector<Size>& sizes() const { return space_sizes; }
    Size lanes() const { return kernels.L; }

private:
    using Step = std::function<void(float* const* spaces)>;

    // The rows of a product: the offset of each row, and the contiguous pieces that it consists of.
    struct Rows {
        Rows(const View& view, Size row_axes);
        std::vector<Size> offsets, pieces;
        Size length = 1;           // of a piece
        Size line = 0, stride = 0;  // every `line` rows are `stride` apart
        bool in_place = false;     // whether the product reads them in place
    };

    void multiply(const Panels<float>& panels, const float* x, const Rows& rows, Size first, Size last,
                  const std::optional<Activation<float>>& f, float* out, Size out_stride) const;
    void check(const View& view) const;
    template <class Function>
    void each_row(const View& x, const View& y, Function function);

    const Kernels<float>& kernels;
    const std::vector<Size> space_sizes;
    std::vector<Step> steps;
};

}  // namespace onward
