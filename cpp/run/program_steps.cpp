// The arguments of the steps of programs, and the names of the steps.
#include "run/program_steps.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <tuple>

namespace onward {

namespace {

constexpr int most_loops = 16;  // inside each other

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

template <>
struct Argument<Size> {
    Number value;
    explicit Argument(Reader& reader) : value(reader.words.read<Number>()) {}
    Size at(const Program::Sizes& sizes) const { return value.at(sizes.values); }
};

template <>
struct Argument<const OutputStage&> {
    Argument<const View*> row_scale, scale, bias, multiplier, shift;
    Argument<Size> zero_point, low, high;
    explicit Argument(Reader& reader)
        : row_scale(reader), scale(reader), bias(reader), multiplier(reader), shift(reader), zero_point(reader),
          low(reader), high(reader) {}
    OutputStage at(const Program::Sizes& sizes) const {
        return {row_scale.at(sizes).view, scale.at(sizes).view, bias.at(sizes).view, multiplier.at(sizes).view,
                shift.at(sizes).view, zero_point.at(sizes), low.at(sizes), high.at(sizes)};
    }
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
struct Argument<const Dense<double>&> : WeightsArgument<Dense<double>> { using WeightsArgument::WeightsArgument; };
template <>
struct Argument<const AnyStack&> : WeightsArgument<AnyStack> { using WeightsArgument::WeightsArgument; };
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

// The items of a list for the sizes of a call.
template <class T, class Item, class Function>
std::span<const T> evaluated(const Program::Sizes& sizes, std::span<const Item> list, Function f) {
    T* const found = sizes.memory.take<T>(Size(list.size()));
    for (size_t i = 0; i < list.size(); i++) new (found + i) T(f(list[i]));
    return {found, list.size()};
}

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
        return evaluated<View>(sizes, views, [&](const Program::SizedView& view) { return view.at(sizes); });
    }
};

template <>
struct Argument<std::span<const Plan::Slices>> {
    struct Sized {
        Program::SizedView whole;
        Size axis;
        bool backward;
    };
    std::span<const Sized> list;
    explicit Argument(Reader& reader)
        : list(reader.each<Sized>([&] {
              const Program::SizedView whole(reader.words, reader.memory);
              const auto axis = reader.words.read<Size>();
              return Sized{whole, axis, reader.words.read<bool>()};
          })) {}
    std::span<const Plan::Slices> at(const Program::Sizes& sizes) const {
        return evaluated<Plan::Slices>(sizes, list, [&](const Sized& each) {
            return Plan::Slices{each.whole.at(sizes), each.axis, each.backward};
        });
    }
};

template <>
struct Argument<std::span<const Plan::Carry>> {
    struct Sized {
        Program::SizedView initial, result, spare;
    };
    std::span<const Sized> list;
    explicit Argument(Reader& reader)
        : list(reader.each<Sized>([&] {  // braces: from left to right
              return Sized{{reader.words, reader.memory}, {reader.words, reader.memory}, {reader.words, reader.memory}};
          })) {}
    std::span<const Plan::Carry> at(const Program::Sizes& sizes) const {
        return evaluated<Plan::Carry>(sizes, list, [&](const Sized& each) {
            return Plan::Carry{each.initial.at(sizes), each.result.at(sizes), each.spare.at(sizes)};
        });
    }
};

template <>
struct Argument<const LoopBody&> {
    struct Steps : LoopBody {
        std::span<const AnyStep> steps;
        const Program::Sizes& sizes;
        Steps(std::span<const AnyStep> steps, const Program::Sizes& sizes) : steps(steps), sizes(sizes) {}
        void add(Plan& plan) const override {
            for (const AnyStep step : steps) step->add(plan, sizes);
        }
    };
    std::span<const AnyStep> steps;
    explicit Argument(Reader& reader) {
        if (reader.depth == most_loops) throw std::out_of_range("too many loops are inside each other");
        steps = reader.each<AnyStep>([&] {
            Words part = reader.words.part();
            return read_step({part, reader.memory, reader.operations, reader.depth + 1});
        });
    }
    Steps at(const Program::Sizes& sizes) const { return {steps, sizes}; }
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

template <class... Arguments>
AnyStep read(void (Plan::*step)(Arguments...), Reader& reader) {
    return new (reader.memory.take<StepOf<Arguments...>>()) StepOf<Arguments...>(step, reader);
}

template <auto step>
AnyStep read(Reader& reader) {
    return read(step, reader);
}

constexpr std::pair<const char*, AnyStep (*)(Reader&)> names[] = {
    {"copy", read<&Plan::copy>}, {"fill_border", read<&Plan::fill_border>},
    {"take", read<&Plan::take>}, {"put", read<&Plan::put>}, {"where", read<&Plan::where>}, {"cast", read<&Plan::cast>},
    {"numbers", read<&Plan::numbers>}, {"range", read<&Plan::range>},
    {"activate", read<&Plan::activate>}, {"unary", read<&Plan::unary>}, {"binary", read<&Plan::binary>},
    {"fused", read<&Plan::fused>}, {"compare", read<&Plan::compare>}, {"window", read<&Plan::window>},
    {"reduce", read<&Plan::reduce>}, {"accumulate", read<&Plan::accumulate>}, {"top", read<&Plan::top>},
    {"filter", read<&Plan::filter>}, {"fourier", read<&Plan::fourier>},
    {"softmax", read<&Plan::softmax>}, {"standardize", read<&Plan::standardize>}, {"product", read<&Plan::product>},
    {"pooled_product", read<&Plan::pooled_product>},
#ifndef ONWARD_NO_FLOAT64
    {"dense", read<&Plan::dense>},
#endif
    {"matmul", read<&Plan::matmul>}, {"grouped_matmul", read<&Plan::grouped_matmul>},
    {"quantize_dynamically", read<&Plan::quantize_dynamically>},
    {"quantize", read<&Plan::quantize>}, {"dequantize", read<&Plan::dequantize>},
    {"integer_product", read<&Plan::integer_product>}, {"recurrent", read<&Plan::recurrent>},
    {"masked_steps", read<&Plan::masked_steps>}, {"quantized_lstm", read<&Plan::quantized_lstm>},
    {"rescale", read<&Plan::rescale>}, {"rescale_once", read<&Plan::rescale_once>},
    {"integer_window", read<&Plan::integer_window>}, {"quantize_rows", read<&Plan::quantize_rows>},
    {"lookup", read<&Plan::lookup>},
    {"reduce_integers", read<&Plan::reduce_integers>}, {"fixed_reciprocal", read<&Plan::fixed_reciprocal>},
    {"linear_attention", read<&Plan::linear_attention>}, {"loop", read<&Plan::loop>},
};

}  // namespace

AnyStep read_step(Reader reader) {
    const auto make = lookup(names, reader.words.read<std::string>());
    return make(reader);
}

}  // namespace onward
