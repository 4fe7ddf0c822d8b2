// A whole model, compiled for all sizes of its inputs: steps whose views depend on a table of values.
#pragma once

#include <memory>
#include <vector>

#include "run/plan.h"
#include "run/words.h"

namespace onward {

// The steps of a program for one call's sizes, ready to run in an arena of `arena_size` bytes.
struct BoundPlan {
    std::vector<Size> axes;                  // the sizes that decided
    Size arena_size = 0;                     // bytes
    Plan plan;
    std::vector<std::vector<Size>> outputs;  // their shapes
    std::vector<View> locations;             // of values that the caller asks for

    BoundPlan(const Kernels<float>& kernels, std::vector<Size> axes, std::vector<Size> spaces)
        : axes(std::move(axes)), arena_size(spaces[0]), plan(kernels, std::move(spaces)) {}
};

// What the words of a program contain, in order:
//   a list of values, each an operation and two operands: an axis, a number, or a sum, a product or a floored quotient
//     of values before it;
//   a list of guards, each a condition and a number that must satisfy it;
//   a list of the sizes in bytes of the spaces after the arena: the constants, the inputs and the outputs;
//   a list of the arrays of the arena, each its size in bytes and the first and the last step that use it;
//   a list of the shapes of the outputs;
//   a list of the views that the caller asks for;
//   a list of steps, each its length in words, its name and its arguments.
class Program {
public:
    // `weights` must outlive the program. Throws std::out_of_range or std::invalid_argument if the words are damaged.
    Program(const int64_t* words, Size n, const std::vector<PackedWeights>& weights);

    // Returns the plan for these sizes of the axes, or null if they do not satisfy the guards. Throws what the methods
    // of Plan throw, and std::overflow_error if a size is too large.
    std::unique_ptr<BoundPlan> bind(std::vector<Size> axes) const;

    Size size() const { return Size(steps.size()); }

    // Where a view lies while the steps are added.
    struct Sizes {
        std::vector<Size> values;
        std::vector<Size> arrays;  // the offset of each array of the arena in bytes
    };
    // Adds a step to a plan, with its arguments for the sizes.
    class Step {
    public:
        virtual ~Step() = default;
        virtual void add(Plan& plan, const Sizes& sizes) const = 0;
    };

    // A view whose numbers depend on the sizes. Array n of the arena is the space -1 - n.
    struct SizedView {
        Size space = 0;
        Number offset;
        std::vector<Number> shape, strides;
        DType dtype = DType::float32;

        explicit SizedView(Words& words);
        View at(const Sizes& sizes) const;
    };

private:
    enum class Operation { axis, number, sum, product, quotient };
    enum class Condition { zero, not_zero, positive, not_positive };
    struct Value {
        Operation operation;
        Size a, b;
    };
    struct Guard {
        Condition condition;
        Number number;
    };
    struct Array {
        Number size;
        Size first, last;
    };

    std::vector<Size> values_of(const std::vector<Size>& axes) const;
    bool holds(const std::vector<Size>& values) const;
    // Gives each array of the arena an offset, and returns the size of the arena.
    Size place(Sizes& sizes) const;

    const Kernels<float>& kernels;  // those for which the weights are packed
    std::vector<Value> values;
    std::vector<Guard> guards;
    std::vector<Number> spaces;
    std::vector<Array> arrays;
    std::vector<std::vector<Number>> outputs;
    std::vector<SizedView> locations;
    std::vector<std::unique_ptr<const Step>> steps;
};

}  // namespace onward
