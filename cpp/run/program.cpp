// Reads programs, and makes plans of them for the sizes of a call.
#include "run/program.h"

#include <algorithm>
#include <limits>
#include <stdexcept>

#include "platform/dispatch.h"

namespace onward {

namespace {

constexpr Size alignment = 64;  // bytes in a cache line

// ---- Steps: the methods of Plan, called with their arguments in order ----------------------------------------------

// An argument of a step; `at` returns it for the sizes of a call.
template <class T>
struct Argument {
    std::decay_t<T> value;
    explicit Argument(Words& words) : value(words.read<std::decay_t<T>>()) {}
    const std::decay_t<T>& at(const Program::Sizes&) const { return value; }
};

template <>
struct Argument<const View&> {
    Program::SizedView value;
    explicit Argument(Words& words) : value(words) {}
    View at(const Program::Sizes& sizes) const { return value.at(sizes); }
};

template <>
struct Argument<const View*> {
    struct Pointer {
        std::optional<View> view;
        operator const View*() const { return view ? &*view : nullptr; }
    };
    std::optional<Program::SizedView> value;
    explicit Argument(Words& words) {
        if (!words.skips_none()) value.emplace(words);
    }
    Pointer at(const Program::Sizes& sizes) const { return {value ? std::optional(value->at(sizes)) : std::nullopt}; }
};

struct SizedNumbers {
    std::vector<Number> numbers;
    explicit SizedNumbers(Words& words) : numbers(words.list<Number>()) {}
    std::vector<Size> at(const Program::Sizes& sizes) const {
        std::vector<Size> found;
        found.reserve(numbers.size());
        for (const Number number : numbers) found.push_back(number.at(sizes.values));
        return found;
    }
};
template <>
struct Argument<std::vector<Size>> : SizedNumbers { using SizedNumbers::SizedNumbers; };
template <>
struct Argument<const std::vector<Size>&> : SizedNumbers { using SizedNumbers::SizedNumbers; };

template <>
struct Argument<Size> {
    Number value;
    explicit Argument(Words& words) : value(words.read<Number>()) {}
    Size at(const Program::Sizes& sizes) const { return value.at(sizes.values); }
};

template <>
struct Argument<const std::optional<Activation<float>>&> {
    std::optional<Activation<float>> value;
    explicit Argument(Words& words) {
        if (!words.skips_none()) value = words.read<Activation<float>>();
    }
    const std::optional<Activation<float>>& at(const Program::Sizes&) const { return value; }
};

template <class T>
struct WeightsArgument {
    const T* value;
    explicit WeightsArgument(Words& words) : value(&words.read<T>()) {}
    const T& at(const Program::Sizes&) const { return *value; }
};
template <>
struct Argument<const Dense<float>&> : WeightsArgument<Dense<float>> { using WeightsArgument::WeightsArgument; };
template <>
struct Argument<const Stack<float>&> : WeightsArgument<Stack<float>> { using WeightsArgument::WeightsArgument; };
template <>
struct Argument<const IntegerMatrix&> : WeightsArgument<IntegerMatrix> { using WeightsArgument::WeightsArgument; };
template <>
struct Argument<const QuantizedLSTM&> : WeightsArgument<QuantizedLSTM> { using WeightsArgument::WeightsArgument; };

using AnyStep = std::unique_ptr<const Program::Step>;

template <class... Arguments>
class StepOf : public Program::Step {
public:
    StepOf(void (Plan::*step)(Arguments...), Words& words)
        : step(step), arguments{Argument<Arguments>(words)...} {}  // braces: from left to right
    void add(Plan& plan, const Program::Sizes& sizes) const override {
        std::apply([&](const auto&... each) { (plan.*step)(each.at(sizes)...); }, arguments);
    }

private:
    void (Plan::*step)(Arguments...);
    std::tuple<Argument<Arguments>...> arguments;
};

template <class... Arguments>
AnyStep read(void (Plan::*step)(Arguments...), Words& words) {
    return std::make_unique<const StepOf<Arguments...>>(step, words);
}

template <auto step>
AnyStep read(Words& words) {
    return read(step, words);
}

class Fused : public Program::Step {
public:
    explicit Fused(Words& words);
    void add(Plan& plan, const Program::Sizes& sizes) const override {
        std::vector<View> inputs;
        for (size_t i = 0; i + 1 < views.size(); i++) inputs.push_back(views[i].at(sizes));
        plan.fused(operations, inputs, views.back().at(sizes));
    }

private:
    std::vector<ElementwiseOperation> operations;
    std::vector<Program::SizedView> views;
};

Fused::Fused(Words& words) {
    for (Size n = words.count(); n--;) {
        const auto kind = words.read<std::string>();
        ElementwiseOperation operation{};
        if (kind == "activate") operation.function = words.read<Activation<float>>();
        else if (kind == "unary") operation.function = words.read<Unary>();
        else operation.function = words.read<Binary>();
        operation.a = words.read<Size>(), operation.b = words.read<Size>();
        operations.push_back(operation);
    }
    do views.emplace_back(words);
    while (!words.at_end());
}

AnyStep read_fused(Words& words) { return std::make_unique<const Fused>(words); }

constexpr std::pair<const char*, AnyStep (*)(Words&)> names[] = {
    {"copy", read<&Plan::copy>}, {"fill_border", read<&Plan::fill_border>}, {"gather", read<&Plan::gather>},
    {"take", read<&Plan::take>}, {"where", read<&Plan::where>}, {"cast", read<&Plan::cast>},
    {"numbers", read<&Plan::numbers>}, {"range", read<&Plan::range>},
    {"activate", read<&Plan::activate>}, {"unary", read<&Plan::unary>}, {"binary", read<&Plan::binary>},
    {"fused", read_fused}, {"compare", read<&Plan::compare>}, {"window", read<&Plan::window>},
    {"reduce", read<&Plan::reduce>}, {"accumulate", read<&Plan::accumulate>}, {"top", read<&Plan::top>},
    {"softmax", read<&Plan::softmax>}, {"standardize", read<&Plan::standardize>}, {"product", read<&Plan::product>},
    {"matmul", read<&Plan::matmul>}, {"quantize_dynamically", read<&Plan::quantize_dynamically>},
    {"quantize", read<&Plan::quantize>}, {"dequantize", read<&Plan::dequantize>},
    {"integer_product", read<&Plan::integer_product>}, {"recurrent", read<&Plan::recurrent>},
    {"masked_steps", read<&Plan::masked_steps>}, {"quantized_lstm", read<&Plan::quantized_lstm>},
};

}  // namespace

Program::SizedView::SizedView(Words& words)
    : space(words.read<Size>()), offset(words.read<Number>()), shape(words.list<Number>()),
      strides(words.list<Number>()), dtype(words.read<DType>()) {}

View Program::SizedView::at(const Sizes& sizes) const {
    View view{space, offset.at(sizes.values), {}, {}, dtype};
    view.shape.reserve(shape.size()), view.strides.reserve(strides.size());
    for (const Number size : shape) view.shape.push_back(size.at(sizes.values));
    for (const Number stride : strides) view.strides.push_back(stride.at(sizes.values));
    if (space < 0) view.space = 0, view.offset += sizes.arrays.at(-1 - space) / size_of(dtype);
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
    for (Size count = words.count(); count--;) locations.emplace_back(words);
    for (Size count = words.count(); count--;) {
        Words part = words.part();
        steps.push_back(lookup(names, part.read<std::string>())(part));
    }
}

std::vector<Size> Program::values_of(const std::vector<Size>& axes) const {
    std::vector<Size> found;
    found.reserve(values.size());
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
                value = found[a] / found[b];
                if (found[a] % found[b] && (found[a] < 0) != (found[b] < 0)) value--;
                break;
        }
        if (overflows) throw std::overflow_error("a size is too large");
        found.push_back(value);
    }
    return found;
}

