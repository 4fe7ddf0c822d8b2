// The Python class Backward: the gradients of one recurrent layer.
#include "run/backward.h"

#include "bind/module.h"
#include "bind/weights.h"

namespace python {

namespace {

template <class Real>
onward::Backward<Real> make_backward(const std::string& cell_name, const std::vector<WeightsIn>& arrays) {
    const Cell cell = onward::lookup(onward::cells, cell_name);
    const std::vector<onward::Weights<Real>> weights = weights_of<Real>(cell, arrays, Size(arrays.size()));
    for (const onward::Weights<Real>& w : weights)
        for (const onward::Matrix<Real>& matrix : {w.W, w.R, w.W_hr})
            if (matrix.format != Format::native)
                throw nb::value_error("compressed weights have no gradients");
    const WithoutGil release;
    return onward::Backward<Real>(cell, weights);
}

// dW, dR, db_W, db_R and dW_hr.
using GradientsOut = std::tuple<Out, Out, OptionalOut, OptionalOut, OptionalOut>;

struct Backward {
    EitherPrecision<onward::Backward> core;

    Backward(const std::string& cell, const std::vector<WeightsIn>& weights)
        : core(!weights.empty() && is_float32(std::get<0>(std::get<0>(weights[0])))
                   ? EitherPrecision<onward::Backward>(make_backward<float>(cell, weights))
                   : make_backward<double>(cell, weights)) {}
    Backward(const Backward&) = delete;

    void run(const In& dy, const In& x, const In& y, const OptionalIn& h0, const OptionalIn& c0, const OptionalIn& dh_n,
             const OptionalIn& dc_n, const OptionalIn& lengths, const In& gates, const Out& dx,
             const Out& dh0, const OptionalOut& dc0, const std::vector<GradientsOut>& gradients) const {
        std::visit([&]<class Real>(const onward::Backward<Real>& back) {
            const Size D = back.D, I = back.I, H = back.H, P = back.P, G = onward::gates(back.cell);
            const auto x_rows = rows_of<const Real>(x, "x", {-1, -1, I});
            const Size T = Size(x.shape(0)), B = Size(x.shape(1));
            if ((back.cell == Cell::lstm) != dc0.has_value()) throw nb::value_error("dc0 is for an LSTM only");
            if (Size(gradients.size()) != D) throw nb::value_error("gradients must have one entry per direction");
            std::vector<onward::WeightGradients<Real>> weight_gradients;
            for (const auto& [W, R, b_W, b_R, W_hr] : gradients) {
                if (W_hr.has_value() != (P != H)) throw nb::value_error("dW_hr must be given for a projection only");
                weight_gradients.push_back({data_of<Real>(W, "dW", {G * H, I}), data_of<Real>(R, "dR", {G * H, P}),
                                      data_of<Real>(b_W, "db_W", {G * H}), data_of<Real>(b_R, "db_R", {G * H}),
                                      data_of<Real>(W_hr, "dW_hr", {P, H})});
            }
            const onward::SequenceBackward<Real> sequence{
                T, B, rows_of<const Real>(dy, "dy", {T, B, D * P}), x_rows, rows_of<const Real>(y, "y", {T, B, D * P}),
                data_of<const Real>(h0, "h0", {D, B, P}), data_of<const Real>(c0, "c0", {D, B, H}),
                data_of<const Real>(dh_n, "dh_n", {D, B, P}), data_of<const Real>(dc_n, "dc_n", {D, B, H}),
                data_of<const int64_t>(lengths, "lengths", {B}),
                data_of<const Real>(gates, "gates", {D, T, B, onward::recorded(back.cell), H}),
                rows_of<Real>(dx, "dx", {T, B, I}),
                data_of<Real>(dh0, "dh0", {D, B, P}), data_of<Real>(dc0, "dc0", {D, B, H}), weight_gradients};
            for (Size b = 0; lengths && b < B; b++)
                if (sequence.lengths[b] < 0 || sequence.lengths[b] > T) throw nb::value_error("a length exceeds T");
            const WithoutGil release;
            back.run(sequence);
        }, core);
    }
};

}  // namespace

void bind_backward(nb::module_& m) {
    nb::class_<Backward>(m, "Backward", "The transposed weights of one recurrent layer, for its backward pass.")
        .def(nb::init<const std::string&, const std::vector<WeightsIn>&>(), "cell"_a, "weights"_a)
        .def("run", &Backward::run, "dy"_a.noconvert(), "x"_a.noconvert(), "y"_a.noconvert(), "h0"_a.noconvert().none(),
             "c0"_a.noconvert().none(), "dh_n"_a.noconvert().none(), "dc_n"_a.noconvert().none(),
             "lengths"_a.noconvert().none(), "gates"_a.noconvert(), "dx"_a.noconvert(),
             "dh0"_a.noconvert(), "dc0"_a.noconvert().none(), "gradients"_a,
             "From the gradients dy (T, B, D*P), dh_n and dc_n (None means zeros) and the gates that Stack.record "
             "recorded, fill dh0, dc0 and, up to the length of each row, dx. Add to the gradients of the weights of "
             "each direction: dW, dR, db_W, db_R and dW_hr (the last three may be None).");
}

}  // namespace python
