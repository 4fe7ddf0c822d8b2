// Reads programs, and makes plans of them for the sizes of a call.
#include "run/program.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "platform/dispatch.h"
#include "run/program_steps.h"

namespace onward {

namespace {

constexpr Size alignment = 64;  // bytes in a cache line

}  // namespace

Program::SizedView::SizedView(Words& words, Memory& memory) : space(words.read<Size>()) {
    const auto offset = words.read<Number>();
    const auto shape = words.list<Number>(), strides = words.list<Number>();
    if (shape.size() > Axes::most || shape.size() != strides.size())
        throw std::out_of_range("a view has too many axes, or lacks strides");
    axes = int32_t(shape.size()), dtype = words.read<DType>();
    auto* const found = memory.take<Number>(1 + 2 * Size(axes));
    found[0] = offset;
    std::copy(strides.begin(), strides.end(), std::copy(shape.begin(), shape.end(), found + 1));
    numbers = found;
}

View Program::SizedView::at(const Sizes& sizes) const {
    View view{space, numbers[0].at(sizes.values), {}, {}, dtype};
    for (int32_t axis = 0; axis < axes; axis++) {
        view.shape.push_back(numbers[1 + axis].at(sizes.values));
        view.strides.push_back(numbers[1 + axes + axis].at(sizes.values));
    }
    if (space < 0) {
        if (-1 - space >= sizes.array_count) throw std::out_of_range("a view is in an array that does not exist");
        view.space = 0, view.offset += sizes.arrays[-1 - space] / size_of(dtype);
    }
    return view;
}

Program::Program(const int64_t* first, Size n, const std::vector<PackedWeights>& weights)
    : kernels(onward::kernels<float>()) {
    Words words(first, n);
    words.weights = &weights;
    for (Size count = words.count(); count--;) {
        const Size operation = words.read<Size>(), a = words.read<Size>(), b = words.read<Size>();
        const bool has_operands = operation > Size(Operation::number), is_value = a >= 0 && a < Size(values.size());
        if (operation < 0 || operation > Size(Operation::quotient) ||
            (has_operands && (!is_value || b < 0 || b >= Size(values.size()))))
            throw std::out_of_range("a size of a program has an unknown operation or operand");
        values.push_back({Operation(operation), a, b});
    }
    words.entries = Size(values.size());
    for (Size count = words.count(); count--;) {
        const Size condition = words.read<Size>();
        if (condition < 0 || condition > Size(Condition::not_positive))
            throw std::out_of_range("a guard of a program has an unknown condition");
        guards.push_back({Condition(condition), words.read<Number>()});
    }
    spaces = words.list<Number>();
    for (Size count = words.count(); count--;) {
        Array array{words.read<Number>(), 0, 0};
        array.first = words.read<Size>(), array.last = words.read<Size>();
        if (array.first > array.last || (!arrays.empty() && array.first < arrays.back().first))
            throw std::out_of_range("the arrays of a program are not in order");
        arrays.push_back(array);
    }
    for (Size count = words.count(); count--;) outputs.push_back(words.list<Number>());
    if (outputs.size() > spaces.size()) throw std::out_of_range("a program has more outputs than spaces");
    for (Size count = words.count(); count--;) locations.emplace_back(words, memory);
    for (Size count = words.count(); count--;) {
        Words part = words.part();
        steps.push_back(read_step({part, memory, operations}));
    }
    if (!words.at_end()) work = words.read<Number>();
}

void Program::evaluate(const std::vector<Size>& axes, std::vector<Size>& found) const {
    found.clear();
    for (const auto& [operation, a, b] : values) {
        Size value = 0;
        bool overflows = false;
        switch (operation) {
            case Operation::axis: value = axes.at(a); break;
            case Operation::number: value = a; break;
            case Operation::sum: overflows = __builtin_add_overflow(found[a], found[b], &value); break;
            case Operation::product: overflows = __builtin_mul_overflow(found[a], found[b], &value); break;
            case Operation::quotient:
                if (found[b] == 0) throw std::invalid_argument("a size is divided by 0");
                if (found[b] == -1) {  // the quotient of the lowest number overflows, which traps
                    overflows = __builtin_sub_overflow(Size(0), found[a], &value);
                    break;
                }
                value = found[a] / found[b];
                if (found[a] % found[b] && (found[a] < 0) != (found[b] < 0)) value--;
                break;
        }
        if (overflows) throw std::overflow_error("a size is too large");
        found.push_back(value);
    }
}

bool Program::holds(const Size* values) const {
    return std::all_of(guards.begin(), guards.end(), [&](const Guard& guard) {
        const Size value = guard.number.at(values);
        switch (guard.condition) {
            case Condition::zero: return value == 0;
            case Condition::not_zero: return value != 0;
            case Condition::positive: return value > 0;
            case Condition::not_positive: return value <= 0;
        }
        return false;
    });
}

// Arrays that are never used at the same time share memory: each one takes the smallest gap that it fits in; otherwise,
// the arena grows.
Size Program::place(const Size* values, Size* offsets, Memory& memory) const {
    struct Part {
        Size first, stop, last;  // the bytes [first, stop), and the last step that uses them
    };
    Part* const parts = memory.take<Part>(Size(arrays.size()));  // in use, in the order of their bytes
    Part* parts_end = parts;
    Size end = 0;
    for (const Array& array : arrays) {
        const Size size = array.size.at(values);
        if (size < 0 || size > std::numeric_limits<Size>::max() - alignment)
            throw std::invalid_argument("an array has a size below 0, or too large");
        const Size length = ceil_div(size, alignment) * alignment;
        parts_end = std::remove_if(parts, parts_end, [&](const Part& part) { return part.last < array.first; });
        Size first = parts_end == parts ? 0 : parts_end[-1].stop, best = std::numeric_limits<Size>::max(), stop = 0;
        Part* place = parts_end;
        for (Part* part = parts; part != parts_end; stop = part++->stop) {
            const Size gap = part->first - stop;
            if (gap >= length && gap < best) best = gap, first = stop, place = part;
        }
        if (__builtin_add_overflow(first, length, &stop)) throw std::overflow_error("a size is too large");
        std::move_backward(place, parts_end, parts_end + 1);
        *place = {first, stop, array.last}, parts_end++;
        *offsets++ = first;
        end = std::max(end, stop);
    }
    return end;
}

bool Program::bind(const std::vector<Size>& axes, BoundPlan& bound) const {
    thread_local std::vector<Size> found;
    evaluate(axes, found);
    const Size* const values = found.data();
    if (!holds(values)) return false;
    std::vector<Size>& bytes = bound.plan.restart();
    Memory& kept = bound.plan.memory();
    auto* const offsets = kept.take<Size>(Size(arrays.size()));
    bound.axes = axes, bound.work = work.at(values);
    bound.arena_size = place(values, offsets, kept);
    bytes.push_back(bound.arena_size);
    for (const Number space : spaces) bytes.push_back(space.at(values));
    bound.memory = bound.arena_size, bound.has_fitted = false;
    for (auto space = bytes.end() - std::ptrdiff_t(outputs.size()); space != bytes.end(); space++)
        if (*space < 0 || __builtin_add_overflow(bound.memory, *space, &bound.memory))
            bound.memory = std::numeric_limits<Size>::max();
    bound.outputs.clear(), bound.locations.clear();
    for (const auto& shape : outputs) {
        Axes& sizes = bound.outputs.emplace_back();
        for (const Number size : shape) sizes.push_back(size.at(values));
    }
    const Sizes sizes{values, offsets, Size(arrays.size()), kept};
    for (const SizedView& view : locations) bound.locations.push_back(view.at(sizes));
    for (const Step* step : steps) step->add(bound.plan, sizes);
    return true;
}

}  // namespace onward