bool Program::holds(const std::vector<Size>& values) const {
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
Size Program::place(Sizes& sizes) const {
    struct Part {
        Size first, stop, last;  // the bytes [first, stop), and the last step that uses them
    };
    std::vector<Part> parts;  // in use, in the order of their bytes
    Size end = 0;
    for (const Array& array : arrays) {
        const Size size = array.size.at(sizes.values);
        if (size < 0) throw std::invalid_argument("an array has a negative size");
        const Size length = ceil_div(size, alignment) * alignment;
        std::erase_if(parts, [&](const Part& part) { return part.last < array.first; });
        Size first = parts.empty() ? 0 : parts.back().stop, best = std::numeric_limits<Size>::max(), stop = 0;
        size_t place = parts.size();
        for (size_t i = 0; i < parts.size(); stop = parts[i++].stop) {
            const Size gap = parts[i].first - stop;
            if (gap >= length && gap < best) best = gap, first = stop, place = i;
        }
        if (__builtin_add_overflow(first, length, &stop)) throw std::overflow_error("a size is too large");
        parts.insert(parts.begin() + place, {first, stop, array.last});
        sizes.arrays.push_back(first);
        end = std::max(end, stop);
    }
    return end;
}

std::unique_ptr<BoundPlan> Program::bind(std::vector<Size> axes) const {
    Sizes sizes{values_of(axes), {}};
    if (!holds(sizes.values)) return nullptr;
    std::vector<Size> bytes{place(sizes)};
    for (const Number space : spaces) bytes.push_back(space.at(sizes.values));
    auto bound = std::make_unique<BoundPlan>(kernels, std::move(axes), std::move(bytes));
    for (const auto& shape : outputs) {
        auto& found = bound->outputs.emplace_back();
        for (const Number size : shape) found.push_back(size.at(sizes.values));
    }
    for (const SizedView& view : locations) bound->locations.push_back(view.at(sizes));
    for (const auto& step : steps) step->add(bound->plan, sizes);
    return bound;
}

}  // namespace onward
