// The Python class Plan: a whole model, built step by step.
#include "bind/plan.h"

#include "bind/layers.h"
#include "bind/module.h"

namespace python {

namespace {

using onward::View;

using ViewIn = std::tuple<Size, Size, std::vector<Size>, std::vector<Size>, std::string>;

View view_of(const ViewIn& view) {
    const auto& [space, offset, shape, strides, dtype] = view;
    return {space, offset, shape, strides, onward::lookup(onward::dtypes, dtype)};
}

View optional_view(const std::optional<ViewIn>& view) { return view ? view_of(*view) : View{}; }

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

// Releases the GIL while the steps run.
void run(const Plan& plan, const nb::list& arrays, Size first, Size last) {
    const std::vector<Size>& sizes = plan.core.sizes();
    if (arrays.size() != sizes.size()) throw nb::value_error("a plan needs one array for each space");
    std::vector<std::byte*> spaces(sizes.size());
    for (size_t i = 0; i < spaces.size(); i++) {
        Py_buffer view;
        if (PyObject_GetBuffer(arrays[i].ptr(), &view, PyBUF_ND)) nb::raise_python_error();
        const bool fits = view.len >= sizes[i];
        spaces[i] = (std::byte*)view.buf;
        PyBuffer_Release(&view);
        if (!fits) throw nb::value_error("an array is smaller than the space that it stands for");
    }
    const nb::gil_scoped_release release;
    plan.core.run(spaces.data(), first, last);
}

void product(Plan& plan, const nb::object& matrix, const ViewIn& x, Size row_axes, const std::optional<ActivationIn>& f,
             const ViewIn& y) {
    const auto* const W = std::get_if<onward::Dense<float>>(&nb::cast<const Dense&>(matrix).core);
    if (!W) throw nb::value_error("plans compute in float32");
    plan.core.product(*W, view_of(x), row_axes, f ? std::optional(activation_of<float>(*f)) : std::nullopt,
                      view_of(y));
    plan.weights.push_back(matrix);
}

void integer_product(Plan& plan, const nb::object& matrix, const ViewIn& x, Size row_axes, const ViewIn& zero_point,
                     const std::optional<ViewIn>& scale, const std::optional<ViewIn>& bias, const ViewIn& y) {
    const View scale_view = optional_view(scale), bias_view = optional_view(bias);
    plan.core.integer_product(nb::cast<const IntegerMatrix&>(matrix).core, view_of(x), row_axes, view_of(zero_point),
                              scale ? &scale_view : nullptr, bias ? &bias_view : nullptr, view_of(y));
    plan.weights.push_back(matrix);
}

using OperationIn = std::tuple<std::string, std::variant<std::string, ActivationIn>, Size, Size>;

// The views are those of the inputs and, as the last one, that of the output.
void fused(Plan& plan, const std::vector<OperationIn>& operations, const nb::args& views) {
    std::vector<onward::ElementwiseOperation> converted;
    for (const auto& [kind, function, a, b] : operations) {
        if (kind == "activate")
            converted.push_back({activation_of<float>(std::get<ActivationIn>(function)), a, b});
        else if (kind == "unary")
            converted.push_back({onward::lookup(onward::unaries, std::get<std::string>(function)), a, b});
        else
            converted.push_back({onward::lookup(onward::binaries, std::get<std::string>(function)), a, b});
    }
    std::vector<View> inputs;
    for (const nb::handle view : views) inputs.push_back(view_of(nb::cast<ViewIn>(view)));
    if (inputs.empty()) throw nb::value_error("a fused step needs an output");
    const View y = inputs.back();
    inputs.pop_back();
    plan.core.fused(converted, inputs, y);
}

void recurrent(Plan& plan, const nb::object& layer, const ViewIn& x, const std::optional<ViewIn>& h0,
               const std::optional<ViewIn>& c0, const ViewIn& y, const ViewIn& h_n, const std::optional<ViewIn>& c_n,
               const std::optional<ViewIn>& lengths, const std::string& name) {
    const auto* const stack = std::get_if<onward::Stack<float>>(&nb::cast<const Stack&>(layer).core);
    if (!stack) throw nb::value_error("plans compute in float32");
    const View h = optional_view(h0), c = optional_view(c0), last_c = optional_view(c_n), n = optional_view(lengths);
    plan.core.recurrent(*stack, view_of(x), h0 ? &h : nullptr, c0 ? &c : nullptr, view_of(y), view_of(h_n),
                        c_n ? &last_c : nullptr, lengths ? &n : nullptr, name);
    plan.weights.push_back(layer);
}

void quantized_lstm(Plan& plan, const nb::object& lstm, const ViewIn& x, const std::optional<ViewIn>& h0,
                    const std::optional<ViewIn>& c0, const ViewIn& y, const ViewIn& h_n, const ViewIn& c_n) {
    const View h = optional_view(h0), c = optional_view(c0);
    plan.core.quantized_lstm(nb::cast<const QuantizedLSTM&>(lstm).core, view_of(x), h0 ? &h : nullptr,
                             c0 ? &c : nullptr, view_of(y), view_of(h_n), view_of(c_n));
    plan.weights.push_back(lstm);
}

}  // namespace

void bind_plan(nb::module_& m) {
    nb::class_<IntegerMatrix>(m, "IntegerMatrix",
                              "A packed matrix (O, K) of numbers from -128 to 127, and a zero point for each row.")
        .def(nb::init<const In&, const In&>(), "q"_a, "zero_points"_a);
    nb::class_<QuantizedLSTM>(m, "QuantizedLSTM",
                              "The packed weights of an LSTM layer that quantizes its inputs and states dynamically.")
        .def(nb::init<const std::vector<QuantizedDirectionIn>&, const std::vector<OptionsIn>&, bool>(), "weights"_a,
             "options"_a, "reverse"_a);
    nb::class_<Plan>(m, "Plan",
                     "Steps over views, (space, offset, shape, strides, dtype), of an arena and a call's arrays.")
        .def(nb::init<const std::vector<Size>&>(), "sizes"_a)
        .def_prop_ro("lanes", [](const Plan& plan) { return plan.core.lanes(); }, "Floats in a vector.")
        .def("__len__", [](const Plan& plan) { return plan.core.size(); })
        .def("copy", [](Plan& plan, const ViewIn& x, const ViewIn& y) { plan.core.copy(view_of(x), view_of(y)); })
        .def("fill_border", [](Plan& plan, const ViewIn& x, const ViewIn& y, const std::vector<Size>& low,
                               const std::vector<Size>& high) {
            plan.core.fill_border(view_of(x), view_of(y), low, high);
        })
        .def("gather", [](Plan& plan, const ViewIn& x, const std::vector<Size>& table, const ViewIn& y) {
            plan.core.gather(view_of(x), table, view_of(y));
        })
        .def("take", [](Plan& plan, const ViewIn& x, const ViewIn& indices, const ViewIn& y, const std::string& name) {
            plan.core.take(view_of(x), view_of(indices), view_of(y), name);
        })
        .def("where", [](Plan& plan, const ViewIn& condition, const ViewIn& a, const ViewIn& b, const ViewIn& y) {
            plan.core.where(view_of(condition), view_of(a), view_of(b), view_of(y));
        })
        .def("cast", [](Plan& plan, const ViewIn& x, const ViewIn& y) { plan.core.cast(view_of(x), view_of(y)); })
        .def("activate", [](Plan& plan, const ActivationIn& function, const ViewIn& x, const ViewIn& y) {
            plan.core.activate(activation_of<float>(function), view_of(x), view_of(y));
        })
        .def("unary", [](Plan& plan, const std::string& operation, const ViewIn& x, const ViewIn& y) {
            plan.core.unary(onward::lookup(onward::unaries, operation), view_of(x), view_of(y));
        })
        .def("binary", [](Plan& plan, const std::string& operation, const ViewIn& a, const ViewIn& b, const ViewIn& y) {
            plan.core.binary(onward::lookup(onward::binaries, operation), view_of(a), view_of(b), view_of(y));
        })
        .def("fused", &fused, nb::sig("def fused(self, operations: list, *views: tuple) -> None"))
        .def("compare", [](Plan& plan, const std::string& operation, const ViewIn& a, const ViewIn& b,
                           const ViewIn& y) {
            plan.core.compare(onward::lookup(onward::comparisons, operation), view_of(a), view_of(b), view_of(y));
        })
        .def("window", [](Plan& plan, const std::string& operation, const ViewIn& x,
                          const std::optional<ViewIn>& weights, const std::optional<ViewIn>& bias, const ViewIn& y) {
            const View w = weights ? view_of(*weights) : View{}, b = bias ? view_of(*bias) : View{};
            plan.core.window(onward::lookup(onward::windows, operation), view_of(x), weights ? &w : nullptr,
                             bias ? &b : nullptr, view_of(y));
        }, "operation"_a, "x"_a, "weights"_a.none(), "bias"_a.none(), "y"_a)
        .def("reduce", [](Plan& plan, const std::string& operation, const ViewIn& x, const ViewIn& y) {
            plan.core.reduce(onward::lookup(onward::reductions, operation), view_of(x), view_of(y));
        })
        .def("accumulate", [](Plan& plan, const ViewIn& x, const ViewIn& y) {
            plan.core.accumulate(view_of(x), view_of(y));
        })
        .def("top", [](Plan& plan, bool largest, bool nan_first, const ViewIn& x, const ViewIn& values,
                        const ViewIn& indices) {
            plan.core.top(largest, nan_first, view_of(x), view_of(values), view_of(indices));
        })
        .def("softmax", [](Plan& plan, bool logarithm, const ViewIn& x, const ViewIn& y) {
            plan.core.softmax(logarithm, view_of(x), view_of(y));
        })
        .def("standardize", [](Plan& plan, float epsilon, const ViewIn& x, const ViewIn& y) {
            plan.core.standardize(epsilon, view_of(x), view_of(y));
        })
        .def("product", &product, "W"_a, "x"_a, "row_axes"_a,
             "function"_a.none(), "y"_a)
        .def("matmul", [](Plan& plan, const ViewIn& a, const ViewIn& b, const ViewIn& y) {
            plan.core.matmul(view_of(a), view_of(b), view_of(y));
        })
        .def("quantize_dynamically", [](Plan& plan, const ViewIn& x, const ViewIn& y, const ViewIn& scale,
                                        const ViewIn& zero_point) {
            plan.core.quantize_dynamically(view_of(x), view_of(y), view_of(scale), view_of(zero_point));
        })
        .def("quantize", [](Plan& plan, const ViewIn& x, const ViewIn& scale, const ViewIn& zero, const ViewIn& y) {
            plan.core.quantize(view_of(x), view_of(scale), view_of(zero), view_of(y));
        })
        .def("dequantize", [](Plan& plan, const ViewIn& x, const ViewIn& scale, const ViewIn& zero, const ViewIn& y) {
            plan.core.dequantize(view_of(x), view_of(scale), view_of(zero), view_of(y));
        })
        .def("integer_product", &integer_product, "W"_a, "x"_a, "row_axes"_a, "zero_point"_a, "scale"_a.none(),
             "bias"_a.none(), "y"_a)
        .def("quantized_lstm", &quantized_lstm, "lstm"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "y"_a, "h_n"_a,
             "c_n"_a)
        .def("recurrent", &recurrent, "stack"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "y"_a, "h_n"_a,
             "c_n"_a.none(), "lengths"_a.none(), "name"_a)
        .def("masked_steps", [](Plan& plan, const ViewIn& mask, const ViewIn& counted, const ViewIn& lengths,
                                const ViewIn& sources) {
            plan.core.masked_steps(view_of(mask), view_of(counted), view_of(lengths), view_of(sources));
        })
        .def("run", &run, "arrays"_a, "first"_a, "last"_a,
             "Run the steps [first, last) on the arena, the constants, the inputs and the outputs.");
}

}  // namespace python
