// A whole model, compiled for all sizes of its inputs: steps whose views depend on a table of values.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "run/plan.h"
#include "run/words.h"

namespace onward {

// The steps of a program for one call's sizes, ready to run in an arena of `arena_size` bytes.
struct BoundPlan {
    std::vector<Size> axes;       // the sizes that decided
    Size arena_size = 0;          // bytes
    Size memory = 0;              // bytes of the arena and the outputs; the largest number if that overflows
    Size work = 0;                // elementary operations, about
    Plan plan;
    std::vector<Axes> outputs;    // their shapes
    std::vector<View> locations;  // of values that the caller asks for
    bool has_fitted = false;      // whether the arrays of a call with these sizes fill the spaces

    explicit BoundPlan(const Kernels<float>& kernels) : plan(kernels) {}
};

// What the words of a program contain, in order:
//   a list of values, each an operation and two operands: an axis, a number, or a sum, a product or a floored quotient
//     of values before it;
//   a list of guards, each a condition and a number that must satisfy it;
//   a list of the sizes in bytes of the spaces after the arena: the constants, the inputs and the outputs;
//   a list of the arrays of the arena, each its size in bytes and the first and the last step that use it;
//   a list of the shapes of the outputs;
//   a list of the views that the caller asks for;
//   a list of steps, each its length in words, its name and its arguments;
//   how many elementary operations a run takes; files of older versions end before it.
class Program {
public:
    // `weights` must outlive the program. Throws std::out_of_range or std::invalid_argument if the words are damaged.
    Program(const int64_t* words, Size n, const std::vector<PackedWeights>& weights);
    Program(const Program&) = delete;

    // Binds a plan to these sizes of the axes. The program must outlive the plan. Allocates nothing if the memory of
    // the plan suffices. Returns false, and leaves the plan as it was, if the sizes do not satisfy the guards. Throws
    // what the methods of Plan throw, and std::overflow_error if a size is too large; the plan is then of no use.
    bool bind(const std::vector<Size>& axes, BoundPlan& bound) const;
    Size size() const { return Size(steps.size()); }  // steps

    const Kernels<float>& kernels;  // those for which the weights are packed

    // The sizes of a call, and where the arrays lie, while the steps are added.
    struct Sizes {
        const Size* values;
        const Size* arrays;  // the offset of each array of the arena in bytes
        Size array_count;
        Memory& memory;  // of the plan
    };
    // Adds a step to a plan, with its arguments for the sizes. It lies in the memory of the program.
    class Step {
    public:
        virtual void add(Plan& plan, const Sizes& sizes) const = 0;

    protected:
        ~Step() = default;
    };

    // A view whose numbers depend on the sizes. Array n of the arena is the space -1 - n.
    class SizedView {
    public:
        SizedView(Words& words, Memory& memory);
        View at(const Sizes& sizes) const;

    private:
        Size space;
        const Number* numbers;  // the offset, the shape and the strides
        int32_t axes;
        DType dtype;
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

    // Computes the table of values.
    void evaluate(const std::vector<Size>& axes, std::vector<Size>& found) const;
    bool holds(const Size* values) const;
    // Gives each array of the arena an offset, and returns the size of the arena.
    Size place(const Size* values, Size* offsets, Memory& memory) const;

    std::vector<Value> values;
    std::vector<Guard> guards;
    std::vector<Number> spaces;
    std::vector<Array> arrays;
    std::vector<std::vector<Number>> outputs;
    std::vector<SizedView> locations;
    Memory memory;                            // of the steps
    std::deque<FusedOperations> operations;   // likewise
    Number work{0};
    std::vector<const Step*> steps;
};

}  // namespace onward
