// Several elementwise operations in one pass over blocks that stay in the first-level cache.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <utility>
#include <variant>

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

template <int inputs>
void Plan::add_fused(const FusedOperations& list, std::span<const View> views) {
    std::array<const View*, inputs + 1> pointers;
    for (int i = 0; i <= inputs; i++) pointers[i] = &views[i];
    add([this, &placed = list.operations, buffers = list.buffers, loops = Loops<inputs + 1>(kept, pointers)](
            std::byte* const* spaces) {
        thread_local std::vector<float> memory;
        if (memory.size() < size_t((buffers + inputs) * block)) memory.resize((buffers + inputs) * block);
        float* const gathered = memory.data() + buffers * block;
        std::array<std::pair<const float*, Size>, FusedOperations::most_inputs + FusedOperations::most_operations>
            values;  // operands and their steps
        loops.template run<float>(spaces, [&](const auto& p, Size n, const auto& step) {
            float* const y = p[inputs];
            const bool in_place = step[inputs] == 1 || n == 1;
            for (Size first = 0; first < n; first += block) {
                const Size count = std::min(block, n - first);
                for (int i = 0; i < inputs; i++) {
                    const float* const from = p[i] + first * step[i];
                    values[i] = {from, step[i]};
                    if (step[i] == 0 || step[i] == 1 || count == 1) continue;
                    for (Size k = 0; k < count; k++) gathered[i * block + k] = from[k * step[i]];
                    values[i] = {gathered + i * block, 1};
                }
                for (size_t i = 0; i < placed.size(); i++) {
                    const ElementwiseOperation& operation = placed[i];
                    const auto [a, a_step] = values[operation.a];
                    const auto [b, b_step] = values[operation.b];
                    const bool is_last = i + 1 == placed.size();
                    float* const out = is_last && in_place ? y + first : memory.data() + operation.buffer * block;
                    const bool is_binary = std::holds_alternative<Binary>(operation.function);
                    const bool is_number = a_step == 0 && (!is_binary || b_step == 0);
                    const Size size = is_number ? 1 : count;
                    if (auto* unary = std::get_if<Unary>(&operation.function))
                        kernels.unary(*unary, size, a, out);
                    else if (auto* function = std::get_if<Activation<float>>(&operation.function))
                        kernels.activate(*function, size, a, out);
                    else
                        kernels.binary(std::get<Binary>(operation.function), size, a, a_step, b, b_step, out);
                    if (is_last && is_number) std::fill_n(out, count, *out);
                    values[inputs + i] = {out, is_number ? 0 : 1};
                }
                if (in_place) continue;
                const float* const result = values[inputs + placed.size() - 1].first;
                for (Size k = 0; k < count; k++) y[(first + k) * step[inputs]] = result[k];
            }
        });
    });
}

void Plan::fused(const FusedOperations& operations, std::span<const View> views) {
    for (const View& view : views) check(view, DType::float32);
    if (Size(views.size()) != operations.inputs + 1) throw std::invalid_argument("a fused step lacks views");
    switch (operations.inputs) {
        case 1: return add_fused<1>(operations, views);
        case 2: return add_fused<2>(operations, views);
        case 3: return add_fused<3>(operations, views);
        case 4: return add_fused<4>(operations, views);
        case 5: return add_fused<5>(operations, views);
        case 6: return add_fused<6>(operations, views);
        case 7: return add_fused<7>(operations, views);
    }
}

}  // namespace onward
