// Several elementwise operations in one pass over blocks that stay in the first-level cache.
#include <algorithm>
#include <stdexcept>
#include <utility>
#include <variant>
#include <vector>

#include "run/plan.h"

namespace onward {

// A buffer is used again after the last operation that reads it, which may write to it.
FusedOperations::FusedOperations(std::vector<ElementwiseOperation> list, Size inputs)
    : operations(std::move(list)), inputs(inputs) {
    if (operations.empty() || Size(operations.size()) > most_operations || inputs < 1 || inputs > most_inputs)
        throw std::invalid_argument("a fused step needs 1 to 16 operations and 1 to 7 inputs");
    const Size n = Size(operations.size());
    std::vector<Size> last_use(n, -1), unused;
    for (Size i = 0; i < n; i++) {
        auto& operation = operations[i];
        if (!std::holds_alternative<Binary>(operation.function)) operation.b = operation.a;
        for (const Size operand : {operation.a, operation.b}) {
            if (operand < 0 || operand >= inputs + i) throw std::out_of_range("an operand does not exist yet");
            if (operand >= inputs) last_use[operand - inputs] = i;
        }
    }
    for (Size i = 0; i < n; i++) {
        auto& [function, a, b, buffer] = operations[i];
        for (const Size operand : {a, a == b ? Size(-1) : b})
            if (operand >= inputs && last_use[operand - inputs] == i)
                unused.push_back(operations[operand - inputs].buffer);
        if (unused.empty()) unused.push_back(buffers++);
        buffer = unused.back();
        unused.pop_back();
    }
}

void Plan::fused(const FusedOperations& list, std::span<const View> views) {
    for (const View& view : views) check(view, DType::float32);
    if (Size(views.size()) != list.inputs + 1) throw std::invalid_argument("a fused step lacks views");
    const View* pointers[FusedOperations::most_inputs + 1];
    for (size_t i = 0; i < views.size(); i++) pointers[i] = &views[i];
    add([this, &list, blocks = Blocks(kept, pointers, views.size(), false)](std::byte* const* spaces) {
        thread_local std::vector<float> memory;
        if (memory.size() < size_t(list.buffers * block)) memory.resize(size_t(list.buffers * block));
        blocks.run(spaces, [&](Size n, const float* const* operands, const Size* steps, float* y) {
            // operands and their steps
            std::pair<const float*, Size> values[FusedOperations::most_inputs + FusedOperations::most_operations];
            for (Size i = 0; i < list.inputs; i++) values[i] = {operands[i], steps[i]};
            auto* next = values + list.inputs;
            for (const ElementwiseOperation& operation : list.operations) {
                const auto [a, a_step] = values[operation.a];
                const auto [b, b_step] = values[operation.b];
                const bool is_last = &operation == &list.operations.back();
                float* const out = is_last ? y : memory.data() + operation.buffer * block;
                const bool is_binary = std::holds_alternative<Binary>(operation.function);
                const bool is_number = a_step == 0 && (!is_binary || b_step == 0);
                const Size size = is_number ? 1 : n;
                if (auto* unary = std::get_if<Unary>(&operation.function))
                    kernels.unary(*unary, size, a, out);
                else if (auto* function = std::get_if<Activation<float>>(&operation.function))
                    kernels.activate(*function, size, a, out);
                else
                    kernels.binary(std::get<Binary>(operation.function), size, a, a_step, b, b_step, out);
                if (is_last && is_number) std::fill_n(out, n, *out);
                *next++ = {out, is_number ? 0 : 1};
            }
        });
    });
}

}  // namespace onward
