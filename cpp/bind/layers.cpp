// Binds the layers.
#include "bind/layers.h"

#include "bind/module.h"
#include "platform/denormals.h"
#include "platform/dispatch.h"

namespace python {

namespace {

// Calls function(kernels, n, from, to) for each row of x (rows, n) and y.
template <class Real, class Function>
void each_row(const In& x, const Out& y, Function function) {
    const Real* const from = data_of<const Real>(x, "x", {-1, -1});
    const Size rows = Size(x.shape(0)), n = Size(x.shape(1));
    Real* const to = data_of<Real>(y, "y", {rows, n});
    const WithoutGil release;
    const onward::FlushDenormals flush;
    for (Size row = 0; row < rows; row++) function(onward::kernels<Real>(), n, from + row * n, to + row * n);
}

template <class Function>
void each_row(const In& x, const Out& y, Function function) {
    is_float32(x) ? each_row<float>(x, y, function) : each_row<double>(x, y, function);
}

}  // namespace

void bind_layers(nb::module_& m) {
    nb::class_<Stack>(m, "Stack", "The packed weights of a recurrent layer: all its layers and directions.")
        .def(nb::init<const std::string&, const std::vector<WeightsIn>&, Size, const std::vector<OptionsIn>&>(),
             "cell"_a, "weights"_a, "num_directions"_a, "options"_a)
        .def("forward", &Stack::forward, "x"_a.noconvert(), "h0"_a.noconvert().none(), "c0"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "y"_a.noconvert(), "h_n"_a.noconvert(), "c_n"_a.noconvert().none(),
             "Run x (T, B, I) from h0 and c0 (None means zeros). Fill y (T, B, D*P), h_n and c_n.")
        .def_prop_ro("recorded", &Stack::recorded, "The number of recorded values per unit and step.")
        .def("record", &Stack::record, "x"_a.noconvert(), "h0"_a.noconvert().none(), "c0"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "y"_a.noconvert(), "h_n"_a.noconvert(), "c_n"_a.noconvert().none(),
             "gates"_a.noconvert(), "sums"_a.noconvert().none(),
             "Do the same as forward. Up to the length of each row, also fill gates (L*D, T, B, recorded, H), which "
             "ends with c (LSTM) or R_n h + b_n (GRU that resets after the product), and sums (L*D, T, B, G, H), the "
             "arguments of the gates' activations.");

    nb::class_<Dense>(m, "Dense",
                      "A packed matrix: y = W x + b for each row. W may be float16, or int8 with a scale for each row; "
                      "with int8, the rows x are quantized too. The rows x of filters W (O, C, taps) are (taps, C).")
        .def(nb::init<const In&, const OptionalIn&, const OptionalIn&>(), "W"_a, "b"_a.none(),
             "scale"_a.none() = nb::none())
        .def("forward", &Dense::forward, "x"_a.noconvert(), "y"_a.noconvert(), "Fill y (N, O) from x (N, I).");
    m.def("softmax", [](const In& x, bool logarithm, const Out& y) {
        each_row(x, y, [=](const auto& kernels, Size n, const auto* from, auto* to) {
            kernels.softmax(n, from, logarithm, to);
        });
    }, "x"_a.noconvert(), "logarithm"_a, "y"_a.noconvert(), "The softmax of each row of x (N, F), or its logarithm.");
    m.def("standardize", [](const In& x, double epsilon, const Out& y) {
        each_row(x, y, [=]<class Real>(const onward::Kernels<Real>& kernels, Size n, const Real* from, Real* to) {
            kernels.standardize(n, from, Real(epsilon), to);
        });
    }, "x"_a.noconvert(), "epsilon"_a, "y"_a.noconvert(),
       "(x - mean) / sqrt(variance + epsilon) of each row of x (N, F).");
    m.def("add_gradients", [](const In& dy, const In& x, const Out& dW, const OptionalOut& db) {
        is_float32(x) ? add_gradients<float>(dy, x, dW, db) : add_gradients<double>(dy, x, dW, db);
    }, "dy"_a.noconvert(), "x"_a.noconvert(), "dW"_a.noconvert(), "db"_a.noconvert().none(),
       "Add the gradients of y = W x + b to dW (O, I) and db (O), from dy (N, O) and x (N, I).");
}

}  // namespace python
