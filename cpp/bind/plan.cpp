// The Python classes Program and Plan: a whole model for all sizes, and for those of a call.
#include "bind/plan.h"

#include <nanobind/stl/shared_ptr.h>

#include <algorithm>
#include <stdexcept>

#include "bind/gil.h"
#include "bind/layers.h"
#include "bind/module.h"
#include "platform/dispatch.h"

namespace python {

namespace {

struct IntegerMatrix {
    const onward::IntegerMatrix core;

    IntegerMatrix(const In& q, const In& zero_points)
        : core(data_of<const int8_t>(q, "q", {-1, -1}),
               data_of<const int32_t>(zero_points, "zero_points", {Size(q.shape(0))}), Size(q.shape(0)),
               Size(q.shape(1))) {}
    IntegerMatrix(const IntegerMatrix&) = delete;
};

using QuantizedDirectionIn = std::tuple<In, In, In, In, In, In, In, OptionalIn>;

// Each direction: W (4*H, I), its scales and zero points (4*H), R (4*H, H) and its own, the bias (4*H), peepholes.
onward::QuantizedLSTM make_quantized_lstm(const std::vector<QuantizedDirectionIn>& arrays,
                                          const std::vector<OptionsIn>& options, bool reverse) {
    if (arrays.empty() || arrays.size() > 2) throw nb::value_error("an LSTM has one or two directions");
    if (!options.empty() && options.size() != arrays.size())
        throw nb::value_error("options must be empty or have one entry per direction");
    const Size I = Size(std::get<0>(arrays[0]).shape(1)), H = Size(std::get<3>(arrays[0]).shape(1));
    auto matrix = [H](const In& q, const In& scale, const In& zero_points, Size K) {
        return onward::Matrix<float>{Format::dynamic, data_of<const int8_t>(q, "q", {4 * H, K}),
                                     data_of<const float>(scale, "scale", {4 * H}),
                                     data_of<const int32_t>(zero_points, "zero_points", {4 * H})};
    };
    std::vector<onward::QuantizedDirection> weights;
    for (const auto& [W, W_scale, W_zero, R, R_scale, R_zero, bias, peephole] : arrays)
        weights.push_back({matrix(W, W_scale, W_zero, I), matrix(R, R_scale, R_zero, H),
                           data_of<const float>(bias, "bias", {4 * H}),
                           data_of<const float>(peephole, "peephole", {3 * H})});
    return {weights, options_of<float>(options), reverse, I, H};
}

struct QuantizedLSTM {
    const onward::QuantizedLSTM core;

