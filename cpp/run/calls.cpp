// Compares the arrays of a call with what a program requires.
#include "run/calls.h"

#include <algorithm>
#include <limits>

namespace onward {

namespace {

constexpr int64_t largest_element = std::numeric_limits<int32_t>::max();  // products of two are no larger than a Size

// The bytes of an array; its other axes must have a size even if one is empty, as NumPy demands.
std::optional<Size> bytes_if_valid(const Axes& shape, DType dtype) {
    Size bytes = size_of(dtype);
    bool is_empty = false;
    for (const Size size : shape) {
        is_empty |= size == 0;
        if (size < 0 || __builtin_mul_overflow(bytes, std::max(size, Size(1)), &bytes)) return {};
    }
    return is_empty ? 0 : bytes;
}

}  // namespace

bool Input::accepts(const CallArray& operand, std::vector<Size>& axes) const {
    if (operand.dtype != dtype || operand.shape.size() != shape.size()) return false;
    for (size_t axis = 0; axis < shape.size(); axis++) {
        const Size size = operand.shape[axis];
        if (shape[axis] >= 0) {
            if (size != shape[axis]) return false;
            continue;
        }
        Size& known = axes[-1 - shape[axis]];
        if (size == 0 || (known != 0 && known != size)) return false;
        known = size;
    }
    if (!has_value()) return true;
    if (!operand.data) return operand.bytes == 0;
    if (first_element >= 0) return reads_elements(operand, axes);
    return std::memcmp(operand.data, value->data(), value->size()) == 0;
}

bool Input::reads_elements(const CallArray& operand, std::vector<Size>& axes) const {
    if (!operand.is_contiguous) return false;
    const Size bytes = size_of(dtype);
    for (Size i = 0; i < operand.bytes / bytes; i++) {
        int64_t element = 0;
        if (bytes == sizeof element) {
            std::memcpy(&element, operand.data + i * bytes, sizeof element);
        } else {
            int32_t narrow;
            std::memcpy(&narrow, operand.data + i * bytes, sizeof narrow);
            element = narrow;
        }
        if (element < -largest_element || element > largest_element) return false;
        axes[size_t(first_element + i)] = Size(element);
    }
    return true;
}

void Signature::add(Input input) {
    Size elements = 1;
    for (const Size size : input.shape) elements *= size;
    if (input.first_element >= 0) axes = std::max(axes, size_t(input.first_element + elements));
    for (const Size size : input.shape) axes = std::max(axes, size < 0 ? size_t(-1 - size) + 1 : 0);
    inputs.push_back(std::move(input));
}

bool Signature::fits_outputs(const BoundPlan& plan, size_t space) const {
    const std::vector<Size>& sizes = plan.plan.sizes();
    if (plan.outputs.size() != outputs.size() || space + outputs.size() != sizes.size()) return false;
    for (size_t i = 0; i < outputs.size(); i++) {
        const std::optional<Size> bytes = bytes_if_valid(plan.outputs[i], outputs[i]);
        if (bytes != sizes[space + i]) return false;
    }
    return true;
}

Size bytes_of(const Axes& shape, DType dtype) {
    const std::optional<Size> bytes = bytes_if_valid(shape, dtype);
    if (!bytes) throw std::overflow_error("a size is too large, or below 0");
    return *bytes;
}

}  // namespace onward
