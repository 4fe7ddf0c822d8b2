#include "bind/layers.h"

#include "bind/module.h"

namespace python {

void bind_layers(nb::module_& m) {
    nb::class_<Stack>(m, "Stack", "The packed weights of a recurrent layer: all its layers and directions.")
        .def(nb::init<const std::string&, const std::vector<WeightsIn>&, Size, const std::vector<OptionsIn>&>(),
             "cell"_a, "weights"_a, "num_directions"_a, "options"_a)
        .def("forward", &Stack::forward, "x"_a.noconvert(), "h0"_a.noconvert().none(), "c0"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "y"_a.noconvert(), "h_n"_a.noconvert(), "c_n"_a.noconvert().none(),
             "Runs x (T, B, I) from h0, c0 (zeros where None); fills y (T, B, D*P), h_n and c_n.")
        .def_prop_ro("recorded", &Stack::recorded, "Numbers that a unit has in the record of a step.")
        .def("record", &Stack::record, "x"_a.noconvert(), "h0"_a.noconvert().none(), "c0"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "y"_a.noconvert(), "h_n"_a.noconvert(), "c_n"_a.noconvert().none(),
             "gates"_a.noconvert(), "sums"_a.noconvert().none(),
             "As forward; fills too, up to each row's length, gates (L*D, T, B, recorded, H), after which comes c of "
             "an LSTM, or R_n h + b_n of a GRU that resets after the product; and sums (L*D, T, B, G, H), which the "
             "gates are functions of.");

    nb::class_<Dense>(m, "Dense", "A packed matrix: y = W x + b for each row.")
        .def(nb::init<const In&, const OptionalIn&>(), "W"_a, "b"_a.none())
        .def("forward", &Dense::forward, "x"_a.noconvert(), "y"_a.noconvert(), "x (N, I) in, fills y (N, O).");
    m.def("add_gradients", [](const In& dy, const In& x, const Out& dW, const OptionalOut& db) {
        is_float32(x) ? add_gradients<float>(dy, x, dW, db) : add_gradients<double>(dy, x, dW, db);
    }, "dy"_a.noconvert(), "x"_a.noconvert(), "dW"_a.noconvert(), "db"_a.noconvert().none(),
       "Adds the gradients of y = W x + b, from dy (N, O) by y and x (N, I), to dW (O, I) and db (O).");
}

}  // namespace python
