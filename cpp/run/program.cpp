// Reads programs, and makes plans of them for the sizes of a call.
#include "run/program.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <span>
#include <stdexcept>

#include "platform/dispatch.h"

namespace onward {

namespace {

constexpr Size alignment = 64;  // bytes in a cache line

// ---- Steps: the methods of Plan, called with their arguments in order ----------------------------------------------

// What steps are read from, and the memory that they keep.
struct Reader {
    Words& words;
    Memory& memory;
    std::deque<FusedOperations>& operations;

    template <class T>
    std::span<const T> list() {
        const Size n = words.count();
        T* const items = memory.take<T>(n);
        for (Size i = 0; i < n; i++) items[i] = words.read<T>();
        return {items, size_t(n)};
    }
};

// An argument of a step; `at` returns it for the sizes of a call.
template <class T>
struct Argument {
    std::decay_t<T> value;
    explicit Argument(Reader& reader) : value(reader.words.read<std::decay_t<T>>()) {}
    const std::decay_t<T>& at(const Program::Sizes&) const { return value; }
};

template <>
struct Argument<const View&> {
    Program::SizedView value;
    explicit Argument(Reader& reader) : value(reader.words, reader.memory) {}
    View at(const Program::Sizes& sizes) const { return value.at(sizes); }
};

template <>
struct Argument<const View*> {
    struct Pointer {
        std::optional<View> view;
        operator const View*() const { return view ? &*view : nullptr; }
    };
    std::optional<Program::SizedView> value;
    explicit Argument(Reader& reader) {
        if (!reader.words.skips_none()) value.emplace(reader.words, reader.memory);
    }
    Pointer at(const Program::Sizes& sizes) const { return {value ? std::optional(value->at(sizes)) : std::nullopt}; }
};

// Numbers that do not depend on the sizes are evaluated once.
template <>
struct Argument<std::span<const Size>> {
    std::span<const Number> numbers;
    bool is_sized;
    explicit Argument(Reader& reader)
        : numbers(reader.list<Number>()),
          is_sized(std::any_of(numbers.begin(), numbers.end(), [](Number number) { return number.is_entry(); })) {}
    std::span<const Size> at(const Program::Sizes& sizes) const {
        static_assert(sizeof(Number) == sizeof(Size));
        if (!is_sized) return {(const Size*)numbers.data(), numbers.size()};
        Size* const found = sizes.memory.take<Size>(Size(numbers.size()));
        for (size_t i = 0; i < numbers.size(); i++) found[i] = numbers[i].at(sizes.values);
        return {found, numbers.size()};
    }
};

template <>
struct Argument<Size> {
    Number value;
    explicit Argument(Reader& reader) : value(reader.words.read<Number>()) {}
    Size at(const Program::Sizes& sizes) const { return value.at(sizes.values); }
};

template <>
struct Argument<const char*> {
    const char* value;
    explicit Argument(Reader& reader) {
        const auto text = reader.words.read<std::string>();
        const size_t size = text.size() + 1;
        value = (const char*)std::memcpy(reader.memory.take<char>(Size(size)), text.c_str(), size);
    }
    const char* at(const Program::Sizes&) const { return value; }
};

template <class T>
struct Argument<const std::optional<T>&> {
    std::optional<T> value;
    explicit Argument(Reader& reader) {
        if (!reader.words.skips_none()) value = reader.words.read<T>();
    }
    const std::optional<T>& at(const Program::Sizes&) const { return value; }
};

template <class T>
struct WeightsArgument {
    const T* value;
    explicit WeightsArgument(Reader& reader) : value(&reader.words.read<T>()) {}
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

template <>
struct Argument<const FusedOperations&> {
    const FusedOperations* value;
    explicit Argument(Reader& reader) {
        std::vector<ElementwiseOperation> operations;
        for (Size n = reader.words.count(); n--;) {
            const auto kind = reader.words.read<std::string>();
            ElementwiseOperation operation{};
            if (kind == "activate") operation.function = reader.words.read<Activation<float>>();
            else if (kind == "unary") operation.function = reader.words.read<Unary>();
            else operation.function = reader.words.read<Binary>();
            operation.a = reader.words.read<Size>(), operation.b = reader.words.read<Size>();
            operations.push_back(operation);
        }
        Memory unused;
        Size views = 0;
        for (Words ahead = reader.words; !ahead.at_end(); views++) Program::SizedView(ahead, unused);
        value = &reader.operations.emplace_back(std::move(operations), views - 1);
    }
    const FusedOperations& at(const Program::Sizes&) const { return *value; }
};

// The views up to the end of a step.
template <>
struct Argument<std::span<const View>> {
    std::span<const Program::SizedView> views;
    explicit Argument(Reader& reader) {
        constexpr Size most = FusedOperations::most_inputs + 1;
        auto* const found = reader.memory.take<Program::SizedView>(most);
        Size n = 0;
        for (; !reader.words.at_end(); n++) {
            if (n == most) throw std::out_of_range("a step has too many views");
            new (found + n) Program::SizedView(reader.words, reader.memory);
        }
        views = {found, size_t(n)};
    }
    std::span<const View> at(const Program::Sizes& sizes) const {
        View* const found = sizes.memory.take<View>(Size(views.size()));
        for (size_t i = 0; i < views.size(); i++) new (found + i) View(views[i].at(sizes));
        return {found, views.size()};
    }
};

template <class... Arguments>
class StepOf : public Program::Step {
public:
    StepOf(void (Plan::*step)(Arguments...), Reader& reader)
        : step(step), arguments{Argument<Arguments>(reader)...} {}  // braces: from left to right
    void add(Plan& plan, const Program::Sizes& sizes) const override {
        std::apply([&](const auto&... each) { (plan.*step)(each.at(sizes)...); }, arguments);
    }

private:
    void (Plan::*step)(Arguments...);
    std::tuple<Argument<Arguments>...> arguments;
};

using AnyStep = const Program::Step*;

template <class... Arguments>
AnyStep read(void (Plan::*step)(Arguments...), Reader& reader) {
    return new (reader.memory.take<StepOf<Arguments...>>()) StepOf<Arguments...>(step, reader);
}

template <auto step>
AnyStep read(Reader& reader) {
    return read(step, reader);
}

constexpr std::pair<const char*, AnyStep (*)(Reader&)> names[] = {
    {"copy", read<&Plan::copy>}, {"fill_border", read<&Plan::fill_border>}, {"gather", read<&Plan::gather>},
    {"take", read<&Plan::take>}, {"put", read<&Plan::put>}, {"where", read<&Plan::where>}, {"cast", read<&Plan::cast>},
    {"numbers", read<&Plan::numbers>}, {"range", read<&Plan::range>},
    {"activate", read<&Plan::activate>}, {"unary", read<&Plan::unary>}, {"binary", read<&Plan::binary>},
    {"fused", read<&Plan::fused>}, {"compare", read<&Plan::compare>}, {"window", read<&Plan::window>},
    {"reduce", read<&Plan::reduce>}, {"accumulate", read<&Plan::accumulate>}, {"top", read<&Plan::top>},
    {"filter", read<&Plan::filter>}, {"fourier", read<&Plan::fourier>},
    {"softmax", read<&Plan::softmax>}, {"standardize", read<&Plan::standardize>}, {"product", read<&Plan::product>},
    {"matmul", read<&Plan::matmul>}, {"quantize_dynamically", read<&Plan::quantize_dynamically>},
    {"quantize", read<&Plan::quantize>}, {"dequantize", read<&Plan::dequantize>},
    {"integer_product", read<&Plan::integer_product>}, {"recurrent", read<&Plan::recurrent>},
    {"masked_steps", read<&Plan::masked_steps>}, {"quantized_lstm", read<&Plan::quantized_lstm>},
    {"rescale", read<&Plan::rescale>}, {"lookup", read<&Plan::lookup>},
    {"reduce_integers", read<&Plan::reduce_integers>}, {"fixed_reciprocal", read<&Plan::fixed_reciprocal>},
};

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
    for (Size count = words.count(); count--;) locations.emplace_back(words, memory);
    for (Size count = words.count(); count--;) {
        Words part = words.part();
        const auto make = lookup(names, part.read<std::string>());
        Reader reader{part, memory, operations};
        steps.push_back(make(reader));
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
        if (size < 0) throw std::invalid_argument("an array has a negative size");
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
