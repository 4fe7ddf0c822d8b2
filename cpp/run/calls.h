// What a call brings, and what a program asks of it.
#pragma once

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "run/program.h"

namespace onward {

// An array of a call.
struct CallArray {
    std::byte* data;             // null if the array is empty or has no value yet, as the carries of rows to gather
    std::optional<DType> dtype;  // nullopt if a plan cannot read it
    Axes shape;
    Size bytes;
    bool is_contiguous;
};

// What a program requires of an input: its dtype, its sizes and, if the program depends on it, its value. A size below
// 0 is that of axis -1 - size, which is not empty. If the elements decide sizes, they are axes from `first_element` on.
struct Input {
    DType dtype;
    std::vector<Size> shape;
    std::optional<std::string> value;
    Size first_element = -1;

    // Whether an array fits; `axes` takes the sizes of the axes, which are 0 at first.
    bool accepts(const CallArray& operand, std::vector<Size>& axes) const;
    // Whether the value decides which program or plan runs.
    bool has_value() const { return value.has_value() || first_element >= 0; }

private:
    bool reads_elements(const CallArray& operand, std::vector<Size>& axes) const;
};

// The inputs and the outputs of a program.
struct Signature {
    std::vector<Input> inputs;
    std::vector<DType> outputs;
    Size constants = 0;  // bytes
    size_t axes = 0;     // how many the inputs name

    void add(Input input);

    // Whether the arrays of a call fit the inputs; `axes` takes the sizes of the axes.
    template <class Arrays>
    bool accepts(const Arrays& arrays, std::vector<Size>& axes) const {
        axes.assign(this->axes, 0);
        for (size_t i = 0; i < inputs.size(); i++)
            if (!inputs[i].accepts(arrays[i], axes)) return false;
        return true;
    }
    // Whether the arrays of a call, as large as the inputs, fill the spaces of a plan, and its outputs have the sizes
    // of theirs.
    template <class Operands>
    bool fits(const BoundPlan& plan, const Operands& operands) const {
        const std::vector<Size>& sizes = plan.plan.sizes();
        if (sizes.size() < 2 || sizes[1] > constants) return false;
        size_t space = 2;
        for (size_t i = 0; i < inputs.size(); i++)
            if (!inputs[i].value && (space == sizes.size() || operands[i].bytes < sizes[space++])) return false;
        return fits_outputs(plan, space);
    }

private:
    bool fits_outputs(const BoundPlan& plan, size_t space) const;
};

// The bytes of an array. Throws std::overflow_error for a size below 0, or if they are too many.
Size bytes_of(const Axes& shape, DType dtype);

}  // namespace onward
