// Binds the layers.
#include "bind/layers.h"

#include "bind/module.h"

namespace python {

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

    nb::class_<Dense>(m, "Dense", "A packed matrix: y = W x + b for each row.")
        .def(nb::init<const In&, const OptionalIn&>(), "W"_a, "b"_a.none())
        .def("forward", &Dense::forward, "x"_a.noconvert(), "y"_a.noconvert(), "Fill y (N, O) from x (N, I).");
    m.def("add_gradients", [](const In& dy, const In& x, const Out& dW, const OptionalOut& db) {
        is_float32(x) ? add_gradients<float>(dy, x, dW, db) : add_gradients<double>(dy, x, dW, db);
    }, "dy"_a.noconvert(), "x"_a.noconvert(), "dW"_a.noconvert(), "db"_a.noconvert().none(),
       "Add the gradients of y = W x + b to dW (O, I) and db (O), from dy (N, O) and x (N, I).");
}

}  // namespace python