    QuantizedLSTM(const std::vector<QuantizedDirectionIn>& arrays, const std::vector<OptionsIn>& options, bool reverse)
        : core(make_quantized_lstm(arrays, options, reverse)) {}
    QuantizedLSTM(const QuantizedLSTM&) = delete;
};

// The weights of the core that a Python object holds.
onward::PackedWeights weights_in(const nb::object& object) {
    auto in_either_precision = [](const auto& core) -> onward::PackedWeights { return &core; };
    if (nb::isinstance<Dense>(object)) return std::visit(in_either_precision, nb::cast<const Dense&>(object).core);
    if (nb::isinstance<Stack>(object)) return std::visit(in_either_precision, nb::cast<const Stack&>(object).core);
    if (nb::isinstance<IntegerMatrix>(object)) return &nb::cast<const IntegerMatrix&>(object).core;
    return &nb::cast<const QuantizedLSTM&>(object).core;
}

std::vector<onward::PackedWeights> packed(const std::vector<nb::object>& weights) {
    std::vector<onward::PackedWeights> packed;
    for (const nb::object& object : weights) packed.push_back(weights_in(object));
    return packed;
}

// A program that keeps alive the weights that its steps use.
std::shared_ptr<const onward::Program> made(const In& words, const std::vector<nb::object>& weights) {
    struct Owner {
        const std::vector<nb::object> weights;
        const onward::Program core;
    };
    const std::shared_ptr<const Owner> owner(
        new Owner{weights, {data_of<const int64_t>(words, "words", {-1}), Size(words.shape(0)), packed(weights)}});
    return {owner, &owner->core};
}

template <class Numbers>
nb::tuple tuple_of(const Numbers& numbers) {
    nb::list items;
    for (const auto number : numbers) items.append(number);
    return nb::tuple(items);
}

// Releases the GIL while the steps run.
void run(const Plan& plan, const nb::list& arrays, Size first, Size last) {
    const std::vector<Size>& sizes = plan.plan.sizes();
    if (arrays.size() + plan.joined != sizes.size()) throw nb::value_error("a plan needs one array for each space");
    std::vector<std::byte*> spaces(sizes.size());
    for (size_t i = 0; i < arrays.size(); i++) {
        Py_buffer view;
        if (PyObject_GetBuffer(arrays[i].ptr(), &view, PyBUF_ND)) nb::raise_python_error();
        const bool fits = view.len >= (i ? sizes[i] : plan.arena_size);
        spaces[i] = (std::byte*)view.buf;
        PyBuffer_Release(&view);
        if (!fits) throw nb::value_error("an array is smaller than the space that it stands for");
    }
    plan.place_joined(spaces);
    const WithoutGil release;
    plan.plan.run(spaces.data(), first, last);
}

}  // namespace

Program::Program(const In& words, const std::vector<nb::object>& weights, size_t joined)
    : Program(made(words, weights), joined) {}

Program::Program(std::shared_ptr<const onward::Program> core, size_t joined)
    : core(std::move(core)), joined(joined),
      plans(*this->core, size_t(std::clamp(most_steps / std::max(size(), Size(1)), Size(8), Size(64)))) {}

std::shared_ptr<Plan> Program::bind(const std::vector<Size>& axes, bool throws) {
    return plans.find(axes, throws, [&](Plan& plan) {
        plan.views.reset();
        bool holds;
        {
            const WithoutGil release;
            holds = core->bind(axes, plan);
        }
        if (!holds) return false;
        if (joined > plan.outputs.size()) throw std::out_of_range("a program has fewer outputs than joined arrays");
        plan.joined = joined;
        for (auto size = plan.plan.sizes().end() - std::ptrdiff_t(plan.joined); size != plan.plan.sizes().end(); size++)
            if (*size < 0 || __builtin_add_overflow(plan.arena_size, Plan::in_lines(*size), &plan.arena_size))
                throw std::overflow_error("a size is too large");
        plan.is_allowed = plan.memory <= free_memory && plan.work <= free_work;
        return true;
    });
}

// The views that the program asks for.
nb::object views_of(Plan& plan) {
    const nb::ft_lock_guard lock(plan.mutex);
    if (!plan.views.is_valid()) {
        nb::list views;
        for (const onward::View& view : plan.locations)
            views.append(nb::make_tuple(view.space, view.offset, tuple_of(view.shape), tuple_of(view.strides)));
        plan.views = std::move(views);
    }
    return plan.views;
}

void bind_plan(nb::module_& m) {
    nb::class_<IntegerMatrix>(m, "IntegerMatrix",
                              "A packed matrix (O, K) of numbers from -128 to 127, and a zero point for each row.")
        .def(nb::init<const In&, const In&>(), "q"_a, "zero_points"_a);
    nb::class_<QuantizedLSTM>(m, "QuantizedLSTM",
                              "The packed weights of an LSTM layer that quantizes its inputs and states dynamically.")
        .def(nb::init<const std::vector<QuantizedDirectionIn>&, const std::vector<OptionsIn>&, bool>(), "weights"_a,
             "options"_a, "reverse"_a);
    nb::class_<Plan>(m, "Plan", "The steps of a program for the sizes of a call.")
        .def_prop_ro("arena_size", [](const Plan& plan) { return plan.arena_size; }, "Bytes.")
        .def_prop_ro("memory", [](const Plan& plan) { return plan.memory; }, "The bytes of the arena and the outputs.")
        .def_prop_ro("outputs", [](const Plan& plan) {
            nb::list shapes;
            for (size_t i = 0; i + plan.joined < plan.outputs.size(); i++) shapes.append(tuple_of(plan.outputs[i]));
            return shapes;
        }, "The shapes of the outputs.")
        .def_prop_ro("views", &views_of, "The views that the program asks for: (space, offset, shape, strides).")
        .def_prop_ro("work", [](const Plan& plan) { return plan.work; }, "Elementary operations, about.")
        .def_rw("is_allowed", &Plan::is_allowed, "Whether calls may take so much memory and work.")
        .def("run", &run, "arrays"_a, "first"_a, "last"_a,
             "Run the steps [first, last) on the arena, the constants, the inputs and the outputs.");
    nb::class_<Program>(m, "Program", "Steps over views whose numbers depend on the sizes of a call.")
        .def(nb::init<const In&, const std::vector<nb::object>&, size_t>(), "words"_a, "weights"_a, "joined"_a = 0)
        .def("__len__", &Program::size)
        .def("bind", &Program::bind, "axes"_a, "throws"_a = false, nb::keep_alive<0, 1>(),
             "Return the plan for these sizes of the axes, or None if the program does not hold for them.");
    m.def("lanes", [] { return onward::kernels<float>().L; }, "Floats in a vector.");
}

}  // namespace python
