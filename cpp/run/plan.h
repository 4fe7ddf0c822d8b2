// A whole model for one set of input shapes: a list of steps over numbers in one arena.
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

// Numbers in one of a plan's spaces: 0 is the arena, 1 holds the constants, the others are the call's inputs and then
// its outputs. Strides count numbers.
struct View {
    Size space = 0, offset = 0;
    std::vector<Size> shape, strides;
};

// Loops over the elements of N views of one shape, with as few and as long loops as their strides allow.
template <int N>
class Loops {
public:
    // In the order of the last view's memory. Views are broadcast to its shape: an axis of size 1, or one that is
    // missing in front, has a stride of 0.
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
    // `sizes` of the spaces; a view that reaches beyond its space raises std::out_of_range.
    explicit Plan(std::vector<Size> sizes);

    void copy(const View& x, const View& y);
    // y[i] = x[table[i]], offsets from the first number of x; y is contiguous.
    void gather(const View& x, std::vector<Size> table, const View& y);
    void fill(float value, const View& y);
    void activate(Activation<float> function, const View& x, const View& y);
    void unary(Unary operation, const View& x, const View& y);
    void binary(Binary operation, const View& a, const View& b, const View& y);
    void multiply_add(const View& a, const View& b, const View& y);  // y += a b
    // y (1 in place of the last axis) from x, along its last axis.
    void reduce(Reduction operation, const View& x, const View& y);
    // Each row of x, its last axis, to a row of y; both contiguous.
    void softmax(bool logarithm, const View& x, const View& y);
    void standardize(float epsilon, const View& x, const View& y);
    // y (rows, O) = f(x (rows, K) W + b). The first `row_axes` axes of x are those of its rows, which may overlap; the
    // others are K. Rows of y are at least whole vectors apart.
    void product(const Dense<float>& W, const View& x, Size row_axes, const std::optional<Activation<float>>& f,
                 const View& y);
    // y (.., M, N) = a (.., M, K) b (.., K, N)
    void matmul(const View& a, const View& b, const View& y);
    // x (T, B, I), y (T, B, D*P), states (layers * D, B, units); h0 and c0 may be null. The stack must outlive the
    // plan.
    void recurrent(const Stack<float>& stack, const View& x, const View* h0, const View* c0, const View& y,
                   const View& h_n, const View* c_n);

    // Runs steps `first` to before `last`.
    void run(float* const* spaces, Size first, Size last) const;

    Size size() const { return Size(steps.size()); }
    const std::vector<Size>& sizes() const { return space_sizes; }
    Size lanes() const { return kernels.L; }

private:
    using Step = std::function<void(float* const* spaces)>;

    // The rows of a product: where each starts, and the runs of contiguous numbers that it consists of.
    struct Rows {
        Rows(const View& view, Size row_axes);
        std::vector<Size> offsets, runs;
        Size length = 1, stride = 0;
        bool is_even = false;  // one run each, `stride` apart
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
