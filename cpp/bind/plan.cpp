// The Python class Plan: a whole model, built step by step.
#include "bind/plan.h"

#include "bind/layers.h"
#include "bind/module.h"

namespace python {

namespace {

using onward::View;

using ViewIn = std::tuple<Size, Size, std::vector<Size>, std::vector<Size>, std::string>;

constexpr std::pair<const char*, onward::Unary> unaries[] = {
    {"absolute", onward::Unary::absolute}, {"log", onward::Unary::log}, {"negative", onward::Unary::negative},
    {"reciprocal", onward::Unary::reciprocal}, {"sqrt", onward::Unary::sqrt},
};
constexpr std::pair<const char*, onward::Binary> binaries[] = {
    {"add", onward::Binary::add}, {"subtract", onward::Binary::subtract}, {"multiply", onward::Binary::multiply},
    {"divide", onward::Binary::divide}, {"maximum", onward::Binary::maximum}, {"minimum", onward::Binary::minimum},
};
constexpr std::pair<const char*, onward::Comparison> comparisons[] = {
    {"equal", onward::Comparison::equal}, {"not_equal", onward::Comparison::not_equal},
    {"less", onward::Comparison::less}, {"less_or_equal", onward::Comparison::less_or_equal},
};
constexpr std::pair<const char*, onward::Reduction> reductions[] = {
    {"sum", onward::Reduction::sum}, {"maximum", onward::Reduction::maximum},
};

View view_of(const ViewIn& view) {
    const auto& [space, offset, shape, strides, dtype] = view;
    return {space, offset, shape, strides, lookup(dtypes, dtype)};
}

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

void recurrent(Plan& plan, const nb::object& layer, const ViewIn& x, const std::optional<ViewIn>& h0,
               const std::optional<ViewIn>& c0, const ViewIn& y, const ViewIn& h_n, const std::optional<ViewIn>& c_n) {
    const auto* const stack = std::get_if<onward::Stack<float>>(&nb::cast<const Stack&>(layer).core);
    if (!stack) throw nb::value_error("plans compute in float32");
    auto optional = [](const std::optional<ViewIn>& view) { return view ? view_of(*view) : View{}; };
    const View h = optional(h0), c = optional(c0), last_c = optional(c_n);
    plan.core.recurrent(*stack, view_of(x), h0 ? &h : nullptr, c0 ? &c : nullptr, view_of(y), view_of(h_n),
                        c_n ? &last_c : nullptr);
    plan.weights.push_back(layer);
}

}  // namespace

void bind_plan(nb::module_& m) {
    nb::class_<Plan>(m, "Plan",
                     "Steps over views, (space, offset, shape, strides, dtype), of an arena and a call's arrays.")
        .def(nb::init<const std::vector<Size>&>(), "sizes"_a)
        .def_prop_ro("lanes", [](const Plan& plan) { return plan.core.lanes(); }, "Floats in a vector.")
        .def("__len__", [](const Plan& plan) { return plan.core.size(); })
        .def("copy", [](Plan& plan, const ViewIn& x, const ViewIn& y) { plan.core.copy(view_of(x), view_of(y)); })
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
            plan.core.unary(lookup(unaries, operation), view_of(x), view_of(y));
        })
        .def("binary", [](Plan& plan, const std::string& operation, const ViewIn& a, const ViewIn& b, const ViewIn& y) {
            plan.core.binary(lookup(binaries, operation), view_of(a), view_of(b), view_of(y));
        })
        .def("compare", [](Plan& plan, const std::string& operation, const ViewIn& a, const ViewIn& b,
                           const ViewIn& y) {
            plan.core.compare(lookup(comparisons, operation), view_of(a), view_of(b), view_of(y));
        })
        .def("multiply_add", [](Plan& plan, const ViewIn& a, const ViewIn& b, const ViewIn& y) {
            plan.core.multiply_add(view_of(a), view_of(b), view_of(y));
        })
        .def("reduce", [](Plan& plan, const std::string& operation, const ViewIn& x, const ViewIn& y) {
            plan.core.reduce(lookup(reductions, operation), view_of(x), view_of(y));
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
        .def("recurrent", &recurrent, "stack"_a, "x"_a, "h0"_a.none(), "c0"_a.none(), "y"_a, "h_n"_a,
             "c_n"_a.none())
        .def("run", &run, "arrays"_a, "first"_a, "last"_a,
             "Run the steps [first, last) on the arena, the constants, the inputs and the outputs.");
}

}  // namespace python
